"""Site-to-site VPN by a router that is a virtual machine, with a gateway whose IPsec is a kernel's too."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest

from tests.netns.vpn.sites import PSK, connection
from tests.vm.documents import PUBLIC, Network
from tests.vm.roadwarriors import Device, RoadMachine
from tests.wait import wait_for

PEER, BEHIND = "203.0.113.60", "10.2.1.0/24"


@pytest.fixture(scope="module")
def office(roads: RoadMachine) -> Iterator[Device]:
    """The other site's gateway."""
    yield roads.device("office", PEER)
    roads.quiet()


@pytest.mark.parametrize("encap", [False, True])
def test_esp_by_itself_or_in_udp(network: Network, office: Device, encap: bool) -> None:
    guests = "10.1.1.0/24"
    mine = connection(PUBLIC, PEER, (guests,), (BEHIND,), version="ikev2", passive=True, force_encap=encap)
    mine |= {"ike": {"encryption": "aes256", "hash": "sha256", "group": "modp2048"}}
    mine |= {"esp": {"encryption": "aes256", "hash": "sha256"}}
    state = copy.deepcopy(network.state)
    state["vpn"] = {"connections": [mine]}
    network.router.push(state)
    try:
        assert office.machine.end(office.join(PUBLIC, guests, PSK, BEHIND, encap=encap), 60)[0] == 0, office.log()
        wait_for(lambda: network.guest.ping("10.2.1.10", timeout=5), 30, "an echo from the other site")
        with office.machine.counted() as packets:
            assert network.guest.ping("10.2.1.10", timeout=10)
        both = {f"{end} 17/4500" for end in (PUBLIC, PEER)} if encap else {f"{end} 50" for end in (PUBLIC, PEER)}
        assert {key for key in packets if key.split()[0] in (PUBLIC, PEER)} == both, office.log()
        [condition] = network.router.status().reports["vpn"]["connections"].values()
        assert condition["state"] == "Connected"
        assert 'gatehouse_vpn_plane_info{plane="kernel"} 1' in network.router.metrics()
    finally:
        office.stop()
        network.router.push(network.state)
