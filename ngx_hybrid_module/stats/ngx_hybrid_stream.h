
/*
 * A resumable scanner of what a backend answers: a stream of JSON lines
 * (Ollama), of server-sent events (OpenAI, Anthropic, Gemini), or one JSON
 * document.  It takes pieces cut anywhere, keeps nothing of them, allocates
 * nothing and never fails: what it does not understand says nothing.
 */


#ifndef _NGX_HYBRID_STREAM_H_INCLUDED_
#define _NGX_HYBRID_STREAM_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/* what an event says, or a line */

#define NGX_HYBRID_STREAM_TOKEN    0x01    /* text, a tool call */
#define NGX_HYBRID_STREAM_FINISH   0x02    /* the reason why it is the last */
#define NGX_HYBRID_STREAM_END      0x04    /* nothing follows */
#define NGX_HYBRID_STREAM_ERROR    0x08
#define NGX_HYBRID_STREAM_USAGE    0x10
#define NGX_HYBRID_STREAM_CHOICES  0x20    /* "choices" is there, */
#define NGX_HYBRID_STREAM_CHOICE   0x40    /*   and not empty */

/* objects and arrays below are only counted */
#define NGX_HYBRID_STREAM_DEPTH    8

/* an event with more text than that, in bytes, holds several tokens */
#define NGX_HYBRID_STREAM_PIECE    16
#define NGX_HYBRID_STREAM_BYTES    4       /* of text, for one of them */

/* what says that it is more is no number of tokens, or of nanoseconds */
#define NGX_HYBRID_STREAM_TOKENS   1000000000
#define NGX_HYBRID_STREAM_TIME     (1000000000 * (uint64_t) 1000000)

/* longer keys and texts are none of those that mean something */
#define NGX_HYBRID_STREAM_TEXT     32


typedef enum {
    ngx_hybrid_stream_json = 0,
    ngx_hybrid_stream_lines,
    ngx_hybrid_stream_events
} ngx_hybrid_stream_format_e;


/* where the next byte goes: what is put in between has to begin there */

typedef enum {
    ngx_hybrid_stream_between = 0,    /* after an event, or a line */
    ngx_hybrid_stream_next_line,      /* of the same event */
    ngx_hybrid_stream_inside          /* of a line */
} ngx_hybrid_stream_place_e;


/*
 * What the backend itself has counted.  Its input is the sum of all that is
 * about input but for OpenAI's, whose prompt_tokens are what was cached, too.
 */

typedef enum {
    ngx_hybrid_stream_input = 0,
    ngx_hybrid_stream_cache_write,        /* Anthropic */
    ngx_hybrid_stream_cache_read,
    ngx_hybrid_stream_tools,              /* Gemini */
    ngx_hybrid_stream_output,
    ngx_hybrid_stream_thoughts,           /* Gemini, besides its output */
    ngx_hybrid_stream_load_time,          /* nsec, Ollama */
    ngx_hybrid_stream_prompt_time,
    ngx_hybrid_stream_eval_time,
    ngx_hybrid_stream_total_time,
    ngx_hybrid_stream_numbers
} ngx_hybrid_stream_number_e;


#define ngx_hybrid_stream_bit(number)                                         \
    ((ngx_uint_t) 1 << ngx_hybrid_stream_##number)

/* what is there, be it zero, when Ollama has said that it is done */
#define NGX_HYBRID_STREAM_OLLAMA                                              \
    (ngx_hybrid_stream_bit(input)|ngx_hybrid_stream_bit(output)               \
     |ngx_hybrid_stream_bit(load_time)|ngx_hybrid_stream_bit(prompt_time)     \
     |ngx_hybrid_stream_bit(eval_time)|ngx_hybrid_stream_bit(total_time))


typedef struct {
    ngx_uint_t                  said;     /* by the event so far */
    ngx_uint_t                  seen;     /* by all of them */

    ngx_uint_t                  depth;
    ngx_uint_t                  arrays;   /* bits: depth is one */

    uint64_t                    numbers[ngx_hybrid_stream_numbers];
    ngx_uint_t                  told;     /* bits: there is such a number */
    uint64_t                    tokens;   /* of the events that have ended */
    uint64_t                    letters;  /* bytes of text in this one */

    ngx_hybrid_stream_format_e  format;

    u_char                      complete; /* an event ended with the piece */
    u_char                      place;    /* ngx_hybrid_stream_place_e */
    u_char                      line;
    u_char                      match;
    u_char                      done;

    u_char                      state;
    u_char                      node;     /* of the value that comes */
    u_char                      len;
    u_char                      nodes[NGX_HYBRID_STREAM_DEPTH];
    u_char                      text[NGX_HYBRID_STREAM_TEXT];
} ngx_hybrid_stream_t;


void ngx_hybrid_stream_init(ngx_hybrid_stream_t *s,
    ngx_hybrid_stream_format_e format);

/*
 * Reads at most to the end of an event and returns where it has stopped;
 * "complete" tells that there was one, and "said" is about it until the next
 * call.  A token and an error are "seen" at once, the rest when the JSON
 * that says so is whole.
 */
u_char *ngx_hybrid_stream_read(ngx_hybrid_stream_t *s, u_char *p,
    u_char *last);

/* by what has been read: an event is a token, one with much text are more */
uint64_t ngx_hybrid_stream_tokens(ngx_hybrid_stream_t *s);

/* of its two files: framing calls these for the JSON in a line or an event */

void ngx_hybrid_stream_reset(ngx_hybrid_stream_t *s);
void ngx_hybrid_stream_again(ngx_hybrid_stream_t *s);
void ngx_hybrid_stream_count(ngx_hybrid_stream_t *s);
void ngx_hybrid_stream_parse(ngx_hybrid_stream_t *s, u_char *p,
    u_char *last);


#endif /* _NGX_HYBRID_STREAM_H_INCLUDED_ */
