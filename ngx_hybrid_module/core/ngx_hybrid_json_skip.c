
/* The fast way over strings, by 64 bytes at a time. */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_hybrid_json.h>
#include <ngx_hybrid_json_scan.h>


static ngx_inline ngx_uint_t ngx_hybrid_json_pair(u_char *p);
static ngx_inline u_char *ngx_hybrid_json_run(u_char *p, u_char *last);
static u_char *ngx_hybrid_json_utf8_run(u_char *p, u_char *last);
static u_char *ngx_hybrid_json_hex_run(u_char *p, u_char *last);


uint32_t  ngx_hybrid_json_escapes[] = {
    0x00000000, /* 0000 0000 0000 0000  0000 0000 0000 0000 */

                /* ?>=< ;:98 7654 3210  /.-, +*)( '&%$ #"!  */
    0x00008004, /* 0000 0000 0000 0000  1000 0000 0000 0100 */

                /* _^]\ [ZYX WVUT SRQP  ONML KJIH GFED CBA@ */
    0x10000000, /* 0001 0000 0000 0000  0000 0000 0000 0000 */

                /*  ~}| {zyx wvut srqp  onml kjih gfed cba` */
    0x00144044, /* 0000 0000 0001 0100  0100 0000 0100 0100 */

    0x00000000, /* 0000 0000 0000 0000  0000 0000 0000 0000 */
    0x00000000, /* 0000 0000 0000 0000  0000 0000 0000 0000 */
    0x00000000, /* 0000 0000 0000 0000  0000 0000 0000 0000 */
    0x00000000  /* 0000 0000 0000 0000  0000 0000 0000 0000 */
};


int8_t  ngx_hybrid_json_hexes[] = {
    -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
    -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
    -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
     0,  1,  2,  3,  4,  5,  6,  7,  8,  9, -1, -1, -1, -1, -1, -1,
    -1, 10, 11, 12, 13, 14, 15, -1, -1, -1, -1, -1, -1, -1, -1, -1,
    -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
    -1, 10, 11, 12, 13, 14, 15, -1, -1, -1, -1, -1, -1, -1, -1, -1,
    -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
    -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
    -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
    -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
    -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
    -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
    -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
    -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1,
    -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1
};


u_char *
ngx_hybrid_json_plain(u_char *p, u_char *last)
{
    uint64_t  mask;

    while (last - p >= 16) {
        mask = ngx_hybrid_json_mask16(p);

        if (mask) {
            return p + __builtin_ctzll(mask);
        }

        p += 16;
    }

    while (p < last && *p >= 0x20 && *p < 0x80 && *p != '"' && *p != '\\') {
        p++;
    }

    return p;
}


u_char *
ngx_hybrid_json_refill(ngx_hybrid_json_window_t *w, u_char *p, u_char *last)
{
    uint64_t  mask;

    while (last - p >= 64) {

        w->mask = ngx_hybrid_json_mask64(p);
        w->end = p + 64;

        if (w->mask) {
            return p + __builtin_ctzll(w->mask);
        }

        p += 64;
    }

    if (p == last || last - w->start < 64) {
        return ngx_hybrid_json_plain(p, last);
    }

    /* the last of the piece: a window that begins before p */

    w->mask = ngx_hybrid_json_mask64(last - 64);
    w->end = last;

    mask = w->mask >> (64 - (last - p));

    return mask ? p + __builtin_ctzll(mask) : last;
}


/*
 * Skips all that is surely right, and returns at the end of the string or
 * where the slow path has to look.  A step over an escape only shifts the
 * mask: if the next load had to wait for it, prose would be scanned at a
 * tenth of the speed.
 */

u_char *
ngx_hybrid_json_skip(u_char *p, u_char *last)
{
    u_char      *q, *next;
    uint64_t     mask;
    ngx_uint_t   i;

    for ( ;; ) {

        if (last - p >= 64) {
            mask = ngx_hybrid_json_mask64(p);
            next = p + 64;

        } else if (last - p >= 16) {
            mask = ngx_hybrid_json_mask16(p);
            next = p + 16;

        } else {
            return ngx_hybrid_json_plain(p, last);
        }

        while (mask) {
            i = __builtin_ctzll(mask);
            q = p + i;

            if (*q == '"') {
                return q;
            }

            if (next - q >= 2 && ngx_hybrid_json_pair(q)) {
                mask &= ~((uint64_t) 3 << i);
                continue;
            }

            q = ngx_hybrid_json_run(q, last);

            if (q >= next) {
                next = q;
                break;
            }

            /* no progress */

            if (q == p + i) {
                return q;
            }

            mask &= ~(uint64_t) 0 << (q - p);
        }

        p = next;
    }
}


/*
 * Whether two bytes are a plain escape or a character that is valid: what
 * occurs alone in most texts.  Longer characters come in runs.
 */

static ngx_inline ngx_uint_t
ngx_hybrid_json_pair(u_char *p)
{
    if (*p == '\\') {
        return ngx_hybrid_json_escaped(p[1]) != 0;
    }

    return *p >= 0xc2 && *p <= 0xdf && (p[1] & 0xc0) == 0x80;
}


static ngx_inline u_char *
ngx_hybrid_json_run(u_char *p, u_char *last)
{
    if (*p >= 0x80) {
        return ngx_hybrid_json_utf8_run(p, last);
    }

    if (*p != '\\' || last - p < 2) {
        return p;
    }

    if (p[1] == 'u') {
        return ngx_hybrid_json_hex_run(p, last);
    }

    return ngx_hybrid_json_escaped(p[1]) ? p + 2 : p;
}


static u_char *
ngx_hybrid_json_utf8_run(u_char *p, u_char *last)
{
    uint32_t  v, bits;

    while (last - p >= 4 && *p >= 0x80) {

        v = ngx_hybrid_json_load32(p);

        if ((v & 0x00c0c0f0) == 0x008080e0) {

            /* not E0 80-9F: too long, not ED A0-BF: surrogates */

            bits = v & 0x200f;

            if (bits == 0x0000 || bits == 0x200d) {
                break;
            }

            p += 3;

        } else if ((v & 0xc0e0) == 0x80c0) {

            if ((v & 0x1e) == 0) {
                break;
            }

            p += 2;

        } else if ((v & 0xc0c0c0f8) == 0x808080f0) {

            /* the code without its low 16 bits: 1 to 16 */

            bits = (v & 0x07) << 2 | (v >> 12 & 0x03);

            if (bits == 0 || bits > 16) {
                break;
            }

            p += 4;

        } else {
            break;
        }
    }

    return p;
}


static u_char *
ngx_hybrid_json_hex_run(u_char *p, u_char *last)
{
    int32_t   v;
    int8_t   *hex;

    hex = ngx_hybrid_json_hexes;

    while (last - p >= 6 && p[0] == '\\' && p[1] == 'u') {

        if ((hex[p[2]] | hex[p[3]] | hex[p[4]] | hex[p[5]]) < 0) {
            break;
        }

        /* surrogates come in pairs, which is for the slow path to see */

        v = hex[p[2]] << 4 | hex[p[3]];

        if (v >= 0xd8 && v <= 0xdf) {
            break;
        }

        p += 6;
    }

    return p;
}
