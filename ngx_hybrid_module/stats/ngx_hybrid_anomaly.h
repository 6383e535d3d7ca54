
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * What an operator would look for by hand, as long as it lasts: a table in
 * shared memory, for all workers, kept over a reload.  One worker at a time
 * evaluates: it begins, tells all that it finds, and what it has not told of
 * is over.
 */


#ifndef _NGX_HYBRID_ANOMALY_H_INCLUDED_
#define _NGX_HYBRID_ANOMALY_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


#define NGX_HYBRID_ANOMALY_MAX     256
#define NGX_HYBRID_ANOMALY_MIN     16
#define NGX_HYBRID_ANOMALY_TEXT    256

/* of all labels: a backend with a path or a model, or a client */
#define NGX_HYBRID_ANOMALY_LABELS  336


typedef enum {
    ngx_hybrid_anomaly_probe_slow = 0,
    ngx_hybrid_anomaly_model_missing,
    ngx_hybrid_anomaly_cold_starts,
    ngx_hybrid_anomaly_wedged,
    ngx_hybrid_anomaly_client_refused,
    ngx_hybrid_anomaly_credential_expires,
    ngx_hybrid_anomaly_path_flapping,
    ngx_hybrid_anomaly_backend_down,
    ngx_hybrid_anomaly_n
} ngx_hybrid_anomaly_e;


typedef enum {
    ngx_hybrid_anomaly_backend = 0,
    ngx_hybrid_anomaly_path,
    ngx_hybrid_anomaly_model,
    ngx_hybrid_anomaly_client,
    ngx_hybrid_anomaly_labels
} ngx_hybrid_anomaly_label_e;


/* one that is told of: labels that it has not are empty */

typedef struct {
    ngx_hybrid_anomaly_e       kind;
    ngx_str_t                  labels[ngx_hybrid_anomaly_labels];
    time_t                     since;    /* wall clock, 0: now */
    int64_t                    value;    /* thousandths */
    ngx_str_t                  text;
} ngx_hybrid_anomaly_t;


/* a place in the table; free without a pass */

typedef struct {
    ngx_uint_t                 pass;     /* the last that told of it, or 0 */
    ngx_hybrid_anomaly_e       kind;
    uint32_t                   hash;
    time_t                     since;
    int64_t                    value;
    u_short                    len[ngx_hybrid_anomaly_labels];
    u_short                    ntext;
    u_char                     key[NGX_HYBRID_ANOMALY_LABELS];
    u_char                     text[NGX_HYBRID_ANOMALY_TEXT];
} ngx_hybrid_anomaly_place_t;


typedef struct {
    ngx_atomic_t               evaluated; /* msec, the last time, or 0 */
    ngx_atomic_t               conf;      /* the newest that has evaluated */
    ngx_uint_t                 pass;
    ngx_uint_t                 full;      /* no place, since one was free */
    ngx_uint_t                 n;
    ngx_hybrid_anomaly_place_t places[1];
} ngx_hybrid_anomalies_t;


extern ngx_str_t  ngx_hybrid_anomaly_names[];


/* of a table for a zone of this size; n is the number of places */
size_t ngx_hybrid_anomaly_size(size_t zone, ngx_uint_t *n);
void ngx_hybrid_anomaly_init(ngx_hybrid_anomalies_t *table, ngx_uint_t n);

/*
 * Whether it is this worker's turn: nobody has evaluated for so many msec,
 * nor a worker of a newer configuration ever.
 */
ngx_uint_t ngx_hybrid_anomaly_turn(ngx_hybrid_anomalies_t *table,
    ngx_uint_t conf, ngx_msec_t interval, ngx_msec_t now);

/* NGX_OK: it has begun; NGX_DONE: it lasts; NGX_DECLINED: no place left */
void ngx_hybrid_anomaly_begin(ngx_hybrid_anomalies_t *table);
ngx_int_t ngx_hybrid_anomaly_tell(ngx_hybrid_anomalies_t *table,
    ngx_shmtx_t *mutex, ngx_hybrid_anomaly_t *anomaly, time_t now);

/* the next one that is over, from *i on; 0: there is none */
ngx_uint_t ngx_hybrid_anomaly_ended(ngx_hybrid_anomalies_t *table,
    ngx_shmtx_t *mutex, ngx_uint_t *i, ngx_hybrid_anomaly_place_t *copy);

/* the next one that there is, from *i on; 0: there is none */
ngx_uint_t ngx_hybrid_anomaly_next(ngx_hybrid_anomalies_t *table,
    ngx_shmtx_t *mutex, ngx_uint_t *i, ngx_hybrid_anomaly_place_t *copy);

/* as it was told; the strings are in the copy */
void ngx_hybrid_anomaly_read(ngx_hybrid_anomaly_place_t *copy,
    ngx_hybrid_anomaly_t *anomaly);


#endif /* _NGX_HYBRID_ANOMALY_H_INCLUDED_ */
