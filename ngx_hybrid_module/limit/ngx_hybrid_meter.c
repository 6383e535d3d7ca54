
/*
 * Copyright (C) the ngx_hybrid_module authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_hybrid_meter.h"
#include "ngx_hybrid_gcra.h"


/* msec; credits that nobody wants are given back */
#define NGX_HYBRID_METER_IDLE  1000

/* a debt is forgiven above this many bursts */
#define NGX_HYBRID_METER_DEBT  2


static ngx_uint_t ngx_hybrid_period_month(ngx_uint_t day);


void
ngx_hybrid_meter_limit(ngx_hybrid_meter_t *meter, uint64_t now,
    uint64_t interval, uint64_t burst)
{
    uint64_t  span;

    span = interval ? ngx_hybrid_gcra_cost(interval, burst) : burst;

    if (meter->interval == interval && meter->span == span) {
        return;
    }

    meter->interval = interval;
    meter->span = span;
    meter->dry = (ngx_atomic_uint_t) ngx_current_msec;
    meter->told = 0;

    if (interval) {
        ngx_hybrid_gcra_limit(&meter->account, now, span);
    }
}


uint64_t
ngx_hybrid_meter_take(ngx_hybrid_meter_t *meter, uint64_t now, uint64_t n)
{
    ngx_atomic_uint_t  old;

    if (meter->interval) {
        return ngx_hybrid_gcra_take(&meter->account, now,
                                    ngx_hybrid_gcra_cost(meter->interval, n),
                                    meter->span);
    }

    do {
        old = meter->account;

        if (old + n > meter->span) {
            return 1;
        }

    } while (!ngx_atomic_cmp_set(&meter->account, old, old + n));

    return 0;
}


void
ngx_hybrid_meter_refund(ngx_hybrid_meter_t *meter, uint64_t n)
{
    ngx_atomic_uint_t  old;

    if (meter->interval) {
        ngx_hybrid_gcra_refund(&meter->account,
                               ngx_hybrid_gcra_cost(meter->interval, n));
        return;
    }

    /* it may have been of the period before */

    do {
        old = meter->account;
    } while (!ngx_atomic_cmp_set(&meter->account, old,
                                 old > n ? old - n : 0));
}


void
ngx_hybrid_meter_charge(ngx_hybrid_meter_t *meter, uint64_t now, uint64_t n)
{
    if (meter->interval) {
        ngx_hybrid_gcra_charge(&meter->account, now,
                               ngx_hybrid_gcra_cost(meter->interval, n),
                               NGX_HYBRID_METER_DEBT * meter->span);
        return;
    }

    (void) ngx_atomic_fetch_add(&meter->account, n);
}


uint64_t
ngx_hybrid_meter_left(ngx_hybrid_meter_t *meter, uint64_t now)
{
    uint64_t  used;

    used = meter->interval ? ngx_hybrid_gcra_ahead(&meter->account, now)
                           : meter->account;

    if (used >= meter->span) {
        return 0;
    }

    used = meter->span - used;

    return meter->interval ? used * 1000 / meter->interval : used;
}


void
ngx_hybrid_meter_period(ngx_hybrid_meter_t *meter, ngx_uint_t period,
    ngx_uint_t next)
{
    ngx_atomic_uint_t  old;

    old = meter->period;

    if (old == period || old == next
        || !ngx_atomic_cmp_set(&meter->period, old, period)
        || old > next)
    {
        return;
    }

    /* what belongs to the old one is no matter of the new one */

    meter->account = 0;
    meter->credits = 0;
    meter->owed = 0;
}


ngx_uint_t
ngx_hybrid_meter_lease_take(ngx_hybrid_meter_t *meter, ngx_msec_t now,
    uint64_t n)
{
    ngx_atomic_uint_t  old;

    for ( ;; ) {
        old = meter->credits;

        if (old < n
            || (ngx_msec_int_t) (meter->expires - now) <= 0)
        {
            return 0;
        }

        if (ngx_atomic_cmp_set(&meter->credits, old, old - n)) {
            return 1;
        }
    }
}


void
ngx_hybrid_meter_lease_add(ngx_hybrid_meter_t *meter, ngx_msec_t now,
    uint64_t n)
{
    /* first: what is there is not idle any more when it has grown */

    meter->expires = (ngx_atomic_uint_t) (now + NGX_HYBRID_METER_IDLE);

    (void) ngx_atomic_fetch_add(&meter->credits, n);
}


uint64_t
ngx_hybrid_meter_lease_idle(ngx_hybrid_meter_t *meter, ngx_msec_t now)
{
    ngx_atomic_uint_t  old;

    old = meter->credits;

    if (old == 0 || (ngx_msec_int_t) (meter->expires - now) > 0
        || !ngx_atomic_cmp_set(&meter->credits, old, 0))
    {
        return 0;
    }

    return old;
}


uint64_t
ngx_hybrid_meter_lease_left(ngx_hybrid_meter_t *meter, ngx_msec_t now)
{
    return (ngx_msec_int_t) (meter->expires - now) > 0 ? meter->credits : 0;
}


int64_t
ngx_hybrid_meter_owed(ngx_hybrid_meter_t *meter)
{
    ngx_atomic_uint_t  old;

    do {
        old = meter->owed;
    } while (old && !ngx_atomic_cmp_set(&meter->owed, old, 0));

    return (int64_t) (ngx_atomic_int_t) old;
}


void
ngx_hybrid_meter_owe(ngx_hybrid_meter_t *meter, int64_t n)
{
    (void) ngx_atomic_fetch_add(&meter->owed, (ngx_atomic_int_t) n);
}


ngx_uint_t
ngx_hybrid_period(time_t t, ngx_uint_t monthly, ngx_uint_t *next)
{
    ngx_uint_t  day, first;

    day = (ngx_uint_t) t / 86400;

    if (!monthly) {
        *next = day + 1;
        return day;
    }

    first = day - ngx_hybrid_period_month(day);

    /* no month has more days than 31, and none less than 28 */

    *next = first + 31 - ngx_hybrid_period_month(first + 31);

    return first;
}


/* the day of its month, from 0; see Hinnant, "civil_from_days" */

static ngx_uint_t
ngx_hybrid_period_month(ngx_uint_t day)
{
    ngx_uint_t  z, year, month;

    /* the day of an era of 400 years that begins with March */

    z = (day + 719468) % 146097;
    year = (z - z / 1460 + z / 36524 - z / 146096) / 365;
    z -= 365 * year + year / 4 - year / 100;

    month = (5 * z + 2) / 153;

    return z - (153 * month + 2) / 5;
}
