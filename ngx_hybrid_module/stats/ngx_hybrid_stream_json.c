
/*
 * Copyright (C) the ngx_hybrid_module authors
 */


#include "ngx_hybrid_stream.h"


typedef enum {
    sw_value = 0,
    sw_key,
    sw_key_text,
    sw_key_escape,
    sw_text,
    sw_escape,
    sw_literal,
    sw_end
} ngx_hybrid_stream_state_e;


/* what a value means, by where it is in the document */

typedef enum {
    kind_none = 0,
    kind_text,            /* a string that is not empty is a token */
    kind_item,            /* so is an object */
    kind_done,
    kind_error,
    kind_type,
    kind_finish,
    kind_usage,
    kind_choices,
    kind_number           /* and its index, see ngx_hybrid_stream_number_e */
} ngx_hybrid_stream_kind_e;


enum {
    node_root = 0,
    node_message,
    node_choices,
    node_choice_delta,
    node_choice_message,
    node_delta,
    node_candidates,
    node_content,
    node_parts,
    node_response,
    node_output,
    node_usage,
    node_leaf,
    node_none
};


typedef struct {
    u_char       parent;
    u_char       node;
    u_char       kind;
    ngx_str_t    key;
} ngx_hybrid_stream_node_t;


static void ngx_hybrid_stream_value(ngx_hybrid_stream_t *s, u_char ch);
static u_char *ngx_hybrid_stream_text(ngx_hybrid_stream_t *s, u_char *p,
    u_char *last);
static void ngx_hybrid_stream_open(ngx_hybrid_stream_t *s,
    ngx_uint_t array);
static void ngx_hybrid_stream_close(ngx_hybrid_stream_t *s);
static void ngx_hybrid_stream_keep(ngx_hybrid_stream_t *s, u_char *p,
    size_t len);
static void ngx_hybrid_stream_key(ngx_hybrid_stream_t *s);
static ngx_uint_t ngx_hybrid_stream_kind(ngx_hybrid_stream_t *s);
static void ngx_hybrid_stream_type(ngx_hybrid_stream_t *s);
static void ngx_hybrid_stream_literal(ngx_hybrid_stream_t *s);
static void ngx_hybrid_stream_number(ngx_hybrid_stream_t *s,
    ngx_uint_t index);
static void ngx_hybrid_stream_say(ngx_hybrid_stream_t *s, ngx_uint_t flags);


#define node(parent, key, node, kind)                                         \
    { node_##parent, node_##node, kind_##kind, ngx_string(key) }

#define number(parent, key, number)                                           \
    { node_##parent, node_leaf, kind_number + ngx_hybrid_stream_##number,     \
      ngx_string(key) }


/*
 * An array's elements are where it is itself.  Leaves are told from each
 * other by their index: the node of a value is that of a container, or
 * node_none plus this index.
 */

static const ngx_hybrid_stream_node_t  ngx_hybrid_stream_nodes[] = {

    /* Ollama */
    node(root, "response", response, text),
    node(root, "thinking", leaf, text),
    node(root, "message", message, none),
    node(message, "content", leaf, text),
    node(message, "thinking", leaf, text),
    node(message, "tool_calls", leaf, item),
    node(root, "done", leaf, done),
    number(root, "prompt_eval_count", input),
    number(root, "eval_count", output),
    number(root, "load_duration", load_time),
    number(root, "prompt_eval_duration", prompt_time),
    number(root, "eval_duration", eval_time),
    number(root, "total_duration", total_time),

    /* OpenAI, chat and completions */
    node(root, "choices", choices, choices),
    node(choices, "delta", choice_delta, none),
    node(choice_delta, "content", leaf, text),
    node(choice_delta, "reasoning", leaf, text),
    node(choice_delta, "reasoning_content", leaf, text),
    node(choice_delta, "refusal", leaf, text),
    node(choice_delta, "tool_calls", leaf, item),
    node(choice_delta, "function_call", leaf, item),
    node(choices, "text", leaf, text),
    node(choices, "message", choice_message, none),
    node(choice_message, "content", leaf, text),
    node(choice_message, "reasoning", leaf, text),
    node(choice_message, "reasoning_content", leaf, text),
    node(choice_message, "tool_calls", leaf, item),
    node(choices, "finish_reason", leaf, finish),
    node(root, "usage", usage, usage),
    number(usage, "prompt_tokens", input),
    number(usage, "completion_tokens", output),

    /* OpenAI's responses, where "delta" is a string, and Anthropic */
    node(response, "usage", usage, none),
    node(root, "output", output, none),
    node(output, "content", parts, none),
    node(message, "usage", usage, none),
    node(root, "content", parts, none),
    number(usage, "input_tokens", input),
    number(usage, "output_tokens", output),
    number(usage, "cache_creation_input_tokens", cache_write),
    number(usage, "cache_read_input_tokens", cache_read),
    node(root, "type", leaf, type),
    node(root, "delta", delta, text),
    node(delta, "text", leaf, text),
    node(delta, "thinking", leaf, text),
    node(delta, "partial_json", leaf, text),

    /* Gemini */
    node(root, "candidates", candidates, none),
    node(candidates, "content", content, none),
    node(content, "parts", parts, none),
    node(parts, "text", leaf, text),
    node(parts, "thinking", leaf, text),
    node(parts, "functionCall", leaf, item),
    node(candidates, "finishReason", leaf, finish),
    node(root, "usageMetadata", usage, usage),
    number(usage, "promptTokenCount", input),
    number(usage, "toolUsePromptTokenCount", tools),
    number(usage, "candidatesTokenCount", output),
    number(usage, "thoughtsTokenCount", thoughts),

    /* all of them */
    node(root, "error", leaf, error),

    { 0, 0, 0, ngx_null_string }
};


static ngx_str_t  ngx_hybrid_stream_ends[] = {
    ngx_string("message_stop"),
    ngx_string("response.completed"),
    ngx_string("response.incomplete"),
    ngx_null_string
};


static ngx_str_t  ngx_hybrid_stream_errors[] = {
    ngx_string("error"),
    ngx_string("response.failed"),
    ngx_null_string
};


void
ngx_hybrid_stream_reset(ngx_hybrid_stream_t *s)
{
    s->state = sw_value;
    s->depth = 0;
    s->arrays = 0;
    s->node = node_root;
    s->len = 0;
}


/* somebody has forgotten the empty line between two events */

void
ngx_hybrid_stream_again(ngx_hybrid_stream_t *s)
{
    if (s->state == sw_end) {
        ngx_hybrid_stream_reset(s);
    }
}


void
ngx_hybrid_stream_parse(ngx_hybrid_stream_t *s, u_char *p, u_char *last)
{
    while (p < last) {

        switch (s->state) {

        case sw_value:
            ngx_hybrid_stream_value(s, *p++);
            break;

        case sw_key:
            if (*p == '"') {
                s->state = sw_key_text;
                s->len = 0;

            } else if (*p == '}') {
                ngx_hybrid_stream_close(s);
            }

            p++;
            break;

        case sw_key_text:
            if (*p == '"') {
                ngx_hybrid_stream_key(s);

            } else if (*p == '\\') {

                /* those that mean something are never written so */

                s->len = NGX_HYBRID_STREAM_TEXT + 1;
                s->state = sw_key_escape;

            } else {
                ngx_hybrid_stream_keep(s, p, 1);
            }

            p++;
            break;

        case sw_key_escape:
            s->state = sw_key_text;
            p++;
            break;

        case sw_text:
            p = ngx_hybrid_stream_text(s, p, last);
            break;

        case sw_escape:
            s->state = sw_text;
            p++;
            break;

        case sw_literal:
            if ((*p >= 'a' && *p <= 'z') || (*p >= '0' && *p <= '9')
                || *p == '.' || *p == '-' || *p == '+' || *p == 'E')
            {
                ngx_hybrid_stream_keep(s, p, 1);
                p++;
                break;
            }

            ngx_hybrid_stream_literal(s);
            s->state = sw_value;
            break;

        default: /* sw_end */
            return;
        }
    }
}


static void
ngx_hybrid_stream_value(ngx_hybrid_stream_t *s, u_char ch)
{
    switch (ch) {

    case '{':
        ngx_hybrid_stream_open(s, 0);
        break;

    case '[':
        ngx_hybrid_stream_open(s, 1);
        break;

    case '}':
    case ']':
        ngx_hybrid_stream_close(s);
        break;

    case '"':
        s->state = sw_text;
        s->len = 0;
        break;

    case ',':

        /* what is below is not told from each other: it means nothing */

        if (s->depth && s->depth <= NGX_HYBRID_STREAM_DEPTH
            && !(s->arrays & ((ngx_uint_t) 1 << (s->depth - 1))))
        {
            s->state = sw_key;
        }

        break;

    case ':':
    case ' ':
    case '\t':
    case '\r':
    case '\n':
        break;

    default:
        s->state = sw_literal;
        s->len = 0;
        ngx_hybrid_stream_keep(s, &ch, 1);
        break;
    }
}


static u_char *
ngx_hybrid_stream_text(ngx_hybrid_stream_t *s, u_char *p, u_char *last)
{
    u_char      *start;
    ngx_uint_t   kind;

    start = p;

    while (p < last && *p != '"' && *p != '\\') {
        p++;
    }

    kind = ngx_hybrid_stream_kind(s);

    if (kind == kind_text) {
        s->letters += p - start;
    }

    if (s->len <= NGX_HYBRID_STREAM_TEXT) {

        if (s->len == 0 && (p > start || (p < last && *p == '\\'))) {

            if (kind == kind_text) {
                ngx_hybrid_stream_say(s, NGX_HYBRID_STREAM_TOKEN);

            } else if (kind == kind_finish) {
                ngx_hybrid_stream_say(s, NGX_HYBRID_STREAM_FINISH);

            } else if (kind == kind_error) {
                ngx_hybrid_stream_say(s, NGX_HYBRID_STREAM_ERROR);
            }
        }

        ngx_hybrid_stream_keep(s, start, p - start);
    }

    if (p == last) {
        return p;
    }

    if (*p == '\\') {
        s->len = NGX_HYBRID_STREAM_TEXT + 1;
        s->state = sw_escape;

    } else {
        s->state = sw_value;

        if (kind == kind_type) {
            ngx_hybrid_stream_type(s);
        }
    }

    return p + 1;
}


static void
ngx_hybrid_stream_open(ngx_hybrid_stream_t *s, ngx_uint_t array)
{
    ngx_uint_t  mask, node;

    if (!array) {

        switch (ngx_hybrid_stream_kind(s)) {

        case kind_item:
            ngx_hybrid_stream_say(s, NGX_HYBRID_STREAM_TOKEN);
            break;

        case kind_error:
            ngx_hybrid_stream_say(s, NGX_HYBRID_STREAM_ERROR);
            break;

        case kind_usage:
            ngx_hybrid_stream_say(s, NGX_HYBRID_STREAM_USAGE);
            break;

        case kind_choices:
            ngx_hybrid_stream_say(s, NGX_HYBRID_STREAM_CHOICE);
            break;
        }

    } else if (ngx_hybrid_stream_kind(s) == kind_choices) {
        ngx_hybrid_stream_say(s, NGX_HYBRID_STREAM_CHOICES);
    }

    if (s->depth < NGX_HYBRID_STREAM_DEPTH) {
        mask = (ngx_uint_t) 1 << s->depth;
        node = s->node;

        if (array) {
            s->arrays |= mask;

        } else {
            s->arrays &= ~mask;
            s->state = sw_key;

            if (node > node_none) {
                node = ngx_hybrid_stream_nodes[node - node_none - 1].node;

                if (node == node_leaf) {
                    node = node_none;
                }
            }
        }

        s->nodes[s->depth] = node;

    } else {
        s->node = node_none;
    }

    s->depth++;
}


static void
ngx_hybrid_stream_close(ngx_hybrid_stream_t *s)
{
    if (s->depth == 0) {

        /* no JSON */

        s->state = sw_end;
        return;
    }

    s->depth--;

    if (s->depth == 0) {
        s->state = sw_end;

        if (s->format == ngx_hybrid_stream_json) {
            s->said |= NGX_HYBRID_STREAM_END;
        }

        s->seen |= s->said;
        return;
    }

    if (s->depth == 1 && (s->arrays & 1)
        && s->format == ngx_hybrid_stream_json)
    {
        /* Gemini's other kind of stream: its elements are the events */

        ngx_hybrid_stream_count(s);
        s->said &= ~NGX_HYBRID_STREAM_TOKEN;
    }

    s->state = sw_value;
    s->node = s->depth <= NGX_HYBRID_STREAM_DEPTH ? s->nodes[s->depth - 1]
                                                  : node_none;
}


/* len is one more than what there is room for when it was more */

static void
ngx_hybrid_stream_keep(ngx_hybrid_stream_t *s, u_char *p, size_t len)
{
    if (s->len + len > NGX_HYBRID_STREAM_TEXT) {
        s->len = NGX_HYBRID_STREAM_TEXT + 1;
        return;
    }

    ngx_memcpy(s->text + s->len, p, len);
    s->len += len;
}


static void
ngx_hybrid_stream_key(ngx_hybrid_stream_t *s)
{
    ngx_uint_t                       i, parent;
    const ngx_hybrid_stream_node_t  *node;

    s->state = sw_value;
    s->node = node_none;

    parent = s->nodes[s->depth - 1];

    if (parent >= node_none || s->len > NGX_HYBRID_STREAM_TEXT) {
        return;
    }

    node = ngx_hybrid_stream_nodes;

    for (i = 0; node[i].key.len; i++) {

        if (node[i].parent == parent
            && node[i].key.len == s->len
            && ngx_memcmp(node[i].key.data, s->text, s->len) == 0)
        {
            s->node = node_none + 1 + i;
            return;
        }
    }
}


static ngx_uint_t
ngx_hybrid_stream_kind(ngx_hybrid_stream_t *s)
{
    return s->node > node_none
           ? ngx_hybrid_stream_nodes[s->node - node_none - 1].kind
           : kind_none;
}


static void
ngx_hybrid_stream_type(ngx_hybrid_stream_t *s)
{
    ngx_str_t  *name;

    for (name = ngx_hybrid_stream_ends; name->len; name++) {
        if (name->len == s->len
            && ngx_memcmp(name->data, s->text, s->len) == 0)
        {
            ngx_hybrid_stream_say(s, NGX_HYBRID_STREAM_END);
            return;
        }
    }

    for (name = ngx_hybrid_stream_errors; name->len; name++) {
        if (name->len == s->len
            && ngx_memcmp(name->data, s->text, s->len) == 0)
        {
            ngx_hybrid_stream_say(s, NGX_HYBRID_STREAM_ERROR);
            return;
        }
    }
}


static void
ngx_hybrid_stream_literal(ngx_hybrid_stream_t *s)
{
    ngx_uint_t  kind;

    kind = ngx_hybrid_stream_kind(s);

    if (kind >= kind_number) {
        ngx_hybrid_stream_number(s, kind - kind_number);

    } else if (kind == kind_done
               && s->len == 4 && ngx_memcmp(s->text, "true", 4) == 0)
    {
        ngx_hybrid_stream_say(s, NGX_HYBRID_STREAM_END);

        /* Ollama leaves zeros out */

        s->told |= NGX_HYBRID_STREAM_OLLAMA;
    }
}


/*
 * Streams count on, so the last number is the one; but some put zeros where
 * they do not know.  What is no plain number, or absurd, is not there.
 */

static void
ngx_hybrid_stream_number(ngx_hybrid_stream_t *s, ngx_uint_t index)
{
    uint64_t    n, max;
    ngx_uint_t  i;

    max = index < ngx_hybrid_stream_load_time ? NGX_HYBRID_STREAM_TOKENS
                                              : NGX_HYBRID_STREAM_TIME;
    n = 0;

    /* its array is where it would be itself */

    if (s->len > NGX_HYBRID_STREAM_TEXT
        || s->arrays & ((ngx_uint_t) 1 << (s->depth - 1)))
    {
        return;
    }

    for (i = 0; i < s->len; i++) {

        if (s->text[i] < '0' || s->text[i] > '9') {
            return;
        }

        n = n * 10 + (s->text[i] - '0');

        if (n > max) {
            return;
        }
    }

    if (n) {
        s->numbers[index] = n;
    }

    s->told |= (ngx_uint_t) 1 << index;
}


static void
ngx_hybrid_stream_say(ngx_hybrid_stream_t *s, ngx_uint_t flags)
{
    s->said |= flags;

    /* an end that is cut off is none */

    s->seen |= flags & (NGX_HYBRID_STREAM_TOKEN|NGX_HYBRID_STREAM_ERROR);
}
