
/* link: core/ngx_hybrid_line.c */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_hybrid_line.h>

#include <stdio.h>
#include <stdlib.h>

#include "tap.h"


/* the clock wraps in the middle of each test */
#define START  ((ngx_msec_t) -500)

#define SLOTS  1


static void test_turns(void);
static void test_weights(void);
static void test_jain(void);
static void test_costs(void);
static void test_away(void);
static void test_bounds(void);
static void test_ahead(void);
static void test_group(void);
static void test_workers(void);
static void test_many(void);
static void test_new(ngx_uint_t n);
static ngx_int_t test_enter(uint64_t client, uint64_t cost,
    ngx_uint_t weight);
static uint64_t test_next(ngx_hybrid_health_t *health);


volatile ngx_msec_t  ngx_current_msec;
ngx_pid_t            ngx_pid;
ngx_int_t            ngx_process_slot;

static ngx_hybrid_line_t      *line;
static ngx_hybrid_line_ask_t   ask;
static ngx_hybrid_health_t    *one, *two, *both[2];
static ngx_shmtx_t             mutex;
static ngx_int_t               locked;


int
main(void)
{
    one = calloc(1, sizeof(ngx_hybrid_health_t));
    two = calloc(1, sizeof(ngx_hybrid_health_t));

    test_turns();
    test_weights();
    test_jain();
    test_costs();
    test_away();
    test_bounds();
    test_ahead();
    test_group();
    test_workers();
    test_many();

    test_ok(locked == 0, "every lock was released");

    free(line);
    free(one);
    free(two);

    return tap_end();
}


/* the client that is served next is its data */

static void
test_turns(void)
{
    ngx_uint_t  i;
    uint64_t    first;

    test_new(4000);

    for (i = 0; i < 1000; i++) {
        (void) test_enter(1, 100, 1);
    }

    (void) test_enter(2, 100, 1);
    test_ok(ask.ahead == 1, "one is in front");

    first = test_next(one);
    test_ok(first == 2 || test_next(one) == 2, "at most one was");

    for (i = 0; test_next(one); i++) { /* void */ }

    test_ok(i >= 999, "all are served");
    test_ok(one->waiting == 0 && line->top == 0, "nobody is left");
}


static void
test_weights(void)
{
    ngx_uint_t  i, n[8];

    static ngx_uint_t  weights[] = { 1, 2, 7, 90 };

    test_new(4000);
    ngx_memzero(n, sizeof(n));

    for (i = 0; i < 2000; i++) {
        (void) test_enter(i % 4 + 1, 300, weights[i % 4]);
    }

    /* 500 requests of each, and all wait until the heaviest has no more */

    for (i = 0; i < 500; i++) {
        n[test_next(one)]++;
    }

    for (i = 0; i < 4; i++) {
        test_ok(abs((int) (n[i + 1] - weights[i] * 5)) <= 1, "its share");
    }
}


static void
test_jain(void)
{
    double      sum, squares;
    ngx_uint_t  i, j, n[16];

    static ngx_uint_t  loads[] = { 1, 1, 2, 3, 5, 10, 20, 40, 70, 100 };

    test_new(4000);
    ngx_memzero(n, sizeof(n));

    for (i = 10; i-- > 0; /* void */) {
        for (j = 0; j < loads[i] * 6; j++) {
            (void) test_enter(i + 1, 200 + 50 * (j % 3), 1);
        }
    }

    for (i = 0; i < 50; i++) {
        n[test_next(one)]++;
    }

    sum = 0;
    squares = 0;

    for (i = 1; i <= 10; i++) {
        sum += n[i];
        squares += (double) n[i] * n[i];
    }

    test_ok(sum * sum / (10 * squares) >= 0.95, "Jain's index");
}


static void
test_costs(void)
{
    ngx_uint_t  i, n[4];

    test_new(4000);
    ngx_memzero(n, sizeof(n));

    for (i = 0; i < 400; i++) {
        (void) test_enter(1, 10, 1);
        (void) test_enter(2, 100, 1);
    }

    for (i = 0; i < 220; i++) {
        n[test_next(one)]++;
    }

    test_ok(n[2] >= 19 && n[2] <= 21, "shares are of tokens");

    test_ok(test_enter(3, (uint64_t) -1, 1) == NGX_OK, "any cost");
    test_ok(test_enter(3, 0, 1000) == NGX_OK, "none");
}


/* who was away has saved nothing, and who was not owes nothing afterwards */

static void
test_away(void)
{
    ngx_uint_t  i, n[4];

    test_new(4000);

    for (i = 0; i < 100; i++) {
        (void) test_enter(1, 100, 1);
    }

    for (i = 0; i < 50; i++) {
        (void) test_next(one);
    }

    ngx_memzero(n, sizeof(n));

    for (i = 0; i < 50; i++) {
        (void) test_enter(2, 100, 1);
    }

    for (i = 0; i < 20; i++) {
        n[test_next(one)]++;
    }

    test_ok(n[2] >= 10 && n[2] <= 11, "it gets half from now on");

    while (test_next(one)) { /* void */ }

    (void) test_enter(3, 1000000, 1);
    (void) test_next(one);

    /* nobody waits: that was free */

    (void) test_enter(3, 100, 1);
    (void) test_enter(2, 100, 1);

    test_ok(test_next(one) == 3, "they begin anew, in the order of arrival");
    test_ok(test_next(one) == 2, "and then in turn");
}


static void
test_bounds(void)
{
    ngx_uint_t  i, index;

    test_new(4000);

    for (i = 0; i < 3; i++) {
        test_ok(test_enter(1, 100, 1) == NGX_OK, "three of one");
    }

    index = ask.index;

    test_ok(test_enter(2, 100, 1) == NGX_OK, "of another one");

    ngx_hybrid_line_leave(line, &mutex, index, (void *) 99);
    test_ok(one->waiting == 4, "not its own entry");

    ngx_hybrid_line_leave(line, &mutex, index, (void *) 1);
    test_ok(one->waiting == 3, "one leaves");

    test_new(32);

    for (i = 0; test_enter(1, 100, 1) == NGX_OK; i++) { /* void */ }

    test_ok(i == 16, "half of the room is one client's");
    test_ok(test_enter(2, 100, 1) == NGX_OK, "the rest that of others");

    for (i = 3; i < 100; i++) {
        (void) test_enter(i, 100, 1);
    }

    test_ok(line->used <= 32 && line->top <= 32, "never more than there is");
}


static void
test_ahead(void)
{
    ngx_uint_t  i;

    test_new(4000);

    for (i = 0; i < 10; i++) {
        (void) test_enter(1, 100, 1);
        test_ok(ask.ahead == i, "its own");
    }

    (void) test_enter(2, 1000, 1);
    test_ok(ask.ahead == 1, "one of the other");
    (void) test_enter(2, 1000, 1);
    test_ok(ask.ahead >= 11, "what is large waits for all");

    ask.limit = 5;
    test_ok(test_enter(2, 1000, 1) == NGX_DECLINED, "too long");
    test_ok(test_enter(3, 10, 1) == NGX_OK, "but not for another one");
    test_ok(one->waiting == 13, "those that wait");
}


static void
test_group(void)
{
    test_new(64);

    ask.healths = both;
    ask.n = 2;

    (void) test_enter(1, 100, 1);
    (void) test_enter(1, 100, 1);
    test_ok(ask.ahead == 1, "counted once");

    ask.n = 1;
    (void) test_enter(2, 100, 1);

    test_ok(one->waiting == 3 && two->waiting == 2, "in both lines");
    test_ok(test_next(two) == 1, "of the other");
    test_ok(one->waiting == 2 && two->waiting == 1, "gone from both");
    test_ok(test_next(one) == 1, "here it has had nothing yet");
    test_ok(test_next(two) == 0 && test_next(one) == 2, "the rest");
}


static void
test_workers(void)
{
    test_new(64);

    (void) test_enter(1, 100, 1);

    ngx_pid = 0x7ffffff1;
    ngx_process_slot = 4;

    (void) test_enter(2, 100, 1);
    test_ok(test_next(one) == 0, "another worker's turn");
    test_ok(one->waiting == 2, "nothing was taken");
    test_ok(ngx_hybrid_line_waits(line, &mutex, one), "somebody waits");

    /* not heard of any more */

    ngx_current_msec += NGX_HYBRID_LINE_SILENT + 1;

    test_ok(test_next(one) == 2, "it is looked over");
    test_ok(!ngx_hybrid_line_waits(line, &mutex, one), "nobody waits");
    test_ok(line->used == 1, "its entry is there");

    /* it was only slow */

    ngx_pid = 0x7ffffff0;
    ngx_process_slot = 3;

    ngx_hybrid_line_seen(line);
    test_ok(test_next(one) == 1, "and gets its turn");

    /* killed: another one in its place, or the reaper */

    (void) test_enter(1, 100, 1);
    ngx_pid = 0x7ffffff2;
    ngx_hybrid_line_forget(line, &mutex);
    test_ok(line->used == 0 && one->waiting == 0, "forgotten");

    (void) test_enter(1, 100, 1);
    ngx_pid = 0x7ffffff3;
    ngx_process_slot = 5;
    ngx_hybrid_line_reap(line, &mutex);
    test_ok(line->used == 1, "it was heard of");
    ngx_current_msec += NGX_HYBRID_LINE_SILENT + 1;
    ngx_hybrid_line_reap(line, &mutex);
    test_ok(line->used == 0 && one->waiting == 0, "reaped");
}


/* more clients than there are flows: no turn is lost */

static void
test_many(void)
{
    ngx_uint_t  i, n;

    test_new(16);

    n = 0;

    for (i = 0; i < 10000; i++) {
        n += (test_enter(i % 97 + 1, 100, 1) == NGX_OK);

        if (i % 3 == 0) {
            n -= (test_next(one) != 0);
        }
    }

    while (test_next(one)) {
        n--;
    }

    test_ok(n == 0, "who has come is served");
}


static void
test_new(ngx_uint_t n)
{
    size_t      size;
    ngx_uint_t  got;

    free(line);

    size = ngx_hybrid_line_size(n * (sizeof(ngx_hybrid_line_entry_t)
                                     + 2 * sizeof(ngx_hybrid_line_flow_t)),
                                &got);

    line = calloc(1, size);
    ngx_hybrid_line_init(line, got);

    ngx_memzero(one, sizeof(ngx_hybrid_health_t));
    ngx_memzero(two, sizeof(ngx_hybrid_health_t));
    ngx_memzero(&ask, sizeof(ngx_hybrid_line_ask_t));

    both[0] = one;
    both[1] = two;

    ngx_current_msec = START;
    ngx_pid = 0x7ffffff0;
    ngx_process_slot = 3;

    ask.healths = &one;
    ask.n = 1;
    ask.limit = 10000;
}


static ngx_int_t
test_enter(uint64_t client, uint64_t cost, ngx_uint_t weight)
{
    ask.client = client;
    ask.cost = cost;
    ask.weight = weight;
    ask.data = (void *) (uintptr_t) client;

    return ngx_hybrid_line_enter(line, &mutex, &ask);
}


static uint64_t
test_next(ngx_hybrid_health_t *health)
{
    return (uintptr_t) ngx_hybrid_line_next(line, &mutex, health, SLOTS);
}


ngx_uint_t
ngx_hybrid_health_take(ngx_hybrid_health_t *health, ngx_uint_t slots)
{
    return 1;
}


void
ngx_shmtx_lock(ngx_shmtx_t *mtx)
{
    locked++;
}


void
ngx_shmtx_unlock(ngx_shmtx_t *mtx)
{
    locked--;
}
