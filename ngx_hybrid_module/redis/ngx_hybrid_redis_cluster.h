
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * The nodes of a cluster, and who has which slots.
 */


#ifndef _NGX_HYBRID_REDIS_CLUSTER_H_INCLUDED_
#define _NGX_HYBRID_REDIS_CLUSTER_H_INCLUDED_


#include "ngx_hybrid_redis_node.h"
#include "ngx_hybrid_redis_slots.h"


#define NGX_HYBRID_REDIS_CLUSTER_NODES  1000
#define NGX_HYBRID_REDIS_CLUSTER_NONE   0xffff

/* msec */
#define NGX_HYBRID_REDIS_CLUSTER_SOON   20


struct ngx_hybrid_redis_cluster_s {
    ngx_hybrid_redis_t        *rd;
    ngx_hybrid_redis_node_t  **nodes;    /* may have NULL in between */
    ngx_uint_t                 n;
    ngx_uint_t                 current;  /* is asked for the map */
    ngx_uint_t                 failures; /* in a row */
    ngx_event_t                timer;
    ngx_msec_t                 asked;
    ngx_msec_t                 logged;
    unsigned                   known:1;
    unsigned                   asking:1;
    unsigned                   again:1;  /* ask once more */
    unsigned                   said:1;
    unsigned                   closing:1;
    uint16_t                   slots[NGX_HYBRID_REDIS_SLOTS];
};


/* an index of nodes, or NONE: no memory, or too many */
ngx_uint_t ngx_hybrid_redis_cluster_add(
    ngx_hybrid_redis_cluster_t *cluster, ngx_str_t *host, in_port_t port);

/* the first time at once; later it is connected to by its timer */
ngx_uint_t ngx_hybrid_redis_cluster_open(
    ngx_hybrid_redis_node_t *node);

/* of the configuration: it stays */
ngx_uint_t ngx_hybrid_redis_cluster_seed(
    ngx_hybrid_redis_node_t *node);

/* what may be NULL; once a minute, until the map is known again */
void ngx_hybrid_redis_cluster_say(ngx_hybrid_redis_cluster_t *cluster,
    ngx_hybrid_redis_node_t *node, const char *why, ngx_str_t *what);


/* redis/ngx_hybrid_redis_cluster_map.c */

void ngx_hybrid_redis_cluster_ask(ngx_hybrid_redis_cluster_t *cluster);

/* asks in this time, or a moment after the last time */
void ngx_hybrid_redis_cluster_soon(ngx_hybrid_redis_cluster_t *cluster,
    ngx_msec_t pause);
void ngx_hybrid_redis_cluster_handler(ngx_event_t *ev);


#endif /* _NGX_HYBRID_REDIS_CLUSTER_H_INCLUDED_ */
