
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
ngx_http_hybrid_attempt_reason(ngx_http_hybrid_ctx_t *ctx, ngx_uint_t status,
    ngx_uint_t timedout)
{
    u_char  *p;

    if (ctx->fallback.len) {
        return;
    }

    if (status) {
        p = ngx_pnalloc(ctx->request->pool, sizeof("http_000"));
        if (p) {
            ctx->fallback.data = p;
            ctx->fallback.len = ngx_sprintf(p, "http_%03ui", status % 1000)
                                - p;
        }

        return;
    }

    if (timedout) {
        ngx_str_set(&ctx->fallback, "timeout");

    } else {
        ngx_str_set(&ctx->fallback, "error");
    }
}
