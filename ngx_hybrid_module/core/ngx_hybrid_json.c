
/*
 * Ollama reads one body with two decoders that fold keys differently and
 * keep the last duplicate.  The scanner does not imitate them: whatever two
 * readers could understand differently is refused.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_hybrid_json.h>
#include <ngx_hybrid_json_scan.h>


static u_char *ngx_hybrid_json_start(ngx_hybrid_json_t *js, u_char *p,
    u_char *last);
static u_char *ngx_hybrid_json_structure(ngx_hybrid_json_t *js, u_char *p,
    u_char *last);
static ngx_inline ngx_uint_t ngx_hybrid_json_other(ngx_hybrid_json_t *js,
    u_char *key);
static u_char *ngx_hybrid_json_open(ngx_hybrid_json_t *js, u_char *p);
static u_char *ngx_hybrid_json_close(ngx_hybrid_json_t *js, u_char *p);
static u_char *ngx_hybrid_json_begin_value(ngx_hybrid_json_t *js, u_char *p,
    u_char *last);
static void ngx_hybrid_json_keep(ngx_hybrid_json_t *js,
    ngx_hybrid_json_type_e type, u_char *p);
static u_char *ngx_hybrid_json_slow_key(ngx_hybrid_json_t *js, u_char *p,
    u_char *last);


static const char  *ngx_hybrid_json_reasons[] = {
    "valid",
    "empty body",
    "not a JSON object",
    "data after the JSON object",
    "incomplete JSON",
    "unexpected character",
    "invalid literal",
    "invalid number",
    "invalid escape in string",
    "control character in string",
    "invalid UTF-8 in string",
    "lone surrogate in string",
    ("nesting deeper than " ngx_value(NGX_HYBRID_JSON_DEPTH)),
    "duplicate or ambiguous key"
};


ngx_int_t
ngx_hybrid_json_init(ngx_hybrid_json_t *js, ngx_hybrid_json_key_t *keys,
    ngx_uint_t n, ngx_hybrid_json_value_t *values, u_char *arena, size_t size)
{
    ngx_uint_t  i, total;

    if (ngx_hybrid_json_check(keys, n) != NGX_OK) {
        return NGX_ERROR;
    }

    total = n;

    for (i = 0; i < n; i++) {

        if (ngx_hybrid_json_check(keys[i].members, keys[i].nmembers)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        total += keys[i].nmembers;
    }

    if (total > NGX_HYBRID_JSON_KEYS) {
        return NGX_ERROR;
    }

    ngx_memzero(values, total * sizeof(ngx_hybrid_json_value_t));
    ngx_memzero(js, offsetof(ngx_hybrid_json_t, key));

    ngx_hybrid_json_use(&js->table, keys, n, values);
    js->table.depth = 1;

    js->arena = arena;
    js->arena_end = arena + size;

    return NGX_OK;
}


ngx_int_t
ngx_hybrid_json_feed(ngx_hybrid_json_t *js, u_char *p, size_t len)
{
    u_char  *last;

    if (js->error) {
        return NGX_ERROR;
    }

    if (len == 0) {
        return NGX_OK;
    }

    js->piece = p;
    last = p + len;

    do {
        if (js->state == sw_start) {
            p = ngx_hybrid_json_start(js, p, last);

        } else if (js->token == tk_none) {
            p = ngx_hybrid_json_structure(js, p, last);

        } else if (js->token >= tk_string) {
            p = ngx_hybrid_json_string(js, p, last);

        } else if (js->token >= tk_number) {
            p = ngx_hybrid_json_number(js, p, last);

        } else {
            p = ngx_hybrid_json_literal(js, p, last);
        }

        if (p == NULL) {
            return NGX_ERROR;
        }

    } while (p < last);

    js->offset += len;

    return NGX_OK;
}


ngx_int_t
ngx_hybrid_json_finish(ngx_hybrid_json_t *js)
{
    if (js->error) {
        return NGX_ERROR;
    }

    if (js->state == sw_done) {
        return NGX_OK;
    }

    js->error = (js->state == sw_start) ? NGX_HYBRID_JSON_EMPTY
                                        : NGX_HYBRID_JSON_INCOMPLETE;
    return NGX_ERROR;
}


const char *
ngx_hybrid_json_reason(ngx_hybrid_json_t *js)
{
    return ngx_hybrid_json_reasons[js->error];
}


u_char *
ngx_hybrid_json_fail(ngx_hybrid_json_t *js, ngx_hybrid_json_error_e error,
    u_char *p)
{
    js->offset = ngx_hybrid_json_at(js, p);
    js->error = (u_char) error;

    return NULL;
}


static u_char *
ngx_hybrid_json_start(ngx_hybrid_json_t *js, u_char *p, u_char *last)
{
    ngx_hybrid_json_space(p, last);

    return (*p == '{') ? ngx_hybrid_json_open(js, p)
           : ngx_hybrid_json_fail(js, NGX_HYBRID_JSON_NOT_OBJECT, p);
}


/*
 * The flow of control is the state; js->state only takes it from one piece
 * to the next.
 */

static u_char *
ngx_hybrid_json_structure(ngx_hybrid_json_t *js, u_char *p, u_char *last)
{
    u_char                    *key;
    ngx_hybrid_json_window_t   window;

    window.start = p;
    window.end = p;
    window.mask = 0;

    switch (js->state) {

    case sw_value:
    case sw_first_item:
        goto value;

    case sw_key:
    case sw_first_key:
        goto key;

    case sw_colon:
        goto colon;

    case sw_after:
        goto after;

    default: /* sw_done */
        goto done;
    }

key:

    ngx_hybrid_json_space(p, last);

    if (*p != '"') {
        if (*p == '}' && js->state == sw_first_key) {
            goto close;
        }

        return ngx_hybrid_json_fail(js, NGX_HYBRID_JSON_SYNTAX, p);
    }

    key = p + 1;
    p = ngx_hybrid_json_find(&window, key, last);

    if (p == last || *p != '"') {
        return ngx_hybrid_json_slow_key(js, key, last);
    }

    if (js->depth == 1 && js->sized) {
        ngx_hybrid_json_top_key(js, key, p - key, ngx_hybrid_json_at(js, p));
    }

    /* most keys are plain and whole in the piece: no copy */

    if (js->depth == js->table.depth && !ngx_hybrid_json_other(js, key)
        && ngx_hybrid_json_end_key(js, key, p - key) != NGX_OK)
    {
        return ngx_hybrid_json_fail(js, NGX_HYBRID_JSON_AMBIGUOUS, p);
    }

    if (js->value && js->depth == NGX_HYBRID_JSON_ITEM) {
        ngx_hybrid_json_item_key(js, key, p - key);
    }

    p++;
    js->state = sw_colon;

colon:

    ngx_hybrid_json_space(p, last);

    if (*p != ':') {
        return ngx_hybrid_json_fail(js, NGX_HYBRID_JSON_SYNTAX, p);
    }

    p++;
    js->state = sw_value;

value:

    ngx_hybrid_json_space(p, last);

    if (*p == '"' && js->value == NULL) {
        p = ngx_hybrid_json_find(&window, p + 1, last);

        if (p < last && *p != '"') {
            p = ngx_hybrid_json_skip(p, last);
        }

        if (p == last || *p != '"') {
            js->token = tk_string;
            return ngx_hybrid_json_string(js, p, last);
        }

        p++;
        js->state = sw_after;
        goto after;
    }

    if (*p == ']' && js->state == sw_first_item) {
        goto close;
    }

    p = ngx_hybrid_json_begin_value(js, p, last);

    if (p == NULL || js->token != tk_none) {
        return p;
    }

    if (js->state == sw_first_key) {
        goto key;
    }

    if (js->state == sw_first_item) {
        goto value;
    }

after:

    ngx_hybrid_json_space(p, last);

    if (*p == ',') {
        p++;

        if (js->array) {
            js->state = sw_value;
            goto value;
        }

        js->state = sw_key;
        goto key;
    }

    if (*p != (js->array ? ']' : '}')) {
        return ngx_hybrid_json_fail(js, NGX_HYBRID_JSON_SYNTAX, p);
    }

close:

    p = ngx_hybrid_json_close(js, p);

    if (js->state == sw_after) {
        goto after;
    }

done:

    ngx_hybrid_json_space(p, last);

    return ngx_hybrid_json_fail(js, NGX_HYBRID_JSON_TRAILING, p);
}


/* no name starts so, not even folded: the signs that fold are above ASCII */

static ngx_inline ngx_uint_t
ngx_hybrid_json_other(ngx_hybrid_json_t *js, u_char *key)
{
    return *key < 0x80 && !(js->table.first & ngx_hybrid_json_letter(*key));
}


static u_char *
ngx_hybrid_json_open(ngx_hybrid_json_t *js, u_char *p)
{
    uint64_t  bit;

    if (js->depth == NGX_HYBRID_JSON_DEPTH) {
        return ngx_hybrid_json_fail(js, NGX_HYBRID_JSON_DEEP, p);
    }

    bit = (uint64_t) 1 << (js->depth & 63);

    if (*p == '[') {
        js->arrays[js->depth >> 6] |= bit;
        js->array = 1;
        js->state = sw_first_item;

    } else {
        js->arrays[js->depth >> 6] &= ~bit;
        js->array = 0;
        js->state = sw_first_key;
    }

    js->depth++;

    if (js->value && js->table.depth == 1 && !js->array) {
        ngx_hybrid_json_enter(js);
    }

    return p + 1;
}


static u_char *
ngx_hybrid_json_close(ngx_hybrid_json_t *js, u_char *p)
{
    ngx_uint_t  up;

    if (--js->depth == 0) {

        if (js->measured) {
            js->total += ngx_hybrid_json_at(js, p) - js->measured;
            js->measured = 0;
        }

        js->state = sw_done;
        return p + 1;
    }

    if (js->depth < js->table.depth) {
        ngx_hybrid_json_leave(js);
    }

    up = js->depth - 1;
    js->array = (js->arrays[up >> 6] >> (up & 63)) & 1;

    ngx_hybrid_json_end_value(js, p + 1);

    return p + 1;
}


static u_char *
ngx_hybrid_json_begin_value(ngx_hybrid_json_t *js, u_char *p, u_char *last)
{
    ngx_hybrid_json_type_e  type;

    if (ngx_hybrid_json_digit(*p) && js->value == NULL) {
        js->token = tk_number;
        js->state = sw_after;
        return ngx_hybrid_json_scan_number(js, p, last);
    }

    switch (*p) {

    case '"':
        type = NGX_HYBRID_JSON_T_STRING;
        js->token = tk_string;
        break;

    case '{':
        type = NGX_HYBRID_JSON_T_OBJECT;
        break;

    case '[':
        type = NGX_HYBRID_JSON_T_ARRAY;
        break;

    case 't':
        type = NGX_HYBRID_JSON_T_TRUE;
        js->literal = (u_char *) "true";
        js->token = tk_literal;
        break;

    case 'f':
        type = NGX_HYBRID_JSON_T_FALSE;
        js->literal = (u_char *) "false";
        js->token = tk_literal;
        break;

    case 'n':
        type = NGX_HYBRID_JSON_T_NULL;
        js->literal = (u_char *) "null";
        js->token = tk_literal;
        break;

    default:
        if (*p != '-' && !ngx_hybrid_json_digit(*p)) {
            return ngx_hybrid_json_fail(js, NGX_HYBRID_JSON_SYNTAX, p);
        }

        type = NGX_HYBRID_JSON_T_NUMBER;
        js->token = tk_number;
        break;
    }

    if (js->depth == js->table.depth && js->value) {
        ngx_hybrid_json_keep(js, type, p);

    } else if (js->kind) {
        ngx_hybrid_json_item_type(js, type);
    }

    switch (type) {

    case NGX_HYBRID_JSON_T_STRING:
        return ngx_hybrid_json_string(js, p + 1, last);

    case NGX_HYBRID_JSON_T_NUMBER:
        return ngx_hybrid_json_number(js, p, last);

    case NGX_HYBRID_JSON_T_OBJECT:
    case NGX_HYBRID_JSON_T_ARRAY:
        return ngx_hybrid_json_open(js, p);

    default:
        return ngx_hybrid_json_literal(js, p, last);
    }
}


static void
ngx_hybrid_json_keep(ngx_hybrid_json_t *js, ngx_hybrid_json_type_e type,
    u_char *p)
{
    size_t                    size;
    ngx_hybrid_json_value_t  *value;

    value = js->value;

    value->type = (u_char) type;
    value->start = ngx_hybrid_json_at(js, p);
    value->data = js->arena;

    if (type == NGX_HYBRID_JSON_T_OBJECT || type == NGX_HYBRID_JSON_T_ARRAY) {
        return;
    }

    size = js->table.keys[value - js->table.values].size;

    js->pos = js->arena;
    js->end = js->arena + ngx_min(size, (size_t) (js->arena_end - js->arena));
    js->overflow = 0;
}


void
ngx_hybrid_json_end_value(ngx_hybrid_json_t *js, u_char *p)
{
    ngx_hybrid_json_value_t  *value;

    js->state = sw_after;
    js->token = tk_none;

    value = js->value;

    if (js->depth != js->table.depth || value == NULL) {

        if (js->kind) {
            ngx_hybrid_json_item_end(js);
        }

        return;
    }

    value->end = ngx_hybrid_json_at(js, p);
    js->value = NULL;

    if (js->pos) {
        value->len = (uint16_t) (js->pos - value->data);
        value->overflow = js->overflow;
        js->arena = js->pos;
        js->pos = NULL;
    }
}


static u_char *
ngx_hybrid_json_slow_key(ngx_hybrid_json_t *js, u_char *p, u_char *last)
{
    js->state = sw_key;
    js->token = tk_string;

    if (js->depth == js->table.depth
        || (js->value && js->depth == NGX_HYBRID_JSON_ITEM))
    {
        js->pos = js->key;
        js->end = js->key + NGX_HYBRID_JSON_KEY_BUF;
        js->overflow = 0;
    }

    return ngx_hybrid_json_string(js, p, last);
}
