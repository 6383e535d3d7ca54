
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Lists of models (/api/tags, /v1/models, /api/ps): what the backends have by
 * their own lists, and what the configuration names of others, as far as this
 * client may use it and a request would find it there.
 */


#include "ngx_http_hybrid_list.h"


static ngx_http_hybrid_list_e ngx_http_hybrid_list_kind(
    ngx_http_hybrid_ctx_t *ctx);
static ngx_int_t ngx_http_hybrid_list_init(ngx_http_hybrid_list_t *list);
static ngx_http_hybrid_entry_t *ngx_http_hybrid_list_entries(
    ngx_http_hybrid_list_t *list, ngx_http_hybrid_backend_t *backend,
    ngx_uint_t *n);
static ngx_uint_t ngx_http_hybrid_list_open(ngx_http_hybrid_list_t *list,
    ngx_http_hybrid_backend_t *backend);
static void ngx_http_hybrid_list_virtuals(ngx_http_hybrid_list_t *list);
static ngx_uint_t ngx_http_hybrid_list_virtual(ngx_http_hybrid_list_t *list,
    ngx_hybrid_model_t *model);
static void ngx_http_hybrid_list_backend(ngx_http_hybrid_list_t *list,
    ngx_http_hybrid_backend_t *backend);
static void ngx_http_hybrid_list_own(ngx_http_hybrid_list_t *list,
    ngx_http_hybrid_backend_t *backend, ngx_http_hybrid_entry_t *entry);
static void ngx_http_hybrid_list_named(ngx_http_hybrid_list_t *list,
    ngx_http_hybrid_backend_t *backend, ngx_hybrid_pattern_t *pattern,
    ngx_http_hybrid_entry_t *entries, ngx_uint_t n);
static ngx_int_t ngx_http_hybrid_list_rank(ngx_http_hybrid_list_t *list,
    ngx_http_hybrid_backend_t *backend, ngx_hybrid_model_t *model,
    ngx_hybrid_model_t *real, ngx_uint_t unknown);
static ngx_int_t ngx_http_hybrid_list_routed(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_backend_t *backend, ngx_hybrid_model_t *model,
    ngx_uint_t unknown);
static void ngx_http_hybrid_list_add(ngx_http_hybrid_list_t *list,
    ngx_http_hybrid_item_t *item);
static ngx_uint_t ngx_http_hybrid_list_same(ngx_str_t *one, ngx_str_t *two);


ngx_int_t
ngx_http_hybrid_list_handler(ngx_http_request_t *r)
{
    ngx_str_t                    type;
    ngx_uint_t                   i;
    ngx_http_hybrid_list_t       list;
    ngx_http_complex_value_t     cv;
    ngx_http_hybrid_backend_t  **backends;

    ngx_memzero(&list, sizeof(ngx_http_hybrid_list_t));
    ngx_memzero(&cv, sizeof(ngx_http_complex_value_t));

    list.request = r;
    list.ctx = ngx_http_hybrid_get_ctx(r);

    if (list.ctx == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    list.kind = ngx_http_hybrid_list_kind(list.ctx);

    if (ngx_http_hybrid_list_init(&list) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (list.kind != ngx_http_hybrid_list_ps) {
        ngx_http_hybrid_list_virtuals(&list);
    }

    backends = list.ctx->conf->backends.elts;

    for (i = 0; i < list.ctx->conf->backends.nelts; i++) {
        if (ngx_http_hybrid_list_open(&list, backends[i])) {
            ngx_http_hybrid_list_backend(&list, backends[i]);
        }
    }

    if (ngx_http_hybrid_list_write(&list, &cv.value) != NGX_OK) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_str_set(&type, "application/json");

    r->disable_not_modified = 1;

    return ngx_http_send_response(r, NGX_HTTP_OK, &type, &cv);
}


static ngx_http_hybrid_list_e
ngx_http_hybrid_list_kind(ngx_http_hybrid_ctx_t *ctx)
{
    if (ctx->endpoint->dialect == ngx_http_hybrid_dialect_openai) {
        return ngx_http_hybrid_list_openai;
    }

    return ctx->endpoint->path.len == sizeof("/api/ps") - 1
           ? ngx_http_hybrid_list_ps : ngx_http_hybrid_list_tags;
}


/* room for all that could be on it */

static ngx_int_t
ngx_http_hybrid_list_init(ngx_http_hybrid_list_t *list)
{
    ngx_uint_t                     i, n;
    ngx_http_hybrid_backend_t    **backends;
    ngx_http_hybrid_main_conf_t   *hmcf;

    hmcf = list->ctx->conf;
    backends = hmcf->backends.elts;

    list->max = hmcf->virtuals.nelts;

    for (i = 0; i < hmcf->backends.nelts; i++) {
        (void) ngx_http_hybrid_list_entries(list, backends[i], &n);

        list->max += n + backends[i]->models.nelts
                     + backends[i]->renames.nelts;
    }

    for (n = 8; n < 2 * list->max; n *= 2) { /* void */ }

    list->mask = (uint32_t) n - 1;

    list->items = ngx_palloc(list->request->pool,
                             (list->max + 1) * sizeof(ngx_http_hybrid_item_t));
    list->slots = ngx_pcalloc(list->request->pool, n * sizeof(uint32_t));

    return list->items && list->slots ? NGX_OK : NGX_ERROR;
}


static ngx_http_hybrid_entry_t *
ngx_http_hybrid_list_entries(ngx_http_hybrid_list_t *list,
    ngx_http_hybrid_backend_t *backend, ngx_uint_t *n)
{
    if (list->kind == ngx_http_hybrid_list_ps) {
        return ngx_http_hybrid_catalogue_running(backend, n);
    }

    return ngx_http_hybrid_catalogue_models(backend, n);
}


static ngx_uint_t
ngx_http_hybrid_list_open(ngx_http_hybrid_list_t *list,
    ngx_http_hybrid_backend_t *backend)
{
    return ngx_http_hybrid_policy_egress(list->ctx, backend)
           && backend->health->lever != ngx_hybrid_lever_disabled
           && (backend->api == ngx_http_hybrid_api_ollama
               || list->kind == ngx_http_hybrid_list_openai);
}


/* they are first: no model of a backend can be asked for by such a name */

static void
ngx_http_hybrid_list_virtuals(ngx_http_hybrid_list_t *list)
{
    ngx_uint_t                   i, j;
    ngx_http_hybrid_item_t       item;
    ngx_http_hybrid_size_t      *sizes;
    ngx_http_hybrid_virtual_t  **virtuals;

    virtuals = list->ctx->conf->virtuals.elts;

    for (i = 0; i < list->ctx->conf->virtuals.nelts; i++) {

        sizes = virtuals[i]->sizes.elts;

        for (j = 0; j < virtuals[i]->sizes.nelts; j++) {

            if (!ngx_http_hybrid_list_virtual(list, &sizes[j].model)) {
                continue;
            }

            ngx_memzero(&item, sizeof(ngx_http_hybrid_item_t));

            item.key = virtuals[i]->pattern.text;
            item.name = virtuals[i]->pattern.brief;

            ngx_http_hybrid_list_add(list, &item);
            break;
        }
    }
}


/* whether some backend would be asked for the real model */

static ngx_uint_t
ngx_http_hybrid_list_virtual(ngx_http_hybrid_list_t *list,
    ngx_hybrid_model_t *model)
{
    ngx_uint_t                   i;
    ngx_hybrid_model_t          *real;
    ngx_http_hybrid_has_e        has;
    ngx_http_hybrid_rename_t    *rename;
    ngx_http_hybrid_backend_t  **backends;

    backends = list->ctx->conf->backends.elts;

    for (i = 0; i < list->ctx->conf->backends.nelts; i++) {

        if (!ngx_http_hybrid_list_open(list, backends[i])
            || !ngx_http_hybrid_backend_has(backends[i], model, &rename))
        {
            continue;
        }

        real = rename ? &rename->model : model;
        has = ngx_http_hybrid_catalogue_has(backends[i], real);

        if (has != ngx_http_hybrid_has_it
            && has != ngx_http_hybrid_has_unknown)
        {
            continue;
        }

        if (ngx_http_hybrid_list_rank(list, backends[i], model, real,
                                      has == ngx_http_hybrid_has_unknown)
            != NGX_DECLINED)
        {
            return 1;
        }
    }

    return 0;
}


static void
ngx_http_hybrid_list_backend(ngx_http_hybrid_list_t *list,
    ngx_http_hybrid_backend_t *backend)
{
    ngx_uint_t                 i, n;
    ngx_hybrid_pattern_t      *patterns;
    ngx_http_hybrid_entry_t   *entries;
    ngx_http_hybrid_rename_t  *renames;

    entries = ngx_http_hybrid_list_entries(list, backend, &n);

    for (i = 0; i < n; i++) {
        if (!(entries[i].flags & NGX_HTTP_HYBRID_ENTRY_GONE)
            && (list->kind != ngx_http_hybrid_list_ps
                || entries[i].expires == 0
                || entries[i].expires > ngx_time()))
        {
            ngx_http_hybrid_list_own(list, backend, &entries[i]);
        }
    }

    renames = backend->renames.elts;

    for (i = 0; i < backend->renames.nelts; i++) {
        ngx_http_hybrid_list_named(list, backend, &renames[i].pattern,
                                   entries, n);
    }

    patterns = backend->models.elts;

    for (i = 0; i < backend->models.nelts; i++) {
        ngx_http_hybrid_list_named(list, backend, &patterns[i], entries, n);
    }
}


/* a model by the backend's own name for it */

static void
ngx_http_hybrid_list_own(ngx_http_hybrid_list_t *list,
    ngx_http_hybrid_backend_t *backend, ngx_http_hybrid_entry_t *entry)
{
    u_char                     buf[NGX_HYBRID_MODEL_BUF];
    ngx_int_t                  rank;
    ngx_hybrid_model_t         model;
    ngx_http_hybrid_item_t     item;
    ngx_http_hybrid_rename_t  *rename;

    if (entry->json.len == 0
        || ngx_hybrid_model_parse(&model, &entry->name, buf) != NGX_OK
        || !ngx_http_hybrid_backend_has(backend, &model, &rename))
    {
        return;
    }

    /* by this name clients mean another one */

    if (rename
        && !ngx_http_hybrid_list_same(&rename->model.name, &entry->name))
    {
        return;
    }

    rank = ngx_http_hybrid_list_rank(list, backend, &model, &model, 0);

    if (rank == NGX_DECLINED) {
        return;
    }

    item.key = entry->name;
    item.name = entry->name;
    item.rank = rank;
    item.renamed = 0;
    item.backend = backend;
    item.entry = entry;

    /* Ollama names the default tag, other vendors have no tags */

    if (backend->api == ngx_http_hybrid_api_openai) {
        item.name.len = model.brief.len;
    }

    ngx_http_hybrid_list_add(list, &item);
}


/* a model by a name of the configuration */

static void
ngx_http_hybrid_list_named(ngx_http_hybrid_list_t *list,
    ngx_http_hybrid_backend_t *backend, ngx_hybrid_pattern_t *pattern,
    ngx_http_hybrid_entry_t *entries, ngx_uint_t n)
{
    ngx_int_t                  rank;
    ngx_uint_t                 i;
    ngx_hybrid_model_t         model, *real;
    ngx_http_hybrid_has_e      has;
    ngx_http_hybrid_item_t     item;
    ngx_http_hybrid_rename_t  *rename;

    if (!pattern->exact) {
        return;
    }

    model.name = pattern->text;
    model.brief = pattern->brief;
    model.cloud = pattern->cloud;

    if (!ngx_http_hybrid_backend_has(backend, &model, &rename)) {
        return;
    }

    real = rename ? &rename->model : &model;
    has = ngx_http_hybrid_catalogue_has(backend, real);

    if (has != ngx_http_hybrid_has_it && has != ngx_http_hybrid_has_unknown) {
        return;
    }

    rank = ngx_http_hybrid_list_rank(list, backend, &model, real,
                                     has == ngx_http_hybrid_has_unknown);

    if (rank == NGX_DECLINED) {
        return;
    }

    item.entry = NULL;

    for (i = 0; i < n; i++) {
        if (!(entries[i].flags & NGX_HTTP_HYBRID_ENTRY_GONE)
            && entries[i].json.len
            && ngx_http_hybrid_list_same(&entries[i].name, &real->name))
        {
            item.entry = &entries[i];
            break;
        }
    }

    if (list->kind == ngx_http_hybrid_list_ps) {

        /* that it may be there is not that it is loaded; or it is on it */

        if (item.entry == NULL
            || (item.entry->expires && item.entry->expires <= ngx_time())
            || ngx_http_hybrid_list_same(&model.name, &real->name))
        {
            return;
        }
    }

    item.key = model.name;
    item.name = (backend->api == ngx_http_hybrid_api_ollama) ? model.name
                                                             : model.brief;
    item.rank = rank;
    item.renamed = (real != &model);
    item.backend = backend;

    ngx_http_hybrid_list_add(list, &item);
}


/* the place of the backend for this client's requests, or NGX_DECLINED */

static ngx_int_t
ngx_http_hybrid_list_rank(ngx_http_hybrid_list_t *list,
    ngx_http_hybrid_backend_t *backend, ngx_hybrid_model_t *model,
    ngx_hybrid_model_t *real, ngx_uint_t unknown)
{
    ngx_http_hybrid_ctx_t  *ctx;

    ctx = list->ctx;

    if (!ngx_http_hybrid_policy_may_use(ctx->client, model)
        || (unknown && backend->discover))
    {
        return NGX_DECLINED;
    }

    if (ngx_http_hybrid_catalogue_remote(backend, real)
        && (ctx->local
            || !(ctx->client->egress & NGX_HTTP_HYBRID_EGRESS_CLOUD)))
    {
        return NGX_DECLINED;
    }

    return ngx_http_hybrid_list_routed(ctx, backend, model, unknown);
}


static ngx_int_t
ngx_http_hybrid_list_routed(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_backend_t *backend, ngx_hybrid_model_t *model,
    ngx_uint_t unknown)
{
    ngx_int_t                  rank;
    ngx_uint_t                 i, g, n;
    ngx_http_hybrid_group_t   *groups;
    ngx_http_hybrid_route_t  **routes;

    routes = ctx->conf->routes.elts;

    for (i = 0; i < ctx->conf->routes.nelts; i++) {

        if (!ngx_hybrid_pattern_match(&routes[i]->pattern, model)) {
            continue;
        }

        groups = routes[i]->groups.elts;
        rank = 0;

        for (g = 0; g < routes[i]->groups.nelts; g++) {
            for (n = 0; n < groups[g].n; n++, rank++) {

                if (groups[g].backends[n] == backend
                    && !(groups[g].discovered && unknown))
                {
                    return rank;
                }
            }
        }

        return NGX_DECLINED;
    }

    return NGX_DECLINED;
}


/* each name once, from the backend that is asked first; ps shows all */

static void
ngx_http_hybrid_list_add(ngx_http_hybrid_list_t *list,
    ngx_http_hybrid_item_t *item)
{
    ngx_uint_t               i;
    ngx_http_hybrid_item_t  *other;

    item->hash = ngx_murmur_hash2(item->key.data, item->key.len);

    for (i = item->hash & list->mask;
         list->slots[i];
         i = (i + 1) & list->mask)
    {
        other = &list->items[list->slots[i] - 1];

        if (other->hash != item->hash
            || !ngx_http_hybrid_list_same(&other->key, &item->key)
            || (list->kind == ngx_http_hybrid_list_ps
                && other->backend != item->backend))
        {
            continue;
        }

        if (other->backend && item->rank < other->rank) {
            *other = *item;
        }

        return;
    }

    if (list->n == list->max) {
        return;
    }

    list->items[list->n++] = *item;
    list->slots[i] = (uint32_t) list->n;
}


static ngx_uint_t
ngx_http_hybrid_list_same(ngx_str_t *one, ngx_str_t *two)
{
    return one->len == two->len
           && ngx_memcmp(one->data, two->data, one->len) == 0;
}
