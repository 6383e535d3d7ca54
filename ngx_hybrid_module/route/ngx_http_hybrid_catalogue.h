
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * What the backends really serve: their own lists of models, got by probes.
 */


#ifndef _NGX_HTTP_HYBRID_CATALOGUE_H_INCLUDED_
#define _NGX_HTTP_HYBRID_CATALOGUE_H_INCLUDED_


#include "ngx_http_hybrid_module.h"


typedef enum {
    ngx_http_hybrid_has_not = 0,
    ngx_http_hybrid_has_unknown,      /* no list has come so far */
    ngx_http_hybrid_has_gone,         /* it was on the list once */
    ngx_http_hybrid_has_it
} ngx_http_hybrid_has_e;


/* by the list of this worker, which is renewed when there is another one */
ngx_http_hybrid_has_e ngx_http_hybrid_catalogue_has(
    ngx_http_hybrid_backend_t *backend, ngx_hybrid_model_t *model);

/* it is in the backend's memory */
ngx_uint_t ngx_http_hybrid_catalogue_loaded(
    ngx_http_hybrid_backend_t *backend, ngx_hybrid_model_t *model);

/* the backend itself sends it elsewhere: prompts leave the premises */
ngx_uint_t ngx_http_hybrid_catalogue_remote(
    ngx_http_hybrid_backend_t *backend, ngx_hybrid_model_t *model);

/* the backend did not have what is on its list: look again soon */
void ngx_http_hybrid_catalogue_missed(ngx_http_hybrid_backend_t *backend);


#endif /* _NGX_HTTP_HYBRID_CATALOGUE_H_INCLUDED_ */
