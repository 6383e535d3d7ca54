
/* link: access/ngx_hybrid_jwk.c access/ngx_hybrid_jwk_key.c
 *       access/ngx_hybrid_base64url.c
 */
/* libs: -ljansson -lcrypto */

/*
 * Key sets, good and bad.  In the text of a case <name> stands for a number
 * of a key that was made for this run.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_hybrid_base64url.h>
#include <ngx_hybrid_jwk.h>

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/err.h>

#include <stdio.h>
#include <stdlib.h>


#define RS     NGX_HYBRID_JWK_RS256
#define ES     NGX_HYBRID_JWK_ES256
#define ED     NGX_HYBRID_JWK_EDDSA
#define ALL    0xff

#define RSA_   "{\"kty\":\"RSA\",\"kid\":\"a\",\"n\":\"<n>\",\"e\":\"AQAB\""
#define EC_    "{\"kty\":\"EC\",\"kid\":\"b\",\"crv\":\"P-256\","             \
               "\"x\":\"<x>\",\"y\":\"<y>\""
#define OKP_   "{\"kty\":\"OKP\",\"kid\":\"c\",\"crv\":\"Ed25519\","          \
               "\"x\":\"<d>\""
#define RSA    RSA_ ",\"alg\":\"RS256\"}"
#define EC     EC_ ",\"alg\":\"ES256\"}"


typedef struct {
    const char          *name;
    char                 text[2048];
} test_number_t;


typedef struct {
    const char          *keys;     /* in the list */
    ngx_uint_t           algs;
    ngx_uint_t           nkeys;
    const char          *why;      /* in the error, or for the last dropped */
} test_case_t;


static void test_ok(ngx_uint_t ok, const char *name);
static char *test_number(const char *name);
static void test_encode(const char *name, u_char *p, size_t len);
static void test_bn(const char *name, BIGNUM *bn, size_t size);
static void test_rsa(void);
static void test_roca(void);
static void test_ec(const char *curve, const char *x, const char *y,
    size_t size);
static void test_ed25519(void);
static char *test_expand(const char *text);
static void test_case(test_case_t *tc);
static void test_text(const char *text, const char *why);
static void test_sets(void);
static void test_many(void);
static void test_find(void);
static void test_secret(void);
static void test_base64url(void);


static test_number_t  numbers[] = {
    { "n", "" }, { "short", "" }, { "long", "" }, { "even", "" },
    { "roca", "" }, { "zeros", "" }, { "x", "" }, { "y", "" },
    { "x384", "" }, { "y384", "" }, { "off", "" }, { "d", "" }
};


static test_case_t  cases[] = {

    { RSA, RS, 1, NULL },
    { EC, ES, 1, NULL },
    { OKP_ ",\"alg\":\"EdDSA\"}", ED, 1, NULL },
    { RSA "," EC "," OKP_ "}", ALL, 3, NULL },
    { "{\"kty\":\"EC\",\"kid\":\"b\",\"crv\":\"P-384\",\"x\":\"<x384>\","
      "\"y\":\"<y384>\"}", ALL, 1, NULL },

    /* alg */

    { RSA_ "}", RS, 1, NULL },
    { RSA_ "}", RS|ES|ED, 1, NULL },
    { RSA_ "}", RS|NGX_HYBRID_JWK_RS384, 0, "more than one" },
    { RSA_ "}", RS|NGX_HYBRID_JWK_PS256, 0, "more than one" },
    { RSA_ "}", ES, 0, "none of the issuer's" },
    { EC_ "}", ALL, 1, NULL },
    { RSA_ ",\"alg\":\"RS384\"}", RS, 0, "not one of the issuer's" },
    { RSA_ ",\"alg\":\"PS256\"}", ALL, 1, NULL },
    { RSA_ ",\"alg\":\"ES256\"}", ALL, 0, "not one that fits" },
    { RSA_ ",\"alg\":\"HS256\"}", ALL, 0, "not one that fits" },
    { RSA_ ",\"alg\":\"rs256\"}", ALL, 0, "not one that fits" },
    { RSA_ ",\"alg\":\"none\"}", ALL, 0, "not one that fits" },
    { RSA_ ",\"alg\":null}", RS, 0, "not one that fits" },
    { RSA_ ",\"alg\":[\"RS256\"]}", RS, 0, "not one that fits" },
    { EC_ ",\"alg\":\"ES384\"}", ALL, 0, "not one that fits" },
    { EC_ ",\"alg\":\"RS256\"}", ALL, 0, "not one that fits" },
    { OKP_ ",\"alg\":\"ES256\"}", ALL, 0, "not one that fits" },

    /* kid */

    { "{\"kty\":\"RSA\",\"n\":\"<n>\",\"e\":\"AQAB\"}", RS, 0, "no \"kid\"" },
    { "{\"kid\":\"\",\"kty\":\"RSA\"}", RS, 0, "empty or too long" },
    { "{\"kid\":1,\"kty\":\"RSA\"}", RS, 0, "no \"kid\"" },
    { "{\"kid\":\"a\\n\",\"kty\":\"RSA\"}", RS, 0, "not printable" },
    { "{\"kid\":\"\\u00e9\",\"kty\":\"RSA\"}", RS, 0, "not printable" },
    { RSA "," RSA, RS, 0, "another key has the same \"kid\"" },
    { RSA "," RSA_ ",\"use\":\"enc\"}," EC, RS|ES, 1, "the same \"kid\"" },
    { RSA ",{\"kid\":\"a\"}," EC, RS|ES, 1, "the same \"kid\"" },
    { RSA ",{\"kid\":\"A\"}", RS, 1, "no \"kty\"" },

    /* what it is for */

    { RSA_ ",\"use\":\"sig\"}", RS, 1, NULL },
    { RSA_ ",\"use\":\"enc\"}", RS, 0, "\"use\" is not" },
    { RSA_ ",\"use\":\"Sig\"}", RS, 0, "\"use\" is not" },
    { RSA_ ",\"use\":null}", RS, 0, "\"use\" is not" },
    { RSA_ ",\"key_ops\":[\"sign\",\"verify\"]}", RS, 1, NULL },
    { RSA_ ",\"key_ops\":[\"sign\"]}", RS, 0, "\"key_ops\"" },
    { RSA_ ",\"key_ops\":[]}", RS, 0, "\"key_ops\"" },
    { RSA_ ",\"key_ops\":\"verify\"}", RS, 0, "\"key_ops\"" },

    /* secrets */

    { RSA_ ",\"d\":\"AQAB\"}", RS, 0, "it holds a secret" },
    { RSA_ ",\"p\":\"AQAB\"}", RS, 0, "it holds a secret" },
    { RSA_ ",\"qi\":null}", RS, 0, "it holds a secret" },
    { RSA_ ",\"oth\":[]}", RS, 0, "it holds a secret" },
    { EC_ ",\"d\":\"AQAB\"}", ES, 0, "it holds a secret" },
    { RSA_ ",\"k\":\"AQAB\"}", RS, 0, "it holds a secret" },
    { "{\"kty\":\"oct\",\"kid\":\"a\",\"k\":\"<n>\",\"alg\":\"HS256\"}", ALL,
      0, "it holds a secret" },
    { "{\"kty\":\"oct\",\"kid\":\"a\",\"alg\":\"HS256\"}", ALL, 0,
      "\"kty\" is not" },
    { "{\"kty\":\"rsa\",\"kid\":\"a\"}", ALL, 0, "\"kty\" is not" },
    { "{\"kty\":1,\"kid\":\"a\"}", ALL, 0, "no \"kty\"" },
    { "[]", ALL, 0, "not an object" },
    { "null," RSA, ALL, 1, "not an object" },

    /* RSA */

#define N(n, e)  "{\"kty\":\"RSA\",\"kid\":\"a\",\"n\":\"" n "\",\"e\":\"" e  \
                 "\"}"
    { N("<zeros>", "AQAB"), RS, 1, NULL },
    { N("<n>", "Aw"), RS, 1, NULL },
    { N("<n>", "AAEAAQ"), RS, 1, NULL },
    { N("<n>", "AQ"), RS, 0, "less than 3" },
    { N("<n>", "Ag"), RS, 0, "even" },
    { N("<n>", "AA"), RS, 0, "even" },
    { N("<n>", ""), RS, 0, "\"e\" is not" },
    { N("<n>", "AQAB="), RS, 0, "\"e\" is not" },
    { N("<n>", "AQAAAAAAAAAB"), RS, 0, "too large" },
    { N("<n>", "<n>"), RS, 0, "too large" },
    { N("<n>=", "AQAB"), RS, 0, "\"n\" is not" },
    { N("<n>+", "AQAB"), RS, 0, "\"n\" is not" },
    { N("", "AQAB"), RS, 0, "\"n\" is not" },
    { N("AQAB", "AQAB"), RS, 0, "less than 2048" },
    { N("<short>", "AQAB"), RS, 0, "less than 2048" },
    { N("<long>", "AQAB"), RS, 0, "more than 8192" },
    { N("<even>", "AQAB"), RS, 0, "is even" },
    { N("<roca>", "AQAB"), RS, 0, "ROCA" },
    { "{\"kty\":\"RSA\",\"kid\":\"a\",\"n\":1,\"e\":\"AQAB\"}", RS, 0,
      "\"n\" is not" },
    { "{\"kty\":\"RSA\",\"kid\":\"a\",\"n\":\"<n>\",\"e\":65537}", RS, 0,
      "\"e\" is not" },

    /* curves */

#define P(crv, x, y)  "{\"kty\":\"EC\",\"kid\":\"b\",\"crv\":\"" crv          \
                      "\",\"x\":\"" x "\",\"y\":\"" y "\"}"
    { P("P-256", "<off>", "<y>"), ALL, 0, "not on the curve" },
    { P("P-256", "<y>", "<x>"), ALL, 0, "not on the curve" },
    { P("P-384", "<x>", "<y>"), ALL, 0, "right length" },
    { P("P-256", "<x384>", "<y384>"), ALL, 0, "right length" },
    { P("P-256", "AAAA", "<y>"), ALL, 0, "right length" },
    { P("P-256", "<x>", "<y>A"), ALL, 0, "right length" },
    { P("p-256", "<x>", "<y>"), ALL, 0, "\"crv\" is not" },
    { P("P-521", "<x>", "<y>"), ALL, 0, "\"crv\" is not" },
    { P("secp256k1", "<x>", "<y>"), ALL, 0, "\"crv\" is not" },
    { "{\"kty\":\"EC\",\"kid\":\"b\"}", ALL, 0, "no \"crv\"" },
    { "{\"kty\":\"EC\",\"kid\":\"b\",\"crv\":\"P-256\",\"x\":\"<x>\"}", ALL,
      0, "right length" },
    { "{\"kty\":\"OKP\",\"kid\":\"c\",\"crv\":\"X25519\",\"x\":\"<d>\"}", ALL,
      0, "\"crv\" is not" },
    { "{\"kty\":\"OKP\",\"kid\":\"c\",\"crv\":\"Ed448\",\"x\":\"<d>\"}", ALL,
      0, "\"crv\" is not" },
    { "{\"kty\":\"OKP\",\"kid\":\"c\",\"crv\":\"Ed25519\",\"x\":\"<x384>\"}",
      ALL, 0, "not 32 bytes" },

    { "", ALL, 0, "no usable key" }
};


static ngx_uint_t  tests;
static ngx_uint_t  failed;


int
main(void)
{
    ngx_uint_t  i;

    test_rsa();
    test_roca();
    test_ec("P-256", "x", "y", 32);
    test_ec("P-384", "x384", "y384", 48);
    test_ed25519();

    for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        test_case(&cases[i]);
    }

    test_sets();
    test_many();
    test_find();
    test_secret();
    test_base64url();

    test_ok(ERR_peek_error() == 0, "no error is left in OpenSSL's queue");

    printf("1..%d\n", (int) tests);

    return failed ? 1 : 0;
}


static void
test_ok(ngx_uint_t ok, const char *name)
{
    const char  *p;

    if (!ok) {
        failed++;
    }

    printf("%sok %d - ", ok ? "" : "not ", (int) ++tests);

    for (p = name; *p && p < name + 100; p++) {
        putchar(*p == '#' ? ' ' : *p);
    }

    putchar('\n');
}


static char *
test_number(const char *name)
{
    ngx_uint_t  i;

    for (i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        if (strcmp(numbers[i].name, name) == 0) {
            return numbers[i].text;
        }
    }

    abort();
}


static void
test_encode(const char *name, u_char *p, size_t len)
{
    char      *text;
    size_t     i;
    uint32_t   v;

    static const char  letters[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

    text = test_number(name);

    for (i = 0; i < len; i += 3) {
        v = p[i] << 16 | (i + 1 < len ? p[i + 1] << 8 : 0)
            | (i + 2 < len ? p[i + 2] : 0);

        *text++ = letters[v >> 18];
        *text++ = letters[v >> 12 & 63];

        if (i + 1 < len) {
            *text++ = letters[v >> 6 & 63];
        }

        if (i + 2 < len) {
            *text++ = letters[v & 63];
        }
    }

    *text = '\0';
}


static void
test_bn(const char *name, BIGNUM *bn, size_t size)
{
    u_char  buf[1100];

    BN_bn2binpad(bn, buf, (int) size);
    test_encode(name, buf, size);
}


static void
test_rsa(void)
{
    BIGNUM    *n;
    EVP_PKEY  *pkey;

    pkey = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t) 2048);
    n = NULL;
    EVP_PKEY_get_bn_param(pkey, OSSL_PKEY_PARAM_RSA_N, &n);

    test_bn("n", n, 256);
    test_bn("zeros", n, 260);

    BN_clear_bit(n, 0);
    test_bn("even", n, 256);

    BN_set_bit(n, 0);
    BN_clear_bit(n, 2047);
    test_bn("short", n, 256);

    BN_set_bit(n, 8192);
    test_bn("long", n, 1025);

    BN_free(n);
    EVP_PKEY_free(pkey);
}


/* a number that is a power of 65537 for each of the primes, and 2048 bits */

static void
test_roca(void)
{
    BIGNUM      *m, *n, *e;
    BN_CTX      *ctx;
    ngx_uint_t   p, q;

    m = BN_new();
    n = BN_new();
    e = BN_new();
    ctx = BN_CTX_new();

    BN_one(m);

    for (p = 3; p <= 167; p += 2) {
        for (q = 3; q * q <= p && p % q; q += 2) { /* void */ }

        if (q * q > p) {
            BN_mul_word(m, p);
        }
    }

    BN_set_word(n, 65537);
    BN_set_word(e, 123456789);
    BN_mod_exp(n, n, e, m, ctx);

    /* n + k * m, of the right size and odd */

    BN_zero(e);
    BN_set_bit(e, 2047 - BN_num_bits(m) + 1);
    BN_mul(e, e, m, ctx);
    BN_add(n, n, e);

    if (!BN_is_odd(n)) {
        BN_add(n, n, m);
    }

    test_bn("roca", n, 256);

    BN_free(m);
    BN_free(n);
    BN_free(e);
    BN_CTX_free(ctx);
}


static void
test_ec(const char *curve, const char *x, const char *y, size_t size)
{
    u_char     buf[256];
    size_t     len;
    EVP_PKEY  *pkey;

    pkey = EVP_PKEY_Q_keygen(NULL, NULL, "EC", curve);
    EVP_PKEY_get_octet_string_param(pkey, OSSL_PKEY_PARAM_PUB_KEY, buf,
                                    sizeof(buf), &len);

    test_encode(x, buf + 1, size);
    test_encode(y, buf + 1 + size, size);

    if (size == 32) {
        buf[size] ^= 1;
        test_encode("off", buf + 1, size);
    }

    EVP_PKEY_free(pkey);
}


static void
test_ed25519(void)
{
    u_char     buf[32];
    size_t     len;
    EVP_PKEY  *pkey;

    len = sizeof(buf);
    pkey = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    EVP_PKEY_get_raw_public_key(pkey, buf, &len);

    test_encode("d", buf, len);

    EVP_PKEY_free(pkey);
}


static char *
test_expand(const char *text)
{
    char         name[16], *p;
    const char  *end;

    static char  out[65536];

    for (p = out; *text; text++) {

        if (*text != '<') {
            *p++ = *text;
            continue;
        }

        end = strchr(text, '>');
        memcpy(name, text + 1, end - text - 1);
        name[end - text - 1] = '\0';

        p += sprintf(p, "%s", test_number(name));
        text = end;
    }

    *p = '\0';

    return out;
}


static void
test_case(test_case_t *tc)
{
    char                text[4096];
    u_char              error[NGX_HYBRID_JWK_ERROR];
    ngx_str_t           set;
    ngx_uint_t          ok;
    ngx_hybrid_jwks_t  *jwks;

    snprintf(text, sizeof(text), "{\"keys\":[%s],\"x\":1}", tc->keys);

    set.data = (u_char *) test_expand(text);
    set.len = strlen((char *) set.data);

    /* in a block of its size: a read past it is seen */

    set.data = memcpy(malloc(set.len), set.data, set.len);

    error[0] = '\0';
    jwks = ngx_hybrid_jwks_parse(&set, tc->algs, error);
    free(set.data);

    if (tc->nkeys == 0) {
        ok = jwks == NULL && strstr((char *) error, tc->why) != NULL;

    } else {
        ok = jwks && jwks->nkeys == tc->nkeys
             && (tc->why ? strstr((char *) jwks->dropped, tc->why) != NULL
                         : jwks->ndropped == 0);
    }

    test_ok(ok, tc->keys);

    if (!ok) {
        printf("# %s\n", jwks ? (char *) jwks->dropped : (char *) error);
    }

    ngx_hybrid_jwks_free(jwks);
}


static void
test_text(const char *text, const char *why)
{
    u_char              error[NGX_HYBRID_JWK_ERROR];
    ngx_str_t           set;
    ngx_hybrid_jwks_t  *jwks;

    set.data = (u_char *) text;
    set.len = strlen(text);

    jwks = ngx_hybrid_jwks_parse(&set, ALL, error);

    test_ok(jwks == NULL && strstr((char *) error, why), text);

    ngx_hybrid_jwks_free(jwks);
}


static void
test_sets(void)
{
    char  *text;

    test_text("", "not JSON");
    test_text("{", "not JSON");
    test_text("<html></html>", "not JSON");
    test_text("{\"keys\":[]} x", "not JSON");
    test_text("{\"keys\":[],\"keys\":[]}", "not JSON");
    test_text("{\"keys\":[{\"kid\":\"a\",\"kid\":\"b\"}]}", "not JSON");
    test_text("{\"keys\":[{\"kid\":\"a\\u0000b\"}]}", "not JSON");
    test_text("{\"keys\":[{\"kid\":\"\xff\"}]}", "not JSON");
    test_text("[]", "no list \"keys\"");
    test_text("{}", "no list \"keys\"");
    test_text("{\"keys\":{}}", "no list \"keys\"");
    test_text("{\"keys\":null}", "no list \"keys\"");
    test_text("{\"keys\":\"\"}", "no list \"keys\"");

    text = malloc(NGX_HYBRID_JWK_SET_MAX + 2);
    memset(text, ' ', NGX_HYBRID_JWK_SET_MAX + 1);
    text[NGX_HYBRID_JWK_SET_MAX + 1] = '\0';
    test_text(text, "larger than 1 MiB");

    memset(text, '[', 100000);
    text[100000] = '\0';
    test_text(text, "not JSON");
    free(text);
}


static void
test_many(void)
{
    char                key[1024], *p, *text;
    u_char              error[NGX_HYBRID_JWK_ERROR];
    ngx_str_t           set;
    ngx_uint_t          i, n;
    ngx_hybrid_jwks_t  *jwks;

    text = malloc(200000);

    for (n = 100; n <= 101; n++) {
        p = text + sprintf(text, "{\"keys\":[");

        for (i = 0; i < n; i++) {
            snprintf(key, sizeof(key), "{\"kty\":\"EC\",\"crv\":\"P-256\","
                     "\"x\":\"<x>\",\"y\":\"<y>\",\"kid\":\"k%d\"}", (int) i);
            p += sprintf(p, "%s%s", i ? "," : "", test_expand(key));
        }

        p += sprintf(p, "]}");

        set.data = (u_char *) text;
        set.len = p - text;
        jwks = ngx_hybrid_jwks_parse(&set, ES, error);

        test_ok(n == 100 ? jwks && jwks->nkeys == 100
                         : jwks == NULL && strstr((char *) error, "101 keys"),
                n == 100 ? "100 keys" : "101 keys");

        ngx_hybrid_jwks_free(jwks);
    }

    free(text);
}


static void
test_find(void)
{
    u_char              error[NGX_HYBRID_JWK_ERROR];
    ngx_str_t           set, kid;
    ngx_hybrid_jwks_t  *jwks;

    set.data = (u_char *) test_expand("{\"keys\":[" RSA "," EC "]}");
    set.len = strlen((char *) set.data);
    jwks = ngx_hybrid_jwks_parse(&set, RS|ES, error);

    ngx_str_set(&kid, "b");
    test_ok(jwks && ngx_hybrid_jwks_find(jwks, &kid) == &jwks->keys[1],
            "found by kid");
    test_ok(jwks->keys[1].alg == ES && jwks->keys[1].size == 64
            && jwks->keys[0].alg == RS && jwks->keys[0].size == 256,
            "with its algorithm and the size of a signature");

    ngx_str_set(&kid, "B");
    test_ok(ngx_hybrid_jwks_find(jwks, &kid) == NULL, "not in another case");
    ngx_str_set(&kid, "bb");
    test_ok(ngx_hybrid_jwks_find(jwks, &kid) == NULL, "not by its beginning");
    ngx_str_set(&kid, "");
    test_ok(ngx_hybrid_jwks_find(jwks, &kid) == NULL, "not by nothing");

    ngx_hybrid_jwks_free(jwks);
}


static void
test_secret(void)
{
    u_char            secret[32];
    ngx_str_t         kid = ngx_string("k");
    ngx_hybrid_jwk_t  jwk;

    ngx_memset(secret, 's', sizeof(secret));

    test_ok(ngx_hybrid_jwk_secret(&jwk, &kid, secret, 31) == NGX_ERROR,
            "a secret of 31 bytes");
    test_ok(ngx_hybrid_jwk_secret(&jwk, &kid, secret, 32) == NGX_OK
            && jwk.size == 32, "a secret of 32 bytes");

    ngx_hybrid_jwk_done(&jwk);
}


/* every text of up to three letters has one form at most */

static void
test_base64url(void)
{
    u_char      text[4], out[4], seen[65536 / 8];
    ngx_int_t   n;
    ngx_uint_t  a, b, c, ok, good;

    ok = 1;
    good = 0;
    ngx_memzero(seen, sizeof(seen));

    for (a = 0; a < 256; a++) {
        for (b = 0; b < 256; b++) {
            text[0] = (u_char) a;
            text[1] = (u_char) b;

            good += ngx_hybrid_base64url(out, 4, text, 2) == 1;

            for (c = 0; c < 256; c++) {
                text[2] = (u_char) c;
                n = ngx_hybrid_base64url(out, 4, text, 3);

                if (n == NGX_ERROR) {
                    continue;
                }

                ok &= n == 2 && !(seen[out[0] * 32 + out[1] / 8]
                                  & (1 << (out[1] & 7)));
                seen[out[0] * 32 + out[1] / 8] |= 1 << (out[1] & 7);
            }
        }
    }

    for (a = 0; a < sizeof(seen); a++) {
        ok &= seen[a] == 0xff;
    }

    test_ok(good == 256, "two letters: 256 of them are a byte");
    test_ok(ok, "three letters: one text for each two bytes");

    test_ok(ngx_hybrid_base64url(out, 2, (u_char *) "AAAA", 4) == NGX_ERROR
            && ngx_hybrid_base64url(out, 3, (u_char *) "AAAA", 4) == 3,
            "what there is no room for");
    test_ok(ngx_hybrid_base64url(out, 4, (u_char *) "A", 1) == NGX_ERROR
            && ngx_hybrid_base64url(out, 4, (u_char *) "AAAAA", 5)
               == NGX_ERROR,
            "a letter alone");
    test_ok(ngx_hybrid_base64url(out, 4, (u_char *) "", 0) == 0, "nothing");
}
