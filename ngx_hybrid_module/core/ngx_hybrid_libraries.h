
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Which libraries the module works with.
 */


#ifndef _NGX_HYBRID_LIBRARIES_H_INCLUDED_
#define _NGX_HYBRID_LIBRARIES_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/* the name of library n and its version; NULL: there is none */
const char *ngx_hybrid_library(ngx_uint_t n, const char **version);


#endif /* _NGX_HYBRID_LIBRARIES_H_INCLUDED_ */
