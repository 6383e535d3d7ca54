
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * With "queue" a request that its client's limit refuses waits for it.  Those
 * of a worker pass in the order they came, except that who waits for tokens
 * may have what those at the headers wait for; how many wait is counted over
 * all workers.
 */


#include "ngx_http_hybrid_lease.h"
#include "ngx_http_hybrid_limits.h"


/* msec between looks at what other workers, and gateways, may give back */
#define NGX_HTTP_HYBRID_DELAY_POLL  20
#define NGX_HTTP_HYBRID_DELAY_MAX   1000


static ngx_msec_int_t ngx_http_hybrid_delay_left(ngx_http_hybrid_ctx_t *ctx);
static void ngx_http_hybrid_delay_arm(ngx_http_hybrid_delays_t *delays,
    ngx_http_hybrid_ctx_t *ctx);
static void ngx_http_hybrid_delay_handler(ngx_event_t *ev);
static ngx_uint_t ngx_http_hybrid_delay_first(ngx_http_hybrid_lease_t *lease,
    ngx_http_hybrid_ctx_t *ctx);


void
ngx_http_hybrid_delay_init(ngx_http_hybrid_lease_t *lease)
{
    ngx_uint_t                 i;
    ngx_http_hybrid_delays_t  *delays;

    for (i = 0; i < 2; i++) {
        delays = &lease->delays[i];

        delays->lease = lease;
        ngx_queue_init(&delays->queue);

        delays->event.handler = ngx_http_hybrid_delay_handler;
        delays->event.data = delays;
        delays->event.log = ngx_cycle->log;
    }
}


void
ngx_http_hybrid_delay_destroy(ngx_http_hybrid_lease_t *lease)
{
    ngx_uint_t    i;
    ngx_event_t  *ev;

    for (i = 0; i < 2; i++) {
        ev = &lease->delays[i].event;

        if (ev->timer_set) {
            ngx_del_timer(ev);
        }

        if (ev->posted) {
            ngx_delete_posted_event(ev);
        }
    }
}


ngx_uint_t
ngx_http_hybrid_delay_others(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_hit_t *hit)
{
    ngx_queue_t               *q;
    ngx_http_hybrid_ctx_t     *first;
    ngx_http_hybrid_delays_t  *delays;

    delays = &ctx->client->lease->delays[ctx->reserved];

    if (delays->n == 0) {
        return 0;
    }

    q = ngx_queue_head(&delays->queue);
    first = ngx_queue_data(q, ngx_http_hybrid_ctx_t, waiter);

    hit->slot = first->hit_slot;
    hit->meter = first->hit_meter;
    hit->wait = first->hit_wait;

    return 1;
}


ngx_int_t
ngx_http_hybrid_delay(ngx_http_hybrid_ctx_t *ctx, ngx_http_hybrid_hit_t *hit)
{
    ngx_msec_t                 time;
    ngx_http_hybrid_lease_t   *lease;
    ngx_http_hybrid_delays_t  *delays;

    lease = ctx->client->lease;
    delays = &lease->delays[ctx->reserved];

    if (ctx->client->queue == 0) {
        return NGX_DECLINED;
    }

    ctx->hit_slot = hit->slot;
    ctx->hit_meter = hit->meter;
    ctx->hit_wait = hit->wait;

    if (!ctx->queueing) {

        /* it may have waited at the headers */

        time = ctx->client->queue_timeout;
        time -= ngx_min(time, ctx->queue_time);

        ctx->queue_until = ngx_current_msec + time;

        if (ngx_http_hybrid_delay_left(ctx)
            < (ngx_msec_int_t) (ctx->hit_wait / 1000)
            || !ngx_http_hybrid_client_wait(ctx->client))
        {
            return NGX_DECLINED;
        }

        ctx->queueing = 1;
        ngx_queue_insert_tail(&delays->queue, &ctx->waiter);

    } else {

        if (ngx_http_hybrid_delay_left(ctx)
            <= (ngx_msec_int_t) (ctx->hit_wait / 1000))
        {
            return NGX_DECLINED;
        }

        /* it has waited already, before all others */

        ngx_queue_insert_head(&delays->queue, &ctx->waiter);
    }

    delays->n++;

    ctx->lease = lease;
    ctx->delayed = 1;
    ctx->waiting = 1;
    ctx->queued = ngx_current_msec;

    if (ngx_queue_head(&delays->queue) == &ctx->waiter) {
        ngx_http_hybrid_delay_arm(delays, ctx);
    }

    return NGX_AGAIN;
}


void
ngx_http_hybrid_delay_done(ngx_http_hybrid_ctx_t *ctx)
{
    if (!ctx->queueing) {
        return;
    }

    ctx->queueing = 0;

    ngx_http_hybrid_client_go(ctx->client);
}


static ngx_msec_int_t
ngx_http_hybrid_delay_left(ngx_http_hybrid_ctx_t *ctx)
{
    return (ngx_msec_int_t) (ctx->queue_until - ngx_current_msec);
}


static void
ngx_http_hybrid_delay_arm(ngx_http_hybrid_delays_t *delays,
    ngx_http_hybrid_ctx_t *ctx)
{
    ngx_msec_t      wait;
    ngx_msec_int_t  left;

    wait = ctx->hit_slot ? NGX_HTTP_HYBRID_DELAY_POLL
                         : (ngx_msec_t) (ctx->hit_wait + 999) / 1000;

    wait = ngx_min(ngx_max(wait, 1), NGX_HTTP_HYBRID_DELAY_MAX);

    left = ngx_http_hybrid_delay_left(ctx);

    if (left < (ngx_msec_int_t) wait) {
        wait = left > 0 ? (ngx_msec_t) left : 1;
    }

    if (delays->event.timer_set) {
        ngx_del_timer(&delays->event);
    }

    ngx_add_timer(&delays->event, wait);
}


void
ngx_http_hybrid_delay_wake(ngx_http_hybrid_lease_t *lease)
{
    ngx_uint_t  i;

    for (i = 0; i < 2; i++) {
        if (lease->delays[i].n) {
            ngx_post_event(&lease->delays[i].event, &ngx_posted_events);
        }
    }
}


static void
ngx_http_hybrid_delay_handler(ngx_event_t *ev)
{
    ngx_http_hybrid_delays_t  *delays = ev->data;

    ngx_queue_t               *q;
    ngx_http_hybrid_ctx_t     *ctx;
    ngx_http_hybrid_client_t  *client;

    /* the last of them may be the client's last user */

    client = delays->lease->client;
    ngx_http_hybrid_client_hold(client);

    while (delays->n) {

        q = ngx_queue_head(&delays->queue);
        ctx = ngx_queue_data(q, ngx_http_hybrid_ctx_t, waiter);

        if (!ngx_http_hybrid_delay_first(delays->lease, ctx)) {
            break;
        }
    }

    ngx_http_hybrid_client_release(client);
}


/* 0: it still waits, and so do the others */

static ngx_uint_t
ngx_http_hybrid_delay_first(ngx_http_hybrid_lease_t *lease,
    ngx_http_hybrid_ctx_t *ctx)
{
    ngx_int_t              rc;
    ngx_uint_t             lost;
    ngx_http_hybrid_hit_t  hit;

    lost = lease->conf->redis
           && !ngx_hybrid_redis_available_key(lease->conf->redis, &lease->key);

    rc = lost ? NGX_DECLINED : ngx_http_hybrid_limit_try(ctx, &hit);

    ngx_http_hybrid_limit_leave(ctx);

    if (rc == NGX_AGAIN) {
        rc = ngx_http_hybrid_lease_wait(lease, ctx);

        if (rc == NGX_AGAIN) {
            return 0;
        }
    }

    if (rc == NGX_DECLINED) {
        rc = ngx_http_hybrid_limit_lost(ctx);

    } else if (rc == NGX_BUSY) {

        /* as long as it may; a budget has its own way */

        rc = ngx_http_hybrid_limit_busy(ctx, &hit);
    }

    ngx_http_hybrid_limit_settle(ctx, rc);

    return rc != NGX_AGAIN;
}
