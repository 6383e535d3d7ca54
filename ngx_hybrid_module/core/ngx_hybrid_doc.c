
/*
 * Copyright (C) the ngx_hybrid_module authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_hybrid_doc.h"


static void ngx_hybrid_doc_end(ngx_hybrid_doc_t *doc, ngx_msec_t next);


/* later than the other, on a clock that wraps */
#define ngx_hybrid_doc_after(a, b)  ((ngx_msec_int_t) ((a) - (b)) > 0)


ngx_hybrid_doc_t *
ngx_hybrid_doc(ngx_hybrid_shm_t *shm, ngx_str_t *name)
{
    ngx_hybrid_doc_t  *doc;

    if (name->len > NGX_HYBRID_DOC_NAME) {
        return NULL;
    }

    ngx_shmtx_lock(&shm->shpool->mutex);

    for (doc = shm->sh->docs; doc; doc = doc->next) {
        if (doc->nname == name->len
            && ngx_memcmp(doc->name, name->data, name->len) == 0)
        {
            goto done;
        }
    }

    doc = ngx_slab_calloc_locked(shm->shpool, sizeof(ngx_hybrid_doc_t));
    if (doc == NULL) {
        goto done;
    }

    doc->nname = (u_short) name->len;
    ngx_memcpy(doc->name, name->data, name->len);

    doc->due = ngx_current_msec;
    doc->loaded = ngx_current_msec;
    doc->tried = ngx_current_msec;

    /* published last: a worker that dies here leaves no half entry */

    doc->next = shm->sh->docs;
    ngx_memory_barrier();
    shm->sh->docs = doc;

done:

    ngx_shmtx_unlock(&shm->shpool->mutex);

    return doc;
}


ngx_uint_t
ngx_hybrid_doc_turn(ngx_hybrid_doc_t *doc, ngx_msec_t hold)
{
    ngx_msec_t  now, end;

    ngx_atomic_uint_t  busy;

    now = ngx_current_msec;
    busy = doc->busy;

    if (ngx_hybrid_doc_after(doc->due, now)
        || (busy && ngx_hybrid_doc_after(busy, now)))
    {
        return 0;
    }

    end = now + hold;

    /* 0 is nobody's turn */

    if (!ngx_atomic_cmp_set(&doc->busy, busy, end ? end : 1)) {
        return 0;
    }

    /* another worker's turn may have come and gone since "due" was read */

    if (ngx_hybrid_doc_after(doc->due, now)) {
        doc->busy = 0;
        return 0;
    }

    doc->tried = now;

    return 1;
}


ngx_int_t
ngx_hybrid_doc_publish(ngx_hybrid_shm_t *shm, ngx_hybrid_doc_t *doc,
    ngx_str_t *text, ngx_msec_t next)
{
    size_t   room;
    u_char  *data, *old;

    ngx_shmtx_lock(&shm->shpool->mutex);

    old = NULL;
    room = doc->room;

    if (doc->data == NULL || doc->room < text->len) {

        data = ngx_slab_alloc_locked(shm->shpool, ngx_max(text->len, 1));

        if (data == NULL) {
            ngx_shmtx_unlock(&shm->shpool->mutex);
            return NGX_ERROR;
        }

        old = doc->data;
        doc->len = 0;
        doc->data = data;
        doc->room = text->len;
    }

    /* a worker that dies in here leaves an empty one, not half a one */

    doc->len = 0;
    ngx_memory_barrier();
    ngx_memcpy(doc->data, text->data, text->len);
    ngx_memory_barrier();
    doc->len = text->len;

    /* it may have been a credential */

    if (old) {
        ngx_explicit_memzero(old, room);
        ngx_slab_free_locked(shm->shpool, old);
    }

    ngx_explicit_memzero(doc->data + doc->len, doc->room - doc->len);

    doc->ntag = 0;
    doc->nerror = 0;
    doc->failures = 0;
    doc->loaded = ngx_current_msec;
    doc->generation++;

    ngx_shmtx_unlock(&shm->shpool->mutex);

    ngx_hybrid_doc_end(doc, next);

    return NGX_OK;
}


void
ngx_hybrid_doc_unchanged(ngx_hybrid_shm_t *shm, ngx_hybrid_doc_t *doc,
    ngx_msec_t next)
{
    ngx_shmtx_lock(&shm->shpool->mutex);

    doc->nerror = 0;
    doc->failures = 0;
    doc->loaded = ngx_current_msec;

    ngx_shmtx_unlock(&shm->shpool->mutex);

    ngx_hybrid_doc_end(doc, next);
}


void
ngx_hybrid_doc_failed(ngx_hybrid_shm_t *shm, ngx_hybrid_doc_t *doc,
    ngx_str_t *error, ngx_msec_t next)
{
    ngx_shmtx_lock(&shm->shpool->mutex);

    doc->nerror = (u_short) ngx_min(error->len, NGX_HYBRID_DOC_ERROR);
    ngx_memcpy(doc->error, error->data, doc->nerror);
    doc->failures++;

    ngx_shmtx_unlock(&shm->shpool->mutex);

    ngx_hybrid_doc_end(doc, next);
}


static void
ngx_hybrid_doc_end(ngx_hybrid_doc_t *doc, ngx_msec_t next)
{
    doc->due = ngx_current_msec + next;
    ngx_memory_barrier();
    doc->busy = 0;
}


void
ngx_hybrid_doc_release(ngx_hybrid_doc_t *doc)
{
    doc->busy = 0;
}


void
ngx_hybrid_doc_set_tag(ngx_hybrid_shm_t *shm, ngx_hybrid_doc_t *doc,
    ngx_str_t *tag)
{
    ngx_shmtx_lock(&shm->shpool->mutex);

    doc->ntag = 0;

    if (doc->data && tag->len <= NGX_HYBRID_DOC_TAG) {
        ngx_memcpy(doc->tag, tag->data, tag->len);
        doc->ntag = (u_short) tag->len;
    }

    ngx_shmtx_unlock(&shm->shpool->mutex);
}


size_t
ngx_hybrid_doc_tag(ngx_hybrid_shm_t *shm, ngx_hybrid_doc_t *doc, u_char *buf)
{
    size_t  len;

    ngx_shmtx_lock(&shm->shpool->mutex);

    len = doc->ntag;
    ngx_memcpy(buf, doc->tag, len);

    ngx_shmtx_unlock(&shm->shpool->mutex);

    return len;
}


ngx_uint_t
ngx_hybrid_doc_want(ngx_hybrid_doc_t *doc, ngx_msec_t cooldown)
{
    ngx_msec_t         now;
    ngx_atomic_uint_t  due;

    now = ngx_current_msec;
    due = doc->due;

    if (!ngx_hybrid_doc_after(due, now)) {
        return 1;
    }

    if (ngx_hybrid_doc_after(doc->tried + cooldown, now)) {
        return 0;
    }

    /* lost to the end of a turn: that has just brought the newest */

    return ngx_atomic_cmp_set(&doc->due, due, now);
}


void
ngx_hybrid_doc_within(ngx_hybrid_doc_t *doc, ngx_msec_t age)
{
    ngx_msec_t         limit;
    ngx_atomic_uint_t  due;

    due = doc->due;
    limit = doc->tried + age;

    if (ngx_hybrid_doc_after(due, limit)) {

        /* lost to the end of a turn: that went by the new age, or will */

        (void) ngx_atomic_cmp_set(&doc->due, due, limit);
    }
}


ngx_uint_t
ngx_hybrid_doc_drop(ngx_hybrid_shm_t *shm, ngx_hybrid_doc_t *doc)
{
    size_t       room;
    u_char      *data;
    ngx_uint_t   dropped;

    ngx_shmtx_lock(&shm->shpool->mutex);

    data = doc->data;
    room = doc->room;
    dropped = (data != NULL);

    if (dropped) {

        /* a worker that dies in here loses memory, and no more than that */

        doc->len = 0;
        doc->data = NULL;
        doc->room = 0;
        doc->ntag = 0;
        doc->generation++;
        ngx_memory_barrier();

        ngx_explicit_memzero(data, room);
        ngx_slab_free_locked(shm->shpool, data);
    }

    ngx_shmtx_unlock(&shm->shpool->mutex);

    return dropped;
}


ngx_int_t
ngx_hybrid_doc_read(ngx_hybrid_shm_t *shm, ngx_hybrid_doc_t *doc,
    ngx_pool_t *pool, ngx_str_t *text, ngx_atomic_uint_t *generation)
{
    size_t  room;

    ngx_str_null(text);

    for ( ;; ) {
        room = doc->len;

        text->data = ngx_pnalloc(pool, room + 1);
        if (text->data == NULL) {
            return NGX_ERROR;
        }

        ngx_shmtx_lock(&shm->shpool->mutex);

        *generation = doc->generation;
        text->len = doc->len;

        if (doc->data == NULL) {
            ngx_shmtx_unlock(&shm->shpool->mutex);
            return NGX_DECLINED;
        }

        if (text->len <= room) {
            ngx_memcpy(text->data, doc->data, text->len);
            ngx_shmtx_unlock(&shm->shpool->mutex);
            return NGX_OK;
        }

        /* it has grown meanwhile */

        ngx_shmtx_unlock(&shm->shpool->mutex);
    }
}


size_t
ngx_hybrid_doc_error(ngx_hybrid_shm_t *shm, ngx_hybrid_doc_t *doc,
    u_char *buf)
{
    size_t  len;

    ngx_shmtx_lock(&shm->shpool->mutex);

    len = doc->nerror;
    ngx_memcpy(buf, doc->error, len);

    ngx_shmtx_unlock(&shm->shpool->mutex);

    return len;
}
