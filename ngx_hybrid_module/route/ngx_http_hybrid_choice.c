
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Equals are compared by what is cheap to know: whether the model is in the
 * machine's memory, free slots, requests that are there already, time to the
 * first token of late.  The counts are shared by all workers and change with
 * the choice itself, so that workers don't all choose the same.
 */


#include "ngx_http_hybrid_choice.h"
#include "ngx_http_hybrid_answer.h"
#include "ngx_http_hybrid_catalogue.h"


/* requests at a time, of a backend that does not say its slots */
#define NGX_HTTP_HYBRID_CHOICE_SLOTS  4

/* msec */
#define NGX_HTTP_HYBRID_CHOICE_QUOTA  900000
#define NGX_HTTP_HYBRID_CHOICE_REAP   5000


typedef struct {
    ngx_uint_t   rank;
    ngx_uint_t   load;     /* requests, in percent of the slots */
    ngx_uint_t   ttft;     /* power of two of usec */
} ngx_http_hybrid_choice_t;


typedef struct {
    ngx_event_t        event;
    ngx_connection_t   dummy;
    ngx_hybrid_shm_t  *shm;
} ngx_http_hybrid_reaper_t;


static void ngx_http_hybrid_choice_reap(ngx_event_t *ev);
static void ngx_http_hybrid_choice_look(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_candidate_t *cand, ngx_http_hybrid_choice_t *choice);
static ngx_uint_t ngx_http_hybrid_choice_better(
    ngx_http_hybrid_choice_t *one, ngx_http_hybrid_choice_t *two);
static ngx_uint_t ngx_http_hybrid_choice_broken(ngx_http_hybrid_ctx_t *ctx);
static void ngx_http_hybrid_choice_count(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_candidate_t *cand);


/* slots that a worker held when it was killed */

ngx_int_t
ngx_http_hybrid_choice_init_worker(ngx_http_hybrid_main_conf_t *hmcf,
    ngx_cycle_t *cycle)
{
    ngx_uint_t                   i;
    ngx_http_hybrid_reaper_t    *reaper;
    ngx_http_hybrid_backend_t  **backends;

    ngx_hybrid_health_start(hmcf->shm);

    backends = hmcf->backends.elts;

    for (i = 0; i < hmcf->backends.nelts; i++) {
        backends[i]->health->slots = backends[i]->slots;
    }

    reaper = ngx_pcalloc(cycle->pool, sizeof(ngx_http_hybrid_reaper_t));
    if (reaper == NULL) {
        return NGX_ERROR;
    }

    reaper->shm = hmcf->shm;
    reaper->dummy.fd = (ngx_socket_t) -1;
    reaper->dummy.data = reaper;

    reaper->event.handler = ngx_http_hybrid_choice_reap;
    reaper->event.data = &reaper->dummy;
    reaper->event.log = cycle->log;
    reaper->event.cancelable = 1;

    ngx_add_timer(&reaper->event, NGX_HTTP_HYBRID_CHOICE_REAP);

    return NGX_OK;
}


static void
ngx_http_hybrid_choice_reap(ngx_event_t *ev)
{
    ngx_connection_t          *dummy;
    ngx_http_hybrid_reaper_t  *reaper;

    if (ngx_exiting || ngx_terminate) {
        return;
    }

    dummy = ev->data;
    reaper = dummy->data;

    ngx_hybrid_health_reap(reaper->shm);

    if (reaper->shm->sh->line) {
        ngx_hybrid_line_reap(reaper->shm->sh->line,
                             &reaper->shm->shpool->mutex);
    }

    ngx_add_timer(ev, NGX_HTTP_HYBRID_CHOICE_REAP);
}


void
ngx_http_hybrid_choice_order(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_candidate_t *cand, ngx_uint_t n)
{
    ngx_int_t                     i, j;
    ngx_http_hybrid_choice_t      choice, *choices;
    ngx_http_hybrid_candidate_t   c;

    choices = ngx_palloc(ctx->request->pool,
                         n * sizeof(ngx_http_hybrid_choice_t));
    if (choices == NULL) {
        return;
    }

    /* the order of those that are as good stays: the caller rotates them */

    for (i = 0; i < (ngx_int_t) n; i++) {

        c = cand[i];
        ngx_http_hybrid_choice_look(ctx, &c, &choice);

        for (j = i - 1;
             j >= 0 && ngx_http_hybrid_choice_better(&choice, &choices[j]);
             j--)
        {
            cand[j + 1] = cand[j];
            choices[j + 1] = choices[j];
        }

        cand[j + 1] = c;
        choices[j + 1] = choice;
    }
}


static void
ngx_http_hybrid_choice_look(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_candidate_t *cand, ngx_http_hybrid_choice_t *choice)
{
    ngx_uint_t                  slots, busy, alive, fast;
    ngx_hybrid_pair_t          *pair;
    ngx_hybrid_model_t         *model;
    ngx_atomic_uint_t           ttft;
    ngx_http_hybrid_backend_t  *backend;

    backend = cand->backend;

    slots = backend->slots ? backend->slots : NGX_HTTP_HYBRID_CHOICE_SLOTS;
    busy = ngx_hybrid_health_busy(backend->health);

    model = cand->rename ? &cand->rename->model : &ctx->model;

    choice->load = busy * 100 / slots;
    choice->rank = busy < slots ? 0 : 2;

    if (!ngx_http_hybrid_catalogue_loaded(backend, model)) {
        choice->rank++;
    }

    /* degraded, or not there at all: after all others */

    alive = ngx_http_hybrid_choice_alive(backend, &fast);

    if (!alive) {
        choice->rank += 16;

    } else if (!fast) {
        choice->rank += 4;
    }

    choice->ttft = 0;

    pair = ngx_http_hybrid_choice_pair(ctx, cand, 0);

    if (pair == NULL) {
        return;
    }

    if (ngx_hybrid_pair_open(pair, 0)) {
        choice->rank += 8;
    }

    /* less than twice as long is the same */

    for (ttft = pair->ttft; ttft; ttft >>= 1) {
        choice->ttft++;
    }
}


static ngx_uint_t
ngx_http_hybrid_choice_better(ngx_http_hybrid_choice_t *one,
    ngx_http_hybrid_choice_t *two)
{
    if (one->rank != two->rank) {
        return one->rank < two->rank;
    }

    if (one->load != two->load) {
        return one->load < two->load;
    }

    /* one that is not known yet is tried before it is judged */

    return one->ttft < two->ttft;
}


void
ngx_http_hybrid_choice_failed(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_candidate_t *cand, ngx_uint_t status)
{
    switch (status) {

    case 0:

        /* without a connection it is the path that failed, not the model */

        if (ctx->u->state->connect_time != (ngx_msec_t) -1) {
            ngx_http_hybrid_choice_count(ctx, cand);
        }

        return;

    case NGX_HTTP_NOT_FOUND:
        ngx_http_hybrid_catalogue_missed(cand->backend);
        return;

    case NGX_HTTP_INTERNAL_SERVER_ERROR:
    case NGX_HTTP_BAD_GATEWAY:
    case NGX_HTTP_GATEWAY_TIME_OUT:
        ngx_http_hybrid_choice_count(ctx, cand);
        return;

    default:
        return;
    }
}


void
ngx_http_hybrid_choice_ended(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_candidate_t *cand)
{
    ngx_uint_t          status;
    ngx_hybrid_pair_t  *pair;

    if (ctx->u->state == NULL
        || ctx->u->state->header_time == (ngx_msec_t) -1)
    {
        return;
    }

    status = ctx->u->headers_in.status_n;

    if (status >= NGX_HTTP_BAD_REQUEST) {
        ngx_http_hybrid_choice_failed(ctx, cand, status);
        return;
    }

    ngx_http_hybrid_choice_served(ctx, cand);

    if (ngx_http_hybrid_choice_broken(ctx)) {
        ngx_http_hybrid_choice_count(ctx, cand);
        return;
    }

    /* the others say nothing of whether a model runs */

    if (ctx->endpoint->verb != NGX_HTTP_HYBRID_VERB_INFERENCE
        || ctx->request->connection->error)
    {
        return;
    }

    pair = ngx_http_hybrid_choice_pair(ctx, cand, 0);

    if (pair) {
        ngx_hybrid_pair_passed(pair);
    }
}


/* an answer that was begun did not end, and not because the client left */

static ngx_uint_t
ngx_http_hybrid_choice_broken(ngx_http_hybrid_ctx_t *ctx)
{
    ngx_connection_t     *c;
    ngx_http_upstream_t  *u;

    u = ctx->u;
    c = u->peer.connection;

    if (ctx->answer && ctx->answer->broken) {
        return 1;
    }

    if (ctx->lost || ctx->request->connection->error
        || ctx->request->header_only || !u->header_sent)
    {
        return 0;
    }

    if (u->buffering) {
        return u->pipe->upstream_error || u->pipe->length > 0;
    }

    if (c && (c->read->timedout || c->read->error)) {
        return 1;
    }

    /* -1: it lasts until the backend closes */

    return u->length > 0 && c && c->read->eof;
}


/*
 * It may be the request itself that can't be answered, also when it takes
 * too long: a client's failures count once.
 */

static void
ngx_http_hybrid_choice_count(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_candidate_t *cand)
{
    ngx_atomic_uint_t   who;
    ngx_hybrid_pair_t  *pair;

    if (ctx->endpoint->verb != NGX_HTTP_HYBRID_VERB_INFERENCE) {
        return;
    }

    cand->let = 0;

    pair = ngx_http_hybrid_choice_pair(ctx, cand, 1);

    if (pair == NULL) {
        return;
    }

    who = ngx_murmur_hash2(ctx->client->name.data, ctx->client->name.len);
    who = who ? who : 1;

    if (ngx_hybrid_pair_failed(pair, who)) {
        ngx_log_error(NGX_LOG_WARN, ctx->request->connection->log, 0,
                      "backend \"%V\" fails for model \"%V\": it is not "
                      "asked for it for %M s", &cand->backend->name,
                      &ctx->model.brief,
                      (ngx_hybrid_pair_open(pair, 0) + 999) / 1000);
    }
}


void
ngx_http_hybrid_choice_token(ngx_http_hybrid_ctx_t *ctx)
{
    ngx_hybrid_pair_t            *pair;
    ngx_http_hybrid_candidate_t  *cand;

    cand = &ctx->candidates[ctx->current];

    pair = ngx_http_hybrid_choice_pair(ctx, cand, 1);

    if (pair) {
        ngx_hybrid_pair_token(pair,
                   (uint64_t) (ngx_current_msec - ctx->u->start_time) * 1000);
    }
}


void
ngx_http_hybrid_choice_progress(ngx_http_hybrid_ctx_t *ctx)
{
    ngx_hybrid_health_t  *health;

    health = ctx->candidates[ctx->current].backend->health;

    /* others read the same line of cache */

    if (ngx_current_msec - health->progress >= 1000) {
        health->progress = ngx_current_msec;
    }
}


void
ngx_http_hybrid_choice_block(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_candidate_t *cand)
{
    if (ngx_hybrid_health_blocked(cand->backend->health)) {
        return;
    }

    ngx_hybrid_health_block(cand->backend->health,
                            NGX_HTTP_HYBRID_CHOICE_QUOTA);

    ngx_log_error(NGX_LOG_WARN, ctx->request->connection->log, 0,
                  "backend \"%V\" has no quota left: it is not asked for "
                  "%d minutes", &cand->backend->name,
                  NGX_HTTP_HYBRID_CHOICE_QUOTA / 60000);
}


ngx_uint_t
ngx_http_hybrid_choice_unloaded(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_candidate_t *cand)
{
    ngx_hybrid_pair_t  *pair;

    pair = ngx_http_hybrid_choice_pair(ctx, cand, 0);

    return ngx_http_hybrid_catalogue_unloaded(cand->backend,
                           cand->rename ? &cand->rename->model : &ctx->model,
                           pair ? pair->answered : 0);
}


ngx_hybrid_pair_t *
ngx_http_hybrid_choice_pair(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_candidate_t *cand, ngx_uint_t make)
{
    ngx_hybrid_shm_t  *shm;

    shm = ctx->conf->shm;

    if (ctx->model.brief.len == 0) {
        return NULL;
    }

    return make ? ngx_hybrid_pair_make(shm->sh->pairs, &shm->shpool->mutex,
                                       &cand->backend->name,
                                       &ctx->model.brief)
                : ngx_hybrid_pair_find(shm->sh->pairs, &cand->backend->name,
                                       &ctx->model.brief);
}
