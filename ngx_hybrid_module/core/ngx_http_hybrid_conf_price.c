
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * What a cloud takes for a million tokens.  Money is counted in whole
 * micro-units: nothing is rounded when it is read.
 */


#include "ngx_http_hybrid_conf.h"


/* whole units; above that sums could overflow */
#define NGX_HTTP_HYBRID_MONEY_MAX     100000
#define NGX_HTTP_HYBRID_MONEY_DIGITS  6


char *
ngx_http_hybrid_conf_price(ngx_conf_t *cf, void *block)
{
    ngx_http_hybrid_backend_t  *backend = block;

    uint64_t    *price;
    ngx_str_t   *value, text;
    ngx_uint_t   i, input, output;

    if (backend->priced) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"price\" directive is duplicate");
        return NGX_CONF_ERROR;
    }

    value = cf->args->elts;
    input = 0;
    output = 0;

    for (i = 1; i < cf->args->nelts; i++) {

        if (ngx_http_hybrid_conf_option(&value[i], "input", &text)
            && !input++)
        {
            price = &backend->price_input;

        } else if (ngx_http_hybrid_conf_option(&value[i], "output", &text)
                   && !output++)
        {
            price = &backend->price_output;

        } else {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid parameter \"%V\" of \"price\": it "
                               "takes input= and output=, each once",
                               &value[i]);
            return NGX_CONF_ERROR;
        }

        if (ngx_http_hybrid_conf_money(&text, NGX_HTTP_HYBRID_MONEY_MAX,
                                       price)
            != NGX_OK)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid \"%V\": the price of a million "
                               "tokens, 0 to %d, with at most %d digits "
                               "after the point, as in \"input=0.10\"",
                               &value[i], NGX_HTTP_HYBRID_MONEY_MAX,
                               NGX_HTTP_HYBRID_MONEY_DIGITS);
            return NGX_CONF_ERROR;
        }
    }

    backend->priced = 1;

    return NGX_CONF_OK;
}


/* stricter than ngx_atofp(), for which "." is nothing */

ngx_int_t
ngx_http_hybrid_conf_money(ngx_str_t *text, ngx_uint_t most, uint64_t *micro)
{
    u_char      *p, *last;
    uint64_t     n;
    ngx_uint_t   digits;

    p = text->data;
    last = p + text->len;
    n = 0;

    if (p == last || *p < '0' || *p > '9') {
        return NGX_ERROR;
    }

    for ( /* void */ ; p < last && *p >= '0' && *p <= '9'; p++) {
        n = n * 10 + (*p - '0');

        if (n > most) {
            return NGX_ERROR;
        }
    }

    digits = 0;

    if (p < last) {

        if (*p++ != '.' || p == last) {
            return NGX_ERROR;
        }

        for ( /* void */ ; p < last; p++) {

            if (*p < '0' || *p > '9'
                || ++digits > NGX_HTTP_HYBRID_MONEY_DIGITS)
            {
                return NGX_ERROR;
            }

            n = n * 10 + (*p - '0');
        }
    }

    for ( /* void */ ; digits < NGX_HTTP_HYBRID_MONEY_DIGITS; digits++) {
        n *= 10;
    }

    if (n > (uint64_t) most * 1000000) {
        return NGX_ERROR;
    }

    *micro = n;

    return NGX_OK;
}
