"""A router and gateways of other makers, played by strongSwan that was set up by hand."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial

import pytest

from tests.bench import cloud
from tests.netns.lab import Lab, Machine
from tests.netns.vpn.peer import Peer, peer
from tests.netns.vpn.sites import PSK, Raw, Site, connection, site
from tests.netns.vpn.streams import echo_server, stream
from tests.wait import wait_for

PEER, NAT = "203.0.113.2", "203.0.113.3"
NEAR, FAR = ("10.1.1.0/24", "10.1.2.0/24"), ("10.2.1.0/24", "10.2.2.0/24")
INSIDE = "192.168.9.9"


@pytest.fixture(scope="module")
def outside(lab: Lab) -> str:
    return lab.segment("public")


@pytest.fixture(scope="module")
def built(lab: Lab, outside: str) -> Site:
    return site(lab, 1, outside)


@pytest.fixture
def near(built: Site) -> Iterator[Site]:
    """The router's site without a VPN."""
    yield built
    built.push()


@pytest.fixture(scope="module")
def gateway(lab: Lab, outside: str) -> Peer:
    found = peer(lab, outside, PEER, FAR)
    echo_server(found.machine, "10.2.1.10")
    return found


@pytest.fixture
def far(gateway: Peer) -> Iterator[Peer]:
    """The other side, which does nothing before a test configures it."""
    yield gateway
    gateway.stop()


def _all_reach(near: Site) -> None:
    for guest in (near.guest, near.other):
        for address in ("10.2.1.10", "10.2.2.10"):
            wait_for(partial(guest.ping, address), 10, f"an echo of {address}")


# what the makers' manuals of that time give as examples
_CISCO = ({"encryption": "3des", "hash": "md5", "group": "modp1024"}, {"encryption": "aes128", "hash": "sha1"})
_JUNIPER = (
    {"encryption": "aes128", "hash": "sha1", "group": "modp1536"},
    {"encryption": "3des", "hash": "md5", "group": "modp1536"},
)
_ROLES = {
    "cisco": (_CISCO, "3des-md5-modp1024", "aes128-sha1"),
    "juniper": (_JUNIPER, "aes128-sha1-modp1536", "3des-md5-modp1536"),
}


def _to(role: str, **more: object) -> Raw:
    ike, esp = _ROLES[role][0]
    return connection("203.0.113.1", PEER, NEAR, FAR, version="ikev1", ike=ike, esp=esp, split=True, **more)


@pytest.mark.parametrize("caller", ["router", "peer"])
@pytest.mark.parametrize("role", ["cisco", "juniper"])
def test_split_proxies(near: Site, far: Peer, role: str, caller: str) -> None:
    _, ike, esp = _ROLES[role]
    near.push(_to(role, passive=caller == "peer"))
    far.configure("203.0.113.1", NEAR, psk=PSK, version=1, ike=ike, esp=esp, split=True, call=caller == "peer")
    near.wait_state("Connected", f"to-{PEER}", 30)
    _all_reach(near)
    assert far.swanctl("--list-sas").count("INSTALLED") == 4


def test_a_peer_that_restarts_and_one_that_dies(near: Site, far: Peer) -> None:
    _, ike, esp = _ROLES["cisco"]
    near.push(_to("cisco", dpd=1))
    far.configure("203.0.113.1", NEAR, psk=PSK, version=1, ike=ike, esp=esp, split=True)
    near.wait_state("Connected", f"to-{PEER}", 30)
    far.stop()
    far.start()
    # it knows of no tunnel: the router finds out and calls
    wait_for(lambda: near.guest.ping("10.2.1.10"), 60, "the tunnel to be back")
    near.wait_state("Connected", f"to-{PEER}", 30)
    _all_reach(near)
    far.stop()
    near.wait_state("Disconnected", f"to-{PEER}", 60)


# strongSwan uses a new key of IKEv1 from before the other end has it (sa/ikev1/tasks/quick_mode.c: who asked installs
# it with the answer, who was asked with the message after that): what is on its way meanwhile may be lost
def test_all_keys_of_ikev1_change_at_once(near: Site, far: Peer) -> None:
    _, ike, esp = _ROLES["juniper"]
    near.push(_to("juniper"))
    far.configure("203.0.113.1", NEAR, psk=PSK, version=1, ike=ike, esp=esp, split=True)
    near.wait_state("Connected", f"to-{PEER}", 30)
    _all_reach(near)
    flow = stream(near.guest, "10.2.1.10", 500)
    for number in range(4):
        far.swanctl("--rekey", "--child", f"office-{number}")
    wait_for(lambda: far.swanctl("--list-sas").count("INSTALLED") == 4, 20, "new keys")
    far.swanctl("--rekey", "--ike", "office")
    assert flow.poll() is None, "the stream ended before the keys were new"
    assert int(flow.communicate(timeout=60)[0]) >= 498
    _all_reach(near)


_RULES = f"""
flush ruleset
table ip nat {{{{
    chain post {{{{
        type nat hook postrouting priority srcnat
        oifname "eth1" meta l4proto udp snat to {NAT}:{{ports}}
    }}}}
}}}}
"""


def _masquerade(nat: Machine, ports: str) -> None:
    """Translate what leaves by eth1 to NAT and these source ports; what was translated before is forgotten."""
    nat.run(["nft", "-f", "-"], stdin=_RULES.format(ports=ports))
    nat.run([sys.executable, "-c", _FORGET])


_FORGET = """
from appliance.netfilter.conntrack import Conntrack
with Conntrack() as table:
    for entry in list(table.entries()):
        table.delete(entry)
"""


@pytest.fixture(scope="module")
def hidden(lab: Lab, outside: str) -> tuple[Peer, Machine]:
    """A peer whose address is a private one behind a NAT, and the NAT."""
    inside = lab.segment("inside")
    nat = cloud.plain_router(lab, inside, outside, "192.168.9.1/24", f"{NAT}/24")
    return peer(lab, inside, INSIDE, FAR, gateway="192.168.9.1"), nat


@pytest.mark.parametrize("version", [1, 2])
def test_a_peer_behind_a_nat(near: Site, hidden: tuple[Peer, Machine], version: int) -> None:
    behind, nat = hidden
    _masquerade(nat, "20000-20099")
    mine = connection("203.0.113.1", NAT, NEAR[:1], FAR[:1], version=f"ikev{version}", passive=True, split=True)
    near.push(mine)
    behind.configure(
        "203.0.113.1",
        NEAR[:1],
        psk=PSK,
        version=version,
        ike="aes256-sha256-modp2048",
        esp="aes256-sha256",
        call=True,
        # it asks and tells, so that whoever is before it learns of a new mapping
        options="dpd_delay = 1s\n keyingtries = 0",
        networks=FAR[:1],
    )
    detail = near.wait_state("Error", f"to-{NAT}", 30)["detail"]
    assert detail == f"the peer calls itself {INSIDE}, not {NAT}"
    near.push({**mine, "peer_id": INSIDE})
    wait_for(lambda: behind.swanctl("--initiate", "--child", "office-0"), 20, "the peer to call again")
    near.wait_state("Connected", f"to-{NAT}", 60)
    wait_for(lambda: near.guest.ping("10.2.1.10"), 10, "an echo through the NAT")
    _masquerade(nat, "30000-30099")
    wait_for(lambda: near.guest.ping("10.2.1.10"), 30, "an echo through the new mapping")
    assert ":3" in near.swanctl("--list-sas").replace("[3", ":3")
