
/*
 * Nothing is read or written out of its place, no text is a token for the
 * key, and what is taken for one has the form it must have.
 *
 *     clang -g -O1 -fsanitize=fuzzer,address,undefined \
 *         -fno-sanitize-recover=undefined INCS -Ingx_hybrid_module/core \
 *         -Ingx_hybrid_module/access -o build/fuzz_jws t/fuzz/jws.c \
 *         ngx_hybrid_module/access/ngx_hybrid_{jws,jwk,jwk_key}.c \
 *         ngx_hybrid_module/access/ngx_hybrid_{claims,base64url}.c \
 *         ngx_hybrid_module/core/ngx_hybrid_json*.c -ljwt -ljansson -lcrypto
 *     build/fuzz_jws -max_len=9000 -max_total_time=300 CORPUS
 *
 * INCS: nginx's src/core, src/event, src/os/unix and configure's objs, by
 * -isystem.  An input that begins with "{" is a key set.  Others are tokens;
 * their payload goes to the claims as if the signature were good.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_hybrid_claims.h>
#include <ngx_hybrid_jws.h>

#include <stdio.h>
#include <stdlib.h>


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void fuzz_set(ngx_str_t *text);
static void fuzz_token(ngx_str_t *text);
static void fuzz_claims(ngx_hybrid_jws_t *jws);
static void fuzz_demand(ngx_uint_t ok, const char *what);


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ngx_str_t  text;

    text.data = malloc(size ? size : 1);
    text.len = size;
    ngx_memcpy(text.data, data, size);

    if (size && text.data[0] == '{') {
        fuzz_set(&text);

    } else {
        fuzz_token(&text);
    }

    free(text.data);

    return 0;
}


static void
fuzz_set(ngx_str_t *text)
{
    u_char              error[NGX_HYBRID_JWK_ERROR];
    ngx_uint_t          i;
    ngx_hybrid_jwks_t  *jwks;

    error[0] = '\0';
    jwks = ngx_hybrid_jwks_parse(text, NGX_HYBRID_JWK_PUBLIC, error);

    if (jwks == NULL) {
        fuzz_demand(error[0] != '\0', "an error");
        return;
    }

    fuzz_demand(jwks->nkeys >= 1 && jwks->nkeys <= NGX_HYBRID_JWK_MAX,
                "number of keys");

    for (i = 0; i < jwks->nkeys; i++) {
        fuzz_demand(ngx_hybrid_jwks_find(jwks, &jwks->keys[i].kid)
                    == &jwks->keys[i], "one key for a kid");
    }

    ngx_hybrid_jwks_free(jwks);
}


static void
fuzz_token(ngx_str_t *text)
{
    size_t                    i;
    u_char                    secret[32];
    ngx_str_t                 kid = ngx_null_string;
    ngx_hybrid_jwk_t          jwk;
    static ngx_hybrid_jws_t   jws;

    if (ngx_hybrid_jws_parse(&jws, text) != NULL) {
        return;
    }

    fuzz_demand(text->len <= NGX_HYBRID_JWS_MAX, "length");
    fuzz_demand(jws.input.len < text->len && jws.alg, "input");

    for (i = 0; i < text->len; i++) {
        fuzz_demand(text->data[i] == '.' || text->data[i] == '-'
                    || text->data[i] == '_' || isalnum(text->data[i]),
                    "letters");
    }

    ngx_memset(secret, 's', sizeof(secret));

    if (ngx_hybrid_jwk_secret(&jwk, &kid, secret, sizeof(secret)) == NGX_OK) {
        fuzz_demand(ngx_hybrid_jws_verify(&jws, &jwk) != NULL, "forged");
        ngx_hybrid_jwk_done(&jwk);
    }

    fuzz_claims(&jws);
}


static void
fuzz_claims(ngx_hybrid_jws_t *jws)
{
    ngx_str_t                    audience = ngx_string("gateway");
    ngx_str_t                    names[] = { ngx_string("groups"),
                                             ngx_string("sub") };
    const char                  *why;
    ngx_hybrid_claims_rules_t    rules;
    static ngx_hybrid_claims_t   claims;

    if (ngx_hybrid_claims_scan(&claims, &jws->payload) != NULL) {
        return;
    }

    ngx_memzero(&rules, sizeof(ngx_hybrid_claims_rules_t));
    rules.issuer = claims.iss;
    rules.audiences = &audience;
    rules.naudiences = 1;
    rules.leeway = 60;
    rules.app = 1;

    why = ngx_hybrid_claims_read(&claims, &jws->encoded);

    if (why == NULL) {
        why = ngx_hybrid_claims_check(&claims, &rules, 1800000000);
    }

    if (why == NULL) {
        fuzz_demand(claims.from <= 1800000000 && claims.until > 1800000000,
                    "times");
        fuzz_demand(claims.subject.len <= NGX_HYBRID_CLAIMS_SUBJECT
                    && claims.jti.len <= NGX_HYBRID_CLAIMS_JTI, "lengths");

        why = ngx_hybrid_claims_load(&claims, &jws->payload, names, 2);
    }

    if (why == NULL) {
        (void) ngx_hybrid_claims_has(&claims, 0, &audience);
        (void) ngx_hybrid_claims_has(&claims, 1, &audience);
    }

    ngx_hybrid_claims_done(&claims);
}


static void
fuzz_demand(ngx_uint_t ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "violated: %s\n", what);
        abort();
    }
}
