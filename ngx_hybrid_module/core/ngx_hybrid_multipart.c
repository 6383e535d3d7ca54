
/*
 * Readers of forms differ in line ends, in what a delimiter is, in escapes
 * of names and in which of two fields counts.  The scanner does not imitate
 * any of them: what two could understand differently is refused.  So the
 * boundary may stand nowhere but in a delimiter, lines end with CR LF only,
 * and names are plain.
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_hybrid_multipart.h>


/*
 *     first -> after -> after_lf -> header -> header_lf -> header ... -> data
 *     data -> after;  after -> last_dash -> end -> end_lf -> done
 */

enum {
    sw_first = 0,
    sw_after,
    sw_after_lf,
    sw_header,
    sw_header_lf,
    sw_data,
    sw_last_dash,
    sw_end,
    sw_end_lf,
    sw_done
};


static ngx_uint_t ngx_hybrid_multipart_boundary_char(u_char ch,
    ngx_uint_t quoted);
static void ngx_hybrid_multipart_prepare(ngx_hybrid_multipart_t *mp,
    u_char *boundary, size_t len);
static u_char *ngx_hybrid_multipart_data(ngx_hybrid_multipart_t *mp,
    u_char *p, u_char *last);
static ngx_hybrid_multipart_error_e ngx_hybrid_multipart_part_end(
    ngx_hybrid_multipart_t *mp);
static ngx_hybrid_multipart_error_e ngx_hybrid_multipart_step(
    ngx_hybrid_multipart_t *mp, u_char ch);
static ngx_hybrid_multipart_error_e ngx_hybrid_multipart_headers_end(
    ngx_hybrid_multipart_t *mp);


static const char  *ngx_hybrid_multipart_reasons[] = {
    "valid",
    "the Content-Type must be multipart/form-data with a boundary only",
    "the form does not begin with its boundary",
    "misplaced boundary in the form",
    "incomplete form",
    "data after the form",
    "invalid header in the form",
    "too many or too long headers in the form",
    "invalid Content-Disposition in the form",
    "an encoding in the form",
    "wrong length of a part of the form",
    "duplicate or ambiguous field in the form",
    "the field model must be plain text",
    "the field model is too long"
};


ngx_int_t
ngx_hybrid_multipart_init(ngx_hybrid_multipart_t *mp, ngx_str_t *type)
{
    u_char      *p, *last, *boundary;
    size_t       n;
    ngx_uint_t   quoted;

    static const char  media[] = "multipart/form-data";
    static const char  name[] = "boundary=";

    ngx_memzero(mp, offsetof(ngx_hybrid_multipart_t, delimiter));

    mp->error = NGX_HYBRID_MULTIPART_TYPE;

    p = type->data;
    last = p + type->len;

    n = sizeof(media) - 1;

    if ((size_t) (last - p) <= n || !ngx_hybrid_multipart_same(p, media, n)) {
        return NGX_ERROR;
    }

    p += n;

    if (*p++ != ';') {
        return NGX_ERROR;
    }

    while (p < last && *p == ' ') {
        p++;
    }

    n = sizeof(name) - 1;

    if ((size_t) (last - p) <= n || !ngx_hybrid_multipart_same(p, name, n)) {
        return NGX_ERROR;
    }

    p += n;
    quoted = (*p == '"');

    if (quoted) {
        p++;
    }

    for (boundary = p; p < last; p++) {
        if (!ngx_hybrid_multipart_boundary_char(*p, quoted)) {
            break;
        }
    }

    n = p - boundary;

    if (n == 0 || n > NGX_HYBRID_MULTIPART_BOUNDARY
        || (quoted && (p == last || *p++ != '"'))
        || p != last)
    {
        return NGX_ERROR;
    }

    mp->error = NGX_HYBRID_MULTIPART_VALID;

    ngx_hybrid_multipart_prepare(mp, boundary, n);

    return NGX_OK;
}


/* RFC 2046's but the space; some of them only between quotes */

static ngx_uint_t
ngx_hybrid_multipart_boundary_char(u_char ch, ngx_uint_t quoted)
{
    if (ngx_hybrid_multipart_is_alnum(ch)) {
        return 1;
    }

    switch (ch) {

    case '\'':
    case '+':
    case '_':
    case '-':
    case '.':
        return 1;

    case '(':
    case ')':
    case ',':
    case '/':
    case ':':
    case '=':
    case '?':
        return quoted;

    default:
        return 0;
    }
}


/*
 * fallback[n]: how much of the start is also the end of the first n bytes of
 * "--" boundary (Knuth, Morris, Pratt).  With the CR in front none is.
 */

static void
ngx_hybrid_multipart_prepare(ngx_hybrid_multipart_t *mp, u_char *boundary,
    size_t len)
{
    u_char      *d;
    ngx_uint_t   i, n;

    d = ngx_cpymem(mp->delimiter, CRLF "--", 4);
    (void) ngx_cpymem(d, boundary, len);

    mp->length = (u_char) (len + 4);
    mp->matched = 2;

    d = mp->delimiter + 2;
    mp->fallback[0] = 0;
    mp->fallback[1] = 0;

    for (i = 1; i < len + 1; i++) {

        for (n = mp->fallback[i]; n && d[n] != d[i]; n = mp->fallback[n]) {
            /* void */
        }

        mp->fallback[i + 1] = (u_char) (n + (d[n] == d[i]));
    }
}


ngx_int_t
ngx_hybrid_multipart_feed(ngx_hybrid_multipart_t *mp, u_char *p, size_t len)
{
    u_char                        *start, *last;
    off_t                          offset;
    ngx_hybrid_multipart_error_e   error;

    if (mp->error) {
        return NGX_ERROR;
    }

    start = p;
    last = p + len;
    offset = mp->offset;

    while (p < last) {

        if (mp->state == sw_data) {
            p = ngx_hybrid_multipart_data(mp, p, last);
            mp->offset = offset + (p - start);

            if (mp->dashes < mp->length - 2) {
                continue;
            }

            error = ngx_hybrid_multipart_part_end(mp);

        } else {
            error = ngx_hybrid_multipart_step(mp, *p);

            if (error == NGX_HYBRID_MULTIPART_VALID) {
                p++;
                mp->offset++;

                if (mp->state == sw_data && mp->data == 0) {
                    mp->data = mp->offset;
                }
            }
        }

        if (error) {
            mp->error = (u_char) error;
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


ngx_int_t
ngx_hybrid_multipart_finish(ngx_hybrid_multipart_t *mp)
{
    if (mp->error) {
        return NGX_ERROR;
    }

    if (mp->state == sw_end || mp->state == sw_done) {
        return NGX_OK;
    }

    mp->error = NGX_HYBRID_MULTIPART_INCOMPLETE;

    return NGX_ERROR;
}


const char *
ngx_hybrid_multipart_reason(ngx_hybrid_multipart_t *mp)
{
    return ngx_hybrid_multipart_reasons[mp->error];
}


/* up to the end of a boundary, wherever it stands */

static u_char *
ngx_hybrid_multipart_data(ngx_hybrid_multipart_t *mp, u_char *p, u_char *last)
{
    u_char      ch, *delimiter, *dashes;
    ngx_uint_t  m, n, size;

    delimiter = mp->delimiter;
    dashes = delimiter + 2;
    size = mp->length - 2;

    m = mp->matched;
    n = mp->dashes;

    for ( /* void */ ; p < last; /* void */ ) {

        if (mp->model) {

            /* what follows of the delimiter is cut off afterwards */

            if (mp->kept < NGX_HYBRID_MULTIPART_VALUE) {
                mp->value[mp->kept++] = *p;
            }

        } else if (m + n == 0) {

            while (p < last && *p != CR && *p != '-') {
                p++;
            }

            if (p == last) {
                break;
            }
        }

        ch = *p++;

        m = (ch == delimiter[m]) ? m + 1 : (ch == CR);

        while (n && ch != dashes[n]) {
            n = mp->fallback[n];
        }

        n += (ch == dashes[n]);

        if (n == size) {
            break;
        }
    }

    mp->matched = (u_char) m;
    mp->dashes = (u_char) n;

    return p;
}


static ngx_hybrid_multipart_error_e
ngx_hybrid_multipart_part_end(ngx_hybrid_multipart_t *mp)
{
    off_t  end;

    if (mp->matched < mp->length) {
        return NGX_HYBRID_MULTIPART_MISPLACED;
    }

    end = mp->offset - mp->length;

    if (mp->declared != -1 && mp->declared != end - mp->data) {
        return NGX_HYBRID_MULTIPART_LENGTH;
    }

    if (mp->model) {

        if (end - mp->data > NGX_HYBRID_MULTIPART_VALUE) {
            return NGX_HYBRID_MULTIPART_LONG;
        }

        mp->start = mp->data;
        mp->end = end;
        mp->len = (uint16_t) (end - mp->data);
    }

    mp->state = sw_after;

    return NGX_HYBRID_MULTIPART_VALID;
}


static ngx_hybrid_multipart_error_e
ngx_hybrid_multipart_step(ngx_hybrid_multipart_t *mp, u_char ch)
{
    switch (mp->state) {

    case sw_first:
        if (ch != mp->delimiter[mp->matched]) {
            return NGX_HYBRID_MULTIPART_START;
        }

        if (++mp->matched == mp->length) {
            mp->state = sw_after;
        }

        break;

    case sw_after:
        if (ch != CR && ch != '-') {
            return NGX_HYBRID_MULTIPART_MISPLACED;
        }

        mp->state = (ch == CR) ? sw_after_lf : sw_last_dash;
        break;

    case sw_after_lf:
        if (ch != LF) {
            return NGX_HYBRID_MULTIPART_MISPLACED;
        }

        mp->declared = -1;
        mp->line = 0;
        mp->headers = 0;
        mp->model = 0;
        mp->disposition = 0;
        mp->type = 0;
        mp->file = 0;
        mp->plain = 1;
        mp->state = sw_header;
        break;

    case sw_header:
        if (ch == CR) {
            mp->state = sw_header_lf;
            break;
        }

        if (ch < 0x20 || ch == 0x7f) {
            return NGX_HYBRID_MULTIPART_HEADER;
        }

        if (mp->line == NGX_HYBRID_MULTIPART_LINE) {
            return NGX_HYBRID_MULTIPART_MANY;
        }

        mp->text[mp->line++] = ch;
        break;

    case sw_header_lf:
        if (ch != LF) {
            return NGX_HYBRID_MULTIPART_HEADER;
        }

        if (mp->line == 0) {
            return ngx_hybrid_multipart_headers_end(mp);
        }

        mp->state = sw_header;
        return ngx_hybrid_multipart_header(mp);

    case sw_last_dash:
        if (ch != '-') {
            return NGX_HYBRID_MULTIPART_MISPLACED;
        }

        mp->state = sw_end;
        break;

    case sw_end:
        if (ch != CR) {
            return NGX_HYBRID_MULTIPART_TRAILING;
        }

        mp->state = sw_end_lf;
        break;

    case sw_end_lf:
        if (ch != LF) {
            return NGX_HYBRID_MULTIPART_TRAILING;
        }

        mp->state = sw_done;
        break;

    default: /* sw_done */
        return NGX_HYBRID_MULTIPART_TRAILING;
    }

    return NGX_HYBRID_MULTIPART_VALID;
}


static ngx_hybrid_multipart_error_e
ngx_hybrid_multipart_headers_end(ngx_hybrid_multipart_t *mp)
{
    if (!mp->disposition) {
        return NGX_HYBRID_MULTIPART_DISPOSITION;
    }

    /* a length would be wrong when the gateway puts another name there */

    if (mp->model && (mp->file || !mp->plain || mp->declared != -1)) {
        return NGX_HYBRID_MULTIPART_FILE;
    }

    mp->matched = 0;
    mp->dashes = 0;
    mp->data = 0;
    mp->state = sw_data;

    return NGX_HYBRID_MULTIPART_VALID;
}
