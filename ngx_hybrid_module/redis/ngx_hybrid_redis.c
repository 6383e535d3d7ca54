
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * States of the connection:
 *
 *     away --connect--> greeting --PING answered--> ready
 *       ^                  |                          |
 *       +---- lost, late or refused (back-off) -------+
 *
 * Redis that is slow is worse than Redis that is dead, so one command that
 * is not answered in time closes the connection, and requests don't try
 * again until a new one has greeted.
 *
 * A Redis that greets but refuses commands (a replica, missing rights) would
 * come and go without end: it is said once a minute, the back-off grows, and
 * it is back when no command was refused for some seconds.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <ngx_sha1.h>
#include "ngx_hybrid_redis.h"


#define NGX_HYBRID_REDIS_MAX_ARGS     4096
#define NGX_HYBRID_REDIS_BACKOFF_MIN  50
#define NGX_HYBRID_REDIS_BACKOFF_MAX  1000

/* msec */
#define NGX_HYBRID_REDIS_REFUSED_LOG  60000
#define NGX_HYBRID_REDIS_REFUSED_END  5000


/* of its own memory: the reply may come after the request is gone */

typedef struct {
    ngx_queue_t                   queue;
    ngx_hybrid_redis_t           *rd;
    ngx_msec_t                    deadline;
    ngx_hybrid_redis_handler_pt   handler;
    void                         *data;

    /* for EVAL after NOSCRIPT */
    ngx_hybrid_redis_script_t    *script;
    ngx_uint_t                    argc;
    ngx_str_t                    *argv;
} ngx_hybrid_redis_op_t;


static void ngx_hybrid_redis_connect(ngx_hybrid_redis_t *rd);
static ngx_int_t ngx_hybrid_redis_greet(ngx_hybrid_redis_t *rd);
static void ngx_hybrid_redis_greeted(void *data, redisReply *reply);
static void ngx_hybrid_redis_authenticated(void *data, redisReply *reply);
static void ngx_hybrid_redis_back(ngx_hybrid_redis_t *rd);
static void ngx_hybrid_redis_refused(ngx_hybrid_redis_t *rd,
    redisReply *reply);
static void ngx_hybrid_redis_retry(ngx_hybrid_redis_t *rd, const char *why);
static void ngx_hybrid_redis_reconnect_handler(ngx_event_t *ev);
static void ngx_hybrid_redis_deadline_handler(ngx_event_t *ev);
static ngx_hybrid_redis_op_t *ngx_hybrid_redis_op(ngx_hybrid_redis_t *rd,
    ngx_hybrid_redis_script_t *script, ngx_uint_t argc, ngx_str_t *argv,
    ngx_hybrid_redis_handler_pt handler, void *data);
static ngx_int_t ngx_hybrid_redis_send(ngx_hybrid_redis_t *rd,
    ngx_hybrid_redis_op_t *op, ngx_uint_t argc, ngx_str_t *argv);
static ngx_int_t ngx_hybrid_redis_send_script(ngx_hybrid_redis_t *rd,
    ngx_hybrid_redis_op_t *op, ngx_uint_t argc, ngx_str_t *argv,
    const char *command, ngx_str_t *what);
static void ngx_hybrid_redis_reply(redisAsyncContext *ac, void *data,
    void *privdata);
static void ngx_hybrid_redis_eval_text(ngx_hybrid_redis_t *rd,
    ngx_hybrid_redis_op_t *op);
static ngx_uint_t ngx_hybrid_redis_is_away(redisReply *reply);


ngx_hybrid_redis_t *
ngx_hybrid_redis_create(ngx_hybrid_redis_conf_t *conf, ngx_cycle_t *cycle)
{
    ngx_hybrid_redis_t  *rd;

    rd = ngx_pcalloc(cycle->pool, sizeof(ngx_hybrid_redis_t));
    if (rd == NULL) {
        return NULL;
    }

    rd->conf = conf;
    rd->log = cycle->log;
    rd->why = "no memory";
    rd->backoff = NGX_HYBRID_REDIS_BACKOFF_MIN;
    rd->first = 1;

    ngx_queue_init(&rd->pending);

    rd->deadline.handler = ngx_hybrid_redis_deadline_handler;
    rd->deadline.data = rd;
    rd->deadline.log = cycle->log;

    rd->reconnect.handler = ngx_hybrid_redis_reconnect_handler;
    rd->reconnect.data = rd;
    rd->reconnect.log = cycle->log;
    rd->reconnect.cancelable = 1;

    /* the time is still that of the master, before it read the configuration */

    ngx_time_update();

    ngx_hybrid_redis_connect(rd);

    return rd;
}


void
ngx_hybrid_redis_destroy(ngx_hybrid_redis_t *rd)
{
    rd->closing = 1;

    if (rd->ac) {
        redisAsyncFree(rd->ac);
    }

    if (rd->deadline.timer_set) {
        ngx_del_timer(&rd->deadline);
    }

    if (rd->reconnect.timer_set) {
        ngx_del_timer(&rd->reconnect);
    }
}


ngx_uint_t
ngx_hybrid_redis_available(ngx_hybrid_redis_t *rd)
{
    return rd->ac != NULL
           && (rd->ready || rd->first)
           && rd->npending < NGX_HYBRID_REDIS_MAX_PENDING;
}


ngx_uint_t
ngx_hybrid_redis_down(ngx_hybrid_redis_t *rd)
{
    return rd->down;
}


static void
ngx_hybrid_redis_connect(ngx_hybrid_redis_t *rd)
{
    redisAsyncContext        *ac;
    ngx_hybrid_redis_conf_t  *conf;

    conf = rd->conf;

    ac = conf->port ? redisAsyncConnect((char *) conf->host, conf->port)
                    : redisAsyncConnectUnix((char *) conf->host);

    if (ac == NULL) {
        ngx_hybrid_redis_retry(rd, "no memory");
        return;
    }

    if (ac->err || ngx_hybrid_redis_attach(rd, ac) != NGX_OK) {
        ngx_hybrid_redis_gone(rd, ac);
        redisAsyncFree(ac);
        return;
    }

    if (ngx_hybrid_redis_greet(rd) != NGX_OK) {
        redisAsyncFree(ac);
    }
}


/* pipelined behind the connect; the answer to PING makes us ready */

static ngx_int_t
ngx_hybrid_redis_greet(ngx_hybrid_redis_t *rd)
{
    ngx_str_t                 argv[3];
    ngx_uint_t                n;
    ngx_hybrid_redis_op_t    *op;
    ngx_hybrid_redis_conf_t  *conf;

    conf = rd->conf;

    if (conf->password.len) {
        n = 0;
        ngx_str_set(&argv[n], "AUTH");
        n++;

        if (conf->username.len) {
            argv[n++] = conf->username;
        }

        argv[n++] = conf->password;

        op = ngx_hybrid_redis_op(rd, NULL, 0, NULL,
                                 ngx_hybrid_redis_authenticated, rd);

        if (op == NULL || ngx_hybrid_redis_send(rd, op, n, argv) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    if (conf->db.len) {
        ngx_str_set(&argv[0], "SELECT");
        argv[1] = conf->db;

        op = ngx_hybrid_redis_op(rd, NULL, 0, NULL,
                                 ngx_hybrid_redis_authenticated, rd);

        if (op == NULL || ngx_hybrid_redis_send(rd, op, 2, argv) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    ngx_str_set(&argv[0], "PING");

    op = ngx_hybrid_redis_op(rd, NULL, 0, NULL, ngx_hybrid_redis_greeted, rd);

    if (op == NULL) {
        return NGX_ERROR;
    }

    return ngx_hybrid_redis_send(rd, op, 1, argv);
}


static void
ngx_hybrid_redis_authenticated(void *data, redisReply *reply)
{
    ngx_hybrid_redis_t  *rd = data;

    if (reply == NULL || reply->type != REDIS_REPLY_ERROR) {
        return;
    }

    ngx_hybrid_redis_refused(rd, reply);

    /* runs in a hiredis callback, so this is deferred by hiredis itself */

    redisAsyncFree(rd->ac);
}


static void
ngx_hybrid_redis_greeted(void *data, redisReply *reply)
{
    ngx_hybrid_redis_t  *rd = data;

    if (reply == NULL) {
        return;
    }

    if (reply->type != REDIS_REPLY_STATUS) {
        rd->why = "unexpected answer";
        redisAsyncFree(rd->ac);
        return;
    }

    rd->ready = 1;
    rd->first = 0;
}


static void
ngx_hybrid_redis_back(ngx_hybrid_redis_t *rd)
{
    if (rd->down) {
        ngx_log_error(NGX_LOG_NOTICE, rd->log, 0, "redis \"%V\" is back",
                      &rd->conf->address);
    }

    rd->down = 0;
    rd->refused = 0;
    rd->backoff = NGX_HYBRID_REDIS_BACKOFF_MIN;
}


static void
ngx_hybrid_redis_refused(ngx_hybrid_redis_t *rd, redisReply *reply)
{
    if (!rd->refused
        || ngx_current_msec - rd->refused_logged
           >= NGX_HYBRID_REDIS_REFUSED_LOG)
    {
        ngx_log_error(NGX_LOG_ERR, rd->log, 0,
                      "redis \"%V\" can't serve: \"%s\"",
                      &rd->conf->address, reply->str);

        rd->refused_logged = ngx_current_msec;
    }

    rd->why = "it refuses";
    rd->refused = 1;
    rd->refused_last = ngx_current_msec;
}


/* ac is being freed; all its pending commands have been answered */

void
ngx_hybrid_redis_gone(ngx_hybrid_redis_t *rd, redisAsyncContext *ac)
{
    if (!rd->closing) {
        ngx_hybrid_redis_retry(rd, ac->err ? ac->errstr : rd->why);
    }
}


static void
ngx_hybrid_redis_retry(ngx_hybrid_redis_t *rd, const char *why)
{
    rd->ready = 0;
    rd->first = 0;

    if (!rd->down) {
        rd->down = 1;
        ngx_log_error(NGX_LOG_ERR, rd->log, 0,
                      "redis \"%V\" is away (%s), limits hold as \"loss=\" "
                      "says", &rd->conf->address, why);
    }

    if (ngx_exiting || ngx_terminate || ngx_quit) {
        return;
    }

    /* jitter, so that the workers of all gateways don't come at once */

    ngx_add_timer(&rd->reconnect,
                  rd->backoff / 2 + ngx_random() % (rd->backoff / 2 + 1));

    rd->backoff = ngx_min(rd->backoff * 2, NGX_HYBRID_REDIS_BACKOFF_MAX);
}


static void
ngx_hybrid_redis_reconnect_handler(ngx_event_t *ev)
{
    ngx_hybrid_redis_t  *rd = ev->data;

    if (ngx_exiting || ngx_terminate || rd->closing) {
        return;
    }

    ngx_hybrid_redis_connect(rd);
}


/*
 * The timer is not moved with every reply: it looks at the oldest command
 * when it fires and sleeps on when that one still has time.
 */

static void
ngx_hybrid_redis_deadline_handler(ngx_event_t *ev)
{
    ngx_hybrid_redis_t  *rd = ev->data;

    ngx_msec_int_t          left;
    ngx_hybrid_redis_op_t  *op;

    if (ngx_queue_empty(&rd->pending)) {
        return;
    }

    op = ngx_queue_data(ngx_queue_head(&rd->pending), ngx_hybrid_redis_op_t,
                        queue);

    left = (ngx_msec_int_t) (op->deadline - ngx_current_msec);

    if (left > 0) {
        ngx_add_timer(&rd->deadline, (ngx_msec_t) left);
        return;
    }

    rd->why = "no answer in time";

    if (rd->ac) {
        redisAsyncFree(rd->ac);
    }
}


ngx_int_t
ngx_hybrid_redis_command(ngx_hybrid_redis_t *rd, ngx_uint_t argc,
    ngx_str_t *argv, ngx_hybrid_redis_handler_pt handler, void *data)
{
    ngx_hybrid_redis_op_t  *op;

    if (!ngx_hybrid_redis_available(rd)) {
        return NGX_DECLINED;
    }

    op = ngx_hybrid_redis_op(rd, NULL, 0, NULL, handler, data);
    if (op == NULL) {
        return NGX_DECLINED;
    }

    return ngx_hybrid_redis_send(rd, op, argc, argv);
}


ngx_int_t
ngx_hybrid_redis_eval(ngx_hybrid_redis_t *rd,
    ngx_hybrid_redis_script_t *script, ngx_uint_t argc, ngx_str_t *argv,
    ngx_hybrid_redis_handler_pt handler, void *data)
{
    ngx_str_t               sha1;
    ngx_hybrid_redis_op_t  *op;

    if (!ngx_hybrid_redis_available(rd)) {
        return NGX_DECLINED;
    }

    op = ngx_hybrid_redis_op(rd, script, argc, argv, handler, data);
    if (op == NULL) {
        return NGX_DECLINED;
    }

    sha1.data = script->sha1;
    sha1.len = sizeof(script->sha1);

    return ngx_hybrid_redis_send_script(rd, op, argc, argv, "EVALSHA", &sha1);
}


void
ngx_hybrid_redis_script_init(ngx_hybrid_redis_script_t *script)
{
    u_char      digest[20];
    ngx_sha1_t  sha1;

    ngx_sha1_init(&sha1);
    ngx_sha1_update(&sha1, script->text.data, script->text.len);
    ngx_sha1_final(digest, &sha1);

    ngx_hex_dump(script->sha1, digest, sizeof(digest));
}


static ngx_hybrid_redis_op_t *
ngx_hybrid_redis_op(ngx_hybrid_redis_t *rd, ngx_hybrid_redis_script_t *script,
    ngx_uint_t argc, ngx_str_t *argv, ngx_hybrid_redis_handler_pt handler,
    void *data)
{
    size_t                  size;
    u_char                 *p;
    ngx_uint_t              i;
    ngx_hybrid_redis_op_t  *op;

    size = sizeof(ngx_hybrid_redis_op_t) + argc * sizeof(ngx_str_t);

    for (i = 0; i < argc; i++) {
        size += argv[i].len;
    }

    op = ngx_alloc(size, rd->log);
    if (op == NULL) {
        return NULL;
    }

    op->rd = rd;
    op->handler = handler;
    op->data = data;
    op->script = script;
    op->argc = argc;
    op->argv = (ngx_str_t *) (op + 1);

    p = (u_char *) (op->argv + argc);

    for (i = 0; i < argc; i++) {
        op->argv[i].data = p;
        op->argv[i].len = argv[i].len;
        p = ngx_cpymem(p, argv[i].data, argv[i].len);
    }

    return op;
}


static ngx_int_t
ngx_hybrid_redis_send_script(ngx_hybrid_redis_t *rd,
    ngx_hybrid_redis_op_t *op, ngx_uint_t argc, ngx_str_t *argv,
    const char *command, ngx_str_t *what)
{
    ngx_int_t    rc;
    ngx_str_t   *full;
    ngx_uint_t   i;

    full = ngx_alloc((argc + 3) * sizeof(ngx_str_t), rd->log);
    if (full == NULL) {
        ngx_free(op);
        return NGX_DECLINED;
    }

    full[0].data = (u_char *) command;
    full[0].len = ngx_strlen(command);
    full[1] = *what;
    ngx_str_set(&full[2], "1");

    for (i = 0; i < argc; i++) {
        full[i + 3] = argv[i];
    }

    rc = ngx_hybrid_redis_send(rd, op, argc + 3, full);

    ngx_free(full);

    return rc;
}


/* takes op over: on failure it is freed, and its handler is not called */

static ngx_int_t
ngx_hybrid_redis_send(ngx_hybrid_redis_t *rd, ngx_hybrid_redis_op_t *op,
    ngx_uint_t argc, ngx_str_t *argv)
{
    int           rc;
    size_t       *lens;
    ngx_uint_t    i;
    const char  **args;

    if (argc > NGX_HYBRID_REDIS_MAX_ARGS) {
        ngx_free(op);
        return NGX_DECLINED;
    }

    args = ngx_alloc(argc * (sizeof(char *) + sizeof(size_t)), rd->log);
    if (args == NULL) {
        ngx_free(op);
        return NGX_DECLINED;
    }

    lens = (size_t *) (args + argc);

    for (i = 0; i < argc; i++) {
        args[i] = (char *) argv[i].data;
        lens[i] = argv[i].len;
    }

    rc = redisAsyncCommandArgv(rd->ac, ngx_hybrid_redis_reply, op,
                               (int) argc, args, lens);
    ngx_free(args);

    if (rc != REDIS_OK) {
        ngx_free(op);
        return NGX_DECLINED;
    }

    op->deadline = ngx_current_msec + rd->conf->timeout;

    ngx_queue_insert_tail(&rd->pending, &op->queue);
    rd->npending++;

    if (!rd->deadline.timer_set) {
        ngx_add_timer(&rd->deadline, rd->conf->timeout);
    }

    return NGX_OK;
}


static void
ngx_hybrid_redis_reply(redisAsyncContext *ac, void *data, void *privdata)
{
    redisReply             *reply = data;
    ngx_hybrid_redis_op_t  *op = privdata;

    ngx_hybrid_redis_t  *rd;

    rd = op->rd;

    ngx_queue_remove(&op->queue);
    rd->npending--;

    if (reply && reply->type == REDIS_REPLY_ERROR) {

        if (op->script && ngx_strncmp(reply->str, "NOSCRIPT", 8) == 0) {
            ngx_hybrid_redis_eval_text(rd, op);
            return;
        }

        if (ngx_hybrid_redis_is_away(reply)) {
            ngx_hybrid_redis_refused(rd, reply);

            if (!(ac->c.flags & REDIS_FREEING)) {
                redisAsyncFree(ac);
            }

            reply = NULL;
        }
    }

    /* a greeting alone proves nothing: it may be too slow for more */

    if (reply && rd->down && rd->ready
        && (!rd->refused
            || ngx_current_msec - rd->refused_last
               >= NGX_HYBRID_REDIS_REFUSED_END))
    {
        ngx_hybrid_redis_back(rd);
    }

    if (op->handler) {
        op->handler(op->data, reply);
    }

    ngx_free(op);
}


/* Redis has lost the script: its text, once, with the kept arguments */

static void
ngx_hybrid_redis_eval_text(ngx_hybrid_redis_t *rd, ngx_hybrid_redis_op_t *op)
{
    void                         *data;
    ngx_str_t                     text;
    ngx_hybrid_redis_handler_pt   handler;

    data = op->data;
    handler = op->handler;
    text = op->script->text;
    op->script = NULL;

    if (ngx_hybrid_redis_send_script(rd, op, op->argc, op->argv, "EVAL", &text)
        != NGX_OK
        && handler)
    {
        handler(data, NULL);
    }
}


static ngx_uint_t
ngx_hybrid_redis_is_away(redisReply *reply)
{
    ngx_uint_t  i;

    static const char  *codes[] = {
        "LOADING", "READONLY", "MOVED", "ASK", "CLUSTERDOWN", "MASTERDOWN",
        "MISCONF", "BUSY", "OOM", "NOAUTH", "NOPERM", "NOREPLICAS",
        "TRYAGAIN", NULL
    };

    for (i = 0; codes[i]; i++) {
        if (ngx_strncmp(reply->str, codes[i], ngx_strlen(codes[i])) == 0) {
            return 1;
        }
    }

    return 0;
}
