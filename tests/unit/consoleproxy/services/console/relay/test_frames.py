"""WebSocket frames: the stream that they carry, however it is cut, and browsers that break the rules."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consoleproxy.services.console.relay.frames import BINARY, CLOSE, PING, FrameError, Frames, close, header, unmask
from tests.unit.consoleproxy.rfb.test_client import PLACES, cut


def frame(
    payload: bytes, opcode: int = BINARY, mask: bytes = b"\1\2\3\4", *, final: bool = True, wide: int = 0
) -> bytes:
    size = len(payload)
    if wide == 8 or size > 65535:
        length = struct.pack("!BQ", 0x80 | 127, size)
    elif wide == 2 or size > 125:
        length = struct.pack("!BH", 0x80 | 126, size)
    else:
        length = bytes([0x80 | size])
    return bytes([0x80 * final | opcode]) + length + mask + unmask(mask, payload)


def stream(pieces: list[bytes]) -> tuple[bytes, list[tuple[int, bytes]]]:
    """The octets of binary frames, and the control frames."""
    frames = Frames()
    data, control = b"", []
    for piece in pieces:
        for opcode, payload in frames.feed(piece):
            if opcode == BINARY:
                data += payload
            else:
                control.append((opcode, payload))
    return data, control


@given(
    st.lists(
        st.tuples(st.binary(max_size=300), st.binary(min_size=4, max_size=4), st.sampled_from([0, 2, 8])), max_size=6
    ),
    PLACES,
)
def test_a_stream_in_frames(parts: list[tuple[bytes, bytes, int]], places: list[int]) -> None:
    wire = b"".join(frame(payload, mask=mask, wide=wide) + frame(b"hi", PING) for payload, mask, wide in parts)
    data, control = stream(cut(wire, places))
    assert data == b"".join(payload for payload, _, _ in parts)
    assert control == [(PING, b"hi")] * len(parts)


def test_fragments_with_a_ping_between() -> None:
    wire = frame(b"one ", final=False) + frame(b"", PING) + frame(b"two ", 0, final=False) + frame(b"three", 0)
    assert stream([wire]) == (b"one two three", [(PING, b"")])


def test_a_frame_of_any_length_is_not_held() -> None:
    frames = Frames()
    head = bytes([0x82, 0xFF]) + struct.pack("!Q", 1 << 40) + bytes(4)
    assert list(frames.feed(head)) == []
    for _ in range(3):
        assert list(frames.feed(b"x" * 1000)) == [(BINARY, b"x" * 1000)]


@pytest.mark.parametrize(
    ("wire", "code"),
    [
        (b"\xc2\x80" + bytes(4), 1002),
        (b"\x82\x05hello" + bytes(4), 1002),
        (frame(b"text", 1), 1003),
        (frame(b"", 3), 1002),
        (frame(b"", 11), 1002),
        (frame(b"", 0), 1002),
        (frame(b"a", final=False) + frame(b"b"), 1002),
        (frame(b"", PING, final=False), 1002),
        (frame(bytes(126), PING), 1002),
    ],
)
def test_rules_broken(wire: bytes, code: int) -> None:
    with pytest.raises(FrameError) as caught:
        stream([wire])
    assert caught.value.code == code


@given(st.integers(0, 1 << 40))
def test_headers(size: int) -> None:
    made = header(size)
    assert made[0] == 0x82
    assert len(made) == (2 if size < 126 else 4 if size < 65536 else 10)
    told = made[1] if size < 126 else int.from_bytes(made[2:], "big")
    assert told == size


def test_a_farewell_is_never_too_long() -> None:
    made = close(4000, "ä" * 200)
    assert made[:2] == bytes([0x88, 125])
    assert stream([frame(made[2:], CLOSE)])[1][0][1][:2] == b"\x0f\xa0"


@given(st.lists(st.binary(max_size=64), max_size=20))
def test_whatever_comes(pieces: list[bytes]) -> None:
    try:
        data, _ = stream(pieces)
    except FrameError:
        return
    assert len(data) <= sum(map(len, pieces))
