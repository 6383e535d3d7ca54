
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * hybrid_redis address [name=value]...
 */


#include "ngx_http_hybrid_conf.h"


static char *ngx_http_hybrid_redis_option(ngx_conf_t *cf, ngx_str_t *arg,
    ngx_hybrid_redis_conf_t *rcf);
static char *ngx_http_hybrid_redis_address(ngx_conf_t *cf, ngx_str_t *arg,
    ngx_hybrid_redis_conf_t *rcf);


char *
ngx_http_hybrid_redis(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_hybrid_main_conf_t  *hmcf = conf;

    ngx_str_t                *value;
    ngx_uint_t                i;
    ngx_hybrid_redis_conf_t  *rcf;

    if (hmcf->redis_conf) {
        return "is duplicate";
    }

    rcf = ngx_pcalloc(cf->pool, sizeof(ngx_hybrid_redis_conf_t));
    if (rcf == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_str_set(&rcf->prefix, "hybrid:");
    rcf->timeout = 50;

    value = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {

        if (ngx_strlchr(value[i].data, value[i].data + value[i].len, '=')
            || ngx_strcmp(value[i].data, "cluster") == 0)
        {
            if (ngx_http_hybrid_redis_option(cf, &value[i], rcf)
                != NGX_CONF_OK)
            {
                return NGX_CONF_ERROR;
            }

            continue;
        }

        if (ngx_http_hybrid_redis_address(cf, &value[i], rcf) != NGX_CONF_OK)
        {
            return NGX_CONF_ERROR;
        }
    }

    if (rcf->host == NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "hybrid_redis needs an address, host:port or "
                           "unix:path");
        return NGX_CONF_ERROR;
    }

    if (rcf->username.len && rcf->password.len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"username=\" needs \"password_file=\"");
        return NGX_CONF_ERROR;
    }

    hmcf->redis_conf = rcf;
    hmcf->defined = 1;

    return NGX_CONF_OK;
}


char *
ngx_http_hybrid_clients(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_hybrid_main_conf_t  *hmcf = conf;

    ngx_str_t  *value;

    if (hmcf->clients_place.file) {
        return "is duplicate";
    }

    ngx_http_hybrid_conf_place(cf, &hmcf->clients_place);

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "redis") == 0) {
        hmcf->clients_redis = 1;
        hmcf->defined = 1;
        return NGX_CONF_OK;
    }

    if (ngx_strcmp(value[1].data, "off") == 0) {
        return NGX_CONF_OK;
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid value \"%V\", it must be \"redis\" or "
                       "\"off\"", &value[1]);

    return NGX_CONF_ERROR;
}


static char *
ngx_http_hybrid_redis_address(ngx_conf_t *cf, ngx_str_t *arg,
    ngx_hybrid_redis_conf_t *rcf)
{
    size_t     len;
    u_char     text[NGX_SOCKADDR_STRLEN];
    ngx_url_t  u;

    if (rcf->host) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "a second Redis address \"%V\" is not available "
                           "in this version", arg);
        return NGX_CONF_ERROR;
    }

    ngx_memzero(&u, sizeof(ngx_url_t));

    u.url = *arg;
    u.default_port = 6379;

    /* a name is looked up once, here: a worker must never block on it */

    if (ngx_parse_url(cf->pool, &u) != NGX_OK || u.naddrs == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "%s in Redis address \"%V\"",
                           u.err ? u.err : "no address", arg);
        return NGX_CONF_ERROR;
    }

    rcf->address = *arg;

    if (u.family == AF_UNIX) {
        rcf->host = arg->data + sizeof("unix:") - 1;
        return NGX_CONF_OK;
    }

    len = ngx_sock_ntop(u.addrs[0].sockaddr, u.addrs[0].socklen, text,
                        NGX_SOCKADDR_STRLEN, 0);

    rcf->host = ngx_pnalloc(cf->pool, len + 1);
    if (rcf->host == NULL) {
        return NGX_CONF_ERROR;
    }

    (void) ngx_cpystrn(rcf->host, text, len + 1);
    rcf->port = u.port;

    /* hiredis wants no brackets */

    if (rcf->host[0] == '[') {
        rcf->host[len - 1] = '\0';
        rcf->host++;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_hybrid_redis_option(ngx_conf_t *cf, ngx_str_t *arg,
    ngx_hybrid_redis_conf_t *rcf)
{
    ngx_int_t   n;
    ngx_str_t   value;
    ngx_uint_t  i;

    if (ngx_http_hybrid_conf_option(arg, "username", &value)) {
        rcf->username = value;
        return NGX_CONF_OK;
    }

    if (ngx_http_hybrid_conf_option(arg, "password_file", &value)) {
        return ngx_http_hybrid_conf_secret_watch(cf, &value, "",
                                                 &rcf->password);
    }

    if (ngx_http_hybrid_conf_option(arg, "password", &value)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "a password does not belong here: put it into a "
                           "file and write \"password_file=\"");
        return NGX_CONF_ERROR;
    }

    if (ngx_http_hybrid_conf_option(arg, "db", &value)) {

        if (ngx_atoi(value.data, value.len) == NGX_ERROR) {
            goto invalid;
        }

        rcf->db = value;
        return NGX_CONF_OK;
    }

    if (ngx_http_hybrid_conf_option(arg, "prefix", &value)) {

        for (i = 0; i < value.len; i++) {
            if (value.data[i] <= ' ' || value.data[i] >= 0x7f
                || value.data[i] == '{' || value.data[i] == '}')
            {
                goto invalid;
            }
        }

        rcf->prefix = value;
        return NGX_CONF_OK;
    }

    if (ngx_http_hybrid_conf_option(arg, "timeout", &value)) {
        n = ngx_parse_time(&value, 0);

        if (n == NGX_ERROR || n == 0 || n > 10000) {
            goto invalid;
        }

        rcf->timeout = n;
        return NGX_CONF_OK;
    }

    if (ngx_http_hybrid_conf_option(arg, "sentinel", &value)
        || ngx_strcmp(arg->data, "cluster") == 0)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\" is not available in this version", arg);
        return NGX_CONF_ERROR;
    }

invalid:

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid parameter \"%V\"", arg);

    return NGX_CONF_ERROR;
}
