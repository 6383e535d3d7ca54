
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * A signed token in its compact form (RFC 7515): taken apart, its header
 * judged, its signature verified.  What is wrong is a constant text for the
 * log, NULL when nothing is.
 */


#ifndef _NGX_HYBRID_JWS_H_INCLUDED_
#define _NGX_HYBRID_JWS_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_hybrid_base64url.h"
#include "ngx_hybrid_jwk.h"


#define NGX_HYBRID_JWS_MAX        8192

#define NGX_HYBRID_JWS_SIGNATURE  1024      /* RSA of 8192 bits */
#define NGX_HYBRID_JWS_BUFFER     ngx_hybrid_base64url_size(NGX_HYBRID_JWS_MAX)


typedef struct {
    ngx_str_t            input;     /* what is signed, in the token */
    ngx_str_t            encoded;   /* the payload's part of it */

    ngx_str_t            payload;   /* decoded, in buf */
    ngx_uint_t           alg;
    ngx_str_t            kid;       /* empty: there is none */

    size_t               len;       /* of the signature */
    u_char               signature[NGX_HYBRID_JWS_SIGNATURE];
    u_char               arena[NGX_HYBRID_JWK_KID_MAX + 128];
    u_char               buf[NGX_HYBRID_JWS_BUFFER];
} ngx_hybrid_jws_t;


/* the token must stay as long as jws is used */
const char *ngx_hybrid_jws_parse(ngx_hybrid_jws_t *jws, ngx_str_t *token);

/* by this key, whose kid must have been found to be the token's */
const char *ngx_hybrid_jws_verify(ngx_hybrid_jws_t *jws,
    ngx_hybrid_jwk_t *jwk);


#endif /* _NGX_HYBRID_JWS_H_INCLUDED_ */
