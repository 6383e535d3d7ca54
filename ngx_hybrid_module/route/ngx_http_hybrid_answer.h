
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * What happens between a backend's answer and the client: is it one to pass
 * on (answer), has it really begun (barrier), does it go on and end well
 * (stream), and what the client gets while there is none (heartbeat).
 */


#ifndef _NGX_HTTP_HYBRID_ANSWER_H_INCLUDED_
#define _NGX_HTTP_HYBRID_ANSWER_H_INCLUDED_


#include "ngx_http_hybrid_body.h"
#include "ngx_http_hybrid_choice.h"
#include "ngx_hybrid_stream.h"


/* bytes of an error, or of an event, until it is known what it is */
#define NGX_HTTP_HYBRID_ANSWER_KEEP  4096

/*
 * An answer whose header is there, but is not told to nginx yet: nothing is
 * sent to the client, and when the connection fails nginx goes on to the next
 * peer by itself.  nginx asks only when it has received something, so its
 * buffer lacks the last byte, which "recv" gives back when the time is up.
 */

typedef struct {
    ngx_recv_pt                    recv;     /* the connection's own */
    ngx_event_t                    timer;
    ngx_connection_t              *connection;
    u_char                         byte;
    unsigned                       held:1;   /* the byte is here */
    unsigned                       over:1;   /* no more waiting */
    unsigned                       keep:1;   /* also when it fails */
} ngx_http_hybrid_hold_t;


/* the body that was received with the header, without its framing */

typedef struct {
    ngx_hybrid_stream_t            stream;
    ngx_http_chunked_t             chunked;
    u_char                        *pos;      /* read up to here */
    off_t                          left;     /* of Content-Length, or -1 */
    u_char                        *text;     /* of an error */
    size_t                         len;
    unsigned                       ended:1;
    unsigned                       broken:1;
} ngx_http_hybrid_early_t;


typedef struct ngx_http_hybrid_answer_s  ngx_http_hybrid_answer_t;

struct ngx_http_hybrid_answer_s {
    ngx_http_request_t            *request;
    ngx_http_hybrid_ctx_t         *ctx;

    /* what the proxy module does */
    ngx_int_t                    (*header)(ngx_http_request_t *r);
    void                         (*finalize)(ngx_http_request_t *r,
                                             ngx_int_t rc);

    ngx_uint_t                     tries;    /* the try this is about */
    ngx_uint_t                     status;   /* that another one stands for */

    size_t                         barrier;
    ngx_http_hybrid_hold_t        *hold;
    ngx_http_hybrid_early_t       *early;

    /* what goes to the client */
    ngx_hybrid_stream_t            stream;
    ngx_http_hybrid_dialect_e      dialect;
    off_t                          read;     /* bytes the stream was told, */
    off_t                          unread;   /*   and those it was not */

    /* an event that may be about usage alone, as far as it has come */
    u_char                        *kept;
    size_t                         nkept;
    ngx_chain_t                   *free;
    ngx_chain_t                   *busy;

    ngx_event_t                   *beat;     /* NULL: no heartbeat */
    ngx_msec_t                     beat_time;
    ngx_msec_t                     sent;     /* when the client got something */
    ngx_msec_t                     last_token;
    uint64_t                       tokens;   /* events with one, so far */
    ngx_table_elt_t               *encoding; /* of our header: gzip's */
    ngx_str_t                      late;     /* an error after a heartbeat, */
    ngx_uint_t                     late_status;    /* and what it is */

    unsigned                       streamed:1;   /* asked for */
    unsigned                       events:1;     /*   as events */
    unsigned                       usage:1;      /* asked for by us only */
    unsigned                       judged:1;     /* header and early bytes */
    unsigned                       good:1;       /* with status 200 */
    unsigned                       metered:1;    /* looked into for usage */
    unsigned                       unloaded:1;   /* its model, before this */
    unsigned                       scanned:1;    /* what passes is a stream */
    unsigned                       whole:1;      /* it must say its end */
    unsigned                       passing:1;    /* the rest of an event */
    unsigned                       padding:1;    /* a heartbeat is written */
    unsigned                       padded:1;     /* our header was sent */
    unsigned                       begun:1;      /* the backend's body was */
    unsigned                       late_json:1;
    unsigned                       abort:1;      /* without a proper end */
    unsigned                       broken:1;
    unsigned                       done:1;
};


/* route/ngx_http_hybrid_answer.c */

/* when the balancer is made, before each try, and when a peer is freed */
ngx_int_t ngx_http_hybrid_answer_init(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx);
ngx_int_t ngx_http_hybrid_answer_expect(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx);
void ngx_http_hybrid_answer_leave(ngx_http_hybrid_ctx_t *ctx);
void ngx_http_hybrid_answer_detach(ngx_http_hybrid_ctx_t *ctx);

/* the status that the backend has given, zero: none */
ngx_uint_t ngx_http_hybrid_answer_status(ngx_http_hybrid_ctx_t *ctx);

/* a token has come, perhaps the first; and what was scanned may have some */
void ngx_http_hybrid_answer_token(ngx_http_hybrid_ctx_t *ctx);
void ngx_http_hybrid_answer_tokens(ngx_http_hybrid_answer_t *a);

/* of the Content-Type of a stream; NGX_DECLINED: it is none */
ngx_int_t ngx_http_hybrid_answer_format(ngx_str_t *type);

/* route/ngx_http_hybrid_hold.c */

ngx_int_t ngx_http_hybrid_early_init(ngx_http_hybrid_answer_t *a,
    ngx_int_t format);
void ngx_http_hybrid_early_read(ngx_http_hybrid_answer_t *a);

/* allocates nginx's buffer with room for what is held */
ngx_int_t ngx_http_hybrid_hold_room(ngx_http_hybrid_answer_t *a);

/* NGX_AGAIN: for process_header to return; called again with more bytes */
ngx_int_t ngx_http_hybrid_hold(ngx_http_hybrid_answer_t *a, ngx_msec_t time,
    ngx_uint_t keep);
void ngx_http_hybrid_hold_end(ngx_http_hybrid_answer_t *a);

/* route/ngx_http_hybrid_stream.c */

/* NGX_DONE: the client has had a header */
ngx_int_t ngx_http_hybrid_stream_header(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx);
ngx_int_t ngx_http_hybrid_stream_filter(ngx_http_request_t *r,
    ngx_chain_t *in, ngx_http_output_body_filter_pt next);
void ngx_http_hybrid_stream_finalize(ngx_http_hybrid_answer_t *a,
    ngx_int_t rc);

/* route/ngx_http_hybrid_usage.c */

/* the body gets what makes a backend tell the usage of a stream */
ngx_uint_t ngx_http_hybrid_usage_wanted(ngx_http_hybrid_ctx_t *ctx);
ngx_int_t ngx_http_hybrid_usage_edit(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_http_hybrid_edit_t *edit);

ngx_int_t ngx_http_hybrid_usage_filter(ngx_http_request_t *r,
    ngx_http_hybrid_answer_t *a, ngx_chain_t *in, ngx_chain_t **out);
ngx_int_t ngx_http_hybrid_usage_flush(ngx_http_request_t *r,
    ngx_http_hybrid_answer_t *a, ngx_chain_t **out);

/* route/ngx_http_hybrid_heartbeat.c */

ngx_int_t ngx_http_hybrid_heartbeat_init(ngx_http_hybrid_answer_t *a,
    ngx_msec_t time);


#endif /* _NGX_HTTP_HYBRID_ANSWER_H_INCLUDED_ */
