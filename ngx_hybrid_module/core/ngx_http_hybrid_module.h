
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * What the rooms share: the configuration (read only after merge) and the
 * context of a request.  Rooms meet each other through the functions that
 * are declared here, grouped by the room they live in.
 */


#ifndef _NGX_HTTP_HYBRID_MODULE_H_INCLUDED_
#define _NGX_HTTP_HYBRID_MODULE_H_INCLUDED_


#include "ngx_http_hybrid_types.h"


typedef struct {
    ngx_flag_t                     defined;
    size_t                         zone_size;
    ngx_shm_zone_t                *zone;
    ngx_hybrid_shm_t              *shm;

    ngx_hybrid_redis_conf_t       *redis_conf;
    ngx_array_t                    clients;   /* ngx_http_hybrid_client_t * */
    ngx_array_t                    backends;  /* ngx_http_hybrid_backend_t * */
    ngx_array_t                    routes;    /* ngx_http_hybrid_route_t * */
    ngx_array_t                    virtuals; /* ngx_http_hybrid_virtual_t * */
    ngx_array_t                    issuers;   /* ngx_http_hybrid_issuer_t * */
    ngx_http_hybrid_identities_t   identities;
    ngx_int_t                      cert_verify;  /* index of a variable */
    ngx_http_hybrid_place_t        cert_warned;
    ngx_http_hybrid_place_t        jwt_place; /* of a hybrid_access jwt */

    /* headers that tokens come in: Authorization or NULL, and the others */
    ngx_http_hybrid_jwt_header_t  *bearer;
    ngx_array_t                    assertions;
    ngx_hash_t                     headers;   /* that may travel on */
    ngx_array_t                    gces;      /* ngx_http_hybrid_gce_t * */
    ngx_hybrid_watches_t           watches;   /* files read again on change */
    ngx_hybrid_getters_t           getters;   /* documents fetched again */
    ngx_hybrid_doc_t              *revoked;   /* NULL: no Redis */
    ngx_hybrid_doc_t              *levers_doc;  /* NULL: no Redis */
    ngx_uint_t                     admin;     /* a location is one */
    ngx_flag_t                     clients_redis;
    ngx_http_hybrid_place_t        clients_place;
    ngx_hybrid_doc_t              *store_doc; /* identities in Redis */
    ngx_http_upstream_srv_conf_t  *upstream;  /* "hybrid" */
    ngx_resolver_t                *resolver;  /* of http{}, or NULL */
    ngx_array_t                    peers;     /* ngx_http_hybrid_peers_t * */
    ngx_http_upstream_conf_t      *tls;       /* of a location, for probes */
    ngx_uint_t                     filters;   /* a location uses us */

    /* of this worker, set in init_process */
    ngx_array_t                    http_variables;  /* ngx_uint_t, indexes */
    EVP_MD                        *sha256;
    EVP_MD_CTX                    *digest;
    ngx_hybrid_redis_t            *redis;
    ngx_http_hybrid_jwt_t         *jwt;
    ngx_http_hybrid_idle_t        *idle;      /* NULL: no Redis */
    ngx_http_hybrid_flush_t       *flush;
    ngx_http_hybrid_history_t     *history;
    ngx_http_hybrid_revoke_t      *revoke;
    ngx_http_hybrid_levers_t      *levers;
    ngx_http_hybrid_failures_t    *failures;
    ngx_http_hybrid_client_t       stranger;  /* whom hybrid_shadow lets in */
    ngx_http_hybrid_store_t       *store;     /* clients from Redis */
    ngx_http_hybrid_prober_t      *prober;
    ngx_http_hybrid_queue_t       *queue;     /* NULL: nobody waits */
    ngx_queue_t                    tries;     /* that are with a peer */
    ngx_atomic_uint_t              health_seen;
} ngx_http_hybrid_main_conf_t;


typedef enum {
    ngx_http_hybrid_status_none = 0,
    ngx_http_hybrid_status_json,
    ngx_http_hybrid_status_prometheus,
    ngx_http_hybrid_status_html
} ngx_http_hybrid_status_e;


typedef struct {
    ngx_uint_t                     access;  /* NGX_HTTP_HYBRID_ACCESS_* */
    ngx_http_hybrid_place_t        place;   /* of hybrid_access */
    ngx_http_hybrid_status_e       status;
    ngx_uint_t                     admin;
    ngx_http_hybrid_place_t        admin_place;
    ngx_flag_t                     shadow;
    size_t                         barrier;      /* zero: off */
    ngx_msec_t                     barrier_time;
    ngx_msec_t                     heartbeat;    /* zero: off */
} ngx_http_hybrid_loc_conf_t;


/* access/ngx_http_hybrid_endpoint.c: the table of what exists */

typedef enum {
    ngx_http_hybrid_dialect_ollama = 0,
    ngx_http_hybrid_dialect_openai,
    ngx_http_hybrid_dialect_anthropic,
    ngx_http_hybrid_dialect_google
} ngx_http_hybrid_dialect_e;


typedef enum {
    ngx_http_hybrid_model_none = 0,   /* any backend can answer */
    ngx_http_hybrid_model_body,       /* "model" */
    ngx_http_hybrid_model_body_name,  /* "model", else "name" */
    ngx_http_hybrid_model_form,       /* a form's field "model" */
    ngx_http_hybrid_model_copy,       /* "source" and "destination" */
    ngx_http_hybrid_model_path,       /* the rest of the path */
    ngx_http_hybrid_model_google,     /* in the middle of the path */
    ngx_http_hybrid_model_version,    /* by the gateway itself, if it can */
    ngx_http_hybrid_model_own,        /* of the gateway, with a body */
    ngx_http_hybrid_model_list        /* answered by the gateway itself */
} ngx_http_hybrid_model_e;


typedef struct {
    ngx_uint_t                     methods;
    ngx_str_t                      path;
    ngx_uint_t                     verb;
    ngx_http_hybrid_model_e        model;
    ngx_http_hybrid_dialect_e      dialect;
} ngx_http_hybrid_endpoint_t;


/* a request whose path names the model, as in the path */

#define NGX_HTTP_HYBRID_GEMINI           0x01
#define NGX_HTTP_HYBRID_VERTEX           0x02

typedef struct {
    ngx_str_t                      publisher;
    ngx_str_t                      model;
    ngx_str_t                      action;  /* ":generateContent" */
    ngx_uint_t                     clouds;  /* that have the action */
    ngx_uint_t                     sse;     /* asked for by the query */
} ngx_http_hybrid_google_t;


typedef struct {
    ngx_http_hybrid_backend_t     *backend;
    ngx_http_hybrid_rename_t      *rename;
    ngx_uint_t                     group;     /* of equals */
    ngx_msec_t                     taken;     /* its slot */
    const char                    *why;       /* it was passed over */

    /* what the backend's own upstream keeps for this request */
    void                          *data;
    ngx_event_get_peer_pt          get;
    ngx_event_free_peer_pt         free;
#if (NGX_SSL || NGX_COMPAT)
    ngx_event_set_peer_session_pt  set_session;
    ngx_event_save_peer_session_pt save_session;
#endif
    ngx_uint_t                     tries;
    unsigned                       initialized:1;
    unsigned                       tried:1;
    unsigned                       spent:1;
    unsigned                       slot:1;    /* counted as being there */
    unsigned                       awaited:1; /* its slot, in the line */
    unsigned                       let:1;     /* by the model's breaker */
    unsigned                       full:1;    /* none of its peers was free */
} ngx_http_hybrid_candidate_t;


/* what a request takes of its client's limits, see limit/ */

typedef struct {
    uint64_t                       input;    /* tokens, estimated */
    uint64_t                       output;
    uint64_t                       need[ngx_hybrid_meters];  /* not there yet */
    uint64_t                       held[ngx_hybrid_meters];
    uint64_t                       reset;    /* the last, before that */
    ngx_uint_t                     period;   /* of the budget */
    unsigned                       leased:4; /* bits: held by Redis, too */
    unsigned                       slot_need:1;
    unsigned                       slot:1;
} ngx_http_hybrid_reserve_t;


/* slots of the policy keys that the body scanner looks for */

#define NGX_HTTP_HYBRID_KEY_MODEL        0
#define NGX_HTTP_HYBRID_KEY_NAME         1
#define NGX_HTTP_HYBRID_KEY_SOURCE       2
#define NGX_HTTP_HYBRID_KEY_DESTINATION  3
#define NGX_HTTP_HYBRID_KEY_FROM         4
#define NGX_HTTP_HYBRID_KEY_KEEP_ALIVE   5
#define NGX_HTTP_HYBRID_KEY_TOOLS        6
#define NGX_HTTP_HYBRID_KEY_OPTIONS      7
#define NGX_HTTP_HYBRID_KEY_REMOTE_HOST  8
#define NGX_HTTP_HYBRID_KEY_MODELFILE    9
#define NGX_HTTP_HYBRID_KEY_PATH         10
#define NGX_HTTP_HYBRID_KEY_WEB_SEARCH   11
#define NGX_HTTP_HYBRID_KEY_MCP_SERVERS  12
#define NGX_HTTP_HYBRID_KEY_REQUESTS     13
#define NGX_HTTP_HYBRID_KEY_CONTENT_REQUEST  14    /* and 15 */
#define NGX_HTTP_HYBRID_KEY_STREAM       16
#define NGX_HTTP_HYBRID_KEY_STREAM_OPTIONS  17
#define NGX_HTTP_HYBRID_KEY_MAX_TOKENS   18
#define NGX_HTTP_HYBRID_KEY_MAX_COMPLETION_TOKENS  19
#define NGX_HTTP_HYBRID_KEY_MAX_OUTPUT_TOKENS  20
#define NGX_HTTP_HYBRID_KEY_N            21
#define NGX_HTTP_HYBRID_KEY_GENERATION   22    /* and 23 */
#define NGX_HTTP_HYBRID_KEYS             24
/*
 * Behind them the members of "options", the one of "stream_options", and two
 * spellings of two of "generationConfig".
 */
#define NGX_HTTP_HYBRID_USAGE  (NGX_HTTP_HYBRID_KEYS+NGX_HTTP_HYBRID_OPTIONS)
#define NGX_HTTP_HYBRID_GENERATION       (NGX_HTTP_HYBRID_USAGE+1)
#define NGX_HTTP_HYBRID_VALUES           (NGX_HTTP_HYBRID_GENERATION+4)

/* two names in full, as in a copy, and the options and other numbers */
#define NGX_HTTP_HYBRID_ARENA            (2 * NGX_HYBRID_MODEL_MAX + 416)


typedef struct {
    ngx_hybrid_multipart_t        *form;    /* NULL: it is JSON */
    ngx_hybrid_json_t              json;
    ngx_hybrid_json_value_t        values[NGX_HTTP_HYBRID_VALUES];
    u_char                         arena[NGX_HTTP_HYBRID_ARENA];
} ngx_http_hybrid_body_t;


/* tokens; told: the backend's own number, or else what we think */

typedef struct {
    uint64_t                       input;
    uint64_t                       output;
    unsigned                       told_input:1;
    unsigned                       told_output:1;
} ngx_http_hybrid_usage_t;


/*
 * The context of a request.  It lives in the data of a pool cleanup, where
 * ngx_http_hybrid_get_ctx() finds it again after an internal redirect has
 * wiped r->ctx: the verdict and the accounting happen once a request.
 *
 * body and limit run side by side; the access handler goes on when
 * neither "reading" nor "waiting" is set.  While "reading" the body reader
 * owns the request, while only "waiting" the limit does.
 */

struct ngx_http_hybrid_ctx_s {
    ngx_http_request_t                *request;
    ngx_http_hybrid_main_conf_t       *conf;
    const ngx_http_hybrid_endpoint_t  *endpoint;
    ngx_http_hybrid_client_t          *client;

    /* who proved it how, which is what a revocation may name */
    ngx_uint_t                         auth;       /* ACCESS_* */
    ngx_str_t                          credential; /* token id, fingerprint */
    ngx_str_t                          issuer;     /* of a JWT: our name, */
    ngx_str_t                          subject;    /*   "sub" or common_name, */
    ngx_str_t                          jti;        /*   may be empty */

    /* a refusal: reason is a code, message is for people */
    ngx_int_t                          verdict;
    ngx_str_t                          reason;
    ngx_str_t                          message;
    ngx_uint_t                         retry_after;   /* seconds */
    ngx_uint_t                         allow;         /* methods, of a 405 */

    ngx_http_hybrid_body_t            *body;
    ngx_uint_t                         key;           /* of the model */
    ngx_hybrid_model_t                 model;
    ngx_http_hybrid_size_t            *size;          /* chose the model */
    ngx_str_t                          path;          /* upstream path */
    ngx_http_hybrid_google_t          *google;

    ngx_http_hybrid_candidate_t       *candidates;
    ngx_uint_t                         ncandidates;
    ngx_uint_t                         current;
    ngx_http_hybrid_candidate_t       *built;         /* request is for it */
    ngx_str_t                          fallback;      /* why not the first */
    ngx_uint_t                         tries;
    ngx_uint_t                         last_status;
    ngx_http_handler_pt                content_handler;

    /* the request as the client sent it, while another one is built */
    ngx_list_t                         headers;
    ngx_str_t                          uri;
    ngx_str_t                          args;
    ngx_list_t                         filtered;
    ngx_chain_t                       *bufs;
    off_t                              length;

    ngx_http_upstream_t               *u;
    ngx_queue_t                        trying;    /* of all tries */
    ngx_event_t                        unheard;   /* what was sent, so far */
    struct ngx_http_hybrid_answer_s   *answer;
    ngx_msec_t                         first_token;   /* zero: none yet */
    ngx_msec_t                         progress;      /* bytes have come */
    ngx_http_hybrid_usage_t            estimate;      /* before the answer */
    ngx_http_hybrid_usage_t            usage;

    /* a wait for credits, and before that for the client itself */
    ngx_queue_t                        waiter;
    ngx_http_hybrid_lease_t           *lease;
    ngx_http_hybrid_reserve_t          reserve;
    ngx_msec_t                         queue_until;   /* at most, in all */
    uint64_t                           hit_wait;      /* for what it waits, */
    ngx_uint_t                         hit_meter;     /*   usec */
    ngx_msec_t                         start;
    ngx_http_hybrid_spent_t            spent;
    ngx_msec_t                         queued;
    ngx_msec_t                         queue_time;
    ngx_http_hybrid_turn_t            *turn;  /* in the line for a slot */

    ngx_uint_t                         loss;   /* limits without Redis */
    void                              *view;   /* of the status page */
    ngx_str_t                          version; /* that is answered */

    /* failures to authenticate are told of, and may have to wait */
    const char                        *why;
    ngx_msec_t                         due;

    /* refusals that were let through, bits of ngx_hybrid_shadow_e */
    ngx_uint_t                         shadow;
    ngx_hybrid_shadow_e                shadow_first;

    unsigned                           scanning:1;
    unsigned                           entering:1;
    unsigned                           reading:1;
    unsigned                           waiting:1;
    unsigned                           asking:1;
    unsigned                           asked:1;
    unsigned                           decided:1;
    unsigned                           presented:1;
    unsigned                           unparsed_uri:1;
    unsigned                           quoted_uri:1;
    unsigned                           valid_location:1;
    unsigned                           no_live:1;
    unsigned                           passed_over:1; /* a better one */
    unsigned                           lost:1;        /* on its path */
    unsigned                           replace:1;
    unsigned                           replaced:1;
    unsigned                           degraded:1;
    unsigned                           counted:1;
    unsigned                           failed:1;      /* "why" was told of */
    unsigned                           slowed:1;
    unsigned                           going:1;       /* after the decision */
    unsigned                           routed:1;
    unsigned                           reserved:1;
    unsigned                           settled:1;
    unsigned                           delayed:1;     /* for a limit, */
    unsigned                           queueing:1;    /*   counted as such */
    unsigned                           hit_slot:1;
    unsigned                           limit_hit:1;   /* and it is refused */
    unsigned                           metered:1;     /* limits were asked */
    unsigned                           asked_limits:1;
    unsigned                           jwt:1;         /* one was shown */
    unsigned                           local:1;       /* no cloud for it */
    unsigned                           estimated:1;
    unsigned                           used:1;        /* usage is final */
};


/* what a gateway knows of the list of revocations */

typedef struct {
    ngx_uint_t                         known;
    ngx_uint_t                         entries;
    ngx_msec_t                         age;   /* since it was looked for */
    size_t                             nerror;
    u_char                             error[NGX_HYBRID_DOC_ERROR];
} ngx_http_hybrid_revoke_state_t;


/* core */

ngx_http_hybrid_ctx_t *ngx_http_hybrid_get_ctx(ngx_http_request_t *r);
ngx_http_hybrid_ctx_t *ngx_http_hybrid_create_ctx(ngx_http_request_t *r);
ngx_uint_t ngx_http_hybrid_answered(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx);
void ngx_http_hybrid_suspend(ngx_http_request_t *r);
void ngx_http_hybrid_resume(ngx_http_request_t *r);
void ngx_http_hybrid_identities_init(
    ngx_http_hybrid_identities_t *identities);
ngx_int_t ngx_http_hybrid_client_init_zone(ngx_http_hybrid_main_conf_t *hmcf,
    ngx_log_t *log);
ngx_int_t ngx_http_hybrid_client_init_worker(
    ngx_http_hybrid_main_conf_t *hmcf);
void ngx_http_hybrid_client_hold(ngx_http_hybrid_client_t *client);
void ngx_http_hybrid_client_release(ngx_http_hybrid_client_t *client);
ngx_int_t ngx_http_hybrid_add_variables(ngx_conf_t *cf);

char *ngx_http_hybrid_zone(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_hybrid_redis(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_hybrid_clients(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_hybrid_client(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_hybrid_backend(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_hybrid_issuer(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_hybrid_route(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_hybrid_access(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_hybrid_status(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_hybrid_shadow_set(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

extern ngx_hybrid_json_key_t  ngx_http_hybrid_option_keys[];
ngx_uint_t ngx_http_hybrid_option_loads(ngx_uint_t option);
ngx_http_hybrid_options_t *ngx_http_hybrid_options_create(ngx_pool_t *pool);
const char *ngx_http_hybrid_options_add(ngx_http_hybrid_options_t *options,
    ngx_str_t *arg);

/* access */

const ngx_http_hybrid_endpoint_t *ngx_http_hybrid_endpoint_find(
    ngx_http_request_t *r, ngx_str_t *path, ngx_uint_t *methods);
const ngx_http_hybrid_endpoint_t *ngx_http_hybrid_endpoint_status(void);
const ngx_http_hybrid_endpoint_t *ngx_http_hybrid_endpoint_admin(void);
ngx_http_hybrid_dialect_e ngx_http_hybrid_endpoint_dialect(
    ngx_http_request_t *r);

const ngx_http_hybrid_endpoint_t *ngx_http_hybrid_google_find(
    ngx_str_t *path);
ngx_int_t ngx_http_hybrid_google_init(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx);
ngx_int_t ngx_http_hybrid_google_body(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx);

ngx_int_t ngx_http_hybrid_access_handler(ngx_http_request_t *r);
ngx_int_t ngx_http_hybrid_access_verdict_handler(ngx_http_request_t *r);
ngx_int_t ngx_http_hybrid_identify(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_uint_t access);
ngx_int_t ngx_http_hybrid_identity_refuse(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, const char *why);
ngx_int_t ngx_http_hybrid_failure_init_worker(
    ngx_http_hybrid_main_conf_t *hmcf, ngx_cycle_t *cycle);
void ngx_http_hybrid_failure(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, const char *why);
void ngx_http_hybrid_failure_refused(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx);
ngx_int_t ngx_http_hybrid_failure_wait(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_int_t rc);
void ngx_http_hybrid_failure_detach(ngx_http_hybrid_ctx_t *ctx);
ngx_int_t ngx_http_hybrid_shadow_init(ngx_conf_t *cf,
    ngx_http_hybrid_main_conf_t *hmcf);
ngx_uint_t ngx_http_hybrid_shadow(ngx_http_hybrid_ctx_t *ctx,
    ngx_hybrid_shadow_e reason);
ngx_uint_t ngx_http_hybrid_shadow_open(ngx_http_request_t *r);
void ngx_http_hybrid_shadow_stranger(ngx_http_hybrid_ctx_t *ctx);
ngx_int_t ngx_http_hybrid_shadow_again(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx);
ngx_str_t *ngx_http_hybrid_shadow_name(ngx_uint_t reason);
void ngx_http_hybrid_shadow_log(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx);
ngx_int_t ngx_http_hybrid_token_verify(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_str_t *id, ngx_str_t *secret);
ngx_int_t ngx_http_hybrid_revoke_init_zone(ngx_http_hybrid_main_conf_t *hmcf,
    ngx_log_t *log);
ngx_int_t ngx_http_hybrid_revoke_init_worker(
    ngx_http_hybrid_main_conf_t *hmcf, ngx_cycle_t *cycle);
void ngx_http_hybrid_revoke_exit_worker(ngx_http_hybrid_main_conf_t *hmcf);
ngx_int_t ngx_http_hybrid_revoke_check(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx);
/* NGX_DECLINED: there is no Redis, and so no list */
ngx_int_t ngx_http_hybrid_revoke_state(ngx_http_hybrid_main_conf_t *hmcf,
    ngx_http_hybrid_revoke_state_t *state);
ngx_int_t ngx_http_hybrid_jwt_verify(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_http_hybrid_jwt_header_t *header,
    ngx_str_t *token);
ngx_int_t ngx_http_hybrid_jwt_init(ngx_conf_t *cf,
    ngx_http_hybrid_main_conf_t *hmcf);
ngx_int_t ngx_http_hybrid_jwt_init_worker(ngx_http_hybrid_main_conf_t *hmcf,
    ngx_cycle_t *cycle);
void ngx_http_hybrid_jwt_exit_worker(ngx_http_hybrid_main_conf_t *hmcf);

/*
 * The client in Redis that has a token of this id.  NGX_DECLINED: nobody
 * has; NGX_AGAIN: the request waits and will be resumed; NGX_BUSY: that
 * can't be told now.
 */
ngx_int_t ngx_http_hybrid_store_token(ngx_http_hybrid_ctx_t *ctx,
    ngx_str_t *id, ngx_http_hybrid_client_t **client);
void ngx_http_hybrid_store_detach(ngx_http_hybrid_ctx_t *ctx);
ngx_int_t ngx_http_hybrid_store_init_zone(ngx_http_hybrid_main_conf_t *hmcf,
    ngx_log_t *log);
ngx_int_t ngx_http_hybrid_store_init_worker(
    ngx_http_hybrid_main_conf_t *hmcf, ngx_cycle_t *cycle);
void ngx_http_hybrid_store_exit_worker(ngx_http_hybrid_main_conf_t *hmcf);

ngx_int_t ngx_http_hybrid_policy_body(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx);
ngx_int_t ngx_http_hybrid_policy_model(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx);
ngx_uint_t ngx_http_hybrid_policy_cloud(ngx_hybrid_model_t *model);
ngx_uint_t ngx_http_hybrid_policy_may_use(ngx_http_hybrid_client_t *client,
    ngx_hybrid_model_t *model);
ngx_uint_t ngx_http_hybrid_policy_egress(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_backend_t *backend);
ngx_int_t ngx_http_hybrid_options_check(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx);

ngx_int_t ngx_http_hybrid_refuse(ngx_http_hybrid_ctx_t *ctx, ngx_int_t status,
    const char *reason, const char *message);
ngx_int_t ngx_http_hybrid_refusal_header(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx);
ngx_int_t ngx_http_hybrid_refusal_body(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_chain_t *in, ngx_chain_t **out);

/* an error for who has had a header already; 0: the answer broke off */
ngx_int_t ngx_http_hybrid_refusal_late(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_uint_t status, ngx_str_t *text);
ngx_table_elt_t *ngx_http_hybrid_add_header(ngx_http_request_t *r,
    const char *key, ngx_str_t *value);

/* route */

ngx_int_t ngx_http_hybrid_body_init(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx);
void ngx_http_hybrid_body_free(ngx_http_hybrid_ctx_t *ctx);
void ngx_http_hybrid_body_scan(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_chain_t *in);

ngx_int_t ngx_http_hybrid_route_init(ngx_conf_t *cf,
    ngx_http_hybrid_main_conf_t *hmcf);
ngx_int_t ngx_http_hybrid_route_find(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx);
ngx_uint_t ngx_http_hybrid_route_open(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_candidate_t *cand);
ngx_uint_t ngx_http_hybrid_route_embeds(ngx_http_hybrid_ctx_t *ctx);
ngx_uint_t ngx_http_hybrid_route_has(ngx_http_hybrid_route_t *route,
    ngx_http_hybrid_backend_t *backend);
ngx_uint_t ngx_http_hybrid_backend_has(ngx_http_hybrid_backend_t *backend,
    ngx_hybrid_model_t *model, ngx_http_hybrid_rename_t **rename);
ngx_int_t ngx_http_hybrid_list_handler(ngx_http_request_t *r);
ngx_int_t ngx_http_hybrid_list_version(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx);

char *ngx_http_hybrid_admin(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_hybrid_admin_check(ngx_conf_t *cf,
    ngx_http_hybrid_loc_conf_t *hlcf);
ngx_int_t ngx_http_hybrid_lever_init_zone(ngx_http_hybrid_main_conf_t *hmcf,
    ngx_log_t *log);
ngx_int_t ngx_http_hybrid_lever_init_worker(ngx_http_hybrid_main_conf_t *hmcf,
    ngx_cycle_t *cycle);
ngx_uint_t ngx_http_hybrid_lever_drained(ngx_http_hybrid_ctx_t *ctx);

/* hybrid_route of a virtual model, by the size of the prompt */
ngx_uint_t ngx_http_hybrid_size_is(ngx_str_t *word);
char *ngx_http_hybrid_size(ngx_conf_t *cf, ngx_http_hybrid_main_conf_t *hmcf);
ngx_int_t ngx_http_hybrid_size_init(ngx_conf_t *cf,
    ngx_http_hybrid_main_conf_t *hmcf);
void ngx_http_hybrid_size_measure(ngx_http_hybrid_ctx_t *ctx);
ngx_int_t ngx_http_hybrid_size_choose(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx);

/* what the backend is to be asked for, NULL: the name that the client gave */
ngx_str_t *ngx_http_hybrid_request_model(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_candidate_t *cand);

void ngx_http_hybrid_google_backend(ngx_http_hybrid_backend_t *backend);
ngx_uint_t ngx_http_hybrid_google_speaks(ngx_http_hybrid_backend_t *backend,
    ngx_http_hybrid_google_t *google);
ngx_int_t ngx_http_hybrid_google_target(ngx_http_hybrid_google_t *google,
    ngx_http_hybrid_backend_t *backend, ngx_http_hybrid_rename_t *rename,
    ngx_str_t *model);
ngx_int_t ngx_http_hybrid_google_uri(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_http_hybrid_candidate_t *cand);
ngx_int_t ngx_http_hybrid_google_name(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_candidate_t *cand, ngx_str_t *name);

ngx_int_t ngx_http_hybrid_request_init(ngx_conf_t *cf,
    ngx_http_hybrid_main_conf_t *hmcf);
ngx_int_t ngx_http_hybrid_request_init_worker(
    ngx_http_hybrid_main_conf_t *hmcf, ngx_cycle_t *cycle);
void ngx_http_hybrid_request_wrap(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx);
ngx_int_t ngx_http_hybrid_request_present(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx, ngx_http_hybrid_candidate_t *cand);
void ngx_http_hybrid_request_restore(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx);
void ngx_http_hybrid_request_answered(ngx_http_request_t *r);
ngx_int_t ngx_http_hybrid_request_secret(ngx_http_request_t *r,
    ngx_str_t *value, ngx_str_t *secret);
ngx_uint_t ngx_http_hybrid_request_plain(ngx_http_hybrid_candidate_t *cand);

ngx_int_t ngx_http_hybrid_balancer_init(ngx_conf_t *cf,
    ngx_http_upstream_srv_conf_t *uscf);
const char *ngx_http_hybrid_balancer_check(ngx_conf_t *cf,
    ngx_http_hybrid_loc_conf_t *hlcf);

ngx_int_t ngx_http_hybrid_probe_init(ngx_conf_t *cf,
    ngx_http_hybrid_main_conf_t *hmcf);
ngx_int_t ngx_http_hybrid_probe_init_zone(ngx_http_hybrid_main_conf_t *hmcf,
    ngx_log_t *log);
ngx_int_t ngx_http_hybrid_probe_init_worker(ngx_http_hybrid_main_conf_t *hmcf,
    ngx_cycle_t *cycle);
void ngx_http_hybrid_probe_exit_worker(ngx_http_hybrid_main_conf_t *hmcf);
ngx_int_t ngx_http_hybrid_peers_init(ngx_conf_t *cf,
    ngx_http_hybrid_main_conf_t *hmcf);
void ngx_http_hybrid_peers_leave(ngx_http_hybrid_ctx_t *ctx);

/* the seconds of an answer's Retry-After, zero when there are none */
ngx_uint_t ngx_http_hybrid_attempt_retry(ngx_http_upstream_t *u,
    ngx_uint_t status);
void ngx_http_hybrid_attempt_failed(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_candidate_t *cand, ngx_uint_t status,
    ngx_uint_t timedout);
void ngx_http_hybrid_attempt_passed(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_candidate_t *cand, ngx_str_t *why);

/*
 * The wait for a slot.  NGX_AGAIN: the request waits and will be resumed, and
 * this is to be called again; NGX_OK: go on; else a refusal.
 */
ngx_int_t ngx_http_hybrid_queue_enter(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx);
void ngx_http_hybrid_queue_detach(ngx_http_hybrid_ctx_t *ctx);

/* around nginx's own chain writer */
ngx_int_t ngx_http_hybrid_socket_output(void *data, ngx_chain_t *in);
void ngx_http_hybrid_socket_done(ngx_http_hybrid_ctx_t *ctx);

char *ngx_http_hybrid_credential(ngx_conf_t *cf,
    ngx_http_hybrid_backend_t *backend);

/* the arguments of "credential gce" */
char *ngx_http_hybrid_gce(ngx_conf_t *cf, ngx_http_hybrid_backend_t *backend);
ngx_int_t ngx_http_hybrid_gce_init(ngx_conf_t *cf,
    ngx_http_hybrid_main_conf_t *hmcf, ngx_resolver_t *resolver);
ngx_int_t ngx_http_hybrid_gce_adopt(ngx_http_hybrid_main_conf_t *hmcf,
    ngx_log_t *log);
void ngx_http_hybrid_gce_exit(ngx_http_hybrid_main_conf_t *hmcf);

/* whether there is a token that is good now; its header's value */
ngx_uint_t ngx_http_hybrid_gce_ready(ngx_http_hybrid_gce_t *gce,
    ngx_log_t *log);
ngx_str_t *ngx_http_hybrid_gce_value(ngx_http_hybrid_gce_t *gce);

/* limit */

/* any but "queue" and "weight" */
ngx_uint_t ngx_http_hybrid_limited(ngx_http_hybrid_client_t *client);
void ngx_http_hybrid_limit_adopt(ngx_http_hybrid_client_t *client);

/*
 * At the headers; and when candidates are known.  NGX_OK, NGX_AGAIN: the
 * request waits and is resumed, or a refusal.
 */
ngx_int_t ngx_http_hybrid_limit_reserve(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx);
ngx_int_t ngx_http_hybrid_limit_tokens(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx);

/* before each try: 0 when it would cost more than is left */
ngx_uint_t ngx_http_hybrid_limit_budget(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_candidate_t *cand);
void ngx_http_hybrid_budget_need(ngx_http_hybrid_ctx_t *ctx);
uint64_t ngx_http_hybrid_budget_cost(ngx_http_hybrid_ctx_t *ctx);

/* it waits no more; and it is over, all is settled */
void ngx_http_hybrid_limit_detach(ngx_http_hybrid_ctx_t *ctx);
void ngx_http_hybrid_limit_end(ngx_http_hybrid_ctx_t *ctx);

void ngx_http_hybrid_idle_exit_worker(ngx_http_hybrid_main_conf_t *hmcf);
ngx_int_t ngx_http_hybrid_lease_init_worker(
    ngx_http_hybrid_main_conf_t *hmcf, ngx_cycle_t *cycle);
ngx_int_t ngx_http_hybrid_lease_create(ngx_http_hybrid_main_conf_t *hmcf,
    ngx_http_hybrid_client_t *client, ngx_pool_t *pool);
void ngx_http_hybrid_lease_destroy(ngx_http_hybrid_lease_t *lease);

/* stats */

/*
 * Tokens of a request before it is sent: input by its size, output what the
 * client bounds it to, zero when it does not, or when none is made.
 */
void ngx_http_hybrid_usage_estimate(ngx_http_hybrid_ctx_t *ctx,
    uint64_t *input, uint64_t *output);

/* by what has come so far; NGX_DECLINED: nothing, no backend has answered */
ngx_int_t ngx_http_hybrid_usage_now(ngx_http_hybrid_ctx_t *ctx,
    ngx_http_hybrid_usage_t *usage);

/* ctx->usage is final; a second call changes nothing */
void ngx_http_hybrid_usage_end(ngx_http_hybrid_ctx_t *ctx);

/* micro-units of money, rounded up; zero without a price */
uint64_t ngx_http_hybrid_usage_cost(ngx_http_hybrid_backend_t *backend,
    uint64_t input, uint64_t output);

void ngx_http_hybrid_stats_log(ngx_http_request_t *r,
    ngx_http_hybrid_ctx_t *ctx);
void ngx_http_hybrid_flush_last(ngx_http_hybrid_main_conf_t *hmcf);
ngx_int_t ngx_http_hybrid_status_handler(ngx_http_request_t *r);


extern ngx_module_t  ngx_http_hybrid_module;
extern ngx_module_t  ngx_http_proxy_module;


#endif /* _NGX_HTTP_HYBRID_MODULE_H_INCLUDED_ */
