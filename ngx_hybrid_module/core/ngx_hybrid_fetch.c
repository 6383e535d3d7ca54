
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * The connection of a fetch.
 *
 *     lookup -> connect -> [ handshake ] -> send -> status, header, body
 *          -> done, the posted event calls the handler
 *
 * Whatever fails logs why to f->log, which keeps it as the error, and goes
 * to ngx_hybrid_fetch_end(); or, before the request is sent, to the next
 * address.  The fetch is freed by the posted event or by its owner only, so
 * that no handler further up finds it gone.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <ngx_event_connect.h>
#include "ngx_hybrid_compat.h"
#include "ngx_hybrid_fetch.h"


static ngx_int_t ngx_hybrid_fetch_init(ngx_hybrid_fetch_t *f);
static ngx_int_t ngx_hybrid_fetch_build(ngx_hybrid_fetch_t *f);
static ngx_int_t ngx_hybrid_fetch_try(ngx_hybrid_fetch_t *f, ngx_addr_t *addr);
static void ngx_hybrid_fetch_limit(ngx_hybrid_fetch_t *f, ngx_uint_t addrs);
static ngx_int_t ngx_hybrid_fetch_test(ngx_connection_t *c);
static void ngx_hybrid_fetch_connected(ngx_event_t *wev);
static void ngx_hybrid_fetch_read(ngx_event_t *rev);
static ngx_uint_t ngx_hybrid_fetch_clean(ngx_connection_t *c, ssize_t n);
static void ngx_hybrid_fetch_timeout(ngx_event_t *ev);
static void ngx_hybrid_fetch_last(ngx_event_t *ev);
static void ngx_hybrid_fetch_disconnect(ngx_hybrid_fetch_t *f);
static void ngx_hybrid_fetch_detach(ngx_hybrid_fetch_t *f);
static void ngx_hybrid_fetch_free(ngx_hybrid_fetch_t *f);
static void ngx_hybrid_fetch_log(ngx_log_t *log, ngx_uint_t level, u_char *buf,
    size_t len);


/* bytes of chunk sizes, trailers and the like, beside head and body */
#define NGX_HYBRID_FETCH_EXTRA  65536


static const char  *ngx_hybrid_fetch_states[] = {
    "lookup of the name",
    "connect",
    "TLS handshake",
    "sending the request",
    "waiting for an answer",
    "reading the answer",
    "reading the answer"
};


ngx_hybrid_fetch_t *
ngx_hybrid_fetch_start(ngx_hybrid_fetch_args_t *args, ngx_log_t *log)
{
    ngx_pool_t          *pool;
    ngx_hybrid_fetch_t  *f;

    pool = ngx_create_pool(4096, log);
    if (pool == NULL) {
        return NULL;
    }

    f = ngx_pcalloc(pool, sizeof(ngx_hybrid_fetch_t));
    if (f == NULL) {
        ngx_destroy_pool(pool);
        return NULL;
    }

    f->pool = pool;
    f->args = *args;

    f->log.log_level = NGX_LOG_INFO;
    f->log.writer = ngx_hybrid_fetch_log;
    f->log.wdata = f;

    f->dummy.fd = (ngx_socket_t) -1;
    f->dummy.data = f;

    f->timer.handler = ngx_hybrid_fetch_timeout;
    f->timer.data = &f->dummy;
    f->timer.log = log;
    f->timer.cancelable = 1;

    f->last.handler = ngx_hybrid_fetch_last;
    f->last.data = &f->dummy;
    f->last.log = log;

    if (ngx_hybrid_fetch_init(f) != NGX_OK) {
        ngx_hybrid_fetch_free(f);
        return NULL;
    }

    f->deadline = ngx_current_msec + args->timeout;
    ngx_hybrid_fetch_limit(f, 1);

    if (args->addr) {
        f->addrs = args->addr;
        f->naddrs = 1;

    } else if (args->target->addrs) {
        f->addrs = args->target->addrs;
        f->naddrs = args->target->naddrs;

    } else {
        ngx_hybrid_fetch_resolve(f);
        return f;
    }

    ngx_hybrid_fetch_next(f);

    return f;
}


static ngx_int_t
ngx_hybrid_fetch_init(ngx_hybrid_fetch_t *f)
{
    u_char  *p;

    f->r = ngx_pcalloc(f->pool, sizeof(ngx_http_request_t));
    if (f->r == NULL) {
        return NGX_ERROR;
    }

    /* nginx's parsers log through it at the level of debug */

    f->dummy.log = &f->log;
    f->r->connection = &f->dummy;

    if (ngx_array_init(&f->headers, f->pool, 16, sizeof(ngx_keyval_t))
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    p = ngx_alloc(NGX_HYBRID_FETCH_HEAD + NGX_HYBRID_FETCH_READ, f->timer.log);
    if (p == NULL) {
        return NGX_ERROR;
    }

    f->buffer = p;
    f->head.start = p;
    f->head.pos = p;
    f->head.last = p;
    f->head.end = p + NGX_HYBRID_FETCH_HEAD;

    return ngx_hybrid_fetch_build(f);
}


static ngx_int_t
ngx_hybrid_fetch_build(ngx_hybrid_fetch_t *f)
{
    size_t                      len;
    u_char                     *p;
    ngx_str_t                  *uri, agent;
    ngx_hybrid_fetch_target_t  *target;

    target = f->args.target;
    agent = target->agent;
    uri = f->args.uri ? f->args.uri : &target->uri;

    if (agent.len == 0) {
        ngx_str_set(&agent, "ngx_hybrid/" NGX_HYBRID_VERSION);
    }

    len = sizeof("GET  HTTP/1.1" CRLF
                 "Host: " CRLF
                 "User-Agent: " CRLF
                 "Accept-Encoding: identity" CRLF
                 "Connection: close" CRLF CRLF)
          + uri->len + target->host.len + agent.len + f->args.headers.len;

    p = ngx_alloc(len, f->timer.log);
    if (p == NULL) {
        return NGX_ERROR;
    }

    f->request.start = p;
    f->request.pos = p;
    f->request.end = p + len;

    f->request.last = ngx_slprintf(p, p + len,
                                   "GET %V HTTP/1.1" CRLF
                                   "Host: %V" CRLF
                                   "User-Agent: %V" CRLF
                                   "Accept-Encoding: identity" CRLF
                                   "Connection: close" CRLF "%V" CRLF,
                                   uri, &target->host, &agent,
                                   &f->args.headers);

    return NGX_OK;
}


/*
 * Of a name's addresses any may be out of reach, such as those of IPv6 on a
 * machine that has none.
 */

void
ngx_hybrid_fetch_next(ngx_hybrid_fetch_t *f)
{
    ngx_uint_t  i;

    if (f->tried == 0 && f->naddrs) {
        f->first = ngx_random() % f->naddrs;
    }

    while (f->tried < f->naddrs) {
        i = (f->first + f->tried) % f->naddrs;

        ngx_hybrid_fetch_disconnect(f);
        ngx_hybrid_fetch_limit(f, f->naddrs - f->tried);

        f->tried++;

        if (ngx_hybrid_fetch_try(f, &f->addrs[i]) == NGX_OK) {
            return;
        }
    }

    ngx_hybrid_fetch_end(f);
}


static ngx_int_t
ngx_hybrid_fetch_try(ngx_hybrid_fetch_t *f, ngx_addr_t *addr)
{
    ngx_int_t          rc;
    ngx_connection_t  *c;

    f->state = ngx_hybrid_fetch_connect;
    f->error.len = 0;
    f->timedout = 0;
    f->local = 0;

    ngx_memzero(&f->peer, sizeof(ngx_peer_connection_t));

    f->peer.sockaddr = addr->sockaddr;
    f->peer.socklen = addr->socklen;
    f->peer.name = &addr->name;
    f->peer.get = ngx_event_get_peer;
    f->peer.log = &f->log;
    f->peer.log_error = NGX_ERROR_ERR;

    rc = ngx_event_connect_peer(&f->peer);

    if (rc != NGX_OK && rc != NGX_AGAIN) {

        /* no descriptor, no connection, no port: no word of the other side */

        f->local = (rc == NGX_ERROR || ngx_socket_errno == EADDRNOTAVAIL
                    || ngx_socket_errno == EACCES
                    || ngx_socket_errno == EPERM);
        return NGX_ERROR;
    }

    c = f->peer.connection;

    c->data = f;
    c->pool = f->pool;
    c->log = &f->log;
    c->sendfile = 0;
    c->read->handler = ngx_hybrid_fetch_idle;
    c->write->handler = ngx_hybrid_fetch_connected;

    f->connection = c;

    if (rc == NGX_OK) {

        /* not from in here: what fails now is up to the loop's caller */

        ngx_post_event(c->write, &ngx_posted_events);
    }

    return NGX_OK;
}


/* a share of what is left of the time, while there are other addresses */

static void
ngx_hybrid_fetch_limit(ngx_hybrid_fetch_t *f, ngx_uint_t addrs)
{
    ngx_msec_int_t  left;

    left = (ngx_msec_int_t) (f->deadline - ngx_current_msec);
    left = ngx_max(left, 1);

    ngx_add_timer(&f->timer, (ngx_msec_t) left / addrs + 1);
}


static ngx_int_t
ngx_hybrid_fetch_test(ngx_connection_t *c)
{
    int        err;
    socklen_t  len;

    err = 0;
    len = sizeof(int);

    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, (void *) &err, &len) == -1) {
        err = ngx_socket_errno;
    }

    if (err) {
        (void) ngx_connection_error(c, err, "connect() failed");
        return NGX_ERROR;
    }

    return NGX_OK;
}


static void
ngx_hybrid_fetch_connected(ngx_event_t *wev)
{
    ngx_connection_t    *c = wev->data;
    ngx_hybrid_fetch_t  *f = c->data;

    if (ngx_hybrid_fetch_test(c) != NGX_OK) {
        ngx_hybrid_fetch_next(f);
        return;
    }

    c->write->handler = ngx_hybrid_fetch_write;

#if (NGX_SSL)
    if (f->args.target->ssl) {
        ngx_hybrid_fetch_secure(f);
        return;
    }
#endif

    ngx_hybrid_fetch_write(wev);
}


void
ngx_hybrid_fetch_write(ngx_event_t *wev)
{
    ssize_t              n;
    ngx_connection_t    *c = wev->data;
    ngx_hybrid_fetch_t  *f = c->data;

    if (f->state < ngx_hybrid_fetch_send) {
        f->state = ngx_hybrid_fetch_send;
        ngx_hybrid_fetch_limit(f, 1);
    }

    while (f->request.pos < f->request.last) {

        n = c->send(c, f->request.pos, f->request.last - f->request.pos);

        if (n == NGX_AGAIN || n == 0) {

            if (ngx_handle_write_event(wev, 0) != NGX_OK) {
                ngx_hybrid_fetch_end(f);
            }

            return;
        }

        if (n < 0) {
            ngx_hybrid_fetch_end(f);
            return;
        }

        f->request.pos += n;
    }

    wev->handler = ngx_hybrid_fetch_idle;

    if (ngx_handle_write_event(wev, 0) != NGX_OK) {
        ngx_hybrid_fetch_end(f);
        return;
    }

    f->state = ngx_hybrid_fetch_status;
    f->error.len = 0;

    c->read->handler = ngx_hybrid_fetch_read;
    ngx_hybrid_fetch_read(c->read);
}


static void
ngx_hybrid_fetch_read(ngx_event_t *rev)
{
    ssize_t              n;
    ngx_int_t            rc;
    ngx_connection_t    *c = rev->data;
    ngx_hybrid_fetch_t  *f = c->data;

    for ( ;; ) {
        n = c->recv(c, f->head.last, f->head.end - f->head.last);

        if (n == NGX_AGAIN) {

            if (ngx_handle_read_event(rev, 0) != NGX_OK) {
                break;
            }

            return;
        }

        if (n <= 0) {

            if (ngx_hybrid_fetch_eof(f, ngx_hybrid_fetch_clean(c, n))
                == NGX_OK)
            {
                f->state = ngx_hybrid_fetch_done;
            }

            break;
        }

        f->head.last += n;
        f->received += n;

        if (f->received > NGX_HYBRID_FETCH_HEAD + NGX_HYBRID_FETCH_EXTRA
                          + 2 * f->args.max)
        {
            ngx_log_error(NGX_LOG_ERR, &f->log, 0, "answer does not end");
            break;
        }

        rc = ngx_hybrid_fetch_parse(f);

        if (rc == NGX_AGAIN) {
            continue;
        }

        if (rc == NGX_OK) {
            f->state = ngx_hybrid_fetch_done;
        }

        break;
    }

    ngx_hybrid_fetch_end(f);
}


/* nothing is expected now, but what comes is noted by nginx */

void
ngx_hybrid_fetch_idle(ngx_event_t *ev)
{
    /* void */
}


/* the end of a TLS connection must be said, or anyone can cut it off */

static ngx_uint_t
ngx_hybrid_fetch_clean(ngx_connection_t *c, ssize_t n)
{
    if (n != 0) {
        return 0;
    }

#if (NGX_SSL)
    if (c->ssl) {
        return (SSL_get_shutdown(c->ssl->connection) & SSL_RECEIVED_SHUTDOWN)
               != 0;
    }
#endif

    return 1;
}


static void
ngx_hybrid_fetch_timeout(ngx_event_t *ev)
{
    ngx_connection_t    *dummy = ev->data;
    ngx_hybrid_fetch_t  *f = dummy->data;

    f->timedout = 1;

    ngx_log_error(NGX_LOG_ERR, &f->log, 0, "%s timed out",
                  ngx_hybrid_fetch_states[f->state]);

    if (f->state == ngx_hybrid_fetch_connect
        || f->state == ngx_hybrid_fetch_handshake)
    {
        ngx_hybrid_fetch_next(f);
        return;
    }

    ngx_hybrid_fetch_end(f);
}


void
ngx_hybrid_fetch_end(ngx_hybrid_fetch_t *f)
{
    if (f->state == ngx_hybrid_fetch_done) {
        f->error.len = 0;

    } else {
        if (f->error.len == 0) {
            ngx_log_error(NGX_LOG_ERR, &f->log, 0, "%s failed",
                          ngx_hybrid_fetch_states[f->state]);
        }

        f->status = 0;
    }

    /* the first fault is the error, not what comes of closing */

    f->log.log_level = NGX_LOG_STDERR;

    ngx_hybrid_fetch_detach(f);
    ngx_post_event(&f->last, &ngx_posted_events);
}


static void
ngx_hybrid_fetch_last(ngx_event_t *ev)
{
    ngx_connection_t    *dummy = ev->data;
    ngx_hybrid_fetch_t  *f = dummy->data;

    f->args.handler(f, f->args.data);

    ngx_hybrid_fetch_free(f);
}


void
ngx_hybrid_fetch_cancel(ngx_hybrid_fetch_t *f)
{
    ngx_hybrid_fetch_detach(f);
    ngx_hybrid_fetch_free(f);
}


static void
ngx_hybrid_fetch_detach(ngx_hybrid_fetch_t *f)
{
    if (f->timer.timer_set) {
        ngx_del_timer(&f->timer);
    }

    if (f->resolve) {
        ngx_resolve_name_done(f->resolve);
        f->resolve = NULL;
    }

    ngx_hybrid_fetch_disconnect(f);
}


static void
ngx_hybrid_fetch_disconnect(ngx_hybrid_fetch_t *f)
{
    ngx_connection_t  *c;

    c = f->connection;

    if (c == NULL) {
        return;
    }

#if (NGX_SSL)

    if (c->ssl) {

        /* neither waits nor writes: a timer would keep the worker */

        c->ssl->no_wait_shutdown = 1;
        c->ssl->no_send_shutdown = 1;

        (void) ngx_ssl_shutdown(c);
    }

#endif

    ngx_close_connection(c);

    f->connection = NULL;
}


static void
ngx_hybrid_fetch_free(ngx_hybrid_fetch_t *f)
{
    if (f->last.posted) {
        ngx_delete_posted_event(&f->last);
    }

    /* a credential may be in any of them */

    if (f->content.pos) {
        ngx_explicit_memzero(f->content.pos, f->content.end - f->content.pos);
        ngx_free(f->content.pos);
    }

    if (f->request.start) {
        ngx_explicit_memzero(f->request.start,
                             f->request.end - f->request.start);
        ngx_free(f->request.start);
    }

    if (f->buffer) {
        ngx_explicit_memzero(f->buffer, NGX_HYBRID_FETCH_HEAD
                                        + NGX_HYBRID_FETCH_READ);
        ngx_free(f->buffer);
    }

    ngx_destroy_pool(f->pool);
}


/*
 * What nginx would write into its log is the error's text here: once per
 * fault, and not per try, it is the owner's to log.  The time, the level and
 * the ids of the process come first and are left out.
 */

static void
ngx_hybrid_fetch_log(ngx_log_t *log, ngx_uint_t level, u_char *buf, size_t len)
{
    u_char              *p, *last;
    ngx_hybrid_fetch_t  *f;

    if (level > NGX_LOG_INFO) {
        return;
    }

    f = log->wdata;
    last = buf + len;

    while (last > buf && (last[-1] == LF || last[-1] == CR)) {
        last--;
    }

    p = ngx_strlchr(buf, last, '#');
    p = p ? ngx_strlchr(p, last, ' ') : NULL;
    p = p ? p + 1 : buf;

    if (p < last && *p == '*') {
        p = ngx_strlchr(p, last, ' ');
        p = p ? p + 1 : last;
    }

    len = ngx_min((size_t) (last - p), NGX_HYBRID_FETCH_ERROR);

    ngx_memcpy(f->text, p, len);

    f->error.data = f->text;
    f->error.len = len;
}
