
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Numbers as JSON.  All names are of the configuration, or checked names of
 * models, also those that are read from Redis: nothing needs an escape.
 */


#include "ngx_http_hybrid_stats.h"
#include "ngx_hybrid_libraries.h"


static void ngx_http_hybrid_json_gateway(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out);
static void ngx_http_hybrid_json_names(ngx_http_hybrid_out_t *out);
static void ngx_http_hybrid_json_list(ngx_http_hybrid_out_t *out,
    const char *name, ngx_str_t *names, ngx_uint_t n);
static void ngx_http_hybrid_json_row(ngx_http_hybrid_row_t *row,
    ngx_http_hybrid_out_t *out);
static void ngx_http_hybrid_json_reasons(ngx_http_hybrid_sum_t *sum,
    ngx_http_hybrid_out_t *out);
static void ngx_http_hybrid_json_timer(ngx_http_hybrid_sum_t *sum,
    ngx_uint_t timer, ngx_http_hybrid_out_t *out);


void
ngx_http_hybrid_view_json(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out)
{
    ngx_uint_t              i;
    ngx_http_hybrid_row_t  *rows;

    ngx_http_hybrid_json_gateway(view, out);
    ngx_http_hybrid_json_names(out);
    ngx_http_hybrid_json_anomalies(view, out);
    ngx_http_hybrid_json_clients(view, out);
    ngx_http_hybrid_json_backends(view, out);
    ngx_http_hybrid_json_docs(view, out);
    ngx_http_hybrid_json_auth(view, out);
    ngx_http_hybrid_json_shadow(view, out);

    ngx_http_hybrid_out(out, "\"series\":[");

    rows = view->rows.elts;

    for (i = 0; i < view->rows.nelts; i++) {
        ngx_http_hybrid_out(out, "%s", i ? ",\n" : "\n");
        ngx_http_hybrid_json_row(&rows[i], out);
    }

    ngx_http_hybrid_out(out, "]}\n");
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
    ngx_uint_t            n;
    ngx_time_t           *tp;
    const char           *name, *version;
    ngx_hybrid_shm_sh_t  *sh;

    sh = view->conf->shm->sh;
    tp = ngx_timeofday();

    ngx_http_hybrid_out(out, "{\"version\":\"%s\",\"nginx\":\"%s\","
                        "\"gateway\":\"%*s\",\"scope\":\"%s\","
                        "\"time\":%T.%03M,\n",
                        NGX_HYBRID_VERSION, NGINX_VERSION, sizeof(sh->id),
                        sh->id, ngx_http_hybrid_view_scope(view), tp->sec,
                        tp->msec);

    ngx_http_hybrid_out(out, "\"libraries\":{");

    for (n = 0; (name = ngx_hybrid_library(n, &version)) != NULL; n++) {
        ngx_http_hybrid_out(out, "%s\"%s\":\"%s\"", n ? "," : "", name,
                            version);
    }

    ngx_http_hybrid_out(out, "},\n");

    ngx_http_hybrid_out(out, "\"zone\":{\"size\":%uL,\"series\":%uA,"
                        "\"series_max\":%ui,\"octaves\":%uA,"
                        "\"octaves_max\":%ui,\"misplaced\":%uA,\"clients\":%uA,"
                        "\"clients_reused\":%uA,\"free\":%uz},\n",
                        sh->size, sh->series.n, sh->series.max,
                        sh->series.noctaves, sh->series.most,
                        sh->series.misplaced,
                        sh->clients.n, sh->clients.reused,
                        view->conf->shm->shpool->pfree * ngx_pagesize);

    ngx_http_hybrid_out(out, "\"redis\":{\"configured\":%s,\"available\":%s,"
                        "\"flushes\":%uA},\n",
                        view->conf->redis_conf ? "true" : "false",
                        ngx_http_hybrid_view_redis(view) ? "true" : "false",
                        sh->flushes);
}


/* for those who read histories, where they are numbers */

static void
ngx_http_hybrid_json_names(ngx_http_hybrid_out_t *out)
{
    ngx_uint_t   i;
    ngx_str_t   *name;

    ngx_http_hybrid_out(out, "\"names\":{");

    ngx_http_hybrid_json_list(out, "\"timers", ngx_http_hybrid_timer_names,
                              ngx_hybrid_timer_n);
    ngx_http_hybrid_json_list(out, ",\"fallbacks", ngx_hybrid_passed_names,
                              ngx_hybrid_passed_n);

    ngx_http_hybrid_out(out, ",\"counts\":[");

    for (i = 0; i < NGX_HYBRID_COUNTS; i++) {
        name = i < ngx_hybrid_outcome_n
               ? &ngx_http_hybrid_outcome_names[i]
               : &ngx_http_hybrid_count_names[i - ngx_hybrid_outcome_n];

        ngx_http_hybrid_out(out, "%s\"%V\"", i ? "," : "", name);
    }

    ngx_http_hybrid_out(out, "],\"refusals\":[");

    for (i = 0; (name = ngx_http_hybrid_reason_name(i)) != NULL; i++) {
        ngx_http_hybrid_out(out, "%s\"%V\"", i ? "," : "", name);
    }

    ngx_http_hybrid_out(out, "]},\n");
}


static void
ngx_http_hybrid_json_list(ngx_http_hybrid_out_t *out, const char *name,
    ngx_str_t *names, ngx_uint_t n)
{
    ngx_uint_t  i;

    ngx_http_hybrid_out(out, "%s\":[", name);

    for (i = 0; i < n; i++) {
        ngx_http_hybrid_out(out, "%s\"%V\"", i ? "," : "", &names[i]);
    }

    ngx_http_hybrid_out(out, "]");
}


static void
ngx_http_hybrid_json_row(ngx_http_hybrid_row_t *row,
    ngx_http_hybrid_out_t *out)
{
    ngx_uint_t              i;
    ngx_http_hybrid_sum_t  *sum;

    sum = row->sum;

    ngx_http_hybrid_out(out, "{\"client\":\"%V\",\"backend\":\"%V\","
                        "\"model\":\"%V\",\"requests\":{",
                        &row->client, &row->backend, &row->model);

    for (i = 0; i < ngx_hybrid_outcome_n; i++) {
        ngx_http_hybrid_out(out, "%s\"%V\":%uL", i ? "," : "",
                            &ngx_http_hybrid_outcome_names[i],
                            sum->counts[i]);
    }

    ngx_http_hybrid_out(out, "},\"fallbacks\":%uL,\"cold_starts\":%uL,"
                        "\"retries\":%uL,\"input_tokens\":%uL,"
                        "\"output_tokens\":%uL,\"body_milliseconds\":%uL,"
                        "\"failed_tries_milliseconds\":%uL,"
                        "\"first_token_wait_milliseconds\":%uL",
                        sum->counts[NGX_HYBRID_COUNT_FALLBACKS],
                        sum->counts[NGX_HYBRID_COUNT_COLD],
                        sum->counts[NGX_HYBRID_COUNT_RETRIES],
                        sum->counts[NGX_HYBRID_COUNT_INPUT],
                        sum->counts[NGX_HYBRID_COUNT_OUTPUT],
                        sum->counts[NGX_HYBRID_COUNT_BODY],
                        sum->counts[NGX_HYBRID_COUNT_FAILED],
                        sum->counts[NGX_HYBRID_COUNT_WAIT]);

    ngx_http_hybrid_json_reasons(sum, out);

    for (i = 0; i < ngx_hybrid_timer_n; i++) {
        ngx_http_hybrid_json_timer(sum, i, out);
    }

    ngx_http_hybrid_out(out, "}");
}


static void
ngx_http_hybrid_json_reasons(ngx_http_hybrid_sum_t *sum,
    ngx_http_hybrid_out_t *out)
{
    uint64_t     buckets[NGX_HYBRID_HISTOGRAM_BUCKETS];
    ngx_str_t   *name;
    ngx_uint_t   i, n;

    (void) ngx_http_hybrid_sum_table(sum, ngx_hybrid_table_refusals, buckets);

    ngx_http_hybrid_out(out, ",\"refused\":{");

    for (i = 0, n = 0; (name = ngx_http_hybrid_reason_name(i)) != NULL; i++) {
        if (buckets[i]) {
            ngx_http_hybrid_out(out, "%s\"%V\":%uL", n++ ? "," : "", name,
                                buckets[i]);
        }
    }

    (void) ngx_http_hybrid_sum_table(sum, ngx_hybrid_table_fallbacks,
                                     buckets);

    ngx_http_hybrid_out(out, "},\"fallback_reasons\":{");

    for (i = 0, n = 0; i < ngx_hybrid_passed_n; i++) {
        if (buckets[i]) {
            ngx_http_hybrid_out(out, "%s\"%V\":%uL", n++ ? "," : "",
                                &ngx_hybrid_passed_names[i], buckets[i]);
        }
    }

    ngx_http_hybrid_out(out, "}");
}


static void
ngx_http_hybrid_json_timer(ngx_http_hybrid_sum_t *sum, ngx_uint_t timer,
    ngx_http_hybrid_out_t *out)
{
    uint64_t  n, buckets[NGX_HYBRID_HISTOGRAM_BUCKETS];

    n = ngx_http_hybrid_sum_table(sum, timer, buckets);

    ngx_http_hybrid_out(out, ",\"%V_seconds\":{\"count\":%uL,"
                        "\"sum\":%.6f,\"p50\":%.6f,\"p95\":%.6f,"
                        "\"p99\":%.6f}",
                        &ngx_http_hybrid_timer_names[timer], n,
                        (double) sum->sums[timer] / 1e6,
                        ngx_hybrid_histogram_quantile(buckets, 0.5) / 1e6,
                        ngx_hybrid_histogram_quantile(buckets, 0.95) / 1e6,
                        ngx_hybrid_histogram_quantile(buckets, 0.99) / 1e6);
}
