
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_hybrid_gcra.h>

#include <stdio.h>
#include <stdlib.h>


/* the extremes that "rate" can be set to: 1r/d, and the largest burst */

#define DAY              (86400 * 1000000ULL)
#define BURST            1000000

#define START            1700000000000123ULL


/* of one unit at a time, which costs the interval in usec */

#define test_take(tat, now, interval, burst)                                  \
    ngx_hybrid_gcra_take(tat, now, interval, (uint64_t) (burst) * (interval))

#define test_charge_units(tat, now, interval, burst)                          \
    ngx_hybrid_gcra_charge(tat, now, interval, (uint64_t) (burst) * (interval))

#define test_cut(tat, now, interval, burst)                                   \
    ngx_hybrid_gcra_limit(tat, now, (uint64_t) (burst) * (interval))


void test_ok(ngx_uint_t ok, const char *what);
uint64_t test_rand(uint64_t n);

void test_random(void);
