
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * The request body: scanned as it arrives, and rewritten where a backend
 * knows the model by another name.
 */


#include "ngx_http_hybrid_body.h"


static ngx_int_t ngx_http_hybrid_body_form(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx);
static ngx_int_t ngx_http_hybrid_body_splice_memory(ngx_http_request_t *r,
    ngx_http_hybrid_edit_t *edits, ngx_uint_t n, ngx_chain_t **out);
static ngx_int_t ngx_http_hybrid_body_splice_file(ngx_http_request_t *r,
    ngx_http_hybrid_edit_t *edits, ngx_uint_t n, ngx_chain_t **out);
static ngx_chain_t *ngx_http_hybrid_body_link(ngx_http_request_t *r,
    ngx_chain_t **ll, u_char *pos, u_char *last);
static ngx_int_t ngx_http_hybrid_body_copy(ngx_http_request_t *r,
    ngx_temp_file_t *tf, ngx_chain_t *in, off_t from, off_t to, u_char *buf);


#define NGX_HTTP_HYBRID_COPY_SIZE  65536


/*
 * Tools that a machine itself would use: it would search the web, or call a
 * server of the client's choice.
 */

static ngx_str_t  ngx_http_hybrid_body_kinds[] = {
    ngx_string("web_"),
    ngx_string("mcp"),
    ngx_null_string
};


#define ngx_http_hybrid_body_key(name, size)                                  \
    { ngx_string(name), size, NULL, NULL, 0 }


static ngx_hybrid_json_key_t  ngx_http_hybrid_body_stream_keys[] = {
    ngx_http_hybrid_body_key("include_usage", 1)
};


static ngx_hybrid_json_key_t  ngx_http_hybrid_body_camel_keys[] = {
    ngx_http_hybrid_body_key("maxOutputTokens", 20),
    ngx_http_hybrid_body_key("candidateCount", 20)
};


static ngx_hybrid_json_key_t  ngx_http_hybrid_body_snake_keys[] = {
    ngx_http_hybrid_body_key("max_output_tokens", 20),
    ngx_http_hybrid_body_key("candidate_count", 20)
};


static ngx_hybrid_json_key_t  ngx_http_hybrid_body_keys[] = {
    ngx_http_hybrid_body_key("model", NGX_HYBRID_MODEL_MAX),
    ngx_http_hybrid_body_key("name", NGX_HYBRID_MODEL_MAX),
    ngx_http_hybrid_body_key("source", NGX_HYBRID_MODEL_MAX),
    ngx_http_hybrid_body_key("destination", NGX_HYBRID_MODEL_MAX),
    ngx_http_hybrid_body_key("from", NGX_HYBRID_MODEL_MAX),
    ngx_http_hybrid_body_key("keep_alive", 32),
    { ngx_string("tools"), 0, ngx_http_hybrid_body_kinds, NULL, 0 },
    { ngx_string("options"), 0, NULL, ngx_http_hybrid_option_keys,
      NGX_HTTP_HYBRID_OPTIONS },
    ngx_http_hybrid_body_key("remote_host", 1),
    ngx_http_hybrid_body_key("modelfile", 1),
    ngx_http_hybrid_body_key("path", 1),
    ngx_http_hybrid_body_key("web_search_options", 1),
    ngx_http_hybrid_body_key("mcp_servers", 1),
    { ngx_string("requests"), NGX_HYBRID_MODEL_MAX, ngx_hybrid_json_same_model,
      NULL, 0 },
    ngx_http_hybrid_body_key("generatecontentrequest", 1),
    ngx_http_hybrid_body_key("generate_content_request", 1),
    ngx_http_hybrid_body_key("stream", 1),
    { ngx_string("stream_options"), 0, NULL,
      ngx_http_hybrid_body_stream_keys, 1 },
    ngx_http_hybrid_body_key("max_tokens", 20),
    ngx_http_hybrid_body_key("max_completion_tokens", 20),
    ngx_http_hybrid_body_key("max_output_tokens", 20),
    ngx_http_hybrid_body_key("n", 20),
    { ngx_string("generationConfig"), 0, NULL,
      ngx_http_hybrid_body_camel_keys, 2 },
    { ngx_string("generation_config"), 0, NULL,
      ngx_http_hybrid_body_snake_keys, 2 }
};


ngx_int_t
ngx_http_hybrid_body_init(ngx_http_request_t *r, ngx_http_hybrid_ctx_t *ctx)
{
    ngx_http_hybrid_body_t  *body;

    /* not of the pool: it is large, and a stream goes on long without it */

    body = ngx_alloc(sizeof(ngx_http_hybrid_body_t), r->connection->log);
    ctx->body = body;

    if (body == NULL
        || ngx_hybrid_json_init(&body->json, ngx_http_hybrid_body_keys,
                                NGX_HTTP_HYBRID_KEYS, body->values,
                                body->arena, NGX_HTTP_HYBRID_ARENA)
           != NGX_OK)
    {
        return ngx_http_hybrid_refuse(ctx, NGX_HTTP_INTERNAL_SERVER_ERROR,
                                      "internal", "internal error");
    }

    body->form = NULL;

    ngx_http_hybrid_size_measure(ctx);

    if (ctx->endpoint->model == ngx_http_hybrid_model_form) {
        return ngx_http_hybrid_body_form(r, ctx);
    }

    return NGX_OK;
}


/* nothing is read from it, or built for another candidate, any more */

void
ngx_http_hybrid_body_free(ngx_http_hybrid_ctx_t *ctx)
{
    ngx_free(ctx->body);
    ctx->body = NULL;
}


static ngx_int_t
ngx_http_hybrid_body_form(ngx_http_request_t *r, ngx_http_hybrid_ctx_t *ctx)
{
    ngx_uint_t               i, n;
    ngx_list_part_t         *part;
    ngx_table_elt_t         *h, *type;
    ngx_hybrid_multipart_t  *form;

    form = ngx_palloc(r->pool, sizeof(ngx_hybrid_multipart_t));
    if (form == NULL) {
        return ngx_http_hybrid_refuse(ctx, NGX_HTTP_INTERNAL_SERVER_ERROR,
                                      "internal", "internal error");
    }

    ctx->body->form = form;

    part = &r->headers_in.headers.part;
    h = part->elts;
    type = NULL;
    n = 0;

    for (i = 0; /* void */ ; i++) {

        if (i >= part->nelts) {
            if (part->next == NULL) {
                break;
            }

            part = part->next;
            h = part->elts;
            i = 0;
        }

        if (h[i].key.len == sizeof("content-type") - 1
            && ngx_memcmp(h[i].lowcase_key, "content-type", 12) == 0)
        {
            type = &h[i];
            n++;
        }
    }

    if (n != 1 || ngx_hybrid_multipart_init(form, &type->value) != NGX_OK) {
        return ngx_http_hybrid_refuse(ctx, NGX_HTTP_BAD_REQUEST,
                                      "invalid_body",
                                      "the Content-Type must be one of "
                                      "multipart/form-data with a boundary");
    }

    return NGX_OK;
}


/*
 * Called with every piece before nginx spills it to disk; the buffers are
 * used again, so nothing points into them afterwards.  A fault is refused
 * when the body has been read: returning an error here would leave the
 * answer to nginx.
 */

void
ngx_http_hybrid_body_scan(ngx_http_request_t *r, ngx_http_hybrid_ctx_t *ctx,
    ngx_chain_t *in)
{
    ngx_buf_t    *b;
    ngx_chain_t  *cl;

    for (cl = in; cl; cl = cl->next) {
        b = cl->buf;

        if (b->last == b->pos) {
            continue;
        }

        if (ctx->body->form) {
            (void) ngx_hybrid_multipart_feed(ctx->body->form, b->pos,
                                             b->last - b->pos);

        } else {
            (void) ngx_hybrid_json_feed(&ctx->body->json, b->pos,
                                        b->last - b->pos);
        }
    }
}


ngx_int_t
ngx_http_hybrid_body_name(ngx_http_hybrid_ctx_t *ctx, ngx_str_t *name,
    ngx_http_hybrid_edit_t *edit)
{
    ngx_hybrid_json_value_t  *value;

    value = &ctx->body->values[ctx->key];

    if (value->type != NGX_HYBRID_JSON_T_STRING) {
        return NGX_ERROR;
    }

    /* inside of the quotes: the new name needs no escapes, in a form either */

    edit->start = value->start + 1;
    edit->end = value->end - 1;
    edit->text = *name;

    return NGX_OK;
}


ngx_int_t
ngx_http_hybrid_body_splice(ngx_http_request_t *r,
    ngx_http_hybrid_edit_t *edits, ngx_uint_t n)
{
    ngx_int_t                rc;
    ngx_uint_t               i;
    ngx_chain_t             *out;
    ngx_http_hybrid_edit_t   edit;

    if (r->request_body == NULL || r->request_body->bufs == NULL) {
        return NGX_ERROR;
    }

    if (n == NGX_HTTP_HYBRID_EDITS && edits[0].start > edits[1].start) {
        edit = edits[0];
        edits[0] = edits[1];
        edits[1] = edit;
    }

    if (r->request_body->temp_file) {
        rc = ngx_http_hybrid_body_splice_file(r, edits, n, &out);

    } else {
        rc = ngx_http_hybrid_body_splice_memory(r, edits, n, &out);
    }

    if (rc != NGX_OK) {
        return NGX_ERROR;
    }

    r->request_body->bufs = out;

    for (i = 0; i < n; i++) {
        r->headers_in.content_length_n += (off_t) edits[i].text.len
                                          - (edits[i].end - edits[i].start);
    }

    return NGX_OK;
}


/* an edit starts before a byte of the body: all are inside of an object */

static ngx_int_t
ngx_http_hybrid_body_splice_memory(ngx_http_request_t *r,
    ngx_http_hybrid_edit_t *edits, ngx_uint_t n, ngx_chain_t **out)
{
    off_t         at, size, from;
    ngx_buf_t    *b;
    ngx_uint_t    i;
    ngx_chain_t  *cl, **ll;

    ll = out;
    at = 0;
    from = 0;
    i = 0;

    for (cl = r->request_body->bufs; cl; cl = cl->next) {
        b = cl->buf;
        size = b->last - b->pos;

        for ( ;; ) {

            /* bytes [from, ...) of the body, up to an edit or the buffer's */

            from = ngx_max(from, at);

            if (i == n || edits[i].start >= at + size) {
                break;
            }

            if (edits[i].start > from) {

                if (ngx_http_hybrid_body_link(r, ll, b->pos + (from - at),
                                              b->pos + (edits[i].start - at))
                    == NULL)
                {
                    return NGX_ERROR;
                }

                ll = &(*ll)->next;
            }

            if (ngx_http_hybrid_body_link(r, ll, edits[i].text.data,
                                   edits[i].text.data + edits[i].text.len)
                == NULL)
            {
                return NGX_ERROR;
            }

            ll = &(*ll)->next;
            from = edits[i++].end;
        }

        /* the body of a chunked request ends with an empty buffer */

        if (from < at + size) {

            if (ngx_http_hybrid_body_link(r, ll, b->pos + (from - at),
                                          b->last)
                == NULL)
            {
                return NGX_ERROR;
            }

            ll = &(*ll)->next;
        }

        at += size;
    }

    *ll = NULL;

    return NGX_OK;
}


/* a retry rewinds to start, so it must be pos */

static ngx_chain_t *
ngx_http_hybrid_body_link(ngx_http_request_t *r, ngx_chain_t **ll,
    u_char *pos, u_char *last)
{
    ngx_buf_t    *b;
    ngx_chain_t  *cl;

    b = ngx_calloc_buf(r->pool);
    cl = ngx_alloc_chain_link(r->pool);

    if (b == NULL || cl == NULL) {
        return NULL;
    }

    b->start = pos;
    b->pos = pos;
    b->last = last;
    b->end = last;
    b->memory = 1;

    cl->buf = b;
    cl->next = NULL;
    *ll = cl;

    return cl;
}


/*
 * nginx rewinds the one file buffer of a body to offset zero when it tries
 * again, so a spooled body is written anew as one file and not cut into
 * ranges.  Memory stays bounded whatever the body's size.
 */

static ngx_int_t
ngx_http_hybrid_body_splice_file(ngx_http_request_t *r,
    ngx_http_hybrid_edit_t *edits, ngx_uint_t n, ngx_chain_t **out)
{
    off_t                      from;
    u_char                    *buf;
    ngx_buf_t                 *b;
    ngx_str_t                 *text;
    ngx_uint_t                 i;
    ngx_chain_t               *in, *cl;
    ngx_temp_file_t           *tf;
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    tf = ngx_pcalloc(r->pool, sizeof(ngx_temp_file_t));
    b = ngx_calloc_buf(r->pool);
    cl = ngx_alloc_chain_link(r->pool);

    if (tf == NULL || b == NULL || cl == NULL) {
        return NGX_ERROR;
    }

    tf->file.fd = NGX_INVALID_FILE;
    tf->file.log = r->connection->log;
    tf->path = clcf->client_body_temp_path;
    tf->pool = r->pool;
    tf->log_level = NGX_LOG_INFO;

    if (ngx_create_temp_file(&tf->file, tf->path, tf->pool, 0, 1, 0)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    buf = ngx_alloc(NGX_HTTP_HYBRID_COPY_SIZE, r->connection->log);
    if (buf == NULL) {
        return NGX_ERROR;
    }

    in = r->request_body->bufs;
    from = 0;

    for (i = 0; i < n; i++) {
        text = &edits[i].text;

        if (ngx_http_hybrid_body_copy(r, tf, in, from, edits[i].start, buf)
            != NGX_OK
            || ngx_write_file(&tf->file, text->data, text->len, tf->offset)
               != (ssize_t) text->len)
        {
            ngx_free(buf);
            return NGX_ERROR;
        }

        tf->offset += text->len;
        from = edits[i].end;
    }

    if (ngx_http_hybrid_body_copy(r, tf, in, from, NGX_MAX_OFF_T_VALUE, buf)
        != NGX_OK)
    {
        ngx_free(buf);
        return NGX_ERROR;
    }

    ngx_free(buf);

    b->in_file = 1;
    b->file = &tf->file;
    b->file_pos = 0;
    b->file_last = tf->offset;

    cl->buf = b;
    cl->next = NULL;
    *out = cl;

    return NGX_OK;
}


/* bytes [from, to) of the body to the end of the file */

static ngx_int_t
ngx_http_hybrid_body_copy(ngx_http_request_t *r, ngx_temp_file_t *tf,
    ngx_chain_t *in, off_t from, off_t to, u_char *buf)
{
    off_t       at, size, pos, last;
    u_char     *data;
    ssize_t     n;
    ngx_buf_t  *b;

    at = 0;

    for ( /* void */ ; in; in = in->next) {
        b = in->buf;
        size = b->in_file ? b->file_last - b->file_pos : b->last - b->pos;

        pos = ngx_max(from - at, 0);
        last = ngx_min(to - at, size);

        while (pos < last) {

            n = (ssize_t) ngx_min(last - pos, NGX_HTTP_HYBRID_COPY_SIZE);

            if (b->in_file) {
                data = buf;
                n = ngx_read_file(b->file, buf, n, b->file_pos + pos);

                if (n <= 0) {
                    return NGX_ERROR;
                }

            } else {
                data = b->pos + pos;
            }

            if (ngx_write_file(&tf->file, data, n, tf->offset) != n) {
                return NGX_ERROR;
            }

            tf->offset += n;
            pos += n;
        }

        at += size;
    }

    return NGX_OK;
}


ssize_t
ngx_http_hybrid_body_peek(ngx_http_request_t *r, off_t start, u_char *buf,
    size_t size)
{
    off_t         at, length;
    ngx_buf_t    *b;
    ngx_chain_t  *cl;

    at = 0;

    for (cl = r->request_body ? r->request_body->bufs : NULL;
         cl;
         cl = cl->next)
    {
        b = cl->buf;
        length = b->in_file ? b->file_last - b->file_pos : b->last - b->pos;

        if (start < at + length) {
            size = ngx_min((off_t) size, at + length - start);

            if (b->in_file) {
                return ngx_read_file(b->file, buf, size,
                                     b->file_pos + (start - at));
            }

            ngx_memcpy(buf, b->pos + (start - at), size);

            return size;
        }

        at += length;
    }

    return 0;
}
