
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * The map of the slots: all some seconds, and soon when a node says that it
 * is out of date, or is lost.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include "ngx_hybrid_redis_cluster.h"


/* msec */
#define NGX_HYBRID_REDIS_CLUSTER_WELL  5000
#define NGX_HYBRID_REDIS_CLUSTER_AWAY  250


static ngx_uint_t ngx_hybrid_redis_cluster_next(
    ngx_hybrid_redis_cluster_t *cluster);
static void ngx_hybrid_redis_cluster_answer(void *data, redisReply *reply);
static ngx_uint_t ngx_hybrid_redis_cluster_whole(
    ngx_hybrid_redis_cluster_t *cluster);
static ngx_int_t ngx_hybrid_redis_cluster_map(
    ngx_hybrid_redis_cluster_t *cluster, redisReply *reply);
static ngx_int_t ngx_hybrid_redis_cluster_assign(
    ngx_hybrid_redis_cluster_t *cluster, ngx_hybrid_redis_range_t *ranges,
    ngx_uint_t n);
static void ngx_hybrid_redis_cluster_sweep(
    ngx_hybrid_redis_cluster_t *cluster);


void
ngx_hybrid_redis_cluster_handler(ngx_event_t *ev)
{
    ngx_hybrid_redis_cluster_t  *cluster = ev->data;

    if (ngx_exiting || ngx_terminate || ngx_quit) {
        return;
    }

    ngx_hybrid_redis_cluster_sweep(cluster);
    ngx_hybrid_redis_cluster_ask(cluster);
}


void
ngx_hybrid_redis_cluster_ask(ngx_hybrid_redis_cluster_t *cluster)
{
    ngx_int_t                 rc;
    ngx_str_t                 argv[2];
    ngx_uint_t                n;
    ngx_hybrid_redis_op_t    *op;
    ngx_hybrid_redis_node_t  *node;

    if (cluster->asking) {
        return;
    }

    cluster->asked = ngx_current_msec;

    rc = NGX_ERROR;
    n = ngx_hybrid_redis_cluster_next(cluster);

    if (n != NGX_HYBRID_REDIS_CLUSTER_NONE) {
        node = cluster->nodes[n];
        cluster->current = n;

        op = ngx_hybrid_redis_op_create(node, NULL, 0, NULL,
                                        ngx_hybrid_redis_cluster_answer,
                                        cluster);
        if (op) {
            ngx_str_set(&argv[0], "CLUSTER");
            ngx_str_set(&argv[1], "SLOTS");

            rc = ngx_hybrid_redis_op_send(node, op, 2, argv);
        }
    }

    if (rc != NGX_OK) {
        ngx_hybrid_redis_cluster_soon(cluster, NGX_HYBRID_REDIS_CLUSTER_AWAY);
        return;
    }

    cluster->asking = 1;
}


/* those that are connected first, of the others one after the other */

static ngx_uint_t
ngx_hybrid_redis_cluster_next(ngx_hybrid_redis_cluster_t *cluster)
{
    ngx_uint_t                i, n;
    ngx_hybrid_redis_node_t  *node;

    for (i = 1; i <= 2 * cluster->n; i++) {
        n = (cluster->current + i) % cluster->n;
        node = cluster->nodes[n];

        if (node == NULL) {
            continue;
        }

        if (i <= cluster->n) {
            if (node->ready && !node->refused) {
                return n;
            }

        } else if (ngx_hybrid_redis_cluster_open(node)) {
            return n;
        }
    }

    return NGX_HYBRID_REDIS_CLUSTER_NONE;
}


/* not more often than each AWAY msec */

void
ngx_hybrid_redis_cluster_soon(ngx_hybrid_redis_cluster_t *cluster,
    ngx_msec_t pause)
{
    ngx_msec_int_t  left;

    if (cluster->closing || ngx_exiting || ngx_terminate || ngx_quit) {
        return;
    }

    if (cluster->asking) {
        cluster->again = 1;
        return;
    }

    left = (ngx_msec_int_t) (cluster->asked + NGX_HYBRID_REDIS_CLUSTER_AWAY
                             - ngx_current_msec);

    pause = ngx_max((ngx_msec_int_t) pause, left);

    if (cluster->timer.timer_set) {

        if ((ngx_msec_int_t) (cluster->timer.timer.key - ngx_current_msec)
            <= (ngx_msec_int_t) pause)
        {
            return;
        }

        ngx_del_timer(&cluster->timer);
    }

    ngx_add_timer(&cluster->timer, pause);
}


static void
ngx_hybrid_redis_cluster_answer(void *data, redisReply *reply)
{
    ngx_hybrid_redis_cluster_t  *cluster = data;

    ngx_msec_t  pause;

    cluster->asking = 0;

    if (reply && ngx_hybrid_redis_cluster_map(cluster, reply) == NGX_OK) {
        cluster->said = 0;
        cluster->failures = 0;

        pause = ngx_hybrid_redis_cluster_whole(cluster)
                ? NGX_HYBRID_REDIS_CLUSTER_WELL
                : NGX_HYBRID_REDIS_CLUSTER_AWAY;

        pause = pause / 2 + ngx_random() % pause;

    } else {
        pause = NGX_HYBRID_REDIS_CLUSTER_SOON;

        /* each node once, then with pauses */

        if (++cluster->failures % cluster->n) {
            cluster->asked = ngx_current_msec - NGX_HYBRID_REDIS_CLUSTER_AWAY;
        }
    }

    if (cluster->again) {
        cluster->again = 0;
        pause = NGX_HYBRID_REDIS_CLUSTER_SOON;
    }

    ngx_hybrid_redis_cluster_soon(cluster, pause);
}


static ngx_uint_t
ngx_hybrid_redis_cluster_whole(ngx_hybrid_redis_cluster_t *cluster)
{
    ngx_uint_t                i;
    ngx_hybrid_redis_node_t  *node;

    for (i = 0; i < cluster->n; i++) {
        node = cluster->nodes[i];

        if (node && node->used && !node->ready && !node->first) {
            return 0;
        }
    }

    return 1;
}


static ngx_int_t
ngx_hybrid_redis_cluster_map(ngx_hybrid_redis_cluster_t *cluster,
    redisReply *reply)
{
    ngx_int_t                  rc;
    ngx_str_t                  name;
    ngx_hybrid_redis_node_t   *node;
    ngx_hybrid_redis_range_t  *ranges;

    node = cluster->nodes[cluster->current];

    if (reply->type != REDIS_REPLY_ARRAY) {
        ngx_hybrid_redis_cluster_say(cluster, node,
                                     reply->type == REDIS_REPLY_ERROR
                                     ? reply->str : "unexpected answer",
                                     NULL);
        return NGX_ERROR;
    }

    ranges = ngx_alloc((reply->elements + 1)
                       * sizeof(ngx_hybrid_redis_range_t), cluster->rd->log);
    if (ranges == NULL) {
        return NGX_ERROR;
    }

    rc = ngx_hybrid_redis_slots(reply, ranges, &name);

    if (rc == NGX_OK) {
        rc = ngx_hybrid_redis_cluster_assign(cluster, ranges,
                                             reply->elements);

    } else if (rc == NGX_DECLINED) {
        ngx_hybrid_redis_cluster_say(cluster, node,
                                 "announces a name, it must announce "
                                 "addresses (cluster-preferred-endpoint-type "
                                 "ip):", &name);

    } else {
        ngx_hybrid_redis_cluster_say(cluster, node,
                                     "has no map of slots", NULL);
    }

    ngx_free(ranges);

    return rc;
}


static ngx_int_t
ngx_hybrid_redis_cluster_assign(ngx_hybrid_redis_cluster_t *cluster,
    ngx_hybrid_redis_range_t *ranges, ngx_uint_t n)
{
    ngx_str_t                  self;
    ngx_uint_t                 i, k, slot;
    ngx_hybrid_redis_range_t  *range;

    self.data = cluster->nodes[cluster->current]->addr.host;
    self.len = ngx_strlen(self.data);

    for (i = 0; i < cluster->n; i++) {
        if (cluster->nodes[i]) {
            cluster->nodes[i]->used = 0;
        }
    }

    ngx_memset(cluster->slots, 0xff, sizeof(cluster->slots));

    for (i = 0; i < n; i++) {
        range = &ranges[i];

        k = ngx_hybrid_redis_cluster_add(cluster,
                                         range->host.len ? &range->host
                                                         : &self,
                                         range->port);

        if (k == NGX_HYBRID_REDIS_CLUSTER_NONE) {
            cluster->known = 0;
            return NGX_ERROR;
        }

        cluster->nodes[k]->used = 1;

        for (slot = range->first; slot <= range->last; slot++) {
            cluster->slots[slot] = (uint16_t) k;
        }
    }

    cluster->known = 1;

    return NGX_OK;
}


/* those that have no slots any longer; of the configuration they may again */

static void
ngx_hybrid_redis_cluster_sweep(ngx_hybrid_redis_cluster_t *cluster)
{
    ngx_uint_t                i;
    ngx_hybrid_redis_node_t  *node;

    for (i = 0; cluster->known && i < cluster->n; i++) {
        node = cluster->nodes[i];

        if (node && !node->used && node->npending == 0
            && !ngx_hybrid_redis_cluster_seed(node))
        {
            ngx_hybrid_redis_node_destroy(node);
            ngx_free(node);
            cluster->nodes[i] = NULL;
        }
    }
}
