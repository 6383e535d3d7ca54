#!/usr/bin/env python3
"""A server of HTTP or HTTPS that says exactly what a test tells it.

    odd_server.py DIR

DIR/mode.json is read for every connection, and again for its request:

    accept  "hang" or "close": what is done instead of TLS and HTTP
    cert    file name of a certificate and its key: TLS with these
    steps   what is answered, in turn: {"send": text}, {"pause": seconds},
            {"drip": text, "pause": seconds} (byte by byte), {"hang": 1},
            {"fill": bytes} (so many of them), {"reset": 1},
            {"left": 1} (until the other side goes, then a line in DIR/left),
            {"again": 1} (last: another request of the same connection)
    tag     with a request's If-None-Match equal to it, "unchanged" is the
            answer in place of "steps"
    abrupt  no orderly end of TLS
    paths   by a request's path: others of the last three

The port is written to DIR/port, a line of JSON per request to DIR/requests,
and one per connection to DIR/connections.
"""

import json
import os
import socket
import ssl
import struct
import sys
import threading
import time

home = sys.argv[1]
lock = threading.Lock()


def mode():
    with open(os.path.join(home, "mode.json")) as f:
        return json.load(f)


def note(name, value):
    with lock, open(os.path.join(home, name), "a") as f:
        f.write(json.dumps(value) + "\n")


def hang(conn):
    """Until the other side goes."""
    try:
        while conn.recv(4096):
            pass
    except OSError:
        pass


def perform(conn, steps):
    for step in steps:
        if "send" in step:
            conn.sendall(step["send"].encode("latin-1"))
        if "drip" in step:
            for c in step["drip"]:
                conn.sendall(c.encode("latin-1"))
                time.sleep(step["pause"])
        elif "pause" in step:
            time.sleep(step["pause"])
        if "fill" in step:
            left = step["fill"]
            while left > 0:
                n = min(left, 65536)
                conn.sendall(b"x" * n)
                left -= n
        if "hang" in step or "left" in step:
            hang(conn)
        if "left" in step:
            note("left", {})
        if "reset" in step:
            conn.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                            struct.pack("ii", 1, 0))


def request(conn):
    data = b""
    while b"\r\n\r\n" not in data:
        part = conn.recv(4096)
        if not part:
            return None
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    headers = [line.split(": ", 1) for line in lines[1:]]
    header = {k.lower(): v for k, v in headers}
    # to close with something unread would be a reset
    while len(body) < int(header.get("content-length", 0)):
        part = conn.recv(65536)
        if not part:
            return None
        body += part
    return {"line": lines[0], "headers": headers, "header": header,
            "body": body.decode("latin-1")}


def answer(conn):
    """The mode that it was answered by, None without a request."""
    r = request(conn)
    if r is None:
        return None

    m = mode()
    m = m.get("paths", {}).get(r["line"].split(" ")[1], m)
    r["time"] = time.time()
    note("requests", r)
    steps = m.get("steps", [])
    tag = m.get("tag")
    if tag and r["header"].get("if-none-match") == tag:
        steps = [{"send": "HTTP/1.1 304 Not Modified\r\n"
                          "ETag: %s\r\n\r\n" % tag}]
    perform(conn, steps)

    return m


def serve(conn):
    m = mode()
    note("connections", {"time": time.time()})

    if m.get("accept") == "hang":
        hang(conn)
    if m.get("accept"):
        conn.close()
        return

    raw = conn
    try:
        if m.get("cert"):
            ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            ctx.load_cert_chain(m["cert"], m["key"])
            conn = ctx.wrap_socket(conn, server_side=True)

        while True:
            answered = answer(conn)
            if answered is None:
                break
            m = answered
            if "again" not in (m.get("steps") or [{}])[-1]:
                break

        if conn is not raw and not m.get("abrupt"):
            conn.unwrap()
    except (OSError, ValueError) as e:
        note("faults", str(e))
    finally:
        conn.close()
        raw.close()


def main():
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    old = os.path.join(home, "port")
    port = int(open(old).read()) if os.path.exists(old) else 0
    s.bind(("127.0.0.1", port))
    s.listen(128)

    with open(old + ".new", "w") as f:
        f.write(str(s.getsockname()[1]))
    os.rename(old + ".new", old)
    open(os.path.join(home, "ready"), "w").close()

    while True:
        conn, _ = s.accept()
        threading.Thread(target=serve, args=(conn,), daemon=True).start()


main()
