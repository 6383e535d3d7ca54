
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * While a backend loads a model or reads a long prompt, the client gets
 * something that means nothing, so that no tunnel takes the silence for
 * death.  The first time that also is a header with status 200, of the kind
 * that was asked for; nginx knows nothing of it and may still go on to
 * another candidate.
 */


#include "ngx_http_hybrid_answer.h"


static void ngx_http_hybrid_heartbeat_handler(ngx_event_t *ev);
static ngx_uint_t ngx_http_hybrid_heartbeat_due(ngx_http_hybrid_answer_t *a);
static ngx_int_t ngx_http_hybrid_heartbeat_header(
    ngx_http_hybrid_answer_t *a);
static ngx_int_t ngx_http_hybrid_heartbeat_send(ngx_http_hybrid_answer_t *a);


static ngx_str_t  ngx_http_hybrid_heartbeat_space = ngx_string(" ");
static ngx_str_t  ngx_http_hybrid_heartbeat_comment = ngx_string(":\n\n");
static ngx_str_t  ngx_http_hybrid_heartbeat_ping =
    ngx_string("event: ping\ndata: {\"type\": \"ping\"}\n\n");


ngx_int_t
ngx_http_hybrid_heartbeat_init(ngx_http_hybrid_answer_t *a, ngx_msec_t time)
{
    ngx_event_t  *beat;

    beat = ngx_pcalloc(a->request->pool, sizeof(ngx_event_t));
    if (beat == NULL) {
        return NGX_ERROR;
    }

    beat->handler = ngx_http_hybrid_heartbeat_handler;
    beat->data = a;
    beat->log = a->request->connection->log;

    /* the request keeps a worker that exits, not this */

    beat->cancelable = 1;

    a->beat = beat;
    a->beat_time = time;

    ngx_add_timer(beat, time);

    return NGX_OK;
}


static void
ngx_http_hybrid_heartbeat_handler(ngx_event_t *ev)
{
    ngx_http_hybrid_answer_t *a = ev->data;

    ngx_int_t            rc;
    ngx_msec_t           silence;
    ngx_connection_t    *c;
    ngx_http_request_t  *r;

    r = a->request;
    c = r->connection;

    ngx_http_set_log_request(c->log, r);

    if (a->done || c->error || !ngx_http_hybrid_answered(r, a->ctx)) {
        return;
    }

    silence = ngx_current_msec - a->sent;

    if (silence < a->beat_time) {
        ngx_add_timer(ev, a->beat_time - silence);
        return;
    }

    ngx_add_timer(ev, a->beat_time);

    if (c->data != r || r->postponed) {

        /* a subrequest's turn */

        return;
    }

    if (r->out || c->buffered) {

        /* the client does not read; nginx may not be writing now */

        rc = ngx_http_output_filter(r, NULL);

    } else if (ngx_http_hybrid_heartbeat_due(a)) {
        rc = ngx_http_hybrid_heartbeat_send(a);

    } else {
        return;
    }

    if (rc == NGX_ERROR) {

        /* nginx's own handler ends the request, whatever it is doing */

        c->error = 1;
        ngx_post_event(c->write, &ngx_posted_events);
    }
}


/* nothing of the answer has been sent, or an event of it has just ended */

static ngx_uint_t
ngx_http_hybrid_heartbeat_due(ngx_http_hybrid_answer_t *a)
{
    ngx_http_upstream_t  *u;

    u = a->request->upstream;

    if (!u->header_sent) {
        return 1;
    }

    return a->scanned && !u->buffering
           && a->stream.place == ngx_hybrid_stream_between
           && !(a->stream.seen & NGX_HYBRID_STREAM_END)
           && u->out_bufs == NULL && u->busy_bufs == NULL;
}


static ngx_int_t
ngx_http_hybrid_heartbeat_send(ngx_http_hybrid_answer_t *a)
{
    ngx_int_t            rc;
    ngx_buf_t           *b;
    ngx_str_t           *pad;
    ngx_chain_t          out;
    ngx_http_request_t  *r;

    r = a->request;

    if (!r->upstream->header_sent && !a->padded) {
        rc = ngx_http_hybrid_heartbeat_header(a);

        if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
            return rc;
        }
    }

    if (!a->events) {
        pad = &ngx_http_hybrid_heartbeat_space;

    } else if (a->dialect == ngx_http_hybrid_dialect_anthropic) {
        pad = &ngx_http_hybrid_heartbeat_ping;

    } else {
        pad = &ngx_http_hybrid_heartbeat_comment;
    }

    b = ngx_calloc_buf(r->pool);
    if (b == NULL) {
        return NGX_ERROR;
    }

    b->pos = pad->data;
    b->last = pad->data + pad->len;
    b->memory = 1;
    b->flush = 1;

    out.buf = b;
    out.next = NULL;

    a->padding = 1;

    rc = ngx_http_output_filter(r, &out);

    a->padding = 0;
    a->sent = ngx_current_msec;

    return rc;
}


static ngx_int_t
ngx_http_hybrid_heartbeat_header(ngx_http_hybrid_answer_t *a)
{
    ngx_int_t            rc;
    ngx_http_request_t  *r;

    r = a->request;

    if (!a->streamed) {
        ngx_str_set(&r->headers_out.content_type, "application/json");

    } else if (a->events) {
        ngx_str_set(&r->headers_out.content_type, "text/event-stream");

    } else {
        ngx_str_set(&r->headers_out.content_type, "application/x-ndjson");
    }

    r->headers_out.content_type_len = r->headers_out.content_type.len;
    r->headers_out.content_type_lowcase = NULL;
    r->headers_out.status = NGX_HTTP_OK;

    ngx_http_clear_content_length(r);

    r->disable_not_modified = 1;

    a->padded = 1;
    a->padding = 1;

    rc = ngx_http_send_header(r);

    a->padding = 0;
    a->encoding = r->headers_out.content_encoding;

    return rc;
}
