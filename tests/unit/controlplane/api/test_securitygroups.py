"""Security groups through the API, without hosts: what is refused, and what answers look like."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.hypervisors.policy import ICMP, TCP, Rule
from controlplane.securitygroups import compile, desired
from tests.acting import ActingRuntime, Tenant

ANY = "0.0.0.0/0"


def group(tenant: Tenant, name: str, **more: Any) -> dict[str, Any]:
    made: dict[str, Any] = tenant.call("createSecurityGroup", name=name, **more)["securitygroup"]
    return made


def refused(tenant: Tenant, command: str, **given: Any) -> int:
    code: int = tenant.call.error(command, **given)["errorcode"]
    return code


def ingress(tenant: Tenant, **given: Any) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = tenant.run("authorizeSecurityGroupIngress", **given)["ingressrule"]
    return made


def test_every_account_has_a_default_group_that_stays(tenant: Tenant, bob: Tenant) -> None:
    for owner in (tenant, bob):
        [found] = owner.call("listSecurityGroups")["securitygroup"]
        assert (found["name"], found["virtualmachinecount"]) == ("default", 0)
        assert refused(owner, "deleteSecurityGroup", id=found["id"]) == 431
        assert refused(owner, "updateSecurityGroup", id=found["id"], name="other") == 431


def test_names_are_unique_in_an_account(tenant: Tenant, bob: Tenant) -> None:
    made = group(tenant, "web", description="web servers")
    assert (made["description"], made["ingressrule"], made["tags"]) == ("web servers", [], [])
    assert refused(tenant, "createSecurityGroup", name="WEB") == 431
    group(bob, "web")
    assert tenant.call("updateSecurityGroup", id=made["id"], name="front")["securitygroup"]["name"] == "front"
    tenant.call("deleteSecurityGroup", name="front")
    assert refused(tenant, "deleteSecurityGroup", name="front") == 431


def test_a_user_has_no_say_in_groups_of_others(tenant: Tenant, bob: Tenant) -> None:
    made = group(tenant, "mine")
    [rule] = ingress(tenant, securitygroupid=made["id"], cidrlist=ANY, startport=80)
    assert refused(bob, "deleteSecurityGroup", id=made["id"]) == 531
    assert refused(bob, "authorizeSecurityGroupIngress", securitygroupid=made["id"], cidrlist=ANY, startport=80) == 531
    assert refused(bob, "revokeSecurityGroupIngress", id=rule["ruleid"]) == 531
    tags = {"tags[0].key": "a", "tags[0].value": "b"}
    assert refused(bob, "createTags", resourceids=rule["ruleid"], resourcetype="SecurityGroupRule", **tags) == 531
    tenant.run("createTags", resourceids=made["id"], resourcetype="SecurityGroup", **tags)
    [found] = tenant.call("listSecurityGroups", **tags)["securitygroup"]
    assert found["tags"][0]["key"] == "a"


def test_each_block_and_each_group_is_a_rule_of_its_own(tenant: Tenant, bob: Tenant) -> None:
    made, peer = group(tenant, "db"), group(bob, "web")
    given = {
        "securitygroupname": "db",
        "protocol": "TCP",
        "startport": 3306,
        "endport": 3307,
        "cidrlist": "10.1.0.0/16,10.2.0.0/16",
        "usersecuritygrouplist[0].account": "bob",
        "usersecuritygrouplist[0].group": "web",
    }
    first = ingress(tenant, **given)
    assert [(rule.get("cidr"), rule.get("account"), rule.get("securitygroupname")) for rule in first] == [
        ("10.1.0.0/16", None, None),
        ("10.2.0.0/16", None, None),
        (None, "bob", "web"),
    ]
    # asking again makes nothing new
    assert ingress(tenant, **given) == first
    assert len(tenant.call("listSecurityGroups", id=made["id"])["securitygroup"][0]["ingressrule"]) == 3
    assert refused(bob, "deleteSecurityGroup", id=peer["id"]) == 536
    tenant.run("revokeSecurityGroupIngress", id=first[2]["ruleid"])
    assert refused(tenant, "revokeSecurityGroupEgress", id=first[0]["ruleid"]) == 431
    bob.call("deleteSecurityGroup", id=peer["id"])


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({"protocol": "icmp", "icmptype": 8, "icmpcode": 0}, {"icmptype": 8, "icmpcode": 0}),
        ({"protocol": "icmp", "icmptype": -1, "icmpcode": -1}, {"icmptype": -1, "icmpcode": -1}),
        ({"protocol": "all"}, {"protocol": "all"}),
        ({"protocol": "6", "startport": 22, "endport": 22}, {"protocol": "tcp", "startport": 22}),
        ({"protocol": "47"}, {"protocol": "47"}),
        ({"protocol": "ESP"}, {"protocol": "50"}),
        ({"startport": 443}, {"protocol": "tcp", "startport": 443, "endport": 443}),
    ],
)
def test_protocols(tenant: Tenant, given: dict[str, Any], shown: dict[str, Any]) -> None:
    group(tenant, "g")
    [rule] = ingress(tenant, securitygroupname="g", cidrlist=ANY, **given)
    assert {name: rule[name] for name in shown} == shown


@pytest.mark.parametrize(
    "given",
    [
        {"cidrlist": ANY, "protocol": "sctp"},
        {"cidrlist": ANY, "protocol": "256"},
        {"cidrlist": ANY, "protocol": "47", "startport": 1},
        {"cidrlist": ANY, "protocol": "tcp", "startport": 0},
        {"cidrlist": ANY, "protocol": "tcp", "startport": 9, "endport": 8},
        {"cidrlist": ANY, "protocol": "icmp", "icmptype": 300},
        {"cidrlist": "10.0.0.0/33", "startport": 80},
        {"startport": 80},
        {"usersecuritygrouplist[0].account": "nobody", "usersecuritygrouplist[0].group": "g"},
        {"usersecuritygrouplist[0].account": "admin", "usersecuritygrouplist[0].group": "nothing"},
    ],
)
def test_what_does_not_fit_is_refused(tenant: Tenant, given: dict[str, Any]) -> None:
    group(tenant, "g")
    assert refused(tenant, "authorizeSecurityGroupIngress", securitygroupname="g", **given) == 431


def test_groups_need_a_network_that_has_them(tenant: Tenant) -> None:
    made = group(tenant, "g")
    network = tenant.network()
    assert refused(tenant, "deployVirtualMachine", **placement(tenant, network), securitygroupids=made["id"]) == 432
    assert tenant.vm(networkids=network["id"])["securitygroup"] == []


def test_the_policy_has_what_runs(tenant: Tenant, acting: ActingRuntime) -> None:
    made, peer = group(tenant, "db"), group(tenant, "web")
    network = secured_network(tenant)
    ingress(tenant, securitygroupid=made["id"], protocol="icmp", icmptype=8, cidrlist=ANY)
    ingress(
        tenant,
        securitygroupid=made["id"],
        startport=80,
        **{"usersecuritygrouplist[0].account": "admin", "usersecuritygrouplist[0].group": "web"},
    )
    server = tenant.vm(networkids=network["id"], securitygroupids=made["id"])
    client = tenant.vm(networkids=network["id"], securitygroupnames="web")
    assert [item["name"] for item in client["securitygroup"]] == ["web"]

    with acting.database.reading() as session:
        policy = compile.load(session)
        generation = desired.progress(session)[0]
    assert policy.groups[made["id"]].ingress == {
        Rule(ICMP, icmp_type=8, cidr=ANY),
        Rule(TCP, (80, 80), peer=peer["id"]),
    }
    assert policy.members == {peer["id"]: frozenset({client["nic"][0]["ipaddress"]})}
    assert policy.ports[server["id"], server["nic"][0]["macaddress"]] == (made["id"],)
    assert len(policy.ports) == 2

    tenant.call("updateVirtualMachine", id=client["id"], securitygroupnames="db")
    with acting.database.reading() as session:
        assert compile.load(session).members == {peer["id"]: frozenset()}
        wanted, enforced, _ = desired.progress(session)
        # the answer came when the hosts had it
        assert generation < wanted == enforced
    assert refused(tenant, "deleteSecurityGroup", name="db") == 536


def placement(tenant: Tenant, network: dict[str, Any]) -> dict[str, Any]:
    where = {"zoneid": tenant.zone, "templateid": tenant.template, "serviceofferingid": tenant.size}
    return {**where, "networkids": network["id"]}


def secured_network(tenant: Tenant) -> dict[str, Any]:
    return tenant.network(
        name="secured",
        networkofferingid=tenant.offerings["DefaultSharedNetworkOfferingWithSGService"],
        gateway="198.18.0.1",
        netmask="255.255.255.0",
        startip="198.18.0.10",
        endip="198.18.0.50",
        vlan="100",
    )
