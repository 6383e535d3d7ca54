
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * "credential gce": the metadata server of a virtual machine in Google's
 * cloud gives an access token for the machine's service account.  One worker
 * gets it for all, ahead of its end; in the zone it is "<end> <token>", the
 * end on the clock of ngx_current_msec.
 */


#include "ngx_http_hybrid_conf.h"
#include "ngx_http_hybrid_gce.h"


static ngx_http_hybrid_gce_t *ngx_http_hybrid_gce_get(ngx_conf_t *cf,
    ngx_str_t *server, ngx_str_t *account);
static ngx_uint_t ngx_http_hybrid_gce_name_ok(ngx_str_t *name);
static ngx_int_t ngx_http_hybrid_gce_add(ngx_conf_t *cf,
    ngx_http_hybrid_main_conf_t *hmcf, ngx_http_hybrid_gce_t *gce,
    ngx_resolver_t *resolver);
static ngx_int_t ngx_http_hybrid_gce_handler(void *data,
    ngx_hybrid_fetch_t *f, ngx_hybrid_getter_answer_t *a);
static const char *ngx_http_hybrid_gce_parse(ngx_hybrid_fetch_t *f,
    u_char *arena, size_t size, ngx_str_t *token, ngx_int_t *seconds);
static ngx_msec_t ngx_http_hybrid_gce_next(ngx_msec_t seconds);
static void ngx_http_hybrid_gce_load(ngx_http_hybrid_gce_t *gce,
    ngx_log_t *log);
static void ngx_http_hybrid_gce_wipe(ngx_http_hybrid_gce_t *gce);


#define NGX_HTTP_HYBRID_GCE_PATH                                              \
    "/computeMetadata/v1/instance/service-accounts/"

#define NGX_HTTP_HYBRID_GCE_BODY     16384

/* msec: of a fetch, and the longest pause between tries */
#define NGX_HTTP_HYBRID_GCE_TIMEOUT  5000
#define NGX_HTTP_HYBRID_GCE_RETRY    60000

/* seconds: the server makes a new token so long before the old one ends */
#define NGX_HTTP_HYBRID_GCE_AHEAD    240

/* of a token, seconds; no clock is trusted for longer */
#define NGX_HTTP_HYBRID_GCE_MAX      86400

#define NGX_HTTP_HYBRID_GCE_KEYS     3
#define NGX_HTTP_HYBRID_GCE_ARENA    (NGX_HTTP_HYBRID_GCE_TOKEN + 64)


char *
ngx_http_hybrid_gce(ngx_conf_t *cf, ngx_http_hybrid_backend_t *backend)
{
    ngx_str_t        *value, server, account, set;
    ngx_uint_t        i;
    ngx_table_elt_t  *h;

    ngx_str_null(&server);
    ngx_str_null(&account);

    value = cf->args->elts;

    for (i = 2; i < cf->args->nelts; i++) {

        if (server.len == 0
            && ngx_http_hybrid_conf_option(&value[i], "metadata", &set)
            && set.len && ngx_strlchr(set.data, set.data + set.len, '/')
                          == NULL)
        {
            server = set;
            continue;
        }

        if (account.len == 0
            && ngx_http_hybrid_conf_option(&value[i], "account", &set)
            && ngx_http_hybrid_gce_name_ok(&set))
        {
            account = set;
            continue;
        }

        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid parameter \"%V\" of \"credential gce\", "
                           "it must be \"metadata=host:port\" or "
                           "\"account=name\"", &value[i]);
        return NGX_CONF_ERROR;
    }

    if (server.len == 0) {
        ngx_str_set(&server, "169.254.169.254:80");
    }

    if (account.len == 0) {
        ngx_str_set(&account, "default");
    }

    backend->gce = ngx_http_hybrid_gce_get(cf, &server, &account);
    if (backend->gce == NULL) {
        return NGX_CONF_ERROR;
    }

    /* the place that the token takes in each request */

    h = ngx_array_push(&backend->credentials);
    if (h == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_memzero(h, sizeof(ngx_table_elt_t));
    ngx_str_set(&h->key, "Authorization");
    h->lowcase_key = (u_char *) "authorization";
    h->hash = ngx_hash_key(h->lowcase_key, h->key.len);

    return NGX_CONF_OK;
}


/* backends that ask for the same account share its token */

static ngx_http_hybrid_gce_t *
ngx_http_hybrid_gce_get(ngx_conf_t *cf, ngx_str_t *server, ngx_str_t *account)
{
    u_char                        *p;
    ngx_str_t                      name;
    ngx_uint_t                     i;
    ngx_http_hybrid_gce_t         *gce, **gces;
    ngx_http_hybrid_main_conf_t   *hmcf;

    hmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_hybrid_module);

    p = ngx_pnalloc(cf->pool, sizeof("gce::") + server->len + account->len);
    if (p == NULL) {
        return NULL;
    }

    name.data = p;
    name.len = ngx_sprintf(p, "gce:%V:%V", server, account) - p;

    if (name.len > NGX_HYBRID_DOC_NAME) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "metadata server and account \"%V\" are too long",
                           &name);
        return NULL;
    }

    gces = hmcf->gces.elts;

    for (i = 0; i < hmcf->gces.nelts; i++) {
        if (gces[i]->doc_name.len == name.len
            && ngx_memcmp(gces[i]->doc_name.data, name.data, name.len) == 0)
        {
            return gces[i];
        }
    }

    gce = ngx_pcalloc(cf->pool, sizeof(ngx_http_hybrid_gce_t));
    gces = ngx_array_push(&hmcf->gces);

    if (gce == NULL || gces == NULL) {
        return NULL;
    }

    gce->server = *server;
    gce->account = *account;
    gce->doc_name = name;
    ngx_http_hybrid_conf_place(cf, &gce->place);

    *gces = gce;

    return gce;
}


/* "default", or the address of an account; it goes into a path */

static ngx_uint_t
ngx_http_hybrid_gce_name_ok(ngx_str_t *name)
{
    u_char      ch;
    ngx_uint_t  i;

    for (i = 0; i < name->len; i++) {
        ch = name->data[i];

        if (!((ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z')
              || (ch >= '0' && ch <= '9')
              || ch == '-' || ch == '_' || ch == '@'
              || (ch == '.' && i)))
        {
            return 0;
        }
    }

    return name->len != 0;
}


ngx_int_t
ngx_http_hybrid_gce_init(ngx_conf_t *cf, ngx_http_hybrid_main_conf_t *hmcf,
    ngx_resolver_t *resolver)
{
    ngx_uint_t               i;
    ngx_http_hybrid_gce_t  **gces;

    gces = hmcf->gces.elts;

    for (i = 0; i < hmcf->gces.nelts; i++) {
        if (ngx_http_hybrid_gce_add(cf, hmcf, gces[i], resolver) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_hybrid_gce_add(ngx_conf_t *cf, ngx_http_hybrid_main_conf_t *hmcf,
    ngx_http_hybrid_gce_t *gce, ngx_resolver_t *resolver)
{
    size_t                len;
    u_char               *p;
    ngx_str_t             url;
    ngx_hybrid_getter_t  *g;

    g = ngx_hybrid_getter_add(&hmcf->getters, cf);
    if (g == NULL) {
        return NGX_ERROR;
    }

    len = sizeof("http://" NGX_HTTP_HYBRID_GCE_PATH "/token")
          + gce->server.len + gce->account.len;

    p = ngx_pnalloc(cf->pool, len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    url.data = p;
    url.len = ngx_sprintf(p, "http://%V" NGX_HTTP_HYBRID_GCE_PATH "%V/token",
                          &gce->server, &gce->account)
              - p;

    if (ngx_hybrid_fetch_target(cf, &g->target, &url, NULL, resolver)
        != NGX_CONF_OK)
    {
        (void) ngx_http_hybrid_conf_error_at(cf, &gce->place,
                       "invalid \"metadata=%V\" of \"credential gce\"",
                       &gce->server);
        return NGX_ERROR;
    }

    ngx_str_set(&g->target.host, "metadata.google.internal");

    len = sizeof("access token of \"\"") + gce->account.len;

    p = ngx_pnalloc(cf->pool, len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    g->name.data = p;
    g->name.len = ngx_sprintf(p, "access token of \"%V\"", &gce->account) - p;

    ngx_str_set(&g->headers, "Metadata-Flavor: Google" CRLF);
    g->max = NGX_HTTP_HYBRID_GCE_BODY;
    g->timeout = NGX_HTTP_HYBRID_GCE_TIMEOUT;
    g->retry = NGX_HTTP_HYBRID_GCE_RETRY;
    g->handler = ngx_http_hybrid_gce_handler;
    g->data = gce;

    gce->getter = g;

    return NGX_OK;
}


ngx_int_t
ngx_http_hybrid_gce_adopt(ngx_http_hybrid_main_conf_t *hmcf, ngx_log_t *log)
{
    ngx_uint_t               i;
    ngx_hybrid_doc_t        *doc;
    ngx_http_hybrid_gce_t  **gces;

    gces = hmcf->gces.elts;

    for (i = 0; i < hmcf->gces.nelts; i++) {

        doc = ngx_hybrid_doc(hmcf->shm, &gces[i]->doc_name);

        if (doc == NULL) {
            ngx_log_error(NGX_LOG_EMERG, log, 0,
                          "hybrid_zone of %uzk is too small: make it larger",
                          hmcf->zone_size / 1024);
            return NGX_ERROR;
        }

        gces[i]->getter->doc = doc;
    }

    return NGX_OK;
}


void
ngx_http_hybrid_gce_exit(ngx_http_hybrid_main_conf_t *hmcf)
{
    ngx_uint_t               i;
    ngx_http_hybrid_gce_t  **gces;

    gces = hmcf->gces.elts;

    for (i = 0; i < hmcf->gces.nelts; i++) {
        ngx_http_hybrid_gce_wipe(gces[i]);
    }
}


static ngx_int_t
ngx_http_hybrid_gce_handler(void *data, ngx_hybrid_fetch_t *f,
    ngx_hybrid_getter_answer_t *a)
{
    u_char       arena[NGX_HTTP_HYBRID_GCE_ARENA];
    u_char       text[NGX_HTTP_HYBRID_GCE_TOKEN + NGX_INT64_LEN + 1];
    size_t       len;
    ngx_str_t    token;
    ngx_int_t    seconds;
    const char  *fault;

    fault = ngx_http_hybrid_gce_parse(f, arena, sizeof(arena), &token,
                                      &seconds);

    if (fault == NULL) {

        len = ngx_slprintf(text, text + sizeof(text), "%M %V",
                           ngx_current_msec + (ngx_msec_t) seconds * 1000,
                           &token)
              - text;

        /* in the room of the answer, which is wiped after this */

        if (len <= f->body.len) {
            ngx_memcpy(f->body.data, text, len);

            a->text.data = f->body.data;
            a->text.len = len;
            a->next = ngx_http_hybrid_gce_next(seconds);

        } else {
            fault = "answer is not a token";
        }

        ngx_explicit_memzero(text, sizeof(text));
    }

    ngx_explicit_memzero(arena, sizeof(arena));

    if (fault) {
        a->text.data = (u_char *) fault;
        a->text.len = ngx_strlen(fault);
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* NULL, or what is wrong; token points into the arena */

static const char *
ngx_http_hybrid_gce_parse(ngx_hybrid_fetch_t *f, u_char *arena, size_t size,
    ngx_str_t *token, ngx_int_t *seconds)
{
    u_char                   *p;
    ngx_str_t                *flavor;
    ngx_hybrid_json_t         json;
    ngx_hybrid_json_key_t     keys[NGX_HTTP_HYBRID_GCE_KEYS];
    ngx_hybrid_json_value_t   values[NGX_HTTP_HYBRID_GCE_KEYS];

    /* whoever else answers at that address does not say this */

    flavor = ngx_hybrid_fetch_find(f, "metadata-flavor");

    if (flavor == NULL || flavor->len != sizeof("Google") - 1
        || ngx_memcmp(flavor->data, "Google", flavor->len) != 0)
    {
        return "answer is not of a metadata server";
    }

    ngx_memzero(keys, sizeof(keys));

    ngx_str_set(&keys[0].name, "access_token");
    keys[0].size = NGX_HTTP_HYBRID_GCE_TOKEN;

    ngx_str_set(&keys[1].name, "expires_in");
    keys[1].size = 16;

    ngx_str_set(&keys[2].name, "token_type");
    keys[2].size = 16;

    if (ngx_hybrid_json_init(&json, keys, NGX_HTTP_HYBRID_GCE_KEYS, values,
                             arena, size)
        != NGX_OK
        || ngx_hybrid_json_feed(&json, f->body.data, f->body.len) != NGX_OK
        || ngx_hybrid_json_finish(&json) != NGX_OK)
    {
        return "answer is not valid JSON";
    }

    if (values[0].type != NGX_HYBRID_JSON_T_STRING || values[0].overflow
        || values[0].len == 0)
    {
        return "answer has no usable \"access_token\"";
    }

    token->data = values[0].data;
    token->len = values[0].len;

    for (p = token->data; p < token->data + token->len; p++) {
        if (*p <= ' ' || *p >= 0x7f) {
            return "\"access_token\" is not of visible ASCII";
        }
    }

    if (values[2].type != NGX_HYBRID_JSON_T_STRING || values[2].overflow
        || values[2].len != sizeof("Bearer") - 1
        || ngx_strncasecmp(values[2].data, (u_char *) "Bearer", values[2].len)
           != 0)
    {
        return "\"token_type\" is not \"Bearer\"";
    }

    *seconds = -1;

    if (values[1].type == NGX_HYBRID_JSON_T_NUMBER && !values[1].overflow) {
        *seconds = ngx_atoi(values[1].data, values[1].len);
    }

    if (*seconds <= 0 || *seconds > NGX_HTTP_HYBRID_GCE_MAX) {
        return "\"expires_in\" is not a number of seconds";
    }

    return NULL;
}


static ngx_msec_t
ngx_http_hybrid_gce_next(ngx_msec_t seconds)
{
    ngx_msec_t  next;

    if (seconds < 2 * NGX_HTTP_HYBRID_GCE_AHEAD) {
        next = seconds * 1000 / 2;

    } else {
        next = (seconds - NGX_HTTP_HYBRID_GCE_AHEAD) * 1000;
    }

    return next - ngx_random() % (ngx_min(next, 300000) / 10 + 1);
}


ngx_uint_t
ngx_http_hybrid_gce_valid(ngx_http_hybrid_gce_t *gce, ngx_log_t *log)
{
    if (gce->getter->doc->generation != gce->seen) {
        ngx_http_hybrid_gce_load(gce, log);
    }

    if (gce->value.len
        && (ngx_msec_int_t) (gce->expires - ngx_current_msec) > 0)
    {
        return 1;
    }

    ngx_http_hybrid_gce_wipe(gce);

    return 0;
}


ngx_uint_t
ngx_http_hybrid_gce_ready(ngx_http_hybrid_gce_t *gce, ngx_log_t *log)
{
    if (ngx_http_hybrid_gce_valid(gce, log)) {
        gce->missing = 0;
        return 1;
    }

    if (!gce->missing) {
        gce->missing = 1;

        ngx_log_error(NGX_LOG_WARN, log, 0,
                      "%V: there is none that is valid, backends with "
                      "\"credential gce\" are passed over",
                      &gce->getter->name);
    }

    return 0;
}


ngx_str_t *
ngx_http_hybrid_gce_value(ngx_http_hybrid_gce_t *gce)
{
    return &gce->value;
}


static void
ngx_http_hybrid_gce_load(ngx_http_hybrid_gce_t *gce, ngx_log_t *log)
{
    u_char                *p, *last;
    ngx_int_t              expires;
    ngx_str_t              text;
    ngx_pool_t            *pool;
    ngx_hybrid_getter_t   *g;

    g = gce->getter;

    pool = ngx_create_pool(NGX_DEFAULT_POOL_SIZE, log);
    if (pool == NULL) {
        return;
    }

    ngx_http_hybrid_gce_wipe(gce);

    if (ngx_hybrid_doc_read(g->getters->shm, g->doc, pool, &text, &gce->seen)
        == NGX_OK)
    {
        last = text.data + text.len;
        p = ngx_strlchr(text.data, last, ' ');
        expires = p ? ngx_atoi(text.data, p - text.data) : NGX_ERROR;

        if (expires != NGX_ERROR
            && (size_t) (last - ++p) <= NGX_HTTP_HYBRID_GCE_TOKEN)
        {
            gce->expires = (ngx_msec_t) expires;
            gce->value.data = gce->text;
            gce->value.len = ngx_sprintf(gce->text, "Bearer %*s",
                                         (size_t) (last - p), p)
                             - gce->text;
        }

        ngx_explicit_memzero(text.data, text.len);
    }

    ngx_destroy_pool(pool);
}


static void
ngx_http_hybrid_gce_wipe(ngx_http_hybrid_gce_t *gce)
{
    ngx_explicit_memzero(gce->text, sizeof(gce->text));
    ngx_str_null(&gce->value);
}
