
/*
 * Copyright (C) the ngx_hybrid_module authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_hybrid_health.h"


#define NGX_HYBRID_HEALTH_BLOCK_MAX  3600000


/* the last one is shared by all for whom there is none */
#define NGX_HYBRID_HEALTH_SHARED     (NGX_HYBRID_HEALTH_CELLS - 1)

#define ngx_hybrid_health_cell()                                              \
    ngx_min((ngx_uint_t) ngx_process_slot, NGX_HYBRID_HEALTH_SHARED)


ngx_str_t  ngx_hybrid_passed_names[] = {
    ngx_string("error"),
    ngx_string("timeout"),
    ngx_string("http_404"),
    ngx_string("http_408"),
    ngx_string("http_429"),
    ngx_string("http_500"),
    ngx_string("http_502"),
    ngx_string("http_503"),
    ngx_string("http_504"),
    ngx_string("http"),
    ngx_string("no_live"),
    ngx_string("no_model"),
    ngx_string("busy"),
    ngx_string("breaker"),
    ngx_string("quota"),
    ngx_string("wedged"),
    ngx_string("drained"),
    ngx_string("disabled"),
    ngx_string("budget"),
    ngx_string("queue")
};


ngx_hybrid_health_t *
ngx_hybrid_health(ngx_hybrid_shm_t *shm, ngx_str_t *name)
{
    ngx_hybrid_health_t  *health;

    if (name->len > NGX_HYBRID_LABEL_MAX) {
        return NULL;
    }

    ngx_shmtx_lock(&shm->shpool->mutex);

    for (health = shm->sh->healths; health; health = health->next) {
        if (health->nname == name->len
            && ngx_memcmp(health->name, name->data, name->len) == 0)
        {
            goto done;
        }
    }

    health = ngx_slab_calloc_locked(shm->shpool, sizeof(ngx_hybrid_health_t));
    if (health == NULL) {
        goto done;
    }

    health->nname = (u_short) name->len;
    ngx_memcpy(health->name, name->data, name->len);
    health->progress = ngx_current_msec;

    /* published last: a worker that dies here leaves no half entry */

    health->next = shm->sh->healths;
    ngx_memory_barrier();
    shm->sh->healths = health;

done:

    ngx_shmtx_unlock(&shm->shpool->mutex);

    return health;
}


ngx_hybrid_path_t *
ngx_hybrid_health_path(ngx_hybrid_shm_t *shm, ngx_hybrid_health_t *health,
    ngx_str_t *name)
{
    ngx_hybrid_path_t  *path;

    if (name->len > NGX_HYBRID_PATH_NAME) {
        return NULL;
    }

    ngx_shmtx_lock(&shm->shpool->mutex);

    for (path = health->paths; path; path = path->next) {
        if (path->nname == name->len
            && ngx_memcmp(path->name, name->data, name->len) == 0)
        {
            goto done;
        }
    }

    path = ngx_slab_calloc_locked(shm->shpool, sizeof(ngx_hybrid_path_t));
    if (path == NULL) {
        goto done;
    }

    path->nname = (u_short) name->len;
    ngx_memcpy(path->name, name->data, name->len);
    path->changed = ngx_current_msec;

    path->next = health->paths;
    ngx_memory_barrier();
    health->paths = path;

done:

    ngx_shmtx_unlock(&shm->shpool->mutex);

    return path;
}


void
ngx_hybrid_health_touch(ngx_hybrid_shm_t *shm)
{
    (void) ngx_atomic_fetch_add(&shm->sh->health_generation, 1);
}


void
ngx_hybrid_health_start(ngx_hybrid_shm_t *shm)
{
    ngx_uint_t            cell;
    ngx_atomic_uint_t     n;
    ngx_hybrid_health_t  *health;

    cell = ngx_hybrid_health_cell();

    for (health = shm->sh->healths; health; health = health->next) {

        if (cell != NGX_HYBRID_HEALTH_SHARED) {
            health->cells[cell].busy = 0;
            health->cells[cell].pid = ngx_pid;
        }

        do {
            n = health->ncells;
        } while (n <= cell
                 && !ngx_atomic_cmp_set(&health->ncells, n, cell + 1));
    }
}


void
ngx_hybrid_health_end(ngx_hybrid_shm_t *shm)
{
    ngx_uint_t            cell;
    ngx_hybrid_health_t  *health;

    cell = ngx_hybrid_health_cell();

    if (cell == NGX_HYBRID_HEALTH_SHARED) {
        return;
    }

    for (health = shm->sh->healths; health; health = health->next) {
        if (health->cells[cell].pid == (ngx_atomic_uint_t) ngx_pid) {
            health->cells[cell].busy = 0;
        }
    }
}


void
ngx_hybrid_health_reap(ngx_hybrid_shm_t *shm)
{
    ngx_uint_t                 i;
    ngx_atomic_uint_t          busy, pid;
    ngx_hybrid_health_t       *health;
    ngx_hybrid_health_cell_t  *cell;

    for (health = shm->sh->healths; health; health = health->next) {
        for (i = 0; i < health->ncells && i < NGX_HYBRID_HEALTH_SHARED; i++) {

            cell = &health->cells[i];
            busy = cell->busy;
            pid = cell->pid;

            if (busy == 0 || pid == 0 || pid == (ngx_atomic_uint_t) ngx_pid) {
                continue;
            }

            if (kill((ngx_pid_t) pid, 0) == -1 && ngx_errno == ESRCH
                && cell->pid == pid)
            {
                (void) ngx_atomic_cmp_set(&cell->busy, busy, 0);
            }
        }
    }
}


ngx_uint_t
ngx_hybrid_health_busy(ngx_hybrid_health_t *health)
{
    ngx_uint_t        i, n;
    ngx_atomic_int_t  busy;

    busy = 0;
    n = health->ncells;

    for (i = 0; i < n; i++) {
        busy += (ngx_atomic_int_t) health->cells[i].busy;
    }

    return busy > 0 ? (ngx_uint_t) busy : 0;
}


ngx_uint_t
ngx_hybrid_health_take(ngx_hybrid_health_t *health, ngx_uint_t slots)
{
    ngx_uint_t     i;
    ngx_atomic_t  *cell;

    cell = &health->cells[ngx_hybrid_health_cell()].busy;

    if (slots == 0) {
        (void) ngx_atomic_fetch_add(cell, 1);
        return 1;
    }

    /*
     * Counted before it is looked whether that was allowed: there are never
     * too many.  Two workers may step back from the same last one, so each
     * tries again.
     */

    for (i = 0; i < 3; i++) {

        if (ngx_hybrid_health_busy(health) >= slots) {
            return 0;
        }

        (void) ngx_atomic_fetch_add(cell, 1);

        if (ngx_hybrid_health_busy(health) <= slots) {
            return 1;
        }

        (void) ngx_atomic_fetch_add(cell, -1);

        ngx_cpu_pause();
    }

    return 0;
}


void
ngx_hybrid_health_give(ngx_hybrid_health_t *health)
{
    (void) ngx_atomic_fetch_add(
                        &health->cells[ngx_hybrid_health_cell()].busy, -1);
}


void
ngx_hybrid_health_block(ngx_hybrid_health_t *health, ngx_msec_t time)
{
    ngx_msec_t  until;

    until = ngx_current_msec + ngx_min(time, NGX_HYBRID_HEALTH_BLOCK_MAX);

    health->blocked = until ? until : 1;
    health->changed = ngx_current_msec;
}


ngx_msec_t
ngx_hybrid_health_blocked(ngx_hybrid_health_t *health)
{
    ngx_msec_t      until;
    ngx_msec_int_t  left;

    until = health->blocked;

    if (until == 0) {
        return 0;
    }

    left = (ngx_msec_int_t) (until - ngx_current_msec);

    /* one that is over long ago must not come back when the clock wraps */

    if (left <= 0 || left > NGX_HYBRID_HEALTH_BLOCK_MAX) {
        (void) ngx_atomic_cmp_set(&health->blocked, until, 0);
        return 0;
    }

    return left;
}


ngx_uint_t
ngx_hybrid_passed_number(ngx_str_t *name)
{
    ngx_uint_t  i;

    for (i = 0; i < ngx_hybrid_passed_n; i++) {
        if (ngx_hybrid_passed_names[i].len == name->len
            && ngx_memcmp(ngx_hybrid_passed_names[i].data, name->data,
                          name->len)
               == 0)
        {
            return i;
        }
    }

    return ngx_hybrid_passed_status;
}


void
ngx_hybrid_health_passed(ngx_hybrid_health_t *health, ngx_str_t *name)
{
    ngx_uint_t  i;

    i = ngx_hybrid_passed_number(name);

    (void) ngx_atomic_fetch_add(&health->passed[i], 1);
}
