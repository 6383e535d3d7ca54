
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Who makes the tokens that clients may come with, and the keys to verify
 * them.
 */


#ifndef _NGX_HTTP_HYBRID_ISSUER_H_INCLUDED_
#define _NGX_HTTP_HYBRID_ISSUER_H_INCLUDED_


#include "ngx_http_hybrid_module.h"
#include "ngx_hybrid_jwk.h"


#define NGX_HTTP_HYBRID_LEEWAY    60          /* seconds */
#define NGX_HTTP_HYBRID_REFRESH   3600000     /* these: msec */
#define NGX_HTTP_HYBRID_COOLDOWN  60000
#define NGX_HTTP_HYBRID_STALE     86400000


struct ngx_http_hybrid_issuer_s {
    ngx_str_t                      name;
    ngx_http_hybrid_place_t        place;

    ngx_str_t                      issuer;      /* "iss", exactly */
    ngx_array_t                    audiences;   /* ngx_str_t */
    ngx_uint_t                     algorithms;  /* NGX_HYBRID_JWK_* */
    ngx_str_t                      header;      /* lower case */
    time_t                         leeway;

    ngx_str_t                      jwks;        /* URL or file, as written */
    ngx_http_hybrid_place_t        jwks_place;
    ngx_str_t                      trusted_certificate;  /* as written */
    ngx_http_hybrid_place_t        trusted_certificate_place;
    ngx_msec_t                     refresh;
    ngx_msec_t                     cooldown;
    ngx_msec_t                     stale;

    ngx_array_t                    secrets;     /* ngx_hybrid_jwk_t */

    /* what clients ask for: distinct names, then the rules */
    ngx_array_t                    claims;      /* ngx_str_t */
    ngx_array_t                    rules;   /* ngx_http_hybrid_jwt_rule_t */

    /* of a URL, in the zone, and who fetches it */
    ngx_hybrid_doc_t              *doc;
    ngx_hybrid_getter_t           *getter;

    /*
     * Of this worker: the keys in use, NULL when there are none, and the
     * generation of the document they came from.  "generation" is another
     * whenever the keys are others, and never 0 then.
     */
    ngx_hybrid_jwks_t             *keys;
    ngx_atomic_uint_t              seen;
    ngx_uint_t                     generation;
    ngx_uint_t                     ndropped;    /* said so in the log */

    time_t                         complained;  /* about no keys */

    unsigned                       url:1;       /* jwks is one */
    unsigned                       app:1;       /* as Cloudflare Access */
    unsigned                       leeway_set:1;
    unsigned                       refresh_set:1;
};


/* access/ngx_http_hybrid_issuer.c */

/*
 * A set that came from somewhere: NULL if it is not a good one, then error,
 * of NGX_HYBRID_JWK_ERROR bytes, is a C string that says why.  What is good
 * is to be freed by ngx_hybrid_jwks_free().
 */
ngx_hybrid_jwks_t *ngx_http_hybrid_issuer_parse(
    ngx_http_hybrid_issuer_t *issuer, ngx_str_t *text, u_char *error);

/* the documents of those with a URL */
ngx_int_t ngx_http_hybrid_issuer_adopt(ngx_http_hybrid_main_conf_t *hmcf,
    ngx_log_t *log);

/*
 * Follows the document: issuer->keys and issuer->generation are those to
 * verify with now.
 */
void ngx_http_hybrid_issuer_follow(ngx_http_hybrid_issuer_t *issuer,
    ngx_hybrid_shm_t *shm, ngx_log_t *log);

ngx_int_t ngx_http_hybrid_issuer_file(void *data, ngx_str_t *text,
    ngx_uint_t level, ngx_log_t *log);


/* access/ngx_http_hybrid_jwks.c */

ngx_int_t ngx_http_hybrid_jwks_init(ngx_conf_t *cf,
    ngx_http_hybrid_main_conf_t *hmcf, ngx_resolver_t *resolver);

/* when the issuers have their documents */
void ngx_http_hybrid_jwks_adopt(ngx_http_hybrid_main_conf_t *hmcf);

/* the document is due */
void ngx_http_hybrid_jwks_wanted(ngx_http_hybrid_issuer_t *issuer);


#endif /* _NGX_HTTP_HYBRID_ISSUER_H_INCLUDED_ */
