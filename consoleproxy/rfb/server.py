"""What a VNC server says, taken apart so far that its clipboard can be left out (RFC 6143 section 7.6 and 7.7).

A message's end is found only by following it through its rectangles. So a browser whose clipboard is off may offer the
encodings that are followed here and no other, and one pixel format; noVNC does, and it has all that it draws fast with.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Generator
from enum import Enum
from typing import TypeAlias

from consoleproxy.rfb.errors import RfbError

RAW, COPY_RECT, ZLIB, TIGHT, ZRLE, TIGHT_PNG = 0, 1, 6, 7, 16, -260
CURSOR, DESKTOP_SIZE, LAST_RECT = -239, -223, -224
QEMU_KEYS, EXTENDED_DESKTOP_SIZE, DESKTOP_NAME, FENCE, CONTINUOUS_UPDATES, EXTENDED_POINTER = (
    *(-258, -308, -307, -312, -313, -316),
)
#: encodings of rectangles, and pseudo-encodings that come as rectangles or as messages
FOLLOWED = frozenset(
    (RAW, COPY_RECT, ZLIB, TIGHT, ZRLE, TIGHT_PNG, CURSOR, DESKTOP_SIZE, LAST_RECT, QEMU_KEYS, EXTENDED_DESKTOP_SIZE)
) | {DESKTOP_NAME, FENCE, CONTINUOUS_UPDATES, EXTENDED_POINTER}
#: JPEG quality, compression, and JPEG quality in small steps
_WISHES = (range(-32, -22), range(-256, -246), range(-512, -411))
#: octets of a pixel, and of one as Tight sends it
_PIXEL, _TIGHT_PIXEL = 4, 3
#: below this Tight sends data as it is
_TIGHT_SMALLEST = 12


class _Do(Enum):
    READ = 1  # collect, and hand to the parser, which passes it on itself
    PASS = 2
    DROP = 3


_Steps: TypeAlias = Generator[tuple[_Do, int], bytes, None]
_Value: TypeAlias = Generator[tuple[_Do, int], bytes, int]


def followed(offered: list[int]) -> list[int]:
    """Of a browser's encodings those that can be followed, and its wishes about quality and compression."""
    return [
        one for one in offered if one in FOLLOWED or -512 <= one <= -412 or -32 <= one <= -23 or -256 <= one <= -247
    ]


class ServerMessages:
    """A filter for the stream of one server from ServerInit on. ``dropped``: clipboards that were left out.

    ``tell_format`` is called with the PIXEL_FORMAT of ServerInit.
    """

    def __init__(self, tell_format: Callable[[bytes], None] = lambda _: None) -> None:
        self._tell_format = tell_format
        self._buffer = b""
        self._out: list[bytes] = []
        self._steps = self._messages()
        self._want = next(self._steps)
        self.dropped = 0

    def feed(self, data: bytes) -> bytes:
        """What of ``data`` (and of what came before) is for the browser now. Raises RfbError."""
        buffer = self._buffer + data if self._buffer else data
        at, end = 0, len(buffer)
        while True:
            do, size = self._want
            if do is _Do.READ:
                if end - at < size:
                    break
                value = buffer[at : at + size]
                at += size
            else:
                step = min(size, end - at)
                if do is _Do.PASS and step:
                    self._out.append(buffer[at : at + step])
                at += step
                if step < size:
                    self._want = (do, size - step)
                    break
                value = b""
            self._want = self._steps.send(value)
        self._buffer = buffer[at:]
        made = b"".join(self._out)
        self._out.clear()
        return made

    # ---- the parser: it says how many octets it wants, and what for

    def _copied(self, size: int) -> Generator[tuple[_Do, int], bytes, bytes]:
        """Octets that are looked at and passed on."""
        value = yield _Do.READ, size
        self._out.append(value)
        return value

    def _messages(self) -> _Steps:
        head = yield from self._copied(24)
        self._tell_format(head[4:20])
        yield _Do.PASS, struct.unpack("!I", head[20:])[0]
        while True:
            [kind] = yield _Do.READ, 1
            if kind == 3:
                head = yield _Do.READ, 7
                self.dropped += 1
                # negative: extended clipboard, octets of its data
                yield _Do.DROP, abs(struct.unpack("!i", head[3:])[0])
                continue
            self._out.append(bytes([kind]))
            match kind:
                case 0:
                    yield from self._update()
                case 1:
                    head = yield from self._copied(5)
                    yield _Do.PASS, 6 * struct.unpack("!H", head[3:])[0]
                case 2 | 150:  # bell, end of continuous updates
                    pass
                case 248:
                    head = yield from self._copied(8)
                    yield _Do.PASS, head[7]
                case 250:
                    yield _Do.PASS, 3
                case _:
                    raise RfbError(f"it sent a message of type {kind}")

    def _update(self) -> _Steps:
        head = yield from self._copied(3)
        # 65535: until a LastRect
        left = struct.unpack("!H", head[1:])[0]
        while left:
            head = yield from self._copied(12)
            _, _, width, height, encoding = struct.unpack("!HHHHi", head)
            if encoding == LAST_RECT:
                return
            left -= left != 65535
            yield from self._rectangle(encoding, width, height)

    def _rectangle(self, encoding: int, width: int, height: int) -> _Steps:
        match encoding:
            case 0:
                yield _Do.PASS, width * height * _PIXEL
            case 1:
                yield _Do.PASS, 4
            case 6 | 16 | -307:
                head = yield from self._copied(4)
                yield _Do.PASS, struct.unpack("!I", head)[0]
            case 7 | -260:
                yield from self._tight(width, height)
            case -239:
                yield _Do.PASS, width * height * _PIXEL + (width + 7) // 8 * height
            case -308:
                head = yield from self._copied(4)
                yield _Do.PASS, 16 * head[0]
            case -223 | -258 | -316:
                pass
            case _:
                raise RfbError(f"it sent a rectangle of encoding {encoding}, which the browser did not offer")

    def _tight(self, width: int, height: int) -> _Steps:
        [control] = yield from self._copied(1)
        kind = control >> 4
        if kind == 8:
            yield _Do.PASS, _TIGHT_PIXEL
        elif kind in (9, 10):
            size = yield from self._compact()
            yield _Do.PASS, size
        elif kind > 10:
            raise RfbError(f"it sent a Tight rectangle of kind {kind}")
        else:
            size = width * height * _TIGHT_PIXEL
            if kind & 4:
                [filtered] = yield from self._copied(1)
                if filtered == 1:
                    [colours] = yield from self._copied(1)
                    yield _Do.PASS, (colours + 1) * _TIGHT_PIXEL
                    size = (width + 7) // 8 * height if colours == 1 else width * height
                elif filtered > 2:
                    raise RfbError(f"it sent a Tight rectangle with filter {filtered}")
            if size >= _TIGHT_SMALLEST:
                size = yield from self._compact()
            yield _Do.PASS, size

    def _compact(self) -> _Value:
        """A length of one to three octets, seven bits in each but the last."""
        size = 0
        for shift in (0, 7, 14):
            [octet] = yield from self._copied(1)
            size |= (octet if shift == 14 else octet & 0x7F) << shift
            if not octet & 0x80:
                break
        return size
