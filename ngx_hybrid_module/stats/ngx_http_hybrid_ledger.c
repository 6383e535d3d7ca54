
/*
 * Copyright (C) the ngx_hybrid_module authors
 */


#include "ngx_http_hybrid_stats.h"
#include "ngx_http_hybrid_ledger.h"


static void ngx_http_hybrid_ledger_backend(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_ledger_t *ledger);
static void ngx_http_hybrid_ledger_rate(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_ledger_t *ledger);
static void ngx_http_hybrid_ledger_cold(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_ledger_t *ledger);
static void ngx_http_hybrid_ledger_add(ngx_http_hybrid_ledger_t *ledger,
    ngx_hybrid_timer_e timer, uint64_t us);
static ngx_msec_t ngx_http_hybrid_ledger_wait(
    ngx_http_hybrid_ledger_t *ledger);
static u_char *ngx_http_hybrid_ledger_text(ngx_http_hybrid_ledger_t *ledger,
    ngx_uint_t var, u_char *p);


void
ngx_http_hybrid_ledger(ngx_http_request_t *r, ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_ledger_t *ledger)
{
    ngx_http_upstream_t        *u;
    ngx_http_upstream_state_t  *state;

    ngx_memzero(ledger, sizeof(ngx_http_hybrid_ledger_t));

    ngx_http_hybrid_ledger_add(ledger, ngx_hybrid_timer_total,
                         (uint64_t) (ngx_current_msec - ctx->start) * 1000);
    ngx_http_hybrid_ledger_add(ledger, ngx_hybrid_timer_queue,
                               (uint64_t) ctx->queue_time * 1000);

    ledger->body = ctx->spent.body;

    u = ctx->u;

    if (!ngx_http_hybrid_answered(r, ctx) || u->state == NULL) {
        return;
    }

    if (ctx->tries + ctx->spent.earlier > 1) {
        ledger->failed = u->start_time - ctx->spent.first_try;
    }

    state = u->state;

    if (state->header_time != (ngx_msec_t) -1) {
        ngx_http_hybrid_ledger_add(ledger, ngx_hybrid_timer_first_byte,
                              (uint64_t) (u->start_time + state->header_time
                                          - ctx->start) * 1000);
    }

    if (state->connect_time != (ngx_msec_t) -1) {
        ngx_http_hybrid_ledger_add(ledger, ngx_hybrid_timer_connect,
                                   (uint64_t) state->connect_time * 1000);
    }

    if (ctx->answer == NULL) {
        return;
    }

    if (ctx->first_token) {
        ngx_http_hybrid_ledger_add(ledger, ngx_hybrid_timer_first_token,
                              (uint64_t) (ctx->first_token - u->start_time)
                              * 1000);
    }

    if (ctx->answer->metered) {
        ngx_http_hybrid_ledger_backend(ctx, ledger);
        ngx_http_hybrid_ledger_rate(ctx, ledger);
    }

    ngx_http_hybrid_ledger_cold(ctx, ledger);

    ledger->wait = ngx_http_hybrid_ledger_wait(ledger);
}


/* only of a stream it is known when the machine has begun to talk */

static ngx_msec_t
ngx_http_hybrid_ledger_wait(ngx_http_hybrid_ledger_t *ledger)
{
    uint64_t  first, known;

    first = ledger->us[ngx_hybrid_timer_first_token];
    known = ledger->us[ngx_hybrid_timer_connect]
            + ledger->us[ngx_hybrid_timer_load]
            + ledger->us[ngx_hybrid_timer_prompt];

    return first > known ? (first - known) / 1000 : 0;
}


static void
ngx_http_hybrid_ledger_backend(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_ledger_t *ledger)
{
    uint64_t              us;
    ngx_hybrid_stream_t  *s;

    s = &ctx->answer->stream;

    us = s->numbers[ngx_hybrid_stream_load_time] / 1000;

    if (s->told & ngx_hybrid_stream_bit(load_time)
        && us <= NGX_HTTP_HYBRID_LEDGER_MAX)
    {
        ngx_http_hybrid_ledger_add(ledger, ngx_hybrid_timer_load, us);
    }

    us = s->numbers[ngx_hybrid_stream_prompt_time] / 1000;

    if (s->told & ngx_hybrid_stream_bit(prompt_time)
        && us <= NGX_HTTP_HYBRID_LEDGER_MAX)
    {
        ngx_http_hybrid_ledger_add(ledger, ngx_hybrid_timer_prompt, us);
    }
}


static void
ngx_http_hybrid_ledger_rate(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_ledger_t *ledger)
{
    double                us;
    uint64_t              n, told;
    ngx_msec_t            ms;
    ngx_hybrid_stream_t  *s;

    s = &ctx->answer->stream;
    told = s->numbers[ngx_hybrid_stream_output];

    if (s->numbers[ngx_hybrid_stream_eval_time] && told) {
        us = (double) s->numbers[ngx_hybrid_stream_eval_time] / 1000 / told;

    } else if (ctx->first_token) {

        /* thoughts are told, too, but not all of them are in the stream */

        n = ngx_hybrid_stream_tokens(s);

        if (told && told < n) {
            n = told;
        }

        /* the first one has come when the time begins */

        ms = ctx->answer->last_token - ctx->first_token;

        if (n < 2 || ms < NGX_HTTP_HYBRID_LEDGER_RATE) {
            return;
        }

        us = (double) ms * 1000 / (n - 1);

    } else {
        return;
    }

    if (us < 1 || us > NGX_HTTP_HYBRID_LEDGER_MAX) {
        return;
    }

    ledger->rate = 1e6 / us;
    ngx_http_hybrid_ledger_add(ledger, ngx_hybrid_timer_token,
                               (uint64_t) (us + 0.5));
}


/*
 * Ollama tells it in its own dialect only.  In others a model that was not in
 * memory before, and whose first token took its time, was loaded.
 */

static void
ngx_http_hybrid_ledger_cold(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_ledger_t *ledger)
{
    uint64_t  us;

    if (ledger->known & (1 << ngx_hybrid_timer_load)) {
        us = ledger->us[ngx_hybrid_timer_load];

    } else if (!ctx->answer->unloaded) {
        return;

    } else if (ledger->known & (1 << ngx_hybrid_timer_first_token)) {
        us = ledger->us[ngx_hybrid_timer_first_token];

    } else if (ctx->u && ctx->u->state
               && ctx->u->state->header_time != (ngx_msec_t) -1)
    {
        us = (uint64_t) ctx->u->state->header_time * 1000;

    } else {
        return;
    }

    ledger->cold = us >= NGX_HTTP_HYBRID_LEDGER_COLD;
}


static void
ngx_http_hybrid_ledger_add(ngx_http_hybrid_ledger_t *ledger,
    ngx_hybrid_timer_e timer, uint64_t us)
{
    ledger->us[timer] = us;
    ledger->known |= 1 << timer;
}


/* as nginx's own variables of time: seconds, empty when it is not known */

ngx_int_t
ngx_http_hybrid_ledger_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    u_char                    *p;
    ngx_str_t                  value;
    ngx_http_hybrid_ctx_t     *ctx;
    ngx_http_hybrid_ledger_t   ledger;

    ctx = ngx_http_hybrid_get_ctx(r->main);

    ngx_str_null(&value);

    if (ctx && data == ngx_http_hybrid_ledger_var_outcome) {
        value = ngx_http_hybrid_outcome_names[
                               ngx_http_hybrid_stats_outcome(r->main, ctx)];

    } else if (ctx && ctx->tries
               && data == ngx_http_hybrid_ledger_var_fallback)
    {
        if (ctx->current || ctx->passed_over) {
            value = ctx->fallback;
        }

    } else if (ctx && ctx->tries) {

        value.data = ngx_pnalloc(r->pool, NGX_INT64_LEN + sizeof(".000000"));
        if (value.data == NULL) {
            return NGX_ERROR;
        }

        if (data == ngx_http_hybrid_ledger_var_retries) {
            p = ngx_sprintf(value.data, "%ui",
                            ctx->tries + ctx->spent.earlier - 1);

        } else {
            ngx_http_hybrid_ledger(r->main, ctx, &ledger);
            p = ngx_http_hybrid_ledger_text(&ledger, data, value.data);
        }

        value.len = p - value.data;
    }

    if (value.len == 0) {
        v->not_found = 1;
        return NGX_OK;
    }

    v->data = value.data;
    v->len = value.len;
    v->valid = 1;
    v->no_cacheable = 1;
    v->not_found = 0;

    return NGX_OK;
}


static u_char *
ngx_http_hybrid_ledger_text(ngx_http_hybrid_ledger_t *ledger, ngx_uint_t var,
    u_char *p)
{
    ngx_hybrid_timer_e  timer;

    switch (var) {

    case ngx_http_hybrid_ledger_var_load_time:
        timer = ngx_hybrid_timer_load;
        break;

    case ngx_http_hybrid_ledger_var_prompt_time:
        timer = ngx_hybrid_timer_prompt;
        break;

    case ngx_http_hybrid_ledger_var_connect_time:
        timer = ngx_hybrid_timer_connect;
        break;

    case ngx_http_hybrid_ledger_var_first_byte_time:
        timer = ngx_hybrid_timer_first_byte;
        break;

    case ngx_http_hybrid_ledger_var_time_per_token:

        if (!(ledger->known & (1 << ngx_hybrid_timer_token))) {
            return p;
        }

        /* it is short: microseconds count */

        return ngx_sprintf(p, "%.6f",
                           (double) ledger->us[ngx_hybrid_timer_token] / 1e6);

    case ngx_http_hybrid_ledger_var_body_time:
        return ngx_sprintf(p, "%.3f", (double) ledger->body / 1000);

    case ngx_http_hybrid_ledger_var_failed_time:
        return ngx_sprintf(p, "%.3f", (double) ledger->failed / 1000);

    case ngx_http_hybrid_ledger_var_tokens_per_second:
        return ledger->rate > 0 ? ngx_sprintf(p, "%.2f", ledger->rate) : p;

    default: /* ngx_http_hybrid_ledger_var_cold */
        return ledger->cold ? ngx_sprintf(p, "1") : p;
    }

    if (!(ledger->known & (1 << timer))) {
        return p;
    }

    return ngx_sprintf(p, "%.3f", (double) ledger->us[timer] / 1e6);
}
