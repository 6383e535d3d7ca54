
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * hybrid_shadow: refusals of policy and limits are remembered, logged and
 * counted, and the request goes on.  Who is not authenticated goes on only
 * where another module of nginx lets in by itself ("satisfy any"), and then
 * as a stranger: local models, no verb but inference and read.
 *
 * What is broken or ambiguous, administration, and all that leaves the
 * premises is refused in shadow mode, too.
 */


#include "ngx_http_hybrid_conf.h"


typedef struct {
    ngx_str_t                  name;
    ngx_int_t                  status;
    const char                *message;
} ngx_http_hybrid_shadow_t;


/* in the order of ngx_hybrid_shadow_e */

static ngx_http_hybrid_shadow_t  ngx_http_hybrid_shadows[] = {
    { ngx_string("unauthenticated"), NGX_HTTP_UNAUTHORIZED,
      "authentication is required" },
    { ngx_string("verb"), NGX_HTTP_FORBIDDEN,
      "this client may not do this" },
    { ngx_string("model_denied"), NGX_HTTP_FORBIDDEN,
      "this client may not use this model" },
    { ngx_string("keep_alive"), NGX_HTTP_FORBIDDEN,
      "this client may not unload or pin a model with keep_alive" },
    { ngx_string("options"), NGX_HTTP_FORBIDDEN,
      "an option is not allowed" },
    { ngx_string("rate_limited"), NGX_HTTP_TOO_MANY_REQUESTS,
      "too many requests, try again later" },
    { ngx_string("limits_unavailable"), NGX_HTTP_SERVICE_UNAVAILABLE,
      "limits can't be checked at the moment" },
    { ngx_string("tokens_limited"), NGX_HTTP_TOO_MANY_REQUESTS,
      "too many tokens, try again later" },
    { ngx_string("budget_exceeded"), NGX_HTTP_TOO_MANY_REQUESTS,
      "the budget is spent" },
    { ngx_string("concurrency_limited"), NGX_HTTP_TOO_MANY_REQUESTS,
      "too many requests at a time, try again later" }
};


char *
ngx_http_hybrid_shadow_set(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_hybrid_loc_conf_t  *hlcf = conf;

    char  *rv;

    rv = ngx_conf_set_flag_slot(cf, cmd, conf);

    if (rv == NGX_CONF_OK && hlcf->shadow) {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                           "hybrid_shadow is on: refusals of policy and "
                           "limits are only logged");
    }

    return rv;
}


/* who has no name; no "models" of hybrid_client says "all" so plainly */

ngx_int_t
ngx_http_hybrid_shadow_init(ngx_conf_t *cf, ngx_http_hybrid_main_conf_t *hmcf)
{
    ngx_uint_t                 i;
    ngx_hybrid_pattern_t      *pattern;
    ngx_http_hybrid_client_t  *stranger;

    static ngx_str_t  patterns[] = {
        ngx_string("*"),
        ngx_string("*/*"),
        ngx_string("*/*/*")
    };

    stranger = &hmcf->stranger;

    if (ngx_array_init(&stranger->models, cf->pool, 3,
                       sizeof(ngx_hybrid_pattern_t))
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    for (i = 0; i < 3; i++) {
        pattern = ngx_array_push(&stranger->models);

        if (pattern == NULL
            || ngx_http_hybrid_conf_pattern(cf, &patterns[i], pattern)
               != NGX_CONF_OK)
        {
            return NGX_ERROR;
        }
    }

    ngx_str_set(&stranger->name, "-");
    stranger->verbs = NGX_HTTP_HYBRID_VERB_INFERENCE
                      |NGX_HTTP_HYBRID_VERB_READ;
    stranger->egress = NGX_HTTP_HYBRID_EGRESS_LOCAL;

    return NGX_OK;
}


/* 1: the refusal is remembered, and does not happen */

ngx_uint_t
ngx_http_hybrid_shadow(ngx_http_hybrid_ctx_t *ctx, ngx_hybrid_shadow_e reason)
{
    ngx_http_hybrid_loc_conf_t  *hlcf;

    hlcf = ngx_http_get_module_loc_conf(ctx->request, ngx_http_hybrid_module);

    if (!hlcf->shadow
        || hlcf->status
        || (ctx->endpoint
            && ctx->endpoint->verb == NGX_HTTP_HYBRID_VERB_ADMIN))
    {
        return 0;
    }

    if (ctx->shadow == 0) {
        ctx->shadow_first = reason;
    }

    ctx->shadow |= 1 << reason;

    return 1;
}


/* whether an unknown one that another module has let in may go on here */

ngx_uint_t
ngx_http_hybrid_shadow_open(ngx_http_request_t *r)
{
    ngx_http_core_loc_conf_t    *clcf;
    ngx_http_hybrid_loc_conf_t  *hlcf;

    hlcf = ngx_http_get_module_loc_conf(r, ngx_http_hybrid_module);
    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    return hlcf->shadow
           && !hlcf->status
           && clcf->satisfy == NGX_HTTP_SATISFY_ANY
           && r->err_status == 0;
}


/* forgets the refusal of an identity, and goes on without one */

void
ngx_http_hybrid_shadow_stranger(ngx_http_hybrid_ctx_t *ctx)
{
    (void) ngx_http_hybrid_shadow(ctx, ngx_hybrid_shadow_unauthenticated);

    ctx->client = &ctx->conf->stranger;
    ctx->auth = 0;
    ctx->verdict = NGX_OK;
    ctx->decided = 0;

    ngx_str_null(&ctx->reason);
    ngx_str_null(&ctx->message);
    ngx_str_null(&ctx->credential);
    ngx_str_null(&ctx->issuer);
    ngx_str_null(&ctx->subject);
    ngx_str_null(&ctx->jti);
}


/*
 * An internal redirect has led to another location: what was let through is
 * refused there, unless it is in shadow mode, too.
 */

ngx_int_t
ngx_http_hybrid_shadow_again(ngx_http_request_t *r, ngx_http_hybrid_ctx_t *ctx)
{
    ngx_http_hybrid_shadow_t    *shadow;
    ngx_http_hybrid_loc_conf_t  *hlcf;

    hlcf = ngx_http_get_module_loc_conf(r, ngx_http_hybrid_module);

    if (ctx->shadow == 0 || hlcf->shadow || ctx->verdict != NGX_OK) {
        return ctx->verdict;
    }

    shadow = &ngx_http_hybrid_shadows[ctx->shadow_first];

    return ngx_http_hybrid_refuse(ctx, shadow->status,
                                  (char *) shadow->name.data,
                                  shadow->message);
}


ngx_str_t *
ngx_http_hybrid_shadow_name(ngx_uint_t reason)
{
    return &ngx_http_hybrid_shadows[reason].name;
}


void
ngx_http_hybrid_shadow_log(ngx_http_request_t *r, ngx_http_hybrid_ctx_t *ctx)
{
    u_char      buf[256], *p;
    ngx_uint_t  i;

    if (ctx->shadow == 0) {
        return;
    }

    p = buf;

    for (i = 0; i < ngx_hybrid_shadow_n; i++) {
        if (ctx->shadow & (1 << i)) {
            p = ngx_slprintf(p, buf + sizeof(buf), "%s%V",
                             p == buf ? "" : ", ",
                             &ngx_http_hybrid_shadows[i].name);
        }
    }

    ngx_log_error(NGX_LOG_NOTICE, r->connection->log, 0,
                  "refused but for hybrid_shadow: %*s, client \"%V\", model "
                  "\"%V\"", (size_t) (p - buf), buf, &ctx->client->name,
                  &ctx->model.brief);
}
