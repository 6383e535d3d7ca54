
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Plain directives, and what the setters of the blocks share.
 */


#include "ngx_http_hybrid_conf.h"


typedef struct {
    ngx_http_hybrid_statement_t  *statements;
    void                         *block;
} ngx_http_hybrid_block_t;


static char *ngx_http_hybrid_conf_statement(ngx_conf_t *cf,
    ngx_command_t *dummy, void *conf);


char *
ngx_http_hybrid_zone(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_hybrid_main_conf_t  *hmcf = conf;

    ssize_t     size;
    ngx_str_t  *value;

    if (hmcf->zone_size != NGX_CONF_UNSET_SIZE) {
        return "is duplicate";
    }

    value = cf->args->elts;
    size = ngx_parse_size(&value[1]);

    if (size == NGX_ERROR) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid zone size \"%V\"", &value[1]);
        return NGX_CONF_ERROR;
    }

    if (size < NGX_HYBRID_SHM_MIN) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "hybrid_zone \"%V\" is too small, it must be at "
                           "least %dk", &value[1], NGX_HYBRID_SHM_MIN / 1024);
        return NGX_CONF_ERROR;
    }

    hmcf->zone_size = size;
    hmcf->defined = 1;

    return NGX_CONF_OK;
}


char *
ngx_http_hybrid_access(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_hybrid_loc_conf_t  *hlcf = conf;

    ngx_str_t                    *value;
    ngx_uint_t                    i;
    ngx_http_hybrid_main_conf_t  *hmcf;

    if (hlcf->access) {
        return "is duplicate";
    }

    ngx_http_hybrid_conf_place(cf, &hlcf->place);

    hmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_hybrid_module);
    value = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {

        if (ngx_strcmp(value[i].data, "off") == 0 && cf->args->nelts == 2) {
            hlcf->access = NGX_HTTP_HYBRID_ACCESS_OFF;
            return NGX_CONF_OK;
        }

        if (ngx_strcmp(value[i].data, "token") == 0) {
            hlcf->access |= NGX_HTTP_HYBRID_ACCESS_TOKEN;
            continue;
        }

        if (ngx_strcmp(value[i].data, "mtls") == 0) {
            hlcf->access |= NGX_HTTP_HYBRID_ACCESS_MTLS;
            continue;
        }

        if (ngx_strcmp(value[i].data, "jwt") == 0) {
            hlcf->access |= NGX_HTTP_HYBRID_ACCESS_JWT;
            hmcf->jwt_place = hlcf->place;
            continue;
        }

        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid value \"%V\", it must be \"token\", "
                           "\"jwt\", \"mtls\" or \"off\"", &value[i]);
        return NGX_CONF_ERROR;
    }

    hmcf->defined = 1;
    hmcf->filters = 1;

    return NGX_CONF_OK;
}


char *
ngx_http_hybrid_status(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_hybrid_loc_conf_t  *hlcf = conf;

    ngx_str_t                    *value;
    ngx_http_core_loc_conf_t     *clcf;
    ngx_http_hybrid_main_conf_t  *hmcf;

    if (hlcf->status) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "json") == 0) {
        hlcf->status = ngx_http_hybrid_status_json;

    } else if (ngx_strcmp(value[1].data, "prometheus") == 0) {
        hlcf->status = ngx_http_hybrid_status_prometheus;

    } else if (ngx_strcmp(value[1].data, "html") == 0) {
        hlcf->status = ngx_http_hybrid_status_html;

    } else {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid value \"%V\", it must be \"html\", "
                           "\"json\" or \"prometheus\"", &value[1]);
        return NGX_CONF_ERROR;
    }

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);
    clcf->handler = ngx_http_hybrid_status_handler;

    hmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_hybrid_module);
    hmcf->defined = 1;

    return NGX_CONF_OK;
}


char *
ngx_http_hybrid_conf_block(ngx_conf_t *cf,
    ngx_http_hybrid_statement_t *statements, void *block)
{
    char                     *rv;
    ngx_conf_t                save;
    ngx_http_hybrid_block_t   b;

    b.statements = statements;
    b.block = block;

    save = *cf;
    cf->handler = ngx_http_hybrid_conf_statement;
    cf->handler_conf = (char *) &b;

    rv = ngx_conf_parse(cf, NULL);

    *cf = save;

    return rv;
}


static char *
ngx_http_hybrid_conf_statement(ngx_conf_t *cf, ngx_command_t *dummy,
    void *conf)
{
    ngx_http_hybrid_block_t  *b = conf;

    ngx_str_t  *value;

    value = cf->args->elts;

    if (cf->args->nelts == 2 && ngx_strcmp(value[0].data, "include") == 0) {
        return ngx_conf_include(cf, dummy, conf);
    }

    return ngx_http_hybrid_conf_set(cf, b->statements, b->block);
}


char *
ngx_http_hybrid_conf_set(ngx_conf_t *cf,
    ngx_http_hybrid_statement_t *statements, void *block)
{
    ngx_str_t                    *value;
    ngx_uint_t                    n;
    ngx_http_hybrid_statement_t  *st;

    value = cf->args->elts;
    n = cf->args->nelts - 1;

    for (st = statements; st->name.len; st++) {

        if (st->name.len != value[0].len
            || ngx_strcmp(st->name.data, value[0].data) != 0)
        {
            continue;
        }

        if (n < st->min || n > st->max) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid number of arguments in \"%V\" "
                               "directive", &value[0]);
            return NGX_CONF_ERROR;
        }

        return st->set(cf, block);
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "unknown directive \"%V\"",
                       &value[0]);

    return NGX_CONF_ERROR;
}


char *
ngx_http_hybrid_conf_error_at(ngx_conf_t *cf, ngx_http_hybrid_place_t *place,
    const char *fmt, ...)
{
    u_char   buf[NGX_MAX_CONF_ERRSTR], *p;
    va_list  args;

    va_start(args, fmt);
    p = ngx_vslprintf(buf, buf + sizeof(buf), fmt, args);
    va_end(args);

    ngx_log_error(NGX_LOG_EMERG, cf->log, 0, "%*s in %s:%ui",
                  (size_t) (p - buf), buf, place->file, place->line);

    return NGX_CONF_ERROR;
}


void
ngx_http_hybrid_conf_place(ngx_conf_t *cf, ngx_http_hybrid_place_t *place)
{
    place->file = cf->conf_file->file.name.data;
    place->line = cf->conf_file->line;
}


ngx_uint_t
ngx_http_hybrid_conf_name_ok(ngx_str_t *name)
{
    u_char      ch;
    ngx_uint_t  i;

    if (name->len == 0 || name->len > NGX_HTTP_HYBRID_NAME_MAX) {
        return 0;
    }

    for (i = 0; i < name->len; i++) {
        ch = name->data[i];

        if (!((ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z')
              || (ch >= '0' && ch <= '9')
              || ch == '.' || ch == '_' || ch == '@' || ch == '-'))
        {
            return 0;
        }
    }

    /* labels of the statistics for none and for the rest */

    return !(name->len == 1 && name->data[0] == '-')
           && !(name->len == 5 && ngx_memcmp(name->data, "other", 5) == 0);
}


char *
ngx_http_hybrid_conf_patterns(ngx_conf_t *cf, ngx_array_t *patterns)
{
    ngx_str_t             *value;
    ngx_uint_t             i;
    ngx_hybrid_pattern_t  *pattern;

    value = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {

        pattern = ngx_array_push(patterns);
        if (pattern == NULL) {
            return NGX_CONF_ERROR;
        }

        if (ngx_http_hybrid_conf_pattern(cf, &value[i], pattern)
            != NGX_CONF_OK)
        {
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}


char *
ngx_http_hybrid_conf_pattern(ngx_conf_t *cf, ngx_str_t *text,
    ngx_hybrid_pattern_t *pattern)
{
    u_char  *buf;

    buf = ngx_pnalloc(cf->pool, text->len + sizeof(":latest"));
    if (buf == NULL) {
        return NGX_CONF_ERROR;
    }

    if (ngx_hybrid_pattern_parse(pattern, text, buf) != NGX_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "model pattern \"%V\" can never match: a model's "
                           "name has up to %d letters, digits and any of "
                           "\"._:/@+-\", here also \"*\"", text,
                           NGX_HYBRID_MODEL_MAX);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


u_char *
ngx_http_hybrid_conf_option(ngx_str_t *arg, const char *name,
    ngx_str_t *value)
{
    size_t  len;

    len = ngx_strlen(name);

    if (arg->len <= len || ngx_strncmp(arg->data, name, len) != 0
        || arg->data[len] != '=')
    {
        return NULL;
    }

    value->data = arg->data + len + 1;
    value->len = arg->len - len - 1;

    return value->data;
}


char *
ngx_http_hybrid_conf_loss(ngx_conf_t *cf, ngx_str_t *value,
    ngx_http_hybrid_loss_e *loss)
{
    if (ngx_strcmp(value->data, "local") == 0) {
        *loss = ngx_http_hybrid_loss_local;

    } else if (ngx_strcmp(value->data, "open") == 0) {
        *loss = ngx_http_hybrid_loss_open;

    } else if (ngx_strcmp(value->data, "closed") == 0) {
        *loss = ngx_http_hybrid_loss_closed;

    } else {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid value \"loss=%V\", it must be \"local\", "
                           "\"open\" or \"closed\"", value);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}
