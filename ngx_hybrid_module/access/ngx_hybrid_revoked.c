
/*
 * Copyright (C) the ngx_hybrid_module authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_hybrid_revoked.h"


static uint32_t *ngx_hybrid_revoked_slot(ngx_hybrid_revoked_t *set,
    ngx_str_t *field);
static ngx_int_t ngx_hybrid_revoked_copy(ngx_pool_t *pool, ngx_str_t *to,
    ngx_str_t *from);
static ngx_uint_t ngx_hybrid_revoked_printable(ngx_str_t *s);
static ngx_int_t ngx_hybrid_revoked_cut(ngx_str_t *text, u_char end,
    ngx_str_t *part);


ngx_hybrid_revoked_t *
ngx_hybrid_revoked_create(ngx_pool_t *pool, ngx_uint_t max)
{
    ngx_hybrid_revoked_t  *set;

    set = ngx_pcalloc(pool, sizeof(ngx_hybrid_revoked_t));
    if (set == NULL) {
        return NULL;
    }

    set->pool = pool;
    set->max = max;

    /* half of the slots stay free, so that a search is short and ends */

    for (set->nslots = 8; set->nslots < 2 * max; set->nslots *= 2) {
        /* void */
    }

    set->entries = ngx_palloc(pool, ngx_max(max, 1)
                                    * sizeof(ngx_hybrid_revoked_entry_t));
    set->slots = ngx_pcalloc(pool, set->nslots * sizeof(uint32_t));

    if (set->entries == NULL || set->slots == NULL) {
        return NULL;
    }

    return set;
}


static uint32_t *
ngx_hybrid_revoked_slot(ngx_hybrid_revoked_t *set, ngx_str_t *field)
{
    uint32_t     *slot;
    ngx_str_t    *known;
    ngx_uint_t    i;

    for (i = ngx_murmur_hash2(field->data, field->len); /* void */ ; i++) {

        slot = &set->slots[i & (set->nslots - 1)];

        if (*slot == 0) {
            return slot;
        }

        known = &set->entries[*slot - 1].field;

        if (known->len == field->len
            && ngx_memcmp(known->data, field->data, field->len) == 0)
        {
            return slot;
        }
    }
}


ngx_uint_t
ngx_hybrid_revoked_has(ngx_hybrid_revoked_t *set, ngx_str_t *field)
{
    return *ngx_hybrid_revoked_slot(set, field) != 0;
}


ngx_int_t
ngx_hybrid_revoked_add(ngx_hybrid_revoked_t *set, ngx_str_t *field,
    ngx_str_t *value)
{
    size_t                       i;
    uint32_t                    *slot;
    ngx_str_t                    text;
    ngx_hybrid_revoked_entry_t  *entry;

    if (field->len == 0 || field->len > NGX_HYBRID_REVOKED_FIELD
        || field->data[0] == '.' || !ngx_hybrid_revoked_printable(field))
    {
        return NGX_DECLINED;
    }

    slot = ngx_hybrid_revoked_slot(set, field);

    if (*slot) {
        return NGX_DECLINED;
    }

    if (set->n == set->max) {
        return NGX_ERROR;
    }

    entry = &set->entries[set->n];

    text = *value;
    text.len = ngx_min(text.len, NGX_HYBRID_REVOKED_VALUE);

    if (ngx_hybrid_revoked_copy(set->pool, &entry->field, field) != NGX_OK
        || ngx_hybrid_revoked_copy(set->pool, &entry->value, &text) != NGX_OK)
    {
        return NGX_ERROR;
    }

    /* a line's end would be an entry's end */

    for (i = 0; i < entry->value.len; i++) {
        if (entry->value.data[i] < ' ' || entry->value.data[i] == 0x7f) {
            entry->value.data[i] = '?';
        }
    }

    *slot = (uint32_t) ++set->n;

    return NGX_OK;
}


ngx_int_t
ngx_hybrid_revoked_add_all(ngx_hybrid_revoked_t *set,
    ngx_hybrid_revoked_t *from)
{
    ngx_uint_t  i;

    for (i = 0; i < from->n; i++) {

        if (ngx_hybrid_revoked_add(set, &from->entries[i].field,
                                   &from->entries[i].value)
            == NGX_ERROR)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_hybrid_revoked_copy(ngx_pool_t *pool, ngx_str_t *to, ngx_str_t *from)
{
    to->len = from->len;
    to->data = ngx_pnalloc(pool, ngx_max(from->len, 1));

    if (to->data == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(to->data, from->data, from->len);

    return NGX_OK;
}


static ngx_uint_t
ngx_hybrid_revoked_printable(ngx_str_t *s)
{
    size_t  i;

    for (i = 0; i < s->len; i++) {
        if (s->data[i] <= ' ' || s->data[i] >= 0x7f) {
            return 0;
        }
    }

    return 1;
}


ngx_int_t
ngx_hybrid_revoked_state(ngx_hybrid_revoked_t *set, ngx_str_t *epoch,
    ngx_str_t *seq, ngx_str_t *version)
{
    size_t    i;
    uint64_t  n;

    /* what a number of Lua is exact for */

    if (epoch->len > NGX_HYBRID_REVOKED_WORD
        || version->len > NGX_HYBRID_REVOKED_WORD
        || seq->len == 0 || seq->len > 15
        || !ngx_hybrid_revoked_printable(epoch)
        || !ngx_hybrid_revoked_printable(version))
    {
        return NGX_DECLINED;
    }

    n = 0;

    for (i = 0; i < seq->len; i++) {

        if (seq->data[i] < '0' || seq->data[i] > '9') {
            return NGX_DECLINED;
        }

        n = n * 10 + (seq->data[i] - '0');
    }

    set->seq = n;

    if (ngx_hybrid_revoked_copy(set->pool, &set->epoch, epoch) != NGX_OK
        || ngx_hybrid_revoked_copy(set->pool, &set->version, version)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


ngx_int_t
ngx_hybrid_revoked_state_of(ngx_hybrid_revoked_t *set,
    ngx_hybrid_revoked_t *from)
{
    set->seq = from->seq;

    if (ngx_hybrid_revoked_copy(set->pool, &set->epoch, &from->epoch)
        != NGX_OK
        || ngx_hybrid_revoked_copy(set->pool, &set->version, &from->version)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* epoch, seq, version, lost; then a field and its value in each line */

ngx_int_t
ngx_hybrid_revoked_text(ngx_hybrid_revoked_t *set, ngx_str_t *text)
{
    u_char                      *p;
    size_t                       size;
    ngx_uint_t                   i;
    ngx_hybrid_revoked_entry_t  *entry;

    size = set->epoch.len + set->version.len + 2 * NGX_INT64_LEN + 4;

    for (i = 0; i < set->n; i++) {
        entry = &set->entries[i];
        size += entry->field.len + entry->value.len + 2;
    }

    p = ngx_pnalloc(set->pool, size);
    if (p == NULL) {
        return NGX_ERROR;
    }

    text->data = p;

    p = ngx_sprintf(p, "%V\t%uL\t%V\t%ui\n", &set->epoch, set->seq,
                    &set->version, set->lost);

    for (i = 0; i < set->n; i++) {
        entry = &set->entries[i];
        p = ngx_sprintf(p, "%V\t%V\n", &entry->field, &entry->value);
    }

    text->len = p - text->data;

    return NGX_OK;
}


ngx_hybrid_revoked_t *
ngx_hybrid_revoked_parse(ngx_pool_t *pool, ngx_str_t *text)
{
    u_char                *p, *last;
    ngx_str_t              rest, epoch, seq, version, lost, field, value;
    ngx_uint_t             n;
    ngx_hybrid_revoked_t  *set;

    last = text->data + text->len;
    n = 0;

    for (p = text->data; p < last; p++) {
        n += (*p == '\n');
    }

    rest = *text;

    if (ngx_hybrid_revoked_cut(&rest, '\t', &epoch) != NGX_OK
        || ngx_hybrid_revoked_cut(&rest, '\t', &seq) != NGX_OK
        || ngx_hybrid_revoked_cut(&rest, '\t', &version) != NGX_OK
        || ngx_hybrid_revoked_cut(&rest, '\n', &lost) != NGX_OK)
    {
        return NULL;
    }

    set = ngx_hybrid_revoked_create(pool, n - 1);

    if (set == NULL
        || ngx_hybrid_revoked_state(set, &epoch, &seq, &version) != NGX_OK)
    {
        return NULL;
    }

    set->lost = (lost.len == 1 && lost.data[0] == '1');

    while (rest.len) {

        if (ngx_hybrid_revoked_cut(&rest, '\t', &field) != NGX_OK
            || ngx_hybrid_revoked_cut(&rest, '\n', &value) != NGX_OK
            || ngx_hybrid_revoked_add(set, &field, &value) == NGX_ERROR)
        {
            return NULL;
        }
    }

    return set;
}


static ngx_int_t
ngx_hybrid_revoked_cut(ngx_str_t *text, u_char end, ngx_str_t *part)
{
    u_char  *p;

    p = ngx_strlchr(text->data, text->data + text->len, end);
    if (p == NULL) {
        return NGX_ERROR;
    }

    part->data = text->data;
    part->len = p - text->data;

    text->data = p + 1;
    text->len -= part->len + 1;

    return NGX_OK;
}
