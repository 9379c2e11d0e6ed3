from __future__ import annotations

import pytest

from controlplane.errors import CapacityError
from controlplane.hypervisors.base import Segment, Wire
from controlplane.network import segments
from tests.rows import Rows


def test_without_labels_segments_are_of_one_host(rows: Rows) -> None:
    network = rows.network(mtu=1400)
    assert segments.of_guests(rows.session, network) == Segment(f"guest-{network.id}", 1400)
    assert network.vni is None
    assert segments.of_public(rows.session, rows.physical.id, "vlan://7").wire is None
    assert segments.of_control(rows.session, rows.zone.id) == Segment("control")


def test_guest_networks_have_numbers_of_their_own(rows: Rows) -> None:
    rows.physical.labels, rows.physical.vlan = {"Guest": "eth1"}, "100-101"
    one, two, three = rows.network(name="a"), rows.network(name="b"), rows.network(name="c")
    assert segments.of_guests(rows.session, one).wire == Wire("eth1", "vlan", 100)
    assert segments.of_guests(rows.session, two).wire == Wire("eth1", "vlan", 101)
    assert segments.of_guests(rows.session, one).wire == Wire("eth1", "vlan", 100)
    with pytest.raises(CapacityError, match="physical network p1 has no VLAN number left"):
        segments.of_guests(rows.session, three)
    rows.physical.vlan = "100-101,200"
    assert segments.of_guests(rows.session, three).wire == Wire("eth1", "vlan", 200)


def test_isolation_by_vxlan_leaves_out_the_control_networks_number(rows: Rows) -> None:
    rows.physical.labels, rows.physical.vlan = {"Guest": "eth1", "Management": "eth0"}, "1-50"
    rows.physical.isolation_methods = ["VXLAN"]
    assert segments.of_guests(rows.session, rows.network()).wire == Wire("eth1", "vxlan", 2)
    assert segments.of_control(rows.session, rows.zone.id) == Segment("control", 1450, Wire("eth0", "vxlan", 1))


def test_public_ranges_are_on_their_vlan_or_on_none(rows: Rows) -> None:
    rows.physical.labels = {"Public": "cloudbr1"}
    tagged = segments.of_public(rows.session, rows.physical.id, "vlan://7")
    assert tagged.wire == Wire("cloudbr1", "vlan", 7)
    untagged = segments.of_public(rows.session, rows.physical.id, "vlan://untagged")
    assert untagged.wire == Wire("cloudbr1", "untagged")
    assert tagged.name != untagged.name
