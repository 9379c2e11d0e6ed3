"""A browser's part by hand, for what a real browser does not do: one WebSocket and RFB on it.

A program for a machine of the lab: ``python -m tests.netns.consoleproxy.wsclient PROXY:PORT PATH ORIGIN COOKIE
[COMMAND ...]``. It prints a line of JSON for each command's result.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import ssl
import struct
import sys
import time
from typing import Any

#: a thousand pings, masked, of 100 octets each
PINGS = (bytes((0x89, 0x80 | 100)) + bytes(4 + 100)) * 1000


class ClosedError(Exception):
    """The proxy closed the WebSocket."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Socket:
    """A WebSocket, or the refusal of one (``status`` other than 101)."""

    def __init__(
        self, host: str, port: int, path: str, origin: str | None, cookie: str = "", *, tls: bool = True
    ) -> None:
        plain = socket.create_connection((host, port), timeout=20)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            self.connection: Any = context.wrap_socket(plain, server_hostname=host)
        else:
            self.connection = plain
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [
            f"GET {path} HTTP/1.1",
            f"Host: {host}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {key}",
            *([f"Origin: {origin}"] if origin else []),
            *([f"Cookie: {cookie}"] if cookie else []),
        ]
        self.connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        self.buffer = b""
        self.stream = b""
        while b"\r\n\r\n" not in self.buffer:
            if not (data := self.connection.recv(65536)):
                break
            self.buffer += data
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        self.status = int(lines[0].split()[1]) if lines[0] else 0
        self.cookie = next(
            (line.partition(": ")[2].partition(";")[0] for line in lines if line.lower().startswith("set-cookie: ")), ""
        )

    # ---- frames

    def send(self, data: bytes, opcode: int = 2) -> None:
        size = len(data)
        if size < 126:
            head = bytes((0x80 | opcode, 0x80 | size))
        elif size < 65536:
            head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, size)
        else:
            head = struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, size)
        # a mask of zeros is one too
        self.connection.sendall(head + bytes(4) + data)

    def _need(self, size: int) -> bytes:
        while len(self.buffer) < size:
            data = self.connection.recv(262_144)
            if not data:
                raise ClosedError(1006)
            self.buffer += data
        taken, self.buffer = self.buffer[:size], self.buffer[size:]
        return taken

    def frame(self) -> bytes:
        """The next binary frame's payload. Raises ClosedError."""
        first, second = self._need(2)
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack("!H", self._need(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", self._need(8))
        payload = self._need(size)
        if first & 0x0F == 8:
            raise ClosedError(int.from_bytes(payload[:2], "big"))
        return payload

    def read(self, size: int) -> bytes:
        """Octets of the stream in the frames."""
        while len(self.stream) < size:
            self.stream += self.frame()
        taken, self.stream = self.stream[:size], self.stream[size:]
        return taken

    # ---- RFB

    def greet(self, shared: int = 1) -> None:
        """The handshake, up to ClientInit."""
        assert self.read(12) == b"RFB 003.008\n"
        self.send(b"RFB 003.008\n")
        assert self.read(2) == b"\1\1"
        self.send(b"\1")
        assert self.read(4) == bytes(4)
        self.send(bytes([shared]))

    def init(self) -> str:
        """ServerInit; the desktop's name."""
        head = self.read(24)
        return self.read(struct.unpack("!I", head[20:])[0]).decode()

    def close_code(self, timeout: float = 20) -> int:
        """Read until the proxy closes; its status code."""
        self.connection.settimeout(timeout)
        try:
            while True:
                self.frame()
        except ClosedError as closed:
            return closed.code


def refusal(opened: Socket) -> str:
    """What the proxy says in RFB instead of a screen."""
    assert opened.read(12) == b"RFB 003.008\n"
    assert opened.read(1) == b"\0"
    return opened.read(struct.unpack("!I", opened.read(4))[0]).decode()


def main(arguments: list[str]) -> int:
    host, path, origin, cookie, *commands = arguments
    address, _, port = host.rpartition(":")
    opened = Socket(address, int(port), path, origin or None, cookie)
    print(json.dumps({"status": opened.status, "cookie": opened.cookie}), flush=True)
    if opened.status != 101:
        return 0
    for command in commands:
        name, *values = command.split(" ")
        try:
            result = run(opened, name, values)
        except ClosedError as closed:
            result = {"closed": closed.code}
        print(json.dumps({name: result}), flush=True)
    return 0


def run(opened: Socket, name: str, values: list[str]) -> Any:
    match name:
        case "screen":
            opened.greet(int(values[0]) if values else 1)
            return opened.init()
        case "refusal":
            return refusal(opened)
        case "send":
            opened.send(bytes.fromhex(values[0]))
        case "text":
            # a clipboard of many octets, in frames of a megabyte
            size = int(values[0])
            opened.send(struct.pack("!BxxxI", 6, size))
            part = bytes(1 << 20)
            for at in range(0, size, len(part)):
                opened.send(part[: size - at])
        case "raw":
            opened.connection.sendall(bytes.fromhex(values[0]))
        case "pings":
            # in pieces; nothing is read
            for _ in range(int(values[0]) // 1000):
                opened.connection.sendall(PINGS)
        case "update":
            # the whole screen, again and again, and no answer is read
            for _ in range(int(values[0])):
                opened.send(struct.pack("!BBHHHH", 3, 0, 0, 0, 800, 600))
        case "read":
            return opened.read(int(values[0])).hex()
        case "sleep":
            time.sleep(float(values[0]))
        case "code":
            return opened.close_code(float(values[0]) if values else 20)
        case _:
            raise ValueError(name)
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
