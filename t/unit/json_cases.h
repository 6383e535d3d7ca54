
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_hybrid_json.h>

#include <stdio.h>
#include <stdlib.h>


#define S(s)             { sizeof(s) - 1, (u_char *) s }

#define ACCEPT(s, want)  { S(s), NGX_HYBRID_JSON_VALID, sizeof(s) - 1, want }
#define REFUSE(s, error, at)                                                  \
    { S(s), NGX_HYBRID_JSON_##error, at, NULL }

#define LIT(s)           (u_char *) s, sizeof(s) - 1
#define ADD(p, s)        ngx_cpymem(p, s, sizeof(s) - 1)

#define A10              "aaaaaaaaaa"
#define A50              A10 A10 A10 A10 A10
#define A64              A50 A10 "aaaa"
#define A250             A50 A50 A50 A50 A50


typedef struct {
    ngx_str_t                 body;
    ngx_uint_t                error;
    off_t                     offset;
    const char               *want;
} test_case_t;


static ngx_str_t  kinds[] = {
    ngx_string("web_"),
    ngx_string("mcp"),
    ngx_null_string
};


static ngx_hybrid_json_key_t  members[] = {
    { ngx_string("num_ctx"), 8, NULL, NULL, 0 },
    { ngx_string("use_mmap"), 8, NULL, NULL, 0 },
    { ngx_string("num_keep"), 8, NULL, NULL, 0 }
};

#define NMEMBERS  (sizeof(members) / sizeof(members[0]))


static ngx_hybrid_json_key_t  keys[] = {
    { ngx_string("model"), 256, NULL, NULL, 0 },
    { ngx_string("name"), 256, NULL, NULL, 0 },
    { ngx_string("source"), 64, NULL, NULL, 0 },
    { ngx_string("destination"), 64, NULL, NULL, 0 },
    { ngx_string("from"), 64, NULL, NULL, 0 },
    { ngx_string("keep_alive"), 32, NULL, NULL, 0 },
    { ngx_string("stream"), 8, NULL, NULL, 0 },
    { ngx_string("tools"), 0, kinds, NULL, 0 },
    { ngx_string("options"), 0, NULL, members, NMEMBERS },
    { ngx_string("requests"), 8, ngx_hybrid_json_same_model, NULL, 0 }
};


/*
 * name:type[start,end)=text, with "+" for overflow and "!" for a kind that
 * was found; "-" if there was none of the keys
 */

static test_case_t  cases[] = {

    /* what is kept */

    ACCEPT("{}", "-"),
    ACCEPT("{\"model\":\"a\"}", "model:s[9,12)=a"),
    ACCEPT(" \t\r\n{ \t\r\n\"model\" \t\r\n: \t\r\n\"a\" \t\r\n} \t\r\n",
           "model:s[25,28)=a"),
    ACCEPT("{\"model\":\"\"}", "model:s[9,11)="),
    ACCEPT("{\"model\":\"llama3.2:latest\",\"stream\":false}",
           "model:s[9,26)=llama3.2:latest stream:f[36,41)=false"),
    ACCEPT("{\"stream\":true,\"keep_alive\":-1,\"model\":\"b\"}",
           "model:s[39,42)=b keep_alive:n[28,30)=-1 stream:t[10,14)=true"),
    ACCEPT("{\"keep_alive\":\"5m\"}", "keep_alive:s[14,18)=5m"),
    ACCEPT("{\"keep_alive\":0}", "keep_alive:n[14,15)=0"),
    ACCEPT("{\"keep_alive\":1.5e+3 }", "keep_alive:n[14,20)=1.5e+3"),
    ACCEPT("{\"keep_alive\":0,\"x\":1}", "keep_alive:n[14,15)=0"),
    ACCEPT("{\"model\":null}", "model:0[9,13)=null"),
    ACCEPT("{\"model\":17}", "model:n[9,11)=17"),
    ACCEPT("{\"model\":true}", "model:t[9,13)=true"),
    ACCEPT("{\"model\":[]}", "model:a[9,11)="),
    ACCEPT("{\"model\":{}}", "model:o[9,11)="),
    ACCEPT("{\"model\":[\"a\",{\"model\":\"b\"}] ,\"name\":\"c\"}",
           "model:a[9,28)= name:s[37,40)=c"),
    ACCEPT("{\"model\":{\"model\":\"b\"} }", "model:o[9,22)="),
    ACCEPT("{\"source\":\"a\",\"destination\":\"b\",\"from\":\"c\"}",
           "source:s[10,13)=a destination:s[28,31)=b from:s[39,42)=c"),
    ACCEPT("{\"model\":\"a\\u0000b\"}", "model:s[9,19)=a\\x00b"),
    ACCEPT("{\"model\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"}",
           "model:s[9,27)=\"\\\\/\\x08\\x0c\\x0a\\x0d\\x09"),
    ACCEPT("{\"model\":\"\\u0061\\u00e9\\u20AC\\uD83D\\uDE00z\"}",
           "model:s[9,42)=a\\xc3\\xa9\\xe2\\x82\\xac"
           "\\xf0\\x9f\\x98\\x80z"),
    ACCEPT("{\"model\":\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80z\"}",
           "model:s[9,21)=\\xc3\\xa9\\xe2\\x82\\xac\\xf0\\x9f\\x98\\x80z"),
    ACCEPT("{\"model\":\"\\ud800\\udc00\\udbff\\udfff\"}",
           "model:s[9,35)=\\xf0\\x90\\x80\\x80\\xf4\\x8f\\xbf\\xbf"),
    ACCEPT("{\"model\":\"\\u007f\\u0080\\u07ff\\u0800\\uffff\"}",
           "model:s[9,41)=\\x7f\\xc2\\x80\\xdf\\xbf\\xe0\\xa0\\x80"
           "\\xef\\xbf\\xbf"),
    ACCEPT("{\"stream\":\"12345678\"}", "stream:s[10,20)=12345678"),
    ACCEPT("{\"stream\":\"123456789\"}", "stream:s[10,21)=12345678+"),
    ACCEPT("{\"stream\":1234567890.5}", "stream:n[10,22)=12345678+"),
    ACCEPT("{\"stream\":\"1234567\\u00e9\"}", "stream:s[10,25)=1234567\\xc3+"),
    ACCEPT("{\"stream\":\"12345678\\n\"}", "stream:s[10,22)=12345678+"),
    ACCEPT("{\"model\":\"" A250 "123456\"}", "model:s[9,267)=" A250 "123456"),
    ACCEPT("{\"model\":\"" A250 "1234567\"}",
           "model:s[9,268)=" A250 "123456+"),
    ACCEPT("{\"model\":\"a b\x7f\"}", "model:s[9,15)=a b\\x7f"),
    ACCEPT("{\"model\":\"*/..\"}", "model:s[9,15)=*/.."),

    /* which keys are policy keys */

    ACCEPT("{\"mod\":1}", "-"),
    ACCEPT("{\"models\":1}", "-"),
    ACCEPT("{\"mo_del\":\"a\"}", "-"),
    ACCEPT("{\"model \":\"a\"}", "-"),
    ACCEPT("{\" model\":\"a\"}", "-"),
    ACCEPT("{\"\":\"a\"}", "-"),
    ACCEPT("{\"\":1,\"\":2,\"a\":3,\"a\":4}", "-"),
    ACCEPT("{\"model\\u0000x\":\"a\"}", "-"),
    ACCEPT("{\"model\\u0000\":\"a\"}", "-"),
    ACCEPT("{\"model\\u0000\":\"a\",\"model\":\"b\"}", "model:s[27,30)=b"),
    ACCEPT("{\"\\u0000model\":\"a\"}", "-"),
    ACCEPT("{\"\\u006dodel\":\"a\"}", "model:s[14,17)=a"),
    ACCEPT("{\"\\u006D\\u006f\\u0064\\u0065\\u006c\":\"a\"}",
           "model:s[34,37)=a"),
    ACCEPT("{\"keep\\u005falive\":1}", "keep_alive:n[19,20)=1"),
    ACCEPT("{\"keep-alive\":1,\"keepalive\":2,\"keep\\u005ealive\":3}", "-"),
    ACCEPT("{\"x\":{\"model\":\"a\",\"MODEL\":\"b\",\"model\":\"c\"}}", "-"),
    ACCEPT("{\"x\":[{\"model\":\"a\"}],\"model\":\"b\"}",
           "model:s[29,32)=b"),
    ACCEPT("{\"model\":\"a\",\"x\":{\"Model\":\"b\"}}", "model:s[9,12)=a"),
    ACCEPT("{\"\xc5\xbf\":1,\"\xe2\x84\xaa\":2,\"\xc5\xbfource \":3}", "-"),
    ACCEPT("{\"model\xc5\xbf\":1,\"\xc3\xa9\":2}", "-"),
    ACCEPT("{\"\\u0131\":1,\"\\u0130\":2,\"\xd0\xbcodel\":3}", "-"),
    ACCEPT("{\"" A64 "\":1}", "-"),
    ACCEPT("{\"" A64 "\\n\":1,\"model\":2}", "model:n[80,81)=2"),
    ACCEPT("{\"a" A64 "\\n" A64 "\":1,\"model\":2}", "model:n[145,146)=2"),
    ACCEPT("{\"model" A64 "\":1}", "-"),
    ACCEPT("{\"\\u006dodel" A64 "\":1}", "-"),

    REFUSE("{\"Model\":\"a\"}", AMBIGUOUS, 7),
    REFUSE("{\"MODEL\":\"a\"}", AMBIGUOUS, 7),
    REFUSE("{\"modeL\":null}", AMBIGUOUS, 7),
    REFUSE("{\"\\u004dodel\":\"a\"}", AMBIGUOUS, 12),
    REFUSE("{\"Keep_Alive\":0}", AMBIGUOUS, 12),
    REFUSE("{\"STREAM\":true}", AMBIGUOUS, 8),
    REFUSE("{\"FROM\":\"a\"}", AMBIGUOUS, 6),
    REFUSE("{\"model\":\"a\",\"model\":\"b\"}", AMBIGUOUS, 19),
    REFUSE("{\"model\":\"a\",\"model\":\"a\"}", AMBIGUOUS, 19),
    REFUSE("{\"model\":\"a\",\"MODEL\":\"b\"}", AMBIGUOUS, 19),
    REFUSE("{\"model\":\"a\",\"\\u006dodel\":\"b\"}", AMBIGUOUS, 24),
    REFUSE("{\"model\":{},\"model\":\"b\"}", AMBIGUOUS, 18),
    REFUSE("{\"model\":null,\"model\":\"b\"}", AMBIGUOUS, 20),
    REFUSE("{\"stream\":0,\"x\":[1,{}],\"stream\":1}", AMBIGUOUS, 30),
    REFUSE("{\"\xc5\xbftream\":1}", AMBIGUOUS, 9),
    REFUSE("{\"\\u017ftream\":1}", AMBIGUOUS, 13),
    REFUSE("{\"\\u017FTREAM\":1}", AMBIGUOUS, 13),
    REFUSE("{\"\xc5\xbfource\":1}", AMBIGUOUS, 9),
    REFUSE("{\"de\xc5\xbftination\":1}", AMBIGUOUS, 14),
    REFUSE("{\"\xe2\x84\xaa" "eep_alive\":1}", AMBIGUOUS, 14),
    REFUSE("{\"\\u212aeep_alive\":1}", AMBIGUOUS, 17),
    REFUSE("{\"\\u212Aeep_alive\":1,\"keep_alive\":2}", AMBIGUOUS, 17),

    /* not one object */

    REFUSE("", EMPTY, 0),
    REFUSE(" \r\n\t", EMPTY, 4),
    REFUSE("null", NOT_OBJECT, 0),
    REFUSE("true", NOT_OBJECT, 0),
    REFUSE("\"model\"", NOT_OBJECT, 0),
    REFUSE(" 17", NOT_OBJECT, 1),
    REFUSE("[]", NOT_OBJECT, 0),
    REFUSE("[{\"model\":\"a\"}]", NOT_OBJECT, 0),
    REFUSE("\xef\xbb\xbf{}", NOT_OBJECT, 0),
    REFUSE("\xff\xfe{\0}\0", NOT_OBJECT, 0),
    REFUSE("\0{}", NOT_OBJECT, 0),
    REFUSE("\v{}", NOT_OBJECT, 0),
    REFUSE("\f{}", NOT_OBJECT, 0),
    REFUSE("\xc2\xa0{}", NOT_OBJECT, 0),
    REFUSE("//\n{}", NOT_OBJECT, 0),
    REFUSE("model=a", NOT_OBJECT, 0),
    REFUSE("}", NOT_OBJECT, 0),
    REFUSE("{}{}", TRAILING, 2),
    REFUSE("{\"model\":\"a\"}{\"model\":\"b\"}", TRAILING, 13),
    REFUSE("{\"model\":\"a\"}\n{\"model\":\"b\"}\n", TRAILING, 14),
    REFUSE("{} x", TRAILING, 3),
    REFUSE("{},", TRAILING, 2),
    REFUSE("{}]", TRAILING, 2),
    REFUSE("{}}", TRAILING, 2),
    REFUSE("{}\0", TRAILING, 2),
    REFUSE("{}\x1a", TRAILING, 2),
    REFUSE("{}\xef\xbb\xbf", TRAILING, 2),
    REFUSE("{", INCOMPLETE, 1),
    REFUSE("{\"model\"", INCOMPLETE, 8),
    REFUSE("{\"model\":", INCOMPLETE, 9),
    REFUSE("{\"model\":\"a", INCOMPLETE, 11),
    REFUSE("{\"model\":\"a\\", INCOMPLETE, 12),
    REFUSE("{\"model\":\"a\\u00", INCOMPLETE, 15),
    REFUSE("{\"model\":\"a\xe2\x82", INCOMPLETE, 13),
    REFUSE("{\"model\":\"a\"", INCOMPLETE, 12),
    REFUSE("{\"model\":\"a\",", INCOMPLETE, 13),
    REFUSE("{\"model\":tru", INCOMPLETE, 12),
    REFUSE("{\"model\":1", INCOMPLETE, 10),
    REFUSE("{\"model\":1.", INCOMPLETE, 11),
    REFUSE("{\"model\":-", INCOMPLETE, 10),
    REFUSE("{\"model\":[{}", INCOMPLETE, 12),
    REFUSE("{\"a\":{}", INCOMPLETE, 7),

    /* structure */

    ACCEPT("{\"a\":[],\"b\":[[],[]],\"c\":[{},{\"d\":{}}],\"e\":[1,\"\"]}",
           "-"),
    ACCEPT("{ \"a\" : [ ] , \"b\" : [ 1 , { } ] , \"c\" : { } }", "-"),
    REFUSE("{]", SYNTAX, 1),
    REFUSE("{,}", SYNTAX, 1),
    REFUSE("{\"a\"}", SYNTAX, 4),
    REFUSE("{\"a\":}", SYNTAX, 5),
    REFUSE("{\"a\",1}", SYNTAX, 4),
    REFUSE("{\"a\"=1}", SYNTAX, 4),
    REFUSE("{\"a\"::1}", SYNTAX, 5),
    REFUSE("{\"a\":1,}", SYNTAX, 7),
    REFUSE("{\"a\":1,,\"b\":2}", SYNTAX, 7),
    REFUSE("{\"a\":1 \"b\":2}", SYNTAX, 7),
    REFUSE("{\"a\":1:2}", SYNTAX, 6),
    REFUSE("{\"a\":\"b\"\"c\":1}", SYNTAX, 8),
    REFUSE("{\"a\":[1,]}", SYNTAX, 8),
    REFUSE("{\"a\":[,1]}", SYNTAX, 6),
    REFUSE("{\"a\":[1 2]}", SYNTAX, 8),
    REFUSE("{\"a\":[1:2]}", SYNTAX, 7),
    REFUSE("{\"a\":[}", SYNTAX, 6),
    REFUSE("{\"a\":[1}", SYNTAX, 7),
    REFUSE("{\"a\":{]}", SYNTAX, 6),
    REFUSE("{\"a\":{\"b\":1]}", SYNTAX, 11),
    REFUSE("{\"a\":[{}}]", SYNTAX, 8),
    REFUSE("{\"a\":[[1],2}", SYNTAX, 11),
    REFUSE("{1:2}", SYNTAX, 1),
    REFUSE("{model:\"a\"}", SYNTAX, 1),
    REFUSE("{null:1}", SYNTAX, 1),
    REFUSE("{'model':'a'}", SYNTAX, 1),
    REFUSE("{\"model\":'a'}", SYNTAX, 9),
    REFUSE("{/**/}", SYNTAX, 1),
    REFUSE("{\"a\":1/**/}", SYNTAX, 6),
    REFUSE("{\"a\":1//\n}", SYNTAX, 6),
    REFUSE("{\"a\":1#\n}", SYNTAX, 6),
    REFUSE("{\"a\":1\0}", SYNTAX, 6),
    REFUSE("{\"a\":\f1}", SYNTAX, 5),
    REFUSE("{\"a\":\xc2\xa0" "1}", SYNTAX, 5),
    REFUSE("{\"a\":\xe2\x80\xa8" "1}", SYNTAX, 5),

    /* literals and numbers */

    ACCEPT("{\"a\":[true,false,null],\"b\":true,\"c\":false,\"d\":null}",
           "-"),
    ACCEPT("{\"a\":[0,-0,1,-1,10,12345678901234567890]}", "-"),
    ACCEPT("{\"a\":[0.0,-0.0,0.5,1.25,-10.001,0e0,1E5,1e-5,1.5E+10]}", "-"),
    ACCEPT("{\"a\":1e400,\"b\":-1e-400}", "-"),
    REFUSE("{\"a\":True}", SYNTAX, 5),
    REFUSE("{\"a\":tru}", LITERAL, 8),
    REFUSE("{\"a\":truE}", LITERAL, 8),
    REFUSE("{\"a\":truee}", SYNTAX, 9),
    REFUSE("{\"a\":falsy}", LITERAL, 9),
    REFUSE("{\"a\":nul\0}", LITERAL, 8),
    REFUSE("{\"a\":nil}", LITERAL, 6),
    REFUSE("{\"a\":NaN}", SYNTAX, 5),
    REFUSE("{\"a\":Infinity}", SYNTAX, 5),
    REFUSE("{\"a\":undefined}", SYNTAX, 5),
    REFUSE("{\"a\":-Infinity}", NUMBER, 6),
    REFUSE("{\"a\":+1}", SYNTAX, 5),
    REFUSE("{\"a\":01}", NUMBER, 6),
    REFUSE("{\"a\":-01}", NUMBER, 7),
    REFUSE("{\"a\":00}", NUMBER, 6),
    REFUSE("{\"a\":.5}", SYNTAX, 5),
    REFUSE("{\"a\":5.}", NUMBER, 7),
    REFUSE("{\"a\":5.e1}", NUMBER, 7),
    REFUSE("{\"a\":-}", NUMBER, 6),
    REFUSE("{\"a\":--1}", NUMBER, 6),
    REFUSE("{\"a\":-.5}", NUMBER, 6),
    REFUSE("{\"a\":1e}", NUMBER, 7),
    REFUSE("{\"a\":1e+}", NUMBER, 8),
    REFUSE("{\"a\":1e+-1}", NUMBER, 8),
    REFUSE("{\"a\":1e1.5}", SYNTAX, 8),
    REFUSE("{\"a\":1.2.3}", SYNTAX, 8),
    REFUSE("{\"a\":0x10}", SYNTAX, 6),
    REFUSE("{\"a\":1_000}", SYNTAX, 6),
    REFUSE("{\"a\":1-2}", SYNTAX, 6),
    REFUSE("{\"a\":1\"\"}", SYNTAX, 6),
    REFUSE("{\"model\":1e}", NUMBER, 11),

    /* strings; nested ones take the fast path, "model" the slow one */

    ACCEPT("{\"a\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0000\\uabCD\"}", "-"),
    ACCEPT("{\"a\":\"" A50 "\\\\\",\"b\":\"\\\\\\\"\"}", "-"),
    ACCEPT("{\"a\":\"" A64 "\\n" A64 "\\\"" A64 "\\u00e9" A64 "\"}", "-"),
    ACCEPT("{\"a\":\"\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e\xe3\x80\x82 \xc3\xa9 "
           "\xf0\x9f\x98\x80\xf4\x8f\xbf\xbf\xee\x80\x80\xef\xbf\xbf\"}", "-"),
    ACCEPT("{\"a\":\"\\uD83D\\uDE00\\ud83d\\ude00 " A64 "\"}", "-"),
    REFUSE("{\"a\":\"\\a\"}", ESCAPE, 7),
    REFUSE("{\"a\":\"\\'\"}", ESCAPE, 7),
    REFUSE("{\"a\":\"\\0\"}", ESCAPE, 7),
    REFUSE("{\"a\":\"\\x41\"}", ESCAPE, 7),
    REFUSE("{\"a\":\"\\U0041\"}", ESCAPE, 7),
    REFUSE("{\"a\":\"\\N" A64 "\"}", ESCAPE, 7),
    REFUSE("{\"a\":\"\\\n\"}", ESCAPE, 7),
    REFUSE("{\"a\":\"\\\xc3\xa9\"}", ESCAPE, 7),
    REFUSE("{\"a\":\"\\u004\"}", ESCAPE, 11),
    REFUSE("{\"a\":\"\\u004g" A64 "\"}", ESCAPE, 11),
    REFUSE("{\"a\":\"\\u+041" A64 "\"}", ESCAPE, 8),
    REFUSE("{\"a\":\"\\u 041\"}", ESCAPE, 8),
    REFUSE("{\"a\":\"\\u{41}\"}", ESCAPE, 8),
    REFUSE("{\"model\":\"\\u00\xc3\xa9\"}", ESCAPE, 14),
    REFUSE("{\"model\":\"\\q\"}", ESCAPE, 11),
    REFUSE("{\"\\q\":1}", ESCAPE, 3),
    REFUSE("{\"a\":\"\\\"}", INCOMPLETE, 9),

    REFUSE("{\"a\":\"\n\"}", CONTROL, 6),
    REFUSE("{\"a\":\"" A64 "\t" A64 "\"}", CONTROL, 70),
    REFUSE("{\"a\":\"\0\"}", CONTROL, 6),
    REFUSE("{\"a\":\"\x1f" A64 "\"}", CONTROL, 6),
    REFUSE("{\"model\":\"a\0b\"}", CONTROL, 11),
    REFUSE("{\"mo\tdel\":1}", CONTROL, 4),
    REFUSE("{\"model\0\":1}", CONTROL, 7),

    REFUSE("{\"a\":\"\\ud800\"}", SURROGATE, 12),
    REFUSE("{\"a\":\"\\udc00\"}", SURROGATE, 11),
    REFUSE("{\"a\":\"\\uDFFF" A64 "\"}", SURROGATE, 11),
    REFUSE("{\"a\":\"\\uDBFFa" A64 "\"}", SURROGATE, 12),
    REFUSE("{\"a\":\"\\ud800\\n" A64 "\"}", SURROGATE, 13),
    REFUSE("{\"a\":\"\\ud800\\u0041" A64 "\"}", SURROGATE, 17),
    REFUSE("{\"a\":\"\\ud800\\ud800\\udc00\"}", SURROGATE, 17),
    REFUSE("{\"a\":\"\\ude00\\ud83d\"}", SURROGATE, 11),
    REFUSE("{\"a\":\"\\ud83d\\ude00\\ude00" A64 "\"}", SURROGATE, 23),
    REFUSE("{\"a\":\"\\ud800\\uzzzz\"}", ESCAPE, 14),
    REFUSE("{\"model\":\"\\ud800\"}", SURROGATE, 16),
    REFUSE("{\"\\udc00\":1}", SURROGATE, 7),

    REFUSE("{\"a\":\"\x80\"}", UTF8, 6),
    REFUSE("{\"a\":\"\xbf" A64 "\"}", UTF8, 6),
    REFUSE("{\"a\":\"\xc0\x80" A64 "\"}", UTF8, 6),
    REFUSE("{\"a\":\"\xc0\xa2\"}", UTF8, 6),
    REFUSE("{\"a\":\"\xc1\xbf" A64 "\"}", UTF8, 6),
    REFUSE("{\"a\":\"\xc2\"}", UTF8, 7),
    REFUSE("{\"a\":\"\xc2" "a" A64 "\"}", UTF8, 7),
    REFUSE("{\"a\":\"\xc3\xc3\"}", UTF8, 7),
    REFUSE("{\"a\":\"\xe0\x80\x80" A64 "\"}", UTF8, 7),
    REFUSE("{\"a\":\"\xe0\x9f\xbf" A64 "\"}", UTF8, 7),
    REFUSE("{\"a\":\"\xe2\x82\"}", UTF8, 8),
    REFUSE("{\"a\":\"\xe2\x82" A64 "\"}", UTF8, 8),
    REFUSE("{\"a\":\"\xed\xa0\x80" A64 "\"}", UTF8, 7),
    REFUSE("{\"a\":\"\xed\xbf\xbf" A64 "\"}", UTF8, 7),
    REFUSE("{\"a\":\"\xed\xa0\xbd\xed\xb8\x80" A64 "\"}", UTF8, 7),
    REFUSE("{\"a\":\"\xf0\x80\x80\x80" A64 "\"}", UTF8, 7),
    REFUSE("{\"a\":\"\xf0\x8f\xbf\xbf" A64 "\"}", UTF8, 7),
    REFUSE("{\"a\":\"\xf0\x9f\x98\"}", UTF8, 9),
    REFUSE("{\"a\":\"\xf4\x90\x80\x80" A64 "\"}", UTF8, 7),
    REFUSE("{\"a\":\"\xf5\x80\x80\x80" A64 "\"}", UTF8, 6),
    REFUSE("{\"a\":\"\xf8\x88\x80\x80\x80" A64 "\"}", UTF8, 6),
    REFUSE("{\"a\":\"\xfe\"}", UTF8, 6),
    REFUSE("{\"a\":\"\xff" A64 "\"}", UTF8, 6),
    REFUSE("{\"a\":\"\xe6\x97\xa5\xe6\x97" A64 "\"}", UTF8, 11),
    REFUSE("{\"model\":\"\xff\"}", UTF8, 10),
    REFUSE("{\"model\":\"\xc3\"}", UTF8, 11),
    REFUSE("{\"model\xff\":1}", UTF8, 7),
    REFUSE("{\"\xed\xa0\x80\":1}", UTF8, 3),

    /* the kinds of the objects in an array */

    ACCEPT("{\"tools\":[{\"type\":\"web_search\"}]}",
           "tools:a[9,32)=!"),
    ACCEPT("{\"tools\":[{\"name\":\"x\",\"type\":\"web_search_20250305\"}]}",
           "tools:a[9,52)=!"),
    ACCEPT("{\"tools\":[{\"type\":\"function\"},{\"type\":\"web_fetch\"}]}",
           "tools:a[9,51)=!"),
    ACCEPT("{\"tools\":[{\"type\":\"web_\"}]}",
           "tools:a[9,26)=!"),
    ACCEPT("{\"tools\":[{\"TyPe\":\"WEB_search\"}]}",
           "tools:a[9,32)=!"),
    ACCEPT("{\"tools\":[{\"\\u0074ype\":\"\\u0077eb_search\"}]}",
           "tools:a[9,42)=!"),
    ACCEPT("{\"tools\":[{\"type\":\"web_a\",\"type\":\"function\"}]}",
           "tools:a[9,45)=!"),
    ACCEPT("{\"tools\":[{\"type\":\"function\",\"type\":\"web_a\"}]}",
           "tools:a[9,45)=!"),
    ACCEPT("{\"tools\":[ { \"type\" : \"web_search\" } ]}",
           "tools:a[9,38)=!"),
    ACCEPT("{\"tools\":[{\"type\":\"web\"}]}",
           "tools:a[9,25)="),
    ACCEPT("{\"tools\":[{\"type\":\"web-search\"}]}",
           "tools:a[9,32)="),
    ACCEPT("{\"tools\":[{\"type\":\"function\"}]}",
           "tools:a[9,30)="),
    ACCEPT("{\"tools\":[{\"type\":\"function\",\"function\":"
           "{\"name\":\"web_search\",\"type\":\"web_search\"}}]}",
           "tools:a[9,83)="),
    ACCEPT("{\"tools\":[{\"name\":\"web_search\",\"type\":\"custom\"}]}",
           "tools:a[9,48)="),
    ACCEPT("{\"tools\":[{\"types\":\"web_search\"}]}",
           "tools:a[9,33)="),
    ACCEPT("{\"tools\":[{\"type\":null},{\"type\":1},"
           "{\"type\":[\"web_\"]},{\"type\":{\"type\":\"web_\"}}]}",
           "tools:a[9,78)="),
    ACCEPT("{\"tools\":[{\"type\":-1,\"x\":\"web_\"}]}",
           "tools:a[9,33)="),
    ACCEPT("{\"tools\":[[\"type\",\"web_\"],\"web_\",[{\"type\":\"web_\"}]]}",
           "tools:a[9,51)="),
    ACCEPT("{\"tools\":[]}",
           "tools:a[9,11)="),
    ACCEPT("{\"messages\":[{\"type\":\"web_search\"}],\"tools\":[]}",
           "tools:a[44,46)="),
    ACCEPT("{\"other\":[{\"type\":\"web_search\"}]}",
           "-"),

    ACCEPT("{\"tools\":[{\"type\":\"mcp\",\"server_url\":\"x\"}]}",
           "tools:a[9,42)=!"),
    ACCEPT("{\"tools\":[{\"type\":\"MCP_x\"}]}", "tools:a[9,27)=!"),
    ACCEPT("{\"tools\":[{\"type\":\"mc\"}]}", "tools:a[9,24)="),
    ACCEPT("{\"tools\":[{\"type\":\"\"}]}", "tools:a[9,22)="),

    /* one model in all objects of an array */

    ACCEPT("{\"requests\":[{\"model\":\"a\"}]}", "requests:a[12,27)=a"),
    ACCEPT("{\"requests\":[{},{\"model\":\"a\"},1,{\"x\":{\"model\":0}},"
           "{\"mod\\u0065l\":\"\\u0061\"}]}", "requests:a[12,74)=a"),
    ACCEPT("{\"requests\":[{\"model\":\"a\"},{\"model\":\"b\"}]}",
           "requests:a[12,41)=a!"),
    ACCEPT("{\"requests\":[{\"model\":\"a\"},{\"model\":\"A\"}]}",
           "requests:a[12,41)=a!"),
    ACCEPT("{\"requests\":[{\"model\":\"a\"},{\"model\":\"ab\"}]}",
           "requests:a[12,42)=a!"),
    ACCEPT("{\"requests\":[{\"model\":\"a\",\"MODEL\":\"b\"}]}",
           "requests:a[12,39)=a!"),
    ACCEPT("{\"requests\":[{\"model\":\"a\"},{\"model\":null}]}",
           "requests:a[12,42)=a!"),
    ACCEPT("{\"requests\":[{\"model\":{\"a\":1}}]}",
           "requests:a[12,31)=!"),
    ACCEPT("{\"requests\":[{\"model\":\"\"}]}", "requests:a[12,26)=!"),
    ACCEPT("{\"requests\":[{\"model\":\"12345678\"}],\"model\":\"m\"}",
           "model:s[43,46)=m requests:a[12,34)=12345678"),
    ACCEPT("{\"requests\":[{\"model\":\"123456789\"}]}",
           "requests:a[12,35)=!"),
    ACCEPT("{\"requests\":[{\"model\":\"" A250 "\"}]}",
           "requests:a[12,276)=!"),
    ACCEPT("{\"requests\":[]}", "requests:a[12,14)="),
    REFUSE("{\"requests\":[],\"Requests\":[]}", AMBIGUOUS, 24),

    /* the members of an object */

    ACCEPT("{\"options\":{}}", "options:o[11,13)="),
    ACCEPT("{\"options\":{\"num_ctx\":4096},\"model\":\"a\"}",
           "model:s[36,39)=a options:o[11,27)= num_ctx:n[22,26)=4096"),
    ACCEPT("{ \"options\" : { \"x\" : [ { \"num_ctx\" : 1 } ] , "
           "\"use_mmap\" : false } }",
           "options:o[14,66)= use_mmap:f[59,64)=false"),
    ACCEPT("{\"options\":{\"num_ctx\":1},\"num_ctx\":2}",
           "options:o[11,24)= num_ctx:n[22,23)=1"),
    ACCEPT("{\"num_ctx\":1,\"num_ctx\":2}", "-"),
    ACCEPT("{\"x\":{\"options\":{\"num_ctx\":1}}}", "-"),
    ACCEPT("{\"options\":[{\"num_ctx\":1},{\"num_ctx\":2}]}",
           "options:a[11,40)="),
    ACCEPT("{\"options\":null,\"x\":{\"num_ctx\":1}}",
           "options:0[11,15)=+"),
    ACCEPT("{\"options\":{\"x\":{\"num_ctx\":1},\"y\":[{\"num_ctx\":1}],"
           "\"num_ctx\":2}}",
           "options:o[11,62)= num_ctx:n[60,61)=2"),
    ACCEPT("{\"options\":{\"num_ctx\":{\"num_ctx\":1,\"type\":\"web_\"}}}",
           "options:o[11,50)= num_ctx:o[22,49)="),
    ACCEPT("{\"options\":{\"num_ctx\":[{\"num_ctx\":[1]}]}}",
           "options:o[11,40)= num_ctx:a[22,39)="),
    ACCEPT("{\"options\":{\"num\\u005fctx\":1e3,\"num_keep\":123456789}}",
           "options:o[11,52)= num_ctx:n[27,30)=1e3 "
           "num_keep:n[42,51)=12345678+"),
    ACCEPT("{\"options\":{\"num_ctx \":1,\"num-ctx\":1,\"num_ct\":1}}",
           "options:o[11,48)="),
    ACCEPT("{\"options\":{\"model\":1,\"MODEL\":2},\"model\":\"a\"}",
           "model:s[41,44)=a options:o[11,32)="),
    ACCEPT("{\"options\":{\"tools\":[{\"type\":\"web_\"}]},"
           "\"tools\":[{\"type\":\"web_\"}]}",
           "tools:a[47,64)=! options:o[11,38)="),
    REFUSE("{\"options\":{\"num_ctx\":1,\"num_ctx\":2}}", AMBIGUOUS, 32),
    REFUSE("{\"options\":{\"num_ctx\":null,\"num_ctx\":2}}", AMBIGUOUS, 35),
    REFUSE("{\"options\":{\"Num_ctx\":1}}", AMBIGUOUS, 20),
    REFUSE("{\"options\":{\"num_\\u0043tx\":1}}", AMBIGUOUS, 25),
    REFUSE("{\"options\":{\"num_\xe2\x84\xaa" "eep\":1}}", AMBIGUOUS, 23),
    REFUSE("{\"options\":{\"num_\\u212aeep\":1}}", AMBIGUOUS, 26),
    REFUSE("{\"options\":{\"u\xc5\xbf" "e_mmap\":1}}", AMBIGUOUS, 22),
    REFUSE("{\"options\":{},\"options\":{}}", AMBIGUOUS, 22),
    REFUSE("{\"options\":{},\"OPTIONS\":{}}", AMBIGUOUS, 22),
    REFUSE("{\"option\xc5\xbf\":{}}", AMBIGUOUS, 10),
    REFUSE("{\"options\":{\"num_ctx\":1}", INCOMPLETE, 24),
    REFUSE("{\"options\":{\"num_ctx\":1]}", SYNTAX, 23),

    /* a refused body is refused for what comes first */

    REFUSE("{\"model\":\"a\",\"model\":\"b\"} x", AMBIGUOUS, 19),
    REFUSE("{\"model\":\"a\",\"x\":01,\"model\":\"b\"}", NUMBER, 18)
};
