
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * The addresses of a fetch, when nginx's resolver is to be asked.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_hybrid_fetch.h"


static void ngx_hybrid_fetch_resolved(ngx_resolver_ctx_t *ctx);
static ngx_int_t ngx_hybrid_fetch_addresses(ngx_hybrid_fetch_t *f,
    ngx_resolver_ctx_t *ctx);


void
ngx_hybrid_fetch_resolve(ngx_hybrid_fetch_t *f)
{
    ngx_resolver_ctx_t  *ctx;

    ctx = ngx_resolve_start(f->args.target->resolver, NULL);

    if (ctx == NULL || ctx == NGX_NO_RESOLVER) {
        ngx_log_error(NGX_LOG_ERR, &f->log, 0, "there is no resolver");
        ngx_hybrid_fetch_end(f);
        return;
    }

    ctx->name = f->args.target->name;
    ctx->handler = ngx_hybrid_fetch_resolved;
    ctx->data = f;
    ctx->timeout = f->args.timeout;
    ctx->cancelable = 1;

    f->resolve = ctx;

    /* the handler may be called at once, after that ctx is gone */

    if (ngx_resolve_name(ctx) != NGX_OK) {
        f->resolve = NULL;
        ngx_log_error(NGX_LOG_ERR, &f->log, 0, "\"%V\" can't be looked up",
                      &f->args.target->name);
        ngx_hybrid_fetch_end(f);
    }
}


static void
ngx_hybrid_fetch_resolved(ngx_resolver_ctx_t *ctx)
{
    ngx_hybrid_fetch_t  *f = ctx->data;

    ngx_int_t  rc;

    rc = NGX_ERROR;

    if (ctx->state) {
        ngx_log_error(NGX_LOG_ERR, &f->log, 0,
                      "\"%V\" could not be resolved (%i: %s)", &ctx->name,
                      ctx->state, ngx_resolver_strerror(ctx->state));

    } else {
        rc = ngx_hybrid_fetch_addresses(f, ctx);
    }

    f->resolve = NULL;
    ngx_resolve_name_done(ctx);

    if (rc != NGX_OK) {
        ngx_hybrid_fetch_end(f);
        return;
    }

    ngx_hybrid_fetch_next(f);
}


static ngx_int_t
ngx_hybrid_fetch_addresses(ngx_hybrid_fetch_t *f, ngx_resolver_ctx_t *ctx)
{
    u_char           *p;
    ngx_uint_t        i;
    ngx_addr_t       *addr;
    struct sockaddr  *sockaddr;

    addr = ngx_pcalloc(f->pool, ctx->naddrs * sizeof(ngx_addr_t));
    if (addr == NULL) {
        return NGX_ERROR;
    }

    for (i = 0; i < ctx->naddrs; i++) {

        sockaddr = ngx_palloc(f->pool, ctx->addrs[i].socklen);
        p = ngx_pnalloc(f->pool, NGX_SOCKADDR_STRLEN);

        if (sockaddr == NULL || p == NULL) {
            return NGX_ERROR;
        }

        ngx_memcpy(sockaddr, ctx->addrs[i].sockaddr, ctx->addrs[i].socklen);
        ngx_inet_set_port(sockaddr, f->args.target->port);

        addr[i].sockaddr = sockaddr;
        addr[i].socklen = ctx->addrs[i].socklen;
        addr[i].name.data = p;
        addr[i].name.len = ngx_sock_ntop(sockaddr, addr[i].socklen, p,
                                         NGX_SOCKADDR_STRLEN, 1);
    }

    f->addrs = addr;
    f->naddrs = ctx->naddrs;

    return NGX_OK;
}
