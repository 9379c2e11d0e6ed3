from __future__ import annotations

from typing import Any

import pytest

from controlplane.store.defaultofferings import DEFAULT_NETWORK_OFFERING
from tests.acting import ActingRuntime, Tenant

PERSISTENT = f"{DEFAULT_NETWORK_OFFERING}Persistent"
EGRESS_ALLOW = f"{DEFAULT_NETWORK_OFFERING}EgressAllow"


def _get(tenant: Tenant, id: str) -> dict[str, Any]:
    [found] = tenant.call("listNetworks", id=id)["network"]
    assert isinstance(found, dict)
    return found


def test_creating_a_network_makes_a_row_and_nothing_else(tenant: Tenant, acting: ActingRuntime) -> None:
    made = tenant.network(name="web", displaytext="for the web", networkdomain="web.example")
    assert made["state"] == "Allocated"
    assert (made["cidr"], made["gateway"], made["netmask"]) == ("10.1.1.0/24", "10.1.1.1", "255.255.255.0")
    assert (made["name"], made["displaytext"], made["networkdomain"]) == ("web", "for the web", "web.example")
    assert not acting.started
    assert "listpublicipaddressesresponse" not in tenant.call("listPublicIpAddresses")
    assert _get(tenant, made["id"]) == made


def test_the_types_of_a_network_s_fields(tenant: Tenant) -> None:
    made = tenant.network()
    kinds = {
        bool: "restartrequired ispersistent issystem canusefordeploy specifyipranges redundantrouter "
        "egressdefaultpolicy networkofferingconservemode displaynetwork",
        str: "id name displaytext zoneid zonename networkofferingid networkofferingname networkofferingdisplaytext "
        "networkofferingavailability gateway netmask cidr networkdomain dns1 type acltype traffictype state related "
        "broadcastdomaintype physicalnetworkid account domain domainid created",
        list: "service tags",
    }
    for kind, names in kinds.items():
        for name in names.split():
            assert type(made[name]) is kind, name
    assert all(type(capability["value"]) is str for service in made["service"] for capability in service["capability"])
    assert {service["name"] for service in made["service"]} >= {"Dhcp", "Dns", "SourceNat", "Firewall", "UserData"}


def test_with_gateway_netmask_and_range(tenant: Tenant) -> None:
    made = tenant.network(gateway="192.168.7.1", netmask="255.255.255.0", startip="192.168.7.10", endip="192.168.7.20")
    assert (made["cidr"], made["startip"], made["endip"]) == ("192.168.7.0/24", "192.168.7.10", "192.168.7.20")
    vm = tenant.vm(networkids=made["id"])
    assert vm["nic"][0]["ipaddress"] == "192.168.7.10"


@pytest.mark.parametrize(
    "params",
    [
        {"gateway": "10.1.1.1"},
        {"gateway": "8.8.8.1", "netmask": "255.255.255.0"},
        {"startip": "10.9.9.9"},
        {"networkdomain": "-x"},
        {"zoneid": "nowhere"},
        {"networkofferingid": "none"},
        {"acltype": "domain"},
        {"name": ""},
        {"privatemtu": "100"},
    ],
)
def test_what_is_refused_and_leaves_nothing(tenant: Tenant, params: dict[str, str]) -> None:
    given = {"name": "x", "zoneid": tenant.zone, "networkofferingid": tenant.offerings[DEFAULT_NETWORK_OFFERING]}
    assert tenant.call.error("createNetwork", **(given | params))["errorcode"] == 431
    assert tenant.call("listNetworks") == {}


def test_the_quota(tenant: Tenant, bob: Tenant) -> None:
    tenant.limit("bob", "max.account.networks", 1)
    tenant.limit("admin", "max.account.networks", 1)
    bob.network()
    params = {"name": "x", "zoneid": bob.zone, "networkofferingid": bob.offerings[DEFAULT_NETWORK_OFFERING]}
    assert bob.call.error("createNetwork", **params)["errorcode"] == 532
    assert bob.call("listNetworks")["count"] == 1
    tenant.network()
    tenant.network()  # administrators have none


def test_the_first_guest_provisions_a_network(tenant: Tenant) -> None:
    network = tenant.network()
    tenant.vm(networkids=network["id"])
    assert _get(tenant, network["id"])["state"] == "Implemented"
    [router] = tenant.call("listRouters", networkid=network["id"])["router"]
    [source] = tenant.call("listPublicIpAddresses", associatednetworkid=network["id"])["publicipaddress"]
    assert router["state"] == "Running"
    assert source["issourcenat"] is True
    assert router["publicip"] == source["ipaddress"]


def test_a_persistent_network_is_provisioned_at_once(tenant: Tenant, acting: ActingRuntime) -> None:
    network = tenant.network(networkofferingid=tenant.offerings[PERSISTENT])
    assert [name for name, _, _ in acting.started] == ["implement_network"]
    assert _get(tenant, network["id"])["state"] == "Implemented"


def test_filters(tenant: Tenant) -> None:
    one = tenant.network(name="one")
    tenant.network(name="two", networkofferingid=tenant.offerings[EGRESS_ALLOW])
    for params, count in (
        ({}, 2),
        ({"keyword": "ON"}, 1),
        ({"zoneid": tenant.zone}, 2),
        ({"zoneid": "x"}, 0),
        ({"type": "isolated"}, 2),
        ({"type": "Shared"}, 0),
        ({"supportedservices": "Dhcp,SourceNat"}, 2),
        ({"supportedservices": "Dhcp,Magic"}, 0),
        ({"traffictype": "Guest"}, 2),
        ({"networkofferingid": one["networkofferingid"]}, 1),
        ({"issystem": "true"}, 0),
        ({"forvpc": "true"}, 0),
        ({"restartrequired": "false"}, 2),
        ({"restartrequired": "true"}, 0),
        ({"canusefordeploy": "true"}, 2),
        ({"acltype": "Account"}, 2),
        ({"acltype": "Domain"}, 0),
        ({"type": "%"}, 0),
    ):
        assert tenant.call("listNetworks", **params).get("count", 0) == count, params


def test_updating_names_and_the_domain(tenant: Tenant, acting: ActingRuntime) -> None:
    network = tenant.network()
    shown = tenant.run("updateNetwork", id=network["id"], name="new", displaytext="text", networkdomain="new.example")
    assert (shown["name"], shown["displaytext"], shown["networkdomain"]) == ("new", "text", "new.example")
    assert not acting.woken
    tenant.vm(networkids=network["id"])
    tenant.run("updateNetwork", id=network["id"], networkdomain="other.example")
    assert len(acting.woken) == 1
    assert tenant.call.error("updateNetwork", id=network["id"], networkdomain="a..b")["errorcode"] == 431


def test_changing_the_offering(tenant: Tenant, acting: ActingRuntime) -> None:
    network = tenant.network()
    shown = tenant.run("updateNetwork", id=network["id"], networkofferingid=tenant.offerings[EGRESS_ALLOW])
    assert shown["egressdefaultpolicy"] is True
    shown = tenant.run("updateNetwork", id=network["id"], networkofferingid=tenant.offerings[PERSISTENT])
    assert shown["state"] == "Implemented"
    assert [name for name, _, _ in acting.started] == ["implement_network"]


def test_restarting(tenant: Tenant) -> None:
    network = tenant.network()
    error = tenant.call.error("restartNetwork", id=network["id"])
    assert error["errorcode"] == 431
    assert "not in the right state" in error["errortext"]
    tenant.vm(networkids=network["id"])
    [before] = tenant.call("listRouters")["router"]
    assert tenant.run("restartNetwork", id=network["id"]) == {"success": True}
    assert tenant.call("listRouters")["router"][0]["id"] == before["id"]
    assert tenant.run("restartNetwork", id=network["id"], cleanup=True) == {"success": True}
    assert tenant.call("listRouters")["router"][0]["id"] != before["id"]


def test_deleting(tenant: Tenant) -> None:
    network = tenant.network()
    vm = tenant.vm(networkids=network["id"])
    error = tenant.call.error("deleteNetwork", id=network["id"])
    assert error["errorcode"] == 536
    assert _get(tenant, network["id"])["state"] == "Implemented"
    tenant.run("destroyVirtualMachine", id=vm["id"], expunge=True)
    assert tenant.run("deleteNetwork", id=network["id"]) == {"success": True}
    for command in ("listNetworks", "listRouters", "listPublicIpAddresses"):
        assert tenant.call(command) == {}
    error = tenant.call.error("deleteNetwork", id=network["id"])
    assert "due to incorrect long value format, or entity does not exist" in error["errortext"]


def test_what_belongs_to_another(tenant: Tenant, bob: Tenant) -> None:
    mine, his = tenant.network(), bob.network()
    assert bob.call("listNetworks")["network"][0]["id"] == his["id"]
    assert bob.call("listNetworks", listall=True)["count"] == 1
    assert bob.call("listNetworks", id=mine["id"]) == {}
    for command in ("updateNetwork", "deleteNetwork", "restartNetwork"):
        assert bob.call.error(command, id=mine["id"])["errorcode"] == 531
    assert bob.call.error("associateIpAddress", networkid=mine["id"])["errorcode"] == 531
    assert bob.call.error("createEgressFirewallRule", networkid=mine["id"], protocol="all")["errorcode"] == 531
    assert tenant.call("listNetworks")["count"] == 1
    assert tenant.call("listNetworks", listall=True)["count"] == 2
    assert "vlan" not in his


def test_events(tenant: Tenant) -> None:
    network = tenant.network()
    tenant.run("updateNetwork", id=network["id"], name="b")
    tenant.run("deleteNetwork", id=network["id"])
    assert tenant.events() == [
        ("NETWORK.CREATE", "Completed"),
        ("NETWORK.UPDATE", "Scheduled"),
        ("NETWORK.UPDATE", "Completed"),
        ("NETWORK.DELETE", "Scheduled"),
        ("NETWORK.DELETE", "Completed"),
    ]
