
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * OpenAI's streams tell how many tokens were used only when they are asked
 * to, in an event of its own.  We ask always; the event is taken out again
 * where the client has not asked.
 */


#include "ngx_http_hybrid_answer.h"


#define ngx_http_hybrid_usage_alone(said)                                     \
    (((said) & (NGX_HYBRID_STREAM_USAGE|NGX_HYBRID_STREAM_CHOICES             \
                |NGX_HYBRID_STREAM_CHOICE))                                   \
     == (NGX_HYBRID_STREAM_USAGE|NGX_HYBRID_STREAM_CHOICES))


static ngx_int_t ngx_http_hybrid_usage_buf(ngx_http_request_t *r,
    ngx_http_hybrid_answer_t *a, ngx_buf_t *b, ngx_chain_t ***ll);
static ngx_int_t ngx_http_hybrid_usage_keep(ngx_http_request_t *r,
    ngx_http_hybrid_answer_t *a, u_char *p, u_char *last);
static ngx_int_t ngx_http_hybrid_usage_pass(ngx_http_request_t *r,
    ngx_http_hybrid_answer_t *a, ngx_chain_t ***ll);


ngx_uint_t
ngx_http_hybrid_usage_wanted(ngx_http_hybrid_ctx_t *ctx)
{
    const ngx_str_t          *path;
    ngx_hybrid_json_value_t  *values;

    path = &ctx->endpoint->path;

    if (ctx->body == NULL || ctx->body->form || ctx->google
        || (!(path->len == sizeof("/v1/chat/completions") - 1
              && ngx_memcmp(path->data, "/v1/chat/completions", 20) == 0)
            && !(path->len == sizeof("/v1/completions") - 1
                 && ngx_memcmp(path->data, "/v1/completions", 15) == 0)))
    {
        return 0;
    }

    values = ctx->body->values;

    if (values[NGX_HTTP_HYBRID_KEY_STREAM].type != NGX_HYBRID_JSON_T_TRUE) {
        return 0;
    }

    switch (values[NGX_HTTP_HYBRID_KEY_STREAM_OPTIONS].type) {

    case NGX_HYBRID_JSON_T_ABSENT:
    case NGX_HYBRID_JSON_T_NULL:
        return 1;

    case NGX_HYBRID_JSON_T_OBJECT:
        break;

    default:
        return 0;
    }

    switch (values[NGX_HTTP_HYBRID_USAGE].type) {

    case NGX_HYBRID_JSON_T_ABSENT:
    case NGX_HYBRID_JSON_T_NULL:
    case NGX_HYBRID_JSON_T_FALSE:
        return 1;
    }

    return 0;
}


ngx_int_t
ngx_http_hybrid_usage_edit(ngx_http_request_t *r, ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_edit_t *edit)
{
    u_char                    buf[64];
    ssize_t                   i, n;
    ngx_hybrid_json_value_t  *values, *options, *member;

    values = ctx->body->values;
    options = &values[NGX_HTTP_HYBRID_KEY_STREAM_OPTIONS];
    member = &values[NGX_HTTP_HYBRID_USAGE];

    if (options->type == NGX_HYBRID_JSON_T_ABSENT) {
        edit->start = values[NGX_HTTP_HYBRID_KEY_STREAM].end;
        edit->end = edit->start;
        ngx_str_set(&edit->text,
                    ",\"stream_options\":{\"include_usage\":true}");
        return NGX_OK;
    }

    if (options->type == NGX_HYBRID_JSON_T_NULL) {
        edit->start = options->start;
        edit->end = options->end;
        ngx_str_set(&edit->text, "{\"include_usage\":true}");
        return NGX_OK;
    }

    if (member->type != NGX_HYBRID_JSON_T_ABSENT) {
        edit->start = member->start;
        edit->end = member->end;
        ngx_str_set(&edit->text, "true");
        return NGX_OK;
    }

    /* a comma follows, unless there is nothing that it would separate */

    edit->start = options->start + 1;
    edit->end = edit->start;
    ngx_str_set(&edit->text, "\"include_usage\":true,");

    while (edit->end < options->end) {
        n = ngx_http_hybrid_body_peek(r, edit->end, buf, sizeof(buf));

        if (n <= 0) {
            return NGX_ERROR;
        }

        for (i = 0; i < n; i++) {

            if (buf[i] == '}') {
                edit->text.len--;
            }

            if (buf[i] != ' ' && buf[i] != '\t'
                && buf[i] != '\r' && buf[i] != '\n')
            {
                edit->end = edit->start;
                return NGX_OK;
            }
        }

        edit->end += n;
    }

    return NGX_ERROR;
}


/* called for a stream of events: scans it, too */

ngx_int_t
ngx_http_hybrid_usage_filter(ngx_http_request_t *r,
    ngx_http_hybrid_answer_t *a, ngx_chain_t *in, ngx_chain_t **out)
{
    ngx_buf_t    *b;
    ngx_chain_t  *cl, **ll;

    ll = out;

    for ( /* void */ ; in; in = in->next) {
        b = in->buf;

        if (ngx_buf_in_memory(b) && a->scanned) {

            if (ngx_http_hybrid_usage_buf(r, a, b, &ll) != NGX_OK) {
                return NGX_ERROR;
            }

            if (b->pos == b->last && !b->last_buf) {
                continue;
            }

        } else if (b->in_file) {

            /* nginx has spooled the answer: it passes as it is */

            if (ngx_http_hybrid_usage_pass(r, a, &ll) != NGX_OK) {
                return NGX_ERROR;
            }

            a->whole = 0;
            a->scanned = 0;
            a->metered = 0;
        }

        if (!a->scanned) {
            a->unread += ngx_buf_size(b);
        }

        if (b->last_buf && !a->broken
            && ngx_http_hybrid_usage_pass(r, a, &ll) != NGX_OK)
        {
            return NGX_ERROR;
        }

        if (b->pos == b->last && ngx_buf_in_memory(b)) {

            /* it only ends the answer */

            b->memory = 0;
            b->temporary = 0;
            b->mmap = 0;
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

    ngx_http_hybrid_answer_tokens(a);

    return NGX_OK;
}


/*
 * All that passes of b stays in it, moved together: its owner uses its memory
 * again when b has been sent, and reads no more as long as it has not.
 */

static ngx_int_t
ngx_http_hybrid_usage_buf(ngx_http_request_t *r, ngx_http_hybrid_answer_t *a,
    ngx_buf_t *b, ngx_chain_t ***ll)
{
    u_char               *p, *start, *event;
    ngx_hybrid_stream_t  *s;

    s = &a->stream;

    a->read += b->last - b->pos;

    /* [start, event) passes, and from there on it is not known yet */

    start = b->pos;
    event = b->pos;

    for (p = b->pos; p < b->last; /* void */ ) {

        p = ngx_hybrid_stream_read(s, p, b->last);

        if (!s->complete) {
            break;
        }

        if (!a->passing && ngx_http_hybrid_usage_alone(s->said)) {

            a->nkept = 0;

            ngx_memmove(p - (event - start), start, event - start);
            start = p - (event - start);

        } else if (ngx_http_hybrid_usage_pass(r, a, ll) != NGX_OK) {
            return NGX_ERROR;
        }

        a->passing = 0;
        event = p;
    }

    if (event < b->last && !a->passing) {

        if ((s->said & NGX_HYBRID_STREAM_CHOICE)
            || a->nkept + (b->last - event) > NGX_HTTP_HYBRID_ANSWER_KEEP)
        {
            /* it is another one, or too long to be that one */

            if (ngx_http_hybrid_usage_pass(r, a, ll) != NGX_OK) {
                return NGX_ERROR;
            }

            a->passing = 1;

        } else {

            if (ngx_http_hybrid_usage_keep(r, a, event, b->last) != NGX_OK) {
                return NGX_ERROR;
            }

            b->last = event;
        }
    }

    b->pos = ngx_min(start, b->last);

    return NGX_OK;
}


static ngx_int_t
ngx_http_hybrid_usage_keep(ngx_http_request_t *r, ngx_http_hybrid_answer_t *a,
    u_char *p, u_char *last)
{
    if (a->kept == NULL) {
        a->kept = ngx_pnalloc(r->pool, NGX_HTTP_HYBRID_ANSWER_KEEP);
        if (a->kept == NULL) {
            return NGX_ERROR;
        }
    }

    ngx_memcpy(a->kept + a->nkept, p, last - p);
    a->nkept += last - p;

    return NGX_OK;
}


/* what was kept, in a buffer that is used again when it has been sent */

static ngx_int_t
ngx_http_hybrid_usage_pass(ngx_http_request_t *r, ngx_http_hybrid_answer_t *a,
    ngx_chain_t ***ll)
{
    ngx_buf_t    *b;
    ngx_chain_t  *cl;

    if (a->nkept == 0) {
        return NGX_OK;
    }

    cl = ngx_chain_get_free_buf(r->pool, &a->free);
    if (cl == NULL) {
        return NGX_ERROR;
    }

    b = cl->buf;

    if (b->start == NULL) {
        b->start = ngx_palloc(r->pool, NGX_HTTP_HYBRID_ANSWER_KEEP);
        if (b->start == NULL) {
            return NGX_ERROR;
        }

        b->end = b->start + NGX_HTTP_HYBRID_ANSWER_KEEP;
        b->temporary = 1;
        b->tag = (ngx_buf_tag_t) &ngx_http_hybrid_module;
    }

    b->pos = b->start;
    b->last = ngx_cpymem(b->pos, a->kept, a->nkept);
    b->flush = 1;

    a->nkept = 0;

    cl->next = NULL;
    **ll = cl;
    *ll = &cl->next;

    return NGX_OK;
}
