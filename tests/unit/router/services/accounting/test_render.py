"""Ruleset of the accounting section."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path

from router.document import RouterState
from router.services.accounting.model import Accounting, Subject
from router.services.accounting.render import render
from router.services.accounting.totals import SETS
from tests.documents import small_state
from tests.unit.router.golden import assert_ruleset

STATE = RouterState.model_validate(small_state())


def test_golden() -> None:
    assert_ruleset(render(Accounting(), STATE.interfaces, STATE.dhcp), Path(__file__).parent / "golden.nft")


def test_every_set_is_counted_and_reported() -> None:
    vpn = (Subject(id="user-1", address=IPv4Address("10.1.2.2")),)
    sets = render(Accounting(vpn=vpn), STATE.interfaces, STATE.dhcp).sets
    assert {name for name, some in sets.items() if some.counted} == SETS.keys()


def test_nothing_counted_is_nothing_rendered() -> None:
    ruleset = render(Accounting(guests=False, public=False), STATE.interfaces, STATE.dhcp)
    assert not ruleset.chains
    assert not ruleset.sets
