
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * A refusal is an ordinary nginx error: handlers return a status, and
 * error_page, keepalive, lingering close work as always.  Only the body that
 * nginx would make is replaced by an error in the request's own dialect,
 * also for those errors that nginx finds itself (408, 413, 502...).
 */


#include "ngx_http_hybrid_answer.h"
#include "ngx_http_hybrid_limits.h"
#include "ngx_http_hybrid_explain.h"


/* seconds, after which an operator may have changed his mind */
#define NGX_HTTP_HYBRID_REFUSAL_DRAINED  10


typedef struct {
    ngx_uint_t                 status;
    ngx_str_t                  reason;
    ngx_str_t                  message;
    const char                *openai;
    const char                *anthropic;
    const char                *google;
} ngx_http_hybrid_error_t;


static const ngx_http_hybrid_error_t *ngx_http_hybrid_refusal_error(
    ngx_uint_t status);
static ngx_uint_t ngx_http_hybrid_refusal_ours(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx);
static ngx_int_t ngx_http_hybrid_refusal_replace(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx);
static ngx_int_t ngx_http_hybrid_refusal_retry(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx);
static ngx_uint_t ngx_http_hybrid_refusal_status(ngx_http_hybrid_ctx_t *ctx,
    ngx_uint_t status);
static ngx_int_t ngx_http_hybrid_refusal_text(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_uint_t status, ngx_str_t *text);


/* "type" as in OpenAI's and Anthropic's documentation, Google's "status" */

static const ngx_http_hybrid_error_t  ngx_http_hybrid_errors[] = {

    /* the first one also stands for other 4xx, the last one for other 5xx */

    { 400, ngx_string("bad_request"), ngx_string("bad request"),
      "invalid_request_error", "invalid_request_error", "INVALID_ARGUMENT" },

    { 401, ngx_string("unauthenticated"),
      ngx_string("authentication is required"),
      "authentication_error", "authentication_error", "UNAUTHENTICATED" },

    { 403, ngx_string("forbidden"), ngx_string("forbidden"),
      "permission_error", "permission_error", "PERMISSION_DENIED" },

    { 404, ngx_string("not_found"), ngx_string("not found"),
      "not_found_error", "not_found_error", "NOT_FOUND" },

    { 405, ngx_string("method"), ngx_string("the method is not allowed here"),
      "invalid_request_error", "invalid_request_error", "INVALID_ARGUMENT" },

    { 408, ngx_string("request_timeout"),
      ngx_string("the request did not arrive in time"),
      "invalid_request_error", "invalid_request_error", "DEADLINE_EXCEEDED" },

    { 413, ngx_string("body_too_large"),
      ngx_string("the request body is too large"),
      "invalid_request_error", "request_too_large", "INVALID_ARGUMENT" },

    { 415, ngx_string("content_encoding"),
      ngx_string("Content-Encoding is not accepted"),
      "invalid_request_error", "invalid_request_error", "INVALID_ARGUMENT" },

    { 429, ngx_string("rate_limited"),
      ngx_string("too many requests, try again later"),
      "rate_limit_error", "rate_limit_error", "RESOURCE_EXHAUSTED" },

    { 502, ngx_string("backend_error"),
      ngx_string("the backend gave no answer"),
      "api_error", "api_error", "UNAVAILABLE" },

    { 503, ngx_string("unavailable"),
      ngx_string("no backend can serve this at the moment"),
      "api_error", "overloaded_error", "UNAVAILABLE" },

    { 504, ngx_string("backend_timeout"),
      ngx_string("the backend did not answer in time"),
      "api_error", "api_error", "DEADLINE_EXCEEDED" },

    { 0, ngx_string("internal"), ngx_string("internal error"),
      "api_error", "api_error", "INTERNAL" }
};


/* reason and message are constants */

ngx_int_t
ngx_http_hybrid_refuse(ngx_http_hybrid_ctx_t *ctx, ngx_int_t status,
    const char *reason, const char *message)
{
    ctx->verdict = status;

    ctx->reason.data = (u_char *) reason;
    ctx->reason.len = ngx_strlen(reason);

    ctx->message.data = (u_char *) message;
    ctx->message.len = ngx_strlen(message);

    return status;
}


ngx_int_t
ngx_http_hybrid_refusal_header(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx)
{
    ngx_str_t                     value;
    ngx_http_hybrid_candidate_t  *cand;

    if (r->err_status >= NGX_HTTP_BAD_REQUEST
        && ngx_http_hybrid_refusal_ours(r, ctx)
        && ngx_http_hybrid_refusal_replace(r, ctx) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ctx->shadow
        && ngx_http_hybrid_add_header(r, "X-Hybrid-Shadow",
                              ngx_http_hybrid_shadow_name(ctx->shadow_first))
           == NULL)
    {
        return NGX_ERROR;
    }

    if (ctx->size
        && ngx_http_hybrid_add_header(r, "X-Hybrid-Model", &ctx->model.brief)
           == NULL)
    {
        return NGX_ERROR;
    }

    /* who will answer is not known to a heartbeat */

    if (ctx->tries && ngx_http_hybrid_answered(r, ctx)
        && !ctx->answer->padding)
    {
        cand = &ctx->candidates[ctx->current];

        if (ngx_http_hybrid_add_header(r, "X-Hybrid-Backend",
                                       &cand->backend->name)
            == NULL)
        {
            return NGX_ERROR;
        }

        if ((ctx->current || ctx->passed_over)
            && ctx->fallback.len
            && ngx_http_hybrid_add_header(r, "X-Hybrid-Fallback",
                                          &ctx->fallback)
               == NULL)
        {
            return NGX_ERROR;
        }
    }

    if (ngx_http_hybrid_limit_headers(r, ctx) != NGX_OK) {
        return NGX_ERROR;
    }

    if (!ctx->degraded) {
        return NGX_OK;
    }

    if (ctx->loss == ngx_http_hybrid_loss_open) {
        ngx_str_set(&value, "open");

    } else if (ctx->loss == ngx_http_hybrid_loss_closed) {
        ngx_str_set(&value, "closed");

    } else {
        ngx_str_set(&value, "local");
    }

    if (ngx_http_hybrid_add_header(r, "X-Hybrid-Limits", &value) == NULL) {
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* where an error_page leads is the operator's, but for us refusing again */

static ngx_uint_t
ngx_http_hybrid_refusal_ours(ngx_http_request_t *r, ngx_http_hybrid_ctx_t *ctx)
{
    ngx_http_hybrid_loc_conf_t  *hlcf;

    if (!r->internal || ngx_http_hybrid_answered(r, ctx)) {
        return 1;
    }

    hlcf = ngx_http_get_module_loc_conf(r, ngx_http_hybrid_module);

    return !(hlcf->access & NGX_HTTP_HYBRID_ACCESS_OFF)
           && ctx->verdict == (ngx_int_t) r->err_status;
}


static ngx_int_t
ngx_http_hybrid_refusal_replace(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx)
{
    ngx_str_t                       text, value;
    ngx_table_elt_t                *h;
    const ngx_http_hybrid_error_t  *error;

    r->err_status = ngx_http_hybrid_refusal_status(ctx, r->err_status);

    if (ctx->reason.len == 0 || ctx->verdict != (ngx_int_t) r->err_status) {
        error = ngx_http_hybrid_refusal_error(r->err_status);

        ctx->reason = error->reason;
        ctx->message = error->message;
    }

    if (ngx_http_hybrid_add_header(r, "X-Hybrid-Reason", &ctx->reason)
        == NULL)
    {
        return NGX_ERROR;
    }

    if (r->err_status == NGX_HTTP_UNAUTHORIZED) {
        ngx_str_set(&value, "Bearer realm=\"hybrid\"");

        if (ctx->jwt) {

            /* RFC 6750, 3.1: only to who has shown one, and not why */

            ngx_str_set(&value, "Bearer realm=\"hybrid\", "
                                "error=\"invalid_token\"");
        }

        h = ngx_http_hybrid_add_header(r, "WWW-Authenticate", &value);
        if (h == NULL) {
            return NGX_ERROR;
        }

        r->headers_out.www_authenticate = h;
    }

    if (ctx->allow && r->err_status == NGX_HTTP_NOT_ALLOWED) {

        if (ctx->allow & NGX_HTTP_POST) {
            ngx_str_set(&value, "POST");

        } else if (ctx->allow & NGX_HTTP_HEAD) {
            ngx_str_set(&value, "GET, HEAD");

        } else {
            ngx_str_set(&value, "GET");
        }

        if (ngx_http_hybrid_add_header(r, "Allow", &value) == NULL) {
            return NGX_ERROR;
        }
    }

    if (ngx_http_hybrid_refusal_retry(r, ctx) != NGX_OK
        || ngx_http_hybrid_refusal_text(r, ctx, r->err_status, &text)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    ctx->message = text;
    ctx->replace = 1;
    ctx->replaced = 0;

    r->headers_out.status = r->err_status;
    r->headers_out.status_line.len = 0;
    r->headers_out.content_length_n = text.len;
    ngx_str_set(&r->headers_out.content_type, "application/json");
    r->headers_out.content_type_len = r->headers_out.content_type.len;
    r->headers_out.content_type_lowcase = NULL;

    return NGX_OK;
}


static ngx_uint_t
ngx_http_hybrid_refusal_status(ngx_http_hybrid_ctx_t *ctx, ngx_uint_t status)
{
    if (!ctx->no_live || status != NGX_HTTP_BAD_GATEWAY) {
        return status;
    }

    /* nobody is left to ask: the last answer, if there was one */

    if (ctx->tries == 0 || ctx->last_status == NGX_HTTP_NOT_FOUND) {

        /* who may have the model is down */

        if (ctx->tries == 0 && ngx_http_hybrid_lever_drained(ctx)) {
            ctx->retry_after = ngx_max(ctx->retry_after,
                                       NGX_HTTP_HYBRID_REFUSAL_DRAINED);

            (void) ngx_http_hybrid_refuse(ctx, NGX_HTTP_SERVICE_UNAVAILABLE,
                               "drained", "this model's machines are taken "
                               "out of service");
        }

        return NGX_HTTP_SERVICE_UNAVAILABLE;
    }

    return ctx->last_status ? ctx->last_status : status;
}


ngx_uint_t
ngx_http_hybrid_refusal_nobody(ngx_http_hybrid_ctx_t *ctx)
{
    ngx_uint_t                      status;
    const ngx_http_hybrid_error_t  *error;

    ctx->no_live = 1;

    status = ngx_http_hybrid_refusal_status(ctx, NGX_HTTP_BAD_GATEWAY);

    if (ctx->reason.len == 0 || ctx->verdict != (ngx_int_t) status) {
        error = ngx_http_hybrid_refusal_error(status);

        ctx->reason = error->reason;
        ctx->message = error->message;
    }

    return status;
}


ngx_int_t
ngx_http_hybrid_refusal_late(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_uint_t status, ngx_str_t *text)
{
    const ngx_http_hybrid_error_t  *error;

    if (status) {
        status = ngx_http_hybrid_refusal_status(ctx, status);

        if (ctx->reason.len == 0 || ctx->verdict != (ngx_int_t) status) {
            error = ngx_http_hybrid_refusal_error(status);

            ctx->reason = error->reason;
            ctx->message = error->message;
        }

    } else {
        status = NGX_HTTP_BAD_GATEWAY;

        ngx_str_set(&ctx->reason, "broken");
        ngx_str_set(&ctx->message, "the backend broke off its answer");
    }

    if (ngx_http_hybrid_refusal_text(r, ctx, status, text) != NGX_OK) {
        return NGX_ERROR;
    }

    /* without the line end */

    text->len--;

    return NGX_OK;
}


static ngx_int_t
ngx_http_hybrid_refusal_retry(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx)
{
    ngx_str_t  value;

    if (r->err_status != NGX_HTTP_TOO_MANY_REQUESTS
        && r->err_status != NGX_HTTP_SERVICE_UNAVAILABLE)
    {
        return NGX_OK;
    }

    value.data = ngx_pnalloc(r->pool, NGX_INT_T_LEN);
    if (value.data == NULL) {
        return NGX_ERROR;
    }

    value.len = ngx_sprintf(value.data, "%ui", ngx_max(ctx->retry_after, 1))
                - value.data;

    if (ngx_http_hybrid_add_header(r, "Retry-After", &value) == NULL) {
        return NGX_ERROR;
    }

    return NGX_OK;
}


static const ngx_http_hybrid_error_t *
ngx_http_hybrid_refusal_error(ngx_uint_t status)
{
    const ngx_http_hybrid_error_t  *error;

    for (error = ngx_http_hybrid_errors; error->status; error++) {
        if (error->status == status) {
            return error;
        }
    }

    /* 412, 414...: the client's fault all the same */

    return (status < NGX_HTTP_INTERNAL_SERVER_ERROR) ? ngx_http_hybrid_errors
                                                     : error;
}


static ngx_int_t
ngx_http_hybrid_refusal_text(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_uint_t status, ngx_str_t *text)
{
    size_t                          size;
    u_char                         *p, *last;
    const ngx_http_hybrid_error_t  *error;
    ngx_http_hybrid_dialect_e       dialect;

    /* messages are ours, with at most a checked name: nothing to escape */

    size = ctx->message.len + ctx->reason.len + 256;

    p = ngx_pnalloc(r->pool, size);
    if (p == NULL) {
        return NGX_ERROR;
    }

    error = ngx_http_hybrid_refusal_error(status);

    dialect = ctx->endpoint ? ctx->endpoint->dialect
                            : ngx_http_hybrid_endpoint_dialect(r);

    text->data = p;

    switch (dialect) {

    case ngx_http_hybrid_dialect_openai:
        last = ngx_slprintf(p, p + size,
                            "{\"error\":{\"message\":\"%V\",\"type\":\"%s\","
                            "\"param\":null,\"code\":\"%V\"}}\n",
                            &ctx->message, error->openai, &ctx->reason);
        break;

    case ngx_http_hybrid_dialect_anthropic:
        last = ngx_slprintf(p, p + size,
                            "{\"type\":\"error\",\"error\":{\"type\":\"%s\","
                            "\"message\":\"%V\"}}\n",
                            error->anthropic, &ctx->message);
        break;

    case ngx_http_hybrid_dialect_google:
        last = ngx_slprintf(p, p + size,
                            "{\"error\":{\"code\":%ui,\"message\":\"%V\","
                            "\"status\":\"%s\"}}\n",
                            status, &ctx->message,
                            error->google);
        break;

    default: /* ngx_http_hybrid_dialect_ollama */
        last = ngx_slprintf(p, p + size, "{\"error\":\"%V\"}\n",
                            &ctx->message);
        break;
    }

    text->len = last - p;

    return NGX_OK;
}


ngx_int_t
ngx_http_hybrid_refusal_body(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_chain_t *in, ngx_chain_t **out)
{
    ngx_buf_t    *b;
    ngx_chain_t  *cl;

    *out = NULL;

    for (cl = in; cl; cl = cl->next) {
        cl->buf->pos = cl->buf->last;
        cl->buf->file_pos = cl->buf->file_last;
    }

    if (ctx->replaced) {
        return NGX_OK;
    }

    ctx->replaced = 1;

    b = ngx_calloc_buf(r->pool);
    if (b == NULL) {
        return NGX_ERROR;
    }

    b->pos = ctx->message.data;
    b->last = b->pos + ctx->message.len;
    b->memory = 1;
    b->last_buf = 1;
    b->last_in_chain = 1;

    cl = ngx_alloc_chain_link(r->pool);
    if (cl == NULL) {
        return NGX_ERROR;
    }

    cl->buf = b;
    cl->next = NULL;
    *out = cl;

    return NGX_OK;
}


ngx_table_elt_t *
ngx_http_hybrid_add_header(ngx_http_request_t *r, const char *key,
    ngx_str_t *value)
{
    ngx_table_elt_t  *h;

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NULL;
    }

    h->hash = 1;
    ngx_hybrid_header_single(h);

    h->key.data = (u_char *) key;
    h->key.len = ngx_strlen(key);
    h->value = *value;
    h->lowcase_key = NULL;

    return h;
}
