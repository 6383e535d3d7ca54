
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * A command, from the call to its answer.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <ngx_sha1.h>
#include "ngx_hybrid_redis_node.h"


/* all that a series can have: ten tables of 464 buckets, and two for each */
#define NGX_HYBRID_REDIS_MAX_ARGS  16384


static void ngx_hybrid_redis_op_queue(ngx_hybrid_redis_node_t *node,
    ngx_hybrid_redis_op_t *op);
static void ngx_hybrid_redis_op_reply(redisAsyncContext *ac, void *data,
    void *privdata);
static ngx_int_t ngx_hybrid_redis_op_error(redisAsyncContext *ac,
    ngx_hybrid_redis_op_t *op, redisReply *reply);
static ngx_uint_t ngx_hybrid_redis_op_is_away(redisReply *reply);


ngx_int_t
ngx_hybrid_redis_node_command(ngx_hybrid_redis_node_t *node,
    ngx_hybrid_redis_script_t *script, ngx_uint_t argc, ngx_str_t *argv,
    ngx_hybrid_redis_handler_pt handler, void *data)
{
    ngx_uint_t              keep;
    ngx_hybrid_redis_op_t  *op;

    if (!ngx_hybrid_redis_node_available(node)) {
        return NGX_DECLINED;
    }

    keep = script || node->hooks->keep;

    op = ngx_hybrid_redis_op_create(node, script, keep ? argc : 0, argv,
                                    handler, data);
    if (op == NULL) {
        return NGX_DECLINED;
    }

    if (node->ac == NULL && keep) {
        op->unsent = 1;
        ngx_hybrid_redis_op_queue(node, op);
        return NGX_OK;
    }

    return ngx_hybrid_redis_op_send(node, op, argc, argv);
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


ngx_hybrid_redis_op_t *
ngx_hybrid_redis_op_create(ngx_hybrid_redis_node_t *node,
    ngx_hybrid_redis_script_t *script, ngx_uint_t argc, ngx_str_t *argv,
    ngx_hybrid_redis_handler_pt handler, void *data)
{
    size_t                  size;
    u_char                 *p;
    ngx_uint_t              i;
    ngx_hybrid_redis_op_t  *op;

    size = sizeof(ngx_hybrid_redis_op_t) + argc * sizeof(ngx_str_t);

    for (i = 0; i < argc; i++) {
        size += argv[i].len;
    }

    op = ngx_alloc(size, node->log);
    if (op == NULL) {
        return NULL;
    }

    ngx_memzero(op, sizeof(ngx_hybrid_redis_op_t));

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


/* takes op over: on failure it is freed, and its handler is not called */

ngx_int_t
ngx_hybrid_redis_op_send(ngx_hybrid_redis_node_t *node,
    ngx_hybrid_redis_op_t *op, ngx_uint_t argc, ngx_str_t *argv)
{
    int           rc;
    size_t       *lens;
    ngx_uint_t    i, n;
    const char  **args;

    n = op->script ? 3 : 0;

    if (argc + n > NGX_HYBRID_REDIS_MAX_ARGS) {
        ngx_log_error(NGX_LOG_ALERT, node->log, 0,
                      "a command for redis has %ui arguments", argc + n);
        ngx_free(op);
        return NGX_DECLINED;
    }

    if (node->ac == NULL) {
        ngx_free(op);
        return NGX_DECLINED;
    }

    args = ngx_alloc((argc + n) * (sizeof(char *) + sizeof(size_t)),
                     node->log);
    if (args == NULL) {
        ngx_free(op);
        return NGX_DECLINED;
    }

    lens = (size_t *) (args + argc + n);

    if (op->script) {
        args[0] = op->eval ? "EVAL" : "EVALSHA";
        lens[0] = ngx_strlen(args[0]);
        args[1] = (char *) (op->eval ? op->script->text.data
                                     : op->script->sha1);
        lens[1] = op->eval ? op->script->text.len : sizeof(op->script->sha1);
        args[2] = "1";
        lens[2] = 1;
    }

    for (i = 0; i < argc; i++) {
        args[n + i] = (char *) argv[i].data;
        lens[n + i] = argv[i].len;
    }

    rc = REDIS_OK;

    /* holds for the next command of the connection, which is ours */

    if (op->asking) {
        rc = redisAsyncCommand(node->ac, NULL, NULL, "ASKING");
    }

    if (rc == REDIS_OK) {
        rc = redisAsyncCommandArgv(node->ac, ngx_hybrid_redis_op_reply, op,
                                   (int) (argc + n), args, lens);
    }

    ngx_free(args);

    if (rc != REDIS_OK) {
        ngx_free(op);
        return NGX_DECLINED;
    }

    ngx_hybrid_redis_op_queue(node, op);

    return NGX_OK;
}


static void
ngx_hybrid_redis_op_queue(ngx_hybrid_redis_node_t *node,
    ngx_hybrid_redis_op_t *op)
{
    op->node = node;
    op->deadline = ngx_current_msec + node->conf->timeout;

    ngx_queue_insert_tail(&node->pending, &op->queue);
    node->npending++;

    /* a worker that leaves waits for answers, for nothing else */

    node->deadline.cancelable = 0;

    if (!node->deadline.timer_set) {
        ngx_add_timer(&node->deadline, node->conf->timeout);
    }
}


void
ngx_hybrid_redis_op_remove(ngx_hybrid_redis_op_t *op)
{
    ngx_hybrid_redis_node_t  *node;

    node = op->node;

    ngx_queue_remove(&op->queue);
    node->npending--;

    if (ngx_queue_empty(&node->pending)) {
        node->deadline.cancelable = 1;
    }
}


void
ngx_hybrid_redis_node_resend(ngx_hybrid_redis_node_t *node,
    ngx_hybrid_redis_op_t *op)
{
    void                         *data;
    ngx_hybrid_redis_handler_pt   handler;

    data = op->data;
    handler = op->handler;

    if (ngx_hybrid_redis_op_send(node, op, op->argc, op->argv) != NGX_OK
        && handler)
    {
        handler(data, NULL);
    }
}


static void
ngx_hybrid_redis_op_reply(redisAsyncContext *ac, void *data, void *privdata)
{
    redisReply             *reply = data;
    ngx_hybrid_redis_op_t  *op = privdata;

    ngx_int_t                 rc;
    ngx_hybrid_redis_node_t  *node;

    node = op->node;

    ngx_hybrid_redis_op_remove(op);

    if (reply && reply->type == REDIS_REPLY_ERROR) {

        rc = ngx_hybrid_redis_op_error(ac, op, reply);

        if (rc == NGX_DONE) {
            return;
        }

        if (rc != NGX_OK) {
            reply = NULL;
        }
    }

    if (reply) {
        ngx_hybrid_redis_node_well(node);
    }

    if (op->handler) {
        op->handler(op->data, reply);
    }

    ngx_free(op);
}


/* NGX_OK: an answer like others; NGX_DONE: op was sent again, or is gone */

static ngx_int_t
ngx_hybrid_redis_op_error(redisAsyncContext *ac, ngx_hybrid_redis_op_t *op,
    redisReply *reply)
{
    ngx_int_t                 rc;
    ngx_hybrid_redis_node_t  *node;

    node = op->node;

    /* Redis has lost the script: its text, once, with the kept arguments */

    if (op->script && !op->eval
        && ngx_strncmp(reply->str, "NOSCRIPT", 8) == 0)
    {
        op->eval = 1;
        ngx_hybrid_redis_node_resend(node, op);
        return NGX_DONE;
    }

    if (!ngx_hybrid_redis_op_is_away(reply)) {
        return NGX_OK;
    }

    if (node->hooks->refused) {
        rc = node->hooks->refused(node, op, reply);

        if (rc == NGX_OK) {
            return NGX_DONE;
        }

        if (rc == NGX_DECLINED) {
            return NGX_ERROR;
        }
    }

    ngx_hybrid_redis_node_refused(node, reply);

    if (!(ac->c.flags & REDIS_FREEING)) {
        redisAsyncFree(ac);
    }

    return NGX_ERROR;
}


static ngx_uint_t
ngx_hybrid_redis_op_is_away(redisReply *reply)
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
