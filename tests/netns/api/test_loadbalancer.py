"""Load balancing as tenants use it: libcloud's driver unmodified, and what the API's answers mean for packets."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from cs import CloudStack, CloudStackApiException
from libcloud.loadbalancer.base import Algorithm, Member
from libcloud.loadbalancer.providers import get_driver
from libcloud.loadbalancer.types import Provider, State

from appliance.run import run
from tests.certificates import self_signed
from tests.netns.controlplane.cloud import GATEHOUSE, INTERNET, Cloud
from tests.wait import wait_for

Answer = dict[str, Any]


@pytest.fixture(scope="module")
def driver(cloud: Cloud) -> Any:
    keys = json.loads(run([*GATEHOUSE, "admin-keys", "--data", str(cloud.data)]).stdout)
    made = get_driver(Provider.CLOUDSTACK)(
        key=keys["apikey"],
        secret=keys["secretkey"],
        secure=False,
        host="127.0.0.1",
        port=cloud.port,
        path="/client/api",
    )
    made.connection.poll_interval = 0.05
    return made


@pytest.fixture(scope="module")
def api(cloud: Cloud) -> CloudStack:
    return cloud.admin


@pytest.fixture(scope="module")
def network(cloud: Cloud, api: CloudStack) -> Answer:
    return cloud.network(api, "balanced")


@pytest.fixture(scope="module")
def guests(cloud: Cloud, api: CloudStack, network: Answer) -> list[Answer]:
    made = [cloud.deploy(api, name, network) for name in ("one", "two")]
    for guest in made:
        cloud.address(guest["id"])
        cloud.serve_page(guest["id"], guest["name"])
    return made


def _who(cloud: Cloud, url: str, count: int = 4) -> Counter[str]:
    return Counter(cloud.fetch(INTERNET, url) for _ in range(count))


def test_libcloud(cloud: Cloud, api: CloudStack, driver: Any, network: Answer, guests: list[Answer]) -> None:
    members = [Member(guest["id"], None, None) for guest in guests]
    made = driver.create_balancer(
        "web", members[:1], port=8000, private_port=80, algorithm=Algorithm.ROUND_ROBIN, network_id=network["id"]
    )
    assert driver.get_balancer(made.id).state == State.RUNNING
    url = f"http://{made.ip}:8000/"
    assert set(_who(cloud, url)) == {""}
    api.createFirewallRule(ipaddressid=made.ex_public_ip_id, protocol="tcp", startport=8000, endport=8000)
    assert set(_who(cloud, url)) == {"one"}
    assert driver.balancer_attach_member(made, members[1])
    assert set(_who(cloud, url)) == {"one", "two"}
    assert {member.id for member in driver.balancer_list_members(made)} == {guest["id"] for guest in guests}
    assert driver.balancer_detach_member(made, members[0])
    assert set(_who(cloud, url)) == {"two"}
    assert [balancer.id for balancer in driver.list_balancers()] == [made.id]
    assert driver.get_balancer(made.id).name == "web"
    driver.destroy_balancer(made)
    assert driver.list_balancers() == []
    assert set(_who(cloud, url, 1)) == {""}


def test_health_and_policies(cloud: Cloud, api: CloudStack, network: Answer, guests: list[Answer]) -> None:
    rule = api.createLoadBalancerRule(
        name="checked", algorithm="leastconn", publicport=80, privateport=80, networkid=network["id"], openfirewall=True
    )["loadbalancer"]
    ids = ",".join(guest["id"] for guest in guests)
    api.assignToLoadBalancerRule(id=rule["id"], virtualmachineids=ids)
    api.createLBHealthCheckPolicy(lbruleid=rule["id"], pingpath="/", intervaltime=1, responsetimeout=1)
    sticky = {"param[0].name": "cookie-name", "param[0].value": "SRV", "param[1].name": "nocache"}
    api.createLBStickinessPolicy(lbruleid=rule["id"], name="sticky", methodname="LbCookie", **sticky)
    argv = ["curl", "-s", "-o", "/dev/null", "-D", "-", f"http://{rule['publicip']}/"]
    assert "set-cookie: SRV=" in cloud.run(INTERNET, argv).stdout
    wait_for(lambda: _states(api, rule) == ["Up", "Up"], 15, "both guests to be up")
    cloud.run(guests[0]["id"], ["ip", "link", "set", "eth0", "down"])
    wait_for(lambda: sorted(map(str, _states(api, rule))) == ["Down", "Up"], 15, "a guest to be down")
    assert set(_who(cloud, f"http://{rule['publicip']}/")) == {"two"}
    cloud.run(guests[0]["id"], ["ip", "link", "set", "eth0", "up"])
    wait_for(lambda: _states(api, rule) == ["Up", "Up"], 20, "the guest to be back")
    api.deleteLoadBalancerRule(id=rule["id"])
    assert set(_who(cloud, f"http://{rule['publicip']}/", 1)) == {""}


def _states(api: CloudStack, rule: Answer) -> list[str | None]:
    members = api.listLoadBalancerRuleInstances(id=rule["id"])["loadbalancerruleinstance"]
    return [member.get("servicestate") for member in members]


def test_tls(cloud: Cloud, api: CloudStack, network: Answer, guests: list[Answer]) -> None:
    certificate, key = self_signed("shop.example")
    uploaded = api.uploadSslCert(name="shop", certificate=certificate, privatekey=key)["sslcert"]
    rule = api.createLoadBalancerRule(
        name="shop",
        algorithm="roundrobin",
        protocol="ssl",
        publicport=443,
        privateport=80,
        networkid=network["id"],
        openfirewall=True,
    )["loadbalancer"]
    api.assignToLoadBalancerRule(id=rule["id"], virtualmachineids=guests[1]["id"])
    api.assignCertToLoadBalancer(lbruleid=rule["id"], certid=uploaded["id"])
    argv = ["curl", "-s", "-m", "3", "--resolve", f"shop.example:443:{rule['publicip']}"]
    trusted = [
        "sh",
        "-c",
        'f=$(mktemp); printf "%s" "$0" >"$f"; exec "$@" --cacert "$f" https://shop.example/',
        certificate,
    ]
    assert cloud.run(INTERNET, [*trusted, *argv]).stdout == "two"
    api.removeCertFromLoadBalancer(lbruleid=rule["id"])
    api.deleteSslCert(id=uploaded["id"])
    api.deleteLoadBalancerRule(id=rule["id"])


def test_rules_go_on_when_the_network_gets_another_offering(
    cloud: Cloud, api: CloudStack, network: Answer, guests: list[Answer]
) -> None:
    """The guide's chapter 22.8: there, rules of another provider have to be made anew."""
    services = "Dhcp,Dns,SourceNat,Lb,Firewall"
    offering = {"guestiptype": "Isolated", "traffictype": "GUEST", "networkrate": 50, "displaytext": "another"}
    with_lb, without = (
        api.createNetworkOffering(name=name, supportedservices=some, **offering)["networkoffering"]
        for name, some in (("another", services), ("without", services.replace("Lb,", "")))
    )
    for one in (with_lb, without):
        api.updateNetworkOffering(id=one["id"], state="Enabled")
    rule = api.createLoadBalancerRule(
        name="lasting",
        algorithm="roundrobin",
        publicport=81,
        privateport=80,
        networkid=network["id"],
        openfirewall=True,
    )["loadbalancer"]
    api.assignToLoadBalancerRule(id=rule["id"], virtualmachineids=",".join(guest["id"] for guest in guests))
    changed = api.updateNetwork(id=network["id"], networkofferingid=with_lb["id"])["network"]
    assert changed["networkofferingname"] == "another"
    assert set(_who(cloud, f"http://{rule['publicip']}:81/")) == {"one", "two"}
    with pytest.raises(CloudStackApiException, match="lacks Lb, which network balanced uses"):
        api.updateNetwork(id=network["id"], networkofferingid=without["id"])
    assert set(_who(cloud, f"http://{rule['publicip']}:81/")) == {"one", "two"}
    api.deleteLoadBalancerRule(id=rule["id"])
