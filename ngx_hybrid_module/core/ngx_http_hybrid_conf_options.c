
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * "options" of hybrid_client: the most that a request may ask of a machine.
 */


#include "ngx_http_hybrid_conf.h"


typedef struct {
    int64_t                        least;   /* that a bound may be */
    unsigned                       load:1;
    unsigned                       count:1;
} ngx_http_hybrid_option_t;


#define ngx_http_hybrid_option(name)                                          \
    { ngx_string(name), 20, NULL, NULL, 0 }


/* what Ollama and its older versions take; the names are in the same order */

ngx_hybrid_json_key_t  ngx_http_hybrid_option_keys[] = {
    ngx_http_hybrid_option("num_ctx"),
    ngx_http_hybrid_option("num_batch"),
    ngx_http_hybrid_option("num_gpu"),
    ngx_http_hybrid_option("main_gpu"),
    ngx_http_hybrid_option("num_thread"),
    ngx_http_hybrid_option("num_keep"),
    ngx_http_hybrid_option("num_predict"),
    ngx_http_hybrid_option("num_gqa"),
    ngx_http_hybrid_option("use_mmap"),
    ngx_http_hybrid_option("use_mlock"),
    ngx_http_hybrid_option("numa"),
    ngx_http_hybrid_option("low_vram"),
    ngx_http_hybrid_option("f16_kv"),
    ngx_http_hybrid_option("logits_all"),
    ngx_http_hybrid_option("vocab_only"),
    ngx_http_hybrid_option("rope_frequency_base"),
    ngx_http_hybrid_option("rope_frequency_scale")
};


/* all but num_predict make Ollama load the model anew */

static const ngx_http_hybrid_option_t  ngx_http_hybrid_options[] = {
    { 1, 1, 1 }, { 1, 1, 1 }, { 0, 1, 1 }, { 0, 1, 1 }, { 1, 1, 1 },
    { 0, 1, 1 }, { 1, 0, 1 }, { 1, 1, 1 },
    { 0, 1, 0 }, { 0, 1, 0 }, { 0, 1, 0 }, { 0, 1, 0 }, { 0, 1, 0 },
    { 0, 1, 0 }, { 0, 1, 0 }, { 0, 1, 0 }, { 0, 1, 0 }
};


ngx_uint_t
ngx_http_hybrid_option_loads(ngx_uint_t option)
{
    return ngx_http_hybrid_options[option].load;
}


char *
ngx_http_hybrid_conf_options(ngx_conf_t *cf, void *block)
{
    ngx_http_hybrid_client_t  *client = block;

    ngx_str_t   *value;
    ngx_uint_t   i;
    const char  *fault;

    if (client->options) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"options\" directive is duplicate");
        return NGX_CONF_ERROR;
    }

    client->options = ngx_http_hybrid_options_create(cf->pool);
    if (client->options == NULL) {
        return NGX_CONF_ERROR;
    }

    value = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {

        fault = ngx_http_hybrid_options_add(client->options, &value[i]);

        if (fault) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid option \"%V\": %s", &value[i], fault);
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}


ngx_http_hybrid_options_t *
ngx_http_hybrid_options_create(ngx_pool_t *pool)
{
    ngx_uint_t                  i;
    ngx_http_hybrid_options_t  *options;

    options = ngx_palloc(pool, sizeof(ngx_http_hybrid_options_t));
    if (options == NULL) {
        return NULL;
    }

    options->keep_alive = NGX_HTTP_HYBRID_OPTION_NONE;

    for (i = 0; i < NGX_HTTP_HYBRID_OPTIONS; i++) {
        options->limits[i] = NGX_HTTP_HYBRID_OPTION_NONE;
    }

    return options;
}


/* "name=bound"; what is wrong with it, or NULL */

const char *
ngx_http_hybrid_options_add(ngx_http_hybrid_options_t *options, ngx_str_t *arg)
{
    u_char                          *eq, *last;
    int64_t                         *limit;
    ngx_int_t                        n;
    ngx_str_t                        name, text;
    ngx_uint_t                       i;
    const ngx_http_hybrid_option_t  *option;

    last = arg->data + arg->len;
    eq = ngx_strlchr(arg->data, last, '=');

    if (eq == NULL) {
        return "write it as \"num_ctx=8192\" or \"num_ctx=any\"";
    }

    name.data = arg->data;
    name.len = eq - arg->data;
    text.data = eq + 1;
    text.len = last - text.data;

    option = NULL;
    limit = NULL;

    if (name.len == sizeof("keep_alive") - 1
        && ngx_strncmp(name.data, "keep_alive", name.len) == 0)
    {
        limit = &options->keep_alive;
    }

    for (i = 0; i < NGX_HTTP_HYBRID_OPTIONS; i++) {

        if (ngx_http_hybrid_option_keys[i].name.len == name.len
            && ngx_strncmp(ngx_http_hybrid_option_keys[i].name.data, name.data,
                           name.len)
               == 0)
        {
            option = &ngx_http_hybrid_options[i];
            limit = &options->limits[i];
        }
    }

    if (limit == NULL) {
        return "no option of this name can be bounded";
    }

    if (*limit != NGX_HTTP_HYBRID_OPTION_NONE) {
        return "it is given twice";
    }

    if (text.len == 3 && ngx_strncmp(text.data, "any", 3) == 0) {
        *limit = NGX_HTTP_HYBRID_OPTION_ANY;
        return NULL;
    }

    if (option == NULL) {

        /* a year, so that sums of units can't overflow */

        n = ngx_parse_time(&text, 1);

        if (n == NGX_ERROR || n < 1 || n > 31536000) {
            return "it must be 1s to 365d, or \"any\"";
        }

    } else if (!option->count) {
        return "it is no number, and can only be \"any\"";

    } else {
        n = ngx_atoi(text.data, text.len);

        if (n == NGX_ERROR || n < option->least || n > 2147483647) {
            return option->least
                   ? "it must be 1 to 2147483647, or \"any\""
                   : "it must be 0 to 2147483647, or \"any\"";
        }
    }

    *limit = n;

    return NULL;
}
