
/* link: stats/ngx_hybrid_stream.c stats/ngx_hybrid_stream_json.c */

/*
 * Each answer is read whole, byte by byte, and split in two at every
 * position; each piece lies in a block of its own of just its size, so that
 * ASan sees a read past it.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_hybrid_stream.h>

#include <stdio.h>
#include <stdlib.h>


#define S(s)     { sizeof(s) - 1, (u_char *) s }

#define TOKEN    NGX_HYBRID_STREAM_TOKEN
#define FINISH   NGX_HYBRID_STREAM_FINISH
#define END      NGX_HYBRID_STREAM_END
#define ERROR    NGX_HYBRID_STREAM_ERROR
#define USAGE    NGX_HYBRID_STREAM_USAGE
#define CHOICES  NGX_HYBRID_STREAM_CHOICES
#define CHOICE   NGX_HYBRID_STREAM_CHOICE

#define BETWEEN  ngx_hybrid_stream_between
#define NEXT     ngx_hybrid_stream_next_line
#define INSIDE   ngx_hybrid_stream_inside

#define lines    ngx_hybrid_stream_lines
#define events   ngx_hybrid_stream_events
#define json     ngx_hybrid_stream_json

#define A16      "aaaaaaaaaaaaaaaa"
#define A64      A16 A16 A16 A16
#define OPEN10   "[{\"a\":[{\"a\":[{\"a\":[{\"a\":[{\"a\":"
#define CLOSE10  "}]}]}]}]}]"
#define DELTA(d) "data: {\"choices\":[{\"index\":0,\"delta\":{" d "}}]}\n\n"
#define SPENT    "data: {\"choices\":[],\"usage\":{\"total_tokens\":3}}\n\n"


/* what is seen at the end, how many events, and where the next byte goes */

typedef struct {
    ngx_hybrid_stream_format_e  format;
    ngx_str_t                   text;
    ngx_uint_t                  seen;
    ngx_uint_t                  events;
    ngx_uint_t                  place;
} test_case_t;


static test_case_t  test_cases[] = {

    { lines, S(""), 0, 0, BETWEEN },
    { lines, S("{\"response\":\"\",\"done\":false}\n"), 0, 1, BETWEEN },
    { lines, S("{\"response\":\"x\",\"done\":false}\n"), TOKEN, 1, BETWEEN },
    { lines, S("{\"response\":\"x"), TOKEN, 0, INSIDE },
    { lines, S("{\"response\":\"\\n"), TOKEN, 0, INSIDE },
    { lines, S("{\"response\": \"\" , \"thinking\" : \"x\"}\n"), TOKEN, 1,
      BETWEEN },
    { lines, S("{\"message\":{\"role\":\"assistant\",\"content\":\"\"}}\n"),
      0, 1, BETWEEN },
    { lines, S("{\"message\":{\"role\":\"assistant\",\"content\":\"x\"}}\n"),
      TOKEN, 1, BETWEEN },
    { lines, S("{\"message\":{\"thinking\":\"x\"}}\r\n"), TOKEN, 1, BETWEEN },
    { lines, S("{\"message\":{\"tool_calls\":[]}}\n"), 0, 1, BETWEEN },
    { lines, S("{\"message\":{\"tool_calls\":null}}\n"), 0, 1, BETWEEN },
    { lines, S("{\"message\":{\"tool_calls\":[{\"function\":{}}]}}\n"),
      TOKEN, 1, BETWEEN },

    /* elsewhere it means nothing */
    { lines, S("{\"model\":\"response\",\"x\":{\"response\":\"x\","
               "\"done\":true,\"error\":\"x\"}}\n"), 0, 1, BETWEEN },
    { lines, S("{\"x\":[{\"response\":\"x\"}],\"y\":{\"message\":"
               "{\"content\":\"x\"}}}\n"), 0, 1, BETWEEN },
    { lines, S("{\"x\":\"\\\"response\\\":\\\"x\\\"\",\"resp\\u006fnse\":"
               "\"x\"}\n"), 0, 1, BETWEEN },
    { lines, S("{\"" A64 "\":1,\"" A64 "response\":\"x\"}\n"), 0, 1,
      BETWEEN },
    { lines, S("\"response\"\n[\"response\",\"x\"]\n"), 0, 2, BETWEEN },

    /* what comes after what is deep is still seen */
    { lines, S("{\"x\":" OPEN10 OPEN10 "{\"response\":\"x\",\"done\":true}"
               CLOSE10 CLOSE10 ",\"response\":\"x\"}\n"), TOKEN, 1,
      BETWEEN },
    { lines, S("{\"x\":" OPEN10 "1" CLOSE10 ",\"done\":true}\n"), END, 1,
      BETWEEN },
    { lines, S("{\"x\":{\"y\":1},\"z\":[[],{},[{}]],\"done\":true}\n"), END,
      1, BETWEEN },

    /* the end is one when all of it is there */
    { lines, S("{\"response\":\"\",\"done\":true,\"context\":[1,2,3]}"), END,
      0, INSIDE },
    { lines, S("{\"response\":\"\",\"done\":true,\"context\":[1,2,3]"), 0,
      0, INSIDE },
    { lines, S("{\"done\":true"), 0, 0, INSIDE },
    { lines, S("{\"done\":true\n{\"done\":false}\n"), 0, 2, BETWEEN },
    { lines, S("{\"done\": true }\n"), END, 1, BETWEEN },
    { lines, S("{\"done\":trues}\n{\"done\":\"true\"}\n{\"done\":[1]}\n"), 0,
      3, BETWEEN },

    { lines, S("{\"error\":\"x\"}\n"), ERROR, 1, BETWEEN },
    { lines, S("{\"error\":{\"code\":1}}\n"), ERROR, 1, BETWEEN },
    { lines, S("{\"error\":null,\"done\":true}\n"), END, 1, BETWEEN },

    /* a malformed line is no harm to the others */
    { lines, S("}}]]\n{{{[[[\n\"\n\\\n{\"a\"\n{\"a\":\n,:,\n\x80\xff\x01\n"
               "{\"response\":\"x\"}\n"), TOKEN, 9, BETWEEN },
    { lines, S("\n \n\r\n{\"done\":true}\n"), END, 4, BETWEEN },

    { events, S(DELTA("\"content\":\"\"")), CHOICE|CHOICES, 1, BETWEEN },
    { events, S(DELTA("\"content\":\"x\"")), TOKEN|CHOICE|CHOICES, 1,
      BETWEEN },
    { events, S(DELTA("\"content\":null")), CHOICE|CHOICES, 1, BETWEEN },
    { events, S(DELTA("\"reasoning\":\"x\"")), TOKEN|CHOICE|CHOICES, 1,
      BETWEEN },
    { events, S(DELTA("\"reasoning_content\":\"x\"")),
      TOKEN|CHOICE|CHOICES, 1, BETWEEN },
    { events, S(DELTA("\"tool_calls\":[{\"index\":0}]")),
      TOKEN|CHOICE|CHOICES, 1, BETWEEN },
    { events, S("data: {\"choices\":[{\"text\":\"x\","
                "\"finish_reason\":null}]}\n\n"), TOKEN|CHOICE|CHOICES, 1,
      BETWEEN },
    { events, S("data: {\"choices\":[{\"text\":\"\","
                "\"finish_reason\":\"stop\"}]}\n\n"),
      FINISH|CHOICE|CHOICES, 1, BETWEEN },
    { events, S(SPENT), CHOICES|USAGE, 1, BETWEEN },
    { events, S("data: {\"choices\":[],\"usage\":null}\n\n"), CHOICES, 1,
      BETWEEN },
    { events, S("data: [DONE]\n\n"), END, 1, BETWEEN },
    { events, S("data:[DONE]\n\n"), END, 1, BETWEEN },
    { events, S("data: [DONE]\r\n\r\n"), END, 1, BETWEEN },
    { events, S("data: [DONE]"), END, 0, INSIDE },
    { events, S("data: [DONE\n\ndata: DONE]\n\nxdata: [DONE]\n\n"
                "data: x[DONE]\n\n data: [DONE]\n\nevent: [DONE]\n\n"
                ": data: [DONE]\n\ndata [DONE]\n\n"), 0, 8, BETWEEN },
    { events, S("data: \"[DONE]\"\n\n"), 0, 1, BETWEEN },

    /* an event of several lines, and who forgets the empty one */
    { events, S("data: {\"choices\":\ndata: [{\"text\":\ndata: \"x\"}]}\n\n"),
      TOKEN|CHOICE|CHOICES, 1, BETWEEN },
    { events, S("data: {\"choices\":[{}]}\ndata: {\"choices\":[{\"text\":"
                "\"x\"}]}\ndata: [DONE]\n"), TOKEN|CHOICE|CHOICES|END, 0,
      NEXT },
    { events, S(": comment\n\n:\r\n\r\nretry: 1\nid: 2\n\ndata\n\ndata:\n\n"),
      0, 5, BETWEEN },
    { events, S("data: {\"choices\""), 0, 0, INSIDE },
    { events, S("event: x\n"), 0, 0, NEXT },
    { events, S("data: }{\n\ndata: \"\n\n" DELTA("\"content\":\"x\"")),
      TOKEN|CHOICE|CHOICES, 3, BETWEEN },

    { events, S("event: message_start\ndata: {\"type\":\"message_start\","
                "\"message\":{\"content\":[],\"usage\":{\"a\":1}}}\n\n"), 0,
      1, BETWEEN },
    { events, S("data: {\"type\":\"content_block_start\",\"content_block\":"
                "{\"type\":\"text\",\"text\":\"\"}}\n\n"), 0, 1, BETWEEN },
    { events, S("data: {\"type\":\"content_block_delta\",\"delta\":"
                "{\"type\":\"text_delta\",\"text\":\"x\"}}\n\n"), TOKEN, 1,
      BETWEEN },
    { events, S("data: {\"type\":\"content_block_delta\",\"delta\":"
                "{\"type\":\"thinking_delta\",\"thinking\":\"x\"}}\n\n"),
      TOKEN, 1, BETWEEN },
    { events, S("data: {\"delta\":{\"partial_json\":\"{\"}}\n\n"), TOKEN, 1,
      BETWEEN },
    { events, S("data: {\"type\":\"ping\"}\n\n"), 0, 1, BETWEEN },
    { events, S("data: {\"type\":\"message_stop\"}\n\n"), END, 1, BETWEEN },
    { events, S("data: {\"type\":\"message_stopp\"}\n\n"), 0, 1, BETWEEN },
    { events, S("data: {\"type\":\"message_stop\""), 0, 0, INSIDE },
    { events, S("data: {\"type\":\"error\",\"x\":1}\n\n"), ERROR, 1,
      BETWEEN },

    { events, S("data: {\"type\":\"response.created\",\"response\":"
                "{\"error\":null,\"output\":[]}}\n\n"), 0, 1, BETWEEN },
    { events, S("data: {\"type\":\"response.output_text.delta\","
                "\"delta\":\"x\"}\n\n"), TOKEN, 1, BETWEEN },
    { events, S("data: {\"type\":\"response.completed\",\"response\":{}}"
                "\n\n"), END, 1, BETWEEN },
    { events, S("data: {\"type\":\"response.failed\"}\n\n"), ERROR, 1,
      BETWEEN },

    { events, S("data: {\"candidates\":[{\"content\":{\"role\":\"model\","
                "\"parts\":[{\"text\":\"x\"}]}}]}\n\n"), TOKEN, 1, BETWEEN },
    { events, S("data: {\"candidates\":[{\"finishReason\":\"STOP\"}],"
                "\"usageMetadata\":{\"totalTokenCount\":1}}\n\n"),
      FINISH|USAGE, 1, BETWEEN },

    { json, S(" {\"response\":\"a\\nb\",\"done\":true}\n"), TOKEN|END, 0,
      INSIDE },
    { json, S("{\"a\":1,\n\"b\":[{}\n,{}]\n"), 0, 0, INSIDE },
    { json, S("[{\"candidates\":[{\"content\":{\"parts\":[{\"text\":"
              "\"x\"}]}}]}\n,\r\n{}]"), TOKEN|END, 0, INSIDE },
    { json, S("{\"error\":{\"message\":\"x\"}}"), ERROR|END, 0, INSIDE },
};


static void test_ok(ngx_uint_t ok, const char *fmt, ngx_uint_t n, size_t at);
static ngx_uint_t test_feed(ngx_hybrid_stream_t *s, u_char *p, size_t len);
static void test_case(test_case_t *tc, ngx_uint_t n);
static void test_said(void);
static void test_long(void);
static void test_random(void);


static ngx_uint_t  tests, failed;


int
main(void)
{
    ngx_uint_t  i;

    (void) alarm(300);

    for (i = 0; i < sizeof(test_cases) / sizeof(test_cases[0]); i++) {
        test_case(&test_cases[i], i);
    }

    test_said();
    test_long();
    test_random();

    printf("1..%lu\n", (unsigned long) tests);

    return failed != 0;
}


static void
test_ok(ngx_uint_t ok, const char *fmt, ngx_uint_t n, size_t at)
{
    tests++;
    failed += !ok;

    printf("%sok %lu - ", ok ? "" : "not ", (unsigned long) tests);
    printf(fmt, (unsigned long) n, (unsigned long) at);
    printf("\n");
}


/* the number of events that have ended */

static ngx_uint_t
test_feed(ngx_hybrid_stream_t *s, u_char *p, size_t len)
{
    u_char      *copy, *pos, *last;
    ngx_uint_t   n;

    copy = malloc(len ? len : 1);
    memcpy(copy, p, len);

    n = 0;
    pos = copy;
    last = copy + len;

    while (pos < last) {
        pos = ngx_hybrid_stream_read(s, pos, last);
        n += s->complete;
    }

    free(copy);

    return n;
}


static void
test_case(test_case_t *tc, ngx_uint_t n)
{
    size_t               at;
    ngx_uint_t           count, bad;
    ngx_hybrid_stream_t  s;

    ngx_hybrid_stream_init(&s, tc->format);
    count = test_feed(&s, tc->text.data, tc->text.len);

    test_ok(s.seen == tc->seen, "case %lu: seen", n, 0);
    test_ok(count == tc->events && s.place == tc->place,
            "case %lu: events, place", n, 0);

    bad = 0;

    for (at = 0; at <= tc->text.len; at++) {
        ngx_hybrid_stream_init(&s, tc->format);
        count = test_feed(&s, tc->text.data, at);
        count += test_feed(&s, tc->text.data + at, tc->text.len - at);

        bad += s.seen != tc->seen || count != tc->events
               || s.place != tc->place;
    }

    ngx_hybrid_stream_init(&s, tc->format);
    count = 0;

    for (at = 0; at < tc->text.len; at++) {
        count += test_feed(&s, tc->text.data + at, 1);
    }

    bad += s.seen != tc->seen || count != tc->events || s.place != tc->place;

    test_ok(bad == 0, "case %lu: split everywhere, %lu bad", n, bad);
}


/* what an event says is not mixed with what another one said */

static void
test_said(void)
{
    u_char               *p, *last;
    ngx_uint_t            i;
    ngx_hybrid_stream_t   s;

    static u_char      text[] = DELTA("\"content\":\"x\"") SPENT
                                DELTA("\"content\":\"\"") "data: [DONE]\n\n";
    static ngx_uint_t  said[] = { TOKEN|CHOICES|CHOICE, CHOICES|USAGE,
                                  CHOICES|CHOICE, END };

    ngx_hybrid_stream_init(&s, events);

    p = text;
    last = text + sizeof(text) - 1;

    for (i = 0; i < 4; i++) {
        p = ngx_hybrid_stream_read(&s, p, last);
        test_ok(s.complete && s.said == said[i], "event %lu says", i, 0);
    }

    test_ok(p == last, "all of them", 0, 0);
}


/* lines of megabytes, and names that are longer than what is kept */

static void
test_long(void)
{
    u_char               *p;
    size_t                i;
    ngx_hybrid_stream_t   s;

    ngx_hybrid_stream_init(&s, lines);
    p = malloc(1 << 20);

    (void) test_feed(&s, (u_char *) "{\"x\":\"", 6);
    memset(p, 'a', 1 << 20);

    for (i = 0; i < 8; i++) {
        (void) test_feed(&s, p, 1 << 20);
    }

    (void) test_feed(&s, (u_char *) "\",\"context\":[1", 14);

    for (i = 0; i < 1 << 20; i += 2) {
        p[i] = ',';
        p[i + 1] = '1';
    }

    (void) test_feed(&s, p, 1 << 20);
    (void) test_feed(&s, (u_char *) "],\"done\":true}", 14);

    test_ok(s.seen == END, "a line of 9 megabytes", 0, 0);

    memset(p, '[', 1 << 20);
    (void) test_feed(&s, (u_char *) "\n", 1);
    (void) test_feed(&s, p, 1 << 20);
    (void) test_feed(&s, (u_char *) "\n{\"response\":\"x\"}\n", 19);

    test_ok(s.seen == (END|TOKEN), "depth of a million", 0, 0);

    free(p);
}


/* nothing but that it does not read or write where it must not */

static void
test_random(void)
{
    u_char               buf[64];
    size_t               i, n;
    ngx_uint_t           round;
    ngx_hybrid_stream_t  s;

    static char  letters[] = "{}[]\":,\\ \n\r\ndata:[DONE]\"response\"x\"error";

    srandom(1);

    for (round = 0; round < 20000; round++) {

        if (round % 50 == 0) {
            ngx_hybrid_stream_init(&s, round / 50 % 3);
        }

        n = random() % sizeof(buf);

        for (i = 0; i < n; i++) {
            buf[i] = letters[random() % (sizeof(letters) - 1)];
        }

        (void) test_feed(&s, buf, n);
    }

    test_ok(1, "random bytes", 0, 0);
}
