"""Security groups from the API to the packets: cs and libcloud, guests of two accounts on a shared network."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from cs import CloudStack, CloudStackApiException
from libcloud.compute.providers import get_driver
from libcloud.compute.types import Provider

from appliance.run import run
from tests.netns.api.test_shared_networks import shared_network
from tests.netns.controlplane.cloud import GATEHOUSE, Answer, Cloud
from tests.wait import wait_for

OFFERING = "DefaultSharedNetworkOfferingWithSGService"


@dataclass
class Site:
    """Alice has a web server, bob a client."""

    network: Answer
    alice: CloudStack
    bob: CloudStack
    server: Answer
    client: Answer

    @property
    def url(self) -> str:
        return f"http://{self.server['nic'][0]['ipaddress']}/"


@pytest.fixture(scope="module")
def site(cloud: Cloud) -> Site:
    offering = cloud.admin.listNetworkOfferings(name=OFFERING)["networkoffering"][0]["id"]
    network = shared_network(cloud, "secured", networkofferingid=offering)
    alice, bob = cloud.tenant("alice"), cloud.tenant("bob")
    server, client = cloud.deploy(alice, "server", network), cloud.deploy(bob, "client", network)
    for guest in (server, client):
        # neither DHCP nor metadata need a rule
        assert cloud.address(guest["id"]) == guest["nic"][0]["ipaddress"]
        assert wait_for(partial(metadata, cloud, guest["id"]), 10, "metadata") == guest["id"]
    cloud.serve_page(server["id"], "page of alice")
    return Site(network, alice, bob, server, client)


def metadata(cloud: Cloud, guest: str) -> str:
    return cloud.fetch(guest, "http://169.254.169.254/latest/meta-data/instance-id")


def reaches(cloud: Cloud, site: Site) -> bool:
    return cloud.fetch(site.client["id"], site.url, 1) == "page of alice"


def refused(call: Callable[[], Any]) -> int:
    with pytest.raises(CloudStackApiException) as caught:
        call()
    return int(caught.value.error["errorcode"])


def revoke_all(api: CloudStack) -> None:
    for group in api.listSecurityGroups()["securitygroup"]:
        for rule in group["ingressrule"]:
            api.revokeSecurityGroupIngress(id=rule["ruleid"])
        for rule in group["egressrule"]:
            api.revokeSecurityGroupEgress(id=rule["ruleid"])


def test_the_default_group_lets_nothing_in_and_everything_out(cloud: Cloud, site: Site) -> None:
    assert site.alice.listZones()["zone"][0]["securitygroupsenabled"] is True
    [group] = site.alice.listSecurityGroups()["securitygroup"]
    assert (group["name"], group["account"], group["ingressrule"], group["egressrule"]) == ("default", "alice", [], [])
    assert group["virtualmachineids"] == [site.server["id"]]
    assert [item["name"] for item in site.server["securitygroup"]] == ["default"]
    assert not reaches(cloud, site)
    assert cloud.fetch(site.server["id"], "http://127.0.0.1/") == "page of alice"


def test_a_rule_works_when_its_job_has_ended(cloud: Cloud, site: Site) -> None:
    made = site.alice.authorizeSecurityGroupIngress(
        securitygroupname="default", protocol="tcp", startport=80, endport=80, cidrlist="0.0.0.0/0"
    )["securitygroup"]
    [rule] = made["ingressrule"]
    assert {name: rule[name] for name in ("protocol", "startport", "endport", "cidr")} == {
        "protocol": "tcp",
        "startport": 80,
        "endport": 80,
        "cidr": "0.0.0.0/0",
    }
    assert reaches(cloud, site)
    assert site.alice.revokeSecurityGroupIngress(id=rule["ruleid"])["success"] is True
    assert not reaches(cloud, site)
    assert refused(lambda: site.alice.revokeSecurityGroupIngress(id=rule["ruleid"])) == 431
    assert "SG.AUTH.INGRESS" in {event["type"] for event in site.alice.listEvents()["event"]}


def test_another_account_s_group_comes_in_as_its_members_change(cloud: Cloud, site: Site) -> None:
    others = site.bob.createSecurityGroup(name="clients", description="may ask alice")["securitygroup"]
    made = site.alice.authorizeSecurityGroupIngress(
        securitygroupname="default",
        protocol="tcp",
        startport=1,
        endport=1000,
        **{"usersecuritygrouplist[0].account": "bob", "usersecuritygrouplist[0].group": "clients"},
    )["securitygroup"]
    [rule] = made["ingressrule"]
    assert (rule["account"], rule["securitygroupname"]) == ("bob", "clients")
    assert not reaches(cloud, site)
    updated = site.bob.updateVirtualMachine(id=site.client["id"], securitygroupnames="default,clients")
    assert [group["name"] for group in updated["virtualmachine"]["securitygroup"]] == ["clients", "default"]
    assert wait_for(partial(reaches, cloud, site), 5, "the new member")
    # it is in use on both sides
    assert refused(lambda: site.bob.deleteSecurityGroup(id=others["id"])) == 536
    site.bob.updateVirtualMachine(id=site.client["id"], securitygroupnames="default")
    wait_for(lambda: not reaches(cloud, site), 5, "the member that left to be kept out")
    assert refused(lambda: site.bob.deleteSecurityGroup(id=others["id"])) == 536
    site.alice.revokeSecurityGroupIngress(id=rule["ruleid"])
    assert site.bob.deleteSecurityGroup(name="clients")["success"] == "true"


def test_groups_are_given_when_a_vm_is_deployed(cloud: Cloud, site: Site) -> None:
    group = site.alice.createSecurityGroup(name="open")["securitygroup"]
    site.alice.authorizeSecurityGroupIngress(securitygroupid=group["id"], protocol="icmp", cidrlist="198.18.0.0/24")
    vm = cloud.deploy(site.alice, "pinged", site.network, securitygroupids=group["id"])
    assert [item["id"] for item in vm["securitygroup"]] == [group["id"]]
    assert [item["id"] for item in site.alice.listVirtualMachines(securitygroupid=group["id"])["virtualmachine"]] == [
        vm["id"]
    ]
    ping = ["busybox", "ping", "-c", "1", "-W", "1", vm["nic"][0]["ipaddress"]]
    wait_for(lambda: cloud.run(site.client["id"], ping, check=False).returncode == 0, 10, "the echo")
    assert refused(lambda: cloud.deploy(site.bob, "foreign", site.network, securitygroupids=group["id"])) == 531
    # a first egress rule is all that goes out from then on
    outgoing = ["busybox", "ping", "-c", "1", "-W", "1", "198.18.0.10"]
    assert cloud.run(vm["id"], outgoing, check=False).returncode == 0
    site.alice.authorizeSecurityGroupEgress(
        securitygroupid=group["id"], protocol="tcp", startport=80, endport=80, cidrlist="0.0.0.0/0"
    )
    assert cloud.run(vm["id"], outgoing, check=False).returncode != 0
    assert metadata(cloud, vm["id"]) == vm["id"]
    cloud.admin.destroyVirtualMachine(id=vm["id"], expunge="true")
    assert site.alice.deleteSecurityGroup(id=group["id"])["success"] == "true"
    assert refused(lambda: site.alice.deleteSecurityGroup(name="default")) == 431


def test_what_was_asked_for_before_a_kill_is_enforced_after_it(cloud: Cloud, site: Site) -> None:
    site.alice.fetch_result = False
    job = site.alice.authorizeSecurityGroupIngress(
        securitygroupname="default", protocol="tcp", startport=80, cidrlist="0.0.0.0/0"
    )
    cloud.kill()
    site.alice.fetch_result = True
    cloud.start()
    wait_for(lambda: cloud.jobs([job["jobid"]])[job["jobid"]] == 1, 20, "the job")
    assert reaches(cloud, site)
    cloud.kill()
    assert reaches(cloud, site)
    cloud.start()
    assert reaches(cloud, site)
    revoke_all(site.alice)
    assert not reaches(cloud, site)


def test_a_flushed_filter_is_repaired_and_told(cloud: Cloud, site: Site) -> None:
    site.alice.authorizeSecurityGroupIngress(
        securitygroupname="default", protocol="tcp", startport=80, cidrlist="0.0.0.0/0"
    )
    fabric = cloud.data / "namespace/fabric/net"
    run(["nsenter", f"--net={fabric}", "nft", "flush", "ruleset"])
    [event] = wait_for(lambda: cloud.admin.listEvents(type="SG.REPAIR", listall="true").get("event"), 15, "the event")
    assert "was repaired: -table " in event["description"]
    assert "bridge gatehouse" in run(["nsenter", f"--net={fabric}", "nft", "list", "tables"]).stdout
    assert reaches(cloud, site)
    revoke_all(site.alice)


def test_libcloud(cloud: Cloud, site: Site) -> None:
    keys = json.loads(run([*GATEHOUSE, "admin-keys", "--data", str(cloud.data)]).stdout)
    address = {"host": "127.0.0.1", "port": cloud.port, "path": "/client/api", "secure": False}
    driver: Any = get_driver(Provider.CLOUDSTACK)(key=keys["apikey"], secret=keys["secretkey"], **address)
    driver.connection.poll_interval = 0.05
    made = driver.ex_create_security_group("lc", description="of libcloud")
    assert made["id"] in [group["id"] for group in driver.ex_list_security_groups()]
    ruled = driver.ex_authorize_security_group_ingress("lc", "tcp", "10.0.0.0/8", startport=22)
    assert ruled["ingressrule"][0]["endport"] == 22
    icmp = driver.ex_authorize_security_group_ingress("lc", "icmp", "10.0.0.0/8")
    assert icmp["ingressrule"][0]["icmptype"] == -1
    [shown] = driver.ex_list_security_groups(securitygroupname="lc")
    assert len(shown["ingressrule"]) == 2
    assert driver.ex_delete_security_group("lc") in (True, "true")
