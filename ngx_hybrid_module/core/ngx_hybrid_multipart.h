
/*
 * A resumable, strict and bounded scanner of one multipart/form-data body
 * (RFC 7578, RFC 2046 5.1): it looks at every byte, allocates nothing, and
 * finds the field "model".
 */


#ifndef _NGX_HYBRID_MULTIPART_H_INCLUDED_
#define _NGX_HYBRID_MULTIPART_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


#define NGX_HYBRID_MULTIPART_BOUNDARY  70
#define NGX_HYBRID_MULTIPART_HEADERS   8     /* of a part */
#define NGX_HYBRID_MULTIPART_LINE      512
#define NGX_HYBRID_MULTIPART_VALUE     256


typedef enum {
    NGX_HYBRID_MULTIPART_VALID = 0,
    NGX_HYBRID_MULTIPART_TYPE,
    NGX_HYBRID_MULTIPART_START,
    NGX_HYBRID_MULTIPART_MISPLACED,
    NGX_HYBRID_MULTIPART_INCOMPLETE,
    NGX_HYBRID_MULTIPART_TRAILING,
    NGX_HYBRID_MULTIPART_HEADER,
    NGX_HYBRID_MULTIPART_MANY,
    NGX_HYBRID_MULTIPART_DISPOSITION,
    NGX_HYBRID_MULTIPART_ENCODING,
    NGX_HYBRID_MULTIPART_LENGTH,
    NGX_HYBRID_MULTIPART_AMBIGUOUS,
    NGX_HYBRID_MULTIPART_FILE,
    NGX_HYBRID_MULTIPART_LONG
} ngx_hybrid_multipart_error_e;


/*
 * What was found is to be trusted only after ngx_hybrid_multipart_finish()
 * has returned NGX_OK.
 */

typedef struct {
    /* the field "model": counted, and where it is in the body */
    off_t        start;
    off_t        end;
    uint16_t     len;
    u_char       value[NGX_HYBRID_MULTIPART_VALUE];

    off_t        offset;      /* of the next byte, then of the error */
    u_char       error;       /* ngx_hybrid_multipart_error_e */
    u_char       state;

    u_char       matched;     /* of CR LF "--" boundary */
    u_char       dashes;      /* of "--" boundary */
    u_char       length;      /* of the former */

    /* the part being read */
    off_t        data;        /* where its data starts */
    off_t        declared;    /* Content-Length, or -1 */
    uint16_t     kept;
    uint16_t     line;        /* bytes of the header line */
    u_char       headers;

    unsigned     found:1;     /* the field was there */
    unsigned     model:1;     /* the part is the field */
    unsigned     disposition:1;
    unsigned     type:1;
    unsigned     file:1;
    unsigned     plain:1;     /* its Content-Type means bytes as they are */

    u_char       delimiter[4 + NGX_HYBRID_MULTIPART_BOUNDARY];
    u_char       fallback[2 + NGX_HYBRID_MULTIPART_BOUNDARY];
    u_char       text[NGX_HYBRID_MULTIPART_LINE];
} ngx_hybrid_multipart_t;


/* NGX_ERROR: the Content-Type is not that of one form */
ngx_int_t ngx_hybrid_multipart_init(ngx_hybrid_multipart_t *mp,
    ngx_str_t *type);

/* any number of pieces of any length; NGX_ERROR stays */
ngx_int_t ngx_hybrid_multipart_feed(ngx_hybrid_multipart_t *mp, u_char *p,
    size_t len);
ngx_int_t ngx_hybrid_multipart_finish(ngx_hybrid_multipart_t *mp);

const char *ngx_hybrid_multipart_reason(ngx_hybrid_multipart_t *mp);

/* between the files of the scanner */
ngx_hybrid_multipart_error_e ngx_hybrid_multipart_header(
    ngx_hybrid_multipart_t *mp);
ngx_uint_t ngx_hybrid_multipart_is_alnum(u_char ch);
ngx_uint_t ngx_hybrid_multipart_same(u_char *p, const char *s, size_t len);


#endif /* _NGX_HYBRID_MULTIPART_H_INCLUDED_ */
