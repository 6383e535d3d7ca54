
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * TLS of a fetch: nothing is said to a server before it has proved its name.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_hybrid_fetch.h"


#if (NGX_SSL)

static void ngx_hybrid_fetch_secured(ngx_connection_t *c);
static ngx_int_t ngx_hybrid_fetch_verify(ngx_hybrid_fetch_t *f);


void
ngx_hybrid_fetch_secure(ngx_hybrid_fetch_t *f)
{
    ngx_int_t                   rc;
    ngx_str_t                  *name;
    ngx_connection_t           *c;
    ngx_hybrid_fetch_target_t  *target;
    u_char                      buf[256];

    c = f->connection;
    target = f->args.target;
    f->state = ngx_hybrid_fetch_handshake;

    if (ngx_ssl_create_connection(target->ssl, c,
                                  NGX_SSL_BUFFER|NGX_SSL_CLIENT)
        != NGX_OK)
    {
        ngx_hybrid_fetch_end(f);
        return;
    }

    name = &target->name;

    if (!target->literal && name->len < sizeof(buf)) {

        ngx_cpystrn(buf, name->data, name->len + 1);

        if (SSL_set_tlsext_host_name(c->ssl->connection, (char *) buf) == 0) {
            ngx_ssl_error(NGX_LOG_ERR, &f->log, 0, "SNI can't be set");
            ngx_hybrid_fetch_end(f);
            return;
        }
    }

    if (target->tls && target->tls(target->tls_data, c) != NGX_OK) {

        if (f->error.len == 0) {
            ngx_log_error(NGX_LOG_ERR, &f->log, 0,
                          "TLS can't be prepared");
        }

        ngx_hybrid_fetch_end(f);
        return;
    }

    c->ssl->handler = ngx_hybrid_fetch_secured;

    rc = ngx_ssl_handshake(c);

    if (rc != NGX_AGAIN) {
        ngx_hybrid_fetch_secured(c);
    }
}


static void
ngx_hybrid_fetch_secured(ngx_connection_t *c)
{
    ngx_hybrid_fetch_t  *f = c->data;

    if (!c->ssl->handshaked) {

        if (f->error.len == 0) {
            ngx_log_error(NGX_LOG_ERR, &f->log, 0, "TLS handshake failed");
        }

        ngx_hybrid_fetch_next(f);
        return;
    }

    if (ngx_hybrid_fetch_verify(f) != NGX_OK) {
        ngx_hybrid_fetch_next(f);
        return;
    }

    c->read->handler = ngx_hybrid_fetch_idle;
    c->write->handler = ngx_hybrid_fetch_write;

    ngx_hybrid_fetch_write(c->write);
}


/* before anything is said to the other side */

static ngx_int_t
ngx_hybrid_fetch_verify(ngx_hybrid_fetch_t *f)
{
    int                         ok;
    long                        rc;
    X509                       *cert;
    u_char                      buf[NGX_SOCKADDR_STRLEN];
    ngx_str_t                  *name;
    ngx_connection_t           *c;
    ngx_hybrid_fetch_target_t  *target;

    c = f->connection;
    target = f->args.target;
    name = &target->name;

    cert = SSL_get_peer_certificate(c->ssl->connection);
    if (cert == NULL) {
        ngx_log_error(NGX_LOG_ERR, &f->log, 0, "there is no certificate");
        return NGX_ERROR;
    }

    rc = SSL_get_verify_result(c->ssl->connection);

    if (rc != X509_V_OK) {
        X509_free(cert);
        ngx_log_error(NGX_LOG_ERR, &f->log, 0,
                      "certificate is not valid: %s",
                      X509_verify_cert_error_string(rc));
        return NGX_ERROR;
    }

    if (target->literal && name->len < sizeof(buf)) {

        /* names only are what ngx_ssl_check_host() looks at */

        ngx_cpystrn(buf, name->data, name->len + 1);
        ok = (X509_check_ip_asc(cert, (char *) buf, 0) == 1);

    } else {
        ok = (ngx_ssl_check_host(c, name) == NGX_OK);
    }

    X509_free(cert);
    ERR_clear_error();

    if (!ok) {
        ngx_log_error(NGX_LOG_ERR, &f->log, 0,
                      "certificate is not valid: it is not for \"%V\"", name);
        return NGX_ERROR;
    }

    return NGX_OK;
}

#endif
