
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Service tokens: CF-Access-Client-Id with CF-Access-Client-Secret, as
 * Cloudflare Access takes them, or "Authorization: Bearer <id>:<secret>" for
 * clients that can only send a key.  The rules are those of Cloudflare's
 * strict mode: duplicates, half pairs and two kinds at once are refused,
 * because readers that take the first and readers that take the last would
 * see different callers.
 */


#include "ngx_http_hybrid_module.h"
#include <openssl/crypto.h>


typedef struct {
    ngx_table_elt_t           *id;
    ngx_table_elt_t           *secret;
    ngx_table_elt_t           *authorization;
    ngx_uint_t                 duplicate;
} ngx_http_hybrid_credentials_t;


static void ngx_http_hybrid_token_headers(ngx_http_request_t *r,
    ngx_http_hybrid_credentials_t *cr);
static void ngx_http_hybrid_token_header(ngx_table_elt_t *h,
    ngx_table_elt_t **place, ngx_uint_t *duplicate);
static ngx_int_t ngx_http_hybrid_token_bearer(ngx_str_t *value, ngx_str_t *id,
    ngx_str_t *secret);
static ngx_int_t ngx_http_hybrid_token_verify(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_str_t *id, ngx_str_t *secret);
static ngx_int_t ngx_http_hybrid_token_refuse(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, const char *why);


/* longer ones are not ours, and not worth hashing */
#define NGX_HTTP_HYBRID_SECRET_LEN  256


ngx_int_t
ngx_http_hybrid_token_identify(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx)
{
    ngx_str_t                      id, secret;
    ngx_http_hybrid_credentials_t  cr;

    ngx_memzero(&cr, sizeof(ngx_http_hybrid_credentials_t));

    ngx_http_hybrid_token_headers(r, &cr);

    if (cr.duplicate) {
        return ngx_http_hybrid_token_refuse(r, ctx, "duplicate credentials");
    }

    if (cr.authorization && (cr.id || cr.secret)) {
        return ngx_http_hybrid_token_refuse(r, ctx, "two kinds of credentials");
    }

    if (cr.authorization) {

        if (ngx_http_hybrid_token_bearer(&cr.authorization->value, &id,
                                         &secret)
            != NGX_OK)
        {
            return ngx_http_hybrid_token_refuse(r, ctx,
                              "Authorization is not \"Bearer <id>:<secret>\"");
        }

    } else if (cr.id && cr.secret) {
        id = cr.id->value;
        secret = cr.secret->value;

    } else if (cr.id || cr.secret) {
        return ngx_http_hybrid_token_refuse(r, ctx, "half a credential");

    } else {
        return ngx_http_hybrid_token_refuse(r, ctx, "no credential");
    }

    return ngx_http_hybrid_token_verify(r, ctx, &id, &secret);
}


static void
ngx_http_hybrid_token_headers(ngx_http_request_t *r,
    ngx_http_hybrid_credentials_t *cr)
{
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

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

        switch (h[i].key.len) {

        case sizeof("authorization") - 1:
            if (ngx_memcmp(h[i].lowcase_key, "authorization", 13) == 0) {
                ngx_http_hybrid_token_header(&h[i], &cr->authorization,
                                             &cr->duplicate);
            }

            break;

        case sizeof("cf-access-client-id") - 1:
            if (ngx_memcmp(h[i].lowcase_key, "cf-access-client-id", 19) == 0) {
                ngx_http_hybrid_token_header(&h[i], &cr->id, &cr->duplicate);
            }

            break;

        case sizeof("cf-access-client-secret") - 1:
            if (ngx_memcmp(h[i].lowcase_key, "cf-access-client-secret", 23)
                == 0)
            {
                ngx_http_hybrid_token_header(&h[i], &cr->secret,
                                             &cr->duplicate);
            }

            break;
        }
    }
}


static void
ngx_http_hybrid_token_header(ngx_table_elt_t *h, ngx_table_elt_t **place,
    ngx_uint_t *duplicate)
{
    if (*place) {
        *duplicate = 1;
        return;
    }

    *place = h;
}


static ngx_int_t
ngx_http_hybrid_token_bearer(ngx_str_t *value, ngx_str_t *id,
    ngx_str_t *secret)
{
    u_char  *p, *last, *colon;

    if (value->len <= sizeof("Bearer ") - 1
        || ngx_strncasecmp(value->data, (u_char *) "Bearer ", 7) != 0)
    {
        return NGX_ERROR;
    }

    p = value->data + 7;
    last = value->data + value->len;

    colon = ngx_strlchr(p, last, ':');
    if (colon == NULL) {
        return NGX_ERROR;
    }

    id->data = p;
    id->len = colon - p;

    secret->data = colon + 1;
    secret->len = last - secret->data;

    return NGX_OK;
}


/*
 * An unknown id costs the same work as a known one, and the comparison takes
 * the same time wherever the digests differ: nothing tells which ids exist
 * or how close a secret was.
 */

static ngx_int_t
ngx_http_hybrid_token_verify(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_str_t *id, ngx_str_t *secret)
{
    u_char                        digest[EVP_MAX_MD_SIZE];
    uint32_t                      hash;
    ngx_http_hybrid_token_t      *token, *match;
    ngx_http_hybrid_main_conf_t  *hmcf;

    static ngx_http_hybrid_token_t  nobody;

    if (id->len == 0 || id->len > NGX_HTTP_HYBRID_NAME_MAX
        || secret->len == 0 || secret->len > NGX_HTTP_HYBRID_SECRET_LEN)
    {
        return ngx_http_hybrid_token_refuse(r, ctx, "malformed credential");
    }

    hmcf = ctx->conf;

    if (EVP_DigestInit_ex2(hmcf->digest, hmcf->sha256, NULL) != 1
        || EVP_DigestUpdate(hmcf->digest, secret->data, secret->len) != 1
        || EVP_DigestFinal_ex(hmcf->digest, digest, NULL) != 1)
    {
        ngx_log_error(NGX_LOG_CRIT, r->connection->log, 0, "SHA-256 failed");
        return ngx_http_hybrid_refuse(ctx, NGX_HTTP_INTERNAL_SERVER_ERROR,
                                      "internal", "internal error");
    }

    hash = ngx_murmur_hash2(id->data, id->len);

    token = (ngx_http_hybrid_token_t *)
                ngx_str_rbtree_lookup(&hmcf->tokens, id, hash);

    if (token == NULL) {
        token = &nobody;
    }

    match = NULL;

    for ( /* void */ ; token; token = token->next) {

        if (CRYPTO_memcmp(token->digest, digest, sizeof(token->digest)) == 0
            && token->client
            && (!token->ends || token->until > ngx_time()))
        {
            match = token;
        }
    }

    if (match == NULL) {
        return ngx_http_hybrid_token_refuse(r, ctx, "wrong id or secret");
    }

    ctx->client = match->client;

    return NGX_OK;
}


/* the answer is the same for all reasons, only the log tells them apart */

static ngx_int_t
ngx_http_hybrid_token_refuse(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, const char *why)
{
    ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                  "client is not authenticated: %s", why);

    return ngx_http_hybrid_refuse(ctx, NGX_HTTP_UNAUTHORIZED,
                                  "unauthenticated",
                                  "authentication is required");
}
