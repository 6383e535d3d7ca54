
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * May this client do that: what the body asks for, with which model, and
 * whether it may leave the premises.
 */


#include "ngx_http_hybrid_module.h"


static ngx_int_t ngx_http_hybrid_policy_name(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_uint_t key, ngx_hybrid_model_t *model);
static ngx_int_t ngx_http_hybrid_policy_second(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_uint_t key);
static ngx_uint_t ngx_http_hybrid_policy_keep_alive(
    ngx_hybrid_json_value_t *value);


/* reads the model's name, and what else the policy needs, from the body */

ngx_int_t
ngx_http_hybrid_policy_body(ngx_http_request_t *r, ngx_http_hybrid_ctx_t *ctx)
{
    ngx_uint_t                key;
    ngx_hybrid_json_t        *js;
    ngx_hybrid_json_value_t  *values;

    js = &ctx->body->json;
    values = ctx->body->values;

    if (ngx_hybrid_json_finish(js) != NGX_OK) {
        ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                      "request body is refused: %s at byte %O",
                      ngx_hybrid_json_reason(js), js->offset);

        return ngx_http_hybrid_refuse(ctx, NGX_HTTP_BAD_REQUEST,
                                      "invalid_body",
                                      ngx_hybrid_json_reason(js));
    }

    key = NGX_HTTP_HYBRID_KEY_MODEL;

    switch (ctx->endpoint->model) {

    case ngx_http_hybrid_model_copy:
        key = NGX_HTTP_HYBRID_KEY_SOURCE;

        if (ngx_http_hybrid_policy_second(r, ctx,
                                          NGX_HTTP_HYBRID_KEY_DESTINATION)
            != NGX_OK)
        {
            return ctx->verdict;
        }

        break;

    case ngx_http_hybrid_model_body_name:

        /* Ollama takes "name" when "model" is empty: never both */

        if (values[NGX_HTTP_HYBRID_KEY_NAME].type) {

            if (values[NGX_HTTP_HYBRID_KEY_MODEL].type) {
                return ngx_http_hybrid_refuse(ctx, NGX_HTTP_BAD_REQUEST,
                                              "ambiguous_model",
                                  "give the model as \"model\" only, not as "
                                  "\"name\" too");
            }

            key = NGX_HTTP_HYBRID_KEY_NAME;
        }

        if (values[NGX_HTTP_HYBRID_KEY_FROM].type
            && ngx_http_hybrid_policy_second(r, ctx,
                                             NGX_HTTP_HYBRID_KEY_FROM)
               != NGX_OK)
        {
            return ctx->verdict;
        }

        break;

    default: /* ngx_http_hybrid_model_body */
        break;
    }

    if (ngx_http_hybrid_policy_name(r, ctx, key, &ctx->model) != NGX_OK) {
        return ctx->verdict;
    }

    /*
     * Zero unloads the model for everybody, a negative time pins it: both
     * are weapons against the other clients of the machine.
     */

    if (!(ctx->client->verbs & NGX_HTTP_HYBRID_VERB_ADMIN)
        && ngx_http_hybrid_policy_keep_alive(
                                     &values[NGX_HTTP_HYBRID_KEY_KEEP_ALIVE]))
    {
        return ngx_http_hybrid_refuse(ctx, NGX_HTTP_FORBIDDEN, "keep_alive",
                                      "this client may not unload or pin a "
                                      "model with keep_alive");
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_hybrid_policy_name(ngx_http_request_t *r, ngx_http_hybrid_ctx_t *ctx,
    ngx_uint_t key, ngx_hybrid_model_t *model)
{
    u_char                   *buf;
    ngx_str_t                 text;
    ngx_hybrid_json_value_t  *value;

    value = &ctx->body->values[key];

    if (value->type == NGX_HYBRID_JSON_T_ABSENT
        || value->type == NGX_HYBRID_JSON_T_NULL
        || (value->type == NGX_HYBRID_JSON_T_STRING && value->len == 0))
    {
        return ngx_http_hybrid_refuse(ctx, NGX_HTTP_BAD_REQUEST,
                                      "model_required", "model is required");
    }

    text.data = value->data;
    text.len = value->len;

    buf = ngx_pnalloc(r->pool, value->len + sizeof(":latest"));
    if (buf == NULL) {
        return ngx_http_hybrid_refuse(ctx, NGX_HTTP_INTERNAL_SERVER_ERROR,
                                      "internal", "internal error");
    }

    if (value->type != NGX_HYBRID_JSON_T_STRING
        || value->overflow
        || ngx_hybrid_model_parse(model, &text, buf) != NGX_OK)
    {
        return ngx_http_hybrid_refuse(ctx, NGX_HTTP_BAD_REQUEST,
                                      "invalid_model",
                                      "the model's name is not valid");
    }

    return NGX_OK;
}


/* another model that is named beside the first: the same policy */

static ngx_int_t
ngx_http_hybrid_policy_second(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_uint_t key)
{
    ngx_hybrid_model_t  model;

    if (ngx_http_hybrid_policy_name(r, ctx, key, &model) != NGX_OK) {
        return ctx->verdict;
    }

    if (!ngx_http_hybrid_policy_may_use(ctx->client, &model)) {
        return ngx_http_hybrid_refuse(ctx, NGX_HTTP_FORBIDDEN, "model_denied",
                                      "this client may not use this model");
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_hybrid_policy_model(ngx_http_request_t *r, ngx_http_hybrid_ctx_t *ctx)
{
    if (!ngx_http_hybrid_policy_may_use(ctx->client, &ctx->model)
        || (ctx->model.cloud
            && !(ctx->client->egress & NGX_HTTP_HYBRID_EGRESS_CLOUD)))
    {
        ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                      "client \"%V\" may not use model \"%V\"",
                      &ctx->client->name, &ctx->model.brief);

        return ngx_http_hybrid_refuse(ctx, NGX_HTTP_FORBIDDEN, "model_denied",
                                      "this client may not use this model");
    }

    return NGX_OK;
}


ngx_uint_t
ngx_http_hybrid_policy_may_use(ngx_http_hybrid_client_t *client,
    ngx_hybrid_model_t *model)
{
    ngx_uint_t             i;
    ngx_hybrid_pattern_t  *patterns;

    patterns = client->models.elts;

    for (i = 0; i < client->models.nelts; i++) {
        if (ngx_hybrid_pattern_match(&patterns[i], model)) {
            return 1;
        }
    }

    return 0;
}


ngx_uint_t
ngx_http_hybrid_policy_egress(ngx_http_hybrid_client_t *client,
    ngx_http_hybrid_backend_t *backend)
{
    return (client->egress & backend->egress) != 0;
}


/*
 * Go reads a number as seconds and a string with time.ParseDuration(): what
 * has a minus, or no digit but zero, is negative or nothing.
 */

static ngx_uint_t
ngx_http_hybrid_policy_keep_alive(ngx_hybrid_json_value_t *value)
{
    u_char      ch;
    ngx_uint_t  i;

    if (value->type != NGX_HYBRID_JSON_T_NUMBER
        && value->type != NGX_HYBRID_JSON_T_STRING)
    {
        return 0;
    }

    if (value->len && value->data[0] == '-') {
        return 1;
    }

    for (i = 0; i < value->len; i++) {
        ch = value->data[i];

        if (ch >= '1' && ch <= '9') {
            return 0;
        }

        if (ch == 'e' || ch == 'E') {
            break;
        }
    }

    return 1;
}
