
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * What hybrid_shadow let through, by client and reason: the sums over the
 * series of a client.
 */


#include "ngx_http_hybrid_stats.h"


typedef struct {
    ngx_str_t                 *client;
    uint64_t                   counts[ngx_hybrid_shadow_n];
} ngx_http_hybrid_shadowed_t;


static ngx_array_t *ngx_http_hybrid_shadowed(ngx_http_hybrid_view_t *view);
static ngx_http_hybrid_shadowed_t *ngx_http_hybrid_shadowed_client(
    ngx_array_t *shadowed, ngx_str_t *client);


void
ngx_http_hybrid_json_shadow(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out)
{
    ngx_uint_t                   n, i;
    ngx_array_t                 *shadowed;
    ngx_http_hybrid_shadowed_t  *s;

    shadowed = ngx_http_hybrid_shadowed(view);

    ngx_http_hybrid_out(out, "\"shadowed\":[");

    for (n = 0; shadowed && n < shadowed->nelts; n++) {
        s = (ngx_http_hybrid_shadowed_t *) shadowed->elts + n;

        ngx_http_hybrid_out(out, "%s{\"client\":\"%V\",\"reasons\":{",
                            n ? ",\n" : "\n", s->client);

        for (i = 0; i < ngx_hybrid_shadow_n; i++) {
            ngx_http_hybrid_out(out, "%s\"%V\":%uL", i ? "," : "",
                                ngx_http_hybrid_shadow_name(i), s->counts[i]);
        }

        ngx_http_hybrid_out(out, "}}");
    }

    ngx_http_hybrid_out(out, "],\n");
}


void
ngx_http_hybrid_prom_shadow(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out)
{
    ngx_uint_t                   n, i;
    ngx_array_t                 *shadowed;
    ngx_http_hybrid_shadowed_t  *s;

    ngx_http_hybrid_out(out,
        "# HELP ngx_hybrid_shadowed_total Requests that would have been "
        "refused but for hybrid_shadow.\n"
        "# TYPE ngx_hybrid_shadowed_total counter\n");

    shadowed = ngx_http_hybrid_shadowed(view);

    for (n = 0; shadowed && n < shadowed->nelts; n++) {
        s = (ngx_http_hybrid_shadowed_t *) shadowed->elts + n;

        for (i = 0; i < ngx_hybrid_shadow_n; i++) {

            if (s->counts[i] == 0) {
                continue;
            }

            ngx_http_hybrid_out(out,
                "ngx_hybrid_shadowed_total{client=\"%V\",reason=\"%V\","
                "scope=\"%s\"} %uL\n", s->client,
                ngx_http_hybrid_shadow_name(i),
                ngx_http_hybrid_view_scope(view), s->counts[i]);
        }
    }
}


/* NULL: no memory, and so nothing is shown */

static ngx_array_t *
ngx_http_hybrid_shadowed(ngx_http_hybrid_view_t *view)
{
    ngx_uint_t                   n, i;
    ngx_array_t                 *shadowed;
    uint64_t                    *counts;
    ngx_http_hybrid_row_t       *rows;
    ngx_http_hybrid_shadowed_t  *s;

    shadowed = ngx_array_create(view->request->pool, 8,
                                sizeof(ngx_http_hybrid_shadowed_t));
    if (shadowed == NULL) {
        return NULL;
    }

    rows = view->rows.elts;

    for (n = 0; n < view->rows.nelts; n++) {
        counts = rows[n].sum->counts + NGX_HYBRID_COUNT_SHADOWED;
        s = NULL;

        for (i = 0; i < ngx_hybrid_shadow_n; i++) {

            if (counts[i] == 0) {
                continue;
            }

            if (s == NULL) {
                s = ngx_http_hybrid_shadowed_client(shadowed,
                                                    &rows[n].client);
                if (s == NULL) {
                    return NULL;
                }
            }

            s->counts[i] += counts[i];
        }
    }

    return shadowed;
}


static ngx_http_hybrid_shadowed_t *
ngx_http_hybrid_shadowed_client(ngx_array_t *shadowed, ngx_str_t *client)
{
    ngx_uint_t                   n;
    ngx_http_hybrid_shadowed_t  *s;

    s = shadowed->elts;

    for (n = 0; n < shadowed->nelts; n++) {
        if (s[n].client->len == client->len
            && ngx_memcmp(s[n].client->data, client->data, client->len) == 0)
        {
            return &s[n];
        }
    }

    s = ngx_array_push(shadowed);
    if (s == NULL) {
        return NULL;
    }

    ngx_memzero(s, sizeof(ngx_http_hybrid_shadowed_t));
    s->client = client;

    return s;
}
