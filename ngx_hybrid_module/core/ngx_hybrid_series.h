
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Series: what is counted for each (client, backend, model), in the zone and
 * for all workers.  A series has plain counts, and tables of counters: the
 * histograms of its timers, in microseconds, and why requests were refused or
 * moved on.  A table is a row of octaves, 16 counters each, that get memory
 * when the first of them is used: most series use a few.
 *
 * Series never move or vanish, and numbers only grow, by atomic operations;
 * the zone's mutex is held only to add a series or an octave.
 */


#ifndef _NGX_HYBRID_SERIES_H_INCLUDED_
#define _NGX_HYBRID_SERIES_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_hybrid_compat.h"
#include "ngx_hybrid_histogram.h"


#define NGX_HYBRID_LABEL_MAX   64
#define NGX_HYBRID_SERIES_KEY  (2 * NGX_HYBRID_LABEL_MAX + 264 + 2)

/* counters of an octave, and octaves of a table */
#define NGX_HYBRID_OCTAVE      NGX_HYBRID_HISTOGRAM_SUB
#define NGX_HYBRID_OCTAVES     (NGX_HYBRID_HISTOGRAM_BUCKETS                  \
                                / NGX_HYBRID_HISTOGRAM_SUB)


/* all numbers of enumerations are fields in Redis: new ones come last */

typedef enum {
    ngx_hybrid_outcome_ok = 0,
    ngx_hybrid_outcome_client_error,   /* the backend said 4xx */
    ngx_hybrid_outcome_backend_error,  /* the backend said 5xx, or nothing */
    ngx_hybrid_outcome_broken,         /* a begun answer did not end */
    ngx_hybrid_outcome_client_closed,
    ngx_hybrid_outcome_unauthorized,   /* 401 */
    ngx_hybrid_outcome_denied,         /* 400, 403, 404, 413, 415 */
    ngx_hybrid_outcome_limited,        /* 429 */
    ngx_hybrid_outcome_unavailable,    /* 503 */
    ngx_hybrid_outcome_n
} ngx_hybrid_outcome_e;


/* refusals that "hybrid_shadow" may let through */

typedef enum {
    ngx_hybrid_shadow_unauthenticated = 0,
    ngx_hybrid_shadow_verb,
    ngx_hybrid_shadow_model_denied,
    ngx_hybrid_shadow_keep_alive,
    ngx_hybrid_shadow_options,
    ngx_hybrid_shadow_rate_limited,
    ngx_hybrid_shadow_limits_unavailable,
    ngx_hybrid_shadow_tokens_limited,
    ngx_hybrid_shadow_budget_exceeded,
    ngx_hybrid_shadow_concurrency_limited,
    ngx_hybrid_shadow_n
} ngx_hybrid_shadow_e;


/* counts of a series: outcomes, then these */

#define NGX_HYBRID_COUNT_FALLBACKS  ngx_hybrid_outcome_n
#define NGX_HYBRID_COUNT_SHADOWED   (ngx_hybrid_outcome_n + 1)
#define NGX_HYBRID_COUNT_COLD       (NGX_HYBRID_COUNT_SHADOWED                \
                                     + ngx_hybrid_shadow_n)
#define NGX_HYBRID_COUNT_RETRIES    (NGX_HYBRID_COUNT_COLD + 1)
#define NGX_HYBRID_COUNT_INPUT      (NGX_HYBRID_COUNT_COLD + 2)  /* tokens */
#define NGX_HYBRID_COUNT_OUTPUT     (NGX_HYBRID_COUNT_COLD + 3)
#define NGX_HYBRID_COUNT_BODY       (NGX_HYBRID_COUNT_COLD + 4)  /* msec */
#define NGX_HYBRID_COUNT_FAILED     (NGX_HYBRID_COUNT_COLD + 5)  /* msec */
#define NGX_HYBRID_COUNT_WAIT       (NGX_HYBRID_COUNT_COLD + 6)  /* msec */
#define NGX_HYBRID_COUNTS           (NGX_HYBRID_COUNT_COLD + 7)


typedef enum {
    ngx_hybrid_timer_total = 0,
    ngx_hybrid_timer_first_byte,
    ngx_hybrid_timer_connect,
    ngx_hybrid_timer_queue,
    ngx_hybrid_timer_load,
    ngx_hybrid_timer_prompt,
    ngx_hybrid_timer_first_token,
    ngx_hybrid_timer_token,            /* for each of the answer */
    ngx_hybrid_timer_n
} ngx_hybrid_timer_e;


/* tables: the timers, then codes of reasons */

#define ngx_hybrid_table_refusals   ngx_hybrid_timer_n
#define ngx_hybrid_table_fallbacks  (ngx_hybrid_timer_n + 1)
#define ngx_hybrid_tables           (ngx_hybrid_timer_n + 2)


/*
 * Redis has confirmed what is in "sent"; "packet" is on its way, see the
 * series.  Only differences are used, so that a counter may wrap.
 */

typedef struct {
    ngx_hybrid_atomic32_t      now[NGX_HYBRID_OCTAVE];
    uint32_t                   packet[NGX_HYBRID_OCTAVE];
    uint32_t                   sent[NGX_HYBRID_OCTAVE];
} ngx_hybrid_octave_t;


typedef struct {
    ngx_atomic_t               counts[NGX_HYBRID_COUNTS];
    ngx_atomic_t               sums[ngx_hybrid_timer_n];   /* microseconds */
} ngx_hybrid_numbers_t;


/*
 * While "sending", what is called packet is on its way to Redis under
 * "sequence", and may be sent again as it is, by another worker too.
 */

typedef struct {
    uint32_t                   hash;
    u_short                    client;     /* lengths of the key's parts */
    u_short                    backend;
    u_short                    model;
    u_char                     key[NGX_HYBRID_SERIES_KEY];
    ngx_atomic_t               sequence;
    ngx_atomic_t               sending;
    ngx_hybrid_numbers_t       now;
    ngx_hybrid_numbers_t       packet;
    ngx_hybrid_numbers_t       sent;

    /* their numbers + 1; zero: not used yet */
    uint32_t                   octaves[ngx_hybrid_tables]
                                      [NGX_HYBRID_OCTAVES];
} ngx_hybrid_series_t;


typedef struct {
    ngx_slab_pool_t           *shpool;
    ngx_uint_t                 max;        /* series there is room for */
    ngx_atomic_t               n;
    ngx_uint_t                 nslots;
    ngx_atomic_t              *slots;      /* index of the series + 1 */
    ngx_hybrid_series_t       *elts;
    ngx_uint_t                 max_octaves;
    ngx_uint_t                 most;       /* octaves, for a new series */
    ngx_atomic_t               noctaves;
    ngx_atomic_t               misplaced;
    ngx_hybrid_octave_t       *octaves;
} ngx_hybrid_series_sh_t;


/* in about that many bytes of the zone */
ngx_int_t ngx_hybrid_series_init(ngx_hybrid_series_sh_t *sh,
    ngx_slab_pool_t *shpool, size_t size);

/*
 * The series of a (client, backend, model), made when it is new.  When there
 * is no room for another, that of the model "other", at last that of
 * ("other", "other", "other"), which always exists.
 */
ngx_hybrid_series_t *ngx_hybrid_series_get(ngx_hybrid_series_sh_t *sh,
    ngx_str_t *client, ngx_str_t *backend, ngx_str_t *model);

/*
 * When there is no memory for another octave they are counted in the series
 * ("other", "other", "other"), and as "misplaced".  A quarter of all octaves
 * is kept for the series that are there, so that this hardly happens.
 */
void ngx_hybrid_series_count(ngx_hybrid_series_sh_t *sh,
    ngx_hybrid_series_t *series, ngx_uint_t table, ngx_uint_t bucket);
void ngx_hybrid_series_time(ngx_hybrid_series_sh_t *sh,
    ngx_hybrid_series_t *series, ngx_hybrid_timer_e timer, uint64_t us);

/* NULL: all of its counters are zero */
ngx_hybrid_octave_t *ngx_hybrid_series_octave(ngx_hybrid_series_sh_t *sh,
    ngx_hybrid_series_t *series, ngx_uint_t table, ngx_uint_t octave);

/* the parts of a series' key */
void ngx_hybrid_series_labels(ngx_hybrid_series_t *series, ngx_str_t *client,
    ngx_str_t *backend, ngx_str_t *model);


#endif /* _NGX_HYBRID_SERIES_H_INCLUDED_ */
