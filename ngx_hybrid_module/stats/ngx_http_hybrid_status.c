
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * hybrid_status: the numbers of all gateways when there is a Redis that
 * answers, else (or with ?scope=gateway) those of this one.
 */


#include "ngx_http_hybrid_stats.h"


static ngx_int_t ngx_http_hybrid_status_local(ngx_http_hybrid_view_t *view);
static void ngx_http_hybrid_status_merged(ngx_http_hybrid_view_t *view,
    ngx_uint_t ok);
static void ngx_http_hybrid_status_resume(ngx_http_request_t *r);
static ngx_int_t ngx_http_hybrid_status_send(ngx_http_hybrid_view_t *view);


ngx_int_t
ngx_http_hybrid_status_handler(ngx_http_request_t *r)
{
    ngx_int_t                rc;
    ngx_str_t                scope;
    ngx_http_hybrid_ctx_t   *ctx;
    ngx_http_hybrid_view_t  *view;

    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))) {
        return NGX_HTTP_NOT_ALLOWED;
    }

    rc = ngx_http_discard_request_body(r);
    if (rc != NGX_OK) {
        return rc;
    }

    ctx = ngx_http_hybrid_get_ctx(r);

    if (ctx == NULL) {
        ctx = ngx_http_hybrid_create_ctx(r);
        if (ctx == NULL) {
            return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
    }

    ctx->endpoint = ngx_http_hybrid_endpoint_status();

    view = ngx_pcalloc(r->pool, sizeof(ngx_http_hybrid_view_t));

    if (view == NULL
        || ngx_array_init(&view->rows, r->pool, 16,
                          sizeof(ngx_http_hybrid_row_t))
           != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    view->request = r;
    view->conf = ctx->conf;
    ctx->view = view;

    if (ctx->conf->redis
        && !(ngx_http_arg(r, (u_char *) "scope", 5, &scope) == NGX_OK
             && scope.len == 7 && ngx_memcmp(scope.data, "gateway", 7) == 0)
        && ngx_http_hybrid_merge(view, ngx_http_hybrid_status_merged)
           == NGX_OK)
    {
        /* our reference is kept until the answers have come */

        r->main->count++;
        ngx_http_hybrid_suspend(r);

        return NGX_DONE;
    }

    if (ngx_http_hybrid_status_local(view) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    return ngx_http_hybrid_status_send(view);
}


static void
ngx_http_hybrid_status_merged(ngx_http_hybrid_view_t *view, ngx_uint_t ok)
{
    ngx_http_request_t  *r;

    r = view->request;
    view->all = ok;

    r->write_event_handler = ngx_http_hybrid_status_resume;

    /* it may be a subrequest, which the connection does not know */

    if (ngx_http_post_request(r, NULL) != NGX_OK) {
        r->connection->error = 1;
    }

    ngx_post_event(r->connection->write, &ngx_posted_events);
}


static void
ngx_http_hybrid_status_resume(ngx_http_request_t *r)
{
    ngx_http_hybrid_ctx_t   *ctx;
    ngx_http_hybrid_view_t  *view;

    r->read_event_handler = ngx_http_block_reading;
    r->write_event_handler = ngx_http_request_empty_handler;

    ctx = ngx_http_hybrid_get_ctx(r);
    view = ctx->view;

    if (!view->all && ngx_http_hybrid_status_local(view) != NGX_OK) {
        ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR);
        return;
    }

    ngx_http_finalize_request(r, ngx_http_hybrid_status_send(view));
}


/* no copy of the numbers: they only grow, and each is read once */

static ngx_int_t
ngx_http_hybrid_status_local(ngx_http_hybrid_view_t *view)
{
    ngx_uint_t              i, n;
    ngx_hybrid_shm_sh_t    *sh;
    ngx_http_hybrid_row_t  *row;

    sh = view->conf->shm->sh;
    n = sh->nseries;

    view->rows.nelts = 0;

    for (i = 0; i < n; i++) {

        row = ngx_array_push(&view->rows);
        if (row == NULL) {
            return NGX_ERROR;
        }

        ngx_str_null(&row->key);
        ngx_hybrid_series_labels(&sh->series[i], &row->client, &row->backend,
                                 &row->model);
        row->numbers = &sh->series[i].now;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_hybrid_status_send(ngx_http_hybrid_view_t *view)
{
    ngx_int_t                    rc;
    ngx_str_t                    type;
    ngx_http_request_t          *r;
    ngx_http_complex_value_t     cv;
    ngx_http_hybrid_loc_conf_t  *hlcf;

    r = view->request;
    hlcf = ngx_http_get_module_loc_conf(r, ngx_http_hybrid_module);

    ngx_memzero(&cv, sizeof(ngx_http_complex_value_t));

    if (hlcf->status == ngx_http_hybrid_status_prometheus) {
        rc = ngx_http_hybrid_view_prometheus(view, &cv.value);
        ngx_str_set(&type, "text/plain; version=0.0.4; charset=utf-8");

    } else {
        rc = ngx_http_hybrid_view_json(view, &cv.value);
        ngx_str_set(&type, "application/json");
    }

    if (rc != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    r->disable_not_modified = 1;

    return ngx_http_send_response(r, NGX_HTTP_OK, &type, &cv);
}
