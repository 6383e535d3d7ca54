
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * OpenSSL tells its version itself; of the others it is the one that the
 * module was built with, and of libjwt that of its package, see "config".
 */


#include "ngx_hybrid_libraries.h"
#include <openssl/crypto.h>
#include <hiredis/hiredis.h>
#include <jansson.h>


#define ngx_hybrid_library_value(n)  #n
#define ngx_hybrid_library_text(n)   ngx_hybrid_library_value(n)


static const char  *ngx_hybrid_libraries[][2] = {
    { "openssl", NULL },
    { "hiredis", ngx_hybrid_library_text(HIREDIS_MAJOR) "."
                 ngx_hybrid_library_text(HIREDIS_MINOR) "."
                 ngx_hybrid_library_text(HIREDIS_PATCH) },
    { "libjwt", NGX_HYBRID_JWT_VERSION },
    { "jansson", JANSSON_VERSION }
};


const char *
ngx_hybrid_library(ngx_uint_t n, const char **version)
{
    if (n >= sizeof(ngx_hybrid_libraries) / sizeof(ngx_hybrid_libraries[0])) {
        return NULL;
    }

    *version = n ? ngx_hybrid_libraries[n][1]
                 : OpenSSL_version(OPENSSL_VERSION_STRING);

    return ngx_hybrid_libraries[n][0];
}
