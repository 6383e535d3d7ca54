
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * A segment belongs to the minute it names.  Who counts in another minute
 * clears it under the mutex: it names none meanwhile, so that a worker that
 * is killed there leaves it to be cleared again.  Counting is lock-free; a
 * worker that stood still for an hour may add to a minute that is not its
 * own, and no more than that.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_hybrid_history.h"


/* cells of all minutes have this many at most, a full one costs no more */
#define NGX_HYBRID_HISTORY_CELLS   8192

/* cells that are looked at for a key */
#define NGX_HYBRID_HISTORY_PROBES  128

#define NGX_HYBRID_HISTORY_SERIES                                             \
    (0xffffffff / (NGX_HYBRID_HISTORY_TABLES * NGX_HYBRID_HISTORY_BUCKETS))


static ngx_hybrid_history_cell_t *ngx_hybrid_history_cell(
    ngx_hybrid_history_t *history, ngx_hybrid_history_segment_t *segment,
    uint32_t key);
static void ngx_hybrid_history_begin(ngx_hybrid_history_t *history,
    ngx_hybrid_history_segment_t *segment, uint32_t minute);
static int ngx_libc_cdecl ngx_hybrid_history_compare(const void *one,
    const void *two);


size_t
ngx_hybrid_history_size(size_t room, ngx_uint_t *n)
{
    size_t  cells;

    cells = (room - sizeof(ngx_hybrid_history_t))
            / NGX_HYBRID_HISTORY_MINUTES / sizeof(ngx_hybrid_history_cell_t);

    *n = ngx_min(cells, NGX_HYBRID_HISTORY_CELLS);

    return sizeof(ngx_hybrid_history_t)
           + *n * NGX_HYBRID_HISTORY_MINUTES
             * sizeof(ngx_hybrid_history_cell_t);
}


void
ngx_hybrid_history_init(ngx_hybrid_history_t *history, ngx_uint_t n,
    ngx_shmtx_t *mutex)
{
    ngx_uint_t                  i;
    ngx_hybrid_history_cell_t  *cells;

    history->mutex = mutex;
    history->n = n;

    cells = (ngx_hybrid_history_cell_t *) (history + 1);

    for (i = 0; i < NGX_HYBRID_HISTORY_MINUTES; i++) {
        history->segments[i].cells = cells + i * n;
    }
}


void
ngx_hybrid_history_add(ngx_hybrid_history_t *history, ngx_uint_t series,
    ngx_uint_t table, ngx_uint_t bucket, uint64_t n)
{
    uint32_t                       key, minute, count;
    ngx_hybrid_history_cell_t     *cell;
    ngx_hybrid_history_segment_t  *segment;

    if (n == 0) {
        return;
    }

    count = (uint32_t) ngx_min(n, 0xffffffff);

    minute = (uint32_t) (ngx_time() / 60);
    segment = &history->segments[minute % NGX_HYBRID_HISTORY_MINUTES];

    if (segment->minute != minute) {
        ngx_hybrid_history_begin(history, segment, minute);
    }

    cell = NULL;

    if (series < NGX_HYBRID_HISTORY_SERIES
        && table < NGX_HYBRID_HISTORY_TABLES
        && bucket < NGX_HYBRID_HISTORY_BUCKETS)
    {
        key = 1 + (uint32_t) ((series * NGX_HYBRID_HISTORY_TABLES + table)
                              * NGX_HYBRID_HISTORY_BUCKETS + bucket);

        cell = ngx_hybrid_history_cell(history, segment, key);
    }

    ngx_hybrid_atomic32_add(cell ? &cell->count : &segment->lost, count);

    /* last: who stores it looks at this first */

    ngx_hybrid_atomic32_add(&segment->changed, 1);
}


static ngx_hybrid_history_cell_t *
ngx_hybrid_history_cell(ngx_hybrid_history_t *history,
    ngx_hybrid_history_segment_t *segment, uint32_t key)
{
    uint32_t                    old;
    ngx_uint_t                  i, probes;
    ngx_hybrid_history_cell_t  *cell;

    probes = ngx_min(history->n, NGX_HYBRID_HISTORY_PROBES);

    i = (ngx_uint_t) (((uint64_t) (key * 2654435761u) * history->n) >> 32);

    while (probes--) {

        cell = &segment->cells[i];
        old = cell->key;

        /* another worker may take it, for this key or for another one */

        if (old == 0 && ngx_hybrid_atomic32_cmp_set(&cell->key, 0, key)) {
            return cell;
        }

        if (cell->key == key) {
            return cell;
        }

        i++;

        if (i == history->n) {
            i = 0;
        }
    }

    return NULL;
}


static void
ngx_hybrid_history_begin(ngx_hybrid_history_t *history,
    ngx_hybrid_history_segment_t *segment, uint32_t minute)
{
    ngx_shmtx_lock(history->mutex);

    if (segment->minute != minute) {

        segment->minute = 0;
        ngx_memory_barrier();

        segment->generation++;

        ngx_memzero(segment->cells,
                    history->n * sizeof(ngx_hybrid_history_cell_t));

        segment->changed = 0;
        segment->stored = 0;
        segment->lost = 0;

        ngx_memory_barrier();
        segment->minute = minute;
    }

    ngx_shmtx_unlock(history->mutex);
}


ngx_int_t
ngx_hybrid_history_read(ngx_hybrid_history_t *history, ngx_uint_t i,
    ngx_hybrid_history_state_t *state)
{
    uint32_t                       key, count;
    ngx_uint_t                     k;
    ngx_hybrid_history_cell_t     *cell;
    ngx_hybrid_history_segment_t  *segment;

    segment = &history->segments[i];

    state->generation = segment->generation;
    ngx_memory_barrier();

    state->minute = segment->minute;
    state->changed = segment->changed;
    state->n = 0;

    if (state->minute == 0) {
        return NGX_DECLINED;
    }

    ngx_memory_barrier();

    for (k = 0; k < history->n; k++) {

        cell = &segment->cells[k];
        key = cell->key;
        count = cell->count;

        if (key && count) {
            state->cells[state->n].key = key;
            state->cells[state->n].count = count;
            state->n++;
        }
    }

    state->lost = segment->lost;

    ngx_memory_barrier();

    if (segment->generation != state->generation
        || segment->minute != state->minute)
    {
        return NGX_DECLINED;
    }

    ngx_qsort(state->cells, state->n, sizeof(ngx_hybrid_history_cell_t),
              ngx_hybrid_history_compare);

    return NGX_OK;
}


static int ngx_libc_cdecl
ngx_hybrid_history_compare(const void *one, const void *two)
{
    const ngx_hybrid_history_cell_t  *a = one, *b = two;

    return a->key < b->key ? -1 : a->key > b->key;
}


ngx_uint_t
ngx_hybrid_history_dirty(ngx_hybrid_history_t *history, ngx_uint_t i)
{
    ngx_hybrid_history_segment_t  *segment;

    segment = &history->segments[i];

    return segment->minute && segment->changed != segment->stored;
}


void
ngx_hybrid_history_stored(ngx_hybrid_history_t *history, ngx_uint_t i,
    uint32_t generation, uint32_t changed)
{
    ngx_hybrid_history_segment_t  *segment;

    segment = &history->segments[i];

    ngx_shmtx_lock(history->mutex);

    /* answers to two workers may come in another order */

    if (segment->generation == generation
        && (int32_t) (changed - segment->stored) > 0)
    {
        segment->stored = changed;
    }

    ngx_shmtx_unlock(history->mutex);
}
