
/*
 * Copyright (C) the ngx_hybrid_module authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_hybrid_histogram.h"


ngx_uint_t
ngx_hybrid_histogram_index(uint64_t us)
{
    ngx_uint_t  octave;

    if (us < NGX_HYBRID_HISTOGRAM_SUB) {
        return us;
    }

    if (us > NGX_HYBRID_HISTOGRAM_MAX) {
        us = NGX_HYBRID_HISTOGRAM_MAX;
    }

    octave = 63 - __builtin_clzll(us);

    return (octave - 3) * NGX_HYBRID_HISTOGRAM_SUB
           + ((us >> (octave - 4)) & (NGX_HYBRID_HISTOGRAM_SUB - 1));
}


uint64_t
ngx_hybrid_histogram_lower(ngx_uint_t index)
{
    ngx_uint_t  octave, sub;

    if (index < NGX_HYBRID_HISTOGRAM_SUB) {
        return index;
    }

    octave = index / NGX_HYBRID_HISTOGRAM_SUB + 3;
    sub = index % NGX_HYBRID_HISTOGRAM_SUB;

    return (uint64_t) (NGX_HYBRID_HISTOGRAM_SUB + sub) << (octave - 4);
}


uint64_t
ngx_hybrid_histogram_quantile(uint64_t *counts, double q)
{
    uint64_t    total, rank, seen, lower, upper;
    ngx_uint_t  i;

    total = 0;

    for (i = 0; i < NGX_HYBRID_HISTOGRAM_BUCKETS; i++) {
        total += counts[i];
    }

    if (total == 0) {
        return 0;
    }

    /* the nearest rank, counted from one */

    rank = (uint64_t) (q * total);

    if ((double) rank < q * total || rank == 0) {
        rank++;
    }

    if (rank > total) {
        rank = total;
    }

    seen = 0;

    for (i = 0; i < NGX_HYBRID_HISTOGRAM_BUCKETS; i++) {
        seen += counts[i];

        if (seen >= rank) {
            break;
        }
    }

    lower = ngx_hybrid_histogram_lower(i);
    upper = ngx_hybrid_histogram_lower(i + 1);

    return lower + (upper - lower) / 2;
}
