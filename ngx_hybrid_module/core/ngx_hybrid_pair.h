
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * What is known of a model on a backend, in shared memory: the time to its
 * first token of late, and a circuit breaker.  There are as many entries as
 * the zone has room for; a new pair takes the place of the one that was used
 * least recently of four.  Times are ngx_current_msec.
 */


#ifndef _NGX_HYBRID_PAIR_H_INCLUDED_
#define _NGX_HYBRID_PAIR_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_hybrid_window.h"


/* failures in a row that open the breaker */
#define NGX_HYBRID_PAIR_FAILS  3

/* msec that it is open, doubled each time that it does not help */
#define NGX_HYBRID_PAIR_OPEN   10000
#define NGX_HYBRID_PAIR_MAX    300000

/* msec, how exact "answered" is */
#define NGX_HYBRID_PAIR_ANSWERED  100

#define NGX_HYBRID_PAIR_TEXT   400


typedef struct {
    ngx_atomic_t               used;     /* msec */
    ngx_atomic_t               ttft;     /* usec, moving average, 0: none */
    ngx_atomic_t               answered; /* msec, the last that was well */
    ngx_atomic_t               service;  /* usec, the same of whole answers */
    ngx_atomic_t               fails;    /* in a row */
    ngx_atomic_t               open;     /* msec until, 0: closed */
    ngx_atomic_t               opened;   /* times in a row */
    ngx_atomic_t               trying;   /* one was let through */
    ngx_atomic_t               who;      /* failed last, 0: nobody */
    ngx_atomic_t               cold;     /* starts: the model was loaded */
    ngx_atomic_t               loaded;   /* msec, the last of those ended */
    ngx_hybrid_window_t        window;   /* of those */
    uint32_t                   hash;
    u_short                    backend;  /* lengths of the key's parts */
    u_short                    model;
    u_char                     key[NGX_HYBRID_PAIR_TEXT];
} ngx_hybrid_pair_t;


typedef struct {
    ngx_uint_t                 n;        /* a power of two, at least 4 */
    ngx_hybrid_pair_t          pairs[1];
} ngx_hybrid_pairs_t;


/* bytes for at most "room" bytes, and how many pairs that is */
size_t ngx_hybrid_pairs_size(size_t room, ngx_uint_t *n);
void ngx_hybrid_pairs_init(ngx_hybrid_pairs_t *pairs, ngx_uint_t n);

/*
 * NULL: not known.  With the mutex that guards the table it is made; NULL
 * then only for names that are too long.
 */
ngx_hybrid_pair_t *ngx_hybrid_pair_find(ngx_hybrid_pairs_t *pairs,
    ngx_str_t *backend, ngx_str_t *model);
ngx_hybrid_pair_t *ngx_hybrid_pair_make(ngx_hybrid_pairs_t *pairs,
    ngx_shmtx_t *mutex, ngx_str_t *backend, ngx_str_t *model);

/* a first token came after so many usec: the average goes an eighth there */
void ngx_hybrid_pair_token(ngx_hybrid_pair_t *pair, uint64_t usec);

/* any such average in shared memory */
void ngx_hybrid_pair_average(ngx_atomic_t *average, uint64_t usec);

void ngx_hybrid_pair_passed(ngx_hybrid_pair_t *pair);

/*
 * who: not 0, of the client when it may be its request that fails: such
 * failures in a row count once a client.  1: the breaker has been opened.
 */
ngx_uint_t ngx_hybrid_pair_failed(ngx_hybrid_pair_t *pair,
    ngx_atomic_uint_t who);

/*
 * msec that the breaker is still open, 0: closed.  "ask": the caller goes to
 * the backend if it is 0; when an open one is due to be tried, that is one
 * caller's alone.
 */
ngx_msec_t ngx_hybrid_pair_open(ngx_hybrid_pair_t *pair, ngx_uint_t ask);

void ngx_hybrid_pair_labels(ngx_hybrid_pair_t *pair, ngx_str_t *backend,
    ngx_str_t *model);


#endif /* _NGX_HYBRID_PAIR_H_INCLUDED_ */
