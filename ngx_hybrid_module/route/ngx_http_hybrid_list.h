
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Lists of models that the gateway answers itself: what is on them, and how
 * they are written.
 */


#ifndef _NGX_HTTP_HYBRID_LIST_H_INCLUDED_
#define _NGX_HTTP_HYBRID_LIST_H_INCLUDED_


#include "ngx_http_hybrid_module.h"
#include "ngx_http_hybrid_catalogue.h"


typedef enum {
    ngx_http_hybrid_list_tags = 0,    /* /api/tags */
    ngx_http_hybrid_list_ps,          /* /api/ps */
    ngx_http_hybrid_list_openai       /* /v1/models */
} ngx_http_hybrid_list_e;


typedef struct {
    ngx_str_t                   key;      /* canonical */
    ngx_str_t                   name;     /* by which it is asked for */
    uint32_t                    hash;
    ngx_uint_t                  rank;     /* of the backend in its route */
    ngx_uint_t                  renamed;
    ngx_http_hybrid_backend_t  *backend;  /* NULL: a virtual model */
    ngx_http_hybrid_entry_t    *entry;    /* the backend's own, or NULL */
} ngx_http_hybrid_item_t;


typedef struct {
    ngx_http_request_t         *request;
    ngx_http_hybrid_ctx_t      *ctx;
    ngx_http_hybrid_list_e      kind;

    ngx_http_hybrid_item_t     *items;
    ngx_uint_t                  n;
    ngx_uint_t                  max;
    uint32_t                   *slots;    /* index of the item + 1 */
    uint32_t                    mask;
} ngx_http_hybrid_list_t;


/* route/ngx_http_hybrid_list_view.c */

ngx_int_t ngx_http_hybrid_list_write(ngx_http_hybrid_list_t *list,
    ngx_str_t *text);


#endif /* _NGX_HTTP_HYBRID_LIST_H_INCLUDED_ */
