
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * What an operator would find by hand when something is wrong.  One of the
 * workers looks for it, from time to time and when somebody asks; it is told
 * of in the log when it begins and when it is over.
 */


#include "ngx_http_hybrid_anomaly.h"
#include "ngx_http_hybrid_choice.h"
#include "ngx_http_hybrid_catalogue.h"
#include "ngx_http_hybrid_certificate.h"


/* msec */
#define NGX_HTTP_HYBRID_ANOMALY_INTERVAL  10000
#define NGX_HTTP_HYBRID_ANOMALY_FRESH     1000
#define NGX_HTTP_HYBRID_ANOMALY_HOUR      3600000
#define NGX_HTTP_HYBRID_ANOMALY_WINDOW    600000

/* changes of a path in the window that are too many */
#define NGX_HTTP_HYBRID_ANOMALY_FLAPS     6


typedef struct {
    ngx_event_t                   timer;
    ngx_http_hybrid_main_conf_t  *conf;
} ngx_http_hybrid_watcher_t;


static void ngx_http_hybrid_anomaly_handler(ngx_event_t *ev);
static void ngx_http_hybrid_anomaly_evaluate(
    ngx_http_hybrid_main_conf_t *hmcf, ngx_msec_t interval);
static void ngx_http_hybrid_anomaly_backends(ngx_http_hybrid_watch_t *watch,
    ngx_http_hybrid_backend_t *backend);
static void ngx_http_hybrid_anomaly_path(ngx_http_hybrid_watch_t *watch,
    ngx_http_hybrid_backend_t *backend, ngx_hybrid_path_t *path);
static void ngx_http_hybrid_anomaly_down(ngx_http_hybrid_watch_t *watch,
    ngx_http_hybrid_backend_t *backend);
static void ngx_http_hybrid_anomaly_certificate(
    ngx_http_hybrid_watch_t *watch, ngx_http_hybrid_backend_t *backend);
static void ngx_http_hybrid_anomaly_colds(ngx_http_hybrid_watch_t *watch);
static void ngx_http_hybrid_anomaly_route(ngx_http_hybrid_watch_t *watch,
    ngx_http_hybrid_route_t *route);
static void ngx_http_hybrid_anomaly_model(ngx_http_hybrid_watch_t *watch,
    ngx_http_hybrid_backend_t *backend, ngx_hybrid_model_t *model);
static void ngx_http_hybrid_anomaly_over(ngx_http_hybrid_watch_t *watch);
static ngx_str_t *ngx_http_hybrid_anomaly_where(ngx_hybrid_anomaly_t *anomaly,
    u_char *buf, size_t size, ngx_str_t *text);
static time_t ngx_http_hybrid_anomaly_since(ngx_msec_t msec);


/* what to do, in the order of ngx_hybrid_anomaly_e */

static const char  *ngx_http_hybrid_anomaly_advice[] = {
    "look at the way there and at what else the machine does",
    "pull it there, or take the backend out of its hybrid_route",
    "give it more memory, a longer keep_alive, or fewer models",
    "restart the model server there",
    "see what its configuration or ours has changed: its secret, its "
    "certificate, models, verbs, egress",
    "make a new one before it ends",
    "look at the link or the tunnel: requests on it break off",
    "see whether the machine, the model server there and the way to it are up"
};


ngx_int_t
ngx_http_hybrid_anomaly_init_worker(ngx_http_hybrid_main_conf_t *hmcf,
    ngx_cycle_t *cycle)
{
    ngx_http_hybrid_watcher_t  *watcher;

    watcher = ngx_pcalloc(cycle->pool, sizeof(ngx_http_hybrid_watcher_t));
    if (watcher == NULL) {
        return NGX_ERROR;
    }

    watcher->conf = hmcf;

    watcher->timer.handler = ngx_http_hybrid_anomaly_handler;
    watcher->timer.data = watcher;
    watcher->timer.log = cycle->log;
    watcher->timer.cancelable = 1;

    ngx_add_timer(&watcher->timer, NGX_HTTP_HYBRID_ANOMALY_INTERVAL);

    return NGX_OK;
}


static void
ngx_http_hybrid_anomaly_handler(ngx_event_t *ev)
{
    ngx_http_hybrid_watcher_t  *watcher = ev->data;

    if (ngx_exiting || ngx_terminate) {
        return;
    }

    ngx_http_hybrid_anomaly_evaluate(watcher->conf,
                                     NGX_HTTP_HYBRID_ANOMALY_INTERVAL);

    ngx_add_timer(ev, NGX_HTTP_HYBRID_ANOMALY_INTERVAL);
}


void
ngx_http_hybrid_anomaly_now(ngx_http_hybrid_main_conf_t *hmcf)
{
    if (!ngx_exiting) {
        ngx_http_hybrid_anomaly_evaluate(hmcf,
                                         NGX_HTTP_HYBRID_ANOMALY_FRESH);
    }
}


static void
ngx_http_hybrid_anomaly_evaluate(ngx_http_hybrid_main_conf_t *hmcf,
    ngx_msec_t interval)
{
    ngx_uint_t                   i;
    ngx_hybrid_anomalies_t      *table;
    ngx_http_hybrid_watch_t      watch;
    ngx_http_hybrid_route_t    **routes;
    ngx_http_hybrid_backend_t  **backends;

    table = hmcf->shm->sh->anomalies;

    if (!ngx_hybrid_anomaly_turn(table, hmcf->shm->conf, interval,
                                 ngx_current_msec))
    {
        return;
    }

    watch.conf = hmcf;
    watch.log = ngx_cycle->log;

    ngx_hybrid_anomaly_begin(table);

    backends = hmcf->backends.elts;

    for (i = 0; i < hmcf->backends.nelts; i++) {
        ngx_http_hybrid_anomaly_backends(&watch, backends[i]);
    }

    routes = hmcf->routes.elts;

    for (i = 0; i < hmcf->routes.nelts; i++) {
        ngx_http_hybrid_anomaly_route(&watch, routes[i]);
    }

    ngx_http_hybrid_anomaly_colds(&watch);
    ngx_http_hybrid_anomaly_clients(&watch);

    ngx_http_hybrid_anomaly_over(&watch);
}


static void
ngx_http_hybrid_anomaly_backends(ngx_http_hybrid_watch_t *watch,
    ngx_http_hybrid_backend_t *backend)
{
    ngx_uint_t            i;
    ngx_msec_t            wedged;
    ngx_hybrid_anomaly_t  anomaly;

    ngx_http_hybrid_anomaly_certificate(watch, backend);

    /* who has taken it out of service knows */

    if (backend->health->lever == ngx_hybrid_lever_disabled) {
        return;
    }

    for (i = 0; i < backend->npaths; i++) {
        ngx_http_hybrid_anomaly_path(watch, backend, backend->paths[i]);
    }

    ngx_http_hybrid_anomaly_down(watch, backend);

    wedged = backend->health->wedged;

    if (wedged == 0) {
        return;
    }

    ngx_memzero(&anomaly, sizeof(ngx_hybrid_anomaly_t));

    anomaly.kind = ngx_hybrid_anomaly_wedged;
    anomaly.labels[ngx_hybrid_anomaly_backend] = backend->name;
    anomaly.since = ngx_http_hybrid_anomaly_since(wedged);
    anomaly.value = (ngx_time() - anomaly.since) * 1000;

    ngx_http_hybrid_anomaly_tell(watch, &anomaly,
                                 "it answers probes, but no requests");
}


static void
ngx_http_hybrid_anomaly_path(ngx_http_hybrid_watch_t *watch,
    ngx_http_hybrid_backend_t *backend, ngx_hybrid_path_t *path)
{
    ngx_atomic_uint_t     n;
    ngx_hybrid_anomaly_t  anomaly;

    ngx_memzero(&anomaly, sizeof(ngx_hybrid_anomaly_t));

    anomaly.labels[ngx_hybrid_anomaly_backend] = backend->name;
    anomaly.labels[ngx_hybrid_anomaly_path].data = path->name;
    anomaly.labels[ngx_hybrid_anomaly_path].len = path->nname;

    n = ngx_hybrid_window_count(&path->window, path->flaps,
                                NGX_HTTP_HYBRID_ANOMALY_WINDOW,
                                ngx_current_msec);

    if (path->lever == ngx_hybrid_lever_disabled || path->idle
        || !backend->probe.on)
    {
        return;
    }

    if (n > NGX_HTTP_HYBRID_ANOMALY_FLAPS) {
        anomaly.kind = ngx_hybrid_anomaly_path_flapping;
        anomaly.value = n * 1000;

        ngx_http_hybrid_anomaly_tell(watch, &anomaly,
                                     "it went down or came up %uA times in "
                                     "the last 10 minutes", n);
    }

    if (path->slow && !path->down && backend->probe.slow) {
        anomaly.kind = ngx_hybrid_anomaly_probe_slow;
        anomaly.value = path->latency / 1000;

        ngx_http_hybrid_anomaly_tell(watch, &anomaly,
                                     "probe takes %.3f s, slow=%.3f s",
                                     (double) path->latency / 1e6,
                                     (double) backend->probe.slow / 1e3);
    }
}


static void
ngx_http_hybrid_anomaly_down(ngx_http_hybrid_watch_t *watch,
    ngx_http_hybrid_backend_t *backend)
{
    u_char                error[NGX_HYBRID_HEALTH_ERROR];
    size_t                len;
    ngx_uint_t            i, n;
    ngx_msec_t            changed;
    ngx_hybrid_path_t    *path;
    ngx_hybrid_anomaly_t  anomaly;

    if (!backend->probe.on) {
        return;
    }

    n = 0;
    len = 0;
    changed = 0;

    for (i = 0; i < backend->npaths; i++) {
        path = backend->paths[i];

        if (path->idle || path->lever != ngx_hybrid_lever_enabled) {
            continue;
        }

        if (!path->down) {
            return;
        }

        /* since the last one went down */

        if (n++ == 0 || (ngx_msec_int_t) (path->changed - changed) > 0) {
            changed = path->changed;
            len = ngx_hybrid_path_error(watch->conf->shm, path, error);
        }
    }

    if (n == 0) {
        return;
    }

    ngx_memzero(&anomaly, sizeof(ngx_hybrid_anomaly_t));

    anomaly.kind = ngx_hybrid_anomaly_backend_down;
    anomaly.labels[ngx_hybrid_anomaly_backend] = backend->name;
    anomaly.since = ngx_http_hybrid_anomaly_since(changed);
    anomaly.value = n * 1000;

    ngx_http_hybrid_anomaly_tell(watch, &anomaly,
                                 "no path to it is up (of %ui): %*s", n, len,
                                 error);
}


static void
ngx_http_hybrid_anomaly_certificate(ngx_http_hybrid_watch_t *watch,
    ngx_http_hybrid_backend_t *backend)
{
    time_t  left;

    if (backend->certificate == NULL
        || ngx_http_hybrid_certificate_left(backend->certificate, &left)
           != NGX_OK
        || left > NGX_HTTP_HYBRID_ANOMALY_EXPIRES)
    {
        return;
    }

    ngx_http_hybrid_anomaly_expires(watch, ngx_hybrid_anomaly_backend,
                                    &backend->name, "its client_certificate",
                                    ngx_time() + left);
}


/* pairs that are in use; others have had no request for long */

static void
ngx_http_hybrid_anomaly_colds(ngx_http_hybrid_watch_t *watch)
{
    ngx_str_t                   *name;
    ngx_uint_t                   i, j;
    ngx_hybrid_pair_t           *pair;
    ngx_hybrid_pairs_t          *pairs;
    ngx_atomic_uint_t            n;
    ngx_hybrid_anomaly_t         anomaly;
    ngx_http_hybrid_backend_t  **backends;

    pairs = watch->conf->shm->sh->pairs;
    backends = watch->conf->backends.elts;

    for (i = 0; i < pairs->n; i++) {

        pair = &pairs->pairs[i];

        if (pair->backend == 0 || pair->cold == 0) {
            continue;
        }

        n = ngx_hybrid_window_count(&pair->window, pair->cold,
                                    NGX_HTTP_HYBRID_ANOMALY_HOUR,
                                    ngx_current_msec);

        ngx_memzero(&anomaly, sizeof(ngx_hybrid_anomaly_t));

        name = &anomaly.labels[ngx_hybrid_anomaly_backend];

        ngx_hybrid_pair_labels(pair, name,
                               &anomaly.labels[ngx_hybrid_anomaly_model]);

        for (j = 0; j < watch->conf->backends.nelts; j++) {

            if (backends[j]->name.len != name->len
                || ngx_memcmp(backends[j]->name.data, name->data, name->len)
                   != 0
                || backends[j]->cold_starts == 0
                || n <= backends[j]->cold_starts)
            {
                continue;
            }

            anomaly.kind = ngx_hybrid_anomaly_cold_starts;
            anomaly.value = n * 1000;

            ngx_http_hybrid_anomaly_tell(watch, &anomaly,
                                         "it was loaded %uA times in the last "
                                         "hour, cold_starts is %ui", n,
                                         backends[j]->cold_starts);
        }
    }
}


/* what is found by a pattern may well be on only one of the backends */

static void
ngx_http_hybrid_anomaly_route(ngx_http_hybrid_watch_t *watch,
    ngx_http_hybrid_route_t *route)
{
    ngx_uint_t                i, g;
    ngx_hybrid_model_t        model;
    ngx_http_hybrid_group_t  *groups;

    if (!route->pattern.exact) {
        return;
    }

    model.name = route->pattern.text;
    model.brief = route->pattern.brief;
    model.cloud = route->pattern.cloud;

    groups = route->groups.elts;

    for (g = 0; g < route->groups.nelts; g++) {

        if (groups[g].discovered) {
            continue;
        }

        for (i = 0; i < groups[g].n; i++) {
            ngx_http_hybrid_anomaly_model(watch, groups[g].backends[i],
                                          &model);
        }
    }
}


static void
ngx_http_hybrid_anomaly_model(ngx_http_hybrid_watch_t *watch,
    ngx_http_hybrid_backend_t *backend, ngx_hybrid_model_t *model)
{
    ngx_hybrid_anomaly_t       anomaly;
    ngx_http_hybrid_has_e      has;
    ngx_http_hybrid_rename_t  *rename;

    if (backend->health->lever == ngx_hybrid_lever_disabled
        || !ngx_http_hybrid_backend_has(backend, model, &rename))
    {
        return;
    }

    if (rename) {
        model = &rename->model;
    }

    has = ngx_http_hybrid_catalogue_has(backend, model);

    if (has != ngx_http_hybrid_has_not && has != ngx_http_hybrid_has_gone) {
        return;
    }

    ngx_memzero(&anomaly, sizeof(ngx_hybrid_anomaly_t));

    anomaly.kind = ngx_hybrid_anomaly_model_missing;
    anomaly.labels[ngx_hybrid_anomaly_backend] = backend->name;
    anomaly.labels[ngx_hybrid_anomaly_model] = model->brief;
    anomaly.value = 1000;

    ngx_http_hybrid_anomaly_tell(watch, &anomaly,
                                 "a hybrid_route leads there, but its list "
                                 "%s the model",
                                 has == ngx_http_hybrid_has_gone
                                 ? "no longer has" : "has not");
}


void
ngx_http_hybrid_anomaly_tell(ngx_http_hybrid_watch_t *watch,
    ngx_hybrid_anomaly_t *anomaly, const char *fmt, ...)
{
    u_char                   text[NGX_HYBRID_ANOMALY_TEXT];
    u_char                   buf[NGX_HYBRID_ANOMALY_LABELS + 64];
    va_list                  args;
    ngx_str_t                where;
    ngx_hybrid_shm_t        *shm;
    ngx_hybrid_anomalies_t  *table;

    va_start(args, fmt);
    anomaly->text.data = text;
    anomaly->text.len = ngx_vslprintf(text, text + sizeof(text), fmt, args)
                        - text;
    va_end(args);

    shm = watch->conf->shm;
    table = shm->sh->anomalies;

    switch (ngx_hybrid_anomaly_tell(table, &shm->shpool->mutex, anomaly,
                                    ngx_time()))
    {
    case NGX_OK:
        ngx_log_error(NGX_LOG_WARN, watch->log, 0, "anomaly %V of %V: %V; %s",
                      &ngx_hybrid_anomaly_names[anomaly->kind],
                      ngx_http_hybrid_anomaly_where(anomaly, buf, sizeof(buf),
                                                    &where),
                      &anomaly->text,
                      ngx_http_hybrid_anomaly_advice[anomaly->kind]);
        break;

    case NGX_DECLINED:

        if (!table->full) {
            table->full = 1;

            ngx_log_error(NGX_LOG_WARN, watch->log, 0,
                          "more than %ui anomalies at a time: the others are "
                          "not told of", table->n);
        }

        break;

    default: /* NGX_DONE */
        break;
    }
}


static void
ngx_http_hybrid_anomaly_over(ngx_http_hybrid_watch_t *watch)
{
    u_char                       buf[NGX_HYBRID_ANOMALY_LABELS + 64];
    ngx_str_t                    where;
    ngx_uint_t                   i;
    ngx_hybrid_shm_t            *shm;
    ngx_hybrid_anomaly_t         anomaly;
    ngx_hybrid_anomaly_place_t   copy;

    i = 0;
    shm = watch->conf->shm;

    while (ngx_hybrid_anomaly_ended(shm->sh->anomalies, &shm->shpool->mutex,
                                    &i, &copy))
    {
        ngx_hybrid_anomaly_read(&copy, &anomaly);

        ngx_log_error(NGX_LOG_NOTICE, watch->log, 0,
                      "anomaly %V of %V is over, after %T s",
                      &ngx_hybrid_anomaly_names[anomaly.kind],
                      ngx_http_hybrid_anomaly_where(&anomaly, buf,
                                                    sizeof(buf), &where),
                      ngx_max(ngx_time() - anomaly.since, 0));
    }
}


/* backend "forge" path "10.0.0.2:11434" */

static ngx_str_t *
ngx_http_hybrid_anomaly_where(ngx_hybrid_anomaly_t *anomaly, u_char *buf,
    size_t size, ngx_str_t *text)
{
    u_char      *p;
    ngx_uint_t   i;

    static const char  *names[] = { "backend", "path", "model", "client" };

    p = buf;

    for (i = 0; i < ngx_hybrid_anomaly_labels; i++) {

        if (anomaly->labels[i].len) {
            p = ngx_slprintf(p, buf + size, "%s%s \"%V\"",
                             p == buf ? "" : " ", names[i],
                             &anomaly->labels[i]);
        }
    }

    text->data = buf;
    text->len = p - buf;

    return text;
}


void
ngx_http_hybrid_anomaly_cold(ngx_http_hybrid_ctx_t *ctx)
{
    ngx_hybrid_pair_t  *pair;

    pair = ngx_http_hybrid_choice_pair(ctx, &ctx->candidates[ctx->current],
                                       1);

    if (pair == NULL) {
        return;
    }

    /* of those that have waited for the same loading only one counts */

    if (pair->cold && ctx->u
        && (ngx_msec_int_t) (ctx->u->start_time - pair->loaded) < 0)
    {
        return;
    }

    pair->loaded = ngx_current_msec;

    (void) ngx_atomic_fetch_add(&pair->cold, 1);
}


static time_t
ngx_http_hybrid_anomaly_since(ngx_msec_t msec)
{
    ngx_msec_int_t  age;

    age = (ngx_msec_int_t) (ngx_current_msec - msec);

    return ngx_time() - ngx_max(age, 0) / 1000;
}
