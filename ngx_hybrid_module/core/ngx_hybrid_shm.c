
/*
 * Copyright (C) the ngx_hybrid_module authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_hybrid_shm.h"


static void ngx_hybrid_shm_check_size(ngx_shm_zone_t *zone);
static ngx_hybrid_series_t *ngx_hybrid_shm_lookup(ngx_hybrid_shm_t *shm,
    ngx_str_t *key, uint32_t hash, ngx_uint_t *slot);
static ngx_hybrid_series_t *ngx_hybrid_shm_insert(ngx_hybrid_shm_t *shm,
    ngx_str_t *key, uint32_t hash, ngx_hybrid_series_t *lengths,
    ngx_uint_t reserve);
static ngx_hybrid_series_t *ngx_hybrid_shm_get(ngx_hybrid_shm_t *shm,
    ngx_str_t *client, ngx_str_t *backend, ngx_str_t *model,
    ngx_uint_t reserve);


/* "hybrid" and the version of this layout */
#define NGX_HYBRID_SHM_MAGIC    0x687962726964000dULL

/* series kept back for ("client", "backend", other) and for the last resort */
#define NGX_HYBRID_SHM_RESERVE  8

/* this part of the zone is for models on backends */
#define NGX_HYBRID_SHM_PAIRS    64

/* this part of the zone is kept back for all but lists of models */
#define NGX_HYBRID_SHM_KEPT     16

/* bytes of the zone for each bucket of clients */
#define NGX_HYBRID_SHM_BUCKET   1024


static ngx_str_t  ngx_hybrid_shm_other = ngx_string("other");


ngx_int_t
ngx_hybrid_shm_init(ngx_hybrid_shm_t *shm, ngx_shm_zone_t *zone,
    ngx_hybrid_shm_t *old)
{
    size_t                size;
    ngx_uint_t            n;
    ngx_hybrid_shm_sh_t  *sh;

    shm->shpool = (ngx_slab_pool_t *) zone->shm.addr;

    if (old) {

        if (old->sh->magic != NGX_HYBRID_SHM_MAGIC
            || old->sh->size != zone->shm.size)
        {
            ngx_log_error(NGX_LOG_EMERG, zone->shm.log, 0,
                          "hybrid_zone has another layout than the running "
                          "one: restart nginx instead of reloading it");
            return NGX_ERROR;
        }

        shm->sh = old->sh;
        shm->uses = old->uses;
        shm->conf = ++shm->sh->clients.conf;

        return NGX_OK;
    }

    ngx_hybrid_shm_check_size(zone);

    sh = ngx_slab_calloc(shm->shpool, sizeof(ngx_hybrid_shm_sh_t));
    if (sh == NULL) {
        return NGX_ERROR;
    }

    /* statistics take five eighths, limits and catalogue the rest */

    sh->max = zone->shm.size / 8 * 5 / sizeof(ngx_hybrid_series_t);

    size = sh->max * sizeof(ngx_hybrid_series_t);

    sh->series = ngx_slab_calloc(shm->shpool, size);
    if (sh->series == NULL) {
        return NGX_ERROR;
    }

    for (sh->nslots = 16; sh->nslots < sh->max * 2; sh->nslots *= 2) {
        /* void */
    }

    sh->slots = ngx_slab_calloc(shm->shpool,
                                sh->nslots * sizeof(ngx_atomic_t));
    if (sh->slots == NULL) {
        return NGX_ERROR;
    }

    size = ngx_hybrid_source_size(zone->shm.size, &n);

    sh->sources = ngx_slab_calloc(shm->shpool, size);
    if (sh->sources == NULL) {
        return NGX_ERROR;
    }

    ngx_hybrid_source_init(sh->sources, n, (uint32_t) ngx_random());

    size = ngx_hybrid_pairs_size(zone->shm.size / NGX_HYBRID_SHM_PAIRS, &n);

    sh->pairs = ngx_slab_calloc(shm->shpool, size);
    if (sh->pairs == NULL) {
        return NGX_ERROR;
    }

    ngx_hybrid_pairs_init(sh->pairs, n);

    for (n = 1; n < zone->shm.size / NGX_HYBRID_SHM_BUCKET; n *= 2) {
        /* void */
    }

    sh->clients.nbuckets = n;

    sh->clients.buckets = ngx_slab_calloc(shm->shpool,
                                          n * sizeof(void *));
    if (sh->clients.buckets == NULL) {
        return NGX_ERROR;
    }

    ngx_sprintf(sh->id, "%08xD%08xD", (uint32_t) ngx_random(),
                (uint32_t) (ngx_random() ^ ngx_time() ^ ngx_pid << 16));

    sh->size = zone->shm.size;
    sh->magic = NGX_HYBRID_SHM_MAGIC;

    shm->sh = sh;
    shm->conf = ++sh->clients.conf;
    shm->shpool->data = sh;
    shm->shpool->log_nomem = 0;

    return NGX_OK;
}


static void
ngx_hybrid_shm_check_size(ngx_shm_zone_t *zone)
{
    ngx_uint_t        i;
    ngx_shm_zone_t   *old;
    ngx_list_part_t  *part;

    if (ngx_cycle == NULL || ngx_is_init_cycle(ngx_cycle)) {
        return;
    }

    part = (ngx_list_part_t *) &ngx_cycle->shared_memory.part;
    old = part->elts;

    for (i = 0; /* void */ ; i++) {

        if (i >= part->nelts) {
            if (part->next == NULL) {
                return;
            }

            part = part->next;
            old = part->elts;
            i = 0;
        }

        if (old[i].shm.name.len == zone->shm.name.len
            && ngx_memcmp(old[i].shm.name.data, zone->shm.name.data,
                          zone->shm.name.len) == 0)
        {
            ngx_log_error(NGX_LOG_WARN, zone->shm.log, 0,
                          "hybrid_zone changed from %uzk to %uzk: limits, "
                          "levers and statistics start empty",
                          old[i].shm.size / 1024, zone->shm.size / 1024);
            return;
        }
    }
}


ngx_uint_t
ngx_hybrid_shm_room(ngx_hybrid_shm_t *shm, size_t size)
{
    size += shm->sh->size / NGX_HYBRID_SHM_KEPT;

    return size / ngx_pagesize + 1 < shm->shpool->pfree;
}


ngx_hybrid_series_t *
ngx_hybrid_shm_series(ngx_hybrid_shm_t *shm, ngx_str_t *client,
    ngx_str_t *backend, ngx_str_t *model)
{
    ngx_hybrid_series_t  *series;

    series = ngx_hybrid_shm_get(shm, client, backend, model,
                                NGX_HYBRID_SHM_RESERVE);
    if (series) {
        return series;
    }

    series = ngx_hybrid_shm_get(shm, client, backend, &ngx_hybrid_shm_other,
                                1);
    if (series) {
        return series;
    }

    return ngx_hybrid_shm_get(shm, &ngx_hybrid_shm_other,
                              &ngx_hybrid_shm_other, &ngx_hybrid_shm_other, 0);
}


static ngx_hybrid_series_t *
ngx_hybrid_shm_get(ngx_hybrid_shm_t *shm, ngx_str_t *client,
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

    series = ngx_hybrid_shm_lookup(shm, &key, hash, &slot);
    if (series) {
        return series;
    }

    lengths.client = (u_short) client->len;
    lengths.backend = (u_short) backend->len;
    lengths.model = (u_short) model->len;

    return ngx_hybrid_shm_insert(shm, &key, hash, &lengths, reserve);
}


/*
 * Open addressing, without a lock: slots are only ever filled, and a slot is
 * filled after its series is complete.
 */

static ngx_hybrid_series_t *
ngx_hybrid_shm_lookup(ngx_hybrid_shm_t *shm, ngx_str_t *key, uint32_t hash,
    ngx_uint_t *slot)
{
    size_t                len;
    ngx_uint_t            i, n;
    ngx_hybrid_series_t  *series;
    ngx_hybrid_shm_sh_t  *sh;

    sh = shm->sh;

    for (i = hash & (sh->nslots - 1); /* void */ ;
         i = (i + 1) & (sh->nslots - 1))
    {
        n = sh->slots[i];

        if (n == 0) {
            *slot = i;
            return NULL;
        }

        series = &sh->series[n - 1];

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
ngx_hybrid_shm_insert(ngx_hybrid_shm_t *shm, ngx_str_t *key, uint32_t hash,
    ngx_hybrid_series_t *lengths, ngx_uint_t reserve)
{
    ngx_uint_t            slot;
    ngx_hybrid_series_t  *series;
    ngx_hybrid_shm_sh_t  *sh;

    sh = shm->sh;

    if (sh->nseries + reserve >= sh->max) {
        return NULL;
    }

    ngx_shmtx_lock(&shm->shpool->mutex);

    /* another worker may have been faster */

    series = ngx_hybrid_shm_lookup(shm, key, hash, &slot);

    if (series == NULL && sh->nseries + reserve < sh->max) {
        series = &sh->series[sh->nseries];

        series->hash = hash;
        series->client = lengths->client;
        series->backend = lengths->backend;
        series->model = lengths->model;
        ngx_memcpy(series->key, key->data, key->len);

        ngx_memory_barrier();

        sh->nseries++;
        sh->slots[slot] = sh->nseries;
    }

    ngx_shmtx_unlock(&shm->shpool->mutex);

    return series;
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
