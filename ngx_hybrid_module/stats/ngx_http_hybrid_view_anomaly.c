
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Anomalies in status pages, as they are when one asks.
 */


#include "ngx_http_hybrid_stats.h"
#include "ngx_http_hybrid_anomaly.h"


static void ngx_http_hybrid_json_label(ngx_http_hybrid_out_t *out,
    const char *name, ngx_str_t *label);


void
ngx_http_hybrid_json_anomalies(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out)
{
    ngx_uint_t                   i, n;
    ngx_hybrid_shm_t            *shm;
    ngx_hybrid_anomaly_t         anomaly;
    ngx_hybrid_anomaly_place_t   copy;

    ngx_http_hybrid_anomaly_now(view->conf);

    shm = view->conf->shm;
    i = 0;
    n = 0;

    ngx_http_hybrid_out(out, "\"anomalies\":[");

    while (ngx_hybrid_anomaly_next(shm->sh->anomalies, &shm->shpool->mutex,
                                   &i, &copy))
    {
        ngx_hybrid_anomaly_read(&copy, &anomaly);

        ngx_http_hybrid_out(out, "%s\n{\"kind\":\"%V\"", n++ ? "," : "",
                            &ngx_hybrid_anomaly_names[anomaly.kind]);

        ngx_http_hybrid_json_label(out, "backend",
                                 &anomaly.labels[ngx_hybrid_anomaly_backend]);
        ngx_http_hybrid_json_label(out, "path",
                                   &anomaly.labels[ngx_hybrid_anomaly_path]);
        ngx_http_hybrid_json_label(out, "model",
                                   &anomaly.labels[ngx_hybrid_anomaly_model]);
        ngx_http_hybrid_json_label(out, "client",
                                   &anomaly.labels[ngx_hybrid_anomaly_client]);

        ngx_http_hybrid_out(out, ",\"since\":%T,\"value\":%s%.3f,"
                            "\"text\":\"%V\"}", anomaly.since,
                            anomaly.value < 0 ? "-" : "",
                            (double) (anomaly.value < 0 ? -anomaly.value
                                                        : anomaly.value)
                            / 1000, &anomaly.text);
    }

    ngx_http_hybrid_out(out, "],\n");
}


static void
ngx_http_hybrid_json_label(ngx_http_hybrid_out_t *out, const char *name,
    ngx_str_t *label)
{
    if (label->len) {
        ngx_http_hybrid_out(out, ",\"%s\":\"%V\"", name, label);

    } else {
        ngx_http_hybrid_out(out, ",\"%s\":null", name);
    }
}


void
ngx_http_hybrid_prom_anomalies(ngx_http_hybrid_view_t *view,
    ngx_http_hybrid_out_t *out)
{
    ngx_uint_t                   i;
    ngx_hybrid_shm_t            *shm;
    ngx_hybrid_anomaly_t         anomaly;
    ngx_hybrid_anomaly_place_t   copy;

    ngx_http_hybrid_anomaly_now(view->conf);

    shm = view->conf->shm;
    i = 0;

    ngx_http_hybrid_prom_head(out, "anomaly", "gauge",
                              "What is wrong now, as this gateway sees it.");

    while (ngx_hybrid_anomaly_next(shm->sh->anomalies, &shm->shpool->mutex,
                                   &i, &copy))
    {
        ngx_hybrid_anomaly_read(&copy, &anomaly);

        ngx_http_hybrid_out(out,
            "ngx_hybrid_anomaly{kind=\"%V\",backend=\"%V\",path=\"%V\","
            "model=\"%V\",client=\"%V\"} 1\n",
            &ngx_hybrid_anomaly_names[anomaly.kind],
            &anomaly.labels[ngx_hybrid_anomaly_backend],
            &anomaly.labels[ngx_hybrid_anomaly_path],
            &anomaly.labels[ngx_hybrid_anomaly_model],
            &anomaly.labels[ngx_hybrid_anomaly_client]);
    }
}
