
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * What a client's requests take of its limits, from the gateway's own
 * accounts and from what this gateway has got from Redis.
 *
 *     limit.c    the decision about a request
 *     settle.c   its end
 *     slots.c    requests at a time
 *     lease.c    questions to Redis, and the requests that wait for them
 *     script.c   what is asked, and answered
 *     idle.c     what is given back
 *     delay.c    requests that wait for the limit itself
 *     reset.c    an operator gives a client all of its limits back
 *     left.c     what is left, for those who show it
 *     ratelimit.c  headers about that
 */


#ifndef _NGX_HTTP_HYBRID_LEASE_H_INCLUDED_
#define _NGX_HTTP_HYBRID_LEASE_H_INCLUDED_


#include "ngx_http_hybrid_module.h"


/* msec; how long a gateway's slots are its own, when it says nothing more */
#define NGX_HTTP_HYBRID_SLOTS_TTL  15000


/* about one limit, in a question under way */

typedef struct {
    uint64_t                      span;      /* usec of a burst, as asked */
    int64_t                       charge;    /* told: positive was used */
    uint64_t                      want;
    uint64_t                      least;
    uint64_t                      granted;
    uint64_t                      wait;      /* usec */
    uint64_t                      left;
    uint64_t                      period;

    /* the next batch follows what was used of late */
    uint64_t                      used;
    uint64_t                      batch;
} ngx_http_hybrid_ask_t;


typedef struct {
    uint64_t                      used;
    uint64_t                      want;
    uint64_t                      call;
    ngx_msec_t                    asked;
    uint64_t                      granted;
    uint64_t                      granted_by;
    uint64_t                      left;
    ngx_uint_t                    less;      /* only this gives any back */
} ngx_http_hybrid_slots_ask_t;


/* what of a budget was told, and not answered yet */

typedef struct {
    int64_t                       charge;    /* 0: nothing */
    uint64_t                      number;
    uint64_t                      reset;     /* the last, and the period */
    ngx_uint_t                    period;    /*   that it is of */
    ngx_uint_t                    told;      /* Redis may have heard it */
} ngx_http_hybrid_debt_t;


/* those that wait for a limit; how they do is in delay.c */

typedef struct {
    ngx_http_hybrid_lease_t      *lease;
    ngx_queue_t                   queue;     /* ctx->waiter */
    ngx_uint_t                    n;
    ngx_event_t                   event;
} ngx_http_hybrid_delays_t;


/*
 * Of one client in one worker.  The accounts and credits are in shared
 * memory; each worker asks Redis by itself, one question at a time, for all
 * its requests that wait.
 */

struct ngx_http_hybrid_lease_s {
    ngx_http_hybrid_main_conf_t  *conf;
    ngx_http_hybrid_client_t     *client;
    ngx_str_t                     key;
    ngx_str_t                     policy;    /* RateLimit-Policy */
    ngx_http_hybrid_ask_t         asks[ngx_hybrid_meters];
    ngx_http_hybrid_slots_ask_t   slots;
    ngx_http_hybrid_debt_t        debt;
    uint64_t                      reset;     /* in Redis, usec, */
    uint64_t                      seen;      /*   and known when it was asked */
    ngx_msec_t                    tick;      /* of "used" */

    ngx_queue_t                   waiters;   /* ctx->waiter, for Redis */
    ngx_uint_t                    nwaiters;
    ngx_event_t                   late;      /* the oldest waiter's end */

    /* at the headers, and for tokens: these may have a slot already */
    ngx_http_hybrid_delays_t      delays[2];

    ngx_queue_t                   queue;     /* of those to look after */

    unsigned                      linked:1;
    unsigned                      pending:1;
    unsigned                      refused:1; /* said so in the log */
};


/* why a request can't pass now, and usec until it may, 0: not known */

typedef struct {
    ngx_uint_t                    slot;      /* else the meter */
    ngx_uint_t                    meter;
    uint64_t                      wait;
} ngx_http_hybrid_hit_t;


/* limit.c */

/*
 * Takes all that ctx->reserve needs, or nothing.  NGX_OK; NGX_BUSY: hit says
 * which limit is reached; NGX_AGAIN: Redis is to be asked.
 */
ngx_int_t ngx_http_hybrid_limit_try(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_hit_t *hit);

/* without Redis; NGX_OK, NGX_AGAIN: it waits for the limit, or a refusal */
ngx_int_t ngx_http_hybrid_limit_lost(ngx_http_hybrid_ctx_t *ctx);

/* a limit is reached: the same */
ngx_int_t ngx_http_hybrid_limit_busy(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_hit_t *hit);
ngx_int_t ngx_http_hybrid_limit_refuse(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_hit_t *hit);

/* a waiting request gets its answer; NGX_AGAIN: it waits on */
void ngx_http_hybrid_limit_settle(ngx_http_hybrid_ctx_t *ctx, ngx_int_t rc);

/* it is in no line any more, but may come into another one */
void ngx_http_hybrid_limit_leave(ngx_http_hybrid_ctx_t *ctx);

/* usec, of a clock that does not jump */
uint64_t ngx_http_hybrid_limit_now(void);


/* slots.c: as limit_try */

ngx_int_t ngx_http_hybrid_slots_take(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_hit_t *hit);
ngx_int_t ngx_http_hybrid_slots_local(ngx_http_hybrid_ctx_t *ctx,
    ngx_uint_t most);
void ngx_http_hybrid_slots_give(ngx_http_hybrid_ctx_t *ctx);

/*
 * Fills in what is asked, some more or, "less", only what was used of late;
 * and takes over what was answered.
 */
void ngx_http_hybrid_slots_ask(ngx_http_hybrid_lease_t *lease,
    ngx_uint_t more, ngx_uint_t less);
void ngx_http_hybrid_slots_answer(ngx_http_hybrid_lease_t *lease);

/* Redis is to be told: to renew them, or that there are less */
ngx_uint_t ngx_http_hybrid_slots_due(ngx_http_hybrid_lease_t *lease);
ngx_uint_t ngx_http_hybrid_slots_held(ngx_http_hybrid_lease_t *lease);
ngx_uint_t ngx_http_hybrid_slots_own(ngx_hybrid_shm_client_t *shared);


/* debt.c: lease->asks has what is told; and it was not answered */

void ngx_http_hybrid_debt_ask(ngx_http_hybrid_lease_t *lease);
void ngx_http_hybrid_debt_failed(ngx_http_hybrid_lease_t *lease,
    ngx_uint_t sent);

/* other workers are left with it */
void ngx_http_hybrid_debt_end(ngx_http_hybrid_lease_t *lease);


/* lease.c */

/* whether Redis is known to decide; if not it is asked, for those to come */
ngx_uint_t ngx_http_hybrid_lease_holds(ngx_http_hybrid_lease_t *lease);

/* msec until Redis may have so many credits again, 0: ask */
ngx_msec_t ngx_http_hybrid_lease_dry(ngx_http_hybrid_lease_t *lease,
    ngx_uint_t meter, uint64_t n);

/* credits are used; the next batch may be fetched ahead */
void ngx_http_hybrid_lease_used(ngx_http_hybrid_lease_t *lease,
    ngx_uint_t meter, uint64_t n);

/* credits that were taken are not needed */
void ngx_http_hybrid_lease_back(ngx_http_hybrid_lease_t *lease,
    ngx_uint_t meter, uint64_t n);

/* NGX_AGAIN: ctx waits and will be resumed; NGX_DECLINED: Redis is away */
ngx_int_t ngx_http_hybrid_lease_wait(ngx_http_hybrid_lease_t *lease,
    ngx_http_hybrid_ctx_t *ctx);

/* asks, also when nothing is wanted; NGX_DECLINED: Redis is away */
ngx_int_t ngx_http_hybrid_lease_refill(ngx_http_hybrid_lease_t *lease,
    ngx_uint_t fetch);


/* reset.c */

/* at most once a second: an operator may have reset what refuses here */
void ngx_http_hybrid_reset_check(ngx_http_hybrid_lease_t *lease);

void ngx_http_hybrid_reset_init(void);

/* 1: this was news, what was counted here is void */
ngx_uint_t ngx_http_hybrid_reset_seen(ngx_hybrid_shm_client_t *shared,
    uint64_t stamp);


/* script.c */

void ngx_http_hybrid_script_init(void);
ngx_int_t ngx_http_hybrid_script_send(ngx_http_hybrid_lease_t *lease,
    ngx_hybrid_redis_handler_pt handler);
ngx_int_t ngx_http_hybrid_script_answer(ngx_http_hybrid_lease_t *lease,
    redisReply *reply);


/* budget.c */

/* a budget is reached: goes on without what costs money, or is refused */
ngx_int_t ngx_http_hybrid_budget_spent(ngx_http_hybrid_ctx_t *ctx);

/* charged whether or not it is there; Redis is told as soon as it can */
void ngx_http_hybrid_budget_charge(ngx_http_hybrid_ctx_t *ctx, uint64_t cost);

/* Redis is told, later, of what the own account has charged */
void ngx_http_hybrid_budget_owe(ngx_http_hybrid_ctx_t *ctx, uint64_t cost);

/* another "budget" of the configuration */
void ngx_http_hybrid_budget_adopt(ngx_http_hybrid_client_t *client);

/* warns once a period; of this request's reserve so much was too much */
void ngx_http_hybrid_budget_warn(ngx_http_hybrid_ctx_t *ctx, int64_t back);

/* the own account is in the period that it is now, if Redis has not said */
void ngx_http_hybrid_budget_now(ngx_http_hybrid_client_t *client);

/* usec until the period's end, by our clock */
uint64_t ngx_http_hybrid_budget_wait(ngx_http_hybrid_client_t *client);


/* idle.c: there is, or will be, something to give back or to renew */

ngx_int_t ngx_http_hybrid_idle_init_worker(ngx_http_hybrid_main_conf_t *hmcf,
    ngx_cycle_t *cycle);
void ngx_http_hybrid_idle_watch(ngx_http_hybrid_lease_t *lease);


/* ratelimit.c */

ngx_int_t ngx_http_hybrid_ratelimit_policy(ngx_http_hybrid_client_t *client,
    ngx_pool_t *pool, ngx_str_t *policy);


/* delay.c */

/* 1: others came before, and hit is what the first of them waits for */
ngx_uint_t ngx_http_hybrid_delay_others(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_hit_t *hit);

/* NGX_AGAIN: ctx waits for its limit; NGX_DECLINED: it can't */
ngx_int_t ngx_http_hybrid_delay(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_hit_t *hit);

/* it waits no more, for whatever reason */
void ngx_http_hybrid_delay_done(ngx_http_hybrid_ctx_t *ctx);

void ngx_http_hybrid_delay_init(ngx_http_hybrid_lease_t *lease);
void ngx_http_hybrid_delay_destroy(ngx_http_hybrid_lease_t *lease);

/* something was given back: who waits for it may try */
void ngx_http_hybrid_delay_wake(ngx_http_hybrid_lease_t *lease);


#endif /* _NGX_HTTP_HYBRID_LEASE_H_INCLUDED_ */
