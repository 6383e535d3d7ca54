
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * The answer of a fetch, by nginx's own parsers.  The head stays where it
 * came in, the values of its headers point there; what follows it is taken
 * from the rest of the same buffer into the body.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_hybrid_compat.h"
#include "ngx_hybrid_fetch.h"


static ngx_int_t ngx_hybrid_fetch_parse_status(ngx_hybrid_fetch_t *f);
static ngx_int_t ngx_hybrid_fetch_parse_header(ngx_hybrid_fetch_t *f);
static ngx_int_t ngx_hybrid_fetch_parse_framing(ngx_hybrid_fetch_t *f);
static ngx_int_t ngx_hybrid_fetch_parse_body(ngx_hybrid_fetch_t *f,
    ngx_buf_t *b);
static ngx_int_t ngx_hybrid_fetch_parse_chunks(ngx_hybrid_fetch_t *f,
    ngx_buf_t *b);
static ngx_int_t ngx_hybrid_fetch_take(ngx_hybrid_fetch_t *f, ngx_buf_t *b,
    off_t max);
static ngx_uint_t ngx_hybrid_fetch_count(ngx_hybrid_fetch_t *f,
    const char *name, ngx_str_t **value);


ngx_int_t
ngx_hybrid_fetch_parse(ngx_hybrid_fetch_t *f)
{
    ngx_int_t  rc;

    if (f->state == ngx_hybrid_fetch_status) {
        rc = ngx_hybrid_fetch_parse_status(f);
        if (rc != NGX_OK) {
            return rc;
        }
    }

    if (f->state == ngx_hybrid_fetch_header) {
        rc = ngx_hybrid_fetch_parse_header(f);
        if (rc != NGX_OK) {
            return rc;
        }

        rc = ngx_hybrid_fetch_parse_framing(f);
        if (rc != NGX_OK) {
            return rc;
        }

        f->state = ngx_hybrid_fetch_body;

        /* from here on the room below the head is used again and again */

        f->head.start = f->head.pos;
        f->head.end += NGX_HYBRID_FETCH_READ;
    }

    rc = ngx_hybrid_fetch_parse_body(f, &f->head);

    if (rc == NGX_AGAIN) {
        f->head.pos = f->head.start;
        f->head.last = f->head.start;
    }

    if (rc == NGX_OK) {
        f->body.data = f->content.pos;
        f->body.len = f->content.last - f->content.pos;
    }

    return rc;
}


ngx_int_t
ngx_hybrid_fetch_eof(ngx_hybrid_fetch_t *f, ngx_uint_t clean)
{
    if (f->state == ngx_hybrid_fetch_body
        && f->framing == ngx_hybrid_fetch_close
        && clean)
    {
        f->body.data = f->content.pos;
        f->body.len = f->content.last - f->content.pos;

        return NGX_OK;
    }

    if (f->error.len) {
        return NGX_ERROR;
    }

    if (f->received == 0) {
        ngx_log_error(NGX_LOG_ERR, &f->log, 0, "no answer, connection closed");

    } else {
        ngx_log_error(NGX_LOG_ERR, &f->log, 0, "answer is cut off");
    }

    return NGX_ERROR;
}


static ngx_int_t
ngx_hybrid_fetch_parse_status(ngx_hybrid_fetch_t *f)
{
    ngx_int_t  rc;

    rc = ngx_http_parse_status_line(f->r, &f->head, &f->line);

    if (rc == NGX_AGAIN && f->head.last < f->head.end) {
        return NGX_AGAIN;
    }

    /* nobody was asked for an interim answer */

    if (rc != NGX_OK || f->line.code < 200) {
        ngx_log_error(NGX_LOG_ERR, &f->log, 0, "answer is not of HTTP");
        return NGX_ERROR;
    }

    f->status = f->line.code;
    f->state = ngx_hybrid_fetch_header;

    return NGX_OK;
}


static ngx_int_t
ngx_hybrid_fetch_parse_header(ngx_hybrid_fetch_t *f)
{
    ngx_int_t            rc;
    ngx_keyval_t        *h;
    ngx_http_request_t  *r;

    r = f->r;

    for ( ;; ) {
        rc = ngx_http_parse_header_line(r, &f->head, 1);

        if (rc == NGX_HTTP_PARSE_HEADER_DONE) {
            return NGX_OK;
        }

        if (rc == NGX_AGAIN && f->head.last < f->head.end) {
            return NGX_AGAIN;
        }

        if (rc != NGX_OK || f->headers.nelts == NGX_HYBRID_FETCH_HEADERS) {
            break;
        }

        if (r->invalid_header) {
            continue;
        }

        h = ngx_array_push(&f->headers);
        if (h == NULL) {
            break;
        }

        h->key.data = r->header_name_start;
        h->key.len = r->header_name_end - r->header_name_start;
        h->value.data = r->header_start;
        h->value.len = r->header_end - r->header_start;
    }

    ngx_log_error(NGX_LOG_ERR, &f->log, 0,
                  "header of the answer is invalid or too large");

    return NGX_ERROR;
}


/* two readers must not see two ends of the body */

static ngx_int_t
ngx_hybrid_fetch_parse_framing(ngx_hybrid_fetch_t *f)
{
    ngx_str_t   *value, *encoding;
    ngx_uint_t   n, te;

    te = ngx_hybrid_fetch_count(f, "transfer-encoding", &encoding);
    n = ngx_hybrid_fetch_count(f, "content-length", &value);

    f->left = 0;

    if (f->status == NGX_HTTP_NO_CONTENT
        || f->status == NGX_HTTP_NOT_MODIFIED)
    {
        f->framing = ngx_hybrid_fetch_length;
        return NGX_OK;
    }

    if (n + te > 1) {
        goto invalid;
    }

    if (te) {

        if (encoding->len != sizeof("chunked") - 1
            || ngx_strncasecmp(encoding->data, (u_char *) "chunked",
                               encoding->len)
               != 0)
        {
            goto invalid;
        }

        f->framing = ngx_hybrid_fetch_chunked;

    } else if (n) {
        f->left = ngx_atoof(value->data, value->len);

        if (f->left == NGX_ERROR) {
            goto invalid;
        }

        if (f->left > (off_t) f->args.max) {
            f->refused = 1;
            ngx_log_error(NGX_LOG_ERR, &f->log, 0,
                          "answer is larger than %uz bytes", f->args.max);
            return NGX_ERROR;
        }

        f->framing = ngx_hybrid_fetch_length;
    }

    if (ngx_hybrid_fetch_count(f, "content-encoding", &encoding) == 0
        || (encoding->len == sizeof("identity") - 1
            && ngx_strncasecmp(encoding->data, (u_char *) "identity",
                               encoding->len)
               == 0))
    {
        return NGX_OK;
    }

invalid:

    f->refused = 1;

    ngx_log_error(NGX_LOG_ERR, &f->log, 0,
                  "length or encoding of the answer is invalid");

    return NGX_ERROR;
}


static ngx_int_t
ngx_hybrid_fetch_parse_body(ngx_hybrid_fetch_t *f, ngx_buf_t *b)
{
    switch (f->framing) {

    case ngx_hybrid_fetch_chunked:
        return ngx_hybrid_fetch_parse_chunks(f, b);

    case ngx_hybrid_fetch_length:

        if (ngx_hybrid_fetch_take(f, b, f->left) != NGX_OK) {
            return NGX_ERROR;
        }

        return f->left ? NGX_AGAIN : NGX_OK;

    default:

        if (ngx_hybrid_fetch_take(f, b, NGX_MAX_OFF_T_VALUE) != NGX_OK) {
            return NGX_ERROR;
        }

        return NGX_AGAIN;
    }
}


static ngx_int_t
ngx_hybrid_fetch_parse_chunks(ngx_hybrid_fetch_t *f, ngx_buf_t *b)
{
    ngx_int_t  rc;

    for ( ;; ) {
        rc = ngx_hybrid_parse_chunked(f->r, b, &f->chunked);

        if (rc == NGX_OK) {
            f->left = f->chunked.size;

            if (ngx_hybrid_fetch_take(f, b, f->left) != NGX_OK) {
                return NGX_ERROR;
            }

            f->chunked.size = f->left;
            continue;
        }

        if (rc == NGX_AGAIN) {
            return NGX_AGAIN;
        }

        if (rc == NGX_DONE) {
            return NGX_OK;
        }

        ngx_log_error(NGX_LOG_ERR, &f->log, 0,
                      "chunks of the answer are invalid");

        return NGX_ERROR;
    }
}


/* up to max bytes from b; f->left is what then is left of a known length */

static ngx_int_t
ngx_hybrid_fetch_take(ngx_hybrid_fetch_t *f, ngx_buf_t *b, off_t max)
{
    size_t      n, used, room;
    u_char     *p;
    ngx_buf_t  *to;

    to = &f->content;

    n = b->last - b->pos;
    n = (size_t) ngx_min((off_t) n, max);
    used = to->last - to->pos;

    if (n > f->args.max - used) {
        f->refused = 1;
        ngx_log_error(NGX_LOG_ERR, &f->log, 0,
                      "answer is larger than %uz bytes", f->args.max);
        return NGX_ERROR;
    }

    if (n > (size_t) (to->end - to->last)) {

        room = ngx_max(2 * (size_t) (to->end - to->pos), 4096);
        room = ngx_max(room, used + n);
        room = ngx_min(room, f->args.max);

        p = ngx_alloc(room, &f->log);
        if (p == NULL) {
            return NGX_ERROR;
        }

        if (to->pos) {
            ngx_memcpy(p, to->pos, used);
            ngx_explicit_memzero(to->pos, used);
            ngx_free(to->pos);
        }

        to->pos = p;
        to->last = p + used;
        to->end = p + room;
    }

    if (n) {
        to->last = ngx_cpymem(to->last, b->pos, n);
        b->pos += n;
    }

    f->left -= n;

    return NGX_OK;
}


ngx_str_t *
ngx_hybrid_fetch_find(ngx_hybrid_fetch_t *f, const char *name)
{
    ngx_str_t  *value;

    return ngx_hybrid_fetch_count(f, name, &value) ? value : NULL;
}


static ngx_uint_t
ngx_hybrid_fetch_count(ngx_hybrid_fetch_t *f, const char *name,
    ngx_str_t **value)
{
    size_t         len;
    ngx_uint_t     i, n;
    ngx_keyval_t  *h;

    n = 0;
    h = f->headers.elts;
    len = ngx_strlen(name);

    for (i = 0; i < f->headers.nelts; i++) {

        if (h[i].key.len == len
            && ngx_strncasecmp(h[i].key.data, (u_char *) name, len) == 0
            && n++ == 0)
        {
            *value = &h[i].value;
        }
    }

    return n;
}
