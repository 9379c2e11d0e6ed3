"""Load balancer rules, their members, policies and certificates."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import select

from appliance.schema.status import Status
from controlplane.convergence.observe import take_status
from controlplane.store.models import Appliance, SslCertificate
from tests.acting import Tenant
from tests.certificates import self_signed


@dataclass
class Site:
    """A network with two guests and one public address besides the source NAT one."""

    tenant: Tenant
    network: str
    vms: list[str]
    ip: str

    @property
    def rule(self) -> dict[str, Any]:
        return {"name": "web", "algorithm": "RoundRobin", "publicport": 80, "privateport": 8080, "publicipid": self.ip}

    def create(self, **params: Any) -> dict[str, Any]:
        made: dict[str, Any] = self.tenant.run("createLoadBalancerRule", **(self.rule | params))
        return made

    def document(self) -> dict[str, Any]:
        """The load balancer section that the router would be sent now; it must be a valid one."""
        section: dict[str, Any] = self.tenant.router_state(self.network).get("loadbalancer", {})
        return section

    def balanced(self) -> dict[str, Any]:
        [found] = self.document()["rules"]
        assert isinstance(found, dict)
        return found


@pytest.fixture
def site(tenant: Tenant) -> Site:
    network = tenant.network()["id"]
    vms = [tenant.vm(networkids=network, name=name)["id"] for name in ("one", "two")]
    return Site(tenant, network, vms, tenant.address(network)["id"])


def _count(site: Site, command: str, **params: object) -> int:
    found: int = site.tenant.call(command, **params).get("count", 0)
    return found


def test_a_rule_and_its_types(site: Site) -> None:
    made = site.create(cidrlist="192.0.2.0/24,198.51.100.7/32")
    assert (made["publicport"], made["privateport"], made["algorithm"]) == ("80", "8080", "roundrobin")
    assert (made["state"], made["protocol"], made["networkid"]) == ("Active", "tcp", site.network)
    assert made["cidrlist"] == "192.0.2.0/24,198.51.100.7/32"
    assert _count(site, "listFirewallRules") == 0
    assert site.balanced()["members"] == []
    [listed] = site.tenant.call("listLoadBalancerRules", publicipid=site.ip)["loadbalancerrule"]
    assert listed == made
    [address] = site.tenant.call("listPublicIpAddresses", id=site.ip)["publicipaddress"]
    assert address["hasrules"]


def test_the_life_of_a_rule(site: Site) -> None:
    made = site.create(openfirewall=True, cidrlist="192.0.2.0/24")
    [opened] = site.tenant.call("listFirewallRules", ipaddressid=site.ip)["firewallrule"]
    assert (opened["startport"], opened["cidrlist"], opened["state"]) == (80, "192.0.2.0/24", "Active")
    assert site.tenant.run("assignToLoadBalancerRule", id=made["id"], virtualmachineids=site.vms) == {"success": True}
    assert [member["address"] for member in site.balanced()["members"]] == ["10.1.1.2", "10.1.1.3"]
    members = site.tenant.call("listLoadBalancerRuleInstances", id=made["id"])["loadbalancerruleinstance"]
    assert [member["id"] for member in members] == site.vms
    assert members[0]["nic"][0]["ipaddress"] == "10.1.1.2"
    changed = site.tenant.run("updateLoadBalancerRule", id=made["id"], algorithm="source", name="new")
    assert (changed["algorithm"], changed["name"]) == ("source", "new")
    assert site.balanced()["algorithm"] == "source"
    site.tenant.run("removeFromLoadBalancerRule", id=made["id"], virtualmachineids=site.vms[0])
    assert [member["address"] for member in site.balanced()["members"]] == ["10.1.1.3"]
    free = site.tenant.call("listLoadBalancerRuleInstances", id=made["id"], applied=False)
    assert [member["id"] for member in free["loadbalancerruleinstance"]] == site.vms[:1]
    # a VM that is gone is no member
    site.tenant.run("destroyVirtualMachine", id=site.vms[1], expunge=True)
    assert site.balanced()["members"] == []
    assert site.tenant.run("deleteLoadBalancerRule", id=made["id"]) == {"success": True}
    assert _count(site, "listLoadBalancerRules") == _count(site, "listFirewallRules") == 0
    assert site.document() == {}


def test_what_health_checks_say(site: Site) -> None:
    made = site.create()
    site.tenant.run("assignToLoadBalancerRule", id=made["id"], virtualmachineids=site.vms)
    report = {"members": {made["id"]: {"10.1.1.2:8080": "Up", "10.1.1.3:8080": "Down"}}}
    with site.tenant.runtime.database.transaction() as session:
        router = session.scalars(select(Appliance).where(Appliance.network_id == site.network)).one()
        status = Status(
            id=router.id,
            role="router",
            version="1",
            started=0,
            generation=router.observed_generation,
            digest="",
            reports={"loadbalancer": report},
        )
        take_status(session, router, status)
    members = site.tenant.call("listLoadBalancerRuleInstances", id=made["id"])["loadbalancerruleinstance"]
    assert [member["servicestate"] for member in members] == ["Up", "Down"]


def test_a_rule_takes_an_address_of_its_own(site: Site) -> None:
    rule = site.rule | {"networkid": site.network}
    del rule["publicipid"]
    made = site.tenant.run("createLoadBalancerRule", **rule)
    assert made["publicipid"] != site.ip
    assert _count(site, "listPublicIpAddresses", id=made["publicipid"]) == 1


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"algorithm": "random"}, 431),
        ({"protocol": "udp"}, 431),
        ({"publicport": 0}, 431),
        ({"privateport": 65536}, 431),
        ({"cidrlist": "nonsense"}, 431),
        ({"publicipid": "x"}, 431),
        ({"networkid": "x"}, 431),
        ({}, 537),
    ],
)
def test_rules_that_are_refused_change_nothing(site: Site, params: dict[str, Any], code: int) -> None:
    site.create()
    port = {} if code == 537 else {"publicport": 81}
    error = site.tenant.call.error("createLoadBalancerRule", openfirewall=True, **(site.rule | port | params))
    assert error["errorcode"] == code
    assert (_count(site, "listLoadBalancerRules"), _count(site, "listFirewallRules")) == (1, 0)


def test_one_port_has_one_use(site: Site) -> None:
    forward = {"ipaddressid": site.ip, "virtualmachineid": site.vms[0], "protocol": "tcp"}
    made = site.create()
    clash = forward | {"publicport": 79, "publicendport": 81, "privateport": 79, "privateendport": 81}
    assert site.tenant.call.error("createPortForwardingRule", **clash)["errorcode"] == 537
    assert site.tenant.run("createPortForwardingRule", **(clash | {"protocol": "udp"}))["state"] == "Active"
    error = site.tenant.call.error("enableStaticNat", ipaddressid=site.ip, virtualmachineid=site.vms[0])
    assert error["errorcode"] == 537
    site.tenant.run("deleteLoadBalancerRule", id=made["id"])
    site.tenant.run("createPortForwardingRule", **clash)
    assert site.tenant.call.error("createLoadBalancerRule", **site.rule)["errorcode"] == 537
    other = site.tenant.address(site.network)["id"]
    site.tenant.call("enableStaticNat", ipaddressid=other, virtualmachineid=site.vms[0])
    error = site.tenant.call.error("createLoadBalancerRule", **(site.rule | {"publicipid": other}))
    assert error["errorcode"] == 537


def test_members_that_are_refused(site: Site) -> None:
    made = site.create()
    stranger = site.tenant.vm(networkids=site.tenant.network(name="other")["id"])["id"]
    call = site.tenant.call
    site.tenant.run("assignToLoadBalancerRule", id=made["id"], virtualmachineids=site.vms[0])
    for params, code in (
        ({"virtualmachineids": site.vms[0]}, 537),
        ({"virtualmachineids": stranger}, 431),
        ({"virtualmachineids": "x"}, 431),
        ({}, 431),
    ):
        assert call.error("assignToLoadBalancerRule", id=made["id"], **params)["errorcode"] == code, params
    error = call.error("removeFromLoadBalancerRule", id=made["id"], virtualmachineids=site.vms[1])
    assert error["errorcode"] == 431
    sent = {"vmidipmap[0]__vmid": site.vms[1], "vmidipmap[0]__vmip": "10.1.1.9"}
    assert call.error("assignToLoadBalancerRule", id=made["id"], **sent)["errorcode"] == 431
    site.tenant.run("assignToLoadBalancerRule", id=made["id"], **(sent | {"vmidipmap[0]__vmip": "10.1.1.3"}))
    assert len(site.balanced()["members"]) == 2


def test_clients_learn_the_stickiness_methods_from_a_network(site: Site) -> None:
    [network] = site.tenant.call("listNetworks", id=site.network)["network"]
    [service] = [one for one in network["service"] if one["name"] == "Lb"]
    [text] = [one["value"] for one in service["capability"] if one["name"] == "SupportedStickinessMethods"]
    methods = {one["methodname"]: {part["paramname"]: part for part in one["paramlist"]} for one in json.loads(text)}
    assert methods.keys() == {"LbCookie", "AppCookie", "SourceBased"}
    assert methods["SourceBased"].keys() == {"tablesize", "expire"}
    assert methods["AppCookie"]["cookie-name"]["required"]
    assert methods["LbCookie"]["nocache"]["isflag"]


def test_a_vm_with_several_addresses(site: Site) -> None:
    made, vm, call = site.create(), site.vms[0], site.tenant.call
    [nic] = call("listVirtualMachines", id=vm)["virtualmachine"][0]["nic"]
    second = site.tenant.run("addIpToNic", nicid=nic["id"])["ipaddress"]
    both = [nic["ipaddress"], second]

    def shown() -> list[str]:
        found = call("listLoadBalancerRuleInstances", id=made["id"]).get("loadbalancerruleinstance", [])
        return [member["lbvmipaddress"] for member in found if member["id"] == vm]

    sent = {f"vmidipmap[{n}].vmid": vm for n in (0, 1)} | {f"vmidipmap[{n}].vmip": both[n] for n in (0, 1)}
    site.tenant.run("assignToLoadBalancerRule", id=made["id"], **sent)
    assert shown() == both
    assert [member["address"] for member in site.balanced()["members"]] == both
    site.tenant.take_reports(site.network, {"loadbalancer": {"members": {made["id"]: {f"{second}:8080": "Up"}}}})
    listed = call("listLoadBalancerRuleInstances", id=made["id"], lbvmips=True)
    [entry] = listed["lbrulevmidip"]
    assert (listed["count"], entry["lbvmipaddresses"]) == (1, both)
    # of its addresses one is up
    assert (entry["loadbalancerruleinstance"]["id"], entry["loadbalancerruleinstance"]["servicestate"]) == (vm, "Up")
    free = call("listLoadBalancerRuleInstances", id=made["id"], lbvmips=True, applied=False)["lbrulevmidip"]
    assert [(one["loadbalancerruleinstance"]["id"], one["lbvmipaddresses"]) for one in free] == [(site.vms[1], [])]
    assert call.error("assignToLoadBalancerRule", id=made["id"], virtualmachineids=vm)["errorcode"] == 537
    one = {"vmidipmap[0].vmid": vm, "vmidipmap[0].vmip": nic["ipaddress"]}
    site.tenant.run("removeFromLoadBalancerRule", id=made["id"], **one)
    assert shown() == [second]
    assert call.error("removeFromLoadBalancerRule", id=made["id"], **one)["errorcode"] == 431
    site.tenant.run("assignToLoadBalancerRule", id=made["id"], virtualmachineids=vm)
    assert len(shown()) == 2
    site.tenant.run("removeFromLoadBalancerRule", id=made["id"], virtualmachineids=vm)
    assert shown() == []


def test_what_the_router_refuses_is_taken_back(site: Site) -> None:
    site.tenant.runtime.fail = "haproxy refuses"
    answer = site.tenant.call("createLoadBalancerRule", openfirewall=True, **site.rule)
    assert answer["id"]
    assert (_count(site, "listLoadBalancerRules"), _count(site, "listFirewallRules")) == (0, 0)
    made = site.create()
    site.tenant.runtime.fail = "haproxy refuses"
    site.tenant.call("assignToLoadBalancerRule", id=made["id"], virtualmachineids=site.vms)
    site.tenant.runtime.fail = "haproxy refuses"
    site.tenant.call("updateLoadBalancerRule", id=made["id"], algorithm="source")
    assert (site.balanced()["members"], site.balanced()["algorithm"]) == ([], "roundrobin")
    site.tenant.run("assignToLoadBalancerRule", id=made["id"], virtualmachineids=site.vms)
    site.tenant.runtime.fail = "haproxy refuses"
    site.tenant.call("removeFromLoadBalancerRule", id=made["id"], virtualmachineids=site.vms[0])
    assert len(site.balanced()["members"]) == 2


def _params(**given: str) -> dict[str, str]:
    sent: dict[str, str] = {}
    for index, (name, value) in enumerate(given.items()):
        sent |= {f"param[{index}]__name": name.replace("_", "-"), f"param[{index}]__value": value}
    return sent


def test_a_stickiness_policy(site: Site) -> None:
    made = site.create()
    sent = {"lbruleid": made["id"], "name": "p", "methodname": "lbcookie"}
    sent |= _params(cookie_name="SRV", mode="insert", nocache="true", domain="a.example", holdtime="30m")
    answer = site.tenant.run("createLBStickinessPolicy", **sent)
    [policy] = answer["stickinesspolicy"]
    assert (answer["lbruleid"], policy["methodname"], policy["state"]) == (made["id"], "LbCookie", "Active")
    assert policy["params"]["holdtime"] == "30m"
    expected = {"method": "LbCookie", "cookie_name": "SRV", "nocache": True, "holdtime": 1800}
    assert expected.items() <= site.balanced()["stickiness"].items()
    assert site.tenant.call.error("createLBStickinessPolicy", **sent)["errorcode"] == 537
    [listed] = site.tenant.call("listLBStickinessPolicies", lbruleid=made["id"])["stickinesspolicies"]
    assert [one["id"] for one in listed["stickinesspolicy"]] == [policy["id"]]
    raw = site.tenant.call.raw("deleteLBStickinessPolicy", id=policy["id"])
    assert list(raw.json()) == ["deleteLBstickinessrruleresponse"]
    assert "stickiness" not in site.balanced()


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("Magic", {}),
        ("AppCookie", {}),
        ("AppCookie", {"cookie_name": "JS", "mode": "insert"}),
        ("AppCookie", {"cookie_name": "JS", "length": "0"}),
        ("AppCookie", {"cookie_name": "JS", "length": "long"}),
        ("LbCookie", {"cookie_name": "a b"}),
        ("LbCookie", {"mode": "rewrite", "holdtime": "1h"}),
        ("LbCookie", {"mode": "random"}),
        ("LbCookie", {"domain": "a_b"}),
        ("LbCookie", {"tablesize": "1k"}),
        ("SourceBased", {"tablesize": "many"}),
        ("SourceBased", {"expire": "1 week"}),
    ],
)
def test_stickiness_that_is_refused(site: Site, method: str, params: dict[str, str]) -> None:
    made = site.create()
    sent = {"lbruleid": made["id"], "name": "p", "methodname": method} | _params(**params)
    assert site.tenant.call.error("createLBStickinessPolicy", **sent)["errorcode"] == 431
    assert "stickiness" not in site.balanced()


def test_a_health_check_policy(site: Site) -> None:
    made = site.create()
    call = site.tenant.call
    for params in (
        {"responsetimeout": 0},
        {"intervaltime": 301},
        {"healthythreshold": 11},
        {"unhealthythreshold": 0},
        {"pingpath": "no-slash"},
        {"pingpath": "/a b"},
    ):
        error = call.error("createLBHealthCheckPolicy", lbruleid=made["id"], **params)
        assert error["errorcode"] == 431
        assert next(iter(params)) in error["errortext"]
    answer = site.tenant.run(
        "createLBHealthCheckPolicy", lbruleid=made["id"], pingpath="/ping?x=1", intervaltime=3, unhealthythreshold=4
    )
    [policy] = answer["healthcheckpolicy"]
    assert (policy["pingpath"], policy["healthcheckinterval"], policy["unhealthcheckthresshold"]) == ("/ping?x=1", 3, 4)
    assert {"path": "/ping?x=1", "interval": 3, "unhealthy": 4}.items() <= site.balanced()["health"].items()
    assert call("listLBHealthCheckPolicies", lbruleid=made["id"])["healthcheckpolicies"] == [answer]
    site.tenant.run("deleteLBHealthCheckPolicy", id=policy["id"])
    assert "path" not in site.balanced()["health"]


def test_certificates(site: Site) -> None:
    certificate, key = self_signed("one.example")
    sent = {"name": "one", "certificate": certificate, "privatekey": key}
    uploaded = site.tenant.call("uploadSslCert", **sent)["sslcert"]
    assert "privatekey" not in uploaded
    with site.tenant.runtime.database.reading() as session:
        assert key.encode()[40:80] not in session.scalars(select(SslCertificate.private_key)).one()
    second = site.tenant.call(
        "uploadSslCert", **dict(zip(("certificate", "privatekey"), self_signed("two.example"), strict=True)), name="two"
    )["sslcert"]
    made = site.create(protocol="ssl", publicport=443)
    assert site.document()["rules"] == [], "TLS needs a certificate"
    for one in (uploaded, second):
        site.tenant.run("assignCertToLoadBalancer", lbruleid=made["id"], certid=one["id"])
    assert site.balanced()["certificates"] == [uploaded["id"], second["id"]]
    pems = {one["id"]: one["pem"] for one in site.document()["certificates"]}
    assert pems[uploaded["id"]] == certificate + key
    assert site.tenant.call.error("deleteSslCert", id=uploaded["id"])["errorcode"] == 536
    listed = site.tenant.call("listSslCerts", lbruleid=made["id"])["sslcert"]
    assert [one["loadbalancerrulelist"] for one in listed] == [[made["id"]]] * 2
    site.tenant.run("assignCertToLoadBalancer", lbruleid=made["id"], certid=second["id"], forced=True)
    assert site.balanced()["certificates"] == [second["id"]]
    site.tenant.run("removeCertFromLoadBalancer", lbruleid=made["id"])
    assert site.document()["rules"] == []
    assert site.tenant.call("deleteSslCert", id=uploaded["id"]) == {"success": "true"}
    assert site.tenant.call("listSslCerts")["count"] == 1


def test_certificates_that_are_refused(site: Site) -> None:
    certificate, key = self_signed("one.example")
    good = {"name": "one", "certificate": certificate, "privatekey": key}
    for bad in (
        {"certificate": "nonsense"},
        {"privatekey": "nonsense"},
        {"privatekey": self_signed("one.example")[1]},
        {"certchain": self_signed("two.example")[0]},
    ):
        assert site.tenant.call.error("uploadSslCert", **(good | bad))["errorcode"] == 431
    made = site.create()
    uploaded = site.tenant.call("uploadSslCert", **good)["sslcert"]
    assert site.tenant.call.error("uploadSslCert", **good)["errorcode"] == 537
    error = site.tenant.call.error("assignCertToLoadBalancer", lbruleid=made["id"], certid=uploaded["id"])
    assert error["errorcode"] == 431


def test_a_stranger_sees_and_changes_nothing(site: Site, bob: Tenant) -> None:
    made = site.create()
    assert bob.call("listLoadBalancerRules") == {}
    for command in ("deleteLoadBalancerRule", "updateLoadBalancerRule", "listLoadBalancerRuleInstances"):
        assert bob.call.error(command, id=made["id"])["errorcode"] == 531
    error = bob.call.error("createLBHealthCheckPolicy", lbruleid=made["id"])
    assert error["errorcode"] == 531


def test_rules_go_with_their_address_and_their_network(site: Site) -> None:
    site.create()
    site.tenant.run("disassociateIpAddress", id=site.ip)
    assert _count(site, "listLoadBalancerRules") == 0
    other = site.tenant.address(site.network)["id"]
    made = site.create(publicipid=other, openfirewall=True)
    site.tenant.run("assignToLoadBalancerRule", id=made["id"], virtualmachineids=site.vms)
    for vm in site.vms:
        site.tenant.run("destroyVirtualMachine", id=vm, expunge=True)
    site.tenant.run("deleteNetwork", id=site.network)
