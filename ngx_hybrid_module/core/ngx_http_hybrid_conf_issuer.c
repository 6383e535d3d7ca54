
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * hybrid_issuer name { ... }, and the "jwt" lines of clients
 */


#include "ngx_http_hybrid_conf.h"
#include "ngx_http_hybrid_jwt.h"


/* an HS256 secret that is watched; the array of keys may move */

typedef struct {
    ngx_http_hybrid_issuer_t      *issuer;
    ngx_uint_t                     index;
    ngx_str_t                      kid;
    ngx_str_t                      file;
} ngx_http_hybrid_issuer_secret_t;


static char *ngx_http_hybrid_issuer_issuer(ngx_conf_t *cf, void *block);
static char *ngx_http_hybrid_issuer_audience(ngx_conf_t *cf, void *block);
static char *ngx_http_hybrid_issuer_jwks(ngx_conf_t *cf, void *block);
static char *ngx_http_hybrid_issuer_algorithms(ngx_conf_t *cf, void *block);
static char *ngx_http_hybrid_issuer_header(ngx_conf_t *cf, void *block);
static char *ngx_http_hybrid_issuer_leeway(ngx_conf_t *cf, void *block);
static char *ngx_http_hybrid_issuer_refresh(ngx_conf_t *cf, void *block);
static char *ngx_http_hybrid_issuer_time(ngx_conf_t *cf, ngx_str_t *text,
    ngx_msec_t *msec);
static char *ngx_http_hybrid_issuer_secret(ngx_conf_t *cf, void *block);
static ngx_int_t ngx_http_hybrid_issuer_secret_changed(void *data,
    ngx_str_t *text, ngx_uint_t level, ngx_log_t *log);
static char *ngx_http_hybrid_issuer_certificate(ngx_conf_t *cf, void *block);
static char *ngx_http_hybrid_issuer_complete(ngx_conf_t *cf,
    ngx_http_hybrid_issuer_t *issuer);
static char *ngx_http_hybrid_issuer_keys(ngx_conf_t *cf,
    ngx_http_hybrid_issuer_t *issuer);
static void ngx_http_hybrid_issuer_cleanup(void *data);
static char *ngx_http_hybrid_issuer_duplicate(ngx_conf_t *cf);


static ngx_http_hybrid_statement_t  ngx_http_hybrid_issuer_statements[] = {
    { ngx_string("issuer"), 1, 1, ngx_http_hybrid_issuer_issuer },
    { ngx_string("audience"), 1, NGX_HTTP_HYBRID_MANY,
      ngx_http_hybrid_issuer_audience },
    { ngx_string("jwks"), 1, 1, ngx_http_hybrid_issuer_jwks },
    { ngx_string("algorithms"), 1, 8, ngx_http_hybrid_issuer_algorithms },
    { ngx_string("header"), 1, 1, ngx_http_hybrid_issuer_header },
    { ngx_string("leeway"), 1, 1, ngx_http_hybrid_issuer_leeway },
    { ngx_string("refresh"), 1, 3, ngx_http_hybrid_issuer_refresh },
    { ngx_string("secret"), 1, 2, ngx_http_hybrid_issuer_secret },
    { ngx_string("trusted_certificate"), 1, 1,
      ngx_http_hybrid_issuer_certificate },
    { ngx_null_string, 0, 0, NULL }
};


/* what nginx or the gateway itself gives a meaning to */

static ngx_str_t  ngx_http_hybrid_issuer_taken[] = {
    ngx_string("cf-access-client-id"),
    ngx_string("cf-access-client-secret"),
    ngx_string("x-api-key"),
    ngx_string("x-goog-api-key"),
    ngx_string("proxy-authorization"),
    ngx_string("connection"),
    ngx_string("content-encoding"),
    ngx_string("content-length"),
    ngx_string("cookie"),
    ngx_string("expect"),
    ngx_string("host"),
    ngx_string("keep-alive"),
    ngx_string("te"),
    ngx_string("trailer"),
    ngx_string("transfer-encoding"),
    ngx_string("upgrade"),
    ngx_null_string
};


char *
ngx_http_hybrid_issuer(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_hybrid_main_conf_t  *hmcf = conf;

    char                       *rv;
    ngx_str_t                  *value;
    ngx_uint_t                  i;
    ngx_pool_cleanup_t         *cln;
    ngx_http_hybrid_issuer_t   *issuer, **issuers;

    value = cf->args->elts;

    if (!ngx_http_hybrid_conf_name_ok(&value[1])) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid issuer name \"%V\": up to %d letters, "
                           "digits and any of \"._@-\", not \"other\"",
                           &value[1], NGX_HTTP_HYBRID_NAME_MAX);
        return NGX_CONF_ERROR;
    }

    issuers = hmcf->issuers.elts;

    for (i = 0; i < hmcf->issuers.nelts; i++) {
        if (issuers[i]->name.len == value[1].len
            && ngx_memcmp(issuers[i]->name.data, value[1].data, value[1].len)
               == 0)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "duplicate hybrid_issuer \"%V\"", &value[1]);
            return NGX_CONF_ERROR;
        }
    }

    cln = ngx_pool_cleanup_add(cf->pool, sizeof(ngx_http_hybrid_issuer_t));
    if (cln == NULL) {
        return NGX_CONF_ERROR;
    }

    issuer = cln->data;
    ngx_memzero(issuer, sizeof(ngx_http_hybrid_issuer_t));
    cln->handler = ngx_http_hybrid_issuer_cleanup;

    issuers = ngx_array_push(&hmcf->issuers);
    if (issuers == NULL) {
        return NGX_CONF_ERROR;
    }

    *issuers = issuer;

    issuer->name = value[1];
    issuer->leeway = NGX_HTTP_HYBRID_LEEWAY;
    issuer->refresh = NGX_HTTP_HYBRID_REFRESH;
    issuer->cooldown = NGX_HTTP_HYBRID_COOLDOWN;
    issuer->stale = NGX_HTTP_HYBRID_STALE;
    ngx_http_hybrid_conf_place(cf, &issuer->place);

    if (ngx_array_init(&issuer->audiences, cf->pool, 2, sizeof(ngx_str_t))
        != NGX_OK
        || ngx_array_init(&issuer->secrets, cf->pool, 2,
                          sizeof(ngx_hybrid_jwk_t)) != NGX_OK
        || ngx_array_init(&issuer->claims, cf->pool, 4, sizeof(ngx_str_t))
           != NGX_OK
        || ngx_array_init(&issuer->rules, cf->pool, 4, sizeof(void *))
           != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    hmcf->defined = 1;

    rv = ngx_http_hybrid_conf_block(cf, ngx_http_hybrid_issuer_statements,
                                    issuer);
    if (rv != NGX_CONF_OK) {
        return rv;
    }

    return ngx_http_hybrid_issuer_complete(cf, issuer);
}


static void
ngx_http_hybrid_issuer_cleanup(void *data)
{
    ngx_http_hybrid_issuer_t  *issuer = data;

    ngx_uint_t         i;
    ngx_hybrid_jwk_t  *secrets;

    ngx_hybrid_jwks_free(issuer->keys);

    secrets = issuer->secrets.elts;

    for (i = 0; i < issuer->secrets.nelts; i++) {
        ngx_hybrid_jwk_done(&secrets[i]);
    }
}


static char *
ngx_http_hybrid_issuer_duplicate(ngx_conf_t *cf)
{
    ngx_str_t  *value;

    value = cf->args->elts;

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "\"%V\" directive is duplicate",
                       &value[0]);
    return NGX_CONF_ERROR;
}


static char *
ngx_http_hybrid_issuer_issuer(ngx_conf_t *cf, void *block)
{
    ngx_http_hybrid_issuer_t  *issuer = block;

    ngx_str_t  *value;

    if (issuer->issuer.len) {
        return ngx_http_hybrid_issuer_duplicate(cf);
    }

    value = cf->args->elts;

    if (value[1].len == 0 || value[1].len > NGX_HYBRID_CLAIMS_ISS) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid issuer \"%V\": it is the \"iss\" of the "
                           "tokens, up to %d bytes", &value[1],
                           NGX_HYBRID_CLAIMS_ISS);
        return NGX_CONF_ERROR;
    }

    issuer->issuer = value[1];

    return NGX_CONF_OK;
}


static char *
ngx_http_hybrid_issuer_audience(ngx_conf_t *cf, void *block)
{
    ngx_http_hybrid_issuer_t  *issuer = block;

    ngx_str_t   *value, *audience;
    ngx_uint_t   i;

    value = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {

        if (value[i].len == 0) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "empty audience");
            return NGX_CONF_ERROR;
        }

        audience = ngx_array_push(&issuer->audiences);
        if (audience == NULL) {
            return NGX_CONF_ERROR;
        }

        *audience = value[i];
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_hybrid_issuer_jwks(ngx_conf_t *cf, void *block)
{
    ngx_http_hybrid_issuer_t  *issuer = block;

    ngx_str_t  *value;

    if (issuer->jwks.len) {
        return ngx_http_hybrid_issuer_duplicate(cf);
    }

    value = cf->args->elts;

    if (ngx_strncasecmp(value[1].data, (u_char *) "http://", 7) == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "keys can't be trusted that came from \"%V\": it "
                           "must be a https:// URL, or a file", &value[1]);
        return NGX_CONF_ERROR;
    }

    if (value[1].len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "empty jwks");
        return NGX_CONF_ERROR;
    }

    issuer->jwks = value[1];
    issuer->url = (ngx_strncasecmp(value[1].data, (u_char *) "https://", 8)
                   == 0);
    ngx_http_hybrid_conf_place(cf, &issuer->jwks_place);

    return NGX_CONF_OK;
}


static char *
ngx_http_hybrid_issuer_algorithms(ngx_conf_t *cf, void *block)
{
    ngx_http_hybrid_issuer_t  *issuer = block;

    ngx_str_t   *value;
    ngx_uint_t   i, alg;

    if (issuer->algorithms) {
        return ngx_http_hybrid_issuer_duplicate(cf);
    }

    value = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {
        alg = ngx_hybrid_jwk_alg(value[i].data, value[i].len);

        if (alg == 0) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid algorithm \"%V\", it must be one of "
                               "RS256, RS384, RS512, PS256, ES256, ES384, "
                               "EdDSA, HS256", &value[i]);
            return NGX_CONF_ERROR;
        }

        issuer->algorithms |= alg;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_hybrid_issuer_header(ngx_conf_t *cf, void *block)
{
    ngx_http_hybrid_issuer_t  *issuer = block;

    u_char      ch;
    ngx_str_t  *value, *taken;
    ngx_uint_t  i;

    if (issuer->header.len) {
        return ngx_http_hybrid_issuer_duplicate(cf);
    }

    value = cf->args->elts;

    issuer->header.len = value[1].len;
    issuer->header.data = ngx_pnalloc(cf->pool, value[1].len + 1);
    if (issuer->header.data == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_strlow(issuer->header.data, value[1].data, value[1].len);
    issuer->header.data[value[1].len] = '\0';

    for (i = 0; i < issuer->header.len; i++) {
        ch = issuer->header.data[i];

        if (!((ch >= 'a' && ch <= 'z') || (ch >= '0' && ch <= '9')
              || ch == '-'))
        {
            break;
        }
    }

    if (i == 0 || i < issuer->header.len) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid header \"%V\": letters, digits and \"-\"",
                           &value[1]);
        return NGX_CONF_ERROR;
    }

    for (taken = ngx_http_hybrid_issuer_taken; taken->len; taken++) {
        if (taken->len == issuer->header.len
            && ngx_memcmp(taken->data, issuer->header.data, taken->len) == 0)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "header \"%V\" can't hold a token, it has "
                               "another meaning", &value[1]);
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_hybrid_issuer_leeway(ngx_conf_t *cf, void *block)
{
    ngx_http_hybrid_issuer_t  *issuer = block;

    time_t      leeway;
    ngx_str_t  *value;

    if (issuer->leeway_set) {
        return ngx_http_hybrid_issuer_duplicate(cf);
    }

    value = cf->args->elts;
    leeway = ngx_parse_time(&value[1], 1);

    if (leeway == (time_t) NGX_ERROR || leeway > NGX_HTTP_HYBRID_LEEWAY) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid leeway \"%V\", it must be at most %ds",
                           &value[1], NGX_HTTP_HYBRID_LEEWAY);
        return NGX_CONF_ERROR;
    }

    issuer->leeway = leeway;
    issuer->leeway_set = 1;

    return NGX_CONF_OK;
}


static char *
ngx_http_hybrid_issuer_refresh(ngx_conf_t *cf, void *block)
{
    ngx_http_hybrid_issuer_t  *issuer = block;

    char        *rv;
    ngx_str_t   *value, text;
    ngx_uint_t   i;

    if (issuer->refresh_set) {
        return ngx_http_hybrid_issuer_duplicate(cf);
    }

    issuer->refresh_set = 1;

    value = cf->args->elts;

    rv = ngx_http_hybrid_issuer_time(cf, &value[1], &issuer->refresh);

    for (i = 2; i < cf->args->nelts && rv == NGX_CONF_OK; i++) {

        if (ngx_http_hybrid_conf_option(&value[i], "cooldown", &text)) {
            rv = ngx_http_hybrid_issuer_time(cf, &text, &issuer->cooldown);

        } else if (ngx_http_hybrid_conf_option(&value[i], "stale", &text)) {
            rv = ngx_http_hybrid_issuer_time(cf, &text, &issuer->stale);

        } else {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid parameter \"%V\"", &value[i]);
            rv = NGX_CONF_ERROR;
        }
    }

    if (rv == NGX_CONF_OK && issuer->stale < issuer->refresh) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "keys would be dropped before they are refreshed: "
                           "\"stale\" must not be less than the refresh time");
        return NGX_CONF_ERROR;
    }

    return rv;
}


static char *
ngx_http_hybrid_issuer_time(ngx_conf_t *cf, ngx_str_t *text, ngx_msec_t *msec)
{
    ngx_int_t  n;

    n = ngx_parse_time(text, 0);

    /* the clock they are compared on wraps on small machines */

    if (n == NGX_ERROR || n == 0 || n > 7 * 24 * 3600 * 1000) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid time \"%V\", it must be as in \"1h\", "
                           "at most \"7d\"", text);
        return NGX_CONF_ERROR;
    }

    *msec = n;

    return NGX_CONF_OK;
}


static char *
ngx_http_hybrid_issuer_secret(ngx_conf_t *cf, void *block)
{
    ngx_http_hybrid_issuer_t  *issuer = block;

    ngx_str_t                         *value, kid;
    ngx_uint_t                         i;
    ngx_hybrid_jwk_t                  *keys, *key;
    ngx_http_hybrid_main_conf_t       *hmcf;
    ngx_http_hybrid_issuer_secret_t   *secret;

    value = cf->args->elts;
    ngx_str_null(&kid);

    if (cf->args->nelts == 3
        && (ngx_http_hybrid_conf_option(&value[2], "kid", &kid) == NULL
            || kid.len == 0 || kid.len > NGX_HYBRID_JWK_KID_MAX))
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid parameter \"%V\"",
                           &value[2]);
        return NGX_CONF_ERROR;
    }

    keys = issuer->secrets.elts;

    for (i = 0; kid.len && i < issuer->secrets.nelts; i++) {
        if (keys[i].kid.len == kid.len
            && ngx_memcmp(keys[i].kid.data, kid.data, kid.len) == 0)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "there is a secret with kid \"%V\" already",
                               &kid);
            return NGX_CONF_ERROR;
        }
    }

    secret = ngx_palloc(cf->pool, sizeof(ngx_http_hybrid_issuer_secret_t));
    key = ngx_array_push(&issuer->secrets);

    if (secret == NULL || key == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_memzero(key, sizeof(ngx_hybrid_jwk_t));

    secret->issuer = issuer;
    secret->index = issuer->secrets.nelts - 1;
    secret->kid = kid;
    secret->file = value[1];

    hmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_hybrid_module);

    if (ngx_hybrid_watch_add(&hmcf->watches, cf, &secret->file,
                             NGX_HTTP_HYBRID_SECRET_MAX - 1,
                             ngx_http_hybrid_issuer_secret_changed, secret)
        == NULL)
    {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


/* tokens that the old one had signed are forgotten with the generation */

static ngx_int_t
ngx_http_hybrid_issuer_secret_changed(void *data, ngx_str_t *text,
    ngx_uint_t level, ngx_log_t *log)
{
    ngx_http_hybrid_issuer_secret_t  *secret = data;

    ngx_hybrid_jwk_t   key, *keys;

    if (ngx_http_hybrid_conf_secret_line(text) != NGX_OK) {
        ngx_log_error(level, log, 0,
                      "secret file \"%V\" must hold one line of visible "
                      "characters", &secret->file);
        return NGX_ERROR;
    }

    if (text->len < NGX_HYBRID_JWK_SECRET) {
        ngx_log_error(level, log, 0,
                      "the secret in \"%V\" is too short: HS256 needs "
                      "at least %d bytes (\"openssl rand -hex 32\" "
                      "makes some)", &secret->file, NGX_HYBRID_JWK_SECRET);
        return NGX_ERROR;
    }

    if (ngx_hybrid_jwk_secret(&key, &secret->kid, text->data, text->len)
        != NGX_OK)
    {
        ngx_log_error(level, log, 0, "HMAC is not there");
        return NGX_ERROR;
    }

    keys = secret->issuer->secrets.elts;

    ngx_hybrid_jwk_done(&keys[secret->index]);
    keys[secret->index] = key;

    secret->issuer->generation++;

    return NGX_OK;
}


static char *
ngx_http_hybrid_issuer_certificate(ngx_conf_t *cf, void *block)
{
    ngx_http_hybrid_issuer_t  *issuer = block;

    ngx_str_t  *value;

    if (issuer->trusted_certificate.len) {
        return ngx_http_hybrid_issuer_duplicate(cf);
    }

    value = cf->args->elts;

    issuer->trusted_certificate = value[1];
    ngx_http_hybrid_conf_place(cf, &issuer->trusted_certificate_place);

    return NGX_CONF_OK;
}


static char *
ngx_http_hybrid_issuer_complete(ngx_conf_t *cf,
    ngx_http_hybrid_issuer_t *issuer)
{
    const char  *missing;

    missing = issuer->issuer.len == 0 ? "issuer"
              : issuer->audiences.nelts == 0 ? "audience"
              : issuer->algorithms == 0 ? "algorithms"
              : NULL;

    if (missing) {
        return ngx_http_hybrid_conf_error_at(cf, &issuer->place,
                       "hybrid_issuer \"%V\" has no \"%s\"", &issuer->name,
                       missing);
    }

    if (issuer->header.len == 0) {
        ngx_str_set(&issuer->header, "authorization");
    }

    /* of its other kinds of tokens none is for a gateway */

    issuer->app = (issuer->header.len == sizeof("cf-access-jwt-assertion") - 1
                   && ngx_strcmp(issuer->header.data,
                                 "cf-access-jwt-assertion") == 0);

    return ngx_http_hybrid_issuer_keys(cf, issuer);
}


static char *
ngx_http_hybrid_issuer_keys(ngx_conf_t *cf, ngx_http_hybrid_issuer_t *issuer)
{
    const char                   *fault;
    ngx_uint_t                    hmac, public;
    ngx_http_hybrid_main_conf_t  *hmcf;

    hmac = issuer->algorithms & NGX_HYBRID_JWK_HS256;
    public = issuer->algorithms & NGX_HYBRID_JWK_PUBLIC;

    fault = NULL;

    if (hmac && issuer->secrets.nelts == 0) {
        fault = "allows HS256, but has no \"secret\"";

    } else if (!hmac && issuer->secrets.nelts) {
        fault = "has a \"secret\", but its algorithms are without HS256";

    } else if (public && issuer->jwks.len == 0) {
        fault = "has no \"jwks\": a file, or a https:// URL";

    } else if (!public && issuer->jwks.len) {
        fault = "has \"jwks\", but only HS256 among its algorithms";

    } else if (issuer->trusted_certificate.len && !issuer->url) {
        fault = "has a \"trusted_certificate\", but no URL to get keys from";

    } else if (issuer->refresh_set && !issuer->url) {
        fault = "has \"refresh\", but no URL to get keys from: a file is "
                "read again when it changes";
    }

    if (fault) {
        return ngx_http_hybrid_conf_error_at(cf, &issuer->place,
                                             "hybrid_issuer \"%V\" %s",
                                             &issuer->name, fault);
    }

    if (issuer->jwks.len == 0 || issuer->url) {
        return NGX_CONF_OK;
    }

    hmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_hybrid_module);

    if (ngx_hybrid_watch_add(&hmcf->watches, cf, &issuer->jwks,
                             NGX_HYBRID_JWK_SET_MAX,
                             ngx_http_hybrid_issuer_file, issuer)
        == NULL)
    {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}
