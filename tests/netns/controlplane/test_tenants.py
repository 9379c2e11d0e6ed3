"""Two tenants through the API, with an unmodified client, down to packets."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from cs import CloudStack, CloudStackApiException

from tests.netns.controlplane.cloud import INTERNET, WEB, Answer, Cloud, seconds
from tests.wait import wait_for


@dataclass
class Tenant:
    api: CloudStack
    network: Answer
    guests: list[Answer] = field(default_factory=list)
    public: Answer = field(default_factory=dict)


@pytest.fixture(scope="module")
def tenants(cloud: Cloud) -> Iterator[dict[str, Tenant]]:
    """Alice and Bob, each with a network of the same CIDR and two guests."""
    made = {}
    for name in ("alice", "bob"):
        api = cloud.tenant(name)
        tenant = Tenant(api, cloud.network(api, f"{name}-net"))
        for number in (1, 2):
            tenant.guests.append(cloud.deploy(api, f"{name}{number}", tenant.network))
        [tenant.public] = api.listPublicIpAddresses(associatednetworkid=tenant.network["id"])["publicipaddress"]
        for guest in tenant.guests:
            cloud.address(guest["id"])
        cloud.serve_page(tenant.guests[0]["id"], f"page of {name}")
        made[name] = tenant
    yield made


def test_same_addresses_side_by_side(cloud: Cloud, tenants: dict[str, Tenant]) -> None:
    alice, bob = tenants["alice"], tenants["bob"]
    assert alice.network["cidr"] == bob.network["cidr"]
    first = [cloud.address(tenant.guests[0]["id"]) for tenant in (alice, bob)]
    assert first[0] == first[1] == alice.guests[0]["nic"][0]["ipaddress"]
    # each second guest reaches the first one of its own network, and gets its own tenant's page
    for name, tenant in tenants.items():
        assert cloud.fetch(tenant.guests[1]["id"], f"http://{first[0]}/") == f"page of {name}"


def test_names_resolve_within_the_network(cloud: Cloud, tenants: dict[str, Tenant]) -> None:
    guest = tenants["alice"].guests[1]["id"]
    answer = cloud.run(guest, ["dig", "+short", "+search", "alice1", f"@{tenants['alice'].network['gateway']}"]).stdout
    assert answer.strip() == cloud.address(tenants["alice"].guests[0]["id"])
    gone = cloud.run(guest, ["dig", "+short", "+search", "bob1", f"@{tenants['alice'].network['gateway']}"]).stdout
    assert gone.strip() == ""


def test_outgoing_traffic_is_blocked_until_an_egress_rule_allows_it(cloud: Cloud, tenants: dict[str, Tenant]) -> None:
    alice = tenants["alice"]
    guest = alice.guests[0]["id"]
    assert cloud.fetch(guest, f"http://{WEB}/", 1) == ""
    rule = alice.api.createEgressFirewallRule(networkid=alice.network["id"], protocol="tcp", startport=80, endport=80)
    # the job's end means that the rule is in force: no waiting
    assert cloud.fetch(guest, f"http://{WEB}/") == "the internet"
    assert cloud.fetch(tenants["bob"].guests[0]["id"], f"http://{WEB}/", 1) == ""
    alice.api.deleteEgressFirewallRule(id=rule["firewallrule"]["id"])
    assert cloud.fetch(guest, f"http://{WEB}/", 1) == ""


def test_a_port_forward_opens_with_its_firewall_rule(cloud: Cloud, tenants: dict[str, Tenant]) -> None:
    for name, tenant in tenants.items():
        url = f"http://{tenant.public['ipaddress']}:8080/"
        forward = tenant.api.createPortForwardingRule(
            ipaddressid=tenant.public["id"],
            virtualmachineid=tenant.guests[0]["id"],
            protocol="tcp",
            publicport=8080,
            privateport=80,
            openfirewall=False,
        )["portforwardingrule"]
        assert forward["state"] == "Active"
        assert cloud.fetch(INTERNET, url, 1) == ""
        tenant.api.createFirewallRule(ipaddressid=tenant.public["id"], protocol="tcp", startport=8080, endport=8080)
        assert cloud.fetch(INTERNET, url) == f"page of {name}"


def test_static_nat_on_a_second_address(cloud: Cloud, tenants: dict[str, Tenant]) -> None:
    bob = tenants["bob"]
    address = bob.api.associateIpAddress(networkid=bob.network["id"])["ipaddress"]
    bob.api.enableStaticNat(ipaddressid=address["id"], virtualmachineid=bob.guests[0]["id"])
    bob.api.createFirewallRule(ipaddressid=address["id"], protocol="tcp", startport=80, endport=80)
    assert cloud.fetch(INTERNET, f"http://{address['ipaddress']}/") == "page of bob"
    bob.api.disableStaticNat(ipaddressid=address["id"])
    assert cloud.fetch(INTERNET, f"http://{address['ipaddress']}/", 1) == ""
    bob.api.disassociateIpAddress(id=address["id"])
    assert not any(
        other["id"] == address["id"] for other in bob.api.listPublicIpAddresses(listall=True)["publicipaddress"]
    )


def test_a_conflict_changes_nothing(cloud: Cloud, tenants: dict[str, Tenant]) -> None:
    alice = tenants["alice"]
    with pytest.raises(CloudStackApiException) as caught:
        alice.api.createPortForwardingRule(
            ipaddressid=alice.public["id"],
            virtualmachineid=alice.guests[1]["id"],
            protocol="tcp",
            publicport=8080,
            privateport=81,
        )
    assert caught.value.error["errorcode"] == 537
    assert cloud.fetch(INTERNET, f"http://{alice.public['ipaddress']}:8080/") == "page of alice"


def test_user_data_and_password_reach_the_guest_alone(cloud: Cloud, tenants: dict[str, Tenant]) -> None:
    alice = tenants["alice"]
    vm = cloud.deploy(alice.api, "alice3", alice.network, userdata="aGVsbG8gd29ybGQ=")
    cloud.address(vm["id"])
    url = "http://10.1.1.1/latest"
    assert cloud.fetch(vm["id"], f"{url}/user-data") == "hello world"
    assert cloud.fetch(vm["id"], f"{url}/meta-data/instance-id") == vm["id"]
    assert cloud.fetch(vm["id"], f"{url}/meta-data/local-hostname") == "alice3"
    assert cloud.fetch(alice.guests[0]["id"], f"{url}/user-data") == ""
    if not vm.get("passwordenabled"):
        return
    # the builtin guest fetches its password when it has its lease; afterwards the control plane has forgotten it
    wait_for(
        lambda: cloud.rows(f"SELECT password FROM vm WHERE id = '{vm['id']}'") == [(None,)], 15, "the password to go"
    )


def test_a_guest_added_and_destroyed(cloud: Cloud, tenants: dict[str, Tenant]) -> None:
    bob = tenants["bob"]
    begun = time.monotonic()
    vm = cloud.deploy(bob.api, "bob9", bob.network)
    took = seconds(begun)
    address = cloud.address(vm["id"])
    bob.api.destroyVirtualMachine(id=vm["id"])
    cloud.admin.expungeVirtualMachine(id=vm["id"])
    again = cloud.deploy(bob.api, "bob9", bob.network)
    # the address is free again, and its new owner gets a lease although the old one held it
    assert again["nic"][0]["ipaddress"] == address
    assert cloud.address(again["id"]) == address
    assert took < 5, f"a guest on a running network took {took} s"


def test_stop_start_and_a_second_network(cloud: Cloud, tenants: dict[str, Tenant]) -> None:
    alice = tenants["alice"]
    guest = alice.guests[1]["id"]
    assert alice.api.stopVirtualMachine(id=guest)["virtualmachine"]["state"] == "Stopped"
    assert alice.api.startVirtualMachine(id=guest)["virtualmachine"]["state"] == "Running"
    before = cloud.address(guest)
    assert before == alice.guests[1]["nic"][0]["ipaddress"]
    zone, offering = alice.network["zoneid"], alice.network["networkofferingid"]
    other = alice.api.createNetwork(
        name="second",
        displaytext="second",
        zoneid=zone,
        networkofferingid=offering,
        gateway="10.9.0.1",
        netmask="255.255.255.0",
    )["network"]
    vm = alice.api.addNicToVirtualMachine(virtualmachineid=guest, networkid=other["id"])["virtualmachine"]
    nic = next(nic for nic in vm["nic"] if nic["networkid"] == other["id"])
    wait_for(
        lambda: nic["ipaddress"] in cloud.run(guest, ["ip", "-4", "-o", "address", "show", "eth1"]).stdout,
        15,
        "a lease on the second network",
    )
    # the default route stays with the default network
    routes = cloud.run(guest, ["ip", "route", "show", "default"]).stdout
    assert "via 10.1.1.1" in routes
    assert "10.9.0.1" not in routes
    alice.api.removeNicFromVirtualMachine(virtualmachineid=guest, nicid=nic["id"])
    assert "eth1" not in cloud.run(guest, ["ip", "-o", "link"]).stdout
    alice.api.deleteNetwork(id=other["id"])
    assert cloud.admin.listRouters(networkid=other["id"]).get("router", []) == []
