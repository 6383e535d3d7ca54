
/* link: stats/ngx_hybrid_histogram.c */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_hybrid_histogram.h>

#include <stdio.h>
#include <stdlib.h>

#include "tap.h"


#define BUCKETS          NGX_HYBRID_HISTOGRAM_BUCKETS
#define MAX              NGX_HYBRID_HISTOGRAM_MAX

#define VALUES           10007


/* q as a fraction: what the exact rank is, is a matter of whole numbers */

typedef struct {
    double                q;
    uint64_t              num;
    uint64_t              den;
} test_q_t;


static uint64_t test_rand(void);
static uint64_t *test_counts(void);
static uint64_t test_diff(uint64_t a, uint64_t b);
static uint64_t test_one(uint64_t value, double q);
static int ngx_libc_cdecl test_value_compare(const void *one,
    const void *two);
static uint64_t test_rank(uint64_t n, test_q_t *q);
static void test_buckets(void);
static void test_index(void);
static void test_error(void);
static void test_empty(void);
static void test_single(void);
static void test_saturating(void);
static void test_ranks(void);
static void test_large_counts(void);
static uint64_t test_draw(ngx_uint_t kind);
static ngx_uint_t test_sorted(ngx_uint_t kind, ngx_uint_t n);
static void test_percentiles(void);
static void test_monotone(void);
static void test_merge(void);


static test_q_t  quantiles[] = {
    { 0, 0, 1 },
    { 0.001, 1, 1000 },
    { 0.01, 1, 100 },
    { 0.05, 1, 20 },
    { 0.25, 1, 4 },
    { 0.5, 1, 2 },
    { 0.75, 3, 4 },
    { 0.9, 9, 10 },
    { 0.95, 19, 20 },
    { 0.99, 99, 100 },
    { 0.999, 999, 1000 },
    { 1, 1, 1 }
};

#define QUANTILES        (sizeof(quantiles) / sizeof(quantiles[0]))


static uint64_t    seed = 0x9e3779b97f4a7c15ULL;


int
main(void)
{
    test_buckets();
    test_index();
    test_error();
    test_empty();
    test_single();
    test_saturating();
    test_ranks();
    test_large_counts();
    test_percentiles();
    test_monotone();
    test_merge();

    return tap_end();
}


/* xorshift64, Marsaglia 2003 */

static uint64_t
test_rand(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;

    return seed;
}


/* in a block of just its size, so that ASan sees what is read behind it */

static uint64_t *
test_counts(void)
{
    uint64_t  *counts;

    counts = calloc(BUCKETS, sizeof(uint64_t));

    if (counts == NULL) {
        exit(2);
    }

    return counts;
}


static uint64_t
test_diff(uint64_t a, uint64_t b)
{
    return a > b ? a - b : b - a;
}


static uint64_t
test_one(uint64_t value, double q)
{
    uint64_t  *counts, result;

    counts = test_counts();
    counts[ngx_hybrid_histogram_index(value)] = 1;

    result = ngx_hybrid_histogram_quantile(counts, q);

    free(counts);

    return result;
}


static int ngx_libc_cdecl
test_value_compare(const void *one, const void *two)
{
    uint64_t  a, b;

    a = *(uint64_t *) one;
    b = *(uint64_t *) two;

    return (a > b) - (a < b);
}


/* the nearest rank from one: the least that is not below q * n */

static uint64_t
test_rank(uint64_t n, test_q_t *q)
{
    uint64_t  rank;

    rank = (n * q->num + q->den - 1) / q->den;

    return rank ? rank : 1;
}


static void
test_buckets(void)
{
    uint64_t    lower, next;
    ngx_uint_t  i, ok;

    ok = 1;

    for (i = 0; i < BUCKETS; i++) {
        lower = ngx_hybrid_histogram_lower(i);
        next = ngx_hybrid_histogram_lower(i + 1);

        if (lower >= next
            || ngx_hybrid_histogram_index(lower) != i
            || ngx_hybrid_histogram_index(next - 1) != i)
        {
            printf("# bucket %d: %llu to %llu\n", (int) i,
                   (unsigned long long) lower, (unsigned long long) next);
            ok = 0;
        }
    }

    test_ok(ok, "each bucket holds its first and its last value");

    test_ok(ngx_hybrid_histogram_lower(0) == 0
            && ngx_hybrid_histogram_lower(BUCKETS) == MAX + 1,
            "the buckets reach from 0 to the maximum");

    ok = 1;

    for (i = NGX_HYBRID_HISTOGRAM_SUB; i < BUCKETS; i++) {
        lower = ngx_hybrid_histogram_lower(i - NGX_HYBRID_HISTOGRAM_SUB);
        next = ngx_hybrid_histogram_lower(i);

        ok &= (i < 2 * NGX_HYBRID_HISTOGRAM_SUB) ? next == i
                                                 : next == 2 * lower;
    }

    test_ok(ok, "16 buckets an octave, single microseconds below 16");
}


static void
test_index(void)
{
    uint64_t    us, prev;
    ngx_uint_t  i, j, index, last, ok;

    ok = 1;
    last = 0;

    for (us = 0; us < 1 << 22; us++) {
        index = ngx_hybrid_histogram_index(us);

        ok &= index == last || index == last + 1;
        ok &= us >= ngx_hybrid_histogram_lower(index)
              && us < ngx_hybrid_histogram_lower(index + 1);

        last = index;
    }

    test_ok(ok, "the index never jumps nor falls, up to 4 s");

    ok = 1;
    prev = 0;
    last = 0;

    for (i = 0; i < 64; i++) {
        for (j = 0; j < 64; j++) {
            us = (1ULL << i) + (i ? ((1ULL << i) - 1) / 63 * j : 0);

            if (us < prev) {
                continue;
            }

            index = ngx_hybrid_histogram_index(us);

            ok &= index >= last && index < BUCKETS;

            last = index;
            prev = us;
        }
    }

    test_ok(ok && prev > 0xfffffffffffff000ULL && last == BUCKETS - 1,
            "the index never falls, up to 64 bits");

    ok = 1;

    for (i = 0; i < 1000000; i++) {
        us = test_rand() >> (32 + test_rand() % 32);
        index = ngx_hybrid_histogram_index(us);

        ok &= index < BUCKETS
              && us >= ngx_hybrid_histogram_lower(index)
              && us < ngx_hybrid_histogram_lower(index + 1);
    }

    test_ok(ok, "random values are within their buckets");
}


/* both ends of all buckets; in between it can only be less */

static void
test_error(void)
{
    uint64_t    value, middle, diff;
    ngx_uint_t  i, end, ok, widest;

    ok = 1;
    widest = 0;

    for (i = 0; i < BUCKETS; i++) {
        for (end = 0; end < 2; end++) {
            value = end ? ngx_hybrid_histogram_lower(i + 1) - 1
                        : ngx_hybrid_histogram_lower(i);
            middle = test_one(value, 0.5);
            diff = test_diff(middle, value);

            if (diff * 32 > value || (value < 32 && diff)) {
                printf("# %llu: %llu\n", (unsigned long long) value,
                       (unsigned long long) middle);
                ok = 0;
            }

            widest |= (diff * 32 == value && value >= 32);
        }
    }

    test_ok(ok, "within 1/32 of every value, exact below 32");
    test_ok(widest, "1/32 is reached");
}


static void
test_empty(void)
{
    uint64_t    *counts;
    ngx_uint_t   i, ok;

    counts = test_counts();
    ok = 1;

    for (i = 0; i < QUANTILES; i++) {
        ok &= ngx_hybrid_histogram_quantile(counts, quantiles[i].q) == 0;
    }

    free(counts);

    test_ok(ok, "empty");
}


static void
test_single(void)
{
    uint64_t    value, middle;
    ngx_uint_t  i, j, ok;

    ok = 1;

    for (i = 0; i < BUCKETS; i++) {
        value = ngx_hybrid_histogram_lower(i);
        middle = test_one(value, 0);

        for (j = 0; j < QUANTILES; j++) {
            ok &= test_one(value, quantiles[j].q) == middle;
        }

        ok &= ngx_hybrid_histogram_index(middle) == i;
    }

    test_ok(ok, "a single value is all quantiles");
}


static void
test_saturating(void)
{
    uint64_t    most, us;
    ngx_uint_t  i, ok;

    most = test_one(MAX, 1);

    test_ok(ngx_hybrid_histogram_index(MAX) == BUCKETS - 1
            && most <= MAX && test_diff(most, MAX) * 32 <= MAX,
            "the maximum");

    ok = ngx_hybrid_histogram_index(MAX + 1) == BUCKETS - 1
         && ngx_hybrid_histogram_index((uint64_t) -1) == BUCKETS - 1
         && test_one(MAX + 1, 1) == most
         && test_one((uint64_t) -1, 1) == most;

    for (i = 32; i < 64; i++) {
        us = 1ULL << i;

        ok &= ngx_hybrid_histogram_index(us) == BUCKETS - 1
              && ngx_hybrid_histogram_index(us + us / 2) == BUCKETS - 1;
    }

    test_ok(ok, "greater values are counted as the maximum");
}


/* two values: the quantile changes from one to the other at the exact rank */

static void
test_ranks(void)
{
    uint64_t    *counts, n, rank;
    ngx_uint_t   i, bad;

    counts = test_counts();
    bad = 0;

    for (n = 1; n <= 5000; n++) {
        for (i = 0; i < QUANTILES; i++) {
            rank = test_rank(n, &quantiles[i]);

            counts[3] = rank;
            counts[7] = n - rank;
            bad += ngx_hybrid_histogram_quantile(counts, quantiles[i].q) != 3;

            counts[3] = rank - 1;
            counts[7] = n - rank + 1;
            bad += ngx_hybrid_histogram_quantile(counts, quantiles[i].q) != 7;
        }
    }

    free(counts);

    test_ok(bad == 0, "exact ranks up to 5000 values");
}


static void
test_large_counts(void)
{
    uint64_t  *counts;

    counts = test_counts();

    counts[3] = 1ULL << 40;
    counts[7] = 1ULL << 40;

    test_ok(ngx_hybrid_histogram_quantile(counts, 0.5) == 3
            && ngx_hybrid_histogram_quantile(counts, 0.5000001) == 7,
            "2^41 values");

    counts[3]--;

    test_ok(ngx_hybrid_histogram_quantile(counts, 0.5) == 7,
            "one less than a half");

    counts[3] = 1ULL << 62;
    counts[7] = 1ULL << 62;

    test_ok(ngx_hybrid_histogram_quantile(counts, 0) == 3
            && ngx_hybrid_histogram_quantile(counts, 0.5) == 3
            && ngx_hybrid_histogram_quantile(counts, 0.51) == 7
            && ngx_hybrid_histogram_quantile(counts, 1) == 7,
            "2^63 values");

    ngx_memzero(counts, BUCKETS * sizeof(uint64_t));
    counts[3] = (1ULL << 60) - 1;

    test_ok(ngx_hybrid_histogram_quantile(counts, 1) == 3,
            "a total that a double rounds up");

    counts[3] = 0;
    counts[BUCKETS - 1] = 1ULL << 62;

    test_ok(ngx_hybrid_histogram_quantile(counts, 1) == test_one(MAX, 1),
            "all in the last bucket");

    free(counts);
}


static uint64_t
test_draw(ngx_uint_t kind)
{
    switch (kind) {

    case 0:
        /* even, with a few that are too large */
        return test_rand() % (MAX + MAX / 50);

    case 1:
        /* all octaves alike, as times of requests are */
        return (test_rand() & MAX) >> (test_rand() % 32);

    case 2:
        /* two heaps, far from each other */
        return test_rand() % 10 ? 2000 + test_rand() % 100
                                : 30000000 + test_rand() % 5000000;

    case 3:
        /* all the same */
        return 123456;

    default:
        /* few and small */
        return test_rand() % 20;
    }
}


static ngx_uint_t
test_sorted(ngx_uint_t kind, ngx_uint_t n)
{
    uint64_t    *counts, *values, want, got, rank;
    ngx_uint_t   i, ok;

    counts = test_counts();
    values = malloc(n * sizeof(uint64_t));

    if (values == NULL) {
        exit(2);
    }

    for (i = 0; i < n; i++) {
        values[i] = test_draw(kind);
        counts[ngx_hybrid_histogram_index(values[i])]++;
    }

    qsort(values, n, sizeof(uint64_t), test_value_compare);

    ok = 1;

    for (i = 0; i < QUANTILES; i++) {
        rank = test_rank(n, &quantiles[i]);
        want = ngx_min(values[rank - 1], MAX);
        got = ngx_hybrid_histogram_quantile(counts, quantiles[i].q);

        if (test_diff(got, want) * 32 > want) {
            printf("# kind %d, %d values, q %g: %llu, wanted %llu\n",
                   (int) kind, (int) n, quantiles[i].q,
                   (unsigned long long) got, (unsigned long long) want);
            ok = 0;
        }
    }

    free(values);
    free(counts);

    return ok;
}


static void
test_percentiles(void)
{
    char        what[64];
    ngx_uint_t  kind, n, ok;

    for (kind = 0; kind < 5; kind++) {
        ok = 1;

        for (n = 1; n < 150; n++) {
            ok &= test_sorted(kind, n);
        }

        ok &= test_sorted(kind, 1000);
        ok &= test_sorted(kind, VALUES);

        (void) sprintf(what, "percentiles of sorted values, kind %d",
                       (int) kind);
        test_ok(ok, what);
    }
}


static void
test_monotone(void)
{
    uint64_t    *counts, got, last;
    ngx_uint_t   i, n, ok;

    counts = test_counts();
    ok = 1;

    for (n = 0; n < 100; n++) {
        ngx_memzero(counts, BUCKETS * sizeof(uint64_t));

        for (i = 0; i < 300; i++) {
            counts[test_rand() % BUCKETS] += test_rand() % 5;
        }

        last = 0;

        for (i = 0; i <= 1000; i++) {
            got = ngx_hybrid_histogram_quantile(counts, i / 1000.0);
            ok &= got >= last;
            last = got;
        }
    }

    free(counts);

    test_ok(ok, "a greater q has no smaller quantile");
}


/* adding counts is the same as counting in one place */

static void
test_merge(void)
{
    uint64_t    *one, *two, *all, a, b, c;
    ngx_uint_t   i, n, ok;

    one = test_counts();
    two = test_counts();
    all = test_counts();
    ok = 1;

    for (i = 0; i < VALUES; i++) {
        n = ngx_hybrid_histogram_index(test_draw(i % 5));

        all[n]++;

        if (i % 3) {
            one[n]++;

        } else {
            two[n]++;
        }
    }

    for (i = 0; i < BUCKETS; i++) {
        one[i] += two[i];
    }

    for (i = 0; i < QUANTILES; i++) {
        ok &= ngx_hybrid_histogram_quantile(one, quantiles[i].q)
              == ngx_hybrid_histogram_quantile(all, quantiles[i].q);
    }

    test_ok(ok, "merged by adding counts");

    /* a quantile of the whole is between those of its parts */

    ok = 1;

    for (n = 0; n < 1000; n++) {
        ngx_memzero(one, BUCKETS * sizeof(uint64_t));
        ngx_memzero(two, BUCKETS * sizeof(uint64_t));

        for (i = 0; i < 1 + n % 50; i++) {
            one[ngx_hybrid_histogram_index(test_draw(n % 5))]++;
            two[ngx_hybrid_histogram_index(test_draw(i % 5))]++;
        }

        for (i = 0; i < BUCKETS; i++) {
            all[i] = one[i] + two[i];
        }

        for (i = 0; i < QUANTILES; i++) {
            a = ngx_hybrid_histogram_quantile(one, quantiles[i].q);
            b = ngx_hybrid_histogram_quantile(two, quantiles[i].q);
            c = ngx_hybrid_histogram_quantile(all, quantiles[i].q);

            ok &= c >= ngx_min(a, b) && c <= ngx_max(a, b);
        }
    }

    free(one);
    free(two);
    free(all);

    test_ok(ok, "a quantile of the whole is between those of its parts");
}
