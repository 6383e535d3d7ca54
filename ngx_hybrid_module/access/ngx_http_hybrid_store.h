
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Clients that live in Redis:
 *
 *     <prefix>client:{NAME}   hash, the statements of the block: a field's
 *                             value is the arguments of one, and of further
 *                             ones of the same name on further lines
 *     <prefix>identities      hash, an identity is the name of the client:
 *                             "token:<id>", "jwt:<issuer>:<claim>=<value>",
 *                             "cert:sha256=<hex>", "cert:san=dns:<name>",
 *                             "cert:san=uri:...", "cert:san=email:...";
 *                             ".epoch" (of the first write), ".seq" and
 *                             ".version" (of the last one) tell of changes,
 *                             ".pending" names who is in the middle of one:
 *                             ".version" begins with "!" then
 *
 * A "jwt" line is found by its first condition, a "cert" line by one that is
 * no subject; whether all of it holds is seen when the client is there.
 *
 * One worker of a gateway reads the identities when they have changed, and
 * publishes a set of their hashes: whoever is not in there never reaches
 * Redis.  A client itself is fetched by the worker that needs it.
 */


#ifndef _NGX_HTTP_HYBRID_STORE_H_INCLUDED_
#define _NGX_HTTP_HYBRID_STORE_H_INCLUDED_


#include "ngx_http_hybrid_module.h"


#define NGX_HTTP_HYBRID_STORE_INTERVAL  1000      /* msec */
#define NGX_HTTP_HYBRID_STORE_CLIENTS   2048      /* kept by a worker */
#define NGX_HTTP_HYBRID_STORE_MAX       1000000   /* identities */

/* the longest identity; a longer one is nobody's */
#define NGX_HTTP_HYBRID_STORE_IDENTITY  512

#define NGX_HTTP_HYBRID_STORE_WORD      64


/* the document: this, and slots of 8 bytes, 0 is a free one */

typedef struct {
    uint64_t                        magic;
    uint64_t                        seq;
    uint64_t                        n;
    uint64_t                        nslots;
    uint64_t                        files;    /* hash of the files' clients */
    u_char                          epoch[NGX_HTTP_HYBRID_STORE_WORD];
    u_char                          version[NGX_HTTP_HYBRID_STORE_WORD];
} ngx_http_hybrid_store_index_t;


/* an identity that was asked for, as long as there is room */

typedef struct ngx_http_hybrid_store_entry_s  ngx_http_hybrid_store_entry_t;

struct ngx_http_hybrid_store_entry_s {
    ngx_str_node_t                  sn;
    ngx_queue_t                     queue;    /* the last used is first */
    ngx_queue_t                     waiters;  /* ctx->waiter */
    ngx_http_hybrid_store_t        *store;
    ngx_http_hybrid_client_t       *client;   /* NULL: see rc */
    ngx_int_t                       rc;
    ngx_atomic_uint_t               generation;
    ngx_atomic_uint_t               asked;    /* generation, when it was */
    ngx_msec_t                      answered;
    ngx_msec_t                      asked_for;  /* by a request, last */
    ngx_msec_t                      logged;
    ngx_str_t                       name;     /* of the client, in a fetch */
    unsigned                        pending:1;
    unsigned                        said:1;
};


/* of this worker */

struct ngx_http_hybrid_store_s {
    ngx_http_hybrid_main_conf_t    *conf;
    ngx_hybrid_doc_t               *doc;
    ngx_str_t                       key;        /* of the identities */
    uint64_t                        files;

    ngx_rbtree_t                    entries;
    ngx_rbtree_node_t               sentinel;
    ngx_queue_t                     used;
    ngx_uint_t                      nentries;
    ngx_msec_t                      wanted;     /* room in the zone, seen */

    ngx_atomic_uint_t               generation; /* of the copy below */
    ngx_msec_t                      changed;
    ngx_pool_t                     *pool;
    ngx_http_hybrid_store_index_t   index;
    u_char                         *slots;      /* NULL: nothing is known */

    ngx_event_t                     timer;
    ngx_http_hybrid_store_index_t  *scan;       /* under way */
    ngx_msec_t                      torn;       /* a change, since, or 0 */
    unsigned                        pending:1;
};


/*
 * NGX_OK: the client is held by its entry; NGX_DECLINED: nobody has this
 * identity; NGX_AGAIN: ctx waits and will be resumed; NGX_BUSY: not known now
 */
ngx_int_t ngx_http_hybrid_store_find(ngx_http_hybrid_ctx_t *ctx,
    ngx_str_t *identity, ngx_http_hybrid_client_t **client);

/* if there is no room in the zone for another's client: who was idle goes */
void ngx_http_hybrid_store_trim(ngx_http_hybrid_store_t *store);

/* access/ngx_http_hybrid_store_index.c */

/* NGX_OK: it is there, NGX_DECLINED: it isn't; NGX_ERROR: nobody knows yet */
ngx_int_t ngx_http_hybrid_store_has(ngx_http_hybrid_store_t *store,
    ngx_str_t *identity);

/* nothing has changed since the client was asked for */
ngx_uint_t ngx_http_hybrid_store_fresh(ngx_http_hybrid_store_t *store,
    ngx_http_hybrid_client_t *client);
void ngx_http_hybrid_store_poll(ngx_http_hybrid_store_t *store,
    ngx_cycle_t *cycle);
void ngx_http_hybrid_store_end(ngx_http_hybrid_store_t *store);

uint64_t ngx_http_hybrid_store_hash(ngx_http_hybrid_store_t *store,
    ngx_str_t *identity);

/* 1: slot is the hash's; 0: it is free for it, NULL: none is */
ngx_uint_t ngx_http_hybrid_store_slot(u_char *slots, uint64_t nslots,
    uint64_t hash, u_char **slot);

/* a step of a turn: NGX_DECLINED: it has failed */
ngx_int_t ngx_http_hybrid_store_ask(ngx_http_hybrid_store_t *store,
    ngx_uint_t argc, ngx_str_t *argv, ngx_hybrid_redis_handler_pt handler);

/* 1: the turn has ended, by this answer or by our own end */
ngx_uint_t ngx_http_hybrid_store_over(ngx_http_hybrid_store_t *store,
    redisReply *reply);
void ngx_http_hybrid_store_failed(ngx_http_hybrid_store_t *store,
    const char *why, redisReply *reply);

/* access/ngx_http_hybrid_store_scan.c */
void ngx_http_hybrid_store_scan(ngx_http_hybrid_store_t *store,
    ngx_http_hybrid_store_index_t *index);

/* access/ngx_http_hybrid_store_client.c */

#define NGX_HTTP_HYBRID_STORE_ERROR  512

/*
 * The client of a hash's fields and values, in a pool of its own and with
 * one user.  NULL: it is not valid, and error says why.
 */
ngx_http_hybrid_client_t *ngx_http_hybrid_store_client(
    ngx_http_hybrid_store_t *store, ngx_str_t *name, redisReply *reply,
    ngx_str_t *error);

/* a client of the files has this name: it wins, which is said once */
ngx_uint_t ngx_http_hybrid_store_clash(ngx_http_hybrid_store_t *store,
    ngx_str_t *name);


#endif /* _NGX_HTTP_HYBRID_STORE_H_INCLUDED_ */
