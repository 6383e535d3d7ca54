
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * The minutes of all gateways in Redis.
 *
 * An hour is the hash "<prefix>history:<hours since 1970>" with a field
 * "<minutes since 1970>:<gateway>" for each minute in which that gateway has
 * counted something: a text, see ngx_hybrid_history.h.  It lives for
 * NGX_HTTP_HYBRID_HISTORY_HOURS after the hour has begun.
 */


#ifndef _NGX_HTTP_HYBRID_HISTORY_H_INCLUDED_
#define _NGX_HTTP_HYBRID_HISTORY_H_INCLUDED_


#include "ngx_http_hybrid_stats.h"


/* 48 whole ones, and the one that it is now */
#define NGX_HTTP_HYBRID_HISTORY_HOURS  49

/* the key but for the prefix */
#define NGX_HTTP_HYBRID_HISTORY_KEY    (sizeof("history:") + NGX_INT32_LEN)

/* answers on their way to a worker that writes */
#define NGX_HTTP_HYBRID_HISTORY_MAX    4


typedef struct {
    ngx_http_hybrid_history_t     *history;
    ngx_uint_t                     segment;
    uint32_t                       generation;
    uint32_t                       changed;
    unsigned                       pending:1;
} ngx_http_hybrid_history_packet_t;


/* of a worker */

struct ngx_http_hybrid_history_s {
    ngx_http_hybrid_main_conf_t   *conf;
    ngx_event_t                    timer;
    ngx_hybrid_history_state_t     state;     /* for a moment, as is */
    u_char                        *text;      /* ... this */
    size_t                         size;
    u_char                        *key;
    uint32_t                       after;     /* the minute sent last */
    ngx_http_hybrid_history_packet_t  packets[NGX_HTTP_HYBRID_HISTORY_MAX];
    unsigned                       refused:1;
};


ngx_int_t ngx_http_hybrid_history_init_worker(
    ngx_http_hybrid_main_conf_t *hmcf, ngx_cycle_t *cycle);
void ngx_http_hybrid_history_exit_worker(ngx_http_hybrid_main_conf_t *hmcf);

/*
 * The text of a minute of this gateway, until the next call.  NGX_DECLINED:
 * there is none; history->state tells more.
 */
ngx_int_t ngx_http_hybrid_history_text(ngx_http_hybrid_history_t *history,
    ngx_uint_t segment, ngx_str_t *text);

/* writes the key of an hour at p; it has room for the prefix, too */
void ngx_http_hybrid_history_key(ngx_http_hybrid_main_conf_t *hmcf,
    uint32_t hour, ngx_str_t *key, u_char *p);

/* ?history=<hour>, as a content handler; alone: not of other gateways */
ngx_int_t ngx_http_hybrid_history_answer(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_str_t *hour, ngx_uint_t alone);


#endif /* _NGX_HTTP_HYBRID_HISTORY_H_INCLUDED_ */
