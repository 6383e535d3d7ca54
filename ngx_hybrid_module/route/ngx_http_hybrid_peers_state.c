
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * What is known of paths, written into nginx's peers.  An upstream is shared
 * by all workers if it has a "zone", else each has its own: all write the
 * same into them.  What the configuration says of a server is taken from
 * there again each time, and never lost.
 */


#include "ngx_http_hybrid_peers.h"


/*
 * A path that came back gets one request at a time, and twice as many after
 * each interval: one that fails again at once takes little with it, and a
 * machine that has just started is not buried.
 */
#define NGX_HTTP_HYBRID_PEERS_STEPS  6


static void ngx_http_hybrid_peers_apply(ngx_http_hybrid_peers_t *peers);
static void ngx_http_hybrid_peers_set(ngx_http_hybrid_walk_t *w,
    ngx_http_upstream_rr_peers_t *list, ngx_http_upstream_rr_peer_t *peer);
static ngx_uint_t ngx_http_hybrid_peers_ramp(
    ngx_http_hybrid_backend_t *backend, ngx_hybrid_path_t *path);
static void ngx_http_hybrid_peers_move(ngx_http_hybrid_main_conf_t *hmcf);
static ngx_uint_t ngx_http_hybrid_peers_dead(ngx_http_hybrid_ctx_t *ctx);


void
ngx_http_hybrid_peers_init_worker(ngx_http_hybrid_main_conf_t *hmcf)
{
    ngx_queue_init(&hmcf->tries);

    ngx_http_hybrid_peers_update(hmcf);
}


void
ngx_http_hybrid_peers_sync(ngx_http_hybrid_main_conf_t *hmcf)
{
    if (hmcf->shm->sh->health_generation != hmcf->health_seen) {
        ngx_http_hybrid_peers_update(hmcf);
    }
}


void
ngx_http_hybrid_peers_update(ngx_http_hybrid_main_conf_t *hmcf)
{
    ngx_uint_t                 i;
    ngx_http_hybrid_peers_t  **peers;

    /* what changes from here on is seen the next time */

    hmcf->health_seen = hmcf->shm->sh->health_generation;
    ngx_memory_barrier();

    peers = hmcf->peers.elts;

    for (i = 0; i < hmcf->peers.nelts; i++) {
        ngx_http_hybrid_peers_apply(peers[i]);
    }

    ngx_http_hybrid_peers_move(hmcf);
}


static void
ngx_http_hybrid_peers_apply(ngx_http_hybrid_peers_t *peers)
{
    ngx_http_hybrid_walk_t         w;
    ngx_http_upstream_rr_peer_t   *peer;
    ngx_http_upstream_rr_peers_t  *first, *list;

    first = peers->upstream->peer.data;

    ngx_http_hybrid_walk_start(&w, peers);

    for (list = first; list; list = list->next) {

        ngx_http_upstream_rr_peers_wlock(list);

        for (peer = list->peer; peer; peer = peer->next) {
            ngx_http_hybrid_walk_peer(&w, peer, list != first);
            ngx_http_hybrid_peers_set(&w, list, peer);
        }

        ngx_http_upstream_rr_peers_unlock(list);
    }
}


/* backends may share an upstream: a path is dead if it is so for all */

static void
ngx_http_hybrid_peers_set(ngx_http_hybrid_walk_t *w,
    ngx_http_upstream_rr_peers_t *list, ngx_http_upstream_rr_peer_t *peer)
{
    ngx_uint_t                   i, n, dead, down, max, ramp;
    ngx_hybrid_path_t           *path;
    ngx_http_hybrid_backend_t  **backends;

    n = 0;
    dead = 0;
    down = w->down;
    max = w->max_conns;

    backends = w->peers->backends.elts;

    for (i = 0; i < w->peers->backends.nelts; i++) {

        path = ngx_http_hybrid_peers_path(backends[i], &w->label);
        if (path == NULL) {
            continue;
        }

        if (path->lever != ngx_hybrid_lever_enabled || path->idle) {
            down = 1;
        }

        if (!backends[i]->probe.on) {
            continue;
        }

        n++;

        if (path->down) {
            dead++;
        }

        ramp = ngx_http_hybrid_peers_ramp(backends[i], path);

        if (ramp && (max == 0 || ramp < max)) {
            max = ramp;
        }
    }

    if (n && dead == n) {
        down = 1;
    }

    if (peer->max_conns != max) {
        peer->max_conns = max;
    }

    if (peer->down == down) {
        return;
    }

    peer->down = down;

    if (!down) {

        /* nginx would keep away from what has failed lately */

        peer->fails = 0;
    }

    /* those that nginx takes away again are counted when that happens */

    if (ngx_hybrid_peer_resolved(peer)) {
        list->tries += down ? -1 : 1;
    }
}


/* requests at a time, 0: as many as usual */

static ngx_uint_t
ngx_http_hybrid_peers_ramp(ngx_http_hybrid_backend_t *backend,
    ngx_hybrid_path_t *path)
{
    ngx_uint_t         step;
    ngx_msec_int_t     since;
    ngx_atomic_uint_t  ramp;

    ramp = path->ramp;

    if (ramp == 0) {
        return 0;
    }

    /* another worker's clock may be ahead */

    since = (ngx_msec_int_t) (ngx_current_msec - ramp);
    step = since > 0 ? since / backend->probe.interval : 0;

    if (step < NGX_HTTP_HYBRID_PEERS_STEPS) {
        return (ngx_uint_t) 1 << step;
    }

    (void) ngx_atomic_cmp_set(&path->ramp, ramp, 0);

    return 0;
}


ngx_uint_t
ngx_http_hybrid_peers_ramps(ngx_http_hybrid_main_conf_t *hmcf)
{
    ngx_uint_t                   i, j;
    ngx_http_hybrid_backend_t  **backends;

    backends = hmcf->backends.elts;

    for (i = 0; i < hmcf->backends.nelts; i++) {
        for (j = 0; j < backends[i]->npaths; j++) {
            if (backends[i]->paths[j]->ramp) {
                return 1;
            }
        }
    }

    return 0;
}


ngx_uint_t
ngx_http_hybrid_peers_hurry(ngx_http_hybrid_ctx_t *ctx)
{
    ngx_uint_t                    i, j, found;
    ngx_hybrid_path_t            *path;
    ngx_http_hybrid_candidate_t  *cand;

    found = 0;

    for (i = 0; i < ctx->ncandidates; i++) {
        cand = &ctx->candidates[i];

        if (!cand->full) {
            continue;
        }

        for (j = 0; j < cand->backend->npaths; j++) {
            path = cand->backend->paths[j];

            if (path->ramp) {
                path->ramp = 0;

                /* its balancer has given up for this request */

                cand->full = 0;
                cand->spent = 0;
                cand->initialized = 0;

                found = 1;
            }
        }
    }

    if (found) {
        ngx_hybrid_health_touch(ctx->conf->shm);
        ngx_http_hybrid_peers_sync(ctx->conf);
    }

    return found;
}


void
ngx_http_hybrid_peers_enter(ngx_http_hybrid_ctx_t *ctx)
{
    ngx_http_hybrid_peers_leave(ctx);

    /* what changes a machine is better not told to leave */

    if (ctx->endpoint->verb != NGX_HTTP_HYBRID_VERB_ADMIN) {
        ngx_queue_insert_tail(&ctx->conf->tries, &ctx->trying);
    }
}


void
ngx_http_hybrid_peers_leave(ngx_http_hybrid_ctx_t *ctx)
{
    if (ctx->trying.next) {
        ngx_queue_remove(&ctx->trying);
        ctx->trying.next = NULL;
    }
}


/*
 * A path that died without a word is known by its probes long before the
 * requests that wait for an answer on it: nginx is told that they have.
 */

static void
ngx_http_hybrid_peers_move(ngx_http_hybrid_main_conf_t *hmcf)
{
    ngx_queue_t            *q;
    ngx_connection_t       *c;
    ngx_http_hybrid_ctx_t  *ctx;

    for (q = ngx_queue_head(&hmcf->tries);
         q != ngx_queue_sentinel(&hmcf->tries);
         q = ngx_queue_next(q))
    {
        ctx = ngx_queue_data(q, ngx_http_hybrid_ctx_t, trying);

        if (ngx_http_hybrid_peers_dead(ctx)) {
            c = ctx->u->peer.connection;

            /* which says nothing of the model there */

            ctx->lost = 1;

            c->read->timedout = 1;
            ngx_post_event(c->read, &ngx_posted_events);
        }
    }
}


static ngx_uint_t
ngx_http_hybrid_peers_dead(ngx_http_hybrid_ctx_t *ctx)
{
    ngx_uint_t                  i;
    ngx_msec_t                  last;
    ngx_connection_t           *c;
    ngx_atomic_uint_t           silent;
    ngx_hybrid_path_t          *path;
    ngx_http_upstream_t        *u;
    ngx_http_hybrid_backend_t  *backend;

    u = ctx->u;
    c = u->peer.connection;
    backend = ctx->candidates[ctx->current].backend;

    if (c == NULL || u->state == NULL || !backend->probe.on) {
        return 0;
    }

    for (i = 0; i < backend->npaths; i++) {
        if (backend->paths[i]->down && backend->paths[i]->silent) {
            break;
        }
    }

    if (i == backend->npaths) {
        return 0;
    }

    path = ngx_http_hybrid_peers_at(backend, &u->peer);

    if (path == NULL || !path->down) {
        return 0;
    }

    silent = path->silent;

    if (silent == 0) {
        return 0;
    }

    if (u->state->header_time == (ngx_msec_t) -1) {
        return u->buffer.last == u->buffer.pos;
    }

    /* the timer is set again with each byte that comes, until the last */

    if (!c->read->timer_set || u->length == 0) {
        return 0;
    }

    last = c->read->timer.key - u->conf->read_timeout;

    return (ngx_msec_int_t) (last - silent) < NGX_TIMER_LAZY_DELAY;
}
