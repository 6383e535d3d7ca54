
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Key sets that are fetched.
 */


#include "ngx_http_hybrid_issuer.h"


void ngx_http_hybrid_jwks_wanted(ngx_http_hybrid_issuer_t *issuer)
    __attribute__((weak));


void
ngx_http_hybrid_jwks_wanted(ngx_http_hybrid_issuer_t *issuer)
{
}
