
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * URLs that name a model: of the Gemini API and of Vertex AI.
 *
 *     /v1beta/models/MODEL:ACTION
 *     /v1beta1/projects/P/locations/L/publishers/PUBLISHER/models/MODEL:ACTION
 *
 * both also with "v1".  The policy and the routes know the model as
 * PUBLISHER/MODEL, of the Gemini API as google/MODEL.
 */


#include "ngx_http_hybrid_module.h"


typedef struct {
    ngx_str_t                  name;     /* with its colon */
    ngx_uint_t                 clouds;   /* that have it */
    ngx_http_hybrid_dialect_e  dialect;
    ngx_uint_t                 sse;
} ngx_http_hybrid_action_t;


static const ngx_http_hybrid_action_t *ngx_http_hybrid_google_parse(
    ngx_str_t *path, ngx_http_hybrid_google_t *google);
static ngx_uint_t ngx_http_hybrid_google_skip(u_char **p, u_char *last,
    const char *text);
static ngx_uint_t ngx_http_hybrid_google_segment(u_char **p, u_char *last,
    const char *extra, ngx_str_t *segment);
static ngx_uint_t ngx_http_hybrid_google_names(
    ngx_http_hybrid_google_t *google, ngx_hybrid_json_value_t *value);


#define NGX_HTTP_HYBRID_GOOGLE_BOTH                                           \
    (NGX_HTTP_HYBRID_GEMINI|NGX_HTTP_HYBRID_VERTEX)

#define NGX_HTTP_HYBRID_SEGMENT_MAX  128


static const ngx_http_hybrid_endpoint_t  ngx_http_hybrid_google_endpoint =
    { NGX_HTTP_POST, ngx_string("/v1beta/models/"),
      NGX_HTTP_HYBRID_VERB_INFERENCE, ngx_http_hybrid_model_google,
      ngx_http_hybrid_dialect_google };

static const ngx_http_hybrid_endpoint_t  ngx_http_hybrid_google_raw_endpoint =
    { NGX_HTTP_POST, ngx_string("/v1/projects/"),
      NGX_HTTP_HYBRID_VERB_INFERENCE, ngx_http_hybrid_model_google,
      ngx_http_hybrid_dialect_anthropic };


static const ngx_http_hybrid_action_t  ngx_http_hybrid_actions[] = {

    { ngx_string(":generateContent"), NGX_HTTP_HYBRID_GOOGLE_BOTH,
      ngx_http_hybrid_dialect_google, 0 },

    { ngx_string(":streamGenerateContent"), NGX_HTTP_HYBRID_GOOGLE_BOTH,
      ngx_http_hybrid_dialect_google, 1 },

    { ngx_string(":countTokens"), NGX_HTTP_HYBRID_GOOGLE_BOTH,
      ngx_http_hybrid_dialect_google, 0 },

    { ngx_string(":embedContent"), NGX_HTTP_HYBRID_GEMINI,
      ngx_http_hybrid_dialect_google, 0 },

    { ngx_string(":batchEmbedContents"), NGX_HTTP_HYBRID_GEMINI,
      ngx_http_hybrid_dialect_google, 0 },

    { ngx_string(":predict"), NGX_HTTP_HYBRID_VERTEX,
      ngx_http_hybrid_dialect_google, 0 },

    { ngx_string(":rawPredict"), NGX_HTTP_HYBRID_VERTEX,
      ngx_http_hybrid_dialect_anthropic, 0 },

    { ngx_string(":streamRawPredict"), NGX_HTTP_HYBRID_VERTEX,
      ngx_http_hybrid_dialect_anthropic, 0 },

    { ngx_null_string, 0, ngx_http_hybrid_dialect_google, 0 }
};


const ngx_http_hybrid_endpoint_t *
ngx_http_hybrid_google_find(ngx_str_t *path)
{
    ngx_http_hybrid_google_t         google;
    const ngx_http_hybrid_action_t  *action;

    action = ngx_http_hybrid_google_parse(path, &google);

    if (action == NULL) {
        return NULL;
    }

    return action->dialect == ngx_http_hybrid_dialect_google
           ? &ngx_http_hybrid_google_endpoint
           : &ngx_http_hybrid_google_raw_endpoint;
}


/*
 * A query can change the answer's form, hold a key, or name fields in another
 * way: one that is well known goes on, as a constant.
 */

ngx_int_t
ngx_http_hybrid_google_init(ngx_http_request_t *r, ngx_http_hybrid_ctx_t *ctx)
{
    u_char                          *p, *buf;
    ngx_str_t                        query, text;
    ngx_http_hybrid_google_t        *google;
    const ngx_http_hybrid_action_t  *action;

    static ngx_str_t  sse = ngx_string("?alt=sse");

    google = ngx_pcalloc(r->pool, sizeof(ngx_http_hybrid_google_t));
    buf = ngx_pnalloc(r->pool, NGX_HYBRID_MODEL_BUF);
    text.data = ngx_pnalloc(r->pool, 2 * NGX_HTTP_HYBRID_SEGMENT_MAX + 1);

    if (google == NULL || buf == NULL || text.data == NULL) {
        return ngx_http_hybrid_refuse(ctx, NGX_HTTP_INTERNAL_SERVER_ERROR,
                                      "internal", "internal error");
    }

    action = ngx_http_hybrid_google_parse(&ctx->path, google);

    if (action == NULL) {
        return ngx_http_hybrid_refuse(ctx, NGX_HTTP_FORBIDDEN, "endpoint",
                                      "this endpoint is not available");
    }

    ctx->google = google;

    query.data = ctx->path.data + ctx->path.len;
    query.len = r->unparsed_uri.len - ctx->path.len;

    if (query.len) {

        if (!action->sse || query.len != sse.len
            || ngx_memcmp(query.data, sse.data, sse.len) != 0)
        {
            return ngx_http_hybrid_refuse(ctx, NGX_HTTP_BAD_REQUEST, "query",
                                          "the query may only be alt=sse of "
                                          "a stream, a key belongs into "
                                          "x-goog-api-key");
        }

        google->sse = 1;
    }

    p = ngx_cpymem(text.data, google->publisher.data, google->publisher.len);
    *p++ = '/';
    p = ngx_cpymem(p, google->model.data, google->model.len);
    text.len = p - text.data;

    /* "library/" would be dropped, and the model be another one */

    if (ngx_hybrid_model_parse(&ctx->model, &text, buf) != NGX_OK
        || ctx->model.brief.len <= google->publisher.len
        || ngx_memcmp(ctx->model.brief.data, google->publisher.data,
                      google->publisher.len)
           != 0
        || ctx->model.brief.data[google->publisher.len] != '/')
    {
        return ngx_http_hybrid_refuse(ctx, NGX_HTTP_BAD_REQUEST,
                                      "invalid_model",
                                      "the model's name is not valid");
    }

    return NGX_OK;
}


/* only what needs no decoding: no reader can see another path */

static const ngx_http_hybrid_action_t *
ngx_http_hybrid_google_parse(ngx_str_t *path, ngx_http_hybrid_google_t *google)
{
    u_char                          *p, *last;
    ngx_uint_t                       cloud;
    const ngx_http_hybrid_action_t  *action;

    p = path->data;
    last = p + path->len;

    if (ngx_http_hybrid_google_skip(&p, last, "/v1beta/models/")
        || ngx_http_hybrid_google_skip(&p, last, "/v1/models/"))
    {
        cloud = NGX_HTTP_HYBRID_GEMINI;
        ngx_str_set(&google->publisher, "google");

    } else {
        cloud = NGX_HTTP_HYBRID_VERTEX;

        if ((!ngx_http_hybrid_google_skip(&p, last, "/v1/projects/")
             && !ngx_http_hybrid_google_skip(&p, last, "/v1beta1/projects/"))
            || !ngx_http_hybrid_google_segment(&p, last, "-.:", NULL)
            || !ngx_http_hybrid_google_skip(&p, last, "/locations/")
            || !ngx_http_hybrid_google_segment(&p, last, "-", NULL)
            || !ngx_http_hybrid_google_skip(&p, last, "/publishers/")
            || !ngx_http_hybrid_google_segment(&p, last, "-",
                                               &google->publisher)
            || !ngx_http_hybrid_google_skip(&p, last, "/models/"))
        {
            return NULL;
        }
    }

    if (!ngx_http_hybrid_google_segment(&p, last, "-._@", &google->model)) {
        return NULL;
    }

    google->action.data = p;
    google->action.len = last - p;

    for (action = ngx_http_hybrid_actions; action->name.len; action++) {

        if (action->name.len == google->action.len
            && ngx_memcmp(action->name.data, p, action->name.len) == 0)
        {
            google->clouds = action->clouds;
            return action->clouds & cloud ? action : NULL;
        }
    }

    return NULL;
}


static ngx_uint_t
ngx_http_hybrid_google_skip(u_char **p, u_char *last, const char *text)
{
    size_t  len;

    len = ngx_strlen(text);

    if ((size_t) (last - *p) < len || ngx_memcmp(*p, text, len) != 0) {
        return 0;
    }

    *p += len;

    return 1;
}


/* letters, digits, and of the others none at the start */

static ngx_uint_t
ngx_http_hybrid_google_segment(u_char **p, u_char *last, const char *extra,
    ngx_str_t *segment)
{
    u_char  *s, *start;

    start = *p;

    for (s = start; s < last; s++) {

        if ((*s >= 'a' && *s <= 'z') || (*s >= '0' && *s <= '9')
            || (*s >= 'A' && *s <= 'Z'))
        {
            continue;
        }

        /* a colon at the end is the action's, where there is one */

        if (s == start || *s == '\0' || ngx_strchr(extra, *s) == NULL) {
            break;
        }
    }

    if (s == start || s - start > NGX_HTTP_HYBRID_SEGMENT_MAX - 1) {
        return 0;
    }

    if (segment) {
        segment->data = start;
        segment->len = s - start;
    }

    *p = s;

    return 1;
}


/* a body may name the model once more, but no other one */

ngx_int_t
ngx_http_hybrid_google_body(ngx_http_request_t *r, ngx_http_hybrid_ctx_t *ctx)
{
    ngx_hybrid_json_value_t   *values, *model, *requests;
    ngx_http_hybrid_google_t  *google;

    google = ctx->google;
    values = ctx->body->values;

    model = &values[NGX_HTTP_HYBRID_KEY_MODEL];
    requests = &values[NGX_HTTP_HYBRID_KEY_REQUESTS];

    if ((model->type != NGX_HYBRID_JSON_T_ABSENT
         && model->type != NGX_HYBRID_JSON_T_NULL
         && (model->type != NGX_HYBRID_JSON_T_STRING
             || model->end - model->start != model->len + 2
             || !ngx_http_hybrid_google_names(google, model)))
        || (requests->len && !ngx_http_hybrid_google_names(google, requests))
        || requests->found
        || (requests->type != NGX_HYBRID_JSON_T_ABSENT
            && requests->type != NGX_HYBRID_JSON_T_NULL
            && requests->type != NGX_HYBRID_JSON_T_ARRAY)
        || values[NGX_HTTP_HYBRID_KEY_CONTENT_REQUEST].type
        || values[NGX_HTTP_HYBRID_KEY_CONTENT_REQUEST + 1].type)
    {
        return ngx_http_hybrid_refuse(ctx, NGX_HTTP_BAD_REQUEST,
                                      "ambiguous_model",
                                      "the body must not name another model "
                                      "than the path");
    }

    /* what a rename replaces is the model alone */

    if (model->type == NGX_HYBRID_JSON_T_STRING) {
        model->start = model->end - 2 - (off_t) google->model.len;
    }

    ctx->key = NGX_HTTP_HYBRID_KEY_MODEL;

    return NGX_OK;
}


/* MODEL, models/MODEL, PUBLISHER/MODEL, publishers/PUBLISHER/models/MODEL */

static ngx_uint_t
ngx_http_hybrid_google_names(ngx_http_hybrid_google_t *google,
    ngx_hybrid_json_value_t *value)
{
    u_char  *p, *last;

    p = value->data;
    last = p + value->len;

    if (value->overflow) {
        return 0;
    }

    if (ngx_http_hybrid_google_skip(&p, last, "publishers/")) {

        if ((size_t) (last - p) <= google->publisher.len
            || ngx_memcmp(p, google->publisher.data, google->publisher.len)
               != 0)
        {
            return 0;
        }

        p += google->publisher.len;

        if (!ngx_http_hybrid_google_skip(&p, last, "/models/")) {
            return 0;
        }

    } else if (!ngx_http_hybrid_google_skip(&p, last, "models/")
               && (size_t) (last - p) > google->publisher.len
               && p[google->publisher.len] == '/'
               && ngx_memcmp(p, google->publisher.data, google->publisher.len)
                  == 0)
    {
        p += google->publisher.len + 1;
    }

    return (size_t) (last - p) == google->model.len
           && ngx_memcmp(p, google->model.data, google->model.len) == 0;
}
