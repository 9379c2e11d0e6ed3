"""Addresses, routes and policy rules of a plan."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from appliance.services.interfaces.plan import MAIN_TABLE, RouteEntry, RuleEntry, plan
from router.document import RouterState
from tests.documents import small_state
from tests.unit.router.services.interfaces.test_render import two_publics

ANYWHERE = IPv4Network("0.0.0.0/0")
FURTHER = {"eth0": IPv4Interface("169.254.169.254/32")}


def test_one_public_interface_needs_no_policy_rules() -> None:
    state = RouterState.model_validate(small_state())
    made = plan(state.interfaces, FURTHER, forward=True)
    assert [nic.name for nic in made.links] == ["eth0", "eth2"], "the control interface is the agent's"
    assert made.addresses == {
        "eth0": (IPv4Interface("10.1.1.1/24"), FURTHER["eth0"]),
        "eth2": tuple(IPv4Interface(f"203.0.113.{last}/24") for last in (2, 3, 4)),
    }
    gateway, source = IPv4Address("203.0.113.1"), IPv4Address("203.0.113.2")
    assert made.routes == {RouteEntry(MAIN_TABLE, ANYWHERE, gateway, "eth2", source)}
    assert made.rules == frozenset()
    assert made.sysctls["net/ipv4/ip_forward"] == "1"
    assert not any("eth1" in name for name in made.sysctls)


def test_an_appliance_forwards_only_when_it_is_told_to() -> None:
    made = plan(RouterState.model_validate(small_state()).interfaces)
    assert made.sysctls["net/ipv4/ip_forward"] == "0"
    assert made.addresses["eth0"] == (IPv4Interface("10.1.1.1/24"),)


def test_a_second_public_interface_has_a_table_of_its_own() -> None:
    made = plan(two_publics().interfaces)
    second = RouteEntry(101, ANYWHERE, IPv4Address("198.51.100.1"), "eth3", IPv4Address("198.51.100.2"))
    assert second in made.routes
    assert sorted(made.rules) == [
        RuleEntry(1000, MAIN_TABLE, specific_only=True),
        RuleEntry(1001, 101, mark=0x1000000),
        RuleEntry(1002, 101, source=IPv4Address("198.51.100.2")),
    ]


def test_static_routes_are_in_the_main_table() -> None:
    raw = small_state()
    raw["interfaces"]["routes"] = [{"destination": "10.8.0.0/16", "gateway": "203.0.113.9"}]
    made = plan(RouterState.model_validate(raw).interfaces)
    assert RouteEntry(MAIN_TABLE, IPv4Network("10.8.0.0/16"), IPv4Address("203.0.113.9")) in made.routes


def test_a_standby_router_holds_no_address() -> None:
    raw = small_state()
    raw["interfaces"]["redundancy"] = {"state": "standby", "group": 1, "priority": 100, "peer": "169.254.0.3"}
    made = plan(RouterState.model_validate(raw).interfaces, FURTHER)
    assert made.addresses == {"eth0": (), "eth2": ()}
    assert (made.routes, made.rules) == (frozenset(), frozenset())
    assert [nic.name for nic in made.links] == ["eth0", "eth2"]
