
/* link: stats/ngx_hybrid_stream.c stats/ngx_hybrid_stream_json.c */

/*
 * What backends count.  Each answer is read whole, byte by byte, and split in
 * two at every position; each piece lies in a block of its own of just its
 * size, so that ASan sees a read past it.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_hybrid_stream.h>

#include <stdio.h>
#include <stdlib.h>


#define lines    ngx_hybrid_stream_lines
#define events   ngx_hybrid_stream_events
#define json     ngx_hybrid_stream_json

#define E(s)     "data: " s "\n\n"
#define D(s)     E("{\"choices\":[{\"delta\":{\"content\":\"" s "\"}}]}")
#define P(s)     "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"" s   \
                 "\"}]}}]}"

#define NUMBERS  "\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":9},"   \
                 "\"usageMetadata\":{\"promptTokenCount\":9},"                \
                 "\"eval_count\":9,\"prompt_eval_count\":9,"                  \
                 "\"input_tokens\":9,\"promptTokenCount\":9"

#define IN       "i11 "
#define BOTH     "i11 o22 "


typedef struct {
    ngx_hybrid_stream_format_e  format;
    const char                 *text;
    const char                 *want;
} test_case_t;


/*
 * i input, w cache written, r read, u tools, o output, t thoughts, L P E T
 * times; a zero that is told is there, too.  Last the tokens that were seen.
 */

static const char  test_names[] = "iwruotLPET";


static test_case_t  test_cases[] = {

    { lines, "", "0" },
    { lines, "{\"response\":\"a\"}\n{\"response\":\"b\"}\n{\"response\":\"\"}"
             "\n{\"done\":true,\"eval_count\":22,\"prompt_eval_count\":11}\n",
      BOTH "L0 P0 E0 T0 2" },
    { lines, "{\"done\":true,\"total_duration\":1,\"load_duration\":2,"
             "\"prompt_eval_count\":11,\"prompt_eval_duration\":3,"
             "\"eval_count\":22,\"eval_duration\":4}",
      BOTH "L2 P3 E4 T1 0" },
    { lines, "{\"eval_count\":22,\"done\":false}\n", "o22 0" },
    { lines, "{\"done\":true}\n", "i0 o0 L0 P0 E0 T0 0" },

    /* the last one counts, but a zero says nothing after a number */
    { lines, "{\"eval_count\":1}\n{\"eval_count\":22}\n{\"eval_count\":0}\n",
      "o22 0" },
    { lines, "{\"eval_count\":22}\n{\"eval_count\":3}\n", "o3 0" },

    /* no number, or none that can be */
    { lines, "{\"eval_count\":-1}\n{\"eval_count\":1.5}\n{\"eval_count\":1e3}"
             "\n{\"eval_count\":1E3}\n{\"eval_count\":\"22\"}\n"
             "{\"eval_count\":null}\n{\"eval_count\":[22]}\n"
             "{\"eval_count\":{\"eval_count\":22}}\n{\"eval_count\":true}\n"
             "{\"eval_count\":1000000001}\n"
             "{\"eval_count\":18446744073709551617}\n"
             "{\"eval_count\":000000000000000000000000000000000000001}\n",
      "0" },
    { lines, "{\"eval_count\":1000000000,\"load_duration\":1000000000000000}",
      "o1000000000 L1000000000000000 0" },
    { lines, "{\"load_duration\":1000000000000001}", "0" },
    { lines, "{\"eval_count\":22", "0" },
    { lines, "{\"eval_count\":22 ", "o22 0" },
    { lines, "{\"eval_count\" : 22\t}", "o22 0" },

    /* words of the user, or of the model */
    { lines, "{\"message\":{\"content\":\"{\\\"eval_count\\\":9}\",\"x\":{"
             NUMBERS "},\"tool_calls\":[{\"function\":{\"arguments\":{"
             NUMBERS "}}}]}}\n{\"x\":{" NUMBERS "},\"y\":[{" NUMBERS "}]}\n"
             "{\"\\u0065val_count\":9,\"eval_countt\":9,\"eval_coun\":9}\n"
             "{\"x\":\"eval_count\",\"y\":9}\n", "1" },
    { json, "{\"choices\":[{\"message\":{\"content\":\"\\\"},\\\"usage\\\":"
            "{\\\"prompt_tokens\\\":9}\"," NUMBERS "}," NUMBERS "}],\"x\":{"
            NUMBERS "}}", "7" },
    { json, "{\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"input\":{"
            NUMBERS "},\"id\":{" NUMBERS "}}],\"usage\":{\"x\":{" NUMBERS
            "},\"input_tokens\":11,\"output_tokens\":22}}", BOTH "1" },
    { json, "{\"candidates\":[{\"content\":{\"parts\":[{\"functionCall\":"
            "{\"args\":{" NUMBERS "}}}]}}]}", "1" },

    /* zeros until the last one */
    { events, E("{\"choices\":[{\"text\":\"a\"}],\"usage\":{\"prompt_tokens\""
                ":0,\"completion_tokens\":0}}")
              E("{\"choices\":[],\"usage\":{\"prompt_tokens\":11,"
                "\"completion_tokens\":22,\"completion_tokens_details\":"
                "{\"completion_tokens\":9}}}") E("[DONE]"), BOTH "1" },
    { events, E("{\"usage\":{\"prompt_tokens\":0,\"completion_tokens\":0}}"),
      "i0 o0 0" },
    { events, E("{\"usage\":null}"), "0" },
    { json, "{\"data\":[{\"embedding\":[0.1,2]}],\"usage\":{\"prompt_tokens\""
            ":11,\"total_tokens\":11}}", IN "0" },

    { events, E("{\"type\":\"response.created\",\"response\":{\"usage\":null,"
                "\"x\":{" NUMBERS "}}}")
              E("{\"type\":\"x\",\"delta\":\"a\"}")
              E("{\"type\":\"response.completed\",\"response\":{\"usage\":"
                "{\"input_tokens\":11,\"input_tokens_details\":"
                "{\"cached_tokens\":9},\"output_tokens\":22}}}"), BOTH "1" },
    { json, "{\"output\":[{\"content\":[{\"text\":\"ab\"}]}],\"usage\":"
            "{\"input_tokens\":11,\"output_tokens\":22}}", BOTH "1" },

    { events, E("{\"type\":\"message_start\",\"message\":{\"usage\":"
                "{\"input_tokens\":11,\"cache_creation_input_tokens\":2,"
                "\"cache_read_input_tokens\":3,\"output_tokens\":1}}}")
              E("{\"delta\":{\"text\":\"a\"}}"), "i11 w2 r3 o1 1" },
    { events, E("{\"message\":{\"usage\":{\"input_tokens\":11,"
                "\"output_tokens\":1}}}")
              E("{\"delta\":{},\"usage\":{\"input_tokens\":0,"
                "\"output_tokens\":22}}"), BOTH "0" },

    { events, E("{\"usageMetadata\":{\"promptTokenCount\":11}}")
              E("{\"usageMetadata\":{\"promptTokenCount\":11,"
                "\"candidatesTokenCount\":22,\"thoughtsTokenCount\":3,"
                "\"toolUsePromptTokenCount\":4,\"totalTokenCount\":9,"
                "\"promptTokensDetails\":[{\"promptTokenCount\":9}]}}"),
      "i11 u4 o22 t3 0" },
    { json, "[" P("a") ",\r\n" P("b") "\n,{\"usageMetadata\":"
            "{\"promptTokenCount\":11}}]", IN "2" },

    /* an event with much text holds more than one */
    { events, D("1234567890123456"), "1" },
    { events, D("12345678901234567") D("a") D(""), "6" },
    { events, D("1234\\n5678\\\"9012\\u00345678901"), "6" },
    { events, E("{\"choices\":[{\"delta\":{\"content\":\"a\",\"reasoning\":"
                "\"b\"}},{\"delta\":{\"content\":\"c\"}}]}"), "1" },
    { events, "data: {\"choices\":[{\"delta\":{\"content\":\"a", "1" },
    { events, "data: {\"choices\":[{\"delta\":{\"content\":\"1234567890"
              "1234567", "5" },
    { events, E("{\"choices\":[{\"delta\":{\"tool_calls\":[{}]}}]}") ":\n\n"
              D("a"), "2" },
    { json, "{\"response\":\"12345678901234567\"}", "5" },
    { json, "[" P("12345678901234567") "," P("a") "]", "6" },
    { json, "{\"role\":\"12345678901234567\"}", "0" },
};


static void test_case(test_case_t *tc, ngx_uint_t n);
static void test_feed(ngx_hybrid_stream_t *s, const char *p, size_t len);
static ngx_uint_t test_is(ngx_hybrid_stream_t *s, test_case_t *tc);


static ngx_uint_t  tests, failed;


int
main(void)
{
    ngx_uint_t  i;

    for (i = 0; i < sizeof(test_cases) / sizeof(test_cases[0]); i++) {
        test_case(&test_cases[i], i);
    }

    printf("1..%lu\n", (unsigned long) tests);

    return failed != 0;
}


static void
test_case(test_case_t *tc, ngx_uint_t n)
{
    size_t               at, len;
    ngx_uint_t           ok;
    ngx_hybrid_stream_t  s;

    len = ngx_strlen(tc->text);

    ngx_hybrid_stream_init(&s, tc->format);
    test_feed(&s, tc->text, len);
    ok = test_is(&s, tc);

    for (at = 0; ok && at <= len; at++) {
        ngx_hybrid_stream_init(&s, tc->format);
        test_feed(&s, tc->text, at);
        (void) ngx_hybrid_stream_tokens(&s);
        test_feed(&s, tc->text + at, len - at);
        ok = test_is(&s, tc);
    }

    ngx_hybrid_stream_init(&s, tc->format);

    for (at = 0; at < len; at++) {
        test_feed(&s, tc->text + at, 1);
    }

    ok = ok && test_is(&s, tc);

    failed += !ok;
    printf("%sok %lu - case %lu\n", ok ? "" : "not ",
           (unsigned long) ++tests, (unsigned long) n);
}


static void
test_feed(ngx_hybrid_stream_t *s, const char *p, size_t len)
{
    u_char  *copy, *pos;

    copy = malloc(len ? len : 1);

    if (copy == NULL) {
        exit(2);
    }

    memcpy(copy, p, len);

    for (pos = copy; pos < copy + len; /* void */ ) {
        pos = ngx_hybrid_stream_read(s, pos, copy + len);
    }

    free(copy);
}


static ngx_uint_t
test_is(ngx_hybrid_stream_t *s, test_case_t *tc)
{
    char        text[256], *p;
    ngx_uint_t  i;

    p = text;

    for (i = 0; i < ngx_hybrid_stream_numbers; i++) {
        if (s->told & ((ngx_uint_t) 1 << i)) {
            p += sprintf(p, "%c%lu ", test_names[i],
                         (unsigned long) s->numbers[i]);
        }
    }

    sprintf(p, "%lu", (unsigned long) ngx_hybrid_stream_tokens(s));

    if (strcmp(text, tc->want) == 0) {
        return 1;
    }

    printf("# got \"%s\", wanted \"%s\"\n", text, tc->want);

    return 0;
}
