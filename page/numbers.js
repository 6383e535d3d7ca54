"use strict";

// Numbers of the page: histograms that are merged over minutes, gateways and
// series, what they say, and how it is written. Nothing here knows of the
// document.

const hybridNumbers = (() => {

    // what a series counts: eight timers, two tables of reasons, and counts

    const T = { total: 0, firstByte: 1, connect: 2, queue: 3, load: 4,
                prompt: 5, firstToken: 6, token: 7, refusals: 8, fallbacks: 9,
                counts: 10 };

    const TIMERS = ["request_duration", "time_to_first_byte", "connect",
                    "queue", "load", "prompt", "time_to_first_token",
                    "time_per_output_token"];

    const SHADOWED = 10;

    // the order of counts; a gateway that tells its own is believed

    const COUNTS = ["ok", "client_error", "backend_error", "broken",
                    "client_closed", "unauthorized", "denied", "limited",
                    "unavailable", "fallbacks",
                    ...Array.from({ length: SHADOWED }, (_, i) =>
                        "shadowed_" + i),
                    "cold_starts", "retries", "input_tokens",
                    "output_tokens", "body_milliseconds",
                    "failed_tries_milliseconds",
                    "first_token_wait_milliseconds"];

    const REFUSED = ["unauthorized", "denied", "limited", "unavailable"];
    const FAILED = ["backend_error", "broken"];
    const OUTCOMES = COUNTS.slice(0, 9);

    const BUCKETS = 464;


    // -- buckets, in microseconds

    function lower(i) {
        return i < 16 ? i : (16 + i % 16) * 2 ** (Math.floor(i / 16) - 1);
    }

    function middle(i) {
        return lower(i) + Math.floor((lower(i + 1) - lower(i)) / 2);
    }


    // -- cells: for each table a map of buckets to counts

    function bump(cell, table, bucket, n) {
        const map = cell[table] || (cell[table] = new Map());

        map.set(bucket, (map.get(bucket) || 0) + n);
    }

    // "table.bucket:count table.bucket:count"

    function parse(text, cell = []) {
        for (const item of String(text).split(" ")) {
            const m = /^(\d{1,2})\.(\d{1,4}):(\d{1,15})$/.exec(item);

            if (!m || +m[1] > T.counts || +m[2] >= BUCKETS) {
                continue;
            }

            bump(cell, +m[1], +m[2], +m[3]);
        }

        return cell;
    }

    function add(cell, other) {
        other.forEach((map, table) => {
            for (const [bucket, n] of map) {
                bump(cell, table, bucket, n);
            }
        });

        return cell;
    }

    function number(cell, table) {
        let n = 0;

        for (const count of (cell[table] || new Map()).values()) {
            n += count;
        }

        return n;
    }

    // seconds, within the width of a bucket

    function sum(cell, table) {
        let us = 0;

        for (const [bucket, n] of cell[table] || []) {
            us += middle(bucket) * n;
        }

        return us / 1e6;
    }

    // seconds by the nearest rank, null when nothing was counted

    function quantile(cell, table, q) {
        const rows = [...cell[table] || []].filter(([, n]) => n > 0)
                                           .sort((a, b) => a[0] - b[0]);
        const total = rows.reduce((n, row) => n + row[1], 0);

        if (total === 0) {
            return null;
        }

        const rank = Math.min(Math.max(Math.ceil(q * total), 1), total);
        let seen = 0;

        for (const [bucket, n] of rows) {
            seen += n;

            if (seen >= rank) {
                return middle(bucket) / 1e6;
            }
        }

        return null;
    }


    // -- history

    // Minutes of this hour and of the one before are kept as they come, for a
    // later answer replaces them; older ones are bins, which cost less.

    const BIN = 10;

    class History {

        constructor() {
            this.clear();
        }

        clear() {
            this.minutes = new Map();   // minute => gateway => series => cell
            this.bins = new Map();      // hour => bin => series => cell
            this.names = new Map();     // series => [client, backend, model]
            this.last = 0;
            this.hours = new Set();     // that were answered
        }

        take(answer, hour) {
            const recent = hour - 1;

            if (!answer || !Array.isArray(answer.minutes)
                || !Number.isInteger(answer.hour))
            {
                return false;
            }

            this.settle(recent);

            const old = answer.hour < recent ? new Map() : null;

            for (const entry of answer.minutes) {
                if (!entry || !Number.isInteger(entry.minute)
                    || !Array.isArray(entry.series)
                    || Math.floor(entry.minute / 60) !== answer.hour)
                {
                    continue;
                }

                const series = this.series(entry.series);

                if (old) {
                    this.pour(old, entry.minute, series);
                    continue;
                }

                let gateways = this.minutes.get(entry.minute);

                if (!gateways) {
                    this.minutes.set(entry.minute, gateways = new Map());
                }

                gateways.set(String(entry.gateway), series);
                this.last = Math.max(this.last, entry.minute);
            }

            if (old) {
                this.bins.set(answer.hour, old);
            }

            this.hours.add(answer.hour);

            return true;
        }

        series(rows) {
            const series = new Map();

            for (const row of rows) {
                if (!Array.isArray(row) || row.length < 4) {
                    continue;
                }

                const names = row.slice(0, 3).map(String);
                const key = JSON.stringify(names);

                this.names.set(key, names);
                series.set(key, parse(row[3], series.get(key)));
            }

            return series;
        }

        pour(bins, minute, series) {
            const at = Math.floor(minute / BIN) * BIN;

            if (!bins.has(at)) {
                bins.set(at, new Map());
            }

            for (const [key, cell] of series) {
                bins.get(at).set(key, add(bins.get(at).get(key) || [], cell));
            }
        }

        // minutes of hours before that one become bins

        settle(recent) {
            for (const [minute, gateways] of this.minutes) {
                const hour = Math.floor(minute / 60);

                if (hour >= recent) {
                    continue;
                }

                if (!this.bins.has(hour)) {
                    this.bins.set(hour, new Map());
                }

                for (const series of gateways.values()) {
                    this.pour(this.bins.get(hour), minute, series);
                }

                this.minutes.delete(minute);
            }

            for (const hour of [...this.bins.keys()]) {
                if (hour < recent - 48) {
                    this.bins.delete(hour);
                    this.hours.delete(hour);
                }
            }
        }

        // Cells of minutes from..to, merged: group => start of a bin => cell.
        // group(client, backend, model) is undefined for what is left out;
        // step 0 makes one bin of all.

        fold(from, to, step, group) {
            const out = new Map();
            const names = new Map();

            for (const [key, name] of this.names) {
                names.set(key, group(...name));
            }

            const put = (at, series) => {
                for (const [key, cell] of series) {
                    const name = names.get(key);

                    if (name === undefined) {
                        continue;
                    }

                    let line = out.get(name);

                    if (!line) {
                        out.set(name, line = new Map());
                    }

                    line.set(at, add(line.get(at) || [], cell));
                }
            };

            const at = (minute) => step ? Math.floor(minute / step) * step : 0;

            for (const [minute, gateways] of this.minutes) {
                if (minute >= from && minute <= to) {
                    for (const series of gateways.values()) {
                        put(at(minute), series);
                    }
                }
            }

            for (const bins of this.bins.values()) {
                for (const [minute, series] of bins) {
                    if (minute + BIN > from && minute <= to) {
                        put(at(minute), series);
                    }
                }
            }

            return out;
        }

        // the same in one bin: group => cell

        sums(from, to, group) {
            const out = new Map();

            for (const [name, line] of this.fold(from, to, 0, group)) {
                out.set(name, line.get(0));
            }

            return out;
        }
    }


    // -- a row: what a cell, or a series of the status, says

    function counter(names) {
        const at = new Map((names && names.counts || COUNTS).map(
            (name, i) => [name, i]));

        return (cell, name) => (cell[T.counts] && at.has(name)
            && cell[T.counts].get(at.get(name))) || 0;
    }

    function rowOfCell(cell, names) {
        const count = counter(names);
        const reasons = (table, list) => {
            const out = {};

            for (const [i, n] of cell[table] || []) {
                out[list && list[i] || "#" + i] = n;
            }

            return out;
        };

        return {
            count: (name) => count(cell, name),
            timer: (t) => ({ n: number(cell, t), sum: sum(cell, t) }),
            quantile: (t, q) => quantile(cell, t, q),
            refused: reasons(T.refusals, names && names.refusals),
            reasons: reasons(T.fallbacks, names && names.fallbacks)
        };
    }

    // of several series, since they are counted; quantiles only of one

    function rowOfSeries(list) {
        const total = (of) => list.reduce((n, s) => n + (+of(s) || 0), 0);
        const timer = (s, t) => s[TIMERS[t] + "_seconds"] || {};
        const merged = (name) => {
            const out = {};

            for (const s of list) {
                for (const [code, n] of Object.entries(s[name] || {})) {
                    out[code] = (out[code] || 0) + (+n || 0);
                }
            }

            return out;
        };

        return {
            count: (name) => total((s) => OUTCOMES.includes(name)
                ? (s.requests || {})[name] : s[name]),
            timer: (t) => ({ n: total((s) => timer(s, t).count),
                             sum: total((s) => timer(s, t).sum) }),
            quantile: (t, q) => {
                const one = list.filter((s) => timer(s, t).count > 0);

                return one.length === 1
                    ? timer(one[0], t)["p" + Math.round(q * 100)] ?? null
                    : null;
            },
            refused: merged("refused"),
            reasons: merged("fallback_reasons")
        };
    }

    function requests(row) {
        return OUTCOMES.reduce((n, name) => n + row.count(name), 0);
    }

    function some(row, names) {
        return names.reduce((n, name) => n + row.count(name), 0);
    }


    // -- where the time goes

    const STAGES = ["queue", "body", "failed", "network", "load", "prompt",
                    "wait", "generation"];

    // Seconds of all answered requests together. What of a stream's first
    // token none of the measured stages explains is "wait". An answer that is
    // no stream has no first token that can be seen: what it waited for, and
    // its backend doesn't tell, is among its generation.

    function stages(row) {
        const total = row.timer(T.total);
        const parts = { queue: row.timer(T.queue).sum,
                        body: row.count("body_milliseconds") / 1000,
                        failed: row.count("failed_tries_milliseconds") / 1000,
                        network: row.timer(T.connect).sum,
                        load: row.timer(T.load).sum,
                        prompt: row.timer(T.prompt).sum,
                        wait: row.count("first_token_wait_milliseconds")
                              / 1000 };
        const known = Object.values(parts).reduce((n, part) => n + part, 0);

        parts.generation = Math.max(total.sum - known, 0);

        const all = known + parts.generation;

        return { n: total.n, seconds: all, parts,
                 share: (name) => all ? parts[name] / all : 0,
                 each: (name) => total.n ? parts[name] / total.n : 0 };
    }

    // the stage that one should look at; generation is what one pays for

    function verdict(now, before) {
        if (!now.n || !now.seconds) {
            return null;
        }

        let worst = "generation";
        let slower = 0;

        for (const name of STAGES) {
            if (name !== "generation" && now.share(name) >= 0.3
                && (worst === "generation"
                    || now.share(name) > now.share(worst)))
            {
                worst = name;
            }
        }

        // more than it was: the stage that grew most, when it matters

        if (before && before.n >= 5) {
            for (const name of STAGES) {
                const grown = now.each(name) - before.each(name);

                if (grown > 0.1 && grown > 0.25 * before.seconds / before.n
                    && now.each(name) > 2 * before.each(name)
                    && grown > slower)
                {
                    slower = grown;
                    worst = name;
                }
            }
        }

        return { stage: worst, share: now.share(worst), each: now.each(worst),
                 times: slower && before.each(worst) > 0
                     ? now.each(worst) / before.each(worst) : null,
                 slow: worst !== "generation" || slower > 0 };
    }


    // -- writing

    const THIN = "\u202f";

    function trim(value, digits) {
        return value.toFixed(digits);
    }

    function time(seconds) {
        if (seconds === null || seconds === undefined || !isFinite(seconds)) {
            return "–";
        }

        const s = Math.abs(seconds);

        if (s === 0) {
            return "0" + THIN + "ms";
        }

        if (s < 0.01) {
            return trim(seconds * 1000, s < 0.001 ? 2 : 1) + THIN + "ms";
        }

        if (s < 0.9995) {
            return trim(seconds * 1000, 0) + THIN + "ms";
        }

        if (s < 99.95) {
            return trim(seconds, s < 9.995 ? 2 : 1) + THIN + "s";
        }

        return span(seconds);
    }

    // how long ago, or until

    function span(seconds) {
        const s = Math.round(seconds);
        const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];

        if (!isFinite(s)) {
            return "–";
        }

        for (let i = 0; i < units.length; i++) {
            const [unit, size] = units[i];

            if (s < size && size > 1) {
                continue;
            }

            const whole = Math.floor(s / size);
            const next = units[i + 1];
            const rest = next ? Math.floor(s % size / next[1]) : 0;

            return whole + THIN + unit
                + (rest && whole < 10 ? " " + rest + THIN + next[0] : "");
        }

        return "0" + THIN + "s";
    }

    function count(n) {
        if (!isFinite(n)) {
            return "–";
        }

        if (Math.abs(n) < 1e6) {
            return String(Math.round(n)).replace(/\B(?=(\d{3})+$)/g, THIN);
        }

        for (const [unit, size] of [["G", 1e9], ["M", 1e6]]) {
            if (Math.abs(n) >= size) {
                return trim(n / size, n < 10 * size ? 2 : 1) + THIN + unit;
            }
        }

        return String(n);
    }

    function percent(share) {
        return (share > 0 && share < 0.01 ? "<1" : String(
            Math.round(share * 100))) + THIN + "%";
    }

    function rate(perSecond) {
        return perSecond === null || !isFinite(perSecond) ? "–"
            : trim(perSecond, perSecond < 10 ? 1 : 0) + THIN + "tok/s";
    }

    return { T, TIMERS, COUNTS, OUTCOMES, REFUSED, FAILED, STAGES, BIN, lower,
             middle, parse, add, number, sum, quantile, History, rowOfCell,
             rowOfSeries, requests, some, stages, verdict, time, span, count,
             percent, rate };
})();
