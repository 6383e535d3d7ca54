
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Numbers as JSON and in Prometheus's text format.  All labels are names of
 * the configuration or checked names of models, also those that are read from
 * Redis: nothing needs an escape.
 */


#include "ngx_http_hybrid_stats.h"


static ngx_int_t ngx_http_hybrid_view_open(ngx_http_hybrid_view_t *view,
    size_t row, ngx_str_t *text, ngx_http_hybrid_out_t *out);
static void ngx_http_hybrid_json_gateway(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out);
static void ngx_http_hybrid_json_row(ngx_http_hybrid_row_t *row,
    ngx_http_hybrid_out_t *out);
static void ngx_http_hybrid_prom_gateway(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out);
static void ngx_http_hybrid_prom_counts(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out);
static void ngx_http_hybrid_prom_timer(ngx_http_hybrid_view_t *view,
    ngx_uint_t timer, ngx_http_hybrid_out_t *out);
static void ngx_http_hybrid_prom_histogram(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_row_t *row, ngx_uint_t timer, ngx_http_hybrid_out_t *out);


/* upper bounds in microseconds; long ones for models that are loaded first */

static const uint64_t  ngx_http_hybrid_bounds[] = {
    1000, 2500, 5000, 10000, 25000, 50000, 100000, 250000, 500000,
    1000000, 2500000, 5000000, 10000000, 30000000, 60000000, 120000000,
    300000000, 0
};

#define NGX_HTTP_HYBRID_VIEW_LABELS  512


ngx_int_t
ngx_http_hybrid_view_json(ngx_http_hybrid_view_t *view, ngx_str_t *text)
{
    ngx_uint_t              i;
    ngx_http_hybrid_out_t   out;
    ngx_http_hybrid_row_t  *rows;

    if (ngx_http_hybrid_view_open(view, 2560, text, &out) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_http_hybrid_json_gateway(view, &out);
    ngx_http_hybrid_json_clients(view, &out);
    ngx_http_hybrid_json_backends(view, &out);
    ngx_http_hybrid_json_docs(view, &out);
    ngx_http_hybrid_json_auth(view, &out);
    ngx_http_hybrid_json_shadow(view, &out);

    ngx_http_hybrid_out(&out, "\"series\":[");

    rows = view->rows.elts;

    for (i = 0; i < view->rows.nelts; i++) {
        ngx_http_hybrid_out(&out, "%s", i ? ",\n" : "\n");
        ngx_http_hybrid_json_row(&rows[i], &out);
    }

    ngx_http_hybrid_out(&out, "]}\n");

    text->len = out.pos - text->data;

    return NGX_OK;
}


ngx_int_t
ngx_http_hybrid_view_prometheus(ngx_http_hybrid_view_t *view, ngx_str_t *text)
{
    size_t                 row;
    ngx_uint_t             t;
    ngx_http_hybrid_out_t  out;

    /* a line for every outcome, and every bound of every timer */

    row = (NGX_HYBRID_COUNTS + ngx_hybrid_timer_n * 21)
          * NGX_HTTP_HYBRID_VIEW_LABELS;

    if (ngx_http_hybrid_view_open(view, row, text, &out) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_http_hybrid_prom_gateway(view, &out);
    ngx_http_hybrid_prom_limits(view, &out);
    ngx_http_hybrid_prom_backends(view, &out);
    ngx_http_hybrid_prom_docs(view, &out);
    ngx_http_hybrid_prom_auth(view, &out);
    ngx_http_hybrid_prom_counts(view, &out);
    ngx_http_hybrid_prom_shadow(view, &out);

    for (t = 0; t < ngx_hybrid_timer_n; t++) {
        ngx_http_hybrid_prom_timer(view, t, &out);
    }

    text->len = out.pos - text->data;

    return NGX_OK;
}


static ngx_int_t
ngx_http_hybrid_view_open(ngx_http_hybrid_view_t *view, size_t row,
    ngx_str_t *text, ngx_http_hybrid_out_t *out)
{
    size_t  size, limits;

    if (ngx_http_hybrid_limits_open(view, &limits) != NGX_OK) {
        return NGX_ERROR;
    }

    size = 8192 + view->rows.nelts * row + limits
           + view->conf->clients.nelts * 256
           + ngx_http_hybrid_backends_size(view)
           + ngx_http_hybrid_fetched_size(view);

    text->data = ngx_pnalloc(view->request->pool, size);
    if (text->data == NULL) {
        return NGX_ERROR;
    }

    out->pos = text->data;
    out->end = text->data + size;

    return NGX_OK;
}


void
ngx_http_hybrid_out(ngx_http_hybrid_out_t *out, const char *fmt, ...)
{
    va_list  args;

    va_start(args, fmt);
    out->pos = ngx_vslprintf(out->pos, out->end, fmt, args);
    va_end(args);
}


/*
 * A label too: should Redis go away, the smaller numbers of this gateway
 * alone are other series, and not counters that seem to have been reset.
 */

const char *
ngx_http_hybrid_view_scope(ngx_http_hybrid_view_t *view)
{
    return view->all ? "all" : "gateway";
}


ngx_uint_t
ngx_http_hybrid_view_redis(ngx_http_hybrid_view_t *view)
{
    return view->conf->redis && ngx_hybrid_redis_available(view->conf->redis);
}


static void
ngx_http_hybrid_json_gateway(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out)
{
    ngx_hybrid_shm_sh_t  *sh;

    sh = view->conf->shm->sh;

    ngx_http_hybrid_out(out, "{\"version\":\"%s\",\"nginx\":\"%s\","
                        "\"gateway\":\"%*s\",\"scope\":\"%s\",\n",
                        NGX_HYBRID_VERSION, NGINX_VERSION, sizeof(sh->id),
                        sh->id, ngx_http_hybrid_view_scope(view));

    ngx_http_hybrid_out(out, "\"zone\":{\"size\":%uL,\"series\":%uA,"
                        "\"series_max\":%ui,\"clients\":%uA,"
                        "\"clients_reused\":%uA,\"free\":%uz},\n",
                        sh->size, sh->nseries, sh->max, sh->clients.n,
                        sh->clients.reused,
                        view->conf->shm->shpool->pfree * ngx_pagesize);

    ngx_http_hybrid_out(out, "\"redis\":{\"configured\":%s,\"available\":%s,"
                        "\"flushes\":%uA},\n",
                        view->conf->redis_conf ? "true" : "false",
                        ngx_http_hybrid_view_redis(view) ? "true" : "false",
                        sh->flushes);
}


static void
ngx_http_hybrid_json_row(ngx_http_hybrid_row_t *row,
    ngx_http_hybrid_out_t *out)
{
    uint64_t     n, *buckets;
    ngx_uint_t   i, t;

    ngx_http_hybrid_out(out, "{\"client\":\"%V\",\"backend\":\"%V\","
                        "\"model\":\"%V\",\"requests\":{",
                        &row->client, &row->backend, &row->model);

    for (i = 0; i < ngx_hybrid_outcome_n; i++) {
        ngx_http_hybrid_out(out, "%s\"%V\":%uA", i ? "," : "",
                            &ngx_http_hybrid_outcome_names[i],
                            row->numbers->counts[i]);
    }

    ngx_http_hybrid_out(out, "},\"fallbacks\":%uA",
                        row->numbers->counts[NGX_HYBRID_COUNT_FALLBACKS]);

    for (t = 0; t < ngx_hybrid_timer_n; t++) {

        buckets = (uint64_t *) row->numbers->buckets[t];
        n = 0;

        for (i = 0; i < NGX_HYBRID_HISTOGRAM_BUCKETS; i++) {
            n += buckets[i];
        }

        ngx_http_hybrid_out(out, ",\"%V_seconds\":{\"count\":%uL,"
                            "\"sum\":%.6f,\"p50\":%.6f,\"p95\":%.6f,"
                            "\"p99\":%.6f}",
                            &ngx_http_hybrid_timer_names[t], n,
                            (double) row->numbers->sums[t] / 1e6,
                            ngx_hybrid_histogram_quantile(buckets, 0.5) / 1e6,
                            ngx_hybrid_histogram_quantile(buckets, 0.95) / 1e6,
                            ngx_hybrid_histogram_quantile(buckets, 0.99)
                            / 1e6);
    }

    ngx_http_hybrid_out(out, "}");
}


static void
ngx_http_hybrid_prom_gateway(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out)
{
    ngx_uint_t                  i;
    ngx_http_hybrid_client_t  **clients;

    ngx_http_hybrid_out(out,
        "# HELP ngx_hybrid_build_info Versions of the gateway.\n"
        "# TYPE ngx_hybrid_build_info gauge\n"
        "ngx_hybrid_build_info{version=\"%s\",nginx=\"%s\"} 1\n",
        NGX_HYBRID_VERSION, NGINX_VERSION);

    ngx_http_hybrid_out(out,
        "# HELP ngx_hybrid_redis_up Whether Redis answers this worker.\n"
        "# TYPE ngx_hybrid_redis_up gauge\n"
        "ngx_hybrid_redis_up %ui\n", ngx_http_hybrid_view_redis(view));

    ngx_http_hybrid_out(out,
        "# HELP ngx_hybrid_limits_without_redis_total Limits decided while "
        "Redis was away, in this gateway.\n"
        "# TYPE ngx_hybrid_limits_without_redis_total counter\n");

    clients = view->conf->clients.elts;

    for (i = 0; i < view->conf->clients.nelts; i++) {
        ngx_http_hybrid_out(out,
            "ngx_hybrid_limits_without_redis_total{client=\"%V\"} %uA\n",
            &clients[i]->name, clients[i]->shared->local);
    }
}


static void
ngx_http_hybrid_prom_counts(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out)
{
    ngx_uint_t              i, n;
    ngx_http_hybrid_row_t  *row;

    ngx_http_hybrid_out(out,
        "# HELP ngx_hybrid_requests_total Requests by outcome.\n"
        "# TYPE ngx_hybrid_requests_total counter\n");

    for (n = 0; n < view->rows.nelts; n++) {
        row = (ngx_http_hybrid_row_t *) view->rows.elts + n;

        for (i = 0; i < ngx_hybrid_outcome_n; i++) {

            if (row->numbers->counts[i] == 0) {
                continue;
            }

            ngx_http_hybrid_out(out,
                "ngx_hybrid_requests_total{client=\"%V\",backend=\"%V\","
                "model=\"%V\",outcome=\"%V\",scope=\"%s\"} %uA\n",
                &row->client, &row->backend, &row->model,
                &ngx_http_hybrid_outcome_names[i],
                ngx_http_hybrid_view_scope(view), row->numbers->counts[i]);
        }
    }

    ngx_http_hybrid_out(out,
        "# HELP ngx_hybrid_fallbacks_total Requests that were not answered "
        "by their first choice.\n"
        "# TYPE ngx_hybrid_fallbacks_total counter\n");

    for (n = 0; n < view->rows.nelts; n++) {
        row = (ngx_http_hybrid_row_t *) view->rows.elts + n;

        ngx_http_hybrid_out(out,
            "ngx_hybrid_fallbacks_total{client=\"%V\",backend=\"%V\","
            "model=\"%V\",scope=\"%s\"} %uA\n",
            &row->client, &row->backend, &row->model,
            ngx_http_hybrid_view_scope(view),
            row->numbers->counts[NGX_HYBRID_COUNT_FALLBACKS]);
    }
}


static void
ngx_http_hybrid_prom_timer(ngx_http_hybrid_view_t *view, ngx_uint_t timer,
    ngx_http_hybrid_out_t *out)
{
    ngx_uint_t              n;
    ngx_http_hybrid_row_t  *row;

    ngx_http_hybrid_out(out,
        "# HELP ngx_hybrid_%V_seconds Answered requests.\n"
        "# TYPE ngx_hybrid_%V_seconds histogram\n",
        &ngx_http_hybrid_timer_names[timer],
        &ngx_http_hybrid_timer_names[timer]);

    for (n = 0; n < view->rows.nelts; n++) {
        row = (ngx_http_hybrid_row_t *) view->rows.elts + n;

        if (row->numbers->counts[ngx_hybrid_outcome_ok]) {
            ngx_http_hybrid_prom_histogram(view, row, timer, out);
        }
    }
}


static void
ngx_http_hybrid_prom_histogram(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_row_t *row, ngx_uint_t timer, ngx_http_hybrid_out_t *out)
{
    u_char      labels[NGX_HTTP_HYBRID_VIEW_LABELS], *last;
    uint64_t    n;
    ngx_str_t   text, *name;
    ngx_uint_t  i, bound;

    last = ngx_slprintf(labels, labels + sizeof(labels),
                        "client=\"%V\",backend=\"%V\",model=\"%V\","
                        "scope=\"%s\"", &row->client, &row->backend,
                        &row->model, ngx_http_hybrid_view_scope(view));
    text.data = labels;
    text.len = last - labels;

    name = &ngx_http_hybrid_timer_names[timer];
    n = 0;
    i = 0;

    for (bound = 0; ngx_http_hybrid_bounds[bound]; bound++) {

        while (i < NGX_HYBRID_HISTOGRAM_BUCKETS
               && ngx_hybrid_histogram_lower(i)
                  <= ngx_http_hybrid_bounds[bound])
        {
            n += row->numbers->buckets[timer][i++];
        }

        ngx_http_hybrid_out(out,
            "ngx_hybrid_%V_seconds_bucket{%V,le=\"%.4f\"} %uL\n",
            name, &text, (double) ngx_http_hybrid_bounds[bound] / 1e6, n);
    }

    while (i < NGX_HYBRID_HISTOGRAM_BUCKETS) {
        n += row->numbers->buckets[timer][i++];
    }

    ngx_http_hybrid_out(out,
        "ngx_hybrid_%V_seconds_bucket{%V,le=\"+Inf\"} %uL\n"
        "ngx_hybrid_%V_seconds_sum{%V} %.6f\n"
        "ngx_hybrid_%V_seconds_count{%V} %uL\n",
        name, &text, n, name, &text,
        (double) row->numbers->sums[timer] / 1e6, name, &text, n);
}
