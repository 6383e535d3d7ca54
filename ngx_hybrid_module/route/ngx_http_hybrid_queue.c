
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Waiting for a slot of a backend, of clients that have a "queue" line; the
 * line itself is in core/ngx_hybrid_line.h.
 *
 * A request goes through the groups of its route as the balancer will, but
 * takes the slot here, where it can wait.  It waits for a whole group, the
 * first whose backends are alive, and gets the first slot of any of them.
 * When that would take longer than the client's timeout, it goes on to the
 * next group at once; when it did, to a slot that is free in any group.  The
 * world may change meanwhile: the backend is looked at again, and the client.
 *
 * hybrid_shadow changes nothing here: a slot is no matter of policy, and
 * without a "queue" line the request would have been refused just so.
 */


#include "ngx_http_hybrid_choice.h"
#include "ngx_http_hybrid_queue.h"
#include "ngx_http_hybrid_limits.h"


/* seconds */
#define NGX_HTTP_HYBRID_QUEUE_RETRY  3600

/* msec between warnings */
#define NGX_HTTP_HYBRID_QUEUE_WARN   60000


static ngx_http_hybrid_turn_t *ngx_http_hybrid_queue_turn(
    ngx_http_hybrid_ctx_t *ctx);
static ngx_int_t ngx_http_hybrid_queue_go(ngx_http_hybrid_ctx_t *ctx);
static ngx_int_t ngx_http_hybrid_queue_group(ngx_http_hybrid_ctx_t *ctx,
    ngx_uint_t first, ngx_uint_t n);
static ngx_uint_t ngx_http_hybrid_queue_pays(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_candidate_t *cand);
static ngx_int_t ngx_http_hybrid_queue_called(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx);
static void ngx_http_hybrid_queue_take(ngx_http_hybrid_ctx_t *ctx,
    ngx_uint_t n);
static ngx_int_t ngx_http_hybrid_queue_wait(ngx_http_hybrid_ctx_t *ctx,
    ngx_uint_t first, ngx_uint_t n);
static void ngx_http_hybrid_queue_ask(ngx_http_hybrid_ctx_t *ctx,
    ngx_hybrid_line_ask_t *ask);
static uint64_t ngx_http_hybrid_queue_rate(ngx_http_hybrid_ctx_t *ctx,
    ngx_uint_t first, ngx_uint_t n);
static void ngx_http_hybrid_queue_retry(ngx_http_hybrid_turn_t *turn,
    ngx_uint_t ahead, uint64_t rate);
static ngx_int_t ngx_http_hybrid_queue_refuse(ngx_http_hybrid_ctx_t *ctx);


ngx_int_t
ngx_http_hybrid_queue_enter(ngx_http_request_t *r, ngx_http_hybrid_ctx_t *ctx)
{
    if (ctx->candidates == NULL || ctx->client->queue == 0
        || ctx->conf->queue == NULL)
    {
        return NGX_OK;
    }

    if (ctx->turn && ctx->turn->state == ngx_http_hybrid_turn_waiting) {
        ngx_http_hybrid_suspend(r);
        return NGX_AGAIN;
    }

    if (ctx->turn && ctx->turn->state == ngx_http_hybrid_turn_called) {
        return ngx_http_hybrid_queue_called(r, ctx);
    }

    return ngx_http_hybrid_queue_go(ctx);
}


static ngx_http_hybrid_turn_t *
ngx_http_hybrid_queue_turn(ngx_http_hybrid_ctx_t *ctx)
{
    ngx_msec_t               time;
    ngx_http_hybrid_turn_t  *turn;

    turn = ngx_pcalloc(ctx->request->pool, sizeof(ngx_http_hybrid_turn_t));
    if (turn == NULL) {
        return NULL;
    }

    /* it may have waited for its limits already */

    time = ctx->client->queue_timeout;
    time -= ngx_min(time, ctx->queue_time);

    turn->ctx = ctx;
    turn->until = ngx_current_msec + time;

    ctx->turn = turn;

    return turn;
}


static ngx_int_t
ngx_http_hybrid_queue_go(ngx_http_hybrid_ctx_t *ctx)
{
    ngx_int_t                     rc;
    ngx_uint_t                    i, n;
    ngx_http_hybrid_candidate_t  *cand;

    cand = ctx->candidates;

    if (ctx->turn) {
        ctx->turn->late |= (ctx->turn->state == ngx_http_hybrid_turn_late);
        ctx->turn->state = ngx_http_hybrid_turn_none;
        ctx->turn->busy = 0;
    }

    for (i = 0; i < ctx->ncandidates; i += n) {

        for (n = 1;
             i + n < ctx->ncandidates && cand[i + n].group == cand[i].group;
             n++)
        {
            /* void */
        }

        rc = ngx_http_hybrid_queue_group(ctx, i, n);

        if (rc == NGX_BUSY) {
            rc = ngx_http_hybrid_queue_wait(ctx, i, n);
        }

        if (rc != NGX_DECLINED) {
            return rc;
        }
    }

    if (ctx->turn && ctx->turn->busy) {
        return ngx_http_hybrid_queue_refuse(ctx);
    }

    /* nobody is there: the balancer knows what to say */

    return NGX_OK;
}


/* NGX_BUSY: it makes sense to wait, NGX_DECLINED: it makes none */

static ngx_int_t
ngx_http_hybrid_queue_group(ngx_http_hybrid_ctx_t *ctx, ngx_uint_t first,
    ngx_uint_t n)
{
    ngx_int_t                     rc;
    ngx_uint_t                    i;
    ngx_http_hybrid_candidate_t  *cand;

    rc = NGX_DECLINED;

    for (i = first; i < first + n; i++) {

        cand = &ctx->candidates[i];

        cand->why = cand->spent ? "budget"
                                : ngx_http_hybrid_choice_closed(ctx, cand);

        if (cand->why) {
            continue;
        }

        cand->why = ngx_http_hybrid_choice_take(ctx, cand, 0);

        if (cand->why == NULL && ngx_http_hybrid_queue_pays(ctx, cand)) {
            ngx_http_hybrid_queue_take(ctx, i);
            return NGX_OK;
        }

        if (ngx_strcmp(cand->why, "busy") == 0) {
            rc = NGX_BUSY;
        }
    }

    return rc;
}


/* the balancer asks again: then it is paid for already */

static ngx_uint_t
ngx_http_hybrid_queue_pays(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_candidate_t *cand)
{
    if (ngx_http_hybrid_limit_budget(ctx, cand)) {
        return 1;
    }

    ngx_http_hybrid_choice_free(ctx, cand);

    cand->spent = 1;
    cand->why = "budget";

    return 0;
}


static ngx_int_t
ngx_http_hybrid_queue_called(ngx_http_request_t *r, ngx_http_hybrid_ctx_t *ctx)
{
    ngx_uint_t                    i;
    ngx_http_hybrid_candidate_t  *cand;

    for (i = 0; !ctx->candidates[i].slot; i++) { /* void */ }

    cand = &ctx->candidates[i];

    cand->why = ngx_http_hybrid_choice_admit(ctx, cand);

    if (cand->why || !ngx_http_hybrid_queue_pays(ctx, cand)) {
        return ngx_http_hybrid_queue_go(ctx);
    }

    ctx->turn->state = ngx_http_hybrid_turn_none;

    ngx_http_hybrid_queue_take(ctx, i);

    return NGX_OK;
}


/* the balancer begins with the first one */

static void
ngx_http_hybrid_queue_take(ngx_http_hybrid_ctx_t *ctx, ngx_uint_t n)
{
    ngx_str_t                     why;
    ngx_uint_t                    i;
    ngx_http_hybrid_candidate_t  *cand, taken;

    cand = ctx->candidates;

    for (i = 0; i < n; i++) {

        if (cand[i].why == NULL) {
            continue;
        }

        if (ngx_strcmp(cand[i].why, "busy") == 0) {

            /* the first of equals that was free is no fallback */

            if (cand[i].group == cand[n].group) {
                continue;
            }

            ngx_str_set(&why, "queue");

        } else {
            why.data = (u_char *) cand[i].why;
            why.len = ngx_strlen(why.data);
        }

        ngx_http_hybrid_attempt_passed(ctx, &cand[i], &why);

        ctx->passed_over = 1;
    }

    if (n) {
        taken = cand[n];
        ngx_memmove(&cand[1], cand, n * sizeof(ngx_http_hybrid_candidate_t));
        cand[0] = taken;
    }
}


static ngx_int_t
ngx_http_hybrid_queue_wait(ngx_http_hybrid_ctx_t *ctx, ngx_uint_t first,
    ngx_uint_t n)
{
    uint64_t                      rate, limit;
    ngx_int_t                     rc;
    ngx_uint_t                    i;
    ngx_msec_int_t                left;
    ngx_hybrid_health_t          *healths[NGX_HYBRID_LINE_GROUP];
    ngx_hybrid_line_ask_t         ask;
    ngx_http_hybrid_turn_t       *turn;
    ngx_http_hybrid_queue_t      *queue;
    ngx_http_hybrid_candidate_t  *cand;

    turn = ctx->turn ? ctx->turn : ngx_http_hybrid_queue_turn(ctx);
    if (turn == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    cand = &ctx->candidates[first];
    queue = ctx->conf->queue;

    ask.healths = healths;
    ask.n = 0;

    for (i = 0; i < n; i++) {
        cand[i].awaited = (ask.n < NGX_HYBRID_LINE_GROUP
                           && ngx_strcmp(cand[i].why, "busy") == 0);

        if (cand[i].awaited) {
            healths[ask.n++] = cand[i].backend->health;
        }
    }

    turn->busy = 1;
    turn->group = cand->group;

    ngx_http_hybrid_queue_ask(ctx, &ask);

    rate = ngx_http_hybrid_queue_rate(ctx, first, n);
    left = (ngx_msec_int_t) (turn->until - ngx_current_msec);

    if (turn->late || left <= 0) {
        (void) ngx_hybrid_line_ahead(queue->line, queue->mutex, &ask);
        ngx_http_hybrid_queue_retry(turn, ask.ahead, rate);
        return NGX_DECLINED;
    }

    /* before the line is looked at: who floods it pays for that himself */

    if (!ngx_http_hybrid_client_wait(ctx->client)) {
        turn->full = 1;
        ngx_http_hybrid_queue_retry(turn, ctx->client->queue, rate);
        return NGX_DECLINED;
    }

    /* those that are served while it may wait */

    limit = (uint64_t) left * rate / 1000000;
    ask.limit = rate ? ngx_min(limit, 1000000) : (ngx_uint_t) -1;

    rc = ngx_hybrid_line_enter(queue->line, queue->mutex, &ask);

    if (rc != NGX_OK) {

        if (rc == NGX_ERROR
            && (queue->warned == 0
                || ngx_current_msec - queue->warned
                   > NGX_HTTP_HYBRID_QUEUE_WARN))
        {
            queue->warned = ngx_max(ngx_current_msec, 1);

            ngx_log_error(NGX_LOG_WARN, ctx->request->connection->log, 0,
                          "client \"%V\" can't wait: hybrid_zone has no room "
                          "for more waiting requests", &ctx->client->name);
        }

        ngx_http_hybrid_client_go(ctx->client);
        ngx_http_hybrid_queue_retry(turn, ask.ahead, rate);
        return NGX_DECLINED;
    }

    turn->index = ask.index;

    ngx_http_hybrid_queue_join(turn);

    ngx_http_hybrid_suspend(ctx->request);

    return NGX_AGAIN;
}


static void
ngx_http_hybrid_queue_ask(ngx_http_hybrid_ctx_t *ctx,
    ngx_hybrid_line_ask_t *ask)
{
    uint64_t    input, output;
    ngx_str_t  *name;

    name = &ctx->client->name;

    /* it has to be the same in all workers, and over a reload */

    ask->client = (uint64_t) ngx_murmur_hash2(name->data, name->len) << 32
                  | ngx_crc32_short(name->data, name->len) | 1;

    ngx_http_hybrid_usage_expect(ctx, &input, &output);

    ask->cost = input + output;
    ask->weight = ctx->client->weight;
    ask->limit = 0;
    ask->data = ctx->turn;
    ask->ahead = 0;
    ask->index = 0;
}


/* requests in 1000 seconds, 0: not known */

static uint64_t
ngx_http_hybrid_queue_rate(ngx_http_hybrid_ctx_t *ctx, ngx_uint_t first,
    ngx_uint_t n)
{
    uint64_t                      rate, known, slots;
    ngx_uint_t                    i;
    ngx_atomic_uint_t             service;
    ngx_http_hybrid_candidate_t  *cand;

    rate = 0;
    known = 0;
    slots = 0;

    for (i = first; i < first + n; i++) {

        cand = &ctx->candidates[i];

        if (ngx_strcmp(cand->why, "busy") != 0) {
            continue;
        }

        slots += cand->backend->slots;
        service = ngx_http_hybrid_choice_service(ctx, cand);

        if (service) {
            known += cand->backend->slots;
            rate += cand->backend->slots * (uint64_t) 1000000000 / service;
        }
    }

    /* one that was not asked yet is like the others */

    return known ? rate * slots / known : 0;
}


static void
ngx_http_hybrid_queue_retry(ngx_http_hybrid_turn_t *turn, ngx_uint_t ahead,
    uint64_t rate)
{
    ngx_msec_t  retry;

    if (rate == 0) {
        return;
    }

    retry = (ngx_msec_t) ngx_min((uint64_t) (ahead + 1) * 1000000 / rate,
                                 NGX_HTTP_HYBRID_QUEUE_RETRY * 1000) + 1;

    if (turn->retry == 0 || retry < turn->retry) {
        turn->retry = retry;
    }
}


static ngx_int_t
ngx_http_hybrid_queue_refuse(ngx_http_hybrid_ctx_t *ctx)
{
    ngx_str_t                why;
    ngx_int_t                rc;
    ngx_uint_t               i;
    ngx_http_hybrid_turn_t  *turn;

    turn = ctx->turn;

    ngx_str_set(&why, "queue");

    for (i = 0; i < ctx->ncandidates; i++) {
        if (ctx->candidates[i].why
            && ngx_strcmp(ctx->candidates[i].why, "busy") == 0)
        {
            ngx_hybrid_health_passed(ctx->candidates[i].backend->health, &why);
        }
    }

    ngx_log_error(NGX_LOG_INFO, ctx->request->connection->log, 0,
                  "no slot for client \"%V\", model \"%V\": %s",
                  &ctx->client->name, &ctx->model.brief,
                  turn->full ? "as many of its requests wait as may"
                  : turn->late ? "it has waited for its timeout"
                  : "it would have to wait longer than its timeout");

    if (turn->full) {
        rc = ngx_http_hybrid_refuse(ctx, NGX_HTTP_TOO_MANY_REQUESTS,
                                    "queue_full", "too many requests of this "
                                    "client wait already");

    } else {
        rc = ngx_http_hybrid_refuse(ctx, NGX_HTTP_SERVICE_UNAVAILABLE, "busy",
                                    "the machines for this model are busy");
    }

    ctx->retry_after = ngx_max((turn->retry + 999) / 1000, 1);

    return rc;
}
