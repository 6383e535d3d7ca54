
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * A stream on its way to the client.  One that breaks, or that ends without
 * saying so, is ended with an error in its own dialect, and then aborted:
 * neither a client that reads the stream nor one that looks at its framing
 * can take it for complete.
 */


#include "ngx_http_hybrid_answer.h"


static void ngx_http_hybrid_stream_detect(ngx_http_request_t *r,
    ngx_http_hybrid_answer_t *a);
static ngx_int_t ngx_http_hybrid_stream_late(ngx_http_request_t *r,
    ngx_http_hybrid_answer_t *a);
static ngx_uint_t ngx_http_hybrid_stream_fits(ngx_http_hybrid_answer_t *a,
    ngx_str_t *type);
static ngx_uint_t ngx_http_hybrid_stream_json(ngx_str_t *type);
static ngx_int_t ngx_http_hybrid_stream_body(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_chain_t *in,
    ngx_http_output_body_filter_pt next);
static void ngx_http_hybrid_stream_scan(ngx_http_hybrid_answer_t *a,
    ngx_chain_t *in);
static void ngx_http_hybrid_stream_skip(ngx_http_hybrid_answer_t *a,
    ngx_chain_t *in);
static ngx_int_t ngx_http_hybrid_stream_late_body(ngx_http_request_t *r,
    ngx_http_hybrid_answer_t *a, ngx_chain_t *in, ngx_chain_t **out);
static ngx_chain_t **ngx_http_hybrid_stream_link(ngx_http_request_t *r,
    ngx_chain_t **ll, u_char *data, size_t len);
static void ngx_http_hybrid_stream_unanswered(ngx_http_hybrid_answer_t *a,
    ngx_int_t rc);
static void ngx_http_hybrid_stream_error(ngx_http_hybrid_answer_t *a,
    ngx_str_t *text);
static void ngx_http_hybrid_stream_around(ngx_http_hybrid_answer_t *a,
    ngx_str_t *before, ngx_str_t *after);


ngx_int_t
ngx_http_hybrid_stream_header(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx)
{
    ngx_http_hybrid_answer_t  *a;

    a = ctx->answer;

    if (a->padding) {
        return NGX_OK;
    }

    if (r->err_status == 0 && ngx_http_hybrid_answered(r, ctx)) {
        a->begun = 1;
        ngx_http_hybrid_stream_detect(r, a);
    }

    if (!a->padded) {
        return NGX_OK;
    }

    r->header_sent = 1;

    if (ngx_http_hybrid_stream_late(r, a) != NGX_OK) {
        return NGX_ERROR;
    }

    return NGX_DONE;
}


static void
ngx_http_hybrid_stream_detect(ngx_http_request_t *r,
    ngx_http_hybrid_answer_t *a)
{
    ngx_int_t  format;

    if (r->headers_out.status != NGX_HTTP_OK
        || a->ctx->endpoint->verb != NGX_HTTP_HYBRID_VERB_INFERENCE)
    {
        return;
    }

    a->good = 1;

    if (r->header_only || r->headers_out.content_encoding != a->encoding) {
        return;
    }

    format = ngx_http_hybrid_answer_format(&r->headers_out.content_type);

    if (format == NGX_DECLINED) {

        if (!ngx_http_hybrid_stream_json(&r->headers_out.content_type)) {
            return;
        }

        format = ngx_hybrid_stream_json;
    }

    ngx_hybrid_stream_init(&a->stream, format);

    a->metered = 1;

    if (!a->streamed || format == ngx_hybrid_stream_json) {
        return;
    }

    a->scanned = 1;

    /* what passes may be less than that, or more */

    ngx_http_clear_content_length(r);
    ngx_http_clear_accept_ranges(r);

    /* Gemini has no last event */

    a->whole = (a->dialect != ngx_http_hybrid_dialect_google);
}


/* the second header, after that of a heartbeat: only its error is told */

static ngx_int_t
ngx_http_hybrid_stream_late(ngx_http_request_t *r,
    ngx_http_hybrid_answer_t *a)
{
    ngx_str_t   before, after, *type;
    ngx_uint_t  status;

    status = r->err_status ? r->err_status : r->headers_out.status;

    type = &r->headers_out.content_type;

    if (status == NGX_HTTP_OK
        && r->headers_out.content_encoding == a->encoding
        && ngx_http_hybrid_stream_fits(a, type))
    {
        return NGX_OK;
    }

    a->abort = 1;
    a->late_status = status < NGX_HTTP_BAD_REQUEST ? NGX_HTTP_BAD_GATEWAY
                                                   : status;

    if (status != NGX_HTTP_OK
        && r->headers_out.content_encoding == a->encoding
        && ngx_http_hybrid_stream_json(type))
    {
        a->late_json = 1;
        ngx_http_hybrid_stream_around(a, &a->late, &after);
        return NGX_OK;
    }

    /* a page of HTML, or nothing that is known */

    if (ngx_http_hybrid_refusal_late(r, a->ctx, a->late_status, &a->late)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_http_hybrid_stream_around(a, &before, &after);

    type->data = ngx_pnalloc(r->pool, before.len + a->late.len + after.len);
    if (type->data == NULL) {
        return NGX_ERROR;
    }

    type->len = ngx_sprintf(type->data, "%V%V%V", &before, &a->late, &after)
                - type->data;

    a->late = *type;

    return NGX_OK;
}


/* what the header of a heartbeat has promised */

static ngx_uint_t
ngx_http_hybrid_stream_fits(ngx_http_hybrid_answer_t *a, ngx_str_t *type)
{
    ngx_int_t  format;

    format = ngx_http_hybrid_answer_format(type);

    if (a->events) {
        return format == ngx_hybrid_stream_events;
    }

    return (a->streamed && format == ngx_hybrid_stream_lines)
           || ngx_http_hybrid_stream_json(type);
}


static ngx_uint_t
ngx_http_hybrid_stream_json(ngx_str_t *type)
{
    return type->len >= sizeof("application/json") - 1
           && ngx_strncasecmp(type->data, (u_char *) "application/json",
                              sizeof("application/json") - 1)
              == 0;
}


/* all that goes to the client, or is replaced by a refusal */

ngx_int_t
ngx_http_hybrid_stream_filter(ngx_http_request_t *r, ngx_chain_t *in,
    ngx_http_output_body_filter_pt next)
{
    ngx_chain_t            *out;
    ngx_http_hybrid_ctx_t  *ctx;

    ctx = ngx_http_hybrid_get_ctx(r);

    if (ctx && ctx->body && ngx_http_hybrid_answered(r, ctx)
        && ctx->u->header_sent)
    {
        ngx_http_hybrid_body_free(ctx);
    }

    if (ctx == NULL || in == NULL || (!ctx->replace && ctx->answer == NULL)) {
        return next(r, in);
    }

    if (!ctx->replace) {
        return ngx_http_hybrid_stream_body(r, ctx, in, next);
    }

    if (ngx_http_hybrid_refusal_body(r, ctx, in, &out) != NGX_OK) {
        return NGX_ERROR;
    }

    return next(r, out);
}


static ngx_int_t
ngx_http_hybrid_stream_body(ngx_http_request_t *r, ngx_http_hybrid_ctx_t *ctx,
    ngx_chain_t *in, ngx_http_output_body_filter_pt next)
{
    ngx_int_t                  rc;
    ngx_uint_t                 ours;
    ngx_chain_t               *out, *cl;
    ngx_http_hybrid_answer_t  *a;

    a = ctx->answer;
    ours = 0;

    if (a->padding || !a->begun) {
        return next(r, in);
    }

    ngx_http_hybrid_choice_progress(ctx);

    a->sent = ngx_current_msec;
    ctx->progress = ngx_current_msec;

    out = in;
    rc = NGX_OK;

    if (a->late_status) {
        rc = ngx_http_hybrid_stream_late_body(r, a, in, &out);

    } else if (!a->scanned) {

        if (a->metered) {
            ngx_http_hybrid_stream_scan(a, in);

        } else if (a->good) {
            ngx_http_hybrid_stream_skip(a, in);
        }

        return next(r, in);

    } else if (a->usage) {
        rc = ngx_http_hybrid_usage_filter(r, a, in, &out);
        ours = 1;

    } else {
        ngx_http_hybrid_stream_scan(a, in);
    }

    if (rc != NGX_OK) {
        return NGX_ERROR;
    }

    for (cl = a->abort ? out : NULL; cl; cl = cl->next) {
        if (cl->buf->last_buf) {
            cl->buf->last_buf = 0;
            cl->buf->flush = 1;

            r->keepalive = 0;
        }
    }

    if (out == NULL && !r->connection->buffered) {

        /* all of it is kept, or not for the client */

        return NGX_OK;
    }

    rc = next(r, out);

    if (ours) {
        ngx_chain_update_chains(r->pool, &a->free, &a->busy, &out,
                                (ngx_buf_tag_t) &ngx_http_hybrid_module);
    }

    return rc;
}


static void
ngx_http_hybrid_stream_scan(ngx_http_hybrid_answer_t *a, ngx_chain_t *in)
{
    u_char      *p;
    ngx_buf_t   *b;
    ngx_uint_t   scanned;

    scanned = a->scanned;

    for ( /* void */ ; in; in = in->next) {
        b = in->buf;

        if (!ngx_buf_in_memory(b)) {

            if (b->in_file) {
                a->whole = 0;
                a->scanned = 0;
                a->metered = 0;

                ngx_http_hybrid_stream_skip(a, in);
                break;
            }

            continue;
        }

        a->read += b->last - b->pos;

        for (p = b->pos; p < b->last; /* void */ ) {
            p = ngx_hybrid_stream_read(&a->stream, p, b->last);
        }
    }

    if (scanned) {
        ngx_http_hybrid_answer_tokens(a);
    }
}


static void
ngx_http_hybrid_stream_skip(ngx_http_hybrid_answer_t *a, ngx_chain_t *in)
{
    for ( /* void */ ; in; in = in->next) {
        a->unread += ngx_buf_size(in->buf);
    }
}


/*
 * The backend's own words are made to fit where the client expects an event
 * or a line; white space between the members of JSON is all that changes.
 */

static ngx_int_t
ngx_http_hybrid_stream_late_body(ngx_http_request_t *r,
    ngx_http_hybrid_answer_t *a, ngx_chain_t *in, ngx_chain_t **out)
{
    u_char       *p;
    ngx_buf_t    *b;
    ngx_str_t     before, after;
    ngx_chain_t  *cl, **ll;

    ll = out;

    if (a->late.len) {
        ll = ngx_http_hybrid_stream_link(r, ll, a->late.data, a->late.len);
        if (ll == NULL) {
            return NGX_ERROR;
        }

        a->late.len = 0;
    }

    for ( /* void */ ; in; in = in->next) {
        b = in->buf;

        if (!a->late_json) {
            b->pos = b->last;
            b->file_pos = b->file_last;

        } else if (a->streamed && ngx_buf_in_memory(b)) {

            for (p = b->pos; p < b->last; p++) {
                if (*p == '\r' || *p == '\n') {
                    *p = ' ';
                }
            }
        }

        if (b->last_buf && a->late_json) {
            ngx_http_hybrid_stream_around(a, &before, &after);

            ll = ngx_http_hybrid_stream_link(r, ll, after.data, after.len);
            if (ll == NULL) {
                return NGX_ERROR;
            }
        }

        if (ngx_buf_size(b) == 0 && !ngx_buf_special(b)) {
            continue;
        }

        cl = ngx_alloc_chain_link(r->pool);
        if (cl == NULL) {
            return NGX_ERROR;
        }

        cl->buf = b;
        *ll = cl;
        ll = &cl->next;
    }

    *ll = NULL;

    return NGX_OK;
}


static ngx_chain_t **
ngx_http_hybrid_stream_link(ngx_http_request_t *r, ngx_chain_t **ll,
    u_char *data, size_t len)
{
    ngx_buf_t    *b;
    ngx_chain_t  *cl;

    b = ngx_calloc_buf(r->pool);
    cl = ngx_alloc_chain_link(r->pool);

    if (b == NULL || cl == NULL) {
        return NULL;
    }

    b->pos = data;
    b->last = data + len;
    b->memory = 1;
    b->flush = 1;

    cl->buf = b;
    cl->next = NULL;
    *ll = cl;

    return &cl->next;
}


/*
 * nginx is about to end the answer: rc is zero when the backend has ended it
 * as its framing says.
 */

void
ngx_http_hybrid_stream_finalize(ngx_http_hybrid_answer_t *a, ngx_int_t rc)
{
    ngx_str_t            text;
    ngx_uint_t           seen;
    ngx_connection_t    *c;
    ngx_http_request_t  *r;

    r = a->request;
    c = r->connection;

    if (c->error
        || rc == NGX_DONE || rc == NGX_DECLINED
        || rc == NGX_HTTP_CLIENT_CLOSED_REQUEST
        || (rc == NGX_HTTP_REQUEST_TIME_OUT && c->timedout))
    {
        return;
    }

    if (!r->upstream->header_sent) {

        if (a->padded) {
            ngx_http_hybrid_stream_unanswered(a, rc);
        }

        return;
    }

    if (!a->scanned) {
        return;
    }

    if (rc == NGX_OK && r->buffered) {

        /* what nginx has spooled for a slow client has not come by yet */

        return;
    }

    seen = a->stream.seen;

    if (seen & NGX_HYBRID_STREAM_ERROR) {
        a->broken = 1;
        return;
    }

    if ((seen & NGX_HYBRID_STREAM_END) && (rc == NGX_OK || a->nkept == 0)) {
        return;
    }

    if (rc == NGX_OK
        && (!a->whole || (seen & NGX_HYBRID_STREAM_FINISH)))
    {
        return;
    }

    a->broken = 1;
    a->abort = 1;

    ngx_log_error(NGX_LOG_ERR, c->log, 0,
                  "backend \"%V\" has broken off its stream%s",
                  &a->ctx->candidates[a->ctx->current].backend->name,
                  a->ctx->first_token ? "" : ", before the first token");

    if (ngx_http_hybrid_refusal_late(r, a->ctx,
                                     rc == NGX_HTTP_GATEWAY_TIME_OUT
                                     ? NGX_HTTP_GATEWAY_TIME_OUT : 0, &text)
        == NGX_OK)
    {
        ngx_http_hybrid_stream_error(a, &text);
    }
}


/* nobody has answered, but the client has had a header and heartbeats */

static void
ngx_http_hybrid_stream_unanswered(ngx_http_hybrid_answer_t *a, ngx_int_t rc)
{
    ngx_str_t            text;
    ngx_http_request_t  *r;

    r = a->request;

    a->late_status = rc >= NGX_HTTP_BAD_REQUEST ? (ngx_uint_t) rc
                                              : NGX_HTTP_INTERNAL_SERVER_ERROR;
    a->abort = 1;

    /* no error page: nginx flushes what there is, and closes */

    r->header_sent = 1;
    r->upstream->header_sent = 1;

    if (ngx_http_hybrid_refusal_late(r, a->ctx, a->late_status, &text)
        == NGX_OK)
    {
        ngx_http_hybrid_stream_error(a, &text);
    }
}


/* failing to send it changes nothing */

static void
ngx_http_hybrid_stream_error(ngx_http_hybrid_answer_t *a, ngx_str_t *text)
{
    u_char              *p;
    ngx_str_t            before, after;
    const char          *fresh;
    ngx_chain_t         *out;
    ngx_http_request_t  *r;

    r = a->request;
    fresh = "";

    /* a part of an event that we keep is dropped */

    if (a->scanned && (a->nkept == 0 || a->passing)) {

        if (a->stream.place == ngx_hybrid_stream_next_line) {
            fresh = "\n";

        } else if (a->stream.place == ngx_hybrid_stream_inside) {
            fresh = a->stream.format == ngx_hybrid_stream_events ? "\n\n"
                                                                 : "\n";
        }
    }

    ngx_http_hybrid_stream_around(a, &before, &after);

    p = ngx_pnalloc(r->pool, 2 + before.len + text->len + after.len);
    if (p == NULL) {
        return;
    }

    text->len = ngx_sprintf(p, "%s%V%V%V", fresh, &before, text, &after) - p;
    text->data = p;

    if (ngx_http_hybrid_stream_link(r, &out, text->data, text->len) == NULL) {
        return;
    }

    a->padding = 1;

    (void) ngx_http_output_filter(r, out);

    a->padding = 0;
}


/* what makes an error object one of the stream */

static void
ngx_http_hybrid_stream_around(ngx_http_hybrid_answer_t *a, ngx_str_t *before,
    ngx_str_t *after)
{
    const ngx_str_t  *path;

    ngx_str_null(before);
    ngx_str_set(after, "\n");

    if (!a->events) {
        return;
    }

    ngx_str_set(before, "data: ");
    ngx_str_set(after, "\n\n");

    path = &a->ctx->endpoint->path;

    if (a->dialect == ngx_http_hybrid_dialect_anthropic
        || (path->len == sizeof("/v1/responses") - 1
            && ngx_memcmp(path->data, "/v1/responses", 13) == 0))
    {
        ngx_str_set(before, "event: error\ndata: ");
    }
}
