#!/usr/bin/env python3
"""A DNS server that knows the addresses in DIR/names.json.

    odd_dns.py DIR [ADDRESS PORT]
        on 127.0.0.1 and a free port, which is written to DIR/port
"""

import json
import os
import socket
import struct
import sys

home = sys.argv[1]
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind((sys.argv[2], int(sys.argv[3])) if sys.argv[2:] else ("127.0.0.1", 0))

with open(os.path.join(home, "port"), "w") as f:
    f.write(str(s.getsockname()[1]))
open(os.path.join(home, "ready"), "w").close()

while True:
    query, peer = s.recvfrom(512)
    at, labels = 12, []

    while query[at]:
        labels.append(query[at + 1:at + 1 + query[at]].decode("latin-1"))
        at += 1 + query[at]

    end = at + 5
    kind = struct.unpack(">H", query[at + 1:at + 3])[0]

    with open(os.path.join(home, "names.json")) as f:
        known = json.load(f)

    name = ".".join(labels).lower()
    found = known.get(name, []) if kind == 1 else []
    code = 0 if name in known else 3
    answer = query[:2] + struct.pack(">HHHHH", 0x8180 | code, 1, len(found),
                                     0, 0) + query[12:end]

    for address in found:
        answer += (b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 1, 4)
                   + socket.inet_aton(address))

    s.sendto(answer, peer)
