
/* link: core/ngx_hybrid_series.c stats/ngx_hybrid_histogram.c */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_hybrid_series.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tap.h"


#define SIZE     (256 * 1024)
#define WORKERS  4
#define ROUNDS   20000


typedef struct {
    ngx_slab_pool_t         shpool;
    ngx_hybrid_series_sh_t  sh;
    ngx_atomic_t            lock;
    size_t                  used;
    u_char                  memory[2 * SIZE];
} test_shared_t;


static void test_labels(void);
static void test_numbers(void);
static void test_room(void);
static void test_octaves(void);
static void test_workers(void);
static void test_work(ngx_uint_t worker);
static void test_new(void);
static ngx_hybrid_series_t *test_get(const char *client, const char *backend,
    const char *model);
static uint64_t test_sum(ngx_hybrid_series_t *series, ngx_uint_t table);


static test_shared_t  *shared;


int
main(void)
{
    shared = mmap(NULL, sizeof(test_shared_t), PROT_READ|PROT_WRITE,
                  MAP_SHARED|MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        return 1;
    }

    test_labels();
    test_numbers();
    test_room();
    test_octaves();
    test_workers();

    return tap_end();
}


static void
test_labels(void)
{
    char                  name[300];
    ngx_str_t             client, backend, model;
    ngx_hybrid_series_t  *series;

    test_new();

    series = test_get("alice", "forge", "mistral:7b");

    ngx_hybrid_series_labels(series, &client, &backend, &model);

    test_ok(client.len == 5 && memcmp(client.data, "alice", 5) == 0
            && backend.len == 5 && memcmp(backend.data, "forge", 5) == 0
            && model.len == 10 && memcmp(model.data, "mistral:7b", 10) == 0,
            "the parts of its key");

    test_ok(test_get("alice", "forge", "mistral:7b") == series,
            "a series is found again");
    test_ok(test_get("alic", "eforge", "mistral:7b") != series
            && test_get("alice", "forge", "mistral:7") != series,
            "others are others");

    memset(name, 'n', sizeof(name));
    name[NGX_HYBRID_LABEL_MAX + 1] = '\0';

    series = test_get(name, "forge", "m");
    ngx_hybrid_series_labels(series, &client, &backend, &model);
    test_ok(client.len == 5 && memcmp(client.data, "other", 5) == 0,
            "a name that is too long is another");
}


static void
test_numbers(void)
{
    ngx_uint_t            i;
    ngx_hybrid_octave_t  *octave;
    ngx_hybrid_series_t  *series;

    test_new();

    series = test_get("alice", "forge", "m");

    for (i = 0; i < 10; i++) {
        ngx_hybrid_series_time(&shared->sh, series, ngx_hybrid_timer_load,
                               800000);
    }

    ngx_hybrid_series_time(&shared->sh, series, ngx_hybrid_timer_load, 0);
    ngx_hybrid_series_count(&shared->sh, series, ngx_hybrid_table_refusals, 17);

    i = ngx_hybrid_histogram_index(800000);
    octave = ngx_hybrid_series_octave(&shared->sh, series,
                                      ngx_hybrid_timer_load,
                                      i / NGX_HYBRID_OCTAVE);

    test_ok(octave && octave->now[i % NGX_HYBRID_OCTAVE] == 10,
            "times are in their bucket");
    test_ok(series->now.sums[ngx_hybrid_timer_load] == 8000000, "their sum");
    test_ok(test_sum(series, ngx_hybrid_timer_load) == 11, "all of them");
    test_ok(test_sum(series, ngx_hybrid_table_refusals) == 1, "a reason");
    test_ok(test_sum(series, ngx_hybrid_timer_total) == 0
            && ngx_hybrid_series_octave(&shared->sh, series,
                                        ngx_hybrid_timer_total, 0) == NULL,
            "what was not counted takes no memory");
    test_ok(shared->sh.noctaves == 3, "three octaves are used");
}


static void
test_room(void)
{
    char                  name[32];
    ngx_uint_t            i, other, last;
    ngx_str_t             client, backend, model;
    ngx_hybrid_series_t  *series;

    test_new();

    other = 0;
    last = 0;

    for (i = 0; i < shared->sh.max * 2; i++) {
        sprintf(name, "m%u", (unsigned) i);
        series = test_get("alice", "forge", name);

        ngx_hybrid_series_labels(series, &client, &backend, &model);

        if (model.len == 5 && memcmp(model.data, "other", 5) == 0) {
            other++;
        }

        sprintf(name, "c%u", (unsigned) i);
        series = test_get(name, "forge", "m");

        ngx_hybrid_series_labels(series, &client, &backend, &model);

        if (client.len == 5 && memcmp(client.data, "other", 5) == 0) {
            last++;
        }
    }

    test_ok(shared->sh.n <= shared->sh.max, "no more series than there may");
    test_ok(other > shared->sh.max && last > shared->sh.max,
            "the rest is \"other\"");
    test_ok(test_get("alice", "forge", "m0") != test_get("a", "b", "c"),
            "the first ones stay");
}


static void
test_octaves(void)
{
    char                  name[32];
    uint64_t              us, own, sums;
    ngx_uint_t            i, t, n;
    ngx_hybrid_series_t  *series, *other;

    test_new();

    own = 0;
    n = 0;
    sums = 0;

    for (i = 0; i < shared->sh.max - 16; i++) {
        sprintf(name, "m%u", (unsigned) i);
        series = test_get("alice", "forge", name);

        for (t = 0; t < ngx_hybrid_timer_n; t++) {
            for (us = 1; us < NGX_HYBRID_HISTOGRAM_MAX; us *= 2) {
                ngx_hybrid_series_time(&shared->sh, series, t, us);
                n++;
                sums += us;
            }
        }

    }

    for (i = 0; i < shared->sh.n; i++) {
        series = &shared->sh.elts[i];

        for (t = 0; t < ngx_hybrid_timer_n; t++) {
            own += test_sum(series, t);
            sums -= series->now.sums[t];
        }
    }

    other = test_get("other", "other", "other");

    test_ok(shared->sh.noctaves <= shared->sh.max_octaves,
            "no more octaves than there may");
    test_ok(own == n, "no time is lost: what finds no room is in \"other\"");
    test_ok(sums == 0, "and its sum");
    test_ok(test_sum(other, ngx_hybrid_timer_total) > 0
            && shared->sh.misplaced > 0, "that was so, and is known");
    test_ok(shared->sh.n < shared->sh.max / 2,
            "those that are there find room, rather than new ones");
}


static void
test_workers(void)
{
    int                   status, bad;
    pid_t                 pids[WORKERS];
    ngx_uint_t            i;
    ngx_hybrid_series_t  *series;

    test_new();

    for (i = 0; i < WORKERS; i++) {
        pids[i] = fork();

        if (pids[i] == 0) {
            test_work(i);
            _exit(0);
        }
    }

    bad = 0;

    for (i = 0; i < WORKERS; i++) {
        bad |= (waitpid(pids[i], &status, 0) != pids[i] || status != 0);
    }

    series = test_get("alice", "forge", "m");

    test_ok(!bad, "workers ended");
    test_ok(shared->sh.n == 1, "they have made one series");
    test_ok(test_sum(series, ngx_hybrid_timer_total) == WORKERS * ROUNDS,
            "and lost no time");
    test_ok(series->now.sums[ngx_hybrid_timer_total]
            == (uint64_t) WORKERS * ROUNDS * (ROUNDS - 1) / 2, "in its sum");
    test_ok(shared->lock == 0, "every lock was released");
}


static void
test_work(ngx_uint_t worker)
{
    ngx_uint_t            i;
    ngx_hybrid_series_t  *series;

    for (i = 0; i < ROUNDS; i++) {
        series = test_get("alice", "forge", "m");
        ngx_hybrid_series_time(&shared->sh, series, ngx_hybrid_timer_total, i);
    }
}


static void
test_new(void)
{
    memset(shared, 0, sizeof(test_shared_t));

    if (ngx_hybrid_series_init(&shared->sh, &shared->shpool, SIZE) != NGX_OK) {
        abort();
    }
}


static ngx_hybrid_series_t *
test_get(const char *client, const char *backend, const char *model)
{
    ngx_str_t  names[3];

    names[0].data = (u_char *) client;
    names[0].len = strlen(client);
    names[1].data = (u_char *) backend;
    names[1].len = strlen(backend);
    names[2].data = (u_char *) model;
    names[2].len = strlen(model);

    return ngx_hybrid_series_get(&shared->sh, &names[0], &names[1],
                                 &names[2]);
}


static uint64_t
test_sum(ngx_hybrid_series_t *series, ngx_uint_t table)
{
    uint64_t              sum;
    ngx_uint_t            i, o;
    ngx_hybrid_octave_t  *octave;

    sum = 0;

    for (o = 0; o < NGX_HYBRID_OCTAVES; o++) {
        octave = ngx_hybrid_series_octave(&shared->sh, series, table, o);

        for (i = 0; octave && i < NGX_HYBRID_OCTAVE; i++) {
            sum += octave->now[i];
        }
    }

    return sum;
}


/* of nginx */

void *
ngx_slab_calloc(ngx_slab_pool_t *pool, size_t size)
{
    void  *p;

    size = ngx_align(size, 64);

    if (shared->used + size > sizeof(shared->memory)) {
        return NULL;
    }

    p = shared->memory + shared->used;
    shared->used += size;

    return p;
}


void
ngx_shmtx_lock(ngx_shmtx_t *mtx)
{
    while (!ngx_atomic_cmp_set(&shared->lock, 0, 1)) {
        ngx_cpu_pause();
    }
}


void
ngx_shmtx_unlock(ngx_shmtx_t *mtx)
{
    (void) ngx_atomic_cmp_set(&shared->lock, 1, 0);
}


uint32_t
ngx_murmur_hash2(u_char *data, size_t len)
{
    uint32_t  h;

    for (h = 0; len; len--) {
        h = h * 31 + *data++;
    }

    return h;
}
