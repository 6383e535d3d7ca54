
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * The sockets of connections to backends, and paths that died silently.
 *
 * A request that is written to a kept connection, whose path has died since,
 * is repeated by the kernel for a quarter of an hour.  What was sent must be
 * acknowledged within the time that a new connection has.
 *
 * TCP_USER_TIMEOUT would not do: it also ends connections whose other side
 * acknowledges but has no room, because its program is busy, and then the
 * first keepalive packet that is lost ends a long silent generation.
 */


#include "ngx_http_hybrid_answer.h"
#include <netinet/tcp.h>


static void ngx_http_hybrid_socket_tune(ngx_connection_t *c,
    ngx_peer_connection_t *pc);
#if (NGX_HYBRID_TCP_ACKS)
static void ngx_http_hybrid_socket_watch(ngx_http_hybrid_ctx_t *ctx);
static void ngx_http_hybrid_socket_handler(ngx_event_t *ev);
#endif


ngx_int_t
ngx_http_hybrid_socket_output(void *data, ngx_chain_t *in)
{
    ngx_http_hybrid_ctx_t  *ctx = data;

    ngx_connection_t     *c;
    ngx_http_upstream_t  *u;

    u = ctx->u;
    c = u->peer.connection;

    if (c->requests == 1 && c->sent == 0) {
        ngx_http_hybrid_socket_tune(c, &u->peer);
    }

#if (NGX_HYBRID_TCP_ACKS)

    if (c->tcp_nodelay == NGX_TCP_NODELAY_SET) {
        ngx_http_hybrid_socket_watch(ctx);
    }

#endif

    if (ngx_http_hybrid_answer_expect(ctx->request, ctx) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_chain_writer(&u->writer, in);
}


/*
 * Once a connection.  A body that is written in pieces would wait for a
 * delayed acknowledgement, 40 ms; and a tunnel that died silently is noticed
 * after a minute instead of two hours.
 */

static void
ngx_http_hybrid_socket_tune(ngx_connection_t *c, ngx_peer_connection_t *pc)
{
#if (NGX_HAVE_KEEPALIVE_TUNABLE)
    int  idle = 30, interval = 10, count = 3;
#endif

    if (pc->sockaddr && pc->sockaddr->sa_family == AF_UNIX) {
        c->tcp_nodelay = NGX_TCP_NODELAY_DISABLED;
        return;
    }

    /* failures only cost what is tuned here */

    if (ngx_tcp_nodelay(c) != NGX_OK) {
        c->tcp_nodelay = NGX_TCP_NODELAY_DISABLED;
        return;
    }

#if (NGX_HAVE_KEEPALIVE_TUNABLE)

    if (!pc->so_keepalive) {
        return;
    }

    (void) setsockopt(c->fd, IPPROTO_TCP, TCP_KEEPIDLE,
                      (const void *) &idle, sizeof(int));
    (void) setsockopt(c->fd, IPPROTO_TCP, TCP_KEEPINTVL,
                      (const void *) &interval, sizeof(int));
    (void) setsockopt(c->fd, IPPROTO_TCP, TCP_KEEPCNT,
                      (const void *) &count, sizeof(int));

#endif
}


/* the connection is given back, to be closed or kept */

void
ngx_http_hybrid_socket_done(ngx_http_hybrid_ctx_t *ctx)
{
    if (ctx->unheard.timer_set) {
        ngx_del_timer(&ctx->unheard);
    }
}


#if (NGX_HYBRID_TCP_ACKS)

static void
ngx_http_hybrid_socket_watch(ngx_http_hybrid_ctx_t *ctx)
{
    ctx->unheard.data = ctx;
    ctx->unheard.handler = ngx_http_hybrid_socket_handler;
    ctx->unheard.log = ctx->request->connection->log;
    ctx->unheard.cancelable = 1;

    ngx_add_timer(&ctx->unheard, ctx->u->conf->connect_timeout);
}


static void
ngx_http_hybrid_socket_handler(ngx_event_t *ev)
{
    socklen_t               len;
    ngx_msec_t              timeout;
    struct tcp_info         ti;
    ngx_connection_t       *c;
    ngx_http_hybrid_ctx_t  *ctx;

    ctx = ev->data;
    c = ctx->u->peer.connection;
    timeout = ctx->u->conf->connect_timeout;
    len = sizeof(struct tcp_info);

    if (getsockopt(c->fd, IPPROTO_TCP, TCP_INFO, &ti, &len) == -1) {
        ngx_log_error(NGX_LOG_ALERT, c->log, ngx_socket_errno,
                      "getsockopt(TCP_INFO) failed");
        return;
    }

    /*
     * Nothing in flight: all has arrived, or the other side has no room for
     * the rest, which "proxy_send_timeout" is for; writing it comes here
     * again.
     */

    if (ti.tcpi_unacked == 0) {
        return;
    }

    if (ti.tcpi_last_ack_recv < timeout) {
        ngx_add_timer(ev, timeout);
        return;
    }

    ngx_log_error(NGX_LOG_ERR, c->log, 0,
                  "no acknowledgement of what was sent to %V for %uD ms",
                  ctx->u->peer.name, ti.tcpi_last_ack_recv);

    /* as a timeout of nginx's own, whatever is being waited for */

    ctx->lost = 1;
    c->read->timedout = 1;
    ngx_post_event(c->read, &ngx_posted_events);
}

#endif
