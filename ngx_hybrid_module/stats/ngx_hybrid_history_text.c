
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * A minute as text in Redis, and as JSON.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_hybrid_history.h"


/* "1 <changed> <lost>\n", both of ten digits */
#define NGX_HYBRID_HISTORY_HEAD   24

/* " 10.463:4294967295" */
#define NGX_HYBRID_HISTORY_CELL   20

/* buckets that a table may have */
#define NGX_HYBRID_HISTORY_LAST   463


static u_char *ngx_hybrid_history_series(ngx_hybrid_history_cell_t *cells,
    ngx_uint_t n, ngx_str_t *labels, u_char *p, u_char *end);
static u_char *ngx_hybrid_history_digits(u_char *p, uint32_t n,
    ngx_uint_t width);
static ngx_uint_t ngx_hybrid_history_name(ngx_str_t *name, size_t max);
static u_char *ngx_hybrid_history_number(u_char *p, u_char *last,
    ngx_uint_t digits, uint64_t max, uint32_t *n);
static u_char *ngx_hybrid_history_line(u_char *p, u_char *last);


size_t
ngx_hybrid_history_text_size(ngx_uint_t n)
{
    size_t  size;

    /* a series has more than one cell: this is more than they need */

    size = 4096 + n * 48;

    return ngx_min(size, NGX_HYBRID_HISTORY_TEXT);
}


size_t
ngx_hybrid_history_write(ngx_hybrid_history_state_t *state,
    ngx_hybrid_history_labels_pt labels, void *data, u_char *buf, size_t size)
{
    u_char      *p, *next;
    uint64_t     lost;
    ngx_str_t    names[3];
    ngx_uint_t   i, n, series;

    p = buf + NGX_HYBRID_HISTORY_HEAD;
    lost = state->lost;

    for (i = 0; i < state->n; i += n) {

        series = (state->cells[i].key - 1)
                 / (NGX_HYBRID_HISTORY_TABLES * NGX_HYBRID_HISTORY_BUCKETS);

        for (n = 1; i + n < state->n; n++) {
            if ((state->cells[i + n].key - 1)
                / (NGX_HYBRID_HISTORY_TABLES * NGX_HYBRID_HISTORY_BUCKETS)
                != series)
            {
                break;
            }
        }

        next = NULL;

        if (labels(data, series, names) == NGX_OK) {
            next = ngx_hybrid_history_series(&state->cells[i], n, names, p,
                                             buf + size);
        }

        if (next) {
            p = next;
            continue;
        }

        for (series = i; series < i + n; series++) {
            lost += state->cells[series].count;
        }
    }

    ngx_memcpy(buf, "1 ", 2);
    buf[12] = ' ';
    buf[23] = '\n';

    (void) ngx_hybrid_history_digits(buf + 2, state->changed, 10);
    (void) ngx_hybrid_history_digits(buf + 13,
                                     (uint32_t) ngx_min(lost, 0xffffffff), 10);

    return p - buf;
}


/* NULL: no room, or names that can't be written */

static u_char *
ngx_hybrid_history_series(ngx_hybrid_history_cell_t *cells, ngx_uint_t n,
    ngx_str_t *labels, u_char *p, u_char *end)
{
    uint32_t    key;
    ngx_uint_t  i;

    if (!ngx_hybrid_history_name(&labels[0], NGX_HYBRID_HISTORY_NAME)
        || !ngx_hybrid_history_name(&labels[1], NGX_HYBRID_HISTORY_NAME)
        || !ngx_hybrid_history_name(&labels[2], NGX_HYBRID_HISTORY_MODEL)
        || (size_t) (end - p) < labels[0].len + labels[1].len + labels[2].len
                                + 3 + n * NGX_HYBRID_HISTORY_CELL)
    {
        return NULL;
    }

    p = ngx_cpymem(p, labels[0].data, labels[0].len);
    *p++ = ' ';
    p = ngx_cpymem(p, labels[1].data, labels[1].len);
    *p++ = ' ';
    p = ngx_cpymem(p, labels[2].data, labels[2].len);

    for (i = 0; i < n; i++) {
        key = cells[i].key - 1;

        *p++ = ' ';
        p = ngx_hybrid_history_digits(p, key / NGX_HYBRID_HISTORY_BUCKETS
                                         % NGX_HYBRID_HISTORY_TABLES, 1);
        *p++ = '.';
        p = ngx_hybrid_history_digits(p, key % NGX_HYBRID_HISTORY_BUCKETS, 1);
        *p++ = ':';
        p = ngx_hybrid_history_digits(p, cells[i].count, 1);
    }

    *p++ = '\n';

    return p;
}


static u_char *
ngx_hybrid_history_digits(u_char *p, uint32_t n, ngx_uint_t width)
{
    u_char  *s, buf[NGX_INT32_LEN];

    s = buf + sizeof(buf);

    do {
        *--s = (u_char) ('0' + n % 10);
        n /= 10;
    } while (n || (ngx_uint_t) (buf + sizeof(buf) - s) < width);

    return ngx_cpymem(p, s, buf + sizeof(buf) - s);
}


/* nothing in it needs an escape in JSON, or ends it in the text */

static ngx_uint_t
ngx_hybrid_history_name(ngx_str_t *name, size_t max)
{
    u_char  ch;
    size_t  i;

    for (i = 0; i < name->len; i++) {
        ch = name->data[i];

        if (ch <= ' ' || ch >= 0x7f || ch == '"' || ch == '\\') {
            return 0;
        }
    }

    return i > 0 && i <= max;
}


ngx_int_t
ngx_hybrid_history_check(ngx_str_t *text, uint32_t *lost, size_t *size)
{
    u_char    *p, *last;
    uint32_t   n;

    p = text->data;
    last = p + text->len;

    if (text->len < NGX_HYBRID_HISTORY_HEAD
        || text->len > NGX_HYBRID_HISTORY_TEXT
        || p[0] != '1' || p[1] != ' '
        || p[12] != ' ' || p[23] != '\n'
        || ngx_hybrid_history_number(p + 2, p + 12, 10, 0xffffffff, &n)
           != p + 12
        || ngx_hybrid_history_number(p + 13, p + 23, 10, 0xffffffff, lost)
           != p + 23)
    {
        return NGX_ERROR;
    }

    /* of each line: brackets, quotes and commas for blanks */

    *size = text->len;

    for (p += NGX_HYBRID_HISTORY_HEAD; p < last; *size += 12) {

        p = ngx_hybrid_history_line(p, last);

        if (p == NULL) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


/* NULL: it is not one; else what follows it */

static u_char *
ngx_hybrid_history_line(u_char *p, u_char *last)
{
    uint32_t    n, table;
    ngx_str_t   name;
    ngx_uint_t  i;

    for (i = 0; i < 3; i++) {
        name.data = p;

        while (p < last && *p != ' ') {
            p++;
        }

        name.len = p - name.data;

        if (p == last
            || !ngx_hybrid_history_name(&name, i < 2
                                               ? NGX_HYBRID_HISTORY_NAME
                                               : NGX_HYBRID_HISTORY_MODEL))
        {
            return NULL;
        }

        p++;
    }

    for ( ;; ) {

        p = ngx_hybrid_history_number(p, last, 2,
                                      NGX_HYBRID_HISTORY_TABLES - 1, &table);

        if (p == NULL || p == last || *p++ != '.') {
            return NULL;
        }

        p = ngx_hybrid_history_number(p, last, 3, NGX_HYBRID_HISTORY_LAST,
                                      &n);

        if (p == NULL || p == last || *p++ != ':') {
            return NULL;
        }

        p = ngx_hybrid_history_number(p, last, 10, 0xffffffff, &n);

        if (p == NULL || p == last) {
            return NULL;
        }

        if (*p == '\n') {
            return p + 1;
        }

        if (*p++ != ' ') {
            return NULL;
        }
    }
}


/* NULL: no number, or too great a one; else what follows it */

static u_char *
ngx_hybrid_history_number(u_char *p, u_char *last, ngx_uint_t digits,
    uint64_t max, uint32_t *n)
{
    u_char    *start;
    uint64_t   value;

    value = 0;

    for (start = p; p < last && *p >= '0' && *p <= '9'; p++) {

        if ((ngx_uint_t) (p - start) == digits) {
            return NULL;
        }

        value = value * 10 + (*p - '0');
    }

    if (p == start || value > max) {
        return NULL;
    }

    *n = (uint32_t) value;

    return p;
}


u_char *
ngx_hybrid_history_json(u_char *p, ngx_str_t *text)
{
    u_char      *s, *last;
    ngx_uint_t   words;

    s = text->data + NGX_HYBRID_HISTORY_HEAD;
    last = text->data + text->len;

    while (s < last) {

        p = ngx_cpymem(p, "[\"", 2);

        for (words = 0; *s != '\n'; s++) {

            if (*s == ' ' && words < 3) {
                p = ngx_cpymem(p, "\",\"", 3);
                words++;

            } else {
                *p++ = *s;
            }
        }

        p = ngx_cpymem(p, "\"]", 2);
        s++;

        if (s < last) {
            *p++ = ',';
        }
    }

    return p;
}


ngx_int_t
ngx_hybrid_history_field(ngx_str_t *field, uint32_t *minute,
    ngx_str_t *gateway)
{
    u_char      *p, *last;
    ngx_uint_t   i;

    last = field->data + field->len;

    p = ngx_hybrid_history_number(field->data, last, 10, 0xffffffff, minute);

    if (p == NULL || last - p != 1 + NGX_HYBRID_HISTORY_GATEWAY || *p != ':') {
        return NGX_ERROR;
    }

    gateway->data = p + 1;
    gateway->len = NGX_HYBRID_HISTORY_GATEWAY;

    for (i = 0; i < gateway->len; i++) {
        if (!((gateway->data[i] >= '0' && gateway->data[i] <= '9')
              || (gateway->data[i] >= 'a' && gateway->data[i] <= 'f')))
        {
            return NGX_ERROR;
        }
    }

    /* one name for one minute */

    return *field->data == '0' ? NGX_ERROR : NGX_OK;
}
