
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * One pipelined connection of a worker to a Redis or a sentinel: hiredis's
 * asynchronous API on nginx's event loop.
 */


#ifndef _NGX_HYBRID_REDIS_NODE_H_INCLUDED_
#define _NGX_HYBRID_REDIS_NODE_H_INCLUDED_


#include "ngx_hybrid_redis.h"


/* commands that may wait for a reply; beyond that the node counts as away */
#define NGX_HYBRID_REDIS_MAX_PENDING  1024

/* of an address that is announced: an IPv6 one with its zero */
#define NGX_HYBRID_REDIS_HOST_LEN     (NGX_INET6_ADDRSTRLEN + 1)


/* of its own memory: the reply may come after the request is gone */

typedef struct {
    ngx_queue_t                   queue;
    ngx_hybrid_redis_node_t      *node;
    ngx_msec_t                    deadline;
    ngx_hybrid_redis_handler_pt   handler;
    void                         *data;
    ngx_hybrid_redis_script_t    *script;

    /* kept when it may have to be sent again */
    ngx_uint_t                    argc;
    ngx_str_t                    *argv;

    unsigned                      eval:1;     /* by its text */
    unsigned                      asking:1;
    unsigned                      unsent:1;   /* there is no connection yet */
    unsigned                      hops:4;
} ngx_hybrid_redis_op_t;


/* what sentinels and clusters do otherwise; members may be NULL */

typedef struct {
    const char                   *what;       /* for the log */
    const char                   *loss;
    ngx_uint_t                    level;
    const char                   *greeting;   /* whose answer makes it ready */

    /* NGX_OK: it is ready; NGX_ERROR: node->why tells why not */
    ngx_int_t                   (*greeted)(ngx_hybrid_redis_node_t *node,
                                           redisReply *reply);

    /*
     * The node can't serve a command.  NGX_OK: op was taken over;
     * NGX_DECLINED: nobody can serve it, but the node is well;
     * NGX_ERROR: the connection is to be closed.
     */
    ngx_int_t                   (*refused)(ngx_hybrid_redis_node_t *node,
                                           ngx_hybrid_redis_op_t *op,
                                           redisReply *reply);

    /* NGX_OK: connect again, with back-off; NGX_DONE: the owner does */
    ngx_int_t                   (*gone)(ngx_hybrid_redis_node_t *node);

    /* keep all arguments of commands */
    ngx_uint_t                    keep;
} ngx_hybrid_redis_hooks_t;


struct ngx_hybrid_redis_node_s {
    ngx_hybrid_redis_conf_t    *conf;
    ngx_log_t                  *log;
    ngx_hybrid_redis_addr_t     addr;
    ngx_str_t                  *username;
    ngx_str_t                  *password;
    ngx_str_t                  *db;
    ngx_hybrid_redis_hooks_t   *hooks;
    void                       *owner;

    redisAsyncContext          *ac;
    void                       *tls;        /* SSL, of this connection */
    ngx_connection_t           *connection;
    ngx_queue_t                 pending;    /* by deadline */
    ngx_uint_t                  npending;
    ngx_event_t                 deadline;   /* of the oldest command */
    ngx_event_t                 reconnect;
    ngx_msec_t                  backoff;
    ngx_msec_t                  refused_last;    /* when */
    ngx_msec_t                  refused_logged;
    const char                 *why;        /* we ended the connection */

    unsigned                    ready:1;    /* greeted, commands flow */
    unsigned                    first:1;    /* the first attempt to come, or
                                               under way */
    unsigned                    writing:1;  /* in redisAsyncHandleWrite() */
    unsigned                    closing:1;  /* not to be connected again */
    unsigned                    down:1;     /* said so in the log */
    unsigned                    refused:1;  /* by a Redis that is there */
    unsigned                    used:1;     /* it has slots of the cluster */

    u_char                      host[NGX_HYBRID_REDIS_HOST_LEN];
    u_char                      text[NGX_SOCKADDR_STRLEN];
    char                        error[128]; /* of TLS */
};


/* of Redis itself; another user and password, as of a sentinel, come after */
void ngx_hybrid_redis_node_init(ngx_hybrid_redis_node_t *node,
    ngx_hybrid_redis_conf_t *conf, ngx_hybrid_redis_hooks_t *hooks,
    void *owner, ngx_log_t *log);

/* an address that was announced; host is an IP literal */
void ngx_hybrid_redis_node_addr(ngx_hybrid_redis_node_t *node,
    ngx_str_t *host, in_port_t port);

void ngx_hybrid_redis_node_connect(ngx_hybrid_redis_node_t *node);

/* ends the connection, and answers its commands with NULL */
void ngx_hybrid_redis_node_close(ngx_hybrid_redis_node_t *node,
    const char *why);

/* for ever; not in a callback of its own */
void ngx_hybrid_redis_node_destroy(ngx_hybrid_redis_node_t *node);

/* it says once that it is away */
void ngx_hybrid_redis_node_away(ngx_hybrid_redis_node_t *node,
    const char *why);

/* a command was answered; it was refused */
void ngx_hybrid_redis_node_well(ngx_hybrid_redis_node_t *node);
void ngx_hybrid_redis_node_refused(ngx_hybrid_redis_node_t *node,
    redisReply *reply);

ngx_uint_t ngx_hybrid_redis_node_available(ngx_hybrid_redis_node_t *node);


/* redis/ngx_hybrid_redis_op.c */

/* script may be NULL; results as of ngx_hybrid_redis_command() */
ngx_int_t ngx_hybrid_redis_node_command(ngx_hybrid_redis_node_t *node,
    ngx_hybrid_redis_script_t *script, ngx_uint_t argc, ngx_str_t *argv,
    ngx_hybrid_redis_handler_pt handler, void *data);

/* sends what was kept; takes op over, its handler will be called */
void ngx_hybrid_redis_node_resend(ngx_hybrid_redis_node_t *node,
    ngx_hybrid_redis_op_t *op);

ngx_hybrid_redis_op_t *ngx_hybrid_redis_op_create(
    ngx_hybrid_redis_node_t *node, ngx_hybrid_redis_script_t *script,
    ngx_uint_t argc, ngx_str_t *argv, ngx_hybrid_redis_handler_pt handler,
    void *data);
void ngx_hybrid_redis_op_remove(ngx_hybrid_redis_op_t *op);
ngx_int_t ngx_hybrid_redis_op_send(ngx_hybrid_redis_node_t *node,
    ngx_hybrid_redis_op_t *op, ngx_uint_t argc, ngx_str_t *argv);


/* redis/ngx_hybrid_redis_event.c: hiredis's hooks, data is the node */

ngx_int_t ngx_hybrid_redis_attach(ngx_hybrid_redis_node_t *node,
    redisAsyncContext *ac);
void ngx_hybrid_redis_gone(ngx_hybrid_redis_node_t *node,
    redisAsyncContext *ac);


/* redis/ngx_hybrid_redis_tls.c */

/* NGX_ERROR: node->why tells */
ngx_int_t ngx_hybrid_redis_tls_start(ngx_hybrid_redis_node_t *node);

/*
 * Around what hiredis does with the connection, which may end by that.  1: it
 * waits for the socket to take more, which hiredis may have forgotten.
 */
void ngx_hybrid_redis_tls_before(ngx_hybrid_redis_node_t *node);
ngx_uint_t ngx_hybrid_redis_tls_after(ngx_hybrid_redis_node_t *node);

/* the connection ends; NULL, or why, if that was TLS's */
const char *ngx_hybrid_redis_tls_end(ngx_hybrid_redis_node_t *node);


/* redis/ngx_hybrid_redis_sentinel.c: names rd->node, again and again */

ngx_hybrid_redis_sentinel_t *ngx_hybrid_redis_sentinel_create(
    ngx_hybrid_redis_t *rd, ngx_cycle_t *cycle);
void ngx_hybrid_redis_sentinel_destroy(ngx_hybrid_redis_sentinel_t *sentinel);


/* redis/ngx_hybrid_redis_cluster.c */

ngx_hybrid_redis_cluster_t *ngx_hybrid_redis_cluster_create(
    ngx_hybrid_redis_t *rd, ngx_cycle_t *cycle);
void ngx_hybrid_redis_cluster_destroy(ngx_hybrid_redis_cluster_t *cluster);

/* who has the key, with a connection under way; NULL: nobody; key NULL: any */
ngx_hybrid_redis_node_t *ngx_hybrid_redis_cluster_node(
    ngx_hybrid_redis_cluster_t *cluster, ngx_str_t *key);


#endif /* _NGX_HYBRID_REDIS_NODE_H_INCLUDED_ */
