
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * What numbers of series are called.  Their places are fields in Redis, where
 * older gateways add to them, too: a new one comes last.
 */


#include "ngx_http_hybrid_stats.h"


ngx_str_t  ngx_http_hybrid_outcome_names[] = {
    ngx_string("ok"),
    ngx_string("client_error"),
    ngx_string("backend_error"),
    ngx_string("broken"),
    ngx_string("client_closed"),
    ngx_string("unauthorized"),
    ngx_string("denied"),
    ngx_string("limited"),
    ngx_string("unavailable")
};


ngx_str_t  ngx_http_hybrid_timer_names[] = {
    ngx_string("request_duration"),
    ngx_string("time_to_first_byte"),
    ngx_string("connect"),
    ngx_string("queue"),
    ngx_string("load"),
    ngx_string("prompt"),
    ngx_string("time_to_first_token"),
    ngx_string("time_per_output_token")
};


/* of counts behind those of outcomes */

ngx_str_t  ngx_http_hybrid_count_names[] = {
    ngx_string("fallbacks"),
    ngx_string("shadowed_unauthenticated"),
    ngx_string("shadowed_verb"),
    ngx_string("shadowed_model_denied"),
    ngx_string("shadowed_keep_alive"),
    ngx_string("shadowed_options"),
    ngx_string("shadowed_rate_limited"),
    ngx_string("shadowed_limits_unavailable"),
    ngx_string("shadowed_tokens_limited"),
    ngx_string("shadowed_budget_exceeded"),
    ngx_string("shadowed_concurrency_limited"),
    ngx_string("cold_starts"),
    ngx_string("retries"),
    ngx_string("input_tokens"),
    ngx_string("output_tokens"),
    ngx_string("body_milliseconds"),
    ngx_string("failed_tries_milliseconds"),
    ngx_string("first_token_wait_milliseconds")
};


/* X-Hybrid-Reason; the first one stands for all that are not here */

static ngx_str_t  ngx_http_hybrid_reasons[] = {
    ngx_string("other"),
    ngx_string("unauthenticated"),
    ngx_string("client_unknown"),
    ngx_string("client_ambiguous"),
    ngx_string("client_unavailable"),
    ngx_string("issuer_unavailable"),
    ngx_string("shared"),
    ngx_string("verb"),
    ngx_string("method"),
    ngx_string("endpoint"),
    ngx_string("not_found"),
    ngx_string("forbidden"),
    ngx_string("query"),
    ngx_string("bad_request"),
    ngx_string("request_timeout"),
    ngx_string("body_too_large"),
    ngx_string("content_encoding"),
    ngx_string("content_type"),
    ngx_string("invalid_body"),
    ngx_string("unexpected_body"),
    ngx_string("ambiguous_model"),
    ngx_string("model_required"),
    ngx_string("invalid_model"),
    ngx_string("invalid_name"),
    ngx_string("model_denied"),
    ngx_string("model_not_found"),
    ngx_string("model_unavailable"),
    ngx_string("embedding_model"),
    ngx_string("virtual_model"),
    ngx_string("egress"),
    ngx_string("options"),
    ngx_string("keep_alive"),
    ngx_string("rate_limited"),
    ngx_string("tokens_limited"),
    ngx_string("budget_exceeded"),
    ngx_string("concurrency_limited"),
    ngx_string("queue_full"),
    ngx_string("limits_unavailable"),
    ngx_string("busy"),
    ngx_string("drained"),
    ngx_string("unavailable"),
    ngx_string("internal"),
    ngx_string("backend_error"),
    ngx_string("backend_timeout"),
    ngx_null_string
};


ngx_uint_t
ngx_http_hybrid_reason_number(ngx_str_t *reason)
{
    ngx_uint_t  i;
    ngx_str_t  *name;

    for (i = 1; ngx_http_hybrid_reasons[i].len; i++) {
        name = &ngx_http_hybrid_reasons[i];

        if (name->len == reason->len
            && ngx_memcmp(name->data, reason->data, reason->len) == 0)
        {
            return i;
        }
    }

    return 0;
}


/* NULL: there is no such number, nor a greater one */

ngx_str_t *
ngx_http_hybrid_reason_name(ngx_uint_t number)
{
    if (number >= sizeof(ngx_http_hybrid_reasons) / sizeof(ngx_str_t) - 1) {
        return NULL;
    }

    return &ngx_http_hybrid_reasons[number];
}
