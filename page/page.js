"use strict";

// The page: what is asked for and when, what is shown of it. All it asks is
// its own location.

(() => {

    const N = hybridNumbers;
    const { put } = hybridDraw;

    const EVERY = 5;            // seconds between questions
    const PATIENCE = 10;        // and for an answer
    const HOURS = 48;
    const AGAIN = 3;            // minutes that may still change

    const $ = (id) => document.getElementById(id);

    const s = {
        data: null,
        history: new N.History(),
        scope: "",
        range: 60,
        loading: 0,
        filter: { backend: "", model: "", client: "",
                  lines: "percentiles", quantile: "0.95", show: "outcome" },
        offset: 0,              // of the gateway's clock, in seconds
        clock: () => Date.now() / 1000 + s.offset,
        minute: () => Math.floor(s.clock() / 60),
        kept: () => !s.data.redis || s.data.redis.configured !== false,
        setRange,
        setScope
    };

    let answered = 0;           // when, by our clock
    let failure = "";
    let round = 0;
    let timer = 0;
    let busy = false;
    let generation = 0;         // answers of another scope are too late
    let current = "";
    const made = new Set();


    // -- asking

    async function ask(query) {
        const stop = new AbortController();
        const late = setTimeout(() => stop.abort(), PATIENCE * 1000);

        try {
            // a URL with a password in it is nothing to ask
            const answer = await fetch(location.origin + location.pathname
                + "?" + query + (s.scope ? "&scope=" + s.scope : ""), {
                    signal: stop.signal, cache: "no-store",
                    credentials: "same-origin", redirect: "error" });

            if (!answer.ok) {
                throw new Error("it answers " + answer.status);
            }

            return await answer.json();

        } catch (e) {
            throw stop.signal.aborted ? new Error("no answer in time")
                : e instanceof TypeError ? new Error("it does not answer")
                : e instanceof SyntaxError ? new Error("its answer is broken")
                : e;

        } finally {
            clearTimeout(late);
        }
    }

    async function refresh() {
        clearTimeout(timer);

        if (busy || document.hidden) {
            return;
        }

        const mine = generation;

        busy = true;

        try {
            const data = await ask("data");

            if (mine === generation) {
                if (typeof data !== "object" || data === null) {
                    throw new Error("its answer is broken");
                }

                s.data = data;
                s.offset = data.time ? data.time - Date.now() / 1000 : 0;
                answered = Date.now();
                failure = "";

                for (const b of data.backends || []) {
                    hybridDraw.colour("backend", String(b.name));
                }

                await history(mine);
            }

        } catch (e) {
            failure = e.message;
        }

        busy = false;
        timer = setTimeout(refresh, mine === generation ? EVERY * 1000 : 0);

        state();
        show();

        if (!failure) {
            older();
        }
    }

    // This hour and the one before at first; later what is new. Now and then
    // all of it, for another gateway may have been late.

    async function history(mine) {
        const hour = Math.floor(s.minute() / 60);
        const full = round++ % 24 === 0 || !s.history.hours.size
                     || s.history.last < s.minute() - 30;
        const from = s.minute() - AGAIN;

        // hours that were left half-way, in a tab that was hidden

        if (s.history.last < s.minute() - 30) {
            for (const h of [...s.history.hours]) {
                if (h >= Math.floor(s.history.last / 60)) {
                    s.history.hours.delete(h);
                }
            }
        }

        const wanted = full ? [hour, hour - 1]
            : Math.floor(from / 60) < hour ? [hour - 1, hour] : [hour];

        for (const h of wanted) {
            let answer = null;

            try {
                answer = await ask("history=" + h
                                   + (full ? "" : "&since=" + from));

            } catch (e) {
                if (/in time|does not answer/.test(e.message)) {
                    throw e;
                }
            }

            // a gateway without history is one to be shown, too

            if (mine !== generation || !s.history.take(answer, hour)) {
                return;
            }
        }
    }

    // older hours, when they are to be seen, newest first

    let asking = false;

    async function older() {
        if (asking || s.range <= 60 || !s.history.hours.size
            || !s.kept())
        {
            return;
        }

        const mine = generation;
        const hour = Math.floor(s.minute() / 60);
        const missing = [];

        for (let h = hour - 2; h >= hour - HOURS; h--) {
            if (!s.history.hours.has(h)) {
                missing.push(h);
            }
        }

        asking = true;

        try {
            while (missing.length && mine === generation) {
                s.loading = missing.length;

                if (missing.length % 6 === 0) {
                    show();
                }

                const answer = await ask("history=" + missing.shift());

                if (mine !== generation || !s.history.take(answer, hour)) {
                    break;
                }
            }

        } catch (e) {
            // the next round tells what is wrong, and goes on here

        } finally {
            asking = false;
            s.loading = 0;
            show();
        }
    }

    function setScope(scope) {
        s.scope = scope;
        s.history.clear();
        generation++;
        round = 0;
        refresh();
    }

    function setRange(minutes) {
        s.range = minutes;
        show();
        older();
    }


    // -- showing

    function state() {
        const live = $("live");
        const age = (Date.now() - answered) / 1000;
        const [name, text] = !answered ? failure ? ["gone", "no answer"]
                                                 : ["wait", "asking"]
            : failure ? ["gone", "gone"]
            : age > 3 * EVERY + PATIENCE ? ["stale", "stale"]
            : ["live", "live"];
        const notice = $("notice");

        // each change is read aloud: only real ones

        if (live.dataset.state !== name) {
            live.dataset.state = name;
            $("live-text").textContent = text;
        }

        const say = !failure ? ""
            : "The gateway is gone: " + failure + ". " + (answered
                ? "What is shown is from " + new Date(answered)
                    .toLocaleTimeString([], { hour12: false }) + "."
                : "It is asked again every " + EVERY + " seconds.");

        if (notice.textContent !== say) {
            notice.textContent = say;
            notice.hidden = !say;
        }
    }

    function show() {
        const view = hybridViews[current];

        if (!s.data || !view) {
            return;
        }

        const root = $("view-" + current);

        if (!made.has(current)) {
            made.add(current);
            view.make(root, s, show);
        }

        view.show(s);
        root.hidden = false;

        const found = Array.isArray(s.data.anomalies)
            ? s.data.anomalies.length : 0;
        const link = document.querySelector('nav a[href="#now"]');

        put(link, "Now", found > 0 && hybridDraw.el("span",
            { class: "mark", "aria-label": found + " anomalies" },
            String(found)));

        document.title = (found ? "(" + found + ") " : "")
                         + "Hybrid gateway, " + location.host;
    }

    function route() {
        const name = location.hash.slice(1);

        current = Object.hasOwn(hybridViews, name) ? name : "now";

        for (const link of document.querySelectorAll("nav a")) {
            if (link.getAttribute("href") === "#" + current) {
                link.setAttribute("aria-current", "page");

            } else {
                link.removeAttribute("aria-current");
            }
        }

        for (const section of document.querySelectorAll("main > section")) {
            section.hidden = section.id !== "view-" + current;
        }

        show();
        window.scrollTo(0, 0);
    }


    // -- dark and light: the system's, until one is chosen

    const dark = matchMedia("(prefers-color-scheme: dark)");

    function stored(value) {
        try {
            if (value !== undefined) {
                localStorage.setItem("hybrid-theme", value);
            }

            return localStorage.getItem("hybrid-theme");

        } catch (e) {
            return null;
        }
    }

    let theme = stored();

    function paint() {
        const name = theme === "dark" || theme === "light" ? theme
            : dark.matches ? "dark" : "light";
        const other = name === "dark" ? "light" : "dark";

        document.documentElement.dataset.theme = name;
        $("theme").textContent = other === "dark" ? "Dark" : "Light";
        $("theme").setAttribute("aria-label", "Change to " + other
                                              + " colours");
        hybridDraw.repaint();
    }

    $("theme").addEventListener("click", () => {
        theme = document.documentElement.dataset.theme === "dark" ? "light"
                                                                  : "dark";
        stored(theme);
        paint();
    });

    dark.addEventListener("change", paint);
    window.addEventListener("hashchange", route);
    document.addEventListener("visibilitychange", () => {
        if (document.hidden) {
            clearTimeout(timer);

        } else {
            refresh();
        }
    });

    $("host").textContent = location.host;

    paint();
    route();
    refresh();
    setInterval(state, 1000);
})();
