
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Revocations: a list in Redis, a document in the shared memory of each
 * gateway, and a set in each worker.
 */


#ifndef _NGX_HTTP_HYBRID_REVOKE_H_INCLUDED_
#define _NGX_HTTP_HYBRID_REVOKE_H_INCLUDED_


#include "ngx_http_hybrid_module.h"
#include "ngx_hybrid_revoked.h"


#define NGX_HTTP_HYBRID_REVOKE_INTERVAL  1000   /* msec */


/* what one turn of reading keeps from answer to answer */

typedef struct {
    ngx_pool_t                    *pool;
    ngx_hybrid_revoked_t          *theirs;  /* what Redis has: its state */
    ngx_hybrid_revoked_t          *set;     /* what is to be in force */
    ngx_uint_t                     next;    /* of set, that Redis lacks */
} ngx_http_hybrid_revoke_turn_t;


/* of this worker */

struct ngx_http_hybrid_revoke_s {
    ngx_http_hybrid_main_conf_t   *conf;
    ngx_hybrid_doc_t              *doc;
    ngx_str_t                      key;     /* in Redis */

    ngx_atomic_uint_t              generation;
    ngx_pool_t                    *pool;    /* of the set */
    ngx_hybrid_revoked_t          *set;     /* NULL: nothing is known */

    ngx_event_t                    timer;
    ngx_http_hybrid_revoke_turn_t  turn;
    unsigned                       pending:1;
};


/* makes the set that of the document; NGX_ERROR: no memory */
ngx_int_t ngx_http_hybrid_revoke_refresh(ngx_http_hybrid_revoke_t *revoke);

/* access/ngx_http_hybrid_revoke_poll.c */

ngx_int_t ngx_http_hybrid_revoke_poll(ngx_http_hybrid_revoke_t *revoke,
    ngx_cycle_t *cycle);
void ngx_http_hybrid_revoke_end(ngx_http_hybrid_revoke_t *revoke);
void ngx_http_hybrid_revoke_publish(ngx_http_hybrid_revoke_t *revoke,
    ngx_hybrid_revoked_t *set, ngx_msec_t next);
void ngx_http_hybrid_revoke_failed(ngx_http_hybrid_revoke_t *revoke,
    const char *why, redisReply *reply);

/*
 * access/ngx_http_hybrid_revoke_write.c: writes entries of turn.set, from
 * turn.next on, into Redis, and publishes the set.  NGX_DECLINED: Redis is
 * away.
 */
ngx_int_t ngx_http_hybrid_revoke_write(ngx_http_hybrid_revoke_t *revoke);
void ngx_http_hybrid_revoke_write_init(void);


#endif /* _NGX_HTTP_HYBRID_REVOKE_H_INCLUDED_ */
