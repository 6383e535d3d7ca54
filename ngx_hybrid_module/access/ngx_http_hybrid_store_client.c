
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * A client from Redis is made by the setters of the block, so that both have
 * one grammar: each line of a field becomes a statement.
 */


#include "ngx_http_hybrid_store_rule.h"
#include "ngx_http_hybrid_conf.h"


#define NGX_HTTP_HYBRID_STORE_SIZE  65536   /* of all fields and values */


typedef struct {
    ngx_hybrid_shm_t          *shm;
    ngx_hybrid_shm_client_t   *client;
} ngx_http_hybrid_store_shared_t;


typedef struct {
    ngx_conf_t                 conf;
    ngx_conf_file_t            file;
    ngx_buf_t                  buf;
    ngx_log_t                  log;
    ngx_str_t                 *error;
    ngx_http_hybrid_client_t  *client;
    ngx_uint_t                 statements;
} ngx_http_hybrid_store_parse_t;


static ngx_http_hybrid_client_t *ngx_http_hybrid_store_parse(
    ngx_http_hybrid_store_t *store, ngx_str_t *name, redisReply *reply,
    ngx_str_t *error, ngx_pool_t *pool);
static ngx_int_t ngx_http_hybrid_store_limits(ngx_http_hybrid_store_t *store,
    ngx_http_hybrid_client_t *client, ngx_pool_t *pool, ngx_str_t *error);
static void ngx_http_hybrid_store_give(void *data);
static ngx_http_hybrid_store_parse_t *ngx_http_hybrid_store_conf(
    ngx_str_t *name, ngx_str_t *error, ngx_pool_t *pool);
static ngx_int_t ngx_http_hybrid_store_fields(
    ngx_http_hybrid_store_parse_t *ps, redisReply *reply);
static ngx_int_t ngx_http_hybrid_store_field(
    ngx_http_hybrid_store_parse_t *ps, ngx_str_t *field, ngx_str_t *value);
static ngx_int_t ngx_http_hybrid_store_line(ngx_http_hybrid_store_parse_t *ps,
    ngx_str_t *field, u_char *start, u_char *end);
static char *ngx_http_hybrid_store_statement(ngx_conf_t *cf,
    ngx_command_t *dummy, void *conf);
static void ngx_http_hybrid_store_writer(ngx_log_t *log, ngx_uint_t level,
    u_char *buf, size_t len);
static void ngx_http_hybrid_store_error(ngx_str_t *error, const char *text);


ngx_http_hybrid_client_t *
ngx_http_hybrid_store_client(ngx_http_hybrid_store_t *store, ngx_str_t *name,
    redisReply *reply, ngx_str_t *error)
{
    ngx_pool_t                *pool;
    ngx_http_hybrid_client_t  *client;

    error->len = 0;

    pool = ngx_create_pool(2048, ngx_cycle->log);
    if (pool == NULL) {
        ngx_http_hybrid_store_error(error, "no memory");
        return NULL;
    }

    client = ngx_http_hybrid_store_parse(store, name, reply, error, pool);

    if (client == NULL) {
        ngx_http_hybrid_store_error(error, "no memory");
        ngx_destroy_pool(pool);
        return NULL;
    }

    client->pool = pool;
    client->users = 1;

    return client;
}


ngx_uint_t
ngx_http_hybrid_store_clash(ngx_http_hybrid_store_t *store, ngx_str_t *name)
{
    ngx_uint_t                  i;
    ngx_http_hybrid_client_t  **clients;

    clients = store->conf->clients.elts;

    for (i = 0; i < store->conf->clients.nelts; i++) {

        if (clients[i]->name.len != name->len
            || ngx_memcmp(clients[i]->name.data, name->data, name->len) != 0)
        {
            continue;
        }

        if (ngx_atomic_cmp_set(&clients[i]->shared->clash, 0, 1)) {
            ngx_log_error(NGX_LOG_WARN, ngx_cycle->log, 0,
                          "client \"%V\" in redis is not used: hybrid_client "
                          "\"%V\" in %s:%ui wins", name, name,
                          clients[i]->place.file, clients[i]->place.line);
        }

        return 1;
    }

    return 0;
}


static ngx_http_hybrid_client_t *
ngx_http_hybrid_store_parse(ngx_http_hybrid_store_t *store, ngx_str_t *name,
    redisReply *reply, ngx_str_t *error, ngx_pool_t *pool)
{
    ngx_str_t                       copy;
    ngx_http_hybrid_identities_t   *identities;
    ngx_http_hybrid_store_parse_t  *ps;

    copy.len = name->len;
    copy.data = ngx_pnalloc(pool, name->len + 1);
    identities = ngx_pcalloc(pool, sizeof(ngx_http_hybrid_identities_t));
    ps = ngx_http_hybrid_store_conf(name, error, pool);

    if (copy.data == NULL || identities == NULL || ps == NULL) {
        return NULL;
    }

    (void) ngx_cpystrn(copy.data, name->data, name->len + 1);
    ngx_http_hybrid_identities_init(identities);

    ps->client = ngx_http_hybrid_client_create(&ps->conf, &copy, identities);

    if (ps->client == NULL
        || ngx_http_hybrid_store_fields(ps, reply) != NGX_OK
        || ngx_http_hybrid_client_complete(&ps->conf, ps->client)
           != NGX_CONF_OK
        || ngx_http_hybrid_store_rules(store, identities, error) != NGX_OK
        || ngx_http_hybrid_store_limits(store, ps->client, pool, error)
           != NGX_OK)
    {
        return NULL;
    }

    return ps->client;
}


static ngx_int_t
ngx_http_hybrid_store_limits(ngx_http_hybrid_store_t *store,
    ngx_http_hybrid_client_t *client, ngx_pool_t *pool, ngx_str_t *error)
{
    ngx_pool_cleanup_t              *cln;
    ngx_http_hybrid_store_shared_t  *shared;

    cln = ngx_pool_cleanup_add(pool, sizeof(ngx_http_hybrid_store_shared_t));
    if (cln == NULL) {
        return NGX_ERROR;
    }

    client->shared = ngx_hybrid_shm_client(store->conf->shm, &client->name, 1);

    if (client->shared == NULL) {
        ngx_http_hybrid_store_error(error,
                                    "hybrid_zone is full: make it larger");
        return NGX_ERROR;
    }

    shared = cln->data;
    shared->shm = store->conf->shm;
    shared->client = client->shared;
    cln->handler = ngx_http_hybrid_store_give;

    if (ngx_http_hybrid_lease_create(store->conf, client, pool) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_http_hybrid_limit_adopt(client);

    return NGX_OK;
}


/* the client's pool goes, and with it all that points there */

static void
ngx_http_hybrid_store_give(void *data)
{
    ngx_http_hybrid_store_shared_t  *shared = data;

    ngx_hybrid_shm_client_give(shared->shm, shared->client);
}


/* what the setters need of a configuration that is being read */

static ngx_http_hybrid_store_parse_t *
ngx_http_hybrid_store_conf(ngx_str_t *name, ngx_str_t *error, ngx_pool_t *pool)
{
    ngx_conf_t                     *cf;
    ngx_http_hybrid_store_parse_t  *ps;

    ps = ngx_pcalloc(pool, sizeof(ngx_http_hybrid_store_parse_t));
    if (ps == NULL) {
        return NULL;
    }

    cf = &ps->conf;

    cf->args = ngx_array_create(pool, 10, sizeof(ngx_str_t));
    if (cf->args == NULL) {
        return NULL;
    }

    cf->cycle = (ngx_cycle_t *) ngx_cycle;
    cf->pool = pool;
    cf->temp_pool = pool;
    cf->log = &ps->log;
    cf->ctx = ngx_cycle->conf_ctx[ngx_http_module.index];
    cf->module_type = NGX_HTTP_MODULE;
    cf->cmd_type = NGX_HTTP_MAIN_CONF;
    cf->conf_file = &ps->file;
    cf->handler = ngx_http_hybrid_store_statement;
    cf->handler_conf = (char *) ps;

    /* never read from: there are no more bytes than those in the buffer */

    ps->file.buffer = &ps->buf;
    ps->file.file.name.data = ngx_pnalloc(pool, name->len
                                          + sizeof("client  in redis"));
    if (ps->file.file.name.data == NULL) {
        return NULL;
    }

    ngx_sprintf(ps->file.file.name.data, "client %V in redis%Z", name);

    ps->log.log_level = NGX_LOG_EMERG;
    ps->log.writer = ngx_http_hybrid_store_writer;
    ps->log.wdata = ps;
    ps->error = error;

    return ps;
}


static ngx_int_t
ngx_http_hybrid_store_fields(ngx_http_hybrid_store_parse_t *ps,
    redisReply *reply)
{
    size_t        i, size;
    ngx_str_t     field, value;
    redisReply  **e;

    e = reply->element;
    size = 0;

    for (i = 0; i + 1 < reply->elements; i += 2) {

        if (e[i]->type != REDIS_REPLY_STRING
            || e[i + 1]->type != REDIS_REPLY_STRING)
        {
            ngx_http_hybrid_store_error(ps->error, "unexpected answer");
            return NGX_ERROR;
        }

        size += e[i]->len + e[i + 1]->len;

        if (size > NGX_HTTP_HYBRID_STORE_SIZE) {
            ngx_http_hybrid_store_error(ps->error, "it is too large");
            return NGX_ERROR;
        }

        field.data = (u_char *) e[i]->str;
        field.len = e[i]->len;
        value.data = (u_char *) e[i + 1]->str;
        value.len = e[i + 1]->len;

        if (ngx_http_hybrid_store_field(ps, &field, &value) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_hybrid_store_field(ngx_http_hybrid_store_parse_t *ps,
    ngx_str_t *field, ngx_str_t *value)
{
    u_char  *p, *last, *end;
    size_t   i;

    if (field->len == 0) {
        ngx_http_hybrid_store_error(ps->error, "invalid field");
        return NGX_ERROR;
    }

    for (i = 0; i < field->len; i++) {
        if (field->data[i] < 'a' || field->data[i] > 'z') {
            ngx_http_hybrid_store_error(ps->error, "invalid field");
            return NGX_ERROR;
        }
    }

    /* the setters' strings end at a \0, and a statement at its line */

    for (i = 0; i < value->len; i++) {
        if ((value->data[i] < ' ' && value->data[i] != '\t'
             && value->data[i] != LF)
            || value->data[i] == 0x7f)
        {
            ngx_http_hybrid_store_error(ps->error,
                                        "a value has control characters");
            return NGX_ERROR;
        }
    }

    p = value->data;
    last = p + value->len;
    ps->file.line = 1;

    for ( ;; ) {
        end = ngx_strlchr(p, last, LF);

        if (end == NULL) {
            end = last;
        }

        if (ngx_http_hybrid_store_line(ps, field, p, end) != NGX_OK) {
            return NGX_ERROR;
        }

        if (end >= last - 1) {
            return NGX_OK;
        }

        p = end + 1;
        ps->file.line++;
    }
}


/*
 * "<field> <line>;}" is what stands between the braces of a block.  It has to
 * be one statement and nothing else: ";" and "}" in a line would make more.
 */

static ngx_int_t
ngx_http_hybrid_store_line(ngx_http_hybrid_store_parse_t *ps,
    ngx_str_t *field, u_char *start, u_char *end)
{
    u_char     *p;
    ngx_str_t   line;

    line.data = start;
    line.len = end - start;

    p = ngx_pnalloc(ps->conf.pool, field->len + line.len + sizeof(" ;}"));
    if (p == NULL) {
        return NGX_ERROR;
    }

    ps->buf.start = p;
    ps->buf.pos = p;
    ps->buf.last = ngx_sprintf(p, "%V %V;}", field, &line);
    ps->buf.end = ps->buf.last;
    ps->statements = 0;

    if (ngx_conf_parse(&ps->conf, NULL) != NGX_CONF_OK) {
        return NGX_ERROR;
    }

    if (ps->statements != 1 || ps->buf.pos != ps->buf.last) {
        ngx_http_hybrid_store_error(ps->error,
                                    "a line of a value must be the arguments "
                                    "of one statement");
        return NGX_ERROR;
    }

    return NGX_OK;
}


static char *
ngx_http_hybrid_store_statement(ngx_conf_t *cf, ngx_command_t *dummy,
    void *conf)
{
    ngx_http_hybrid_store_parse_t  *ps = conf;

    if (ps->statements++) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "a line of a value must be the arguments of one "
                           "statement");
        return NGX_CONF_ERROR;
    }

    return ngx_http_hybrid_client_set(cf, ps->client);
}


/* the first error of a setter, without time, level and process */

static void
ngx_http_hybrid_store_writer(ngx_log_t *log, ngx_uint_t level, u_char *buf,
    size_t len)
{
    u_char                         *p, *last;
    ngx_http_hybrid_store_parse_t  *ps;

    ps = log->wdata;

    if (ps->error->len) {
        return;
    }

    last = buf + len;

    while (last > buf && (last[-1] == LF || last[-1] == CR)) {
        last--;
    }

    p = ngx_strlchr(buf, last, '#');

    if (p) {
        p = ngx_strnstr(p, ": ", last - p);
    }

    p = p ? p + 2 : buf;

    ps->error->len = ngx_min((size_t) (last - p), NGX_HTTP_HYBRID_STORE_ERROR);
    ngx_memcpy(ps->error->data, p, ps->error->len);
}


static void
ngx_http_hybrid_store_error(ngx_str_t *error, const char *text)
{
    if (error->len == 0) {
        error->len = ngx_strlen(text);
        ngx_memcpy(error->data, text, error->len);
    }
}
