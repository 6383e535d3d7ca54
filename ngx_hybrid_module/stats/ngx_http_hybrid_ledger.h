
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Where a request's time went: what our own clock says, and of Ollama what it
 * tells in the last object of an answer (load_duration, prompt_eval_duration,
 * eval_duration, eval_count; docs/api.md of Ollama).
 */


#ifndef _NGX_HTTP_HYBRID_LEDGER_H_INCLUDED_
#define _NGX_HTTP_HYBRID_LEDGER_H_INCLUDED_


#include "ngx_http_hybrid_answer.h"


/* a model that took so long to load was not in memory, usec */
#define NGX_HTTP_HYBRID_LEDGER_COLD  500000

/* what a backend tells of its time is not believed above an hour, usec */
#define NGX_HTTP_HYBRID_LEDGER_MAX   3600000000ULL

/* tokens that come in less than so many msec say nothing of their rate */
#define NGX_HTTP_HYBRID_LEDGER_RATE  20


/*
 * total        from the request's headers to now
 * first_byte   from there to the header of the answer, failed tries included
 * connect      of the last try; zero on a connection that was kept
 * queue        waiting for limits and slots
 * load, prompt by Ollama's own clock
 * first_token  of a stream, from the last try's start
 * token        for each output token behind the first one; Ollama's own clock
 *              if it tells
 * body         that the request's body took to come, but for waiting, msec
 * failed       tries before the last one, msec
 * wait         of first_token what connect, load and prompt don't explain, msec
 */

typedef struct {
    uint64_t                   us[ngx_hybrid_timer_n];
    ngx_uint_t                 known;    /* bits of ngx_hybrid_timer_e */
    double                     rate;     /* output tokens a second, or zero */
    ngx_msec_t                 body;
    ngx_msec_t                 failed;
    ngx_msec_t                 wait;
    unsigned                   cold:1;
} ngx_http_hybrid_ledger_t;


typedef enum {
    ngx_http_hybrid_ledger_var_load_time = 0,
    ngx_http_hybrid_ledger_var_prompt_time,
    ngx_http_hybrid_ledger_var_connect_time,
    ngx_http_hybrid_ledger_var_first_byte_time,
    ngx_http_hybrid_ledger_var_time_per_token,
    ngx_http_hybrid_ledger_var_tokens_per_second,
    ngx_http_hybrid_ledger_var_cold,
    ngx_http_hybrid_ledger_var_outcome,
    ngx_http_hybrid_ledger_var_fallback,
    ngx_http_hybrid_ledger_var_retries,
    ngx_http_hybrid_ledger_var_body_time,
    ngx_http_hybrid_ledger_var_failed_time
} ngx_http_hybrid_ledger_var_e;


/* a variable's handler; data is which */
ngx_int_t ngx_http_hybrid_ledger_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);

/* of a request with tries, as far as it has come */
void ngx_http_hybrid_ledger(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_http_hybrid_ledger_t *ledger);

/* stats/ngx_http_hybrid_stats.c; final in the log phase */
ngx_hybrid_outcome_e ngx_http_hybrid_stats_outcome(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx);


#endif /* _NGX_HTTP_HYBRID_LEDGER_H_INCLUDED_ */
