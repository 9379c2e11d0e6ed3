"""Ruleset of the accounting section."""

from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path

from router.document import RouterState
from router.services.accounting.model import Accounting, VpnSubject
from router.services.accounting.render import render
from router.services.accounting.totals import SETS
from tests.documents import small_state
from tests.unit.router.golden import assert_ruleset

STATE = RouterState.model_validate(small_state())


def test_golden() -> None:
    assert_ruleset(render(Accounting(), STATE.interfaces, STATE.dhcp), Path(__file__).parent / "golden.nft")


def test_every_set_is_counted_and_reported() -> None:
    networks = tuple(map(IPv4Network, ("10.1.2.0/24", "10.1.4.0/24", "10.2.0.0/16")))
    vpn = (VpnSubject(id="connection-1", networks=networks),)
    ruleset = render(Accounting(vpn=vpn), STATE.interfaces, STATE.dhcp)
    counted = {name for name, some in ruleset.sets.items() if some.counted}
    assert counted < SETS.keys()
    assert {name for name in counted if SETS[name][0] == "vpn"} == {
        "account_vpn16_in",
        "account_vpn16_out",
        "account_vpn24_in",
        "account_vpn24_out",
    }
    assert ruleset.sets["account_vpn24_in"].elements == {"10.1.2.0": "", "10.1.4.0": ""}
    assert (200, "ip saddr & 255.255.0.0 @account_vpn16_in") in ruleset.rules["account_forward"]


def test_nothing_counted_is_nothing_rendered() -> None:
    ruleset = render(Accounting(guests=False, public=False), STATE.interfaces, STATE.dhcp)
    assert not ruleset.chains
    assert not ruleset.sets
