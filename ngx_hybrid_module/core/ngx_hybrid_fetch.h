
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * A small HTTP client for what a worker gets in the background: GET, one
 * answer, one connection, one deadline.  It never blocks, follows no
 * redirect, and keeps no worker from exiting.
 *
 * The handler is called exactly once, from the event loop and never from
 * within ngx_hybrid_fetch_start(); unless the fetch is cancelled before.
 * After the handler the fetch is gone, and its answer is wiped.
 */


#ifndef _NGX_HYBRID_FETCH_H_INCLUDED_
#define _NGX_HYBRID_FETCH_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <ngx_event_connect.h>
#include <ngx_http.h>


/* bytes: status line and header, and a read of the body */
#define NGX_HYBRID_FETCH_HEAD     16384
#define NGX_HYBRID_FETCH_READ     8192

#define NGX_HYBRID_FETCH_HEADERS  64
#define NGX_HYBRID_FETCH_ERROR    256


typedef struct ngx_hybrid_fetch_s  ngx_hybrid_fetch_t;

typedef void (*ngx_hybrid_fetch_pt)(ngx_hybrid_fetch_t *f, void *data);

/* before the handshake of a connection */
typedef ngx_int_t (*ngx_hybrid_fetch_tls_pt)(void *data,
    ngx_connection_t *c);


/* where to: made at configuration, read only afterwards */

typedef struct {
    ngx_str_t                  url;       /* as written, for messages */
    ngx_str_t                  host;      /* the header */
    ngx_str_t                  name;      /* without port: SNI, to verify */
    ngx_str_t                  uri;
    in_port_t                  port;
    ngx_addr_t                *addrs;     /* NULL: the resolver is asked */
    ngx_uint_t                 naddrs;
    ngx_resolver_t            *resolver;
    ngx_ssl_t                 *ssl;       /* NULL: plain */
    ngx_hybrid_fetch_tls_pt    tls;       /* may be NULL */
    void                      *tls_data;
    ngx_str_t                  agent;     /* User-Agent, empty: the usual */
    unsigned                   literal:1; /* the name is an address */
} ngx_hybrid_fetch_target_t;


typedef struct {
    ngx_hybrid_fetch_target_t *target;
    ngx_addr_t                *addr;      /* instead of the target's */
    ngx_str_t                 *uri;       /* the same, may be NULL */
    ngx_str_t                  headers;   /* lines, each with its CRLF */
    size_t                     max;       /* bytes of the body */
    ngx_msec_t                 timeout;   /* for all of it */
    ngx_hybrid_fetch_pt        handler;
    void                      *data;
} ngx_hybrid_fetch_args_t;


typedef enum {
    ngx_hybrid_fetch_lookup = 0,
    ngx_hybrid_fetch_connect,
    ngx_hybrid_fetch_handshake,
    ngx_hybrid_fetch_send,
    ngx_hybrid_fetch_status,
    ngx_hybrid_fetch_header,
    ngx_hybrid_fetch_body,
    ngx_hybrid_fetch_done
} ngx_hybrid_fetch_state_e;


typedef enum {
    ngx_hybrid_fetch_close = 0,           /* the body ends with the answer */
    ngx_hybrid_fetch_length,
    ngx_hybrid_fetch_chunked
} ngx_hybrid_fetch_framing_e;


struct ngx_hybrid_fetch_s {

    /* for the handler: an error, else the answer */
    ngx_str_t                  error;
    ngx_uint_t                 status;
    ngx_str_t                  body;

    /* of an error: nothing came in time; an answer that we don't take */
    unsigned                   timedout:1;
    unsigned                   local:1;   /* the fault is on this side */
    unsigned                   refused:1;

    ngx_hybrid_fetch_args_t    args;
    ngx_hybrid_fetch_state_e   state;
    ngx_pool_t                *pool;
    ngx_event_t                timer;
    ngx_event_t                last;      /* posted, calls the handler */
    ngx_connection_t           dummy;
    ngx_log_t                  log;       /* becomes the error */
    u_char                     text[NGX_HYBRID_FETCH_ERROR];

    ngx_resolver_ctx_t        *resolve;
    ngx_addr_t                *addrs;
    ngx_uint_t                 naddrs;
    ngx_uint_t                 first;
    ngx_uint_t                 tried;
    ngx_msec_t                 deadline;
    ngx_peer_connection_t      peer;
    ngx_connection_t          *connection;

    ngx_buf_t                  request;
    u_char                    *buffer;    /* of head */
    ngx_buf_t                  head;
    ngx_buf_t                  content;
    ngx_http_request_t        *r;         /* for nginx's parsers only */
    ngx_http_status_t          line;
    ngx_http_chunked_t         chunked;
    ngx_array_t                headers;   /* ngx_keyval_t, in head */
    ngx_hybrid_fetch_framing_e framing;
    off_t                      left;      /* of the body */
    size_t                     received;
};


/*
 * The URL is "http://" or "https://"; trusted is a file of CA certificates,
 * empty for those of the system.  Without a resolver the name is looked up
 * here, once.  NGX_CONF_ERROR is logged.
 */
char *ngx_hybrid_fetch_target(ngx_conf_t *cf,
    ngx_hybrid_fetch_target_t *target, ngx_str_t *url, ngx_str_t *trusted,
    ngx_resolver_t *resolver);

/* the last part of that, for one who fills in the rest itself */
char *ngx_hybrid_fetch_ssl(ngx_conf_t *cf, ngx_hybrid_fetch_target_t *target,
    ngx_str_t *trusted);
ngx_uint_t ngx_hybrid_fetch_is_address(ngx_str_t *name);

/* NULL: no memory */
ngx_hybrid_fetch_t *ngx_hybrid_fetch_start(ngx_hybrid_fetch_args_t *args,
    ngx_log_t *log);

/* the handler is not called any more */
void ngx_hybrid_fetch_cancel(ngx_hybrid_fetch_t *f);

/* the value of the first header of this lower-case name, else NULL */
ngx_str_t *ngx_hybrid_fetch_find(ngx_hybrid_fetch_t *f, const char *name);


/* the rest is between its files: first what goes on where */

/* to the next address; from a handler of events */
void ngx_hybrid_fetch_next(ngx_hybrid_fetch_t *f);
void ngx_hybrid_fetch_write(ngx_event_t *wev);
void ngx_hybrid_fetch_idle(ngx_event_t *ev);
void ngx_hybrid_fetch_end(ngx_hybrid_fetch_t *f);

void ngx_hybrid_fetch_resolve(ngx_hybrid_fetch_t *f);
#if (NGX_SSL)
void ngx_hybrid_fetch_secure(ngx_hybrid_fetch_t *f);
#endif

/*
 * Takes what has come into head.  NGX_OK: the
 * answer is complete; NGX_AGAIN; NGX_ERROR: logged to f->log.
 */
ngx_int_t ngx_hybrid_fetch_parse(ngx_hybrid_fetch_t *f);

/* the other side has closed, "clean" unless it may have been cut off */
ngx_int_t ngx_hybrid_fetch_eof(ngx_hybrid_fetch_t *f, ngx_uint_t clean);


#endif /* _NGX_HYBRID_FETCH_H_INCLUDED_ */
