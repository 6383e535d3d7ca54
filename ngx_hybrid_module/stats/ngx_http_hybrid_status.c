
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * hybrid_status: the numbers of all gateways when there is a Redis that
 * answers, else (or with ?scope=gateway) those of this one.
 */


#include "ngx_http_hybrid_history.h"
#include "ngx_http_hybrid_page.h"


static ngx_int_t ngx_http_hybrid_status_alone(ngx_http_request_t *r);
static ngx_int_t ngx_http_hybrid_status_wrong(ngx_http_request_t *r);
static ngx_uint_t ngx_http_hybrid_status_asks(ngx_http_request_t *r,
    char *name);
static ngx_int_t ngx_http_hybrid_status_local(ngx_http_hybrid_view_t *view);
static void ngx_http_hybrid_status_merged(ngx_http_hybrid_view_t *view,
    ngx_uint_t ok);
static void ngx_http_hybrid_status_resume(ngx_http_request_t *r);
static ngx_int_t ngx_http_hybrid_status_send(ngx_http_hybrid_view_t *view);


ngx_int_t
ngx_http_hybrid_status_handler(ngx_http_request_t *r)
{
    ngx_int_t                    rc, alone;
    ngx_str_t                    hour;
    ngx_http_hybrid_ctx_t       *ctx;
    ngx_http_hybrid_view_t      *view;
    ngx_http_hybrid_loc_conf_t  *hlcf;

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

    alone = ngx_http_hybrid_status_alone(r);

    if (alone == NGX_ERROR) {
        return ngx_http_hybrid_status_wrong(r);
    }

    if (ngx_http_hybrid_status_asks(r, "history")) {

        if (ngx_http_arg(r, (u_char *) "history", 7, &hour) != NGX_OK) {
            ngx_str_null(&hour);
        }

        return ngx_http_hybrid_history_answer(r, ctx, &hour, alone);
    }

    /* what the location shows: the page, or data for it and for others */

    hlcf = ngx_http_get_module_loc_conf(r, ngx_http_hybrid_module);

    if (hlcf->status == ngx_http_hybrid_status_html
        && !ngx_http_hybrid_status_asks(r, "data"))
    {
        return ngx_http_hybrid_page_send(r);
    }

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

    if (ctx->conf->redis && !alone
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


/* this gateway's numbers alone, those of all, or NGX_ERROR */

static ngx_int_t
ngx_http_hybrid_status_alone(ngx_http_request_t *r)
{
    ngx_str_t  scope;

    if (!ngx_http_hybrid_status_asks(r, "scope")) {
        return 0;
    }

    if (ngx_http_arg(r, (u_char *) "scope", 5, &scope) != NGX_OK) {
        return NGX_ERROR;
    }

    if (scope.len == 3 && ngx_memcmp(scope.data, "all", 3) == 0) {
        return 0;
    }

    if (scope.len == 7 && ngx_memcmp(scope.data, "gateway", 7) == 0) {
        return 1;
    }

    return NGX_ERROR;
}


/* Prometheus would take all gateways' numbers for this one's */

static ngx_int_t
ngx_http_hybrid_status_wrong(ngx_http_request_t *r)
{
    ngx_str_t                  type;
    ngx_http_complex_value_t   cv;

    ngx_memzero(&cv, sizeof(ngx_http_complex_value_t));
    ngx_str_set(&cv.value, "\"scope\" is \"all\" or \"gateway\"\n");
    ngx_str_set(&type, "text/plain");

    return ngx_http_send_response(r, NGX_HTTP_BAD_REQUEST, &type, &cv);
}


/* ngx_http_arg() does not see an argument without a value */

static ngx_uint_t
ngx_http_hybrid_status_asks(ngx_http_request_t *r, char *name)
{
    u_char  *p, *last, *end;
    size_t   len;

    len = ngx_strlen(name);
    last = r->args.data + r->args.len;

    for (p = r->args.data; p < last; p = end + 1) {

        end = ngx_strlchr(p, last, '&');
        if (end == NULL) {
            end = last;
        }

        if ((size_t) (end - p) >= len && ngx_memcmp(p, name, len) == 0
            && (p + len == end || p[len] == '='))
        {
            return 1;
        }
    }

    return 0;
}


static void
ngx_http_hybrid_status_merged(ngx_http_hybrid_view_t *view, ngx_uint_t ok)
{
    view->all = ok;

    ngx_http_hybrid_stats_wake(view->request, ngx_http_hybrid_status_resume);
}


void
ngx_http_hybrid_stats_wake(ngx_http_request_t *r,
    ngx_http_event_handler_pt handler)
{
    r->write_event_handler = handler;

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


static ngx_int_t
ngx_http_hybrid_status_local(ngx_http_hybrid_view_t *view)
{
    ngx_uint_t              i, n;
    ngx_hybrid_shm_sh_t    *sh;
    ngx_http_hybrid_row_t  *row;

    sh = view->conf->shm->sh;
    n = sh->series.n;

    view->rows.nelts = 0;

    for (i = 0; i < n; i++) {

        row = ngx_array_push(&view->rows);
        if (row == NULL) {
            return NGX_ERROR;
        }

        ngx_str_null(&row->key);
        ngx_hybrid_series_labels(&sh->series.elts[i], &row->client,
                                 &row->backend, &row->model);

        row->sum = ngx_http_hybrid_sum_copy(view->request->pool, &sh->series,
                                            &sh->series.elts[i]);
        if (row->sum == NULL) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_hybrid_status_send(ngx_http_hybrid_view_t *view)
{
    ngx_str_t                    type;
    ngx_http_request_t          *r;
    ngx_http_hybrid_out_t        out;
    ngx_http_hybrid_loc_conf_t  *hlcf;

    r = view->request;
    hlcf = ngx_http_get_module_loc_conf(r, ngx_http_hybrid_module);

    ngx_memzero(&out, sizeof(ngx_http_hybrid_out_t));
    out.pool = r->pool;

    if (ngx_http_hybrid_limits_open(view) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (hlcf->status == ngx_http_hybrid_status_prometheus) {
        ngx_http_hybrid_view_prometheus(view, &out);
        ngx_str_set(&type, "text/plain; version=0.0.4; charset=utf-8");

    } else {
        ngx_http_hybrid_view_json(view, &out);
        ngx_str_set(&type, "application/json");
    }

    return ngx_http_hybrid_out_send(&out, r, &type);
}
