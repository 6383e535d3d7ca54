
/* what tokens.c links but never calls: without the headers of nginx */


#include <stdlib.h>


#define test_stub(name)                                                       \
    void name(void);                                                          \
    void name(void) { abort(); }


test_stub(ngx_alloc_chain_link)
test_stub(ngx_atoi)
test_stub(ngx_conf_log_error)
test_stub(ngx_create_temp_file)
test_stub(ngx_http_core_module)
test_stub(ngx_http_hybrid_conf_option)
test_stub(ngx_hybrid_multipart_feed)
test_stub(ngx_hybrid_multipart_init)
test_stub(ngx_palloc)
test_stub(ngx_parse_time)
test_stub(ngx_pcalloc)
test_stub(ngx_read_file)
test_stub(ngx_write_file)
