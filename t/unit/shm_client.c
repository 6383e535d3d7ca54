
/* link: core/ngx_hybrid_shm_client.c limit/ngx_hybrid_cells.c
         limit/ngx_hybrid_meter.c limit/ngx_hybrid_gcra.c */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_hybrid_shm.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tap.h"


#define START    ((ngx_msec_t) -5000)
#define IDLE     2000
#define OWED     60000

#define ROOM     8
#define WORKERS  3
#define NAMES    40
#define HELD     2
#define KILLS    60


typedef struct {
    ngx_hybrid_shm_sh_t       sh;
    ngx_slab_pool_t           shpool;
    ngx_hybrid_shm_client_t  *buckets[4];
    ngx_atomic_t              lock;
    ngx_atomic_t              now;
    ngx_atomic_t              mixed;
    ngx_atomic_t              got;
    size_t                    used;
    ngx_hybrid_shm_client_t   memory[ROOM];
} test_shared_t;


/* a process, as nginx has it */

typedef struct {
    ngx_hybrid_shm_t          shm;
    ngx_int_t                 slot;
    ngx_pid_t                 pid;
} test_process_t;


static void test_names(void);
static void test_reuse(void);
static void test_hot(void);
static void test_conf(void);
static void test_slots(void);
static void test_dead(void);
static void test_torn(void);
static void test_killed(void);
static void test_worker(ngx_uint_t slot);
static ngx_uint_t test_holds(ngx_hybrid_shm_client_t *client, ngx_uint_t n);
static void test_new(void);
static void test_begin(test_process_t *p, ngx_int_t slot, ngx_pid_t pid);
static void test_be(test_process_t *p);
static void test_fill(void);
static ngx_hybrid_shm_client_t *test_client(const char *name);
static ngx_hybrid_shm_client_t *test_number(ngx_uint_t n);
static void test_give(ngx_hybrid_shm_client_t *client);
static ngx_pid_t test_gone(void);


volatile ngx_msec_t    ngx_current_msec;
ngx_int_t              ngx_process_slot;
ngx_pid_t              ngx_pid;
ngx_uint_t             ngx_pagesize = 4096;
volatile ngx_cycle_t  *ngx_cycle;

static ngx_cycle_t       cycle;
static test_shared_t    *shared;
static test_process_t    master, one, two;
static test_process_t   *process;


int
main(void)
{
    shared = mmap(NULL, sizeof(test_shared_t), PROT_READ|PROT_WRITE,
                  MAP_SHARED|MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        return 1;
    }

    ngx_cycle = &cycle;

    test_names();
    test_reuse();
    test_hot();
    test_conf();
    test_slots();
    test_dead();
    test_torn();
    test_killed();

    test_ok(shared->lock == 0, "every lock was released");

    return tap_end();
}


static void
test_names(void)
{
    u_char                    name[NGX_HYBRID_LABEL_MAX + 1];
    ngx_str_t                 s;
    ngx_hybrid_shm_client_t  *a, *b;

    test_new();

    a = test_client("alice");
    b = test_client("alic");

    test_ok(a && b && a != b, "two names are two clients");
    test_ok(test_client("alice") == a, "a name is found again");

    test_be(&two);
    test_ok(test_client("alic") == b, "by another worker as well");

    memset(name, 'n', sizeof(name));
    s.data = name;
    s.len = sizeof(name);
    test_ok(ngx_hybrid_shm_client(&process->shm, &s, 0) == NULL,
            "a name that is too long has none");

    s.len--;
    test_ok(ngx_hybrid_shm_client(&process->shm, &s, 0) != NULL,
            "the longest has");
}


static void
test_reuse(void)
{
    ngx_hybrid_shm_client_t  *a;

    test_new();

    a = test_client("alice");
    a->refills = 5;
    a->clash_token = 1;
    (void) test_client("alice");
    test_be(&two);
    (void) test_client("alice");
    test_fill();

    ngx_current_msec += IDLE;
    test_ok(test_client("bob") == NULL, "all are used: there is no room");
    test_ok(shared->sh.clients.wanted == ngx_current_msec,
            "which is told to those who keep some");

    test_give(a);
    test_be(&one);
    test_give(a);

    ngx_current_msec += IDLE;
    test_ok(test_client("bob") == NULL, "used twice, given back once");

    test_give(a);
    ngx_current_msec += IDLE - 1;
    test_ok(test_client("bob") == NULL, "not idle long enough");
    test_ok(test_client("alice") == a && a->refills == 5,
            "who comes back meanwhile finds it as it was");

    test_give(a);
    test_give(a);
    test_give(a);
    ngx_current_msec += IDLE;
    test_ok(test_client("bob") == a, "it is reused");
    test_ok(a->refills == 0 && a->clash_token == 0, "and is empty");
    test_ok(shared->sh.clients.reused == 1, "and counted");
    test_ok(test_client("alice") == NULL, "the old name finds it no more");
    test_ok(test_client("bob") == a, "the new one does");
}


static void
test_hot(void)
{
    ngx_hybrid_shm_client_t  *a;

    test_new();

    a = test_client("alice");
    a->meters[1].interval = 1;
    a->meters[1].account = (uint64_t) (ngx_current_msec + 60000) * 1000;
    test_give(a);
    test_fill();

    ngx_current_msec += 59999;
    test_ok(test_client("bob") == NULL, "a limit that is still exceeded");

    ngx_current_msec += 1;
    test_ok(test_client("bob") == a, "and that is over");

    a->meters[0].owed = 1;
    test_give(a);
    ngx_current_msec += IDLE;
    test_ok(test_client("eve") == NULL, "Redis is to be told something");

    a->meters[0].owed = 0;
    a->meters[2].credits = 1;
    a->meters[2].expires = ngx_current_msec + 10;
    test_ok(test_client("eve") == NULL, "credits are to be given back");

    ngx_current_msec += 10;
    test_ok(test_client("eve") == a, "or are nobody's any more");

    a->meters[0].owed = 1;
    test_give(a);
    ngx_current_msec += OWED - 1;
    test_ok(test_client("bob") == NULL, "somebody may still tell it");

    ngx_current_msec += 1;
    test_ok(test_client("bob") == a, "who would was killed");

    (void) ngx_hybrid_cells_take(&a->cells, 1);
    a->cells.cells[0].pid = test_gone();
    test_give(a);
    ngx_current_msec += IDLE;
    test_ok(test_client("eve") == a, "as with what it had under way");

    test_give(a);
    ngx_current_msec -= 5;
    test_ok(test_client("bob") == NULL, "idle by a clock that is ahead");
}


static void
test_conf(void)
{
    ngx_hybrid_shm_client_t  *a;

    test_new();

    test_be(&master);
    a = test_client("alice");
    test_be(&one);
    test_fill();

    ngx_current_msec += IDLE;
    test_ok(test_client("bob") == NULL, "a client of the files");

    (void) test_client("alice");

    /* one that fails to load, with and without her */

    master.shm.conf = ++shared->sh.clients.conf;
    test_ok(test_client("bob") == NULL, "of those that are in effect");

    /* workers of a new one begin, without her; those of the old one remain */

    two.shm.conf = ++shared->sh.clients.conf;
    two.shm.worker = 0;
    test_begin(&two, 1, ngx_pid);
    test_be(&two);
    ngx_current_msec += IDLE;
    test_ok(test_client("bob") == NULL, "workers of an older one have it");

    test_be(&one);
    test_give(a);
    ngx_current_msec += IDLE;
    test_ok(test_client("bob") == a, "nobody has it");

    /* a worker that is started again with the old one: as if a reload failed */

    test_be(&master);
    test_ok(test_client("bob") == a && a->entry.conf == master.shm.conf,
            "one that is used gets into the files");
}


static void
test_slots(void)
{
    ngx_hybrid_shm_client_t  *a;

    test_new();

    test_begin(&two, NGX_HYBRID_SHM_WORKERS - 1, getpid());
    test_be(&two);
    a = test_client("alice");
    test_fill();
    ngx_current_msec += IDLE;
    test_ok(test_client("bob") == NULL, "the last worker's");

    test_give(a);
    ngx_current_msec += IDLE;
    test_ok(test_client("bob") == a, "given back");

    test_new();

    test_begin(&two, NGX_HYBRID_SHM_WORKERS, getpid());
    test_be(&two);
    a = test_client("alice");
    test_be(&one);
    test_fill();
    test_be(&two);
    test_give(a);
    ngx_current_msec += IDLE;
    test_ok(test_client("bob") == NULL, "one worker more keeps its own");
}


static void
test_dead(void)
{
    ngx_hybrid_shm_client_t  *a;

    test_new();

    test_begin(&two, 1, test_gone());
    test_be(&two);
    a = test_client("alice");
    ngx_current_msec += 2 * IDLE;
    test_be(&one);
    test_fill();

    /* which was seen by the last of those: it is idle since then */

    ngx_current_msec += IDLE - 1;
    test_ok(test_client("bob") == NULL, "a dead worker's, for a while");

    ngx_current_msec += 1;
    test_ok(test_client("bob") == a, "and then nobody's");

    /* another takes the place before anybody saw that */

    test_new();
    test_begin(&two, 1, test_gone());
    test_be(&two);
    a = test_client("alice");

    two.shm.worker = 0;
    two.shm.uses = NULL;
    test_begin(&two, 1, getpid());
    test_be(&one);
    test_fill();
    ngx_current_msec += IDLE;
    test_ok(test_client("bob") == a, "the next one in its place has none");

    test_new();
    test_be(&two);
    a = test_client("alice");
    ngx_hybrid_shm_client_end(&two.shm);
    test_be(&one);
    test_fill();
    ngx_current_msec += 2 * IDLE;
    (void) test_client("bob");
    ngx_current_msec += IDLE;
    test_ok(test_client("bob") == a, "a worker that ended uses none");
}


/* a worker was killed when it had taken one out of its bucket */

static void
test_torn(void)
{
    ngx_hybrid_shm_client_t  *a;

    test_new();

    a = test_client("alice");
    test_give(a);
    test_fill();

    ngx_memzero(shared->buckets, sizeof(shared->buckets));
    ngx_current_msec += IDLE;

    test_ok(test_client("bob") == a, "one that is in no bucket is reused");
    test_ok(test_client("bob") == a, "and found");
}


/*
 * Workers that get more clients than there is room for, use each for a
 * while, and are killed: at no time is one in use another's.
 */

static void
test_killed(void)
{
    pid_t       pids[WORKERS], pid;
    ngx_uint_t  i, n;

    test_new();
    ngx_hybrid_shm_client_end(&one.shm);
    ngx_hybrid_shm_client_end(&two.shm);

    ngx_memzero(pids, sizeof(pids));
    srandom(1);

    for (n = 0; n < WORKERS + KILLS; n++) {
        i = n % WORKERS;

        if (pids[i]) {
            (void) kill(pids[i], SIGKILL);
            (void) waitpid(pids[i], NULL, 0);

            /* as nginx does */
            (void) ngx_atomic_cmp_set(&shared->lock, pids[i], 0);
        }

        pid = fork();

        if (pid == -1) {
            exit(1);
        }

        if (pid == 0) {
            test_worker(i);
        }

        pids[i] = pid;
        usleep(5000 + random() % 5000);
    }

    for (i = 0; i < WORKERS; i++) {
        (void) kill(pids[i], SIGKILL);
        (void) waitpid(pids[i], NULL, 0);
        (void) ngx_atomic_cmp_set(&shared->lock, pids[i], 0);
    }

    test_ok(shared->mixed == 0, "no client became another's while in use");
    test_ok(shared->got > 100 * ROOM && shared->sh.clients.reused > 10 * ROOM,
            "clients come and go");

    test_begin(&one, 0, getpid());
    test_be(&one);
    ngx_current_msec = shared->now + IDLE;

    for (n = 0, i = 0; n < ROOM && i < 3 * ROOM; i++) {
        n += (test_number(NAMES + i) != NULL);
        ngx_current_msec += IDLE;
    }

    test_ok(n == ROOM, "none is lost");
}


static void
test_worker(ngx_uint_t slot)
{
    ngx_uint_t                i, n, k, names[HELD];
    test_process_t            self;
    ngx_hybrid_shm_client_t  *held[HELD];

    ngx_memzero(&self, sizeof(test_process_t));
    ngx_memzero(held, sizeof(held));

    self.shm = master.shm;
    srandom(getpid());
    test_begin(&self, slot, getpid());
    test_be(&self);

    for (i = 0; /* void */ ; i++) {

        /* time passes as it does for a client that is idle */

        ngx_current_msec = ngx_atomic_fetch_add(&shared->now, IDLE / 4);

        k = random() % HELD;

        if (held[k]) {
            test_give(held[k]);
        }

        n = random() % NAMES;
        held[k] = test_number(n);
        names[k] = n;

        if (held[k]) {
            (void) ngx_atomic_fetch_add(&shared->got, 1);
        }

        for (k = 0; k < HELD; k++) {
            if (held[k] && !test_holds(held[k], names[k])) {
                shared->mixed = 1;
            }
        }
    }
}


static ngx_uint_t
test_holds(ngx_hybrid_shm_client_t *client, ngx_uint_t n)
{
    u_char  name[32];
    size_t  len;

    len = snprintf((char *) name, sizeof(name), "client%u", (unsigned) n);

    return client->entry.len == len
           && ngx_memcmp(client->entry.name, name, len) == 0;
}


/* an empty zone, a master and two workers */

static void
test_new(void)
{
    ngx_memzero(shared, sizeof(test_shared_t));
    ngx_memzero(&master, sizeof(test_process_t));

    shared->sh.size = 16 * 1024 * 1024;
    shared->sh.clients.buckets = shared->buckets;
    shared->sh.clients.nbuckets = 4;
    shared->shpool.pfree = ngx_pagesize;

    ngx_current_msec = START;

    master.shm.sh = &shared->sh;
    master.shm.shpool = &shared->shpool;
    master.shm.conf = ++shared->sh.clients.conf;
    master.pid = 1;

    one = master;
    two = master;

    test_begin(&one, 0, getpid());
    test_begin(&two, 1, getpid());
    test_be(&one);
}


static void
test_begin(test_process_t *p, ngx_int_t slot, ngx_pid_t pid)
{
    p->slot = slot;
    p->pid = pid;

    test_be(p);

    if (ngx_hybrid_shm_client_start(&p->shm) != NGX_OK) {
        exit(1);
    }
}


static void
test_be(test_process_t *p)
{
    process = p;
    ngx_process_slot = p->slot;
    ngx_pid = p->pid;
}


static void
test_fill(void)
{
    ngx_uint_t  n;

    for (n = 100; test_number(n); n++) {
        /* void */
    }
}


static ngx_hybrid_shm_client_t *
test_client(const char *name)
{
    ngx_str_t  s;

    s.data = (u_char *) name;
    s.len = strlen(name);

    return ngx_hybrid_shm_client(&process->shm, &s, 1);
}


static ngx_hybrid_shm_client_t *
test_number(ngx_uint_t n)
{
    char  name[32];

    (void) snprintf(name, sizeof(name), "client%u", (unsigned) n);

    return test_client(name);
}


static void
test_give(ngx_hybrid_shm_client_t *client)
{
    ngx_hybrid_shm_client_give(&process->shm, client);
}


/* of a process that is no more */

static ngx_pid_t
test_gone(void)
{
    pid_t  pid;

    pid = fork();

    if (pid == 0) {
        _exit(0);
    }

    (void) waitpid(pid, NULL, 0);

    return pid;
}


void
ngx_shmtx_lock(ngx_shmtx_t *mtx)
{
    while (!ngx_atomic_cmp_set(&shared->lock, 0, getpid())) {
        sched_yield();
    }
}


void
ngx_shmtx_unlock(ngx_shmtx_t *mtx)
{
    shared->lock = 0;
}


void *
ngx_slab_calloc_locked(ngx_slab_pool_t *pool, size_t size)
{
    if (shared->used == ROOM) {
        return NULL;
    }

    return &shared->memory[shared->used++];
}


/* processes of the test end without giving back what they had */

void              *test_kept[1024];
static ngx_uint_t  nkept;

void *
ngx_calloc(size_t size, ngx_log_t *log)
{
    void  *p;

    p = calloc(1, size);
    test_kept[nkept++ % 1024] = p;

    return p;
}


uint32_t
ngx_murmur_hash2(u_char *data, size_t len)
{
    uint32_t  hash;

    for (hash = 0; len; len--) {
        hash = hash * 31 + *data++;
    }

    return hash;
}
