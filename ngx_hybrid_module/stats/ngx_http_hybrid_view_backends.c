
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Backends in status pages: their paths, what they have, what they do.  An
 * error is written without what would need an escape.
 */


#include "ngx_http_hybrid_stats.h"
#include "ngx_http_hybrid_catalogue_list.h"


typedef u_char *(*ngx_http_hybrid_prom_path_pt)(
    ngx_http_hybrid_backend_t *backend, ngx_hybrid_path_t *path, u_char *p,
    u_char *end);


static void ngx_http_hybrid_json_backend(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_backend_t *backend, ngx_http_hybrid_out_t *out);
static void ngx_http_hybrid_json_models(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_backend_t *backend, ngx_http_hybrid_out_t *out);
static void ngx_http_hybrid_json_path(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_backend_t *backend, ngx_hybrid_path_t *path,
    ngx_http_hybrid_out_t *out);
static void ngx_http_hybrid_prom_paths(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out);
static void ngx_http_hybrid_prom_path_gauge(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out, const char *name, const char *type,
    const char *help, ngx_http_hybrid_prom_path_pt value);
static u_char *ngx_http_hybrid_prom_path_up(
    ngx_http_hybrid_backend_t *backend, ngx_hybrid_path_t *path, u_char *p,
    u_char *end);
static u_char *ngx_http_hybrid_prom_path_latency(
    ngx_http_hybrid_backend_t *backend, ngx_hybrid_path_t *path, u_char *p,
    u_char *end);
static u_char *ngx_http_hybrid_prom_path_state(
    ngx_http_hybrid_backend_t *backend, ngx_hybrid_path_t *path, u_char *p,
    u_char *end);
static u_char *ngx_http_hybrid_prom_path_changes(
    ngx_http_hybrid_backend_t *backend, ngx_hybrid_path_t *path, u_char *p,
    u_char *end);
static void ngx_http_hybrid_prom_info(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out);
static void ngx_http_hybrid_prom_catalogues(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out);
static const char *ngx_http_hybrid_view_api(
    ngx_http_hybrid_backend_t *backend);
static const char *ngx_http_hybrid_view_egress(
    ngx_http_hybrid_backend_t *backend);
static ngx_int_t ngx_http_hybrid_view_version(
    ngx_http_hybrid_backend_t *backend, ngx_str_t *version);
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
static ngx_uint_t ngx_http_hybrid_view_blocked(
    ngx_http_hybrid_backend_t *backend);
static ngx_uint_t ngx_http_hybrid_view_models(
    ngx_http_hybrid_backend_t *backend);
static ngx_uint_t ngx_http_hybrid_view_loaded(
    ngx_http_hybrid_backend_t *backend);


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
                        "\"service_seconds\":%.3f,\"stuck\":%s,"
                        "\"blocked_seconds\":%.3f",
                        &backend->name, ngx_http_hybrid_view_api(backend),
                        ngx_http_hybrid_view_egress(backend),
                        backend->target ? "true" : "false", backend->slots,
                        ngx_hybrid_health_busy(backend->health),
                        backend->health->waiting,
                        (double) backend->health->service / 1e6,
                        backend->health->wedged ? "true" : "false",
                        (double) ngx_hybrid_health_blocked(backend->health)
                        / 1000);

    ngx_http_hybrid_json_models(view, backend, out);
    ngx_http_hybrid_json_passed(backend, out);

    ngx_http_hybrid_out(out, ",\"paths\":[");

    for (i = 0; i < backend->npaths; i++) {
        ngx_http_hybrid_out(out, "%s", i ? "," : "");
        ngx_http_hybrid_json_path(view, backend, backend->paths[i], out);
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

    if (ngx_http_hybrid_view_version(backend, &version) == NGX_OK) {
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
    ngx_http_hybrid_backend_t *backend, ngx_hybrid_path_t *path,
    ngx_http_hybrid_out_t *out)
{
    u_char      error[NGX_HYBRID_HEALTH_ERROR];
    size_t      len;
    ngx_msec_t  since;

    since = ngx_current_msec - path->changed;

    ngx_http_hybrid_out(out, "{\"name\":\"%*s\",\"state\":\"%s\","
                        "\"since\":%.3f,\"changes\":%uA,"
                        "\"latency_seconds\":%.6f,\"error\":",
                        (size_t) path->nname, path->name,
                        ngx_http_hybrid_view_path_state(backend, path),
                        (double) since / 1000, path->flaps,
                        (double) path->latency / 1e6);

    len = ngx_hybrid_path_error(view->conf->shm, path, error);

    if (len) {
        ngx_http_hybrid_out(out, "\"%*s\"}", len, error);

    } else {
        ngx_http_hybrid_out(out, "null}");
    }
}


const char *
ngx_http_hybrid_view_path_state(ngx_http_hybrid_backend_t *backend,
    ngx_hybrid_path_t *path)
{
    ngx_uint_t  lever;

    /* a backend's lever is that of its paths, unless theirs is stricter */

    lever = ngx_max(backend->health->lever, path->lever);

    switch (lever) {

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
    ngx_http_hybrid_prom_info(view, out);
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
    ngx_http_hybrid_prom_gauge(view, out, "blocked",
                               "Whether it is not asked for a while, as it "
                               "failed.",
                               ngx_http_hybrid_view_blocked);
    ngx_http_hybrid_prom_gauge(view, out, "models",
                               "Models on its list.",
                               ngx_http_hybrid_view_models);
    ngx_http_hybrid_prom_gauge(view, out, "models_loaded",
                               "Models in its memory.",
                               ngx_http_hybrid_view_loaded);
    ngx_http_hybrid_prom_catalogues(view, out);
}


static void
ngx_http_hybrid_prom_paths(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out)
{
    ngx_http_hybrid_prom_path_gauge(view, out, "path_up", "gauge",
                                    "Whether probes reach the backend on "
                                    "this path.",
                                    ngx_http_hybrid_prom_path_up);
    ngx_http_hybrid_prom_path_gauge(view, out, "path_latency_seconds",
                                    "gauge", "Of the last probe that passed.",
                                    ngx_http_hybrid_prom_path_latency);
    ngx_http_hybrid_prom_path_gauge(view, out, "path_state", "gauge",
                                    "The state of the path is the one that "
                                    "is shown.",
                                    ngx_http_hybrid_prom_path_state);
    ngx_http_hybrid_prom_path_gauge(view, out, "path_changes_total",
                                    "counter", "Times that probes found it up "
                                    "or down.",
                                    ngx_http_hybrid_prom_path_changes);
}


static void
ngx_http_hybrid_prom_path_gauge(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out, const char *name, const char *type,
    const char *help, ngx_http_hybrid_prom_path_pt value)
{
    u_char                       buf[64];
    size_t                       len;
    ngx_uint_t                   i, j;
    ngx_hybrid_path_t           *path;
    ngx_http_hybrid_backend_t  **backends;

    backends = view->conf->backends.elts;

    ngx_http_hybrid_prom_head(out, name, type, help);

    for (i = 0; i < view->conf->backends.nelts; i++) {
        for (j = 0; j < backends[i]->npaths; j++) {
            path = backends[i]->paths[j];

            len = value(backends[i], path, buf, buf + sizeof(buf)) - buf;

            if (len) {
                ngx_http_hybrid_out(out, "ngx_hybrid_%s{backend=\"%V\","
                                    "path=\"%*s\"%*s\n", name,
                                    &backends[i]->name, (size_t) path->nname,
                                    path->name, len, buf);
            }
        }
    }
}


/* each writes the end of a line behind the labels, or nothing */

static u_char *
ngx_http_hybrid_prom_path_up(ngx_http_hybrid_backend_t *backend,
    ngx_hybrid_path_t *path, u_char *p, u_char *end)
{
    return backend->target ? ngx_slprintf(p, end, "} %d", path->down ? 0 : 1)
                           : p;
}


static u_char *
ngx_http_hybrid_prom_path_latency(ngx_http_hybrid_backend_t *backend,
    ngx_hybrid_path_t *path, u_char *p, u_char *end)
{
    return backend->target && path->latency
           ? ngx_slprintf(p, end, "} %.6f", (double) path->latency / 1e6)
           : p;
}


static u_char *
ngx_http_hybrid_prom_path_state(ngx_http_hybrid_backend_t *backend,
    ngx_hybrid_path_t *path, u_char *p, u_char *end)
{
    return ngx_slprintf(p, end, ",state=\"%s\"} 1",
                        ngx_http_hybrid_view_path_state(backend, path));
}


static u_char *
ngx_http_hybrid_prom_path_changes(ngx_http_hybrid_backend_t *backend,
    ngx_hybrid_path_t *path, u_char *p, u_char *end)
{
    return backend->target ? ngx_slprintf(p, end, "} %uA", path->flaps) : p;
}


/* what else is known of it; to be joined with other metrics */

static void
ngx_http_hybrid_prom_info(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out)
{
    ngx_str_t                    version;
    ngx_uint_t                   i;
    ngx_http_hybrid_backend_t  **backends;

    backends = view->conf->backends.elts;

    ngx_http_hybrid_prom_head(out, "backend_info", "gauge",
                              "What a backend speaks, whether prompts leave "
                              "the premises with it, and its version.");

    for (i = 0; i < view->conf->backends.nelts; i++) {

        ngx_http_hybrid_out(out, "ngx_hybrid_backend_info{backend=\"%V\","
                            "api=\"%s\",egress=\"%s\"", &backends[i]->name,
                            ngx_http_hybrid_view_api(backends[i]),
                            ngx_http_hybrid_view_egress(backends[i]));

        if (ngx_http_hybrid_view_version(backends[i], &version) == NGX_OK) {
            ngx_http_hybrid_out(out, ",version=\"%V\"", &version);
        }

        ngx_http_hybrid_out(out, "} 1\n");
    }
}


static void
ngx_http_hybrid_prom_catalogues(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out)
{
    ngx_uint_t                   i;
    ngx_hybrid_doc_t            *doc;
    ngx_http_hybrid_backend_t  **backends;

    backends = view->conf->backends.elts;

    ngx_http_hybrid_prom_head(out, "backend_models_age_seconds", "gauge",
                              "Since its list of models came.");

    for (i = 0; i < view->conf->backends.nelts; i++) {

        if (backends[i]->catalogue == NULL) {
            continue;
        }

        doc = backends[i]->catalogue->models.doc;

        if (doc->generation) {
            ngx_http_hybrid_out(out, "ngx_hybrid_backend_models_age_seconds{"
                                "backend=\"%V\"} %.3f\n", &backends[i]->name,
                                (double) (ngx_msec_t) (ngx_current_msec
                                                       - doc->loaded) / 1000);
        }
    }
}


static const char *
ngx_http_hybrid_view_api(ngx_http_hybrid_backend_t *backend)
{
    return backend->api == ngx_http_hybrid_api_ollama ? "ollama" : "openai";
}


static const char *
ngx_http_hybrid_view_egress(ngx_http_hybrid_backend_t *backend)
{
    return backend->egress == NGX_HTTP_HYBRID_EGRESS_LOCAL ? "local"
                                                           : "cloud";
}


/* the machine says so: what would need an escape is no version */

static ngx_int_t
ngx_http_hybrid_view_version(ngx_http_hybrid_backend_t *backend,
    ngx_str_t *version)
{
    ngx_uint_t  i;

    if (backend->catalogue == NULL) {
        return NGX_DECLINED;
    }

    *version = ngx_http_hybrid_catalogue_version(backend);

    for (i = 0; i < version->len; i++) {
        if (version->data[i] < 0x20 || version->data[i] > 0x7e
            || version->data[i] == '"' || version->data[i] == '\\')
        {
            return NGX_DECLINED;
        }
    }

    return version->len ? NGX_OK : NGX_DECLINED;
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
ngx_http_hybrid_view_blocked(ngx_http_hybrid_backend_t *backend)
{
    return ngx_hybrid_health_blocked(backend->health) != 0;
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
