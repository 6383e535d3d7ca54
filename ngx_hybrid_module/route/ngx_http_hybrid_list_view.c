
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * How lists of models are written, and the version of all backends.
 */


#include "ngx_http_hybrid_list.h"


/* of the fixed text around two names and a backend's */
#define NGX_HTTP_HYBRID_LIST_ITEM  320

/* members of a backend's own entry */
#define NGX_HTTP_HYBRID_LIST_NAME      0
#define NGX_HTTP_HYBRID_LIST_MODEL     1
#define NGX_HTTP_HYBRID_LIST_ID        2
#define NGX_HTTP_HYBRID_LIST_CREATED   3
#define NGX_HTTP_HYBRID_LIST_KEYS      4


typedef struct {
    u_char                     *pos;
    u_char                     *end;
    ngx_hybrid_json_value_t     values[NGX_HTTP_HYBRID_LIST_KEYS];
    u_char                      arena[2 * NGX_HYBRID_MODEL_MAX];
} ngx_http_hybrid_list_out_t;


static void ngx_http_hybrid_list_openai_item(ngx_http_hybrid_list_out_t *out,
    ngx_http_hybrid_item_t *item);
static void ngx_http_hybrid_list_ollama_item(ngx_http_hybrid_list_out_t *out,
    ngx_http_hybrid_item_t *item);
static ngx_int_t ngx_http_hybrid_list_scan(ngx_http_hybrid_list_out_t *out,
    ngx_http_hybrid_entry_t *entry);
static void ngx_http_hybrid_list_copy(ngx_http_hybrid_list_out_t *out,
    ngx_http_hybrid_item_t *item);
static void ngx_http_hybrid_list_put(ngx_http_hybrid_list_out_t *out,
    u_char *data, size_t len);
static ngx_uint_t ngx_http_hybrid_list_version_ok(ngx_str_t *version);
static ngx_int_t ngx_http_hybrid_list_version_compare(ngx_str_t *one,
    ngx_str_t *two);
static ngx_int_t ngx_http_hybrid_list_version_handler(ngx_http_request_t *r);


static ngx_hybrid_json_key_t  ngx_http_hybrid_list_keys[] = {
    { ngx_string("name"), 0, NULL, NULL, 0 },
    { ngx_string("model"), 0, NULL, NULL, 0 },
    { ngx_string("id"), NGX_HYBRID_MODEL_MAX, NULL, NULL, 0 },
    { ngx_string("created"), NGX_INT64_LEN, NULL, NULL, 0 }
};


static ngx_str_t  ngx_http_hybrid_list_gateway = ngx_string("gateway");


ngx_int_t
ngx_http_hybrid_list_write(ngx_http_hybrid_list_t *list, ngx_str_t *text)
{
    size_t                       size;
    ngx_uint_t                   i;
    ngx_http_hybrid_item_t      *item;
    ngx_http_hybrid_list_out_t  *out;

    out = ngx_palloc(list->request->pool, sizeof(ngx_http_hybrid_list_out_t));
    if (out == NULL) {
        return NGX_ERROR;
    }

    size = 64;

    for (i = 0; i < list->n; i++) {
        item = &list->items[i];

        size += NGX_HTTP_HYBRID_LIST_ITEM + 2 * item->name.len
                + NGX_HYBRID_MODEL_MAX + NGX_HYBRID_LABEL_MAX;

        if (item->entry && list->kind != ngx_http_hybrid_list_openai) {
            size += item->entry->json.len;
        }
    }

    out->pos = ngx_pnalloc(list->request->pool, size);
    if (out->pos == NULL) {
        return NGX_ERROR;
    }

    out->end = out->pos + size;
    text->data = out->pos;

    if (list->kind == ngx_http_hybrid_list_openai) {
        out->pos = ngx_slprintf(out->pos, out->end,
                                "{\"object\":\"list\",\"data\":[");
    } else {
        out->pos = ngx_slprintf(out->pos, out->end, "{\"models\":[");
    }

    for (i = 0; i < list->n; i++) {

        if (i) {
            ngx_http_hybrid_list_put(out, (u_char *) ",", 1);
        }

        if (list->kind == ngx_http_hybrid_list_openai) {
            ngx_http_hybrid_list_openai_item(out, &list->items[i]);

        } else {
            ngx_http_hybrid_list_ollama_item(out, &list->items[i]);
        }
    }

    out->pos = ngx_slprintf(out->pos, out->end, "]}\n");

    text->len = out->pos - text->data;

    return NGX_OK;
}


static void
ngx_http_hybrid_list_openai_item(ngx_http_hybrid_list_out_t *out,
    ngx_http_hybrid_item_t *item)
{
    u_char                    buf[NGX_HYBRID_MODEL_BUF];
    ngx_str_t                 name, created, id, *owner;
    ngx_hybrid_model_t        model;
    ngx_hybrid_json_value_t  *value;

    name = item->name;
    owner = item->backend ? &item->backend->name
                          : &ngx_http_hybrid_list_gateway;

    ngx_str_set(&created, "0");

    if (item->entry
        && item->backend->api == ngx_http_hybrid_api_openai
        && ngx_http_hybrid_list_scan(out, item->entry) == NGX_OK)
    {
        value = &out->values[NGX_HTTP_HYBRID_LIST_CREATED];

        if (value->type == NGX_HYBRID_JSON_T_NUMBER && !value->overflow) {
            created.data = value->data;
            created.len = value->len;
        }

        /* vendors may tell upper from lower case: as they write it */

        value = &out->values[NGX_HTTP_HYBRID_LIST_ID];

        id.data = value->data;
        id.len = value->len;

        if (!item->renamed
            && value->type == NGX_HYBRID_JSON_T_STRING && !value->overflow
            && ngx_hybrid_model_parse(&model, &id, buf) == NGX_OK)
        {
            name = id;
        }
    }

    out->pos = ngx_slprintf(out->pos, out->end,
                            "{\"id\":\"%V\",\"object\":\"model\","
                            "\"created\":%V,\"owned_by\":\"%V\"}",
                            &name, &created, owner);
}


static void
ngx_http_hybrid_list_ollama_item(ngx_http_hybrid_list_out_t *out,
    ngx_http_hybrid_item_t *item)
{
    ngx_str_t  *backend;

    backend = item->backend ? &item->backend->name
                            : &ngx_http_hybrid_list_gateway;

    if (item->entry
        && (!item->renamed
            || ngx_http_hybrid_list_scan(out, item->entry) == NGX_OK))
    {
        ngx_http_hybrid_list_copy(out, item);

        out->pos = ngx_slprintf(out->pos, out->end, ",\"backend\":\"%V\"}",
                                backend);
        return;
    }

    out->pos = ngx_slprintf(out->pos, out->end,
                            "{\"name\":\"%V\",\"model\":\"%V\","
                            "\"modified_at\":\"1970-01-01T00:00:00Z\","
                            "\"size\":0,\"digest\":\"\",\"details\":{"
                            "\"parent_model\":\"\",\"format\":\"\","
                            "\"family\":\"\",\"families\":null,"
                            "\"parameter_size\":\"\","
                            "\"quantization_level\":\"\"},"
                            "\"backend\":\"%V\"}",
                            &item->name, &item->name, backend);
}


static ngx_int_t
ngx_http_hybrid_list_scan(ngx_http_hybrid_list_out_t *out,
    ngx_http_hybrid_entry_t *entry)
{
    ngx_hybrid_json_t  js;

    if (ngx_hybrid_json_init(&js, ngx_http_hybrid_list_keys,
                             NGX_HTTP_HYBRID_LIST_KEYS, out->values,
                             out->arena, sizeof(out->arena))
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    (void) ngx_hybrid_json_feed(&js, entry->json.data, entry->json.len);

    return ngx_hybrid_json_finish(&js);
}


/* the backend's own object without its end, under the name clients use */

static void
ngx_http_hybrid_list_copy(ngx_http_hybrid_list_out_t *out,
    ngx_http_hybrid_item_t *item)
{
    off_t                      at;
    ngx_str_t                 *json;
    ngx_uint_t                 i;
    ngx_hybrid_json_value_t   *first, *second, *value;

    json = &item->entry->json;
    at = 0;

    if (item->renamed) {

        first = &out->values[NGX_HTTP_HYBRID_LIST_NAME];
        second = &out->values[NGX_HTTP_HYBRID_LIST_MODEL];

        if (first->start > second->start) {
            value = first;
            first = second;
            second = value;
        }

        for (i = 0; i < 2; i++) {
            value = i ? second : first;

            if (value->type == NGX_HYBRID_JSON_T_ABSENT) {
                continue;
            }

            ngx_http_hybrid_list_put(out, json->data + at, value->start - at);
            ngx_http_hybrid_list_put(out, (u_char *) "\"", 1);
            ngx_http_hybrid_list_put(out, item->name.data, item->name.len);
            ngx_http_hybrid_list_put(out, (u_char *) "\"", 1);

            at = value->end;
        }
    }

    ngx_http_hybrid_list_put(out, json->data + at, json->len - 1 - at);
}


static void
ngx_http_hybrid_list_put(ngx_http_hybrid_list_out_t *out, u_char *data,
    size_t len)
{
    out->pos = ngx_cpymem(out->pos, data,
                          ngx_min(len, (size_t) (out->end - out->pos)));
}


/*
 * What all backends of this client can do.  NGX_DECLINED: none has told its
 * version so far.
 */

ngx_int_t
ngx_http_hybrid_list_version(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx)
{
    u_char                      *p;
    ngx_str_t                    version, lowest;
    ngx_uint_t                   i;
    ngx_http_hybrid_backend_t  **backends;

    ngx_str_null(&lowest);

    backends = ctx->conf->backends.elts;

    for (i = 0; i < ctx->conf->backends.nelts; i++) {

        if (backends[i]->api != ngx_http_hybrid_api_ollama
            || backends[i]->health->lever == ngx_hybrid_lever_disabled
            || !ngx_http_hybrid_policy_egress(ctx, backends[i]))
        {
            continue;
        }

        version = ngx_http_hybrid_catalogue_version(backends[i]);

        if (ngx_http_hybrid_list_version_ok(&version)
            && (lowest.len == 0
                || ngx_http_hybrid_list_version_compare(&version, &lowest)
                   < 0))
        {
            lowest = version;
        }
    }

    if (lowest.len == 0) {
        return NGX_DECLINED;
    }

    /* a copy: the list may be another one when the answer is made */

    p = ngx_pnalloc(r->pool, lowest.len + sizeof("{\"version\":\"\"}"));
    if (p == NULL) {
        return NGX_DECLINED;
    }

    ctx->version.data = p;
    ctx->version.len = ngx_sprintf(p, "{\"version\":\"%V\"}", &lowest) - p;

    r->content_handler = ngx_http_hybrid_list_version_handler;

    return NGX_OK;
}


static ngx_uint_t
ngx_http_hybrid_list_version_ok(ngx_str_t *version)
{
    u_char  ch;
    size_t  i;

    for (i = 0; i < version->len; i++) {
        ch = version->data[i];

        if (!((ch >= '0' && ch <= '9') || (ch >= 'a' && ch <= 'z')
              || (ch >= 'A' && ch <= 'Z') || ch == '.' || ch == '-'
              || ch == '+'))
        {
            return 0;
        }
    }

    return version->len && version->len <= 64;
}


/* by numbers: 0.9.1 is before 0.12.0, and 0.12.0-rc1 is, too */

static ngx_int_t
ngx_http_hybrid_list_version_compare(ngx_str_t *one, ngx_str_t *two)
{
    u_char     *p, *q, *last, *end;
    ngx_uint_t  a, b, n;

    p = one->data;
    last = p + one->len;
    q = two->data;
    end = q + two->len;

    for (n = 0; n < 4; n++) {

        for (a = 0; p < last && *p >= '0' && *p <= '9'; p++) {
            a = a * 10 + (*p - '0');
        }

        for (b = 0; q < end && *q >= '0' && *q <= '9'; q++) {
            b = b * 10 + (*q - '0');
        }

        if (a != b) {
            return a < b ? -1 : 1;
        }

        if (p == last || q == end || *p != '.' || *q != '.') {
            break;
        }

        p++;
        q++;
    }

    a = (p < last && *p == '-');
    b = (q < end && *q == '-');

    return (ngx_int_t) b - (ngx_int_t) a;
}


static ngx_int_t
ngx_http_hybrid_list_version_handler(ngx_http_request_t *r)
{
    ngx_str_t                  type;
    ngx_http_hybrid_ctx_t     *ctx;
    ngx_http_complex_value_t   cv;

    ctx = ngx_http_hybrid_get_ctx(r);

    if (ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_memzero(&cv, sizeof(ngx_http_complex_value_t));
    cv.value = ctx->version;

    ngx_str_set(&type, "application/json");

    r->disable_not_modified = 1;

    return ngx_http_send_response(r, NGX_HTTP_OK, &type, &cv);
}
