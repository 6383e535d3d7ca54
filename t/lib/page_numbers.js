// What page/numbers.js reckons, against sums and quantiles of raw values.
// TAP; the file to test is the argument.

"use strict";

const fs = require("fs");
const vm = require("vm");

const N = vm.runInThisContext(fs.readFileSync(process.argv[2], "utf8")
                              + "\nhybridNumbers");
const { T } = N;

let tests = 0;

function ok(good, what, ...more) {
    console.log((good ? "ok " : "not ok ") + ++tests + " - " + what);

    if (!good && more.length) {
        console.log("#", ...more.map((x) => JSON.stringify(x)));
    }
}

function is(got, wanted, what) {
    ok(JSON.stringify(got) === JSON.stringify(wanted), what, got, wanted);
}

function near(got, wanted, share, what) {
    ok(Math.abs(got - wanted) <= share * wanted, what, got, wanted);
}

// as the module does it, from the value's bits

function index(us) {
    if (us < 16) {
        return us;
    }

    const octave = Math.floor(Math.log2(us));

    return (octave - 3) * 16 + (Math.floor(us / 2 ** (octave - 4)) & 15);
}

let seed = 1;

function random() {
    seed = (seed * 1103515245 + 12345) % 2147483648;
    return seed / 2147483648;
}


// buckets

let wrong = 0;

for (let us = 0; us < 5000000; us += 1 + Math.floor(us / 300)) {
    const i = index(us);

    wrong += !(N.lower(i) <= us && us < N.lower(i + 1));
    wrong += us >= 100 && Math.abs(N.middle(i) - us) > 0.05 * us;
}

is(wrong, 0, "every value is in its bucket, within 5 percent of its middle");
is([15, 16, 31, 32, 210, 463].map(N.lower),
   [15, 16, 31, 32, 73728, 4160749568], "lower bounds");


// what is read

const cell = N.parse("6.210:3 7.150:12 10.0:3 6.210:2");

is([N.number(cell, 6), N.number(cell, 7), N.number(cell, 10)], [5, 12, 3],
   "table.bucket:count, twice the same adds up");
is(N.parse("6.999:3 11.0:3 6.1:-1 6.1 x <b> 6.1:1e9 :").length, 0,
   "what is none is left out");
is(N.parse(null).length, 0, "nothing");
is(N.quantile([], 6, 0.5), null, "no quantile of nothing");


// Three gateways, two clients, 90 minutes: all merges say the same as the
// values themselves.

const now = 29875512;
const hour = Math.floor(now / 60);
const raw = [];
const answers = new Map();
const history = new N.History();

for (let minute = now - 169; minute <= now; minute++) {
    for (const gateway of ["a", "b", "c"]) {
        const series = [];

        for (const client of ["alice", "bob"]) {
            const counts = new Map();

            for (let i = 0; i < 7; i++) {
                const us = Math.floor(10 ** (3 + 3.5 * random()));
                const at = index(us);

                raw.push({ minute, client, us });
                counts.set(at, (counts.get(at) || 0) + 1);
            }

            series.push([client, "forge", "m:1", [...counts].map(([b, n]) =>
                "6." + b + ":" + n).join(" ") + " 10.0:7 10.20:1"]);
        }

        const h = Math.floor(minute / 60);

        if (!answers.has(h)) {
            answers.set(h, { hour: h, minutes: [] });
        }

        answers.get(h).minutes.push({ minute, gateway, series });
    }
}

function exact(values, q) {
    const sorted = values.map((v) => v.us).sort((a, b) => a - b);

    return sorted[Math.max(Math.ceil(q * sorted.length), 1) - 1] / 1e6;
}

function agrees(what, from, to, group, picked) {
    const row = N.rowOfCell(history.sums(from, to, group).get("x"));

    for (const q of [0.5, 0.95, 0.99]) {
        near(row.quantile(T.firstToken, q), exact(picked, q), 0.05,
             what + ": p" + 100 * q);
    }

    is(row.timer(T.firstToken).n, picked.length, what + ": the number");
    near(row.timer(T.firstToken).sum, picked.reduce((n, v) => n + v.us, 0)
         / 1e6, 0.03, what + ": the sum");
    is(row.count("ok"), picked.length, what + ": a count");
}

for (const answer of answers.values()) {
    ok(history.take(answer, hour), "an hour is taken");
}

const all = () => "x";
const recent = raw.filter((v) => v.minute > now - 60);

agrees("an hour", now - 59, now, all, recent);
agrees("one client", now - 59, now, (c) => c === "bob" ? "x" : undefined,
       recent.filter((v) => v.client === "bob"));

// ten minutes a bin there: whole bins only

const start = Math.floor((now - 165) / 10) * 10 + 10;

agrees("with older hours", start, now, all,
       raw.filter((v) => v.minute >= start));

for (const answer of answers.values()) {
    history.take(answer, hour);
}

agrees("taken again", now - 59, now, all, recent);
agrees("older ones taken again", start, now, all,
       raw.filter((v) => v.minute >= start));

const line = history.fold(now - 59, now, 1, all).get("x");

is([line.size, [...line.keys()].every(Number.isInteger)], [60, true],
   "a bin for each minute");
is(N.number(line.get(now), T.firstToken), 42, "of all gateways and clients");
is(history.fold(start, now, 10, all).get("x").size,
   Math.floor(now / 10) - start / 10 + 1, "and bins of ten minutes");

// time goes by: what was minutes becomes bins, and nothing is lost

history.settle(hour + 3);
is(history.minutes.size, 0, "old minutes are bins");
agrees("settled", start, now, all, raw.filter((v) => v.minute >= start));
history.settle(hour + 60);
is([history.bins.size, history.hours.size], [0, 0], "and go after 48 hours");

is([null, {}, { minutes: [] }, { hour: 1.5, minutes: [] }, [],
    { hour: 3, minutes: {} }].map((x) => history.take(x, hour)),
   [false, false, false, false, false, false], "what is no answer");
ok(history.take({ hour, minutes: [null, {}, { minute: now },
    { minute: 5, series: [] }, { minute: now, series: [1, [], ["a", "b"]] },
    { minute: now, gateway: "g", series: [[1, null, "<b>", 7]] }] }, hour),
   "oddities in one");
is([...history.names.values()].at(-1), ["1", "null", "<b>"],
   "names are text");


// where the time goes

function row(timers, count = 10, wait = 0) {
    const cell = N.parse("0.0:0");

    for (const [t, seconds] of Object.entries(timers)) {
        N.add(cell, N.parse(T[t] + "." + index(seconds * 1e6) + ":" + count));
    }

    // 26: of first tokens what else does not explain, milliseconds

    if (wait) {
        N.add(cell, N.parse("10.26:" + Math.round(wait * 1000) * count));
    }

    return N.rowOfCell(cell);
}

const split = N.stages(row({ total: 4, queue: 0.5, connect: 0.01, load: 0.8,
                             prompt: 0.3, firstToken: 1.11 }));

near(split.each("queue"), 0.5, 0.04, "queue");
near(split.each("load"), 0.8, 0.04, "load");
near(split.each("prompt"), 0.3, 0.04, "prompt");
is(split.each("wait"), 0, "nothing else before the first token");
near(split.each("generation"), 2.4, 0.06, "the rest is generation");
near(split.seconds, 40, 0.04, "together all of it");

const cloud = N.stages(row({ total: 3, queue: 0, connect: 0.05,
                             firstToken: 1.5 }, 10, 1.45));

near(cloud.each("wait"), 1.45, 0.05, "a backend that tells nothing: a wait");
is(N.verdict(cloud).stage, "wait", "and that is the verdict");

is(N.verdict(N.stages(row({ total: 4, load: 3, firstToken: 3.1 }))).stage,
   "load", "a model that loads");
is(N.verdict(N.stages(row({ total: 4, queue: 3, firstToken: 0.4 }))).stage,
   "queue", "a queue");

const fine = N.stages(row({ total: 4, prompt: 0.3, firstToken: 0.31 }));

is([N.verdict(fine).stage, N.verdict(fine).slow], ["generation", false],
   "nothing is in its way");

const slower = N.verdict(N.stages(row({ total: 12, prompt: 0.3,
                                        firstToken: 0.31 })), fine);

is([slower.stage, slower.slow], ["generation", true],
   "slower than it was");
near(slower.times, 11.7 / 3.7, 0.1, "so many times");
is(N.verdict(N.stages(row({}, 0))), null, "no verdict on nothing");

// 24 and 25 are milliseconds: of a body that came slowly, of failed tries

const slowly = N.parse("0." + index(12e6) + ":1 6." + index(0.4e6)
                     + ":1 10.24:1500 10.25:8000");
const late = N.stages(N.rowOfCell(slowly));

near(late.each("failed"), 8, 0.01, "failed tries are no generation");
near(late.each("body"), 1.5, 0.01, "nor is a body that takes its time");
near(late.each("generation"), 2.1, 0.2, "which is what is left");
is(N.verdict(late).stage, "failed", "and that is the verdict");

// one stream that had to wait for its model, among answers that are no
// streams: what is true of it is not said of them

const few = N.parse("0." + index(0.2e6) + ":9 0." + index(2e6) + ":1 4."
                    + index(1e6) + ":1 6." + index(1.1e6) + ":1 10.26:100");
const mixed = N.stages(N.rowOfCell(few));

near(mixed.seconds, 3.8, 0.2, "no more seconds than there were");
near(mixed.parts.wait, 0.1, 0.001, "the stream's own wait");
near(mixed.parts.generation, 2.7, 0.2, "the others' time is generation");


// series of the status, without a history

const series = [1, 2].map((n) => ({ requests: { ok: n, limited: 1 },
    fallbacks: n, input_tokens: 10 * n, refused: { rate_limited: n },
    request_duration_seconds: { count: n, sum: 2 * n, p50: 2 } }));
const both = N.rowOfSeries(series);

is([both.count("ok"), both.count("fallbacks"), both.count("input_tokens"),
    both.count("cold_starts"), N.requests(both), both.refused.rate_limited],
   [3, 3, 30, 0, 5, 3], "counts of two series");
is([both.timer(T.total).n, both.timer(T.total).sum], [3, 6], "and times");
is([both.quantile(T.total, 0.5),
    N.rowOfSeries([series[0]]).quantile(T.total, 0.5)], [null, 2],
   "quantiles of one only");


// how it is written

const t = (text) => text.replace(/\u202f/g, " ");

is([0, 0.0004, 0.0012, 0.0123, 0.82, 0.9999, 1, 4.212, 10, 99.9, 130, 7300,
    null, undefined, NaN, Infinity].map((s) => t(N.time(s))),
   ["0 ms", "0.40 ms", "1.2 ms", "12 ms", "820 ms", "1.00 s", "1.00 s",
    "4.21 s", "10.0 s", "99.9 s", "2 min 10 s", "2 h 1 min", "–", "–", "–",
    "–"], "times");
is([0, 59, 60, 3599, 86400, 90000, 1e6].map((s) => t(N.span(s))),
   ["0 s", "59 s", "1 min", "59 min", "1 d", "1 d 1 h", "11 d"], "spans");
is([0, 999, 1000, 61230, 999999, 1234567, 12345678, 2e9].map((n) =>
    t(N.count(n))), ["0", "999", "1 000", "61 230", "999 999", "1.23 M",
    "12.3 M", "2.00 G"], "counts");
is([0, 0.001, 0.5, 1].map((n) => t(N.percent(n))),
   ["0 %", "<1 %", "50 %", "100 %"], "shares");
is([null, 4.24, 48.3].map((n) => t(N.rate(n))), ["–", "4.2 tok/s",
   "48 tok/s"], "rates");

console.log("1.." + tests);
