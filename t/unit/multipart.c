
/* link: core/ngx_hybrid_multipart.c core/ngx_hybrid_multipart_part.c */

/*
 * Each form is fed whole, byte by byte, and split in two at every position;
 * each piece lies in a block of its own of just its size, so that ASan sees
 * a read past the piece or after it.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_hybrid_multipart.h>

#include <stdio.h>
#include <stdlib.h>


#define S(s)              { sizeof(s) - 1, (u_char *) s }

/* the value of the field, or NULL: there is none */
#define ACCEPT(s, value)  { S(s), NGX_HYBRID_MULTIPART_VALID, 0, value }

/* with the offset of the error */
#define REFUSE(s, error, at)                                                  \
    { S(s), NGX_HYBRID_MULTIPART_##error, at, NULL }

#define TYPE        "multipart/form-data; boundary=-b-"
#define START       "---b-\r\n"
#define NEXT        "\r\n---b-\r\n"
#define END         "\r\n---b---\r\n"
#define CD          "Content-Disposition: form-data; "
#define FIELD       CD "name=\"model\"\r\n\r\n"
#define FILE_PART   CD "name=\"file\"; filename=\"a.mp3\"\r\n"                \
                    "Content-Type: audio/mpeg\r\n\r\n"
#define HEADERS(h)  START CD "name=\"x\"\r\n" h "\r\n\r\na" END
#define NAME(n)     START CD n "\r\n\r\na" END
#define MODEL(v)    START FIELD v END

#define A16         "aaaaaaaaaaaaaaaa"
#define A256        A16 A16 A16 A16 A16 A16 A16 A16                           \
                    A16 A16 A16 A16 A16 A16 A16 A16


typedef struct {
    ngx_str_t                 body;
    ngx_uint_t                error;
    off_t                     offset;
    const char               *value;
} test_case_t;


typedef struct {
    ngx_str_t                 type;
    const char               *delimiter;    /* NULL: refused */
} test_type_t;


static void test_ok(ngx_uint_t ok, const char *name, size_t len);
static void test_type(test_type_t *type);
static void test_case(test_case_t *tc);
static void test_start(ngx_hybrid_multipart_t *mp);
static void test_piece(ngx_hybrid_multipart_t *mp, u_char *p, size_t len);
static ngx_uint_t test_result(ngx_hybrid_multipart_t *mp, test_case_t *tc,
    const char *how);
static void test_boundaries(void);
static void test_random(void);
static void test_error_stays(void);


static ngx_uint_t  tests;
static ngx_uint_t  failed;


static test_type_t  types[] = {
    { S("multipart/form-data; boundary=abc"), "\r\n--abc" },
    { S("Multipart/Form-DATA;boundary=abc"), "\r\n--abc" },
    { S("multipart/form-data;   BOUNDARY=aBc"), "\r\n--aBc" },
    { S("multipart/form-data; boundary=\"abc\""), "\r\n--abc" },
    { S("multipart/form-data; boundary=0'+_-.z"), "\r\n--0'+_-.z" },
    { S("multipart/form-data; boundary=\"a(),/:=?b\""), "\r\n--a(),/:=?b" },
    { S("multipart/form-data; boundary=" A16 A16 A16 A16 "aaaaaa"),
      "\r\n--" A16 A16 A16 A16 "aaaaaa" },
    { S("multipart/form-data; boundary=" A16 A16 A16 A16 "aaaaaaa"), NULL },
    { S("multipart/form-data; boundary="), NULL },
    { S("multipart/form-data; boundary=\"\""), NULL },
    { S("multipart/form-data; boundary=\"abc"), NULL },
    { S("multipart/form-data; boundary=abc\""), NULL },
    { S("multipart/form-data; boundary=\"a\\bc\""), NULL },
    { S("multipart/form-data; boundary=\"a bc\""), NULL },
    { S("multipart/form-data; boundary=a=b"), NULL },
    { S("multipart/form-data; boundary=a/b"), NULL },
    { S("multipart/form-data; boundary=a%20b"), NULL },
    { S("multipart/form-data; boundary=a\xc3\xa4"), NULL },
    { S("multipart/form-data; boundary=abc;"), NULL },
    { S("multipart/form-data; boundary=abc "), NULL },
    { S("multipart/form-data; boundary=abc; boundary=abc"), NULL },
    { S("multipart/form-data; boundary=abc; charset=utf-8"), NULL },
    { S("multipart/form-data; charset=utf-8; boundary=abc"), NULL },
    { S("multipart/form-data; boundary =abc"), NULL },
    { S("multipart/form-data; boundary= abc"), NULL },
    { S("multipart/form-data; boundary*=abc"), NULL },
    { S("multipart/form-data; boundary*0=abc"), NULL },
    { S("multipart/form-data ; boundary=abc"), NULL },
    { S("multipart/form-data, boundary=abc"), NULL },
    { S("multipart/form-data;"), NULL },
    { S("multipart/form-data"), NULL },
    { S("multipart/mixed; boundary=abc"), NULL },
    { S(" multipart/form-data; boundary=abc"), NULL },
    { S("application/json"), NULL },
    { S(""), NULL }
};


static test_case_t  cases[] = {

    /* what is kept */

    ACCEPT(MODEL("whisper-1"), "whisper-1"),
    ACCEPT(MODEL(""), ""),
    ACCEPT(MODEL(A256), A256),
    ACCEPT(START FIELD "m" "\r\n---b---", "m"),
    ACCEPT(START FILE_PART "\xff\xfb\x90\r\n-\r\n--\r\n---b\0" NEXT FIELD "m"
           END, "m"),
    ACCEPT(START FIELD "m" NEXT FILE_PART "x" END, "m"),
    ACCEPT(START CD "name=\"language\"\r\n\r\nen" NEXT FIELD "m" NEXT
           CD "name=\"timestamp_granularities[]\"\r\n\r\nword" END, "m"),
    ACCEPT(START FILE_PART END, NULL),
    ACCEPT("---b---", NULL),
    ACCEPT("---b---\r\n", NULL),
    ACCEPT(MODEL("\r\n"), "\r\n"),
    ACCEPT(MODEL("a\r\nb\r"), "a\r\nb\r"),
    ACCEPT(MODEL("-"), "-"),
    ACCEPT(MODEL("-\r\n-"), "-\r\n-"),
    ACCEPT(MODEL("\r\n---b\r\n--"), "\r\n---b\r\n--"),
    ACCEPT(MODEL("\r\r"), "\r\r"),
    ACCEPT(MODEL("----"), "----"),
    ACCEPT(MODEL("a---ba"), "a---ba"),

    /* which field it is */

    ACCEPT(NAME("name=model"), "a"),
    ACCEPT(NAME("name=\"model\""), "a"),
    ACCEPT(NAME("name=\"models\""), NULL),
    ACCEPT(NAME("name=\"model_id\""), NULL),
    ACCEPT(NAME("name=\"mode\""), NULL),
    ACCEPT(NAME("name=\"amodel\""), NULL),
    ACCEPT(NAME("name=\"the model\""), NULL),
    ACCEPT(START CD "filename=\"a\"; name=\"x\"\r\n\r\na" END, NULL),
    ACCEPT(START "content-disposition:form-data;name=\"model\"\r\n\r\na" END,
           "a"),
    ACCEPT(START CD "name=\"model\"\r\nContent-Type: text/plain\r\n\r\na" END,
           "a"),
    ACCEPT(START CD "name=\"model\"\r\nX-A: b\r\ncontent-type:  Text/Plain; "
           "charset=UTF-8\r\n\r\na" END, "a"),

    REFUSE(NAME("name=\"MODEL\""), AMBIGUOUS, 52),
    REFUSE(NAME("name=\"Model\""), AMBIGUOUS, 52),
    REFUSE(NAME("name=\" model\""), AMBIGUOUS, 53),
    REFUSE(NAME("name=\"model \""), AMBIGUOUS, 53),
    REFUSE(NAME("name=\"model[]\""), AMBIGUOUS, 54),
    REFUSE(NAME("name=\"model[0]\""), AMBIGUOUS, 55),
    REFUSE(NAME("name=\"model.x\""), AMBIGUOUS, 54),
    REFUSE(NAME("name=\"'model'\""), AMBIGUOUS, 54),
    REFUSE(NAME("name=\"_model\""), AMBIGUOUS, 53),
    REFUSE(NAME("name=_charset_"), AMBIGUOUS, 54),
    REFUSE(NAME("name=\"_CHARSET_\""), AMBIGUOUS, 56),
    REFUSE(START FIELD "a" NEXT FIELD "a" END, AMBIGUOUS, 110),
    REFUSE(START FIELD "a" NEXT CD "name=Model\r\n\r\na" END, AMBIGUOUS, 108),
    REFUSE(NAME("name=\"model\"; filename=\"a\""), FILE, 68),
    REFUSE(NAME("name=\"model\"; filename=\"\""), FILE, 67),
    REFUSE(NAME("filename=a; name=model"), FILE, 64),
    REFUSE(START CD "name=model\r\nContent-Type: text/plain; charset=utf-16"
           "\r\n\r\na" END, FILE, 94),
    REFUSE(START CD "name=model\r\nContent-Type: application/json\r\n\r\na"
           END, FILE, 84),
    REFUSE(START CD "name=model\r\nContent-Length: 1\r\n\r\na" END, FILE, 71),
    REFUSE(MODEL(A256 "a"), LONG, 319),

    /* Content-Disposition */

    ACCEPT(NAME("name=x; filename=\"\xc3\xa4 %22;=.mp3\""), NULL),
    ACCEPT(NAME("name=x;  filename=a.mp3"), NULL),
    REFUSE(NAME("name=\"\""), DISPOSITION, 47),
    REFUSE(NAME("name="), DISPOSITION, 45),
    REFUSE(NAME("name"), DISPOSITION, 44),
    REFUSE(NAME("filename=\"x\""), DISPOSITION, 52),
    REFUSE(NAME("name=\"x\"; name=\"x\""), DISPOSITION, 58),
    REFUSE(NAME("name=\"x\"; name=\"model\""), DISPOSITION, 62),
    REFUSE(NAME("name=x; filename=a; filename=a"), DISPOSITION, 70),
    REFUSE(NAME("name=\"x\\\"; name=\\\"model\""), DISPOSITION, 64),
    REFUSE(NAME("name=\"mod\\el\""), DISPOSITION, 53),
    REFUSE(NAME("name=\"mod%65l\""), DISPOSITION, 54),
    REFUSE(NAME("name=mod%65l"), DISPOSITION, 52),
    REFUSE(NAME("name=\"mod\xc3\xa9l\""), DISPOSITION, 53),
    REFUSE(NAME("name=\"x"), DISPOSITION, 47),
    REFUSE(NAME("name=x y"), DISPOSITION, 48),
    REFUSE(NAME("name=\"x\"y"), DISPOSITION, 49),
    REFUSE(NAME("name=\"x\" ; filename=a"), DISPOSITION, 61),
    REFUSE(NAME("name =x"), DISPOSITION, 47),
    REFUSE(NAME("name= x"), DISPOSITION, 47),
    REFUSE(NAME("Name=x"), DISPOSITION, 46),
    REFUSE(NAME("name*=utf-8''x"), DISPOSITION, 54),
    REFUSE(NAME("name=x; name*=utf-8''model"), DISPOSITION, 66),
    REFUSE(NAME("name=x; filename*=utf-8''a"), DISPOSITION, 66),
    REFUSE(NAME("name=x; size=1"), DISPOSITION, 54),
    REFUSE(NAME("name=x;"), DISPOSITION, 47),
    REFUSE(NAME("name=x; filename=\"a\\b\""), DISPOSITION, 62),
    REFUSE(START "Content-Disposition: attachment; name=x\r\n\r\na" END,
           DISPOSITION, 47),
    REFUSE(START "Content-Disposition: Form-Data; name=x\r\n\r\na" END,
           DISPOSITION, 46),
    REFUSE(START "Content-Disposition: form-datax; name=x\r\n\r\na" END,
           DISPOSITION, 47),
    REFUSE(START "Content-Disposition: form-data\r\n\r\na" END,
           DISPOSITION, 38),
    REFUSE(START "Content-Disposition:\r\n\r\na" END, DISPOSITION, 28),
    REFUSE(START "Content-Type: text/plain\r\n\r\na" END, DISPOSITION, 34),
    REFUSE(START "\r\na" END, DISPOSITION, 8),
    REFUSE(HEADERS(CD "name=\"x\""), DISPOSITION, 90),

    /* other headers */

    ACCEPT(HEADERS("Content-Length: 1"), NULL),
    ACCEPT(HEADERS("Content-Length: 01"), NULL),
    ACCEPT(HEADERS("a:1\r\nb:2\r\nc:3\r\nd:4\r\ne:5\r\nf:6\r\ng:"), NULL),
    REFUSE(HEADERS("a:1\r\nb:2\r\nc:3\r\nd:4\r\ne:5\r\nf:6\r\ng:\r\nh:"),
           MANY, 86),
    ACCEPT(HEADERS("a:" A256 A16 A16 A16 A16 A16 A16 A16 A16 A16 A16 A16 A16
                   A16 A16 A16 "aaaaaaaaaaaaaa"), NULL),
    REFUSE(HEADERS("a:" A256 A16 A16 A16 A16 A16 A16 A16 A16 A16 A16 A16 A16
                   A16 A16 A16 "aaaaaaaaaaaaaaa"), MANY, 561),
    REFUSE(HEADERS("Content-Length: 2"), LENGTH, 78),
    REFUSE(HEADERS("Content-Length: 0"), LENGTH, 78),
    REFUSE(HEADERS("Content-Length: -1"), HEADER, 68),
    REFUSE(HEADERS("Content-Length: 1 "), HEADER, 68),
    REFUSE(HEADERS("Content-Length:"), HEADER, 65),
    REFUSE(HEADERS("Content-Length: 1234567890123"), HEADER, 79),
    REFUSE(HEADERS("Content-Length: 1\r\nContent-Length: 1"), HEADER, 86),
    REFUSE(HEADERS("Content-Type: a\r\ncontent-type: b"), HEADER, 82),
    REFUSE(HEADERS("Content-Transfer-Encoding: base64"), ENCODING, 83),
    REFUSE(HEADERS("content-transfer-encoding: binary"), ENCODING, 83),
    REFUSE(HEADERS("Content-Encoding: gzip"), ENCODING, 72),
    REFUSE(HEADERS(" folded"), HEADER, 57),
    REFUSE(HEADERS("\tfolded"), HEADER, 49),
    REFUSE(HEADERS("a : b"), HEADER, 55),
    REFUSE(HEADERS("a"), HEADER, 51),
    REFUSE(HEADERS(": b"), HEADER, 53),
    REFUSE(HEADERS("a: b\tc"), HEADER, 53),
    REFUSE(HEADERS("a: b\x7f"), HEADER, 53),
    REFUSE(HEADERS("a: \xc3\xa4"), HEADER, 55),
    REFUSE(HEADERS("a: b\nc: d"), HEADER, 53),
    REFUSE(HEADERS("a: b\rc: d"), HEADER, 54),
    REFUSE(HEADERS("a: b\0"), HEADER, 53),

    /* delimiters */

    REFUSE("", INCOMPLETE, 0),
    REFUSE("\r\n" MODEL("a"), START, 0),
    REFUSE("preamble\r\n" MODEL("a"), START, 0),
    REFUSE(" " MODEL("a"), START, 0),
    REFUSE("-b-\r\n", START, 1),
    REFUSE("---b-", INCOMPLETE, 5),
    REFUSE("---b-\r", INCOMPLETE, 6),
    REFUSE("---b-\n", MISPLACED, 5),
    REFUSE("---b- \r\n", MISPLACED, 5),
    REFUSE("---b-\r\r", MISPLACED, 6),
    REFUSE("---b-x", MISPLACED, 5),
    REFUSE("---b--x", MISPLACED, 6),
    REFUSE(START FIELD "a", INCOMPLETE, 56),
    REFUSE(START FIELD "a\r\n---b-", INCOMPLETE, 63),
    REFUSE(START FIELD "a\r\n---b--", INCOMPLETE, 64),
    REFUSE(START FIELD "a" NEXT, INCOMPLETE, 65),
    REFUSE(START FIELD "a\n---b---", MISPLACED, 62),
    REFUSE(START FIELD "a\r---b---", MISPLACED, 62),
    REFUSE(START FIELD "a---b-" END, MISPLACED, 61),
    REFUSE(START FIELD "---b---", MISPLACED, 60),
    REFUSE(START FIELD "\n---b---", MISPLACED, 61),
    REFUSE(START FIELD "a\r\n----b---", MISPLACED, 64),
    REFUSE(START FIELD "a\r\n---b-x", MISPLACED, 63),
    REFUSE(START FIELD "a\r\n---b- \r\n", MISPLACED, 63),
    REFUSE(START FIELD "a\r\n---b-\n", MISPLACED, 63),
    REFUSE(START FIELD "a\r\n---b-\t\r\n", MISPLACED, 63),
    REFUSE(MODEL("a") "x", TRAILING, 67),
    REFUSE(MODEL("a") "\r\n", TRAILING, 67),
    REFUSE(START FIELD "a\r\n---b---x", TRAILING, 65),
    REFUSE(START FIELD "a\r\n---b---\n", TRAILING, 65),
    REFUSE(START FIELD "a\r\n---b---\r", INCOMPLETE, 66),
    REFUSE(START FIELD "a\r\n---b---\rx", TRAILING, 66),
    REFUSE(MODEL("a") MODEL("b"), TRAILING, 67)
};


int
main(void)
{
    ngx_uint_t  i;

    for (i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        test_type(&types[i]);
    }

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        test_case(&cases[i]);
    }

    test_boundaries();
    test_random();
    test_error_stays();

    printf("1..%d\n", (int) tests);

    return failed ? 1 : 0;
}


static void
test_ok(ngx_uint_t ok, const char *name, size_t len)
{
    size_t  i;

    printf("%sok %d - ", ok ? "" : "not ", (int) ++tests);

    for (i = 0; i < len; i++) {

        if (name[i] >= 0x20 && name[i] < 0x7f && name[i] != '#') {
            putchar(name[i]);

        } else {
            printf("\\x%02x", (u_char) name[i]);
        }
    }

    printf("\n");

    failed += !ok;
}


static void
test_type(test_type_t *type)
{
    ngx_int_t                rc;
    ngx_uint_t               ok;
    ngx_hybrid_multipart_t   mp;

    ngx_memset(&mp, 0xa5, sizeof(ngx_hybrid_multipart_t));
    rc = ngx_hybrid_multipart_init(&mp, &type->type);

    if (type->delimiter) {
        ok = rc == NGX_OK && mp.length == ngx_strlen(type->delimiter)
             && ngx_memcmp(mp.delimiter, type->delimiter, mp.length) == 0;

    } else {
        ok = rc == NGX_ERROR && mp.error == NGX_HYBRID_MULTIPART_TYPE
             && ngx_hybrid_multipart_finish(&mp) == NGX_ERROR;
    }

    test_ok(ok, (char *) type->type.data, ngx_min(type->type.len, 70));
}


static void
test_case(test_case_t *tc)
{
    size_t                   i, len;
    u_char                  *p;
    ngx_uint_t               ok;
    ngx_hybrid_multipart_t   mp;

    p = tc->body.data;
    len = tc->body.len;

    test_start(&mp);
    test_piece(&mp, p, len);
    ok = test_result(&mp, tc, "whole");

    test_start(&mp);

    for (i = 0; i < len; i++) {
        test_piece(&mp, p + i, 1);
    }

    ok &= test_result(&mp, tc, "by bytes");

    for (i = 0; ok && i <= len; i++) {
        test_start(&mp);
        test_piece(&mp, p, i);
        test_piece(&mp, p + i, len - i);
        ok = test_result(&mp, tc, "split");
    }

    i = (len > 45) ? 25 : 0;
    test_ok(ok, (char *) p + i, ngx_min(len - i, 60));
}


static void
test_start(ngx_hybrid_multipart_t *mp)
{
    ngx_str_t  type = ngx_string(TYPE);

    /* leftovers in the memory must not matter */

    ngx_memset(mp, 0xa5, sizeof(ngx_hybrid_multipart_t));

    if (ngx_hybrid_multipart_init(mp, &type) != NGX_OK) {
        exit(2);
    }
}


static void
test_piece(ngx_hybrid_multipart_t *mp, u_char *p, size_t len)
{
    u_char     *piece;
    ngx_int_t   rc;

    piece = malloc(len ? len : 1);

    if (piece == NULL) {
        exit(2);
    }

    ngx_memcpy(piece, p, len);

    rc = ngx_hybrid_multipart_feed(mp, piece, len);

    if ((rc == NGX_OK) != (mp->error == NGX_HYBRID_MULTIPART_VALID)) {
        printf("# wrong return code\n");
        exit(2);
    }

    free(piece);
}


static ngx_uint_t
test_result(ngx_hybrid_multipart_t *mp, test_case_t *tc, const char *how)
{
    size_t  len;

    (void) ngx_hybrid_multipart_finish(mp);

    if (mp->error != tc->error
        || (tc->error && mp->offset != tc->offset))
    {
        printf("# %s: \"%s\" at %ld, wanted error %d at %ld\n", how,
               ngx_hybrid_multipart_reason(mp), (long) mp->offset,
               (int) tc->error, (long) tc->offset);
        return 0;
    }

    if (tc->error) {
        return 1;
    }

    if (!mp->found || tc->value == NULL) {
        return !mp->found && tc->value == NULL;
    }

    len = ngx_strlen(tc->value);

    return mp->len == len && ngx_memcmp(mp->value, tc->value, len) == 0
           && mp->end - mp->start == (off_t) len
           && ngx_memcmp(tc->body.data + mp->start, tc->value, len) == 0;
}


/* whatever the boundary repeats of itself, it is found wherever it stands */

static void
test_boundaries(void)
{
    int                      n;
    char                     type[128], body[256];
    ngx_str_t                text;
    ngx_uint_t               i, j, ok;
    ngx_hybrid_multipart_t   mp;

    static const char  *boundaries[] = {
        "-", "--", "a", "-a-", "---a", "a--a", "abab", "--ab--ab", "-a--a-",
        "aaaaaaaa", "--------x", "abcabcabd", "-----------------------------1"
    };

    for (i = 0; i < sizeof(boundaries) / sizeof(boundaries[0]); i++) {

        ok = 1;
        text.data = (u_char *) type;
        text.len = sprintf(type, "multipart/form-data; boundary=%s",
                           boundaries[i]);

        for (j = 1; j < strlen(boundaries[i]) + 2; j++) {

            /* a true prefix of the delimiter, then the whole of it */

            n = sprintf(body, "--%s\r\n" CD "name=x\r\n\r\nab\r\n--%s",
                        boundaries[i], boundaries[i]);
            n -= strlen(boundaries[i]) + 2 - j;
            n += sprintf(body + n, "\n\r\n--%s--", boundaries[i]);

            (void) ngx_hybrid_multipart_init(&mp, &text);
            (void) ngx_hybrid_multipart_feed(&mp, (u_char *) body, n);

            if (ngx_hybrid_multipart_finish(&mp) != NGX_OK) {
                printf("# %d: %s\n", (int) j,
                       ngx_hybrid_multipart_reason(&mp));
                ok = 0;
            }

            /* one byte in front of it */

            n = sprintf(body, "--%s\r\n" CD "name=x\r\n\r\na%.*s--%s\r\n--%s--",
                        boundaries[i], (int) j,
                        "--b------------------------------------------------",
                        boundaries[i], boundaries[i]);

            (void) ngx_hybrid_multipart_init(&mp, &text);
            (void) ngx_hybrid_multipart_feed(&mp, (u_char *) body, n);

            if (ngx_hybrid_multipart_finish(&mp) == NGX_OK
                || mp.error != NGX_HYBRID_MULTIPART_MISPLACED)
            {
                printf("# %d: not misplaced: %s\n", (int) j,
                       ngx_hybrid_multipart_reason(&mp));
                ok = 0;
            }
        }

        test_ok(ok, boundaries[i], strlen(boundaries[i]));
    }
}


/* the same as a search for the bytes, in data of few letters */

static void
test_random(void)
{
    char                    *found;
    u_char                   body[512], *p, *data;
    size_t                   i, n;
    uint32_t                 seed;
    ngx_str_t                type = ngx_string(TYPE);
    ngx_uint_t               round, ok, bad, misplaced;
    ngx_hybrid_multipart_t   mp;

    ok = 1;
    bad = 0;
    seed = 1;

    for (round = 0; round < 200000; round++) {

        p = ngx_cpymem(body, START FILE_PART, sizeof(START FILE_PART) - 1);
        data = p;

        seed = seed * 1664525 + 1013904223;
        n = (seed >> 8) % 40;

        for (i = 0; i < n; i++) {
            seed = seed * 1664525 + 1013904223;
            *p++ = "--b-\r\n--"[(seed >> 16) % 8];
        }

        *p = '\0';

        found = strstr((char *) data, "---b-");
        misplaced = found != NULL;

        p = ngx_cpymem(p, END, sizeof(END) - 1);

        (void) ngx_hybrid_multipart_init(&mp, &type);
        (void) ngx_hybrid_multipart_feed(&mp, body, p - body);

        if (misplaced) {
            bad++;
        }

        if ((ngx_hybrid_multipart_finish(&mp) != NGX_OK) != misplaced) {
            ok = 0;
        }
    }

    test_ok(ok && bad > 100, "random data", 11);
}


static void
test_error_stays(void)
{
    ngx_hybrid_multipart_t  mp;

    test_start(&mp);
    test_piece(&mp, (u_char *) "x", 1);
    test_piece(&mp, (u_char *) MODEL("a"), sizeof(MODEL("a")) - 1);

    test_ok(mp.error == NGX_HYBRID_MULTIPART_START && mp.offset == 0
            && ngx_hybrid_multipart_finish(&mp) == NGX_ERROR,
            "an error stays", 14);
}
