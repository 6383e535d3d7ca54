
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Every ten seconds one of the workers writes those minutes to Redis that it
 * does not have as they are now.  A minute is written whole, and never over
 * a later state of it: a lost answer, two workers at once or Redis away for
 * an hour neither lose nor double anything, and nothing piles up meanwhile.
 */


#include "ngx_http_hybrid_history.h"


/* msec: how often it is looked whether there is something, and written */
#define NGX_HTTP_HYBRID_HISTORY_LOOK      1000
#define NGX_HTTP_HYBRID_HISTORY_INTERVAL  10000


static void ngx_http_hybrid_history_handler(ngx_event_t *ev);
static ngx_uint_t ngx_http_hybrid_history_turn(
    ngx_http_hybrid_history_t *history);
static ngx_uint_t ngx_http_hybrid_history_next(
    ngx_http_hybrid_history_t *history, ngx_uint_t newest);
static ngx_uint_t ngx_http_hybrid_history_due(
    ngx_http_hybrid_history_t *history, ngx_uint_t n);
static ngx_int_t ngx_http_hybrid_history_send(
    ngx_http_hybrid_history_t *history, ngx_uint_t n);
static void ngx_http_hybrid_history_reply(void *data, redisReply *reply);
static ngx_int_t ngx_http_hybrid_history_labels(void *data,
    ngx_uint_t series, ngx_str_t *labels);


/*
 * KEYS[1] an hour
 * ARGV    a minute and its gateway, its state, its text, when the hour is to
 *         be forgotten, msec since 1970
 *
 * What a connection that is gone has left on its way may come late.
 */

static ngx_hybrid_redis_script_t  ngx_http_hybrid_history_script = {
    ngx_string(
        "local old = redis.call('HGET', KEYS[1], ARGV[1])\n"
        "old = old and tonumber(string.match(old, '^1 (%d+) ') or 0) or 0\n"
        "if old >= tonumber(ARGV[2]) then return 0 end\n"
        "redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])\n"
        "redis.call('PEXPIREAT', KEYS[1], ARGV[4])\n"
        "return 1\n"),
    { 0 }
};


ngx_int_t
ngx_http_hybrid_history_init_worker(ngx_http_hybrid_main_conf_t *hmcf,
    ngx_cycle_t *cycle)
{
    size_t                      prefix;
    ngx_uint_t                  i, n;
    ngx_http_hybrid_history_t  *history;

    history = ngx_pcalloc(cycle->pool, sizeof(ngx_http_hybrid_history_t));
    if (history == NULL) {
        return NGX_ERROR;
    }

    n = hmcf->shm->sh->history->n;
    prefix = hmcf->redis_conf ? hmcf->redis_conf->prefix.len : 0;

    history->size = ngx_hybrid_history_text_size(n);
    history->text = ngx_palloc(cycle->pool, history->size);
    history->state.cells = ngx_palloc(cycle->pool,
                                      n * sizeof(ngx_hybrid_history_cell_t));
    history->key = ngx_palloc(cycle->pool,
                              prefix + NGX_HTTP_HYBRID_HISTORY_KEY);

    if (history->text == NULL || history->state.cells == NULL
        || history->key == NULL)
    {
        return NGX_ERROR;
    }

    for (i = 0; i < NGX_HTTP_HYBRID_HISTORY_MAX; i++) {
        history->packets[i].history = history;
    }

    history->conf = hmcf;
    hmcf->history = history;

    if (hmcf->redis_conf == NULL) {
        return NGX_OK;
    }

    ngx_hybrid_redis_script_init(&ngx_http_hybrid_history_script);

    history->timer.handler = ngx_http_hybrid_history_handler;
    history->timer.data = history;
    history->timer.log = cycle->log;
    history->timer.cancelable = 1;

    ngx_add_timer(&history->timer, NGX_HTTP_HYBRID_HISTORY_LOOK);

    return NGX_OK;
}


/* the last minutes, as far as the connection takes them at once */

void
ngx_http_hybrid_history_exit_worker(ngx_http_hybrid_main_conf_t *hmcf)
{
    ngx_str_t                   key;
    ngx_uint_t                  i, n;
    ngx_http_hybrid_history_t  *history;

    history = hmcf->history;

    if (history == NULL || hmcf->redis == NULL) {
        return;
    }

    for (i = 0; i < NGX_HTTP_HYBRID_HISTORY_MAX; i++) {

        n = ngx_http_hybrid_history_next(history, 1);

        if (n == NGX_HYBRID_HISTORY_MINUTES
            || ngx_http_hybrid_history_send(history, n) != NGX_OK)
        {
            return;
        }

        ngx_http_hybrid_history_key(hmcf, history->state.minute / 60, &key,
                                    history->key);
        ngx_hybrid_redis_flush(hmcf->redis, &key);
    }
}


static void
ngx_http_hybrid_history_handler(ngx_event_t *ev)
{
    ngx_http_hybrid_history_t  *history = ev->data;

    ngx_uint_t  i, n;

    if (ngx_hybrid_redis_available(history->conf->redis)
        && ngx_http_hybrid_history_next(history, 0)
           < NGX_HYBRID_HISTORY_MINUTES
        && ngx_http_hybrid_history_turn(history))
    {
        for (i = 0; i < NGX_HTTP_HYBRID_HISTORY_MAX; i++) {

            n = ngx_http_hybrid_history_next(history, 0);

            if (n == NGX_HYBRID_HISTORY_MINUTES
                || ngx_http_hybrid_history_send(history, n) != NGX_OK)
            {
                break;
            }

            history->after = history->state.minute;
        }

        if (i == NGX_HTTP_HYBRID_HISTORY_MAX && !history->refused) {

            /* an hour without Redis: its oldest minutes will soon be gone */

            history->conf->shm->sh->history_due = ngx_current_msec
                                            + NGX_HTTP_HYBRID_HISTORY_LOOK / 2;
        }
    }

    ngx_add_timer(ev, NGX_HTTP_HYBRID_HISTORY_LOOK);
}


/* one worker in each interval, whichever comes first */

static ngx_uint_t
ngx_http_hybrid_history_turn(ngx_http_hybrid_history_t *history)
{
    ngx_atomic_t       *due;
    ngx_atomic_uint_t   old;

    due = &history->conf->shm->sh->history_due;
    old = *due;

    return (ngx_msec_int_t) (old - ngx_current_msec) <= 0
           && ngx_atomic_cmp_set(due, old, ngx_current_msec
                                         + NGX_HTTP_HYBRID_HISTORY_INTERVAL);
}


/*
 * The newest of those that are due; or else the oldest, after the one that
 * was sent last: Redis may not take it.  MINUTES: none is.
 */

static ngx_uint_t
ngx_http_hybrid_history_next(ngx_http_hybrid_history_t *history,
    ngx_uint_t newest)
{
    uint32_t               minute, rank, best;
    ngx_uint_t             i, found;
    ngx_hybrid_history_t  *minutes;

    minutes = history->conf->shm->sh->history;
    found = NGX_HYBRID_HISTORY_MINUTES;
    best = 0;

    for (i = 0; i < NGX_HYBRID_HISTORY_MINUTES; i++) {

        if (!ngx_http_hybrid_history_due(history, i)) {
            continue;
        }

        minute = minutes->segments[i].minute;
        rank = newest ? minute : history->after - minute;

        if (found == NGX_HYBRID_HISTORY_MINUTES || rank > best) {
            best = rank;
            found = i;
        }
    }

    return found;
}


/* Redis does not have it, and is not being told */

static ngx_uint_t
ngx_http_hybrid_history_due(ngx_http_hybrid_history_t *history, ngx_uint_t n)
{
    int64_t                            age;
    ngx_uint_t                         i;
    ngx_hybrid_history_t              *minutes;
    ngx_http_hybrid_history_packet_t  *packet;

    minutes = history->conf->shm->sh->history;

    if (!ngx_hybrid_history_dirty(minutes, n)) {
        return 0;
    }

    /* it would be forgotten at once, or is of a clock that was wrong */

    age = (int64_t) (ngx_time() / 60) - minutes->segments[n].minute;

    if (age < -1 || age > (NGX_HTTP_HYBRID_HISTORY_HOURS - 1) * 60) {
        return 0;
    }

    for (i = 0; i < NGX_HTTP_HYBRID_HISTORY_MAX; i++) {
        packet = &history->packets[i];

        if (packet->pending && packet->segment == n) {
            return 0;
        }
    }

    return 1;
}


static ngx_int_t
ngx_http_hybrid_history_send(ngx_http_hybrid_history_t *history, ngx_uint_t n)
{
    u_char                            *p, buf[NGX_HYBRID_HISTORY_FIELD
                                              + NGX_INT32_LEN + NGX_INT64_LEN];
    uint32_t                           hour;
    ngx_str_t                          argv[5];
    ngx_uint_t                         i;
    ngx_hybrid_shm_sh_t               *sh;
    ngx_http_hybrid_history_packet_t  *packet;

    for (i = 0; i < NGX_HTTP_HYBRID_HISTORY_MAX; i++) {
        if (!history->packets[i].pending) {
            break;
        }
    }

    if (i == NGX_HTTP_HYBRID_HISTORY_MAX
        || ngx_http_hybrid_history_text(history, n, &argv[3]) != NGX_OK)
    {
        return NGX_DECLINED;
    }

    packet = &history->packets[i];
    sh = history->conf->shm->sh;
    hour = history->state.minute / 60;

    ngx_http_hybrid_history_key(history->conf, hour, &argv[0], history->key);

    argv[1].data = buf;
    p = ngx_sprintf(buf, "%uD:%*s", history->state.minute, sizeof(sh->id),
                    sh->id);
    argv[1].len = p - argv[1].data;

    argv[2].data = p;
    p = ngx_sprintf(p, "%uD", history->state.changed);
    argv[2].len = p - argv[2].data;

    argv[4].data = p;
    p = ngx_sprintf(p, "%uL", ((uint64_t) hour + NGX_HTTP_HYBRID_HISTORY_HOURS)
                              * 3600 * 1000);
    argv[4].len = p - argv[4].data;

    packet->segment = n;
    packet->generation = history->state.generation;
    packet->changed = history->state.changed;

    if (ngx_hybrid_redis_eval(history->conf->redis,
                              &ngx_http_hybrid_history_script, 5, argv,
                              ngx_http_hybrid_history_reply, packet)
        != NGX_OK)
    {
        return NGX_DECLINED;
    }

    packet->pending = 1;

    return NGX_OK;
}


static void
ngx_http_hybrid_history_reply(void *data, redisReply *reply)
{
    ngx_http_hybrid_history_packet_t  *packet = data;

    ngx_http_hybrid_history_t  *history;

    history = packet->history;
    packet->pending = 0;

    if (reply == NULL) {

        /* unknown: again, which changes nothing if it has come */

        return;
    }

    if (reply->type != REDIS_REPLY_INTEGER) {

        if (!history->refused && reply->type == REDIS_REPLY_ERROR) {
            history->refused = 1;
            ngx_log_error(NGX_LOG_ERR, history->timer.log, 0,
                          "redis does not take the history: \"%s\"",
                          reply->str);
        }

        return;
    }

    history->refused = 0;

    ngx_hybrid_history_stored(history->conf->shm->sh->history,
                              packet->segment, packet->generation,
                              packet->changed);
}


ngx_int_t
ngx_http_hybrid_history_text(ngx_http_hybrid_history_t *history,
    ngx_uint_t segment, ngx_str_t *text)
{
    ngx_hybrid_shm_sh_t  *sh;

    sh = history->conf->shm->sh;

    if (ngx_hybrid_history_read(sh->history, segment, &history->state)
        != NGX_OK)
    {
        return NGX_DECLINED;
    }

    text->data = history->text;
    text->len = ngx_hybrid_history_write(&history->state,
                                         ngx_http_hybrid_history_labels, sh,
                                         history->text, history->size);

    return NGX_OK;
}


static ngx_int_t
ngx_http_hybrid_history_labels(void *data, ngx_uint_t series,
    ngx_str_t *labels)
{
    ngx_hybrid_shm_sh_t  *sh = data;

    if (series >= sh->series.n) {
        return NGX_DECLINED;
    }

    ngx_hybrid_series_labels(&sh->series.elts[series], &labels[0], &labels[1],
                             &labels[2]);

    return NGX_OK;
}


void
ngx_http_hybrid_history_key(ngx_http_hybrid_main_conf_t *hmcf, uint32_t hour,
    ngx_str_t *key, u_char *p)
{
    key->data = p;
    key->len = ngx_sprintf(p, "%Vhistory:%uD", &hmcf->redis_conf->prefix,
                           hour) - p;
}
