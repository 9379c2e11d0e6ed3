"""A guest that an administrator moves to another host while it runs."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from controlplane.errors import ApiError
from controlplane.hypervisors.base import HypervisorError
from controlplane.store.models import Host, Vm
from controlplane.workflows import migration
from controlplane.workflows.flow import Flow
from tests.unit.controlplane.fleet import Fleet
from tests.unit.controlplane.workflows.test_maintenance import OTHER
from tests.unit.controlplane.workflows.test_workflows import deployed


@pytest.fixture
def moving(fleet: Fleet, flow: Flow) -> tuple[str, str, str]:
    """A running guest, its host, and another host."""
    vm_id, *_ = deployed(fleet, flow)
    with fleet.database.transaction() as session:
        first = session.scalars(select(Host)).one()
        other = Host(cluster_id=first.cluster_id, name="host2", url=OTHER, cpus=4, memory_bytes=8 << 30)
        session.add(other)
        session.flush()
        return vm_id, first.id, other.id


def place_of(fleet: Fleet, vm_id: str) -> str | None:
    with fleet.database.reading() as session:
        vm = session.get_one(Vm, vm_id)
        assert vm.state == "Running"
        return vm.host_id


def test_it_moves_and_its_row_says_so(fleet: Fleet, flow: Flow, moving: tuple[str, str, str]) -> None:
    vm_id, source, target = moving
    assert place_of(fleet, vm_id) == source
    migration.migrate_vm(flow, vm_id, target, source)
    assert (fleet.hypervisor.running[vm_id].host, place_of(fleet, vm_id)) == (OTHER, target)
    # a crash before the end of the step has it run again
    migration._move(flow, vm_id, target, source)
    assert place_of(fleet, vm_id) == target


def test_one_that_cannot_move_goes_on_where_it_was(fleet: Fleet, flow: Flow, moving: tuple[str, str, str]) -> None:
    vm_id, source, target = moving

    def refuse(_: str) -> None:
        raise HypervisorError("the processors differ")

    fleet.hypervisor.on_migrate = refuse
    with pytest.raises(ApiError, match=r"was not moved and goes on on host .*: the processors differ"):
        migration.migrate_vm(flow, vm_id, target, source)
    assert place_of(fleet, vm_id) == source


def test_a_host_that_filled_up_meanwhile_is_told(fleet: Fleet, flow: Flow, moving: tuple[str, str, str]) -> None:
    vm_id, source, target = moving
    with fleet.database.transaction() as session:
        session.get_one(Host, target).reserves = True
        session.get_one(Host, target).memory_bytes = 1
    with pytest.raises(ApiError, match="cannot move to host host2, which has") as refused:
        migration.migrate_vm(flow, vm_id, target, source)
    assert refused.value.code == 533
    assert place_of(fleet, vm_id) == source


def test_one_that_was_stopped_meanwhile_stays_stopped(fleet: Fleet, flow: Flow, moving: tuple[str, str, str]) -> None:
    vm_id, source, target = moving
    with fleet.database.transaction() as session:
        session.get_one(Vm, vm_id).state = "Stopped"
    with pytest.raises(ApiError, match="stopped or moved meanwhile"):
        migration.migrate_vm(flow, vm_id, target, source)
