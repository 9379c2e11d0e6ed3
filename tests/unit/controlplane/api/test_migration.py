"""Moving guests to other hosts through the API."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from controlplane.compute import hosts
from controlplane.configuration import Configuration
from controlplane.store.models import Host, Vm
from tests.acting import ActingRuntime, Tenant


@pytest.fixture
def vm(acting: ActingRuntime, tenant: Tenant) -> dict[str, Any]:
    """A guest on the first host, and a second one of the same size beside it."""
    made = tenant.vm(networkids=tenant.network()["id"])
    with acting.database.transaction() as session:
        hosts.place(session, Configuration(), session.get_one(Vm, made["id"]))
        first = session.scalars(select(Host)).one()
        session.add(
            Host(
                id="h2",
                cluster_id=first.cluster_id,
                name="host2",
                url="fake://host2",
                cpus=4,
                cpu_mhz=2000,
                memory_bytes=8 << 30,
                reserves=True,
            )
        )
    return made


def change(acting: ActingRuntime, **values: object) -> None:
    """The second host."""
    with acting.database.transaction() as session:
        for name, value in values.items():
            setattr(session.get_one(Host, "h2"), name, value)


def test_a_guest_is_moved_to_a_host_that_can_take_it(tenant: Tenant, vm: dict[str, Any]) -> None:
    [host] = tenant.call("findHostsForMigration", virtualmachineid=vm["id"])["host"]
    assert (host["id"], host["suitableformigration"], host["requiresStorageMotion"]) == ("h2", True, False)
    moved = tenant.run("migrateVirtualMachine", virtualmachineid=vm["id"], hostid="h2")
    assert (moved["hostid"], moved["hostname"], moved["state"]) == ("h2", "host2", "Running")
    [host] = tenant.call("findHostsForMigration", virtualmachineid=vm["id"])["host"]
    assert host["id"] != "h2"
    back = tenant.run("migrateVirtualMachine", virtualmachineid=vm["id"], autoselect="true")
    assert back["hostid"] == host["id"]
    assert ("VM.MIGRATE", "Completed") in tenant.events()


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"memory_bytes": 1 << 20}, "has 8000 MHz and 1 MB left of the 500 MHz and 512 MB that it needs"),
        ({"state": "Down"}, "is down"),
        ({"resource_state": "Maintenance"}, "is in state Maintenance"),
    ],
)
def test_a_host_that_cannot_take_it_is_refused_with_the_reason(
    acting: ActingRuntime, tenant: Tenant, vm: dict[str, Any], values: dict[str, Any], reason: str
) -> None:
    change(acting, **values)
    [host] = tenant.call("findHostsForMigration", virtualmachineid=vm["id"])["host"]
    assert not host["suitableformigration"]
    refused = tenant.call.error("migrateVirtualMachine", virtualmachineid=vm["id"], hostid="h2")
    assert refused["errorcode"] == 533 and f"host host2, which {reason}" in refused["errortext"]
    refused = tenant.call.error("migrateVirtualMachine", virtualmachineid=vm["id"], autoselect="true")
    assert refused["errorcode"] == 533 and f"no other host: host host2 {reason}" in refused["errortext"]


def test_what_does_not_fit_is_refused(acting: ActingRuntime, tenant: Tenant, vm: dict[str, Any]) -> None:
    def error(**params: object) -> tuple[int, str]:
        refused = tenant.call.error("migrateVirtualMachine", virtualmachineid=vm["id"], **params)
        return refused["errorcode"], refused["errortext"]

    own = next(host["id"] for host in tenant.call("listHosts")["host"] if host["id"] != "h2")
    assert error(hostid=own)[0] == 431 and "runs on host" in error(hostid=own)[1]
    assert error()[0] == error(hostid="h2", autoselect="true")[0] == 431
    assert error(hostid="nowhere")[0] == 431
    code, text = error(storageid="s")
    assert code == 432 and text.startswith("storageid: ")
    tenant.run("stopVirtualMachine", id=vm["id"])
    assert error(hostid="h2")[0] == 431
    assert tenant.call.error("findHostsForMigration", virtualmachineid=vm["id"])["errorcode"] == 431


def test_it_is_for_root_administrators_alone(bob: Tenant, vm: dict[str, Any]) -> None:
    for command in ("findHostsForMigration", "migrateVirtualMachine"):
        assert bob.call.error(command, virtualmachineid=vm["id"], hostid="h2")["errorcode"] == 432
        assert command not in {api["name"] for api in bob.call("listApis")["api"]}
