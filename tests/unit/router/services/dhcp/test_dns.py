from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.services.dhcp import dns

QUESTION = b"\x03vm1\x01a\x00\x00\x01\x00\x01"


def packet(*records: bytes, identity: int = 7, flags: int = 0x8180) -> bytes:
    return struct.pack("!6H", identity, flags, 1, len(records), 0, 0) + QUESTION + b"".join(records)


def record(kind: int, data: bytes) -> bytes:
    return b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 0, len(data)) + data


def test_question() -> None:
    asked = dns.question(7, "vm1.a.", dns.A, dns.INTERNET)
    assert asked == struct.pack("!6H", 7, 0x0100, 1, 0, 0, 0) + QUESTION


def test_addresses_and_texts() -> None:
    answer = dns.parse(packet(record(5, b"\x01b\x00"), record(1, b"\x0a\x01\x01\x0a")), 7, dns.A)
    assert answer == dns.Answer(0, ("10.1.1.10",))
    answer = dns.parse(packet(record(16, b"\x03abc\x02de")), 7, dns.TXT)
    assert answer == dns.Answer(0, ("abcde",))


def test_code() -> None:
    assert dns.parse(packet(flags=0x8183), 7, dns.A) == dns.Answer(3, ())


@pytest.mark.parametrize("other", [packet(identity=8), packet(flags=0x0100)])
def test_other_packets_are_passed_over(other: bytes) -> None:
    assert dns.parse(other, 7, dns.A) is None


@given(st.binary(max_size=120))
def test_garbage_is_an_error_or_an_answer_but_never_a_crash(garbage: bytes) -> None:
    whole = packet(record(1, b"\x0a\x01\x01\x0a"))
    for broken in (struct.pack("!6H", 7, 0x8180, 1, 2, 0, 0) + garbage, whole[: len(garbage)] + garbage):
        try:
            dns.parse(broken, 7, dns.A)
        except ValueError as error:
            assert "malformed" in str(error)
