"""Segments that hosts share over a physical network: two fabrics, a cable between them, and packets."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from appliance.run import run
from controlplane.hypervisors.base import HypervisorError, Nic, Segment, Wire
from controlplane.hypervisors.bridges import bridge_name, uplink_name
from controlplane.hypervisors.namespace.fabric import Fabric
from tests import uml
from tests.wait import wait_for

CABLE_MTU = 1550


class Site:
    """One host: a fabric whose end of the cable is ``phys0``, and stations on its segments."""

    def __init__(self, directory: Path, number: int) -> None:
        self.fabric = Fabric(directory)
        self.fabric.open()
        self.pin = directory / "net"
        self.number = number
        self.stations: list[subprocess.Popen[bytes]] = []

    def run(self, *argv: str) -> str:
        return run(["nsenter", f"--net={self.pin}", *argv]).stdout

    def station(self, segment: str, address: str) -> list[str]:
        """A machine on a segment; the words that run a command in it."""
        process = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        self.stations.append(process)
        own = Path("/proc/self/ns/net").readlink()
        wait_for(lambda: Path(f"/proc/{process.pid}/ns/net").readlink() != own, 5, "the station's namespace")
        number = len(self.stations)
        nic = Nic(f"02:00:00:00:0{self.number}:0{number}", segment)
        self.fabric.plug(f"g-{self.number}-{number}", nic, process.pid, "eth0")
        inside = ["nsenter", "-t", str(process.pid), "-n"]
        run([*inside, "ip", "address", "add", address, "dev", "eth0"])
        run([*inside, "ip", "link", "set", "eth0", "up"])
        return inside

    def close(self) -> None:
        for process in self.stations:
            process.kill()
            process.wait()
        self.fabric.remove()


@pytest.fixture
def sites(tmp_path: Path) -> Iterator[tuple[Site, Site]]:
    one, two = Site(tmp_path / "one", 1), Site(tmp_path / "two", 2)
    try:
        one.run("ip", "link", "add", "phys0", "mtu", str(CABLE_MTU), "type", "veth", "peer", "name", "cable")
        one.run("ip", "link", "set", "cable", "netns", str(two.pin))
        two.run("ip", "link", "set", "cable", "mtu", str(CABLE_MTU), "name", "phys0")
        for site in (one, two):
            site.run("ip", "address", "add", f"192.0.2.{site.number}/24", "dev", "phys0")
            site.run("ip", "link", "set", "phys0", "up")
        yield one, two
    finally:
        one.close()
        two.close()


def reaches(inside: list[str], address: str, *options: str) -> bool:
    return run([*inside, "busybox", "ping", "-c", "1", "-W", "1", *options, address], check=False).returncode == 0


def shared(sites: tuple[Site, Site], name: str, wire: Wire | None, mtu: int = 1500) -> list[list[str]]:
    """A segment on both hosts with a station 10.0.0.1 and 10.0.0.2 on it."""
    stations = []
    for site in sites:
        site.fabric.ensure_segment(Segment(name, mtu, wire))
        stations.append(site.station(name, f"10.0.0.{site.number}/24"))
    return stations


def check_wire(sites: tuple[Site, Site], isolation: str) -> None:
    """Stations with one tag reach each other with full packets; those with another tag, or none, do not."""
    wires = [Wire("phys0", isolation, tag) for tag in (5, 6)]  # type: ignore[arg-type]
    ours, theirs = shared(sites, "guest-a", wires[0])
    wait_for(lambda: reaches(ours, "10.0.0.2"), 10, "the other host")
    assert reaches(theirs, "10.0.0.1", "-s", str(1500 - 28))
    sites[0].fabric.ensure_segment(Segment("guest-b", wire=wires[1]))
    stranger = sites[0].station("guest-b", "10.0.0.3/24")
    assert not reaches(stranger, "10.0.0.2")
    # the wire can be changed: both are on the other tag now
    for site in sites:
        site.fabric.remove_segment("guest-b")
    sites[0].fabric.ensure_segment(Segment("guest-a", wire=wires[1]))
    assert not reaches(ours, "10.0.0.2")
    sites[1].fabric.ensure_segment(Segment("guest-a", wire=wires[1]))
    wait_for(lambda: reaches(ours, "10.0.0.2"), 10, "the other host again")
    for site in sites:
        site.fabric.remove_segment("guest-a")
        left = site.run("ip", "-o", "link")
        assert bridge_name("guest-a") not in left and uplink_name("guest-a") not in left


def test_vxlan_carries_a_segment_to_another_host(sites: tuple[Site, Site]) -> None:
    check_wire(sites, "vxlan")


if uml.INSIDE:

    def test_vlan_carries_a_segment(sites: tuple[Site, Site]) -> None:
        check_wire(sites, "vlan")

else:

    def test_vlan_carries_a_segment_to_another_host(tmp_path: Path) -> None:
        """In User-Mode Linux: many kernels that tests run on have no VLANs."""
        done = uml.run_tests(tmp_path, [f"{__file__}::test_vlan_carries_a_segment"], ("8021q", "veth", "bridge"))
        assert "1 passed" in done


def test_an_untagged_wire_is_a_bridge_of_the_hosts(sites: tuple[Site, Site]) -> None:
    for site in sites:
        site.run("ip", "link", "add", "cloudbr0", "mtu", str(CABLE_MTU), "type", "bridge")
        site.run("ip", "link", "set", "cloudbr0", "up")
        site.run("ip", "link", "set", "phys0", "master", "cloudbr0")
    ours, _ = shared(sites, "public-a", Wire("cloudbr0", "untagged"))
    wait_for(lambda: reaches(ours, "10.0.0.2"), 10, "the other host")
    with pytest.raises(HypervisorError, match=r"phys0 .* must be a bridge"):
        sites[0].fabric.ensure_segment(Segment("public-b", wire=Wire("phys0", "untagged")))


def test_without_a_wire_a_segment_is_of_one_host(sites: tuple[Site, Site]) -> None:
    ours, _ = shared(sites, "guest-a", None)
    assert not reaches(ours, "10.0.0.2")


def test_what_does_not_fit_is_refused_and_leaves_nothing(sites: tuple[Site, Site]) -> None:
    fabric = sites[0].fabric
    with pytest.raises(HypervisorError, match=r"nic9, which this host does not have"):
        fabric.ensure_segment(Segment("guest-a", wire=Wire("nic9", "vxlan", 5)))
    with pytest.raises(HypervisorError, match=r"needs one of 1551 on phys0, which has 1550; .* an MTU of 1500"):
        fabric.ensure_segment(Segment("guest-a", 1501, Wire("phys0", "vxlan", 5)))
    assert "guest-a" not in fabric.segments()
    fabric.ensure_segment(Segment("guest-b", wire=Wire("phys0", "vxlan", 5)))
    with pytest.raises(HypervisorError, match="vxlan 5 of phys0 is taken"):
        fabric.ensure_segment(Segment("guest-a", wire=Wire("phys0", "vxlan", 5)))
    assert bridge_name("guest-a") not in sites[0].run("ip", "-o", "link")


def test_segments_come_back_and_a_cable_that_is_gone_stops_nobody(sites: tuple[Site, Site]) -> None:
    one, two = sites
    ours, _ = shared(sites, "guest-a", Wire("phys0", "vxlan", 5))
    one.fabric.close()
    with suppress(HypervisorError):
        one.run("ip", "link", "del", uplink_name("guest-a"))
    one.fabric.open()
    wait_for(lambda: reaches(ours, "10.0.0.2"), 10, "the other host")
    one.fabric.close()
    one.run("ip", "link", "del", "phys0")
    one.fabric.open()
    assert "guest-a" in one.fabric.segments()
    two.fabric.remove_segment("guest-a")
