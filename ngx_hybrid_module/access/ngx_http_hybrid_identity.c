
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Who is it.  A location accepts some kinds of credentials:
 *
 *     token   CF-Access-Client-Id with CF-Access-Client-Secret, as
 *             Cloudflare Access takes them, or "<id>:<secret>" where clients
 *             put an API key
 *     jwt     in Authorization, or in the header of an issuer
 *     mtls    the certificate of the connection
 *
 * The rules are those of Cloudflare's strict mode: of what the location
 * accepts there must be exactly one.  Duplicates, half pairs and two kinds
 * at once are refused, because readers that take the first and readers that
 * take the last would see different callers.
 */


#include "ngx_http_hybrid_cert.h"
#include "ngx_http_hybrid_jwt.h"


typedef struct {
    ngx_table_elt_t               *id;
    ngx_table_elt_t               *secret;
    ngx_table_elt_t               *authorization;
    ngx_table_elt_t               *key;        /* an API key's own header */
    ngx_table_elt_t               *assertion;  /* an issuer's own header */
    ngx_http_hybrid_jwt_header_t  *header;     /* which one that is */
    ngx_uint_t                     assertions;
    ngx_uint_t                     duplicate;
} ngx_http_hybrid_credentials_t;


static void ngx_http_hybrid_identity_headers(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_uint_t access,
    ngx_http_hybrid_credentials_t *cr);
static ngx_uint_t ngx_http_hybrid_identity_assertion(
    ngx_http_hybrid_ctx_t *ctx, ngx_table_elt_t *h,
    ngx_http_hybrid_credentials_t *cr);
static void ngx_http_hybrid_identity_header(ngx_table_elt_t *h,
    ngx_table_elt_t **place, ngx_uint_t *duplicate);
static ngx_int_t ngx_http_hybrid_identity_bearer(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_uint_t access, ngx_str_t *value);
static ngx_int_t ngx_http_hybrid_identity_pair(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_str_t *value);


ngx_int_t
ngx_http_hybrid_identify(ngx_http_request_t *r, ngx_http_hybrid_ctx_t *ctx,
    ngx_uint_t access)
{
    const char                    *why;
    ngx_uint_t                     n;
    ngx_http_hybrid_cert_peer_t   *cert;
    ngx_http_hybrid_credentials_t  cr;

    ngx_memzero(&cr, sizeof(ngx_http_hybrid_credentials_t));

    ngx_http_hybrid_identity_headers(r, ctx, access, &cr);

    if (cr.duplicate) {
        return ngx_http_hybrid_identity_refuse(r, ctx,
                                               "duplicate credentials");
    }

    why = "no credential";
    cert = NULL;

    if (access & NGX_HTTP_HYBRID_ACCESS_MTLS) {
        cert = ngx_http_hybrid_cert_presented(r, ctx, &why);
    }

    n = (cr.id || cr.secret) + (cr.authorization != NULL) + (cr.key != NULL)
        + cr.assertions + (cert != NULL);

    if (n > 1) {
        return ngx_http_hybrid_identity_refuse(r, ctx,
                                               "two kinds of credentials");
    }

    if (cert) {
        return ngx_http_hybrid_cert_identify(r, ctx, cert);
    }

    if (cr.authorization) {
        return ngx_http_hybrid_identity_bearer(r, ctx, access,
                                               &cr.authorization->value);
    }

    if (cr.key) {
        return ngx_http_hybrid_identity_pair(r, ctx, &cr.key->value);
    }

    if (cr.assertion) {
        return ngx_http_hybrid_jwt_verify(r, ctx, cr.header,
                                          &cr.assertion->value);
    }

    if (cr.id && cr.secret) {
        return ngx_http_hybrid_token_verify(r, ctx, &cr.id->value,
                                            &cr.secret->value);
    }

    if (n) {
        return ngx_http_hybrid_identity_refuse(r, ctx, "half a credential");
    }

    return ngx_http_hybrid_identity_refuse(r, ctx, why);
}


/* only headers that the location accepts are credentials to it */

static void
ngx_http_hybrid_identity_headers(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_uint_t access,
    ngx_http_hybrid_credentials_t *cr)
{
    u_char           *name;
    ngx_uint_t        i, token, jwt, bearer;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    token = access & NGX_HTTP_HYBRID_ACCESS_TOKEN;
    jwt = access & NGX_HTTP_HYBRID_ACCESS_JWT;
    bearer = token || (jwt && ctx->conf->bearer);

    part = &r->headers_in.headers.part;
    h = part->elts;

    for (i = 0; /* void */ ; i++) {

        if (i >= part->nelts) {
            if (part->next == NULL) {
                return;
            }

            part = part->next;
            h = part->elts;
            i = 0;
        }

        if (jwt && ngx_http_hybrid_identity_assertion(ctx, &h[i], cr)) {
            continue;
        }

        name = h[i].lowcase_key;

        switch (h[i].key.len) {

        case sizeof("x-api-key") - 1:
            if (token && ngx_memcmp(name, "x-api-key", 9) == 0) {
                ngx_http_hybrid_identity_header(&h[i], &cr->key,
                                                &cr->duplicate);
            }

            break;

        case sizeof("authorization") - 1:
            if (bearer && ngx_memcmp(name, "authorization", 13) == 0) {
                ngx_http_hybrid_identity_header(&h[i], &cr->authorization,
                                                &cr->duplicate);
            }

            break;

        case sizeof("x-goog-api-key") - 1:
            if (token && ngx_memcmp(name, "x-goog-api-key", 14) == 0) {
                ngx_http_hybrid_identity_header(&h[i], &cr->key,
                                                &cr->duplicate);
            }

            break;

        case sizeof("cf-access-client-id") - 1:
            if (token && ngx_memcmp(name, "cf-access-client-id", 19) == 0) {
                ngx_http_hybrid_identity_header(&h[i], &cr->id,
                                                &cr->duplicate);
            }

            break;

        case sizeof("cf-access-client-secret") - 1:
            if (token && ngx_memcmp(name, "cf-access-client-secret", 23) == 0)
            {
                ngx_http_hybrid_identity_header(&h[i], &cr->secret,
                                                &cr->duplicate);
            }

            break;
        }
    }
}


static ngx_uint_t
ngx_http_hybrid_identity_assertion(ngx_http_hybrid_ctx_t *ctx,
    ngx_table_elt_t *h, ngx_http_hybrid_credentials_t *cr)
{
    ngx_uint_t                      i;
    ngx_http_hybrid_jwt_header_t  **headers;

    headers = ctx->conf->assertions.elts;

    for (i = 0; i < ctx->conf->assertions.nelts; i++) {

        if (headers[i]->name.len != h->key.len
            || ngx_memcmp(headers[i]->name.data, h->lowcase_key, h->key.len)
               != 0)
        {
            continue;
        }

        if (cr->header == headers[i]) {
            cr->duplicate = 1;
            return 1;
        }

        /* another one's is a kind of its own */

        cr->header = headers[i];
        cr->assertion = h;
        cr->assertions++;

        return 1;
    }

    return 0;
}


static void
ngx_http_hybrid_identity_header(ngx_table_elt_t *h, ngx_table_elt_t **place,
    ngx_uint_t *duplicate)
{
    if (*place) {
        *duplicate = 1;
        return;
    }

    *place = h;
}


static ngx_int_t
ngx_http_hybrid_identity_bearer(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_uint_t access, ngx_str_t *value)
{
    ngx_str_t  text;

    if (value->len <= sizeof("Bearer ") - 1
        || ngx_strncasecmp(value->data, (u_char *) "Bearer ", 7) != 0)
    {
        return ngx_http_hybrid_identity_refuse(r, ctx,
                                            "Authorization is not \"Bearer\"");
    }

    text.data = value->data + 7;
    text.len = value->len - 7;

    /* no JWT has a colon, and every service token has one */

    if ((access & NGX_HTTP_HYBRID_ACCESS_JWT) && ctx->conf->bearer
        && (!(access & NGX_HTTP_HYBRID_ACCESS_TOKEN)
            || ngx_strlchr(text.data, text.data + text.len, ':') == NULL))
    {
        return ngx_http_hybrid_jwt_verify(r, ctx, ctx->conf->bearer, &text);
    }

    return ngx_http_hybrid_identity_pair(r, ctx, &text);
}


static ngx_int_t
ngx_http_hybrid_identity_pair(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_str_t *value)
{
    u_char     *p, *last, *colon;
    ngx_str_t   id, secret;

    p = value->data;
    last = p + value->len;

    colon = ngx_strlchr(p, last, ':');

    if (colon == NULL) {
        return ngx_http_hybrid_identity_refuse(r, ctx,
                                       "the key is not \"<id>:<secret>\"");
    }

    id.data = p;
    id.len = colon - p;

    secret.data = colon + 1;
    secret.len = last - secret.data;

    return ngx_http_hybrid_token_verify(r, ctx, &id, &secret);
}


/* the answer is the same for all reasons, only the log tells them apart */

ngx_int_t
ngx_http_hybrid_identity_refuse(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, const char *why)
{
    ngx_http_hybrid_failure(r, ctx, why);

    return ngx_http_hybrid_refuse(ctx, NGX_HTTP_UNAUTHORIZED,
                                  "unauthenticated",
                                  "authentication is required");
}
