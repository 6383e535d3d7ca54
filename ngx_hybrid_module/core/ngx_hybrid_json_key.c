
/*
 * Which keys the policy depends on, at the top, in an object there, and in
 * the objects of an array there.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_hybrid_json.h>
#include <ngx_hybrid_json_scan.h>


static void ngx_hybrid_json_item_same(ngx_hybrid_json_t *js, size_t len);
static ngx_uint_t ngx_hybrid_json_folds(ngx_str_t *name, u_char *key,
    size_t len);


ngx_str_t  ngx_hybrid_json_same_model[] = {
    ngx_string("model"),
    ngx_null_string
};


ngx_int_t
ngx_hybrid_json_check(ngx_hybrid_json_key_t *keys, ngx_uint_t n)
{
    ngx_str_t   *kind;
    ngx_uint_t   i;

    if (n > NGX_HYBRID_JSON_KEYS) {
        return NGX_ERROR;
    }

    for (i = 0; i < n; i++) {

        if (keys[i].name.len == 0
            || keys[i].name.len > NGX_HYBRID_JSON_NAME
            || keys[i].size > NGX_HYBRID_JSON_SIZE)
        {
            return NGX_ERROR;
        }

        for (kind = keys[i].kinds; kind && kind->len; kind++) {

            if (kind->len > NGX_HYBRID_JSON_NAME) {
                return NGX_ERROR;
            }
        }
    }

    return NGX_OK;
}


void
ngx_hybrid_json_use(ngx_hybrid_json_table_t *table,
    ngx_hybrid_json_key_t *keys, ngx_uint_t n, ngx_hybrid_json_value_t *values)
{
    ngx_uint_t  i;

    table->keys = keys;
    table->values = values;
    table->nkeys = (u_char) n;
    table->first = 0;

    for (i = 0; i < n; i++) {
        table->first |= ngx_hybrid_json_letter(keys[i].name.data[0]);
    }
}


void
ngx_hybrid_json_measure(ngx_hybrid_json_t *js, ngx_str_t *names)
{
    js->sized = names;
}


/* a key at the top, which ends there: so does the value before it */

void
ngx_hybrid_json_top_key(ngx_hybrid_json_t *js, u_char *key, size_t len,
    off_t end)
{
    ngx_str_t  *name;

    js->ntop++;

    if (js->measured) {
        js->total += end - js->measured - (off_t) len;
        js->measured = 0;
    }

    for (name = js->sized; name->len; name++) {

        if (ngx_hybrid_json_folds(name, key, len)) {
            js->measured = end;
            return;
        }
    }
}


/* an object at the top begins, whose members matter themselves */

void
ngx_hybrid_json_enter(ngx_hybrid_json_t *js)
{
    ngx_uint_t                i, n;
    ngx_hybrid_json_key_t    *key;
    ngx_hybrid_json_value_t  *values;

    n = js->value - js->table.values;
    key = &js->table.keys[n];

    /* not in an array that is the value */

    if (key->nmembers == 0 || js->depth != 2) {
        return;
    }

    values = js->table.values + js->table.nkeys;

    for (i = 0; i < n; i++) {
        values += js->table.keys[i].nmembers;
    }

    js->outer = js->table;
    js->holder = js->value;
    js->value = NULL;

    ngx_hybrid_json_use(&js->table, key->members, key->nmembers, values);
    js->table.depth = 2;
}


void
ngx_hybrid_json_leave(ngx_hybrid_json_t *js)
{
    js->table = js->outer;
    js->value = js->holder;
}


/* in an object of the array that is the policy key's value */

void
ngx_hybrid_json_item_key(ngx_hybrid_json_t *js, u_char *key, size_t len)
{
    ngx_str_t  *kinds, *name;

    static ngx_str_t  type = ngx_string("type");

    kinds = js->table.keys[js->value - js->table.values].kinds;
    name = (kinds == ngx_hybrid_json_same_model) ? kinds : &type;

    js->kind = kinds != NULL && ngx_hybrid_json_folds(name, key, len);
}


void
ngx_hybrid_json_item_type(ngx_hybrid_json_t *js, ngx_hybrid_json_type_e type)
{
    if (type != NGX_HYBRID_JSON_T_STRING) {

        if (js->table.keys[js->value - js->table.values].kinds
            == ngx_hybrid_json_same_model)
        {
            js->value->found = 1;
        }

        js->kind = 0;
        return;
    }

    /* the key's own buffer is free again */

    js->pos = js->key;
    js->end = js->key + NGX_HYBRID_JSON_KEY_BUF;
    js->overflow = 0;
}


void
ngx_hybrid_json_item_end(ngx_hybrid_json_t *js)
{
    size_t      len;
    ngx_str_t  *kind;

    len = js->pos - js->key;
    kind = js->table.keys[js->value - js->table.values].kinds;

    if (kind == ngx_hybrid_json_same_model) {
        ngx_hybrid_json_item_same(js, len);
        js->kind = 0;
        js->pos = NULL;
        return;
    }

    for ( /* void */ ; kind->len; kind++) {

        if (ngx_hybrid_json_folds(kind, js->key, ngx_min(len, kind->len))) {
            js->value->found = 1;
        }
    }

    js->kind = 0;
    js->pos = NULL;
}


static void
ngx_hybrid_json_item_same(ngx_hybrid_json_t *js, size_t len)
{
    ngx_hybrid_json_value_t  *value;

    value = js->value;

    if (value->len) {

        if (js->overflow || len != value->len
            || ngx_memcmp(value->data, js->key, len) != 0)
        {
            value->found = 1;
        }

        return;
    }

    if (js->overflow || len == 0
        || len > js->table.keys[value - js->table.values].size
        || len > (size_t) (js->arena_end - js->arena))
    {
        value->found = 1;
        return;
    }

    ngx_memcpy(js->arena, js->key, len);

    value->data = js->arena;
    value->len = (uint16_t) len;
    js->arena += len;
}


/* NGX_ERROR: readers could disagree about the key */

ngx_int_t
ngx_hybrid_json_end_key(ngx_hybrid_json_t *js, u_char *key, size_t len)
{
    ngx_str_t   *name;
    ngx_uint_t   i;

    if (js->depth != js->table.depth) {
        ngx_hybrid_json_item_key(js, key, len);
        return NGX_OK;
    }

    for (i = 0; i < js->table.nkeys; i++) {

        name = &js->table.keys[i].name;

        if (name->len == len && ngx_memcmp(name->data, key, len) == 0) {

            if (js->table.values[i].type != NGX_HYBRID_JSON_T_ABSENT) {
                return NGX_ERROR;
            }

            js->value = &js->table.values[i];

            return NGX_OK;
        }
    }

    for (i = 0; i < js->table.nkeys; i++) {

        if (ngx_hybrid_json_folds(&js->table.keys[i].name, key, len)) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


/* some reader takes the key for the name */

static ngx_uint_t
ngx_hybrid_json_folds(ngx_str_t *name, u_char *key, size_t len)
{
    u_char  ch, *end;
    size_t  i;

    end = key + len;

    for (i = 0; i < name->len; i++) {

        if (key == end) {
            return 0;
        }

        ch = *key++;

        if (ch >= 'A' && ch <= 'Z') {
            ch |= 0x20;

        } else if (ch == 0xc5 && end - key >= 1 && key[0] == 0xbf) {
            /* U+017F, long s */
            ch = 's';
            key += 1;

        } else if (ch == 0xe2 && end - key >= 2
                   && key[0] == 0x84 && key[1] == 0xaa)
        {
            /* U+212A, Kelvin sign */
            ch = 'k';
            key += 2;
        }

        if (ch != name->data[i]) {
            return 0;
        }
    }

    return key == end;
}
