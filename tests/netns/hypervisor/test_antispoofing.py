"""What a guest's port lets through: nothing in another's name, everything in the guest's own."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import pytest

from appliance.run import run
from tests.netns.hypervisor import frames
from tests.netns.hypervisor.frames import BROADCAST, arp, dhcp_request, ethernet, ipv4, ipv6, udp
from tests.netns.lab import Lab, Machine
from tests.wait import wait_for

NOBODY = "00:00:00:00:00:00"
ATTACKER, VICTIM, NEIGHBOUR = "10.1.1.66", "10.1.1.5", "10.1.1.6"


@dataclass(frozen=True)
class Street:
    """Three guests of one network."""

    segment: str
    attacker: Machine
    victim: Machine
    neighbour: Machine


@pytest.fixture
def street(lab: Lab) -> Street:
    segment = lab.segment()
    machines = [
        lab.guest(segment, address=f"{address}/24", allowed=[address]) for address in (ATTACKER, VICTIM, NEIGHBOUR)
    ]
    for machine in machines[:2]:
        wait_for(partial(machine.ping, NEIGHBOUR), 5, "the network")
    return Street(segment, *machines)


def filter_command(lab: Lab, *command: str) -> str:
    """nft in the namespace of the bridges."""
    return run(["nsenter", f"--net={lab.hypervisor.directory}/fabric/net", "nft", *command]).stdout


def honest(me: str, other: str) -> dict[str, bytes]:
    """Frames that a guest with MAC ``me`` and the attacker's address may send to MAC ``other``."""
    return {
        "own packet": ethernet(me, other, 0x0800, udp((ATTACKER, 5000), (NEIGHBOUR, 5000))),
        "own echo": ethernet(me, other, 0x0800, ipv4(1, ATTACKER, NEIGHBOUR, bytes.fromhex("0800f7ff00000000"))),
        "own ARP request": ethernet(me, BROADCAST, 0x0806, arp(1, (me, ATTACKER), (NOBODY, NEIGHBOUR))),
        "own ARP reply": ethernet(me, other, 0x0806, arp(2, (me, ATTACKER), (other, NEIGHBOUR))),
        "own announcement": ethernet(me, BROADCAST, 0x0806, arp(1, (me, ATTACKER), (NOBODY, ATTACKER))),
        "probe": ethernet(me, BROADCAST, 0x0806, arp(1, (me, "0.0.0.0"), (NOBODY, VICTIM))),
        "DHCP request": ethernet(
            me, BROADCAST, 0x0800, udp(("0.0.0.0", 68), ("255.255.255.255", 67), dhcp_request(me))
        ),
        "DHCP renewal": ethernet(me, other, 0x0800, udp((ATTACKER, 68), (NEIGHBOUR, 67), dhcp_request(me))),
    }


def forged(me: str, other: str, victim: str) -> dict[str, bytes]:
    """Frames that it may not."""
    own = udp((ATTACKER, 5000), (NEIGHBOUR, 5000))
    offer = b"\2" + dhcp_request(victim)[1:]
    return {
        "MAC of the victim": ethernet(victim, other, 0x0800, own),
        "MAC of nobody": ethernet("02:de:ad:be:ef:00", other, 0x0800, own),
        "address of the victim": ethernet(me, other, 0x0800, udp((VICTIM, 5000), (NEIGHBOUR, 5000))),
        "MAC and address of the victim": ethernet(victim, other, 0x0800, udp((VICTIM, 5000), (NEIGHBOUR, 5000))),
        "address of the internet": ethernet(me, other, 0x0800, udp(("192.0.2.1", 5000), (NEIGHBOUR, 5000))),
        "no address": ethernet(me, other, 0x0800, udp(("0.0.0.0", 5000), (NEIGHBOUR, 5000))),
        "echo from no address": ethernet(me, other, 0x0800, ipv4(1, "0.0.0.0", NEIGHBOUR, b"\x08\0\xf7\xff\0\0\0\0")),
        "ARP reply for the victim": ethernet(me, other, 0x0806, arp(2, (me, VICTIM), (other, NEIGHBOUR))),
        "ARP request as the victim": ethernet(me, BROADCAST, 0x0806, arp(1, (me, VICTIM), (NOBODY, NEIGHBOUR))),
        "ARP with the victim's MAC": ethernet(me, other, 0x0806, arp(2, (victim, ATTACKER), (other, NEIGHBOUR))),
        "ARP of the victim whole": ethernet(me, other, 0x0806, arp(2, (victim, VICTIM), (other, NEIGHBOUR))),
        "ARP reply from no address": ethernet(me, other, 0x0806, arp(2, (me, "0.0.0.0"), (other, NEIGHBOUR))),
        "RARP": ethernet(me, BROADCAST, 0x8035, arp(3, (me, ATTACKER), (me, ATTACKER))),
        "ARP of another medium": ethernet(
            me, other, 0x0806, struct.pack("!H", 6) + arp(2, (me, ATTACKER), (other, NEIGHBOUR))[2:]
        ),
        "DHCP offer": ethernet(me, BROADCAST, 0x0800, udp((ATTACKER, 67), ("255.255.255.255", 68), offer)),
        "DHCP offer from another port": ethernet(me, other, 0x0800, udp((ATTACKER, 4011), (NEIGHBOUR, 68), offer)),
        "DHCP relay": ethernet(me, other, 0x0800, udp((ATTACKER, 67), (NEIGHBOUR, 67), dhcp_request(me))),
        "DHCP request for the victim": ethernet(
            me, BROADCAST, 0x0800, udp(("0.0.0.0", 68), ("255.255.255.255", 67), dhcp_request(victim))
        ),
        "DHCP release of the victim": ethernet(
            me, other, 0x0800, udp((ATTACKER, 68), (NEIGHBOUR, 67), dhcp_request(victim))
        ),
        "short DHCP request": ethernet(me, BROADCAST, 0x0800, udp(("0.0.0.0", 68), ("255.255.255.255", 67))),
        "router advertisement": ethernet(me, "33:33:00:00:00:01", 0x86DD, ipv6(58, b"\x86" + bytes(15))),
        "IPv6": ethernet(me, other, 0x86DD, ipv6(17, struct.pack("!HHHH", 5000, 5000, 8 + len(frames.SLOT), 1))),
        "VLAN tag": frames.tagged(ethernet(me, other, 0x0800, own), 7),
        "two VLAN tags": frames.tagged(frames.tagged(ethernet(me, other, 0x0800, own), 7), 8),
        "PPPoE": ethernet(me, BROADCAST, 0x8863, bytes.fromhex("1109000000040101")),
        "spanning tree": ethernet(me, "01:80:c2:00:00:00", 38, bytes.fromhex("424203").ljust(38, b"\0")),
    }


def test_a_guest_sends_in_its_own_name_only(street: Street) -> None:
    me, other = street.attacker.mac, street.neighbour.mac
    good = honest(me, other)
    with frames.listening(street.neighbour):
        frames.send(street.attacker, forged(me, other, street.victim.mac))
        frames.send(street.attacker, good)
        assert sorted(frames.heard(street.neighbour, "DHCP renewal")) == sorted(good)


def test_the_same_frames_pass_where_nothing_filters(lab: Lab) -> None:
    """Otherwise the test above would show nothing."""
    segment = lab.segment()
    attacker, other = (lab.guest(segment, address=f"{address}/24") for address in (ATTACKER, NEIGHBOUR))
    everything = {**forged(attacker.mac, other.mac, "02:00:00:00:99:99"), **honest(attacker.mac, other.mac)}
    with frames.listening(other):
        frames.send(attacker, everything)
        assert sorted(frames.heard(other, "DHCP renewal")) == sorted(everything)


def test_neighbours_are_not_deceived(street: Street) -> None:
    """With the tools that people use."""
    attacker, victim, neighbour = street.attacker, street.victim, street.neighbour
    for address in (VICTIM, ATTACKER):
        wait_for(partial(neighbour.ping, address), 5, f"{address} to answer")
    known = neighbour.run(["ip", "neighbour", "show", VICTIM]).stdout
    assert victim.mac in known

    attacker.run(["ip", "address", "add", f"{VICTIM}/24", "dev", "eth0"])
    attacker.run(["busybox", "arping", "-U", "-c", "2", "-I", "eth0", "-s", VICTIM, VICTIM], check=False)
    attacker.run(["busybox", "arping", "-A", "-c", "2", "-I", "eth0", "-s", VICTIM, VICTIM], check=False)
    assert not attacker.ok(["busybox", "ping", "-c", "1", "-W", "1", "-I", VICTIM, NEIGHBOUR])
    assert victim.mac in neighbour.run(["ip", "neighbour", "show", VICTIM]).stdout
    # the address can be used by its owner as before: detection of duplicates hears nobody
    assert (
        "Received 0 response"
        in victim.run(["busybox", "arping", "-D", "-c", "1", "-w", "1", "-I", "eth0", VICTIM], check=False).stdout
    )

    attacker.run(["ip", "link", "set", "eth0", "address", victim.mac])
    assert not attacker.ping(NEIGHBOUR)
    # the bridge goes on sending the victim's frames to the victim
    assert victim.ping(NEIGHBOUR)
    attacker.run(["ip", "link", "set", "eth0", "address", attacker.mac])
    assert wait_for(lambda: attacker.ping(NEIGHBOUR), 5, "the attacker as itself")


@contextmanager
def dhcp_server(machine: Machine) -> Iterator[None]:
    daemon = ["dnsmasq", "--no-daemon", "--port=0", "--conf-file=/dev/null", "--user=root", "--no-ping"]
    leases = ["--interface=eth0", "--dhcp-range=10.1.1.100,10.1.1.110,1h", "--dhcp-leasefile=/run/leases"]
    process = machine.popen([*daemon, *leases, "--dhcp-authoritative"])
    try:
        assert process.stderr is not None
        line = ""
        while "DHCP, IP range" not in line:
            line = process.stderr.readline()
            assert line, "dnsmasq ended"
        yield
    finally:
        machine.kill("dnsmasq")
        process.communicate(timeout=10)


def test_a_guest_cannot_be_a_dhcp_server(lab: Lab, street: Street) -> None:
    client = lab.guest(street.segment, allowed=["10.1.1.100"])
    with dhcp_server(street.attacker), pytest.raises(AssertionError, match="no lease"):
        client.dhcp(timeout=2)
    honest_server = lab.guest(street.segment, address="10.1.1.1/24")
    with dhcp_server(honest_server):
        assert client.dhcp()["ip"].startswith("10.1.1.1")


def test_further_addresses_of_a_nic_work_once_it_has_them(lab: Lab, street: Street) -> None:
    machine, second = street.attacker, "10.1.1.67"
    machine.run(["ip", "address", "add", f"{second}/24", "dev", "eth0"])
    ping = ["busybox", "ping", "-c", "1", "-W", "1", "-I", second, NEIGHBOUR]
    assert not machine.ok(ping)
    lab.hypervisor.set_addresses(machine.id, machine.mac, [ATTACKER, second])
    assert wait_for(lambda: machine.ok(ping), 5, "the second address")
    assert machine.ping(NEIGHBOUR)
    lab.hypervisor.set_addresses(machine.id, machine.mac, [ATTACKER])
    assert not machine.ok(ping)


def test_a_port_that_the_filter_does_not_know_passes_nothing(lab: Lab, street: Street) -> None:
    assert street.attacker.ping(NEIGHBOUR)
    filter_command(lab, "flush", "map", "bridge", "gatehouse", "senders")
    assert not street.attacker.ping(NEIGHBOUR)
    # another control plane repairs it
    lab.hypervisor.close()
    lab.hypervisor.open()
    assert street.attacker.ping(NEIGHBOUR)
    filter_command(lab, "flush", "set", "bridge", "gatehouse", "ports")
    with frames.listening(street.neighbour):
        frames.send(street.attacker, honest(street.attacker.mac, street.neighbour.mac))
        assert not street.attacker.ping(NEIGHBOUR)
        assert street.neighbour.read("/run/heard") == ""


def test_the_filter_keeps_nothing_of_a_guest_that_is_gone(lab: Lab) -> None:
    segment = lab.segment()
    before = filter_command(lab, "list", "table", "bridge", "gatehouse")
    machine = lab.guest(segment, address=f"{ATTACKER}/24", allowed=[ATTACKER])
    assert machine.mac in filter_command(lab, "list", "table", "bridge", "gatehouse")
    lab.hypervisor.destroy(machine.id)
    assert filter_command(lab, "list", "table", "bridge", "gatehouse") == before
