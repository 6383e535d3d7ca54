
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Clients from Redis that a worker keeps, by identity.  States of an entry:
 *
 *     new --asked--> pending --answered--> known, or nobody
 *                       ^                     |
 *                       +---- of an older ----+
 *                            generation
 *
 * Requests that need the answer wait in the entry, which is not freed
 * meanwhile; whoever leaves is taken out by the cleanup of its context.  A
 * client that is known serves while it is fetched again, for a second after
 * the change and as long as Redis is away.
 */


#include "ngx_http_hybrid_store.h"
#include "ngx_http_hybrid_conf.h"


/* msec */
#define NGX_HTTP_HYBRID_STORE_SERVES  1000   /* what was changed */
#define NGX_HTTP_HYBRID_STORE_NOBODY  1000
#define NGX_HTTP_HYBRID_STORE_IDLE    5000  /* it may go for others */
#define NGX_HTTP_HYBRID_STORE_LONG_AGO  0x3fffffff
#define NGX_HTTP_HYBRID_STORE_REPEAT  60000  /* of an error in the log */


static ngx_http_hybrid_store_entry_t *ngx_http_hybrid_store_entry(
    ngx_http_hybrid_store_t *store, ngx_str_t *identity);
static void ngx_http_hybrid_store_evict(ngx_http_hybrid_store_t *store);
static void ngx_http_hybrid_store_remove(
    ngx_http_hybrid_store_entry_t *entry);
static void ngx_http_hybrid_store_drop(ngx_http_hybrid_store_entry_t *entry,
    ngx_int_t rc);
static ngx_uint_t ngx_http_hybrid_store_current(
    ngx_http_hybrid_store_entry_t *entry);
static ngx_int_t ngx_http_hybrid_store_fetch(
    ngx_http_hybrid_store_entry_t *entry);
static void ngx_http_hybrid_store_named(void *data, redisReply *reply);
static ngx_int_t ngx_http_hybrid_store_get(
    ngx_http_hybrid_store_entry_t *entry, ngx_str_t *name);
static void ngx_http_hybrid_store_fetched(void *data, redisReply *reply);
static void ngx_http_hybrid_store_take(ngx_http_hybrid_store_entry_t *entry,
    redisReply *reply);
static void ngx_http_hybrid_store_invalid(
    ngx_http_hybrid_store_entry_t *entry, ngx_str_t *why);
static void ngx_http_hybrid_store_answer(
    ngx_http_hybrid_store_entry_t *entry);


ngx_int_t
ngx_http_hybrid_store_init_zone(ngx_http_hybrid_main_conf_t *hmcf,
    ngx_log_t *log)
{
    ngx_str_t  name = ngx_string("clients");

    if (!hmcf->clients_redis) {
        return NGX_OK;
    }

    hmcf->store_doc = ngx_hybrid_doc(hmcf->shm, &name);

    if (hmcf->store_doc == NULL) {
        ngx_log_error(NGX_LOG_EMERG, log, 0,
                      "hybrid_zone of %uzk is too small for clients in "
                      "redis: make it larger", hmcf->zone_size / 1024);
        return NGX_ERROR;
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_hybrid_store_init_worker(ngx_http_hybrid_main_conf_t *hmcf,
    ngx_cycle_t *cycle)
{
    ngx_str_t                  *prefix, *name;
    ngx_uint_t                  i;
    ngx_rbtree_node_t          *node;
    ngx_http_hybrid_store_t    *store;
    ngx_http_hybrid_client_t  **clients;

    if (!hmcf->clients_redis) {
        return NGX_OK;
    }

    store = ngx_pcalloc(cycle->pool, sizeof(ngx_http_hybrid_store_t));
    if (store == NULL) {
        return NGX_ERROR;
    }

    store->conf = hmcf;
    store->doc = hmcf->store_doc;

    ngx_queue_init(&store->used);
    ngx_rbtree_init(&store->entries, &store->sentinel,
                    ngx_str_rbtree_insert_value);

    prefix = &hmcf->redis_conf->prefix;

    store->key.len = prefix->len + sizeof("identities") - 1;
    store->key.data = ngx_pnalloc(cycle->pool, store->key.len);
    if (store->key.data == NULL) {
        return NGX_ERROR;
    }

    ngx_sprintf(store->key.data, "%Videntities", prefix);

    /* other files have other clashes: the identities are read again then */

    clients = hmcf->clients.elts;

    for (i = 0; i < hmcf->clients.nelts; i++) {
        name = &clients[i]->name;
        store->files = store->files * 31
                       + ngx_murmur_hash2(name->data, name->len);
    }

    if (hmcf->identities.tokens.root != hmcf->identities.tokens.sentinel) {

        for (node = ngx_rbtree_min(hmcf->identities.tokens.root,
                                   hmcf->identities.tokens.sentinel);
             node;
             node = ngx_rbtree_next(&hmcf->identities.tokens, node))
        {
            store->files = store->files * 31 + node->key;
        }
    }

    hmcf->store = store;

    ngx_http_hybrid_store_poll(store, cycle);

    return NGX_OK;
}


/* Redis has been told that we leave: nothing is pending */

void
ngx_http_hybrid_store_exit_worker(ngx_http_hybrid_main_conf_t *hmcf)
{
    ngx_queue_t                    *q;
    ngx_http_hybrid_store_t        *store;
    ngx_http_hybrid_store_entry_t  *entry;

    store = hmcf->store;

    if (store == NULL) {
        return;
    }

    ngx_http_hybrid_store_end(store);

    while (!ngx_queue_empty(&store->used)) {
        q = ngx_queue_head(&store->used);
        entry = ngx_queue_data(q, ngx_http_hybrid_store_entry_t, queue);

        ngx_http_hybrid_store_drop(entry, NGX_BUSY);
        ngx_queue_remove(q);
        ngx_free(entry);
    }

    if (store->pool) {
        ngx_destroy_pool(store->pool);
    }

    hmcf->store = NULL;
}


ngx_int_t
ngx_http_hybrid_store_token(ngx_http_hybrid_ctx_t *ctx, ngx_str_t *id,
    ngx_http_hybrid_client_t **client)
{
    u_char     buf[sizeof("token:") + NGX_HTTP_HYBRID_NAME_MAX];
    ngx_str_t  identity;

    identity.data = buf;
    identity.len = ngx_snprintf(buf, sizeof(buf), "token:%V", id) - buf;

    return ngx_http_hybrid_store_find(ctx, &identity, client);
}


ngx_int_t
ngx_http_hybrid_store_find(ngx_http_hybrid_ctx_t *ctx, ngx_str_t *identity,
    ngx_http_hybrid_client_t **client)
{
    ngx_int_t                       rc;
    ngx_http_hybrid_store_t        *store;
    ngx_http_hybrid_store_entry_t  *entry;

    store = ctx->conf->store;

    if (store == NULL) {
        return NGX_BUSY;
    }

    rc = ngx_http_hybrid_store_has(store, identity);

    if (rc != NGX_OK) {
        return rc == NGX_DECLINED ? NGX_DECLINED : NGX_BUSY;
    }

    entry = ngx_http_hybrid_store_entry(store, identity);
    if (entry == NULL) {
        return NGX_BUSY;
    }

    *client = entry->client;

    if (ngx_http_hybrid_store_current(entry)) {
        return entry->rc;
    }

    if (ctx->asked
        && (ngx_msec_int_t) (entry->answered - ctx->start) >= 0)
    {
        /* has waited for it once: what there is */

        return entry->client ? NGX_OK : entry->rc;
    }

    if (!entry->pending && ngx_http_hybrid_store_fetch(entry) != NGX_OK) {
        return entry->client ? NGX_OK : NGX_BUSY;
    }

    if (entry->client
        && ngx_current_msec - store->changed < NGX_HTTP_HYBRID_STORE_SERVES)
    {
        return NGX_OK;
    }

    ngx_queue_insert_tail(&entry->waiters, &ctx->waiter);
    ctx->asking = 1;

    return NGX_AGAIN;
}


void
ngx_http_hybrid_store_detach(ngx_http_hybrid_ctx_t *ctx)
{
    if (ctx->asking) {
        ngx_queue_remove(&ctx->waiter);
        ctx->asking = 0;
    }
}


static ngx_http_hybrid_store_entry_t *
ngx_http_hybrid_store_entry(ngx_http_hybrid_store_t *store,
    ngx_str_t *identity)
{
    uint32_t                        hash;
    ngx_http_hybrid_store_entry_t  *entry;

    hash = ngx_murmur_hash2(identity->data, identity->len);

    entry = (ngx_http_hybrid_store_entry_t *)
                ngx_str_rbtree_lookup(&store->entries, identity, hash);

    if (entry) {
        ngx_queue_remove(&entry->queue);
        ngx_queue_insert_head(&store->used, &entry->queue);
        entry->asked_for = ngx_current_msec;
        return entry;
    }

    if (store->nentries >= NGX_HTTP_HYBRID_STORE_CLIENTS) {
        ngx_http_hybrid_store_evict(store);
    }

    entry = ngx_calloc(sizeof(ngx_http_hybrid_store_entry_t) + identity->len
                       + NGX_HTTP_HYBRID_NAME_MAX, store->timer.log);
    if (entry == NULL) {
        return NULL;
    }

    entry->store = store;
    entry->rc = NGX_BUSY;
    entry->answered = ngx_current_msec - NGX_HTTP_HYBRID_STORE_LONG_AGO;
    entry->asked_for = ngx_current_msec;

    ngx_queue_init(&entry->waiters);

    entry->name.data = (u_char *) (entry + 1);
    entry->sn.str.data = entry->name.data + NGX_HTTP_HYBRID_NAME_MAX;
    entry->sn.str.len = identity->len;
    ngx_memcpy(entry->sn.str.data, identity->data, identity->len);
    entry->sn.node.key = hash;

    ngx_rbtree_insert(&store->entries, &entry->sn.node);
    ngx_queue_insert_head(&store->used, &entry->queue);
    store->nentries++;

    return entry;
}


/* requests that still use the client keep it, not the entry */

static void
ngx_http_hybrid_store_evict(ngx_http_hybrid_store_t *store)
{
    ngx_queue_t                    *q;
    ngx_http_hybrid_store_entry_t  *entry;

    for (q = ngx_queue_last(&store->used);
         q != ngx_queue_sentinel(&store->used);
         q = ngx_queue_prev(q))
    {
        entry = ngx_queue_data(q, ngx_http_hybrid_store_entry_t, queue);

        if (entry->pending) {
            continue;
        }

        ngx_http_hybrid_store_remove(entry);
        return;
    }
}


/*
 * What a worker keeps has its place in the zone: when that is full, a client
 * who was not seen for a while is worth less than one who is there.
 */

void
ngx_http_hybrid_store_trim(ngx_http_hybrid_store_t *store)
{
    ngx_uint_t                      n;
    ngx_msec_t                      wanted;
    ngx_queue_t                    *q, *prev;
    ngx_http_hybrid_store_entry_t  *entry;

    wanted = store->conf->shm->sh->clients.wanted;

    if (wanted == store->wanted) {
        return;
    }

    store->wanted = wanted;

    q = ngx_queue_last(&store->used);

    for (n = store->nentries / 4 + 1;
         n && q != ngx_queue_sentinel(&store->used);
         n--)
    {
        prev = ngx_queue_prev(q);
        entry = ngx_queue_data(q, ngx_http_hybrid_store_entry_t, queue);

        if (ngx_current_msec - entry->asked_for < NGX_HTTP_HYBRID_STORE_IDLE) {
            return;
        }

        if (!entry->pending) {
            ngx_http_hybrid_store_remove(entry);
        }

        q = prev;
    }
}


static void
ngx_http_hybrid_store_remove(ngx_http_hybrid_store_entry_t *entry)
{
    ngx_http_hybrid_store_drop(entry, NGX_BUSY);

    ngx_queue_remove(&entry->queue);
    ngx_rbtree_delete(&entry->store->entries, &entry->sn.node);
    entry->store->nentries--;

    ngx_free(entry);
}


static void
ngx_http_hybrid_store_drop(ngx_http_hybrid_store_entry_t *entry, ngx_int_t rc)
{
    if (entry->client) {
        ngx_http_hybrid_client_release(entry->client);
        entry->client = NULL;
    }

    entry->rc = rc;
}


/* "nobody" does not last: a Redis that has lost its data says so as well */

static ngx_uint_t
ngx_http_hybrid_store_current(ngx_http_hybrid_store_entry_t *entry)
{
    return entry->generation == entry->store->generation
           && (entry->rc == NGX_OK
               || ngx_current_msec - entry->answered
                  < NGX_HTTP_HYBRID_STORE_NOBODY);
}


static ngx_int_t
ngx_http_hybrid_store_fetch(ngx_http_hybrid_store_entry_t *entry)
{
    ngx_str_t                 argv[3];
    ngx_http_hybrid_store_t  *store;

    store = entry->store;

    ngx_str_set(&argv[0], "HGET");
    argv[1] = store->key;
    argv[2] = entry->sn.str;

    entry->asked = store->generation;

    if (ngx_hybrid_redis_command(store->conf->redis, 3, argv,
                                 ngx_http_hybrid_store_named, entry)
        != NGX_OK)
    {
        return NGX_DECLINED;
    }

    entry->pending = 1;

    return NGX_OK;
}


static void
ngx_http_hybrid_store_named(void *data, redisReply *reply)
{
    ngx_http_hybrid_store_entry_t  *entry = data;

    ngx_str_t  name;

    if (reply && reply->type == REDIS_REPLY_STRING) {
        name.data = (u_char *) reply->str;
        name.len = reply->len;

        if (ngx_http_hybrid_conf_name_ok(&name)
            && !ngx_http_hybrid_store_clash(entry->store, &name))
        {
            if (ngx_http_hybrid_store_get(entry, &name) != NGX_OK) {
                ngx_http_hybrid_store_answer(entry);
            }

            return;
        }
    }

    /* any other answer is as good as none */

    if (reply && reply->type == REDIS_REPLY_NIL
        && entry->store->doc->failures == 0)
    {
        ngx_http_hybrid_store_drop(entry, NGX_DECLINED);
        entry->generation = entry->asked;
    }

    ngx_http_hybrid_store_answer(entry);
}


static ngx_int_t
ngx_http_hybrid_store_get(ngx_http_hybrid_store_entry_t *entry,
    ngx_str_t *name)
{
    u_char                   *p;
    ngx_int_t                 rc;
    ngx_str_t                 argv[2], *prefix;
    ngx_http_hybrid_store_t  *store;

    store = entry->store;
    prefix = &store->conf->redis_conf->prefix;

    p = ngx_alloc(prefix->len + name->len + sizeof("client:{}"),
                  store->timer.log);
    if (p == NULL) {
        return NGX_ERROR;
    }

    entry->name.len = name->len;
    ngx_memcpy(entry->name.data, name->data, name->len);

    ngx_str_set(&argv[0], "HGETALL");
    argv[1].data = p;
    argv[1].len = ngx_sprintf(p, "%Vclient:{%V}", prefix, name) - p;

    rc = ngx_hybrid_redis_command(store->conf->redis, 2, argv,
                                  ngx_http_hybrid_store_fetched, entry);

    ngx_free(p);

    return rc;
}


static void
ngx_http_hybrid_store_fetched(void *data, redisReply *reply)
{
    ngx_http_hybrid_store_entry_t  *entry = data;

    if (reply == NULL) {

        /* away: who was known stays known */

        ngx_http_hybrid_store_answer(entry);
        return;
    }

    if (reply->type == REDIS_REPLY_ARRAY && reply->elements == 0) {

        if (entry->store->doc->failures == 0) {
            ngx_http_hybrid_store_drop(entry, NGX_DECLINED);
            entry->generation = entry->asked;
        }

        ngx_http_hybrid_store_answer(entry);
        return;
    }

    ngx_http_hybrid_store_take(entry, reply);
    ngx_http_hybrid_store_answer(entry);
}


/* a client that is not valid any more is refused, by all workers alike */

static void
ngx_http_hybrid_store_take(ngx_http_hybrid_store_entry_t *entry,
    redisReply *reply)
{
    u_char                     buf[NGX_HTTP_HYBRID_STORE_ERROR];
    ngx_str_t                  error;
    ngx_http_hybrid_client_t  *client;

    error.data = buf;
    error.len = 0;

    client = NULL;

    if (reply->type == REDIS_REPLY_ARRAY) {
        client = ngx_http_hybrid_store_client(entry->store, &entry->name,
                                              reply, &error);

    } else {
        ngx_str_set(&error, "it is not a hash");
    }

    ngx_http_hybrid_store_drop(entry, NGX_BUSY);
    entry->generation = entry->asked;

    if (client == NULL) {
        ngx_http_hybrid_store_invalid(entry, &error);
        return;
    }

    client->generation = entry->asked;

    entry->client = client;
    entry->rc = NGX_OK;
    entry->said = 0;
}


static void
ngx_http_hybrid_store_invalid(ngx_http_hybrid_store_entry_t *entry,
    ngx_str_t *why)
{
    if (entry->said
        && ngx_current_msec - entry->logged < NGX_HTTP_HYBRID_STORE_REPEAT)
    {
        return;
    }

    entry->said = 1;
    entry->logged = ngx_current_msec;

    ngx_log_error(NGX_LOG_WARN, entry->store->timer.log, 0,
                  "client \"%V\" in redis is refused: %V", &entry->name, why);
}


/* from hiredis's callback: requests are only told, they go on later */

static void
ngx_http_hybrid_store_answer(ngx_http_hybrid_store_entry_t *entry)
{
    ngx_queue_t            *q;
    ngx_http_hybrid_ctx_t  *ctx;

    entry->pending = 0;
    entry->answered = ngx_current_msec;

    while (!ngx_queue_empty(&entry->waiters)) {
        q = ngx_queue_head(&entry->waiters);
        ctx = ngx_queue_data(q, ngx_http_hybrid_ctx_t, waiter);

        ngx_http_hybrid_store_detach(ctx);

        ctx->asked = 1;
        ngx_http_hybrid_resume(ctx->request);
    }
}
