
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Failures to authenticate, by the address they come from: an IPv4 address,
 * or the /64 of an IPv6 one.  The table has room for a fixed number of
 * sources, a new one takes the place of one that failed long ago.
 *
 * Nobody is locked out: a source has a bucket of failures, and one that is
 * over it has to wait for its turn, in a line of bounded length.  When the
 * line is full there is no wait: requests that wait are memory.
 */


#ifndef _NGX_HYBRID_SOURCE_H_INCLUDED_
#define _NGX_HYBRID_SOURCE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


#define NGX_HYBRID_SOURCE_MAX       4096   /* sources */

#define NGX_HYBRID_SOURCE_STEP      10     /* msec, of a failure: 100/s */
#define NGX_HYBRID_SOURCE_BURST     500    /* failures */
#define NGX_HYBRID_SOURCE_LINE      32     /* may wait, so 320 msec at most */

#define NGX_HYBRID_SOURCE_INTERVAL  60000  /* msec, of the log */
#define NGX_HYBRID_SOURCE_LOGGED    9      /* failures told of one by one */

#define NGX_HYBRID_SOURCE_KEY       16
#define NGX_HYBRID_SOURCE_WHY       64


typedef struct {
    u_char                     key[NGX_HYBRID_SOURCE_KEY];
    u_short                    family;  /* 0: a free place */
    u_short                    nwhy;
    u_char                     why[NGX_HYBRID_SOURCE_WHY];  /* the last */
    uint64_t                   kinds;   /* of "why" in this interval, hashed */
    ngx_msec_t                 tat;     /* GCRA: theoretical arrival time */
    ngx_msec_t                 begin;   /* of the interval */
    ngx_msec_t                 last;
    ngx_uint_t                 count;   /* failures of the interval */
} ngx_hybrid_source_t;


typedef struct {
    ngx_uint_t                 n;       /* power of two */
    uint32_t                   salt;
    ngx_hybrid_source_t        slots[1];
} ngx_hybrid_sources_t;


/* what is told of an interval that has ended */

typedef struct {
    ngx_uint_t                 count;   /* 0: nothing */
    ngx_msec_t                 span;
    size_t                     naddr;
    size_t                     nwhy;
    u_char                     addr[NGX_SOCKADDR_STRLEN + 3];
    u_char                     why[NGX_HYBRID_SOURCE_WHY];
} ngx_hybrid_source_report_t;


/* of a table for a zone of this size; n is the number of places */
size_t ngx_hybrid_source_size(size_t zone, ngx_uint_t *n);
void ngx_hybrid_source_init(ngx_hybrid_sources_t *table, ngx_uint_t n,
    uint32_t salt);

/*
 * Counts a failure.  Returns whether it is told by itself, and else is only
 * counted; wait is set to the msec until its turn.  The report is of this
 * source's last interval, or of a source that had to go.
 */
ngx_uint_t ngx_hybrid_source_fail(ngx_hybrid_sources_t *table,
    ngx_shmtx_t *mutex, struct sockaddr *sa, ngx_str_t *why, ngx_msec_t now,
    ngx_msec_t *wait, ngx_hybrid_source_report_t *report);

/*
 * The next interval that has ended, from *slot on; 0: there is none, and
 * next is the msec until there may be one, 0 if not.
 */
ngx_uint_t ngx_hybrid_source_ended(ngx_hybrid_sources_t *table,
    ngx_shmtx_t *mutex, ngx_msec_t now, ngx_uint_t *slot, ngx_msec_t *next,
    ngx_hybrid_source_report_t *report);


#endif /* _NGX_HYBRID_SOURCE_H_INCLUDED_ */
