
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Credits are subtracted in Redis before they are used here, so all gateways
 * together never admit more than the limit.  A batch is what the client may
 * use in a tenth of a second, at most half a burst, one credit at low rates;
 * the next batch is fetched when half of it is used.  What is not used in a
 * second is lost.
 */


#include "ngx_http_hybrid_lease.h"
#include "ngx_hybrid_gcra.h"


#define NGX_HTTP_HYBRID_LEASE_SPAN      100000   /* of a batch, usec */
#define NGX_HTTP_HYBRID_LEASE_TTL       1000     /* msec */
#define NGX_HTTP_HYBRID_LEASE_PREFETCH  4        /* batches from this size */

/* in one word, so that it changes at once: msec of expiry, credits */
#define NGX_HTTP_HYBRID_LEASE_BITS      24
#define NGX_HTTP_HYBRID_LEASE_MAX       ((1 << NGX_HTTP_HYBRID_LEASE_BITS) - 1)


static ngx_uint_t ngx_http_hybrid_lease_left(ngx_hybrid_shm_client_t *shared,
    ngx_uint_t take);
static void ngx_http_hybrid_lease_add(ngx_hybrid_shm_client_t *shared,
    ngx_uint_t n);
static ngx_int_t ngx_http_hybrid_lease_refill(ngx_http_hybrid_lease_t *lease);
static void ngx_http_hybrid_lease_reply(void *data, redisReply *reply);
static void ngx_http_hybrid_lease_answer(ngx_http_hybrid_lease_t *lease,
    redisReply *reply);
static void ngx_http_hybrid_lease_lost(ngx_http_hybrid_lease_t *lease);
static void ngx_http_hybrid_lease_serve(ngx_http_hybrid_lease_t *lease,
    uint64_t wait);
static ngx_http_hybrid_ctx_t *ngx_http_hybrid_lease_next(
    ngx_http_hybrid_lease_t *lease);
static void ngx_http_hybrid_lease_late(ngx_event_t *ev);


/*
 * KEYS[1] the client's bucket, its theoretical arrival time
 * ARGV    interval and burst of the limit, credits wanted, and how far this
 *         gateway's own bucket is ahead, for a Redis that has lost its data;
 *         times in microseconds of Redis's clock
 *
 * Returns the credits granted and, when fewer than wanted, the time until
 * there is another.  A bucket that is too far ahead, after a step of Redis's
 * clock or of the limit, is cut for good.
 */

static ngx_hybrid_redis_script_t  ngx_http_hybrid_lease_script = {
    ngx_string(
        "local t = redis.call('TIME')\n"
        "local now = t[1] * 1000000 + t[2]\n"
        "local step = tonumber(ARGV[1])\n"
        "local span = step * tonumber(ARGV[2])\n"
        "local want = tonumber(ARGV[3])\n"
        "local tat = tonumber(redis.call('GET', KEYS[1]) or now + ARGV[4])\n"
        "if tat < now then tat = now end\n"
        "local far = tat > now + span\n"
        "if far then tat = now + span end\n"
        "local n = math.min(want, math.floor((now + span - tat) / step))\n"
        "tat = tat + n * step\n"
        "if n > 0 or far then\n"
        "  redis.call('SET', KEYS[1], string.format('%.0f', tat),\n"
        "             'PX', math.ceil((tat - now) / 1000) + 1000)\n"
        "end\n"
        "return {n, n < want and math.ceil(tat + step - now - span) or 0}\n"),
    { 0 }
};


ngx_int_t
ngx_http_hybrid_lease_init_worker(ngx_http_hybrid_main_conf_t *hmcf,
    ngx_cycle_t *cycle)
{
    ngx_uint_t                  i;
    ngx_http_hybrid_client_t  **clients;

    ngx_hybrid_redis_script_init(&ngx_http_hybrid_lease_script);

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
    ngx_http_hybrid_lease_t  *lease;

    if (client->interval == 0) {
        return NGX_OK;
    }

    prefix = &hmcf->redis_conf->prefix;

    lease = ngx_pcalloc(pool, sizeof(ngx_http_hybrid_lease_t));
    if (lease == NULL) {
        return NGX_ERROR;
    }

    lease->key.len = prefix->len + client->name.len + sizeof("{}:rate") - 1;

    p = ngx_pnalloc(pool, lease->key.len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    lease->key.data = p;
    ngx_sprintf(p, "%V{%V}:rate", prefix, &client->name);

    lease->conf = hmcf;
    lease->client = client;

    ngx_queue_init(&lease->waiters);

    lease->late.handler = ngx_http_hybrid_lease_late;
    lease->late.data = lease;
    lease->late.log = ngx_cycle->log;
    lease->late.cancelable = 1;

    lease->batch = NGX_HTTP_HYBRID_LEASE_SPAN / client->interval;
    lease->batch = ngx_max(lease->batch, 1);

    /* nor should one gateway have all of a burst */

    lease->batch = ngx_min(lease->batch, (client->burst + 1) / 2);

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
}


ngx_uint_t
ngx_http_hybrid_lease_take(ngx_http_hybrid_lease_t *lease, uint64_t *wait)
{
    ngx_uint_t                left;
    ngx_hybrid_shm_client_t  *shared;

    shared = lease->client->shared;

    *wait = ngx_http_hybrid_limit_take(lease->client);

    if (*wait) {
        return 0;
    }

    left = ngx_http_hybrid_lease_left(shared, 1);

    if (left == 0) {
        ngx_hybrid_gcra_refund(&shared->tat, shared->interval);
        return 0;
    }

    /* left counts the one just taken */

    if (left <= lease->batch / 2
        && lease->batch >= NGX_HTTP_HYBRID_LEASE_PREFETCH
        && !lease->pending
        && ngx_http_hybrid_lease_dry(lease) == 0)
    {
        (void) ngx_http_hybrid_lease_refill(lease);
    }

    return 1;
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
        (void) ngx_http_hybrid_lease_refill(lease);
    }

    return 0;
}


ngx_msec_t
ngx_http_hybrid_lease_dry(ngx_http_hybrid_lease_t *lease)
{
    ngx_msec_int_t  left;

    left = (ngx_msec_int_t) (lease->client->shared->dry - ngx_current_msec);

    return left > 0 ? (ngx_msec_t) left : 0;
}


static ngx_uint_t
ngx_http_hybrid_lease_left(ngx_hybrid_shm_client_t *shared, ngx_uint_t take)
{
    ngx_uint_t         left;
    ngx_atomic_uint_t  old;

    for ( ;; ) {
        old = shared->lease;
        left = old & NGX_HTTP_HYBRID_LEASE_MAX;

        if (left == 0
            || (old >> NGX_HTTP_HYBRID_LEASE_BITS) <= ngx_current_msec)
        {
            return 0;
        }

        if (ngx_atomic_cmp_set(&shared->lease, old, old - take)) {
            return left;
        }
    }
}


static void
ngx_http_hybrid_lease_add(ngx_hybrid_shm_client_t *shared, ngx_uint_t n)
{
    ngx_uint_t         left;
    ngx_atomic_uint_t  old, new;

    for ( ;; ) {
        old = shared->lease;
        left = old & NGX_HTTP_HYBRID_LEASE_MAX;

        if ((old >> NGX_HTTP_HYBRID_LEASE_BITS) <= ngx_current_msec) {
            left = 0;
        }

        left = ngx_min(left + n, NGX_HTTP_HYBRID_LEASE_MAX);

        new = (ngx_current_msec + NGX_HTTP_HYBRID_LEASE_TTL)
              << NGX_HTTP_HYBRID_LEASE_BITS;

        if (ngx_atomic_cmp_set(&shared->lease, old, new | left)) {
            return;
        }
    }
}


ngx_int_t
ngx_http_hybrid_lease_wait(ngx_http_hybrid_lease_t *lease,
    ngx_http_hybrid_ctx_t *ctx)
{
    ngx_queue_insert_tail(&lease->waiters, &ctx->waiter);
    lease->nwaiters++;
    ctx->lease = lease;
    ctx->queued = ngx_current_msec;

    if (!lease->pending && ngx_http_hybrid_lease_refill(lease) != NGX_OK) {
        ngx_http_hybrid_limit_detach(ctx);
        return NGX_DECLINED;
    }

    if (!lease->late.timer_set) {
        ngx_add_timer(&lease->late, lease->conf->redis_conf->timeout);
    }

    (void) ngx_atomic_fetch_add(&lease->client->shared->waits, 1);

    return NGX_AGAIN;
}


static ngx_int_t
ngx_http_hybrid_lease_refill(ngx_http_hybrid_lease_t *lease)
{
    u_char                    buf[4][NGX_INT64_LEN];
    uint64_t                  now, tat;
    ngx_str_t                 argv[5];
    ngx_uint_t                i;
    ngx_http_hybrid_client_t  *client;

    client = lease->client;

    now = (uint64_t) ngx_current_msec * 1000;
    tat = client->shared->tat;

    /* more than the waiting ones: others will have come by the answer */

    lease->want = ngx_max(lease->nwaiters, lease->batch);

    argv[0] = lease->key;

    for (i = 0; i < 4; i++) {
        argv[i + 1].data = buf[i];
    }

    argv[1].len = ngx_sprintf(buf[0], "%uL", client->interval) - buf[0];
    argv[2].len = ngx_sprintf(buf[1], "%ui", client->burst) - buf[1];
    argv[3].len = ngx_sprintf(buf[2], "%ui", lease->want) - buf[2];
    argv[4].len = ngx_sprintf(buf[3], "%uL", tat > now ? tat - now : 0)
                  - buf[3];

    if (ngx_hybrid_redis_eval(lease->conf->redis,
                              &ngx_http_hybrid_lease_script, 5, argv,
                              ngx_http_hybrid_lease_reply, lease)
        != NGX_OK)
    {
        return NGX_DECLINED;
    }

    lease->pending = 1;
    ngx_http_hybrid_client_hold(client);

    (void) ngx_atomic_fetch_add(&client->shared->refills, 1);

    return NGX_OK;
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
    uint64_t  n, wait;

    if (reply == NULL
        || reply->type != REDIS_REPLY_ARRAY
        || reply->elements != 2
        || reply->element[0]->type != REDIS_REPLY_INTEGER
        || reply->element[1]->type != REDIS_REPLY_INTEGER
        || reply->element[0]->integer < 0
        || reply->element[0]->integer > (long long) lease->want)
    {
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

        ngx_http_hybrid_lease_lost(lease);
        return;
    }

    lease->refused = 0;
    lease->client->shared->refused = 0;
    n = reply->element[0]->integer;

    if (n) {
        ngx_http_hybrid_lease_add(lease->client->shared, n);
    }

    wait = 0;

    if (n < lease->want) {
        wait = ngx_max(reply->element[1]->integer, 1000);

        /* a limit that was replaced meanwhile says nothing of the new one */

        if (lease->client->interval == lease->client->shared->interval) {
            lease->client->shared->dry = ngx_current_msec
                                         + (wait + 999) / 1000;
        }
    }

    ngx_http_hybrid_lease_serve(lease, wait);
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


/* wait: usec until Redis has another credit, 0 when it may have one now */

static void
ngx_http_hybrid_lease_serve(ngx_http_hybrid_lease_t *lease, uint64_t wait)
{
    uint64_t                own;
    ngx_http_hybrid_ctx_t  *ctx;

    while (lease->nwaiters) {

        if (!ngx_http_hybrid_lease_take(lease, &own)) {

            if (own == 0) {
                break;
            }

            ctx = ngx_http_hybrid_lease_next(lease);
            ngx_http_hybrid_limit_settle(ctx,
                                    ngx_http_hybrid_limit_refuse(ctx, own));
            continue;
        }

        ctx = ngx_http_hybrid_lease_next(lease);
        ngx_http_hybrid_limit_settle(ctx, NGX_OK);
    }

    if (lease->nwaiters == 0) {
        return;
    }

    if (wait) {

        while (lease->nwaiters) {
            ctx = ngx_http_hybrid_lease_next(lease);
            ngx_http_hybrid_limit_settle(ctx,
                                   ngx_http_hybrid_limit_refuse(ctx, wait));
        }

        return;
    }

    /* came while we asked: asked for again, but within their own time */

    if (!lease->pending && ngx_http_hybrid_lease_refill(lease) != NGX_OK) {
        ngx_http_hybrid_lease_lost(lease);
    }
}


static ngx_http_hybrid_ctx_t *
ngx_http_hybrid_lease_next(ngx_http_hybrid_lease_t *lease)
{
    ngx_http_hybrid_ctx_t  *ctx;

    ctx = ngx_queue_data(ngx_queue_head(&lease->waiters),
                         ngx_http_hybrid_ctx_t, waiter);

    ngx_http_hybrid_limit_detach(ctx);

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
