"use strict";

// The five views. Each has parts that stay, with what one can choose, and
// parts that are made anew with each answer.

const hybridViews = (() => {

    const N = hybridNumbers;
    const { T } = N;
    const { el, put, key, empty, table, colour, Plot } = hybridDraw;

    const STAGE = { queue: "queue", body: "request body",
                    failed: "failed tries", network: "network",
                    load: "model load",
                    prompt: "prompt", wait: "first token wait",
                    generation: "generation" };

    const stageColour = (name) => "var(--" + name + ")";
    const list = (value) => Array.isArray(value) ? value : [];
    const object = (value) => value && typeof value === "object" ? value : {};
    const pair = (label, ...value) => [el("dt", null, label),
                                       el("dd", null, ...value)];
    const byName = (a, b) => a < b ? -1 : a > b ? 1 : 0;


    // -- what several views need

    // groups of the last minutes, from history or, without it, since the
    // start, from the series

    function totals(s, minutes, group) {
        if (s.history.hours.size) {
            const to = s.minute();
            const sums = s.history.sums(to - minutes + 1, to, group);

            return new Map([...sums].map(([name, cell]) =>
                [name, N.rowOfCell(cell, s.data.names)]));
        }

        const groups = new Map();

        for (const series of list(s.data.series)) {
            const name = group(String(series.client), String(series.backend),
                               String(series.model));

            if (name !== undefined) {
                groups.set(name, [...groups.get(name) || [], series]);
            }
        }

        return new Map([...groups].map(([name, series]) =>
            [name, N.rowOfSeries(series)]));
    }

    function since(s, minutes) {
        return !s.history.hours.size ? "since the gateway began to count"
            : minutes === 60 ? "in the last hour"
            : minutes > 60 ? "in the last " + minutes / 60 + " hours"
            : "in the last " + minutes + " minutes";
    }

    function choice(label, options, value, change) {
        const select = el("select", { onchange: () => change(select.value) },
            options.map(([name, text]) => el("option", { value: name }, text)));

        select.value = value;

        return { select, node: el("label", null, label, select) };
    }

    // other options, for the names that are known now; what was chosen stays

    function options(select, names, all) {
        const value = select.value;
        const wanted = ["", ...new Set([...names, value].filter(Boolean))];
        const have = [...select.options].map((o) => o.value);

        if (JSON.stringify(wanted) !== JSON.stringify(have)) {
            put(select, wanted.map((name) =>
                el("option", { value: name }, name || all)));
            select.value = value;
        }
    }

    function ranges(s, change) {
        const buttons = [[60, "1 hour"], [2880, "48 hours"]].map(
            ([minutes, text]) => el("button", { type: "button",
                "data-range": minutes, onclick: () => change(minutes) },
                text));

        return { node: el("div", { class: "switch", role: "group",
                                   "aria-label": "Time shown" }, buttons),
                 mark: () => buttons.forEach((b) => b.setAttribute(
                     "aria-pressed", String(+b.dataset.range === s.range))) };
    }

    // times of bins, and a group's values in them

    function bins(s) {
        const step = s.range > 60 ? N.BIN : 1;
        const last = s.minute();
        const first = Math.floor((last - s.range + 1) / step) * step;
        const at = [];

        for (let minute = first; minute <= last; minute += step) {
            at.push(minute);
        }

        return { step, first, last, at, times: at.map((m) => m * 60) };
    }

    function names(s, field) {
        const i = ["client", "backend", "model"].indexOf(field);
        const found = new Set([...s.history.names.values()].map((n) => n[i]));

        for (const series of list(s.data.series)) {
            found.add(String(series[field]));
        }

        found.delete("-");

        return [...found].sort(byName);
    }

    function progress(s) {
        return s.loading ? "fetching " + s.loading + " more hours"
            : s.range > 60 && !s.kept()
                ? "Without Redis only the last hour is kept." : "";
    }


    // -- now

    const KINDS = { probe_slow: "Slow probe", model_missing: "Model missing",
                    cold_starts: "Many cold starts", wedged: "Wedged",
                    client_refused: "Client refused",
                    credential_expires: "Credential expires",
                    path_flapping: "Path flaps",
                    backend_down: "Backend down" };

    const now = {
        make(root) {
            this.anomalies = el("div");
            this.tiles = el("dl", { class: "tiles" });
            this.where = el("div", { class: "card" });
            this.backends = el("div");
            put(root, this.anomalies, this.tiles, this.where, this.backends);
        },

        show(s) {
            this.showAnomalies(s);

            let minutes = 5;
            let rows = this.rows(s, minutes);

            if (!rows.length && s.history.hours.size) {
                minutes = 60;
                rows = this.rows(s, minutes);
            }

            this.showTiles(s, minutes);
            this.showWhere(s, minutes, rows);
            this.showBackends(s);
        },

        showAnomalies(s) {
            const found = list(s.data.anomalies);

            this.anomalies.hidden = !found.length;
            put(this.anomalies, found.length > 0 && el("div",
                { class: "card anomalies" },
                el("h2", null, found.length === 1 ? "1 anomaly"
                                   : found.length + " anomalies"),
                el("ul", null, found.map((a) => {
                    const whom = [a.backend, a.path, a.model, a.client]
                        .filter(Boolean).join(" · ");

                    return el("li", null,
                        el("span", { class: "what" },
                           KINDS[a.kind] || String(a.kind)),
                        el("span", { class: "text" },
                           el("b", null, whom), whom && a.text ? ": " : "",
                           a.text || ""),
                        el("span", { class: "muted nobr" },
                           a.since && s.clock() >= a.since
                               ? "for " + N.span(s.clock() - a.since) : ""));
                }))));
        },

        rows(s, minutes) {
            const group = (c, backend, model) =>
                backend === "-" ? undefined : JSON.stringify([backend, model]);
            const before = totals(s, 60, group);
            const whom = totals(s, minutes, (client, backend, model) =>
                backend === "-" ? undefined
                                : JSON.stringify([backend, model, client]));

            return [...totals(s, minutes, group)].map(([name, row]) => {
                const [backend, model] = JSON.parse(name);
                const then = before.get(name);

                return { backend, model, row, split: N.stages(row),
                         before: minutes < 60 && s.history.hours.size && then
                             ? N.stages(then) : null,
                         clients: [...whom].map(([k, r]) =>
                             [JSON.parse(k), r.timer(T.total).sum])
                             .filter(([k, n]) => k[0] === backend
                                                 && k[1] === model && n > 0)
                             .map(([k, n]) => [k[2], n])
                             .sort((a, b) => b[1] - a[1]) };
            }).filter((r) => r.split.n > 0 && r.split.seconds > 0)
              .sort((a, b) => byName(a.backend, b.backend)
                              || b.split.seconds - a.split.seconds);
        },

        showTiles(s, minutes) {
            const all = totals(s, minutes, () => "").get("");
            const backends = list(s.data.backends);
            const elapsed = minutes - 1 + s.data.time % 60 / 60 || minutes;
            const total = all ? N.requests(all) : 0;
            const refused = all ? N.some(all, N.REFUSED) : 0;
            const failed = all ? N.some(all, N.FAILED) : 0;
            const per = all && all.quantile(T.token, 0.5);
            const sum = (name) => backends.reduce((n, b) =>
                n + (+b[name] || 0), 0);
            const tile = (label, value, note) => el("div", { class: "tile" },
                el("dt", null, label), el("dd", null, value,
                    note && el("span", { class: "muted" }, " " + note)));

            put(this.tiles,
                tile(s.history.hours.size ? "Requests a minute" : "Requests",
                     s.history.hours.size
                         ? N.count(total / elapsed * 10) === "0" ? "0"
                             : (total / elapsed).toFixed(
                                 total / elapsed < 10 ? 1 : 0)
                         : N.count(total),
                     minutes === 60 ? "last hour" : ""),
                tile("First token, p95",
                     N.time(all ? all.quantile(T.firstToken, 0.95) : null)),
                tile("Tokens, median", N.rate(per ? 1 / per : null)),
                tile("In flight", N.count(sum("in_flight")),
                     sum("waiting") ? sum("waiting") + " waiting" : ""),
                tile("Refused", total ? N.percent(refused / total) : "–"),
                tile("Failed", total ? N.percent(failed / total) : "–"));
        },

        showWhere(s, minutes, rows) {
            const most = Math.max(...rows.map((r) =>
                r.split.seconds / r.split.n), 0.001);
            const backends = [...new Set(rows.map((r) => r.backend))].map(
                (name) => this.verdict(name, rows.filter((r) =>
                    r.backend === name)))
                .sort((a, b) => b.v.slow - a.v.slow);

            if (!rows.length) {
                put(this.where, el("h2", null, "Where the time goes"),
                    el("div", { class: "empty" }, el("strong", null,
                        s.history.hours.size
                            ? "No request was answered in the last hour"
                            : "No request was answered yet"),
                        "The next one shows here within seconds: how long "
                        + "it waited, for what, and for whom."));
                return;
            }

            put(this.where,
                el("div", { class: "head" },
                   el("h2", null, "Where the time goes"),
                   el("span", { class: "muted" }, "mean of a request, "
                       + since(s, minutes))),
                el("ul", { class: "legend" }, N.STAGES.filter((name) =>
                    rows.some((r) => r.split.parts[name] > 0)).map((name) =>
                        el("li", null, key(stageColour(name)),
                           STAGE[name]))),
                backends.map((found) => this.backend(found, most)));
        },

        // of the model that costs most, when one is slow

        verdict(name, rows) {
            const found = rows.map((r) =>
                ({ name, rows, r, v: N.verdict(r.split, r.before) }));

            return found.filter(({ v }) => v.slow)
                .sort((a, b) => b.v.each * b.r.split.n
                                - a.v.each * a.r.split.n)[0] || found[0];
        },

        backend({ name, rows, r, v }, most) {
            const rate = r.row.quantile(T.token, 0.5);

            const text = v.slow
                ? [el("b", null, STAGE[v.stage]), " takes ", el("b", null,
                       N.time(v.each)), " a request, "
                   + N.percent(v.share) + " of its time",
                   v.times ? ", " + v.times.toFixed(1)
                             + " times the hour’s mean" : "",
                   rows.length > 1 ? ", for " + r.model : ""]
                : ["generation takes " + N.time(v.each) + " a request, "
                   + N.percent(v.share) + " of its time"
                   + (rate ? ", at " + N.rate(1 / rate) : "")];

            return el("div", { class: "where" },
                el("p", { class: "verdict" + (v.slow ? " slow" : "") },
                   key(colour("backend", name)), el("b", null, name),
                   ": ", text),
                rows.map((row) => this.model(row, most)));
        },

        model({ model, row, split, clients }, most) {
            const mean = split.seconds / split.n;
            const rate = row.quantile(T.token, 0.5);
            const figure = (label, value) => el("div", null,
                el("dt", null, label), el("dd", null, value));
            const all = clients.reduce((n, c) => n + c[1], 0);
            const parts = N.STAGES.filter((name) => split.parts[name] > 0);

            return el("div", { class: "model" },
                el("span", { class: "name" }, model),
                el("div", { class: "bar", "aria-hidden": "true" },
                   el("div", { class: "fill", style: {
                          width: 100 * mean / most + "%" } },
                      parts.map((name) => el("span", { style: {
                          flexGrow: split.parts[name],
                          flexBasis: 0,
                          background: stageColour(name) } })))),
                el("dl", { class: "figures" },
                   figure("requests", N.count(split.n)),
                   figure("first token", N.time(
                       row.quantile(T.firstToken, 0.5))),
                   figure("p95", N.time(row.quantile(T.firstToken, 0.95))),
                   figure("median", N.rate(rate ? 1 / rate : null))),
                el("p", { class: "times" }, el("span", null,
                    parts.filter((name) => split.share(name) >= 0.0005)
                         .map((name, i) => [
                        i ? " · " : "", STAGE[name] + " ",
                        el("b", null, N.time(split.each(name)))]).flat(),
                    " = ", el("b", null, N.time(mean)),
                    row.count("cold_starts") > 0 && " · "
                        + N.count(row.count("cold_starts"))
                        + (row.count("cold_starts") === 1 ? " cold start"
                                                          : " cold starts")),
                    clients.length > 0 && el("span", { class: "whom" },
                        "for ", clients.slice(0, 4).map(([name, n], i) =>
                            (i ? ", " : "") + name + " "
                            + (clients.length > 1 ? N.percent(n / all)
                                                  : "alone")),
                        clients.length > 4 && " and " + (clients.length - 4)
                            + " more")));
        },

        showBackends(s) {
            const backends = list(s.data.backends);

            put(this.backends, backends.length
                ? el("div", { class: "grid" }, backends.map((b) =>
                    this.card(b)))
                : empty("No backend", "The configuration has no "
                        + "hybrid_backend."));
        },

        card(b) {
            const paths = list(b.paths);
            const loaded = list(b.loaded);
            const [state, mood] = backendState(b, paths);
            const passed = Object.entries(object(b.passed_over));
            const slots = +b.slots || 0;

            return el("article", { class: "card" },
                el("div", { class: "head" },
                   el("h3", null, key(colour("backend", String(b.name))),
                      String(b.name), " ", el("span", { class: "muted" },
                          [b.api, b.egress].filter(Boolean).join(", "))),
                   el("span", { class: "state " + mood }, state)),
                el("dl", { class: "facts" },
                   fact("in flight", N.count(+b.in_flight || 0)
                        + (slots ? " of " + slots : "")),
                   fact("waiting", N.count(+b.waiting || 0)),
                   +b.service_seconds > 0
                       && fact("a request takes", N.time(b.service_seconds)),
                   fact("models", b.models === null || b.models === undefined
                        ? "not known" : N.count(b.models))),
                loaded.length > 0 && el("div", { class: "chips" },
                    el("span", { class: "muted" }, "in memory"),
                    loaded.map((name) => el("span", { class: "chip" },
                                            String(name)))),
                b.models_error && !paths.some((p) =>
                    p.error === b.models_error) && el("p", { class: "muted" },
                    "its list of models: " + b.models_error),
                paths.length > 0 && table([{ label: "path" },
                    { label: "state" }, { label: "since", num: true },
                    { label: "probe", num: true }], paths.map((p) => [
                        [el("span", { class: "mono" }, String(p.name)),
                         p.error && el("span", { class: "note" },
                                       String(p.error))],
                        el("span", { class: "state " + mood4(p.state) },
                           String(p.state)),
                        p.state === "unknown" ? "" : N.span(+p.since || 0),
                        p.latency_seconds ? N.time(p.latency_seconds)
                                          : ""])),
                passed.length > 0 && el("p", { class: "muted" },
                    "passed over: " + passed.map(([code, n]) =>
                        code + " " + N.count(n)).join(", ")));
        }
    };

    function fact(label, value) {
        return el("div", null, el("dt", null, label), el("dd", null, value));
    }

    function mood4(state) {
        return { up: "good", slow: "warn", down: "bad", drained: "warn",
                 disabled: "off" }[state] || "off";
    }

    function backendState(b, paths) {
        const states = paths.map((p) => p.state);
        const has = (state) => states.includes(state);
        const all = (state) => states.length > 0
                               && states.every((x) => x === state);

        if (b.stuck) {
            return ["wedged", "bad"];
        }

        for (const state of ["down", "disabled", "drained", "idle"]) {
            if (all(state)) {
                return [state, mood4(state)];
            }
        }

        if (has("down")) {
            return ["up, but not on all paths", "warn"];
        }

        if (has("drained") || has("disabled")) {
            return ["up, a path is taken out", "warn"];
        }

        if (has("slow")) {
            return ["slow", "warn"];
        }

        return has("up") ? ["up", "good"]
            : [b.probed ? "not probed yet" : "not probed", "off"];
    }


    // -- latency

    const LINES = [["percentiles", "percentiles"], ["backend", "by backend"],
                   ["model", "by model"], ["client", "by client"]];

    const latency = {
        make(root, s, redraw) {
            const change = (name) => (value) => {
                s.filter[name] = value;
                redraw();
            };

            this.range = ranges(s, s.setRange);
            this.chosen = {};

            for (const name of ["backend", "model", "client"]) {
                this.chosen[name] = choice(name, [["", "all"]],
                                           s.filter[name] || "",
                                           change(name));
            }

            this.lines = choice("lines", LINES, s.filter.lines,
                                change("lines"));
            this.quantile = choice("each", [["0.5", "median"],
                ["0.95", "p95"], ["0.99", "p99"]], s.filter.quantile,
                change("quantile"));
            this.note = el("span", { class: "muted" });

            this.first = new Plot("Time to first token",
                "from the start of the try that answered", N.time,
                { sync: "latency", least: 0.01 });
            this.tokens = new Plot("Tokens a second",
                "of one answer; p95 is what 95 of 100 reach", N.rate,
                { sync: "latency", least: 10, whole: true });
            this.total = new Plot("Whole request", "until the last byte",
                N.time, { sync: "latency", least: 0.01 });
            this.table = el("div", { class: "card" });

            put(root, el("div", { class: "controls" }, this.range.node,
                this.chosen.backend.node, this.chosen.model.node,
                this.chosen.client.node, this.lines.node, this.quantile.node,
                this.note), this.first.node, this.tokens.node,
                this.total.node, this.table);
        },

        show(s) {
            const f = s.filter;
            const chosen = (c, b, m) => (!f.client || c === f.client)
                && (!f.backend || b === f.backend)
                && (!f.model || m === f.model);
            const split = f.lines !== "percentiles";
            const group = (c, b, m) => !chosen(c, b, m) ? undefined
                : { backend: b, model: m, client: c }[f.lines] || "";
            const x = bins(s);

            this.range.mark();
            this.quantile.node.hidden = !split;
            this.note.textContent = progress(s);

            for (const name of ["backend", "model", "client"]) {
                options(this.chosen[name].select, names(s, name),
                        "all " + name + "s");
            }

            const groups = s.history.fold(x.first, x.last, x.step, group);
            const marks = this.cold(s, x, chosen);

            this.plot(this.first, s, x, groups, T.firstToken, false, marks);
            this.plot(this.tokens, s, x, groups, T.token, true, []);
            this.plot(this.total, s, x, groups, T.total, false, []);
            this.summary(s, chosen);
        },

        cold(s, x, chosen) {
            const line = s.history.fold(x.first, x.last, x.step,
                (...key) => chosen(...key) ? "" : undefined).get("");

            return !line ? [] : x.at.map((minute) => ({
                at: minute * 60,
                n: line.has(minute)
                    ? N.rowOfCell(line.get(minute), s.data.names)
                       .count("cold_starts") : 0
            })).filter((mark) => mark.n > 0);
        },

        // of rates, the slow ones are the low ones: p95 is what 95 of 100
        // answers reach

        plot(plot, s, x, groups, timer, invert, marks) {
            const of = (line, q) => x.at.map((minute) => {
                const value = line && line.has(minute)
                    ? N.quantile(line.get(minute), timer, q) : null;

                return value === null ? null
                    : invert ? value > 0 ? 1 / value : null : value;
            });
            const split = s.filter.lines !== "percentiles";
            const q = +s.filter.quantile;
            let lines;

            if (split) {
                lines = [...groups].filter(([name, line]) => name !== "-"
                    && [...line.values()].some((c) => N.number(c, timer)))
                    .map(([name, line]) => [name, line,
                        [...line.values()].reduce((n, c) =>
                            n + N.number(c, timer), 0)])
                    .sort((a, b) => b[2] - a[2]).slice(0, 10)
                    .sort((a, b) => byName(a[0], b[0]))
                    .map(([name, line]) => ({ label: name,
                        colour: colour(s.filter.lines, name),
                        values: of(line, q) }));

            } else {
                const line = groups.get("");

                lines = [[0.5, "median", "p50"], [0.95, "p95", "p95"],
                         [0.99, "p99", "p99"]].map(([p, label, name]) => ({
                    label, colour: "var(--" + name + ")",
                    values: of(line, p), fill: p === 0.5 }));
            }

            plot.set(x.times, lines, marks);
        },

        summary(s, chosen) {
            const rows = [...totals(s, s.range, (c, b, m) =>
                b !== "-" && chosen(c, b, m) ? JSON.stringify([b, m])
                                             : undefined)]
                .map(([name, row]) => [...JSON.parse(name), row])
                .filter(([, , row]) => row.timer(T.total).n > 0)
                .sort((a, b) => byName(a[0], b[0]) || byName(a[1], b[1]));
            const rate = (row, q) => {
                const value = row.quantile(T.token, q);

                return N.rate(value ? 1 / value : null);
            };
            const time = (row, q) => N.time(row.quantile(T.firstToken, q));

            put(this.table,
                el("div", { class: "head" }, el("h2", null, "In numbers"),
                   el("span", { class: "muted" }, since(s, s.range))),
                rows.length ? table([{ label: "model" }, { label: "backend" },
                    { label: "requests", num: true },
                    { label: "first token", num: true },
                    { label: "p95", num: true }, { label: "p99", num: true },
                    { label: "tokens", num: true },
                    { label: "slow 5 %", num: true },
                    { label: "cold starts", num: true }],
                    rows.map(([backend, model, row]) => [model,
                        el("span", null, key(colour("backend", backend)),
                           backend), N.count(row.timer(T.total).n),
                        time(row, 0.5), time(row, 0.95), time(row, 0.99),
                        rate(row, 0.5), rate(row, 0.95),
                        N.count(row.count("cold_starts"))]))
                    : el("p", { class: "muted" }, "No answer in this time."));
        }
    };


    // -- traffic

    const SHOW = [["outcome", "outcomes"], ["client", "clients"],
                  ["backend", "backends"], ["refused", "refusals by reason"],
                  ["reasons", "fallbacks by reason"]];

    const OUTCOME_LINES = [
        ["answered", ["ok", "client_error"], "var(--generation)"],
        ["refused", N.REFUSED, "var(--queue)"],
        ["failed", N.FAILED, "var(--bad)"],
        ["client left", ["client_closed"], "var(--wait)"]
    ];

    const traffic = {
        make(root, s, redraw) {
            this.range = ranges(s, s.setRange);
            this.what = choice("requests by", SHOW, s.filter.show, (value) => {
                s.filter.show = value;
                redraw();
            });
            this.note = el("span", { class: "muted" });
            this.requests = new Plot("Requests", "a minute",
                (v) => v < 10 ? String(+v.toFixed(1)) : N.count(v),
                { sync: "traffic", least: 1, whole: true });
            this.tokens = new Plot("Tokens", "a minute", N.count,
                { sync: "traffic", least: 10, whole: true });
            this.clients = el("div", { class: "card" });
            this.reasons = el("div", { class: "grid" });

            put(root, el("div", { class: "controls" }, this.range.node,
                this.what.node, this.note), this.requests.node,
                this.tokens.node, this.clients, this.reasons);
        },

        show(s) {
            const x = bins(s);

            this.range.mark();
            this.note.textContent = progress(s);
            this.plots(s, x);
            this.showClients(s);
            this.showReasons(s);
        },

        plots(s, x) {
            const show = s.filter.show;
            const named = show === "client" || show === "backend";
            const rows = new Map();

            for (const [name, line] of s.history.fold(x.first, x.last, x.step,
                (c, b) => show === "client" ? c : show === "backend" ? b : ""))
            {
                rows.set(name, new Map([...line].map(([at, cell]) =>
                    [at, N.rowOfCell(cell, s.data.names)])));
            }


            // the last bin is not over yet

            const minutes = (at) => Math.min(x.step,
                Math.max(s.clock() / 60 - at, 0.5));
            const values = (line, of) => x.at.map((minute) =>
                line && line.has(minute)
                    ? of(line.get(minute)) / minutes(minute) : 0);
            const all = rows.get("");
            let lines;

            if (named) {
                lines = [...rows].map(([name, line]) => [name, line,
                    [...line.values()].reduce((n, r) => n + N.requests(r),
                                              0)])
                    .filter(([, , n]) => n > 0)
                    .sort((a, b) => b[2] - a[2]).slice(0, 10)
                    .map(([name, line]) => ({
                        label: name === "-" ? "none" : name,
                        colour: colour(show, name),
                        values: values(line, N.requests) }));

            } else if (show === "outcome") {
                lines = OUTCOME_LINES.map(([label, outcomes, c], i) => ({
                    label, colour: c, fill: i === 0,
                    values: values(all, (row) => N.some(row, outcomes)) }));

            } else {
                const codes = new Set([...all ? all.values() : []].flatMap(
                    (row) => Object.keys(row[show])));

                const many = (code) => [...all ? all.values() : []].reduce(
                    (n, row) => n + (row[show][code] || 0), 0);

                lines = [...codes].sort((a, b) => many(b) - many(a))
                    .slice(0, 10).sort(byName).map((code) => ({
                    label: code, colour: colour("reason", code),
                    values: values(all, (row) => row[show][code] || 0) }));
            }

            this.requests.set(x.times, lines);

            const sums = new Map([...s.history.fold(x.first, x.last, x.step,
                () => "").get("") || []].map(([at, cell]) =>
                    [at, N.rowOfCell(cell, s.data.names)]));

            this.tokens.set(x.times, [["input", "input_tokens", "--network"],
                ["output", "output_tokens", "--generation"]].map(
                    ([label, name, c]) => ({ label,
                        colour: "var(" + c + ")",
                        values: values(sums, (row) => row.count(name)) })));
        },

        showClients(s) {
            const rows = [...totals(s, s.range, (client) => client)]
                .map(([name, row]) => [name, row, N.requests(row)])
                .filter(([, , n]) => n > 0).sort((a, b) => b[2] - a[2]);
            const some = (row, of) => N.count(N.some(row, of));

            put(this.clients,
                el("div", { class: "head" }, el("h2", null, "Clients"),
                   el("span", { class: "muted" }, since(s, s.range))),
                rows.length ? table([{ label: "client" },
                    { label: "requests", num: true },
                    { label: "answered", num: true },
                    { label: "refused", num: true },
                    { label: "failed", num: true },
                    { label: "client left", num: true },
                    { label: "fallbacks", num: true },
                    { label: "tokens in", num: true },
                    { label: "tokens out", num: true }],
                    rows.map(([name, row, n]) => [
                        name === "-" ? "nobody known"
                            : el("span", null, key(colour("client", name)),
                                 name),
                        N.count(n), some(row, ["ok", "client_error"]),
                        some(row, N.REFUSED), some(row, N.FAILED),
                        some(row, ["client_closed"]),
                        some(row, ["fallbacks"]),
                        some(row, ["input_tokens"]),
                        some(row, ["output_tokens"])]))
                    : el("p", { class: "muted" }, "No request in this time."));
        },

        showReasons(s) {
            const rows = [...totals(s, s.range, (client) => client)];
            const paths = [...totals(s, s.range, (c, backend) => backend)];
            const flat = (from, field) => from.flatMap(([name, row]) =>
                Object.entries(row[field]).filter(([, n]) => n > 0)
                      .map(([code, n]) => [name, code, n]))
                .sort((a, b) => b[2] - a[2]);
            const box = (title, none, label, found) => el("div",
                { class: "card" },
                el("div", { class: "head" }, el("h2", null, title),
                   el("span", { class: "muted" }, since(s, s.range))),
                found.length ? table([{ label },
                                      { label: "reason", wide: true },
                                      { label: "requests", num: true }],
                    found.slice(0, 12).map(([name, code, n]) => [
                        name === "-" ? label === "client" ? "nobody known"
                                                          : "none" : name,
                        code, N.count(n)]))
                    : el("p", { class: "muted" }, none),
                found.length > 12 && el("p", { class: "muted" },
                    "and " + (found.length - 12) + " with fewer"));

            put(this.reasons,
                box("Refusals", "Nothing was refused.", "client",
                    flat(rows, "refused")),
                box("Fallbacks, by who asked", "None: all were answered by "
                    + "their first choice.", "client",
                    flat(rows, "reasons")),
                box("Fallbacks, by who answered", "None.", "backend",
                    flat(paths, "reasons")));
        }
    };


    // -- limits

    const MOST = 200;

    const limits = {
        make(root) {
            this.root = root;
        },

        show(s) {
            const clients = list(s.data.clients).map((c) => {
                const all = Object.entries(object(c.limits));

                return { c, all, most: Math.max(0, ...all.map(([, l]) =>
                    this.share(l))) };
            }).sort((a, b) => b.most - a.most || b.all.length - a.all.length
                              || byName(a.c.name, b.c.name));

            put(this.root, clients.length ? [
                el("p", { class: "muted" }, "As this gateway knows them, the "
                   + "most used first."),
                el("div", { class: "grid" },
                   clients.slice(0, MOST).map((x) => this.card(s, x))),
                clients.length > MOST && el("p", { class: "muted" },
                    "and " + N.count(clients.length - MOST) + " more")]
                : empty("No client", "The configuration has no "
                        + "hybrid_client."));
        },

        share(l) {
            const whole = +(l.burst ?? l.quota) || 0;

            return whole > 0 ? Math.min((+l.used || 0) / whole, 1) : 0;
        },

        card(s, { c, all }) {
            const facts = [
                +c.waiting > 0 && N.count(c.waiting) + " waiting",
                +c.waited > 0 && N.count(c.waited) + " had to wait",
                +c.without_redis > 0 && N.count(c.without_redis)
                                        + " decided without Redis"
            ].filter(Boolean);

            return el("article", { class: "card" },
                el("div", { class: "head" },
                   el("h3", null, key(colour("client", String(c.name))),
                      String(c.name)),
                   el("span", { class: "muted" }, c.from === "redis"
                       ? "from Redis" : "")),
                all.length ? el("div", null, all.map(([name, l]) =>
                    this.limit(name, object(l))))
                    : el("p", { class: "muted" }, "no limits"),
                facts.length > 0 && el("p", { class: "muted" },
                                       facts.join(" · ")));
        },

        limit(name, l) {
            const share = this.share(l);
            const money = name === "budget";
            const n = (v) => money ? (+v).toFixed(2) : N.count(+v);
            const whole = l.burst ?? l.quota;
            const quota = name === "concurrency"
                ? n(l.quota) + " at a time"
                : n(l.quota) + " " + interval(l.period || l.window);
            const note = [
                l.in_flight !== undefined && n(l.in_flight) + " in flight",
                l.burst !== undefined && +l.burst !== +l.quota
                    && "burst " + n(l.burst),
                +l.leased > 0 && n(l.leased) + " leased here",
                +l.reset > 0 && "whole again in " + N.span(+l.reset)
            ].filter(Boolean).join(" · ");

            return el("div", { class: "limit" },
                el("span", null, name + ", " + quota),
                el("b", { class: "num" }, n(l.used || 0) + " of "
                                          + n(whole || 0)),
                el("div", { class: "bar", role: "meter",
                            "aria-label": name + " used",
                            "aria-valuemin": 0, "aria-valuemax": 100,
                            "aria-valuenow": Math.round(share * 100) },
                   el("div", { class: "fill" + (share >= 0.95 ? " bad"
                                                : share >= 0.75 ? " warn"
                                                                : ""),
                               style: { width: 100 * share + "%",
                                        minWidth: share > 0 ? "3px"
                                                            : "0" } })),
                note && el("span", { class: "note" }, note));
        }
    };

    function interval(time) {
        const known = { 1: "a second", 60: "a minute", 3600: "an hour",
                        86400: "a day", day: "a day", month: "a month" };

        return Object.hasOwn(known, time) ? known[time]
                                          : "in " + N.span(+time || 0);
    }


    // -- gateway

    const gateway = {
        make(root, s) {
            this.scopes = [["all", "all gateways"], ["gateway", "this one"]]
                .map(([scope, text]) => el("button", { type: "button",
                    "data-scope": scope,
                    onclick: () => s.setScope(scope) }, text));
            this.scope = el("div", { class: "switch", role: "group",
                                     "aria-label": "Whose numbers" },
                            this.scopes);
            this.scopeNote = el("span", { class: "muted" });
            this.parts = el("div", { class: "grid" });
            put(root, el("div", { class: "controls" }, this.scope,
                         this.scopeNote), this.parts);
        },

        show(s) {
            const d = s.data;
            const redis = object(d.redis);

            for (const button of this.scopes) {
                button.setAttribute("aria-pressed",
                    String(button.dataset.scope === d.scope));
                button.disabled = !redis.configured
                                  && button.dataset.scope === "all";
            }

            this.scopeNote.textContent = !redis.configured
                ? "There is no Redis: this gateway counts for itself."
                : d.scope === "all" ? "Numbers of all gateways, merged."
                : redis.available ? "Numbers of this gateway alone."
                : "Redis is away: numbers of this gateway alone.";

            put(this.parts, this.versions(d), this.redis(d, redis),
                this.zone(object(d.zone)), this.failures(d),
                this.documents(d), this.shadow(d));
        },

        versions(d) {
            return el("div", { class: "card" }, el("h2", null, "Gateway"),
                el("dl", { class: "pairs" },
                   pair("module", String(d.version || "–")),
                   pair("nginx", String(d.nginx || "–")),
                   pair("name", el("span", { class: "mono" },
                                   String(d.gateway || "–"))),
                   pair("clock", d.time ? new Date(d.time * 1000)
                        .toISOString().slice(0, 19).replace("T", " ")
                        + " UTC" : "–"),
                   Object.entries(object(d.libraries)).map(([name, v]) =>
                       pair(name, String(v))).flat(),
                   list(d.backends).filter((b) => b.version).map((b) =>
                       pair(String(b.name), (b.api || "") + " "
                                            + b.version)).flat()));
        },

        redis(d, redis) {
            const [text, mood] = !redis.configured ? ["not used", "off"]
                : redis.available ? ["answers", "good"] : ["away", "bad"];
            const revoked = d.revocations && object(d.revocations);

            return el("div", { class: "card" }, el("h2", null, "Redis"),
                el("dl", { class: "pairs" },
                   pair("state", el("span", { class: "state " + mood },
                                    text)),
                   redis.configured && pair("flushes",
                                            N.count(+redis.flushes || 0)),
                   revoked && pair("revocations", N.count(revoked.entries)
                       + ", asked for " + N.span(revoked.age) + " ago"),
                   revoked && revoked.error
                       && pair("", el("span", { class: "state bad" },
                                      String(revoked.error)))));
        },

        zone(zone) {
            const size = +zone.size || 0;
            const used = size ? (size - (+zone.free || 0)) / size : 0;
            const mib = (n) => (n / 1048576).toFixed(1) + "\u202fMiB";

            return el("div", { class: "card" },
                el("h2", null, "Shared memory"),
                el("dl", { class: "pairs" },
                   pair("used", mib(size - (+zone.free || 0)) + " of "
                                + mib(size) + ", " + N.percent(used)),
                   pair("series", N.count(+zone.series || 0) + " of "
                                  + N.count(+zone.series_max || 0)),
                   +zone.octaves_max > 0 && pair("counters",
                       N.percent(zone.octaves / zone.octaves_max)
                       + " of their room"),
                   pair("clients", N.count(+zone.clients || 0)),
                   +zone.clients_reused > 0 && pair("reused",
                       N.count(zone.clients_reused))));
        },

        failures(d) {
            const auth = object(d.authentication);
            const all = Object.entries(object(auth.failures));

            return el("div", { class: "card" },
                el("h2", null, "Failed authentication"),
                all.length ? el("dl", { class: "pairs" },
                    all.map(([name, n]) => pair(name, N.count(n))).flat(),
                    pair("slowed", N.count(+auth.slowed || 0)))
                    : el("p", { class: "muted" }, "nothing is known"));
        },

        documents(d) {
            const rows = [
                ...list(d.issuers).map((i) => [
                    String(i.name), "keys of an issuer, " + i.jwks,
                    N.count(i.keys), i]),
                ...list(d.access_tokens).map((t) => [
                    String(t.account), "access token of " + t.metadata,
                    t.expires_in_seconds
                        ? el("span", { class: "nobr" }, "ends in "
                             + N.span(t.expires_in_seconds))
                        : "none", t]),
                ...list(d.backends).filter((b) => b.models_age !== undefined)
                    .map((b) => [String(b.name), "list of models",
                        N.count(b.models), { age_seconds: b.models_age,
                                             error: b.models_error }])
            ];

            return el("div", { class: "card" }, el("h2", null, "Documents"),
                rows.length ? table([{ label: "of" },
                    { label: "what", wide: true }, { label: "has" },
                    { label: "age", num: true }],
                    rows.map(([name, what, has, doc]) => [name,
                        [what, doc.error && el("span", { class: "note" },
                             el("span", { class: "state bad" },
                                String(doc.error)))],
                        has, doc.age_seconds === null
                             || doc.age_seconds === undefined ? ""
                             : N.span(doc.age_seconds)]))
                    : el("p", { class: "muted" }, "none"));
        },

        shadow(d) {
            const rows = list(d.shadowed).flatMap((x) =>
                Object.entries(object(x.reasons)).filter(([, n]) => n > 0)
                      .map(([code, n]) => [String(x.client), code,
                                           N.count(n)]));

            return rows.length > 0 && el("div", { class: "card" },
                el("h2", null, "Let through by hybrid_shadow"),
                table([{ label: "client" }, { label: "reason" },
                       { label: "requests", num: true }], rows));
        }
    };

    return { now, latency, traffic, limits, gateway };
})();
