
/*
 * The headers of a part of a form.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_hybrid_multipart.h>


static ngx_hybrid_multipart_error_e ngx_hybrid_multipart_known_header(
    ngx_hybrid_multipart_t *mp, u_char *name, size_t len, u_char *p,
    u_char *last);
static ngx_hybrid_multipart_error_e ngx_hybrid_multipart_length(
    ngx_hybrid_multipart_t *mp, u_char *p, u_char *last);
static ngx_hybrid_multipart_error_e ngx_hybrid_multipart_disposition(
    ngx_hybrid_multipart_t *mp, u_char *p, u_char *last);
static u_char *ngx_hybrid_multipart_parameter(u_char *p, u_char *last,
    ngx_str_t *value);
static ngx_hybrid_multipart_error_e ngx_hybrid_multipart_name(
    ngx_hybrid_multipart_t *mp, ngx_str_t *name);
static ngx_uint_t ngx_hybrid_multipart_is_token(u_char ch);


#define ngx_hybrid_multipart_is(p, len, s)                                    \
    ((size_t) (len) == sizeof(s) - 1                                          \
     && ngx_hybrid_multipart_same(p, s, sizeof(s) - 1))


ngx_hybrid_multipart_error_e
ngx_hybrid_multipart_header(ngx_hybrid_multipart_t *mp)
{
    u_char                        *p, *name, *last;
    size_t                         len;
    ngx_hybrid_multipart_error_e   error;

    if (mp->headers++ == NGX_HYBRID_MULTIPART_HEADERS) {
        return NGX_HYBRID_MULTIPART_MANY;
    }

    name = mp->text;
    last = name + mp->line;

    /* who looks for delimiters first may see one */

    if (mp->line >= 2 && name[0] == '-' && name[1] == '-') {
        return NGX_HYBRID_MULTIPART_HEADER;
    }

    for (p = name; p < last && ngx_hybrid_multipart_is_token(*p); p++) {
        /* void */
    }

    len = p - name;

    /* a line that starts with a space would continue the one before */

    if (len == 0 || p == last || *p++ != ':') {
        return NGX_HYBRID_MULTIPART_HEADER;
    }

    while (p < last && *p == ' ') {
        p++;
    }

    error = ngx_hybrid_multipart_known_header(mp, name, len, p, last);

    mp->line = 0;

    return error;
}


static ngx_hybrid_multipart_error_e
ngx_hybrid_multipart_known_header(ngx_hybrid_multipart_t *mp, u_char *name,
    size_t len, u_char *p, u_char *last)
{
    if (ngx_hybrid_multipart_is(name, len, "content-disposition")) {

        if (mp->disposition) {
            return NGX_HYBRID_MULTIPART_DISPOSITION;
        }

        mp->disposition = 1;

        return ngx_hybrid_multipart_disposition(mp, p, last);
    }

    if (ngx_hybrid_multipart_is(name, len, "content-type")) {

        if (mp->type) {
            return NGX_HYBRID_MULTIPART_HEADER;
        }

        /* another charset could make other text of the same bytes */

        mp->type = 1;
        mp->plain = ngx_hybrid_multipart_is(p, last - p, "text/plain")
                    || ngx_hybrid_multipart_is(p, last - p,
                                               "text/plain; charset=utf-8")
                    || ngx_hybrid_multipart_is(p, last - p,
                                               "text/plain;charset=utf-8");

    } else if (ngx_hybrid_multipart_is(name, len, "content-length")) {

        return ngx_hybrid_multipart_length(mp, p, last);

    } else if (len > sizeof("content-") - 1
               && ngx_hybrid_multipart_same(name, "content-", 8))
    {
        return NGX_HYBRID_MULTIPART_ENCODING;
    }

    for ( /* void */ ; p < last; p++) {
        if (*p >= 0x80) {
            return NGX_HYBRID_MULTIPART_HEADER;
        }
    }

    return NGX_HYBRID_MULTIPART_VALID;
}


/* some clients write it; it must be right for readers that believe it */

static ngx_hybrid_multipart_error_e
ngx_hybrid_multipart_length(ngx_hybrid_multipart_t *mp, u_char *p,
    u_char *last)
{
    off_t  n;

    if (mp->declared != -1 || p == last || last - p > 12) {
        return NGX_HYBRID_MULTIPART_HEADER;
    }

    for (n = 0; p < last; p++) {

        if (*p < '0' || *p > '9') {
            return NGX_HYBRID_MULTIPART_HEADER;
        }

        n = n * 10 + (*p - '0');
    }

    mp->declared = n;

    return NGX_HYBRID_MULTIPART_VALID;
}


/* form-data; name="..."[; filename="..."], in any order */

static ngx_hybrid_multipart_error_e
ngx_hybrid_multipart_disposition(ngx_hybrid_multipart_t *mp, u_char *p,
    u_char *last)
{
    u_char      *key;
    size_t       n;
    ngx_str_t    name, file, *value;

    n = sizeof("form-data") - 1;

    if ((size_t) (last - p) < n || ngx_strncmp(p, "form-data", n) != 0) {
        return NGX_HYBRID_MULTIPART_DISPOSITION;
    }

    ngx_str_null(&name);
    ngx_str_null(&file);

    for (p += n; p < last; /* void */ ) {

        if (*p++ != ';') {
            return NGX_HYBRID_MULTIPART_DISPOSITION;
        }

        while (p < last && *p == ' ') {
            p++;
        }

        key = p;

        while (p < last && *p >= 'a' && *p <= 'z') {
            p++;
        }

        n = p - key;

        if (n == 4 && ngx_strncmp(key, "name", 4) == 0) {
            value = &name;

        } else if (n == 8 && ngx_strncmp(key, "filename", 8) == 0) {
            value = &file;

        } else {
            return NGX_HYBRID_MULTIPART_DISPOSITION;
        }

        if (value->data) {
            return NGX_HYBRID_MULTIPART_DISPOSITION;
        }

        p = ngx_hybrid_multipart_parameter(p, last, value);

        if (p == NULL) {
            return NGX_HYBRID_MULTIPART_DISPOSITION;
        }
    }

    mp->file = (file.data != NULL);

    return ngx_hybrid_multipart_name(mp, &name);
}


/* a backslash is an escape to some, and to others a part of a path */

static u_char *
ngx_hybrid_multipart_parameter(u_char *p, u_char *last, ngx_str_t *value)
{
    if (p == last || *p++ != '=' || p == last) {
        return NULL;
    }

    if (*p != '"') {
        value->data = p;

        while (p < last && ngx_hybrid_multipart_is_token(*p)) {
            p++;
        }

        value->len = p - value->data;

        return value->len ? p : NULL;
    }

    value->data = ++p;

    while (p < last && *p != '"' && *p != '\\') {
        p++;
    }

    value->len = p - value->data;

    return (p < last && *p == '"') ? p + 1 : NULL;
}


/*
 * "MODEL", " model" or "model[]" are the field to some readers, and
 * "_charset_" says how to read the others.
 */

static ngx_hybrid_multipart_error_e
ngx_hybrid_multipart_name(ngx_hybrid_multipart_t *mp, ngx_str_t *name)
{
    u_char  *p, *last;

    if (name->len == 0) {
        return NGX_HYBRID_MULTIPART_DISPOSITION;
    }

    p = name->data;
    last = p + name->len;

    for ( /* void */ ; p < last; p++) {
        if (*p >= 0x80 || *p == '%') {
            return NGX_HYBRID_MULTIPART_DISPOSITION;
        }
    }

    if (ngx_hybrid_multipart_is(name->data, name->len, "_charset_")) {
        return NGX_HYBRID_MULTIPART_AMBIGUOUS;
    }

    p = name->data;

    while (p < last && !ngx_hybrid_multipart_is_alnum(*p)) {
        p++;
    }

    if (last - p < 5
        || !ngx_hybrid_multipart_same(p, "model", 5)
        || (last - p > 5
            && (ngx_hybrid_multipart_is_alnum(p[5]) || p[5] == '_')))
    {
        return NGX_HYBRID_MULTIPART_VALID;
    }

    if (mp->found
        || name->len != 5
        || ngx_strncmp(name->data, "model", 5) != 0)
    {
        return NGX_HYBRID_MULTIPART_AMBIGUOUS;
    }

    mp->found = 1;
    mp->model = 1;
    mp->kept = 0;

    return NGX_HYBRID_MULTIPART_VALID;
}


/* RFC 9110, 5.6.2, but the "%" */

static ngx_uint_t
ngx_hybrid_multipart_is_token(u_char ch)
{
    return ngx_hybrid_multipart_is_alnum(ch)
           || (ch && ngx_strchr("!#$&'*+-.^_`|~", ch) != NULL);
}


ngx_uint_t
ngx_hybrid_multipart_is_alnum(u_char ch)
{
    return (ch >= '0' && ch <= '9')
           || (ch >= 'A' && ch <= 'Z')
           || (ch >= 'a' && ch <= 'z');
}


/* without case; s is in lower case */

ngx_uint_t
ngx_hybrid_multipart_same(u_char *p, const char *s, size_t len)
{
    while (len--) {
        if (ngx_tolower(*p) != (u_char) *s) {
            return 0;
        }

        p++;
        s++;
    }

    return 1;
}
