
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
void ngx_http_hybrid_choice_free(ngx_http_hybrid_candidate_t *cand);

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
