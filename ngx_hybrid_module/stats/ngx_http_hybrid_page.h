
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * The document that "hybrid_status html" answers; tools/page makes it.
 */


#ifndef _NGX_HTTP_HYBRID_PAGE_H_INCLUDED_
#define _NGX_HTTP_HYBRID_PAGE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>


extern ngx_str_t  ngx_http_hybrid_page_text;
extern ngx_str_t  ngx_http_hybrid_page_etag;
extern ngx_str_t  ngx_http_hybrid_page_policy;


ngx_int_t ngx_http_hybrid_page_send(ngx_http_request_t *r);


#endif /* _NGX_HTTP_HYBRID_PAGE_H_INCLUDED_ */
