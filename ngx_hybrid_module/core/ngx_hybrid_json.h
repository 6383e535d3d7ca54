
/*
 * A resumable, strict and bounded scanner of one JSON request body: it
 * validates every byte, allocates nothing and never recurses, and it finds
 * the top-level keys that policy depends on.
 */


#ifndef _NGX_HYBRID_JSON_H_INCLUDED_
#define _NGX_HYBRID_JSON_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


#define NGX_HYBRID_JSON_DEPTH    100

#define NGX_HYBRID_JSON_KEYS     48      /* with members */
#define NGX_HYBRID_JSON_NAME     64
#define NGX_HYBRID_JSON_SIZE     65535

/* a byte of a name may come as U+017F or U+212A: up to 3 bytes in UTF-8 */
#define NGX_HYBRID_JSON_KEY_BUF  (3 * NGX_HYBRID_JSON_NAME + 1)


typedef enum {
    NGX_HYBRID_JSON_VALID = 0,
    NGX_HYBRID_JSON_EMPTY,
    NGX_HYBRID_JSON_NOT_OBJECT,
    NGX_HYBRID_JSON_TRAILING,
    NGX_HYBRID_JSON_INCOMPLETE,
    NGX_HYBRID_JSON_SYNTAX,
    NGX_HYBRID_JSON_LITERAL,
    NGX_HYBRID_JSON_NUMBER,
    NGX_HYBRID_JSON_ESCAPE,
    NGX_HYBRID_JSON_CONTROL,
    NGX_HYBRID_JSON_UTF8,
    NGX_HYBRID_JSON_SURROGATE,
    NGX_HYBRID_JSON_DEEP,
    NGX_HYBRID_JSON_AMBIGUOUS
} ngx_hybrid_json_error_e;


typedef enum {
    NGX_HYBRID_JSON_T_ABSENT = 0,
    NGX_HYBRID_JSON_T_STRING,
    NGX_HYBRID_JSON_T_NUMBER,
    NGX_HYBRID_JSON_T_TRUE,
    NGX_HYBRID_JSON_T_FALSE,
    NGX_HYBRID_JSON_T_NULL,
    NGX_HYBRID_JSON_T_OBJECT,
    NGX_HYBRID_JSON_T_ARRAY
} ngx_hybrid_json_type_e;


typedef struct ngx_hybrid_json_key_s  ngx_hybrid_json_key_t;

struct ngx_hybrid_json_key_s {
    /*
     * ASCII, 1-64 bytes.  A key that differs in case alone is refused as
     * ambiguous, but for a name that has upper case itself.
     */
    ngx_str_t                 name;
    size_t                    size;      /* keep at most this of the value */

    /*
     * Of an array of objects: "found" is set when the "type" of one begins
     * with one of these, in any case.  1-64 bytes, the last one is empty.
     * With ngx_hybrid_json_same_model the text is the "model" of the first
     * object that has one, and "found" is set when another's differs.
     */
    ngx_str_t                *kinds;

    /* policy keys of an object at the top, as strictly read as its own */
    ngx_hybrid_json_key_t    *members;
    ngx_uint_t                nmembers;
};


/*
 * What was found for the key of the same index, to be trusted only after
 * ngx_hybrid_json_finish() has returned NGX_OK.  The text is a counted
 * string and may hold zero bytes; it is empty for objects and arrays.  With
 * "overflow" it is a prefix, possibly cut inside of a UTF-8 sequence.
 */

typedef struct {
    off_t                     start;     /* of the raw value in the body, */
    off_t                     end;       /*   with the quotes of a string */

    u_char                   *data;      /* unescaped string, raw scalar */
    uint16_t                  len;

    u_char                    type;      /* ngx_hybrid_json_type_e */
    u_char                    overflow;
    u_char                    found;
} ngx_hybrid_json_value_t;


typedef struct {
    ngx_hybrid_json_key_t    *keys;
    ngx_hybrid_json_value_t  *values;
    uint32_t                  first;     /* letters that names start with */
    u_char                    nkeys;
    u_char                    depth;     /* of the keys */
} ngx_hybrid_json_table_t;


/* points into itself while a key is read: must not be moved */

typedef struct {
    ngx_hybrid_json_table_t   table;
    ngx_hybrid_json_table_t   outer;     /* while its members are read */
    ngx_hybrid_json_value_t  *holder;    /* of the members */
    ngx_hybrid_json_value_t  *value;     /* the policy key being read */

    u_char                   *arena;     /* free part of the arena */
    u_char                   *arena_end;

    u_char                   *pos;       /* text is kept here, or NULL */
    u_char                   *end;

    ngx_str_t                *sized;     /* see ngx_hybrid_json_measure() */
    off_t                     measured;  /* from there on, or 0 */
    off_t                     total;
    ngx_uint_t                ntop;

    u_char                   *piece;
    u_char                   *literal;
    off_t                     offset;    /* of the piece, then of the error */

    uint64_t                  arrays[(NGX_HYBRID_JSON_DEPTH + 63) / 64];
    uint32_t                  code;      /* of a \u escape */
    uint16_t                  high;      /* surrogate that waits for its low */

    u_char                    depth;
    u_char                    array;     /* the innermost container is one */
    u_char                    state;
    u_char                    token;
    u_char                    more;      /* bytes left of a sequence */
    u_char                    least;     /* bounds of the next of them */
    u_char                    most;
    u_char                    overflow;
    u_char                    kind;      /* the "type" of an item is next */
    u_char                    error;     /* ngx_hybrid_json_error_e */

    u_char                    key[NGX_HYBRID_JSON_KEY_BUF];
} ngx_hybrid_json_t;


extern ngx_str_t  ngx_hybrid_json_same_model[];


/*
 * The caller gives a table of n policy keys, a value for each and behind them
 * one for each member, in the order of the keys, and an arena that the kept
 * texts share: each takes its length, and at most the size of its key.  The
 * sum of the sizes is always enough; a text that finds the arena full
 * overflows.  The tables must outlive the scanner.  NGX_ERROR: a bad table.
 */
ngx_int_t ngx_hybrid_json_init(ngx_hybrid_json_t *js,
    ngx_hybrid_json_key_t *keys, ngx_uint_t n,
    ngx_hybrid_json_value_t *values, u_char *arena, size_t size);

/*
 * To be called before the first piece: ntop will be the number of keys at the
 * top, and total the bytes of the values of those that a reader could take
 * for one of these names (lower case; the last one is empty), all of them
 * when a key is repeated, with the white space and the comma around.
 */
void ngx_hybrid_json_measure(ngx_hybrid_json_t *js, ngx_str_t *names);

/*
 * Any number of pieces of any length; nothing points to a piece afterwards.
 * NGX_ERROR stays: "error" and "offset" tell why and where in the body.
 */
ngx_int_t ngx_hybrid_json_feed(ngx_hybrid_json_t *js, u_char *p, size_t len);
ngx_int_t ngx_hybrid_json_finish(ngx_hybrid_json_t *js);

const char *ngx_hybrid_json_reason(ngx_hybrid_json_t *js);


#endif /* _NGX_HYBRID_JSON_H_INCLUDED_ */
