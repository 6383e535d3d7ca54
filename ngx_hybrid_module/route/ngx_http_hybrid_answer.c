
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Around the proxy module's process_header: whether a backend's answer is
 * one to pass on, or a reason to ask the next candidate.  nginx decides that
 * by the status alone, and knows neither 408 nor what a 429 is about, nor
 * that a stream may have begun with nothing.
 */


#include "ngx_http_hybrid_answer.h"
#include "ngx_http_hybrid_catalogue.h"
#include <jansson.h>


/* msec, for the body of a 429 */
#define NGX_HTTP_HYBRID_ANSWER_WAIT  1000


static void ngx_http_hybrid_answer_request(ngx_http_hybrid_answer_t *a);
static ngx_int_t ngx_http_hybrid_answer_header(ngx_http_request_t *r);
static ngx_int_t ngx_http_hybrid_answer_judge(ngx_http_hybrid_answer_t *a);
static ngx_int_t ngx_http_hybrid_answer_early(ngx_http_hybrid_answer_t *a);
static ngx_int_t ngx_http_hybrid_answer_limited(
    ngx_http_hybrid_answer_t *a);
static ngx_uint_t ngx_http_hybrid_answer_quota(
    ngx_http_hybrid_early_t *early);
static ngx_int_t ngx_http_hybrid_answer_begun(ngx_http_hybrid_answer_t *a);
static ngx_int_t ngx_http_hybrid_answer_next(ngx_http_hybrid_answer_t *a,
    const char *why);
static ngx_uint_t ngx_http_hybrid_answer_others(ngx_http_request_t *r,
    ngx_http_upstream_t *u);
static ngx_int_t ngx_http_hybrid_answer_pass(ngx_http_hybrid_answer_t *a);
static void ngx_http_hybrid_answer_finalize(ngx_http_request_t *r,
    ngx_int_t rc);


/* of an error of OpenAI's kind: there is no money, not just too much haste */

static const char  *ngx_http_hybrid_answer_quotas[] = {
    "insufficient_quota",
    "billing_hard_limit_reached",
    "billing_not_active",
    NULL
};


ngx_int_t
ngx_http_hybrid_answer_init(ngx_http_request_t *r, ngx_http_hybrid_ctx_t *ctx)
{
    ngx_http_hybrid_answer_t    *a;
    ngx_http_hybrid_loc_conf_t  *hlcf;

    ngx_http_hybrid_answer_detach(ctx);

    a = ngx_pcalloc(r->pool, sizeof(ngx_http_hybrid_answer_t));
    if (a == NULL) {
        return NGX_ERROR;
    }

    a->request = r;
    a->ctx = ctx;
    a->dialect = ctx->endpoint->dialect;
    a->sent = ngx_current_msec;

    ctx->answer = a;

    if (ctx->endpoint->verb != NGX_HTTP_HYBRID_VERB_INFERENCE) {
        return NGX_OK;
    }

    ngx_http_hybrid_answer_request(a);

    /* the body is gone when the answer is there */

    ngx_http_hybrid_usage_estimate(ctx, NULL, NULL);

    a->finalize = r->upstream->finalize_request;
    r->upstream->finalize_request = ngx_http_hybrid_answer_finalize;

    hlcf = ngx_http_get_module_loc_conf(r, ngx_http_hybrid_module);

    if (a->streamed) {
        a->barrier = hlcf->barrier;
    }

    if (hlcf->heartbeat && (ctx->body == NULL || ctx->body->form == NULL)) {
        return ngx_http_hybrid_heartbeat_init(a, hlcf->heartbeat);
    }

    return NGX_OK;
}


/* what kind of answer the client has asked for */

static void
ngx_http_hybrid_answer_request(ngx_http_hybrid_answer_t *a)
{
    ngx_uint_t              type;
    const ngx_str_t        *path;
    ngx_http_hybrid_ctx_t  *ctx;

    ctx = a->ctx;

    if (ctx->google) {
        a->streamed = ctx->google->sse;
        a->events = ctx->google->sse;
        return;
    }

    if (ctx->body == NULL || ctx->body->form) {
        return;
    }

    type = ctx->body->values[NGX_HTTP_HYBRID_KEY_STREAM].type;

    if (a->dialect != ngx_http_hybrid_dialect_ollama) {
        a->streamed = (type == NGX_HYBRID_JSON_T_TRUE);
        a->events = a->streamed;
        a->usage = ngx_http_hybrid_usage_wanted(ctx);
        return;
    }

    path = &ctx->endpoint->path;

    a->streamed = type != NGX_HYBRID_JSON_T_FALSE
                  && ((path->len == sizeof("/api/chat") - 1
                       && ngx_memcmp(path->data, "/api/chat", 9) == 0)
                      || (path->len == sizeof("/api/generate") - 1
                          && ngx_memcmp(path->data, "/api/generate", 13)
                             == 0));
}


/*
 * Called whenever something of a request is sent: that is after nginx has
 * set what is undone here for another try, and before an answer is read.
 */

ngx_int_t
ngx_http_hybrid_answer_expect(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx)
{
    ngx_http_upstream_t          *u;
    ngx_http_hybrid_answer_t     *a;
    ngx_http_hybrid_candidate_t  *cand;

    a = ctx->answer;

    if (a->tries == ctx->tries) {
        return NGX_OK;
    }

    a->tries = ctx->tries;
    a->status = 0;
    a->judged = 0;

    /* in its own dialect Ollama tells how long loading took */

    cand = &ctx->candidates[ctx->current];

    a->unloaded = a->dialect != ngx_http_hybrid_dialect_ollama
                  && cand->backend->api == ngx_http_hybrid_api_ollama
                  && ctx->endpoint->verb == NGX_HTTP_HYBRID_VERB_INFERENCE
                  && ngx_http_hybrid_choice_unloaded(ctx, cand);

    u = r->upstream;

    a->header = u->process_header;
    u->process_header = ngx_http_hybrid_answer_header;

    if (a->barrier && u->buffer.start == NULL) {
        return ngx_http_hybrid_hold_room(a);
    }

    return NGX_OK;
}


void
ngx_http_hybrid_answer_leave(ngx_http_hybrid_ctx_t *ctx)
{
    if (ctx->answer) {
        ngx_http_hybrid_hold_end(ctx->answer);
    }
}


void
ngx_http_hybrid_answer_detach(ngx_http_hybrid_ctx_t *ctx)
{
    ngx_http_hybrid_answer_t  *a;

    a = ctx->answer;

    if (a == NULL) {
        return;
    }

    ngx_http_hybrid_hold_end(a);

    if (a->beat && a->beat->timer_set) {
        ngx_del_timer(a->beat);
    }
}


ngx_uint_t
ngx_http_hybrid_answer_status(ngx_http_hybrid_ctx_t *ctx)
{
    if (ctx->answer && ctx->answer->status) {
        return ctx->answer->status;
    }

    return ctx->u->headers_in.status_n;
}


void
ngx_http_hybrid_answer_token(ngx_http_hybrid_ctx_t *ctx)
{
    if (ctx->first_token == 0) {
        ctx->first_token = ngx_current_msec ? ngx_current_msec : 1;
        ngx_http_hybrid_choice_token(ctx);
    }
}


void
ngx_http_hybrid_answer_tokens(ngx_http_hybrid_answer_t *a)
{
    if (!(a->stream.seen & NGX_HYBRID_STREAM_TOKEN)) {
        return;
    }

    ngx_http_hybrid_answer_token(a->ctx);

    if (a->tokens != a->stream.tokens) {
        a->tokens = a->stream.tokens;
        a->last_token = ngx_current_msec;
    }
}


ngx_int_t
ngx_http_hybrid_answer_format(ngx_str_t *type)
{
    if (type->len >= sizeof("text/event-stream") - 1
        && ngx_strncasecmp(type->data, (u_char *) "text/event-stream",
                           sizeof("text/event-stream") - 1)
           == 0)
    {
        return ngx_hybrid_stream_events;
    }

    if (type->len >= sizeof("application/x-ndjson") - 1
        && ngx_strncasecmp(type->data, (u_char *) "application/x-ndjson",
                           sizeof("application/x-ndjson") - 1)
           == 0)
    {
        return ngx_hybrid_stream_lines;
    }

    return NGX_DECLINED;
}


static ngx_int_t
ngx_http_hybrid_answer_header(ngx_http_request_t *r)
{
    ngx_int_t                  rc;
    ngx_uint_t                 version;
    ngx_http_upstream_t       *u;
    ngx_http_hybrid_ctx_t     *ctx;
    ngx_http_hybrid_answer_t  *a;

    ctx = ngx_http_hybrid_get_ctx(r);

    if (ctx == NULL || ctx->answer == NULL) {
        return NGX_ERROR;
    }

    a = ctx->answer;
    u = r->upstream;

    ngx_http_hybrid_choice_progress(ctx);

    if (a->judged) {
        return ngx_http_hybrid_answer_early(a);
    }

    version = r->http_version;

    rc = a->header(r);

    /* the proxy module has one for the first line, and one for the others */

    if (u->process_header != ngx_http_hybrid_answer_header) {
        a->header = u->process_header;
        u->process_header = ngx_http_hybrid_answer_header;
    }

    if (rc != NGX_OK) {
        return rc;
    }

    if (u->headers_in.status_n == 0) {

        /* no HTTP, which would be passed on as the body of an HTTP/0.9 */

        r->http_version = version;
        u->state->status = 0;
        return NGX_HTTP_UPSTREAM_INVALID_HEADER;
    }

    a->judged = 1;

    return ngx_http_hybrid_answer_judge(a);
}


static ngx_int_t
ngx_http_hybrid_answer_judge(ngx_http_hybrid_answer_t *a)
{
    ngx_int_t             format;
    ngx_http_request_t   *r;
    ngx_http_upstream_t  *u;

    r = a->request;
    u = r->upstream;

    switch (u->headers_in.status_n) {

    case NGX_HTTP_REQUEST_TIME_OUT:
        if (ngx_http_hybrid_answer_others(r, u)) {

            /* which it knows how to go on after */

            a->status = NGX_HTTP_REQUEST_TIME_OUT;
            u->headers_in.status_n = NGX_HTTP_SERVICE_UNAVAILABLE;
        }

        return ngx_http_hybrid_answer_pass(a);

    case NGX_HTTP_TOO_MANY_REQUESTS:
        format = NGX_DECLINED;
        break;

    case NGX_HTTP_OK:
        if (a->barrier == 0
            || u->headers_in.content_type == NULL
            || u->headers_in.content_length_n == 0
            || r->method == NGX_HTTP_HEAD)
        {
            return ngx_http_hybrid_answer_pass(a);
        }

        format = ngx_http_hybrid_answer_format(
                                      &u->headers_in.content_type->value);

        if (format == NGX_DECLINED) {
            return ngx_http_hybrid_answer_pass(a);
        }

        break;

    default:
        return ngx_http_hybrid_answer_pass(a);
    }

    if (ngx_http_hybrid_early_init(a, format) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_hybrid_answer_early(a);
}


static ngx_int_t
ngx_http_hybrid_answer_early(ngx_http_hybrid_answer_t *a)
{
    ngx_http_hybrid_early_read(a);

    return a->early->text ? ngx_http_hybrid_answer_limited(a)
                          : ngx_http_hybrid_answer_begun(a);
}


/* a 429 */

static ngx_int_t
ngx_http_hybrid_answer_limited(ngx_http_hybrid_answer_t *a)
{
    ngx_http_hybrid_ctx_t    *ctx;
    ngx_http_hybrid_early_t  *early;

    ctx = a->ctx;
    early = a->early;

    if (!early->ended && !early->broken
        && early->len < NGX_HTTP_HYBRID_ANSWER_KEEP
        && ngx_http_hybrid_hold(a, NGX_HTTP_HYBRID_ANSWER_WAIT, 1)
           == NGX_AGAIN)
    {
        return NGX_AGAIN;
    }

    if (ngx_http_hybrid_answer_quota(early)) {
        ngx_http_hybrid_choice_block(ctx, &ctx->candidates[ctx->current]);
    }

    return ngx_http_hybrid_answer_pass(a);
}


static ngx_uint_t
ngx_http_hybrid_answer_quota(ngx_http_hybrid_early_t *early)
{
    json_t        *root, *error;
    ngx_uint_t     i, found;
    const char    *code, *type, **name;
    json_error_t   fault;

    root = json_loadb((char *) early->text, early->len,
                      JSON_REJECT_DUPLICATES, &fault);
    if (root == NULL) {
        return 0;
    }

    error = json_object_get(root, "error");
    code = json_string_value(json_object_get(error, "code"));
    type = json_string_value(json_object_get(error, "type"));

    name = ngx_http_hybrid_answer_quotas;
    found = 0;

    for (i = 0; name[i]; i++) {
        if ((code && ngx_strcmp(code, name[i]) == 0)
            || (type && ngx_strcmp(type, name[i]) == 0))
        {
            found = 1;
            break;
        }
    }

    json_decref(root);

    return found;
}


/* a stream */

static ngx_int_t
ngx_http_hybrid_answer_begun(ngx_http_hybrid_answer_t *a)
{
    ngx_uint_t                   seen;
    ngx_buf_t                   *b;
    ngx_http_hybrid_early_t     *early;
    ngx_http_hybrid_loc_conf_t  *hlcf;

    early = a->early;
    seen = early->stream.seen;

    if (seen & NGX_HYBRID_STREAM_TOKEN) {
        ngx_http_hybrid_answer_token(a->ctx);
        return ngx_http_hybrid_answer_pass(a);
    }

    if (seen & NGX_HYBRID_STREAM_ERROR) {
        return ngx_http_hybrid_answer_next(a, "stream_error");
    }

    if (early->broken
        || (early->ended && !(seen & (NGX_HYBRID_STREAM_END
                                      |NGX_HYBRID_STREAM_FINISH))))
    {
        if (!ngx_http_hybrid_answer_others(a->request,
                                           a->request->upstream))
        {
            ngx_http_hybrid_hold_end(a);
            return NGX_HTTP_UPSTREAM_INVALID_HEADER;
        }

        return ngx_http_hybrid_answer_next(a, "error");
    }

    b = &a->request->upstream->buffer;

    if (!early->ended
        && !(seen & (NGX_HYBRID_STREAM_END|NGX_HYBRID_STREAM_FINISH))
        && (size_t) (b->last - b->pos) < a->barrier)
    {
        hlcf = ngx_http_get_module_loc_conf(a->request,
                                            ngx_http_hybrid_module);

        if (ngx_http_hybrid_hold(a, hlcf->barrier_time, 0) == NGX_AGAIN) {
            return NGX_AGAIN;
        }
    }

    return ngx_http_hybrid_answer_pass(a);
}


/* the next candidate is asked, if there is one, else this answer stands */

static ngx_int_t
ngx_http_hybrid_answer_next(ngx_http_hybrid_answer_t *a, const char *why)
{
    ngx_http_request_t     *r;
    ngx_http_upstream_t    *u;
    ngx_http_hybrid_ctx_t  *ctx;

    r = a->request;
    u = r->upstream;
    ctx = a->ctx;

    if (ngx_http_hybrid_answer_others(r, u)) {

        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "backend \"%V\" has begun a stream without a token: %s",
                      &ctx->candidates[ctx->current].backend->name, why);

        if (ctx->fallback.len == 0) {
            ctx->fallback.data = (u_char *) why;
            ctx->fallback.len = ngx_strlen(why);
        }

        a->status = NGX_HTTP_BAD_GATEWAY;
        u->headers_in.status_n = NGX_HTTP_SERVICE_UNAVAILABLE;
    }

    return ngx_http_hybrid_answer_pass(a);
}


/* what nginx itself will ask before it goes on after a 503 */

static ngx_uint_t
ngx_http_hybrid_answer_others(ngx_http_request_t *r, ngx_http_upstream_t *u)
{
    ngx_uint_t  mask;
    ngx_msec_t  timeout;

    mask = NGX_HTTP_UPSTREAM_FT_HTTP_503;

    if (r->method & (NGX_HTTP_POST|NGX_HTTP_LOCK|NGX_HTTP_PATCH)) {
        mask |= NGX_HTTP_UPSTREAM_FT_NON_IDEMPOTENT;
    }

    timeout = u->conf->next_upstream_timeout;

    return u->peer.tries > 1
           && (u->conf->next_upstream & mask) == mask
           && !r->request_body_no_buffering
           && !(timeout
                && ngx_current_msec - u->peer.start_time >= timeout);
}


static ngx_int_t
ngx_http_hybrid_answer_pass(ngx_http_hybrid_answer_t *a)
{
    ngx_http_hybrid_hold_end(a);

    if (a->padded) {

        /* nginx is about to send a header, see the filter for the second */

        a->request->header_sent = 0;
    }

    return NGX_OK;
}


static void
ngx_http_hybrid_answer_finalize(ngx_http_request_t *r, ngx_int_t rc)
{
    ngx_http_hybrid_ctx_t     *ctx;
    ngx_http_hybrid_answer_t  *a;

    ctx = ngx_http_hybrid_get_ctx(r);

    if (ctx == NULL || ctx->answer == NULL) {
        return;
    }

    a = ctx->answer;

    a->finalize(r, rc);
    a->done = 1;

    if (a->beat && a->beat->timer_set) {
        ngx_del_timer(a->beat);
    }

    if (ngx_http_hybrid_answered(r, ctx)) {
        ngx_http_hybrid_stream_finalize(a, rc);
    }
}
