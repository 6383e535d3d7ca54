
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Redis for a worker: a single one, the master that Sentinel names, or the
 * nodes of a cluster.  Nothing here blocks.
 */


#ifndef _NGX_HYBRID_REDIS_H_INCLUDED_
#define _NGX_HYBRID_REDIS_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <hiredis/async.h>


typedef struct {
    ngx_str_t                  text;       /* for the log */
    u_char                    *host;       /* IP literal or path, with \0 */
    in_port_t                  port;       /* 0: a unix path */
} ngx_hybrid_redis_addr_t;


typedef struct {
    ngx_array_t                addresses;  /* of ngx_hybrid_redis_addr_t */
    ngx_str_t                  username;
    ngx_str_t                  password;
    ngx_str_t                  db;
    ngx_str_t                  prefix;
    ngx_msec_t                 timeout;    /* of a command, and to connect */
    ngx_str_t                  master;     /* the addresses are sentinels */
    ngx_str_t                  sentinel_username;
    ngx_str_t                  sentinel_password;
    ngx_uint_t                 cluster;    /* the addresses are some nodes */
    ngx_uint_t                 tls;
    ngx_str_t                  tls_name;   /* of the certificate */
    ngx_str_t                  tls_ca;
    ngx_str_t                  tls_certificate;
    ngx_str_t                  tls_key;
    void                      *tls_ctx;    /* SSL_CTX */
} ngx_hybrid_redis_conf_t;


typedef struct ngx_hybrid_redis_s           ngx_hybrid_redis_t;
typedef struct ngx_hybrid_redis_node_s      ngx_hybrid_redis_node_t;
typedef struct ngx_hybrid_redis_sentinel_s  ngx_hybrid_redis_sentinel_t;
typedef struct ngx_hybrid_redis_cluster_s   ngx_hybrid_redis_cluster_t;

/*
 * Called once for each accepted command, from hiredis's callback: the handler
 * records and posts events, it never runs a request's phases.  reply is NULL
 * when Redis is away: no answer in time, connection lost, or an answer that
 * says it can't serve now (LOADING, READONLY, CLUSTERDOWN...); it belongs to
 * hiredis and is gone after the call.
 */
typedef void (*ngx_hybrid_redis_handler_pt)(void *data, redisReply *reply);


typedef struct {
    ngx_str_t                  text;
    u_char                     sha1[40];   /* hex, set by script_init */
} ngx_hybrid_redis_script_t;


struct ngx_hybrid_redis_s {
    ngx_hybrid_redis_conf_t      *conf;
    ngx_log_t                    *log;
    ngx_hybrid_redis_node_t      *node;     /* the one, or the master */
    ngx_hybrid_redis_sentinel_t  *sentinel;
    ngx_hybrid_redis_cluster_t   *cluster;
};


/* connections are made at once and again, with back-off, when they fail */
ngx_hybrid_redis_t *ngx_hybrid_redis_create(ngx_hybrid_redis_conf_t *conf,
    ngx_cycle_t *cycle);

/* pending commands are answered with NULL */
void ngx_hybrid_redis_destroy(ngx_hybrid_redis_t *rd);

/* whether a command sent now has a chance; of a cluster: some command */
ngx_uint_t ngx_hybrid_redis_available(ngx_hybrid_redis_t *rd);

/* whether one for this key has: of a cluster a part may be away */
ngx_uint_t ngx_hybrid_redis_available_key(ngx_hybrid_redis_t *rd,
    ngx_str_t *key);

/* failed, and has not answered a command since */
ngx_uint_t ngx_hybrid_redis_down_key(ngx_hybrid_redis_t *rd, ngx_str_t *key);

/*
 * argv[1] is the command's only key: a cluster has others elsewhere.
 *
 * NGX_OK: sent or queued, handler will be called exactly once.
 * NGX_DECLINED: Redis is away, handler will not be called.
 * Arguments are copied.  handler may be NULL.  Answers of different keys may
 * come in another order.
 */
ngx_int_t ngx_hybrid_redis_command(ngx_hybrid_redis_t *rd, ngx_uint_t argc,
    ngx_str_t *argv, ngx_hybrid_redis_handler_pt handler, void *data);

/*
 * What was sent for this key goes to the system now, as much as it takes: for
 * a process that ends and will not run its loop again.
 */
void ngx_hybrid_redis_flush(ngx_hybrid_redis_t *rd, ngx_str_t *key);

/*
 * Runs a script with argv[0] the only key, by EVALSHA and, should Redis not
 * know it, by EVAL.
 */
ngx_int_t ngx_hybrid_redis_eval(ngx_hybrid_redis_t *rd,
    ngx_hybrid_redis_script_t *script, ngx_uint_t argc, ngx_str_t *argv,
    ngx_hybrid_redis_handler_pt handler, void *data);

void ngx_hybrid_redis_script_init(ngx_hybrid_redis_script_t *script);


#endif /* _NGX_HYBRID_REDIS_H_INCLUDED_ */
