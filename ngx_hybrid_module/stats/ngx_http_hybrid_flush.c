
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Once a second one of the workers adds what is new in this gateway's series
 * to those in Redis, in one pipeline.  Numbers are confirmed before they
 * count as sent, and carry a sequence: a lost answer, Redis away for an hour
 * or two workers at once neither lose nor double anything, and nothing piles
 * up meanwhile.
 */


#include "ngx_http_hybrid_stats.h"


#define NGX_HTTP_HYBRID_FLUSH_INTERVAL  1000   /* msec */

/* at a time: the limits need the connection, too */
#define NGX_HTTP_HYBRID_FLUSH_MAX       256

/* fields are one letter and up to two numbers */
#define NGX_HTTP_HYBRID_FIELD_LEN       16


/* a series in this worker */

typedef struct {
    ngx_http_hybrid_flush_t   *flush;
    ngx_hybrid_series_t       *series;
    ngx_atomic_uint_t          sequence;    /* of what was sent last */
    unsigned                   pending:1;   /* its answer will come */
} ngx_http_hybrid_packet_t;


struct ngx_http_hybrid_flush_s {
    ngx_http_hybrid_main_conf_t  *conf;
    ngx_event_t                   timer;
    ngx_http_hybrid_packet_t     *packets;  /* as many as series */
    ngx_str_t                    *argv;
    u_char                       *text;
    ngx_uint_t                    next;     /* series to begin with */
    unsigned                      refused:1;
};


static void ngx_http_hybrid_flush_handler(ngx_event_t *ev);
static ngx_uint_t ngx_http_hybrid_flush_turn(ngx_http_hybrid_flush_t *flush);
static void ngx_http_hybrid_flush_expire(ngx_http_hybrid_flush_t *flush);
static ngx_int_t ngx_http_hybrid_flush_series(ngx_http_hybrid_flush_t *flush,
    ngx_uint_t n);
static void ngx_http_hybrid_flush_mark(ngx_hybrid_series_sh_t *sh,
    ngx_hybrid_series_t *series);
static void ngx_http_hybrid_flush_confirm(ngx_hybrid_series_sh_t *sh,
    ngx_hybrid_series_t *series);
static ngx_int_t ngx_http_hybrid_flush_send(ngx_http_hybrid_flush_t *flush,
    ngx_http_hybrid_packet_t *packet);
static u_char *ngx_http_hybrid_flush_tables(ngx_hybrid_series_sh_t *sh,
    ngx_hybrid_series_t *series, ngx_str_t *argv, ngx_uint_t *n, u_char *p);
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

    ngx_hybrid_redis_script_init(&ngx_http_hybrid_flush_script);

    flush = ngx_pcalloc(cycle->pool, sizeof(ngx_http_hybrid_flush_t));
    if (flush == NULL) {
        return NGX_ERROR;
    }

    n = NGX_HYBRID_COUNTS + ngx_hybrid_timer_n
        + ngx_hybrid_tables * NGX_HYBRID_HISTOGRAM_BUCKETS;

    flush->packets = ngx_pcalloc(cycle->pool, hmcf->shm->sh->series.max
                                          * sizeof(ngx_http_hybrid_packet_t));
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

    hmcf->flush = flush;

    ngx_add_timer(&flush->timer, NGX_HTTP_HYBRID_FLUSH_INTERVAL);

    return NGX_OK;
}


static void
ngx_http_hybrid_flush_handler(ngx_event_t *ev)
{
    ngx_http_hybrid_flush_t  *flush = ev->data;

    ngx_uint_t            i, n, sent;
    ngx_hybrid_shm_sh_t  *sh;

    sh = flush->conf->shm->sh;
    sent = 0;

    if (ngx_http_hybrid_flush_turn(flush)
        && ngx_hybrid_redis_available(flush->conf->redis))
    {

        /* in turn: those that are left out now are the first ones then */

        n = sh->series.n;

        for (i = 0; i < n && sent < NGX_HTTP_HYBRID_FLUSH_MAX; i++) {

            if (flush->next >= n) {
                flush->next = 0;
            }

            if (ngx_http_hybrid_flush_series(flush, flush->next++) == NGX_OK) {
                sent++;
            }
        }

        if (sent) {
            ngx_http_hybrid_flush_expire(flush);
        }
    }

    /* Redis's answers keep a worker that exits a moment longer, this doesn't */

    ev->cancelable = 1;

    ngx_add_timer(ev, NGX_HTTP_HYBRID_FLUSH_INTERVAL);
}


/* one worker in each interval, whichever comes first; at its end any */

static ngx_uint_t
ngx_http_hybrid_flush_turn(ngx_http_hybrid_flush_t *flush)
{
    ngx_atomic_t       *due;
    ngx_atomic_uint_t   old;

    due = &flush->conf->shm->sh->flush_due;
    old = *due;

    if (!flush->timer.cancelable) {
        return 1;
    }

    return (ngx_msec_int_t) (old - ngx_current_msec) <= 0
           && ngx_atomic_cmp_set(due, old, ngx_current_msec
                                           + NGX_HTTP_HYBRID_FLUSH_INTERVAL);
}


/*
 * A request of a worker that exits may be the last one of this gateway: it
 * would not be counted, as nobody is left for the next interval.
 */

void
ngx_http_hybrid_flush_last(ngx_http_hybrid_main_conf_t *hmcf)
{
    ngx_http_hybrid_flush_t  *flush;

    flush = hmcf->flush;

    if (flush && flush->timer.cancelable) {
        ngx_del_timer(&flush->timer);
        flush->timer.cancelable = 0;
        ngx_add_timer(&flush->timer, 1);
    }
}


static void
ngx_http_hybrid_flush_expire(ngx_http_hybrid_flush_t *flush)
{
    u_char     buf[NGX_INT64_LEN];
    ngx_str_t  ttl;

    ttl.data = buf;
    ttl.len = ngx_sprintf(buf, "%d", NGX_HTTP_HYBRID_SERIES_TTL) - buf;

    (void) ngx_http_hybrid_series_command(flush->conf, "PEXPIRE", &ttl);
}


/* NGX_OK: sent; NGX_DECLINED: nothing to send, or not now */

static ngx_int_t
ngx_http_hybrid_flush_series(ngx_http_hybrid_flush_t *flush, ngx_uint_t n)
{
    ngx_shmtx_t               *mutex;
    ngx_hybrid_series_t       *series;
    ngx_http_hybrid_packet_t  *packet;

    mutex = &flush->conf->shm->shpool->mutex;
    series = &flush->conf->shm->sh->series.elts[n];
    packet = &flush->packets[n];

    if (packet->pending) {
        return NGX_DECLINED;
    }

    if (!series->sending) {

        if (ngx_memcmp((void *) &series->now, (void *) &series->sent,
                       sizeof(ngx_hybrid_numbers_t)) == 0)
        {
            return NGX_DECLINED;
        }

        ngx_shmtx_lock(mutex);

        if (!series->sending) {
            ngx_http_hybrid_flush_mark(&flush->conf->shm->sh->series, series);

            series->sequence++;
            ngx_memory_barrier();
            series->sending = 1;
        }

        ngx_shmtx_unlock(mutex);
    }

    packet->flush = flush;
    packet->series = series;

    return ngx_http_hybrid_flush_send(flush, packet);
}


/* of a request, the outcome is counted last: it is not there without them */

static void
ngx_http_hybrid_flush_mark(ngx_hybrid_series_sh_t *sh,
    ngx_hybrid_series_t *series)
{
    ngx_uint_t            i, n, t;
    ngx_hybrid_octave_t  *octave;

    series->packet = series->now;

    ngx_memory_barrier();

    for (t = 0; t < ngx_hybrid_tables; t++) {
        for (n = 0; n < NGX_HYBRID_OCTAVES; n++) {

            octave = ngx_hybrid_series_octave(sh, series, t, n);

            for (i = 0; octave && i < NGX_HYBRID_OCTAVE; i++) {
                octave->packet[i] = octave->now[i];
            }
        }
    }
}


static void
ngx_http_hybrid_flush_confirm(ngx_hybrid_series_sh_t *sh,
    ngx_hybrid_series_t *series)
{
    ngx_uint_t            n, t;
    ngx_hybrid_octave_t  *octave;

    series->sent = series->packet;

    for (t = 0; t < ngx_hybrid_tables; t++) {
        for (n = 0; n < NGX_HYBRID_OCTAVES; n++) {

            octave = ngx_hybrid_series_octave(sh, series, t, n);

            if (octave) {
                ngx_memcpy(octave->sent, octave->packet,
                           sizeof(octave->sent));
            }
        }
    }
}


static ngx_int_t
ngx_http_hybrid_flush_send(ngx_http_hybrid_flush_t *flush,
    ngx_http_hybrid_packet_t *packet)
{
    u_char                *p;
    ngx_str_t             *argv, *prefix;
    ngx_uint_t             i, n;
    ngx_atomic_uint_t      sequence;
    ngx_hybrid_series_t   *series;
    ngx_hybrid_numbers_t  *now, *sent;

    series = packet->series;
    sequence = series->sequence;
    ngx_memory_barrier();

    now = &series->packet;
    sent = &series->sent;
    argv = flush->argv;
    prefix = &flush->conf->redis_conf->prefix;

    p = ngx_http_hybrid_series_key(prefix, series, &argv[0], flush->text);

    argv[1].data = flush->conf->shm->sh->id;
    argv[1].len = sizeof(flush->conf->shm->sh->id);

    argv[2].data = p;
    p = ngx_sprintf(p, "%uA", sequence);
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

    for (i = 0; i < ngx_hybrid_timer_n; i++) {
        p = ngx_http_hybrid_flush_field(argv, &n, p,
                                        ngx_http_hybrid_field_sum, i, 0,
                                        now->sums[i] - sent->sums[i]);
    }

    p = ngx_http_hybrid_flush_tables(&flush->conf->shm->sh->series, series,
                                     argv, &n, p);

    ngx_memory_barrier();

    if (!series->sending || series->sequence != sequence) {

        /* confirmed to another worker, perhaps while we were reading it */

        return NGX_DECLINED;
    }

    if (ngx_hybrid_redis_eval(flush->conf->redis,
                              &ngx_http_hybrid_flush_script, n, argv,
                              ngx_http_hybrid_flush_reply, packet)
        != NGX_OK)
    {
        return NGX_DECLINED;
    }

    packet->sequence = sequence;
    packet->pending = 1;

    return ngx_http_hybrid_series_command(flush->conf, "SADD", &argv[0]);
}


static u_char *
ngx_http_hybrid_flush_tables(ngx_hybrid_series_sh_t *sh,
    ngx_hybrid_series_t *series, ngx_str_t *argv, ngx_uint_t *n, u_char *p)
{
    uint32_t              delta;
    ngx_uint_t            i, o, t;
    ngx_hybrid_octave_t  *octave;

    for (t = 0; t < ngx_hybrid_tables; t++) {
        for (o = 0; o < NGX_HYBRID_OCTAVES; o++) {

            octave = ngx_hybrid_series_octave(sh, series, t, o);

            for (i = 0; octave && i < NGX_HYBRID_OCTAVE; i++) {
                delta = octave->packet[i] - octave->sent[i];

                p = ngx_http_hybrid_flush_field(argv, n, p,
                                                ngx_http_hybrid_field_bucket,
                                                t, o * NGX_HYBRID_OCTAVE + i,
                                                delta);
            }
        }
    }

    return p;
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

    ngx_hybrid_shm_t         *shm;
    ngx_hybrid_series_t      *series;
    ngx_http_hybrid_flush_t  *flush;

    flush = packet->flush;
    series = packet->series;

    packet->pending = 0;

    if (reply == NULL) {

        /* unknown: the same again, Redis knows its sequence */

        return;
    }

    if (reply->type != REDIS_REPLY_INTEGER) {

        if (!flush->refused && reply->type == REDIS_REPLY_ERROR) {
            flush->refused = 1;
            ngx_log_error(NGX_LOG_ERR, flush->timer.log, 0,
                          "redis does not take statistics: \"%s\"",
                          reply->str);
        }

        return;
    }

    flush->refused = 0;

    shm = flush->conf->shm;

    ngx_shmtx_lock(&shm->shpool->mutex);

    /* else another worker sent the same, and is further already */

    if (series->sending && packet->sequence == series->sequence) {
        ngx_http_hybrid_flush_confirm(&shm->sh->series, series);
        ngx_memory_barrier();
        series->sending = 0;
        shm->sh->flushes++;
    }

    ngx_shmtx_unlock(&shm->shpool->mutex);
}
