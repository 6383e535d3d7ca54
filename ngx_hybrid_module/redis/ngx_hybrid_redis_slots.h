
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Slots of a cluster, and what its nodes say of them.
 */


#ifndef _NGX_HYBRID_REDIS_SLOTS_H_INCLUDED_
#define _NGX_HYBRID_REDIS_SLOTS_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <hiredis/hiredis.h>


#define NGX_HYBRID_REDIS_SLOTS  16384


/* host is in the reply; empty: that of the node that was asked */

typedef struct {
    ngx_uint_t    first;
    ngx_uint_t    last;
    ngx_str_t     host;
    in_port_t     port;
} ngx_hybrid_redis_range_t;


typedef struct {
    ngx_uint_t    slot;
    ngx_str_t     host;
    in_port_t     port;
    ngx_uint_t    ask;      /* for this command only */
} ngx_hybrid_redis_redirect_t;


/* of what is between the first "{" and the next "}", or of all of the key */
ngx_uint_t ngx_hybrid_redis_slot(ngx_str_t *key);

/*
 * The answer to CLUSTER SLOTS: ranges has room for as many elements.
 * NGX_DECLINED: a node has a name instead of an address, which is in *name;
 * NGX_ERROR: no such answer, or a slot of two nodes, or no slots at all.
 */
ngx_int_t ngx_hybrid_redis_slots(redisReply *reply,
    ngx_hybrid_redis_range_t *ranges, ngx_str_t *name);

/* "MOVED slot host:port" or "ASK slot host:port"; results as above */
ngx_int_t ngx_hybrid_redis_redirect(redisReply *reply,
    ngx_hybrid_redis_redirect_t *redirect);

/* whether it can be connected to without looking up a name */
ngx_uint_t ngx_hybrid_redis_literal(ngx_str_t *host);


#endif /* _NGX_HYBRID_REDIS_SLOTS_H_INCLUDED_ */
