
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * What others show of a client's limits: headers, status pages, hybrid_admin.
 */


#ifndef _NGX_HTTP_HYBRID_LIMITS_H_INCLUDED_
#define _NGX_HTTP_HYBRID_LIMITS_H_INCLUDED_


#include "ngx_http_hybrid_module.h"


/* those of ngx_hybrid_meter_e, and requests at a time */

#define NGX_HTTP_HYBRID_LIMIT_SLOTS  ngx_hybrid_meters
#define NGX_HTTP_HYBRID_LIMITS       (ngx_hybrid_meters + 1)


/* of a budget quota, burst and left are millionths of money */

typedef struct {
    uint64_t                       quota;
    uint64_t                       burst;
    uint64_t                       left;
    uint64_t                       leased;  /* here, of what is left */
    uint64_t                       reset;   /* usec until all is there */
    ngx_uint_t                     window;  /* seconds, 0: of slots */
    ngx_uint_t                     monthly;
} ngx_http_hybrid_left_t;


extern ngx_str_t  ngx_http_hybrid_limit_names[];


/*
 * As far as this gateway knows; redis: that decides at present.  NGX_DECLINED:
 * there is no such limit.
 */
ngx_int_t ngx_http_hybrid_limit_left(ngx_hybrid_shm_client_t *shared,
    ngx_uint_t n, ngx_uint_t redis, ngx_http_hybrid_left_t *left);

/* RateLimit and what the dialect of the request has */
ngx_int_t ngx_http_hybrid_limit_headers(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx);


#endif /* _NGX_HTTP_HYBRID_LIMITS_H_INCLUDED_ */
