
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Clients that worked and do not any more, and credentials that end soon.
 *
 * Who is refused has not proved who he is: that a token's id is known, or
 * that the issuer's signature holds, is enough to say which client is meant,
 * and for nothing else.
 */


#include "ngx_http_hybrid_anomaly.h"


/* refusals since a client has worked that are no accident */
#define NGX_HTTP_HYBRID_ANOMALY_REFUSALS  3

/* of a wrong secret more: whoever knows the id can have these */
#define NGX_HTTP_HYBRID_ANOMALY_WRONG     10

/* seconds; "pause": one that works in between has not stopped working */
#define NGX_HTTP_HYBRID_ANOMALY_PAUSE     5
#define NGX_HTTP_HYBRID_ANOMALY_LATELY    600
#define NGX_HTTP_HYBRID_ANOMALY_USED      3600
#define NGX_HTTP_HYBRID_ANOMALY_PAST      86400

/* clients from Redis that are looked at */
#define NGX_HTTP_HYBRID_ANOMALY_OTHERS    1024


static void ngx_http_hybrid_anomaly_client_check(
    ngx_http_hybrid_watch_t *watch, ngx_str_t *name,
    ngx_hybrid_shm_client_t *shared, ngx_http_hybrid_client_t *client);
static void ngx_http_hybrid_anomaly_others(ngx_http_hybrid_watch_t *watch);
static void ngx_http_hybrid_anomaly_denied(ngx_http_hybrid_watch_t *watch,
    ngx_str_t *name, ngx_hybrid_shm_client_t *shared);
static u_char *ngx_http_hybrid_anomaly_hint(ngx_hybrid_shm_client_t *shared,
    u_char *p, u_char *last);
static ngx_uint_t ngx_http_hybrid_anomaly_used(
    ngx_hybrid_shm_client_t *shared, ngx_uint_t kind, time_t *until);


/* in the order of ngx_hybrid_denial_e */

static const char  *ngx_http_hybrid_anomaly_denials[] = {
    "403",
    "401",
    "a wrong secret",
    "a token that has expired",
    "a JWT that has expired",
    "a certificate that has expired"
};


void
ngx_http_hybrid_anomaly_outcome(ngx_http_hybrid_ctx_t *ctx,
    ngx_hybrid_outcome_e outcome, ngx_uint_t status)
{
    ngx_hybrid_shm_client_t  *shared;

    if (ctx->client == NULL || ctx->client->shared == NULL) {
        return;
    }

    if (outcome == ngx_hybrid_outcome_client_closed && ctx->tries == 0) {

        /* it may have been refused, or not */

        return;
    }

    if (outcome == ngx_hybrid_outcome_unauthorized) {
        ngx_http_hybrid_anomaly_refused(ctx->client,
                                        ngx_hybrid_denial_unauthorized);
        return;
    }

    if (outcome == ngx_hybrid_outcome_denied && status == NGX_HTTP_FORBIDDEN)
    {
        ngx_http_hybrid_anomaly_refused(ctx->client,
                                        ngx_hybrid_denial_forbidden);
        return;
    }

    /* whatever else became of it, it was let in; most of the time we know */

    shared = ctx->client->shared;

    if (shared->denials) {
        shared->denials = 0;
    }

    if (shared->worked != (ngx_atomic_uint_t) ngx_time()) {
        shared->worked = ngx_time();
    }
}


void
ngx_http_hybrid_anomaly_refused(ngx_http_hybrid_client_t *client,
    ngx_hybrid_denial_e why)
{
    ngx_hybrid_shm_client_t  *shared;

    shared = client->shared;

    if (shared == NULL) {
        return;
    }

    if (shared->denials == 0) {
        shared->denied_first = ngx_time();
    }

    shared->denied_last = ngx_time();
    shared->denied_why = why;

    (void) ngx_atomic_fetch_add(&shared->denials, 1);
}


/* the one that ends first, as long as it is in use */

void
ngx_http_hybrid_anomaly_credential(ngx_http_hybrid_client_t *client,
    ngx_hybrid_credential_e kind, time_t until)
{
    ngx_atomic_uint_t         ends, now;
    ngx_hybrid_shm_client_t  *shared;

    shared = client->shared;

    if (shared == NULL) {
        return;
    }

    now = ngx_time();
    ends = until;

    if (shared->ends[kind] == ends) {

        if (now - shared->ends_seen[kind] >= 60) {
            shared->ends_seen[kind] = now;
        }

        return;
    }

    if (shared->ends[kind] == 0
        || ends < shared->ends[kind]
        || now - shared->ends_seen[kind] > NGX_HTTP_HYBRID_ANOMALY_USED)
    {
        shared->ends[kind] = ends;
        shared->ends_seen[kind] = now;
    }
}


void
ngx_http_hybrid_anomaly_clients(ngx_http_hybrid_watch_t *watch)
{
    ngx_uint_t                  i;
    ngx_http_hybrid_client_t  **clients;

    clients = watch->conf->clients.elts;

    for (i = 0; i < watch->conf->clients.nelts; i++) {
        ngx_http_hybrid_anomaly_client_check(watch, &clients[i]->name,
                                             clients[i]->shared, clients[i]);
    }

    if (watch->conf->clients_redis) {
        ngx_http_hybrid_anomaly_others(watch);
    }
}


static void
ngx_http_hybrid_anomaly_others(ngx_http_hybrid_watch_t *watch)
{
    ngx_str_t                name;
    ngx_uint_t               i, n;
    ngx_hybrid_shm_other_t  *others;

    others = ngx_alloc(NGX_HTTP_HYBRID_ANOMALY_OTHERS
                       * sizeof(ngx_hybrid_shm_other_t), watch->log);
    if (others == NULL) {
        return;
    }

    n = ngx_hybrid_shm_client_others(watch->conf->shm, others,
                                     NGX_HTTP_HYBRID_ANOMALY_OTHERS);

    for (i = 0; i < n; i++) {
        name.data = others[i].name;
        name.len = others[i].len;

        ngx_http_hybrid_anomaly_client_check(watch, &name, others[i].client,
                                             NULL);
    }

    ngx_free(others);
}


/* client: of the files, or NULL */

static void
ngx_http_hybrid_anomaly_client_check(ngx_http_hybrid_watch_t *watch,
    ngx_str_t *name, ngx_hybrid_shm_client_t *shared,
    ngx_http_hybrid_client_t *client)
{
    time_t  until;

    ngx_http_hybrid_anomaly_denied(watch, name, shared);

    if (ngx_http_hybrid_anomaly_used(shared, ngx_hybrid_credential_token,
                                     &until))
    {
        ngx_http_hybrid_anomaly_expires(watch, ngx_hybrid_anomaly_client,
                                        name, "a token that it uses", until);
        return;
    }

    if (ngx_http_hybrid_anomaly_used(shared, ngx_hybrid_credential_cert,
                                     &until))
    {
        ngx_http_hybrid_anomaly_expires(watch, ngx_hybrid_anomaly_client,
                                        name, "a certificate that it uses",
                                        until);
        return;
    }

    /* used or not, there is nothing that holds longer */

    if (client && client->nending == client->ncredentials
        && client->ends - ngx_time() <= NGX_HTTP_HYBRID_ANOMALY_EXPIRES)
    {
        ngx_http_hybrid_anomaly_expires(watch, ngx_hybrid_anomaly_client,
                                        name, "its last token", client->ends);
    }
}


static void
ngx_http_hybrid_anomaly_denied(ngx_http_hybrid_watch_t *watch,
    ngx_str_t *name, ngx_hybrid_shm_client_t *shared)
{
    u_char                hint[NGX_HYBRID_ANOMALY_TEXT], *p;
    ngx_uint_t            why;
    ngx_atomic_uint_t     n;
    ngx_hybrid_anomaly_t  anomaly;

    n = shared->denials;
    why = ngx_min(shared->denied_why, ngx_hybrid_denial_n - 1);

    if (shared->worked == 0
        || n < (why == ngx_hybrid_denial_secret
                ? NGX_HTTP_HYBRID_ANOMALY_WRONG
                : NGX_HTTP_HYBRID_ANOMALY_REFUSALS)
        || (time_t) shared->denied_last - (time_t) shared->worked
           < NGX_HTTP_HYBRID_ANOMALY_PAUSE
        || ngx_time() - (time_t) shared->denied_last
           > NGX_HTTP_HYBRID_ANOMALY_LATELY)
    {
        return;
    }

    ngx_memzero(&anomaly, sizeof(ngx_hybrid_anomaly_t));

    anomaly.kind = ngx_hybrid_anomaly_client_refused;
    anomaly.labels[ngx_hybrid_anomaly_client] = *name;
    anomaly.since = shared->denied_first;
    anomaly.value = n * 1000;

    p = ngx_http_hybrid_anomaly_hint(shared, hint, hint + sizeof(hint));

    ngx_http_hybrid_anomaly_tell(watch, &anomaly,
                                 "it worked until %T s ago, and was refused "
                                 "%uA times since then, last for %s%*s",
                                 ngx_time() - (time_t) shared->worked, n,
                                 ngx_http_hybrid_anomaly_denials[why],
                                 (size_t) (p - hint), hint);
}


/* what may be the cause, whatever the refusals say */

static u_char *
ngx_http_hybrid_anomaly_hint(ngx_hybrid_shm_client_t *shared, u_char *p,
    u_char *last)
{
    time_t       left;
    ngx_uint_t   i;

    static const char  *names[] = { "token", "certificate" };

    for (i = 0; i < ngx_hybrid_credentials; i++) {

        if (shared->ends[i] == 0) {
            continue;
        }

        left = (time_t) shared->ends[i] - ngx_time();

        if (left <= -NGX_HTTP_HYBRID_ANOMALY_PAST) {
            continue;
        }

        if (left <= 0) {
            p = ngx_slprintf(p, last, "; a %s that it used has expired",
                             names[i]);

        } else if (left < NGX_HTTP_HYBRID_ANOMALY_EXPIRES) {
            p = ngx_slprintf(p, last, "; a %s that it used expires in %T "
                             "hours", names[i], left / 3600);
        }
    }

    return p;
}


/*
 * An old secret that nobody shows any more may end, and one that has ended is
 * no fault any more when its client works with another one, or a day later.
 */

static ngx_uint_t
ngx_http_hybrid_anomaly_used(ngx_hybrid_shm_client_t *shared,
    ngx_uint_t kind, time_t *until)
{
    time_t  seen;

    *until = shared->ends[kind];
    seen = shared->ends_seen[kind];

    return *until
           && *until - ngx_time() <= NGX_HTTP_HYBRID_ANOMALY_EXPIRES
           && ngx_time() - *until <= NGX_HTTP_HYBRID_ANOMALY_PAST
           && (time_t) shared->worked <= *until
           && ngx_min(ngx_time(), *until) - seen
              <= NGX_HTTP_HYBRID_ANOMALY_USED;
}


void
ngx_http_hybrid_anomaly_expires(ngx_http_hybrid_watch_t *watch,
    ngx_uint_t label, ngx_str_t *name, const char *what, time_t until)
{
    ngx_tm_t              tm;
    ngx_hybrid_anomaly_t  anomaly;

    ngx_gmtime(until, &tm);

    ngx_memzero(&anomaly, sizeof(ngx_hybrid_anomaly_t));

    anomaly.kind = ngx_hybrid_anomaly_credential_expires;
    anomaly.labels[label] = *name;
    anomaly.value = (int64_t) (until - ngx_time()) * 1000;

    ngx_http_hybrid_anomaly_tell(watch, &anomaly,
                                 "%s %s at %4d-%02d-%02dT%02d:%02d:%02dZ",
                                 what,
                                 until <= ngx_time() ? "expired" : "expires",
                                 tm.ngx_tm_year, tm.ngx_tm_mon,
                                 tm.ngx_tm_mday, tm.ngx_tm_hour,
                                 tm.ngx_tm_min, tm.ngx_tm_sec);
}
