
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Lists of models (/api/tags, /v1/models): the models that the configuration
 * names and that this client may use, wherever they are.
 */


#include "ngx_http_hybrid_module.h"


typedef struct {
    ngx_http_request_t        *request;
    ngx_http_hybrid_ctx_t     *ctx;
    ngx_array_t                seen;     /* ngx_hybrid_pattern_t * */
    u_char                    *pos;
    u_char                    *end;
} ngx_http_hybrid_list_t;


static ngx_int_t ngx_http_hybrid_list_backend(ngx_http_hybrid_list_t *list,
    ngx_http_hybrid_backend_t *backend);
static ngx_int_t ngx_http_hybrid_list_add(ngx_http_hybrid_list_t *list,
    ngx_http_hybrid_backend_t *backend, ngx_hybrid_pattern_t *pattern);
static ngx_uint_t ngx_http_hybrid_list_routed(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_backend_t *backend, ngx_hybrid_model_t *model);
static size_t ngx_http_hybrid_list_size(ngx_http_hybrid_ctx_t *ctx);


/* of the fixed text around two names and a backend's */
#define NGX_HTTP_HYBRID_LIST_ITEM  320


ngx_int_t
ngx_http_hybrid_list_handler(ngx_http_request_t *r)
{
    size_t                       size;
    ngx_str_t                    type;
    ngx_uint_t                   i;
    ngx_http_hybrid_list_t       list;
    ngx_http_complex_value_t     cv;
    ngx_http_hybrid_backend_t  **backends;

    ngx_memzero(&list, sizeof(ngx_http_hybrid_list_t));

    list.request = r;
    list.ctx = ngx_http_hybrid_get_ctx(r);

    if (list.ctx == NULL
        || ngx_array_init(&list.seen, r->pool, 16, sizeof(void *)) != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    size = ngx_http_hybrid_list_size(list.ctx);

    ngx_memzero(&cv, sizeof(ngx_http_complex_value_t));

    cv.value.data = ngx_pnalloc(r->pool, size);
    if (cv.value.data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    list.pos = cv.value.data;
    list.end = cv.value.data + size;

    if (list.ctx->endpoint->dialect == ngx_http_hybrid_dialect_openai) {
        list.pos = ngx_slprintf(list.pos, list.end,
                                "{\"object\":\"list\",\"data\":[");
    } else {
        list.pos = ngx_slprintf(list.pos, list.end, "{\"models\":[");
    }

    backends = list.ctx->conf->backends.elts;

    for (i = 0; i < list.ctx->conf->backends.nelts; i++) {
        if (ngx_http_hybrid_list_backend(&list, backends[i]) != NGX_OK) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
    }

    list.pos = ngx_slprintf(list.pos, list.end, "]}\n");
    cv.value.len = list.pos - cv.value.data;

    ngx_str_set(&type, "application/json");

    r->disable_not_modified = 1;

    return ngx_http_send_response(r, NGX_HTTP_OK, &type, &cv);
}


static size_t
ngx_http_hybrid_list_size(ngx_http_hybrid_ctx_t *ctx)
{
    size_t                       size;
    ngx_uint_t                   i, j;
    ngx_hybrid_pattern_t        *patterns;
    ngx_http_hybrid_rename_t    *renames;
    ngx_http_hybrid_backend_t  **backends;

    size = 64;
    backends = ctx->conf->backends.elts;

    for (i = 0; i < ctx->conf->backends.nelts; i++) {
        patterns = backends[i]->models.elts;

        for (j = 0; j < backends[i]->models.nelts; j++) {
            size += NGX_HTTP_HYBRID_LIST_ITEM + 2 * patterns[j].text.len
                    + backends[i]->name.len;
        }

        renames = backends[i]->renames.elts;

        for (j = 0; j < backends[i]->renames.nelts; j++) {
            size += NGX_HTTP_HYBRID_LIST_ITEM + 2 * renames[j].pattern.text.len
                    + backends[i]->name.len;
        }
    }

    return size;
}


static ngx_int_t
ngx_http_hybrid_list_backend(ngx_http_hybrid_list_t *list,
    ngx_http_hybrid_backend_t *backend)
{
    ngx_uint_t                 i;
    ngx_hybrid_pattern_t      *patterns;
    ngx_http_hybrid_rename_t  *renames;

    if (!ngx_http_hybrid_policy_egress(list->ctx, backend)
        || (backend->api == ngx_http_hybrid_api_openai
            && list->ctx->endpoint->dialect != ngx_http_hybrid_dialect_openai))
    {
        return NGX_OK;
    }

    patterns = backend->models.elts;

    for (i = 0; i < backend->models.nelts; i++) {
        if (ngx_http_hybrid_list_add(list, backend, &patterns[i]) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    renames = backend->renames.elts;

    for (i = 0; i < backend->renames.nelts; i++) {
        if (ngx_http_hybrid_list_add(list, backend, &renames[i].pattern)
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_hybrid_list_add(ngx_http_hybrid_list_t *list,
    ngx_http_hybrid_backend_t *backend, ngx_hybrid_pattern_t *pattern)
{
    ngx_str_t              *name;
    ngx_uint_t              i;
    ngx_hybrid_model_t      model;
    ngx_hybrid_pattern_t  **seen;

    if (!pattern->exact) {
        return NGX_OK;
    }

    model.name = pattern->text;
    model.brief = pattern->brief;
    model.cloud = pattern->cloud;

    if (!ngx_http_hybrid_policy_may_use(list->ctx->client, &model)
        || !ngx_http_hybrid_list_routed(list->ctx, backend, &model))
    {
        return NGX_OK;
    }

    seen = list->seen.elts;

    for (i = 0; i < list->seen.nelts; i++) {
        if (seen[i]->text.len == pattern->text.len
            && ngx_memcmp(seen[i]->text.data, pattern->text.data,
                          pattern->text.len)
               == 0)
        {
            return NGX_OK;
        }
    }

    if (list->seen.nelts) {
        *list->pos++ = ',';
    }

    seen = ngx_array_push(&list->seen);
    if (seen == NULL) {
        return NGX_ERROR;
    }

    *seen = pattern;

    /* Ollama names the default tag, other vendors have no tags */

    name = (backend->api == ngx_http_hybrid_api_ollama) ? &pattern->text
                                                        : &pattern->brief;

    if (list->ctx->endpoint->dialect == ngx_http_hybrid_dialect_openai) {
        list->pos = ngx_slprintf(list->pos, list->end,
                                 "{\"id\":\"%V\",\"object\":\"model\","
                                 "\"created\":0,\"owned_by\":\"%V\"}",
                                 name, &backend->name);
        return NGX_OK;
    }

    list->pos = ngx_slprintf(list->pos, list->end,
                             "{\"name\":\"%V\",\"model\":\"%V\","
                             "\"modified_at\":\"1970-01-01T00:00:00Z\","
                             "\"size\":0,\"digest\":\"\",\"details\":{"
                             "\"parent_model\":\"\",\"format\":\"\","
                             "\"family\":\"\",\"families\":null,"
                             "\"parameter_size\":\"\","
                             "\"quantization_level\":\"\"}}",
                             name, name);

    return NGX_OK;
}


/* whether a request for it would find this backend among its candidates */

static ngx_uint_t
ngx_http_hybrid_list_routed(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_backend_t *backend, ngx_hybrid_model_t *model)
{
    ngx_uint_t                 i;
    ngx_http_hybrid_route_t  **routes;

    routes = ctx->conf->routes.elts;

    for (i = 0; i < ctx->conf->routes.nelts; i++) {
        if (ngx_hybrid_pattern_match(&routes[i]->pattern, model)) {
            return ngx_http_hybrid_route_has(routes[i], backend);
        }
    }

    return 0;
}
