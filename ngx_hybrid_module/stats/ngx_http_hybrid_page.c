
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * The operator's page: a document without data.  Its script asks the same
 * location for them.
 */


#include "ngx_http_hybrid_module.h"
#include "ngx_http_hybrid_page.h"


typedef struct {
    const char                *name;
    ngx_str_t                  value;
} ngx_http_hybrid_page_header_t;


static ngx_http_hybrid_page_header_t  ngx_http_hybrid_page_headers[] = {

    { "X-Content-Type-Options", ngx_string("nosniff") },
    { "Referrer-Policy", ngx_string("no-referrer") },

    /* to be asked for each time, and answered with 304 */
    { "Cache-Control", ngx_string("no-cache") },

    { NULL, ngx_null_string }
};


ngx_int_t
ngx_http_hybrid_page_send(ngx_http_request_t *r)
{
    ngx_str_t                       type;
    ngx_http_complex_value_t        cv;
    ngx_http_hybrid_page_header_t  *header;

    for (header = ngx_http_hybrid_page_headers; header->name; header++) {

        if (ngx_http_hybrid_add_header(r, header->name, &header->value)
            == NULL)
        {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
    }

    if (ngx_http_hybrid_add_header(r, "Content-Security-Policy",
                                   &ngx_http_hybrid_page_policy)
        == NULL)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    r->headers_out.etag = ngx_http_hybrid_add_header(r, "ETag",
                                                &ngx_http_hybrid_page_etag);
    if (r->headers_out.etag == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_memzero(&cv, sizeof(ngx_http_complex_value_t));
    cv.value = ngx_http_hybrid_page_text;

    ngx_str_set(&type, "text/html; charset=utf-8");

    return ngx_http_send_response(r, NGX_HTTP_OK, &type, &cv);
}
