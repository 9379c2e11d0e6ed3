"""Networks that many accounts share: what guests of different tenants get and what they cannot get at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from cs import CloudStack, CloudStackApiException

from tests.netns.controlplane.cloud import Answer, Cloud

SHARED = "DefaultSharedNetworkOffering"
GATEWAY = "198.18.0.1"


@dataclass
class Site:
    """A zone-wide network with a guest of each of two accounts."""

    network: Answer
    alice: CloudStack
    bob: CloudStack
    alices: Answer
    bobs: Answer

    @property
    def router(self) -> str:
        """The router's address, which is the lowest of the range."""
        return "198.18.0.10"


def shared_network(cloud: Cloud, name: str, **more: Any) -> Answer:
    admin = cloud.admin
    given = {
        "zoneid": admin.listZones()["zone"][0]["id"],
        "networkofferingid": admin.listNetworkOfferings(name=SHARED)["networkoffering"][0]["id"],
        "gateway": GATEWAY,
        "netmask": "255.255.255.0",
        "startip": "198.18.0.10",
        "endip": "198.18.0.50",
        "vlan": "100",
    }
    made: Answer = admin.createNetwork(name=name, displaytext=name, **(given | more))["network"]
    return made


@pytest.fixture(scope="module")
def site(cloud: Cloud) -> Site:
    network = shared_network(cloud, "campus", networkdomain="campus.example")
    alice, bob = cloud.tenant("alice"), cloud.tenant("bob")
    guests = [
        cloud.deploy(api, name, network, userdata=data)
        for api, name, data in ((alice, "alice1", "YWxpY2U="), (bob, "bob1", "Ym9i"))
    ]
    return Site(network, alice, bob, *guests)


def _refused(call: Any) -> int:
    with pytest.raises(CloudStackApiException) as caught:
        call()
    return int(caught.value.error["errorcode"])


def test_each_tenant_sees_it_and_gets_a_lease(cloud: Cloud, site: Site) -> None:
    for api, guest in ((site.alice, site.alices), (site.bob, site.bobs)):
        [seen] = api.listNetworks()["network"]
        assert (seen["id"], seen["type"], seen["acltype"], "account" in seen) == (
            site.network["id"],
            "Shared",
            "Domain",
            False,
        )
        [nic] = guest["nic"]
        assert (nic["gateway"], nic["netmask"]) == (GATEWAY, "255.255.255.0")
        assert cloud.address(guest["id"]) == nic["ipaddress"]
        routes = cloud.run(guest["id"], ["ip", "route"]).stdout
        assert f"default via {GATEWAY} " in routes
        assert f"169.254.169.254 via {site.router} " in routes
        resolvers = cloud.run(guest["id"], ["cat", "/etc/resolv.conf"]).stdout
        assert f"nameserver {site.router}\n" in resolvers


def test_each_guest_has_its_own_metadata(cloud: Cloud, site: Site) -> None:
    for guest, data in ((site.alices, "alice"), (site.bobs, "bob")):
        own = guest["nic"][0]["ipaddress"]
        for server in (site.router, "169.254.169.254"):
            assert cloud.fetch(guest["id"], f"http://{server}/latest/user-data") == data
            assert cloud.fetch(guest["id"], f"http://{server}/latest/meta-data/public-ipv4") == own
            assert cloud.fetch(guest["id"], f"http://{server}/latest/meta-data/local-ipv4") == own


def test_guests_are_addressed_directly(cloud: Cloud, site: Site) -> None:
    cloud.serve_page(site.bobs["id"], "page of bob")
    assert cloud.fetch(site.alices["id"], f"http://{site.bobs['nic'][0]['ipaddress']}/") == "page of bob"
    assert cloud.router(site.network)["guestipaddress"] == site.router
    # nothing is translated: there is no public address
    assert cloud.admin.listPublicIpAddresses(associatednetworkid=site.network["id"]) == {}
