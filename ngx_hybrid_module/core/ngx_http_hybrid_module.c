
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Tables and wiring: directives, life of the configuration, phases, filters.
 */


#include "ngx_http_hybrid_conf.h"
#include "ngx_http_hybrid_answer.h"
#include "ngx_http_hybrid_queue.h"
#include "ngx_http_hybrid_cert.h"
#include "ngx_http_hybrid_issuer.h"
#include "ngx_http_hybrid_choice.h"
#include "ngx_http_hybrid_anomaly.h"
#include "ngx_http_hybrid_history.h"


static ngx_int_t ngx_http_hybrid_log_handler(ngx_http_request_t *r);
static ngx_int_t ngx_http_hybrid_header_filter(ngx_http_request_t *r);
static ngx_int_t ngx_http_hybrid_body_filter(ngx_http_request_t *r,
    ngx_chain_t *in);
static ngx_int_t ngx_http_hybrid_request_body_filter(ngx_http_request_t *r,
    ngx_chain_t *in);

static void *ngx_http_hybrid_create_main_conf(ngx_conf_t *cf);
static char *ngx_http_hybrid_init_main_conf(ngx_conf_t *cf, void *conf);
static void *ngx_http_hybrid_create_loc_conf(ngx_conf_t *cf);
static char *ngx_http_hybrid_merge_loc_conf(ngx_conf_t *cf, void *parent,
    void *child);
static ngx_int_t ngx_http_hybrid_init(ngx_conf_t *cf);
static ngx_int_t ngx_http_hybrid_init_zone(ngx_shm_zone_t *zone, void *data);
static ngx_int_t ngx_http_hybrid_init_process(ngx_cycle_t *cycle);
static void ngx_http_hybrid_exit_process(ngx_cycle_t *cycle);


static ngx_command_t  ngx_http_hybrid_commands[] = {

    { ngx_string("hybrid_zone"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_http_hybrid_zone,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("hybrid_redis"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_1MORE,
      ngx_http_hybrid_redis,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("hybrid_issuer"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_BLOCK|NGX_CONF_TAKE1,
      ngx_http_hybrid_issuer,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("hybrid_client"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_BLOCK|NGX_CONF_TAKE1,
      ngx_http_hybrid_client,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("hybrid_backend"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_BLOCK|NGX_CONF_TAKE1,
      ngx_http_hybrid_backend,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("hybrid_route"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_2MORE,
      ngx_http_hybrid_route,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("hybrid_clients"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_http_hybrid_clients,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("hybrid_access"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_1MORE,
      ngx_http_hybrid_access,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("hybrid_shadow"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_FLAG,
      ngx_http_hybrid_shadow_set,
      NGX_HTTP_LOC_CONF_OFFSET,
      offsetof(ngx_http_hybrid_loc_conf_t, shadow),
      NULL },

    { ngx_string("hybrid_barrier"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE12,
      ngx_http_hybrid_barrier,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("hybrid_heartbeat"),
      NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_hybrid_heartbeat,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("hybrid_admin"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS,
      ngx_http_hybrid_admin,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("hybrid_status"),
      NGX_HTTP_LOC_CONF|NGX_CONF_TAKE1,
      ngx_http_hybrid_status,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_hybrid_module_ctx = {
    ngx_http_hybrid_add_variables,         /* preconfiguration */
    ngx_http_hybrid_init,                  /* postconfiguration */

    ngx_http_hybrid_create_main_conf,      /* create main configuration */
    ngx_http_hybrid_init_main_conf,        /* init main configuration */

    NULL,                                  /* create server configuration */
    NULL,                                  /* merge server configuration */

    ngx_http_hybrid_create_loc_conf,       /* create location configuration */
    ngx_http_hybrid_merge_loc_conf         /* merge location configuration */
};


ngx_module_t  ngx_http_hybrid_module = {
    NGX_MODULE_V1,
    &ngx_http_hybrid_module_ctx,           /* module context */
    ngx_http_hybrid_commands,              /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    NULL,                                  /* init module */
    ngx_http_hybrid_init_process,          /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    ngx_http_hybrid_exit_process,          /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


static ngx_http_output_header_filter_pt  ngx_http_next_header_filter;
static ngx_http_output_body_filter_pt    ngx_http_next_body_filter;
static ngx_http_request_body_filter_pt   ngx_http_next_request_body_filter;


static ngx_int_t
ngx_http_hybrid_request_body_filter(ngx_http_request_t *r, ngx_chain_t *in)
{
    ngx_http_hybrid_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_hybrid_module);

    if (ctx && ctx->scanning) {
        ngx_http_hybrid_body_scan(r, ctx, in);
    }

    return ngx_http_next_request_body_filter(r, in);
}


static ngx_int_t
ngx_http_hybrid_header_filter(ngx_http_request_t *r)
{
    ngx_int_t                    rc;
    ngx_http_hybrid_ctx_t       *ctx;
    ngx_http_hybrid_loc_conf_t  *hlcf;

    if (r != r->main) {
        return ngx_http_next_header_filter(r);
    }

    ctx = ngx_http_hybrid_get_ctx(r);

    if (ctx == NULL) {

        /* nginx may refuse before we are asked: 413 by length, 408... */

        hlcf = ngx_http_get_module_loc_conf(r, ngx_http_hybrid_module);

        if (r->err_status == 0 || r->internal
            || (hlcf->access & ~NGX_HTTP_HYBRID_ACCESS_OFF) == 0)
        {
            return ngx_http_next_header_filter(r);
        }

        ctx = ngx_http_hybrid_create_ctx(r);
        if (ctx == NULL) {
            return NGX_ERROR;
        }
    }

    if (ctx->answer) {
        rc = ngx_http_hybrid_stream_header(r, ctx);

        if (rc != NGX_OK) {
            return rc == NGX_DONE ? NGX_OK : NGX_ERROR;
        }
    }

    if (r->err_status == 0 && ngx_http_hybrid_answered(r, ctx)) {
        ngx_http_hybrid_request_answered(r);
    }

    if (r->err_status == NGX_HTTP_UNAUTHORIZED) {
        ngx_http_hybrid_failure_refused(r, ctx);
    }

    if (ngx_http_hybrid_refusal_header(r, ctx) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_next_header_filter(r);
}


static ngx_int_t
ngx_http_hybrid_body_filter(ngx_http_request_t *r, ngx_chain_t *in)
{
    return ngx_http_hybrid_stream_filter(r, in, ngx_http_next_body_filter);
}


static ngx_int_t
ngx_http_hybrid_log_handler(ngx_http_request_t *r)
{
    ngx_http_hybrid_ctx_t  *ctx;

    ctx = ngx_http_hybrid_get_ctx(r);

    if (ctx && !ctx->counted) {
        ctx->counted = 1;
        ngx_http_hybrid_shadow_log(r, ctx);
        ngx_http_hybrid_limit_end(ctx);
        ngx_http_hybrid_stats_log(r, ctx);
    }

    return NGX_OK;
}


static void *
ngx_http_hybrid_create_main_conf(ngx_conf_t *cf)
{
    ngx_http_hybrid_main_conf_t  *hmcf;

    hmcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_hybrid_main_conf_t));
    if (hmcf == NULL) {
        return NULL;
    }

    /*
     * set by ngx_pcalloc():
     *
     *     hmcf->defined = 0;
     *     hmcf->zone = NULL;
     *     hmcf->redis_conf = NULL;
     *     hmcf->upstream = NULL;
     *     hmcf->filters = 0;
     */

    hmcf->zone_size = NGX_CONF_UNSET_SIZE;

    if (ngx_array_init(&hmcf->clients, cf->pool, 8, sizeof(void *)) != NGX_OK
        || ngx_array_init(&hmcf->backends, cf->pool, 4, sizeof(void *))
           != NGX_OK
        || ngx_array_init(&hmcf->routes, cf->pool, 8, sizeof(void *))
           != NGX_OK
        || ngx_array_init(&hmcf->virtuals, cf->pool, 1, sizeof(void *))
           != NGX_OK
        || ngx_array_init(&hmcf->gces, cf->pool, 1, sizeof(void *))
           != NGX_OK
        || ngx_array_init(&hmcf->issuers, cf->pool, 2, sizeof(void *))
           != NGX_OK)
    {
        return NULL;
    }

    ngx_http_hybrid_identities_init(&hmcf->identities);

    return hmcf;
}


static char *
ngx_http_hybrid_init_main_conf(ngx_conf_t *cf, void *conf)
{
    ngx_http_hybrid_main_conf_t  *hmcf = conf;

    ngx_str_t                  name = ngx_string("hybrid");
    ngx_hybrid_shm_t          *shm;
    ngx_resolver_t            *resolver;
    ngx_http_core_loc_conf_t  *clcf;

    if (!hmcf->defined) {
        return NGX_CONF_OK;
    }

    ngx_conf_init_size_value(hmcf->zone_size, 16 * 1024 * 1024);

    hmcf->zone = ngx_shared_memory_add(cf, &name, hmcf->zone_size,
                                       &ngx_http_hybrid_module);
    if (hmcf->zone == NULL) {
        return NGX_CONF_ERROR;
    }

    shm = ngx_pcalloc(cf->pool, sizeof(ngx_hybrid_shm_t));
    if (shm == NULL) {
        return NGX_CONF_ERROR;
    }

    if (hmcf->clients_redis && hmcf->redis_conf == NULL) {
        return ngx_http_hybrid_conf_error_at(cf, &hmcf->clients_place,
                       "\"hybrid_clients redis\" needs \"hybrid_redis\"");
    }

    hmcf->shm = shm;
    hmcf->zone->init = ngx_http_hybrid_init_zone;
    hmcf->zone->data = hmcf;

    /* the one of http{}; nginx makes an empty one when there is none */

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);
    resolver = clcf->resolver;

    if (resolver && resolver->connections.nelts == 0) {
        resolver = NULL;
    }

    hmcf->resolver = resolver;

    ngx_http_hybrid_conf_prices(cf, hmcf);

    if (ngx_http_hybrid_peers_init(cf, hmcf) != NGX_OK
        || ngx_http_hybrid_route_init(cf, hmcf) != NGX_OK
        || ngx_http_hybrid_size_init(cf, hmcf) != NGX_OK
        || ngx_http_hybrid_shadow_init(cf, hmcf) != NGX_OK
        || ngx_http_hybrid_request_init(cf, hmcf) != NGX_OK
        || ngx_http_hybrid_jwt_init(cf, hmcf) != NGX_OK
        || ngx_http_hybrid_jwks_init(cf, hmcf, resolver) != NGX_OK
        || ngx_http_hybrid_gce_init(cf, hmcf, resolver) != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    if (hmcf->filters && hmcf->clients.nelts == 0 && !hmcf->clients_redis) {
        ngx_log_error(NGX_LOG_WARN, cf->log, 0,
                      "there is no \"hybrid_client\": \"hybrid_access\" "
                      "lets nobody in");
    }

    if (hmcf->backends.nelts && hmcf->routes.nelts == 0) {
        ngx_log_error(NGX_LOG_WARN, cf->log, 0,
                      "there is no \"hybrid_route\": no model is found");
    }

    return NGX_CONF_OK;
}


static void *
ngx_http_hybrid_create_loc_conf(ngx_conf_t *cf)
{
    ngx_http_hybrid_loc_conf_t  *hlcf;

    hlcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_hybrid_loc_conf_t));
    if (hlcf == NULL) {
        return NULL;
    }

    /*
     * set by ngx_pcalloc():
     *
     *     hlcf->access = 0;
     *     hlcf->place = { NULL, 0 };
     *     hlcf->status = ngx_http_hybrid_status_none;
     */

    hlcf->shadow = NGX_CONF_UNSET;
    hlcf->barrier = NGX_CONF_UNSET_SIZE;
    hlcf->barrier_time = NGX_CONF_UNSET_MSEC;
    hlcf->heartbeat = NGX_CONF_UNSET_MSEC;

    return hlcf;
}


static char *
ngx_http_hybrid_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_http_hybrid_loc_conf_t  *prev = parent;
    ngx_http_hybrid_loc_conf_t  *conf = child;

    const char                *fault;
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if ((conf->access & ~NGX_HTTP_HYBRID_ACCESS_OFF)
        && clcf->name.len && clcf->handler == NULL && clcf->locations == NULL)
    {
        ngx_log_error(NGX_LOG_WARN, cf->log, 0,
                      "\"hybrid_access\" in %s:%ui, but location \"%V\" "
                      "leads to no backend: add \"include "
                      "hybrid_proxy.conf\"",
                      conf->place.file, conf->place.line, &clcf->name);
    }

    if (conf->access == 0) {
        conf->place = prev->place;
    }

    ngx_conf_merge_bitmask_value(conf->access, prev->access,
                                 NGX_HTTP_HYBRID_ACCESS_OFF);

    if (ngx_http_hybrid_cert_check(cf, conf) != NGX_CONF_OK
        || ngx_http_hybrid_admin_check(cf, conf) != NGX_CONF_OK)
    {
        return NGX_CONF_ERROR;
    }

    ngx_conf_merge_value(conf->shadow, prev->shadow, 0);
    ngx_conf_merge_size_value(conf->barrier, prev->barrier, 0);
    ngx_conf_merge_msec_value(conf->barrier_time, prev->barrier_time, 0);
    ngx_conf_merge_msec_value(conf->heartbeat, prev->heartbeat, 0);

    fault = ngx_http_hybrid_balancer_check(cf, conf);

    if (fault == NULL) {
        return NGX_CONF_OK;
    }

    if (conf->place.file) {
        return ngx_http_hybrid_conf_error_at(cf, &conf->place,
                                             "%s in location \"%V\"", fault,
                                             &clcf->name);
    }

    ngx_log_error(NGX_LOG_EMERG, cf->log, 0, "%s in location \"%V\"",
                  fault, &clcf->name);

    return NGX_CONF_ERROR;
}


static ngx_int_t
ngx_http_hybrid_init(ngx_conf_t *cf)
{
    ngx_http_handler_pt          *h;
    ngx_http_core_main_conf_t    *cmcf;
    ngx_http_hybrid_main_conf_t  *hmcf;

    hmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_hybrid_module);

    if (ngx_http_hybrid_probe_init(cf, hmcf) != NGX_OK) {
        return NGX_ERROR;
    }

    if (!hmcf->filters) {
        return NGX_OK;
    }

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    h = ngx_array_push(&cmcf->phases[NGX_HTTP_ACCESS_PHASE].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = ngx_http_hybrid_access_handler;

    h = ngx_array_push(&cmcf->phases[NGX_HTTP_PRECONTENT_PHASE].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = ngx_http_hybrid_access_verdict_handler;

    h = ngx_array_push(&cmcf->phases[NGX_HTTP_LOG_PHASE].handlers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    *h = ngx_http_hybrid_log_handler;

    ngx_http_next_header_filter = ngx_http_top_header_filter;
    ngx_http_top_header_filter = ngx_http_hybrid_header_filter;

    ngx_http_next_body_filter = ngx_http_top_body_filter;
    ngx_http_top_body_filter = ngx_http_hybrid_body_filter;

    ngx_http_next_request_body_filter = ngx_http_top_request_body_filter;
    ngx_http_top_request_body_filter = ngx_http_hybrid_request_body_filter;

    return NGX_OK;
}


static ngx_int_t
ngx_http_hybrid_init_zone(ngx_shm_zone_t *zone, void *data)
{
    ngx_http_hybrid_main_conf_t  *old = data;

    ngx_uint_t                     i;
    ngx_http_hybrid_backend_t    **backends;
    ngx_http_hybrid_main_conf_t   *hmcf;

    hmcf = zone->data;

    if (ngx_hybrid_shm_init(hmcf->shm, zone, old ? old->shm : NULL) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ngx_http_hybrid_client_init_zone(hmcf, zone->shm.log) != NGX_OK) {
        return NGX_ERROR;
    }

    backends = hmcf->backends.elts;

    for (i = 0; i < hmcf->backends.nelts; i++) {

        backends[i]->health = ngx_hybrid_health(hmcf->shm,
                                                &backends[i]->name);
        if (backends[i]->health == NULL) {
            ngx_log_error(NGX_LOG_EMERG, zone->shm.log, 0,
                          "hybrid_zone of %uzk is too small for %ui "
                          "backends: make it larger", hmcf->zone_size / 1024,
                          hmcf->backends.nelts);
            return NGX_ERROR;
        }
    }

    if (ngx_http_hybrid_probe_init_zone(hmcf, zone->shm.log) != NGX_OK
        || ngx_http_hybrid_issuer_adopt(hmcf, zone->shm.log) != NGX_OK
        || ngx_http_hybrid_gce_adopt(hmcf, zone->shm.log) != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_http_hybrid_jwks_adopt(hmcf);

    if (ngx_http_hybrid_store_init_zone(hmcf, zone->shm.log) != NGX_OK) {
        return NGX_ERROR;
    }

    if (ngx_http_hybrid_lever_init_zone(hmcf, zone->shm.log) != NGX_OK
        || ngx_http_hybrid_queue_init_zone(hmcf, zone->shm.log) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_hybrid_revoke_init_zone(hmcf, zone->shm.log);
}


static ngx_int_t
ngx_http_hybrid_init_process(ngx_cycle_t *cycle)
{
    ngx_http_hybrid_main_conf_t  *hmcf;

    if (ngx_process != NGX_PROCESS_WORKER && ngx_process != NGX_PROCESS_SINGLE)
    {
        return NGX_OK;
    }

    hmcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_hybrid_module);

    if (hmcf == NULL || !hmcf->defined) {
        return NGX_OK;
    }

#if (NGX_HAVE_PR_SET_DUMPABLE && !defined __SANITIZE_ADDRESS__)

    /* a core would have the secrets; nginx allows them to its workers */

    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == -1) {
        ngx_log_error(NGX_LOG_ALERT, cycle->log, ngx_errno,
                      "prctl(PR_SET_DUMPABLE) failed");
    }

#endif

    hmcf->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    hmcf->digest = EVP_MD_CTX_new();

    if (hmcf->sha256 == NULL || hmcf->digest == NULL) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, 0, "SHA-256 is not there");
        return NGX_ERROR;
    }

    if (ngx_http_hybrid_client_init_worker(hmcf) != NGX_OK
        || ngx_http_hybrid_request_init_worker(hmcf, cycle) != NGX_OK
        || ngx_http_hybrid_choice_init_worker(hmcf, cycle) != NGX_OK
        || ngx_http_hybrid_queue_init_worker(hmcf, cycle) != NGX_OK
        || ngx_http_hybrid_failure_init_worker(hmcf, cycle) != NGX_OK
        || ngx_http_hybrid_jwt_init_worker(hmcf, cycle) != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_hybrid_watch_start(&hmcf->watches, cycle);
    ngx_hybrid_getters_start(&hmcf->getters, hmcf->shm, cycle);

    if (ngx_http_hybrid_probe_init_worker(hmcf, cycle) != NGX_OK
        || ngx_http_hybrid_lever_init_worker(hmcf, cycle) != NGX_OK
        || ngx_http_hybrid_anomaly_init_worker(hmcf, cycle) != NGX_OK
        || ngx_http_hybrid_history_init_worker(hmcf, cycle) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (hmcf->redis_conf == NULL) {
        return ngx_http_hybrid_lease_init_worker(hmcf, cycle);
    }

    hmcf->redis = ngx_hybrid_redis_create(hmcf->redis_conf, cycle);

    if (hmcf->redis == NULL
        || ngx_http_hybrid_lease_init_worker(hmcf, cycle) != NGX_OK
        || ngx_http_hybrid_flush_init_worker(hmcf, cycle) != NGX_OK
        || ngx_http_hybrid_revoke_init_worker(hmcf, cycle) != NGX_OK
        || ngx_http_hybrid_store_init_worker(hmcf, cycle) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


static void
ngx_http_hybrid_exit_process(ngx_cycle_t *cycle)
{
    ngx_http_hybrid_main_conf_t  *hmcf;

    hmcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_hybrid_module);

    if (hmcf == NULL || !hmcf->defined) {
        return;
    }

    ngx_hybrid_health_end(hmcf->shm);
    ngx_http_hybrid_queue_exit_worker(hmcf);

    if (hmcf->redis) {
        ngx_http_hybrid_idle_exit_worker(hmcf);
        ngx_http_hybrid_history_exit_worker(hmcf);
        ngx_hybrid_redis_destroy(hmcf->redis);
        ngx_http_hybrid_store_exit_worker(hmcf);
    }

    ngx_http_hybrid_jwt_exit_worker(hmcf);

    ngx_http_hybrid_revoke_exit_worker(hmcf);
    ngx_hybrid_getters_stop(&hmcf->getters);
    ngx_http_hybrid_probe_exit_worker(hmcf);
    ngx_http_hybrid_gce_exit(hmcf);

    ngx_hybrid_shm_client_end(hmcf->shm);

    EVP_MD_CTX_free(hmcf->digest);
    EVP_MD_free(hmcf->sha256);
}
