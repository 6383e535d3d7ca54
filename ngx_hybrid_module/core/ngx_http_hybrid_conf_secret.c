
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Files that hold a secret: one line of visible characters.
 */


#include "ngx_http_hybrid_conf.h"


/* for what is put before it */
#define NGX_HTTP_HYBRID_SECRET_ROOM  16

#define NGX_HTTP_HYBRID_SECRET_BUF                                            \
    (NGX_HTTP_HYBRID_SECRET_MAX + NGX_HTTP_HYBRID_SECRET_ROOM)


typedef struct {
    ngx_str_t                      file;
    ngx_str_t                     *value;   /* in use; its data is buf */
    u_char                        *buf;
    size_t                         before;
} ngx_http_hybrid_secret_t;


static u_char *ngx_http_hybrid_secret_buf(ngx_conf_t *cf);
static void ngx_http_hybrid_secret_wipe(void *data);
static ngx_int_t ngx_http_hybrid_secret_changed(void *data, ngx_str_t *text,
    ngx_uint_t level, ngx_log_t *log);


char *
ngx_http_hybrid_conf_secret_watch(ngx_conf_t *cf, ngx_str_t *file,
    const char *before, ngx_str_t *secret)
{
    ngx_hybrid_watch_t           *watch;
    ngx_http_hybrid_secret_t     *s;
    ngx_http_hybrid_main_conf_t  *hmcf;

    hmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_hybrid_module);

    s = ngx_palloc(cf->pool, sizeof(ngx_http_hybrid_secret_t));
    if (s == NULL) {
        return NGX_CONF_ERROR;
    }

    s->buf = ngx_http_hybrid_secret_buf(cf);
    if (s->buf == NULL) {
        return NGX_CONF_ERROR;
    }

    s->file = *file;

    if (ngx_conf_full_name(cf->cycle, &s->file, 1) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    s->value = secret;
    s->before = ngx_strlen(before);

    ngx_memcpy(s->buf, before, s->before);

    secret->data = s->buf;
    secret->len = 0;

    watch = ngx_hybrid_watch_add(&hmcf->watches, cf, &s->file,
                                 NGX_HTTP_HYBRID_SECRET_MAX - 1,
                                 ngx_http_hybrid_secret_changed, s);
    if (watch == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_http_hybrid_conf_secret_warn(cf, &watch->file);

    return NGX_CONF_OK;
}


static u_char *
ngx_http_hybrid_secret_buf(ngx_conf_t *cf)
{
    u_char              *buf;
    ngx_pool_cleanup_t  *cln;

    cln = ngx_pool_cleanup_add(cf->pool, 0);
    if (cln == NULL) {
        return NULL;
    }

    buf = ngx_pcalloc(cf->pool, NGX_HTTP_HYBRID_SECRET_BUF);
    if (buf == NULL) {
        return NULL;
    }

    cln->handler = ngx_http_hybrid_secret_wipe;
    cln->data = buf;

    return buf;
}


static void
ngx_http_hybrid_secret_wipe(void *data)
{
    ngx_explicit_memzero(data, NGX_HTTP_HYBRID_SECRET_BUF);
}


/* in the place of the old one: of that nothing is left */

static ngx_int_t
ngx_http_hybrid_secret_changed(void *data, ngx_str_t *text, ngx_uint_t level,
    ngx_log_t *log)
{
    ngx_http_hybrid_secret_t  *s = data;

    u_char  *p;

    if (ngx_http_hybrid_conf_secret_line(text) != NGX_OK) {
        ngx_log_error(level, log, 0,
                      "secret file \"%V\" must hold one line of visible "
                      "characters%s", &s->file,
                      s->value->len ? ", the old secret stays" : "");
        return NGX_ERROR;
    }

    p = s->buf + s->before;

    if (s->value->len == s->before + text->len
        && ngx_memcmp(p, text->data, text->len) == 0)
    {
        return NGX_OK;
    }

    ngx_explicit_memzero(p, NGX_HTTP_HYBRID_SECRET_BUF - s->before);
    ngx_memcpy(p, text->data, text->len);

    if (s->value->len) {
        ngx_log_error(NGX_LOG_NOTICE, log, 0,
                      "secret file \"%V\" has changed and is in use",
                      &s->file);
    }

    s->value->len = s->before + text->len;

    return NGX_OK;
}


ngx_int_t
ngx_http_hybrid_conf_secret_line(ngx_str_t *text)
{
    size_t  i;

    while (text->len && (text->data[text->len - 1] == LF
                         || text->data[text->len - 1] == CR))
    {
        text->len--;
    }

    for (i = 0; i < text->len; i++) {
        if (text->data[i] <= ' ' || text->data[i] >= 0x7f) {
            return NGX_ERROR;
        }
    }

    return text->len ? NGX_OK : NGX_ERROR;
}


void
ngx_http_hybrid_conf_secret_warn(ngx_conf_t *cf, ngx_str_t *name)
{
    ngx_file_info_t  fi;

    if (ngx_file_info(name->data, &fi) != NGX_FILE_ERROR
        && (ngx_file_access(&fi) & 0004))
    {
        ngx_conf_log_error(NGX_LOG_WARN, cf, 0,
                           "secret file \"%V\" can be read by everyone",
                           name);
    }
}
