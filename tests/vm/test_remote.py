"""Remote access by a router that is a virtual machine: L2TP, as NetworkManager-l2tp sets it up, and IKEv2."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable, Iterator
from itertools import cycle
from typing import Any

import pytest

from router.services.vpn.remote.ike import L2TP_ESP_PROPOSALS, L2TP_IKE_PROPOSALS
from tests.netns.vpn.access import NAME, access
from tests.netns.vpn.client import Ikev2Client
from tests.vm.documents import GATEWAY, GUEST, INTERNET, PUBLIC, WEB, Network
from tests.vm.roadwarriors import Device, RoadMachine
from tests.wait import wait_for

Raw = dict[str, Any]

PSK = "correct horse battery staple"
USERS = {f"user{number}": f"Password of {number}!" for number in range(20)}
HOME = "203.0.113.50"
#: asks by DHCPINFORM from the address of ppp0, as Windows and macOS do, and prints the answer's options in hex
_INFORM = """
import socket, sys
own = socket.inet_aton(sys.argv[1])
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
client.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"ppp0")
client.bind(("", 68))
client.settimeout(20)
head = bytes([1, 8, 6, 0]) + b"road" + bytes(4) + own + bytes(12) + bytes(16) + bytes(192)
options = bytes([99, 130, 83, 99, 53, 1, 8, 55, 4, 3, 6, 121, 249, 255])
client.sendto(head + options, ("255.255.255.255", 67))
answer = client.recv(1500)[240:]
while answer[0] != 255:
    print(answer[0], answer[2 : 2 + answer[1]].hex())
    answer = answer[2 + answer[1] :]
"""


class World:
    """The router of all VM tests with remote access, and devices outside."""

    def __init__(self, network: Network, machine: RoadMachine) -> None:
        self.network = network
        self.machine = machine
        self.devices = [machine.device(f"d{number}", f"203.0.113.{101 + number}") for number in range(20)]
        self.hidden = machine.home("home", HOME, 2)
        self.remote = access(network.lab, PUBLIC, networks=["10.1.1.0/24"], dns=GATEWAY, psk=PSK, users=USERS)

    def push(self, **changes: Any) -> None:
        """Have remote access, with ``changes`` of it."""
        state = copy.deepcopy(self.network.state)
        state["vpn"] = {"remote": [self.remote | changes]}
        self.network.router.push(state)

    def report(self) -> Raw:
        found: Raw = self.network.router.status().reports["vpn"]["remote"][PUBLIC]
        return found

    def users(self) -> list[str]:
        return sorted(one["user"] for one in self.report()["sessions"])

    def connect(self, *pairs: tuple[Device, str]) -> None:
        """Connect devices as users, all at once."""
        for device, user in pairs:
            device.connect(PUBLIC, PSK, user, USERS[user])
        self.wait_connected([device for device, _ in pairs])

    def wait_connected(self, devices: Iterable[Device]) -> None:
        """Wait for these, and give them their way to the guests."""
        for device in devices:
            device.wait_connected()
            assert device.run("ip route replace 10.1.1.0/24 dev ppp0")[0] == 0


@pytest.fixture(scope="module")
def world(network: Network, roads: RoadMachine) -> Iterator[World]:
    yield World(network, roads)
    network.router.push(network.state)


@pytest.fixture(autouse=True)
def served(world: World) -> Iterator[None]:
    """Remote access as it is at first, and nobody connected before and after."""
    world.push()
    yield
    world.machine.quiet()
    world.push(users=[])


def _fetch(device: Device, address: str, port: int) -> bool:
    return device.ok(f"curl -s -m 10 -o /dev/null http://{address}:{port}/", 20)


def test_a_client_reaches_guests_and_the_resolver_and_nothing_else(world: World) -> None:
    assert world.report()["detail"] == ""
    device = world.devices[0]
    world.connect((device, "user0"))
    inside = device.ppp()
    with world.machine.counted() as packets:
        assert _fetch(device, GUEST, WEB), device.log()
    assert world.network.guest.clients()[-1] == inside
    # no NAT is on the way: ESP by itself (protocol 50) both ways, nothing beside it
    assert {key for key in packets if key.split()[0] in (PUBLIC, device.address)} == {
        f"{PUBLIC} 50",
        f"{device.address} 50",
    }
    for transport in ("+notcp", "+tcp"):
        assert device.run(f"dig +short +time=10 {transport} @{GATEWAY} vm1.a.example")[1].split() == [GUEST]
    assert GATEWAY in device.run("cat /etc/ppp/resolv.conf")[1]
    # only guest routes go through the VPN
    assert _fetch(device, INTERNET, WEB)
    assert world.network.internet.clients()[-1] == device.address
    # what the router does not offer, asked for by force
    for target in (f"{INTERNET}/32", f"{world.network.router.address}/32"):
        assert device.ok(f"ip route add {target} dev ppp0")
    assert not _fetch(device, INTERNET, WEB)
    assert not _fetch(device, world.network.router.address, 9443)
    for port in (80, 8080, 9443):
        assert not _fetch(device, GATEWAY, port)
    [session] = world.report()["sessions"]
    assert (session["user"], session["protocol"]) == ("user0", "l2tp")
    assert (session["client"], session["peer"]) == (inside, device.address)


def test_devices_behind_one_nat(world: World) -> None:
    first, second = world.hidden
    world.connect((first, "user0"), (second, "user1"))
    # both at once, with packets of full size
    with world.machine.counted() as packets:
        pings = [
            device.machine.start(f"ip netns exec {device.name} busybox ping -c 20 -s 1300 {GUEST}")
            for device in world.hidden
        ]
        for number in pings:
            output = world.machine.end(number, 60)[1]
            assert "20 packets received" in output, output
    # ESP in UDP
    assert packets[f"{HOME} 17/4500"] >= 40
    assert not packets[f"{HOME} 50"]
    assert {one["peer"] for one in world.report()["sessions"]} == {HOME}
    assert world.users() == ["user0", "user1"]


def test_a_wrong_key_and_a_wrong_password(world: World) -> None:
    stranger, guesser = world.devices[:2]
    stranger.connect(PUBLIC, "another key", "user0", USERS["user0"])
    guesser.connect(PUBLIC, PSK, "user0", "a guess")

    def unauthenticated() -> bool:
        # pppd(8), exit status 19: we failed to authenticate ourselves
        log = guesser.log()
        assert "pppd exited" in log and "with code 19" in log, log[-3000:]
        return True

    wait_for(unauthenticated, 60, "the refused password")
    assert guesser.ppp() == ""

    # IKEv1 has no answer to a key that is wrong: the client asks again and again
    def refused() -> bool:
        # what the client's machine writes is seen here in blocks, some time later
        return "INVALID_PAYLOAD" in stranger.log() or "retransmit" in stranger.log()

    wait_for(refused, 60, "the key's refusal")
    assert not (stranger.folder / "xl2tpd.log").exists()
    assert world.users() == []


def test_a_user_who_is_removed_is_disconnected_and_others_stay(world: World) -> None:
    gone, changed, stays = world.devices[:3]
    world.connect((gone, "user0"), (changed, "user1"), (stays, "user2"))
    stream = world.machine.start(f"ip netns exec {stays.name} busybox ping -c 30 {GUEST}")
    users = [{"name": f"user{number}", "password": USERS[f"user{number}"]} for number in (1, 2)]
    users[0]["password"] = "another one"
    before = time.monotonic()
    world.push(users=users)
    pushed = time.monotonic() - before
    wait_for(lambda: gone.ppp() == "" and changed.ppp() == "", 2 * world.network.lab.patience + pushed, "disconnects")
    wait_for(lambda: world.users() == ["user2"], 30, "the router to know of it")
    events = [(one["event"], one["user"]) for one in world.report()["log"]][-2:]
    assert sorted(events) == [("disconnect", "user0"), ("disconnect", "user1")]
    assert "30 packets received" in world.machine.end(stream, 60)[1]


def test_l2tp_without_ipsec_is_not_heard(world: World) -> None:
    device = world.devices[0]
    device.connect(PUBLIC, PSK, "user0", USERS["user0"], secured=False)
    wait_for(lambda: "Maximum retries exceeded" in device.log(), 120, "the client to give up")
    assert "Connection established" not in device.log()
    assert world.users() == []


def test_a_new_key_disconnects_all_and_lets_in_who_has_it(world: World) -> None:
    device, other = world.devices[:2]
    world.connect((device, "user0"))
    world.push(psk="another key")
    wait_for(lambda: device.ppp() == "", 60, "the client to be disconnected")
    wait_for(lambda: world.users() == [], 30, "the router to know of it")
    other.connect(PUBLIC, "another key", "user1", USERS["user1"])
    other.wait_connected()
    wait_for(lambda: world.users() == ["user1"], 30, "the router to know of it")


def test_a_vpn_that_is_deleted_disconnects_all(world: World) -> None:
    device = world.devices[0]
    world.connect((device, "user0"))
    world.network.router.push(world.network.state)
    wait_for(lambda: device.ppp() == "", 60, "the client to be disconnected")
    # it was told; what hears nothing any more believes itself connected for a minute and more
    assert "Connection closed to" in device.log()
    assert not _fetch(device, GUEST, WEB)


def test_charon_restarts_and_clients_come_again(world: World) -> None:
    device = world.devices[0]
    world.connect((device, "user0"))
    world.network.router.kill("charon-systemd")
    wait_for(lambda: world.users() == [], 60, "the session to end, whose IPsec is gone")
    device.stop()
    wait_for(lambda: not world.network.router.status().reports["vpn"]["remote"][PUBLIC]["detail"], 60, "a report")
    world.connect((device, "user0"))
    assert _fetch(device, GUEST, WEB), device.log()


def test_windows_and_macos_are_told_the_way_to_guests(world: World) -> None:
    device = world.devices[0]
    world.connect((device, "user0"))
    (device.folder / "inform.py").write_text(_INFORM)
    status, output = device.run(f"python3 {device.folder}/inform.py {device.ppp()}", 60)
    assert status == 0, output
    options = dict(line.split() for line in output.splitlines())
    # 10.1.1.0/24 by 10.3.1.1, and the resolver 10.1.1.1
    route = "180a01010a030101"
    assert (options["121"], options["249"], options["6"]) == (route, route, "0a010101"), output
    assert "3" not in options, "a default route"


def test_ikev2_beside_l2tp(world: World) -> None:
    """By the kernel's IPsec on the router's side."""
    world.connect((world.devices[0], "user0"))
    host = world.network.lab.host("device", world.network.outside, ["203.0.113.90/24"])
    client = Ikev2Client(host, PUBLIC, NAME, world.network.lab.authority.certificate.decode())
    assert client.connect("user1", USERS["user1"], patience=60), client.log()
    assert client.machine.http(f"http://{GUEST}:{WEB}/", timeout=15) == (200, "guest")
    assert world.network.guest.clients()[-1] == client.address
    for transport in ("+notcp", "+tcp"):
        asked = client.machine.run(["dig", "+short", "+time=10", transport, f"@{GATEWAY}", "vm1.a.example"])
        assert asked.stdout.split() == [GUEST]
    assert {one["user"]: one["protocol"] for one in world.report()["sessions"]} == {"user0": "l2tp", "user1": "ikev2"}
    # one is removed, the other stays
    world.push(users=[{"name": "user0", "password": USERS["user0"]}])
    wait_for(lambda: not client.connected, 5, "the user to be disconnected")
    assert world.users() == ["user0"]
    assert _fetch(world.devices[0], GUEST, WEB)
    client.stop()


def test_twenty_at_once_each_with_another_policy(world: World) -> None:
    """Of IKE all that the router has, one each; Windows, Apple's systems and old Androids have one of them."""
    policies = list(zip(L2TP_IKE_PROPOSALS, cycle(L2TP_ESP_PROPOSALS), strict=False))
    assert len(policies) == len(world.devices)
    for device, user, (ike, esp) in zip(world.devices, USERS, policies, strict=True):
        device.connect(PUBLIC, PSK, user, USERS[user], policies=(f"{ike}!", f"{esp}!"))
    world.wait_connected(world.devices)
    assert world.users() == sorted(USERS)
    assert len({device.ppp() for device in world.devices}) == 20
    for device in world.devices:
        assert _fetch(device, GUEST, WEB), device.log()
