
/*
 * Copyright (C) the ngx_hybrid_module authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_hybrid_list.h"


/* where the text is read; NULL: it is broken */

typedef struct {
    u_char              *last;
    const char          *member;
    ngx_hybrid_list_pt   handler;
    void                *data;
    ngx_uint_t           stopped;
} ngx_hybrid_list_t;


/* a string between its quotes, as written */

typedef struct {
    u_char              *start;
    u_char              *end;
} ngx_hybrid_list_string_t;


static u_char *ngx_hybrid_list_array(ngx_hybrid_list_t *l, u_char *p);
static u_char *ngx_hybrid_list_object(ngx_hybrid_list_t *l, u_char *p);
static u_char *ngx_hybrid_list_member(ngx_hybrid_list_t *l, u_char *p,
    ngx_hybrid_list_string_t *key);
static ngx_int_t ngx_hybrid_list_item(ngx_hybrid_list_item_t *item,
    ngx_hybrid_list_string_t *name);
static u_char *ngx_hybrid_list_skip(ngx_hybrid_list_t *l, u_char *p);
static u_char *ngx_hybrid_list_scalar(ngx_hybrid_list_t *l, u_char *p);
static u_char *ngx_hybrid_list_number(ngx_hybrid_list_t *l, u_char *p);
static u_char *ngx_hybrid_list_string(ngx_hybrid_list_t *l, u_char *p,
    ngx_hybrid_list_string_t *s);
static u_char *ngx_hybrid_list_escape(ngx_hybrid_list_t *l, u_char *p);
static u_char *ngx_hybrid_list_utf8(u_char *p, u_char *last);
static u_char *ngx_hybrid_list_blank(ngx_hybrid_list_t *l, u_char *p);
static ngx_uint_t ngx_hybrid_list_is(ngx_hybrid_list_string_t *s,
    const char *text);


const char *
ngx_hybrid_list_parse(ngx_str_t *text, const char *member,
    ngx_hybrid_list_pt handler, void *data)
{
    u_char                    *p;
    ngx_uint_t                 found;
    ngx_hybrid_list_t          l;
    ngx_hybrid_list_string_t   key;

    l.last = text->data + text->len;
    l.member = member;
    l.handler = handler;
    l.data = data;
    l.stopped = 0;

    found = 0;

    p = ngx_hybrid_list_blank(&l, text->data);

    if (p == l.last || *p != '{') {
        return "it is no JSON object";
    }

    p = ngx_hybrid_list_blank(&l, p + 1);

    if (p < l.last && *p == '}') {
        return "it has no list";
    }

    for ( ;; ) {
        p = ngx_hybrid_list_member(&l, p, &key);
        if (p == NULL) {
            return "it is no valid JSON";
        }

        if (ngx_hybrid_list_is(&key, member)) {

            if (found++) {
                return "it has two lists";
            }

            p = ngx_hybrid_list_array(&l, p);

        } else {
            p = ngx_hybrid_list_skip(&l, p);
        }

        if (p == NULL) {
            return "it is no valid JSON, or no list of objects";
        }

        p = ngx_hybrid_list_blank(&l, p);

        if (p == l.last) {
            return "it is cut off";
        }

        if (*p == ',') {
            p = ngx_hybrid_list_blank(&l, p + 1);
            continue;
        }

        break;
    }

    if (*p != '}' || ngx_hybrid_list_blank(&l, p + 1) != l.last) {
        return "it is no valid JSON";
    }

    return found ? NULL : "it has no list";
}


static u_char *
ngx_hybrid_list_array(ngx_hybrid_list_t *l, u_char *p)
{
    /* Go writes an empty list so */

    if (l->last - p >= 4 && ngx_memcmp(p, "null", 4) == 0) {
        return p + 4;
    }

    if (p == l->last || *p != '[') {
        return NULL;
    }

    p = ngx_hybrid_list_blank(l, p + 1);

    if (p < l->last && *p == ']') {
        return p + 1;
    }

    for ( ;; ) {

        if (p == l->last || *p != '{') {
            return NULL;
        }

        p = ngx_hybrid_list_object(l, p);
        if (p == NULL) {
            return NULL;
        }

        p = ngx_hybrid_list_blank(l, p);

        if (p == l->last || (*p != ',' && *p != ']')) {
            return NULL;
        }

        if (*p++ == ']') {
            return p;
        }

        p = ngx_hybrid_list_blank(l, p);
    }
}


static u_char *
ngx_hybrid_list_object(ngx_hybrid_list_t *l, u_char *p)
{
    time_t                     t;
    ngx_hybrid_list_item_t     item;
    ngx_hybrid_list_string_t   key, value, name, model;

    ngx_memzero(&item, sizeof(ngx_hybrid_list_item_t));
    ngx_memzero(&name, sizeof(ngx_hybrid_list_string_t));
    ngx_memzero(&model, sizeof(ngx_hybrid_list_string_t));

    item.text.data = p;

    p = ngx_hybrid_list_blank(l, p + 1);

    if (p < l->last && *p == '}') {
        return p + 1;
    }

    for ( ;; ) {
        p = ngx_hybrid_list_member(l, p, &key);
        if (p == NULL) {
            return NULL;
        }

        value.start = NULL;

        p = (p < l->last && *p == '"')
            ? ngx_hybrid_list_string(l, p, &value)
            : ngx_hybrid_list_skip(l, p);

        if (p == NULL) {
            return NULL;
        }

        if (value.start == NULL) {
            /* void */

        } else if (ngx_hybrid_list_is(&key, "model")) {
            model = value;

        } else if (ngx_hybrid_list_is(&key, "name")
                   || ngx_hybrid_list_is(&key, "id"))
        {
            name = value;

        } else if (ngx_hybrid_list_is(&key, "remote_model")
                   || ngx_hybrid_list_is(&key, "remote_host"))
        {
            if (value.end > value.start) {
                item.remote = 1;
            }

        } else if (ngx_hybrid_list_is(&key, "expires_at")) {
            t = ngx_hybrid_list_time(value.start, value.end);
            item.expires = (t > 0) ? t : 0;
        }

        p = ngx_hybrid_list_blank(l, p);

        if (p == l->last || (*p != ',' && *p != '}')) {
            return NULL;
        }

        if (*p++ == '}') {
            break;
        }

        p = ngx_hybrid_list_blank(l, p);
    }

    item.text.len = p - item.text.data;

    /* Ollama says both, and goes by "model" itself */

    if (!l->stopped
        && ngx_hybrid_list_item(&item, model.start ? &model : &name) == NGX_OK
        && l->handler(l->data, &item) != NGX_OK)
    {
        l->stopped = 1;
    }

    return p;
}


/* "key": at its value */

static u_char *
ngx_hybrid_list_member(ngx_hybrid_list_t *l, u_char *p,
    ngx_hybrid_list_string_t *key)
{
    if (p == l->last || *p != '"') {
        return NULL;
    }

    p = ngx_hybrid_list_string(l, p, key);
    if (p == NULL) {
        return NULL;
    }

    p = ngx_hybrid_list_blank(l, p);

    if (p == l->last || *p != ':') {
        return NULL;
    }

    return ngx_hybrid_list_blank(l, p + 1);
}


/* what can't be the name of a model is left out, and no other one is */

static ngx_int_t
ngx_hybrid_list_item(ngx_hybrid_list_item_t *item,
    ngx_hybrid_list_string_t *name)
{
    u_char     *p, *dst, text[NGX_HYBRID_MODEL_MAX];
    ngx_str_t   unescaped;

    if (name->start == NULL) {
        return NGX_DECLINED;
    }

    dst = text;

    for (p = name->start; p < name->end; p++) {

        if (*p == '\\') {
            p++;

            if (*p != '/') {
                return NGX_DECLINED;
            }
        }

        if (dst == text + sizeof(text)) {
            return NGX_DECLINED;
        }

        *dst++ = *p;
    }

    unescaped.data = text;
    unescaped.len = dst - text;

    if (ngx_hybrid_model_parse(&item->model, &unescaped, item->buf)
        != NGX_OK)
    {
        return NGX_DECLINED;
    }

    return NGX_OK;
}


/* a value of any kind */

static u_char *
ngx_hybrid_list_skip(ngx_hybrid_list_t *l, u_char *p)
{
    u_char                     closes[NGX_HYBRID_LIST_DEPTH];
    ngx_uint_t                 depth;
    ngx_hybrid_list_string_t   key;

    depth = 0;

    for ( ;; ) {

        if (p == l->last) {
            return NULL;
        }

        if (*p == '{' || *p == '[') {

            if (depth == NGX_HYBRID_LIST_DEPTH) {
                return NULL;
            }

            closes[depth++] = (*p == '{') ? '}' : ']';

            p = ngx_hybrid_list_blank(l, p + 1);

            if (p == l->last) {
                return NULL;
            }

            if (*p != closes[depth - 1]) {

                if (closes[depth - 1] == '}') {
                    p = ngx_hybrid_list_member(l, p, &key);
                    if (p == NULL) {
                        return NULL;
                    }
                }

                continue;
            }

        } else {
            p = ngx_hybrid_list_scalar(l, p);
            if (p == NULL) {
                return NULL;
            }
        }

        /* the end of a value, and of all that ends with it */

        for ( ;; ) {

            if (depth == 0) {
                return p;
            }

            p = ngx_hybrid_list_blank(l, p);

            if (p == l->last) {
                return NULL;
            }

            if (*p != closes[depth - 1]) {
                break;
            }

            p++;

            if (--depth == 0) {
                return p;
            }
        }

        if (*p != ',') {
            return NULL;
        }

        p = ngx_hybrid_list_blank(l, p + 1);

        if (closes[depth - 1] == '}') {
            p = ngx_hybrid_list_member(l, p, &key);
            if (p == NULL) {
                return NULL;
            }
        }
    }
}


static u_char *
ngx_hybrid_list_scalar(ngx_hybrid_list_t *l, u_char *p)
{
    size_t                     len;
    const char                *word;
    ngx_hybrid_list_string_t   s;

    switch (*p) {

    case '"':
        return ngx_hybrid_list_string(l, p, &s);

    case 't':
        word = "true";
        break;

    case 'f':
        word = "false";
        break;

    case 'n':
        word = "null";
        break;

    default:
        return ngx_hybrid_list_number(l, p);
    }

    len = ngx_strlen(word);

    if ((size_t) (l->last - p) < len || ngx_memcmp(p, word, len) != 0) {
        return NULL;
    }

    return p + len;
}


static u_char *
ngx_hybrid_list_number(ngx_hybrid_list_t *l, u_char *p)
{
    u_char  *start;

    if (p < l->last && *p == '-') {
        p++;
    }

    start = p;

    while (p < l->last && ngx_hybrid_list_is_digit(*p)) {
        p++;
    }

    if (p == start || (*start == '0' && p > start + 1)) {
        return NULL;
    }

    if (p < l->last && *p == '.') {
        start = ++p;

        while (p < l->last && ngx_hybrid_list_is_digit(*p)) {
            p++;
        }

        if (p == start) {
            return NULL;
        }
    }

    if (p < l->last && (*p == 'e' || *p == 'E')) {
        p++;

        if (p < l->last && (*p == '+' || *p == '-')) {
            p++;
        }

        start = p;

        while (p < l->last && ngx_hybrid_list_is_digit(*p)) {
            p++;
        }

        if (p == start) {
            return NULL;
        }
    }

    return p;
}


static u_char *
ngx_hybrid_list_string(ngx_hybrid_list_t *l, u_char *p,
    ngx_hybrid_list_string_t *s)
{
    s->start = ++p;

    while (p < l->last) {

        if (*p == '"') {
            s->end = p;
            return p + 1;
        }

        if (*p == '\\') {
            p = ngx_hybrid_list_escape(l, p + 1);
            if (p == NULL) {
                return NULL;
            }

            continue;
        }

        if (*p < ' ') {
            return NULL;
        }

        if (*p < 0x80) {
            p++;
            continue;
        }

        /* it is shown to clients: their parsers are strict */

        p = ngx_hybrid_list_utf8(p, l->last);
        if (p == NULL) {
            return NULL;
        }
    }

    return NULL;
}


static u_char *
ngx_hybrid_list_escape(ngx_hybrid_list_t *l, u_char *p)
{
    u_char      ch;
    ngx_uint_t  i;

    if (p == l->last) {
        return NULL;
    }

    switch (*p) {

    case '"':
    case '\\':
    case '/':
    case 'b':
    case 'f':
    case 'n':
    case 'r':
    case 't':
        return p + 1;

    case 'u':

        if (l->last - p < 5) {
            return NULL;
        }

        for (i = 1; i < 5; i++) {
            ch = p[i] | 0x20;

            if (!ngx_hybrid_list_is_digit(p[i]) && (ch < 'a' || ch > 'f')) {
                return NULL;
            }
        }

        return p + 5;

    default:
        return NULL;
    }
}


/* RFC 3629, 4: the shortest form, no surrogates */

static u_char *
ngx_hybrid_list_utf8(u_char *p, u_char *last)
{
    ngx_uint_t  n, code, least;

    if (*p >= 0xf0 && *p < 0xf8) {
        n = 3;
        least = 0x10000;

    } else if (*p >= 0xe0 && *p < 0xf0) {
        n = 2;
        least = 0x800;

    } else if (*p >= 0xc2 && *p < 0xe0) {
        n = 1;
        least = 0x80;

    } else {
        return NULL;
    }

    if (last - p <= (ptrdiff_t) n) {
        return NULL;
    }

    code = *p++ & (0x3f >> n);

    for ( /* void */ ; n; n--) {

        if ((*p & 0xc0) != 0x80) {
            return NULL;
        }

        code = code << 6 | (*p++ & 0x3f);
    }

    if (code < least || code > 0x10ffff
        || (code >= 0xd800 && code < 0xe000))
    {
        return NULL;
    }

    return p;
}


static u_char *
ngx_hybrid_list_blank(ngx_hybrid_list_t *l, u_char *p)
{
    while (p < l->last && ngx_hybrid_list_is_blank(*p)) {
        p++;
    }

    return p;
}


static ngx_uint_t
ngx_hybrid_list_is(ngx_hybrid_list_string_t *s, const char *text)
{
    size_t  len;

    len = ngx_strlen(text);

    return (size_t) (s->end - s->start) == len
           && ngx_memcmp(s->start, text, len) == 0;
}


uint32_t
ngx_hybrid_list_hash(ngx_str_t *name, uint32_t seed)
{
    uint32_t    hash;
    ngx_uint_t  i;

    /* one at a time, by Bob Jenkins */

    hash = seed;

    for (i = 0; i < name->len; i++) {
        hash += name->data[i];
        hash += hash << 10;
        hash ^= hash >> 6;
    }

    hash += hash << 3;
    hash ^= hash >> 11;
    hash += hash << 15;

    return hash;
}
