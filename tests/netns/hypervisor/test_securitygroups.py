"""Security groups on guests' ports: who reaches whom, and that a change reaches running connections."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pytest

from appliance.run import run
from controlplane.hypervisors.policy import ICMP, TCP, UDP, Group, Policy, Rule
from tests.netns.hypervisor import frames
from tests.netns.hypervisor.frames import ethernet, udp
from tests.netns.lab import Lab, Machine
from tests.wait import wait_for

EVERYWHERE = "0.0.0.0/0"
WEB = Rule(TCP, (80, 80), cidr=EVERYWHERE)
PING = Rule(ICMP, icmp_type=8, cidr=EVERYWHERE)

_ECHO = """
import socketserver
class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(100):
            self.request.sendall(data)
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
Server(("", 80), Echo).serve_forever()
"""
#: one connection; writes each answer's number to /run/talk
_TALK = """
import socket, sys, time
link = socket.create_connection((sys.argv[1], 80), 5)
link.settimeout(None)
for number in range(100000):
    link.sendall(b"x")
    link.recv(1)
    open("/run/talk", "w").write(str(number))
    time.sleep(0.02)
"""


@dataclass
class Cloud:
    """Secured guests, and the policy in force."""

    lab: Lab
    segment: str
    policy: Policy = field(default_factory=Policy)
    addresses: dict[str, str] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(10))

    def guest(self, *groups: str) -> Machine:
        """A running guest that is a member of ``groups``."""
        address = f"10.1.1.{next(self._numbers)}"
        machine = self.lab.guest(self.segment, address=f"{address}/24", allowed=[address], secured=True)
        self.addresses[machine.id] = address
        self.join(machine, *groups)
        return machine

    def join(self, machine: Machine, *groups: str) -> None:
        """Make it a member of exactly these groups."""
        own = self.addresses[machine.id]
        names = {*groups, *self.policy.members}
        members = {
            name: (self.policy.members.get(name, frozenset()) - {own}) | ({own} if name in groups else set())
            for name in names
        }
        ports = {**self.policy.ports, (machine.id, machine.mac): groups}
        known = {**{name: Group() for name in names}, **self.policy.groups}
        self.apply(replace(self.policy, groups=known, members=members, ports=ports))

    def rules(self, group: str, ingress: Iterable[Rule] = (), egress: Iterable[Rule] = ()) -> None:
        groups: Mapping[str, Group] = {**self.policy.groups, group: Group(frozenset(ingress), frozenset(egress))}
        self.apply(replace(self.policy, groups=groups))

    def apply(self, policy: Policy) -> None:
        self.policy = policy
        self.lab.hypervisor.apply_policy(policy)

    def nft(self, *command: str) -> str:
        return run(["nsenter", f"--net={self.lab.hypervisor.directory}/fabric/net", "nft", *command]).stdout

    def up(self, *machines: Machine) -> None:
        """Wait until their links carry packets: each sends what no group forbids, a request to a DHCP server."""
        outside = self.lab.host("outside", self.segment, ["10.1.1.1/24"])
        with frames.listening(outside):
            for machine in machines:
                ask = udp(("0.0.0.0", 68), ("255.255.255.255", 67), frames.dhcp_request(machine.mac))
                name = f"of {machine.id}"
                frame = ethernet(machine.mac, frames.BROADCAST, 0x0800, ask)

                def arrives(machine: Machine = machine, name: str = name, frame: bytes = frame) -> bool:
                    frames.send(machine, {name: frame})
                    return name in outside.read("/run/heard")

                wait_for(arrives, 10, f"{machine.id} on the network")


@pytest.fixture
def cloud(lab: Lab) -> Cloud:
    lab.hypervisor.apply_policy(Policy())
    return Cloud(lab, lab.segment())


def echo(machine: Machine) -> None:
    machine.write("/run/echo.py", _ECHO)
    machine.popen(["/usr/bin/python3", "/run/echo.py"])
    wait_for(lambda: machine.connects("127.0.0.1", 80), 10, "the echo server")


def said(machine: Machine) -> int:
    return int(machine.run(["cat", "/run/talk"], check=False).stdout or -1)


@contextmanager
def talking(machine: Machine, address: str) -> Iterator[None]:
    """A connection that is in use all the time."""
    machine.run(["rm", "-f", "/run/talk"])
    machine.write("/run/talk.py", _TALK)
    process = machine.popen(["/usr/bin/python3", "/run/talk.py", address])
    try:
        wait_for(lambda: said(machine) > 2, 10, "the conversation")
        yield
    finally:
        if machine.pids("talk.py"):
            machine.kill("talk.py")
        process.communicate(timeout=10)


def goes_on(machine: Machine) -> bool:
    """Whether the conversation makes progress."""
    before = said(machine)
    try:
        return wait_for(lambda: said(machine) > before + 2, 3)
    except AssertionError:
        return False


def test_nothing_comes_in_until_a_rule_lets_it(cloud: Cloud) -> None:
    server, client = cloud.guest("web"), cloud.guest("default")
    to = cloud.addresses[server.id]
    cloud.up(server, client)
    echo(server)
    assert not client.ping(to)
    assert not client.connects(to, 80)

    cloud.rules("web", [WEB])
    assert client.connects(to, 80)
    assert not client.ping(to)
    # only the server's group was opened, and only for what begins elsewhere
    assert not server.ping(cloud.addresses[client.id])
    cloud.rules("web", [WEB, PING])
    assert client.ping(to)
    cloud.rules("web", [Rule(TCP, (80, 80), cidr="10.1.2.0/24"), Rule(cidr="192.0.2.0/24")])
    assert not client.connects(to, 80)
    assert not client.ping(to)
    # blocks and ports may overlap, and "all" is every protocol
    cloud.rules("web", [WEB, Rule(TCP, (1, 1000), cidr="10.0.0.0/8"), Rule(cidr=f"{cloud.addresses[client.id]}/32")])
    assert client.connects(to, 80)
    assert client.ping(to)


def test_udp_goes_one_way_and_its_answers_the_other(cloud: Cloud) -> None:
    server, client = cloud.guest("dns"), cloud.guest("default")
    cloud.up(server, client)
    to, back = cloud.addresses[server.id], cloud.addresses[client.id]

    def arrive(sender: Machine, receiver: Machine, source: tuple[str, int], target: tuple[str, int]) -> bool:
        packet = ethernet(sender.mac, receiver.mac, 0x0800, udp(source, target))
        with frames.listening(receiver):
            frames.send(sender, {"packet": packet})
            try:
                return bool(wait_for(lambda: "packet" in receiver.read("/run/heard"), 0.5))
            except AssertionError:
                return False

    assert not arrive(client, server, (back, 5000), (to, 5300))
    # nothing was let in, so there is nothing to answer
    assert not arrive(server, client, (to, 5300), (back, 5000))
    cloud.rules("dns", [Rule(UDP, (5300, 5300), cidr=EVERYWHERE)])
    assert arrive(client, server, (back, 5000), (to, 5300))
    assert arrive(server, client, (to, 5300), (back, 5000))
    assert not arrive(server, client, (to, 5300), (back, 5001))
    assert not arrive(client, server, (back, 5000), (to, 5301))


def test_members_of_a_group_come_in_and_others_do_not(cloud: Cloud) -> None:
    server, member, stranger = cloud.guest("db"), cloud.guest("web"), cloud.guest("default")
    cloud.up(server, member, stranger)
    to = cloud.addresses[server.id]
    echo(server)
    cloud.rules("db", [Rule(TCP, (80, 81), peer="web"), Rule(ICMP, peer="web")])
    assert member.connects(to, 80)
    assert member.ping(to)
    assert not stranger.connects(to, 80)
    assert not stranger.ping(to)

    cloud.join(stranger, "default", "web")
    assert stranger.connects(to, 80)
    with talking(member, to):
        cloud.join(member, "default")
        assert not goes_on(member)
    assert not member.connects(to, 80)
    assert stranger.connects(to, 80)


def test_a_vm_in_several_groups_has_all_their_rules(cloud: Cloud) -> None:
    server, client = cloud.guest("web", "pinged"), cloud.guest("default")
    cloud.up(server, client)
    to = cloud.addresses[server.id]
    echo(server)
    cloud.rules("web", [WEB])
    assert client.connects(to, 80)
    assert not client.ping(to)
    cloud.rules("pinged", [PING])
    assert client.ping(to)
    cloud.join(server, "pinged")
    assert not client.connects(to, 80)
    assert client.ping(to)


def test_a_revoked_rule_ends_what_it_had_let_in_and_nothing_else(cloud: Cloud) -> None:
    server, client, other = cloud.guest("web"), cloud.guest("default"), cloud.guest("default")
    cloud.up(server, client, other)
    to = cloud.addresses[server.id]
    echo(server)
    keep = Rule(TCP, (80, 80), cidr=f"{cloud.addresses[other.id]}/32")
    cloud.rules("web", [WEB, keep])
    with talking(client, to), talking(other, to):
        cloud.rules("web", [keep])
        assert not goes_on(client)
        assert goes_on(other)
        # a new one is let in while others run
        cloud.rules("web", [keep, PING])
        assert client.ping(to)
        assert not goes_on(client)
        assert goes_on(other)


def test_egress_is_open_until_its_first_rule(cloud: Cloud) -> None:
    server, client = cloud.guest("web"), cloud.guest("office")
    cloud.up(server, client)
    to = cloud.addresses[server.id]
    echo(server)
    cloud.rules("web", [WEB, PING])
    assert client.connects(to, 80)
    with talking(client, to):
        cloud.rules("office", egress=[Rule(ICMP, peer="web")])
        assert not goes_on(client)
    assert client.ping(to)
    assert not client.connects(to, 80)
    # answers to what came in are not egress
    cloud.rules("office", ingress=[PING], egress=[Rule(TCP, (443, 443), cidr=EVERYWHERE)])
    assert server.ping(cloud.addresses[client.id])
    assert not client.ping(to)
    cloud.rules("office", egress=[Rule(TCP, (80, 80), cidr=f"{to}/32")])
    assert client.connects(to, 80)
    cloud.rules("office")
    assert client.ping(to)


def test_networks_with_the_same_addresses_keep_their_connections_apart(lab: Lab, cloud: Cloud) -> None:
    server, client = cloud.guest("web"), cloud.guest("default")
    cloud.up(server, client)
    to, own = cloud.addresses[server.id], cloud.addresses[client.id]
    cloud.rules("web", [Rule(UDP, (5300, 5300), cidr=EVERYWHERE)])
    elsewhere = lab.segment()
    twin = lab.guest(elsewhere, address=f"{to}/24", allowed=[to], secured=True)
    spy = lab.guest(elsewhere, address=f"{own}/24", allowed=[own], secured=True)
    wait_for(lambda: twin.ok(["busybox", "arping", "-c", "1", "-w", "1", "-I", "eth0", own]), 10, "the other network")
    # established there ...
    frames.send(client, {"query": ethernet(client.mac, server.mac, 0x0800, udp((own, 5000), (to, 5300)))})
    frames.send(server, {"answer": ethernet(server.mac, client.mac, 0x0800, udp((to, 5300), (own, 5000)))})
    # ... is nothing here
    with frames.listening(spy):
        frames.send(twin, {"answer": ethernet(twin.mac, spy.mac, 0x0800, udp((to, 5300), (own, 5000)))})
        twin.ok(["busybox", "arping", "-c", "1", "-w", "1", "-I", "eth0", own])
        assert spy.read("/run/heard") == ""


def test_what_somebody_changes_behind_its_back_is_repaired(cloud: Cloud) -> None:
    server, client = cloud.guest("web"), cloud.guest("default")
    cloud.up(server, client)
    to = cloud.addresses[server.id]
    cloud.rules("web", [PING])
    assert client.ping(to)
    assert cloud.lab.hypervisor.repair_filter() == []
    cloud.nft("flush", "ruleset")
    wrong = cloud.lab.hypervisor.repair_filter()
    assert any("chain prerouting" in line for line in wrong)
    assert cloud.lab.hypervisor.repair_filter() == []
    assert client.ping(to)
    cloud.nft("add", "rule", "bridge", "gatehouse", "ingress", "accept")
    assert cloud.lab.hypervisor.repair_filter() == ["+chain ingress { 3 accept"]
    assert not server.ping(cloud.addresses[client.id])


def test_the_next_control_plane_enforces_what_the_last_one_did(cloud: Cloud) -> None:
    server, client = cloud.guest("web"), cloud.guest("default")
    cloud.up(server, client)
    to = cloud.addresses[server.id]
    echo(server)
    cloud.rules("web", [WEB])
    with talking(client, to):
        cloud.lab.hypervisor.close()
        assert goes_on(client)
        cloud.lab.hypervisor.open()
        assert goes_on(client)
    assert client.connects(to, 80)
    assert not client.ping(to)
