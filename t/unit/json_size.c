
/* link: core/ngx_hybrid_json.c core/ngx_hybrid_json_key.c
 *       core/ngx_hybrid_json_token.c core/ngx_hybrid_json_skip.c
 */

/*
 * What ngx_hybrid_json_measure() counts: whole, byte by byte, and split in
 * two at every position.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_hybrid_json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>


typedef struct {
    const char  *body;
    off_t        total;
    ngx_uint_t   ntop;
} test_t;


static void test_ok(ngx_uint_t ok, const char *what, test_t *t);
static ngx_uint_t test_feed(test_t *t, size_t first, size_t step);


static ngx_uint_t  tests;
static ngx_uint_t  failed;

static ngx_str_t  names[] = {
    ngx_string("prompt"),
    ngx_string("messages"),
    ngx_string("tools"),
    ngx_null_string
};

static ngx_hybrid_json_key_t  members[] = {
    { ngx_string("prompt"), 16, NULL, NULL, 0 }
};

static ngx_hybrid_json_key_t  keys[] = {
    { ngx_string("model"), 64, NULL, NULL, 0 },
    { ngx_string("tools"), 0, NULL, NULL, 0 },
    { ngx_string("options"), 0, NULL, members, 1 }
};


/* a value's bytes are counted from after its key's quote to the next quote */

static test_t  cases[] = {
    { "{}", 0, 0 },
    { "{\"model\":\"m\"}", 0, 1 },
    { "{\"prompt\":\"12345\"}", 9, 1 },
    { "{\"prompt\":\"12345\",\"model\":\"m\"}", 11, 2 },
    { "{\"model\":\"m\",\"prompt\":\"12345\"}", 9, 2 },
    { "{\"prompt\":\"12345\",\"tools\":[1,{\"prompt\":\"x\"}]}", 31, 2 },
    { "{\"Prompt\":\"12345\",\"prompt\":\"12345\"}", 20, 2 },
    { "{\"prom\\u0070t\":\"12345\"}", 9, 1 },
    { "{\"me\xc5\xbf" "sages\":[]}", 4, 1 },
    { "{\"prompts\":\"12345\",\"promp\":1}", 0, 2 },
    { "{\"options\":{\"prompt\":\"12345\"},\"x\":{\"prompt\":1}}", 0, 2 },
    { "{\"options\":{\"prompt\":\"1\",\"y\":2},\"messages\":[{\"prompt\":1}]}",
      16, 2 },
    { "{\"messages\":[{\"content\":\"a\\\"}\"}], \"z\" : 1}", 25, 2 },
    { "{\"a\":1,\"b\":2,\"c\":3,\"\\u0064\":4}", 0, 4 },
    { NULL, 0, 0 }
};


int
main(void)
{
    size_t       i, len;
    test_t      *t;
    ngx_uint_t   ok;

    for (t = cases; t->body; t++) {

        len = strlen(t->body);

        test_ok(test_feed(t, len, len), "whole", t);
        test_ok(test_feed(t, 1, 1), "by byte", t);

        ok = 1;

        for (i = 1; i < len; i++) {
            ok = ok && test_feed(t, i, len);
        }

        test_ok(ok, "in two", t);
    }

    printf("1..%d\n", (int) tests);

    return failed ? 1 : 0;
}


static void
test_ok(ngx_uint_t ok, const char *what, test_t *t)
{
    tests++;

    if (!ok) {
        failed++;
        printf("not ");
    }

    printf("ok %d - %s, %s\n", (int) tests, t->body, what);
}


static ngx_uint_t
test_feed(test_t *t, size_t first, size_t step)
{
    u_char                   *p, arena[128];
    size_t                    len, n;
    ngx_uint_t                ok;
    const char               *body;
    ngx_hybrid_json_t         js;
    ngx_hybrid_json_value_t   values[4];

    if (ngx_hybrid_json_init(&js, keys, 3, values, arena, sizeof(arena))
        != NGX_OK)
    {
        return 0;
    }

    ngx_hybrid_json_measure(&js, names);

    body = t->body;
    len = strlen(body);
    n = first < len ? first : len;
    ok = 1;

    while (len) {

        /* a block of just its size, so that ASan sees what is read past it */

        p = malloc(n);
        if (p == NULL) {
            return 0;
        }

        memcpy(p, body, n);
        ok = ok && ngx_hybrid_json_feed(&js, p, n) == NGX_OK;
        free(p);

        body += n;
        len -= n;
        n = step < len ? step : len;
    }

    ok = ok && ngx_hybrid_json_finish(&js) == NGX_OK
         && js.total == t->total && js.ntop == t->ntop;

    if (!ok) {
        printf("# %s: %d bytes, %d keys\n", ngx_hybrid_json_reason(&js),
               (int) js.total, (int) js.ntop);
    }

    return ok;
}
