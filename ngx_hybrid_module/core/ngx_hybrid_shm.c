
/*
 * Copyright (C) the ngx_hybrid_module authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_hybrid_shm.h"

#include <openssl/rand.h>


static void ngx_hybrid_shm_check_size(ngx_shm_zone_t *zone);


/* "hybrid" and the version of this layout */
#define NGX_HYBRID_SHM_MAGIC    0x687962726964000fULL

/* this part of the zone is for models on backends */
#define NGX_HYBRID_SHM_PAIRS    64

/* this part of the zone is kept back for all but lists of models */
#define NGX_HYBRID_SHM_KEPT     16

/* bytes of the zone for each bucket of clients */
#define NGX_HYBRID_SHM_BUCKET   1024


ngx_int_t
ngx_hybrid_shm_init(ngx_hybrid_shm_t *shm, ngx_shm_zone_t *zone,
    ngx_hybrid_shm_t *old)
{
    size_t                size;
    uint32_t              id[2];
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

    /* series take seven sixteenths, limits and catalogue what is left */

    if (ngx_hybrid_series_init(&sh->series, shm->shpool,
                               zone->shm.size / 16 * 7)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    /* an eighth */

    size = ngx_hybrid_history_size(zone->shm.size / 8, &n);

    sh->history = ngx_slab_calloc(shm->shpool, size);
    if (sh->history == NULL) {
        return NGX_ERROR;
    }

    ngx_hybrid_history_init(sh->history, n, &shm->shpool->mutex);

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

    size = ngx_hybrid_anomaly_size(zone->shm.size, &n);

    sh->anomalies = ngx_slab_calloc(shm->shpool, size);
    if (sh->anomalies == NULL) {
        return NGX_ERROR;
    }

    ngx_hybrid_anomaly_init(sh->anomalies, n);

    for (n = 1; n < zone->shm.size / NGX_HYBRID_SHM_BUCKET; n *= 2) {
        /* void */
    }

    sh->clients.nbuckets = n;

    sh->clients.buckets = ngx_slab_calloc(shm->shpool,
                                          n * sizeof(void *));
    if (sh->clients.buckets == NULL) {
        return NGX_ERROR;
    }

    /* nginx's own random numbers are the same in two containers' masters */

    if (RAND_bytes((u_char *) id, sizeof(id)) != 1) {
        ngx_log_error(NGX_LOG_EMERG, zone->shm.log, 0, "RAND_bytes() failed");
        return NGX_ERROR;
    }

    ngx_sprintf(sh->id, "%08xD%08xD", id[0], id[1]);

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
