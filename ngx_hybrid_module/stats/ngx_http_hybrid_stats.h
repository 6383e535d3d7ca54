
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Series in Redis and how they are shown.
 *
 * A series is the hash "<prefix>{<client>}:stat:<backend>:<model>" with
 *
 *     c<n>        count n: requests by outcome, then others
 *     s<t>        sum of timer t, microseconds
 *     b<t>.<i>    requests in bucket i of table t
 *     g<gateway>  the last sequence that this gateway has added
 *
 * and the set "<prefix>stats" holds the keys of all series.  Both live for
 * NGX_HTTP_HYBRID_SERIES_TTL after they were last written.
 */


#ifndef _NGX_HTTP_HYBRID_STATS_H_INCLUDED_
#define _NGX_HTTP_HYBRID_STATS_H_INCLUDED_


#include "ngx_http_hybrid_module.h"


/* 14 days in msec */
#define NGX_HTTP_HYBRID_SERIES_TTL  1209600000

/* the longest key, but for the prefix */
#define NGX_HTTP_HYBRID_SERIES_KEY  (NGX_HYBRID_SERIES_KEY + 256)


typedef enum {
    ngx_http_hybrid_field_count = 0,
    ngx_http_hybrid_field_sum,
    ngx_http_hybrid_field_bucket
} ngx_http_hybrid_field_e;


/* what is shown: copied from shared memory, or added up from Redis */

typedef struct {
    uint64_t                   counts[NGX_HYBRID_COUNTS];
    uint64_t                   sums[ngx_hybrid_timer_n];
    uint64_t                  *octaves[ngx_hybrid_tables]
                                      [NGX_HYBRID_OCTAVES];
} ngx_http_hybrid_sum_t;


typedef struct {
    ngx_str_t                  key;      /* in Redis */
    ngx_str_t                  client;
    ngx_str_t                  backend;
    ngx_str_t                  model;
    ngx_http_hybrid_sum_t     *sum;
} ngx_http_hybrid_row_t;


typedef struct {
    ngx_http_request_t            *request;
    ngx_http_hybrid_main_conf_t   *conf;
    ngx_array_t                    rows;    /* ngx_http_hybrid_row_t */
    ngx_uint_t                     all;     /* gateways, else this one */
    ngx_http_cleanup_t            *cleanup; /* while Redis is asked */
    ngx_hybrid_shm_other_t        *others;  /* clients from Redis */
    ngx_uint_t                     nothers;
} ngx_http_hybrid_view_t;


/* a text that is written, in buffers of the pool as they are needed */

typedef struct {
    ngx_pool_t                *pool;
    ngx_chain_t               *chain;
    ngx_chain_t               *last;
    unsigned                   failed:1;   /* no memory: it is not whole */
} ngx_http_hybrid_out_t;


ngx_int_t ngx_http_hybrid_flush_init_worker(
    ngx_http_hybrid_main_conf_t *hmcf, ngx_cycle_t *cycle);

/* writes the key at p; returns what follows it */
u_char *ngx_http_hybrid_series_key(ngx_str_t *prefix,
    ngx_hybrid_series_t *series, ngx_str_t *key, u_char *p);

/* sends a command on the set of all keys, with one more argument */
ngx_int_t ngx_http_hybrid_series_command(ngx_http_hybrid_main_conf_t *hmcf,
    const char *command, ngx_str_t *arg);
void ngx_http_hybrid_series_index(ngx_http_hybrid_main_conf_t *hmcf,
    ngx_str_t *key, u_char *p);

/* the labels of a key; NGX_ERROR: not the key of a series */
ngx_int_t ngx_http_hybrid_series_parse(ngx_str_t *prefix, ngx_str_t *key,
    ngx_http_hybrid_row_t *row);

/*
 * Adds a field of a series' hash to a sum; unknown fields are no error.
 * NGX_ERROR: no memory.
 */
ngx_int_t ngx_http_hybrid_series_add(ngx_pool_t *pool,
    ngx_http_hybrid_sum_t *sum, ngx_str_t *field, ngx_str_t *value);

/* stats/ngx_http_hybrid_sum.c; in the pool, NULL and NGX_ERROR: none left */

/* of a series in the zone */
ngx_http_hybrid_sum_t *ngx_http_hybrid_sum_copy(ngx_pool_t *pool,
    ngx_hybrid_series_sh_t *sh, ngx_hybrid_series_t *series);
ngx_int_t ngx_http_hybrid_sum_count(ngx_pool_t *pool,
    ngx_http_hybrid_sum_t *sum, ngx_uint_t table, ngx_uint_t bucket,
    uint64_t n);
ngx_int_t ngx_http_hybrid_sum_add(ngx_pool_t *pool,
    ngx_http_hybrid_sum_t *sum, ngx_http_hybrid_sum_t *other);

/* all buckets of a table; returns what they add up to */
uint64_t ngx_http_hybrid_sum_table(ngx_http_hybrid_sum_t *sum,
    ngx_uint_t table, uint64_t *buckets);

/*
 * Starts to add up the series of all gateways.  NGX_OK: done is called with
 * whether it succeeded, from a callback: it must only post.
 */
typedef void (*ngx_http_hybrid_merge_pt)(ngx_http_hybrid_view_t *view,
    ngx_uint_t ok);
ngx_int_t ngx_http_hybrid_merge(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_merge_pt done);

/* from a callback: nginx's own loop calls handler, also of a subrequest */
void ngx_http_hybrid_stats_wake(ngx_http_request_t *r,
    ngx_http_event_handler_pt handler);

/* text for the client */
void ngx_http_hybrid_view_json(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out);
void ngx_http_hybrid_view_prometheus(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out);

/* "# HELP" and "# TYPE" of a metric */
void ngx_http_hybrid_prom_head(ngx_http_hybrid_out_t *out, const char *name,
    const char *type, const char *help);

/* rows that are equal by cmp, added up; NULL: no memory */
ngx_array_t *ngx_http_hybrid_prom_group(ngx_http_hybrid_view_t *view,
    int (*cmp)(const void *one, const void *two));
int ngx_libc_cdecl ngx_http_hybrid_prom_by_backend(const void *one,
    const void *two);

/* models: rows of all clients added up */
ngx_int_t ngx_http_hybrid_prom_timers(ngx_http_hybrid_view_t *view,
    ngx_array_t *models, ngx_http_hybrid_out_t *out);

/* at most NGX_HTTP_HYBRID_OUT bytes at a time: more is cut off */
#define NGX_HTTP_HYBRID_OUT  32768

void ngx_http_hybrid_out(ngx_http_hybrid_out_t *out, const char *fmt, ...);

/*
 * Room for so many bytes at least, to write from there up to *end, and the
 * end of what was written; NULL: no memory.
 */
u_char *ngx_http_hybrid_out_room(ngx_http_hybrid_out_t *out, size_t size,
    u_char **end);
#define ngx_http_hybrid_out_end(out, p)  (out)->last->buf->last = (p)

/* what a content handler returns */
ngx_int_t ngx_http_hybrid_out_send(ngx_http_hybrid_out_t *out,
    ngx_http_request_t *r, ngx_str_t *type);

/* documents that are got in the background: how old they are, and errors */
void ngx_http_hybrid_json_docs(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out);
void ngx_http_hybrid_prom_docs(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out);

/* the paths of backends, their models, and what they do now */
void ngx_http_hybrid_json_backends(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out);
void ngx_http_hybrid_prom_backends(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out);

/* clients and their limits */
ngx_int_t ngx_http_hybrid_limits_open(ngx_http_hybrid_view_t *view);
void ngx_http_hybrid_json_clients(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out);
void ngx_http_hybrid_prom_limits(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out);

/* failures to authenticate, and what shadow mode let through */
void ngx_http_hybrid_json_auth(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out);
void ngx_http_hybrid_prom_auth(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out);
void ngx_http_hybrid_json_shadow(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out);
void ngx_http_hybrid_prom_shadow(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out);

const char *ngx_http_hybrid_view_path_state(
    ngx_http_hybrid_backend_t *backend, ngx_hybrid_path_t *path);

/* what is wrong now */
void ngx_http_hybrid_json_anomalies(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out);
void ngx_http_hybrid_prom_anomalies(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out);

/* it is there, and decides */
ngx_uint_t ngx_http_hybrid_view_redis(ngx_http_hybrid_view_t *view);
const char *ngx_http_hybrid_view_scope(ngx_http_hybrid_view_t *view);

/* those that are fetched */
void ngx_http_hybrid_json_fetched(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out);
void ngx_http_hybrid_prom_fetched(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out);

/* why a request was refused: its number is a field in Redis */
ngx_uint_t ngx_http_hybrid_reason_number(ngx_str_t *reason);
ngx_str_t *ngx_http_hybrid_reason_name(ngx_uint_t number);

#define NGX_HTTP_HYBRID_REASONS  64

extern ngx_str_t  ngx_http_hybrid_outcome_names[];
extern ngx_str_t  ngx_http_hybrid_count_names[];
extern ngx_str_t  ngx_http_hybrid_timer_names[];



#endif /* _NGX_HTTP_HYBRID_STATS_H_INCLUDED_ */
