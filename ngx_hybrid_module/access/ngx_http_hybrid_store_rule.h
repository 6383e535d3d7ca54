
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * JWTs and certificates of clients in Redis.
 */


#ifndef _NGX_HTTP_HYBRID_STORE_RULE_H_INCLUDED_
#define _NGX_HTTP_HYBRID_STORE_RULE_H_INCLUDED_


#include "ngx_http_hybrid_store.h"
#include "ngx_http_hybrid_cert.h"
#include "ngx_http_hybrid_issuer.h"
#include "ngx_hybrid_claims.h"


/*
 * client: who it is, and is to be released, if it is somebody; other: fits as
 * well, so it can't be told who it is, and is good until the next call; stale:
 * one was looked at that may have changed, so the answer is for now only
 */

typedef struct {
    ngx_http_hybrid_client_t      *client;
    ngx_http_hybrid_client_t      *other;
    ngx_uint_t                     stale;
} ngx_http_hybrid_found_t;


/*
 * Who has a verified token or certificate; found is zeroed before.  NGX_OK:
 * found says who, if anybody; else NGX_AGAIN or NGX_BUSY as from
 * ngx_http_hybrid_store_find(), and nobody is to be released.
 */
ngx_int_t ngx_http_hybrid_store_jwt(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_issuer_t *issuer, ngx_hybrid_claims_t *claims,
    ngx_http_hybrid_found_t *found);

#if (NGX_HTTP_SSL)
ngx_int_t ngx_http_hybrid_store_cert(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_cert_facts_t *facts, ngx_http_hybrid_found_t *found);
#endif

/* the client's "jwt" and "cert" lines: NGX_ERROR if they can't be used here */
ngx_int_t ngx_http_hybrid_store_rules(ngx_http_hybrid_store_t *store,
    ngx_http_hybrid_identities_t *identities, ngx_str_t *error);

/* 503: who it is can't be told now */
ngx_int_t ngx_http_hybrid_store_refuse(ngx_http_hybrid_ctx_t *ctx);


#endif /* _NGX_HTTP_HYBRID_STORE_RULE_H_INCLUDED_ */
