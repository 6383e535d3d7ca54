
/*
 * Random names and patterns against a reference of regular expressions and
 * a table, which shares nothing with the code under test.
 */


#include "model_test.h"

#include <regex.h>


#define ROUNDS           200000
#define REPORTS          5

#define CH               "[a-z0-9._@+-]"
#define GLOB             "[a-z0-9._@+*-]"
#define PARTS            "^([a-z0-9._@+:-]+/)*"
#define GLOB_PARTS       "^([a-z0-9._@+:*-]+/)*"

#define HOST             "registry.ollama.ai/"
#define LIBRARY          "library/"


typedef struct {
    char                  text[TEXT];
    char                  brief[TEXT];
    ngx_uint_t            valid;
    ngx_uint_t            open;      /* no answer: Ollama refuses it */
    ngx_uint_t            exact;
    ngx_uint_t            cloud;
} test_ref_t;


static uint32_t test_rand(uint32_t n);
static void test_random_tokens(char *text);
static void test_random_name(char *text);
static void test_random_pattern(char *text, const char *name);
static void test_random_names(void);
static ngx_uint_t test_agree(test_parsed_t *parsed, test_ref_t *ref);
static ngx_uint_t test_idempotent(test_parsed_t *parsed);
static void test_random_matches(void);
static void test_random_order(void);
static ngx_int_t test_pair(test_parsed_t *a, test_parsed_t *b);

static void ref_init(void);
static ngx_uint_t ref_is(const char *s, const char *re);
static void ref_parse(test_ref_t *ref, const char *text, ngx_uint_t pattern);
static ngx_uint_t ref_glob(const char *p, const char *s);
static ngx_uint_t ref_match(test_ref_t *p, test_ref_t *m);


static uint64_t  seed = 0x9e3779b97f4a7c15ULL;


/* compiled at their first use */

static struct {
    const char  *text;
    regex_t      re;
} res[16];


void
test_random(void)
{
    ref_init();

    test_random_names();
    test_random_matches();
    test_random_order();
}


/* xorshift64, Marsaglia 2003 */

static uint32_t
test_rand(uint32_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;

    return (seed >> 32) % n;
}


static void
test_random_tokens(char *text)
{
    uint32_t  n;

    static const char  *tokens[] = {
        "a", "b", "A", "8b", "x.y", "-", "/", "/", ":", ":", "cloud", "Cloud",
        "-cloud", ":cloud", ":local", ":Local", ":latest", "latest", "local",
        "library", "library/", "Registry.Ollama.AI/", "@", "+", "_", "*", " "
    };

    *text = '\0';

    for (n = test_rand(7); n; n--) {
        (void) strcat(text, tokens[test_rand(sizeof(tokens)
                                             / sizeof(tokens[0]))]);
    }
}


static void
test_random_name(char *text)
{
    size_t    len;
    uint32_t  n;

    static const char  *hosts[] = {
        "", "", "", "registry.ollama.ai/", "REGISTRY.ollama.ai/", "h:5000/"
    };
    static const char  *spaces[] = {
        "", "", "library/", "Library/", "ab/", "aab/", "a-cloud/"
    };
    static const char  *models[] = {
        "a", "ab", "ABA", "abab", "b", "aba-cloud", "a-local", "library"
    };
    static const char  *tags[] = {
        "", "", "", ":latest", ":Latest", ":8b", ":ab", ":8b-cloud", ":cloud"
    };
    static const char  *sources[] = {
        "", "", "", "", ":local", ":LOCAL", ":cloud"
    };

    if (test_rand(4) == 0) {
        test_random_tokens(text);

    } else {
        (void) sprintf(text, "%s%s%s%s%s", hosts[test_rand(6)],
                       spaces[test_rand(7)], models[test_rand(8)],
                       tags[test_rand(9)], sources[test_rand(7)]);
    }

    if (test_rand(50) == 0) {

        /* at the limit */

        len = ngx_strlen(text);
        n = 250 + test_rand(10) - len;

        ngx_memmove(text + n, text, len + 1);
        ngx_memset(text, 'l', n);
    }
}


/* most are made of a name, so that they have a chance to match it */

static void
test_random_pattern(char *text, const char *name)
{
    size_t    len;
    uint32_t  n, from, cut;

    if (test_rand(8) == 0) {
        test_random_tokens(text);
        return;
    }

    (void) strcpy(text, name);

    for (n = test_rand(5); n; n--) {
        len = ngx_strlen(text);
        from = test_rand(len + 1);
        cut = test_rand(6);
        cut = ngx_min(cut, len - from);

        if (cut == 0) {

            if (len > 270) {
                continue;
            }

            ngx_memmove(text + from + 1, text + from, len - from + 1);
            text[from] = '*';
            continue;
        }

        text[from] = '*';
        ngx_memmove(text + from + 1, text + from + cut,
                    len - from - cut + 1);
    }

    if (test_rand(4) == 0 && *text) {
        text[test_rand(ngx_strlen(text))] = "abl/:-"[test_rand(6)];
    }
}


static void
test_random_names(void)
{
    char           text[TEXT];
    ngx_uint_t     i, bad, moved, valid, cloud;
    test_ref_t     ref;
    test_parsed_t  parsed;

    bad = 0;
    moved = 0;
    valid = 0;
    cloud = 0;

    for (i = 0; i < ROUNDS; i++) {
        test_random_name(text);
        ref_parse(&ref, text, 0);

        test_parse(&parsed, text, ngx_strlen(text), 0);

        if (!test_agree(&parsed, &ref) && bad++ < REPORTS) {
            printf("# %s: %s, wanted \"%s\", cloud %d\n", text,
                   parsed.rc == NGX_OK ? "taken" : "refused",
                   ref.valid ? ref.text : "", (int) ref.cloud);
        }

        if (parsed.rc == NGX_OK) {
            valid++;
            cloud += parsed.model.cloud;

            if (!test_sane(&parsed, ngx_strlen(text))) {
                printf("# %s: lies wrong\n", text);
                bad++;
            }

            if (!test_idempotent(&parsed) && moved++ < REPORTS) {
                printf("# %s: \"%.*s\" is another name\n", text,
                       (int) parsed.model.name.len, parsed.model.name.data);
            }
        }

        free(parsed.buf);
    }

    test_ok(bad == 0, "random names: as the reference", "");

    test_ok(moved == 0, "random names: what is canonical stays", "");

    test_ok(valid > ROUNDS / 4 && valid < ROUNDS * 9 / 10
            && cloud > ROUNDS / 20 && cloud < valid / 2,
            "random names: enough of each kind", "");
}


static ngx_uint_t
test_agree(test_parsed_t *parsed, test_ref_t *ref)
{
    if (!ref->valid) {
        return parsed->rc == NGX_ERROR;
    }

    if (ref->open) {
        return 1;
    }

    return parsed->rc == NGX_OK
           && test_same(&parsed->model.name, ref->text)
           && test_same(&parsed->model.brief, ref->brief)
           && parsed->model.cloud == ref->cloud;
}


static ngx_uint_t
test_idempotent(test_parsed_t *parsed)
{
    ngx_str_t      *s, *name;
    ngx_uint_t      i, ok;
    test_parsed_t   again;

    name = &parsed->model.name;
    ok = 1;

    for (i = 0; i < 2; i++) {
        s = i ? name : &parsed->model.brief;

        if (s->len > NGX_HYBRID_MODEL_MAX) {
            /* by its default tag */
            continue;
        }

        test_parse(&again, (char *) s->data, s->len, 0);

        ok &= again.rc == NGX_OK
              && again.model.name.len == name->len
              && ngx_memcmp(again.model.name.data, name->data, name->len) == 0
              && again.model.brief.len == parsed->model.brief.len
              && again.model.cloud == parsed->model.cloud;

        free(again.buf);
    }

    return ok;
}


static void
test_random_matches(void)
{
    char           name[TEXT], text[TEXT];
    ngx_uint_t     i, bad, wrong, rc, want, hits, misses, globs;
    test_ref_t     rp, rm;
    test_parsed_t  p, m;

    bad = 0;
    wrong = 0;
    hits = 0;
    misses = 0;
    globs = 0;

    for (i = 0; i < ROUNDS; i++) {
        test_random_name(name);
        test_random_pattern(text, name);

        if (test_rand(4) == 0) {
            test_random_name(name);
        }

        ref_parse(&rp, text, 1);
        ref_parse(&rm, name, 0);

        test_parse(&p, text, ngx_strlen(text), 1);
        test_parse(&m, name, ngx_strlen(name), 0);

        if (!rp.exact
            && (rp.valid
                ? !rp.open
                  && (p.rc != NGX_OK
                      || (!test_same(&p.pattern.text, rp.text)
                          && strstr(text, "**") == NULL)
                      || p.pattern.exact || p.pattern.cloud != rp.cloud
                      || p.pattern.prefix != strcspn(rp.text, "*"))
                : p.rc != NGX_ERROR)
            && wrong++ < REPORTS)
        {
            printf("# pattern %s: wanted \"%s\"\n", text,
                   rp.valid ? rp.text : "");
        }

        /* where names disagree, the other test says so */

        if (p.rc == NGX_OK && rp.valid && !rp.open && rm.valid && !rm.open
            && test_agree(&m, &rm))
        {
            rc = ngx_hybrid_pattern_match(&p.pattern, &m.model);
            want = ref_match(&rp, &rm);

            hits += want;
            misses += !want;
            globs += want && !rp.exact;

            if (rc != want && bad++ < REPORTS) {
                printf("# pattern %s, name %s: %d\n", text, name, (int) rc);
            }
        }

        free(p.buf);
        free(m.buf);
    }

    test_ok(wrong == 0, "random patterns: parsed as the reference does", "");
    test_ok(bad == 0, "random patterns: match as the reference", "");

    test_ok(hits > ROUNDS / 20 && misses > ROUNDS / 20
            && globs > ROUNDS / 20,
            "random patterns: enough of each kind", "");
}


/* antisymmetric and transitive, or routes could not be sorted by it */

static void
test_random_order(void)
{
    char           text[TEXT], name[TEXT];
    ngx_int_t      ab, bc, ac;
    ngx_uint_t     i, j, bad;
    test_parsed_t  p[3];

    bad = 0;

    for (i = 0; i < ROUNDS; i++) {

        for (j = 0; j < 3; j++) {
            do {
                test_random_name(name);
                test_random_pattern(text, name);
                test_parse(&p[j], text, ngx_strlen(text), 1);

                if (p[j].rc != NGX_OK) {
                    free(p[j].buf);
                }

            } while (p[j].rc != NGX_OK);
        }

        ab = test_pair(&p[0], &p[1]);
        bc = test_pair(&p[1], &p[2]);
        ac = test_pair(&p[0], &p[2]);

        bad += test_pair(&p[1], &p[0]) != -ab
               || test_pair(&p[0], &p[0]) != 0
               || (ab >= 0 && bc >= 0 && ac != ngx_max(ab, bc))
               || (ab <= 0 && bc <= 0 && ac != ngx_min(ab, bc))
               || (p[0].pattern.exact && !p[1].pattern.exact && ab != 1);

        for (j = 0; j < 3; j++) {
            free(p[j].buf);
        }
    }

    test_ok(bad == 0, "random patterns: an order", "");
}


static ngx_int_t
test_pair(test_parsed_t *a, test_parsed_t *b)
{
    return ngx_hybrid_pattern_compare(&a->pattern, &b->pattern);
}


/* the reference must be right itself where it matters most */

static void
ref_init(void)
{
    test_ref_t  ref;

    ref_parse(&ref, "Registry.Ollama.AI/library/A:latest:LOCAL", 0);

    test_ok(ref.valid && !ref.cloud && strcmp(ref.text, "a:latest") == 0
            && strcmp(ref.brief, "a") == 0
            && ref_glob("a*/*b", "ac/db") && ref_glob("*", "a")
            && ref_glob("a*", "a") && !ref_glob("*", "a/b")
            && !ref_glob("a*b", "a/b") && !ref_glob("a", "ab"),
            "the reference", "");
}


static ngx_uint_t
ref_is(const char *s, const char *re)
{
    ngx_uint_t  i;

    for (i = 0; res[i].text != re; i++) {

        if (res[i].text) {
            continue;
        }

        if (i == sizeof(res) / sizeof(res[0]) - 1
            || regcomp(&res[i].re, re, REG_EXTENDED|REG_NOSUB) != 0)
        {
            exit(2);
        }

        res[i].text = re;
        break;
    }

    return regexec(&res[i].re, s, 0, NULL, 0) == 0;
}


static void
ref_parse(test_ref_t *ref, const char *text, ngx_uint_t pattern)
{
    char    *s;
    size_t   i, len;

    static const char  *re_name =
        PARTS CH "+(:" CH "+)?(:(local|cloud))?$";
    static const char  *re_glob =
        GLOB_PARTS GLOB "+(:" GLOB "+)?(:(local|cloud))?$";
    static const char  *re_twice = ":local:local$";
    static const char  *re_local = ":local$";
    static const char  *re_odd = "^" HOST "(" HOST "|[^/]+$|.*/.*/)";
    static const char  *re_library = "^" LIBRARY "[^/]+$";
    static const char  *re_tag = ":[^/]*$";
    static const char  *re_latest = ":latest$";
    static const char  *re_cloud = "[:-]cloud$|-cloud:[^:/]*$";
    static const char  *re_cloud_end = "[:-]cloud$";

    len = ngx_strlen(text);
    s = ref->text;
    ref->open = 0;

    for (i = 0; i <= len; i++) {
        s[i] = ngx_tolower(text[i]);
    }

    ref->exact = !pattern || strchr(text, '*') == NULL;

    ref->valid = len > 0 && len <= 256
                 && ref_is(s, ref->exact ? re_name : re_glob)
                 && !ref_is(s, re_twice)
                 && (ref->exact || !ref_is(s, re_local));

    if (!ref->valid) {
        return;
    }

    if (ref_is(s, re_local)) {
        s[ngx_strlen(s) - 6] = '\0';
    }

    ref->open = ref_is(s, re_odd);

    if (strncmp(s, HOST, sizeof(HOST) - 1) == 0) {
        ngx_memmove(s, s + sizeof(HOST) - 1,
                    ngx_strlen(s) - sizeof(HOST) + 2);
    }

    if (ref_is(s, re_library)) {
        ngx_memmove(s, s + sizeof(LIBRARY) - 1,
                    ngx_strlen(s) - sizeof(LIBRARY) + 2);
    }

    if (!ref->exact) {
        ref->cloud = ref_is(s, re_cloud_end);
        return;
    }

    if (!ref_is(s, re_tag)) {
        (void) strcat(s, ":latest");
    }

    (void) strcpy(ref->brief, s);

    if (ref_is(s, re_latest)) {
        ref->brief[ngx_strlen(s) - 7] = '\0';
    }

    ref->cloud = ref_is(ref->brief, re_cloud);
}


/* ends[i]: what was read of the pattern matches the first i bytes */

static ngx_uint_t
ref_glob(const char *p, const char *s)
{
    char        ends[TEXT];
    size_t      i, n;
    ngx_uint_t  last, here;

    n = ngx_strlen(s);

    ngx_memzero(ends, n + 1);
    ends[0] = 1;

    for ( /* void */ ; *p; p++) {

        if (*p == '*') {
            for (i = 0; i < n; i++) {
                ends[i + 1] |= ends[i] && s[i] != '/';
            }

            continue;
        }

        last = 0;

        for (i = 0; i <= n; i++) {
            here = ends[i];
            ends[i] = last && s[i - 1] == *p;
            last = here;
        }
    }

    return ends[n];
}


static ngx_uint_t
ref_match(test_ref_t *p, test_ref_t *m)
{
    if (m->cloud && !p->cloud) {
        return 0;
    }

    if (p->exact) {
        return strcmp(p->text, m->text) == 0;
    }

    return ref_glob(p->text, m->text) || ref_glob(p->text, m->brief);
}
