
/* link: stats/ngx_http_hybrid_tokens.c route/ngx_http_hybrid_body.c
 *       core/ngx_http_hybrid_conf_options.c core/ngx_http_hybrid_conf_price.c
 *       core/ngx_hybrid_json.c core/ngx_hybrid_json_key.c
 *       core/ngx_hybrid_json_token.c core/ngx_hybrid_json_skip.c
 *       tokens_stubs.c
 */

/* estimates of requests before they are sent, prices, and what things cost */


#include "ngx_http_hybrid_answer.h"
#include "ngx_http_hybrid_conf.h"

#include <stdio.h>
#include <stdlib.h>

#include "tap.h"


#define ollama     ngx_http_hybrid_dialect_ollama
#define openai     ngx_http_hybrid_dialect_openai
#define anthropic  ngx_http_hybrid_dialect_anthropic
#define google     ngx_http_hybrid_dialect_google

#define CHAT       "/v1/chat/completions"
#define G(s)       "{\"generationConfig\":{" s "}}"


typedef struct {
    ngx_http_hybrid_dialect_e   dialect;
    const char                 *path;
    const char                 *body;
    uint64_t                    output;
} test_case_t;


static test_case_t  test_cases[] = {

    { ollama, "/api/chat", "{\"options\":{\"num_predict\":7}}", 7 },
    { ollama, "/api/chat", "{\"options\":{\"num_predict\":-1}}", 0 },
    { ollama, "/api/chat", "{\"options\":{\"num_predict\":1.5}}", 0 },
    { ollama, "/api/chat", "{\"options\":null}", 0 },
    { ollama, "/api/chat", "{}", 0 },
    { ollama, "/api/chat", "{\"max_tokens\":7,\"num_predict\":7,\"n\":2}", 0 },
    { ollama, "/api/chat", "{\"max_tokens\":7,\"n\":9,\"options\":"
                           "{\"num_ctx\":9,\"num_predict\":8}}", 8 },
    { ollama, "/api/embed", "{\"options\":{\"num_predict\":7}}", 0 },

    { openai, CHAT, "{\"max_tokens\":7}", 7 },
    { openai, CHAT, "{\"max_completion_tokens\":7}", 7 },
    { openai, CHAT, "{\"max_tokens\":7,\"max_completion_tokens\":8}", 8 },
    { openai, CHAT, "{\"max_tokens\":8,\"max_completion_tokens\":7}", 8 },
    { openai, CHAT, "{\"max_tokens\":7,\"n\":3}", 21 },
    { openai, CHAT, "{\"max_tokens\":7,\"n\":0}", 7 },
    { openai, CHAT, "{\"max_tokens\":7,\"n\":-2}", 7 },
    { openai, CHAT, "{\"max_tokens\":7,\"n\":1000000}", 7 * 128 },
    { openai, CHAT, "{\"n\":3}", 0 },
    { openai, CHAT, "{\"max_output_tokens\":7,\"options\":"
                    "{\"num_predict\":9}}", 0 },
    { openai, CHAT, "{\"max_tokens\":null,\"n\":null}", 0 },
    { openai, CHAT, "{\"max_tokens\":[7]}", 0 },
    { openai, CHAT, "{\"max_tokens\":7e3}", 0 },
    { openai, CHAT, "{\"max_tokens\":1000000001}", 1000000000 },
    { openai, CHAT, "{\"max_tokens\":99999999999999999999999}", 1000000000 },
    { openai, "/v1/completions", "{\"max_tokens\":7}", 7 },
    { openai, "/v1/responses", "{\"max_output_tokens\":7,\"n\":2,"
                               "\"max_tokens\":9}", 7 },
    { openai, "/v1/embeddings", "{\"max_tokens\":7}", 0 },

    { anthropic, "/v1/messages", "{\"max_tokens\":7,\"n\":3}", 7 },

    { google, "/v1beta/models/", G("\"maxOutputTokens\":7"), 7 },
    { google, "/v1beta/models/", G("\"maxOutputTokens\":\"7\""), 7 },
    { google, "/v1beta/models/", G("\"max_output_tokens\":7"), 0 },
    { google, "/v1beta/models/", G("\"candidateCount\":2,\"x\":{},"
                                   "\"maxOutputTokens\":7"), 14 },
    { google, "/v1beta/models/", "{\"generation_config\":{"
      "\"max_output_tokens\":8,\"candidate_count\":2},\"generationConfig\":"
      "{\"maxOutputTokens\":7}}", 16 },
    { google, "/v1beta/models/", "{\"max_tokens\":7,\"n\":2}", 0 },
};


static void test_case(test_case_t *tc);
static void test_form(void);
static void test_prices(void);
static void test_costs(void);


int
main(void)
{
    ngx_uint_t  i;

    for (i = 0; i < sizeof(test_cases) / sizeof(test_cases[0]); i++) {
        test_case(&test_cases[i]);
    }

    test_form();
    test_prices();
    test_costs();

    return tap_end();
}


static void
test_case(test_case_t *tc)
{
    size_t                      len;
    uint64_t                    input, output;
    ngx_log_t                   log;
    ngx_connection_t            c;
    ngx_http_request_t          r;
    ngx_http_hybrid_ctx_t       ctx;
    ngx_http_hybrid_endpoint_t  endpoint;

    ngx_memzero(&log, sizeof(ngx_log_t));
    ngx_memzero(&c, sizeof(ngx_connection_t));
    ngx_memzero(&r, sizeof(ngx_http_request_t));
    ngx_memzero(&ctx, sizeof(ngx_http_hybrid_ctx_t));
    ngx_memzero(&endpoint, sizeof(ngx_http_hybrid_endpoint_t));

    c.log = &log;
    r.connection = &c;

    len = ngx_strlen(tc->body);
    endpoint.path.data = (u_char *) tc->path;
    endpoint.path.len = ngx_strlen(tc->path);
    endpoint.dialect = tc->dialect;
    endpoint.verb = NGX_HTTP_HYBRID_VERB_INFERENCE;
    ctx.endpoint = &endpoint;

    if (ngx_http_hybrid_body_init(&r, &ctx) != NGX_OK
        || ngx_hybrid_json_feed(&ctx.body->json, (u_char *) tc->body, len)
           != NGX_OK
        || ngx_hybrid_json_finish(&ctx.body->json) != NGX_OK)
    {
        test_ok(0, tc->body);
        return;
    }

    ngx_http_hybrid_usage_estimate(&ctx, &input, &output);

    if (output != tc->output || input != (len + 3) / 4) {
        printf("# got %lu and %lu, wanted %lu\n", (unsigned long) input,
               (unsigned long) output, (unsigned long) tc->output);
    }

    test_ok(output == tc->output && input == (len + 3) / 4, tc->body);

    /* and it stays, when the body is gone */

    ngx_http_hybrid_body_free(&ctx);
    ngx_http_hybrid_usage_estimate(&ctx, &input, NULL);

    test_ok(input == (len + 3) / 4, "without the body");
}


static void
test_form(void)
{
    uint64_t                    input, output;
    ngx_http_hybrid_ctx_t       ctx;
    ngx_http_hybrid_body_t      body;
    ngx_http_hybrid_endpoint_t  endpoint;

    ngx_memzero(&ctx, sizeof(ngx_http_hybrid_ctx_t));
    ngx_memzero(&body, sizeof(ngx_http_hybrid_body_t));
    ngx_memzero(&endpoint, sizeof(ngx_http_hybrid_endpoint_t));

    ctx.body = &body;
    ctx.endpoint = &endpoint;
    endpoint.verb = NGX_HTTP_HYBRID_VERB_INFERENCE;
    body.json.offset = 1000;
    body.form = (void *) &body;

    ngx_http_hybrid_usage_estimate(&ctx, &input, &output);
    test_ok(input == 0 && output == 0, "a form");

    body.form = NULL;
    ctx.estimated = 0;
    endpoint.verb = NGX_HTTP_HYBRID_VERB_READ;

    ngx_http_hybrid_usage_estimate(&ctx, &input, &output);
    test_ok(input == 0, "no inference");

    ngx_http_hybrid_usage_end(&ctx);
    test_ok(ctx.usage.input == 0 && ctx.usage.output == 0
            && !ctx.usage.told_input, "nobody has answered");
}


static void
test_prices(void)
{
    uint64_t     micro;
    ngx_str_t    text;
    ngx_uint_t   i, ok;

    static struct {
        const char  *text;
        uint64_t     micro;
    } good[] = {
        { "0", 0 }, { "1", 1000000 }, { "0.10", 100000 }, { "007", 7000000 },
        { "0.000001", 1 }, { "1.000000", 1000000 }, { "0.400001", 400001 },
        { "100000", 100000 * (uint64_t) 1000000 }, { "12.5", 12500000 }
    };

    static const char  *bad[] = {
        "", ".", "1.", ".5", "-1", "+1", "1e3", "1,5", " 1", "1 ", "0x1",
        "0.0000001", "100000.000001", "100001", "18446744073709551617",
        "1.-5", "1..5", "1.5k"
    };

    ok = 1;

    for (i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        text.data = (u_char *) good[i].text;
        text.len = ngx_strlen(text.data);

        ok &= ngx_http_hybrid_conf_money(&text, 100000, &micro) == NGX_OK
              && micro == good[i].micro;
    }

    test_ok(ok, "prices");

    ok = 1;

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        text.data = (u_char *) bad[i];
        text.len = ngx_strlen(text.data);

        ok &= ngx_http_hybrid_conf_money(&text, 100000, &micro) == NGX_ERROR;
    }

    test_ok(ok, "no prices");
}


static void
test_costs(void)
{
    ngx_http_hybrid_backend_t  b;

    ngx_memzero(&b, sizeof(ngx_http_hybrid_backend_t));

    test_ok(ngx_http_hybrid_usage_cost(&b, 1000000, 1000000) == 0, "free");

    b.price_input = 100000;
    b.price_output = 400001;

    test_ok(ngx_http_hybrid_usage_cost(&b, 0, 0) == 0, "nothing");
    test_ok(ngx_http_hybrid_usage_cost(&b, 1, 0) == 1, "up");
    test_ok(ngx_http_hybrid_usage_cost(&b, 10, 0) == 1, "exactly");
    test_ok(ngx_http_hybrid_usage_cost(&b, 5, 1) == 1, "once for both");
    test_ok(ngx_http_hybrid_usage_cost(&b, 3000000, 2000000) == 1100002,
            "millions");
    test_ok(ngx_http_hybrid_usage_cost(&b, 999999, 1000001) == 500002,
            "around a million");

    b.price_input = 100000 * (uint64_t) 1000000;
    b.price_output = b.price_input;

    test_ok(ngx_http_hybrid_usage_cost(&b, UINT64_MAX, UINT64_MAX)
            == 2 * (uint64_t) 100000000000000000, "no overflow");
    test_ok(ngx_http_hybrid_usage_cost(&b, 1000000000, 1)
            == 100000000000000 + 100000, "a billion");
}


/* what they ask of others */

ngx_uint_t
ngx_http_hybrid_route_embeds(ngx_http_hybrid_ctx_t *ctx)
{
    return ngx_strstr(ctx->endpoint->path.data, "embed") != NULL;
}


uint64_t
ngx_hybrid_stream_tokens(ngx_hybrid_stream_t *s)
{
    abort();
}


void
ngx_http_hybrid_size_measure(ngx_http_hybrid_ctx_t *ctx)
{
}


ngx_int_t
ngx_http_hybrid_refuse(ngx_http_hybrid_ctx_t *ctx, ngx_int_t status,
    const char *reason, const char *message)
{
    return status;
}


void *
ngx_alloc(size_t size, ngx_log_t *log)
{
    return malloc(size);
}
