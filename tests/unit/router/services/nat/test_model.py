"""The NAT section: what is refused, where the error points, and that every overlap of ports is found."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from router.services.nat.model import Nat
from tests.unit.router.refused import assert_refused, problems


def forward(
    identity: str, first: int, last: int, address: str = "203.0.113.2", protocol: str = "tcp"
) -> dict[str, Any]:
    ports = {"first": first, "last": last}
    return {
        "id": identity,
        "address": address,
        "protocol": protocol,
        "ports": ports,
        "guest": "10.1.1.10",
        "guest_ports": ports,
    }


@pytest.mark.parametrize(
    ("path", "value", "field", "message"),
    [
        ("source.+", {"interface": "eth0", "address": "203.0.113.4"}, "source.1.interface", "has source NAT already"),
        ("static.+", {"address": "203.0.113.3", "guest": "10.1.1.12"}, "static.1.address", "203.0.113.3 is in use"),
        (
            "static.+",
            {"address": "203.0.113.9", "guest": "10.1.1.11"},
            "static.1.guest",
            "10.1.1.11 has static NAT already",
        ),
        ("forwards.+", forward("forward-1", 80, 80), "forwards.2.id", "forward-1 is given twice"),
        ("forwards.+", forward("f", 2222, 2222), "forwards.2.ports", "f takes tcp ports 2222 of 203.0.113.2, of which"),
        ("forwards.+", forward("f", 1, 65535), "forwards.2.ports", "f takes tcp ports 1-65535 of 203.0.113.2"),
        ("forwards.+", forward("f", 80, 80, "203.0.113.3"), "forwards.2.address", "f: 203.0.113.3 is in use by static"),
        ("forwards.+", forward("f", 90, 80), None, "f: last (80) must not be below first (90)"),
        ("forwards.0.ports.first", 0, "forwards.0.ports.first", "forward-1: "),
        ("forwards.0.ports", 80, "forwards.0.ports", "forward-1: "),
        ("forwards.0.protocol", "sctp", "forwards.0.protocol", "'tcp' or 'udp'"),
        ("forwards.0.guest", "10.1.1.0/24", "forwards.0.guest", "forward-1: "),
        (
            "forwards.0.guest_ports",
            {"first": 22, "last": 23},
            "forwards.0.guest_ports",
            "forward-1: 22-23 must be as many ports as 2222",
        ),
    ],
)
def test_refused(path: str, value: Any, field: str | None, message: str) -> None:
    if field is None:
        assert [text for _, text in problems(f"nat.{path}", value)] == [message] * 2
    else:
        assert_refused(f"nat.{path}", value, f"nat.{field}", message)


def test_same_ports_on_another_address_or_protocol() -> None:
    forwards = [
        forward("a", 80, 90),
        forward("b", 80, 90, protocol="udp"),
        forward("c", 80, 90, "203.0.113.4"),
        forward("d", 91, 91),
    ]
    assert len(Nat.model_validate({"forwards": forwards}).forwards) == 4


ranges = st.lists(
    st.tuples(st.integers(1, 40), st.integers(0, 6), st.sampled_from(["tcp", "udp"]), st.integers(1, 2)), max_size=12
)


@given(ranges)
def test_overlaps_are_those_of_brute_force(drawn: list[tuple[int, int, str, int]]) -> None:
    entries = [
        (f"f{index}", first, first + more, f"203.0.113.{address}", protocol)
        for index, (first, more, protocol, address) in enumerate(drawn)
    ]
    pairs = {
        (i, j)
        for j, (_, low, high, address, protocol) in enumerate(entries)
        for i, (_, first, last, other, kind) in enumerate(entries[:j])
        if (address, protocol) == (other, kind) and low <= last and first <= high
    }
    raw = {"forwards": [forward(*entry) for entry in entries]}
    try:
        Nat.model_validate(raw)
        told = []
    except ValidationError as error:
        told = error.errors()
    assert bool(told) == bool(pairs)
    for detail in told:
        later = detail["loc"][1]
        assert detail["loc"] == ("forwards", later, "ports")
        # the message names an entry which really is in the way
        assert any(f"of which f{i} has" in detail["msg"] for i, j in pairs if j == later)
