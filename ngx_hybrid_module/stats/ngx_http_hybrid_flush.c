
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Once a second the first worker adds what is new in this gateway's series
 * to those in Redis, in one pipeline.  Numbers are confirmed before they
 * count as sent, and carry a sequence: a lost answer, or Redis away for an
 * hour, neither loses nor doubles anything, and nothing piles up meanwhile.
 */


#include "ngx_http_hybrid_stats.h"


#define NGX_HTTP_HYBRID_FLUSH_INTERVAL  1000   /* msec */

/* at a time: the limits need the connection, too */
#define NGX_HTTP_HYBRID_FLUSH_MAX       256

/* fields are one letter and up to two numbers */
#define NGX_HTTP_HYBRID_FIELD_LEN       16


/* a series on its way: numbers are what the answer will confirm */

typedef struct {
    ngx_http_hybrid_flush_t   *flush;
    ngx_hybrid_series_t       *series;
    ngx_hybrid_numbers_t       numbers;
    ngx_uint_t                 sequence;
    unsigned                   valid:1;    /* to be sent again as it is */
    unsigned                   pending:1;
} ngx_http_hybrid_packet_t;


struct ngx_http_hybrid_flush_s {
    ngx_http_hybrid_main_conf_t  *conf;
    ngx_event_t                   timer;
    ngx_http_hybrid_packet_t    **packets;   /* by series, made when needed */
    ngx_str_t                    *argv;
    u_char                       *text;
};


static void ngx_http_hybrid_flush_handler(ngx_event_t *ev);
static ngx_int_t ngx_http_hybrid_flush_series(ngx_http_hybrid_flush_t *flush,
    ngx_uint_t n);
static ngx_http_hybrid_packet_t *ngx_http_hybrid_flush_packet(
    ngx_http_hybrid_flush_t *flush, ngx_uint_t n);
static ngx_int_t ngx_http_hybrid_flush_send(ngx_http_hybrid_flush_t *flush,
    ngx_http_hybrid_packet_t *packet);
static u_char *ngx_http_hybrid_flush_field(ngx_str_t *argv, ngx_uint_t *n,
    u_char *p, ngx_http_hybrid_field_e field, ngx_uint_t timer,
    ngx_uint_t index, ngx_atomic_uint_t delta);
static void ngx_http_hybrid_flush_reply(void *data, redisReply *reply);


/*
 * KEYS[1] a series
 * ARGV    gateway, its sequence for this series, time to live in msec, then
 *         fields and what to add to them
 */

static ngx_hybrid_redis_script_t  ngx_http_hybrid_flush_script = {
    ngx_string(
        "local last = redis.call('HGET', KEYS[1], 'g' .. ARGV[1])\n"
        "if tonumber(last or 0) >= tonumber(ARGV[2]) then return 0 end\n"
        "redis.call('HSET', KEYS[1], 'g' .. ARGV[1], ARGV[2])\n"
        "for i = 4, #ARGV, 2 do\n"
        "  redis.call('HINCRBY', KEYS[1], ARGV[i], ARGV[i + 1])\n"
        "end\n"
        "redis.call('PEXPIRE', KEYS[1], ARGV[3])\n"
        "return 1\n"),
    { 0 }
};


ngx_int_t
ngx_http_hybrid_flush_init_worker(ngx_http_hybrid_main_conf_t *hmcf,
    ngx_cycle_t *cycle)
{
    ngx_uint_t                n;
    ngx_http_hybrid_flush_t  *flush;

    if (ngx_worker != 0) {
        return NGX_OK;
    }

    ngx_hybrid_redis_script_init(&ngx_http_hybrid_flush_script);

    flush = ngx_pcalloc(cycle->pool, sizeof(ngx_http_hybrid_flush_t));
    if (flush == NULL) {
        return NGX_ERROR;
    }

    n = NGX_HYBRID_COUNTS
        + ngx_hybrid_timer_n * (NGX_HYBRID_HISTOGRAM_BUCKETS + 1);

    flush->packets = ngx_pcalloc(cycle->pool,
                                 hmcf->shm->sh->max * sizeof(void *));
    flush->argv = ngx_palloc(cycle->pool, (n * 2 + 4) * sizeof(ngx_str_t));
    flush->text = ngx_palloc(cycle->pool,
                         (n + 4) * (NGX_HTTP_HYBRID_FIELD_LEN + NGX_INT64_LEN)
                         + NGX_HTTP_HYBRID_SERIES_KEY);

    if (flush->packets == NULL || flush->argv == NULL || flush->text == NULL) {
        return NGX_ERROR;
    }

    flush->conf = hmcf;
    flush->timer.handler = ngx_http_hybrid_flush_handler;
    flush->timer.data = flush;
    flush->timer.log = cycle->log;
    flush->timer.cancelable = 1;

    /* a worker that is just being replaced gets its last answers first */

    ngx_add_timer(&flush->timer, NGX_HTTP_HYBRID_FLUSH_INTERVAL);

    return NGX_OK;
}


static void
ngx_http_hybrid_flush_handler(ngx_event_t *ev)
{
    ngx_http_hybrid_flush_t  *flush = ev->data;

    ngx_uint_t            i, sent;
    ngx_hybrid_shm_sh_t  *sh;

    if (ngx_exiting || ngx_terminate) {
        return;
    }

    sh = flush->conf->shm->sh;
    sent = 0;

    if (ngx_hybrid_redis_available(flush->conf->redis)) {

        for (i = 0; i < sh->nseries; i++) {

            if (ngx_http_hybrid_flush_series(flush, i) == NGX_OK
                && ++sent == NGX_HTTP_HYBRID_FLUSH_MAX)
            {
                break;
            }
        }
    }

    ngx_add_timer(ev, NGX_HTTP_HYBRID_FLUSH_INTERVAL);
}


/* NGX_OK: sent; NGX_DECLINED: nothing to send, or not now */

static ngx_int_t
ngx_http_hybrid_flush_series(ngx_http_hybrid_flush_t *flush, ngx_uint_t n)
{
    ngx_hybrid_series_t       *series;
    ngx_http_hybrid_packet_t  *packet;

    series = &flush->conf->shm->sh->series[n];
    packet = flush->packets[n];

    if (packet && packet->pending) {
        return NGX_DECLINED;
    }

    if (packet == NULL || !packet->valid) {

        /* a request is counted before its times are */

        if (ngx_memcmp((void *) series->now.counts,
                       (void *) series->sent.counts,
                       sizeof(series->now.counts)) == 0
            && ngx_memcmp((void *) series->now.sums,
                          (void *) series->sent.sums,
                          sizeof(series->now.sums)) == 0)
        {
            return NGX_DECLINED;
        }

        packet = ngx_http_hybrid_flush_packet(flush, n);
        if (packet == NULL) {
            return NGX_DECLINED;
        }

        packet->numbers = series->now;
        packet->sequence = series->sequence + 1;
        packet->valid = 1;
    }

    return ngx_http_hybrid_flush_send(flush, packet);
}


static ngx_http_hybrid_packet_t *
ngx_http_hybrid_flush_packet(ngx_http_hybrid_flush_t *flush, ngx_uint_t n)
{
    ngx_http_hybrid_packet_t  *packet;

    packet = flush->packets[n];

    if (packet == NULL) {

        packet = ngx_pcalloc(ngx_cycle->pool,
                             sizeof(ngx_http_hybrid_packet_t));
        if (packet == NULL) {
            return NULL;
        }

        packet->flush = flush;
        packet->series = &flush->conf->shm->sh->series[n];

        flush->packets[n] = packet;
    }

    return packet;
}


static ngx_int_t
ngx_http_hybrid_flush_send(ngx_http_hybrid_flush_t *flush,
    ngx_http_hybrid_packet_t *packet)
{
    u_char                *p;
    ngx_str_t             *argv, *prefix;
    ngx_uint_t             i, t, n;
    ngx_hybrid_series_t   *series;
    ngx_hybrid_numbers_t  *now, *sent;

    series = packet->series;
    now = &packet->numbers;
    sent = &series->sent;
    argv = flush->argv;
    prefix = &flush->conf->redis_conf->prefix;

    p = ngx_http_hybrid_series_key(prefix, series, &argv[0], flush->text);

    argv[1].data = flush->conf->shm->sh->id;
    argv[1].len = sizeof(flush->conf->shm->sh->id);

    argv[2].data = p;
    p = ngx_sprintf(p, "%ui", packet->sequence);
    argv[2].len = p - argv[2].data;

    argv[3].data = p;
    p = ngx_sprintf(p, "%d", NGX_HTTP_HYBRID_SERIES_TTL);
    argv[3].len = p - argv[3].data;

    n = 4;

    for (i = 0; i < NGX_HYBRID_COUNTS; i++) {
        p = ngx_http_hybrid_flush_field(argv, &n, p,
                                        ngx_http_hybrid_field_count, 0, i,
                                        now->counts[i] - sent->counts[i]);
    }

    for (t = 0; t < ngx_hybrid_timer_n; t++) {

        p = ngx_http_hybrid_flush_field(argv, &n, p,
                                        ngx_http_hybrid_field_sum, t, 0,
                                        now->sums[t] - sent->sums[t]);

        for (i = 0; i < NGX_HYBRID_HISTOGRAM_BUCKETS; i++) {
            p = ngx_http_hybrid_flush_field(argv, &n, p,
                                     ngx_http_hybrid_field_bucket, t, i,
                                     now->buckets[t][i] - sent->buckets[t][i]);
        }
    }

    if (ngx_hybrid_redis_eval(flush->conf->redis,
                              &ngx_http_hybrid_flush_script, n, argv,
                              ngx_http_hybrid_flush_reply, packet)
        != NGX_OK)
    {
        return NGX_DECLINED;
    }

    packet->pending = 1;

    return ngx_http_hybrid_series_announce(flush->conf, &argv[0]);
}


static u_char *
ngx_http_hybrid_flush_field(ngx_str_t *argv, ngx_uint_t *n, u_char *p,
    ngx_http_hybrid_field_e field, ngx_uint_t timer, ngx_uint_t index,
    ngx_atomic_uint_t delta)
{
    ngx_str_t  *name, *value;

    if (delta == 0) {
        return p;
    }

    name = &argv[(*n)++];
    value = &argv[(*n)++];

    name->data = p;

    switch (field) {

    case ngx_http_hybrid_field_count:
        p = ngx_sprintf(p, "c%ui", index);
        break;

    case ngx_http_hybrid_field_sum:
        p = ngx_sprintf(p, "s%ui", timer);
        break;

    default: /* ngx_http_hybrid_field_bucket */
        p = ngx_sprintf(p, "b%ui.%ui", timer, index);
        break;
    }

    name->len = p - name->data;

    value->data = p;
    p = ngx_sprintf(p, "%uA", delta);
    value->len = p - value->data;

    return p;
}


static void
ngx_http_hybrid_flush_reply(void *data, redisReply *reply)
{
    ngx_http_hybrid_packet_t  *packet = data;

    packet->pending = 0;

    if (reply == NULL || reply->type != REDIS_REPLY_INTEGER) {

        /* unknown: the same packet again, Redis knows its sequence */

        return;
    }

    packet->series->sent = packet->numbers;
    packet->series->sequence = packet->sequence;
    packet->valid = 0;

    (void) ngx_atomic_fetch_add(&packet->flush->conf->shm->sh->flushes, 1);
}
