
/* link: limit/ngx_hybrid_cells.c */

/*
 * Requests at a time, counted by processes that take and give, and are killed
 * meanwhile.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include <ngx_hybrid_cells.h>

#include <sys/mman.h>
#include <stdio.h>
#include <stdlib.h>

#include "tap.h"


#define WORKERS  6
#define ROUNDS   20000
#define MOST     4


ngx_pid_t  ngx_pid;
ngx_int_t  ngx_process_slot;


typedef struct {
    ngx_hybrid_cells_t  cells;
    ngx_atomic_t        inside;
    ngx_atomic_t        over;
    ngx_atomic_t        taken;
    ngx_atomic_t        ready;
} test_shared_t;


static void test_one(void);
static void test_waiting(void);
static void test_many(void);
static void test_killed(void);
static void test_shared(void);
static pid_t test_fork(ngx_int_t slot);
static void test_load(void);
static void test_clear(void);


static test_shared_t  *shared;


int
main(void)
{
    ngx_pid = getpid();

    shared = mmap(NULL, sizeof(test_shared_t), PROT_READ|PROT_WRITE,
                  MAP_ANON|MAP_SHARED, -1, 0);
    if (shared == MAP_FAILED) {
        return 2;
    }

    test_one();
    test_waiting();
    test_many();
    test_killed();
    test_shared();

    return tap_end();
}


static void
test_one(void)
{
    ngx_hybrid_cells_t  *cells;

    test_clear();
    cells = &shared->cells;

    test_ok(ngx_hybrid_cells_busy(cells) == 0, "none");
    test_ok(ngx_hybrid_cells_take(cells, 2), "one");
    test_ok(ngx_hybrid_cells_take(cells, 2), "two");
    test_ok(!ngx_hybrid_cells_take(cells, 2), "no third one");
    test_ok(ngx_hybrid_cells_busy(cells) == 2, "nor is it counted");
    test_ok(ngx_hybrid_cells_take(cells, 3), "unless there may be more");
    ngx_hybrid_cells_give(cells);
    ngx_hybrid_cells_give(cells);
    test_ok(!ngx_hybrid_cells_take(cells, 1), "less than there are");
    ngx_hybrid_cells_give(cells);
    test_ok(!ngx_hybrid_cells_take(cells, 0), "none may be");
    test_ok(ngx_hybrid_cells_take(cells, 1), "one again");
}


static void
test_waiting(void)
{
    ngx_hybrid_cells_t  *cells;

    test_clear();
    cells = &shared->cells;

    test_ok(ngx_hybrid_cells_wait(cells, 1), "one waits");
    test_ok(!ngx_hybrid_cells_wait(cells, 1), "but no other");
    test_ok(ngx_hybrid_cells_waiting(cells) == 1
            && ngx_hybrid_cells_busy(cells) == 0, "and is not busy");
    test_ok(ngx_hybrid_cells_take(cells, 1), "which another one is");
    ngx_hybrid_cells_leave(cells);
    test_ok(ngx_hybrid_cells_waiting(cells) == 0
            && ngx_hybrid_cells_busy(cells) == 1, "it waits no more");
}


static void
test_many(void)
{
    int         status;
    pid_t       pids[WORKERS];
    ngx_uint_t  i, bad;

    test_clear();
    bad = 0;

    for (i = 0; i < WORKERS; i++) {
        pids[i] = test_fork(i);
    }

    for (i = 0; i < WORKERS; i++) {
        if (waitpid(pids[i], &status, 0) != pids[i] || status != 0) {
            bad++;
        }
    }

    test_ok(bad == 0, "workers");
    test_ok(shared->taken > WORKERS * ROUNDS / 100, "that got some");
    test_ok(shared->over == 0, "never too many");
    test_ok(ngx_hybrid_cells_busy(&shared->cells) == 0, "none is left");
}


static void
test_killed(void)
{
    pid_t                pid;
    ngx_uint_t           i;
    ngx_hybrid_cells_t  *cells;

    test_clear();
    cells = &shared->cells;
    ngx_process_slot = 0;

    test_ok(ngx_hybrid_cells_take(cells, 9), "our own");

    pid = fork();

    if (pid == 0) {
        ngx_pid = getpid();
        ngx_process_slot = 3;

        for (i = 0; i < 3; i++) {
            (void) ngx_hybrid_cells_take(cells, 9);
            (void) ngx_hybrid_cells_wait(cells, 9);
        }

        shared->ready = 1;

        for ( ;; ) {
            pause();
        }
    }

    while (!shared->ready) {
        usleep(1000);
    }

    ngx_hybrid_cells_reap(cells);
    test_ok(ngx_hybrid_cells_busy(cells) == 4
            && ngx_hybrid_cells_waiting(cells) == 3, "of a worker that lives");

    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);

    test_ok(ngx_hybrid_cells_busy(cells) == 4, "that was killed");
    ngx_hybrid_cells_reap(cells);
    test_ok(ngx_hybrid_cells_busy(cells) == 1
            && ngx_hybrid_cells_waiting(cells) == 0, "goes with it");

    ngx_process_slot = 3;
    test_ok(ngx_hybrid_cells_take(cells, 2), "another one in its place");
    test_ok(ngx_hybrid_cells_busy(cells) == 2, "begins with none");
    ngx_hybrid_cells_give(cells);
    test_ok(ngx_hybrid_cells_busy(cells) == 1, "and ends with none");

    /* a worker in the place of one that nobody has looked for */

    test_clear();
    cells->n = 4;
    cells->cells[3].pid = pid;
    cells->cells[3].busy = 7;
    cells->cells[3].waiting = 7;
    test_ok(ngx_hybrid_cells_take(cells, 1), "at once");
    test_ok(ngx_hybrid_cells_waiting(cells) == 0, "in both");
    ngx_process_slot = 0;
}


/* more workers than places */

static void
test_shared(void)
{
    ngx_hybrid_cells_t  *cells;

    test_clear();
    cells = &shared->cells;

    ngx_process_slot = 500;
    test_ok(ngx_hybrid_cells_take(cells, 3), "one of many workers");
    ngx_process_slot = NGX_HYBRID_CELLS - 1;
    test_ok(ngx_hybrid_cells_take(cells, 3), "and another one");
    ngx_process_slot = NGX_HYBRID_CELLS - 2;
    test_ok(ngx_hybrid_cells_take(cells, 3), "and one with a place");
    test_ok(!ngx_hybrid_cells_take(cells, 3), "count together");
    ngx_hybrid_cells_reap(cells);
    test_ok(ngx_hybrid_cells_busy(cells) == 3, "all are there");
    ngx_hybrid_cells_give(cells);
    ngx_process_slot = 500;
    ngx_hybrid_cells_give(cells);
    ngx_hybrid_cells_give(cells);
    test_ok(ngx_hybrid_cells_busy(cells) == 0, "and go again");
    ngx_process_slot = 0;
}


static pid_t
test_fork(ngx_int_t slot)
{
    pid_t  pid;

    pid = fork();

    if (pid == 0) {
        ngx_pid = getpid();
        ngx_process_slot = slot;
        test_load();
        _exit(0);
    }

    return pid;
}


static void
test_load(void)
{
    ngx_uint_t  i;

    for (i = 0; i < ROUNDS; i++) {

        if (!ngx_hybrid_cells_take(&shared->cells, MOST)) {
            sched_yield();
            continue;
        }

        if (ngx_atomic_fetch_add(&shared->inside, 1) >= MOST) {
            (void) ngx_atomic_fetch_add(&shared->over, 1);
        }

        (void) ngx_atomic_fetch_add(&shared->taken, 1);

        if (i % 16 == 0) {
            sched_yield();
        }

        (void) ngx_atomic_fetch_add(&shared->inside, -1);
        ngx_hybrid_cells_give(&shared->cells);
    }
}


static void
test_clear(void)
{
    ngx_memzero(shared, sizeof(test_shared_t));
}
