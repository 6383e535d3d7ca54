
/*
 * Copyright (C) the ngx_hybrid_module authors
 *
 * All limits of a client are fields of one hash in Redis, and one script
 * settles, takes and gives back for all of them in one call, by Redis's clock.
 *
 *     rate, tokens     the bucket's theoretical arrival time, usec
 *     budget           "<first day of the period> <spent>", and of workers
 *                      that have charged it " <worker>:<number of the last>"
 *     c:<gateway>      "<requests> <usec they are its> <number of the call>"
 *     reset            when an operator has reset them, usec
 */


#include "ngx_http_hybrid_lease.h"
#include "ngx_hybrid_gcra.h"


/* ARGV of an operation, and what it answers */
#define NGX_HTTP_HYBRID_SCRIPT_ARGS   10
#define NGX_HTTP_HYBRID_SCRIPT_OUT    4

#define NGX_HTTP_HYBRID_SCRIPT_MAX                                            \
    (3 + (ngx_hybrid_meters + 1) * NGX_HTTP_HYBRID_SCRIPT_ARGS)

/* Redis's numbers are exact up to here, and so are the answers */
#define NGX_HTTP_HYBRID_SCRIPT_NUMBER  (1ULL << 53)


typedef struct {
    ngx_str_t                 argv[NGX_HTTP_HYBRID_SCRIPT_MAX];
    ngx_uint_t                argc;
    u_char                   *last;
    u_char                    text[1024];
} ngx_http_hybrid_script_t;


static void ngx_http_hybrid_script_meter(ngx_http_hybrid_script_t *script,
    ngx_http_hybrid_lease_t *lease, ngx_uint_t n);
static void ngx_http_hybrid_script_debt(ngx_http_hybrid_script_t *script,
    ngx_http_hybrid_lease_t *lease);
static void ngx_http_hybrid_script_slots(ngx_http_hybrid_script_t *script,
    ngx_http_hybrid_lease_t *lease);
static void ngx_http_hybrid_script_word(ngx_http_hybrid_script_t *script,
    ngx_str_t *word);
static void ngx_http_hybrid_script_number(ngx_http_hybrid_script_t *script,
    int64_t n);
static ngx_int_t ngx_http_hybrid_script_read(redisReply *reply, ngx_uint_t i,
    uint64_t *n);


/*
 * KEYS[1] the client's hash
 * ARGV[1] this gateway
 * ARGV[2] the last reset that it knows of: what it has counted before a later
 *         one is void, and so is what it gives back
 * ARGV    for each limit ten words:
 *
 *   g field step span deepest charge want min ahead 0
 *       A bucket: nsec of a unit, usec of a burst, usec that a debt goes at
 *       most, units to charge (or, negative, to give back), units wanted, and
 *       the least of them that is of use; how far the gateway's own bucket is
 *       ahead, for a Redis that has lost its data: what is charged is in it.
 *   b field kind quota period charge want min spent worker:number
 *       A budget, of a "day" or a "month"; period and spent are what the
 *       gateway knows, and what is charged or given back is of that period.  A
 *       charge that has a number is not counted again.
 *   c field quota used want ttl call less 0 0
 *       Requests at a time: those there are and those wanted, in all; what
 *       the gateway has already it keeps unless "less", as another worker may
 *       not have heard of it yet.  A call that was overtaken by a later one
 *       changes nothing.
 *
 * Returns when the limits were reset, and for each what was granted, usec
 * until there is more if it was less than wanted, what is left after that,
 * and of a budget its period, of requests the call that granted them.
 */

static ngx_hybrid_redis_script_t  ngx_http_hybrid_lease_script = {
    ngx_string(
        "local t = redis.call('TIME')\n"
        "local now = t[1] * 1000000 + t[2]\n"
        "local key, keep = KEYS[1], 0\n"
        "local floor, ceil = math.floor, math.ceil\n"
        "local max, min = math.max, math.min\n"
        "local got = redis.call('HMGET', key, 'reset', 'rate', 'tokens',\n"
        "                       'budget')\n"
        "local had = {rate = got[2], tokens = got[3], budget = got[4]}\n"
        "local out, a = {tonumber(got[1] or 0)}, {}\n"

        "local function put(field, value, stay)\n"
        "  redis.call('HSET', key, field, value)\n"
        "  keep = max(keep, ceil(stay / 1000) + 1000)\n"
        "end\n"

        "local function answer(n, wait, left, extra)\n"
        "  out[#out + 1] = n\n"
        "  out[#out + 1] = wait\n"
        "  out[#out + 1] = left\n"
        "  out[#out + 1] = extra\n"
        "end\n"

        "local function bucket(field, step, span, deepest, charge, want,\n"
        "                      least, ahead)\n"
        "  local old = had[field]\n"
        "  local tat = max(tonumber(old or 0), now)\n"
        "  if charge > 0 then tat = tat + ceil(charge * step / 1000) end\n"
        "  if charge < 0 then tat = tat - floor(-charge * step / 1000) end\n"
        "  tat = min(max(tat, now + ahead), now + deepest)\n"
        "  local free = max(0, floor((now + span - tat) * 1000 / step))\n"
        "  local n = min(want, free)\n"
        "  if n < least then n = 0 end\n"
        "  tat = tat + ceil(n * step / 1000)\n"
        "  local wait = 0\n"
        "  if n < want then\n"
        "    wait = max(0, tat + ceil(least * step / 1000) - now - span)\n"
        "  end\n"
        "  tat = string.format('%.0f', tat)\n"
        "  if tat ~= old and (old or tonumber(tat) > now) then\n"
        "    put(field, tat, tat - now)\n"
        "  end\n"
        "  answer(n, wait, free - n, 0)\n"
        "end\n"

        "local function mday(day)\n"
        "  local z = (day + 719468) % 146097\n"
        "  local y = floor((z - floor(z / 1460) + floor(z / 36524)\n"
        "                   - floor(z / 146096)) / 365)\n"
        "  z = z - (365 * y + floor(y / 4) - floor(y / 100))\n"
        "  return z - floor((153 * floor((5 * z + 2) / 153) + 2) / 5)\n"
        "end\n"

        "local function budget(field, kind, quota, period, charge, want,\n"
        "                      least, own, debt)\n"
        "  local first = floor(now / 86400000000)\n"
        "  local next = first + 1\n"
        "  if kind == 'month' then\n"
        "    first = first - mday(first)\n"
        "    next = first + 31 - mday(first + 31)\n"
        "  end\n"
        "  local old = had[field]\n"
        "  local of, spent, told = string.match(old or '',\n"
        "                                       '^(%d+) (%d+)(.*)$')\n"
        "  spent = tonumber(spent)\n"
        "  if tonumber(of) ~= first then spent, told = 0, '' end\n"
        "  local who, number = string.match(debt, '^(%w+:)(%d+)$')\n"
        "  local a, b, last\n"
        "  if who then\n"
        "    a, b, last = string.find(told, ' ' .. who .. '(%d+)')\n"
        "  end\n"
        "  if last and tonumber(last) >= tonumber(number) then charge = 0 end\n"
        "  if period ~= first and (charge < 0 or period > 0\n"
        "                          and period < first) then\n"
        "    charge = 0\n"
        "  end\n"
        "  if charge ~= 0 then\n"
        "    spent = max(0, spent + charge)\n"
        "    if a then\n"
        "      told = string.sub(told, 1, a - 1) .. string.sub(told, b + 1)\n"
        "    end\n"
        "    if who then\n"
        "      told = string.sub(told .. ' ' .. debt, -1500)\n"
        "      told = string.match(told, ' .*')\n"
        "    end\n"
        "  end\n"
        "  if period == first then spent = max(spent, own) end\n"
        "  local left = max(0, quota - spent)\n"
        "  local n = min(want, left)\n"
        "  if n < least then n = 0 end\n"
        "  spent = spent + n\n"
        "  local stay = next * 86400000000 - now\n"
        "  local new = string.format('%.0f %.0f', first, spent) .. told\n"
        "  if new ~= old and (old or spent > 0) then\n"
        "    put(field, new, stay)\n"
        "  end\n"
        "  answer(n, n < want and stay or 0, left - n, first)\n"
        "end\n"

        "local function slots(field, quota, used, want, ttl, call, less)\n"
        "  local others = 0\n"
        "  local all = redis.call('HGETALL', key)\n"
        "  for i = 1, #all, 2 do\n"
        "    if string.sub(all[i], 1, 2) == 'c:' then\n"
        "      local n, stay, last = string.match(all[i + 1],\n"
        "                                         '^(%d+) (%d+) (%d+)$')\n"
        "      if not n or tonumber(stay) <= now then\n"
        "        redis.call('HDEL', key, all[i])\n"
        "      elseif all[i] ~= field then\n"
        "        others = others + n\n"
        "      elseif tonumber(last) > call then\n"
        "        return answer(tonumber(n), 0, 0, tonumber(last))\n"
        "      elseif less == 0 then\n"
        "        want = max(want, n)\n"
        "      end\n"
        "    end\n"
        "  end\n"
        "  local n = max(used, min(want, quota - others), 0)\n"
        "  put(field, string.format('%.0f %.0f %.0f', n, now + ttl, call),\n"
        "      ttl)\n"
        "  answer(n, 0, max(0, quota - others - n), call)\n"
        "end\n"

        "local void = tonumber(ARGV[2]) < out[1]\n"

        "for i = 3, #ARGV, 10 do\n"
        "  for j = 2, 8 do a[j] = tonumber(ARGV[i + j]) end\n"
        "  local kind, field = ARGV[i], ARGV[i + 1]\n"
        "  if void and kind ~= 'c' then a[5], a[8] = 0, 0 end\n"
        "  if kind == 'g' then\n"
        "    bucket(field, a[2], a[3], a[4], a[5], a[6], a[7], a[8])\n"
        "  elseif kind == 'b' then\n"
        "    budget(field, ARGV[i + 2], a[3], a[4], a[5], a[6], a[7], a[8],\n"
        "           ARGV[i + 9])\n"
        "  else\n"
        "    slots(field .. ARGV[1], a[2], a[3], a[4], a[5], a[6], a[7])\n"
        "  end\n"
        "end\n"

        "if keep > redis.call('PTTL', key) then\n"
        "  redis.call('PEXPIRE', key, keep)\n"
        "end\n"
        "return out\n"),
    { 0 }
};


static ngx_str_t  ngx_http_hybrid_script_fields[] = {
    ngx_string("rate"),
    ngx_string("tokens"),
    ngx_string("budget")
};


void
ngx_http_hybrid_script_init(void)
{
    ngx_hybrid_redis_script_init(&ngx_http_hybrid_lease_script);
}


ngx_int_t
ngx_http_hybrid_script_send(ngx_http_hybrid_lease_t *lease,
    ngx_hybrid_redis_handler_pt handler)
{
    ngx_str_t                 id;
    ngx_uint_t                i;
    ngx_http_hybrid_script_t  script;

    script.argc = 0;
    script.last = script.text;

    id.data = lease->conf->shm->sh->id;
    id.len = sizeof(lease->conf->shm->sh->id);

    ngx_http_hybrid_script_word(&script, &lease->key);
    ngx_http_hybrid_script_word(&script, &id);

    lease->seen = lease->client->shared->reset;
    ngx_http_hybrid_script_number(&script, lease->seen);

    for (i = 0; i < ngx_hybrid_meters; i++) {
        if (lease->client->limits[i].quota) {
            ngx_http_hybrid_script_meter(&script, lease, i);
        }
    }

    if (lease->client->concurrency.quota) {
        ngx_http_hybrid_script_slots(&script, lease);
    }

    return ngx_hybrid_redis_eval(lease->conf->redis,
                                 &ngx_http_hybrid_lease_script, script.argc,
                                 script.argv, handler, lease);
}


static void
ngx_http_hybrid_script_meter(ngx_http_hybrid_script_t *script,
    ngx_http_hybrid_lease_t *lease, ngx_uint_t n)
{
    uint64_t                  now;
    ngx_hybrid_meter_t       *meter;
    ngx_http_hybrid_ask_t    *ask;
    ngx_http_hybrid_limit_t  *limit;

    static ngx_str_t  bucket = ngx_string("g");
    static ngx_str_t  budget = ngx_string("b");
    static ngx_str_t  day = ngx_string("day");
    static ngx_str_t  month = ngx_string("month");

    ask = &lease->asks[n];
    limit = &lease->client->limits[n];
    meter = &lease->client->shared->meters[n];

    ngx_http_hybrid_script_word(script, limit->interval ? &bucket : &budget);
    ngx_http_hybrid_script_word(script, &ngx_http_hybrid_script_fields[n]);

    if (limit->interval) {
        now = ngx_http_hybrid_limit_now();

        ngx_http_hybrid_script_number(script, limit->interval);
        ngx_http_hybrid_script_number(script, ask->span);

        /* only what is settled afterwards can be in debt */

        ngx_http_hybrid_script_number(script,
                                      n == ngx_hybrid_meter_rate
                                      ? ask->span : 2 * ask->span);
        ngx_http_hybrid_script_number(script, ask->charge);
        ngx_http_hybrid_script_number(script, ask->want);
        ngx_http_hybrid_script_number(script, ask->least);
        ngx_http_hybrid_script_number(script,
                                      ngx_hybrid_gcra_ahead(&meter->account,
                                                            now));
        ngx_http_hybrid_script_number(script, 0);
        return;
    }

    ngx_http_hybrid_script_word(script, limit->monthly ? &month : &day);
    ngx_http_hybrid_script_number(script, limit->quota);
    ngx_http_hybrid_script_number(script, meter->period);
    ngx_http_hybrid_script_number(script, ask->charge);
    ngx_http_hybrid_script_number(script, ask->want);
    ngx_http_hybrid_script_number(script, ask->least);
    ngx_http_hybrid_script_number(script, meter->account);
    ngx_http_hybrid_script_debt(script, lease);
}


/* workers have numbers of their own */

static void
ngx_http_hybrid_script_debt(ngx_http_hybrid_script_t *script,
    ngx_http_hybrid_lease_t *lease)
{
    ngx_str_t  *arg;

    arg = &script->argv[script->argc++];

    arg->data = script->last;
    script->last = ngx_sprintf(script->last, "%*sx%P:%uL",
                               sizeof(lease->conf->shm->sh->id),
                               lease->conf->shm->sh->id, ngx_pid,
                               lease->debt.number);
    arg->len = script->last - arg->data;
}


static void
ngx_http_hybrid_script_slots(ngx_http_hybrid_script_t *script,
    ngx_http_hybrid_lease_t *lease)
{
    static ngx_str_t  slots = ngx_string("c");
    static ngx_str_t  field = ngx_string("c:");

    ngx_http_hybrid_script_word(script, &slots);
    ngx_http_hybrid_script_word(script, &field);
    ngx_http_hybrid_script_number(script, lease->client->concurrency.quota);
    ngx_http_hybrid_script_number(script, lease->slots.used);
    ngx_http_hybrid_script_number(script, lease->slots.want);
    ngx_http_hybrid_script_number(script,
                                  NGX_HTTP_HYBRID_SLOTS_TTL * 1000ULL);
    ngx_http_hybrid_script_number(script, lease->slots.call);
    ngx_http_hybrid_script_number(script, lease->slots.less);
    ngx_http_hybrid_script_number(script, 0);
    ngx_http_hybrid_script_number(script, 0);
}


static void
ngx_http_hybrid_script_word(ngx_http_hybrid_script_t *script, ngx_str_t *word)
{
    script->argv[script->argc++] = *word;
}


static void
ngx_http_hybrid_script_number(ngx_http_hybrid_script_t *script, int64_t n)
{
    ngx_str_t  *arg;

    arg = &script->argv[script->argc++];

    arg->data = script->last;
    script->last = ngx_sprintf(script->last, "%L", n);
    arg->len = script->last - arg->data;
}


ngx_int_t
ngx_http_hybrid_script_answer(ngx_http_hybrid_lease_t *lease,
    redisReply *reply)
{
    uint64_t                n[NGX_HTTP_HYBRID_SCRIPT_OUT];
    ngx_uint_t              i, j, k;
    ngx_http_hybrid_ask_t  *ask;

    if (reply == NULL || reply->type != REDIS_REPLY_ARRAY
        || ngx_http_hybrid_script_read(reply, 0, &lease->reset) != NGX_OK)
    {
        return NGX_ERROR;
    }

    for (i = 0, k = 1; i <= ngx_hybrid_meters; i++) {

        if ((i == ngx_hybrid_meters) ? lease->client->concurrency.quota == 0
                                     : lease->client->limits[i].quota == 0)
        {
            continue;
        }

        for (j = 0; j < NGX_HTTP_HYBRID_SCRIPT_OUT; j++) {
            if (ngx_http_hybrid_script_read(reply, k++, &n[j]) != NGX_OK) {
                return NGX_ERROR;
            }
        }

        if (i == ngx_hybrid_meters) {
            lease->slots.granted = n[0];
            lease->slots.left = n[2];
            lease->slots.granted_by = n[3];
            continue;
        }

        ask = &lease->asks[i];

        if (n[0] > ask->want) {
            return NGX_ERROR;
        }

        ask->granted = n[0];
        ask->wait = n[1];
        ask->left = n[2];
        ask->period = n[3];
    }

    return reply->elements == k ? NGX_OK : NGX_ERROR;
}


static ngx_int_t
ngx_http_hybrid_script_read(redisReply *reply, ngx_uint_t i, uint64_t *n)
{
    redisReply  *e;

    if (i >= reply->elements) {
        return NGX_ERROR;
    }

    e = reply->element[i];

    if (e->type != REDIS_REPLY_INTEGER || e->integer < 0
        || (uint64_t) e->integer > NGX_HTTP_HYBRID_SCRIPT_NUMBER)
    {
        return NGX_ERROR;
    }

    *n = e->integer;

    return NGX_OK;
}
