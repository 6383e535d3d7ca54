
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * What a try that failed has said: for the client, and for those after it.
 */


#include "ngx_http_hybrid_module.h"


/* an hour, in seconds */
#define NGX_HTTP_HYBRID_RETRY_MAX  3600


ngx_uint_t
ngx_http_hybrid_attempt_retry(ngx_http_upstream_t *u, ngx_uint_t status)
{
    ngx_int_t         n;
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    if (status != NGX_HTTP_TOO_MANY_REQUESTS
        && status != NGX_HTTP_SERVICE_UNAVAILABLE)
    {
        return 0;
    }

    part = &u->headers_in.headers.part;
    h = part->elts;

    for (i = 0; /* void */ ; i++) {

        if (i >= part->nelts) {
            if (part->next == NULL) {
                return 0;
            }

            part = part->next;
            h = part->elts;
            i = 0;
        }

        if (h[i].key.len == sizeof("Retry-After") - 1
            && ngx_strncasecmp(h[i].key.data, (u_char *) "Retry-After",
                               h[i].key.len)
               == 0)
        {
            n = ngx_atoi(h[i].value.data, h[i].value.len);

            return (n == NGX_ERROR) ? 0
                                    : ngx_min(n, NGX_HTTP_HYBRID_RETRY_MAX);
        }
    }
}


void
ngx_http_hybrid_attempt_failed(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_candidate_t *cand, ngx_uint_t status, ngx_uint_t timedout)
{
    u_char     *p;
    ngx_str_t   why;

    if (status) {
        p = ngx_pnalloc(ctx->request->pool, sizeof("http_000"));
        if (p == NULL) {
            return;
        }

        why.data = p;
        why.len = ngx_sprintf(p, "http_%03ui", status % 1000) - p;

    } else if (timedout) {
        ngx_str_set(&why, "timeout");

    } else {
        ngx_str_set(&why, "error");
    }

    ngx_http_hybrid_attempt_passed(ctx, cand, &why);
}


void
ngx_http_hybrid_attempt_passed(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_candidate_t *cand, ngx_str_t *why)
{
    ngx_hybrid_health_passed(cand->backend->health, why);

    /* the client is told the first reason */

    if (ctx->fallback.len == 0) {
        ctx->fallback = *why;
    }
}
