
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * The generic cell rate algorithm (ITU-T I.371): a bucket is one number, the
 * theoretical arrival time (tat).  What is admitted moves it on by its cost;
 * it is refused when that would be more than the span ahead of the clock, so
 * that no stretch of time t admits more than what costs span + t.  A unit
 * costs "interval", and a burst of them is the span.  All times are
 * microseconds of one clock, but for intervals, which are nanoseconds.
 */


#ifndef _NGX_HYBRID_GCRA_H_INCLUDED_
#define _NGX_HYBRID_GCRA_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/* a hundred years: longer ones are cut to it, so that sums don't overflow */
#define NGX_HYBRID_GCRA_MAX  (36525ULL * 86400 * 1000000)


/* of n units, rounded up: never more than was allowed */
uint64_t ngx_hybrid_gcra_cost(uint64_t interval, uint64_t n);

/* 0: admitted, else microseconds until it can be */
uint64_t ngx_hybrid_gcra_take(ngx_atomic_t *tat, uint64_t now, uint64_t cost,
    uint64_t span);

/* gives back what was taken */
void ngx_hybrid_gcra_refund(ngx_atomic_t *tat, uint64_t cost);

/* charges what was admitted otherwise; never further ahead than "deepest" */
void ngx_hybrid_gcra_charge(ngx_atomic_t *tat, uint64_t now, uint64_t cost,
    uint64_t deepest);

/* another interval or burst: the bucket is no emptier than empty */
void ngx_hybrid_gcra_limit(ngx_atomic_t *tat, uint64_t now, uint64_t span);

/* how far ahead it is */
uint64_t ngx_hybrid_gcra_ahead(ngx_atomic_t *tat, uint64_t now);


#endif /* _NGX_HYBRID_GCRA_H_INCLUDED_ */
