
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * What Redis was told of limits, charged or given back, and did not answer.
 * A bucket fills again, whatever is lost or told twice.  A budget doesn't: what
 * Redis may have heard is told again as it was, under the same number, which
 * it knows then.
 */


#include "ngx_http_hybrid_lease.h"


/* the worker's: a client that is read anew from Redis has another lease */
static uint64_t  ngx_http_hybrid_debt_number;


void
ngx_http_hybrid_debt_ask(ngx_http_hybrid_lease_t *lease)
{
    ngx_hybrid_meter_t        *meter;
    ngx_http_hybrid_ask_t     *ask;
    ngx_http_hybrid_debt_t    *debt;
    ngx_hybrid_shm_client_t   *shared;

    debt = &lease->debt;
    ask = &lease->asks[ngx_hybrid_meter_budget];
    shared = lease->client->shared;
    meter = &shared->meters[ngx_hybrid_meter_budget];

    if (debt->charge
        && debt->period == meter->period && debt->reset == shared->reset)
    {
        /* what has come since is told when this was heard */

        ngx_hybrid_meter_owe(meter, ask->charge);
        ask->charge = debt->charge;
        return;
    }

    debt->charge = ask->charge;
    debt->period = meter->period;
    debt->reset = shared->reset;
    debt->told = 0;

    if (ngx_http_hybrid_debt_number == 0) {

        /* later than those of a worker that had the same pid */

        ngx_http_hybrid_debt_number = (uint64_t) ngx_time() * 1000000;
    }

    debt->number = ++ngx_http_hybrid_debt_number;
}


void
ngx_http_hybrid_debt_failed(ngx_http_hybrid_lease_t *lease, ngx_uint_t sent)
{
    ngx_uint_t                n;
    ngx_http_hybrid_ask_t    *ask;
    ngx_hybrid_shm_client_t  *shared;

    shared = lease->client->shared;

    for (n = 0; n < ngx_hybrid_meters; n++) {

        ask = &lease->asks[n];

        /* of a bucket, what was given back may have been heard, and is lost */

        if (n != ngx_hybrid_meter_budget
            && (!sent || ask->charge > 0) && lease->seen == shared->reset)
        {
            ngx_hybrid_meter_owe(&shared->meters[n], ask->charge);
        }

        ask->charge = 0;
    }

    lease->debt.told |= sent;

    if (!lease->debt.told) {
        ngx_http_hybrid_debt_end(lease);
    }
}


void
ngx_http_hybrid_debt_end(ngx_http_hybrid_lease_t *lease)
{
    ngx_hybrid_meter_t        *meter;
    ngx_http_hybrid_debt_t    *debt;
    ngx_hybrid_shm_client_t   *shared;

    debt = &lease->debt;
    shared = lease->client->shared;
    meter = &shared->meters[ngx_hybrid_meter_budget];

    if ((debt->charge > 0 || !debt->told)
        && debt->period == meter->period && debt->reset == shared->reset)
    {
        ngx_hybrid_meter_owe(meter, debt->charge);
    }

    debt->charge = 0;
}
