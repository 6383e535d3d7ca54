
/*
 * Copyright (C) the ngx_hybrid_module authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include "ngx_hybrid_cells.h"


#define NGX_HYBRID_CELLS_SHARED  (NGX_HYBRID_CELLS - 1)

#define ngx_hybrid_cells_used(cells, i)                                       \
    ((i) == NGX_HYBRID_CELLS_SHARED || (cells)->cells[i].pid)


static ngx_hybrid_cell_t *ngx_hybrid_cells_own(ngx_hybrid_cells_t *cells);
static ngx_uint_t ngx_hybrid_cells_sum(ngx_hybrid_cells_t *cells,
    ngx_uint_t waiting);
static ngx_uint_t ngx_hybrid_cells_add(ngx_hybrid_cells_t *cells,
    ngx_atomic_t *counter, ngx_uint_t waiting, ngx_uint_t most);


ngx_uint_t
ngx_hybrid_cells_take(ngx_hybrid_cells_t *cells, ngx_uint_t most)
{
    return ngx_hybrid_cells_add(cells, &ngx_hybrid_cells_own(cells)->busy, 0,
                                most);
}


void
ngx_hybrid_cells_give(ngx_hybrid_cells_t *cells)
{
    (void) ngx_atomic_fetch_add(&ngx_hybrid_cells_own(cells)->busy, -1);
}


ngx_uint_t
ngx_hybrid_cells_wait(ngx_hybrid_cells_t *cells, ngx_uint_t most)
{
    return ngx_hybrid_cells_add(cells, &ngx_hybrid_cells_own(cells)->waiting,
                                1, most);
}


void
ngx_hybrid_cells_leave(ngx_hybrid_cells_t *cells)
{
    (void) ngx_atomic_fetch_add(&ngx_hybrid_cells_own(cells)->waiting, -1);
}


ngx_uint_t
ngx_hybrid_cells_busy(ngx_hybrid_cells_t *cells)
{
    return ngx_hybrid_cells_sum(cells, 0);
}


ngx_uint_t
ngx_hybrid_cells_waiting(ngx_hybrid_cells_t *cells)
{
    return ngx_hybrid_cells_sum(cells, 1);
}


void
ngx_hybrid_cells_reap(ngx_hybrid_cells_t *cells)
{
    ngx_uint_t         i;
    ngx_atomic_uint_t  pid;

    for (i = 0; i < cells->n && i < NGX_HYBRID_CELLS_SHARED; i++) {

        pid = cells->cells[i].pid;

        if (pid == 0 || pid == (ngx_atomic_uint_t) ngx_pid) {
            continue;
        }

        if (kill((ngx_pid_t) pid, 0) == -1 && ngx_errno == ESRCH) {

            /* not the counts: whoever comes next begins with none */

            (void) ngx_atomic_cmp_set(&cells->cells[i].pid, pid, 0);
        }
    }
}


static ngx_hybrid_cell_t *
ngx_hybrid_cells_own(ngx_hybrid_cells_t *cells)
{
    ngx_uint_t          i;
    ngx_atomic_uint_t   n;
    ngx_hybrid_cell_t  *cell;

    i = ngx_min((ngx_uint_t) ngx_process_slot, NGX_HYBRID_CELLS_SHARED);

    cell = &cells->cells[i];

    if (i == NGX_HYBRID_CELLS_SHARED
        || cell->pid == (ngx_atomic_uint_t) ngx_pid)
    {
        goto done;
    }

    /* the worker that had this place is gone */

    cell->busy = 0;
    cell->waiting = 0;
    ngx_memory_barrier();
    cell->pid = ngx_pid;

done:

    do {
        n = cells->n;
    } while (n <= i && !ngx_atomic_cmp_set(&cells->n, n, i + 1));

    return cell;
}


static ngx_uint_t
ngx_hybrid_cells_sum(ngx_hybrid_cells_t *cells, ngx_uint_t waiting)
{
    ngx_uint_t        i, n;
    ngx_atomic_int_t  sum;

    sum = 0;
    n = cells->n;

    for (i = 0; i < n; i++) {
        if (ngx_hybrid_cells_used(cells, i)) {
            sum += (ngx_atomic_int_t) (waiting ? cells->cells[i].waiting
                                               : cells->cells[i].busy);
        }
    }

    return sum > 0 ? (ngx_uint_t) sum : 0;
}


static ngx_uint_t
ngx_hybrid_cells_add(ngx_hybrid_cells_t *cells, ngx_atomic_t *counter,
    ngx_uint_t waiting, ngx_uint_t most)
{
    ngx_uint_t  i;

    /*
     * Counted before it is looked whether that was allowed: there are never
     * too many.  Two workers may step back from the same last one, so each
     * tries again.
     */

    for (i = 0; i < 3; i++) {

        if (ngx_hybrid_cells_sum(cells, waiting) >= most) {
            return 0;
        }

        (void) ngx_atomic_fetch_add(counter, 1);

        if (ngx_hybrid_cells_sum(cells, waiting) <= most) {
            return 1;
        }

        (void) ngx_atomic_fetch_add(counter, -1);

        ngx_cpu_pause();
    }

    return 0;
}
