
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Service tokens: an id, and a secret of which only the SHA-256 is known.
 */


#include "ngx_http_hybrid_store_rule.h"
#include "ngx_http_hybrid_anomaly.h"
#include <openssl/crypto.h>


/* longer ones are not ours, and not worth hashing */
#define NGX_HTTP_HYBRID_SECRET_LEN  256


static ngx_int_t ngx_http_hybrid_token_remote(ngx_http_hybrid_ctx_t *ctx,
    ngx_str_t *id, uint32_t hash, ngx_http_hybrid_token_t **token);


/*
 * An unknown id costs the same work as a known one, and the comparison takes
 * the same time wherever the digests differ: nothing tells which ids exist
 * or how close a secret was.
 */

ngx_int_t
ngx_http_hybrid_token_verify(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_str_t *id, ngx_str_t *secret)
{
    u_char                        digest[EVP_MAX_MD_SIZE];
    uint32_t                      hash;
    ngx_int_t                     rc;
    ngx_http_hybrid_token_t      *token, *match, *first, *ended;
    ngx_http_hybrid_main_conf_t  *hmcf;

    static ngx_http_hybrid_token_t  nobody;

    if (id->len == 0 || id->len > NGX_HTTP_HYBRID_NAME_MAX
        || secret->len == 0 || secret->len > NGX_HTTP_HYBRID_SECRET_LEN)
    {
        return ngx_http_hybrid_identity_refuse(r, ctx, "malformed credential");
    }

    hmcf = ctx->conf;

    hash = ngx_murmur_hash2(id->data, id->len);

    token = (ngx_http_hybrid_token_t *)
                ngx_str_rbtree_lookup(&hmcf->identities.tokens, id, hash);

    if (token == NULL && hmcf->clients_redis) {
        rc = ngx_http_hybrid_token_remote(ctx, id, hash, &token);
        if (rc != NGX_OK) {
            return rc;
        }
    }

    if (EVP_DigestInit_ex2(hmcf->digest, hmcf->sha256, NULL) != 1
        || EVP_DigestUpdate(hmcf->digest, secret->data, secret->len) != 1
        || EVP_DigestFinal_ex(hmcf->digest, digest, NULL) != 1)
    {
        ngx_log_error(NGX_LOG_CRIT, r->connection->log, 0, "SHA-256 failed");
        return ngx_http_hybrid_refuse(ctx, NGX_HTTP_INTERNAL_SERVER_ERROR,
                                      "internal", "internal error");
    }

    if (token == NULL) {
        token = &nobody;
    }

    match = NULL;
    ended = NULL;

    for (first = token; token; token = token->next) {

        if (CRYPTO_memcmp(token->digest, digest, sizeof(token->digest)) != 0
            || token->client == NULL)
        {
            continue;
        }

        if (token->ends && token->until <= ngx_time()) {
            ended = token;
            continue;
        }

        match = token;
    }

    if (match == NULL) {

        if (ended) {
            ngx_http_hybrid_anomaly_refused(ended->client,
                                            ngx_hybrid_denial_token);

        } else if (first->client) {
            ngx_http_hybrid_anomaly_refused(first->client,
                                            ngx_hybrid_denial_secret);
        }

        return ngx_http_hybrid_identity_refuse(r, ctx, "wrong id or secret");
    }

    ngx_http_hybrid_client_hold(match->client);

    ctx->client = match->client;
    ctx->auth = NGX_HTTP_HYBRID_ACCESS_TOKEN;
    ctx->credential = match->sn.str;

    if (match->ends) {
        ngx_http_hybrid_anomaly_credential(match->client,
                                           ngx_hybrid_credential_token,
                                           match->until);
    }

    return NGX_OK;
}


/* the files have no such id; token stays NULL when Redis has none either */

static ngx_int_t
ngx_http_hybrid_token_remote(ngx_http_hybrid_ctx_t *ctx, ngx_str_t *id,
    uint32_t hash, ngx_http_hybrid_token_t **token)
{
    ngx_http_hybrid_client_t  *client;

    switch (ngx_http_hybrid_store_token(ctx, id, &client)) {

    case NGX_OK:

        /* its hash may not be what the index was made from */

        *token = (ngx_http_hybrid_token_t *)
                     ngx_str_rbtree_lookup(&client->identities->tokens, id,
                                           hash);
        return NGX_OK;

    case NGX_DECLINED:
        return NGX_OK;

    case NGX_AGAIN:
        return NGX_AGAIN;

    default: /* NGX_BUSY */
        return ngx_http_hybrid_store_refuse(ctx);
    }
}
