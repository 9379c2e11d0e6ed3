"""apache-libcloud's CloudStack driver, unmodified, against a real control plane with real routers and guests."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from libcloud.compute.providers import get_driver
from libcloud.compute.types import Provider

from appliance.run import run
from tests.netns.controlplane.cloud import GATEHOUSE, INTERNET, ISOLATED, Cloud
from tests.wait import wait_for

Driver = Any


@pytest.fixture(scope="module")
def driver(cloud: Cloud) -> Driver:
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


def test_customer_gateways_of_vpns(driver: Driver) -> None:
    made = driver.ex_create_vpn_customer_gateway(
        cidr_list="192.168.77.0/24",
        esp_policy="aes256-sha256",
        gateway="198.51.100.77",
        ike_policy="aes256-sha256;modp2048",
        ipsec_psk="a key",
        name="office",
    )
    [found] = driver.ex_list_vpn_customer_gateways(id=made.id)
    assert (found.gateway, found.cidr_list, found.ipsec_psk) == ("198.51.100.77", "192.168.77.0/24", "a key")
    assert driver.ex_list_vpn_gateways() == driver.ex_list_vpn_connections() == []
    assert made.delete()
    assert driver.ex_list_vpn_customer_gateways() == []


def _one(items: list[Any], check: Callable[[Any], bool]) -> Any:
    [found] = [item for item in items if check(item)]
    return found


@pytest.fixture(scope="module")
def network(driver: Driver) -> Any:
    offering = _one(driver.ex_list_network_offerings(), lambda row: row.name == ISOLATED)
    [location] = driver.list_locations()
    made = driver.ex_create_network("for libcloud", "lcnet", offering, location)
    assert made.id in [row.id for row in driver.ex_list_networks()]
    return made


@pytest.fixture(scope="module")
def node(driver: Driver, network: Any, cloud: Cloud) -> Any:
    pair = driver.create_key_pair("lckey")
    assert "PRIVATE KEY" in pair.private_key
    assert [row.name for row in driver.list_key_pairs()] == ["lckey"]
    made = driver.create_node(
        name="lcnode",
        size=_one(driver.list_sizes(), lambda row: "Small" in row.name),
        image=_one(driver.list_images(), lambda row: row.name == "builtin"),
        location=driver.list_locations()[0],
        networks=[network],
        ex_keyname="lckey",
        ex_userdata="#!/bin/true",
        ex_start_vm=True,
    )
    assert made.state == "running"
    assert made.private_ips == ["10.1.1.2"]
    assert made.extra["password"]
    cloud.address(made.id)
    cloud.serve_page(made.id, "a page of lcnode")
    return made


def test_a_node_and_its_user_data(cloud: Cloud, driver: Driver, node: Any) -> None:
    [listed] = driver.list_nodes()
    assert (listed.id, listed.name, listed.state) == (node.id, "lcnode", "running")
    assert cloud.fetch(node.id, "http://10.1.1.1/latest/user-data") == "#!/bin/true"
    assert cloud.fetch(node.id, "http://10.1.1.1/latest/public-keys").startswith("ssh-rsa ")


def test_a_forwarded_port(cloud: Cloud, driver: Driver, network: Any, node: Any) -> None:
    address = driver.ex_allocate_public_ip(location=driver.list_locations()[0], network_id=network.id)
    url = f"http://{address.address}:8080/"
    rule = driver.ex_create_port_forwarding_rule(node, address, 80, 8080, "TCP", openfirewall=False)
    assert cloud.fetch(INTERNET, url) == ""
    opened = driver.ex_create_firewall_rule(address, "0.0.0.0/0", "TCP", start_port=8080, end_port=8080)
    assert cloud.fetch(INTERNET, url) == "a page of lcnode"
    assert address.address in _one(driver.list_nodes(), lambda row: row.id == node.id).public_ips
    assert [row.id for row in driver.ex_list_firewall_rules()] == [opened.id]
    assert [row.id for row in driver.ex_list_port_forwarding_rules()] == [rule.id]
    assert driver.ex_delete_firewall_rule(opened)
    assert cloud.fetch(INTERNET, url) == ""
    assert driver.ex_delete_port_forwarding_rule(node, rule)
    assert driver.ex_release_public_ip(address)
    assert address.address not in [row.address for row in driver.ex_list_public_ips()]


def test_egress(cloud: Cloud, driver: Driver, network: Any, node: Any) -> None:
    url = "http://198.51.100.80/"
    assert cloud.fetch(node.id, url) == ""
    rule = driver.ex_create_egress_firewall_rule(network.id, "10.1.1.0/24", "TCP", start_port=80, end_port=80)
    assert cloud.fetch(node.id, url) == "the internet"
    assert [row.id for row in driver.ex_list_egress_firewall_rules()] == [rule.id]
    assert driver.ex_delete_egress_firewall_rule(rule)
    assert cloud.fetch(node.id, url) == ""


def test_a_second_nic(cloud: Cloud, driver: Driver, node: Any) -> None:
    offering = _one(driver.ex_list_network_offerings(), lambda row: row.name == ISOLATED)
    second = driver.ex_create_network("second", "lcnet2", offering, driver.list_locations()[0])
    assert driver.ex_attach_nic_to_node(node, second)
    wait_for(lambda: "eth1" in cloud.run(node.id, ["ip", "-o", "link"]).stdout, 5, "the second NIC")
    nic = _one(driver.ex_list_nics(node), lambda row: row.network_id == second.id)
    assert (nic.ip_address, nic.is_default) == ("10.1.1.2", False)
    assert driver.ex_detach_nic_from_node(nic, node)
    wait_for(lambda: "eth1" not in cloud.run(node.id, ["ip", "-o", "link"]).stdout, 5, "the second NIC to go")
    assert driver.ex_delete_network(second)


def test_a_volume(cloud: Cloud, driver: Driver, node: Any) -> None:
    made = driver.create_volume(1, "data", ex_volume_type="Custom")
    assert driver.attach_volume(node, made)
    attached = _one(driver.list_volumes(node), lambda row: row.extra["volume_type"] == "DATADISK")
    assert (attached.id, attached.size) == (made.id, 1 << 30)
    assert cloud.run(node.id, ["stat", "-c", "%s", "/dev/vdb"]).stdout.strip() == str(1 << 30)
    snapshot = driver.create_volume_snapshot(made)
    assert snapshot.id in [row.id for row in driver.list_snapshots()]
    assert driver.destroy_volume_snapshot(snapshot)
    assert driver.detach_volume(made)
    assert cloud.run(node.id, ["ls", "/dev/vdb"], check=False).returncode != 0
    assert driver.destroy_volume(made)


def test_routers(driver: Driver, node: Any) -> None:
    assert {router.state for router in driver.ex_list_routers()} == {"Running"}


def test_power_and_the_end(cloud: Cloud, driver: Driver, network: Any, node: Any) -> None:
    assert driver.ex_stop(node) == "Stopped"
    assert driver.ex_start(node) == "Running"
    assert driver.reboot_node(node)
    assert cloud.address(node.id) == "10.1.1.2"
    assert driver.destroy_node(node, ex_expunge=True)
    assert driver.list_nodes() == []
    assert driver.ex_delete_network(network)
    assert network.id not in [row.id for row in driver.ex_list_networks()]
    assert driver.delete_key_pair(driver.list_key_pairs()[0])
