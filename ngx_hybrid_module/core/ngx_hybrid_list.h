
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * A list of models as a server sends it: {"models":[{...},...]} of Ollama's
 * /api/tags and /api/ps, {"data":[{...},...]} of /v1/models.  The server is
 * not trusted: it is one pass over the text, which makes nothing of it but
 * what is asked for, and needs no memory.
 */


#ifndef _NGX_HYBRID_LIST_H_INCLUDED_
#define _NGX_HYBRID_LIST_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_hybrid_model.h"


#define NGX_HYBRID_LIST_DEPTH  64

#define ngx_hybrid_list_is_blank(ch)                                          \
    ((ch) == ' ' || (ch) == '\t' || (ch) == LF || (ch) == CR)

#define ngx_hybrid_list_is_digit(ch)  ((ch) >= '0' && (ch) <= '9')


/* the text is that of the list: it points there */

typedef struct {
    ngx_hybrid_model_t   model;
    ngx_str_t            text;      /* the object, with its blanks */
    time_t               expires;   /* 0: not said */
    unsigned             remote:1;  /* it is another server's */
    u_char               buf[NGX_HYBRID_MODEL_BUF];
} ngx_hybrid_list_item_t;


/* not NGX_OK: enough */
typedef ngx_int_t (*ngx_hybrid_list_pt)(void *data,
    ngx_hybrid_list_item_t *item);


/*
 * Calls the handler for each object of the array "member" that has a usable
 * name, in order.  NULL: it is a list; else why not, and what the handler
 * got is to be forgotten.
 */
const char *ngx_hybrid_list_parse(ngx_str_t *text, const char *member,
    ngx_hybrid_list_pt handler, void *data);

/* a copy without blanks, in one line; returns its end */
u_char *ngx_hybrid_list_compact(u_char *dst, ngx_str_t *text);

/*
 * Of a name: a backend that does not know the seed can't make long chains.
 */
uint32_t ngx_hybrid_list_hash(ngx_str_t *name, uint32_t seed);

/* RFC 3339, fractions are left out.  NGX_ERROR: it is not a time */
time_t ngx_hybrid_list_time(u_char *p, u_char *last);


#endif /* _NGX_HYBRID_LIST_H_INCLUDED_ */
