
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * The public part of a key: numbers in base64url become an EVP_PKEY, after
 * the checks that OpenSSL does not make.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_hybrid_base64url.h"
#include "ngx_hybrid_jwk_key.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/param_build.h>


#define NGX_HYBRID_JWK_RSA_MIN   2048
#define NGX_HYBRID_JWK_RSA_MAX   8192

/* more would only cost time; OpenSSL's own limit for long keys */
#define NGX_HYBRID_JWK_E_MAX     64

/* a number of RSA_MAX bits, some zeros before it */
#define NGX_HYBRID_JWK_NUMBER    (NGX_HYBRID_JWK_RSA_MAX / 8 + 8)


typedef struct {
    const char              *name;
    ngx_uint_t               alg;
    size_t                   size;
} ngx_hybrid_jwk_curve_t;


static ngx_int_t ngx_hybrid_jwk_bytes(json_t *key, const char *name,
    u_char *buf, size_t size);
static const char *ngx_hybrid_jwk_rsa(ngx_hybrid_jwk_t *jwk, json_t *key);
static const char *ngx_hybrid_jwk_rsa_check(BIGNUM *n, BIGNUM *e);
static ngx_uint_t ngx_hybrid_jwk_roca(BIGNUM *n);
static const char *ngx_hybrid_jwk_rsa_make(ngx_hybrid_jwk_t *jwk, BIGNUM *n,
    BIGNUM *e);
static const char *ngx_hybrid_jwk_ec(ngx_hybrid_jwk_t *jwk, json_t *key,
    ngx_uint_t *fits);
static const char *ngx_hybrid_jwk_ec_make(ngx_hybrid_jwk_t *jwk,
    const char *curve, u_char *point, size_t len);
static const char *ngx_hybrid_jwk_okp(ngx_hybrid_jwk_t *jwk, json_t *key);
static EVP_PKEY *ngx_hybrid_jwk_make(const char *type,
    OSSL_PARAM_BLD *build);


static const ngx_hybrid_jwk_curve_t  ngx_hybrid_jwk_curves[] = {
    { "P-256", NGX_HYBRID_JWK_ES256, 32 },
    { "P-384", NGX_HYBRID_JWK_ES384, 48 },
    { NULL, 0, 0 }
};


const char *
ngx_hybrid_jwk_public(ngx_hybrid_jwk_t *jwk, json_t *key, ngx_uint_t *fits)
{
    const char  *kty;

    kty = json_string_value(json_object_get(key, "kty"));

    if (kty == NULL) {
        return "it has no \"kty\"";
    }

    if (ngx_strcmp(kty, "RSA") == 0) {
        *fits = NGX_HYBRID_JWK_RS256|NGX_HYBRID_JWK_RS384
                |NGX_HYBRID_JWK_RS512|NGX_HYBRID_JWK_PS256;

        return ngx_hybrid_jwk_rsa(jwk, key);
    }

    if (ngx_strcmp(kty, "EC") == 0) {
        return ngx_hybrid_jwk_ec(jwk, key, fits);
    }

    if (ngx_strcmp(kty, "OKP") == 0) {
        *fits = NGX_HYBRID_JWK_EDDSA;

        return ngx_hybrid_jwk_okp(jwk, key);
    }

    return "its \"kty\" is not \"RSA\", \"EC\" or \"OKP\"";
}


static ngx_int_t
ngx_hybrid_jwk_bytes(json_t *key, const char *name, u_char *buf, size_t size)
{
    json_t  *value;

    value = json_object_get(key, name);

    if (!json_is_string(value)) {
        return NGX_ERROR;
    }

    return ngx_hybrid_base64url(buf, size, (u_char *) json_string_value(value),
                                json_string_length(value));
}


static const char *
ngx_hybrid_jwk_rsa(ngx_hybrid_jwk_t *jwk, json_t *key)
{
    u_char       buf[NGX_HYBRID_JWK_NUMBER];
    BIGNUM      *n, *e;
    ngx_int_t    len;
    const char  *why;

    len = ngx_hybrid_jwk_bytes(key, "n", buf, sizeof(buf));

    if (len <= 0) {
        return "its \"n\" is not a number in base64url, or too long";
    }

    n = BN_bin2bn(buf, (int) len, NULL);

    len = ngx_hybrid_jwk_bytes(key, "e", buf, sizeof(buf));

    e = (len > 0) ? BN_bin2bn(buf, (int) len, NULL) : NULL;

    why = (len <= 0) ? "its \"e\" is not a number in base64url"
          : (n == NULL || e == NULL) ? "no memory"
          : ngx_hybrid_jwk_rsa_check(n, e);

    if (why == NULL) {
        why = ngx_hybrid_jwk_rsa_make(jwk, n, e);
    }

    BN_free(n);
    BN_free(e);

    return why;
}


static const char *
ngx_hybrid_jwk_rsa_check(BIGNUM *n, BIGNUM *e)
{
    if (BN_num_bits(n) < NGX_HYBRID_JWK_RSA_MIN) {
        return "its \"n\" has less than 2048 bits";
    }

    if (BN_num_bits(n) > NGX_HYBRID_JWK_RSA_MAX) {
        return "its \"n\" has more than 8192 bits";
    }

    if (!BN_is_odd(n)) {
        return "its \"n\" is even";
    }

    if (!BN_is_odd(e) || BN_is_one(e)
        || BN_num_bits(e) > NGX_HYBRID_JWK_E_MAX)
    {
        return "its \"e\" is even, less than 3 or too large";
    }

    return ngx_hybrid_jwk_roca(n) ? "it is one that can be factored (ROCA)"
                                  : NULL;
}


/*
 * CVE-2017-15361: primes of those keys are k * M + (65537^a mod M), where M
 * is the product of the first primes.  So for each of these the modulus is a
 * power of 65537 as well; of random ones that is about one in 2^27.
 */

static ngx_uint_t
ngx_hybrid_jwk_roca(BIGNUM *n)
{
    BN_ULONG    rest;
    ngx_uint_t  p, q, power;

    for (p = 3; p <= 167; p += 2) {

        for (q = 3; q * q <= p && p % q; q += 2) { /* void */ }

        if (q * q <= p) {
            continue;
        }

        rest = BN_mod_word(n, p);
        power = 1;

        do {
            if (power == rest) {
                break;
            }

            power = power * 65537 % p;

        } while (power != 1);

        if (power != rest) {
            return 0;
        }
    }

    return 1;
}


static const char *
ngx_hybrid_jwk_rsa_make(ngx_hybrid_jwk_t *jwk, BIGNUM *n, BIGNUM *e)
{
    OSSL_PARAM_BLD  *build;

    build = OSSL_PARAM_BLD_new();

    if (build
        && OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_N, n) == 1
        && OSSL_PARAM_BLD_push_BN(build, OSSL_PKEY_PARAM_RSA_E, e) == 1)
    {
        jwk->pkey = ngx_hybrid_jwk_make("RSA", build);
    }

    OSSL_PARAM_BLD_free(build);

    return jwk->pkey ? NULL : "OpenSSL does not take it";
}


static const char *
ngx_hybrid_jwk_ec(ngx_hybrid_jwk_t *jwk, json_t *key, ngx_uint_t *fits)
{
    u_char                         point[1 + 2 * 48];
    const char                    *name;
    const ngx_hybrid_jwk_curve_t  *curve;

    name = json_string_value(json_object_get(key, "crv"));

    if (name == NULL) {
        return "it has no \"crv\"";
    }

    for (curve = ngx_hybrid_jwk_curves; curve->name; curve++) {
        if (ngx_strcmp(curve->name, name) == 0) {
            break;
        }
    }

    if (curve->name == NULL) {
        return "its \"crv\" is not \"P-256\" or \"P-384\"";
    }

    /* RFC 7518, 6.2.1.2: with the zeros in front */

    point[0] = POINT_CONVERSION_UNCOMPRESSED;

    if (ngx_hybrid_jwk_bytes(key, "x", point + 1, curve->size)
        != (ngx_int_t) curve->size
        || ngx_hybrid_jwk_bytes(key, "y", point + 1 + curve->size,
                                curve->size)
           != (ngx_int_t) curve->size)
    {
        return "its \"x\" or \"y\" is not a number of the right length in "
               "base64url";
    }

    *fits = curve->alg;

    return ngx_hybrid_jwk_ec_make(jwk, curve->name, point,
                                  1 + 2 * curve->size);
}


static const char *
ngx_hybrid_jwk_ec_make(ngx_hybrid_jwk_t *jwk, const char *curve,
    u_char *point, size_t len)
{
    ngx_int_t        rc;
    EVP_PKEY_CTX    *check;
    OSSL_PARAM_BLD  *build;

    build = OSSL_PARAM_BLD_new();

    if (build
        && OSSL_PARAM_BLD_push_utf8_string(build, OSSL_PKEY_PARAM_GROUP_NAME,
                                           curve, 0) == 1
        && OSSL_PARAM_BLD_push_octet_string(build, OSSL_PKEY_PARAM_PUB_KEY,
                                            point, len) == 1)
    {
        jwk->pkey = ngx_hybrid_jwk_make("EC", build);
    }

    OSSL_PARAM_BLD_free(build);

    if (jwk->pkey == NULL) {
        return "its point is not on the curve";
    }

    check = EVP_PKEY_CTX_new_from_pkey(NULL, jwk->pkey, NULL);
    rc = check ? EVP_PKEY_public_check(check) : 0;
    EVP_PKEY_CTX_free(check);

    return (rc == 1) ? NULL : "its point is not on the curve";
}


static const char *
ngx_hybrid_jwk_okp(ngx_hybrid_jwk_t *jwk, json_t *key)
{
    u_char       buf[32];
    const char  *name;

    name = json_string_value(json_object_get(key, "crv"));

    if (name == NULL || ngx_strcmp(name, "Ed25519") != 0) {
        return "its \"crv\" is not \"Ed25519\"";
    }

    if (ngx_hybrid_jwk_bytes(key, "x", buf, 32) != 32) {
        return "its \"x\" is not 32 bytes in base64url";
    }

    jwk->pkey = EVP_PKEY_new_raw_public_key_ex(NULL, "ED25519", NULL, buf, 32);

    return jwk->pkey ? NULL : "OpenSSL does not take it";
}


static EVP_PKEY *
ngx_hybrid_jwk_make(const char *type, OSSL_PARAM_BLD *build)
{
    EVP_PKEY      *pkey;
    OSSL_PARAM    *params;
    EVP_PKEY_CTX  *ctx;

    pkey = NULL;

    params = OSSL_PARAM_BLD_to_param(build);
    ctx = EVP_PKEY_CTX_new_from_name(NULL, type, NULL);

    if (params == NULL || ctx == NULL
        || EVP_PKEY_fromdata_init(ctx) != 1
        || EVP_PKEY_fromdata(ctx, &pkey, EVP_PKEY_PUBLIC_KEY, params) != 1)
    {
        EVP_PKEY_free(pkey);
        pkey = NULL;
    }

    EVP_PKEY_CTX_free(ctx);
    OSSL_PARAM_free(params);

    return pkey;
}
