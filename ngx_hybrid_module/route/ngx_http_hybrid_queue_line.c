
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * What a worker does for its requests that wait.  One that frees a slot looks
 * at the line at once, the others soon, by a timer that runs while requests
 * of theirs wait.  A worker that exits serves its own until the end.
 */


#include "ngx_http_hybrid_choice.h"
#include "ngx_http_hybrid_queue.h"
#include "ngx_http_hybrid_limits.h"


/* msec */
#define NGX_HTTP_HYBRID_QUEUE_POLL   5
#define NGX_HTTP_HYBRID_QUEUE_SWEEP  50

/* this part of the zone is for those that wait */
#define NGX_HTTP_HYBRID_QUEUE_ROOM   32


static void ngx_http_hybrid_queue_count(ngx_http_hybrid_turn_t *turn,
    ngx_int_t by);
static void ngx_http_hybrid_queue_leave(ngx_http_hybrid_turn_t *turn,
    ngx_http_hybrid_turn_e state);
static void ngx_http_hybrid_queue_timer(ngx_event_t *ev);
static void ngx_http_hybrid_queue_freed(ngx_event_t *ev);
static void ngx_http_hybrid_queue_serve(ngx_http_hybrid_queue_t *queue);
static void ngx_http_hybrid_queue_call(ngx_http_hybrid_turn_t *turn,
    ngx_http_hybrid_backend_t *backend);
static void ngx_http_hybrid_queue_sweep(ngx_http_hybrid_queue_t *queue);
static ngx_uint_t ngx_http_hybrid_queue_lost(ngx_http_hybrid_turn_t *turn);


void
ngx_http_hybrid_queue_join(ngx_http_hybrid_turn_t *turn)
{
    ngx_http_hybrid_queue_t  *queue;

    queue = turn->ctx->conf->queue;

    turn->state = ngx_http_hybrid_turn_waiting;
    turn->since = ngx_current_msec;

    ngx_queue_insert_tail(&queue->turns, &turn->queue);
    ngx_http_hybrid_queue_count(turn, 1);

    if (queue->n++ == 0) {
        queue->swept = ngx_current_msec;
        ngx_add_timer(&queue->timer, NGX_HTTP_HYBRID_QUEUE_POLL);
    }

    /* a slot may have become free before this was in the line */

    ngx_http_hybrid_queue_wake(turn->ctx->conf);
}


/* in the line of a backend, which is only looked at while somebody is */

static void
ngx_http_hybrid_queue_count(ngx_http_hybrid_turn_t *turn, ngx_int_t by)
{
    ngx_uint_t                    i;
    ngx_http_hybrid_candidate_t  *cand;

    cand = turn->ctx->candidates;

    for (i = 0; i < turn->ctx->ncandidates; i++) {
        if (cand[i].group == turn->group) {
            cand[i].backend->waiters += by;
        }
    }
}


/* it is not in the shared line any more */

static void
ngx_http_hybrid_queue_leave(ngx_http_hybrid_turn_t *turn,
    ngx_http_hybrid_turn_e state)
{
    ngx_http_hybrid_queue_t  *queue;

    queue = turn->ctx->conf->queue;

    ngx_http_hybrid_queue_count(turn, -1);
    ngx_http_hybrid_client_go(turn->ctx->client);
    ngx_queue_remove(&turn->queue);

    turn->ctx->queue_time += ngx_current_msec - turn->since;
    turn->state = state;

    if (--queue->n == 0 && queue->timer.timer_set) {
        ngx_del_timer(&queue->timer);
    }
}


void
ngx_http_hybrid_queue_detach(ngx_http_hybrid_ctx_t *ctx)
{
    ngx_uint_t                i;
    ngx_http_hybrid_queue_t  *queue;

    queue = ctx->conf->queue;

    if (ctx->turn && ctx->turn->state == ngx_http_hybrid_turn_waiting) {
        ngx_hybrid_line_leave(queue->line, queue->mutex, ctx->turn->index,
                              ctx->turn);
        ngx_http_hybrid_queue_leave(ctx->turn, ngx_http_hybrid_turn_none);
    }

    /* a slot that was taken here, and never came to the balancer */

    for (i = 0; ctx->candidates && i < ctx->ncandidates; i++) {
        ngx_http_hybrid_choice_free(ctx, &ctx->candidates[i]);
    }
}


void
ngx_http_hybrid_queue_wake(ngx_http_hybrid_main_conf_t *hmcf)
{
    ngx_http_hybrid_queue_t  *queue;

    queue = hmcf->queue;

    if (queue && queue->n && !queue->freed.posted) {
        ngx_post_event(&queue->freed, &ngx_posted_events);
    }
}


static void
ngx_http_hybrid_queue_timer(ngx_event_t *ev)
{
    ngx_connection_t         *dummy;
    ngx_http_hybrid_queue_t  *queue;

    dummy = ev->data;
    queue = dummy->data;

    ngx_http_hybrid_queue_serve(queue);

    if (ngx_current_msec - queue->swept >= NGX_HTTP_HYBRID_QUEUE_SWEEP) {
        queue->swept = ngx_current_msec;
        ngx_http_hybrid_queue_sweep(queue);
    }

    if (queue->n) {
        ngx_add_timer(ev, NGX_HTTP_HYBRID_QUEUE_POLL);
    }
}


static void
ngx_http_hybrid_queue_freed(ngx_event_t *ev)
{
    ngx_connection_t  *dummy;

    dummy = ev->data;

    ngx_http_hybrid_queue_serve(dummy->data);
}


static void
ngx_http_hybrid_queue_serve(ngx_http_hybrid_queue_t *queue)
{
    ngx_uint_t                   i, slots;
    ngx_msec_t                   left;
    ngx_http_hybrid_turn_t      *turn;
    ngx_http_hybrid_backend_t  **backends;

    ngx_hybrid_line_seen(queue->line);

    backends = queue->conf->backends.elts;

    for (i = 0; i < queue->conf->backends.nelts; i++) {

        slots = backends[i]->health->slots;

        while (backends[i]->waiters
               && (slots == 0
                   || ngx_hybrid_health_busy(backends[i]->health) < slots)
               && ngx_http_hybrid_choice_away(backends[i], &left) == NULL)
        {
            turn = ngx_hybrid_line_next(queue->line, queue->mutex,
                                        backends[i]->health,
                                        slots);
            if (turn == NULL) {
                break;
            }

            ngx_http_hybrid_queue_call(turn, backends[i]);
        }
    }
}


static void
ngx_http_hybrid_queue_call(ngx_http_hybrid_turn_t *turn,
    ngx_http_hybrid_backend_t *backend)
{
    ngx_uint_t                    i;
    ngx_http_hybrid_candidate_t  *cand;

    cand = turn->ctx->candidates;

    for (i = 0; cand[i].backend != backend; i++) { /* void */ }

    cand[i].slot = 1;
    cand[i].taken = ngx_current_msec;

    ngx_http_hybrid_queue_leave(turn, ngx_http_hybrid_turn_called);
    ngx_http_hybrid_resume(turn->ctx->request);
}


/* those that have waited for too long, or for nobody */

static void
ngx_http_hybrid_queue_sweep(ngx_http_hybrid_queue_t *queue)
{
    ngx_queue_t             *q, *next;
    ngx_http_hybrid_turn_e   state;
    ngx_http_hybrid_turn_t  *turn;

    for (q = ngx_queue_head(&queue->turns);
         q != ngx_queue_sentinel(&queue->turns);
         q = next)
    {
        next = ngx_queue_next(q);

        turn = ngx_queue_data(q, ngx_http_hybrid_turn_t, queue);

        if ((ngx_msec_int_t) (turn->until - ngx_current_msec) <= 0) {
            state = ngx_http_hybrid_turn_late;

        } else if (ngx_http_hybrid_queue_lost(turn)) {
            state = ngx_http_hybrid_turn_lost;

        } else {
            continue;
        }

        ngx_hybrid_line_leave(queue->line, queue->mutex, turn->index, turn);
        ngx_http_hybrid_queue_leave(turn, state);
        ngx_http_hybrid_resume(turn->ctx->request);
    }
}


/* it waits for none that is there, or another one is back and free */

static ngx_uint_t
ngx_http_hybrid_queue_lost(ngx_http_hybrid_turn_t *turn)
{
    ngx_uint_t                    i, lost;
    ngx_hybrid_health_t          *health;
    ngx_http_hybrid_backend_t    *backend;
    ngx_http_hybrid_candidate_t  *cand;

    lost = 1;
    cand = turn->ctx->candidates;

    for (i = 0; i < turn->ctx->ncandidates; i++) {

        if (cand[i].group != turn->group || cand[i].spent
            || ngx_http_hybrid_choice_closed(turn->ctx, &cand[i]) != NULL)
        {
            continue;
        }

        if (cand[i].awaited) {
            lost = 0;
            continue;
        }

        backend = cand[i].backend;
        health = backend->health;

        if (backend->slots == 0
            || (health->waiting == 0
                && ngx_hybrid_health_busy(health) < backend->slots))
        {
            return 1;
        }
    }

    return lost;
}


ngx_int_t
ngx_http_hybrid_queue_init_zone(ngx_http_hybrid_main_conf_t *hmcf,
    ngx_log_t *log)
{
    size_t                      size;
    ngx_uint_t                  i, n, used;
    ngx_hybrid_shm_t           *shm;
    ngx_http_hybrid_client_t  **clients;

    shm = hmcf->shm;
    used = (hmcf->clients_redis == 1);
    clients = hmcf->clients.elts;

    for (i = 0; i < hmcf->clients.nelts; i++) {
        used |= (clients[i]->queue != 0);
    }

    if (!used || shm->sh->line) {
        return NGX_OK;
    }

    size = ngx_hybrid_line_size(hmcf->zone_size / NGX_HTTP_HYBRID_QUEUE_ROOM,
                                &n);

    shm->sh->line = ngx_slab_calloc(shm->shpool, size);

    if (shm->sh->line == NULL) {
        ngx_log_error(NGX_LOG_EMERG, log, 0,
                      "hybrid_zone of %uzk is too small for requests that "
                      "wait: make it larger", hmcf->zone_size / 1024);
        return NGX_ERROR;
    }

    ngx_hybrid_line_init(shm->sh->line, n);

    return NGX_OK;
}


ngx_int_t
ngx_http_hybrid_queue_init_worker(ngx_http_hybrid_main_conf_t *hmcf,
    ngx_cycle_t *cycle)
{
    ngx_http_hybrid_queue_t  *queue;

    if (hmcf->shm->sh->line == NULL) {
        return NGX_OK;
    }

    ngx_hybrid_line_forget(hmcf->shm->sh->line, &hmcf->shm->shpool->mutex);

    queue = ngx_pcalloc(cycle->pool, sizeof(ngx_http_hybrid_queue_t));
    if (queue == NULL) {
        return NGX_ERROR;
    }

    queue->conf = hmcf;
    queue->line = hmcf->shm->sh->line;
    queue->mutex = &hmcf->shm->shpool->mutex;

    ngx_queue_init(&queue->turns);

    queue->dummy.fd = (ngx_socket_t) -1;
    queue->dummy.data = queue;

    /* not cancelable: a worker that exits has these to serve */

    queue->timer.handler = ngx_http_hybrid_queue_timer;
    queue->timer.data = &queue->dummy;
    queue->timer.log = cycle->log;

    queue->freed.handler = ngx_http_hybrid_queue_freed;
    queue->freed.data = &queue->dummy;
    queue->freed.log = cycle->log;

    hmcf->queue = queue;

    return NGX_OK;
}


void
ngx_http_hybrid_queue_exit_worker(ngx_http_hybrid_main_conf_t *hmcf)
{
    if (hmcf->queue) {
        ngx_hybrid_line_forget(hmcf->queue->line, hmcf->queue->mutex);
    }
}
