
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Backends in status pages: their paths, what they have, what they do.  An
 * error is written without what would need an escape.
 */


#include "ngx_http_hybrid_stats.h"
#include "ngx_http_hybrid_catalogue_list.h"


/* bytes: of a backend, of a path in all its lines, of a model's name */
#define NGX_HTTP_HYBRID_VIEW_BACKEND  4096
#define NGX_HTTP_HYBRID_VIEW_PATH     2048
#define NGX_HTTP_HYBRID_VIEW_LOADED   (NGX_HYBRID_MODEL_BUF + 8)
#define NGX_HTTP_HYBRID_VIEW_PASSED   192


static void ngx_http_hybrid_json_backend(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_backend_t *backend, ngx_http_hybrid_out_t *out);
static void ngx_http_hybrid_json_models(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_backend_t *backend, ngx_http_hybrid_out_t *out);
static void ngx_http_hybrid_json_path(ngx_http_hybrid_view_t *view,
    ngx_hybrid_path_t *path, ngx_http_hybrid_out_t *out);
static const char *ngx_http_hybrid_view_path_state(ngx_hybrid_path_t *path);
static void ngx_http_hybrid_prom_paths(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out);
static void ngx_http_hybrid_prom_gauge(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out, const char *name, const char *help,
    ngx_uint_t (*value)(ngx_http_hybrid_backend_t *backend));
static void ngx_http_hybrid_json_passed(ngx_http_hybrid_backend_t *backend,
    ngx_http_hybrid_out_t *out);
static void ngx_http_hybrid_prom_passed(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out);
static ngx_uint_t ngx_http_hybrid_view_in_flight(
    ngx_http_hybrid_backend_t *backend);
static ngx_uint_t ngx_http_hybrid_view_slots(
    ngx_http_hybrid_backend_t *backend);
static ngx_uint_t ngx_http_hybrid_view_waiting(
    ngx_http_hybrid_backend_t *backend);
static void ngx_http_hybrid_prom_service(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out);
static ngx_uint_t ngx_http_hybrid_view_stuck(
    ngx_http_hybrid_backend_t *backend);
static ngx_uint_t ngx_http_hybrid_view_models(
    ngx_http_hybrid_backend_t *backend);
static ngx_uint_t ngx_http_hybrid_view_loaded(
    ngx_http_hybrid_backend_t *backend);


size_t
ngx_http_hybrid_backends_size(ngx_http_hybrid_view_t *view)
{
    size_t                       size;
    ngx_uint_t                   i, n;
    ngx_http_hybrid_backend_t  **backends;

    size = 4096;
    backends = view->conf->backends.elts;

    for (i = 0; i < view->conf->backends.nelts; i++) {
        (void) ngx_http_hybrid_catalogue_running(backends[i], &n);

        size += NGX_HTTP_HYBRID_VIEW_BACKEND
                + ngx_hybrid_passed_n * NGX_HTTP_HYBRID_VIEW_PASSED
                + backends[i]->npaths * NGX_HTTP_HYBRID_VIEW_PATH
                + n * NGX_HTTP_HYBRID_VIEW_LOADED;
    }

    return size;
}


void
ngx_http_hybrid_json_backends(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out)
{
    ngx_uint_t                   i;
    ngx_http_hybrid_backend_t  **backends;

    backends = view->conf->backends.elts;

    ngx_http_hybrid_out(out, "\"backends\":[");

    for (i = 0; i < view->conf->backends.nelts; i++) {
        ngx_http_hybrid_out(out, "%s", i ? ",\n" : "\n");
        ngx_http_hybrid_json_backend(view, backends[i], out);
    }

    ngx_http_hybrid_out(out, "],\n");
}


static void
ngx_http_hybrid_json_backend(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_backend_t *backend, ngx_http_hybrid_out_t *out)
{
    ngx_uint_t  i;

    ngx_http_hybrid_out(out, "{\"name\":\"%V\",\"api\":\"%s\","
                        "\"egress\":\"%s\",\"probed\":%s,\"slots\":%ui,"
                        "\"in_flight\":%ui,\"waiting\":%uA,"
                        "\"service_seconds\":%.3f,\"stuck\":%s",
                        &backend->name,
                        backend->api == ngx_http_hybrid_api_ollama
                        ? "ollama" : "openai",
                        backend->egress == NGX_HTTP_HYBRID_EGRESS_LOCAL
                        ? "local" : "cloud",
                        backend->target ? "true" : "false", backend->slots,
                        ngx_hybrid_health_busy(backend->health),
                        backend->health->waiting,
                        (double) backend->health->service / 1e6,
                        backend->health->wedged ? "true" : "false");

    ngx_http_hybrid_json_models(view, backend, out);
    ngx_http_hybrid_json_passed(backend, out);

    ngx_http_hybrid_out(out, ",\"paths\":[");

    for (i = 0; i < backend->npaths; i++) {
        ngx_http_hybrid_out(out, "%s", i ? "," : "");
        ngx_http_hybrid_json_path(view, backend->paths[i], out);
    }

    ngx_http_hybrid_out(out, "]}");
}


static void
ngx_http_hybrid_json_models(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_backend_t *backend, ngx_http_hybrid_out_t *out)
{
    u_char                    error[NGX_HYBRID_DOC_ERROR];
    size_t                    len;
    ngx_str_t                 version;
    ngx_uint_t                i, n;
    ngx_hybrid_doc_t         *doc;
    ngx_http_hybrid_entry_t  *entry;

    if (backend->catalogue == NULL
        || backend->catalogue->models.doc->generation == 0)
    {
        ngx_http_hybrid_out(out, ",\"models\":null");

    } else {
        doc = backend->catalogue->models.doc;

        ngx_http_hybrid_out(out, ",\"models\":%ui,\"models_age\":%.3f",
                            ngx_http_hybrid_view_models(backend),
                            (double) (ngx_msec_t) (ngx_current_msec
                                                   - doc->loaded) / 1000);
    }

    if (backend->catalogue == NULL) {
        return;
    }

    len = ngx_hybrid_doc_error(view->conf->shm,
                               backend->catalogue->models.doc, error);

    if (len) {
        ngx_http_hybrid_out(out, ",\"models_error\":\"%*s\"", len, error);
    }

    version = ngx_http_hybrid_catalogue_version(backend);

    if (version.len && ngx_strlchr(version.data, version.data + version.len,
                                   '"')
                       == NULL)
    {
        ngx_http_hybrid_out(out, ",\"version\":\"%V\"", &version);
    }

    entry = ngx_http_hybrid_catalogue_running(backend, &n);

    ngx_http_hybrid_out(out, ",\"loaded\":[");

    for (i = 0; i < n; i++) {
        ngx_http_hybrid_out(out, "%s\"%V\"", i ? "," : "", &entry[i].name);
    }

    ngx_http_hybrid_out(out, "]");
}


static void
ngx_http_hybrid_json_path(ngx_http_hybrid_view_t *view,
    ngx_hybrid_path_t *path, ngx_http_hybrid_out_t *out)
{
    u_char      error[NGX_HYBRID_HEALTH_ERROR];
    size_t      len;
    ngx_msec_t  since;

    since = ngx_current_msec - path->changed;

    ngx_http_hybrid_out(out, "{\"name\":\"%*s\",\"state\":\"%s\","
                        "\"since\":%.3f,\"changes\":%uA,"
                        "\"latency_seconds\":%.6f,\"error\":",
                        (size_t) path->nname, path->name,
                        ngx_http_hybrid_view_path_state(path),
                        (double) since / 1000, path->flaps,
                        (double) path->latency / 1e6);

    len = ngx_hybrid_path_error(view->conf->shm, path, error);

    if (len) {
        ngx_http_hybrid_out(out, "\"%*s\"}", len, error);

    } else {
        ngx_http_hybrid_out(out, "null}");
    }
}


static const char *
ngx_http_hybrid_view_path_state(ngx_hybrid_path_t *path)
{
    switch (path->lever) {

    case ngx_hybrid_lever_drained:
        return "drained";

    case ngx_hybrid_lever_disabled:
        return "disabled";
    }

    if (path->idle) {
        return "idle";
    }

    if (path->down) {
        return "down";
    }

    if (path->probed == 0) {
        return "unknown";
    }

    return path->slow ? "slow" : "up";
}


/* why requests were not answered by it that it might have been */

static void
ngx_http_hybrid_json_passed(ngx_http_hybrid_backend_t *backend,
    ngx_http_hybrid_out_t *out)
{
    ngx_uint_t  i, n;

    ngx_http_hybrid_out(out, ",\"passed_over\":{");

    for (i = 0, n = 0; i < ngx_hybrid_passed_n; i++) {
        if (backend->health->passed[i]) {
            ngx_http_hybrid_out(out, "%s\"%V\":%uA", n++ ? "," : "",
                                &ngx_hybrid_passed_names[i],
                                backend->health->passed[i]);
        }
    }

    ngx_http_hybrid_out(out, "}");
}


static void
ngx_http_hybrid_prom_passed(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out)
{
    ngx_uint_t                   i, j;
    ngx_http_hybrid_backend_t  **backends;

    backends = view->conf->backends.elts;

    ngx_http_hybrid_out(out,
        "# HELP ngx_hybrid_backend_passed_over_total Requests that it might "
        "have answered, by why it did not.\n"
        "# TYPE ngx_hybrid_backend_passed_over_total counter\n");

    for (i = 0; i < view->conf->backends.nelts; i++) {
        for (j = 0; j < ngx_hybrid_passed_n; j++) {

            if (backends[i]->health->passed[j] == 0) {
                continue;
            }

            ngx_http_hybrid_out(out,
                "ngx_hybrid_backend_passed_over_total{backend=\"%V\","
                "reason=\"%V\"} %uA\n", &backends[i]->name,
                &ngx_hybrid_passed_names[j], backends[i]->health->passed[j]);
        }
    }
}


void
ngx_http_hybrid_prom_backends(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out)
{
    ngx_http_hybrid_prom_paths(view, out);
    ngx_http_hybrid_prom_passed(view, out);

    ngx_http_hybrid_prom_gauge(view, out, "in_flight",
                               "Requests that are with the backend.",
                               ngx_http_hybrid_view_in_flight);
    ngx_http_hybrid_prom_gauge(view, out, "slots",
                               "Requests that it answers at a time, 0: no "
                               "bound.", ngx_http_hybrid_view_slots);
    ngx_http_hybrid_prom_gauge(view, out, "waiting",
                               "Requests that wait for a slot of it.",
                               ngx_http_hybrid_view_waiting);
    ngx_http_hybrid_prom_service(view, out);
    ngx_http_hybrid_prom_gauge(view, out, "stuck",
                               "Whether it answers probes, but no requests.",
                               ngx_http_hybrid_view_stuck);
    ngx_http_hybrid_prom_gauge(view, out, "models",
                               "Models on its list.",
                               ngx_http_hybrid_view_models);
    ngx_http_hybrid_prom_gauge(view, out, "models_loaded",
                               "Models in its memory.",
                               ngx_http_hybrid_view_loaded);
}


static void
ngx_http_hybrid_prom_paths(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out)
{
    ngx_uint_t                   i, j;
    ngx_hybrid_path_t           *path;
    ngx_http_hybrid_backend_t  **backends;

    backends = view->conf->backends.elts;

    ngx_http_hybrid_out(out,
        "# HELP ngx_hybrid_path_up Whether probes reach the backend on this "
        "path.\n"
        "# TYPE ngx_hybrid_path_up gauge\n");

    for (i = 0; i < view->conf->backends.nelts; i++) {
        for (j = 0; backends[i]->target && j < backends[i]->npaths; j++) {
            path = backends[i]->paths[j];

            ngx_http_hybrid_out(out,
                "ngx_hybrid_path_up{backend=\"%V\",path=\"%*s\"} %d\n",
                &backends[i]->name, (size_t) path->nname, path->name,
                path->down ? 0 : 1);
        }
    }

    ngx_http_hybrid_out(out,
        "# HELP ngx_hybrid_path_latency_seconds Of the last probe that "
        "passed.\n"
        "# TYPE ngx_hybrid_path_latency_seconds gauge\n");

    for (i = 0; i < view->conf->backends.nelts; i++) {
        for (j = 0; backends[i]->target && j < backends[i]->npaths; j++) {
            path = backends[i]->paths[j];

            if (path->latency) {
                ngx_http_hybrid_out(out,
                    "ngx_hybrid_path_latency_seconds{backend=\"%V\","
                    "path=\"%*s\"} %.6f\n", &backends[i]->name,
                    (size_t) path->nname, path->name,
                    (double) path->latency / 1e6);
            }
        }
    }
}


static void
ngx_http_hybrid_prom_gauge(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out, const char *name, const char *help,
    ngx_uint_t (*value)(ngx_http_hybrid_backend_t *backend))
{
    ngx_uint_t                   i;
    ngx_http_hybrid_backend_t  **backends;

    backends = view->conf->backends.elts;

    ngx_http_hybrid_out(out, "# HELP ngx_hybrid_backend_%s %s\n"
                        "# TYPE ngx_hybrid_backend_%s gauge\n",
                        name, help, name);

    for (i = 0; i < view->conf->backends.nelts; i++) {
        ngx_http_hybrid_out(out, "ngx_hybrid_backend_%s{backend=\"%V\"} "
                            "%ui\n", name, &backends[i]->name,
                            value(backends[i]));
    }
}


static ngx_uint_t
ngx_http_hybrid_view_in_flight(ngx_http_hybrid_backend_t *backend)
{
    return ngx_hybrid_health_busy(backend->health);
}


static ngx_uint_t
ngx_http_hybrid_view_slots(ngx_http_hybrid_backend_t *backend)
{
    return backend->slots;
}


static ngx_uint_t
ngx_http_hybrid_view_waiting(ngx_http_hybrid_backend_t *backend)
{
    return backend->health->waiting;
}


static void
ngx_http_hybrid_prom_service(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out)
{
    ngx_uint_t                   i;
    ngx_http_hybrid_backend_t  **backends;

    backends = view->conf->backends.elts;

    ngx_http_hybrid_out(out,
        "# HELP ngx_hybrid_backend_service_seconds For how long a request has "
        "its slot, of late.\n"
        "# TYPE ngx_hybrid_backend_service_seconds gauge\n");

    for (i = 0; i < view->conf->backends.nelts; i++) {
        if (backends[i]->health->service) {
            ngx_http_hybrid_out(out,
                "ngx_hybrid_backend_service_seconds{backend=\"%V\"} %.3f\n",
                &backends[i]->name,
                (double) backends[i]->health->service / 1e6);
        }
    }
}


static ngx_uint_t
ngx_http_hybrid_view_stuck(ngx_http_hybrid_backend_t *backend)
{
    return backend->health->wedged != 0;
}


static ngx_uint_t
ngx_http_hybrid_view_models(ngx_http_hybrid_backend_t *backend)
{
    ngx_uint_t                i, n, there;
    ngx_http_hybrid_entry_t  *entry;

    there = 0;
    entry = ngx_http_hybrid_catalogue_models(backend, &n);

    for (i = 0; i < n; i++) {
        if (!(entry[i].flags & NGX_HTTP_HYBRID_ENTRY_GONE)) {
            there++;
        }
    }

    return there;
}


static ngx_uint_t
ngx_http_hybrid_view_loaded(ngx_http_hybrid_backend_t *backend)
{
    ngx_uint_t  n;

    (void) ngx_http_hybrid_catalogue_running(backend, &n);

    return n;
}
