
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * hybrid_route auto prompt<4k:small *:large: a virtual model, for which the
 * size of the prompt chooses a real one.  All that follows is about that
 * one: policy, route, log, and the name in the body.
 */


#include "ngx_http_hybrid_conf.h"
#include "ngx_http_hybrid_explain.h"


/* of JSON, for one token */
#define NGX_HTTP_HYBRID_SIZE_BYTES  4


static char *ngx_http_hybrid_size_word(ngx_conf_t *cf,
    ngx_http_hybrid_virtual_t *virt, ngx_str_t *word);
static ngx_int_t ngx_http_hybrid_size_routed(ngx_conf_t *cf,
    ngx_http_hybrid_main_conf_t *hmcf, ngx_http_hybrid_virtual_t *virt,
    ngx_http_hybrid_size_t *size);
static ngx_http_hybrid_virtual_t *ngx_http_hybrid_size_find(
    ngx_http_hybrid_main_conf_t *hmcf, ngx_hybrid_model_t *model);
static const char *ngx_http_hybrid_size_fault(ngx_http_hybrid_ctx_t *ctx);


/* of which the values are the prompt, in one dialect or another */

static ngx_str_t  ngx_http_hybrid_size_names[] = {
    ngx_string("messages"),
    ngx_string("prompt"),
    ngx_string("system"),
    ngx_string("input"),
    ngx_string("instructions"),
    ngx_string("contents"),
    ngx_string("tools"),
    ngx_string("suffix"),
    ngx_null_string
};


/* no backend has such a name: there is no "<" or ":" in one */

ngx_uint_t
ngx_http_hybrid_size_is(ngx_str_t *word)
{
    return ngx_strncmp(word->data, "prompt<", sizeof("prompt<") - 1) == 0
           || ngx_strncmp(word->data, "*:", sizeof("*:") - 1) == 0;
}


char *
ngx_http_hybrid_size(ngx_conf_t *cf, ngx_http_hybrid_main_conf_t *hmcf)
{
    ngx_str_t                  *value;
    ngx_uint_t                  i;
    ngx_http_hybrid_size_t     *sizes;
    ngx_http_hybrid_virtual_t  *virt, **virtuals;

    value = cf->args->elts;

    virt = ngx_pcalloc(cf->pool, sizeof(ngx_http_hybrid_virtual_t));

    if (virt == NULL
        || ngx_array_init(&virt->sizes, cf->pool, 4,
                          sizeof(ngx_http_hybrid_size_t))
           != NGX_OK
        || ngx_http_hybrid_conf_pattern(cf, &value[1], &virt->pattern)
           != NGX_CONF_OK)
    {
        return NGX_CONF_ERROR;
    }

    ngx_http_hybrid_conf_place(cf, &virt->place);

    if (!virt->pattern.exact) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" in hybrid_route: a model that is chosen by "
                           "the prompt's size has an exact name", &value[1]);
        return NGX_CONF_ERROR;
    }

    for (i = 2; i < cf->args->nelts; i++) {
        if (ngx_http_hybrid_size_word(cf, virt, &value[i]) != NGX_CONF_OK) {
            return NGX_CONF_ERROR;
        }
    }

    sizes = virt->sizes.elts;

    if (sizes[virt->sizes.nelts - 1].limit) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "hybrid_route \"%V\" has no model for larger "
                           "prompts: the last one is written as \"*:model\"",
                           &value[1]);
        return NGX_CONF_ERROR;
    }

    virtuals = ngx_array_push(&hmcf->virtuals);
    if (virtuals == NULL) {
        return NGX_CONF_ERROR;
    }

    *virtuals = virt;
    hmcf->defined = 1;

    return NGX_CONF_OK;
}


/* "prompt<4k:phi3" or "*:mistral:7b" */

static char *
ngx_http_hybrid_size_word(ngx_conf_t *cf, ngx_http_hybrid_virtual_t *virt,
    ngx_str_t *word)
{
    off_t                    tokens;
    u_char                  *p, *last, *buf;
    ngx_str_t                text;
    ngx_http_hybrid_size_t  *size, *sizes;

    last = word->data + word->len;
    p = ngx_strlchr(word->data, last, ':');

    if (p == NULL || !ngx_http_hybrid_size_is(word)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" in hybrid_route: either backends, or models "
                           "by the prompt's size: \"prompt<4k:model\" and at "
                           "last \"*:model\"", word);
        return NGX_CONF_ERROR;
    }

    tokens = 0;

    if (word->data[0] != '*') {
        text.data = word->data + sizeof("prompt<") - 1;
        text.len = p - text.data;

        tokens = ngx_parse_offset(&text);

        if (tokens <= 0
            || tokens > NGX_MAX_OFF_T_VALUE / NGX_HTTP_HYBRID_SIZE_BYTES)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid number of tokens \"%V\" in "
                               "hybrid_route", &text);
            return NGX_CONF_ERROR;
        }
    }

    sizes = virt->sizes.elts;

    if (virt->sizes.nelts) {
        size = &sizes[virt->sizes.nelts - 1];

        if (size->limit == 0
            || (tokens && tokens * NGX_HTTP_HYBRID_SIZE_BYTES <= size->limit))
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"%V\" in hybrid_route never comes to pass: "
                               "sizes rise, and \"*\" is the last", word);
            return NGX_CONF_ERROR;
        }
    }

    size = ngx_array_push(&virt->sizes);
    buf = ngx_pnalloc(cf->pool, word->len + sizeof(":latest"));

    if (size == NULL || buf == NULL) {
        return NGX_CONF_ERROR;
    }

    size->limit = tokens * NGX_HTTP_HYBRID_SIZE_BYTES;
    size->name.data = p + 1;
    size->name.len = last - size->name.data;

    if (ngx_hybrid_model_parse(&size->model, &size->name, buf) != NGX_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" can't be the name of a model",
                           &size->name);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


/* at the end of http{}, when the routes are in order */

ngx_int_t
ngx_http_hybrid_size_init(ngx_conf_t *cf, ngx_http_hybrid_main_conf_t *hmcf)
{
    ngx_uint_t                   i, j;
    ngx_hybrid_model_t           model;
    ngx_hybrid_pattern_t        *pattern;
    ngx_http_hybrid_size_t      *sizes;
    ngx_http_hybrid_route_t    **routes;
    ngx_http_hybrid_virtual_t  **virtuals, *virt;

    virtuals = hmcf->virtuals.elts;
    routes = hmcf->routes.elts;

    for (i = 0; i < hmcf->virtuals.nelts; i++) {

        virt = virtuals[i];
        pattern = &virt->pattern;

        model.name = pattern->text;
        model.brief = pattern->brief;
        model.cloud = pattern->cloud;

        for (j = 0; j < hmcf->routes.nelts; j++) {

            if (routes[j]->pattern.exact
                && ngx_hybrid_pattern_match(&routes[j]->pattern, &model))
            {
                goto duplicate;
            }
        }

        if (ngx_http_hybrid_size_find(hmcf, &model) != virt) {
            goto duplicate;
        }

        sizes = virt->sizes.elts;

        for (j = 0; j < virt->sizes.nelts; j++) {

            if (ngx_http_hybrid_size_routed(cf, hmcf, virt, &sizes[j])
                != NGX_OK)
            {
                return NGX_ERROR;
            }
        }
    }

    return NGX_OK;

duplicate:

    ngx_http_hybrid_conf_error_at(cf, &virt->place,
                                  "duplicate hybrid_route \"%V\"",
                                  &pattern->brief);
    return NGX_ERROR;
}


static ngx_int_t
ngx_http_hybrid_size_routed(ngx_conf_t *cf, ngx_http_hybrid_main_conf_t *hmcf,
    ngx_http_hybrid_virtual_t *virt, ngx_http_hybrid_size_t *size)
{
    ngx_uint_t                 i, g, n;
    ngx_http_hybrid_group_t   *groups;
    ngx_http_hybrid_route_t  **routes;
    ngx_http_hybrid_rename_t  *rename;

    if (ngx_http_hybrid_size_find(hmcf, &size->model)) {
        ngx_http_hybrid_conf_error_at(cf, &virt->place,
                       "\"%V\" in hybrid_route \"%V\" is not a real model: "
                       "it is chosen by size itself", &size->name,
                       &virt->pattern.brief);
        return NGX_ERROR;
    }

    routes = hmcf->routes.elts;

    for (i = 0; i < hmcf->routes.nelts; i++) {

        if (!ngx_hybrid_pattern_match(&routes[i]->pattern, &size->model)) {
            continue;
        }

        groups = routes[i]->groups.elts;

        for (g = 0; g < routes[i]->groups.nelts; g++) {
            for (n = 0; n < groups[g].n; n++) {

                if (ngx_http_hybrid_backend_has(groups[g].backends[n],
                                                &size->model, &rename))
                {
                    return NGX_OK;
                }
            }
        }

        break;
    }

    ngx_http_hybrid_conf_error_at(cf, &virt->place,
                       "no backend for model \"%V\" of hybrid_route \"%V\": "
                       "it needs a hybrid_route of its own", &size->name,
                       &virt->pattern.brief);
    return NGX_ERROR;
}


static ngx_http_hybrid_virtual_t *
ngx_http_hybrid_size_find(ngx_http_hybrid_main_conf_t *hmcf,
    ngx_hybrid_model_t *model)
{
    ngx_uint_t                   i;
    ngx_http_hybrid_virtual_t  **virtuals;

    virtuals = hmcf->virtuals.elts;

    for (i = 0; i < hmcf->virtuals.nelts; i++) {
        if (ngx_hybrid_pattern_match(&virtuals[i]->pattern, model)) {
            return virtuals[i];
        }
    }

    return NULL;
}


/* before the body is read */

void
ngx_http_hybrid_size_measure(ngx_http_hybrid_ctx_t *ctx)
{
    if (ctx->conf->virtuals.nelts) {
        ngx_hybrid_json_measure(&ctx->body->json, ngx_http_hybrid_size_names);
    }
}


/* the client needs no right to the virtual name, but to the real model */

ngx_int_t
ngx_http_hybrid_size_choose(ngx_http_request_t *r, ngx_http_hybrid_ctx_t *ctx)
{
    off_t  total;

    /* who asks what it can do is told of the largest one */

    total = NGX_MAX_OFF_T_VALUE;

    if (ctx->endpoint->verb == NGX_HTTP_HYBRID_VERB_INFERENCE && ctx->body) {
        total = ctx->body->json.total;
    }

    return ngx_http_hybrid_size_of(r, ctx, total);
}


ngx_int_t
ngx_http_hybrid_size_of(ngx_http_request_t *r, ngx_http_hybrid_ctx_t *ctx,
    off_t total)
{
    ngx_uint_t                  i;
    const char                 *fault;
    ngx_http_hybrid_size_t     *sizes;
    ngx_http_hybrid_virtual_t  *virt;

    virt = ngx_http_hybrid_size_find(ctx->conf, &ctx->model);

    if (virt == NULL) {
        return NGX_OK;
    }

    fault = ngx_http_hybrid_size_fault(ctx);

    if (fault) {
        return ngx_http_hybrid_refuse(ctx, NGX_HTTP_BAD_REQUEST,
                                      "virtual_model", fault);
    }

    sizes = virt->sizes.elts;

    for (i = 0; sizes[i].limit && total >= sizes[i].limit; i++) { /* void */ }

    ctx->size = &sizes[i];
    ctx->model = sizes[i].model;

    ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                  "model \"%V\" is \"%V\" for a prompt of about %O tokens",
                  &virt->pattern.brief, &ctx->model.brief,
                  total < NGX_MAX_OFF_T_VALUE / 2
                  ? total / NGX_HTTP_HYBRID_SIZE_BYTES : (off_t) 0);

    return NGX_OK;
}


static const char *
ngx_http_hybrid_size_fault(ngx_http_hybrid_ctx_t *ctx)
{
    if (ctx->endpoint->verb == NGX_HTTP_HYBRID_VERB_ADMIN) {
        return "this is no model, but a name for several";
    }

    /* vectors of two models in one index are silently wrong */

    if (ngx_http_hybrid_route_embeds(ctx)) {
        return "embeddings need the name of one model, not of several";
    }

    if (ctx->google || (ctx->body && ctx->body->form)) {
        return "a model that is chosen by the prompt's size can't be used "
               "here";
    }

    return NULL;
}
