
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Requests of a client that are under way, counted by worker in shared
 * memory: what a worker that was killed had counted goes with it.
 */


#ifndef _NGX_HYBRID_CELLS_H_INCLUDED_
#define _NGX_HYBRID_CELLS_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/* by ngx_process_slot; the last one is shared by all for whom there is none */
#define NGX_HYBRID_CELLS  16


typedef struct {
    ngx_atomic_t               pid;      /* whose it is, 0: nobody's */
    ngx_atomic_t               busy;
    ngx_atomic_t               waiting;
} ngx_hybrid_cell_t;


typedef struct {
    ngx_atomic_t               n;        /* that were ever used */
    ngx_hybrid_cell_t          cells[NGX_HYBRID_CELLS];
} ngx_hybrid_cells_t;


/*
 * One more, if there are less than "most" in all workers: 1 when it was
 * counted, and then to be given back by the same worker.
 */
ngx_uint_t ngx_hybrid_cells_take(ngx_hybrid_cells_t *cells, ngx_uint_t most);
void ngx_hybrid_cells_give(ngx_hybrid_cells_t *cells);

/* the same for those that wait */
ngx_uint_t ngx_hybrid_cells_wait(ngx_hybrid_cells_t *cells, ngx_uint_t most);
void ngx_hybrid_cells_leave(ngx_hybrid_cells_t *cells);

ngx_uint_t ngx_hybrid_cells_busy(ngx_hybrid_cells_t *cells);
ngx_uint_t ngx_hybrid_cells_waiting(ngx_hybrid_cells_t *cells);

/* looks for workers that are gone: a system call each */
void ngx_hybrid_cells_reap(ngx_hybrid_cells_t *cells);


#endif /* _NGX_HYBRID_CELLS_H_INCLUDED_ */
