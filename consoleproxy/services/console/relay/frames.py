"""WebSocket frames (RFC 6455 section 5), as a server sends and receives them.

Messages' borders mean nothing here: what they carry is one stream of octets. So payload is handed on as it arrives,
and no frame is ever held in memory, however long it says it is.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
#: status codes (section 7.4.1; 4000 and up are applications' own)
NORMAL, GOING_AWAY, PROTOCOL, UNSUPPORTED, INTERNAL = 1000, 1001, 1002, 1003, 1011

_FIN, _MASKED = 0x80, 0x80
_MOST_CONTROL = 125


class FrameError(Exception):
    """The browser breaks the protocol; ``code`` is the status to close with."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def header(size: int, opcode: int = BINARY) -> bytes:
    """The header of an unmasked frame with ``size`` octets of payload."""
    if size < 126:
        return bytes((_FIN | opcode, size))
    if size < 65536:
        return struct.pack("!BBH", _FIN | opcode, 126, size)
    return struct.pack("!BBQ", _FIN | opcode, 127, size)


def close(code: int, reason: str = "") -> bytes:
    """A close frame."""
    payload = struct.pack("!H", code) + reason.encode()[: _MOST_CONTROL - 2]
    return header(len(payload), CLOSE) + payload


def unmask(mask: bytes, data: bytes) -> bytes:
    """``data`` with ``mask`` (four octets) undone."""
    size = len(data)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "little") ^ int.from_bytes(key, "little")).to_bytes(size, "little")


class Frames:
    """Takes the stream of a browser apart."""

    __slots__ = ("_control", "_head", "_left", "_mask", "_opcode", "_open")

    def __init__(self) -> None:
        self._head = b""
        #: of the frame under way: octets to come, mask turned to the next of them, opcode, payload of a control frame
        self._left = 0
        self._mask = b""
        self._opcode = BINARY
        self._control = b""
        #: whether a message has begun that is not finished
        self._open = False

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """(BINARY, some payload) and (CLOSE, PING or PONG, all of it), in order. Raises FrameError."""
        if self._head:
            data, self._head = self._head + data, b""
        at, end = 0, len(data)
        while at < end:
            if not self._left:
                size = self._begin(data, at, end)
                if not size:
                    self._head = data[at:]
                    return
                at += size
                if self._left:
                    continue
                part = b""
            else:
                step = min(self._left, end - at)
                part = unmask(self._mask, data[at : at + step])
                at += step
                self._left -= step
                turn = step % 4
                self._mask = self._mask[turn:] + self._mask[:turn]
            if self._opcode == BINARY:
                if part:
                    yield BINARY, part
            else:
                self._control += part
                if not self._left:
                    whole, self._control = self._control, b""
                    yield self._opcode, whole

    def _begin(self, data: bytes, at: int, end: int) -> int:
        """Read a frame's header at ``at``; its length, 0 when it is not all there."""
        if end - at < 2:
            return 0
        first, second = data[at], data[at + 1]
        size = second & 0x7F
        long = 2 if size == 126 else 8 if size == 127 else 0
        if end - at < 6 + long:
            return 0
        if long:
            size = int.from_bytes(data[at + 2 : at + 2 + long], "big")
        opcode, final = first & 0x0F, bool(first & _FIN)
        if first & 0x70 or not second & _MASKED:
            raise FrameError(PROTOCOL, "reserved bits or no mask")
        if opcode >= CLOSE:
            if opcode > PONG or size > _MOST_CONTROL or not final:
                raise FrameError(PROTOCOL, f"control frame {opcode} of {size} octets")
            self._opcode = opcode
        else:
            if opcode == TEXT:
                raise FrameError(UNSUPPORTED, "a text frame")
            if opcode not in (CONTINUATION, BINARY) or (opcode == CONTINUATION) != self._open:
                raise FrameError(PROTOCOL, f"frame {opcode} out of turn")
            self._open, self._opcode = not final, BINARY
        self._left = size
        self._mask = data[at + 2 + long : at + 6 + long]
        return 6 + long
