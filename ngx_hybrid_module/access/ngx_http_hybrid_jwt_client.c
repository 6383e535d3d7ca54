
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * Whose a JWT is, by the "jwt" lines of the files.
 */


#include "ngx_http_hybrid_anomaly.h"
#include "ngx_http_hybrid_jwt.h"


ngx_http_hybrid_client_t *
ngx_http_hybrid_jwt_client(ngx_http_hybrid_issuer_t *issuer,
    ngx_hybrid_claims_t *claims, ngx_http_hybrid_client_t **other)
{
    ngx_uint_t                    i, j;
    ngx_http_hybrid_client_t     *client;
    ngx_http_hybrid_jwt_rule_t  **rules;
    ngx_http_hybrid_jwt_term_t   *term;

    client = NULL;
    *other = NULL;

    rules = issuer->rules.elts;

    for (i = 0; i < issuer->rules.nelts; i++) {

        if (rules[i]->client == client) {
            continue;
        }

        term = rules[i]->terms.elts;

        for (j = 0; j < rules[i]->terms.nelts; j++) {
            if (!ngx_hybrid_claims_has(claims, term[j].claim, &term[j].value))
            {
                break;
            }
        }

        if (j < rules[i]->terms.nelts) {
            continue;
        }

        if (client) {
            *other = rules[i]->client;
            return client;
        }

        client = rules[i]->client;
    }

    return client;
}


/* its issuer and audience are right: whose it is, if the files say that */

void
ngx_http_hybrid_jwt_expired(ngx_http_hybrid_issuer_t *issuer,
    ngx_str_t *payload, ngx_hybrid_claims_t *claims)
{
    ngx_http_hybrid_client_t  *client, *other;

    if (ngx_hybrid_claims_load(claims, payload, issuer->claims.elts,
                               issuer->claims.nelts)
        != NULL)
    {
        return;
    }

    client = ngx_http_hybrid_jwt_client(issuer, claims, &other);

    if (client && other == NULL) {
        ngx_http_hybrid_anomaly_refused(client, ngx_hybrid_denial_jwt);
    }
}
