from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from controlplane.hypervisors.bridges import bridge_mac, bridge_name, port_name
from controlplane.hypervisors.namespace.fabric import names


@given(st.lists(st.text(min_size=1, max_size=80), unique=True, max_size=20))
def test_interface_names_fit_and_differ(segments: list[str]) -> None:
    found = [bridge_name(name) for name in segments]
    assert all(len(name) <= 15 and name.isalnum() for name in found)
    assert len(set(found)) == len(segments)


def test_a_port_is_of_one_instance_and_one_mac() -> None:
    ports = [port_name(instance, mac) for instance in ("a", "b") for mac in ("02:00:00:00:00:0a", "02:00:00:00:00:0b")]
    assert all(one != two for one, two in combinations(ports, 2))
    assert port_name("a", "02:00:00:00:00:0A") == port_name("a", "02:00:00:00:00:0a")


def test_bridge_macs_are_local_unicast_and_stay() -> None:
    assert bridge_mac("control") == bridge_mac("control") != bridge_mac("guest-1")
    # of each host its own, or they could not talk to each other
    assert bridge_mac("control", "169.254.0.2") != bridge_mac("control") == bridge_mac("control", "169.254.0.1")
    first = int(bridge_mac("control").split(":", 1)[0], 16)
    assert first & 0b11 == 0b10


def test_names_to_try_go_up_from_the_first() -> None:
    assert names("eth1", 3) == ["eth1", "eth2", "eth3"]
