
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * The claims of a token (RFC 7519), read by libjwt.  It keeps the last of
 * equal members, where others keep the first: so the names that are read
 * are looked for by our own scanner before.
 */


#ifndef _NGX_HYBRID_CLAIMS_H_INCLUDED_
#define _NGX_HYBRID_CLAIMS_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


#define NGX_HYBRID_CLAIMS_MAX      32     /* that clients of one issuer name */
#define NGX_HYBRID_CLAIMS_NAME     64
#define NGX_HYBRID_CLAIMS_ISS      256
#define NGX_HYBRID_CLAIMS_SUBJECT  128
#define NGX_HYBRID_CLAIMS_JTI      128


/* a string, or a list */

typedef struct {
    ngx_str_t            text;
    void                *list;
} ngx_hybrid_claim_t;


typedef struct {
    ngx_str_t            issuer;
    ngx_str_t           *audiences;
    ngx_uint_t           naudiences;
    time_t               leeway;
    ngx_uint_t           app;       /* "type", if there, must be "app" */
} ngx_hybrid_claims_rules_t;


typedef struct {
    ngx_str_t            iss;       /* not verified yet; may be empty */
    u_char               arena[NGX_HYBRID_CLAIMS_ISS];
    u_char               types[16]; /* ngx_hybrid_json_type_e */

    void                *jwt;

    /* the token is good from "from" on, and before "until" */
    time_t               from;
    time_t               until;
    ngx_str_t            subject;   /* point into what libjwt holds */
    ngx_str_t            jti;

    ngx_uint_t           nvalues;
    ngx_hybrid_claim_t   values[NGX_HYBRID_CLAIMS_MAX];
} ngx_hybrid_claims_t;


/*
 * In this order; each returns NULL, or what is wrong.  After read() has been
 * called there must be a done(), whatever came of it.
 */

/* is it one JSON object, without two readings of what we read; gives iss */
const char *ngx_hybrid_claims_scan(ngx_hybrid_claims_t *claims,
    ngx_str_t *payload);

/* of a payload whose signature was verified, in base64url */
const char *ngx_hybrid_claims_read(ngx_hybrid_claims_t *claims,
    ngx_str_t *encoded);
const char *ngx_hybrid_claims_check(ngx_hybrid_claims_t *claims,
    ngx_hybrid_claims_rules_t *rules, time_t now);

/* what check() says when all but its time is right so far */
extern const char  ngx_hybrid_claims_expired[];

/* these names, for has() below */
const char *ngx_hybrid_claims_load(ngx_hybrid_claims_t *claims,
    ngx_str_t *payload, ngx_str_t *names, ngx_uint_t n);

void ngx_hybrid_claims_done(ngx_hybrid_claims_t *claims);


/* the k-th string of a claim, from 0; 0: there are no more */
ngx_uint_t ngx_hybrid_claims_member(ngx_hybrid_claims_t *claims, ngx_uint_t n,
    ngx_uint_t k, ngx_str_t *value);

/* the claim is this string, or a list of strings with it */
ngx_uint_t ngx_hybrid_claims_has(ngx_hybrid_claims_t *claims, ngx_uint_t n,
    ngx_str_t *value);


#endif /* _NGX_HYBRID_CLAIMS_H_INCLUDED_ */
