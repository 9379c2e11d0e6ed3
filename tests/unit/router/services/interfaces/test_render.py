"""Ruleset of the interfaces section."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings

from router.document import RouterState
from router.services.interfaces.render import render
from tests.documents import small_state
from tests.unit.router.golden import assert_ruleset
from tests.unit.router.strategies import states

HERE = Path(__file__).parent


def two_publics() -> RouterState:
    raw = small_state()
    raw["interfaces"]["interfaces"] += [
        {
            "name": "eth3",
            "mac": "02:00:c6:33:64:02",
            "role": "public",
            "addresses": ["198.51.100.2/24"],
            "gateway": "198.51.100.1",
        },
        {"name": "eth4", "mac": "02:00:0a:01:02:01", "role": "guest", "addresses": ["10.1.2.1/24"]},
    ]
    raw["nat"]["source"].append({"interface": "eth4", "address": "198.51.100.2"})
    return RouterState.model_validate(raw)


def test_one_public_interface() -> None:
    state = RouterState.model_validate(small_state())
    assert_ruleset(render(state.interfaces, state.nat), HERE / "golden.nft")


def test_two_public_interfaces() -> None:
    state = two_publics()
    assert_ruleset(render(state.interfaces, state.nat), HERE / "golden-two.nft")


@settings(max_examples=25)
@given(states())
def test_the_same_state_renders_the_same(raw: dict[str, object]) -> None:
    one, other = RouterState.model_validate(raw), RouterState.model_validate(raw)
    assert render(one.interfaces, one.nat) == render(other.interfaces, other.nat)
