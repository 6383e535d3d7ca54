
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Clients in Redis that a verified token or certificate may belong to.  What
 * it says is looked up piece by piece; whether a client's line holds as a
 * whole is seen when the client is there.
 */


#include "ngx_http_hybrid_store.h"
#include "ngx_http_hybrid_conf.h"
#include "ngx_http_hybrid_jwt.h"
#include "ngx_http_hybrid_store_rule.h"


typedef ngx_uint_t (*ngx_http_hybrid_store_fits_pt)(
    ngx_http_hybrid_client_t *client, void *data);


typedef struct {
    ngx_http_hybrid_issuer_t      *issuer;
    ngx_hybrid_claims_t           *claims;
} ngx_http_hybrid_store_jwt_t;


static ngx_int_t ngx_http_hybrid_store_rule(ngx_http_hybrid_store_t *store,
    ngx_http_hybrid_jwt_rule_t *rule, ngx_str_t *error);
static ngx_int_t ngx_http_hybrid_store_cert_line(ngx_http_hybrid_cert_t *cert,
    ngx_str_t *error);
static ngx_int_t ngx_http_hybrid_store_look(ngx_http_hybrid_ctx_t *ctx,
    ngx_str_t *identity, ngx_http_hybrid_found_t *found,
    ngx_http_hybrid_store_fits_pt fits, void *data);
static ngx_uint_t ngx_http_hybrid_store_jwt_fits(
    ngx_http_hybrid_client_t *client, void *data);
#if (NGX_HTTP_SSL)
static ngx_uint_t ngx_http_hybrid_store_san(GENERAL_NAME *name, u_char *buf,
    ngx_str_t *identity);
static ngx_uint_t ngx_http_hybrid_store_cert_fits(
    ngx_http_hybrid_client_t *client, void *data);
#endif


/* what jwt_init() does for the lines of the files */

ngx_int_t
ngx_http_hybrid_store_rules(ngx_http_hybrid_store_t *store,
    ngx_http_hybrid_identities_t *identities, ngx_str_t *error)
{
    ngx_uint_t                    i;
    ngx_http_hybrid_cert_t      **certs;
    ngx_http_hybrid_jwt_rule_t  **rules;

    rules = identities->jwts.elts;

    for (i = 0; i < identities->jwts.nelts; i++) {
        if (ngx_http_hybrid_store_rule(store, rules[i], error) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    certs = identities->certs.elts;

    for (i = 0; i < identities->certs.nelts; i++) {
        if (ngx_http_hybrid_store_cert_line(certs[i], error) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_hybrid_store_rule(ngx_http_hybrid_store_t *store,
    ngx_http_hybrid_jwt_rule_t *rule, ngx_str_t *error)
{
    u_char                       *p, *last;
    ngx_str_t                    *names;
    ngx_uint_t                    i, j;
    ngx_http_hybrid_issuer_t     *issuer, **issuers;
    ngx_http_hybrid_jwt_term_t   *term;

    p = error->data;
    last = p + NGX_HTTP_HYBRID_STORE_ERROR;

    issuer = NULL;
    issuers = store->conf->issuers.elts;

    for (i = 0; i < store->conf->issuers.nelts; i++) {
        if (issuers[i]->name.len == rule->issuer.len
            && ngx_memcmp(issuers[i]->name.data, rule->issuer.data,
                          rule->issuer.len)
               == 0)
        {
            issuer = issuers[i];
        }
    }

    if (issuer == NULL) {
        error->len = ngx_slprintf(p, last, "there is no hybrid_issuer \"%V\"",
                                  &rule->issuer) - p;
        return NGX_ERROR;
    }

    names = issuer->claims.elts;
    term = rule->terms.elts;

    for (i = 0; i < rule->terms.nelts; i++) {

        for (j = 0; j < issuer->claims.nelts; j++) {
            if (names[j].len == term[i].name.len
                && ngx_memcmp(names[j].data, term[i].name.data, names[j].len)
                   == 0)
            {
                break;
            }
        }

        if (j == issuer->claims.nelts) {
            error->len = ngx_slprintf(p, last, "claim \"%V\" of issuer \"%V\" "
                                      "is not read here", &term[i].name,
                                      &issuer->name) - p;
            return NGX_ERROR;
        }

        term[i].claim = j;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_hybrid_store_cert_line(ngx_http_hybrid_cert_t *cert,
    ngx_str_t *error)
{
    ngx_uint_t                         i;
    ngx_http_hybrid_cert_condition_t  *cond;

    cond = cert->conditions.elts;

    for (i = 0; i < cert->conditions.nelts; i++) {
        if (cond[i].type != ngx_http_hybrid_cert_subject) {
            return NGX_OK;
        }
    }

    error->len = ngx_slprintf(error->data,
                              error->data + NGX_HTTP_HYBRID_STORE_ERROR,
                              "\"cert\" needs \"sha256=\" or \"san=\" in "
                              "redis, \"subject=\" alone finds nobody")
                 - error->data;

    return NGX_ERROR;
}


ngx_int_t
ngx_http_hybrid_store_jwt(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_issuer_t *issuer, ngx_hybrid_claims_t *claims,
    ngx_http_hybrid_found_t *found)
{
    u_char                       buf[NGX_HTTP_HYBRID_STORE_IDENTITY];
    u_char                      *p, *last;
    ngx_int_t                    rc;
    ngx_str_t                   *names, value, identity;
    ngx_uint_t                   i, k;
    ngx_http_hybrid_store_jwt_t  jwt;

    jwt.issuer = issuer;
    jwt.claims = claims;

    names = issuer->claims.elts;
    last = buf + sizeof(buf);

    for (i = 0; i < issuer->claims.nelts; i++) {

        /* the token has at most 8 KiB, so a list is not long */

        for (k = 0; ngx_hybrid_claims_member(claims, i, k, &value); k++) {

            p = ngx_slprintf(buf, last, "jwt:%V:%V=", &issuer->name,
                             &names[i]);

            if (value.len == 0 || value.len > (size_t) (last - p)) {
                continue;
            }

            identity.data = buf;
            identity.len = ngx_cpymem(p, value.data, value.len) - buf;

            rc = ngx_http_hybrid_store_look(ctx, &identity, found,
                                            ngx_http_hybrid_store_jwt_fits,
                                            &jwt);
            if (rc != NGX_OK) {
                return rc == NGX_DONE ? NGX_OK : rc;
            }
        }
    }

    return NGX_OK;
}


/*
 * NGX_OK: look further; NGX_DONE: two clients fit, that is enough.  Who was
 * found is held, because the next look may evict its entry.
 */

static ngx_int_t
ngx_http_hybrid_store_look(ngx_http_hybrid_ctx_t *ctx, ngx_str_t *identity,
    ngx_http_hybrid_found_t *found, ngx_http_hybrid_store_fits_pt fits,
    void *data)
{
    ngx_int_t                  rc;
    ngx_http_hybrid_client_t  *client;

    rc = ngx_http_hybrid_store_find(ctx, identity, &client);

    if (rc == NGX_DECLINED) {
        return NGX_OK;
    }

    if (rc != NGX_OK) {
        if (found->client) {
            ngx_http_hybrid_client_release(found->client);
            found->client = NULL;
        }

        return rc;
    }

    if (!ngx_http_hybrid_store_fresh(ctx->conf->store, client)) {
        found->stale = 1;
    }

    if (!fits(client, data)) {
        return NGX_OK;
    }

    if (found->client == NULL) {
        ngx_http_hybrid_client_hold(client);
        found->client = client;
        return NGX_OK;
    }

    /* each identity has its own copy of a client */

    if (found->client->name.len == client->name.len
        && ngx_memcmp(found->client->name.data, client->name.data,
                      client->name.len)
           == 0)
    {
        return NGX_OK;
    }

    found->other = client;

    return NGX_DONE;
}


static ngx_uint_t
ngx_http_hybrid_store_jwt_fits(ngx_http_hybrid_client_t *client, void *data)
{
    ngx_http_hybrid_store_jwt_t  *jwt = data;

    ngx_str_t                    *issuer;
    ngx_uint_t                    i, j;
    ngx_http_hybrid_jwt_rule_t  **rules;
    ngx_http_hybrid_jwt_term_t   *term;

    issuer = &jwt->issuer->name;
    rules = client->identities->jwts.elts;

    for (i = 0; i < client->identities->jwts.nelts; i++) {

        if (rules[i]->issuer.len != issuer->len
            || ngx_memcmp(rules[i]->issuer.data, issuer->data, issuer->len)
               != 0)
        {
            continue;
        }

        term = rules[i]->terms.elts;

        for (j = 0; j < rules[i]->terms.nelts; j++) {
            if (!ngx_hybrid_claims_has(jwt->claims, term[j].claim,
                                       &term[j].value))
            {
                break;
            }
        }

        if (j == rules[i]->terms.nelts) {
            return 1;
        }
    }

    return 0;
}


#if (NGX_HTTP_SSL)

ngx_int_t
ngx_http_hybrid_store_cert(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_cert_facts_t *facts, ngx_http_hybrid_found_t *found)
{
    int                  i;
    u_char               buf[NGX_HTTP_HYBRID_STORE_IDENTITY], *p;
    ngx_int_t            rc;
    ngx_str_t            identity;

    p = ngx_cpymem(buf, "cert:sha256=", sizeof("cert:sha256=") - 1);

    identity.data = buf;
    identity.len = ngx_hex_dump(p, facts->sha256, 32) - buf;

    rc = ngx_http_hybrid_store_look(ctx, &identity, found,
                                    ngx_http_hybrid_store_cert_fits, facts);

    for (i = 0; rc == NGX_OK && i < sk_GENERAL_NAME_num(facts->names); i++) {

        if (!ngx_http_hybrid_store_san(sk_GENERAL_NAME_value(facts->names, i),
                                       buf, &identity))
        {
            continue;
        }

        rc = ngx_http_hybrid_store_look(ctx, &identity, found,
                                        ngx_http_hybrid_store_cert_fits,
                                        facts);
    }

    return rc == NGX_DONE ? NGX_OK : rc;
}


static ngx_uint_t
ngx_http_hybrid_store_san(GENERAL_NAME *name, u_char *buf,
    ngx_str_t *identity)
{
    u_char       *p, *last;
    size_t        len;
    const char   *kind;
    ASN1_STRING  *text;

    switch (name->type) {

    case GEN_DNS:
        kind = "dns";
        break;

    case GEN_URI:
        kind = "uri";
        break;

    case GEN_EMAIL:
        kind = "email";
        break;

    default:
        return 0;
    }

    text = name->d.ia5;
    len = ASN1_STRING_length(text);

    last = buf + NGX_HTTP_HYBRID_STORE_IDENTITY;
    p = ngx_slprintf(buf, last, "cert:san=%s:", kind);

    if (ASN1_STRING_type(text) != V_ASN1_IA5STRING
        || len == 0 || len > (size_t) (last - p))
    {
        return 0;
    }

    if (name->type == GEN_DNS) {
        ngx_strlow(p, (u_char *) ASN1_STRING_get0_data(text), len);

    } else {
        ngx_memcpy(p, ASN1_STRING_get0_data(text), len);
    }

    identity->len = p + len - buf;

    return 1;
}


static ngx_uint_t
ngx_http_hybrid_store_cert_fits(ngx_http_hybrid_client_t *client, void *data)
{
    ngx_http_hybrid_cert_facts_t  *facts = data;

    ngx_uint_t                i;
    ngx_http_hybrid_cert_t  **certs;

    certs = client->identities->certs.elts;

    for (i = 0; i < client->identities->certs.nelts; i++) {
        if (ngx_http_hybrid_cert_fits(certs[i], facts)) {
            return 1;
        }
    }

    return 0;
}

#endif


ngx_int_t
ngx_http_hybrid_store_refuse(ngx_http_hybrid_ctx_t *ctx)
{
    (void) ngx_http_hybrid_refuse(ctx, NGX_HTTP_SERVICE_UNAVAILABLE,
                                  "client_unavailable",
                                  "clients can't be checked at the moment");

    ctx->retry_after = 1;

    return NGX_HTTP_SERVICE_UNAVAILABLE;
}
