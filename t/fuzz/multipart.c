
/*
 * Whatever the pieces a form comes in, verdict, offset and field are equal,
 * and the field is where it is said to be.
 *
 *     clang -g -O1 -fsanitize=fuzzer,address,undefined \
 *         -fno-sanitize-recover=undefined INCS -Ingx_hybrid_module/core \
 *         -o build/fuzz_multipart t/fuzz/multipart.c \
 *         ngx_hybrid_module/core/ngx_hybrid_multipart*.c
 *     build/fuzz_multipart -max_len=1024 -max_total_time=300 CORPUS
 *
 * INCS as for t/fuzz/json.c.  The first line of the input is the boundary.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_hybrid_multipart.h>

#include <stdio.h>
#include <stdlib.h>


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static ngx_int_t fuzz_scan(ngx_hybrid_multipart_t *mp, ngx_str_t *type,
    const uint8_t *data, size_t size, size_t most);
static void fuzz_sane(ngx_hybrid_multipart_t *mp, const uint8_t *data,
    size_t size);
static void fuzz_demand(ngx_uint_t ok, const char *what);


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t                   i, n;
    u_char                   text[256], *p;
    ngx_int_t                rc;
    ngx_str_t                type;
    ngx_hybrid_multipart_t   whole, split;

    static size_t  most[] = { 1, 2, 3, 7, 64 };

    for (n = 0; n < size && n < 200 && data[n] != '\n'; n++) {
        /* void */
    }

    p = ngx_cpymem(text, "multipart/form-data; boundary=", 30);
    p = ngx_cpymem(p, data, n);

    type.data = text;
    type.len = p - text;

    n = ngx_min(n + 1, size);
    data += n;
    size -= n;

    rc = fuzz_scan(&whole, &type, data, size, size + 1);

    if (rc == NGX_OK) {
        fuzz_sane(&whole, data, size);
    }

    for (i = 0; i < sizeof(most) / sizeof(most[0]); i++) {
        fuzz_demand(fuzz_scan(&split, &type, data, size, most[i]) == rc,
                    "same verdict");
        fuzz_demand(whole.error == split.error, "same error");
        fuzz_demand(whole.offset == split.offset, "same offset");

        if (rc == NGX_OK) {
            fuzz_demand(whole.found == split.found, "same field");
            fuzz_demand(whole.start == split.start && whole.end == split.end
                        && whole.len == split.len, "same range");
            fuzz_demand(ngx_memcmp(whole.value, split.value, whole.len) == 0,
                        "same value");
        }
    }

    return 0;
}


static ngx_int_t
fuzz_scan(ngx_hybrid_multipart_t *mp, ngx_str_t *type, const uint8_t *data,
    size_t size, size_t most)
{
    size_t   n;
    u_char  *piece;

    ngx_memset(mp, 0xa5, sizeof(ngx_hybrid_multipart_t));

    if (ngx_hybrid_multipart_init(mp, type) != NGX_OK) {
        fuzz_demand(mp->error == NGX_HYBRID_MULTIPART_TYPE, "type");
        return NGX_ERROR;
    }

    while (size) {
        n = ngx_min(size, most);

        piece = malloc(n);
        fuzz_demand(piece != NULL, "malloc");
        ngx_memcpy(piece, data, n);

        fuzz_demand((ngx_hybrid_multipart_feed(mp, piece, n) == NGX_OK)
                    == (mp->error == NGX_HYBRID_MULTIPART_VALID),
                    "feed");
        free(piece);

        data += n;
        size -= n;
    }

    return ngx_hybrid_multipart_finish(mp);
}


static void
fuzz_sane(ngx_hybrid_multipart_t *mp, const uint8_t *data, size_t size)
{
    fuzz_demand(mp->error == NGX_HYBRID_MULTIPART_VALID, "valid");
    fuzz_demand(mp->offset == (off_t) size, "all of it");

    if (!mp->found) {
        return;
    }

    fuzz_demand(mp->start > 0 && mp->start <= mp->end
                && mp->end + mp->length <= (off_t) size,
                "range");
    fuzz_demand(mp->len == mp->end - mp->start, "length");
    fuzz_demand(ngx_memcmp(data + mp->start, mp->value, mp->len) == 0,
                "value");
    fuzz_demand(ngx_memcmp(data + mp->end, mp->delimiter, mp->length) == 0,
                "delimiter");
}


static void
fuzz_demand(ngx_uint_t ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "violated: %s\n", what);
        abort();
    }
}
