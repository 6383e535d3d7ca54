
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * The shared memory of one gateway: what its limits and statistics know, for
 * all workers, kept over a reload.  Entries are found by name and never
 * move or vanish, so that a worker may keep a pointer; only clients that
 * nobody uses make room for others.  All numbers are changed by atomic
 * operations, the mutex is held only to add an entry.
 */


#ifndef _NGX_HYBRID_SHM_H_INCLUDED_
#define _NGX_HYBRID_SHM_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_hybrid_histogram.h"
#include "ngx_hybrid_source.h"
#include "ngx_hybrid_pair.h"
#include "ngx_hybrid_meter.h"
#include "ngx_hybrid_cells.h"


#define NGX_HYBRID_SHM_MIN     (512 * 1024)

#define NGX_HYBRID_LABEL_MAX   64
#define NGX_HYBRID_SERIES_KEY  (2 * NGX_HYBRID_LABEL_MAX + 264 + 2)


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


/* refusals that "hybrid_shadow" may let through; they are fields in Redis */

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


/* counters of a series: outcomes, then these */

#define NGX_HYBRID_COUNT_FALLBACKS  ngx_hybrid_outcome_n
#define NGX_HYBRID_COUNT_SHADOWED   (ngx_hybrid_outcome_n + 1)
#define NGX_HYBRID_COUNTS           (NGX_HYBRID_COUNT_SHADOWED                \
                                     + ngx_hybrid_shadow_n)


/* failures to authenticate, by class */

typedef enum {
    ngx_hybrid_failure_missing = 0,
    ngx_hybrid_failure_malformed,      /* broken, or more than one */
    ngx_hybrid_failure_invalid,
    ngx_hybrid_failure_expired,
    ngx_hybrid_failure_revoked,
    ngx_hybrid_failure_n
} ngx_hybrid_failure_e;


typedef enum {
    ngx_hybrid_timer_total = 0,
    ngx_hybrid_timer_first_byte,
    ngx_hybrid_timer_connect,
    ngx_hybrid_timer_n
} ngx_hybrid_timer_e;


typedef struct {
    ngx_atomic_t               counts[NGX_HYBRID_COUNTS];
    ngx_atomic_t               sums[ngx_hybrid_timer_n];   /* microseconds */
    ngx_atomic_t               buckets[ngx_hybrid_timer_n]
                                      [NGX_HYBRID_HISTOGRAM_BUCKETS];
} ngx_hybrid_numbers_t;


/*
 * A state of the numbers.  Only differences are used, so that a bucket may
 * wrap.
 */

typedef struct {
    ngx_atomic_uint_t          counts[NGX_HYBRID_COUNTS];
    ngx_atomic_uint_t          sums[ngx_hybrid_timer_n];
    uint32_t                   buckets[ngx_hybrid_timer_n]
                                      [NGX_HYBRID_HISTOGRAM_BUCKETS];
} ngx_hybrid_mark_t;


/*
 * Numbers only grow.  Redis has confirmed those in "sent"; while "sending",
 * "packet" is on its way under "sequence", and may be sent again as it is,
 * by another worker too.
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
    ngx_hybrid_mark_t          packet;
    ngx_hybrid_mark_t          sent;
} ngx_hybrid_series_t;


/* limits of a client that are leased in units */

typedef enum {
    ngx_hybrid_meter_rate = 0,
    ngx_hybrid_meter_tokens,
    ngx_hybrid_meter_budget,
    ngx_hybrid_meters
} ngx_hybrid_meter_e;


/* workers that may use clients at the same time; more keep theirs for ever */

#define NGX_HYBRID_SHM_WORKERS  256
#define NGX_HYBRID_SHM_BITS     (8 * sizeof(ngx_atomic_t))
#define NGX_HYBRID_SHM_USERS    (NGX_HYBRID_SHM_WORKERS / NGX_HYBRID_SHM_BITS)

typedef struct ngx_hybrid_shm_client_s  ngx_hybrid_shm_client_t;


/* what ngx_hybrid_shm_client.c needs, and nobody else */

typedef struct {
    ngx_hybrid_shm_client_t   *next;      /* of all, it never changes */
    ngx_hybrid_shm_client_t   *chain;     /* of its bucket */
    ngx_uint_t                 n;         /* of all, it never changes */
    ngx_atomic_t               users[NGX_HYBRID_SHM_USERS];
    ngx_atomic_t               idle;      /* msec, of the last use's end */
    ngx_uint_t                 conf;      /* the last that names it, or 0 */
    uint32_t                   hash;
    u_short                    len;
    u_char                     name[NGX_HYBRID_LABEL_MAX];
} ngx_hybrid_shm_entry_t;


/* all but the entry is zero when it becomes another client's */

struct ngx_hybrid_shm_client_s {
    ngx_hybrid_shm_entry_t     entry;
    ngx_hybrid_meter_t         meters[ngx_hybrid_meters];
    ngx_hybrid_cells_t         cells;     /* requests at a time */

    /* of these, what Redis has said: see limit/ngx_http_hybrid_slots.c */
    ngx_atomic_t               slots;     /* and the call that got them */
    ngx_atomic_t               slots_calls;
    ngx_atomic_t               slots_asked;  /* msec, the last call */
    ngx_atomic_t               slots_until;  /* msec, they are ours */
    ngx_atomic_t               slots_dry; /* msec, there are no more before */
    ngx_atomic_t               slots_left;   /* for others */
    ngx_atomic_t               slots_peak;   /* used of late */
    ngx_atomic_t               slots_reaped; /* sec, killed workers' */

    /* the limits as they were written, for those who show them */
    ngx_atomic_t               quotas[ngx_hybrid_meters + 1];  /* and slots */
    ngx_atomic_t               bursts[ngx_hybrid_meters];
    ngx_atomic_t               windows[ngx_hybrid_meters];     /* seconds */

    ngx_atomic_t               output;    /* tokens of an answer, about */
    ngx_atomic_t               warned;    /* budget: period + 1 */
    ngx_atomic_t               reset;     /* in Redis, usec, as we know */
    ngx_atomic_t               checked;   /* msec, whether there is another */
    ngx_atomic_t               refused;   /* Redis can't tell the limit */
    ngx_atomic_t               waits;     /* requests that waited for Redis */
    ngx_atomic_t               refills;
    ngx_atomic_t               local;     /* decided without Redis */
    ngx_atomic_t               clash;     /* with Redis's, was said: a name, */
    ngx_atomic_t               clash_token;                  /* a token's id */
};


typedef struct {
    ngx_hybrid_shm_client_t   *client;
    size_t                     len;
    u_char                     name[NGX_HYBRID_LABEL_MAX];
} ngx_hybrid_shm_other_t;


typedef struct {
    ngx_hybrid_shm_client_t   *all;
    ngx_hybrid_shm_client_t   *hand;      /* where to look for an idle one */
    ngx_hybrid_shm_client_t  **buckets;
    ngx_uint_t                 nbuckets;
    ngx_atomic_t               n;         /* that were ever made */
    ngx_atomic_t               reused;
    ngx_atomic_t               wanted;    /* msec, there was none, or 0 */
    ngx_uint_t                 conf;      /* configurations that were read */
    ngx_atomic_t               current;   /* the one that workers have */
    ngx_atomic_t               pids[NGX_HYBRID_SHM_WORKERS];
} ngx_hybrid_shm_clients_t;


typedef struct {
    uint64_t                   magic;
    uint64_t                   size;
    u_char                     id[16];    /* this gateway's, random hex */
    ngx_hybrid_shm_clients_t   clients;
    struct ngx_hybrid_doc_s   *docs;
    struct ngx_hybrid_health_s  *healths;
    ngx_atomic_t               health_generation;
    ngx_hybrid_pairs_t        *pairs;     /* models on backends */
    struct ngx_hybrid_lever_node_s  *levers;    /* of operators */
    struct ngx_hybrid_line_s  *line;      /* of who waits, NULL: nobody may */
    ngx_atomic_t               flush_due; /* msec */
    ngx_atomic_t               flushes;
    ngx_uint_t                 max;       /* series there is room for */
    ngx_atomic_t               nseries;
    ngx_uint_t                 nslots;
    ngx_atomic_t              *slots;     /* index of the series + 1 */
    ngx_hybrid_series_t       *series;
    ngx_hybrid_sources_t      *sources;   /* of failures to authenticate */
    ngx_atomic_t               failures[ngx_hybrid_failure_n];
    ngx_atomic_t               slowed;
} ngx_hybrid_shm_sh_t;


/* how often this process uses which client */

typedef struct {
    ngx_uint_t                 n;
    ngx_uint_t                *counts;
} ngx_hybrid_shm_uses_t;


typedef struct {
    ngx_hybrid_shm_sh_t       *sh;
    ngx_slab_pool_t           *shpool;
    ngx_uint_t                 conf;      /* the number of this one */
    ngx_hybrid_shm_uses_t     *uses;      /* of a worker, else NULL */
    ngx_uint_t                 worker;    /* it has begun */
} ngx_hybrid_shm_t;


/* there is room for so many bytes, and a reserve for what matters more */
ngx_uint_t ngx_hybrid_shm_room(ngx_hybrid_shm_t *shm, size_t size);

/* old: that of the running configuration, whose memory is gone on with */
ngx_int_t ngx_hybrid_shm_init(ngx_hybrid_shm_t *shm, ngx_shm_zone_t *zone,
    ngx_hybrid_shm_t *old);

/*
 * The client of a name, found or made.  NULL: no memory left in the zone, and
 * no other entry that may be reused; with reserve not even a new entry in
 * what is kept back for documents that grow.
 *
 * A worker uses it until it gives it back, as often as it got it, or ends.
 * Before there is a worker, while a configuration is read, it is kept for
 * the workers of that.
 */
ngx_hybrid_shm_client_t *ngx_hybrid_shm_client(ngx_hybrid_shm_t *shm,
    ngx_str_t *name, ngx_uint_t reserve);

/* as that, but one that is there already; NULL: it isn't */
ngx_hybrid_shm_client_t *ngx_hybrid_shm_client_known(ngx_hybrid_shm_t *shm,
    ngx_str_t *name);

/*
 * Those that workers use and that no file has, at most n; names are copied, as
 * an entry may become another's at any time.
 */
ngx_uint_t ngx_hybrid_shm_client_others(ngx_hybrid_shm_t *shm,
    ngx_hybrid_shm_other_t *others, ngx_uint_t n);
void ngx_hybrid_shm_client_give(ngx_hybrid_shm_t *shm,
    ngx_hybrid_shm_client_t *client);

/* a worker begins, before it gets a client; and ends, and uses none more */
ngx_int_t ngx_hybrid_shm_client_start(ngx_hybrid_shm_t *shm);
void ngx_hybrid_shm_client_end(ngx_hybrid_shm_t *shm);

/*
 * The series of a (client, backend, model), made when it is new.  When there
 * is no room for another, that of the model "other", at last that of
 * ("other", "other", "other"), which always exists.
 */
ngx_hybrid_series_t *ngx_hybrid_shm_series(ngx_hybrid_shm_t *shm,
    ngx_str_t *client, ngx_str_t *backend, ngx_str_t *model);

/* the parts of a series' key */
void ngx_hybrid_series_labels(ngx_hybrid_series_t *series, ngx_str_t *client,
    ngx_str_t *backend, ngx_str_t *model);


#endif /* _NGX_HYBRID_SHM_H_INCLUDED_ */
