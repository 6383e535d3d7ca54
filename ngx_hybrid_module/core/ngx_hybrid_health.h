
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * How the backends are, in shared memory: for all workers, and kept over a
 * reload.  Entries are found by name and never move or vanish.  All numbers
 * are atomic; a decision may rest on a state that is a moment old.
 *
 * A path is one address of a backend's upstream{}: two tunnels to a machine
 * are two paths of one backend.
 */


#ifndef _NGX_HYBRID_HEALTH_H_INCLUDED_
#define _NGX_HYBRID_HEALTH_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_hybrid_shm.h"
#include "ngx_hybrid_window.h"


/* workers that count at the same time, those of a reload included */
#define NGX_HYBRID_HEALTH_CELLS  64

#define NGX_HYBRID_HEALTH_ERROR  128
#define NGX_HYBRID_PATH_NAME     80     /* of an address with its port */


/* what the operator says; it holds until he says otherwise */

typedef enum {
    ngx_hybrid_lever_enabled = 0,
    ngx_hybrid_lever_drained,          /* no new requests */
    ngx_hybrid_lever_disabled          /* and it is not probed */
} ngx_hybrid_lever_e;


/* why a request was not answered by a backend that it might have been */

typedef enum {
    ngx_hybrid_passed_error = 0,
    ngx_hybrid_passed_timeout,
    ngx_hybrid_passed_404,
    ngx_hybrid_passed_408,
    ngx_hybrid_passed_429,
    ngx_hybrid_passed_500,
    ngx_hybrid_passed_502,
    ngx_hybrid_passed_503,
    ngx_hybrid_passed_504,
    ngx_hybrid_passed_status,          /* another */
    ngx_hybrid_passed_no_live,
    ngx_hybrid_passed_no_model,
    ngx_hybrid_passed_busy,
    ngx_hybrid_passed_breaker,
    ngx_hybrid_passed_quota,
    ngx_hybrid_passed_wedged,
    ngx_hybrid_passed_drained,
    ngx_hybrid_passed_disabled,
    ngx_hybrid_passed_budget,
    ngx_hybrid_passed_queue,           /* one would have to wait too long */
    ngx_hybrid_passed_n
} ngx_hybrid_passed_e;


/* each in a line of cache of its own */

typedef struct {
    ngx_atomic_t               busy;
    ngx_atomic_t               pid;      /* whose it is */
    u_char                     pad[64 - 2 * sizeof(ngx_atomic_t)];
} ngx_hybrid_health_cell_t;


typedef struct ngx_hybrid_path_s    ngx_hybrid_path_t;
typedef struct ngx_hybrid_health_s  ngx_hybrid_health_t;


struct ngx_hybrid_path_s {
    ngx_hybrid_path_t         *next;
    ngx_atomic_t               down;     /* found dead by probes */
    ngx_atomic_t               fails;    /* in a row */
    ngx_atomic_t               passes;   /* in a row */
    ngx_atomic_t               changed;  /* msec, of "down" */
    ngx_atomic_t               probed;   /* msec, the last result, or 0 */
    ngx_atomic_t               latency;  /* usec, of the last that passed */
    ngx_atomic_t               slow;     /* above "slow=" */
    ngx_atomic_t               silent;   /* msec, nothing came since, or 0 */
    ngx_atomic_t               lever;    /* ngx_hybrid_lever_e */
    ngx_atomic_t               flaps;    /* changes of "down" */
    ngx_atomic_t               ramp;     /* msec, it came back, or 0 */
    ngx_atomic_t               idle;     /* its name has less addresses now */
    ngx_hybrid_window_t        window;   /* of "flaps" */
    u_short                    nerror;   /* by the mutex */
    u_short                    nname;
    u_char                     error[NGX_HYBRID_HEALTH_ERROR];
    u_char                     name[NGX_HYBRID_PATH_NAME];
};


struct ngx_hybrid_health_s {
    ngx_hybrid_health_t       *next;
    ngx_hybrid_path_t         *paths;

    /* requests that are with the backend, by worker: ngx_process_slot */
    ngx_atomic_t               ncells;   /* that were ever used */
    ngx_hybrid_health_cell_t   cells[NGX_HYBRID_HEALTH_CELLS];

    ngx_atomic_t               passed[ngx_hybrid_passed_n];
    ngx_atomic_t               lever;    /* ngx_hybrid_lever_e */
    ngx_atomic_t               blocked;  /* msec, not asked until, or 0 */
    ngx_atomic_t               wedged;   /* msec, since, or 0 */
    ngx_atomic_t               late;     /* msec, a model should be gone */
    ngx_atomic_t               progress; /* msec, bytes of any answer came */
    ngx_atomic_t               changed;  /* msec, of "wedged" or "blocked" */
    ngx_atomic_t               slots;    /* of the newest configuration */
    ngx_atomic_t               service;  /* usec, moving average, 0: none */

    /* see ngx_hybrid_line.h, changed by the mutex */
    ngx_atomic_t               waiting;  /* requests */
    uint64_t                   start;    /* of the last that was served */
    uint64_t                   finish;   /* the last of all clients' */
    u_short                    nname;
    u_char                     name[NGX_HYBRID_LABEL_MAX];
};


/* as in X-Hybrid-Fallback */
extern ngx_str_t  ngx_hybrid_passed_names[];


/* found by name, or made; NULL: no memory left in the zone */
ngx_hybrid_health_t *ngx_hybrid_health(ngx_hybrid_shm_t *shm,
    ngx_str_t *name);
ngx_hybrid_path_t *ngx_hybrid_health_path(ngx_hybrid_shm_t *shm,
    ngx_hybrid_health_t *health, ngx_str_t *name);

/*
 * The result of a probe.  What has changed by that is returned; the caller
 * tells the others.  It takes so many in a row to be up or down.  silent: the
 * probe began then and nothing came back, else 0.
 */

#define NGX_HYBRID_PATH_UP    0x01
#define NGX_HYBRID_PATH_DOWN  0x02
#define NGX_HYBRID_PATH_SLOW  0x04
#define NGX_HYBRID_PATH_FAST  0x08

ngx_uint_t ngx_hybrid_path_passed(ngx_hybrid_shm_t *shm,
    ngx_hybrid_path_t *path, ngx_uint_t passes, uint64_t usec,
    ngx_msec_t slow);
ngx_uint_t ngx_hybrid_path_failed(ngx_hybrid_shm_t *shm,
    ngx_hybrid_path_t *path, ngx_uint_t fails, ngx_str_t *error,
    ngx_msec_t silent);

/* of the last one, empty if it passed; of NGX_HYBRID_HEALTH_ERROR */
size_t ngx_hybrid_path_error(ngx_hybrid_shm_t *shm, ngx_hybrid_path_t *path,
    u_char *buf);

/*
 * Something changed that workers keep a copy of: they compare this with what
 * they have seen.
 */
void ngx_hybrid_health_touch(ngx_hybrid_shm_t *shm);

/*
 * A worker starts: what one before it in its place left is no more; and it
 * ends.  What one that was killed left is given back when another looks for
 * that, from time to time: the master does not replace one that was exiting.
 */
void ngx_hybrid_health_start(ngx_hybrid_shm_t *shm);
void ngx_hybrid_health_end(ngx_hybrid_shm_t *shm);
void ngx_hybrid_health_reap(ngx_hybrid_shm_t *shm);

/* requests that are with the backend, of all workers */
ngx_uint_t ngx_hybrid_health_busy(ngx_hybrid_health_t *health);

/*
 * One more, if there are less than "slots" (0: no bound): 1 when it was
 * counted, and then to be given back by the same worker.
 */
ngx_uint_t ngx_hybrid_health_take(ngx_hybrid_health_t *health,
    ngx_uint_t slots);
void ngx_hybrid_health_give(ngx_hybrid_health_t *health);

/* it is not to be asked for so many msec; at most an hour */
void ngx_hybrid_health_block(ngx_hybrid_health_t *health, ngx_msec_t time);

/* of ngx_hybrid_passed_names; what is not there is some other status */
ngx_uint_t ngx_hybrid_passed_number(ngx_str_t *name);

/* counts a reason by its name */
void ngx_hybrid_health_passed(ngx_hybrid_health_t *health, ngx_str_t *name);

/* msec that it is still not to be asked, 0: it may be */
ngx_msec_t ngx_hybrid_health_blocked(ngx_hybrid_health_t *health);


#endif /* _NGX_HYBRID_HEALTH_H_INCLUDED_ */
