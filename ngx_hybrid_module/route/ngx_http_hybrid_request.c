
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * What a backend is shown.  The proxy module builds its request from the
 * fields of r, so these are replaced while it does that, and put back for
 * variables and logs: an allow-list of the client's headers and ours, a
 * constant path, no query, the body for this backend.
 */


#include "ngx_http_hybrid_answer.h"


static ngx_int_t ngx_http_hybrid_request_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_hybrid_request_headers(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_http_hybrid_candidate_t *cand);
static ngx_uint_t ngx_http_hybrid_request_is_ours(
    ngx_http_hybrid_backend_t *backend, ngx_table_elt_t *h);
static ngx_int_t ngx_http_hybrid_request_body(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_http_hybrid_candidate_t *cand);
static ngx_int_t ngx_http_hybrid_request_uri(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_http_hybrid_candidate_t *cand);
static ngx_uint_t ngx_http_hybrid_request_account(ngx_str_t *key);


/*
 * No Accept-Encoding: answers are looked into.  No Origin: a browser's page
 * is not who asks.  No Cookie, no Cf-*, no X-Forwarded-*: the backend has no
 * use for them, and some are credentials.
 */

static ngx_str_t  ngx_http_hybrid_request_allowed[] = {
    ngx_string("accept"),
    ngx_string("accept-language"),
    ngx_string("anthropic-beta"),
    ngx_string("anthropic-version"),
    ngx_string("content-type"),
    ngx_string("idempotency-key"),
    ngx_string("openai-beta"),
    ngx_string("traceparent"),
    ngx_string("tracestate"),
    ngx_string("user-agent"),
    ngx_string("x-request-id"),
    ngx_null_string
};


/*
 * Around the location's own content handler, that of proxy_pass: what comes
 * before it sees the request as it came.
 */

void
ngx_http_hybrid_request_wrap(ngx_http_request_t *r, ngx_http_hybrid_ctx_t *ctx)
{
    if (r->content_handler) {
        ctx->content_handler = r->content_handler;
        r->content_handler = ngx_http_hybrid_request_handler;
    }
}


static ngx_int_t
ngx_http_hybrid_request_handler(ngx_http_request_t *r)
{
    ngx_int_t               rc;
    ngx_http_hybrid_ctx_t  *ctx;

    ctx = ngx_http_hybrid_get_ctx(r);

    if (ngx_http_hybrid_request_present(r, ctx, &ctx->candidates[0])
        != NGX_OK)
    {
        ngx_http_hybrid_request_restore(r, ctx);
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rc = ctx->content_handler(r);

    /* the balancer has done it already, if that was the upstream */

    ngx_http_hybrid_request_restore(r, ctx);

    return rc;
}


ngx_int_t
ngx_http_hybrid_request_present(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_http_hybrid_candidate_t *cand)
{
    ngx_uint_t  i, *variables;

    if (!ctx->presented) {

        /*
         * "$http_*" keep what was found first: that must be the client's,
         * for logs and for another backend.
         */

        variables = ctx->conf->http_variables.elts;

        for (i = 0; i < ctx->conf->http_variables.nelts; i++) {
            (void) ngx_http_get_indexed_variable(r, variables[i]);
        }

        ctx->presented = 1;

        ctx->headers = r->headers_in.headers;
        ctx->uri = r->uri;
        ctx->args = r->args;
        ctx->length = r->headers_in.content_length_n;
        ctx->bufs = r->request_body ? r->request_body->bufs : NULL;
        ctx->unparsed_uri = r->valid_unparsed_uri;
        ctx->quoted_uri = r->quoted_uri;
        ctx->valid_location = r->valid_location;
    }

    /* the path is a whole one: nothing of the location's name is cut off */

    r->valid_location = 0;
    r->valid_unparsed_uri = 0;
    r->quoted_uri = 0;
    ngx_str_null(&r->args);

    if (ngx_http_hybrid_request_headers(r, ctx, cand) != NGX_OK
        || ngx_http_hybrid_request_uri(r, ctx, cand) != NGX_OK)
    {
        return NGX_ERROR;
    }

    /* what the balancer builds again needs no copy of the body yet */

    if (ctx->body
        && (ctx->u || ngx_http_hybrid_request_plain(cand))
        && ngx_http_hybrid_request_body(r, ctx, cand) != NGX_OK)
    {
        return NGX_ERROR;
    }

    ctx->built = cand;

    return NGX_OK;
}


ngx_str_t *
ngx_http_hybrid_request_model(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_candidate_t *cand)
{
    if (cand->rename) {
        return &cand->rename->name;
    }

    return ctx->size ? &ctx->size->name : NULL;
}


/* whether the request that was built first is all that the backend needs */

ngx_uint_t
ngx_http_hybrid_request_plain(ngx_http_hybrid_candidate_t *cand)
{
    return cand->backend->credentials.nelts == 0;
}


void
ngx_http_hybrid_request_restore(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx)
{
    if (!ctx->presented) {
        return;
    }

    ctx->presented = 0;

    r->headers_in.headers = ctx->headers;
    r->headers_in.content_length_n = ctx->length;
    r->uri = ctx->uri;
    r->args = ctx->args;
    r->valid_unparsed_uri = ctx->unparsed_uri;
    r->quoted_uri = ctx->quoted_uri;
    r->valid_location = ctx->valid_location;

    if (r->request_body) {
        r->request_body->bufs = ctx->bufs;
    }
}


static ngx_int_t
ngx_http_hybrid_request_headers(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_http_hybrid_candidate_t *cand)
{
    ngx_uint_t                  i;
    ngx_list_t                 *list;
    ngx_list_part_t            *part;
    ngx_table_elt_t            *h, *out;
    ngx_http_hybrid_backend_t  *backend;

    list = &ctx->filtered;
    backend = cand->backend;

    if (ngx_list_init(list, r->pool, 8, sizeof(ngx_table_elt_t)) != NGX_OK) {
        return NGX_ERROR;
    }

    part = &ctx->headers.part;
    h = part->elts;

    for (i = 0; /* void */ ; i++) {

        if (i >= part->nelts) {
            if (part->next == NULL) {
                break;
            }

            part = part->next;
            h = part->elts;
            i = 0;
        }

        if (ngx_hash_find(&ctx->conf->headers, h[i].hash, h[i].lowcase_key,
                          h[i].key.len)
            == NULL)
        {
            continue;
        }

        if (backend->credentials.nelts
            && ngx_http_hybrid_request_is_ours(backend, &h[i]))
        {
            continue;
        }

        out = ngx_list_push(list);
        if (out == NULL) {
            return NGX_ERROR;
        }

        *out = h[i];

        /*
         * The body was read as JSON: a backend must not be told to read it
         * as a form.  Ollama's clients may call it anything.
         */

        if (ctx->body && ctx->body->form == NULL
            && h[i].key.len == sizeof("content-type") - 1
            && ngx_memcmp(h[i].lowcase_key, "content-type", 12) == 0)
        {
            ngx_str_set(&out->value, "application/json");
        }
    }

    if (backend->egress == NGX_HTTP_HYBRID_EGRESS_LOCAL) {

        out = ngx_list_push(list);
        if (out == NULL) {
            return NGX_ERROR;
        }

        ngx_str_set(&out->key, "X-Hybrid-Client");
        out->lowcase_key = (u_char *) "x-hybrid-client";
        out->hash = ngx_hash_key(out->lowcase_key, out->key.len);
        out->value = ctx->client->name;
        ngx_hybrid_header_single(out);
    }

    /*
     * Not in the first request, which is built before the balancer is there:
     * another "proxy_pass" in this location must not get a credential.
     */

    h = backend->credentials.elts;

    for (i = 0; ctx->u && i < backend->credentials.nelts; i++) {

        out = ngx_list_push(list);
        if (out == NULL) {
            return NGX_ERROR;
        }

        *out = h[i];

        if (ngx_http_hybrid_request_secret(r, &out->value, backend->gce
                ? ngx_http_hybrid_gce_value(backend->gce) : &h[i].value)
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    /*
     * A list's last part points to itself when it is the first one: it must
     * be taken over by the list that is pushed to afterwards.
     */

    r->headers_in.headers = *list;

    if (list->last == &list->part) {
        r->headers_in.headers.last = &r->headers_in.headers.part;
    }

    return NGX_OK;
}


/* a copy: the secret is written over when its file changes */

ngx_int_t
ngx_http_hybrid_request_secret(ngx_http_request_t *r, ngx_str_t *value,
    ngx_str_t *secret)
{
    u_char  *p;

    p = ngx_pnalloc(r->pool, secret->len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(p, secret->data, secret->len);

    value->data = p;
    value->len = secret->len;

    return NGX_OK;
}


/* a client's header with the name of this backend's credential */

static ngx_uint_t
ngx_http_hybrid_request_is_ours(ngx_http_hybrid_backend_t *backend,
    ngx_table_elt_t *h)
{
    ngx_uint_t        i;
    ngx_table_elt_t  *credential;

    credential = backend->credentials.elts;

    for (i = 0; i < backend->credentials.nelts; i++) {

        if (credential[i].key.len == h->key.len
            && ngx_memcmp(credential[i].lowcase_key, h->lowcase_key,
                          h->key.len)
               == 0)
        {
            return 1;
        }
    }

    return 0;
}


static ngx_int_t
ngx_http_hybrid_request_body(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_http_hybrid_candidate_t *cand)
{
    ngx_int_t               rc;
    ngx_str_t              *model, name;
    ngx_uint_t              n;
    ngx_http_hybrid_edit_t  edits[NGX_HTTP_HYBRID_EDITS];

    n = 0;
    model = ngx_http_hybrid_request_model(ctx, cand);

    if (model) {
        name = *model;

        rc = ctx->google ? ngx_http_hybrid_google_name(ctx, cand, &name)
                         : NGX_OK;

        if (rc == NGX_OK) {
            rc = ngx_http_hybrid_body_name(ctx, &name, &edits[n++]);
        }

        if (rc == NGX_ERROR) {
            return NGX_ERROR;
        }
    }

    if (ngx_http_hybrid_usage_wanted(ctx)
        && ngx_http_hybrid_usage_edit(r, ctx, &edits[n++]) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return n ? ngx_http_hybrid_body_splice(r, edits, n) : NGX_OK;
}


static ngx_int_t
ngx_http_hybrid_request_uri(ngx_http_request_t *r, ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_candidate_t *cand)
{
    u_char                     *p;
    ngx_str_t                   path, tail, *name;
    ngx_http_hybrid_backend_t  *backend;

    if (ctx->google) {
        return ngx_http_hybrid_google_uri(r, ctx, cand);
    }

    backend = cand->backend;
    path = ctx->path;
    ngx_str_set(&tail, "");

    name = ngx_http_hybrid_request_model(ctx, cand);

    if (name && ctx->endpoint->model == ngx_http_hybrid_model_path) {
        path = ctx->endpoint->path;
        tail = *name;
    }

    if (backend->base.len == 0 && tail.len == 0) {
        r->uri = path;
        return NGX_OK;
    }

    /* a cloud's base path stands for the "/v1" of its API */

    if (backend->base.len && backend->api == ngx_http_hybrid_api_openai) {
        path.data += sizeof("/v1") - 1;
        path.len -= sizeof("/v1") - 1;
    }

    p = ngx_pnalloc(r->pool, backend->base.len + path.len + tail.len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    r->uri.data = p;

    p = ngx_cpymem(p, backend->base.data, backend->base.len);
    p = ngx_cpymem(p, path.data, path.len);
    p = ngx_cpymem(p, tail.data, tail.len);

    r->uri.len = p - r->uri.data;

    return NGX_OK;
}


/*
 * An answer's cookie would be a credential of ours: Cloudflare Access gives
 * one for a service token.  A redirect leads past the gateway.
 */

void
ngx_http_hybrid_request_answered(ngx_http_request_t *r)
{
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    part = &r->headers_out.headers.part;
    h = part->elts;

    for (i = 0; /* void */ ; i++) {

        if (i >= part->nelts) {
            if (part->next == NULL) {
                break;
            }

            part = part->next;
            h = part->elts;
            i = 0;
        }

        if ((h[i].key.len == sizeof("Set-Cookie") - 1
             && ngx_strncasecmp(h[i].key.data, (u_char *) "Set-Cookie",
                                h[i].key.len)
                == 0)
            || (h[i].key.len == sizeof("Location") - 1
                && ngx_strncasecmp(h[i].key.data, (u_char *) "Location",
                                   h[i].key.len)
                   == 0)
            || ngx_http_hybrid_request_account(&h[i].key))
        {
            h[i].hash = 0;
        }
    }

    r->headers_out.location = NULL;
}


/* a cloud speaks of the operator's account, not of this client's limits */

static ngx_uint_t
ngx_http_hybrid_request_account(ngx_str_t *key)
{
    ngx_str_t  *name;

    static ngx_str_t  names[] = {
        ngx_string("ratelimit"),
        ngx_string("x-ratelimit"),
        ngx_string("anthropic-ratelimit"),
        ngx_null_string
    };

    for (name = names; name->len; name++) {
        if (key->len >= name->len
            && ngx_strncasecmp(key->data, name->data, name->len) == 0)
        {
            return 1;
        }
    }

    return 0;
}


ngx_int_t
ngx_http_hybrid_request_init(ngx_conf_t *cf, ngx_http_hybrid_main_conf_t *hmcf)
{
    ngx_str_t        *name;
    ngx_array_t       names;
    ngx_hash_key_t   *hk;
    ngx_hash_init_t   hash;

    if (ngx_array_init(&names, cf->temp_pool, 16, sizeof(ngx_hash_key_t))
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    for (name = ngx_http_hybrid_request_allowed; name->len; name++) {
        hk = ngx_array_push(&names);
        if (hk == NULL) {
            return NGX_ERROR;
        }

        hk->key = *name;
        hk->key_hash = ngx_hash_key(name->data, name->len);
        hk->value = (void *) 1;
    }

    hash.hash = &hmcf->headers;
    hash.key = ngx_hash_key;
    hash.max_size = 512;
    hash.bucket_size = ngx_align(64, ngx_cacheline_size);
    hash.name = "hybrid_headers_hash";
    hash.pool = cf->pool;
    hash.temp_pool = NULL;

    return ngx_hash_init(&hash, names.elts, names.nelts);
}


/* all variables are known only now: other modules ask for theirs late, too */

ngx_int_t
ngx_http_hybrid_request_init_worker(ngx_http_hybrid_main_conf_t *hmcf,
    ngx_cycle_t *cycle)
{
    ngx_uint_t                  i, *index;
    ngx_http_variable_t        *v;
    ngx_http_core_main_conf_t  *cmcf;

    cmcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_core_module);

    if (ngx_array_init(&hmcf->http_variables, cycle->pool, 4,
                       sizeof(ngx_uint_t))
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    v = cmcf->variables.elts;

    for (i = 0; i < cmcf->variables.nelts; i++) {

        if (v[i].name.len <= sizeof("http_") - 1
            || ngx_strncmp(v[i].name.data, "http_", sizeof("http_") - 1) != 0)
        {
            continue;
        }

        index = ngx_array_push(&hmcf->http_variables);
        if (index == NULL) {
            return NGX_ERROR;
        }

        *index = i;
    }

    return NGX_OK;
}
