
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * A log-linear histogram of microseconds: 16 buckets an octave, so that the
 * middle of a bucket is within 1/32 of every value in it, from 16 us to
 * NGX_HYBRID_HISTOGRAM_MAX; single microseconds below.  The idea is that of
 * HdrHistogram (https://hdrhistogram.github.io/HdrHistogram/).  Histograms
 * with the same buckets are merged by adding counts.
 */


#ifndef _NGX_HYBRID_HISTOGRAM_H_INCLUDED_
#define _NGX_HYBRID_HISTOGRAM_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


#define NGX_HYBRID_HISTOGRAM_SUB      16
#define NGX_HYBRID_HISTOGRAM_BUCKETS  464

/* greater values are counted as this one: 71 minutes */
#define NGX_HYBRID_HISTOGRAM_MAX      0xffffffffULL


/* of a value in microseconds */
ngx_uint_t ngx_hybrid_histogram_index(uint64_t us);

/* the first microsecond of a bucket; that of the next one is its end */
uint64_t ngx_hybrid_histogram_lower(ngx_uint_t index);

/* microseconds, 0 when nothing was counted; q from 0 to 1 */
uint64_t ngx_hybrid_histogram_quantile(uint64_t *counts, double q);


#endif /* _NGX_HYBRID_HISTOGRAM_H_INCLUDED_ */
