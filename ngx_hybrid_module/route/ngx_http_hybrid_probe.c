
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Turns of probing.  A worker that finds a backend due takes its turn, asks
 * all of its paths at the same time, and ends the turn when all have
 * answered or had their time.  Should it die meanwhile, the turn is another
 * worker's after a while.
 */


#include "ngx_http_hybrid_catalogue_list.h"
#include "ngx_http_hybrid_certificate.h"
#include "ngx_http_hybrid_gce.h"


/* msec between looks whether a backend is due, and whether paths changed */
#define NGX_HTTP_HYBRID_PROBE_TICK   500
#define NGX_HTTP_HYBRID_PROBE_LEAST  5


static void ngx_http_hybrid_probe_tick(ngx_event_t *ev);
static ngx_msec_t ngx_http_hybrid_probe_look(ngx_http_hybrid_turn_t *turn);
static void ngx_http_hybrid_probe_start(ngx_http_hybrid_turn_t *turn);
static void ngx_http_hybrid_probe_end(ngx_http_hybrid_turn_t *turn);
static ngx_int_t ngx_http_hybrid_probe_headers(
    ngx_http_hybrid_backend_t *backend, ngx_str_t *headers, ngx_log_t *log);
static void ngx_http_hybrid_probe_done(ngx_hybrid_fetch_t *f, void *data);
static void ngx_http_hybrid_probe_result(ngx_http_hybrid_ask_t *ask,
    ngx_hybrid_fetch_t *f);
static void ngx_http_hybrid_probe_passed(ngx_http_hybrid_ask_t *ask);
static void ngx_http_hybrid_probe_failed(ngx_http_hybrid_ask_t *ask,
    ngx_hybrid_fetch_t *f);
static uint64_t ngx_http_hybrid_probe_usec(void);


ngx_int_t
ngx_http_hybrid_probe_init_worker(ngx_http_hybrid_main_conf_t *hmcf,
    ngx_cycle_t *cycle)
{
    ngx_uint_t                   i;
    ngx_http_hybrid_turn_t      *turn;
    ngx_http_hybrid_prober_t    *prober;
    ngx_http_hybrid_backend_t  **backends;

    ngx_http_hybrid_peers_init_worker(hmcf);

    prober = ngx_pcalloc(cycle->pool, sizeof(ngx_http_hybrid_prober_t));
    if (prober == NULL) {
        return NGX_ERROR;
    }

    prober->conf = hmcf;
    prober->log = cycle->log;

    prober->turns = ngx_pcalloc(cycle->pool, (hmcf->backends.nelts + 1)
                                             * sizeof(ngx_http_hybrid_turn_t));
    if (prober->turns == NULL) {
        return NGX_ERROR;
    }

    backends = hmcf->backends.elts;

    for (i = 0; i < hmcf->backends.nelts; i++) {

        if (backends[i]->target == NULL) {
            continue;
        }

        turn = &prober->turns[prober->n++];

        turn->backend = backends[i];
        turn->prober = prober;

        /* a reload may have brought a shorter time */

        ngx_hybrid_doc_within(backends[i]->turn, backends[i]->probe.interval);
    }

    hmcf->prober = prober;

    /* levers move paths too */

    if (hmcf->peers.nelts == 0) {
        return NGX_OK;
    }

    prober->dummy.fd = (ngx_socket_t) -1;
    prober->dummy.data = prober;

    prober->timer.handler = ngx_http_hybrid_probe_tick;
    prober->timer.data = &prober->dummy;
    prober->timer.log = cycle->log;
    prober->timer.cancelable = 1;

    /* workers do not look in step */

    ngx_add_timer(&prober->timer, 1 + ngx_random() % 100);

    return NGX_OK;
}


void
ngx_http_hybrid_probe_exit_worker(ngx_http_hybrid_main_conf_t *hmcf)
{
    ngx_uint_t                 i;
    ngx_http_hybrid_ask_t     *ask;
    ngx_http_hybrid_turn_t    *turn;
    ngx_http_hybrid_prober_t  *prober;

    prober = hmcf->prober;

    if (prober == NULL) {
        return;
    }

    if (prober->timer.timer_set) {
        ngx_del_timer(&prober->timer);
    }

    ngx_http_hybrid_resolve_exit(hmcf);

    for (i = 0; i < prober->n; i++) {
        turn = &prober->turns[i];

        if (turn->pool == NULL) {
            continue;
        }

        for (ask = turn->asks; ask; ask = ask->next) {
            if (ask->fetch) {
                ngx_hybrid_fetch_cancel(ask->fetch);
            }
        }

        ngx_destroy_pool(turn->pool);
        turn->pool = NULL;

        ngx_hybrid_doc_release(turn->backend->turn);
    }

    for (i = 0; i < prober->n; i++) {
        ngx_http_hybrid_table_free(&prober->turns[i].backend
                                   ->catalogue->models);
        ngx_http_hybrid_table_free(&prober->turns[i].backend
                                   ->catalogue->running);
        ngx_http_hybrid_table_free(&prober->turns[i].backend
                                   ->catalogue->version);
    }
}


void
ngx_http_hybrid_probe_wanted(ngx_http_hybrid_main_conf_t *hmcf,
    ngx_http_hybrid_backend_t *backend)
{
    if (backend->target == NULL || ngx_exiting || hmcf->prober == NULL) {
        return;
    }

    if (ngx_hybrid_doc_want(backend->turn, 1000)) {
        ngx_add_timer(&hmcf->prober->timer, NGX_HTTP_HYBRID_PROBE_LEAST);
    }
}


static void
ngx_http_hybrid_probe_tick(ngx_event_t *ev)
{
    ngx_uint_t                    i;
    ngx_msec_t                    next, wait;
    ngx_connection_t             *dummy;
    ngx_http_hybrid_prober_t     *prober;
    ngx_http_hybrid_main_conf_t  *hmcf;

    if (ngx_exiting || ngx_terminate || ngx_quit) {
        return;
    }

    dummy = ev->data;
    prober = dummy->data;
    hmcf = prober->conf;

    ngx_http_hybrid_peers_refresh(hmcf);
    ngx_http_hybrid_resolve_look(hmcf);

    if (ngx_http_hybrid_peers_ramps(hmcf)) {
        ngx_http_hybrid_peers_update(hmcf);

    } else {
        ngx_http_hybrid_peers_sync(hmcf);
    }

    next = NGX_HTTP_HYBRID_PROBE_TICK;

    for (i = 0; i < prober->n; i++) {
        wait = ngx_http_hybrid_probe_look(&prober->turns[i]);
        next = ngx_min(next, wait);
    }

    ngx_add_timer(ev, ngx_max(next, NGX_HTTP_HYBRID_PROBE_LEAST));
}


/* msec until it should be looked again */

static ngx_msec_t
ngx_http_hybrid_probe_look(ngx_http_hybrid_turn_t *turn)
{
    ngx_msec_t                  hold;
    ngx_msec_int_t              left;
    ngx_http_hybrid_backend_t  *backend;

    backend = turn->backend;

    if (turn->pool) {
        return NGX_HTTP_HYBRID_PROBE_TICK;
    }

    left = (ngx_msec_int_t) (backend->turn->due - ngx_current_msec);

    if (left > 0) {
        return (ngx_msec_t) left;
    }

    /* paths first, then what else the machine is asked */

    hold = 2 * backend->probe.timeout + 1000;

    if (ngx_hybrid_doc_turn(backend->turn, hold)) {
        ngx_http_hybrid_probe_start(turn);
    }

    return ngx_max(backend->probe.interval / 4, NGX_HTTP_HYBRID_PROBE_LEAST);
}


static void
ngx_http_hybrid_probe_start(ngx_http_hybrid_turn_t *turn)
{
    ngx_uint_t                  i, n;
    ngx_http_hybrid_peer_t     *peers;
    ngx_http_hybrid_backend_t  *backend;

    backend = turn->backend;

    turn->start = ngx_current_msec;
    turn->asks = NULL;
    turn->pending = 0;
    turn->listed = 0;
    turn->alive = 0;
    turn->asked = 0;
    turn->late.len = 0;
    turn->error.len = 0;

    turn->pool = ngx_create_pool(4096, turn->prober->log);

    if (turn->pool == NULL) {
        ngx_hybrid_doc_release(backend->turn);
        return;
    }

    /* one that ends at once must not end the turn before it has begun */

    turn->pending++;

    peers = ngx_palloc(turn->pool, NGX_HTTP_HYBRID_PEERS_MAX
                                   * sizeof(ngx_http_hybrid_peer_t));

    if (peers
        && backend->health->lever != ngx_hybrid_lever_disabled
        && (backend->gce == NULL
            || ngx_http_hybrid_gce_valid(backend->gce, turn->prober->log)))
    {
        n = ngx_http_hybrid_peers_copy(backend, peers);

        for (i = 0; i < n; i++) {

            if (peers[i].path->lever == ngx_hybrid_lever_disabled) {
                continue;
            }

            (void) ngx_http_hybrid_probe_ask(turn, &peers[i],
                                             &backend->target->uri,
                                             ngx_http_hybrid_probe_result);
        }
    }

    if (--turn->pending == 0) {
        ngx_http_hybrid_probe_end(turn);
    }
}


static void
ngx_http_hybrid_probe_end(ngx_http_hybrid_turn_t *turn)
{
    ngx_msec_t                  passed, next, interval;
    ngx_http_hybrid_backend_t  *backend;

    backend = turn->backend;
    interval = backend->probe.interval;

    if (!ngx_exiting) {
        ngx_http_hybrid_catalogue_judge(turn);
    }

    ngx_destroy_pool(turn->pool);
    turn->pool = NULL;

    if (ngx_exiting) {
        ngx_hybrid_doc_release(backend->turn);
        return;
    }

    passed = ngx_current_msec - turn->start;
    next = passed < interval ? interval - passed : 1;

    /* gateways that were started together do not stay in step */

    next += ngx_random() % (interval / 32 + 1);

    ngx_hybrid_doc_unchanged(turn->prober->conf->shm, backend->turn, next);
}


ngx_int_t
ngx_http_hybrid_probe_ask(ngx_http_hybrid_turn_t *turn,
    ngx_http_hybrid_peer_t *peer, ngx_str_t *uri,
    ngx_http_hybrid_ask_pt handler)
{
    ngx_str_t                   headers;
    ngx_http_hybrid_ask_t      *ask;
    ngx_hybrid_fetch_args_t     args;
    ngx_http_hybrid_backend_t  *backend;

    backend = turn->backend;

    ask = ngx_pcalloc(turn->pool, sizeof(ngx_http_hybrid_ask_t));
    if (ask == NULL) {
        return NGX_ERROR;
    }

    if (ngx_http_hybrid_probe_headers(backend, &headers, turn->prober->log)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    ask->turn = turn;
    ask->peer = peer;
    ask->handler = handler;
    ask->start = ngx_current_msec;
    ask->usec = ngx_http_hybrid_probe_usec();

    ngx_memzero(&args, sizeof(ngx_hybrid_fetch_args_t));

    args.target = &backend->target->fetch;
    args.addr = &peer->addr;
    args.uri = uri;
    args.headers = headers;
    args.max = NGX_HTTP_HYBRID_PROBE_MAX;
    args.timeout = backend->probe.timeout;
    args.handler = ngx_http_hybrid_probe_done;
    args.data = ask;

    ask->fetch = ngx_hybrid_fetch_start(&args, turn->prober->log);

    if (headers.len) {
        ngx_explicit_memzero(headers.data, headers.len);
        ngx_free(headers.data);
    }

    if (ask->fetch == NULL) {
        return NGX_ERROR;
    }

    ask->next = turn->asks;
    turn->asks = ask;
    turn->pending++;

    return NGX_OK;
}


/* the credential is that of this moment */

static ngx_int_t
ngx_http_hybrid_probe_headers(ngx_http_hybrid_backend_t *backend,
    ngx_str_t *headers, ngx_log_t *log)
{
    size_t            len;
    u_char           *p;
    ngx_str_t        *value;
    ngx_uint_t        i;
    ngx_table_elt_t  *h;

    ngx_str_null(headers);

    len = 0;
    h = backend->credentials.elts;

    for (i = 0; i < backend->credentials.nelts; i++) {
        value = backend->gce ? ngx_http_hybrid_gce_value(backend->gce)
                             : &h[i].value;
        len += h[i].key.len + value->len + sizeof(": " CRLF) - 1;
    }

    if (len == 0) {
        return NGX_OK;
    }

    p = ngx_alloc(len, log);
    if (p == NULL) {
        return NGX_ERROR;
    }

    headers->data = p;
    headers->len = len;

    for (i = 0; i < backend->credentials.nelts; i++) {
        value = backend->gce ? ngx_http_hybrid_gce_value(backend->gce)
                             : &h[i].value;
        p = ngx_sprintf(p, "%V: %V" CRLF, &h[i].key, value);
    }

    return NGX_OK;
}


static void
ngx_http_hybrid_probe_done(ngx_hybrid_fetch_t *f, void *data)
{
    ngx_http_hybrid_ask_t  *ask = data;

    ngx_http_hybrid_turn_t  *turn;

    turn = ask->turn;
    ask->fetch = NULL;

    /* a worker that ends may have been kept from its work for too long */

    if (!ngx_exiting) {
        ask->handler(ask, f);
    }

    if (--turn->pending == 0) {
        ngx_http_hybrid_probe_end(turn);
    }
}


static void
ngx_http_hybrid_probe_result(ngx_http_hybrid_ask_t *ask,
    ngx_hybrid_fetch_t *f)
{
    ngx_uint_t  code;

    /* an answer that is too large, or strange, is one all the same */

    code = (f->error.len && f->refused) ? f->line.code : f->status;

    if (code == 0 || code >= NGX_HTTP_INTERNAL_SERVER_ERROR) {
        ngx_http_hybrid_probe_failed(ask, f);
        return;
    }

    ask->turn->alive = 1;

    ngx_http_hybrid_probe_passed(ask);
    ngx_http_hybrid_catalogue_take(ask, f);
}


static void
ngx_http_hybrid_probe_passed(ngx_http_hybrid_ask_t *ask)
{
    uint64_t                      usec;
    ngx_str_t                     name;
    ngx_msec_t                    since;
    ngx_uint_t                    changes;
    ngx_log_t                    *log;
    ngx_hybrid_path_t            *path;
    ngx_http_hybrid_backend_t    *backend;
    ngx_http_hybrid_main_conf_t  *hmcf;

    path = ask->peer->path;
    backend = ask->turn->backend;
    log = ask->turn->prober->log;
    hmcf = ask->turn->prober->conf;

    usec = ngx_http_hybrid_probe_usec() - ask->usec;
    since = path->changed;

    changes = ngx_hybrid_path_passed(hmcf->shm, path, backend->probe.passes,
                                     usec, backend->probe.slow);
    if (changes == 0) {
        return;
    }

    name.data = path->name;
    name.len = path->nname;

    if (changes & NGX_HYBRID_PATH_UP) {

        /* it may be another machine's software now */

        (void) ngx_hybrid_doc_want(backend->catalogue->version.doc, 0);

        if (backend->npaths > 1 || hmcf->backends.nelts > 1) {
            path->ramp = ngx_current_msec ? ngx_current_msec : 1;
        }

        ngx_log_error(NGX_LOG_NOTICE, log, 0,
                      "path \"%V\" of backend \"%V\" is up again after %M s",
                      &name, &backend->name,
                      (ngx_msec_t) (ngx_current_msec - since) / 1000);
    }

    if (changes & NGX_HYBRID_PATH_SLOW) {
        ngx_log_error(NGX_LOG_WARN, log, 0,
                      "path \"%V\" of backend \"%V\" is slow: %uL ms",
                      &name, &backend->name, usec / 1000);
    }

    if (changes & NGX_HYBRID_PATH_FAST) {
        ngx_log_error(NGX_LOG_NOTICE, log, 0,
                      "path \"%V\" of backend \"%V\" is not slow any more",
                      &name, &backend->name);
    }

    ngx_hybrid_health_touch(hmcf->shm);
    ngx_http_hybrid_peers_sync(hmcf);
}


static void
ngx_http_hybrid_probe_failed(ngx_http_hybrid_ask_t *ask,
    ngx_hybrid_fetch_t *f)
{
    u_char                        buf[NGX_HYBRID_HEALTH_ERROR];
    ngx_str_t                     name, error;
    ngx_msec_t                    silent;
    ngx_hybrid_path_t            *path;
    ngx_http_hybrid_backend_t    *backend;
    ngx_http_hybrid_main_conf_t  *hmcf;

    path = ask->peer->path;
    backend = ask->turn->backend;
    hmcf = ask->turn->prober->conf;

    error = f->error;
    silent = 0;

    if (f->local) {

        /* else a gateway without descriptors would call all others dead */

        ngx_log_error(NGX_LOG_WARN, ask->turn->prober->log, 0,
                      "path \"%*s\" of backend \"%V\" could not be asked: "
                      "%V", (size_t) path->nname, path->name, &backend->name,
                      &error);
        return;
    }

    if (error.len == 0) {
        error.data = buf;
        error.len = ngx_sprintf(buf, "answered with status %ui", f->status)
                    - buf;

    } else if (f->received == 0 && f->timedout) {

        /* a refusal is an answer, too */

        silent = ask->start ? ask->start : 1;
    }

    if (ngx_hybrid_path_failed(hmcf->shm, path, backend->probe.fails, &error,
                               silent)
        == 0)
    {
        return;
    }

    name.data = path->name;
    name.len = path->nname;

    ngx_log_error(NGX_LOG_WARN, ask->turn->prober->log, 0,
                  "path \"%V\" of backend \"%V\" is down: %V", &name,
                  &backend->name, &error);

    ngx_hybrid_health_touch(hmcf->shm);
    ngx_http_hybrid_peers_sync(hmcf);
}


/* the loop's own time stands still while a worker is busy */

static uint64_t
ngx_http_hybrid_probe_usec(void)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);

    return (uint64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}
