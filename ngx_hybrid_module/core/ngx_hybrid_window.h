
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * How often something happened of late, in shared memory: of a number that
 * only grows, its values at the beginning of the last steps.
 */


#ifndef _NGX_HYBRID_WINDOW_H_INCLUDED_
#define _NGX_HYBRID_WINDOW_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


#define NGX_HYBRID_WINDOW_STEPS  12


typedef struct {
    ngx_msec_t                 begun;    /* of the current step */
    ngx_atomic_uint_t          seen;     /* the number, when last asked */
    ngx_uint_t                 step;
    ngx_uint_t                 used;     /* it was asked before */
    ngx_atomic_uint_t          past[NGX_HYBRID_WINDOW_STEPS];
} ngx_hybrid_window_t;


/*
 * How much "total" has grown in the last "length" msec, or up to a twelfth
 * less than that.  A window of zeros is as old as a total that began with
 * zero.  It is for one caller at a time, from time to time.
 */
ngx_atomic_uint_t ngx_hybrid_window_count(ngx_hybrid_window_t *window,
    ngx_atomic_uint_t total, ngx_msec_t length, ngx_msec_t now);


#endif /* _NGX_HYBRID_WINDOW_H_INCLUDED_ */
