
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * At a request's end, what it has really used of what was reserved for it.
 */


#include "ngx_http_hybrid_lease.h"


static void ngx_http_hybrid_limit_prompt(ngx_http_hybrid_ctx_t *ctx);
static void ngx_http_hybrid_limit_used(ngx_http_hybrid_ctx_t *ctx,
    ngx_uint_t meter, uint64_t used);
static void ngx_http_hybrid_limit_average(ngx_http_hybrid_client_t *client,
    uint64_t output);


void
ngx_http_hybrid_limit_end(ngx_http_hybrid_ctx_t *ctx)
{
    uint64_t                   cost, held;
    ngx_http_hybrid_lease_t   *lease;
    ngx_http_hybrid_client_t  *client;

    if (ctx->settled) {
        return;
    }

    ctx->settled = 1;

    ngx_http_hybrid_usage_end(ctx);
    ngx_http_hybrid_limit_detach(ctx);

    client = ctx->client;

    if (client && client->shared && ctx->usage.output) {

        /* what the next one may be like, also to the backends' lines */

        ngx_http_hybrid_limit_average(client, ctx->usage.output);
    }

    if (client == NULL || client->lease == NULL) {
        return;
    }

    ngx_http_hybrid_limit_prompt(ctx);

    lease = client->lease;
    cost = ctx->usage.input + ctx->usage.output;

    if (client->limits[ngx_hybrid_meter_tokens].quota) {
        ngx_http_hybrid_limit_used(ctx, ngx_hybrid_meter_tokens, cost);
    }

    if (client->limits[ngx_hybrid_meter_budget].quota) {
        cost = ngx_http_hybrid_budget_cost(ctx);

        ngx_http_hybrid_limit_used(ctx, ngx_hybrid_meter_budget, cost);

        if (cost) {
            held = ctx->reserve.held[ngx_hybrid_meter_budget];
            ngx_http_hybrid_budget_warn(ctx, (int64_t) held - (int64_t) cost);
        }
    }

    if (ctx->reserve.slot) {
        ngx_http_hybrid_slots_give(ctx);
    }

    ngx_http_hybrid_delay_wake(lease);
}


/*
 * A client that left before the answer had begun: the prompt was read, and a
 * cloud wants money for it.
 */

static void
ngx_http_hybrid_limit_prompt(ngx_http_hybrid_ctx_t *ctx)
{
    ngx_http_request_t  *r;

    r = ctx->request;

    if (ctx->usage.input == 0 && ctx->usage.output == 0
        && ctx->tries && ctx->u && ctx->u->request_sent
        && !ctx->u->header_sent
        && (r->headers_out.status == NGX_HTTP_CLIENT_CLOSED_REQUEST
            || r->connection->error))
    {
        ctx->usage.input = ctx->reserve.input;
    }
}


/* the difference to what was reserved, charged or given back */

static void
ngx_http_hybrid_limit_used(ngx_http_hybrid_ctx_t *ctx, ngx_uint_t meter,
    uint64_t used)
{
    uint64_t                   held, n;
    ngx_uint_t                 leased;
    ngx_hybrid_meter_t        *m;
    ngx_http_hybrid_client_t  *client;

    client = ctx->client;
    m = &client->shared->meters[meter];
    held = ctx->reserve.held[meter];
    leased = ctx->reserve.leased & (1 << meter);

    if (used < held) {

        if (ctx->reserve.reset != client->shared->reset
            || (meter == ngx_hybrid_meter_budget
                && ctx->reserve.period != m->period))
        {
            /* an operator, or the period's end, has given it back */

            return;
        }

        n = held - used;

        ngx_hybrid_meter_refund(m, n);

        if (leased) {
            ngx_http_hybrid_lease_back(client->lease, meter, n);
        }

        return;
    }

    n = used - held;

    if (n == 0) {
        return;
    }

    ngx_hybrid_meter_charge(m, ngx_http_hybrid_limit_now(), n);

    if (ctx->conf->redis) {

        if (!ngx_hybrid_meter_lease_take(m, ngx_current_msec, n)) {
            ngx_hybrid_meter_owe(m, n);
        }

        ngx_http_hybrid_idle_watch(client->lease);
    }
}


/* an eighth of each, in shared memory: about right is enough */

static void
ngx_http_hybrid_limit_average(ngx_http_hybrid_client_t *client,
    uint64_t output)
{
    uint64_t  old;

    old = client->shared->output;

    client->shared->output = old ? (old * 7 + output + 7) / 8 : output;
}
