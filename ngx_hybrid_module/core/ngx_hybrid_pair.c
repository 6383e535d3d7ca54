
/*
 * Copyright (C) the ngx_hybrid_module authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_hybrid_pair.h"


#define NGX_HYBRID_PAIR_WAYS  4


static uint32_t ngx_hybrid_pair_hash(ngx_str_t *backend, ngx_str_t *model);
static ngx_hybrid_pair_t *ngx_hybrid_pair_lookup(ngx_hybrid_pairs_t *pairs,
    uint32_t hash, ngx_str_t *backend, ngx_str_t *model);
static ngx_uint_t ngx_hybrid_pair_is(ngx_hybrid_pair_t *pair, uint32_t hash,
    ngx_str_t *backend, ngx_str_t *model);


size_t
ngx_hybrid_pairs_size(size_t room, ngx_uint_t *n)
{
    for (*n = NGX_HYBRID_PAIR_WAYS;
         *n * 2 * sizeof(ngx_hybrid_pair_t) <= room;
         *n *= 2)
    {
        /* void */
    }

    return sizeof(ngx_hybrid_pairs_t) + *n * sizeof(ngx_hybrid_pair_t);
}


/* the memory is zeroed */

void
ngx_hybrid_pairs_init(ngx_hybrid_pairs_t *pairs, ngx_uint_t n)
{
    pairs->n = n;
}


static uint32_t
ngx_hybrid_pair_hash(ngx_str_t *backend, ngx_str_t *model)
{
    return ngx_murmur_hash2(backend->data, backend->len) * 31
           + ngx_murmur_hash2(model->data, model->len);
}


ngx_hybrid_pair_t *
ngx_hybrid_pair_find(ngx_hybrid_pairs_t *pairs, ngx_str_t *backend,
    ngx_str_t *model)
{
    return ngx_hybrid_pair_lookup(pairs, ngx_hybrid_pair_hash(backend, model),
                                  backend, model);
}


/*
 * Without the lock: an entry that is being made for another pair has no
 * lengths, and is nobody's.
 */

static ngx_hybrid_pair_t *
ngx_hybrid_pair_lookup(ngx_hybrid_pairs_t *pairs, uint32_t hash,
    ngx_str_t *backend, ngx_str_t *model)
{
    ngx_uint_t          i;
    ngx_hybrid_pair_t  *set;

    set = &pairs->pairs[hash & (pairs->n - 1)
                        & ~(ngx_uint_t) (NGX_HYBRID_PAIR_WAYS - 1)];

    for (i = 0; i < NGX_HYBRID_PAIR_WAYS; i++) {
        if (ngx_hybrid_pair_is(&set[i], hash, backend, model)) {
            return &set[i];
        }
    }

    return NULL;
}


static ngx_uint_t
ngx_hybrid_pair_is(ngx_hybrid_pair_t *pair, uint32_t hash, ngx_str_t *backend,
    ngx_str_t *model)
{
    return pair->hash == hash
           && pair->backend == backend->len
           && pair->model == model->len
           && backend->len
           && ngx_memcmp(pair->key, backend->data, backend->len) == 0
           && ngx_memcmp(pair->key + backend->len, model->data, model->len)
              == 0;
}


ngx_hybrid_pair_t *
ngx_hybrid_pair_make(ngx_hybrid_pairs_t *pairs, ngx_shmtx_t *mutex,
    ngx_str_t *backend, ngx_str_t *model)
{
    uint32_t            hash;
    ngx_uint_t          i;
    ngx_msec_t          now;
    ngx_hybrid_pair_t  *set, *pair;

    now = ngx_current_msec;
    hash = ngx_hybrid_pair_hash(backend, model);

    pair = ngx_hybrid_pair_lookup(pairs, hash, backend, model);

    if (pair) {
        pair->used = now;
        return pair;
    }

    if (backend->len == 0
        || backend->len + model->len > NGX_HYBRID_PAIR_TEXT)
    {
        return NULL;
    }

    set = &pairs->pairs[hash & (pairs->n - 1)
                        & ~(ngx_uint_t) (NGX_HYBRID_PAIR_WAYS - 1)];

    ngx_shmtx_lock(mutex);

    pair = ngx_hybrid_pair_lookup(pairs, hash, backend, model);

    if (pair == NULL) {

        pair = &set[0];

        for (i = 0; i < NGX_HYBRID_PAIR_WAYS; i++) {

            if (set[i].backend == 0) {
                pair = &set[i];
                break;
            }

            /* either may have been used after "now" was read */

            if ((ngx_msec_int_t) (pair->used - set[i].used) > 0) {
                pair = &set[i];
            }
        }

        pair->backend = 0;
        ngx_memory_barrier();

        pair->ttft = 0;
        pair->service = 0;
        pair->fails = 0;
        pair->open = 0;
        pair->opened = 0;
        pair->trying = 0;
        pair->who = 0;
        pair->cold = 0;
        pair->loaded = 0;
        pair->answered = 0;
        ngx_memzero(&pair->window, sizeof(ngx_hybrid_window_t));
        pair->used = now;
        pair->hash = hash;
        pair->model = (u_short) model->len;
        ngx_memcpy(pair->key, backend->data, backend->len);
        ngx_memcpy(pair->key + backend->len, model->data, model->len);

        ngx_memory_barrier();
        pair->backend = (u_short) backend->len;
    }

    ngx_shmtx_unlock(mutex);

    return pair;
}


void
ngx_hybrid_pair_token(ngx_hybrid_pair_t *pair, uint64_t usec)
{
    ngx_hybrid_pair_average(&pair->ttft, usec);
}


void
ngx_hybrid_pair_average(ngx_atomic_t *average, uint64_t usec)
{
    ngx_atomic_uint_t  old;

    /* an hour is as bad as it gets */

    usec = ngx_min(usec, (uint64_t) 3600 * 1000000);

    /* a lost update does not matter */

    old = *average;

    if (old == 0) {
        *average = ngx_max(usec, 1);
        return;
    }

    *average = ngx_max(old - old / 8 + (ngx_atomic_uint_t) usec / 8, 1);
}


void
ngx_hybrid_pair_passed(ngx_hybrid_pair_t *pair)
{
    /* the line of cache stays shared as long as all is well, for a while */

    if (ngx_current_msec - pair->answered >= NGX_HYBRID_PAIR_ANSWERED) {
        pair->answered = ngx_current_msec;
    }

    if (pair->fails || pair->open) {
        pair->fails = 0;
        pair->opened = 0;
        pair->trying = 0;
        pair->who = 0;
        pair->open = 0;
    }
}


ngx_uint_t
ngx_hybrid_pair_failed(ngx_hybrid_pair_t *pair, ngx_atomic_uint_t who)
{
    ngx_msec_t  time, until;

    if (pair->opened) {

        /* what was under way when it opened says nothing new */

        if (!pair->trying) {
            return 0;
        }

    } else {

        if (who && pair->fails && pair->who == who) {
            return 0;
        }

        pair->who = who;

        if (ngx_atomic_fetch_add(&pair->fails, 1) + 1 < NGX_HYBRID_PAIR_FAILS)
        {
            return 0;
        }
    }

    time = (ngx_msec_t) NGX_HYBRID_PAIR_OPEN << ngx_min(pair->opened, 5);
    time = ngx_min(time, NGX_HYBRID_PAIR_MAX);

    pair->opened++;
    pair->trying = 0;
    pair->fails = 0;

    until = ngx_current_msec + time;
    pair->open = until ? until : 1;

    return 1;
}


ngx_msec_t
ngx_hybrid_pair_open(ngx_hybrid_pair_t *pair, ngx_uint_t ask)
{
    ngx_msec_t      until, next;
    ngx_msec_int_t  left;

    until = pair->open;

    if (until == 0) {
        return 0;
    }

    left = (ngx_msec_int_t) (until - ngx_current_msec);

    if (left > 0 && left <= NGX_HYBRID_PAIR_MAX) {
        return left;
    }

    if (!ask) {
        return 0;
    }

    /* whoever moves the end on is the one that tries */

    next = ngx_current_msec + NGX_HYBRID_PAIR_OPEN;

    if (ngx_atomic_cmp_set(&pair->open, until, next ? next : 1)) {
        pair->trying = 1;
        return 0;
    }

    return NGX_HYBRID_PAIR_OPEN;
}


void
ngx_hybrid_pair_labels(ngx_hybrid_pair_t *pair, ngx_str_t *backend,
    ngx_str_t *model)
{
    backend->data = pair->key;
    backend->len = pair->backend;

    model->data = pair->key + pair->backend;
    model->len = pair->model;
}
