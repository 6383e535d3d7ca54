
/*
 * Copyright (C) the ngx_hybrid_module authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include "ngx_hybrid_watch.h"


static ngx_int_t ngx_hybrid_watch_load(ngx_hybrid_watch_t *watch,
    ngx_uint_t level, ngx_log_t *log);
static void ngx_hybrid_watch_handler(ngx_event_t *ev);
static ngx_uint_t ngx_hybrid_watch_changed(ngx_hybrid_watch_t *watch,
    ngx_file_info_t *fi);


/* msec */
#define NGX_HYBRID_WATCH_INTERVAL  1000


ngx_hybrid_watch_t *
ngx_hybrid_watch_add(ngx_hybrid_watches_t *watches, ngx_conf_t *cf,
    ngx_str_t *file, size_t max, ngx_hybrid_watch_pt handler, void *data)
{
    ngx_hybrid_watch_t  *watch, **place;

    watch = ngx_pcalloc(cf->pool, sizeof(ngx_hybrid_watch_t));
    if (watch == NULL) {
        return NULL;
    }

    watch->file = *file;
    watch->max = max;
    watch->handler = handler;
    watch->data = data;

    if (ngx_conf_full_name(cf->cycle, &watch->file, 1) != NGX_OK) {
        return NULL;
    }

    if (ngx_hybrid_watch_load(watch, NGX_LOG_EMERG, cf->log) != NGX_OK) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "file \"%V\" can't be used",
                           &watch->file);
        return NULL;
    }

    if (watches->files.elts == NULL
        && ngx_array_init(&watches->files, cf->pool, 4, sizeof(void *))
           != NGX_OK)
    {
        return NULL;
    }

    place = ngx_array_push(&watches->files);
    if (place == NULL) {
        return NULL;
    }

    *place = watch;

    return watch;
}


static ngx_int_t
ngx_hybrid_watch_load(ngx_hybrid_watch_t *watch, ngx_uint_t level,
    ngx_log_t *log)
{
    u_char           *buf;
    ssize_t           n;
    ngx_fd_t          fd;
    ngx_int_t         rc;
    ngx_str_t         text;
    ngx_file_info_t   fi;

    fd = ngx_open_file(watch->file.data, NGX_FILE_RDONLY|NGX_FILE_NONBLOCK,
                       NGX_FILE_OPEN, 0);

    if (fd == NGX_INVALID_FILE) {
        ngx_log_error(level, log, ngx_errno, ngx_open_file_n " \"%V\" failed%s",
                      &watch->file,
                      level == NGX_LOG_EMERG ? ""
                      : ", it has changed: reload nginx, or let the workers' "
                        "group read it");
        return NGX_ERROR;
    }

    buf = NULL;
    rc = NGX_ERROR;

    if (ngx_fd_info(fd, &fi) == NGX_FILE_ERROR) {
        ngx_log_error(level, log, ngx_errno, ngx_fd_info_n " \"%V\" failed",
                      &watch->file);
        goto done;
    }

    watch->uniq = ngx_file_uniq(&fi);
    watch->size = ngx_file_size(&fi);
    watch->mtime = ngx_file_mtime(&fi);
    watch->looked = ngx_time();

    buf = ngx_alloc(watch->max + 1, log);
    if (buf == NULL) {
        goto done;
    }

    n = ngx_read_fd(fd, buf, watch->max + 1);

    if (n == -1) {
        ngx_log_error(level, log, ngx_errno, ngx_read_fd_n " \"%V\" failed",
                      &watch->file);
        goto done;
    }

    if ((size_t) n > watch->max) {
        ngx_log_error(level, log, 0, "\"%V\" is larger than %uz bytes",
                      &watch->file, watch->max);
        goto done;
    }

    text.data = buf;
    text.len = n;

    rc = watch->handler(watch->data, &text, level, log);

done:

    if (buf) {
        ngx_explicit_memzero(buf, watch->max + 1);
        ngx_free(buf);
    }

    if (ngx_close_file(fd) == NGX_FILE_ERROR) {
        ngx_log_error(NGX_LOG_ALERT, log, ngx_errno,
                      ngx_close_file_n " \"%V\" failed", &watch->file);
    }

    return rc;
}


void
ngx_hybrid_watch_start(ngx_hybrid_watches_t *watches, ngx_cycle_t *cycle)
{
    if (watches->files.nelts == 0) {
        return;
    }

    watches->log = cycle->log;

    watches->dummy.fd = (ngx_socket_t) -1;
    watches->timer.handler = ngx_hybrid_watch_handler;
    watches->timer.data = &watches->dummy;
    watches->timer.log = cycle->log;
    watches->timer.cancelable = 1;
    watches->dummy.data = watches;

    ngx_add_timer(&watches->timer, ngx_random() % NGX_HYBRID_WATCH_INTERVAL);
}


static void
ngx_hybrid_watch_handler(ngx_event_t *ev)
{
    ngx_uint_t             i;
    ngx_connection_t      *c;
    ngx_file_info_t        fi;
    ngx_hybrid_watch_t   **watch;
    ngx_hybrid_watches_t  *watches;

    if (ngx_exiting || ngx_terminate || ngx_quit) {
        return;
    }

    c = ev->data;
    watches = c->data;
    watch = watches->files.elts;

    for (i = 0; i < watches->files.nelts; i++) {

        if (ngx_file_info(watch[i]->file.data, &fi) == NGX_FILE_ERROR) {

            if (!watch[i]->failed) {
                watch[i]->failed = 1;
                ngx_log_error(NGX_LOG_WARN, watches->log, ngx_errno,
                              ngx_file_info_n " \"%V\" failed, what was read "
                              "before stays", &watch[i]->file);
            }

            continue;
        }

        if (!ngx_hybrid_watch_changed(watch[i], &fi)) {
            continue;
        }

        watch[i]->uniq = ngx_file_uniq(&fi);
        watch[i]->size = ngx_file_size(&fi);
        watch[i]->mtime = ngx_file_mtime(&fi);
        watch[i]->looked = ngx_time();

        watch[i]->failed = (ngx_hybrid_watch_load(watch[i], NGX_LOG_WARN,
                                                  watches->log)
                            != NGX_OK);
    }

    ngx_add_timer(ev, NGX_HYBRID_WATCH_INTERVAL);
}


/*
 * A file that was changed in the second it was looked at may change again
 * without a sign: it is looked at once more.
 */

static ngx_uint_t
ngx_hybrid_watch_changed(ngx_hybrid_watch_t *watch, ngx_file_info_t *fi)
{
    return watch->uniq != ngx_file_uniq(fi)
           || watch->size != ngx_file_size(fi)
           || watch->mtime != ngx_file_mtime(fi)
           || (watch->mtime >= watch->looked - 1
               && watch->looked < ngx_time());
}
