
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Parts of a list, once it is known to be one.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_hybrid_list.h"


static ngx_int_t ngx_hybrid_list_digits(u_char *p, ngx_uint_t n);


u_char *
ngx_hybrid_list_compact(u_char *dst, ngx_str_t *text)
{
    u_char      *p, *last;
    ngx_uint_t   quoted;

    quoted = 0;
    last = text->data + text->len;

    for (p = text->data; p < last; p++) {

        if (quoted && *p == '\\') {
            *dst++ = *p++;

        } else if (*p == '"') {
            quoted = !quoted;

        } else if (!quoted && ngx_hybrid_list_is_blank(*p)) {
            continue;
        }

        *dst++ = *p;
    }

    return dst;
}


time_t
ngx_hybrid_list_time(u_char *p, u_char *last)
{
    time_t      t;
    ngx_int_t   year, month, day, hour, min, sec, zone;
    ngx_uint_t  i;

    static const char  shape[] = "0000-00-00T00:00:00";

    if (last - p < (ptrdiff_t) sizeof(shape)) {
        return NGX_ERROR;
    }

    for (i = 0; i < sizeof(shape) - 1; i++) {
        if (shape[i] == '0' ? !ngx_hybrid_list_is_digit(p[i])
                            : p[i] != (u_char) shape[i])
        {
            return NGX_ERROR;
        }
    }

    year = ngx_hybrid_list_digits(p, 4);
    month = ngx_hybrid_list_digits(p + 5, 2);
    day = ngx_hybrid_list_digits(p + 8, 2);
    hour = ngx_hybrid_list_digits(p + 11, 2);
    min = ngx_hybrid_list_digits(p + 14, 2);
    sec = ngx_hybrid_list_digits(p + 17, 2);

    if (month < 1 || month > 12 || day < 1 || day > 31
        || hour > 23 || min > 59 || sec > 60)
    {
        return NGX_ERROR;
    }

    p += sizeof(shape) - 1;

    if (*p == '.') {
        do {
            p++;
        } while (p < last && ngx_hybrid_list_is_digit(*p));
    }

    zone = 0;

    if (last - p == 1 && *p == 'Z') {
        /* void */

    } else if (last - p == 6 && (*p == '+' || *p == '-') && p[3] == ':'
               && ngx_hybrid_list_digits(p + 1, 2) != NGX_ERROR
               && ngx_hybrid_list_digits(p + 4, 2) != NGX_ERROR)
    {
        zone = ngx_hybrid_list_digits(p + 1, 2) * 3600
               + ngx_hybrid_list_digits(p + 4, 2) * 60;
        zone = (*p == '-') ? -zone : zone;

    } else {
        return NGX_ERROR;
    }

    /* days since March 1st of the year 0, as in ngx_http_parse_time() */

    month -= 2;

    if (month <= 0) {
        month += 12;
        year -= 1;
    }

    t = (time_t) 365 * year + year / 4 - year / 100 + year / 400
        + 367 * month / 12 - 30 + day - 1 - 719527 + 31 + 28;

    return t * 86400 + hour * 3600 + min * 60 + sec - zone;
}


static ngx_int_t
ngx_hybrid_list_digits(u_char *p, ngx_uint_t n)
{
    ngx_int_t  value;

    for (value = 0; n; n--, p++) {

        if (!ngx_hybrid_list_is_digit(*p)) {
            return NGX_ERROR;
        }

        value = value * 10 + (*p - '0');
    }

    return value;
}
