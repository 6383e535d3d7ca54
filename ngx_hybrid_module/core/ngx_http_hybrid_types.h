
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * What the configuration describes: clients, backends, routes.  All of it is
 * read only after merge, but for what is said to be a worker's own.
 */


#ifndef _NGX_HTTP_HYBRID_TYPES_H_INCLUDED_
#define _NGX_HTTP_HYBRID_TYPES_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>
#include <openssl/evp.h>

#include "ngx_hybrid_compat.h"
#include "ngx_hybrid_json.h"
#include "ngx_hybrid_multipart.h"
#include "ngx_hybrid_model.h"
#include "ngx_hybrid_shm.h"
#include "ngx_hybrid_health.h"
#include "ngx_hybrid_line.h"
#include "ngx_hybrid_doc.h"
#include "ngx_hybrid_watch.h"
#include "ngx_hybrid_getter.h"
#include "ngx_hybrid_redis.h"


#define NGX_HTTP_HYBRID_VERB_INFERENCE   0x01
#define NGX_HTTP_HYBRID_VERB_READ        0x02
#define NGX_HTTP_HYBRID_VERB_ADMIN       0x04

#define NGX_HTTP_HYBRID_ACCESS_OFF       0x01
#define NGX_HTTP_HYBRID_ACCESS_TOKEN     0x02
#define NGX_HTTP_HYBRID_ACCESS_JWT       0x04
#define NGX_HTTP_HYBRID_ACCESS_MTLS      0x08

#define NGX_HTTP_HYBRID_EGRESS_LOCAL     0x01
#define NGX_HTTP_HYBRID_EGRESS_CLOUD     0x02
#define NGX_HTTP_HYBRID_EGRESS_ANY       0x03

#define NGX_HTTP_HYBRID_NAME_MAX         64


typedef struct ngx_http_hybrid_ctx_s      ngx_http_hybrid_ctx_t;
typedef struct ngx_http_hybrid_lease_s    ngx_http_hybrid_lease_t;
typedef struct ngx_http_hybrid_idle_s     ngx_http_hybrid_idle_t;
typedef struct ngx_http_hybrid_flush_s    ngx_http_hybrid_flush_t;
typedef struct ngx_http_hybrid_history_s  ngx_http_hybrid_history_t;
typedef struct ngx_http_hybrid_revoke_s   ngx_http_hybrid_revoke_t;
typedef struct ngx_http_hybrid_levers_s   ngx_http_hybrid_levers_t;
typedef struct ngx_http_hybrid_store_s    ngx_http_hybrid_store_t;
typedef struct ngx_http_hybrid_backend_s  ngx_http_hybrid_backend_t;
typedef struct ngx_http_hybrid_certificate_s  ngx_http_hybrid_certificate_t;
typedef struct ngx_http_hybrid_catalogue_s  ngx_http_hybrid_catalogue_t;
typedef struct ngx_http_hybrid_peers_s    ngx_http_hybrid_peers_t;
typedef struct ngx_http_hybrid_prober_s   ngx_http_hybrid_prober_t;
typedef struct ngx_http_hybrid_target_s   ngx_http_hybrid_target_t;
typedef struct ngx_http_hybrid_issuer_s   ngx_http_hybrid_issuer_t;
typedef struct ngx_http_hybrid_failures_s ngx_http_hybrid_failures_t;
typedef struct ngx_http_hybrid_gce_s      ngx_http_hybrid_gce_t;
typedef struct ngx_http_hybrid_jwt_s      ngx_http_hybrid_jwt_t;
typedef struct ngx_http_hybrid_queue_s    ngx_http_hybrid_queue_t;
typedef struct ngx_http_hybrid_turn_s     ngx_http_hybrid_turn_t;
typedef struct ngx_http_hybrid_jwt_header_s  ngx_http_hybrid_jwt_header_t;


typedef enum {
    ngx_http_hybrid_api_ollama = 0,
    ngx_http_hybrid_api_openai
} ngx_http_hybrid_api_e;


/* where a statement stands, for what is only known at the end of http{} */

typedef struct {
    u_char                        *file;
    ngx_uint_t                     line;
} ngx_http_hybrid_place_t;


typedef enum {
    ngx_http_hybrid_loss_local = 0,
    ngx_http_hybrid_loss_open,
    ngx_http_hybrid_loss_closed
} ngx_http_hybrid_loss_e;


/* what clients prove themselves with: of the files, or of one from Redis */

typedef struct {
    ngx_rbtree_t                   tokens;  /* ngx_http_hybrid_token_t */
    ngx_rbtree_node_t              sentinel;
    ngx_array_t                    certs;   /* ngx_http_hybrid_cert_t * */
    ngx_array_t                    jwts;  /* ngx_http_hybrid_jwt_rule_t * */
} ngx_http_hybrid_identities_t;


/*
 * Members of Ollama's "options" that a client's "options" line bounds, in the
 * order of their keys, see core/ngx_http_hybrid_conf_options.c.
 */

#define NGX_HTTP_HYBRID_OPTIONS          17
#define NGX_HTTP_HYBRID_OPTION_PREDICT   6     /* num_predict */

#define NGX_HTTP_HYBRID_OPTION_NONE      -2    /* not on the line */
#define NGX_HTTP_HYBRID_OPTION_ANY       -1

typedef struct {
    int64_t                        keep_alive;  /* seconds */
    int64_t                        limits[NGX_HTTP_HYBRID_OPTIONS];
} ngx_http_hybrid_options_t;


/*
 * A limit as it was written: quota units in window seconds; of a budget the
 * units are millionths of money, and the window is a day or a month of UTC.
 */

typedef struct {
    uint64_t                       quota;   /* 0: no such limit */
    uint64_t                       burst;   /* units at once */
    uint64_t                       interval;  /* of a unit, nsec */
    ngx_uint_t                     window;
    ngx_http_hybrid_loss_e         loss;
    unsigned                       monthly:1;
} ngx_http_hybrid_limit_t;


typedef struct {
    ngx_str_t                      name;
    ngx_http_hybrid_place_t        place;
    ngx_http_hybrid_identities_t  *identities;  /* its own are in there */

    ngx_array_t                    models;  /* ngx_hybrid_pattern_t */
    ngx_http_hybrid_options_t     *options; /* NULL without such a line */
    ngx_uint_t                     verbs;
    ngx_uint_t                     egress;
    ngx_uint_t                     ncredentials;
    ngx_uint_t                     nending; /* of these, tokens that end */
    time_t                         ends;    /* the last one of them */

    ngx_http_hybrid_limit_t        limits[ngx_hybrid_meters];
    ngx_http_hybrid_limit_t        concurrency;
    ngx_uint_t                     queue;   /* requests, 0: none waits */
    ngx_msec_t                     queue_timeout;
    ngx_uint_t                     weight;  /* 0: one, not given */

    ngx_hybrid_shm_client_t       *shared;
    ngx_http_hybrid_lease_t       *lease;   /* of this worker, with Redis */

    /* of one from Redis, which goes with its last user; else NULL */
    ngx_pool_t                    *pool;
    ngx_atomic_uint_t              generation;  /* of the index, then */
    ngx_uint_t                     users;
} ngx_http_hybrid_client_t;


/* a client's service token; several may share an id (rotation) */

typedef struct ngx_http_hybrid_token_s  ngx_http_hybrid_token_t;

struct ngx_http_hybrid_token_s {
    ngx_str_node_t                 sn;      /* by client id */
    u_char                         digest[32];
    time_t                         until;   /* wall clock, if it ends */
    unsigned                       ends:1;
    ngx_http_hybrid_client_t      *client;
    ngx_http_hybrid_token_t       *next;    /* the same id */
};


typedef struct {
    ngx_hybrid_pattern_t           pattern;
    ngx_str_t                      name;    /* as written */
    ngx_hybrid_model_t             model;
} ngx_http_hybrid_rename_t;


/* times are msec */

typedef struct {
    ngx_msec_t                     interval;
    ngx_msec_t                     timeout;
    ngx_uint_t                     fails;
    ngx_uint_t                     passes;
    ngx_msec_t                     slow;    /* degraded above, 0: never */
    ngx_msec_t                     stall;   /* wedged without a byte */
    ngx_str_t                      uri;     /* instead of the API's list */
    unsigned                       on:1;
    unsigned                       set:1;
} ngx_http_hybrid_probe_t;


struct ngx_http_hybrid_backend_s {
    ngx_str_t                      name;
    ngx_http_hybrid_place_t        place;

    ngx_http_upstream_srv_conf_t  *upstream;
    ngx_str_t                      url;
    ngx_str_t                      schema;  /* "http://" or "https://" */
    ngx_str_t                      base;    /* path of the pass URL */
    ngx_str_t                      root;    /* of it, for Google's own paths */
    ngx_uint_t                     cloud;   /* which of Google's it is */
    ngx_str_t                      host;    /* Host, SNI, name to verify */
    ngx_http_hybrid_api_e          api;
    ngx_uint_t                     egress;

    ngx_array_t                    models;  /* ngx_hybrid_pattern_t */
    ngx_array_t                    renames; /* ngx_http_hybrid_rename_t */

    /*
     * Headers that prove to the backend who we are: ngx_table_elt_t, at most
     * two.  The values are written over when their files change.
     */
    ngx_array_t                    credentials;
    ngx_str_t                     *authorization;
    ngx_http_hybrid_gce_t         *gce;     /* its token is the credential */
    ngx_http_hybrid_certificate_t *certificate;

    ngx_http_hybrid_probe_t        probe;
    ngx_uint_t                     slots;   /* 0: no bound */
    ngx_uint_t                     cold_starts;  /* an hour, 0: any number */

    /* micro-units of money for a million tokens */
    uint64_t                       price_input;
    uint64_t                       price_output;

    ngx_hybrid_health_t           *health;
    ngx_uint_t                     waiters; /* this worker's, for a slot */
    ngx_hybrid_path_t            **paths;   /* in the order of the peers */
    ngx_uint_t                     npaths;
    ngx_http_hybrid_peers_t       *peers;   /* NULL: they can't be told of */
    ngx_http_hybrid_target_t      *target;  /* of probes, NULL: none */
    ngx_hybrid_doc_t              *turn;    /* of its probes */
    ngx_http_hybrid_catalogue_t   *catalogue;  /* NULL: not probed */

    unsigned                       ssl:1;
    unsigned                       host_set:1;
    unsigned                       any_model:1;  /* no "models" given */
    unsigned                       api_set:1;
    unsigned                       egress_set:1;
    unsigned                       models_set:1;
    unsigned                       credential_set:1;
    unsigned                       discover:1;  /* its own list alone says */
    unsigned                       priced:1;
    unsigned                       cold_starts_set:1;
};


typedef struct {
    ngx_http_hybrid_backend_t    **backends;
    ngx_uint_t                     n;
    ngx_uint_t                     discovered;  /* by their own lists */
} ngx_http_hybrid_group_t;


typedef struct {
    ngx_hybrid_pattern_t           pattern;
    ngx_http_hybrid_place_t        place;
    ngx_array_t                    words;   /* ngx_str_t, as written */
    ngx_array_t                    groups;  /* ngx_http_hybrid_group_t */
    ngx_uint_t                     max;     /* backends in all groups */
    ngx_atomic_t                   turn;    /* rotates equals, per worker */
} ngx_http_hybrid_route_t;


/* a model that is not there: the size of the prompt says which one is meant */

typedef struct {
    off_t                          limit;   /* bytes, 0: no limit */
    ngx_str_t                      name;    /* as written */
    ngx_hybrid_model_t             model;
} ngx_http_hybrid_size_t;


typedef struct {
    ngx_hybrid_pattern_t           pattern; /* an exact name */
    ngx_http_hybrid_place_t        place;
    ngx_array_t                    sizes;   /* ngx_http_hybrid_size_t */
} ngx_http_hybrid_virtual_t;


/* for the ledger, besides what else has times */

typedef struct {
    ngx_msec_t                     reading;   /* since then, without waits */
    ngx_msec_t                     body;      /* so long */
    ngx_msec_t                     first_try;
    ngx_uint_t                     earlier;   /* tries before a redirect */
} ngx_http_hybrid_spent_t;


#endif /* _NGX_HTTP_HYBRID_TYPES_H_INCLUDED_ */
