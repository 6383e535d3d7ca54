
/*
 * Copyright (C) the ngx_hybrid_module authors
 */


#include "ngx_hybrid_stream.h"


typedef enum {
    line_start = 0,
    line_return,          /* CR, which may be all of the line */
    line_name,            /* "data:" so far */
    line_space,
    line_data,
    line_other
} ngx_hybrid_stream_line_e;


static void ngx_hybrid_stream_event_end(ngx_hybrid_stream_t *s);
static void ngx_hybrid_stream_line(ngx_hybrid_stream_t *s, u_char *p,
    u_char *last);
static ngx_uint_t ngx_hybrid_stream_line_end(ngx_hybrid_stream_t *s);
static void ngx_hybrid_stream_data(ngx_hybrid_stream_t *s, u_char *p,
    u_char *last);


static const u_char  ngx_hybrid_stream_done[] = "[DONE]";
static const u_char  ngx_hybrid_stream_field[] = "data:";


void
ngx_hybrid_stream_init(ngx_hybrid_stream_t *s,
    ngx_hybrid_stream_format_e format)
{
    ngx_memzero(s, sizeof(ngx_hybrid_stream_t));

    s->format = format;

    ngx_hybrid_stream_reset(s);
}


u_char *
ngx_hybrid_stream_read(ngx_hybrid_stream_t *s, u_char *p, u_char *last)
{
    u_char  *end;

    if (s->complete) {
        ngx_hybrid_stream_count(s);

        s->complete = 0;
        s->said = 0;
    }

    if (s->format == ngx_hybrid_stream_json) {

        if (p < last) {
            s->place = ngx_hybrid_stream_inside;
            ngx_hybrid_stream_parse(s, p, last);
        }

        return last;
    }

    while (p < last) {

        /* a string holds no raw line end */

        end = memchr(p, '\n', last - p);

        if (s->format == ngx_hybrid_stream_events) {
            ngx_hybrid_stream_line(s, p, end ? end : last);

        } else if (end != p) {
            s->place = ngx_hybrid_stream_inside;
            ngx_hybrid_stream_parse(s, p, end ? end : last);
        }

        if (end == NULL) {
            return last;
        }

        p = end + 1;

        if (s->format == ngx_hybrid_stream_lines
            || ngx_hybrid_stream_line_end(s))
        {
            ngx_hybrid_stream_event_end(s);
            return p;
        }
    }

    return p;
}


uint64_t
ngx_hybrid_stream_tokens(ngx_hybrid_stream_t *s)
{
    if (!(s->said & NGX_HYBRID_STREAM_TOKEN)) {
        return s->tokens;
    }

    if (s->letters <= NGX_HYBRID_STREAM_PIECE) {
        return s->tokens + 1;
    }

    return s->tokens + (s->letters + NGX_HYBRID_STREAM_BYTES - 1)
                       / NGX_HYBRID_STREAM_BYTES;
}


void
ngx_hybrid_stream_count(ngx_hybrid_stream_t *s)
{
    s->tokens = ngx_hybrid_stream_tokens(s);
    s->letters = 0;
}


static void
ngx_hybrid_stream_event_end(ngx_hybrid_stream_t *s)
{
    s->complete = 1;
    s->place = ngx_hybrid_stream_between;

    ngx_hybrid_stream_reset(s);
}


/* a line of an event, or a piece of it */

static void
ngx_hybrid_stream_line(ngx_hybrid_stream_t *s, u_char *p, u_char *last)
{
    for ( /* void */ ; p < last; p++) {

        switch (s->line) {

        case line_start:
            s->match = 0;
            s->done = 0;

            if (*p == '\r') {
                s->line = line_return;
                break;
            }

            s->place = ngx_hybrid_stream_inside;
            s->line = line_name;

            /* fall through */

        case line_name:
            if (*p != ngx_hybrid_stream_field[s->match]) {
                s->line = line_other;
                return;
            }

            s->match++;

            if (s->match < sizeof(ngx_hybrid_stream_field) - 1) {
                break;
            }

            s->line = line_space;

            ngx_hybrid_stream_again(s);
            break;

        case line_space:
            if (*p == ' ') {
                break;
            }

            s->line = line_data;

            /* fall through */

        case line_data:
            ngx_hybrid_stream_data(s, p, last);
            return;

        default: /* line_return, line_other */
            s->place = ngx_hybrid_stream_inside;
            s->line = line_other;
            return;
        }
    }
}


/* returns 1 when the line was empty and so has ended an event */

static ngx_uint_t
ngx_hybrid_stream_line_end(ngx_hybrid_stream_t *s)
{
    ngx_uint_t  empty;

    empty = (s->line == line_start || s->line == line_return);

    s->line = line_start;
    s->place = ngx_hybrid_stream_next_line;

    return empty;
}


static void
ngx_hybrid_stream_data(ngx_hybrid_stream_t *s, u_char *p, u_char *last)
{
    u_char  *c;

    for (c = p; c < last && s->done < sizeof(ngx_hybrid_stream_done); c++) {

        if (s->done == sizeof(ngx_hybrid_stream_done) - 1
            || *c != ngx_hybrid_stream_done[s->done])
        {
            s->done = sizeof(ngx_hybrid_stream_done);
            break;
        }

        s->done++;

        if (s->done == sizeof(ngx_hybrid_stream_done) - 1) {
            s->said |= NGX_HYBRID_STREAM_END;
            s->seen |= NGX_HYBRID_STREAM_END;
            s->done++;
        }
    }

    ngx_hybrid_stream_parse(s, p, last);
}
