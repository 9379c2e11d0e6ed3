"""Shared networks through the API: who may create, see and use them, their ranges, VLANs and secondary addresses."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from controlplane.store.defaultofferings import SHARED_NETWORK_OFFERING
from controlplane.store.models import PhysicalNetwork
from tests.acting import Tenant
from tests.control import caller_for, http_for

RANGE = {"gateway": "198.18.0.1", "netmask": "255.255.255.0", "startip": "198.18.0.10", "endip": "198.18.0.12"}
OTHER = {"gateway": "198.18.1.1", "netmask": "255.255.255.0", "startip": "198.18.1.10", "endip": "198.18.1.12"}


def wanted(tenant: Tenant, **more: Any) -> dict[str, Any]:
    offering = tenant.offerings[SHARED_NETWORK_OFFERING]
    return {"name": "s", "zoneid": tenant.zone, "networkofferingid": offering, "vlan": "100", **RANGE} | more


def shared(tenant: Tenant, **more: Any) -> dict[str, Any]:
    made: dict[str, Any] = tenant.call("createNetwork", **wanted(tenant, **more))["network"]
    return made


def account(tenant: Tenant, name: str, domain: str) -> Tenant:
    given = {"password": "secret-1234", "firstname": "x", "lastname": "y", "email": "x@example.org"}
    made = tenant.call("createAccount", accounttype=0, username=name, account=name, domainid=domain, **given)
    runtime = tenant.runtime
    return Tenant(caller_for(runtime, http_for(runtime), made["account"]["user"][0]["id"]), runtime)


def domain(tenant: Tenant, name: str, parent: str | None = None, **more: Any) -> str:
    above = {"parentdomainid": parent} if parent else {}
    id: str = tenant.call("createDomain", name=name, **above, **more)["domain"]["id"]
    return id


def sees(tenant: Tenant, network: dict[str, Any]) -> bool:
    return network["id"] in {row["id"] for row in tenant.call("listNetworks").get("network", [])}


def may_deploy(tenant: Tenant, network: dict[str, Any], name: str) -> bool:
    given = {"zoneid": tenant.zone, "templateid": tenant.template, "serviceofferingid": tenant.size}
    answer = tenant.call.raw("deployVirtualMachine", networkids=network["id"], name=name, **given)
    assert answer.status_code in (200, 531), answer.text
    return answer.status_code == 200


def test_what_it_looks_like(tenant: Tenant, bob: Tenant) -> None:
    made = shared(tenant)
    assert (made["type"], made["acltype"], made["subdomainaccess"]) == ("Shared", "Domain", True)
    assert (made["gateway"], made["cidr"], made["vlan"]) == ("198.18.0.1", "198.18.0.0/24", "100")
    assert made["broadcasturi"] == "vlan://100" and made["specifyipranges"] and "account" not in made
    [seen] = bob.call("listNetworks")["network"]
    assert "vlan" not in seen and seen["id"] == made["id"]
    assert bob.call("listNetworks", type="Isolated") == {}
    assert bob.call("listNetworks", acltype="account") == {}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"vlan": ""}, 431),
        ({"vlan": "4095"}, 431),
        # the default zone's public addresses are there
        ({"vlan": "untagged"}, 537),
        ({"gateway": ""}, 431),
        ({"startip": "198.18.2.1"}, 431),
        ({"startip": "198.18.0.1"}, 431),
        ({"gateway": "203.0.113.1", "startip": "203.0.113.251", "endip": "203.0.113.252"}, 537),
        ({"acltype": "account"}, 431),
        ({"domainid": "x"}, 431),
        # the router takes the only address
        ({"networkdomain": "a b"}, 431),
    ],
)
def test_bad_ones(tenant: Tenant, change: dict[str, str], code: int) -> None:
    assert tenant.call.error("createNetwork", **wanted(tenant, **change))["errorcode"] == code
    assert tenant.call("listNetworks") == {}
    assert tenant.call("listVlanIpRanges", forvirtualnetwork=False) == {}


def test_users_create_none_and_see_no_such_offering(bob: Tenant) -> None:
    assert bob.call.error("createNetwork", **wanted(bob))["errorcode"] == 531
    names = {row["name"] for row in bob.call("listNetworkOfferings")["networkoffering"]}
    assert SHARED_NETWORK_OFFERING not in names


def test_users_change_none(tenant: Tenant, bob: Tenant) -> None:
    everyones = shared(tenant)
    his = shared(tenant, acltype="account", account="bob", domainid=everyones["domainid"], vlan="101", **OTHER)
    for network in (everyones, his):
        for command in ("updateNetwork", "deleteNetwork", "restartNetwork"):
            assert bob.call.error(command, id=network["id"])["errorcode"] == 531


def test_a_vlan_is_of_one_network(tenant: Tenant) -> None:
    made = shared(tenant)
    assert tenant.call.error("createNetwork", **wanted(tenant, **OTHER))["errorcode"] == 537
    tenant.run("deleteNetwork", id=made["id"])
    # its addresses are free again too
    assert shared(tenant)["vlan"] == "100"


def test_for_one_account(tenant: Tenant, bob: Tenant) -> None:
    root = tenant.call("listDomains")["domain"][0]["id"]
    network = shared(tenant, acltype="account", account="bob", domainid=root)
    eve = account(tenant, "eve", root)
    assert network["account"] == "bob"
    assert sees(bob, network) and may_deploy(bob, network, "a")
    assert not sees(eve, network) and not may_deploy(eve, network, "b")


def test_for_a_domain_and_those_below(tenant: Tenant, bob: Tenant) -> None:
    team = domain(tenant, "team")
    below = domain(tenant, "below", team)
    near = domain(tenant, "team2")
    member, junior, neighbour = (account(tenant, name, id) for name, id in (("mm", team), ("jj", below), ("nn", near)))
    wide = shared(tenant, acltype="domain", domainid=team)
    narrow = shared(tenant, acltype="domain", domainid=team, subdomainaccess=False, vlan="101", **OTHER)
    assert (wide["subdomainaccess"], narrow["subdomainaccess"], wide["domainpath"]) == (True, False, "ROOT/team")
    for caller, uses in ((member, (True, True)), (junior, (True, False)), (neighbour, (False, False))):
        for number, (network, expected) in enumerate(zip((wide, narrow), uses, strict=True)):
            assert sees(caller, network) is expected
            assert may_deploy(caller, network, f"vm{number}-{sum(uses)}") is expected
    assert not sees(bob, wide) and not may_deploy(bob, wide, "c")
    # what is asked for by id is subject to the same
    assert neighbour.call("listNetworks", id=wide["id"]) == {}
    assert junior.call("listNetworks", id=wide["id"])["count"] == 1


def test_the_setting_about_domains_below(tenant: Tenant) -> None:
    tenant.call("updateConfiguration", name="allow.subdomain.network.access", value="false")
    assert shared(tenant, acltype="domain", domainid=domain(tenant, "team"))["subdomainaccess"] is False


def test_ranges(tenant: Tenant) -> None:
    network = shared(tenant)
    given = {"networkid": network["id"], "forvirtualnetwork": False}
    made = tenant.call("createVlanIpRange", **given, **OTHER)["vlan"]
    assert (made["vlan"], made["networkid"], made["forvirtualnetwork"]) == ("vlan://100", network["id"], False)
    assert tenant.call("listVlanIpRanges")["count"] == 1
    assert tenant.call("listVlanIpRanges", networkid=network["id"])["count"] == 2
    assert tenant.call.error("createVlanIpRange", **given, **OTHER)["errorcode"] == 537
    assert tenant.call.error("createVlanIpRange", vlan="7", **given, **OTHER)["errorcode"] == 431
    # the router has the first address of each subnet; guests take what is left, range by range
    addresses = [tenant.vm(networkids=network["id"], name=f"vm{n}")["nic"][0] for n in range(4)]
    assert [nic["ipaddress"] for nic in addresses] == ["198.18.0.11", "198.18.0.12", "198.18.1.11", "198.18.1.12"]
    assert [nic["gateway"] for nic in addresses] == ["198.18.0.1"] * 2 + ["198.18.1.1"] * 2
    more = {"zoneid": tenant.zone, "templateid": tenant.template, "serviceofferingid": tenant.size}
    assert tenant.call.error("deployVirtualMachine", networkids=network["id"], **more)["errorcode"] == 533
    assert tenant.call.error("deleteVlanIpRange", id=made["id"])["errorcode"] == 536
    same = {**OTHER, "startip": "198.18.1.20", "endip": "198.18.1.20"}
    tenant.call("createVlanIpRange", **given, **same)
    # a further range of a subnet needs no further address for the router
    assert tenant.vm(networkids=network["id"], name="more")["nic"][0]["ipaddress"] == "198.18.1.20"


def test_it_has_no_public_addresses(tenant: Tenant) -> None:
    network = shared(tenant)
    assert tenant.call.error("associateIpAddress", networkid=network["id"])["errorcode"] == 431
    given = {"networkid": network["id"], "protocol": "tcp"}
    assert tenant.call.error("createEgressFirewallRule", **given)["errorcode"] == 432


def test_a_domain_stays_while_it_has_one(tenant: Tenant) -> None:
    team = domain(tenant, "team")
    network = shared(tenant, acltype="domain", domainid=team)
    assert tenant.call.error("deleteDomain", id=team)["errorcode"] == 536
    tenant.run("deleteNetwork", id=network["id"])
    tenant.run("deleteDomain", id=team)


def test_the_last_range_stays(tenant: Tenant) -> None:
    network = shared(tenant)
    [first] = tenant.call("listVlanIpRanges", networkid=network["id"])["vlaniprange"]
    assert tenant.call.error("deleteVlanIpRange", id=first["id"])["errorcode"] == 536
    tenant.call("createVlanIpRange", networkid=network["id"], forvirtualnetwork=False, **OTHER)
    assert tenant.call("deleteVlanIpRange", id=first["id"])["success"] == "true"
    [now] = tenant.call("listNetworks", id=network["id"])["network"]
    assert (now["gateway"], now["cidr"]) == ("198.18.1.1", "198.18.1.0/24")


def test_isolated_networks_have_no_ranges(tenant: Tenant) -> None:
    network = tenant.network()
    given = {"networkid": network["id"], "forvirtualnetwork": False, **OTHER}
    assert tenant.call.error("createVlanIpRange", **given)["errorcode"] == 431
    isolated = {"name": "n", "zoneid": tenant.zone, "networkofferingid": network["networkofferingid"]}
    for more in ({"vlan": "100"}, {"acltype": "domain"}, {"subdomainaccess": True}):
        assert tenant.call.error("createNetwork", **isolated, **more)["errorcode"] == 431


def test_permissions(tenant: Tenant, bob: Tenant) -> None:
    root = tenant.call("listDomains")["domain"][0]["id"]
    eve, stranger = account(tenant, "eve", root), account(tenant, "stranger", domain(tenant, "far"))
    network = bob.network()
    given = {"networkid": network["id"]}
    assert not sees(eve, network) and not may_deploy(eve, network, "a")
    assert eve.call.error("createNetworkPermissions", **given, accounts="eve")["errorcode"] == 531
    assert bob.call.error("createNetworkPermissions", **given)["errorcode"] == 431
    assert bob.call.error("createNetworkPermissions", **given, accounts="stranger")["errorcode"] == 431
    far = stranger.call("listAccounts")["account"][0]["id"]
    assert bob.call.error("createNetworkPermissions", **given, accountids=far)["errorcode"] == 531
    for _ in range(2):
        bob.call("createNetworkPermissions", **given, accounts="eve")
    [row] = bob.call("listNetworkPermissions", **given)["networkpermission"]
    assert row["account"] == "eve"
    assert sees(eve, network) and may_deploy(eve, network, "a")
    for chosen, there in (("shared", True), ("accountdomain", False), ("domain", False)):
        listed = eve.call("listNetworks", networkfilter=chosen).get("network", [])
        assert (network["id"] in {row["id"] for row in listed}) is there
    assert eve.call.error("listNetworkPermissions", **given)["errorcode"] == 531
    bob.call("resetNetworkPermissions", **given)
    assert bob.call("listNetworkPermissions", **given) == {}
    assert not may_deploy(eve, network, "b")
    everyones = shared(tenant)
    assert tenant.call.error("createNetworkPermissions", networkid=everyones["id"], accounts="eve")["errorcode"] == 431


def test_secondary_addresses(tenant: Tenant, bob: Tenant) -> None:
    network = bob.network()
    vm, other = bob.vm(networkids=network["id"]), bob.vm(networkids=network["id"])
    nic = vm["nic"][0]["id"]
    first = bob.run("addIpToNic", nicid=nic)
    assert first["ipaddress"] == "10.1.1.4"
    assert bob.run("addIpToNic", nicid=nic, ipaddress="10.1.1.9")["ipaddress"] == "10.1.1.9"
    for taken in ("10.1.1.9", other["nic"][0]["ipaddress"]):
        assert bob.call.error("addIpToNic", nicid=nic, ipaddress=taken)["errorcode"] == 536
    for bad in ("10.1.1.1", "10.1.2.1", "x"):
        assert bob.call.error("addIpToNic", nicid=nic, ipaddress=bad)["errorcode"] == 431
    tenant.call("updateConfiguration", name="vm.network.nic.max.secondary.ipaddresses", value=2)
    assert bob.call.error("addIpToNic", nicid=nic)["errorcode"] == 532
    [shown] = bob.call("listNics", virtualmachineid=vm["id"])["nic"]
    assert [row["ipaddress"] for row in shown["secondaryip"]] == ["10.1.1.4", "10.1.1.9"]
    bob.run("removeIpFromNic", id=first["id"])
    assert bob.call.error("removeIpFromNic", id=first["id"])["errorcode"] == 431
    # a VM that goes leaves none behind
    tenant.run("destroyVirtualMachine", id=vm["id"], expunge=True)
    assert bob.run("addIpToNic", nicid=other["nic"][0]["id"], ipaddress="10.1.1.9")["ipaddress"] == "10.1.1.9"


def test_another_primary_address(bob: Tenant) -> None:
    vm = bob.vm(networkids=bob.network()["id"])
    nic = vm["nic"][0]["id"]
    assert bob.call.error("updateVmNicIp", nicid=nic, ipaddress="10.1.1.77")["errorcode"] == 431
    bob.run("stopVirtualMachine", id=vm["id"])
    assert bob.run("updateVmNicIp", nicid=nic, ipaddress="10.1.1.77")["nic"][0]["ipaddress"] == "10.1.1.77"
    assert bob.call.error("updateVmNicIp", nicid=nic, ipaddress="10.1.1.1")["errorcode"] == 431


def test_numbers_of_vxlans_are_no_vlans(tenant: Tenant) -> None:
    database = tenant.runtime.database
    with database.transaction() as session:
        physical = session.scalars(select(PhysicalNetwork)).one()
        physical.vlan = "100-200"
    error = tenant.call.error("createNetwork", **wanted(tenant, vlan="101"))
    assert f"which {physical.name} gives isolated networks" in error["errortext"]
    with database.transaction() as session:
        session.scalars(select(PhysicalNetwork)).one().isolation_methods = ["VXLAN"]
    shared(tenant, vlan="101")


def test_where_the_domain_of_a_network_comes_from(tenant: Tenant, bob: Tenant) -> None:
    team = domain(tenant, "team", networkdomain="team.example")
    below = domain(tenant, "below", team)
    junior = account(tenant, "j", below)
    made = junior.network()
    assert made["networkdomain"] == "team.example"
    assert shared(tenant, acltype="domain", domainid=below)["networkdomain"] == "team.example"
    assert bob.network()["networkdomain"].endswith(".cloud.internal")
    tenant.call("updateZone", id=tenant.zone, domain="zone.example")
    assert bob.network()["networkdomain"] == "zone.example"
    assert shared(tenant, vlan="101", **OTHER)["networkdomain"] == "zone.example"
    tenant.call("updateDomain", id=below, networkdomain="below.example")
    assert tenant.call("listDomains", id=below)["domain"][0]["networkdomain"] == "below.example"
    # networks that are there change when they are asked to
    [there] = junior.call("listNetworks", id=made["id"])["network"]
    assert there["networkdomain"] == "team.example"
    assert junior.run("updateNetwork", id=made["id"])["networkdomain"] == "below.example"
    tenant.call("updateAccount", account="j", domainid=below, newname="j", networkdomain="j.example")
    assert junior.run("updateNetwork", id=made["id"])["networkdomain"] == "j.example"
    assert junior.run("updateNetwork", id=made["id"], networkdomain="own.example")["networkdomain"] == "own.example"
    assert junior.run("updateNetwork", id=made["id"])["networkdomain"] == "own.example"
    assert tenant.call.error("createDomain", name="bad", networkdomain="a b")["errorcode"] == 431
    # what is taken away is inherited again
    other = junior.network(name="other")
    assert other["networkdomain"] == "j.example"
    tenant.call("updateAccount", account="j", domainid=below, networkdomain="")
    assert junior.run("updateNetwork", id=other["id"])["networkdomain"] == "below.example"
    tenant.call("updateDomain", id=below, networkdomain="")
    assert junior.run("updateNetwork", id=other["id"])["networkdomain"] == "team.example"
    tenant.call("updateDomain", id=team, networkdomain="")
    assert junior.run("updateNetwork", id=other["id"])["networkdomain"] == "zone.example"
    tenant.call("updateZone", id=tenant.zone, domain="")
    assert junior.run("updateNetwork", id=other["id"])["networkdomain"].endswith(".cloud.internal")


def test_a_basic_zone(tenant: Tenant, bob: Tenant) -> None:
    given = {"dns1": "192.0.2.53", "internaldns1": "192.0.2.53"}
    zone = tenant.call("createZone", name="basic", networktype="Basic", **given)["zone"]
    assert zone["networktype"] == "Basic"
    tenant.run("createPhysicalNetwork", name="p", zoneid=zone["id"])
    pod = tenant.call("createPod", name="pod", zoneid=zone["id"], **(RANGE | {"endip": "198.18.0.12"}))["pod"]
    offering = tenant.offerings[SHARED_NETWORK_OFFERING]
    asked = {"name": "guests", "zoneid": zone["id"], "networkofferingid": offering}
    network = tenant.call("createNetwork", **asked)["network"]
    assert "cidr" not in network
    assert tenant.call.error("createNetwork", **asked)["errorcode"] == 431
    made = tenant.call("createVlanIpRange", zoneid=zone["id"], podid=pod["id"], forvirtualnetwork=False, **OTHER)
    assert (made["vlan"]["networkid"], made["vlan"]["podid"]) == (network["id"], pod["id"])
    vm = bob.vm(zoneid=zone["id"])
    assert (vm["nic"][0]["networkid"], vm["nic"][0]["ipaddress"]) == (network["id"], "198.18.1.11")
    named = bob.call.error(
        "deployVirtualMachine",
        zoneid=zone["id"],
        templateid=bob.template,
        serviceofferingid=bob.size,
        networkids=network["id"],
    )
    assert named["errorcode"] == 431 and "networkids: zone basic is a basic one" in named["errortext"]
