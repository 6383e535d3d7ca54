
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Which client a token's claims belong to, and in which header it comes.
 */


#ifndef _NGX_HTTP_HYBRID_JWT_H_INCLUDED_
#define _NGX_HTTP_HYBRID_JWT_H_INCLUDED_


#include "ngx_http_hybrid_issuer.h"
#include "ngx_hybrid_claims.h"


typedef struct {
    ngx_str_t                      name;
    ngx_str_t                      value;
    ngx_uint_t                     claim;       /* in issuer->claims */
} ngx_http_hybrid_jwt_term_t;


/* a "jwt" line of a client: all of its terms hold */

typedef struct {
    ngx_http_hybrid_client_t      *client;
    ngx_str_t                      issuer;
    ngx_http_hybrid_place_t        place;
    ngx_array_t                    terms;  /* ngx_http_hybrid_jwt_term_t */
} ngx_http_hybrid_jwt_rule_t;


/* the issuers whose tokens come in one header; "iss" tells which */

struct ngx_http_hybrid_jwt_header_s {
    ngx_str_t                      name;        /* lower case */
    ngx_array_t                    issuers; /* ngx_http_hybrid_issuer_t * */
};


/* by the files; other: a second one that it stands for, or NULL */
ngx_http_hybrid_client_t *ngx_http_hybrid_jwt_client(
    ngx_http_hybrid_issuer_t *issuer, ngx_hybrid_claims_t *claims,
    ngx_http_hybrid_client_t **other);

/* all of it but its time is right: the client that it was of is told of */
void ngx_http_hybrid_jwt_expired(ngx_http_hybrid_issuer_t *issuer,
    ngx_str_t *payload, ngx_hybrid_claims_t *claims);

/* core/ngx_http_hybrid_conf_issuer.c */

char *ngx_http_hybrid_client_jwt(ngx_conf_t *cf, void *block);


#endif /* _NGX_HTTP_HYBRID_JWT_H_INCLUDED_ */
