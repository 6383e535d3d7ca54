
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * The key set of an issuer.  A good one replaces the whole of the one
 * before: a key that was taken out stops at once, and so does what was
 * remembered by it.  A bad one changes nothing.
 */


#include "ngx_http_hybrid_issuer.h"


static void ngx_http_hybrid_issuer_replace(ngx_http_hybrid_issuer_t *issuer,
    ngx_hybrid_jwks_t *jwks);
static ngx_int_t ngx_http_hybrid_issuer_doc_name(
    ngx_http_hybrid_issuer_t *issuer, u_char *buf, ngx_str_t *name);


ngx_hybrid_jwks_t *
ngx_http_hybrid_issuer_parse(ngx_http_hybrid_issuer_t *issuer,
    ngx_str_t *text, u_char *error)
{
    return ngx_hybrid_jwks_parse(text, issuer->algorithms, error);
}


void
ngx_http_hybrid_issuer_follow(ngx_http_hybrid_issuer_t *issuer,
    ngx_hybrid_shm_t *shm, ngx_log_t *log)
{
    u_char               error[NGX_HYBRID_JWK_ERROR];
    ngx_int_t            rc;
    ngx_str_t            text;
    ngx_pool_t          *pool;
    ngx_atomic_uint_t    seen;
    ngx_hybrid_jwks_t   *jwks;

    if (issuer->doc == NULL) {
        return;
    }

    /* nobody has confirmed for so long that the keys are still good */

    if (issuer->keys
        && (ngx_msec_int_t) (ngx_current_msec - issuer->doc->loaded)
           > (ngx_msec_int_t) issuer->stale)
    {
        ngx_http_hybrid_issuer_replace(issuer, NULL);

        /* a later confirmation brings them back */

        issuer->seen = 0;
        return;
    }

    if (issuer->doc->generation == issuer->seen) {
        return;
    }

    if ((ngx_msec_int_t) (ngx_current_msec - issuer->doc->loaded)
        > (ngx_msec_int_t) issuer->stale)
    {
        return;
    }

    pool = ngx_create_pool(NGX_DEFAULT_POOL_SIZE, log);
    if (pool == NULL) {
        return;
    }

    rc = ngx_hybrid_doc_read(shm, issuer->doc, pool, &text, &seen);

    if (rc == NGX_DECLINED) {
        ngx_http_hybrid_issuer_replace(issuer, NULL);
        issuer->seen = seen;
    }

    if (rc == NGX_OK) {
        issuer->seen = seen;

        jwks = ngx_http_hybrid_issuer_parse(issuer, &text, error);

        if (jwks) {
            ngx_http_hybrid_issuer_replace(issuer, jwks);

        } else {
            ngx_log_error(NGX_LOG_ERR, log, 0, "issuer \"%V\": %s",
                          &issuer->name, error);
        }
    }

    ngx_destroy_pool(pool);
}


/* by the watch: in the master at start, then in each worker */

ngx_int_t
ngx_http_hybrid_issuer_file(void *data, ngx_str_t *text, ngx_uint_t level,
    ngx_log_t *log)
{
    ngx_http_hybrid_issuer_t  *issuer = data;

    u_char              error[NGX_HYBRID_JWK_ERROR];
    ngx_hybrid_jwks_t  *jwks;

    jwks = ngx_http_hybrid_issuer_parse(issuer, text, error);

    if (jwks == NULL) {
        ngx_log_error(level, log, 0, "issuer \"%V\": %s%s", &issuer->name,
                      error, issuer->keys ? ", the keys before it stay" : "");
        return NGX_ERROR;
    }

    if (jwks->ndropped) {
        ngx_log_error(NGX_LOG_NOTICE, log, 0,
                      "issuer \"%V\": %ui of the keys can't be used: %s",
                      &issuer->name, jwks->ndropped, jwks->dropped);
    }

    ngx_http_hybrid_issuer_replace(issuer, jwks);

    return NGX_OK;
}


static void
ngx_http_hybrid_issuer_replace(ngx_http_hybrid_issuer_t *issuer,
    ngx_hybrid_jwks_t *jwks)
{
    ngx_hybrid_jwks_free(issuer->keys);

    issuer->keys = jwks;
    issuer->generation++;
}


ngx_int_t
ngx_http_hybrid_issuer_adopt(ngx_http_hybrid_main_conf_t *hmcf,
    ngx_log_t *log)
{
    u_char                      buf[NGX_HYBRID_DOC_NAME];
    ngx_str_t                   name;
    ngx_uint_t                  i;
    ngx_http_hybrid_issuer_t  **issuers;

    issuers = hmcf->issuers.elts;

    for (i = 0; i < hmcf->issuers.nelts; i++) {

        if (!issuers[i]->url) {
            continue;
        }

        if (ngx_http_hybrid_issuer_doc_name(issuers[i], buf, &name) != NGX_OK)
        {
            ngx_log_error(NGX_LOG_EMERG, log, 0, "SHA-256 failed");
            return NGX_ERROR;
        }

        issuers[i]->doc = ngx_hybrid_doc(hmcf->shm, &name);

        if (issuers[i]->doc == NULL) {
            ngx_log_error(NGX_LOG_EMERG, log, 0,
                          "hybrid_zone of %uzk is too small for %ui issuers: "
                          "make it larger", hmcf->zone_size / 1024,
                          hmcf->issuers.nelts);
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


/* another URL is another document: its keys are not those of the old one */

static ngx_int_t
ngx_http_hybrid_issuer_doc_name(ngx_http_hybrid_issuer_t *issuer, u_char *buf,
    ngx_str_t *name)
{
    u_char   digest[EVP_MAX_MD_SIZE], *p;

    p = ngx_sprintf(buf, "jwks:%V:", &issuer->name);

    if (issuer->jwks.len <= (size_t) (buf + NGX_HYBRID_DOC_NAME - p)) {
        p = ngx_cpymem(p, issuer->jwks.data, issuer->jwks.len);

    } else {
        if (EVP_Digest(issuer->jwks.data, issuer->jwks.len, digest, NULL,
                       EVP_sha256(), NULL) != 1)
        {
            return NGX_ERROR;
        }

        /* as much of it as there is room for beside the longest name */

        p = ngx_hex_dump(p, digest, 24);
    }

    name->data = buf;
    name->len = p - buf;

    return NGX_OK;
}
