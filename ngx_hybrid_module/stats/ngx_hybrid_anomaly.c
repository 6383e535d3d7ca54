
/*
 * Copyright (C) the ngx_hybrid_module authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_hybrid_anomaly.h"


static ngx_int_t ngx_hybrid_anomaly_key(ngx_hybrid_anomaly_t *anomaly,
    ngx_hybrid_anomaly_place_t *key);
static size_t ngx_hybrid_anomaly_len(ngx_hybrid_anomaly_place_t *place);
static ngx_hybrid_anomaly_place_t *ngx_hybrid_anomaly_find(
    ngx_hybrid_anomalies_t *table, ngx_hybrid_anomaly_place_t *key);
static void ngx_hybrid_anomaly_text(ngx_hybrid_anomaly_place_t *place,
    ngx_str_t *text);


/* in the order of ngx_hybrid_anomaly_e */

ngx_str_t  ngx_hybrid_anomaly_names[] = {
    ngx_string("probe_slow"),
    ngx_string("model_missing"),
    ngx_string("cold_starts"),
    ngx_string("wedged"),
    ngx_string("client_refused"),
    ngx_string("credential_expires"),
    ngx_string("path_flapping"),
    ngx_string("backend_down")
};


/* a 32nd of the zone at most, but for the smallest ones */

size_t
ngx_hybrid_anomaly_size(size_t zone, ngx_uint_t *n)
{
    *n = NGX_HYBRID_ANOMALY_MAX;

    while (*n > NGX_HYBRID_ANOMALY_MIN
           && *n * sizeof(ngx_hybrid_anomaly_place_t) > zone / 32)
    {
        *n /= 2;
    }

    return offsetof(ngx_hybrid_anomalies_t, places)
           + *n * sizeof(ngx_hybrid_anomaly_place_t);
}


void
ngx_hybrid_anomaly_init(ngx_hybrid_anomalies_t *table, ngx_uint_t n)
{
    table->n = n;
}


ngx_uint_t
ngx_hybrid_anomaly_turn(ngx_hybrid_anomalies_t *table, ngx_uint_t conf,
    ngx_msec_t interval, ngx_msec_t now)
{
    ngx_atomic_uint_t  old;

    /* during a reload there are both: what the old one sees is over */

    if (table->conf > conf) {
        return 0;
    }

    old = table->evaluated;

    if (old && (ngx_msec_int_t) (now - old) < (ngx_msec_int_t) interval) {
        return 0;
    }

    if (!ngx_atomic_cmp_set(&table->evaluated, old, now ? now : 1)) {
        return 0;
    }

    table->conf = conf;

    return 1;
}


void
ngx_hybrid_anomaly_begin(ngx_hybrid_anomalies_t *table)
{
    table->pass++;

    if (table->pass == 0) {
        table->pass = 1;
    }
}


ngx_int_t
ngx_hybrid_anomaly_tell(ngx_hybrid_anomalies_t *table, ngx_shmtx_t *mutex,
    ngx_hybrid_anomaly_t *anomaly, time_t now)
{
    ngx_int_t                    rc;
    ngx_uint_t                   i, n;
    ngx_hybrid_anomaly_place_t  *place, key;

    if (ngx_hybrid_anomaly_key(anomaly, &key) != NGX_OK) {
        return NGX_DECLINED;
    }

    rc = NGX_DONE;

    ngx_shmtx_lock(mutex);

    place = ngx_hybrid_anomaly_find(table, &key);

    if (place == NULL) {

        rc = NGX_DECLINED;

        /* many clients must not keep a machine that is down from being told */

        n = table->n;

        if (anomaly->labels[ngx_hybrid_anomaly_client].len) {
            n -= n / 4;
        }

        for (i = 0; i < n; i++) {

            if (table->places[i].pass == 0) {
                place = &table->places[i];
                rc = NGX_OK;

                *place = key;
                place->since = anomaly->since ? anomaly->since : now;
                break;
            }
        }
    }

    if (place) {
        place->pass = table->pass;
        place->value = anomaly->value;
        ngx_hybrid_anomaly_text(place, &anomaly->text);
    }

    ngx_shmtx_unlock(mutex);

    return rc;
}


ngx_uint_t
ngx_hybrid_anomaly_ended(ngx_hybrid_anomalies_t *table, ngx_shmtx_t *mutex,
    ngx_uint_t *i, ngx_hybrid_anomaly_place_t *copy)
{
    ngx_hybrid_anomaly_place_t  *place;

    while (*i < table->n) {

        place = &table->places[(*i)++];

        if (place->pass == 0 || place->pass == table->pass) {
            continue;
        }

        ngx_shmtx_lock(mutex);

        *copy = *place;
        place->pass = 0;
        table->full = 0;

        ngx_shmtx_unlock(mutex);

        return 1;
    }

    return 0;
}


ngx_uint_t
ngx_hybrid_anomaly_next(ngx_hybrid_anomalies_t *table, ngx_shmtx_t *mutex,
    ngx_uint_t *i, ngx_hybrid_anomaly_place_t *copy)
{
    ngx_hybrid_anomaly_place_t  *place;

    while (*i < table->n) {

        place = &table->places[(*i)++];

        if (place->pass == 0) {
            continue;
        }

        ngx_shmtx_lock(mutex);
        *copy = *place;
        ngx_shmtx_unlock(mutex);

        if (copy->pass) {
            return 1;
        }
    }

    return 0;
}


void
ngx_hybrid_anomaly_read(ngx_hybrid_anomaly_place_t *copy,
    ngx_hybrid_anomaly_t *anomaly)
{
    u_char      *p;
    ngx_uint_t   i;

    anomaly->kind = copy->kind;
    anomaly->since = copy->since;
    anomaly->value = copy->value;

    anomaly->text.data = copy->text;
    anomaly->text.len = copy->ntext;

    p = copy->key;

    for (i = 0; i < ngx_hybrid_anomaly_labels; i++) {
        anomaly->labels[i].data = p;
        anomaly->labels[i].len = copy->len[i];

        p += copy->len[i];
    }
}


/* a label that is cut off would be another one's */

static ngx_int_t
ngx_hybrid_anomaly_key(ngx_hybrid_anomaly_t *anomaly,
    ngx_hybrid_anomaly_place_t *key)
{
    u_char      *p, *last;
    ngx_str_t   *label;
    ngx_uint_t   i;

    ngx_memzero(key, sizeof(ngx_hybrid_anomaly_place_t));

    key->kind = anomaly->kind;

    p = key->key;
    last = p + NGX_HYBRID_ANOMALY_LABELS;

    for (i = 0; i < ngx_hybrid_anomaly_labels; i++) {

        label = &anomaly->labels[i];

        if (label->len > (size_t) (last - p)) {
            return NGX_DECLINED;
        }

        if (label->len) {
            key->len[i] = (u_short) label->len;
            p = ngx_cpymem(p, label->data, label->len);
        }
    }

    key->hash = ngx_murmur_hash2(key->key, p - key->key) + key->kind;

    return NGX_OK;
}


static size_t
ngx_hybrid_anomaly_len(ngx_hybrid_anomaly_place_t *place)
{
    size_t      len;
    ngx_uint_t  i;

    len = 0;

    for (i = 0; i < ngx_hybrid_anomaly_labels; i++) {
        len += place->len[i];
    }

    return len;
}


static ngx_hybrid_anomaly_place_t *
ngx_hybrid_anomaly_find(ngx_hybrid_anomalies_t *table,
    ngx_hybrid_anomaly_place_t *key)
{
    ngx_uint_t                   i;
    ngx_hybrid_anomaly_place_t  *place;

    for (i = 0; i < table->n; i++) {

        place = &table->places[i];

        if (place->pass
            && place->hash == key->hash
            && place->kind == key->kind
            && ngx_memcmp(place->len, key->len, sizeof(key->len)) == 0
            && ngx_memcmp(place->key, key->key, ngx_hybrid_anomaly_len(key))
               == 0)
        {
            return place;
        }
    }

    return NULL;
}


/* it goes into JSON as it is */

static void
ngx_hybrid_anomaly_text(ngx_hybrid_anomaly_place_t *place, ngx_str_t *text)
{
    u_char   ch;
    size_t   i, len;

    len = ngx_min(text->len, NGX_HYBRID_ANOMALY_TEXT);

    for (i = 0; i < len; i++) {
        ch = text->data[i];

        place->text[i] = (ch == '"' || ch == '\\') ? '\''
                         : (ch < ' ' || ch >= 0x7f) ? '.' : ch;
    }

    place->ntext = (u_short) len;
}
