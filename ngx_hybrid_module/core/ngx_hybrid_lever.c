
/*
 * Copyright (C) the ngx_hybrid_module authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_hybrid_lever.h"


/* a script's numbers are exact up to this */
#define NGX_HYBRID_LEVER_STAMP  9000000000000000ULL


static ngx_hybrid_lever_node_t *ngx_hybrid_lever_find(ngx_hybrid_shm_t *shm,
    u_char *field, size_t len);
static ngx_hybrid_lever_node_t *ngx_hybrid_lever_make(ngx_hybrid_shm_t *shm,
    ngx_hybrid_lever_t *lever);
static ngx_uint_t ngx_hybrid_lever_text(ngx_str_t *text);


/* in the order of ngx_hybrid_lever_e */

static ngx_str_t  ngx_hybrid_lever_words[] = {
    ngx_string("enable"),
    ngx_string("drain"),
    ngx_string("disable")
};


ngx_str_t *
ngx_hybrid_lever_word(ngx_hybrid_lever_e state)
{
    return &ngx_hybrid_lever_words[state];
}


ngx_int_t
ngx_hybrid_lever_state(ngx_str_t *word, ngx_hybrid_lever_e *state)
{
    ngx_uint_t  i;

    for (i = 0; i < 3; i++) {
        if (ngx_hybrid_lever_words[i].len == word->len
            && ngx_memcmp(ngx_hybrid_lever_words[i].data, word->data,
                          word->len)
               == 0)
        {
            *state = i;
            return NGX_OK;
        }
    }

    return NGX_ERROR;
}


ngx_int_t
ngx_hybrid_lever_init(ngx_hybrid_lever_t *lever, ngx_str_t *backend,
    ngx_str_t *path, ngx_hybrid_lever_e state, ngx_str_t *who, ngx_str_t *why)
{
    u_char  *p;

    ngx_memzero(lever, sizeof(ngx_hybrid_lever_t));

    if (backend->len == 0 || backend->len > NGX_HYBRID_LABEL_MAX
        || path->len > NGX_HYBRID_PATH_NAME
        || who->len > NGX_HYBRID_LEVER_WHO
        || why->len > NGX_HYBRID_LEVER_WHY
        || !ngx_hybrid_lever_text(why))
    {
        return NGX_ERROR;
    }

    p = ngx_cpymem(lever->field, backend->data, backend->len);

    if (path->len) {
        *p++ = '|';
        p = ngx_cpymem(p, path->data, path->len);
    }

    lever->nfield = (u_short) (p - lever->field);
    lever->state = state;

    lever->nwho = (u_short) who->len;
    ngx_memcpy(lever->who, who->data, who->len);

    lever->nwhy = (u_short) why->len;

    if (why->len) {
        ngx_memcpy(lever->why, why->data, why->len);
    }

    return NGX_OK;
}


size_t
ngx_hybrid_lever_value(ngx_hybrid_lever_t *lever, u_char *value)
{
    return ngx_sprintf(value, "%V %uL %*s %*s",
                       &ngx_hybrid_lever_words[lever->state], lever->stamp,
                       (size_t) lever->nwho, lever->who,
                       (size_t) lever->nwhy, lever->why)
           - value;
}


/* Redis may hold anything */

ngx_int_t
ngx_hybrid_lever_parse(ngx_hybrid_lever_t *lever, ngx_str_t *field,
    ngx_str_t *value)
{
    u_char              *p, *last, *end;
    uint64_t             stamp;
    ngx_str_t            words[4], backend, path;
    ngx_uint_t           i;
    ngx_hybrid_lever_e   state;

    p = value->data;
    last = p + value->len;

    for (i = 0; i < 4; i++) {

        end = (i < 3) ? ngx_strlchr(p, last, ' ') : last;
        if (end == NULL) {
            return NGX_ERROR;
        }

        words[i].data = p;
        words[i].len = end - p;

        p = end + 1;
    }

    stamp = 0;

    for (i = 0; i < words[1].len; i++) {

        if (words[1].data[i] < '0' || words[1].data[i] > '9') {
            return NGX_ERROR;
        }

        stamp = stamp * 10 + (words[1].data[i] - '0');

        if (stamp > NGX_HYBRID_LEVER_STAMP) {
            return NGX_ERROR;
        }
    }

    p = field->data;
    last = p + field->len;
    end = ngx_strlchr(p, last, '|');

    backend.data = p;
    backend.len = (end ? end : last) - p;

    path.data = end ? end + 1 : last;
    path.len = last - path.data;

    if (stamp == 0
        || ngx_hybrid_lever_state(&words[0], &state) != NGX_OK
        || !ngx_hybrid_lever_text(field)
        || !ngx_hybrid_lever_text(&words[2])
        || (end && path.len == 0)
        || ngx_hybrid_lever_init(lever, &backend, &path, state, &words[2],
                                 &words[3])
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    lever->stamp = stamp;

    return NGX_OK;
}


/* it is shown to people: UTF-8, and nothing that moves a cursor */

static ngx_uint_t
ngx_hybrid_lever_text(ngx_str_t *text)
{
    u_char    *p, *last;
    uint32_t   code;

    p = text->data;
    last = p + text->len;

    while (p < last) {
        code = (*p < 0x80) ? *p++ : ngx_utf8_decode(&p, last - p);

        if (code < 0x20 || (code >= 0x7f && code < 0xa0) || code > 0x10ffff
            || (code >= 0xd800 && code < 0xe000)
            || (code >= 0x2028 && code <= 0x202e))
        {
            return 0;
        }
    }

    return 1;
}


ngx_int_t
ngx_hybrid_lever_set(ngx_hybrid_shm_t *shm, ngx_hybrid_lever_t *lever,
    ngx_uint_t unsaved)
{
    uint64_t                  now;
    ngx_time_t               *tp;
    ngx_hybrid_lever_node_t  *node;

    tp = ngx_timeofday();
    now = (uint64_t) tp->sec * 1000 + tp->msec;

    lever->unsaved = unsaved ? 1 : 0;

    ngx_shmtx_lock(&shm->shpool->mutex);

    node = ngx_hybrid_lever_make(shm, lever);

    if (node == NULL) {
        ngx_shmtx_unlock(&shm->shpool->mutex);
        return NGX_ERROR;
    }

    /* the clock of the gateway that spoke last may be ahead of ours */

    lever->stamp = ngx_max(now, node->lever.stamp + 1);
    node->lever = *lever;

    ngx_shmtx_unlock(&shm->shpool->mutex);

    ngx_hybrid_lever_apply(shm);

    return NGX_OK;
}


ngx_int_t
ngx_hybrid_lever_merge(ngx_hybrid_shm_t *shm, ngx_hybrid_lever_t *lever)
{
    ngx_int_t                 rc;
    ngx_hybrid_lever_node_t  *node;

    ngx_shmtx_lock(&shm->shpool->mutex);

    node = ngx_hybrid_lever_make(shm, lever);

    if (node == NULL) {
        rc = NGX_ERROR;

    } else if (node->lever.stamp > lever->stamp) {
        node->lever.unsaved = 1;
        node->lever.seen = 1;
        rc = NGX_DECLINED;

    } else {

        /* of two at the same time that of Redis is the same for all */

        rc = (node->lever.stamp == lever->stamp
              && node->lever.state == lever->state) ? NGX_DECLINED : NGX_OK;

        node->lever = *lever;
        node->lever.seen = 1;
    }

    ngx_shmtx_unlock(&shm->shpool->mutex);

    return rc;
}


void
ngx_hybrid_lever_begin(ngx_hybrid_shm_t *shm)
{
    ngx_hybrid_lever_node_t  *node;

    ngx_shmtx_lock(&shm->shpool->mutex);

    for (node = shm->sh->levers; node; node = node->next) {
        node->lever.seen = 0;
    }

    ngx_shmtx_unlock(&shm->shpool->mutex);
}


void
ngx_hybrid_lever_end(ngx_hybrid_shm_t *shm)
{
    ngx_hybrid_lever_node_t  *node;

    ngx_shmtx_lock(&shm->shpool->mutex);

    for (node = shm->sh->levers; node; node = node->next) {
        if (!node->lever.seen && node->lever.stamp) {
            node->lever.unsaved = 1;
        }
    }

    ngx_shmtx_unlock(&shm->shpool->mutex);
}


ngx_int_t
ngx_hybrid_lever_get(ngx_hybrid_shm_t *shm, ngx_str_t *field,
    ngx_hybrid_lever_t *lever)
{
    ngx_int_t                 rc;
    ngx_hybrid_lever_node_t  *node;

    rc = NGX_DECLINED;

    ngx_shmtx_lock(&shm->shpool->mutex);

    node = ngx_hybrid_lever_find(shm, field->data, field->len);

    if (node && node->lever.stamp) {
        *lever = node->lever;
        rc = NGX_OK;
    }

    ngx_shmtx_unlock(&shm->shpool->mutex);

    return rc;
}


ngx_int_t
ngx_hybrid_lever_all(ngx_hybrid_shm_t *shm, ngx_pool_t *pool,
    ngx_array_t *levers)
{
    ngx_uint_t                n;
    ngx_hybrid_lever_t       *lever;
    ngx_hybrid_lever_node_t  *node, *first;

    /* new ones are put in front: those behind the first stay what they are */

    first = shm->sh->levers;
    n = 0;

    for (node = first; node; node = node->next) {
        n++;
    }

    if (ngx_array_init(levers, pool, n ? n : 1, sizeof(ngx_hybrid_lever_t))
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    lever = levers->elts;

    ngx_shmtx_lock(&shm->shpool->mutex);

    for (node = first; node; node = node->next) {
        if (node->lever.stamp) {
            lever[levers->nelts++] = node->lever;
        }
    }

    ngx_shmtx_unlock(&shm->shpool->mutex);

    return NGX_OK;
}


static ngx_hybrid_lever_node_t *
ngx_hybrid_lever_find(ngx_hybrid_shm_t *shm, u_char *field, size_t len)
{
    ngx_hybrid_lever_node_t  *node;

    for (node = shm->sh->levers; node; node = node->next) {
        if (node->lever.nfield == len
            && ngx_memcmp(node->lever.field, field, len) == 0)
        {
            return node;
        }
    }

    return NULL;
}


/* with the mutex; a new one has no stamp so far */

static ngx_hybrid_lever_node_t *
ngx_hybrid_lever_make(ngx_hybrid_shm_t *shm, ngx_hybrid_lever_t *lever)
{
    ngx_hybrid_lever_node_t  *node;

    node = ngx_hybrid_lever_find(shm, lever->field, lever->nfield);
    if (node) {
        return node;
    }

    node = ngx_slab_calloc_locked(shm->shpool,
                                  sizeof(ngx_hybrid_lever_node_t));
    if (node == NULL) {
        return NULL;
    }

    node->lever.nfield = lever->nfield;
    ngx_memcpy(node->lever.field, lever->field, lever->nfield);

    node->next = shm->sh->levers;
    ngx_memory_barrier();
    shm->sh->levers = node;

    return node;
}


/* entries and their names never change: no lock is needed to find them */

void
ngx_hybrid_lever_apply(ngx_hybrid_shm_t *shm)
{
    size_t                    len;
    u_char                   *field;
    ngx_uint_t                changed;
    ngx_hybrid_path_t        *path;
    ngx_hybrid_health_t      *health;
    ngx_hybrid_lever_node_t  *node;

    changed = 0;

    for (node = shm->sh->levers; node; node = node->next) {

        if (node->lever.stamp == 0) {
            continue;
        }

        field = node->lever.field;
        len = node->lever.nfield;

        for (health = shm->sh->healths; health; health = health->next) {

            if (len < health->nname
                || ngx_memcmp(field, health->name, health->nname) != 0)
            {
                continue;
            }

            if (len == health->nname) {

                if (health->lever != node->lever.state) {
                    health->lever = node->lever.state;
                    changed = 1;
                }

                break;
            }

            if (field[health->nname] != '|') {
                continue;
            }

            field += health->nname + 1;
            len -= health->nname + 1;

            for (path = health->paths; path; path = path->next) {

                if (path->nname == len
                    && ngx_memcmp(path->name, field, len) == 0
                    && path->lever != node->lever.state)
                {
                    path->lever = node->lever.state;
                    changed = 1;
                }
            }

            break;
        }
    }

    if (changed) {
        ngx_hybrid_health_touch(shm);
    }
}
