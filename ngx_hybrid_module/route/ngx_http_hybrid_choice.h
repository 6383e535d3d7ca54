
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Which of the candidates is the better one now, and what is learned from
 * each try: in-flight counts, time to first token, breakers.
 */


#ifndef _NGX_HTTP_HYBRID_CHOICE_H_INCLUDED_
#define _NGX_HTTP_HYBRID_CHOICE_H_INCLUDED_


#include "ngx_http_hybrid_module.h"


ngx_int_t ngx_http_hybrid_choice_init_worker(
    ngx_http_hybrid_main_conf_t *hmcf, ngx_cycle_t *cycle);

/* puts n equals in order, the best first */
void ngx_http_hybrid_choice_order(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_candidate_t *cand, ngx_uint_t n);

/*
 * Before a try.  NULL: the candidate is taken, and counted until
 * ngx_http_hybrid_choice_free(); else why it is not, a code for
 * X-Hybrid-Fallback.  With "last" also one that may not answer is taken.
 */
const char *ngx_http_hybrid_choice_take(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_candidate_t *cand, ngx_uint_t last);

/* what that would say now, but for the model's breaker; nothing is taken */
const char *ngx_http_hybrid_choice_shut(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_candidate_t *cand, ngx_uint_t last);

void ngx_http_hybrid_choice_free(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_candidate_t *cand);

/* why it makes no sense to wait for it, else NULL */
const char *ngx_http_hybrid_choice_closed(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_candidate_t *cand);

/* one whose slot was taken; NULL, or why it is not there any more */
const char *ngx_http_hybrid_choice_admit(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_candidate_t *cand);

/* usec that a request takes there, of late, 0: not known */
ngx_atomic_uint_t ngx_http_hybrid_choice_service(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_candidate_t *cand);

/* it ends with its slot: the time that it took is remembered */
void ngx_http_hybrid_choice_served(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_candidate_t *cand);

ngx_hybrid_pair_t *ngx_http_hybrid_choice_pair(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_candidate_t *cand, ngx_uint_t make);

/* the model is not in its memory, as far as we know */
ngx_uint_t ngx_http_hybrid_choice_unloaded(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_candidate_t *cand);

/* one of its paths is, and "fast": not slow */
ngx_uint_t ngx_http_hybrid_choice_alive(ngx_http_hybrid_backend_t *backend,
    ngx_uint_t *fast);

/* not now: the operator, its quota, or no path that is alive */
const char *ngx_http_hybrid_choice_away(ngx_http_hybrid_backend_t *backend,
    ngx_msec_t *left);

/* a try has failed: status is the backend's or 0, no answer */
void ngx_http_hybrid_choice_failed(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_candidate_t *cand, ngx_uint_t status);

/* the request ends with this candidate's answer */
void ngx_http_hybrid_choice_ended(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_candidate_t *cand);

/* the first token of an answer has come, and bytes of any */
void ngx_http_hybrid_choice_token(ngx_http_hybrid_ctx_t *ctx);
void ngx_http_hybrid_choice_progress(ngx_http_hybrid_ctx_t *ctx);

/* the provider says that there is no more money: it is not asked for a while */
void ngx_http_hybrid_choice_block(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_candidate_t *cand);


#endif /* _NGX_HTTP_HYBRID_CHOICE_H_INCLUDED_ */
