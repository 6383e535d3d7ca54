
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * hybrid_admin: what would become of a request, and why.  A context is made
 * up for it that no request has, and goes through the same functions; what
 * they would take, count or wait for is left out.
 *
 * Limits of rate, tokens and concurrency are not asked: "limits" shows them.
 */


#include "ngx_http_hybrid_conf.h"
#include "ngx_http_hybrid_admin.h"
#include "ngx_http_hybrid_choice.h"
#include "ngx_http_hybrid_catalogue.h"
#include "ngx_http_hybrid_explain.h"
#include "ngx_http_hybrid_limits.h"


/* of a token */
#define NGX_HTTP_HYBRID_EXPLAIN_BYTES  4


static ngx_int_t ngx_http_hybrid_explain_client(ngx_http_hybrid_explain_t *ex);
static ngx_int_t ngx_http_hybrid_explain_path(ngx_http_hybrid_explain_t *ex);
static ngx_int_t ngx_http_hybrid_explain_model(ngx_http_hybrid_explain_t *ex);
static ngx_int_t ngx_http_hybrid_explain_arg(ngx_http_hybrid_explain_t *ex,
    const char *name, ngx_str_t *value);
static ngx_int_t ngx_http_hybrid_explain_decide(ngx_http_hybrid_explain_t *ex);
static void ngx_http_hybrid_explain_choose(ngx_http_hybrid_explain_t *ex);
static const char *ngx_http_hybrid_explain_shut(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_candidate_t *cand, ngx_uint_t last);
static ngx_uint_t ngx_http_hybrid_explain_spent(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_backend_t *backend);


ngx_int_t
ngx_http_hybrid_explain_get(ngx_http_hybrid_admin_t *admin)
{
    ngx_int_t                  rc;
    ngx_http_hybrid_explain_t  ex;

    ngx_memzero(&ex, sizeof(ngx_http_hybrid_explain_t));

    ex.admin = admin;

    ex.ctx = ngx_pcalloc(admin->request->pool, sizeof(ngx_http_hybrid_ctx_t));

    if (ex.ctx == NULL
        || ngx_array_init(&ex.notes, admin->request->pool, 8,
                          sizeof(ngx_http_hybrid_note_t))
           != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ex.ctx->request = admin->request;
    ex.ctx->conf = admin->ctx->conf;
    ex.ctx->start = ngx_current_msec;

    rc = ngx_http_hybrid_explain_client(&ex);

    if (rc == NGX_OK) {
        rc = ngx_http_hybrid_explain_path(&ex);
    }

    if (rc == NGX_OK) {
        rc = ngx_http_hybrid_explain_model(&ex);
    }

    if (rc == NGX_OK) {
        rc = ngx_http_hybrid_explain_decide(&ex);
    }

    if (rc != NGX_OK) {
        return rc;
    }

    return ngx_http_hybrid_explain_show(&ex);
}


static ngx_int_t
ngx_http_hybrid_explain_client(ngx_http_hybrid_explain_t *ex)
{
    ngx_str_t                     name;
    ngx_uint_t                    i;
    ngx_http_hybrid_client_t    **clients;
    ngx_http_hybrid_main_conf_t  *hmcf;

    hmcf = ex->ctx->conf;

    if (ngx_http_hybrid_explain_arg(ex, "client", &name) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (!ngx_http_hybrid_conf_name_ok(&name)) {
        return ngx_http_hybrid_refuse(ex->admin->ctx, NGX_HTTP_BAD_REQUEST,
                                      "invalid_name",
                                      "the name of a client is needed");
    }

    clients = hmcf->clients.elts;

    for (i = 0; i < hmcf->clients.nelts; i++) {
        if (clients[i]->name.len == name.len
            && ngx_memcmp(clients[i]->name.data, name.data, name.len) == 0)
        {
            ex->ctx->client = clients[i];
            return NGX_OK;
        }
    }

    return ngx_http_hybrid_admin_refuse(ex->admin, NGX_HTTP_NOT_FOUND,
               "unknown_name", "client \"%V\" is in no file%s", &name,
               hmcf->clients_redis ? ", and those that are in Redis can't be "
                                     "explained" : "");
}


static ngx_int_t
ngx_http_hybrid_explain_path(ngx_http_hybrid_explain_t *ex)
{
    ngx_uint_t              methods;
    ngx_http_hybrid_ctx_t  *ctx;

    ctx = ex->ctx;

    if (ngx_http_hybrid_explain_arg(ex, "path", &ctx->path) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ctx->path.len == 0) {
        ngx_str_set(&ctx->path, "/api/chat");
    }

    ctx->endpoint = ngx_http_hybrid_endpoint_lookup((ngx_uint_t) -1,
                                                    &ctx->path, &methods);

    if (ctx->endpoint == NULL) {
        return ngx_http_hybrid_refuse(ex->admin->ctx, NGX_HTTP_BAD_REQUEST,
                                      "invalid_path",
                                      "there is no such endpoint");
    }

    switch (ctx->endpoint->model) {

    case ngx_http_hybrid_model_body:
    case ngx_http_hybrid_model_body_name:
    case ngx_http_hybrid_model_form:
        return NGX_OK;

    default:
        return ngx_http_hybrid_refuse(ex->admin->ctx, NGX_HTTP_BAD_REQUEST,
                                      "invalid_path",
                                      "this is explained for endpoints with "
                                      "a model in the body only");
    }
}


static ngx_int_t
ngx_http_hybrid_explain_model(ngx_http_hybrid_explain_t *ex)
{
    u_char     *buf;
    ngx_str_t   name;

    if (ngx_http_hybrid_explain_arg(ex, "model", &name) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    buf = ngx_pnalloc(ex->admin->request->pool,
                      name.len + NGX_HYBRID_MODEL_BUF);
    if (buf == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (ngx_hybrid_model_parse(&ex->ctx->model, &name, buf) != NGX_OK) {
        return ngx_http_hybrid_admin_refuse(ex->admin, NGX_HTTP_BAD_REQUEST,
                   "invalid_model", "\"%V\" can't be the name of a model",
                   &name);
    }

    ex->asked = ex->ctx->model.brief;

    return NGX_OK;
}


static ngx_int_t
ngx_http_hybrid_explain_arg(ngx_http_hybrid_explain_t *ex, const char *name,
    ngx_str_t *value)
{
    u_char              *src, *dst;
    ngx_http_request_t  *r;

    r = ex->admin->request;

    if (ngx_http_arg(r, (u_char *) name, ngx_strlen(name), value) != NGX_OK) {
        ngx_str_null(value);
        return NGX_OK;
    }

    dst = ngx_pnalloc(r->pool, value->len + 1);
    if (dst == NULL) {
        return NGX_ERROR;
    }

    src = value->data;
    value->data = dst;

    ngx_unescape_uri(&dst, &src, value->len, 0);

    value->len = dst - value->data;

    return NGX_OK;
}


/* as ngx_http_hybrid_access_headers() and those after it do */

static ngx_int_t
ngx_http_hybrid_explain_decide(ngx_http_hybrid_explain_t *ex)
{
    off_t                    tokens;
    ngx_int_t                rc;
    ngx_str_t                text;
    ngx_http_request_t      *r;
    ngx_http_hybrid_ctx_t   *ctx;
    ngx_http_hybrid_seek_t   seek;

    r = ex->admin->request;
    ctx = ex->ctx;

    if (ngx_http_hybrid_explain_arg(ex, "prompt", &text) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    tokens = text.len ? ngx_parse_offset(&text) : 0;

    if (tokens < 0
        || tokens > NGX_MAX_OFF_T_VALUE / NGX_HTTP_HYBRID_EXPLAIN_BYTES)
    {
        return ngx_http_hybrid_refuse(ex->admin->ctx, NGX_HTTP_BAD_REQUEST,
                                      "invalid_prompt",
                                      "prompt is a number of tokens");
    }

    if (ctx->endpoint->verb != NGX_HTTP_HYBRID_VERB_INFERENCE) {
        tokens = NGX_MAX_OFF_T_VALUE / NGX_HTTP_HYBRID_EXPLAIN_BYTES;
    }

    /* there is no body to estimate it from */

    ctx->estimated = 1;

    if (ctx->endpoint->verb == NGX_HTTP_HYBRID_VERB_INFERENCE) {
        ctx->estimate.input = tokens;
    }

    rc = ngx_http_hybrid_policy_verb(ctx);

    if (rc == NGX_OK) {
        rc = ngx_http_hybrid_size_of(r, ctx, tokens
                                             * NGX_HTTP_HYBRID_EXPLAIN_BYTES);
    }

    if (rc == NGX_OK) {
        rc = ngx_http_hybrid_policy_model(r, ctx);
    }

    if (rc == NGX_OK) {
        ngx_memzero(&seek, sizeof(ngx_http_hybrid_seek_t));
        seek.notes = &ex->notes;

        ex->route = ngx_http_hybrid_route_match(ctx);

        rc = ngx_http_hybrid_route_collect(r, ctx, ex->route, &seek);
    }

    if (rc == NGX_OK) {
        ngx_http_hybrid_explain_choose(ex);

    } else if (ctx->reason.len) {
        ex->status = rc;

    } else {
        return rc;
    }

    return NGX_OK;
}


/* as the line for slots and the balancer do */

static void
ngx_http_hybrid_explain_choose(ngx_http_hybrid_explain_t *ex)
{
    ngx_uint_t                    i, n, last, busy;
    ngx_http_hybrid_ctx_t        *ctx;
    ngx_http_hybrid_candidate_t  *cand;

    ctx = ex->ctx;
    cand = ctx->candidates;
    busy = 0;

    n = ctx->endpoint->verb == NGX_HTTP_HYBRID_VERB_ADMIN ? 1
                                                          : ctx->ncandidates;
    ctx->ncandidates = n;

    for (i = 0; i < n; i++) {
        cand[i].why = ngx_http_hybrid_explain_shut(ctx, &cand[i], 0);
    }

    for (last = 0; last < 2; last++) {
        for (i = 0; i < n; i++) {

            /* who may wait does not go on to the next group */

            if (busy && (i == 0 || cand[i].group != cand[i - 1].group)) {
                ex->verdict = ngx_http_hybrid_explain_wait;
                return;
            }

            if (cand[i].why && !last) {
                busy |= ctx->client->queue && ctx->conf->queue
                        && ngx_strcmp(cand[i].why, "busy") == 0;
                continue;
            }

            if (cand[i].why == NULL
                || ngx_http_hybrid_explain_shut(ctx, &cand[i], 1) == NULL)
            {
                ex->verdict = ngx_http_hybrid_explain_answer;
                ex->status = NGX_HTTP_OK;
                ex->cand = &cand[i];
                return;
            }
        }
    }

    ex->status = ngx_http_hybrid_refusal_nobody(ctx);
}


static const char *
ngx_http_hybrid_explain_shut(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_candidate_t *cand, ngx_uint_t last)
{
    const char         *why;
    ngx_uint_t          fast;
    ngx_hybrid_pair_t  *pair;

    /* whom it may wait for is asked in the line: first what is closed there */

    why = NULL;

    if (!last && ctx->client->queue && ctx->conf->queue) {
        why = ngx_http_hybrid_choice_closed(ctx, cand);
    }

    if (why == NULL) {
        why = ngx_http_hybrid_choice_shut(ctx, cand, last);
    }

    if (why) {
        return why;
    }

    pair = ctx->endpoint->verb == NGX_HTTP_HYBRID_VERB_INFERENCE
           ? ngx_http_hybrid_choice_pair(ctx, cand, 0) : NULL;

    if (pair && ngx_hybrid_pair_open(pair, 0)) {
        return "breaker";
    }

    if (ngx_http_hybrid_explain_spent(ctx, cand->backend)) {
        return "budget";
    }

    return ngx_http_hybrid_choice_alive(cand->backend, &fast) ? NULL
                                                              : "no_live";
}


static ngx_uint_t
ngx_http_hybrid_explain_spent(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_backend_t *backend)
{
    uint64_t                cost, quota, input, output;
    ngx_uint_t              redis;
    ngx_http_hybrid_left_t  left;

    quota = ctx->client->limits[ngx_hybrid_meter_budget].quota;

    if (!backend->priced || quota == 0) {
        return 0;
    }

    /* as ngx_http_hybrid_limit_budget() */

    ngx_http_hybrid_usage_expect(ctx, &input, &output);

    cost = ngx_http_hybrid_usage_cost(backend, input, output);
    cost = ngx_max(ngx_min(cost, quota), 1);

    redis = ctx->conf->redis && ngx_hybrid_redis_available(ctx->conf->redis);

    return ngx_http_hybrid_limit_left(ctx->client->shared,
                                      ngx_hybrid_meter_budget, redis, &left)
           == NGX_OK
           && left.left < cost;
}
