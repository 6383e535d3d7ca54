
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Nothing in a token chooses how it is verified: the algorithm is the key's,
 * and the header may only agree.  What a header offers beyond that (keys,
 * certificates, URLs of them) is not looked at.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_hybrid_json.h"
#include "ngx_hybrid_jws.h"

#include <openssl/crypto.h>
#include <openssl/err.h>


enum {
    NGX_HYBRID_JWS_H_ALG = 0,
    NGX_HYBRID_JWS_H_KID,
    NGX_HYBRID_JWS_H_TYP,
    NGX_HYBRID_JWS_H_CRIT,
    NGX_HYBRID_JWS_H_B64,
    NGX_HYBRID_JWS_H_ZIP,
    NGX_HYBRID_JWS_HEADERS
};


static const char *ngx_hybrid_jws_split(ngx_str_t *token, ngx_str_t *part);
static const char *ngx_hybrid_jws_header(ngx_hybrid_jws_t *jws,
    ngx_str_t *text);
static ngx_uint_t ngx_hybrid_jws_typ(ngx_hybrid_json_value_t *value);
static const char *ngx_hybrid_jws_verify_digest(ngx_hybrid_jws_t *jws,
    ngx_hybrid_jwk_t *jwk, u_char *signature, size_t len);
static const char *ngx_hybrid_jws_verify_ecdsa(ngx_hybrid_jws_t *jws,
    ngx_hybrid_jwk_t *jwk);
static ngx_int_t ngx_hybrid_jws_ecdsa_der(ngx_hybrid_jws_t *jws,
    size_t size, u_char *der);
static const char *ngx_hybrid_jws_verify_eddsa(ngx_hybrid_jws_t *jws,
    ngx_hybrid_jwk_t *jwk);
static const char *ngx_hybrid_jws_verify_hmac(ngx_hybrid_jws_t *jws,
    ngx_hybrid_jwk_t *jwk);


/* two numbers of 48 bytes, each with a zero and its head, and theirs */
#define NGX_HYBRID_JWS_DER  (2 * (48 + 3) + 3)


static ngx_hybrid_json_key_t  ngx_hybrid_jws_headers[] = {
    { ngx_string("alg"), 16, NULL, NULL, 0 },
    { ngx_string("kid"), NGX_HYBRID_JWK_KID_MAX, NULL, NULL, 0 },
    { ngx_string("typ"), 32, NULL, NULL, 0 },
    { ngx_string("crit"), 0, NULL, NULL, 0 },
    { ngx_string("b64"), 8, NULL, NULL, 0 },
    { ngx_string("zip"), 8, NULL, NULL, 0 }
};


static const char  ngx_hybrid_jws_bad[] = "wrong signature";


const char *
ngx_hybrid_jws_parse(ngx_hybrid_jws_t *jws, ngx_str_t *token)
{
    ngx_int_t    n;
    ngx_str_t    part[3], header;
    const char  *why;

    why = ngx_hybrid_jws_split(token, part);
    if (why) {
        return why;
    }

    n = ngx_hybrid_base64url(jws->buf, sizeof(jws->buf), part[0].data,
                             part[0].len);
    if (n == NGX_ERROR) {
        return "the header is not base64url";
    }

    header.data = jws->buf;
    header.len = n;

    why = ngx_hybrid_jws_header(jws, &header);
    if (why) {
        return why;
    }

    /* the header is not needed any more */

    n = ngx_hybrid_base64url(jws->buf, sizeof(jws->buf), part[1].data,
                             part[1].len);
    if (n == NGX_ERROR) {
        return "the payload is not base64url";
    }

    jws->payload.data = jws->buf;
    jws->payload.len = n;

    n = ngx_hybrid_base64url(jws->signature, sizeof(jws->signature),
                             part[2].data, part[2].len);
    if (n == NGX_ERROR) {
        return "the signature is not base64url, or too long";
    }

    jws->len = n;

    jws->encoded = part[1];
    jws->input.data = token->data;
    jws->input.len = part[0].len + 1 + part[1].len;

    return NULL;
}


static const char *
ngx_hybrid_jws_split(ngx_str_t *token, ngx_str_t *part)
{
    u_char      *p, *last;
    ngx_uint_t   n;

    if (token->len > NGX_HYBRID_JWS_MAX) {
        return "it is longer than 8 KiB";
    }

    n = 0;
    part[0].data = token->data;
    last = token->data + token->len;

    for (p = token->data; p < last; p++) {

        if (*p != '.') {
            continue;
        }

        if (n == 2) {
            return "it has more than three parts";
        }

        part[n].len = p - part[n].data;
        part[++n].data = p + 1;
    }

    if (n != 2) {
        return "it has less than three parts";
    }

    part[2].len = last - part[2].data;

    if (part[0].len == 0 || part[1].len == 0 || part[2].len == 0) {
        return "it has an empty part";
    }

    return NULL;
}


static const char *
ngx_hybrid_jws_header(ngx_hybrid_jws_t *jws, ngx_str_t *text)
{
    ngx_hybrid_json_t         js;
    ngx_hybrid_json_value_t   v[NGX_HYBRID_JWS_HEADERS], *alg, *kid;

    if (ngx_hybrid_json_init(&js, ngx_hybrid_jws_headers,
                             NGX_HYBRID_JWS_HEADERS, v, jws->arena,
                             sizeof(jws->arena))
        != NGX_OK)
    {
        return "internal error";
    }

    if (ngx_hybrid_json_feed(&js, text->data, text->len) != NGX_OK
        || ngx_hybrid_json_finish(&js) != NGX_OK)
    {
        return (js.error == NGX_HYBRID_JSON_AMBIGUOUS)
               ? "the header has a name twice, or nearly"
               : "the header is not a JSON object";
    }

    /* RFC 7515, 4.1.11: who does not understand them all must refuse */

    if (v[NGX_HYBRID_JWS_H_CRIT].type != NGX_HYBRID_JSON_T_ABSENT) {
        return "the header has \"crit\"";
    }

    if (v[NGX_HYBRID_JWS_H_B64].type != NGX_HYBRID_JSON_T_ABSENT) {
        return "the header has \"b64\"";
    }

    if (v[NGX_HYBRID_JWS_H_ZIP].type != NGX_HYBRID_JSON_T_ABSENT) {
        return "the header has \"zip\"";
    }

    if (!ngx_hybrid_jws_typ(&v[NGX_HYBRID_JWS_H_TYP])) {
        return "the header's \"typ\" is not \"JWT\" or \"at+jwt\"";
    }

    alg = &v[NGX_HYBRID_JWS_H_ALG];

    jws->alg = (alg->type == NGX_HYBRID_JSON_T_STRING && !alg->overflow)
               ? ngx_hybrid_jwk_alg(alg->data, alg->len)
               : 0;

    if (jws->alg == 0) {
        return "the header's \"alg\" is none that is known";
    }

    ngx_str_null(&jws->kid);

    kid = &v[NGX_HYBRID_JWS_H_KID];

    if (kid->type == NGX_HYBRID_JSON_T_ABSENT) {
        return NULL;
    }

    if (kid->type != NGX_HYBRID_JSON_T_STRING || kid->len == 0
        || kid->overflow)
    {
        return "the header's \"kid\" is not a string, empty or too long";
    }

    jws->kid.data = kid->data;
    jws->kid.len = kid->len;

    return NULL;
}


/* RFC 7515, 4.1.9: "application/" may be left out, and case is ignored */

static ngx_uint_t
ngx_hybrid_jws_typ(ngx_hybrid_json_value_t *value)
{
    u_char  *p;
    size_t   len;

    if (value->type == NGX_HYBRID_JSON_T_ABSENT) {
        return 1;
    }

    if (value->type != NGX_HYBRID_JSON_T_STRING || value->overflow) {
        return 0;
    }

    p = value->data;
    len = value->len;

    if (len > 12
        && strncasecmp((char *) p, "application/", 12) == 0)
    {
        p += 12;
        len -= 12;
    }

    return (len == 3 && strncasecmp((char *) p, "jwt", 3) == 0)
           || (len == 6 && strncasecmp((char *) p, "at+jwt", 6) == 0);
}


const char *
ngx_hybrid_jws_verify(ngx_hybrid_jws_t *jws, ngx_hybrid_jwk_t *jwk)
{
    const char  *why;

    if (jws->alg != jwk->alg) {
        return "the header's \"alg\" is not the key's";
    }

    if (jws->len != jwk->size) {
        return "the signature has the wrong length";
    }

    switch (jwk->alg) {

    case NGX_HYBRID_JWK_HS256:
        why = ngx_hybrid_jws_verify_hmac(jws, jwk);
        break;

    case NGX_HYBRID_JWK_EDDSA:
        why = ngx_hybrid_jws_verify_eddsa(jws, jwk);
        break;

    case NGX_HYBRID_JWK_ES256:
    case NGX_HYBRID_JWK_ES384:
        why = ngx_hybrid_jws_verify_ecdsa(jws, jwk);
        break;

    default:
        why = ngx_hybrid_jws_verify_digest(jws, jwk, jws->signature,
                                           jws->len);
    }

    if (why) {

        /* nginx would take what is left there for a fault of TLS */

        ERR_clear_error();
    }

    return why;
}


/* only 1 is success: OpenSSL has other values for other failures */

static const char *
ngx_hybrid_jws_verify_digest(ngx_hybrid_jws_t *jws, ngx_hybrid_jwk_t *jwk,
    u_char *signature, size_t len)
{
    u_char        digest[EVP_MAX_MD_SIZE];
    unsigned int  n;

    if (EVP_DigestInit_ex2(jwk->digest, jwk->md, NULL) != 1
        || EVP_DigestUpdate(jwk->digest, jws->input.data, jws->input.len) != 1
        || EVP_DigestFinal_ex(jwk->digest, digest, &n) != 1)
    {
        return "the digest failed";
    }

    if (EVP_PKEY_verify(jwk->verify, signature, len, digest, n) != 1) {
        return ngx_hybrid_jws_bad;
    }

    return NULL;
}


static const char *
ngx_hybrid_jws_verify_ecdsa(ngx_hybrid_jws_t *jws, ngx_hybrid_jwk_t *jwk)
{
    u_char     der[NGX_HYBRID_JWS_DER];
    ngx_int_t  n;

    n = ngx_hybrid_jws_ecdsa_der(jws, jwk->size / 2, der);

    if (n == NGX_ERROR) {
        return ngx_hybrid_jws_bad;
    }

    return ngx_hybrid_jws_verify_digest(jws, jwk, der, n);
}


/*
 * R and S, as they stand, in the form that OpenSSL reads.  All is shorter
 * than 128 bytes: lengths take one byte.
 */

static ngx_int_t
ngx_hybrid_jws_ecdsa_der(ngx_hybrid_jws_t *jws, size_t size, u_char *der)
{
    u_char      *p, *number, *last;
    ngx_uint_t   i;

    p = der + 2;

    for (i = 0; i < 2; i++) {
        number = jws->signature + i * size;
        last = number + size;

        while (number < last && *number == 0) {
            number++;
        }

        if (number == last) {
            return NGX_ERROR;
        }

        *p++ = 0x02;
        *p++ = (u_char) (last - number + (*number >> 7));

        if (*number & 0x80) {
            *p++ = 0;
        }

        p = ngx_cpymem(p, number, last - number);
    }

    der[0] = 0x30;
    der[1] = (u_char) (p - der - 2);

    return p - der;
}


static const char *
ngx_hybrid_jws_verify_eddsa(ngx_hybrid_jws_t *jws, ngx_hybrid_jwk_t *jwk)
{
    if (EVP_MD_CTX_reset(jwk->digest) != 1
        || EVP_DigestVerifyInit_ex(jwk->digest, NULL, NULL, NULL, NULL,
                                   jwk->pkey, NULL) != 1)
    {
        return "the digest failed";
    }

    if (EVP_DigestVerify(jwk->digest, jws->signature, jws->len,
                         jws->input.data, jws->input.len)
        != 1)
    {
        return ngx_hybrid_jws_bad;
    }

    return NULL;
}


static const char *
ngx_hybrid_jws_verify_hmac(ngx_hybrid_jws_t *jws, ngx_hybrid_jwk_t *jwk)
{
    u_char        digest[32];
    size_t        n;
    const char   *why;
    EVP_MAC_CTX  *mac;

    mac = EVP_MAC_CTX_dup(jwk->mac);

    if (mac == NULL) {
        return "the digest failed";
    }

    why = NULL;
    n = 0;

    if (EVP_MAC_update(mac, jws->input.data, jws->input.len) != 1
        || EVP_MAC_final(mac, digest, &n, sizeof(digest)) != 1
        || n != sizeof(digest))
    {
        why = "the digest failed";

    } else if (CRYPTO_memcmp(digest, jws->signature, sizeof(digest)) != 0) {
        why = ngx_hybrid_jws_bad;
    }

    EVP_MAC_CTX_free(mac);

    return why;
}
