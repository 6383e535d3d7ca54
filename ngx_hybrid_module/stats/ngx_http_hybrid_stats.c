
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * What happened to a request, added to its series when it ends.
 */


#include "ngx_http_hybrid_answer.h"


static ngx_hybrid_outcome_e ngx_http_hybrid_stats_outcome(
    ngx_http_request_t *r, ngx_http_hybrid_ctx_t *ctx);
static ngx_uint_t ngx_http_hybrid_stats_broken(ngx_http_request_t *r);
static void ngx_http_hybrid_stats_model(ngx_http_hybrid_ctx_t *ctx,
    ngx_hybrid_outcome_e outcome, ngx_str_t *model);
static ngx_uint_t ngx_http_hybrid_stats_known(ngx_http_hybrid_ctx_t *ctx);
static void ngx_http_hybrid_stats_times(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_hybrid_numbers_t *numbers);
static void ngx_http_hybrid_stats_time(ngx_hybrid_numbers_t *numbers,
    ngx_hybrid_timer_e timer, ngx_msec_t ms);


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

    ngx_http_hybrid_stats_model(ctx, outcome, &model);

    client = ctx->client ? &ctx->client->name : &none;
    backend = ctx->tries ? &ctx->candidates[ctx->current].backend->name
                         : &none;

    series = ngx_hybrid_shm_series(ctx->conf->shm, client, backend, &model);
    if (series == NULL) {
        return;
    }

    if (outcome == ngx_hybrid_outcome_ok && ctx->tries) {
        ngx_http_hybrid_stats_times(r, ctx, &series->now);
    }

    if (ctx->tries && (ctx->current || ctx->passed_over)) {
        (void) ngx_atomic_fetch_add(
                         &series->now.counts[NGX_HYBRID_COUNT_FALLBACKS], 1);
    }

    for (i = 0; ctx->shadow >> i; i++) {
        if (ctx->shadow & (1 << i)) {
            (void) ngx_atomic_fetch_add(
                     &series->now.counts[NGX_HYBRID_COUNT_SHADOWED + i], 1);
        }
    }

    /* last: it tells that there is something to flush */

    (void) ngx_atomic_fetch_add(&series->now.counts[outcome], 1);

    if (ngx_exiting) {
        ngx_http_hybrid_flush_last(ctx->conf);
    }
}


static ngx_hybrid_outcome_e
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


/* it stands in the configuration in full, and not only as "*" */

static ngx_uint_t
ngx_http_hybrid_stats_known(ngx_http_hybrid_ctx_t *ctx)
{
    ngx_uint_t                   i, j;
    ngx_hybrid_pattern_t        *models;
    ngx_http_hybrid_route_t    **routes;
    ngx_http_hybrid_rename_t    *renames;
    ngx_http_hybrid_backend_t  **backends;

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
ngx_http_hybrid_stats_times(ngx_http_request_t *r, ngx_http_hybrid_ctx_t *ctx,
    ngx_hybrid_numbers_t *numbers)
{
    ngx_http_upstream_t        *u;
    ngx_http_upstream_state_t  *state;

    ngx_http_hybrid_stats_time(numbers, ngx_hybrid_timer_total,
                               ngx_current_msec - ctx->start);

    u = r->upstream;

    if (u == NULL || u->state == NULL) {
        return;
    }

    state = u->state;

    /* from the request's arrival on, failed tries included */

    if (state->header_time != (ngx_msec_t) -1) {
        ngx_http_hybrid_stats_time(numbers, ngx_hybrid_timer_first_byte,
                           u->start_time + state->header_time - ctx->start);
    }

    if (state->connect_time != (ngx_msec_t) -1) {
        ngx_http_hybrid_stats_time(numbers, ngx_hybrid_timer_connect,
                                   state->connect_time);
    }
}


static void
ngx_http_hybrid_stats_time(ngx_hybrid_numbers_t *numbers,
    ngx_hybrid_timer_e timer, ngx_msec_t ms)
{
    uint64_t    us;
    ngx_uint_t  index;

    us = (uint64_t) ms * 1000;
    index = ngx_hybrid_histogram_index(us);

    (void) ngx_atomic_fetch_add(&numbers->sums[timer], us);
    (void) ngx_atomic_fetch_add(&numbers->buckets[timer][index], 1);
}
