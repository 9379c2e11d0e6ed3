"""Server messages: nothing is lost but the clipboard, whatever way they are cut into pieces."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consoleproxy.rfb.errors import RfbError
from consoleproxy.rfb.server import ServerMessages, followed
from tests.unit.consoleproxy.rfb.test_client import PLACES, cut

INIT = struct.pack("!HH16sI", 800, 600, bytes(16), 4) + b"test"


def update(*rectangles: bytes, number: int | None = None) -> bytes:
    return struct.pack("!BxH", 0, len(rectangles) if number is None else number) + b"".join(rectangles)


def rectangle(encoding: int, width: int, height: int, body: bytes = b"") -> bytes:
    return struct.pack("!HHHHi", 0, 0, width, height, encoding) + body


def text(content: bytes, size: int | None = None) -> bytes:
    return struct.pack("!Bxxxi", 3, len(content) if size is None else size) + content


def sized(data: bytes) -> bytes:
    return struct.pack("!I", len(data)) + data


LONG = zlib.compress(bytes(range(256)) * 4)
COMPACT = bytes([len(LONG) & 0x7F | 0x80, len(LONG) >> 7])
MESSAGES = [
    update(rectangle(0, 3, 2, bytes(24))),
    update(rectangle(1, 3, 2, bytes(4)), rectangle(16, 64, 64, sized(b"zrle")), rectangle(6, 8, 8, sized(b"zlib"))),
    # Tight: fill, JPEG, PNG, plain, with palettes of two and of five colours, gradient, too small to compress
    update(rectangle(7, 9, 9, b"\x80rgb"), rectangle(7, 9, 9, b"\x90" + COMPACT + LONG)),
    update(rectangle(-260, 9, 9, b"\xa0" + COMPACT + LONG), rectangle(7, 9, 9, b"\x00" + COMPACT + LONG)),
    update(rectangle(7, 32, 32, b"\x40\x01\x01" + bytes(6) + COMPACT + LONG)),
    update(rectangle(7, 32, 32, b"\x40\x01\x04" + bytes(15) + COMPACT + LONG)),
    update(rectangle(7, 32, 32, b"\x40\x02" + COMPACT + LONG), rectangle(7, 1, 3, b"\x00" + bytes(9))),
    update(rectangle(7, 16, 5, b"\x40\x01\x01" + bytes(6) + bytes(10))),
    update(rectangle(-239, 9, 2, bytes(72 + 4)), rectangle(-223, 1024, 768), rectangle(-258, 0, 0)),
    update(rectangle(-308, 800, 600, b"\1\0\0\0" + bytes(16)), rectangle(-307, 0, 0, sized(b"name"))),
    update(rectangle(0, 1, 1, bytes(4)), rectangle(-224, 0, 0), number=65535),
    struct.pack("!BxHH", 1, 0, 2) + bytes(12),
    b"\2",
    b"\x96",
    struct.pack("!BxxxIB", 248, 1, 3) + b"abc",
    b"\xfa\0\1\0",
]


@given(st.lists(st.sampled_from([*MESSAGES, text(b"secret"), text(b"extended", -8), text(b"")]), max_size=10), PLACES)
def test_everything_but_the_clipboard(messages: list[bytes], places: list[int]) -> None:
    server = ServerMessages()
    got = b"".join(server.feed(piece) for piece in cut(INIT + b"".join(messages), places))
    assert got == INIT + b"".join(message for message in messages if message[0] != 3)
    assert server.dropped == sum(message[0] == 3 for message in messages)


def test_the_servers_pixel_format_is_told_once() -> None:
    told: list[bytes] = []
    server = ServerMessages(told.append)
    for piece in cut(INIT + MESSAGES[0], [5, 21, 23, 40]):
        server.feed(piece)
    assert told == [INIT[4:20]]


def test_a_long_one_is_not_held() -> None:
    server = ServerMessages()
    assert server.feed(INIT + update(rectangle(0, 1000, 1000, bytes(1000)))) == INIT + update(
        rectangle(0, 1000, 1000, bytes(1000))
    )
    assert server._buffer == b""


def test_what_a_browser_may_offer() -> None:
    # noVNC's, with Hextile, RRE and H.264 among them
    offered = [1, 7, -260, 16, 5, 2, 21, 50, 0, -26, -254, -223, -224, -258, -308, -313, -312, -239, -1063131698]
    assert followed(offered) == [1, 7, -260, 16, 0, -26, -254, -223, -224, -258, -308, -313, -312, -239]


@pytest.mark.parametrize("broken", [b"\x63", update(rectangle(5, 1, 1)), update(rectangle(7, 9, 9, b"\xb0"))])
def test_what_cannot_be_followed_ends_the_session(broken: bytes) -> None:
    with pytest.raises(RfbError):
        ServerMessages().feed(INIT + broken)


@given(st.lists(st.binary(max_size=64), max_size=20))
def test_whatever_a_server_sends(pieces: list[bytes]) -> None:
    server = ServerMessages()
    got = b""
    try:
        for piece in [INIT, *pieces]:
            got += server.feed(piece)
    except RfbError:
        pass
    assert len(got) <= len(INIT) + sum(map(len, pieces))
