"""A console's client in a page of standard library: run in a machine outside with its arguments as JSON on stdin.

``{"host", "token", "ca" (PEM), "origin", "name" (for the certificate), "hold" (seconds)}``; prints JSON: ``status`` of
the upgrade, and after a 101 ``width``, ``height`` and ``screen`` (the name) that the VNC server tells (RFC 6143).
"""

import base64
import json
import os
import socket
import ssl
import struct
import sys
import time
from collections.abc import Callable

asked = json.load(sys.stdin)
context = ssl.create_default_context(cadata=asked["ca"])
raw = socket.create_connection((asked["host"], 443), 10)
sock = context.wrap_socket(raw, server_hostname=asked.get("name") or asked["host"])
sock.settimeout(10)
request = (
    f"GET /websockify?token={asked['token']} HTTP/1.1\r\nHost: {asked['host']}\r\nOrigin: {asked['origin']}\r\n"
    f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: binary\r\n"
    f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n\r\n"
)
sock.sendall(request.encode())


class Buffer:
    """Octets of one of the two streams: the socket's, and that of the messages in it."""

    def __init__(self, fill: Callable[[], bytes]) -> None:
        self.fill, self.octets = fill, b""

    def take(self, count: int) -> bytes:
        while len(self.octets) < count:
            self.octets += self.fill()
        taken, self.octets = self.octets[:count], self.octets[count:]
        return taken


def receive() -> bytes:
    part = sock.recv(65536)
    if not part:
        raise EOFError("the proxy closed the connection")
    return part


wire = Buffer(receive)
head = b""
while not head.endswith(b"\r\n\r\n"):
    head += wire.take(1)
status = int(head.split()[1])
if status != 101:
    print(json.dumps({"status": status}))
    sys.exit()


def frame() -> tuple[int, bytes]:
    """One message's opcode and payload (RFC 6455 section 5.2)."""
    first, length = wire.take(2)
    size = length & 127
    if size == 126:
        (size,) = struct.unpack("!H", wire.take(2))
    elif size == 127:
        (size,) = struct.unpack("!Q", wire.take(8))
    return first & 15, wire.take(size)


def message() -> bytes:
    opcode, payload = frame()
    if opcode == 8:
        raise EOFError(f"closed with {struct.unpack('!H', payload[:2])[0] if payload else 1005}")
    return payload if opcode == 2 else b""


read = Buffer(message).take


def write(data: bytes) -> None:
    mask = os.urandom(4)
    masked = bytes(octet ^ mask[index % 4] for index, octet in enumerate(data))
    sock.sendall(bytes([0x82, 0x80 | len(data)]) + mask + masked)


assert read(12) == b"RFB 003.008\n"
write(b"RFB 003.008\n")
kinds = read(read(1)[0])
assert 1 in kinds, kinds
write(b"\x01")
assert read(4) == bytes(4)
write(b"\x01")
width, height = struct.unpack("!HH", read(20)[:4])
name = read(struct.unpack("!I", read(4))[0]).decode()
print(json.dumps({"status": 101, "width": width, "height": height, "screen": name}), flush=True)
if asked.get("hold"):
    sock.settimeout(asked["hold"])
    begun = time.monotonic()
    try:
        while frame()[0] != 8:
            pass
        ended = "closed"
    except (EOFError, ConnectionError):
        ended = "cut off"
    except TimeoutError:
        ended = "still open"
    print(json.dumps({"ended": ended, "after": time.monotonic() - begun}), flush=True)
