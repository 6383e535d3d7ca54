
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * A list is a document in shared memory with a line for each model:
 *
 *     <flags> <expires> <canonical name> <the backend's own object>\n
 *
 * and a worker makes a table of it when there is a newer one.  Its memory
 * goes with the table after it: who got something from it has used it by
 * then.
 */


#include "ngx_http_hybrid_catalogue_list.h"


static ngx_http_hybrid_entry_t *ngx_http_hybrid_catalogue_find(
    ngx_http_hybrid_table_t *table, ngx_str_t *name);
static ngx_int_t ngx_http_hybrid_table_fill(ngx_http_hybrid_table_t *table,
    ngx_pool_t *pool, ngx_str_t *text);
static u_char *ngx_http_hybrid_table_line(u_char *p, u_char *last,
    ngx_http_hybrid_entry_t *entry);


ngx_http_hybrid_has_e
ngx_http_hybrid_catalogue_has(ngx_http_hybrid_backend_t *backend,
    ngx_hybrid_model_t *model)
{
    ngx_http_hybrid_entry_t  *entry;
    ngx_http_hybrid_table_t  *table;

    if (backend->catalogue == NULL) {
        return ngx_http_hybrid_has_it;
    }

    table = &backend->catalogue->models;

    ngx_http_hybrid_table_renew(backend->catalogue, table);

    if (!table->known) {
        return ngx_http_hybrid_has_unknown;
    }

    entry = ngx_http_hybrid_catalogue_find(table, &model->name);

    if (entry == NULL) {
        return ngx_http_hybrid_has_not;
    }

    return (entry->flags & NGX_HTTP_HYBRID_ENTRY_GONE)
           ? ngx_http_hybrid_has_gone : ngx_http_hybrid_has_it;
}


ngx_uint_t
ngx_http_hybrid_catalogue_loaded(ngx_http_hybrid_backend_t *backend,
    ngx_hybrid_model_t *model)
{
    ngx_http_hybrid_entry_t  *entry;
    ngx_http_hybrid_table_t  *table;

    if (backend->catalogue == NULL) {
        return 0;
    }

    table = &backend->catalogue->running;

    ngx_http_hybrid_table_renew(backend->catalogue, table);

    entry = ngx_http_hybrid_catalogue_find(table, &model->name);

    return entry && (entry->expires == 0 || entry->expires > ngx_time());
}


ngx_uint_t
ngx_http_hybrid_catalogue_unloaded(ngx_http_hybrid_backend_t *backend,
    ngx_hybrid_model_t *model, ngx_msec_t answered)
{
    ngx_hybrid_doc_t  *doc;

    if (backend->catalogue == NULL) {
        return 0;
    }

    doc = backend->catalogue->running.doc;

    return doc->generation
           && (answered == 0 || (ngx_msec_int_t) (answered - doc->loaded) < 0)
           && !ngx_http_hybrid_catalogue_loaded(backend, model);
}


ngx_uint_t
ngx_http_hybrid_catalogue_remote(ngx_http_hybrid_backend_t *backend,
    ngx_hybrid_model_t *model)
{
    ngx_http_hybrid_entry_t  *entry;
    ngx_http_hybrid_table_t  *table;

    if (backend->catalogue == NULL) {
        return 0;
    }

    table = &backend->catalogue->models;

    ngx_http_hybrid_table_renew(backend->catalogue, table);

    entry = ngx_http_hybrid_catalogue_find(table, &model->name);

    return entry && (entry->flags & NGX_HTTP_HYBRID_ENTRY_REMOTE);
}


void
ngx_http_hybrid_catalogue_missed(ngx_http_hybrid_backend_t *backend)
{
    if (backend->catalogue) {
        ngx_http_hybrid_probe_wanted(backend->catalogue->conf, backend);
    }
}


ngx_http_hybrid_entry_t *
ngx_http_hybrid_catalogue_models(ngx_http_hybrid_backend_t *backend,
    ngx_uint_t *n)
{
    *n = 0;

    if (backend->catalogue == NULL) {
        return NULL;
    }

    ngx_http_hybrid_table_renew(backend->catalogue,
                                &backend->catalogue->models);

    *n = backend->catalogue->models.n;

    return backend->catalogue->models.entries;
}


ngx_http_hybrid_entry_t *
ngx_http_hybrid_catalogue_running(ngx_http_hybrid_backend_t *backend,
    ngx_uint_t *n)
{
    *n = 0;

    if (backend->catalogue == NULL) {
        return NULL;
    }

    ngx_http_hybrid_table_renew(backend->catalogue,
                                &backend->catalogue->running);

    *n = backend->catalogue->running.n;

    return backend->catalogue->running.entries;
}


ngx_str_t
ngx_http_hybrid_catalogue_version(ngx_http_hybrid_backend_t *backend)
{
    ngx_str_t                     none = ngx_null_string;
    ngx_http_hybrid_table_t      *table;

    if (backend->catalogue == NULL) {
        return none;
    }

    /* a line of one word */

    table = &backend->catalogue->version;

    ngx_http_hybrid_table_renew(backend->catalogue, table);

    return table->n ? table->entries[0].json : none;
}


static ngx_http_hybrid_entry_t *
ngx_http_hybrid_catalogue_find(ngx_http_hybrid_table_t *table,
    ngx_str_t *name)
{
    uint32_t                  hash;
    ngx_uint_t                i, n;
    ngx_http_hybrid_entry_t  *entry;

    if (table->n == 0) {
        return NULL;
    }

    hash = ngx_hybrid_list_hash(name, table->seed);

    for (i = hash & table->mask; /* void */ ; i = (i + 1) & table->mask) {

        n = table->slots[i];

        if (n == 0) {
            return NULL;
        }

        entry = &table->entries[n - 1];

        if (entry->hash == hash
            && entry->name.len == name->len
            && ngx_memcmp(entry->name.data, name->data, name->len) == 0)
        {
            return entry;
        }
    }
}


void
ngx_http_hybrid_table_renew(ngx_http_hybrid_catalogue_t *catalogue,
    ngx_http_hybrid_table_t *table)
{
    ngx_int_t                 rc;
    ngx_str_t                 text;
    ngx_pool_t               *pool;
    ngx_atomic_uint_t         generation;
    ngx_http_hybrid_table_t   renewed;

    if (table->doc->generation == table->seen) {
        return;
    }

    pool = ngx_create_pool(4096, ngx_cycle->log);
    if (pool == NULL) {
        return;
    }

    rc = ngx_hybrid_doc_read(catalogue->conf->shm, table->doc, pool, &text,
                             &generation);

    renewed = *table;

    if (rc == NGX_ERROR
        || (rc == NGX_OK
            && ngx_http_hybrid_table_fill(&renewed, pool, &text) != NGX_OK))
    {
        /* the old one stays, and the next one who asks tries again */

        ngx_destroy_pool(pool);
        return;
    }

    renewed.known = (rc == NGX_OK);
    renewed.seen = generation;
    renewed.pool = pool;
    renewed.last = table->pool;

    if (rc == NGX_DECLINED) {
        renewed.n = 0;
    }

    if (table->last) {
        ngx_destroy_pool(table->last);
    }

    *table = renewed;
}


/* a reload ends with its worker, and single process mode with its cycle */

void
ngx_http_hybrid_table_free(ngx_http_hybrid_table_t *table)
{
    if (table->last) {
        ngx_destroy_pool(table->last);
        table->last = NULL;
    }

    if (table->pool) {
        ngx_destroy_pool(table->pool);
        table->pool = NULL;
    }

    table->n = 0;
    table->seen = 0;
    table->known = 0;
}


static ngx_int_t
ngx_http_hybrid_table_fill(ngx_http_hybrid_table_t *table, ngx_pool_t *pool,
    ngx_str_t *text)
{
    u_char                   *p, *last;
    ngx_uint_t                i, n, lines, size;
    ngx_http_hybrid_entry_t  *entry;

    last = text->data + text->len;
    lines = 0;

    for (p = text->data; p < last; p++) {
        lines += (*p == LF);
    }

    for (size = 8; size < 2 * lines; size *= 2) { /* void */ }

    table->mask = size - 1;
    table->entries = ngx_palloc(pool, (lines + 1)
                                      * sizeof(ngx_http_hybrid_entry_t));
    table->slots = ngx_pcalloc(pool, size * sizeof(uint32_t));

    if (table->entries == NULL || table->slots == NULL) {
        return NGX_ERROR;
    }

    n = 0;
    table->seed = (uint32_t) ngx_random();

    for (p = text->data; p < last; /* void */ ) {

        entry = &table->entries[n];

        p = ngx_http_hybrid_table_line(p, last, entry);
        if (p == NULL) {
            break;
        }

        entry->hash = ngx_hybrid_list_hash(&entry->name, table->seed);

        for (i = entry->hash & table->mask;
             table->slots[i];
             i = (i + 1) & table->mask)
        {
            /* void */
        }

        table->slots[i] = (uint32_t) ++n;
    }

    table->n = n;

    return NGX_OK;
}


/* what follows it; NULL: it is none of ours */

static u_char *
ngx_http_hybrid_table_line(u_char *p, u_char *last,
    ngx_http_hybrid_entry_t *entry)
{
    u_char     *end, *space;
    ngx_str_t   part[3];
    ngx_uint_t  i;

    end = ngx_strlchr(p, last, LF);
    if (end == NULL) {
        return NULL;
    }

    for (i = 0; i < 3; i++) {
        space = ngx_strlchr(p, end, ' ');
        if (space == NULL) {
            return NULL;
        }

        part[i].data = p;
        part[i].len = space - p;
        p = space + 1;
    }

    entry->flags = ngx_atoi(part[0].data, part[0].len);
    entry->expires = ngx_atotm(part[1].data, part[1].len);
    entry->name = part[2];
    entry->json.data = p;
    entry->json.len = end - p;

    return end + 1;
}
