
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * The statements of hybrid_backend about its health and its load.
 */


#include "ngx_http_hybrid_conf.h"


/* of a model, in an hour: more are told of as an anomaly */
#define NGX_HTTP_HYBRID_COLD_STARTS  6


static char *ngx_http_hybrid_probe_time(ngx_conf_t *cf, ngx_str_t *arg,
    ngx_str_t *text, ngx_msec_t *time);
static char *ngx_http_hybrid_probe_count(ngx_conf_t *cf, ngx_str_t *arg,
    ngx_str_t *text, ngx_uint_t *count);
static char *ngx_http_hybrid_probe_uri(ngx_conf_t *cf, ngx_str_t *arg,
    ngx_str_t *text, ngx_str_t *uri);


void
ngx_http_hybrid_probe_defaults(ngx_http_hybrid_backend_t *backend)
{
    backend->probe.interval = 5000;
    backend->probe.timeout = 2000;
    backend->probe.fails = 2;
    backend->probe.passes = 2;
    backend->probe.stall = 300000;
    backend->cold_starts = NGX_HTTP_HYBRID_COLD_STARTS;
}


char *
ngx_http_hybrid_probe(ngx_conf_t *cf, void *block)
{
    ngx_http_hybrid_backend_t  *backend = block;

    char                     *rv;
    ngx_str_t                *value, text;
    ngx_uint_t                i;
    ngx_http_hybrid_probe_t  *probe;

    value = cf->args->elts;
    probe = &backend->probe;

    if (probe->set) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"probe\" directive is duplicate");
        return NGX_CONF_ERROR;
    }

    probe->set = 1;
    probe->on = 1;

    if (cf->args->nelts == 2 && ngx_strcmp(value[1].data, "off") == 0) {
        probe->on = 0;
        return NGX_CONF_OK;
    }

    for (i = 1; i < cf->args->nelts; i++) {

        if (ngx_http_hybrid_conf_option(&value[i], "interval", &text)) {
            rv = ngx_http_hybrid_probe_time(cf, &value[i], &text,
                                            &probe->interval);

        } else if (ngx_http_hybrid_conf_option(&value[i], "timeout", &text)) {
            rv = ngx_http_hybrid_probe_time(cf, &value[i], &text,
                                            &probe->timeout);

        } else if (ngx_http_hybrid_conf_option(&value[i], "slow", &text)) {
            rv = ngx_http_hybrid_probe_time(cf, &value[i], &text,
                                            &probe->slow);

        } else if (ngx_http_hybrid_conf_option(&value[i], "stall", &text)) {
            rv = ngx_http_hybrid_probe_time(cf, &value[i], &text,
                                            &probe->stall);

        } else if (ngx_http_hybrid_conf_option(&value[i], "fails", &text)) {
            rv = ngx_http_hybrid_probe_count(cf, &value[i], &text,
                                             &probe->fails);

        } else if (ngx_http_hybrid_conf_option(&value[i], "passes", &text)) {
            rv = ngx_http_hybrid_probe_count(cf, &value[i], &text,
                                             &probe->passes);

        } else if (ngx_http_hybrid_conf_option(&value[i], "uri", &text)) {
            rv = ngx_http_hybrid_probe_uri(cf, &value[i], &text,
                                           &probe->uri);

        } else {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid parameter \"%V\" of \"probe\": it "
                               "takes interval=, timeout=, fails=, passes=, "
                               "slow=, stall= and uri=, or is \"off\"",
                               &value[i]);
            return NGX_CONF_ERROR;
        }

        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    if (probe->slow && probe->slow >= probe->timeout) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"slow\" must be below \"timeout\": what takes "
                           "longer than that has failed");
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_hybrid_probe_time(ngx_conf_t *cf, ngx_str_t *arg, ngx_str_t *text,
    ngx_msec_t *time)
{
    ngx_int_t  ms;

    ms = ngx_parse_time(text, 0);

    if (ms == NGX_ERROR || ms < 10 || ms > 86400000) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid \"%V\": a time from 10ms to 1d", arg);
        return NGX_CONF_ERROR;
    }

    *time = ms;

    return NGX_CONF_OK;
}


static char *
ngx_http_hybrid_probe_count(ngx_conf_t *cf, ngx_str_t *arg, ngx_str_t *text,
    ngx_uint_t *count)
{
    ngx_int_t  n;

    n = ngx_atoi(text->data, text->len);

    if (n == NGX_ERROR || n < 1 || n > 1000) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid \"%V\": a number from 1 to 1000", arg);
        return NGX_CONF_ERROR;
    }

    *count = n;

    return NGX_CONF_OK;
}


static char *
ngx_http_hybrid_probe_uri(ngx_conf_t *cf, ngx_str_t *arg, ngx_str_t *text,
    ngx_str_t *uri)
{
    u_char      ch;
    ngx_uint_t  i;

    for (i = 0; i < text->len; i++) {
        ch = text->data[i];

        if (ch <= ' ' || ch >= 0x7f || ch == '#') {
            break;
        }
    }

    if (i < text->len || text->data[0] != '/') {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid \"%V\": a path that begins with \"/\"",
                           arg);
        return NGX_CONF_ERROR;
    }

    *uri = *text;

    return NGX_CONF_OK;
}


char *
ngx_http_hybrid_slots(ngx_conf_t *cf, void *block)
{
    ngx_http_hybrid_backend_t  *backend = block;

    ngx_int_t   n;
    ngx_str_t  *value;

    value = cf->args->elts;

    if (backend->slots) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"slots\" directive is duplicate");
        return NGX_CONF_ERROR;
    }

    n = ngx_atoi(value[1].data, value[1].len);

    if (n == NGX_ERROR || n < 1 || n > 100000) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid number of slots \"%V\": how many "
                           "requests the backend answers at a time",
                           &value[1]);
        return NGX_CONF_ERROR;
    }

    backend->slots = n;

    return NGX_CONF_OK;
}


char *
ngx_http_hybrid_cold_starts(ngx_conf_t *cf, void *block)
{
    ngx_http_hybrid_backend_t  *backend = block;

    ngx_int_t   n;
    ngx_str_t  *value;

    value = cf->args->elts;

    if (backend->cold_starts_set) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"cold_starts\" directive is duplicate");
        return NGX_CONF_ERROR;
    }

    n = ngx_atoi(value[1].data, value[1].len);

    if (n == NGX_ERROR || n > 100000) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid number of cold starts \"%V\": how often "
                           "a model may be loaded in an hour before it is "
                           "told of, 0: never", &value[1]);
        return NGX_CONF_ERROR;
    }

    backend->cold_starts = n;
    backend->cold_starts_set = 1;

    return NGX_CONF_OK;
}


/* at the end of the block */

char *
ngx_http_hybrid_probe_complete(ngx_conf_t *cf,
    ngx_http_hybrid_backend_t *backend)
{
    /* a cloud is not asked for nothing, an own machine is */

    if (!backend->probe.set) {
        backend->probe.on = backend->discover
                            || (backend->api == ngx_http_hybrid_api_ollama
                                && backend->egress
                                   == NGX_HTTP_HYBRID_EGRESS_LOCAL);
    }

    if (backend->discover && !backend->probe.on) {
        return ngx_http_hybrid_conf_error_at(cf, &backend->place,
                       "backend \"%V\" has \"models discover\", which needs "
                       "\"probe\"", &backend->name);
    }

    return NGX_CONF_OK;
}
