from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from controlplane.jobs import PENDING
from controlplane.store.models import AsyncJob
from tests.acting import ActingRuntime, Tenant


@dataclass
class Site:
    """A network with one guest and one public address besides the source NAT one."""

    tenant: Tenant
    network: str
    vm: str
    ip: str

    @property
    def forward(self) -> dict[str, Any]:
        return {
            "ipaddressid": self.ip,
            "virtualmachineid": self.vm,
            "protocol": "TCP",
            "publicport": 80,
            "privateport": 8080,
        }


@pytest.fixture
def site(tenant: Tenant) -> Site:
    network = tenant.network()
    vm = tenant.vm(networkids=network["id"], name="web")
    return Site(tenant, network["id"], vm["id"], tenant.address(network["id"])["id"])


def _rules(site: Site) -> tuple[int, int, int]:
    """How many forwards, ingress rules and egress rules there are."""
    counts = [
        site.tenant.call(command).get("count", 0)
        for command in ("listPortForwardingRules", "listFirewallRules", "listEgressFirewallRules")
    ]
    return counts[0], counts[1], counts[2]


def test_a_forward_and_its_types(site: Site) -> None:
    made = site.tenant.run("createPortForwardingRule", **site.forward)
    assert made["state"] == "Active"
    for name in ("publicport", "publicendport", "privateport", "privateendport"):
        assert type(made[name]) is str, name
    assert (made["publicport"], made["privateendport"], made["protocol"]) == ("80", "8080", "tcp")
    assert (made["virtualmachinename"], made["vmguestip"]) == ("web", "10.1.1.2")
    assert made["networkid"] == site.network
    assert _rules(site) == (1, 0, 0)


def test_opening_the_firewall_on_the_way(site: Site) -> None:
    made = site.tenant.run("createPortForwardingRule", openfirewall=True, cidrlist="192.0.2.0/24", **site.forward)
    assert made["cidrlist"] == "192.0.2.0/24"
    [rule] = site.tenant.call("listFirewallRules", ipaddressid=site.ip)["firewallrule"]
    assert (rule["startport"], rule["endport"], rule["cidrlist"], rule["state"]) == (80, 80, "192.0.2.0/24", "Active")
    assert site.tenant.run("deletePortForwardingRule", id=made["id"]) == {"success": True}
    assert _rules(site) == (0, 0, 0)


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"publicport": 0}, 431),
        ({"publicport": 65536}, 431),
        ({"publicport": "http"}, 431),
        ({"publicport": 90, "publicendport": 80, "privateendport": 8080}, 431),
        ({"publicport": 90, "publicendport": 95}, 431),
        ({"protocol": "icmp"}, 431),
        ({"protocol": "TCPX"}, 431),
        ({"publicport": 79, "publicendport": 81, "privateendport": 8082}, 537),
        ({}, 537),
        ({"vmguestip": "10.1.1.9", "publicport": 90}, 431),
        ({"virtualmachineid": "x", "publicport": 90}, 431),
        ({"ipaddressid": "x", "publicport": 90}, 431),
        ({"networkid": "x", "publicport": 90}, 431),
        ({"cidrlist": "nonsense", "publicport": 90}, 431),
    ],
)
def test_forwards_that_are_refused_change_nothing(site: Site, params: dict[str, Any], code: int) -> None:
    site.tenant.run("createPortForwardingRule", **site.forward)
    error = site.tenant.call.error("createPortForwardingRule", openfirewall=True, **(site.forward | params))
    assert error["errorcode"] == code
    assert _rules(site) == (1, 0, 0)


def test_a_vm_of_another_network(site: Site) -> None:
    other = site.tenant.vm(networkids=site.tenant.network(name="other")["id"])
    for command in ("createPortForwardingRule", "enableStaticNat"):
        error = site.tenant.call.error(command, **(site.forward | {"virtualmachineid": other["id"]}))
        assert error["errorcode"] == 431
        assert "not on network" in error["errortext"]


def test_changing_a_forward(site: Site) -> None:
    other = site.tenant.vm(networkids=site.network)
    made = site.tenant.run("createPortForwardingRule", **(site.forward | {"publicendport": 89, "privateendport": 8089}))
    shown = site.tenant.run("updatePortForwardingRule", id=made["id"], privateport=9000, virtualmachineid=other["id"])
    assert (shown["privateport"], shown["privateendport"], shown["vmguestip"]) == ("9000", "9009", "10.1.1.3")
    assert shown["state"] == "Active"
    error = site.tenant.call.error("updatePortForwardingRule", id=made["id"], privateport=1, privateendport=2)
    assert error["errorcode"] == 431


def test_filters_of_forwards(site: Site) -> None:
    one = site.tenant.run("createPortForwardingRule", **site.forward)
    second = site.tenant.address(site.network)["id"]
    site.tenant.run("createPortForwardingRule", **(site.forward | {"ipaddressid": second}))
    for params, count in (
        ({}, 2),
        ({"id": one["id"]}, 1),
        ({"ipaddressid": second}, 1),
        ({"networkid": site.network}, 2),
        ({"virtualmachineid": site.vm}, 2),
        ({"networkid": "x"}, 0),
        ({"keyword": "tcp"}, 2),
        ({"keyword": "udp"}, 0),
    ):
        assert site.tenant.call("listPortForwardingRules", **params).get("count", 0) == count, params


def test_firewall_rules_and_their_types(site: Site) -> None:
    made = site.tenant.run(
        "createFirewallRule", ipaddressid=site.ip, protocol="tcp", startport=80, endport=90, cidrlist="192.0.2.7/24"
    )
    assert (type(made["startport"]), type(made["endport"]), type(made["protocol"])) == (int, int, str)
    assert (made["cidrlist"], made["ipaddressid"], made["state"]) == ("192.0.2.0/24", site.ip, "Active")
    assert made["ipaddress"].startswith("203.0.113.")
    ping = site.tenant.run("createFirewallRule", ipaddressid=site.ip, protocol="ICMP", icmptype=8, icmpcode=0)
    assert (ping["icmptype"], ping["icmpcode"], ping["cidrlist"]) == (8, 0, "0.0.0.0/0")
    assert "startport" not in ping
    anything = site.tenant.run("createFirewallRule", ipaddressid=site.ip, protocol="icmp", icmptype=-1, icmpcode=-1)
    assert (anything["icmptype"], anything["icmpcode"]) == (-1, -1)
    assert site.tenant.run("updateFirewallRule", id=made["id"])["id"] == made["id"]
    assert site.tenant.run("deleteFirewallRule", id=made["id"]) == {"success": True}
    assert _rules(site) == (0, 2, 0)


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"protocol": "gre"}, 431),
        ({"startport": 0}, 431),
        ({"startport": 100, "endport": 99}, 431),
        ({"startport": 99999}, 431),
        ({"cidrlist": "300.0.0.0/8"}, 431),
        ({"cidrlist": "192.0.2.0/24,x"}, 431),
        ({"icmptype": 8}, 431),
        ({"protocol": "icmp"}, 431),
        ({"startport": 85, "endport": 85}, 537),
        ({"startport": 1, "endport": 65535}, 537),
        ({"ipaddressid": "x"}, 431),
    ],
)
def test_firewall_rules_that_are_refused_change_nothing(site: Site, params: dict[str, Any], code: int) -> None:
    given = {"ipaddressid": site.ip, "protocol": "tcp", "startport": 80, "endport": 90}
    site.tenant.run("createFirewallRule", **given)
    assert site.tenant.call.error("createFirewallRule", **(given | params))["errorcode"] == code
    assert _rules(site) == (0, 1, 0)


def test_egress_rules(site: Site) -> None:
    made = site.tenant.run("createEgressFirewallRule", networkid=site.network, protocol="all")
    assert (made["networkid"], made["cidrlist"], made["protocol"]) == (site.network, "10.1.1.0/24", "all")
    narrow = site.tenant.run(
        "createEgressFirewallRule",
        networkid=site.network,
        protocol="tcp",
        startport=443,
        cidrlist="10.1.1.8/29",
        destcidrlist="192.0.2.0/24,198.51.100.0/24",
    )
    assert (narrow["startport"], narrow["endport"]) == (443, 443)
    assert narrow["destcidrlist"] == "192.0.2.0/24,198.51.100.0/24"
    for params, code in (
        ({"protocol": "tcp", "cidrlist": "10.9.0.0/24"}, 431),
        ({"protocol": "all"}, 537),
        ({"protocol": "all", "startport": 80}, 431),
        ({"protocol": "tcp", "startport": 443, "cidrlist": "10.1.1.8/29"}, None),
    ):
        if code is not None:
            error = site.tenant.call.error("createEgressFirewallRule", networkid=site.network, **params)
            assert error["errorcode"] == code, params
        else:
            site.tenant.run("createEgressFirewallRule", networkid=site.network, **params)
    assert _rules(site) == (0, 0, 3)
    # one family's commands do not know the other's rules
    assert site.tenant.call.error("deleteFirewallRule", id=made["id"])["errorcode"] == 431
    assert site.tenant.run("deleteEgressFirewallRule", id=made["id"]) == {"success": True}
    assert _rules(site) == (0, 0, 2)


def test_static_nat(site: Site) -> None:
    given = {"ipaddressid": site.ip, "virtualmachineid": site.vm}
    assert site.tenant.call("enableStaticNat", **given) == {"success": "true"}
    assert site.tenant.call("enableStaticNat", **given) == {"success": "true"}
    [shown] = site.tenant.call("listPublicIpAddresses", isstaticnat=True)["publicipaddress"]
    assert (shown["isstaticnat"], shown["virtualmachineid"], shown["vmipaddress"]) == (True, site.vm, "10.1.1.2")
    [vm] = site.tenant.call("listVirtualMachines", ipaddress=shown["ipaddress"])["virtualmachine"]
    assert (vm["publicip"], vm["publicipid"]) == (shown["ipaddress"], site.ip)
    error = site.tenant.call.error("createPortForwardingRule", **site.forward)
    assert error["errorcode"] == 537
    assert "static NAT" in error["errortext"]
    site.tenant.run("createFirewallRule", ipaddressid=site.ip, protocol="tcp", startport=22, endport=22)
    assert site.tenant.run("disableStaticNat", ipaddressid=site.ip) == {"success": True}
    assert _rules(site) == (0, 0, 0)
    assert site.tenant.call.error("disableStaticNat", ipaddressid=site.ip)["errorcode"] == 431
    site.tenant.run("createPortForwardingRule", **site.forward)
    assert site.tenant.call.error("enableStaticNat", **given)["errorcode"] == 537
    assert site.tenant.call("listIpForwardingRules") == {}


def test_addresses(site: Site) -> None:
    tenant = site.tenant
    [shown] = tenant.call("listPublicIpAddresses", id=site.ip)["publicipaddress"]
    assert (shown["issourcenat"], shown["isstaticnat"], shown["state"]) == (False, False, "Allocated")
    assert shown["associatednetworkid"] == site.network
    [source] = tenant.call("listPublicIpAddresses", issourcenat=True)["publicipaddress"]
    assert tenant.call.error("disassociateIpAddress", id=source["id"])["errorcode"] == 431
    assert tenant.call.error("enableStaticNat", ipaddressid=source["id"], virtualmachineid=site.vm)["errorcode"] == 431
    chosen = tenant.address(site.network, ipaddress="203.0.113.200")
    assert chosen["ipaddress"] == "203.0.113.200"
    for ip, code in (("203.0.113.200", 536), ("203.0.113.1", 431), ("8.8.8.8", 431), ("x", 431)):
        assert tenant.call.error("associateIpAddress", networkid=site.network, ipaddress=ip)["errorcode"] == code, ip
    tenant.run("createPortForwardingRule", openfirewall=True, **site.forward)
    assert tenant.run("disassociateIpAddress", id=site.ip) == {"success": True}
    assert _rules(site) == (0, 0, 0)
    assert tenant.call("listPublicIpAddresses")["count"] == 2
    assert tenant.call.error("disassociateIpAddress", id=site.ip)["errorcode"] == 431


def test_the_first_address_of_a_network_without_router(tenant: Tenant) -> None:
    network = tenant.network()
    assert tenant.address(network["id"])["issourcenat"] is True
    assert tenant.address(network["id"])["issourcenat"] is False
    by_zone = tenant.run("associateIpAddress", zoneid=tenant.zone)
    assert by_zone["associatednetworkid"] == network["id"]
    tenant.network(name="second")
    assert tenant.call.error("associateIpAddress", zoneid=tenant.zone)["errorcode"] == 431
    assert tenant.call.error("associateIpAddress")["errorcode"] == 431


def test_the_quota_of_addresses(tenant: Tenant, bob: Tenant) -> None:
    network = bob.network()
    tenant.limit("bob", "max.account.public.ips", 2)
    bob.address(network["id"])
    bob.address(network["id"])
    assert bob.call.error("associateIpAddress", networkid=network["id"])["errorcode"] == 532
    assert bob.call("listPublicIpAddresses")["count"] == 2


def test_free_addresses(site: Site) -> None:
    everything = site.tenant.call("listPublicIpAddresses", allocatedonly=False, page=1, pagesize=500)
    assert everything["count"] == 241
    assert len({row["id"] for row in everything["publicipaddress"]}) == 241
    assert [row["state"] for row in everything["publicipaddress"]].count("Free") == 239
    pages = [
        row["ipaddress"]
        for page in range(1, 26)
        for row in site.tenant.call("listPublicIpAddresses", allocatedonly=False, page=page, pagesize=10)[
            "publicipaddress"
        ]
    ]
    assert pages == [row["ipaddress"] for row in everything["publicipaddress"]]
    free = site.tenant.call("listPublicIpAddresses", allocatedonly=False, state="Free", page=1, pagesize=2)
    assert free["count"] == 239
    assert {row["state"] for row in free["publicipaddress"]} == {"Free"}
    one = site.tenant.call("listPublicIpAddresses", allocatedonly=False, ipaddress="203.0.113.99")
    assert [row["state"] for row in one["publicipaddress"]] == ["Free"]


def test_what_belongs_to_another(site: Site, bob: Tenant) -> None:
    rule = site.tenant.run("createPortForwardingRule", openfirewall=True, **site.forward)
    assert [bob.call(f"list{kind}", listall=True) for kind in ("PortForwardingRules", "FirewallRules")] == [{}, {}]
    assert bob.call("listPublicIpAddresses", id=site.ip) == {}
    for command, params in (
        ("createPortForwardingRule", site.forward),
        ("createFirewallRule", {"ipaddressid": site.ip, "protocol": "tcp"}),
        ("enableStaticNat", {"ipaddressid": site.ip, "virtualmachineid": site.vm}),
        ("disassociateIpAddress", {"id": site.ip}),
        ("deletePortForwardingRule", {"id": rule["id"]}),
        ("updatePortForwardingRule", {"id": rule["id"], "privateport": 1}),
    ):
        assert bob.call.error(command, **params)["errorcode"] == 531, command


# --- jobs that wait for the router ---------------------------------------------------------------------------


def _status(acting: ActingRuntime, job_id: str) -> int:
    with acting.database.reading() as session:
        return session.get_one(AsyncJob, job_id).status


def test_a_rule_is_active_when_the_router_has_it(site: Site, acting: ActingRuntime) -> None:
    acting.asleep = True
    answer = site.tenant.call("createPortForwardingRule", openfirewall=True, **site.forward)
    assert _status(acting, answer["jobid"]) == PENDING
    assert site.tenant.call("listPortForwardingRules")["portforwardingrule"][0]["state"] == "Add"
    deleted = site.tenant.call("deletePortForwardingRule", id=answer["id"])
    assert site.tenant.call("listPortForwardingRules")["portforwardingrule"][0]["state"] == "Revoke"
    # in the way of nobody any more
    site.tenant.call("createPortForwardingRule", **site.forward)
    acting.asleep = False
    acting.wake(acting.woken[-1])
    assert PENDING not in (_status(acting, answer["jobid"]), _status(acting, deleted["jobid"]))
    [left] = site.tenant.call("listPortForwardingRules")["portforwardingrule"]
    assert left["state"] == "Active"
    assert left["id"] != answer["id"]
    assert _rules(site) == (1, 0, 0)


@pytest.mark.parametrize("command", ["createPortForwardingRule", "createFirewallRule", "createEgressFirewallRule"])
def test_a_rule_that_the_router_refuses_is_taken_back(site: Site, acting: ActingRuntime, command: str) -> None:
    acting.fail = "refused"
    params = {
        "createPortForwardingRule": site.forward | {"openfirewall": True},
        "createFirewallRule": {"ipaddressid": site.ip, "protocol": "tcp"},
        "createEgressFirewallRule": {"networkid": site.network, "protocol": "all"},
    }[command]
    site.tenant.call(command, **params)
    assert _rules(site) == (0, 0, 0)


def test_a_change_that_the_router_refuses_is_taken_back(site: Site, acting: ActingRuntime) -> None:
    made = site.tenant.run("createPortForwardingRule", **site.forward)
    acting.fail = "refused"
    site.tenant.call("updatePortForwardingRule", id=made["id"], privateport=1)
    assert site.tenant.call("listPortForwardingRules")["portforwardingrule"] == [made]


def test_an_address_that_the_router_refuses_is_free_again(site: Site, acting: ActingRuntime) -> None:
    acting.fail = "refused"
    site.tenant.call("associateIpAddress", networkid=site.network, ipaddress="203.0.113.99")
    site.tenant.address(site.network, ipaddress="203.0.113.99")


def test_events(site: Site) -> None:
    rule = site.tenant.run("createPortForwardingRule", **site.forward)
    site.tenant.run("deletePortForwardingRule", id=rule["id"])
    rule = site.tenant.run("createFirewallRule", ipaddressid=site.ip, protocol="tcp")
    site.tenant.run("deleteFirewallRule", id=rule["id"])
    site.tenant.call("enableStaticNat", ipaddressid=site.ip, virtualmachineid=site.vm)
    site.tenant.run("disableStaticNat", ipaddressid=site.ip)
    site.tenant.run("disassociateIpAddress", id=site.ip)
    done = [kind for kind, state in site.tenant.events() if state == "Completed"]
    assert done[-8:] == [
        "NET.IPASSIGN",
        "NET.RULEADD",
        "NET.RULEDELETE",
        "FIREWALL.OPEN",
        "FIREWALL.CLOSE",
        "STATICNAT.ENABLE",
        "STATICNAT.DISABLE",
        "NET.IPRELEASE",
    ]


def test_routers(site: Site, bob: Tenant) -> None:
    tenant = site.tenant
    [router] = tenant.call("listRouters", networkid=site.network, fetchhealthcheckresults=True)["router"]
    kinds: dict[type, str] = {
        str: "id name state zoneid zonename publicip guestipaddress linklocalip vpcid redundantstate role "
        "serviceofferingid serviceofferingname guestnetworkid created account domain dns1 networkdomain",
        bool: "requiresupgrade isredundantrouter healthchecksfailed",
        list: "nic healthcheckresults",
    }
    for kind, names in kinds.items():
        for name in names.split():
            assert type(router[name]) is kind, name
    assert router["guestipaddress"] == "10.1.1.1"
    assert [nic["traffictype"] for nic in router["nic"]] == ["Guest", "Control", "Public"]
    health = tenant.call("getRouterHealthCheckResults", routerid=router["id"])["routerhealthchecks"]
    assert health["routerid"] == router["id"]
    assert health["healthchecks"] == router["healthcheckresults"]
    assert health["healthchecks"] == [{"checkname": "dhcp", "checktype": "basic", "success": True, "details": ""}]
    assert tenant.run("stopRouter", id=router["id"])["state"] == "Stopped"
    assert tenant.call.error("rebootRouter", id=router["id"])["errorcode"] == 431
    assert tenant.call.error("getRouterHealthCheckResults", routerid=router["id"])["errorcode"] == 431
    # nothing to wait for: the rules come with the router's start
    assert tenant.run("createPortForwardingRule", **site.forward)["state"] == "Active"
    assert tenant.run("startRouter", id=router["id"])["state"] == "Running"
    assert tenant.run("rebootRouter", id=router["id"])["state"] == "Running"
    for params, count in (
        ({"state": "running"}, 1),
        ({"state": "Stopped"}, 0),
        ({"zoneid": tenant.zone}, 1),
        ({"forvpc": "false"}, 1),
        ({"forvpc": "true"}, 0),
        ({"name": router["name"]}, 1),
        ({"keyword": "r-"}, 1),
        ({"healthchecksfailed": "true"}, 0),
    ):
        assert tenant.call("listRouters", **params).get("count", 0) == count, params
    assert tenant.run("destroyRouter", id=router["id"])["state"] == "Destroyed"
    assert tenant.call("listRouters") == {}
    assert bob.call.error("listRouters")["errorcode"] == 432
