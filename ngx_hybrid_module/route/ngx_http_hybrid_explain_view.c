
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * An explanation, for people and as JSON.  What is in it are names of the
 * configuration, checked names of models and our own words.
 */


#include "ngx_http_hybrid_choice.h"
#include "ngx_http_hybrid_catalogue.h"
#include "ngx_http_hybrid_explain.h"


/* bytes of an answer, and of a backend in it */
#define NGX_HTTP_HYBRID_EXPLAIN_TEXT     2048
#define NGX_HTTP_HYBRID_EXPLAIN_BACKEND  1024


typedef struct {
    ngx_str_t                     code;
    const char                   *text;
} ngx_http_hybrid_explain_why_t;


static void ngx_http_hybrid_explain_text(ngx_http_hybrid_explain_t *ex);
static void ngx_http_hybrid_explain_text_row(ngx_http_hybrid_explain_t *ex,
    ngx_http_hybrid_candidate_t *cand, ngx_uint_t n);
static void ngx_http_hybrid_explain_json(ngx_http_hybrid_explain_t *ex);
static void ngx_http_hybrid_explain_json_row(ngx_http_hybrid_explain_t *ex,
    ngx_http_hybrid_candidate_t *cand, ngx_uint_t n);
static const char *ngx_http_hybrid_explain_words(const char *code);
static double ngx_http_hybrid_explain_latency(
    ngx_http_hybrid_backend_t *backend);
static void ngx_http_hybrid_explain_out(ngx_http_hybrid_explain_t *ex,
    const char *fmt, ...);


static const ngx_http_hybrid_explain_why_t  ngx_http_hybrid_explain_whys[] = {
    { ngx_string("api"), "it does not speak this API" },
    { ngx_string("models"), "its models lines do not have it" },
    { ngx_string("duplicate"), "it is there already" },
    { ngx_string("embedding_model"), "it would embed by another model" },
    { ngx_string("no_model"), "its list, if it has told one, lacks the model" },
    { ngx_string("egress"), "this client's requests may not go there" },
    { ngx_string("drained"), "drained by an operator" },
    { ngx_string("disabled"), "disabled by an operator" },
    { ngx_string("quota"), "its quota is used up" },
    { ngx_string("wedged"), "it answers probes, but no requests" },
    { ngx_string("busy"), "all its slots are taken" },
    { ngx_string("breaker"), "it fails for this model of late" },
    { ngx_string("budget"), "the client's budget is used up" },
    { ngx_string("no_live"), "no path to it is up" },
    { ngx_null_string, NULL }
};


ngx_int_t
ngx_http_hybrid_explain_show(ngx_http_hybrid_explain_t *ex)
{
    size_t  size;

    size = NGX_HTTP_HYBRID_EXPLAIN_TEXT
           + (ex->ctx->ncandidates + ex->notes.nelts)
             * NGX_HTTP_HYBRID_EXPLAIN_BACKEND;

    ex->pos = ngx_pnalloc(ex->admin->request->pool, size);
    if (ex->pos == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ex->end = ex->pos + size;
    ex->admin->answer.data = ex->pos;

    if (ex->admin->text) {
        ngx_http_hybrid_explain_text(ex);

    } else {
        ngx_http_hybrid_explain_json(ex);
    }

    ex->admin->answer.len = ex->pos - ex->admin->answer.data;

    return NGX_OK;
}


static void
ngx_http_hybrid_explain_text(ngx_http_hybrid_explain_t *ex)
{
    ngx_uint_t               i;
    ngx_http_hybrid_ctx_t   *ctx;
    ngx_http_hybrid_note_t  *note;

    ctx = ex->ctx;

    ngx_http_hybrid_explain_out(ex, "%V asks for %V by %V\n",
                                &ctx->client->name, &ex->asked, &ctx->path);

    if (ctx->size) {
        ngx_http_hybrid_explain_out(ex, "which is %V for a prompt of this "
                                    "size\n", &ctx->model.brief);
    }

    if (ex->route) {
        ngx_http_hybrid_explain_out(ex, "hybrid_route %V\n",
                                    &ex->route->pattern.text);
    }

    for (i = 0; i < ctx->ncandidates; i++) {
        ngx_http_hybrid_explain_text_row(ex, &ctx->candidates[i], i + 1);
    }

    note = ex->notes.elts;

    for (i = 0; i < ex->notes.nelts; i++) {
        if (note[i].why) {
            ngx_http_hybrid_explain_out(ex, "-. %V: no candidate: %s (%s)\n",
                                        &note[i].backend->name,
                                  ngx_http_hybrid_explain_words(note[i].why),
                                        note[i].why);
        }
    }

    switch (ex->verdict) {

    case ngx_http_hybrid_explain_answer:
        ngx_http_hybrid_explain_out(ex, "it would be sent to %V\n",
                                    &ex->cand->backend->name);
        break;

    case ngx_http_hybrid_explain_wait:
        ngx_http_hybrid_explain_out(ex, "it would wait for a slot\n");
        break;

    default: /* ngx_http_hybrid_explain_refuse */
        ngx_http_hybrid_explain_out(ex, "it would be refused: %ui %V, %V\n",
                                    ex->status, &ctx->reason, &ctx->message);
    }
}


static void
ngx_http_hybrid_explain_text_row(ngx_http_hybrid_explain_t *ex,
    ngx_http_hybrid_candidate_t *cand, ngx_uint_t n)
{
    ngx_hybrid_model_t         *model;
    ngx_http_hybrid_backend_t  *backend;

    backend = cand->backend;
    model = cand->rename ? &cand->rename->model : &ex->ctx->model;

    ngx_http_hybrid_explain_out(ex, "%ui. %V: group %ui", n, &backend->name,
                                cand->group + 1);

    if (cand->rename) {
        ngx_http_hybrid_explain_out(ex, ", as %V", &model->brief);
    }

    ngx_http_hybrid_explain_out(ex, ", %s, %ui",
                  ngx_http_hybrid_catalogue_loaded(backend, model) ? "loaded"
                                                               : "not loaded",
                                ngx_hybrid_health_busy(backend->health));

    if (backend->slots) {
        ngx_http_hybrid_explain_out(ex, " of %ui slots", backend->slots);

    } else {
        ngx_http_hybrid_explain_out(ex, " in flight");
    }

    if (ngx_http_hybrid_explain_latency(backend) > 0) {
        ngx_http_hybrid_explain_out(ex, ", probe %.3f s",
                                    ngx_http_hybrid_explain_latency(backend));
    }

    if (cand->why) {
        ngx_http_hybrid_explain_out(ex, ": passed over: %s (%s)",
                                    ngx_http_hybrid_explain_words(cand->why),
                                    cand->why);
    }

    ngx_http_hybrid_explain_out(ex, "\n");
}


static void
ngx_http_hybrid_explain_json(ngx_http_hybrid_explain_t *ex)
{
    ngx_uint_t               i, n;
    ngx_http_hybrid_ctx_t   *ctx;
    ngx_http_hybrid_note_t  *note;

    static const char  *verdicts[] = { "refuse", "answer", "wait" };

    ctx = ex->ctx;
    n = 0;

    ngx_http_hybrid_explain_out(ex, "{\"client\":\"%V\",\"path\":\"%V\","
                                "\"asked\":\"%V\",\"model\":\"%V\",",
                                &ctx->client->name, &ctx->path, &ex->asked,
                                &ctx->model.brief);

    if (ex->route) {
        ngx_http_hybrid_explain_out(ex, "\"route\":\"%V\",\"candidates\":[",
                                    &ex->route->pattern.text);

    } else {
        ngx_http_hybrid_explain_out(ex, "\"route\":null,\"candidates\":[");
    }

    for (i = 0; i < ctx->ncandidates; i++) {
        ngx_http_hybrid_explain_out(ex, "%s\n", n++ ? "," : "");
        ngx_http_hybrid_explain_json_row(ex, &ctx->candidates[i], i + 1);
    }

    note = ex->notes.elts;

    for (i = 0; i < ex->notes.nelts; i++) {
        if (note[i].why) {
            ngx_http_hybrid_explain_out(ex, "%s\n{\"backend\":\"%V\","
                                        "\"group\":%ui,\"order\":null,"
                                        "\"why\":\"%s\",\"text\":\"%s\"}",
                                        n++ ? "," : "",
                                        &note[i].backend->name,
                                        note[i].group + 1, note[i].why,
                                 ngx_http_hybrid_explain_words(note[i].why));
        }
    }

    ngx_http_hybrid_explain_out(ex, "],\n\"verdict\":\"%s\",\"status\":",
                                verdicts[ex->verdict]);

    switch (ex->verdict) {

    case ngx_http_hybrid_explain_answer:
        ngx_http_hybrid_explain_out(ex, "200,\"backend\":\"%V\","
                                    "\"reason\":null,\"message\":null}\n",
                                    &ex->cand->backend->name);
        break;

    case ngx_http_hybrid_explain_wait:
        ngx_http_hybrid_explain_out(ex, "null,\"backend\":null,"
                                    "\"reason\":null,\"message\":null}\n");
        break;

    default: /* ngx_http_hybrid_explain_refuse */
        ngx_http_hybrid_explain_out(ex, "%ui,\"backend\":null,"
                                    "\"reason\":\"%V\",\"message\":\"%V\"}\n",
                                    ex->status, &ctx->reason, &ctx->message);
    }
}


static void
ngx_http_hybrid_explain_json_row(ngx_http_hybrid_explain_t *ex,
    ngx_http_hybrid_candidate_t *cand, ngx_uint_t n)
{
    ngx_hybrid_model_t         *model;
    ngx_http_hybrid_backend_t  *backend;

    backend = cand->backend;
    model = cand->rename ? &cand->rename->model : &ex->ctx->model;

    ngx_http_hybrid_explain_out(ex, "{\"backend\":\"%V\",\"group\":%ui,"
                                "\"order\":%ui,\"model\":\"%V\","
                                "\"loaded\":%s,\"in_flight\":%ui,"
                                "\"slots\":%ui,\"latency_seconds\":%.6f,",
                                &backend->name, cand->group + 1, n,
                                &model->brief,
                   ngx_http_hybrid_catalogue_loaded(backend, model) ? "true"
                                                                   : "false",
                                ngx_hybrid_health_busy(backend->health),
                                backend->slots,
                                ngx_http_hybrid_explain_latency(backend));

    if (cand->why) {
        ngx_http_hybrid_explain_out(ex, "\"why\":\"%s\",\"text\":\"%s\"}",
                                    cand->why,
                                    ngx_http_hybrid_explain_words(cand->why));

    } else {
        ngx_http_hybrid_explain_out(ex, "\"why\":null,\"text\":null}");
    }
}


static const char *
ngx_http_hybrid_explain_words(const char *code)
{
    const ngx_http_hybrid_explain_why_t  *why;

    for (why = ngx_http_hybrid_explain_whys; why->code.len; why++) {
        if (ngx_strcmp(why->code.data, code) == 0) {
            return why->text;
        }
    }

    return code;
}


/* seconds, of its fastest path that is up; 0: not known */

static double
ngx_http_hybrid_explain_latency(ngx_http_hybrid_backend_t *backend)
{
    ngx_uint_t         i;
    ngx_atomic_uint_t  usec, best;

    best = 0;

    for (i = 0; i < backend->npaths; i++) {
        usec = backend->paths[i]->latency;

        if (usec && !backend->paths[i]->down && (best == 0 || usec < best)) {
            best = usec;
        }
    }

    return (double) best / 1e6;
}


static void
ngx_http_hybrid_explain_out(ngx_http_hybrid_explain_t *ex, const char *fmt,
    ...)
{
    va_list  args;

    va_start(args, fmt);
    ex->pos = ngx_vslprintf(ex->pos, ex->end, fmt, args);
    va_end(args);
}
