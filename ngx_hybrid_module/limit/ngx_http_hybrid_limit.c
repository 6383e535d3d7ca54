
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * The decision: may this request pass now, must it wait for Redis, or not.
 */


#include "ngx_http_hybrid_lease.h"
#include "ngx_hybrid_gcra.h"


static uint64_t ngx_http_hybrid_limit_now(void);


ngx_int_t
ngx_http_hybrid_limit_reserve(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx)
{
    ngx_int_t                 rc;
    ngx_msec_t                dry;
    ngx_http_hybrid_client_t  *client;
    ngx_http_hybrid_lease_t   *lease;

    client = ctx->client;

    if (client->interval == 0) {
        return NGX_OK;
    }

    if (ctx->conf->redis == NULL) {
        return ngx_http_hybrid_limit_local(ctx);
    }

    lease = &ctx->conf->leases[client->index];

    if (ngx_http_hybrid_lease_take(lease)) {
        return NGX_OK;
    }

    dry = ngx_http_hybrid_lease_dry(lease);

    if (dry) {
        return ngx_http_hybrid_limit_refuse(ctx, (uint64_t) dry * 1000);
    }

    rc = ngx_http_hybrid_lease_wait(lease, ctx);

    if (rc == NGX_DECLINED) {
        return ngx_http_hybrid_limit_lost(ctx);
    }

    ctx->waiting = 1;
    ctx->queued = ngx_current_msec;

    return NGX_AGAIN;
}


ngx_int_t
ngx_http_hybrid_limit_local(ngx_http_hybrid_ctx_t *ctx)
{
    uint64_t                   wait;
    ngx_http_hybrid_client_t  *client;

    client = ctx->client;

    wait = ngx_hybrid_gcra_take(&client->shared->tat,
                                ngx_http_hybrid_limit_now(),
                                client->interval, client->burst);
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
        ngx_http_hybrid_limit_charge(ctx->client);
        return NGX_OK;

    case ngx_http_hybrid_loss_closed:
        rc = ngx_http_hybrid_refuse(ctx, NGX_HTTP_SERVICE_UNAVAILABLE,
                                    "limits_unavailable",
                                    "limits can't be checked at the moment");
        ctx->retry_after = 1;
        return rc;

    default: /* ngx_http_hybrid_loss_local */
        return ngx_http_hybrid_limit_local(ctx);
    }
}


/*
 * What Redis admits is charged to the gateway's own bucket too: when Redis
 * goes away, that bucket doesn't start with a full burst.
 */

void
ngx_http_hybrid_limit_charge(ngx_http_hybrid_client_t *client)
{
    ngx_hybrid_gcra_charge(&client->shared->tat, ngx_http_hybrid_limit_now(),
                           client->interval, client->burst);
}


ngx_int_t
ngx_http_hybrid_limit_refuse(ngx_http_hybrid_ctx_t *ctx, uint64_t wait)
{
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


static uint64_t
ngx_http_hybrid_limit_now(void)
{
    return (uint64_t) ngx_current_msec * 1000;
}
