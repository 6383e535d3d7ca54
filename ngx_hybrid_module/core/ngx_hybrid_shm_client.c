
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Clients in shared memory.  Those of Redis come and go, so that one that
 * nobody uses makes room for another.  A client with a pointer to it in some
 * process must not: the limits of two clients would mix.  So an entry has
 *
 *     users   a bit for each worker that uses it.  The bits of a worker that
 *             was killed count no more when it is gone, and are cleared
 *             before another takes its place;
 *     conf    the last configuration that has it in its files, which is kept
 *             until workers of a later one have begun.
 *
 * Entries are in a list of all, for ever, and in a bucket of their hash.  A
 * worker that dies between the two leaves one that is in no bucket: nobody
 * finds it by name, and it is reused like any other.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_hybrid_shm.h"


/* this part of the zone is kept back for documents */
#define NGX_HYBRID_SHM_DOCS     32

/* msec that one must have been idle */
#define NGX_HYBRID_SHM_IDLE     2000

/* msec, after which nobody is left who would tell Redis */
#define NGX_HYBRID_SHM_OWED     60000

/* entries looked at by one that needs room, the next one goes on there */
#define NGX_HYBRID_SHM_LOOK     1024

/* of a configuration that does not end */
#define NGX_HYBRID_SHM_EVER     ((ngx_uint_t) -1)


static ngx_int_t ngx_hybrid_shm_client_uses(ngx_hybrid_shm_t *shm);
static ngx_hybrid_shm_client_t *ngx_hybrid_shm_client_find(
    ngx_hybrid_shm_clients_t *clients, ngx_str_t *name, uint32_t hash);
static ngx_hybrid_shm_client_t *ngx_hybrid_shm_client_new(
    ngx_hybrid_shm_t *shm, ngx_uint_t reserve);
static ngx_hybrid_shm_client_t *ngx_hybrid_shm_client_idle(
    ngx_hybrid_shm_t *shm);
static void ngx_hybrid_shm_client_alive(ngx_hybrid_shm_clients_t *clients,
    ngx_atomic_uint_t *alive);
static ngx_uint_t ngx_hybrid_shm_client_free(
    ngx_hybrid_shm_clients_t *clients, ngx_hybrid_shm_client_t *client,
    ngx_atomic_uint_t *alive);
static ngx_uint_t ngx_hybrid_shm_client_hot(ngx_hybrid_shm_client_t *client);
static void ngx_hybrid_shm_client_unlink(ngx_hybrid_shm_clients_t *clients,
    ngx_hybrid_shm_client_t *client);
static void ngx_hybrid_shm_client_name(ngx_hybrid_shm_clients_t *clients,
    ngx_hybrid_shm_client_t *client, ngx_str_t *name, uint32_t hash);
static ngx_int_t ngx_hybrid_shm_client_use(ngx_hybrid_shm_t *shm,
    ngx_hybrid_shm_client_t *client);
static void ngx_hybrid_shm_client_clear(ngx_hybrid_shm_client_t *client);


ngx_hybrid_shm_client_t *
ngx_hybrid_shm_client(ngx_hybrid_shm_t *shm, ngx_str_t *name,
    ngx_uint_t reserve)
{
    uint32_t                   hash;
    ngx_hybrid_shm_client_t   *client;
    ngx_hybrid_shm_clients_t  *clients;

    if (name->len > NGX_HYBRID_LABEL_MAX
        || ngx_hybrid_shm_client_uses(shm) != NGX_OK)
    {
        return NULL;
    }

    hash = ngx_murmur_hash2(name->data, name->len);
    clients = &shm->sh->clients;

    ngx_shmtx_lock(&shm->shpool->mutex);

    client = ngx_hybrid_shm_client_find(clients, name, hash);

    if (client == NULL) {
        client = ngx_hybrid_shm_client_new(shm, reserve);

        if (client == NULL) {
            client = ngx_hybrid_shm_client_idle(shm);
        }

        if (client) {
            ngx_hybrid_shm_client_name(clients, client, name, hash);

        } else {
            clients->wanted = ngx_current_msec ? ngx_current_msec : 1;
        }
    }

    if (client && ngx_hybrid_shm_client_use(shm, client) != NGX_OK) {
        client = NULL;
    }

    ngx_shmtx_unlock(&shm->shpool->mutex);

    return client;
}


ngx_hybrid_shm_client_t *
ngx_hybrid_shm_client_known(ngx_hybrid_shm_t *shm, ngx_str_t *name)
{
    uint32_t                  hash;
    ngx_hybrid_shm_client_t  *client;

    if (name->len > NGX_HYBRID_LABEL_MAX
        || ngx_hybrid_shm_client_uses(shm) != NGX_OK)
    {
        return NULL;
    }

    hash = ngx_murmur_hash2(name->data, name->len);

    ngx_shmtx_lock(&shm->shpool->mutex);

    client = ngx_hybrid_shm_client_find(&shm->sh->clients, name, hash);

    if (client && ngx_hybrid_shm_client_use(shm, client) != NGX_OK) {
        client = NULL;
    }

    ngx_shmtx_unlock(&shm->shpool->mutex);

    return client;
}


ngx_uint_t
ngx_hybrid_shm_client_others(ngx_hybrid_shm_t *shm,
    ngx_hybrid_shm_other_t *others, ngx_uint_t n)
{
    ngx_uint_t                 i, k, used;
    ngx_hybrid_shm_client_t   *client;
    ngx_hybrid_shm_clients_t  *clients;

    k = 0;
    clients = &shm->sh->clients;

    ngx_shmtx_lock(&shm->shpool->mutex);

    for (client = clients->all; client && k < n; client = client->entry.next) {

        for (i = 0, used = 0; i < NGX_HYBRID_SHM_USERS; i++) {
            used |= client->entry.users[i] != 0;
        }

        if (!used || client->entry.conf >= clients->current) {
            continue;
        }

        others[k].client = client;
        others[k].len = client->entry.len;
        ngx_memcpy(others[k].name, client->entry.name, NGX_HYBRID_LABEL_MAX);
        k++;
    }

    ngx_shmtx_unlock(&shm->shpool->mutex);

    return k;
}


void
ngx_hybrid_shm_client_give(ngx_hybrid_shm_t *shm,
    ngx_hybrid_shm_client_t *client)
{
    ngx_uint_t  n;

    n = client->entry.n;

    if (!shm->worker || n >= shm->uses->n || shm->uses->counts[n] == 0) {
        return;
    }

    if (--shm->uses->counts[n]) {
        return;
    }

    client->entry.idle = ngx_current_msec;
    ngx_memory_barrier();

    ngx_hybrid_shm_client_clear(client);
}


ngx_int_t
ngx_hybrid_shm_client_start(ngx_hybrid_shm_t *shm)
{
    ngx_uint_t                 slot;
    ngx_atomic_uint_t          current;
    ngx_hybrid_shm_client_t   *client;
    ngx_hybrid_shm_clients_t  *clients;

    if (shm->uses == NULL) {
        shm->uses = ngx_calloc(sizeof(ngx_hybrid_shm_uses_t), ngx_cycle->log);
        if (shm->uses == NULL) {
            return NGX_ERROR;
        }
    }

    slot = ngx_process_slot;
    clients = &shm->sh->clients;

    /* without worker processes it is the one that it was before a reload */

    if (slot < NGX_HYBRID_SHM_WORKERS
        && clients->pids[slot] != (ngx_atomic_uint_t) ngx_pid)
    {
        for (client = clients->all; client; client = client->entry.next) {
            ngx_hybrid_shm_client_clear(client);
        }

        ngx_memory_barrier();
        clients->pids[slot] = ngx_pid;
    }

    /* one that failed to load never gets here */

    do {
        current = clients->current;
    } while (current < shm->conf
             && !ngx_atomic_cmp_set(&clients->current, current, shm->conf));

    shm->worker = 1;

    return NGX_OK;
}


void
ngx_hybrid_shm_client_end(ngx_hybrid_shm_t *shm)
{
    ngx_uint_t  slot;

    slot = ngx_process_slot;

    if (!shm->worker) {
        return;
    }

    shm->worker = 0;

    if (slot < NGX_HYBRID_SHM_WORKERS) {
        (void) ngx_atomic_cmp_set(&shm->sh->clients.pids[slot], ngx_pid, 0);
    }

    if (shm->uses->counts) {
        ngx_free(shm->uses->counts);
    }

    ngx_free(shm->uses);
    shm->uses = NULL;
}


/* room to count one that is new, before the lock */

static ngx_int_t
ngx_hybrid_shm_client_uses(ngx_hybrid_shm_t *shm)
{
    ngx_uint_t              n, *counts;
    ngx_hybrid_shm_uses_t  *uses;

    if (!shm->worker) {
        return NGX_OK;
    }

    uses = shm->uses;
    n = shm->sh->clients.n + NGX_HYBRID_SHM_WORKERS;

    if (n <= uses->n) {
        return NGX_OK;
    }

    n *= 2;

    counts = ngx_calloc(n * sizeof(ngx_uint_t), ngx_cycle->log);
    if (counts == NULL) {
        return NGX_ERROR;
    }

    if (uses->counts) {
        ngx_memcpy(counts, uses->counts, uses->n * sizeof(ngx_uint_t));
        ngx_free(uses->counts);
    }

    uses->counts = counts;
    uses->n = n;

    return NGX_OK;
}


static ngx_hybrid_shm_client_t *
ngx_hybrid_shm_client_find(ngx_hybrid_shm_clients_t *clients, ngx_str_t *name,
    uint32_t hash)
{
    ngx_hybrid_shm_entry_t   *entry;
    ngx_hybrid_shm_client_t  *client;

    client = clients->buckets[hash & (clients->nbuckets - 1)];

    while (client) {
        entry = &client->entry;

        if (entry->hash == hash
            && entry->len == name->len
            && ngx_memcmp(entry->name, name->data, name->len) == 0)
        {
            break;
        }

        client = entry->chain;
    }

    return client;
}


static ngx_hybrid_shm_client_t *
ngx_hybrid_shm_client_new(ngx_hybrid_shm_t *shm, ngx_uint_t reserve)
{
    ngx_hybrid_shm_client_t   *client;
    ngx_hybrid_shm_clients_t  *clients;

    /* revocations and key sets must be able to grow, others can wait */

    if (reserve
        && shm->shpool->pfree < shm->sh->size / ngx_pagesize
                                / NGX_HYBRID_SHM_DOCS)
    {
        return NULL;
    }

    client = ngx_slab_calloc_locked(shm->shpool,
                                    sizeof(ngx_hybrid_shm_client_t));
    if (client == NULL) {
        return NULL;
    }

    clients = &shm->sh->clients;

    client->entry.n = clients->n++;
    client->entry.next = clients->all;

    ngx_memory_barrier();
    clients->all = client;

    return client;
}


/* one that nobody uses and that owes nothing, empty and in no bucket */

static ngx_hybrid_shm_client_t *
ngx_hybrid_shm_client_idle(ngx_hybrid_shm_t *shm)
{
    ngx_uint_t                 i, n;
    ngx_atomic_uint_t          alive[NGX_HYBRID_SHM_USERS];
    ngx_hybrid_shm_client_t   *client;
    ngx_hybrid_shm_clients_t  *clients;

    clients = &shm->sh->clients;
    n = ngx_min(clients->n, NGX_HYBRID_SHM_LOOK);

    ngx_hybrid_shm_client_alive(clients, alive);

    for (i = 0; i < n; i++) {

        client = clients->hand ? clients->hand : clients->all;

        if (client == NULL) {
            return NULL;
        }

        clients->hand = client->entry.next;

        if (ngx_hybrid_shm_client_free(clients, client, alive)) {

            ngx_hybrid_shm_client_unlink(clients, client);

            ngx_memzero((u_char *) client + sizeof(ngx_hybrid_shm_entry_t),
                        sizeof(ngx_hybrid_shm_client_t)
                        - sizeof(ngx_hybrid_shm_entry_t));

            clients->reused++;

            return client;
        }
    }

    return NULL;
}


/* under the lock: one that begins now would take a client under it */

static void
ngx_hybrid_shm_client_alive(ngx_hybrid_shm_clients_t *clients,
    ngx_atomic_uint_t *alive)
{
    ngx_pid_t   pid;
    ngx_uint_t  i;

    ngx_memzero(alive, NGX_HYBRID_SHM_USERS * sizeof(ngx_atomic_uint_t));

    for (i = 0; i < NGX_HYBRID_SHM_WORKERS; i++) {

        pid = (ngx_pid_t) clients->pids[i];

        if (pid && (pid == ngx_pid
                    || kill(pid, 0) != -1 || ngx_errno != ESRCH))
        {
            alive[i / NGX_HYBRID_SHM_BITS] |=
                         (ngx_atomic_uint_t) 1 << (i % NGX_HYBRID_SHM_BITS);
        }
    }
}


static ngx_uint_t
ngx_hybrid_shm_client_free(ngx_hybrid_shm_clients_t *clients,
    ngx_hybrid_shm_client_t *client, ngx_atomic_uint_t *alive)
{
    ngx_uint_t               i;
    ngx_atomic_uint_t        dead;
    ngx_hybrid_shm_entry_t  *entry;

    entry = &client->entry;

    if (entry->conf >= clients->current) {
        return 0;
    }

    dead = 0;

    for (i = 0; i < NGX_HYBRID_SHM_USERS; i++) {

        if (entry->users[i] & alive[i]) {
            return 0;
        }

        dead |= entry->users[i];
    }

    if (dead) {

        /* killed, nobody knows when it used this one last */

        ngx_memzero((void *) entry->users, sizeof(entry->users));
        entry->idle = ngx_current_msec;
    }

    /* its clock may be a little ahead of ours */

    return (ngx_msec_int_t) (ngx_current_msec - entry->idle)
           >= NGX_HYBRID_SHM_IDLE
           && !ngx_hybrid_shm_client_hot(client);
}


/* limits that would begin anew too early */

static ngx_uint_t
ngx_hybrid_shm_client_hot(ngx_hybrid_shm_client_t *client)
{
    uint64_t             now;
    ngx_uint_t           i;
    ngx_hybrid_meter_t  *meter;

    now = (uint64_t) ngx_current_msec * 1000;

    for (i = 0; i < ngx_hybrid_meters; i++) {
        meter = &client->meters[i];

        if ((meter->interval && meter->account > now)
            || ngx_hybrid_meter_lease_left(meter, ngx_current_msec)
            || (meter->owed
                && ngx_current_msec - client->entry.idle
                   < NGX_HYBRID_SHM_OWED))
        {
            return 1;
        }
    }

    if (ngx_hybrid_cells_busy(&client->cells) == 0) {
        return 0;
    }

    ngx_hybrid_cells_reap(&client->cells);

    return ngx_hybrid_cells_busy(&client->cells) != 0;
}


static void
ngx_hybrid_shm_client_unlink(ngx_hybrid_shm_clients_t *clients,
    ngx_hybrid_shm_client_t *client)
{
    ngx_hybrid_shm_client_t  **p;

    p = &clients->buckets[client->entry.hash & (clients->nbuckets - 1)];

    while (*p) {

        if (*p == client) {
            *p = client->entry.chain;
            ngx_memory_barrier();
            return;
        }

        p = &(*p)->entry.chain;
    }
}


static void
ngx_hybrid_shm_client_name(ngx_hybrid_shm_clients_t *clients,
    ngx_hybrid_shm_client_t *client, ngx_str_t *name, uint32_t hash)
{
    ngx_hybrid_shm_entry_t    *entry;
    ngx_hybrid_shm_client_t  **bucket;

    entry = &client->entry;
    bucket = &clients->buckets[hash & (clients->nbuckets - 1)];

    entry->hash = hash;
    entry->len = (u_short) name->len;
    ngx_memcpy(entry->name, name->data, name->len);
    entry->conf = 0;
    entry->idle = ngx_current_msec;
    entry->chain = *bucket;

    /* published last: a worker that dies here leaves no half entry */

    ngx_memory_barrier();
    *bucket = client;
}


static ngx_int_t
ngx_hybrid_shm_client_use(ngx_hybrid_shm_t *shm,
    ngx_hybrid_shm_client_t *client)
{
    ngx_uint_t               slot;
    ngx_atomic_t            *users;
    ngx_atomic_uint_t        old, bit;
    ngx_hybrid_shm_entry_t  *entry;

    entry = &client->entry;
    slot = ngx_process_slot;

    if (!shm->worker) {
        entry->conf = ngx_max(entry->conf, shm->conf);
        return NGX_OK;
    }

    if (slot >= NGX_HYBRID_SHM_WORKERS) {
        entry->conf = NGX_HYBRID_SHM_EVER;
        return NGX_OK;
    }

    /* many were made by others since there was room for all */

    if (entry->n >= shm->uses->n) {
        return NGX_ERROR;
    }

    if (shm->uses->counts[entry->n]++ == 0) {

        users = &entry->users[slot / NGX_HYBRID_SHM_BITS];
        bit = (ngx_atomic_uint_t) 1 << (slot % NGX_HYBRID_SHM_BITS);

        do {
            old = *users;
        } while (!ngx_atomic_cmp_set(users, old, old | bit));
    }

    return NGX_OK;
}


/* this process's bit, if it is there */

static void
ngx_hybrid_shm_client_clear(ngx_hybrid_shm_client_t *client)
{
    ngx_uint_t         slot;
    ngx_atomic_t      *users;
    ngx_atomic_uint_t  old, bit;

    slot = ngx_process_slot;

    if (slot >= NGX_HYBRID_SHM_WORKERS) {
        return;
    }

    users = &client->entry.users[slot / NGX_HYBRID_SHM_BITS];
    bit = (ngx_atomic_uint_t) 1 << (slot % NGX_HYBRID_SHM_BITS);

    do {
        old = *users;
    } while ((old & bit) && !ngx_atomic_cmp_set(users, old, old & ~bit));
}
