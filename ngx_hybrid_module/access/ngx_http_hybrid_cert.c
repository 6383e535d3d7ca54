
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Client certificates.  nginx verifies the chain in the handshake; what
 * counts here is a certificate that it has verified, that is still valid, and
 * that fits the "cert" lines of one client.
 *
 * What a certificate says is compared as counted bytes: a name with a \0 in
 * it is not its own beginning.
 */


#include "ngx_http_hybrid_store_rule.h"
#include "ngx_http_hybrid_anomaly.h"

#if (NGX_HTTP_SSL)

struct ngx_http_hybrid_cert_peer_s {
    ngx_ssl_conn_t                *ssl;      /* whose certificate it is */
    time_t                         until;    /* wall clock */
    const char                    *fault;
    ngx_http_hybrid_client_t      *client;
    unsigned                       ambiguous:1;
    u_char                         sha256[64];   /* hexadecimal */
    ngx_http_hybrid_cert_facts_t   facts;
};


static ngx_uint_t ngx_http_hybrid_cert_verified(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, const char **why);
static ngx_http_hybrid_cert_peer_t *ngx_http_hybrid_cert_peer(
    ngx_http_request_t *r, ngx_http_hybrid_ctx_t *ctx, X509 *x509);
static void ngx_http_hybrid_cert_cleanup(void *data);
static ngx_int_t ngx_http_hybrid_cert_read(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, X509 *x509, ngx_http_hybrid_cert_peer_t *peer);
static ngx_int_t ngx_http_hybrid_cert_until(X509 *x509, time_t *until);
static ngx_int_t ngx_http_hybrid_cert_dn(X509 *x509, ngx_pool_t *pool,
    ngx_str_t *text);
static void ngx_http_hybrid_cert_match(ngx_array_t *lines,
    ngx_http_hybrid_cert_facts_t *facts, ngx_http_hybrid_cert_peer_t *peer);
static ngx_uint_t ngx_http_hybrid_cert_has_name(GENERAL_NAMES *names,
    ngx_http_hybrid_cert_condition_t *cond);
static const char *ngx_http_hybrid_cert_resumed(ngx_ssl_conn_t *ssl,
    X509 *x509);
static ngx_uint_t ngx_http_hybrid_cert_listed(X509_STORE_CTX *store_ctx,
    X509 *x509);


ngx_http_hybrid_cert_peer_t *
ngx_http_hybrid_cert_presented(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, const char **why)
{
    X509                         *x509;
    ngx_http_hybrid_cert_peer_t  *peer;

    if (r->connection->ssl == NULL) {
        return NULL;
    }

    x509 = SSL_get0_peer_certificate(r->connection->ssl->connection);

    if (x509 == NULL || !ngx_http_hybrid_cert_verified(r, ctx, why)) {
        return NULL;
    }

    peer = ngx_http_hybrid_cert_peer(r, ctx, x509);

    if (peer == NULL) {
        *why = "certificate can't be read";
        return NULL;
    }

    if (peer->fault) {
        *why = peer->fault;
        return NULL;
    }

    /* connections, and sessions even more, may outlive a certificate */

    if (peer->until <= ngx_time()) {

        if (peer->client && !peer->ambiguous) {
            ngx_http_hybrid_anomaly_refused(peer->client,
                                            ngx_hybrid_denial_cert);
        }

        *why = "certificate has expired";
        return NULL;
    }

    return peer;
}


/* asked with every request: nothing that was decided before is trusted */

static ngx_uint_t
ngx_http_hybrid_cert_verified(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, const char **why)
{
    long                        rc;
    ngx_ssl_conn_t             *ssl;
    ngx_http_ssl_srv_conf_t    *sscf;
    ngx_http_variable_value_t  *vv;

    ssl = r->connection->ssl->connection;

    rc = SSL_get_verify_result(ssl);

    if (rc != X509_V_OK) {
        *why = X509_verify_cert_error_string(rc);
        return 0;
    }

    /* includes what OCSP said */

    vv = ngx_http_get_indexed_variable(r, ctx->conf->cert_verify);

    if (vv == NULL || vv->not_found
        || vv->len != sizeof("SUCCESS") - 1
        || ngx_memcmp(vv->data, "SUCCESS", sizeof("SUCCESS") - 1) != 0)
    {
        *why = "certificate is not verified";
        return 0;
    }

    /*
     * Without SNI the default server shakes hands, then Host chooses another
     * one: its clients are not those that the default server's CA vouches
     * for.
     */

    sscf = ngx_http_get_module_srv_conf(r, ngx_http_ssl_module);

    if (sscf->ssl.ctx == NULL || sscf->ssl.ctx != SSL_get_SSL_CTX(ssl)) {
        *why = "certificate was verified for another server";
        return 0;
    }

    return 1;
}


ngx_int_t
ngx_http_hybrid_cert_identify(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_http_hybrid_cert_peer_t *peer)
{
    u_char                   *p;
    ngx_int_t                 rc;
    ngx_http_hybrid_found_t   found;

    p = ngx_pnalloc(r->pool, sizeof(peer->sha256));
    if (p == NULL) {
        return ngx_http_hybrid_refuse(ctx, NGX_HTTP_INTERNAL_SERVER_ERROR,
                                      "internal", "internal error");
    }

    ngx_memcpy(p, peer->sha256, sizeof(peer->sha256));

    ctx->auth = NGX_HTTP_HYBRID_ACCESS_MTLS;
    ctx->credential.data = p;
    ctx->credential.len = sizeof(peer->sha256);

    ngx_memzero(&found, sizeof(ngx_http_hybrid_found_t));

    if (peer->client) {
        ngx_http_hybrid_client_hold(peer->client);
        found.client = peer->client;

    } else if (ctx->conf->clients_redis) {
        rc = ngx_http_hybrid_store_cert(ctx, &peer->facts, &found);

        if (rc != NGX_OK) {
            return rc == NGX_AGAIN ? NGX_AGAIN
                                   : ngx_http_hybrid_store_refuse(ctx);
        }
    }

    if (peer->ambiguous || found.other) {
        ngx_log_error(NGX_LOG_WARN, r->connection->log, 0,
                      "certificate sha256=%V fits \"cert\" lines of several "
                      "clients, one is \"%V\"",
                      &ctx->credential, &found.client->name);

        ngx_http_hybrid_client_release(found.client);

        return ngx_http_hybrid_refuse(ctx, NGX_HTTP_FORBIDDEN,
                                      "client_ambiguous",
                                      "more than one client is meant");
    }

    if (found.client == NULL) {
        ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                      "certificate sha256=%V fits no \"cert\" line of a "
                      "client", &ctx->credential);

        return ngx_http_hybrid_refuse(ctx, NGX_HTTP_FORBIDDEN,
                                      "client_unknown",
                                      "this client is not known");
    }

    ctx->client = found.client;

    ngx_http_hybrid_anomaly_credential(ctx->client, ngx_hybrid_credential_cert,
                                       peer->until);

    return NGX_OK;
}


/*
 * A connection has one certificate and one configuration: nginx allows no
 * renegotiation, and a worker that has an old configuration ends its
 * connections.  So it is read once.
 */

static ngx_http_hybrid_cert_peer_t *
ngx_http_hybrid_cert_peer(ngx_http_request_t *r, ngx_http_hybrid_ctx_t *ctx,
    X509 *x509)
{
    ngx_connection_t             *c;
    ngx_pool_cleanup_t           *cln;
    ngx_http_hybrid_cert_peer_t  *peer;

    c = r->connection;

    for (cln = c->pool->cleanup; cln; cln = cln->next) {

        if (cln->handler == ngx_http_hybrid_cert_cleanup) {
            peer = cln->data;

            if (peer->ssl == c->ssl->connection) {
                return peer;
            }
        }
    }

    peer = ngx_pcalloc(c->pool, sizeof(ngx_http_hybrid_cert_peer_t));
    if (peer == NULL) {
        return NULL;
    }

    cln = ngx_pool_cleanup_add(c->pool, 0);
    if (cln == NULL) {
        return NULL;
    }

    cln->handler = ngx_http_hybrid_cert_cleanup;
    cln->data = peer;

    if (ngx_http_hybrid_cert_read(r, ctx, x509, peer) != NGX_OK) {
        ERR_clear_error();
        return NULL;
    }

    peer->fault = ngx_http_hybrid_cert_resumed(c->ssl->connection, x509);
    peer->ssl = c->ssl->connection;

    return peer;
}


/* it is also how a connection's own data is found */

static void
ngx_http_hybrid_cert_cleanup(void *data)
{
    ngx_http_hybrid_cert_peer_t  *peer = data;

    GENERAL_NAMES_free(peer->facts.names);
}


static ngx_int_t
ngx_http_hybrid_cert_read(ngx_http_request_t *r, ngx_http_hybrid_ctx_t *ctx,
    X509 *x509, ngx_http_hybrid_cert_peer_t *peer)
{
    unsigned int                   len;
    ngx_http_hybrid_cert_facts_t  *facts;

    facts = &peer->facts;

    if (X509_digest(x509, ctx->conf->sha256, facts->sha256, &len) != 1
        || len != 32
        || ngx_http_hybrid_cert_until(x509, &peer->until) != NGX_OK
        || ngx_http_hybrid_cert_dn(x509, r->connection->pool,
                                   &facts->subject)
           != NGX_OK)
    {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "client certificate can't be read");
        return NGX_ERROR;
    }

    (void) ngx_hex_dump(peer->sha256, facts->sha256, len);

    /* also NULL when there are two of it, or when it is malformed */

    facts->names = X509_get_ext_d2i(x509, NID_subject_alt_name, NULL, NULL);

    ERR_clear_error();

    ngx_http_hybrid_cert_match(&ctx->conf->identities.certs, facts, peer);

    if (peer->client || !ctx->conf->clients_redis) {
        GENERAL_NAMES_free(facts->names);
        facts->names = NULL;
    }

    /* else they are needed with every request: clients in Redis change */

    return NGX_OK;
}


static ngx_int_t
ngx_http_hybrid_cert_until(X509 *x509, time_t *until)
{
    int  days, seconds;

    if (ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(x509)) != 1) {
        return NGX_ERROR;
    }

    *until = ngx_time() + (time_t) days * 86400 + seconds;

    return NGX_OK;
}


static ngx_int_t
ngx_http_hybrid_cert_dn(X509 *x509, ngx_pool_t *pool, ngx_str_t *text)
{
    BIO  *bio;
    int   n;

    bio = BIO_new(BIO_s_mem());
    if (bio == NULL) {
        return NGX_ERROR;
    }

    if (X509_NAME_print_ex(bio, X509_get_subject_name(x509), 0,
                           XN_FLAG_RFC2253)
        < 0)
    {
        goto failed;
    }

    n = BIO_pending(bio);

    text->data = ngx_pnalloc(pool, n + 1);

    if (text->data == NULL || (n && BIO_read(bio, text->data, n) != n)) {
        goto failed;
    }

    text->len = n;

    BIO_free(bio);

    return NGX_OK;

failed:

    BIO_free(bio);

    return NGX_ERROR;
}


static void
ngx_http_hybrid_cert_match(ngx_array_t *lines,
    ngx_http_hybrid_cert_facts_t *facts, ngx_http_hybrid_cert_peer_t *peer)
{
    ngx_uint_t                i;
    ngx_http_hybrid_cert_t  **certs;

    certs = lines->elts;

    for (i = 0; i < lines->nelts; i++) {

        if (!ngx_http_hybrid_cert_fits(certs[i], facts)) {
            continue;
        }

        if (peer->client && peer->client != certs[i]->client) {
            peer->ambiguous = 1;
        }

        peer->client = certs[i]->client;
    }
}


ngx_uint_t
ngx_http_hybrid_cert_fits(ngx_http_hybrid_cert_t *cert,
    ngx_http_hybrid_cert_facts_t *facts)
{
    ngx_uint_t                         i, fits;
    ngx_http_hybrid_cert_condition_t  *cond;

    cond = cert->conditions.elts;

    for (i = 0; i < cert->conditions.nelts; i++) {

        switch (cond[i].type) {

        case ngx_http_hybrid_cert_sha256:
            fits = ngx_memcmp(cond[i].value.data, facts->sha256, 32) == 0;
            break;

        case ngx_http_hybrid_cert_subject:
            fits = cond[i].value.len == facts->subject.len
                   && ngx_memcmp(cond[i].value.data, facts->subject.data,
                                 facts->subject.len)
                      == 0;
            break;

        default:
            fits = ngx_http_hybrid_cert_has_name(facts->names, &cond[i]);
            break;
        }

        if (!fits) {
            return 0;
        }
    }

    return cert->conditions.nelts != 0;
}


static ngx_uint_t
ngx_http_hybrid_cert_has_name(GENERAL_NAMES *names,
    ngx_http_hybrid_cert_condition_t *cond)
{
    int            i, type;
    u_char        *value;
    size_t         len;
    GENERAL_NAME  *name;
    ASN1_STRING   *text;

    switch (cond->type) {

    case ngx_http_hybrid_cert_dns:
        type = GEN_DNS;
        break;

    case ngx_http_hybrid_cert_uri:
        type = GEN_URI;
        break;

    default: /* ngx_http_hybrid_cert_email */
        type = GEN_EMAIL;
        break;
    }

    value = cond->value.data;
    len = cond->value.len;

    for (i = 0; i < sk_GENERAL_NAME_num(names); i++) {
        name = sk_GENERAL_NAME_value(names, i);

        if (name->type != type) {
            continue;
        }

        text = name->d.ia5;

        if (ASN1_STRING_type(text) != V_ASN1_IA5STRING
            || (size_t) ASN1_STRING_length(text) != len)
        {
            continue;
        }

        /* there is no \0 in value, where a comparison might end early */

        if (type == GEN_DNS
            ? ngx_strncasecmp((u_char *) ASN1_STRING_get0_data(text), value,
                              len)
              == 0
            : ngx_memcmp(ASN1_STRING_get0_data(text), value, len) == 0)
        {
            return 1;
        }
    }

    return 0;
}


/*
 * In a session that is resumed nobody looks at the certificate again, and
 * sessions may outlive a reload (a cache in shared memory, a ticket key in a
 * file): a certificate that was revoked by it would be let in.  NULL, or why
 * the certificate is not good any more.
 */

static const char *
ngx_http_hybrid_cert_resumed(ngx_ssl_conn_t *ssl, X509 *x509)
{
    int              error;
    const char      *fault;
    X509_STORE_CTX  *store_ctx;

    if (!SSL_session_reused(ssl)) {
        return NULL;
    }

    fault = "certificate of a resumed session can't be verified";

    store_ctx = X509_STORE_CTX_new();
    if (store_ctx == NULL) {
        goto done;
    }

    if (X509_STORE_CTX_init(store_ctx,
                            SSL_CTX_get_cert_store(SSL_get_SSL_CTX(ssl)),
                            x509, SSL_get_peer_cert_chain(ssl))
        != 1
        || X509_STORE_CTX_set_default(store_ctx, "ssl_client") != 1
        || X509_VERIFY_PARAM_set1(X509_STORE_CTX_get0_param(store_ctx),
                                  SSL_get0_param(ssl))
           != 1)
    {
        goto done;
    }

    if (X509_verify_cert(store_ctx) == 1) {
        fault = NULL;
        goto done;
    }

    error = X509_STORE_CTX_get_error(store_ctx);

    switch (error) {

    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:

        /* intermediate CAs that the client had sent are not in a session */

        if (!ngx_http_hybrid_cert_listed(store_ctx, x509)) {
            fault = NULL;
        }

        break;

    case X509_V_OK:
        break;

    default:
        fault = X509_verify_cert_error_string(error);
        break;
    }

done:

    X509_STORE_CTX_free(store_ctx);

    ERR_clear_error();

    return fault;
}


/* revoked, or unknown to the revocation lists that there are */

static ngx_uint_t
ngx_http_hybrid_cert_listed(X509_STORE_CTX *store_ctx, X509 *x509)
{
    int                   i, n;
    X509_CRL             *crl;
    ngx_uint_t            listed;
    X509_REVOKED         *revoked;
    X509_VERIFY_PARAM    *param;
    STACK_OF(X509_CRL)   *crls;

    param = X509_STORE_CTX_get0_param(store_ctx);

    if (!(X509_VERIFY_PARAM_get_flags(param) & X509_V_FLAG_CRL_CHECK)) {
        return 0;
    }

    crls = X509_STORE_CTX_get1_crls(store_ctx, X509_get_issuer_name(x509));

    n = crls ? sk_X509_CRL_num(crls) : 0;
    listed = (n == 0);

    for (i = 0; i < n; i++) {
        crl = sk_X509_CRL_value(crls, i);

        if (X509_CRL_get0_by_cert(crl, &revoked, x509) == 1) {
            listed = 1;
        }
    }

    sk_X509_CRL_pop_free(crls, X509_CRL_free);

    return listed;
}


#else /* !NGX_HTTP_SSL */


ngx_http_hybrid_cert_peer_t *
ngx_http_hybrid_cert_presented(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, const char **why)
{
    return NULL;
}


ngx_int_t
ngx_http_hybrid_cert_identify(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_http_hybrid_cert_peer_t *peer)
{
    return ngx_http_hybrid_identity_refuse(r, ctx, "no TLS in this nginx");
}


#endif
