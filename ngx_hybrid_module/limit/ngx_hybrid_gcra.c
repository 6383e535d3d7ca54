
/*
 * Copyright (C) the ngx_hybrid_module authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_hybrid_gcra.h"


uint64_t
ngx_hybrid_gcra_cost(uint64_t interval, uint64_t n)
{
    if (interval && n > NGX_HYBRID_GCRA_MAX * 1000 / interval) {
        return NGX_HYBRID_GCRA_MAX;
    }

    return (n * interval + 999) / 1000;
}


uint64_t
ngx_hybrid_gcra_take(ngx_atomic_t *tat, uint64_t now, uint64_t cost,
    uint64_t span)
{
    uint64_t           ahead;
    ngx_atomic_uint_t  old;

    for ( ;; ) {
        old = *tat;
        ahead = old > now ? old - now : 0;

        if (ahead + cost > span) {
            return ahead + cost - span;
        }

        if (ngx_atomic_cmp_set(tat, old, now + ahead + cost)) {
            return 0;
        }
    }
}


void
ngx_hybrid_gcra_charge(ngx_atomic_t *tat, uint64_t now, uint64_t cost,
    uint64_t deepest)
{
    uint64_t           ahead;
    ngx_atomic_uint_t  old;

    for ( ;; ) {
        old = *tat;
        ahead = (old > now ? old - now : 0) + cost;
        ahead = ngx_min(ahead, deepest);

        if (ngx_atomic_cmp_set(tat, old, now + ahead)) {
            return;
        }
    }
}


void
ngx_hybrid_gcra_refund(ngx_atomic_t *tat, uint64_t cost)
{
    ngx_atomic_uint_t  old;

    /* the bucket may have been emptied since, or have another interval */

    do {
        old = *tat;
    } while (!ngx_atomic_cmp_set(tat, old, old > cost ? old - cost : 0));
}


void
ngx_hybrid_gcra_limit(ngx_atomic_t *tat, uint64_t now, uint64_t span)
{
    ngx_atomic_uint_t  old, most;

    most = now + span;

    do {
        old = *tat;
    } while (old > most && !ngx_atomic_cmp_set(tat, old, most));
}


uint64_t
ngx_hybrid_gcra_ahead(ngx_atomic_t *tat, uint64_t now)
{
    uint64_t  old;

    old = *tat;

    return old > now ? old - now : 0;
}
