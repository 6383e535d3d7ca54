
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * All identities in Redis, some at a time, into the slots of a new index.
 */


#include "ngx_http_hybrid_store.h"
#include "ngx_http_hybrid_conf.h"


/* fields of a step, so that the limits find room on the connection */
#define NGX_HTTP_HYBRID_STORE_BATCH  "500"


static void ngx_http_hybrid_store_count(void *data, redisReply *reply);
static void ngx_http_hybrid_store_step(ngx_http_hybrid_store_t *store,
    ngx_str_t *cursor);
static void ngx_http_hybrid_store_some(void *data, redisReply *reply);
static ngx_int_t ngx_http_hybrid_store_add(ngx_http_hybrid_store_t *store,
    redisReply *field, redisReply *value);
static ngx_uint_t ngx_http_hybrid_store_free(ngx_http_hybrid_store_t *store,
    ngx_str_t *identity, ngx_str_t *name);
static void ngx_http_hybrid_store_publish(ngx_http_hybrid_store_t *store);


void
ngx_http_hybrid_store_scan(ngx_http_hybrid_store_t *store,
    ngx_http_hybrid_store_index_t *index)
{
    ngx_str_t  argv[2];

    store->scan = ngx_alloc(sizeof(ngx_http_hybrid_store_index_t),
                            store->timer.log);
    if (store->scan == NULL) {
        ngx_http_hybrid_store_failed(store, "no memory", NULL);
        return;
    }

    *store->scan = *index;

    ngx_str_set(&argv[0], "HLEN");
    argv[1] = store->key;

    (void) ngx_http_hybrid_store_ask(store, 2, argv,
                                     ngx_http_hybrid_store_count);
}


static void
ngx_http_hybrid_store_count(void *data, redisReply *reply)
{
    ngx_http_hybrid_store_t  *store = data;

    size_t                          size;
    ngx_str_t                       cursor;
    ngx_http_hybrid_store_index_t  *scan;

    if (ngx_http_hybrid_store_over(store, reply)) {
        return;
    }

    if (reply->type != REDIS_REPLY_INTEGER || reply->integer < 0) {
        ngx_http_hybrid_store_failed(store, "unexpected answer", reply);
        return;
    }

    if (reply->integer > NGX_HTTP_HYBRID_STORE_MAX) {
        ngx_http_hybrid_store_failed(store, "too many identities", reply);
        return;
    }

    /* three quarters full at most, also when some are added meanwhile */

    store->scan->nslots = reply->integer * 4 / 3 + 64;

    size = sizeof(ngx_http_hybrid_store_index_t)
           + store->scan->nslots * sizeof(uint64_t);

    scan = ngx_calloc(size, store->timer.log);
    if (scan == NULL) {
        ngx_http_hybrid_store_failed(store, "no memory", NULL);
        return;
    }

    *scan = *store->scan;
    ngx_free(store->scan);
    store->scan = scan;

    ngx_str_set(&cursor, "0");
    ngx_http_hybrid_store_step(store, &cursor);
}


static void
ngx_http_hybrid_store_step(ngx_http_hybrid_store_t *store, ngx_str_t *cursor)
{
    ngx_str_t  argv[5];

    ngx_str_set(&argv[0], "HSCAN");
    argv[1] = store->key;
    argv[2] = *cursor;
    ngx_str_set(&argv[3], "COUNT");
    ngx_str_set(&argv[4], NGX_HTTP_HYBRID_STORE_BATCH);

    (void) ngx_http_hybrid_store_ask(store, 5, argv,
                                     ngx_http_hybrid_store_some);
}


static void
ngx_http_hybrid_store_some(void *data, redisReply *reply)
{
    ngx_http_hybrid_store_t  *store = data;

    size_t        i;
    ngx_str_t     cursor;
    redisReply  **e, *list;

    if (ngx_http_hybrid_store_over(store, reply)) {
        return;
    }

    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2
        || reply->element[0]->type != REDIS_REPLY_STRING
        || reply->element[0]->len == 0
        || reply->element[1]->type != REDIS_REPLY_ARRAY)
    {
        ngx_http_hybrid_store_failed(store, "unexpected answer", reply);
        return;
    }

    list = reply->element[1];
    e = list->element;

    for (i = 0; i + 1 < list->elements; i += 2) {

        if (ngx_http_hybrid_store_add(store, e[i], e[i + 1]) != NGX_OK) {

            /* they have become many while they were counted */

            ngx_http_hybrid_store_failed(store, "identities change too fast",
                                         reply);
            return;
        }
    }

    cursor.data = (u_char *) reply->element[0]->str;
    cursor.len = reply->element[0]->len;

    if (cursor.len == 1 && cursor.data[0] == '0') {
        ngx_http_hybrid_store_publish(store);
        return;
    }

    ngx_http_hybrid_store_step(store, &cursor);
}


/* what can't be an identity is left out, and so is what the files have */

static ngx_int_t
ngx_http_hybrid_store_add(ngx_http_hybrid_store_t *store, redisReply *field,
    redisReply *value)
{
    u_char                         *slot;
    uint64_t                        hash;
    ngx_str_t                       identity, name;
    ngx_http_hybrid_store_index_t  *scan;

    if (field->type != REDIS_REPLY_STRING
        || value->type != REDIS_REPLY_STRING)
    {
        return NGX_OK;
    }

    identity.data = (u_char *) field->str;
    identity.len = field->len;
    name.data = (u_char *) value->str;
    name.len = value->len;

    if (identity.len > NGX_HTTP_HYBRID_STORE_IDENTITY
        || !ngx_http_hybrid_conf_name_ok(&name)
        || ngx_http_hybrid_store_clash(store, &name)
        || !ngx_http_hybrid_store_free(store, &identity, &name))
    {
        return NGX_OK;
    }

    scan = store->scan;
    hash = ngx_http_hybrid_store_hash(store, &identity);

    if (hash == 0) {
        return NGX_ERROR;
    }

    /* a scan may meet a field twice */

    if (ngx_http_hybrid_store_slot((u_char *) (scan + 1), scan->nslots, hash,
                                   &slot))
    {
        return NGX_OK;
    }

    if (slot == NULL || scan->n * 8 >= scan->nslots * 7) {
        return NGX_ERROR;
    }

    ngx_memcpy(slot, &hash, sizeof(uint64_t));
    scan->n++;

    return NGX_OK;
}


/* an identity, and none that a client of the files has */

static ngx_uint_t
ngx_http_hybrid_store_free(ngx_http_hybrid_store_t *store,
    ngx_str_t *identity, ngx_str_t *name)
{
    ngx_str_t                 id;
    ngx_http_hybrid_token_t  *token;

    if (identity->len <= 6 || ngx_memcmp(identity->data, "token:", 6) != 0) {

        /* a "jwt" or "cert" line of the files is looked at first */

        return (identity->len > 4
                && ngx_memcmp(identity->data, "jwt:", 4) == 0)
               || (identity->len > 5
                   && ngx_memcmp(identity->data, "cert:", 5) == 0);
    }

    id.data = identity->data + 6;
    id.len = identity->len - 6;

    if (!ngx_http_hybrid_conf_name_ok(&id)) {
        return 0;
    }

    token = (ngx_http_hybrid_token_t *)
                ngx_str_rbtree_lookup(&store->conf->identities.tokens, &id,
                                      ngx_murmur_hash2(id.data, id.len));

    if (token == NULL) {
        return 1;
    }

    if (ngx_atomic_cmp_set(&token->client->shared->clash_token, 0, 1)) {
        ngx_log_error(NGX_LOG_WARN, store->timer.log, 0,
                      "token id \"%V\" of client \"%V\" in redis is not "
                      "used: hybrid_client \"%V\" in %s:%ui has it", &id,
                      name, &token->client->name, token->client->place.file,
                      token->client->place.line);
    }

    return 0;
}


static void
ngx_http_hybrid_store_publish(ngx_http_hybrid_store_t *store)
{
    ngx_str_t   text;
    ngx_uint_t  failures;

    failures = store->doc->failures;

    text.data = (u_char *) store->scan;
    text.len = sizeof(ngx_http_hybrid_store_index_t)
               + store->scan->nslots * sizeof(uint64_t);

    if (ngx_hybrid_doc_publish(store->conf->shm, store->doc, &text,
                               NGX_HTTP_HYBRID_STORE_INTERVAL)
        != NGX_OK)
    {
        ngx_http_hybrid_store_failed(store, "hybrid_zone is full", NULL);
        return;
    }

    ngx_http_hybrid_store_end(store);

    if (failures) {
        ngx_log_error(NGX_LOG_NOTICE, store->timer.log, 0,
                      "clients are read from redis again");
    }
}
