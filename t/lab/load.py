"""Requests at a fixed rate, whatever becomes of those before: a gateway that
stalls does not get less to do. Each leaves a Result."""

import asyncio
import dataclasses
import itertools
import json
import statistics
import time

PATIENCE = 40           # seconds, then a request is called hung


@dataclasses.dataclass
class Result:
    client: str
    stream: bool
    start: float                # monotonic
    status: int = 0
    first: float = 0            # seconds until the header came
    total: float = 0
    complete: bool = False      # to its very end, and no error in it
    error: str = ""
    in_band: bool = False       # the error came in the client's dialect
    headers: dict = dataclasses.field(default_factory=dict)
    body: bytes = b""

    @property
    def backend(self):
        return self.headers.get("x-hybrid-backend", "-")

    @property
    def path(self):
        """The address that answered."""
        return self.headers.get("x-lab-path", "-").split(", ")[-1]

    @property
    def tunnel(self):
        part = self.path.split(".")
        return part[2] if part[:2] == ["10", "8"] else self.backend

    @property
    def began(self):
        """A broken stream: its first byte had reached the client."""
        return self.status == 200 and not self.complete

    def __str__(self):
        kind = "stream" if self.stream else "plain"
        return (f"{self.client} {kind} {self.status} {self.backend} "
                f"{self.path} first {self.first:.2f} s total "
                f"{self.total:.2f} s {self.error} {self.body[:120]!r}")


class Client:
    """Who asks: a token, and the dialect it speaks."""

    def __init__(self, name, token, path, model, port=8080):
        self.name, self.token, self.path = name, token, path
        self.model, self.port = model, port

    async def ask(self, stream=False, model=None, patience=PATIENCE,
                  size=0, path=None, get=False):
        result = Result(self.name, stream, time.monotonic())
        writer = None
        try:
            async with asyncio.timeout(patience):
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", self.port, limit=2**24)
                writer.write(self.request(stream, model or self.model, size,
                                          path or self.path, get))
                await self.read(reader, result)
        except TimeoutError:
            result.error = "hung"
        except (OSError, EOFError, ValueError) as e:
            result.error = f"{type(e).__name__} {e}"[:80]
        finally:
            result.total = time.monotonic() - result.start
            if writer:
                writer.close()
        return result

    def request(self, stream, model, size, path, get):
        head = (f"{'GET' if get else 'POST'} {path} HTTP/1.1\r\nHost: lab\r\n"
                f"Authorization: Bearer {self.token}\r\n"
                "Connection: close\r\n")
        if get:
            return (head + "\r\n").encode()
        body = json.dumps({"model": model, "stream": stream, "messages": [
            {"role": "user", "content": "hello " + "x" * size}]})
        return (head + "Content-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\n\r\n{body}").encode()

    async def read(self, reader, result):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        result.first = time.monotonic() - result.start
        first, *lines = head.split("\r\n")[:-2]
        result.status = int(first.split()[1])
        result.headers = {n.lower(): v.strip() for n, _, v in
                          (line.partition(":") for line in lines)}
        try:
            await self.read_body(reader, result)
            result.complete = result.status == 200
        finally:
            tail = result.body[-400:]
            result.in_band = result.status == 200 and (
                b'{"error"' in tail or b'"type":"error"' in tail)
            result.complete = result.complete and not result.in_band

    async def read_body(self, reader, result):
        if "chunked" in result.headers.get("transfer-encoding", ""):
            while size := int(await reader.readuntil(b"\r\n"), 16):
                result.body += await reader.readexactly(size)
                await reader.readexactly(2)
            await reader.readexactly(2)
        elif "content-length" in result.headers:
            result.body = await reader.readexactly(
                int(result.headers["content-length"]))
        else:
            result.body = await reader.read()


class Load:
    """kinds: (client, streamed), taken in turn."""

    def __init__(self, kinds, rate=50):
        self.kinds, self.rate = kinds, rate
        self.results, self.tasks = [], set()
        self.task = None

    async def __aenter__(self):
        self.task = asyncio.create_task(self.run())
        return self

    async def __aexit__(self, *exc):
        await self.stop()

    async def run(self):
        start = time.monotonic()
        for n, (client, stream) in enumerate(itertools.cycle(self.kinds)):
            await asyncio.sleep(start + n / self.rate - time.monotonic())
            task = asyncio.create_task(client.ask(stream))
            self.tasks.add(task)
            task.add_done_callback(self.done)

    def done(self, task):
        self.tasks.discard(task)
        self.results.append(task.result())

    async def stop(self):
        self.task.cancel()
        while self.tasks:
            await asyncio.sleep(0.05)
        self.results.sort(key=lambda r: r.start)


def kinds_of(*clients):
    return [(c, stream) for c in clients for stream in (False, True)]


def between(results, start, end=float("inf")):
    return [r for r in results if start <= r.start < end]


def base(results):
    """What the header of an answer takes when all is well, by kind."""
    return {stream: statistics.median(r.first for r in results
                                      if r.stream == stream and r.complete)
            for stream in (False, True)}


def added(result, usual):
    return (result.first or result.total) - usual[result.stream]
