
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Each key of a set is checked alone, and dropped if it can't be used: an
 * issuer may publish keys for others.  What is wrong with the set itself
 * makes it a bad one.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_hybrid_jwk.h"
#include "ngx_hybrid_jwk_key.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <openssl/rsa.h>


typedef struct {
    const char              *name;
    ngx_uint_t               alg;
    const char              *md;
} ngx_hybrid_jwk_alg_t;


static ngx_uint_t ngx_hybrid_jwks_keys(ngx_hybrid_jwks_t *jwks, json_t *list,
    ngx_uint_t algs);
static ngx_uint_t ngx_hybrid_jwks_twice(json_t *list, json_t *key);
static void ngx_hybrid_jwks_drop(ngx_hybrid_jwks_t *jwks, ngx_uint_t n,
    json_t *key, const char *why);
static const char *ngx_hybrid_jwk_parse(ngx_hybrid_jwk_t *jwk, json_t *key,
    json_t *list, ngx_uint_t algs);
static const char *ngx_hybrid_jwk_use(json_t *key);
static const char *ngx_hybrid_jwk_pin(ngx_hybrid_jwk_t *jwk, json_t *key,
    ngx_uint_t fits, ngx_uint_t algs);
static const char *ngx_hybrid_jwk_prepare(ngx_hybrid_jwk_t *jwk);
static const ngx_hybrid_jwk_alg_t *ngx_hybrid_jwk_alg_find(ngx_uint_t alg);


static const ngx_hybrid_jwk_alg_t  ngx_hybrid_jwk_algs[] = {
    { "RS256", NGX_HYBRID_JWK_RS256, "SHA256" },
    { "RS384", NGX_HYBRID_JWK_RS384, "SHA384" },
    { "RS512", NGX_HYBRID_JWK_RS512, "SHA512" },
    { "PS256", NGX_HYBRID_JWK_PS256, "SHA256" },
    { "ES256", NGX_HYBRID_JWK_ES256, "SHA256" },
    { "ES384", NGX_HYBRID_JWK_ES384, "SHA384" },
    { "EdDSA", NGX_HYBRID_JWK_EDDSA, NULL },
    { "HS256", NGX_HYBRID_JWK_HS256, "SHA256" },
    { NULL, 0, NULL }
};


/* a secret has no place in a set that others can read */

static const char  *ngx_hybrid_jwk_private[] = {
    "d", "p", "q", "dp", "dq", "qi", "oth", "k", NULL
};


ngx_uint_t
ngx_hybrid_jwk_alg(u_char *name, size_t len)
{
    const ngx_hybrid_jwk_alg_t  *alg;

    if (len != 5) {
        return 0;
    }

    for (alg = ngx_hybrid_jwk_algs; alg->name; alg++) {
        if (ngx_memcmp(alg->name, name, 5) == 0) {
            return alg->alg;
        }
    }

    return 0;
}


static const ngx_hybrid_jwk_alg_t *
ngx_hybrid_jwk_alg_find(ngx_uint_t bit)
{
    const ngx_hybrid_jwk_alg_t  *alg;

    for (alg = ngx_hybrid_jwk_algs; alg->alg != bit; alg++) { /* void */ }

    return alg;
}


ngx_hybrid_jwks_t *
ngx_hybrid_jwks_parse(ngx_str_t *text, ngx_uint_t algs, u_char *error)
{
    size_t              n;
    json_t             *root, *list;
    ngx_uint_t          usable;
    json_error_t        je;
    ngx_hybrid_jwks_t  *jwks;

    jwks = NULL;

    if (text->len > NGX_HYBRID_JWK_SET_MAX) {
        snprintf((char *) error, NGX_HYBRID_JWK_ERROR,
                 "the key set is larger than 1 MiB");
        return NULL;
    }

    /* of equal members jansson would keep the last one, others the first */

    root = json_loadb((char *) text->data, text->len, JSON_REJECT_DUPLICATES,
                      &je);
    if (root == NULL) {
        snprintf((char *) error, NGX_HYBRID_JWK_ERROR,
                 "the key set is not JSON: %s at line %d", je.text, je.line);
        return NULL;
    }

    list = json_object_get(root, "keys");
    n = json_array_size(list);

    if (!json_is_array(list)) {
        snprintf((char *) error, NGX_HYBRID_JWK_ERROR,
                 "the key set has no list \"keys\"");
        goto done;
    }

    if (n > NGX_HYBRID_JWK_MAX) {
        snprintf((char *) error, NGX_HYBRID_JWK_ERROR,
                 "the key set has %d keys, more than %d", (int) n,
                 NGX_HYBRID_JWK_MAX);
        goto done;
    }

    jwks = calloc(1, sizeof(ngx_hybrid_jwks_t)
                     + n * sizeof(ngx_hybrid_jwk_t));
    if (jwks == NULL) {
        snprintf((char *) error, NGX_HYBRID_JWK_ERROR, "no memory");
        goto done;
    }

    usable = ngx_hybrid_jwks_keys(jwks, list, algs & NGX_HYBRID_JWK_PUBLIC);

    if (usable == 0) {
        snprintf((char *) error, NGX_HYBRID_JWK_ERROR,
                 "the key set has no usable key%s%s",
                 jwks->ndropped ? ": " : "", (char *) jwks->dropped);

        ngx_hybrid_jwks_free(jwks);
        jwks = NULL;
    }

done:

    json_decref(root);

    return jwks;
}


static ngx_uint_t
ngx_hybrid_jwks_keys(ngx_hybrid_jwks_t *jwks, json_t *list, ngx_uint_t algs)
{
    json_t            *key;
    ngx_uint_t         i, n;
    const char        *why;
    ngx_hybrid_jwk_t  *jwk;

    n = json_array_size(list);

    for (i = 0; i < n; i++) {
        key = json_array_get(list, i);
        jwk = &jwks->keys[jwks->nkeys];

        why = ngx_hybrid_jwk_parse(jwk, key, list, algs);

        if (why == NULL) {
            jwks->nkeys++;
            continue;
        }

        ngx_hybrid_jwk_done(jwk);
        ERR_clear_error();

        ngx_hybrid_jwks_drop(jwks, i, key, why);
    }

    return jwks->nkeys;
}


static void
ngx_hybrid_jwks_drop(ngx_hybrid_jwks_t *jwks, ngx_uint_t n, json_t *key,
    const char *why)
{
    ngx_str_t  kid;

    jwks->ndropped++;

    if (ngx_hybrid_jwk_kid(key, &kid) == NULL) {
        snprintf((char *) jwks->dropped, NGX_HYBRID_JWK_DROPPED,
                 "key \"%.*s\": %s", (int) kid.len, (char *) kid.data, why);
        return;
    }

    snprintf((char *) jwks->dropped, NGX_HYBRID_JWK_DROPPED, "key #%d: %s",
             (int) n + 1, why);
}


static const char *
ngx_hybrid_jwk_parse(ngx_hybrid_jwk_t *jwk, json_t *key, json_t *list,
    ngx_uint_t algs)
{
    ngx_str_t    kid;
    ngx_uint_t   i, fits;
    const char  *why;

    if (!json_is_object(key)) {
        return "it is not an object";
    }

    why = ngx_hybrid_jwk_kid(key, &kid);
    if (why) {
        return why;
    }

    if (ngx_hybrid_jwks_twice(list, key)) {
        return "another key has the same \"kid\"";
    }

    for (i = 0; ngx_hybrid_jwk_private[i]; i++) {
        if (json_object_get(key, ngx_hybrid_jwk_private[i])) {
            return "it holds a secret";
        }
    }

    why = ngx_hybrid_jwk_use(key);
    if (why) {
        return why;
    }

    why = ngx_hybrid_jwk_public(jwk, key, &fits);
    if (why) {
        return why;
    }

    why = ngx_hybrid_jwk_pin(jwk, key, fits, algs);
    if (why) {
        return why;
    }

    jwk->kid.data = malloc(kid.len);
    if (jwk->kid.data == NULL) {
        return "no memory";
    }

    jwk->kid.len = kid.len;
    ngx_memcpy(jwk->kid.data, kid.data, kid.len);

    return ngx_hybrid_jwk_prepare(jwk);
}


/* printed in logs, so only what can be printed */

const char *
ngx_hybrid_jwk_kid(json_t *key, ngx_str_t *kid)
{
    size_t   i;
    json_t  *value;

    value = json_object_get(key, "kid");

    if (!json_is_string(value)) {
        return "it has no \"kid\"";
    }

    kid->data = (u_char *) json_string_value(value);
    kid->len = json_string_length(value);

    if (kid->len == 0 || kid->len > NGX_HYBRID_JWK_KID_MAX) {
        return "its \"kid\" is empty or too long";
    }

    for (i = 0; i < kid->len; i++) {
        if (kid->data[i] < 0x20 || kid->data[i] > 0x7e) {
            return "its \"kid\" is not printable";
        }
    }

    return NULL;
}


static ngx_uint_t
ngx_hybrid_jwks_twice(json_t *list, json_t *key)
{
    size_t   i;
    json_t  *kid, *other;

    kid = json_object_get(key, "kid");

    for (i = 0; i < json_array_size(list); i++) {
        other = json_array_get(list, i);

        if (other != key && json_equal(json_object_get(other, "kid"), kid)) {
            return 1;
        }
    }

    return 0;
}


static const char *
ngx_hybrid_jwk_use(json_t *key)
{
    size_t       i;
    json_t      *use, *ops;
    const char  *op;

    use = json_object_get(key, "use");

    if (use && (!json_is_string(use)
                || ngx_strcmp(json_string_value(use), "sig") != 0))
    {
        return "its \"use\" is not \"sig\"";
    }

    ops = json_object_get(key, "key_ops");

    if (ops == NULL) {
        return NULL;
    }

    for (i = 0; i < json_array_size(ops); i++) {
        op = json_string_value(json_array_get(ops, i));

        if (op && ngx_strcmp(op, "verify") == 0) {
            return NULL;
        }
    }

    return "its \"key_ops\" have no \"verify\"";
}


/*
 * Without "alg" the issuer's list decides, as long as it leaves no choice:
 * a key that two algorithms verify with invites to mix them up.
 */

static const char *
ngx_hybrid_jwk_pin(ngx_hybrid_jwk_t *jwk, json_t *key, ngx_uint_t fits,
    ngx_uint_t algs)
{
    json_t      *value;
    ngx_uint_t   alg;

    value = json_object_get(key, "alg");

    if (value == NULL) {
        alg = fits & algs;

        if (alg == 0) {
            return "none of the issuer's algorithms fits it";
        }

        if (alg & (alg - 1)) {
            return "it has no \"alg\", and more than one of the issuer's "
                   "algorithms fits it";
        }

        jwk->alg = alg;

        return NULL;
    }

    alg = json_is_string(value)
          ? ngx_hybrid_jwk_alg((u_char *) json_string_value(value),
                               json_string_length(value))
          : 0;

    if (!(alg & fits)) {
        return "its \"alg\" is not one that fits it";
    }

    if (!(alg & algs)) {
        return "its \"alg\" is not one of the issuer's algorithms";
    }

    jwk->alg = alg;

    return NULL;
}


/* what does not depend on the token is done once */

static const char *
ngx_hybrid_jwk_prepare(ngx_hybrid_jwk_t *jwk)
{
    const ngx_hybrid_jwk_alg_t  *alg;

    alg = ngx_hybrid_jwk_alg_find(jwk->alg);

    jwk->digest = EVP_MD_CTX_new();

    if (jwk->digest == NULL) {
        return "no memory";
    }

    switch (jwk->alg) {

    case NGX_HYBRID_JWK_EDDSA:
        jwk->size = 64;
        return NULL;

    case NGX_HYBRID_JWK_ES256:
        jwk->size = 64;
        break;

    case NGX_HYBRID_JWK_ES384:
        jwk->size = 96;
        break;

    default:
        jwk->size = EVP_PKEY_get_size(jwk->pkey);
    }

    jwk->md = EVP_MD_fetch(NULL, alg->md, NULL);
    jwk->verify = EVP_PKEY_CTX_new_from_pkey(NULL, jwk->pkey, NULL);

    if (jwk->md == NULL || jwk->verify == NULL
        || EVP_PKEY_verify_init(jwk->verify) != 1
        || EVP_PKEY_CTX_set_signature_md(jwk->verify, jwk->md) != 1)
    {
        return "OpenSSL does not take it";
    }

    if (jwk->alg == NGX_HYBRID_JWK_ES256 || jwk->alg == NGX_HYBRID_JWK_ES384) {
        return NULL;
    }

    if (jwk->alg != NGX_HYBRID_JWK_PS256) {
        return EVP_PKEY_CTX_set_rsa_padding(jwk->verify, RSA_PKCS1_PADDING)
               == 1 ? NULL : "OpenSSL does not take it";
    }

    /* RFC 7518, 3.5: the same hash for MGF1, the salt as long as the hash */

    if (EVP_PKEY_CTX_set_rsa_padding(jwk->verify, RSA_PKCS1_PSS_PADDING) != 1
        || EVP_PKEY_CTX_set_rsa_mgf1_md(jwk->verify, jwk->md) != 1
        || EVP_PKEY_CTX_set_rsa_pss_saltlen(jwk->verify,
                                            RSA_PSS_SALTLEN_DIGEST) != 1)
    {
        return "OpenSSL does not take it";
    }

    return NULL;
}


ngx_int_t
ngx_hybrid_jwk_secret(ngx_hybrid_jwk_t *jwk, ngx_str_t *kid, u_char *secret,
    size_t len)
{
    EVP_MAC     *mac;
    OSSL_PARAM   params[2];

    ngx_memzero(jwk, sizeof(ngx_hybrid_jwk_t));

    jwk->alg = NGX_HYBRID_JWK_HS256;
    jwk->size = 32;

    if (len < NGX_HYBRID_JWK_SECRET) {
        return NGX_ERROR;
    }

    if (kid->len) {
        jwk->kid.data = malloc(kid->len);
        if (jwk->kid.data == NULL) {
            return NGX_ERROR;
        }

        jwk->kid.len = kid->len;
        ngx_memcpy(jwk->kid.data, kid->data, kid->len);
    }

    mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    jwk->mac = EVP_MAC_CTX_new(mac);
    EVP_MAC_free(mac);

    params[0] = OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST,
                                                 (char *) "SHA256", 0);
    params[1] = OSSL_PARAM_construct_end();

    if (jwk->mac == NULL || EVP_MAC_init(jwk->mac, secret, len, params) != 1) {
        ngx_hybrid_jwk_done(jwk);
        ERR_clear_error();
        return NGX_ERROR;
    }

    return NGX_OK;
}


ngx_hybrid_jwk_t *
ngx_hybrid_jwks_find(ngx_hybrid_jwks_t *jwks, ngx_str_t *kid)
{
    ngx_uint_t  i;

    for (i = 0; i < jwks->nkeys; i++) {
        if (jwks->keys[i].kid.len == kid->len
            && ngx_memcmp(jwks->keys[i].kid.data, kid->data, kid->len) == 0)
        {
            return &jwks->keys[i];
        }
    }

    return NULL;
}


void
ngx_hybrid_jwks_free(ngx_hybrid_jwks_t *jwks)
{
    ngx_uint_t  i;

    if (jwks == NULL) {
        return;
    }

    for (i = 0; i < jwks->nkeys; i++) {
        ngx_hybrid_jwk_done(&jwks->keys[i]);
    }

    free(jwks);
}


void
ngx_hybrid_jwk_done(ngx_hybrid_jwk_t *jwk)
{
    EVP_PKEY_CTX_free(jwk->verify);
    EVP_PKEY_free(jwk->pkey);
    EVP_MD_CTX_free(jwk->digest);
    EVP_MD_free(jwk->md);
    EVP_MAC_CTX_free(jwk->mac);
    free(jwk->kid.data);

    ngx_memzero(jwk, sizeof(ngx_hybrid_jwk_t));
}
