
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Failures to authenticate: told of in the log, counted, and slowed when
 * there are too many from one address.  Only the answer to a failure waits:
 * who shares the address with an attacker does not notice.
 */


#include "ngx_http_hybrid_module.h"


/* how often the line is looked at, and so whether the worker has to leave */
#define NGX_HTTP_HYBRID_FAILURE_TICK   10

/* of the worker's connections, one in so many may wait */
#define NGX_HTTP_HYBRID_FAILURE_SHARE  16


/* of one worker; the table of the sources is in shared memory */

struct ngx_http_hybrid_failures_s {
    ngx_http_hybrid_main_conf_t   *conf;
    ngx_queue_t                    waiters;   /* ctx->waiter */
    ngx_uint_t                     nwaiters;
    ngx_uint_t                     max;
    ngx_event_t                    tick;      /* while there are waiters */
    ngx_event_t                    ended;     /* an interval of the log */
};


typedef struct {
    ngx_str_t                      text;
    ngx_hybrid_failure_e           class;
} ngx_http_hybrid_failure_class_t;


static ngx_hybrid_failure_e ngx_http_hybrid_failure_class(ngx_str_t *why);
static void ngx_http_hybrid_failure_tell(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, const char *why);
static void ngx_http_hybrid_failure_report(ngx_log_t *log,
    ngx_hybrid_source_report_t *report);
static void ngx_http_hybrid_failure_ended(ngx_event_t *ev);
static void ngx_http_hybrid_failure_tick(ngx_event_t *ev);


/* what a text has in it; the first one counts, none is "invalid" */

static const ngx_http_hybrid_failure_class_t
    ngx_http_hybrid_failure_classes[] =
{
    { ngx_string("no credential"), ngx_hybrid_failure_missing },
    { ngx_string("revoked"), ngx_hybrid_failure_revoked },
    { ngx_string("expired"), ngx_hybrid_failure_expired },
    { ngx_string("malformed"), ngx_hybrid_failure_malformed },
    { ngx_string("half a credential"), ngx_hybrid_failure_malformed },
    { ngx_string("duplicate"), ngx_hybrid_failure_malformed },
    { ngx_string("two kinds"), ngx_hybrid_failure_malformed },
    { ngx_string("is not \"Bearer\""), ngx_hybrid_failure_malformed },
    { ngx_string("the key is not"), ngx_hybrid_failure_malformed },
    { ngx_string("base64url"), ngx_hybrid_failure_malformed },
    { ngx_string("three parts"), ngx_hybrid_failure_malformed },
    { ngx_string("empty part"), ngx_hybrid_failure_malformed },
    { ngx_string("longer than"), ngx_hybrid_failure_malformed },
    { ngx_null_string, ngx_hybrid_failure_invalid }
};


ngx_int_t
ngx_http_hybrid_failure_init_worker(ngx_http_hybrid_main_conf_t *hmcf,
    ngx_cycle_t *cycle)
{
    ngx_http_hybrid_failures_t  *failures;

    failures = ngx_pcalloc(cycle->pool, sizeof(ngx_http_hybrid_failures_t));
    if (failures == NULL) {
        return NGX_ERROR;
    }

    ngx_queue_init(&failures->waiters);

    failures->conf = hmcf;
    failures->max = cycle->connection_n / NGX_HTTP_HYBRID_FAILURE_SHARE;

    /* a worker does not leave before those who wait have their answer */

    failures->tick.handler = ngx_http_hybrid_failure_tick;
    failures->tick.data = failures;
    failures->tick.log = cycle->log;

    failures->ended.handler = ngx_http_hybrid_failure_ended;
    failures->ended.data = failures;
    failures->ended.log = cycle->log;
    failures->ended.cancelable = 1;

    hmcf->failures = failures;

    /* what workers of before have counted */

    ngx_http_hybrid_failure_ended(&failures->ended);

    return NGX_OK;
}


/*
 * With "satisfy any" it may be another module that lets in whom we don't
 * know: who shows nothing has not failed before all have refused.
 */

void
ngx_http_hybrid_failure(ngx_http_request_t *r, ngx_http_hybrid_ctx_t *ctx,
    const char *why)
{
    ngx_str_t                  text;
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    ctx->why = why;

    text.data = (u_char *) why;
    text.len = ngx_strlen(why);

    if (clcf->satisfy == NGX_HTTP_SATISFY_ANY
        && ngx_http_hybrid_failure_class(&text) == ngx_hybrid_failure_missing)
    {
        return;
    }

    ngx_http_hybrid_failure_tell(r, ctx, why);
}


void
ngx_http_hybrid_failure_refused(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx)
{
    if (ctx->why && !ctx->failed) {
        ngx_http_hybrid_failure_tell(r, ctx, ctx->why);
    }
}


static void
ngx_http_hybrid_failure_tell(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, const char *why)
{
    ngx_str_t                    text;
    ngx_msec_t                   wait;
    ngx_hybrid_shm_t            *shm;
    ngx_hybrid_failure_e         class;
    ngx_hybrid_source_report_t   report;
    ngx_http_hybrid_failures_t  *failures;

    text.data = (u_char *) why;
    text.len = ngx_strlen(why);

    class = ngx_http_hybrid_failure_class(&text);

    shm = ctx->conf->shm;
    failures = ctx->conf->failures;

    ctx->failed = 1;

    (void) ngx_atomic_fetch_add(&shm->sh->failures[class], 1);

    if (ngx_hybrid_source_fail(shm->sh->sources, &shm->shpool->mutex,
                               r->connection->sockaddr, &text,
                               ngx_current_msec, &wait, &report))
    {
        ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                      "client is not authenticated: %s", why);

    } else if (!failures->ended.timer_set && !ngx_exiting) {
        ngx_add_timer(&failures->ended, NGX_HYBRID_SOURCE_INTERVAL);
    }

    ctx->due = wait ? ngx_current_msec + wait : 0;

    ngx_http_hybrid_failure_report(ngx_cycle->log, &report);
}


static ngx_hybrid_failure_e
ngx_http_hybrid_failure_class(ngx_str_t *why)
{
    const ngx_http_hybrid_failure_class_t  *c;

    for (c = ngx_http_hybrid_failure_classes; c->text.len; c++) {
        if (why->len >= c->text.len
            && ngx_strnstr(why->data, (char *) c->text.data, why->len))
        {
            break;
        }
    }

    return c->class;
}


static void
ngx_http_hybrid_failure_report(ngx_log_t *log,
    ngx_hybrid_source_report_t *report)
{
    if (report->count) {
        ngx_log_error(NGX_LOG_WARN, log, 0,
                      "%ui authentication failures from %*s in the last "
                      "%M s, last: %*s", report->count, report->naddr,
                      report->addr, (report->span + 500) / 1000, report->nwhy,
                      report->why);
    }
}


static void
ngx_http_hybrid_failure_ended(ngx_event_t *ev)
{
    ngx_http_hybrid_failures_t  *failures = ev->data;

    ngx_uint_t                   slot;
    ngx_msec_t                   next;
    ngx_hybrid_shm_t            *shm;
    ngx_hybrid_source_report_t   report;

    shm = failures->conf->shm;
    slot = 0;
    next = 0;

    while (ngx_hybrid_source_ended(shm->sh->sources, &shm->shpool->mutex,
                                   ngx_current_msec, &slot, &next, &report))
    {
        ngx_http_hybrid_failure_report(ev->log, &report);
    }

    if (next && !ngx_exiting) {
        ngx_add_timer(ev, next);
    }
}


/* rc, which is a refusal, or NGX_AGAIN: ctx->verdict is given later */

ngx_int_t
ngx_http_hybrid_failure_wait(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_int_t rc)
{
    ngx_http_hybrid_failures_t  *failures;

    failures = ctx->conf->failures;

    if (ctx->due == 0 || ngx_exiting || failures->nwaiters >= failures->max) {
        return rc;
    }

    ngx_queue_insert_tail(&failures->waiters, &ctx->waiter);
    failures->nwaiters++;
    ctx->slowed = 1;

    (void) ngx_atomic_fetch_add(&ctx->conf->shm->sh->slowed, 1);

    if (!failures->tick.timer_set) {
        ngx_add_timer(&failures->tick, NGX_HTTP_HYBRID_FAILURE_TICK);
    }

    ngx_http_hybrid_suspend(r);

    return NGX_AGAIN;
}


void
ngx_http_hybrid_failure_detach(ngx_http_hybrid_ctx_t *ctx)
{
    if (ctx->slowed) {
        ngx_queue_remove(&ctx->waiter);
        ctx->conf->failures->nwaiters--;
        ctx->slowed = 0;
    }
}


static void
ngx_http_hybrid_failure_tick(ngx_event_t *ev)
{
    ngx_http_hybrid_failures_t  *failures = ev->data;

    ngx_queue_t            *q, *next;
    ngx_http_hybrid_ctx_t  *ctx;

    for (q = ngx_queue_head(&failures->waiters);
         q != ngx_queue_sentinel(&failures->waiters);
         q = next)
    {
        next = ngx_queue_next(q);

        ctx = ngx_queue_data(q, ngx_http_hybrid_ctx_t, waiter);

        if (ngx_exiting || (ngx_msec_int_t) (ctx->due - ngx_current_msec) <= 0)
        {
            ngx_http_hybrid_failure_detach(ctx);
            ngx_http_hybrid_resume(ctx->request);
        }
    }

    if (failures->nwaiters) {
        ngx_add_timer(ev, NGX_HTTP_HYBRID_FAILURE_TICK);
    }
}
