
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * The steps of a decision, which an explanation takes as a request does.
 */


#ifndef _NGX_HTTP_HYBRID_EXPLAIN_H_INCLUDED_
#define _NGX_HTTP_HYBRID_EXPLAIN_H_INCLUDED_


#include "ngx_http_hybrid_admin.h"


/* a backend of the route; why: it is no candidate, or NULL */

typedef struct {
    ngx_http_hybrid_backend_t *backend;
    ngx_uint_t                 group;
    const char                *why;
} ngx_http_hybrid_note_t;


/* while candidates are looked for, and what was found instead */

typedef struct {
    ngx_hybrid_model_t        *model;        /* no other embeds, or NULL */
    ngx_array_t               *notes;        /* NULL: it is a request */
    ngx_uint_t                 group;
    unsigned                   makes:1;
    unsigned                   discovered:1;
    unsigned                   missing:1;    /* not on a backend's list */
    unsigned                   known:1;      /* but it was, or may be */
    unsigned                   denied:1;
    unsigned                   other:1;      /* another model embeds */
} ngx_http_hybrid_seek_t;


typedef enum {
    ngx_http_hybrid_explain_refuse = 0,
    ngx_http_hybrid_explain_answer,
    ngx_http_hybrid_explain_wait
} ngx_http_hybrid_explain_e;


typedef struct {
    ngx_http_hybrid_admin_t      *admin;
    ngx_http_hybrid_ctx_t        *ctx;      /* of the request that is not */
    ngx_str_t                     asked;    /* the model, as it was asked for */
    ngx_http_hybrid_route_t      *route;
    ngx_array_t                   notes;    /* ngx_http_hybrid_note_t */

    ngx_http_hybrid_explain_e     verdict;
    ngx_uint_t                    status;
    ngx_http_hybrid_candidate_t  *cand;     /* that answers */

    u_char                       *pos;
    u_char                       *end;
} ngx_http_hybrid_explain_t;


/* route/ngx_http_hybrid_explain_view.c: the answer */
ngx_int_t ngx_http_hybrid_explain_show(ngx_http_hybrid_explain_t *ex);

/* methods are bits of nginx's */
const ngx_http_hybrid_endpoint_t *ngx_http_hybrid_endpoint_lookup(
    ngx_uint_t method, ngx_str_t *path, ngx_uint_t *methods);

ngx_int_t ngx_http_hybrid_policy_verb(ngx_http_hybrid_ctx_t *ctx);

/* a prompt of so many bytes */
ngx_int_t ngx_http_hybrid_size_of(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, off_t total);

/* NULL: none, which the second one then says, too */
ngx_http_hybrid_route_t *ngx_http_hybrid_route_match(
    ngx_http_hybrid_ctx_t *ctx);
ngx_int_t ngx_http_hybrid_route_collect(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_http_hybrid_route_t *route,
    ngx_http_hybrid_seek_t *seek);

/* what is said when nobody was there; ctx gets the reason and the message */
ngx_uint_t ngx_http_hybrid_refusal_nobody(ngx_http_hybrid_ctx_t *ctx);


#endif /* _NGX_HTTP_HYBRID_EXPLAIN_H_INCLUDED_ */
