
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * The decision: may this request pass now, must it wait for Redis or for its
 * limit, or not.
 */


#include "ngx_http_hybrid_lease.h"
#include "ngx_http_hybrid_limits.h"
#include "ngx_http_hybrid_choice.h"


/* seconds, when it is not known how long a request at a time takes */
#define NGX_HTTP_HYBRID_LIMIT_RETRY   1


typedef struct {
    ngx_str_t                  reason;
    ngx_str_t                  message;
    ngx_hybrid_shadow_e        shadow;
} ngx_http_hybrid_limit_reason_t;


static ngx_int_t ngx_http_hybrid_limit_start(ngx_http_hybrid_ctx_t *ctx);
static ngx_int_t ngx_http_hybrid_limit_take(ngx_http_hybrid_ctx_t *ctx,
    ngx_uint_t meter, ngx_http_hybrid_hit_t *hit);
static void ngx_http_hybrid_limit_back(ngx_http_hybrid_ctx_t *ctx,
    ngx_uint_t taken, ngx_uint_t leased);
static void ngx_http_hybrid_limit_done(ngx_http_hybrid_ctx_t *ctx,
    ngx_uint_t leased);
static ngx_http_hybrid_loss_e ngx_http_hybrid_limit_loss(
    ngx_http_hybrid_ctx_t *ctx);
static ngx_uint_t ngx_http_hybrid_limit_own(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_hit_t *hit);
static void ngx_http_hybrid_limit_force(ngx_http_hybrid_ctx_t *ctx);


static ngx_http_hybrid_limit_reason_t  ngx_http_hybrid_limit_reasons[] = {
    { ngx_string("rate_limited"),
      ngx_string("too many requests, try again later"),
      ngx_hybrid_shadow_rate_limited },

    { ngx_string("tokens_limited"),
      ngx_string("too many tokens, try again later"),
      ngx_hybrid_shadow_tokens_limited },

    { ngx_string("budget_exceeded"),
      ngx_string("the budget is spent"),
      ngx_hybrid_shadow_budget_exceeded },

    { ngx_string("concurrency_limited"),
      ngx_string("too many requests at a time, try again later"),
      ngx_hybrid_shadow_concurrency_limited }
};

#define ngx_http_hybrid_limit_reason(hit)                                     \
    (&ngx_http_hybrid_limit_reasons[(hit)->slot ? ngx_hybrid_meters           \
                                                : (hit)->meter])


ngx_uint_t
ngx_http_hybrid_limited(ngx_http_hybrid_client_t *client)
{
    ngx_uint_t  i;

    for (i = 0; i < ngx_hybrid_meters; i++) {
        if (client->limits[i].quota) {
            return 1;
        }
    }

    return client->concurrency.quota != 0;
}


/* a raised limit holds at once: debts of the old one are cut to its burst */

void
ngx_http_hybrid_limit_adopt(ngx_http_hybrid_client_t *client)
{
    ngx_uint_t                i;
    ngx_hybrid_shm_client_t  *shared;
    ngx_http_hybrid_limit_t  *limit;

    shared = client->shared;
    shared->quotas[ngx_hybrid_meters] = client->concurrency.quota;

    for (i = 0; i < ngx_hybrid_meters; i++) {
        limit = &client->limits[i];

        shared->quotas[i] = limit->quota;
        shared->bursts[i] = limit->burst;
        shared->windows[i] = limit->window;

        ngx_hybrid_meter_limit(&shared->meters[i],
                               ngx_http_hybrid_limit_now(), limit->interval,
                               limit->interval ? limit->burst : limit->quota);
    }

    ngx_http_hybrid_budget_adopt(client);
}


ngx_int_t
ngx_http_hybrid_limit_reserve(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx)
{
    ngx_http_hybrid_client_t  *client;

    client = ctx->client;

    if (client->lease == NULL) {
        return NGX_OK;
    }

    ctx->metered = 1;

    ctx->reserve.need[ngx_hybrid_meter_rate] =
                              client->limits[ngx_hybrid_meter_rate].quota != 0;
    ctx->reserve.slot_need = client->concurrency.quota != 0;

    return ngx_http_hybrid_limit_start(ctx);
}


ngx_int_t
ngx_http_hybrid_limit_tokens(ngx_http_request_t *r, ngx_http_hybrid_ctx_t *ctx)
{
    uint64_t                      input, output, need;
    ngx_http_hybrid_limit_t      *limits;
    ngx_http_hybrid_client_t     *client;

    client = ctx->client;
    limits = client->limits;

    if (client->lease == NULL
        || ctx->endpoint->verb != NGX_HTTP_HYBRID_VERB_INFERENCE
        || ctx->ncandidates == 0
        || (limits[ngx_hybrid_meter_tokens].quota == 0
            && limits[ngx_hybrid_meter_budget].quota == 0))
    {
        return NGX_OK;
    }

    ngx_http_hybrid_usage_expect(ctx, &input, &output);

    ctx->reserve.input = input;
    ctx->reserve.output = output;

    /* a request that is larger than a burst needs the whole of one */

    if (limits[ngx_hybrid_meter_tokens].quota) {
        need = ngx_min(input + output, limits[ngx_hybrid_meter_tokens].burst);
        ctx->reserve.need[ngx_hybrid_meter_tokens] = ngx_max(need, 1);
    }

    if (limits[ngx_hybrid_meter_budget].quota) {
        ngx_http_hybrid_budget_need(ctx);
    }

    return ngx_http_hybrid_limit_start(ctx);
}


static ngx_int_t
ngx_http_hybrid_limit_start(ngx_http_hybrid_ctx_t *ctx)
{
    ngx_int_t                 rc;
    ngx_http_hybrid_hit_t     hit;
    ngx_http_hybrid_lease_t  *lease;

    lease = ctx->client->lease;

    /* what there is is theirs, also when the queue is full */

    if (ngx_http_hybrid_delay_others(ctx, &hit)) {
        return ngx_http_hybrid_limit_busy(ctx, &hit);
    }

    if (ctx->conf->redis
        && !ngx_hybrid_redis_available_key(ctx->conf->redis, &lease->key))
    {
        return ngx_http_hybrid_limit_lost(ctx);
    }

    rc = ngx_http_hybrid_limit_try(ctx, &hit);

    if (rc == NGX_AGAIN) {
        rc = ngx_http_hybrid_lease_wait(lease, ctx);

        return rc == NGX_DECLINED ? ngx_http_hybrid_limit_lost(ctx) : rc;
    }

    if (rc != NGX_BUSY) {
        return rc;
    }

    /* a Redis that has yet to answer might as well be away */

    if (ctx->conf->redis && !ngx_http_hybrid_lease_holds(lease)) {
        return ngx_http_hybrid_limit_lost(ctx);
    }

    return ngx_http_hybrid_limit_busy(ctx, &hit);
}


ngx_int_t
ngx_http_hybrid_limit_try(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_hit_t *hit)
{
    ngx_int_t                   rc;
    ngx_uint_t                  i, taken, leased;
    ngx_http_hybrid_reserve_t  *reserve;

    reserve = &ctx->reserve;
    taken = 0;
    leased = 0;

    if (reserve->slot_need) {
        rc = ngx_http_hybrid_slots_take(ctx, hit);

        if (rc != NGX_OK) {
            return rc;
        }
    }

    for (i = 0; i < ngx_hybrid_meters; i++) {

        if (reserve->need[i] == 0) {
            continue;
        }

        rc = ngx_http_hybrid_limit_take(ctx, i, hit);

        if (rc == NGX_DONE) {
            reserve->need[i] = 0;
            continue;
        }

        if (rc != NGX_OK) {
            ngx_http_hybrid_limit_back(ctx, taken, leased);
            return rc;
        }

        taken |= 1 << i;
        leased |= (ctx->conf->redis != NULL) << i;
    }

    ngx_http_hybrid_limit_done(ctx, leased);

    return NGX_OK;
}


/*
 * With Redis a request passes the gateway's own account, too: credits that
 * were fetched ahead don't come on top of a burst, and when Redis goes away
 * the account is as full as Redis's.
 */

static ngx_int_t
ngx_http_hybrid_limit_take(ngx_http_hybrid_ctx_t *ctx, ngx_uint_t meter,
    ngx_http_hybrid_hit_t *hit)
{
    uint64_t                   now, need;
    ngx_hybrid_meter_t        *m;
    ngx_http_hybrid_client_t  *client;

    client = ctx->client;
    m = &client->shared->meters[meter];
    need = ctx->reserve.need[meter];

    hit->slot = 0;
    hit->meter = meter;
    hit->wait = 0;

    if (m->span == 0) {

        /* another worker knows already that there is no such limit */

        return NGX_DONE;
    }

    now = ngx_http_hybrid_limit_now();

    if (ctx->conf->redis && m->interval == 0) {
        ngx_hybrid_meter_charge(m, now, need);

    } else {

        if (m->interval == 0) {
            ngx_http_hybrid_budget_now(client);
        }

        hit->wait = ngx_hybrid_meter_take(m, now, need);

        if (hit->wait) {
            return NGX_BUSY;
        }
    }

    if (ctx->conf->redis == NULL
        || ngx_hybrid_meter_lease_take(m, ngx_current_msec, need))
    {
        return NGX_OK;
    }

    ngx_hybrid_meter_refund(m, need);

    hit->wait = ngx_http_hybrid_lease_dry(client->lease, meter, need)
                * 1000ULL;

    /* there was not enough for a larger one, maybe */

    if (hit->wait == 0
        || need <= m->left + ngx_hybrid_meter_lease_left(m, ngx_current_msec))
    {
        return NGX_AGAIN;
    }

    return NGX_BUSY;
}


/* not all of it was there */

static void
ngx_http_hybrid_limit_back(ngx_http_hybrid_ctx_t *ctx, ngx_uint_t taken,
    ngx_uint_t leased)
{
    ngx_uint_t           i;
    ngx_hybrid_meter_t  *meter;

    for (i = 0; i < ngx_hybrid_meters; i++) {
        meter = &ctx->client->shared->meters[i];

        if (taken & (1 << i)) {
            ngx_hybrid_meter_refund(meter, ctx->reserve.need[i]);
        }

        if (leased & (1 << i)) {
            ngx_hybrid_meter_lease_add(meter, ngx_current_msec,
                                       ctx->reserve.need[i]);
        }
    }

    if (ctx->reserve.slot_need) {
        ngx_http_hybrid_slots_give(ctx);
    }
}


static void
ngx_http_hybrid_limit_done(ngx_http_hybrid_ctx_t *ctx, ngx_uint_t leased)
{
    uint64_t                    need[ngx_hybrid_meters];
    ngx_uint_t                  i;
    ngx_http_hybrid_reserve_t  *reserve;

    reserve = &ctx->reserve;

    for (i = 0; i < ngx_hybrid_meters; i++) {
        need[i] = reserve->need[i];

        reserve->need[i] = 0;
        reserve->held[i] += need[i];
    }

    reserve->slot_need = 0;
    reserve->leased |= leased;

    /* what is held is of these, and is given back to no other */

    reserve->reset = ctx->client->shared->reset;
    reserve->period =
                  ctx->client->shared->meters[ngx_hybrid_meter_budget].period;

    /* last: Redis may be asked here, for those that need something yet */

    for (i = 0; i < ngx_hybrid_meters; i++) {
        if (leased & (1 << i)) {
            ngx_http_hybrid_lease_used(ctx->client->lease, i, need[i]);
        }
    }
}


ngx_int_t
ngx_http_hybrid_limit_lost(ngx_http_hybrid_ctx_t *ctx)
{
    ngx_int_t              rc;
    ngx_http_hybrid_hit_t  hit;

    if (!ctx->degraded) {
        ctx->degraded = 1;
        (void) ngx_atomic_fetch_add(&ctx->client->shared->local, 1);
    }

    ctx->loss = ngx_http_hybrid_limit_loss(ctx);

    if (ctx->loss == ngx_http_hybrid_loss_closed) {

        if (ngx_http_hybrid_shadow(ctx, ngx_hybrid_shadow_limits_unavailable))
        {
            ngx_http_hybrid_limit_force(ctx);
            return NGX_OK;
        }

        rc = ngx_http_hybrid_refuse(ctx, NGX_HTTP_SERVICE_UNAVAILABLE,
                                    "limits_unavailable",
                                    "limits can't be checked at the moment");
        ctx->retry_after = 1;
        return rc;
    }

    if (ngx_http_hybrid_limit_own(ctx, &hit)) {
        return NGX_OK;
    }

    return ngx_http_hybrid_limit_busy(ctx, &hit);
}


/* the strictest of those that are asked for; "local" is between the others */

static ngx_http_hybrid_loss_e
ngx_http_hybrid_limit_loss(ngx_http_hybrid_ctx_t *ctx)
{
    ngx_uint_t               i, local, asked;
    ngx_http_hybrid_loss_e   loss;

    local = 0;
    asked = 0;

    for (i = 0; i <= ngx_hybrid_meters; i++) {

        if (i == ngx_hybrid_meters) {

            if (!ctx->reserve.slot_need) {
                break;
            }

            loss = ctx->client->concurrency.loss;

        } else {

            if (ctx->reserve.need[i] == 0) {
                continue;
            }

            loss = ctx->client->limits[i].loss;
        }

        if (loss == ngx_http_hybrid_loss_closed) {
            return loss;
        }

        asked = 1;
        local |= (loss == ngx_http_hybrid_loss_local);
    }

    /* nothing is open when nothing was asked for */

    return (local || !asked) ? ngx_http_hybrid_loss_local
                             : ngx_http_hybrid_loss_open;
}


/* by the own accounts; 1: taken */

static ngx_uint_t
ngx_http_hybrid_limit_own(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_hit_t *hit)
{
    uint64_t                   now;
    ngx_uint_t                 i, taken;
    ngx_hybrid_meter_t        *meter;
    ngx_http_hybrid_client_t  *client;

    client = ctx->client;
    now = ngx_http_hybrid_limit_now();
    taken = 0;

    if (ctx->reserve.slot_need
        && ngx_http_hybrid_slots_local(ctx,
                         client->concurrency.loss == ngx_http_hybrid_loss_open
                         ? NGX_MAX_INT_T_VALUE : client->concurrency.quota)
           != NGX_OK)
    {
        hit->slot = 1;
        hit->wait = 0;
        return 0;
    }

    for (i = 0; i < ngx_hybrid_meters; i++) {

        if (ctx->reserve.need[i] == 0) {
            continue;
        }

        meter = &client->shared->meters[i];

        if (i == ngx_hybrid_meter_budget) {
            ngx_http_hybrid_budget_now(client);
        }

        if (client->limits[i].loss == ngx_http_hybrid_loss_open) {
            ngx_hybrid_meter_charge(meter, now, ctx->reserve.need[i]);

        } else {
            hit->wait = ngx_hybrid_meter_take(meter, now,
                                              ctx->reserve.need[i]);

            if (hit->wait) {
                hit->slot = 0;
                hit->meter = i;
                ngx_http_hybrid_limit_back(ctx, taken, 0);
                return 0;
            }
        }

        taken |= 1 << i;
    }

    ngx_http_hybrid_budget_owe(ctx,
                               ctx->reserve.need[ngx_hybrid_meter_budget]);
    ngx_http_hybrid_limit_done(ctx, 0);

    return 1;
}


ngx_int_t
ngx_http_hybrid_limit_busy(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_hit_t *hit)
{
    if (ctx->conf->redis && !hit->slot) {
        ngx_http_hybrid_reset_check(ctx->client->lease);
    }

    if (!hit->slot && hit->meter == ngx_hybrid_meter_budget) {

        if (!ngx_http_hybrid_shadow(ctx, ngx_hybrid_shadow_budget_exceeded)) {
            return ngx_http_hybrid_budget_spent(ctx);
        }

        ngx_http_hybrid_limit_force(ctx);
        return NGX_OK;
    }

    /* let through it takes its credits like all others */

    if (ngx_http_hybrid_shadow(ctx,
                               ngx_http_hybrid_limit_reason(hit)->shadow))
    {
        ngx_http_hybrid_limit_force(ctx);
        return NGX_OK;
    }

    if (ngx_http_hybrid_delay(ctx, hit) == NGX_AGAIN) {
        return NGX_AGAIN;
    }

    return ngx_http_hybrid_limit_refuse(ctx, hit);
}


ngx_int_t
ngx_http_hybrid_limit_refuse(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_hit_t *hit)
{
    ngx_int_t                        rc;
    ngx_http_hybrid_limit_reason_t  *reason;

    reason = ngx_http_hybrid_limit_reason(hit);

    rc = ngx_http_hybrid_refuse(ctx, NGX_HTTP_TOO_MANY_REQUESTS,
                                (char *) reason->reason.data,
                                (char *) reason->message.data);

    ctx->limit_hit = 1;
    ctx->hit_slot = hit->slot;
    ctx->hit_meter = hit->meter;

    ctx->retry_after = hit->slot ? NGX_HTTP_HYBRID_LIMIT_RETRY
                           : (ngx_uint_t) ((hit->wait + 999999) / 1000000);

    return rc;
}


static void
ngx_http_hybrid_limit_force(ngx_http_hybrid_ctx_t *ctx)
{
    ngx_uint_t           i;
    ngx_hybrid_meter_t  *meter;

    if (ctx->reserve.slot_need) {
        (void) ngx_http_hybrid_slots_local(ctx, NGX_MAX_INT_T_VALUE);
    }

    for (i = 0; i < ngx_hybrid_meters; i++) {
        if (ctx->reserve.need[i]) {
            meter = &ctx->client->shared->meters[i];
            ngx_hybrid_meter_charge(meter, ngx_http_hybrid_limit_now(),
                                    ctx->reserve.need[i]);
        }
    }

    ngx_http_hybrid_budget_owe(ctx,
                               ctx->reserve.need[ngx_hybrid_meter_budget]);
    ngx_http_hybrid_limit_done(ctx, 0);
}


void
ngx_http_hybrid_limit_settle(ngx_http_hybrid_ctx_t *ctx, ngx_int_t rc)
{
    ngx_http_hybrid_lease_t  *lease;

    if (rc == NGX_AGAIN) {
        return;
    }

    lease = ctx->client->lease;

    ctx->waiting = 0;
    ngx_http_hybrid_delay_done(ctx);

    if (rc != NGX_OK) {
        ctx->verdict = rc;
    }

    /* while the body is being read, the reader goes on by itself */

    if (!ctx->reading) {
        ngx_http_hybrid_resume(ctx->request);
    }

    /* those behind it */

    ngx_http_hybrid_delay_wake(lease);
}


void
ngx_http_hybrid_limit_leave(ngx_http_hybrid_ctx_t *ctx)
{
    if (ctx->lease == NULL) {
        return;
    }

    ngx_queue_remove(&ctx->waiter);

    if (ctx->delayed) {
        ctx->delayed = 0;
        ctx->lease->delays[ctx->reserved].n--;

    } else {
        ctx->lease->nwaiters--;
    }

    ctx->lease = NULL;
    ctx->queue_time += ngx_current_msec - ctx->queued;
}


void
ngx_http_hybrid_limit_detach(ngx_http_hybrid_ctx_t *ctx)
{
    ngx_http_hybrid_lease_t  *lease;

    lease = ctx->lease;

    ctx->waiting = 0;
    ngx_http_hybrid_limit_leave(ctx);
    ngx_http_hybrid_delay_done(ctx);

    if (lease) {
        ngx_http_hybrid_delay_wake(lease);
    }
}


uint64_t
ngx_http_hybrid_limit_now(void)
{
    return (uint64_t) ngx_current_msec * 1000;
}
