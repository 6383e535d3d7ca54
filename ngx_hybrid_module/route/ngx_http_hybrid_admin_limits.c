
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * hybrid_admin: what is left of a client's limits, and to give it all back.
 */


#include "ngx_http_hybrid_conf.h"
#include "ngx_http_hybrid_admin.h"
#include "ngx_http_hybrid_limits.h"


#define NGX_HTTP_HYBRID_LIMITS_CLIENT  0
#define NGX_HTTP_HYBRID_LIMITS_ACTION  1

/* msec between looks whether Redis has answered */
#define NGX_HTTP_HYBRID_LIMITS_LOOK    10

#define NGX_HTTP_HYBRID_LIMITS_TEXT    2048


static ngx_int_t ngx_http_hybrid_admin_limits_find(
    ngx_http_hybrid_admin_t *admin, ngx_str_t *name);
static void ngx_http_hybrid_admin_limits_cleanup(void *data);
static void ngx_http_hybrid_admin_limits_wait(ngx_http_hybrid_admin_t *admin,
    ngx_event_handler_pt handler);
static ngx_uint_t ngx_http_hybrid_admin_limits_again(
    ngx_http_hybrid_admin_t *admin);
static void ngx_http_hybrid_admin_limits_asked(ngx_event_t *ev);
static ngx_int_t ngx_http_hybrid_admin_limits_show(
    ngx_http_hybrid_admin_t *admin);
static u_char *ngx_http_hybrid_admin_limits_row(u_char *p, u_char *end,
    ngx_uint_t n, ngx_http_hybrid_left_t *left, ngx_uint_t waiting);
static void ngx_http_hybrid_admin_limits_told(ngx_event_t *ev);
static ngx_int_t ngx_http_hybrid_admin_limits_done(
    ngx_http_hybrid_admin_t *admin);


/* in the order of the numbers above */

ngx_hybrid_json_key_t  ngx_http_hybrid_admin_limits_keys[] = {
    { ngx_string("client"), NGX_HYBRID_LABEL_MAX, NULL, NULL, 0 },
    { ngx_string("action"), 16, NULL, NULL, 0 }
};


ngx_int_t
ngx_http_hybrid_admin_limits_get(ngx_http_hybrid_admin_t *admin)
{
    ngx_int_t                     rc;
    ngx_str_t                     name;
    ngx_http_hybrid_main_conf_t  *hmcf;

    hmcf = admin->ctx->conf;

    if (ngx_http_arg(admin->request, (u_char *) "client", 6, &name)
        != NGX_OK)
    {
        ngx_str_null(&name);
    }

    rc = ngx_http_hybrid_admin_limits_find(admin, &name);

    if (rc != NGX_OK) {
        return rc;
    }

    if (admin->client) {
        ngx_http_hybrid_limit_ask(admin->client);

        if (ngx_http_hybrid_limit_asking(admin->client)) {
            admin->until = ngx_current_msec + hmcf->redis_conf->timeout + 100;
            ngx_http_hybrid_admin_limits_wait(admin,
                                           ngx_http_hybrid_admin_limits_asked);
            return NGX_AGAIN;
        }
    }

    return ngx_http_hybrid_admin_limits_show(admin);
}


/* one that is misspelled must not be taken for done, nor get an entry */

static ngx_int_t
ngx_http_hybrid_admin_limits_find(ngx_http_hybrid_admin_t *admin,
    ngx_str_t *name)
{
    ngx_uint_t                     i;
    ngx_pool_cleanup_t            *cln;
    ngx_http_hybrid_client_t     **clients;
    ngx_http_hybrid_main_conf_t   *hmcf;

    hmcf = admin->ctx->conf;

    if (!ngx_http_hybrid_conf_name_ok(name)) {
        return ngx_http_hybrid_refuse(admin->ctx, NGX_HTTP_BAD_REQUEST,
                                      "invalid_name",
                                      "the name of a client is needed");
    }

    admin->name = *name;

    cln = ngx_pool_cleanup_add(admin->request->pool, 0);
    if (cln == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    cln->handler = ngx_http_hybrid_admin_limits_cleanup;
    cln->data = admin;

    clients = hmcf->clients.elts;

    for (i = 0; i < hmcf->clients.nelts; i++) {
        if (clients[i]->name.len == name->len
            && ngx_memcmp(clients[i]->name.data, name->data, name->len) == 0)
        {
            admin->client = clients[i];
            admin->shared = clients[i]->shared;
            return NGX_OK;
        }
    }

    if (hmcf->clients_redis) {
        admin->shared = ngx_hybrid_shm_client_known(hmcf->shm, name);

        if (admin->shared) {
            admin->given = 1;
            return NGX_OK;
        }
    }

    return ngx_http_hybrid_admin_refuse(admin, NGX_HTTP_NOT_FOUND,
               "unknown_name", "client \"%V\" is not known to this gateway%s",
               name, hmcf->clients_redis ? ": it is in no file, and has made "
                                           "no request here of late" : "");
}


static void
ngx_http_hybrid_admin_limits_cleanup(void *data)
{
    ngx_http_hybrid_admin_t  *admin = data;

    ngx_http_hybrid_reset_t  *op;

    if (admin->wait.timer_set) {
        ngx_del_timer(&admin->wait);
    }

    op = admin->op;

    if (op) {
        if (op->done) {
            ngx_free(op);

        } else {
            op->gone = 1;
        }
    }

    if (admin->given) {
        ngx_hybrid_shm_client_give(admin->ctx->conf->shm, admin->shared);
    }
}


static void
ngx_http_hybrid_admin_limits_wait(ngx_http_hybrid_admin_t *admin,
    ngx_event_handler_pt handler)
{
    admin->wait.handler = handler;
    admin->wait.data = admin;
    admin->wait.log = admin->request->connection->log;

    ngx_add_timer(&admin->wait, NGX_HTTP_HYBRID_LIMITS_LOOK);
}


/* 0: it has waited long enough */

static ngx_uint_t
ngx_http_hybrid_admin_limits_again(ngx_http_hybrid_admin_t *admin)
{
    if ((ngx_msec_int_t) (admin->until - ngx_current_msec) <= 0
        || ngx_exiting)
    {
        return 0;
    }

    ngx_add_timer(&admin->wait, NGX_HTTP_HYBRID_LIMITS_LOOK);

    return 1;
}


static void
ngx_http_hybrid_admin_limits_asked(ngx_event_t *ev)
{
    ngx_http_hybrid_admin_t  *admin = ev->data;

    ngx_connection_t  *c;

    if (ngx_http_hybrid_limit_asking(admin->client)
        && ngx_http_hybrid_admin_limits_again(admin))
    {
        return;
    }

    c = admin->request->connection;

    ngx_http_hybrid_admin_done(admin,
                               ngx_http_hybrid_admin_limits_show(admin));

    ngx_http_run_posted_requests(c);
}


static ngx_int_t
ngx_http_hybrid_admin_limits_show(ngx_http_hybrid_admin_t *admin)
{
    u_char                       *p, *end;
    ngx_uint_t                    i, redis, waiting;
    ngx_http_hybrid_left_t        left;
    ngx_http_hybrid_main_conf_t  *hmcf;

    hmcf = admin->ctx->conf;
    redis = hmcf->redis && ngx_hybrid_redis_available(hmcf->redis);

    p = ngx_pnalloc(admin->request->pool, NGX_HTTP_HYBRID_LIMITS_TEXT);
    if (p == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    end = p + NGX_HTTP_HYBRID_LIMITS_TEXT;
    admin->answer.data = p;

    if (admin->text) {
        waiting = ngx_hybrid_cells_waiting(&admin->shared->cells);

        for (i = 0; i < NGX_HTTP_HYBRID_LIMITS; i++) {
            if (ngx_http_hybrid_limit_left(admin->shared, i, redis, &left)
                == NGX_OK)
            {
                p = ngx_http_hybrid_admin_limits_row(p, end, i, &left,
                                                     waiting);
            }
        }

    } else {
        p = ngx_slprintf(p, end, "{\"client\":\"%V\",\"redis\":\"%s\",",
                         &admin->name, redis ? "ok" :
                         hmcf->redis_conf ? "away" : "none");
        p = ngx_http_hybrid_limits_json(admin->shared, redis, p, end);
        p = ngx_slprintf(p, end, "}\n");
    }

    admin->answer.len = p - admin->answer.data;

    return NGX_OK;
}


/* limit, what it is, used, left, leased, reset, waiting */

static u_char *
ngx_http_hybrid_admin_limits_row(u_char *p, u_char *end, ngx_uint_t n,
    ngx_http_hybrid_left_t *left, ngx_uint_t waiting)
{
    uint64_t  used;

    used = left->burst - left->left;

    p = ngx_slprintf(p, end, "%V\t", &ngx_http_hybrid_limit_names[n]);

    switch (n) {

    case ngx_hybrid_meter_budget:
        p = ngx_slprintf(p, end, "%uL.%06uL/%s\t%uL.%06uL\t%uL.%06uL\t"
                         "%uL.%06uL\t",
                         left->quota / 1000000, left->quota % 1000000,
                         left->monthly ? "month" : "day",
                         used / 1000000, used % 1000000,
                         left->left / 1000000, left->left % 1000000,
                         left->leased / 1000000, left->leased % 1000000);
        break;

    case NGX_HTTP_HYBRID_LIMIT_SLOTS:
        return ngx_slprintf(p, end, "%uL\t%uL\t%uL\t%uL\t-\t%ui\n",
                            left->quota, used, left->left, left->leased,
                            waiting);

    default:
        p = ngx_slprintf(p, end, "%uL/%uis burst=%uL\t%uL\t%uL\t%uL\t",
                         left->quota, left->window, left->burst, used,
                         left->left, left->leased);
        break;
    }

    return ngx_slprintf(p, end, "%uLs\t%ui\n",
                        (left->reset + 999999) / 1000000, waiting);
}


ngx_int_t
ngx_http_hybrid_admin_limits_post(ngx_http_hybrid_admin_t *admin)
{
    ngx_int_t                     rc;
    ngx_str_t                     name;
    ngx_hybrid_json_value_t      *action;
    ngx_http_hybrid_reset_t      *op;
    ngx_http_hybrid_main_conf_t  *hmcf;

    hmcf = admin->ctx->conf;

    action = &admin->values[NGX_HTTP_HYBRID_LIMITS_ACTION];

    if (action->len != 5 || ngx_memcmp(action->data, "reset", 5) != 0) {
        return ngx_http_hybrid_refuse(admin->ctx, NGX_HTTP_BAD_REQUEST,
                                      "invalid_body",
                                      "the action must be reset");
    }

    name.data = admin->values[NGX_HTTP_HYBRID_LIMITS_CLIENT].data;
    name.len = admin->values[NGX_HTTP_HYBRID_LIMITS_CLIENT].len;

    rc = ngx_http_hybrid_admin_limits_find(admin, &name);

    if (rc != NGX_OK) {
        return rc;
    }

    rc = ngx_http_hybrid_limit_reset(hmcf, &admin->name, admin->shared, &op);

    if (rc == NGX_ERROR) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_log_error(NGX_LOG_NOTICE, admin->request->connection->log, 0,
                  "limits of client \"%V\" are reset: by client \"%V\"",
                  &admin->name, &admin->ctx->client->name);

    if (rc == NGX_OK) {
        admin->op = op;
        admin->until = ngx_current_msec + 2 * hmcf->redis_conf->timeout + 100;
        ngx_http_hybrid_admin_limits_wait(admin,
                                          ngx_http_hybrid_admin_limits_told);
        return NGX_AGAIN;
    }

    return ngx_http_hybrid_admin_limits_done(admin);
}


static void
ngx_http_hybrid_admin_limits_told(ngx_event_t *ev)
{
    ngx_http_hybrid_admin_t  *admin = ev->data;

    ngx_connection_t         *c;
    ngx_http_hybrid_reset_t  *op;

    op = admin->op;

    if (!op->done && ngx_http_hybrid_admin_limits_again(admin)) {
        return;
    }

    c = admin->request->connection;

    ngx_http_hybrid_admin_done(admin,
                               ngx_http_hybrid_admin_limits_done(admin));

    ngx_http_run_posted_requests(c);
}


static ngx_int_t
ngx_http_hybrid_admin_limits_done(ngx_http_hybrid_admin_t *admin)
{
    u_char                       *p;
    const char                   *redis, *message;
    ngx_http_hybrid_reset_t      *op;
    ngx_http_hybrid_main_conf_t  *hmcf;

    hmcf = admin->ctx->conf;
    op = admin->op;

    if (hmcf->redis_conf == NULL) {
        redis = "none";
        message = "in this gateway, there is no Redis for others";

    } else if (op && op->told) {
        redis = "ok";
        message = "in this gateway, and in the others within a second or two";

    } else {
        if (op && !op->done) {
            ngx_http_hybrid_limit_reset_own(admin->shared);
        }

        redis = "away";
        message = "Redis is away: in this gateway only, and what Redis has "
                  "counted holds when it is back";
    }

    p = ngx_pnalloc(admin->request->pool, NGX_HTTP_HYBRID_LIMITS_TEXT);
    if (p == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    admin->answer.data = p;

    p = ngx_sprintf(p, admin->text ? "reset\t%s\t%s\n"
                       : "{\"action\":\"reset\",\"redis\":\"%s\","
                         "\"message\":\"%s\"}\n", redis, message);

    admin->answer.len = p - admin->answer.data;

    return NGX_OK;
}
