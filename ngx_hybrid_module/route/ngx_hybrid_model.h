
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Model names as Ollama reads them: [host/][namespace/]model[:tag], compared
 * without case, with default host, namespace "library" and tag "latest"
 * (Ollama, types/model/name.go), and the source suffixes ":local", ":cloud"
 * and "-cloud".  All names are counted strings.
 */


#ifndef _NGX_HYBRID_MODEL_H_INCLUDED_
#define _NGX_HYBRID_MODEL_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


#define NGX_HYBRID_MODEL_MAX  256

/* room for a canonical name: the default tag may be added */
#define NGX_HYBRID_MODEL_BUF  (NGX_HYBRID_MODEL_MAX + sizeof(":latest") - 1)


typedef struct {
    ngx_str_t   name;          /* lower case, tag always present */
    ngx_str_t   brief;         /* the same bytes without ":latest" */
    unsigned    cloud:1;       /* Ollama would send it to its vendor's cloud */
} ngx_hybrid_model_t;


typedef struct {
    ngx_str_t   text;          /* canonical text, lower case */
    ngx_str_t   brief;         /* of an exact name: without ":latest" */
    size_t      prefix;        /* bytes before the first "*" */
    unsigned    exact:1;       /* no "*": text is a canonical name */
    unsigned    cloud:1;       /* names a cloud suffix, so may match one */
} ngx_hybrid_pattern_t;


/*
 * Both write into the caller's buf of NGX_HYBRID_MODEL_BUF bytes, which the
 * result points into.  NGX_ERROR: the text can't name a model.
 */
ngx_int_t ngx_hybrid_model_parse(ngx_hybrid_model_t *m, ngx_str_t *text,
    u_char *buf);
ngx_int_t ngx_hybrid_pattern_parse(ngx_hybrid_pattern_t *p, ngx_str_t *text,
    u_char *buf);

/*
 * A "*" matches any bytes but "/"; a name with a cloud suffix is matched only
 * by a pattern that ends with a cloud suffix itself.
 */
ngx_uint_t ngx_hybrid_pattern_match(ngx_hybrid_pattern_t *p,
    ngx_hybrid_model_t *m);

/* > 0: a is more specific than b; exact first, then the longer prefix */
ngx_int_t ngx_hybrid_pattern_compare(ngx_hybrid_pattern_t *a,
    ngx_hybrid_pattern_t *b);


#endif /* _NGX_HYBRID_MODEL_H_INCLUDED_ */
