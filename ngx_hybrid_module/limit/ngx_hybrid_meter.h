
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * A limit of a client in one gateway, in shared memory: the gateway's own
 * account, which decides alone without Redis, and the credits that it has got
 * from Redis.  What passes takes from both.
 *
 * Of a budget the units are millionths of money, and instead of a bucket its
 * own account is what was spent in a period.
 */


#ifndef _NGX_HYBRID_METER_H_INCLUDED_
#define _NGX_HYBRID_METER_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


typedef struct {
    ngx_atomic_t               interval;  /* of a unit, nsec; 0: a budget */
    ngx_atomic_t               span;      /* of a burst, usec; or its units */
    ngx_atomic_t               account;   /* arrival time, usec; or spent */
    ngx_atomic_t               period;    /* the day since 1970 it began */
    ngx_atomic_t               credits;
    ngx_atomic_t               expires;   /* msec, these are given back */
    ngx_atomic_t               dry;       /* msec, Redis has not before */
    ngx_atomic_t               dry_least; /*   so many */
    ngx_atomic_t               owed;      /* signed, Redis is to be told */
    ngx_atomic_t               left;      /* in Redis, as it said */
    ngx_atomic_t               told;      /*   at this msec, 0: never */
} ngx_hybrid_meter_t;


/*
 * The own account.  now: usec, of a clock that does not jump.  take: 0 when
 * there was room, else usec until there is; a budget's until the end of its
 * period is the caller's to know (1 is returned).
 */
void ngx_hybrid_meter_limit(ngx_hybrid_meter_t *meter, uint64_t now,
    uint64_t interval, uint64_t burst);
uint64_t ngx_hybrid_meter_take(ngx_hybrid_meter_t *meter, uint64_t now,
    uint64_t n);
void ngx_hybrid_meter_refund(ngx_hybrid_meter_t *meter, uint64_t n);
void ngx_hybrid_meter_charge(ngx_hybrid_meter_t *meter, uint64_t now,
    uint64_t n);

/* units that are left of it */
uint64_t ngx_hybrid_meter_left(ngx_hybrid_meter_t *meter, uint64_t now);

/*
 * A budget begins a period; next is the one after it, in which it may be
 * already by a clock that is a little ahead.  If it is in a later one, a clock
 * was wrong: what it has spent since is spent in this one.
 */
void ngx_hybrid_meter_period(ngx_hybrid_meter_t *meter, ngx_uint_t period,
    ngx_uint_t next);

/*
 * Credits, at an msec.  take: 1 when all n were there.  idle: those that
 * nobody has wanted for a while, which are the caller's then.
 */
ngx_uint_t ngx_hybrid_meter_lease_take(ngx_hybrid_meter_t *meter,
    ngx_msec_t now, uint64_t n);
void ngx_hybrid_meter_lease_add(ngx_hybrid_meter_t *meter, ngx_msec_t now,
    uint64_t n);
uint64_t ngx_hybrid_meter_lease_idle(ngx_hybrid_meter_t *meter,
    ngx_msec_t now);
uint64_t ngx_hybrid_meter_lease_left(ngx_hybrid_meter_t *meter,
    ngx_msec_t now);

/* positive: to be charged, negative: to be given back; the caller's then */
int64_t ngx_hybrid_meter_owed(ngx_hybrid_meter_t *meter);
void ngx_hybrid_meter_owe(ngx_hybrid_meter_t *meter, int64_t n);

/*
 * The first day, since 1970 in UTC, of the day's or the month's period that
 * t is in, and the first one after it.
 */
ngx_uint_t ngx_hybrid_period(time_t t, ngx_uint_t monthly, ngx_uint_t *next);


#endif /* _NGX_HYBRID_METER_H_INCLUDED_ */
