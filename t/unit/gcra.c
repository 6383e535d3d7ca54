
/* link: limit/ngx_hybrid_gcra.c gcra_random.c */
/* libs: -lpthread */


#include "gcra_test.h"


#define STEPS            10000000


static ngx_uint_t test_fill(ngx_atomic_t *tat, uint64_t now,
    uint64_t interval, ngx_uint_t burst);
static void test_burst(void);
static void test_retry_after(void);
static void test_rate(void);
static void test_steps(void);
static void test_poll(void);
static void test_backwards(void);
static void test_idle(void);
static void test_no_interval(void);
static void test_extremes(void);
static void test_charge(void);
static void test_refund(void);
static void test_limit(void);


static struct {
    uint64_t              interval;
    ngx_uint_t            burst;
} limits[] = {
    { 1, 1 },
    { 1, 7 },
    { 2, 2 },
    { 1000, 1 },
    { 1000, 10 },
    { 333334, 1 },
    { 333334, 20 },
    { 500000, 20 },
    { 1000000, 3 },
    { DAY, 1 },
    { DAY, 50 },
    { 1, BURST },
    { DAY, BURST }
};

#define LIMITS           (sizeof(limits) / sizeof(limits[0]))


static ngx_uint_t  tests;
static ngx_uint_t  failed;

static uint64_t    seed = 0x9e3779b97f4a7c15ULL;


int
main(void)
{
    test_burst();
    test_retry_after();
    test_rate();
    test_steps();
    test_poll();
    test_backwards();
    test_idle();
    test_no_interval();
    test_extremes();
    test_charge();
    test_refund();
    test_limit();
    test_random();

    printf("1..%d\n", (int) tests);

    return failed ? 1 : 0;
}


void
test_ok(ngx_uint_t ok, const char *what)
{
    printf("%sok %d - %s\n", ok ? "" : "not ", (int) ++tests, what);

    failed += !ok;
}


/* xorshift64, Marsaglia 2003 */

uint64_t
test_rand(uint64_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;

    return seed % n;
}


/* how many are admitted at once */

static ngx_uint_t
test_fill(ngx_atomic_t *tat, uint64_t now, uint64_t interval,
    ngx_uint_t burst)
{
    ngx_uint_t  n;

    for (n = 0; n < 2 * burst + 10; n++) {
        if (test_take(tat, now, interval, burst) != 0) {
            break;
        }
    }

    return n;
}


static void
test_burst(void)
{
    uint64_t      interval;
    ngx_uint_t    i, burst, ok, later;
    ngx_atomic_t  tat;

    ok = 1;
    later = 1;

    for (i = 0; i < LIMITS; i++) {
        interval = limits[i].interval;
        burst = limits[i].burst;

        /* of a bucket never used before */

        tat = 0;
        ok &= test_fill(&tat, START, interval, burst) == burst
              && tat == START + burst * interval
              && test_take(&tat, START, interval, burst)
                 == interval;

        /* and of one that is empty again to the microsecond */

        later &= test_fill(&tat, START + burst * interval, interval, burst)
                 == burst;

        tat = START;
        later &= test_fill(&tat, START, interval, burst) == burst;
        later &= test_fill(&tat, START + burst * interval - 1, interval,
                           burst)
                 == burst - 1;
    }

    test_ok(ok, "the burst is admitted exactly");
    test_ok(later, "and again when the bucket is empty, not before");
}


/* denied until just then, and asking changes nothing */

static void
test_retry_after(void)
{
    uint64_t      interval, now, then, wait;
    ngx_uint_t    i, n, ok, far;
    ngx_atomic_t  tat, before;

    ok = 1;

    for (interval = 1; interval < 60; interval++) {
        for (n = 1; n < 5; n++) {
            tat = 0;
            (void) test_fill(&tat, START, interval, n);

            before = tat;

            for (now = START; now < START + interval; now++) {
                wait = test_take(&tat, now, interval, n);
                ok &= wait == START + interval - now && tat == before;
            }

            ok &= test_take(&tat, now, interval, n) == 0
                  && tat == before + interval;
        }
    }

    test_ok(ok, "denied until the moment it said, each microsecond");

    far = 1;

    for (i = 0; i < LIMITS; i++) {
        interval = limits[i].interval;
        tat = START;
        (void) test_fill(&tat, START, interval, limits[i].burst);

        for (n = 0; n < 100; n++) {
            now = START + test_rand(interval);
            before = tat;

            wait = test_take(&tat, now, interval,
                                        limits[i].burst);
            then = now + wait;

            far &= wait > 0 && wait <= interval && tat == before
                   && test_take(&tat, then - 1, interval,
                                           limits[i].burst) == 1
                   && tat == before;
        }

        far &= test_take(&tat, then, interval, limits[i].burst)
               == 0;
    }

    test_ok(far, "a microsecond earlier it is still denied");
}


/* a client that asks all the time */

static void
test_rate(void)
{
    uint64_t      now, admitted, interval;
    ngx_uint_t    burst, ok;
    ngx_atomic_t  tat;

    ok = 1;

    for (interval = 1; interval <= 40; interval += 3) {
        for (burst = 1; burst <= 9; burst += 2) {
            tat = 0;
            admitted = 0;

            for (now = START; now <= START + 5000; now++) {

                while (test_take(&tat, now, interval, burst) == 0)
                {
                    admitted++;
                }

                ok &= admitted == burst + (now - START) / interval;
            }
        }
    }

    test_ok(ok, "at each time t: burst + t / interval, no more, no less");
}


/* one request each interval: all are admitted, and nothing adds up */

static void
test_steps(void)
{
    uint64_t      i, now, interval, denied;
    ngx_atomic_t  tat;

    interval = 333334;
    tat = 0;
    denied = 0;
    now = START;

    for (i = 0; i < STEPS; i++) {
        denied += test_take(&tat, now, interval, 1) != 0;
        now += interval;
    }

    test_ok(denied == 0 && tat == START + STEPS * interval,
            "10^7 requests in time are admitted, no drift");

    /* one microsecond short each time: burst 1 denies all but the first */

    tat = 0;
    denied = 0;
    now = START;

    for (i = 0; i < 1000; i++) {
        denied += test_take(&tat, now, interval, 1) != 0;
        now += interval - 1;
    }

    test_ok(denied == 500, "a microsecond short, every other one is denied");

    /* the burst takes up the shortfall of as many as it has room for */

    tat = 0;
    now = START;

    for (i = 0; test_take(&tat, now, interval, 4) == 0; i++) {
        now += interval - 2;
    }

    test_ok(i == 3 * interval / 2 + 1, "the burst is used up by microseconds");
}


/* nginx's clock: milliseconds, which the interval is no multiple of */

static void
test_poll(void)
{
    uint64_t      i, now, admitted, interval;
    ngx_uint_t    burst;
    ngx_atomic_t  tat;

    interval = 333334;
    burst = 20;
    tat = 0;
    admitted = 0;
    now = START;

    for (i = 0; i < STEPS; i++) {
        now = START + i * 1000;

        while (test_take(&tat, now, interval, burst) == 0) {
            admitted++;
        }
    }

    test_ok(admitted == burst + (now - START) / interval,
            "10^7 milliseconds, no drift");
}


static void
test_backwards(void)
{
    uint64_t      back, wait, interval;
    ngx_uint_t    i, ok, idle, held, burst;
    ngx_atomic_t  tat, before;

    ok = 1;
    idle = 1;
    held = 1;

    for (i = 0; i < LIMITS; i++) {
        interval = limits[i].interval;
        burst = limits[i].burst;

        for (back = 1; back < START; back *= 1000) {
            tat = 0;
            (void) test_fill(&tat, START, interval, burst);
            before = tat;

            wait = test_take(&tat, START - back, interval, burst);

            ok &= wait == interval + back && tat == before;

            ok &= test_take(&tat, START, interval, burst)
                  == interval;
            ok &= test_take(&tat, START + interval, interval,
                                       burst)
                  == 0;

            /* nothing of an old burst is left, if the bucket is empty */

            tat = START - back;
            idle &= test_fill(&tat, START - back, interval, burst) == burst;

            /* a turn of the clock gives nobody a second burst */

            tat = 0;
            (void) test_fill(&tat, START, interval, burst);
            held &= test_fill(&tat, START - back, interval, burst) == 0
                    && test_fill(&tat, START, interval, burst) == 0
                    && test_fill(&tat, START + interval, interval, burst)
                       == 1;
        }
    }

    test_ok(ok, "a clock going backwards: the wait is longer by as much");
    test_ok(idle, "an empty bucket doesn't mind");
    test_ok(held, "a clock to and fro admits no more");
}


static void
test_idle(void)
{
    uint64_t      now, interval;
    ngx_uint_t    i, j, ok, burst;
    ngx_atomic_t  tat;

    /* as far as nginx's milliseconds go, and then some */

    static uint64_t  idles[] = {
        1000000, DAY, 365 * DAY, 100000 * DAY, 1ULL << 62
    };

    ok = 1;

    for (i = 0; i < LIMITS; i++) {
        for (j = 0; j < sizeof(idles) / sizeof(idles[0]); j++) {
            interval = limits[i].interval;
            burst = limits[i].burst;
            tat = 0;

            (void) test_fill(&tat, START, interval, burst);

            now = START + burst * interval + idles[j];

            ok &= test_fill(&tat, now, interval, burst) == burst
                  && tat == now + burst * interval;
        }
    }

    test_ok(ok, "no more than one burst after any time of idleness");
}


static void
test_no_interval(void)
{
    uint64_t      i, denied;
    ngx_atomic_t  tat;

    tat = 0;
    denied = 0;

    for (i = 0; i < 1000; i++) {
        denied += test_take(&tat, START + i / 100, 0, 1) != 0;
        denied += test_take(&tat, START + i / 100, 0, BURST) != 0;
    }

    test_ok(denied == 0 && tat == START + 9, "interval 0 denies nothing");

    test_charge_units(&tat, START + 10, 0, 1);

    test_ok(tat == START + 10
            && test_take(&tat, START + 10, 0, 1) == 0
            && test_take(&tat, START + 9, 0, 1) == 1,
            "interval 0 has no tolerance but is charged nothing");
}


static void
test_extremes(void)
{
    uint64_t      now, most;
    ngx_atomic_t  tat;

    most = BURST * DAY;

    /* the largest number of milliseconds of which the sums have room */

    now = (uint64_t) -1 - most;
    now -= now % 1000;
    tat = 0;

    test_ok(test_fill(&tat, now, DAY, BURST) == BURST
            && tat == now + most
            && test_take(&tat, now, DAY, BURST) == DAY,
            "1r/d burst=1000000 at the end of time");

    tat = 0;

    test_ok(test_fill(&tat, 0, DAY, BURST) == BURST && tat == most,
            "1r/d burst=1000000 at its beginning");

    tat = now;

    test_ok(test_take(&tat, 0, DAY, BURST)
            == now - (BURST - 1) * DAY,
            "a clock that starts again");

    tat = (uint64_t) -1;

    test_ok(test_take(&tat, START, DAY, 1)
            == (uint64_t) -1 - START
            && tat == (uint64_t) -1,
            "a bucket that is full for ever");

    test_charge_units(&tat, START, DAY, BURST);

    test_ok(tat == START + most, "which a charge brings back");

    tat = 0;

    test_ok(test_take(&tat, START, 1ULL << 62, 1) == 0
            && test_take(&tat, START, 1ULL << 62, 1)
               == 1ULL << 62
            && test_take(&tat, START + (1ULL << 62) - 1,
                                    1ULL << 62, 1) == 1
            && test_take(&tat, START + (1ULL << 62),
                                    1ULL << 62, 1) == 0,
            "an interval of 2^62 microseconds");
}


static void
test_charge(void)
{
    uint64_t      interval;
    ngx_uint_t    i, n, j, ok, deep, back, burst;
    ngx_atomic_t  tat;

    ok = 1;
    deep = 1;
    back = 1;

    for (i = 0; i < LIMITS; i++) {
        interval = limits[i].interval;
        burst = limits[i].burst;

        /* what was charged is missing in the burst */

        for (n = 0; n <= burst; n += 1 + burst / 5) {
            tat = 0;

            for (j = 0; j < n; j++) {
                test_charge_units(&tat, START, interval, burst);
            }

            ok &= tat == (n ? START + n * interval : 0)
                  && test_fill(&tat, START, interval, burst) == burst - n;
        }

        /* more than the burst: the wait is not longer than one interval */

        tat = 0;

        for (j = 0; j < burst + 100; j++) {
            test_charge_units(&tat, START, interval, burst);
        }

        deep &= test_take(&tat, START, interval, burst) == interval
                && test_take(&tat, START + interval, interval,
                                        burst) == 0;

        /* nor after the clock went backwards */

        tat = START + burst * interval + DAY;
        test_charge_units(&tat, START, interval, burst);

        back &= tat == START + burst * interval;
    }

    test_ok(ok, "charged requests count as admitted ones");
    test_ok(deep, "charges never run deep");
    test_ok(back, "charges never run deep after a clock went backwards");
}


static void
test_refund(void)
{
    uint64_t      interval;
    ngx_uint_t    i, n, j, ok, late, others, burst;
    ngx_atomic_t  tat, before;

    ok = 1;
    late = 1;
    others = 1;

    for (i = 0; i < LIMITS; i++) {
        interval = limits[i].interval;
        burst = limits[i].burst;

        /* as many as were given back are admitted again */

        for (n = 0; n <= burst; n += 1 + burst / 5) {
            tat = 0;
            (void) test_fill(&tat, START, interval, burst);

            for (j = 0; j < n; j++) {
                ngx_hybrid_gcra_refund(&tat, interval);
            }

            ok &= tat == START + (burst - n) * interval
                  && test_fill(&tat, START, interval, burst) == n;
        }

        /* taken and given back for ever, the bucket stays as empty */

        tat = 0;

        for (n = 0; n < 1000; n++) {
            ok &= test_take(&tat, START, interval, burst) == 0;
            ngx_hybrid_gcra_refund(&tat, interval);
        }

        ok &= tat == START
              && test_fill(&tat, START, interval, burst) == burst;

        /* later, a bucket that has become empty holds no second burst */

        tat = 0;
        (void) test_take(&tat, START, interval, burst);
        ngx_hybrid_gcra_refund(&tat, interval);

        late &= test_fill(&tat, START + DAY, interval, burst) == burst;

        /* what others took meanwhile stays taken */

        tat = 0;
        (void) test_take(&tat, START, interval, burst + 1);
        before = START + interval;
        (void) test_take(&tat, START + 1, interval, burst + 1);
        ngx_hybrid_gcra_refund(&tat, interval);

        others &= tat == before;
    }

    test_ok(ok, "what is given back can be taken again");
    test_ok(late, "and is no second burst later");
    test_ok(others, "what others took meanwhile stays taken");

    tat = START;
    ngx_hybrid_gcra_refund(&tat, 0);

    test_ok(tat == START, "interval 0 gives nothing back");
}


static void
test_limit(void)
{
    uint64_t      interval, most;
    ngx_uint_t    i, n, ok, cut, burst;
    ngx_atomic_t  tat;

    ok = 1;
    cut = 1;

    for (i = 0; i < LIMITS; i++) {
        interval = limits[i].interval;
        burst = limits[i].burst;
        most = START + burst * interval;

        /* within the limit nothing changes, the last microsecond included */

        for (n = 0; n <= burst; n += 1 + burst / 5) {
            tat = START + n * interval;
            test_cut(&tat, START, interval, burst);

            ok &= tat == START + n * interval
                  && test_fill(&tat, START, interval, burst) == burst - n;
        }

        tat = most;
        test_cut(&tat, START, interval, burst);
        ok &= tat == most;

        tat = 0;
        test_cut(&tat, START, interval, burst);
        ok &= tat == 0;

        /* what is above is cut: the next one comes after an interval */

        tat = most + 1;
        test_cut(&tat, START, interval, burst);
        cut &= tat == most;

        tat = (uint64_t) -1;
        test_cut(&tat, START, interval, burst);
        cut &= tat == most
               && test_take(&tat, START, interval, burst)
                  == interval
               && test_take(&tat, START + interval, interval,
                                       burst)
                  == 0;
    }

    test_ok(ok, "a bucket within its limit stays as it is");
    test_ok(cut, "one above is cut to a full one");

    tat = (uint64_t) -1;
    test_cut(&tat, START, 0, 1);

    test_ok(tat == START && test_take(&tat, START, 0, 1) == 0,
            "interval 0 leaves nothing to wait for");
}
