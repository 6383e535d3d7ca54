
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * "rate", "tokens", "concurrency", "budget", "queue" and "weight" of
 * hybrid_client.
 */


#include "ngx_http_hybrid_conf.h"


#define NGX_HTTP_HYBRID_DAY          86400

/* of a burst, 50 years in nsec, so that no sum of times overflows */
#define NGX_HTTP_HYBRID_LIMIT_SPAN   (18262ULL * NGX_HTTP_HYBRID_DAY          \
                                      * 1000000000)

#define NGX_HTTP_HYBRID_RATE_BURST   1000000

/* in tokens, 2^50; and of money, so that Redis's numbers hold it */
#define NGX_HTTP_HYBRID_TOKENS_MAX   1125899906842624ULL
#define NGX_HTTP_HYBRID_BUDGET_MAX   1000000000


static char *ngx_http_hybrid_limit_options(ngx_conf_t *cf,
    ngx_http_hybrid_limit_t *limit, uint64_t max, const char *unit);
static ngx_uint_t ngx_http_hybrid_limit_window(u_char letter);
static ngx_int_t ngx_http_hybrid_limit_tokens_parse(ngx_str_t *text,
    uint64_t *tokens);
static ngx_int_t ngx_http_hybrid_limit_budget_parse(ngx_str_t *text,
    ngx_http_hybrid_limit_t *limit);
static char *ngx_http_hybrid_limit_duplicate(ngx_conf_t *cf);


char *
ngx_http_hybrid_conf_rate(ngx_conf_t *cf, void *block)
{
    ngx_http_hybrid_client_t  *client = block;

    ngx_int_t                 n;
    ngx_str_t                *value;
    ngx_http_hybrid_limit_t  *limit;

    limit = &client->limits[ngx_hybrid_meter_rate];

    if (limit->quota) {
        return ngx_http_hybrid_limit_duplicate(cf);
    }

    value = cf->args->elts;

    n = NGX_ERROR;

    if (value[1].len >= sizeof("1r/s") - 1
        && ngx_strncmp(value[1].data + value[1].len - 3, "r/", 2) == 0)
    {
        limit->window = ngx_http_hybrid_limit_window(
                                           value[1].data[value[1].len - 1]);
        n = ngx_atoi(value[1].data, value[1].len - 3);
    }

    if (n <= 0 || limit->window == 0
        || (uint64_t) n > limit->window * 1000000ULL)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid rate \"%V\", it must be as in \"10r/s\", "
                           "\"120r/m\", \"500r/h\" or \"1000r/d\"", &value[1]);
        return NGX_CONF_ERROR;
    }

    limit->quota = n;
    limit->burst = 1;

    /* whole microseconds, rounded up: never more than was allowed */

    limit->interval = (limit->window * 1000000ULL + n - 1) / n * 1000;

    return ngx_http_hybrid_limit_options(cf, limit,
                                         NGX_HTTP_HYBRID_RATE_BURST,
                                         "requests");
}


char *
ngx_http_hybrid_conf_tokens(ngx_conf_t *cf, void *block)
{
    ngx_http_hybrid_client_t  *client = block;

    ngx_str_t                *value, text;
    ngx_http_hybrid_limit_t  *limit;

    limit = &client->limits[ngx_hybrid_meter_tokens];

    if (limit->quota) {
        return ngx_http_hybrid_limit_duplicate(cf);
    }

    value = cf->args->elts;
    text = value[1];

    if (text.len > sizeof("1/m") - 2 && text.data[text.len - 2] == '/') {
        limit->window = ngx_http_hybrid_limit_window(text.data[text.len - 1]);
        text.len -= 2;
    }

    if (limit->window < 60
        || ngx_http_hybrid_limit_tokens_parse(&text, &limit->quota) != NGX_OK
        || limit->quota > limit->window * 1000000000ULL)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid number of tokens \"%V\", it must be as in "
                           "\"200k/m\", \"5M/h\" or \"100000/d\"", &value[1]);
        return NGX_CONF_ERROR;
    }

    limit->burst = limit->quota;
    limit->interval = (limit->window * 1000000000ULL + limit->quota - 1)
                      / limit->quota;

    return ngx_http_hybrid_limit_options(cf, limit,
                                         NGX_HTTP_HYBRID_TOKENS_MAX, "tokens");
}


char *
ngx_http_hybrid_conf_concurrency(ngx_conf_t *cf, void *block)
{
    ngx_http_hybrid_client_t  *client = block;

    ngx_int_t   n;
    ngx_str_t  *value;

    if (client->concurrency.quota) {
        return ngx_http_hybrid_limit_duplicate(cf);
    }

    value = cf->args->elts;
    n = ngx_atoi(value[1].data, value[1].len);

    if (n <= 0 || n > 100000) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid concurrency \"%V\", it must be 1 to "
                           "100000 requests at a time", &value[1]);
        return NGX_CONF_ERROR;
    }

    client->concurrency.quota = n;

    return ngx_http_hybrid_limit_options(cf, &client->concurrency, 0, NULL);
}


char *
ngx_http_hybrid_conf_budget(ngx_conf_t *cf, void *block)
{
    ngx_http_hybrid_client_t  *client = block;

    ngx_str_t                *value;
    ngx_http_hybrid_limit_t  *limit;

    limit = &client->limits[ngx_hybrid_meter_budget];

    if (limit->quota) {
        return ngx_http_hybrid_limit_duplicate(cf);
    }

    value = cf->args->elts;

    if (ngx_http_hybrid_limit_budget_parse(&value[1], limit) != NGX_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid budget \"%V\", it must be as in "
                           "\"5.00/d\", per day, or \"100/M\", per month "
                           "(of UTC, in the unit of \"price\")", &value[1]);
        return NGX_CONF_ERROR;
    }

    limit->burst = limit->quota;

    return ngx_http_hybrid_limit_options(cf, limit, 0, NULL);
}


char *
ngx_http_hybrid_conf_queue(ngx_conf_t *cf, void *block)
{
    ngx_http_hybrid_client_t  *client = block;

    ngx_int_t    n;
    ngx_str_t   *value, text;
    ngx_uint_t   i;

    if (client->queue) {
        return ngx_http_hybrid_limit_duplicate(cf);
    }

    value = cf->args->elts;
    n = ngx_atoi(value[1].data, value[1].len);

    if (n <= 0 || n > 10000) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid queue \"%V\", it must be 1 to 10000 "
                           "requests that wait", &value[1]);
        return NGX_CONF_ERROR;
    }

    client->queue = n;
    client->queue_timeout = 30000;

    for (i = 2; i < cf->args->nelts; i++) {

        if (ngx_http_hybrid_conf_option(&value[i], "timeout", &text)) {
            n = ngx_parse_time(&text, 0);

            if (n == NGX_ERROR || n == 0 || n > 3600 * 1000) {
                ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                                   "invalid \"%V\", it must be up to an hour",
                                   &value[i]);
                return NGX_CONF_ERROR;
            }

            client->queue_timeout = n;
            continue;
        }

        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid parameter \"%V\"",
                           &value[i]);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


char *
ngx_http_hybrid_conf_weight(ngx_conf_t *cf, void *block)
{
    ngx_http_hybrid_client_t  *client = block;

    ngx_int_t   n;
    ngx_str_t  *value;

    if (client->weight) {
        return ngx_http_hybrid_limit_duplicate(cf);
    }

    value = cf->args->elts;
    n = ngx_atoi(value[1].data, value[1].len);

    if (n <= 0 || n > 1000) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid weight \"%V\", it must be 1 to 1000",
                           &value[1]);
        return NGX_CONF_ERROR;
    }

    client->weight = n;

    return NGX_CONF_OK;
}


/* a cloud without a price costs nothing, as far as we know */

void
ngx_http_hybrid_conf_prices(ngx_conf_t *cf, ngx_http_hybrid_main_conf_t *hmcf)
{
    ngx_uint_t                   i;
    ngx_http_hybrid_client_t   **clients;
    ngx_http_hybrid_backend_t  **backends;

    clients = hmcf->clients.elts;

    for (i = 0; i < hmcf->clients.nelts; i++) {
        if (clients[i]->limits[ngx_hybrid_meter_budget].quota
            && (clients[i]->egress & NGX_HTTP_HYBRID_EGRESS_CLOUD))
        {
            break;
        }
    }

    if (i == hmcf->clients.nelts) {
        return;
    }

    backends = hmcf->backends.elts;

    for (i = 0; i < hmcf->backends.nelts; i++) {
        if (backends[i]->egress == NGX_HTTP_HYBRID_EGRESS_CLOUD
            && !backends[i]->priced)
        {
            ngx_log_error(NGX_LOG_WARN, cf->log, 0,
                          "no \"budget\" counts what backend \"%V\" costs: "
                          "it has no \"price\" in %s:%ui",
                          &backends[i]->name, backends[i]->place.file,
                          backends[i]->place.line);
        }
    }
}


/* max and unit: of a burst, if there may be one */

static char *
ngx_http_hybrid_limit_options(ngx_conf_t *cf, ngx_http_hybrid_limit_t *limit,
    uint64_t max, const char *unit)
{
    uint64_t     burst;
    ngx_str_t   *value, text;
    ngx_uint_t   i;

    value = cf->args->elts;

    if (max) {
        max = ngx_min(max, NGX_HTTP_HYBRID_LIMIT_SPAN / limit->interval);
    }

    for (i = 2; i < cf->args->nelts; i++) {

        if (max && ngx_http_hybrid_conf_option(&value[i], "burst", &text)) {

            if (ngx_http_hybrid_limit_tokens_parse(&text, &burst) != NGX_OK
                || burst > max)
            {
                ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                                   "invalid burst \"%V\", it must be 1 to "
                                   "%uL %s", &value[i], max, unit);
                return NGX_CONF_ERROR;
            }

            limit->burst = burst;
            continue;
        }

        if (ngx_http_hybrid_conf_option(&value[i], "loss", &text)) {

            if (ngx_http_hybrid_conf_loss(cf, &text, &limit->loss)
                != NGX_CONF_OK)
            {
                return NGX_CONF_ERROR;
            }

            continue;
        }

        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid parameter \"%V\"",
                           &value[i]);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


/* seconds, 0: there is no such unit */

static ngx_uint_t
ngx_http_hybrid_limit_window(u_char letter)
{
    switch (letter) {

    case 's':
        return 1;

    case 'm':
        return 60;

    case 'h':
        return 3600;

    case 'd':
        return NGX_HTTP_HYBRID_DAY;

    default:
        return 0;
    }
}


/* "k" and "M" are thousands, as in prices: tokens are not bytes */

static ngx_int_t
ngx_http_hybrid_limit_tokens_parse(ngx_str_t *text, uint64_t *tokens)
{
    size_t     len;
    uint64_t   scale;
    ngx_int_t  n;

    len = text->len;
    scale = 1;

    if (len) {
        switch (text->data[len - 1]) {

        case 'k':
        case 'K':
            scale = 1000;
            len--;
            break;

        case 'M':
        case 'm':
            scale = 1000000;
            len--;
            break;
        }
    }

    n = ngx_atoi(text->data, len);

    if (n <= 0 || (uint64_t) n > NGX_HTTP_HYBRID_TOKENS_MAX / scale) {
        return NGX_ERROR;
    }

    *tokens = n * scale;

    return NGX_OK;
}


static ngx_int_t
ngx_http_hybrid_limit_budget_parse(ngx_str_t *text,
    ngx_http_hybrid_limit_t *limit)
{
    u_char     *p, *last;
    ngx_str_t   money;

    last = text->data + text->len;
    p = ngx_strlchr(text->data, last, '/');

    if (p == NULL || last - p != 2) {
        return NGX_ERROR;
    }

    switch (p[1]) {

    case 'd':
        limit->window = NGX_HTTP_HYBRID_DAY;
        break;

    case 'M':
        limit->window = 31 * NGX_HTTP_HYBRID_DAY;
        limit->monthly = 1;
        break;

    default:
        return NGX_ERROR;
    }

    money.data = text->data;
    money.len = p - text->data;

    if (ngx_http_hybrid_conf_money(&money, NGX_HTTP_HYBRID_BUDGET_MAX,
                                   &limit->quota)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    return limit->quota ? NGX_OK : NGX_ERROR;
}


static char *
ngx_http_hybrid_limit_duplicate(ngx_conf_t *cf)
{
    ngx_str_t  *value;

    value = cf->args->elts;

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "\"%V\" directive is duplicate", &value[0]);

    return NGX_CONF_ERROR;
}
