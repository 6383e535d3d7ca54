
/*
 * Whatever the pieces a body comes in, verdict, offset and texts are equal.
 *
 *     clang -g -O1 -fsanitize=fuzzer,address,undefined \
 *         -fno-sanitize-recover=undefined INCS -Ingx_hybrid_module/core \
 *         -o build/fuzz_json t/fuzz/json.c \
 *         ngx_hybrid_module/core/ngx_hybrid_json*.c
 *     build/fuzz_json -max_len=4096 -max_total_time=300 CORPUS
 *
 * INCS: nginx's src/core, src/event, src/os/unix and configure's objs, by
 * -isystem.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_hybrid_json.h>

#include <stdio.h>
#include <stdlib.h>


#define NKEYS  (sizeof(keys) / sizeof(keys[0]))
#define ARENA  96


typedef struct {
    ngx_hybrid_json_t         js;
    ngx_hybrid_json_value_t   values[NGX_HYBRID_JSON_KEYS];
    u_char                    arena[ARENA];
} fuzz_run_t;


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_scan(fuzz_run_t *run, const uint8_t *data, size_t size,
    size_t most, uint32_t seed);
static void fuzz_sane(fuzz_run_t *run, const uint8_t *data, size_t size);
static void fuzz_same(fuzz_run_t *a, fuzz_run_t *b);
static void fuzz_demand(ngx_uint_t ok, const char *what);


static ngx_str_t  kinds[] = {
    ngx_string("web_"),
    ngx_string("mcp"),
    ngx_null_string
};


static ngx_hybrid_json_key_t  members[] = {
    { ngx_string("num_ctx"), 8, NULL, NULL, 0 },
    { ngx_string("use_mmap"), 8, NULL, NULL, 0 },
    { ngx_string("num_keep"), 8, NULL, NULL, 0 }
};

#define NMEMBERS  (sizeof(members) / sizeof(members[0]))


static ngx_hybrid_json_key_t  keys[] = {
    { ngx_string("model"), 64, NULL, NULL, 0 },
    { ngx_string("name"), 32, NULL, NULL, 0 },
    { ngx_string("source"), 16, NULL, NULL, 0 },
    { ngx_string("destination"), 16, NULL, NULL, 0 },
    { ngx_string("from"), 16, NULL, NULL, 0 },
    { ngx_string("keep_alive"), 8, NULL, NULL, 0 },
    { ngx_string("stream"), 4, NULL, NULL, 0 },
    { ngx_string("tools"), 0, kinds, NULL, 0 },
    { ngx_string("options"), 0, NULL, members, NMEMBERS }
};


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t      i;
    uint32_t    seed;
    fuzz_run_t  whole, split;

    static size_t  most[] = { 1, 3, 17, 80, 700 };

    seed = 2166136261;

    for (i = 0; i < size; i++) {
        seed = (seed ^ data[i]) * 16777619;
    }

    fuzz_scan(&whole, data, size, size, 0);
    fuzz_sane(&whole, data, size);

    for (i = 0; i < sizeof(most) / sizeof(most[0]); i++) {
        fuzz_scan(&split, data, size, most[i], seed + i);
        fuzz_same(&whole, &split);
    }

    return 0;
}


/* a seed of 0 is for one piece */

static void
fuzz_scan(fuzz_run_t *run, const uint8_t *data, size_t size, size_t most,
    uint32_t seed)
{
    u_char     *piece;
    size_t      n;
    ngx_int_t   rc;

    ngx_memset(run, 0xa5, sizeof(fuzz_run_t));

    rc = ngx_hybrid_json_init(&run->js, keys, NKEYS, run->values, run->arena,
                              ARENA);
    fuzz_demand(rc == NGX_OK, "init");

    while (size && rc == NGX_OK) {

        n = size;

        if (seed) {
            seed = seed * 1664525 + 1013904223;
            n = (seed >> 8) % (most + 1);
            n = ngx_min(n, size);
        }

        piece = malloc(n ? n : 1);
        fuzz_demand(piece != NULL, "malloc");
        ngx_memcpy(piece, data, n);

        rc = ngx_hybrid_json_feed(&run->js, piece, n);
        free(piece);

        data += n;
        size -= n;
    }

    fuzz_demand((rc == NGX_OK) == (run->js.error == NGX_HYBRID_JSON_VALID),
                "feed");

    rc = ngx_hybrid_json_finish(&run->js);

    fuzz_demand((rc == NGX_OK) == (run->js.error == NGX_HYBRID_JSON_VALID),
                "finish");
}


static void
fuzz_sane(fuzz_run_t *run, const uint8_t *data, size_t size)
{
    size_t                    sum;
    ngx_uint_t                i;
    ngx_hybrid_json_key_t    *key;
    ngx_hybrid_json_value_t  *value;

    fuzz_demand(run->js.offset >= 0 && (size_t) run->js.offset <= size,
                "offset");

    if (run->js.error) {
        fuzz_demand(ngx_strlen(ngx_hybrid_json_reason(&run->js)) > 0,
                    "reason");
        return;
    }

    sum = 0;

    for (i = 0; i < NKEYS + NMEMBERS; i++) {
        value = &run->values[i];
        key = (i < NKEYS) ? &keys[i] : &members[i - NKEYS];

        if (value->type == NGX_HYBRID_JSON_T_ABSENT) {
            continue;
        }

        fuzz_demand(value->start > 0 && value->start < value->end
                    && (size_t) value->end < size,
                    "range");

        fuzz_demand(value->len <= key->size, "length");
        fuzz_demand(value->len <= value->end - value->start, "raw length");
        fuzz_demand(value->data >= run->arena
                    && value->data + value->len <= run->arena + ARENA,
                    "arena");

        sum += value->len;

        switch (value->type) {

        case NGX_HYBRID_JSON_T_STRING:
            fuzz_demand(data[value->start] == '"'
                        && data[value->end - 1] == '"',
                        "quotes");
            break;

        case NGX_HYBRID_JSON_T_OBJECT:
            fuzz_demand(data[value->start] == '{'
                        && data[value->end - 1] == '}' && value->len == 0,
                        "object");
            break;

        case NGX_HYBRID_JSON_T_ARRAY:
            fuzz_demand(data[value->start] == '['
                        && data[value->end - 1] == ']' && value->len == 0,
                        "array");
            break;

        default:
            fuzz_demand(ngx_memcmp(data + value->start, value->data,
                                   value->len) == 0,
                        "raw text");
            fuzz_demand(value->overflow
                        || value->len == value->end - value->start,
                        "raw text, whole");
        }
    }

    fuzz_demand(sum <= ARENA, "sum");
}


static void
fuzz_same(fuzz_run_t *a, fuzz_run_t *b)
{
    ngx_uint_t                i;
    ngx_hybrid_json_value_t  *v, *w;

    fuzz_demand(a->js.error == b->js.error, "same error");
    fuzz_demand(a->js.offset == b->js.offset, "same offset");

    if (a->js.error) {
        return;
    }

    for (i = 0; i < NKEYS + NMEMBERS; i++) {
        v = &a->values[i];
        w = &b->values[i];

        fuzz_demand(v->type == w->type, "same type");

        if (v->type == NGX_HYBRID_JSON_T_ABSENT) {
            continue;
        }

        fuzz_demand(v->start == w->start && v->end == w->end, "same range");
        fuzz_demand(v->found == w->found, "same kinds");
        fuzz_demand(v->len == w->len && v->overflow == w->overflow,
                    "same length");
        fuzz_demand(ngx_memcmp(v->data, w->data, v->len) == 0, "same text");
    }
}


static void
fuzz_demand(ngx_uint_t ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "violated: %s\n", what);
        abort();
    }
}
