
/*
 * Copyright (C) the ngx_hybrid_module authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include "ngx_hybrid_watch.h"


static u_char *ngx_hybrid_watch_place(ngx_log_t *log, u_char *buf, size_t len);
static ngx_int_t ngx_hybrid_watch_load(ngx_hybrid_watch_t *watch,
    ngx_uint_t again, ngx_uint_t level, ngx_log_t *log);
static ngx_int_t ngx_hybrid_watch_read(ngx_hybrid_watch_t *watch, ngx_fd_t fd,
    ngx_uint_t again, ngx_uint_t level, ngx_log_t *log);
static void ngx_hybrid_watch_handler(ngx_event_t *ev);
static void ngx_hybrid_watch_look(ngx_hybrid_watch_t *watch, ngx_log_t *log);
static void ngx_hybrid_watch_state(ngx_hybrid_watch_state_t *state,
    ngx_file_info_t *fi);
static ngx_uint_t ngx_hybrid_watch_same(ngx_hybrid_watch_state_t *one,
    ngx_hybrid_watch_state_t *two);


/* msec */
#define NGX_HYBRID_WATCH_INTERVAL  1000


ngx_hybrid_watch_t *
ngx_hybrid_watch_add(ngx_hybrid_watches_t *watches, ngx_conf_t *cf,
    ngx_str_t *file, size_t max, ngx_hybrid_watch_pt handler, void *data)
{
    ngx_log_t            log;
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

    /* whoever finds the fault tells also where the file is named */

    log = *cf->log;
    log.handler = ngx_hybrid_watch_place;
    log.data = cf;

    if (ngx_hybrid_watch_load(watch, 0, NGX_LOG_EMERG, &log) != NGX_OK) {
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


static u_char *
ngx_hybrid_watch_place(ngx_log_t *log, u_char *buf, size_t len)
{
    ngx_conf_t  *cf;

    cf = log->data;

    if (cf->conf_file == NULL || cf->conf_file->file.fd == NGX_INVALID_FILE) {
        return buf;
    }

    return ngx_snprintf(buf, len, " in %s:%ui",
                        cf->conf_file->file.name.data, cf->conf_file->line);
}


static ngx_int_t
ngx_hybrid_watch_load(ngx_hybrid_watch_t *watch, ngx_uint_t again,
    ngx_uint_t level, ngx_log_t *log)
{
    ngx_fd_t   fd;
    ngx_int_t  rc;

    watch->looked = ngx_time();

    fd = ngx_open_file(watch->file.data, NGX_FILE_RDONLY|NGX_FILE_NONBLOCK,
                       NGX_FILE_OPEN, 0);

    if (fd == NGX_INVALID_FILE) {

        if (again) {
            return NGX_ERROR;
        }

        ngx_log_error(level, log, ngx_errno, ngx_open_file_n " \"%V\" failed%s",
                      &watch->file,
                      level == NGX_LOG_EMERG ? ""
                      : ", it has changed: reload nginx, or let the workers' "
                        "group read it");
        return NGX_ERROR;
    }

    rc = ngx_hybrid_watch_read(watch, fd, again, level, log);

    if (ngx_close_file(fd) == NGX_FILE_ERROR) {
        ngx_log_error(NGX_LOG_ALERT, log, ngx_errno,
                      ngx_close_file_n " \"%V\" failed", &watch->file);
    }

    return rc;
}


static ngx_int_t
ngx_hybrid_watch_read(ngx_hybrid_watch_t *watch, ngx_fd_t fd,
    ngx_uint_t again, ngx_uint_t level, ngx_log_t *log)
{
    u_char           *buf;
    ssize_t           n;
    uint32_t          hash;
    ngx_int_t         rc;
    ngx_str_t         text;
    ngx_file_info_t   fi;

    if (ngx_fd_info(fd, &fi) == NGX_FILE_ERROR) {
        ngx_log_error(level, log, ngx_errno, ngx_fd_info_n " \"%V\" failed",
                      &watch->file);
        return NGX_ERROR;
    }

    ngx_hybrid_watch_state(&watch->state, &fi);

    buf = ngx_alloc(watch->max + 1, log);
    if (buf == NULL) {
        return NGX_ERROR;
    }

    rc = NGX_ERROR;

    n = ngx_read_fd(fd, buf, watch->max + 1);

    if (n == -1) {

        if (!again) {
            ngx_log_error(level, log, ngx_errno,
                          ngx_read_fd_n " \"%V\" failed", &watch->file);
        }

        goto done;
    }

    hash = ngx_murmur_hash2(buf, n);

    if (again && hash == watch->hash) {
        rc = NGX_OK;
        goto done;
    }

    watch->hash = hash;

    if ((size_t) n > watch->max) {
        ngx_log_error(level, log, 0, "\"%V\" is larger than %uz bytes",
                      &watch->file, watch->max);
        goto done;
    }

    text.data = buf;
    text.len = n;

    rc = watch->handler(watch->data, &text, level, log);

done:

    ngx_explicit_memzero(buf, watch->max + 1);
    ngx_free(buf);

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
    ngx_hybrid_watch_t   **watch;
    ngx_hybrid_watches_t  *watches;

    if (ngx_exiting || ngx_terminate || ngx_quit) {
        return;
    }

    c = ev->data;
    watches = c->data;
    watch = watches->files.elts;

    for (i = 0; i < watches->files.nelts; i++) {
        ngx_hybrid_watch_look(watch[i], watches->log);
    }

    ngx_add_timer(ev, NGX_HYBRID_WATCH_INTERVAL);
}


static void
ngx_hybrid_watch_look(ngx_hybrid_watch_t *watch, ngx_log_t *log)
{
    ngx_uint_t                again, level;
    ngx_file_info_t           fi;
    ngx_hybrid_watch_state_t  state;

    /* all workers see the same: one of them says so */

    level = ngx_worker ? NGX_LOG_INFO : NGX_LOG_WARN;

    if (ngx_file_info(watch->file.data, &fi) == NGX_FILE_ERROR) {

        if (!watch->missing) {
            watch->missing = 1;

            /* in a directory that is only the master's it is so from start */

            if (ngx_errno == NGX_EACCES) {
                level = NGX_LOG_INFO;
            }

            ngx_log_error(level, log, ngx_errno,
                          ngx_file_info_n " \"%V\" failed, what was read "
                          "before stays", &watch->file);
        }

        return;
    }

    watch->missing = 0;
    again = 0;

    ngx_hybrid_watch_state(&state, &fi);

    if (!ngx_hybrid_watch_same(&watch->state, &state)) {

        watch->changing = (state.uniq == watch->state.uniq);
        watch->state = state;

        /* what is written to in place may be half written */

        if (watch->changing) {
            return;
        }

    } else if (watch->changing) {
        watch->changing = 0;

    } else if (watch->state.sec >= watch->looked - 1
               && watch->looked < ngx_time())
    {
        /*
         * A file that was read right when it changed may have changed again
         * without a sign.  Most have not, nor need they be readable.
         */

        again = 1;

    } else {
        return;
    }

    (void) ngx_hybrid_watch_load(watch, again, level, log);
}


static void
ngx_hybrid_watch_state(ngx_hybrid_watch_state_t *state, ngx_file_info_t *fi)
{
    state->uniq = ngx_file_uniq(fi);
    state->size = ngx_file_size(fi);
    state->sec = fi->st_ctime;
    state->nsec = ngx_hybrid_file_nsec(fi);
}


static ngx_uint_t
ngx_hybrid_watch_same(ngx_hybrid_watch_state_t *one,
    ngx_hybrid_watch_state_t *two)
{
    return one->uniq == two->uniq
           && one->size == two->size
           && one->sec == two->sec
           && one->nsec == two->nsec;
}
