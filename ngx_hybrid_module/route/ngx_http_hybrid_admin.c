
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * hybrid_admin: who may is decided by hybrid_access and the verb "admin", and
 * asked here again; bodies are small, JSON, and read strictly, for a member
 * that is misspelled must not make a path into a whole backend.
 */


#include "ngx_http_hybrid_conf.h"
#include "ngx_http_hybrid_admin.h"


static ngx_int_t ngx_http_hybrid_admin_handler(ngx_http_request_t *r);
static ngx_http_hybrid_resource_t *ngx_http_hybrid_admin_find(
    ngx_http_request_t *r);
static ngx_int_t ngx_http_hybrid_admin_start(ngx_http_hybrid_admin_t *admin);
static ngx_uint_t ngx_http_hybrid_admin_is_json(ngx_http_request_t *r);
static void ngx_http_hybrid_admin_body(ngx_http_request_t *r);
static ngx_int_t ngx_http_hybrid_admin_post(ngx_http_hybrid_admin_t *admin);
static ngx_int_t ngx_http_hybrid_admin_parse(ngx_http_hybrid_admin_t *admin,
    ngx_hybrid_json_t *js);
static ngx_int_t ngx_http_hybrid_admin_send(ngx_http_hybrid_admin_t *admin);


static ngx_http_hybrid_resource_t  ngx_http_hybrid_admin_resources[] = {

    { ngx_string("levers"), ngx_http_hybrid_lever_get,
      ngx_http_hybrid_lever_post, ngx_http_hybrid_lever_keys,
      NGX_HTTP_HYBRID_LEVER_KEYS },

    { ngx_string("limits"), ngx_http_hybrid_admin_limits_get,
      ngx_http_hybrid_admin_limits_post, ngx_http_hybrid_admin_limits_keys,
      NGX_HTTP_HYBRID_ADMIN_LIMITS_KEYS },

    { ngx_string("explain"), ngx_http_hybrid_explain_get, NULL, NULL, 0 },

    { ngx_string("top"), ngx_http_hybrid_top_get, NULL, NULL, 0 },

    { ngx_null_string, NULL, NULL, NULL, 0 }
};


static ngx_str_t  ngx_http_hybrid_admin_no_names[] = {
    ngx_null_string
};


char *
ngx_http_hybrid_admin(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_hybrid_loc_conf_t  *hlcf = conf;

    ngx_http_core_loc_conf_t     *clcf;
    ngx_http_hybrid_main_conf_t  *hmcf;

    if (hlcf->admin) {
        return "is duplicate";
    }

    hlcf->admin = 1;
    ngx_http_hybrid_conf_place(cf, &hlcf->admin_place);

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);
    clcf->handler = ngx_http_hybrid_admin_handler;

    hmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_hybrid_module);
    hmcf->defined = 1;
    hmcf->admin = 1;

    return NGX_CONF_OK;
}


/* when the location is merged */

char *
ngx_http_hybrid_admin_check(ngx_conf_t *cf, ngx_http_hybrid_loc_conf_t *hlcf)
{
    const char                *fault;
    ngx_http_core_loc_conf_t  *clcf;

    if (!hlcf->admin) {
        return NGX_CONF_OK;
    }

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    fault = NULL;

    if (hlcf->access & NGX_HTTP_HYBRID_ACCESS_OFF) {
        fault = "\"hybrid_admin\" needs \"hybrid_access\": only a client with "
                "the verb \"admin\" gets in";

    } else if (clcf->satisfy == NGX_HTTP_SATISFY_ANY) {
        fault = "\"hybrid_admin\" with \"satisfy any\": nobody gets in by "
                "address";

    } else if (clcf->handler != ngx_http_hybrid_admin_handler) {
        fault = "\"hybrid_admin\" and something else that answers are in one "
                "location";

    } else if (clcf->named || clcf->exact_match
#if (NGX_PCRE)
               || clcf->regex
#endif
               || clcf->name.len == 0
               || clcf->name.data[clcf->name.len - 1] != '/')
    {
        fault = "\"hybrid_admin\" needs a location that is a prefix and ends "
                "with \"/\"";
    }

    if (fault) {
        return ngx_http_hybrid_conf_error_at(cf, &hlcf->admin_place, "%s",
                                             fault);
    }

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_hybrid_admin_handler(ngx_http_request_t *r)
{
    ngx_int_t                 rc;
    ngx_str_t                 format;
    ngx_http_hybrid_ctx_t    *ctx;
    ngx_http_hybrid_admin_t  *admin;

    ctx = ngx_http_hybrid_get_ctx(r);

    /*
     * A subrequest or a redirect has passed another location's rules; and
     * in shadow mode refusals are let through, but not here.
     */

    if (r != r->main
        || ctx == NULL
        || ctx->client == NULL
        || ctx->verdict != NGX_OK
        || ctx->shadow
        || ctx->endpoint != ngx_http_hybrid_endpoint_admin()
        || !(ctx->client->verbs & NGX_HTTP_HYBRID_VERB_ADMIN))
    {
        return NGX_HTTP_FORBIDDEN;
    }

    admin = ngx_pcalloc(r->pool, sizeof(ngx_http_hybrid_admin_t));
    if (admin == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    admin->request = r;
    admin->ctx = ctx;
    ctx->view = admin;

    admin->resource = ngx_http_hybrid_admin_find(r);

    if (admin->resource == NULL) {
        return ngx_http_hybrid_refuse(ctx, NGX_HTTP_NOT_FOUND, "not_found",
                                      "there are only levers, limits, "
                                      "explain and top here");
    }

    if (ngx_http_arg(r, (u_char *) "format", 6, &format) == NGX_OK
        && format.len == 4 && ngx_memcmp(format.data, "text", 4) == 0)
    {
        admin->text = 1;
    }

    rc = ngx_http_hybrid_admin_start(admin);

    return rc == NGX_OK ? ngx_http_hybrid_admin_send(admin) : rc;
}


static ngx_http_hybrid_resource_t *
ngx_http_hybrid_admin_find(ngx_http_request_t *r)
{
    ngx_str_t                    rest;
    ngx_http_core_loc_conf_t    *clcf;
    ngx_http_hybrid_resource_t  *resource;

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    if (r->uri.len < clcf->name.len) {
        return NULL;
    }

    rest.data = r->uri.data + clcf->name.len;
    rest.len = r->uri.len - clcf->name.len;

    for (resource = ngx_http_hybrid_admin_resources;
         resource->name.len;
         resource++)
    {
        if (resource->name.len == rest.len
            && ngx_memcmp(resource->name.data, rest.data, rest.len) == 0)
        {
            return resource;
        }
    }

    return NULL;
}


static ngx_int_t
ngx_http_hybrid_admin_start(ngx_http_hybrid_admin_t *admin)
{
    ngx_int_t            rc;
    ngx_http_request_t  *r;

    r = admin->request;

    if (r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD)) {
        rc = ngx_http_discard_request_body(r);

        if (rc == NGX_OK) {
            rc = admin->resource->get(admin);
        }

        if (rc == NGX_AGAIN) {

            /* our reference is kept until ngx_http_hybrid_admin_done() */

            r->main->count++;
            ngx_http_hybrid_suspend(r);

            return NGX_DONE;
        }

        return rc;
    }

    if (r->method != NGX_HTTP_POST || admin->resource->post == NULL) {
        return ngx_http_hybrid_refuse(admin->ctx, NGX_HTTP_NOT_ALLOWED,
                                      "method",
                                      "the method is not allowed here");
    }

    /*
     * A page of another site can make a browser post a form or plain text,
     * with the user's certificate.
     */

    if (!ngx_http_hybrid_admin_is_json(r)) {
        return ngx_http_hybrid_refuse(admin->ctx,
                                      NGX_HTTP_UNSUPPORTED_MEDIA_TYPE,
                                      "content_type",
                                      "the Content-Type must be "
                                      "application/json");
    }

    if (r->headers_in.content_length_n > NGX_HTTP_HYBRID_ADMIN_BODY) {
        return NGX_HTTP_REQUEST_ENTITY_TOO_LARGE;
    }

    rc = ngx_http_read_client_request_body(r, ngx_http_hybrid_admin_body);

    return rc >= NGX_HTTP_SPECIAL_RESPONSE ? rc : NGX_DONE;
}


static ngx_uint_t
ngx_http_hybrid_admin_is_json(ngx_http_request_t *r)
{
    size_t      len;
    ngx_str_t  *type;

    if (r->headers_in.content_type == NULL) {
        return 0;
    }

    type = &r->headers_in.content_type->value;
    len = sizeof("application/json") - 1;

    return type->len >= len
           && ngx_strncasecmp(type->data, (u_char *) "application/json", len)
              == 0
           && (type->len == len || type->data[len] == ';'
               || type->data[len] == ' ');
}


static void
ngx_http_hybrid_admin_body(ngx_http_request_t *r)
{
    ngx_int_t                 rc;
    ngx_http_hybrid_ctx_t    *ctx;
    ngx_http_hybrid_admin_t  *admin;

    ctx = ngx_http_hybrid_get_ctx(r);
    admin = ctx->view;

    rc = ngx_http_hybrid_admin_post(admin);

    if (rc != NGX_AGAIN) {
        ngx_http_hybrid_admin_done(admin, rc);
        return;
    }

    /* until then, only that the client leaves is of interest */

    ngx_http_hybrid_suspend(r);
}


void
ngx_http_hybrid_admin_done(ngx_http_hybrid_admin_t *admin, ngx_int_t rc)
{
    if (rc == NGX_OK) {
        rc = ngx_http_hybrid_admin_send(admin);
    }

    ngx_http_finalize_request(admin->request, rc);
}


static ngx_int_t
ngx_http_hybrid_admin_post(ngx_http_hybrid_admin_t *admin)
{
    size_t               size;
    ngx_buf_t           *b;
    ngx_chain_t         *cl;
    ngx_hybrid_json_t   *js;
    ngx_http_request_t  *r;

    r = admin->request;

    js = ngx_palloc(r->pool, sizeof(ngx_hybrid_json_t));

    if (js == NULL
        || ngx_hybrid_json_init(js, admin->resource->keys,
                                admin->resource->nkeys, admin->values,
                                admin->arena, NGX_HTTP_HYBRID_ADMIN_BODY)
           != NGX_OK)
    {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_hybrid_json_measure(js, ngx_http_hybrid_admin_no_names);

    size = 0;

    for (cl = r->request_body ? r->request_body->bufs : NULL;
         cl;
         cl = cl->next)
    {
        b = cl->buf;
        size += b->last - b->pos;

        if (b->in_file || size > NGX_HTTP_HYBRID_ADMIN_BODY) {
            return NGX_HTTP_REQUEST_ENTITY_TOO_LARGE;
        }

        (void) ngx_hybrid_json_feed(js, b->pos, b->last - b->pos);
    }

    if (ngx_http_hybrid_admin_parse(admin, js) != NGX_OK) {
        return NGX_HTTP_BAD_REQUEST;
    }

    return admin->resource->post(admin);
}


static ngx_int_t
ngx_http_hybrid_admin_parse(ngx_http_hybrid_admin_t *admin,
    ngx_hybrid_json_t *js)
{
    ngx_uint_t                i, n;
    ngx_hybrid_json_key_t    *keys;
    ngx_hybrid_json_value_t  *value;

    if (ngx_hybrid_json_finish(js) != NGX_OK) {
        return ngx_http_hybrid_admin_refuse(admin, NGX_HTTP_BAD_REQUEST,
                   "invalid_body", "request body is refused: %s at byte %O",
                   ngx_hybrid_json_reason(js), js->offset);
    }

    keys = admin->resource->keys;
    n = 0;

    for (i = 0; i < admin->resource->nkeys; i++) {

        value = &admin->values[i];

        if (value->type == NGX_HYBRID_JSON_T_ABSENT) {
            continue;
        }

        n++;

        if (value->type != NGX_HYBRID_JSON_T_STRING || value->overflow) {
            return ngx_http_hybrid_admin_refuse(admin, NGX_HTTP_BAD_REQUEST,
                       "invalid_body", "\"%V\" must be a string of at most "
                       "%uz bytes", &keys[i].name, keys[i].size);
        }
    }

    if (n != js->ntop) {
        return ngx_http_hybrid_refuse(admin->ctx, NGX_HTTP_BAD_REQUEST,
                                      "invalid_body",
                                      "the body has a member that is not "
                                      "known here");
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_hybrid_admin_refuse(ngx_http_hybrid_admin_t *admin, ngx_int_t status,
    const char *reason, const char *fmt, ...)
{
    u_char   *p, buf[NGX_MAX_ERROR_STR];
    size_t    len;
    va_list   args;

    (void) ngx_http_hybrid_refuse(admin->ctx, status, reason, "");

    va_start(args, fmt);
    p = ngx_vslprintf(buf, buf + NGX_MAX_ERROR_STR, fmt, args);
    va_end(args);

    /* it becomes part of a JSON string, and may repeat what was posted */

    len = p - buf;

    p = ngx_pnalloc(admin->request->pool,
                    len + ngx_escape_json(NULL, buf, len));
    if (p == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    admin->ctx->message.data = p;
    admin->ctx->message.len = (u_char *) ngx_escape_json(p, buf, len) - p;

    return status;
}


static ngx_int_t
ngx_http_hybrid_admin_send(ngx_http_hybrid_admin_t *admin)
{
    ngx_str_t                  type;
    ngx_http_request_t        *r;
    ngx_http_complex_value_t   cv;

    r = admin->request;

    ngx_memzero(&cv, sizeof(ngx_http_complex_value_t));
    cv.value = admin->answer;

    if (admin->text) {
        ngx_str_set(&type, "text/plain; charset=utf-8");

    } else {
        ngx_str_set(&type, "application/json");
    }

    r->disable_not_modified = 1;

    return ngx_http_send_response(r, NGX_HTTP_OK, &type, &cv);
}
