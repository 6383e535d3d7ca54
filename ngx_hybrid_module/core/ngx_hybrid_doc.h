
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * A document that one worker of the gateway gets for all of them, and again
 * from time to time: a key set, an access token, a list.  It lives in the
 * shared memory under a name, so that a reload goes on with it.  A worker
 * sees by "generation", without a lock, that there is a newer one than the
 * one it has made something of.
 */


#ifndef _NGX_HYBRID_DOC_H_INCLUDED_
#define _NGX_HYBRID_DOC_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_hybrid_shm.h"


#define NGX_HYBRID_DOC_NAME   128
#define NGX_HYBRID_DOC_ERROR  256
#define NGX_HYBRID_DOC_TAG    128


typedef struct ngx_hybrid_doc_s  ngx_hybrid_doc_t;

struct ngx_hybrid_doc_s {
    ngx_hybrid_doc_t          *next;
    ngx_atomic_t               generation;  /* 0: there was never one */
    ngx_atomic_t               due;         /* of the next turn, msec */
    ngx_atomic_t               busy;        /* a turn ends by then, msec or 0 */
    ngx_atomic_t               loaded;      /* or found unchanged, msec */
    ngx_atomic_t               tried;       /* the last turn began, msec */
    ngx_atomic_t               failures;    /* in a row */
    u_char                    *data;        /* this and below: by the mutex */
    size_t                     len;
    size_t                     room;
    u_short                    nerror;
    u_short                    ntag;
    u_short                    nname;
    u_char                     error[NGX_HYBRID_DOC_ERROR];
    u_char                     tag[NGX_HYBRID_DOC_TAG];
    u_char                     name[NGX_HYBRID_DOC_NAME];
};


/* found by name, or made: due at once.  NULL: no memory left in the zone */
ngx_hybrid_doc_t *ngx_hybrid_doc(ngx_hybrid_shm_t *shm, ngx_str_t *name);

/*
 * 1: the document is due and the caller alone is to get it.  Should it die,
 * the turn is another's after "hold" msec.  It ends with one of the three
 * below, which say in how many msec the next one is due.
 */
ngx_uint_t ngx_hybrid_doc_turn(ngx_hybrid_doc_t *doc, ngx_msec_t hold);

/* NGX_ERROR: no memory left in the zone, the old one stays */
ngx_int_t ngx_hybrid_doc_publish(ngx_hybrid_shm_t *shm, ngx_hybrid_doc_t *doc,
    ngx_str_t *text, ngx_msec_t next);
void ngx_hybrid_doc_unchanged(ngx_hybrid_shm_t *shm, ngx_hybrid_doc_t *doc,
    ngx_msec_t next);
void ngx_hybrid_doc_failed(ngx_hybrid_shm_t *shm, ngx_hybrid_doc_t *doc,
    ngx_str_t *error, ngx_msec_t next);

/* the turn ends without a result: another worker takes it */
void ngx_hybrid_doc_release(ngx_hybrid_doc_t *doc);

/*
 * What the server calls the version that was published last, such as an
 * ETag: set right after that, forgotten with the document, empty if it is
 * not known or too long.  buf is of NGX_HYBRID_DOC_TAG.
 */
void ngx_hybrid_doc_set_tag(ngx_hybrid_shm_t *shm, ngx_hybrid_doc_t *doc,
    ngx_str_t *tag);
size_t ngx_hybrid_doc_tag(ngx_hybrid_shm_t *shm, ngx_hybrid_doc_t *doc,
    u_char *buf);

/*
 * A turn is wanted now, but not sooner than "cooldown" msec after the last
 * one began.  1: it is due.
 */
ngx_uint_t ngx_hybrid_doc_want(ngx_hybrid_doc_t *doc, ngx_msec_t cooldown);

/* the next turn is due at most "age" msec after the last one began */
void ngx_hybrid_doc_within(ngx_hybrid_doc_t *doc, ngx_msec_t age);

/* the document is no more: its owner counts it as too old.  1: it was there */
ngx_uint_t ngx_hybrid_doc_drop(ngx_hybrid_shm_t *shm, ngx_hybrid_doc_t *doc);

/*
 * A copy in pool, and its generation; NGX_DECLINED: there is none, and the
 * generation says since when; NGX_ERROR: no memory.
 */
ngx_int_t ngx_hybrid_doc_read(ngx_hybrid_shm_t *shm, ngx_hybrid_doc_t *doc,
    ngx_pool_t *pool, ngx_str_t *text, ngx_atomic_uint_t *generation);

/* the last turn's error, empty if it had none; of NGX_HYBRID_DOC_ERROR */
size_t ngx_hybrid_doc_error(ngx_hybrid_shm_t *shm, ngx_hybrid_doc_t *doc,
    u_char *buf);


#endif /* _NGX_HYBRID_DOC_H_INCLUDED_ */
