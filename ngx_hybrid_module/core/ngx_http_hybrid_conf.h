
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * What the setters of the blocks share.
 */


#ifndef _NGX_HTTP_HYBRID_CONF_H_INCLUDED_
#define _NGX_HTTP_HYBRID_CONF_H_INCLUDED_


#include "ngx_http_hybrid_module.h"


/* a statement inside of a block; min and max count its arguments */

typedef struct {
    ngx_str_t                name;
    ngx_uint_t               min;
    ngx_uint_t               max;
    char                  *(*set)(ngx_conf_t *cf, void *block);
} ngx_http_hybrid_statement_t;

#define NGX_HTTP_HYBRID_MANY  100


char *ngx_http_hybrid_conf_block(ngx_conf_t *cf,
    ngx_http_hybrid_statement_t *statements, void *block);

/* the statement in cf->args, as in the block */
char *ngx_http_hybrid_conf_set(ngx_conf_t *cf,
    ngx_http_hybrid_statement_t *statements, void *block);

/* logs EMERG with file and line of place; returns NGX_CONF_ERROR */
char *ngx_http_hybrid_conf_error_at(ngx_conf_t *cf,
    ngx_http_hybrid_place_t *place, const char *fmt, ...);
void ngx_http_hybrid_conf_place(ngx_conf_t *cf,
    ngx_http_hybrid_place_t *place);

/* letters, digits and "._@-", up to NGX_HTTP_HYBRID_NAME_MAX of them */
ngx_uint_t ngx_http_hybrid_conf_name_ok(ngx_str_t *name);

/* appends all arguments of the statement as patterns; NGX_CONF_OK or error */
char *ngx_http_hybrid_conf_patterns(ngx_conf_t *cf, ngx_array_t *patterns);
char *ngx_http_hybrid_conf_pattern(ngx_conf_t *cf, ngx_str_t *text,
    ngx_hybrid_pattern_t *pattern);

/* "name=value" with this name: value, else NULL */
u_char *ngx_http_hybrid_conf_option(ngx_str_t *arg, const char *name,
    ngx_str_t *value);

#define NGX_HTTP_HYBRID_SECRET_MAX   8192

/*
 * The only line of a file that holds a secret, with "before" in front of it,
 * and again when the file changes: secret is written to then, so it has to
 * stay where it is, and who keeps what it points to for longer than a call
 * makes a copy.  It is wiped when the cycle ends.
 */
char *ngx_http_hybrid_conf_secret_watch(ngx_conf_t *cf, ngx_str_t *file,
    const char *before, ngx_str_t *secret);

/* cuts line ends off; NGX_ERROR: not one line of visible characters */
ngx_int_t ngx_http_hybrid_conf_secret_line(ngx_str_t *text);
void ngx_http_hybrid_conf_secret_warn(ngx_conf_t *cf, ngx_str_t *name);

char *ngx_http_hybrid_barrier(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_hybrid_heartbeat(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* "options" of hybrid_client */

/* core/ngx_http_hybrid_conf_redis_tls.c; known: it is one of TLS's */
char *ngx_http_hybrid_redis_tls_option(ngx_conf_t *cf, ngx_str_t *arg,
    ngx_hybrid_redis_conf_t *rcf, ngx_uint_t *known);
char *ngx_http_hybrid_redis_tls(ngx_conf_t *cf, ngx_hybrid_redis_conf_t *rcf);

char *ngx_http_hybrid_conf_options(ngx_conf_t *cf, void *block);

/* "price" of hybrid_backend */
char *ngx_http_hybrid_conf_price(ngx_conf_t *cf, void *block);

/*
 * An amount of money, up to six digits after the point, in micro-units;
 * NGX_ERROR: it is none, or above 100000.
 */
ngx_int_t ngx_http_hybrid_conf_money(ngx_str_t *text, ngx_uint_t most,
    uint64_t *micro);

/* "probe" and "slots" of hybrid_backend, and what follows from them */
char *ngx_http_hybrid_probe(ngx_conf_t *cf, void *block);
char *ngx_http_hybrid_slots(ngx_conf_t *cf, void *block);
char *ngx_http_hybrid_cold_starts(ngx_conf_t *cf, void *block);
void ngx_http_hybrid_probe_defaults(ngx_http_hybrid_backend_t *backend);
char *ngx_http_hybrid_probe_complete(ngx_conf_t *cf,
    ngx_http_hybrid_backend_t *backend);

/* limits of hybrid_client */
char *ngx_http_hybrid_conf_rate(ngx_conf_t *cf, void *block);
char *ngx_http_hybrid_conf_tokens(ngx_conf_t *cf, void *block);
char *ngx_http_hybrid_conf_concurrency(ngx_conf_t *cf, void *block);
char *ngx_http_hybrid_conf_budget(ngx_conf_t *cf, void *block);
char *ngx_http_hybrid_conf_queue(ngx_conf_t *cf, void *block);
char *ngx_http_hybrid_conf_weight(ngx_conf_t *cf, void *block);

/* warns of clouds that a client's budget can't count */
void ngx_http_hybrid_conf_prices(ngx_conf_t *cf,
    ngx_http_hybrid_main_conf_t *hmcf);

char *ngx_http_hybrid_conf_loss(ngx_conf_t *cf, ngx_str_t *value,
    ngx_http_hybrid_loss_e *loss);

/*
 * A client, made step by step: also one that is not in a file.  Its
 * identities go into the given table, and what they clash with is there.
 */
ngx_http_hybrid_client_t *ngx_http_hybrid_client_create(ngx_conf_t *cf,
    ngx_str_t *name, ngx_http_hybrid_identities_t *identities);
char *ngx_http_hybrid_client_set(ngx_conf_t *cf,
    ngx_http_hybrid_client_t *client);
char *ngx_http_hybrid_client_complete(ngx_conf_t *cf,
    ngx_http_hybrid_client_t *client);


#endif /* _NGX_HTTP_HYBRID_CONF_H_INCLUDED_ */
