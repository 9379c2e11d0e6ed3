"""The browser's side: ``python -m tests.bench.console.load WHAT KIND PORT SECONDS PATH...`` prints JSON, and
keeps the connections until it reads a line.

KIND is ``plain`` (no WebSocket), ``ws`` or ``wss``. One connection for each PATH. WHAT: ``stream`` reads as fast as it
can, ``echo`` sends ten octets on each connection fifty times a second, ``frames`` reads frames, ``idle`` reads nothing.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import sys
import time
from typing import Any

from tests.bench.console.source import ECHO, FRAMES, STREAM
from tests.netns.consoleproxy.wsclient import Socket

#: times a second that each connection sends
ECHOES = 50


class Plain(Socket):
    """The same RFB without WebSocket."""

    def __init__(self, port: int) -> None:
        self.connection: Any = socket.create_connection(("127.0.0.1", port))
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = self.stream = b""

    def send(self, data: bytes, opcode: int = 2) -> None:
        self.connection.sendall(data)

    def frame(self) -> bytes:
        return bytes(self.connection.recv(65536))


def connect(kind: str, port: int, path: str) -> Socket:
    if kind == "plain":
        opened: Socket = Plain(port)
    else:
        scheme = "https" if kind == "wss" else "http"
        opened = Socket("127.0.0.1", port, path, f"{scheme}://127.0.0.1:{port}", tls=kind == "wss")
        assert opened.status == 101, (opened.status, path)
    opened.greet()
    opened.init()
    return opened


def request(what: int) -> bytes:
    return struct.pack("!BBHHHH", 3, 0, what, 0, 0, 0)


def stream(sockets: list[Socket], seconds: float) -> dict[str, Any]:
    [one] = sockets
    one.send(request(STREAM))
    connection, space = one.connection, bytearray(1 << 20)
    got, begin = 0, time.monotonic()
    while (now := time.monotonic()) < begin + seconds:
        got += connection.recv_into(space)
    return {"bytes": got, "seconds": now - begin}


def echo(sockets: list[Socket], seconds: float) -> dict[str, Any]:
    poll, message = select.epoll(), request(ECHO)
    by_file = {one.connection.fileno(): one for one in sockets}
    for file in by_file:
        poll.register(file, select.EPOLLIN)
    begin = time.monotonic()
    due = {file: begin + number / ECHOES / len(sockets) for number, file in enumerate(by_file)}
    sent: dict[int, float] = {}
    took: list[float] = []
    while (now := time.monotonic()) < begin + seconds:
        for file, when in due.items():
            if when <= now and file not in sent:
                due[file] = max(when + 1 / ECHOES, now)
                sent[file] = time.monotonic()
                by_file[file].send(message)
        for file, _ in poll.poll(0.0005):
            by_file[file].read(10)
            took.append(time.monotonic() - sent.pop(file))
    took.sort()
    return {"echoes": len(took), "p50": took[len(took) // 2], "p99": took[len(took) * 99 // 100]}


def frames(sockets: list[Socket], seconds: float) -> dict[str, Any]:
    poll, space = select.epoll(), bytearray(1 << 20)
    by_file = {one.connection.fileno(): one.connection for one in sockets}
    for one in sockets:
        one.send(request(FRAMES))
        one.connection.setblocking(False)
        poll.register(one.connection.fileno(), select.EPOLLIN)
    print("flowing", flush=True)
    got, begin = 0, time.monotonic()
    while (now := time.monotonic()) < begin + seconds:
        for file, _ in poll.poll(0.1):
            try:
                while size := by_file[file].recv_into(space):
                    got += size
            except OSError:
                continue
    return {"bytes": got, "seconds": now - begin}


def idle(sockets: list[Socket], seconds: float) -> dict[str, Any]:
    return {"sessions": len(sockets)}


if __name__ == "__main__":
    name, kind, port, seconds, *paths = sys.argv[1:]
    opened = [connect(kind, int(port), path) for path in paths]
    measure = {"stream": stream, "echo": echo, "frames": frames, "idle": idle}[name]
    print(json.dumps(measure(opened, float(seconds))), flush=True)
    # a relay's processes are looked at before their connections go
    sys.stdin.readline()
