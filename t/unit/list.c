
/* link: core/ngx_hybrid_list.c core/ngx_hybrid_list_text.c */
/* link: route/ngx_hybrid_model.c */

/*
 * Lists of models as servers send them, in blocks of just their size: ASan
 * sees a read past the end.  Each valid one is also cut off at every byte,
 * and has every byte replaced.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_hybrid_list.h"


typedef struct {
    const char  *text;
    const char  *found;     /* flags and names, or NULL: it is refused */
} test_list_t;


static void test_is(ngx_uint_t ok, const char *what);
static ngx_int_t test_handler(void *data, ngx_hybrid_list_item_t *item);
static const char *test_parse(const char *text, size_t len, char *found);
static void test_lists(void);
static void test_broken(const char *text);
static void test_nested(void);
static void test_compact(void);
static void test_times(void);
static void test_large(void);


static ngx_uint_t  tests;
static ngx_uint_t  failed;


static test_list_t  test_cases[] = {
    { "{\"models\":[]}", "" },
    { "{\"models\":null}", "" },
    { " { \"models\" : [ ] } \n", "" },
    { "{\"a\":1,\"models\":[{\"name\":\"m\"}],\"b\":{\"c\":[1,2,{}]}}",
      " m:latest" },
    { "{\"models\":[{\"name\":\"A\",\"model\":\"B:7b\"},{\"id\":\"c\"}]}",
      " b:7b c:latest" },
    { "{\"models\":[{\"model\":\"B\",\"name\":\"A\"}]}", " b:latest" },
    { "{\"models\":[{\"name\":\"x\\/a\"}]}", " x/a:latest" },
    { "{\"models\":[{\"name\":\"x\\u0061\"},{\"name\":\"a b\"},{},"
      "{\"name\":\"\"},{\"name\":7},{\"x\":\"y\"},{\"name\":\"ok\"}]}",
      " ok:latest" },
    { "{\"models\":[{\"name\":\"r\",\"remote_model\":\"q\"},"
      "{\"name\":\"s\",\"remote_host\":\"\"},"
      "{\"name\":\"t\",\"remote_host\":\"h\"},{\"name\":\"u\"}]}",
      " !r:latest s:latest !t:latest u:latest" },
    { "{\"models\":[{\"name\":\"e\",\"expires_at\":"
      "\"2026-01-01T00:00:10.123456789+01:00\",\"v\":-1.5e+3}]}",
      " e:latest@1767222010" },
    { "{\"models\":[{\"name\":\"z\",\"expires_at\":"
      "\"0001-01-01T00:00:00Z\",\"d\":{\"models\":[{\"name\":\"no\"}]}}]}",
      " z:latest" },
    { "{\"models\":[{\"name\":\"\303\274\"},{\"name\":\"k\","
      "\"d\":\"\303\274\\\"\\\\\"}]}", " k:latest" },
    { "", NULL },
    { " ", NULL },
    { "[]", NULL },
    { "{}", NULL },
    { "null", NULL },
    { "{\"data\":[]}", NULL },
    { "{\"models\":{}}", NULL },
    { "{\"models\":[1]}", NULL },
    { "{\"models\":[{}],}", NULL },
    { "{\"models\":[{},]}", NULL },
    { "{\"models\":[{}]}x", NULL },
    { "{\"models\":[{}]}{}", NULL },
    { "{\"models\":[{\"a\":01}]}", NULL },
    { "{\"models\":[{\"a\":+1}]}", NULL },
    { "{\"models\":[{\"a\":1.}]}", NULL },
    { "{\"models\":[{\"a\":.1}]}", NULL },
    { "{\"models\":[{\"a\":1e}]}", NULL },
    { "{\"models\":[{\"a\":NaN}]}", NULL },
    { "{\"models\":[{\"a\":tru}]}", NULL },
    { "{\"models\":[{\"a\":[1,]}]}", NULL },
    { "{\"models\":[{\"a\":{\"b\"}}]}", NULL },
    { "{\"models\":[{\"a\":{\"b\":1,}}]}", NULL },
    { "{\"models\":[{\"a\":[}]}]}", NULL },
    { "{\"models\":[{\"a\":\"\\x\"}]}", NULL },
    { "{\"models\":[{\"a\":\"\\u12g4\"}]}", NULL },
    { "{\"models\":[{\"a\":\"\n\"}]}", NULL },
    { "{\"models\":[{\"a\":\"\303\"}]}", NULL },
    { "{\"models\":[{\"a\":\"\377\"}]}", NULL },
    { "{\"models\":[{'a':1}]}", NULL },
    { "{\"models\":[],\"models\":[]}", NULL },
    { NULL, NULL }
};


int
main(void)
{
    (void) alarm(300);

    test_lists();
    test_nested();
    test_compact();
    test_times();
    test_large();

    printf("1..%lu\n", (unsigned long) tests);

    return failed ? 1 : 0;
}


static void
test_is(ngx_uint_t ok, const char *what)
{
    const char  *p;

    if (!ok) {
        failed++;
    }

    printf("%sok %lu - ", ok ? "" : "not ", (unsigned long) ++tests);

    for (p = what; *p && p < what + 60; p++) {
        putchar((u_char) *p >= ' ' && (u_char) *p < 0x7f && *p != '#' ? *p
                                                                      : '.');
    }

    putchar('\n');
}


static ngx_int_t
test_handler(void *data, ngx_hybrid_list_item_t *item)
{
    char  *p;

    p = (char *) data + strlen(data);

    p += sprintf(p, " %s%.*s", item->remote ? "!" : "",
                 (int) item->model.name.len, item->model.name.data);

    if (item->expires) {
        sprintf(p, "@%ld", (long) item->expires);
    }

    if (item->text.data[0] != '{'
        || item->text.data[item->text.len - 1] != '}')
    {
        test_is(0, "the object");
    }

    return NGX_OK;
}


static const char *
test_parse(const char *text, size_t len, char *found)
{
    u_char      *copy;
    ngx_str_t    s;
    const char  *fault;

    copy = malloc(len ? len : 1);
    memcpy(copy, text, len);

    s.data = copy;
    s.len = len;
    found[0] = '\0';

    fault = ngx_hybrid_list_parse(&s, "models", test_handler, found);

    free(copy);

    return fault;
}


static void
test_lists(void)
{
    char         found[4096];
    const char  *fault;
    test_list_t *tl;

    for (tl = test_cases; tl->text; tl++) {
        fault = test_parse(tl->text, strlen(tl->text), found);

        if (tl->found == NULL) {
            test_is(fault != NULL, tl->text);
            continue;
        }

        test_is(fault == NULL && strcmp(found, tl->found) == 0, tl->text);
        test_broken(tl->text);
    }
}


static void
test_broken(const char *text)
{
    int      ch;
    char     found[4096], copy[512];
    size_t   i, len;

    len = strlen(text);

    while (text[len - 1] != '}') {
        len--;
    }

    for (i = 0; i < len && test_parse(text, i, found); i++) { /* void */ }

    test_is(i == len, "cut off");

    for (i = 0; i < len; i++) {
        memcpy(copy, text, len);

        for (ch = 0; ch < 256; ch++) {
            copy[i] = (char) ch;
            (void) test_parse(copy, len, found);
        }
    }
}


static void
test_nested(void)
{
    char    found[64], *text, *p;
    size_t  n, i;

    text = malloc(4000100);

    for (n = NGX_HYBRID_LIST_DEPTH; n <= NGX_HYBRID_LIST_DEPTH + 1; n++) {
        p = text + sprintf(text, "{\"models\":[{\"name\":\"m\",\"a\":");

        for (i = 0; i < n; i++) {
            *p++ = '[';
        }

        for (i = 0; i < n; i++) {
            *p++ = ']';
        }

        p += sprintf(p, "}]}");

        test_is((test_parse(text, p - text, found) == NULL)
                == (n == NGX_HYBRID_LIST_DEPTH), "depth");
    }

    p = text + sprintf(text, "{\"models\":[{\"a\":");
    memset(p, '[', 4000000);

    test_is(test_parse(text, 4000000, found) != NULL, "deep");

    free(text);
}


static void
test_compact(void)
{
    u_char     buf[128], *last;
    ngx_str_t  text = ngx_string("{ \"a b\\\" \" : [ 1 ,\n\t2 ] , "
                                 "\"c\":\r\"\\\\\" , \"d\" : \"  \" }");

    last = ngx_hybrid_list_compact(buf, &text);
    *last = '\0';

    test_is(strcmp((char *) buf,
                   "{\"a b\\\" \":[1,2],\"c\":\"\\\\\",\"d\":\"  \"}")
            == 0, "compact");
}


static void
test_times(void)
{
    size_t       i;
    char        *copy;
    const char  *text;

    static struct {
        const char  *text;
        long         time;
    } cases[] = {
        { "1970-01-01T00:00:00Z", 0 },
        { "2000-02-29T12:34:56Z", 951827696 },
        { "2026-11-21T17:00:00.5Z", 1795280400 },
        { "2026-11-21T17:00:00+05:30", 1795260600 },
        { "2026-11-21T17:00:00-00:30", 1795282200 },
        { "2318-05-01T00:00:00Z", 10992153600 },
        { "2026-11-21T17:00:00", NGX_ERROR },
        { "2026-11-21 17:00:00Z", NGX_ERROR },
        { "2026-13-21T17:00:00Z", NGX_ERROR },
        { "2026-00-21T17:00:00Z", NGX_ERROR },
        { "2026-11-21T24:00:00Z", NGX_ERROR },
        { "2026-11-21T17:00:00+0530", NGX_ERROR },
        { "2026-11-21T17:00:00.", NGX_ERROR },
        { "2026-11-21T17:00:00Zx", NGX_ERROR },
        { "+026-11-21T17:00:00Z", NGX_ERROR },
        { "", NGX_ERROR },
        { NULL, 0 }
    };

    for (i = 0; cases[i].text; i++) {
        text = cases[i].text;
        copy = malloc(strlen(text) + 1);
        memcpy(copy, text, strlen(text));

        test_is(ngx_hybrid_list_time((u_char *) copy,
                                     (u_char *) copy + strlen(text))
                == cases[i].time, text);
        free(copy);
    }
}


/* eight megabytes of what costs most must not take a second */

static void
test_large(void)
{
    char        *text, *p, found[64];
    size_t       i;
    clock_t      from;
    const char  *piece[] = { "[0,", "{\"a\":{},\"b\":[[]]},", "\"\\u0061\",",
                             "1,", "\"\303\274\"," };

    text = malloc(8500000);

    for (i = 0; i < sizeof(piece) / sizeof(piece[0]); i++) {
        p = text + sprintf(text, "{\"models\":[{\"name\":\"m\",\"a\":[");

        while (p - text < 8000000) {
            p += sprintf(p, "%s", piece[i]);
        }

        p += sprintf(p, "0]}]}");

        from = clock();
        (void) test_parse(text, p - text, found);
        test_is(clock() - from < 2 * CLOCKS_PER_SEC, piece[i]);
    }

    free(text);
}
