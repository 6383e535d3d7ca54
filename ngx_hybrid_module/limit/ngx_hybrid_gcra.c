
/*
 * Copyright (C) the ngx_hybrid_module authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_hybrid_gcra.h"


uint64_t
ngx_hybrid_gcra_take(ngx_atomic_t *tat, uint64_t now, uint64_t interval,
    ngx_uint_t burst)
{
    uint64_t           ahead, tolerance;
    ngx_atomic_uint_t  old;

    tolerance = (uint64_t) (burst - 1) * interval;

    for ( ;; ) {
        old = *tat;
        ahead = old > now ? old - now : 0;

        if (ahead > tolerance) {
            return ahead - tolerance;
        }

        if (ngx_atomic_cmp_set(tat, old, now + ahead + interval)) {
            return 0;
        }
    }
}


void
ngx_hybrid_gcra_charge(ngx_atomic_t *tat, uint64_t now, uint64_t interval,
    ngx_uint_t burst)
{
    uint64_t           ahead;
    ngx_atomic_uint_t  old;

    for ( ;; ) {
        old = *tat;
        ahead = (old > now ? old - now : 0) + interval;
        ahead = ngx_min(ahead, burst * interval);

        if (ngx_atomic_cmp_set(tat, old, now + ahead)) {
            return;
        }
    }
}


void
ngx_hybrid_gcra_refund(ngx_atomic_t *tat, uint64_t interval)
{
    (void) ngx_atomic_fetch_add(tat, - (ngx_atomic_int_t) interval);
}


void
ngx_hybrid_gcra_limit(ngx_atomic_t *tat, uint64_t now, uint64_t interval,
    ngx_uint_t burst)
{
    ngx_atomic_uint_t  old, most;

    most = now + burst * interval;

    do {
        old = *tat;
    } while (old > most && !ngx_atomic_cmp_set(tat, old, most));
}
