
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * What is left of a limit, from shared memory alone.
 */


#include "ngx_http_hybrid_lease.h"
#include "ngx_http_hybrid_limits.h"
#include "ngx_hybrid_gcra.h"


static void ngx_http_hybrid_left_meter(ngx_hybrid_meter_t *meter,
    ngx_uint_t redis, ngx_http_hybrid_left_t *left);
static void ngx_http_hybrid_left_period(ngx_hybrid_meter_t *meter,
    ngx_http_hybrid_left_t *left);
static void ngx_http_hybrid_left_slots(ngx_hybrid_shm_client_t *shared,
    ngx_uint_t redis, ngx_http_hybrid_left_t *left);


ngx_str_t  ngx_http_hybrid_limit_names[] = {
    ngx_string("rate"),
    ngx_string("tokens"),
    ngx_string("budget"),
    ngx_string("concurrency")
};


ngx_int_t
ngx_http_hybrid_limit_left(ngx_hybrid_shm_client_t *shared, ngx_uint_t n,
    ngx_uint_t redis, ngx_http_hybrid_left_t *left)
{
    left->quota = shared->quotas[n];

    if (left->quota == 0) {
        return NGX_DECLINED;
    }

    left->monthly = 0;

    if (n == NGX_HTTP_HYBRID_LIMIT_SLOTS) {
        ngx_http_hybrid_left_slots(shared, redis, left);
        return NGX_OK;
    }

    left->burst = shared->bursts[n];
    left->window = shared->windows[n];

    ngx_http_hybrid_left_meter(&shared->meters[n], redis, left);

    if (n == ngx_hybrid_meter_budget) {
        ngx_http_hybrid_left_period(&shared->meters[n], left);

    } else {
        left->reset = ngx_hybrid_gcra_cost(shared->meters[n].interval,
                                           left->burst - left->left);
    }

    return NGX_OK;
}


/*
 * The own account knows what passed here, and Redis what passed elsewhere,
 * until it last said so.
 */

static void
ngx_http_hybrid_left_meter(ngx_hybrid_meter_t *meter, ngx_uint_t redis,
    ngx_http_hybrid_left_t *left)
{
    int64_t     owed;
    uint64_t    n;
    ngx_msec_t  told;

    left->left = ngx_hybrid_meter_left(meter, ngx_http_hybrid_limit_now());
    left->leased = 0;

    if (redis) {
        left->leased = ngx_hybrid_meter_lease_left(meter, ngx_current_msec);
        told = meter->told;
        owed = (int64_t) (ngx_atomic_int_t) meter->owed;

        if (told) {
            n = meter->left + left->leased;

            if (owed > 0) {
                n -= ngx_min(n, (uint64_t) owed);
            }

            if (meter->interval) {
                n += (uint64_t) (ngx_current_msec - told) * 1000000
                     / meter->interval;
            }

            left->left = ngx_min(left->left, n);
        }
    }

    left->left = ngx_min(left->left, left->burst);
    left->leased = ngx_min(left->leased, left->left);
}


static void
ngx_http_hybrid_left_period(ngx_hybrid_meter_t *meter,
    ngx_http_hybrid_left_t *left)
{
    time_t      seconds;
    ngx_uint_t  day, next;

    left->monthly = left->window > 86400;

    day = ngx_hybrid_period(ngx_time(), left->monthly, &next);

    if (meter->period < day) {

        /* nobody has asked in this one */

        left->left = left->quota;
    }

    seconds = (time_t) next * 86400 - ngx_time();

    left->reset = (uint64_t) ngx_max(seconds, 1) * 1000000;
}


static void
ngx_http_hybrid_left_slots(ngx_hybrid_shm_client_t *shared, ngx_uint_t redis,
    ngx_http_hybrid_left_t *left)
{
    uint64_t    n;
    ngx_uint_t  busy, held;

    left->burst = left->quota;
    left->window = 0;
    left->reset = 0;
    left->leased = 0;

    busy = ngx_hybrid_cells_busy(&shared->cells);
    n = left->quota;

    if (redis) {
        held = ngx_http_hybrid_slots_own(shared);

        if (held) {
            n = ngx_min(n, held + shared->slots_left);
        }

        left->leased = held;
    }

    left->left = n > busy ? n - busy : 0;
}
