
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Which backends answer Google's own requests, and at what path.  Version,
 * project and location are the backend's, never the client's.
 */


#include "ngx_http_hybrid_module.h"


static ngx_int_t ngx_http_hybrid_google_rename(ngx_str_t *name,
    ngx_http_hybrid_google_t *google, ngx_uint_t cloud, ngx_str_t *model);


/*
 * An OpenAI-style base path tells which cloud it is:
 *
 *     /v1beta/openai                                        Gemini API
 *     /v1/projects/P/locations/L/endpoints/openapi          Vertex AI
 */

void
ngx_http_hybrid_google_backend(ngx_http_hybrid_backend_t *backend)
{
    u_char      *p, *last;
    size_t       len;
    ngx_uint_t   i, slashes;

    static ngx_str_t  gemini = ngx_string("/v1beta/openai");
    static ngx_str_t  tail = ngx_string("/endpoints/openapi");
    static ngx_str_t  heads[] = {
        ngx_string("/v1/projects/"),
        ngx_string("/v1beta1/projects/")
    };

    if (backend->api != ngx_http_hybrid_api_openai) {
        return;
    }

    backend->root = backend->base;
    len = backend->base.len;

    if (len == gemini.len
        && ngx_memcmp(backend->base.data, gemini.data, len) == 0)
    {
        backend->cloud = NGX_HTTP_HYBRID_GEMINI;
        backend->root.len = sizeof("/v1beta") - 1;
        return;
    }

    if (len <= tail.len
        || ngx_memcmp(backend->base.data + len - tail.len, tail.data,
                      tail.len)
           != 0)
    {
        return;
    }

    backend->root.len = len - tail.len;
    last = backend->base.data + backend->root.len;

    for (i = 0; i < 2; i++) {

        if (backend->root.len <= heads[i].len
            || ngx_memcmp(backend->root.data, heads[i].data, heads[i].len)
               != 0)
        {
            continue;
        }

        /* P/locations/L */

        p = backend->base.data + heads[i].len;
        len = sizeof("/locations/") - 1;
        slashes = 0;

        for ( /* void */ ; p < last; p++) {

            if (*p != '/') {
                continue;
            }

            if (slashes++ == 0
                && ((size_t) (last - p) <= len
                    || ngx_strncmp(p, "/locations/", len) != 0))
            {
                return;
            }
        }

        if (slashes == 2) {
            backend->cloud = NGX_HTTP_HYBRID_VERTEX;
        }

        return;
    }
}


/* can it answer this request, under this name? */

ngx_uint_t
ngx_http_hybrid_google_speaks(ngx_http_hybrid_backend_t *backend,
    ngx_http_hybrid_google_t *google)
{
    if (!(backend->cloud & google->clouds)) {
        return 0;
    }

    return backend->cloud == NGX_HTTP_HYBRID_VERTEX
           || (google->publisher.len == sizeof("google") - 1
               && ngx_strncmp(google->publisher.data, "google", 6) == 0);
}


/*
 * The model of a rename, which must be of the same publisher: another's
 * requests look differently.
 */

ngx_int_t
ngx_http_hybrid_google_target(ngx_http_hybrid_google_t *google,
    ngx_http_hybrid_backend_t *backend, ngx_http_hybrid_rename_t *rename,
    ngx_str_t *model)
{
    *model = google->model;

    if (rename == NULL) {
        return NGX_OK;
    }

    /* each item of a batch names the model, too */

    if (google->action.len == sizeof(":batchEmbedContents") - 1
        && ngx_strncmp(google->action.data, ":batch", 6) == 0)
    {
        return NGX_DECLINED;
    }

    return ngx_http_hybrid_google_rename(&rename->name, google,
                                         backend->cloud, model);
}


static ngx_int_t
ngx_http_hybrid_google_rename(ngx_str_t *name,
    ngx_http_hybrid_google_t *google, ngx_uint_t cloud, ngx_str_t *model)
{
    u_char  *p, *last;

    *model = *name;
    last = name->data + name->len;

    p = ngx_strlchr(name->data, last, '/');

    if (p) {

        if ((size_t) (p - name->data) != google->publisher.len
            || ngx_memcmp(name->data, google->publisher.data,
                          google->publisher.len)
               != 0)
        {
            return NGX_DECLINED;
        }

        model->data = p + 1;
        model->len = last - model->data;

    } else if (cloud == NGX_HTTP_HYBRID_VERTEX) {
        return NGX_DECLINED;
    }

    for (p = model->data; p < last; p++) {
        if (*p == ':' || *p == '/' || *p == '+') {
            return NGX_DECLINED;
        }
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_hybrid_google_uri(ngx_http_request_t *r, ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_candidate_t *cand)
{
    u_char                     *p;
    size_t                      size;
    ngx_str_t                   model;
    ngx_http_hybrid_google_t   *google;
    ngx_http_hybrid_backend_t  *backend;

    google = ctx->google;
    backend = cand->backend;

    if (ngx_http_hybrid_google_target(google, backend, cand->rename, &model)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    size = backend->root.len + sizeof("/publishers/") + google->publisher.len
           + sizeof("/models/") + model.len + google->action.len;

    p = ngx_pnalloc(r->pool, size);
    if (p == NULL) {
        return NGX_ERROR;
    }

    r->uri.data = p;

    p = ngx_cpymem(p, backend->root.data, backend->root.len);

    if (backend->cloud == NGX_HTTP_HYBRID_VERTEX) {
        p = ngx_cpymem(p, "/publishers/", sizeof("/publishers/") - 1);
        p = ngx_cpymem(p, google->publisher.data, google->publisher.len);
    }

    p = ngx_cpymem(p, "/models/", sizeof("/models/") - 1);
    p = ngx_cpymem(p, model.data, model.len);
    p = ngx_cpymem(p, google->action.data, google->action.len);

    r->uri.len = p - r->uri.data;

    if (google->sse) {
        ngx_str_set(&r->args, "alt=sse");
    }

    return NGX_OK;
}


/* the name in the body follows that in the path */

ngx_int_t
ngx_http_hybrid_google_name(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_candidate_t *cand, ngx_str_t *name)
{
    if (ctx->body->values[ctx->key].type != NGX_HYBRID_JSON_T_STRING) {
        return NGX_DECLINED;
    }

    return ngx_http_hybrid_google_target(ctx->google, cand->backend,
                                         cand->rename, name);
}
