"""The proxy as a VNC server without security, towards browsers of every version and towards none."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consoleproxy.rfb.errors import RfbError
from consoleproxy.rfb.greeting import Greeting, refusal
from tests.unit.consoleproxy.rfb.test_client import PLACES, cut

OK = struct.pack("!I", 0)


@pytest.mark.parametrize(
    ("said", "answers"),
    [
        (b"RFB 003.008\n\1\1", b"\1\1" + OK),
        (b"RFB 003.007\n\1\0", b"\1\1"),
        (b"RFB 003.003\n\1", struct.pack("!I", 1)),
    ],
)
@given(places=PLACES, behind=st.binary(max_size=20))
def test_versions(said: bytes, answers: bytes, places: list[int], behind: bytes) -> None:
    greeting = Greeting()
    answered = rest = b""
    for piece in cut(said + behind, places):
        if greeting.done:
            rest += piece
            continue
        answer, left = greeting.feed(piece)
        answered += answer
        rest += left
    assert greeting.done
    assert greeting.shared == (said[-1] == 1)
    assert (answered, rest) == (answers, behind)


@pytest.mark.parametrize("said", [b"RFB 003.008\n\2", b"RFB 004.000\n", b"GET / HTTP/1.1"])
def test_others(said: bytes) -> None:
    with pytest.raises(RfbError):
        Greeting().feed(said)


def test_a_refusal_says_why() -> None:
    assert refusal("no") == b"\0" + struct.pack("!I", 2) + b"no"


@given(st.lists(st.binary(max_size=30), max_size=10))
def test_whatever_comes(pieces: list[bytes]) -> None:
    greeting = Greeting()
    try:
        for piece in pieces:
            answer, _ = greeting.feed(piece)
            assert len(answer) <= 6
            if greeting.done:
                break
    except RfbError:
        pass
