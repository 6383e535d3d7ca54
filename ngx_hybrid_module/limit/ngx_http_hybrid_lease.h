
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Credits that this gateway has got from Redis for a client.
 */


#ifndef _NGX_HTTP_HYBRID_LEASE_H_INCLUDED_
#define _NGX_HTTP_HYBRID_LEASE_H_INCLUDED_


#include "ngx_http_hybrid_module.h"


/*
 * Of one client in one worker.  The credits themselves are in shared memory;
 * each worker asks Redis by itself, one question at a time, for all its
 * requests that wait.
 */

struct ngx_http_hybrid_lease_s {
    ngx_http_hybrid_main_conf_t  *conf;
    ngx_http_hybrid_client_t     *client;
    ngx_queue_t                   waiters;   /* ctx->waiter */
    ngx_uint_t                    nwaiters;
    ngx_uint_t                    batch;
    ngx_uint_t                    want;      /* asked for in this refill */
    ngx_str_t                     key;
    ngx_event_t                   late;      /* the oldest waiter's end */
    unsigned                      pending:1;
    unsigned                      refused:1; /* said so in the log */
};


/*
 * Takes a credit out of the lease: 1 when there was one, and room in the
 * gateway's own bucket; else wait is the usec until there is room, or 0.
 */
ngx_uint_t ngx_http_hybrid_lease_take(ngx_http_hybrid_lease_t *lease,
    uint64_t *wait);

/* whether Redis is known to decide; if not it is asked, for those to come */
ngx_uint_t ngx_http_hybrid_lease_holds(ngx_http_hybrid_lease_t *lease);

/* msec until Redis may have a credit again, 0: ask */
ngx_msec_t ngx_http_hybrid_lease_dry(ngx_http_hybrid_lease_t *lease);

/* NGX_AGAIN: ctx waits and will be resumed; NGX_DECLINED: Redis is away */
ngx_int_t ngx_http_hybrid_lease_wait(ngx_http_hybrid_lease_t *lease,
    ngx_http_hybrid_ctx_t *ctx);

/* limit.c: 0, or usec until the gateway's own bucket has room */
uint64_t ngx_http_hybrid_limit_take(ngx_http_hybrid_client_t *client);

/* limit.c: what holds without Redis; NGX_OK or a refusal */
ngx_int_t ngx_http_hybrid_limit_local(ngx_http_hybrid_ctx_t *ctx);
ngx_int_t ngx_http_hybrid_limit_lost(ngx_http_hybrid_ctx_t *ctx);
ngx_int_t ngx_http_hybrid_limit_refuse(ngx_http_hybrid_ctx_t *ctx,
    uint64_t wait);

/* lease.c hands a waiting request its answer */
void ngx_http_hybrid_limit_settle(ngx_http_hybrid_ctx_t *ctx, ngx_int_t rc);


#endif /* _NGX_HTTP_HYBRID_LEASE_H_INCLUDED_ */
