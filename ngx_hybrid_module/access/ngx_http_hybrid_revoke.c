
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Who is revoked is refused although the credential is right.  The list
 * comes from Redis into the shared memory in the background: a request
 * looks at the copy that its worker has made, also while Redis is away.
 */


#include "ngx_http_hybrid_revoke.h"


static ngx_uint_t ngx_http_hybrid_revoke_has(ngx_http_hybrid_revoke_t *revoke,
    const char *kind, ngx_str_t *issuer, ngx_str_t *name);


ngx_int_t
ngx_http_hybrid_revoke_init_zone(ngx_http_hybrid_main_conf_t *hmcf,
    ngx_log_t *log)
{
    ngx_str_t  name = ngx_string("revoked");

    if (hmcf->redis_conf == NULL) {
        return NGX_OK;
    }

    hmcf->revoked = ngx_hybrid_doc(hmcf->shm, &name);

    if (hmcf->revoked == NULL) {
        ngx_log_error(NGX_LOG_EMERG, log, 0,
                      "hybrid_zone of %uzk is too small for the list of "
                      "revocations: make it larger", hmcf->zone_size / 1024);
        return NGX_ERROR;
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_hybrid_revoke_init_worker(ngx_http_hybrid_main_conf_t *hmcf,
    ngx_cycle_t *cycle)
{
    ngx_str_t                 *prefix;
    ngx_http_hybrid_revoke_t  *revoke;

    revoke = ngx_pcalloc(cycle->pool, sizeof(ngx_http_hybrid_revoke_t));
    if (revoke == NULL) {
        return NGX_ERROR;
    }

    revoke->conf = hmcf;
    revoke->doc = hmcf->revoked;

    prefix = &hmcf->redis_conf->prefix;

    revoke->key.len = prefix->len + sizeof("revoked") - 1;
    revoke->key.data = ngx_pnalloc(cycle->pool, revoke->key.len);
    if (revoke->key.data == NULL) {
        return NGX_ERROR;
    }

    ngx_sprintf(revoke->key.data, "%Vrevoked", prefix);

    hmcf->revoke = revoke;

    return ngx_http_hybrid_revoke_poll(revoke, cycle);
}


/* Redis has been told that we leave: nothing is pending */

void
ngx_http_hybrid_revoke_exit_worker(ngx_http_hybrid_main_conf_t *hmcf)
{
    ngx_http_hybrid_revoke_t  *revoke;

    revoke = hmcf->revoke;

    if (revoke == NULL) {
        return;
    }

    ngx_http_hybrid_revoke_end(revoke);

    if (revoke->pool) {
        ngx_destroy_pool(revoke->pool);
        revoke->pool = NULL;
        revoke->set = NULL;
    }
}


ngx_int_t
ngx_http_hybrid_revoke_refresh(ngx_http_hybrid_revoke_t *revoke)
{
    ngx_int_t              rc;
    ngx_str_t              text;
    ngx_pool_t            *pool;
    ngx_atomic_uint_t      generation;
    ngx_hybrid_revoked_t  *set;

    if (revoke->generation == revoke->doc->generation) {
        return NGX_OK;
    }

    pool = ngx_create_pool(4096, revoke->timer.log);
    if (pool == NULL) {
        return NGX_ERROR;
    }

    rc = ngx_hybrid_doc_read(revoke->conf->shm, revoke->doc, pool, &text,
                             &generation);

    if (rc == NGX_ERROR) {
        ngx_destroy_pool(pool);
        return NGX_ERROR;
    }

    if (rc == NGX_DECLINED || text.len == 0) {

        /* its writer has died: what we know is more, see the poll */

        ngx_destroy_pool(pool);
        revoke->generation = generation;
        return NGX_OK;
    }

    set = ngx_hybrid_revoked_parse(pool, &text);

    if (set == NULL) {
        ngx_destroy_pool(pool);
        return NGX_ERROR;
    }

    if (revoke->pool) {
        ngx_destroy_pool(revoke->pool);
    }

    revoke->pool = pool;
    revoke->set = set;
    revoke->generation = generation;

    return NGX_OK;
}


ngx_int_t
ngx_http_hybrid_revoke_state(ngx_http_hybrid_main_conf_t *hmcf,
    ngx_http_hybrid_revoke_state_t *state)
{
    ngx_hybrid_doc_t          *doc;
    ngx_http_hybrid_revoke_t  *revoke;

    revoke = hmcf->revoke;

    if (revoke == NULL) {
        return NGX_DECLINED;
    }

    (void) ngx_http_hybrid_revoke_refresh(revoke);

    doc = revoke->doc;

    state->known = (revoke->set != NULL);
    state->entries = revoke->set ? revoke->set->n : 0;
    state->age = ngx_current_msec - doc->loaded;
    state->nerror = ngx_hybrid_doc_error(hmcf->shm, doc, state->error);

    /* the time of another worker may be a little ahead of ours */

    if ((ngx_msec_int_t) state->age < 0) {
        state->age = 0;
    }

    return NGX_OK;
}


/* for an identity that was proved; also one that was remembered */

ngx_int_t
ngx_http_hybrid_revoke_check(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx)
{
    ngx_http_hybrid_revoke_t  *revoke;

    revoke = ctx->conf->revoke;

    if (revoke == NULL) {
        return NGX_OK;
    }

    if (revoke->generation != revoke->doc->generation
        && ngx_http_hybrid_revoke_refresh(revoke) != NGX_OK)
    {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "the list of revocations can't be read");
        return ngx_http_hybrid_refuse(ctx, NGX_HTTP_INTERNAL_SERVER_ERROR,
                                      "internal", "internal error");
    }

    if (revoke->set == NULL || revoke->set->n == 0) {
        return NGX_OK;
    }

    if (ngx_http_hybrid_revoke_has(revoke, "client", NULL,
                                   &ctx->client->name))
    {
        return ngx_http_hybrid_identity_refuse(r, ctx,
                                               "the client is revoked");
    }

    if (ctx->auth == NGX_HTTP_HYBRID_ACCESS_TOKEN
        && ngx_http_hybrid_revoke_has(revoke, "token", NULL,
                                      &ctx->credential))
    {
        return ngx_http_hybrid_identity_refuse(r, ctx, "the token is revoked");
    }

    if (ctx->auth == NGX_HTTP_HYBRID_ACCESS_MTLS
        && ngx_http_hybrid_revoke_has(revoke, "cert", NULL, &ctx->credential))
    {
        return ngx_http_hybrid_identity_refuse(r, ctx,
                                               "the certificate is revoked");
    }

    if (ctx->auth != NGX_HTTP_HYBRID_ACCESS_JWT) {
        return NGX_OK;
    }

    if (ngx_http_hybrid_revoke_has(revoke, "jti", &ctx->issuer, &ctx->jti)) {
        return ngx_http_hybrid_identity_refuse(r, ctx, "the JWT is revoked");
    }

    if (ngx_http_hybrid_revoke_has(revoke, "sub", &ctx->issuer, &ctx->subject))
    {
        return ngx_http_hybrid_identity_refuse(r, ctx,
                                               "the JWT's subject is revoked");
    }

    return NGX_OK;
}


/* a name that is too long is in no list */

static ngx_uint_t
ngx_http_hybrid_revoke_has(ngx_http_hybrid_revoke_t *revoke, const char *kind,
    ngx_str_t *issuer, ngx_str_t *name)
{
    u_char     buf[NGX_HYBRID_REVOKED_FIELD], *p, *last;
    ngx_str_t  field;

    last = buf + NGX_HYBRID_REVOKED_FIELD;

    if (name->len == 0) {
        return 0;
    }

    p = ngx_slprintf(buf, last, "%s:", kind);

    if (issuer) {
        p = ngx_slprintf(p, last, "%V:", issuer);
    }

    if (name->len > (size_t) (last - p)) {
        return 0;
    }

    field.data = buf;
    field.len = ngx_cpymem(p, name->data, name->len) - buf;

    return ngx_hybrid_revoked_has(revoke->set, &field);
}
