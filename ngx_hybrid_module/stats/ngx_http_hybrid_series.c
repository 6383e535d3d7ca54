
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Keys and fields of a series in Redis, see ngx_http_hybrid_stats.h.
 */


#include "ngx_http_hybrid_stats.h"


#define NGX_HTTP_HYBRID_SERIES_MARK  "}:stat:"


u_char *
ngx_http_hybrid_series_key(ngx_str_t *prefix, ngx_hybrid_series_t *series,
    ngx_str_t *key, u_char *p)
{
    ngx_str_t  client, backend, model;

    ngx_hybrid_series_labels(series, &client, &backend, &model);

    key->data = p;
    p = ngx_sprintf(p, "%V{%V" NGX_HTTP_HYBRID_SERIES_MARK "%V:%V", prefix,
                    &client, &backend, &model);
    key->len = p - key->data;

    return p;
}


/* p has room for the prefix and "stats" */

void
ngx_http_hybrid_series_index(ngx_http_hybrid_main_conf_t *hmcf,
    ngx_str_t *key, u_char *p)
{
    key->data = p;
    key->len = ngx_sprintf(p, "%Vstats", &hmcf->redis_conf->prefix) - p;
}


ngx_int_t
ngx_http_hybrid_series_command(ngx_http_hybrid_main_conf_t *hmcf,
    const char *command, ngx_str_t *arg)
{
    u_char     *p;
    ngx_int_t   rc;
    ngx_str_t   argv[3];

    p = ngx_alloc(hmcf->redis_conf->prefix.len + sizeof("stats"),
                  ngx_cycle->log);
    if (p == NULL) {
        return NGX_DECLINED;
    }

    argv[0].data = (u_char *) command;
    argv[0].len = ngx_strlen(command);
    ngx_http_hybrid_series_index(hmcf, &argv[1], p);
    argv[2] = *arg;

    rc = ngx_hybrid_redis_command(hmcf->redis, 3, argv, NULL, NULL);

    ngx_free(p);

    return rc;
}


/* others may write to Redis, too: only what a label may hold is taken */

ngx_int_t
ngx_http_hybrid_series_parse(ngx_str_t *prefix, ngx_str_t *key,
    ngx_http_hybrid_row_t *row)
{
    size_t   len;
    u_char   ch, *p, *last, *end;

    p = key->data;
    last = p + key->len;

    if (key->len <= prefix->len + 1
        || ngx_memcmp(p, prefix->data, prefix->len) != 0
        || p[prefix->len] != '{')
    {
        return NGX_ERROR;
    }

    p += prefix->len + 1;

    for (end = p; end < last; end++) {
        ch = *end;

        if (ch <= ' ' || ch >= 0x7f || ch == '"' || ch == '\\') {
            return NGX_ERROR;
        }
    }

    end = ngx_strlchr(p, last, '}');
    len = sizeof(NGX_HTTP_HYBRID_SERIES_MARK) - 1;

    if (end == NULL || (size_t) (last - end) <= len
        || ngx_memcmp(end, NGX_HTTP_HYBRID_SERIES_MARK, len) != 0)
    {
        return NGX_ERROR;
    }

    row->client.data = p;
    row->client.len = end - p;

    p = end + len;
    end = ngx_strlchr(p, last, ':');

    if (end == NULL) {
        return NGX_ERROR;
    }

    row->backend.data = p;
    row->backend.len = end - p;

    row->model.data = end + 1;
    row->model.len = last - end - 1;

    if (row->client.len > NGX_HYBRID_LABEL_MAX
        || row->backend.len > NGX_HYBRID_LABEL_MAX
        || row->model.len > NGX_HYBRID_SERIES_KEY - 2 * NGX_HYBRID_LABEL_MAX)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_hybrid_series_add(ngx_pool_t *pool, ngx_http_hybrid_sum_t *sum,
    ngx_str_t *field, ngx_str_t *value)
{
    u_char     *p, *last, *dot;
    ngx_int_t   n, i, t;

    if (field->len < 2) {
        return NGX_OK;
    }

    n = ngx_atoi(value->data, value->len);

    if (n == NGX_ERROR) {
        return NGX_OK;
    }

    p = field->data + 1;
    last = field->data + field->len;

    switch (field->data[0]) {

    case 'c':
        i = ngx_atoi(p, last - p);

        if (i >= 0 && i < NGX_HYBRID_COUNTS) {
            sum->counts[i] += n;
        }

        return NGX_OK;

    case 's':
        t = ngx_atoi(p, last - p);

        if (t >= 0 && t < ngx_hybrid_timer_n) {
            sum->sums[t] += n;
        }

        return NGX_OK;

    case 'b':
        dot = ngx_strlchr(p, last, '.');

        if (dot == NULL) {
            return NGX_OK;
        }

        t = ngx_atoi(p, dot - p);
        i = ngx_atoi(dot + 1, last - dot - 1);

        if (t >= 0 && t < ngx_hybrid_tables
            && i >= 0 && i < NGX_HYBRID_HISTOGRAM_BUCKETS)
        {
            return ngx_http_hybrid_sum_count(pool, sum, t, i, n);
        }
    }

    return NGX_OK;
}
