
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * What a request takes, in tokens and in money: thought before, counted
 * after.  What the backend itself has told is right; the rest is an estimate,
 * and is said to be one.
 */


#include "ngx_http_hybrid_answer.h"
#include "ngx_http_hybrid_limits.h"


/* of a prompt, or of an answer that could not be looked into */
#define NGX_HTTP_HYBRID_TOKENS_BYTES  4

/* an answer whose client does not bound it, until we know better */
#define NGX_HTTP_HYBRID_TOKENS_OUTPUT  256

/* a client that bounds its answer to more has not bounded it */
#define NGX_HTTP_HYBRID_TOKENS_MAX    1000000000

/* more answers than anybody makes at once */
#define NGX_HTTP_HYBRID_TOKENS_N      128

/* tokens whose cost is still exact at the highest price */
#define NGX_HTTP_HYBRID_TOKENS_COST   ((uint64_t) 1000000 * 1000000)


static ngx_uint_t ngx_http_hybrid_usage_none(ngx_http_hybrid_ctx_t *ctx);
static ngx_uint_t ngx_http_hybrid_usage_path(ngx_http_hybrid_ctx_t *ctx,
    const char *path);
static uint64_t ngx_http_hybrid_usage_bound(ngx_http_hybrid_ctx_t *ctx);
static uint64_t ngx_http_hybrid_usage_larger(ngx_hybrid_json_value_t *one,
    ngx_hybrid_json_value_t *two);
static uint64_t ngx_http_hybrid_usage_number(ngx_hybrid_json_value_t *value);
static void ngx_http_hybrid_usage_input(ngx_http_hybrid_answer_t *a,
    ngx_http_hybrid_usage_t *usage);
static void ngx_http_hybrid_usage_output(ngx_http_hybrid_answer_t *a,
    ngx_http_hybrid_usage_t *usage);
static uint64_t ngx_http_hybrid_usage_seen(ngx_http_hybrid_answer_t *a);


void
ngx_http_hybrid_usage_estimate(ngx_http_hybrid_ctx_t *ctx, uint64_t *input,
    uint64_t *output)
{
    off_t                     size;
    ngx_http_hybrid_usage_t  *estimate;

    estimate = &ctx->estimate;

    if (!ctx->estimated && ctx->body) {
        ctx->estimated = 1;

        /* a form has sound or pictures, whose bytes tell nothing */

        if (ctx->body->form == NULL && !ngx_http_hybrid_usage_none(ctx)) {
            size = ctx->body->json.offset;

            estimate->input = (size + NGX_HTTP_HYBRID_TOKENS_BYTES - 1)
                              / NGX_HTTP_HYBRID_TOKENS_BYTES;
            estimate->output = ngx_http_hybrid_usage_bound(ctx);
        }
    }

    if (input) {
        *input = estimate->input;
    }

    if (output) {
        *output = estimate->output;
    }
}


/* what it does not say itself is as with the client's others */

void
ngx_http_hybrid_usage_expect(ngx_http_hybrid_ctx_t *ctx, uint64_t *input,
    uint64_t *output)
{
    ngx_http_hybrid_usage_estimate(ctx, input, output);

    if (*output == 0 && !ngx_http_hybrid_route_embeds(ctx)) {
        *output = ctx->client->shared->output;

        if (*output == 0) {
            *output = NGX_HTTP_HYBRID_TOKENS_OUTPUT;
        }
    }
}


/* no model is asked anything */

static ngx_uint_t
ngx_http_hybrid_usage_none(ngx_http_hybrid_ctx_t *ctx)
{
    static ngx_str_t  count = ngx_string(":countTokens");

    return ctx->endpoint->verb != NGX_HTTP_HYBRID_VERB_INFERENCE
           || ngx_http_hybrid_usage_path(ctx, "/v1/messages/count_tokens")
           || (ctx->google && ctx->google->action.len == count.len
               && ngx_memcmp(ctx->google->action.data, count.data, count.len)
                  == 0);
}


static ngx_uint_t
ngx_http_hybrid_usage_path(ngx_http_hybrid_ctx_t *ctx, const char *path)
{
    size_t            len;
    const ngx_str_t  *own;

    len = ngx_strlen(path);
    own = &ctx->endpoint->path;

    return own->len == len && ngx_memcmp(own->data, path, len) == 0;
}


/*
 * Only what the dialect of the request knows: something else is not read by
 * the backend, and would make a long answer look short.  Of two that it may
 * read the larger one counts.
 */

static uint64_t
ngx_http_hybrid_usage_bound(ngx_http_hybrid_ctx_t *ctx)
{
    uint64_t                  bound, n;
    ngx_hybrid_json_value_t  *values, *other;

    if (ngx_http_hybrid_route_embeds(ctx)) {
        return 0;
    }

    values = ctx->body->values;
    n = 1;

    switch (ctx->endpoint->dialect) {

    case ngx_http_hybrid_dialect_ollama:
        other = &values[NGX_HTTP_HYBRID_KEYS + NGX_HTTP_HYBRID_OPTION_PREDICT];
        bound = ngx_http_hybrid_usage_number(other);
        break;

    case ngx_http_hybrid_dialect_anthropic:
        other = &values[NGX_HTTP_HYBRID_KEY_MAX_TOKENS];
        bound = ngx_http_hybrid_usage_number(other);
        break;

    case ngx_http_hybrid_dialect_google:
        values += NGX_HTTP_HYBRID_GENERATION;
        bound = ngx_http_hybrid_usage_larger(&values[0], &values[2]);
        n = ngx_http_hybrid_usage_larger(&values[1], &values[3]);
        break;

    default: /* ngx_http_hybrid_dialect_openai */

        if (ngx_http_hybrid_usage_path(ctx, "/v1/responses")) {
            other = &values[NGX_HTTP_HYBRID_KEY_MAX_OUTPUT_TOKENS];
            bound = ngx_http_hybrid_usage_number(other);
            break;
        }

        other = &values[NGX_HTTP_HYBRID_KEY_MAX_COMPLETION_TOKENS];
        bound = ngx_http_hybrid_usage_larger(other,
                                    &values[NGX_HTTP_HYBRID_KEY_MAX_TOKENS]);
        n = ngx_http_hybrid_usage_number(&values[NGX_HTTP_HYBRID_KEY_N]);
        break;
    }

    n = ngx_min(ngx_max(n, 1), NGX_HTTP_HYBRID_TOKENS_N);

    return bound * n;
}


static uint64_t
ngx_http_hybrid_usage_larger(ngx_hybrid_json_value_t *one,
    ngx_hybrid_json_value_t *two)
{
    uint64_t  a, b;

    a = ngx_http_hybrid_usage_number(one);
    b = ngx_http_hybrid_usage_number(two);

    return ngx_max(a, b);
}


/* zero: it is not there, or no number of tokens; Google takes strings, too */

static uint64_t
ngx_http_hybrid_usage_number(ngx_hybrid_json_value_t *value)
{
    u_char      ch;
    uint64_t    n;
    ngx_uint_t  i;

    n = 0;

    if (value->type != NGX_HYBRID_JSON_T_NUMBER
        && value->type != NGX_HYBRID_JSON_T_STRING)
    {
        return 0;
    }

    for (i = 0; i < value->len; i++) {
        ch = value->data[i];

        if (ch < '0' || ch > '9') {
            return 0;
        }

        n = n * 10 + (ch - '0');
        n = ngx_min(n, NGX_HTTP_HYBRID_TOKENS_MAX);
    }

    return n;
}


/*
 * The client has been sent something of a good answer, or at least its header:
 * so the backend has read the prompt.  A try that the client has seen nothing
 * of does not count.
 */

ngx_int_t
ngx_http_hybrid_usage_now(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_usage_t *usage)
{
    ngx_http_hybrid_answer_t  *a;

    if (ctx->used) {
        *usage = ctx->usage;

    } else {
        ngx_memzero(usage, sizeof(ngx_http_hybrid_usage_t));
    }

    a = ctx->answer;

    if (a == NULL || !a->good || ngx_http_hybrid_usage_none(ctx)) {
        return NGX_DECLINED;
    }

    if (!ctx->used) {
        ngx_http_hybrid_usage_input(a, usage);
        ngx_http_hybrid_usage_output(a, usage);
    }

    return NGX_OK;
}


void
ngx_http_hybrid_usage_end(ngx_http_hybrid_ctx_t *ctx)
{
    ngx_http_hybrid_usage_t  usage;

    if (!ctx->used) {
        (void) ngx_http_hybrid_usage_now(ctx, &usage);

        ctx->usage = usage;
        ctx->used = 1;
    }
}


static void
ngx_http_hybrid_usage_input(ngx_http_hybrid_answer_t *a,
    ngx_http_hybrid_usage_t *usage)
{
    uint64_t             *numbers;
    ngx_hybrid_stream_t  *s;

    s = &a->stream;
    numbers = s->numbers;

    usage->input = numbers[ngx_hybrid_stream_input]
                   + numbers[ngx_hybrid_stream_tools];

    if (a->dialect == ngx_http_hybrid_dialect_anthropic) {

        /* what its cache has is not in the other one */

        usage->input += numbers[ngx_hybrid_stream_cache_write]
                        + numbers[ngx_hybrid_stream_cache_read];
    }

    if (usage->input) {
        usage->told_input = 1;

    } else if ((s->seen & NGX_HYBRID_STREAM_END)
               && (s->told & ngx_hybrid_stream_bit(input)))
    {
        usage->told_input = 1;

    } else {
        usage->input = a->ctx->estimate.input;
    }
}


/*
 * A number that comes before the end is one of the beginning (Anthropic), or
 * a zero that says nothing (OpenAI's completions), or counts on with the
 * stream (Gemini).
 */

static void
ngx_http_hybrid_usage_output(ngx_http_hybrid_answer_t *a,
    ngx_http_hybrid_usage_t *usage)
{
    uint64_t              told, seen;
    ngx_hybrid_stream_t  *s;

    s = &a->stream;

    if (ngx_http_hybrid_route_embeds(a->ctx)) {
        usage->told_output = usage->told_input;
        return;
    }

    told = s->numbers[ngx_hybrid_stream_output]
           + s->numbers[ngx_hybrid_stream_thoughts];

    if (s->seen & NGX_HYBRID_STREAM_END) {
        usage->told_output = (s->told & ngx_hybrid_stream_bit(output)) != 0;

    } else if (s->seen & NGX_HYBRID_STREAM_FINISH) {
        usage->told_output = (told != 0);
    }

    if (usage->told_output) {
        usage->output = told;
        return;
    }

    seen = ngx_http_hybrid_usage_seen(a);
    usage->output = ngx_max(told, seen);
}


/* what could not be read is taken to be like what was */

static uint64_t
ngx_http_hybrid_usage_seen(ngx_http_hybrid_answer_t *a)
{
    uint64_t  seen;

    seen = ngx_hybrid_stream_tokens(&a->stream);

    if (a->unread == 0) {
        return seen;
    }

    if (a->read == 0) {
        return a->unread / NGX_HTTP_HYBRID_TOKENS_BYTES;
    }

    return seen + (uint64_t) (seen * ((double) a->unread / a->read));
}


uint64_t
ngx_http_hybrid_usage_cost(ngx_http_hybrid_backend_t *backend, uint64_t input,
    uint64_t output)
{
    uint64_t  cost, rest;

    input = ngx_min(input, NGX_HTTP_HYBRID_TOKENS_COST);
    output = ngx_min(output, NGX_HTTP_HYBRID_TOKENS_COST);

    cost = input / 1000000 * backend->price_input
           + output / 1000000 * backend->price_output;

    rest = input % 1000000 * backend->price_input
           + output % 1000000 * backend->price_output;

    return cost + (rest + 999999) / 1000000;
}
