"""Client messages: what a policy lets through, whatever way they are cut into pieces."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consoleproxy.rfb.client import EXTENDED_CLIPBOARD, EXTENDED_POINTER, MOST_TEXT, ClientMessages
from consoleproxy.rfb.errors import RfbError

FORMAT = struct.pack("!BxxxBBBBHHHBBBxxx", 0, 32, 24, 0, 1, 255, 255, 255, 0, 8, 16)
REQUEST = struct.pack("!BBHHHH", 3, 1, 0, 0, 800, 600)
KEY = struct.pack("!BBxxI", 4, 1, 0x61)
POINTER = struct.pack("!BBHH", 5, 1, 10, 20)
QEMU_KEY = struct.pack("!BBHII", 255, 0, 1, 0x61, 30)
FENCE = struct.pack("!BxxxIB", 248, 1, 3) + b"abc"
SIZE = struct.pack("!BxHHBx", 251, 800, 600, 1) + bytes(16)
CONTINUOUS = struct.pack("!BBHHHH", 150, 1, 0, 0, 800, 600)
POWER = struct.pack("!BxBB", 250, 1, 2)


def encodings(*numbers: int) -> bytes:
    return struct.pack(f"!BxH{len(numbers)}i", 2, len(numbers), *numbers)


def text(content: bytes, size: int | None = None) -> bytes:
    return struct.pack("!Bxxxi", 6, len(content) if size is None else size) + content


HARMLESS = [FORMAT, REQUEST, FENCE, CONTINUOUS, encodings(7, 16, -223)]
INPUT = [KEY, POINTER, QEMU_KEY, SIZE, POWER]


def made(*, view_only: bool = False, clipboard: bool = True) -> ClientMessages:
    return ClientMessages(view_only=view_only, clipboard=clipboard)


def filtered(pieces: list[bytes], **policy: bool) -> bytes:
    messages = made(**policy)
    return b"".join(messages.feed(piece) for piece in pieces)


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[first:last] for first, last in pairwise(edges)]


MESSAGES = st.lists(st.sampled_from([*HARMLESS, *INPUT, text(b"hello"), text(b"extended", -8)]), max_size=12)
PLACES = st.lists(st.integers(0, 1 << 16), max_size=12)


@given(MESSAGES, PLACES)
def test_everything_passes_unchanged(messages: list[bytes], places: list[int]) -> None:
    stream = b"".join(messages)
    assert filtered(cut(stream, places)) == stream


@given(MESSAGES, PLACES)
def test_view_only(messages: list[bytes], places: list[int]) -> None:
    allowed = b"".join(message for message in messages if message in HARMLESS)
    assert filtered(cut(b"".join(messages), places), view_only=True) == allowed


@given(MESSAGES, PLACES)
def test_no_clipboard(messages: list[bytes], places: list[int]) -> None:
    allowed = b"".join(message for message in messages if message[0] != 6)
    assert filtered(cut(b"".join(messages), places), clipboard=False) == allowed


def test_the_extended_clipboard_is_not_offered_where_there_is_none() -> None:
    offered = encodings(7, EXTENDED_CLIPBOARD, -223)
    assert filtered([offered]) == offered
    assert filtered([offered], clipboard=False) == filtered([offered], view_only=True) == encodings(7, -223)


def test_a_text_that_is_too_long_is_left_out_and_takes_no_memory() -> None:
    messages = ClientMessages(view_only=False, clipboard=True)
    assert messages.feed(text(b"", (1 << 31) - 1)) == b""
    for _ in range(2047):
        assert messages.feed(bytes(1 << 20)) == b""
    assert messages.feed(bytes((1 << 20) - 1) + KEY) == KEY
    assert messages.feed(text(bytes(MOST_TEXT + 1))) == b""
    assert len(messages.feed(text(bytes(MOST_TEXT)))) == MOST_TEXT + 8
    assert messages.feed(text(b"short")) == text(b"short")


def test_a_pointer_with_more_buttons_is_longer_where_that_was_agreed() -> None:
    longer = struct.pack("!BBHHB", 5, 0x80, 1, 2, 1)
    assert filtered([encodings(EXTENDED_POINTER), longer, KEY]) == encodings(EXTENDED_POINTER) + longer + KEY
    older = struct.pack("!BBHH", 5, 0x80, 1, 2)
    assert filtered([encodings(7), older, KEY]) == encodings(7) + older + KEY


@pytest.mark.parametrize("policy", [{}, {"view_only": True}, {"clipboard": False}])
def test_a_person_is_noticed_whatever_is_allowed(policy: dict[str, bool]) -> None:
    messages = made(**policy)
    for message in HARMLESS:
        messages.feed(message)
    assert messages.inputs == 0
    for message in (KEY, POINTER, QEMU_KEY, text(b"x")):
        before = messages.inputs
        messages.feed(message)
        assert messages.inputs > before


@pytest.mark.parametrize(
    "broken",
    [b"\x63", b"\xff\x01\0\0", struct.pack("!BxH", 2, 1025), struct.pack("!BxxxIB", 248, 0, 65)],
)
def test_what_cannot_be_followed_ends_the_session(broken: bytes) -> None:
    with pytest.raises(RfbError):
        filtered([KEY, broken])


def test_one_pixel_format_where_the_server_is_followed() -> None:
    def messages() -> ClientMessages:
        return ClientMessages(view_only=False, clipboard=False, followed=lambda offered: offered[:1])

    assert messages().feed(FORMAT + encodings(7, 5) + REQUEST) == FORMAT + encodings(7) + REQUEST
    with pytest.raises(RfbError, match="before it has said"):
        messages().feed(REQUEST)
    # the server's own will do
    native = messages()
    native.server_format(FORMAT[4:])
    assert native.feed(REQUEST) == REQUEST
    native.server_format(struct.pack("!BBBBHHHBBBxxx", 16, 16, 0, 1, 31, 63, 31, 11, 5, 0))
    with pytest.raises(RfbError, match="before it has said"):
        native.feed(REQUEST)
    with pytest.raises(RfbError, match="not 24 bits"):
        messages().feed(struct.pack("!BxxxBBBBHHHBBBxxx", 0, 16, 16, 0, 1, 31, 63, 31, 11, 5, 0))


@given(st.lists(st.binary(max_size=64), max_size=20), st.booleans(), st.booleans())
def test_whatever_a_browser_sends(pieces: list[bytes], view_only: bool, clipboard: bool) -> None:
    messages = ClientMessages(view_only=view_only, clipboard=clipboard)
    sent = b""
    try:
        for piece in pieces:
            sent += messages.feed(piece)
    except RfbError:
        pass
    assert len(sent) <= sum(map(len, pieces))
