
/*
 * The reference is the other half of ITU-T I.371: a leaky bucket of a level
 * and the time it was true at, in signed arithmetic.
 */


#include "gcra_test.h"

#include <pthread.h>


#define EVENTS           600
#define THREADS          4
#define CHARGES          100000


typedef struct {
    int64_t               level;
    int64_t               last;
} test_bucket_t;


typedef struct {
    ngx_atomic_t          tat;
    ngx_atomic_t          charged;
    ngx_atomic_t          refunded;
    ngx_atomic_t          admitted;
} test_shared_t;


static void test_spans(void);
static void test_reference(void);
static void *test_thread(void *data);
static void test_threads(void);

static uint64_t ref_take(test_bucket_t *b, uint64_t now, uint64_t interval,
    ngx_uint_t burst);
static void ref_charge(test_bucket_t *b, uint64_t now, uint64_t interval,
    ngx_uint_t burst);
static void ref_limit(test_bucket_t *b, uint64_t now, uint64_t interval,
    ngx_uint_t burst);


void
test_random(void)
{
    test_spans();
    test_reference();
    test_threads();
}


static void
test_spans(void)
{
    uint64_t      now, interval, at[EVENTS];
    ngx_uint_t    i, j, n, round, burst, bad;
    ngx_atomic_t  tat;

    bad = 0;

    for (round = 0; round < 200; round++) {
        interval = 1 + test_rand(50);
        burst = 1 + test_rand(10);
        tat = 0;
        now = START;
        n = 0;

        while (n < EVENTS) {

            if (test_take(&tat, now, interval, burst) == 0) {
                at[n++] = now;
            }

            /* rushes and pauses */

            now += test_rand(3) ? test_rand(3) : test_rand(interval * 3);
        }

        for (i = 0; i < n; i++) {
            for (j = i; j < n; j++) {
                bad += j - i + 1 > burst + (at[j] - at[i]) / interval;
            }
        }
    }

    test_ok(bad == 0, "no span of time admits more than burst + t / interval");
}


static void
test_reference(void)
{
    uint64_t       now, interval, wait, want;
    ngx_uint_t     i, round, burst, bad, denied, admitted;
    ngx_atomic_t   tat;
    test_bucket_t  bucket;

    bad = 0;
    denied = 0;
    admitted = 0;

    for (round = 0; round < 2000; round++) {
        interval = 1 + (round % 2 ? test_rand(100) : test_rand(DAY));
        burst = 1 + (round % 4 < 2 ? test_rand(5) : test_rand(1000));
        now = START;

        tat = 0;
        bucket.level = 0;
        bucket.last = 0;

        for (i = 0; i < 1000; i++) {

            if (test_rand(10) == 0) {
                test_charge_units(&tat, now, interval, burst);
                ref_charge(&bucket, now, interval, burst);

            } else {
                wait = test_take(&tat, now, interval, burst);
                want = ref_take(&bucket, now, interval, burst);

                bad += wait != want;
                denied += want != 0;
                admitted += want == 0;

                if (want == 0 && test_rand(10) == 0) {
                    ngx_hybrid_gcra_refund(&tat, interval);
                    bucket.level -= interval;
                }
            }

            if (test_rand(100) == 0) {
                interval = 1 + test_rand(test_rand(2) ? 100 : DAY);
                burst = 1 + test_rand(1000);

                test_cut(&tat, now, interval, burst);
                ref_limit(&bucket, now, interval, burst);
            }

            switch (test_rand(8)) {

            case 0:
                now += test_rand(interval * 3);
                break;

            case 1:
                now += test_rand(2) ? test_rand(interval * burst * 2) : 0;
                break;

            case 2:
                now -= test_rand(3) ? 0 : test_rand(interval * 2);
                break;

            case 3:
            case 4:
                now += test_rand(interval + 1);
                break;
            }
        }
    }

    test_ok(bad == 0, "random times: as a leaky bucket does");
    test_ok(denied > 100000 && admitted > 100000,
            "random times: enough of each kind");
}


static void *
test_thread(void *data)
{
    ngx_uint_t      i;
    test_shared_t  *shared = data;

    for (i = 0; i < CHARGES; i++) {
        test_charge_units(&shared->charged, START, 1000, BURST);
    }

    for (i = 0; i < CHARGES; i++) {
        (void) test_take(&shared->refunded, START, 1000, BURST);
        ngx_hybrid_gcra_refund(&shared->refunded, 1000);
    }

    for (i = 0; i < BURST; i++) {
        if (test_take(&shared->tat, START, 1000, BURST) == 0) {
            (void) ngx_atomic_fetch_add(&shared->admitted, 1);
        }
    }

    return NULL;
}


/* workers share the bucket: none of them may lose what another took */

static void
test_threads(void)
{
    ngx_uint_t     i;
    pthread_t      threads[THREADS];
    test_shared_t  shared;

    shared.tat = START;
    shared.charged = START;
    shared.refunded = START;
    shared.admitted = 0;

    for (i = 0; i < THREADS; i++) {
        if (pthread_create(&threads[i], NULL, test_thread, &shared) != 0) {
            exit(2);
        }
    }

    for (i = 0; i < THREADS; i++) {
        if (pthread_join(threads[i], NULL) != 0) {
            exit(2);
        }
    }

    test_ok(shared.admitted == BURST && shared.tat == START + BURST * 1000ULL,
            "the burst among threads");
    test_ok(shared.charged == START + THREADS * CHARGES * 1000ULL,
            "charges of threads");
    test_ok(shared.refunded == START, "threads that give back what they took");
}


static uint64_t
ref_take(test_bucket_t *b, uint64_t now, uint64_t interval, ngx_uint_t burst)
{
    int64_t  level, limit;

    level = b->level - ((int64_t) now - b->last);
    level = ngx_max(level, 0);
    limit = (int64_t) (burst - 1) * interval;

    if (level > limit) {
        return level - limit;
    }

    b->level = level + interval;
    b->last = now;

    return 0;
}


static void
ref_charge(test_bucket_t *b, uint64_t now, uint64_t interval,
    ngx_uint_t burst)
{
    int64_t  level, limit;

    level = b->level - ((int64_t) now - b->last);
    level = ngx_max(level, 0) + interval;
    limit = (int64_t) burst * interval;

    b->level = ngx_min(level, limit);
    b->last = now;
}


static void
ref_limit(test_bucket_t *b, uint64_t now, uint64_t interval, ngx_uint_t burst)
{
    int64_t  level, limit;

    level = b->level - ((int64_t) now - b->last);
    limit = (int64_t) burst * interval;

    if (level > limit) {
        b->level = limit;
        b->last = now;
    }
}
