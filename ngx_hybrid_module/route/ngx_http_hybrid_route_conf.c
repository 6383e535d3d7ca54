
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Routes and backends at the end of http{}: who is meant, and what can't be.
 */


#include "ngx_http_hybrid_conf.h"
#include "ngx_http_hybrid_certificate.h"


static ngx_int_t ngx_http_hybrid_route_backends(ngx_conf_t *cf,
    ngx_http_hybrid_main_conf_t *hmcf);
static ngx_int_t ngx_http_hybrid_route_host(ngx_conf_t *cf,
    ngx_http_hybrid_backend_t *backend);
static ngx_int_t ngx_http_hybrid_route_groups(ngx_conf_t *cf,
    ngx_http_hybrid_main_conf_t *hmcf, ngx_http_hybrid_route_t *route);
static ngx_int_t ngx_http_hybrid_route_group(ngx_conf_t *cf,
    ngx_http_hybrid_main_conf_t *hmcf, ngx_http_hybrid_route_t *route,
    ngx_str_t *word);
static ngx_int_t ngx_http_hybrid_route_discovered(ngx_conf_t *cf,
    ngx_http_hybrid_main_conf_t *hmcf, ngx_http_hybrid_route_t *route,
    ngx_http_hybrid_group_t *group);
static ngx_uint_t ngx_http_hybrid_route_names(ngx_http_hybrid_route_t *route,
    ngx_http_hybrid_backend_t *backend);
static ngx_http_hybrid_backend_t *ngx_http_hybrid_route_backend(
    ngx_http_hybrid_main_conf_t *hmcf, u_char *name, size_t len);
static ngx_int_t ngx_http_hybrid_route_check(ngx_conf_t *cf,
    ngx_http_hybrid_route_t *route);
static ngx_int_t ngx_http_hybrid_route_sort(ngx_conf_t *cf,
    ngx_http_hybrid_main_conf_t *hmcf);
static ngx_int_t ngx_http_hybrid_route_compare(const void *one,
    const void *two);


ngx_int_t
ngx_http_hybrid_route_init(ngx_conf_t *cf, ngx_http_hybrid_main_conf_t *hmcf)
{
    ngx_uint_t                 i;
    ngx_http_hybrid_route_t  **routes;

    if (ngx_http_hybrid_route_backends(cf, hmcf) != NGX_OK) {
        return NGX_ERROR;
    }

    routes = hmcf->routes.elts;

    for (i = 0; i < hmcf->routes.nelts; i++) {
        if (ngx_http_hybrid_route_groups(cf, hmcf, routes[i]) != NGX_OK
            || ngx_http_hybrid_route_check(cf, routes[i]) != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    return ngx_http_hybrid_route_sort(cf, hmcf);
}


static ngx_int_t
ngx_http_hybrid_route_backends(ngx_conf_t *cf,
    ngx_http_hybrid_main_conf_t *hmcf)
{
    ngx_uint_t                   i, j;
    ngx_http_hybrid_backend_t  **backends, *a, *b;

    backends = hmcf->backends.elts;

    for (i = 0; i < hmcf->backends.nelts; i++) {
        a = backends[i];

        if (ngx_http_hybrid_route_host(cf, a) != NGX_OK) {
            return NGX_ERROR;
        }

        /* idle connections are found by address alone */

        for (j = 0; j < i; j++) {
            b = backends[j];

            if (a->upstream == b->upstream
                && (a->ssl != b->ssl
                    || !ngx_http_hybrid_certificate_same(a->certificate,
                                                         b->certificate)
                    || (a->ssl
                        && (a->host.len != b->host.len
                            || ngx_strncasecmp(a->host.data, b->host.data,
                                               a->host.len)
                               != 0))))
            {
                ngx_http_hybrid_conf_error_at(cf, &a->place,
                       "backends \"%V\" and \"%V\" share upstream \"%V\" but "
                       "not its TLS identity: give each its own upstream",
                       &a->name, &b->name, &a->upstream->host);
                return NGX_ERROR;
            }
        }
    }

    return NGX_OK;
}


/* the Host that a backend expects when none is configured */

static ngx_int_t
ngx_http_hybrid_route_host(ngx_conf_t *cf, ngx_http_hybrid_backend_t *backend)
{
    ngx_uint_t  named;

    named = backend->upstream->flags & NGX_HTTP_UPSTREAM_CREATE;

    if (backend->host_set || (backend->host.len && !named)) {
        return NGX_OK;
    }

    if (backend->ssl) {
        ngx_http_hybrid_conf_error_at(cf, &backend->place,
                       "backend \"%V\" needs \"host\": the name to send, to "
                       "ask for and to verify with TLS", &backend->name);
        return NGX_ERROR;
    }

    if (backend->api == ngx_http_hybrid_api_ollama) {

        /* Ollama on loopback refuses names that it does not know */

        ngx_str_set(&backend->host, "localhost:11434");

    } else {
        backend->host = backend->upstream->host;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_hybrid_route_groups(ngx_conf_t *cf,
    ngx_http_hybrid_main_conf_t *hmcf, ngx_http_hybrid_route_t *route)
{
    ngx_str_t   *words;
    ngx_uint_t   i;

    words = route->words.elts;

    if (ngx_array_init(&route->groups, cf->pool, route->words.nelts,
                       sizeof(ngx_http_hybrid_group_t))
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    for (i = 0; i < route->words.nelts; i++) {
        if (ngx_http_hybrid_route_group(cf, hmcf, route, &words[i]) != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


/* a word is a list of equals: "forge,anvil" */

static ngx_int_t
ngx_http_hybrid_route_group(ngx_conf_t *cf, ngx_http_hybrid_main_conf_t *hmcf,
    ngx_http_hybrid_route_t *route, ngx_str_t *word)
{
    u_char                     *p, *last, *comma;
    ngx_str_t                   name;
    ngx_http_hybrid_group_t    *group;
    ngx_http_hybrid_backend_t  *backend;

    group = ngx_array_push(&route->groups);
    if (group == NULL) {
        return NGX_ERROR;
    }

    group->n = 0;
    group->discovered = 0;
    group->backends = ngx_palloc(cf->pool, (word->len / 2 + 1)
                                           * sizeof(void *));
    if (group->backends == NULL) {
        return NGX_ERROR;
    }

    if (word->len == sizeof("discovered") - 1
        && ngx_strncmp(word->data, "discovered", word->len) == 0)
    {
        return ngx_http_hybrid_route_discovered(cf, hmcf, route, group);
    }

    p = word->data;
    last = p + word->len;

    for ( ;; ) {
        comma = ngx_strlchr(p, last, ',');

        name.data = p;
        name.len = (comma ? comma : last) - p;

        if (name.len == 0) {
            ngx_http_hybrid_conf_error_at(cf, &route->place,
                       "\"%V\" in hybrid_route: equals are written with a "
                       "comma and no space, \"forge,anvil\"", word);
            return NGX_ERROR;
        }

        backend = ngx_http_hybrid_route_backend(hmcf, name.data, name.len);

        if (backend == NULL) {
            ngx_http_hybrid_conf_error_at(cf, &route->place,
                       "unknown backend \"%V\" in hybrid_route: there is no "
                       "hybrid_backend of this name", &name);
            return NGX_ERROR;
        }

        if (ngx_http_hybrid_route_names(route, backend)) {
            ngx_http_hybrid_conf_error_at(cf, &route->place,
                       "backend \"%V\" stands twice in hybrid_route",
                       &name);
            return NGX_ERROR;
        }

        group->backends[group->n++] = backend;
        route->max++;

        if (comma == NULL) {
            return NGX_OK;
        }

        p = comma + 1;
    }
}


/* all that have a list of their own; it is asked when a request comes */

static ngx_int_t
ngx_http_hybrid_route_discovered(ngx_conf_t *cf,
    ngx_http_hybrid_main_conf_t *hmcf, ngx_http_hybrid_route_t *route,
    ngx_http_hybrid_group_t *group)
{
    ngx_uint_t                   i;
    ngx_http_hybrid_backend_t  **backends;

    backends = hmcf->backends.elts;

    group->discovered = 1;
    group->backends = ngx_palloc(cf->pool,
                                 hmcf->backends.nelts * sizeof(void *));
    if (group->backends == NULL) {
        return NGX_ERROR;
    }

    for (i = 0; i < hmcf->backends.nelts; i++) {
        if (backends[i]->probe.on) {
            group->backends[group->n++] = backends[i];
            route->max++;
        }
    }

    if (group->n == 0) {
        ngx_http_hybrid_conf_error_at(cf, &route->place,
                       "\"discovered\" in hybrid_route, but no "
                       "hybrid_backend is probed: none can say what it has");
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_uint_t
ngx_http_hybrid_route_names(ngx_http_hybrid_route_t *route,
    ngx_http_hybrid_backend_t *backend)
{
    ngx_uint_t                g, i;
    ngx_http_hybrid_group_t  *groups;

    groups = route->groups.elts;

    for (g = 0; g < route->groups.nelts; g++) {
        for (i = 0; i < groups[g].n && !groups[g].discovered; i++) {
            if (groups[g].backends[i] == backend) {
                return 1;
            }
        }
    }

    return 0;
}


static ngx_http_hybrid_backend_t *
ngx_http_hybrid_route_backend(ngx_http_hybrid_main_conf_t *hmcf, u_char *name,
    size_t len)
{
    ngx_uint_t                   i;
    ngx_http_hybrid_backend_t  **backends;

    backends = hmcf->backends.elts;

    for (i = 0; i < hmcf->backends.nelts; i++) {
        if (backends[i]->name.len == len
            && ngx_memcmp(backends[i]->name.data, name, len) == 0)
        {
            return backends[i];
        }
    }

    return NULL;
}


/* a route for one model that none of its backends has can never be right */

static ngx_int_t
ngx_http_hybrid_route_check(ngx_conf_t *cf, ngx_http_hybrid_route_t *route)
{
    ngx_uint_t                 g, i;
    ngx_hybrid_model_t         model;
    ngx_http_hybrid_group_t   *groups;
    ngx_http_hybrid_rename_t  *rename;

    if (!route->pattern.exact) {
        return NGX_OK;
    }

    model.name = route->pattern.text;
    model.brief = route->pattern.brief;
    model.cloud = route->pattern.cloud;

    groups = route->groups.elts;

    for (g = 0; g < route->groups.nelts; g++) {
        for (i = 0; i < groups[g].n; i++) {
            if (ngx_http_hybrid_backend_has(groups[g].backends[i], &model,
                                            &rename))
            {
                return NGX_OK;
            }
        }
    }

    ngx_http_hybrid_conf_error_at(cf, &route->place,
                       "no backend of the route for \"%V\" has this model: "
                       "add it to \"models\" or \"rename\" of one",
                       &route->pattern.brief);

    return NGX_ERROR;
}


static ngx_int_t
ngx_http_hybrid_route_sort(ngx_conf_t *cf, ngx_http_hybrid_main_conf_t *hmcf)
{
    ngx_uint_t                 i;
    ngx_hybrid_pattern_t      *a, *b;
    ngx_http_hybrid_route_t  **routes;

    routes = hmcf->routes.elts;

    ngx_sort(routes, hmcf->routes.nelts, sizeof(void *),
             ngx_http_hybrid_route_compare);

    for (i = 1; i < hmcf->routes.nelts; i++) {
        a = &routes[i - 1]->pattern;
        b = &routes[i]->pattern;

        if (a->text.len == b->text.len
            && ngx_memcmp(a->text.data, b->text.data, a->text.len) == 0)
        {
            ngx_http_hybrid_conf_error_at(cf, &routes[i]->place,
                       "duplicate hybrid_route \"%V\"", &b->brief);
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_hybrid_route_compare(const void *one, const void *two)
{
    ngx_int_t                 rc;
    ngx_http_hybrid_route_t  *a, *b;

    a = *(ngx_http_hybrid_route_t **) one;
    b = *(ngx_http_hybrid_route_t **) two;

    rc = ngx_hybrid_pattern_compare(&b->pattern, &a->pattern);

    if (rc) {
        return rc;
    }

    /* equal patterns become neighbours */

    return ngx_memcmp(a->pattern.text.data, b->pattern.text.data,
                      a->pattern.text.len);
}
