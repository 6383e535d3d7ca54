
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * TLS to a backend.
 */


#ifndef _NGX_HTTP_HYBRID_CERTIFICATE_H_INCLUDED_
#define _NGX_HTTP_HYBRID_CERTIFICATE_H_INCLUDED_


#include "ngx_http_hybrid_module.h"


/* the arguments of a "client_certificate" line */
char *ngx_http_hybrid_certificate(ngx_conf_t *cf,
    ngx_http_hybrid_backend_t *backend);

/* before the handshake of a connection to the backend */
ngx_int_t ngx_http_hybrid_certificate_set(ngx_http_hybrid_certificate_t *hc,
    ngx_connection_t *c);
ngx_uint_t ngx_http_hybrid_certificate_changed(
    ngx_http_hybrid_certificate_t *hc);

/* seconds that it is still valid; NGX_ERROR: that can't be told */
ngx_int_t ngx_http_hybrid_certificate_left(ngx_http_hybrid_certificate_t *hc,
    time_t *left);

ngx_uint_t ngx_http_hybrid_certificate_same(
    ngx_http_hybrid_certificate_t *one, ngx_http_hybrid_certificate_t *two);

/* what a location lacks to reach the backend, or NULL */
const char *ngx_http_hybrid_certificate_fault(
    ngx_http_hybrid_backend_t *backend, ngx_http_upstream_conf_t *conf);


#endif /* _NGX_HTTP_HYBRID_CERTIFICATE_H_INCLUDED_ */
