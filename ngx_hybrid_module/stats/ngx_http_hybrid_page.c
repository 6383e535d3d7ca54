
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * The operator's page: a document without data.  Its script asks the same
 * location for them.
 */


#include "ngx_http_hybrid_page.h"
#include "ngx_hybrid_compat.h"


static ngx_table_elt_t *ngx_http_hybrid_page_header(ngx_http_request_t *r,
    ngx_str_t *name, ngx_str_t *value);


static ngx_str_t  ngx_http_hybrid_page_headers[][2] = {

    { ngx_string("X-Content-Type-Options"), ngx_string("nosniff") },
    { ngx_string("Referrer-Policy"), ngx_string("no-referrer") },

    /* to be asked for each time, and answered with 304 */
    { ngx_string("Cache-Control"), ngx_string("no-cache") },

    { ngx_null_string, ngx_null_string }
};


ngx_int_t
ngx_http_hybrid_page_send(ngx_http_request_t *r)
{
    ngx_str_t                  type, name, (*header)[2];
    ngx_http_complex_value_t   cv;

    for (header = ngx_http_hybrid_page_headers; (*header)[0].len; header++) {

        if (ngx_http_hybrid_page_header(r, &(*header)[0], &(*header)[1])
            == NULL)
        {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
    }

    ngx_str_set(&name, "Content-Security-Policy");

    if (ngx_http_hybrid_page_header(r, &name, &ngx_http_hybrid_page_policy)
        == NULL)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_str_set(&name, "ETag");

    r->headers_out.etag = ngx_http_hybrid_page_header(r, &name,
                                                &ngx_http_hybrid_page_etag);
    if (r->headers_out.etag == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_memzero(&cv, sizeof(ngx_http_complex_value_t));
    cv.value = ngx_http_hybrid_page_text;

    ngx_str_set(&type, "text/html; charset=utf-8");

    return ngx_http_send_response(r, NGX_HTTP_OK, &type, &cv);
}


static ngx_table_elt_t *
ngx_http_hybrid_page_header(ngx_http_request_t *r, ngx_str_t *name,
    ngx_str_t *value)
{
    ngx_table_elt_t  *h;

    h = ngx_list_push(&r->headers_out.headers);
    if (h == NULL) {
        return NULL;
    }

    h->hash = 1;
    h->key = *name;
    h->value = *value;
    ngx_hybrid_header_single(h);

    return h;
}
