"""Layer 2: who reaches whom, and that the machine's own network stays as it was."""

from __future__ import annotations

from pathlib import Path

from appliance.run import run
from controlplane.hypervisors.base import GuestSpec, Nic, Segment
from controlplane.hypervisors.bridges import bridge_mac
from controlplane.hypervisors.namespace.driver import NamespaceHypervisor
from tests.netns.hypervisor.machine import look, namespaces_of
from tests.netns.lab import Lab
from tests.wait import wait_for


def neighbour(output: str) -> str:
    """The MAC in ``ip neighbour`` output."""
    return output.split("lladdr ")[1].split(maxsplit=1)[0]


def echoes(snmp: str) -> int:
    """Echo requests received, of /proc/net/snmp."""
    names, values = (line.split() for line in snmp.splitlines() if line.startswith("Icmp:"))
    return int(values[names.index("InEchos")])


def test_networks_with_the_same_addresses_do_not_meet(lab: Lab) -> None:
    one, two = lab.segment(), lab.segment()
    here = lab.guest(one, address="10.1.1.5/24")
    friend = lab.guest(one, address="10.1.1.6/24")
    twin = lab.guest(two, address="10.1.1.6/24")
    stranger = lab.guest(two, address="10.1.1.7/24")

    assert here.ping("10.1.1.6")
    assert neighbour(here.run(["ip", "neighbour", "show", "10.1.1.6"]).stdout) == friend.mac
    assert stranger.ping("10.1.1.6")
    assert neighbour(stranger.run(["ip", "neighbour", "show", "10.1.1.6"]).stdout) == twin.mac
    assert not here.ping("10.1.1.7")
    assert not stranger.ping("10.1.1.5")


def test_appliances_reach_the_control_plane_but_not_each_other(lab: Lab) -> None:
    one = lab.guest("control", address="169.254.9.1/16")
    two = lab.guest("control", address="169.254.9.2/16")

    assert one.ping("169.254.0.1")
    assert two.ping("169.254.0.1")
    assert not one.ping("169.254.9.2")


def test_no_way_leads_from_a_guest_s_network_to_the_control_network(lab: Lab) -> None:
    """The fabric's bridges are interfaces of a host, which must neither answer nor pass on what guests send to it."""
    machine = lab.guest("control", address="169.254.9.4/16")
    segment = lab.segment()
    # what a new network namespace begins with on a machine that forwards packets itself
    fabric = lab.hypervisor.directory / "fabric/net"
    lab.hypervisor.close()
    run(["nsenter", f"--net={fabric}", "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"])
    lab.hypervisor.open()
    guest = lab.guest(segment, address="10.1.1.5/24")

    def heard() -> int:
        inside = ["nsenter", f"--net={fabric}", "cat", "/proc/net/snmp"]
        return echoes(run(inside).stdout) + echoes(machine.read("/proc/net/snmp"))

    before = heard()
    probe = ["busybox", "arping", "-D", "-c", "1", "-w", "1", "-I", "eth0", "169.254.0.1"]
    assert "Received 0 response" in guest.run(probe, check=False).stdout
    guest.run(["ip", "address", "add", "169.254.9.5/16", "dev", "eth0"])
    guest.run(["ip", "neighbour", "replace", "169.254.0.1", "lladdr", bridge_mac(segment), "dev", "eth0"])
    guest.run(["ip", "route", "add", "169.254.9.4", "via", "169.254.0.1"])
    for source in ("10.1.1.5", "169.254.9.5"):
        for address in ("169.254.0.1", "169.254.9.4"):
            assert not guest.ok(["busybox", "ping", "-c", "1", "-W", "1", "-I", source, address])
    assert heard() == before


def test_the_control_plane_connects_over_the_control_network(lab: Lab) -> None:
    machine = lab.guest("control", address="169.254.9.3/16")
    machine.serve(80, "here")
    with lab.hypervisor.connect("169.254.9.3", 80, 2.0) as sock:
        assert sock.getsockname()[0] == "169.254.0.1"
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert wait_for(lambda: sock.recv(4096), 2, "an answer").startswith(b"HTTP/1.0 200")


def test_a_segment_s_mtu_is_that_of_its_nics(lab: Lab) -> None:
    machine = lab.guest(lab.segment(mtu=1400), address="10.1.1.5/24")
    assert machine.read("/sys/class/net/eth0/mtu").strip() == "1400"


def test_nothing_is_added_to_the_machine(directory: Path) -> None:
    before = look(directory)
    hypervisor = NamespaceHypervisor(directory)
    hypervisor.open()
    hypervisor.ensure_segment(Segment("guest-1"))
    hypervisor.start_guest(GuestSpec("g-1", "vm1", (Nic("02:00:00:00:00:01", "guest-1"),), "bare"))
    during = look(directory)
    hypervisor.purge()

    assert during.mounts == (str(directory / "fabric/net"),)
    assert (during.links, during.addresses, during.routes) == (before.links, before.addresses, before.routes)
    assert (during.ruleset, during.forwarding) == (before.ruleset, before.forwarding)
    assert look(directory) == before
    assert namespaces_of(directory) == []
