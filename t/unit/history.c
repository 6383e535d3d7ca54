
/* link: stats/ngx_hybrid_history.c */

/*
 * The minutes of a gateway: what several processes count in them, when
 * minutes change, clocks jump and processes are killed.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_hybrid_history.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tap.h"


#define ROOM     (64 * 1024)
#define WORKERS  4
#define MINUTES  300
#define ROUNDS   40
#define KEYS     97
#define KILLS    60
#define MINUTE   29875512


typedef struct {
    ngx_atomic_t            lock;
    ngx_atomic_t            now;
    ngx_atomic_t            added;
    ngx_atomic_t            arrived;
    ngx_hybrid_history_t    history;      /* and cells behind it */
} test_shared_t;


static void test_size(void);
static void test_counts(void);
static void test_full(void);
static void test_minutes(void);
static void test_stored(void);
static void test_many(void);
static void test_changing(void);
static void test_killed(void);
static void test_cost(void);
static pid_t test_fork(void (*work)(ngx_uint_t n), ngx_uint_t n);
static void test_count(ngx_uint_t n);
static void test_wander(ngx_uint_t n);
static uint64_t test_sum(ngx_uint_t i);
static void test_new(ngx_uint_t n);
static void test_time(ngx_uint_t minute);


volatile ngx_time_t   *ngx_cached_time;

static ngx_time_t                   now;
static ngx_shmtx_t                  mutex;
static ngx_hybrid_history_t        *history;
static ngx_hybrid_history_cell_t    cells[8192];
static ngx_hybrid_history_state_t   state;
static test_shared_t               *shared;


int
main(void)
{
    ngx_cached_time = &now;
    state.cells = cells;

    shared = mmap(NULL, sizeof(test_shared_t) + 32 * ROOM,
                  PROT_READ|PROT_WRITE, MAP_SHARED|MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        return 1;
    }

    test_size();
    test_counts();
    test_full();
    test_minutes();
    test_stored();
    test_many();
    test_changing();
    test_killed();
    test_cost();

    test_ok(shared->lock == 0, "every lock was released");

    return tap_end();
}


static void
test_size(void)
{
    size_t      size, room;
    ngx_uint_t  n;

    for (room = ROOM; room < 256 * 1024 * 1024; room += room / 3) {

        size = ngx_hybrid_history_size(room, &n);

        if (n < 100 || size > room
            || size < n * NGX_HYBRID_HISTORY_MINUTES
                      * sizeof(ngx_hybrid_history_cell_t))
        {
            break;
        }
    }

    test_ok(room >= 256 * 1024 * 1024, "as much as there is room for");
}


static void
test_counts(void)
{
    test_new(100);

    test_ok(ngx_hybrid_history_read(history, MINUTE % 64, &state)
            == NGX_DECLINED, "no minute yet");

    ngx_hybrid_history_add(history, 3, 10, 0, 2);
    ngx_hybrid_history_add(history, 0, 0, 463, 1);
    ngx_hybrid_history_add(history, 3, 0, 7, 5);
    ngx_hybrid_history_add(history, 3, 10, 0, 1);
    ngx_hybrid_history_add(history, 3, 10, 1, 0);

    test_ok(ngx_hybrid_history_read(history, MINUTE % 64, &state) == NGX_OK
            && state.minute == MINUTE && state.n == 3 && state.changed == 4,
            "what was counted");
    test_ok(cells[0].count == 1 && cells[1].count == 5 && cells[2].count == 3,
            "by series, table and bucket");

    ngx_hybrid_history_add(history, 3, 11, 0, 1);
    ngx_hybrid_history_add(history, 3, 0, 512, 1);
    ngx_hybrid_history_add(history, (ngx_uint_t) 1 << 30, 0, 0, 1);
    (void) ngx_hybrid_history_read(history, MINUTE % 64, &state);

    test_ok(state.n == 3 && state.lost == 3, "what has no key is lost");

    ngx_hybrid_history_add(history, 4, 10, 13, (uint64_t) 1 << 40);
    (void) ngx_hybrid_history_read(history, MINUTE % 64, &state);

    test_ok(state.n == 4 && cells[3].count == 0xffffffff,
            "an absurd number is a great one");
}


static void
test_full(void)
{
    ngx_uint_t  i, n;

    for (n = 1; n <= 2000; n = n * 3 + 4) {

        test_new(n);

        for (i = 0; i < n * 2 + 500; i++) {
            ngx_hybrid_history_add(history, i, i % 11, i % 464, 3);
        }

        if (ngx_hybrid_history_read(history, MINUTE % 64, &state) != NGX_OK
            || state.n < n - n / 10 || state.lost == 0
            || test_sum(MINUTE % 64) + state.lost != i * 3)
        {
            break;
        }
    }

    test_ok(n > 2000, "a full one counts what it loses");

    ngx_hybrid_history_add(history, 0, 0, 0, 4);

    test_ok(test_sum(MINUTE % 64) + state.lost == i * 3 + 4,
            "and goes on with what it has");

    /* 64 minutes later the place is another minute's */

    test_time(MINUTE + 64);
    ngx_hybrid_history_add(history, 1, 1, 1, 5);

    test_ok(ngx_hybrid_history_read(history, MINUTE % 64, &state) == NGX_OK
            && state.n == 1 && state.lost == 0 && test_sum(MINUTE % 64) == 5,
            "nothing of it is left in the next one there");
    test_time(MINUTE);
}


static void
test_minutes(void)
{
    ngx_uint_t  i;

    test_new(100);

    for (i = 0; i < 100; i++) {
        test_time(MINUTE + i);
        ngx_hybrid_history_add(history, i, 0, 0, i + 1);
    }

    for (i = 36; i < 100; i++) {
        if (ngx_hybrid_history_read(history, (MINUTE + i) % 64, &state)
            != NGX_OK
            || state.minute != MINUTE + i || state.n != 1
            || cells[0].count != i + 1)
        {
            break;
        }
    }

    test_ok(i == 100, "the last 64 minutes");

    test_time(MINUTE + 90);
    ngx_hybrid_history_add(history, 90, 0, 0, 1);

    test_ok(test_sum((MINUTE + 90) % 64) == 92, "a clock that goes back");

    test_time(MINUTE + 5000000);
    ngx_hybrid_history_add(history, 1, 0, 0, 1);
    test_time(MINUTE + 99);
    ngx_hybrid_history_add(history, 1, 0, 0, 1);
    ngx_hybrid_history_add(history, 1, 0, 0, 1);

    test_ok(test_sum((MINUTE + 99) % 64)
            == (5000000 % 64 == 99 % 64 ? 2 : 102),
            "and that was far away meanwhile");

    test_time(MINUTE + 99 + 64);
    ngx_hybrid_history_add(history, 1, 0, 0, 1);
    test_time(MINUTE + 99);
    ngx_hybrid_history_add(history, 1, 0, 0, 7);

    test_ok(test_sum((MINUTE + 99) % 64) == 7 && state.minute == MINUTE + 99,
            "a minute is lost, at most");

    /* a worker was killed while it cleared that */

    i = (MINUTE + 99) % 64;
    history->segments[i].minute = 0;
    test_ok(ngx_hybrid_history_read(history, i, &state) == NGX_DECLINED
            && !ngx_hybrid_history_dirty(history, i), "half a segment");
    ngx_hybrid_history_add(history, 1, 0, 0, 3);
    test_ok(test_sum(i) == 3, "is cleared again");
}


static void
test_stored(void)
{
    uint32_t    generation, changed;
    ngx_uint_t  i;

    test_new(100);
    i = MINUTE % 64;

    test_ok(!ngx_hybrid_history_dirty(history, i), "nothing is there");

    ngx_hybrid_history_add(history, 0, 0, 0, 1);
    test_ok(ngx_hybrid_history_dirty(history, i), "something is");

    (void) ngx_hybrid_history_read(history, i, &state);
    generation = state.generation;
    changed = state.changed;

    ngx_hybrid_history_add(history, 0, 0, 0, 1);
    ngx_hybrid_history_stored(history, i, generation, changed);
    test_ok(ngx_hybrid_history_dirty(history, i), "it has changed meanwhile");

    (void) ngx_hybrid_history_read(history, i, &state);
    ngx_hybrid_history_stored(history, i, generation, state.changed);
    test_ok(!ngx_hybrid_history_dirty(history, i), "it is stored");

    ngx_hybrid_history_stored(history, i, generation, changed);
    test_ok(!ngx_hybrid_history_dirty(history, i), "and remains so");

    test_time(MINUTE + 64);
    ngx_hybrid_history_add(history, 0, 0, 0, 1);
    ngx_hybrid_history_add(history, 0, 0, 0, 1);
    ngx_hybrid_history_stored(history, i, generation, 2);
    test_ok(ngx_hybrid_history_dirty(history, i), "an answer of an hour ago");
}


/* several processes that begin each minute at once */

static void
test_many(void)
{
    int         status;
    pid_t       pids[WORKERS];
    ngx_uint_t  i, k, bad;

    test_new(ROOM / 64 / sizeof(ngx_hybrid_history_cell_t));
    shared->arrived = 0;
    bad = 0;

    for (i = 0; i < WORKERS; i++) {
        pids[i] = test_fork(test_count, i);
    }

    for (i = 0; i < WORKERS; i++) {
        if (waitpid(pids[i], &status, 0) != pids[i] || status != 0) {
            bad++;
        }
    }

    test_ok(bad == 0, "processes");

    for (i = 0; i < 64; i++) {

        if (ngx_hybrid_history_read(history, i, &state) != NGX_OK
            || state.n != KEYS || state.lost != 0
            || state.changed != WORKERS * ROUNDS * KEYS)
        {
            bad++;
            continue;
        }

        for (k = 0; k < KEYS; k++) {
            bad += (cells[k].count != WORKERS * ROUNDS);
        }
    }

    test_ok(bad == 0, "each key has one cell, with all of its numbers");
}


static void
test_count(ngx_uint_t n)
{
    ngx_uint_t  i, k;

    for (i = 0; i < MINUTES; i++) {

        (void) ngx_atomic_fetch_add(&shared->arrived, 1);

        for (k = 1; shared->arrived < WORKERS * (i + 1); k++) {
            if (k % 5000 == 0) {
                sched_yield();
            }
        }

        test_time(MINUTE + i);

        for (k = 0; k < ROUNDS * KEYS; k++) {
            ngx_hybrid_history_add(history, (k + n * 29) % KEYS, 6, 463, 1);
        }
    }
}


/* the minute changes while several processes count */

static void
test_changing(void)
{
    int         status;
    pid_t       pids[WORKERS];
    uint64_t    sum;
    ngx_uint_t  i, k, bad;

    test_new(100);
    shared->now = MINUTE;
    bad = 0;

    for (i = 0; i < WORKERS; i++) {
        pids[i] = test_fork(test_wander, 40000);
    }

    for (k = 0; k < 2000; k++) {
        shared->now = MINUTE + (k & 32 ? k : 128 - k % 8);

        i = shared->now % 64;

        if (ngx_hybrid_history_read(history, i, &state) == NGX_OK
            && (state.minute % 64 != i || state.n > 50))
        {
            bad++;
        }

        ngx_hybrid_history_stored(history, i, state.generation,
                                  state.changed);
        usleep(50);
    }

    for (i = 0; i < WORKERS; i++) {
        if (waitpid(pids[i], &status, 0) != pids[i] || status != 0) {
            bad++;
        }
    }

    for (i = 0, sum = 0; i < 64; i++) {
        if (ngx_hybrid_history_read(history, i, &state) == NGX_OK) {
            sum += test_sum(i) + state.lost;
        }
    }

    test_ok(bad == 0, "minutes change");
    test_ok(sum > 0 && sum <= WORKERS * 40000,
            "and never count more than there was");
}


static void
test_killed(void)
{
    pid_t       pids[WORKERS];
    ngx_uint_t  i, k;

    test_new(100);
    ngx_memzero(pids, sizeof(pids));
    shared->now = MINUTE;
    srandom(1);

    for (k = 0; k < WORKERS + KILLS; k++) {
        i = k % WORKERS;

        if (pids[i]) {
            (void) kill(pids[i], SIGKILL);
            (void) waitpid(pids[i], NULL, 0);

            /* as nginx does */
            (void) ngx_atomic_cmp_set(&shared->lock, pids[i], 0);
        }

        pids[i] = test_fork(test_wander, (ngx_uint_t) -1);

        shared->now = MINUTE + random() % 200;
        usleep(1000 + random() % 2000);
    }

    for (i = 0; i < WORKERS; i++) {
        (void) kill(pids[i], SIGKILL);
        (void) waitpid(pids[i], NULL, 0);
        (void) ngx_atomic_cmp_set(&shared->lock, pids[i], 0);
    }

    test_ok(shared->added > 1000, "they have counted");

    /* another worker, another hour */

    for (i = 0; i < 64; i++) {
        test_time(MINUTE + 1000 + i);

        for (k = 0; k < 200; k++) {
            ngx_hybrid_history_add(history, k % 50, 10, 0, 1);
        }

        if (test_sum((MINUTE + 1000 + i) % 64) != 200 || state.lost
            || state.n != 50 || state.changed != 200)
        {
            break;
        }
    }

    test_ok(i == 64, "nothing is left of who was killed");
}


/* counts in whichever minute it is, and in some where it is not */

static void
test_wander(ngx_uint_t n)
{
    ngx_uint_t  i;

    for (i = 0; i < n; i++) {
        test_time(shared->now - (i % 64 == 0 ? 64 : 0));
        ngx_hybrid_history_add(history, i % 50, 10, 0, 1);
        (void) ngx_atomic_fetch_add(&shared->added, 1);
    }
}


/* told, not tested: a machine may be busy */

static void
test_cost(void)
{
    ngx_uint_t        i, k;
    struct timespec   from, to;

    test_new(4000);

    clock_gettime(CLOCK_MONOTONIC, &from);

    for (i = 0; i < 1000000; i++) {
        k = i * 7 % 1000;
        ngx_hybrid_history_add(history, k / 13, k % 13 % 11, k % 300, 1);
    }

    clock_gettime(CLOCK_MONOTONIC, &to);

    printf("# %.1f ns to add\n", (to.tv_sec - from.tv_sec) * 1e3
                                 + (to.tv_nsec - from.tv_nsec) / 1e6);
}


static pid_t
test_fork(void (*work)(ngx_uint_t n), ngx_uint_t n)
{
    pid_t  pid;

    pid = fork();

    if (pid == -1) {
        exit(1);
    }

    if (pid == 0) {
        work(n);
        _exit(0);
    }

    return pid;
}


static uint64_t
test_sum(ngx_uint_t i)
{
    uint64_t    sum;
    ngx_uint_t  k;

    sum = 0;

    if (ngx_hybrid_history_read(history, i, &state) != NGX_OK) {
        return (uint64_t) -1;
    }

    for (k = 0; k < state.n; k++) {
        sum += state.cells[k].count;
    }

    return sum;
}


static void
test_new(ngx_uint_t n)
{
    shared->added = 0;
    history = &shared->history;

    ngx_memzero(history, sizeof(ngx_hybrid_history_t)
                         + n * NGX_HYBRID_HISTORY_MINUTES
                           * sizeof(ngx_hybrid_history_cell_t));
    ngx_hybrid_history_init(history, n, &mutex);

    test_time(MINUTE);
}


static void
test_time(ngx_uint_t minute)
{
    now.sec = (time_t) minute * 60 + minute % 60;
}


void
ngx_shmtx_lock(ngx_shmtx_t *mtx)
{
    while (!ngx_atomic_cmp_set(&shared->lock, 0, getpid())) {
        sched_yield();
    }
}


void
ngx_shmtx_unlock(ngx_shmtx_t *mtx)
{
    shared->lock = 0;
}
