#!/usr/bin/env python3
"""A stand-in for an Ollama machine: for `make run` and for the test-suite.

It speaks Ollama's API with the OpenAI and Anthropic dialects Ollama has too,
and makes up every answer. What is under /_mock/ is for tests: what was asked
(requests, probes, stats), faults on demand (behave), other models (models,
loaded) and answers word by word (answers). A gateway's probes are told from
requests by their User-Agent, and are not counted as such.
"""

import argparse
import asyncio
import collections
import ctypes
import email
import hashlib
import http
import inspect
import json
import os
import resource
import signal
import socket
import ssl
import struct
import sys
import time
import urllib.parse

sys.dont_write_bytecode = True

import dialects
from dialects import rfc3339, to_json

VERSION = "0.0.0-demo"
HEAD_LIMIT = 256 * 1024
KEPT_REQUESTS = 200
KEPT_BODY = 2048
LONG_AGO = "2026-01-01T00:00:00Z"
DETAILS = {"format": "gguf", "family": "mock", "families": ["mock"],
           "parameter_size": "1M", "quantization_level": "F32"}
INFERENCE = {"/api/generate", "/api/chat", "/api/embed", "/api/embeddings",
             "/v1/completions", "/v1/chat/completions", "/v1/embeddings",
             "/v1/messages"}
FORMS = {"/v1/audio/transcriptions", "/v1/audio/translations"}
FAULTS = {"status", "retry_after", "body", "headers", "delay_ms", "reset",
          "hang_before_header", "close_before_header", "close_after_tokens",
          "hang_after_tokens", "garbage_after_tokens", "times", "all",
          "probes"}
PROBE = "hybrid-probe/"
FAULT_TEXTS = {429: "too many requests", 503: "server busy, please try again."
               "  maximum pending requests exceeded"}


# from asm-generic/socket.h; the filter is "return 0": nothing is taken
SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27
DROP_ALL = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))


class ClientGone(Exception):
    """The client closed the connection before it had its answer."""


class ApiError(Exception):
    """An error that is answered in the dialect of the request's path."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status = status

    def body(self, path):
        kinds = {400: "invalid_request_error", 404: "not_found_error"}
        if path == "/v1/messages":
            kinds.update({429: "rate_limit_error", 503: "overloaded_error"})
        error = {"message": str(self),
                 "type": kinds.get(self.status, "api_error")}
        if path == "/v1/messages":
            return {"type": "error", "error": error}
        if path.startswith("/v1/"):
            return {"error": {**error, "param": None, "code": None}}
        return {"error": str(self)}


class Reader(asyncio.StreamReader):
    """A stream reader that tells at once when the client has gone."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.gone = asyncio.Event()

    def feed_eof(self):
        super().feed_eof()
        self.gone.set()


class Request:
    def __init__(self, head):
        first, *lines = head.decode("latin-1").split("\r\n")[:-2]
        self.method, self.target, self.version = first.split(" ")
        pairs = [line.split(":", 1) for line in lines]
        self.headers = [[name, value.strip()] for name, value in pairs]
        path = self.target.split("?")[0]
        self.path = urllib.parse.unquote(path)    # as Ollama's router does
        self.body = b""

    def header(self, wanted):
        found = [v.lower() for n, v in self.headers if n.lower() == wanted]
        return found[0] if found else ""

    def json(self):
        """The body as Go reads it: first value, keys in any case, no nulls."""
        try:
            text = self.body.decode("utf-8", "replace").lstrip()
            value, _ = JSON_DECODER.raw_decode(text)
            return dict(value)
        except (ValueError, TypeError, RecursionError) as exc:
            raise ApiError(400, f"invalid JSON: {exc}") from None


JSON_DECODER = json.JSONDecoder(object_pairs_hook=lambda pairs: {
    key.lower(): value for key, value in pairs if value is not None})


class Connection:
    """A client's connection: requests one by one, each with its answer."""

    def __init__(self, reader, writer, number, name):
        self.reader = reader
        self.writer = writer
        self.number = number
        self.name = name
        self.request = None
        self.fault = {}
        self.status = 0
        self.tokens = 0
        self.open = True
        self.probe = False

    async def read_request(self):
        """False at the end of the connection."""
        try:
            self.request = Request(await self.reader.readuntil(b"\r\n\r\n"))
            self.open = (self.request.version == "HTTP/1.1"
                         and "close" not in self.request.header("connection"))
            if self.request.header("expect") == "100-continue":
                self.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.request.body = await self.read_body()
            return True
        except asyncio.IncompleteReadError:
            return False
        except (ValueError, asyncio.LimitOverrunError) as exc:
            self.writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close"
                              b"\r\n\r\n" + str(exc).encode())
            return False

    async def read_body(self):
        if "chunked" not in self.request.header("transfer-encoding"):
            length = int(self.request.header("content-length") or 0)
            return await self.reader.readexactly(length)
        parts = []
        while size := int((await self.reader.readline()).split(b";")[0], 16):
            parts.append(await self.reader.readexactly(size))
            await self.reader.readexactly(2)
        while await self.reader.readline() not in (b"\r\n", b""):
            pass                                  # trailers
        return b"".join(parts)

    async def write(self, data):
        if self.writer.is_closing():
            raise ClientGone
        self.writer.write(data)
        await self.writer.drain()

    def head(self, status, content_type, framing, extra=()):
        self.status = status
        headers = [("Content-Type", content_type), ("X-Mock-Name", self.name),
                   *self.fault.get("headers", {}).items(), *extra, framing]
        if not self.open:
            headers.append(("Connection", "close"))
        text = f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}\r\n"
        text += "".join(f"{name}: {value}\r\n" for name, value in headers)
        return (text + "\r\n").encode("latin-1")

    async def send(self, status, value, extra=()):
        """A whole answer: bytes as plain text, anything else as JSON."""
        content_type = "text/plain"
        if not isinstance(value, bytes):
            content_type = "application/json; charset=utf-8"
            value = to_json(value)
        head = self.head(status, content_type, ("Content-Length", len(value)),
                         extra)
        if "close_after_tokens" in self.fault:
            await self.write(head + value[:len(value) // 2])
            return self.cut()
        await self.write(head + (b"" if self.request.method == "HEAD"
                                 else value))

    async def stream(self, content_type, frames, wait_ms):
        chunked = self.request.version == "HTTP/1.1"
        await self.write(self.head(200, content_type,
                                   ("Transfer-Encoding", "chunked") if chunked
                                   else ("X-Mock-Framing", "close")))
        for count, frame in enumerate(frames):
            if count == self.fault.get("close_after_tokens"):
                return self.cut()
            if count == self.fault.get("hang_after_tokens"):
                await self.reader.gone.wait()
                raise ClientGone
            if count == self.fault.get("garbage_after_tokens"):
                frame = dialects.garbage(frame)
            await self.write(b"%x\r\n%b\r\n" % (len(frame), frame) if chunked
                             else frame)
            await self.pause(wait_ms if count < self.tokens else 0)
        await self.write(b"0\r\n\r\n" if chunked else b"")

    async def pause(self, ms):
        """Time passes; as in Ollama, work ends when the client leaves."""
        if ms > 0:
            try:
                await asyncio.wait_for(self.reader.gone.wait(), ms / 1000)
            except asyncio.TimeoutError:
                pass
        if self.reader.gone.is_set():
            raise ClientGone

    def cut(self):
        """Ends the connection without ending the answer."""
        self.open = False
        if self.fault.get("reset"):
            self.writer.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.writer.transport.abort()


class Catalogue:
    """The models this machine has, found the way Ollama finds them."""

    def __init__(self, names):
        self.models = {}
        self.loaded = set()
        self.loading = collections.defaultdict(asyncio.Lock)
        for name in names:
            self.add(name)

    @staticmethod
    def canonical(name):
        if not isinstance(name, str) or not name:
            raise ApiError(400, "model is required")
        name = name.strip().lower().removesuffix(":local")
        for prefix in ("https://", "http://", "registry.ollama.ai/",
                       "library/"):
            name = name.removeprefix(prefix)
        return name if ":" in name.rpartition("/")[2] else name + ":latest"

    def find(self, name, message="model '%s' not found"):
        """The name as this machine writes it."""
        found = self.models.get(self.canonical(name))
        if found is None:
            raise ApiError(404, message % name)
        return found

    def add(self, name):
        canonical = self.canonical(name)
        shown = name if ":" in name.rpartition("/")[2] else name + ":latest"
        self.models.setdefault(canonical, shown)

    def remove(self, name):
        self.loaded.discard(self.find(name))
        del self.models[self.canonical(name)]


def ollama_entry(name, **fields):
    digest = hashlib.sha256(name.encode()).hexdigest()
    return {"name": name, "model": name, "modified_at": LONG_AGO,
            "size": 1000000, "digest": digest, "details": DETAILS, **fields}


def openai_entry(name):
    return {"id": name, "object": "model", "created": 1767225600,
            "owned_by": "library"}


class Backend:
    """The machine: a handler returns what to send, a generator is streamed."""

    def __init__(self, args):
        self.args = args
        self.catalogue = Catalogue(filter(None, args.models.split(",")))
        self.requests = collections.deque(maxlen=KEPT_REQUESTS)
        self.probes = collections.deque(maxlen=KEPT_REQUESTS)
        self.answers = {}
        self.loaded = None
        self.entries = {}
        self.behaviour = {}
        self.server = None
        self.writers = set()
        self.stats = dict.fromkeys(("requests", "active", "max_active",
                                    "aborted", "connections", "open",
                                    "probes"), 0)
        self.by_path = collections.Counter()
        self.log = (sys.stdout if args.log == "-"
                    else args.log and open(args.log, "a"))
        models = self.catalogue.models
        self.routes = {
            "/": {"GET": lambda connection: b"Ollama is running"},
            "/api/version": {"GET": lambda connection: {"version": VERSION}},
            "/api/tags": {"GET": lambda connection: {
                "models": [ollama_entry(name, **self.entries.get(name, {}))
                           for name in models.values()]}},
            "/v1/models": {"GET": lambda connection: {
                "object": "list",
                "data": [openai_entry(name) for name in models.values()]}},
            "/api/ps": {"GET": self.ps},
            "/api/show": {"POST": self.show},
            "/api/pull": {"POST": self.add_model},
            "/api/push": {"POST": self.add_model},
            "/api/create": {"POST": self.add_model},
            "/api/copy": {"POST": self.copy_model},
            "/api/delete": {"DELETE": self.delete_model},
            "/_mock/requests": {
                "GET": lambda connection: list(self.requests),
                "DELETE": lambda connection: self.requests.clear()},
            "/_mock/probes": {
                "GET": lambda connection: list(self.probes),
                "DELETE": lambda connection: self.probes.clear()},
            "/_mock/models": {"POST": self.set_models},
            "/_mock/loaded": {"POST": self.set_loaded},
            "/_mock/answers": {"POST": self.set_answers},
            "/_mock/behave": {"GET": lambda connection: self.behaviour,
                              "POST": self.behave},
            "/_mock/deaf": {"POST": self.deaf},
            "/_mock/stats": {"GET": lambda connection: {
                "name": args.name, **self.stats, "by_path": self.by_path}},
            **{path: {"POST": self.embed if "embed" in path else self.infer}
               for path in INFERENCE},
            **{path: {"POST": self.transcribe} for path in FORMS}}
        for path in ("/", "/api/version", "/api/tags"):
            self.routes[path]["HEAD"] = self.routes[path]["GET"]

    async def serve(self, reader, writer):
        """One connection, from its first request to its end."""
        self.stats["connections"] += 1
        self.stats["open"] += 1
        connection = Connection(reader, writer, self.stats["connections"],
                                self.args.name)
        self.writers.add(writer)
        try:
            while connection.open and await connection.read_request():
                await self.answer(connection)
        except (ClientGone, OSError):
            pass
        except asyncio.CancelledError:
            # we end: asyncio would print a traceback for each connection
            pass
        finally:
            if not connection.probe:
                self.stats["open"] -= 1
            self.writers.discard(writer)
            writer.close()

    async def answer(self, connection):
        connection.fault = {}
        connection.tokens = 0
        if connection.request.path.startswith("/_mock/"):
            return await self.dispatch(connection)
        agent = connection.request.header("user-agent")
        if agent.startswith(PROBE):
            return await self.answer_probe(connection)
        self.remember(connection, self.requests)
        self.stats["active"] += 1
        self.stats["max_active"] = max(self.stats["max_active"],
                                       self.stats["active"])
        try:
            connection.fault = self.next_fault(connection.request.path)
            if not await self.misbehave(connection):
                await self.dispatch(connection)
        except (ClientGone, OSError):
            self.stats["aborted"] += 1
            raise
        finally:
            self.stats["active"] -= 1
            if self.log:
                print(rfc3339(time.time()), self.args.name,
                      connection.request.method, connection.request.target,
                      connection.status, file=self.log, flush=True)

    async def answer_probe(self, connection):
        if not connection.probe:
            connection.probe = True
            self.stats["connections"] -= 1
            self.stats["open"] -= 1
        self.remember(connection, self.probes)
        fault = self.behaviour
        if fault.get("probes") and fault.get("times") != 0:
            connection.fault = fault
            if "times" in fault:
                fault["times"] -= 1
        if not await self.misbehave(connection):
            await self.dispatch(connection)

    async def dispatch(self, connection):
        request = connection.request
        if request.path in self.answers:
            return await self.recite(connection, self.answers[request.path])
        methods = self.routes.get(request.path)
        if os.path.dirname(request.path) == "/v1/models":
            methods = {"GET": self.retrieve_model}
        if methods is None:
            return await connection.send(404, b"404 page not found")
        if request.method not in methods:
            return await connection.send(405, b"405 method not allowed")
        try:
            value = methods[request.method](connection)
            if inspect.isawaitable(value):
                value = await value
        except ApiError as exc:
            return await connection.send(exc.status, exc.body(request.path))
        if inspect.isgenerator(value):
            kind = ("application/x-ndjson" if request.path.startswith("/api/")
                    else "text/event-stream")
            await connection.stream(kind, value, self.args.token_ms)
        else:
            await connection.send(200, value)

    async def recite(self, connection, answer):
        await connection.pause(answer.get("delay_ms", 0))
        body = answer.get("body", "").encode("latin-1")
        body = (answer.get("before", "").encode("latin-1")
                + body * answer.get("repeat", 1)
                + answer.get("after", "").encode("latin-1"))
        await connection.send(answer.get("status", 200), body,
                              answer.get("headers", {}).items())

    async def prepare(self, run, model, connection):
        async with self.catalogue.loading[model]:
            if model not in self.catalogue.loaded:
                await connection.pause(self.args.load_ms)
                self.catalogue.loaded.add(model)
        run.mark()
        await connection.pause(self.args.prompt_ms)
        run.mark()

    async def infer(self, connection):
        path = connection.request.path
        body = connection.request.json()
        model = self.catalogue.find(body.get("model"))
        prompt = dialects.text_of(body.get("messages", body.get("prompt", "")))
        run = dialects.Run(self.args, body, model, prompt)
        await self.prepare(run, model, connection)
        native = path.startswith("/api/")
        name = ("ollama" if native else "anthropic" if "messages" in path
                else "openai")
        if body.get("stream", native):
            connection.tokens = len(run.tokens)
            frames = getattr(dialects, name + "_frames")
            return frames(run, "chat" in path, body)
        await connection.pause(self.args.token_ms * len(run.tokens))
        run.mark()
        return getattr(dialects, name + "_whole")(run, "chat" in path)

    async def embed(self, connection):
        path = connection.request.path
        body = connection.request.json()
        legacy = path == "/api/embeddings"
        model = self.catalogue.find(
            body.get("model"), 'model "%s" not found, try pulling it first'
            if legacy else "model '%s' not found")
        texts = body.get("prompt" if legacy else "input")
        texts = texts if isinstance(texts, list) else [texts or ""]
        run = dialects.Run(self.args, body, model, dialects.text_of(texts))
        await self.prepare(run, model, connection)
        run.mark()
        size = body.get("dimensions") or self.args.embed_dim
        vectors = [dialects.unit_vector(model, text, size) for text in texts]
        if legacy:
            return {"embedding": vectors[0]}
        if path.startswith("/v1/"):
            return dialects.openai_embeddings(run, body, vectors)
        figures = run.figures()
        return {"model": run.model, "embeddings": vectors,
                "total_duration": figures["total_duration"],
                "load_duration": figures["load_duration"],
                "prompt_eval_count": run.prompt_count}

    def transcribe(self, connection):
        """The query, if there is one, beats the form: as in Go's FormValue."""
        request = connection.request
        kind = [v for n, v in request.headers if n.lower() == "content-type"]
        form = email.message_from_bytes(
            b"Content-Type: " + kind[0].encode("latin-1") + b"\r\n\r\n"
            + request.body)
        fields = {part.get_param("name", header="content-disposition"):
                  part.get_payload(decode=True) for part in form.get_payload()}
        query = urllib.parse.parse_qs(request.target.partition("?")[2])
        model = (query.get("model") or [fields["model"].decode()])[0]
        model = self.catalogue.find(model)
        return {"text": f"{len(fields.get('file', b''))} bytes, {model}"}

    def ps(self, connection):
        if self.loaded is not None:
            return {"models": self.loaded}
        return {"models": [
            ollama_entry(name, expires_at=rfc3339(time.time() + 300),
                         size_vram=1000000, context_length=4096)
            for name in sorted(self.catalogue.loaded)]}

    def show(self, connection):
        body = connection.request.json()
        name = self.catalogue.find(body.get("model", body.get("name")))
        return {"license": "none", "modelfile": "# mock of " + name,
                "parameters": "", "template": "{{ .Prompt }}",
                "details": DETAILS, "modified_at": LONG_AGO,
                "model_info": {"general.architecture": "mock"},
                "capabilities": ["completion", "embedding"]}

    def retrieve_model(self, connection):
        name = connection.request.path.removeprefix("/v1/models/")
        return openai_entry(self.catalogue.find(name))

    def add_model(self, connection):
        body = connection.request.json()
        name = body.get("model", body.get("name", ""))
        self.catalogue.add(name)
        digest = "sha256:" + hashlib.sha256(name.encode()).hexdigest()
        steps = [{"status": "mock " + connection.request.path[5:],
                  "digest": digest, "total": 100, "completed": done}
                 for done in (50, 100)] + [{"status": "success"}]
        if not body.get("stream", True):
            return steps[-1]
        return (to_json(step) + b"\n" for step in steps)

    def copy_model(self, connection):
        body = connection.request.json()
        self.catalogue.find(body.get("source"), 'model "%s" not found')
        self.catalogue.add(body.get("destination", ""))
        return b""

    def delete_model(self, connection):
        body = connection.request.json()
        self.catalogue.remove(body.get("model", body.get("name")))
        return b""

    # What tests see and set

    def set_models(self, connection):
        """Names, and more of an entry: {"m1": {}, "m2": {"size": 1}}."""
        wanted = json.loads(connection.request.body)
        models = self.catalogue.models
        models.clear()
        for name in wanted:
            self.catalogue.add(name)
            if isinstance(wanted, dict):
                self.entries[models[self.catalogue.canonical(name)]] = \
                    wanted[name]
        return list(models.values())

    def set_loaded(self, connection):
        """{"m1": 300, "m2": -100}: seconds; null: those that were used."""
        wanted = json.loads(connection.request.body)
        self.loaded = wanted and [
            ollama_entry(name, expires_at=rfc3339(time.time() + seconds),
                         size_vram=1000000, context_length=4096)
            for name, seconds in wanted.items()]
        if wanted == {}:
            self.loaded = []
        return self.loaded

    def set_answers(self, connection):
        self.answers = json.loads(connection.request.body)
        return self.answers

    def remember(self, connection, kept):
        request = connection.request
        tls = connection.writer.get_extra_info("ssl_object")
        kind = "probes" if kept is self.probes else "requests"
        self.stats[kind] += 1
        if kept is self.requests:
            self.by_path[request.path] += 1
        kept.append({
            "number": self.stats[kind], "connection": connection.number,
            "time": time.time(),
            "method": request.method, "target": request.target,
            "version": request.version, "headers": request.headers,
            "body_length": len(request.body),
            "body_sha256": hashlib.sha256(request.body).hexdigest(),
            "body": request.body[:KEPT_BODY].decode("utf-8", "replace"),
            "tls": tls is not None, "sni": getattr(tls, "mock_sni", None)})

    def behave(self, connection):
        wanted = json.loads(connection.request.body or b"{}")
        unknown = ", ".join(sorted(set(wanted) - FAULTS))
        if unknown:
            raise ApiError(400, "unknown: " + unknown)
        self.behaviour = wanted
        return wanted

    def deaf(self, connection):
        """As if the path here had died silently: for a while all that comes
        is dropped before TCP sees it, on all connections and new ones."""
        seconds = json.loads(connection.request.body)["seconds"]
        sockets = [*self.server.sockets,
                   *(w.get_extra_info("socket") for w in self.writers
                     if w is not connection.writer)]
        for s in sockets:
            s.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack(
                "HP", 1, ctypes.addressof(DROP_ALL)))

        def hear():
            for s in sockets:
                if s.fileno() >= 0:
                    s.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)

        asyncio.get_running_loop().call_later(seconds, hear)
        return len(sockets)

    def next_fault(self, path):
        fault = self.behaviour
        if path not in INFERENCE | FORMS and not fault.get("all"):
            return {}
        if fault.get("probes") == "only":
            return {}
        if fault.get("times") == 0:
            return {}
        if "times" in fault:
            fault["times"] -= 1
        return fault

    async def misbehave(self, connection):
        """True when the fault was the whole answer."""
        fault = connection.fault
        await connection.pause(fault.get("delay_ms", 0))
        if fault.get("hang_before_header"):
            await connection.reader.gone.wait()
            raise ClientGone
        if fault.get("close_before_header") or (
                fault.get("reset") and "close_after_tokens" not in fault):
            connection.cut()
            return True
        if "status" not in fault:
            return False
        status = fault["status"]
        error = ApiError(status, FAULT_TEXTS.get(status, "mock fault"))
        await connection.send(
            status, fault.get("body", error.body(connection.request.path)),
            [("Retry-After", fault["retry_after"])] if "retry_after" in fault
            else [])
        return True


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--listen", default="127.0.0.1:0", help="HOST:PORT; port 0: any free")
    add("--port-file", help="the port is written there once it is open")
    add("--name", default="mock")
    add("--models", default="", help="comma separated")
    add("--load-ms", type=float, default=0, help="first use of a model")
    add("--prompt-ms", type=float, default=0, help="before the first token")
    add("--token-ms", type=float, default=0, help="for each token")
    add("--tokens", type=int, default=8, help="length of an answer")
    add("--embed-dim", type=int, default=8)
    add("--tls-cert")
    add("--tls-key")
    add("--log", help="a line for each request; - is standard output")
    return parser.parse_args()


def tls_context(args):
    def remember_sni(tls, name, context):
        tls.mock_sni = name

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(args.tls_cert, args.tls_key)
    context.sni_callback = remember_sni
    return context


async def main():
    args = parse_arguments()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    loop = asyncio.get_running_loop()
    backend = Backend(args)
    # not asyncio's: a second signal while its loop closes is a traceback
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(0))

    def protocol():
        reader = Reader(limit=HEAD_LIMIT, loop=loop)
        return asyncio.StreamReaderProtocol(reader, backend.serve, loop=loop)

    host, _, port = args.listen.rpartition(":")
    server = await loop.create_server(
        protocol, host.strip("[]"), int(port), backlog=4096,
        ssl=tls_context(args) if args.tls_cert else None)
    backend.server = server
    port = server.sockets[0].getsockname()[1]
    if args.port_file:
        with open(args.port_file + ".new", "w") as file:
            file.write(f"{port}\n")
        os.rename(args.port_file + ".new", args.port_file)
    else:
        print(f"{args.name} listens on {host}:{port}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
