"""When does a port open? A program of its own, run inside the namespace of the client.

For each line ``ADDRESS PORT`` on standard input it tries a new connection every two milliseconds until one stands, and
prints the monotonic time of that (clock_gettime(2), one clock for the whole machine) in seconds; ``late`` after 30 s.
"""

from __future__ import annotations

import select
import socket
import sys
import time
from collections import deque

PAUSE, PATIENCE, OPEN = 0.002, 30.0, 200


def first(address: str, port: int) -> float | None:
    poll = select.epoll()
    tried: deque[socket.socket] = deque()
    begin = time.monotonic()
    try:
        while time.monotonic() < begin + PATIENCE:
            # a SYN that is dropped is sent again only after a second, so each try is a new connection
            attempt = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            attempt.connect_ex((address, port))
            poll.register(attempt.fileno(), select.EPOLLOUT)
            tried.append(attempt)
            if len(tried) > OPEN:
                tried.popleft().close()
            for _, events in poll.poll(PAUSE):
                if not events & (select.EPOLLERR | select.EPOLLHUP):
                    return time.monotonic()
        return None
    finally:
        for attempt in tried:
            attempt.close()


def main() -> None:
    for line in sys.stdin:
        address, port = line.split()
        moment = first(address, int(port))
        print("late" if moment is None else f"{moment:.6f}", flush=True)


if __name__ == "__main__":
    main()
