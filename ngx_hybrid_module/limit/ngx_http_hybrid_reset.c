
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * An operator resets a client's limits.  In Redis what was used goes, and a
 * field says when; a gateway that sees a later one than it knows forgets what
 * it has counted itself.  One that refuses by its own account asks for that,
 * see ngx_http_hybrid_reset_check().  Requests that are under way stay
 * counted.
 */


#include "ngx_http_hybrid_lease.h"
#include "ngx_http_hybrid_limits.h"


/* msec; a day, and a month in which a gateway may remember a budget */
#define NGX_HTTP_HYBRID_RESET_DAY    86400000ULL
#define NGX_HTTP_HYBRID_RESET_MONTH  (32 * NGX_HTTP_HYBRID_RESET_DAY)

/* msec between questions whether there was one */
#define NGX_HTTP_HYBRID_RESET_CHECK  1000


static void ngx_http_hybrid_reset_reply(void *data, redisReply *reply);
static uint64_t ngx_http_hybrid_reset_keep(ngx_hybrid_shm_client_t *shared);


/* later than the last one, also by a Redis whose clock has gone back */

static ngx_hybrid_redis_script_t  ngx_http_hybrid_reset_script = {
    ngx_string(
        "local t = redis.call('TIME')\n"
        "local old = tonumber(redis.call('HGET', KEYS[1], 'reset') or 0)\n"
        "local now = math.max(t[1] * 1000000 + t[2], old + 1)\n"
        "redis.call('HDEL', KEYS[1], 'rate', 'tokens', 'budget')\n"
        "redis.call('HSET', KEYS[1], 'reset', string.format('%.0f', now))\n"
        "if tonumber(ARGV[1]) > redis.call('PTTL', KEYS[1]) then\n"
        "  redis.call('PEXPIRE', KEYS[1], ARGV[1])\n"
        "end\n"
        "return now\n"),
    { 0 }
};


void
ngx_http_hybrid_reset_init(void)
{
    ngx_hybrid_redis_script_init(&ngx_http_hybrid_reset_script);
}


ngx_uint_t
ngx_http_hybrid_reset_seen(ngx_hybrid_shm_client_t *shared, uint64_t stamp)
{
    ngx_uint_t           i;
    ngx_atomic_uint_t    old;
    ngx_hybrid_meter_t  *meter;

    do {
        old = shared->reset;

        if (old >= stamp) {
            return 0;
        }

    } while (!ngx_atomic_cmp_set(&shared->reset, old, stamp));

    for (i = 0; i < ngx_hybrid_meters; i++) {
        meter = &shared->meters[i];

        meter->account = 0;
        meter->credits = 0;
        meter->owed = 0;
        meter->told = 0;
        meter->dry = ngx_current_msec;
    }

    shared->warned = 0;

    return 1;
}


void
ngx_http_hybrid_reset_check(ngx_http_hybrid_lease_t *lease)
{
    ngx_atomic_uint_t         old;
    ngx_hybrid_shm_client_t  *shared;

    shared = lease->client->shared;
    old = shared->checked;

    if (!lease->pending
        && ngx_current_msec - old >= NGX_HTTP_HYBRID_RESET_CHECK
        && ngx_atomic_cmp_set(&shared->checked, old, ngx_current_msec))
    {
        (void) ngx_http_hybrid_lease_refill(lease, 0);
    }
}


ngx_int_t
ngx_http_hybrid_limit_reset(ngx_http_hybrid_main_conf_t *hmcf,
    ngx_str_t *name, ngx_hybrid_shm_client_t *shared,
    ngx_http_hybrid_reset_t **op)
{
    u_char     *p, keep[NGX_INT64_LEN];
    ngx_int_t   rc;
    ngx_str_t   argv[2];
    u_char      key[NGX_MAX_ERROR_STR];

    *op = NULL;

    if (hmcf->redis) {
        p = ngx_slprintf(key, key + sizeof(key), "%V{%V}:limits",
                         &hmcf->redis_conf->prefix, name);
        argv[0].data = key;
        argv[0].len = p - key;

        p = ngx_sprintf(keep, "%uL", ngx_http_hybrid_reset_keep(shared));
        argv[1].data = keep;
        argv[1].len = p - keep;

        *op = ngx_calloc(sizeof(ngx_http_hybrid_reset_t), ngx_cycle->log);

        if (*op == NULL) {
            return NGX_ERROR;
        }

        (*op)->shared = shared;

        rc = ngx_hybrid_redis_eval(hmcf->redis, &ngx_http_hybrid_reset_script,
                                   2, argv, ngx_http_hybrid_reset_reply, *op);
        if (rc == NGX_OK) {
            return NGX_OK;
        }

        ngx_free(*op);
        *op = NULL;
    }

    ngx_http_hybrid_limit_reset_own(shared);

    return NGX_DECLINED;
}


/* one in Redis that comes after this is later than it, too */

void
ngx_http_hybrid_limit_reset_own(ngx_hybrid_shm_client_t *shared)
{
    (void) ngx_http_hybrid_reset_seen(shared, shared->reset + 1);
}


static void
ngx_http_hybrid_reset_reply(void *data, redisReply *reply)
{
    ngx_http_hybrid_reset_t  *op = data;

    if (op->gone) {

        /* here as in other gateways: by the next question */

        ngx_free(op);
        return;
    }

    op->done = 1;
    op->told = reply && reply->type == REDIS_REPLY_INTEGER;

    if (op->told) {
        (void) ngx_http_hybrid_reset_seen(op->shared, reply->integer);

    } else {
        ngx_http_hybrid_limit_reset_own(op->shared);
    }
}


/* as long as a gateway may remember what was used before */

static uint64_t
ngx_http_hybrid_reset_keep(ngx_hybrid_shm_client_t *shared)
{
    uint64_t    keep;
    ngx_uint_t  i;

    keep = NGX_HTTP_HYBRID_RESET_DAY;

    for (i = 0; i < ngx_hybrid_meter_budget; i++) {

        /* an account may be two bursts ahead; its span is in usec */

        keep = ngx_max(keep, shared->meters[i].span / 500 + 1000);
    }

    return shared->windows[ngx_hybrid_meter_budget] ?
           ngx_max(keep, NGX_HTTP_HYBRID_RESET_MONTH) : keep;
}


void
ngx_http_hybrid_limit_ask(ngx_http_hybrid_client_t *client)
{
    if (client->lease && client->lease->conf->redis
        && !client->lease->pending)
    {
        (void) ngx_http_hybrid_lease_refill(client->lease, 0);
    }
}


ngx_uint_t
ngx_http_hybrid_limit_asking(ngx_http_hybrid_client_t *client)
{
    return client->lease && client->lease->pending;
}
