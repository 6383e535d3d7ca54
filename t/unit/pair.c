
/* link: core/ngx_hybrid_pair.c */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_hybrid_pair.h>

#include <stdio.h>
#include <stdlib.h>

#include "tap.h"


/* the clock wraps in the middle of each test */
#define START  ((ngx_msec_t) -5000)


static void test_names(void);
static void test_replaced(void);
static void test_average(void);
static void test_breaker(void);
static void test_trial(void);
static void test_who(void);
static void test_size(void);
static ngx_hybrid_pair_t *test_make(const char *backend, const char *model);
static void test_new(ngx_uint_t n);


volatile ngx_msec_t  ngx_current_msec;

static ngx_hybrid_pairs_t  *pairs;
static ngx_shmtx_t          mutex;
static ngx_int_t            locked;


int
main(void)
{
    test_names();
    test_replaced();
    test_average();
    test_breaker();
    test_trial();
    test_who();
    test_size();

    test_ok(locked == 0, "every lock was released");

    return tap_end();
}


static void
test_names(void)
{
    char                ch[NGX_HYBRID_PAIR_TEXT + 2];
    ngx_str_t           backend, model;
    ngx_hybrid_pair_t  *one, *two;

    test_new(64);

    one = test_make("forge", "mistral");
    two = test_make("anvil", "mistral");

    test_ok(one && two && one != two, "a model on two backends");
    test_ok(test_make("forge", "mistral") == one, "the same again");
    test_ok(test_make("forgem", "istral") != one, "where the name is cut");

    ngx_hybrid_pair_labels(one, &backend, &model);

    test_ok(backend.len == 5 && ngx_memcmp(backend.data, "forge", 5) == 0
            && model.len == 7 && ngx_memcmp(model.data, "mistral", 7) == 0,
            "its names");

    ngx_str_set(&backend, "forge");
    ngx_str_set(&model, "phi3");

    test_ok(ngx_hybrid_pair_find(pairs, &backend, &model) == NULL,
            "one that is not known");

    ngx_memset(ch, 'x', sizeof(ch));
    ch[sizeof(ch) - 1] = '\0';

    test_ok(test_make("forge", ch) == NULL, "a name that is too long");
    test_ok(test_make("", "mistral") == NULL, "no name");

    ch[NGX_HYBRID_PAIR_TEXT - 5] = '\0';

    test_ok(test_make("forge", ch) != NULL, "the longest name");
}


static void
test_replaced(void)
{
    char                ch[16];
    ngx_uint_t          i;
    ngx_hybrid_pair_t  *kept;

    /* a single set of four */

    test_new(4);

    kept = test_make("forge", "kept");
    ngx_hybrid_pair_token(kept, 1000);

    for (i = 0; i < 1000; i++) {
        sprintf(ch, "m%u", (unsigned) i);

        ngx_current_msec += 10;
        (void) test_make("forge", ch);

        ngx_current_msec += 10;

        if (test_make("forge", "kept") != kept) {
            break;
        }
    }

    test_ok(i == 1000 && kept->ttft == 1000, "what is used stays");

    ngx_current_msec += 10;

    for (i = 0; i < 4; i++) {
        sprintf(ch, "n%u", (unsigned) i);
        ngx_current_msec += 10;
        (void) test_make("forge", ch);
    }

    kept = test_make("forge", "kept");

    test_ok(kept->ttft == 0, "what is not makes room, and is forgotten");
}


static void
test_average(void)
{
    ngx_uint_t          i;
    ngx_hybrid_pair_t  *pair;

    test_new(4);
    pair = test_make("forge", "mistral");

    ngx_hybrid_pair_token(pair, 80000);
    test_ok(pair->ttft == 80000, "the first is the average");

    ngx_hybrid_pair_token(pair, 160000);
    test_ok(pair->ttft == 90000, "an eighth of the way");

    for (i = 0; i < 100; i++) {
        ngx_hybrid_pair_token(pair, 500);
    }

    test_ok(pair->ttft >= 500 && pair->ttft < 600, "it follows");

    for (i = 0; i < 200; i++) {
        ngx_hybrid_pair_token(pair, (uint64_t) -1);
    }

    test_ok(pair->ttft <= 3600u * 1000000 && pair->ttft > 3500u * 1000000,
            "an absurd time is an hour");

    for (i = 0; i < 1000; i++) {
        ngx_hybrid_pair_token(pair, 0);
    }

    test_ok(pair->ttft > 0 && pair->ttft < 8, "nothing is not unknown");
}


static void
test_breaker(void)
{
    ngx_uint_t          i;
    ngx_msec_t          left;
    ngx_hybrid_pair_t  *pair;

    test_new(4);
    pair = test_make("forge", "mistral");

    for (i = 1; i < NGX_HYBRID_PAIR_FAILS; i++) {
        test_ok(!ngx_hybrid_pair_failed(pair, 0), "a failure");
    }

    test_ok(ngx_hybrid_pair_open(pair, 1) == 0, "it is still closed");

    ngx_hybrid_pair_passed(pair);

    for (i = 1; i < NGX_HYBRID_PAIR_FAILS; i++) {
        test_ok(!ngx_hybrid_pair_failed(pair, 0), "a failure after success");
    }

    test_ok(ngx_hybrid_pair_failed(pair, 0), "enough in a row: it opens");

    left = ngx_hybrid_pair_open(pair, 0);
    test_ok(left == NGX_HYBRID_PAIR_OPEN, "for so long");

    test_ok(!ngx_hybrid_pair_failed(pair, 0)
            && !ngx_hybrid_pair_failed(pair, 0)
            && !ngx_hybrid_pair_failed(pair, 0)
            && ngx_hybrid_pair_open(pair, 0) == left,
            "what was under way does not prolong it");

    ngx_current_msec += NGX_HYBRID_PAIR_OPEN - 1;
    test_ok(ngx_hybrid_pair_open(pair, 1) == 1, "the last millisecond");

    ngx_current_msec += 1;
    test_ok(ngx_hybrid_pair_open(pair, 0) == 0, "it may be tried");
    test_ok(ngx_hybrid_pair_open(pair, 0) == 0, "looking is not trying");
    test_ok(ngx_hybrid_pair_open(pair, 1) == 0, "one tries");
    test_ok(ngx_hybrid_pair_open(pair, 1) != 0, "another does not");
}


static void
test_trial(void)
{
    ngx_uint_t          i;
    ngx_msec_t          time;
    ngx_hybrid_pair_t  *pair;

    test_new(4);
    pair = test_make("forge", "mistral");

    for (i = 0; i < NGX_HYBRID_PAIR_FAILS; i++) {
        (void) ngx_hybrid_pair_failed(pair, 0);
    }

    time = NGX_HYBRID_PAIR_OPEN;

    for (i = 0; i < 10; i++) {
        ngx_current_msec += time;
        test_ok(ngx_hybrid_pair_open(pair, 1) == 0, "a trial");
        test_ok(ngx_hybrid_pair_failed(pair, 0), "that fails");

        time = ngx_min(time * 2, NGX_HYBRID_PAIR_MAX);
        test_ok(ngx_hybrid_pair_open(pair, 1) == time, "twice as long");
    }

    ngx_current_msec += time;
    (void) ngx_hybrid_pair_open(pair, 1);

    /* whoever tried has left without an answer */

    ngx_current_msec += NGX_HYBRID_PAIR_OPEN;
    test_ok(ngx_hybrid_pair_open(pair, 1) == 0, "another trial");

    ngx_hybrid_pair_passed(pair);
    test_ok(ngx_hybrid_pair_open(pair, 1) == 0
            && ngx_hybrid_pair_open(pair, 1) == 0, "that succeeds: closed");

    test_ok(!ngx_hybrid_pair_failed(pair, 0), "and one failure is but one");
}


static void
test_who(void)
{
    ngx_uint_t          i;
    ngx_hybrid_pair_t  *pair;

    test_new(4);
    pair = test_make("forge", "mistral");

    for (i = 0; i < 100; i++) {
        if (ngx_hybrid_pair_failed(pair, 7)) {
            break;
        }
    }

    test_ok(i == 100, "one client's broken requests open nothing");
    test_ok(!ngx_hybrid_pair_failed(pair, 8), "a second client's");
    test_ok(ngx_hybrid_pair_failed(pair, 9), "a third's do");

    test_new(4);
    pair = test_make("forge", "mistral");

    test_ok(!ngx_hybrid_pair_failed(pair, 7)
            && !ngx_hybrid_pair_failed(pair, 0)
            && ngx_hybrid_pair_failed(pair, 0),
            "that of nobody's request always counts");

    ngx_current_msec += NGX_HYBRID_PAIR_OPEN;
    (void) ngx_hybrid_pair_open(pair, 1);
    test_ok(ngx_hybrid_pair_failed(pair, 7), "a trial that fails, anyone's");
}


static void
test_size(void)
{
    size_t      size, room;
    ngx_uint_t  n;

    for (room = 0; room < 4000000; room = room * 2 + 777) {

        size = ngx_hybrid_pairs_size(room, &n);

        if (n < 4 || (n & (n - 1))
            || (n > 4 && n * sizeof(ngx_hybrid_pair_t) > room)
            || size < offsetof(ngx_hybrid_pairs_t, pairs)
                      + n * sizeof(ngx_hybrid_pair_t))
        {
            break;
        }
    }

    test_ok(room >= 4000000, "as many as there is room for");
}


static ngx_hybrid_pair_t *
test_make(const char *backend, const char *model)
{
    ngx_str_t  b, m;

    b.data = (u_char *) backend;
    b.len = strlen(backend);
    m.data = (u_char *) model;
    m.len = strlen(model);

    return ngx_hybrid_pair_make(pairs, &mutex, &b, &m);
}


static void
test_new(ngx_uint_t n)
{
    free(pairs);

    ngx_current_msec = START;

    pairs = calloc(1, sizeof(ngx_hybrid_pairs_t)
                      + n * sizeof(ngx_hybrid_pair_t));
    if (pairs == NULL) {
        exit(1);
    }

    ngx_hybrid_pairs_init(pairs, n);
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


uint32_t
ngx_murmur_hash2(u_char *data, size_t len)
{
    uint32_t  hash;

    for (hash = 5381; len; len--) {
        hash = hash * 33 ^ *data++;
    }

    return hash;
}
