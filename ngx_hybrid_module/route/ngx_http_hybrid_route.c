
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * From a model's name to the candidates that may be asked for it, in order.
 */


#include "ngx_http_hybrid_choice.h"
#include "ngx_http_hybrid_catalogue.h"
#include "ngx_http_hybrid_explain.h"


/* seconds, after which a list of models may be another one */
#define NGX_HTTP_HYBRID_ROUTE_RETRY  5


static ngx_int_t ngx_http_hybrid_route_any(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx);
static const char *ngx_http_hybrid_route_add(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_backend_t *backend, ngx_http_hybrid_seek_t *seek);
static ngx_int_t ngx_http_hybrid_route_note(ngx_http_hybrid_backend_t *backend,
    ngx_http_hybrid_seek_t *seek, const char *why);
static ngx_hybrid_model_t *ngx_http_hybrid_route_reference(
    ngx_http_hybrid_ctx_t *ctx, ngx_http_hybrid_route_t *route);
static ngx_uint_t ngx_http_hybrid_route_is(ngx_http_hybrid_ctx_t *ctx,
    const char *path);
static ngx_int_t ngx_http_hybrid_route_nobody(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_http_hybrid_route_t *route,
    ngx_http_hybrid_seek_t *seek);
static ngx_int_t ngx_http_hybrid_route_not_found(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx);
static ngx_uint_t ngx_http_hybrid_route_speaks(
    ngx_http_hybrid_backend_t *backend, ngx_http_hybrid_ctx_t *ctx);
static ngx_int_t ngx_http_hybrid_route_done(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx);


ngx_int_t
ngx_http_hybrid_route_find(ngx_http_request_t *r, ngx_http_hybrid_ctx_t *ctx)
{
    ngx_int_t                 rc;
    ngx_http_hybrid_seek_t    seek;
    ngx_http_hybrid_route_t  *route;

    if (ctx->endpoint->model == ngx_http_hybrid_model_none
        || ctx->endpoint->model == ngx_http_hybrid_model_version)
    {
        return ngx_http_hybrid_route_any(r, ctx);
    }

    route = ngx_http_hybrid_route_match(ctx);

    ngx_memzero(&seek, sizeof(ngx_http_hybrid_seek_t));

    rc = ngx_http_hybrid_route_collect(r, ctx, route, &seek);

    return rc == NGX_OK ? ngx_http_hybrid_route_done(r, ctx) : rc;
}


ngx_http_hybrid_route_t *
ngx_http_hybrid_route_match(ngx_http_hybrid_ctx_t *ctx)
{
    ngx_uint_t                 i;
    ngx_http_hybrid_route_t  **routes;

    routes = ctx->conf->routes.elts;

    /* the most specific comes first */

    for (i = 0; i < ctx->conf->routes.nelts; i++) {
        if (ngx_hybrid_pattern_match(&routes[i]->pattern, &ctx->model)) {
            return routes[i];
        }
    }

    return NULL;
}


ngx_int_t
ngx_http_hybrid_route_collect(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_http_hybrid_route_t *route,
    ngx_http_hybrid_seek_t *seek)
{
    const char                   *why;
    ngx_uint_t                    g, i, first, n;
    ngx_http_hybrid_group_t      *group;
    ngx_http_hybrid_backend_t    *backend;
    ngx_http_hybrid_candidate_t  *cand;

    if (route == NULL) {
        ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                      "no hybrid_route for model \"%V\"", &ctx->model.brief);

        return ngx_http_hybrid_route_not_found(r, ctx);
    }

    cand = ngx_pcalloc(r->pool,
                       route->max * sizeof(ngx_http_hybrid_candidate_t));
    if (cand == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ctx->candidates = cand;
    group = route->groups.elts;

    if (ngx_http_hybrid_route_embeds(ctx)) {
        seek->model = ngx_http_hybrid_route_reference(ctx, route);
    }

    /* what is to be there afterwards */

    seek->makes = ngx_http_hybrid_route_is(ctx, "/api/pull")
                  || ngx_http_hybrid_route_is(ctx, "/api/create");

    for (g = 0; g < route->groups.nelts; g++) {

        n = ctx->ncandidates;
        first = 0;

        if (group[g].n > 1) {
            first = seek->notes ? route->turn : route->turn++;
        }

        seek->group = g;
        seek->discovered = group[g].discovered;

        for (i = 0; i < group[g].n; i++) {
            backend = group[g].backends[(first + i) % group[g].n];
            why = ngx_http_hybrid_route_add(ctx, backend, seek);

            if (seek->notes
                && ngx_http_hybrid_route_note(backend, seek, why) != NGX_OK)
            {
                return NGX_HTTP_INTERNAL_SERVER_ERROR;
            }
        }

        if (ctx->ncandidates - n > 1) {
            ngx_http_hybrid_choice_order(ctx, &cand[n], ctx->ncandidates - n);
        }

        if (n == 0 && g > 0 && ctx->ncandidates && seek->missing) {

            /* not the first choice, and the client is to see that */

            ctx->passed_over = 1;
            ngx_str_set(&ctx->fallback, "no_model");
        }
    }

    if (ctx->ncandidates) {
        return NGX_OK;
    }

    ctx->candidates = NULL;

    return ngx_http_hybrid_route_nobody(r, ctx, route, seek);
}


static ngx_int_t
ngx_http_hybrid_route_note(ngx_http_hybrid_backend_t *backend,
    ngx_http_hybrid_seek_t *seek, const char *why)
{
    ngx_http_hybrid_note_t  *note;

    note = ngx_array_push(seek->notes);
    if (note == NULL) {
        return NGX_ERROR;
    }

    note->backend = backend;
    note->group = seek->group;
    note->why = why;

    return NGX_OK;
}


/* NULL, or why it is no candidate, which only an explanation asks for */

static const char *
ngx_http_hybrid_route_add(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_backend_t *backend, ngx_http_hybrid_seek_t *seek)
{
    ngx_str_t                     name;
    ngx_uint_t                    i;
    ngx_hybrid_model_t           *model;
    ngx_http_hybrid_has_e         has;
    ngx_http_hybrid_rename_t     *rename;
    ngx_http_hybrid_candidate_t  *cand;

    static ngx_str_t  no_model = ngx_string("no_model");

    if (!ngx_http_hybrid_route_speaks(backend, ctx)) {
        return "api";
    }

    if (!ngx_http_hybrid_backend_has(backend, &ctx->model, &rename)
        || (ctx->google
            && ngx_http_hybrid_google_target(ctx->google, backend, rename,
                                             &name)
               != NGX_OK))
    {
        return "models";
    }

    for (i = 0; i < ctx->ncandidates; i++) {
        if (ctx->candidates[i].backend == backend) {
            return "duplicate";
        }
    }

    model = rename ? &rename->model : &ctx->model;

    if (seek->model
        && (seek->model->name.len != model->name.len
            || ngx_memcmp(seek->model->name.data, model->name.data,
                          model->name.len)
               != 0))
    {
        seek->other = 1;
        return "embedding_model";
    }

    has = seek->makes ? ngx_http_hybrid_has_it
                      : ngx_http_hybrid_catalogue_has(backend, model);

    /* what is made or deleted is on the list only after a while */

    if ((has == ngx_http_hybrid_has_unknown
         || ctx->endpoint->verb == NGX_HTTP_HYBRID_VERB_ADMIN)
        && !seek->discovered && !backend->discover)
    {
        has = ngx_http_hybrid_has_it;
    }

    if (has != ngx_http_hybrid_has_it) {
        seek->missing = 1;

        if (has != ngx_http_hybrid_has_not) {
            seek->known = 1;
        }

        if (!seek->discovered && seek->notes == NULL) {
            ngx_hybrid_health_passed(backend->health, &no_model);
        }

        return "no_model";
    }

    cand = &ctx->candidates[ctx->ncandidates];

    cand->backend = backend;
    cand->rename = rename;
    cand->group = seek->group;

    if (!ngx_http_hybrid_route_open(ctx, cand)) {
        seek->denied = 1;
        return "egress";
    }

    ctx->ncandidates++;

    return NULL;
}


/* may this client's prompt be sent there; asked again before each try */

ngx_uint_t
ngx_http_hybrid_route_open(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_candidate_t *cand)
{
    if (!ngx_http_hybrid_policy_egress(ctx, cand->backend)) {
        return 0;
    }

    if (ctx->model.brief.len == 0
        || !ngx_http_hybrid_catalogue_remote(cand->backend,
                                             cand->rename
                                             ? &cand->rename->model
                                             : &ctx->model))
    {
        return 1;
    }

    return !ctx->local
           && (ctx->client->egress & NGX_HTTP_HYBRID_EGRESS_CLOUD);
}


/*
 * An index of two models' vectors is silently wrong.  What the route's first
 * backend calls the model is what is meant, by whatever API and whoever
 * answers.
 */

static ngx_hybrid_model_t *
ngx_http_hybrid_route_reference(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_route_t *route)
{
    ngx_uint_t                 g, i;
    ngx_http_hybrid_group_t   *group;
    ngx_http_hybrid_rename_t  *rename;

    group = route->groups.elts;

    for (g = 0; g < route->groups.nelts; g++) {
        for (i = 0; i < group[g].n; i++) {
            if (ngx_http_hybrid_backend_has(group[g].backends[i], &ctx->model,
                                            &rename))
            {
                return rename ? &rename->model : &ctx->model;
            }
        }
    }

    return &ctx->model;
}


ngx_uint_t
ngx_http_hybrid_route_embeds(ngx_http_hybrid_ctx_t *ctx)
{
    ngx_uint_t  i;

    /* what ":predict" does depends on the model */

    static ngx_str_t  actions[] = {
        ngx_string(":embedContent"),
        ngx_string(":batchEmbedContents"),
        ngx_string(":predict")
    };

    for (i = 0; ctx->google && i < 3; i++) {
        if (ctx->google->action.len == actions[i].len
            && ngx_memcmp(ctx->google->action.data, actions[i].data,
                          actions[i].len)
               == 0)
        {
            return 1;
        }
    }

    return ngx_http_hybrid_route_is(ctx, "/api/embed")
           || ngx_http_hybrid_route_is(ctx, "/api/embeddings")
           || ngx_http_hybrid_route_is(ctx, "/v1/embeddings");
}


static ngx_uint_t
ngx_http_hybrid_route_is(ngx_http_hybrid_ctx_t *ctx, const char *path)
{
    size_t  len;

    len = ngx_strlen(path);

    return ctx->path.len == len && ngx_memcmp(ctx->path.data, path, len) == 0;
}


static ngx_int_t
ngx_http_hybrid_route_nobody(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_http_hybrid_route_t *route,
    ngx_http_hybrid_seek_t *seek)
{
    ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                  "no backend of hybrid_route \"%V\" %s model \"%V\"",
                  &route->pattern.text,
                  seek->denied ? "that is open to this client has" : "has",
                  &ctx->model.brief);

    if (seek->known) {
        ctx->retry_after = NGX_HTTP_HYBRID_ROUTE_RETRY;

        return ngx_http_hybrid_refuse(ctx, NGX_HTTP_SERVICE_UNAVAILABLE,
                                      "model_unavailable",
                                      "no backend has this model now");
    }

    if (seek->denied) {
        return ngx_http_hybrid_refuse(ctx, NGX_HTTP_FORBIDDEN, "egress",
                                      "this client's requests may not be "
                                      "sent to where this model is");
    }

    if (seek->other) {
        return ngx_http_hybrid_refuse(ctx, NGX_HTTP_SERVICE_UNAVAILABLE,
                                      "embedding_model",
                                      "embeddings are not made by another "
                                      "model than usual");
    }

    return ngx_http_hybrid_route_not_found(r, ctx);
}


/* no model is asked for: any backend that speaks the dialect can answer */

static ngx_int_t
ngx_http_hybrid_route_any(ngx_http_request_t *r, ngx_http_hybrid_ctx_t *ctx)
{
    ngx_uint_t                    i;
    ngx_http_hybrid_backend_t   **backends;
    ngx_http_hybrid_candidate_t  *cand;

    cand = ngx_pcalloc(r->pool, (ctx->conf->backends.nelts + 1)
                                * sizeof(ngx_http_hybrid_candidate_t));
    if (cand == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ctx->candidates = cand;
    backends = ctx->conf->backends.elts;

    for (i = 0; i < ctx->conf->backends.nelts; i++) {

        if (backends[i]->api == ngx_http_hybrid_api_ollama
            && ngx_http_hybrid_policy_egress(ctx, backends[i]))
        {
            cand[ctx->ncandidates++].backend = backends[i];
        }
    }

    if (ctx->ncandidates == 0) {
        ctx->candidates = NULL;
        return ngx_http_hybrid_refuse(ctx, NGX_HTTP_FORBIDDEN, "egress",
                                      "no backend is open to this client");
    }

    return ngx_http_hybrid_route_done(r, ctx);
}


static ngx_int_t
ngx_http_hybrid_route_done(ngx_http_request_t *r, ngx_http_hybrid_ctx_t *ctx)
{
    /* what changes a machine is not done again on another one */

    if (ctx->endpoint->verb == NGX_HTTP_HYBRID_VERB_ADMIN) {
        ctx->ncandidates = 1;
    }

    ngx_http_hybrid_request_wrap(r, ctx);

    return NGX_OK;
}


static ngx_int_t
ngx_http_hybrid_route_not_found(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx)
{
    u_char     *p;
    ngx_int_t   rc;

    rc = ngx_http_hybrid_refuse(ctx, NGX_HTTP_NOT_FOUND, "model_not_found",
                                "model not found");

    /* Ollama's own words, which clients know */

    p = ngx_pnalloc(r->pool, ctx->model.brief.len
                             + sizeof("model '' not found"));
    if (p) {
        ctx->message.data = p;
        ctx->message.len = ngx_sprintf(p, "model '%V' not found",
                                       &ctx->model.brief) - p;
    }

    return rc;
}


ngx_uint_t
ngx_http_hybrid_backend_has(ngx_http_hybrid_backend_t *backend,
    ngx_hybrid_model_t *model, ngx_http_hybrid_rename_t **rename)
{
    ngx_uint_t                 i;
    ngx_hybrid_pattern_t      *patterns;
    ngx_http_hybrid_rename_t  *renames;

    *rename = NULL;
    renames = backend->renames.elts;

    for (i = 0; i < backend->renames.nelts; i++) {
        if (ngx_hybrid_pattern_match(&renames[i].pattern, model)) {
            *rename = &renames[i];
            return 1;
        }
    }

    if (backend->any_model) {
        return 1;
    }

    patterns = backend->models.elts;

    for (i = 0; i < backend->models.nelts; i++) {
        if (ngx_hybrid_pattern_match(&patterns[i], model)) {
            return 1;
        }
    }

    return 0;
}


static ngx_uint_t
ngx_http_hybrid_route_speaks(ngx_http_hybrid_backend_t *backend,
    ngx_http_hybrid_ctx_t *ctx)
{
    if (ctx->google) {
        return ngx_http_hybrid_google_speaks(backend, ctx->google);
    }

    return backend->api == ngx_http_hybrid_api_ollama
           || (ctx->path.len > 4
               && ngx_memcmp(ctx->path.data, "/v1/", 4) == 0);
}


ngx_uint_t
ngx_http_hybrid_route_has(ngx_http_hybrid_route_t *route,
    ngx_http_hybrid_backend_t *backend)
{
    ngx_uint_t                g, i;
    ngx_http_hybrid_group_t  *groups;

    groups = route->groups.elts;

    for (g = 0; g < route->groups.nelts; g++) {
        for (i = 0; i < groups[g].n; i++) {
            if (groups[g].backends[i] == backend) {
                return 1;
            }
        }
    }

    return 0;
}
