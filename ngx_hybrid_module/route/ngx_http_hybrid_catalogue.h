
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

/*
 * It is known not to be there, by the last probe, and has not answered since:
 * msec when it has done so last, or zero.
 */
ngx_uint_t ngx_http_hybrid_catalogue_unloaded(
    ngx_http_hybrid_backend_t *backend, ngx_hybrid_model_t *model,
    ngx_msec_t answered);

/* the backend itself sends it elsewhere: prompts leave the premises */
ngx_uint_t ngx_http_hybrid_catalogue_remote(
    ngx_http_hybrid_backend_t *backend, ngx_hybrid_model_t *model);

/* the backend did not have what is on its list: look again soon */
void ngx_http_hybrid_catalogue_missed(ngx_http_hybrid_backend_t *backend);

/*
 * The lists as they are, for lists of our own: n entries, in the order of the
 * backend.  They are valid until the handler of this event returns.  An
 * "ollama" backend's json is that of /api/tags or /api/ps, another's that of
 * /v1/models; that of a model that is gone is empty.
 */

#define NGX_HTTP_HYBRID_ENTRY_REMOTE  0x01   /* leaves the premises */
#define NGX_HTTP_HYBRID_ENTRY_GONE    0x02   /* not there now */

typedef struct {
    ngx_str_t    name;       /* canonical: as that of ngx_hybrid_model_t */
    ngx_str_t    json;       /* a compact object */
    ngx_uint_t   flags;
    time_t       expires;    /* of loaded ones: wall clock */
    uint32_t     hash;
} ngx_http_hybrid_entry_t;

ngx_http_hybrid_entry_t *ngx_http_hybrid_catalogue_models(
    ngx_http_hybrid_backend_t *backend, ngx_uint_t *n);
ngx_http_hybrid_entry_t *ngx_http_hybrid_catalogue_running(
    ngx_http_hybrid_backend_t *backend, ngx_uint_t *n);

/* the text of "version" in /api/version, empty if it is not known */
ngx_str_t ngx_http_hybrid_catalogue_version(
    ngx_http_hybrid_backend_t *backend);


#endif /* _NGX_HTTP_HYBRID_CATALOGUE_H_INCLUDED_ */
