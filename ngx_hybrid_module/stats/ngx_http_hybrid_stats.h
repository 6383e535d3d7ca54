
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Series in Redis and how they are shown.
 *
 * A series is the hash "<prefix>{<client>}:stat:<backend>:<model>" with
 *
 *     c<n>        requests by outcome, then fallbacks
 *     s<t>        sum of timer t, microseconds
 *     b<t>.<i>    requests in bucket i of timer t's histogram
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
    ngx_str_t                  key;      /* in Redis */
    ngx_str_t                  client;
    ngx_str_t                  backend;
    ngx_str_t                  model;
    ngx_hybrid_numbers_t      *numbers;
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


/* a text that is written; what finds no room is left out */

typedef struct {
    u_char                    *pos;
    u_char                    *end;
} ngx_http_hybrid_out_t;


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

/* adds a field of a series' hash to numbers; unknown fields are no error */
void ngx_http_hybrid_series_add(ngx_hybrid_numbers_t *numbers,
    ngx_str_t *field, ngx_str_t *value);

/*
 * Starts to add up the series of all gateways.  NGX_OK: done is called with
 * whether it succeeded, from a callback: it must only post.
 */
typedef void (*ngx_http_hybrid_merge_pt)(ngx_http_hybrid_view_t *view,
    ngx_uint_t ok);
ngx_int_t ngx_http_hybrid_merge(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_merge_pt done);

/* text in the request's pool; NGX_ERROR: no memory */
ngx_int_t ngx_http_hybrid_view_json(ngx_http_hybrid_view_t *view,
    ngx_str_t *text);
ngx_int_t ngx_http_hybrid_view_prometheus(ngx_http_hybrid_view_t *view,
    ngx_str_t *text);

void ngx_http_hybrid_out(ngx_http_hybrid_out_t *out, const char *fmt, ...);

/* documents that are got in the background: how old they are, and errors */
void ngx_http_hybrid_json_docs(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out);
void ngx_http_hybrid_prom_docs(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out);

/* the paths of backends, their models, and what they do now */
size_t ngx_http_hybrid_backends_size(ngx_http_hybrid_view_t *view);
void ngx_http_hybrid_json_backends(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out);
void ngx_http_hybrid_prom_backends(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out);

/* clients and their limits; size: bytes of all that */
ngx_int_t ngx_http_hybrid_limits_open(ngx_http_hybrid_view_t *view,
    size_t *size);
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

/* it is there, and decides */
ngx_uint_t ngx_http_hybrid_view_redis(ngx_http_hybrid_view_t *view);
const char *ngx_http_hybrid_view_scope(ngx_http_hybrid_view_t *view);

/* those that are fetched */
size_t ngx_http_hybrid_fetched_size(ngx_http_hybrid_view_t *view);
void ngx_http_hybrid_json_fetched(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out);
void ngx_http_hybrid_prom_fetched(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out);

extern ngx_str_t  ngx_http_hybrid_outcome_names[];
extern ngx_str_t  ngx_http_hybrid_timer_names[];



#endif /* _NGX_HTTP_HYBRID_STATS_H_INCLUDED_ */
