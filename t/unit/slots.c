
/* link: redis/ngx_hybrid_redis_slots.c */
/* libs: -lhiredis */

/*
 * Keys lie in blocks of just their size, and answers are what hiredis's own
 * reader makes of Redis's bytes.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_hybrid_redis_slots.h>

#include <stdio.h>
#include <stdlib.h>

#include "tap.h"


#define MASTER(first, last, host, port)                                       \
    "*3\r\n:" #first "\r\n:" #last "\r\n*3\r\n" host "\r\n:" #port "\r\n"     \
    "$2\r\nid\r\n"


typedef struct {
    const char    *key;
    size_t         len;
    ngx_uint_t     slot;
} test_key_t;


typedef struct {
    const char    *what;
    const char    *text;
    size_t         len;
    ngx_int_t      rc;
} test_answer_t;


typedef struct {
    const char    *text;
    ngx_int_t      rc;
    ngx_uint_t     slot;
    const char    *host;
    in_port_t      port;
    ngx_uint_t     ask;
} test_redirect_t;


static void test_keys(void);
static void test_spread(void);
static void test_map(void);
static void test_answers(void);
static void test_redirects(void);
static void test_literals(void);
static redisReply *test_reply(const char *text, size_t len);


/* what CLUSTER KEYSLOT of Redis 7.0 says */

#define KEY(text, slot)  { text, sizeof(text) - 1, slot }

static test_key_t  keys[] = {
    KEY("", 0),
    KEY("123456789", 0x31c3),
    KEY("foo", 12182),
    KEY("bar", 5061),
    KEY("{bar}", 5061),
    KEY("foo{bar}", 5061),
    KEY("foo{bar}zap", 5061),
    KEY("foo{bar}{zap}", 5061),
    KEY("{user1000}.following", 3443),
    KEY("{user1000}.followers", 3443),
    KEY("foo{}{bar}", 8363),
    KEY("foo{{bar}}zap", 4015),
    KEY("foo{bar", 15278),
    KEY("foo}bar{", 11073),
    KEY("{", 4092),
    KEY("{}", 15257),
    KEY("hybrid:{lightrag}:rate", 4807),
    KEY("hybrid:revoked", 6069),
    KEY("a\0b", 8383),
    KEY("\xff\xfe{\x80}", 4488)
};


#define ANSWER(what, text, rc)  { what, text, sizeof(text) - 1, rc }

static test_answer_t  answers[] = {

    ANSWER("one node", "*1\r\n" MASTER(0, 16383, "$9\r\n127.0.0.1", 7000),
      NGX_OK),
    ANSWER("an IPv6 address", "*1\r\n" MASTER(0, 1, "$3\r\n::1", 7000), NGX_OK),
    ANSWER("no address", "*1\r\n" MASTER(0, 1, "$0\r\n", 7000), NGX_OK),
    ANSWER("an unknown address", "*1\r\n" MASTER(0, 1, "$-1", 7000), NGX_OK),
    ANSWER("one slot, the last", "*1\r\n" MASTER(16383, 16383,
      "$9\r\n127.0.0.1", 65535), NGX_OK),
    ANSWER("a gap", "*2\r\n" MASTER(0, 1, "$7\r\n1.1.1.1", 1)
      MASTER(3, 4, "$7\r\n1.1.1.1", 1), NGX_OK),

    ANSWER("a name", "*1\r\n" MASTER(0, 1, "$5\r\nredis", 7000), NGX_DECLINED),
    ANSWER("an address and more", "*1\r\n" MASTER(0, 1, "$8\r\n1.1.1.1 ", 7000),
      NGX_DECLINED),
    ANSWER("an address and a zero", "*1\r\n" MASTER(0, 1,
      "$9\r\n1.1.1.1\0x", 1),
      NGX_DECLINED),
    ANSWER("a long one", "*1\r\n" MASTER(0, 1, "$60\r\n"
      "1111:1111:1111:1111:1111:1111:1111:1111:1111:1111:1111:1111:",
      7000), NGX_DECLINED),

    ANSWER("no slots", "*0\r\n", NGX_ERROR),
    ANSWER("an integer", ":1\r\n", NGX_ERROR),
    ANSWER("nothing", "*-1\r\n", NGX_ERROR),
    ANSWER("an error", "-ERR no cluster\r\n", NGX_ERROR),
    ANSWER("a range that is no array", "*1\r\n:1\r\n", NGX_ERROR),
    ANSWER("a range without a node", "*1\r\n*2\r\n:0\r\n:1\r\n", NGX_ERROR),
    ANSWER("a node that is no array", "*1\r\n*3\r\n:0\r\n:1\r\n:2\r\n",
      NGX_ERROR),
    ANSWER("a node without a port", "*1\r\n*3\r\n:0\r\n:1\r\n*1\r\n$1\r\na\r\n",
      NGX_ERROR),
    ANSWER("slots that are text", "*1\r\n*3\r\n$1\r\n0\r\n$1\r\n1\r\n*2\r\n"
      "$7\r\n1.1.1.1\r\n:1\r\n", NGX_ERROR),
    ANSWER("a port that is text", "*1\r\n*3\r\n:0\r\n:1\r\n*2\r\n"
      "$7\r\n1.1.1.1\r\n$1\r\n1\r\n", NGX_ERROR),
    ANSWER("a numeric address", "*1\r\n*3\r\n:0\r\n:1\r\n*2\r\n"
      ":7\r\n:1\r\n", NGX_ERROR),
    ANSWER("a negative slot", "*1\r\n" MASTER(-1, 1, "$7\r\n1.1.1.1", 1),
      NGX_ERROR),
    ANSWER("slot 16384", "*1\r\n" MASTER(0, 16384, "$7\r\n1.1.1.1", 1),
      NGX_ERROR),
    ANSWER("backwards", "*1\r\n" MASTER(2, 1, "$7\r\n1.1.1.1", 1), NGX_ERROR),
    ANSWER("port 0", "*1\r\n" MASTER(0, 1, "$7\r\n1.1.1.1", 0), NGX_ERROR),
    ANSWER("port 65536", "*1\r\n" MASTER(0, 1, "$7\r\n1.1.1.1", 65536),
      NGX_ERROR),
    ANSWER("a slot of two", "*2\r\n" MASTER(0, 9, "$7\r\n1.1.1.1", 1)
      MASTER(9, 20, "$7\r\n1.1.1.2", 1), NGX_ERROR),
    ANSWER("the second is odd", "*2\r\n" MASTER(0, 9, "$7\r\n1.1.1.1", 1)
      ":1\r\n", NGX_ERROR)
};


static test_redirect_t  redirects[] = {

    { "MOVED 3999 127.0.0.1:6381", NGX_OK, 3999, "127.0.0.1", 6381, 0 },
    { "ASK 3999 127.0.0.1:6381", NGX_OK, 3999, "127.0.0.1", 6381, 1 },
    { "MOVED 0 ::1:6381", NGX_OK, 0, "::1", 6381, 0 },
    { "MOVED 16383 :65535", NGX_OK, 16383, "", 65535, 0 },
    { "MOVED 1 ?:6381", NGX_OK, 1, "", 6381, 0 },

    { "MOVED 1 redis-1:6381", NGX_DECLINED, 1, "redis-1", 6381, 0 },
    { "MOVED 1 [::1]:6381", NGX_DECLINED, 1, "[::1]", 6381, 0 },

    { "MOVED 16384 127.0.0.1:6381", NGX_ERROR, 0, NULL, 0, 0 },
    { "MOVED -1 127.0.0.1:6381", NGX_ERROR, 0, NULL, 0, 0 },
    { "MOVED 3999", NGX_ERROR, 0, NULL, 0, 0 },
    { "MOVED ", NGX_ERROR, 0, NULL, 0, 0 },
    { "MOVED  127.0.0.1:6381", NGX_ERROR, 0, NULL, 0, 0 },
    { "MOVED 3999 127.0.0.1", NGX_ERROR, 0, NULL, 0, 0 },
    { "MOVED 3999 127.0.0.1:", NGX_ERROR, 0, NULL, 0, 0 },
    { "MOVED 3999 127.0.0.1:0", NGX_ERROR, 0, NULL, 0, 0 },
    { "MOVED 3999 127.0.0.1:65536", NGX_ERROR, 0, NULL, 0, 0 },
    { "MOVED 3999 127.0.0.1:99999999999999999999", NGX_ERROR, 0, NULL, 0, 0 },
    { "MOVED 99999999999999999999 1.1.1.1:1", NGX_ERROR, 0, NULL, 0, 0 },
    { "ASK 3999 127.0.0.1:6381 x", NGX_ERROR, 0, NULL, 0, 0 },
    { "ASK ", NGX_ERROR, 0, NULL, 0, 0 }
};


int
main(void)
{
    test_keys();
    test_spread();
    test_map();
    test_answers();
    test_redirects();
    test_literals();

    return tap_end();
}


static void
test_keys(void)
{
    char        what[64];
    ngx_str_t   key;
    ngx_uint_t  i, slot;

    for (i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {

        key.len = keys[i].len;
        key.data = malloc(key.len ? key.len : 1);
        ngx_memcpy(key.data, keys[i].key, key.len);

        slot = ngx_hybrid_redis_slot(&key);

        snprintf(what, sizeof(what), "slot of \"%s\": %u", keys[i].key,
                 (unsigned) slot);
        test_ok(slot == keys[i].slot, what);

        free(key.data);
    }
}


/* clients are spread, and all keys of one are together */

static void
test_spread(void)
{
    u_char      text[64], other[64];
    ngx_str_t   key;
    ngx_uint_t  i, slot, third[3], apart;

    ngx_memzero(third, sizeof(third));
    apart = 0;

    for (i = 0; i < 3000; i++) {
        key.data = text;
        key.len = sprintf((char *) text, "hybrid:{client-%u}:rate",
                          (unsigned) i);
        slot = ngx_hybrid_redis_slot(&key);

        key.data = other;
        key.len = sprintf((char *) other,
                          "hybrid:{client-%u}:stat:forge:mistral:7b",
                          (unsigned) i);
        apart += (ngx_hybrid_redis_slot(&key) != slot);

        key.len = sprintf((char *) other, "hybrid:client:{client-%u}",
                          (unsigned) i);
        apart += (ngx_hybrid_redis_slot(&key) != slot);

        third[slot * 3 / NGX_HYBRID_REDIS_SLOTS]++;
    }

    test_ok(apart == 0, "keys of a client are in one slot");
    test_ok(third[0] > 900 && third[1] > 900 && third[2] > 900,
            "clients are spread over three nodes");
}


static void
test_map(void)
{
    ngx_str_t                  name;
    redisReply                *reply;
    ngx_hybrid_redis_range_t   ranges[3];

    /* as Redis 7.0 says it, replicas and metadata included */

    static const char  text[] =
        "*3\r\n"
        "*4\r\n:0\r\n:5460\r\n"
        "*4\r\n$9\r\n127.0.0.1\r\n:7000\r\n$2\r\nab\r\n*0\r\n"
        "*4\r\n$9\r\n127.0.0.1\r\n:7003\r\n$2\r\ncd\r\n*2\r\n"
        "$8\r\nhostname\r\n$4\r\nhost\r\n"
        "*3\r\n:5461\r\n:10922\r\n"
        "*4\r\n$0\r\n\r\n:7001\r\n$2\r\nef\r\n*0\r\n"
        "*3\r\n:10923\r\n:16383\r\n"
        "*2\r\n$3\r\n::1\r\n:7002\r\n";

    reply = test_reply(text, sizeof(text) - 1);
    ngx_memzero(ranges, sizeof(ranges));

    test_ok(ngx_hybrid_redis_slots(reply, ranges, &name) == NGX_OK,
            "a map of three nodes");

    test_ok(ranges[0].first == 0 && ranges[0].last == 5460
            && ranges[0].port == 7000 && ranges[0].host.len == 9
            && ngx_memcmp(ranges[0].host.data, "127.0.0.1", 9) == 0,
            "the first");
    test_ok(ranges[1].first == 5461 && ranges[1].last == 10922
            && ranges[1].port == 7001 && ranges[1].host.len == 0,
            "the second");
    test_ok(ranges[2].first == 10923 && ranges[2].last == 16383
            && ranges[2].port == 7002 && ranges[2].host.len == 3,
            "the third");

    freeReplyObject(reply);
}


static void
test_answers(void)
{
    ngx_int_t                  rc;
    ngx_str_t                  name;
    ngx_uint_t                 i;
    redisReply                *reply;
    ngx_hybrid_redis_range_t  *ranges;

    for (i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {

        reply = test_reply(answers[i].text, answers[i].len);
        ranges = malloc((reply->elements + 1)
                        * sizeof(ngx_hybrid_redis_range_t));

        ngx_str_null(&name);

        rc = ngx_hybrid_redis_slots(reply, ranges, &name);

        test_ok(rc == answers[i].rc && (rc == NGX_DECLINED) == (name.len > 0),
                answers[i].what);

        free(ranges);
        freeReplyObject(reply);
    }
}


static void
test_redirects(void)
{
    redisReply                    reply;
    ngx_int_t                     rc;
    ngx_uint_t                    i, ok;
    test_redirect_t              *t;
    ngx_hybrid_redis_redirect_t   redirect;

    for (i = 0; i < sizeof(redirects) / sizeof(redirects[0]); i++) {
        t = &redirects[i];

        ngx_memzero(&reply, sizeof(redisReply));
        reply.type = REDIS_REPLY_ERROR;
        reply.str = strdup(t->text);
        reply.len = strlen(t->text);

        rc = ngx_hybrid_redis_redirect(&reply, &redirect);
        ok = (rc == t->rc);

        if (ok && rc != NGX_ERROR) {
            ok = redirect.slot == t->slot && redirect.port == t->port
                 && redirect.ask == t->ask
                 && redirect.host.len == strlen(t->host)
                 && ngx_memcmp(redirect.host.data, t->host,
                               redirect.host.len) == 0;
        }

        test_ok(ok, t->text);

        free(reply.str);
    }
}


static void
test_literals(void)
{
    ngx_str_t  host;

    ngx_str_set(&host, "10.0.0.1");
    test_ok(ngx_hybrid_redis_literal(&host), "IPv4");

    ngx_str_set(&host, "fd00::1");
    test_ok(ngx_hybrid_redis_literal(&host), "IPv6");

    ngx_str_set(&host, "10.0.0.1.example.com");
    test_ok(!ngx_hybrid_redis_literal(&host), "a name like an address");

    ngx_str_set(&host, "");
    test_ok(!ngx_hybrid_redis_literal(&host), "nothing");
}


static redisReply *
test_reply(const char *text, size_t len)
{
    void         *reply;
    redisReader  *reader;

    reader = redisReaderCreate();
    reply = NULL;

    if (reader == NULL
        || redisReaderFeed(reader, text, len) != REDIS_OK
        || redisReaderGetReply(reader, &reply) != REDIS_OK || reply == NULL)
    {
        printf("Bail out! no reply: %s\n", text);
        exit(1);
    }

    redisReaderFree(reader);

    return reply;
}
