
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * The access token of a service account of the virtual machine.
 */


#ifndef _NGX_HTTP_HYBRID_GCE_H_INCLUDED_
#define _NGX_HTTP_HYBRID_GCE_H_INCLUDED_


#include "ngx_http_hybrid_module.h"


#define NGX_HTTP_HYBRID_GCE_TOKEN  4096


struct ngx_http_hybrid_gce_s {
    ngx_str_t                  server;
    ngx_str_t                  account;
    ngx_http_hybrid_place_t    place;
    ngx_str_t                  doc_name;
    ngx_hybrid_getter_t       *getter;

    /* of this worker, and of the document's generation "seen" */
    ngx_atomic_uint_t          seen;
    ngx_msec_t                 expires;
    ngx_str_t                  value;      /* of the header, in text */
    unsigned                   missing:1;  /* said so in the log */
    u_char                     text[sizeof("Bearer ") - 1
                                    + NGX_HTTP_HYBRID_GCE_TOKEN];
};


/* as ngx_http_hybrid_gce_ready(), for who only looks: nothing is logged */
ngx_uint_t ngx_http_hybrid_gce_valid(ngx_http_hybrid_gce_t *gce,
    ngx_log_t *log);


#endif /* _NGX_HTTP_HYBRID_GCE_H_INCLUDED_ */
