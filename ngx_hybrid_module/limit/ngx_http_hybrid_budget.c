
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Money: what clouds with a "price" cost a client in a day or a month of
 * UTC.  A request whose first candidate is one of them reserves what it may
 * cost before it is sent; one that comes there as a fallback takes it from
 * what this gateway has or knows to be left.  When nothing is left, backends
 * without a price still serve.
 */


#include "ngx_http_hybrid_lease.h"
#include "ngx_http_hybrid_choice.h"


/* msec; what Redis has said to be left is good for a fallback so long */
#define NGX_HTTP_HYBRID_BUDGET_FRESH  10000

/* percent of a budget */
#define NGX_HTTP_HYBRID_BUDGET_WARN   80


static ngx_uint_t ngx_http_hybrid_budget_take(ngx_http_hybrid_ctx_t *ctx,
    uint64_t cost);
static ngx_uint_t ngx_http_hybrid_budget_fresh(ngx_hybrid_meter_t *meter);


/* what is to be reserved, for the candidate that is asked first */

void
ngx_http_hybrid_budget_need(ngx_http_hybrid_ctx_t *ctx)
{
    uint64_t                      cost;
    ngx_uint_t                    i;
    ngx_hybrid_meter_t           *meter;
    ngx_http_hybrid_lease_t      *lease;
    ngx_http_hybrid_limit_t      *limit;
    ngx_http_hybrid_candidate_t  *cand;

    lease = ctx->client->lease;
    limit = &ctx->client->limits[ngx_hybrid_meter_budget];
    meter = &ctx->client->shared->meters[ngx_hybrid_meter_budget];

    cand = ctx->candidates;

    if (cand[0].backend->priced) {
        cost = ngx_http_hybrid_usage_cost(cand[0].backend, ctx->reserve.input,
                                          ctx->reserve.output);

        ctx->reserve.need[ngx_hybrid_meter_budget]
                                         = ngx_max(ngx_min(cost, limit->quota),
                                                   1);
        return;
    }

    for (i = 1; i < ctx->ncandidates; i++) {

        if (!cand[i].backend->priced) {
            continue;
        }

        /* known by the time that it may be needed */

        if (ctx->conf->redis && !lease->pending
            && !ngx_http_hybrid_budget_fresh(meter))
        {
            (void) ngx_http_hybrid_lease_refill(lease, 1);
        }

        return;
    }
}


ngx_int_t
ngx_http_hybrid_budget_spent(ngx_http_hybrid_ctx_t *ctx)
{
    ngx_int_t                     rc;
    ngx_uint_t                    i, n;
    ngx_http_hybrid_hit_t         hit;
    ngx_http_hybrid_candidate_t  *cand;

    static ngx_str_t  budget = ngx_string("budget");

    ctx->reserve.need[ngx_hybrid_meter_budget] = 0;

    cand = ctx->candidates;

    for (i = 0, n = 0; i < ctx->ncandidates; i++) {

        if (cand[i].backend->priced) {
            ngx_http_hybrid_attempt_passed(ctx, &cand[i], &budget);
            continue;
        }

        cand[n++] = cand[i];
    }

    ctx->ncandidates = n;

    if (n == 0) {
        ctx->candidates = NULL;
        ctx->fallback.len = 0;

        hit.slot = 0;
        hit.meter = ngx_hybrid_meter_budget;
        hit.wait = ngx_http_hybrid_budget_wait(ctx->client);

        return ngx_http_hybrid_limit_refuse(ctx, &hit);
    }

    ctx->passed_over = 1;

    rc = ngx_http_hybrid_limit_try(ctx, &hit);

    if (rc == NGX_BUSY) {
        return ngx_http_hybrid_limit_busy(ctx, &hit);
    }

    if (rc == NGX_AGAIN) {
        rc = ngx_http_hybrid_lease_wait(ctx->client->lease, ctx);

        return rc == NGX_DECLINED ? ngx_http_hybrid_limit_lost(ctx) : rc;
    }

    return rc;
}


/* asked before each try */

ngx_uint_t
ngx_http_hybrid_limit_budget(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_candidate_t *cand)
{
    uint64_t                  cost, *held;
    ngx_http_hybrid_limit_t  *limit;

    if (ctx->client == NULL || ctx->client->lease == NULL) {
        return 1;
    }

    limit = &ctx->client->limits[ngx_hybrid_meter_budget];

    if (limit->quota == 0 || !cand->backend->priced) {
        return 1;
    }

    cost = ngx_http_hybrid_usage_cost(cand->backend, ctx->reserve.input,
                                      ctx->reserve.output);
    cost = ngx_max(ngx_min(cost, limit->quota), 1);

    held = &ctx->reserve.held[ngx_hybrid_meter_budget];

    if (*held >= cost) {
        return 1;
    }

    if (!ngx_http_hybrid_budget_take(ctx, cost - *held)) {

        if (!ngx_http_hybrid_shadow(ctx, ngx_hybrid_shadow_budget_exceeded)) {
            return 0;
        }

        ngx_http_hybrid_budget_charge(ctx, cost - *held);
    }

    *held = cost;
    ctx->reserve.period =
                  ctx->client->shared->meters[ngx_hybrid_meter_budget].period;

    return 1;
}


/* a try can't wait for Redis */

static ngx_uint_t
ngx_http_hybrid_budget_take(ngx_http_hybrid_ctx_t *ctx, uint64_t cost)
{
    ngx_atomic_uint_t         left;
    ngx_hybrid_meter_t       *meter;
    ngx_http_hybrid_limit_t  *limit;
    ngx_http_hybrid_lease_t  *lease;

    lease = ctx->client->lease;
    limit = &ctx->client->limits[ngx_hybrid_meter_budget];
    meter = &ctx->client->shared->meters[ngx_hybrid_meter_budget];

    if (ctx->conf->redis
        && ngx_hybrid_redis_available_key(ctx->conf->redis, &lease->key)
        && ngx_http_hybrid_budget_fresh(meter))
    {
        if (ngx_hybrid_meter_lease_take(meter, ngx_current_msec, cost)) {
            ctx->reserve.leased |= 1 << ngx_hybrid_meter_budget;
            ngx_hybrid_meter_charge(meter, 0, cost);
            return 1;
        }

        do {
            left = meter->left;

            if (left < cost) {
                ngx_http_hybrid_reset_check(lease);
                return 0;
            }

        } while (!ngx_atomic_cmp_set(&meter->left, left, left - cost));

        ngx_http_hybrid_budget_charge(ctx, cost);

        return 1;
    }

    if (ctx->conf->redis) {
        ctx->degraded = 1;
        ctx->loss = limit->loss;

        if (limit->loss == ngx_http_hybrid_loss_closed) {
            return 0;
        }
    }

    ngx_http_hybrid_budget_now(ctx->client);

    if (ctx->conf->redis && limit->loss == ngx_http_hybrid_loss_open) {
        ngx_http_hybrid_budget_charge(ctx, cost);
        return 1;
    }

    if (ngx_hybrid_meter_take(meter, 0, cost)) {
        return 0;
    }

    ngx_http_hybrid_budget_owe(ctx, cost);

    return 1;
}


void
ngx_http_hybrid_budget_charge(ngx_http_hybrid_ctx_t *ctx, uint64_t cost)
{
    ngx_hybrid_meter_t  *meter;

    meter = &ctx->client->shared->meters[ngx_hybrid_meter_budget];

    ngx_hybrid_meter_charge(meter, 0, cost);
    ngx_http_hybrid_budget_owe(ctx, cost);
}


void
ngx_http_hybrid_budget_owe(ngx_http_hybrid_ctx_t *ctx, uint64_t cost)
{
    ngx_hybrid_meter_t  *meter;

    if (ctx->conf->redis == NULL || cost == 0) {
        return;
    }

    meter = &ctx->client->shared->meters[ngx_hybrid_meter_budget];

    ngx_hybrid_meter_owe(meter, cost);
    ctx->reserve.leased |= 1 << ngx_hybrid_meter_budget;

    ngx_http_hybrid_idle_watch(ctx->client->lease);
}


static ngx_uint_t
ngx_http_hybrid_budget_fresh(ngx_hybrid_meter_t *meter)
{
    return meter->told
           && ngx_current_msec - meter->told < NGX_HTTP_HYBRID_BUDGET_FRESH;
}


/* what the request has cost, at the backend that has answered */

uint64_t
ngx_http_hybrid_budget_cost(ngx_http_hybrid_ctx_t *ctx)
{
    if (ctx->tries == 0 || ctx->ncandidates == 0) {
        return 0;
    }

    return ngx_http_hybrid_usage_cost(ctx->candidates[ctx->current].backend,
                                      ctx->usage.input, ctx->usage.output);
}


void
ngx_http_hybrid_budget_now(ngx_http_hybrid_client_t *client)
{
    ngx_uint_t  day, next;

    day = ngx_hybrid_period(ngx_time(),
                            client->limits[ngx_hybrid_meter_budget].monthly,
                            &next);

    ngx_hybrid_meter_period(&client->shared->meters[ngx_hybrid_meter_budget],
                            day, next);
}


/* a month has begun before the days that were counted until now */

void
ngx_http_hybrid_budget_adopt(ngx_http_hybrid_client_t *client)
{
    ngx_uint_t           first, next;
    ngx_hybrid_meter_t  *meter;

    meter = &client->shared->meters[ngx_hybrid_meter_budget];

    if (!client->limits[ngx_hybrid_meter_budget].monthly) {
        return;
    }

    first = ngx_hybrid_period(ngx_time(), 1, &next);

    if (meter->period > first && meter->period < next) {
        meter->period = first;
    }
}


uint64_t
ngx_http_hybrid_budget_wait(ngx_http_hybrid_client_t *client)
{
    time_t      left;
    ngx_uint_t  next;

    (void) ngx_hybrid_period(ngx_time(),
                             client->limits[ngx_hybrid_meter_budget].monthly,
                             &next);

    left = (time_t) next * 86400 - ngx_time();

    return (uint64_t) ngx_max(left, 1) * 1000000;
}


/* what others have reserved may be used, or not: it is about right */

void
ngx_http_hybrid_budget_warn(ngx_http_hybrid_ctx_t *ctx, int64_t back)
{
    int64_t                    left;
    uint64_t                   quota;
    ngx_atomic_uint_t          old;
    ngx_hybrid_meter_t        *meter;
    ngx_hybrid_shm_client_t   *shared;
    ngx_http_hybrid_client_t  *client;

    client = ctx->client;
    shared = client->shared;
    meter = &shared->meters[ngx_hybrid_meter_budget];
    quota = client->limits[ngx_hybrid_meter_budget].quota;

    left = ngx_hybrid_meter_left(meter, 0);

    if (ctx->conf->redis && meter->told) {
        left = ngx_min(left, (int64_t) (meter->left + meter->credits) + back);
    }

    if (left > (int64_t) (quota - quota / 100 * NGX_HTTP_HYBRID_BUDGET_WARN)) {
        return;
    }

    old = shared->warned;

    if (old == meter->period + 1
        || !ngx_atomic_cmp_set(&shared->warned, old, meter->period + 1))
    {
        return;
    }

    ngx_log_error(NGX_LOG_WARN, ngx_cycle->log, 0,
                  "client \"%V\" has used %d%% of its budget of this %s",
                  &client->name, NGX_HTTP_HYBRID_BUDGET_WARN,
                  client->limits[ngx_hybrid_meter_budget].monthly ? "month"
                                                                  : "day");
}
