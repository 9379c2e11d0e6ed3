"""Site-to-site tunnels between two routers, seen by the guests behind them."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from functools import partial

import pytest

from tests.netns.lab import Lab, Machine
from tests.netns.router.traffic import PYTHON
from tests.netns.vpn.sites import Pair, connection, pair
from tests.netns.vpn.streams import echo_server, stream
from tests.wait import wait_for

#: prints source, destination and protocol of each IPv4 packet, until there is an echo request to 203.0.113.254
_SNIFF = """
import socket, sys
sniffer = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
print("ready", flush=True)
while True:
    packet = sniffer.recv(2000)
    if packet[12:14] == b"\\x08\\x00":
        print(socket.inet_ntoa(packet[26:30]), socket.inet_ntoa(packet[30:34]), packet[23], flush=True)
        if packet[30:34] == bytes([203, 0, 113, 254]) and packet[23] == 1:
            break
"""


@pytest.fixture(scope="module")
def built(lab: Lab) -> Pair:
    found = pair(lab)
    found.b.guest.serve(8080, "b")
    echo_server(found.b.guest, "10.2.1.10")
    return found


@pytest.fixture
def sites(built: Pair) -> Iterator[Pair]:
    """The two sites without a VPN."""
    yield built
    built.a.push()
    built.b.push()


@pytest.mark.any_hypervisor
@pytest.mark.parametrize("version", ["ikev1", "ikev2", "ike"])
def test_guests_reach_each_other(sites: Pair, version: str) -> None:
    assert not sites.a.guest.ping("10.2.1.10")
    sites.push(version=version)
    sites.wait_up()
    wait_for(lambda: sites.a.guest.ping("10.2.1.10"), 5, "an echo from the other site")
    assert sites.b.guest.ping("10.1.1.10")
    # a guest is seen by its own address: there is no address translation on the way
    assert sites.a.guest.http("http://10.2.1.10:8080/") == (200, "b")
    assert sites.b.guest.clients()[-1] == "10.1.1.10"
    sites.a.push()
    wait_for(lambda: not sites.a.guest.ping("10.2.1.10"), 5, "the tunnel to end")


def test_what_goes_through_a_tunnel_is_counted_at_both_ends(sites: Pair) -> None:
    sites.push()
    sites.wait_up()
    wait_for(lambda: sites.a.guest.ping("10.2.1.10"), 5, "an echo from the other site")
    ends = ((sites.a, "to-203.0.113.2"), (sites.b, "to-203.0.113.1"))
    before = [site.counted(id) for site, id in ends]
    for _ in range(3):
        # 28 bytes of headers and busybox's 56 of its own
        assert sites.a.guest.ping("10.2.1.10")
    after = [site.counted(id) for site, id in ends]
    grown = [(late[0] - early[0], late[1] - early[1]) for early, late in zip(before, after, strict=True)]
    assert grown == [(3 * 84, 3 * 84)] * 2


def _sniff(machine: Machine) -> subprocess.Popen[str]:
    sniffer = machine.popen([PYTHON, "-c", _SNIFF])
    assert sniffer.stdout is not None
    assert sniffer.stdout.readline() == "ready\n"
    return sniffer


@pytest.mark.any_hypervisor
def test_nothing_leaves_in_the_clear_while_the_tunnel_is_down(sites: Pair) -> None:
    sniffer = _sniff(sites.internet)
    # without a connection the packet goes to the default gateway, so the sniffer does see it
    assert not sites.a.guest.ping("10.2.1.10")
    here, there = sites.connect(psk="another one")
    sites.a.push(here)
    sites.b.push({**there, "psk": "not the same"})
    sites.a.wait_state("Error", "to-203.0.113.2")
    assert not sites.a.guest.ping("10.2.1.11")
    sites.a.guest.ping("203.0.113.254")
    seen = sniffer.communicate(timeout=10)[0].split("\n")
    assert any("10.2.1.10 1" in line for line in seen), seen
    assert any("203.0.113.254 1" in line for line in seen), seen
    assert not any("10.2.1.11" in line for line in seen), seen


def test_what_outlives_a_tunnel_does_not_leave_in_the_clear(sites: Pair) -> None:
    sites.push()
    sites.wait_up()
    flow = stream(sites.a.guest, "10.2.1.10", 400)
    wait_for(lambda: sites.a.guest.ping("10.2.1.10"), 5, "an echo from the other site")
    sniffer = _sniff(sites.internet)
    sites.b.push()
    sites.a.wait_state("Disconnected", "to-203.0.113.2")
    assert not sites.a.guest.ping("10.2.1.10")
    assert flow.poll() is None, "the stream ended before the tunnel"
    sites.a.guest.ping("203.0.113.254")
    seen = sniffer.communicate(timeout=10)[0].split("\n")
    flow.communicate(timeout=60)
    assert any("203.0.113.254 1" in line for line in seen), seen
    assert not any("10.2.1.10" in line for line in seen), seen


def test_connections_from_before_go_through_the_tunnel_and_none_goes_on_after_it(sites: Pair) -> None:
    # translated for the internet, until there is a tunnel
    flow = stream(sites.a.guest, "10.2.1.10", 400)
    sniffer = _sniff(sites.internet)
    assert not sites.a.guest.ping("10.2.1.10")
    _end_of(sites)
    assert any(line == "203.0.113.1 10.2.1.10 17" for line in _seen(sniffer))
    sites.push()
    sites.wait_up()
    wait_for(lambda: sites.a.guest.ping("10.2.1.10"), 5, "an echo from the other site")
    assert flow.poll() is None, "the stream ended before the tunnel was up"
    sites.a.push()
    sniffer = _sniff(sites.internet)
    assert not sites.a.guest.ping("10.2.1.10")
    _end_of(sites)
    seen = _seen(sniffer)
    assert any(line == "203.0.113.1 10.2.1.10 17" for line in seen), seen
    assert not any(line.startswith("10.1.1.10 ") for line in seen), seen
    # of the eight seconds some were those of the tunnel
    assert int(flow.communicate(timeout=60)[0]) > 0


def _end_of(sites: Pair) -> None:
    """What the sniffer ends with."""
    sites.a.guest.ping("203.0.113.254")


def _seen(sniffer: subprocess.Popen[str]) -> list[str]:
    return sniffer.communicate(timeout=10)[0].split("\n")


def test_a_stranger_gets_nothing_through(sites: Pair) -> None:
    sites.push()
    sites.wait_up()
    # a host on the internet that knows the networks and claims an address of the peer's network
    sites.internet.run(["ip", "address", "replace", "10.2.1.77/32", "dev", "lo"])
    sites.internet.run(["ip", "route", "replace", "10.1.1.0/24", "via", "203.0.113.1", "src", "10.2.1.77"])
    assert not sites.internet.ping("10.1.1.10")
    # and a guest that claims another network's
    sites.b.guest.run(["ip", "address", "replace", "10.9.9.9/32", "dev", "lo"])
    assert not sites.b.guest.ok(["busybox", "ping", "-c", "1", "-W", "1", "-I", "10.9.9.9", "10.1.1.10"])
    assert sites.b.guest.ping("10.1.1.10")


@pytest.mark.parametrize("version", ["ikev1", "ikev2"])
def test_wrong_key_is_an_error_until_it_is_right(sites: Pair, version: str) -> None:
    here, there = sites.connect(version=version)
    sites.b.push(there)
    sites.a.push({**here, "psk": "wrong"})
    detail = sites.a.wait_state("Error", "to-203.0.113.2")["detail"]
    assert detail, "an error without a reason"
    if version == "ikev2":
        # which of its messages about the key is the last differs
        assert "shared key" in detail
    assert not sites.a.guest.ping("10.2.1.10")
    sites.a.push(here)
    sites.wait_up(40)
    assert sites.a.guest.ping("10.2.1.10")
    assert "wrong" not in sites.a.router.text_logs()


def test_policies_that_do_not_meet_are_an_error(sites: Pair) -> None:
    here, there = sites.connect(version="ikev2")
    sites.b.push(there)
    sites.a.push({**here, "ike": {"encryption": "aes128", "hash": "sha1", "group": "modp1024"}})
    assert "policies" in sites.a.wait_state("Error", "to-203.0.113.2")["detail"]
    sites.a.push({**here, "esp": {"encryption": "aes128", "hash": "sha1"}})
    assert "policies" in sites.a.wait_state("Error", "to-203.0.113.2")["detail"]


@pytest.mark.parametrize("version", ["ikev1", "ikev2"])
@pytest.mark.parametrize("split", [False, True])
def test_several_networks(sites: Pair, version: str, split: bool) -> None:
    here, there = sites.connect(version=version, split=split)
    here["local_networks"] = there["remote_networks"] = ["10.1.1.0/24", "10.1.2.0/24"]
    here["remote_networks"] = there["local_networks"] = ["10.2.1.0/24", "10.2.2.0/24"]
    sites.a.push(here)
    sites.b.push(there)
    sites.wait_up()
    number = sites.a.swanctl("--list-sas").count("INSTALLED")
    assert number == (4 if split or version == "ikev1" else 1)
    for guest in (sites.a.guest, sites.a.other):
        for address in ("10.2.1.10", "10.2.2.10"):
            wait_for(partial(guest.ping, address), 5, f"an echo of {address}")


@pytest.mark.parametrize("passive", [False, True])
def test_a_peer_that_restarts(sites: Pair, passive: bool) -> None:
    here, there = sites.connect()
    sites.a.push({**here, "passive": passive})
    sites.b.push(there)
    sites.wait_up()
    sites.b.router.kill("charon-systemd")
    # the supervisor starts it, it gets its connections again, and calls
    wait_for(lambda: sites.a.guest.ping("10.2.1.10"), 60, "the tunnel to be back")
    sites.wait_up()


@pytest.mark.any_hypervisor
def test_the_agent_may_die(sites: Pair) -> None:
    sites.push()
    sites.wait_up()
    sites.a.router.kill_agent()
    assert sites.a.guest.ping("10.2.1.10")
    sites.a.router.wait_agent()
    sites.wait_up()
    assert stream(sites.a.guest, "10.2.1.10", 20).communicate(timeout=60)[0] == "20\n"
    # what was loaded before is known to the new agent: a peer that hangs up is called again
    [ike] = set(re.findall(r"^(to-\S+): #", sites.b.swanctl("--list-sas"), re.MULTILINE))
    sites.b.swanctl("--terminate", "--ike", ike)
    wait_for(lambda: sites.a.guest.ping("10.2.1.10"), 20, "the tunnel to be back")


def test_passive_waits(sites: Pair) -> None:
    here, there = sites.connect()
    sites.a.push({**here, "passive": True})
    sites.b.push({**there, "passive": True})
    assert sites.a.wait_state("Disconnected", "to-203.0.113.2")["detail"] == "waits for the peer"
    assert sites.a.swanctl("--list-sas") == ""
    sites.b.push(there)
    sites.wait_up()


# with IKEv1 the two sides cannot agree on when the new key is in use: a datagram on its way then may be lost
@pytest.mark.parametrize(("version", "lost"), [("ikev1", 2), ("ikev2", 0)])
def test_rekeying_loses_nothing(sites: Pair, version: str, lost: int) -> None:
    sites.push(version=version, esp={"encryption": "aes256", "hash": "sha256", "group": "modp2048"})
    sites.wait_up()
    wait_for(lambda: sites.a.guest.ping("10.2.1.10"), 5, "an echo from the other site")
    flow = stream(sites.a.guest, "10.2.1.10", 1000)
    before = sites.a.swanctl("--list-sas")
    for kind in ("--child", "--ike", "--child"):
        if kind == "--child":
            [child] = set(re.findall(r"(to-\S+-0): #", sites.a.swanctl("--list-sas")))
            sites.a.swanctl("--rekey", "--child", child)
        else:
            [ike] = set(re.findall(r"^(to-\S+): #", sites.b.swanctl("--list-sas"), re.MULTILINE))
            sites.b.swanctl("--rekey", "--ike", ike)
        wait_for(lambda: sites.a.guest.ping("10.2.1.10"), 5, "an echo while a key changes")

    def renewed() -> bool:
        now = sites.a.swanctl("--list-sas")
        assert flow.poll() is None, "the stream ended before the keys were new"
        return _spis(before).isdisjoint(_spis(now)) and "INSTALLED" in now

    wait_for(renewed, 20, "new keys")
    out = flow.communicate(timeout=60)[0]
    assert int(out) >= 1000 - lost, out


def _spis(listed: str) -> set[str]:
    return set(re.findall(r"in  ([0-9a-f]{8})", listed))


def test_a_dead_peer_is_noticed_and_called_again(sites: Pair) -> None:
    """It vanishes without a word: after ``dpd`` it is asked, and given up when charon has asked five times."""
    dpd, tries = 5, sum(2.0 * 1.8**number for number in range(5))
    sites.push(version="ikev2", dpd=dpd)
    sites.wait_up()
    sites.b.router.kill("charon-systemd", "STOP")
    begun = time.monotonic()
    try:
        sites.a.wait_state("Disconnected", "to-203.0.113.2", 90)
    finally:
        sites.b.router.kill("charon-systemd", "CONT")
    # it had spoken shortly before it stopped
    assert tries < time.monotonic() - begun < dpd + tries + 10
    sites.wait_up(90)
    wait_for(lambda: sites.a.guest.ping("10.2.1.10"), 10, "the tunnel to be back")


def test_a_connection_goes_while_it_connects(sites: Pair) -> None:
    here, there = sites.connect(version="ikev2")
    # nobody is there
    silent = connection("203.0.113.1", "203.0.113.77", ("10.1.1.0/24",), ("10.77.0.0/16",), version="ikev2")
    sites.b.push(there)
    sites.a.push(here, silent)
    sites.wait_up()
    [name] = set(re.findall(r"^(to-203.0.113.77\S*): #.*CONNECTING", sites.a.swanctl("--list-sas"), re.MULTILINE))
    before = _spis(sites.a.swanctl("--list-sas"))
    # as when it is unloaded just when a call begins: charon goes on calling for a connection that it has no more
    sites.a.vici("unload-conn", {"name": name})
    sites.a.push(here)
    assert "to-203.0.113.77" not in sites.a.swanctl("--list-sas")
    assert _spis(sites.a.swanctl("--list-sas")) == before
    assert sites.a.guest.ping("10.2.1.10")


def test_one_of_many_changes_and_the_others_stay(sites: Pair) -> None:
    here, there = sites.connect()
    other = connection("203.0.113.1", "203.0.113.77", ("10.1.1.0/24",), ("10.77.0.0/16",))
    sites.a.push(here, other)
    sites.b.push(there)
    sites.wait_up()
    before = _spis(sites.a.swanctl("--list-sas"))
    sites.a.push(here, {**other, "serial": 1})
    sites.a.push(here)
    assert _spis(sites.a.swanctl("--list-sas")) == before
    sites.a.push({**here, "serial": 1})
    sites.wait_up()
    assert _spis(sites.a.swanctl("--list-sas")).isdisjoint(before)
