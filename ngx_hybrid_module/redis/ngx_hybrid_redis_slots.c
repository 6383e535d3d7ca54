
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * The hash is CRC-16/XMODEM: polynomial 0x1021, nothing reflected, begins
 * with 0.
 */


#include <arpa/inet.h>
#include "ngx_hybrid_redis_slots.h"


static ngx_int_t ngx_hybrid_redis_range(redisReply *reply,
    ngx_hybrid_redis_range_t *range);
static ngx_int_t ngx_hybrid_redis_number(u_char *p, u_char *last,
    ngx_int_t max);


ngx_uint_t
ngx_hybrid_redis_slot(ngx_str_t *key)
{
    u_char      *p, *last, *begin, *end;
    uint32_t     crc;
    ngx_uint_t   bit;

    p = key->data;
    last = p + key->len;

    begin = ngx_strlchr(p, last, '{');

    if (begin) {
        end = ngx_strlchr(begin + 1, last, '}');

        /* "{}" is no tag */

        if (end && end > begin + 1) {
            p = begin + 1;
            last = end;
        }
    }

    for (crc = 0; p < last; p++) {
        crc ^= (uint32_t) *p << 8;

        for (bit = 0; bit < 8; bit++) {
            crc = (crc & 0x8000) ? (crc << 1) ^ 0x1021 : crc << 1;
        }
    }

    return crc & (NGX_HYBRID_REDIS_SLOTS - 1);
}


ngx_int_t
ngx_hybrid_redis_slots(redisReply *reply, ngx_hybrid_redis_range_t *ranges,
    ngx_str_t *name)
{
    size_t      i;
    u_char      seen[NGX_HYBRID_REDIS_SLOTS];
    ngx_int_t   rc;
    ngx_uint_t  n;

    if (reply->type != REDIS_REPLY_ARRAY || reply->elements == 0
        || reply->elements > NGX_HYBRID_REDIS_SLOTS)
    {
        return NGX_ERROR;
    }

    ngx_memzero(seen, sizeof(seen));

    for (i = 0; i < reply->elements; i++) {

        rc = ngx_hybrid_redis_range(reply->element[i], &ranges[i]);

        if (rc != NGX_OK) {

            if (rc == NGX_DECLINED) {
                *name = ranges[i].host;
            }

            return rc;
        }

        for (n = ranges[i].first; n <= ranges[i].last; n++) {

            if (seen[n]) {
                return NGX_ERROR;
            }

            seen[n] = 1;
        }
    }

    return NGX_OK;
}


/* first and last slot, the master, its replicas */

static ngx_int_t
ngx_hybrid_redis_range(redisReply *reply, ngx_hybrid_redis_range_t *range)
{
    redisReply  **e, **node;

    e = reply->element;

    if (reply->type != REDIS_REPLY_ARRAY || reply->elements < 3
        || e[0]->type != REDIS_REPLY_INTEGER
        || e[1]->type != REDIS_REPLY_INTEGER
        || e[0]->integer < 0
        || e[1]->integer >= NGX_HYBRID_REDIS_SLOTS
        || e[0]->integer > e[1]->integer
        || e[2]->type != REDIS_REPLY_ARRAY || e[2]->elements < 2)
    {
        return NGX_ERROR;
    }

    node = e[2]->element;

    if (node[1]->type != REDIS_REPLY_INTEGER || node[1]->integer <= 0
        || node[1]->integer > 65535)
    {
        return NGX_ERROR;
    }

    range->first = e[0]->integer;
    range->last = e[1]->integer;
    range->port = (in_port_t) node[1]->integer;

    ngx_str_null(&range->host);

    if (node[0]->type == REDIS_REPLY_NIL) {
        return NGX_OK;
    }

    if (node[0]->type != REDIS_REPLY_STRING) {
        return NGX_ERROR;
    }

    range->host.data = (u_char *) node[0]->str;
    range->host.len = node[0]->len;

    if (range->host.len == 0) {
        return NGX_OK;
    }

    return ngx_hybrid_redis_literal(&range->host) ? NGX_OK : NGX_DECLINED;
}


ngx_int_t
ngx_hybrid_redis_redirect(redisReply *reply,
    ngx_hybrid_redis_redirect_t *redirect)
{
    u_char     *p, *last, *space, *colon;
    ngx_int_t   slot, port;

    p = (u_char *) reply->str;
    last = p + reply->len;

    redirect->ask = (*p == 'A');

    p += redirect->ask ? sizeof("ASK ") - 1 : sizeof("MOVED ") - 1;

    space = (p < last) ? ngx_strlchr(p, last, ' ') : NULL;

    if (space == NULL) {
        return NGX_ERROR;
    }

    /* an IPv6 address has colons of its own */

    for (colon = last - 1; colon > space && *colon != ':'; colon--) {
        /* void */
    }

    if (colon == space) {
        return NGX_ERROR;
    }

    slot = ngx_hybrid_redis_number(p, space, NGX_HYBRID_REDIS_SLOTS - 1);
    port = ngx_hybrid_redis_number(colon + 1, last, 65535);

    if (slot == NGX_ERROR || port == NGX_ERROR || port == 0) {
        return NGX_ERROR;
    }

    redirect->slot = slot;
    redirect->port = (in_port_t) port;
    redirect->host.data = space + 1;
    redirect->host.len = colon - redirect->host.data;

    if (redirect->host.len == 1 && redirect->host.data[0] == '?') {
        redirect->host.len = 0;
    }

    if (redirect->host.len == 0) {
        return NGX_OK;
    }

    return ngx_hybrid_redis_literal(&redirect->host) ? NGX_OK : NGX_DECLINED;
}


ngx_uint_t
ngx_hybrid_redis_literal(ngx_str_t *host)
{
    char             text[NGX_INET6_ADDRSTRLEN + 1];
    struct in6_addr  addr;

    if (host->len == 0 || host->len >= sizeof(text)) {
        return 0;
    }

    ngx_memcpy(text, host->data, host->len);
    text[host->len] = '\0';

    if (ngx_strlen(text) != host->len) {
        return 0;
    }

    return inet_pton(AF_INET, text, &addr) == 1
           || inet_pton(AF_INET6, text, &addr) == 1;
}


static ngx_int_t
ngx_hybrid_redis_number(u_char *p, u_char *last, ngx_int_t max)
{
    ngx_int_t  n;

    if (p == last) {
        return NGX_ERROR;
    }

    for (n = 0; p < last; p++) {

        if (*p < '0' || *p > '9') {
            return NGX_ERROR;
        }

        n = n * 10 + (*p - '0');

        if (n > max) {
            return NGX_ERROR;
        }
    }

    return n;
}
