"""The scenarios of the lab. Bounds come from the configuration; ALLOWANCE is
for the machine, on which everything runs at the same time."""

import asyncio
import collections
import signal
import statistics
import time

import gateway
import load
import network
from gateway import CONNECT, INTERVAL, NOTICED, PROBE, TRUSTED
from load import Client, Load, added, base, between, kinds_of

ALLOWANCE = 1.0

# the path is nginx's choice: each machine has an address by either tunnel
HOME = f"""
    upstream forge {{
        zone forge 64k;
        server 10.8.0.10:11434;
        server 10.8.1.10:11434;
        keepalive 16;
    }}
    upstream anvil {{
        zone anvil 64k;
        server 10.8.0.11:11434;
        server 10.8.1.11:11434;
        keepalive 16;
    }}
    upstream cloud {{
        zone cloud 64k;
        server 203.0.113.10:443;
        keepalive 16;
    }}
    hybrid_backend forge {{ pass http://forge; models mistral:7b; {PROBE} }}
    hybrid_backend anvil {{ pass http://anvil; models mistral:7b; {PROBE} }}
    hybrid_backend cloud {{
        pass https://cloud; host cloud.lab; api openai; egress cloud;
        models gpt-lab; rename mistral:7b gpt-lab;
    }}
    hybrid_route mistral:7b forge,anvil cloud;
"""

# one address, which BGP leads over both tunnels
ROUTED = f"""
    upstream routed {{
        zone routed 64k;
        server 192.168.1.10:11434 max_fails=0;
        keepalive 16;
    }}
    hybrid_backend routed {{ pass http://routed; models routed:7b; {PROBE} }}
    hybrid_route routed:7b routed;
"""

# the second tunnel is only for when the first one fails
KEPT = """
    upstream forge {
        zone forge 64k;
        server 10.8.0.10:11434;
        server 10.8.1.10:11434 backup;
        keepalive 16;
    }
    hybrid_backend forge {
        pass http://forge; models mistral:7b;
        probe off;
    }
    hybrid_route mistral:7b forge;
"""


def office(lab, **more):
    more = {"path": "/api/chat", "model": "mistral:7b", **more}
    return Client("office", lab.gateway.tokens["office"], **more)


def travel(lab, **more):
    more = {"path": "/v1/chat/completions", "model": "mistral:7b", **more}
    return Client("travel", lab.gateway.tokens["travel"], **more)


async def well(machine):
    """As it was before a scenario."""
    if machine.process.poll() is not None:
        await machine.start()
    machine.signal(signal.SIGCONT)
    if machine.name != "cloud":
        await machine.call("POST", "/_mock/behave", {})


def worst(results, usual):
    return max((added(r, usual) for r in results), default=0)


def show_failed(lab, results):
    for r in results[:5]:
        lab.note(str(r))


def shares(lab, results, since):
    """Who answered, by seconds; lines that repeat are left out."""
    rows = collections.defaultdict(collections.Counter)
    for r in results:
        rows[int(r.start - since)][r.tunnel] += 1
    last = None
    for at, row in sorted(rows.items()):
        percent = {name: 100 * n / row.total() for name, n in row.items()}
        if last and last.keys() == percent.keys() and all(
                abs(percent[name] - last[name]) < 5 for name in last):
            continue
        last = percent
        lab.note(f"{at:4d} s  " + "  ".join(
            f"{name} {percent[name]:3.0f}%" for name in sorted(percent)))


async def path(lab):
    """one of two paths is cut silently, 50 requests/s, half of them streams
    """
    clients = kinds_of(office(lab), travel(lab))
    await lab.gateway.start(HOME)

    async with Load(clients) as running:
        await asyncio.sleep(8)
        network.cut(0)
        cut = time.monotonic()
        await asyncio.sleep(14)
        healed = time.monotonic()
        network.heal(0)
        await asyncio.sleep(24)

    results = running.results
    usual = base(between(results, 0, cut - 2))
    judge_cut(lab, between(results, 0, healed), usual, cut)
    judge_back(lab, between(results, healed), usual, healed)


def judge_back(lab, results, usual, healed):
    failed = [r for r in results if not r.complete]
    lab.check(not failed, "healed: no request fails",
              f"{len(failed)} of {len(results)}")
    show_failed(lab, failed)
    lab.below(worst(results, usual), ALLOWANCE,
              "worst latency added to a request")
    back = [r for r in results if r.tunnel == "0"]
    first = min((r.start for r in back), default=None)
    if not lab.gateway.probes:
        lab.skip("how it comes back: needs probes")
        return
    if lab.below(first and first - healed, TRUSTED + ALLOWANCE,
                 "the path is used again"):
        lab.check(share(results, first, first + 1)
                  < share(results, first + 3 * INTERVAL,
                          first + 3 * INTERVAL + 1)
                  <= share(results, healed + 22) + 0.15,
                  "little by little")
        lab.check(0.35 < share(results, healed + 22) < 0.65,
                  "and at the end as much as the other one",
                  f"{share(results, healed + 22):.0%}")
    lab.note("over which tunnel, after it was healed")
    shares(lab, results, healed)


def share(results, start, end=float("inf")):
    """Of the first tunnel."""
    some = between(results, start, end)
    return sum(r.tunnel == "0" for r in some) / max(1, len(some))


def judge_cut(lab, results, usual, cut):
    before, new = between(results, 0, cut), between(results, cut)
    flying = [r for r in before if r.start + r.total > cut]
    failed = [r for r in new if not r.complete]
    lab.note(f"{len(results)} requests, a header in "
             f"{usual[True] * 1000:.0f} ms (stream) and "
             f"{usual[False] * 1000:.0f} ms (plain) when all is well")
    lab.check(len(before) - len(flying) > 100
              and all(r.complete for r in before if r not in flying),
              "all are answered before the cut", len(before) - len(flying))
    lab.check(not failed, "no new request fails",
              f"{len(failed)} of {len(new)}")
    show_failed(lab, failed)
    limit = INTERVAL + CONNECT + ALLOWANCE
    lab.below(worst(new, usual), limit, "worst latency added to a new request")
    slow = [r for r in new if added(r, usual) > 0.5]
    lab.note(f"{len(slow)} new requests waited longer than 0.5 s, the last "
             f"{max((r.start for r in slow), default=cut) - cut:.1f} s after "
             "the cut")
    judge_flying(lab, flying, usual, cut)


def judge_flying(lab, flying, usual, cut):
    # a header may have been under way
    streams = [r for r in flying
               if r.first and r.start + r.first < cut + 0.5]
    waiting = [r for r in flying if r not in streams]
    broken = [r for r in streams if not r.complete]
    lost = [r for r in waiting if not r.complete]
    lab.note(f"on their way at the cut: {len(streams)} streams, of which "
             f"{len(broken)} broke ({sum(r.in_band for r in broken)} with an "
             f"error in the client's dialect, "
             f"{sum(r.error == 'hung' for r in broken)} hung for "
             f"{load.PATIENCE} s), and {len(waiting)} that waited for an "
             f"answer, of which {len(lost)} got none; longest "
             f"{max((r.total for r in flying), default=0):.1f} s")
    if lab.gateway.probes:
        lab.check(not [r for r in flying if r.error == "hung"],
                  "none hangs on the dead path")
        lab.check(not lost, "what waited on the dead path was moved",
                  f"{len(lost)} of {len(waiting)} lost")
        show_failed(lab, lost)
    else:
        lab.skip("what was on its way at the cut: needs probes")


async def routed(lab):
    """one address by BGP over both tunnels, one of them is cut silently
    """
    client = office(lab, model="routed:7b")
    await lab.gateway.start(ROUTED)

    if lab.bgp:
        there = await gateway.until(lambda: network.tunnels_of_bgp() == 2
                                    and network.tunnels_home() == 2)
        lab.check(there is not None, "both tunnels carry routes")

    async with Load(kinds_of(client)) as running:
        await asyncio.sleep(6)
        network.cut(0)
        cut = time.monotonic()
        noticed = await gateway.until(lambda: network.tunnels_of_bgp() == 1)
        await asyncio.sleep(8)

    new = between(running.results, cut)
    failed = [r for r in new if not r.complete]
    usual = base(between(running.results, 0, cut - 2))

    if not lab.bgp:
        lab.skip("nothing takes the dead path out of static routes: "
                 f"{len(failed)} of {len(new)} fail")
        return

    lab.below(noticed, 2, "BFD takes the path out")
    lab.check(not failed, "no new request fails",
              f"{len(failed)} of {len(new)}")
    show_failed(lab, failed)
    lab.below(worst(new, usual), noticed + CONNECT + ALLOWANCE,
              "worst latency added to a new request")
    broken = [r for r in between(running.results, 0, cut) if not r.complete]
    lab.check(not broken, "streams go on over the other tunnel",
              f"{len(broken)} broken")
    show_failed(lab, broken)
    network.heal(0)
    lab.below(await gateway.until(lambda: network.tunnels_of_bgp() == 2, 30),
              15, "both carry routes again")


async def both(lab):
    """both paths are cut: to the cloud who may, a quick 503 who may not; back
    """
    home, away = office(lab), travel(lab)
    await lab.gateway.start(HOME)

    async with Load(kinds_of(home, away)) as running:
        await asyncio.sleep(6)
        network.cut(0, 1)
        cut = time.monotonic()
        await asyncio.sleep(20)
        healed = time.monotonic()
        network.heal(0, 1)
        await asyncio.sleep(16)

    results = running.results
    usual = base(between(results, 0, cut - 2))
    judge_both(lab, results, usual, cut, healed)
    judge_healed(lab, results, healed)


def judge_both(lab, results, usual, cut, healed):
    down = between(results, cut, healed)
    slow = [r for r in down if r.total > (1 if r.client == "office" else 3)]
    noticed = max((r.start for r in slow), default=cut) - cut
    if lab.gateway.probes:
        lab.below(noticed, NOTICED + ALLOWANCE, "both are known to be dead")
    else:
        lab.note(f"the last slow request came {noticed:.1f} s after the cut")

    since = cut + (NOTICED + ALLOWANCE if lab.gateway.probes else 10)
    later = between(down, since)
    may = [r for r in later if r.client == "travel"]
    not_may = [r for r in later if r.client == "office"]
    lost = [r for r in may if not r.complete or r.backend != "cloud"]
    lab.check(may and not lost, "who may leave is answered by the cloud",
              f"{len(may) - len(lost)} of {len(may)}")
    show_failed(lab, lost)
    early = [r for r in between(down, cut, since) if r.client == "travel"]
    lost = [r for r in early if not r.complete]
    lab.check(not lost, "also before the paths were known to be dead",
              f"{len(early) - len(lost)} of {len(early)}, worst "
              f"{worst(early, usual):.1f} s")
    show_failed(lab, lost)

    if not lab.gateway.probes:
        lab.skip("503 within a second for those who may not: needs probes; "
                 f"now {collections.Counter(r.status for r in not_may)}, "
                 f"worst {max(r.total for r in not_may):.1f} s")
        return

    wrong = [r for r in not_may
             if r.status != 503 or "retry-after" not in r.headers]
    lab.check(not_may and not wrong, "who may not gets 503 with Retry-After",
              f"{len(not_may) - len(wrong)} of {len(not_may)}, Retry-After "
              f"{sorted({r.headers.get('retry-after') for r in not_may})}")
    show_failed(lab, wrong)
    lab.below(max((r.total for r in not_may), default=None), 1,
              "each within a second")


def judge_healed(lab, results, healed):
    # nginx alone asks again after its fail_timeout
    since = healed + (TRUSTED if lab.gateway.probes else 12) + ALLOWANCE
    after = between(results, healed)
    lost = [r for r in after if not r.complete
            and (r.client == "travel" or r.start > since)]
    lab.check(not lost, "healed: no request fails",
              f"{len(lost)} of {len(after)}, not counting 503 of those who "
              "may not leave until the paths are trusted")
    show_failed(lab, lost)
    home = [r for r in after if r.complete and r.backend in ("forge", "anvil")]
    first = min((r.start for r in home), default=None)
    if lab.gateway.probes:
        lab.below(first and first - healed, TRUSTED + ALLOWANCE,
                  "the first answer from home")
    else:
        lab.note("the first answer from home after "
                 f"{first and first - healed:.1f} s")
    last = between(results, time.monotonic() - 5)
    last = between(results, max(r.start for r in results) - 3)
    away = [r for r in last if r.backend == "cloud"]
    lab.check(not away, "at the end all is answered at home",
              f"{len(last) - len(away)} of {len(last)}")
    tunnels = collections.Counter(r.tunnel for r in last)
    lab.check(tunnels["0"] and tunnels["1"], "over both tunnels",
              dict(tunnels))
    lab.note("who answered after it was healed, tunnel or cloud (-: 503)")
    shares(lab, after, healed)


async def kept(lab):
    """a request on a kept connection whose path died meanwhile; and hosts
    that are slow, but not dead
    """
    client = office(lab)
    await lab.gateway.start(KEPT, workers=1)

    r = await client.ask()
    lab.check(r.tunnel == "0", "the first tunnel is used", r)
    network.cut(0)
    r = await client.ask()
    lab.check(r.complete and r.tunnel == "1",
              "a request on a kept connection moves to the other path", r)
    lab.below(r.total - 1.1, CONNECT + ALLOWANCE, "which takes")
    network.heal(0)

    # the kernel there acknowledges: it lives
    await lab.gateway.start(KEPT, workers=1)
    await client.ask()
    for seconds in (2 * CONNECT, 45):
        await lab.forge.call("POST", "/_mock/behave",
                             {"delay_ms": seconds * 1000, "times": 1})
        r = await client.ask(patience=90)
        lab.check(r.complete and r.tunnel == "0" and r.total > seconds,
                  f"{seconds} s of silence are waited for", r)

    # a packet of the keepalive, which is lost, is no death
    await lab.forge.call("POST", "/_mock/behave",
                         {"delay_ms": 45000, "times": 1})
    task = asyncio.create_task(client.ask(patience=90))
    await asyncio.sleep(28)
    network.cut(0)
    await asyncio.sleep(7)
    network.heal(0)
    r = await task
    lab.check(r.complete and r.tunnel == "0",
              "7 s without the path, in silence, are survived", r)


async def killed(lab):
    """a gateway worker is killed under load
    """
    await lab.gateway.start(HOME)

    async with Load(kinds_of(office(lab), travel(lab))) as running:
        await asyncio.sleep(6)
        busy = sum(await lab.gateway.in_flight())
        victim = lab.gateway.workers()[0]
        kill = time.monotonic()
        network.sh(f"kill -KILL {victim}")
        back = await gateway.until(lambda: len(lab.gateway.workers()) == 2
                                   and victim not in lab.gateway.workers())
        await asyncio.sleep(8)

    lab.below(back, 2, "another worker takes its place")
    new = between(running.results, kill)
    failed = [r for r in new if not r.complete]
    lab.check(not failed, "no new request fails",
              f"{len(failed)} of {len(new)}")
    show_failed(lab, failed)
    flying = [r for r in between(running.results, 0, kill)
              if r.start + r.total > kill]
    lab.note(f"{sum(not r.complete for r in flying)} of {len(flying)} on "
             "their way broke")

    took = await gateway.until(lambda: idle(lab), 30)
    lab.check(busy, "requests were counted as in flight", busy)
    lab.below(took, 10, "afterwards they are back to zero")


async def idle(lab):
    return not any(await lab.gateway.in_flight())


async def levers(lab):
    """an emergency cut-over under load: machines out of service, and back
    """
    home, away = office(lab), travel(lab)
    await lab.gateway.start(HOME)

    async with Load(kinds_of(home, away)) as running:
        await asyncio.sleep(4)
        await lab.gateway.levers(backend="forge", state="disable")
        one = time.monotonic()
        await asyncio.sleep(4)
        one_end = time.monotonic()
        await lab.gateway.levers(backend="anvil", state="drain")
        two = time.monotonic()
        await asyncio.sleep(4)
        busy = await lab.gateway.in_flight()
        two_end = time.monotonic()
        for name in ("forge", "anvil"):
            await lab.gateway.levers(backend=name, state="enable")
        undone = time.monotonic()
        await asyncio.sleep(8)

    results = running.results
    failed = [r for r in results if not r.complete
              and not (r.client == "office" and one_end <= r.start < undone)]
    lab.check(not failed, "no request fails, those under way neither",
              f"{len(failed)} of {len(results)}")
    show_failed(lab, failed)
    usual = base(between(results, 0, one - 2))
    lab.below(worst([r for r in results if r.complete], usual), ALLOWANCE,
              "worst latency added to a request")
    where = collections.Counter(r.backend for r in between(results, one,
                                                          one_end))
    lab.check(set(where) == {"anvil"}, "one is out: the other answers",
              dict(where))
    where = collections.Counter(
        (r.client, r.backend, r.status) for r in between(results, two,
                                                              two_end))
    lab.check(set(where) == {("travel", "cloud", 200), ("office", "-", 503)},
              "both are out: the cloud answers who may leave", dict(where))
    lab.check(sum(busy[:-1]) == 0, "they have no requests then", busy)
    last = between(results, undone + 4)
    where = collections.Counter(r.backend for r in last)
    lab.check(set(where) == {"forge", "anvil"}, "the undo brings them back",
              dict(where))


async def machine(lab):
    """the tunnels are up, but FORGE's server is killed; then it is frozen
    """
    await lab.gateway.start(HOME)

    async with Load(kinds_of(office(lab), travel(lab))) as running:
        await asyncio.sleep(6)
        kill = time.monotonic()
        lab.forge.signal(signal.SIGKILL)
        await asyncio.sleep(8)
        await lab.forge.start()
        await asyncio.sleep(12)
        frozen = time.monotonic()
        lab.forge.signal(signal.SIGSTOP)
        await asyncio.sleep(14)
        thawed = time.monotonic()
        lab.forge.signal(signal.SIGCONT)
        await asyncio.sleep(14)

    results = running.results
    usual = base(between(results, 0, kill - 2))
    new = between(results, kill, frozen - 4)
    failed = [r for r in new if not r.complete]
    lab.check(not failed, "killed: no new request fails",
              f"{len(failed)} of {len(new)}")
    show_failed(lab, failed)
    lab.below(worst(new, usual), ALLOWANCE,
              "worst latency added to a new request")
    back = [r for r in between(results, kill + 8, frozen)
            if r.backend == "forge"]
    lab.check(back, "it is used again when it is back",
              f"after {back[0].start - kill - 8:.1f} s" if back else "")

    # it accepts, acknowledges and is silent: only a probe can tell
    new = between(results, frozen, thawed)
    failed = [r for r in new if not r.complete]
    lab.check(not failed, "frozen: no new request fails",
              f"{len(failed)} of {len(new)}")
    show_failed(lab, failed)
    slow = [r for r in new if added(r, usual) > 0.5]
    text = (f"{len(slow)} waited, worst {worst(new, usual):.1f} s, the last "
            f"came {max((r.start for r in slow), default=frozen) - frozen:.1f}"
            " s after it froze")
    if lab.gateway.probes:
        lab.note(text)
        lab.below(worst(new, usual), NOTICED + ALLOWANCE,
                  "worst latency added to a new request")
        back = [r for r in between(results, thawed) if r.backend == "forge"]
        lab.check(back, "it is used again when it is thawed",
                  f"after {back[0].start - thawed:.1f} s" if back else "")
    else:
        lab.skip(f"latency while it is frozen needs probes: {text}")


def discovered(*machines):
    """Backends that are asked what they have."""
    return "".join(f"""
    upstream {name} {{ zone {name} 64k; server {address}; keepalive 8; }}
    hybrid_backend {name} {{ pass http://{name}; models discover; {PROBE} }}
""" for name, address in machines) + "    hybrid_route * discovered;\n"


async def models(lab):
    """models come and go under load, nobody reloads
    """
    conf = discovered(("forge", "10.8.0.10:11434"),
                      ("anvil", "10.8.0.11:11434"))
    if not can(lab, conf):
        return

    client = office(lab, model="leaving:7b")
    soon = INTERVAL + gateway.TIMEOUT + ALLOWANCE
    await lab.gateway.start(conf)
    await gateway.until(lambda: answered(client, "leaving:7b"))

    async with Load(kinds_of(client), rate=20) as running:
        await asyncio.sleep(4)
        gone = time.monotonic()
        await lab.forge.call("DELETE", "/api/delete", {"model": "leaving:7b"})
        await asyncio.sleep(soon + 4)

    results = running.results
    failed = [r for r in results if not r.complete]
    lab.check(not failed, "removed from one machine: no request fails",
              f"{len(failed)} of {len(results)}")
    show_failed(lab, failed)
    lab.check({r.backend for r in between(results, 0, gone)}
              == {"forge", "anvil"}, "both had answered before")
    moved = [r for r in between(results, gone)
             if "x-hybrid-fallback" in r.headers]
    lab.below(max((r.start for r in moved), default=gone) - gone, soon,
              f"after {len(moved)} fallbacks it is known")

    r = await client.ask(model="new:1b")
    lab.check(r.status == 404, "a model nobody ever had is 404", r)
    await lab.anvil.call("POST", "/api/pull", {"model": "new:1b"})
    lab.below(await gateway.until(lambda: answered(client, "new:1b")), soon,
              "pulled on a machine: it is answered")

    await lab.anvil.call("DELETE", "/api/delete", {"model": "new:1b"})
    await asyncio.sleep(soon)
    r = await client.ask(model="new:1b")
    lab.check(r.status == 503 and "retry-after" in r.headers,
              "removed again: 503, somebody had it", r)
    await lab.forge.call("POST", "/api/pull", {"model": "leaving:7b"})


async def answered(client, model):
    return (await client.ask(model=model)).complete


def can(lab, conf):
    why = "without probes" if not lab.gateway.probes \
          else lab.gateway.accepts(conf)
    if why:
        lab.skip(f"needs discovery: {why}")
    return not why


async def discovery(lab):
    """5 machines with 500 models each; one that lies about its models
    """
    machines = [gateway.Machine(
        lab.home, f"box{n}", "anvil", "192.168.1.11", 12000 + n, "--tokens",
        "1", "--models", ",".join(f"box{n}-{i}:7b" for i in range(500)))
        for n in range(5)]
    conf = discovered(*((m.name, f"10.8.0.11:{m.port}") for m in machines))
    if not can(lab, conf):
        return

    for m in machines:
        await m.start()
    try:
        await judge_discovery(lab, conf, machines)
    finally:
        for m in machines:
            m.signal(signal.SIGKILL)


async def judge_discovery(lab, conf, machines):
    client = office(lab)
    soon = INTERVAL + gateway.TIMEOUT + ALLOWANCE
    await lab.gateway.start(conf)

    wanted = {f"box{n}-{i}:7b" for n in range(5) for i in (0, 250, 499)}
    took = 0
    for model in sorted(wanted):
        one = await gateway.until(lambda m=model: answered(client, m))
        took = None if None in (took, one) else took + one
    lab.below(took, soon, "models of all five are known")
    listed = await client.ask(path="/api/tags", get=True)
    names = listed.body.count(b'"name"')
    lab.check(names == 2500, "the merged list", f"{names} models")

    usual = lab.gateway.rss()
    victim = machines[-1]
    victim.signal(signal.SIGKILL)

    for kind in ("huge", "string", "garbage", "nested", "wrong", "empty"):
        liar = gateway.spawn(lab.home, "anvil", "liar.py", victim.port, kind)
        await gateway.port_open(victim.address, victim.port)
        async with Load([(office(lab, model="box0-7:7b"), True)]) as running:
            await asyncio.sleep(2 * INTERVAL + 1)
        liar.kill()
        liar.wait()
        grown = lab.gateway.rss() - usual
        failed = [r for r in running.results if not r.complete]
        lab.check(not failed and grown < 16 * 1024,
                  f"a list that is {kind} harms nobody",
                  f"{len(failed)} of {len(running.results)} failed, the "
                  f"largest worker is {grown} KiB larger")
        show_failed(lab, failed)

    await victim.start()
    lab.below(await gateway.until(lambda: answered(client, "box4-3:7b")),
              TRUSTED + soon, "it is asked again when it is well")


ALL = {"path": path, "routed": routed, "both": both, "kept": kept,
       "killed": killed, "machine": machine,
       "levers": levers, "models": models,
       "discovery": discovery}
