
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * The only place that looks at versions of nginx and of the libraries.
 */


#ifndef _NGX_HYBRID_COMPAT_H_INCLUDED_
#define _NGX_HYBRID_COMPAT_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


#define NGX_HYBRID_VERSION  "0.1.0"


/* header lists are linked since 1.23.0 */

#if (nginx_version >= 1023000)
#define ngx_hybrid_header_single(h)  (h)->next = NULL
#else
#define ngx_hybrid_header_single(h)
#endif


/* trailers may be kept since 1.27.2 */

#if (nginx_version >= 1027002)
#define ngx_hybrid_parse_chunked(r, b, ctx)                                   \
    ngx_http_parse_chunked(r, b, ctx, 0)
#else
#define ngx_hybrid_parse_chunked(r, b, ctx)                                   \
    ngx_http_parse_chunked(r, b, ctx)
#endif


/* nginx itself looks names up again since 1.27.3: such peers come and go */

#if (nginx_version >= 1027003 && NGX_HTTP_UPSTREAM_ZONE)
#define NGX_HYBRID_UPSTREAM_RESOLVE       1
#define ngx_hybrid_peer_resolved(peer)    ((peer)->host != NULL)
#define ngx_hybrid_server_resolved(server)  ((server)->host.len != 0)
#else
#define ngx_hybrid_peer_resolved(peer)    0
#define ngx_hybrid_server_resolved(server)  0
#endif


/* the fraction of a second of a file's last change */

#if (NGX_LINUX)
#define ngx_hybrid_file_nsec(fi)  (fi)->st_ctim.tv_nsec
#else
#define ngx_hybrid_file_nsec(fi)  0
#endif


/* how long ago a TCP connection's other side was heard */

#if (NGX_LINUX && NGX_HAVE_TCP_INFO)
#define NGX_HYBRID_TCP_ACKS  1
#endif


/* counters of 32 bits, also where ngx_atomic_t has 64 */

typedef volatile uint32_t  ngx_hybrid_atomic32_t;

#define ngx_hybrid_atomic32_add(p, n)                                         \
    (void) __sync_fetch_and_add(p, (uint32_t) (n))
#define ngx_hybrid_atomic32_cmp_set(p, old, set)                              \
    __sync_bool_compare_and_swap(p, old, set)


/* hiredis has TLS since 1.0 */

#if (NGX_HAVE_HIREDIS_SSL && NGX_SSL)
#define NGX_HYBRID_REDIS_TLS  1
#endif


#endif /* _NGX_HYBRID_COMPAT_H_INCLUDED_ */
