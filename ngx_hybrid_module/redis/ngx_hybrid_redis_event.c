
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * hiredis on nginx's event loop.  Events are level-triggered because hiredis
 * reads at most 16 KB a call.  After redisAsyncHandleRead() or -Write() the
 * context may be freed: only the node, which outlives it, is looked at.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include "ngx_hybrid_redis_node.h"


static void ngx_hybrid_redis_read_handler(ngx_event_t *rev);
static void ngx_hybrid_redis_write_handler(ngx_event_t *wev);
static void ngx_hybrid_redis_add_read(void *data);
static void ngx_hybrid_redis_del_read(void *data);
static void ngx_hybrid_redis_add_write(void *data);
static void ngx_hybrid_redis_del_write(void *data);
static void ngx_hybrid_redis_cleanup(void *data);


ngx_int_t
ngx_hybrid_redis_attach(ngx_hybrid_redis_node_t *node, redisAsyncContext *ac)
{
    ngx_connection_t  *c;

    c = ngx_get_connection(ac->c.fd, node->log);
    if (c == NULL) {
        return NGX_ERROR;
    }

    c->data = node;
    c->log = node->log;
    c->read->log = node->log;
    c->write->log = node->log;
    c->read->handler = ngx_hybrid_redis_read_handler;
    c->write->handler = ngx_hybrid_redis_write_handler;

    node->connection = c;
    node->ac = ac;

    ac->ev.data = node;
    ac->ev.addRead = ngx_hybrid_redis_add_read;
    ac->ev.delRead = ngx_hybrid_redis_del_read;
    ac->ev.addWrite = ngx_hybrid_redis_add_write;
    ac->ev.delWrite = ngx_hybrid_redis_del_write;
    ac->ev.cleanup = ngx_hybrid_redis_cleanup;

    return NGX_OK;
}


static void
ngx_hybrid_redis_read_handler(ngx_event_t *rev)
{
    ngx_connection_t    *c = rev->data;
    ngx_hybrid_redis_node_t  *node = c->data;

    ngx_hybrid_redis_tls_before(node);
    redisAsyncHandleRead(node->ac);
    (void) ngx_hybrid_redis_tls_after(node);
}


static void
ngx_hybrid_redis_write_handler(ngx_event_t *wev)
{
    ngx_connection_t    *c = wev->data;
    ngx_hybrid_redis_node_t  *node = c->data;

    node->writing = 1;

    ngx_hybrid_redis_tls_before(node);
    redisAsyncHandleWrite(node->ac);

    if (ngx_hybrid_redis_tls_after(node)) {
        ngx_hybrid_redis_add_write(node);
    }

    node->writing = 0;
}


static void
ngx_hybrid_redis_add_read(void *data)
{
    ngx_hybrid_redis_node_t  *node = data;

    ngx_event_t  *rev;

    rev = node->connection->read;

    if (!rev->active) {
        (void) ngx_add_event(rev, NGX_READ_EVENT, NGX_LEVEL_EVENT);
    }
}


static void
ngx_hybrid_redis_del_read(void *data)
{
    ngx_hybrid_redis_node_t  *node = data;

    ngx_event_t  *rev;

    rev = node->connection->read;

    if (rev->active) {
        (void) ngx_del_event(rev, NGX_READ_EVENT, 0);
    }
}


static void
ngx_hybrid_redis_add_write(void *data)
{
    ngx_hybrid_redis_node_t  *node = data;

    ngx_event_t  *wev;

    wev = node->connection->write;

    if (wev->active) {
        return;
    }

    /*
     * A connected socket is nearly always writable: all commands of a turn
     * of the event loop leave in one write at its end, without asking the
     * kernel twice.  Only when that write was short we wait for the socket.
     */

    if ((node->ac->c.flags & REDIS_CONNECTED) && !node->writing) {
        ngx_post_event(wev, &ngx_posted_events);
        return;
    }

    (void) ngx_add_event(wev, NGX_WRITE_EVENT, NGX_LEVEL_EVENT);
}


static void
ngx_hybrid_redis_del_write(void *data)
{
    ngx_hybrid_redis_node_t  *node = data;

    ngx_event_t  *wev;

    wev = node->connection->write;

    if (wev->posted) {
        ngx_delete_posted_event(wev);
    }

    if (wev->active) {
        (void) ngx_del_event(wev, NGX_WRITE_EVENT, 0);
    }
}


static void
ngx_hybrid_redis_cleanup(void *data)
{
    ngx_hybrid_redis_node_t  *node = data;

    const char         *why;
    redisAsyncContext  *ac;

    ac = node->ac;

    if (ac == NULL) {
        return;
    }

    why = ngx_hybrid_redis_tls_end(node);

    if (why) {

        /* hiredis has errno at best */

        (void) ngx_cpystrn((u_char *) ac->c.errstr, (u_char *) why,
                           sizeof(ac->c.errstr));
        ac->errstr = ac->c.errstr;
        ac->err = REDIS_ERR_OTHER;
    }

    /* closes the socket: hiredis must not close its number again */

    ngx_close_connection(node->connection);

    node->connection = NULL;
    node->ac = NULL;

    ac->c.fd = -1;
    ac->ev.data = NULL;
    ac->ev.addRead = NULL;
    ac->ev.delRead = NULL;
    ac->ev.addWrite = NULL;
    ac->ev.delWrite = NULL;
    ac->ev.cleanup = NULL;

    ngx_hybrid_redis_gone(node, ac);
}
