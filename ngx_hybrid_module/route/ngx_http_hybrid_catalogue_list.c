
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Lists of models as they come in from backends.
 */


#include "ngx_http_hybrid_catalogue_list.h"
#include <ngx_md5.h>


/* bytes of a line beside its name and its object */
#define NGX_HTTP_HYBRID_CATALOGUE_LINE     32

#define NGX_HTTP_HYBRID_CATALOGUE_SLOTS    32768    /* > 2 * MAX + GONE */
#define NGX_HTTP_HYBRID_CATALOGUE_VERSION  64

/* msec; seconds that a model may be late to leave the memory */
#define NGX_HTTP_HYBRID_CATALOGUE_AGE      600000
#define NGX_HTTP_HYBRID_CATALOGUE_LATE     60


/* a document in the making */

typedef struct {
    u_char                    *start;
    u_char                    *pos;
    u_char                    *end;
    ngx_uint_t                 n;
    ngx_uint_t                 gone;
    time_t                     now;       /* by the backend's clock */
    ngx_str_t                  late;      /* a model, in buf */
    uint32_t                  *slots;     /* where names are + 1, 0: free */
    uint32_t                   seed;
    u_char                     buf[NGX_HYBRID_MODEL_BUF];
} ngx_http_hybrid_draft_t;


static void ngx_http_hybrid_catalogue_ps(ngx_http_hybrid_ask_t *ask,
    ngx_hybrid_fetch_t *f);
static void ngx_http_hybrid_catalogue_say(ngx_http_hybrid_ask_t *ask,
    ngx_hybrid_fetch_t *f);
static const char *ngx_http_hybrid_catalogue_list(ngx_http_hybrid_ask_t *ask,
    ngx_str_t *body, ngx_str_t *tag);
static void ngx_http_hybrid_catalogue_failed(ngx_http_hybrid_turn_t *turn);
static ngx_int_t ngx_http_hybrid_draft_open(ngx_http_hybrid_draft_t *draft,
    ngx_http_hybrid_ask_t *ask, size_t room);
static ngx_int_t ngx_http_hybrid_draft_add(void *data,
    ngx_hybrid_list_item_t *item);
static uint32_t *ngx_http_hybrid_draft_slot(ngx_http_hybrid_draft_t *draft,
    ngx_str_t *name, ngx_uint_t flags);
static void ngx_http_hybrid_draft_gone(ngx_http_hybrid_draft_t *draft,
    ngx_http_hybrid_table_t *table);
static const char *ngx_http_hybrid_draft_publish(
    ngx_http_hybrid_draft_t *draft, ngx_http_hybrid_ask_t *ask,
    ngx_hybrid_doc_t *doc, ngx_str_t *tag);
static void ngx_http_hybrid_catalogue_tag(ngx_str_t *tag, u_char *data,
    size_t len);
static ngx_uint_t ngx_http_hybrid_catalogue_same(ngx_hybrid_shm_t *shm,
    ngx_hybrid_doc_t *doc, ngx_str_t *tag);


#define NGX_HTTP_HYBRID_CATALOGUE_TAG  32


void
ngx_http_hybrid_catalogue_take(ngx_http_hybrid_ask_t *ask,
    ngx_hybrid_fetch_t *f)
{
    u_char                        buf[NGX_HYBRID_DOC_ERROR];
    u_char                        sum[NGX_HTTP_HYBRID_CATALOGUE_TAG];
    ngx_str_t                     tag, error;
    const char                   *fault;
    ngx_hybrid_doc_t             *doc;
    ngx_hybrid_shm_t             *shm;
    ngx_http_hybrid_turn_t       *turn;
    ngx_http_hybrid_backend_t    *backend;
    ngx_http_hybrid_catalogue_t  *catalogue;

    turn = ask->turn;
    backend = turn->backend;
    catalogue = backend->catalogue;
    shm = catalogue->conf->shm;
    doc = catalogue->models.doc;

    /* its paths lead to one machine, which is asked once */

    if (turn->listed) {
        return;
    }

    tag.data = sum;
    error.data = buf;

    if (f->error.len) {
        error = f->error;

    } else if (f->status != NGX_HTTP_OK) {
        error.len = ngx_sprintf(buf, "answered with status %ui", f->status)
                    - buf;

    } else {
        ngx_http_hybrid_catalogue_tag(&tag, f->body.data, f->body.len);

        if (ngx_http_hybrid_catalogue_same(shm, doc, &tag)) {
            ngx_hybrid_doc_unchanged(shm, doc, 0);
            error.len = 0;

        } else {
            fault = ngx_http_hybrid_catalogue_list(ask, &f->body, &tag);

            error.len = fault ? ngx_sprintf(buf, "%s", fault) - buf : 0;
        }

        turn->listed = (error.len == 0);
    }

    if (error.len) {

        /* another path may lead to it, and not to what answers here */

        if (turn->error.len == 0) {
            turn->error.data = ngx_pstrdup(turn->pool, &error);
            turn->error.len = turn->error.data ? error.len : 0;
        }

        if (backend->probe.uri.len == 0) {
            return;
        }
    }

    if (backend->target->ps.len == 0 || turn->asked) {
        return;
    }

    turn->asked = 1;

    (void) ngx_http_hybrid_probe_ask(turn, ask->peer, &backend->target->ps,
                                     ngx_http_hybrid_catalogue_ps);

    doc = catalogue->version.doc;

    if (ngx_hybrid_doc_turn(doc, 2 * backend->probe.timeout + 1000)
        && ngx_http_hybrid_probe_ask(turn, ask->peer,
                                     &backend->target->version,
                                     ngx_http_hybrid_catalogue_say)
           != NGX_OK)
    {
        ngx_hybrid_doc_release(doc);
    }
}


static const char *
ngx_http_hybrid_catalogue_list(ngx_http_hybrid_ask_t *ask, ngx_str_t *body,
    ngx_str_t *tag)
{
    size_t                        room;
    const char                   *fault;
    ngx_uint_t                    known;
    ngx_http_hybrid_draft_t       draft;
    ngx_http_hybrid_backend_t    *backend;
    ngx_http_hybrid_catalogue_t  *catalogue;

    backend = ask->turn->backend;
    catalogue = backend->catalogue;

    ngx_http_hybrid_table_renew(catalogue, &catalogue->models);

    /* a name stands in its object too, and may get ":latest" */

    room = 2 * body->len
           + NGX_HTTP_HYBRID_CATALOGUE_MAX * NGX_HTTP_HYBRID_CATALOGUE_LINE
           + NGX_HTTP_HYBRID_CATALOGUE_GONE
             * (NGX_HYBRID_MODEL_BUF + NGX_HTTP_HYBRID_CATALOGUE_LINE);

    if (ngx_http_hybrid_draft_open(&draft, ask, room) != NGX_OK) {
        return "no memory";
    }

    fault = ngx_hybrid_list_parse(body,
                                  backend->api == ngx_http_hybrid_api_ollama
                                  ? "models" : "data",
                                  ngx_http_hybrid_draft_add, &draft);

    if (fault == NULL) {
        known = catalogue->models.known;

        ngx_http_hybrid_draft_gone(&draft, &catalogue->models);

        fault = ngx_http_hybrid_draft_publish(&draft, ask,
                                              catalogue->models.doc, tag);
        if (fault == NULL) {
            ngx_log_error(NGX_LOG_INFO, ask->turn->prober->log, 0,
                          "backend \"%V\" %s %ui models, %ui are gone",
                          &backend->name, known ? "now has" : "has", draft.n,
                          draft.gone);
        }
    }

    ngx_free(draft.start);

    return fault;
}


static void
ngx_http_hybrid_catalogue_ps(ngx_http_hybrid_ask_t *ask,
    ngx_hybrid_fetch_t *f)
{
    u_char                        sum[NGX_HTTP_HYBRID_CATALOGUE_TAG];
    size_t                        room;
    ngx_str_t                     tag, *date;
    ngx_hybrid_doc_t             *doc;
    ngx_hybrid_shm_t             *shm;
    ngx_http_hybrid_turn_t       *turn;
    ngx_http_hybrid_draft_t       draft;
    ngx_http_hybrid_catalogue_t  *catalogue;

    turn = ask->turn;
    catalogue = turn->backend->catalogue;
    shm = catalogue->conf->shm;
    doc = catalogue->running.doc;

    /* older ones have none: that is no fault */

    if (f->error.len || f->status != NGX_HTTP_OK) {
        return;
    }

    room = 2 * f->body.len
           + NGX_HTTP_HYBRID_CATALOGUE_MAX * NGX_HTTP_HYBRID_CATALOGUE_LINE;

    if (ngx_http_hybrid_draft_open(&draft, ask, room) != NGX_OK) {
        return;
    }

    /* its clock may be wrong: what it says is compared with what it says */

    date = ngx_hybrid_fetch_find(f, "date");
    draft.now = date ? ngx_parse_http_time(date->data, date->len) : NGX_ERROR;

    if (draft.now == NGX_ERROR) {
        draft.now = ngx_time();
    }

    if (ngx_hybrid_list_parse(&f->body, "models", ngx_http_hybrid_draft_add,
                              &draft)
        != NULL)
    {
        goto done;
    }

    if (draft.late.len) {
        turn->late.data = ngx_pstrdup(turn->pool, &draft.late);
        turn->late.len = turn->late.data ? draft.late.len : 0;
    }

    tag.data = sum;
    ngx_http_hybrid_catalogue_tag(&tag, draft.start,
                                  draft.pos - draft.start);

    if (ngx_http_hybrid_catalogue_same(shm, doc, &tag)) {
        ngx_hybrid_doc_unchanged(shm, doc, 0);
        goto done;
    }

    if (ngx_http_hybrid_draft_publish(&draft, ask, doc, &tag) == NULL) {

        /* a model was loaded, or used: that is what it is busy with */

        turn->backend->health->progress = ngx_current_msec;
    }

done:

    ngx_free(draft.start);
}


static void
ngx_http_hybrid_catalogue_say(ngx_http_hybrid_ask_t *ask,
    ngx_hybrid_fetch_t *f)
{
    u_char                       *p, *last, *end;
    ngx_str_t                     text;
    ngx_hybrid_doc_t             *doc;
    ngx_hybrid_shm_t             *shm;
    ngx_http_hybrid_catalogue_t  *catalogue;
    u_char                        buf[NGX_HTTP_HYBRID_CATALOGUE_VERSION + 8];

    catalogue = ask->turn->backend->catalogue;
    shm = catalogue->conf->shm;
    doc = catalogue->version.doc;

    /* {"version":"0.12.3"}: of anything else nothing is taken */

    if (f->error.len || f->status != NGX_HTTP_OK) {
        goto none;
    }

    last = f->body.data + f->body.len;
    p = ngx_strlcasestrn(f->body.data, last, (u_char *) "\"version\"", 8);

    if (p == NULL) {
        goto none;
    }

    p = ngx_strlchr(p + sizeof("\"version\"") - 1, last, '"');

    if (p == NULL) {
        goto none;
    }

    for (end = ++p; end < last && *end != '"'; end++) {

        if (*end <= ' ' || *end >= 0x7f || *end == '\\'
            || end - p == NGX_HTTP_HYBRID_CATALOGUE_VERSION)
        {
            goto none;
        }
    }

    if (end == last) {
        goto none;
    }

    text.data = buf;
    text.len = ngx_sprintf(buf, "0 0 - %*s\n", (size_t) (end - p), p) - buf;

    if (ngx_hybrid_doc_publish(shm, doc, &text,
                               NGX_HTTP_HYBRID_CATALOGUE_AGE)
        == NGX_OK)
    {
        return;
    }

none:

    ngx_hybrid_doc_unchanged(shm, doc, NGX_HTTP_HYBRID_CATALOGUE_AGE);
}


/* what the probes of a turn say of the machine itself */

void
ngx_http_hybrid_catalogue_judge(ngx_http_hybrid_turn_t *turn)
{
    u_char                     *p, buf[NGX_HYBRID_MODEL_BUF + 128];
    ngx_str_t                   why;
    ngx_uint_t                  busy;
    ngx_msec_int_t              quiet;
    ngx_hybrid_health_t        *health;
    ngx_http_hybrid_backend_t  *backend;

    backend = turn->backend;
    health = backend->health;

    if (!turn->listed && turn->error.len) {
        ngx_http_hybrid_catalogue_failed(turn);
    }

    busy = ngx_hybrid_health_busy(health);

    if (busy == 0) {

        /* it is not asked: the next request has its own time */

        health->progress = ngx_current_msec;
    }

    if (!turn->alive) {
        return;
    }

    quiet = (ngx_msec_int_t) (ngx_current_msec - health->progress);
    p = buf;

    if (turn->late.len == 0) {
        health->late = 0;

    } else if (health->late == 0) {
        health->late = ngx_current_msec ? ngx_current_msec : 1;
    }

    /*
     * The time does not move while a request runs there, be it another
     * gateway's: only one that has passed long ago says something.
     */

    if (health->late
        && (busy == 0 || quiet > NGX_HTTP_HYBRID_CATALOGUE_LATE * 1000)
        && (ngx_msec_int_t) (ngx_current_msec - health->late)
           > (ngx_msec_int_t) backend->probe.stall)
    {
        p = ngx_slprintf(buf, buf + sizeof(buf),
                         "model \"%V\" should have left its memory by now",
                         &turn->late);

    } else if (quiet > (ngx_msec_int_t) backend->probe.stall) {
        p = ngx_slprintf(buf, buf + sizeof(buf),
                         "no byte for %ui requests since %M s", busy,
                         (ngx_msec_t) quiet / 1000);
    }

    why.data = buf;
    why.len = p - buf;

    if (why.len && health->wedged == 0) {
        health->wedged = ngx_current_msec ? ngx_current_msec : 1;
        health->changed = ngx_current_msec;

        ngx_log_error(NGX_LOG_WARN, turn->prober->log, 0,
                      "backend \"%V\" is stuck: %V", &backend->name, &why);

    } else if (why.len == 0 && health->wedged) {
        health->wedged = 0;
        health->changed = ngx_current_msec;

        ngx_log_error(NGX_LOG_NOTICE, turn->prober->log, 0,
                      "backend \"%V\" is not stuck any more",
                      &backend->name);
    }
}


static void
ngx_http_hybrid_catalogue_failed(ngx_http_hybrid_turn_t *turn)
{
    u_char                     *p;
    ngx_uint_t                  i;
    ngx_hybrid_doc_t           *doc;
    ngx_http_hybrid_backend_t  *backend;

    backend = turn->backend;
    doc = backend->catalogue->models.doc;

    /* any page may have been meant by "uri=" */

    if (backend->probe.uri.len && doc->len == 0) {
        return;
    }

    p = turn->error.data;

    for (i = 0; i < turn->error.len; i++) {
        if (p[i] < ' ' || p[i] >= 0x7f || p[i] == '"' || p[i] == '\\') {
            p[i] = '.';
        }
    }

    if (doc->failures == 0) {
        ngx_log_error(NGX_LOG_WARN, turn->prober->log, 0,
                      "models of backend \"%V\" can't be told: %V%s",
                      &backend->name, &turn->error,
                      doc->len ? ", the list from before stays" : "");
    }

    ngx_hybrid_doc_failed(turn->prober->conf->shm, doc, &turn->error, 0);
}


static ngx_int_t
ngx_http_hybrid_draft_open(ngx_http_hybrid_draft_t *draft,
    ngx_http_hybrid_ask_t *ask, size_t room)
{
    ngx_memzero(draft, sizeof(ngx_http_hybrid_draft_t));

    draft->slots = ngx_pcalloc(ask->turn->pool,
                               NGX_HTTP_HYBRID_CATALOGUE_SLOTS
                               * sizeof(uint32_t));
    if (draft->slots == NULL) {
        return NGX_ERROR;
    }

    draft->start = ngx_alloc(room, ask->turn->prober->log);
    if (draft->start == NULL) {
        return NGX_ERROR;
    }

    draft->seed = (uint32_t) ngx_random();

    draft->pos = draft->start;
    draft->end = draft->start + room;

    return NGX_OK;
}


static ngx_int_t
ngx_http_hybrid_draft_add(void *data, ngx_hybrid_list_item_t *item)
{
    ngx_http_hybrid_draft_t *draft = data;

    size_t      len;
    uint32_t   *slot;
    ngx_str_t  *name;
    ngx_uint_t  flags;

    name = &item->model.name;
    len = name->len + item->text.len + NGX_HTTP_HYBRID_CATALOGUE_LINE;

    if (draft->n == NGX_HTTP_HYBRID_CATALOGUE_MAX
        || len > (size_t) (draft->end - draft->pos))
    {
        return NGX_DONE;
    }

    flags = (item->remote || item->model.cloud)
            ? NGX_HTTP_HYBRID_ENTRY_REMOTE : 0;

    slot = ngx_http_hybrid_draft_slot(draft, name, flags);
    if (slot == NULL) {
        return NGX_OK;
    }

    draft->pos = ngx_sprintf(draft->pos, "%ui %T ", flags, item->expires);
    *slot = (uint32_t) (draft->pos - draft->start) + 1;

    draft->pos = ngx_sprintf(draft->pos, "%V ", name);
    draft->pos = ngx_hybrid_list_compact(draft->pos, &item->text);
    *draft->pos++ = LF;
    draft->n++;

    if (item->expires && draft->now && draft->late.len == 0
        && item->expires + NGX_HTTP_HYBRID_CATALOGUE_LATE < draft->now)
    {
        draft->late.data = draft->buf;
        draft->late.len = item->model.brief.len;
        ngx_memcpy(draft->buf, item->model.brief.data, draft->late.len);
    }

    return NGX_OK;
}


/*
 * NULL: the name is there already, and leaves the premises if one of both
 * does.
 */

static uint32_t *
ngx_http_hybrid_draft_slot(ngx_http_hybrid_draft_t *draft, ngx_str_t *name,
    ngx_uint_t flags)
{
    u_char      *p;
    uint32_t    *slots;
    ngx_uint_t   i;

    slots = draft->slots;

    for (i = ngx_hybrid_list_hash(name, draft->seed)
             % NGX_HTTP_HYBRID_CATALOGUE_SLOTS;
         slots[i];
         i = (i + 1) % NGX_HTTP_HYBRID_CATALOGUE_SLOTS)
    {
        p = draft->start + slots[i] - 1;

        if ((size_t) (draft->pos - p) > name->len
            && ngx_memcmp(p, name->data, name->len) == 0
            && p[name->len] == ' ')
        {
            if (flags & NGX_HTTP_HYBRID_ENTRY_REMOTE) {

                /* back to the start of its line, where the flags are */

                while (p > draft->start && p[-1] != LF) {
                    p--;
                }

                *p |= NGX_HTTP_HYBRID_ENTRY_REMOTE;
            }

            return NULL;
        }
    }

    return &slots[i];
}


/* what was on the list before: nobody may say that it never was */

static void
ngx_http_hybrid_draft_gone(ngx_http_hybrid_draft_t *draft,
    ngx_http_hybrid_table_t *table)
{
    uint32_t                 *slot;
    ngx_uint_t                i;
    ngx_http_hybrid_entry_t  *entry;

    for (i = 0; i < table->n; i++) {
        entry = &table->entries[i];

        if (draft->gone == NGX_HTTP_HYBRID_CATALOGUE_GONE
            || entry->name.len + NGX_HTTP_HYBRID_CATALOGUE_LINE
               > (size_t) (draft->end - draft->pos))
        {
            return;
        }

        slot = ngx_http_hybrid_draft_slot(draft, &entry->name, 0);
        if (slot == NULL) {
            continue;
        }

        draft->pos = ngx_sprintf(draft->pos, "%ui 0 ",
                                 entry->flags | NGX_HTTP_HYBRID_ENTRY_GONE);
        *slot = (uint32_t) (draft->pos - draft->start) + 1;

        draft->pos = ngx_sprintf(draft->pos, "%V \n", &entry->name);
        draft->gone++;
    }
}


static const char *
ngx_http_hybrid_draft_publish(ngx_http_hybrid_draft_t *draft,
    ngx_http_hybrid_ask_t *ask, ngx_hybrid_doc_t *doc, ngx_str_t *tag)
{
    ngx_str_t          text;
    ngx_hybrid_shm_t  *shm;

    shm = ask->turn->prober->conf->shm;

    text.data = draft->start;
    text.len = draft->pos - draft->start;

    /* key sets and revocations must have room, whatever a backend sends */

    if ((text.len > doc->room && !ngx_hybrid_shm_room(shm, text.len))
        || ngx_hybrid_doc_publish(shm, doc, &text, 0) != NGX_OK)
    {
        return "hybrid_zone is too small for the list";
    }

    ngx_hybrid_doc_set_tag(shm, doc, tag);

    return NULL;
}


static void
ngx_http_hybrid_catalogue_tag(ngx_str_t *tag, u_char *data, size_t len)
{
    u_char     sum[16];
    ngx_md5_t  md5;

    ngx_md5_init(&md5);
    ngx_md5_update(&md5, data, len);
    ngx_md5_final(sum, &md5);

    tag->len = NGX_HTTP_HYBRID_CATALOGUE_TAG;
    (void) ngx_hex_dump(tag->data, sum, sizeof(sum));
}


static ngx_uint_t
ngx_http_hybrid_catalogue_same(ngx_hybrid_shm_t *shm, ngx_hybrid_doc_t *doc,
    ngx_str_t *tag)
{
    u_char  buf[NGX_HYBRID_DOC_TAG];
    size_t  len;

    len = ngx_hybrid_doc_tag(shm, doc, buf);

    return len == tag->len && ngx_memcmp(buf, tag->data, len) == 0;
}
