
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * The generic cell rate algorithm (ITU-T I.371): a bucket is one number, the
 * theoretical arrival time (tat).  A request moves it on by "interval"; it is
 * refused while the tat is more than burst - 1 intervals ahead, so that no
 * span of time t admits more than burst + t / interval.  All times are
 * microseconds of one clock.
 */


#ifndef _NGX_HYBRID_GCRA_H_INCLUDED_
#define _NGX_HYBRID_GCRA_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/* 0: admitted, else microseconds until the next request can be */
uint64_t ngx_hybrid_gcra_take(ngx_atomic_t *tat, uint64_t now,
    uint64_t interval, ngx_uint_t burst);

/* gives back what was taken a moment ago */
void ngx_hybrid_gcra_refund(ngx_atomic_t *tat, uint64_t interval);

/* charges a request that another bucket has admitted; never runs deep */
void ngx_hybrid_gcra_charge(ngx_atomic_t *tat, uint64_t now,
    uint64_t interval, ngx_uint_t burst);

/* another interval or burst: the bucket is no emptier than empty */
void ngx_hybrid_gcra_limit(ngx_atomic_t *tat, uint64_t now, uint64_t interval,
    ngx_uint_t burst);


#endif /* _NGX_HYBRID_GCRA_H_INCLUDED_ */
