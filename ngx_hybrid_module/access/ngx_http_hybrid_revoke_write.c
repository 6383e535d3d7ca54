
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Writes what Redis has lost back into it, some entries at a time.  Each
 * time Redis must be as it was after the last one: then the list in Redis is
 * at the end the one we publish.  If not, somebody else has changed it, and
 * the next turn begins anew; nothing but additions was made so far.
 */


#include "ngx_http_hybrid_revoke.h"
#include <openssl/err.h>
#include <openssl/rand.h>


#define NGX_HTTP_HYBRID_REVOKE_CHUNK  1000
#define NGX_HTTP_HYBRID_REVOKE_ARGS   5
#define NGX_HTTP_HYBRID_REVOKE_AGAIN  100   /* msec */


static void ngx_http_hybrid_revoke_written(void *data, redisReply *reply);
static ngx_int_t ngx_http_hybrid_revoke_written_state(
    ngx_http_hybrid_revoke_turn_t *turn, redisReply *reply);
static ngx_int_t ngx_http_hybrid_revoke_random(ngx_str_t *word, u_char *p);


/*
 * KEYS[1] the list
 * ARGV    its version as it must be, the sequence of the gateway's list, an
 *         epoch should there be none, the new version; field, value...
 *
 * Returns { "changed" } or { "added", epoch, sequence, version }.
 */

static ngx_hybrid_redis_script_t  ngx_http_hybrid_revoke_write_script = {
    ngx_string(
        "local b = redis.call('HMGET', KEYS[1], '.epoch', '.seq',\n"
        "                     '.version', '.past')\n"
        "local epoch, version = b[1], b[3] or ''\n"
        "local seq = tonumber(b[2] or 0) or 0\n"
        "if version ~= ARGV[1] then return { 'changed' } end\n"
        "local n = 0\n"
        "for i = 5, #ARGV, 2 do\n"
        "  n = n + redis.call('HSETNX', KEYS[1], ARGV[i], ARGV[i + 1])\n"
        "end\n"
        "if n > 0 or not epoch then\n"
        "  epoch = epoch or ARGV[3]\n"
        "  seq = math.max(seq, tonumber(ARGV[2])) + 1\n"
        "  version = ARGV[4]\n"
        "  local past = string.sub((b[4] or '') .. ' ' .. version, -1700)\n"
        "  redis.call('HSET', KEYS[1], '.epoch', epoch,\n"
        "             '.seq', string.format('%.0f', seq),\n"
        "             '.version', version, '.past', past)\n"
        "end\n"
        "return { 'added', epoch, string.format('%.0f', seq), version }\n"),
    { 0 }
};


void
ngx_http_hybrid_revoke_write_init(void)
{
    ngx_hybrid_redis_script_init(&ngx_http_hybrid_revoke_write_script);
}


ngx_int_t
ngx_http_hybrid_revoke_write(ngx_http_hybrid_revoke_t *revoke)
{
    u_char                          seq[NGX_INT64_LEN], epoch[16], version[16];
    ngx_str_t                      *argv;
    ngx_int_t                       rc;
    ngx_uint_t                      i, n;
    ngx_hybrid_revoked_t           *set;
    ngx_http_hybrid_revoke_turn_t  *turn;

    turn = &revoke->turn;
    set = turn->set;

    n = ngx_min(set->n - turn->next, NGX_HTTP_HYBRID_REVOKE_CHUNK);

    argv = ngx_alloc((NGX_HTTP_HYBRID_REVOKE_ARGS + 2 * n) * sizeof(ngx_str_t),
                     revoke->timer.log);
    if (argv == NULL) {
        return NGX_DECLINED;
    }

    argv[0] = revoke->key;
    argv[1] = turn->theirs->version;
    argv[2].data = seq;
    argv[2].len = ngx_sprintf(seq, "%uL", set->seq) - seq;

    if (ngx_http_hybrid_revoke_random(&argv[3], epoch) != NGX_OK
        || ngx_http_hybrid_revoke_random(&argv[4], version) != NGX_OK)
    {
        ngx_free(argv);
        return NGX_DECLINED;
    }

    for (i = 0; i < n; i++) {
        argv[NGX_HTTP_HYBRID_REVOKE_ARGS + 2 * i] =
                                          set->entries[turn->next + i].field;
        argv[NGX_HTTP_HYBRID_REVOKE_ARGS + 2 * i + 1] =
                                          set->entries[turn->next + i].value;
    }

    rc = ngx_hybrid_redis_eval(revoke->conf->redis,
                               &ngx_http_hybrid_revoke_write_script,
                               NGX_HTTP_HYBRID_REVOKE_ARGS + 2 * n, argv,
                               ngx_http_hybrid_revoke_written, revoke);
    ngx_free(argv);

    if (rc != NGX_OK) {
        return NGX_DECLINED;
    }

    turn->next += n;
    revoke->pending = 1;

    return NGX_OK;
}


static void
ngx_http_hybrid_revoke_written(void *data, redisReply *reply)
{
    ngx_http_hybrid_revoke_t  *revoke = data;

    ngx_int_t                       rc;
    ngx_hybrid_revoked_t           *set;
    ngx_http_hybrid_revoke_turn_t  *turn;

    revoke->pending = 0;
    turn = &revoke->turn;
    set = turn->set;

    if (ngx_exiting || ngx_terminate || ngx_quit) {
        goto done;
    }

    if (reply == NULL || reply->type == REDIS_REPLY_ERROR) {
        ngx_http_hybrid_revoke_failed(revoke, "redis is away", reply);
        goto done;
    }

    rc = ngx_http_hybrid_revoke_written_state(turn, reply);

    if (rc == NGX_ABORT) {
        ngx_hybrid_doc_unchanged(revoke->conf->shm, revoke->doc,
                                 NGX_HTTP_HYBRID_REVOKE_AGAIN);
        goto done;
    }

    if (rc != NGX_OK) {
        ngx_http_hybrid_revoke_failed(revoke, "unexpected answer", reply);
        goto done;
    }

    if (turn->next < set->n) {

        if (ngx_http_hybrid_revoke_write(revoke) == NGX_OK) {
            return;
        }

        ngx_http_hybrid_revoke_failed(revoke, "redis is away", NULL);
        goto done;
    }

    set->lost = 0;

    if (ngx_hybrid_revoked_state_of(set, turn->theirs) == NGX_OK) {
        ngx_http_hybrid_revoke_publish(revoke, set,
                                       NGX_HTTP_HYBRID_REVOKE_INTERVAL);

    } else {
        ngx_http_hybrid_revoke_failed(revoke, "no memory", NULL);
    }

done:

    ngx_http_hybrid_revoke_end(revoke);
}


/* NGX_ABORT: the list is not what we have read */

static ngx_int_t
ngx_http_hybrid_revoke_written_state(ngx_http_hybrid_revoke_turn_t *turn,
    redisReply *reply)
{
    ngx_uint_t    i;
    ngx_str_t     words[3];
    redisReply  **e;

    e = reply->element;

    if (reply->type != REDIS_REPLY_ARRAY || reply->elements == 0
        || e[0]->type != REDIS_REPLY_STRING)
    {
        return NGX_ERROR;
    }

    if (ngx_strcmp(e[0]->str, "changed") == 0) {
        return NGX_ABORT;
    }

    if (reply->elements != 4) {
        return NGX_ERROR;
    }

    for (i = 0; i < 3; i++) {

        if (e[i + 1]->type != REDIS_REPLY_STRING) {
            return NGX_ERROR;
        }

        words[i].data = (u_char *) e[i + 1]->str;
        words[i].len = e[i + 1]->len;
    }

    return ngx_hybrid_revoked_state(turn->theirs, &words[0], &words[1],
                                    &words[2]);
}


/* Redis's own random numbers are the same ones each time */

static ngx_int_t
ngx_http_hybrid_revoke_random(ngx_str_t *word, u_char *p)
{
    u_char  bytes[8];

    if (RAND_bytes(bytes, sizeof(bytes)) != 1) {
        ERR_clear_error();
        return NGX_ERROR;
    }

    ngx_hex_dump(p, bytes, sizeof(bytes));

    word->data = p;
    word->len = 2 * sizeof(bytes);

    return NGX_OK;
}
