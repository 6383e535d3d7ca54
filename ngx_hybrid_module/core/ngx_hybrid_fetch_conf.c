
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Where a fetch goes to, as it is proved by "nginx -t".
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_hybrid_fetch.h"


static char *ngx_hybrid_fetch_url(ngx_conf_t *cf,
    ngx_hybrid_fetch_target_t *target, ngx_str_t *url, ngx_uint_t ssl);


char *
ngx_hybrid_fetch_target(ngx_conf_t *cf, ngx_hybrid_fetch_target_t *target,
    ngx_str_t *url, ngx_str_t *trusted, ngx_resolver_t *resolver)
{
    ngx_memzero(target, sizeof(ngx_hybrid_fetch_target_t));

    target->url = *url;
    target->resolver = resolver;

    if (url->len > 7
        && ngx_strncasecmp(url->data, (u_char *) "http://", 7) == 0)
    {
        return ngx_hybrid_fetch_url(cf, target, url, 0);
    }

    if (url->len > 8
        && ngx_strncasecmp(url->data, (u_char *) "https://", 8) == 0)
    {
        if (ngx_hybrid_fetch_url(cf, target, url, 1) != NGX_CONF_OK) {
            return NGX_CONF_ERROR;
        }

        return ngx_hybrid_fetch_ssl(cf, target, trusted);
    }

    ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                  "invalid URL \"%V\", it must begin with \"http://\" or "
                  "\"https://\"", url);

    return NGX_CONF_ERROR;
}


static char *
ngx_hybrid_fetch_url(ngx_conf_t *cf, ngx_hybrid_fetch_target_t *target,
    ngx_str_t *url, ngx_uint_t ssl)
{
    u_char      ch;
    size_t      add;
    ngx_url_t   u;
    ngx_uint_t  i;

    add = ssl ? 8 : 7;

    ngx_memzero(&u, sizeof(ngx_url_t));

    u.url.data = url->data + add;
    u.url.len = url->len - add;
    u.default_port = ssl ? 443 : 80;
    u.uri_part = 1;
    u.no_resolve = (target->resolver != NULL);

    for (i = 0; i < u.url.len; i++) {
        ch = u.url.data[i];

        if (ch <= ' ' || ch >= 0x7f || ch == '#' || ch == '"' || ch == '\\') {
            u.err = "invalid character";
            goto failed;
        }
    }

    if (ngx_parse_url(cf->pool, &u) != NGX_OK) {
        goto failed;
    }

    if (u.family != AF_UNIX
        && (u.host.len == 0
            || ngx_strlchr(u.host.data, u.host.data + u.host.len, '@')))
    {
        u.err = "invalid host";
        goto failed;
    }

    ngx_str_set(&target->uri, "/");

    if (u.uri.len) {

        if (u.uri.data[0] != '/') {
            u.err = "no path";
            goto failed;
        }

        target->uri = u.uri;
    }

    target->addrs = u.naddrs ? u.addrs : NULL;
    target->naddrs = u.naddrs;

    if (u.family == AF_UNIX) {
        ngx_str_set(&target->host, "localhost");
        ngx_str_set(&target->name, "localhost");
        return NGX_CONF_OK;
    }

    target->port = u.port;
    target->name = u.host;
    target->host = u.host;

    if (!u.no_port && u.port != u.default_port) {

        /* "host:port" as it stands in the URL */

        target->host.len = u.port_text.data + u.port_text.len - u.host.data;
    }

    if (u.host.data[0] == '[' && u.host.len > 2) {
        target->name.data++;
        target->name.len -= 2;
    }

    target->literal = ngx_hybrid_fetch_is_address(&target->name);

    return NGX_CONF_OK;

failed:

    ngx_log_error(NGX_LOG_EMERG, cf->log, 0, "invalid URL \"%V\": %s", url,
                  u.err ? u.err : "it can't be used");

    return NGX_CONF_ERROR;
}


ngx_uint_t
ngx_hybrid_fetch_is_address(ngx_str_t *name)
{
#if (NGX_HAVE_INET6)
    u_char  buf[16];

    if (ngx_inet6_addr(name->data, name->len, buf) == NGX_OK) {
        return 1;
    }
#endif

    return ngx_inet_addr(name->data, name->len) != INADDR_NONE;
}


char *
ngx_hybrid_fetch_ssl(ngx_conf_t *cf, ngx_hybrid_fetch_target_t *target,
    ngx_str_t *trusted)
{
#if (NGX_SSL)

    ngx_ssl_t           *ssl;
    ngx_str_t            file;
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

#ifdef SSL_OP_IGNORE_UNEXPECTED_EOF

    /* an answer that ends with its connection must not be cut off */

    SSL_CTX_clear_options(ssl->ctx, SSL_OP_IGNORE_UNEXPECTED_EOF);

#endif

    if (trusted && trusted->len) {
        file = *trusted;

        /* depth: more than real chains have */

        if (ngx_ssl_trusted_certificate(cf, ssl, &file, 9) != NGX_OK) {
            return NGX_CONF_ERROR;
        }

    } else if (SSL_CTX_set_default_verify_paths(ssl->ctx) != 1) {
        ngx_ssl_error(NGX_LOG_EMERG, cf->log, 0,
                      "SSL_CTX_set_default_verify_paths() failed");
        return NGX_CONF_ERROR;
    }

    ERR_clear_error();

    target->ssl = ssl;

    return NGX_CONF_OK;

#else

    ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                  "\"%V\" can't be used: this nginx has no TLS",
                  &target->url);
    return NGX_CONF_ERROR;

#endif
}
