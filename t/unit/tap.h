
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * What a unit test says, in the Test Anything Protocol: each test_ok() is a
 * line, and main() ends with "return tap_end();".
 */


#ifndef _TAP_H_INCLUDED_
#define _TAP_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


static ngx_uint_t  test_n;
static ngx_uint_t  test_failed;


static ngx_inline void
test_ok(ngx_uint_t ok, const char *what)
{
    test_n++;
    test_failed += !ok;

    printf("%sok %u - %s\n", ok ? "" : "not ", (unsigned) test_n, what);
}


static ngx_inline int
tap_end(void)
{
    printf("1..%u\n", (unsigned) test_n);

    return test_failed != 0;
}


#endif /* _TAP_H_INCLUDED_ */
