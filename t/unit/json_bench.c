
/* link: core/ngx_hybrid_json.c core/ngx_hybrid_json_key.c
 *       core/ngx_hybrid_json_token.c core/ngx_hybrid_json_skip.c
 */

/*
 * Prints the best of many runs: us/MiB for bodies of 4 MiB, whole and in
 * windows of 16 KiB, and ns for a chat body of 400 bytes.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_hybrid_json.h>

#include <stdio.h>
#include <stdlib.h>


#define SIZE    (4 * 1024 * 1024)
#define WINDOW  (16 * 1024)

#define NKEYS   (sizeof(keys) / sizeof(keys[0]))
#define ARENA   512


typedef u_char *(*bench_fill_pt)(u_char *p, u_char *last);


static double bench_now(void);
static uint32_t bench_random(void);
static u_char *bench_prose(u_char *p, u_char *last);
static u_char *bench_base64(u_char *p, u_char *last);
static u_char *bench_cjk(u_char *p, u_char *last);
static u_char *bench_accents(u_char *p, u_char *last);
static u_char *bench_hex(u_char *p, u_char *last);
static u_char *bench_numbers(u_char *p, u_char *last);
static u_char *bench_messages(u_char *p, u_char *last);
static void bench_scan(u_char *p, size_t len, size_t window);
static void bench_run(const char *name, bench_fill_pt fill,
    const char *before, const char *after);
static void bench_chat(void);


static uint32_t  seed = 1;


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
    { ngx_string("model"), 256, NULL, NULL, 0 },
    { ngx_string("name"), 256, NULL, NULL, 0 },
    { ngx_string("source"), 256, NULL, NULL, 0 },
    { ngx_string("destination"), 256, NULL, NULL, 0 },
    { ngx_string("from"), 256, NULL, NULL, 0 },
    { ngx_string("keep_alive"), 32, NULL, NULL, 0 },
    { ngx_string("stream"), 8, NULL, NULL, 0 },
    { ngx_string("tools"), 0, kinds, NULL, 0 },
    { ngx_string("options"), 0, NULL, members, NMEMBERS }
};


int
main(void)
{
    bench_run("prose, an escape every ~50 bytes", bench_prose,
              "{\"prompt\":\"", "\",\"model\":\"a\"}");
    bench_run("base64", bench_base64,
              "{\"images\":[\"", "\"],\"model\":\"a\"}");
    bench_run("CJK", bench_cjk, "{\"prompt\":\"", "\",\"model\":\"a\"}");
    bench_run("prose with accents", bench_accents,
              "{\"prompt\":\"", "\",\"model\":\"a\"}");
    bench_run("\\uXXXX only", bench_hex,
              "{\"prompt\":\"", "\",\"model\":\"a\"}");
    bench_run("array of numbers", bench_numbers,
              "{\"input\":[0", "],\"model\":\"a\"}");
    bench_run("short messages", bench_messages,
              "{\"messages\":[0", "],\"model\":\"a\"}");

    bench_chat();

    return 0;
}


static double
bench_now(void)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);

    return ts.tv_sec * 1e6 + ts.tv_nsec / 1e3;
}


static uint32_t
bench_random(void)
{
    seed = seed * 1664525 + 1013904223;

    return seed >> 8;
}


static u_char *
bench_prose(u_char *p, u_char *last)
{
    ngx_uint_t  n;

    while (last - p > 200) {

        for (n = 20 + bench_random() % 60; n; n--) {
            *p++ = (bench_random() % 6 == 0) ? ' ' : 'a' + bench_random() % 26;
        }

        *p++ = '\\';
        *p++ = "nn\"\"t\\"[bench_random() % 6];
    }

    return p;
}


static u_char *
bench_base64(u_char *p, u_char *last)
{
    while (p < last) {
        *p++ = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
               "0123456789+/"[bench_random() % 64];
    }

    return p;
}


static u_char *
bench_cjk(u_char *p, u_char *last)
{
    while (last - p > 3) {

        if (bench_random() % 40 == 0) {
            *p++ = '\\';
            *p++ = 'n';
            continue;
        }

        *p++ = 0xe4 + bench_random() % 5;
        *p++ = 0x80 + bench_random() % 64;
        *p++ = 0x80 + bench_random() % 64;
    }

    return p;
}


static u_char *
bench_accents(u_char *p, u_char *last)
{
    ngx_uint_t  n;

    while (last - p > 200) {

        for (n = 5 + bench_random() % 30; n; n--) {
            *p++ = (bench_random() % 6 == 0) ? ' ' : 'a' + bench_random() % 26;
        }

        *p++ = 0xc3;
        *p++ = 0x80 + bench_random() % 64;
    }

    return p;
}


static u_char *
bench_hex(u_char *p, u_char *last)
{
    while (last - p > 8) {
        p += sprintf((char *) p, "\\u%04x",
                     (int) (0x4e00 + bench_random() % 0x5000));
    }

    return p;
}


static u_char *
bench_numbers(u_char *p, u_char *last)
{
    while (last - p > 40) {
        p += sprintf((char *) p, ",%.*f", (int) (6 + bench_random() % 12),
                     (int) (bench_random() % 20000 - 10000) / 10007.0);
    }

    return p;
}


static u_char *
bench_messages(u_char *p, u_char *last)
{
    while (last - p > 200) {
        p += sprintf((char *) p, ",{\"role\":\"%s\",\"content\":\"%.*s\"}",
                     bench_random() % 2 ? "user" : "assistant",
                     (int) (bench_random() % 80),
                     "The quick brown fox jumps over the lazy dog and runs"
                     " back to where it has come from");
    }

    return p;
}


static void
bench_scan(u_char *p, size_t len, size_t window)
{
    size_t                   n;
    u_char                   arena[ARENA];
    ngx_hybrid_json_t        js;
    ngx_hybrid_json_value_t  values[NKEYS + NMEMBERS];

    (void) ngx_hybrid_json_init(&js, keys, NKEYS, values, arena, ARENA);

    while (len) {
        n = ngx_min(len, window);
        (void) ngx_hybrid_json_feed(&js, p, n);
        p += n;
        len -= n;
    }

    if (ngx_hybrid_json_finish(&js) != NGX_OK || values[0].len == 0) {
        printf("%s at %ld\n", ngx_hybrid_json_reason(&js), (long) js.offset);
        exit(1);
    }
}


static void
bench_run(const char *name, bench_fill_pt fill, const char *before,
    const char *after)
{
    double       start, best[2];
    u_char      *buf, *p;
    ngx_uint_t   i, n;

    buf = malloc(SIZE + 1024);

    if (buf == NULL) {
        exit(1);
    }

    p = ngx_cpymem(buf, before, ngx_strlen(before));
    p = fill(p, buf + SIZE);
    p = ngx_cpymem(p, after, ngx_strlen(after));

    best[0] = 1e9;
    best[1] = 1e9;

    for (i = 0; i < 200; i++) {
        n = i & 1;
        start = bench_now();
        bench_scan(buf, p - buf, n ? WINDOW : SIZE + 1024);
        best[n] = ngx_min(best[n], bench_now() - start);
    }

    printf("%-34s %7.1f us/MiB whole %7.1f in windows\n", name,
           best[0] / (p - buf) * 1048576, best[1] / (p - buf) * 1048576);

    free(buf);
}


static void
bench_chat(void)
{
    double      start, best;
    u_char     *buf;
    ngx_uint_t  i, n;

    static char  body[] =
        "{\"model\":\"llama3.2:latest\",\"messages\":[{\"role\":\"system\","
        "\"content\":\"You are a helpful assistant. Answer briefly.\"},"
        "{\"role\":\"user\",\"content\":\"Why is the sky blue?\\nAnd why "
        "is it red in the evening?\"},{\"role\":\"assistant\",\"content\":"
        "\"Because of \\\"Rayleigh scattering\\\".\"},{\"role\":\"user\","
        "\"content\":\"Explain it to a child.\"}],\"stream\":true,"
        "\"options\":{\"temperature\":0.7,\"num_ctx\":4096,\"seed\":42},"
        "\"keep_alive\":\"5m\"}";

    /* nothing behind it, as in a buffer that is full */

    buf = malloc(sizeof(body) - 1);

    if (buf == NULL) {
        exit(1);
    }

    ngx_memcpy(buf, body, sizeof(body) - 1);
    best = 1e9;

    for (i = 0; i < 200; i++) {
        start = bench_now();

        for (n = 0; n < 1000; n++) {
            bench_scan(buf, sizeof(body) - 1, sizeof(body));
        }

        best = ngx_min(best, bench_now() - start);
    }

    printf("%-34s %7.1f ns, %d bytes\n", "chat", best, (int) sizeof(body) - 1);
    printf("%-34s %7d bytes and %d a key\n", "size of a scanner",
           (int) sizeof(ngx_hybrid_json_t),
           (int) sizeof(ngx_hybrid_json_value_t));

    free(buf);
}
