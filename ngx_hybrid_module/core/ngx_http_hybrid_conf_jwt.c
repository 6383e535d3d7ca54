
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * The "jwt" lines of clients, and what they mean once all issuers are known.
 */


#include "ngx_http_hybrid_conf.h"
#include "ngx_http_hybrid_jwt.h"


static char *ngx_http_hybrid_jwt_term(ngx_conf_t *cf,
    ngx_http_hybrid_jwt_rule_t *rule, ngx_str_t *text);
static char *ngx_http_hybrid_jwt_headers(ngx_conf_t *cf,
    ngx_http_hybrid_main_conf_t *hmcf);
static char *ngx_http_hybrid_jwt_header(ngx_conf_t *cf,
    ngx_http_hybrid_main_conf_t *hmcf, ngx_http_hybrid_issuer_t *issuer);
static char *ngx_http_hybrid_jwt_rule(ngx_conf_t *cf,
    ngx_http_hybrid_main_conf_t *hmcf, ngx_http_hybrid_jwt_rule_t *rule);
static char *ngx_http_hybrid_jwt_claim(ngx_conf_t *cf,
    ngx_http_hybrid_issuer_t *issuer, ngx_http_hybrid_jwt_rule_t *rule,
    ngx_http_hybrid_jwt_term_t *term);
static char *ngx_http_hybrid_jwt_usual(ngx_http_hybrid_main_conf_t *hmcf);
static ngx_uint_t ngx_http_hybrid_jwt_same(ngx_http_hybrid_jwt_rule_t *one,
    ngx_http_hybrid_jwt_rule_t *two);
static ngx_uint_t ngx_http_hybrid_jwt_has(ngx_http_hybrid_jwt_rule_t *rule,
    ngx_http_hybrid_jwt_term_t *term);


#define ngx_http_hybrid_jwt_equal(a, b)                                       \
    ((a)->len == (b)->len && ngx_memcmp((a)->data, (b)->data, (a)->len) == 0)


char *
ngx_http_hybrid_client_jwt(ngx_conf_t *cf, void *block)
{
    ngx_http_hybrid_client_t  *client = block;

    ngx_str_t                    *value;
    ngx_uint_t                    i;
    ngx_array_t                  *jwts;
    ngx_http_hybrid_jwt_rule_t   *rule, **rules;

    value = cf->args->elts;
    jwts = &client->identities->jwts;

    rule = ngx_pcalloc(cf->pool, sizeof(ngx_http_hybrid_jwt_rule_t));
    if (rule == NULL
        || (jwts->elts == NULL
            && ngx_array_init(jwts, cf->pool, 4, sizeof(void *)) != NGX_OK)
        || ngx_array_init(&rule->terms, cf->pool, 2,
                          sizeof(ngx_http_hybrid_jwt_term_t))
           != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    rule->client = client;
    rule->issuer = value[1];
    ngx_http_hybrid_conf_place(cf, &rule->place);

    for (i = 2; i < cf->args->nelts; i++) {
        if (ngx_http_hybrid_jwt_term(cf, rule, &value[i]) != NGX_CONF_OK) {
            return NGX_CONF_ERROR;
        }
    }

    /* the issuer's block may come later */

    rules = ngx_array_push(jwts);
    if (rules == NULL) {
        return NGX_CONF_ERROR;
    }

    *rules = rule;
    client->ncredentials++;

    return NGX_CONF_OK;
}


static char *
ngx_http_hybrid_jwt_term(ngx_conf_t *cf, ngx_http_hybrid_jwt_rule_t *rule,
    ngx_str_t *text)
{
    u_char                      *p, *last;
    ngx_http_hybrid_jwt_term_t  *term, new;

    last = text->data + text->len;

    for (p = text->data; p < last && *p > 0x20 && *p < 0x7f; p++) {
        if (*p == '=') {
            break;
        }
    }

    if (p == text->data || p == last || *p != '=' || p + 1 == last
        || p - text->data > NGX_HYBRID_CLAIMS_NAME)
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid condition \"%V\", it must be "
                           "\"claim=value\", the claim's name up to %d "
                           "visible characters", text,
                           NGX_HYBRID_CLAIMS_NAME);
        return NGX_CONF_ERROR;
    }

    ngx_memzero(&new, sizeof(ngx_http_hybrid_jwt_term_t));

    new.name.len = p - text->data;
    new.name.data = ngx_pnalloc(cf->pool, new.name.len + 1);
    if (new.name.data == NULL) {
        return NGX_CONF_ERROR;
    }

    (void) ngx_cpystrn(new.name.data, text->data, new.name.len + 1);

    new.value.data = p + 1;
    new.value.len = last - new.value.data;

    if (ngx_http_hybrid_jwt_has(rule, &new)) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "duplicate condition \"%V\"",
                           text);
        return NGX_CONF_ERROR;
    }

    term = ngx_array_push(&rule->terms);
    if (term == NULL) {
        return NGX_CONF_ERROR;
    }

    *term = new;

    return NGX_CONF_OK;
}


/* after all of http{} was read */

ngx_int_t
ngx_http_hybrid_jwt_init(ngx_conf_t *cf, ngx_http_hybrid_main_conf_t *hmcf)
{
    ngx_uint_t                    i;
    ngx_http_hybrid_jwt_rule_t  **rules;

    if (hmcf->jwt_place.file && hmcf->issuers.nelts == 0) {
        (void) ngx_http_hybrid_conf_error_at(cf, &hmcf->jwt_place,
                       "\"hybrid_access jwt\", but there is no "
                       "\"hybrid_issuer\"");
        return NGX_ERROR;
    }

    rules = hmcf->identities.jwts.elts;

    for (i = 0; i < hmcf->identities.jwts.nelts; i++) {
        if (ngx_http_hybrid_jwt_rule(cf, hmcf, rules[i]) != NGX_CONF_OK) {
            return NGX_ERROR;
        }
    }

    if (hmcf->clients_redis
        && ngx_http_hybrid_jwt_usual(hmcf) != NGX_CONF_OK)
    {
        return NGX_ERROR;
    }

    if (ngx_http_hybrid_jwt_headers(cf, hmcf) != NGX_CONF_OK) {
        return NGX_ERROR;
    }

    return NGX_OK;
}


static char *
ngx_http_hybrid_jwt_headers(ngx_conf_t *cf, ngx_http_hybrid_main_conf_t *hmcf)
{
    ngx_uint_t                  i;
    ngx_http_hybrid_issuer_t  **issuers;

    if (ngx_array_init(&hmcf->assertions, cf->pool, 2,
                       sizeof(ngx_http_hybrid_jwt_header_t *))
        != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    issuers = hmcf->issuers.elts;

    for (i = 0; i < hmcf->issuers.nelts; i++) {

        if (ngx_http_hybrid_jwt_header(cf, hmcf, issuers[i]) != NGX_CONF_OK) {
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_hybrid_jwt_header(ngx_conf_t *cf, ngx_http_hybrid_main_conf_t *hmcf,
    ngx_http_hybrid_issuer_t *issuer)
{
    ngx_uint_t                      i;
    ngx_http_hybrid_issuer_t      **issuers;
    ngx_http_hybrid_jwt_header_t   *header, **headers;

    if (ngx_hash_find(&hmcf->headers,
                      ngx_hash_key(issuer->header.data, issuer->header.len),
                      issuer->header.data, issuer->header.len))
    {
        return ngx_http_hybrid_conf_error_at(cf, &issuer->place,
                       "hybrid_issuer \"%V\" can't have its tokens in header "
                       "\"%V\": backends get that", &issuer->name,
                       &issuer->header);
    }

    header = NULL;
    headers = hmcf->assertions.elts;

    if (ngx_strcmp(issuer->header.data, "authorization") == 0) {
        header = hmcf->bearer;
    }

    for (i = 0; i < hmcf->assertions.nelts; i++) {
        if (ngx_http_hybrid_jwt_equal(&headers[i]->name, &issuer->header)) {
            header = headers[i];
        }
    }

    if (header == NULL) {
        header = ngx_pcalloc(cf->pool, sizeof(ngx_http_hybrid_jwt_header_t));
        if (header == NULL
            || ngx_array_init(&header->issuers, cf->pool, 2, sizeof(void *))
               != NGX_OK)
        {
            return NGX_CONF_ERROR;
        }

        header->name = issuer->header;

        if (ngx_strcmp(issuer->header.data, "authorization") == 0) {
            hmcf->bearer = header;

        } else {
            headers = ngx_array_push(&hmcf->assertions);
            if (headers == NULL) {
                return NGX_CONF_ERROR;
            }

            *headers = header;
        }
    }

    issuers = header->issuers.elts;

    for (i = 0; i < header->issuers.nelts; i++) {
        if (ngx_http_hybrid_jwt_equal(&issuers[i]->issuer, &issuer->issuer)) {
            return ngx_http_hybrid_conf_error_at(cf, &issuer->place,
                           "hybrid_issuer \"%V\" has the \"issuer\" and the "
                           "header of \"%V\": a token's keys would not be "
                           "known", &issuer->name, &issuers[i]->name);
        }
    }

    issuers = ngx_array_push(&header->issuers);
    if (issuers == NULL) {
        return NGX_CONF_ERROR;
    }

    *issuers = issuer;

    return NGX_CONF_OK;
}


static char *
ngx_http_hybrid_jwt_rule(ngx_conf_t *cf, ngx_http_hybrid_main_conf_t *hmcf,
    ngx_http_hybrid_jwt_rule_t *rule)
{
    ngx_uint_t                    i;
    ngx_http_hybrid_issuer_t     *issuer, **issuers;
    ngx_http_hybrid_jwt_rule_t  **rules;
    ngx_http_hybrid_jwt_term_t   *term;

    issuer = NULL;
    issuers = hmcf->issuers.elts;

    for (i = 0; i < hmcf->issuers.nelts; i++) {
        if (ngx_http_hybrid_jwt_equal(&issuers[i]->name, &rule->issuer)) {
            issuer = issuers[i];
        }
    }

    if (issuer == NULL) {
        return ngx_http_hybrid_conf_error_at(cf, &rule->place,
                       "client \"%V\" has a \"jwt\" of issuer \"%V\", but "
                       "there is no such \"hybrid_issuer\"",
                       &rule->client->name, &rule->issuer);
    }

    rules = issuer->rules.elts;

    for (i = 0; i < issuer->rules.nelts; i++) {

        if (!ngx_http_hybrid_jwt_same(rules[i], rule)) {
            continue;
        }

        if (rules[i]->client == rule->client) {
            return ngx_http_hybrid_conf_error_at(cf, &rule->place,
                           "duplicate \"jwt\" line of client \"%V\"",
                           &rule->client->name);
        }

        return ngx_http_hybrid_conf_error_at(cf, &rule->place,
                       "the \"jwt\" line of client \"%V\" is that of client "
                       "\"%V\", too: no token could be told to be of one",
                       &rule->client->name, &rules[i]->client->name);
    }

    rules = ngx_array_push(&issuer->rules);
    if (rules == NULL) {
        return NGX_CONF_ERROR;
    }

    *rules = rule;

    term = rule->terms.elts;

    for (i = 0; i < rule->terms.nelts; i++) {
        if (ngx_http_hybrid_jwt_claim(cf, issuer, rule, &term[i])
            != NGX_CONF_OK)
        {
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_hybrid_jwt_claim(ngx_conf_t *cf, ngx_http_hybrid_issuer_t *issuer,
    ngx_http_hybrid_jwt_rule_t *rule, ngx_http_hybrid_jwt_term_t *term)
{
    ngx_str_t   *names;
    ngx_uint_t   i;

    names = issuer->claims.elts;

    for (i = 0; i < issuer->claims.nelts; i++) {
        if (ngx_http_hybrid_jwt_equal(&names[i], &term->name)) {
            term->claim = i;
            return NGX_CONF_OK;
        }
    }

    if (i == NGX_HYBRID_CLAIMS_MAX) {
        return ngx_http_hybrid_conf_error_at(cf, &rule->place,
                       "clients name more than %d different claims of issuer "
                       "\"%V\"", NGX_HYBRID_CLAIMS_MAX, &issuer->name);
    }

    names = ngx_array_push(&issuer->claims);
    if (names == NULL) {
        return NGX_CONF_ERROR;
    }

    *names = term->name;
    term->claim = i;

    return NGX_CONF_OK;
}


/* claims that clients in Redis may ask for, besides those of the files */

static char *
ngx_http_hybrid_jwt_usual(ngx_http_hybrid_main_conf_t *hmcf)
{
    ngx_str_t                  *name, *names;
    ngx_uint_t                  i, j;
    ngx_http_hybrid_issuer_t  **issuers;

    static ngx_str_t  usual[] = {
        ngx_string("sub"),
        ngx_string("email"),
        ngx_string("common_name"),
        ngx_null_string
    };

    issuers = hmcf->issuers.elts;

    for (i = 0; i < hmcf->issuers.nelts; i++) {

        for (name = usual; name->len; name++) {
            names = issuers[i]->claims.elts;

            for (j = 0; j < issuers[i]->claims.nelts; j++) {
                if (ngx_http_hybrid_jwt_equal(&names[j], name)) {
                    break;
                }
            }

            if (j < issuers[i]->claims.nelts || j == NGX_HYBRID_CLAIMS_MAX) {
                continue;
            }

            names = ngx_array_push(&issuers[i]->claims);
            if (names == NULL) {
                return NGX_CONF_ERROR;
            }

            *names = *name;
        }
    }

    return NGX_CONF_OK;
}


/* in any order; no rule has a term twice */

static ngx_uint_t
ngx_http_hybrid_jwt_same(ngx_http_hybrid_jwt_rule_t *one,
    ngx_http_hybrid_jwt_rule_t *two)
{
    ngx_uint_t                   i;
    ngx_http_hybrid_jwt_term_t  *term;

    if (one->terms.nelts != two->terms.nelts) {
        return 0;
    }

    term = one->terms.elts;

    for (i = 0; i < one->terms.nelts; i++) {
        if (!ngx_http_hybrid_jwt_has(two, &term[i])) {
            return 0;
        }
    }

    return 1;
}


static ngx_uint_t
ngx_http_hybrid_jwt_has(ngx_http_hybrid_jwt_rule_t *rule,
    ngx_http_hybrid_jwt_term_t *term)
{
    ngx_uint_t                   i;
    ngx_http_hybrid_jwt_term_t  *other;

    other = rule->terms.elts;

    for (i = 0; i < rule->terms.nelts; i++) {
        if (ngx_http_hybrid_jwt_equal(&other[i].name, &term->name)
            && ngx_http_hybrid_jwt_equal(&other[i].value, &term->value))
        {
            return 1;
        }
    }

    return 0;
}
