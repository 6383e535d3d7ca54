
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Keys that tokens are verified with: those of a JSON Web Key Set (RFC 7517)
 * and shared secrets.  A key has exactly one algorithm.
 */


#ifndef _NGX_HYBRID_JWK_H_INCLUDED_
#define _NGX_HYBRID_JWK_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <openssl/evp.h>


/* bits of the algorithms an issuer allows */

#define NGX_HYBRID_JWK_RS256    0x01
#define NGX_HYBRID_JWK_RS384    0x02
#define NGX_HYBRID_JWK_RS512    0x04
#define NGX_HYBRID_JWK_PS256    0x08
#define NGX_HYBRID_JWK_ES256    0x10
#define NGX_HYBRID_JWK_ES384    0x20
#define NGX_HYBRID_JWK_EDDSA    0x40
#define NGX_HYBRID_JWK_HS256    0x80

/* those whose keys may come in a set */
#define NGX_HYBRID_JWK_PUBLIC   0x7f

#define NGX_HYBRID_JWK_SET_MAX  (1024 * 1024)
#define NGX_HYBRID_JWK_MAX      100
#define NGX_HYBRID_JWK_KID_MAX  256
#define NGX_HYBRID_JWK_DROPPED  368
#define NGX_HYBRID_JWK_ERROR    400

/* as long as the digest: RFC 7518, 3.2 */
#define NGX_HYBRID_JWK_SECRET   32


typedef struct {
    ngx_str_t            kid;      /* empty: a secret that has none */
    ngx_uint_t           alg;      /* one of the bits */
    size_t               size;     /* of a signature in bytes */

    EVP_PKEY            *pkey;
    EVP_PKEY_CTX        *verify;   /* set up once; not for EdDSA */
    EVP_MD              *md;
    EVP_MD_CTX          *digest;
    EVP_MAC_CTX         *mac;      /* of a secret */
} ngx_hybrid_jwk_t;


typedef struct {
    ngx_uint_t           nkeys;
    ngx_uint_t           ndropped; /* keys that can't be used, the reason: */
    u_char               dropped[NGX_HYBRID_JWK_DROPPED]; /* of the last */
    ngx_hybrid_jwk_t     keys[1];
} ngx_hybrid_jwks_t;


/* the bit, 0: unknown.  The name is case-sensitive */
ngx_uint_t ngx_hybrid_jwk_alg(u_char *name, size_t len);

/*
 * algs: what the issuer allows.  NULL: a bad set, and the error, a C string
 * for which there are NGX_HYBRID_JWK_ERROR bytes, says why.  A set without a
 * usable key is a bad one.
 */
ngx_hybrid_jwks_t *ngx_hybrid_jwks_parse(ngx_str_t *text, ngx_uint_t algs,
    u_char *error);
void ngx_hybrid_jwks_free(ngx_hybrid_jwks_t *jwks);

/* by the exact kid */
ngx_hybrid_jwk_t *ngx_hybrid_jwks_find(ngx_hybrid_jwks_t *jwks,
    ngx_str_t *kid);

/* an HS256 key; the kid is copied, the secret is not kept */
ngx_int_t ngx_hybrid_jwk_secret(ngx_hybrid_jwk_t *jwk, ngx_str_t *kid,
    u_char *secret, size_t len);
void ngx_hybrid_jwk_done(ngx_hybrid_jwk_t *jwk);


#endif /* _NGX_HYBRID_JWK_H_INCLUDED_ */
