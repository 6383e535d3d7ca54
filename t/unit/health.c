
/* link: core/ngx_hybrid_health.c */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_hybrid_health.h>

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tap.h"


#define START    ((ngx_msec_t) -5000)

#define WORKERS  4
#define SLOTS    3
#define ROUNDS   200000


typedef struct {
    ngx_hybrid_shm_sh_t   sh;
    ngx_slab_pool_t       shpool;
    ngx_atomic_t          inside;
    ngx_atomic_t          most;
    ngx_atomic_t          taken;
    size_t                used;
    u_char                memory[256 * 1024];
} test_shared_t;


static void test_names(void);
static void test_count(void);
static void test_start(void);
static void test_end(void);
static void test_workers(void);
static void test_worker(void);
static void test_block(void);
static ngx_hybrid_health_t *test_health(const char *name);


volatile ngx_msec_t  ngx_current_msec;
ngx_int_t            ngx_process_slot;
ngx_pid_t            ngx_pid;

static test_shared_t     *shared;
static ngx_hybrid_shm_t   shm;
static ngx_uint_t         full;
static ngx_int_t          locked;


int
main(void)
{
    shared = mmap(NULL, sizeof(test_shared_t), PROT_READ|PROT_WRITE,
                  MAP_SHARED|MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        return 1;
    }

    ngx_pid = getpid();
    shm.sh = &shared->sh;
    shm.shpool = &shared->shpool;
    ngx_current_msec = START;

    test_names();
    test_count();
    test_start();
    test_end();
    test_workers();
    test_block();

    test_ok(locked == 0, "every lock was released");

    return tap_end();
}


static void
test_names(void)
{
    char                  ch[NGX_HYBRID_PATH_NAME + 2];
    ngx_str_t             name;
    ngx_hybrid_path_t    *path;
    ngx_hybrid_health_t  *forge, *anvil;

    forge = test_health("forge");
    anvil = test_health("anvil");

    test_ok(forge && anvil && forge != anvil, "two backends");
    test_ok(test_health("forge") == forge, "found by its name");
    test_ok(test_health("forg") != forge, "but by all of it");

    ngx_str_set(&name, "10.0.0.2:11434");
    path = ngx_hybrid_health_path(&shm, forge, &name);

    test_ok(path && ngx_hybrid_health_path(&shm, forge, &name) == path,
            "a path");
    test_ok(ngx_hybrid_health_path(&shm, anvil, &name) != path,
            "the same address of another backend");

    ngx_memset(ch, 'x', sizeof(ch));
    name.data = (u_char *) ch;
    name.len = NGX_HYBRID_PATH_NAME + 1;

    test_ok(ngx_hybrid_health_path(&shm, forge, &name) == NULL,
            "a name that is too long");

    full = 1;
    ngx_str_set(&name, "10.0.0.3:11434");

    test_ok(test_health("none") == NULL
            && ngx_hybrid_health_path(&shm, forge, &name) == NULL,
            "no memory");
    full = 0;
}


static void
test_count(void)
{
    ngx_uint_t            i;
    ngx_hybrid_health_t  *health;

    health = test_health("counted");
    ngx_hybrid_health_start(&shm);

    for (i = 0; i < 5; i++) {
        test_ok(ngx_hybrid_health_take(health, 5), "a free slot");
    }

    test_ok(!ngx_hybrid_health_take(health, 5), "no more");
    test_ok(ngx_hybrid_health_busy(health) == 5, "and that was not counted");
    test_ok(ngx_hybrid_health_take(health, 0), "without a bound");

    ngx_hybrid_health_give(health);
    ngx_hybrid_health_give(health);

    test_ok(ngx_hybrid_health_take(health, 5), "one given back");

    for (i = 0; i < 5; i++) {
        ngx_hybrid_health_give(health);
    }

    test_ok(ngx_hybrid_health_busy(health) == 0, "all given back");
}


/* a worker was killed, and another one starts in its place */

static void
test_start(void)
{
    ngx_hybrid_health_t  *health;

    health = test_health("started");

    ngx_process_slot = 3;
    ngx_hybrid_health_start(&shm);
    (void) ngx_hybrid_health_take(health, 0);
    (void) ngx_hybrid_health_take(health, 0);

    ngx_process_slot = 1;
    ngx_hybrid_health_start(&shm);
    (void) ngx_hybrid_health_take(health, 0);

    test_ok(ngx_hybrid_health_busy(health) == 3, "of two workers");

    ngx_process_slot = 3;
    ngx_hybrid_health_start(&shm);

    test_ok(ngx_hybrid_health_busy(health) == 1, "what was lost is free");

    /* more workers than cells: they share, and none takes the others' */

    ngx_process_slot = NGX_HYBRID_HEALTH_CELLS + 1;
    ngx_hybrid_health_start(&shm);
    (void) ngx_hybrid_health_take(health, 0);

    ngx_process_slot = NGX_HYBRID_HEALTH_CELLS - 1;
    ngx_hybrid_health_start(&shm);
    ngx_hybrid_health_end(&shm);
    ngx_hybrid_health_reap(&shm);

    test_ok(ngx_hybrid_health_busy(health) == 2, "one too many");

    ngx_process_slot = 0;
}


/* workers that the master does not replace */

static void
test_end(void)
{
    pid_t                 pid;
    ngx_hybrid_health_t  *health;

    health = test_health("ended");

    ngx_process_slot = 5;
    ngx_hybrid_health_start(&shm);
    (void) ngx_hybrid_health_take(health, 0);

    /* another took its place already: nothing of that is given back */

    health->cells[5].pid = 1;
    ngx_hybrid_health_end(&shm);
    test_ok(ngx_hybrid_health_busy(health) == 1, "another's");

    ngx_hybrid_health_reap(&shm);
    test_ok(ngx_hybrid_health_busy(health) == 1, "which is alive");

    ngx_hybrid_health_start(&shm);
    (void) ngx_hybrid_health_take(health, 0);
    ngx_hybrid_health_reap(&shm);
    test_ok(ngx_hybrid_health_busy(health) == 1, "its own stay");

    ngx_hybrid_health_end(&shm);
    test_ok(ngx_hybrid_health_busy(health) == 0, "a worker has ended");

    pid = fork();

    if (pid == 0) {
        ngx_pid = getpid();
        ngx_process_slot = 6;
        ngx_hybrid_health_start(&shm);
        (void) ngx_hybrid_health_take(health, 0);
        _exit(0);
    }

    (void) waitpid(pid, NULL, 0);

    test_ok(ngx_hybrid_health_busy(health) == 1, "one was killed");

    ngx_hybrid_health_reap(&shm);
    test_ok(ngx_hybrid_health_busy(health) == 0, "and that is found out");

    ngx_process_slot = 0;
}


static void
test_workers(void)
{
    int         status;
    pid_t       pid;
    ngx_uint_t  i, ok;

    (void) test_health("shared");
    ok = 1;

    for (i = 0; i < WORKERS; i++) {

        pid = fork();

        if (pid == -1) {
            exit(1);
        }

        if (pid == 0) {
            ngx_process_slot = i;
            test_worker();
            _exit(0);
        }
    }

    for (i = 0; i < WORKERS; i++) {
        if (wait(&status) == -1 || status != 0) {
            ok = 0;
        }
    }

    test_ok(ok, "the workers end");
    test_ok(shared->most <= SLOTS, "never more than there are slots");
    test_ok(shared->taken >= ROUNDS / 4, "slots are used");
    test_ok(ngx_hybrid_health_busy(test_health("shared")) == 0,
            "nothing leaks");
}


static void
test_worker(void)
{
    ngx_uint_t            i;
    ngx_hybrid_health_t  *health;
    ngx_atomic_uint_t     now, most;

    health = test_health("shared");
    ngx_hybrid_health_start(&shm);

    for (i = 0; i < ROUNDS; i++) {

        if (!ngx_hybrid_health_take(health, SLOTS)) {
            continue;
        }

        now = ngx_atomic_fetch_add(&shared->inside, 1) + 1;

        do {
            most = shared->most;
        } while (now > most && !ngx_atomic_cmp_set(&shared->most, most, now));

        (void) ngx_atomic_fetch_add(&shared->taken, 1);
        (void) ngx_atomic_fetch_add(&shared->inside, -1);

        ngx_hybrid_health_give(health);
    }
}


static void
test_block(void)
{
    ngx_hybrid_health_t  *health;

    health = test_health("blocked");

    test_ok(ngx_hybrid_health_blocked(health) == 0, "it may be asked");

    ngx_hybrid_health_block(health, 10000);
    test_ok(ngx_hybrid_health_blocked(health) == 10000, "it may not");

    ngx_current_msec += 9999;
    test_ok(ngx_hybrid_health_blocked(health) == 1, "still not");

    ngx_current_msec += 1;
    test_ok(ngx_hybrid_health_blocked(health) == 0, "it may again");

    ngx_hybrid_health_block(health, (ngx_msec_t) -1);
    test_ok(ngx_hybrid_health_blocked(health) == 3600000, "an hour at most");

    /* ended long ago, looked at after half a turn of the clock */

    ngx_current_msec += (ngx_msec_t) 1 << (sizeof(ngx_msec_t) * 8 - 1);
    ngx_current_msec += 3600001;
    test_ok(ngx_hybrid_health_blocked(health) == 0, "and never comes back");
}


static ngx_hybrid_health_t *
test_health(const char *name)
{
    ngx_str_t  s;

    s.data = (u_char *) name;
    s.len = strlen(name);

    return ngx_hybrid_health(&shm, &s);
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


void *
ngx_slab_calloc_locked(ngx_slab_pool_t *pool, size_t size)
{
    void  *p;

    size = ngx_align(size, 64);

    if (full || shared->used + size > sizeof(shared->memory)) {
        return NULL;
    }

    p = shared->memory + shared->used;
    shared->used += size;

    return p;
}
