
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * What the results of probes make of a path.  It is one worker that tells
 * them, and another one from time to time.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_hybrid_health.h"


/* 0 is "not" for a time */
#define ngx_hybrid_path_now()  (ngx_current_msec ? ngx_current_msec : 1)


ngx_uint_t
ngx_hybrid_path_passed(ngx_hybrid_shm_t *shm, ngx_hybrid_path_t *path,
    ngx_uint_t passes, uint64_t usec, ngx_msec_t slow)
{
    ngx_uint_t  changes;

    changes = 0;

    path->fails = 0;
    path->silent = 0;
    path->latency = usec ? usec : 1;

    if (path->passes < passes) {
        path->passes++;
    }

    if (path->nerror) {
        ngx_shmtx_lock(&shm->shpool->mutex);
        path->nerror = 0;
        ngx_shmtx_unlock(&shm->shpool->mutex);
    }

    if (path->slow != (slow && usec > (uint64_t) slow * 1000)) {
        path->slow = !path->slow;
        changes |= path->slow ? NGX_HYBRID_PATH_SLOW : NGX_HYBRID_PATH_FAST;
    }

    /* what nobody has asked before needs no proof that it lasts */

    if (path->down && (path->passes >= passes || path->probed == 0)) {
        path->down = 0;
        path->changed = ngx_hybrid_path_now();
        path->flaps++;
        changes |= NGX_HYBRID_PATH_UP;
    }

    path->probed = ngx_hybrid_path_now();

    return changes;
}


ngx_uint_t
ngx_hybrid_path_failed(ngx_hybrid_shm_t *shm, ngx_hybrid_path_t *path,
    ngx_uint_t fails, ngx_str_t *error, ngx_msec_t silent)
{
    size_t      i, len;
    u_char      ch;
    ngx_uint_t  changes;

    changes = 0;

    path->passes = 0;
    path->probed = ngx_hybrid_path_now();

    /* since the first of those in a row */

    if (silent == 0) {
        path->silent = 0;

    } else if (path->silent == 0) {
        path->silent = silent;
    }

    if (path->fails < fails) {
        path->fails++;
    }

    ngx_shmtx_lock(&shm->shpool->mutex);

    len = ngx_min(error->len, NGX_HYBRID_HEALTH_ERROR);

    for (i = 0; i < len; i++) {
        ch = error->data[i];

        /* it goes into JSON as it is */

        path->error[i] = (ch == '"' || ch == '\\') ? '\''
                         : (ch < ' ' || ch >= 0x7f) ? '.' : ch;
    }

    path->nerror = (u_short) len;

    ngx_shmtx_unlock(&shm->shpool->mutex);

    if (!path->down && path->fails >= fails) {
        path->down = 1;
        path->ramp = 0;
        path->changed = ngx_hybrid_path_now();
        path->flaps++;
        changes |= NGX_HYBRID_PATH_DOWN;
    }

    return changes;
}


size_t
ngx_hybrid_path_error(ngx_hybrid_shm_t *shm, ngx_hybrid_path_t *path,
    u_char *buf)
{
    size_t  len;

    ngx_shmtx_lock(&shm->shpool->mutex);

    len = path->nerror;
    ngx_memcpy(buf, path->error, len);

    ngx_shmtx_unlock(&shm->shpool->mutex);

    return len;
}
