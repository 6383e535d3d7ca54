
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * hybrid_redis ... tls=on [tls_ca=file] [tls_name=name]
 *              [tls_certificate=file tls_key=file]
 */


#include "ngx_http_hybrid_conf.h"
#include "ngx_hybrid_compat.h"


#if (NGX_HYBRID_REDIS_TLS)
static char *ngx_http_hybrid_redis_tls_ctx(ngx_conf_t *cf,
    ngx_hybrid_redis_conf_t *rcf);
#endif


char *
ngx_http_hybrid_redis_tls_option(ngx_conf_t *cf, ngx_str_t *arg,
    ngx_hybrid_redis_conf_t *rcf, ngx_uint_t *known)
{
    ngx_str_t  value, *to;

    *known = 1;

    if (ngx_strcmp(arg->data, "tls") == 0
        || ngx_strcmp(arg->data, "tls=on") == 0)
    {
        rcf->tls = 1;
        return NGX_CONF_OK;
    }

    if (ngx_strcmp(arg->data, "tls=off") == 0) {
        rcf->tls = 0;
        return NGX_CONF_OK;
    }

    if (ngx_http_hybrid_conf_option(arg, "tls_ca", &value)) {
        to = &rcf->tls_ca;

    } else if (ngx_http_hybrid_conf_option(arg, "tls_name", &value)) {
        to = &rcf->tls_name;

    } else if (ngx_http_hybrid_conf_option(arg, "tls_certificate", &value)) {
        to = &rcf->tls_certificate;

    } else if (ngx_http_hybrid_conf_option(arg, "tls_key", &value)) {
        to = &rcf->tls_key;

    } else {
        *known = 0;
        return NGX_CONF_OK;
    }

    if (value.len == 0 || value.len > 255) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid parameter \"%V\"",
                           arg);
        return NGX_CONF_ERROR;
    }

    *to = value;

    return NGX_CONF_OK;
}


char *
ngx_http_hybrid_redis_tls(ngx_conf_t *cf, ngx_hybrid_redis_conf_t *rcf)
{
    ngx_uint_t                i;
    ngx_hybrid_redis_addr_t  *addr;

    if (!rcf->tls) {

        if (rcf->tls_ca.len || rcf->tls_name.len || rcf->tls_certificate.len
            || rcf->tls_key.len)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"tls_...\" parameters need \"tls=on\"");
            return NGX_CONF_ERROR;
        }

        return NGX_CONF_OK;
    }

    if ((rcf->tls_certificate.len == 0) != (rcf->tls_key.len == 0)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"tls_certificate=\" and \"tls_key=\" need "
                           "each other");
        return NGX_CONF_ERROR;
    }

    addr = rcf->addresses.elts;

    for (i = 0; i < rcf->addresses.nelts; i++) {
        if (addr[i].port == 0) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"tls=on\" needs host:port instead of "
                               "\"%V\"", &addr[i].text);
            return NGX_CONF_ERROR;
        }
    }

#if (NGX_HYBRID_REDIS_TLS)

    return ngx_http_hybrid_redis_tls_ctx(cf, rcf);

#else

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "\"tls=on\" is not available in this build: it needs "
                       "hiredis 1.0 with libhiredis_ssl; use stunnel, or a "
                       "unix socket");
    return NGX_CONF_ERROR;

#endif
}


#if (NGX_HYBRID_REDIS_TLS)

static char *
ngx_http_hybrid_redis_tls_ctx(ngx_conf_t *cf, ngx_hybrid_redis_conf_t *rcf)
{
    ngx_ssl_t           *ssl;
    ngx_pool_cleanup_t  *cln;

    ssl = ngx_pcalloc(cf->pool, sizeof(ngx_ssl_t));
    if (ssl == NULL) {
        return NGX_CONF_ERROR;
    }

    ssl->log = cf->log;

    cln = ngx_pool_cleanup_add(cf->pool, 0);
    if (cln == NULL) {
        return NGX_CONF_ERROR;
    }

    if (ngx_ssl_create(ssl, NGX_SSL_TLSv1_2|NGX_SSL_TLSv1_3, NULL) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    cln->handler = ngx_ssl_cleanup_ctx;
    cln->data = ssl;

    /* depth: more than real chains have */

    if (rcf->tls_ca.len) {
        if (ngx_ssl_trusted_certificate(cf, ssl, &rcf->tls_ca, 9) != NGX_OK) {
            return NGX_CONF_ERROR;
        }

    } else if (SSL_CTX_set_default_verify_paths(ssl->ctx) != 1) {
        ngx_ssl_error(NGX_LOG_EMERG, cf->log, 0,
                      "SSL_CTX_set_default_verify_paths() failed");
        return NGX_CONF_ERROR;
    }

    if (rcf->tls_certificate.len
        && ngx_ssl_certificate(cf, ssl, &rcf->tls_certificate, &rcf->tls_key,
                               NULL)
           != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    /* nginx's own callback lets everything pass, to be looked at later */

    SSL_CTX_set_verify(ssl->ctx, SSL_VERIFY_PEER, NULL);

    /* hiredis reads one record an event: no other may have been read ahead */

    SSL_CTX_set_read_ahead(ssl->ctx, 0);
    SSL_CTX_set_session_cache_mode(ssl->ctx, SSL_SESS_CACHE_OFF);

    ERR_clear_error();

    rcf->tls_ctx = ssl->ctx;

    return NGX_CONF_OK;
}

#endif
