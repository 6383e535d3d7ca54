
/*
 * Copyright (C) the ngx_hybrid_module authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include "ngx_hybrid_getter.h"


static void ngx_hybrid_getter_timer(ngx_event_t *ev);
static void ngx_hybrid_getter_age(ngx_hybrid_getter_t *g);
static void ngx_hybrid_getter_turn(ngx_hybrid_getter_t *g);
static void ngx_hybrid_getter_done(ngx_hybrid_fetch_t *f, void *data);
static ngx_int_t ngx_hybrid_getter_publish(ngx_hybrid_getter_t *g,
    ngx_hybrid_fetch_t *f, ngx_hybrid_getter_answer_t *a);
static void ngx_hybrid_getter_failed(ngx_hybrid_getter_t *g,
    ngx_str_t *error);
static void ngx_hybrid_getter_back(ngx_hybrid_getter_t *g,
    ngx_atomic_uint_t failures);
static ngx_msec_t ngx_hybrid_getter_refresh(ngx_hybrid_getter_t *g);
static ngx_uint_t ngx_hybrid_getter_tag_ok(ngx_str_t *tag);


/* msec: how often a worker looks, and the pause after the first fault */
#define NGX_HYBRID_GETTER_INTERVAL  1000
#define NGX_HYBRID_GETTER_RETRY     1000

/* a turn that was not ended in that much more than the fetch may take */
#define NGX_HYBRID_GETTER_HOLD      2000


ngx_hybrid_getter_t *
ngx_hybrid_getter_add(ngx_hybrid_getters_t *getters, ngx_conf_t *cf)
{
    ngx_hybrid_getter_t  *g, **place;

    if (getters->list.elts == NULL
        && ngx_array_init(&getters->list, cf->pool, 4, sizeof(void *))
           != NGX_OK)
    {
        return NULL;
    }

    g = ngx_pcalloc(cf->pool, sizeof(ngx_hybrid_getter_t));
    if (g == NULL) {
        return NULL;
    }

    place = ngx_array_push(&getters->list);
    if (place == NULL) {
        return NULL;
    }

    *place = g;
    g->getters = getters;

    return g;
}


void
ngx_hybrid_getters_start(ngx_hybrid_getters_t *getters, ngx_hybrid_shm_t *shm,
    ngx_cycle_t *cycle)
{
    ngx_uint_t             i;
    ngx_hybrid_getter_t  **g;

    if (getters->list.nelts == 0) {
        return;
    }

    getters->shm = shm;
    getters->log = cycle->log;

    getters->dummy.fd = (ngx_socket_t) -1;
    getters->dummy.data = getters;

    getters->timer.handler = ngx_hybrid_getter_timer;
    getters->timer.data = &getters->dummy;
    getters->timer.log = cycle->log;
    getters->timer.cancelable = 1;

    g = getters->list.elts;

    for (i = 0; i < getters->list.nelts; i++) {

        /* a reload may have brought what was missing, or a shorter time */

        if (g[i]->doc->failures || g[i]->doc->len == 0) {
            (void) ngx_hybrid_doc_want(g[i]->doc, NGX_HYBRID_GETTER_RETRY);

        } else if (g[i]->refresh) {
            ngx_hybrid_doc_within(g[i]->doc, g[i]->refresh);
        }
    }

    ngx_add_timer(&getters->timer, 1);
}


void
ngx_hybrid_getters_stop(ngx_hybrid_getters_t *getters)
{
    ngx_uint_t             i;
    ngx_hybrid_getter_t  **g;

    if (getters->timer.timer_set) {
        ngx_del_timer(&getters->timer);
    }

    g = getters->list.elts;

    for (i = 0; i < getters->list.nelts; i++) {

        if (g[i]->fetch) {
            ngx_hybrid_fetch_cancel(g[i]->fetch);
            g[i]->fetch = NULL;

            ngx_hybrid_doc_release(g[i]->doc);
        }
    }
}


void
ngx_hybrid_getter_wanted(ngx_hybrid_getter_t *g)
{
    if (g->fetch || ngx_exiting || g->getters->log == NULL) {
        return;
    }

    ngx_add_timer(&g->getters->timer, 1);
}


static void
ngx_hybrid_getter_timer(ngx_event_t *ev)
{
    ngx_uint_t             i;
    ngx_connection_t      *c;
    ngx_hybrid_getter_t  **g;
    ngx_hybrid_getters_t  *getters;

    if (ngx_exiting || ngx_terminate || ngx_quit) {
        return;
    }

    c = ev->data;
    getters = c->data;
    g = getters->list.elts;

    for (i = 0; i < getters->list.nelts; i++) {
        ngx_hybrid_getter_age(g[i]);
        ngx_hybrid_getter_turn(g[i]);
    }

    ngx_add_timer(ev, NGX_HYBRID_GETTER_INTERVAL);
}


static void
ngx_hybrid_getter_age(ngx_hybrid_getter_t *g)
{
    ngx_msec_int_t  age;

    if (g->stale == 0 || g->doc->len == 0) {
        return;
    }

    age = (ngx_msec_int_t) (ngx_current_msec - g->doc->loaded);

    if (age > (ngx_msec_int_t) g->stale
        && ngx_hybrid_doc_drop(g->getters->shm, g->doc))
    {
        ngx_log_error(NGX_LOG_ERR, g->getters->log, 0,
                      "%V: nobody has confirmed it for %M s, it is not used "
                      "any more", &g->name, (ngx_msec_t) age / 1000);
    }
}


static void
ngx_hybrid_getter_turn(ngx_hybrid_getter_t *g)
{
    u_char                   *p;
    size_t                    len;
    ngx_str_t                 error;
    ngx_hybrid_fetch_args_t   args;

    u_char  tag[NGX_HYBRID_DOC_TAG];
    u_char  headers[NGX_HYBRID_DOC_TAG + 1024];

    if (g->fetch
        || !ngx_hybrid_doc_turn(g->doc, g->timeout + NGX_HYBRID_GETTER_HOLD))
    {
        return;
    }

    ngx_memzero(&args, sizeof(ngx_hybrid_fetch_args_t));

    args.target = &g->target;
    args.max = g->max;
    args.timeout = g->timeout;
    args.handler = ngx_hybrid_getter_done;
    args.data = g;

    len = 0;

    if (g->has && g->doc->len && g->has(g->data)) {
        len = ngx_hybrid_doc_tag(g->getters->shm, g->doc, tag);
    }

    p = ngx_slprintf(headers, headers + sizeof(headers), "%V", &g->headers);

    if (len) {
        p = ngx_slprintf(p, headers + sizeof(headers),
                         "If-None-Match: %*s" CRLF, len, tag);
    }

    g->tagged = (len != 0);

    args.headers.data = headers;
    args.headers.len = p - headers;

    g->fetch = ngx_hybrid_fetch_start(&args, g->getters->log);

    if (g->fetch == NULL) {
        ngx_str_set(&error, "no memory");
        ngx_hybrid_getter_failed(g, &error);
    }
}


static void
ngx_hybrid_getter_done(ngx_hybrid_fetch_t *f, void *data)
{
    ngx_hybrid_getter_t  *g = data;

    ngx_str_t                   error;
    ngx_atomic_uint_t           failures;
    ngx_hybrid_getter_answer_t  a;

    g->fetch = NULL;

    if (f->error.len) {
        ngx_hybrid_getter_failed(g, &f->error);
        return;
    }

    failures = g->doc->failures;

    /* only what was asked for by its tag can be as it was */

    if (f->status == NGX_HTTP_NOT_MODIFIED && g->tagged && g->doc->len) {
        ngx_hybrid_doc_unchanged(g->getters->shm, g->doc,
                                 ngx_hybrid_getter_refresh(g));
        ngx_hybrid_getter_back(g, failures);
        return;
    }

    if (f->status != NGX_HTTP_OK) {
        error.data = a.error;
        error.len = ngx_sprintf(a.error, "answered with status %ui",
                                f->status)
                    - a.error;
        ngx_hybrid_getter_failed(g, &error);
        return;
    }

    a.text = f->body;
    a.next = ngx_hybrid_getter_refresh(g);

    if (g->handler(g->data, f, &a) != NGX_OK
        || ngx_hybrid_getter_publish(g, f, &a) != NGX_OK)
    {
        ngx_hybrid_getter_failed(g, &a.text);
        return;
    }

    ngx_hybrid_getter_back(g, failures);
}


static ngx_int_t
ngx_hybrid_getter_publish(ngx_hybrid_getter_t *g, ngx_hybrid_fetch_t *f,
    ngx_hybrid_getter_answer_t *a)
{
    ngx_str_t  *tag;

    if (ngx_hybrid_doc_publish(g->getters->shm, g->doc, &a->text, a->next)
        != NGX_OK)
    {
        ngx_str_set(&a->text, "no memory left in hybrid_zone");
        return NGX_ERROR;
    }

    tag = g->has ? ngx_hybrid_fetch_find(f, "etag") : NULL;

    if (tag && ngx_hybrid_getter_tag_ok(tag)) {
        ngx_hybrid_doc_set_tag(g->getters->shm, g->doc, tag);
    }

    return NGX_OK;
}


static void
ngx_hybrid_getter_failed(ngx_hybrid_getter_t *g, ngx_str_t *error)
{
    u_char             ch, buf[NGX_HYBRID_GETTER_ERROR];
    ngx_str_t          text;
    ngx_msec_t         next;
    ngx_uint_t         i, level;
    ngx_atomic_uint_t  failures;

    failures = g->doc->failures;

    /* a parser may quote what the server has sent */

    text.data = buf;
    text.len = ngx_min(error->len, NGX_HYBRID_GETTER_ERROR);

    for (i = 0; i < text.len; i++) {
        ch = error->data[i];
        buf[i] = (ch >= ' ' && ch < 0x7f) ? ch : '.';
    }

    next = (ngx_msec_t) NGX_HYBRID_GETTER_RETRY << ngx_min(failures, 12);
    next = ngx_min(next, ngx_max(g->retry, NGX_HYBRID_GETTER_RETRY));
    next -= ngx_random() % (next / 8 + 1);

    ngx_hybrid_doc_failed(g->getters->shm, g->doc, &text, next);

    level = failures ? NGX_LOG_INFO : NGX_LOG_WARN;

    ngx_log_error(level, g->getters->log, 0, "%V: %V%s", &g->name, &text,
                  g->doc->len ? ", what was got before stays" : "");
}


static void
ngx_hybrid_getter_back(ngx_hybrid_getter_t *g, ngx_atomic_uint_t failures)
{
    if (failures) {
        ngx_log_error(NGX_LOG_NOTICE, g->getters->log, 0,
                      "%V: is there again, after %uA failures", &g->name,
                      failures);
        return;
    }

    ngx_log_error(NGX_LOG_INFO, g->getters->log, 0, "%V: got", &g->name);
}


/* sooner than it is old, and not in step with other gateways */

static ngx_msec_t
ngx_hybrid_getter_refresh(ngx_hybrid_getter_t *g)
{
    return g->refresh / 10 * 9 - ngx_random() % (g->refresh / 10 + 1);
}


/* it is sent back in a header */

static ngx_uint_t
ngx_hybrid_getter_tag_ok(ngx_str_t *tag)
{
    size_t  i;

    for (i = 0; i < tag->len; i++) {
        if (tag->data[i] < ' ' || tag->data[i] >= 0x7f) {
            return 0;
        }
    }

    return tag->len <= NGX_HYBRID_DOC_TAG;
}
