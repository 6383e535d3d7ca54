
/*
 * Copyright (C) the ngx_hybrid_module authors
 */


#include "ngx_http_hybrid_answer.h"


static void ngx_http_hybrid_ctx_cleanup(void *data);
static void ngx_http_hybrid_resume_handler(ngx_http_request_t *r);


ngx_http_hybrid_ctx_t *
ngx_http_hybrid_get_ctx(ngx_http_request_t *r)
{
    ngx_pool_cleanup_t     *cln;
    ngx_http_hybrid_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_hybrid_module);

    if (ctx == NULL && (r->internal || r->filter_finalize)) {

        /*
         * r->ctx was wiped by an internal redirect; the pool is that of the
         * main request's subrequests, too
         */

        for (cln = r->pool->cleanup; cln; cln = cln->next) {

            if (cln->handler != ngx_http_hybrid_ctx_cleanup) {
                continue;
            }

            ctx = cln->data;

            if (ctx->request == r) {
                return ctx;
            }
        }

        return NULL;
    }

    return ctx;
}


ngx_http_hybrid_ctx_t *
ngx_http_hybrid_create_ctx(ngx_http_request_t *r)
{
    ngx_pool_cleanup_t     *cln;
    ngx_http_hybrid_ctx_t  *ctx;

    cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_http_hybrid_ctx_t));
    if (cln == NULL) {
        return NULL;
    }

    ctx = cln->data;
    ngx_memzero(ctx, sizeof(ngx_http_hybrid_ctx_t));

    ctx->request = r;
    ctx->conf = ngx_http_get_module_main_conf(r, ngx_http_hybrid_module);
    ctx->verdict = NGX_OK;
    ctx->start = ngx_current_msec;

    cln->handler = ngx_http_hybrid_ctx_cleanup;

    ngx_http_set_ctx(r, ctx, ngx_http_hybrid_module);

    return ctx;
}


/* the request's upstream is ours, and not that of an error_page */

ngx_uint_t
ngx_http_hybrid_answered(ngx_http_request_t *r, ngx_http_hybrid_ctx_t *ctx)
{
    return ctx->u && ctx->u == r->upstream;
}


/* the client may leave while Redis is being asked, or while it has to wait */

static void
ngx_http_hybrid_ctx_cleanup(void *data)
{
    ngx_http_hybrid_ctx_t  *ctx = data;

    ngx_http_hybrid_store_detach(ctx);
    ngx_http_hybrid_limit_end(ctx);
    ngx_http_hybrid_queue_detach(ctx);
    ngx_http_hybrid_failure_detach(ctx);
    ngx_http_hybrid_peers_leave(ctx);
    ngx_http_hybrid_socket_done(ctx);
    ngx_http_hybrid_answer_detach(ctx);

    if (ctx->body) {
        ngx_http_hybrid_body_free(ctx);
    }

    if (ctx->client) {
        ngx_http_hybrid_client_release(ctx->client);
    }
}


/*
 * The body is there and the request waits for something else: nobody owns
 * it but the one that will call ngx_http_hybrid_resume().
 */

void
ngx_http_hybrid_suspend(ngx_http_request_t *r)
{
    r->read_event_handler = ngx_http_test_reading;
    r->write_event_handler = ngx_http_request_empty_handler;

    if (r->connection->read->ready) {
        ngx_post_event(r->connection->read, &ngx_posted_events);
        return;
    }

    /* a failure is found when the request is resumed */

    (void) ngx_handle_read_event(r->connection->read, 0);
}


/*
 * May be called from a callback of a library: the phases run later, from
 * nginx's own loop.
 */

void
ngx_http_hybrid_resume(ngx_http_request_t *r)
{
    r->write_event_handler = ngx_http_hybrid_resume_handler;

    ngx_post_event(r->connection->write, &ngx_posted_events);
}


static void
ngx_http_hybrid_resume_handler(ngx_http_request_t *r)
{
    r->read_event_handler = ngx_http_block_reading;
    r->write_event_handler = ngx_http_core_run_phases;

    ngx_http_core_run_phases(r);
}
