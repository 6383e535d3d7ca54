
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Small files that are read at start and again when they change: secrets,
 * key sets, certificates.  Each worker looks by itself, once a second.  At
 * start the master may read what the workers' user may not; then a change
 * takes a reload, which the log says.
 */


#ifndef _NGX_HYBRID_WATCH_H_INCLUDED_
#define _NGX_HYBRID_WATCH_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>
#include "ngx_hybrid_compat.h"


/*
 * Gets the file's content, which is wiped afterwards.  It may be the same as
 * before.  NGX_ERROR: it can't be used, what was loaded before stays; the
 * handler has logged why, at the level given.
 */
typedef ngx_int_t (*ngx_hybrid_watch_pt)(void *data, ngx_str_t *text,
    ngx_uint_t level, ngx_log_t *log);


/*
 * The time is that of the inode: rights count, too, and it can't be set back.
 */

typedef struct {
    ngx_file_uniq_t            uniq;
    off_t                      size;
    time_t                     sec;
    long                       nsec;
} ngx_hybrid_watch_state_t;


typedef struct {
    ngx_str_t                  file;     /* full name, with \0 */
    size_t                     max;      /* bytes; more is an error */
    ngx_hybrid_watch_pt        handler;
    void                      *data;

    ngx_hybrid_watch_state_t   state;    /* when it was looked at */
    time_t                     looked;   /* wall clock */
    uint32_t                   hash;     /* of what was read */
    unsigned                   changing:1;
    unsigned                   missing:1;   /* said so in the log */
} ngx_hybrid_watch_t;


typedef struct {
    ngx_array_t                files;    /* ngx_hybrid_watch_t * */
    ngx_event_t                timer;
    ngx_connection_t           dummy;
    ngx_log_t                 *log;
} ngx_hybrid_watches_t;


/*
 * Adds the file and loads it at once, in the master: NGX_ERROR is logged at
 * EMERG.
 */
ngx_hybrid_watch_t *ngx_hybrid_watch_add(ngx_hybrid_watches_t *watches,
    ngx_conf_t *cf, ngx_str_t *file, size_t max, ngx_hybrid_watch_pt handler,
    void *data);

/* in a worker; does nothing when there is no file */
void ngx_hybrid_watch_start(ngx_hybrid_watches_t *watches, ngx_cycle_t *cycle);


#endif /* _NGX_HYBRID_WATCH_H_INCLUDED_ */
