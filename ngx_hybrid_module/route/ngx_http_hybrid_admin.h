
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * hybrid_admin: what tools/hybrid-ctl talks to.  Each resource below the
 * location is a row of the table in ngx_http_hybrid_admin.c.
 */


#ifndef _NGX_HTTP_HYBRID_ADMIN_H_INCLUDED_
#define _NGX_HTTP_HYBRID_ADMIN_H_INCLUDED_


#include "ngx_http_hybrid_module.h"
#include "ngx_hybrid_lever.h"


#define NGX_HTTP_HYBRID_ADMIN_BODY  4096
#define NGX_HTTP_HYBRID_ADMIN_KEYS  4


typedef struct ngx_http_hybrid_admin_s  ngx_http_hybrid_admin_t;

typedef struct {
    ngx_str_t                    name;

    /*
     * NGX_OK: the answer is there; NGX_AGAIN: ngx_http_hybrid_admin_done()
     * will be called; else a status, as ngx_http_hybrid_refuse() returns it.
     */
    ngx_int_t                  (*get)(ngx_http_hybrid_admin_t *admin);
    ngx_int_t                  (*post)(ngx_http_hybrid_admin_t *admin);

    /* of the object that is posted: these members, and no others */
    ngx_hybrid_json_key_t       *keys;
    ngx_uint_t                   nkeys;
} ngx_http_hybrid_resource_t;


struct ngx_http_hybrid_admin_s {
    ngx_http_request_t          *request;
    ngx_http_hybrid_ctx_t       *ctx;
    ngx_http_hybrid_resource_t  *resource;
    ngx_uint_t                   text;      /* lines instead of JSON */
    ngx_str_t                    answer;

    ngx_hybrid_json_value_t      values[NGX_HTTP_HYBRID_ADMIN_KEYS];
    u_char                       arena[NGX_HTTP_HYBRID_ADMIN_BODY];

    ngx_event_t                  wait;
    ngx_msec_t                   until;
    ngx_hybrid_lever_t           lever;     /* that waits for Redis */

    /* whose limits: of the files, or NULL */
    ngx_http_hybrid_client_t    *client;
    ngx_str_t                    name;
    ngx_hybrid_shm_client_t     *shared;
    ngx_uint_t                   given;     /* "shared" is to be given back */
    void                        *op;
};


void ngx_http_hybrid_admin_done(ngx_http_hybrid_admin_t *admin, ngx_int_t rc);

/* a refusal with a text of its own; fmt is for ngx_slprintf() */
ngx_int_t ngx_http_hybrid_admin_refuse(ngx_http_hybrid_admin_t *admin,
    ngx_int_t status, const char *reason, const char *fmt, ...);

/* route/ngx_http_hybrid_lever.c */

extern ngx_hybrid_json_key_t  ngx_http_hybrid_lever_keys[];
#define NGX_HTTP_HYBRID_LEVER_KEYS  4

ngx_int_t ngx_http_hybrid_lever_get(ngx_http_hybrid_admin_t *admin);
ngx_int_t ngx_http_hybrid_lever_post(ngx_http_hybrid_admin_t *admin);

/* route/ngx_http_hybrid_admin_limits.c */

extern ngx_hybrid_json_key_t  ngx_http_hybrid_admin_limits_keys[];
#define NGX_HTTP_HYBRID_ADMIN_LIMITS_KEYS  2

ngx_int_t ngx_http_hybrid_admin_limits_get(ngx_http_hybrid_admin_t *admin);
ngx_int_t ngx_http_hybrid_admin_limits_post(ngx_http_hybrid_admin_t *admin);

/* route/ngx_http_hybrid_explain.c */

ngx_int_t ngx_http_hybrid_explain_get(ngx_http_hybrid_admin_t *admin);

/* stats/ngx_http_hybrid_top.c */

ngx_int_t ngx_http_hybrid_top_get(ngx_http_hybrid_admin_t *admin);

/* route/ngx_http_hybrid_lever_sync.c */

typedef enum {
    ngx_http_hybrid_sync_none = 0,    /* no Redis is configured */
    ngx_http_hybrid_sync_ok,
    ngx_http_hybrid_sync_away
} ngx_http_hybrid_sync_e;

/* a lever was set: Redis is to be told now */
void ngx_http_hybrid_lever_tell(ngx_http_hybrid_main_conf_t *hmcf);
ngx_http_hybrid_sync_e ngx_http_hybrid_lever_redis(
    ngx_http_hybrid_main_conf_t *hmcf);


#endif /* _NGX_HTTP_HYBRID_ADMIN_H_INCLUDED_ */
