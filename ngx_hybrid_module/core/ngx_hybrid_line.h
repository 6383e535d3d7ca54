
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * The waiting line of a gateway, in shared memory: requests of all workers
 * that wait for a slot of a backend, and whose turn it is.
 *
 * Shares are by start-time fair queueing and not by deficit round robin.  It
 * has the same guarantee, that no two clients that wait are apart by more than
 * the largest request of each, but a client that comes to a long line is next
 * instead of after a round of everybody's quantum; requests may wait in the
 * lines of several backends, as there is nothing but a number for each client
 * at each backend; and that number is all that has to survive a worker that is
 * killed: there are no lists that it may leave half changed.
 *
 * A backend has a virtual time, the start tag of what it was given last.  A
 * client's next request starts when its last one was paid for, but not before
 * the backend's time: who was away has saved nothing.  The smallest start tag
 * is next, then who came first.  What is served costs its tokens by the
 * client's weight.  While nobody waits nothing is counted, and who waits first
 * afterwards begins anew with all others.
 *
 * An entry is used by the worker that made it alone: it takes the slot itself,
 * so slots and entries of a worker that is killed are given back together.
 * Workers that are not heard of, as they were killed or stopped, are looked
 * over.
 */


#ifndef _NGX_HYBRID_LINE_H_INCLUDED_
#define _NGX_HYBRID_LINE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_hybrid_health.h"


/* backends that a request waits for at a time */
#define NGX_HYBRID_LINE_GROUP    8

/* msec, after which a worker is looked over that is not heard of */
#define NGX_HYBRID_LINE_SILENT   1000

/* of a request, in tokens */
#define NGX_HYBRID_LINE_COST     (1 << 24)


typedef struct {
    ngx_atomic_t               pid;      /* whose it is, 0: free */
    ngx_uint_t                 cell;     /* as in ngx_hybrid_health_t */
    void                      *data;     /* of that worker */
    uint64_t                   client;
    uint64_t                   number;   /* in the order of arrival */
    uint64_t                   cost;     /* by weight */
    ngx_uint_t                 n;
    ngx_hybrid_health_t       *healths[NGX_HYBRID_LINE_GROUP];
    uint32_t                   flows[NGX_HYBRID_LINE_GROUP];
} ngx_hybrid_line_entry_t;


/* a client at a backend */

typedef struct {
    ngx_hybrid_health_t       *health;   /* NULL: free */
    uint64_t                   client;
    uint64_t                   finish;   /* what it was given is paid for */

    /* while entries are counted */
    uint64_t                   sum;
    uint32_t                   n;
    uint32_t                   scan;
} ngx_hybrid_line_flow_t;


typedef struct ngx_hybrid_line_s {
    ngx_uint_t                 nentries;
    ngx_uint_t                 nflows;   /* a power of two */
    ngx_uint_t                 top;      /* entries from here on are free */
    ngx_uint_t                 used;
    uint64_t                   number;
    uint32_t                   scan;
    ngx_atomic_t               seen[NGX_HYBRID_HEALTH_CELLS];  /* msec */
    ngx_hybrid_line_flow_t    *flows;
    ngx_hybrid_line_entry_t    entries[1];
} ngx_hybrid_line_t;


typedef struct {
    uint64_t                   client;   /* not 0 */
    uint64_t                   cost;     /* in tokens */
    ngx_uint_t                 weight;
    ngx_uint_t                 limit;    /* of those in front */
    ngx_hybrid_health_t      **healths;
    ngx_uint_t                 n;
    void                      *data;

    /* results */
    ngx_uint_t                 ahead;    /* will be served before it, about */
    ngx_uint_t                 index;    /* of the entry */
} ngx_hybrid_line_ask_t;


/* bytes for at most "room" bytes, and how many entries that is */
size_t ngx_hybrid_line_size(size_t room, ngx_uint_t *n);

/* the memory is zeroed */
void ngx_hybrid_line_init(ngx_hybrid_line_t *line, ngx_uint_t n);

/*
 * All of these take the mutex that guards the line.  NGX_DECLINED: more than
 * "limit" are in front; NGX_ERROR: there is no room.
 */
ngx_int_t ngx_hybrid_line_enter(ngx_hybrid_line_t *line, ngx_shmtx_t *mutex,
    ngx_hybrid_line_ask_t *ask);
void ngx_hybrid_line_leave(ngx_hybrid_line_t *line, ngx_shmtx_t *mutex,
    ngx_uint_t index, void *data);

/* only says how many would be in front */
ngx_uint_t ngx_hybrid_line_ahead(ngx_hybrid_line_t *line, ngx_shmtx_t *mutex,
    ngx_hybrid_line_ask_t *ask);

/*
 * The request of this worker that has got a slot of this backend, and is not
 * in the line any more; NULL: there is no slot, or another worker's is next.
 */
void *ngx_hybrid_line_next(ngx_hybrid_line_t *line, ngx_shmtx_t *mutex,
    ngx_hybrid_health_t *health, ngx_uint_t slots);

/* somebody waits for it: others must not take a slot */
ngx_uint_t ngx_hybrid_line_waits(ngx_hybrid_line_t *line, ngx_shmtx_t *mutex,
    ngx_hybrid_health_t *health);

/* this worker starts, or ends; is there; looks for what the dead have left */
void ngx_hybrid_line_forget(ngx_hybrid_line_t *line, ngx_shmtx_t *mutex);
void ngx_hybrid_line_seen(ngx_hybrid_line_t *line);
void ngx_hybrid_line_reap(ngx_hybrid_line_t *line, ngx_shmtx_t *mutex);


#endif /* _NGX_HYBRID_LINE_H_INCLUDED_ */
