
#include "model_test.h"


#define S(s)             { sizeof(s) - 1, (u_char *) s }

#define LOCAL(s, name)   { S(s), name, 0 }
#define CLOUD(s, name)   { S(s), name, 1 }
#define REFUSE(s)        { S(s), NULL, 0 }


typedef struct {
    ngx_str_t             text;
    const char           *name;
    ngx_uint_t            cloud;
} test_name_t;


typedef struct {
    const char           *pattern;
    const char           *name;
    ngx_uint_t            match;
} test_match_t;


static test_name_t  names[] = {

    LOCAL("bge-m3", "bge-m3:latest"),
    LOCAL("llama3:8b", "llama3:8b"),
    LOCAL("LLaMA3:8B", "llama3:8b"),
    LOCAL("library/LLAMA3:8b", "llama3:8b"),
    LOCAL("llama3:8b:Local", "llama3:8b"),
    LOCAL("x", "x:latest"),
    LOCAL("A_b.C@d+E-f:G_h.I@j+K-l", "a_b.c@d+e-f:g_h.i@j+k-l"),

    /* only the default host and namespace are dropped */
    LOCAL("team/x", "team/x:latest"),
    LOCAL("Registry.Ollama.AI/Team/X", "team/x:latest"),
    LOCAL("registry.ollama.ai/team/x:1:local", "team/x:1"),
    LOCAL("host.example/team/x:1", "host.example/team/x:1"),
    LOCAL("host.example/library/x", "host.example/library/x:latest"),
    LOCAL("localhost:5000/library/x", "localhost:5000/library/x:latest"),
    LOCAL("registry.ollama.ai:443/library/x",
          "registry.ollama.ai:443/library/x:latest"),
    LOCAL("registry.ollama.aix/library/x",
          "registry.ollama.aix/library/x:latest"),
    LOCAL("library/library/x", "library/library/x:latest"),
    LOCAL("libraryx/x", "libraryx/x:latest"),
    LOCAL("xlibrary/x", "xlibrary/x:latest"),

    /* the words of defaults and sources elsewhere */
    LOCAL("library", "library:latest"),
    LOCAL("library:8b", "library:8b"),
    LOCAL("library/library", "library:latest"),
    LOCAL("registry.ollama.ai", "registry.ollama.ai:latest"),
    LOCAL("latest", "latest:latest"),
    LOCAL("latest:latest", "latest:latest"),
    LOCAL("x-latest", "x-latest:latest"),
    LOCAL("x:latestx", "x:latestx"),
    LOCAL("local", "local:latest"),
    LOCAL("x-local", "x-local:latest"),
    LOCAL("x:localx", "x:localx"),
    LOCAL("x:local/y", "x:local/y:latest"),
    LOCAL("cloud", "cloud:latest"),
    LOCAL("cloud:8b", "cloud:8b"),
    LOCAL("x/cloud", "x/cloud:latest"),
    LOCAL("xcloud", "xcloud:latest"),
    LOCAL("x:xcloud", "x:xcloud"),
    LOCAL("x_cloud", "x_cloud:latest"),
    LOCAL("x-cloudy", "x-cloudy:latest"),
    LOCAL("x:cloudy", "x:cloudy"),
    LOCAL("x-cloud/y", "x-cloud/y:latest"),
    LOCAL("x:cloud/y", "x:cloud/y:latest"),

    CLOUD("x:cloud", "x:cloud"),
    CLOUD("X:Cloud", "x:cloud"),
    CLOUD("registry.ollama.ai/library/x:CLOUD", "x:cloud"),
    CLOUD("x-cloud", "x-cloud:latest"),
    CLOUD("X-CLOUD", "x-cloud:latest"),
    CLOUD("x-cloud:latest", "x-cloud:latest"),
    CLOUD("x-cloud:8b", "x-cloud:8b"),
    CLOUD("x:8b-cloud", "x:8b-cloud"),
    CLOUD("x:8b:cloud", "x:8b:cloud"),
    CLOUD("x:latest:cloud", "x:latest:cloud"),
    CLOUD("x:latest-cloud", "x:latest-cloud"),
    CLOUD("team/x-cloud", "team/x-cloud:latest"),
    CLOUD("h:1/team/x:cloud", "h:1/team/x:cloud"),

    /* what Ollama finds contradictory must not lose its cloud suffix */
    CLOUD("x-cloud:local", "x-cloud:latest"),
    CLOUD("x-cloud:latest:local", "x-cloud:latest"),
    CLOUD("x:cloud:local", "x:cloud"),
    CLOUD("x:8b-cloud:local", "x:8b-cloud"),
    CLOUD("x:local:cloud", "x:local:cloud"),

    /* cloud, also when there is nothing in front of the suffix */
    CLOUD("-cloud", "-cloud:latest"),
    CLOUD("library/-cloud:latest", "-cloud:latest"),
    CLOUD("team/-cloud", "team/-cloud:latest"),
    CLOUD("team/-cloud:8b", "team/-cloud:8b"),

    REFUSE(""),
    REFUSE(" x"),
    REFUSE("x "),
    REFUSE("x y"),
    REFUSE("x\n"),
    REFUSE("\tx"),
    REFUSE("\xc2\xa0x"),
    REFUSE("x\xe2\x80\x8b"),
    REFUSE("\xef\xbb\xbfx"),
    REFUSE("library/\xe2\x84\xaa"),
    REFUSE("x\0"),
    REFUSE("x\0y"),
    REFUSE("\0"),
    REFUSE("x*"),
    REFUSE("*"),
    REFUSE("x%3acloud"),
    REFUSE("x\\y"),
    REFUSE("x?y"),

    REFUSE("https://registry.ollama.ai/library/x:latest"),
    REFUSE("http://x"),
    REFUSE("HTTPS://h/library/x"),
    REFUSE("//x"),
    REFUSE("/x"),
    REFUSE("/"),
    REFUSE("x/"),
    REFUSE("a//b"),
    REFUSE("registry.ollama.ai/"),
    REFUSE("registry.ollama.ai//x"),
    REFUSE("library/"),
    REFUSE("library//x"),

    REFUSE(":"),
    REFUSE("x:"),
    REFUSE(":x"),
    REFUSE("a/:x"),
    REFUSE("a/x:"),
    REFUSE("x::y"),
    REFUSE("x:y:"),
    REFUSE("x::local"),
    REFUSE("x:local:"),
    REFUSE(":local"),
    REFUSE(":cloud"),
    REFUSE(":latest"),
    REFUSE("library/:local"),
    REFUSE("x:a:b"),
    REFUSE("x:8b:latest"),
    REFUSE("x:latest:latest"),
    REFUSE("x:local:latest"),
    REFUSE("x:cloud:latest"),
    REFUSE("x:a:b:local"),
    REFUSE("x:a:b:cloud"),
    REFUSE("x:cloud:local:local"),

    /* names nothing; Ollama refuses it */
    REFUSE("x:local:local")
};


/* a cloud suffix is in the third column, if there is one */

static test_match_t  matches[] = {

    { "bge-m3", "BGE-M3", 1 },
    { "library/BGE-M3:latest", "bge-m3:local", 1 },
    { "bge-m3", "bge-m3:8b", 0 },
    { "bge-m3", "team/bge-m3", 0 },
    { "bge-m3:local", "bge-m3", 1 },
    { "bge", "bge-m3", 0 },
    { "x:cloud", "X:CLOUD", 1 },
    { "x:cloud", "x-cloud", 0 },
    { "x-cloud", "x-cloud:latest", 1 },
    { "x-cloud:8b", "x-cloud:8b", 1 },

    { "*", "x", 1 },
    { "*", "x:8b", 1 },
    { "*", "library/x", 1 },
    { "*", "registry.ollama.ai/library/x:8b", 1 },
    { "*", "team/x", 0 },
    { "*", "h/library/x", 0 },
    { "library/*", "x", 1 },
    { "Registry.Ollama.AI/Library/*", "x", 1 },
    { "registry.ollama.ai/library/*", "team/x", 0 },
    { "registry.ollama.ai/team/*", "team/x", 1 },
    { "team/*", "team/x:8b", 1 },
    { "TEAM/*", "team/X", 1 },
    { "team/*", "team", 0 },
    { "team/*", "team/x/y", 0 },
    { "team*", "team/x", 0 },
    { "t*/x", "team/x", 1 },
    { "t*x", "team/x", 0 },
    { "*/*", "team/x", 1 },
    { "*/*", "x", 0 },
    { "*/*", "h/team/x", 0 },
    { "*/*/*", "h/team/x", 1 },
    { "*/x", "h/team/x", 0 },
    { "*/team/*", "h/team/x", 1 },
    { "*/b/*", "a/c/b/x", 0 },
    { "*/*b*/*", "a/xbx/c", 1 },
    { "*/*b*/*", "ab/x/c", 0 },
    { "localhost:*/x", "localhost:5000/x", 1 },

    /* a name is compared with and without ":latest" */
    { "*:*", "x", 1 },
    { "*:*", "x:8b", 1 },
    { "*:*", "team/x", 0 },
    { "*:latest", "x", 1 },
    { "*:latest", "x:8b", 0 },
    { "*:8b", "x:8b", 1 },
    { "*:8b", "x:18b", 0 },
    { "*8b", "x:18b", 1 },
    { "*x", "ax", 1 },
    { "*x", "ax:latest", 1 },
    { "*x", "ax:8b", 0 },
    { "x*", "x", 1 },
    { "x*:latest", "x", 1 },
    { "x*t", "x", 1 },
    { "x*y", "xy", 1 },
    { "x*y", "xay", 1 },
    { "x*y", "xayb", 0 },
    { "x*x", "x", 0 },

    { "*ab*ab*", "ab", 0 },
    { "*ab*ab*", "abab", 1 },
    { "*ab*ab*", "xabyabz", 1 },
    { "*ab*ba*", "aba", 0 },
    { "a*b*c", "abbbc", 1 },
    { "a*b*c", "acb", 0 },
    { "**", "x", 1 },
    { "a**b", "ab", 1 },
    { "a**b", "axxb", 1 },
    { "a*****", "a", 1 },

    { "*", "x:cloud", 0 },
    { "*", "x-cloud", 0 },
    { "*:*", "x:cloud", 0 },
    { "*:*", "x:8b-cloud", 0 },
    { "*-*", "x-cloud", 0 },
    { "x*", "x-cloud:8b", 0 },
    { "x*", "x:cloud:local", 0 },
    { "x-clou*", "x-cloud", 0 },
    { "x-cloud*", "x-cloud", 0 },
    { "*cloud", "x-cloud", 0 },
    { "*loud", "x:cloud", 0 },
    { "*:c*", "x:cloud", 0 },
    { "*cloud", "xcloud", 1 },
    { "x-*", "x-cloud:local", 0 },
    { "*:cloud", "X:Cloud", 1 },
    { "*:CLOUD", "x:8b:cloud", 1 },
    { "*:*:cloud", "x:8b:cloud", 1 },
    { "*:cloud", "x-cloud", 0 },
    { "*:cloud", "team/x:cloud", 0 },
    { "*/*:cloud", "team/x:cloud", 1 },
    { "*:cloud", "x", 0 },
    { "*-cloud", "x-cloud", 1 },
    { "*-cloud", "x-cloud:latest", 1 },
    { "*-cloud", "x:8b-cloud", 1 },
    { "*-cloud", "x-cloud:8b", 0 },
    { "x:*-cloud", "x:8b-cloud", 1 },
    { "x:*-cloud", "x:8b", 0 },
    { "*-cloud/*", "x-cloud/y", 1 },

    /* a "*" matches no cloud suffix with nothing in front of it */
    { "*", "-cloud", 0 }
};
