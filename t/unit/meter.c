
/* link: limit/ngx_hybrid_meter.c limit/ngx_hybrid_gcra.c */

/*
 * A meter of a client: the own account and the credits, as far as one thread
 * can tell, and the periods of a budget against the C library's calendar.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_hybrid_meter.h>

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "tap.h"


#define MSEC    1000ULL
#define SEC     (1000 * MSEC)
#define DAY     (86400 * SEC)


/* of the system's, which may have been started a moment ago */

volatile ngx_msec_t  ngx_current_msec = 5000;


static void test_account(void);
static void test_debt(void);
static void test_refund(void);
static void test_limit(void);
static void test_budget(void);
static void test_credits(void);
static void test_owed(void);
static void test_wrap(void);
static void test_periods(void);


int
main(void)
{
    test_account();
    test_debt();
    test_refund();
    test_limit();
    test_budget();
    test_credits();
    test_owed();
    test_wrap();
    test_periods();

    return tap_end();
}


static void
test_account(void)
{
    uint64_t            now;
    ngx_hybrid_meter_t  m;

    ngx_memzero(&m, sizeof(m));
    now = 5 * SEC;

    /* 100 a second, of which 50 at once */

    ngx_hybrid_meter_limit(&m, now, 10 * MSEC * 1000, 50);

    test_ok(m.span == 500 * MSEC, "a burst");
    test_ok(ngx_hybrid_meter_left(&m, now) == 50, "all is left");
    test_ok(ngx_hybrid_meter_take(&m, now, 20) == 0, "taken");
    test_ok(ngx_hybrid_meter_left(&m, now) == 30, "less is left");
    test_ok(ngx_hybrid_meter_take(&m, now, 31) == 10 * MSEC, "the wait");
    test_ok(ngx_hybrid_meter_left(&m, now) == 30, "a refusal takes nothing");
    test_ok(ngx_hybrid_meter_take(&m, now + 10 * MSEC, 31) == 0,
            "no longer than that");
    test_ok(ngx_hybrid_meter_left(&m, now + 10 * MSEC) == 0, "nothing left");
    test_ok(ngx_hybrid_meter_take(&m, now + 10 * MSEC, 51) == 510 * MSEC,
            "more than a burst");
    test_ok(ngx_hybrid_meter_left(&m, now + 10 * SEC) == 50, "full again");
}


static void
test_debt(void)
{
    uint64_t            now;
    ngx_hybrid_meter_t  m;

    ngx_memzero(&m, sizeof(m));
    now = 5 * SEC;

    ngx_hybrid_meter_limit(&m, now, 10 * MSEC * 1000, 50);

    ngx_hybrid_meter_charge(&m, now, 70);
    test_ok(ngx_hybrid_meter_left(&m, now) == 0, "in debt, nothing is left");
    test_ok(ngx_hybrid_meter_take(&m, now, 1) == 210 * MSEC,
            "and the next one waits for it");

    ngx_hybrid_meter_charge(&m, now, (uint64_t) 1 << 50);
    test_ok(m.account == now + SEC, "two bursts at most");
    ngx_hybrid_meter_charge(&m, now, UINT64_MAX);
    test_ok(m.account == now + SEC, "however much it was");
}


static void
test_refund(void)
{
    uint64_t            now;
    ngx_hybrid_meter_t  m;

    ngx_memzero(&m, sizeof(m));
    now = 5 * SEC;

    ngx_hybrid_meter_limit(&m, now, 10 * MSEC * 1000, 50);

    (void) ngx_hybrid_meter_take(&m, now, 50);
    ngx_hybrid_meter_refund(&m, 20);
    test_ok(ngx_hybrid_meter_left(&m, now) == 20, "given back");

    now += 10 * SEC;
    ngx_hybrid_meter_refund(&m, 30);
    test_ok(ngx_hybrid_meter_left(&m, now) == 50, "late, and no more");

    /* reset by an operator while a request is under way */

    (void) ngx_hybrid_meter_take(&m, now, 50);
    m.account = 0;
    ngx_hybrid_meter_refund(&m, 50);
    test_ok(ngx_hybrid_meter_left(&m, now) == 50, "of what was reset");
    test_ok(ngx_hybrid_meter_take(&m, now, 50) == 0, "which is no debt");

    /* taken in another unit */

    ngx_memzero(&m, sizeof(m));
    ngx_hybrid_meter_limit(&m, now, 1000, 1000000);
    (void) ngx_hybrid_meter_take(&m, now, 1000000);
    ngx_hybrid_meter_limit(&m, now, DAY * 1000, 10);
    ngx_hybrid_meter_refund(&m, 1000000);
    test_ok(ngx_hybrid_meter_take(&m, now, 10) == 0,
            "of a limit that was made smaller");
}


static void
test_limit(void)
{
    uint64_t            now;
    ngx_hybrid_meter_t  m;

    ngx_memzero(&m, sizeof(m));
    now = 5 * SEC;

    ngx_hybrid_meter_limit(&m, now, 10 * MSEC * 1000, 50);
    (void) ngx_hybrid_meter_take(&m, now, 50);
    m.told = 1;
    m.dry = ngx_current_msec + 1000;

    ngx_hybrid_meter_limit(&m, now, 10 * MSEC * 1000, 50);
    test_ok(m.told == 1 && m.dry == ngx_current_msec + 1000, "the same");

    ngx_hybrid_meter_limit(&m, now, 10 * MSEC * 1000, 80);
    test_ok(ngx_hybrid_meter_left(&m, now) == 30, "a larger burst");
    test_ok(m.told == 0 && m.dry == ngx_current_msec, "Redis has said nothing");

    ngx_hybrid_meter_limit(&m, now, 10 * MSEC * 1000, 10);
    test_ok(m.account == now + 100 * MSEC, "a smaller one is empty");

    ngx_hybrid_meter_limit(&m, now, 0, 0);
    test_ok(m.span == 0 && m.interval == 0, "none");
}


static void
test_budget(void)
{
    ngx_hybrid_meter_t  m;

    ngx_memzero(&m, sizeof(m));
    ngx_hybrid_meter_limit(&m, 0, 0, 1000);
    ngx_hybrid_meter_period(&m, 20000, 20001);

    test_ok(ngx_hybrid_meter_left(&m, 0) == 1000, "a budget");
    test_ok(ngx_hybrid_meter_take(&m, 0, 600) == 0, "some of it");
    test_ok(ngx_hybrid_meter_take(&m, 0, 401) != 0, "too much");
    test_ok(ngx_hybrid_meter_take(&m, 0, 400) == 0, "just all");
    test_ok(ngx_hybrid_meter_left(&m, 0) == 0, "spent");

    ngx_hybrid_meter_refund(&m, 100);
    test_ok(ngx_hybrid_meter_left(&m, 0) == 100, "given back");
    ngx_hybrid_meter_charge(&m, 0, 5000);
    test_ok(m.account == 5900 && ngx_hybrid_meter_left(&m, 0) == 0,
            "overdrawn, and all of that counts");

    ngx_hybrid_meter_period(&m, 19999, 20000);
    test_ok(m.account == 5900 && m.period == 20000, "not the one before");
    ngx_hybrid_meter_period(&m, 20000, 20001);
    test_ok(m.account == 5900, "nor the same");
    ngx_hybrid_meter_period(&m, 20001, 20002);
    test_ok(ngx_hybrid_meter_left(&m, 0) == 1000, "the next one");

    ngx_hybrid_meter_refund(&m, 100);
    test_ok(ngx_hybrid_meter_left(&m, 0) == 1000,
            "does not get what was reserved before it");

    /* what was got and not used belongs to the old one */

    ngx_hybrid_meter_lease_add(&m, ngx_current_msec, 50);
    ngx_hybrid_meter_owe(&m, -70);
    ngx_hybrid_meter_period(&m, 20002, 20003);
    test_ok(!ngx_hybrid_meter_lease_take(&m, ngx_current_msec, 1),
            "its credits are void");
    test_ok(ngx_hybrid_meter_owed(&m) == 0, "and nothing is given back");

    ngx_hybrid_meter_owe(&m, 70);
    ngx_hybrid_meter_period(&m, 20003, 20004);
    test_ok(ngx_hybrid_meter_owed(&m) == 0, "nor paid for");

    /* one that is far ahead was a mistake */

    ngx_hybrid_meter_period(&m, 20365, 20366);
    ngx_hybrid_meter_charge(&m, 0, 100);
    ngx_hybrid_meter_owe(&m, 30);
    ngx_hybrid_meter_period(&m, 20004, 20005);
    test_ok(m.period == 20004 && ngx_hybrid_meter_left(&m, 0) == 900,
            "back from another year");
    test_ok(ngx_hybrid_meter_owed(&m) == 30, "with what was spent there");
    ngx_hybrid_meter_period(&m, 20005, 20006);
    test_ok(ngx_hybrid_meter_left(&m, 0) == 1000, "and on from there");
}


static void
test_credits(void)
{
    ngx_msec_t          now;
    ngx_hybrid_meter_t  m;

    ngx_memzero(&m, sizeof(m));
    now = ngx_current_msec;

    test_ok(!ngx_hybrid_meter_lease_take(&m, now, 1), "no credits");
    test_ok(ngx_hybrid_meter_lease_idle(&m, now) == 0, "nor idle ones");

    ngx_hybrid_meter_lease_add(&m, now, 10);
    test_ok(ngx_hybrid_meter_lease_left(&m, now) == 10, "some");
    test_ok(!ngx_hybrid_meter_lease_take(&m, now, 11), "not enough");
    test_ok(ngx_hybrid_meter_lease_take(&m, now, 4), "enough");
    test_ok(ngx_hybrid_meter_lease_idle(&m, now + 999) == 0, "in use");

    test_ok(ngx_hybrid_meter_lease_left(&m, now + 1000) == 0
            && !ngx_hybrid_meter_lease_take(&m, now + 1000, 1),
            "after a second they are nobody's");
    test_ok(ngx_hybrid_meter_lease_idle(&m, now + 1000) == 6, "to give back");
    test_ok(ngx_hybrid_meter_lease_idle(&m, now + 1000) == 0, "once");

    ngx_hybrid_meter_lease_add(&m, now, 10);
    ngx_hybrid_meter_lease_add(&m, now + 1500, 5);
    test_ok(ngx_hybrid_meter_lease_left(&m, now + 1500) == 15, "kept with new");
}


static void
test_owed(void)
{
    ngx_hybrid_meter_t  m;

    ngx_memzero(&m, sizeof(m));

    ngx_hybrid_meter_owe(&m, 10);
    ngx_hybrid_meter_owe(&m, -25);
    test_ok(ngx_hybrid_meter_owed(&m) == -15, "to be given back");
    test_ok(ngx_hybrid_meter_owed(&m) == 0, "once");
    ngx_hybrid_meter_owe(&m, (int64_t) 1 << 52);
    test_ok(ngx_hybrid_meter_owed(&m) == (int64_t) 1 << 52, "to be charged");
}


/* msec that are about to wrap */

static void
test_wrap(void)
{
    ngx_msec_t          now;
    ngx_hybrid_meter_t  m;

    ngx_memzero(&m, sizeof(m));
    now = (ngx_msec_t) -500;

    ngx_hybrid_meter_lease_add(&m, now, 10);
    test_ok(ngx_hybrid_meter_lease_left(&m, now + 999) == 10, "over zero");
    test_ok(ngx_hybrid_meter_lease_left(&m, now + 1000) == 0, "and idle");
}


static void
test_periods(void)
{
    time_t      t, first, end;
    struct tm   tm;
    ngx_uint_t  day, next, bad, n;

    bad = 0;
    n = 0;

    for (t = 0; t < (time_t) 300 * 366 * 86400; t += 86400 - 1 + n % 3) {
        n++;
        gmtime_r(&t, &tm);

        day = ngx_hybrid_period(t, 0, &next);

        if (day != (ngx_uint_t) (t / 86400) || next != day + 1) {
            bad++;
        }

        tm.tm_mday = 1;
        tm.tm_hour = 0;
        tm.tm_min = 0;
        tm.tm_sec = 0;
        first = timegm(&tm);
        tm.tm_mon++;
        end = timegm(&tm);

        day = ngx_hybrid_period(t, 1, &next);

        if (day != (ngx_uint_t) (first / 86400)
            || next != (ngx_uint_t) (end / 86400))
        {
            bad++;
        }
    }

    test_ok(n > 100000, "days of three centuries");
    test_ok(bad == 0, "and their months");
}
