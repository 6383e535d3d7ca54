
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Where probes go to: as requests to the backend do.
 */


#include "ngx_http_hybrid_catalogue_list.h"
#include "ngx_http_hybrid_certificate.h"


static ngx_int_t ngx_http_hybrid_probe_target(ngx_conf_t *cf,
    ngx_http_hybrid_main_conf_t *hmcf, ngx_http_hybrid_backend_t *backend);
static ngx_int_t ngx_http_hybrid_probe_uri_set(ngx_conf_t *cf,
    ngx_str_t *base, const char *path, ngx_str_t *uri);
static ngx_hybrid_doc_t *ngx_http_hybrid_probe_doc(
    ngx_http_hybrid_main_conf_t *hmcf, const char *kind,
    ngx_http_hybrid_backend_t *backend);
static void ngx_http_hybrid_probe_name(ngx_hybrid_fetch_target_t *fetch);
#if (NGX_HTTP_SSL)
static ngx_int_t ngx_http_hybrid_probe_ssl(ngx_conf_t *cf,
    ngx_http_hybrid_main_conf_t *hmcf, ngx_http_hybrid_backend_t *backend);
static ngx_int_t ngx_http_hybrid_probe_certificate(void *data,
    ngx_connection_t *c);
#endif


/* at the end of http{}, when locations have been merged */

ngx_int_t
ngx_http_hybrid_probe_init(ngx_conf_t *cf, ngx_http_hybrid_main_conf_t *hmcf)
{
    ngx_uint_t                   i;
    ngx_http_hybrid_backend_t  **backends;

    backends = hmcf->backends.elts;

    for (i = 0; i < hmcf->backends.nelts; i++) {

        if (backends[i]->probe.on
            && backends[i]->peers
            && ngx_http_hybrid_probe_target(cf, hmcf, backends[i]) != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_hybrid_probe_target(ngx_conf_t *cf, ngx_http_hybrid_main_conf_t *hmcf,
    ngx_http_hybrid_backend_t *backend)
{
    ngx_str_t                   *base;
    ngx_http_hybrid_target_t    *target;
    ngx_hybrid_fetch_target_t   *fetch;

    target = ngx_pcalloc(cf->pool, sizeof(ngx_http_hybrid_target_t));
    if (target == NULL) {
        return NGX_ERROR;
    }

    backend->catalogue = ngx_pcalloc(cf->pool,
                                     sizeof(ngx_http_hybrid_catalogue_t));
    if (backend->catalogue == NULL) {
        return NGX_ERROR;
    }

    backend->catalogue->conf = hmcf;

    base = &backend->base;
    fetch = &target->fetch;

    fetch->url = backend->url;
    fetch->host = backend->host;
    ngx_http_hybrid_probe_name(fetch);
    ngx_str_set(&fetch->agent, "hybrid-probe/" NGX_HYBRID_VERSION);

    if (backend->api == ngx_http_hybrid_api_ollama) {

        if (ngx_http_hybrid_probe_uri_set(cf, base, "/api/tags", &target->uri)
            != NGX_OK
            || ngx_http_hybrid_probe_uri_set(cf, base, "/api/ps", &target->ps)
               != NGX_OK
            || ngx_http_hybrid_probe_uri_set(cf, base, "/api/version",
                                             &target->version)
               != NGX_OK)
        {
            return NGX_ERROR;
        }

    } else if (ngx_http_hybrid_probe_uri_set(cf, base,
                                             base->len ? "/models"
                                                       : "/v1/models",
                                             &target->uri)
               != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (backend->probe.uri.len) {
        target->uri = backend->probe.uri;
    }

    backend->target = target;

#if (NGX_HTTP_SSL)

    if (backend->ssl) {
        return ngx_http_hybrid_probe_ssl(cf, hmcf, backend);
    }

#endif

    return NGX_OK;
}


static ngx_int_t
ngx_http_hybrid_probe_uri_set(ngx_conf_t *cf, ngx_str_t *base,
    const char *path, ngx_str_t *uri)
{
    uri->len = base->len + ngx_strlen(path);

    uri->data = ngx_pnalloc(cf->pool, uri->len);
    if (uri->data == NULL) {
        return NGX_ERROR;
    }

    (void) ngx_sprintf(uri->data, "%V%s", base, path);

    return NGX_OK;
}


/* of the Host, without port: what to ask for and to verify with TLS */

static void
ngx_http_hybrid_probe_name(ngx_hybrid_fetch_target_t *fetch)
{
    u_char     *p, *last;
    ngx_str_t  *name;

    name = &fetch->name;
    *name = fetch->host;

    last = name->data + name->len;

    if (name->len && name->data[0] == '[') {
        p = ngx_strlchr(name->data, last, ']');

        if (p) {
            name->data++;
            name->len = p - name->data;
        }

    } else {
        p = ngx_strlchr(name->data, last, ':');

        if (p) {
            name->len = p - name->data;
        }
    }

    fetch->literal = ngx_hybrid_fetch_is_address(name);
}


#if (NGX_HTTP_SSL)

static ngx_int_t
ngx_http_hybrid_probe_ssl(ngx_conf_t *cf, ngx_http_hybrid_main_conf_t *hmcf,
    ngx_http_hybrid_backend_t *backend)
{
    ngx_hybrid_fetch_target_t  *fetch;

    fetch = &backend->target->fetch;

    fetch->tls = ngx_http_hybrid_probe_certificate;
    fetch->tls_data = backend;

    /* what the requests trust, by the first location that has them */

    if (hmcf->tls) {
        fetch->ssl = hmcf->tls->ssl;
        return NGX_OK;
    }

    /* no such location, or behind a variable: the system's certificates */

    return ngx_hybrid_fetch_ssl(cf, fetch, NULL) == NGX_CONF_OK ? NGX_OK
                                                                : NGX_ERROR;
}


static ngx_int_t
ngx_http_hybrid_probe_certificate(void *data, ngx_connection_t *c)
{
    ngx_http_hybrid_backend_t  *backend = data;

    if (backend->certificate == NULL) {
        return NGX_OK;
    }

    return ngx_http_hybrid_certificate_set(backend->certificate, c);
}

#endif


ngx_int_t
ngx_http_hybrid_probe_init_zone(ngx_http_hybrid_main_conf_t *hmcf,
    ngx_log_t *log)
{
    ngx_uint_t                    i;
    ngx_http_hybrid_backend_t   **backends, *backend;
    ngx_http_hybrid_catalogue_t  *catalogue;

    if (ngx_http_hybrid_peers_init_zone(hmcf, log) != NGX_OK) {
        return NGX_ERROR;
    }

    backends = hmcf->backends.elts;

    for (i = 0; i < hmcf->backends.nelts; i++) {
        backend = backends[i];
        catalogue = backend->catalogue;

        if (backend->target == NULL) {
            continue;
        }

        backend->turn = ngx_http_hybrid_probe_doc(hmcf, "probe", backend);

        catalogue->models.doc = ngx_http_hybrid_probe_doc(hmcf, "tags",
                                                          backend);
        catalogue->running.doc = ngx_http_hybrid_probe_doc(hmcf, "ps",
                                                           backend);
        catalogue->version.doc = ngx_http_hybrid_probe_doc(hmcf, "version",
                                                           backend);

        if (backend->turn == NULL
            || catalogue->models.doc == NULL
            || catalogue->running.doc == NULL
            || catalogue->version.doc == NULL)
        {
            ngx_log_error(NGX_LOG_EMERG, log, 0,
                          "hybrid_zone of %uzk is too small for %ui "
                          "backends: make it larger", hmcf->zone_size / 1024,
                          hmcf->backends.nelts);
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_hybrid_doc_t *
ngx_http_hybrid_probe_doc(ngx_http_hybrid_main_conf_t *hmcf, const char *kind,
    ngx_http_hybrid_backend_t *backend)
{
    u_char     buf[NGX_HYBRID_DOC_NAME];
    ngx_str_t  name;

    name.data = buf;
    name.len = ngx_snprintf(buf, sizeof(buf), "%s:%V", kind, &backend->name)
               - buf;

    return ngx_hybrid_doc(hmcf->shm, &name);
}
