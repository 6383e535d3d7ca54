
/* link: access/ngx_hybrid_jws.c access/ngx_hybrid_jwk.c
 *       access/ngx_hybrid_jwk_key.c access/ngx_hybrid_base64url.c
 *       core/ngx_hybrid_json.c core/ngx_hybrid_json_key.c
 *       core/ngx_hybrid_json_token.c core/ngx_hybrid_json_skip.c
 */
/* libs: -ljansson -lcrypto */

/*
 * Tokens of the RFCs: signed by others, so that signing and verifying can't
 * be wrong in the same way; and all that one changed byte makes of them.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_hybrid_jws.h>

#include <openssl/err.h>

#include <stdio.h>
#include <stdlib.h>

#include "tap.h"


#define ALL     0xff

/* RFC 7515, appendix A.1: {"typ":"JWT",\r\n "alg":"HS256"} */
#define HS256                                                                 \
    "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9."                               \
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFt"        \
    "cGxlLmNvbS9pc19yb290Ijp0cnVlfQ."                                         \
    "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
#define HS256_KEY                                                             \
    "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0i"        \
    "PS4hcgUuTwjAzZr1Z9CAow"

/* A.3: {"alg":"ES256"}; RFC 8037, appendix A.4: {"alg":"EdDSA"} */
#define ES256                                                                 \
    "eyJhbGciOiJFUzI1NiJ9."                                                   \
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFt"        \
    "cGxlLmNvbS9pc19yb290Ijp0cnVlfQ."                                         \
    "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSA"        \
    "pmWQxfKTUJqPP3-Kg6NU1Q"
#define EDDSA                                                                 \
    "eyJhbGciOiJFZERTQSJ9."                                                   \
    "RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc."                                    \
    "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt"   \
    "9g7sVvpAr_MuM0KAg"

#define KEYS                                                                  \
    "{\"keys\":[{\"kty\":\"EC\",\"kid\":\"es\",\"crv\":\"P-256\","            \
    "\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\","                  \
    "\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\"},"                 \
    "{\"kty\":\"OKP\",\"kid\":\"ed\",\"crv\":\"Ed25519\","                    \
    "\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}]}"


static const char *test_token(const char *text, size_t len,
    ngx_hybrid_jwk_t *jwk);
static void test_verify(const char *text, ngx_hybrid_jwk_t *jwk,
    const char *name);
static void test_change(const char *text, ngx_hybrid_jwk_t *jwk,
    const char *name);
static void test_shape(void);


static ngx_hybrid_jws_t  jws;


int
main(void)
{
    u_char              error[NGX_HYBRID_JWK_ERROR], secret[64];
    ngx_str_t           set = ngx_string(KEYS), kid = ngx_null_string;
    ngx_hybrid_jwk_t    hs;
    ngx_hybrid_jwks_t  *jwks;

    jwks = ngx_hybrid_jwks_parse(&set, ALL, error);
    test_ok(jwks && jwks->nkeys == 2, "the keys of the RFCs");

    test_ok(ngx_hybrid_base64url(secret, 64, (u_char *) HS256_KEY,
                                 sizeof(HS256_KEY) - 1) == 64
            && ngx_hybrid_jwk_secret(&hs, &kid, secret, 64) == NGX_OK,
            "the secret of RFC 7515");

    test_verify(HS256, &hs, "RFC 7515, A.1");
    test_verify(ES256, &jwks->keys[0], "RFC 7515, A.3");
    test_verify(EDDSA, &jwks->keys[1], "RFC 8037, A.4");

    test_change(HS256, &hs, "HS256");
    test_change(ES256, &jwks->keys[0], "ES256");
    test_change(EDDSA, &jwks->keys[1], "EdDSA");

    test_shape();

    ngx_hybrid_jwk_done(&hs);
    ngx_hybrid_jwks_free(jwks);

    test_ok(ERR_peek_error() == 0, "no error is left in OpenSSL's queue");

    return tap_end();
}


/* the token in a block of its own: a read past it is seen */

static const char *
test_token(const char *text, size_t len, ngx_hybrid_jwk_t *jwk)
{
    ngx_str_t    token;
    const char  *why;

    token.data = malloc(len ? len : 1);
    token.len = len;
    ngx_memcpy(token.data, text, len);

    why = ngx_hybrid_jws_parse(&jws, &token);

    if (why == NULL && jwk) {
        why = ngx_hybrid_jws_verify(&jws, jwk);
    }

    free(token.data);

    return why;
}


static void
test_verify(const char *text, ngx_hybrid_jwk_t *jwk, const char *name)
{
    ngx_uint_t  i, ok;

    ok = 1;

    /* what was set up once serves again, also after a failure */

    for (i = 0; i < 3; i++) {
        ok &= test_token(text, strlen(text), jwk) == NULL;
        ok &= test_token(text, strlen(text) - 4, jwk) != NULL;
    }

    test_ok(ok, name);
}


static void
test_change(const char *text, ngx_hybrid_jwk_t *jwk, const char *name)
{
    char         copy[1024];
    size_t       i, len;
    ngx_uint_t   c, good;

    len = strlen(text);
    good = 0;

    for (i = 0; i < len; i++) {
        memcpy(copy, text, len);

        for (c = 0; c < 256; c++) {

            /* the slow ones: some of them */

            if (jwk->mac == NULL && (c + i) % 16 != 0) {
                continue;
            }

            copy[i] = (char) c;
            good += copy[i] != text[i] && test_token(copy, len, jwk) == NULL;
        }
    }

    test_ok(good == 0, name);

    for (i = 0; i < len; i++) {
        good += test_token(text, i, jwk) == NULL;
    }

    test_ok(good == 0, "cut off anywhere");
}


static void
test_shape(void)
{
    char  *text;

    static const char  start[] = "eyJhbGciOiJIUzI1NiJ9.";

    text = malloc(NGX_HYBRID_JWS_MAX + 2);
    memset(text, 'A', NGX_HYBRID_JWS_MAX + 1);
    memcpy(text, start, sizeof(start) - 1);
    text[NGX_HYBRID_JWS_MAX - 4] = '.';

    /* the payload: as many letters as make whole bytes */

    text[NGX_HYBRID_JWS_MAX - 5] = 'A';

    test_ok(test_token(text, NGX_HYBRID_JWS_MAX - 1, NULL) != NULL
            || jws.payload.len < NGX_HYBRID_JWS_MAX, "nearly 8 KiB");
    test_ok(test_token(text, NGX_HYBRID_JWS_MAX + 1, NULL) != NULL,
            "more than 8 KiB");

    free(text);

    test_ok(test_token("", 0, NULL) != NULL, "nothing");
    test_ok(test_token("..", 2, NULL) != NULL, "dots");
}
