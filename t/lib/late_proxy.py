#!/usr/bin/env python3
"""In front of a Redis: answers on a connection that has run a script are late
while a file is there, and those on others, such as greetings, are in time.

    late_proxy.py PORT REDIS_PORT FILE
"""

import asyncio
import os
import sys

port, redis, file = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
LATE = 0.4


async def connection(reader, writer):
    there, to_redis = await asyncio.open_connection("127.0.0.1", redis)
    ran = False

    async def forth():
        nonlocal ran
        while data := await reader.read(65536):
            ran = ran or b"EVAL" in data
            to_redis.write(data)
            await to_redis.drain()
        to_redis.close()

    async def back():
        while data := await there.read(65536):
            if ran and os.path.exists(file):
                await asyncio.sleep(LATE)
            writer.write(data)
            await writer.drain()
        writer.close()

    await asyncio.gather(forth(), back(), return_exceptions=True)


async def main():
    server = await asyncio.start_server(connection, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


asyncio.run(main())
