"""When does a server answer that did not before? A program of its own, run inside the namespace of the client.

For each line ``ADDRESS PORT TEXT`` on standard input it asks for a page, one connection each, over and over until one
has TEXT in it, and prints the monotonic time of that (clock_gettime(2)) in seconds; ``late`` after 30 s.
"""

from __future__ import annotations

import socket
import sys
import time

PATIENCE = 30.0


def first(address: str, port: int, text: bytes) -> float | None:
    begin = time.monotonic()
    while time.monotonic() < begin + PATIENCE:
        try:
            with socket.create_connection((address, port), 2) as connection:
                connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
                answer = b""
                while part := connection.recv(4096):
                    answer += part
        except OSError:
            continue
        if text in answer.partition(b"\r\n\r\n")[2]:
            return time.monotonic()
        # as often as a busy site is asked, and the machine's processors are not all this program's
        time.sleep(0.002)
    return None


def main() -> None:
    for line in sys.stdin:
        address, port, text = line.split()
        moment = first(address, int(port), text.encode())
        print("late" if moment is None else f"{moment:.6f}", flush=True)


if __name__ == "__main__":
    main()
