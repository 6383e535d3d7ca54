
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * TLS to Redis, by hiredis's own: it drives the handshake with the first
 * write, on the same events.  The certificate is always verified, and so is
 * the name: "tls_name=", else the one that the address was written with, else
 * the address.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include "ngx_hybrid_compat.h"
#include "ngx_hybrid_redis_node.h"


#if (NGX_HYBRID_REDIS_TLS)

#include <hiredis/hiredis_ssl.h>
#include <openssl/ssl.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>


#define NGX_HYBRID_REDIS_TLS_NAME  256


static ngx_int_t ngx_hybrid_redis_tls_name(ngx_hybrid_redis_node_t *node,
    SSL *ssl);
static const char *ngx_hybrid_redis_tls_why(ngx_hybrid_redis_node_t *node,
    SSL *ssl);


ngx_int_t
ngx_hybrid_redis_tls_start(ngx_hybrid_redis_node_t *node)
{
    SSL  *ssl;

    ERR_clear_error();

    node->why = "no memory for TLS";

    ssl = SSL_new(node->conf->tls_ctx);
    if (ssl == NULL) {
        goto failed;
    }

    /* one is hiredis's, one is ours: to see why it has failed */

    if (ngx_hybrid_redis_tls_name(node, ssl) != NGX_OK
        || SSL_up_ref(ssl) != 1)
    {
        SSL_free(ssl);
        goto failed;
    }

    if (redisInitiateSSL(&node->ac->c, ssl) != REDIS_OK) {

        /* the other side may have answered, and not well */

        node->why = ngx_hybrid_redis_tls_why(node, ssl);

        if (node->why == NULL) {
            node->why = "the TLS handshake failed";
        }

        SSL_free(ssl);
        SSL_free(ssl);
        goto failed;
    }

    node->tls = ssl;
    node->why = "the connection ended";
    ERR_clear_error();

    return NGX_OK;

failed:

    ERR_clear_error();

    return NGX_ERROR;
}


static ngx_int_t
ngx_hybrid_redis_tls_name(ngx_hybrid_redis_node_t *node, SSL *ssl)
{
    char       buf[NGX_HYBRID_REDIS_TLS_NAME];
    u_char    *p;
    ngx_str_t  name;

    name = node->conf->tls_name;

    if (name.len == 0) {

        /* host:port, [address]:port */

        name = node->addr.text;

        if (name.len && name.data[0] == '[') {
            name.data++;
            name.len--;
            p = ngx_strlchr(name.data, name.data + name.len, ']');

        } else {
            p = ngx_strlchr(name.data, name.data + name.len, ':');
        }

        if (p) {
            name.len = p - name.data;
        }
    }

    node->why = "no name to verify";

    if (name.len == 0 || name.len >= sizeof(buf)) {
        return NGX_ERROR;
    }

    (void) ngx_cpystrn((u_char *) buf, name.data, name.len + 1);

    if (X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), buf) == 1) {
        return NGX_OK;
    }

    ERR_clear_error();

    SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);

    return SSL_set1_host(ssl, buf) == 1
           && SSL_set_tlsext_host_name(ssl, buf) == 1 ? NGX_OK : NGX_ERROR;
}


/* others' errors would be taken for ours, and ours for theirs */

void
ngx_hybrid_redis_tls_before(ngx_hybrid_redis_node_t *node)
{
    if (node->tls) {
        ERR_clear_error();
    }
}


ngx_uint_t
ngx_hybrid_redis_tls_after(ngx_hybrid_redis_node_t *node)
{
    if (node->conf->tls) {
        ERR_clear_error();
    }

    return node->tls && SSL_want_write((SSL *) node->tls);
}


const char *
ngx_hybrid_redis_tls_end(ngx_hybrid_redis_node_t *node)
{
    SSL         *ssl;
    const char  *why;

    ssl = node->tls;

    if (ssl == NULL) {
        return NULL;
    }

    why = ngx_hybrid_redis_tls_why(node, ssl);

    ERR_clear_error();

    node->tls = NULL;
    SSL_free(ssl);

    return why;
}


/* NULL: not for TLS's sake */

static const char *
ngx_hybrid_redis_tls_why(ngx_hybrid_redis_node_t *node, SSL *ssl)
{
    long            rc;
    u_char         *p;
    const char     *why;
    unsigned long   e;

    rc = SSL_get_verify_result(ssl);
    e = ERR_peek_error();
    why = NULL;

    if (rc != X509_V_OK) {
        why = X509_verify_cert_error_string(rc);

    } else if (e) {
        why = ERR_reason_error_string(e);
    }

    if (why == NULL) {
        return NULL;
    }

    p = ngx_slprintf((u_char *) node->error,
                     (u_char *) node->error + sizeof(node->error) - 1,
                     "TLS: %s", why);
    *p = '\0';

    return node->error;
}

#else

ngx_int_t
ngx_hybrid_redis_tls_start(ngx_hybrid_redis_node_t *node)
{
    node->why = "no TLS";

    return NGX_ERROR;
}


void
ngx_hybrid_redis_tls_before(ngx_hybrid_redis_node_t *node)
{
    /* void */
}


ngx_uint_t
ngx_hybrid_redis_tls_after(ngx_hybrid_redis_node_t *node)
{
    return 0;
}


const char *
ngx_hybrid_redis_tls_end(ngx_hybrid_redis_node_t *node)
{
    return NULL;
}

#endif
