
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * hybrid_admin: what "hybrid-ctl top" shows, a line a thing, with tabs.
 * Numbers only grow: rates are made of two answers, by who asks.
 */


#include "ngx_http_hybrid_stats.h"
#include "ngx_http_hybrid_admin.h"
#include "ngx_http_hybrid_anomaly.h"
#include "ngx_http_hybrid_catalogue.h"


static void ngx_http_hybrid_top_anomalies(ngx_http_hybrid_main_conf_t *hmcf,
    ngx_http_hybrid_out_t *out);
static void ngx_http_hybrid_top_backend(ngx_http_hybrid_backend_t *backend,
    ngx_http_hybrid_out_t *out);
static const char *ngx_http_hybrid_top_state(
    ngx_http_hybrid_backend_t *backend);
static void ngx_http_hybrid_top_path(ngx_http_hybrid_backend_t *backend,
    ngx_hybrid_path_t *path, ngx_http_hybrid_out_t *out);
static ngx_int_t ngx_http_hybrid_top_series(ngx_http_hybrid_admin_t *admin,
    ngx_hybrid_series_t *series, ngx_http_hybrid_out_t *out);
static ngx_int_t ngx_http_hybrid_top_answer(ngx_http_hybrid_admin_t *admin,
    ngx_http_hybrid_out_t *out);


ngx_int_t
ngx_http_hybrid_top_get(ngx_http_hybrid_admin_t *admin)
{
    ngx_uint_t                    i;
    ngx_time_t                   *tp;
    ngx_http_hybrid_out_t         out;
    ngx_hybrid_series_sh_t       *sh;
    ngx_http_hybrid_backend_t   **backends;
    ngx_http_hybrid_main_conf_t  *hmcf;

    if (!admin->text) {
        return ngx_http_hybrid_refuse(admin->ctx, NGX_HTTP_BAD_REQUEST,
                                      "invalid_format",
                                      "there is only format=text of this; "
                                      "hybrid_status has it in JSON");
    }

    hmcf = admin->ctx->conf;

    ngx_memzero(&out, sizeof(ngx_http_hybrid_out_t));
    out.pool = admin->request->pool;

    tp = ngx_timeofday();

    ngx_http_hybrid_out(&out, "time\t%T.%03M\n", tp->sec, tp->msec);

    ngx_http_hybrid_top_anomalies(hmcf, &out);

    backends = hmcf->backends.elts;

    for (i = 0; i < hmcf->backends.nelts; i++) {
        ngx_http_hybrid_top_backend(backends[i], &out);
    }

    sh = &hmcf->shm->sh->series;

    for (i = 0; i < sh->n; i++) {
        if (ngx_http_hybrid_top_series(admin, &sh->elts[i], &out) != NGX_OK)
        {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
    }

    return ngx_http_hybrid_top_answer(admin, &out);
}


static void
ngx_http_hybrid_top_anomalies(ngx_http_hybrid_main_conf_t *hmcf,
    ngx_http_hybrid_out_t *out)
{
    ngx_uint_t                   i, j;
    ngx_hybrid_shm_t            *shm;
    ngx_hybrid_anomaly_t         anomaly;
    ngx_hybrid_anomaly_place_t   copy;

    ngx_http_hybrid_anomaly_now(hmcf);

    shm = hmcf->shm;
    i = 0;

    while (ngx_hybrid_anomaly_next(shm->sh->anomalies, &shm->shpool->mutex,
                                   &i, &copy))
    {
        ngx_hybrid_anomaly_read(&copy, &anomaly);

        ngx_http_hybrid_out(out, "anomaly\t%V\t",
                            &ngx_hybrid_anomaly_names[anomaly.kind]);

        for (j = 0; j < ngx_hybrid_anomaly_labels; j++) {
            if (anomaly.labels[j].len) {
                ngx_http_hybrid_out(out, " %V", &anomaly.labels[j]);
            }
        }

        ngx_http_hybrid_out(out, "\t%V\n", &anomaly.text);
    }
}


static void
ngx_http_hybrid_top_backend(ngx_http_hybrid_backend_t *backend,
    ngx_http_hybrid_out_t *out)
{
    ngx_uint_t                i, n;
    ngx_http_hybrid_entry_t  *entry;

    ngx_http_hybrid_out(out, "backend\t%V\t%s\t%ui\t%ui\t%uA\t",
                        &backend->name, ngx_http_hybrid_top_state(backend),
                        ngx_hybrid_health_busy(backend->health),
                        backend->slots, backend->health->waiting);

    entry = ngx_http_hybrid_catalogue_running(backend, &n);

    for (i = 0; i < n; i++) {
        ngx_http_hybrid_out(out, "%s%V", i ? " " : "", &entry[i].name);
    }

    ngx_http_hybrid_out(out, "\n");

    for (i = 0; i < backend->npaths; i++) {
        ngx_http_hybrid_top_path(backend, backend->paths[i], out);
    }
}


static const char *
ngx_http_hybrid_top_state(ngx_http_hybrid_backend_t *backend)
{
    ngx_uint_t  i;

    switch (backend->health->lever) {

    case ngx_hybrid_lever_drained:
        return "drained";

    case ngx_hybrid_lever_disabled:
        return "disabled";
    }

    if (ngx_hybrid_health_blocked(backend->health)) {
        return "quota";
    }

    if (backend->health->wedged) {
        return "stuck";
    }

    for (i = 0; i < backend->npaths; i++) {
        if (!backend->paths[i]->down && !backend->paths[i]->idle) {
            return "-";
        }
    }

    return i ? "down" : "-";
}


static void
ngx_http_hybrid_top_path(ngx_http_hybrid_backend_t *backend,
    ngx_hybrid_path_t *path, ngx_http_hybrid_out_t *out)
{
    ngx_http_hybrid_out(out, "path\t%V\t%*s\t%s\t%.6f\n", &backend->name,
                        (size_t) path->nname, path->name,
                        ngx_http_hybrid_view_path_state(backend, path),
                        (double) path->latency / 1e6);
}


/* requests, answered, refused, cold starts, output tokens, first tokens */

static ngx_int_t
ngx_http_hybrid_top_series(ngx_http_hybrid_admin_t *admin,
    ngx_hybrid_series_t *series, ngx_http_hybrid_out_t *out)
{
    uint64_t                all, refused;
    uint64_t                buckets[NGX_HYBRID_HISTOGRAM_BUCKETS];
    ngx_str_t               client, backend, model;
    ngx_uint_t              i, n;
    ngx_http_hybrid_sum_t  *sum;

    sum = ngx_http_hybrid_sum_copy(admin->request->pool,
                                   &admin->ctx->conf->shm->sh->series, series);
    if (sum == NULL) {
        return NGX_ERROR;
    }

    ngx_hybrid_series_labels(series, &client, &backend, &model);

    all = 0;
    refused = 0;

    for (i = 0; i < ngx_hybrid_outcome_n; i++) {
        all += sum->counts[i];

        if (i >= ngx_hybrid_outcome_unauthorized) {
            refused += sum->counts[i];
        }
    }

    ngx_http_hybrid_out(out, "series\t%V\t%V\t%V\t%uL\t%uL\t%uL\t%uL\t%uL\t",
                        &client, &backend, &model, all,
                        sum->counts[ngx_hybrid_outcome_ok], refused,
                        sum->counts[NGX_HYBRID_COUNT_COLD],
                        sum->counts[NGX_HYBRID_COUNT_OUTPUT]);

    (void) ngx_http_hybrid_sum_table(sum, ngx_hybrid_timer_first_token,
                                     buckets);

    for (i = 0, n = 0; i < NGX_HYBRID_HISTOGRAM_BUCKETS; i++) {
        if (buckets[i]) {
            ngx_http_hybrid_out(out, "%s%ui:%uL", n++ ? " " : "", i,
                                buckets[i]);
        }
    }

    ngx_http_hybrid_out(out, "\n");

    return NGX_OK;
}


static ngx_int_t
ngx_http_hybrid_top_answer(ngx_http_hybrid_admin_t *admin,
    ngx_http_hybrid_out_t *out)
{
    u_char       *p;
    size_t        len;
    ngx_chain_t  *cl;

    len = 0;

    for (cl = out->chain; cl; cl = cl->next) {
        len += cl->buf->last - cl->buf->pos;
    }

    p = ngx_pnalloc(admin->request->pool, len);

    if (out->failed || p == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    admin->answer.data = p;
    admin->answer.len = len;

    for (cl = out->chain; cl; cl = cl->next) {
        p = ngx_cpymem(p, cl->buf->pos, cl->buf->last - cl->buf->pos);
    }

    return NGX_OK;
}
