
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Credits are subtracted in Redis before they are used here, so all gateways
 * together never admit more than the limit.  A batch is what the client has
 * used in the last fifth of a second, one credit at low rates; the next batch
 * is fetched when half of it is used.  What is not used in a second is given
 * back.
 */


#include "ngx_http_hybrid_lease.h"
#include "ngx_hybrid_gcra.h"


#define NGX_HTTP_HYBRID_LEASE_SPAN      100000   /* of a batch, usec, at most */
#define NGX_HTTP_HYBRID_LEASE_TICK      200      /* msec */
#define NGX_HTTP_HYBRID_LEASE_PREFETCH  4        /* batches from this size */

/* parts of a burst of tokens, and of a budget, that one gateway may have */
#define NGX_HTTP_HYBRID_LEASE_TOKENS    20
#define NGX_HTTP_HYBRID_LEASE_BUDGET    100

/* msec; other gateways may give some back meanwhile */
#define NGX_HTTP_HYBRID_LEASE_TOLD      1000


static uint64_t ngx_http_hybrid_lease_most(ngx_http_hybrid_limit_t *limit,
    ngx_uint_t meter);
static void ngx_http_hybrid_lease_ask(ngx_http_hybrid_lease_t *lease,
    ngx_uint_t meter, ngx_uint_t fetch);
static ngx_uint_t ngx_http_hybrid_lease_needs(ngx_http_hybrid_lease_t *lease,
    ngx_uint_t meter, uint64_t *sum, uint64_t *first);
static void ngx_http_hybrid_lease_reply(void *data, redisReply *reply);
static void ngx_http_hybrid_lease_answer(ngx_http_hybrid_lease_t *lease,
    redisReply *reply);
static void ngx_http_hybrid_lease_take_over(ngx_http_hybrid_lease_t *lease);
static void ngx_http_hybrid_lease_meter(ngx_http_hybrid_lease_t *lease,
    ngx_uint_t n);
static void ngx_http_hybrid_lease_lost(ngx_http_hybrid_lease_t *lease);
static void ngx_http_hybrid_lease_serve(ngx_http_hybrid_lease_t *lease);
static ngx_http_hybrid_ctx_t *ngx_http_hybrid_lease_next(
    ngx_http_hybrid_lease_t *lease);
static void ngx_http_hybrid_lease_late(ngx_event_t *ev);


ngx_int_t
ngx_http_hybrid_lease_init_worker(ngx_http_hybrid_main_conf_t *hmcf,
    ngx_cycle_t *cycle)
{
    ngx_uint_t                  i;
    ngx_http_hybrid_client_t  **clients;

    if (hmcf->redis) {
        ngx_http_hybrid_script_init();
        ngx_http_hybrid_reset_init();

        if (ngx_http_hybrid_idle_init_worker(hmcf, cycle) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    clients = hmcf->clients.elts;

    for (i = 0; i < hmcf->clients.nelts; i++) {
        if (ngx_http_hybrid_lease_create(hmcf, clients[i], cycle->pool)
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_hybrid_lease_create(ngx_http_hybrid_main_conf_t *hmcf,
    ngx_http_hybrid_client_t *client, ngx_pool_t *pool)
{
    u_char                   *p;
    ngx_str_t                *prefix;
    ngx_uint_t                i;
    ngx_http_hybrid_lease_t  *lease;

    if (!ngx_http_hybrid_limited(client)) {
        return NGX_OK;
    }

    lease = ngx_pcalloc(pool, sizeof(ngx_http_hybrid_lease_t));
    if (lease == NULL) {
        return NGX_ERROR;
    }

    lease->conf = hmcf;
    lease->client = client;

    for (i = 0; i < ngx_hybrid_meters; i++) {
        lease->asks[i].span = ngx_hybrid_gcra_cost(client->limits[i].interval,
                                                   client->limits[i].burst);
        lease->asks[i].batch = 1;
    }

    ngx_queue_init(&lease->waiters);

    lease->late.handler = ngx_http_hybrid_lease_late;
    lease->late.data = lease;
    lease->late.log = ngx_cycle->log;

    ngx_http_hybrid_delay_init(lease);

    if (hmcf->redis_conf) {
        prefix = &hmcf->redis_conf->prefix;

        lease->key.len = prefix->len + client->name.len
                         + sizeof("{}:limits") - 1;

        p = ngx_pnalloc(pool, lease->key.len);
        if (p == NULL) {
            return NGX_ERROR;
        }

        lease->key.data = p;
        ngx_sprintf(p, "%V{%V}:limits", prefix, &client->name);
    }

    if (ngx_http_hybrid_ratelimit_policy(client, pool, &lease->policy)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    client->lease = lease;

    return NGX_OK;
}


/* a request that waits, and a question under way, keep the client */

void
ngx_http_hybrid_lease_destroy(ngx_http_hybrid_lease_t *lease)
{
    if (lease->late.timer_set) {
        ngx_del_timer(&lease->late);
    }

    ngx_http_hybrid_delay_destroy(lease);
}


ngx_uint_t
ngx_http_hybrid_lease_holds(ngx_http_hybrid_lease_t *lease)
{
    if (!lease->client->shared->refused
        && !ngx_hybrid_redis_down_key(lease->conf->redis, &lease->key))
    {
        return 1;
    }

    if (!lease->pending) {
        (void) ngx_http_hybrid_lease_refill(lease, 1);
    }

    return 0;
}


/* a smaller request than the one that was refused has it earlier */

ngx_msec_t
ngx_http_hybrid_lease_dry(ngx_http_hybrid_lease_t *lease, ngx_uint_t meter,
    uint64_t n)
{
    uint64_t             least;
    ngx_msec_t           earlier;
    ngx_msec_int_t       left;
    ngx_hybrid_meter_t  *m;

    m = &lease->client->shared->meters[meter];
    left = (ngx_msec_int_t) (m->dry - ngx_current_msec);

    if (left <= 0
        || (meter != ngx_hybrid_meter_rate
            && ngx_current_msec - m->told >= NGX_HTTP_HYBRID_LEASE_TOLD))
    {
        return 0;
    }

    least = m->dry_least;

    if (n >= least) {
        return left;
    }

    earlier = ngx_hybrid_gcra_cost(m->interval, least - n) / 1000;

    return (ngx_msec_t) left > earlier ? left - earlier : 0;
}


/* of a batch: exact at low rates, and no gateway has all of a burst */

static uint64_t
ngx_http_hybrid_lease_most(ngx_http_hybrid_limit_t *limit, ngx_uint_t meter)
{
    uint64_t  most;

    switch (meter) {

    case ngx_hybrid_meter_rate:
        most = NGX_HTTP_HYBRID_LEASE_SPAN * 1000ULL / limit->interval;
        most = ngx_min(most, (limit->burst + 1) / 2);
        break;

    case ngx_hybrid_meter_tokens:
        most = limit->burst / NGX_HTTP_HYBRID_LEASE_TOKENS;
        break;

    default: /* ngx_hybrid_meter_budget */
        most = limit->quota / NGX_HTTP_HYBRID_LEASE_BUDGET;
        break;
    }

    return ngx_max(most, 1);
}


void
ngx_http_hybrid_lease_used(ngx_http_hybrid_lease_t *lease, ngx_uint_t meter,
    uint64_t n)
{
    uint64_t                left;
    ngx_uint_t              i;
    ngx_hybrid_meter_t     *m;
    ngx_http_hybrid_ask_t  *ask;

    ask = &lease->asks[meter];
    ask->used += n;

    if (ngx_current_msec - lease->tick >= NGX_HTTP_HYBRID_LEASE_TICK) {

        lease->tick = ngx_current_msec;

        for (i = 0; i < ngx_hybrid_meters; i++) {

            if (lease->client->limits[i].quota == 0) {
                continue;
            }

            lease->asks[i].batch = ngx_min(ngx_max(lease->asks[i].used, 1),
                     ngx_http_hybrid_lease_most(&lease->client->limits[i], i));
            lease->asks[i].used = 0;
        }

    } else if (ask->used > ask->batch) {
        ask->batch = ngx_min(ask->used,
             ngx_http_hybrid_lease_most(&lease->client->limits[meter], meter));
    }

    m = &lease->client->shared->meters[meter];
    left = ngx_hybrid_meter_lease_left(m, ngx_current_msec);

    if (ask->batch >= NGX_HTTP_HYBRID_LEASE_PREFETCH
        && left < ask->batch / 2
        && !lease->pending
        && ngx_http_hybrid_lease_dry(lease, meter, ask->batch) == 0)
    {
        (void) ngx_http_hybrid_lease_refill(lease, 1);
    }
}


/* some for the next ones here, the rest for all gateways */

void
ngx_http_hybrid_lease_back(ngx_http_hybrid_lease_t *lease, ngx_uint_t meter,
    uint64_t n)
{
    uint64_t             most, left;
    ngx_hybrid_meter_t  *m;

    m = &lease->client->shared->meters[meter];

    most = ngx_http_hybrid_lease_most(&lease->client->limits[meter], meter);
    left = ngx_hybrid_meter_lease_left(m, ngx_current_msec);

    most = most > left ? ngx_min(most - left, n) : 0;

    if (most) {
        ngx_hybrid_meter_lease_add(m, ngx_current_msec, most);
    }

    if (n > most) {
        ngx_hybrid_meter_owe(m, - (int64_t) (n - most));

        /* there is more than Redis has said */

        m->dry = ngx_current_msec;
    }

    ngx_http_hybrid_idle_watch(lease);
}


ngx_int_t
ngx_http_hybrid_lease_wait(ngx_http_hybrid_lease_t *lease,
    ngx_http_hybrid_ctx_t *ctx)
{
    ngx_queue_insert_tail(&lease->waiters, &ctx->waiter);
    lease->nwaiters++;
    ctx->lease = lease;
    ctx->queued = ngx_current_msec;
    ctx->waiting = 1;

    if (!lease->pending && ngx_http_hybrid_lease_refill(lease, 1) != NGX_OK) {
        ctx->waiting = 0;
        ngx_http_hybrid_limit_leave(ctx);
        return NGX_DECLINED;
    }

    if (!lease->late.timer_set) {
        ngx_add_timer(&lease->late, lease->conf->redis_conf->timeout);
    }

    if (!ctx->asked_limits) {
        ctx->asked_limits = 1;
        (void) ngx_atomic_fetch_add(&lease->client->shared->waits, 1);
    }

    return NGX_AGAIN;
}


ngx_int_t
ngx_http_hybrid_lease_refill(ngx_http_hybrid_lease_t *lease, ngx_uint_t fetch)
{
    ngx_uint_t                 i;
    ngx_queue_t               *q;
    ngx_http_hybrid_ctx_t     *ctx;
    ngx_http_hybrid_client_t  *client;

    if (!ngx_hybrid_redis_available_key(lease->conf->redis, &lease->key)) {
        return NGX_DECLINED;
    }

    client = lease->client;

    for (i = 0; i < ngx_hybrid_meters; i++) {
        if (client->limits[i].quota) {
            ngx_http_hybrid_lease_ask(lease, i, fetch);
        }
    }

    if (client->concurrency.quota) {
        i = 0;

        for (q = ngx_queue_head(&lease->waiters);
             q != ngx_queue_sentinel(&lease->waiters);
             q = ngx_queue_next(q))
        {
            ctx = ngx_queue_data(q, ngx_http_hybrid_ctx_t, waiter);
            i += ctx->reserve.slot_need;
        }

        ngx_http_hybrid_slots_ask(lease, i, !fetch);
    }

    if (ngx_http_hybrid_script_send(lease, ngx_http_hybrid_lease_reply)
        != NGX_OK)
    {
        ngx_http_hybrid_debt_failed(lease, 0);
        return NGX_DECLINED;
    }

    lease->pending = 1;
    ngx_http_hybrid_client_hold(client);
    ngx_http_hybrid_idle_watch(lease);

    (void) ngx_atomic_fetch_add(&client->shared->refills, 1);

    return NGX_OK;
}


static void
ngx_http_hybrid_lease_ask(ngx_http_hybrid_lease_t *lease, ngx_uint_t meter,
    ngx_uint_t fetch)
{
    uint64_t                sum, first, left;
    ngx_hybrid_meter_t     *m;
    ngx_http_hybrid_ask_t  *ask;

    ask = &lease->asks[meter];
    m = &lease->client->shared->meters[meter];

    ask->charge = ngx_hybrid_meter_owed(m)
                  - (int64_t) ngx_hybrid_meter_lease_idle(m,
                                                          ngx_current_msec);
    ask->want = 0;
    ask->least = 1;

    if (meter == ngx_hybrid_meter_budget) {
        ngx_http_hybrid_debt_ask(lease);
    }

    if (!fetch) {
        return;
    }

    left = ngx_hybrid_meter_lease_left(m, ngx_current_msec);

    if (ngx_http_hybrid_lease_needs(lease, meter, &sum, &first)) {

        /* the rest of a batch: others will have come by the answer */

        ask->want = ngx_max(sum, ask->batch);
        ask->want -= ngx_min(ask->want - 1, left);
        ask->least = first > left ? first - left : 1;

    } else if (ask->batch >= NGX_HTTP_HYBRID_LEASE_PREFETCH
               && left < ask->batch / 2)
    {
        ask->want = ask->batch;
    }

    ask->want = ngx_min(ask->want, lease->client->limits[meter].burst);
}


/* what the waiting ones need, and the first of them */

static ngx_uint_t
ngx_http_hybrid_lease_needs(ngx_http_hybrid_lease_t *lease, ngx_uint_t meter,
    uint64_t *sum, uint64_t *first)
{
    ngx_queue_t            *q;
    ngx_http_hybrid_ctx_t  *ctx;

    *sum = 0;
    *first = 0;

    for (q = ngx_queue_head(&lease->waiters);
         q != ngx_queue_sentinel(&lease->waiters);
         q = ngx_queue_next(q))
    {
        ctx = ngx_queue_data(q, ngx_http_hybrid_ctx_t, waiter);

        if (*first == 0) {
            *first = ctx->reserve.need[meter];
        }

        *sum += ctx->reserve.need[meter];
    }

    return *sum != 0;
}


static void
ngx_http_hybrid_lease_reply(void *data, redisReply *reply)
{
    ngx_http_hybrid_lease_t  *lease = data;

    ngx_http_hybrid_client_t  *client;

    client = lease->client;

    lease->pending = 0;

    ngx_http_hybrid_lease_answer(lease, reply);

    /* last: the lease may go with it */

    ngx_http_hybrid_client_release(client);
}


static void
ngx_http_hybrid_lease_answer(ngx_http_hybrid_lease_t *lease,
    redisReply *reply)
{
    if (ngx_http_hybrid_script_answer(lease, reply) != NGX_OK) {

        if (reply && !lease->refused) {
            lease->refused = 1;
            ngx_log_error(NGX_LOG_ERR, lease->late.log, 0,
                          "redis can't tell the limit of client \"%V\": "
                          "\"%s\"", &lease->client->name,
                          reply->type == REDIS_REPLY_ERROR ? reply->str
                                                 : "unexpected answer");
        }

        if (reply) {
            lease->client->shared->refused = 1;
        }

        ngx_http_hybrid_debt_failed(lease, 1);
        ngx_http_hybrid_lease_lost(lease);
        return;
    }

    lease->refused = 0;
    lease->client->shared->refused = 0;

    ngx_http_hybrid_lease_take_over(lease);
    ngx_http_hybrid_lease_serve(lease);
}


static void
ngx_http_hybrid_lease_take_over(ngx_http_hybrid_lease_t *lease)
{
    ngx_uint_t                 i, stale;
    ngx_hybrid_shm_client_t   *shared;
    ngx_http_hybrid_client_t  *client;

    client = lease->client;
    shared = client->shared;

    if (ngx_http_hybrid_reset_seen(shared, lease->reset)) {
        ngx_http_hybrid_delay_wake(lease);
    }

    lease->debt.charge = 0;

    /* an answer from before a reset that was heard of since is void, too */

    stale = lease->seen < shared->reset && lease->reset < shared->reset;

    for (i = 0; i < ngx_hybrid_meters; i++) {

        if (stale) {
            lease->asks[i].charge = 0;

        } else if (client->limits[i].quota) {
            ngx_http_hybrid_lease_meter(lease, i);
        }
    }

    if (client->concurrency.quota) {
        ngx_http_hybrid_slots_answer(lease);
    }
}


static void
ngx_http_hybrid_lease_meter(ngx_http_hybrid_lease_t *lease, ngx_uint_t n)
{
    ngx_uint_t                next;
    ngx_hybrid_meter_t       *meter;
    ngx_http_hybrid_ask_t    *ask;
    ngx_http_hybrid_limit_t  *limit;

    ask = &lease->asks[n];
    meter = &lease->client->shared->meters[n];
    limit = &lease->client->limits[n];

    ask->charge = 0;

    /* first: it makes credits of the period before void */

    if (limit->interval == 0 && meter->interval == 0) {
        (void) ngx_hybrid_period((time_t) ask->period * 86400, limit->monthly,
                                 &next);
        ngx_hybrid_meter_period(meter, ask->period, next);
    }

    if (ask->granted) {
        ngx_hybrid_meter_lease_add(meter, ngx_current_msec, ask->granted);
    }

    /* a limit that was replaced meanwhile says nothing of the new one */

    if (limit->interval != meter->interval
        || (limit->interval ? ask->span : limit->quota) != meter->span)
    {
        return;
    }

    meter->left = ask->left;
    meter->told = ngx_current_msec ? ngx_current_msec : 1;

    if (ask->granted < ask->want) {
        meter->dry_least = ask->least;
        meter->dry = ngx_current_msec
                     + (ngx_max(ask->wait, 1000) + 999) / 1000;
    }
}


static void
ngx_http_hybrid_lease_lost(ngx_http_hybrid_lease_t *lease)
{
    ngx_http_hybrid_ctx_t  *ctx;

    while (lease->nwaiters) {
        ctx = ngx_http_hybrid_lease_next(lease);
        ngx_http_hybrid_limit_settle(ctx, ngx_http_hybrid_limit_lost(ctx));
    }
}


static void
ngx_http_hybrid_lease_serve(ngx_http_hybrid_lease_t *lease)
{
    ngx_int_t               rc;
    ngx_queue_t            *q;
    ngx_http_hybrid_hit_t   hit;
    ngx_http_hybrid_ctx_t  *ctx;

    while (lease->nwaiters) {

        q = ngx_queue_head(&lease->waiters);
        ctx = ngx_queue_data(q, ngx_http_hybrid_ctx_t, waiter);

        rc = ngx_http_hybrid_limit_try(ctx, &hit);

        if (rc == NGX_AGAIN) {

            /* came while we asked: asked for again, but in their own time */

            if (lease->pending
                || ngx_http_hybrid_lease_refill(lease, 1) == NGX_OK)
            {
                return;
            }

            ngx_http_hybrid_lease_lost(lease);
            return;
        }

        ctx = ngx_http_hybrid_lease_next(lease);

        if (rc == NGX_BUSY) {
            rc = ngx_http_hybrid_limit_busy(ctx, &hit);
        }

        ngx_http_hybrid_limit_settle(ctx, rc);
    }
}


static ngx_http_hybrid_ctx_t *
ngx_http_hybrid_lease_next(ngx_http_hybrid_lease_t *lease)
{
    ngx_http_hybrid_ctx_t  *ctx;

    ctx = ngx_queue_data(ngx_queue_head(&lease->waiters),
                         ngx_http_hybrid_ctx_t, waiter);

    ngx_http_hybrid_limit_leave(ctx);

    return ctx;
}


static void
ngx_http_hybrid_lease_late(ngx_event_t *ev)
{
    ngx_http_hybrid_lease_t  *lease = ev->data;

    ngx_queue_t            *q;
    ngx_msec_int_t          left;
    ngx_http_hybrid_ctx_t  *ctx;

    while (lease->nwaiters) {
        q = ngx_queue_head(&lease->waiters);
        ctx = ngx_queue_data(q, ngx_http_hybrid_ctx_t, waiter);

        left = (ngx_msec_int_t) (ctx->queued
                                 + lease->conf->redis_conf->timeout
                                 - ngx_current_msec);

        if (left > 0) {
            ngx_add_timer(ev, (ngx_msec_t) left);
            return;
        }

        ctx = ngx_http_hybrid_lease_next(lease);
        ngx_http_hybrid_limit_settle(ctx, ngx_http_hybrid_limit_lost(ctx));
    }
}
