
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * nginx's own lists of peers: the paths to the backends.  What probes have
 * found and what the operator says is written into them, so that whichever
 * of nginx's balancers goes by it.
 */


#ifndef _NGX_HTTP_HYBRID_PEERS_H_INCLUDED_
#define _NGX_HTTP_HYBRID_PEERS_H_INCLUDED_


#include "ngx_http_hybrid_module.h"


/* of an upstream; nginx itself may add some while it runs */
#define NGX_HTTP_HYBRID_PEERS_MAX    64

#define NGX_HTTP_HYBRID_PEERS_NAMES  16


typedef struct ngx_http_hybrid_home_s    ngx_http_hybrid_home_t;
typedef struct ngx_http_hybrid_lookup_s  ngx_http_hybrid_lookup_t;


/* a server that is written as a name */

typedef struct {
    ngx_str_t                      server;   /* as written */
    ngx_str_t                      label;    /* with the port */
    ngx_str_t                      host;
    in_port_t                      port;
    ngx_hybrid_doc_t              *doc;      /* its addresses */

    /* of this worker */
    ngx_atomic_uint_t              seen;
    ngx_http_hybrid_lookup_t      *lookup;
} ngx_http_hybrid_name_t;


/* an upstream, and those behind it */

struct ngx_http_hybrid_peers_s {
    ngx_http_upstream_srv_conf_t  *upstream;
    ngx_array_t                    backends; /* ngx_http_hybrid_backend_t * */
    ngx_http_hybrid_name_t        *names;
    ngx_uint_t                     nnames;
    ngx_uint_t                     n;        /* peers, at the start */
    ngx_http_hybrid_home_t        *homes;    /* of this worker */
    unsigned                       changing:1;  /* nginx looks up names */
};


/* a walk along the peers, in their order */

typedef struct {
    ngx_http_hybrid_peers_t       *peers;
    ngx_uint_t                     seen[NGX_HTTP_HYBRID_PEERS_NAMES];

    /* of the peer */
    ngx_str_t                      label;   /* the path's name */
    ngx_http_hybrid_name_t        *name;    /* that it comes from, or NULL */
    ngx_uint_t                     nth;     /* of those */
    ngx_uint_t                     down;    /* as configured */
    ngx_uint_t                     max_conns;
    u_char                         buf[NGX_HYBRID_PATH_NAME];
} ngx_http_hybrid_walk_t;


/* a copy, of what may change under the list's lock */

typedef struct {
    ngx_hybrid_path_t             *path;
    ngx_addr_t                     addr;     /* points to the two below */
    ngx_sockaddr_t                 sockaddr;
    u_char                         text[NGX_SOCKADDR_STRLEN];
} ngx_http_hybrid_peer_t;


ngx_int_t ngx_http_hybrid_peers_init_zone(ngx_http_hybrid_main_conf_t *hmcf,
    ngx_log_t *log);
void ngx_http_hybrid_peers_init_worker(ngx_http_hybrid_main_conf_t *hmcf);

/* the caller holds the lock of the list that it walks along */
void ngx_http_hybrid_walk_start(ngx_http_hybrid_walk_t *w,
    ngx_http_hybrid_peers_t *peers);
void ngx_http_hybrid_walk_peer(ngx_http_hybrid_walk_t *w,
    ngx_http_upstream_rr_peer_t *peer, ngx_uint_t backup);

/* a backend's, by its name, or by the connection's address; else NULL */
ngx_hybrid_path_t *ngx_http_hybrid_peers_path(
    ngx_http_hybrid_backend_t *backend, ngx_str_t *label);
ngx_hybrid_path_t *ngx_http_hybrid_peers_at(
    ngx_http_hybrid_backend_t *backend, ngx_peer_connection_t *pc);

/* what has changed is written into the peers that this worker sees */
void ngx_http_hybrid_peers_sync(ngx_http_hybrid_main_conf_t *hmcf);
void ngx_http_hybrid_peers_update(ngx_http_hybrid_main_conf_t *hmcf);

/* nginx itself may have looked up names: which paths there are now */
void ngx_http_hybrid_peers_refresh(ngx_http_hybrid_main_conf_t *hmcf);

/* names that are due, and addresses that are new */
void ngx_http_hybrid_resolve_look(ngx_http_hybrid_main_conf_t *hmcf);
void ngx_http_hybrid_resolve_exit(ngx_http_hybrid_main_conf_t *hmcf);

/* peers of a backend that may be used, at most NGX_HTTP_HYBRID_PEERS_MAX */
ngx_uint_t ngx_http_hybrid_peers_copy(ngx_http_hybrid_backend_t *backend,
    ngx_http_hybrid_peer_t *copy);

/* some path has come back lately and does not get all requests yet */
ngx_uint_t ngx_http_hybrid_peers_ramps(ngx_http_hybrid_main_conf_t *hmcf);

/* all are busy: paths that came back are used in full.  0: there are none */
ngx_uint_t ngx_http_hybrid_peers_hurry(ngx_http_hybrid_ctx_t *ctx);

/* a try of this request begins; ngx_http_hybrid_peers_leave() ends it */
void ngx_http_hybrid_peers_enter(ngx_http_hybrid_ctx_t *ctx);


#endif /* _NGX_HTTP_HYBRID_PEERS_H_INCLUDED_ */
