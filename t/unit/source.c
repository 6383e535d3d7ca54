
/* link: core/ngx_hybrid_source.c */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_hybrid_source.h>

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>

#include "tap.h"


#define START     1700000000000
#define INTERVAL  NGX_HYBRID_SOURCE_INTERVAL
#define WAIT_MAX  (NGX_HYBRID_SOURCE_LINE * NGX_HYBRID_SOURCE_STEP)


static void test_burst(void);
static void test_rate(void);
static void test_sources(void);
static void test_families(void);
static void test_told(void);
static void test_kinds(void);
static void test_report(void);
static void test_ended(void);
static void test_replaced(void);
static void test_clock(void);
static void test_size(void);
static ngx_uint_t test_fail(const char *addr, ngx_msec_t now);
static ngx_uint_t test_why(const char *addr, const char *why, ngx_msec_t now);
static ngx_uint_t test_text(const char *text);
static void test_new(ngx_uint_t n);


static ngx_hybrid_sources_t        *table;
static ngx_hybrid_source_report_t   report;
static ngx_msec_t                   waits;
static ngx_shmtx_t                  mutex;
static ngx_int_t                    locked;


int
main(void)
{
    test_burst();
    test_rate();
    test_sources();
    test_families();
    test_told();
    test_kinds();
    test_report();
    test_ended();
    test_replaced();
    test_clock();
    test_size();

    test_ok(locked == 0, "every lock was released");

    return tap_end();
}


static void
test_burst(void)
{
    ngx_uint_t  i, waited;

    test_new(64);

    waited = 0;

    for (i = 0; i < NGX_HYBRID_SOURCE_BURST; i++) {
        (void) test_fail("192.0.2.1", START);
        waited += (waits != 0);
    }

    test_ok(waited == 0, "the burst does not wait");

    for (i = 1; i <= NGX_HYBRID_SOURCE_LINE; i++) {
        (void) test_fail("192.0.2.1", START);

        if (waits != i * NGX_HYBRID_SOURCE_STEP) {
            break;
        }
    }

    test_ok(i == NGX_HYBRID_SOURCE_LINE + 1,
            "those above it wait for their turn, one after the other");

    for (i = 0; i < 10000; i++) {
        (void) test_fail("192.0.2.1", START);

        if (waits) {
            break;
        }
    }

    test_ok(i == 10000, "when the line is full nobody is put into it");

    (void) test_fail("192.0.2.1", START + NGX_HYBRID_SOURCE_STEP);

    test_ok(waits == WAIT_MAX, "... until one of them had its turn");

    (void) test_fail("192.0.2.1", START + WAIT_MAX
                     + (NGX_HYBRID_SOURCE_BURST + 1) * NGX_HYBRID_SOURCE_STEP);

    test_ok(waits == 0, "it ends");
}


/* who waits for each answer gets no more than the rate */

static void
test_rate(void)
{
    ngx_msec_t  now;
    ngx_uint_t  n;

    test_new(64);

    n = 0;

    for (now = START; now < START + 20000; n++) {
        (void) test_fail("192.0.2.1", now);
        now += waits;
    }

    test_ok(n <= NGX_HYBRID_SOURCE_BURST + 20000 / NGX_HYBRID_SOURCE_STEP + 1,
            "one connection gets the burst and the rate");
}


static void
test_sources(void)
{
    u_char      addr[sizeof("192.168.255.255")];
    ngx_uint_t  i, waited;

    test_new(4096);

    for (i = 0; i < NGX_HYBRID_SOURCE_BURST + 10; i++) {
        (void) test_fail("192.0.2.1", START);
    }

    test_ok(waits > 0, "a source waits");

    waited = 0;

    for (i = 0; i < 1000; i++) {
        sprintf((char *) addr, "192.168.%u.%u", (unsigned) i / 250,
                (unsigned) i % 250);
        (void) test_fail((char *) addr, START);
        waited += (waits != 0);
    }

    test_ok(waited == 0, "others don't");

    (void) test_fail("192.0.2.1", START);

    test_ok(waits > 0, "and it still does");
}


static void
test_families(void)
{
    ngx_uint_t  i;

    test_new(64);

    for (i = 0; i < NGX_HYBRID_SOURCE_BURST + 10; i++) {
        (void) test_fail("2001:db8:1:2::1", START);
    }

    (void) test_fail("2001:db8:1:2:ffff::2", START);
    test_ok(waits > 0, "the same /64");

    (void) test_fail("2001:db8:1:3::1", START);
    test_ok(waits == 0, "another /64");

    test_new(64);

    for (i = 0; i < NGX_HYBRID_SOURCE_BURST + 10; i++) {
        (void) test_fail("192.0.2.1", START);
    }

    (void) test_fail("::ffff:192.0.2.1", START);
    test_ok(waits > 0, "IPv4 in IPv6 is the IPv4 address");

    (void) test_fail("192.0.2.2", START);
    test_ok(waits == 0, "the next IPv4 address is another one");

    (void) test_fail("c000:201::", START);
    test_ok(waits == 0, "IPv6 with the same bytes is another one");

    (void) test_fail("unix:", START);
    test_ok(waits == 0, "and so is a socket");
}


static void
test_told(void)
{
    ngx_uint_t  i, told;

    test_new(64);

    for (i = 0, told = 0; i < 100; i++) {
        told += test_fail("192.0.2.1", START + i);
    }

    test_ok(told == NGX_HYBRID_SOURCE_LOGGED, "the first ones are told of");
    test_ok(test_fail("192.0.2.2", START) == 1, "of another source, too");

    test_ok(test_fail("192.0.2.1", START + INTERVAL - 1) == 0,
            "until the interval ends");
    test_ok(test_fail("192.0.2.1", START + INTERVAL) == 1, "... and then");
}


static void
test_kinds(void)
{
    char        why[32];
    ngx_uint_t  i, told;

    test_new(64);

    for (i = 0; i < 100; i++) {
        (void) test_why("192.0.2.1", "wrong", START);
    }

    test_ok(test_why("192.0.2.1", "revoked", START) == 1,
            "a new kind of failure is told of");
    test_ok(test_why("192.0.2.1", "revoked", START) == 0, "... once");
    test_ok(test_why("192.0.2.1", "wrong", START) == 0, "... an old one not");

    for (i = 0, told = 0; i < 10000; i++) {
        sprintf(why, "kind %u", (unsigned) i);
        told += test_why("192.0.2.1", why, START);
    }

    test_ok(told <= 64, "kinds are bounded");
}


static void
test_report(void)
{
    char        why[200];
    ngx_uint_t  i, reports;

    test_new(64);

    for (i = 0, reports = 0; i < 1234; i++) {
        (void) test_fail("192.0.2.1", START + i);
        reports += (report.count != 0);
    }

    test_ok(reports == 0, "nothing while the interval lasts");

    (void) test_why("192.0.2.1", "new", START + INTERVAL + 5000);

    test_ok(report.count == 1234 && report.span == INTERVAL + 5000,
            "the next failure tells how many there were");
    test_ok(test_text("192.0.2.1"), "... whose");
    test_ok(report.nwhy == 5 && ngx_memcmp(report.why, "wrong", 5) == 0,
            "... and why");

    (void) test_fail("192.0.2.1", START + 3 * INTERVAL);
    test_ok(report.count == 0, "one that was told of is not told again");

    memset(why, 'y', sizeof(why));
    why[sizeof(why) - 1] = '\0';

    for (i = 0; i < 20; i++) {
        (void) test_why("2001:db8:1:2::1", why, START);
    }

    (void) test_fail("2001:db8:1:2::1", START + INTERVAL);
    test_ok(test_text("2001:db8:1:2::/64"), "the network of an IPv6 address");
    test_ok(report.nwhy == NGX_HYBRID_SOURCE_WHY, "a long reason is cut");

    for (i = 0; i < 20; i++) {
        (void) test_fail("unix:", START);
    }

    (void) test_fail("unix:", START + INTERVAL);
    test_ok(test_text("unix:"), "a socket");
}


static void
test_ended(void)
{
    ngx_uint_t  i, slot;
    ngx_msec_t  next;

    test_new(4096);

    for (i = 0; i < 20; i++) {
        (void) test_fail("192.0.2.1", START + 1000);
        (void) test_fail("192.0.2.2", START + 3000);
        (void) test_fail("192.0.2.3", START);
    }

    (void) test_fail("192.0.2.4", START);

    slot = 0;
    next = 0;

    test_ok(ngx_hybrid_source_ended(table, &mutex, START + 3000, &slot, &next,
                                    &report) == 0
            && next == INTERVAL - 3000,
            "none has ended, and the first one will");

    for (i = 0, slot = 0, next = 0; /* void */ ; i++) {
        if (!ngx_hybrid_source_ended(table, &mutex, START + INTERVAL + 1000,
                                     &slot, &next, &report))
        {
            break;
        }

        if (report.count != 20) {
            break;
        }
    }

    test_ok(i == 2 && next == 2000, "two have, the third will");

    slot = 0;
    next = 0;

    test_ok(ngx_hybrid_source_ended(table, &mutex, START + 2 * INTERVAL,
                                    &slot, &next, &report) == 1
            && test_text("192.0.2.2"), "the third has");
    test_ok(ngx_hybrid_source_ended(table, &mutex, START + 2 * INTERVAL,
                                    &slot, &next, &report) == 0
            && next == 0, "there is nothing more");
}


static void
test_replaced(void)
{
    char        addr[32];
    ngx_uint_t  i, reports;

    /* eight places, all of them neighbours */

    test_new(8);

    for (i = 0; i < 20; i++) {
        (void) test_fail("192.0.2.99", START);
    }

    for (i = 0, reports = 0; i < 8; i++) {
        sprintf(addr, "192.0.2.%u", (unsigned) i);
        (void) test_fail(addr, START + 1 + i);

        if (report.count == 20 && test_text("192.0.2.99")) {
            reports++;
        }
    }

    test_ok(reports == 1, "the one that has to go is told of");

    for (i = 0; i < 100; i++) {
        (void) test_fail("192.0.2.1", START + 100 + i);
    }

    for (i = 0; i < 100000; i++) {
        sprintf(addr, "10.%u.%u.%u", (unsigned) (i >> 16) & 255,
                (unsigned) (i >> 8) & 255, (unsigned) i & 255);
        (void) test_fail(addr, START + 200 + i);

        if (i % 5 == 0) {
            (void) test_fail("192.0.2.1", START + 200 + i);

            if (report.count && test_text("192.0.2.1")
                && report.span < INTERVAL)
            {
                break;
            }
        }
    }

    test_ok(i == 100000, "a source that goes on failing stays");
}


/* the clocks of two workers differ by some milliseconds */

static void
test_clock(void)
{
    ngx_uint_t  i, slot;
    ngx_msec_t  next;

    test_new(8);

    for (i = 0; i < 20; i++) {
        (void) test_fail("192.0.2.1", START - i * 10);
    }

    test_ok(report.count == 0, "an older clock ends no interval");

    slot = 0;
    next = 0;

    test_ok(ngx_hybrid_source_ended(table, &mutex, START - 500, &slot, &next,
                                    &report) == 0
            && next == INTERVAL, "... nor here");

    for (i = 0; i < 7; i++) {
        char  addr[32];

        sprintf(addr, "192.0.2.%u", (unsigned) i + 10);
        (void) test_fail(addr, START - 1000);
    }

    test_ok(test_fail("192.0.2.1", START - 2000) == 0,
            "... and replaces nobody");
}


static void
test_size(void)
{
    ngx_uint_t  n, i;

    test_ok(ngx_hybrid_source_size(512 * 1024, &n) < 512 * 1024 / 16 + 64
            && n >= 64 && (n & (n - 1)) == 0, "the smallest zone");
    test_ok(ngx_hybrid_source_size(16 * 1024 * 1024, &n) <= 1024 * 1024
            && n == NGX_HYBRID_SOURCE_MAX, "the default zone");

    i = ngx_hybrid_source_size(1024 * 1024 * 1024, &n);
    test_ok(n == NGX_HYBRID_SOURCE_MAX && i < 1024 * 1024, "a large zone");
}


static ngx_uint_t
test_fail(const char *addr, ngx_msec_t now)
{
    return test_why(addr, "wrong", now);
}


static ngx_uint_t
test_why(const char *addr, const char *why, ngx_msec_t now)
{
    ngx_str_t            text;
    struct sockaddr_un   sun;
    struct sockaddr_in   sin;
    struct sockaddr_in6  sin6;
    struct sockaddr     *sa;

    text.data = (u_char *) why;
    text.len = strlen(why);

    memset(&sin, 0, sizeof(sin));
    memset(&sin6, 0, sizeof(sin6));
    memset(&sun, 0, sizeof(sun));

    sin.sin_family = AF_INET;
    sin.sin_port = (u_short) rand();
    sin6.sin6_family = AF_INET6;
    sin6.sin6_port = (u_short) rand();
    sun.sun_family = AF_UNIX;

    if (inet_pton(AF_INET, addr, &sin.sin_addr) == 1) {
        sa = (struct sockaddr *) &sin;

    } else if (inet_pton(AF_INET6, addr, &sin6.sin6_addr) == 1) {
        sa = (struct sockaddr *) &sin6;

    } else {
        sa = (struct sockaddr *) &sun;
    }

    return ngx_hybrid_source_fail(table, &mutex, sa, &text, now, &waits,
                                  &report);
}


static ngx_uint_t
test_text(const char *text)
{
    return report.naddr == strlen(text)
           && memcmp(report.addr, text, report.naddr) == 0;
}


static void
test_new(ngx_uint_t n)
{
    free(table);

    table = calloc(1, sizeof(ngx_hybrid_sources_t)
                      + n * sizeof(ngx_hybrid_source_t));
    if (table == NULL) {
        exit(2);
    }

    ngx_hybrid_source_init(table, n, 12345);
}


/* of nginx */

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


uint32_t
ngx_murmur_hash2(u_char *data, size_t len)
{
    uint32_t  h;

    for (h = 2166136261u; len; len--) {
        h = (h ^ *data++) * 16777619;
    }

    return h;
}


size_t
ngx_inet_ntop(int family, void *addr, u_char *text, size_t len)
{
    return inet_ntop(family, addr, (char *) text, len)
           ? strlen((char *) text) : 0;
}
