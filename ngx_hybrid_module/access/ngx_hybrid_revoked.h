
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * A set of revocations: what the hash "<prefix>revoked" in Redis has.
 *
 *     token:<id>            cert:<sha256 of the certificate, hex>
 *     jti:<issuer>:<jti>    client:<name>
 *     sub:<issuer>:<sub>
 *
 * Values say when and why, for people.  Fields that begin with a dot are
 * the state of the list.
 */


#ifndef _NGX_HYBRID_REVOKED_H_INCLUDED_
#define _NGX_HYBRID_REVOKED_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


#define NGX_HYBRID_REVOKED_FIELD  1024
#define NGX_HYBRID_REVOKED_VALUE  256
#define NGX_HYBRID_REVOKED_WORD   64      /* an epoch, a version */

/* of a list in Redis, and so of what is read of it at once */
#define NGX_HYBRID_REVOKED_MAX    10000
#define NGX_HYBRID_REVOKED_SIZE   1048576


typedef struct {
    ngx_str_t                     field;
    ngx_str_t                     value;
} ngx_hybrid_revoked_entry_t;


typedef struct {
    ngx_pool_t                   *pool;

    ngx_str_t                     epoch;    /* of a list's life, random */
    uint64_t                      seq;      /* grows with each change */
    ngx_str_t                     version;  /* of each change, random */
    ngx_uint_t                    lost;     /* Redis does not have all */

    ngx_uint_t                    n;
    ngx_uint_t                    max;
    ngx_hybrid_revoked_entry_t   *entries;
    ngx_uint_t                    nslots;   /* a power of two */
    uint32_t                     *slots;    /* index of the entry + 1 */
} ngx_hybrid_revoked_t;


/* empty, with room for max entries; NULL: no memory */
ngx_hybrid_revoked_t *ngx_hybrid_revoked_create(ngx_pool_t *pool,
    ngx_uint_t max);

/*
 * Copies are kept.  NGX_DECLINED: it is there, or it can't name anything;
 * NGX_ERROR: no memory, or no room.
 */
ngx_int_t ngx_hybrid_revoked_add(ngx_hybrid_revoked_t *set, ngx_str_t *field,
    ngx_str_t *value);
ngx_int_t ngx_hybrid_revoked_add_all(ngx_hybrid_revoked_t *set,
    ngx_hybrid_revoked_t *from);

ngx_uint_t ngx_hybrid_revoked_has(ngx_hybrid_revoked_t *set,
    ngx_str_t *field);

/* NGX_DECLINED: not a word that a list's state may have */
ngx_int_t ngx_hybrid_revoked_state(ngx_hybrid_revoked_t *set,
    ngx_str_t *epoch, ngx_str_t *seq, ngx_str_t *version);

ngx_int_t ngx_hybrid_revoked_state_of(ngx_hybrid_revoked_t *set,
    ngx_hybrid_revoked_t *from);

/* one text, and back again; NGX_ERROR, NULL: no memory, or no such text */
ngx_int_t ngx_hybrid_revoked_text(ngx_hybrid_revoked_t *set,
    ngx_str_t *text);
ngx_hybrid_revoked_t *ngx_hybrid_revoked_parse(ngx_pool_t *pool,
    ngx_str_t *text);


#endif /* _NGX_HYBRID_REVOKED_H_INCLUDED_ */
