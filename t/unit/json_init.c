
/* link: core/ngx_hybrid_json.c core/ngx_hybrid_json_key.c
 *       core/ngx_hybrid_json_token.c core/ngx_hybrid_json_skip.c
 */

/* What a table of policy keys may be. */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_hybrid_json.h>

#include <stdio.h>

#include "tap.h"


#define K64  "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"
#define NKEYS  (sizeof(keys) / sizeof(keys[0]))


static void test_table(ngx_hybrid_json_key_t *table, ngx_uint_t n,
    ngx_int_t want, const char *name);
static ngx_uint_t test_scan(ngx_hybrid_json_key_t *table, ngx_uint_t n,
    const char *body);


static ngx_str_t  kinds[] = {
    ngx_string("web_"),
    ngx_string(K64 "k"),
    ngx_null_string
};


static ngx_hybrid_json_key_t  keys[] = {
    { ngx_string("model"), 64, NULL, NULL, 0 },
    { ngx_string("name"), 64, NULL, NULL, 0 }
};


int
main(void)
{
    u_char                 long_key[256], *p;
    ngx_uint_t             i;
    ngx_hybrid_json_key_t  table[NGX_HYBRID_JSON_KEYS + 1];

    for (i = 0; i < NGX_HYBRID_JSON_KEYS + 1; i++) {
        table[i] = keys[i % NKEYS];
    }

    test_table(table, NGX_HYBRID_JSON_KEYS, NGX_OK, "48 keys");
    test_table(table, NGX_HYBRID_JSON_KEYS + 1, NGX_ERROR, "49 keys");

    table[0].members = table + 1;
    table[0].nmembers = NGX_HYBRID_JSON_KEYS - 1;
    test_table(table, 1, NGX_OK, "47 members");
    test_table(table, 2, NGX_ERROR, "49 keys and members");

    table[0].nmembers = 1;
    ngx_str_set(&table[1].name, "");
    test_table(table, 1, NGX_ERROR, "a member with an empty name");

    table[0].nmembers = 0;
    ngx_str_set(&table[0].name, "");
    test_table(table, 1, NGX_ERROR, "an empty name");

    ngx_str_set(&table[0].name, K64 "k");
    test_table(table, 1, NGX_ERROR, "a name of 65 bytes");

    table[0] = keys[0];
    table[0].kinds = kinds;
    test_table(table, 1, NGX_ERROR, "a kind of 65 bytes");

    ngx_str_set(&kinds[1], "mcp");
    test_table(table, 1, NGX_OK, "two kinds");

    table[0] = keys[0];
    table[0].size = NGX_HYBRID_JSON_SIZE + 1;
    test_table(table, 1, NGX_ERROR, "a size of 64k");

    /* each byte of the name as a sign of three */

    table[0] = keys[0];
    ngx_str_set(&table[0].name, K64);
    p = ngx_cpymem(long_key, "{\"", 2);

    for (i = 0; i < NGX_HYBRID_JSON_NAME; i++) {
        p = ngx_cpymem(p, "\xe2\x84\xaa", 3);
    }

    (void) ngx_cpymem(p, "\":1}", sizeof("\":1}"));

    test_ok(test_scan(table, 1, (char *) long_key)
            == NGX_HYBRID_JSON_AMBIGUOUS,
            "the longest name fits, folded");

    test_ok(test_scan(NULL, 0, "{\"model\":1,\"MODEL\":2}")
            == NGX_HYBRID_JSON_VALID,
            "no policy keys at all");

    return tap_end();
}


static void
test_table(ngx_hybrid_json_key_t *table, ngx_uint_t n, ngx_int_t want,
    const char *name)
{
    u_char                   arena[64];
    ngx_hybrid_json_t        js;
    ngx_hybrid_json_value_t  values[NGX_HYBRID_JSON_KEYS];

    test_ok(ngx_hybrid_json_init(&js, table, n, values, arena, 64) == want,
            name);
}


/* byte by byte: no key is whole in its piece */

static ngx_uint_t
test_scan(ngx_hybrid_json_key_t *table, ngx_uint_t n, const char *body)
{
    u_char                   arena[64];
    const char              *p;
    ngx_hybrid_json_t        js;
    ngx_hybrid_json_value_t  values[NGX_HYBRID_JSON_KEYS];

    (void) ngx_hybrid_json_init(&js, table, n, values, arena, 64);

    for (p = body; *p; p++) {
        (void) ngx_hybrid_json_feed(&js, (u_char *) p, 1);
    }

    (void) ngx_hybrid_json_finish(&js);

    return js.error;
}
