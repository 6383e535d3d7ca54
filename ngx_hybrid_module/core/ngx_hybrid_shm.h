
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
#include "ngx_hybrid_series.h"
#include "ngx_hybrid_history.h"
#include "ngx_hybrid_source.h"
#include "ngx_hybrid_pair.h"
#include "ngx_hybrid_meter.h"
#include "ngx_hybrid_cells.h"
#include "ngx_hybrid_anomaly.h"


#define NGX_HYBRID_SHM_MIN     (512 * 1024)


/* failures to authenticate, by class */

typedef enum {
    ngx_hybrid_failure_missing = 0,
    ngx_hybrid_failure_malformed,      /* broken, or more than one */
    ngx_hybrid_failure_invalid,
    ngx_hybrid_failure_expired,
    ngx_hybrid_failure_revoked,
    ngx_hybrid_failure_n
} ngx_hybrid_failure_e;


/* limits of a client that are leased in units */

typedef enum {
    ngx_hybrid_meter_rate = 0,
    ngx_hybrid_meter_tokens,
    ngx_hybrid_meter_budget,
    ngx_hybrid_meters
} ngx_hybrid_meter_e;


/* why a client that is known was refused, and what it was known by */

typedef enum {
    ngx_hybrid_denial_forbidden = 0,
    ngx_hybrid_denial_unauthorized,
    ngx_hybrid_denial_secret,
    ngx_hybrid_denial_token,           /* it has expired */
    ngx_hybrid_denial_jwt,
    ngx_hybrid_denial_cert,
    ngx_hybrid_denial_n
} ngx_hybrid_denial_e;


typedef enum {
    ngx_hybrid_credential_token = 0,
    ngx_hybrid_credential_cert,
    ngx_hybrid_credentials
} ngx_hybrid_credential_e;


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

    /* of stats/ngx_http_hybrid_anomaly_client.c, times are sec */
    ngx_atomic_t               worked;    /* it was let in, last */
    ngx_atomic_t               denials;   /* since then */
    ngx_atomic_t               denied_first;
    ngx_atomic_t               denied_last;
    ngx_atomic_t               denied_why;
    ngx_atomic_t               ends[ngx_hybrid_credentials];  /* what it used */
    ngx_atomic_t               ends_seen[ngx_hybrid_credentials];
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
    ngx_hybrid_series_sh_t     series;
    ngx_hybrid_history_t      *history;   /* what they count, by minute */
    ngx_atomic_t               history_due;   /* msec */
    ngx_hybrid_sources_t      *sources;   /* of failures to authenticate */
    ngx_hybrid_anomalies_t    *anomalies;
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


#endif /* _NGX_HYBRID_SHM_H_INCLUDED_ */
