
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * The sentinels are asked in turn for the master: every second, and when it
 * is lost or refuses all the time.  One that answers is asked again, as long
 * as the master it names is one: ROLE is the greeting of the connection.
 * After a failover a sentinel may not know of it yet, or be cut off: then the
 * next one is asked.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include "ngx_hybrid_redis_node.h"
#include "ngx_hybrid_redis_slots.h"


/* msec */
#define NGX_HYBRID_REDIS_SENTINEL_WELL  1000
#define NGX_HYBRID_REDIS_SENTINEL_MIN   50
#define NGX_HYBRID_REDIS_SENTINEL_MAX   150
#define NGX_HYBRID_REDIS_SENTINEL_LOG   60000


struct ngx_hybrid_redis_sentinel_s {
    ngx_hybrid_redis_t       *rd;
    ngx_hybrid_redis_node_t   master;
    ngx_hybrid_redis_node_t  *nodes;
    ngx_uint_t                n;
    ngx_uint_t                current;
    ngx_uint_t                failures;   /* in a row */
    ngx_event_t               timer;
    ngx_msec_t                pause;
    ngx_msec_t                logged;
    unsigned                  asking:1;
    unsigned                  proved:1;   /* a master, as it was named */
    unsigned                  said:1;
};


static ngx_int_t ngx_hybrid_redis_sentinel_role(
    ngx_hybrid_redis_node_t *node, redisReply *reply);
static ngx_int_t ngx_hybrid_redis_sentinel_lost(
    ngx_hybrid_redis_node_t *node);
static ngx_int_t ngx_hybrid_redis_sentinel_gone(
    ngx_hybrid_redis_node_t *node);
static void ngx_hybrid_redis_sentinel_handler(ngx_event_t *ev);
static void ngx_hybrid_redis_sentinel_ask(
    ngx_hybrid_redis_sentinel_t *sentinel);
static void ngx_hybrid_redis_sentinel_named(void *data, redisReply *reply);
static void ngx_hybrid_redis_sentinel_master(
    ngx_hybrid_redis_sentinel_t *sentinel, ngx_str_t *host, in_port_t port);
static void ngx_hybrid_redis_sentinel_failed(
    ngx_hybrid_redis_sentinel_t *sentinel, const char *why, ngx_str_t *what);
static void ngx_hybrid_redis_sentinel_soon(
    ngx_hybrid_redis_sentinel_t *sentinel);


static ngx_hybrid_redis_hooks_t  ngx_hybrid_redis_master_hooks = {
    "redis",
    ", limits hold as \"loss=\" says",
    NGX_LOG_ERR,
    "ROLE",
    ngx_hybrid_redis_sentinel_role,
    NULL,
    ngx_hybrid_redis_sentinel_lost,
    1
};


static ngx_hybrid_redis_hooks_t  ngx_hybrid_redis_sentinel_hooks = {
    "redis sentinel",
    "",
    NGX_LOG_WARN,
    "PING",
    NULL,
    NULL,
    ngx_hybrid_redis_sentinel_gone,
    0
};


ngx_hybrid_redis_sentinel_t *
ngx_hybrid_redis_sentinel_create(ngx_hybrid_redis_t *rd, ngx_cycle_t *cycle)
{
    ngx_uint_t                    i;
    ngx_hybrid_redis_addr_t      *addrs;
    ngx_hybrid_redis_conf_t      *conf;
    ngx_hybrid_redis_node_t      *node;
    ngx_hybrid_redis_sentinel_t  *sentinel;

    static ngx_str_t  none = ngx_null_string;

    conf = rd->conf;

    sentinel = ngx_pcalloc(cycle->pool, sizeof(ngx_hybrid_redis_sentinel_t));
    if (sentinel == NULL) {
        return NULL;
    }

    sentinel->rd = rd;
    sentinel->n = conf->addresses.nelts;
    sentinel->pause = NGX_HYBRID_REDIS_SENTINEL_MIN;

    sentinel->nodes = ngx_palloc(cycle->pool, sentinel->n
                                          * sizeof(ngx_hybrid_redis_node_t));
    if (sentinel->nodes == NULL) {
        return NULL;
    }

    addrs = conf->addresses.elts;

    for (i = 0; i < sentinel->n; i++) {
        node = &sentinel->nodes[i];

        ngx_hybrid_redis_node_init(node, conf,
                                   &ngx_hybrid_redis_sentinel_hooks, sentinel,
                                   cycle->log);

        node->addr = addrs[i];
        node->username = &conf->sentinel_username;
        node->password = &conf->sentinel_password;
        node->db = &none;
    }

    rd->node = &sentinel->master;

    ngx_hybrid_redis_node_init(rd->node, conf, &ngx_hybrid_redis_master_hooks,
                               sentinel, cycle->log);

    rd->node->addr.text = conf->master;

    sentinel->timer.handler = ngx_hybrid_redis_sentinel_handler;
    sentinel->timer.data = sentinel;
    sentinel->timer.log = cycle->log;
    sentinel->timer.cancelable = 1;

    /* workers of all gateways begin with another one */

    sentinel->current = ngx_random() % sentinel->n;

    ngx_hybrid_redis_sentinel_ask(sentinel);

    return sentinel;
}


void
ngx_hybrid_redis_sentinel_destroy(ngx_hybrid_redis_sentinel_t *sentinel)
{
    ngx_uint_t  i;

    sentinel->rd->node->closing = 1;

    for (i = 0; i < sentinel->n; i++) {
        ngx_hybrid_redis_node_destroy(&sentinel->nodes[i]);
    }

    if (sentinel->timer.timer_set) {
        ngx_del_timer(&sentinel->timer);
    }
}


/* the answer to ROLE is an array that begins with the role */

static ngx_int_t
ngx_hybrid_redis_sentinel_role(ngx_hybrid_redis_node_t *node,
    redisReply *reply)
{
    ngx_hybrid_redis_sentinel_t  *sentinel = node->owner;

    redisReply  *role;

    if (reply->type != REDIS_REPLY_ARRAY || reply->elements == 0) {
        return NGX_ERROR;
    }

    role = reply->element[0];

    if (role->type != REDIS_REPLY_STRING) {
        return NGX_ERROR;
    }

    if (ngx_strcmp(role->str, "master") != 0) {
        node->why = "it is not a master";
        return NGX_ERROR;
    }

    sentinel->proved = 1;

    return NGX_OK;
}


static ngx_int_t
ngx_hybrid_redis_sentinel_lost(ngx_hybrid_redis_node_t *node)
{
    ngx_hybrid_redis_sentinel_t  *sentinel = node->owner;

    if (!sentinel->proved || node->refused) {
        sentinel->current = (sentinel->current + 1) % sentinel->n;
    }

    ngx_hybrid_redis_sentinel_soon(sentinel);

    return NGX_DONE;
}


/* it is connected to again when it is its turn */

static ngx_int_t
ngx_hybrid_redis_sentinel_gone(ngx_hybrid_redis_node_t *node)
{
    return NGX_DONE;
}


static void
ngx_hybrid_redis_sentinel_handler(ngx_event_t *ev)
{
    ngx_hybrid_redis_sentinel_t  *sentinel = ev->data;

    if (ngx_exiting || ngx_terminate || ngx_quit) {
        return;
    }

    ngx_hybrid_redis_sentinel_ask(sentinel);
}


static void
ngx_hybrid_redis_sentinel_ask(ngx_hybrid_redis_sentinel_t *sentinel)
{
    ngx_int_t                 rc;
    ngx_str_t                 argv[3];
    ngx_hybrid_redis_op_t    *op;
    ngx_hybrid_redis_node_t  *node;

    if (sentinel->asking) {
        return;
    }

    node = &sentinel->nodes[sentinel->current];

    sentinel->asking = 1;

    if (node->ac == NULL) {
        ngx_hybrid_redis_node_connect(node);
    }

    ngx_str_set(&argv[0], "SENTINEL");
    ngx_str_set(&argv[1], "get-master-addr-by-name");
    argv[2] = sentinel->rd->conf->master;

    rc = NGX_ERROR;

    if (node->ac) {
        op = ngx_hybrid_redis_op_create(node, NULL, 0, NULL,
                                        ngx_hybrid_redis_sentinel_named,
                                        sentinel);
        if (op) {
            rc = ngx_hybrid_redis_op_send(node, op, 3, argv);
        }
    }

    if (rc != NGX_OK) {
        ngx_hybrid_redis_sentinel_failed(sentinel, NULL, NULL);
    }
}


static void
ngx_hybrid_redis_sentinel_named(void *data, redisReply *reply)
{
    ngx_hybrid_redis_sentinel_t  *sentinel = data;

    ngx_int_t     port;
    ngx_str_t     host;
    redisReply  **e;

    if (reply == NULL) {

        /* its connection has said why */

        ngx_hybrid_redis_sentinel_failed(sentinel, NULL, NULL);
        return;
    }

    if (reply->type == REDIS_REPLY_NIL) {
        ngx_hybrid_redis_sentinel_failed(sentinel,
                                         "does not know the master",
                                         &sentinel->rd->conf->master);
        return;
    }

    e = reply->element;

    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2
        || e[0]->type != REDIS_REPLY_STRING
        || e[1]->type != REDIS_REPLY_STRING)
    {
        ngx_hybrid_redis_sentinel_failed(sentinel,
                                         "gives an unexpected answer for",
                                         &sentinel->rd->conf->master);
        return;
    }

    host.data = (u_char *) e[0]->str;
    host.len = e[0]->len;

    port = ngx_atoi((u_char *) e[1]->str, e[1]->len);

    if (port <= 0 || port > 65535 || !ngx_hybrid_redis_literal(&host)) {
        ngx_hybrid_redis_sentinel_failed(sentinel,
                                  "announces what is no address (it must not "
                                  "announce names)", &host);
        return;
    }

    sentinel->asking = 0;
    sentinel->failures = 0;

    ngx_hybrid_redis_sentinel_master(sentinel, &host, (in_port_t) port);
}


static void
ngx_hybrid_redis_sentinel_master(ngx_hybrid_redis_sentinel_t *sentinel,
    ngx_str_t *host, in_port_t port)
{
    ngx_hybrid_redis_node_t  *node;

    node = sentinel->rd->node;

    if (node->addr.port == port
        && ngx_strncmp(node->addr.host, host->data, host->len) == 0
        && node->addr.host[host->len] == '\0')
    {
        if (node->ac) {

            if (node->ready) {
                sentinel->said = 0;
                sentinel->pause = NGX_HYBRID_REDIS_SENTINEL_MIN;
            }

            goto well;
        }

    } else {

        if (node->ac) {
            node->refused = 0;
            ngx_hybrid_redis_node_close(node, "there is another master");
        }

        if (ngx_exiting || ngx_terminate || ngx_quit) {
            return;
        }

        ngx_hybrid_redis_node_addr(node, host, port);

        ngx_log_error(NGX_LOG_NOTICE, sentinel->rd->log, 0,
                      "redis master \"%V\" is \"%V\" now",
                      &sentinel->rd->conf->master, &node->addr.text);
    }

    sentinel->proved = 0;

    ngx_hybrid_redis_node_connect(node);

well:

    if (node->ac == NULL) {
        return;
    }

    if (sentinel->timer.timer_set) {
        ngx_del_timer(&sentinel->timer);
    }

    ngx_add_timer(&sentinel->timer, NGX_HYBRID_REDIS_SENTINEL_WELL / 2
                             + ngx_random() % NGX_HYBRID_REDIS_SENTINEL_WELL);
}


/* why is of a sentinel that has answered */

static void
ngx_hybrid_redis_sentinel_failed(ngx_hybrid_redis_sentinel_t *sentinel,
    const char *why, ngx_str_t *what)
{
    ngx_hybrid_redis_node_t  *node;

    if (sentinel->rd->node->closing) {
        return;
    }

    node = &sentinel->nodes[sentinel->current];

    if (why && (!sentinel->said
                || ngx_current_msec - sentinel->logged
                   >= NGX_HYBRID_REDIS_SENTINEL_LOG))
    {
        ngx_log_error(NGX_LOG_ERR, sentinel->rd->log, 0,
                      "redis sentinel \"%V\" %s \"%V\"", &node->addr.text, why,
                      what);

        sentinel->said = 1;
        sentinel->logged = ngx_current_msec;
    }

    sentinel->asking = 0;
    sentinel->current = (sentinel->current + 1) % sentinel->n;
    sentinel->failures++;

    if (sentinel->failures >= sentinel->n) {
        node = sentinel->rd->node;

        if (node->ac == NULL) {

            /* nobody waits any longer for the first one */

            node->first = 0;
            ngx_hybrid_redis_node_away(node, "no sentinel names it");

            if (node->addr.port && sentinel->failures % sentinel->n == 0) {

                /* perhaps it is still the one */

                sentinel->proved = 0;
                ngx_hybrid_redis_node_connect(node);
            }
        }
    }

    ngx_hybrid_redis_sentinel_soon(sentinel);
}


static void
ngx_hybrid_redis_sentinel_soon(ngx_hybrid_redis_sentinel_t *sentinel)
{
    ngx_msec_t  pause;

    if (ngx_exiting || ngx_terminate || ngx_quit
        || sentinel->rd->node->closing)
    {
        return;
    }

    if (sentinel->timer.timer_set) {
        ngx_del_timer(&sentinel->timer);
    }

    pause = sentinel->pause / 2 + ngx_random() % sentinel->pause;

    sentinel->pause = ngx_min(sentinel->pause * 2,
                              NGX_HYBRID_REDIS_SENTINEL_MAX);

    ngx_add_timer(&sentinel->timer, pause);
}
