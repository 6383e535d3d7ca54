
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Headers that tell a client of its limits: those of the IETF's draft
 * "RateLimit header fields for HTTP" in all dialects, and what OpenAI's and
 * Anthropic's clients know.  They are on all answers to a request that was
 * subject to a limit, as those two have it.
 */


#include "ngx_http_hybrid_lease.h"
#include "ngx_http_hybrid_limits.h"


/* bytes of the values of all headers of an answer, and of a policy */
#define NGX_HTTP_HYBRID_RATELIMIT_TEXT    768
#define NGX_HTTP_HYBRID_RATELIMIT_POLICY  512


typedef struct {
    ngx_http_request_t         *request;
    ngx_http_hybrid_ctx_t      *ctx;
    u_char                     *pos;
    uint64_t                    left[NGX_HTTP_HYBRID_LIMITS];
    uint64_t                    reset[NGX_HTTP_HYBRID_LIMITS];
    ngx_uint_t                  given;    /* bits: there is this limit */
    ngx_uint_t                  hit;      /* bits: it is why the answer is */
} ngx_http_hybrid_ratelimit_t;


/* of a limit in a dialect */

typedef struct {
    const char                 *limit;
    const char                 *remaining;
    const char                 *reset;
} ngx_http_hybrid_ratelimit_names_t;


static void ngx_http_hybrid_ratelimit_read(ngx_http_hybrid_ratelimit_t *rl);
static ngx_int_t ngx_http_hybrid_ratelimit_draft(
    ngx_http_hybrid_ratelimit_t *rl);
static ngx_int_t ngx_http_hybrid_ratelimit_dialect(
    ngx_http_hybrid_ratelimit_t *rl, ngx_uint_t n,
    ngx_http_hybrid_ratelimit_names_t *names, ngx_uint_t anthropic);
static ngx_int_t ngx_http_hybrid_ratelimit_number(
    ngx_http_hybrid_ratelimit_t *rl, const char *name, uint64_t n);
static u_char *ngx_http_hybrid_ratelimit_duration(u_char *p, uint64_t usec);
static u_char *ngx_http_hybrid_ratelimit_date(u_char *p, uint64_t usec);


/* in the order of ngx_hybrid_meter_e */

static ngx_http_hybrid_ratelimit_names_t  ngx_http_hybrid_openai_names[] = {
    { "x-ratelimit-limit-requests", "x-ratelimit-remaining-requests",
      "x-ratelimit-reset-requests" },
    { "x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens",
      "x-ratelimit-reset-tokens" }
};

static ngx_http_hybrid_ratelimit_names_t  ngx_http_hybrid_anthropic_names[] = {
    { "anthropic-ratelimit-requests-limit",
      "anthropic-ratelimit-requests-remaining",
      "anthropic-ratelimit-requests-reset" },
    { "anthropic-ratelimit-tokens-limit",
      "anthropic-ratelimit-tokens-remaining",
      "anthropic-ratelimit-tokens-reset" }
};


/* it does not change while the client lives */

ngx_int_t
ngx_http_hybrid_ratelimit_policy(ngx_http_hybrid_client_t *client,
    ngx_pool_t *pool, ngx_str_t *policy)
{
    u_char                   *p, *last;
    ngx_uint_t                i;
    ngx_http_hybrid_limit_t  *limit;

    p = ngx_pnalloc(pool, NGX_HTTP_HYBRID_RATELIMIT_POLICY);
    if (p == NULL) {
        return NGX_ERROR;
    }

    policy->data = p;
    last = p + NGX_HTTP_HYBRID_RATELIMIT_POLICY;

    for (i = 0; i < NGX_HTTP_HYBRID_LIMITS; i++) {

        limit = (i == NGX_HTTP_HYBRID_LIMIT_SLOTS) ? &client->concurrency
                                                   : &client->limits[i];
        if (limit->quota == 0) {
            continue;
        }

        p = ngx_slprintf(p, last, "%s\"%V\";q=%uL",
                         p == policy->data ? "" : ", ",
                         &ngx_http_hybrid_limit_names[i], limit->quota);

        if (limit->window && !limit->monthly) {
            p = ngx_slprintf(p, last, ";w=%ui", limit->window);
        }

        /* the draft has no unit for these, what is unknown is ignored */

        switch (i) {

        case ngx_hybrid_meter_tokens:
            p = ngx_slprintf(p, last, ";hybrid-unit=\"tokens\"");
            break;

        case ngx_hybrid_meter_budget:
            p = ngx_slprintf(p, last, ";hybrid-unit=\"millionths\"%s",
                             limit->monthly ? ";hybrid-period=\"month\"" : "");
            break;

        case NGX_HTTP_HYBRID_LIMIT_SLOTS:
            p = ngx_slprintf(p, last, ";qu=\"concurrent-requests\"");
            continue;
        }

        if (limit->burst != limit->quota) {
            p = ngx_slprintf(p, last, ";hybrid-burst=%uL", limit->burst);
        }
    }

    policy->len = p - policy->data;

    return NGX_OK;
}


ngx_int_t
ngx_http_hybrid_limit_headers(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx)
{
    ngx_uint_t                          i;
    ngx_http_hybrid_dialect_e           dialect;
    ngx_http_hybrid_ratelimit_t         rl;
    ngx_http_hybrid_ratelimit_names_t  *names;

    if (!ctx->metered || ctx->client->lease == NULL) {
        return NGX_OK;
    }

    rl.request = r;
    rl.ctx = ctx;

    rl.pos = ngx_pnalloc(r->pool, NGX_HTTP_HYBRID_RATELIMIT_TEXT);
    if (rl.pos == NULL) {
        return NGX_ERROR;
    }

    ngx_http_hybrid_ratelimit_read(&rl);

    if (ngx_http_hybrid_ratelimit_draft(&rl) != NGX_OK) {
        return NGX_ERROR;
    }

    dialect = ctx->endpoint->dialect;

    if (dialect == ngx_http_hybrid_dialect_anthropic) {
        names = ngx_http_hybrid_anthropic_names;

    } else if (dialect == ngx_http_hybrid_dialect_openai || rl.hit) {

        /* a refusal: Ollama and Google have none of their own */

        names = ngx_http_hybrid_openai_names;

    } else {
        return NGX_OK;
    }

    for (i = ngx_hybrid_meter_rate; i <= ngx_hybrid_meter_tokens; i++) {
        if ((rl.given & (1 << i))
            && ngx_http_hybrid_ratelimit_dialect(&rl, i, &names[i],
                              dialect == ngx_http_hybrid_dialect_anthropic)
               != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static void
ngx_http_hybrid_ratelimit_read(ngx_http_hybrid_ratelimit_t *rl)
{
    ngx_uint_t                i, redis, closed, hit;
    ngx_http_hybrid_ctx_t    *ctx;
    ngx_http_hybrid_left_t    left;
    ngx_http_hybrid_limit_t  *limit;

    ctx = rl->ctx;

    redis = ctx->conf->redis && !ctx->degraded;
    closed = ctx->verdict == NGX_HTTP_SERVICE_UNAVAILABLE && ctx->degraded
             && ctx->loss == ngx_http_hybrid_loss_closed;

    hit = ctx->hit_slot ? NGX_HTTP_HYBRID_LIMIT_SLOTS : ctx->hit_meter;

    rl->given = 0;
    rl->hit = 0;

    for (i = 0; i < NGX_HTTP_HYBRID_LIMITS; i++) {

        if (ngx_http_hybrid_limit_left(ctx->client->shared, i, redis, &left)
            != NGX_OK)
        {
            continue;
        }

        rl->given |= 1 << i;
        rl->left[i] = left.left;
        rl->reset[i] = left.reset;

        limit = (i == NGX_HTTP_HYBRID_LIMIT_SLOTS) ? &ctx->client->concurrency
                                                   : &ctx->client->limits[i];

        if (closed) {
            if (limit->loss != ngx_http_hybrid_loss_closed) {
                continue;
            }

            /* it can't be told, and nothing passes */

            rl->left[i] = 0;

        } else if (!ctx->limit_hit || i != hit) {
            continue;

        } else if (i != ngx_hybrid_meter_tokens
                   && i != ngx_hybrid_meter_budget)
        {
            rl->left[i] = 0;
        }

        /* as Retry-After, which must not be earlier */

        rl->hit |= 1 << i;
        rl->reset[i] = (uint64_t) ngx_max(ctx->retry_after, 1) * 1000000;
    }
}


/*
 * "t" is until all is there again; when a limit refuses, until that lets the
 * request pass.  Other errors have a Retry-After of their own, or none.
 */

static ngx_int_t
ngx_http_hybrid_ratelimit_draft(ngx_http_hybrid_ratelimit_t *rl)
{
    ngx_str_t            value;
    ngx_uint_t           i, passed;
    ngx_http_request_t  *r;

    r = rl->request;

    if (ngx_http_hybrid_add_header(r, "RateLimit-Policy",
                                   &rl->ctx->client->lease->policy)
        == NULL)
    {
        return NGX_ERROR;
    }

    passed = r->headers_out.status < NGX_HTTP_BAD_REQUEST;

    value.data = rl->pos;

    for (i = 0; i < NGX_HTTP_HYBRID_LIMITS; i++) {

        if (!(rl->given & (1 << i))) {
            continue;
        }

        rl->pos = ngx_sprintf(rl->pos, "%s\"%V\";r=%uL",
                              rl->pos == value.data ? "" : ", ",
                              &ngx_http_hybrid_limit_names[i], rl->left[i]);

        if ((rl->hit & (1 << i))
            || (passed && i != NGX_HTTP_HYBRID_LIMIT_SLOTS))
        {
            rl->pos = ngx_sprintf(rl->pos, ";t=%uL",
                                  (rl->reset[i] + 999999) / 1000000);
        }
    }

    value.len = rl->pos - value.data;

    if (ngx_http_hybrid_add_header(r, "RateLimit", &value) == NULL) {
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_hybrid_ratelimit_dialect(ngx_http_hybrid_ratelimit_t *rl,
    ngx_uint_t n, ngx_http_hybrid_ratelimit_names_t *names,
    ngx_uint_t anthropic)
{
    ngx_str_t  value;

    if (ngx_http_hybrid_ratelimit_number(rl, names->limit,
                                         rl->ctx->client->limits[n].quota)
        != NGX_OK
        || ngx_http_hybrid_ratelimit_number(rl, names->remaining, rl->left[n])
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    value.data = rl->pos;

    rl->pos = anthropic
              ? ngx_http_hybrid_ratelimit_date(rl->pos, rl->reset[n])
              : ngx_http_hybrid_ratelimit_duration(rl->pos, rl->reset[n]);

    value.len = rl->pos - value.data;

    if (ngx_http_hybrid_add_header(rl->request, names->reset, &value) == NULL)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_hybrid_ratelimit_number(ngx_http_hybrid_ratelimit_t *rl,
    const char *name, uint64_t n)
{
    ngx_str_t  value;

    value.data = rl->pos;
    rl->pos = ngx_sprintf(rl->pos, "%uL", n);
    value.len = rl->pos - value.data;

    if (ngx_http_hybrid_add_header(rl->request, name, &value) == NULL) {
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* as Go writes it: "12ms", "8s", "6m0s", "1h0m0s" */

static u_char *
ngx_http_hybrid_ratelimit_duration(u_char *p, uint64_t usec)
{
    uint64_t  n;

    n = (usec + 999) / 1000;

    if (n < 1000) {
        return ngx_sprintf(p, "%uL%s", n, n ? "ms" : "s");
    }

    n = (n + 999) / 1000;

    if (n >= 3600) {
        p = ngx_sprintf(p, "%uLh", n / 3600);
    }

    if (n >= 60) {
        p = ngx_sprintf(p, "%uLm", n / 60 % 60);
    }

    return ngx_sprintf(p, "%uLs", n % 60);
}


/* RFC 3339 */

static u_char *
ngx_http_hybrid_ratelimit_date(u_char *p, uint64_t usec)
{
    ngx_tm_t  tm;

    ngx_gmtime(ngx_time() + (time_t) ((usec + 999999) / 1000000), &tm);

    return ngx_sprintf(p, "%04d-%02d-%02dT%02d:%02d:%02dZ", tm.ngx_tm_year,
                       tm.ngx_tm_mon, tm.ngx_tm_mday, tm.ngx_tm_hour,
                       tm.ngx_tm_min, tm.ngx_tm_sec);
}
