
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Gets a document again and again, by the worker whose turn it is: before it
 * is too old, and with growing pauses while that fails.  What is shared is
 * in the document, and so survives a reload.
 */


#ifndef _NGX_HYBRID_GETTER_H_INCLUDED_
#define _NGX_HYBRID_GETTER_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_hybrid_doc.h"
#include "ngx_hybrid_fetch.h"


#define NGX_HYBRID_GETTER_ERROR  NGX_HYBRID_DOC_ERROR


typedef struct ngx_hybrid_getter_s   ngx_hybrid_getter_t;
typedef struct ngx_hybrid_getters_s  ngx_hybrid_getters_t;


/* what the handler makes of an answer, which was 200 */

typedef struct {
    ngx_str_t                  text;     /* to publish, or an error: its own */
    ngx_msec_t                 next;     /* the next turn is in so many */
    u_char                     error[NGX_HYBRID_GETTER_ERROR];
} ngx_hybrid_getter_answer_t;


/*
 * NGX_OK: a->text, which is the body if nothing else was put there, takes
 * the place of the document.  NGX_ERROR: a->text is in a->error and says
 * why not.
 */
typedef ngx_int_t (*ngx_hybrid_getter_pt)(void *data, ngx_hybrid_fetch_t *f,
    ngx_hybrid_getter_answer_t *a);

/* whether a "not modified" would do, in this worker too */
typedef ngx_uint_t (*ngx_hybrid_getter_has_pt)(void *data);


struct ngx_hybrid_getter_s {
    ngx_str_t                  name;     /* for the log */
    ngx_hybrid_fetch_target_t  target;
    ngx_str_t                  headers;  /* lines, each with its CRLF */
    size_t                     max;
    ngx_msec_t                 timeout;
    ngx_msec_t                 refresh;  /* 0: as the handler says */
    ngx_msec_t                 retry;    /* the longest pause after a fault */
    ngx_msec_t                 stale;    /* 0: the document stays */
    ngx_hybrid_getter_pt       handler;
    ngx_hybrid_getter_has_pt   has;      /* NULL: no conditional requests */
    void                      *data;

    ngx_hybrid_doc_t          *doc;      /* set when the zone is there */

    /* of this worker */
    ngx_hybrid_getters_t      *getters;
    ngx_hybrid_fetch_t        *fetch;
    unsigned                   tagged:1; /* asked by the document's tag */
};


struct ngx_hybrid_getters_s {
    ngx_array_t                list;     /* ngx_hybrid_getter_t * */
    ngx_hybrid_shm_t          *shm;
    ngx_event_t                timer;
    ngx_connection_t           dummy;
    ngx_log_t                 *log;
};


/* at configuration; NULL: no memory.  The caller fills in the fields */
ngx_hybrid_getter_t *ngx_hybrid_getter_add(ngx_hybrid_getters_t *getters,
    ngx_conf_t *cf);

/* in a worker; does nothing when there is nothing to get */
void ngx_hybrid_getters_start(ngx_hybrid_getters_t *getters,
    ngx_hybrid_shm_t *shm, ngx_cycle_t *cycle);
void ngx_hybrid_getters_stop(ngx_hybrid_getters_t *getters);

/* it is due: this worker looks at once */
void ngx_hybrid_getter_wanted(ngx_hybrid_getter_t *g);


#endif /* _NGX_HYBRID_GETTER_H_INCLUDED_ */
