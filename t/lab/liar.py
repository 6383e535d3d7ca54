"""A machine whose list of models is not what it should be: liar.py PORT KIND.
It answers a chat as if all were well."""

import json
import os
import socket
import sys
import threading

HUGE = 50 * 2**20
ENTRY = json.dumps({"name": "m%d:7b", "model": "m%d:7b", "size": 1,
                    "digest": "0" * 64, "details": {"family": "mock"}})


def body(kind):
    """Pieces of the answer to /api/tags."""
    if kind == "garbage":
        yield os.urandom(2**20)
    elif kind == "nested":
        yield b'{"models":' + b"[" * 2**20
    elif kind == "string":
        yield b'{"models":[{"name":"' + b"x" * 2**20
        for _ in range(HUGE >> 20):
            yield b"x" * 2**20
    elif kind == "empty":
        yield b""
    elif kind == "wrong":
        yield b'{"models":[1,{"name":5},{"name":"a b\\u0000\\n"},[]]}'
    else:
        yield b'{"models":['
        sent = n = 0
        while sent < HUGE:
            piece = ",".join(ENTRY % (i, i) for i in range(n, n + 4000))
            yield (("," if n else "") + piece).encode()
            sent += len(piece)
            n += 4000
        yield b"]}"


def serve(conn, kind):
    with conn:
        try:
            while data := conn.recv(65536):
                line = data.split(b"\r\n")[0]
                if b" /api/tags" in line:
                    conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: "
                                 b"application/json\r\nConnection: close\r\n"
                                 b"\r\n")
                    for piece in body(kind):
                        conn.sendall(piece)
                    return
                answer = b'{"models":[]}' if b"/api/ps" in line else b'{}'
                conn.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
                             % len(answer) + answer)
        except OSError:
            pass


server = socket.create_server(("0.0.0.0", int(sys.argv[1])), backlog=64)
while True:
    threading.Thread(target=serve, args=(server.accept()[0], sys.argv[2]),
                     daemon=True).start()
