
/*
 * Copyright (C) the ngx_hybrid_module authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_hybrid_source.h"


/* a source is in one of so many neighbouring places */
#define NGX_HYBRID_SOURCE_WAYS  8

/* msec since t; the clocks of two workers may differ by a few */
#define ngx_hybrid_source_age(now, t)                                         \
    ngx_max((ngx_msec_int_t) ((now) - (t)), 0)


static u_short ngx_hybrid_source_key(struct sockaddr *sa, u_char *key);
static ngx_hybrid_source_t *ngx_hybrid_source_place(
    ngx_hybrid_sources_t *table, u_short family, u_char *key, ngx_msec_t now);
static void ngx_hybrid_source_begin(ngx_hybrid_source_t *source,
    ngx_msec_t now);
static ngx_uint_t ngx_hybrid_source_over(ngx_hybrid_source_t *source,
    ngx_msec_t now);
static ngx_msec_t ngx_hybrid_source_turn(ngx_hybrid_source_t *source,
    ngx_msec_t now);
static void ngx_hybrid_source_report(ngx_hybrid_source_t *source,
    ngx_msec_t now, ngx_hybrid_source_report_t *report);
static void ngx_hybrid_source_text(ngx_hybrid_source_t *source,
    ngx_hybrid_source_report_t *report);


/* a sixteenth of the zone at most */

size_t
ngx_hybrid_source_size(size_t zone, ngx_uint_t *n)
{
    *n = NGX_HYBRID_SOURCE_MAX;

    while (*n > NGX_HYBRID_SOURCE_WAYS
           && *n * sizeof(ngx_hybrid_source_t) > zone / 16)
    {
        *n /= 2;
    }

    return offsetof(ngx_hybrid_sources_t, slots)
           + *n * sizeof(ngx_hybrid_source_t);
}


void
ngx_hybrid_source_init(ngx_hybrid_sources_t *table, ngx_uint_t n,
    uint32_t salt)
{
    table->n = n;
    table->salt = salt;
}


ngx_uint_t
ngx_hybrid_source_fail(ngx_hybrid_sources_t *table, ngx_shmtx_t *mutex,
    struct sockaddr *sa, ngx_str_t *why, ngx_msec_t now, ngx_msec_t *wait,
    ngx_hybrid_source_report_t *report)
{
    u_char                key[NGX_HYBRID_SOURCE_KEY];
    u_short               family;
    uint64_t              kind;
    ngx_uint_t            told;
    ngx_hybrid_source_t  *source, old;

    family = ngx_hybrid_source_key(sa, key);
    kind = (uint64_t) 1 << (ngx_murmur_hash2(why->data, why->len) & 63);

    ngx_memzero(&old, sizeof(ngx_hybrid_source_t));

    ngx_shmtx_lock(mutex);

    source = ngx_hybrid_source_place(table, family, key, now);

    if (source->family != family
        || ngx_memcmp(source->key, key, NGX_HYBRID_SOURCE_KEY) != 0)
    {
        old = *source;

        ngx_memzero(source, sizeof(ngx_hybrid_source_t));
        ngx_memcpy(source->key, key, NGX_HYBRID_SOURCE_KEY);
        source->family = family;
        source->tat = now;
        ngx_hybrid_source_begin(source, now);

    } else if (ngx_hybrid_source_over(source, now)) {
        old = *source;
        ngx_hybrid_source_begin(source, now);
    }

    source->last = now;
    source->count++;

    /* behind a tunnel a source is many: a new kind of failure is told of */

    told = source->count <= NGX_HYBRID_SOURCE_LOGGED
           || !(source->kinds & kind);

    source->kinds |= kind;

    source->nwhy = (u_short) ngx_min(why->len, NGX_HYBRID_SOURCE_WHY);
    ngx_memcpy(source->why, why->data, source->nwhy);

    *wait = ngx_hybrid_source_turn(source, now);

    ngx_shmtx_unlock(mutex);

    ngx_hybrid_source_report(&old, now, report);

    return told;
}


ngx_uint_t
ngx_hybrid_source_ended(ngx_hybrid_sources_t *table, ngx_shmtx_t *mutex,
    ngx_msec_t now, ngx_uint_t *slot, ngx_msec_t *next,
    ngx_hybrid_source_report_t *report)
{
    ngx_msec_t            left;
    ngx_hybrid_source_t  *source, old;

    while (*slot < table->n) {
        source = &table->slots[(*slot)++];

        /* looked at without the lock, and again with it */

        if (source->count <= NGX_HYBRID_SOURCE_LOGGED) {
            continue;
        }

        if (!ngx_hybrid_source_over(source, now)) {
            left = NGX_HYBRID_SOURCE_INTERVAL
                   - ngx_hybrid_source_age(now, source->begin);

            if (*next == 0 || left < *next) {
                *next = left;
            }

            continue;
        }

        ngx_memzero(&old, sizeof(ngx_hybrid_source_t));

        ngx_shmtx_lock(mutex);

        if (ngx_hybrid_source_over(source, now)) {
            old = *source;
            ngx_hybrid_source_begin(source, now);
        }

        ngx_shmtx_unlock(mutex);

        ngx_hybrid_source_report(&old, now, report);

        if (report->count) {
            return 1;
        }
    }

    return 0;
}


/* an address of the table's key; all that is not IP is one source */

static u_short
ngx_hybrid_source_key(struct sockaddr *sa, u_char *key)
{
    struct sockaddr_in   *sin;
#if (NGX_HAVE_INET6)
    struct sockaddr_in6  *sin6;
#endif

    ngx_memzero(key, NGX_HYBRID_SOURCE_KEY);

    switch (sa->sa_family) {

    case AF_INET:
        sin = (struct sockaddr_in *) sa;
        ngx_memcpy(key, &sin->sin_addr, 4);
        return AF_INET;

#if (NGX_HAVE_INET6)
    case AF_INET6:
        sin6 = (struct sockaddr_in6 *) sa;

        if (IN6_IS_ADDR_V4MAPPED(&sin6->sin6_addr)) {
            ngx_memcpy(key, &sin6->sin6_addr.s6_addr[12], 4);
            return AF_INET;
        }

        ngx_memcpy(key, sin6->sin6_addr.s6_addr, 8);
        return AF_INET6;
#endif

    default:
        return AF_UNIX;
    }
}


/* its place, else a free one, else that of who failed longest ago */

static ngx_hybrid_source_t *
ngx_hybrid_source_place(ngx_hybrid_sources_t *table, u_short family,
    u_char *key, ngx_msec_t now)
{
    u_char                buf[sizeof(uint32_t) + NGX_HYBRID_SOURCE_KEY];
    uint32_t              hash;
    ngx_uint_t            i;
    ngx_hybrid_source_t  *source, *best;

    /* who can choose an address does not know which places it shares */

    ngx_memcpy(buf, &table->salt, sizeof(uint32_t));
    ngx_memcpy(buf + sizeof(uint32_t), key, NGX_HYBRID_SOURCE_KEY);

    hash = ngx_murmur_hash2(buf, sizeof(buf)) + family;

    source = &table->slots[hash & (table->n - 1)
                           & ~(NGX_HYBRID_SOURCE_WAYS - 1)];
    best = source;

    for (i = 0; i < NGX_HYBRID_SOURCE_WAYS; i++, source++) {

        if (source->family == family
            && ngx_memcmp(source->key, key, NGX_HYBRID_SOURCE_KEY) == 0)
        {
            return source;
        }

        if (best->family
            && (source->family == 0
                || ngx_hybrid_source_age(now, source->last)
                   > ngx_hybrid_source_age(now, best->last)))
        {
            best = source;
        }
    }

    return best;
}


static void
ngx_hybrid_source_begin(ngx_hybrid_source_t *source, ngx_msec_t now)
{
    source->begin = now;
    source->count = 0;
    source->kinds = 0;
}


static ngx_uint_t
ngx_hybrid_source_over(ngx_hybrid_source_t *source, ngx_msec_t now)
{
    return ngx_hybrid_source_age(now, source->begin)
           >= NGX_HYBRID_SOURCE_INTERVAL;
}


static ngx_msec_t
ngx_hybrid_source_turn(ngx_hybrid_source_t *source, ngx_msec_t now)
{
    ngx_msec_int_t  ahead, wait;

    ahead = (ngx_msec_int_t) (source->tat - now);
    ahead = ngx_max(ahead, 0);

    wait = ahead - (NGX_HYBRID_SOURCE_BURST - 1) * NGX_HYBRID_SOURCE_STEP;

    if (wait > NGX_HYBRID_SOURCE_LINE * NGX_HYBRID_SOURCE_STEP) {

        /* the line is full: it does not get longer, and this one is not in */

        return 0;
    }

    source->tat = now + ahead + NGX_HYBRID_SOURCE_STEP;

    return ngx_max(wait, 0);
}


static void
ngx_hybrid_source_report(ngx_hybrid_source_t *source, ngx_msec_t now,
    ngx_hybrid_source_report_t *report)
{
    report->count = 0;

    if (source->count <= NGX_HYBRID_SOURCE_LOGGED) {
        return;
    }

    report->count = source->count;
    report->span = ngx_hybrid_source_age(now, source->begin);

    report->nwhy = ngx_min(source->nwhy, NGX_HYBRID_SOURCE_WHY);
    ngx_memcpy(report->why, source->why, report->nwhy);

    ngx_hybrid_source_text(source, report);
}


static void
ngx_hybrid_source_text(ngx_hybrid_source_t *source,
    ngx_hybrid_source_report_t *report)
{
    u_char  *p;

    p = report->addr;

    switch (source->family) {

    case AF_INET:
        p += ngx_inet_ntop(AF_INET, source->key, p, NGX_SOCKADDR_STRLEN);
        break;

#if (NGX_HAVE_INET6)
    case AF_INET6:
        p += ngx_inet_ntop(AF_INET6, source->key, p, NGX_SOCKADDR_STRLEN);
        p = ngx_cpymem(p, "/64", 3);
        break;
#endif

    default:
        p = ngx_cpymem(p, "unix:", 5);
        break;
    }

    report->naddr = p - report->addr;
}
