
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


/* tokens that a request is likely to use, before it is sent */
void ngx_http_hybrid_usage_expect(ngx_http_hybrid_ctx_t *ctx, uint64_t *input,
    uint64_t *output);

/*
 * One more of a client's requests waits, for its limits or for a machine; 0:
 * as many as may do already.  It goes on, or away.
 */
ngx_uint_t ngx_http_hybrid_client_wait(ngx_http_hybrid_client_t *client);
void ngx_http_hybrid_client_go(ngx_http_hybrid_client_t *client);

/*
 * As far as this gateway knows; redis: that decides at present.  NGX_DECLINED:
 * there is no such limit.
 */
ngx_int_t ngx_http_hybrid_limit_left(ngx_hybrid_shm_client_t *shared,
    ngx_uint_t n, ngx_uint_t redis, ngx_http_hybrid_left_t *left);

/* "waiting" and "limits" of a client, members of a JSON object */
u_char *ngx_http_hybrid_limits_json(ngx_hybrid_shm_client_t *shared,
    ngx_uint_t redis, u_char *p, u_char *end);

/* Redis is asked what is left, for file clients; and whether that goes on */
void ngx_http_hybrid_limit_ask(ngx_http_hybrid_client_t *client);
ngx_uint_t ngx_http_hybrid_limit_asking(ngx_http_hybrid_client_t *client);

/*
 * An operator gives the client all but its requests at a time back.  op: done
 * is set when Redis has answered, and "told" when it did it; NGX_DECLINED: it
 * was done in this gateway alone, as there is no Redis that answers.  Who waits
 * for it no more resets this gateway, sets "gone", and the op goes by itself.
 */

typedef struct {
    ngx_hybrid_shm_client_t       *shared;
    unsigned                       done:1;
    unsigned                       told:1;
    unsigned                       gone:1;
} ngx_http_hybrid_reset_t;

ngx_int_t ngx_http_hybrid_limit_reset(ngx_http_hybrid_main_conf_t *hmcf,
    ngx_str_t *name, ngx_hybrid_shm_client_t *shared,
    ngx_http_hybrid_reset_t **op);
void ngx_http_hybrid_limit_reset_own(ngx_hybrid_shm_client_t *shared);

/* RateLimit and what the dialect of the request has */
ngx_int_t ngx_http_hybrid_limit_headers(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx);


#endif /* _NGX_HTTP_HYBRID_LIMITS_H_INCLUDED_ */
