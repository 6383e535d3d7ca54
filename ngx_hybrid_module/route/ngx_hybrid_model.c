
/*
 * Copyright (C) the ngx_hybrid_module authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_hybrid_model.h"


static ngx_int_t ngx_hybrid_model_lower(ngx_str_t *dst, ngx_str_t *src,
    u_char *buf, ngx_uint_t glob);
static void ngx_hybrid_model_drop_defaults(ngx_str_t *name);
static ngx_int_t ngx_hybrid_model_source(ngx_str_t *name);
static ngx_uint_t ngx_hybrid_model_ends(ngx_str_t *s, const char *tail,
    size_t len);
static ngx_uint_t ngx_hybrid_model_cloud(ngx_str_t *brief);
static u_char *ngx_hybrid_model_base(ngx_str_t *name);
static ngx_uint_t ngx_hybrid_glob(u_char *p, u_char *pe, u_char *s,
    u_char *se);


#define ngx_hybrid_model_starts(s, head)                                      \
    ((s)->len > sizeof(head) - 1                                              \
     && ngx_memcmp((s)->data, head, sizeof(head) - 1) == 0)

#define ngx_hybrid_model_ends_with(s, tail)                                   \
    ngx_hybrid_model_ends(s, tail, sizeof(tail) - 1)


ngx_int_t
ngx_hybrid_model_parse(ngx_hybrid_model_t *m, ngx_str_t *text, u_char *buf)
{
    u_char     *base;
    ngx_str_t   name;

    if (ngx_hybrid_model_lower(&name, text, buf, 0) != NGX_OK
        || ngx_hybrid_model_source(&name) != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_hybrid_model_drop_defaults(&name);

    base = ngx_hybrid_model_base(&name);

    m->name = name;
    m->brief = name;

    if (ngx_strlchr(base, name.data + name.len, ':') == NULL) {
        /* in place: drop_defaults only moves the start, buf has the room */
        ngx_memcpy(name.data + name.len, ":latest", sizeof(":latest") - 1);
        m->name.len += sizeof(":latest") - 1;

    } else if (ngx_hybrid_model_ends_with(&name, ":latest")) {
        m->brief.len -= sizeof(":latest") - 1;
    }

    m->cloud = ngx_hybrid_model_cloud(&m->brief);

    return NGX_OK;
}


ngx_int_t
ngx_hybrid_pattern_parse(ngx_hybrid_pattern_t *p, ngx_str_t *text, u_char *buf)
{
    u_char              *star;
    ngx_str_t            name;
    ngx_hybrid_model_t   m;

    star = ngx_strlchr(text->data, text->data + text->len, '*');

    if (star == NULL) {

        if (ngx_hybrid_model_parse(&m, text, buf) != NGX_OK) {
            return NGX_ERROR;
        }

        p->text = m.name;
        p->brief = m.brief;
        p->prefix = m.name.len;
        p->exact = 1;
        p->cloud = m.cloud;

        return NGX_OK;
    }

    /* names are compared without ":local", so it can't be matched */

    if (ngx_hybrid_model_lower(&name, text, buf, 1) != NGX_OK
        || ngx_hybrid_model_ends_with(&name, ":local")
        || ngx_hybrid_model_source(&name) != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_hybrid_model_drop_defaults(&name);

    p->text = name;
    p->brief = name;
    p->prefix = ngx_strlchr(name.data, name.data + name.len, '*') - name.data;
    p->exact = 0;
    p->cloud = ngx_hybrid_model_ends_with(&name, ":cloud")
               || ngx_hybrid_model_ends_with(&name, "-cloud");

    return NGX_OK;
}


ngx_uint_t
ngx_hybrid_pattern_match(ngx_hybrid_pattern_t *p, ngx_hybrid_model_t *m)
{
    u_char  *data, *last;

    if (m->cloud && !p->cloud) {
        return 0;
    }

    data = p->text.data;
    last = data + p->text.len;

    if (p->exact) {
        return p->text.len == m->name.len
               && ngx_memcmp(data, m->name.data, m->name.len) == 0;
    }

    if (ngx_hybrid_glob(data, last, m->name.data, m->name.data + m->name.len)) {
        return 1;
    }

    return m->brief.len != m->name.len
           && ngx_hybrid_glob(data, last, m->brief.data,
                              m->brief.data + m->brief.len);
}


ngx_int_t
ngx_hybrid_pattern_compare(ngx_hybrid_pattern_t *a, ngx_hybrid_pattern_t *b)
{
    if (a->exact != b->exact) {
        return a->exact ? 1 : -1;
    }

    if (a->prefix != b->prefix) {
        return a->prefix > b->prefix ? 1 : -1;
    }

    /* the same prefix: more literal bytes are more specific */

    if (a->text.len != b->text.len) {
        return a->text.len > b->text.len ? 1 : -1;
    }

    return 0;
}


static ngx_int_t
ngx_hybrid_model_lower(ngx_str_t *dst, ngx_str_t *src, u_char *buf,
    ngx_uint_t glob)
{
    size_t   i;
    u_char   ch, prev, *p;

    if (src->len == 0 || src->len > NGX_HYBRID_MODEL_MAX) {
        return NGX_ERROR;
    }

    p = buf;
    prev = '/';

    for (i = 0; i < src->len; i++) {
        ch = ngx_tolower(src->data[i]);

        if (!((ch >= 'a' && ch <= 'z') || (ch >= '0' && ch <= '9'))) {

            switch (ch) {

            case '/':
                if (prev == '/') {
                    /* an empty part, also that of a scheme's "://" */
                    return NGX_ERROR;
                }

                break;

            case '.':
            case '_':
            case ':':
            case '@':
            case '+':
            case '-':
                break;

            case '*':
                if (glob) {
                    break;
                }

                /* fall through */

            default:
                return NGX_ERROR;
            }
        }

        /* "**" says the same as "*", and is compared as that */

        if (ch != '*' || prev != '*') {
            *p++ = ch;
        }

        prev = ch;
    }

    if (prev == '/') {
        return NGX_ERROR;
    }

    dst->data = buf;
    dst->len = p - buf;

    return NGX_OK;
}


/* checks the part behind the last "/" and takes off a ":local" */

static ngx_int_t
ngx_hybrid_model_source(ngx_str_t *name)
{
    u_char      *base, *p, *last;
    ngx_uint_t   colons;

    base = ngx_hybrid_model_base(name);
    last = name->data + name->len;
    colons = 0;

    for (p = base; p < last; p++) {

        if (*p != ':') {
            continue;
        }

        if (p == base || p + 1 == last || p[1] == ':') {
            return NGX_ERROR;
        }

        colons++;
    }

    if (colons > 2) {
        return NGX_ERROR;
    }

    if (ngx_hybrid_model_ends_with(name, ":local")) {
        name->len -= sizeof(":local") - 1;
        return ngx_hybrid_model_ends_with(name, ":local") ? NGX_ERROR : NGX_OK;
    }

    /* a second colon can only bring a source */

    if (colons == 2 && !ngx_hybrid_model_ends_with(name, ":cloud")) {
        return NGX_ERROR;
    }

    return NGX_OK;
}


static void
ngx_hybrid_model_drop_defaults(ngx_str_t *name)
{
    size_t   n;
    u_char  *p, *last;

    last = name->data + name->len;

    if (ngx_hybrid_model_starts(name, "registry.ollama.ai/")) {
        n = sizeof("registry.ollama.ai/") - 1;

        /* a host is one only in front of a namespace and a model */

        p = ngx_strlchr(name->data + n, last, '/');

        if (p && ngx_strlchr(p + 1, last, '/') == NULL) {
            name->data += n;
            name->len -= n;
        }
    }

    n = sizeof("library/") - 1;

    if (ngx_hybrid_model_starts(name, "library/")
        && ngx_strlchr(name->data + n, last, '/') == NULL)
    {
        name->data += n;
        name->len -= n;
    }
}


static ngx_uint_t
ngx_hybrid_model_cloud(ngx_str_t *brief)
{
    u_char     *base, *colon;
    ngx_str_t   model;

    if (ngx_hybrid_model_ends_with(brief, ":cloud")
        || ngx_hybrid_model_ends_with(brief, "-cloud"))
    {
        return 1;
    }

    /* "x-cloud:tag" too: one of Ollama's views may look at it */

    base = ngx_hybrid_model_base(brief);
    colon = ngx_strlchr(base, brief->data + brief->len, ':');

    if (colon == NULL) {
        return 0;
    }

    model.data = base;
    model.len = colon - base;

    return ngx_hybrid_model_ends_with(&model, "-cloud");
}


static ngx_uint_t
ngx_hybrid_model_ends(ngx_str_t *s, const char *tail, size_t len)
{
    return s->len >= len
           && ngx_memcmp(s->data + s->len - len, tail, len) == 0;
}


static u_char *
ngx_hybrid_model_base(ngx_str_t *name)
{
    u_char  *p;

    for (p = name->data + name->len; p > name->data; p--) {
        if (p[-1] == '/') {
            break;
        }
    }

    return p;
}


static ngx_uint_t
ngx_hybrid_glob(u_char *p, u_char *pe, u_char *s, u_char *se)
{
    u_char  *star, *mark;

    star = NULL;
    mark = NULL;

    while (s < se) {

        if (p < pe && *p == '*') {
            star = ++p;
            mark = s;
            continue;
        }

        if (p < pe && *p == *s) {
            p++;
            s++;
            continue;
        }

        /* let the last "*" take one byte more, but never a "/" */

        if (star == NULL || *mark == '/') {
            return 0;
        }

        p = star;
        s = ++mark;
    }

    while (p < pe && *p == '*') {
        p++;
    }

    return p == pe;
}
