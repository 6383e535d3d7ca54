
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Probes: the paths of a backend are asked for its list of models, once an
 * interval over all workers.
 */


#ifndef _NGX_HTTP_HYBRID_PROBE_H_INCLUDED_
#define _NGX_HTTP_HYBRID_PROBE_H_INCLUDED_


#include "ngx_http_hybrid_peers.h"


/* bytes of an answer: 10,000 models take less */
#define NGX_HTTP_HYBRID_PROBE_MAX  (8 * 1024 * 1024)


typedef struct ngx_http_hybrid_turn_s  ngx_http_hybrid_turn_t;
typedef struct ngx_http_hybrid_ask_s   ngx_http_hybrid_ask_t;


/* where to, and what the answer is for */

struct ngx_http_hybrid_target_s {
    ngx_hybrid_fetch_target_t      fetch;
    ngx_str_t                      uri;      /* of the list */
    ngx_str_t                      ps;       /* empty: there is none */
    ngx_str_t                      version;  /* the same */
};


typedef void (*ngx_http_hybrid_ask_pt)(ngx_http_hybrid_ask_t *ask,
    ngx_hybrid_fetch_t *f);


struct ngx_http_hybrid_ask_s {
    ngx_http_hybrid_turn_t        *turn;
    ngx_http_hybrid_peer_t        *peer;
    ngx_http_hybrid_ask_pt         handler;
    ngx_hybrid_fetch_t            *fetch;
    ngx_msec_t                     start;
    uint64_t                       usec;
    ngx_http_hybrid_ask_t         *next;
};


/* of a worker: the asks in flight are freed with the pool when all ended */

struct ngx_http_hybrid_turn_s {
    ngx_http_hybrid_backend_t     *backend;
    ngx_http_hybrid_prober_t      *prober;
    ngx_pool_t                    *pool;     /* NULL: it is not our turn */
    ngx_msec_t                     start;
    ngx_uint_t                     pending;
    ngx_http_hybrid_ask_t         *asks;
    ngx_str_t                      late;     /* a model that does not leave */
    ngx_str_t                      error;    /* why there is no list */
    unsigned                       listed:1; /* there is one */
    unsigned                       asked:1;  /* what comes after it */
    unsigned                       alive:1;  /* some path has answered */
};


struct ngx_http_hybrid_prober_s {
    ngx_http_hybrid_main_conf_t   *conf;
    ngx_log_t                     *log;
    ngx_event_t                    timer;
    ngx_connection_t               dummy;
    ngx_uint_t                     n;
    ngx_http_hybrid_turn_t        *turns;
};


/* one more request of this turn.  NGX_ERROR: no memory, it is left out */
ngx_int_t ngx_http_hybrid_probe_ask(ngx_http_hybrid_turn_t *turn,
    ngx_http_hybrid_peer_t *peer, ngx_str_t *uri,
    ngx_http_hybrid_ask_pt handler);

/* somebody would like to have a look now */
void ngx_http_hybrid_probe_wanted(ngx_http_hybrid_main_conf_t *hmcf,
    ngx_http_hybrid_backend_t *backend);


#endif /* _NGX_HTTP_HYBRID_PROBE_H_INCLUDED_ */
