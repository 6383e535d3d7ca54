
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Levers of all gateways, in a hash in Redis.  One worker of a gateway looks
 * each second, and at once when a lever was set: one script takes what Redis
 * does not know so far, of each name the newer word, and returns all when the
 * hash is not the one that was read last.  A Redis that has lost its data
 * gets it back from whoever knows.
 */


#include "ngx_http_hybrid_admin.h"
#include <openssl/err.h>
#include <openssl/rand.h>


/* msec */
#define NGX_HTTP_HYBRID_LEVER_INTERVAL  1000
#define NGX_HTTP_HYBRID_LEVER_LOOK      250
#define NGX_HTTP_HYBRID_LEVER_LATE      2000
#define NGX_HTTP_HYBRID_LEVER_COOLDOWN  20
#define NGX_HTTP_HYBRID_LEVER_BACKOFF   4000

#define NGX_HTTP_HYBRID_LEVER_VERSION   16
#define NGX_HTTP_HYBRID_LEVER_ARGS      4

/* words for Redis, at a time */
#define NGX_HTTP_HYBRID_LEVER_CHUNK     100


/* of this worker */

struct ngx_http_hybrid_levers_s {
    ngx_http_hybrid_main_conf_t   *conf;
    ngx_hybrid_doc_t              *doc;     /* whose turn it is, errors */
    ngx_str_t                      key;
    ngx_event_t                    timer;

    /* of the hash that was read last; empty: of none */
    size_t                         nversion;
    u_char                         version[NGX_HTTP_HYBRID_LEVER_VERSION];
    unsigned                       pending:1;
    unsigned                       odd:1;   /* was told of */
};


static void ngx_http_hybrid_lever_timer(ngx_event_t *ev);
static void ngx_http_hybrid_lever_turn(ngx_http_hybrid_levers_t *levers,
    ngx_msec_int_t late);
static ngx_int_t ngx_http_hybrid_lever_ask(ngx_http_hybrid_levers_t *levers);
static ngx_int_t ngx_http_hybrid_lever_send(ngx_http_hybrid_levers_t *levers,
    ngx_array_t *unsaved, ngx_pool_t *pool);
static void ngx_http_hybrid_lever_reply(void *data, redisReply *reply);
static ngx_int_t ngx_http_hybrid_lever_take(ngx_http_hybrid_levers_t *levers,
    redisReply *list);
static void ngx_http_hybrid_lever_adopted(ngx_http_hybrid_levers_t *levers,
    ngx_hybrid_lever_t *lever);
static void ngx_http_hybrid_lever_failed(ngx_http_hybrid_levers_t *levers,
    const char *why, redisReply *reply);


/*
 * KEYS[1] the hash
 * ARGV    the version that is known, one for what it becomes, the most
 *         entries; field, value...
 *
 * Returns { "same" }, { "full" } or { "all", version, { field, value... } }.
 */

static ngx_hybrid_redis_script_t  ngx_http_hybrid_lever_script = {
    ngx_string(
        "local key = KEYS[1]\n"
        "local function stamp(v)\n"
        "  return tonumber(string.match(v or '', '^%a+ (%d+) ') or 0)\n"
        "end\n"
        "if redis.call('HLEN', key) + #ARGV / 2 > ARGV[3] + 2 then\n"
        "  return { 'full' }\n"
        "end\n"
        "local n = 0\n"
        "for i = 4, #ARGV, 2 do\n"
        "  local old = redis.call('HMGET', key, ARGV[i])[1]\n"
        "  if stamp(ARGV[i + 1]) > stamp(old) then\n"
        "    redis.call('HSET', key, ARGV[i], ARGV[i + 1])\n"
        "    n = n + 1\n"
        "  end\n"
        "end\n"
        "if n > 0 then\n"
        "  redis.call('HSET', key, '.version', ARGV[2])\n"
        "end\n"
        "local version = redis.call('HMGET', key, '.version')[1] or ''\n"
        "if version == ARGV[1] and #ARGV == 3 then\n"
        "  return { 'same' }\n"
        "end\n"
        "return { 'all', version, redis.call('HGETALL', key) }\n"),
    { 0 }
};


ngx_int_t
ngx_http_hybrid_lever_init_zone(ngx_http_hybrid_main_conf_t *hmcf,
    ngx_log_t *log)
{
    ngx_str_t  name = ngx_string("levers");

    /* backends of this configuration may be new to the zone */

    ngx_hybrid_lever_apply(hmcf->shm);

    if (hmcf->redis_conf == NULL) {
        return NGX_OK;
    }

    hmcf->levers_doc = ngx_hybrid_doc(hmcf->shm, &name);

    if (hmcf->levers_doc == NULL) {
        ngx_log_error(NGX_LOG_EMERG, log, 0,
                      "hybrid_zone of %uzk is too small for levers: make it "
                      "larger", hmcf->zone_size / 1024);
        return NGX_ERROR;
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_hybrid_lever_init_worker(ngx_http_hybrid_main_conf_t *hmcf,
    ngx_cycle_t *cycle)
{
    ngx_str_t                 *prefix;
    ngx_http_hybrid_levers_t  *levers;

    if (hmcf->backends.nelts == 0
        || (hmcf->redis_conf == NULL && !hmcf->admin))
    {
        return NGX_OK;
    }

    levers = ngx_pcalloc(cycle->pool, sizeof(ngx_http_hybrid_levers_t));
    if (levers == NULL) {
        return NGX_ERROR;
    }

    levers->conf = hmcf;
    levers->doc = hmcf->levers_doc;

    if (hmcf->redis_conf) {
        prefix = &hmcf->redis_conf->prefix;

        levers->key.len = prefix->len + sizeof("levers") - 1;
        levers->key.data = ngx_pnalloc(cycle->pool, levers->key.len);
        if (levers->key.data == NULL) {
            return NGX_ERROR;
        }

        ngx_sprintf(levers->key.data, "%Vlevers", prefix);

        ngx_hybrid_redis_script_init(&ngx_http_hybrid_lever_script);
    }

    levers->timer.handler = ngx_http_hybrid_lever_timer;
    levers->timer.data = levers;
    levers->timer.log = cycle->log;
    levers->timer.cancelable = 1;

    ngx_add_timer(&levers->timer, 1);

    hmcf->levers = levers;

    return NGX_OK;
}


static void
ngx_http_hybrid_lever_timer(ngx_event_t *ev)
{
    ngx_http_hybrid_levers_t  *levers = ev->data;

    ngx_msec_int_t  left;

    if (ngx_exiting || ngx_terminate || ngx_quit) {
        return;
    }

    /* a path may have come that was spoken of before */

    ngx_hybrid_lever_apply(levers->conf->shm);

    left = NGX_HTTP_HYBRID_LEVER_INTERVAL;

    if (levers->doc) {
        left = (ngx_msec_int_t) (levers->doc->due - ngx_current_msec);

        if (left <= 0) {
            ngx_http_hybrid_lever_turn(levers, -left);
            left = NGX_HTTP_HYBRID_LEVER_LOOK;
        }

        left = ngx_min(left, NGX_HTTP_HYBRID_LEVER_INTERVAL);
    }

    ngx_add_timer(ev, (ngx_msec_t) left + ngx_random() % 50);
}


void
ngx_http_hybrid_lever_tell(ngx_http_hybrid_main_conf_t *hmcf)
{
    if (hmcf->levers
        && ngx_hybrid_doc_want(hmcf->levers_doc,
                               NGX_HTTP_HYBRID_LEVER_COOLDOWN))
    {
        ngx_http_hybrid_lever_turn(hmcf->levers, 0);
    }
}


ngx_http_hybrid_sync_e
ngx_http_hybrid_lever_redis(ngx_http_hybrid_main_conf_t *hmcf)
{
    if (hmcf->redis_conf == NULL || hmcf->levers == NULL) {
        return ngx_http_hybrid_sync_none;
    }

    return hmcf->levers_doc->failures ? ngx_http_hybrid_sync_away
                                      : ngx_http_hybrid_sync_ok;
}


static void
ngx_http_hybrid_lever_turn(ngx_http_hybrid_levers_t *levers,
    ngx_msec_int_t late)
{
    ngx_uint_t  available;

    if (levers->pending) {
        return;
    }

    /* another worker may have a connection; if none has, it is to be seen */

    available = ngx_hybrid_redis_available(levers->conf->redis);

    if (!available && late < NGX_HTTP_HYBRID_LEVER_LATE) {
        return;
    }

    if (!ngx_hybrid_doc_turn(levers->doc,
                             2 * levers->conf->redis_conf->timeout + 300))
    {
        return;
    }

    if (!available || ngx_http_hybrid_lever_ask(levers) == NGX_DECLINED) {
        ngx_http_hybrid_lever_failed(levers, "redis is away", NULL);
    }
}


static ngx_int_t
ngx_http_hybrid_lever_ask(ngx_http_hybrid_levers_t *levers)
{
    ngx_int_t     rc;
    ngx_pool_t   *pool;
    ngx_array_t   all;

    pool = ngx_create_pool(4096, levers->timer.log);
    if (pool == NULL) {
        return NGX_DECLINED;
    }

    rc = NGX_DECLINED;

    if (ngx_hybrid_lever_all(levers->conf->shm, pool, &all) == NGX_OK) {
        rc = ngx_http_hybrid_lever_send(levers, &all, pool);
    }

    ngx_destroy_pool(pool);

    return rc;
}


static ngx_int_t
ngx_http_hybrid_lever_send(ngx_http_hybrid_levers_t *levers,
    ngx_array_t *all, ngx_pool_t *pool)
{
    u_char               bytes[NGX_HTTP_HYBRID_LEVER_VERSION / 2];
    u_char               version[NGX_HTTP_HYBRID_LEVER_VERSION];
    ngx_str_t           *argv;
    ngx_uint_t           i, n;
    ngx_hybrid_lever_t  *lever;

    argv = ngx_palloc(pool, (NGX_HTTP_HYBRID_LEVER_ARGS
                             + 2 * NGX_HTTP_HYBRID_LEVER_CHUNK)
                            * sizeof(ngx_str_t));
    if (argv == NULL) {
        return NGX_DECLINED;
    }

    /* random: that of a Redis which lost its data must not come back */

    if (RAND_bytes(bytes, sizeof(bytes)) != 1) {
        ERR_clear_error();
        return NGX_DECLINED;
    }

    ngx_hex_dump(version, bytes, sizeof(bytes));

    argv[0] = levers->key;
    argv[1].data = levers->version;
    argv[1].len = levers->nversion;
    argv[2].data = version;
    argv[2].len = NGX_HTTP_HYBRID_LEVER_VERSION;
    ngx_str_set(&argv[3], ngx_value(NGX_HYBRID_LEVER_MAX));

    n = NGX_HTTP_HYBRID_LEVER_ARGS;
    lever = all->elts;

    for (i = 0; i < all->nelts; i++) {

        if (!lever[i].unsaved) {
            continue;
        }

        if (n == NGX_HTTP_HYBRID_LEVER_ARGS + 2 * NGX_HTTP_HYBRID_LEVER_CHUNK)
        {
            break;
        }

        argv[n].data = lever[i].field;
        argv[n].len = lever[i].nfield;
        n++;

        argv[n].data = ngx_pnalloc(pool, NGX_HYBRID_LEVER_VALUE);
        if (argv[n].data == NULL) {
            return NGX_DECLINED;
        }

        argv[n].len = ngx_hybrid_lever_value(&lever[i], argv[n].data);
        n++;
    }

    if (ngx_hybrid_redis_eval(levers->conf->redis,
                              &ngx_http_hybrid_lever_script, n, argv,
                              ngx_http_hybrid_lever_reply, levers)
        != NGX_OK)
    {
        return NGX_DECLINED;
    }

    levers->pending = 1;

    return NGX_OK;
}


static void
ngx_http_hybrid_lever_reply(void *data, redisReply *reply)
{
    ngx_http_hybrid_levers_t  *levers = data;

    ngx_int_t     rc;
    redisReply  **e;

    levers->pending = 0;

    if (ngx_exiting || ngx_terminate || ngx_quit) {

        /* the turn ends by itself, and is another worker's */

        return;
    }

    if (reply == NULL || reply->type == REDIS_REPLY_ERROR) {
        ngx_http_hybrid_lever_failed(levers, "redis is away", reply);
        return;
    }

    e = reply->element;

    if (reply->type != REDIS_REPLY_ARRAY || reply->elements == 0
        || e[0]->type != REDIS_REPLY_STRING)
    {
        ngx_http_hybrid_lever_failed(levers, "unexpected answer", reply);
        return;
    }

    if (ngx_strcmp(e[0]->str, "full") == 0) {
        ngx_http_hybrid_lever_failed(levers, "there are too many", reply);
        return;
    }

    if (ngx_strcmp(e[0]->str, "same") != 0) {

        if (reply->elements != 3
            || e[1]->type != REDIS_REPLY_STRING
            || e[1]->len > NGX_HTTP_HYBRID_LEVER_VERSION
            || e[2]->type != REDIS_REPLY_ARRAY)
        {
            ngx_http_hybrid_lever_failed(levers, "unexpected answer", reply);
            return;
        }

        rc = ngx_http_hybrid_lever_take(levers, e[2]);

        if (rc == NGX_ERROR) {
            ngx_http_hybrid_lever_failed(levers, "hybrid_zone has no room",
                                         NULL);
            return;
        }

        levers->nversion = e[1]->len;
        ngx_memcpy(levers->version, e[1]->str, e[1]->len);
    }

    if (levers->doc->failures) {
        ngx_log_error(NGX_LOG_NOTICE, levers->timer.log, 0,
                      "levers are read again");
    }

    ngx_hybrid_doc_unchanged(levers->conf->shm, levers->doc,
                             NGX_HTTP_HYBRID_LEVER_INTERVAL);
}


static ngx_int_t
ngx_http_hybrid_lever_take(ngx_http_hybrid_levers_t *levers, redisReply *list)
{
    size_t              i;
    ngx_int_t           rc;
    ngx_str_t           field, value;
    redisReply        **e;
    ngx_uint_t          odd;
    ngx_hybrid_shm_t   *shm;
    ngx_hybrid_lever_t  lever;

    shm = levers->conf->shm;
    e = list->element;
    odd = 0;

    ngx_hybrid_lever_begin(shm);

    for (i = 0; i + 1 < list->elements; i += 2) {

        if (e[i]->type != REDIS_REPLY_STRING
            || e[i + 1]->type != REDIS_REPLY_STRING)
        {
            return NGX_ERROR;
        }

        field.data = (u_char *) e[i]->str;
        field.len = e[i]->len;

        value.data = (u_char *) e[i + 1]->str;
        value.len = e[i + 1]->len;

        if (field.len && field.data[0] == '.') {
            continue;
        }

        if (ngx_hybrid_lever_parse(&lever, &field, &value) != NGX_OK) {
            odd = 1;
            continue;
        }

        rc = ngx_hybrid_lever_merge(shm, &lever);

        if (rc == NGX_ERROR) {
            return NGX_ERROR;
        }

        if (rc == NGX_OK) {
            ngx_http_hybrid_lever_adopted(levers, &lever);
        }
    }

    ngx_hybrid_lever_end(shm);
    ngx_hybrid_lever_apply(shm);

    if (odd && !levers->odd) {
        ngx_log_error(NGX_LOG_WARN, levers->timer.log, 0,
                      "\"%V\" in redis has entries that are no levers",
                      &levers->key);
    }

    levers->odd = odd ? 1 : 0;

    return NGX_OK;
}


static void
ngx_http_hybrid_lever_adopted(ngx_http_hybrid_levers_t *levers,
    ngx_hybrid_lever_t *lever)
{
    ngx_log_error(NGX_LOG_NOTICE, levers->timer.log, 0,
                  "lever of \"%*s\" is now \"%V\": set by client \"%*s\" of "
                  "another gateway%s%*s",
                  (size_t) lever->nfield, lever->field,
                  ngx_hybrid_lever_word(lever->state),
                  (size_t) lever->nwho, lever->who, lever->nwhy ? ": " : "",
                  (size_t) lever->nwhy, lever->why);
}


static void
ngx_http_hybrid_lever_failed(ngx_http_hybrid_levers_t *levers,
    const char *why, redisReply *reply)
{
    u_char             buf[NGX_HYBRID_DOC_ERROR], *p;
    ngx_str_t          text;
    ngx_uint_t         first;
    ngx_msec_t         next;
    ngx_hybrid_doc_t  *doc;

    doc = levers->doc;
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

    next = NGX_HTTP_HYBRID_LEVER_INTERVAL;

    if (ngx_hybrid_redis_available(levers->conf->redis)) {
        next = ngx_min(next * (1 + doc->failures),
                       NGX_HTTP_HYBRID_LEVER_BACKOFF);
    }

    ngx_hybrid_doc_failed(levers->conf->shm, doc, &text, next);

    if (!first) {
        return;
    }

    if (doc->loaded == 0) {
        ngx_log_error(NGX_LOG_WARN, levers->timer.log, 0,
                      "levers can't be read, and this gateway has just "
                      "started: backends are asked that may be drained: %V",
                      &text);

    } else if (reply || ngx_strcmp(why, "redis is away") != 0) {

        /* that Redis is away was said by its connection */

        ngx_log_error(NGX_LOG_WARN, levers->timer.log, 0,
                      "levers can't be read, those that are known stay in "
                      "force: %V", &text);
    }
}
