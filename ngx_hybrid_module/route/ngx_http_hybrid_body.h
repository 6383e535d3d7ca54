
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * What a backend's body has in place of the client's.
 */


#ifndef _NGX_HTTP_HYBRID_BODY_H_INCLUDED_
#define _NGX_HTTP_HYBRID_BODY_H_INCLUDED_


#include "ngx_http_hybrid_module.h"


#define NGX_HTTP_HYBRID_EDITS  2


/* bytes [start, end) of the body give way to a text */

typedef struct {
    off_t                          start;
    off_t                          end;
    ngx_str_t                      text;
} ngx_http_hybrid_edit_t;


/* the value of the model's key; NGX_ERROR: it can't be replaced */
ngx_int_t ngx_http_hybrid_body_name(ngx_http_hybrid_ctx_t *ctx,
    ngx_str_t *name, ngx_http_hybrid_edit_t *edit);

/*
 * Makes up to NGX_HTTP_HYBRID_EDITS of them, in any order.  The new body is
 * left in r->request_body->bufs and its length in content_length_n, the
 * caller keeps the old ones.
 */
ngx_int_t ngx_http_hybrid_body_splice(ngx_http_request_t *r,
    ngx_http_hybrid_edit_t *edits, ngx_uint_t n);

/* copies what is at an offset; returns how much, zero: the body ends there */
ssize_t ngx_http_hybrid_body_peek(ngx_http_request_t *r, off_t start,
    u_char *buf, size_t size);


#endif /* _NGX_HTTP_HYBRID_BODY_H_INCLUDED_ */
