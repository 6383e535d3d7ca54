
/* link: stats/ngx_hybrid_history.c stats/ngx_hybrid_history_text.c */

/* A minute as it is written to Redis, read from there, and shown. */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_hybrid_history.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "tap.h"


#define MINUTE   29875512
#define CELLS    4000

#define GATEWAY  "0123456789abcdef"


static void test_text(void);
static void test_wrong(void);
static void test_room(void);
static void test_fields(void);
static void test_cost(void);
static uint64_t test_sum(void);
static ngx_int_t test_labels(void *data, ngx_uint_t series,
    ngx_str_t *labels);
static size_t test_write(size_t size);
static ngx_uint_t test_wrong_at(const char *text, size_t len);
static void test_new(ngx_uint_t n);


volatile ngx_time_t   *ngx_cached_time;

static ngx_time_t                   now;
static ngx_shmtx_t                  mutex;
static ngx_hybrid_history_t        *history;
static ngx_hybrid_history_cell_t    cells[CELLS];
static ngx_hybrid_history_state_t   state;
static u_char                       text[NGX_HYBRID_HISTORY_TEXT];
static const char                  *model;


int
main(void)
{
    now.sec = (time_t) MINUTE * 60 + 7;
    ngx_cached_time = &now;
    state.cells = cells;

    test_text();
    test_wrong();
    test_room();
    test_fields();
    test_cost();

    free(history);

    return tap_end();
}


static void
test_text(void)
{
    u_char     *p, json[1024];
    size_t      size, need;
    uint32_t    lost;
    ngx_str_t   s;

    static const char  expected[] =
        "1 0000000006 0000000001\n"
        "client0 backend0 mistral:7b 0.463:1 6.210:4294967295\n"
        "client2 backend2 mistral:7b 0.7:5 10.0:3\n";

    static const char  expected_json[] =
        "[\"client0\",\"backend0\",\"mistral:7b\","
        "\"0.463:1 6.210:4294967295\"],"
        "[\"client2\",\"backend2\",\"mistral:7b\",\"0.7:5 10.0:3\"]";

    test_new(100);
    model = "mistral:7b";

    ngx_hybrid_history_add(history, 2, 10, 0, 3);
    ngx_hybrid_history_add(history, 0, 0, 463, 1);
    ngx_hybrid_history_add(history, 2, 0, 7, 5);
    ngx_hybrid_history_add(history, 0, 6, 210, 0xffffffff);
    ngx_hybrid_history_add(history, 0, 77, 0, 1);
    ngx_hybrid_history_add(history, 2, 10, 1, 0);
    ngx_hybrid_history_add(history, 0, 10, 1, 0);

    /* not in the text: another one's labels are gone */

    ngx_hybrid_history_add(history, 999, 10, 0, 5);

    size = test_write(sizeof(text));
    text[22] = '1';

    test_ok(size == sizeof(expected) - 1
            && ngx_memcmp(text, expected, size) == 0, "as text");

    s.data = text;
    s.len = size;

    test_ok(ngx_hybrid_history_check(&s, &lost, &need) == NGX_OK
            && lost == 1, "which is well");

    p = ngx_hybrid_history_json(json, &s);

    test_ok((size_t) (p - json) == sizeof(expected_json) - 1
            && ngx_memcmp(json, expected_json, p - json) == 0
            && (size_t) (p - json) <= need, "and as JSON");

    s.len = 24;
    test_ok(ngx_hybrid_history_check(&s, &lost, &need) == NGX_OK
            && ngx_hybrid_history_json(json, &s) == json, "nothing in it");

    for (size = 0; size < sizeof(expected) - 1; size++) {
        if (!test_wrong_at(expected, size) && size != 24 && size != 77) {
            break;
        }
    }

    test_ok(size == sizeof(expected) - 1, "each part of it is wrong");

    test_new(100);
    model = "bad\"name";
    ngx_hybrid_history_add(history, 1, 10, 0, 5);
    size = test_write(sizeof(text));
    test_ok(size == 24 && ngx_memcmp(text + 13, "0000000005", 10) == 0,
            "a name that can't be written is lost, and said to be");
    model = "mistral:7b";
}


static void
test_wrong(void)
{
    size_t       n;
    const char  *line;
    char         whole[1024];
    ngx_uint_t   i;

    static const char  *lines[] = {
        "", "a", "a b", "a b c", "a b c ", " b c 0.0:1", "a  c 0.0:1",
        "a b  0.0:1", "a b c 0.0:1 ", "a b c  0.0:1", "a b c 0.0",
        "a b c 0.0:", "a b c 0:1", "a b c .0:1", "a b c 0.:1",
        "a b c 11.0:1", "a b c 000.0:1", "a b c 0.464:1", "a b c 0.0000:1",
        "a b c 0.0:4294967296", "a b c 0.0:00000000001", "a b c 0.0:-1",
        "a b c 0.0:+1", "a b c 0.0:1,", "a b c 0.0:1\t1.0:1", "a b c 0.0:1\r",
        "a\" b c 0.0:1", "a b\\ c 0.0:1", "a b c\x7f 0.0:1",
        "a b c\xc3\xa4 0.0:1", "a b c 0.0:1\n", "a\tb c d 0.0:1",
        "a b c 0.0:1 x", "a b c 0.0:1 1.0:1 \"", "a b c 0x0.0:1",
        "0123456789012345678901234567890123456789012345678901234567890123x"
        " b c 0.0:1", "a b c 0.0:1 1.0", NULL
    };

    static const char  *heads[] = {
        "2 0000000006 0000000001\n", "1 000000000x 0000000001\n",
        "1 0000000006 00000000-1\n", "1 0000000006 9999999999\n",
        "1 0000000006 0000000001 ", "1 0000000006,0000000001\n",
        "100000000006 0000000001\n", "", NULL
    };

    n = sprintf(whole, "1 0000000006 0000000001\na b c 0.0:1\n");
    test_ok(!test_wrong_at(whole, n), "a line");

    for (i = 0; lines[i]; i++) {
        line = lines[i];
        n = sprintf(whole, "1 0000000006 0000000001\na b c 0.0:1\n%s\n", line);

        if (!test_wrong_at(whole, n)) {
            printf("# \"%s\"\n", line);
            break;
        }
    }

    test_ok(lines[i] == NULL, "lines of others");

    for (i = 0; heads[i]; i++) {
        n = sprintf(whole, "%sa b c 0.0:1\n", heads[i]);

        if (!test_wrong_at(whole, n)) {
            printf("# \"%s\"\n", heads[i]);
            break;
        }
    }

    test_ok(heads[i] == NULL, "beginnings of others");
}


/* a text that does not fit ends with a series */

static void
test_room(void)
{
    size_t      size, n, need;
    uint32_t    lost;
    uint64_t    all;
    ngx_str_t   s;
    ngx_uint_t  i;

    test_new(4000);

    for (i = 0; i < 3000; i++) {
        ngx_hybrid_history_add(history, i / 6, i % 11, i % 464, i + 1);
    }

    all = test_sum();

    test_ok(ngx_hybrid_history_text_size(4000) <= sizeof(text)
            && ngx_hybrid_history_text_size(100000) == sizeof(text),
            "a buffer for it");

    for (size = 24; size < 70000; size = size * 5 / 4) {

        n = test_write(size);
        s.data = text;
        s.len = n;

        if (n > size || ngx_hybrid_history_check(&s, &lost, &need) != NGX_OK
            || (size < 30000 && (lost == 0 || lost > all)))
        {
            break;
        }
    }

    test_ok(size >= 70000 && lost == 0, "what finds no room");
}


static void
test_fields(void)
{
    uint32_t    minute;
    ngx_str_t   field, gateway;
    ngx_uint_t  i;

    static const char  *wrong[] = {
        "", ":", ":" GATEWAY, "29875512", "29875512:", "x9875512:" GATEWAY,
        "29875512:" GATEWAY "0", "29875512:0123456789abcde",
        "29875512:0123456789abcdeF", "29875512:0123456789abcd\"f",
        "4294967296:" GATEWAY, "029875512:" GATEWAY, "0:" GATEWAY,
        "-1:" GATEWAY, "29875512::123456789abcdef", " 29875512:" GATEWAY,
        "00000000029875512:" GATEWAY, NULL
    };

    ngx_str_set(&field, "29875512:" GATEWAY);

    test_ok(ngx_hybrid_history_field(&field, &minute, &gateway) == NGX_OK
            && minute == 29875512
            && ngx_strncmp(gateway.data, GATEWAY, 16) == 0, "a field");

    for (i = 0; wrong[i]; i++) {
        field.data = (u_char *) wrong[i];
        field.len = strlen(wrong[i]);

        if (ngx_hybrid_history_field(&field, &minute, &gateway) == NGX_OK) {
            printf("# \"%s\"\n", wrong[i]);
            break;
        }
    }

    test_ok(wrong[i] == NULL, "those of others");
}


/* told, not tested: a machine may be busy */

static void
test_cost(void)
{
    size_t            size, need;
    uint32_t          lost;
    ngx_str_t         s;
    ngx_uint_t        i;
    struct timespec   from, to;

    static u_char  json[2 * NGX_HYBRID_HISTORY_TEXT];

    model = "qwen2.5-coder:32b";

    test_new(CELLS);

    for (i = 0; i < 1000; i++) {
        ngx_hybrid_history_add(history, i / 13, i % 13 % 11, i % 300, 1);
    }

    clock_gettime(CLOCK_MONOTONIC, &from);

    for (i = 0; i < 100; i++) {
        size = test_write(sizeof(text));
    }

    clock_gettime(CLOCK_MONOTONIC, &to);

    printf("# %.1f us to write a minute of %u cells, %u bytes\n",
           (to.tv_sec - from.tv_sec) * 1e4
           + (to.tv_nsec - from.tv_nsec) / 1e5,
           (unsigned) state.n, (unsigned) size);

    s.data = text;
    s.len = size;

    clock_gettime(CLOCK_MONOTONIC, &from);

    for (i = 0; i < 100; i++) {
        if (ngx_hybrid_history_check(&s, &lost, &need) == NGX_OK) {
            (void) ngx_hybrid_history_json(json, &s);
        }
    }

    clock_gettime(CLOCK_MONOTONIC, &to);

    printf("# %.1f us to check and to show it\n",
           (to.tv_sec - from.tv_sec) * 1e4
           + (to.tv_nsec - from.tv_nsec) / 1e5);
}


static uint64_t
test_sum(void)
{
    uint64_t    sum;
    ngx_uint_t  i;

    (void) ngx_hybrid_history_read(history, MINUTE % 64, &state);

    for (i = 0, sum = 0; i < state.n; i++) {
        sum += state.cells[i].count;
    }

    return sum;
}


static ngx_int_t
test_labels(void *data, ngx_uint_t series, ngx_str_t *labels)
{
    static char  client[32], backend[32];

    if (series == 999) {
        return NGX_DECLINED;
    }

    labels[0].data = (u_char *) client;
    labels[0].len = sprintf(client, "client%u", (unsigned) series);
    labels[1].data = (u_char *) backend;
    labels[1].len = sprintf(backend, "backend%u", (unsigned) series);
    labels[2].data = (u_char *) model;
    labels[2].len = strlen(model);

    return NGX_OK;
}


static size_t
test_write(size_t size)
{
    if (ngx_hybrid_history_read(history, MINUTE % 64, &state) != NGX_OK) {
        return 0;
    }

    return ngx_hybrid_history_write(&state, test_labels, NULL, text, size);
}


/* in memory of just that size */

static ngx_uint_t
test_wrong_at(const char *data, size_t len)
{
    size_t      size;
    uint32_t    lost;
    ngx_str_t   s;
    ngx_int_t   rc;

    s.data = malloc(len ? len : 1);
    if (s.data == NULL) {
        exit(1);
    }

    ngx_memcpy(s.data, data, len);
    s.len = len;

    rc = ngx_hybrid_history_check(&s, &lost, &size);

    free(s.data);

    return rc != NGX_OK;
}


static void
test_new(ngx_uint_t n)
{
    free(history);

    history = calloc(1, sizeof(ngx_hybrid_history_t)
                        + n * NGX_HYBRID_HISTORY_MINUTES
                          * sizeof(ngx_hybrid_history_cell_t));
    if (history == NULL) {
        exit(1);
    }

    ngx_hybrid_history_init(history, n, &mutex);
}


void
ngx_shmtx_lock(ngx_shmtx_t *mtx)
{
}


void
ngx_shmtx_unlock(ngx_shmtx_t *mtx)
{
}
