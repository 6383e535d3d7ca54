
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Which identities have a client in Redis.  One worker of a gateway looks
 * each second whether they have changed.  A turn goes so:
 *
 *     timer --> version --same--> unchanged
 *                  |----other--> count --> scan --> scan... --> published
 *                  +----none, but some were known----> failed
 *
 * A change while they are scanned leaves the version of before behind, so
 * that the next turn finds it.
 */


#include "ngx_http_hybrid_store.h"
#include "ngx_http_hybrid_conf.h"
#include <openssl/err.h>


/* msec */
#define NGX_HTTP_HYBRID_STORE_LOOK   250
#define NGX_HTTP_HYBRID_STORE_LATE   2000
#define NGX_HTTP_HYBRID_STORE_TORN   10000   /* a change takes less */
#define NGX_HTTP_HYBRID_STORE_REPEAT 60000

#define NGX_HTTP_HYBRID_STORE_MAGIC  0x6879627269630002ULL


static ngx_int_t ngx_http_hybrid_store_refresh(ngx_http_hybrid_store_t *store);
static void ngx_http_hybrid_store_handler(ngx_event_t *ev);
static void ngx_http_hybrid_store_turn(ngx_http_hybrid_store_t *store,
    ngx_msec_int_t late);
static void ngx_http_hybrid_store_version(void *data, redisReply *reply);
static ngx_int_t ngx_http_hybrid_store_state(
    ngx_http_hybrid_store_index_t *index, redisReply **e);
static ngx_int_t ngx_http_hybrid_store_word(u_char *word, redisReply *reply);


ngx_int_t
ngx_http_hybrid_store_has(ngx_http_hybrid_store_t *store, ngx_str_t *identity)
{
    u_char    *slot;
    uint64_t   hash;

    if (ngx_http_hybrid_store_refresh(store) != NGX_OK
        || store->slots == NULL)
    {
        return NGX_ERROR;
    }

    hash = ngx_http_hybrid_store_hash(store, identity);

    if (hash == 0) {
        return NGX_ERROR;
    }

    return ngx_http_hybrid_store_slot(store->slots, store->index.nslots, hash,
                                      &slot)
           ? NGX_OK : NGX_DECLINED;
}


ngx_uint_t
ngx_http_hybrid_store_fresh(ngx_http_hybrid_store_t *store,
    ngx_http_hybrid_client_t *client)
{
    return store
           && ngx_http_hybrid_store_refresh(store) == NGX_OK
           && client->generation == store->generation;
}


/* a copy of the document's: it is looked at without a lock */

static ngx_int_t
ngx_http_hybrid_store_refresh(ngx_http_hybrid_store_t *store)
{
    ngx_int_t                      rc;
    ngx_str_t                      text;
    ngx_pool_t                    *pool;
    ngx_atomic_uint_t              generation;
    ngx_http_hybrid_store_index_t  index;

    if (store->generation == store->doc->generation) {
        return NGX_OK;
    }

    pool = ngx_create_pool(512, store->timer.log);
    if (pool == NULL) {
        return NGX_ERROR;
    }

    rc = ngx_hybrid_doc_read(store->conf->shm, store->doc, pool, &text,
                             &generation);

    ngx_memzero(&index, sizeof(ngx_http_hybrid_store_index_t));

    if (rc == NGX_OK && text.len >= sizeof(ngx_http_hybrid_store_index_t)) {
        ngx_memcpy(&index, text.data, sizeof(ngx_http_hybrid_store_index_t));
    }

    if (index.magic != NGX_HTTP_HYBRID_STORE_MAGIC
        || index.nslots == 0
        || (text.len - sizeof(ngx_http_hybrid_store_index_t)) / 8
           != index.nslots)
    {
        /* another version's, or its writer has died: what we know stays */

        ngx_destroy_pool(pool);
        return rc == NGX_ERROR ? NGX_ERROR : NGX_OK;
    }

    if (store->pool) {
        ngx_destroy_pool(store->pool);
    }

    store->pool = pool;
    store->index = index;
    store->slots = text.data + sizeof(ngx_http_hybrid_store_index_t);
    store->generation = generation;
    store->changed = ngx_current_msec;

    return NGX_OK;
}


/* SHA-256: nobody can make up an id that is taken for one of these */

uint64_t
ngx_http_hybrid_store_hash(ngx_http_hybrid_store_t *store, ngx_str_t *identity)
{
    u_char                        digest[EVP_MAX_MD_SIZE];
    uint64_t                      hash;
    ngx_http_hybrid_main_conf_t  *hmcf;

    hmcf = store->conf;

    if (EVP_DigestInit_ex2(hmcf->digest, hmcf->sha256, NULL) != 1
        || EVP_DigestUpdate(hmcf->digest, identity->data, identity->len) != 1
        || EVP_DigestFinal_ex(hmcf->digest, digest, NULL) != 1)
    {
        ERR_clear_error();
        ngx_log_error(NGX_LOG_CRIT, store->timer.log, 0, "SHA-256 failed");
        return 0;
    }

    ngx_memcpy(&hash, digest, sizeof(uint64_t));

    return hash ? hash : 1;
}


/* 1: slot is the hash's; 0: it is free for it, NULL: none is */

ngx_uint_t
ngx_http_hybrid_store_slot(u_char *slots, uint64_t nslots, uint64_t hash,
    u_char **slot)
{
    uint64_t  i, n, have;

    i = hash % nslots;

    for (n = 0; n < nslots; n++) {
        *slot = slots + i * sizeof(uint64_t);

        ngx_memcpy(&have, *slot, sizeof(uint64_t));

        if (have == hash) {
            return 1;
        }

        if (have == 0) {
            return 0;
        }

        i = (i + 1 < nslots) ? i + 1 : 0;
    }

    *slot = NULL;

    return 0;
}


void
ngx_http_hybrid_store_poll(ngx_http_hybrid_store_t *store, ngx_cycle_t *cycle)
{
    store->timer.handler = ngx_http_hybrid_store_handler;
    store->timer.data = store;
    store->timer.log = cycle->log;
    store->timer.cancelable = 1;

    ngx_add_timer(&store->timer, 1);
}


static void
ngx_http_hybrid_store_handler(ngx_event_t *ev)
{
    ngx_http_hybrid_store_t  *store = ev->data;

    ngx_msec_int_t  left;

    if (ngx_exiting || ngx_terminate || ngx_quit) {
        return;
    }

    ngx_http_hybrid_store_trim(store);

    left = (ngx_msec_int_t) (store->doc->due - ngx_current_msec);

    if (left <= 0) {
        ngx_http_hybrid_store_turn(store, -left);
        left = NGX_HTTP_HYBRID_STORE_LOOK;
    }

    left = ngx_min(left, NGX_HTTP_HYBRID_STORE_INTERVAL);

    ngx_add_timer(ev, (ngx_msec_t) left + ngx_random() % 50);
}


static void
ngx_http_hybrid_store_turn(ngx_http_hybrid_store_t *store, ngx_msec_int_t late)
{
    ngx_str_t   argv[5];
    ngx_uint_t  available;

    if (store->pending) {
        return;
    }

    /* another worker may have a connection; if none has, it is to be seen */

    available = ngx_hybrid_redis_available_key(store->conf->redis,
                                               &store->key);

    if (!available && late < NGX_HTTP_HYBRID_STORE_LATE) {
        return;
    }

    if (!ngx_hybrid_doc_turn(store->doc,
                             2 * store->conf->redis_conf->timeout + 300))
    {
        return;
    }

    if (!available) {
        ngx_http_hybrid_store_failed(store, NULL, NULL);
        return;
    }

    if (ngx_http_hybrid_store_refresh(store) != NGX_OK) {
        ngx_http_hybrid_store_failed(store, "no memory", NULL);
        return;
    }

    ngx_str_set(&argv[0], "HMGET");
    argv[1] = store->key;
    ngx_str_set(&argv[2], ".epoch");
    ngx_str_set(&argv[3], ".seq");
    ngx_str_set(&argv[4], ".version");

    (void) ngx_http_hybrid_store_ask(store, 5, argv,
                                     ngx_http_hybrid_store_version);
}


ngx_int_t
ngx_http_hybrid_store_ask(ngx_http_hybrid_store_t *store, ngx_uint_t argc,
    ngx_str_t *argv, ngx_hybrid_redis_handler_pt handler)
{
    ngx_msec_t  end;

    if (ngx_hybrid_redis_command(store->conf->redis, argc, argv, handler,
                                 store)
        != NGX_OK)
    {
        ngx_http_hybrid_store_failed(store, NULL, NULL);
        return NGX_DECLINED;
    }

    store->pending = 1;

    /* a scan has many steps, the turn lasts as long as each is answered */

    end = ngx_current_msec + 2 * store->conf->redis_conf->timeout + 300;
    store->doc->busy = end ? end : 1;

    return NGX_OK;
}


/* the turn has ended, by this answer or by our own end */

ngx_uint_t
ngx_http_hybrid_store_over(ngx_http_hybrid_store_t *store, redisReply *reply)
{
    store->pending = 0;

    if (ngx_exiting || ngx_terminate || ngx_quit) {

        /* the turn passes to another worker when its time is over */

        ngx_http_hybrid_store_end(store);
        return 1;
    }

    if (reply == NULL || reply->type == REDIS_REPLY_ERROR) {
        ngx_http_hybrid_store_failed(store, NULL, reply);
        return 1;
    }

    return 0;
}


static void
ngx_http_hybrid_store_version(void *data, redisReply *reply)
{
    ngx_http_hybrid_store_t  *store = data;

    ngx_int_t                      rc;
    ngx_http_hybrid_store_index_t  index;

    if (ngx_http_hybrid_store_over(store, reply)) {
        return;
    }

    rc = NGX_ERROR;

    if (reply->type == REDIS_REPLY_ARRAY && reply->elements == 3) {
        rc = ngx_http_hybrid_store_state(&index, reply->element);
    }

    if (rc == NGX_ERROR) {
        ngx_http_hybrid_store_failed(store, "unexpected answer", reply);
        return;
    }

    if (rc == NGX_DECLINED && store->index.n) {

        /* Redis was restarted without its data, or somebody flushed it */

        ngx_http_hybrid_store_failed(store, "redis has lost its clients",
                                     reply);
        return;
    }

    index.files = store->files;

    /* "!": somebody is in the middle of a change, or has died there */

    if (store->slots && store->index.files == index.files
        && index.version[0] != '!'
        && ngx_strcmp(store->index.version, index.version) == 0
        && ngx_strcmp(store->index.epoch, index.epoch) == 0
        && store->index.seq == index.seq)
    {
        if (store->doc->failures) {
            ngx_log_error(NGX_LOG_NOTICE, store->timer.log, 0,
                          "clients are read from redis again");
        }

        ngx_hybrid_doc_unchanged(store->conf->shm, store->doc,
                                 NGX_HTTP_HYBRID_STORE_INTERVAL);
        return;
    }

    if (index.version[0] != '!') {
        store->torn = 0;

    } else if (store->torn == 0) {
        store->torn = ngx_max(ngx_current_msec, 1);

    } else if ((ngx_msec_int_t) (ngx_current_msec - store->torn)
               >= NGX_HTTP_HYBRID_STORE_TORN)
    {
        store->torn = ngx_current_msec + NGX_HTTP_HYBRID_STORE_REPEAT;

        ngx_log_error(NGX_LOG_WARN, store->timer.log, 0,
                      "a change of clients in redis has stopped halfway: run "
                      "hybrid-token again for the one in \".pending\"");
    }

    if (store->index.n
        && (ngx_strcmp(store->index.epoch, index.epoch) != 0
            || store->index.seq > index.seq))
    {
        ngx_log_error(NGX_LOG_WARN, store->timer.log, 0,
                      "redis has lost changes of its clients: they are taken "
                      "as they are now");
    }

    ngx_http_hybrid_store_scan(store, &index);
}


/* NGX_DECLINED: there are none, and there never were */

static ngx_int_t
ngx_http_hybrid_store_state(ngx_http_hybrid_store_index_t *index,
    redisReply **e)
{
    ngx_int_t  seq;

    ngx_memzero(index, sizeof(ngx_http_hybrid_store_index_t));
    index->magic = NGX_HTTP_HYBRID_STORE_MAGIC;

    if (e[0]->type == REDIS_REPLY_NIL && e[1]->type == REDIS_REPLY_NIL
        && e[2]->type == REDIS_REPLY_NIL)
    {
        return NGX_DECLINED;
    }

    if (e[1]->type != REDIS_REPLY_STRING
        || ngx_http_hybrid_store_word(index->epoch, e[0]) != NGX_OK
        || ngx_http_hybrid_store_word(index->version, e[2]) != NGX_OK)
    {
        return NGX_ERROR;
    }

    seq = ngx_atoi((u_char *) e[1]->str, e[1]->len);

    if (seq == NGX_ERROR) {
        return NGX_ERROR;
    }

    index->seq = seq;

    return NGX_OK;
}


static ngx_int_t
ngx_http_hybrid_store_word(u_char *word, redisReply *reply)
{
    if (reply->type != REDIS_REPLY_STRING || reply->len == 0
        || reply->len >= NGX_HTTP_HYBRID_STORE_WORD
        || ngx_strlen(reply->str) != (size_t) reply->len)
    {
        return NGX_ERROR;
    }

    ngx_memcpy(word, reply->str, reply->len);

    return NGX_OK;
}


/* what is known stays; no why: Redis is away; status pages show the text */

void
ngx_http_hybrid_store_failed(ngx_http_hybrid_store_t *store, const char *why,
    redisReply *reply)
{
    size_t       len;
    u_char       buf[NGX_HYBRID_DOC_ERROR], before[NGX_HYBRID_DOC_ERROR], *p;
    ngx_str_t    text;
    const char  *what;

    what = why ? why : "redis is away";

    if (reply && reply->type == REDIS_REPLY_ERROR) {
        what = reply->str;
        why = what;
    }

    p = ngx_slprintf(buf, buf + sizeof(buf), "%s", what);

    text.data = buf;
    text.len = p - buf;

    while (p-- > buf) {
        if (*p < ' ' || *p > '~' || *p == '"' || *p == '\\') {
            *p = '?';
        }
    }

    /* that Redis is away was said by its connection */

    len = ngx_hybrid_doc_error(store->conf->shm, store->doc, before);

    if (why && (len != text.len || ngx_memcmp(before, buf, len) != 0)) {
        ngx_log_error(NGX_LOG_WARN, store->timer.log, 0,
                      "clients can't be read from redis, those that are "
                      "known stay: %V", &text);
    }

    ngx_http_hybrid_store_end(store);

    ngx_hybrid_doc_failed(store->conf->shm, store->doc, &text,
                          NGX_HTTP_HYBRID_STORE_INTERVAL);
}


void
ngx_http_hybrid_store_end(ngx_http_hybrid_store_t *store)
{
    if (store->scan) {
        ngx_free(store->scan);
        store->scan = NULL;
    }
}
