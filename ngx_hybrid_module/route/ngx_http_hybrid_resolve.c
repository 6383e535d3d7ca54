
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Names of backends, looked up again when their time is over: nginx itself
 * does that once, at its start.  One worker asks; what it learns is a
 * document, "<address>\n" for each, that all of them put into the peers.
 *
 * A peer's address is never written over, as connections go on pointing to
 * it: the peer gets another one.  One that was replaced is used again when
 * the name comes back to it, and for another address after a day only.
 */


#include "ngx_http_hybrid_peers.h"


/* msec */
#define NGX_HTTP_HYBRID_RESOLVE_HOLD   60000
#define NGX_HTTP_HYBRID_RESOLVE_LEAST  1000
#define NGX_HTTP_HYBRID_RESOLVE_MOST   3600000
#define NGX_HTTP_HYBRID_RESOLVE_RETRY  5000
#define NGX_HTTP_HYBRID_RESOLVE_KEEP   86400000

#define NGX_HTTP_HYBRID_RESOLVE_TEXT   4096


/* an address that a peer has or had, in the memory that its list is in */

struct ngx_http_hybrid_home_s {
    ngx_http_upstream_rr_peers_t  *list;
    struct sockaddr               *sockaddr;
    socklen_t                      socklen;
    ngx_str_t                      name;
    ngx_msec_t                     used;
};


/* what one name asks, while it does */

struct ngx_http_hybrid_lookup_s {
    ngx_http_hybrid_main_conf_t   *conf;
    ngx_http_hybrid_name_t        *name;
    ngx_resolver_ctx_t            *ctx;
};


/* the addresses of a name, and its peers in their order */

typedef struct {
    ngx_http_hybrid_peers_t       *peers;
    ngx_http_hybrid_name_t        *name;
    ngx_uint_t                     n;
    ngx_addr_t                     addrs[NGX_HTTP_HYBRID_PEERS_MAX];
    u_char                         taken[NGX_HTTP_HYBRID_PEERS_MAX];
    u_char                         kept[NGX_HTTP_HYBRID_PEERS_MAX];
} ngx_http_hybrid_moves_t;


static void ngx_http_hybrid_resolve_turn(ngx_http_hybrid_main_conf_t *hmcf,
    ngx_http_hybrid_name_t *name);
static void ngx_http_hybrid_resolve_done(ngx_resolver_ctx_t *ctx);
static void ngx_http_hybrid_resolve_failed(ngx_http_hybrid_lookup_t *lookup,
    const char *why);
static void ngx_http_hybrid_resolve_publish(
    ngx_http_hybrid_lookup_t *lookup, ngx_resolver_ctx_t *ctx);
static ngx_uint_t ngx_http_hybrid_resolve_same(ngx_str_t *one,
    ngx_str_t *two);
static void ngx_http_hybrid_resolve_use(ngx_http_hybrid_main_conf_t *hmcf,
    ngx_http_hybrid_peers_t *peers, ngx_http_hybrid_name_t *name);
static ngx_int_t ngx_http_hybrid_resolve_parse(ngx_http_hybrid_moves_t *moves,
    ngx_str_t *text, ngx_pool_t *pool);
static void ngx_http_hybrid_resolve_list(ngx_http_hybrid_moves_t *moves);
static void ngx_http_hybrid_resolve_keep(ngx_http_hybrid_moves_t *moves,
    ngx_http_hybrid_walk_t *w, ngx_http_upstream_rr_peer_t *peer);
static void ngx_http_hybrid_resolve_give(ngx_http_hybrid_moves_t *moves,
    ngx_http_hybrid_walk_t *w, ngx_http_upstream_rr_peers_t *list,
    ngx_http_upstream_rr_peer_t *peer);
static ngx_http_hybrid_home_t *ngx_http_hybrid_resolve_home(
    ngx_http_hybrid_peers_t *peers, ngx_http_upstream_rr_peers_t *list,
    ngx_addr_t *addr);
static ngx_int_t ngx_http_hybrid_resolve_copy(ngx_http_hybrid_home_t *home,
    ngx_http_upstream_rr_peers_t *list, ngx_addr_t *addr);
static ngx_uint_t ngx_http_hybrid_resolve_lives(
    ngx_http_upstream_rr_peers_t *list, struct sockaddr *sockaddr);


/* from time to time, in each worker */

void
ngx_http_hybrid_resolve_look(ngx_http_hybrid_main_conf_t *hmcf)
{
    ngx_uint_t                 i, j;
    ngx_http_hybrid_name_t    *name;
    ngx_http_hybrid_peers_t  **peers;

    if (hmcf->resolver == NULL) {
        return;
    }

    peers = hmcf->peers.elts;

    for (i = 0; i < hmcf->peers.nelts; i++) {
        for (j = 0; j < peers[i]->nnames; j++) {
            name = &peers[i]->names[j];

            if (name->doc->generation != name->seen) {
                ngx_http_hybrid_resolve_use(hmcf, peers[i], name);
            }

            if (name->lookup == NULL
                && ngx_hybrid_doc_turn(name->doc,
                                       NGX_HTTP_HYBRID_RESOLVE_HOLD))
            {
                ngx_http_hybrid_resolve_turn(hmcf, name);
            }
        }
    }
}


void
ngx_http_hybrid_resolve_exit(ngx_http_hybrid_main_conf_t *hmcf)
{
    ngx_uint_t                 i, j;
    ngx_http_hybrid_name_t    *name;
    ngx_http_hybrid_peers_t  **peers;

    peers = hmcf->peers.elts;

    for (i = 0; i < hmcf->peers.nelts; i++) {
        for (j = 0; j < peers[i]->nnames; j++) {
            name = &peers[i]->names[j];

            if (name->lookup) {
                ngx_resolve_name_done(name->lookup->ctx);
                ngx_free(name->lookup);
                name->lookup = NULL;

                ngx_hybrid_doc_release(name->doc);
            }
        }
    }
}


static void
ngx_http_hybrid_resolve_turn(ngx_http_hybrid_main_conf_t *hmcf,
    ngx_http_hybrid_name_t *name)
{
    ngx_resolver_ctx_t        *ctx;
    ngx_http_hybrid_lookup_t  *lookup;

    lookup = ngx_alloc(sizeof(ngx_http_hybrid_lookup_t), ngx_cycle->log);
    if (lookup == NULL) {
        ngx_hybrid_doc_release(name->doc);
        return;
    }

    lookup->conf = hmcf;
    lookup->name = name;

    ctx = ngx_resolve_start(hmcf->resolver, NULL);

    if (ctx == NULL || ctx == NGX_NO_RESOLVER) {
        ngx_free(lookup);
        ngx_hybrid_doc_release(name->doc);
        return;
    }

    ctx->name = name->host;
    ctx->handler = ngx_http_hybrid_resolve_done;
    ctx->data = lookup;
    ctx->timeout = NGX_HTTP_HYBRID_RESOLVE_HOLD / 4;
    ctx->cancelable = 1;

    lookup->ctx = ctx;
    name->lookup = lookup;

    /* the handler may be called at once; after an error ctx is gone */

    if (ngx_resolve_name(ctx) != NGX_OK) {
        ngx_http_hybrid_resolve_failed(lookup, "it can't be asked for");
    }
}


static void
ngx_http_hybrid_resolve_done(ngx_resolver_ctx_t *ctx)
{
    ngx_http_hybrid_lookup_t  *lookup = ctx->data;

    if (ngx_exiting) {
        lookup->name->lookup = NULL;
        ngx_hybrid_doc_release(lookup->name->doc);
        ngx_free(lookup);

    } else if (ctx->state) {
        ngx_http_hybrid_resolve_failed(lookup,
                                       ngx_resolver_strerror(ctx->state));

    } else {
        ngx_http_hybrid_resolve_publish(lookup, ctx);
    }

    ngx_resolve_name_done(ctx);
}


static void
ngx_http_hybrid_resolve_failed(ngx_http_hybrid_lookup_t *lookup,
    const char *why)
{
    ngx_str_t                error;
    ngx_hybrid_doc_t        *doc;
    ngx_http_hybrid_name_t  *name;

    name = lookup->name;
    doc = name->doc;

    if (doc->failures == 0) {
        ngx_log_error(NGX_LOG_WARN, ngx_cycle->log, 0,
                      "address of \"%V\" can't be looked up again: %s, it "
                      "stays as it is", &name->host, why);
    }

    error.data = (u_char *) why;
    error.len = ngx_strlen(why);

    ngx_hybrid_doc_failed(lookup->conf->shm, doc, &error,
                          NGX_HTTP_HYBRID_RESOLVE_RETRY);

    name->lookup = NULL;
    ngx_free(lookup);
}


static void
ngx_http_hybrid_resolve_publish(ngx_http_hybrid_lookup_t *lookup,
    ngx_resolver_ctx_t *ctx)
{
    u_char                       *p, buf[NGX_HTTP_HYBRID_RESOLVE_TEXT];
    ngx_str_t                     text, old;
    ngx_int_t                     left;
    ngx_uint_t                    i, same;
    ngx_msec_t                    next;
    ngx_pool_t                   *pool;
    ngx_atomic_uint_t             generation;
    ngx_hybrid_doc_t             *doc;
    ngx_http_hybrid_name_t       *name;
    ngx_http_hybrid_main_conf_t  *hmcf;

    name = lookup->name;
    hmcf = lookup->conf;
    doc = name->doc;

    name->lookup = NULL;
    ngx_free(lookup);

    p = buf;

    for (i = 0; i < ctx->naddrs; i++) {

        if (p + NGX_SOCKADDR_STRLEN + 1 > buf + sizeof(buf)) {
            break;
        }

        p += ngx_sock_ntop(ctx->addrs[i].sockaddr, ctx->addrs[i].socklen, p,
                           NGX_SOCKADDR_STRLEN, 0);
        *p++ = LF;
    }

    text.data = buf;
    text.len = p - buf;

    left = (ngx_int_t) (ctx->valid - ngx_time());
    left = ngx_max(left, 0);
    left = ngx_min(left, NGX_HTTP_HYBRID_RESOLVE_MOST / 1000);

    /* the resolver itself has kept it for that long */

    next = (ngx_msec_t) left * 1000 + NGX_HTTP_HYBRID_RESOLVE_LEAST;

    /* its order changes all the time: what counts is which there are */

    same = 0;
    pool = ngx_create_pool(1024, ngx_cycle->log);

    if (pool) {
        same = (ngx_hybrid_doc_read(hmcf->shm, doc, pool, &old, &generation)
                == NGX_OK
                && ngx_http_hybrid_resolve_same(&old, &text));
        ngx_destroy_pool(pool);
    }

    if (same
        || ngx_hybrid_doc_publish(hmcf->shm, doc, &text, next) != NGX_OK)
    {
        ngx_hybrid_doc_unchanged(hmcf->shm, doc, next);
        return;
    }

    for (p = text.data; p < text.data + text.len; p++) {
        *p = (*p == LF) ? ' ' : *p;
    }

    ngx_log_error(NGX_LOG_NOTICE, ngx_cycle->log, 0,
                  "\"%V\" leads to: %V", &name->host, &text);
}


/* whether two lists have the same addresses, in any order */

static ngx_uint_t
ngx_http_hybrid_resolve_same(ngx_str_t *one, ngx_str_t *two)
{
    u_char  *p, *end, *q, *last;
    size_t   len;

    if (one->len != two->len) {
        return 0;
    }

    last = two->data + two->len;

    for (p = one->data; p < one->data + one->len; p = end + 1) {

        end = ngx_strlchr(p, one->data + one->len, LF);
        if (end == NULL) {
            return 0;
        }

        len = end + 1 - p;

        for (q = two->data; q < last; q = ngx_strlchr(q, last, LF) + 1) {
            if ((size_t) (last - q) >= len && ngx_memcmp(p, q, len) == 0) {
                break;
            }
        }

        if (q >= last) {
            return 0;
        }
    }

    return 1;
}


static void
ngx_http_hybrid_resolve_use(ngx_http_hybrid_main_conf_t *hmcf,
    ngx_http_hybrid_peers_t *peers, ngx_http_hybrid_name_t *name)
{
    ngx_int_t                 rc;
    ngx_str_t                 text;
    ngx_pool_t               *pool;
    ngx_atomic_uint_t         generation;
    ngx_http_hybrid_moves_t  *moves;

    pool = ngx_create_pool(4096, ngx_cycle->log);
    if (pool == NULL) {
        return;
    }

    moves = ngx_pcalloc(pool, sizeof(ngx_http_hybrid_moves_t));

    if (moves) {
        moves->peers = peers;
        moves->name = name;

        rc = ngx_hybrid_doc_read(hmcf->shm, name->doc, pool, &text,
                                 &generation);

        if (rc == NGX_OK
            && ngx_http_hybrid_resolve_parse(moves, &text, pool) == NGX_OK)
        {
            ngx_http_hybrid_resolve_list(moves);
        }

        if (rc != NGX_ERROR) {
            name->seen = generation;
        }
    }

    ngx_destroy_pool(pool);

    ngx_http_hybrid_peers_update(hmcf);
}


static ngx_int_t
ngx_http_hybrid_resolve_parse(ngx_http_hybrid_moves_t *moves, ngx_str_t *text,
    ngx_pool_t *pool)
{
    u_char      *p, *end, *last;
    ngx_addr_t  *addr;

    last = text->data + text->len;

    for (p = text->data;
         p < last && moves->n < NGX_HTTP_HYBRID_PEERS_MAX;
         p = end + 1)
    {
        end = ngx_strlchr(p, last, LF);
        addr = &moves->addrs[moves->n];

        if (end == NULL
            || ngx_parse_addr(pool, addr, p, end - p) != NGX_OK)
        {
            return NGX_ERROR;
        }

        ngx_inet_set_port(addr->sockaddr, moves->name->port);
        moves->n++;
    }

    return moves->n ? NGX_OK : NGX_ERROR;
}


/*
 * Peers whose address the name still has keep it; the others get what is
 * left, and when nothing is left they are idle.
 */

static void
ngx_http_hybrid_resolve_list(ngx_http_hybrid_moves_t *moves)
{
    ngx_uint_t                     give;
    ngx_http_hybrid_walk_t         w;
    ngx_http_upstream_rr_peer_t   *peer;
    ngx_http_upstream_rr_peers_t  *first, *list;

    first = moves->peers->upstream->peer.data;

    for (list = first; list; list = list->next) {

        ngx_http_upstream_rr_peers_wlock(list);

        for (give = 0; give < 2; give++) {

            ngx_http_hybrid_walk_start(&w, moves->peers);

            for (peer = list->peer; peer; peer = peer->next) {
                ngx_http_hybrid_walk_peer(&w, peer, list != first);

                if (w.name != moves->name
                    || w.nth >= NGX_HTTP_HYBRID_PEERS_MAX)
                {
                    continue;
                }

                if (give) {
                    ngx_http_hybrid_resolve_give(moves, &w, list, peer);

                } else {
                    ngx_http_hybrid_resolve_keep(moves, &w, peer);
                }
            }
        }

        ngx_http_upstream_rr_peers_unlock(list);
    }
}


static void
ngx_http_hybrid_resolve_keep(ngx_http_hybrid_moves_t *moves,
    ngx_http_hybrid_walk_t *w, ngx_http_upstream_rr_peer_t *peer)
{
    ngx_uint_t   i;
    ngx_addr_t  *addr;

    moves->kept[w->nth] = 0;

    for (i = 0; i < moves->n; i++) {
        addr = &moves->addrs[i];

        if (!moves->taken[i]
            && ngx_cmp_sockaddr(peer->sockaddr, peer->socklen,
                                addr->sockaddr, addr->socklen, 1)
               == NGX_OK)
        {
            moves->taken[i] = 1;
            moves->kept[w->nth] = 1;
            return;
        }
    }
}


static void
ngx_http_hybrid_resolve_give(ngx_http_hybrid_moves_t *moves,
    ngx_http_hybrid_walk_t *w, ngx_http_upstream_rr_peers_t *list,
    ngx_http_upstream_rr_peer_t *peer)
{
    ngx_uint_t                    i, idle;
    ngx_hybrid_path_t            *path;
    ngx_http_hybrid_home_t       *home;
    ngx_http_hybrid_backend_t   **backends;

    idle = 0;

    if (!moves->kept[w->nth]) {

        for (i = 0; i < moves->n && moves->taken[i]; i++) { /* void */ }

        home = NULL;

        if (i < moves->n) {
            moves->taken[i] = 1;
            home = ngx_http_hybrid_resolve_home(moves->peers, list,
                                                &moves->addrs[i]);
        }

        if (home) {
            peer->sockaddr = home->sockaddr;
            peer->socklen = home->socklen;
            peer->name = home->name;
            peer->fails = 0;

        } else {
            idle = 1;
        }
    }

    backends = moves->peers->backends.elts;

    for (i = 0; i < moves->peers->backends.nelts; i++) {
        path = ngx_http_hybrid_peers_path(backends[i], &w->label);

        if (path) {
            path->idle = idle;
        }
    }
}


/* the memory that holds an address; NULL: there is none */

static ngx_http_hybrid_home_t *
ngx_http_hybrid_resolve_home(ngx_http_hybrid_peers_t *peers,
    ngx_http_upstream_rr_peers_t *list, ngx_addr_t *addr)
{
    ngx_uint_t               i;
    ngx_http_hybrid_home_t  *home, *old;

    if (peers->homes == NULL) {
        peers->homes = ngx_pcalloc(ngx_cycle->pool,
                                   NGX_HTTP_HYBRID_PEERS_MAX
                                   * sizeof(ngx_http_hybrid_home_t));
        if (peers->homes == NULL) {
            return NULL;
        }
    }

    old = NULL;

    for (i = 0; i < NGX_HTTP_HYBRID_PEERS_MAX; i++) {
        home = &peers->homes[i];

        if (home->sockaddr == NULL) {
            old = old ? old : home;
            break;
        }

        if (home->list != list) {
            continue;
        }

        if (ngx_http_hybrid_resolve_lives(list, home->sockaddr)) {
            home->used = ngx_current_msec;
        }

        if (ngx_cmp_sockaddr(home->sockaddr, home->socklen, addr->sockaddr,
                             addr->socklen, 1)
            == NGX_OK)
        {
            home->used = ngx_current_msec;
            return home;
        }

        if (ngx_current_msec - home->used > NGX_HTTP_HYBRID_RESOLVE_KEEP) {
            old = old ? old : home;
        }
    }

    if (old == NULL
        || ngx_http_hybrid_resolve_copy(old, list, addr) != NGX_OK)
    {
        return NULL;
    }

    return old;
}


static ngx_int_t
ngx_http_hybrid_resolve_copy(ngx_http_hybrid_home_t *home,
    ngx_http_upstream_rr_peers_t *list, ngx_addr_t *addr)
{
    size_t   size;
    u_char  *p;

    if (home->sockaddr == NULL) {
        size = sizeof(ngx_sockaddr_t) + NGX_SOCKADDR_STRLEN;

#if (NGX_HTTP_UPSTREAM_ZONE)

        if (list->shpool) {
            p = ngx_slab_alloc(list->shpool, size);

        } else

#endif

        p = ngx_palloc(ngx_cycle->pool, size);

        if (p == NULL) {
            return NGX_ERROR;
        }

        home->sockaddr = (struct sockaddr *) p;
        home->name.data = p + sizeof(ngx_sockaddr_t);
        home->list = list;
    }

    ngx_memcpy(home->sockaddr, addr->sockaddr, addr->socklen);

    home->socklen = addr->socklen;
    home->name.len = ngx_sock_ntop(home->sockaddr, home->socklen,
                                   home->name.data, NGX_SOCKADDR_STRLEN, 1);
    home->used = ngx_current_msec;

    return NGX_OK;
}


static ngx_uint_t
ngx_http_hybrid_resolve_lives(ngx_http_upstream_rr_peers_t *list,
    struct sockaddr *sockaddr)
{
    ngx_http_upstream_rr_peer_t  *peer;

    for (peer = list->peer; peer; peer = peer->next) {
        if (peer->sockaddr == sockaddr) {
            return 1;
        }
    }

    return 0;
}
