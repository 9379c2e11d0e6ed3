"""The handshake with the browser, in which the proxy is an RFB server without security (RFC 6143 section 7.1).

The browser has shown its token before; the guest's own security is between the proxy and the guest's VNC server.
"""

from __future__ import annotations

import struct

from consoleproxy.rfb.errors import RfbError

VERSION = b"RFB 003.008\n"
_NONE = 1


def refusal(reason: str) -> bytes:
    """What a server says that has nothing to offer (section 7.1.2): no security types, and why. Ends the handshake."""
    text = reason.encode()
    return b"\0" + struct.pack("!I", len(text)) + text


class Greeting:
    """Feed it what the browser sends until ``done``; ``shared`` is then what the browser asked for."""

    def __init__(self) -> None:
        self.done = False
        self.shared = True
        self._buffer = b""
        self._version = b""
        self._chosen = False

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """Returns what to answer, and what of ``data`` comes after the handshake. Raises RfbError."""
        self._buffer += data
        answer = b""
        if not self._version and len(self._buffer) >= len(VERSION):
            self._version, self._buffer = self._buffer[: len(VERSION)], self._buffer[len(VERSION) :]
            if self._version == b"RFB 003.003\n":
                answer += struct.pack("!I", _NONE)
                self._chosen = True
            elif self._version in (b"RFB 003.007\n", VERSION):
                answer += bytes([1, _NONE])
            else:
                raise RfbError(f"the browser speaks {self._version!r}")
        if self._version and not self._chosen and self._buffer:
            if self._buffer[0] != _NONE:
                raise RfbError(f"the browser chose security type {self._buffer[0]}, which it was not offered")
            self._buffer, self._chosen = self._buffer[1:], True
            if self._version == VERSION:
                answer += struct.pack("!I", 0)
        if self._chosen and not self.done and self._buffer:
            self.shared, self.done = self._buffer[0] != 0, True
            rest, self._buffer = self._buffer[1:], b""
            return answer, rest
        return answer, b""
