
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * The "cert" lines of hybrid_client, and where "hybrid_access mtls" can't
 * work.
 */


#include "ngx_http_hybrid_conf.h"
#include "ngx_http_hybrid_cert.h"


static char *ngx_http_hybrid_cert_condition(ngx_conf_t *cf, ngx_uint_t *n,
    ngx_http_hybrid_cert_condition_t *cond);
static char *ngx_http_hybrid_cert_unquote(ngx_conf_t *cf, ngx_uint_t *n,
    ngx_str_t *text);
static char *ngx_http_hybrid_cert_digest(ngx_conf_t *cf,
    ngx_http_hybrid_cert_condition_t *cond);
static char *ngx_http_hybrid_cert_subject_check(ngx_conf_t *cf,
    ngx_str_t *text);
static char *ngx_http_hybrid_cert_san(ngx_conf_t *cf,
    ngx_http_hybrid_cert_condition_t *cond);
static ngx_uint_t ngx_http_hybrid_cert_dns_ok(ngx_str_t *text);
static char *ngx_http_hybrid_cert_sort(ngx_conf_t *cf, ngx_array_t *a);
static ngx_int_t ngx_http_hybrid_cert_compare(
    ngx_http_hybrid_cert_condition_t *one,
    ngx_http_hybrid_cert_condition_t *two);
static char *ngx_http_hybrid_cert_add(ngx_conf_t *cf,
    ngx_http_hybrid_cert_t *cert);


/* cert sha256=... subject="..." san=... */

char *
ngx_http_hybrid_client_cert(ngx_conf_t *cf, void *block)
{
    ngx_http_hybrid_client_t  *client = block;

    ngx_uint_t                         i;
    ngx_http_hybrid_cert_t            *cert;
    ngx_http_hybrid_cert_condition_t  *cond;

    cert = ngx_palloc(cf->pool, sizeof(ngx_http_hybrid_cert_t));
    if (cert == NULL) {
        return NGX_CONF_ERROR;
    }

    cert->client = client;

    if (ngx_array_init(&cert->conditions, cf->pool, 2,
                       sizeof(ngx_http_hybrid_cert_condition_t))
        != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    for (i = 1; i < cf->args->nelts; /* void */ ) {

        cond = ngx_array_push(&cert->conditions);
        if (cond == NULL) {
            return NGX_CONF_ERROR;
        }

        if (ngx_http_hybrid_cert_condition(cf, &i, cond) != NGX_CONF_OK) {
            return NGX_CONF_ERROR;
        }
    }

    if (ngx_http_hybrid_cert_sort(cf, &cert->conditions) != NGX_CONF_OK) {
        return NGX_CONF_ERROR;
    }

    client->ncredentials++;

    return ngx_http_hybrid_cert_add(cf, cert);
}


/* the condition that begins with the n-th argument, n becomes the next one */

static char *
ngx_http_hybrid_cert_condition(ngx_conf_t *cf, ngx_uint_t *n,
    ngx_http_hybrid_cert_condition_t *cond)
{
    ngx_str_t  *value, *arg;

    value = cf->args->elts;
    arg = &value[*n];

    if (ngx_http_hybrid_conf_option(arg, "sha256", &cond->value)) {
        (*n)++;
        return ngx_http_hybrid_cert_digest(cf, cond);
    }

    if (ngx_http_hybrid_conf_option(arg, "subject", &cond->value)) {
        cond->type = ngx_http_hybrid_cert_subject;

        if (ngx_http_hybrid_cert_unquote(cf, n, &cond->value) != NGX_CONF_OK) {
            return NGX_CONF_ERROR;
        }

        return ngx_http_hybrid_cert_subject_check(cf, &cond->value);
    }

    if (ngx_http_hybrid_conf_option(arg, "san", &cond->value)) {

        if (ngx_http_hybrid_cert_unquote(cf, n, &cond->value) != NGX_CONF_OK) {
            return NGX_CONF_ERROR;
        }

        return ngx_http_hybrid_cert_san(cf, cond);
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid parameter \"%V\", it must be \"sha256=\", "
                       "\"subject=\" or \"san=\"", arg);

    return NGX_CONF_ERROR;
}


/*
 * To nginx a quote within a word is a character like others, and a blank
 * there ends the word: subject="CN=Light RAG" arrives in two.
 */

static char *
ngx_http_hybrid_cert_unquote(ngx_conf_t *cf, ngx_uint_t *n, ngx_str_t *text)
{
    size_t       len;
    u_char      *p;
    ngx_str_t   *value, *first;
    ngx_uint_t   last;

    value = cf->args->elts;
    first = &value[*n];

    if (text->len == 0 || text->data[0] != '"') {
        (*n)++;
        return NGX_CONF_OK;
    }

    len = text->len;
    last = *n;

    if (text->len == 1 || text->data[text->len - 1] != '"') {

        do {
            if (++last == cf->args->nelts) {
                ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                                   "no closing quote in \"%V\"", first);
                return NGX_CONF_ERROR;
            }

            len += value[last].len + 1;

        } while (value[last].len == 0
                 || value[last].data[value[last].len - 1] != '"');
    }

    p = ngx_pnalloc(cf->pool, len);
    if (p == NULL) {
        return NGX_CONF_ERROR;
    }

    len = ngx_cpymem(p, text->data + 1, text->len - 1) - p;

    while (*n < last) {
        (*n)++;
        p[len++] = ' ';
        len = ngx_cpymem(p + len, value[*n].data, value[*n].len) - p;
    }

    (*n)++;

    text->data = p;
    text->len = len - 1;

    return NGX_CONF_OK;
}


static char *
ngx_http_hybrid_cert_digest(ngx_conf_t *cf,
    ngx_http_hybrid_cert_condition_t *cond)
{
    u_char      *p, *last, *digest;
    ngx_int_t    n;
    ngx_uint_t   i;

    digest = ngx_pnalloc(cf->pool, 32);
    if (digest == NULL) {
        return NGX_CONF_ERROR;
    }

    p = cond->value.data;
    last = p + cond->value.len;

    for (i = 0; i < 32; i++) {

        if (i && p < last && *p == ':') {
            p++;
        }

        n = (last - p >= 2) ? ngx_hextoi(p, 2) : NGX_ERROR;

        if (n == NGX_ERROR) {
            break;
        }

        digest[i] = (u_char) n;
        p += 2;
    }

    if (i < 32 || p != last) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid fingerprint \"%V\", it must be 64 "
                           "hexadecimal digits: openssl x509 -in cert.pem "
                           "-noout -fingerprint -sha256", &cond->value);
        return NGX_CONF_ERROR;
    }

    cond->type = ngx_http_hybrid_cert_sha256;
    cond->value.data = digest;
    cond->value.len = 32;

    return NGX_CONF_OK;
}


/* what other notations of a name look like, which would never match */

static char *
ngx_http_hybrid_cert_subject_check(ngx_conf_t *cf, ngx_str_t *text)
{
    u_char     *p;
    ngx_uint_t  i;

    p = text->data;

    if (text->len == 0 || p[0] == '/'
        || ngx_strlchr(p, p + text->len, '=') == NULL)
    {
        goto invalid;
    }

    for (i = 0; i < text->len; i++) {

        if (p[i] < ' ' || p[i] >= 0x7f) {
            goto invalid;
        }

        if (p[i] == '\\') {
            i++;
            continue;
        }

        if ((p[i] == ',' || p[i] == '=') && i + 1 < text->len
            && p[i + 1] == ' ')
        {
            goto invalid;
        }
    }

    return NGX_CONF_OK;

invalid:

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid subject \"%V\", it must be as in "
                       "\"CN=name,O=home\": openssl x509 -in cert.pem -noout "
                       "-subject -nameopt RFC2253", text);

    return NGX_CONF_ERROR;
}


static char *
ngx_http_hybrid_cert_san(ngx_conf_t *cf,
    ngx_http_hybrid_cert_condition_t *cond)
{
    u_char     *p, *last;
    ngx_str_t  *text;

    text = &cond->value;

    if (text->len > 4 && ngx_strncmp(text->data, "dns:", 4) == 0) {
        cond->type = ngx_http_hybrid_cert_dns;
        text->data += 4;
        text->len -= 4;

    } else if (text->len > 4 && ngx_strncmp(text->data, "uri:", 4) == 0) {
        cond->type = ngx_http_hybrid_cert_uri;
        text->data += 4;
        text->len -= 4;

    } else if (text->len > 6 && ngx_strncmp(text->data, "email:", 6) == 0) {
        cond->type = ngx_http_hybrid_cert_email;
        text->data += 6;
        text->len -= 6;

    } else if (ngx_strnstr(text->data, "://", text->len)) {
        cond->type = ngx_http_hybrid_cert_uri;

    } else if (ngx_strlchr(text->data, text->data + text->len, '@')) {
        cond->type = ngx_http_hybrid_cert_email;

    } else {
        cond->type = ngx_http_hybrid_cert_dns;
    }

    last = text->data + text->len;

    for (p = text->data; p < last; p++) {

        if (*p == '*') {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid name \"%V\": there are no wildcards "
                               "in \"cert\"", text);
            return NGX_CONF_ERROR;
        }

        if (*p <= ' ' || *p >= 0x7f) {
            goto invalid;
        }
    }

    switch (cond->type) {

    case ngx_http_hybrid_cert_dns:
        if (!ngx_http_hybrid_cert_dns_ok(text)) {
            goto invalid;
        }

        /* so that the same name in another case is found to be the same */

        ngx_strlow(text->data, text->data, text->len);
        break;

    case ngx_http_hybrid_cert_uri:
        if (ngx_strlchr(text->data, last, ':') == NULL) {
            goto invalid;
        }

        break;

    default: /* ngx_http_hybrid_cert_email */
        if (ngx_strlchr(text->data, last, '@') == NULL) {
            goto invalid;
        }

        break;
    }

    return NGX_CONF_OK;

invalid:

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "invalid name \"%V\" in \"san=\", it must be a DNS "
                       "name, a URI or an email address", text);

    return NGX_CONF_ERROR;
}


/* addresses are names of another kind, which we do not take for a client */

static ngx_uint_t
ngx_http_hybrid_cert_dns_ok(ngx_str_t *text)
{
    u_char      ch;
    ngx_uint_t  i, letters;

    letters = 0;

    for (i = 0; i < text->len; i++) {
        ch = ngx_tolower(text->data[i]);

        if (ch >= 'a' && ch <= 'z') {
            letters = 1;
            continue;
        }

        if (!((ch >= '0' && ch <= '9')
              || ch == '.' || ch == '-' || ch == '_'))
        {
            return 0;
        }
    }

    return letters;
}


/* lines are compared, so the order of their conditions is always the same */

static char *
ngx_http_hybrid_cert_sort(ngx_conf_t *cf, ngx_array_t *a)
{
    ngx_int_t                          rc;
    ngx_uint_t                         i, j;
    ngx_http_hybrid_cert_condition_t  *cond, cur;

    cond = a->elts;

    for (i = 1; i < a->nelts; i++) {

        cur = cond[i];

        for (j = i; j; j--) {

            rc = ngx_http_hybrid_cert_compare(&cond[j - 1], &cur);

            /* a certificate has one digest and one subject */

            if (rc == 0 || (cond[j - 1].type == cur.type
                            && cur.type <= ngx_http_hybrid_cert_subject))
            {
                ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                                   "a \"cert\" line has the same condition "
                                   "twice: write a line for each alternative");
                return NGX_CONF_ERROR;
            }

            if (rc < 0) {
                break;
            }

            cond[j] = cond[j - 1];
        }

        cond[j] = cur;
    }

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_hybrid_cert_compare(ngx_http_hybrid_cert_condition_t *one,
    ngx_http_hybrid_cert_condition_t *two)
{
    if (one->type != two->type) {
        return one->type < two->type ? -1 : 1;
    }

    return ngx_memn2cmp(one->value.data, two->value.data, one->value.len,
                        two->value.len);
}


static char *
ngx_http_hybrid_cert_add(ngx_conf_t *cf, ngx_http_hybrid_cert_t *cert)
{
    ngx_uint_t                         i, j;
    ngx_array_t                       *a;
    ngx_http_hybrid_cert_t           **certs;
    ngx_http_hybrid_cert_condition_t  *cond, *other;

    a = &cert->client->identities->certs;
    certs = a->elts;
    cond = cert->conditions.elts;

    for (i = 0; i < a->nelts; i++) {

        if (certs[i]->conditions.nelts != cert->conditions.nelts) {
            continue;
        }

        other = certs[i]->conditions.elts;

        for (j = 0; j < cert->conditions.nelts; j++) {
            if (ngx_http_hybrid_cert_compare(&cond[j], &other[j]) != 0) {
                break;
            }
        }

        if (j == cert->conditions.nelts) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "this \"cert\" line belongs to client \"%V\" "
                               "already", &certs[i]->client->name);
            return NGX_CONF_ERROR;
        }
    }

    if (a->elts == NULL
        && ngx_array_init(a, cf->pool, 8, sizeof(void *)) != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    certs = ngx_array_push(a);
    if (certs == NULL) {
        return NGX_CONF_ERROR;
    }

    *certs = cert;

    return NGX_CONF_OK;
}


/*
 * A location that asks for certificates in a server that does not ask its
 * clients for them.
 */

char *
ngx_http_hybrid_cert_check(ngx_conf_t *cf, ngx_http_hybrid_loc_conf_t *hlcf)
{
    ngx_str_t                     name = ngx_string("ssl_client_verify");
    ngx_http_core_loc_conf_t     *clcf;
    ngx_http_hybrid_main_conf_t  *hmcf;
#if (NGX_HTTP_SSL)
    ngx_http_ssl_srv_conf_t      *sscf;
#endif

    if (!(hlcf->access & NGX_HTTP_HYBRID_ACCESS_MTLS)) {
        return NGX_CONF_OK;
    }

    hmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_hybrid_module);

    hmcf->cert_verify = ngx_http_get_variable_index(cf, &name);

    if (hmcf->cert_verify == NGX_ERROR) {
        return NGX_CONF_ERROR;
    }

    /* what a server has is for the locations in it */

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (clcf->name.len == 0) {
        return NGX_CONF_OK;
    }

#if (NGX_HTTP_SSL)

    sscf = ngx_http_conf_get_module_srv_conf(cf, ngx_http_ssl_module);

    if (sscf->verify) {
        return NGX_CONF_OK;
    }

#endif

    if (hlcf->access == NGX_HTTP_HYBRID_ACCESS_MTLS) {
        return ngx_http_hybrid_conf_error_at(cf, &hlcf->place,
                   "\"hybrid_access mtls\" lets nobody in where clients are "
                   "not asked for certificates: set \"ssl_verify_client "
                   "optional\" and \"ssl_client_certificate\" in the server "
                   "of location \"%V\"", &clcf->name);
    }

    /* said once for a line in a server, not for each location in it */

    if (hmcf->cert_warned.line == hlcf->place.line
        && hmcf->cert_warned.file == hlcf->place.file)
    {
        return NGX_CONF_OK;
    }

    hmcf->cert_warned = hlcf->place;

    ngx_log_error(NGX_LOG_WARN, cf->log, 0,
                  "\"hybrid_access mtls\" in %s:%ui, but clients are not "
                  "asked for certificates: set \"ssl_verify_client optional\" "
                  "in the server of location \"%V\"",
                  hlcf->place.file, hlcf->place.line, &clcf->name);

    return NGX_CONF_OK;
}
