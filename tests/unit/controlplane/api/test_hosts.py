"""Hosts and capacity through the API."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.hypervisors.base import HostFacts, HypervisorError
from controlplane.store.models import Host, Network
from tests.control import Caller, FakeRuntime

URL = "qemu+ssh://host2/system"


class Double:
    """Of a hypervisor, what the commands about hosts ask."""

    def __init__(self) -> None:
        self.hosts: list[str] = []

    def add_host(self, url: str) -> HostFacts:
        if "nobody" in url:
            raise HypervisorError("libvirt does not answer")
        self.hosts.append(url)
        return HostFacts("host2", "Namespace", 16, 64 << 30, url=url, cpu_mhz=2000, reserves=True)

    def remove_host(self, url: str) -> None:
        self.hosts.remove(url)


@pytest.fixture
def hypervisor(runtime: FakeRuntime) -> Double:
    double: Any = Double()
    runtime.double = double
    found: Double = double
    return found


def add(admin: Caller, url: str = URL) -> dict[str, Any]:
    return {"hypervisor": "Namespace", "zoneid": admin("listZones")["zone"][0]["id"], "url": url} | {
        "podid": admin("listPods")["pod"][0]["id"]
    }


def become(runtime: FakeRuntime, host_id: str, state: str) -> None:
    """What the workflow does in the end."""
    with runtime.database.transaction() as session:
        session.get_one(Host, host_id).resource_state = state


def test_a_host_comes_and_goes(admin: Caller, hypervisor: Double, runtime: FakeRuntime) -> None:
    host = admin("addHost", **add(admin))["host"]
    assert (host["state"], host["resourcestate"], host["cpunumber"], host["cpuspeed"]) == ("Up", "Enabled", 16, 2000)
    assert (host["name"], host["ipaddress"], host["memoryallocated"]) == ("host2", "host2", 0)
    assert host["cpuwithoverprovisioning"] == "32000" and host["cpuallocated"] == "0.00%"
    assert admin.error("addHost", **add(admin))["errorcode"] == 431
    assert admin.error("deleteHost", id=host["id"])["errorcode"] == 536
    admin("prepareHostForMaintenance", id=host["id"])
    assert [(name, arguments) for name, _, arguments in runtime.started] == [("prepare_host", {"host_id": host["id"]})]
    assert admin.error("deleteHost", id=host["id"])["errorcode"] == 536
    become(runtime, host["id"], "Maintenance")
    assert admin("listHosts", resourcestate="Maintenance")["host"][0]["id"] == host["id"]
    assert admin.error("prepareHostForMaintenance", id=host["id"])["errorcode"] == 536
    assert admin.error("updateHost", id=host["id"], allocationstate="Enable")["errorcode"] == 536
    assert admin("deleteHost", id=host["id"]) == {"success": "true"}
    assert hypervisor.hosts == [] and admin("listHosts")["count"] == 1


def test_a_host_that_does_not_answer_leaves_no_row(admin: Caller, hypervisor: Double, runtime: FakeRuntime) -> None:
    refused = admin.error("addHost", **add(admin, "qemu+ssh://nobody/system"))
    assert "does not answer" in refused["errortext"]
    assert admin("listHosts")["count"] == 1
    with runtime.database.reading() as session:
        assert session.query(Host).count() == 1


@pytest.mark.parametrize("change", [{"hypervisor": "KVM"}, {"allocationstate": "Perhaps"}])
def test_what_does_not_fit_is_refused(admin: Caller, hypervisor: Double, change: dict[str, str]) -> None:
    assert admin.error("addHost", **(add(admin) | change))["errorcode"] == 431


def test_the_only_host_stays(admin: Caller, hypervisor: Double, runtime: FakeRuntime) -> None:
    [host] = admin("listHosts")["host"]
    assert admin("updateHost", id=host["id"], allocationstate="Disable")["host"]["resourcestate"] == "Disabled"
    assert admin.error("cancelHostMaintenance", id=host["id"])["errorcode"] == 431
    become(runtime, host["id"], "Maintenance")
    assert "is the only one" in admin.error("deleteHost", id=host["id"])["errortext"]
    admin("cancelHostMaintenance", id=host["id"])
    assert admin("listHosts")["host"][0]["resourcestate"] == "Enabled"


def test_capacity(admin: Caller) -> None:
    admin("updateConfiguration", name="mem.overprovisioning.factor", value="2.0")
    found = {row["name"]: row for row in admin("listCapacity")["capacity"]}
    assert found["MEMORY"]["capacitytotal"] == 16 << 30
    assert found["VIRTUAL_NETWORK_PUBLIC_IP"]["capacitytotal"] == 241
    assert [row["type"] for row in admin("listCapacity", type=1)["capacity"]] == [1]
    refused = admin.error("updateConfiguration", name="mem.overprovisioning.factor", value="0.5")
    assert "takes a number from 1 to 100" in refused["errortext"]


def test_a_physical_network_has_numbers_for_guest_networks(admin: Caller, runtime: FakeRuntime) -> None:
    physical = admin("listPhysicalNetworks")["physicalnetwork"][0]["id"]
    admin("updatePhysicalNetwork", id=physical, vlan="100-149,200", tags=["fast"])
    [shown] = admin("listPhysicalNetworks")["physicalnetwork"]
    assert (shown["vlan"], shown["tags"]) == ("100-149,200", "fast")
    for wrong in ("0-10", "200-100", "4000-5000", "many"):
        refused = admin.error("updatePhysicalNetwork", id=physical, vlan=f"100-149,{wrong}")
        assert refused["errorcode"] == 431 and f"vlan: '{wrong}' is no range from 1 to 4094" in refused["errortext"]
    offering = admin("listNetworkOfferings", guestiptype="Isolated", state="Enabled")["networkoffering"][0]["id"]
    zone = admin("listZones")["zone"][0]["id"]
    network = admin("createNetwork", name="n", displaytext="n", zoneid=zone, networkofferingid=offering)["network"]
    with runtime.database.transaction() as session:
        session.get_one(Network, network["id"]).vni = 120
    refused = admin.error("updatePhysicalNetwork", id=physical, vlan="130-149")
    assert refused["errorcode"] == 536 and "network n has number 120" in refused["errortext"]
    assert admin("listPhysicalNetworks")["physicalnetwork"][0]["vlan"] == "100-149,200"


def test_traffic_has_labels(admin: Caller) -> None:
    physical = admin("listPhysicalNetworks")["physicalnetwork"][0]["id"]
    guest = admin("listTrafficTypes", physicalnetworkid=physical)["traffictype"][2]
    assert guest["traffictype"] == "Guest" and "kvmnetworklabel" not in guest
    admin("updateTrafficType", id=guest["id"], kvmnetworklabel="eth1")
    assert admin("listTrafficTypes", physicalnetworkid=physical)["traffictype"][2]["kvmnetworklabel"] == "eth1"
    assert admin.error("updateTrafficType", id=guest["id"], kvmnetworklabel="a/b")["errorcode"] == 431
    assert admin.error("updateTrafficType", id=f"{physical}-video", kvmnetworklabel="eth1")["errorcode"] == 431
    admin("updateTrafficType", id=guest["id"], kvmnetworklabel="none")
    assert "kvmnetworklabel" not in admin("listTrafficTypes", physicalnetworkid=physical)["traffictype"][2]
