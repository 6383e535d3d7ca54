
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * The decision: may this request pass now, must it wait for Redis, or not.
 */


#include "ngx_http_hybrid_lease.h"
#include "ngx_hybrid_gcra.h"


static void ngx_http_hybrid_limit_charge(ngx_http_hybrid_ctx_t *ctx);
static uint64_t ngx_http_hybrid_limit_now(void);


/* a raised limit holds at once: debts of the old one are cut to its burst */

void
ngx_http_hybrid_limit_adopt(ngx_http_hybrid_client_t *client)
{
    ngx_hybrid_shm_client_t  *shared;

    shared = client->shared;

    if (shared->interval == client->interval && shared->burst == client->burst)
    {
        return;
    }

    shared->interval = client->interval;
    shared->burst = client->burst;
    shared->dry = ngx_current_msec;

    ngx_hybrid_gcra_limit(&shared->tat, ngx_http_hybrid_limit_now(),
                          client->interval, client->burst);
}


ngx_int_t
ngx_http_hybrid_limit_reserve(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx)
{
    uint64_t                   wait;
    ngx_msec_t                 dry;
    ngx_http_hybrid_client_t  *client;
    ngx_http_hybrid_lease_t   *lease;

    client = ctx->client;

    if (client->interval == 0) {
        return NGX_OK;
    }

    if (ctx->conf->redis == NULL) {
        return ngx_http_hybrid_limit_local(ctx);
    }

    lease = client->lease;

    if (!ngx_hybrid_redis_available_key(ctx->conf->redis, &lease->key)) {
        return ngx_http_hybrid_limit_lost(ctx);
    }

    if (ngx_http_hybrid_lease_take(lease, &wait)) {
        return NGX_OK;
    }

    if (wait) {

        /* a Redis that has yet to answer might as well be away */

        return ngx_http_hybrid_lease_holds(lease)
               ? ngx_http_hybrid_limit_refuse(ctx, wait)
               : ngx_http_hybrid_limit_lost(ctx);
    }

    dry = ngx_http_hybrid_lease_dry(lease);

    if (dry) {
        return ngx_http_hybrid_limit_refuse(ctx, (uint64_t) dry * 1000);
    }

    if (ngx_http_hybrid_lease_wait(lease, ctx) == NGX_DECLINED) {
        return ngx_http_hybrid_limit_lost(ctx);
    }

    ctx->waiting = 1;

    return NGX_AGAIN;
}


/*
 * The gateway's own bucket.  With Redis a request passes both: credits that
 * were fetched ahead don't come on top of a burst, and when Redis goes away
 * this bucket is as full as its own.
 */

uint64_t
ngx_http_hybrid_limit_take(ngx_http_hybrid_client_t *client)
{
    ngx_hybrid_shm_client_t  *shared;

    shared = client->shared;

    /* not the client's own: another worker may know a newer limit already */

    if (shared->interval == 0) {
        return 0;
    }

    return ngx_hybrid_gcra_take(&shared->tat, ngx_http_hybrid_limit_now(),
                                shared->interval, shared->burst);
}


ngx_int_t
ngx_http_hybrid_limit_local(ngx_http_hybrid_ctx_t *ctx)
{
    uint64_t  wait;

    wait = ngx_http_hybrid_limit_take(ctx->client);

    if (wait) {
        return ngx_http_hybrid_limit_refuse(ctx, wait);
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_hybrid_limit_lost(ngx_http_hybrid_ctx_t *ctx)
{
    ngx_int_t  rc;

    ctx->degraded = 1;
    ctx->loss = ctx->client->loss;

    (void) ngx_atomic_fetch_add(&ctx->client->shared->local, 1);

    switch (ctx->loss) {

    case ngx_http_hybrid_loss_open:
        ngx_http_hybrid_limit_charge(ctx);
        return NGX_OK;

    case ngx_http_hybrid_loss_closed:
        if (ngx_http_hybrid_shadow(ctx, ngx_hybrid_shadow_limits_unavailable))
        {
            ngx_http_hybrid_limit_charge(ctx);
            return NGX_OK;
        }

        rc = ngx_http_hybrid_refuse(ctx, NGX_HTTP_SERVICE_UNAVAILABLE,
                                    "limits_unavailable",
                                    "limits can't be checked at the moment");
        ctx->retry_after = 1;
        return rc;

    default: /* ngx_http_hybrid_loss_local */
        return ngx_http_hybrid_limit_local(ctx);
    }
}


ngx_int_t
ngx_http_hybrid_limit_refuse(ngx_http_hybrid_ctx_t *ctx, uint64_t wait)
{
    /* let through it takes a credit like all others */

    if (ngx_http_hybrid_shadow(ctx, ngx_hybrid_shadow_rate_limited)) {
        ngx_http_hybrid_limit_charge(ctx);
        return NGX_OK;
    }

    ctx->retry_after = (ngx_uint_t) ((wait + 999999) / 1000000);

    return ngx_http_hybrid_refuse(ctx, NGX_HTTP_TOO_MANY_REQUESTS,
                                  "rate_limited",
                                  "too many requests, try again later");
}


void
ngx_http_hybrid_limit_settle(ngx_http_hybrid_ctx_t *ctx, ngx_int_t rc)
{
    ctx->waiting = 0;
    ctx->lease = NULL;
    ctx->queue_time = ngx_current_msec - ctx->queued;

    if (rc != NGX_OK) {
        ctx->verdict = rc;
    }

    /* while the body is being read, the reader goes on by itself */

    if (!ctx->reading) {
        ngx_http_hybrid_resume(ctx->request);
    }
}


void
ngx_http_hybrid_limit_detach(ngx_http_hybrid_ctx_t *ctx)
{
    if (ctx->lease) {
        ngx_queue_remove(&ctx->waiter);
        ctx->lease->nwaiters--;
        ctx->lease = NULL;
    }

    ctx->waiting = 0;
}


static void
ngx_http_hybrid_limit_charge(ngx_http_hybrid_ctx_t *ctx)
{
    ngx_hybrid_gcra_charge(&ctx->client->shared->tat,
                           ngx_http_hybrid_limit_now(),
                           ctx->client->interval, ctx->client->burst);
}


static uint64_t
ngx_http_hybrid_limit_now(void)
{
    return (uint64_t) ngx_current_msec * 1000;
}
