
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Between the files of the catalogue, and the probes that fill it.
 */


#ifndef _NGX_HTTP_HYBRID_CATALOGUE_LIST_H_INCLUDED_
#define _NGX_HTTP_HYBRID_CATALOGUE_LIST_H_INCLUDED_


#include "ngx_http_hybrid_catalogue.h"
#include "ngx_http_hybrid_probe.h"
#include "ngx_hybrid_list.h"


/* models of a backend, and those that it has no more but had */
#define NGX_HTTP_HYBRID_CATALOGUE_MAX   10000
#define NGX_HTTP_HYBRID_CATALOGUE_GONE  1000


typedef struct {
    ngx_hybrid_doc_t              *doc;

    /* of this worker */
    ngx_atomic_uint_t              seen;     /* its generation */
    ngx_pool_t                    *pool;
    ngx_pool_t                    *last;     /* of the one before */
    ngx_uint_t                     n;
    ngx_uint_t                     mask;
    uint32_t                       seed;
    uint32_t                      *slots;    /* index of the entry + 1 */
    ngx_http_hybrid_entry_t       *entries;
    unsigned                       known:1;  /* there is a list */
} ngx_http_hybrid_table_t;


struct ngx_http_hybrid_catalogue_s {
    ngx_http_hybrid_main_conf_t   *conf;
    ngx_http_hybrid_table_t        models;
    ngx_http_hybrid_table_t        running;
    ngx_http_hybrid_table_t        version;
};


/* another table, if there is a newer document */
void ngx_http_hybrid_table_renew(ngx_http_hybrid_catalogue_t *catalogue,
    ngx_http_hybrid_table_t *table);
void ngx_http_hybrid_table_free(ngx_http_hybrid_table_t *table);

/* of a path that has answered: its list, and what else there is to ask */
void ngx_http_hybrid_catalogue_take(ngx_http_hybrid_ask_t *ask,
    ngx_hybrid_fetch_t *f);

/* the turn has ended */
void ngx_http_hybrid_catalogue_judge(ngx_http_hybrid_turn_t *turn);


#endif /* _NGX_HTTP_HYBRID_CATALOGUE_LIST_H_INCLUDED_ */
