
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * One pipelined connection of a worker to Redis: hiredis's asynchronous API
 * on nginx's event loop.  Nothing here blocks.
 */


#ifndef _NGX_HYBRID_REDIS_H_INCLUDED_
#define _NGX_HYBRID_REDIS_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <hiredis/async.h>


/* commands that may wait for a reply; beyond that Redis counts as away */
#define NGX_HYBRID_REDIS_MAX_PENDING  1024


typedef struct {
    ngx_str_t                  address;    /* as configured, for the log */
    u_char                    *host;       /* IP literal or path, with \0 */
    in_port_t                  port;       /* 0: a unix path */
    ngx_str_t                  username;
    ngx_str_t                  password;
    ngx_str_t                  db;
    ngx_str_t                  prefix;
    ngx_msec_t                 timeout;    /* of a command, and to connect */
} ngx_hybrid_redis_conf_t;


typedef struct ngx_hybrid_redis_s  ngx_hybrid_redis_t;

/*
 * Called once for each accepted command, from hiredis's callback: the handler
 * records and posts events, it never runs a request's phases.  reply is NULL
 * when Redis is away: no answer in time, connection lost, or an answer that
 * says it can't serve now (LOADING, READONLY, MOVED...); it belongs to
 * hiredis and is gone after the call.
 */
typedef void (*ngx_hybrid_redis_handler_pt)(void *data, redisReply *reply);


typedef struct {
    ngx_str_t                  text;
    u_char                     sha1[40];   /* hex, set by script_init */
} ngx_hybrid_redis_script_t;


/* the connection is made at once and again, with back-off, when it fails */
ngx_hybrid_redis_t *ngx_hybrid_redis_create(ngx_hybrid_redis_conf_t *conf,
    ngx_cycle_t *cycle);

/* pending commands are answered with NULL */
void ngx_hybrid_redis_destroy(ngx_hybrid_redis_t *rd);

/* whether a command sent now has a chance */
ngx_uint_t ngx_hybrid_redis_available(ngx_hybrid_redis_t *rd);

/* failed, and has not answered a command since */
ngx_uint_t ngx_hybrid_redis_down(ngx_hybrid_redis_t *rd);

/*
 * NGX_OK: sent or queued, handler will be called exactly once.
 * NGX_DECLINED: Redis is away, handler will not be called.
 * Arguments are copied.  handler may be NULL.
 */
ngx_int_t ngx_hybrid_redis_command(ngx_hybrid_redis_t *rd, ngx_uint_t argc,
    ngx_str_t *argv, ngx_hybrid_redis_handler_pt handler, void *data);

/*
 * Runs a script with argv[0] the only key, by EVALSHA and, should Redis not
 * know it, by EVAL.
 */
ngx_int_t ngx_hybrid_redis_eval(ngx_hybrid_redis_t *rd,
    ngx_hybrid_redis_script_t *script, ngx_uint_t argc, ngx_str_t *argv,
    ngx_hybrid_redis_handler_pt handler, void *data);

void ngx_hybrid_redis_script_init(ngx_hybrid_redis_script_t *script);


/* redis/ngx_hybrid_redis_event.c: hiredis's hooks, data is the rd */

ngx_int_t ngx_hybrid_redis_attach(ngx_hybrid_redis_t *rd,
    redisAsyncContext *ac);
void ngx_hybrid_redis_gone(ngx_hybrid_redis_t *rd, redisAsyncContext *ac);


struct ngx_hybrid_redis_s {
    ngx_hybrid_redis_conf_t   *conf;
    ngx_log_t                 *log;
    redisAsyncContext         *ac;
    ngx_connection_t          *connection;
    ngx_queue_t                pending;    /* by deadline */
    ngx_uint_t                 npending;
    ngx_event_t                deadline;   /* of the oldest command */
    ngx_event_t                reconnect;
    ngx_msec_t                 backoff;
    ngx_msec_t                 refused_last;    /* when */
    ngx_msec_t                 refused_logged;
    const char                *why;        /* we ended the connection */
    unsigned                   ready:1;    /* greeted, commands flow */
    unsigned                   first:1;    /* the first attempt is under way */
    unsigned                   writing:1;  /* in redisAsyncHandleWrite() */
    unsigned                   closing:1;
    unsigned                   down:1;     /* said so in the log */
    unsigned                   refused:1;  /* by a Redis that is there */
};


#endif /* _NGX_HYBRID_REDIS_H_INCLUDED_ */
