
/* link: route/ngx_hybrid_model.c model_random.c */

/*
 * Names and patterns lie in blocks of just their size, and what is parsed is
 * overwritten and freed before the result is looked at, so that ASan sees a
 * read past the text, a write past the buffer, or a result that still points
 * to the text.
 */


#include "model_cases.h"


static ngx_uint_t test_name(test_name_t *tn);
static void test_names(void);
static void test_aliases(void);
static void test_bytes(void);
static void test_bounds(void);
static void test_patterns(void);
static ngx_uint_t test_match(const char *pattern, const char *name);
static void test_matches(void);
static void test_never(void);
static ngx_int_t test_compare(const char *one, const char *two);
static void test_order(void);
static void test_repeat(char *dst, const char *unit, ngx_uint_t n,
    const char *tail);
static void test_pathological(void);


static ngx_uint_t  tests;
static ngx_uint_t  failed;


int
main(void)
{
    /* a matcher that takes too long must fail, not hang */

    (void) alarm(300);

    test_names();
    test_aliases();
    test_bytes();
    test_bounds();
    test_patterns();
    test_matches();
    test_never();
    test_order();
    test_pathological();
    test_random();

    printf("1..%d\n", (int) tests);

    return failed ? 1 : 0;
}


void
test_ok(ngx_uint_t ok, const char *what, const char *text)
{
    const char  *p;

    printf("%sok %d - %s%s", ok ? "" : "not ", (int) ++tests, what,
           *text ? " " : "");

    for (p = text; *p; p++) {
        if ((u_char) *p >= 0x20 && (u_char) *p < 0x7f && *p != '#') {
            putchar(*p);

        } else {
            printf("\\x%02x", (u_char) *p);
        }
    }

    printf("\n");

    failed += !ok;
}


void
test_parse(test_parsed_t *parsed, const char *text, size_t len,
    ngx_uint_t pattern)
{
    ngx_str_t  s;

    ngx_memset(parsed, 0xa5, sizeof(test_parsed_t));

    s.len = len;
    s.data = malloc(len);

    /* callers give this much for a short name, not NGX_HYBRID_MODEL_BUF */

    parsed->buf = malloc(len + sizeof(":latest") - 1);

    if ((s.data == NULL && len) || parsed->buf == NULL) {
        exit(2);
    }

    ngx_memcpy(s.data, text, len);
    ngx_memset(parsed->buf, '/', len + sizeof(":latest") - 1);

    parsed->rc = pattern
                 ? ngx_hybrid_pattern_parse(&parsed->pattern, &s, parsed->buf)
                 : ngx_hybrid_model_parse(&parsed->model, &s, parsed->buf);

    if (ngx_memcmp(s.data, text, len) != 0) {
        printf("# the text was changed\n");
        parsed->rc = NGX_ABORT;
    }

    ngx_memset(s.data, '#', len);
    free(s.data);
}


ngx_uint_t
test_sane(test_parsed_t *parsed, size_t len)
{
    size_t      n;
    ngx_str_t  *name, *brief;

    name = &parsed->model.name;
    brief = &parsed->model.brief;
    n = sizeof(":latest") - 1;

    return name->data >= parsed->buf
           && name->data + name->len <= parsed->buf + len + n
           && brief->data == name->data
           && brief->len
           && (brief->len == name->len
               ? name->len < n
                 || ngx_memcmp(name->data + name->len - n, ":latest", n) != 0
               : name->len == brief->len + n
                 && ngx_memcmp(name->data + brief->len, ":latest", n) == 0);
}


ngx_uint_t
test_same(ngx_str_t *s, const char *want)
{
    return s->len == ngx_strlen(want)
           && ngx_memcmp(s->data, want, s->len) == 0;
}


static ngx_uint_t
test_name(test_name_t *tn)
{
    ngx_uint_t     ok;
    test_parsed_t  parsed;

    test_parse(&parsed, (char *) tn->text.data, tn->text.len, 0);

    if (tn->name == NULL) {
        ok = parsed.rc == NGX_ERROR;

    } else {
        ok = parsed.rc == NGX_OK
             && test_sane(&parsed, tn->text.len)
             && test_same(&parsed.model.name, tn->name)
             && parsed.model.cloud == tn->cloud;
    }

    if (!ok && parsed.rc == NGX_OK) {
        printf("# \"%.*s\", cloud %d\n", (int) parsed.model.name.len,
               parsed.model.name.data, (int) parsed.model.cloud);
    }

    free(parsed.buf);

    return ok;
}


static void
test_names(void)
{
    ngx_uint_t    i;
    test_name_t  *tn;

    for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        tn = &names[i];

        test_ok(test_name(tn), tn->name ? (tn->cloud ? "cloud" : "local")
                                        : "refused",
                (char *) tn->text.data);
    }
}


/* security.md 1.8: all ways to write a name are one name */

static void
test_aliases(void)
{
    char         text[TEXT];
    size_t       len;
    ngx_uint_t   i, h, t, s, u, ok;
    test_name_t  tn;

    static const char  *heads[] = {
        "", "library/", "registry.ollama.ai/library/"
    };
    static const char  *tags[] = { "", ":latest" };
    static const char  *sources[] = { "", ":local" };

    ok = 1;
    tn.name = "denied:latest";
    tn.cloud = 0;

    for (i = 0; i < 3 * 2 * 2 * 3; i++) {
        h = i % 3;
        t = i / 3 % 2;
        s = i / 6 % 2;
        u = i / 12;

        len = sprintf(text, "%sdenied%s%s", heads[h], tags[t], sources[s]);

        tn.text.data = (u_char *) text;
        tn.text.len = len;

        for (len = 0; len < tn.text.len; len++) {
            if (u == 1 || (u == 2 && len % 2)) {
                text[len] = ngx_toupper(text[len]);
            }
        }

        if (!test_name(&tn)) {
            printf("# alias %s\n", text);
            ok = 0;
        }
    }

    test_ok(ok, "aliases in all combinations", "");
}


static void
test_bytes(void)
{
    char           text[3];
    ngx_uint_t     i, ch, ok, want, special;
    test_parsed_t  parsed;

    ok = 1;

    for (i = 0; i < 3; i++) {
        for (ch = 0; ch < 256; ch++) {
            ngx_memcpy(text, "aaa", 3);
            text[i] = (char) ch;

            special = (ch == '/' || ch == ':');
            want = (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z')
                   || (ch >= '0' && ch <= '9')
                   || (ch && strchr("._@+-", (int) ch))
                   || (special && i == 1);

            test_parse(&parsed, text, 3, 0);

            if (parsed.rc != (want ? NGX_OK : NGX_ERROR)) {
                printf("# byte 0x%02x at %d\n", (int) ch, (int) i);
                ok = 0;
            }

            free(parsed.buf);

            want |= (ch == '*');

            test_parse(&parsed, text, 3, 1);

            if (parsed.rc != (want ? NGX_OK : NGX_ERROR)) {
                printf("# byte 0x%02x at %d of a pattern\n", (int) ch,
                       (int) i);
                ok = 0;
            }

            free(parsed.buf);
        }
    }

    test_ok(ok, "every byte at every place", "");
}


static void
test_bounds(void)
{
    char           text[1000], want[1000];
    ngx_uint_t     i, n, ok, star;
    test_parsed_t  parsed;

    ok = 1;

    for (n = 0; n < sizeof(text); n++) {
        for (star = 0; star < 2; star++) {
            ngx_memset(text, 'Q', n);

            if (n && star) {
                text[n - 1] = '*';
            }

            for (i = 0; i < 2; i++) {
                test_parse(&parsed, text, n, i);

                if (parsed.rc != (n && n <= 256 && (i || !star || n == 0)
                                  ? NGX_OK : NGX_ERROR))
                {
                    printf("# length %d: %d\n", (int) n, (int) parsed.rc);
                    ok = 0;
                }

                free(parsed.buf);
            }
        }
    }

    test_ok(ok, "1 to 256 bytes, names and patterns", "");

    ngx_memset(text, 'Q', 256);
    ngx_memset(want, 'q', 256);
    ngx_memcpy(want + 256, ":latest", sizeof(":latest"));

    test_parse(&parsed, text, 256, 0);

    test_ok(parsed.rc == NGX_OK && test_sane(&parsed, 256)
            && test_same(&parsed.model.name, want)
            && parsed.model.brief.len == 256,
            "256 bytes and the default tag", "");

    free(parsed.buf);

    ngx_memcpy(text + 256 - 7, ":Latest", 7);
    ngx_memcpy(want + 256 - 7, ":latest", sizeof(":latest"));

    test_parse(&parsed, text, 256, 0);

    test_ok(parsed.rc == NGX_OK && test_sane(&parsed, 256)
            && test_same(&parsed.model.name, want)
            && parsed.model.brief.len == 249,
            "256 bytes with the tag", "");

    free(parsed.buf);
}


static void
test_patterns(void)
{
    ngx_uint_t     i;
    const char    *text;
    test_parsed_t  parsed;

    static const char  *refused[] = {
        "", " *", "* ", "*\xe9", "*?", "[a]*", "/*", "*/", "a//*", "*//*",
        "https://*", "*:", ":*", "*/:*", "*::*", "*:*:*", "*:a:b", "a*:b:*",
        "*:*:*:cloud", "*:local", "*:LOCAL", "a*:8b:local", "a:*:local",
        "x:", "a//b"
    };

    static struct {
        const char  *pattern;
        const char  *text;
        size_t       prefix;
        unsigned     exact;
        unsigned     cloud;
    } good[] = {
        { "Library/X", "x:latest", 8, 1, 0 },
        { "x:Local", "x:latest", 8, 1, 0 },
        { "x-cloud", "x-cloud:latest", 14, 1, 1 },
        { "*", "*", 0, 0, 0 },
        { "Registry.Ollama.AI/Library/X*", "x*", 1, 0, 0 },
        { "registry.ollama.ai/team/*", "team/*", 5, 0, 0 },
        { "library/*/x", "library/*/x", 8, 0, 0 },
        { "library*/x", "library*/x", 7, 0, 0 },
        { "*:Cloud", "*:cloud", 0, 0, 1 },
        { "a*-Cloud", "a*-cloud", 1, 0, 1 },
        { "a-cloud*", "a-cloud*", 7, 0, 0 },
        { "*cloud", "*cloud", 0, 0, 0 },
        { "*:*", "*:*", 0, 0, 0 }
    };

    for (i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        text = refused[i];

        test_parse(&parsed, text, ngx_strlen(text), 1);
        test_ok(parsed.rc == NGX_ERROR, "no pattern", text);
        free(parsed.buf);
    }

    for (i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        text = good[i].pattern;

        test_parse(&parsed, text, ngx_strlen(text), 1);
        test_ok(parsed.rc == NGX_OK
                && test_same(&parsed.pattern.text, good[i].text)
                && parsed.pattern.prefix == good[i].prefix
                && parsed.pattern.exact == good[i].exact
                && parsed.pattern.cloud == good[i].cloud,
                "pattern", text);
        free(parsed.buf);
    }
}


static ngx_uint_t
test_match(const char *pattern, const char *name)
{
    ngx_uint_t     match;
    test_parsed_t  p, m;

    test_parse(&p, pattern, ngx_strlen(pattern), 1);
    test_parse(&m, name, ngx_strlen(name), 0);

    match = (p.rc == NGX_OK && m.rc == NGX_OK)
            ? ngx_hybrid_pattern_match(&p.pattern, &m.model) : 2;

    free(p.buf);
    free(m.buf);

    return match;
}


static void
test_matches(void)
{
    char           text[TEXT];
    ngx_uint_t     i;
    test_match_t  *tm;

    for (i = 0; i < sizeof(matches) / sizeof(matches[0]); i++) {
        tm = &matches[i];

        (void) snprintf(text, sizeof(text), "%s, %s", tm->pattern, tm->name);

        test_ok(test_match(tm->pattern, tm->name) == tm->match,
                tm->match ? "match" : "no match", text);
    }
}


/* patterns that are taken, though no name can match them */

static void
test_never(void)
{
    ngx_uint_t  i, j, ok;

    static const char  *never[] = {
        "*-cloud:latest", "*-cloud:8b", "x-cloud:*", "*-cloud:*"
    };

    for (i = 0; i < sizeof(never) / sizeof(never[0]); i++) {
        ok = 1;

        for (j = 0; j < sizeof(names) / sizeof(names[0]); j++) {

            if (names[j].name == NULL) {
                continue;
            }

            if (test_match(never[i], (char *) names[j].text.data)) {
                printf("# matches %s\n", (char *) names[j].text.data);
                ok = 0;
            }
        }

        test_ok(ok, "never", never[i]);
    }
}


static ngx_int_t
test_compare(const char *one, const char *two)
{
    ngx_int_t      rc;
    test_parsed_t  a, b;

    test_parse(&a, one, ngx_strlen(one), 1);
    test_parse(&b, two, ngx_strlen(two), 1);

    rc = (a.rc == NGX_OK && b.rc == NGX_OK)
         ? ngx_hybrid_pattern_compare(&a.pattern, &b.pattern) : 2;

    free(a.buf);
    free(b.buf);

    return rc;
}


static void
test_order(void)
{
    ngx_int_t   rc;
    ngx_uint_t  i, j, n, ok;

    static const char  *order[] = {
        "llama3:8b", "x", "registry.ollama.ai/library/llama3:8*",
        "llama3:*b", "llama3:*", "llama3*", "library/llama*:8b", "llama*",
        "l*ma*", "l*:*", "l*", "*:cloud", "*:8b", "*:*", "*"
    };

    n = sizeof(order) / sizeof(order[0]);
    ok = 1;

    for (i = 0; i < n; i++) {
        for (j = 0; j < n; j++) {
            rc = test_compare(order[i], order[j]);

            if (i < j ? rc != 1 : i > j ? rc != -1 : rc != 0) {
                printf("# %s, %s: %d\n", order[i], order[j], (int) rc);
                ok = 0;
            }
        }
    }

    test_ok(ok, "the order of patterns", "");

    test_ok(test_compare("ab*", "ac*") == 0
            && test_compare("library/AB*", "ab*") == 0,
            "equally specific", "");

    /* stars are no literal bytes */

    test_ok(test_compare("a*b", "a***") == 1, "a*b before a***", "");
    test_ok(test_compare("a*", "a**") == 0, "a* is a**", "");
}


static void
test_repeat(char *dst, const char *unit, ngx_uint_t n, const char *tail)
{
    *dst = '\0';

    while (n--) {
        dst = (char *) ngx_cpymem(dst, unit, ngx_strlen(unit));
    }

    ngx_memcpy(dst, tail, ngx_strlen(tail) + 1);
}


/* that this comes to an end is what it tests */

static void
test_pathological(void)
{
    char        as[TEXT], ab[TEXT], slashes[TEXT], pattern[TEXT];
    ngx_uint_t  i, n;

    static struct {
        const char  *unit;
        ngx_uint_t   n;
        const char  *tail;
    } patterns[] = {
        { "*a", 3, "*b" },
        { "*a", 127, "*b" },
        { "*a", 127, "b" },
        { "*aa", 85, "b" },
        { "*a*", 85, "b" },
        { "a*", 127, "b" },
        { "*", 255, "b" },
        { "*aaaaaaaaaaaaaaa", 15, "*aaaaaab" }
    };

    test_repeat(as, "a", 256, "");
    test_repeat(ab, "a", 255, "b");
    test_repeat(slashes, "aaa/", 63, "aaaa");

    n = sizeof(patterns) / sizeof(patterns[0]);

    for (i = 0; i < n; i++) {
        test_repeat(pattern, patterns[i].unit, patterns[i].n,
                    patterns[i].tail);

        test_ok(test_match(pattern, as) == 0
                && test_match(pattern, ab) == 1
                && test_match(pattern, slashes) == 0,
                "ends", pattern);
    }

    test_repeat(pattern, "*a/", 63, "*b");
    test_ok(test_match(pattern, slashes) == 0, "ends", pattern);

    test_repeat(pattern, "*a/", 63, "*a");
    test_ok(test_match(pattern, slashes) == 1, "ends", pattern);

    test_repeat(pattern, "*a*/", 63, "*b");
    test_ok(test_match(pattern, slashes) == 0, "ends", pattern);
}
