
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * What a request may ask of a machine: how long its model stays, and with
 * which options it is loaded.  Both are weapons against the machine's other
 * clients, see "options" of hybrid_client.
 */


#include "ngx_http_hybrid_module.h"


/* a day, in seconds: without a bound of the client's own */
#define NGX_HTTP_HYBRID_KEEP_ALIVE_MAX  86400

/* as long as makes a difference to anybody */
#define NGX_HTTP_HYBRID_SECONDS_MAX     315360000


static ngx_int_t ngx_http_hybrid_options_keep_alive(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx);
static ngx_uint_t ngx_http_hybrid_options_within(
    ngx_hybrid_json_value_t *value, ngx_uint_t admin, int64_t max);
static ngx_int_t ngx_http_hybrid_options_duration(
    ngx_hybrid_json_value_t *value, int64_t *least, int64_t *most);
static ngx_int_t ngx_http_hybrid_options_one(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_uint_t option,
    ngx_hybrid_json_value_t *value);
static ngx_int_t ngx_http_hybrid_options_refuse(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_int_t status, ngx_str_t *name,
    const char *what, int64_t limit);


ngx_int_t
ngx_http_hybrid_options_check(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx)
{
    ngx_uint_t                i;
    ngx_hybrid_json_value_t  *values;

    if (ngx_http_hybrid_options_keep_alive(r, ctx) != NGX_OK) {
        return ctx->verdict;
    }

    if (ctx->client->options == NULL) {
        return NGX_OK;
    }

    values = ctx->body->values;

    switch (values[NGX_HTTP_HYBRID_KEY_OPTIONS].type) {

    case NGX_HYBRID_JSON_T_ABSENT:
    case NGX_HYBRID_JSON_T_NULL:
        return NGX_OK;

    case NGX_HYBRID_JSON_T_OBJECT:
        break;

    default:
        return ngx_http_hybrid_refuse(ctx, NGX_HTTP_BAD_REQUEST, "options",
                                      "options must be an object");
    }

    values += NGX_HTTP_HYBRID_KEYS;

    for (i = 0; i < NGX_HTTP_HYBRID_OPTIONS; i++) {

        if (values[i].type != NGX_HYBRID_JSON_T_ABSENT
            && values[i].type != NGX_HYBRID_JSON_T_NULL
            && ngx_http_hybrid_options_one(r, ctx, i, &values[i]) != NGX_OK)
        {
            return ctx->verdict;
        }
    }

    return NGX_OK;
}


/*
 * Zero unloads the model for everybody, a negative or very long time pins it.
 */

static ngx_int_t
ngx_http_hybrid_options_keep_alive(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx)
{
    int64_t                   max;
    ngx_uint_t                admin;
    ngx_hybrid_json_value_t  *value;

    ngx_str_t  name = ngx_string("keep_alive");

    value = &ctx->body->values[NGX_HTTP_HYBRID_KEY_KEEP_ALIVE];

    /* one of another type is an error to Ollama */

    if (value->type != NGX_HYBRID_JSON_T_NUMBER
        && value->type != NGX_HYBRID_JSON_T_STRING)
    {
        return NGX_OK;
    }

    admin = ctx->client->verbs & NGX_HTTP_HYBRID_VERB_ADMIN;
    max = ctx->client->options ? ctx->client->options->keep_alive
                               : NGX_HTTP_HYBRID_OPTION_NONE;

    if (max == NGX_HTTP_HYBRID_OPTION_NONE) {

        if (admin || ngx_http_hybrid_options_within(value, 0,
                                              NGX_HTTP_HYBRID_KEEP_ALIVE_MAX))
        {
            return NGX_OK;
        }

        if (ngx_http_hybrid_shadow(ctx, ngx_hybrid_shadow_keep_alive)) {
            return NGX_OK;
        }

        return ngx_http_hybrid_refuse(ctx, NGX_HTTP_FORBIDDEN, "keep_alive",
                                      "this client may not unload or pin a "
                                      "model with keep_alive");
    }

    if (max == NGX_HTTP_HYBRID_OPTION_ANY
        || ngx_http_hybrid_options_within(value, admin, max))
    {
        return NGX_OK;
    }

    if (ngx_http_hybrid_shadow(ctx, ngx_hybrid_shadow_keep_alive)) {
        return NGX_OK;
    }

    (void) ngx_http_hybrid_options_refuse(r, ctx, NGX_HTTP_FORBIDDEN, &name,
                                          "may be a plain time of at most "
                                          "%L seconds", max);
    ngx_str_set(&ctx->reason, "keep_alive");

    return ctx->verdict;
}


/* whoever administrates may unload a model, but pin it only so long */

static ngx_uint_t
ngx_http_hybrid_options_within(ngx_hybrid_json_value_t *value,
    ngx_uint_t admin, int64_t max)
{
    int64_t  least, most;

    return ngx_http_hybrid_options_duration(value, &least, &most) == NGX_OK
           && (least > 0 || admin)
           && most <= max;
}


/*
 * Go reads a number as seconds and a string with time.ParseDuration().  What
 * is harmless is a plain number of hours, minutes or seconds; all else is
 * refused, also what Go would not understand.
 */

static ngx_int_t
ngx_http_hybrid_options_duration(ngx_hybrid_json_value_t *value,
    int64_t *least, int64_t *most)
{
    u_char      *p, *last, *digits;
    int64_t      unit;
    ngx_int_t    n;
    ngx_uint_t   fraction;

    p = value->data;
    last = p + value->len;

    *least = 0;
    *most = 0;

    if (value->overflow || p == last) {
        return NGX_ERROR;
    }

    while (p < last) {
        digits = p;

        while (p < last && *p >= '0' && *p <= '9') {
            p++;
        }

        n = ngx_atoi(digits, p - digits);

        if (n == NGX_ERROR || n > NGX_HTTP_HYBRID_SECONDS_MAX) {
            return NGX_ERROR;
        }

        fraction = 0;

        if (p < last && *p == '.') {
            for (p++; p < last && *p >= '0' && *p <= '9'; p++) {
                fraction |= *p != '0';
            }
        }

        unit = 1;

        if (value->type == NGX_HYBRID_JSON_T_STRING) {

            if (p == last || (*p != 'h' && *p != 'm' && *p != 's')
                || (*p == 'm' && p + 1 < last && p[1] == 's'))
            {
                return NGX_ERROR;
            }

            unit = (*p == 'h') ? 3600 : (*p == 'm') ? 60 : 1;
            p++;

        } else if (p < last) {
            return NGX_ERROR;
        }

        *least += n * unit;
        *most += (n + (ngx_int_t) fraction) * unit;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_hybrid_options_one(ngx_http_request_t *r, ngx_http_hybrid_ctx_t *ctx,
    ngx_uint_t option, ngx_hybrid_json_value_t *value)
{
    u_char     *p, *last;
    int64_t     limit;
    ngx_int_t   n;
    ngx_str_t  *name;

    name = &ngx_http_hybrid_option_keys[option].name;
    limit = ctx->client->options->limits[option];

    if (limit == NGX_HTTP_HYBRID_OPTION_ANY) {
        return NGX_OK;
    }

    if (limit == NGX_HTTP_HYBRID_OPTION_NONE) {

        if (!ngx_http_hybrid_option_loads(option)
            || ctx->client->verbs & NGX_HTTP_HYBRID_VERB_ADMIN)
        {
            return NGX_OK;
        }

        return ngx_http_hybrid_options_refuse(r, ctx, NGX_HTTP_FORBIDDEN, name,
                                              "may not be set by this client",
                                              0);
    }

    /*
     * Go takes 1e9 and 4096.5 for integers, other readers do not; a string
     * is an error to it.
     */

    p = value->data;
    last = p + value->len;

    if (p < last && *p == '-') {
        p++;
    }

    while (p < last && *p >= '0' && *p <= '9') {
        p++;
    }

    if (value->type != NGX_HYBRID_JSON_T_NUMBER || p < last) {
        return ngx_http_hybrid_options_refuse(r, ctx, NGX_HTTP_BAD_REQUEST,
                                              name, "must be an integer", 0);
    }

    /* a negative one is "without end", but of num_gpu the default */

    if (value->len == 2 && ngx_strncmp(value->data, "-1", 2) == 0
        && ngx_strcmp(name->data, "num_gpu") == 0)
    {
        return NGX_OK;
    }

    n = value->overflow ? NGX_ERROR : ngx_atoi(value->data, value->len);

    if (n == NGX_ERROR || n > limit) {
        return ngx_http_hybrid_options_refuse(r, ctx, NGX_HTTP_FORBIDDEN, name,
                                              "may be 0 to %L", limit);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_hybrid_options_refuse(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_int_t status, ngx_str_t *name,
    const char *what, int64_t limit)
{
    u_char  *p, *last;
    size_t   size;

    if (status == NGX_HTTP_FORBIDDEN
        && ngx_http_hybrid_shadow(ctx, ngx_hybrid_shadow_options))
    {
        return NGX_OK;
    }

    (void) ngx_http_hybrid_refuse(ctx, status, "options",
                                  "an option is not allowed");

    size = name->len + sizeof(" ") - 1 + ngx_strlen(what) + NGX_INT64_LEN;

    p = ngx_pnalloc(r->pool, size);
    if (p) {
        last = ngx_slprintf(p, p + size, "%V ", name);

        ctx->message.data = p;
        ctx->message.len = ngx_slprintf(last, p + size, what, limit) - p;
    }

    return status;
}
