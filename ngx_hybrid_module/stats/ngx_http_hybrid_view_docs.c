
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Documents that are got in the background, in status pages: what is known,
 * how old it is, and why there is nothing newer.
 */


#include "ngx_http_hybrid_stats.h"


static void ngx_http_hybrid_json_revoked(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out);
static void ngx_http_hybrid_prom_revoked(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out);


void
ngx_http_hybrid_json_docs(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out)
{
    ngx_http_hybrid_json_revoked(view, out);
    ngx_http_hybrid_json_fetched(view, out);
}


static void
ngx_http_hybrid_json_revoked(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out)
{
    ngx_http_hybrid_revoke_state_t  state;

    if (ngx_http_hybrid_revoke_state(view->conf, &state) != NGX_OK) {
        return;
    }

    ngx_http_hybrid_out(out, "\"revocations\":{\"known\":%s,\"entries\":%ui,"
                        "\"age\":%.3f,\"error\":",
                        state.known ? "true" : "false", state.entries,
                        (double) state.age / 1000);

    if (state.nerror) {
        ngx_http_hybrid_out(out, "\"%*s\"},\n", state.nerror, state.error);

    } else {
        ngx_http_hybrid_out(out, "null},\n");
    }
}


void
ngx_http_hybrid_prom_docs(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out)
{
    ngx_http_hybrid_prom_revoked(view, out);
    ngx_http_hybrid_prom_fetched(view, out);
}


static void
ngx_http_hybrid_prom_revoked(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out)
{
    ngx_http_hybrid_revoke_state_t  state;

    if (ngx_http_hybrid_revoke_state(view->conf, &state) != NGX_OK) {
        return;
    }

    ngx_http_hybrid_out(out,
        "# HELP ngx_hybrid_revocations Revocations in force in this "
        "gateway.\n"
        "# TYPE ngx_hybrid_revocations gauge\n"
        "ngx_hybrid_revocations %ui\n", state.entries);

    ngx_http_hybrid_out(out,
        "# HELP ngx_hybrid_revocations_age_seconds Time since Redis was "
        "asked for revocations with success, or since the start.\n"
        "# TYPE ngx_hybrid_revocations_age_seconds gauge\n"
        "ngx_hybrid_revocations_age_seconds %.3f\n",
        (double) state.age / 1000);
}
