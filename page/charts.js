"use strict";

// Elements and plots. What the gateway tells is text and never markup: names
// of models and clients come from others.

const hybridDraw = (() => {

    const N = hybridNumbers;

    // el("td", { class: "num" }, "text", other)

    function el(tag, attributes, ...children) {
        const node = document.createElement(tag);

        for (const [name, value] of Object.entries(attributes || {})) {
            if (name === "style") {
                Object.assign(node.style, value);

            } else if (name.startsWith("on")) {
                node.addEventListener(name.slice(2), value);

            } else if (value !== null && value !== undefined
                       && value !== false)
            {
                node.setAttribute(name, value === true ? "" : value);
            }
        }

        node.append(...children.flat().filter(
            (child) => child !== null && child !== undefined
                       && child !== false));

        return node;
    }

    function put(node, ...children) {
        node.replaceChildren(...children.flat().filter(Boolean));
    }

    function key(colour, more) {
        return el("span", { class: "key " + (more || ""),
                            "aria-hidden": "true",
                            style: { background: colour } });
    }

    function empty(title, text) {
        return el("div", { class: "card empty" }, el("strong", null, title),
                  text);
    }

    // columns: { label, num, wide }; a cell that is "" has no line of its own
    // where rows are cards

    function table(columns, rows) {
        return el("div", { class: "scroll" }, el("table", null,
            el("thead", null, el("tr", null, columns.map((c) =>
                el("th", { scope: "col", class: c.num && "num" },
                   c.label)))),
            el("tbody", null, rows.map((row) => el("tr", null,
                row.map((cell, i) => el("td", {
                    class: [columns[i].num ? "num" : "",
                            columns[i].wide ? "wide" : ""].join(" ").trim()
                           || null,
                    "data-label": columns[i].label
                }, cell)))))));
    }


    // -- colours: the same for a name in all views

    const given = new Map();

    function colour(kind, name) {
        if (!given.has(kind)) {
            given.set(kind, new Map());
        }

        const names = given.get(kind);

        if (!names.has(name)) {
            names.set(name, names.size % 10);
        }

        return "var(--c" + names.get(name) + ")";
    }

    // a canvas does not know of variables

    function resolve(value) {
        const m = /^var\((--[a-z0-9]+)\)$/.exec(value);

        return m ? getComputedStyle(document.documentElement)
                       .getPropertyValue(m[1]).trim() : value;
    }


    // -- plots

    const plots = new Set();

    const clock = (date) => String(date.getHours()).padStart(2, "0") + ":"
                            + String(date.getMinutes()).padStart(2, "0");
    const day = (date) => ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri",
                           "Sat"][date.getDay()];

    // "5.00 s" is "5 s" where all are round

    const short = (text) => text.replace(/\.(\d*?)0+(?!\d)/,
        (all, digits) => digits ? "." + digits : "");

    const whole = Array.from({ length: 36 }, (_, i) =>
        [1, 2, 5][i % 3] * 10 ** Math.floor(i / 3));

    // a point that has no neighbours is part of no line

    function alone(u, series, show) {
        const values = u.data[series];

        return show ? null : values.map((v, i) =>
            v !== null && (values[i - 1] ?? null) === null
            && (values[i + 1] ?? null) === null ? i : -1)
            .filter((i) => i >= 0);
    }

    class Plot {

        // format(value), of the axis and of the legend; least: of the axis

        constructor(title, note, format, options = {}) {
            this.format = format;
            this.options = options;
            this.legend = el("ul", { class: "legend" });
            this.none = el("p", { class: "none" }, "nothing in this time");
            this.draw = el("div", { class: "draw", role: "img",
                                    "aria-label": title }, this.none);
            this.title = title;
            this.node = el("figure", { class: "card plot" },
                           el("div", { class: "head" },
                              el("h2", null, title),
                              el("span", { class: "muted" }, note)),
                           this.draw, this.legend);
            this.lines = [];
            this.marks = [];
            this.resizes = new ResizeObserver(() => this.fit());
            this.resizes.observe(this.draw);
            plots.add(this);
        }

        // times: seconds; lines: { label, colour, values, fill }; marks:
        // { at, n } of what is drawn as upright lines

        set(times, lines, marks = []) {
            const kind = JSON.stringify(lines.map((l) => [l.label, l.colour,
                                                          l.fill]));

            this.data = [times, ...lines.map((l) => l.values)];
            this.marks = marks;
            this.lines = lines;
            this.step = times.length > 1 ? times[1] - times[0] : 60;

            if (kind !== this.kind || !this.plot) {
                this.kind = kind;
                this.make();

            } else {
                this.plot.setData(this.data);
            }

            this.none.hidden = lines.some((l) =>
                l.values.some((v) => v !== null));
            this.tell(null);
        }

        make() {
            if (this.plot) {
                this.plot.destroy();
                this.plot = null;
            }

            if (!this.draw.clientWidth || !this.data) {
                return;
            }

            const text = resolve("var(--muted)");
            const grid = { stroke: resolve("var(--line)"), width: 1 };
            const font = "12px system-ui, sans-serif";
            const least = this.options.least || 0;

            this.plot = new uPlot({
                width: this.draw.clientWidth,
                height: this.draw.clientHeight,
                legend: { show: false },
                cursor: { y: false, drag: { x: false, y: false },
                          sync: { key: this.options.sync || null },
                          points: { size: 7 } },
                padding: [10, 22, 0, 0],
                scales: {
                    x: { time: true, range: (u) => [
                        u.data[0][0], u.data[0][u.data[0].length - 1]] },
                    y: { range: (u, min, max) => [
                        0, Math.max((max || 0) * 1.08, least)] }
                },
                axes: [
                    { stroke: text, font, grid: { show: false },
                      ticks: { show: false }, size: 24, space: 64,
                      values: (u, at) => this.hours(at) },
                    { stroke: text, font, grid, ticks: { show: false },
                      size: 62, space: 36, gap: 6,
                      ...this.options.whole ? { incrs: whole } : {},
                      values: (u, at) => at.map((v) =>
                          v === 0 ? "0" : short(this.format(v))) }
                ],
                series: [{}, ...this.lines.map((line) => ({
                    label: line.label,
                    stroke: resolve(line.colour),
                    width: 1.75,
                    fill: line.fill ? resolve(line.colour) + "26" : undefined,
                    points: { size: 4, fill: resolve(line.colour),
                              filter: alone }
                }))],
                hooks: {
                    draw: [(u) => this.mark(u)],
                    setCursor: [(u) => this.tell(u.cursor.idx)]
                }
            }, this.data, this.draw);
        }

        hours(at) {
            const wide = at.length > 1 && at[at.length - 1] - at[0] > 20000;
            let before = null;

            return at.map((seconds) => {
                const date = new Date(seconds * 1000);
                const name = day(date);
                const text = !wide || name === before ? clock(date)
                    : date.getHours() + date.getMinutes() === 0 ? name
                    : name + " " + clock(date);

                before = name;
                return text;
            });
        }

        mark(u) {
            const ctx = u.ctx;
            const { left, top, width, height } = u.bbox;

            ctx.save();
            ctx.strokeStyle = ctx.fillStyle = resolve("var(--load)");
            ctx.lineWidth = devicePixelRatio * 1.25;

            // many of them would hide the lines

            const many = this.marks.length * 14 * devicePixelRatio > width;

            ctx.setLineDash(many ? [] : [4 * devicePixelRatio,
                                         3 * devicePixelRatio]);

            for (const { at } of this.marks) {
                const x = Math.round(u.valToPos(at, "x", true));

                if (x < left || x > left + width) {
                    continue;
                }

                ctx.beginPath();
                ctx.moveTo(x, top);
                ctx.lineTo(x, many ? top + 7 * devicePixelRatio
                                   : top + height);
                ctx.stroke();

                if (many) {
                    continue;
                }

                ctx.beginPath();
                ctx.arc(x, top, 3 * devicePixelRatio, 0, 2 * Math.PI);
                ctx.fill();
            }

            ctx.restore();
        }

        // the values under the cursor, or the newest

        tell(idx) {
            const at = (values) => {
                if (idx !== null && idx !== undefined) {
                    return values[idx] ?? null;
                }

                return values.findLast((v) => v !== null) ?? null;
            };

            const items = this.lines.map((line) => {
                const value = at(line.values);

                return [line.label, value === null ? "–"
                                                   : this.format(value),
                        line.colour];
            });

            put(this.legend, items.map(([label, value, colour]) =>
                el("li", null, key(colour), label, el("b", null, value))),
                this.marks.length > 0 && el("li", null,
                    el("span", { class: "key cold", "aria-hidden": "true" }),
                    "cold starts", el("b", null, N.count(
                        this.marks.reduce((n, mark) => n + mark.n, 0)))),
                idx !== null && idx !== undefined && this.data[0][idx]
                    ? el("li", null, "at " + clock(new Date(
                        this.data[0][idx] * 1000))) : null);

            if (idx === null || idx === undefined) {
                this.draw.setAttribute("aria-label", this.title + ": "
                    + items.map(([label, value]) => label + " " + value)
                           .join(", "));
            }
        }

        fit() {
            const width = this.draw.clientWidth;

            if (!width) {
                return;
            }

            if (!this.plot) {
                this.make();

            } else if (width !== this.plot.width
                       || this.draw.clientHeight !== this.plot.height)
            {
                this.plot.setSize({ width,
                                    height: this.draw.clientHeight });
            }
        }
    }

    // colours have changed

    function repaint() {
        for (const plot of plots) {
            if (plot.plot) {
                plot.make();
            }
        }
    }

    return { el, put, key, empty, table, colour, Plot, repaint };
})();
