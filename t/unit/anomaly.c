
/* link: stats/ngx_hybrid_anomaly.c core/ngx_hybrid_window.c */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_hybrid_anomaly.h>
#include <ngx_hybrid_window.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tap.h"


/* the clock wraps in the middle of each test */
#define START  ((ngx_msec_t) -5000)


static void test_life(void);
static void test_labels(void);
static void test_full(void);
static void test_clients(void);
static void test_text(void);
static void test_turn(void);
static void test_size(void);
static void test_window(void);
static void test_window_gap(void);
static void test_window_clock(void);
static ngx_int_t test_tell(ngx_hybrid_anomaly_e kind, const char *backend,
    const char *path, const char *text);
static ngx_uint_t test_there(void);
static ngx_uint_t test_ended(ngx_hybrid_anomaly_place_t *copy);
static void test_new(ngx_uint_t n);


volatile ngx_msec_t  ngx_current_msec;

static ngx_hybrid_anomalies_t  *table;
static ngx_shmtx_t              mutex;
static ngx_int_t                locked;


int
main(void)
{
    test_life();
    test_labels();
    test_full();
    test_clients();
    test_text();
    test_turn();
    test_size();
    test_window();
    test_window_gap();
    test_window_clock();

    test_ok(locked == 0, "every lock was released");

    return tap_end();
}


static void
test_life(void)
{
    ngx_uint_t                   i;
    ngx_hybrid_anomaly_t         read;
    ngx_hybrid_anomaly_place_t   copy;

    test_new(4);

    test_ok(test_there() == 0, "a new table is empty");

    ngx_hybrid_anomaly_begin(table);
    test_ok(test_tell(ngx_hybrid_anomaly_wedged, "forge", "", "one")
            == NGX_OK, "one begins");
    test_ok(test_tell(ngx_hybrid_anomaly_wedged, "forge", "", "two")
            == NGX_DONE, "told again it is the same");
    test_ok(test_ended(NULL) == 0, "nothing is over");

    ngx_hybrid_anomaly_begin(table);
    test_ok(test_tell(ngx_hybrid_anomaly_wedged, "forge", "", "three")
            == NGX_DONE, "and in the next pass");
    test_ok(test_ended(NULL) == 0, "it lasts");
    test_ok(test_there() == 1, "and is there");

    i = 0;
    (void) ngx_hybrid_anomaly_next(table, &mutex, &i, &copy);
    ngx_hybrid_anomaly_read(&copy, &read);

    test_ok(read.text.len == 5 && memcmp(read.text.data, "three", 5) == 0,
            "with the last text");
    test_ok(read.since == 1000, "since it began");

    ngx_hybrid_anomaly_begin(table);
    test_ok(test_ended(&copy) == 1, "what was not told of is over");
    test_ok(copy.kind == ngx_hybrid_anomaly_wedged && copy.len[0] == 5,
            "it is told which");
    test_ok(test_ended(NULL) == 0, "once");
    test_ok(test_there() == 0, "and is gone");

    ngx_hybrid_anomaly_begin(table);
    test_ok(test_tell(ngx_hybrid_anomaly_wedged, "forge", "", "four")
            == NGX_OK, "it begins anew");

    /* a pass is never 0: that is a free place */

    table->pass = (ngx_uint_t) -1;
    ngx_hybrid_anomaly_begin(table);
    (void) test_tell(ngx_hybrid_anomaly_wedged, "forge", "", "five");
    test_ok(test_there() == 1, "passes may wrap");
}


static void
test_labels(void)
{
    u_char                long_name[NGX_HYBRID_ANOMALY_LABELS + 1];
    ngx_uint_t            i;
    ngx_hybrid_anomaly_t  anomaly;

    test_new(8);
    ngx_hybrid_anomaly_begin(table);

    (void) test_tell(ngx_hybrid_anomaly_probe_slow, "ab", "c", "");

    test_ok(test_tell(ngx_hybrid_anomaly_probe_slow, "a", "bc", "")
            == NGX_OK, "labels do not run into each other");
    test_ok(test_tell(ngx_hybrid_anomaly_path_flapping, "ab", "c", "")
            == NGX_OK, "another kind is another one");
    test_ok(test_tell(ngx_hybrid_anomaly_probe_slow, "abc", "", "")
            == NGX_OK, "and so is one without a path");
    test_ok(test_there() == 4, "all are there");

    memset(long_name, 'x', sizeof(long_name));
    memset(&anomaly, 0, sizeof(anomaly));

    anomaly.labels[ngx_hybrid_anomaly_client].data = long_name;
    anomaly.labels[ngx_hybrid_anomaly_client].len = sizeof(long_name);

    test_ok(ngx_hybrid_anomaly_tell(table, &mutex, &anomaly, 1000)
            == NGX_DECLINED, "labels that are too long are refused");

    anomaly.labels[ngx_hybrid_anomaly_client].len--;
    anomaly.since = 77;

    test_ok(ngx_hybrid_anomaly_tell(table, &mutex, &anomaly, 1000) == NGX_OK,
            "the longest fit");

    for (i = 0; i < table->n; i++) {
        if (table->places[i].since == 77) {
            break;
        }
    }

    test_ok(i < table->n, "the beginning may be told");
}


static void
test_full(void)
{
    ngx_uint_t  i;
    char        name[8];

    test_new(4);
    ngx_hybrid_anomaly_begin(table);

    for (i = 0; i < 4; i++) {
        snprintf(name, sizeof(name), "b%u", (unsigned) i);
        (void) test_tell(ngx_hybrid_anomaly_wedged, name, "", "");
    }

    test_ok(test_tell(ngx_hybrid_anomaly_wedged, "more", "", "")
            == NGX_DECLINED, "no place is left");
    test_ok(test_tell(ngx_hybrid_anomaly_wedged, "b2", "", "") == NGX_DONE,
            "those that are there go on");

    table->full = 1;
    ngx_hybrid_anomaly_begin(table);
    (void) test_tell(ngx_hybrid_anomaly_wedged, "b1", "", "");
    test_ok(test_ended(NULL) == 3, "three are over");
    test_ok(test_tell(ngx_hybrid_anomaly_wedged, "more", "", "") == NGX_OK,
            "and make room");
    test_ok(table->full == 0, "which is told of when it is full again");
}


/* a quarter of the places is not for clients */

static void
test_clients(void)
{
    ngx_uint_t            i, n;
    char                  name[8];
    ngx_hybrid_anomaly_t  anomaly;

    test_new(8);
    ngx_hybrid_anomaly_begin(table);

    for (i = 0, n = 0; i < 8; i++) {
        snprintf(name, sizeof(name), "c%u", (unsigned) i);
        ngx_memzero(&anomaly, sizeof(ngx_hybrid_anomaly_t));
        anomaly.kind = ngx_hybrid_anomaly_credential_expires;
        anomaly.labels[ngx_hybrid_anomaly_client].data = (u_char *) name;
        anomaly.labels[ngx_hybrid_anomaly_client].len = strlen(name);
        n += ngx_hybrid_anomaly_tell(table, &mutex, &anomaly, 1) == NGX_OK;
    }

    test_ok(n == 6, "clients have three quarters");
    test_ok(test_tell(ngx_hybrid_anomaly_backend_down, "b1", "", "")
            == NGX_OK, "a machine that is down has a place");
    test_ok(test_tell(ngx_hybrid_anomaly_backend_down, "b2", "", "")
            == NGX_OK, "and another one");
    test_ok(test_tell(ngx_hybrid_anomaly_backend_down, "b3", "", "")
            == NGX_DECLINED, "until all are taken");
}


static void
test_text(void)
{
    u_char                       text[NGX_HYBRID_ANOMALY_TEXT + 10];
    ngx_uint_t                   i;
    ngx_hybrid_anomaly_t         anomaly, read;
    ngx_hybrid_anomaly_place_t   copy;

    test_new(4);
    ngx_hybrid_anomaly_begin(table);
    (void) test_tell(ngx_hybrid_anomaly_wedged, "b", "", "\"a\\b\n\x80\x7f");

    i = 0;
    (void) ngx_hybrid_anomaly_next(table, &mutex, &i, &copy);
    ngx_hybrid_anomaly_read(&copy, &read);

    test_ok(read.text.len == 7
            && memcmp(read.text.data, "'a'b...", 7) == 0,
            "what JSON would have to escape is not in a text");

    memset(text, 'x', sizeof(text));
    memset(&anomaly, 0, sizeof(anomaly));
    anomaly.text.data = text;
    anomaly.text.len = sizeof(text);

    (void) ngx_hybrid_anomaly_tell(table, &mutex, &anomaly, 1);
    i = 1;
    (void) ngx_hybrid_anomaly_next(table, &mutex, &i, &copy);
    test_ok(copy.ntext == NGX_HYBRID_ANOMALY_TEXT, "a long text is cut");
}


static void
test_turn(void)
{
    test_new(4);

    test_ok(ngx_hybrid_anomaly_turn(table, 1, 10000, 0), "the first turn");
    test_ok(!ngx_hybrid_anomaly_turn(table, 1, 10000, 5),
            "also at the clock's zero");

    test_new(4);

    test_ok(ngx_hybrid_anomaly_turn(table, 1, 10000, START), "a turn");
    test_ok(!ngx_hybrid_anomaly_turn(table, 1, 10000, START + 9999),
            "not before the interval is over");
    test_ok(ngx_hybrid_anomaly_turn(table, 1, 1000, START + 2000),
            "unless somebody asks");
    test_ok(!ngx_hybrid_anomaly_turn(table, 1, 10000, START + 11999),
            "which counts as one");
    test_ok(ngx_hybrid_anomaly_turn(table, 1, 10000, START + 12000),
            "then again");
    test_ok(!ngx_hybrid_anomaly_turn(table, 1, 10000, START + 11990),
            "clocks may differ");

    test_ok(ngx_hybrid_anomaly_turn(table, 3, 10000, START + 22000),
            "a newer configuration");
    test_ok(!ngx_hybrid_anomaly_turn(table, 1, 10000, START + 90000),
            "ends what the older one sees");
    test_ok(ngx_hybrid_anomaly_turn(table, 3, 10000, START + 90000),
            "and goes on itself");
}


static void
test_size(void)
{
    size_t      size;
    ngx_uint_t  n;

    size = ngx_hybrid_anomaly_size(16 * 1024 * 1024, &n);
    test_ok(n == NGX_HYBRID_ANOMALY_MAX, "all in a zone of 16m");
    test_ok(size >= n * sizeof(ngx_hybrid_anomaly_place_t), "they fit");

    size = ngx_hybrid_anomaly_size(512 * 1024, &n);
    test_ok(n == NGX_HYBRID_ANOMALY_MIN, "a few in a small one");
    test_ok(size <= 16 * 1024, "which are a small part of it");

    test_ok(ngx_hybrid_anomaly_names[ngx_hybrid_anomaly_n - 1].len
            == sizeof("backend_down") - 1, "all have a name");
}


static void
test_window(void)
{
    ngx_uint_t           i, over;
    ngx_atomic_uint_t    total, n;
    ngx_hybrid_window_t  window;

    memset(&window, 0, sizeof(window));

    test_ok(ngx_hybrid_window_count(&window, 3, 1200, START) == 3,
            "what came before the first look counts");

    /* one in each 100 msec, looked at ten times as often */

    total = 3;
    over = 0;

    for (i = 1; i < 400; i++) {

        if (i % 10 == 0) {
            total++;
        }

        n = ngx_hybrid_window_count(&window, total, 1200, START + i * 10);

        if (i >= 240 && (n < 11 || n > 13)) {
            over++;
        }
    }

    test_ok(over == 0, "a steady stream: as many as there are in a window");

    for (i = 400; i < 520; i++) {
        n = ngx_hybrid_window_count(&window, total, 1200, START + i * 10);
    }

    test_ok(n == 0, "none comes any more: none is left after the window");
}


static void
test_window_gap(void)
{
    ngx_hybrid_window_t  window;

    memset(&window, 0, sizeof(window));

    (void) ngx_hybrid_window_count(&window, 5, 1200, START);

    test_ok(ngx_hybrid_window_count(&window, 9, 1200, START + 1000000) == 4,
            "after a long gap: what is new");
    test_ok(ngx_hybrid_window_count(&window, 9, 1200, START + 1001300) == 0,
            "and then that is old, too");

    memset(&window, 0, sizeof(window));

    (void) ngx_hybrid_window_count(&window, (ngx_atomic_uint_t) 0, 1200,
                                   START);
    test_ok(ngx_hybrid_window_count(&window, 7, 1200, START + 1100) == 7,
            "all of a window");
    test_ok(ngx_hybrid_window_count(&window, 7, 1200, START + 2100) == 7,
            "is still there when most of it is over");
    test_ok(ngx_hybrid_window_count(&window, 7, 1200, START + 2400) == 0,
            "and not when it is over");
}


static void
test_window_clock(void)
{
    ngx_hybrid_window_t  window;

    memset(&window, 0, sizeof(window));

    (void) ngx_hybrid_window_count(&window, 1, 1200, START);
    test_ok(ngx_hybrid_window_count(&window, 2, 1200, START - 7) == 2,
            "another worker's clock is a moment behind");
    test_ok(ngx_hybrid_window_count(&window, 2, 1200, START + 1) == 2,
            "nothing is lost by that");
}


static ngx_int_t
test_tell(ngx_hybrid_anomaly_e kind, const char *backend, const char *path,
    const char *text)
{
    ngx_hybrid_anomaly_t  anomaly;

    memset(&anomaly, 0, sizeof(anomaly));

    anomaly.kind = kind;
    anomaly.labels[ngx_hybrid_anomaly_backend].data = (u_char *) backend;
    anomaly.labels[ngx_hybrid_anomaly_backend].len = strlen(backend);
    anomaly.labels[ngx_hybrid_anomaly_path].data = (u_char *) path;
    anomaly.labels[ngx_hybrid_anomaly_path].len = strlen(path);
    anomaly.text.data = (u_char *) text;
    anomaly.text.len = strlen(text);

    return ngx_hybrid_anomaly_tell(table, &mutex, &anomaly, 1000);
}


static ngx_uint_t
test_there(void)
{
    ngx_uint_t                  i, n;
    ngx_hybrid_anomaly_place_t  copy;

    i = 0;
    n = 0;

    while (ngx_hybrid_anomaly_next(table, &mutex, &i, &copy)) {
        n++;
    }

    return n;
}


static ngx_uint_t
test_ended(ngx_hybrid_anomaly_place_t *copy)
{
    ngx_uint_t                  i, n;
    ngx_hybrid_anomaly_place_t  own;

    i = 0;
    n = 0;

    while (ngx_hybrid_anomaly_ended(table, &mutex, &i, copy ? copy : &own)) {
        n++;
    }

    return n;
}


static void
test_new(ngx_uint_t n)
{
    free(table);

    table = calloc(1, sizeof(ngx_hybrid_anomalies_t)
                      + n * sizeof(ngx_hybrid_anomaly_place_t));
    if (table == NULL) {
        abort();
    }

    ngx_hybrid_anomaly_init(table, n);
}


void
ngx_shmtx_lock(ngx_shmtx_t *m)
{
    locked++;
}


void
ngx_shmtx_unlock(ngx_shmtx_t *m)
{
    locked--;
}


uint32_t
ngx_murmur_hash2(u_char *data, size_t len)
{
    return (uint32_t) len;
}
