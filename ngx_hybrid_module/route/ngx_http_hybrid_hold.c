
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Answers that nginx is not told of yet, and the bytes of theirs that came.
 */


#include "ngx_http_hybrid_answer.h"


static void ngx_http_hybrid_early_data(ngx_http_hybrid_early_t *early,
    u_char *p, size_t len);
static ssize_t ngx_http_hybrid_hold_recv(ngx_connection_t *c, u_char *buf,
    size_t size);
static void ngx_http_hybrid_hold_handler(ngx_event_t *ev);


/* format: NGX_DECLINED is an error, whose text is kept */

ngx_int_t
ngx_http_hybrid_early_init(ngx_http_hybrid_answer_t *a, ngx_int_t format)
{
    ngx_http_upstream_t      *u;
    ngx_http_hybrid_early_t  *early;

    u = a->request->upstream;

    early = ngx_pcalloc(a->request->pool, sizeof(ngx_http_hybrid_early_t));
    if (early == NULL) {
        return NGX_ERROR;
    }

    if (format == NGX_DECLINED) {
        early->text = ngx_pnalloc(a->request->pool,
                                  NGX_HTTP_HYBRID_ANSWER_KEEP);
        if (early->text == NULL) {
            return NGX_ERROR;
        }

    } else {
        ngx_hybrid_stream_init(&early->stream, format);
    }

    early->pos = u->buffer.pos;
    early->left = u->headers_in.content_length_n;
    early->ended = (early->left == 0);

    a->early = early;

    return NGX_OK;
}


/* what has come since the last time */

void
ngx_http_hybrid_early_read(ngx_http_hybrid_answer_t *a)
{
    off_t                     n;
    ngx_int_t                 rc;
    ngx_buf_t                 b;
    ngx_http_upstream_t      *u;
    ngx_http_hybrid_early_t  *early;

    u = a->request->upstream;
    early = a->early;

    b = u->buffer;
    b.pos = early->pos;

    early->pos = b.last;

    if (!u->headers_in.chunked) {
        n = b.last - b.pos;

        if (early->left >= 0) {
            n = ngx_min(n, early->left);
            early->left -= n;
            early->ended = (early->left == 0);
        }

        ngx_http_hybrid_early_data(early, b.pos, n);

        return;
    }

    /* the proxy module will do it again: this is its buffer, but our copy */

    while (!early->ended && !early->broken) {

        rc = ngx_hybrid_parse_chunked(a->request, &b, &early->chunked);

        if (rc == NGX_OK) {
            n = ngx_min(b.last - b.pos, early->chunked.size);

            ngx_http_hybrid_early_data(early, b.pos, n);

            b.pos += n;
            early->chunked.size -= n;

        } else if (rc == NGX_DONE) {
            early->ended = 1;

        } else if (rc == NGX_ERROR) {
            early->broken = 1;

        } else {
            break;
        }
    }
}


static void
ngx_http_hybrid_early_data(ngx_http_hybrid_early_t *early, u_char *p,
    size_t len)
{
    u_char  *last;

    if (early->text) {
        len = ngx_min(len, NGX_HTTP_HYBRID_ANSWER_KEEP - early->len);
        ngx_memcpy(early->text + early->len, p, len);
        early->len += len;
        return;
    }

    last = p + len;

    while (p < last && !(early->stream.seen & (NGX_HYBRID_STREAM_TOKEN
                                               |NGX_HYBRID_STREAM_ERROR)))
    {
        p = ngx_hybrid_stream_read(&early->stream, p, last);
    }
}


/* what nginx would do when the first byte comes */

ngx_int_t
ngx_http_hybrid_hold_room(ngx_http_hybrid_answer_t *a)
{
    size_t                size;
    ngx_pool_t           *pool;
    ngx_http_upstream_t  *u;

    u = a->request->upstream;
    pool = a->request->pool;

    size = u->conf->buffer_size + a->barrier;

    u->buffer.start = ngx_palloc(pool, size);
    if (u->buffer.start == NULL) {
        return NGX_ERROR;
    }

    u->buffer.pos = u->buffer.start;
    u->buffer.last = u->buffer.start;
    u->buffer.end = u->buffer.start + size;
    u->buffer.temporary = 1;
    u->buffer.tag = u->output.tag;

#if (NGX_HTTP_CACHE)

    if (a->request->cache) {
        u->buffer.pos += a->request->cache->header_start;
        u->buffer.last = u->buffer.pos;
    }

#endif

    if (ngx_list_init(&u->headers_in.headers, pool, 8,
                      sizeof(ngx_table_elt_t))
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_list_init(&u->headers_in.trailers, pool, 2,
                         sizeof(ngx_table_elt_t));
}


ngx_int_t
ngx_http_hybrid_hold(ngx_http_hybrid_answer_t *a, ngx_msec_t time,
    ngx_uint_t keep)
{
    ngx_connection_t        *c;
    ngx_http_upstream_t     *u;
    ngx_http_hybrid_hold_t  *hold;

    u = a->request->upstream;
    c = u->peer.connection;
    hold = a->hold;

    if (u->buffer.last == u->buffer.end) {
        return NGX_OK;
    }

    if (hold == NULL) {
        hold = ngx_pcalloc(a->request->pool, sizeof(ngx_http_hybrid_hold_t));
        if (hold == NULL) {
            return NGX_ERROR;
        }

        a->hold = hold;
    }

    if (hold->connection == NULL) {
        hold->connection = c;
        hold->recv = c->recv;
        hold->keep = keep;
        hold->over = 0;

        c->recv = ngx_http_hybrid_hold_recv;

        hold->timer.handler = ngx_http_hybrid_hold_handler;
        hold->timer.data = hold;
        hold->timer.log = a->request->connection->log;
        hold->timer.cancelable = 1;

        ngx_add_timer(&hold->timer, time);
    }

    if (hold->over) {
        return NGX_OK;
    }

    /* may be the last one of the header: nobody looks at it again */

    u->buffer.last--;
    u->state->bytes_received--;

    hold->byte = *u->buffer.last;
    hold->held = 1;

    /* nginx would count on from when the request was sent */

    ngx_add_timer(c->read, u->conf->read_timeout);

    return NGX_AGAIN;
}


void
ngx_http_hybrid_hold_end(ngx_http_hybrid_answer_t *a)
{
    ngx_http_hybrid_hold_t  *hold;

    hold = a->hold;

    if (hold == NULL || hold->connection == NULL) {
        return;
    }

    hold->connection->recv = hold->recv;
    hold->connection = NULL;
    hold->held = 0;

    if (hold->timer.timer_set) {
        ngx_del_timer(&hold->timer);
    }
}


static ssize_t
ngx_http_hybrid_hold_recv(ngx_connection_t *c, u_char *buf, size_t size)
{
    ssize_t                  n;
    ngx_http_request_t      *r;
    ngx_http_hybrid_ctx_t   *ctx;
    ngx_http_hybrid_hold_t  *hold;

    r = c->data;
    ctx = ngx_http_hybrid_get_ctx(r);
    hold = ctx->answer->hold;

    if (!hold->held) {
        return hold->recv(c, buf, size);
    }

    n = 0;

    if (size > 1) {
        n = hold->recv(c, buf + 1, size - 1);

        if (n == NGX_AGAIN && !hold->over) {
            return NGX_AGAIN;
        }

        if (n <= 0) {

            if (n != NGX_AGAIN && !hold->keep) {
                return n;
            }

            /* nothing more comes: the byte is all there is */

            if (n != NGX_AGAIN) {

                /* nginx is to hear that again, after the byte */

                c->read->ready = 1;
            }

            hold->over = 1;
            n = 0;
        }
    }

    *buf = hold->byte;
    hold->held = 0;

    return n + 1;
}


static void
ngx_http_hybrid_hold_handler(ngx_event_t *ev)
{
    ngx_http_hybrid_hold_t  *hold = ev->data;

    hold->over = 1;

    ngx_post_event(hold->connection->read, &ngx_posted_events);
}
