"""The DHCP and DNS section: what is refused, and where the error points."""

from __future__ import annotations

from typing import Any

import pytest

from router.services.dhcp.model import Dhcp
from tests.documents import small_state
from tests.unit.router.refused import assert_refused

NETWORK = {"interface": "eth0", "subnet": "10.1.1.0/24", "gateway": "10.1.1.1", "domain": "b.example"}
OTHER = NETWORK | {"subnet": "10.1.2.0/24", "gateway": "10.1.2.1"}


@pytest.mark.parametrize(
    ("path", "value", "field", "message"),
    [
        (
            "networks.+",
            NETWORK | {"domain": "a.example"},
            "networks.1.subnet",
            "eth0 has a DHCP network for 10.1.1.0/24",
        ),
        ("networks.+", OTHER | {"domain": "b.example"}, "networks.1.domain", "eth0 has the domain a.example already"),
        ("networks.0.server", "10.1.2.1", "networks.0.server", "10.1.2.1 is not in 10.1.1.0/24"),
        ("networks.0.subnet", "10.1.1.5/24", "networks.0.subnet", "IPv4 network"),
        ("networks.0.gateway", "10.1.2.1", "networks.0.gateway", "10.1.2.1 is not in 10.1.1.0/24"),
        ("networks.0.domain", "a b", "networks.0.domain", "letters, digits"),
        ("networks.0.search", ["a.example", "b,c"], "networks.0.search.1", "letters, digits"),
        ("networks.0.mtu", 500, "networks.0.mtu", "576"),
        ("networks.0.lease", 60, "networks.0.lease", "120"),
        ("networks.0.lease", True, "networks.0.lease", "integer"),
        ("networks.0.routes", [{"destination": "10.0.0.0/8"}], "networks.0.routes.0.gateway", "required"),
        ("hosts.1.id", "nic-1", "hosts.1.id", "nic-1 is given to two guests"),
        ("hosts.1.mac", "02:00:0A:01:01:0A", "hosts.1.mac", "nic-2: 02:00:0a:01:01:0a is given to two guests"),
        ("hosts.1.address", "10.1.1.10", "hosts.1.address", "nic-2: 10.1.1.10 is given to two guests"),
        ("hosts.1.name", "VM1", "hosts.1.name", "nic-2: vm1 is given to two guests"),
        ("hosts.1.name", "vm2\nx", "hosts.1.name", "letters, digits"),
        ("hosts.1.interface", "eth5", "hosts.1.interface", "eth5 has no DHCP network"),
        ("hosts.1.address", "10.1.2.11", "hosts.1.address", "nic-2: 10.1.2.11 is no guest address of eth0's subnet"),
        ("hosts.1.address", "10.1.1.0", "hosts.1.address", "no guest address"),
        ("hosts.1.address", "10.1.1.255", "hosts.1.address", "no guest address"),
        ("hosts.1.address", "10.1.1.1", "hosts.1.address", "10.1.1.1 is the router's own"),
        ("hosts.1.default", "yes", "hosts.1.default", "boolean"),
        ("records.0.name", "", "records.0.name", "letters, digits"),
        ("resolvers.0", "dns.example", "resolvers.0", "IPv4"),
        ("expose_resolvers", 1, "expose_resolvers", "boolean"),
    ],
)
def test_refused(path: str, value: Any, field: str, message: str) -> None:
    assert_refused(f"dhcp.{path}", value, f"dhcp.{field}", message)


def test_one_mac_and_one_name_may_stand_on_two_networks() -> None:
    section = small_state()["dhcp"]
    section["networks"].append({**NETWORK, "interface": "eth3", "subnet": "10.1.2.0/24", "gateway": "10.1.2.1"})
    section["hosts"].append({**section["hosts"][0], "id": "nic-3", "interface": "eth3", "address": "10.1.2.10"})
    assert len(Dhcp.model_validate(section).hosts) == 3
