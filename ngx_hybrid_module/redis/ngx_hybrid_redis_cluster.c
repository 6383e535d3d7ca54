
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Nodes of a cluster are connected to when they are needed, and each is away
 * for its own slots only.  The map of the slots is asked for all some
 * seconds, and soon when a node says that it is out of date or is lost; one
 * question is under way at a time.  Until there is one, commands go to any
 * node, which tells the right one.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include "ngx_hybrid_redis_cluster.h"


/* how often a command is sent again */
#define NGX_HYBRID_REDIS_CLUSTER_HOPS  3

/* msec */
#define NGX_HYBRID_REDIS_CLUSTER_LOG   60000


static ngx_uint_t ngx_hybrid_redis_cluster_find(
    ngx_hybrid_redis_cluster_t *cluster, ngx_str_t *host, in_port_t port);
static ngx_hybrid_redis_node_t *ngx_hybrid_redis_cluster_any(
    ngx_hybrid_redis_cluster_t *cluster);
static ngx_int_t ngx_hybrid_redis_cluster_refused(
    ngx_hybrid_redis_node_t *node, ngx_hybrid_redis_op_t *op,
    redisReply *reply);
static ngx_int_t ngx_hybrid_redis_cluster_redirect(
    ngx_hybrid_redis_node_t *node, ngx_hybrid_redis_op_t *op,
    redisReply *reply);
static ngx_int_t ngx_hybrid_redis_cluster_gone(ngx_hybrid_redis_node_t *node);


static ngx_hybrid_redis_hooks_t  ngx_hybrid_redis_cluster_hooks = {
    "redis",
    ", limits of its slots hold as \"loss=\" says",
    NGX_LOG_ERR,
    "PING",
    NULL,
    ngx_hybrid_redis_cluster_refused,
    ngx_hybrid_redis_cluster_gone,
    1
};


ngx_hybrid_redis_cluster_t *
ngx_hybrid_redis_cluster_create(ngx_hybrid_redis_t *rd, ngx_cycle_t *cycle)
{
    ngx_uint_t                   i;
    ngx_hybrid_redis_addr_t     *addrs;
    ngx_hybrid_redis_node_t     *node;
    ngx_hybrid_redis_cluster_t  *cluster;

    cluster = ngx_pcalloc(cycle->pool, sizeof(ngx_hybrid_redis_cluster_t));
    if (cluster == NULL) {
        return NULL;
    }

    cluster->nodes = ngx_pcalloc(cycle->pool, NGX_HYBRID_REDIS_CLUSTER_NODES
                                        * sizeof(ngx_hybrid_redis_node_t *));
    if (cluster->nodes == NULL) {
        return NULL;
    }

    cluster->rd = rd;

    ngx_memset(cluster->slots, 0xff, sizeof(cluster->slots));

    cluster->timer.handler = ngx_hybrid_redis_cluster_handler;
    cluster->timer.data = cluster;
    cluster->timer.log = cycle->log;
    cluster->timer.cancelable = 1;

    addrs = rd->conf->addresses.elts;

    for (i = 0; i < rd->conf->addresses.nelts; i++) {

        node = ngx_palloc(cycle->pool, sizeof(ngx_hybrid_redis_node_t));
        if (node == NULL) {
            return NULL;
        }

        ngx_hybrid_redis_node_init(node, rd->conf,
                                   &ngx_hybrid_redis_cluster_hooks, cluster,
                                   cycle->log);
        node->addr = addrs[i];

        cluster->nodes[cluster->n++] = node;
    }

    /* workers of all gateways begin with another one */

    cluster->current = ngx_random() % cluster->n;

    ngx_hybrid_redis_cluster_ask(cluster);

    return cluster;
}


void
ngx_hybrid_redis_cluster_destroy(ngx_hybrid_redis_cluster_t *cluster)
{
    ngx_uint_t                i;
    ngx_hybrid_redis_node_t  *node;

    cluster->closing = 1;

    for (i = 0; i < cluster->n; i++) {
        node = cluster->nodes[i];

        if (node == NULL) {
            continue;
        }

        ngx_hybrid_redis_node_destroy(node);

        if (!ngx_hybrid_redis_cluster_seed(node)) {
            ngx_free(node);
        }

        cluster->nodes[i] = NULL;
    }

    if (cluster->timer.timer_set) {
        ngx_del_timer(&cluster->timer);
    }
}


ngx_hybrid_redis_node_t *
ngx_hybrid_redis_cluster_node(ngx_hybrid_redis_cluster_t *cluster,
    ngx_str_t *key)
{
    ngx_uint_t                i;
    ngx_hybrid_redis_node_t  *node;

    if (cluster->closing) {
        return NULL;
    }

    if (key == NULL || !cluster->known) {

        /* one that is no cluster must not pass for one */

        return key && cluster->said ? NULL
                                    : ngx_hybrid_redis_cluster_any(cluster);
    }

    i = cluster->slots[ngx_hybrid_redis_slot(key)];

    if (i == NGX_HYBRID_REDIS_CLUSTER_NONE) {
        return NULL;
    }

    node = cluster->nodes[i];

    (void) ngx_hybrid_redis_cluster_open(node);

    return node;
}


static ngx_hybrid_redis_node_t *
ngx_hybrid_redis_cluster_any(ngx_hybrid_redis_cluster_t *cluster)
{
    ngx_uint_t                i;
    ngx_hybrid_redis_node_t  *node, *first;

    first = NULL;

    for (i = 0; i < cluster->n; i++) {
        node = cluster->nodes[i];

        if (node == NULL || node->ac == NULL) {
            continue;
        }

        if (node->ready) {
            return node;
        }

        if (node->first) {
            first = node;
        }
    }

    return first;
}


/* the first time at once; later it is connected to by its timer */

ngx_uint_t
ngx_hybrid_redis_cluster_open(ngx_hybrid_redis_node_t *node)
{
    if (node->ac == NULL && !node->reconnect.timer_set) {
        ngx_hybrid_redis_node_connect(node);
    }

    return node->ac != NULL;
}


static ngx_uint_t
ngx_hybrid_redis_cluster_find(ngx_hybrid_redis_cluster_t *cluster,
    ngx_str_t *host, in_port_t port)
{
    ngx_uint_t                i;
    ngx_hybrid_redis_node_t  *node;

    for (i = 0; i < cluster->n; i++) {
        node = cluster->nodes[i];

        if (node && node->addr.port == port
            && ngx_strncmp(node->addr.host, host->data, host->len) == 0
            && node->addr.host[host->len] == '\0')
        {
            return i;
        }
    }

    return NGX_HYBRID_REDIS_CLUSTER_NONE;
}


ngx_uint_t
ngx_hybrid_redis_cluster_add(ngx_hybrid_redis_cluster_t *cluster,
    ngx_str_t *host, in_port_t port)
{
    ngx_uint_t                i;
    ngx_hybrid_redis_node_t  *node;

    i = ngx_hybrid_redis_cluster_find(cluster, host, port);

    if (i != NGX_HYBRID_REDIS_CLUSTER_NONE) {
        return i;
    }

    for (i = 0; i < cluster->n; i++) {
        if (cluster->nodes[i] == NULL) {
            break;
        }
    }

    if (i == NGX_HYBRID_REDIS_CLUSTER_NODES) {
        return NGX_HYBRID_REDIS_CLUSTER_NONE;
    }

    node = ngx_alloc(sizeof(ngx_hybrid_redis_node_t), cluster->rd->log);
    if (node == NULL) {
        return NGX_HYBRID_REDIS_CLUSTER_NONE;
    }

    ngx_hybrid_redis_node_init(node, cluster->rd->conf,
                               &ngx_hybrid_redis_cluster_hooks, cluster,
                               cluster->rd->log);

    ngx_hybrid_redis_node_addr(node, host, port);

    cluster->nodes[i] = node;
    cluster->n = ngx_max(cluster->n, i + 1);

    return i;
}


static ngx_int_t
ngx_hybrid_redis_cluster_refused(ngx_hybrid_redis_node_t *node,
    ngx_hybrid_redis_op_t *op, redisReply *reply)
{
    ngx_hybrid_redis_cluster_t  *cluster = node->owner;

    if (ngx_strncmp(reply->str, "MOVED ", 6) == 0
        || ngx_strncmp(reply->str, "ASK ", 4) == 0)
    {
        return ngx_hybrid_redis_cluster_redirect(node, op, reply);
    }

    if (ngx_strncmp(reply->str, "TRYAGAIN", 8) == 0) {
        return NGX_DECLINED;
    }

    /* it may have lost its slots, or what it knows of the others */

    ngx_hybrid_redis_cluster_soon(cluster, NGX_HYBRID_REDIS_CLUSTER_SOON);

    if (ngx_strncmp(reply->str, "CLUSTERDOWN Hash slot", 21) == 0) {
        ngx_hybrid_redis_cluster_say(cluster, node,
                                     "has no node for some slots", NULL);
        return NGX_DECLINED;
    }

    return NGX_ERROR;
}


static ngx_int_t
ngx_hybrid_redis_cluster_redirect(ngx_hybrid_redis_node_t *node,
    ngx_hybrid_redis_op_t *op, redisReply *reply)
{
    ngx_hybrid_redis_cluster_t  *cluster = node->owner;

    ngx_int_t                     rc;
    ngx_str_t                     host;
    ngx_uint_t                    i;
    ngx_hybrid_redis_node_t      *to;
    ngx_hybrid_redis_redirect_t   redirect;

    rc = ngx_hybrid_redis_redirect(reply, &redirect);

    if (rc != NGX_OK) {
        ngx_hybrid_redis_cluster_say(cluster, node,
                     rc == NGX_DECLINED
                     ? "announces a name, it must announce addresses "
                       "(cluster-preferred-endpoint-type ip):"
                     : "gives an unexpected answer:",
                     rc == NGX_DECLINED ? &redirect.host : NULL);
        return NGX_DECLINED;
    }

    if (!redirect.ask) {
        ngx_hybrid_redis_cluster_soon(cluster, NGX_HYBRID_REDIS_CLUSTER_SOON);
    }

    /* greetings and questions for the map keep nothing */

    if (op->argc == 0 || op->hops >= NGX_HYBRID_REDIS_CLUSTER_HOPS) {
        return NGX_DECLINED;
    }

    host = redirect.host;

    if (host.len == 0) {
        host.data = node->addr.host;
        host.len = ngx_strlen(node->addr.host);
    }

    i = ngx_hybrid_redis_cluster_add(cluster, &host, redirect.port);

    if (i == NGX_HYBRID_REDIS_CLUSTER_NONE) {
        return NGX_DECLINED;
    }

    to = cluster->nodes[i];

    if (!redirect.ask && cluster->known) {
        cluster->slots[redirect.slot] = (uint16_t) i;
        to->used = 1;
    }

    if (!ngx_hybrid_redis_cluster_open(to)
        || !ngx_hybrid_redis_node_available(to))
    {
        return NGX_DECLINED;
    }

    op->hops++;
    op->asking = redirect.ask;

    ngx_hybrid_redis_node_well(node);
    ngx_hybrid_redis_node_resend(to, op);

    return NGX_OK;
}


static ngx_int_t
ngx_hybrid_redis_cluster_gone(ngx_hybrid_redis_node_t *node)
{
    ngx_hybrid_redis_cluster_t  *cluster = node->owner;

    ngx_hybrid_redis_cluster_soon(cluster, NGX_HYBRID_REDIS_CLUSTER_SOON);

    return NGX_OK;
}


ngx_uint_t
ngx_hybrid_redis_cluster_seed(ngx_hybrid_redis_node_t *node)
{
    return node->addr.host != node->host;
}


void
ngx_hybrid_redis_cluster_say(ngx_hybrid_redis_cluster_t *cluster,
    ngx_hybrid_redis_node_t *node, const char *why, ngx_str_t *what)
{
    ngx_str_t  none = ngx_null_string;

    if (cluster->said && ngx_current_msec - cluster->logged
                         < NGX_HYBRID_REDIS_CLUSTER_LOG)
    {
        return;
    }

    cluster->said = 1;
    cluster->logged = ngx_current_msec;

    ngx_log_error(NGX_LOG_ERR, cluster->rd->log, 0,
                  "redis cluster: \"%V\" %s %V", &node->addr.text, why,
                  what ? what : &none);
}
