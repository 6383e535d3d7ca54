
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * A JWT as a credential.  One that was verified is remembered by its digest,
 * so that the same token costs one hash from then on; what is remembered
 * ends with the token, with the key set that it was verified by, and, of a
 * client in Redis, with the next change there.
 */


#include "ngx_http_hybrid_jwt.h"
#include "ngx_http_hybrid_store_rule.h"
#include "ngx_hybrid_jws.h"


#define NGX_HTTP_HYBRID_JWT_ENTRIES  1024
#define NGX_HTTP_HYBRID_JWT_BUCKETS  1024
#define NGX_HTTP_HYBRID_JWT_DIGEST   32

/* seconds: how soon keys may be there, how often the log says they are not */
#define NGX_HTTP_HYBRID_JWT_RETRY    10
#define NGX_HTTP_HYBRID_JWT_QUIET    60


typedef struct ngx_http_hybrid_jwt_entry_s  ngx_http_hybrid_jwt_entry_t;

struct ngx_http_hybrid_jwt_entry_s {
    ngx_queue_t                    queue;
    ngx_http_hybrid_jwt_entry_t   *next;       /* of the bucket */
    u_char                         digest[NGX_HTTP_HYBRID_JWT_DIGEST];

    ngx_http_hybrid_jwt_header_t  *header;
    ngx_http_hybrid_issuer_t      *issuer;
    ngx_uint_t                     generation; /* of the issuer's keys */
    ngx_http_hybrid_client_t      *client;     /* held */
    time_t                         from;
    time_t                         until;

    ngx_str_t                      subject;
    ngx_str_t                      jti;
    u_char                         text[NGX_HYBRID_CLAIMS_SUBJECT
                                        + NGX_HYBRID_CLAIMS_JTI];
};


/* of a worker: what it remembers, and room for the token it looks at */

struct ngx_http_hybrid_jwt_s {
    ngx_http_hybrid_jwt_entry_t   *buckets[NGX_HTTP_HYBRID_JWT_BUCKETS];
    ngx_queue_t                    lru;        /* the latest first */
    ngx_http_hybrid_jwt_entry_t   *entries;
    ngx_uint_t                     used;

    ngx_hybrid_jws_t               jws;
    ngx_hybrid_claims_t            claims;
};


static ngx_http_hybrid_jwt_entry_t *ngx_http_hybrid_jwt_find(
    ngx_http_hybrid_jwt_t *jwt, u_char *digest);
static ngx_http_hybrid_jwt_entry_t **ngx_http_hybrid_jwt_bucket(
    ngx_http_hybrid_jwt_t *jwt, u_char *digest);
static ngx_uint_t ngx_http_hybrid_jwt_current(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_jwt_entry_t *entry);
static void ngx_http_hybrid_jwt_unlink(ngx_http_hybrid_jwt_t *jwt,
    ngx_http_hybrid_jwt_entry_t *entry);
static void ngx_http_hybrid_jwt_remember(ngx_http_hybrid_jwt_t *jwt,
    u_char *digest, ngx_http_hybrid_jwt_header_t *header,
    ngx_http_hybrid_issuer_t *issuer, ngx_http_hybrid_client_t *client);
static ngx_int_t ngx_http_hybrid_jwt_accept(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_http_hybrid_issuer_t *issuer,
    ngx_http_hybrid_client_t *client, ngx_str_t *subject, ngx_str_t *jti);
static ngx_int_t ngx_http_hybrid_jwt_first(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_str_t *token,
    ngx_http_hybrid_jwt_header_t *header, u_char *digest);
static ngx_int_t ngx_http_hybrid_jwt_claims(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_http_hybrid_issuer_t *issuer,
    ngx_http_hybrid_found_t *found);
static ngx_int_t ngx_http_hybrid_jwt_owner(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_http_hybrid_issuer_t *issuer,
    ngx_http_hybrid_found_t *found);
static ngx_http_hybrid_issuer_t *ngx_http_hybrid_jwt_issuer(
    ngx_http_hybrid_jwt_header_t *header, ngx_str_t *iss);
static const char *ngx_http_hybrid_jwt_signature(
    ngx_http_hybrid_issuer_t *issuer, ngx_hybrid_jws_t *jws);
static ngx_int_t ngx_http_hybrid_jwt_refuse(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_http_hybrid_issuer_t *issuer,
    const char *why);
static ngx_int_t ngx_http_hybrid_jwt_unavailable(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_http_hybrid_issuer_t *issuer);


ngx_int_t
ngx_http_hybrid_jwt_verify(ngx_http_request_t *r, ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_jwt_header_t *header, ngx_str_t *token)
{
    u_char                        digest[EVP_MAX_MD_SIZE];
    ngx_http_hybrid_jwt_entry_t  *entry;
    ngx_http_hybrid_main_conf_t  *hmcf;

    ctx->jwt = 1;

    if (token->len > NGX_HYBRID_JWS_MAX) {
        return ngx_http_hybrid_jwt_refuse(r, ctx, NULL,
                                          "it is longer than 8 KiB");
    }

    hmcf = ctx->conf;

    if (EVP_DigestInit_ex2(hmcf->digest, hmcf->sha256, NULL) != 1
        || EVP_DigestUpdate(hmcf->digest, token->data, token->len) != 1
        || EVP_DigestFinal_ex(hmcf->digest, digest, NULL) != 1)
    {
        ngx_log_error(NGX_LOG_CRIT, r->connection->log, 0, "SHA-256 failed");
        return ngx_http_hybrid_refuse(ctx, NGX_HTTP_INTERNAL_SERVER_ERROR,
                                      "internal", "internal error");
    }

    entry = ngx_http_hybrid_jwt_find(hmcf->jwt, digest);

    /* a token is good in the header it was verified in, and in no other */

    if (entry == NULL || entry->header != header) {
        return ngx_http_hybrid_jwt_first(r, ctx, token, header, digest);
    }

    ngx_http_hybrid_issuer_follow(entry->issuer, hmcf->shm,
                                  r->connection->log);

    if (!ngx_http_hybrid_jwt_current(ctx, entry)) {

        /* why it is refused, if it is, is found there */

        ngx_http_hybrid_jwt_unlink(hmcf->jwt, entry);

        return ngx_http_hybrid_jwt_first(r, ctx, token, header, digest);
    }

    ngx_queue_remove(&entry->queue);
    ngx_queue_insert_head(&hmcf->jwt->lru, &entry->queue);

    return ngx_http_hybrid_jwt_accept(r, ctx, entry->issuer, entry->client,
                                      &entry->subject, &entry->jti);
}


static ngx_http_hybrid_jwt_entry_t *
ngx_http_hybrid_jwt_find(ngx_http_hybrid_jwt_t *jwt, u_char *digest)
{
    ngx_http_hybrid_jwt_entry_t  *entry;

    entry = *ngx_http_hybrid_jwt_bucket(jwt, digest);

    while (entry && ngx_memcmp(entry->digest, digest,
                               NGX_HTTP_HYBRID_JWT_DIGEST) != 0)
    {
        entry = entry->next;
    }

    return entry;
}


static ngx_http_hybrid_jwt_entry_t **
ngx_http_hybrid_jwt_bucket(ngx_http_hybrid_jwt_t *jwt, u_char *digest)
{
    return &jwt->buckets[(digest[0] << 8 | digest[1])
                         % NGX_HTTP_HYBRID_JWT_BUCKETS];
}


static ngx_uint_t
ngx_http_hybrid_jwt_current(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_jwt_entry_t *entry)
{
    return entry->generation == entry->issuer->generation
           && entry->from <= ngx_time()
           && entry->until > ngx_time()
           && (entry->client->pool == NULL
               || ngx_http_hybrid_store_fresh(ctx->conf->store,
                                              entry->client));
}


static void
ngx_http_hybrid_jwt_unlink(ngx_http_hybrid_jwt_t *jwt,
    ngx_http_hybrid_jwt_entry_t *entry)
{
    ngx_http_hybrid_jwt_entry_t  **place;

    place = ngx_http_hybrid_jwt_bucket(jwt, entry->digest);

    while (*place && *place != entry) {
        place = &(*place)->next;
    }

    if (*place) {
        *place = entry->next;
    }

    if (entry->client) {
        ngx_http_hybrid_client_release(entry->client);
        entry->client = NULL;
    }

    /* the next one to be used */

    entry->next = NULL;
    ngx_queue_remove(&entry->queue);
    ngx_queue_insert_tail(&jwt->lru, &entry->queue);
}


static void
ngx_http_hybrid_jwt_remember(ngx_http_hybrid_jwt_t *jwt, u_char *digest,
    ngx_http_hybrid_jwt_header_t *header, ngx_http_hybrid_issuer_t *issuer,
    ngx_http_hybrid_client_t *client)
{
    ngx_hybrid_claims_t           *claims;
    ngx_http_hybrid_jwt_entry_t   *entry, **bucket;

    claims = &jwt->claims;

    /* the same token in two headers */

    entry = ngx_http_hybrid_jwt_find(jwt, digest);

    if (entry) {
        ngx_http_hybrid_jwt_unlink(jwt, entry);

    } else if (jwt->used < NGX_HTTP_HYBRID_JWT_ENTRIES) {
        entry = &jwt->entries[jwt->used++];
        ngx_queue_insert_tail(&jwt->lru, &entry->queue);

    } else {
        entry = ngx_queue_data(ngx_queue_last(&jwt->lru),
                               ngx_http_hybrid_jwt_entry_t, queue);
        ngx_http_hybrid_jwt_unlink(jwt, entry);
    }

    ngx_memcpy(entry->digest, digest, NGX_HTTP_HYBRID_JWT_DIGEST);

    entry->header = header;
    entry->issuer = issuer;
    entry->generation = issuer->generation;
    entry->client = client;
    ngx_http_hybrid_client_hold(client);

    entry->from = claims->from;
    entry->until = claims->until;

    entry->subject.data = entry->text;
    entry->subject.len = claims->subject.len;
    entry->jti.data = ngx_cpymem(entry->text, claims->subject.data,
                                 claims->subject.len);
    entry->jti.len = claims->jti.len;
    ngx_memcpy(entry->jti.data, claims->jti.data, claims->jti.len);

    bucket = ngx_http_hybrid_jwt_bucket(jwt, digest);
    entry->next = *bucket;
    *bucket = entry;

    ngx_queue_remove(&entry->queue);
    ngx_queue_insert_head(&jwt->lru, &entry->queue);
}


static ngx_int_t
ngx_http_hybrid_jwt_accept(ngx_http_request_t *r, ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_issuer_t *issuer, ngx_http_hybrid_client_t *client,
    ngx_str_t *subject, ngx_str_t *jti)
{
    u_char  *p;

    /* the originals may be gone before the request is */

    p = ngx_pnalloc(r->pool, subject->len + jti->len + 1);
    if (p == NULL) {
        return ngx_http_hybrid_refuse(ctx, NGX_HTTP_INTERNAL_SERVER_ERROR,
                                      "internal", "internal error");
    }

    ctx->subject.data = p;
    ctx->subject.len = subject->len;

    ctx->jti.data = ngx_cpymem(p, subject->data, subject->len);
    ctx->jti.len = jti->len;
    ngx_memcpy(ctx->jti.data, jti->data, jti->len);

    ngx_http_hybrid_client_hold(client);

    ctx->client = client;
    ctx->auth = NGX_HTTP_HYBRID_ACCESS_JWT;
    ctx->issuer = issuer->name;

    return NGX_OK;
}


static ngx_int_t
ngx_http_hybrid_jwt_first(ngx_http_request_t *r, ngx_http_hybrid_ctx_t *ctx,
    ngx_str_t *token, ngx_http_hybrid_jwt_header_t *header, u_char *digest)
{
    ngx_int_t                  rc;
    const char                *why;
    ngx_hybrid_jws_t          *jws;
    ngx_hybrid_claims_t       *claims;
    ngx_http_hybrid_jwt_t     *jwt;
    ngx_http_hybrid_found_t    found;
    ngx_http_hybrid_issuer_t  *issuer;

    jwt = ctx->conf->jwt;
    jws = &jwt->jws;
    claims = &jwt->claims;

    why = ngx_hybrid_jws_parse(jws, token);
    if (why) {
        return ngx_http_hybrid_jwt_refuse(r, ctx, NULL, why);
    }

    why = ngx_hybrid_claims_scan(claims, &jws->payload);
    if (why) {
        return ngx_http_hybrid_jwt_refuse(r, ctx, NULL, why);
    }

    issuer = ngx_http_hybrid_jwt_issuer(header, &claims->iss);
    if (issuer == NULL) {
        return ngx_http_hybrid_jwt_refuse(r, ctx, NULL,
                                          "\"iss\" is not known here");
    }

    if (!(jws->alg & issuer->algorithms)) {
        return ngx_http_hybrid_jwt_refuse(r, ctx, issuer,
                            "the header's \"alg\" is not the issuer's");
    }

    ngx_http_hybrid_issuer_follow(issuer, ctx->conf->shm, r->connection->log);

    if (issuer->keys == NULL && (jws->alg & NGX_HYBRID_JWK_PUBLIC)) {
        return ngx_http_hybrid_jwt_unavailable(r, ctx, issuer);
    }

    why = ngx_http_hybrid_jwt_signature(issuer, jws);
    if (why) {
        return ngx_http_hybrid_jwt_refuse(r, ctx, issuer, why);
    }

    /* from here on it is the issuer who speaks */

    ngx_memzero(&found, sizeof(ngx_http_hybrid_found_t));

    rc = ngx_http_hybrid_jwt_claims(r, ctx, issuer, &found);

    if (rc == NGX_OK) {
        rc = ngx_http_hybrid_jwt_accept(r, ctx, issuer, found.client,
                                        &claims->subject, &claims->jti);
    }

    if (rc == NGX_OK && !found.stale) {
        ngx_http_hybrid_jwt_remember(jwt, digest, header, issuer,
                                     found.client);
    }

    if (found.client) {
        ngx_http_hybrid_client_release(found.client);
    }

    ngx_hybrid_claims_done(claims);

    return rc;
}


static ngx_http_hybrid_issuer_t *
ngx_http_hybrid_jwt_issuer(ngx_http_hybrid_jwt_header_t *header,
    ngx_str_t *iss)
{
    ngx_uint_t                  i;
    ngx_http_hybrid_issuer_t  **issuers;

    issuers = header->issuers.elts;

    for (i = 0; i < header->issuers.nelts; i++) {
        if (issuers[i]->issuer.len == iss->len
            && ngx_memcmp(issuers[i]->issuer.data, iss->data, iss->len) == 0)
        {
            return issuers[i];
        }
    }

    return NULL;
}


/* the key is chosen by kid alone; it says which algorithm it is for */

static const char *
ngx_http_hybrid_jwt_signature(ngx_http_hybrid_issuer_t *issuer,
    ngx_hybrid_jws_t *jws)
{
    ngx_uint_t         i;
    const char        *why;
    ngx_hybrid_jwk_t  *key, *secrets;

    key = (issuer->keys && jws->kid.len)
          ? ngx_hybrid_jwks_find(issuer->keys, &jws->kid) : NULL;

    why = jws->kid.len ? "\"kid\" is not known" : "there is no \"kid\"";
    secrets = issuer->secrets.elts;

    for (i = 0; i < issuer->secrets.nelts; i++) {

        if (secrets[i].kid.len != jws->kid.len
            || (jws->kid.len
                && ngx_memcmp(secrets[i].kid.data, jws->kid.data,
                              jws->kid.len) != 0))
        {
            continue;
        }

        if (key) {
            return "\"kid\" is that of a key and of a secret";
        }

        why = ngx_hybrid_jws_verify(jws, &secrets[i]);

        if (why == NULL) {
            return NULL;
        }
    }

    if (key) {
        return ngx_hybrid_jws_verify(jws, key);
    }

    if (issuer->doc && jws->kid.len && (jws->alg & NGX_HYBRID_JWK_PUBLIC)
        && ngx_hybrid_doc_want(issuer->doc, issuer->cooldown))
    {
        ngx_http_hybrid_jwks_wanted(issuer);
    }

    return why;
}


static ngx_int_t
ngx_http_hybrid_jwt_claims(ngx_http_request_t *r, ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_issuer_t *issuer, ngx_http_hybrid_found_t *found)
{
    const char                 *why;
    ngx_hybrid_jws_t           *jws;
    ngx_hybrid_claims_t        *claims;
    ngx_hybrid_claims_rules_t   rules;

    jws = &ctx->conf->jwt->jws;
    claims = &ctx->conf->jwt->claims;

    rules.issuer = issuer->issuer;
    rules.audiences = issuer->audiences.elts;
    rules.naudiences = issuer->audiences.nelts;
    rules.leeway = issuer->leeway;
    rules.app = issuer->app;

    why = ngx_hybrid_claims_read(claims, &jws->encoded);

    if (why == NULL) {
        why = ngx_hybrid_claims_check(claims, &rules, ngx_time());

        if (why == ngx_hybrid_claims_expired) {
            ngx_http_hybrid_jwt_expired(issuer, &jws->payload, claims);
        }
    }

    if (why == NULL) {
        why = ngx_hybrid_claims_load(claims, &jws->payload,
                                     issuer->claims.elts,
                                     issuer->claims.nelts);
    }

    if (why) {
        return ngx_http_hybrid_jwt_refuse(r, ctx, issuer, why);
    }

    return ngx_http_hybrid_jwt_owner(r, ctx, issuer, found);
}


/* a client of the files wins; only when there is none Redis is looked at */

static ngx_int_t
ngx_http_hybrid_jwt_owner(ngx_http_request_t *r, ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_issuer_t *issuer, ngx_http_hybrid_found_t *found)
{
    ngx_int_t             rc;
    ngx_hybrid_claims_t  *claims;

    claims = &ctx->conf->jwt->claims;

    found->client = ngx_http_hybrid_jwt_client(issuer, claims, &found->other);

    if (found->client == NULL && ctx->conf->clients_redis) {
        rc = ngx_http_hybrid_store_jwt(ctx, issuer, claims, found);

        if (rc != NGX_OK) {
            return rc == NGX_AGAIN ? NGX_AGAIN
                                   : ngx_http_hybrid_store_refuse(ctx);
        }
    }

    if (found->client == NULL) {
        ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                      "JWT of issuer \"%V\" for \"%V\" fits no client",
                      &issuer->name, &claims->subject);

        return ngx_http_hybrid_refuse(ctx, NGX_HTTP_FORBIDDEN,
                                      "client_unknown",
                                      "no client is known by this token");
    }

    if (found->other) {
        ngx_log_error(NGX_LOG_WARN, r->connection->log, 0,
                      "JWT of issuer \"%V\" for \"%V\" fits client \"%V\" "
                      "and client \"%V\"", &issuer->name, &claims->subject,
                      &found->client->name, &found->other->name);

        return ngx_http_hybrid_refuse(ctx, NGX_HTTP_FORBIDDEN,
                                      "client_ambiguous",
                                      "this token stands for two clients");
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_hybrid_jwt_refuse(ngx_http_request_t *r, ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_issuer_t *issuer, const char *why)
{
    u_char  *text;
    size_t   len;

    /* it is told of later, if the client has to wait */

    len = ngx_strlen(why) + sizeof("JWT of issuer \"\": ")
          + NGX_HTTP_HYBRID_NAME_MAX;

    text = ngx_pnalloc(r->pool, len);
    if (text == NULL) {
        return ngx_http_hybrid_identity_refuse(r, ctx, why);
    }

    if (issuer) {
        ngx_snprintf(text, len, "JWT of issuer \"%V\": %s%Z", &issuer->name,
                     why);

    } else {
        ngx_snprintf(text, len, "JWT: %s%Z", why);
    }

    return ngx_http_hybrid_identity_refuse(r, ctx, (char *) text);
}


static ngx_int_t
ngx_http_hybrid_jwt_unavailable(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_http_hybrid_issuer_t *issuer)
{
    if (issuer->complained == 0
        || ngx_time() - issuer->complained >= NGX_HTTP_HYBRID_JWT_QUIET)
    {
        issuer->complained = ngx_time();

        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "issuer \"%V\" has no keys: its tokens can't be "
                      "verified", &issuer->name);
    }

    ctx->retry_after = NGX_HTTP_HYBRID_JWT_RETRY;

    return ngx_http_hybrid_refuse(ctx, NGX_HTTP_SERVICE_UNAVAILABLE,
                                  "issuer_unavailable",
                                  "the token can't be verified at the moment");
}


ngx_int_t
ngx_http_hybrid_jwt_init_worker(ngx_http_hybrid_main_conf_t *hmcf,
    ngx_cycle_t *cycle)
{
    ngx_http_hybrid_jwt_t  *jwt;

    if (hmcf->issuers.nelts == 0) {
        return NGX_OK;
    }

    jwt = ngx_pcalloc(cycle->pool, sizeof(ngx_http_hybrid_jwt_t));
    if (jwt == NULL) {
        return NGX_ERROR;
    }

    jwt->entries = ngx_pcalloc(cycle->pool,
                               NGX_HTTP_HYBRID_JWT_ENTRIES
                               * sizeof(ngx_http_hybrid_jwt_entry_t));
    if (jwt->entries == NULL) {
        return NGX_ERROR;
    }

    ngx_queue_init(&jwt->lru);

    hmcf->jwt = jwt;

    return NGX_OK;
}


/* clients from Redis are not in the pool of the cycle */

void
ngx_http_hybrid_jwt_exit_worker(ngx_http_hybrid_main_conf_t *hmcf)
{
    ngx_uint_t              i;
    ngx_http_hybrid_jwt_t  *jwt;

    jwt = hmcf->jwt;

    if (jwt == NULL) {
        return;
    }

    for (i = 0; i < jwt->used; i++) {
        if (jwt->entries[i].client) {
            ngx_http_hybrid_client_release(jwt->entries[i].client);
        }
    }

    hmcf->jwt = NULL;
}
