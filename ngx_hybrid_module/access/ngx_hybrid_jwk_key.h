
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * What the two files about keys share.
 */


#ifndef _NGX_HYBRID_JWK_KEY_H_INCLUDED_
#define _NGX_HYBRID_JWK_KEY_H_INCLUDED_


#include "ngx_hybrid_jwk.h"
#include <jansson.h>


/* these two: NULL, or why the key can't be used */

const char *ngx_hybrid_jwk_kid(json_t *key, ngx_str_t *kid);

/* makes the public key; fits: the algorithms that it can be used with */
const char *ngx_hybrid_jwk_public(ngx_hybrid_jwk_t *jwk, json_t *key,
    ngx_uint_t *fits);


#endif /* _NGX_HYBRID_JWK_KEY_H_INCLUDED_ */
