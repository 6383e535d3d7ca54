
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Histograms in Prometheus's text format, with bounds that it has to be told.
 *
 * A bucket of ours is in one of its whole: that which the middle of it is in.
 * So a value counts as one that is at most 1/32 off, as for quantiles, and no
 * bound need be one of ours.
 */


#include "ngx_http_hybrid_stats.h"


#define NGX_HTTP_HYBRID_VIEW_LABELS      512

/* of a timer */
#define NGX_HTTP_HYBRID_VIEW_HISTOGRAMS  300


typedef struct {
    uint64_t                   us;
    ngx_str_t                  le;
} ngx_http_hybrid_bound_t;


typedef struct {
    ngx_http_hybrid_bound_t   *bounds;
    ngx_uint_t                 clients;  /* each for itself */
    const char                *help;
} ngx_http_hybrid_prom_timer_t;


/* a bound in seconds, as Prometheus is told it */

#define le(s)  { (uint64_t) ((s) * 1e6 + 0.5), ngx_string(#s) }


static void ngx_http_hybrid_prom_histogram(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_row_t *row, ngx_uint_t timer, ngx_http_hybrid_out_t *out);
static ngx_uint_t ngx_http_hybrid_prom_timed(ngx_array_t *rows);
static void ngx_http_hybrid_prom_bucket(ngx_http_hybrid_out_t *out,
    ngx_str_t *name, ngx_str_t *labels, ngx_str_t *le, uint64_t n);
static uint64_t ngx_http_hybrid_prom_middle(ngx_uint_t bucket);


/* gen_ai.server.request.duration, and twice more: a model may be loaded */

static ngx_http_hybrid_bound_t  ngx_http_hybrid_bounds_total[] = {
    le(0.01), le(0.02), le(0.04), le(0.08), le(0.16),
    le(0.32), le(0.64), le(1.28), le(2.56), le(5.12),
    le(10.24), le(20.48), le(40.96), le(81.92), le(163.84),
    le(327.68),
    { 0, ngx_null_string }
};


/* gen_ai.server.time_to_first_token, and longer ones */

static ngx_http_hybrid_bound_t  ngx_http_hybrid_bounds_first[] = {
    le(0.001), le(0.005), le(0.01), le(0.02), le(0.04),
    le(0.06), le(0.08), le(0.1), le(0.25), le(0.5),
    le(0.75), le(1), le(2.5), le(5), le(7.5), le(10),
    le(30), le(60), le(120), le(300),
    { 0, ngx_null_string }
};


/* gen_ai.server.time_per_output_token */

static ngx_http_hybrid_bound_t  ngx_http_hybrid_bounds_token[] = {
    le(0.01), le(0.025), le(0.05), le(0.075), le(0.1),
    le(0.15), le(0.2), le(0.3), le(0.4), le(0.5), le(0.75),
    le(1), le(2.5),
    { 0, ngx_null_string }
};


/* a tunnel's way there and back, up to a connect that was lost and repeated */

static ngx_http_hybrid_bound_t  ngx_http_hybrid_bounds_connect[] = {
    le(0.0005), le(0.001), le(0.0025), le(0.005), le(0.01),
    le(0.025), le(0.05), le(0.1), le(0.25), le(0.5), le(1),
    le(2.5), le(5),
    { 0, ngx_null_string }
};


/* what a machine does before it answers, and what one waits for */

static ngx_http_hybrid_bound_t  ngx_http_hybrid_bounds_wait[] = {
    le(0.01), le(0.025), le(0.05), le(0.1), le(0.25),
    le(0.5), le(1), le(2.5), le(5), le(10), le(30), le(60),
    le(120), le(300),
    { 0, ngx_null_string }
};


static ngx_http_hybrid_prom_timer_t  ngx_http_hybrid_prom_shapes[] = {

    { ngx_http_hybrid_bounds_total, 1,
      "Answered requests, from their headers to the end." },
    { ngx_http_hybrid_bounds_wait, 1,
      "To the header of the answer, failed tries included." },
    { ngx_http_hybrid_bounds_connect, 0,
      "To connect to the backend, 0 on a connection that was kept." },
    { ngx_http_hybrid_bounds_wait, 0,
      "Waiting for limits and for a slot of the backend." },
    { ngx_http_hybrid_bounds_wait, 0,
      "Loading the model, by the backend's clock." },
    { ngx_http_hybrid_bounds_wait, 0,
      "Evaluating the prompt, by the backend's clock." },
    { ngx_http_hybrid_bounds_first, 1,
      "To the first token of a streamed answer." },
    { ngx_http_hybrid_bounds_token, 0,
      "For each token of an answer behind the first one." }
};


/*
 * Many histograms would be megabytes that a worker writes at once.  So those
 * of clients are added up when there are too many, and those of models, too:
 * at once for all, as then no counter goes back, but others begin.
 */

ngx_int_t
ngx_http_hybrid_prom_timers(ngx_http_hybrid_view_t *view, ngx_array_t *models,
    ngx_http_hybrid_out_t *out)
{
    ngx_uint_t                     n, t;
    ngx_array_t                   *each, *all, *rows;
    ngx_http_hybrid_row_t         *row;
    ngx_http_hybrid_prom_timer_t  *shape;

    all = models;
    each = &view->rows;

    if (ngx_http_hybrid_prom_timed(all) > NGX_HTTP_HYBRID_VIEW_HISTOGRAMS) {

        all = ngx_http_hybrid_prom_group(view,
                                         ngx_http_hybrid_prom_by_backend);
        if (all == NULL) {
            return NGX_ERROR;
        }

        row = all->elts;

        for (n = 0; n < all->nelts; n++) {
            ngx_str_set(&row[n].model, "*");
        }
    }

    if (ngx_http_hybrid_prom_timed(each) > NGX_HTTP_HYBRID_VIEW_HISTOGRAMS) {
        each = all;
        row = all->elts;

        for (n = 0; n < all->nelts; n++) {
            ngx_str_set(&row[n].client, "*");
        }
    }

    for (t = 0; t < ngx_hybrid_timer_n; t++) {

        shape = &ngx_http_hybrid_prom_shapes[t];

        ngx_http_hybrid_out(out,
            "# HELP ngx_hybrid_%V_seconds %s\n"
            "# TYPE ngx_hybrid_%V_seconds histogram\n",
            &ngx_http_hybrid_timer_names[t], shape->help,
            &ngx_http_hybrid_timer_names[t]);

        rows = shape->clients ? each : all;
        row = rows->elts;

        for (n = 0; n < rows->nelts; n++) {
            ngx_http_hybrid_prom_histogram(view, &row[n], t, out);
        }
    }

    return NGX_OK;
}


static ngx_uint_t
ngx_http_hybrid_prom_timed(ngx_array_t *rows)
{
    ngx_uint_t              i, n;
    ngx_http_hybrid_row_t  *row;

    row = rows->elts;

    for (i = 0, n = 0; i < rows->nelts; i++) {
        n += row[i].sum->counts[ngx_hybrid_outcome_ok] != 0;
    }

    return n;
}


static void
ngx_http_hybrid_prom_histogram(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_row_t *row, ngx_uint_t timer, ngx_http_hybrid_out_t *out)
{
    u_char                         labels[NGX_HTTP_HYBRID_VIEW_LABELS];
    u_char                        *p, *end;
    uint64_t                       n, seen;
    uint64_t                       buckets[NGX_HYBRID_HISTOGRAM_BUCKETS];
    ngx_str_t                      text, *name;
    ngx_uint_t                     i;
    ngx_http_hybrid_bound_t       *bound;
    ngx_http_hybrid_prom_timer_t  *shape;

    n = ngx_http_hybrid_sum_table(row->sum, timer, buckets);

    if (n == 0) {
        return;
    }

    name = &ngx_http_hybrid_timer_names[timer];
    shape = &ngx_http_hybrid_prom_shapes[timer];
    p = labels;
    end = labels + sizeof(labels);

    if (shape->clients) {
        p = ngx_slprintf(p, end, "client=\"%V\",", &row->client);
    }

    p = ngx_slprintf(p, end, "backend=\"%V\",model=\"%V\",scope=\"%s\"",
                     &row->backend, &row->model,
                     ngx_http_hybrid_view_scope(view));
    text.data = labels;
    text.len = p - labels;

    seen = 0;
    i = 0;

    for (bound = shape->bounds; bound->us; bound++) {

        while (i < NGX_HYBRID_HISTOGRAM_BUCKETS
               && ngx_http_hybrid_prom_middle(i) <= bound->us)
        {
            seen += buckets[i++];
        }

        ngx_http_hybrid_prom_bucket(out, name, &text, &bound->le, seen);
    }

    ngx_http_hybrid_out(out,
        "ngx_hybrid_%V_seconds_bucket{%V,le=\"+Inf\"} %uL\n"
        "ngx_hybrid_%V_seconds_sum{%V} %.6f\n"
        "ngx_hybrid_%V_seconds_count{%V} %uL\n",
        name, &text, n, name, &text,
        (double) row->sum->sums[timer] / 1e6, name, &text, n);
}


/* most of all lines are these: no format is parsed for them */

static void
ngx_http_hybrid_prom_bucket(ngx_http_hybrid_out_t *out, ngx_str_t *name,
    ngx_str_t *labels, ngx_str_t *le, uint64_t n)
{
    size_t   size;
    u_char  *p, *end;

    size = name->len + labels->len + le->len + NGX_INT64_LEN
           + sizeof("ngx_hybrid__seconds_bucket{,le=\"\"} \n");

    p = ngx_http_hybrid_out_room(out, size, &end);
    if (p == NULL) {
        return;
    }

    p = ngx_cpymem(p, "ngx_hybrid_", sizeof("ngx_hybrid_") - 1);
    p = ngx_cpymem(p, name->data, name->len);
    p = ngx_cpymem(p, "_seconds_bucket{", sizeof("_seconds_bucket{") - 1);
    p = ngx_cpymem(p, labels->data, labels->len);
    p = ngx_cpymem(p, ",le=\"", sizeof(",le=\"") - 1);
    p = ngx_cpymem(p, le->data, le->len);
    p = ngx_cpymem(p, "\"} ", sizeof("\"} ") - 1);
    p = ngx_slprintf(p, end, "%uL", n);
    *p++ = LF;

    ngx_http_hybrid_out_end(out, p);
}


static uint64_t
ngx_http_hybrid_prom_middle(ngx_uint_t bucket)
{
    uint64_t  lower;

    lower = ngx_hybrid_histogram_lower(bucket);

    return lower + (ngx_hybrid_histogram_lower(bucket + 1) - lower) / 2;
}
