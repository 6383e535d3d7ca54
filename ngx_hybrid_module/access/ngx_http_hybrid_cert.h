
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Which client a certificate belongs to.
 */


#ifndef _NGX_HTTP_HYBRID_CERT_H_INCLUDED_
#define _NGX_HTTP_HYBRID_CERT_H_INCLUDED_


#include "ngx_http_hybrid_module.h"

#if (NGX_HTTP_SSL)
#include <openssl/x509v3.h>
#endif


typedef enum {
    ngx_http_hybrid_cert_sha256 = 0,  /* 32 bytes, of the DER */
    ngx_http_hybrid_cert_subject,     /* as $ssl_client_s_dn has it */
    ngx_http_hybrid_cert_dns,
    ngx_http_hybrid_cert_uri,
    ngx_http_hybrid_cert_email
} ngx_http_hybrid_cert_e;


typedef struct {
    ngx_http_hybrid_cert_e         type;
    ngx_str_t                      value;
} ngx_http_hybrid_cert_condition_t;


/* a "cert" line of a client: all of its conditions hold, or it doesn't fit */

typedef struct {
    ngx_http_hybrid_client_t      *client;
    ngx_array_t                    conditions;  /* sorted */
} ngx_http_hybrid_cert_t;


/* of a connection's certificate, as long as the connection lasts */

typedef struct ngx_http_hybrid_cert_peer_s  ngx_http_hybrid_cert_peer_t;


/*
 * The verified certificate of the connection, or NULL: then why says what is
 * wrong with it, if there is one.
 */
ngx_http_hybrid_cert_peer_t *ngx_http_hybrid_cert_presented(
    ngx_http_request_t *r, ngx_http_hybrid_ctx_t *ctx, const char **why);
ngx_int_t ngx_http_hybrid_cert_identify(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_http_hybrid_cert_peer_t *peer);

#if (NGX_HTTP_SSL)

/* what is compared with the lines */

typedef struct {
    u_char                         sha256[EVP_MAX_MD_SIZE];
    ngx_str_t                      subject;
    GENERAL_NAMES                 *names;
} ngx_http_hybrid_cert_facts_t;


ngx_uint_t ngx_http_hybrid_cert_fits(ngx_http_hybrid_cert_t *cert,
    ngx_http_hybrid_cert_facts_t *facts);

#endif

/* core/ngx_http_hybrid_conf_cert.c */

char *ngx_http_hybrid_client_cert(ngx_conf_t *cf, void *block);

/* a location, when it is merged: NGX_CONF_OK, or what can't work is logged */
char *ngx_http_hybrid_cert_check(ngx_conf_t *cf,
    ngx_http_hybrid_loc_conf_t *hlcf);


#endif /* _NGX_HTTP_HYBRID_CERT_H_INCLUDED_ */
