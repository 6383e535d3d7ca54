
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * hybrid_backend name { ... } and hybrid_route
 */


#include "ngx_http_hybrid_conf.h"
#include "ngx_http_hybrid_certificate.h"


static char *ngx_http_hybrid_backend_pass(ngx_conf_t *cf, void *block);
static char *ngx_http_hybrid_backend_base(ngx_conf_t *cf,
    ngx_http_hybrid_backend_t *backend, ngx_str_t *uri);
static char *ngx_http_hybrid_backend_host(ngx_conf_t *cf, void *block);
static char *ngx_http_hybrid_backend_api(ngx_conf_t *cf, void *block);
static char *ngx_http_hybrid_backend_egress(ngx_conf_t *cf, void *block);
static char *ngx_http_hybrid_backend_credential(ngx_conf_t *cf, void *block);
static char *ngx_http_hybrid_backend_certificate(ngx_conf_t *cf, void *block);
static char *ngx_http_hybrid_backend_models(ngx_conf_t *cf, void *block);
static char *ngx_http_hybrid_backend_rename(ngx_conf_t *cf, void *block);
static char *ngx_http_hybrid_backend_add_upstream(ngx_conf_t *cf,
    ngx_http_hybrid_main_conf_t *hmcf);
static char *ngx_http_hybrid_backend_duplicate(ngx_conf_t *cf);


static ngx_http_hybrid_statement_t  ngx_http_hybrid_backend_statements[] = {
    { ngx_string("pass"), 1, 1, ngx_http_hybrid_backend_pass },
    { ngx_string("host"), 1, 1, ngx_http_hybrid_backend_host },
    { ngx_string("api"), 1, 1, ngx_http_hybrid_backend_api },
    { ngx_string("egress"), 1, 1, ngx_http_hybrid_backend_egress },
    { ngx_string("credential"), 1, 3, ngx_http_hybrid_backend_credential },
    { ngx_string("client_certificate"), 2, 2,
      ngx_http_hybrid_backend_certificate },
    { ngx_string("probe"), 1, NGX_HTTP_HYBRID_MANY,
      ngx_http_hybrid_probe },
    { ngx_string("models"), 1, NGX_HTTP_HYBRID_MANY,
      ngx_http_hybrid_backend_models },
    { ngx_string("rename"), 2, 2, ngx_http_hybrid_backend_rename },
    { ngx_string("slots"), 1, 1, ngx_http_hybrid_slots },
    { ngx_string("cold_starts"), 1, 1, ngx_http_hybrid_cold_starts },
    { ngx_string("price"), 1, 2, ngx_http_hybrid_conf_price },
    { ngx_null_string, 0, 0, NULL }
};


char *
ngx_http_hybrid_backend(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_hybrid_main_conf_t  *hmcf = conf;

    char                        *rv;
    ngx_str_t                   *value;
    ngx_uint_t                   i;
    ngx_http_hybrid_rename_t    *rename;
    ngx_http_hybrid_backend_t   *backend, **backends;

    value = cf->args->elts;

    if (!ngx_http_hybrid_conf_name_ok(&value[1])
        || ngx_strcmp(value[1].data, "discovered") == 0)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid backend name \"%V\": up to %d letters, "
                           "digits and any of \"._@-\", not \"other\" or "
                           "\"discovered\"", &value[1],
                           NGX_HTTP_HYBRID_NAME_MAX);
        return NGX_CONF_ERROR;
    }

    backends = hmcf->backends.elts;

    for (i = 0; i < hmcf->backends.nelts; i++) {
        if (backends[i]->name.len == value[1].len
            && ngx_memcmp(backends[i]->name.data, value[1].data, value[1].len)
               == 0)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "duplicate hybrid_backend \"%V\"", &value[1]);
            return NGX_CONF_ERROR;
        }
    }

    backend = ngx_pcalloc(cf->pool, sizeof(ngx_http_hybrid_backend_t));
    if (backend == NULL) {
        return NGX_CONF_ERROR;
    }

    backends = ngx_array_push(&hmcf->backends);
    if (backends == NULL) {
        return NGX_CONF_ERROR;
    }

    *backends = backend;

    backend->name = value[1];
    backend->egress = NGX_HTTP_HYBRID_EGRESS_LOCAL;
    backend->any_model = 1;
    ngx_http_hybrid_probe_defaults(backend);
    ngx_http_hybrid_conf_place(cf, &backend->place);

    if (ngx_array_init(&backend->models, cf->pool, 4,
                       sizeof(ngx_hybrid_pattern_t))
        != NGX_OK
        || ngx_array_init(&backend->renames, cf->pool, 2,
                          sizeof(ngx_http_hybrid_rename_t))
           != NGX_OK
        || ngx_array_init(&backend->credentials, cf->pool, 2,
                          sizeof(ngx_table_elt_t))
           != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    hmcf->defined = 1;

    if (ngx_http_hybrid_backend_add_upstream(cf, hmcf) != NGX_CONF_OK) {
        return NGX_CONF_ERROR;
    }

    rv = ngx_http_hybrid_conf_block(cf, ngx_http_hybrid_backend_statements,
                                    backend);
    if (rv != NGX_CONF_OK) {
        return rv;
    }

    if (backend->upstream == NULL) {
        return ngx_http_hybrid_conf_error_at(cf, &backend->place,
                       "backend \"%V\" needs \"pass\"", &backend->name);
    }

    if (backend->certificate && !backend->ssl) {
        return ngx_http_hybrid_conf_error_at(cf, &backend->place,
                       "backend \"%V\" has a \"client_certificate\", so its "
                       "\"pass\" must be \"https://\"", &backend->name);
    }

    if (backend->priced && backend->egress == NGX_HTTP_HYBRID_EGRESS_LOCAL) {
        return ngx_http_hybrid_conf_error_at(cf, &backend->place,
                       "backend \"%V\" has a \"price\", which is for what a "
                       "cloud takes: it needs \"egress cloud\"",
                       &backend->name);
    }

    if (ngx_http_hybrid_probe_complete(cf, backend) != NGX_CONF_OK) {
        return NGX_CONF_ERROR;
    }

    ngx_http_hybrid_google_backend(backend);

    rename = backend->renames.elts;

    for (i = 0; i < backend->renames.nelts; i++) {

        if (rename[i].model.cloud
            && backend->egress == NGX_HTTP_HYBRID_EGRESS_LOCAL)
        {
            return ngx_http_hybrid_conf_error_at(cf, &backend->place,
                       "backend \"%V\" renames to \"%V\", which leaves the "
                       "premises: it needs \"egress cloud\"",
                       &backend->name, &rename[i].name);
        }
    }

    return NGX_CONF_OK;
}


/* what "proxy_pass https://hybrid;" means, once there is a backend */

static char *
ngx_http_hybrid_backend_add_upstream(ngx_conf_t *cf,
    ngx_http_hybrid_main_conf_t *hmcf)
{
    ngx_url_t  u;

    if (hmcf->upstream) {
        return NGX_CONF_OK;
    }

    ngx_memzero(&u, sizeof(ngx_url_t));

    ngx_str_set(&u.host, "hybrid");
    u.no_resolve = 1;
    u.no_port = 1;

    hmcf->upstream = ngx_http_upstream_add(cf, &u, NGX_HTTP_UPSTREAM_CREATE);
    if (hmcf->upstream == NULL) {
        return NGX_CONF_ERROR;
    }

    hmcf->upstream->peer.init_upstream = ngx_http_hybrid_balancer_init;

    return NGX_CONF_OK;
}


static char *
ngx_http_hybrid_backend_pass(ngx_conf_t *cf, void *block)
{
    ngx_http_hybrid_backend_t  *backend = block;

    size_t                        add;
    ngx_str_t                    *value, *url;
    ngx_url_t                     u;
    ngx_http_hybrid_main_conf_t  *hmcf;

    hmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_hybrid_module);

    if (backend->upstream) {
        return ngx_http_hybrid_backend_duplicate(cf);
    }

    value = cf->args->elts;
    url = &value[1];

    ngx_memzero(&u, sizeof(ngx_url_t));

    if (ngx_strncasecmp(url->data, (u_char *) "http://", 7) == 0) {
        add = 7;
        u.default_port = 80;

    } else if (ngx_strncasecmp(url->data, (u_char *) "https://", 8) == 0) {
        add = 8;
        u.default_port = 443;
        backend->ssl = 1;

    } else {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid URL \"%V\", it must begin with "
                           "\"http://\" or \"https://\"", url);
        return NGX_CONF_ERROR;
    }

    u.url.len = url->len - add;
    u.url.data = url->data + add;
    u.uri_part = 1;
    u.no_resolve = 1;

    backend->upstream = ngx_http_upstream_add(cf, &u, 0);
    if (backend->upstream == NULL) {
        return NGX_CONF_ERROR;
    }

    if (backend->upstream == hmcf->upstream) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "upstream \"hybrid\" is the gateway itself: give "
                           "\"pass\" the address of a backend");
        return NGX_CONF_ERROR;
    }

    backend->url = *url;

    if (backend->ssl) {
        ngx_str_set(&backend->schema, "https://");

    } else {
        ngx_str_set(&backend->schema, "http://");
    }

    if (!backend->host_set && u.naddrs == 0) {

        /* overridden below when it names an upstream{} block */

        backend->host = u.host;

        if (!u.no_port && u.port != u.default_port) {
            backend->host.len = u.host.len + sizeof(":") - 1
                                + u.port_text.len;
        }
    }

    return ngx_http_hybrid_backend_base(cf, backend, &u.uri);
}


static char *
ngx_http_hybrid_backend_base(ngx_conf_t *cf,
    ngx_http_hybrid_backend_t *backend, ngx_str_t *uri)
{
    u_char      ch;
    ngx_uint_t  i;

    for (i = 0; i < uri->len; i++) {
        ch = uri->data[i];

        if (ch <= ' ' || ch >= 0x7f || ch == '?' || ch == '#' || ch == '%') {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "the path of \"%V\" must be plain: no query, "
                               "no escapes", &backend->url);
            return NGX_CONF_ERROR;
        }
    }

    ngx_str_set(&backend->base, "");

    if (uri->len) {
        backend->base = *uri;
    }

    while (backend->base.len
           && backend->base.data[backend->base.len - 1] == '/')
    {
        backend->base.len--;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_hybrid_backend_host(ngx_conf_t *cf, void *block)
{
    ngx_http_hybrid_backend_t  *backend = block;

    u_char       ch;
    ngx_str_t   *value;
    ngx_uint_t   i;

    if (backend->host_set) {
        return ngx_http_hybrid_backend_duplicate(cf);
    }

    value = cf->args->elts;

    for (i = 0; i < value[1].len; i++) {
        ch = value[1].data[i];

        if (ch <= ' ' || ch >= 0x7f || ch == '/' || ch == '@') {
            break;
        }
    }

    if (i == 0 || i < value[1].len) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid host \"%V\"",
                           &value[1]);
        return NGX_CONF_ERROR;
    }

    backend->host = value[1];
    backend->host_set = 1;

    return NGX_CONF_OK;
}


static char *
ngx_http_hybrid_backend_api(ngx_conf_t *cf, void *block)
{
    ngx_http_hybrid_backend_t  *backend = block;

    ngx_str_t  *value;

    if (backend->api_set) {
        return ngx_http_hybrid_backend_duplicate(cf);
    }

    value = cf->args->elts;
    backend->api_set = 1;

    if (ngx_strcmp(value[1].data, "ollama") == 0) {
        backend->api = ngx_http_hybrid_api_ollama;

    } else if (ngx_strcmp(value[1].data, "openai") == 0) {
        backend->api = ngx_http_hybrid_api_openai;

    } else {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid api \"%V\", it must be \"ollama\" or "
                           "\"openai\"", &value[1]);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_hybrid_backend_egress(ngx_conf_t *cf, void *block)
{
    ngx_http_hybrid_backend_t  *backend = block;

    ngx_str_t  *value;

    if (backend->egress_set) {
        return ngx_http_hybrid_backend_duplicate(cf);
    }

    value = cf->args->elts;
    backend->egress_set = 1;

    if (ngx_strcmp(value[1].data, "local") == 0) {
        backend->egress = NGX_HTTP_HYBRID_EGRESS_LOCAL;

    } else if (ngx_strcmp(value[1].data, "cloud") == 0) {
        backend->egress = NGX_HTTP_HYBRID_EGRESS_CLOUD;

    } else {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid egress \"%V\", it must be \"local\" or "
                           "\"cloud\"", &value[1]);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_hybrid_backend_credential(ngx_conf_t *cf, void *block)
{
    ngx_http_hybrid_backend_t  *backend = block;

    if (backend->credential_set) {
        return ngx_http_hybrid_backend_duplicate(cf);
    }

    backend->credential_set = 1;

    return ngx_http_hybrid_credential(cf, backend);
}


static char *
ngx_http_hybrid_backend_certificate(ngx_conf_t *cf, void *block)
{
    ngx_http_hybrid_backend_t  *backend = block;

    if (backend->certificate) {
        return ngx_http_hybrid_backend_duplicate(cf);
    }

    return ngx_http_hybrid_certificate(cf, backend);
}


static char *
ngx_http_hybrid_backend_models(ngx_conf_t *cf, void *block)
{
    ngx_http_hybrid_backend_t  *backend = block;

    ngx_str_t  *value;

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "discover") == 0
        && cf->args->nelts == 2
        && !backend->models_set)
    {
        backend->models_set = 1;
        backend->discover = 1;
        return NGX_CONF_OK;
    }

    if (backend->discover) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"models\" is either \"discover\" or patterns");
        return NGX_CONF_ERROR;
    }

    backend->models_set = 1;
    backend->any_model = 0;

    return ngx_http_hybrid_conf_patterns(cf, &backend->models);
}


static char *
ngx_http_hybrid_backend_rename(ngx_conf_t *cf, void *block)
{
    ngx_http_hybrid_backend_t  *backend = block;

    u_char                    *buf;
    ngx_str_t                 *value;
    ngx_hybrid_model_t         model;
    ngx_http_hybrid_rename_t  *rename;

    value = cf->args->elts;

    buf = ngx_pnalloc(cf->pool, value[2].len + sizeof(":latest"));
    if (buf == NULL) {
        return NGX_CONF_ERROR;
    }

    if (ngx_hybrid_model_parse(&model, &value[2], buf) != NGX_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" can't be the name of a model", &value[2]);
        return NGX_CONF_ERROR;
    }

    rename = ngx_array_push(&backend->renames);
    if (rename == NULL) {
        return NGX_CONF_ERROR;
    }

    rename->name = value[2];
    rename->model = model;

    return ngx_http_hybrid_conf_pattern(cf, &value[1], &rename->pattern);
}


static char *
ngx_http_hybrid_backend_duplicate(ngx_conf_t *cf)
{
    ngx_str_t  *value;

    value = cf->args->elts;

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "\"%V\" directive is duplicate",
                       &value[0]);

    return NGX_CONF_ERROR;
}


char *
ngx_http_hybrid_route(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_hybrid_main_conf_t  *hmcf = conf;

    ngx_str_t                 *value, *word;
    ngx_uint_t                 i;
    ngx_http_hybrid_route_t   *route, **routes;

    value = cf->args->elts;

    for (i = 2; i < cf->args->nelts; i++) {
        if (ngx_http_hybrid_size_is(&value[i])) {
            return ngx_http_hybrid_size(cf, hmcf);
        }
    }

    route = ngx_pcalloc(cf->pool, sizeof(ngx_http_hybrid_route_t));
    if (route == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_http_hybrid_conf_place(cf, &route->place);

    if (ngx_array_init(&route->words, cf->pool, 4, sizeof(ngx_str_t))
        != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    for (i = 2; i < cf->args->nelts; i++) {
        word = ngx_array_push(&route->words);
        if (word == NULL) {
            return NGX_CONF_ERROR;
        }

        *word = value[i];
    }

    if (ngx_http_hybrid_conf_pattern(cf, &value[1], &route->pattern)
        != NGX_CONF_OK)
    {
        return NGX_CONF_ERROR;
    }

    routes = ngx_array_push(&hmcf->routes);
    if (routes == NULL) {
        return NGX_CONF_ERROR;
    }

    *routes = route;

    hmcf->defined = 1;

    return NGX_CONF_OK;
}
