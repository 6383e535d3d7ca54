
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * A client's requests at a time.  With Redis a gateway has a number of slots
 * of the client's: an absolute number, which it renews while it needs it and
 * which is free again when it says nothing for a while.  A reply that is lost,
 * or overtaken by another worker's, changes nothing by that.
 */


#include "ngx_http_hybrid_lease.h"


/* msec; an answer of "no more" holds so long */
#define NGX_HTTP_HYBRID_SLOTS_DRY    200

/* the slots and the call that got them are one word */
#define NGX_HTTP_HYBRID_SLOTS_BITS   24
#define NGX_HTTP_HYBRID_SLOTS_MASK   ((1 << NGX_HTTP_HYBRID_SLOTS_BITS) - 1)


static void ngx_http_hybrid_slots_lower(ngx_hybrid_shm_client_t *shared,
    uint64_t call, ngx_uint_t want);


ngx_int_t
ngx_http_hybrid_slots_take(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_hit_t *hit)
{
    ngx_uint_t                most, granted;
    ngx_hybrid_shm_client_t  *shared;

    shared = ctx->client->shared;
    most = ctx->client->concurrency.quota;

    hit->slot = 1;
    hit->wait = 0;

    if (ctx->conf->redis == NULL) {
        return ngx_http_hybrid_slots_local(ctx, most);
    }

    granted = ngx_http_hybrid_slots_held(ctx->client->lease);

    if (ngx_http_hybrid_slots_local(ctx, ngx_min(most, granted)) == NGX_OK) {

        /* another worker may have given back what was not yet taken */

        granted = ngx_http_hybrid_slots_held(ctx->client->lease);

        if (ngx_hybrid_cells_busy(&shared->cells) <= granted) {
            return NGX_OK;
        }

        ngx_http_hybrid_slots_give(ctx);
    }

    if (granted >= most
        || (ngx_msec_int_t) (shared->slots_dry - ngx_current_msec) > 0)
    {
        return NGX_BUSY;
    }

    return NGX_AGAIN;
}


ngx_int_t
ngx_http_hybrid_slots_local(ngx_http_hybrid_ctx_t *ctx, ngx_uint_t most)
{
    ngx_uint_t                busy;
    ngx_hybrid_cells_t       *cells;
    ngx_hybrid_shm_client_t  *shared;

    shared = ctx->client->shared;
    cells = &shared->cells;

    if (!ngx_hybrid_cells_take(cells, most)) {

        /* of a worker that was killed? */

        if (shared->slots_reaped == ngx_current_msec / 1000) {
            return NGX_BUSY;
        }

        shared->slots_reaped = ngx_current_msec / 1000;
        ngx_hybrid_cells_reap(cells);

        if (!ngx_hybrid_cells_take(cells, most)) {
            return NGX_BUSY;
        }
    }

    ctx->reserve.slot = 1;

    /* whoever got them from Redis may be gone before they are given back */

    ngx_http_hybrid_idle_watch(ctx->client->lease);

    busy = ngx_hybrid_cells_busy(cells);

    if (busy > shared->slots_peak) {
        shared->slots_peak = busy;
    }

    return NGX_OK;
}


void
ngx_http_hybrid_slots_give(ngx_http_hybrid_ctx_t *ctx)
{
    if (!ctx->reserve.slot) {
        return;
    }

    ctx->reserve.slot = 0;
    ngx_hybrid_cells_give(&ctx->client->shared->cells);
}


ngx_uint_t
ngx_http_hybrid_slots_held(ngx_http_hybrid_lease_t *lease)
{
    return ngx_http_hybrid_slots_own(lease->client->shared);
}


ngx_uint_t
ngx_http_hybrid_slots_own(ngx_hybrid_shm_client_t *shared)
{
    if ((ngx_msec_int_t) (shared->slots_until - ngx_current_msec) <= 0) {
        return 0;
    }

    return shared->slots & NGX_HTTP_HYBRID_SLOTS_MASK;
}


void
ngx_http_hybrid_slots_ask(ngx_http_hybrid_lease_t *lease, ngx_uint_t more,
    ngx_uint_t less)
{
    ngx_uint_t                used, most, want;
    ngx_hybrid_shm_client_t  *shared;

    shared = lease->client->shared;
    most = lease->client->concurrency.quota;

    ngx_hybrid_cells_reap(&shared->cells);

    used = ngx_hybrid_cells_busy(&shared->cells);
    want = less ? shared->slots_peak : ngx_http_hybrid_slots_held(lease);
    want = ngx_max(want, used + more);
    want = ngx_min(want, most);

    /* counted over all workers: the later one knows more */

    lease->slots.call = ngx_atomic_fetch_add(&shared->slots_calls, 1) + 1;

    if (less) {

        /*
         * Before Redis gives them to others; and those count that were taken
         * meanwhile.
         */

        ngx_http_hybrid_slots_lower(shared, lease->slots.call, want);

        used = ngx_hybrid_cells_busy(&shared->cells);
        want = ngx_max(want, ngx_min(used, most));
    }

    lease->slots.used = used;
    lease->slots.want = want;
    lease->slots.less = less;
    lease->slots.asked = ngx_current_msec;

    shared->slots_asked = ngx_current_msec;
}


/* answers to earlier calls, of other workers, are void by that */

static void
ngx_http_hybrid_slots_lower(ngx_hybrid_shm_client_t *shared, uint64_t call,
    ngx_uint_t want)
{
    ngx_uint_t         n;
    ngx_atomic_uint_t  old, new;

    do {
        old = shared->slots;

        if (old >> NGX_HTTP_HYBRID_SLOTS_BITS > call) {
            return;
        }

        n = old & NGX_HTTP_HYBRID_SLOTS_MASK;
        new = (call << NGX_HTTP_HYBRID_SLOTS_BITS) | ngx_min(n, want);

    } while (!ngx_atomic_cmp_set(&shared->slots, old, new));
}


void
ngx_http_hybrid_slots_answer(ngx_http_hybrid_lease_t *lease)
{
    ngx_atomic_uint_t             old, new;
    ngx_hybrid_shm_client_t      *shared;
    ngx_http_hybrid_slots_ask_t  *slots;

    shared = lease->client->shared;
    slots = &lease->slots;

    new = (slots->granted_by << NGX_HTTP_HYBRID_SLOTS_BITS)
          | ngx_min(slots->granted, NGX_HTTP_HYBRID_SLOTS_MASK);

    do {
        old = shared->slots;

        if (old >> NGX_HTTP_HYBRID_SLOTS_BITS
            > new >> NGX_HTTP_HYBRID_SLOTS_BITS)
        {
            return;
        }

    } while (!ngx_atomic_cmp_set(&shared->slots, old, new));

    if (slots->granted_by != slots->call) {

        /* this one has changed nothing */

        return;
    }

    /* from when it was asked: Redis counts from later */

    shared->slots_until = slots->asked + NGX_HTTP_HYBRID_SLOTS_TTL;

    if (slots->granted < slots->want) {
        shared->slots_dry = ngx_current_msec + NGX_HTTP_HYBRID_SLOTS_DRY;
    }

    shared->slots_left = slots->left;
}


ngx_uint_t
ngx_http_hybrid_slots_due(ngx_http_hybrid_lease_t *lease)
{
    ngx_uint_t                held, busy, peak;
    ngx_hybrid_shm_client_t  *shared;

    shared = lease->client->shared;

    busy = ngx_hybrid_cells_busy(&shared->cells);
    peak = ngx_max(busy, shared->slots_peak);

    /* what it has been in use of late, which is about a tick of all workers */

    shared->slots_peak = busy;

    held = ngx_http_hybrid_slots_held(lease);

    if (held == 0 && busy == 0) {
        return 0;
    }

    return held > peak
           || ngx_current_msec - shared->slots_asked
              >= NGX_HTTP_HYBRID_SLOTS_TTL / 3;
}
