"""Networks that many accounts share: what guests of different tenants get and what they cannot get at."""

from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from cs import CloudStack, CloudStackApiException

from controlplane import routers
from controlplane.hypervisors.base import GuestSpec, Nic, Segment
from controlplane.hypervisors.namespace.driver import NamespaceHypervisor
from tests.netns.controlplane.cloud import INTERNET, Answer, Cloud
from tests.wait import wait_for

SHARED = "DefaultSharedNetworkOffering"
GATEWAY = "198.18.0.1"
#: the network's gateway, and whatever else has a port on its VLAN that no host filters
OUTSIDE = "outside"
#: a name that only the zone's resolver knows
ELSEWHERE = ("elsewhere.example", "192.0.2.7")


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


@pytest.fixture(scope="module")
def outside(cloud: Cloud, site: Site) -> str:
    """The gateway of the network, behind which is the zone's resolver."""
    resolver = cloud.admin.listZones()["zone"][0]["dns1"]
    cloud.stop()
    segment = routers.guest_segment(site.network["id"])
    owner = NamespaceHypervisor(cloud.data / "namespace", data=cloud.data)
    owner.open()
    try:
        owner.ensure_segment(Segment(segment))
        nic = Nic("02:00:5e:00:53:02", segment, trusted=True)
        owner.start_guest(GuestSpec(OUTSIDE, OUTSIDE, (nic,), "bare"))
    finally:
        owner.close()
    cloud.start()
    for address in (f"{GATEWAY}/24", "198.18.1.1/24", f"{resolver}/32"):
        cloud.run(OUTSIDE, ["ip", "address", "add", address, "dev", "eth0"])
    cloud.run(OUTSIDE, ["ip", "link", "set", "eth0", "up"])
    server = ["dnsmasq", "--no-daemon", "--no-resolv", "--no-hosts", f"--address=/{ELSEWHERE[0]}/{ELSEWHERE[1]}"]
    argv = cloud.instances.command(OUTSIDE, ["setsid", "-f", *server])
    subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return OUTSIDE


def _dig(cloud: Cloud, guest: Answer, *words: str) -> list[str]:
    return cloud.run(guest["id"], ["dig", "+short", "+tries=1", "+time=2", *words], check=False).stdout.split()


def test_names_of_all_and_of_elsewhere(cloud: Cloud, site: Site, outside: str) -> None:
    bob = site.bobs["nic"][0]["ipaddress"]
    assert _dig(cloud, site.alices, "+search", "bob1") == [bob]
    assert _dig(cloud, site.alices, "-x", bob) == ["bob1.campus.example."]
    assert _dig(cloud, site.alices, "data-server.campus.example") == [site.router]
    wait_for(lambda: _dig(cloud, site.alices, ELSEWHERE[0]) == [ELSEWHERE[1]], 15, "the answer of the zone's resolver")


def test_nobody_gets_what_is_anothers_in_its_name(cloud: Cloud, site: Site, outside: str) -> None:
    """The owner of a port without a filter claims Alice's address, by ARP too, and asks in her name."""
    own = site.alices["nic"][0]["ipaddress"]
    asked = f"http://{site.router}/latest/user-data"
    assert cloud.fetch(site.alices["id"], asked) == "alice"
    for thief in (outside, site.bobs["id"]):
        cloud.run(thief, ["ip", "address", "add", f"{own}/32", "dev", "eth0"])
        try:
            for url in (asked, f"http://{site.router}:8080/"):
                # who looks for the router says that Alice is here
                cloud.run(thief, ["ip", "neighbour", "flush", "dev", "eth0"])
                argv = ["curl", "-s", "-m", "2", "--interface", own, "-H", "DomU_Request: send_my_password", url]
                assert cloud.run(thief, argv, check=False).stdout == ""
        finally:
            cloud.run(thief, ["ip", "address", "del", f"{own}/32", "dev", "eth0"])
        # what Alice asked for went to nobody else meanwhile, nor does it now
        assert cloud.fetch(site.alices["id"], asked) == "alice"
    # from its own address it is a stranger, and learns nothing
    assert cloud.fetch(outside, asked) == ""


def test_a_further_range_with_a_gateway_of_its_own(cloud: Cloud, site: Site, outside: str) -> None:
    admin = cloud.admin
    given = {"gateway": "198.18.1.1", "netmask": "255.255.255.0", "startip": "198.18.1.10", "endip": "198.18.1.12"}
    made = admin.createVlanIpRange(forvirtualnetwork=False, networkid=site.network["id"], **given)["vlan"]
    assert (made["networkid"], made["forvirtualnetwork"], made["vlan"]) == (site.network["id"], False, "vlan://100")
    # Alice is served on
    assert cloud.fetch(site.alices["id"], f"http://{site.router}/latest/user-data") == "alice"
    guest = cloud.deploy(site.bob, "bob2", site.network, ipaddress="198.18.1.11", userdata="Ym9iMg==")
    [nic] = guest["nic"]
    assert (nic["ipaddress"], nic["gateway"]) == ("198.18.1.11", "198.18.1.1")
    assert cloud.address(guest["id"]) == "198.18.1.11"
    assert "default via 198.18.1.1 " in cloud.run(guest["id"], ["ip", "route"]).stdout
    for server in ("198.18.1.10", "169.254.169.254"):
        assert cloud.fetch(guest["id"], f"http://{server}/latest/user-data") == "bob2"
    assert _dig(cloud, guest, "alice1.campus.example", "@198.18.1.10") == [site.alices["nic"][0]["ipaddress"]]
    assert _refused(lambda: admin.deleteVlanIpRange(id=made["id"])) == 536
    site.bob.destroyVirtualMachine(id=guest["id"])
    admin.expungeVirtualMachine(id=guest["id"])
    assert admin.deleteVlanIpRange(id=made["id"])["success"] in (True, "true")
    assert cloud.fetch(site.alices["id"], f"http://{site.router}/latest/user-data") == "alice"


def _renew(cloud: Cloud, guest: Answer) -> None:
    cloud.run(guest["id"], ["sh", "-c", "kill -USR1 $(cat /run/guest/udhcpc.eth0)"])


def _full_name(cloud: Cloud, guest: Answer) -> str:
    return cloud.run(guest["id"], ["hostname", "-f"], check=False).stdout.strip()


def test_a_new_domain_reaches_running_guests(cloud: Cloud, site: Site, outside: str) -> None:
    router = cloud.router(site.network)["id"]
    cloud.admin.updateNetwork(id=site.network["id"], networkdomain="new.example")
    own = site.alices["nic"][0]["ipaddress"]
    assert _dig(cloud, site.alices, "-x", own) == ["alice1.new.example."]
    assert _dig(cloud, site.alices, "alice1.campus.example") == []
    _renew(cloud, site.alices)
    wait_for(
        lambda: "search new.example\n" in cloud.run(site.alices["id"], ["cat", "/etc/resolv.conf"]).stdout,
        15,
        "the new domain in Alice's lease",
    )
    wait_for(lambda: _full_name(cloud, site.alices) == "alice1.new.example", 15, "the full name of alice1")
    # the same router, not another one
    assert cloud.router(site.network)["id"] == router
    cloud.admin.updateNetwork(id=site.network["id"], networkdomain="campus.example")


def test_a_domain_is_inherited_until_the_network_has_its_own(cloud: Cloud) -> None:
    admin = cloud.admin
    team = admin.createDomain(name="team", networkdomain="team.example")["domain"]
    password = {"password": "secret-of-eve", "email": "eve@example.org", "firstname": "E", "lastname": "V"}
    made = admin.createAccount(accounttype=0, username="eve", account="eve", domainid=team["id"], **password)
    keys = admin.registerUserKeys(id=made["account"]["user"][0]["id"])["userkeys"]
    eve = cloud.client(keys["apikey"], keys["secretkey"])
    network = cloud.network(eve, "inherits")
    assert network["networkdomain"] == "team.example"
    guest = cloud.deploy(eve, "eve1", network)
    address = cloud.address(guest["id"])
    wait_for(lambda: _full_name(cloud, guest) == "eve1.team.example", 15, "the full name of eve1")
    # the account's goes before the domain's, once the network is asked to take it
    admin.updateAccount(account="eve", domainid=team["id"], newname="eve", networkdomain="eve.example")
    assert _dig(cloud, guest, "-x", address) == ["eve1.team.example."]
    assert eve.updateNetwork(id=network["id"])["network"]["networkdomain"] == "eve.example"
    assert _dig(cloud, guest, "-x", address) == ["eve1.eve.example."]
    assert eve.updateNetwork(id=network["id"], networkdomain="own.example")["network"]["networkdomain"] == "own.example"
    assert eve.updateNetwork(id=network["id"], displaytext="x")["network"]["networkdomain"] == "own.example"
    assert _dig(cloud, guest, "-x", address) == ["eve1.own.example."]


def test_a_secondary_address_is_the_guests_to_use(cloud: Cloud, site: Site) -> None:
    nic = site.alices["nic"][0]["id"]
    added = site.alice.addIpToNic(nicid=nic, ipaddress="198.18.0.40")["nicsecondaryip"]
    assert added["ipaddress"] == "198.18.0.40"
    [shown] = site.alice.listNics(virtualmachineid=site.alices["id"])["nic"]
    assert [row["ipaddress"] for row in shown["secondaryip"]] == ["198.18.0.40"]
    assert _refused(lambda: site.bob.addIpToNic(nicid=nic)) == 531
    assert _refused(lambda: cloud.deploy(site.bob, "bob3", site.network, ipaddress="198.18.0.40")) == 536
    cloud.serve_page(site.alices["id"], "page of alice")
    cloud.run(site.alices["id"], ["ip", "address", "add", "198.18.0.40/24", "dev", "eth0"])
    assert cloud.fetch(site.bobs["id"], "http://198.18.0.40/") == "page of alice"
    # it is still its own after a stop
    site.alice.stopVirtualMachine(id=site.alices["id"], forced=True)
    site.alice.startVirtualMachine(id=site.alices["id"])
    assert cloud.address(site.alices["id"]) == site.alices["nic"][0]["ipaddress"]
    cloud.serve_page(site.alices["id"], "page of alice")
    cloud.run(site.alices["id"], ["ip", "address", "add", "198.18.0.40/24", "dev", "eth0"])
    assert cloud.fetch(site.bobs["id"], "http://198.18.0.40/") == "page of alice"
    site.alice.removeIpFromNic(id=added["id"])
    cloud.run(site.bobs["id"], ["ip", "neighbour", "flush", "dev", "eth0"])
    # still configured in the guest, but no longer its own
    assert cloud.fetch(site.bobs["id"], "http://198.18.0.40/") == ""
    assert cloud.fetch(site.bobs["id"], f"http://{site.alices['nic'][0]['ipaddress']}/") == "page of alice"


def test_rules_point_to_secondary_addresses(cloud: Cloud, site: Site) -> None:
    network = cloud.network(site.alice, "inside")
    guest = cloud.deploy(site.alice, "web", network)
    cloud.address(guest["id"])
    added = site.alice.addIpToNic(nicid=guest["nic"][0]["id"])["nicsecondaryip"]
    second = added["ipaddress"]
    cloud.run(guest["id"], ["ip", "address", "add", f"{second}/24", "dev", "eth0"])
    cloud.serve_page(guest["id"], "web")
    address = site.alice.associateIpAddress(networkid=network["id"])["ipaddress"]
    site.alice.enableStaticNat(ipaddressid=address["id"], virtualmachineid=guest["id"], vmguestip=second)
    site.alice.createFirewallRule(ipaddressid=address["id"], protocol="tcp", startport=80, endport=80)
    assert cloud.fetch(INTERNET, f"http://{address['ipaddress']}/") == "web"
    cloud.run(guest["id"], ["ip", "address", "del", f"{second}/24", "dev", "eth0"])
    assert cloud.fetch(INTERNET, f"http://{address['ipaddress']}/", 1) == ""
    cloud.run(guest["id"], ["ip", "address", "add", f"{second}/24", "dev", "eth0"])
    [shown] = site.alice.listPublicIpAddresses(id=address["id"])["publicipaddress"]
    assert (shown["vmipaddress"], shown["isstaticnat"]) == (second, True)
    assert _refused(lambda: site.alice.removeIpFromNic(id=added["id"])) == 536
    site.alice.disableStaticNat(ipaddressid=address["id"])
    forward = {"ipaddressid": address["id"], "protocol": "tcp", "publicport": 8000, "privateport": 80}
    rule = site.alice.createPortForwardingRule(
        virtualmachineid=guest["id"], vmguestip=second, openfirewall=True, **forward
    )["portforwardingrule"]
    assert rule["vmguestip"] == second
    assert cloud.fetch(INTERNET, f"http://{address['ipaddress']}:8000/") == "web"
    site.alice.deletePortForwardingRule(id=rule["id"])
    balancer = site.alice.createLoadBalancerRule(
        publicipid=address["id"], name="lb", algorithm="roundrobin", publicport=9000, privateport=80, openfirewall=True
    )["loadbalancer"]
    member = {"vmidipmap[0].vmid": guest["id"], "vmidipmap[0].vmip": second}
    site.alice.assignToLoadBalancerRule(id=balancer["id"], **member)
    assert cloud.fetch(INTERNET, f"http://{address['ipaddress']}:9000/") == "web"
    assert _refused(lambda: site.alice.removeIpFromNic(id=added["id"])) == 536
    site.alice.removeFromLoadBalancerRule(id=balancer["id"], **member)
    site.alice.removeIpFromNic(id=added["id"])


def test_permission_to_use_anothers_network(cloud: Cloud, site: Site) -> None:
    network = cloud.network(site.alice, "lent")
    assert _refused(lambda: cloud.deploy(site.bob, "guest", network)) == 531
    site.alice.createNetworkPermissions(networkid=network["id"], accounts="bob")
    [permitted] = site.alice.listNetworkPermissions(networkid=network["id"])["networkpermission"]
    assert permitted["account"] == "bob"
    assert network["id"] in {row["id"] for row in site.bob.listNetworks()["network"]}
    # to use, not to change
    assert _refused(lambda: site.bob.updateNetwork(id=network["id"], name="mine")) == 531
    guest = cloud.deploy(site.bob, "guest", network)
    assert cloud.address(guest["id"]) == guest["nic"][0]["ipaddress"]
    site.alice.removeNetworkPermissions(networkid=network["id"], accounts="bob")
    assert _refused(lambda: cloud.deploy(site.bob, "another", network)) == 531


def test_another_router_has_the_same_address(cloud: Cloud, site: Site) -> None:
    """Guests know the router by its address, in leases that last a day."""
    before = cloud.router(site.network)["id"]
    cloud.admin.restartNetwork(id=site.network["id"], cleanup=True)
    assert cloud.router(site.network)["id"] != before
    wait_for(
        lambda: cloud.fetch(site.alices["id"], f"http://{site.router}/latest/user-data") == "alice",
        15,
        "the new router at the address of the old one",
    )
    assert _dig(cloud, site.alices, "bob1.campus.example") == [site.bobs["nic"][0]["ipaddress"]]


@contextmanager
def _only_host_in(cloud: Cloud, pod: str) -> Iterator[None]:
    """Namespaces have one host, which no call moves to another zone; virtual machines' hosts are added to theirs."""
    [[before]] = cloud.rows("SELECT pod_id FROM cluster")
    statement = "UPDATE cluster SET pod_id = ?"
    with closing(sqlite3.connect(cloud.data / "gatehouse.db", timeout=10)) as database:
        try:
            database.execute(statement, (pod,))
            database.commit()
            yield
        finally:
            database.execute(statement, (before,))
            database.commit()


def test_a_basic_zone(cloud: Cloud, site: Site) -> None:
    admin = cloud.admin
    zone = admin.createZone(name="zone2", networktype="Basic", dns1="192.0.2.53", internaldns1="192.0.2.53")["zone"]
    admin.createPhysicalNetwork(name="basic", zoneid=zone["id"])
    subnet = {"gateway": "198.18.8.1", "netmask": "255.255.255.0"}
    pod = admin.createPod(name="pod", zoneid=zone["id"], startip="198.18.8.2", endip="198.18.8.9", **subnet)["pod"]
    offering = admin.listNetworkOfferings(name=SHARED)["networkoffering"][0]["id"]
    admin.createNetwork(name="guests", displaytext="guests", zoneid=zone["id"], networkofferingid=offering)
    admin.createVlanIpRange(
        zoneid=zone["id"],
        podid=pod["id"],
        forvirtualnetwork=False,
        startip="198.18.8.10",
        endip="198.18.8.20",
        **subnet,
    )
    placement = cloud.placement(site.bob) | {"zoneid": zone["id"], "userdata": "YmFzaWM="}
    with _only_host_in(cloud, pod["id"]):
        guest = site.bob.deployVirtualMachine(name="plain", **placement)["virtualmachine"]
    assert cloud.address(guest["id"]) == guest["nic"][0]["ipaddress"] == "198.18.8.11"
    assert cloud.fetch(guest["id"], "http://198.18.8.10/latest/user-data") == "basic"
    assert cloud.fetch(guest["id"], "http://198.18.8.10/latest/meta-data/availability-zone") == "zone2"


def test_it_goes_with_its_last_guest(cloud: Cloud, site: Site) -> None:
    network = shared_network(
        cloud, "brief", vlan="101", gateway="198.18.2.1", startip="198.18.2.10", endip="198.18.2.20"
    )
    guest = cloud.deploy(site.bob, "brief1", network)
    assert _refused(lambda: cloud.admin.deleteNetwork(id=network["id"])) == 536
    assert _refused(lambda: site.bob.deleteNetwork(id=network["id"])) == 531
    site.bob.destroyVirtualMachine(id=guest["id"])
    cloud.admin.expungeVirtualMachine(id=guest["id"])
    cloud.admin.deleteNetwork(id=network["id"])
    assert cloud.admin.listVlanIpRanges(forvirtualnetwork=False, vlan="101") == {}
    assert cloud.admin.listRouters(networkid=network["id"], listall="true") == {}
