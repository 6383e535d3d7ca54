
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Slots: who may have one of a candidate, and for how long he had it.
 */


#include "ngx_http_hybrid_choice.h"
#include "ngx_http_hybrid_catalogue.h"
#include "ngx_http_hybrid_queue.h"


static const char *ngx_http_hybrid_choice_let(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_candidate_t *cand);
static const char *ngx_http_hybrid_choice_barred(
    ngx_http_hybrid_backend_t *backend, ngx_msec_t *left);


const char *
ngx_http_hybrid_choice_take(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_candidate_t *cand, ngx_uint_t last)
{
    const char  *why;

    if (cand->slot) {
        return NULL;
    }

    why = ngx_http_hybrid_choice_shut(ctx, cand, last);

    if (why) {
        return why;
    }

    if (!ngx_hybrid_health_take(cand->backend->health, cand->backend->slots))
    {
        return "busy";
    }

    cand->slot = 1;
    cand->taken = ngx_current_msec;

    return ngx_http_hybrid_choice_let(ctx, cand);
}


const char *
ngx_http_hybrid_choice_shut(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_candidate_t *cand, ngx_uint_t last)
{
    const char                 *why;
    ngx_msec_t                  left;
    ngx_hybrid_health_t        *health;
    ngx_http_hybrid_backend_t  *backend;

    backend = cand->backend;
    health = backend->health;

    why = ngx_http_hybrid_choice_barred(backend, &left);

    if (why) {
        if (left) {
            ctx->retry_after = ngx_max(ctx->retry_after, left / 1000 + 1);
        }

        return why;
    }

    if (health->wedged && !last) {
        return "wedged";
    }

    /* nobody gets ahead of those that wait */

    if (backend->slots
        && (ngx_hybrid_health_busy(health) >= backend->slots
            || (health->waiting
                && ngx_hybrid_line_waits(ctx->conf->shm->sh->line,
                                         &ctx->conf->shm->shpool->mutex,
                                         health))))
    {
        return "busy";
    }

    return NULL;
}


/*
 * Last: it may be this request that finds out whether it works again, and
 * then by all paths that there are.
 */

static const char *
ngx_http_hybrid_choice_let(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_candidate_t *cand)
{
    ngx_msec_t          left;
    ngx_hybrid_pair_t  *pair;

    pair = cand->let || ctx->endpoint->verb != NGX_HTTP_HYBRID_VERB_INFERENCE
           ? NULL : ngx_http_hybrid_choice_pair(ctx, cand, 0);

    left = pair ? ngx_hybrid_pair_open(pair, 1) : 0;

    if (left) {
        ngx_http_hybrid_choice_free(ctx, cand);
        ctx->retry_after = ngx_max(ctx->retry_after, left / 1000 + 1);
        return "breaker";
    }

    cand->let = 1;

    return NULL;
}


static const char *
ngx_http_hybrid_choice_barred(ngx_http_hybrid_backend_t *backend,
    ngx_msec_t *left)
{
    *left = 0;

    switch (backend->health->lever) {

    case ngx_hybrid_lever_drained:
        return "drained";

    case ngx_hybrid_lever_disabled:
        return "disabled";
    }

    *left = ngx_hybrid_health_blocked(backend->health);

    return *left ? "quota" : NULL;
}


const char *
ngx_http_hybrid_choice_away(ngx_http_hybrid_backend_t *backend,
    ngx_msec_t *left)
{
    const char  *why;
    ngx_uint_t   fast;

    why = ngx_http_hybrid_choice_barred(backend, left);

    if (why) {
        return why;
    }

    if (backend->health->wedged) {
        return "wedged";
    }

    return ngx_http_hybrid_choice_alive(backend, &fast) ? NULL : "no_live";
}


ngx_uint_t
ngx_http_hybrid_choice_alive(ngx_http_hybrid_backend_t *backend,
    ngx_uint_t *fast)
{
    ngx_uint_t  i, alive;

    alive = (backend->npaths == 0);
    *fast = alive;

    for (i = 0; i < backend->npaths; i++) {

        if (backend->paths[i]->down || backend->paths[i]->idle
            || backend->paths[i]->lever != ngx_hybrid_lever_enabled)
        {
            continue;
        }

        alive = 1;

        if (!backend->paths[i]->slow) {
            *fast = 1;
        }
    }

    return alive;
}


const char *
ngx_http_hybrid_choice_closed(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_candidate_t *cand)
{
    const char          *why;
    ngx_msec_t           left;
    ngx_hybrid_pair_t   *pair;
    ngx_hybrid_model_t  *model;

    why = ngx_http_hybrid_choice_away(cand->backend, &left);

    if (why) {
        if (left) {
            ctx->retry_after = ngx_max(ctx->retry_after, left / 1000 + 1);
        }

        return why;
    }

    if (ctx->endpoint->verb != NGX_HTTP_HYBRID_VERB_INFERENCE) {
        return NULL;
    }

    model = cand->rename ? &cand->rename->model : &ctx->model;

    if (ngx_http_hybrid_catalogue_has(cand->backend, model)
        == ngx_http_hybrid_has_not)
    {
        return "no_model";
    }

    pair = ngx_http_hybrid_choice_pair(ctx, cand, 0);
    left = pair ? ngx_hybrid_pair_open(pair, 0) : 0;

    if (left) {
        ctx->retry_after = ngx_max(ctx->retry_after, left / 1000 + 1);
        return "breaker";
    }

    return NULL;
}


const char *
ngx_http_hybrid_choice_admit(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_candidate_t *cand)
{
    const char  *why;

    why = ngx_http_hybrid_choice_closed(ctx, cand);

    if (why) {
        ngx_http_hybrid_choice_free(ctx, cand);
        return why;
    }

    return ngx_http_hybrid_choice_let(ctx, cand);
}


ngx_atomic_uint_t
ngx_http_hybrid_choice_service(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_candidate_t *cand)
{
    ngx_hybrid_pair_t  *pair;

    pair = ngx_http_hybrid_choice_pair(ctx, cand, 0);

    /* what is not known of the model is taken from the others */

    return pair && pair->service ? pair->service
                                 : cand->backend->health->service;
}


void
ngx_http_hybrid_choice_free(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_candidate_t *cand)
{
    if (cand->slot) {
        cand->slot = 0;
        ngx_hybrid_health_give(cand->backend->health);
        ngx_http_hybrid_queue_wake(ctx->conf);
    }
}


/* for how long it had its slot, also when the client left in between */

void
ngx_http_hybrid_choice_served(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_candidate_t *cand)
{
    uint64_t            usec;
    ngx_hybrid_pair_t  *pair;

    if (cand->backend->slots == 0
        || ctx->endpoint->verb != NGX_HTTP_HYBRID_VERB_INFERENCE)
    {
        return;
    }

    usec = (uint64_t) (ngx_current_msec - cand->taken) * 1000;

    ngx_hybrid_pair_average(&cand->backend->health->service, usec);

    pair = ngx_http_hybrid_choice_pair(ctx, cand, 1);

    if (pair) {
        ngx_hybrid_pair_average(&pair->service, usec);
    }
}
