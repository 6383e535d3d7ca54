
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Numbers in Prometheus's text format, named after its conventions and after
 * OpenTelemetry's for generative AI.  All labels are names of the
 * configuration or checked names of models, also those that are read from
 * Redis: nothing needs an escape.
 */


#include "ngx_http_hybrid_stats.h"
#include "ngx_hybrid_libraries.h"


static void ngx_http_hybrid_prom_build(ngx_http_hybrid_out_t *out);
static void ngx_http_hybrid_prom_redis(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out);
static void ngx_http_hybrid_prom_zone(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out);
static void ngx_http_hybrid_prom_requests(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out);
static void ngx_http_hybrid_prom_fallbacks(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out);
static void ngx_http_hybrid_prom_tokens(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out);
static void ngx_http_hybrid_prom_counter(ngx_http_hybrid_view_t *view,
    ngx_uint_t count, const char *name, const char *help,
    ngx_http_hybrid_out_t *out);
static void ngx_http_hybrid_prom_refusals(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out);
static void ngx_http_hybrid_prom_cold(ngx_http_hybrid_view_t *view,
    ngx_array_t *models, ngx_http_hybrid_out_t *out);
static int ngx_libc_cdecl ngx_http_hybrid_prom_by_model(const void *one,
    const void *two);
static int ngx_libc_cdecl ngx_http_hybrid_prom_by_client(const void *one,
    const void *two);
static ngx_int_t ngx_http_hybrid_prom_compare(ngx_str_t *one, ngx_str_t *two);


void
ngx_http_hybrid_view_prometheus(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out)
{
    ngx_array_t  *models;

    models = ngx_http_hybrid_prom_group(view, ngx_http_hybrid_prom_by_model);

    if (models == NULL) {
        out->failed = 1;
        return;
    }

    ngx_http_hybrid_prom_build(out);
    ngx_http_hybrid_prom_redis(view, out);
    ngx_http_hybrid_prom_zone(view, out);
    ngx_http_hybrid_prom_anomalies(view, out);
    ngx_http_hybrid_prom_limits(view, out);
    ngx_http_hybrid_prom_backends(view, out);
    ngx_http_hybrid_prom_docs(view, out);
    ngx_http_hybrid_prom_auth(view, out);
    ngx_http_hybrid_prom_requests(view, out);
    ngx_http_hybrid_prom_refusals(view, out);
    ngx_http_hybrid_prom_fallbacks(view, out);
    ngx_http_hybrid_prom_shadow(view, out);
    ngx_http_hybrid_prom_counter(view, NGX_HYBRID_COUNT_RETRIES,
                                 "retries_total",
                                 "Tries of requests beyond their first one.",
                                 out);
    ngx_http_hybrid_prom_counter(view, NGX_HYBRID_COUNT_BODY,
                                 "request_body_seconds_total",
                                 "That bodies of answered requests took to "
                                 "come.", out);
    ngx_http_hybrid_prom_counter(view, NGX_HYBRID_COUNT_FAILED,
                                 "failed_tries_seconds_total",
                                 "From the first try to the last one, of "
                                 "answered requests.", out);
    ngx_http_hybrid_prom_counter(view, NGX_HYBRID_COUNT_WAIT,
                                 "first_token_wait_seconds_total",
                                 "Of times to a first token what connecting, "
                                 "loading and prompts do not explain.", out);
    ngx_http_hybrid_prom_tokens(view, out);
    ngx_http_hybrid_prom_cold(view, models, out);

    if (ngx_http_hybrid_prom_timers(view, models, out) != NGX_OK) {
        out->failed = 1;
    }
}


void
ngx_http_hybrid_prom_head(ngx_http_hybrid_out_t *out, const char *name,
    const char *type, const char *help)
{
    ngx_http_hybrid_out(out, "# HELP ngx_hybrid_%s %s\n"
                        "# TYPE ngx_hybrid_%s %s\n", name, help, name, type);
}


static void
ngx_http_hybrid_prom_build(ngx_http_hybrid_out_t *out)
{
    ngx_uint_t   n;
    const char  *name, *version;

    ngx_http_hybrid_prom_head(out, "build_info", "gauge",
                              "Versions of the gateway and of what it is "
                              "linked with.");

    ngx_http_hybrid_out(out,
        "ngx_hybrid_build_info{version=\"%s\",nginx=\"%s\"",
        NGX_HYBRID_VERSION, NGINX_VERSION);

    for (n = 0; (name = ngx_hybrid_library(n, &version)) != NULL; n++) {
        ngx_http_hybrid_out(out, ",%s=\"%s\"", name, version);
    }

    ngx_http_hybrid_out(out, "} 1\n");
}


static void
ngx_http_hybrid_prom_redis(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out)
{
    ngx_uint_t                  i;
    ngx_http_hybrid_client_t  **clients;

    ngx_http_hybrid_prom_head(out, "redis_configured", "gauge",
                              "Whether there should be a Redis.");
    ngx_http_hybrid_out(out, "ngx_hybrid_redis_configured %d\n",
                        view->conf->redis_conf ? 1 : 0);

    ngx_http_hybrid_prom_head(out, "redis_up", "gauge",
                              "Whether Redis answers this worker.");
    ngx_http_hybrid_out(out, "ngx_hybrid_redis_up %ui\n",
                        ngx_http_hybrid_view_redis(view));

    ngx_http_hybrid_prom_head(out, "redis_flushes_total", "counter",
                              "Times that what was counted here was told to "
                              "Redis.");
    ngx_http_hybrid_out(out, "ngx_hybrid_redis_flushes_total %uA\n",
                        view->conf->shm->sh->flushes);

    ngx_http_hybrid_prom_head(out, "limits_without_redis_total", "counter",
                              "Limits decided while Redis was away, in this "
                              "gateway.");

    clients = view->conf->clients.elts;

    for (i = 0; i < view->conf->clients.nelts; i++) {
        ngx_http_hybrid_out(out,
            "ngx_hybrid_limits_without_redis_total{client=\"%V\"} %uA\n",
            &clients[i]->name, clients[i]->shared->local);
    }
}


static void
ngx_http_hybrid_prom_zone(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out)
{
    ngx_hybrid_shm_sh_t  *sh;

    sh = view->conf->shm->sh;

    ngx_http_hybrid_prom_head(out, "zone_size_bytes", "gauge",
                              "Size of hybrid_zone.");
    ngx_http_hybrid_out(out, "ngx_hybrid_zone_size_bytes %uL\n", sh->size);

    ngx_http_hybrid_prom_head(out, "zone_free_bytes", "gauge",
                              "Free pages of it.");
    ngx_http_hybrid_out(out, "ngx_hybrid_zone_free_bytes %uz\n",
                        view->conf->shm->shpool->pfree * ngx_pagesize);

    ngx_http_hybrid_prom_head(out, "zone_series", "gauge",
                              "Series of client, backend and model in it.");
    ngx_http_hybrid_out(out, "ngx_hybrid_zone_series %uA\n", sh->series.n);

    ngx_http_hybrid_prom_head(out, "zone_series_max", "gauge",
                              "Series that it has room for; the rest is "
                              "counted as \"other\".");
    ngx_http_hybrid_out(out, "ngx_hybrid_zone_series_max %ui\n",
                        sh->series.max);

    ngx_http_hybrid_prom_head(out, "zone_octaves", "gauge",
                              "Pieces of histograms in it.");
    ngx_http_hybrid_out(out, "ngx_hybrid_zone_octaves %uA\n",
                        sh->series.noctaves);

    ngx_http_hybrid_prom_head(out, "zone_octaves_max", "gauge",
                              "Pieces of histograms with which it takes new "
                              "series; the rest is for those there are.");
    ngx_http_hybrid_out(out, "ngx_hybrid_zone_octaves_max %ui\n",
                        sh->series.most);

    ngx_http_hybrid_prom_head(out, "zone_misplaced_total", "counter",
                              "Numbers that found no room, and are counted "
                              "as those of client, backend and model "
                              "\"other\".");
    ngx_http_hybrid_out(out, "ngx_hybrid_zone_misplaced_total %uA\n",
                        sh->series.misplaced);
}


static void
ngx_http_hybrid_prom_requests(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out)
{
    ngx_uint_t              i, n;
    ngx_http_hybrid_row_t  *row;

    ngx_http_hybrid_prom_head(out, "requests_total", "counter",
                              "Requests by outcome.");

    for (n = 0; n < view->rows.nelts; n++) {
        row = (ngx_http_hybrid_row_t *) view->rows.elts + n;

        for (i = 0; i < ngx_hybrid_outcome_n; i++) {

            if (row->sum->counts[i] == 0) {
                continue;
            }

            ngx_http_hybrid_out(out,
                "ngx_hybrid_requests_total{client=\"%V\",backend=\"%V\","
                "model=\"%V\",outcome=\"%V\",scope=\"%s\"} %uL\n",
                &row->client, &row->backend, &row->model,
                &ngx_http_hybrid_outcome_names[i],
                ngx_http_hybrid_view_scope(view), row->sum->counts[i]);
        }
    }
}


static void
ngx_http_hybrid_prom_fallbacks(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out)
{
    uint64_t                buckets[NGX_HYBRID_HISTOGRAM_BUCKETS];
    ngx_uint_t              i, n;
    ngx_http_hybrid_row_t  *row;

    ngx_http_hybrid_prom_head(out, "fallbacks_total", "counter",
                              "Requests that were not answered by their "
                              "first choice, by why.");

    for (n = 0; n < view->rows.nelts; n++) {
        row = (ngx_http_hybrid_row_t *) view->rows.elts + n;

        (void) ngx_http_hybrid_sum_table(row->sum, ngx_hybrid_table_fallbacks,
                                         buckets);

        for (i = 0; i < ngx_hybrid_passed_n; i++) {

            if (buckets[i] == 0) {
                continue;
            }

            ngx_http_hybrid_out(out,
                "ngx_hybrid_fallbacks_total{client=\"%V\",backend=\"%V\","
                "model=\"%V\",reason=\"%V\",scope=\"%s\"} %uL\n",
                &row->client, &row->backend, &row->model,
                &ngx_hybrid_passed_names[i], ngx_http_hybrid_view_scope(view),
                buckets[i]);
        }
    }
}


static void
ngx_http_hybrid_prom_tokens(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out)
{
    ngx_uint_t              i, n;
    ngx_http_hybrid_row_t  *row;

    static const char  *types[] = { "input", "output" };

    ngx_http_hybrid_prom_head(out, "token_usage_total", "counter",
                              "Tokens of prompts and of answers.");

    for (n = 0; n < view->rows.nelts; n++) {
        row = (ngx_http_hybrid_row_t *) view->rows.elts + n;

        for (i = 0; i < 2; i++) {

            if (row->sum->counts[NGX_HYBRID_COUNT_INPUT + i] == 0) {
                continue;
            }

            ngx_http_hybrid_out(out,
                "ngx_hybrid_token_usage_total{client=\"%V\",backend=\"%V\","
                "model=\"%V\",token_type=\"%s\",scope=\"%s\"} %uL\n",
                &row->client, &row->backend, &row->model, types[i],
                ngx_http_hybrid_view_scope(view),
                row->sum->counts[NGX_HYBRID_COUNT_INPUT + i]);
        }
    }
}


/* counts[count] of each series; "_seconds_total" are counted in milliseconds */

static void
ngx_http_hybrid_prom_counter(ngx_http_hybrid_view_t *view, ngx_uint_t count,
    const char *name, const char *help, ngx_http_hybrid_out_t *out)
{
    uint64_t                value;
    ngx_uint_t              n, seconds;
    ngx_http_hybrid_row_t  *row;

    seconds = (count != NGX_HYBRID_COUNT_RETRIES);

    ngx_http_hybrid_prom_head(out, name, "counter", help);

    for (n = 0; n < view->rows.nelts; n++) {
        row = (ngx_http_hybrid_row_t *) view->rows.elts + n;
        value = row->sum->counts[count];

        if (value == 0) {
            continue;
        }

        ngx_http_hybrid_out(out,
            "ngx_hybrid_%s{client=\"%V\",backend=\"%V\",model=\"%V\","
            "scope=\"%s\"} ", name, &row->client, &row->backend,
            &row->model, ngx_http_hybrid_view_scope(view));

        if (seconds) {
            ngx_http_hybrid_out(out, "%.3f\n", (double) value / 1000);

        } else {
            ngx_http_hybrid_out(out, "%uL\n", value);
        }
    }
}


static void
ngx_http_hybrid_prom_refusals(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out)
{
    uint64_t                buckets[NGX_HYBRID_HISTOGRAM_BUCKETS];
    ngx_str_t              *name;
    ngx_uint_t              i, n;
    ngx_array_t            *clients;
    ngx_http_hybrid_row_t  *row;

    clients = ngx_http_hybrid_prom_group(view,
                                         ngx_http_hybrid_prom_by_client);
    if (clients == NULL) {
        out->failed = 1;
        return;
    }

    ngx_http_hybrid_prom_head(out, "refusals_total", "counter",
                              "Requests that the gateway itself refused, by "
                              "X-Hybrid-Reason.");

    for (n = 0; n < clients->nelts; n++) {
        row = (ngx_http_hybrid_row_t *) clients->elts + n;

        (void) ngx_http_hybrid_sum_table(row->sum, ngx_hybrid_table_refusals,
                                         buckets);

        for (i = 0; (name = ngx_http_hybrid_reason_name(i)) != NULL; i++) {

            if (buckets[i] == 0) {
                continue;
            }

            ngx_http_hybrid_out(out,
                "ngx_hybrid_refusals_total{client=\"%V\",reason=\"%V\","
                "scope=\"%s\"} %uL\n", &row->client, name,
                ngx_http_hybrid_view_scope(view), buckets[i]);
        }
    }
}


/* zeros as well: of a series that begins, Prometheus misses the first one */

static void
ngx_http_hybrid_prom_cold(ngx_http_hybrid_view_t *view, ngx_array_t *models,
    ngx_http_hybrid_out_t *out)
{
    ngx_uint_t              n;
    ngx_http_hybrid_row_t  *row;

    ngx_http_hybrid_prom_head(out, "cold_starts_total", "counter",
                              "Answers that waited for a model to be "
                              "loaded.");

    for (n = 0; n < models->nelts; n++) {
        row = (ngx_http_hybrid_row_t *) models->elts + n;

        if (row->sum->counts[ngx_hybrid_outcome_ok] == 0) {
            continue;
        }

        ngx_http_hybrid_out(out,
            "ngx_hybrid_cold_starts_total{backend=\"%V\",model=\"%V\","
            "scope=\"%s\"} %uL\n", &row->backend, &row->model,
            ngx_http_hybrid_view_scope(view),
            row->sum->counts[NGX_HYBRID_COUNT_COLD]);
    }
}


ngx_array_t *
ngx_http_hybrid_prom_group(ngx_http_hybrid_view_t *view,
    int (*cmp)(const void *one, const void *two))
{
    ngx_uint_t               i, n;
    ngx_pool_t              *pool;
    ngx_array_t             *groups;
    ngx_http_hybrid_row_t   *row, *group, **rows;

    pool = view->request->pool;
    n = view->rows.nelts;
    row = view->rows.elts;

    rows = ngx_palloc(pool, (n + 1) * sizeof(ngx_http_hybrid_row_t *));
    groups = ngx_array_create(pool, 8, sizeof(ngx_http_hybrid_row_t));

    if (rows == NULL || groups == NULL) {
        return NULL;
    }

    for (i = 0; i < n; i++) {
        rows[i] = &row[i];
    }

    ngx_qsort(rows, n, sizeof(ngx_http_hybrid_row_t *), cmp);

    group = NULL;

    for (i = 0; i < n; i++) {

        if (i == 0 || cmp(&rows[i - 1], &rows[i]) != 0) {

            group = ngx_array_push(groups);
            if (group == NULL) {
                return NULL;
            }

            *group = *rows[i];

            group->sum = ngx_pcalloc(pool, sizeof(ngx_http_hybrid_sum_t));
            if (group->sum == NULL) {
                return NULL;
            }
        }

        if (ngx_http_hybrid_sum_add(pool, group->sum, rows[i]->sum)
            != NGX_OK)
        {
            return NULL;
        }
    }

    return groups;
}


static int ngx_libc_cdecl
ngx_http_hybrid_prom_by_model(const void *one, const void *two)
{
    ngx_int_t               rc;
    ngx_http_hybrid_row_t  *first, *second;

    first = *(ngx_http_hybrid_row_t **) one;
    second = *(ngx_http_hybrid_row_t **) two;

    rc = ngx_http_hybrid_prom_compare(&first->backend, &second->backend);

    if (rc == 0) {
        rc = ngx_http_hybrid_prom_compare(&first->model, &second->model);
    }

    return (int) rc;
}


int ngx_libc_cdecl
ngx_http_hybrid_prom_by_backend(const void *one, const void *two)
{
    ngx_http_hybrid_row_t  *first, *second;

    first = *(ngx_http_hybrid_row_t **) one;
    second = *(ngx_http_hybrid_row_t **) two;

    return (int) ngx_http_hybrid_prom_compare(&first->backend,
                                              &second->backend);
}


static int ngx_libc_cdecl
ngx_http_hybrid_prom_by_client(const void *one, const void *two)
{
    ngx_http_hybrid_row_t  *first, *second;

    first = *(ngx_http_hybrid_row_t **) one;
    second = *(ngx_http_hybrid_row_t **) two;

    return (int) ngx_http_hybrid_prom_compare(&first->client,
                                              &second->client);
}


static ngx_int_t
ngx_http_hybrid_prom_compare(ngx_str_t *one, ngx_str_t *two)
{
    return ngx_memn2cmp(one->data, two->data, one->len, two->len);
}
