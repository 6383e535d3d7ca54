
/*
 * What the files of the scanner share: states, the masks of 64 bytes, and
 * the functions that call each other across files.
 */


#ifndef _NGX_HYBRID_JSON_SCAN_H_INCLUDED_
#define _NGX_HYBRID_JSON_SCAN_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_hybrid_json.h>

#if defined(__SSE2__)
#include <emmintrin.h>

#elif defined(__aarch64__)
#include <arm_neon.h>
#endif


/*
 * The state is what the grammar expects next; the token is what is being
 * read, if a piece ended inside of it.
 *
 *     start -> first_key -> colon -> value -> after -> key -> colon ...
 *     value -> first_key | first_item | after;  after -> key | value | done
 */

enum {
    sw_start = 0,
    sw_value,
    sw_first_item,
    sw_key,
    sw_first_key,
    sw_colon,
    sw_after,
    sw_done
};


enum {
    tk_none = 0,
    tk_literal,

    tk_number,
    tk_minus,
    tk_zero,
    tk_int,
    tk_point,
    tk_fraction,
    tk_e,
    tk_e_sign,
    tk_exponent,

    tk_string,
    tk_escape,
    tk_hex,
    tk_low_backslash,
    tk_low_u,
    tk_utf8
};


/* compilers make one load of this */
#define ngx_hybrid_json_load32(p)                                             \
    ((uint32_t) (p)[0] | (uint32_t) (p)[1] << 8 | (uint32_t) (p)[2] << 16     \
     | (uint32_t) (p)[3] << 24)

#define ngx_hybrid_json_load64(p)                                             \
    ((uint64_t) ngx_hybrid_json_load32(p)                                     \
     | (uint64_t) ngx_hybrid_json_load32((p) + 4) << 32)

/* the byte, eight times */
#define ngx_hybrid_json_all(b)  ((uint64_t) 0x0101010101010101 * (b))

#define ngx_hybrid_json_digit(ch)  ((u_char) ((ch) - '0') <= 9)

/* the same for both cases of a letter */
#define ngx_hybrid_json_letter(ch)  (1U << ((ch) & 0x1f))

#define ngx_hybrid_json_white(ch)                                             \
    ((ch) <= ' ' && ((ch) == ' ' || (ch) == LF || (ch) == CR || (ch) == '\t'))

/* to the next byte that is not white, or out of the function */
#define ngx_hybrid_json_space(p, last)                                        \
    for ( ;; p++) {                                                           \
                                                                              \
        if (p >= last) {                                                      \
            return last;                                                      \
        }                                                                     \
                                                                              \
        if (!ngx_hybrid_json_white(*p)) {                                     \
            break;                                                            \
        }                                                                     \
    }

/* depth of the keys of an object in an array at the top */
#define NGX_HYBRID_JSON_ITEM  3

#define ngx_hybrid_json_at(js, p)  ((js)->offset + ((p) - (js)->piece))

#define ngx_hybrid_json_escaped(ch)                                           \
    (ngx_hybrid_json_escapes[(ch) >> 5] & (1U << ((ch) & 0x1f)))


typedef struct {
    u_char    *start;
    u_char    *end;
    uint64_t   mask;
} ngx_hybrid_json_window_t;


extern uint32_t  ngx_hybrid_json_escapes[];
extern int8_t    ngx_hybrid_json_hexes[];


u_char *ngx_hybrid_json_fail(ngx_hybrid_json_t *js,
    ngx_hybrid_json_error_e error, u_char *p);
void ngx_hybrid_json_end_value(ngx_hybrid_json_t *js, u_char *p);
ngx_int_t ngx_hybrid_json_check(ngx_hybrid_json_key_t *keys, ngx_uint_t n);
void ngx_hybrid_json_use(ngx_hybrid_json_table_t *table,
    ngx_hybrid_json_key_t *keys, ngx_uint_t n,
    ngx_hybrid_json_value_t *values);
void ngx_hybrid_json_enter(ngx_hybrid_json_t *js);
void ngx_hybrid_json_leave(ngx_hybrid_json_t *js);
ngx_int_t ngx_hybrid_json_end_key(ngx_hybrid_json_t *js, u_char *key,
    size_t len);
void ngx_hybrid_json_top_key(ngx_hybrid_json_t *js, u_char *key, size_t len,
    off_t end);
void ngx_hybrid_json_item_key(ngx_hybrid_json_t *js, u_char *key, size_t len);
void ngx_hybrid_json_item_type(ngx_hybrid_json_t *js,
    ngx_hybrid_json_type_e type);
void ngx_hybrid_json_item_end(ngx_hybrid_json_t *js);
void ngx_hybrid_json_emit(ngx_hybrid_json_t *js, u_char *p, size_t n);
u_char *ngx_hybrid_json_literal(ngx_hybrid_json_t *js, u_char *p,
    u_char *last);
u_char *ngx_hybrid_json_number(ngx_hybrid_json_t *js, u_char *p,
    u_char *last);
u_char *ngx_hybrid_json_scan_number(ngx_hybrid_json_t *js, u_char *p,
    u_char *last);
u_char *ngx_hybrid_json_string(ngx_hybrid_json_t *js, u_char *p,
    u_char *last);
u_char *ngx_hybrid_json_plain(u_char *p, u_char *last);
u_char *ngx_hybrid_json_refill(ngx_hybrid_json_window_t *w, u_char *p,
    u_char *last);
u_char *ngx_hybrid_json_skip(u_char *p, u_char *last);


/*
 * A bit for each byte that ends a plain run: '"', '\', below 0x20 and from
 * 0x80 on.  XOR with 2 puts '"' next to the control characters, and as
 * signed numbers the bytes from 0x80 on lie below them: one compare for all.
 */

#if defined(__SSE2__)

static ngx_inline __m128i
ngx_hybrid_json_block(u_char *p)
{
    __m128i  v, low, backslash;

    v = _mm_loadu_si128((__m128i *) p);

    low = _mm_cmplt_epi8(_mm_xor_si128(v, _mm_set1_epi8(2)),
                         _mm_set1_epi8(0x21));
    backslash = _mm_cmpeq_epi8(v, _mm_set1_epi8('\\'));

    return _mm_or_si128(low, backslash);
}


static ngx_inline uint64_t
ngx_hybrid_json_mask16(u_char *p)
{
    return (uint64_t) _mm_movemask_epi8(ngx_hybrid_json_block(p));
}


static ngx_inline uint64_t
ngx_hybrid_json_mask64(u_char *p)
{
    __m128i  a, b, c, d;

    a = ngx_hybrid_json_block(p);
    b = ngx_hybrid_json_block(p + 16);
    c = ngx_hybrid_json_block(p + 32);
    d = ngx_hybrid_json_block(p + 48);

    if (_mm_movemask_epi8(_mm_or_si128(_mm_or_si128(a, b),
                                       _mm_or_si128(c, d)))
        == 0)
    {
        return 0;
    }

    return (uint64_t) _mm_movemask_epi8(a)
           | (uint64_t) _mm_movemask_epi8(b) << 16
           | (uint64_t) _mm_movemask_epi8(c) << 32
           | (uint64_t) _mm_movemask_epi8(d) << 48;
}

#elif defined(__aarch64__)

static ngx_inline uint8x16_t
ngx_hybrid_json_block(u_char *p)
{
    uint8x16_t  v, low, backslash;

    v = vld1q_u8(p);

    low = vcltq_s8(vreinterpretq_s8_u8(veorq_u8(v, vdupq_n_u8(2))),
                   vdupq_n_s8(0x21));
    backslash = vceqq_u8(v, vdupq_n_u8('\\'));

    return vorrq_u8(low, backslash);
}


static ngx_inline uint64_t
ngx_hybrid_json_gather(uint8x16_t a, uint8x16_t b, uint8x16_t c, uint8x16_t d)
{
    uint8x16_t  bits;

    static const uint8_t  weights[] = { 1, 2, 4, 8, 16, 32, 64, 128,
                                        1, 2, 4, 8, 16, 32, 64, 128 };

    bits = vld1q_u8(weights);

    a = vpaddq_u8(vandq_u8(a, bits), vandq_u8(b, bits));
    c = vpaddq_u8(vandq_u8(c, bits), vandq_u8(d, bits));
    a = vpaddq_u8(a, c);
    a = vpaddq_u8(a, a);

    return vgetq_lane_u64(vreinterpretq_u64_u8(a), 0);
}


static ngx_inline uint64_t
ngx_hybrid_json_mask16(u_char *p)
{
    uint8x16_t  v;

    v = ngx_hybrid_json_block(p);

    return ngx_hybrid_json_gather(v, v, v, v) & 0xffff;
}


static ngx_inline uint64_t
ngx_hybrid_json_mask64(u_char *p)
{
    uint8x16_t  a, b, c, d;

    a = ngx_hybrid_json_block(p);
    b = ngx_hybrid_json_block(p + 16);
    c = ngx_hybrid_json_block(p + 32);
    d = ngx_hybrid_json_block(p + 48);

    if (vmaxvq_u8(vorrq_u8(vorrq_u8(a, b), vorrq_u8(c, d))) == 0) {
        return 0;
    }

    return ngx_hybrid_json_gather(a, b, c, d);
}

#else

/* 0x80 for each zero byte: no carry crosses bytes, so none is wrong */
#define ngx_hybrid_json_zero(v)                                               \
    (~((((v) & ngx_hybrid_json_all(0x7f)) + ngx_hybrid_json_all(0x7f))        \
       | (v)) & ngx_hybrid_json_all(0x80))


static ngx_inline uint64_t
ngx_hybrid_json_mask8(u_char *p)
{
    uint64_t  v, m;

    v = ngx_hybrid_json_load64(p);

    m = ngx_hybrid_json_zero(v & ngx_hybrid_json_all(0xe0))
        | ngx_hybrid_json_zero(v ^ ngx_hybrid_json_all('"'))
        | ngx_hybrid_json_zero(v ^ ngx_hybrid_json_all('\\'))
        | (v & ngx_hybrid_json_all(0x80));

    /* the multiplication gathers the eight flags in the upper byte */

    return ((m >> 7) * (uint64_t) 0x0102040810204080) >> 56;
}


static ngx_inline uint64_t
ngx_hybrid_json_mask16(u_char *p)
{
    return ngx_hybrid_json_mask8(p) | ngx_hybrid_json_mask8(p + 8) << 8;
}


static ngx_inline uint64_t
ngx_hybrid_json_mask64(u_char *p)
{
    return ngx_hybrid_json_mask16(p)
           | ngx_hybrid_json_mask16(p + 16) << 16
           | ngx_hybrid_json_mask16(p + 32) << 32
           | ngx_hybrid_json_mask16(p + 48) << 48;
}

#endif


static ngx_inline u_char *
ngx_hybrid_json_find(ngx_hybrid_json_window_t *w, u_char *p, u_char *last)
{
    uint64_t  mask;

    if (p < w->end) {
        mask = w->mask >> (64 - (w->end - p));

        if (mask) {
            return p + __builtin_ctzll(mask);
        }

        p = w->end;
    }

    return ngx_hybrid_json_refill(w, p, last);
}


#endif /* _NGX_HYBRID_JSON_SCAN_H_INCLUDED_ */
