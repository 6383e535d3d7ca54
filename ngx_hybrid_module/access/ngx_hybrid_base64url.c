
/*
 * Copyright (C) the ngx_hybrid_module authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_hybrid_base64url.h"


#define NO  64


static u_char  ngx_hybrid_base64url_values[256] = {
    NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO,
    NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO,
    NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, 62, NO, NO,
    52, 53, 54, 55, 56, 57, 58, 59, 60, 61, NO, NO, NO, NO, NO, NO,
    NO,  0,  1,  2,  3,  4,  5,  6,  7,  8,  9, 10, 11, 12, 13, 14,
    15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, NO, NO, NO, NO, 63,
    NO, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40,
    41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, NO, NO, NO, NO, NO,
    NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO,
    NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO,
    NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO,
    NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO,
    NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO,
    NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO,
    NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO,
    NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO, NO
};


ngx_int_t
ngx_hybrid_base64url(u_char *dst, size_t size, u_char *src, size_t len)
{
    u_char    *p, *last, bad;
    size_t     rest;
    uint32_t   v, a, b, c, d;

    rest = len % 4;

    if (rest == 1 || len / 4 * 3 + (rest ? rest - 1 : 0) > size) {
        return NGX_ERROR;
    }

    p = dst;
    bad = 0;

    for (last = src + len - rest; src < last; src += 4) {
        a = ngx_hybrid_base64url_values[src[0]];
        b = ngx_hybrid_base64url_values[src[1]];
        c = ngx_hybrid_base64url_values[src[2]];
        d = ngx_hybrid_base64url_values[src[3]];

        bad |= a | b | c | d;
        v = a << 18 | b << 12 | c << 6 | d;

        *p++ = (u_char) (v >> 16);
        *p++ = (u_char) (v >> 8);
        *p++ = (u_char) v;
    }

    if (rest) {
        a = ngx_hybrid_base64url_values[src[0]];
        b = ngx_hybrid_base64url_values[src[1]];
        c = (rest == 3) ? ngx_hybrid_base64url_values[src[2]] : 0;

        bad |= a | b | c;
        v = a << 18 | b << 12 | c << 6;

        *p++ = (u_char) (v >> 16);

        if (rest == 3) {
            *p++ = (u_char) (v >> 8);
            v <<= 8;
        }

        /* bits that no byte takes */

        if (v & 0xff00) {
            return NGX_ERROR;
        }
    }

    return (bad & NO) ? NGX_ERROR : p - dst;
}
