
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
#include "ngx_hybrid_redis_node.h"


#define NGX_HYBRID_REDIS_BACKOFF_MIN  50
#define NGX_HYBRID_REDIS_BACKOFF_MAX  1000

/* msec */
#define NGX_HYBRID_REDIS_REFUSED_LOG  60000
#define NGX_HYBRID_REDIS_REFUSED_END  5000


static ngx_int_t ngx_hybrid_redis_node_greet(ngx_hybrid_redis_node_t *node);
static ngx_int_t ngx_hybrid_redis_node_say(ngx_hybrid_redis_node_t *node,
    ngx_uint_t argc, ngx_str_t *argv, ngx_hybrid_redis_handler_pt handler);
static void ngx_hybrid_redis_node_greeted(void *data, redisReply *reply);
static void ngx_hybrid_redis_node_authenticated(void *data,
    redisReply *reply);
static void ngx_hybrid_redis_node_flush(ngx_hybrid_redis_node_t *node);
static void ngx_hybrid_redis_node_fail(ngx_hybrid_redis_node_t *node);
static void ngx_hybrid_redis_node_retry(ngx_hybrid_redis_node_t *node,
    const char *why);
static void ngx_hybrid_redis_node_reconnect(ngx_event_t *ev);
static void ngx_hybrid_redis_node_deadline(ngx_event_t *ev);


void
ngx_hybrid_redis_node_init(ngx_hybrid_redis_node_t *node,
    ngx_hybrid_redis_conf_t *conf, ngx_hybrid_redis_hooks_t *hooks,
    void *owner, ngx_log_t *log)
{
    ngx_memzero(node, sizeof(ngx_hybrid_redis_node_t));

    node->conf = conf;
    node->username = &conf->username;
    node->password = &conf->password;
    node->db = &conf->db;
    node->hooks = hooks;
    node->owner = owner;
    node->log = log;
    node->why = "no memory";
    node->backoff = NGX_HYBRID_REDIS_BACKOFF_MIN;
    node->first = 1;

    ngx_queue_init(&node->pending);

    node->deadline.handler = ngx_hybrid_redis_node_deadline;
    node->deadline.data = node;
    node->deadline.log = log;

    node->reconnect.handler = ngx_hybrid_redis_node_reconnect;
    node->reconnect.data = node;
    node->reconnect.log = log;
    node->reconnect.cancelable = 1;
}


void
ngx_hybrid_redis_node_addr(ngx_hybrid_redis_node_t *node, ngx_str_t *host,
    in_port_t port)
{
    u_char      *p;
    ngx_uint_t   inet6;

    (void) ngx_cpystrn(node->host, host->data,
                       ngx_min(host->len + 1, sizeof(node->host)));

    inet6 = (ngx_strlchr(host->data, host->data + host->len, ':') != NULL);

    p = ngx_snprintf(node->text, sizeof(node->text),
                     inet6 ? "[%s]:%ui" : "%s:%ui", node->host,
                     (ngx_uint_t) port);

    node->addr.host = node->host;
    node->addr.port = port;
    node->addr.text.data = node->text;
    node->addr.text.len = p - node->text;

    node->refused = 0;
    node->backoff = NGX_HYBRID_REDIS_BACKOFF_MIN;
}


void
ngx_hybrid_redis_node_close(ngx_hybrid_redis_node_t *node, const char *why)
{
    node->why = why;

    if (node->ac) {
        redisAsyncFree(node->ac);
    }
}


void
ngx_hybrid_redis_node_destroy(ngx_hybrid_redis_node_t *node)
{
    node->closing = 1;
    node->first = 0;

    if (node->ac) {
        redisAsyncFree(node->ac);
    }

    ngx_hybrid_redis_node_fail(node);

    if (node->deadline.timer_set) {
        ngx_del_timer(&node->deadline);
    }

    if (node->reconnect.timer_set) {
        ngx_del_timer(&node->reconnect);
    }
}


ngx_uint_t
ngx_hybrid_redis_node_available(ngx_hybrid_redis_node_t *node)
{
    return (node->ready || node->first)
           && node->npending < NGX_HYBRID_REDIS_MAX_PENDING;
}


void
ngx_hybrid_redis_node_connect(ngx_hybrid_redis_node_t *node)
{
    redisAsyncContext        *ac;
    ngx_hybrid_redis_addr_t  *addr;

    addr = &node->addr;

    if (node->reconnect.timer_set) {
        ngx_del_timer(&node->reconnect);
    }

    ac = addr->port ? redisAsyncConnect((char *) addr->host, addr->port)
                    : redisAsyncConnectUnix((char *) addr->host);

    if (ac == NULL) {
        ngx_hybrid_redis_node_retry(node, "no memory");
        return;
    }

    if (ac->err || ngx_hybrid_redis_attach(node, ac) != NGX_OK) {
        ngx_hybrid_redis_gone(node, ac);
        redisAsyncFree(ac);
        return;
    }

    if ((node->conf->tls && ngx_hybrid_redis_tls_start(node) != NGX_OK)
        || ngx_hybrid_redis_node_greet(node) != NGX_OK)
    {
        redisAsyncFree(ac);
        return;
    }

    ngx_hybrid_redis_node_flush(node);
}


/* pipelined behind the connect; the last answer makes us ready */

static ngx_int_t
ngx_hybrid_redis_node_greet(ngx_hybrid_redis_node_t *node)
{
    ngx_str_t   argv[3];
    ngx_uint_t  n;

    if (node->password->len) {
        n = 0;
        ngx_str_set(&argv[n], "AUTH");
        n++;

        if (node->username->len) {
            argv[n++] = *node->username;
        }

        argv[n++] = *node->password;

        if (ngx_hybrid_redis_node_say(node, n, argv,
                                      ngx_hybrid_redis_node_authenticated)
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    if (node->db->len) {
        ngx_str_set(&argv[0], "SELECT");
        argv[1] = *node->db;

        if (ngx_hybrid_redis_node_say(node, 2, argv,
                                      ngx_hybrid_redis_node_authenticated)
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    argv[0].data = (u_char *) node->hooks->greeting;
    argv[0].len = ngx_strlen(node->hooks->greeting);

    return ngx_hybrid_redis_node_say(node, 1, argv,
                                     ngx_hybrid_redis_node_greeted);
}


static ngx_int_t
ngx_hybrid_redis_node_say(ngx_hybrid_redis_node_t *node, ngx_uint_t argc,
    ngx_str_t *argv, ngx_hybrid_redis_handler_pt handler)
{
    ngx_hybrid_redis_op_t  *op;

    op = ngx_hybrid_redis_op_create(node, NULL, 0, NULL, handler, node);

    return op ? ngx_hybrid_redis_op_send(node, op, argc, argv) : NGX_ERROR;
}


static void
ngx_hybrid_redis_node_authenticated(void *data, redisReply *reply)
{
    ngx_hybrid_redis_node_t  *node = data;

    if (reply == NULL || reply->type != REDIS_REPLY_ERROR) {
        return;
    }

    /* one that does not know AUTH says its arguments: no quotes of ours */

    reply->str[strcspn(reply->str, ",:'\"`")] = '\0';

    ngx_hybrid_redis_node_refused(node, reply);

    /* runs in a hiredis callback, so this is deferred by hiredis itself */

    redisAsyncFree(node->ac);
}


static void
ngx_hybrid_redis_node_greeted(void *data, redisReply *reply)
{
    ngx_hybrid_redis_node_t  *node = data;

    ngx_int_t  rc;

    if (reply == NULL) {
        return;
    }

    node->why = "unexpected answer";

    if (node->hooks->greeted) {
        rc = node->hooks->greeted(node, reply);

    } else {
        rc = (reply->type == REDIS_REPLY_STATUS) ? NGX_OK : NGX_ERROR;
    }

    if (rc != NGX_OK) {
        redisAsyncFree(node->ac);
        return;
    }

    node->ready = 1;
    node->first = 0;
}


/* what has waited for a connection, before anybody could make one */

static void
ngx_hybrid_redis_node_flush(ngx_hybrid_redis_node_t *node)
{
    ngx_hybrid_redis_op_t  *op;

    while (!ngx_queue_empty(&node->pending)) {

        op = ngx_queue_data(ngx_queue_head(&node->pending),
                            ngx_hybrid_redis_op_t, queue);

        if (!op->unsent) {
            return;
        }

        ngx_hybrid_redis_op_remove(op);
        op->unsent = 0;

        ngx_hybrid_redis_node_resend(node, op);
    }
}


static void
ngx_hybrid_redis_node_fail(ngx_hybrid_redis_node_t *node)
{
    ngx_hybrid_redis_op_t  *op;

    /* those that were sent are hiredis's, and answered by it */

    while (node->ac == NULL && !ngx_queue_empty(&node->pending)) {

        op = ngx_queue_data(ngx_queue_head(&node->pending),
                            ngx_hybrid_redis_op_t, queue);

        ngx_hybrid_redis_op_remove(op);

        if (op->handler) {
            op->handler(op->data, NULL);
        }

        ngx_free(op);
    }
}


/* a command was answered */

void
ngx_hybrid_redis_node_well(ngx_hybrid_redis_node_t *node)
{
    /* a greeting alone proves nothing: it may be too slow for more */

    if (!node->down || !node->ready
        || (node->refused && ngx_current_msec - node->refused_last
                             < NGX_HYBRID_REDIS_REFUSED_END))
    {
        return;
    }

    ngx_log_error(NGX_LOG_NOTICE, node->log, 0, "%s \"%V\" is back",
                  node->hooks->what, &node->addr.text);

    node->down = 0;
    node->refused = 0;
    node->backoff = NGX_HYBRID_REDIS_BACKOFF_MIN;
}


void
ngx_hybrid_redis_node_refused(ngx_hybrid_redis_node_t *node,
    redisReply *reply)
{
    if (!node->refused
        || ngx_current_msec - node->refused_logged
           >= NGX_HYBRID_REDIS_REFUSED_LOG)
    {
        ngx_log_error(node->hooks->level, node->log, 0,
                      "%s \"%V\" can't serve: \"%s\"", node->hooks->what,
                      &node->addr.text, reply->str);

        node->refused_logged = ngx_current_msec;
    }

    node->why = "it refuses";
    node->refused = 1;
    node->refused_last = ngx_current_msec;
}


/* ac is being freed; all its pending commands have been answered */

void
ngx_hybrid_redis_gone(ngx_hybrid_redis_node_t *node, redisAsyncContext *ac)
{
    node->ready = 0;
    node->first = 0;

    if (!node->closing) {
        ngx_hybrid_redis_node_retry(node, ac->err ? ac->errstr : node->why);
    }
}


static void
ngx_hybrid_redis_node_retry(ngx_hybrid_redis_node_t *node, const char *why)
{
    node->ready = 0;
    node->first = 0;

    ngx_hybrid_redis_node_away(node, why);

    if (ngx_exiting || ngx_terminate || ngx_quit) {
        return;
    }

    if (node->hooks->gone && node->hooks->gone(node) == NGX_DONE) {
        return;
    }

    /* jitter, so that the workers of all gateways don't come at once */

    ngx_add_timer(&node->reconnect,
                  node->backoff / 2
                  + ngx_random() % (node->backoff / 2 + 1));

    node->backoff = ngx_min(node->backoff * 2, NGX_HYBRID_REDIS_BACKOFF_MAX);
}


void
ngx_hybrid_redis_node_away(ngx_hybrid_redis_node_t *node, const char *why)
{
    if (node->down) {
        return;
    }

    node->down = 1;

    ngx_log_error(node->hooks->level, node->log, 0, "%s \"%V\" is away (%s)%s",
                  node->hooks->what, &node->addr.text, why,
                  node->hooks->loss);
}


static void
ngx_hybrid_redis_node_reconnect(ngx_event_t *ev)
{
    ngx_hybrid_redis_node_t  *node = ev->data;

    if (ngx_exiting || ngx_terminate || node->closing) {
        return;
    }

    ngx_hybrid_redis_node_connect(node);
}


/*
 * The timer is not moved with every reply: it looks at the oldest command
 * when it fires and sleeps on when that one still has time.
 */

static void
ngx_hybrid_redis_node_deadline(ngx_event_t *ev)
{
    ngx_hybrid_redis_node_t  *node = ev->data;

    ngx_msec_int_t          left;
    ngx_hybrid_redis_op_t  *op;

    if (ngx_queue_empty(&node->pending)) {
        return;
    }

    op = ngx_queue_data(ngx_queue_head(&node->pending), ngx_hybrid_redis_op_t,
                        queue);

    left = (ngx_msec_int_t) (op->deadline - ngx_current_msec);

    if (left > 0) {
        ngx_add_timer(&node->deadline, (ngx_msec_t) left);
        return;
    }

    node->why = "no answer in time";

    if (node->ac) {
        redisAsyncFree(node->ac);
        return;
    }

    node->first = 0;
    ngx_hybrid_redis_node_fail(node);
}
