"""Ranges of the storage network through the API, and what they make of the documents of SSVMs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from controlplane.convergence.compile.memo import Memo
from controlplane.convergence.compile.ssvm import compile_ssvm
from controlplane.convergence.intent import ssvm as intent
from controlplane.network import storagenetwork
from controlplane.store.models import Appliance
from tests.acting import ActingRuntime, Tenant
from tests.unit.controlplane.api.test_templates import core_of, ssvm

RANGE = {"startip": "10.88.0.10", "endip": "10.88.0.11", "gateway": "10.88.0.1", "netmask": "255.255.255.0"}


@pytest.fixture
def pod(tenant: Tenant) -> str:
    id: str = tenant.call("listPods")["pod"][0]["id"]
    return id


def document(acting: ActingRuntime, id: str) -> dict[str, Any]:
    """The state of an SSVM's document, with the NICs that it is given."""
    core = core_of(acting)
    with acting.database.transaction() as session:
        intent.prepare(session, session.get_one(Appliance, id), core)
        storagenetwork.add_nic(session, session.get_one(Appliance, id))
    with acting.database.reading() as session:
        found = compile_ssvm(intent.load(session, id, core), Memo())
    state: dict[str, Any] = json.loads(found)["state"]
    return state


def test_a_range_and_what_becomes_of_it(tenant: Tenant, acting: ActingRuntime, pod: str) -> None:
    vm = ssvm(acting, tenant.zone)
    for url in ("nfs://10.88.0.9/near", "nfs://10.77.0.5/far"):
        tenant.call("addImageStore", provider="NFS", url=url, zoneid=tenant.zone)
    before = document(acting, vm)
    assert [nic["role"] for nic in before["interfaces"]["interfaces"]] == ["control", "public"]
    made = tenant.run("createStorageNetworkIpRange", podid=pod, vlan="88", **RANGE)
    assert (made["vlan"], made["zoneid"], made["endip"]) == ("vlan://88", tenant.zone, "10.88.0.11")
    state = document(acting, vm)
    nic = state["interfaces"]["interfaces"][2]
    assert (nic["name"], nic["role"], nic["addresses"]) == ("eth2", "management", ["10.88.0.10/24"])
    # what is on the network itself needs no route
    assert state["interfaces"]["routes"] == [{"destination": "10.77.0.5/32", "gateway": "10.88.0.1"}]
    assert "shaping" not in state
    tenant.call("updateConfiguration", name="secstorage.storage.network.rate", value="100", zoneid=tenant.zone)
    assert document(acting, vm)["shaping"] == {"interfaces": [{"interface": "eth2", "mbit": 100}]}
    tenant.run("deleteStorageNetworkIpRange", id=made["id"])
    state = document(acting, vm)
    assert state["interfaces"]["interfaces"][2]["addresses"] == [] and "shaping" not in state
    assert {route["gateway"] for route in state["interfaces"]["routes"]} == {
        before["interfaces"]["routes"][0]["gateway"]
    }


def test_a_range_moves_to_another_vlan(tenant: Tenant, acting: ActingRuntime, pod: str) -> None:
    vm = ssvm(acting, tenant.zone)
    made = tenant.run("createStorageNetworkIpRange", podid=pod, **RANGE)
    assert made["vlan"] == "vlan://untagged"
    assert [nic["addresses"] for nic in document(acting, vm)["interfaces"]["interfaces"][2:]] == [["10.88.0.10/24"]]
    assert tenant.run("updateStorageNetworkIpRange", id=made["id"], vlan="89")["vlan"] == "vlan://89"
    nics = document(acting, vm)["interfaces"]["interfaces"][2:]
    assert [nic["addresses"] for nic in nics] == [[], ["10.88.0.10/24"]]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"gateway": "10.88.0.10"}, "contains the gateway"),
        ({"gateway": "10.89.0.1"}, "10.88.0.10"),
        ({"netmask": "255.0.255.0"}, "netmask"),
        ({"startip": "x"}, "startip"),
        ({"endip": "10.88.0.2"}, "10.88.0.2"),
        ({"vlan": "5000"}, "vlan"),
        ({"podid": "none"}, "podid"),
        ({"startip": "203.0.113.100", "endip": "203.0.113.101", "gateway": "203.0.113.2"}, "overlaps that of"),
        ({"startip": "169.254.7.1", "endip": "169.254.7.2", "gateway": "169.254.7.9"}, "system VMs use already"),
    ],
)
def test_bad_ranges(tenant: Tenant, pod: str, change: dict[str, str], says: str) -> None:
    error = tenant.call.error("createStorageNetworkIpRange", **({"podid": pod, **RANGE} | change))
    assert says in error["errortext"], error
    assert tenant.call("listStorageNetworkIpRange") == {}


def test_ranges_fit_each_other(tenant: Tenant, acting: ActingRuntime, pod: str) -> None:
    first = tenant.run("createStorageNetworkIpRange", podid=pod, vlan="88", **RANGE)
    more = {"podid": pod, **RANGE, "startip": "10.88.0.20", "endip": "10.88.0.20"}
    assert "already" in tenant.call.error("createStorageNetworkIpRange", **more)["errortext"]
    assert "overlaps" in tenant.call.error("createStorageNetworkIpRange", podid=pod, vlan="88", **RANGE)["errortext"]
    tenant.run("createStorageNetworkIpRange", vlan="88", **more)
    for _ in range(3):
        ssvm(acting, tenant.zone)
    with pytest.raises(Exception, match="createStorageNetworkIpRange"):
        ssvm(acting, tenant.zone)
    error = tenant.call.error("updateStorageNetworkIpRange", id=first["id"], startip="10.88.0.11")
    assert "10.88.0.10 is in use by s-" in error["errortext"]
    assert (
        tenant.call("listStorageNetworkIpRange", id=first["id"])["storagenetworkiprange"][0]["startip"] == "10.88.0.10"
    )


def test_users_have_no_say(bob: Tenant, pod: str) -> None:
    assert bob.call.error("createStorageNetworkIpRange", podid=pod, **RANGE)["errorcode"] == 432
