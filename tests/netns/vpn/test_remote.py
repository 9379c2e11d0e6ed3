"""Remote access by IKEv2, seen by people's devices and by the guests that they want to reach."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from cryptography import x509

from tests.certificates import self_signed
from tests.netns.lab import Lab, Machine
from tests.netns.vpn.access import NAME, access, certified
from tests.netns.vpn.client import Ikev2Client
from tests.netns.vpn.sites import Site, site
from tests.wait import wait_for

Raw = dict[str, Any]

USERS = {f"user{number}": f"password of {number}" for number in range(20)}
#: addresses of devices on the internet, and of the one that is behind a NAT with others
DEVICES = [f"203.0.113.{number}" for number in range(100, 120)]
NAT = "203.0.113.50"


@dataclass
class World:
    """A router with a guest, and devices outside."""

    site: Site
    remote: Raw
    devices: list[Ikev2Client]
    #: these two have one public address
    hidden: list[Ikev2Client]
    internet: Machine

    def push(self, **changes: Any) -> None:
        """Have remote access, with ``changes`` of it."""
        state = copy.deepcopy(self.site.state)
        state["vpn"] = {"remote": [self.remote | changes]}
        self.site.router.push(state)

    def report(self) -> Raw:
        found: Raw = self.site.router.status().reports["vpn"]["remote"][self.site.public]
        return found

    def sessions(self) -> dict[str, Raw]:
        """By client's address."""
        return {one["client"]: one for one in self.report()["sessions"]}


@pytest.fixture(scope="module")
def world(lab: Lab) -> World:
    outside, inside = lab.segment("public"), lab.segment("guest")
    server = site(lab, 1, outside)
    server.state["dhcp"] = {
        "networks": [{"interface": "eth0", "subnet": server.network, "gateway": "10.1.1.1", "domain": "a.example"}],
        "hosts": [{"id": "n", "interface": "eth0", "mac": lab.mac(), "address": "10.1.1.10", "name": "vm1"}],
    }
    server.guest.serve(8080, "guest")
    server.other.serve(8080, "other network")
    remote = access(lab, server.public, networks=[server.network], dns="10.1.1.1", psk="not for IKEv2", users=USERS)
    internet = lab.host("internet", outside, ["203.0.113.254/24"])
    internet.serve(8080, "internet")
    lab.router(_nat(lab), segments={"eth0": inside, "eth2": outside})

    def device(machine: Machine) -> Ikev2Client:
        return Ikev2Client(machine, server.public, NAME, lab.authority.certificate.decode())

    return World(
        server,
        remote,
        [device(lab.host("device", outside, [f"{address}/24"], "203.0.113.254")) for address in DEVICES],
        [device(lab.guest(inside, address=f"10.9.1.{one}/24", gateway="10.9.1.1")) for one in (10, 11)],
        internet,
    )


def _nat(lab: Lab) -> Raw:
    """A router of somebody's home."""
    return {
        "hostname": "home",
        "interfaces": {
            "interfaces": [
                {"name": "eth0", "mac": lab.mac(), "role": "guest", "addresses": ["10.9.1.1/24"]},
                lab.control(),
                {"name": "eth2", "mac": lab.mac(), "role": "public", "addresses": [f"{NAT}/24"]},
            ]
        },
        "nat": {"source": [{"interface": "eth0", "address": NAT}]},
        "firewall": {"egress_defaults": [{"interface": "eth0", "allow": True}]},
    }


@pytest.fixture(autouse=True)
def served(world: World) -> Iterator[None]:
    """Remote access as it is at first, and nobody connected before and after."""
    world.push()
    yield
    for device in (*world.devices, *world.hidden):
        device.stop()
    world.site.push()


def test_a_client_reaches_guests_and_the_resolver_and_nothing_else(world: World) -> None:
    device = world.devices[0]
    assert device.machine.http("http://203.0.113.254:8080/") == (200, "internet")
    assert device.connect("user0", USERS["user0"]), device.log()
    assert device.machine.http("http://10.1.1.10:8080/") == (200, "guest")
    assert world.site.guest.clients()[-1] == device.address
    assert "10.1.1.1" in device.machine.read("/etc/resolv.conf")
    for transport in ("+notcp", "+tcp"):
        assert device.machine.run(["dig", "+short", transport, "vm1.a.example"]).stdout.split() == ["10.1.1.10"]
    assert device.machine.ping("10.1.1.1")
    # only guest routes go through the VPN
    assert device.machine.http("http://203.0.113.254:8080/") == (200, "internet")
    assert world.internet.clients()[-1] == DEVICES[0]
    # what the server does not offer, asked for by force
    for target in ("10.1.2.0/24", "169.254.0.0/16", "203.0.113.254/32"):
        device.machine.run(["ip", "route", "replace", target, "dev", "ipsec0", "src", device.address])
    assert not device.machine.connects("10.1.2.10", 8080)
    assert not device.machine.connects("203.0.113.254", 8080)
    assert not device.machine.connects(world.site.router.address, 9443)
    for port in (80, 443, 8080, 9443):
        assert not device.machine.connects("10.1.1.1", port)
    # nor do others get to the client
    assert not world.site.guest.ping(device.address)
    session = world.sessions()[device.address]
    assert (session["user"], session["protocol"], session["peer"]) == ("user0", "ikev2", DEVICES[0])


def test_devices_behind_one_nat(world: World) -> None:
    for number, device in enumerate(world.hidden):
        assert device.connect("user0", USERS["user0"]), device.log()
        wait_for(partial(device.machine.ping, "10.1.1.10"), 10, f"an echo to device {number}")
    assert all(device.machine.ping("10.1.1.10") for device in world.hidden)
    assert [one["peer"] for one in world.sessions().values()] == [NAT, NAT]


def test_who_may_not_come_in(world: World) -> None:
    device = world.devices[0]
    assert not device.connect("user0", "a guess")
    assert not device.connect("nobody", USERS["user0"])
    stranger = Ikev2Client(device.machine, device.server, NAME, self_signed(NAME)[0])
    assert not stranger.connect("user0", USERS["user0"])
    assert "no trusted" in stranger.log()
    other = Ikev2Client(device.machine, device.server, "another.example.com", device.authority)
    assert not other.connect("user0", USERS["user0"])
    assert world.sessions() == {}
    assert USERS["user0"] not in world.site.router.text_logs()


def test_a_user_who_is_removed_or_has_a_new_password_is_disconnected(world: World) -> None:
    first, second, third = world.devices[:3]
    for number, device in enumerate((first, second, third)):
        assert device.connect(f"user{number}", USERS[f"user{number}"]), device.log()
    begun = wait_for(lambda: len(world.sessions()) == 3 and world.report(), 10, "three sessions")
    assert begun
    mark = max(entry["number"] for entry in begun["log"])
    users = [{"name": f"user{number}", "password": USERS[f"user{number}"]} for number in (1, 2)]
    users[0]["password"] = "another one"
    stream = third.machine.popen(["busybox", "ping", "-c", "30", "-i", "0.1", "10.1.1.10"])
    changed = time.monotonic()
    world.push(users=users)
    wait_for(lambda: not first.connected and not second.connected, 10, "the two to be disconnected")
    assert time.monotonic() - changed < 2
    assert "30 packets received" in stream.communicate(timeout=30)[0]

    def told() -> list[tuple[str, str]]:
        return sorted((one["event"], one["user"]) for one in world.report()["log"] if one["number"] > mark)

    wait_for(lambda: told() == [("disconnect", "user0"), ("disconnect", "user1")], 10, "the log to tell")
    assert not first.connect("user0", USERS["user0"])
    assert not second.connect("user1", USERS["user1"])
    assert second.connect("user1", "another one")


def test_a_short_visit_is_in_the_log(world: World) -> None:
    device = world.devices[0]
    before = {entry["number"] for entry in world.report()["log"]}
    assert device.connect("user0", USERS["user0"])
    device.disconnect()

    def told() -> list[str]:
        return [entry["event"] for entry in world.report()["log"] if entry["number"] not in before]

    wait_for(lambda: told() == ["connect", "disconnect"], 10, "the log to tell")


def test_the_next_certificate_disconnects_nobody(world: World, lab: Lab) -> None:
    stays, comes = world.devices[:2]
    assert stays.connect("user0", USERS["user0"]), stays.log()
    changed = certified(lab)
    stream = stays.machine.popen(["busybox", "ping", "-c", "30", "-i", "0.1", "10.1.1.10"])
    world.push(ikev2={**world.remote["ikev2"], **changed})
    assert "30 packets received" in stream.communicate(timeout=30)[0]
    assert stays.connected
    assert comes.connect("user1", USERS["user1"]), comes.log()
    serials = [_serial(one) for one in (changed["certificate"], world.remote["ikev2"]["certificate"])]
    seen = comes.swanctl("--list-certs", "--type", "x509").replace(":", "")
    assert [serial in seen for serial in serials] == [True, False], seen
    # keys are renewed without it: the first certificate's key is gone
    stays.swanctl("--rekey", "--ike", "vpn")
    stays.swanctl("--rekey", "--child", "vpn")
    wait_for(partial(stays.machine.ping, "10.1.1.10"), 10, "an echo with new keys")
    assert {one["user"] for one in world.sessions().values()} == {"user0", "user1"}


def _serial(pem: str) -> str:
    return f"{x509.load_pem_x509_certificate(pem.encode()).serial_number:x}"


def test_closed_to_whom_no_rule_lets_in(world: World) -> None:
    device = world.devices[0]
    assert device.connect("user0", USERS["user0"])
    # as when it is deleted and made again: nobody is let in by what went on before
    world.site.push()
    world.push(open=False)
    assert not device.connect("user0", USERS["user0"], patience=5)
    assert world.sessions() == {}


def test_somebody_who_is_no_user_does_not_stay(world: World) -> None:
    """As a user who comes in just while being removed: charon knew the password when it was asked."""
    device, stays = world.devices[:2]
    assert stays.connect("user1", USERS["user1"])
    secret = {"id": "ghost", "type": "EAP", "data": "boo", "owners": ["ghost"]}
    world.site.vici("load-shared", secret)
    assert device.connect("ghost", "boo"), device.log()
    wait_for(lambda: not device.connected, 20, "the ghost to be gone")
    assert [one["user"] for one in world.sessions().values()] == ["user1"]
    assert stays.connected


def test_remote_access_that_is_deleted_ends_for_all(world: World) -> None:
    device = world.devices[0]
    assert device.connect("user0", USERS["user0"])
    world.site.push()
    wait_for(lambda: not device.connected, 10, "the client to be disconnected")
    assert not device.machine.ping("10.1.1.10")
    assert world.site.router.status().reports.get("vpn") is None


def test_charon_restarts_and_clients_come_again(world: World) -> None:
    device = world.devices[0]
    assert device.connect("user0", USERS["user0"])
    world.site.router.kill("charon-systemd")
    wait_for(lambda: world.sessions() == {}, 15, "the session to be over")
    wait_for(lambda: device.connect("user0", USERS["user0"]), 60, "the client to connect again")
    assert device.machine.ping("10.1.1.10")


def test_what_cannot_be_served_is_told(world: World) -> None:
    assert "transport mode" in world.report()["detail"]
    world.push(l2tp=False)
    assert world.report()["detail"] == ""


def test_twenty_at_once(world: World) -> None:
    with ThreadPoolExecutor(len(DEVICES)) as pool:
        connected = list(
            pool.map(lambda pair: pair[0].connect(*pair[1]), zip(world.devices, USERS.items(), strict=True))
        )
    assert all(connected)
    # a client is up before the server's pppd has told of it
    wait_for(lambda: len(world.sessions()) == 20, 10, "twenty sessions")
    sessions = world.sessions()
    assert sorted(one["user"] for one in sessions.values()) == sorted(USERS)
    for device in world.devices:
        assert device.machine.http("http://10.1.1.10:8080/") == (200, "guest")
