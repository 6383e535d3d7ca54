
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * base64url as JOSE writes it: no padding, no other byte, and the bits that
 * are left over are zero, so that a text has one form only.
 */


#ifndef _NGX_HYBRID_BASE64URL_H_INCLUDED_
#define _NGX_HYBRID_BASE64URL_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/* what so many characters need at most */
#define ngx_hybrid_base64url_size(n)  ((n) / 4 * 3 + 3)


/* the number of bytes written, NGX_ERROR: not in that form, or too long */
ngx_int_t ngx_hybrid_base64url(u_char *dst, size_t size, u_char *src,
    size_t len);


#endif /* _NGX_HYBRID_BASE64URL_H_INCLUDED_ */
