"""The networks of the lab, each in a namespace of its own.

    gateway (the lab's own)        home router            machines
    127.0.0.1 nginx, Redis
    t0 169.254.1.1 ---tunnel 0--- 169.254.1.2 t0 |
    t1 169.254.2.1 ---tunnel 1--- 169.254.2.2 t1 | lan -- forge, anvil
    wan 203.0.113.1 ------------- 203.0.113.10 cloud

FORGE is 192.168.1.10, ANVIL 192.168.1.11: by that address BGP leads there
over both tunnels. They are also 10.8.0.x, which is always tunnel 0, and
10.8.1.x, always tunnel 1: what somebody without BGP has, who leaves the
choice of the path to nginx.
"""

import os
import pathlib
import shutil
import subprocess
import time

GATEWAY = "10.99.0.1"
FRR = pathlib.Path("/usr/lib/frr")

# BFD notices a silent tunnel after 3 x 300 ms
BGP = """
frr defaults traditional
hostname {name}
{source}
router bgp {asn}
 bgp router-id {router}
 no bgp ebgp-requires-policy
 bgp bestpath as-path multipath-relax
 neighbor 169.254.1.{far} remote-as {other}
 neighbor 169.254.1.{far} timers 1 3
 neighbor 169.254.1.{far} timers connect 1
 neighbor 169.254.1.{far} bfd 3 300 300
 neighbor 169.254.2.{far} remote-as {other}
 neighbor 169.254.2.{far} timers 1 3
 neighbor 169.254.2.{far} timers connect 1
 neighbor 169.254.2.{far} bfd 3 300 300
 address-family ipv4 unicast
  network {network}
  maximum-paths 2
"""

# answers to the gateway's own address come back over either tunnel
SOURCE = f"""
route-map GATEWAY permit 10
 set src {GATEWAY}
ip protocol bgp route-map GATEWAY
"""


def sh(command, check=True):
    p = subprocess.run(command.split(), check=False, text=True,
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if check and p.returncode:
        raise SystemExit(f"lab: {command}: {p.stdout}")
    return p.stdout


def inside(netns):
    return ["ip", "netns", "exec", netns] if netns else []


def link(one, a, other, b):
    """A pair of interfaces: (namespace, name), "" is the gateway's."""
    sh(f"ip link add {a} type veth peer name {b} netns {other}")
    if one:
        sh(f"ip link set {a} netns {one}")
    for ns, name in ((one, a), (other, b)):
        sh(" ".join(inside(ns)) + f" ip link set {name} up")


def address(netns, name, *addresses):
    for a in addresses:
        sh(" ".join(inside(netns)) + f" ip addr add {a} dev {name}")


def route(netns, text):
    sh(" ".join(inside(netns)) + " ip route add " + text)


def build():
    sh("mount -t tmpfs -o mode=755 lab /run")
    sh("ip link set lo up")
    address("", "lo", f"{GATEWAY}/32")

    for name in ("home", "forge", "anvil", "cloud"):
        sh(f"ip netns add {name}")
        sh(f"ip -n {name} link set lo up")

    for ns in ("", "home"):
        for name, value in (("ip_forward", 1), ("conf.all.rp_filter", 0),
                            ("fib_multipath_hash_policy", 1)):
            sh(" ".join(inside(ns)) + f" sysctl -qw net.ipv4.{name}={value}")

    for n in (0, 1):
        link("", f"t{n}", "home", f"t{n}")
        address("", f"t{n}", f"169.254.{n + 1}.1/30")
        address("home", f"t{n}", f"169.254.{n + 1}.2/30")
        route("", f"10.8.{n}.0/24 via 169.254.{n + 1}.2")

    sh("ip -n home link add lan type bridge")
    sh("ip -n home link set lan up")
    address("home", "lan", "192.168.1.1/24")

    for host, name in ((10, "forge"), (11, "anvil")):
        link(name, "eth0", "home", name)
        sh(f"ip -n home link set {name} master lan")
        address(name, "eth0", f"192.168.1.{host}/24", f"10.8.0.{host}/32",
                f"10.8.1.{host}/32")
        route(name, "default via 192.168.1.1")
        route("home", f"10.8.0.{host} dev lan")
        route("home", f"10.8.1.{host} dev lan")

    link("", "wan", "cloud", "eth0")
    address("", "wan", "203.0.113.1/24")
    address("cloud", "eth0", "203.0.113.10/24")


def start_bgp():
    """True when both tunnels carry a session; else static routes."""
    if all((FRR / d).exists() for d in ("zebra", "bgpd", "bfdd")):
        sh("mount -t tmpfs -o mode=755 lab /etc/frr")
        start_frr("", name="gw", asn=65001, other=64514, far=2,
                  router=GATEWAY, network=f"{GATEWAY}/32", source=SOURCE)
        start_frr("home", name="home", asn=64514, other=65001, far=1,
                  router="192.168.1.1", network="192.168.1.0/24", source="")
        for _ in range(300):
            if tunnels_of_bgp() == 2 and tunnels_home() == 2:
                return True
            time.sleep(0.1)

    route("", f"192.168.1.0/24 src {GATEWAY} nexthop via 169.254.1.2 "
          "nexthop via 169.254.2.2")
    route("home", f"{GATEWAY}/32 nexthop via 169.254.1.1 "
          "nexthop via 169.254.2.1")
    return False


def start_frr(netns, **values):
    name = values["name"]
    conf = pathlib.Path("/etc/frr", name, "frr.conf")

    for d in (conf.parent, pathlib.Path("/run/frr"),
              pathlib.Path("/run/frr", name)):
        d.mkdir(exist_ok=True)
        shutil.chown(d, "frr", "frr")

    conf.write_text(BGP.format(**values))
    shutil.chown(conf, "frr", "frr")

    for daemon in ("zebra", "bfdd", "bgpd"):
        subprocess.run(
            [*inside(netns), FRR / daemon, "-d", "-N", name, "-f", conf],
            check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL)


def tunnels_of_bgp():
    """How many the kernel would use to reach the home network by BGP."""
    text = sh("ip route show 192.168.1.0/24")
    return 0 if "src" not in text else max(1, text.count("nexthop"))


def tunnels_home():
    text = sh(f"ip -n home route show {GATEWAY}")
    return max(1, text.count("nexthop")) if text.strip() else 0


def cut(*tunnels):
    """What comes out of these is dropped at both ends: no reset, no error."""
    for n in tunnels:
        rule = (f"table inet cut{n} {{ chain i {{ type filter hook "
                f"prerouting priority -300; iifname t{n} drop; }}; }}")
        for ns in ("", "home"):
            subprocess.run([*inside(ns), "nft", rule], check=True)


def heal(*tunnels):
    for n in tunnels:
        for ns in ("", "home"):
            subprocess.run([*inside(ns), "nft", f"delete table inet cut{n}"],
                           check=False, stderr=subprocess.DEVNULL)


if os.getpid() != 1:
    raise SystemExit("lab: start it with t/lab/run")
