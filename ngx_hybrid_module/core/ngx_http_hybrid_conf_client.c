
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * hybrid_client name { ... }
 */


#include "ngx_http_hybrid_conf.h"
#include "ngx_http_hybrid_cert.h"
#include "ngx_http_hybrid_jwt.h"


static char *ngx_http_hybrid_client_token(ngx_conf_t *cf, void *block);
static char *ngx_http_hybrid_client_models(ngx_conf_t *cf, void *block);
static char *ngx_http_hybrid_client_verbs(ngx_conf_t *cf, void *block);
static char *ngx_http_hybrid_client_egress(ngx_conf_t *cf, void *block);
static char *ngx_http_hybrid_client_digest(ngx_conf_t *cf, ngx_str_t *text,
    u_char *digest);
static char *ngx_http_hybrid_client_token_add(ngx_conf_t *cf,
    ngx_http_hybrid_token_t *token);
static ngx_int_t ngx_http_hybrid_client_time(ngx_str_t *text, time_t *t);


static ngx_http_hybrid_statement_t  ngx_http_hybrid_client_statements[] = {
    { ngx_string("token"), 2, 3, ngx_http_hybrid_client_token },
    { ngx_string("jwt"), 2, NGX_HTTP_HYBRID_MANY, ngx_http_hybrid_client_jwt },
    { ngx_string("cert"), 1, NGX_HTTP_HYBRID_MANY,
      ngx_http_hybrid_client_cert },
    { ngx_string("models"), 1, NGX_HTTP_HYBRID_MANY,
      ngx_http_hybrid_client_models },
    { ngx_string("verbs"), 1, 3, ngx_http_hybrid_client_verbs },
    { ngx_string("options"), 1, NGX_HTTP_HYBRID_MANY,
      ngx_http_hybrid_conf_options },
    { ngx_string("egress"), 1, 1, ngx_http_hybrid_client_egress },
    { ngx_string("rate"), 1, 3, ngx_http_hybrid_conf_rate },
    { ngx_string("tokens"), 1, 3, ngx_http_hybrid_conf_tokens },
    { ngx_string("concurrency"), 1, 2, ngx_http_hybrid_conf_concurrency },
    { ngx_string("budget"), 1, 2, ngx_http_hybrid_conf_budget },
    { ngx_string("queue"), 1, 2, ngx_http_hybrid_conf_queue },
    { ngx_string("weight"), 1, 1, ngx_http_hybrid_conf_weight },
    { ngx_null_string, 0, 0, NULL }
};


char *
ngx_http_hybrid_client(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_hybrid_main_conf_t  *hmcf = conf;

    char                       *rv;
    ngx_str_t                  *value;
    ngx_uint_t                  i;
    ngx_http_hybrid_client_t   *client, **clients;

    value = cf->args->elts;

    if (!ngx_http_hybrid_conf_name_ok(&value[1])) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid client name \"%V\": up to %d letters, "
                           "digits and any of \"._@-\", not \"other\"",
                           &value[1], NGX_HTTP_HYBRID_NAME_MAX);
        return NGX_CONF_ERROR;
    }

    clients = hmcf->clients.elts;

    for (i = 0; i < hmcf->clients.nelts; i++) {
        if (clients[i]->name.len == value[1].len
            && ngx_memcmp(clients[i]->name.data, value[1].data, value[1].len)
               == 0)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "duplicate hybrid_client \"%V\"", &value[1]);
            return NGX_CONF_ERROR;
        }
    }

    client = ngx_http_hybrid_client_create(cf, &value[1], &hmcf->identities);
    if (client == NULL) {
        return NGX_CONF_ERROR;
    }

    clients = ngx_array_push(&hmcf->clients);
    if (clients == NULL) {
        return NGX_CONF_ERROR;
    }

    *clients = client;
    hmcf->defined = 1;

    rv = ngx_http_hybrid_conf_block(cf, ngx_http_hybrid_client_statements,
                                    client);
    if (rv != NGX_CONF_OK) {
        return rv;
    }

    return ngx_http_hybrid_client_complete(cf, client);
}


void
ngx_http_hybrid_identities_init(ngx_http_hybrid_identities_t *identities)
{
    ngx_rbtree_init(&identities->tokens, &identities->sentinel,
                    ngx_str_rbtree_insert_value);
}


ngx_http_hybrid_client_t *
ngx_http_hybrid_client_create(ngx_conf_t *cf, ngx_str_t *name,
    ngx_http_hybrid_identities_t *identities)
{
    ngx_http_hybrid_client_t  *client;

    client = ngx_pcalloc(cf->pool, sizeof(ngx_http_hybrid_client_t));
    if (client == NULL) {
        return NULL;
    }

    client->name = *name;
    client->identities = identities;
    ngx_http_hybrid_conf_place(cf, &client->place);

    if (ngx_array_init(&client->models, cf->pool, 4,
                       sizeof(ngx_hybrid_pattern_t))
        != NGX_OK)
    {
        return NULL;
    }

    return client;
}


char *
ngx_http_hybrid_client_set(ngx_conf_t *cf, ngx_http_hybrid_client_t *client)
{
    return ngx_http_hybrid_conf_set(cf, ngx_http_hybrid_client_statements,
                                    client);
}


/* what only shows when all statements are there */

char *
ngx_http_hybrid_client_complete(ngx_conf_t *cf,
    ngx_http_hybrid_client_t *client)
{
    if (client->verbs == 0) {
        client->verbs = NGX_HTTP_HYBRID_VERB_INFERENCE
                        |NGX_HTTP_HYBRID_VERB_READ;
    }

    if (client->egress == 0) {
        client->egress = NGX_HTTP_HYBRID_EGRESS_LOCAL;
    }

    if (client->ncredentials == 0) {
        return ngx_http_hybrid_conf_error_at(cf, &client->place,
                       "client \"%V\" has no credential: add a \"token\" line "
                       "(tools/hybrid-token makes one), \"jwt\" or "
                       "\"cert\"", &client->name);
    }

    if (client->models.nelts == 0
        && client->verbs != NGX_HTTP_HYBRID_VERB_READ)
    {
        return ngx_http_hybrid_conf_error_at(cf, &client->place,
                       "client \"%V\" may use no model: add \"models\" (or "
                       "\"verbs read;\" if that is meant)", &client->name);
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_hybrid_client_token(ngx_conf_t *cf, void *block)
{
    ngx_http_hybrid_client_t  *client = block;

    ngx_str_t                *value, until;
    ngx_http_hybrid_token_t  *token;

    value = cf->args->elts;

    if (!ngx_http_hybrid_conf_name_ok(&value[1])) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid token id \"%V\": up to %d letters, digits "
                           "and any of \"._@-\"", &value[1],
                           NGX_HTTP_HYBRID_NAME_MAX);
        return NGX_CONF_ERROR;
    }

    token = ngx_pcalloc(cf->pool, sizeof(ngx_http_hybrid_token_t));
    if (token == NULL) {
        return NGX_CONF_ERROR;
    }

    token->sn.str = value[1];
    token->client = client;

    if (ngx_http_hybrid_client_digest(cf, &value[2], token->digest)
        != NGX_CONF_OK)
    {
        return NGX_CONF_ERROR;
    }

    if (cf->args->nelts == 4) {

        if (ngx_http_hybrid_conf_option(&value[3], "until", &until) == NULL) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid parameter \"%V\"", &value[3]);
            return NGX_CONF_ERROR;
        }

        token->ends = 1;

        if (ngx_http_hybrid_client_time(&until, &token->until) != NGX_OK) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid time \"%V\", it must be as in "
                               "\"2026-12-01T00:00:00Z\"", &until);
            return NGX_CONF_ERROR;
        }

        client->nending++;
        client->ends = ngx_max(client->ends, token->until);

        if (token->until <= ngx_time()) {
            ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                               "token of client \"%V\" has expired",
                               &client->name);
        }
    }

    client->ncredentials++;

    return ngx_http_hybrid_client_token_add(cf, token);
}


static char *
ngx_http_hybrid_client_digest(ngx_conf_t *cf, ngx_str_t *text, u_char *digest)
{
    ngx_int_t   n;
    ngx_uint_t  i;

    if (text->len != sizeof("sha256:") - 1 + 64
        || ngx_strncmp(text->data, "sha256:", sizeof("sha256:") - 1) != 0)
    {
        goto invalid;
    }

    for (i = 0; i < 32; i++) {
        n = ngx_hextoi(text->data + sizeof("sha256:") - 1 + i * 2, 2);

        if (n == NGX_ERROR) {
            goto invalid;
        }

        digest[i] = (u_char) n;
    }

    return NGX_CONF_OK;

invalid:

    /* it may be the secret itself, so it is not shown */

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "a token's secret must be given as \"sha256:\" and 64 "
                       "hexadecimal digits (tools/hybrid-token prints the "
                       "line)");

    return NGX_CONF_ERROR;
}


static char *
ngx_http_hybrid_client_token_add(ngx_conf_t *cf,
    ngx_http_hybrid_token_t *token)
{
    uint32_t                  hash;
    ngx_rbtree_t             *tokens;
    ngx_http_hybrid_token_t  *other, *next;

    tokens = &token->client->identities->tokens;

    hash = ngx_murmur_hash2(token->sn.str.data, token->sn.str.len);

    other = (ngx_http_hybrid_token_t *)
                ngx_str_rbtree_lookup(tokens, &token->sn.str, hash);

    if (other == NULL) {
        token->sn.node.key = hash;
        ngx_rbtree_insert(tokens, &token->sn.node);
        return NGX_CONF_OK;
    }

    if (other->client != token->client) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "token id \"%V\" belongs to client \"%V\" already",
                           &token->sn.str, &other->client->name);
        return NGX_CONF_ERROR;
    }

    for (next = other; next; next = next->next) {
        if (ngx_memcmp(next->digest, token->digest, 32) == 0) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "duplicate token \"%V\"",
                               &token->sn.str);
            return NGX_CONF_ERROR;
        }
    }

    token->next = other->next;
    other->next = token;

    return NGX_CONF_OK;
}


static char *
ngx_http_hybrid_client_models(ngx_conf_t *cf, void *block)
{
    ngx_http_hybrid_client_t  *client = block;

    return ngx_http_hybrid_conf_patterns(cf, &client->models);
}


static char *
ngx_http_hybrid_client_verbs(ngx_conf_t *cf, void *block)
{
    ngx_http_hybrid_client_t  *client = block;

    ngx_str_t   *value;
    ngx_uint_t   i;

    if (client->verbs) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"verbs\" directive is duplicate");
        return NGX_CONF_ERROR;
    }

    value = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {

        if (ngx_strcmp(value[i].data, "inference") == 0) {
            client->verbs |= NGX_HTTP_HYBRID_VERB_INFERENCE;

        } else if (ngx_strcmp(value[i].data, "read") == 0) {
            client->verbs |= NGX_HTTP_HYBRID_VERB_READ;

        } else if (ngx_strcmp(value[i].data, "admin") == 0) {
            client->verbs |= NGX_HTTP_HYBRID_VERB_ADMIN;

        } else {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid verb \"%V\", it must be "
                               "\"inference\", \"read\" or \"admin\"",
                               &value[i]);
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_hybrid_client_egress(ngx_conf_t *cf, void *block)
{
    ngx_http_hybrid_client_t  *client = block;

    ngx_str_t  *value;

    if (client->egress) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"egress\" directive is duplicate");
        return NGX_CONF_ERROR;
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "local") == 0) {
        client->egress = NGX_HTTP_HYBRID_EGRESS_LOCAL;

    } else if (ngx_strcmp(value[1].data, "cloud") == 0) {
        client->egress = NGX_HTTP_HYBRID_EGRESS_CLOUD;

    } else if (ngx_strcmp(value[1].data, "any") == 0) {
        client->egress = NGX_HTTP_HYBRID_EGRESS_ANY;

    } else {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid egress \"%V\", it must be \"local\", "
                           "\"cloud\" or \"any\"", &value[1]);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


/* RFC 3339, section 5.6, without fractions: only what a token line needs */

static ngx_int_t
ngx_http_hybrid_client_time(ngx_str_t *text, time_t *t)
{
    u_char     *p;
    ngx_int_t   field[6], zone[2];
    ngx_uint_t  i;
    struct tm   tm, check;

    static const char    shape[] = "0000-00-00T00:00:00";
    static const u_char  at[] = { 0, 5, 8, 11, 14, 17 };

    if (text->len < sizeof(shape)) {
        return NGX_ERROR;
    }

    for (i = 0; i < sizeof(shape) - 1; i++) {
        if (shape[i] != '0' && text->data[i] != (u_char) shape[i]) {
            return NGX_ERROR;
        }
    }

    for (i = 0; i < 6; i++) {
        field[i] = ngx_atoi(text->data + at[i], i ? 2 : 4);

        if (field[i] == NGX_ERROR) {
            return NGX_ERROR;
        }
    }

    ngx_memzero(&tm, sizeof(struct tm));
    tm.tm_year = (int) field[0] - 1900;
    tm.tm_mon = (int) field[1] - 1;
    tm.tm_mday = (int) field[2];
    tm.tm_hour = (int) field[3];
    tm.tm_min = (int) field[4];
    tm.tm_sec = (int) field[5];

    check = tm;
    *t = timegm(&check);

    /* normalized by timegm(): there is no such day or hour */

    if (check.tm_mon != tm.tm_mon || check.tm_mday != tm.tm_mday
        || check.tm_hour != tm.tm_hour || check.tm_min != tm.tm_min)
    {
        return NGX_ERROR;
    }

    p = text->data + sizeof(shape) - 1;

    if (*p == 'Z' && text->len == sizeof(shape)) {
        return NGX_OK;
    }

    if (text->len != sizeof(shape) - 1 + sizeof("+00:00") - 1
        || (*p != '+' && *p != '-') || p[3] != ':')
    {
        return NGX_ERROR;
    }

    zone[0] = ngx_atoi(p + 1, 2);
    zone[1] = ngx_atoi(p + 4, 2);

    if (zone[0] == NGX_ERROR || zone[0] > 23
        || zone[1] == NGX_ERROR || zone[1] > 59)
    {
        return NGX_ERROR;
    }

    i = zone[0] * 3600 + zone[1] * 60;

    *t += (*p == '+') ? - (time_t) i : (time_t) i;

    return NGX_OK;
}
