
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Key sets that are fetched: in the background and by one worker for all.
 * What a server sends is published when it is a good set, and otherwise only
 * says why the good one is growing old.
 */


#include "ngx_http_hybrid_conf.h"
#include "ngx_http_hybrid_issuer.h"


static ngx_int_t ngx_http_hybrid_jwks_add(ngx_conf_t *cf,
    ngx_http_hybrid_main_conf_t *hmcf, ngx_http_hybrid_issuer_t *issuer,
    ngx_resolver_t *resolver);
static ngx_int_t ngx_http_hybrid_jwks_handler(void *data,
    ngx_hybrid_fetch_t *f, ngx_hybrid_getter_answer_t *a);
static ngx_uint_t ngx_http_hybrid_jwks_has(void *data);


/* msec: of a fetch, and the longest pause between tries */
#define NGX_HTTP_HYBRID_JWKS_TIMEOUT  10000
#define NGX_HTTP_HYBRID_JWKS_RETRY    300000


ngx_int_t
ngx_http_hybrid_jwks_init(ngx_conf_t *cf, ngx_http_hybrid_main_conf_t *hmcf,
    ngx_resolver_t *resolver)
{
    ngx_uint_t                  i;
    ngx_http_hybrid_issuer_t  **issuers;

    issuers = hmcf->issuers.elts;

    for (i = 0; i < hmcf->issuers.nelts; i++) {

        if (issuers[i]->url
            && ngx_http_hybrid_jwks_add(cf, hmcf, issuers[i], resolver)
               != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_hybrid_jwks_add(ngx_conf_t *cf, ngx_http_hybrid_main_conf_t *hmcf,
    ngx_http_hybrid_issuer_t *issuer, ngx_resolver_t *resolver)
{
    u_char               *p;
    ngx_hybrid_getter_t  *g;

    g = ngx_hybrid_getter_add(&hmcf->getters, cf);
    if (g == NULL) {
        return NGX_ERROR;
    }

    if (ngx_hybrid_fetch_target(cf, &g->target, &issuer->jwks,
                                &issuer->trusted_certificate, resolver)
        != NGX_CONF_OK)
    {
        (void) ngx_http_hybrid_conf_error_at(cf, &issuer->jwks_place,
                       "the key set of issuer \"%V\" can't be fetched",
                       &issuer->name);
        return NGX_ERROR;
    }

    p = ngx_pnalloc(cf->pool, sizeof("key set of issuer \"\"")
                              + issuer->name.len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    g->name.data = p;
    g->name.len = ngx_sprintf(p, "key set of issuer \"%V\"", &issuer->name)
                  - p;

    ngx_str_set(&g->headers, "Accept: application/json" CRLF);
    g->max = NGX_HYBRID_JWK_SET_MAX;
    g->timeout = NGX_HTTP_HYBRID_JWKS_TIMEOUT;
    g->refresh = issuer->refresh;
    g->retry = ngx_min(issuer->cooldown, NGX_HTTP_HYBRID_JWKS_RETRY);
    g->stale = issuer->stale;
    g->handler = ngx_http_hybrid_jwks_handler;
    g->has = ngx_http_hybrid_jwks_has;
    g->data = issuer;

    issuer->getter = g;

    return NGX_OK;
}


void
ngx_http_hybrid_jwks_adopt(ngx_http_hybrid_main_conf_t *hmcf)
{
    ngx_uint_t                  i;
    ngx_http_hybrid_issuer_t  **issuers;

    issuers = hmcf->issuers.elts;

    for (i = 0; i < hmcf->issuers.nelts; i++) {
        if (issuers[i]->getter) {
            issuers[i]->getter->doc = issuers[i]->doc;
        }
    }
}


static ngx_int_t
ngx_http_hybrid_jwks_handler(void *data, ngx_hybrid_fetch_t *f,
    ngx_hybrid_getter_answer_t *a)
{
    ngx_http_hybrid_issuer_t  *issuer = data;

    u_char              error[NGX_HYBRID_JWK_ERROR];
    ngx_log_t          *log;
    ngx_hybrid_jwks_t  *jwks;

    jwks = ngx_http_hybrid_issuer_parse(issuer, &f->body, error);

    if (jwks == NULL) {
        a->text.data = a->error;
        a->text.len = ngx_slprintf(a->error,
                                   a->error + NGX_HYBRID_GETTER_ERROR, "%s",
                                   error)
                      - a->error;
        return NGX_ERROR;
    }

    log = issuer->getter->getters->log;

    if (jwks->ndropped != issuer->ndropped) {
        issuer->ndropped = jwks->ndropped;

        if (jwks->ndropped) {
            ngx_log_error(NGX_LOG_WARN, log, 0,
                          "issuer \"%V\": %ui of the keys can't be used: %s",
                          &issuer->name, jwks->ndropped, jwks->dropped);
        }
    }

    ngx_hybrid_jwks_free(jwks);

    return NGX_OK;
}


/*
 * What is in the zone may have been a good set for a configuration before
 * this one: "not modified" would not make it one.
 */

static ngx_uint_t
ngx_http_hybrid_jwks_has(void *data)
{
    ngx_http_hybrid_issuer_t  *issuer = data;

    ngx_hybrid_getters_t  *getters;

    getters = issuer->getter->getters;

    ngx_http_hybrid_issuer_follow(issuer, getters->shm, getters->log);

    return issuer->keys != NULL;
}


void
ngx_http_hybrid_jwks_wanted(ngx_http_hybrid_issuer_t *issuer)
{
    if (issuer->getter) {
        ngx_hybrid_getter_wanted(issuer->getter);
    }
}
