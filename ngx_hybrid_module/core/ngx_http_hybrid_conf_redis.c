
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * hybrid_redis address... [name=value]... [cluster]
 */


#include "ngx_http_hybrid_conf.h"


#define NGX_HTTP_HYBRID_REDIS_ADDRESSES  64


static ngx_uint_t ngx_http_hybrid_redis_is_option(ngx_str_t *arg);
static char *ngx_http_hybrid_redis_check(ngx_conf_t *cf,
    ngx_hybrid_redis_conf_t *rcf);
static char *ngx_http_hybrid_redis_add(ngx_conf_t *cf, ngx_addr_t *addr,
    ngx_hybrid_redis_conf_t *rcf);
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

    if (ngx_array_init(&rcf->addresses, cf->pool, 4,
                       sizeof(ngx_hybrid_redis_addr_t))
        != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    value = cf->args->elts;

    /* addresses last: their port depends on what they are */

    for (i = 1; i < cf->args->nelts; i++) {
        if (ngx_http_hybrid_redis_is_option(&value[i])
            && ngx_http_hybrid_redis_option(cf, &value[i], rcf)
               != NGX_CONF_OK)
        {
            return NGX_CONF_ERROR;
        }
    }

    for (i = 1; i < cf->args->nelts; i++) {
        if (!ngx_http_hybrid_redis_is_option(&value[i])
            && ngx_http_hybrid_redis_address(cf, &value[i], rcf)
               != NGX_CONF_OK)
        {
            return NGX_CONF_ERROR;
        }
    }

    if (ngx_http_hybrid_redis_check(cf, rcf) != NGX_CONF_OK) {
        return NGX_CONF_ERROR;
    }

    hmcf->redis_conf = rcf;
    hmcf->defined = 1;

    return NGX_CONF_OK;
}


static ngx_uint_t
ngx_http_hybrid_redis_is_option(ngx_str_t *arg)
{
    return ngx_strlchr(arg->data, arg->data + arg->len, '=') != NULL
           || ngx_strcmp(arg->data, "cluster") == 0
           || ngx_strcmp(arg->data, "tls") == 0;
}


static char *
ngx_http_hybrid_redis_check(ngx_conf_t *cf, ngx_hybrid_redis_conf_t *rcf)
{
    if (rcf->addresses.nelts == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "hybrid_redis needs an address, host:port or "
                           "unix:path");
        return NGX_CONF_ERROR;
    }

    if (rcf->cluster && rcf->master.len) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"cluster\" and \"sentinel=\" exclude each "
                           "other: a cluster does its failover itself");
        return NGX_CONF_ERROR;
    }

    if (rcf->cluster && rcf->db.len) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"db=\" does not go with \"cluster\", which has "
                           "only one: use \"prefix=\"");
        return NGX_CONF_ERROR;
    }

    if (rcf->username.len && rcf->password.len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"username=\" needs \"password_file=\"");
        return NGX_CONF_ERROR;
    }

    if (rcf->sentinel_username.len && rcf->sentinel_password.len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"sentinel_username=\" needs "
                           "\"sentinel_password_file=\"");
        return NGX_CONF_ERROR;
    }

    if (rcf->sentinel_password.len && rcf->master.len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"sentinel_password_file=\" needs "
                           "\"sentinel=\", the name of the master");
        return NGX_CONF_ERROR;
    }

    return ngx_http_hybrid_redis_tls(cf, rcf);
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
    ngx_url_t                 u;
    ngx_uint_t                i, several;
    ngx_hybrid_redis_addr_t  *addr;

    several = rcf->cluster || rcf->master.len;

    if (rcf->addresses.nelts && !several) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "a second Redis address \"%V\" needs \"cluster\" "
                           "or \"sentinel=\", the name of the master", arg);
        return NGX_CONF_ERROR;
    }

    ngx_memzero(&u, sizeof(ngx_url_t));

    u.url = *arg;
    u.default_port = rcf->master.len ? 26379 : 6379;

    /* a name is looked up once, here: a worker must never block on it */

    if (ngx_parse_url(cf->pool, &u) != NGX_OK || u.naddrs == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "%s in Redis address \"%V\"",
                           u.err ? u.err : "no address", arg);
        return NGX_CONF_ERROR;
    }

    if (u.family == AF_UNIX) {

        if (several) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"cluster\" and \"sentinel=\" need "
                               "host:port instead of \"%V\"", arg);
            return NGX_CONF_ERROR;
        }

        addr = ngx_array_push(&rcf->addresses);
        if (addr == NULL) {
            return NGX_CONF_ERROR;
        }

        addr->text = *arg;
        addr->host = arg->data + sizeof("unix:") - 1;
        addr->port = 0;

        return NGX_CONF_OK;
    }

    for (i = 0; i < u.naddrs; i++) {

        if (ngx_http_hybrid_redis_add(cf, &u.addrs[i], rcf) != NGX_CONF_OK) {
            return NGX_CONF_ERROR;
        }

        if (!several) {
            addr = rcf->addresses.elts;
            addr->text = *arg;
            break;
        }
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_hybrid_redis_add(ngx_conf_t *cf, ngx_addr_t *from,
    ngx_hybrid_redis_conf_t *rcf)
{
    size_t                    len;
    u_char                    text[NGX_SOCKADDR_STRLEN];
    ngx_hybrid_redis_addr_t  *addr;

    if (rcf->addresses.nelts == NGX_HTTP_HYBRID_REDIS_ADDRESSES) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "too many Redis addresses, at most %d",
                           NGX_HTTP_HYBRID_REDIS_ADDRESSES);
        return NGX_CONF_ERROR;
    }

    addr = ngx_array_push(&rcf->addresses);
    if (addr == NULL) {
        return NGX_CONF_ERROR;
    }

    len = ngx_sock_ntop(from->sockaddr, from->socklen, text,
                        NGX_SOCKADDR_STRLEN, 0);

    addr->host = ngx_pnalloc(cf->pool, len + 1);
    if (addr->host == NULL) {
        return NGX_CONF_ERROR;
    }

    (void) ngx_cpystrn(addr->host, text, len + 1);
    addr->text = from->name;
    addr->port = ngx_inet_get_port(from->sockaddr);

    /* hiredis wants no brackets */

    if (addr->host[0] == '[') {
        addr->host[len - 1] = '\0';
        addr->host++;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_hybrid_redis_option(ngx_conf_t *cf, ngx_str_t *arg,
    ngx_hybrid_redis_conf_t *rcf)
{
    char       *rv;
    ngx_int_t   n;
    ngx_str_t   value;
    ngx_uint_t  i, known;

    rv = ngx_http_hybrid_redis_tls_option(cf, arg, rcf, &known);

    if (known) {
        return rv;
    }

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

    if (ngx_strcmp(arg->data, "cluster") == 0) {
        rcf->cluster = 1;
        return NGX_CONF_OK;
    }

    if (ngx_http_hybrid_conf_option(arg, "sentinel", &value)) {

        if (value.len == 0) {
            goto invalid;
        }

        rcf->master = value;
        return NGX_CONF_OK;
    }

    if (ngx_http_hybrid_conf_option(arg, "sentinel_username", &value)) {
        rcf->sentinel_username = value;
        return NGX_CONF_OK;
    }

    if (ngx_http_hybrid_conf_option(arg, "sentinel_password_file", &value)) {
        return ngx_http_hybrid_conf_secret_watch(cf, &value, "",
                                                 &rcf->sentinel_password);
    }

invalid:

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid parameter \"%V\"", arg);

    return NGX_CONF_ERROR;
}
