
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Which connection a command takes.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include "ngx_hybrid_redis_node.h"


static ngx_hybrid_redis_node_t *ngx_hybrid_redis_route(ngx_hybrid_redis_t *rd,
    ngx_str_t *key);


static ngx_hybrid_redis_hooks_t  ngx_hybrid_redis_hooks = {
    "redis",
    ", limits hold as \"loss=\" says",
    NGX_LOG_ERR,
    "PING",
    NULL,
    NULL,
    NULL,
    0
};


ngx_hybrid_redis_t *
ngx_hybrid_redis_create(ngx_hybrid_redis_conf_t *conf, ngx_cycle_t *cycle)
{
    ngx_hybrid_redis_t       *rd;
    ngx_hybrid_redis_addr_t  *addrs;

    rd = ngx_pcalloc(cycle->pool, sizeof(ngx_hybrid_redis_t));
    if (rd == NULL) {
        return NULL;
    }

    rd->conf = conf;
    rd->log = cycle->log;

    /* the time is still that of the master, before it read the configuration */

    ngx_time_update();

    if (conf->cluster) {
        rd->cluster = ngx_hybrid_redis_cluster_create(rd, cycle);

        return rd->cluster ? rd : NULL;
    }

    if (conf->master.len) {
        rd->sentinel = ngx_hybrid_redis_sentinel_create(rd, cycle);

        return rd->sentinel ? rd : NULL;
    }

    rd->node = ngx_palloc(cycle->pool, sizeof(ngx_hybrid_redis_node_t));
    if (rd->node == NULL) {
        return NULL;
    }

    ngx_hybrid_redis_node_init(rd->node, conf, &ngx_hybrid_redis_hooks, rd,
                               cycle->log);

    addrs = conf->addresses.elts;
    rd->node->addr = addrs[0];

    ngx_hybrid_redis_node_connect(rd->node);

    return rd;
}


void
ngx_hybrid_redis_destroy(ngx_hybrid_redis_t *rd)
{
    if (rd->cluster) {
        ngx_hybrid_redis_cluster_destroy(rd->cluster);
    }

    if (rd->sentinel) {
        ngx_hybrid_redis_sentinel_destroy(rd->sentinel);
    }

    if (rd->node) {
        ngx_hybrid_redis_node_destroy(rd->node);
    }
}


static ngx_hybrid_redis_node_t *
ngx_hybrid_redis_route(ngx_hybrid_redis_t *rd, ngx_str_t *key)
{
    return rd->cluster ? ngx_hybrid_redis_cluster_node(rd->cluster, key)
                       : rd->node;
}


ngx_uint_t
ngx_hybrid_redis_available(ngx_hybrid_redis_t *rd)
{
    return ngx_hybrid_redis_available_key(rd, NULL);
}


ngx_uint_t
ngx_hybrid_redis_available_key(ngx_hybrid_redis_t *rd, ngx_str_t *key)
{
    ngx_hybrid_redis_node_t  *node;

    node = ngx_hybrid_redis_route(rd, key);

    return node != NULL && ngx_hybrid_redis_node_available(node);
}


ngx_uint_t
ngx_hybrid_redis_down_key(ngx_hybrid_redis_t *rd, ngx_str_t *key)
{
    ngx_hybrid_redis_node_t  *node;

    node = ngx_hybrid_redis_route(rd, key);

    return node == NULL || node->down;
}


void
ngx_hybrid_redis_flush(ngx_hybrid_redis_t *rd, ngx_str_t *key)
{
    ngx_hybrid_redis_node_t  *node;

    node = ngx_hybrid_redis_route(rd, key);

    if (node && node->ac && node->ready) {
        ngx_hybrid_redis_tls_before(node);
        redisAsyncHandleWrite(node->ac);
        (void) ngx_hybrid_redis_tls_after(node);
    }
}


ngx_int_t
ngx_hybrid_redis_command(ngx_hybrid_redis_t *rd, ngx_uint_t argc,
    ngx_str_t *argv, ngx_hybrid_redis_handler_pt handler, void *data)
{
    ngx_hybrid_redis_node_t  *node;

    node = ngx_hybrid_redis_route(rd, &argv[1]);
    if (node == NULL) {
        return NGX_DECLINED;
    }

    return ngx_hybrid_redis_node_command(node, NULL, argc, argv, handler,
                                         data);
}


ngx_int_t
ngx_hybrid_redis_eval(ngx_hybrid_redis_t *rd,
    ngx_hybrid_redis_script_t *script, ngx_uint_t argc, ngx_str_t *argv,
    ngx_hybrid_redis_handler_pt handler, void *data)
{
    ngx_hybrid_redis_node_t  *node;

    node = ngx_hybrid_redis_route(rd, &argv[0]);
    if (node == NULL) {
        return NGX_DECLINED;
    }

    return ngx_hybrid_redis_node_command(node, script, argc, argv, handler,
                                         data);
}
