
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * The operator's levers, as hybrid_admin shows and takes them: what is said
 * here holds in this gateway before it is answered, and in Redis, for the
 * others, if that answers in time.
 */


#include "ngx_http_hybrid_admin.h"


#define NGX_HTTP_HYBRID_LEVER_BACKEND  0
#define NGX_HTTP_HYBRID_LEVER_PATH     1
#define NGX_HTTP_HYBRID_LEVER_STATE    2
#define NGX_HTTP_HYBRID_LEVER_REASON   3

/* msec between looks whether Redis has it */
#define NGX_HTTP_HYBRID_LEVER_LOOK     10

/* of the fixed text of a row, and what may become twice as long in JSON */
#define NGX_HTTP_HYBRID_LEVER_ROW                                             \
    (512 + NGX_HYBRID_LEVER_FIELD                                             \
     + 2 * (NGX_HYBRID_LEVER_WHO + NGX_HYBRID_LEVER_WHY))


typedef struct {
    ngx_http_hybrid_admin_t     *admin;
    u_char                      *pos;
    u_char                      *end;
    ngx_uint_t                   rows;
} ngx_http_hybrid_lever_view_t;


static ngx_http_hybrid_backend_t *ngx_http_hybrid_lever_target(
    ngx_http_hybrid_admin_t *admin, ngx_str_t *name, ngx_str_t *path);
static void ngx_http_hybrid_lever_unknown(ngx_http_hybrid_admin_t *admin,
    ngx_http_hybrid_backend_t *backend, ngx_str_t *name);
static void ngx_http_hybrid_lever_log(ngx_http_hybrid_admin_t *admin);
static ngx_int_t ngx_http_hybrid_lever_wait(ngx_http_hybrid_admin_t *admin);
static void ngx_http_hybrid_lever_waited(ngx_event_t *ev);
static void ngx_http_hybrid_lever_cleanup(void *data);
static ngx_int_t ngx_http_hybrid_lever_answer(ngx_http_hybrid_admin_t *admin);
static const char *ngx_http_hybrid_lever_told(ngx_http_hybrid_admin_t *admin,
    const char **message);
static void ngx_http_hybrid_lever_rows(ngx_http_hybrid_lever_view_t *view,
    ngx_http_hybrid_backend_t *backend);
static void ngx_http_hybrid_lever_row(ngx_http_hybrid_lever_view_t *view,
    ngx_str_t *name, ngx_str_t *path, ngx_uint_t state, ngx_int_t busy,
    const char *health);
static void ngx_http_hybrid_lever_said(ngx_http_hybrid_lever_view_t *view,
    ngx_hybrid_lever_t *lever);
static void ngx_http_hybrid_lever_string(ngx_http_hybrid_lever_view_t *view,
    u_char *data, size_t len);
static const char *ngx_http_hybrid_lever_health(
    ngx_http_hybrid_backend_t *backend);


/* in the order of the numbers above */

ngx_hybrid_json_key_t  ngx_http_hybrid_lever_keys[] = {
    { ngx_string("backend"), NGX_HYBRID_LABEL_MAX, NULL, NULL, 0 },
    { ngx_string("path"), NGX_HYBRID_PATH_NAME, NULL, NULL, 0 },
    { ngx_string("state"), 16, NULL, NULL, 0 },
    { ngx_string("reason"), NGX_HYBRID_LEVER_WHY, NULL, NULL, 0 }
};


ngx_int_t
ngx_http_hybrid_lever_post(ngx_http_hybrid_admin_t *admin)
{
    ngx_str_t                     words[NGX_HTTP_HYBRID_LEVER_KEYS];
    ngx_uint_t                    i;
    ngx_hybrid_lever_e            state;
    ngx_hybrid_json_value_t      *values;
    ngx_http_hybrid_main_conf_t  *hmcf;

    values = admin->values;
    hmcf = admin->ctx->conf;

    for (i = 0; i < NGX_HTTP_HYBRID_LEVER_KEYS; i++) {
        words[i].data = values[i].data;
        words[i].len = values[i].len;
    }

    if (words[NGX_HTTP_HYBRID_LEVER_BACKEND].len == 0
        || (values[NGX_HTTP_HYBRID_LEVER_PATH].type
            && words[NGX_HTTP_HYBRID_LEVER_PATH].len == 0))
    {
        return ngx_http_hybrid_refuse(admin->ctx, NGX_HTTP_BAD_REQUEST,
                                      "invalid_body",
                                      "the name of a backend is needed, and a "
                                      "path has one, too");
    }

    if (ngx_hybrid_lever_state(&words[NGX_HTTP_HYBRID_LEVER_STATE], &state)
        != NGX_OK)
    {
        return ngx_http_hybrid_refuse(admin->ctx, NGX_HTTP_BAD_REQUEST,
                                      "invalid_body",
                                      "the state must be drain, disable or "
                                      "enable");
    }

    if (ngx_http_hybrid_lever_target(admin,
                                     &words[NGX_HTTP_HYBRID_LEVER_BACKEND],
                                     &words[NGX_HTTP_HYBRID_LEVER_PATH])
        == NULL)
    {
        return NGX_HTTP_NOT_FOUND;
    }

    if (ngx_hybrid_lever_init(&admin->lever,
                              &words[NGX_HTTP_HYBRID_LEVER_BACKEND],
                              &words[NGX_HTTP_HYBRID_LEVER_PATH], state,
                              &admin->ctx->client->name,
                              &words[NGX_HTTP_HYBRID_LEVER_REASON])
        != NGX_OK)
    {
        return ngx_http_hybrid_refuse(admin->ctx, NGX_HTTP_BAD_REQUEST,
                                      "invalid_body",
                                      "the reason must be one line of text");
    }

    if (ngx_hybrid_lever_set(hmcf->shm, &admin->lever,
                             hmcf->redis_conf != NULL)
        != NGX_OK)
    {
        ngx_log_error(NGX_LOG_ERR, admin->request->connection->log, 0,
                      "hybrid_zone has no room for a lever: make it larger");
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_http_hybrid_lever_log(admin);

    return ngx_http_hybrid_lever_wait(admin);
}


/* a name that is misspelled must not be taken for done */

static ngx_http_hybrid_backend_t *
ngx_http_hybrid_lever_target(ngx_http_hybrid_admin_t *admin, ngx_str_t *name,
    ngx_str_t *path)
{
    ngx_uint_t                     i, j;
    ngx_hybrid_path_t            **paths;
    ngx_http_hybrid_backend_t    **backends;
    ngx_http_hybrid_main_conf_t   *hmcf;

    hmcf = admin->ctx->conf;
    backends = hmcf->backends.elts;

    for (i = 0; i < hmcf->backends.nelts; i++) {

        if (backends[i]->name.len != name->len
            || ngx_memcmp(backends[i]->name.data, name->data, name->len) != 0)
        {
            continue;
        }

        if (path->len == 0) {
            return backends[i];
        }

        paths = backends[i]->paths;

        for (j = 0; j < backends[i]->npaths; j++) {
            if (paths[j]->nname == path->len
                && ngx_memcmp(paths[j]->name, path->data, path->len) == 0)
            {
                return backends[i];
            }
        }

        ngx_http_hybrid_lever_unknown(admin, backends[i], path);
        return NULL;
    }

    ngx_http_hybrid_lever_unknown(admin, NULL, name);

    return NULL;
}


static void
ngx_http_hybrid_lever_unknown(ngx_http_hybrid_admin_t *admin,
    ngx_http_hybrid_backend_t *backend, ngx_str_t *name)
{
    u_char                       *p, *last, buf[1024];
    ngx_uint_t                    i, n;
    ngx_hybrid_path_t            *path;
    ngx_http_hybrid_backend_t   **backends;

    p = buf;
    last = buf + sizeof(buf);

    backends = admin->ctx->conf->backends.elts;
    n = backend ? backend->npaths : admin->ctx->conf->backends.nelts;

    for (i = 0; i < n; i++) {

        if (backend) {
            path = backend->paths[i];
            p = ngx_slprintf(p, last, " %*s", (size_t) path->nname,
                             path->name);
        } else {
            p = ngx_slprintf(p, last, " %V", &backends[i]->name);
        }
    }

    (void) ngx_http_hybrid_admin_refuse(admin, NGX_HTTP_NOT_FOUND,
                                        "unknown_name",
                                        "%s \"%V\" is not known; there is:%*s",
                                        backend ? "path" : "backend", name,
                                        (size_t) (p - buf), buf);
}


static void
ngx_http_hybrid_lever_log(ngx_http_hybrid_admin_t *admin)
{
    ngx_hybrid_lever_t  *lever;

    lever = &admin->lever;

    ngx_log_error(NGX_LOG_NOTICE, admin->request->connection->log, 0,
                  "lever of \"%*s\" is now \"%V\": set by client \"%V\"%s%*s",
                  (size_t) lever->nfield, lever->field,
                  ngx_hybrid_lever_word(lever->state),
                  &admin->ctx->client->name, lever->nwhy ? ": " : "",
                  (size_t) lever->nwhy, lever->why);
}


/* the word may come with the turn of another worker */

static ngx_int_t
ngx_http_hybrid_lever_wait(ngx_http_hybrid_admin_t *admin)
{
    ngx_pool_cleanup_t           *cln;
    ngx_http_hybrid_main_conf_t  *hmcf;

    hmcf = admin->ctx->conf;

    if (hmcf->redis == NULL || !ngx_hybrid_redis_available(hmcf->redis)) {
        return ngx_http_hybrid_lever_answer(admin);
    }

    ngx_http_hybrid_lever_tell(hmcf);

    cln = ngx_pool_cleanup_add(admin->request->pool, 0);
    if (cln == NULL) {
        return ngx_http_hybrid_lever_answer(admin);
    }

    cln->handler = ngx_http_hybrid_lever_cleanup;
    cln->data = admin;

    admin->until = ngx_current_msec + 2 * hmcf->redis_conf->timeout + 100;

    admin->wait.handler = ngx_http_hybrid_lever_waited;
    admin->wait.data = admin;
    admin->wait.log = admin->request->connection->log;

    ngx_add_timer(&admin->wait, NGX_HTTP_HYBRID_LEVER_LOOK);

    return NGX_AGAIN;
}


static void
ngx_http_hybrid_lever_waited(ngx_event_t *ev)
{
    ngx_http_hybrid_admin_t  *admin = ev->data;

    ngx_str_t            field;
    ngx_connection_t    *c;
    ngx_hybrid_lever_t   lever;

    c = admin->request->connection;

    field.data = admin->lever.field;
    field.len = admin->lever.nfield;

    if (ngx_hybrid_lever_get(admin->ctx->conf->shm, &field, &lever) == NGX_OK
        && lever.unsaved
        && (ngx_msec_int_t) (admin->until - ngx_current_msec) > 0
        && !ngx_exiting)
    {
        /* another worker's turn may have begun before this was said */

        ngx_http_hybrid_lever_tell(admin->ctx->conf);
        ngx_add_timer(ev, NGX_HTTP_HYBRID_LEVER_LOOK);
        return;
    }

    ngx_http_hybrid_admin_done(admin, ngx_http_hybrid_lever_answer(admin));

    ngx_http_run_posted_requests(c);
}


static void
ngx_http_hybrid_lever_cleanup(void *data)
{
    ngx_http_hybrid_admin_t  *admin = data;

    if (admin->wait.timer_set) {
        ngx_del_timer(&admin->wait);
    }
}


static ngx_int_t
ngx_http_hybrid_lever_answer(ngx_http_hybrid_admin_t *admin)
{
    size_t                         size;
    ngx_str_t                      field;
    const char                    *told, *message;
    ngx_hybrid_lever_t            *lever;
    ngx_http_hybrid_lever_view_t   view;

    lever = &admin->lever;
    size = NGX_HTTP_HYBRID_LEVER_ROW + 512;

    view.admin = admin;
    view.pos = ngx_pnalloc(admin->request->pool, size);

    if (view.pos == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    view.end = view.pos + size;
    admin->answer.data = view.pos;

    /* what holds now: somebody else may have spoken since */

    field.data = lever->field;
    field.len = lever->nfield;

    (void) ngx_hybrid_lever_get(admin->ctx->conf->shm, &field, lever);

    told = ngx_http_hybrid_lever_told(admin, &message);

    if (admin->text) {
        view.pos = ngx_slprintf(view.pos, view.end, "%V\t%*s\t%s\t%s\n",
                                ngx_hybrid_lever_word(lever->state),
                                (size_t) lever->nwho, lever->who, told,
                                message);

    } else {
        view.pos = ngx_slprintf(view.pos, view.end, "{\"name\":");
        ngx_http_hybrid_lever_string(&view, lever->field, lever->nfield);
        view.pos = ngx_slprintf(view.pos, view.end, ",\"state\":\"%V\"",
                                ngx_hybrid_lever_word(lever->state));
        ngx_http_hybrid_lever_said(&view, lever);
        view.pos = ngx_slprintf(view.pos, view.end,
                                ",\"redis\":\"%s\",\"message\":\"%s\"}\n",
                                told, message);
    }

    admin->answer.len = view.pos - admin->answer.data;

    return NGX_OK;
}


static const char *
ngx_http_hybrid_lever_told(ngx_http_hybrid_admin_t *admin,
    const char **message)
{
    if (admin->ctx->conf->redis_conf == NULL) {
        *message = "it holds in this gateway, there is no Redis for others";
        return "none";
    }

    if (admin->lever.unsaved) {
        *message = "it holds in this gateway; the others don't know so far: "
                   "Redis is away and will be told as soon as it is back";
        return "away";
    }

    *message = "it holds in this gateway, and in the others within a second";
    return "ok";
}


ngx_int_t
ngx_http_hybrid_lever_get(ngx_http_hybrid_admin_t *admin)
{
    size_t                          size;
    ngx_uint_t                      i;
    ngx_http_hybrid_backend_t     **backends;
    ngx_http_hybrid_main_conf_t    *hmcf;
    ngx_http_hybrid_lever_view_t    view;

    static const char  *redis[] = { "none", "ok", "away" };

    hmcf = admin->ctx->conf;
    backends = hmcf->backends.elts;
    size = 256;

    for (i = 0; i < hmcf->backends.nelts; i++) {
        size += (1 + backends[i]->npaths) * NGX_HTTP_HYBRID_LEVER_ROW;
    }

    view.admin = admin;
    view.rows = 0;
    view.pos = ngx_pnalloc(admin->request->pool, size);

    if (view.pos == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    view.end = view.pos + size;
    admin->answer.data = view.pos;

    if (!admin->text) {
        view.pos = ngx_slprintf(view.pos, view.end,
                                "{\"redis\":\"%s\",\"levers\":[",
                                redis[ngx_http_hybrid_lever_redis(hmcf)]);
    }

    for (i = 0; i < hmcf->backends.nelts; i++) {
        ngx_http_hybrid_lever_rows(&view, backends[i]);
    }

    if (!admin->text) {
        view.pos = ngx_slprintf(view.pos, view.end, "\n]}\n");
    }

    admin->answer.len = view.pos - admin->answer.data;

    return NGX_OK;
}


static void
ngx_http_hybrid_lever_rows(ngx_http_hybrid_lever_view_t *view,
    ngx_http_hybrid_backend_t *backend)
{
    ngx_str_t            name;
    ngx_uint_t           i, n;
    const char          *health;
    ngx_hybrid_path_t   *path;

    static ngx_str_t  none = ngx_string("");

    ngx_http_hybrid_lever_row(view, &backend->name, &none,
                              backend->health->lever,
                              ngx_hybrid_health_busy(backend->health),
                              ngx_http_hybrid_lever_health(backend));

    n = backend->npaths;

    for (i = 0; i < n; i++) {
        path = backend->paths[i];

        name.data = path->name;
        name.len = path->nname;

        health = path->down ? "down" : path->slow ? "slow" : "up";

        ngx_http_hybrid_lever_row(view, &backend->name, &name, path->lever,
                                  -1, health);
    }
}


static void
ngx_http_hybrid_lever_row(ngx_http_hybrid_lever_view_t *view, ngx_str_t *name,
    ngx_str_t *path, ngx_uint_t state, ngx_int_t busy, const char *health)
{
    u_char              *p, buf[NGX_HYBRID_LEVER_FIELD];
    ngx_str_t            field, *word;
    ngx_hybrid_lever_t   lever;

    p = ngx_cpymem(buf, name->data, name->len);

    if (path->len) {
        *p++ = '|';
        p = ngx_cpymem(p, path->data, path->len);
    }

    field.data = buf;
    field.len = p - buf;

    if (ngx_hybrid_lever_get(view->admin->ctx->conf->shm, &field, &lever)
        != NGX_OK)
    {
        lever.stamp = 0;
    }

    word = ngx_hybrid_lever_word(state);

    if (view->admin->text) {
        view->pos = ngx_slprintf(view->pos, view->end, "%V%s%V\t%V\t",
                                 name, path->len ? "/" : "", path, word);

        view->pos = (busy < 0)
                    ? ngx_slprintf(view->pos, view->end, "-\t%s", health)
                    : ngx_slprintf(view->pos, view->end, "%i\t%s", busy,
                                   health);

        ngx_http_hybrid_lever_said(view, lever.stamp ? &lever : NULL);

        view->pos = ngx_slprintf(view->pos, view->end, "\n");
        return;
    }

    view->pos = ngx_slprintf(view->pos, view->end, "%s\n{\"backend\":\"%V\"",
                             view->rows++ ? "," : "", name);

    if (path->len) {
        view->pos = ngx_slprintf(view->pos, view->end, ",\"path\":");
        ngx_http_hybrid_lever_string(view, path->data, path->len);
    }

    view->pos = ngx_slprintf(view->pos, view->end,
                             ",\"state\":\"%V\",\"health\":\"%s\"", word,
                             health);

    if (busy >= 0) {
        view->pos = ngx_slprintf(view->pos, view->end, ",\"in_flight\":%i",
                                 busy);
    }

    if (lever.stamp) {
        ngx_http_hybrid_lever_said(view, &lever);
    }

    view->pos = ngx_slprintf(view->pos, view->end, "}");
}


/* NULL: nobody has said anything */

static void
ngx_http_hybrid_lever_said(ngx_http_hybrid_lever_view_t *view,
    ngx_hybrid_lever_t *lever)
{
    u_char      at[sizeof("2026-01-01T00:00:00Z")], *p;
    ngx_tm_t    tm;

    if (lever == NULL) {
        view->pos = ngx_slprintf(view->pos, view->end, "\t-\t-\t");
        return;
    }

    ngx_gmtime((time_t) (lever->stamp / 1000), &tm);

    p = ngx_slprintf(at, at + sizeof(at), "%4d-%02d-%02dT%02d:%02d:%02dZ",
                     tm.ngx_tm_year, tm.ngx_tm_mon, tm.ngx_tm_mday,
                     tm.ngx_tm_hour, tm.ngx_tm_min, tm.ngx_tm_sec);

    if (view->admin->text) {
        view->pos = ngx_slprintf(view->pos, view->end, "\t%*s\t%*s\t%*s",
                                 (size_t) lever->nwho, lever->who,
                                 (size_t) (p - at), at,
                                 (size_t) lever->nwhy, lever->why);
        return;
    }

    view->pos = ngx_slprintf(view->pos, view->end, ",\"by\":");
    ngx_http_hybrid_lever_string(view, lever->who, lever->nwho);

    view->pos = ngx_slprintf(view->pos, view->end,
                             ",\"at\":\"%*s\",\"reason\":",
                             (size_t) (p - at), at);
    ngx_http_hybrid_lever_string(view, lever->why, lever->nwhy);

    if (lever->unsaved) {
        view->pos = ngx_slprintf(view->pos, view->end, ",\"unsaved\":true");
    }
}


/* control characters were refused: only quotes and backslashes get longer */

static void
ngx_http_hybrid_lever_string(ngx_http_hybrid_lever_view_t *view, u_char *data,
    size_t len)
{
    *view->pos++ = '"';
    view->pos = (u_char *) ngx_escape_json(view->pos, data, len);
    *view->pos++ = '"';
}


static const char *
ngx_http_hybrid_lever_health(ngx_http_hybrid_backend_t *backend)
{
    ngx_uint_t  i;

    if (ngx_hybrid_health_blocked(backend->health)) {
        return "blocked";
    }

    if (backend->health->wedged) {
        return "wedged";
    }

    for (i = 0; i < backend->npaths; i++) {
        if (!backend->paths[i]->down) {
            return "up";
        }
    }

    return backend->npaths ? "down" : "up";
}


/* why there is nobody left to ask: an operator wants it so */

ngx_uint_t
ngx_http_hybrid_lever_drained(ngx_http_hybrid_ctx_t *ctx)
{
    ngx_uint_t  i;

    for (i = 0; i < ctx->ncandidates; i++) {
        if (ctx->candidates[i].backend->health->lever
            == ngx_hybrid_lever_enabled)
        {
            return 0;
        }
    }

    return ctx->ncandidates != 0;
}
