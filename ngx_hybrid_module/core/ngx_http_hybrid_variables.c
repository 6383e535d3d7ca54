
/*
 * Copyright (C) the ngx_hybrid_module authors
 */


#include "ngx_http_hybrid_ledger.h"


typedef enum {
    ngx_http_hybrid_var_client = 0,
    ngx_http_hybrid_var_auth,
    ngx_http_hybrid_var_model,
    ngx_http_hybrid_var_verb,
    ngx_http_hybrid_var_backend,
    ngx_http_hybrid_var_backends,
    ngx_http_hybrid_var_host,
    ngx_http_hybrid_var_authorization,
    ngx_http_hybrid_var_reason,
    ngx_http_hybrid_var_shadow,
    ngx_http_hybrid_var_ttft,
    ngx_http_hybrid_var_input_tokens,
    ngx_http_hybrid_var_output_tokens,
    ngx_http_hybrid_var_usage,
    ngx_http_hybrid_var_cost,
    ngx_http_hybrid_var_queue_time
} ngx_http_hybrid_var_e;


static ngx_int_t ngx_http_hybrid_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_http_hybrid_backend_t *ngx_http_hybrid_variable_backend(
    ngx_http_hybrid_ctx_t *ctx);
static void ngx_http_hybrid_variable_verb(ngx_http_hybrid_ctx_t *ctx,
    ngx_str_t *value);
static ngx_int_t ngx_http_hybrid_variable_backends(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_str_t *value);
static ngx_int_t ngx_http_hybrid_variable_msec(ngx_http_request_t *r,
    ngx_msec_t ms, ngx_str_t *value);
static ngx_int_t ngx_http_hybrid_variable_ttft(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_str_t *value);
static ngx_int_t ngx_http_hybrid_variable_usage(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_uint_t var, ngx_str_t *value);


/*
 * Not cacheable where the value changes with every try, or becomes known
 * only later than something may ask for it.
 */

static ngx_http_variable_t  ngx_http_hybrid_vars[] = {

    { ngx_string("hybrid_client"), NULL, ngx_http_hybrid_variable,
      ngx_http_hybrid_var_client, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("hybrid_auth"), NULL, ngx_http_hybrid_variable,
      ngx_http_hybrid_var_auth, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("hybrid_model"), NULL, ngx_http_hybrid_variable,
      ngx_http_hybrid_var_model, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("hybrid_verb"), NULL, ngx_http_hybrid_variable,
      ngx_http_hybrid_var_verb, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("hybrid_backend"), NULL, ngx_http_hybrid_variable,
      ngx_http_hybrid_var_backend, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("hybrid_backends"), NULL, ngx_http_hybrid_variable,
      ngx_http_hybrid_var_backends, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("hybrid_host"), NULL, ngx_http_hybrid_variable,
      ngx_http_hybrid_var_host, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("hybrid_authorization"), NULL, ngx_http_hybrid_variable,
      ngx_http_hybrid_var_authorization, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("hybrid_reason"), NULL, ngx_http_hybrid_variable,
      ngx_http_hybrid_var_reason, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("hybrid_shadow"), NULL, ngx_http_hybrid_variable,
      ngx_http_hybrid_var_shadow, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("hybrid_ttft"), NULL, ngx_http_hybrid_variable,
      ngx_http_hybrid_var_ttft, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("hybrid_input_tokens"), NULL, ngx_http_hybrid_variable,
      ngx_http_hybrid_var_input_tokens, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("hybrid_output_tokens"), NULL, ngx_http_hybrid_variable,
      ngx_http_hybrid_var_output_tokens, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("hybrid_usage"), NULL, ngx_http_hybrid_variable,
      ngx_http_hybrid_var_usage, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("hybrid_cost"), NULL, ngx_http_hybrid_variable,
      ngx_http_hybrid_var_cost, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("hybrid_queue_time"), NULL, ngx_http_hybrid_variable,
      ngx_http_hybrid_var_queue_time, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("hybrid_load_time"), NULL, ngx_http_hybrid_ledger_variable,
      ngx_http_hybrid_ledger_var_load_time, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("hybrid_prompt_time"), NULL, ngx_http_hybrid_ledger_variable,
      ngx_http_hybrid_ledger_var_prompt_time, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("hybrid_connect_time"), NULL, ngx_http_hybrid_ledger_variable,
      ngx_http_hybrid_ledger_var_connect_time, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("hybrid_first_byte_time"), NULL,
      ngx_http_hybrid_ledger_variable,
      ngx_http_hybrid_ledger_var_first_byte_time, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("hybrid_time_per_token"), NULL,
      ngx_http_hybrid_ledger_variable,
      ngx_http_hybrid_ledger_var_time_per_token, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("hybrid_tokens_per_second"), NULL,
      ngx_http_hybrid_ledger_variable,
      ngx_http_hybrid_ledger_var_tokens_per_second,
      NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("hybrid_cold"), NULL, ngx_http_hybrid_ledger_variable,
      ngx_http_hybrid_ledger_var_cold, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("hybrid_outcome"), NULL, ngx_http_hybrid_ledger_variable,
      ngx_http_hybrid_ledger_var_outcome, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("hybrid_fallback"), NULL, ngx_http_hybrid_ledger_variable,
      ngx_http_hybrid_ledger_var_fallback, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("hybrid_retries"), NULL, ngx_http_hybrid_ledger_variable,
      ngx_http_hybrid_ledger_var_retries, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("hybrid_body_time"), NULL, ngx_http_hybrid_ledger_variable,
      ngx_http_hybrid_ledger_var_body_time, NGX_HTTP_VAR_NOCACHEABLE, 0 },

    { ngx_string("hybrid_failed_time"), NULL, ngx_http_hybrid_ledger_variable,
      ngx_http_hybrid_ledger_var_failed_time, NGX_HTTP_VAR_NOCACHEABLE, 0 },

      ngx_http_null_variable
};


ngx_int_t
ngx_http_hybrid_add_variables(ngx_conf_t *cf)
{
    ngx_http_variable_t  *var, *v;

    for (v = ngx_http_hybrid_vars; v->name.len; v++) {

        var = ngx_http_add_variable(cf, &v->name, v->flags);
        if (var == NULL) {
            return NGX_ERROR;
        }

        var->get_handler = v->get_handler;
        var->data = v->data;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_hybrid_variable(ngx_http_request_t *r, ngx_http_variable_value_t *v,
    uintptr_t data)
{
    ngx_int_t                   rc;
    ngx_str_t                   value;
    ngx_http_hybrid_ctx_t      *ctx;
    ngx_http_hybrid_backend_t  *backend;

    ctx = ngx_http_hybrid_get_ctx(r->main);

    ngx_str_null(&value);
    rc = NGX_OK;

    if (ctx) {

        switch (data) {

        case ngx_http_hybrid_var_client:
            if (ctx->client) {
                value = ctx->client->name;
            }

            break;

        case ngx_http_hybrid_var_auth:
            switch (ctx->auth) {

            case NGX_HTTP_HYBRID_ACCESS_TOKEN:
                ngx_str_set(&value, "token");
                break;

            case NGX_HTTP_HYBRID_ACCESS_JWT:
                ngx_str_set(&value, "jwt");
                break;

            case NGX_HTTP_HYBRID_ACCESS_MTLS:
                ngx_str_set(&value, "mtls");
                break;
            }

            break;

        case ngx_http_hybrid_var_model:
            value = ctx->model.brief;
            break;

        case ngx_http_hybrid_var_verb:
            ngx_http_hybrid_variable_verb(ctx, &value);
            break;

        case ngx_http_hybrid_var_backend:
            if (ctx->tries) {
                value = ctx->candidates[ctx->current].backend->name;
            }

            break;

        case ngx_http_hybrid_var_backends:
            rc = ngx_http_hybrid_variable_backends(r, ctx, &value);
            break;

        case ngx_http_hybrid_var_host:
            backend = ngx_http_hybrid_variable_backend(ctx);
            if (backend) {
                value = backend->host;
            }

            break;

        case ngx_http_hybrid_var_authorization:
            backend = ngx_http_hybrid_variable_backend(ctx);

            /* only for a request that is being built for this backend */

            if (backend && (backend->authorization || backend->gce)
                && ctx->presented && ctx->u)
            {
                rc = ngx_http_hybrid_request_secret(r, &value, backend->gce
                         ? ngx_http_hybrid_gce_value(backend->gce)
                         : backend->authorization);
            }

            break;

        case ngx_http_hybrid_var_reason:
            value = ctx->reason.len ? ctx->reason : ctx->fallback;
            break;

        case ngx_http_hybrid_var_shadow:
            if (ctx->shadow) {
                value = *ngx_http_hybrid_shadow_name(ctx->shadow_first);
            }

            break;

        case ngx_http_hybrid_var_ttft:
            rc = ngx_http_hybrid_variable_ttft(r, ctx, &value);
            break;

        case ngx_http_hybrid_var_input_tokens:
        case ngx_http_hybrid_var_output_tokens:
        case ngx_http_hybrid_var_usage:
        case ngx_http_hybrid_var_cost:
            rc = ngx_http_hybrid_variable_usage(r, ctx, data, &value);
            break;

        default: /* ngx_http_hybrid_var_queue_time */
            rc = ngx_http_hybrid_variable_msec(r, ctx->queue_time, &value);
            break;
        }
    }

    if (rc != NGX_OK) {
        return NGX_ERROR;
    }

    if (value.len == 0) {
        v->not_found = 1;
        return NGX_OK;
    }

    v->data = value.data;
    v->len = value.len;
    v->valid = 1;
    v->no_cacheable = 1;
    v->not_found = 0;

    return NGX_OK;
}


static ngx_http_hybrid_backend_t *
ngx_http_hybrid_variable_backend(ngx_http_hybrid_ctx_t *ctx)
{
    return ctx->candidates ? ctx->candidates[ctx->current].backend : NULL;
}


static void
ngx_http_hybrid_variable_verb(ngx_http_hybrid_ctx_t *ctx, ngx_str_t *value)
{
    if (ctx->endpoint == NULL) {
        return;
    }

    switch (ctx->endpoint->verb) {

    case NGX_HTTP_HYBRID_VERB_INFERENCE:
        ngx_str_set(value, "inference");
        break;

    case NGX_HTTP_HYBRID_VERB_READ:
        ngx_str_set(value, "read");
        break;

    default: /* NGX_HTTP_HYBRID_VERB_ADMIN */
        ngx_str_set(value, "admin");
        break;
    }
}


static ngx_int_t
ngx_http_hybrid_variable_backends(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_str_t *value)
{
    u_char                       *p;
    size_t                        size;
    ngx_uint_t                    i;
    ngx_http_hybrid_candidate_t  *cand;

    size = 0;
    cand = ctx->candidates;

    for (i = 0; i < ctx->ncandidates; i++) {
        if (cand[i].tried) {
            size += cand[i].backend->name.len + 1;
        }
    }

    if (size == 0) {
        return NGX_OK;
    }

    p = ngx_pnalloc(r->pool, size);
    if (p == NULL) {
        return NGX_ERROR;
    }

    value->data = p;

    for (i = 0; i < ctx->ncandidates; i++) {
        if (cand[i].tried) {
            p = ngx_cpymem(p, cand[i].backend->name.data,
                           cand[i].backend->name.len);
            *p++ = ',';
        }
    }

    value->len = p - value->data - 1;

    return NGX_OK;
}


/* seconds with milliseconds, as nginx's own times */

static ngx_int_t
ngx_http_hybrid_variable_msec(ngx_http_request_t *r, ngx_msec_t ms,
    ngx_str_t *value)
{
    value->data = ngx_pnalloc(r->pool, NGX_TIME_T_LEN + 4);
    if (value->data == NULL) {
        return NGX_ERROR;
    }

    value->len = ngx_sprintf(value->data, "%T.%03M", (time_t) ms / 1000,
                             ms % 1000)
                 - value->data;

    return NGX_OK;
}


/*
 * From the last try's start to the first token of a stream; of what is no
 * stream, to the header of the answer.
 */

static ngx_int_t
ngx_http_hybrid_variable_ttft(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_str_t *value)
{
    ngx_http_upstream_state_t  *state;

    if (ctx->first_token && ctx->u) {
        return ngx_http_hybrid_variable_msec(r,
                             ctx->first_token - ctx->u->start_time, value);
    }

    if (ctx->answer && ctx->answer->streamed) {
        return NGX_OK;
    }

    if (r->upstream_states == NULL || r->upstream_states->nelts == 0) {
        return NGX_OK;
    }

    state = r->upstream_states->elts;
    state += r->upstream_states->nelts - 1;

    if (state->header_time == (ngx_msec_t) -1) {
        return NGX_OK;
    }

    return ngx_http_hybrid_variable_msec(r, state->header_time, value);
}


/* nothing before a backend has begun to answer, then what it is so far */

static ngx_int_t
ngx_http_hybrid_variable_usage(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_uint_t var, ngx_str_t *value)
{
    uint64_t                    cost;
    ngx_http_hybrid_usage_t     usage;
    ngx_http_hybrid_backend_t  *backend;

    if (ngx_http_hybrid_usage_now(ctx, &usage) != NGX_OK) {
        return NGX_OK;
    }

    if (var == ngx_http_hybrid_var_usage) {

        if (usage.told_input && usage.told_output) {
            ngx_str_set(value, "told");

        } else {
            ngx_str_set(value, "estimated");
        }

        return NGX_OK;
    }

    backend = ctx->candidates[ctx->current].backend;

    if (var == ngx_http_hybrid_var_cost && !backend->priced) {
        return NGX_OK;
    }

    value->data = ngx_pnalloc(r->pool, NGX_INT64_LEN + sizeof(".000000") - 1);
    if (value->data == NULL) {
        return NGX_ERROR;
    }

    if (var == ngx_http_hybrid_var_cost) {
        cost = ngx_http_hybrid_usage_cost(backend, usage.input, usage.output);

        value->len = ngx_sprintf(value->data, "%uL.%06uL", cost / 1000000,
                                 cost % 1000000)
                     - value->data;

        return NGX_OK;
    }

    value->len = ngx_sprintf(value->data, "%uL",
                             var == ngx_http_hybrid_var_input_tokens
                             ? usage.input : usage.output)
                 - value->data;

    return NGX_OK;
}
