
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * May this client do that: what the body asks for, with which model, and
 * whether it may leave the premises.
 */


#include "ngx_http_hybrid_explain.h"


static ngx_int_t ngx_http_hybrid_policy_form(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx);
static ngx_int_t ngx_http_hybrid_policy_create(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx);
static ngx_uint_t ngx_http_hybrid_policy_given(ngx_http_hybrid_ctx_t *ctx,
    ngx_uint_t key);
static ngx_int_t ngx_http_hybrid_policy_syntax(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, const char *reason, off_t offset);
static ngx_int_t ngx_http_hybrid_policy_name(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_uint_t key, ngx_hybrid_model_t *model);
static ngx_int_t ngx_http_hybrid_policy_second(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_uint_t key);


/* reads the model's name, and what else the policy needs, from the body */

ngx_int_t
ngx_http_hybrid_policy_body(ngx_http_request_t *r, ngx_http_hybrid_ctx_t *ctx)
{
    ngx_uint_t                key;
    ngx_hybrid_json_t        *js;
    ngx_hybrid_json_value_t  *values;

    js = &ctx->body->json;
    values = ctx->body->values;

    if (ctx->body->form) {

        if (ngx_http_hybrid_policy_form(r, ctx) != NGX_OK) {
            return ctx->verdict;
        }

    } else if (ngx_hybrid_json_finish(js) != NGX_OK) {
        return ngx_http_hybrid_policy_syntax(r, ctx,
                                             ngx_hybrid_json_reason(js),
                                             js->offset);
    }

    if (ctx->google) {
        return ngx_http_hybrid_google_body(r, ctx);
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

        if (ngx_http_hybrid_policy_create(r, ctx) != NGX_OK) {
            return ctx->verdict;
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

    ctx->key = key;

    if (ngx_http_hybrid_policy_name(r, ctx, key, &ctx->model) != NGX_OK) {
        return ctx->verdict;
    }

    /* the machine itself would ask others, and tell them of the prompt */

    if ((values[NGX_HTTP_HYBRID_KEY_TOOLS].found
         || ngx_http_hybrid_policy_given(ctx, NGX_HTTP_HYBRID_KEY_WEB_SEARCH)
         || ngx_http_hybrid_policy_given(ctx,
                                         NGX_HTTP_HYBRID_KEY_MCP_SERVERS))
        && !(ctx->client->egress & NGX_HTTP_HYBRID_EGRESS_CLOUD))
    {
        return ngx_http_hybrid_refuse(ctx, NGX_HTTP_FORBIDDEN, "egress",
                                      "this client's requests may not search "
                                      "the web or call other servers");
    }

    return ngx_http_hybrid_options_check(r, ctx);
}


/* the field is as a string of JSON from here on, with quotes around */

static ngx_int_t
ngx_http_hybrid_policy_form(ngx_http_request_t *r, ngx_http_hybrid_ctx_t *ctx)
{
    ngx_hybrid_json_value_t  *value;
    ngx_hybrid_multipart_t   *form;

    form = ctx->body->form;

    if (ngx_hybrid_multipart_finish(form) != NGX_OK) {
        return ngx_http_hybrid_policy_syntax(r, ctx,
                                             ngx_hybrid_multipart_reason(form),
                                             form->offset);
    }

    if (!form->found) {
        return NGX_OK;
    }

    value = &ctx->body->values[NGX_HTTP_HYBRID_KEY_MODEL];

    value->type = NGX_HYBRID_JSON_T_STRING;
    value->start = form->start - 1;
    value->end = form->end + 1;
    value->data = form->value;
    value->len = form->len;

    return NGX_OK;
}


/* what a create can name a model or a machine by, besides "from" */

static ngx_int_t
ngx_http_hybrid_policy_create(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx)
{
    if (ngx_http_hybrid_policy_given(ctx, NGX_HTTP_HYBRID_KEY_REMOTE_HOST)
        && !(ctx->client->egress & NGX_HTTP_HYBRID_EGRESS_CLOUD))
    {
        return ngx_http_hybrid_refuse(ctx, NGX_HTTP_FORBIDDEN, "egress",
                                      "this client may not make a model that "
                                      "leaves the premises");
    }

    /* of older versions: text with a FROM in it, or a file of the machine */

    if (ngx_http_hybrid_policy_given(ctx, NGX_HTTP_HYBRID_KEY_MODELFILE)
        || (ctx->endpoint->verb == NGX_HTTP_HYBRID_VERB_ADMIN
            && ngx_http_hybrid_policy_given(ctx, NGX_HTTP_HYBRID_KEY_PATH)))
    {
        return ngx_http_hybrid_refuse(ctx, NGX_HTTP_FORBIDDEN, "model_denied",
                                      "a model may be made only with from "
                                      "or files");
    }

    return NGX_OK;
}


/* neither absent, nor null or empty, which is the same to Go */

static ngx_uint_t
ngx_http_hybrid_policy_given(ngx_http_hybrid_ctx_t *ctx, ngx_uint_t key)
{
    ngx_hybrid_json_value_t  *value;

    value = &ctx->body->values[key];

    return value->type != NGX_HYBRID_JSON_T_ABSENT
           && value->type != NGX_HYBRID_JSON_T_NULL
           && (value->type != NGX_HYBRID_JSON_T_STRING || value->len
               || value->overflow);
}


static ngx_int_t
ngx_http_hybrid_policy_syntax(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, const char *reason, off_t offset)
{
    u_char  *p;
    size_t   size;

    ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                  "request body is refused: %s at byte %O", reason,
                  offset);

    (void) ngx_http_hybrid_refuse(ctx, NGX_HTTP_BAD_REQUEST, "invalid_body",
                                  reason);

    size = sizeof("request body is refused:  at byte ") + ngx_strlen(reason)
           + NGX_OFF_T_LEN;

    p = ngx_pnalloc(r->pool, size);
    if (p) {
        ctx->message.data = p;
        ctx->message.len = ngx_sprintf(p,
                                       "request body is refused: %s at "
                                       "byte %O", reason, offset) - p;
    }

    return NGX_HTTP_BAD_REQUEST;
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
ngx_http_hybrid_policy_verb(ngx_http_hybrid_ctx_t *ctx)
{
    /* what only administrators may do does not exist for others */

    if (ctx->endpoint == NULL
        || (ctx->endpoint->verb == NGX_HTTP_HYBRID_VERB_ADMIN
            && !(ctx->client->verbs & NGX_HTTP_HYBRID_VERB_ADMIN)))
    {
        return ngx_http_hybrid_refuse(ctx, NGX_HTTP_FORBIDDEN, "endpoint",
                                      "this endpoint is not available");
    }

    if (!(ctx->client->verbs & ctx->endpoint->verb)
        && !ngx_http_hybrid_shadow(ctx, ngx_hybrid_shadow_verb))
    {
        return ngx_http_hybrid_refuse(ctx, NGX_HTTP_FORBIDDEN, "verb",
                                      "this client may not do this");
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_hybrid_policy_model(ngx_http_request_t *r, ngx_http_hybrid_ctx_t *ctx)
{
    if (!ngx_http_hybrid_policy_may_use(ctx->client, &ctx->model)) {

        /* let through it stays on the premises, also when it has to move on */

        if (!ctx->model.cloud
            && ngx_http_hybrid_shadow(ctx, ngx_hybrid_shadow_model_denied))
        {
            ctx->local = 1;
            return NGX_OK;
        }

        ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                      "client \"%V\" may not use model \"%V\"",
                      &ctx->client->name, &ctx->model.brief);

        return ngx_http_hybrid_refuse(ctx, NGX_HTTP_FORBIDDEN, "model_denied",
                                      "this client may not use this model");
    }

    return NGX_OK;
}


/*
 * Would the prompt leave the premises wherever the model is asked for?  So
 * far only a name tells; a catalogue may know of models that are remote.
 */

ngx_uint_t
ngx_http_hybrid_policy_cloud(ngx_hybrid_model_t *model)
{
    return model->cloud;
}


ngx_uint_t
ngx_http_hybrid_policy_may_use(ngx_http_hybrid_client_t *client,
    ngx_hybrid_model_t *model)
{
    ngx_uint_t             i;
    ngx_hybrid_pattern_t  *patterns;

    if (ngx_http_hybrid_policy_cloud(model)
        && !(client->egress & NGX_HTTP_HYBRID_EGRESS_CLOUD))
    {
        return 0;
    }

    patterns = client->models.elts;

    for (i = 0; i < client->models.nelts; i++) {
        if (ngx_hybrid_pattern_match(&patterns[i], model)) {
            return 1;
        }
    }

    return 0;
}


ngx_uint_t
ngx_http_hybrid_policy_egress(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_backend_t *backend)
{
    if (ctx->local && backend->egress != NGX_HTTP_HYBRID_EGRESS_LOCAL) {
        return 0;
    }

    return (ctx->client->egress & backend->egress) != 0;
}
