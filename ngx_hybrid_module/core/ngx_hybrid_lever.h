
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * What operators have said about backends and paths, in shared memory, and as
 * it is written into Redis for other gateways.  Of two words about the same
 * the newer one holds, also "enable", which therefore is kept, too.
 */


#ifndef _NGX_HYBRID_LEVER_H_INCLUDED_
#define _NGX_HYBRID_LEVER_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_hybrid_health.h"


#define NGX_HYBRID_LEVER_FIELD  (NGX_HYBRID_LABEL_MAX + 1                     \
                                 + NGX_HYBRID_PATH_NAME)
#define NGX_HYBRID_LEVER_WHO    64
#define NGX_HYBRID_LEVER_WHY    200

/* of "disable <stamp> <who> <why>" */
#define NGX_HYBRID_LEVER_VALUE  (sizeof("disable   ") + NGX_INT64_LEN         \
                                 + NGX_HYBRID_LEVER_WHO                       \
                                 + NGX_HYBRID_LEVER_WHY)

/* records of names that are in no configuration may pile up in Redis */
#define NGX_HYBRID_LEVER_MAX    1000


typedef struct {
    /* msec since 1970, but always more than that of the word before */
    uint64_t                   stamp;

    ngx_hybrid_lever_e         state;
    unsigned                   unsaved:1;   /* Redis does not know so far */
    unsigned                   seen:1;      /* in Redis, in this turn */
    u_short                    nfield;
    u_short                    nwho;
    u_short                    nwhy;
    u_char                     field[NGX_HYBRID_LEVER_FIELD];
    u_char                     who[NGX_HYBRID_LEVER_WHO];
    u_char                     why[NGX_HYBRID_LEVER_WHY];
} ngx_hybrid_lever_t;


typedef struct ngx_hybrid_lever_node_s  ngx_hybrid_lever_node_t;

struct ngx_hybrid_lever_node_s {
    ngx_hybrid_lever_node_t   *next;
    ngx_hybrid_lever_t         lever;   /* by the mutex, but for its name */
};


/* NGX_ERROR: too long, or not a text that can be shown */
ngx_int_t ngx_hybrid_lever_init(ngx_hybrid_lever_t *lever,
    ngx_str_t *backend, ngx_str_t *path, ngx_hybrid_lever_e state,
    ngx_str_t *who, ngx_str_t *why);

/* as in Redis; value is of NGX_HYBRID_LEVER_VALUE */
size_t ngx_hybrid_lever_value(ngx_hybrid_lever_t *lever, u_char *value);
ngx_int_t ngx_hybrid_lever_parse(ngx_hybrid_lever_t *lever, ngx_str_t *field,
    ngx_str_t *value);

/* "enable", "drain" or "disable" */
ngx_str_t *ngx_hybrid_lever_word(ngx_hybrid_lever_e state);
ngx_int_t ngx_hybrid_lever_state(ngx_str_t *word, ngx_hybrid_lever_e *state);

/*
 * A new word: it gets its stamp.  The other one may be older than what is
 * known; then NGX_DECLINED, and what is known is unsaved.  NGX_ERROR: no
 * memory left in the zone.
 */
ngx_int_t ngx_hybrid_lever_set(ngx_hybrid_shm_t *shm,
    ngx_hybrid_lever_t *lever, ngx_uint_t unsaved);
ngx_int_t ngx_hybrid_lever_merge(ngx_hybrid_shm_t *shm,
    ngx_hybrid_lever_t *lever);

/* around the merge of all that Redis has: what it has not is unsaved */
void ngx_hybrid_lever_begin(ngx_hybrid_shm_t *shm);
void ngx_hybrid_lever_end(ngx_hybrid_shm_t *shm);

/* NGX_DECLINED: nothing was ever said about it */
ngx_int_t ngx_hybrid_lever_get(ngx_hybrid_shm_t *shm, ngx_str_t *field,
    ngx_hybrid_lever_t *lever);

/* copies, in an array of ngx_hybrid_lever_t */
ngx_int_t ngx_hybrid_lever_all(ngx_hybrid_shm_t *shm, ngx_pool_t *pool,
    ngx_array_t *levers);

/* to the backends and paths that there are now: some have come later */
void ngx_hybrid_lever_apply(ngx_hybrid_shm_t *shm);


#endif /* _NGX_HYBRID_LEVER_H_INCLUDED_ */
