
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * What a gateway has got from Redis and does not need goes back, soon when it
 * is idle and at once when a worker exits; what was used beyond it is told;
 * slots are renewed as long as they are in use.
 */


#include "ngx_http_hybrid_lease.h"


/* msec */
#define NGX_HTTP_HYBRID_IDLE_TICK  500


struct ngx_http_hybrid_idle_s {
    ngx_http_hybrid_main_conf_t  *conf;
    ngx_queue_t                   leases;
    ngx_event_t                   event;
};


static void ngx_http_hybrid_idle_handler(ngx_event_t *ev);
static ngx_uint_t ngx_http_hybrid_idle_due(ngx_http_hybrid_lease_t *lease);
static ngx_uint_t ngx_http_hybrid_idle_quiet(ngx_http_hybrid_lease_t *lease);
static void ngx_http_hybrid_idle_unlink(ngx_http_hybrid_lease_t *lease);


ngx_int_t
ngx_http_hybrid_idle_init_worker(ngx_http_hybrid_main_conf_t *hmcf,
    ngx_cycle_t *cycle)
{
    ngx_http_hybrid_idle_t  *idle;

    idle = ngx_pcalloc(cycle->pool, sizeof(ngx_http_hybrid_idle_t));
    if (idle == NULL) {
        return NGX_ERROR;
    }

    idle->conf = hmcf;
    ngx_queue_init(&idle->leases);

    idle->event.handler = ngx_http_hybrid_idle_handler;
    idle->event.data = idle;
    idle->event.log = cycle->log;
    idle->event.cancelable = 1;

    hmcf->idle = idle;

    return NGX_OK;
}


void
ngx_http_hybrid_idle_watch(ngx_http_hybrid_lease_t *lease)
{
    ngx_http_hybrid_idle_t  *idle;

    idle = lease->conf->idle;

    if (idle == NULL || lease->linked) {
        return;
    }

    lease->linked = 1;
    ngx_queue_insert_tail(&idle->leases, &lease->queue);
    ngx_http_hybrid_client_hold(lease->client);

    if (!idle->event.timer_set) {
        ngx_add_timer(&idle->event, NGX_HTTP_HYBRID_IDLE_TICK);
    }
}


static void
ngx_http_hybrid_idle_handler(ngx_event_t *ev)
{
    ngx_http_hybrid_idle_t  *idle = ev->data;

    ngx_queue_t              *q, *next;
    ngx_http_hybrid_lease_t  *lease;

    for (q = ngx_queue_head(&idle->leases);
         q != ngx_queue_sentinel(&idle->leases);
         q = next)
    {
        next = ngx_queue_next(q);
        lease = ngx_queue_data(q, ngx_http_hybrid_lease_t, queue);

        if (lease->pending) {
            continue;
        }

        if (ngx_http_hybrid_idle_due(lease)) {
            (void) ngx_http_hybrid_lease_refill(lease, 0);

        } else if (ngx_http_hybrid_idle_quiet(lease)) {
            ngx_http_hybrid_idle_unlink(lease);
        }
    }

    if (!ngx_queue_empty(&idle->leases)) {
        ngx_add_timer(ev, NGX_HTTP_HYBRID_IDLE_TICK);
    }
}


/* there is something to tell Redis */

static ngx_uint_t
ngx_http_hybrid_idle_due(ngx_http_hybrid_lease_t *lease)
{
    ngx_uint_t           i;
    ngx_hybrid_meter_t  *meter;

    for (i = 0; i < ngx_hybrid_meters; i++) {

        if (lease->client->limits[i].quota == 0) {
            continue;
        }

        meter = &lease->client->shared->meters[i];

        if (meter->owed
            || (meter->credits
                && ngx_hybrid_meter_lease_left(meter, ngx_current_msec) == 0))
        {
            return 1;
        }
    }

    return lease->debt.charge != 0
           || (lease->client->concurrency.quota
               && ngx_http_hybrid_slots_due(lease));
}


static ngx_uint_t
ngx_http_hybrid_idle_quiet(ngx_http_hybrid_lease_t *lease)
{
    ngx_uint_t  i;

    for (i = 0; i < ngx_hybrid_meters; i++) {
        if (lease->client->limits[i].quota
            && lease->client->shared->meters[i].credits)
        {
            return 0;
        }
    }

    if (lease->debt.charge) {
        return 0;
    }

    return lease->client->concurrency.quota == 0
           || (ngx_http_hybrid_slots_held(lease) == 0
               && ngx_hybrid_cells_busy(&lease->client->shared->cells) == 0);
}


static void
ngx_http_hybrid_idle_unlink(ngx_http_hybrid_lease_t *lease)
{
    lease->linked = 0;
    ngx_queue_remove(&lease->queue);

    /* last: the lease may go with it */

    ngx_http_hybrid_client_release(lease->client);
}


void
ngx_http_hybrid_idle_exit_worker(ngx_http_hybrid_main_conf_t *hmcf)
{
    ngx_uint_t                i, n;
    ngx_queue_t              *q;
    ngx_http_hybrid_lease_t  *lease;

    if (hmcf->idle == NULL || hmcf->redis == NULL) {
        return;
    }

    for (q = ngx_queue_head(&hmcf->idle->leases);
         q != ngx_queue_sentinel(&hmcf->idle->leases);
         q = ngx_queue_next(q))
    {
        lease = ngx_queue_data(q, ngx_http_hybrid_lease_t, queue);

        for (i = 0; i < ngx_hybrid_meters; i++) {
            lease->client->shared->meters[i].expires = ngx_current_msec;
        }

        lease->client->shared->slots_peak = 0;

        /* what is told again may leave something for a second time */

        for (n = 0; n < 2; n++) {

            if (lease->pending) {
                lease->debt.charge = 0;
            }

            if (ngx_http_hybrid_lease_refill(lease, 0) != NGX_OK) {
                ngx_http_hybrid_debt_end(lease);
                break;
            }

            ngx_hybrid_redis_flush(hmcf->redis, &lease->key);

            /* it was told, though nobody will hear the answer */

            for (i = 0; i < ngx_hybrid_meters; i++) {
                lease->asks[i].charge = 0;
            }

            if (lease->client->shared->meters[ngx_hybrid_meter_budget].owed
                == 0)
            {
                break;
            }
        }
    }

    while (!ngx_queue_empty(&hmcf->idle->leases)) {
        q = ngx_queue_head(&hmcf->idle->leases);
        ngx_http_hybrid_idle_unlink(ngx_queue_data(q, ngx_http_hybrid_lease_t,
                                                   queue));
    }
}
