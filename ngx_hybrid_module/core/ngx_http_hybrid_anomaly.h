
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Anomalies: what others tell of as it happens, and when they are evaluated.
 */


#ifndef _NGX_HTTP_HYBRID_ANOMALY_H_INCLUDED_
#define _NGX_HTTP_HYBRID_ANOMALY_H_INCLUDED_


#include "ngx_http_hybrid_module.h"
#include "ngx_hybrid_anomaly.h"


/* seconds, before which a credential's end is told of */
#define NGX_HTTP_HYBRID_ANOMALY_EXPIRES  (7 * 86400)


/* an evaluation */

typedef struct {
    ngx_http_hybrid_main_conf_t  *conf;
    ngx_log_t                    *log;
} ngx_http_hybrid_watch_t;


ngx_int_t ngx_http_hybrid_anomaly_init_worker(
    ngx_http_hybrid_main_conf_t *hmcf, ngx_cycle_t *cycle);

/* unless that was done within the last second, by whichever worker */
void ngx_http_hybrid_anomaly_now(ngx_http_hybrid_main_conf_t *hmcf);

/*
 * One was found: fmt is for ngx_slprintf(), and makes its text.
 */
void ngx_http_hybrid_anomaly_tell(ngx_http_hybrid_watch_t *watch,
    ngx_hybrid_anomaly_t *anomaly, const char *fmt, ...);

/* a model was loaded for a request, which waited for it */
void ngx_http_hybrid_anomaly_cold(ngx_http_hybrid_ctx_t *ctx);

/* stats/ngx_http_hybrid_anomaly_client.c */

void ngx_http_hybrid_anomaly_clients(ngx_http_hybrid_watch_t *watch);

/* what is a client's or a backend's ends then, or has ended */
void ngx_http_hybrid_anomaly_expires(ngx_http_hybrid_watch_t *watch,
    ngx_uint_t label, ngx_str_t *name, const char *what, time_t until);

/* the outcome of a request whose client is known */
void ngx_http_hybrid_anomaly_outcome(ngx_http_hybrid_ctx_t *ctx,
    ngx_hybrid_outcome_e outcome, ngx_uint_t status);

/* one that is refused: it is not proved that it is this client */
void ngx_http_hybrid_anomaly_refused(ngx_http_hybrid_client_t *client,
    ngx_hybrid_denial_e why);

/* a client was let in by what ends then; wall clock */
void ngx_http_hybrid_anomaly_credential(ngx_http_hybrid_client_t *client,
    ngx_hybrid_credential_e kind, time_t until);


#endif /* _NGX_HTTP_HYBRID_ANOMALY_H_INCLUDED_ */
