
/*
 * Copyright (C) the ngx_hybrid_module authors
 */


#ifndef _NGX_HTTP_HYBRID_QUEUE_H_INCLUDED_
#define _NGX_HTTP_HYBRID_QUEUE_H_INCLUDED_


#include "ngx_http_hybrid_module.h"


/*
 *     none      it has not waited, or has gone on
 *     waiting   in the line, suspended: the line owns the request
 *     called    it has a slot, and has been resumed
 *     late      its time is over, resumed
 *     lost      none of its backends is there any more, or there is another
 *               that is free, resumed
 */

typedef enum {
    ngx_http_hybrid_turn_none = 0,
    ngx_http_hybrid_turn_waiting,
    ngx_http_hybrid_turn_called,
    ngx_http_hybrid_turn_late,
    ngx_http_hybrid_turn_lost
} ngx_http_hybrid_turn_e;


struct ngx_http_hybrid_turn_s {
    ngx_queue_t                    queue;    /* of this worker */
    ngx_http_hybrid_ctx_t         *ctx;
    ngx_http_hybrid_turn_e         state;
    ngx_uint_t                     index;    /* of the entry in the line */
    ngx_uint_t                     group;
    ngx_msec_t                     since;
    ngx_msec_t                     until;
    ngx_msec_t                     retry;    /* msec, 0: not known */
    unsigned                       late:1;
    unsigned                       full:1;   /* of this client */
    unsigned                       busy:1;   /* somebody might have served */
};


struct ngx_http_hybrid_queue_s {
    ngx_http_hybrid_main_conf_t   *conf;
    ngx_hybrid_line_t             *line;
    ngx_shmtx_t                   *mutex;
    ngx_queue_t                    turns;
    ngx_uint_t                     n;
    ngx_msec_t                     swept;
    ngx_msec_t                     warned;   /* the zone is full */
    ngx_event_t                    timer;
    ngx_event_t                    freed;
    ngx_connection_t               dummy;
};


ngx_int_t ngx_http_hybrid_queue_init_zone(ngx_http_hybrid_main_conf_t *hmcf,
    ngx_log_t *log);
ngx_int_t ngx_http_hybrid_queue_init_worker(ngx_http_hybrid_main_conf_t *hmcf,
    ngx_cycle_t *cycle);
void ngx_http_hybrid_queue_exit_worker(ngx_http_hybrid_main_conf_t *hmcf);

/* a slot is free */
void ngx_http_hybrid_queue_wake(ngx_http_hybrid_main_conf_t *hmcf);

/* the entry in the shared line is made */
void ngx_http_hybrid_queue_join(ngx_http_hybrid_turn_t *turn);


#endif /* _NGX_HTTP_HYBRID_QUEUE_H_INCLUDED_ */
