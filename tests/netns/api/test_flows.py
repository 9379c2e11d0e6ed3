"""What the API's answers mean for packets, and what happens when many ask at once; with the ``cs`` client."""

from __future__ import annotations

import base64
import copy
import hashlib
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from cs import CloudStack, CloudStackApiException

from tests.netns.controlplane.cloud import INTERNET, Cloud
from tests.wait import wait_for


@dataclass
class Site:
    """A network with two guests that serve their names."""

    api: CloudStack
    network: dict[str, Any]
    web: dict[str, Any]
    other: dict[str, Any]

    def address(self) -> dict[str, Any]:
        made: dict[str, Any] = self.api.associateIpAddress(networkid=self.network["id"])["ipaddress"]
        return made


@pytest.fixture(scope="module")
def site(cloud: Cloud) -> Site:
    api = cloud.admin
    network = cloud.network(api, "flows")
    guests = [cloud.deploy(api, name, network) for name in ("web", "other")]
    for guest in guests:
        assert cloud.address(guest["id"]) == guest["nic"][0]["ipaddress"]
        cloud.serve_page(guest["id"], guest["name"])
    return Site(api, network, *guests)


def _refused(call: Callable[[], Any]) -> int:
    with pytest.raises(CloudStackApiException) as caught:
        call()
    return int(caught.value.error["errorcode"])


def test_a_forward_moves_and_goes(cloud: Cloud, site: Site) -> None:
    address = site.address()
    url = f"http://{address['ipaddress']}:8000/"
    rule = site.api.createPortForwardingRule(
        ipaddressid=address["id"],
        protocol="tcp",
        publicport=8000,
        privateport=80,
        virtualmachineid=site.web["id"],
        openfirewall=True,
    )["portforwardingrule"]
    assert cloud.fetch(INTERNET, url) == "web"
    # a guest reaches its own network's public address too
    assert cloud.fetch(site.other["id"], url) == "web"
    site.api.updatePortForwardingRule(id=rule["id"], virtualmachineid=site.other["id"])
    assert cloud.fetch(INTERNET, url) == "other"
    site.api.deletePortForwardingRule(id=rule["id"])
    assert cloud.fetch(INTERNET, url) == ""
    assert site.api.listFirewallRules(ipaddressid=address["id"]) == {}
    site.api.disassociateIpAddress(id=address["id"])


def test_static_nat_is_in_force_when_the_call_returns(cloud: Cloud, site: Site) -> None:
    address = site.address()
    url = f"http://{address['ipaddress']}/"
    site.api.enableStaticNat(ipaddressid=address["id"], virtualmachineid=site.web["id"])
    assert cloud.fetch(INTERNET, url) == ""
    site.api.createFirewallRule(ipaddressid=address["id"], protocol="tcp", startport=80, endport=80)
    assert cloud.fetch(INTERNET, url) == "web"
    assert site.api.listVirtualMachines(id=site.web["id"])["virtualmachine"][0]["publicip"] == address["ipaddress"]
    forward = {"ipaddressid": address["id"], "protocol": "tcp", "publicport": 81, "privateport": 80}
    assert _refused(lambda: site.api.createPortForwardingRule(virtualmachineid=site.web["id"], **forward)) == 537
    site.api.disableStaticNat(ipaddressid=address["id"])
    assert cloud.fetch(INTERNET, url) == ""
    site.api.enableStaticNat(ipaddressid=address["id"], virtualmachineid=site.other["id"])
    site.api.createFirewallRule(ipaddressid=address["id"], protocol="tcp", startport=80, endport=80)
    assert cloud.fetch(INTERNET, url) == "other"
    site.api.disassociateIpAddress(id=address["id"])
    assert cloud.fetch(INTERNET, url) == ""


def test_a_firewall_rule_for_some_sources(cloud: Cloud, site: Site) -> None:
    address = site.address()
    site.api.createPortForwardingRule(
        ipaddressid=address["id"], protocol="tcp", publicport=80, privateport=80, virtualmachineid=site.web["id"]
    )
    url = f"http://{address['ipaddress']}/"
    given = {"ipaddressid": address["id"], "protocol": "tcp", "startport": 1, "endport": 1000}
    elsewhere = site.api.createFirewallRule(cidrlist="192.0.2.0/24", **given)["firewallrule"]
    assert cloud.fetch(INTERNET, url) == ""
    site.api.createFirewallRule(cidrlist="203.0.113.1/32,198.51.100.0/24", **given)
    assert cloud.fetch(INTERNET, url) == "web"
    site.api.deleteFirewallRule(id=elsewhere["id"])
    assert cloud.fetch(INTERNET, url) == "web"
    site.api.disassociateIpAddress(id=address["id"])


def test_a_new_password_waits_for_the_guest(cloud: Cloud, site: Site) -> None:
    site.api.stopVirtualMachine(id=site.other["id"], forced=True)
    made = site.api.resetPasswordForVirtualMachine(id=site.other["id"])["virtualmachine"]["password"]
    assert site.api.startVirtualMachine(id=site.other["id"])["virtualmachine"]["state"] == "Running"
    cloud.address(site.other["id"])

    def asked(request: str) -> str:
        argv = ["curl", "-s", "-m", "2", "-H", f"DomU_Request: {request}", "http://10.1.1.1:8080/"]
        return cloud.run(site.other["id"], argv, check=False).stdout.strip()

    # the template's start script may have fetched it already
    assert asked("send_my_password") in (made, "saved_password")
    assert asked("saved_password") == "saved_password"
    wait_for(lambda: asked("send_my_password") == "saved_password", 5, "the password to be forgotten")


def test_user_data_changes_live(cloud: Cloud, site: Site) -> None:
    site.api.updateVirtualMachine(id=site.web["id"], userdata="bmV3")
    assert cloud.fetch(site.web["id"], "http://10.1.1.1/latest/user-data") == "new"


def test_a_megabyte_of_user_data(cloud: Cloud, site: Site) -> None:
    raw = secrets.token_bytes(1024 * 1024)
    text = base64.b64encode(raw).decode()
    # an address would be too long for it
    poster = copy.copy(site.api)
    poster.method = "post"
    assert _refused(lambda: poster.updateVirtualMachine(id=site.web["id"], userdata=text)) == 431
    site.api.updateConfiguration(name="vm.userdata.max.length", value=str(len(raw)))
    poster.updateVirtualMachine(id=site.web["id"], userdata=text)
    fetched = cloud.run(
        site.web["id"], ["sh", "-c", "curl -s http://10.1.1.1/latest/user-data | sha256sum"]
    ).stdout.split()
    assert fetched[0] == hashlib.sha256(raw).hexdigest()
    site.api.updateVirtualMachine(id=site.web["id"], userdata="bmV3")


def test_overlapping_rules_asked_for_at_once(cloud: Cloud, site: Site) -> None:
    """Ten clients want ports 80 to 80+n of one address: one of them gets it."""
    address = site.address()

    def ask(number: int) -> int:
        ports = {"publicport": 80, "publicendport": 80 + number, "privateport": 80, "privateendport": 80 + number}
        try:
            cloud.admin.createPortForwardingRule(
                ipaddressid=address["id"], protocol="tcp", virtualmachineid=site.web["id"], **ports
            )
        except CloudStackApiException as error:
            return int(error.error["errorcode"])
        return 200

    with ThreadPoolExecutor(10) as pool:
        assert sorted(pool.map(ask, range(10))) == [200] + [537] * 9
    assert site.api.listPortForwardingRules(ipaddressid=address["id"])["count"] == 1
    site.api.disassociateIpAddress(id=address["id"])


def test_addresses_asked_for_at_once(cloud: Cloud, site: Site) -> None:
    def ask(_: int) -> dict[str, Any]:
        made: dict[str, Any] = cloud.admin.associateIpAddress(networkid=site.network["id"])["ipaddress"]
        return made

    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(ask, range(16)))
    assert len({address["ipaddress"] for address in made}) == 16
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda address: cloud.admin.disassociateIpAddress(id=address["id"]), made))
    left = site.api.listPublicIpAddresses(associatednetworkid=site.network["id"])["publicipaddress"]
    assert [address["issourcenat"] for address in left] == [True]


def test_operators_and_routers(cloud: Cloud, site: Site) -> None:
    router = cloud.router(site.network)
    assert router["state"] == "Running"
    health = wait_for(
        lambda: site.api.getRouterHealthCheckResults(routerid=router["id"])["routerhealthchecks"]["healthchecks"]
    )
    assert all(check["success"] for check in health), health
    site.api.stopRouter(id=router["id"])
    assert cloud.fetch(site.web["id"], "http://10.1.1.1/latest/user-data") == ""
    site.api.startRouter(id=router["id"])
    assert cloud.fetch(site.web["id"], "http://10.1.1.1/latest/user-data") == "new"
    site.api.restartNetwork(id=site.network["id"], cleanup=True)
    assert cloud.router(site.network)["id"] != router["id"]
    assert cloud.fetch(site.web["id"], "http://10.1.1.1/latest/user-data") == "new"
