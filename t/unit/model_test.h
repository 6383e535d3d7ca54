
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_hybrid_model.h>

#include <stdio.h>
#include <stdlib.h>


/* room for the texts that tests make */
#define TEXT             (2 * NGX_HYBRID_MODEL_BUF)


typedef struct {
    u_char               *buf;
    ngx_int_t             rc;
    ngx_hybrid_model_t    model;
    ngx_hybrid_pattern_t  pattern;
} test_parsed_t;


void test_ok(ngx_uint_t ok, const char *what, const char *text);
void test_parse(test_parsed_t *parsed, const char *text, size_t len,
    ngx_uint_t pattern);
ngx_uint_t test_sane(test_parsed_t *parsed, size_t len);
ngx_uint_t test_same(ngx_str_t *s, const char *want);

void test_random(void);
