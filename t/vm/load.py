#!/usr/bin/env python3
"""Clients that are there: idle ones, and ones that are being answered.

    load.py IDLE STREAMS BODY-BYTES ADDRESS PORT CA TOKEN-FILE MODEL

Each has a TLS connection of its own to gateway.example.com. An idle one has
asked once and keeps its connection; a stream has sent a prompt of so many
bytes and has had its first token. "ready" is printed when all have got so
far, with the number of those that were refused; then it holds them until its
input ends.
"""

import asyncio
import json
import ssl
import sys

idle, streams, size, address, port, ca, token, model = sys.argv[1:9]

with open(token) as f:
    HEAD = ("Host: gateway.example.com\r\nAuthorization: Bearer "
            f"{f.read().strip()}\r\n")

context = ssl.create_default_context(cafile=ca)
prompt = json.dumps({"model": model, "stream": True, "messages": [
    {"role": "user", "content": "word " * (int(size) // 5)}]})
refused = 0
gate = asyncio.Semaphore(20)
kept = []


async def client(text, until):
    """One connection, as far as `until` in what comes back."""
    global refused

    async with gate:
        reader, writer = await asyncio.open_connection(
            address, int(port), ssl=context,
            server_hostname="gateway.example.com")
        kept.append((reader, writer))
        writer.write(text.encode())
        await writer.drain()
        got = await asyncio.wait_for(reader.readuntil(until), 60)
        if not got.startswith(b"HTTP/1.1 200 "):
            refused += 1


async def main():
    ask = f"GET /api/version HTTP/1.1\r\n{HEAD}\r\n"
    chat = (f"POST /api/chat HTTP/1.1\r\n{HEAD}Content-Type: application/json"
            f"\r\nContent-Length: {len(prompt)}\r\n\r\n{prompt}")
    work = [client(ask, b"\r\n\r\n") for _ in range(int(idle))]
    work += [client(chat, b'"done"') for _ in range(int(streams))]

    for done in await asyncio.gather(*work, return_exceptions=True):
        if done:
            print("broken:", repr(done), flush=True)

    print("ready", refused, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(main())
