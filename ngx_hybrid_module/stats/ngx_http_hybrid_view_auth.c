
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Failures to authenticate, of this gateway alone.
 */


#include "ngx_http_hybrid_stats.h"


static ngx_str_t  ngx_http_hybrid_failure_names[] = {
    ngx_string("missing"),
    ngx_string("malformed"),
    ngx_string("invalid"),
    ngx_string("expired"),
    ngx_string("revoked")
};


void
ngx_http_hybrid_json_auth(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out)
{
    ngx_uint_t            i;
    ngx_hybrid_shm_sh_t  *sh;

    sh = view->conf->shm->sh;

    ngx_http_hybrid_out(out, "\"authentication\":{\"failures\":{");

    for (i = 0; i < ngx_hybrid_failure_n; i++) {
        ngx_http_hybrid_out(out, "%s\"%V\":%uA", i ? "," : "",
                            &ngx_http_hybrid_failure_names[i],
                            sh->failures[i]);
    }

    ngx_http_hybrid_out(out, "},\"slowed\":%uA},\n", sh->slowed);
}


void
ngx_http_hybrid_prom_auth(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out)
{
    ngx_uint_t            i;
    ngx_hybrid_shm_sh_t  *sh;

    sh = view->conf->shm->sh;

    ngx_http_hybrid_out(out,
        "# HELP ngx_hybrid_authentication_failures_total Requests that "
        "could not be authenticated, in this gateway.\n"
        "# TYPE ngx_hybrid_authentication_failures_total counter\n");

    for (i = 0; i < ngx_hybrid_failure_n; i++) {
        ngx_http_hybrid_out(out,
            "ngx_hybrid_authentication_failures_total{reason=\"%V\"} %uA\n",
            &ngx_http_hybrid_failure_names[i], sh->failures[i]);
    }

    ngx_http_hybrid_out(out,
        "# HELP ngx_hybrid_authentication_slowed_total Those whose answer "
        "had to wait.\n"
        "# TYPE ngx_hybrid_authentication_slowed_total counter\n"
        "ngx_hybrid_authentication_slowed_total %uA\n", sh->slowed);
}
