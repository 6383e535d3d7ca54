"""The gateway, the machines behind it and Redis, as processes of the lab."""

import asyncio
import json
import os
import pathlib
import re
import signal
import subprocess
import time
import urllib.request

import network

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BUILD = pathlib.Path(os.environ.get("BUILD") or ROOT / "build").resolve()
BACKEND = ROOT / "conf/demo/backend.py"

CONNECT = 3             # proxy_connect_timeout of hybrid_proxy.conf
INTERVAL, TIMEOUT, FAILS, PASSES = 2, 1, 2, 2
PROBE = (f"probe interval={INTERVAL}s timeout={TIMEOUT}s fails={FAILS} "
         f"passes={PASSES};")

# until probes know that a path is gone: the last good one may just have been
NOTICED = FAILS * INTERVAL + TIMEOUT
# until they know that it is back
TRUSTED = PASSES * INTERVAL + TIMEOUT

MAIN = """
load_module {build}/ngx_http_hybrid_module.so;
user root;
daemon off;
worker_processes {workers};
pid {dir}/nginx.pid;
error_log {dir}/error.log info;
events {{ worker_connections 4096; }}
http {{
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;

    log_format lab '$msec $hybrid_client $status $request_time '
                   '[$hybrid_backends] [$upstream_addr] [$upstream_status] '
                   '[$upstream_connect_time] $hybrid_reason';
    access_log {dir}/access.log lab;

    hybrid_redis 127.0.0.1:6379;
    hybrid_client office {{ {office} models *; verbs inference read;
                            egress local; }}
    hybrid_client travel {{ {travel} models *; verbs inference read;
                            egress any; }}
    hybrid_client operator {{ {operator} models *; verbs admin; }}
{http}
    server {{
        listen 127.0.0.1:8080 backlog=4096;
        location / {{
            hybrid_access token;
            include {dir}/hybrid_proxy.conf;
            add_header X-Lab-Path $upstream_addr always;
        }}
        location /admin/ {{ hybrid_access token; hybrid_admin; }}
    }}
}}
"""


class Gateway:
    def __init__(self, home):
        self.home = home
        self.tokens, self.lines = {}, {}
        self.process = None
        self.probes = True

        for name in ("office", "travel", "operator"):
            minted = json.loads(subprocess.run(
                [ROOT / "tools/hybrid-token", name, "--json"], check=True,
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout)
            self.tokens[name] = f"{minted['id']}:{minted['secret']}"
            self.lines[name] = minted["token"]

        text = (ROOT / "conf/hybrid_proxy.conf").read_text()
        text, n = re.subn(r"(?m)^(proxy_ssl_trusted_certificate) .*;",
                          rf"\1 {home}/ca.pem;", text)
        assert n == 1
        assert f"proxy_connect_timeout {CONNECT}s;" in text
        (home / "hybrid_proxy.conf").write_text(text)

    def write(self, http, workers):
        if not self.probes:
            http = http.replace(PROBE, "")
        (self.home / "nginx.conf").write_text(MAIN.format(
            build=BUILD, dir=self.home, http=http, workers=workers,
            **self.lines))

    def command(self, *more, errors="error.log"):
        return ["nginx", "-e", f"{self.home}/{errors}", "-p",
                f"{self.home}/", "-c", f"{self.home}/nginx.conf", *more]

    def accepts(self, http):
        """Whether "nginx -t" does, or why it does not."""
        self.write(http, 1)
        p = subprocess.run(self.command("-t", errors="check.log"), text=True,
                           check=False, stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT)
        return "" if p.returncode == 0 else p.stdout.splitlines()[0]

    async def start(self, http, workers=2):
        await self.stop()
        self.write(http, workers)
        self.process = subprocess.Popen(self.command(),
                                        stdin=subprocess.DEVNULL)
        await until(lambda: len(self.workers()) == workers)
        await port_open("127.0.0.1", 8080)
        # the first probes have spoken
        await asyncio.sleep(1)

    async def stop(self):
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            await until(lambda: self.process.poll() is not None)
            self.process = None

    def workers(self):
        pid = self.process.pid
        try:
            pids = pathlib.Path(
                f"/proc/{pid}/task/{pid}/children").read_text().split()
            return [int(p) for p in pids if "worker process" in
                    pathlib.Path(f"/proc/{p}/cmdline").read_text()]
        except OSError:
            return []

    def rss(self):
        """KiB of the largest worker."""
        return max(int(re.search(r"VmRSS:\s+(\d+)", pathlib.Path(
            f"/proc/{p}/status").read_text())[1]) for p in self.workers())

    async def levers(self, **lever):
        """Of all backends, or one is moved."""
        return await asyncio.to_thread(
            get, "http://127.0.0.1:8080/admin/levers", lever or None,
            "POST" if lever else "GET",
            {"Authorization": f"Bearer {self.tokens['operator']}",
             "Content-Type": "application/json"})

    async def in_flight(self):
        """Requests that backends are thought to have."""
        text = json.dumps(await self.levers())
        return [int(n) for n in re.findall(r'"in_flight": (\d+)', text)]

    def alerts(self):
        """Lines of the error log that should not be there."""
        text = (self.home / "error.log").read_text(errors="replace")
        return [line for line in text.splitlines()
                if re.search(r"\[(alert|emerg|crit)\]", line)
                and "exited on signal 9" not in line]


class Machine:
    """conf/demo/backend.py in a network of its own."""

    def __init__(self, home, name, netns, address, port, *options):
        self.name, self.url = name, f"http://{address}:{port}"
        self.home, self.address, self.port = home, address, port
        self.command = [*network.inside(netns), "python3", "-B", BACKEND,
                        "--name", name, "--listen", f"0.0.0.0:{port}",
                        "--port-file", home / f"{name}.port", *options]
        self.process = None

    async def start(self):
        with open(self.home / f"{self.name}.out", "ab") as out:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=out,
                stderr=out)
        await port_open(self.address, self.port)

    def signal(self, number):
        self.process.send_signal(number)
        if number == signal.SIGKILL:
            self.process.wait()

    async def call(self, method, path, value=None):
        return await asyncio.to_thread(
            get, self.url + path, value, method)


def spawn(home, netns, program, *args):
    with open(home / f"{program}.out", "ab") as out:
        return subprocess.Popen(
            [*network.inside(netns), "python3", "-B", HERE / program,
             *map(str, args)], stdin=subprocess.DEVNULL, stdout=out,
            stderr=out)


# what a proxy variable names is not in this network
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def get(url, value=None, method="GET", headers=None):
    data = None if value is None else json.dumps(value).encode()
    with opener.open(urllib.request.Request(
            url, data, headers or {}, method=method), timeout=20) as answer:
        text = answer.read()
    try:
        return json.loads(text) if text.strip() else None
    except ValueError:
        return json.loads(text.splitlines()[-1])    # progress, of a pull


async def until(test, seconds=20):
    """How long it took until it was so; None: never."""
    start = time.monotonic()
    while True:
        value = test()
        if asyncio.iscoroutine(value):
            value = await value
        took = time.monotonic() - start
        if value:
            return took
        if took > seconds:
            return None
        await asyncio.sleep(0.05)


async def port_open(host, port):
    async def there():
        try:
            _, writer = await asyncio.open_connection(host, port)
            writer.close()
            return True
        except OSError:
            return False
    if await until(there) is None:
        raise SystemExit(f"lab: nobody listens at {host}:{port}")


def certificates(home):
    """A CA of the lab's own, and what the cloud shows."""
    def openssl(*args):
        subprocess.run(["openssl", *args], check=True, cwd=home,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    openssl("req", "-x509", *key, "-days", "2", "-subj", "/CN=Lab CA",
            "-keyout", "ca.key", "-out", "ca.pem")
    openssl("req", *key, "-subj", "/CN=cloud.lab", "-keyout", "cloud.key",
            "-out", "cloud.csr", "-addext", "subjectAltName=DNS:cloud.lab")
    openssl("x509", "-req", "-in", "cloud.csr", "-CA", "ca.pem", "-CAkey",
            "ca.key", "-CAcreateserial", "-days", "2", "-copy_extensions",
            "copy", "-out", "cloud.pem")
