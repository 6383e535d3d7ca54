
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * One worker of a gateway looks each second whether the list of revocations
 * has changed.  A turn goes so:
 *
 *     timer --> read --same--> unchanged
 *                |---newer---> published
 *                |---lost----> merged, published, written back, published
 *                +---else----> failed: what was known stays in force
 *
 * A newer list is one that our own is known to have become: the same epoch,
 * a higher sequence, our version among the last ones.  Any other has lost
 * changes: Redis was restarted without its data, or with older ones.
 */


#include "ngx_http_hybrid_revoke.h"


/* msec */
#define NGX_HTTP_HYBRID_REVOKE_LOOK      250
#define NGX_HTTP_HYBRID_REVOKE_LATE      2000
#define NGX_HTTP_HYBRID_REVOKE_BACKOFF   4000


static void ngx_http_hybrid_revoke_handler(ngx_event_t *ev);
static void ngx_http_hybrid_revoke_turn(ngx_http_hybrid_revoke_t *revoke,
    ngx_msec_int_t late);
static ngx_int_t ngx_http_hybrid_revoke_ask(ngx_http_hybrid_revoke_t *revoke);
static void ngx_http_hybrid_revoke_read(void *data, redisReply *reply);
static ngx_int_t ngx_http_hybrid_revoke_take(ngx_http_hybrid_revoke_t *revoke,
    redisReply **e);
static ngx_int_t ngx_http_hybrid_revoke_list(ngx_hybrid_revoked_t *set,
    redisReply *list);
static ngx_int_t ngx_http_hybrid_revoke_merge(
    ngx_http_hybrid_revoke_t *revoke);


/*
 * KEYS[1] the list
 * ARGV    epoch ("-": nothing is known), sequence and version of the
 *         gateway's list; the most entries and bytes it takes
 *
 * Returns { "same" }, { "full" } or what the list is to ours with all of it:
 * { "newer" or "lost", epoch, sequence, version, { field, value... } }.
 */

static ngx_hybrid_redis_script_t  ngx_http_hybrid_revoke_script = {
    ngx_string(
        "local b = redis.call('HMGET', KEYS[1], '.epoch', '.seq',\n"
        "                     '.version')\n"
        "local epoch, version = b[1] or '', b[3] or ''\n"
        "local seq = tonumber(b[2] or 0) or 0\n"
        "local more = seq - tonumber(ARGV[2])\n"
        "if epoch == ARGV[1] and more == 0 and version == ARGV[3] then\n"
        "  return { 'same' }\n"
        "end\n"
        "local what = 'newer'\n"
        "if ARGV[1] ~= '-' then\n"
        "  if epoch ~= ARGV[1] or more <= 0 then\n"
        "    what = 'lost'\n"
        "  elseif more <= 100 then\n"
        "    local past = redis.call('HMGET', KEYS[1], '.past')[1]\n"
        "    if past and not string.find(past, ARGV[3], 1, true) then\n"
        "      what = 'lost'\n"
        "    end\n"
        "  end\n"
        "end\n"
        "local all = redis.call('HGETALL', KEYS[1])\n"
        "local size = 0\n"
        "for i = 1, #all do size = size + #all[i] end\n"
        "if #all > 2 * ARGV[4] + 16 or size > ARGV[5] + 4096 then\n"
        "  return { 'full' }\n"
        "end\n"
        "return { what, epoch, string.format('%.0f', seq), version, all }\n"),
    { 0 }
};


ngx_int_t
ngx_http_hybrid_revoke_poll(ngx_http_hybrid_revoke_t *revoke,
    ngx_cycle_t *cycle)
{
    ngx_hybrid_redis_script_init(&ngx_http_hybrid_revoke_script);
    ngx_http_hybrid_revoke_write_init();

    revoke->timer.handler = ngx_http_hybrid_revoke_handler;
    revoke->timer.data = revoke;
    revoke->timer.log = cycle->log;
    revoke->timer.cancelable = 1;

    ngx_add_timer(&revoke->timer, 1);

    return NGX_OK;
}


static void
ngx_http_hybrid_revoke_handler(ngx_event_t *ev)
{
    ngx_http_hybrid_revoke_t  *revoke = ev->data;

    ngx_msec_int_t  left;

    if (ngx_exiting || ngx_terminate || ngx_quit) {
        return;
    }

    left = (ngx_msec_int_t) (revoke->doc->due - ngx_current_msec);

    if (left <= 0) {
        ngx_http_hybrid_revoke_turn(revoke, -left);
        left = NGX_HTTP_HYBRID_REVOKE_LOOK;
    }

    left = ngx_min(left, NGX_HTTP_HYBRID_REVOKE_INTERVAL);

    ngx_add_timer(ev, (ngx_msec_t) left + ngx_random() % 50);
}


static void
ngx_http_hybrid_revoke_turn(ngx_http_hybrid_revoke_t *revoke,
    ngx_msec_int_t late)
{
    ngx_uint_t                available;
    ngx_hybrid_redis_conf_t  *conf;

    conf = revoke->conf->redis_conf;

    if (revoke->pending) {
        return;
    }

    /* another worker may have a connection; if none has, it is to be seen */

    available = ngx_hybrid_redis_available_key(revoke->conf->redis,
                                               &revoke->key);

    if (!available && late < NGX_HTTP_HYBRID_REVOKE_LATE) {
        return;
    }

    if (!ngx_hybrid_doc_turn(revoke->doc, 4 * conf->timeout + 300)) {
        return;
    }

    if (!available) {
        ngx_http_hybrid_revoke_failed(revoke, "redis is away", NULL);
        return;
    }

    if (ngx_http_hybrid_revoke_refresh(revoke) != NGX_OK) {
        ngx_http_hybrid_revoke_failed(revoke, "no memory", NULL);
        return;
    }

    if (revoke->set && revoke->doc->len == 0) {
        ngx_http_hybrid_revoke_publish(revoke, revoke->set, 0);
        return;
    }

    if (ngx_http_hybrid_revoke_ask(revoke) != NGX_OK) {
        ngx_http_hybrid_revoke_failed(revoke, "redis is away", NULL);
    }
}


static ngx_int_t
ngx_http_hybrid_revoke_ask(ngx_http_hybrid_revoke_t *revoke)
{
    u_char                 seq[NGX_INT64_LEN];
    ngx_str_t              argv[6];
    ngx_hybrid_revoked_t  *set;

    set = revoke->set;

    argv[0] = revoke->key;

    ngx_str_set(&argv[1], "-");
    argv[2].data = seq;
    ngx_str_set(&argv[3], "");
    ngx_str_set(&argv[4], ngx_value(NGX_HYBRID_REVOKED_MAX));
    ngx_str_set(&argv[5], ngx_value(NGX_HYBRID_REVOKED_SIZE));

    if (set) {
        argv[1] = set->epoch;
        argv[3] = set->version;
    }

    argv[2].len = ngx_sprintf(seq, "%uL", set ? set->seq : 0) - seq;

    if (ngx_hybrid_redis_eval(revoke->conf->redis,
                              &ngx_http_hybrid_revoke_script, 6, argv,
                              ngx_http_hybrid_revoke_read, revoke)
        != NGX_OK)
    {
        return NGX_DECLINED;
    }

    revoke->pending = 1;

    return NGX_OK;
}


static void
ngx_http_hybrid_revoke_read(void *data, redisReply *reply)
{
    ngx_http_hybrid_revoke_t  *revoke = data;

    ngx_int_t     rc;
    redisReply  **e;

    revoke->pending = 0;

    if (ngx_exiting || ngx_terminate || ngx_quit) {

        /* the turn ends by itself, and is another worker's */

        return;
    }

    if (reply == NULL || reply->type == REDIS_REPLY_ERROR) {
        ngx_http_hybrid_revoke_failed(revoke, "redis is away", reply);
        return;
    }

    e = reply->element;

    if (reply->type != REDIS_REPLY_ARRAY || reply->elements == 0
        || e[0]->type != REDIS_REPLY_STRING)
    {
        ngx_http_hybrid_revoke_failed(revoke, "unexpected answer", reply);
        return;
    }

    if (ngx_strcmp(e[0]->str, "full") == 0) {
        ngx_http_hybrid_revoke_failed(revoke, "the list is too large", reply);
        return;
    }

    if (ngx_strcmp(e[0]->str, "same") == 0) {

        if (revoke->doc->failures) {
            ngx_log_error(NGX_LOG_NOTICE, revoke->timer.log, 0,
                          "revocations are read again");
        }

        ngx_hybrid_doc_unchanged(revoke->conf->shm, revoke->doc,
                                 NGX_HTTP_HYBRID_REVOKE_INTERVAL);
        return;
    }

    if (reply->elements != 5
        || e[1]->type != REDIS_REPLY_STRING
        || e[2]->type != REDIS_REPLY_STRING
        || e[3]->type != REDIS_REPLY_STRING
        || e[4]->type != REDIS_REPLY_ARRAY)
    {
        ngx_http_hybrid_revoke_failed(revoke, "unexpected answer", reply);
        return;
    }

    rc = ngx_http_hybrid_revoke_take(revoke, e);

    if (rc == NGX_AGAIN) {
        return;
    }

    if (rc != NGX_OK) {
        ngx_http_hybrid_revoke_failed(revoke,
                                      rc == NGX_DECLINED ? "unexpected answer"
                                      : "no memory", reply);
    }

    ngx_http_hybrid_revoke_end(revoke);
}


/* NGX_OK: published; NGX_AGAIN: the turn goes on */

static ngx_int_t
ngx_http_hybrid_revoke_take(ngx_http_hybrid_revoke_t *revoke, redisReply **e)
{
    ngx_int_t                       rc;
    ngx_str_t                       epoch, seq, version;
    ngx_http_hybrid_revoke_turn_t  *turn;

    turn = &revoke->turn;

    turn->pool = ngx_create_pool(4096, revoke->timer.log);
    if (turn->pool == NULL) {
        return NGX_ERROR;
    }

    turn->theirs = ngx_hybrid_revoked_create(turn->pool, e[4]->elements / 2);
    if (turn->theirs == NULL) {
        return NGX_ERROR;
    }

    epoch.data = (u_char *) e[1]->str;
    epoch.len = e[1]->len;
    seq.data = (u_char *) e[2]->str;
    seq.len = e[2]->len;
    version.data = (u_char *) e[3]->str;
    version.len = e[3]->len;

    rc = ngx_hybrid_revoked_state(turn->theirs, &epoch, &seq, &version);
    if (rc != NGX_OK) {
        return rc;
    }

    rc = ngx_http_hybrid_revoke_list(turn->theirs, e[4]);
    if (rc != NGX_OK) {
        return rc;
    }

    if (revoke->set && revoke->set->n
        && ngx_strcmp(e[0]->str, "newer") != 0)
    {
        return ngx_http_hybrid_revoke_merge(revoke);
    }

    ngx_http_hybrid_revoke_publish(revoke, turn->theirs,
                                   NGX_HTTP_HYBRID_REVOKE_INTERVAL);

    return NGX_OK;
}


/* a field that can't name anything is left out, and holds up nothing */

static ngx_int_t
ngx_http_hybrid_revoke_list(ngx_hybrid_revoked_t *set, redisReply *list)
{
    size_t        i;
    ngx_str_t     field, value;
    redisReply  **e;

    e = list->element;

    for (i = 0; i + 1 < list->elements; i += 2) {

        if (e[i]->type != REDIS_REPLY_STRING
            || e[i + 1]->type != REDIS_REPLY_STRING)
        {
            return NGX_DECLINED;
        }

        field.data = (u_char *) e[i]->str;
        field.len = e[i]->len;
        value.data = (u_char *) e[i + 1]->str;
        value.len = e[i + 1]->len;

        if (ngx_hybrid_revoked_add(set, &field, &value) == NGX_ERROR) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


/*
 * What Redis has lost is in force all the time: the union is published with
 * the state of our own list, so that whoever has the next turn, should ours
 * not come to its end, finds the loss again.
 */

static ngx_int_t
ngx_http_hybrid_revoke_merge(ngx_http_hybrid_revoke_t *revoke)
{
    ngx_hybrid_revoked_t           *own, *set;
    ngx_http_hybrid_revoke_turn_t  *turn;

    turn = &revoke->turn;
    own = revoke->set;

    set = ngx_hybrid_revoked_create(turn->pool, own->n + turn->theirs->n);

    if (set == NULL
        || ngx_hybrid_revoked_add_all(set, turn->theirs) != NGX_OK
        || ngx_hybrid_revoked_add_all(set, own) != NGX_OK)
    {
        return NGX_ERROR;
    }

    turn->set = set;
    turn->next = turn->theirs->n;

    if (set->n == turn->theirs->n) {
        ngx_http_hybrid_revoke_publish(revoke, turn->theirs,
                                       NGX_HTTP_HYBRID_REVOKE_INTERVAL);
        return NGX_OK;
    }

    if (!own->lost) {
        ngx_log_error(NGX_LOG_WARN, revoke->timer.log, 0,
                      "redis has lost %ui revocations, they stay in force "
                      "and are written back", set->n - turn->next);
    }

    set->lost = 1;

    if (ngx_hybrid_revoked_state_of(set, own) != NGX_OK) {
        return NGX_ERROR;
    }

    if (!own->lost || set->n > own->n) {
        ngx_http_hybrid_revoke_publish(revoke, set,
                                       4 * revoke->conf->redis_conf->timeout);
    }

    if (ngx_http_hybrid_revoke_write(revoke) != NGX_OK) {
        ngx_http_hybrid_revoke_failed(revoke, "redis is away", NULL);
        return NGX_OK;
    }

    return NGX_AGAIN;
}


void
ngx_http_hybrid_revoke_publish(ngx_http_hybrid_revoke_t *revoke,
    ngx_hybrid_revoked_t *set, ngx_msec_t next)
{
    ngx_str_t   text;
    ngx_uint_t  failures;

    failures = revoke->doc->failures;

    if (ngx_hybrid_revoked_text(set, &text) != NGX_OK) {
        ngx_http_hybrid_revoke_failed(revoke, "no memory", NULL);
        return;
    }

    if (ngx_hybrid_doc_publish(revoke->conf->shm, revoke->doc, &text, next)
        != NGX_OK)
    {
        ngx_http_hybrid_revoke_failed(revoke, "hybrid_zone is full", NULL);
        return;
    }

    if (failures) {
        ngx_log_error(NGX_LOG_NOTICE, revoke->timer.log, 0,
                      "revocations are read again");
    }
}


/* the text is shown in status pages: nothing in it needs an escape */

void
ngx_http_hybrid_revoke_failed(ngx_http_hybrid_revoke_t *revoke,
    const char *why, redisReply *reply)
{
    u_char             buf[NGX_HYBRID_DOC_ERROR], *p;
    ngx_str_t          text;
    ngx_msec_t         next;
    ngx_uint_t         first;
    ngx_hybrid_doc_t  *doc;

    doc = revoke->doc;
    first = (doc->failures == 0);

    p = ngx_slprintf(buf, buf + sizeof(buf), "%s",
                     reply && reply->type == REDIS_REPLY_ERROR ? reply->str
                                                               : why);
    text.data = buf;
    text.len = p - buf;

    while (p-- > buf) {
        if (*p < ' ' || *p > '~' || *p == '"' || *p == '\\') {
            *p = '?';
        }
    }

    /* an answer that is too slow would end the worker's connection again */

    next = NGX_HTTP_HYBRID_REVOKE_INTERVAL;

    if (ngx_hybrid_redis_available_key(revoke->conf->redis, &revoke->key)) {
        next = ngx_min(next * (1 + doc->failures),
                       NGX_HTTP_HYBRID_REVOKE_BACKOFF);
    }

    ngx_hybrid_doc_failed(revoke->conf->shm, doc, &text, next);

    if (!first) {
        return;
    }

    if (doc->generation == 0) {
        ngx_log_error(NGX_LOG_WARN, revoke->timer.log, 0,
                      "no revocations are known, and nobody is refused for "
                      "one: %V", &text);

    } else if (reply || ngx_strcmp(why, "redis is away") != 0) {

        /* that Redis is away was said by its connection */

        ngx_log_error(NGX_LOG_WARN, revoke->timer.log, 0,
                      "revocations can't be read, those that are known stay "
                      "in force: %V", &text);
    }
}


void
ngx_http_hybrid_revoke_end(ngx_http_hybrid_revoke_t *revoke)
{
    if (revoke->turn.pool) {
        ngx_destroy_pool(revoke->turn.pool);
    }

    ngx_memzero(&revoke->turn, sizeof(ngx_http_hybrid_revoke_turn_t));
}
