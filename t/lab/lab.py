"""What becomes of requests when paths and machines fail. See t/README.md."""

import argparse
import asyncio
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import time

import gateway
import network
import scenarios

TOKENS = ("--tokens", "20", "--token-ms", "50", "--prompt-ms", "20")


class Lab:
    """What a scenario has: the machines, the gateway, and judgement."""

    def __init__(self, home, bgp):
        self.home, self.bgp = home, bgp
        self.passed = self.failed = self.skipped = 0
        self.gateway = gateway.Gateway(home)
        self.forge = gateway.Machine(
            home, "forge", "forge", "192.168.1.10", 11434, *TOKENS,
            "--models", "mistral:7b,routed:7b,leaving:7b,spare:7b")
        self.anvil = gateway.Machine(
            home, "anvil", "anvil", "192.168.1.11", 11434, *TOKENS,
            "--models", "mistral:7b,leaving:7b")
        self.cloud = gateway.Machine(
            home, "cloud", "cloud", "203.0.113.10", 443, *TOKENS,
            "--models", "gpt-lab", "--tls-cert", home / "cloud.pem",
            "--tls-key", home / "cloud.key")

    def check(self, ok, what, figures=""):
        self.passed += bool(ok)
        self.failed += not ok
        print(f"{'PASS' if ok else 'FAIL'}  {what}"
              f"{': ' if figures != '' else ''}{figures}", flush=True)
        return ok

    def below(self, value, limit, what, unit="s"):
        shown = "never" if value is None else f"{value:.2f} {unit}"
        return self.check(value is not None and value <= limit, what,
                          f"{shown}, at most {limit:g} {unit}")

    def skip(self, what):
        self.skipped += 1
        print(f"SKIP  {what}", flush=True)

    def note(self, text):
        print(f"      {text}", flush=True)


async def main(args):
    home = pathlib.Path("/run/lab")
    network.build()
    home.mkdir()

    bgp = network.start_bgp()
    gateway.certificates(home)
    subprocess.Popen(["redis-server", "--bind", "127.0.0.1", "--save", "",
                      "--dir", str(home)], stdin=subprocess.DEVNULL,
                     stdout=subprocess.DEVNULL)
    await gateway.port_open("127.0.0.1", 6379)

    lab = Lab(home, bgp)
    for machine in (lab.forge, lab.anvil, lab.cloud):
        await machine.start()

    print("the home network: two tunnels,", "BGP and BFD of FRR" if bgp else
          "static routes (FRR is not there, or does not run)")

    if args.without_probes:
        lab.gateway.probes = False
    else:
        why = lab.gateway.accepts(scenarios.HOME)
        if why:
            print("no probes in this build:", why)
            lab.gateway.probes = False

    print("load on the machine:", *(f"{v:.1f}" for v in os.getloadavg()),
          "with", os.cpu_count(), "cores;",
          f"a sleep of 10 ms takes {await jitter():.1f} ms at worst")

    for name in args.scenario or scenarios.ALL:
        doc = scenarios.ALL[name].__doc__.split("\n")[0]
        print(f"\n{name}: {doc}", flush=True)
        started = time.monotonic()
        try:
            await scenarios.ALL[name](lab)
        finally:
            network.heal(0, 1)
            for machine in (lab.forge, lab.anvil, lab.cloud):
                await scenarios.well(machine)
            await lab.gateway.stop()
        lab.note(f"{time.monotonic() - started:.0f} s")

    alerts = lab.gateway.alerts()
    print()
    lab.check(not alerts, "no alerts in the error log", alerts[:3] or "")

    if args.logs:
        shutil.copytree(home, args.logs, dirs_exist_ok=True)

    print(f"\n{lab.passed} passed, {lab.failed} failed"
          + (f" ({lab.skipped} skipped)" if lab.skipped else ""))
    return lab.failed != 0


async def jitter():
    """What the machine's other work does to a timer."""
    late = []
    for _ in range(100):
        start = time.monotonic()
        await asyncio.sleep(0.01)
        late.append((time.monotonic() - start) * 1000)
    return statistics.quantiles(late, n=50)[-1]


if __name__ == "__main__":
    p = argparse.ArgumentParser(prog="t/lab/run", description=__doc__)
    p.add_argument("--without-probes", action="store_true",
                   help="what nginx's own max_fails does alone")
    p.add_argument("--logs", help="where logs and configuration are left")
    p.add_argument("scenario", nargs="*", metavar="scenario",
                   help=" ".join(scenarios.ALL))
    arguments = p.parse_args()
    for unknown in set(arguments.scenario) - set(scenarios.ALL):
        p.error(f"no scenario {unknown}")
    sys.exit(asyncio.run(main(arguments)))
