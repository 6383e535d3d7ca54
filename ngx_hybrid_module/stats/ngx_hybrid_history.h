
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * What the series have counted in each of the last minutes: a ring of
 * segments in shared memory, each a hash of numbers that are not zero.
 * Nobody waits for a lock to count, and nothing is evicted: what finds no
 * room is counted as lost.
 */


#ifndef _NGX_HYBRID_HISTORY_H_INCLUDED_
#define _NGX_HYBRID_HISTORY_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_hybrid_compat.h"


/* an hour, and some in which it can be stored */
#define NGX_HYBRID_HISTORY_MINUTES   64

/* tables of a series, the last one is that of plain counts */
#define NGX_HYBRID_HISTORY_COUNTS    10
#define NGX_HYBRID_HISTORY_TABLES    11
#define NGX_HYBRID_HISTORY_BUCKETS   512

/* the longest text of a minute, and the longest labels in it */
#define NGX_HYBRID_HISTORY_TEXT      (256 * 1024)
#define NGX_HYBRID_HISTORY_NAME      64
#define NGX_HYBRID_HISTORY_MODEL     264

/* "<minute>:<gateway>" */
#define NGX_HYBRID_HISTORY_GATEWAY   16
#define NGX_HYBRID_HISTORY_FIELD     (NGX_INT32_LEN + 1                       \
                                      + NGX_HYBRID_HISTORY_GATEWAY)


/* key: zero, or one more than what ngx_hybrid_history_add() packs */

typedef struct {
    ngx_hybrid_atomic32_t        key;
    ngx_hybrid_atomic32_t        count;
} ngx_hybrid_history_cell_t;


typedef struct {
    ngx_hybrid_atomic32_t        minute;      /* since 1970, 0: none */
    ngx_hybrid_atomic32_t        generation;  /* so often it was another */
    ngx_hybrid_atomic32_t        changed;     /* so often in this minute */
    ngx_hybrid_atomic32_t        stored;      /* of them in Redis */
    ngx_hybrid_atomic32_t        lost;
    ngx_hybrid_history_cell_t   *cells;
} ngx_hybrid_history_segment_t;


typedef struct {
    ngx_shmtx_t                  *mutex;      /* to clear a segment */
    ngx_uint_t                    n;          /* cells of each */
    ngx_hybrid_history_segment_t  segments[NGX_HYBRID_HISTORY_MINUTES];
} ngx_hybrid_history_t;


/* a copy of a segment, sorted by series and table */

typedef struct {
    uint32_t                     minute;
    uint32_t                     generation;
    uint32_t                     changed;
    uint32_t                     lost;
    ngx_uint_t                   n;
    ngx_hybrid_history_cell_t   *cells;       /* room for the history's n */
} ngx_hybrid_history_state_t;


/* client, backend, model; NGX_DECLINED: there is no such series */
typedef ngx_int_t (*ngx_hybrid_history_labels_pt)(void *data,
    ngx_uint_t series, ngx_str_t *labels);


/* bytes of a history that fits into so many, and its cells a minute */
size_t ngx_hybrid_history_size(size_t room, ngx_uint_t *n);

/* memory is zeroed */
void ngx_hybrid_history_init(ngx_hybrid_history_t *history, ngx_uint_t n,
    ngx_shmtx_t *mutex);

/* n more of a bucket now */
void ngx_hybrid_history_add(ngx_hybrid_history_t *history, ngx_uint_t series,
    ngx_uint_t table, ngx_uint_t bucket, uint64_t n);

/* NGX_DECLINED: it has no minute now */
ngx_int_t ngx_hybrid_history_read(ngx_hybrid_history_t *history, ngx_uint_t i,
    ngx_hybrid_history_state_t *state);

/* it has a minute that Redis does not have, or not all of it */
ngx_uint_t ngx_hybrid_history_dirty(ngx_hybrid_history_t *history,
    ngx_uint_t i);

/* Redis has what the segment was then */
void ngx_hybrid_history_stored(ngx_hybrid_history_t *history, ngx_uint_t i,
    uint32_t generation, uint32_t changed);


/*
 * A minute as text:
 *
 *     1 <changed> <lost>
 *     <client> <backend> <model> <table>.<bucket>:<count> ...
 *
 * with a line for each series.  What finds no room, or has no labels, is
 * added to those lost.
 */

/* a buffer for any minute of a history with so many cells a minute */
size_t ngx_hybrid_history_text_size(ngx_uint_t n);

size_t ngx_hybrid_history_write(ngx_hybrid_history_state_t *state,
    ngx_hybrid_history_labels_pt labels, void *data, u_char *buf,
    size_t size);

/*
 * Others may have written it: NGX_ERROR unless it is just that.  size: bytes
 * that ngx_hybrid_history_json() needs for it.
 */
ngx_int_t ngx_hybrid_history_check(ngx_str_t *text, uint32_t *lost,
    size_t *size);

/* arrays of strings, with commas between them, of a text that was checked */
u_char *ngx_hybrid_history_json(u_char *p, ngx_str_t *text);

/* the name of a minute of a gateway; NGX_ERROR: it is not one */
ngx_int_t ngx_hybrid_history_field(ngx_str_t *field, uint32_t *minute,
    ngx_str_t *gateway);


#endif /* _NGX_HYBRID_HISTORY_H_INCLUDED_ */
