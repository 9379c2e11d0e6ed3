"""The interfaces section: what is refused, and where the error points."""

from __future__ import annotations

from typing import Any

import pytest

from appliance.services.interfaces.model import Interfaces
from tests.documents import CONTROL_MAC, small_state
from tests.unit.router.refused import assert_refused, problems

NIC = {"name": "eth3", "mac": "02:00:00:00:00:03", "role": "guest", "addresses": ["10.2.0.1/16"]}


@pytest.mark.parametrize(
    ("path", "value", "field", "message"),
    [
        ("0.name", "eth 0", "0.name", "1 to 15 of"),
        ("1.name", "eth0", "1.name", "eth0 is given to two interfaces"),
        ("0.mac", "zz", "0.mac", "six hexadecimal pairs"),
        ("0.role", "dmz", "0.role", "'guest'"),
        ("0.mtu", 100, "0.mtu", "greater than or equal to 576"),
        ("0.mtu", "1500", "0.mtu", "valid integer"),
        ("0.addresses", ["10.1.1.1"], "0.addresses.0", "must have a prefix length"),
        ("0.addresses", ["10.1.1.1/24", "fe80::1/64"], "0.addresses.1", "IPv4 interface"),
        ("0.gateway", "10.1.1.1", "0.gateway", "leave it out"),
        ("2.gateway", "198.51.100.1", "2.gateway", "198.51.100.1 is in none of"),
        ("0.speed", 1000, "0.speed", "Extra inputs"),
        ("+", {**NIC, "mac": CONTROL_MAC}, "3.mac", f"{CONTROL_MAC} is given to two interfaces"),
        ("+", {**NIC, "mac": CONTROL_MAC.upper()}, "3.mac", f"{CONTROL_MAC} is given to two interfaces"),
        ("+", {**NIC, "name": "eth1"}, "3.name", "eth1 is given to two interfaces"),
        ("+", {**NIC, "addresses": ["10.1.0.1/16"]}, "3.addresses.0", "overlaps 10.1.1.0/24 of eth0"),
        ("+", {**NIC, "role": "private-gateway", "addresses": ["10.1.1.1/30"]}, "3.addresses.0", "is given twice"),
        ("+", {**NIC, "role": "control", "addresses": ["169.254.0.9/16"]}, "", "exactly one interface"),
        ("1.role", "private-gateway", "", "exactly one interface must have the role control, not 0"),
    ],
)
def test_refused(path: str, value: Any, field: str, message: str) -> None:
    prefix = "interfaces.interfaces"
    told = problems(f"{prefix}.{path}", value)
    assert (f"{prefix}.{field}" if field else prefix) in [name for name, _ in told], told
    assert any(message in text for _, text in told)


def test_overlapping_subnets_on_one_interface_are_fine() -> None:
    """A public range and a secondary guest range can share an interface."""
    section = small_state()["interfaces"]
    section["interfaces"][0]["addresses"].append("10.1.1.129/25")
    assert len(Interfaces.model_validate(section).interfaces[0].subnets) == 2


def test_subnets_are_named_once() -> None:
    section = small_state()["interfaces"]
    assert [str(net) for net in Interfaces.model_validate(section).interfaces[2].subnets] == ["203.0.113.0/24"]


@pytest.mark.parametrize(
    ("field", "value"),
    [("group", 0), ("group", 256), ("priority", 255), ("peer", "169.254.0.9/16"), ("state", "backup")],
)
def test_redundancy(field: str, value: object) -> None:
    pair = {"state": "active", "group": 7, "priority": 100, "peer": "169.254.0.9"}
    assert Interfaces.model_validate({**small_state()["interfaces"], "redundancy": pair}).redundancy is not None
    assert_refused("interfaces.redundancy", {**pair, field: value}, f"interfaces.redundancy.{field}", "")


def test_route() -> None:
    assert_refused(
        "interfaces.routes",
        [{"destination": "10.9.0.1/16", "gateway": "10.1.1.9"}],
        "interfaces.routes.0.destination",
        "",
    )
