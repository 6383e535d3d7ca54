
/*
 * Copyright (C) the ngx_hybrid_module authors
 */


#include <ngx_config.h>
#include <ngx_core.h>
#include "ngx_hybrid_window.h"


ngx_atomic_uint_t
ngx_hybrid_window_count(ngx_hybrid_window_t *window, ngx_atomic_uint_t total,
    ngx_msec_t length, ngx_msec_t now)
{
    ngx_uint_t      n;
    ngx_msec_t      step;
    ngx_msec_int_t  age;

    step = length / NGX_HYBRID_WINDOW_STEPS;

    if (!window->used) {
        window->used = 1;
        window->begun = now;
    }

    /* clocks of two workers may differ by a moment */

    age = (ngx_msec_int_t) (now - window->begun);

    n = age > 0 ? (ngx_msec_t) age / step : 0;

    window->begun += n * step;

    if (n > NGX_HYBRID_WINDOW_STEPS) {
        n = NGX_HYBRID_WINDOW_STEPS;
    }

    /* what came since it was last asked is taken for new */

    while (n--) {
        window->step = (window->step + 1) % NGX_HYBRID_WINDOW_STEPS;
        window->past[window->step] = window->seen;
    }

    window->seen = total;

    n = (window->step + 1) % NGX_HYBRID_WINDOW_STEPS;

    /* another one counts there, from zero */

    return total > window->past[n] ? total - window->past[n] : 0;
}
