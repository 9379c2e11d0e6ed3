"""What a browser may say to a VNC server: client messages are taken apart, and those a policy forbids are left out.

RFC 6143 section 7.5, with the extensions that noVNC speaks (rfbproto.rst): fence, continuous updates, desktop size,
QEMU key events, xvp, extended clipboard and extended pointer events. A message of unknown type cannot be passed over,
for its length is unknown: it ends the session.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from consoleproxy.rfb.errors import RfbError

SET_PIXEL_FORMAT, SET_ENCODINGS, UPDATE_REQUEST, KEY, POINTER, CUT_TEXT = 0, 2, 3, 4, 5, 6
CONTINUOUS_UPDATES, FENCE, XVP, DESKTOP_SIZE, QEMU = 150, 248, 250, 251, 255

#: pseudo-encodings by which a client says what it understands
EXTENDED_POINTER, EXTENDED_CLIPBOARD = -316, struct.unpack("!i", b"\xc0\xa1\xe5\xce")[0]

#: octets of a clipboard that are passed on; a longer one is left out
MOST_TEXT = 1 << 20
MOST_ENCODINGS = 1024
#: type -> octets, of those that always have the same length
_FIXED = {SET_PIXEL_FORMAT: 20, UPDATE_REQUEST: 10, KEY: 8, CONTINUOUS_UPDATES: 10, XVP: 4}
#: type -> octets that tell how long the message is
_HEADS = {SET_ENCODINGS: 4, POINTER: 2, CUT_TEXT: 8, FENCE: 9, DESKTOP_SIZE: 8, QEMU: 4}
#: what changes something in the guest
_INPUT = frozenset((KEY, POINTER, CUT_TEXT, XVP, DESKTOP_SIZE))


def _encodings_length(buffer: bytes, at: int) -> int:
    number: int = struct.unpack_from("!H", buffer, at + 2)[0]
    if number > MOST_ENCODINGS:
        raise RfbError(f"the browser offers {number} encodings")
    return 4 + 4 * number


def _text_length(buffer: bytes, at: int) -> int:
    # negative: extended clipboard, octets of its data
    return 8 + abs(int(struct.unpack_from("!i", buffer, at + 4)[0]))


def _fence_length(buffer: bytes, at: int) -> int:
    if buffer[at + 8] > 64:
        raise RfbError(f"the browser sent a fence of {buffer[at + 8]} octets")
    return 9 + buffer[at + 8]


def _desktop_length(buffer: bytes, at: int) -> int:
    return 8 + 16 * buffer[at + 6]


def _qemu_length(buffer: bytes, at: int) -> int:
    if buffer[at + 1] != 0:
        raise RfbError(f"the browser sent QEMU message {buffer[at + 1]}")
    return 12


_LENGTHS = {
    SET_ENCODINGS: _encodings_length,
    CUT_TEXT: _text_length,
    FENCE: _fence_length,
    DESKTOP_SIZE: _desktop_length,
    QEMU: _qemu_length,
}


def _is_followed(pixels: bytes) -> bool:
    """Whether a PIXEL_FORMAT (RFC 6143 section 7.4) is the one that server.py can follow: 24 bits in 32."""
    bits, depth, _, *colours = struct.unpack_from("!BBBBHHH", pixels)
    return (bits, depth, colours) == (32, 24, [1, 255, 255, 255])


class ClientMessages:
    """A filter for the stream of one browser.

    ``inputs`` counts messages by which a person shows that they are there, forbidden ones too. With ``followed`` the
    server's stream is taken apart too (server.py): the browser may then offer only what can be, and one pixel format,
    which is the server's own (``server_format``) or the browser's wish.
    """

    __slots__ = (
        "_buffer",
        "_clipboard",
        "_extended",
        "_followed",
        "_format",
        "_passing",
        "_rest",
        "_view_only",
        "inputs",
    )

    def __init__(
        self, *, view_only: bool, clipboard: bool, followed: Callable[[list[int]], list[int]] | None = None
    ) -> None:
        self._view_only, self._clipboard, self._followed = view_only, clipboard and not view_only, followed
        self._format = False
        self._buffer = b""
        #: octets of a long message that are still to come, and whether they are passed on
        self._rest, self._passing = 0, False
        self._extended = False
        self.inputs = 0

    def feed(self, data: bytes) -> bytes:
        """What of ``data`` (and of what came before) is for the server now. Raises RfbError."""
        buffer = self._buffer + data if self._buffer else data
        kept: list[bytes] = []
        at, end = 0, len(buffer)
        while at < end:
            if self._rest:
                step = min(self._rest, end - at)
                if self._passing:
                    kept.append(buffer[at : at + step])
                self._rest -= step
                at += step
                continue
            kind = buffer[at]
            length = self._length(kind, buffer, at, end)
            if kind == CUT_TEXT and length:
                self.inputs += 1
                self._passing = self._clipboard and length <= MOST_TEXT + _HEADS[CUT_TEXT]
                self._rest = length
                continue
            if not length or at + length > end:
                break
            self._one(kind, buffer[at : at + length], kept)
            at += length
        self._buffer = buffer[at:]
        return b"".join(kept)

    def _length(self, kind: int, buffer: bytes, at: int, end: int) -> int:
        """Octets of the message that begins at ``at``; 0 when too little is there to tell. Raises RfbError."""
        if fixed := _FIXED.get(kind):
            return fixed
        if kind not in _HEADS:
            raise RfbError(f"the browser sent a message of type {kind}")
        if end - at < _HEADS[kind]:
            return 0
        if kind == POINTER:
            return 7 if self._extended and buffer[at + 1] & 0x80 else 6
        return _LENGTHS[kind](buffer, at)

    def _one(self, kind: int, message: bytes, kept: list[bytes]) -> None:
        if kind == SET_ENCODINGS:
            kept.append(self._offer(message))
            return
        if self._followed is not None and kind in (SET_PIXEL_FORMAT, UPDATE_REQUEST):
            self._check_format(kind, message)
        if kind in _INPUT or kind == QEMU:
            self.inputs += 1
            if self._view_only:
                return
        kept.append(message)

    def _offer(self, message: bytes) -> bytes:
        offered = list(struct.unpack(f"!{(len(message) - 4) // 4}i", message[4:]))
        self._extended = EXTENDED_POINTER in offered
        if not self._clipboard:
            offered = [one for one in offered if one != EXTENDED_CLIPBOARD]
        if self._followed is not None:
            offered = self._followed(offered)
        return struct.pack(f"!BxH{len(offered)}i", SET_ENCODINGS, len(offered), *offered)

    def server_format(self, pixels: bytes) -> None:
        """What the server sends as long as the browser has no wish: PIXEL_FORMAT of its ServerInit."""
        self._format = _is_followed(pixels)

    def _check_format(self, kind: int, message: bytes) -> None:
        if kind == SET_PIXEL_FORMAT:
            if not _is_followed(message[4:]):
                raise RfbError("the browser wants pixels that are not 24 bits in 32")
            self._format = True
        elif not self._format:
            raise RfbError("the browser asks for a screen before it has said what its pixels are")
