
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * The minutes of an hour as JSON.  From Redis come the names of its minutes,
 * then some minutes at a time; this gateway's own of the last hour are taken
 * from shared memory.  A minute is one piece of memory, and no more of them
 * are worked on at once than take a moment.
 */


#include "ngx_http_hybrid_history.h"


/* minutes that are shown, of all gateways, and bytes of them */
#define NGX_HTTP_HYBRID_HISTORY_FIELDS  4096
#define NGX_HTTP_HYBRID_HISTORY_BYTES   (16 * 1024 * 1024)

/* minutes that are asked for at once, and bytes that they should have */
#define NGX_HTTP_HYBRID_HISTORY_FIRST   1
#define NGX_HTTP_HYBRID_HISTORY_ASK     32
#define NGX_HTTP_HYBRID_HISTORY_PART    (64 * 1024)

/* own minutes that are written at once, and their series' numbers */
#define NGX_HTTP_HYBRID_HISTORY_STEP    8
#define NGX_HTTP_HYBRID_HISTORY_CELLS   4096


typedef struct {
    uint32_t                       minute;
    ngx_str_t                      text;     /* "<minute>:<gateway>" */
    ngx_str_t                      gateway;
} ngx_http_hybrid_history_field_t;


/* outlives the request: an answer of Redis may come when it is gone */

typedef struct {
    ngx_http_request_t            *request;  /* NULL: the client has left */
    ngx_http_hybrid_main_conf_t   *conf;
    ngx_http_cleanup_t            *cleanup;
    ngx_event_t                    event;    /* the next own minutes */
    uint32_t                       hour;
    uint32_t                       since;
    ngx_array_t                    fields;
    ngx_uint_t                     next;     /* field to ask for */
    ngx_uint_t                     asked;    /* fields, from that one on */
    ngx_uint_t                     ask;      /* so many at once */
    ngx_uint_t                     segment;  /* own one to look at */
    ngx_chain_t                   *out;
    ngx_chain_t                   *end;      /* of that */
    size_t                         size;
    ngx_uint_t                     left_out;
    unsigned                       pending:1;  /* Redis will answer */
    unsigned                       all:1;      /* gateways */
    unsigned                       failed:1;   /* no memory */
} ngx_http_hybrid_history_view_t;


static ngx_int_t ngx_http_hybrid_history_number(ngx_str_t *arg,
    uint32_t max, uint32_t *n);
static ngx_int_t ngx_http_hybrid_history_wrong(ngx_http_request_t *r);
static void ngx_http_hybrid_history_detach(void *data);
static ngx_int_t ngx_http_hybrid_history_keys(
    ngx_http_hybrid_history_view_t *view);
static void ngx_http_hybrid_history_fields(void *data, redisReply *reply);
static ngx_int_t ngx_http_hybrid_history_known(
    ngx_http_hybrid_history_view_t *view, redisReply *name);
static int ngx_libc_cdecl ngx_http_hybrid_history_compare(const void *one,
    const void *two);
static ngx_int_t ngx_http_hybrid_history_ask(
    ngx_http_hybrid_history_view_t *view);
static void ngx_http_hybrid_history_texts(void *data, redisReply *reply);
static void ngx_http_hybrid_history_alone(
    ngx_http_hybrid_history_view_t *view);
static void ngx_http_hybrid_history_own(ngx_event_t *ev);
static ngx_int_t ngx_http_hybrid_history_minute(
    ngx_http_hybrid_history_view_t *view, uint32_t minute, ngx_str_t *gateway,
    ngx_str_t *text);
static void ngx_http_hybrid_history_done(
    ngx_http_hybrid_history_view_t *view);
static void ngx_http_hybrid_history_resume(ngx_http_request_t *r);
static ngx_int_t ngx_http_hybrid_history_output(ngx_http_request_t *r,
    ngx_http_hybrid_history_view_t *view);


ngx_int_t
ngx_http_hybrid_history_answer(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_str_t *hour, ngx_uint_t alone)
{
    ngx_str_t                        since;
    ngx_http_cleanup_t              *cln;
    ngx_http_hybrid_history_view_t  *view;

    /* of it, and of those that are sent with it, as events are posted */

    cln = ngx_http_cleanup_add(r, 0);
    if (cln == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    view = ngx_calloc(sizeof(ngx_http_hybrid_history_view_t), ngx_cycle->log);
    if (view == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    view->request = r;
    view->conf = ctx->conf;
    view->cleanup = cln;
    view->event.handler = ngx_http_hybrid_history_own;
    view->event.data = view;
    view->event.log = ngx_cycle->log;

    cln->handler = ngx_http_hybrid_history_detach;
    cln->data = view;

    if (ngx_http_hybrid_history_number(hour, 0xffffffff / 60, &view->hour)
        != NGX_OK
        || (ngx_http_arg(r, (u_char *) "since", 5, &since) == NGX_OK
            && ngx_http_hybrid_history_number(&since, 0xffffffff,
                                              &view->since)
               != NGX_OK))
    {
        return ngx_http_hybrid_history_wrong(r);
    }

    if (ngx_array_init(&view->fields, r->pool, 64,
                       sizeof(ngx_http_hybrid_history_field_t))
        != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    if (view->conf->redis == NULL || alone
        || ngx_http_hybrid_history_keys(view) != NGX_OK)
    {
        ngx_http_hybrid_history_alone(view);
    }

    /* our reference is kept until all of it is there */

    ctx->view = view;
    r->main->count++;
    ngx_http_hybrid_suspend(r);

    return NGX_DONE;
}


static ngx_int_t
ngx_http_hybrid_history_number(ngx_str_t *arg, uint32_t max, uint32_t *n)
{
    ngx_int_t  value;

    if (arg->len == 0 || arg->len > 10) {
        return NGX_ERROR;
    }

    value = ngx_atoi(arg->data, arg->len);

    if (value == NGX_ERROR || (uint64_t) value > max) {
        return NGX_ERROR;
    }

    *n = (uint32_t) value;

    return NGX_OK;
}


static ngx_int_t
ngx_http_hybrid_history_wrong(ngx_http_request_t *r)
{
    u_char                    *p;
    ngx_str_t                  type;
    ngx_http_complex_value_t   cv;

    static const char  text[] =
        "\"history\" is the number of an hour, \"since\" that of a minute, "
        "both counted from 1970 on, as in \"?history=%T&since=%T\"\n";

    ngx_memzero(&cv, sizeof(ngx_http_complex_value_t));

    p = ngx_pnalloc(r->pool, sizeof(text) + 2 * NGX_TIME_T_LEN);
    if (p == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    cv.value.data = p;
    cv.value.len = ngx_sprintf(p, text, ngx_time() / 3600,
                               ngx_time() / 3600 * 60) - p;

    ngx_str_set(&type, "text/plain");

    return ngx_http_send_response(r, NGX_HTTP_BAD_REQUEST, &type, &cv);
}


/* the request ends before its answer is there */

static void
ngx_http_hybrid_history_detach(void *data)
{
    ngx_http_hybrid_history_view_t  *view = data;

    view->request = NULL;

    if (view->event.posted) {
        ngx_delete_posted_event(&view->event);
    }

    if (!view->pending) {
        ngx_free(view);
    }
}


static ngx_int_t
ngx_http_hybrid_history_keys(ngx_http_hybrid_history_view_t *view)
{
    u_char     *p;
    ngx_str_t   argv[2];

    p = ngx_pnalloc(view->request->pool,
                    view->conf->redis_conf->prefix.len
                    + NGX_HTTP_HYBRID_HISTORY_KEY);
    if (p == NULL) {
        return NGX_ERROR;
    }

    ngx_str_set(&argv[0], "HKEYS");
    ngx_http_hybrid_history_key(view->conf, view->hour, &argv[1], p);

    if (ngx_hybrid_redis_command(view->conf->redis, 2, argv,
                                 ngx_http_hybrid_history_fields, view)
        != NGX_OK)
    {
        return NGX_DECLINED;
    }

    view->pending = 1;

    return NGX_OK;
}


static void
ngx_http_hybrid_history_fields(void *data, redisReply *reply)
{
    ngx_http_hybrid_history_view_t  *view = data;

    size_t  i;

    view->pending = 0;

    if (view->request == NULL) {
        ngx_free(view);
        return;
    }

    if (reply == NULL || reply->type != REDIS_REPLY_ARRAY) {
        ngx_http_hybrid_history_alone(view);
        return;
    }

    for (i = 0; i < reply->elements; i++) {
        if (ngx_http_hybrid_history_known(view, reply->element[i]) != NGX_OK) {
            view->failed = 1;
            ngx_http_hybrid_history_done(view);
            return;
        }
    }

    ngx_qsort(view->fields.elts, view->fields.nelts,
              sizeof(ngx_http_hybrid_history_field_t),
              ngx_http_hybrid_history_compare);

    view->all = 1;
    view->ask = NGX_HTTP_HYBRID_HISTORY_FIRST;

    if (ngx_http_hybrid_history_ask(view) != NGX_OK) {
        ngx_http_hybrid_history_alone(view);
    }
}


/* others may write to Redis, too: what is no minute of this hour is not ours */

static ngx_int_t
ngx_http_hybrid_history_known(ngx_http_hybrid_history_view_t *view,
    redisReply *name)
{
    uint32_t                          minute;
    ngx_str_t                         text, gateway;
    ngx_hybrid_shm_sh_t              *sh;
    ngx_http_hybrid_history_field_t  *field;

    sh = view->conf->shm->sh;

    if (name->type != REDIS_REPLY_STRING) {
        return NGX_OK;
    }

    text.data = (u_char *) name->str;
    text.len = name->len;

    if (ngx_hybrid_history_field(&text, &minute, &gateway) != NGX_OK
        || minute / 60 != view->hour || minute < view->since)
    {
        return NGX_OK;
    }

    /* there is no later state than our own */

    if (ngx_memcmp(gateway.data, sh->id, sizeof(sh->id)) == 0
        && sh->history->segments[minute % NGX_HYBRID_HISTORY_MINUTES].minute
           == minute)
    {
        return NGX_OK;
    }

    if (view->fields.nelts == NGX_HTTP_HYBRID_HISTORY_FIELDS) {
        view->left_out++;
        return NGX_OK;
    }

    field = ngx_array_push(&view->fields);
    if (field == NULL) {
        return NGX_ERROR;
    }

    field->minute = minute;
    field->text.len = text.len;
    field->text.data = ngx_pstrdup(view->request->pool, &text);

    if (field->text.data == NULL) {
        return NGX_ERROR;
    }

    field->gateway.len = gateway.len;
    field->gateway.data = field->text.data + text.len - gateway.len;

    return NGX_OK;
}


static int ngx_libc_cdecl
ngx_http_hybrid_history_compare(const void *one, const void *two)
{
    const ngx_http_hybrid_history_field_t  *a = one, *b = two;

    if (a->minute != b->minute) {
        return a->minute < b->minute ? -1 : 1;
    }

    return ngx_memcmp(a->gateway.data, b->gateway.data,
                      NGX_HYBRID_HISTORY_GATEWAY);
}


static ngx_int_t
ngx_http_hybrid_history_ask(ngx_http_hybrid_history_view_t *view)
{
    u_char                           *p;
    ngx_str_t                         argv[2 + NGX_HTTP_HYBRID_HISTORY_ASK];
    ngx_uint_t                        i;
    ngx_http_hybrid_history_field_t  *fields;

    view->asked = ngx_min(view->ask, view->fields.nelts - view->next);

    if (view->asked == 0) {
        ngx_post_event(&view->event, &ngx_posted_next_events);
        return NGX_OK;
    }

    /* not the request's: its connection would have it once for each part */

    p = ngx_alloc(view->conf->redis_conf->prefix.len
                  + NGX_HTTP_HYBRID_HISTORY_KEY, ngx_cycle->log);
    if (p == NULL) {
        return NGX_ERROR;
    }

    ngx_str_set(&argv[0], "HMGET");
    ngx_http_hybrid_history_key(view->conf, view->hour, &argv[1], p);

    fields = (ngx_http_hybrid_history_field_t *) view->fields.elts
             + view->next;

    for (i = 0; i < view->asked; i++) {
        argv[2 + i] = fields[i].text;
    }

    if (ngx_hybrid_redis_command(view->conf->redis, 2 + view->asked, argv,
                                 ngx_http_hybrid_history_texts, view)
        == NGX_OK)
    {
        view->pending = 1;
    }

    ngx_free(p);

    return view->pending ? NGX_OK : NGX_DECLINED;
}


static void
ngx_http_hybrid_history_texts(void *data, redisReply *reply)
{
    ngx_http_hybrid_history_view_t  *view = data;

    size_t                            i, bytes;
    ngx_str_t                         text;
    redisReply                       *e;
    ngx_http_hybrid_history_field_t  *fields;

    view->pending = 0;

    if (view->request == NULL) {
        ngx_free(view);
        return;
    }

    if (reply == NULL || reply->type != REDIS_REPLY_ARRAY
        || reply->elements != view->asked)
    {
        ngx_http_hybrid_history_alone(view);
        return;
    }

    fields = (ngx_http_hybrid_history_field_t *) view->fields.elts
             + view->next;
    bytes = 0;

    for (i = 0; i < view->asked; i++) {

        e = reply->element[i];

        if (e->type != REDIS_REPLY_STRING) {
            continue;
        }

        text.data = (u_char *) e->str;
        text.len = e->len;
        bytes += text.len;

        if (ngx_http_hybrid_history_minute(view, fields[i].minute,
                                           &fields[i].gateway, &text)
            != NGX_OK)
        {
            view->failed = 1;
            ngx_http_hybrid_history_done(view);
            return;
        }
    }

    view->next += view->asked;

    if (bytes < NGX_HTTP_HYBRID_HISTORY_PART) {
        view->ask = ngx_min(view->ask * 2, NGX_HTTP_HYBRID_HISTORY_ASK);

    } else if (bytes > 2 * NGX_HTTP_HYBRID_HISTORY_PART) {
        view->ask = ngx_max(view->ask / 2, 1);
    }

    if (ngx_http_hybrid_history_ask(view) != NGX_OK) {
        ngx_http_hybrid_history_alone(view);
    }
}


/* without Redis: what had come from it is not the whole, and so not shown */

static void
ngx_http_hybrid_history_alone(ngx_http_hybrid_history_view_t *view)
{
    view->all = 0;
    view->out = NULL;
    view->end = NULL;
    view->size = 0;
    view->left_out = 0;

    ngx_post_event(&view->event, &ngx_posted_next_events);
}


static void
ngx_http_hybrid_history_own(ngx_event_t *ev)
{
    ngx_http_hybrid_history_view_t  *view = ev->data;

    uint32_t                    minute;
    ngx_str_t                   text, gateway;
    ngx_uint_t                  n, cells;
    ngx_hybrid_shm_sh_t        *sh;
    ngx_http_hybrid_history_t  *history;

    sh = view->conf->shm->sh;
    history = view->conf->history;

    gateway.data = sh->id;
    gateway.len = sizeof(sh->id);

    n = 0;
    cells = 0;

    while (view->segment < NGX_HYBRID_HISTORY_MINUTES) {

        if (n == NGX_HTTP_HYBRID_HISTORY_STEP
            || cells >= NGX_HTTP_HYBRID_HISTORY_CELLS)
        {
            ngx_post_event(ev, &ngx_posted_next_events);
            return;
        }

        minute = sh->history->segments[view->segment].minute;

        if (minute / 60 == view->hour && minute >= view->since && minute
            && ngx_http_hybrid_history_text(history, view->segment, &text)
               == NGX_OK
            && history->state.minute == minute)
        {
            n++;
            cells += history->state.n;

            if (ngx_http_hybrid_history_minute(view, minute, &gateway, &text)
                != NGX_OK)
            {
                view->failed = 1;
                break;
            }
        }

        view->segment++;
    }

    ngx_http_hybrid_history_done(view);
}


/* a text that is not well is left out; NGX_ERROR: no memory */

static ngx_int_t
ngx_http_hybrid_history_minute(ngx_http_hybrid_history_view_t *view,
    uint32_t minute, ngx_str_t *gateway, ngx_str_t *text)
{
    size_t        size;
    u_char       *p;
    uint32_t      lost;
    ngx_buf_t    *b;
    ngx_chain_t  *cl;

    if (ngx_hybrid_history_check(text, &lost, &size) != NGX_OK) {
        return NGX_OK;
    }

    size += sizeof(",\n{\"minute\":,\"gateway\":\"\",\"lost\":,\"series\":[]}")
            + 2 * NGX_INT32_LEN + gateway->len;

    if (view->size + size > NGX_HTTP_HYBRID_HISTORY_BYTES) {
        view->left_out++;
        return NGX_OK;
    }

    b = ngx_create_temp_buf(view->request->pool, size);
    cl = ngx_alloc_chain_link(view->request->pool);

    if (b == NULL || cl == NULL) {
        return NGX_ERROR;
    }

    p = ngx_sprintf(b->last, "%s{\"minute\":%uD,\"gateway\":\"%V\","
                    "\"lost\":%uD,\"series\":[", view->out ? ",\n" : "\n",
                    minute, gateway, lost);
    p = ngx_hybrid_history_json(p, text);
    b->last = ngx_cpymem(p, "]}", 2);

    cl->buf = b;
    cl->next = NULL;

    if (view->end) {
        view->end->next = cl;

    } else {
        view->out = cl;
    }

    view->end = cl;
    view->size += b->last - b->pos;

    return NGX_OK;
}


/* may be in a callback of hiredis: phases run later, from nginx's own loop */

static void
ngx_http_hybrid_history_done(ngx_http_hybrid_history_view_t *view)
{
    ngx_http_hybrid_stats_wake(view->request, ngx_http_hybrid_history_resume);
}


static void
ngx_http_hybrid_history_resume(ngx_http_request_t *r)
{
    ngx_http_hybrid_ctx_t           *ctx;
    ngx_http_hybrid_history_view_t  *view;

    r->read_event_handler = ngx_http_block_reading;
    r->write_event_handler = ngx_http_request_empty_handler;

    ctx = ngx_http_hybrid_get_ctx(r);
    view = ctx->view;

    if (view->failed) {
        ngx_http_finalize_request(r, NGX_HTTP_INTERNAL_SERVER_ERROR);
        return;
    }

    ngx_http_finalize_request(r, ngx_http_hybrid_history_output(r, view));
}


static ngx_int_t
ngx_http_hybrid_history_output(ngx_http_request_t *r,
    ngx_http_hybrid_history_view_t *view)
{
    ngx_str_t               type;
    ngx_time_t             *tp;
    ngx_hybrid_shm_sh_t    *sh;
    ngx_http_hybrid_out_t   out;

    ngx_memzero(&out, sizeof(ngx_http_hybrid_out_t));
    out.pool = r->pool;

    sh = view->conf->shm->sh;
    tp = ngx_timeofday();

    ngx_http_hybrid_out(&out, "{\"hour\":%uD,\"time\":%T.%03M,"
                        "\"gateway\":\"%*s\",\"scope\":\"%s\","
                        "\"minutes\":[", view->hour, tp->sec, tp->msec,
                        sizeof(sh->id), sh->id, view->all ? "all" : "gateway");

    if (view->out && out.last) {
        out.last->next = view->out;
        out.last = view->end;
    }

    ngx_http_hybrid_out(&out, "],\n\"left_out\":%ui}\n", view->left_out);

    ngx_str_set(&type, "application/json");

    return ngx_http_hybrid_out_send(&out, r, &type);
}
