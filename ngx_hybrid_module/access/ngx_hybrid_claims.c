
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * libjwt gets the payload only after OpenSSL has verified it, as that of an
 * unsigned token: it knows neither the key nor the algorithm, so there is
 * nothing it could mix up, and all its versions do the same.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_hybrid_claims.h"
#include "ngx_hybrid_json.h"
#include "ngx_hybrid_jws.h"

#include <jansson.h>
#include <jwt.h>


enum {
    NGX_HYBRID_CLAIM_ISS = 0,
    NGX_HYBRID_CLAIM_AUD,
    NGX_HYBRID_CLAIM_EXP,
    NGX_HYBRID_CLAIM_NBF,
    NGX_HYBRID_CLAIM_IAT,
    NGX_HYBRID_CLAIM_SUB,
    NGX_HYBRID_CLAIM_JTI,
    NGX_HYBRID_CLAIM_COMMON_NAME,
    NGX_HYBRID_CLAIM_TYPE,
    NGX_HYBRID_CLAIM_N
};


static const char *ngx_hybrid_claims_names(ngx_str_t *payload,
    ngx_hybrid_json_key_t *keys, ngx_uint_t n, ngx_hybrid_json_value_t *values,
    u_char *arena, size_t size);
static ngx_uint_t ngx_hybrid_claims_zero(ngx_str_t *payload);
static const char *ngx_hybrid_claims_audience(ngx_hybrid_claims_t *claims,
    ngx_hybrid_claims_rules_t *rules);
static const char *ngx_hybrid_claims_times(ngx_hybrid_claims_t *claims,
    time_t leeway, time_t now);
static ngx_int_t ngx_hybrid_claims_time(ngx_hybrid_claims_t *claims,
    ngx_uint_t claim, const char *name, double *t);
static double ngx_hybrid_claims_real(ngx_hybrid_claims_t *claims,
    const char *name);
static const char *ngx_hybrid_claims_subject(ngx_hybrid_claims_t *claims);
static ngx_int_t ngx_hybrid_claims_string(ngx_hybrid_claims_t *claims,
    const char *name, ngx_str_t *value);
static json_t *ngx_hybrid_claims_list(ngx_hybrid_claims_t *claims,
    const char *name);
static ngx_uint_t ngx_hybrid_claims_listed(json_t *list, ngx_str_t *value);


const char  ngx_hybrid_claims_expired[] = "it has expired";


/* {"alg":"none"} */
#define NGX_HYBRID_CLAIMS_HEADER  "eyJhbGciOiJub25lIn0."

/* whole seconds that a double tells apart, and no sum overflows */
#define NGX_HYBRID_CLAIMS_TIME    9007199254740992.0


static ngx_hybrid_json_key_t  ngx_hybrid_claims_keys[] = {
    { ngx_string("iss"), NGX_HYBRID_CLAIMS_ISS, NULL, NULL, 0 },
    { ngx_string("aud"), 0, NULL, NULL, 0 },
    { ngx_string("exp"), 0, NULL, NULL, 0 },
    { ngx_string("nbf"), 0, NULL, NULL, 0 },
    { ngx_string("iat"), 0, NULL, NULL, 0 },
    { ngx_string("sub"), 0, NULL, NULL, 0 },
    { ngx_string("jti"), 0, NULL, NULL, 0 },
    { ngx_string("common_name"), 0, NULL, NULL, 0 },
    { ngx_string("type"), 0, NULL, NULL, 0 }
};


const char *
ngx_hybrid_claims_scan(ngx_hybrid_claims_t *claims, ngx_str_t *payload)
{
    ngx_uint_t                i;
    const char               *why;
    ngx_hybrid_json_value_t   values[NGX_HYBRID_CLAIM_N], *iss;

    claims->jwt = NULL;
    claims->nvalues = 0;
    ngx_str_null(&claims->iss);
    ngx_str_set(&claims->subject, "");
    ngx_str_set(&claims->jti, "");

    why = ngx_hybrid_claims_names(payload, ngx_hybrid_claims_keys,
                                  NGX_HYBRID_CLAIM_N, values, claims->arena,
                                  sizeof(claims->arena));
    if (why) {
        return why;
    }

    if (ngx_hybrid_claims_zero(payload)) {
        return "the payload has a zero byte in a string";
    }

    for (i = 0; i < NGX_HYBRID_CLAIM_N; i++) {
        claims->types[i] = values[i].type;
    }

    iss = &values[NGX_HYBRID_CLAIM_ISS];

    if (iss->type == NGX_HYBRID_JSON_T_STRING && !iss->overflow) {
        claims->iss.data = iss->data;
        claims->iss.len = iss->len;
    }

    return NULL;
}


static const char *
ngx_hybrid_claims_names(ngx_str_t *payload, ngx_hybrid_json_key_t *keys,
    ngx_uint_t n, ngx_hybrid_json_value_t *values, u_char *arena, size_t size)
{
    ngx_hybrid_json_t  js;

    if (ngx_hybrid_json_init(&js, keys, n, values, arena, size) != NGX_OK) {
        return "internal error";
    }

    if (ngx_hybrid_json_feed(&js, payload->data, payload->len) != NGX_OK
        || ngx_hybrid_json_finish(&js) != NGX_OK)
    {
        return (js.error == NGX_HYBRID_JSON_AMBIGUOUS)
               ? "the payload has a claim twice, or nearly"
               : "the payload is not a JSON object";
    }

    return NULL;
}


/*
 * Behind libjwt all strings end at a zero byte.  It refuses them today; what
 * is written here does not depend on it.
 */

static ngx_uint_t
ngx_hybrid_claims_zero(ngx_str_t *payload)
{
    u_char  *p, *last;

    last = payload->data + payload->len;

    for (p = payload->data; last - p >= 6; p++) {

        p = ngx_strlchr(p, last - 5, '\\');

        if (p == NULL) {
            return 0;
        }

        if (ngx_memcmp(p, "\\u0000", 6) == 0) {
            return 1;
        }
    }

    return 0;
}


const char *
ngx_hybrid_claims_read(ngx_hybrid_claims_t *claims, ngx_str_t *encoded)
{
    jwt_t   *jwt;
    u_char   text[sizeof(NGX_HYBRID_CLAIMS_HEADER) + NGX_HYBRID_JWS_MAX + 2];
    u_char  *p;

    p = ngx_cpymem(text, NGX_HYBRID_CLAIMS_HEADER,
                   sizeof(NGX_HYBRID_CLAIMS_HEADER) - 1);
    p = ngx_cpymem(p, encoded->data, encoded->len);
    *p++ = '.';
    *p = '\0';

    jwt = NULL;

    if (jwt_decode(&jwt, (char *) text, NULL, 0) != 0) {
        return "the payload can't be read";
    }

    claims->jwt = jwt;

    return NULL;
}


const char *
ngx_hybrid_claims_check(ngx_hybrid_claims_t *claims,
    ngx_hybrid_claims_rules_t *rules, time_t now)
{
    ngx_str_t    value;
    const char  *why;

    if (ngx_hybrid_claims_string(claims, "iss", &value) != NGX_OK
        || value.len != rules->issuer.len
        || ngx_memcmp(value.data, rules->issuer.data, value.len) != 0)
    {
        return "\"iss\" is another";
    }

    why = ngx_hybrid_claims_audience(claims, rules);
    if (why) {
        return why;
    }

    why = ngx_hybrid_claims_times(claims, rules->leeway, now);
    if (why) {
        return why;
    }

    if (rules->app
        && claims->types[NGX_HYBRID_CLAIM_TYPE] != NGX_HYBRID_JSON_T_ABSENT
        && (ngx_hybrid_claims_string(claims, "type", &value) != NGX_OK
            || value.len != 3 || ngx_memcmp(value.data, "app", 3) != 0))
    {
        return "\"type\" is not \"app\"";
    }

    return ngx_hybrid_claims_subject(claims);
}


static const char *
ngx_hybrid_claims_audience(ngx_hybrid_claims_t *claims,
    ngx_hybrid_claims_rules_t *rules)
{
    json_t      *list;
    ngx_str_t    value;
    ngx_uint_t   i, found;

    list = NULL;
    found = 0;
    ngx_str_null(&value);

    switch (claims->types[NGX_HYBRID_CLAIM_AUD]) {

    case NGX_HYBRID_JSON_T_STRING:
        if (ngx_hybrid_claims_string(claims, "aud", &value) != NGX_OK) {
            return "\"aud\" can't be read";
        }

        break;

    case NGX_HYBRID_JSON_T_ARRAY:
        list = ngx_hybrid_claims_list(claims, "aud");

        if (list == NULL) {
            return "\"aud\" is not a list of strings";
        }

        break;

    default:
        return "\"aud\" is neither a string nor a list";
    }

    for (i = 0; i < rules->naudiences && !found; i++) {

        found = list ? ngx_hybrid_claims_listed(list, &rules->audiences[i])
                     : value.len == rules->audiences[i].len
                       && ngx_memcmp(value.data, rules->audiences[i].data,
                                     value.len) == 0;
    }

    json_decref(list);

    return found ? NULL : "\"aud\" is for others";
}


static const char *
ngx_hybrid_claims_times(ngx_hybrid_claims_t *claims, time_t leeway,
    time_t now)
{
    double     exp, nbf, iat;
    ngx_int_t  rc;

    rc = ngx_hybrid_claims_time(claims, NGX_HYBRID_CLAIM_EXP, "exp", &exp);

    if (rc != NGX_OK) {
        return (rc == NGX_DECLINED) ? "there is no \"exp\""
                                    : "\"exp\" is not a time";
    }

    if (exp + leeway <= now) {
        return ngx_hybrid_claims_expired;
    }

    rc = ngx_hybrid_claims_time(claims, NGX_HYBRID_CLAIM_NBF, "nbf", &nbf);

    if (rc == NGX_ERROR) {
        return "\"nbf\" is not a time";
    }

    if (nbf - leeway > now) {
        return "it is not valid yet";
    }

    rc = ngx_hybrid_claims_time(claims, NGX_HYBRID_CLAIM_IAT, "iat", &iat);

    if (rc == NGX_ERROR) {
        return "\"iat\" is not a time";
    }

    if (iat - leeway > now) {
        return "it was issued in the future";
    }

    /* fractions: rounded up, as comparing them above does */

    claims->until = (time_t) (exp + leeway);
    claims->until += (claims->until < exp + leeway);

    nbf = ngx_max(nbf, iat) - leeway;
    claims->from = (time_t) nbf;
    claims->from += (claims->from < nbf);

    return NULL;
}


/* NGX_DECLINED: it is not there, and 0 */

static ngx_int_t
ngx_hybrid_claims_time(ngx_hybrid_claims_t *claims, ngx_uint_t claim,
    const char *name, double *t)
{
    *t = 0;

    if (claims->types[claim] == NGX_HYBRID_JSON_T_ABSENT) {
        return NGX_DECLINED;
    }

    if (claims->types[claim] != NGX_HYBRID_JSON_T_NUMBER) {
        return NGX_ERROR;
    }

    errno = 0;
    *t = (double) jwt_get_grant_int(claims->jwt, name);

    /* of a number with a fraction or an exponent it makes nothing, or 0 */

    if (errno || *t == 0) {
        *t = ngx_hybrid_claims_real(claims, name);
    }

    return (*t < NGX_HYBRID_CLAIMS_TIME && *t > -NGX_HYBRID_CLAIMS_TIME)
           ? NGX_OK : NGX_ERROR;
}


static double
ngx_hybrid_claims_real(ngx_hybrid_claims_t *claims, const char *name)
{
    char    *text;
    double   t;
    json_t  *all;

    t = NGX_HYBRID_CLAIMS_TIME;

    text = jwt_get_grants_json(claims->jwt, NULL);

    if (text == NULL) {
        return t;
    }

    all = json_loads(text, 0, NULL);
    free(text);

    if (json_is_number(json_object_get(all, name))) {
        t = json_number_value(json_object_get(all, name));
    }

    json_decref(all);

    return t;
}


/*
 * They go into headers, logs and Redis keys.  Cloudflare's service tokens
 * have an empty "sub" and their id in "common_name".
 */

static const char *
ngx_hybrid_claims_subject(ngx_hybrid_claims_t *claims)
{
    u_char   ch;
    size_t   i;

    if (claims->types[NGX_HYBRID_CLAIM_SUB] != NGX_HYBRID_JSON_T_ABSENT
        && ngx_hybrid_claims_string(claims, "sub", &claims->subject)
           != NGX_OK)
    {
        return "\"sub\" is not a string";
    }

    if (claims->subject.len == 0
        && claims->types[NGX_HYBRID_CLAIM_COMMON_NAME]
           != NGX_HYBRID_JSON_T_ABSENT
        && ngx_hybrid_claims_string(claims, "common_name", &claims->subject)
           != NGX_OK)
    {
        return "\"common_name\" is not a string";
    }

    if (claims->subject.len > NGX_HYBRID_CLAIMS_SUBJECT) {
        return "the subject is too long";
    }

    for (i = 0; i < claims->subject.len; i++) {
        ch = claims->subject.data[i];

        if (!((ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z')
              || (ch >= '0' && ch <= '9')
              || ch == '.' || ch == '_' || ch == '@' || ch == '-'))
        {
            return "the subject has other characters than letters, digits "
                   "and \"._@-\"";
        }
    }

    if (claims->types[NGX_HYBRID_CLAIM_JTI] != NGX_HYBRID_JSON_T_ABSENT
        && ngx_hybrid_claims_string(claims, "jti", &claims->jti) != NGX_OK)
    {
        return "\"jti\" is not a string";
    }

    if (claims->jti.len > NGX_HYBRID_CLAIMS_JTI) {
        return "\"jti\" is too long";
    }

    for (i = 0; i < claims->jti.len; i++) {
        if (claims->jti.data[i] <= 0x20 || claims->jti.data[i] >= 0x7f) {
            return "\"jti\" has other than visible characters";
        }
    }

    return NULL;
}


static ngx_int_t
ngx_hybrid_claims_string(ngx_hybrid_claims_t *claims, const char *name,
    ngx_str_t *value)
{
    const char  *text;

    text = jwt_get_grant(claims->jwt, name);

    if (text == NULL) {
        return NGX_ERROR;
    }

    value->data = (u_char *) text;
    value->len = ngx_strlen(text);

    return NGX_OK;
}


/* NULL: not one of strings only */

static json_t *
ngx_hybrid_claims_list(ngx_hybrid_claims_t *claims, const char *name)
{
    char    *text;
    size_t   i;
    json_t  *list;

    text = jwt_get_grants_json(claims->jwt, name);

    if (text == NULL) {
        return NULL;
    }

    list = json_loads(text, 0, NULL);
    free(text);

    for (i = 0; i < json_array_size(list); i++) {
        if (!json_is_string(json_array_get(list, i))) {
            break;
        }
    }

    if (!json_is_array(list) || i != json_array_size(list)) {
        json_decref(list);
        return NULL;
    }

    return list;
}


static ngx_uint_t
ngx_hybrid_claims_listed(json_t *list, ngx_str_t *value)
{
    size_t   i;
    json_t  *item;

    for (i = 0; i < json_array_size(list); i++) {
        item = json_array_get(list, i);

        if (json_string_length(item) == value->len
            && ngx_memcmp(json_string_value(item), value->data, value->len)
               == 0)
        {
            return 1;
        }
    }

    return 0;
}


/*
 * A claim of another type, or a list with other things in it, is nobody's:
 * it says nothing about this client, and is no fault of the token.
 */

const char *
ngx_hybrid_claims_load(ngx_hybrid_claims_t *claims, ngx_str_t *payload,
    ngx_str_t *names, ngx_uint_t n)
{
    ngx_uint_t                i;
    const char               *why, *name;
    ngx_hybrid_claim_t       *claim;
    ngx_hybrid_json_key_t     keys[NGX_HYBRID_CLAIMS_MAX];
    ngx_hybrid_json_value_t   values[NGX_HYBRID_CLAIMS_MAX];

    ngx_memzero(keys, n * sizeof(ngx_hybrid_json_key_t));

    for (i = 0; i < n; i++) {
        keys[i].name = names[i];
    }

    why = ngx_hybrid_claims_names(payload, keys, n, values, claims->arena, 0);
    if (why) {
        return why;
    }

    for (i = 0; i < n; i++) {
        claim = &claims->values[claims->nvalues++];
        ngx_memzero(claim, sizeof(ngx_hybrid_claim_t));
        name = (char *) names[i].data;

        if (values[i].type == NGX_HYBRID_JSON_T_STRING) {
            (void) ngx_hybrid_claims_string(claims, name, &claim->text);
        }

        if (values[i].type == NGX_HYBRID_JSON_T_ARRAY) {
            claim->list = ngx_hybrid_claims_list(claims, name);
        }
    }

    return NULL;
}


ngx_uint_t
ngx_hybrid_claims_has(ngx_hybrid_claims_t *claims, ngx_uint_t n,
    ngx_str_t *value)
{
    ngx_hybrid_claim_t  *claim;

    claim = &claims->values[n];

    if (claim->list) {
        return ngx_hybrid_claims_listed(claim->list, value);
    }

    return claim->text.data
           && claim->text.len == value->len
           && ngx_memcmp(claim->text.data, value->data, value->len) == 0;
}


ngx_uint_t
ngx_hybrid_claims_member(ngx_hybrid_claims_t *claims, ngx_uint_t n,
    ngx_uint_t k, ngx_str_t *value)
{
    json_t              *item;
    ngx_hybrid_claim_t  *claim;

    claim = &claims->values[n];

    if (claim->list == NULL) {
        *value = claim->text;
        return k == 0 && value->data;
    }

    if (k >= json_array_size(claim->list)) {
        return 0;
    }

    item = json_array_get(claim->list, k);

    value->data = (u_char *) json_string_value(item);
    value->len = json_string_length(item);

    return 1;
}


void
ngx_hybrid_claims_done(ngx_hybrid_claims_t *claims)
{
    ngx_uint_t  i;

    for (i = 0; i < claims->nvalues; i++) {
        json_decref(claims->values[i].list);
    }

    claims->nvalues = 0;

    jwt_free(claims->jwt);
    claims->jwt = NULL;
}
