"""Storm of TCP connections: how many can be made in a second. A program of its own, run inside namespaces.

``storm.py serve PORT``: accept and close, for ever; prints "ready" first.
``storm.py connect HOST FIRST COUNT SECONDS``: connect to ports FIRST to FIRST+COUNT-1 in turn, 64 at once, and reset
each connection as soon as it stands; prints ``{"rate": per second, "failed": n, "user_share": of the time}``.

A connection is four packets (SYN, SYN/ACK, ACK, RST), so the kernel's work for a new connection is nearly all there
is: ``user_share`` tells how much this program took.
"""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import sys
import time

WINDOW = 64
#: l_onoff, l_linger of socket(7): close() sends RST, so that neither side keeps TIME_WAIT sockets
RESET = struct.pack("ii", 1, 0)


def serve(port: int) -> None:
    listener = socket.create_server(("", port), backlog=4096)
    print("ready", flush=True)
    while True:
        try:
            connection, _ = listener.accept()
            connection.close()
        except ConnectionError:
            continue  # reset before it was accepted


def connect(host: str, first: int, count: int, seconds: float) -> dict[str, float]:
    poll = select.epoll()
    pending: dict[int, socket.socket] = {}
    started = failed = made = 0

    def start() -> None:
        nonlocal started
        connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        connection.connect_ex((host, first + started % count))
        started += 1
        pending[connection.fileno()] = connection
        poll.register(connection.fileno(), select.EPOLLOUT)

    begin, before = time.monotonic(), os.times()
    for _ in range(WINDOW):
        start()
    while time.monotonic() < begin + seconds:
        for number, events in poll.poll(0.5):
            connection = pending.pop(number)
            if events & (select.EPOLLERR | select.EPOLLHUP):
                failed += 1
            else:
                made += 1
            connection.close()
            start()
    took = time.monotonic() - begin
    return {"rate": made / took, "failed": failed, "user_share": (os.times().user - before.user) / took}


def main() -> None:
    if sys.argv[1] == "serve":
        serve(int(sys.argv[2]))
    else:
        host, first, count, seconds = sys.argv[2:6]
        print(json.dumps(connect(host, int(first), int(count), float(seconds))))


if __name__ == "__main__":
    main()
