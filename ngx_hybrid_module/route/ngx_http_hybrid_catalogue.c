
/*
 * Copyright (C) the ngx_hybrid_module authors
 */


#include "ngx_http_hybrid_catalogue.h"


ngx_http_hybrid_has_e
ngx_http_hybrid_catalogue_has(ngx_http_hybrid_backend_t *backend,
    ngx_hybrid_model_t *model)
{
    return backend->catalogue ? ngx_http_hybrid_has_unknown
                              : ngx_http_hybrid_has_it;
}


ngx_uint_t
ngx_http_hybrid_catalogue_loaded(ngx_http_hybrid_backend_t *backend,
    ngx_hybrid_model_t *model)
{
    return 0;
}


ngx_uint_t
ngx_http_hybrid_catalogue_remote(ngx_http_hybrid_backend_t *backend,
    ngx_hybrid_model_t *model)
{
    return 0;
}


void
ngx_http_hybrid_catalogue_missed(ngx_http_hybrid_backend_t *backend)
{
}


ngx_http_hybrid_entry_t *
ngx_http_hybrid_catalogue_models(ngx_http_hybrid_backend_t *backend,
    ngx_uint_t *n)
{
    *n = 0;
    return NULL;
}


ngx_http_hybrid_entry_t *
ngx_http_hybrid_catalogue_running(ngx_http_hybrid_backend_t *backend,
    ngx_uint_t *n)
{
    *n = 0;
    return NULL;
}


ngx_str_t
ngx_http_hybrid_catalogue_version(ngx_http_hybrid_backend_t *backend)
{
    ngx_str_t  none = ngx_null_string;

    return none;
}
