
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * What happened to a request, added to its series when it ends.
 */


#include "ngx_http_hybrid_stats.h"
#include "ngx_http_hybrid_ledger.h"
#include "ngx_http_hybrid_anomaly.h"
#include "ngx_http_hybrid_catalogue.h"


static ngx_uint_t ngx_http_hybrid_stats_broken(ngx_http_request_t *r);
static void ngx_http_hybrid_stats_model(ngx_http_hybrid_ctx_t *ctx,
    ngx_hybrid_outcome_e outcome, ngx_str_t *model);
static ngx_uint_t ngx_http_hybrid_stats_known(ngx_http_hybrid_ctx_t *ctx);
static void ngx_http_hybrid_stats_reasons(ngx_http_hybrid_ctx_t *ctx,
    ngx_hybrid_series_t *series, ngx_hybrid_outcome_e outcome);
static void ngx_http_hybrid_stats_times(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_hybrid_series_t *series);
static void ngx_http_hybrid_stats_count(ngx_http_hybrid_ctx_t *ctx,
    ngx_hybrid_series_t *series, ngx_uint_t count, ngx_uint_t n);
static void ngx_http_hybrid_stats_table(ngx_http_hybrid_ctx_t *ctx,
    ngx_hybrid_series_t *series, ngx_uint_t table, ngx_uint_t bucket);
static void ngx_http_hybrid_stats_minute(ngx_http_hybrid_ctx_t *ctx,
    ngx_hybrid_series_t *series, ngx_uint_t table, ngx_uint_t bucket,
    ngx_uint_t n);


void
ngx_http_hybrid_stats_log(ngx_http_request_t *r, ngx_http_hybrid_ctx_t *ctx)
{
    ngx_str_t              model, *client, *backend;
    ngx_uint_t             i;
    ngx_hybrid_series_t   *series;
    ngx_hybrid_outcome_e   outcome;

    static ngx_str_t  none = ngx_string("-");

    if (ctx->endpoint == ngx_http_hybrid_endpoint_status()
        || ctx->endpoint == ngx_http_hybrid_endpoint_admin())
    {
        return;
    }

    outcome = ngx_http_hybrid_stats_outcome(r, ctx);

    ngx_http_hybrid_anomaly_outcome(ctx, outcome,
                                    r->err_status ? r->err_status
                                                  : r->headers_out.status);

    ngx_http_hybrid_stats_model(ctx, outcome, &model);

    client = ctx->client ? &ctx->client->name : &none;
    backend = ctx->tries ? &ctx->candidates[ctx->current].backend->name
                         : &none;

    series = ngx_hybrid_series_get(&ctx->conf->shm->sh->series, client,
                                   backend, &model);
    if (series == NULL) {
        return;
    }

    if (outcome == ngx_hybrid_outcome_ok && ctx->tries) {
        ngx_http_hybrid_stats_times(r, ctx, series);
    }

    if (ctx->tries) {
        ngx_http_hybrid_usage_end(ctx);

        ngx_http_hybrid_stats_count(ctx, series, NGX_HYBRID_COUNT_RETRIES,
                                    ctx->tries + ctx->spent.earlier - 1);
        ngx_http_hybrid_stats_count(ctx, series, NGX_HYBRID_COUNT_INPUT,
                                    ctx->usage.input);
        ngx_http_hybrid_stats_count(ctx, series, NGX_HYBRID_COUNT_OUTPUT,
                                    ctx->usage.output);
    }

    ngx_http_hybrid_stats_reasons(ctx, series, outcome);

    for (i = 0; ctx->shadow >> i; i++) {
        ngx_http_hybrid_stats_count(ctx, series, NGX_HYBRID_COUNT_SHADOWED + i,
                                    ctx->shadow >> i & 1);
    }

    /* last: what is read together with it is whole */

    ngx_http_hybrid_stats_count(ctx, series, outcome, 1);

    if (ngx_exiting) {
        ngx_http_hybrid_flush_last(ctx->conf);
    }
}


ngx_hybrid_outcome_e
ngx_http_hybrid_stats_outcome(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx)
{
    ngx_uint_t  status;

    status = r->err_status ? r->err_status : r->headers_out.status;

    if (status == NGX_HTTP_CLIENT_CLOSED_REQUEST || r->connection->error) {
        return ngx_hybrid_outcome_client_closed;
    }

    if (ctx->verdict == NGX_OK && ctx->tries) {

        if (!ngx_http_hybrid_answered(r, ctx)) {
            return ngx_hybrid_outcome_backend_error;
        }

        if (ctx->answer && ctx->answer->late_status) {

            /* which the client did not get as such, after a heartbeat */

            status = ctx->answer->late_status;

        } else if (ngx_http_hybrid_stats_broken(r)
                   || (ctx->answer && ctx->answer->broken))
        {
            return ngx_hybrid_outcome_broken;
        }

        if (status >= NGX_HTTP_OK && status < NGX_HTTP_SPECIAL_RESPONSE) {
            return ngx_hybrid_outcome_ok;
        }

        return status < NGX_HTTP_INTERNAL_SERVER_ERROR
               && status >= NGX_HTTP_BAD_REQUEST
               ? ngx_hybrid_outcome_client_error
               : ngx_hybrid_outcome_backend_error;
    }

    switch (status) {

    case NGX_HTTP_UNAUTHORIZED:
        return ngx_hybrid_outcome_unauthorized;

    case NGX_HTTP_TOO_MANY_REQUESTS:
        return ngx_hybrid_outcome_limited;
    }

    if (status >= NGX_HTTP_INTERNAL_SERVER_ERROR) {
        return ngx_hybrid_outcome_unavailable;
    }

    return status >= NGX_HTTP_BAD_REQUEST ? ngx_hybrid_outcome_denied
                                          : ngx_hybrid_outcome_ok;
}


/* the header of an answer was sent on, but not all of its body */

static ngx_uint_t
ngx_http_hybrid_stats_broken(ngx_http_request_t *r)
{
    off_t                 left;
    ngx_http_upstream_t  *u;

    u = r->upstream;

    if (u == NULL || !u->header_sent || r->header_only) {
        return 0;
    }

    if (u->buffering) {
        left = u->pipe->length;

    } else {
        left = u->length;
    }

    /* -1: the answer lasts until the backend closes */

    return left > 0 || (u->pipe && u->pipe->upstream_error);
}


/* labels stay bounded: a name that no backend knows is "other" */

static void
ngx_http_hybrid_stats_model(ngx_http_hybrid_ctx_t *ctx,
    ngx_hybrid_outcome_e outcome, ngx_str_t *model)
{
    if (ctx->model.brief.len == 0) {
        ngx_str_set(model, "-");

    } else if (outcome == ngx_hybrid_outcome_ok
               || ngx_http_hybrid_stats_known(ctx))
    {
        *model = ctx->model.brief;

    } else {
        ngx_str_set(model, "other");
    }
}


/*
 * It stands in the configuration in full, and not only as "*", or on the list
 * of the backend that was asked.
 */

static ngx_uint_t
ngx_http_hybrid_stats_known(ngx_http_hybrid_ctx_t *ctx)
{
    ngx_uint_t                   i, j;
    ngx_hybrid_pattern_t        *models;
    ngx_http_hybrid_route_t    **routes;
    ngx_http_hybrid_rename_t    *renames;
    ngx_http_hybrid_backend_t  **backends;
    ngx_http_hybrid_candidate_t *cand;

    if (ctx->tries) {
        cand = &ctx->candidates[ctx->current];

        if (cand->backend->catalogue
            && ngx_http_hybrid_catalogue_has(cand->backend,
                           cand->rename ? &cand->rename->model : &ctx->model)
               == ngx_http_hybrid_has_it)
        {
            return 1;
        }
    }

    routes = ctx->conf->routes.elts;

    for (i = 0; i < ctx->conf->routes.nelts && routes[i]->pattern.exact; i++) {
        if (ngx_hybrid_pattern_match(&routes[i]->pattern, &ctx->model)) {
            return 1;
        }
    }

    backends = ctx->conf->backends.elts;

    for (i = 0; i < ctx->conf->backends.nelts; i++) {
        models = backends[i]->models.elts;

        for (j = 0; j < backends[i]->models.nelts; j++) {
            if (models[j].exact
                && ngx_hybrid_pattern_match(&models[j], &ctx->model))
            {
                return 1;
            }
        }

        renames = backends[i]->renames.elts;

        for (j = 0; j < backends[i]->renames.nelts; j++) {
            if (renames[j].pattern.exact
                && ngx_hybrid_pattern_match(&renames[j].pattern, &ctx->model))
            {
                return 1;
            }
        }
    }

    return 0;
}


static void
ngx_http_hybrid_stats_reasons(ngx_http_hybrid_ctx_t *ctx,
    ngx_hybrid_series_t *series, ngx_hybrid_outcome_e outcome)
{
    if (ctx->tries && (ctx->current || ctx->passed_over)) {
        ngx_http_hybrid_stats_count(ctx, series, NGX_HYBRID_COUNT_FALLBACKS,
                                    1);

        if (ctx->fallback.len) {
            ngx_http_hybrid_stats_table(ctx, series,
                                        ngx_hybrid_table_fallbacks,
                                 ngx_hybrid_passed_number(&ctx->fallback));
        }
    }

    if (outcome >= ngx_hybrid_outcome_unauthorized) {
        ngx_http_hybrid_stats_table(ctx, series, ngx_hybrid_table_refusals,
                              ngx_http_hybrid_reason_number(&ctx->reason));
    }
}


static void
ngx_http_hybrid_stats_times(ngx_http_request_t *r, ngx_http_hybrid_ctx_t *ctx,
    ngx_hybrid_series_t *series)
{
    ngx_uint_t                i;
    ngx_http_hybrid_ledger_t  ledger;

    ngx_http_hybrid_ledger(r, ctx, &ledger);

    for (i = 0; i < ngx_hybrid_timer_n; i++) {
        if (ledger.known & (1 << i)) {
            ngx_hybrid_series_time(&ctx->conf->shm->sh->series, series, i,
                                   ledger.us[i]);
            ngx_http_hybrid_stats_minute(ctx, series, i,
                                ngx_hybrid_histogram_index(ledger.us[i]), 1);
        }
    }

    ngx_http_hybrid_stats_count(ctx, series, NGX_HYBRID_COUNT_COLD,
                                ledger.cold);
    ngx_http_hybrid_stats_count(ctx, series, NGX_HYBRID_COUNT_BODY,
                                ledger.body);
    ngx_http_hybrid_stats_count(ctx, series, NGX_HYBRID_COUNT_FAILED,
                                ledger.failed);
    ngx_http_hybrid_stats_count(ctx, series, NGX_HYBRID_COUNT_WAIT,
                                ledger.wait);

    if (ledger.cold) {
        ngx_http_hybrid_anomaly_cold(ctx);
    }
}


static void
ngx_http_hybrid_stats_count(ngx_http_hybrid_ctx_t *ctx,
    ngx_hybrid_series_t *series, ngx_uint_t count, ngx_uint_t n)
{
    if (n) {
        ngx_http_hybrid_stats_minute(ctx, series, NGX_HYBRID_HISTORY_COUNTS,
                                     count, n);
        (void) ngx_atomic_fetch_add(&series->now.counts[count], n);
    }
}


static void
ngx_http_hybrid_stats_table(ngx_http_hybrid_ctx_t *ctx,
    ngx_hybrid_series_t *series, ngx_uint_t table, ngx_uint_t bucket)
{
    ngx_hybrid_series_count(&ctx->conf->shm->sh->series, series, table,
                            bucket);
    ngx_http_hybrid_stats_minute(ctx, series, table, bucket, 1);
}


static void
ngx_http_hybrid_stats_minute(ngx_http_hybrid_ctx_t *ctx,
    ngx_hybrid_series_t *series, ngx_uint_t table, ngx_uint_t bucket,
    ngx_uint_t n)
{
    ngx_hybrid_shm_sh_t  *sh;

    sh = ctx->conf->shm->sh;

    ngx_hybrid_history_add(sh->history, series - sh->series.elts, table,
                           bucket, n);
}
