
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Documents that are fetched, as they are shown: how old they are and what
 * is wrong with them.  A list of JSON for each kind, and gauges.
 */


#include "ngx_http_hybrid_stats.h"
#include "ngx_http_hybrid_issuer.h"
#include "ngx_http_hybrid_gce.h"


static void ngx_http_hybrid_view_doc(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out, ngx_hybrid_doc_t *doc);
static ngx_uint_t ngx_http_hybrid_view_age(ngx_hybrid_doc_t *doc);
static ngx_uint_t ngx_http_hybrid_view_left(ngx_http_hybrid_gce_t *gce,
    ngx_log_t *log);
static void ngx_http_hybrid_view_text(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out, ngx_str_t *text);


void
ngx_http_hybrid_json_fetched(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out)
{
    ngx_log_t                  *log;
    ngx_uint_t                  i;
    ngx_http_hybrid_gce_t     **gces;
    ngx_http_hybrid_issuer_t  **issuers;

    log = view->request->connection->log;
    issuers = view->conf->issuers.elts;

    ngx_http_hybrid_out(out, "\"issuers\":[");

    for (i = 0; i < view->conf->issuers.nelts; i++) {

        ngx_http_hybrid_issuer_follow(issuers[i], view->conf->shm, log);

        ngx_http_hybrid_out(out, "%s{\"name\":\"%V\",\"jwks\":\"",
                            i ? ",\n" : "\n", &issuers[i]->name);
        ngx_http_hybrid_view_text(view, out, &issuers[i]->jwks);
        ngx_http_hybrid_out(out, "\",\"keys\":%ui",
                            issuers[i]->keys ? issuers[i]->keys->nkeys : 0);

        if (issuers[i]->doc) {
            ngx_http_hybrid_view_doc(view, out, issuers[i]->doc);
        }

        ngx_http_hybrid_out(out, "}");
    }

    ngx_http_hybrid_out(out, "],\n\"access_tokens\":[");

    gces = view->conf->gces.elts;

    for (i = 0; i < view->conf->gces.nelts; i++) {

        ngx_http_hybrid_out(out, "%s{\"metadata\":\"", i ? ",\n" : "\n");
        ngx_http_hybrid_view_text(view, out, &gces[i]->server);
        ngx_http_hybrid_out(out, "\",\"account\":\"%V\","
                            "\"expires_in_seconds\":%ui", &gces[i]->account,
                            ngx_http_hybrid_view_left(gces[i], log));
        ngx_http_hybrid_view_doc(view, out, gces[i]->getter->doc);
        ngx_http_hybrid_out(out, "}");
    }

    ngx_http_hybrid_out(out, "],\n");
}


static void
ngx_http_hybrid_view_doc(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out, ngx_hybrid_doc_t *doc)
{
    u_char          buf[NGX_HYBRID_DOC_ERROR];
    ngx_str_t       error;
    ngx_msec_int_t  next;

    if (doc->len) {
        ngx_http_hybrid_out(out, ",\"age_seconds\":%ui",
                            ngx_http_hybrid_view_age(doc));

    } else {
        ngx_http_hybrid_out(out, ",\"age_seconds\":null");
    }

    next = (ngx_msec_int_t) (doc->due - ngx_current_msec);

    error.data = buf;
    error.len = ngx_hybrid_doc_error(view->conf->shm, doc, buf);

    ngx_http_hybrid_out(out, ",\"failures\":%uA,\"next_seconds\":%i,"
                        "\"error\":\"", doc->failures,
                        (ngx_int_t) (next > 0 ? (next + 999) / 1000 : 0));
    ngx_http_hybrid_view_text(view, out, &error);
    ngx_http_hybrid_out(out, "\"");
}


static ngx_uint_t
ngx_http_hybrid_view_age(ngx_hybrid_doc_t *doc)
{
    ngx_msec_int_t  age;

    age = (ngx_msec_int_t) (ngx_current_msec - doc->loaded);

    return age > 0 ? (ngx_uint_t) age / 1000 : 0;
}


static ngx_uint_t
ngx_http_hybrid_view_left(ngx_http_hybrid_gce_t *gce, ngx_log_t *log)
{
    if (!ngx_http_hybrid_gce_valid(gce, log)) {
        return 0;
    }

    return (gce->expires - ngx_current_msec) / 1000;
}


static void
ngx_http_hybrid_view_text(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out, ngx_str_t *text)
{
    u_char     *p;
    ngx_str_t   escaped;

    p = ngx_pnalloc(view->request->pool, 6 * text->len + 1);
    if (p == NULL) {
        return;
    }

    escaped.data = p;
    escaped.len = (u_char *) ngx_escape_json(p, text->data, text->len) - p;

    ngx_http_hybrid_out(out, "%V", &escaped);
}


void
ngx_http_hybrid_prom_fetched(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out)
{
    ngx_log_t                  *log;
    ngx_uint_t                  i, n;
    ngx_http_hybrid_gce_t     **gces;
    ngx_http_hybrid_issuer_t  **issuers;

    static const char  *heads[] = {
        "# HELP ngx_hybrid_jwks_keys Keys that tokens of an issuer are "
        "verified with.\n"
        "# TYPE ngx_hybrid_jwks_keys gauge\n",
        "# HELP ngx_hybrid_jwks_age_seconds Since an issuer's key set was "
        "confirmed.\n"
        "# TYPE ngx_hybrid_jwks_age_seconds gauge\n",
        "# HELP ngx_hybrid_jwks_failures Fetches of a key set that failed in "
        "a row.\n"
        "# TYPE ngx_hybrid_jwks_failures gauge\n"
    };

    log = view->request->connection->log;
    issuers = view->conf->issuers.elts;

    for (n = 0; n < 3 && view->conf->issuers.nelts; n++) {

        ngx_http_hybrid_out(out, "%s", heads[n]);

        for (i = 0; i < view->conf->issuers.nelts; i++) {

            if (n == 0) {
                ngx_http_hybrid_issuer_follow(issuers[i], view->conf->shm,
                                              log);
                ngx_http_hybrid_out(out,
                    "ngx_hybrid_jwks_keys{issuer=\"%V\"} %ui\n",
                    &issuers[i]->name,
                    (issuers[i]->keys ? issuers[i]->keys->nkeys : 0)
                    + issuers[i]->secrets.nelts);

            } else if (issuers[i]->doc && n == 2) {
                ngx_http_hybrid_out(out,
                    "ngx_hybrid_jwks_failures{issuer=\"%V\"} %uA\n",
                    &issuers[i]->name, issuers[i]->doc->failures);

            } else if (issuers[i]->doc && issuers[i]->doc->len) {
                ngx_http_hybrid_out(out,
                    "ngx_hybrid_jwks_age_seconds{issuer=\"%V\"} %ui\n",
                    &issuers[i]->name,
                    ngx_http_hybrid_view_age(issuers[i]->doc));
            }
        }
    }

    if (view->conf->gces.nelts == 0) {
        return;
    }

    ngx_http_hybrid_out(out,
        "# HELP ngx_hybrid_access_token_expires_seconds Until an access "
        "token ends, 0 without one.\n"
        "# TYPE ngx_hybrid_access_token_expires_seconds gauge\n");

    gces = view->conf->gces.elts;

    for (i = 0; i < view->conf->gces.nelts; i++) {
        ngx_http_hybrid_out(out,
            "ngx_hybrid_access_token_expires_seconds{metadata=\"%V\","
            "account=\"%V\"} %ui\n",
            &gces[i]->server, &gces[i]->account,
            ngx_http_hybrid_view_left(gces[i], log));
    }
}
