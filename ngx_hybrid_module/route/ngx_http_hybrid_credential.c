
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * How we prove to a backend who we are.  The headers are added when the
 * backend has been chosen, and to its requests only.
 */


#include "ngx_http_hybrid_conf.h"


static char *ngx_http_hybrid_credential_add(ngx_conf_t *cf,
    ngx_http_hybrid_backend_t *backend, ngx_str_t *name, ngx_str_t *file,
    const char *before);
static char *ngx_http_hybrid_credential_args(ngx_conf_t *cf, ngx_uint_t n);
static ngx_uint_t ngx_http_hybrid_credential_name_ok(ngx_str_t *name);
static ngx_uint_t ngx_http_hybrid_credential_name_taken(ngx_str_t *name);


/* the arguments of a "credential" line */

char *
ngx_http_hybrid_credential(ngx_conf_t *cf, ngx_http_hybrid_backend_t *backend)
{
    ngx_str_t        *value, name;
    ngx_table_elt_t  *h;

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "none") == 0) {
        return ngx_http_hybrid_credential_args(cf, 1);
    }

    if (ngx_strcmp(value[1].data, "bearer") == 0) {

        ngx_str_set(&name, "Authorization");

        if (ngx_http_hybrid_credential_args(cf, 2) != NGX_CONF_OK
            || ngx_http_hybrid_credential_add(cf, backend, &name, &value[2],
                                              "Bearer ")
               != NGX_CONF_OK)
        {
            return NGX_CONF_ERROR;
        }

        h = backend->credentials.elts;
        backend->authorization = &h[0].value;

        return NGX_CONF_OK;
    }

    if (ngx_strcmp(value[1].data, "header") == 0) {

        if (ngx_http_hybrid_credential_args(cf, 3) != NGX_CONF_OK) {
            return NGX_CONF_ERROR;
        }

        if (!ngx_http_hybrid_credential_name_ok(&value[2])) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid header name \"%V\"", &value[2]);
            return NGX_CONF_ERROR;
        }

        if (ngx_http_hybrid_credential_name_taken(&value[2])) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "header \"%V\" can't be a credential, the "
                               "gateway or the proxy sets it", &value[2]);
            return NGX_CONF_ERROR;
        }

        return ngx_http_hybrid_credential_add(cf, backend, &value[2],
                                              &value[3], "");
    }

    if (ngx_strcmp(value[1].data, "access") == 0) {

        if (ngx_http_hybrid_credential_args(cf, 3) != NGX_CONF_OK) {
            return NGX_CONF_ERROR;
        }

        ngx_str_set(&name, "CF-Access-Client-Id");

        if (ngx_http_hybrid_credential_add(cf, backend, &name, &value[2], "")
            != NGX_CONF_OK)
        {
            return NGX_CONF_ERROR;
        }

        ngx_str_set(&name, "CF-Access-Client-Secret");

        return ngx_http_hybrid_credential_add(cf, backend, &name, &value[3],
                                              "");
    }

    if (ngx_strcmp(value[1].data, "gce") == 0) {
        return ngx_http_hybrid_gce(cf, backend);
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid credential \"%V\", it must be \"none\", "
                       "\"bearer\", \"header\", \"access\" or \"gce\"",
                       &value[1]);

    return NGX_CONF_ERROR;
}


static char *
ngx_http_hybrid_credential_args(ngx_conf_t *cf, ngx_uint_t n)
{
    ngx_str_t  *value;

    if (cf->args->nelts == n + 1) {
        return NGX_CONF_OK;
    }

    value = cf->args->elts;

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid number of arguments in \"credential %V\"",
                       &value[1]);

    return NGX_CONF_ERROR;
}


static ngx_uint_t
ngx_http_hybrid_credential_name_ok(ngx_str_t *name)
{
    u_char      ch;
    ngx_uint_t  i;

    for (i = 0; i < name->len; i++) {
        ch = ngx_tolower(name->data[i]);

        if (!((ch >= 'a' && ch <= 'z') || (ch >= '0' && ch <= '9')
              || ch == '-'))
        {
            return 0;
        }
    }

    return name->len != 0;
}


static ngx_uint_t
ngx_http_hybrid_credential_name_taken(ngx_str_t *name)
{
    ngx_str_t  *taken;

    static ngx_str_t  names[] = {
        ngx_string("connection"),
        ngx_string("content-length"),
        ngx_string("content-type"),
        ngx_string("expect"),
        ngx_string("host"),
        ngx_string("keep-alive"),
        ngx_string("te"),
        ngx_string("transfer-encoding"),
        ngx_string("upgrade"),
        ngx_string("x-hybrid-client"),
        ngx_null_string
    };

    for (taken = names; taken->len; taken++) {
        if (taken->len == name->len
            && ngx_strncasecmp(taken->data, name->data, name->len) == 0)
        {
            return 1;
        }
    }

    return 0;
}


static char *
ngx_http_hybrid_credential_add(ngx_conf_t *cf,
    ngx_http_hybrid_backend_t *backend, ngx_str_t *name, ngx_str_t *file,
    const char *before)
{
    u_char           *p;
    ngx_table_elt_t  *h;

    /* there is room for all: what a changed file is written to stays there */

    h = ngx_array_push(&backend->credentials);
    p = ngx_pnalloc(cf->pool, name->len);

    if (h == NULL || p == NULL) {
        return NGX_CONF_ERROR;
    }

    h->key = *name;
    h->lowcase_key = p;
    ngx_strlow(p, name->data, name->len);
    h->hash = ngx_hash_key(p, name->len);
    ngx_hybrid_header_single(h);

    return ngx_http_hybrid_conf_secret_watch(cf, file, before, &h->value);
}
