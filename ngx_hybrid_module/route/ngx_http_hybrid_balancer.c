
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * The balancer behind "proxy_pass https://hybrid": it goes through the
 * candidates of a request, and within each lets the upstream of its backend
 * choose peers.  That upstream's own balancer, keepalive, max_fails and zone
 * work as if it were proxied to directly: it is initialized with its own
 * data, and gets and frees its own peers.
 *
 * When the request goes to another candidate, it is built anew for it: Host,
 * path, credential, body, with or without TLS.
 */


#include "ngx_http_hybrid_choice.h"
#include "ngx_http_hybrid_answer.h"
#include "ngx_http_hybrid_certificate.h"
#include "ngx_http_hybrid_peers.h"


/* msec, in which a closed connection answers with a reset */
#define NGX_HTTP_HYBRID_STALE  1000


static ngx_int_t ngx_http_hybrid_balancer_init_peer(ngx_http_request_t *r,
    ngx_http_upstream_srv_conf_t *us);
static ngx_int_t ngx_http_hybrid_balancer_get(ngx_peer_connection_t *pc,
    void *data);
static ngx_int_t ngx_http_hybrid_balancer_choose(ngx_http_request_t *r,
    ngx_peer_connection_t *pc, ngx_http_hybrid_ctx_t *ctx, ngx_uint_t last);
static ngx_int_t ngx_http_hybrid_balancer_candidate(ngx_http_request_t *r,
    ngx_peer_connection_t *pc, ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_candidate_t *cand);
static ngx_int_t ngx_http_hybrid_balancer_init_candidate(
    ngx_http_request_t *r, ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_candidate_t *cand);
static ngx_int_t ngx_http_hybrid_balancer_build(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_http_hybrid_candidate_t *cand);
static void ngx_http_hybrid_balancer_set_tries(ngx_peer_connection_t *pc,
    ngx_http_hybrid_ctx_t *ctx, ngx_uint_t tried);
static void ngx_http_hybrid_balancer_free(ngx_peer_connection_t *pc,
    void *data, ngx_uint_t state);
static ngx_uint_t ngx_http_hybrid_balancer_others(ngx_http_hybrid_ctx_t *ctx);
#if (NGX_SSL || NGX_COMPAT)
static ngx_int_t ngx_http_hybrid_balancer_set_session(
    ngx_peer_connection_t *pc, void *data);
static void ngx_http_hybrid_balancer_save_session(ngx_peer_connection_t *pc,
    void *data);
#endif


ngx_int_t
ngx_http_hybrid_balancer_init(ngx_conf_t *cf,
    ngx_http_upstream_srv_conf_t *uscf)
{
    uscf->peer.init = ngx_http_hybrid_balancer_init_peer;

    return NGX_OK;
}


/* a location's proxy_pass, when it is merged: NULL or what is wrong with it */

const char *
ngx_http_hybrid_balancer_check(ngx_conf_t *cf, ngx_http_hybrid_loc_conf_t *hlcf)
{
    ngx_uint_t                    i;
    const char                   *fault;
    ngx_http_upstream_conf_t     *conf;
    ngx_http_hybrid_backend_t   **backends;
    ngx_http_hybrid_main_conf_t  *hmcf;

    hmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_hybrid_module);

    /* the first member of the proxy module's own configuration */

    conf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_proxy_module);

    if (hmcf->upstream == NULL || conf->upstream != hmcf->upstream) {
        return NULL;
    }

    if (hlcf->access & NGX_HTTP_HYBRID_ACCESS_OFF) {
        return "\"proxy_pass https://hybrid\" needs \"hybrid_access\"";
    }

#if (NGX_HTTP_SSL)

    if (hmcf->tls == NULL && conf->ssl && conf->ssl->ctx) {
        hmcf->tls = conf;
    }

#endif

    backends = hmcf->backends.elts;

    for (i = 0; i < hmcf->backends.nelts; i++) {
        fault = ngx_http_hybrid_certificate_fault(backends[i], conf);

        if (fault) {
            return fault;
        }
    }

    return NULL;
}


static ngx_int_t
ngx_http_hybrid_balancer_init_peer(ngx_http_request_t *r,
    ngx_http_upstream_srv_conf_t *us)
{
    ngx_uint_t              i;
    ngx_http_upstream_t    *u;
    ngx_http_hybrid_ctx_t  *ctx;

    ctx = ngx_http_hybrid_get_ctx(r);

    if (ctx == NULL || ctx->candidates == NULL || r != r->main) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "\"proxy_pass https://hybrid\" without "
                      "\"hybrid_access\" in this location");
        return NGX_ERROR;
    }

    u = r->upstream;
    ctx->u = u;

    /*
     * The request has been built, but after an internal redirect not by us:
     * then it still holds what the client sent.
     */

    if (!ctx->presented
        || ctx->built != ctx->candidates
        || !ngx_http_hybrid_request_plain(ctx->built))
    {
        ctx->built = NULL;
    }

    ngx_http_hybrid_request_restore(r, ctx);

    for (i = 0; i < ctx->ncandidates; i++) {
        ctx->candidates[i].initialized = 0;
        ctx->candidates[i].spent = 0;
        ctx->candidates[i].let = ctx->candidates[i].slot;
        ctx->candidates[i].full = 0;
    }

    ctx->current = 0;
    ctx->spent.earlier += ctx->tries;
    ctx->tries = 0;
    ctx->last_status = 0;
    ctx->no_live = 0;

    u->peer.data = ctx;
    u->peer.get = ngx_http_hybrid_balancer_get;
    u->peer.free = ngx_http_hybrid_balancer_free;
#if (NGX_SSL || NGX_COMPAT)
    u->peer.set_session = ngx_http_hybrid_balancer_set_session;
    u->peer.save_session = ngx_http_hybrid_balancer_save_session;
#endif

    ngx_http_hybrid_balancer_set_tries(&u->peer, ctx, 0);

    if (u->output.output_filter == ngx_chain_writer) {
        u->output.output_filter = ngx_http_hybrid_socket_output;
        u->output.filter_ctx = ctx;
    }

    return ngx_http_hybrid_answer_init(r, ctx);
}


static ngx_int_t
ngx_http_hybrid_balancer_get(ngx_peer_connection_t *pc, void *data)
{
    ngx_http_hybrid_ctx_t  *ctx = data;

    ngx_int_t            rc;
    ngx_http_request_t  *r;

    r = ctx->request;

    pc->cached = 0;
    pc->connection = NULL;

    ngx_http_hybrid_peers_sync(ctx->conf);

    rc = ngx_http_hybrid_balancer_choose(r, pc, ctx, 0);

    if (rc == NGX_BUSY) {
        (void) ngx_http_hybrid_peers_hurry(ctx);
        rc = ngx_http_hybrid_balancer_choose(r, pc, ctx, 1);
    }

    if (rc != NGX_BUSY) {
        return rc;
    }

    /* what nginx would call a bad gateway */

    ctx->no_live = 1;

    pc->tries = 0;
    pc->name = &ctx->conf->upstream->host;

    return NGX_BUSY;
}


/* last: those are left that may not answer */

static ngx_int_t
ngx_http_hybrid_balancer_choose(ngx_http_request_t *r,
    ngx_peer_connection_t *pc, ngx_http_hybrid_ctx_t *ctx, ngx_uint_t last)
{
    ngx_int_t                     rc;
    ngx_str_t                     reason;
    ngx_uint_t                    i;
    const char                   *why;
    ngx_http_hybrid_candidate_t  *cand;

    for (i = 0; i < ctx->ncandidates; i++) {

        cand = &ctx->candidates[i];

        if (cand->spent) {
            continue;
        }

        why = ngx_http_hybrid_choice_take(ctx, cand, last);

        if (why == NULL && !ngx_http_hybrid_limit_budget(ctx, cand)) {
            cand->spent = 1;
            why = "budget";
        }

        if (why == NULL) {
            rc = ngx_http_hybrid_balancer_candidate(r, pc, ctx, cand);

            if (rc == NGX_BUSY) {
                cand->spent = 1;
                cand->full = 1;
                why = "no_live";

            } else if (rc != NGX_OK && rc != NGX_DONE) {
                ngx_http_hybrid_choice_free(ctx, cand);
                return rc;
            }
        }

        if (why) {
            ngx_http_hybrid_choice_free(ctx, cand);

            if (!last) {
                reason.data = (u_char *) why;
                reason.len = ngx_strlen(why);

                ngx_http_hybrid_attempt_passed(ctx, cand, &reason);
            }

            continue;
        }

        if (i == 0 && !ctx->passed_over) {

            /* another path of the first choice is no fallback */

            ngx_str_null(&ctx->fallback);
        }

        if (ctx->tries == 0 && ctx->spent.earlier == 0) {
            ctx->spent.first_try = ngx_current_msec;
        }

        ctx->current = i;
        ctx->tries++;
        cand->tried = 1;

        ngx_http_hybrid_peers_enter(ctx);
        ngx_http_hybrid_balancer_set_tries(pc, ctx, 1);

        return rc;
    }

    return NGX_BUSY;
}


static ngx_int_t
ngx_http_hybrid_balancer_candidate(ngx_http_request_t *r,
    ngx_peer_connection_t *pc, ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_candidate_t *cand)
{
    ngx_int_t             rc;
    ngx_str_t            *name;
    const char           *fault;
    ngx_http_upstream_t  *u;

    u = r->upstream;

    /* the last gate before the prompt leaves */

    if (!ngx_http_hybrid_route_open(ctx, cand)) {
        ngx_log_error(NGX_LOG_WARN, pc->log, 0,
                      "candidate \"%V\" is not allowed for client \"%V\"",
                      &cand->backend->name, &ctx->client->name);
        return NGX_BUSY;
    }

    if (cand->backend->gce
        && !ngx_http_hybrid_gce_ready(cand->backend->gce, pc->log))
    {
        return NGX_BUSY;
    }

    /* "nginx -t" does not see where a variable leads */

    fault = ngx_http_hybrid_certificate_fault(cand->backend, u->conf);

    if (fault) {
        ngx_log_error(NGX_LOG_ERR, pc->log, 0, "backend \"%V\": %s",
                      &cand->backend->name, fault);
        return NGX_ERROR;
    }

    if (!cand->initialized
        && ngx_http_hybrid_balancer_init_candidate(r, ctx, cand) != NGX_OK)
    {
        return NGX_ERROR;
    }

    pc->tries = cand->tries;

    rc = cand->get(pc, cand->data);

    cand->tries = pc->tries;

    if (rc != NGX_OK && rc != NGX_DONE) {
        return rc;
    }

    /* nginx may give up a peer, and its name, before the request ends */

    name = ngx_palloc(r->pool, sizeof(ngx_str_t) + pc->name->len);
    if (name == NULL) {
        return NGX_ERROR;
    }

    name->len = pc->name->len;
    name->data = (u_char *) (name + 1);
    ngx_memcpy(name->data, pc->name->data, name->len);

    pc->name = name;

    /* a stale status would be taken for this peer's answer */

    u->headers_in.status_n = 0;

    u->ssl = cand->backend->ssl;
    u->schema = cand->backend->schema;
    u->ssl_name = cand->backend->host;

    if (ctx->built != cand
        && ngx_http_hybrid_balancer_build(r, ctx, cand) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return rc;
}


static ngx_int_t
ngx_http_hybrid_balancer_init_candidate(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_http_hybrid_candidate_t *cand)
{
    ngx_int_t               rc;
    ngx_peer_connection_t  *pc, save;

    pc = &r->upstream->peer;
    save = *pc;

    /* round robin uses what it finds here again */

    pc->data = NULL;

    rc = cand->backend->upstream->peer.init(r, cand->backend->upstream);

    cand->data = pc->data;
    cand->get = pc->get;
    cand->free = pc->free;
    cand->tries = pc->tries;

    pc->data = save.data;
    pc->get = save.get;
    pc->free = save.free;
    pc->notify = save.notify;
    pc->tries = save.tries;

#if (NGX_SSL || NGX_COMPAT)
    cand->set_session = pc->set_session;
    cand->save_session = pc->save_session;
    pc->set_session = save.set_session;
    pc->save_session = save.save_session;
#endif

    cand->initialized = 1;

    return rc;
}


static ngx_int_t
ngx_http_hybrid_balancer_build(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_http_hybrid_candidate_t *cand)
{
    ngx_int_t             rc;
    ngx_http_upstream_t  *u;

    u = r->upstream;

    /* variables of the request ask which candidate it is for */

    ctx->current = cand - ctx->candidates;

    rc = ngx_http_hybrid_request_present(r, ctx, cand);

    if (rc == NGX_OK) {
        u->request_bufs = r->request_body ? r->request_body->bufs : NULL;
        rc = u->create_request(r);
    }

    ngx_http_hybrid_request_restore(r, ctx);

    return rc;
}


/*
 * nginx asks again while there are tries, and passes a bad status on when
 * there is none but the current one.
 */

static void
ngx_http_hybrid_balancer_set_tries(ngx_peer_connection_t *pc,
    ngx_http_hybrid_ctx_t *ctx, ngx_uint_t current)
{
    ngx_uint_t                    i, tries, max;
    ngx_http_hybrid_candidate_t  *cand;

    if (ctx->endpoint->verb == NGX_HTTP_HYBRID_VERB_ADMIN) {
        pc->tries = ctx->tries <= 1 ? current : 0;
        return;
    }

    tries = 0;

    for (i = 0; i < ctx->ncandidates; i++) {
        cand = &ctx->candidates[i];

        if (!cand->spent) {
            tries += cand->initialized ? cand->tries : 1;
        }
    }

    max = ctx->u->conf->next_upstream_tries;

    if (max) {
        max += current;
        max = max > ctx->tries ? max - ctx->tries : 0;
        tries = ngx_min(tries, max);
    }

    pc->tries = tries;
}


static void
ngx_http_hybrid_balancer_free(ngx_peer_connection_t *pc, void *data,
    ngx_uint_t state)
{
    ngx_http_hybrid_ctx_t  *ctx = data;

    ngx_uint_t                    status, stale, timedout;
    ngx_http_hybrid_candidate_t  *cand;

    cand = &ctx->candidates[ctx->current];
    status = 0;
    stale = 0;

    ngx_http_hybrid_peers_leave(ctx);
    ngx_http_hybrid_choice_free(ctx, cand);

    if (ctx->u == NULL) {

        /* an internal redirect while the answer was being sent */

        cand->free(pc, cand->data, state);
        return;
    }

    if (state == 0) {
        ngx_http_hybrid_choice_ended(ctx, cand);
    }

    if (state & (NGX_PEER_FAILED|NGX_PEER_NEXT)) {

        /* the first line of a header alone is no answer */

        if (ctx->u->state->header_time != (ngx_msec_t) -1) {
            status = ngx_http_hybrid_answer_status(ctx);
        }

        /*
         * An idle connection that the backend had closed says nothing.  One
         * that was lost later had brought the request: it has been tried.
         */

        timedout = pc->connection && (pc->connection->read->timedout
                                      || pc->connection->write->timedout);
        stale = pc->cached && status == 0 && !timedout
                && ctx->u->state->bytes_received == 0
                && ngx_current_msec - ctx->u->start_time
                   < NGX_HTTP_HYBRID_STALE;

        if (!stale) {

            if (!ctx->lost) {
                ngx_http_hybrid_choice_failed(ctx, cand, status);
            }

            ngx_http_hybrid_attempt_failed(ctx, cand, status, timedout);

            /* for the client, should nobody be left to ask */

            ctx->last_status = status ? status
                                      : timedout ? NGX_HTTP_GATEWAY_TIME_OUT
                                                 : NGX_HTTP_BAD_GATEWAY;

            ctx->retry_after = ngx_http_hybrid_attempt_retry(ctx->u, status);
        }
    }

    /*
     * The machine has spoken: its path has not failed, and another path to
     * it would hear the same, so the next machine is better.
     */

    if (status == NGX_HTTP_NOT_FOUND
        || status == NGX_HTTP_REQUEST_TIME_OUT
        || status == NGX_HTTP_TOO_MANY_REQUESTS
        || status == NGX_HTTP_SERVICE_UNAVAILABLE)
    {
        state = NGX_PEER_NEXT;
        cand->spent = ngx_http_hybrid_balancer_others(ctx);
    }

    ctx->lost = 0;

    ngx_http_hybrid_socket_done(ctx);
    ngx_http_hybrid_answer_leave(ctx);

    pc->tries = cand->tries;

    cand->free(pc, cand->data, state);

    cand->tries = pc->tries;

    if (stale) {
        cand->tries++;
    }

    if (cand->tries == 0) {
        cand->spent = 1;
    }

    ngx_http_hybrid_balancer_set_tries(pc, ctx, 0);
}


static ngx_uint_t
ngx_http_hybrid_balancer_others(ngx_http_hybrid_ctx_t *ctx)
{
    ngx_uint_t  i;

    for (i = 0; i < ctx->ncandidates; i++) {
        if (i != ctx->current && !ctx->candidates[i].spent) {
            return 1;
        }
    }

    return 0;
}


#if (NGX_SSL || NGX_COMPAT)

static ngx_int_t
ngx_http_hybrid_balancer_set_session(ngx_peer_connection_t *pc, void *data)
{
    ngx_http_hybrid_ctx_t  *ctx = data;

    ngx_http_hybrid_candidate_t    *cand;
    ngx_http_hybrid_certificate_t  *certificate;

    cand = &ctx->candidates[ctx->current];
    certificate = cand->backend->certificate;

    if (certificate) {

        if (ngx_http_hybrid_certificate_set(certificate, pc->connection)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        if (ngx_http_hybrid_certificate_changed(certificate)) {
            return NGX_OK;
        }
    }

    return cand->set_session ? cand->set_session(pc, cand->data) : NGX_OK;
}


static void
ngx_http_hybrid_balancer_save_session(ngx_peer_connection_t *pc, void *data)
{
    ngx_http_hybrid_ctx_t  *ctx = data;

    ngx_http_hybrid_candidate_t  *cand;

    cand = &ctx->candidates[ctx->current];

    if (cand->save_session) {
        cand->save_session(pc, cand->data);
    }
}

#endif
