
/*
 * Strings, numbers and literals, byte by byte where a piece may end inside
 * of them.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_hybrid_json.h>
#include <ngx_hybrid_json_scan.h>


static ngx_inline u_char *ngx_hybrid_json_digits(u_char *p, u_char *last);
static u_char *ngx_hybrid_json_special(ngx_hybrid_json_t *js, u_char *p,
    u_char *last);
static u_char *ngx_hybrid_json_lead(ngx_hybrid_json_t *js, u_char *p);
static u_char *ngx_hybrid_json_continuation(ngx_hybrid_json_t *js, u_char *p);
static u_char *ngx_hybrid_json_escape(ngx_hybrid_json_t *js, u_char *p);
static u_char *ngx_hybrid_json_hex(ngx_hybrid_json_t *js, u_char *p);
static void ngx_hybrid_json_emit_code(ngx_hybrid_json_t *js, uint32_t code);


void
ngx_hybrid_json_emit(ngx_hybrid_json_t *js, u_char *p, size_t n)
{
    size_t  room;

    room = js->end - js->pos;

    if (n > room) {
        n = room;
        js->overflow = 1;
    }

    js->pos = ngx_cpymem(js->pos, p, n);
}


u_char *
ngx_hybrid_json_literal(ngx_hybrid_json_t *js, u_char *p, u_char *last)
{
    u_char  *start, *literal;

    start = p;
    literal = js->literal;

    while (p < last && *literal) {

        if (*p != *literal) {
            return ngx_hybrid_json_fail(js, NGX_HYBRID_JSON_LITERAL, p);
        }

        literal++;
        p++;
    }

    if (js->pos) {
        ngx_hybrid_json_emit(js, start, p - start);
    }

    if (*literal == '\0') {
        ngx_hybrid_json_end_value(js, p);
        return p;
    }

    js->literal = literal;

    return p;
}


u_char *
ngx_hybrid_json_number(ngx_hybrid_json_t *js, u_char *p, u_char *last)
{
    u_char  *start;

    start = p;
    p = ngx_hybrid_json_scan_number(js, p, last);

    if (p == NULL) {
        return NULL;
    }

    if (js->pos) {
        ngx_hybrid_json_emit(js, start, p - start);
    }

    if (js->token == tk_none) {
        ngx_hybrid_json_end_value(js, p);
    }

    return p;
}


/*
 * Each case is entered from above or, when the last piece ended in it, from
 * the switch.  The end of a number is known only by the byte after it.
 */

u_char *
ngx_hybrid_json_scan_number(ngx_hybrid_json_t *js, u_char *p, u_char *last)
{
    switch (js->token) {

    case tk_number:
        if (*p == '-') {
            p++;
        }

        js->token = tk_minus;

        /* fall through */

    case tk_minus:
        if (p == last) {
            return p;
        }

        if (!ngx_hybrid_json_digit(*p)) {
            break;
        }

        if (*p++ == '0') {
            js->token = tk_zero;
            goto zero;
        }

        js->token = tk_int;

        /* fall through */

    case tk_int:
        while (p < last && ngx_hybrid_json_digit(*p)) {
            p++;
        }

        /* fall through */

    case tk_zero:
    zero:
        if (p == last) {
            return p;
        }

        if (*p == 'e' || *p == 'E') {
            p++;
            js->token = tk_e;
            goto e;
        }

        if (*p != '.') {
            if (ngx_hybrid_json_digit(*p)) {
                break;
            }

            js->token = tk_none;
            return p;
        }

        p++;
        js->token = tk_point;

        /* fall through */

    case tk_point:
        if (p == last) {
            return p;
        }

        if (!ngx_hybrid_json_digit(*p)) {
            break;
        }

        js->token = tk_fraction;

        /* fall through */

    case tk_fraction:
        p = ngx_hybrid_json_digits(p, last);

        if (p == last) {
            return p;
        }

        if (*p != 'e' && *p != 'E') {
            js->token = tk_none;
            return p;
        }

        p++;
        js->token = tk_e;

        /* fall through */

    case tk_e:
    e:
        if (p == last) {
            return p;
        }

        if (*p == '+' || *p == '-') {
            p++;
        }

        js->token = tk_e_sign;

        /* fall through */

    case tk_e_sign:
        if (p == last) {
            return p;
        }

        if (!ngx_hybrid_json_digit(*p)) {
            break;
        }

        js->token = tk_exponent;

        /* fall through */

    default: /* tk_exponent */
        p = ngx_hybrid_json_digits(p, last);

        if (p < last) {
            js->token = tk_none;
        }

        return p;
    }

    return ngx_hybrid_json_fail(js, NGX_HYBRID_JSON_NUMBER, p);
}


static ngx_inline u_char *
ngx_hybrid_json_digits(u_char *p, u_char *last)
{
    uint64_t  v;

    while (last - p >= 8) {

        v = ngx_hybrid_json_load64(p) ^ ngx_hybrid_json_all('0');

        /* 0x80 in the first byte above 9; a carry can only spoil later ones */

        v = ((v + ngx_hybrid_json_all(0x76)) | v) & ngx_hybrid_json_all(0x80);

        if (v) {
            return p + __builtin_ctzll(v) / 8;
        }

        p += 8;
    }

    while (p < last && ngx_hybrid_json_digit(*p)) {
        p++;
    }

    return p;
}


u_char *
ngx_hybrid_json_string(ngx_hybrid_json_t *js, u_char *p, u_char *last)
{
    u_char  *start;

    for ( ;; ) {

        if (js->token == tk_string) {

            start = p;

            if (js->pos) {
                p = ngx_hybrid_json_plain(p, last);
                ngx_hybrid_json_emit(js, start, p - start);

            } else {
                p = ngx_hybrid_json_skip(p, last);
            }

            if (p == last) {
                return p;
            }

            if (*p == '"') {
                break;
            }
        }

        p = ngx_hybrid_json_special(js, p, last);

        if (p == NULL || p == last) {
            return p;
        }
    }

    if (js->state != sw_key) {
        ngx_hybrid_json_end_value(js, p + 1);
        return p + 1;
    }

    js->token = tk_none;
    js->state = sw_colon;

    if (js->pos == NULL) {
        return p + 1;
    }

    start = js->pos;
    js->pos = NULL;

    if (js->depth == 1 && js->sized) {
        ngx_hybrid_json_top_key(js, js->key, start - js->key,
                                ngx_hybrid_json_at(js, p));
    }

    if (!js->overflow
        && ngx_hybrid_json_end_key(js, js->key, start - js->key) != NGX_OK)
    {
        return ngx_hybrid_json_fail(js, NGX_HYBRID_JSON_AMBIGUOUS, p);
    }

    return p + 1;
}


/* one step at a time, in every state of a string but a plain run */

static u_char *
ngx_hybrid_json_special(ngx_hybrid_json_t *js, u_char *p, u_char *last)
{
    do {
        switch (js->token) {

        case tk_string:
            p = ngx_hybrid_json_lead(js, p);
            break;

        case tk_utf8:
            p = ngx_hybrid_json_continuation(js, p);
            break;

        case tk_escape:
            p = ngx_hybrid_json_escape(js, p);
            break;

        case tk_hex:
            p = ngx_hybrid_json_hex(js, p);
            break;

        default: /* tk_low_backslash, tk_low_u */
            if (*p != (js->token == tk_low_u ? 'u' : '\\')) {
                return ngx_hybrid_json_fail(js, NGX_HYBRID_JSON_SURROGATE, p);
            }

            js->token = (js->token == tk_low_u) ? tk_hex : tk_low_u;
            p++;
            break;
        }

    } while (p && p < last && js->token != tk_string);

    return p;
}


static u_char *
ngx_hybrid_json_lead(ngx_hybrid_json_t *js, u_char *p)
{
    u_char  ch;

    ch = *p;

    if (ch == '\\') {
        js->token = tk_escape;
        return p + 1;
    }

    if (ch < 0x20) {
        return ngx_hybrid_json_fail(js, NGX_HYBRID_JSON_CONTROL, p);
    }

    if (ch < 0xc2 || ch > 0xf4) {
        return ngx_hybrid_json_fail(js, NGX_HYBRID_JSON_UTF8, p);
    }

    /* these bounds exclude long forms, surrogates and what is past U+10FFFF */

    js->least = (ch == 0xe0) ? 0xa0 : (ch == 0xf0) ? 0x90 : 0x80;
    js->most = (ch == 0xed) ? 0x9f : (ch == 0xf4) ? 0x8f : 0xbf;
    js->more = (ch < 0xe0) ? 1 : (ch < 0xf0) ? 2 : 3;
    js->token = tk_utf8;

    if (js->pos) {
        ngx_hybrid_json_emit(js, p, 1);
    }

    return p + 1;
}


static u_char *
ngx_hybrid_json_continuation(ngx_hybrid_json_t *js, u_char *p)
{
    if (*p < js->least || *p > js->most) {
        return ngx_hybrid_json_fail(js, NGX_HYBRID_JSON_UTF8, p);
    }

    js->least = 0x80;
    js->most = 0xbf;

    if (--js->more == 0) {
        js->token = tk_string;
    }

    if (js->pos) {
        ngx_hybrid_json_emit(js, p, 1);
    }

    return p + 1;
}


static u_char *
ngx_hybrid_json_escape(ngx_hybrid_json_t *js, u_char *p)
{
    u_char  ch;

    ch = *p;

    if (ch == 'u') {
        js->token = tk_hex;
        js->more = 4;
        js->code = 0;
        return p + 1;
    }

    if (!ngx_hybrid_json_escaped(ch)) {
        return ngx_hybrid_json_fail(js, NGX_HYBRID_JSON_ESCAPE, p);
    }

    js->token = tk_string;

    if (js->pos == NULL) {
        return p + 1;
    }

    switch (ch) {

    case 'b':
        ch = '\b';
        break;

    case 'f':
        ch = '\f';
        break;

    case 'n':
        ch = LF;
        break;

    case 'r':
        ch = CR;
        break;

    case 't':
        ch = '\t';
        break;
    }

    ngx_hybrid_json_emit(js, &ch, 1);

    return p + 1;
}


static u_char *
ngx_hybrid_json_hex(ngx_hybrid_json_t *js, u_char *p)
{
    int8_t    digit;
    uint32_t  code;

    digit = ngx_hybrid_json_hexes[*p];

    if (digit < 0) {
        return ngx_hybrid_json_fail(js, NGX_HYBRID_JSON_ESCAPE, p);
    }

    js->code = js->code << 4 | (uint32_t) digit;

    if (--js->more) {
        return p + 1;
    }

    code = js->code;

    if (js->high) {

        if (code < 0xdc00 || code > 0xdfff) {
            return ngx_hybrid_json_fail(js, NGX_HYBRID_JSON_SURROGATE, p);
        }

        code = 0x10000 + ((uint32_t) (js->high - 0xd800) << 10)
               + (code - 0xdc00);
        js->high = 0;

    } else if (code >= 0xd800 && code <= 0xdbff) {
        js->high = (uint16_t) code;
        js->more = 4;
        js->code = 0;
        js->token = tk_low_backslash;
        return p + 1;

    } else if (code >= 0xdc00 && code <= 0xdfff) {
        return ngx_hybrid_json_fail(js, NGX_HYBRID_JSON_SURROGATE, p);
    }

    js->token = tk_string;

    if (js->pos) {
        ngx_hybrid_json_emit_code(js, code);
    }

    return p + 1;
}


static void
ngx_hybrid_json_emit_code(ngx_hybrid_json_t *js, uint32_t code)
{
    u_char  *p, buf[4];

    p = buf;

    if (code < 0x80) {
        *p++ = (u_char) code;

    } else if (code < 0x800) {
        *p++ = (u_char) (0xc0 | code >> 6);
        *p++ = (u_char) (0x80 | (code & 0x3f));

    } else if (code < 0x10000) {
        *p++ = (u_char) (0xe0 | code >> 12);
        *p++ = (u_char) (0x80 | (code >> 6 & 0x3f));
        *p++ = (u_char) (0x80 | (code & 0x3f));

    } else {
        *p++ = (u_char) (0xf0 | code >> 18);
        *p++ = (u_char) (0x80 | (code >> 12 & 0x3f));
        *p++ = (u_char) (0x80 | (code >> 6 & 0x3f));
        *p++ = (u_char) (0x80 | (code & 0x3f));
    }

    ngx_hybrid_json_emit(js, buf, p - buf);
}
