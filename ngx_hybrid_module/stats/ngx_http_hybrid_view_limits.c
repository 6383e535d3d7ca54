
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Clients and what is left of their limits, as far as this gateway knows:
 * those of the files, and of Redis those that it serves at present.
 */


#include "ngx_http_hybrid_stats.h"
#include "ngx_http_hybrid_limits.h"


/* clients of Redis that are shown */
#define NGX_HTTP_HYBRID_VIEW_OTHERS   1000

/* the limits of one in JSON */
#define NGX_HTTP_HYBRID_VIEW_CLIENT   2048


typedef struct {
    ngx_str_t                 name;
    ngx_hybrid_shm_client_t  *shared;
    ngx_uint_t                redis;    /* it comes from there */
} ngx_http_hybrid_view_client_t;

typedef struct {
    const char               *name;
    const char               *help;
    uint64_t                (*value)(ngx_http_hybrid_left_t *left);
} ngx_http_hybrid_view_gauge_t;


static ngx_uint_t ngx_http_hybrid_view_client(ngx_http_hybrid_view_t *view,
    ngx_uint_t i, ngx_http_hybrid_view_client_t *client);
static void ngx_http_hybrid_prom_gauge(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_view_gauge_t *gauge, ngx_http_hybrid_out_t *out);
static void ngx_http_hybrid_prom_clients(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out);
static uint64_t ngx_http_hybrid_view_quota(ngx_http_hybrid_left_t *left);
static uint64_t ngx_http_hybrid_view_burst(ngx_http_hybrid_left_t *left);
static uint64_t ngx_http_hybrid_view_left(ngx_http_hybrid_left_t *left);
static uint64_t ngx_http_hybrid_view_leased(ngx_http_hybrid_left_t *left);


static ngx_http_hybrid_view_gauge_t  ngx_http_hybrid_view_gauges[] = {

    { "quota", "What a client may use, in money for a budget.",
      ngx_http_hybrid_view_quota },
    { "burst", "What a client may use at once: all that can be left.",
      ngx_http_hybrid_view_burst },
    { "left", "What is left of that, as this gateway knows.",
      ngx_http_hybrid_view_left },
    { "leased", "Of that, what this gateway has got from Redis.",
      ngx_http_hybrid_view_leased },

    { NULL, NULL, NULL }
};


ngx_int_t
ngx_http_hybrid_limits_open(ngx_http_hybrid_view_t *view)
{
    ngx_uint_t  n;

    if (view->conf->clients_redis) {
        n = ngx_min(view->conf->shm->sh->clients.n,
                    NGX_HTTP_HYBRID_VIEW_OTHERS);

        view->others = ngx_palloc(view->request->pool,
                                  n * sizeof(ngx_hybrid_shm_other_t));
        if (view->others == NULL) {
            return NGX_ERROR;
        }

        view->nothers = ngx_hybrid_shm_client_others(view->conf->shm,
                                                     view->others, n);
    }

    return NGX_OK;
}


static ngx_uint_t
ngx_http_hybrid_view_client(ngx_http_hybrid_view_t *view, ngx_uint_t i,
    ngx_http_hybrid_view_client_t *client)
{
    ngx_hybrid_shm_other_t     *other;
    ngx_http_hybrid_client_t  **clients;

    if (i < view->conf->clients.nelts) {
        clients = view->conf->clients.elts;

        client->name = clients[i]->name;
        client->shared = clients[i]->shared;
        client->redis = 0;

        return 1;
    }

    i -= view->conf->clients.nelts;

    if (i >= view->nothers) {
        return 0;
    }

    other = &view->others[i];

    client->name.data = other->name;
    client->name.len = other->len;
    client->shared = other->client;
    client->redis = 1;

    return 1;
}


void
ngx_http_hybrid_json_clients(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out)
{
    u_char                        *p, *end;
    ngx_uint_t                     i;
    ngx_hybrid_meter_t            *rate;
    ngx_http_hybrid_view_client_t  client;

    ngx_http_hybrid_out(out, "\"clients\":[");

    for (i = 0; ngx_http_hybrid_view_client(view, i, &client); i++) {

        rate = &client.shared->meters[ngx_hybrid_meter_rate];

        ngx_http_hybrid_out(out, "%s{\"name\":\"%V\",\"from\":\"%s\","
                            "\"rate_interval_us\":%uA,\"burst\":%uA,"
                            "\"refills\":%uA,\"waited\":%uA,"
                            "\"without_redis\":%uA,",
                            i ? ",\n" : "\n", &client.name,
                            client.redis ? "redis" : "file",
                            rate->interval / 1000,
                            client.shared->bursts[ngx_hybrid_meter_rate],
                            client.shared->refills, client.shared->waits,
                            client.shared->local);

        p = ngx_http_hybrid_out_room(out, NGX_HTTP_HYBRID_VIEW_CLIENT, &end);
        if (p == NULL) {
            return;
        }

        p = ngx_http_hybrid_limits_json(client.shared,
                                        ngx_http_hybrid_view_redis(view), p,
                                        end);
        ngx_http_hybrid_out_end(out, p);

        ngx_http_hybrid_out(out, "}");
    }

    ngx_http_hybrid_out(out, "],\n");
}


/* two members of an object, without a comma at the end */

u_char *
ngx_http_hybrid_limits_json(ngx_hybrid_shm_client_t *shared, ngx_uint_t redis,
    u_char *p, u_char *end)
{
    uint64_t                 used;
    ngx_uint_t               i, n;
    ngx_http_hybrid_left_t   left;

    p = ngx_slprintf(p, end, "\"waiting\":%ui,\"limits\":{",
                     ngx_hybrid_cells_waiting(&shared->cells));

    for (i = 0, n = 0; i < NGX_HTTP_HYBRID_LIMITS; i++) {

        if (ngx_http_hybrid_limit_left(shared, i, redis, &left) != NGX_OK) {
            continue;
        }

        p = ngx_slprintf(p, end, "%s\"%V\":{", n++ ? "," : "",
                         &ngx_http_hybrid_limit_names[i]);

        if (i == NGX_HTTP_HYBRID_LIMIT_SLOTS) {
            p = ngx_slprintf(p, end, "\"quota\":%uL,\"in_flight\":%ui,"
                             "\"used\":%uL,\"left\":%uL,\"leased\":%uL}",
                             left.quota,
                             ngx_hybrid_cells_busy(&shared->cells),
                             left.quota - left.left, left.left, left.leased);
            continue;
        }

        used = left.burst - left.left;

        if (i == ngx_hybrid_meter_budget) {
            p = ngx_slprintf(p, end, "\"quota\":%uL.%06uL,\"period\":\"%s\","
                             "\"used\":%uL.%06uL,\"left\":%uL.%06uL,"
                             "\"leased\":%uL.%06uL,\"reset\":%uL}",
                             left.quota / 1000000, left.quota % 1000000,
                             left.monthly ? "month" : "day",
                             used / 1000000, used % 1000000,
                             left.left / 1000000, left.left % 1000000,
                             left.leased / 1000000, left.leased % 1000000,
                             left.reset / 1000000);
            continue;
        }

        p = ngx_slprintf(p, end, "\"quota\":%uL,\"window\":%ui,"
                         "\"burst\":%uL,\"used\":%uL,\"left\":%uL,"
                         "\"leased\":%uL,\"reset\":%uL.%03uL}",
                         left.quota, left.window, left.burst, used,
                         left.left, left.leased, left.reset / 1000000,
                         left.reset / 1000 % 1000);
    }

    return ngx_slprintf(p, end, "}");
}


void
ngx_http_hybrid_prom_limits(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out)
{
    ngx_http_hybrid_view_gauge_t  *gauge;

    for (gauge = ngx_http_hybrid_view_gauges; gauge->name; gauge++) {
        ngx_http_hybrid_prom_gauge(view, gauge, out);
    }

    ngx_http_hybrid_prom_clients(view, out);
}


static void
ngx_http_hybrid_prom_gauge(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_view_gauge_t *gauge, ngx_http_hybrid_out_t *out)
{
    uint64_t                       n;
    ngx_uint_t                     i, j, redis;
    ngx_http_hybrid_left_t         left;
    ngx_http_hybrid_view_client_t  client;

    redis = ngx_http_hybrid_view_redis(view);

    ngx_http_hybrid_out(out,
        "# HELP ngx_hybrid_limit_%s %s\n"
        "# TYPE ngx_hybrid_limit_%s gauge\n",
        gauge->name, gauge->help, gauge->name);

    for (i = 0; ngx_http_hybrid_view_client(view, i, &client); i++) {

        for (j = 0; j < NGX_HTTP_HYBRID_LIMITS; j++) {

            if (ngx_http_hybrid_limit_left(client.shared, j, redis, &left)
                != NGX_OK)
            {
                continue;
            }

            n = gauge->value(&left);

            ngx_http_hybrid_out(out,
                "ngx_hybrid_limit_%s{client=\"%V\",limit=\"%V\"} ",
                gauge->name, &client.name, &ngx_http_hybrid_limit_names[j]);

            if (j == ngx_hybrid_meter_budget) {
                ngx_http_hybrid_out(out, "%uL.%06uL\n", n / 1000000,
                                    n % 1000000);

            } else {
                ngx_http_hybrid_out(out, "%uL\n", n);
            }
        }
    }
}


static void
ngx_http_hybrid_prom_clients(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out)
{
    ngx_uint_t                     i, n, value;
    ngx_http_hybrid_view_client_t  client;

    static const char  *heads[][3] = {
        { "limit_waiting", "gauge", "Requests of a client that wait for its "
          "limits, in this gateway." },
        { "limit_refills_total", "counter", "Leases that this gateway has "
          "got from Redis." },
        { "limit_waited_total", "counter", "Requests that waited for a lease "
          "in this gateway." }
    };

    for (n = 0; n < 3; n++) {
        ngx_http_hybrid_prom_head(out, heads[n][0], heads[n][1], heads[n][2]);

        for (i = 0; ngx_http_hybrid_view_client(view, i, &client); i++) {

            value = n == 0 ? ngx_hybrid_cells_waiting(&client.shared->cells)
                    : n == 1 ? client.shared->refills
                             : client.shared->waits;

            ngx_http_hybrid_out(out, "ngx_hybrid_%s{client=\"%V\"} %ui\n",
                                heads[n][0], &client.name, value);
        }
    }
}


static uint64_t
ngx_http_hybrid_view_quota(ngx_http_hybrid_left_t *left)
{
    return left->quota;
}


static uint64_t
ngx_http_hybrid_view_burst(ngx_http_hybrid_left_t *left)
{
    return left->burst;
}


static uint64_t
ngx_http_hybrid_view_left(ngx_http_hybrid_left_t *left)
{
    return left->left;
}


static uint64_t
ngx_http_hybrid_view_leased(ngx_http_hybrid_left_t *left)
{
    return left->leased;
}
