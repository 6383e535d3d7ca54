
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * What exists, by method and exact raw path (Ollama, server/routes.go).
 * Everything else is refused: nginx decides on the decoded path, but a
 * backend decodes what it gets again.
 */


#include "ngx_http_hybrid_explain.h"


static ngx_uint_t ngx_http_hybrid_endpoint_model_path(ngx_str_t *rest);


#define NGX_HTTP_HYBRID_READ_METHODS  (NGX_HTTP_GET|NGX_HTTP_HEAD)

#define ngx_http_hybrid_ollama(methods, path, verb, model)                    \
    { methods, ngx_string(path), NGX_HTTP_HYBRID_VERB_##verb,                 \
      ngx_http_hybrid_model_##model, ngx_http_hybrid_dialect_ollama }

#define ngx_http_hybrid_openai(methods, path, verb, model)                    \
    { methods, ngx_string(path), NGX_HTTP_HYBRID_VERB_##verb,                 \
      ngx_http_hybrid_model_##model, ngx_http_hybrid_dialect_openai }


static const ngx_http_hybrid_endpoint_t  ngx_http_hybrid_endpoints[] = {

    ngx_http_hybrid_ollama(NGX_HTTP_POST, "/api/chat", INFERENCE, body),
    ngx_http_hybrid_ollama(NGX_HTTP_POST, "/api/generate", INFERENCE, body),
    ngx_http_hybrid_ollama(NGX_HTTP_POST, "/api/embed", INFERENCE, body),
    ngx_http_hybrid_ollama(NGX_HTTP_POST, "/api/embeddings", INFERENCE, body),

    ngx_http_hybrid_openai(NGX_HTTP_POST, "/v1/chat/completions", INFERENCE,
                           body),
    ngx_http_hybrid_openai(NGX_HTTP_POST, "/v1/completions", INFERENCE, body),
    ngx_http_hybrid_openai(NGX_HTTP_POST, "/v1/embeddings", INFERENCE, body),
    ngx_http_hybrid_openai(NGX_HTTP_POST, "/v1/responses", INFERENCE, body),

    ngx_http_hybrid_openai(NGX_HTTP_POST, "/v1/audio/transcriptions",
                           INFERENCE, form),
    ngx_http_hybrid_openai(NGX_HTTP_POST, "/v1/audio/translations",
                           INFERENCE, form),

    { NGX_HTTP_POST, ngx_string("/v1/messages"),
      NGX_HTTP_HYBRID_VERB_INFERENCE, ngx_http_hybrid_model_body,
      ngx_http_hybrid_dialect_anthropic },

    { NGX_HTTP_POST, ngx_string("/v1/messages/count_tokens"),
      NGX_HTTP_HYBRID_VERB_INFERENCE, ngx_http_hybrid_model_body,
      ngx_http_hybrid_dialect_anthropic },

    ngx_http_hybrid_ollama(NGX_HTTP_HYBRID_READ_METHODS, "/", READ, none),
    ngx_http_hybrid_ollama(NGX_HTTP_HYBRID_READ_METHODS, "/api/version", READ,
                           version),
    ngx_http_hybrid_ollama(NGX_HTTP_HYBRID_READ_METHODS, "/api/tags", READ,
                           list),
    ngx_http_hybrid_ollama(NGX_HTTP_HYBRID_READ_METHODS, "/api/ps", READ,
                           list),
    ngx_http_hybrid_openai(NGX_HTTP_HYBRID_READ_METHODS, "/v1/models", READ,
                           list),
    ngx_http_hybrid_openai(NGX_HTTP_GET, "/v1/models/", READ, path),
    ngx_http_hybrid_ollama(NGX_HTTP_POST, "/api/show", READ, body_name),

    ngx_http_hybrid_ollama(NGX_HTTP_POST, "/api/pull", ADMIN, body_name),
    ngx_http_hybrid_ollama(NGX_HTTP_POST, "/api/push", ADMIN, body_name),
    ngx_http_hybrid_ollama(NGX_HTTP_POST, "/api/create", ADMIN, body_name),
    ngx_http_hybrid_ollama(NGX_HTTP_DELETE, "/api/delete", ADMIN, body_name),
    ngx_http_hybrid_ollama(NGX_HTTP_POST, "/api/copy", ADMIN, copy),

    { 0, ngx_null_string, 0, ngx_http_hybrid_model_none,
      ngx_http_hybrid_dialect_ollama }
};


/* the gateway's own status page: it reads, and asks no backend */

static const ngx_http_hybrid_endpoint_t  ngx_http_hybrid_status_endpoint =
    ngx_http_hybrid_ollama(NGX_HTTP_HYBRID_READ_METHODS, "", READ, none);


/* what hybrid-ctl talks to: the bodies are small, and read by it */

static const ngx_http_hybrid_endpoint_t  ngx_http_hybrid_admin_endpoint =
    ngx_http_hybrid_ollama(NGX_HTTP_HYBRID_READ_METHODS|NGX_HTTP_POST, "",
                           ADMIN, own);


/*
 * path is set to the raw path without the query.  NULL with methods: the path
 * exists, but with these only.
 */

const ngx_http_hybrid_endpoint_t *
ngx_http_hybrid_endpoint_find(ngx_http_request_t *r, ngx_str_t *path,
    ngx_uint_t *methods)
{
    u_char  *args;

    *path = r->unparsed_uri;

    args = ngx_strlchr(path->data, path->data + path->len, '?');
    if (args) {
        path->len = args - path->data;
    }

    return ngx_http_hybrid_endpoint_lookup(r->method, path, methods);
}


const ngx_http_hybrid_endpoint_t *
ngx_http_hybrid_endpoint_lookup(ngx_uint_t method, ngx_str_t *path,
    ngx_uint_t *methods)
{
    ngx_str_t                          rest;
    const ngx_http_hybrid_endpoint_t  *ep;

    *methods = 0;

    ep = ngx_http_hybrid_google_find(path);

    if (ep) {

        if (method & ep->methods) {
            return ep;
        }

        *methods = ep->methods;
    }

    for (ep = ngx_http_hybrid_endpoints; ep->path.len; ep++) {

        if (ep->model == ngx_http_hybrid_model_path) {

            if (path->len <= ep->path.len
                || ngx_memcmp(path->data, ep->path.data, ep->path.len) != 0)
            {
                continue;
            }

            rest.data = path->data + ep->path.len;
            rest.len = path->len - ep->path.len;

            if (!ngx_http_hybrid_endpoint_model_path(&rest)) {
                continue;
            }

        } else if (path->len != ep->path.len
                   || ngx_memcmp(path->data, ep->path.data, path->len) != 0)
        {
            continue;
        }

        if (method & ep->methods) {
            return ep;
        }

        if (ep->verb != NGX_HTTP_HYBRID_VERB_ADMIN) {
            *methods |= ep->methods;
        }
    }

    return NULL;
}


const ngx_http_hybrid_endpoint_t *
ngx_http_hybrid_endpoint_status(void)
{
    return &ngx_http_hybrid_status_endpoint;
}


const ngx_http_hybrid_endpoint_t *
ngx_http_hybrid_endpoint_admin(void)
{
    return &ngx_http_hybrid_admin_endpoint;
}


/* the router behind takes one segment, so a name with "/" can't be meant */

static ngx_uint_t
ngx_http_hybrid_endpoint_model_path(ngx_str_t *rest)
{
    u_char               buf[NGX_HYBRID_MODEL_BUF];
    ngx_hybrid_model_t   model;

    return ngx_strlchr(rest->data, rest->data + rest->len, '/') == NULL
           && rest->data[0] != '.'
           && ngx_hybrid_model_parse(&model, rest, buf) == NGX_OK;
}


/* of a request that was refused before its endpoint was known */

ngx_http_hybrid_dialect_e
ngx_http_hybrid_endpoint_dialect(ngx_http_request_t *r)
{
    u_char                            *args;
    ngx_str_t                         *uri, path;
    const ngx_http_hybrid_endpoint_t  *ep;

    uri = &r->unparsed_uri;
    path = *uri;

    args = ngx_strlchr(path.data, path.data + path.len, '?');
    if (args) {
        path.len = args - path.data;
    }

    ep = ngx_http_hybrid_google_find(&path);

    if (ep && (r->method & ep->methods)) {
        return ep->dialect;
    }

    if ((uri->len >= 7 && ngx_strncmp(uri->data, "/v1beta", 7) == 0)
        || (uri->len >= 13 && ngx_strncmp(uri->data, "/v1/projects/", 13)
                              == 0))
    {
        return ngx_http_hybrid_dialect_google;
    }

    if (uri->len >= 12 && ngx_strncmp(uri->data, "/v1/messages", 12) == 0) {
        return ngx_http_hybrid_dialect_anthropic;
    }

    if (uri->len >= 4 && ngx_strncmp(uri->data, "/v1/", 4) == 0) {
        return ngx_http_hybrid_dialect_openai;
    }

    return ngx_http_hybrid_dialect_ollama;
}
