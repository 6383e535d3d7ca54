
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * How long clients live, here and in the zone, and how many of a client's
 * requests wait.
 */


#include "ngx_http_hybrid_limits.h"


/*
 * The clients get their place in the zone here and not in init_module, whose
 * failure would end the running master.
 */

ngx_int_t
ngx_http_hybrid_client_init_zone(ngx_http_hybrid_main_conf_t *hmcf,
    ngx_log_t *log)
{
    ngx_uint_t                  i;
    ngx_http_hybrid_client_t  **clients;

    clients = hmcf->clients.elts;

    for (i = 0; i < hmcf->clients.nelts; i++) {

        clients[i]->shared = ngx_hybrid_shm_client(hmcf->shm,
                                                   &clients[i]->name, 0);
        if (clients[i]->shared == NULL) {
            ngx_log_error(NGX_LOG_EMERG, log, 0,
                          "hybrid_zone of %uzk is too small for %ui clients: "
                          "make it larger", hmcf->zone_size / 1024,
                          hmcf->clients.nelts);
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


/* from now on this worker uses them, whatever is loaded after that */

ngx_int_t
ngx_http_hybrid_client_init_worker(ngx_http_hybrid_main_conf_t *hmcf)
{
    ngx_uint_t                  i;
    ngx_http_hybrid_client_t  **clients;

    if (ngx_hybrid_shm_client_start(hmcf->shm) != NGX_OK) {
        return NGX_ERROR;
    }

    clients = hmcf->clients.elts;

    for (i = 0; i < hmcf->clients.nelts; i++) {

        clients[i]->shared = ngx_hybrid_shm_client(hmcf->shm,
                                                   &clients[i]->name, 0);
        if (clients[i]->shared == NULL) {
            return NGX_ERROR;
        }

        ngx_http_hybrid_limit_adopt(clients[i]);
    }

    return NGX_OK;
}


/* a client of the files lives as long as its cycle */

void
ngx_http_hybrid_client_hold(ngx_http_hybrid_client_t *client)
{
    if (client->pool) {
        client->users++;
    }
}


void
ngx_http_hybrid_client_release(ngx_http_hybrid_client_t *client)
{
    if (client->pool == NULL || --client->users) {
        return;
    }

    if (client->lease) {
        ngx_http_hybrid_lease_destroy(client->lease);
    }

    ngx_destroy_pool(client->pool);
}


ngx_uint_t
ngx_http_hybrid_client_wait(ngx_http_hybrid_client_t *client)
{
    ngx_hybrid_cells_t  *cells;

    cells = &client->shared->cells;

    if (ngx_hybrid_cells_wait(cells, client->queue)) {
        return 1;
    }

    ngx_hybrid_cells_reap(cells);

    return ngx_hybrid_cells_wait(cells, client->queue);
}


void
ngx_http_hybrid_client_go(ngx_http_hybrid_client_t *client)
{
    ngx_hybrid_cells_leave(&client->shared->cells);
}
