
/*
 * Copyright (C) the ngx_hybrid_module authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_hybrid_series.h"


static ngx_hybrid_series_t *ngx_hybrid_series_find(ngx_hybrid_series_sh_t *sh,
    ngx_str_t *client, ngx_str_t *backend, ngx_str_t *model,
    ngx_uint_t reserve);
static ngx_hybrid_series_t *ngx_hybrid_series_lookup(
    ngx_hybrid_series_sh_t *sh, ngx_str_t *key, uint32_t hash,
    ngx_uint_t *slot);
static ngx_hybrid_series_t *ngx_hybrid_series_insert(
    ngx_hybrid_series_sh_t *sh, ngx_str_t *key, uint32_t hash,
    ngx_hybrid_series_t *lengths, ngx_uint_t reserve);
static ngx_hybrid_octave_t *ngx_hybrid_series_use(ngx_hybrid_series_sh_t *sh,
    ngx_hybrid_series_t **series, ngx_uint_t table, ngx_uint_t bucket);
static ngx_hybrid_octave_t *ngx_hybrid_series_octave_add(
    ngx_hybrid_series_sh_t *sh, ngx_hybrid_series_t *series, ngx_uint_t table,
    ngx_uint_t octave, ngx_uint_t reserve);


/* series kept back for ("client", "backend", other) and for the last resort */
#define NGX_HYBRID_SERIES_RESERVE  8

/* octaves that a series has on average */
#define NGX_HYBRID_SERIES_USES     24


static ngx_str_t  ngx_hybrid_series_other = ngx_string("other");


ngx_int_t
ngx_hybrid_series_init(ngx_hybrid_series_sh_t *sh, ngx_slab_pool_t *shpool,
    size_t size)
{
    sh->shpool = shpool;

    sh->max = size / (sizeof(ngx_hybrid_series_t)
                      + NGX_HYBRID_SERIES_USES * sizeof(ngx_hybrid_octave_t));

    sh->elts = ngx_slab_calloc(shpool, sh->max * sizeof(ngx_hybrid_series_t));
    if (sh->elts == NULL) {
        return NGX_ERROR;
    }

    sh->max_octaves = sh->max * NGX_HYBRID_SERIES_USES;
    sh->most = sh->max_octaves / 4 * 3;

    sh->octaves = ngx_slab_calloc(shpool, sh->max_octaves
                                          * sizeof(ngx_hybrid_octave_t));
    if (sh->octaves == NULL) {
        return NGX_ERROR;
    }

    for (sh->nslots = 16; sh->nslots < sh->max * 2; sh->nslots *= 2) {
        /* void */
    }

    sh->slots = ngx_slab_calloc(shpool, sh->nslots * sizeof(ngx_atomic_t));

    return sh->slots ? NGX_OK : NGX_ERROR;
}


ngx_hybrid_series_t *
ngx_hybrid_series_get(ngx_hybrid_series_sh_t *sh, ngx_str_t *client,
    ngx_str_t *backend, ngx_str_t *model)
{
    ngx_str_t            *other;
    ngx_hybrid_series_t  *series;

    other = &ngx_hybrid_series_other;

    series = ngx_hybrid_series_find(sh, client, backend, model,
                                    NGX_HYBRID_SERIES_RESERVE);

    if (series == NULL) {
        series = ngx_hybrid_series_find(sh, client, backend, other, 1);
    }

    if (series == NULL) {
        series = ngx_hybrid_series_find(sh, other, other, other, 0);
    }

    return series;
}


static ngx_hybrid_series_t *
ngx_hybrid_series_find(ngx_hybrid_series_sh_t *sh, ngx_str_t *client,
    ngx_str_t *backend, ngx_str_t *model, ngx_uint_t reserve)
{
    u_char               *p, buf[NGX_HYBRID_SERIES_KEY];
    uint32_t              hash;
    ngx_str_t             key;
    ngx_uint_t            slot;
    ngx_hybrid_series_t  *series, lengths;

    if (client->len > NGX_HYBRID_LABEL_MAX
        || backend->len > NGX_HYBRID_LABEL_MAX
        || client->len + backend->len + model->len + 2 > sizeof(buf))
    {
        return NULL;
    }

    p = ngx_cpymem(buf, client->data, client->len);
    *p++ = '|';
    p = ngx_cpymem(p, backend->data, backend->len);
    *p++ = '|';
    p = ngx_cpymem(p, model->data, model->len);

    key.data = buf;
    key.len = p - buf;

    hash = ngx_murmur_hash2(key.data, key.len);

    series = ngx_hybrid_series_lookup(sh, &key, hash, &slot);
    if (series) {
        return series;
    }

    lengths.client = (u_short) client->len;
    lengths.backend = (u_short) backend->len;
    lengths.model = (u_short) model->len;

    return ngx_hybrid_series_insert(sh, &key, hash, &lengths, reserve);
}


/*
 * Open addressing, without a lock: slots are only ever filled, and a slot is
 * filled after its series is complete.
 */

static ngx_hybrid_series_t *
ngx_hybrid_series_lookup(ngx_hybrid_series_sh_t *sh, ngx_str_t *key,
    uint32_t hash, ngx_uint_t *slot)
{
    size_t                len;
    ngx_uint_t            i, n;
    ngx_hybrid_series_t  *series;

    for (i = hash & (sh->nslots - 1); /* void */ ;
         i = (i + 1) & (sh->nslots - 1))
    {
        n = sh->slots[i];

        if (n == 0) {
            *slot = i;
            return NULL;
        }

        series = &sh->elts[n - 1];

        if (series->hash != hash) {
            continue;
        }

        len = series->client + series->backend + series->model + 2;

        if (len == key->len && ngx_memcmp(series->key, key->data, len) == 0) {
            return series;
        }
    }
}


static ngx_hybrid_series_t *
ngx_hybrid_series_insert(ngx_hybrid_series_sh_t *sh, ngx_str_t *key,
    uint32_t hash, ngx_hybrid_series_t *lengths, ngx_uint_t reserve)
{
    ngx_uint_t            slot;
    ngx_hybrid_series_t  *series;

    if (sh->n + reserve >= sh->max
        || (reserve == NGX_HYBRID_SERIES_RESERVE && sh->noctaves >= sh->most))
    {
        return NULL;
    }

    ngx_shmtx_lock(&sh->shpool->mutex);

    /* another worker may have been faster */

    series = ngx_hybrid_series_lookup(sh, key, hash, &slot);

    if (series == NULL && sh->n + reserve < sh->max) {
        series = &sh->elts[sh->n];

        series->hash = hash;
        series->client = lengths->client;
        series->backend = lengths->backend;
        series->model = lengths->model;
        ngx_memcpy(series->key, key->data, key->len);

        ngx_memory_barrier();

        sh->n++;
        sh->slots[slot] = sh->n;
    }

    ngx_shmtx_unlock(&sh->shpool->mutex);

    return series;
}


void
ngx_hybrid_series_count(ngx_hybrid_series_sh_t *sh,
    ngx_hybrid_series_t *series, ngx_uint_t table, ngx_uint_t bucket)
{
    ngx_hybrid_octave_t  *octave;

    octave = ngx_hybrid_series_use(sh, &series, table, bucket);

    if (octave) {
        ngx_hybrid_atomic32_add(&octave->now[bucket % NGX_HYBRID_OCTAVE], 1);
    }
}


void
ngx_hybrid_series_time(ngx_hybrid_series_sh_t *sh,
    ngx_hybrid_series_t *series, ngx_hybrid_timer_e timer, uint64_t us)
{
    ngx_uint_t            bucket;
    ngx_hybrid_octave_t  *octave;

    bucket = ngx_hybrid_histogram_index(us);

    octave = ngx_hybrid_series_use(sh, &series, timer, bucket);

    if (octave) {
        (void) ngx_atomic_fetch_add(&series->now.sums[timer], us);
        ngx_hybrid_atomic32_add(&octave->now[bucket % NGX_HYBRID_OCTAVE], 1);
    }
}


static ngx_hybrid_octave_t *
ngx_hybrid_series_use(ngx_hybrid_series_sh_t *sh,
    ngx_hybrid_series_t **series, ngx_uint_t table, ngx_uint_t bucket)
{
    ngx_str_t            *other;
    ngx_uint_t            n;
    ngx_hybrid_octave_t  *octave;

    n = bucket / NGX_HYBRID_OCTAVE;

    octave = ngx_hybrid_series_octave(sh, *series, table, n);

    if (octave == NULL) {
        octave = ngx_hybrid_series_octave_add(sh, *series, table, n,
                                      ngx_hybrid_tables * NGX_HYBRID_OCTAVES);
    }

    if (octave == NULL) {
        other = &ngx_hybrid_series_other;

        *series = ngx_hybrid_series_find(sh, other, other, other, 0);

        (void) ngx_atomic_fetch_add(&sh->misplaced, 1);

        if (*series) {
            octave = ngx_hybrid_series_octave_add(sh, *series, table, n, 0);
        }
    }

    return octave;
}


ngx_hybrid_octave_t *
ngx_hybrid_series_octave(ngx_hybrid_series_sh_t *sh,
    ngx_hybrid_series_t *series, ngx_uint_t table, ngx_uint_t octave)
{
    uint32_t  n;

    n = *(volatile uint32_t *) &series->octaves[table][octave];

    return n ? &sh->octaves[n - 1] : NULL;
}


/* what is kept back is enough for all tables of the last resort */

static ngx_hybrid_octave_t *
ngx_hybrid_series_octave_add(ngx_hybrid_series_sh_t *sh,
    ngx_hybrid_series_t *series, ngx_uint_t table, ngx_uint_t octave,
    ngx_uint_t reserve)
{
    uint32_t  n;

    if (sh->noctaves + reserve >= sh->max_octaves
        && ngx_hybrid_series_octave(sh, series, table, octave) == NULL)
    {
        return NULL;
    }

    ngx_shmtx_lock(&sh->shpool->mutex);

    n = series->octaves[table][octave];

    if (n == 0 && sh->noctaves + reserve < sh->max_octaves) {
        n = (uint32_t) ++sh->noctaves;
        series->octaves[table][octave] = n;
    }

    ngx_shmtx_unlock(&sh->shpool->mutex);

    return n ? &sh->octaves[n - 1] : NULL;
}


void
ngx_hybrid_series_labels(ngx_hybrid_series_t *series, ngx_str_t *client,
    ngx_str_t *backend, ngx_str_t *model)
{
    client->data = series->key;
    client->len = series->client;

    backend->data = client->data + client->len + 1;
    backend->len = series->backend;

    model->data = backend->data + backend->len + 1;
    model->len = series->model;
}
