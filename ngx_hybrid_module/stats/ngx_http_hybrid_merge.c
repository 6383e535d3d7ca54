
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Reads the series of all gateways back from Redis: first their keys, then
 * some at a time, so that the limits find room on the connection.
 */


#include "ngx_http_hybrid_stats.h"


#define NGX_HTTP_HYBRID_MERGE_MAX   64
#define NGX_HTTP_HYBRID_MERGE_ROWS  4096


typedef struct ngx_http_hybrid_merge_s  ngx_http_hybrid_merge_t;

/* of a cluster answers come in any order */

typedef struct {
    ngx_http_hybrid_merge_t    *merge;
    ngx_uint_t                  row;
} ngx_http_hybrid_merge_ask_t;


/* outlives the request: answers may come when it is gone */

struct ngx_http_hybrid_merge_s {
    ngx_http_hybrid_view_t     *view;     /* NULL: the client has left */
    ngx_http_hybrid_merge_pt    done;
    ngx_uint_t                  next;     /* row to ask for */
    ngx_uint_t                  asked;    /* answers that are still to come */
    unsigned                    failed:1;
    ngx_http_hybrid_merge_ask_t asks[NGX_HTTP_HYBRID_MERGE_MAX];
};


static void ngx_http_hybrid_merge_detach(void *data);
static void ngx_http_hybrid_merge_keys(void *data, redisReply *reply);
static ngx_int_t ngx_http_hybrid_merge_row(ngx_http_hybrid_merge_t *merge,
    redisReply *key);
static void ngx_http_hybrid_merge_ask(ngx_http_hybrid_merge_t *merge);
static void ngx_http_hybrid_merge_fields(void *data, redisReply *reply);
static void ngx_http_hybrid_merge_end(ngx_http_hybrid_merge_t *merge);


ngx_int_t
ngx_http_hybrid_merge(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_merge_pt done)
{
    u_char                    *p;
    ngx_str_t                  argv[2];
    ngx_http_cleanup_t        *cln;
    ngx_http_hybrid_merge_t   *merge;

    cln = ngx_http_cleanup_add(view->request, 0);
    p = ngx_pnalloc(view->request->pool, view->conf->redis_conf->prefix.len
                                         + sizeof("stats"));
    merge = ngx_calloc(sizeof(ngx_http_hybrid_merge_t), ngx_cycle->log);

    if (cln == NULL || p == NULL || merge == NULL) {
        goto failed;
    }

    merge->view = view;
    merge->done = done;

    ngx_str_set(&argv[0], "SMEMBERS");
    ngx_http_hybrid_series_index(view->conf, &argv[1], p);

    if (ngx_hybrid_redis_command(view->conf->redis, 2, argv,
                                 ngx_http_hybrid_merge_keys, merge)
        != NGX_OK)
    {
        goto failed;
    }

    view->cleanup = cln;
    cln->handler = ngx_http_hybrid_merge_detach;
    cln->data = merge;

    return NGX_OK;

failed:

    if (merge) {
        ngx_free(merge);
    }

    return NGX_DECLINED;
}


static void
ngx_http_hybrid_merge_detach(void *data)
{
    ngx_http_hybrid_merge_t  *merge = data;

    merge->view = NULL;
}


static void
ngx_http_hybrid_merge_keys(void *data, redisReply *reply)
{
    ngx_http_hybrid_merge_t  *merge = data;

    size_t  i;

    if (merge->view == NULL || reply == NULL
        || reply->type != REDIS_REPLY_ARRAY)
    {
        merge->failed = 1;
        ngx_http_hybrid_merge_end(merge);
        return;
    }

    for (i = 0; i < reply->elements && i < NGX_HTTP_HYBRID_MERGE_ROWS; i++) {
        if (ngx_http_hybrid_merge_row(merge, reply->element[i]) != NGX_OK) {
            merge->failed = 1;
            break;
        }
    }

    ngx_http_hybrid_merge_ask(merge);
}


static ngx_int_t
ngx_http_hybrid_merge_row(ngx_http_hybrid_merge_t *merge, redisReply *key)
{
    ngx_str_t                text;
    ngx_pool_t              *pool;
    ngx_http_hybrid_row_t   *row;
    ngx_http_hybrid_view_t  *view;

    view = merge->view;
    pool = view->request->pool;

    if (key->type != REDIS_REPLY_STRING || key->len == 0) {
        return NGX_OK;
    }

    text.len = key->len;
    text.data = ngx_pnalloc(pool, text.len);
    if (text.data == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(text.data, key->str, text.len);

    row = ngx_array_push(&view->rows);
    if (row == NULL) {
        return NGX_ERROR;
    }

    row->key = text;

    if (ngx_http_hybrid_series_parse(&view->conf->redis_conf->prefix, &text,
                                     row)
        != NGX_OK)
    {
        view->rows.nelts--;
        return NGX_OK;
    }

    row->sum = ngx_pcalloc(pool, sizeof(ngx_http_hybrid_sum_t));

    return row->sum ? NGX_OK : NGX_ERROR;
}


static void
ngx_http_hybrid_merge_ask(ngx_http_hybrid_merge_t *merge)
{
    ngx_str_t                     argv[2];
    ngx_http_hybrid_row_t        *rows;
    ngx_http_hybrid_view_t       *view;
    ngx_http_hybrid_merge_ask_t  *ask;

    view = merge->view;
    rows = view->rows.elts;

    ngx_str_set(&argv[0], "HGETALL");

    while (!merge->failed && merge->asked < NGX_HTTP_HYBRID_MERGE_MAX
           && merge->next < view->rows.nelts)
    {
        argv[1] = rows[merge->next].key;

        ask = &merge->asks[merge->asked];
        ask->merge = merge;
        ask->row = merge->next;

        if (ngx_hybrid_redis_command(view->conf->redis, 2, argv,
                                     ngx_http_hybrid_merge_fields, ask)
            != NGX_OK)
        {
            merge->failed = 1;
            break;
        }

        merge->next++;
        merge->asked++;
    }

    if (merge->asked == 0) {
        ngx_http_hybrid_merge_end(merge);
    }
}


static void
ngx_http_hybrid_merge_fields(void *data, redisReply *reply)
{
    ngx_http_hybrid_merge_ask_t  *ask = data;

    size_t                     i;
    ngx_str_t                  field, value;
    redisReply               **e;
    ngx_http_hybrid_row_t     *row;
    ngx_http_hybrid_merge_t   *merge;

    merge = ask->merge;
    merge->asked--;

    if (merge->view == NULL || reply == NULL
        || reply->type != REDIS_REPLY_ARRAY)
    {
        merge->failed = 1;

        if (merge->asked == 0) {
            ngx_http_hybrid_merge_end(merge);
        }

        return;
    }

    row = merge->view->rows.elts;
    row += ask->row;
    e = reply->element;

    if (reply->elements == 0) {

        /* it has expired; who still counts it puts its key back */

        (void) ngx_http_hybrid_series_command(merge->view->conf, "SREM",
                                              &row->key);
    }

    for (i = 0; i + 1 < reply->elements; i += 2) {

        if (e[i]->type != REDIS_REPLY_STRING
            || e[i + 1]->type != REDIS_REPLY_STRING)
        {
            continue;
        }

        field.data = (u_char *) e[i]->str;
        field.len = e[i]->len;
        value.data = (u_char *) e[i + 1]->str;
        value.len = e[i + 1]->len;

        if (ngx_http_hybrid_series_add(merge->view->request->pool, row->sum,
                                       &field, &value)
            != NGX_OK)
        {
            merge->failed = 1;
            break;
        }
    }

    if (merge->asked == 0) {
        ngx_http_hybrid_merge_ask(merge);
    }
}


static void
ngx_http_hybrid_merge_end(ngx_http_hybrid_merge_t *merge)
{
    ngx_http_hybrid_view_t  *view;

    view = merge->view;

    if (view) {
        view->cleanup->handler = NULL;
        merge->done(view, !merge->failed);
    }

    ngx_free(merge);
}
