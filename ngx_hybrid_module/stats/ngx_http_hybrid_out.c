
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * The text of a status answer: as long as it gets, in buffers that are added
 * when one is full, so that nobody has to know before how long that is.
 */


#include "ngx_http_hybrid_stats.h"


static ngx_buf_t *ngx_http_hybrid_out_buf(ngx_http_hybrid_out_t *out);


void
ngx_http_hybrid_out(ngx_http_hybrid_out_t *out, const char *fmt, ...)
{
    u_char     *p;
    va_list     args;
    ngx_buf_t  *b;

    if (out->failed) {
        return;
    }

    b = out->last ? out->last->buf : NULL;

    if (b) {
        va_start(args, fmt);
        p = ngx_vslprintf(b->last, b->end, fmt, args);
        va_end(args);

        if (p < b->end) {
            b->last = p;
            return;
        }

        /* perhaps it was cut off: once more, where there is room */
    }

    b = ngx_http_hybrid_out_buf(out);

    if (b) {
        va_start(args, fmt);
        b->last = ngx_vslprintf(b->last, b->end, fmt, args);
        va_end(args);
    }
}


u_char *
ngx_http_hybrid_out_room(ngx_http_hybrid_out_t *out, size_t size,
    u_char **end)
{
    ngx_buf_t  *b;

    b = out->last ? out->last->buf : NULL;

    if (out->failed
        || ((b == NULL || (size_t) (b->end - b->last) < size)
            && (b = ngx_http_hybrid_out_buf(out)) == NULL))
    {
        return NULL;
    }

    *end = b->end;

    return b->last;
}


static ngx_buf_t *
ngx_http_hybrid_out_buf(ngx_http_hybrid_out_t *out)
{
    ngx_buf_t    *b;
    ngx_chain_t  *cl;

    cl = ngx_alloc_chain_link(out->pool);
    b = ngx_create_temp_buf(out->pool, NGX_HTTP_HYBRID_OUT);

    if (cl == NULL || b == NULL) {
        out->failed = 1;
        return NULL;
    }

    cl->buf = b;
    cl->next = NULL;

    if (out->last) {
        out->last->next = cl;

    } else {
        out->chain = cl;
    }

    out->last = cl;

    return b;
}


/* the answer: its header, and all that was written */

ngx_int_t
ngx_http_hybrid_out_send(ngx_http_hybrid_out_t *out, ngx_http_request_t *r,
    ngx_str_t *type)
{
    off_t         len;
    ngx_int_t     rc;
    ngx_chain_t  *cl;

    if (out->failed || out->chain == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    len = 0;

    for (cl = out->chain; cl; cl = cl->next) {
        len += cl->buf->last - cl->buf->pos;
    }

    r->headers_out.status = NGX_HTTP_OK;
    r->headers_out.content_length_n = len;
    r->headers_out.content_type = *type;
    r->headers_out.content_type_len = type->len;
    r->headers_out.content_type_lowcase = NULL;
    r->disable_not_modified = 1;

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    out->last->buf->last_buf = (r == r->main);
    out->last->buf->last_in_chain = 1;

    return ngx_http_output_filter(r, out->chain);
}
