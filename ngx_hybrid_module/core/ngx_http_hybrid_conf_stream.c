
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * hybrid_barrier and hybrid_heartbeat.
 */


#include "ngx_http_hybrid_conf.h"


/* held in memory for each stream that has not begun */
#define NGX_HTTP_HYBRID_BARRIER_MAX    (1024 * 1024)

/* msec */
#define NGX_HTTP_HYBRID_HEARTBEAT_MIN  100


char *
ngx_http_hybrid_barrier(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_hybrid_loc_conf_t  *hlcf = conf;

    ssize_t      size;
    ngx_int_t    time;
    ngx_str_t   *value;

    value = cf->args->elts;

    if (hlcf->barrier != NGX_CONF_UNSET_SIZE) {
        return "is duplicate";
    }

    if (ngx_strcmp(value[1].data, "off") == 0
        || ngx_strcmp(value[1].data, "0") == 0)
    {
        if (cf->args->nelts == 3) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"%V\" takes no time", &value[1]);
            return NGX_CONF_ERROR;
        }

        hlcf->barrier = 0;
        hlcf->barrier_time = 0;

        return NGX_CONF_OK;
    }

    size = ngx_parse_size(&value[1]);

    if (size < 1 || size > NGX_HTTP_HYBRID_BARRIER_MAX) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid size \"%V\", it must be from 1 to 1m, or "
                           "\"off\"", &value[1]);
        return NGX_CONF_ERROR;
    }

    if (cf->args->nelts == 2) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "a time is missing, after which the stream is "
                           "passed on: write \"hybrid_barrier %V 2s\"",
                           &value[1]);
        return NGX_CONF_ERROR;
    }

    time = ngx_parse_time(&value[2], 0);

    if (time < 1) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid time \"%V\"", &value[2]);
        return NGX_CONF_ERROR;
    }

    hlcf->barrier = size;
    hlcf->barrier_time = time;

    return NGX_CONF_OK;
}


char *
ngx_http_hybrid_heartbeat(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_hybrid_loc_conf_t  *hlcf = conf;

    ngx_int_t    time;
    ngx_str_t   *value;

    value = cf->args->elts;

    if (hlcf->heartbeat != NGX_CONF_UNSET_MSEC) {
        return "is duplicate";
    }

    if (ngx_strcmp(value[1].data, "off") == 0) {
        hlcf->heartbeat = 0;
        return NGX_CONF_OK;
    }

    time = ngx_parse_time(&value[1], 0);

    if (time < NGX_HTTP_HYBRID_HEARTBEAT_MIN) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid time \"%V\", it must be at least %dms, "
                           "or \"off\"", &value[1],
                           NGX_HTTP_HYBRID_HEARTBEAT_MIN);
        return NGX_CONF_ERROR;
    }

    hlcf->heartbeat = time;

    return NGX_CONF_OK;
}
