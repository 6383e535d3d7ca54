
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Numbers that are shown: a copy of a series in the zone, or what several
 * gateways have counted, added up.
 */


#include "ngx_http_hybrid_stats.h"


static uint64_t *ngx_http_hybrid_sum_octave(ngx_pool_t *pool,
    ngx_http_hybrid_sum_t *sum, ngx_uint_t table, ngx_uint_t octave);


/* of a request, the outcome is counted last: what is copied has its times */

ngx_http_hybrid_sum_t *
ngx_http_hybrid_sum_copy(ngx_pool_t *pool, ngx_hybrid_series_sh_t *sh,
    ngx_hybrid_series_t *series)
{
    uint64_t               *to;
    ngx_uint_t              i, o, t;
    ngx_hybrid_octave_t    *octave;
    ngx_http_hybrid_sum_t  *sum;

    sum = ngx_pcalloc(pool, sizeof(ngx_http_hybrid_sum_t));
    if (sum == NULL) {
        return NULL;
    }

    for (i = 0; i < NGX_HYBRID_COUNTS; i++) {
        sum->counts[i] = series->now.counts[i];
    }

    ngx_memory_barrier();

    for (i = 0; i < ngx_hybrid_timer_n; i++) {
        sum->sums[i] = series->now.sums[i];
    }

    for (t = 0; t < ngx_hybrid_tables; t++) {
        for (o = 0; o < NGX_HYBRID_OCTAVES; o++) {

            octave = ngx_hybrid_series_octave(sh, series, t, o);

            if (octave == NULL) {
                continue;
            }

            to = ngx_http_hybrid_sum_octave(pool, sum, t, o);
            if (to == NULL) {
                return NULL;
            }

            for (i = 0; i < NGX_HYBRID_OCTAVE; i++) {
                to[i] = octave->now[i];
            }
        }
    }

    return sum;
}


static uint64_t *
ngx_http_hybrid_sum_octave(ngx_pool_t *pool, ngx_http_hybrid_sum_t *sum,
    ngx_uint_t table, ngx_uint_t octave)
{
    uint64_t  **counts;

    counts = &sum->octaves[table][octave];

    if (*counts == NULL) {
        *counts = ngx_pcalloc(pool, NGX_HYBRID_OCTAVE * sizeof(uint64_t));
    }

    return *counts;
}


ngx_int_t
ngx_http_hybrid_sum_count(ngx_pool_t *pool, ngx_http_hybrid_sum_t *sum,
    ngx_uint_t table, ngx_uint_t bucket, uint64_t n)
{
    uint64_t  *counts;

    counts = ngx_http_hybrid_sum_octave(pool, sum, table,
                                        bucket / NGX_HYBRID_OCTAVE);
    if (counts == NULL) {
        return NGX_ERROR;
    }

    counts[bucket % NGX_HYBRID_OCTAVE] += n;

    return NGX_OK;
}


ngx_int_t
ngx_http_hybrid_sum_add(ngx_pool_t *pool, ngx_http_hybrid_sum_t *sum,
    ngx_http_hybrid_sum_t *other)
{
    uint64_t    *to;
    ngx_uint_t   i, o, t;

    for (i = 0; i < NGX_HYBRID_COUNTS; i++) {
        sum->counts[i] += other->counts[i];
    }

    for (i = 0; i < ngx_hybrid_timer_n; i++) {
        sum->sums[i] += other->sums[i];
    }

    for (t = 0; t < ngx_hybrid_tables; t++) {
        for (o = 0; o < NGX_HYBRID_OCTAVES; o++) {

            if (other->octaves[t][o] == NULL) {
                continue;
            }

            to = ngx_http_hybrid_sum_octave(pool, sum, t, o);
            if (to == NULL) {
                return NGX_ERROR;
            }

            for (i = 0; i < NGX_HYBRID_OCTAVE; i++) {
                to[i] += other->octaves[t][o][i];
            }
        }
    }

    return NGX_OK;
}


uint64_t
ngx_http_hybrid_sum_table(ngx_http_hybrid_sum_t *sum, ngx_uint_t table,
    uint64_t *buckets)
{
    uint64_t    n;
    ngx_uint_t  i, o;

    n = 0;

    for (o = 0; o < NGX_HYBRID_OCTAVES; o++) {
        for (i = 0; i < NGX_HYBRID_OCTAVE; i++) {

            *buckets = sum->octaves[table][o] ? sum->octaves[table][o][i] : 0;
            n += *buckets++;
        }
    }

    return n;
}
