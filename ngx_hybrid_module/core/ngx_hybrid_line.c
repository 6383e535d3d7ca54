
/*
 * Copyright (C) the ngx_hybrid_module authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_hybrid_line.h"


#define NGX_HYBRID_LINE_WAYS    8

/* shares of a token, so that a weight may divide it */
#define NGX_HYBRID_LINE_SHARES  1024

#define NGX_HYBRID_LINE_SHARED  (NGX_HYBRID_HEALTH_CELLS - 1)

#define ngx_hybrid_line_cell()                                                \
    ngx_min((ngx_uint_t) ngx_process_slot, NGX_HYBRID_LINE_SHARED)


static uint64_t ngx_hybrid_line_cost(ngx_hybrid_line_ask_t *ask);
static void ngx_hybrid_line_count(ngx_hybrid_line_t *line,
    ngx_hybrid_line_ask_t *ask, ngx_uint_t *own);
static ngx_uint_t ngx_hybrid_line_before(ngx_hybrid_line_t *line,
    ngx_hybrid_line_ask_t *ask, uint32_t scan);
static ngx_uint_t ngx_hybrid_line_common(ngx_hybrid_line_entry_t *entry,
    ngx_hybrid_line_ask_t *ask, ngx_uint_t *mine);
static void ngx_hybrid_line_add(ngx_hybrid_line_t *line,
    ngx_hybrid_line_ask_t *ask);
static void ngx_hybrid_line_drop(ngx_hybrid_line_t *line,
    ngx_hybrid_line_entry_t *entry);
static ngx_hybrid_line_entry_t *ngx_hybrid_line_first(ngx_hybrid_line_t *line,
    ngx_hybrid_health_t *health, ngx_uint_t *place);
static ngx_uint_t ngx_hybrid_line_alive(ngx_hybrid_line_t *line,
    ngx_hybrid_line_entry_t *entry);
static uint64_t ngx_hybrid_line_start(ngx_hybrid_line_flow_t *flow);
static ngx_hybrid_line_flow_t *ngx_hybrid_line_flow(ngx_hybrid_line_t *line,
    ngx_hybrid_line_entry_t *entry, ngx_uint_t i);
static uint32_t ngx_hybrid_line_make(ngx_hybrid_line_t *line,
    ngx_hybrid_health_t *health, uint64_t client);


size_t
ngx_hybrid_line_size(size_t room, ngx_uint_t *n)
{
    size_t      size;
    ngx_uint_t  flows;

    /* a flow for each entry, or up to two */

    size = sizeof(ngx_hybrid_line_entry_t) + 2 * sizeof(ngx_hybrid_line_flow_t);

    *n = ngx_max(room / size, NGX_HYBRID_LINE_WAYS);

    for (flows = NGX_HYBRID_LINE_WAYS; flows < *n; flows *= 2) { /* void */ }

    return sizeof(ngx_hybrid_line_t) + *n * sizeof(ngx_hybrid_line_entry_t)
           + flows * sizeof(ngx_hybrid_line_flow_t);
}


void
ngx_hybrid_line_init(ngx_hybrid_line_t *line, ngx_uint_t n)
{
    line->nentries = n;
    line->flows = (ngx_hybrid_line_flow_t *) &line->entries[n];

    for (line->nflows = NGX_HYBRID_LINE_WAYS;
         line->nflows < n;
         line->nflows *= 2)
    {
        /* void */
    }
}


ngx_int_t
ngx_hybrid_line_enter(ngx_hybrid_line_t *line, ngx_shmtx_t *mutex,
    ngx_hybrid_line_ask_t *ask)
{
    ngx_int_t   rc;
    ngx_uint_t  own;

    ngx_hybrid_line_seen(line);

    ngx_shmtx_lock(mutex);

    ngx_hybrid_line_count(line, ask, &own);

    if (ask->ahead > ask->limit) {
        rc = NGX_DECLINED;

    } else if (own >= line->nentries - line->used) {

        /* there is room for others, whatever one client does */

        rc = NGX_ERROR;

    } else {
        ngx_hybrid_line_add(line, ask);
        rc = NGX_OK;
    }

    ngx_shmtx_unlock(mutex);

    return rc;
}


ngx_uint_t
ngx_hybrid_line_ahead(ngx_hybrid_line_t *line, ngx_shmtx_t *mutex,
    ngx_hybrid_line_ask_t *ask)
{
    ngx_uint_t  own;

    ngx_shmtx_lock(mutex);

    ngx_hybrid_line_count(line, ask, &own);

    ngx_shmtx_unlock(mutex);

    return ask->ahead;
}


static uint64_t
ngx_hybrid_line_cost(ngx_hybrid_line_ask_t *ask)
{
    uint64_t  cost;

    cost = ngx_min(ngx_max(ask->cost, 1), NGX_HYBRID_LINE_COST);

    return cost * NGX_HYBRID_LINE_SHARES / ngx_max(ask->weight, 1);
}


/*
 * Entries are numbered by their backend that the asking one waits for, too:
 * each is counted once.
 */

static void
ngx_hybrid_line_count(ngx_hybrid_line_t *line, ngx_hybrid_line_ask_t *ask,
    ngx_uint_t *own)
{
    ngx_uint_t                i, j, k, used, waiting[NGX_HYBRID_LINE_GROUP];
    ngx_hybrid_health_t      *health;
    ngx_hybrid_line_flow_t   *flow;
    ngx_hybrid_line_entry_t  *entry;

    ngx_memzero(waiting, sizeof(waiting));

    line->scan++;
    used = 0;
    *own = 0;

    for (i = 0; i < line->top; i++) {

        entry = &line->entries[i];

        if (entry->pid == 0) {
            continue;
        }

        used++;

        if (!ngx_hybrid_line_alive(line, entry)) {
            continue;
        }

        if (entry->client == ask->client) {
            (*own)++;
        }

        for (j = 0; j < entry->n; j++) {
            for (k = 0; k < ask->n; k++) {
                if (entry->healths[j] == ask->healths[k]) {
                    waiting[k]++;
                }
            }
        }

        j = ngx_hybrid_line_common(entry, ask, &k);

        if (j == entry->n) {
            continue;
        }

        flow = ngx_hybrid_line_flow(line, entry, j);

        if (flow->scan != line->scan) {
            flow->scan = line->scan;
            flow->sum = 0;
            flow->n = 0;
        }

        flow->sum += entry->cost;
        flow->n++;
    }

    line->used = used;

    /* where nobody waits, what was is forgotten */

    for (i = 0; i < ask->n; i++) {
        health = ask->healths[i];
        health->waiting = waiting[i];

        if (waiting[i] == 0) {
            health->start = ngx_max(health->start, health->finish);
        }
    }

    ask->ahead = ngx_hybrid_line_before(line, ask, line->scan);
}


static ngx_uint_t
ngx_hybrid_line_before(ngx_hybrid_line_t *line, ngx_hybrid_line_ask_t *ask,
    uint32_t scan)
{
    uint64_t                  start, mine[NGX_HYBRID_LINE_GROUP];
    ngx_uint_t                i, j, k, n;
    ngx_hybrid_line_flow_t   *flow;
    ngx_hybrid_line_entry_t  *entry;

    for (i = 0; i < ask->n; i++) {
        flow = &line->flows[ngx_hybrid_line_make(line, ask->healths[i],
                                                 ask->client)];
        mine[i] = ngx_hybrid_line_start(flow);

        if (flow->scan == scan) {
            mine[i] += flow->sum;
        }
    }

    n = 0;

    for (i = 0; i < line->top; i++) {

        entry = &line->entries[i];

        if (entry->pid == 0 || !ngx_hybrid_line_alive(line, entry)) {
            continue;
        }

        j = ngx_hybrid_line_common(entry, ask, &k);

        if (j == entry->n) {
            continue;
        }

        flow = ngx_hybrid_line_flow(line, entry, j);

        if (flow->scan != scan || flow->n == 0) {
            continue;
        }

        /* all requests of a flow at its first one */

        if (flow->client == ask->client) {
            n += flow->n;

        } else {
            start = ngx_hybrid_line_start(flow);

            if (start <= mine[k]) {
                n += ngx_min((mine[k] - start) / ngx_max(flow->sum / flow->n, 1)
                             + 1, flow->n);
            }
        }

        flow->n = 0;
    }

    return n;
}


/* the backend both wait for: its place in each, entry->n: there is none */

static ngx_uint_t
ngx_hybrid_line_common(ngx_hybrid_line_entry_t *entry,
    ngx_hybrid_line_ask_t *ask, ngx_uint_t *mine)
{
    ngx_uint_t  i, j;

    for (i = 0; i < ask->n; i++) {
        for (j = 0; j < entry->n; j++) {
            if (ask->healths[i] == entry->healths[j]) {
                *mine = i;
                return j;
            }
        }
    }

    *mine = 0;

    return entry->n;
}


static void
ngx_hybrid_line_add(ngx_hybrid_line_t *line, ngx_hybrid_line_ask_t *ask)
{
    ngx_uint_t                i;
    ngx_hybrid_line_entry_t  *entry;

    /* it is known that there is one */

    for (i = 0; i < line->top && line->entries[i].pid; i++) { /* void */ }

    entry = &line->entries[i];

    entry->cell = ngx_hybrid_line_cell();
    entry->data = ask->data;
    entry->client = ask->client;
    entry->number = line->number++;
    entry->cost = ngx_hybrid_line_cost(ask);
    entry->n = ngx_min(ask->n, NGX_HYBRID_LINE_GROUP);

    ask->index = i;

    for (i = 0; i < entry->n; i++) {
        entry->healths[i] = ask->healths[i];
        entry->flows[i] = ngx_hybrid_line_make(line, ask->healths[i],
                                               ask->client);
    }

    line->used++;
    line->top = ngx_max(line->top, ask->index + 1);

    /* published last: a worker that dies here leaves no half entry */

    ngx_memory_barrier();
    entry->pid = ngx_pid;

    for (i = 0; i < entry->n; i++) {
        entry->healths[i]->waiting++;
    }
}


void
ngx_hybrid_line_leave(ngx_hybrid_line_t *line, ngx_shmtx_t *mutex,
    ngx_uint_t index, void *data)
{
    ngx_hybrid_line_entry_t  *entry;

    entry = &line->entries[index];

    ngx_shmtx_lock(mutex);

    if (entry->pid == (ngx_atomic_uint_t) ngx_pid && entry->data == data) {
        ngx_hybrid_line_drop(line, entry);
    }

    ngx_shmtx_unlock(mutex);
}


static void
ngx_hybrid_line_drop(ngx_hybrid_line_t *line, ngx_hybrid_line_entry_t *entry)
{
    ngx_uint_t  i;

    entry->pid = 0;

    for (i = 0; i < entry->n; i++) {
        if (entry->healths[i]->waiting) {
            entry->healths[i]->waiting--;
        }
    }

    if (line->used) {
        line->used--;
    }

    while (line->top && line->entries[line->top - 1].pid == 0) {
        line->top--;
    }
}


void *
ngx_hybrid_line_next(ngx_hybrid_line_t *line, ngx_shmtx_t *mutex,
    ngx_hybrid_health_t *health, ngx_uint_t slots)
{
    void                     *data;
    uint64_t                  start;
    ngx_uint_t                i;
    ngx_hybrid_line_flow_t   *flow;
    ngx_hybrid_line_entry_t  *entry;

    data = NULL;

    ngx_shmtx_lock(mutex);

    entry = ngx_hybrid_line_first(line, health, &i);

    if (entry && entry->pid == (ngx_atomic_uint_t) ngx_pid
        && ngx_hybrid_health_take(health, slots))
    {
        flow = ngx_hybrid_line_flow(line, entry, i);
        start = ngx_hybrid_line_start(flow);

        flow->finish = start + entry->cost;
        health->start = start;
        health->finish = ngx_max(health->finish, flow->finish);

        data = entry->data;

        ngx_hybrid_line_drop(line, entry);
    }

    ngx_shmtx_unlock(mutex);

    return data;
}


static ngx_hybrid_line_entry_t *
ngx_hybrid_line_first(ngx_hybrid_line_t *line, ngx_hybrid_health_t *health,
    ngx_uint_t *place)
{
    uint64_t                  start, least;
    ngx_uint_t                i, j, n;
    ngx_hybrid_line_entry_t  *entry, *first;

    first = NULL;
    least = 0;
    n = 0;

    for (i = 0; i < line->top; i++) {

        entry = &line->entries[i];

        if (entry->pid == 0) {
            continue;
        }

        for (j = 0; j < entry->n && entry->healths[j] != health; j++) {
            /* void */
        }

        if (j == entry->n || !ngx_hybrid_line_alive(line, entry)) {
            continue;
        }

        n++;
        start = ngx_hybrid_line_start(ngx_hybrid_line_flow(line, entry, j));

        if (first == NULL || start < least
            || (start == least && entry->number < first->number))
        {
            first = entry;
            least = start;
            *place = j;
        }
    }

    /* what a worker that was killed did not do */

    health->waiting = n;

    return first;
}


ngx_uint_t
ngx_hybrid_line_waits(ngx_hybrid_line_t *line, ngx_shmtx_t *mutex,
    ngx_hybrid_health_t *health)
{
    ngx_uint_t                i;
    ngx_hybrid_line_entry_t  *entry;

    if (health->waiting == 0) {
        return 0;
    }

    ngx_shmtx_lock(mutex);

    entry = ngx_hybrid_line_first(line, health, &i);

    ngx_shmtx_unlock(mutex);

    return entry != NULL;
}


void
ngx_hybrid_line_forget(ngx_hybrid_line_t *line, ngx_shmtx_t *mutex)
{
    ngx_uint_t                i, cell;
    ngx_hybrid_line_entry_t  *entry;

    cell = ngx_hybrid_line_cell();

    ngx_shmtx_lock(mutex);

    for (i = line->top; i-- > 0; /* void */) {

        entry = &line->entries[i];

        if (entry->pid
            && (entry->pid == (ngx_atomic_uint_t) ngx_pid
                || (entry->cell == cell && cell != NGX_HYBRID_LINE_SHARED)))
        {
            ngx_hybrid_line_drop(line, entry);
        }
    }

    ngx_shmtx_unlock(mutex);

    ngx_hybrid_line_seen(line);
}


void
ngx_hybrid_line_seen(ngx_hybrid_line_t *line)
{
    line->seen[ngx_hybrid_line_cell()] = ngx_current_msec;
}


void
ngx_hybrid_line_reap(ngx_hybrid_line_t *line, ngx_shmtx_t *mutex)
{
    ngx_uint_t                i;
    ngx_atomic_uint_t         pid, dead;
    ngx_hybrid_line_entry_t  *entry;

    dead = 0;

    for (i = line->top; i-- > 0; /* void */) {

        entry = &line->entries[i];
        pid = entry->pid;

        /* others speak for the dead in the cell that is shared */

        if (pid == 0 || pid == (ngx_atomic_uint_t) ngx_pid
            || (entry->cell != NGX_HYBRID_LINE_SHARED
                && ngx_hybrid_line_alive(line, entry)))
        {
            continue;
        }

        if (pid != dead
            && (kill((ngx_pid_t) pid, 0) == 0 || ngx_errno != ESRCH))
        {
            continue;
        }

        dead = pid;

        ngx_shmtx_lock(mutex);

        if (entry->pid == dead) {
            ngx_hybrid_line_drop(line, entry);
        }

        ngx_shmtx_unlock(mutex);
    }
}


static ngx_uint_t
ngx_hybrid_line_alive(ngx_hybrid_line_t *line, ngx_hybrid_line_entry_t *entry)
{
    ngx_msec_t  seen;

    if (entry->pid == (ngx_atomic_uint_t) ngx_pid) {
        return 1;
    }

    seen = line->seen[entry->cell];

    /* its clock may be a little ahead of ours */

    return (ngx_msec_int_t) (ngx_current_msec - seen) < NGX_HYBRID_LINE_SILENT;
}


static uint64_t
ngx_hybrid_line_start(ngx_hybrid_line_flow_t *flow)
{
    return ngx_max(flow->health->start, flow->finish);
}


/* that of an entry may have been given to another client: it had no debt */

static ngx_hybrid_line_flow_t *
ngx_hybrid_line_flow(ngx_hybrid_line_t *line, ngx_hybrid_line_entry_t *entry,
    ngx_uint_t i)
{
    ngx_hybrid_line_flow_t  *flow;

    flow = &line->flows[entry->flows[i]];

    if (flow->health != entry->healths[i] || flow->client != entry->client) {
        entry->flows[i] = ngx_hybrid_line_make(line, entry->healths[i],
                                               entry->client);
        flow = &line->flows[entry->flows[i]];
    }

    return flow;
}


/* found, or in place of the one of a set that has the least to pay */

static uint32_t
ngx_hybrid_line_make(ngx_hybrid_line_t *line, ngx_hybrid_health_t *health,
    uint64_t client)
{
    uint64_t                 hash, debt, least;
    ngx_uint_t               i, set, n;
    ngx_hybrid_line_flow_t  *flow;

    hash = (client ^ (uint64_t) (uintptr_t) health) * 0x9e3779b97f4a7c15ULL;
    set = (hash >> 32) & (line->nflows - 1)
          & ~(ngx_uint_t) (NGX_HYBRID_LINE_WAYS - 1);

    n = set;
    least = (uint64_t) -1;

    for (i = set; i < set + NGX_HYBRID_LINE_WAYS; i++) {

        flow = &line->flows[i];

        if (flow->health == health && flow->client == client) {
            return i;
        }

        if (flow->health == NULL) {
            debt = 0;

        } else {

            /* one of somebody who waits goes after all that don't */

            debt = ngx_hybrid_line_start(flow) - flow->health->start
                   + (flow->scan == line->scan) + 1;
        }

        if (debt < least) {
            least = debt;
            n = i;
        }
    }

    flow = &line->flows[n];

    flow->health = health;
    flow->client = client;
    flow->finish = 0;
    flow->sum = 0;
    flow->n = 0;
    flow->scan = 0;

    return n;
}
