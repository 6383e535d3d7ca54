
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * The driver of the access phase:
 *
 *     identity, endpoint, verb     from the headers, the body is not touched
 *     limit and body               side by side
 *     model, policy, route         when both are there
 *
 * The handler is entered again whenever one of them has come; see the
 * comment at ngx_http_hybrid_ctx_s for who owns the request meanwhile.
 */


#include "ngx_http_hybrid_explain.h"


static ngx_int_t ngx_http_hybrid_access_start(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_http_hybrid_loc_conf_t *hlcf);
static ngx_int_t ngx_http_hybrid_access_continue(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx);
static ngx_int_t ngx_http_hybrid_access_stranger(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx);
static ngx_int_t ngx_http_hybrid_access_again(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx);
static ngx_int_t ngx_http_hybrid_access_identity(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_http_hybrid_loc_conf_t *hlcf);
static ngx_int_t ngx_http_hybrid_access_admit(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_http_hybrid_loc_conf_t *hlcf);
static ngx_int_t ngx_http_hybrid_access_headers(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_http_hybrid_loc_conf_t *hlcf);
static ngx_int_t ngx_http_hybrid_access_encoding(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx);
static ngx_int_t ngx_http_hybrid_access_read(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx);
static ngx_msec_t ngx_http_hybrid_access_time(ngx_http_hybrid_ctx_t *ctx);
static void ngx_http_hybrid_access_body_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_hybrid_access_decide(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx);
static ngx_int_t ngx_http_hybrid_access_go(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx);
static ngx_int_t ngx_http_hybrid_access_path_model(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx);


ngx_int_t
ngx_http_hybrid_access_handler(ngx_http_request_t *r)
{
    ngx_http_hybrid_ctx_t       *ctx;
    ngx_http_hybrid_loc_conf_t  *hlcf;

    hlcf = ngx_http_get_module_loc_conf(r, ngx_http_hybrid_module);

    ctx = ngx_http_hybrid_get_ctx(r);

    if (ctx && r->internal) {

        /* the answer will be another one */

        ctx->u = NULL;
    }

    if (hlcf->access & NGX_HTTP_HYBRID_ACCESS_OFF) {
        return NGX_DECLINED;
    }

    if (ctx && ctx->asking) {
        ngx_http_hybrid_suspend(r);
        return NGX_AGAIN;
    }

    /* a status page or an early error has a context, too, but no client */

    if (ctx == NULL || (ctx->client == NULL && !ctx->decided)) {
        return ngx_http_hybrid_access_start(r, ctx, hlcf);
    }

    if (ctx->decided && ctx->client == &ctx->conf->stranger) {

        /* a redirect; only another module can let in a stranger, again */

        return NGX_HTTP_UNAUTHORIZED;
    }

    return ngx_http_hybrid_access_continue(r, ctx);
}


static ngx_int_t
ngx_http_hybrid_access_continue(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx)
{
    if (ctx->reading) {

        /* the body reader has given up, and an error_page leads here */

        ngx_http_hybrid_limit_detach(ctx);

        ctx->reading = 0;
        ctx->scanning = 0;
        ctx->decided = 1;
        ctx->verdict = r->err_status ? (ngx_int_t) r->err_status
                                     : NGX_HTTP_BAD_REQUEST;
        return ctx->verdict;
    }

    if (ctx->waiting || ctx->slowed) {
        ngx_http_hybrid_suspend(r);
        return NGX_AGAIN;
    }

    if (!ctx->decided) {
        return ngx_http_hybrid_access_decide(r, ctx);
    }

    if (ctx->going && ctx->verdict == NGX_OK) {
        return ngx_http_hybrid_access_go(r, ctx);
    }

    /* an internal redirect: the verdict stands */

    if (ngx_http_hybrid_shadow_again(r, ctx) != NGX_OK) {
        return ctx->verdict;
    }

    if (ctx->verdict == NGX_OK && ctx->candidates) {
        ngx_http_hybrid_request_wrap(r, ctx);
    }

    return ctx->verdict;
}


/*
 * With "satisfy any" another module may have let in whom we refused, or whom
 * we never saw: nobody gets to a backend by address, or without a route.
 * In shadow mode strangers do, and then all that the access handler does is
 * done here.
 */

ngx_int_t
ngx_http_hybrid_access_verdict_handler(ngx_http_request_t *r)
{
    ngx_int_t                    rc;
    ngx_http_hybrid_ctx_t       *ctx;
    ngx_http_hybrid_loc_conf_t  *hlcf;

    hlcf = ngx_http_get_module_loc_conf(r, ngx_http_hybrid_module);

    if (hlcf->access & NGX_HTTP_HYBRID_ACCESS_OFF
        || hlcf->status
        || r != r->main)
    {
        return NGX_DECLINED;
    }

    ctx = ngx_http_hybrid_get_ctx(r);

    if (ctx && ctx->asking) {
        ngx_http_hybrid_suspend(r);
        return NGX_AGAIN;
    }

    if (ctx && ctx->client && (!ctx->decided || ctx->going)) {
        rc = ngx_http_hybrid_access_continue(r, ctx);

        return rc == NGX_OK ? NGX_DECLINED : rc;
    }

    if ((ctx == NULL || ctx->client == NULL)
        && ngx_http_hybrid_shadow_open(r))
    {
        rc = ngx_http_hybrid_access_stranger(r, ctx);

        return rc == NGX_OK ? NGX_DECLINED : rc;
    }

    if (ctx && ctx->client == &ctx->conf->stranger) {
        rc = ngx_http_hybrid_access_again(r, ctx);

        return rc == NGX_OK ? NGX_DECLINED : rc;
    }

    if (ctx == NULL || (ctx->client == NULL && ctx->verdict == NGX_OK)) {
        ctx = ngx_http_hybrid_create_ctx(r);
        if (ctx == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }

        ctx->decided = 1;

        return ngx_http_hybrid_refuse(ctx, NGX_HTTP_UNAUTHORIZED,
                                      "unauthenticated",
                                      "authentication is required");
    }

    rc = ngx_http_hybrid_shadow_again(r, ctx);

    return rc == NGX_OK ? NGX_DECLINED : rc;
}


static ngx_int_t
ngx_http_hybrid_access_start(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_http_hybrid_loc_conf_t *hlcf)
{
    ngx_int_t  rc;

    /* one that has waited for its client goes on with its own */

    if (ctx == NULL || !ctx->asked) {

        ctx = ngx_http_hybrid_create_ctx(r);
        if (ctx == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
    }

    rc = ngx_http_hybrid_access_identity(r, ctx, hlcf);

    if (rc == NGX_AGAIN) {
        ngx_http_hybrid_suspend(r);
        return NGX_AGAIN;
    }

    if (rc != NGX_OK) {
        ctx->decided = 1;
        return ngx_http_hybrid_failure_wait(r, ctx, rc);
    }

    return ngx_http_hybrid_access_admit(r, ctx, hlcf);
}


/* ctx: that of a refusal, or NULL: another module came before us */

static ngx_int_t
ngx_http_hybrid_access_stranger(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx)
{
    ngx_int_t                    rc;
    ngx_http_hybrid_loc_conf_t  *hlcf;

    hlcf = ngx_http_get_module_loc_conf(r, ngx_http_hybrid_module);

    if (ctx == NULL || (ctx->verdict == NGX_OK && !ctx->asked)) {
        ctx = ngx_http_hybrid_create_ctx(r);
        if (ctx == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
    }

    rc = ctx->verdict;

    if (rc == NGX_OK) {
        rc = ngx_http_hybrid_access_identity(r, ctx, hlcf);
    }

    if (rc == NGX_AGAIN) {
        ngx_http_hybrid_suspend(r);
        return NGX_AGAIN;
    }

    if (rc != NGX_OK) {

        /* who was known and is not any more is no stranger */

        if ((rc != NGX_HTTP_UNAUTHORIZED && rc != NGX_HTTP_FORBIDDEN)
            || ctx->client)
        {
            ctx->decided = 1;
            return rc;
        }

        ngx_http_hybrid_shadow_stranger(ctx);
    }

    return ngx_http_hybrid_access_admit(r, ctx, hlcf);
}


/* a stranger, after an internal redirect */

static ngx_int_t
ngx_http_hybrid_access_again(ngx_http_request_t *r, ngx_http_hybrid_ctx_t *ctx)
{
    if (!ngx_http_hybrid_shadow_open(r)) {
        return ngx_http_hybrid_refuse(ctx, NGX_HTTP_UNAUTHORIZED,
                                      "unauthenticated",
                                      "authentication is required");
    }

    if (ctx->verdict == NGX_OK && ctx->candidates) {
        ngx_http_hybrid_request_wrap(r, ctx);
    }

    return ctx->verdict;
}


static ngx_int_t
ngx_http_hybrid_access_identity(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_http_hybrid_loc_conf_t *hlcf)
{
    ngx_int_t  rc;

    if (hlcf->status) {
        ctx->endpoint = ngx_http_hybrid_endpoint_status();

    } else if (hlcf->admin) {
        ctx->endpoint = ngx_http_hybrid_endpoint_admin();
    }

    rc = ngx_http_hybrid_identify(r, ctx, hlcf->access);
    if (rc != NGX_OK) {
        return rc;
    }

    /* whatever proved it, and whether or not it was remembered */

    return ngx_http_hybrid_revoke_check(r, ctx);
}


static ngx_int_t
ngx_http_hybrid_access_admit(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_http_hybrid_loc_conf_t *hlcf)
{
    ngx_int_t  rc;

    rc = ngx_http_hybrid_access_headers(r, ctx, hlcf);

    /* who has to move a machine's load away must not run into a limit */

    if (rc == NGX_OK && !hlcf->status && !hlcf->admin) {
        rc = ngx_http_hybrid_limit_reserve(r, ctx);
    }

    if (rc != NGX_OK && rc != NGX_AGAIN) {
        ctx->decided = 1;
        return rc;
    }

    if (ctx->body) {
        return ngx_http_hybrid_access_read(r, ctx);
    }

    if (ctx->waiting) {
        ngx_http_hybrid_suspend(r);
        return NGX_AGAIN;
    }

    return ngx_http_hybrid_access_decide(r, ctx);
}


static ngx_int_t
ngx_http_hybrid_access_headers(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_http_hybrid_loc_conf_t *hlcf)
{
    if (!hlcf->status && !hlcf->admin) {
        ctx->endpoint = ngx_http_hybrid_endpoint_find(r, &ctx->path,
                                                      &ctx->allow);
    }

    if (ctx->allow && ctx->endpoint == NULL) {
        return ngx_http_hybrid_refuse(ctx, NGX_HTTP_NOT_ALLOWED, "method",
                                      "the method is not allowed here");
    }

    if (ngx_http_hybrid_policy_verb(ctx) != NGX_OK) {
        return ctx->verdict;
    }

    switch (ctx->endpoint->model) {

    case ngx_http_hybrid_model_none:
    case ngx_http_hybrid_model_path:
    case ngx_http_hybrid_model_list:
    case ngx_http_hybrid_model_version:

        /* it would be forwarded unchecked */

        if (r->headers_in.content_length_n > 0 || r->headers_in.chunked) {
            return ngx_http_hybrid_refuse(ctx, NGX_HTTP_BAD_REQUEST,
                                          "unexpected_body",
                                          "a body is not expected here");
        }

        return NGX_OK;

    case ngx_http_hybrid_model_own:
        return NGX_OK;

    default:
        break;
    }

    if (ngx_http_hybrid_access_encoding(r, ctx) != NGX_OK
        || (ctx->endpoint->model == ngx_http_hybrid_model_google
            && ngx_http_hybrid_google_init(r, ctx) != NGX_OK))
    {
        return ctx->verdict;
    }

    return ngx_http_hybrid_body_init(r, ctx);
}


/* a backend may decode what we could not look into */

static ngx_int_t
ngx_http_hybrid_access_encoding(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx)
{
    ngx_uint_t        i, n;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    part = &r->headers_in.headers.part;
    h = part->elts;
    n = 0;

    for (i = 0; /* void */ ; i++) {

        if (i >= part->nelts) {
            if (part->next == NULL) {
                return NGX_OK;
            }

            part = part->next;
            h = part->elts;
            i = 0;
        }

        if (h[i].key.len != sizeof("content-encoding") - 1
            || ngx_memcmp(h[i].lowcase_key, "content-encoding", 16) != 0)
        {
            continue;
        }

        if (n++ || h[i].value.len != sizeof("identity") - 1
            || ngx_strncasecmp(h[i].value.data, (u_char *) "identity", 8) != 0)
        {
            return ngx_http_hybrid_refuse(ctx,
                                          NGX_HTTP_UNSUPPORTED_MEDIA_TYPE,
                                          "content_encoding",
                                          "Content-Encoding is not accepted");
        }
    }
}


static ngx_int_t
ngx_http_hybrid_access_read(ngx_http_request_t *r, ngx_http_hybrid_ctx_t *ctx)
{
    ngx_int_t  rc;

    ctx->scanning = 1;
    ctx->reading = 1;
    ctx->entering = 1;
    ctx->spent.reading = ngx_http_hybrid_access_time(ctx);

    rc = ngx_http_read_client_request_body(r,
                                         ngx_http_hybrid_access_body_handler);

    if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {

        /* the reader has given its reference back */

        ngx_http_hybrid_limit_detach(ctx);

        ctx->entering = 0;
        ctx->reading = 0;
        ctx->decided = 1;
        ctx->verdict = rc;

        return rc;
    }

    ctx->entering = 0;

    if (ctx->reading) {

        /*
         * The rest comes later.  The reader counted itself: that reference
         * becomes the request's only one, ours goes here.
         */

        ngx_http_finalize_request(r, NGX_DONE);
        return NGX_DONE;
    }

    /* all there: the reader's reference is not needed */

    r->main->count--;

    if (ctx->waiting) {
        ngx_http_hybrid_suspend(r);
        return NGX_AGAIN;
    }

    return ngx_http_hybrid_access_decide(r, ctx);
}


/* a clock that stands while the request waits for credits */

static ngx_msec_t
ngx_http_hybrid_access_time(ngx_http_hybrid_ctx_t *ctx)
{
    return (ctx->lease ? ctx->queued : ngx_current_msec) - ctx->queue_time;
}


static void
ngx_http_hybrid_access_body_handler(ngx_http_request_t *r)
{
    ngx_http_hybrid_ctx_t  *ctx;

    ctx = ngx_http_hybrid_get_ctx(r);

    if (ctx == NULL || !ctx->reading) {

        /* the reader had given up already, see the access handler */

        return;
    }

    ctx->reading = 0;
    ctx->scanning = 0;
    ctx->spent.body = ngx_http_hybrid_access_time(ctx) - ctx->spent.reading;

    if (ctx->entering) {
        return;
    }

    r->read_event_handler = ngx_http_block_reading;
    r->write_event_handler = ngx_http_core_run_phases;

    ngx_http_core_run_phases(r);
}


static ngx_int_t
ngx_http_hybrid_access_decide(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx)
{
    ngx_int_t  rc;

    ctx->decided = 1;

    if (ctx->verdict != NGX_OK) {
        return ctx->verdict;
    }

    switch (ctx->endpoint->model) {

    case ngx_http_hybrid_model_list:
        r->content_handler = ngx_http_hybrid_list_handler;
        return NGX_OK;

    case ngx_http_hybrid_model_version:
        if (ngx_http_hybrid_list_version(r, ctx) == NGX_OK) {
            return NGX_OK;
        }

        return ngx_http_hybrid_route_find(r, ctx);

    case ngx_http_hybrid_model_own:
        return NGX_OK;

    case ngx_http_hybrid_model_none:
        if (ctx->endpoint->path.len == 0) {
            return NGX_OK;
        }

        return ngx_http_hybrid_route_find(r, ctx);

    case ngx_http_hybrid_model_path:
        rc = ngx_http_hybrid_access_path_model(r, ctx);
        break;

    default:
        rc = ngx_http_hybrid_policy_body(r, ctx);
        break;
    }

    if (rc != NGX_OK) {
        return rc;
    }

    rc = ngx_http_hybrid_size_choose(r, ctx);
    if (rc != NGX_OK) {
        return rc;
    }

    rc = ngx_http_hybrid_policy_model(r, ctx);
    if (rc != NGX_OK) {
        return rc;
    }

    return ngx_http_hybrid_access_go(r, ctx);
}


/* may be entered again: each step that may wait is done once */

static ngx_int_t
ngx_http_hybrid_access_go(ngx_http_request_t *r, ngx_http_hybrid_ctx_t *ctx)
{
    ngx_int_t  rc;

    ctx->going = 1;

    if (!ctx->routed) {
        rc = ngx_http_hybrid_route_find(r, ctx);
        if (rc != NGX_OK) {
            ctx->going = 0;
            return rc;
        }

        ctx->routed = 1;
    }

    if (!ctx->reserved) {
        ctx->reserved = 1;

        rc = ngx_http_hybrid_limit_tokens(r, ctx);

        if (rc == NGX_AGAIN) {
            ngx_http_hybrid_suspend(r);
            return NGX_AGAIN;
        }

        if (rc != NGX_OK) {
            ctx->going = 0;
            return rc;
        }
    }

    rc = ngx_http_hybrid_queue_enter(r, ctx);

    /* who has waited, for whatever, may have been revoked meanwhile */

    if (rc == NGX_OK && ctx->queue_time) {
        rc = ngx_http_hybrid_revoke_check(r, ctx);
    }

    ctx->going = (rc == NGX_AGAIN);

    return rc;
}


static ngx_int_t
ngx_http_hybrid_access_path_model(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx)
{
    u_char     *buf;
    ngx_str_t   text;

    text.data = ctx->path.data + ctx->endpoint->path.len;
    text.len = ctx->path.len - ctx->endpoint->path.len;

    buf = ngx_pnalloc(r->pool, NGX_HYBRID_MODEL_BUF);

    if (buf == NULL
        || ngx_hybrid_model_parse(&ctx->model, &text, buf) != NGX_OK)
    {
        return ngx_http_hybrid_refuse(ctx, NGX_HTTP_INTERNAL_SERVER_ERROR,
                                      "internal", "internal error");
    }

    return NGX_OK;
}
