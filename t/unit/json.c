
/* link: core/ngx_hybrid_json.c core/ngx_hybrid_json_key.c
 *       core/ngx_hybrid_json_token.c core/ngx_hybrid_json_skip.c
 */

/*
 * Each case is fed whole, byte by byte, and split in two at every position;
 * each piece lies in a block of its own of just its size, so that ASan sees
 * a read past the piece or after it.
 */


#include "json_cases.h"


#define NKEYS            (sizeof(keys) / sizeof(keys[0]))
#define ARENA            1024


typedef struct {
    ngx_hybrid_json_t         js;
    ngx_hybrid_json_value_t   values[NGX_HYBRID_JSON_KEYS];
    u_char                    arena[ARENA];
    ngx_int_t                 rc;
} test_run_t;


static void test_ok(ngx_uint_t ok, u_char *name, size_t len);
static void test_case(test_case_t *tc);
static ngx_uint_t test_result(test_run_t *run, test_case_t *tc,
    const char *how);
static void test_start(test_run_t *run);
static void test_piece(test_run_t *run, u_char *p, size_t len);
static void test_stop(test_run_t *run);
static ngx_uint_t test_scan(u_char *p, size_t len);
static size_t test_render(test_run_t *run, u_char *out);
static void test_print(u_char *p, size_t len);
static void test_every_byte(void);
static void test_every_escape(void);
static void test_every_utf8(void);
static void test_every_position(void);
static ngx_uint_t test_nested(size_t depth, const char *open,
    const char *close);
static void test_depth(void);
static void test_hostile(void);
static void test_arena(void);
static void test_error_stays(void);


static ngx_uint_t  tests;
static ngx_uint_t  failed;


int
main(void)
{
    ngx_uint_t  i;

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        test_case(&cases[i]);
    }

    test_every_byte();
    test_every_escape();
    test_every_utf8();
    test_every_position();
    test_depth();
    test_hostile();
    test_arena();
    test_error_stays();

    printf("1..%d\n", (int) tests);

    return failed ? 1 : 0;
}


static void
test_ok(ngx_uint_t ok, u_char *name, size_t len)
{
    printf("%sok %d - ", ok ? "" : "not ", (int) ++tests);
    test_print(name, len);
    printf("\n");

    failed += !ok;
}


static void
test_case(test_case_t *tc)
{
    size_t      i, len;
    u_char     *p;
    test_run_t  run;
    ngx_uint_t  ok;

    p = tc->body.data;
    len = tc->body.len;

    test_start(&run);
    test_piece(&run, p, len);
    test_stop(&run);
    ok = test_result(&run, tc, "whole");

    test_start(&run);

    for (i = 0; i < len; i++) {
        test_piece(&run, p + i, 1);
    }

    test_stop(&run);
    ok &= test_result(&run, tc, "by bytes");

    for (i = 0; ok && i <= len; i++) {
        test_start(&run);
        test_piece(&run, p, i);
        test_piece(&run, p + i, len - i);
        test_stop(&run);
        ok = test_result(&run, tc, "split");
    }

    test_ok(ok, p, ngx_min(len, 60));
}


static ngx_uint_t
test_result(test_run_t *run, test_case_t *tc, const char *how)
{
    size_t       len;
    u_char       buf[4 * ARENA];
    const char  *want;

    if (run->js.error != tc->error || run->js.offset != tc->offset) {
        printf("# %s: \"%s\" at %ld, wanted error %d at %ld\n", how,
               ngx_hybrid_json_reason(&run->js), (long) run->js.offset,
               (int) tc->error, (long) tc->offset);
        return 0;
    }

    if ((run->rc == NGX_OK) != (tc->error == NGX_HYBRID_JSON_VALID)) {
        printf("# %s: wrong return code\n", how);
        return 0;
    }

    if (tc->want == NULL) {
        return 1;
    }

    len = test_render(run, buf);
    want = tc->want;

    if (len != ngx_strlen(want) || ngx_memcmp(buf, want, len) != 0) {
        printf("# %s: \"%.*s\", wanted \"%s\"\n", how, (int) len, buf, want);
        return 0;
    }

    return 1;
}


static void
test_start(test_run_t *run)
{
    /* leftovers in the memory must not matter */

    ngx_memset(run, 0xa5, sizeof(test_run_t));

    run->rc = ngx_hybrid_json_init(&run->js, keys, NKEYS, run->values,
                                   run->arena, ARENA);
}


static void
test_piece(test_run_t *run, u_char *p, size_t len)
{
    u_char  *piece;

    piece = malloc(len ? len : 1);

    if (piece == NULL) {
        exit(2);
    }

    ngx_memcpy(piece, p, len);

    if (ngx_hybrid_json_feed(&run->js, piece, len) != NGX_OK) {
        run->rc = NGX_ERROR;
    }

    /* the window is reused */

    ngx_memset(piece, 'x', len);
    free(piece);
}


static void
test_stop(test_run_t *run)
{
    if (ngx_hybrid_json_finish(&run->js) != NGX_OK) {
        run->rc = NGX_ERROR;
    }
}


static ngx_uint_t
test_scan(u_char *p, size_t len)
{
    test_run_t  run;

    test_start(&run);
    test_piece(&run, p, len);
    test_stop(&run);

    return run.js.error;
}


static size_t
test_render(test_run_t *run, u_char *out)
{
    u_char                   *p, ch;
    ngx_uint_t                i, j;
    ngx_hybrid_json_key_t    *key;
    ngx_hybrid_json_value_t  *value;

    static const char  types[] = "-sntf0oa";

    p = out;

    for (i = 0; i < NKEYS + NMEMBERS; i++) {
        value = &run->values[i];

        if (value->type == NGX_HYBRID_JSON_T_ABSENT) {
            continue;
        }

        key = (i < NKEYS) ? &keys[i] : &members[i - NKEYS];

        p += sprintf((char *) p, "%s%s:%c[%ld,%ld)=", p == out ? "" : " ",
                     (char *) key->name.data, types[value->type],
                     (long) value->start, (long) value->end);

        for (j = 0; j < value->len; j++) {
            ch = value->data[j];

            if (ch == '\\') {
                p = ADD(p, "\\\\");

            } else if (ch >= 0x20 && ch < 0x7f) {
                *p++ = ch;

            } else {
                p += sprintf((char *) p, "\\x%02x", ch);
            }
        }

        *p = '+';
        p += value->overflow;
        *p = '!';
        p += value->found;
    }

    if (p == out) {
        *p++ = '-';
    }

    return p - out;
}


static void
test_print(u_char *p, size_t len)
{
    size_t  i;

    for (i = 0; i < len; i++) {

        /* "#" would start a TAP directive */

        if (p[i] >= 0x20 && p[i] < 0x7f && p[i] != '#') {
            putchar(p[i]);

        } else {
            printf("\\x%02x", p[i]);
        }
    }
}


/* all bytes at all positions relative to the SIMD blocks */

static void
test_every_byte(void)
{
    size_t      i, len;
    u_char      buf[256];
    ngx_uint_t  ch, error, want, ok;

    len = sizeof("{\"a\":\"") - 1 + 150;
    (void) ADD(buf, "{\"a\":\"");
    (void) ADD(buf + len, "\"}");
    ok = 1;

    for (ch = 0; ch < 256; ch++) {

        want = (ch < 0x20) ? NGX_HYBRID_JSON_CONTROL
             : (ch >= 0x80) ? NGX_HYBRID_JSON_UTF8
             : (ch == '"') ? NGX_HYBRID_JSON_SYNTAX
             : (ch == '\\') ? NGX_HYBRID_JSON_ESCAPE
             : NGX_HYBRID_JSON_VALID;

        for (i = 6; i < len - 1; i++) {
            ngx_memset(buf + 6, 'a', len - 6);
            buf[i] = (u_char) ch;
            error = test_scan(buf, len + 2);

            if (error != want) {
                printf("# byte 0x%02x at %d: %d\n", (int) ch, (int) i,
                       (int) error);
                ok = 0;
            }
        }
    }

    test_ok(ok, LIT("every byte at every position"));
}


static void
test_every_escape(void)
{
    u_char      buf[256];
    ngx_uint_t  ch, pad, len, want, ok;

    ok = 1;

    for (pad = 0; pad < 80; pad += 79) {
        ngx_memset(buf, 'x', sizeof(buf));
        (void) ADD(buf, "{\"a\":\"\\?");
        (void) ADD(buf + 8 + pad, "\"}");
        len = 8 + pad + 2;

        for (ch = 0; ch < 256; ch++) {
            buf[7] = (u_char) ch;

            want = (ch && strchr("\"\\/bfnrt", (int) ch))
                   ? NGX_HYBRID_JSON_VALID : NGX_HYBRID_JSON_ESCAPE;

            if (test_scan(buf, len) != want) {
                printf("# escape 0x%02x\n", (int) ch);
                ok = 0;
            }
        }
    }

    test_ok(ok, LIT("every byte after a backslash"));
}


/* against the table of well-formed sequences, Unicode 3.9 D92 */

static void
test_every_utf8(void)
{
    u_char      buf[96], *p;
    ngx_uint_t  a, b, n, pad, ok, good;

    static u_char  third[] = { 0x7f, 0x80, 0xbf, 0xc0 };

    ok = 1;

    for (pad = 0; pad < 80; pad += 64) {
        for (a = 0xc0; a < 256; a++) {
            for (b = 0; b < 256; b++) {
                for (n = 0; n < 16; n++) {

                    good = (a >= 0xc2 && a <= 0xdf)
                           ? b >= 0x80 && b <= 0xbf
                           : (a == 0xe0) ? b >= 0xa0 && b <= 0xbf
                           : (a == 0xed) ? b >= 0x80 && b <= 0x9f
                           : (a >= 0xe1 && a <= 0xef)
                           ? b >= 0x80 && b <= 0xbf
                           : (a == 0xf0) ? b >= 0x90 && b <= 0xbf
                           : (a >= 0xf1 && a <= 0xf3)
                           ? b >= 0x80 && b <= 0xbf
                           : (a == 0xf4) ? b >= 0x80 && b <= 0x8f : 0;

                    p = ADD(buf, "{\"a\":\"");
                    *p++ = (u_char) a;
                    *p++ = (u_char) b;

                    if (a >= 0xe0) {
                        *p++ = third[n & 3];
                        good &= (third[n & 3] & 0xc0) == 0x80;
                    }

                    if (a >= 0xf0) {
                        *p++ = third[n >> 2];
                        good &= (third[n >> 2] & 0xc0) == 0x80;
                    }

                    ngx_memset(p, 'a', pad);
                    p = ADD(p + pad, "\"}");

                    if ((test_scan(buf, p - buf) == NGX_HYBRID_JSON_VALID)
                        != good)
                    {
                        printf("# UTF-8 %02x %02x %d\n", (int) a, (int) b,
                               (int) n);
                        ok = 0;
                    }
                }
            }
        }
    }

    test_ok(ok, LIT("every two first bytes of UTF-8 sequences"));
}


/* mixed text behind 0 to 130 bytes, so that it meets each block border */

static void
test_every_position(void)
{
    u_char      buf[512], *p;
    ngx_uint_t  i, n, ok;

    static ngx_str_t  good[] = {
        S("\\\\\\\\\\\"\\n\\n\\\\"),
        S("\\u00e9\\u0041\\ud83d\\ude00\\n\\u20ac"),
        S("\xe6\x97\xa5\xe6\x9c\xac\xc3\xa9\xf0\x9f\x98\x80\\n\xc3\xa9"),
        S("a\\nb\xc3\xa9" "c\\u00e9d\\\\"),
    };

    static ngx_str_t  bad[] = {
        S("\\\\\\\\\\\"\\n\\n\\\x01"),
        S("\\u00e9\\u0041\\ud83d\\ude00\\n\\u20ag"),
        S("\xe6\x97\xa5\xe6\x9c\xac\xc3\xa9\xf0\x9f\x98\x80\\n\xc3"),
        S("a\\nb\xc3\xa9" "c\\u00e9d\\d"),
    };

    ok = 1;

    for (n = 0; n < 4; n++) {
        for (i = 0; i < 130; i++) {
            p = ADD(buf, "{\"a\":\"");
            ngx_memset(p, 'x', i);
            p = ngx_cpymem(p + i, good[n].data, good[n].len);
            ngx_memset(p, 'y', i);
            p = ADD(p + i, "\"}");

            ok &= test_scan(buf, p - buf) == NGX_HYBRID_JSON_VALID;

            p = ngx_cpymem(buf + 6 + i, bad[n].data, bad[n].len);
            ngx_memset(p, 'y', i);
            p = ADD(p + i, "\"}");

            ok &= test_scan(buf, p - buf) != NGX_HYBRID_JSON_VALID;
        }
    }

    test_ok(ok, LIT("escapes and UTF-8 at every position"));
}


static ngx_uint_t
test_nested(size_t depth, const char *open, const char *close)
{
    u_char      *buf, *p;
    size_t       i;
    ngx_uint_t   error;

    buf = malloc(depth * (ngx_strlen(open) + ngx_strlen(close)) + 16);

    if (buf == NULL) {
        exit(2);
    }

    p = ADD(buf, "{\"a\":");

    for (i = 0; i < depth; i++) {
        p = ngx_cpymem(p, open, ngx_strlen(open));
    }

    *p++ = '0';

    for (i = 0; i < depth; i++) {
        p = ngx_cpymem(p, close, ngx_strlen(close));
    }

    *p++ = '}';

    error = test_scan(buf, p - buf);
    free(buf);

    return error;
}


static void
test_depth(void)
{
    ngx_uint_t  i, ok;

    test_ok(test_nested(99, "[", "]") == NGX_HYBRID_JSON_VALID,
            LIT("depth 100, arrays"));
    test_ok(test_nested(99, "{\"b\":", "}") == NGX_HYBRID_JSON_VALID,
            LIT("depth 100, objects"));
    test_ok(test_nested(100, "[", "]") == NGX_HYBRID_JSON_DEEP,
            LIT("depth 101, arrays"));
    test_ok(test_nested(100, "{\"b\":", "}") == NGX_HYBRID_JSON_DEEP,
            LIT("depth 101, objects"));
    test_ok(test_nested(49, "[{\"b\":", "}]") == NGX_HYBRID_JSON_VALID,
            LIT("depth 99, mixed"));
    test_ok(test_nested(200000, "[", "") == NGX_HYBRID_JSON_DEEP,
            LIT("200,000 brackets"));

    ok = 1;

    for (i = 1; i <= 49; i++) {
        ok &= test_nested(i, "[{\"b\":[0],\"c\":", "},[]]")
              == NGX_HYBRID_JSON_VALID;
        ok &= test_nested(i, "[{\"b\":", "]}") == NGX_HYBRID_JSON_SYNTAX;
    }

    test_ok(ok, LIT("each level remembers its kind"));
}


static void
test_hostile(void)
{
    size_t      i;
    u_char     *buf, *p;
    test_run_t  run;

    buf = malloc(1 << 20);

    if (buf == NULL) {
        exit(2);
    }

    p = ADD(buf, "{\"model\":\"a\"");

    for (i = 0; i < 20000; i++) {
        p += sprintf((char *) p, ",\"key%d\":%d", (int) i, (int) i);
    }

    *p = '}';
    test_ok(test_scan(buf, p + 1 - buf) == NGX_HYBRID_JSON_VALID,
            LIT("20,000 keys"));

    p = ADD(p, ",\"model\":\"b\"}");
    test_ok(test_scan(buf, p - buf) == NGX_HYBRID_JSON_AMBIGUOUS,
            LIT("a duplicate behind 20,000 keys"));

    p = ADD(buf, "{\"model\":\"");

    for (i = 0; i < 40000; i++) {
        p = ADD(p, "\\u00e9");
    }

    p = ADD(p, "\"}");

    test_start(&run);
    test_piece(&run, buf, p - buf);
    test_stop(&run);

    test_ok(run.rc == NGX_OK && run.values[0].overflow
            && run.values[0].len == 256 && run.values[0].end == p - 1 - buf,
            LIT("a model of 240 kB"));

    p = ADD(buf, "{\"");
    ngx_memset(p, 'm', 300000);
    p = ADD(p + 300000, "\\n\":1}");

    test_ok(test_scan(buf, p - buf) == NGX_HYBRID_JSON_VALID,
            LIT("a key of 300 kB"));

    free(buf);
}


static void
test_arena(void)
{
    u_char      body[] = "{\"name\":\"abcdefgh\",\"model\":\"0123456789\","
                         "\"from\":\"z\",\"stream\":\"\"}";
    test_run_t  run;

    test_start(&run);
    (void) ngx_hybrid_json_init(&run.js, keys, NKEYS, run.values, run.arena,
                                12);
    test_piece(&run, body, sizeof(body) - 1);
    test_stop(&run);

    test_ok(run.rc == NGX_OK
            && run.values[1].len == 8 && !run.values[1].overflow
            && ngx_memcmp(run.values[1].data, "abcdefgh", 8) == 0
            && run.values[0].len == 4 && run.values[0].overflow
            && ngx_memcmp(run.values[0].data, "0123", 4) == 0
            && run.values[4].len == 0 && run.values[4].overflow
            && run.values[6].len == 0 && !run.values[6].overflow
            && run.arena[12] == 0xa5,
            LIT("a full arena overflows"));
}


static void
test_error_stays(void)
{
    test_run_t  run;
    ngx_uint_t  ok;

    test_start(&run);
    test_piece(&run, (u_char *) LIT("{} "));
    ok = run.rc == NGX_OK;
    test_piece(&run, (u_char *) LIT("]"));
    ok &= run.rc == NGX_ERROR;
    run.rc = NGX_OK;
    test_piece(&run, (u_char *) LIT(" "));
    ok &= run.rc == NGX_ERROR;
    run.rc = NGX_OK;
    ok &= ngx_hybrid_json_feed(&run.js, NULL, 0) == NGX_ERROR;
    test_stop(&run);
    ok &= run.rc == NGX_ERROR;
    ok &= run.js.offset == 3;
    ok &= ngx_strcmp(ngx_hybrid_json_reason(&run.js),
                     "data after the JSON object") == 0;

    test_ok(ok, LIT("an error stays"));

    test_start(&run);
    ok = ngx_hybrid_json_feed(&run.js, NULL, 0) == NGX_OK;
    test_stop(&run);
    ok &= ngx_strcmp(ngx_hybrid_json_reason(&run.js), "empty body") == 0;
    ok &= ngx_hybrid_json_finish(&run.js) == NGX_ERROR;

    test_ok(ok, LIT("no pieces, or empty ones"));

    run.js.error = NGX_HYBRID_JSON_DEEP;
    test_ok(ngx_strcmp(ngx_hybrid_json_reason(&run.js),
                       "nesting deeper than 100") == 0,
            LIT("the depth is in the reason"));
}
