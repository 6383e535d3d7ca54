#!/usr/bin/env python3
"""Streams with odd framing, for t/440-stream-framing.t: by the model's name.

    odd_stream.py PORT_FILE LOG
"""

import json
import socket
import sys
import threading
import time

EVENT = ('data: {"id":"x","choices":[{"index":0,"delta":{"content":"%s"},'
         '"finish_reason":null}]}\n\n')
FINISH = ('data: {"id":"x","choices":[{"index":0,"delta":{},'
          '"finish_reason":"stop"}]}\n\n')
USAGE = ('data: {"id":"x","choices":[],"usage":{"prompt_tokens":1,'
         '"completion_tokens":2,"total_tokens":3}}\n\n')
DONE = "data: [DONE]\n\n"
LINE = '{"model":"m","response":"%s","done":false}\n'
LAST = '{"model":"m","response":"","done":true}\n'


def head(kind, *more):
    lines = ["HTTP/1.1 200 OK", "Content-Type: " + kind, *more, "", ""]
    return "\r\n".join(lines).encode()


def chunk(text):
    return b"%x\r\n%s\r\n" % (len(text), text.encode())


def sized(connection, kind, text):
    connection.sendall(head(kind, f"Content-Length: {len(text)}")
                       + text.encode())


def answer(c, model):
    """Whether the connection is kept."""
    events = head("text/event-stream", "Transfer-Encoding: chunked")
    lines = head("application/x-ndjson", "Transfer-Encoding: chunked")

    if model == "length":
        sized(c, "text/event-stream", EVENT % "a" + FINISH + USAGE + DONE)

    elif model == "noend":
        sized(c, "text/event-stream", EVENT % "a")

    elif model == "slow":
        time.sleep(0.7)
        c.sendall(lines + chunk(LINE % "a" + LAST) + b"0\r\n\r\n")

    elif model == "dies":
        c.sendall(lines + chunk(LINE % ""))
        time.sleep(0.05)
        return False

    elif model == "many":
        c.sendall(events)
        for i in range(0, 6000, 3):
            c.sendall(chunk("".join(EVENT % ("%06d" % j + "A" * 600)
                                    for j in range(i, i + 3)) + USAGE))
        c.sendall(chunk(FINISH + USAGE) + chunk(DONE) + b"0\r\n\r\n")

    elif model == "spool":
        c.sendall(events)
        for i in range(20000):
            c.sendall(chunk('data: {"id":"chatcmpl-%s","choices":[{"index":0,'
                            '"delta":{"content":"%06d"},"finish_reason":null}'
                            ']}\n\n' % ("x" * 120, i)))
        c.sendall(chunk(FINISH + USAGE) + chunk(DONE) + b"0\r\n\r\n")

    elif model == "lines":
        c.sendall(lines)
        for i in range(2000):
            c.sendall(chunk(LINE % ("%06d" % i + "B" * 4000)))
        c.sendall(chunk(LAST) + b"0\r\n\r\n")

    elif model == "json":
        time.sleep(0.6)
        sized(c, "application/json",
              '{"id":"x","choices":[{"message":{"content":"hello"}}]}')

    elif model == "late":
        time.sleep(0.6)
        c.sendall(events + chunk(EVENT % "a" + FINISH + DONE) + b"0\r\n\r\n")

    elif model == "limited":
        c.sendall(b"HTTP/1.1 429 X\r\nContent-Type: application/json\r\n\r\n"
                  b'{"error":{"message":"x"}}')
        time.sleep(0.1)
        return False

    return True


def serve(c, log):
    data = b""
    try:
        while True:
            while b"\r\n\r\n" not in data:
                more = c.recv(65536)
                if not more:
                    return
                data += more
            top, _, data = data.partition(b"\r\n\r\n")
            length = 0
            for line in top.split(b"\r\n"):
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            while len(data) < length:
                data += c.recv(65536)
            body, data = data[:length], data[length:]
            model = json.loads(body)["model"]
            log.write(model + "\n")
            if not answer(c, model):
                return
    except OSError:
        pass
    finally:
        c.close()


def main():
    s = socket.socket()
    s.bind(("127.0.0.1", 0))
    s.listen(128)
    log = open(sys.argv[2], "a", buffering=1)
    with open(sys.argv[1], "w") as f:
        f.write("%d\n" % s.getsockname()[1])
    while True:
        c, _ = s.accept()
        c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=serve, args=(c, log), daemon=True).start()


main()
