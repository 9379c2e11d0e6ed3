"""Ruleset of the nat section."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import given, settings

from router.document import RouterState
from router.memo import EntryMemo
from router.services.nat.model import PortForward
from router.services.nat.render import forward_elements, render
from tests.documents import small_state
from tests.unit.router.golden import assert_ruleset
from tests.unit.router.strategies import states


def test_golden() -> None:
    state = RouterState.model_validate(small_state())
    assert state.nat is not None
    ruleset = render(state.nat, state.interfaces, EntryMemo(forward_elements))
    assert_ruleset(ruleset, Path(__file__).parent / "golden.nft")


# a shifted range may be 65,535 elements
@settings(max_examples=10, deadline=None)
@given(states(), states())
def test_what_was_rendered_before_does_not_matter(raw: dict[str, Any], other: dict[str, Any]) -> None:
    memo = EntryMemo(forward_elements)
    for one in (other, raw):
        state = RouterState.model_validate(one)
        if state.nat is not None:
            used = render(state.nat, state.interfaces, memo)
            assert used == render(state.nat, state.interfaces, EntryMemo(forward_elements))


def forward(ports: tuple[int, int], guest_ports: tuple[int, int]) -> PortForward:
    return PortForward.model_validate(
        {
            "id": "one",
            "address": "203.0.113.2",
            "protocol": "udp",
            "ports": {"first": ports[0], "last": ports[1]},
            "guest": "10.1.1.10",
            "guest_ports": {"first": guest_ports[0], "last": guest_ports[1]},
        }
    )


def test_a_range_that_keeps_its_ports_is_one_element() -> None:
    assert forward_elements(forward((1, 65535), (1, 65535))) == ((), (("1-65535 . 203.0.113.2 . udp", "10.1.1.10"),))


def test_a_shifted_range_is_an_element_a_port() -> None:
    assert forward_elements(forward((80, 81), (8080, 8081))) == (
        (("203.0.113.2 . udp . 80", "10.1.1.10 . 8080"), ("203.0.113.2 . udp . 81", "10.1.1.10 . 8081")),
        (),
    )
