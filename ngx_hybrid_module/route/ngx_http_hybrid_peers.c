
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Which peers an upstream has, and which path each of them is.
 */


#include "ngx_http_hybrid_conf.h"
#include "ngx_http_hybrid_peers.h"


static ngx_int_t ngx_http_hybrid_peers_add(ngx_conf_t *cf,
    ngx_http_hybrid_main_conf_t *hmcf, ngx_http_hybrid_backend_t *backend);
static ngx_http_hybrid_peers_t *ngx_http_hybrid_peers_create(ngx_conf_t *cf,
    ngx_http_upstream_srv_conf_t *upstream, ngx_uint_t resolver);
static ngx_int_t ngx_http_hybrid_peers_name(ngx_conf_t *cf,
    ngx_http_hybrid_peers_t *peers, ngx_str_t *server, in_port_t port,
    ngx_uint_t resolver);
static ngx_int_t ngx_http_hybrid_peers_docs(
    ngx_http_hybrid_main_conf_t *hmcf);
static ngx_int_t ngx_http_hybrid_peers_paths(ngx_http_hybrid_main_conf_t *hmcf,
    ngx_http_hybrid_backend_t *backend);
static void ngx_http_hybrid_walk_label(ngx_http_hybrid_walk_t *w,
    ngx_http_upstream_rr_peer_t *peer);


ngx_int_t
ngx_http_hybrid_peers_init(ngx_conf_t *cf, ngx_http_hybrid_main_conf_t *hmcf)
{
    ngx_uint_t                   i;
    ngx_http_hybrid_backend_t  **backends;

    if (ngx_array_init(&hmcf->peers, cf->pool, 4, sizeof(void *)) != NGX_OK) {
        return NGX_ERROR;
    }

    backends = hmcf->backends.elts;

    for (i = 0; i < hmcf->backends.nelts; i++) {
        if (ngx_http_hybrid_peers_add(cf, hmcf, backends[i]) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_hybrid_peers_add(ngx_conf_t *cf, ngx_http_hybrid_main_conf_t *hmcf,
    ngx_http_hybrid_backend_t *backend)
{
    ngx_uint_t                      i;
    ngx_http_hybrid_peers_t        *peers, **all;
    ngx_http_hybrid_backend_t     **place;
    ngx_http_upstream_rr_peers_t   *list;

    list = backend->upstream->peer.data;

    /*
     * Only round robin's own data points back to the upstream here; nginx's
     * other balancers, and "keepalive", keep that.  It is told before a zone
     * takes its place.
     */

    if (list == NULL || list->name != &backend->upstream->host) {

        if (backend->discover) {
            (void) ngx_http_hybrid_conf_error_at(cf, &backend->place,
                       "backend \"%V\" has \"models discover\", but its "
                       "upstream has a foreign balancer and can't be probed",
                       &backend->name);
            return NGX_ERROR;
        }

        if (backend->probe.on) {
            ngx_log_error(NGX_LOG_WARN, cf->log, 0,
                          "upstream \"%V\" has a foreign balancer: backend "
                          "\"%V\" can't be probed",
                          &backend->upstream->host, &backend->name);
        }

        backend->probe.on = 0;

        return NGX_OK;
    }

    all = hmcf->peers.elts;
    peers = NULL;

    for (i = 0; i < hmcf->peers.nelts; i++) {
        if (all[i]->upstream == backend->upstream) {
            peers = all[i];
            break;
        }
    }

    if (peers == NULL) {
        peers = ngx_http_hybrid_peers_create(cf, backend->upstream,
                                             hmcf->resolver != NULL);
        all = ngx_array_push(&hmcf->peers);

        if (peers == NULL || all == NULL) {
            return NGX_ERROR;
        }

        *all = peers;
    }

    place = ngx_array_push(&peers->backends);
    if (place == NULL) {
        return NGX_ERROR;
    }

    *place = backend;
    backend->peers = peers;

    backend->paths = ngx_pcalloc(cf->pool, (peers->n + 1) * sizeof(void *));

    return backend->paths ? NGX_OK : NGX_ERROR;
}


static ngx_http_hybrid_peers_t *
ngx_http_hybrid_peers_create(ngx_conf_t *cf,
    ngx_http_upstream_srv_conf_t *upstream, ngx_uint_t resolver)
{
    ngx_int_t                      rc;
    ngx_uint_t                     i;
    ngx_http_hybrid_peers_t       *peers;
    ngx_http_upstream_server_t    *server;
    ngx_http_upstream_rr_peer_t   *peer;
    ngx_http_upstream_rr_peers_t  *list;

    peers = ngx_pcalloc(cf->pool, sizeof(ngx_http_hybrid_peers_t));
    if (peers == NULL) {
        return NULL;
    }

    peers->upstream = upstream;

    peers->names = ngx_pcalloc(cf->pool, NGX_HTTP_HYBRID_PEERS_NAMES
                                         * sizeof(ngx_http_hybrid_name_t));

    if (peers->names == NULL
        || ngx_array_init(&peers->backends, cf->pool, 2, sizeof(void *))
           != NGX_OK)
    {
        return NULL;
    }

    for (list = upstream->peer.data; list; list = list->next) {
        for (peer = list->peer; peer; peer = peer->next) {
            peers->n++;
        }
    }

    if (upstream->servers == NULL) {
        rc = ngx_http_hybrid_peers_name(cf, peers, &upstream->host,
                                        upstream->port, resolver);
        return rc == NGX_OK ? peers : NULL;
    }

    server = upstream->servers->elts;

    for (i = 0; i < upstream->servers->nelts; i++) {

        if (ngx_hybrid_server_resolved(&server[i])) {
            peers->changing = 1;
            continue;
        }

        if (ngx_http_hybrid_peers_name(cf, peers, &server[i].name, 80,
                                       resolver)
            != NGX_OK)
        {
            return NULL;
        }
    }

    if (peers->changing || peers->n > NGX_HTTP_HYBRID_PEERS_MAX) {
        peers->n = NGX_HTTP_HYBRID_PEERS_MAX;
    }

    return peers;
}


/* a server may be written as a name, whose addresses are not its own */

static ngx_int_t
ngx_http_hybrid_peers_name(ngx_conf_t *cf, ngx_http_hybrid_peers_t *peers,
    ngx_str_t *server, in_port_t port, ngx_uint_t resolver)
{
    u_char                  *p;
    ngx_url_t                u;
    ngx_uint_t               i;
    ngx_http_hybrid_name_t  *name;

    ngx_memzero(&u, sizeof(ngx_url_t));

    u.url = *server;
    u.default_port = port;
    u.no_resolve = 1;

    if (ngx_parse_url(cf->pool, &u) != NGX_OK
        || u.naddrs
        || (u.host.len == sizeof("localhost") - 1
            && ngx_strncasecmp(u.host.data, (u_char *) "localhost",
                               u.host.len)
               == 0))
    {
        return NGX_OK;
    }

    for (i = 0; i < peers->nnames; i++) {
        if (peers->names[i].server.len == server->len
            && ngx_memcmp(peers->names[i].server.data, server->data,
                          server->len)
               == 0)
        {
            return NGX_OK;
        }
    }

    if (peers->nnames == NGX_HTTP_HYBRID_PEERS_NAMES
        || u.host.len + sizeof("dns:") > NGX_HYBRID_DOC_NAME)
    {
        return NGX_OK;
    }

    if (!resolver) {
        ngx_log_error(NGX_LOG_WARN, cf->log, 0,
                      "\"%V\" in upstream \"%V\" is looked up once, at the "
                      "start: add \"resolver\" to http{}", &u.host,
                      &peers->upstream->host);
    }

    name = &peers->names[peers->nnames++];

    name->server = *server;
    name->host = u.host;
    name->port = u.port;

    p = ngx_pnalloc(cf->pool, u.host.len + sizeof(":65535"));
    if (p == NULL) {
        return NGX_ERROR;
    }

    name->label.data = p;
    name->label.len = ngx_sprintf(p, "%V:%d", &u.host, (int) u.port) - p;

    return NGX_OK;
}


ngx_int_t
ngx_http_hybrid_peers_init_zone(ngx_http_hybrid_main_conf_t *hmcf,
    ngx_log_t *log)
{
    ngx_uint_t                   i, j;
    ngx_hybrid_path_t           *path;
    ngx_http_hybrid_backend_t  **backends, *backend;

    if (ngx_http_hybrid_peers_docs(hmcf) != NGX_OK) {
        ngx_log_error(NGX_LOG_EMERG, log, 0,
                      "hybrid_zone of %uzk is too small for the names of "
                      "backends: make it larger", hmcf->zone_size / 1024);
        return NGX_ERROR;
    }

    backends = hmcf->backends.elts;

    for (i = 0; i < hmcf->backends.nelts; i++) {
        backend = backends[i];

        if (ngx_http_hybrid_peers_paths(hmcf, backend) != NGX_OK) {
            ngx_log_error(NGX_LOG_EMERG, log, 0,
                          "hybrid_zone of %uzk is too small for the paths of "
                          "%ui backends: make it larger",
                          hmcf->zone_size / 1024, hmcf->backends.nelts);
            return NGX_ERROR;
        }

        for (j = 0; j < backend->npaths; j++) {
            backend->paths[j]->idle = 0;
        }

        if (backend->probe.on) {
            continue;
        }

        /* nobody would find out any more that it is there again */

        for (j = 0; j < backend->npaths; j++) {
            path = backend->paths[j];

            path->down = 0;
            path->slow = 0;
            path->ramp = 0;
            path->silent = 0;
            path->probed = 0;
        }

        backend->health->wedged = 0;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_hybrid_peers_docs(ngx_http_hybrid_main_conf_t *hmcf)
{
    u_char                     buf[NGX_HYBRID_DOC_NAME];
    ngx_str_t                  key;
    ngx_uint_t                 i, j;
    ngx_http_hybrid_name_t    *name;
    ngx_http_hybrid_peers_t  **peers;

    peers = hmcf->peers.elts;

    for (i = 0; i < hmcf->peers.nelts; i++) {
        for (j = 0; j < peers[i]->nnames; j++) {
            name = &peers[i]->names[j];

            key.data = buf;
            key.len = ngx_snprintf(buf, sizeof(buf), "dns:%V", &name->host)
                      - buf;

            name->doc = ngx_hybrid_doc(hmcf->shm, &key);
            if (name->doc == NULL) {
                return NGX_ERROR;
            }
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_hybrid_peers_paths(ngx_http_hybrid_main_conf_t *hmcf,
    ngx_http_hybrid_backend_t *backend)
{
    ngx_uint_t                     n;
    ngx_hybrid_path_t             *path;
    ngx_http_hybrid_walk_t         w;
    ngx_http_upstream_rr_peer_t   *peer;
    ngx_http_upstream_rr_peers_t  *first, *list;

    if (backend->peers == NULL) {
        return NGX_OK;
    }

    n = 0;
    first = backend->upstream->peer.data;

    ngx_http_hybrid_walk_start(&w, backend->peers);

    for (list = first; list; list = list->next) {

        ngx_http_upstream_rr_peers_rlock(list);

        for (peer = list->peer;
             peer && n < backend->peers->n;
             peer = peer->next)
        {
            ngx_http_hybrid_walk_peer(&w, peer, list != first);

            if (w.down) {
                continue;
            }

            /* in the zone it is made once, then found */

            path = ngx_hybrid_health_path(hmcf->shm, backend->health,
                                          &w.label);
            if (path == NULL) {
                ngx_http_upstream_rr_peers_unlock(list);
                return NGX_ERROR;
            }

            backend->paths[n++] = path;
        }

        ngx_http_upstream_rr_peers_unlock(list);
    }

    backend->npaths = n;

    return NGX_OK;
}


void
ngx_http_hybrid_peers_refresh(ngx_http_hybrid_main_conf_t *hmcf)
{
    ngx_uint_t                   i, changing;
    ngx_http_hybrid_backend_t  **backends;

    changing = 0;
    backends = hmcf->backends.elts;

    for (i = 0; i < hmcf->backends.nelts; i++) {
        if (backends[i]->peers && backends[i]->peers->changing) {
            (void) ngx_http_hybrid_peers_paths(hmcf, backends[i]);
            changing = 1;
        }
    }

    if (changing) {

        /* nginx may have made a peer anew that is not to be asked */

        ngx_http_hybrid_peers_update(hmcf);
    }
}


void
ngx_http_hybrid_walk_start(ngx_http_hybrid_walk_t *w,
    ngx_http_hybrid_peers_t *peers)
{
    w->peers = peers;
    ngx_memzero(w->seen, sizeof(w->seen));
}


void
ngx_http_hybrid_walk_peer(ngx_http_hybrid_walk_t *w,
    ngx_http_upstream_rr_peer_t *peer, ngx_uint_t backup)
{
    ngx_uint_t                   i;
    ngx_array_t                 *servers;
    ngx_http_upstream_server_t  *server;

    ngx_http_hybrid_walk_label(w, peer);

    w->down = 0;
    w->max_conns = 0;

    servers = w->peers->upstream->servers;

    if (servers == NULL) {
        return;
    }

    server = servers->elts;

    for (i = 0; i < servers->nelts; i++) {

        if (server[i].backup == backup
            && peer->server.len
            && server[i].name.len == peer->server.len
            && ngx_memcmp(server[i].name.data, peer->server.data,
                          peer->server.len)
               == 0)
        {
            w->down = server[i].down;
            w->max_conns = server[i].max_conns;
            return;
        }
    }

#if (NGX_HYBRID_UPSTREAM_RESOLVE)

    /* of an SRV record: it has the name that stands there */

    if (peer->host && peer->host->peer) {
        w->down = peer->host->peer->down;
        w->max_conns = peer->host->peer->max_conns;
    }

#endif
}


/*
 * Its address, or the name that leads there: with a number if there are more
 * addresses than one, as each of them may be another one tomorrow.
 */

static void
ngx_http_hybrid_walk_label(ngx_http_hybrid_walk_t *w,
    ngx_http_upstream_rr_peer_t *peer)
{
    size_t                   skip;
    ngx_uint_t               i, implicit;
    ngx_http_hybrid_name_t  *name;

    implicit = (w->peers->upstream->servers == NULL);

    for (i = 0; i < w->peers->nnames; i++) {
        name = &w->peers->names[i];

        if (ngx_hybrid_peer_resolved(peer)
            || (!implicit
                && (name->server.len != peer->server.len
                    || ngx_memcmp(name->server.data, peer->server.data,
                                  name->server.len)
                       != 0)))
        {
            continue;
        }

        w->name = name;
        w->nth = w->seen[i];
        w->label.data = w->buf;
        w->label.len = ngx_snprintf(w->buf, sizeof(w->buf),
                                    w->seen[i] ? "%V#%ui" : "%V",
                                    &name->label, w->seen[i] + 1)
                       - w->buf;
        w->seen[i]++;

        return;
    }

    w->name = NULL;

    /* the end of the path of a socket tells more than its beginning */

    w->label = peer->name;

    if (w->label.len > NGX_HYBRID_PATH_NAME) {
        skip = w->label.len - NGX_HYBRID_PATH_NAME;
        w->label.data += skip;
        w->label.len -= skip;
    }
}


ngx_hybrid_path_t *
ngx_http_hybrid_peers_path(ngx_http_hybrid_backend_t *backend,
    ngx_str_t *label)
{
    ngx_uint_t          i;
    ngx_hybrid_path_t  *path;

    for (i = 0; i < backend->npaths; i++) {
        path = backend->paths[i];

        if (path->nname == label->len
            && ngx_memcmp(path->name, label->data, label->len) == 0)
        {
            return path;
        }
    }

    return NULL;
}


ngx_uint_t
ngx_http_hybrid_peers_copy(ngx_http_hybrid_backend_t *backend,
    ngx_http_hybrid_peer_t *copy)
{
    ngx_uint_t                     n;
    ngx_hybrid_path_t             *path;
    ngx_http_hybrid_walk_t         w;
    ngx_http_upstream_rr_peer_t   *peer;
    ngx_http_upstream_rr_peers_t  *first, *list;

    if (backend->peers == NULL) {
        return 0;
    }

    n = 0;
    first = backend->upstream->peer.data;

    ngx_http_hybrid_walk_start(&w, backend->peers);

    for (list = first; list; list = list->next) {

        ngx_http_upstream_rr_peers_rlock(list);

        for (peer = list->peer;
             peer && n < NGX_HTTP_HYBRID_PEERS_MAX;
             peer = peer->next)
        {
            ngx_http_hybrid_walk_peer(&w, peer, list != first);

            path = ngx_http_hybrid_peers_path(backend, &w.label);

            if (path == NULL || path->idle || w.down
                || peer->socklen > sizeof(ngx_sockaddr_t))
            {
                continue;
            }

            copy[n].path = path;
            ngx_memcpy(&copy[n].sockaddr, peer->sockaddr, peer->socklen);
            copy[n].addr.sockaddr = &copy[n].sockaddr.sockaddr;
            copy[n].addr.socklen = peer->socklen;
            copy[n].addr.name.data = copy[n].text;
            copy[n].addr.name.len = ngx_min(peer->name.len,
                                            NGX_SOCKADDR_STRLEN);
            ngx_memcpy(copy[n].text, peer->name.data,
                       copy[n].addr.name.len);
            n++;
        }

        ngx_http_upstream_rr_peers_unlock(list);
    }

    return n;
}


ngx_hybrid_path_t *
ngx_http_hybrid_peers_at(ngx_http_hybrid_backend_t *backend,
    ngx_peer_connection_t *pc)
{
    ngx_hybrid_path_t             *path;
    ngx_http_hybrid_walk_t         w;
    ngx_http_upstream_rr_peer_t   *peer;
    ngx_http_upstream_rr_peers_t  *first, *list;

    if (pc->sockaddr == NULL) {
        return NULL;
    }

    path = NULL;
    first = backend->upstream->peer.data;

    ngx_http_hybrid_walk_start(&w, backend->peers);

    for (list = first; list && path == NULL; list = list->next) {

        ngx_http_upstream_rr_peers_rlock(list);

        for (peer = list->peer; peer; peer = peer->next) {
            ngx_http_hybrid_walk_peer(&w, peer, list != first);

            if (ngx_cmp_sockaddr(peer->sockaddr, peer->socklen,
                                 pc->sockaddr, pc->socklen, 1)
                == NGX_OK)
            {
                path = ngx_http_hybrid_peers_path(backend, &w.label);
                break;
            }
        }

        ngx_http_upstream_rr_peers_unlock(list);
    }

    return path;
}
