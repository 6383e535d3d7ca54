
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * TLS to a backend: what a location must have for it, and the certificate
 * that one backend, and no other, is shown.
 */


#include "ngx_http_hybrid_conf.h"
#include "ngx_http_hybrid_certificate.h"

#if (NGX_HTTP_SSL)

#include <openssl/pem.h>


/* bytes */
#define NGX_HTTP_HYBRID_CERTIFICATE_MAX  65536


struct ngx_http_hybrid_certificate_s {
    ngx_str_t                      cert_file;
    ngx_str_t                      key_file;

    /* what the files have, and what is in use: a pair that fits */
    STACK_OF(X509)                *read_chain;
    EVP_PKEY                      *read_key;
    STACK_OF(X509)                *chain;
    EVP_PKEY                      *key;

    unsigned                       changed:1;   /* since the start */
};


static ngx_http_hybrid_certificate_t *ngx_http_hybrid_certificate_create(
    ngx_conf_t *cf, ngx_str_t *cert, ngx_str_t *key);
static void ngx_http_hybrid_certificate_free(void *data);
static ngx_int_t ngx_http_hybrid_certificate_chain(void *data,
    ngx_str_t *text, ngx_uint_t level, ngx_log_t *log);
static ngx_int_t ngx_http_hybrid_certificate_key(void *data, ngx_str_t *text,
    ngx_uint_t level, ngx_log_t *log);
static int ngx_http_hybrid_certificate_password(char *buf, int size,
    int rwflag, void *data);
static ngx_int_t ngx_http_hybrid_certificate_use(
    ngx_http_hybrid_certificate_t *hc, ngx_uint_t level, ngx_log_t *log);


/* "client_certificate cert key" of a backend */

char *
ngx_http_hybrid_certificate(ngx_conf_t *cf, ngx_http_hybrid_backend_t *backend)
{
    ngx_str_t                      *value;
    ngx_http_hybrid_main_conf_t    *hmcf;
    ngx_http_hybrid_certificate_t  *hc;

    value = cf->args->elts;

    hmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_hybrid_module);

    hc = ngx_http_hybrid_certificate_create(cf, &value[1], &value[2]);
    if (hc == NULL) {
        return NGX_CONF_ERROR;
    }

    if (ngx_hybrid_watch_add(&hmcf->watches, cf, &hc->cert_file,
                             NGX_HTTP_HYBRID_CERTIFICATE_MAX,
                             ngx_http_hybrid_certificate_chain, hc)
        == NULL
        || ngx_hybrid_watch_add(&hmcf->watches, cf, &hc->key_file,
                                NGX_HTTP_HYBRID_CERTIFICATE_MAX,
                                ngx_http_hybrid_certificate_key, hc)
           == NULL)
    {
        return NGX_CONF_ERROR;
    }

    if (hc->key == NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "key \"%V\" is not that of certificate \"%V\"",
                           &hc->key_file, &hc->cert_file);
        return NGX_CONF_ERROR;
    }

    ngx_http_hybrid_conf_secret_warn(cf, &hc->key_file);

    backend->certificate = hc;

    return NGX_CONF_OK;
}


static ngx_http_hybrid_certificate_t *
ngx_http_hybrid_certificate_create(ngx_conf_t *cf, ngx_str_t *cert,
    ngx_str_t *key)
{
    ngx_pool_cleanup_t             *cln;
    ngx_http_hybrid_certificate_t  *hc;

    cln = ngx_pool_cleanup_add(cf->pool, 0);
    if (cln == NULL) {
        return NULL;
    }

    hc = ngx_pcalloc(cf->pool, sizeof(ngx_http_hybrid_certificate_t));
    if (hc == NULL) {
        return NULL;
    }

    cln->handler = ngx_http_hybrid_certificate_free;
    cln->data = hc;

    hc->cert_file = *cert;
    hc->key_file = *key;

    if (ngx_conf_full_name(cf->cycle, &hc->cert_file, 1) != NGX_OK
        || ngx_conf_full_name(cf->cycle, &hc->key_file, 1) != NGX_OK)
    {
        return NULL;
    }

    return hc;
}


static void
ngx_http_hybrid_certificate_free(void *data)
{
    ngx_http_hybrid_certificate_t  *hc = data;

    sk_X509_pop_free(hc->read_chain, X509_free);
    sk_X509_pop_free(hc->chain, X509_free);
    EVP_PKEY_free(hc->read_key);
    EVP_PKEY_free(hc->key);
}


static ngx_int_t
ngx_http_hybrid_certificate_chain(void *data, ngx_str_t *text,
    ngx_uint_t level, ngx_log_t *log)
{
    ngx_http_hybrid_certificate_t  *hc = data;

    BIO             *bio;
    X509            *x509;
    unsigned long    n;
    STACK_OF(X509)  *chain;

    bio = BIO_new_mem_buf(text->data, text->len);
    chain = sk_X509_new_null();

    if (bio == NULL || chain == NULL) {
        goto failed;
    }

    for ( ;; ) {
        x509 = PEM_read_bio_X509(bio, NULL, NULL, NULL);

        if (x509 == NULL) {
            n = ERR_peek_last_error();

            if (sk_X509_num(chain)
                && ERR_GET_LIB(n) == ERR_LIB_PEM
                && ERR_GET_REASON(n) == PEM_R_NO_START_LINE)
            {
                break;
            }

            goto failed;
        }

        if (sk_X509_push(chain, x509) == 0) {
            X509_free(x509);
            goto failed;
        }
    }

    ERR_clear_error();
    BIO_free(bio);

    sk_X509_pop_free(hc->read_chain, X509_free);
    hc->read_chain = chain;

    return ngx_http_hybrid_certificate_use(hc, level, log);

failed:

    ERR_clear_error();
    BIO_free(bio);
    sk_X509_pop_free(chain, X509_free);

    ngx_log_error(level, log, 0,
                  "\"%V\" has no certificate, or a broken one, in PEM%s",
                  &hc->cert_file, hc->key ? ", the old one stays" : "");

    return NGX_ERROR;
}


static ngx_int_t
ngx_http_hybrid_certificate_key(void *data, ngx_str_t *text,
    ngx_uint_t level, ngx_log_t *log)
{
    ngx_http_hybrid_certificate_t  *hc = data;

    BIO       *bio;
    EVP_PKEY  *key;

    key = NULL;

    bio = BIO_new_mem_buf(text->data, text->len);

    if (bio) {
        key = PEM_read_bio_PrivateKey(bio, NULL,
                                      ngx_http_hybrid_certificate_password,
                                      NULL);
    }

    ERR_clear_error();
    BIO_free(bio);

    if (key == NULL) {
        ngx_log_error(level, log, 0,
                      "\"%V\" has no key in PEM, or one with a password%s",
                      &hc->key_file, hc->key ? ", the old one stays" : "");
        return NGX_ERROR;
    }

    EVP_PKEY_free(hc->read_key);
    hc->read_key = key;

    return ngx_http_hybrid_certificate_use(hc, level, log);
}


/* there is nobody to ask: OpenSSL would, at the terminal */

static int
ngx_http_hybrid_certificate_password(char *buf, int size, int rwflag,
    void *data)
{
    return -1;
}


/* the files do not change at once: only a pair that fits is taken */

static ngx_int_t
ngx_http_hybrid_certificate_use(ngx_http_hybrid_certificate_t *hc,
    ngx_uint_t level, ngx_log_t *log)
{
    STACK_OF(X509)  *chain;

    if (hc->read_key == NULL || hc->read_chain == NULL) {
        return NGX_OK;
    }

    if (X509_check_private_key(sk_X509_value(hc->read_chain, 0), hc->read_key)
        != 1)
    {
        ERR_clear_error();

        if (hc->key) {
            ngx_log_error(NGX_LOG_NOTICE, log, 0,
                          "key \"%V\" is not that of certificate \"%V\": the "
                          "old pair stays until both have changed",
                          &hc->key_file, &hc->cert_file);
        }

        return NGX_OK;
    }

    chain = X509_chain_up_ref(hc->read_chain);

    if (chain == NULL) {
        return NGX_ERROR;
    }

    EVP_PKEY_up_ref(hc->read_key);

    if (hc->key
        && (sk_X509_num(chain) != sk_X509_num(hc->chain)
            || X509_cmp(sk_X509_value(chain, 0), sk_X509_value(hc->chain, 0))
               != 0))
    {
        hc->changed = 1;

        ngx_log_error(NGX_LOG_NOTICE, log, 0,
                      "certificate \"%V\" has changed and is in use",
                      &hc->cert_file);
    }

    sk_X509_pop_free(hc->chain, X509_free);
    EVP_PKEY_free(hc->key);

    hc->chain = chain;
    hc->key = hc->read_key;

    return NGX_OK;
}


/* between the making of a connection and its handshake */

ngx_int_t
ngx_http_hybrid_certificate_set(ngx_http_hybrid_certificate_t *hc,
    ngx_connection_t *c)
{
    int              i;
    ngx_ssl_conn_t  *ssl;

    ssl = c->ssl->connection;

    /* one that the location has, by proxy_ssl_certificate */

    SSL_certs_clear(ssl);

    if (SSL_use_certificate(ssl, sk_X509_value(hc->chain, 0)) != 1
        || SSL_use_PrivateKey(ssl, hc->key) != 1)
    {
        goto failed;
    }

    for (i = 1; i < sk_X509_num(hc->chain); i++) {
        if (SSL_add1_chain_cert(ssl, sk_X509_value(hc->chain, i)) != 1) {
            goto failed;
        }
    }

    return NGX_OK;

failed:

    ERR_clear_error();

    ngx_log_error(NGX_LOG_ERR, c->log, 0,
                  "certificate \"%V\" can't be used", &hc->cert_file);

    return NGX_ERROR;
}


/* sessions that were made with the old certificate would go on with it */

ngx_uint_t
ngx_http_hybrid_certificate_changed(ngx_http_hybrid_certificate_t *hc)
{
    return hc->changed;
}


ngx_int_t
ngx_http_hybrid_certificate_left(ngx_http_hybrid_certificate_t *hc,
    time_t *left)
{
    int    days, seconds;
    X509  *x509;

    x509 = sk_X509_value(hc->chain, 0);

    if (x509 == NULL
        || ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(x509))
           != 1)
    {
        ERR_clear_error();
        return NGX_ERROR;
    }

    *left = (time_t) days * 86400 + seconds;

    return NGX_OK;
}


/* backends that share connections and sessions must be shown the same */

ngx_uint_t
ngx_http_hybrid_certificate_same(ngx_http_hybrid_certificate_t *one,
    ngx_http_hybrid_certificate_t *two)
{
    if (one == NULL || two == NULL) {
        return one == two;
    }

    return ngx_strcmp(one->cert_file.data, two->cert_file.data) == 0
           && ngx_strcmp(one->key_file.data, two->key_file.data) == 0;
}


#else /* !NGX_HTTP_SSL */


char *
ngx_http_hybrid_certificate(ngx_conf_t *cf, ngx_http_hybrid_backend_t *backend)
{
    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "this nginx has no TLS");
    return NGX_CONF_ERROR;
}


ngx_int_t
ngx_http_hybrid_certificate_set(ngx_http_hybrid_certificate_t *hc,
    ngx_connection_t *c)
{
    return NGX_ERROR;
}


ngx_uint_t
ngx_http_hybrid_certificate_changed(ngx_http_hybrid_certificate_t *hc)
{
    return 0;
}


ngx_int_t
ngx_http_hybrid_certificate_left(ngx_http_hybrid_certificate_t *hc,
    time_t *left)
{
    return NGX_ERROR;
}


ngx_uint_t
ngx_http_hybrid_certificate_same(ngx_http_hybrid_certificate_t *one,
    ngx_http_hybrid_certificate_t *two)
{
    return one == two;
}


#endif


/* a prompt and a credential go to who proves to be the backend */

const char *
ngx_http_hybrid_certificate_fault(ngx_http_hybrid_backend_t *backend,
    ngx_http_upstream_conf_t *conf)
{
#if (NGX_HTTP_SSL)

    if (!backend->ssl) {
        return NULL;
    }

    if (conf->ssl == NULL || conf->ssl->ctx == NULL) {
        return "a backend is \"https://\", so it must be "
               "\"proxy_pass https://hybrid\"";
    }

    if (!conf->ssl_verify) {
        return "a backend is \"https://\", so it must be "
               "\"proxy_ssl_verify on\" with "
               "\"proxy_ssl_trusted_certificate\"";
    }

    /* that is when nginx asks us before a handshake */

    if (backend->certificate && !conf->ssl_session_reuse) {
        return "a backend has a \"client_certificate\", so it must be "
               "\"proxy_ssl_session_reuse on\"";
    }

    return NULL;

#else
    return backend->ssl ? "this nginx has no TLS" : NULL;
#endif
}
