"""What runs on a host that goes into maintenance: it moves, starts anew elsewhere, or is stopped."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from controlplane.compute.hosts import FAILED, MAINTENANCE, PREPARING
from controlplane.errors import ApiError
from controlplane.hypervisors.base import HypervisorError
from controlplane.store.models import Appliance, Event, Host, Vm
from controlplane.workflows import maintenance
from controlplane.workflows.flow import Flow
from tests.unit.controlplane.fleet import Fleet
from tests.unit.controlplane.workflows.test_workflows import deployed

OTHER = "fake://host2"


def prepare(fleet: Fleet, flow: Flow, *, other: bool = True) -> str:
    """Empty the first host; its id."""
    with fleet.database.transaction() as session:
        first = session.scalars(select(Host)).one()
        first.resource_state = PREPARING
        if other:
            session.add(Host(cluster_id=first.cluster_id, name="host2", url=OTHER, cpus=4, memory_bytes=8 << 30))
    maintenance.prepare_host(flow, first.id)
    return first.id


def state_of(fleet: Fleet, host_id: str) -> str:
    with fleet.database.reading() as session:
        return session.get_one(Host, host_id).resource_state


def told(fleet: Fleet) -> list[tuple[str, str, str]]:
    with fleet.database.reading() as session:
        statement = select(Event).where(Event.type.in_(("VM.MIGRATE", "VM.STOP", "VM.REBOOT", "HOST.EVICT")))
        return [(event.type, event.level, event.description) for event in session.scalars(statement)]


def test_guests_move_and_routers_start_anew_on_another_host(fleet: Fleet, flow: Flow) -> None:
    vm_id, _, router_id = deployed(fleet, flow)
    moved: list[str] = []
    fleet.hypervisor.on_migrate = moved.append
    host_id = prepare(fleet, flow)
    assert moved == [vm_id]
    assert {fleet.hypervisor.running[id].host for id in (vm_id, router_id)} == {OTHER}
    with fleet.database.reading() as session:
        vm, router = session.get_one(Vm, vm_id), session.get_one(Appliance, router_id)
        assert (vm.state, router.state) == ("Running", "Running")
        assert vm.host_id == router.host_id != host_id
    assert state_of(fleet, host_id) == MAINTENANCE
    assert told(fleet) == [("VM.MIGRATE", "INFO", f"virtual machine {vm.name} was moved to another host while it ran")]


def test_a_guest_that_cannot_be_moved_starts_anew_on_another_host(fleet: Fleet, flow: Flow) -> None:
    vm_id, *_ = deployed(fleet, flow)

    def refuse(_: str) -> None:
        raise HypervisorError("the processors differ")

    fleet.hypervisor.on_migrate = refuse
    host_id = prepare(fleet, flow)
    assert fleet.hypervisor.running[vm_id].host == OTHER
    assert state_of(fleet, host_id) == MAINTENANCE
    [(kind, level, text)] = told(fleet)
    assert (kind, level) == ("VM.REBOOT", "WARN") and text.endswith("not moved: the processors differ")


def test_what_no_host_has_room_for_is_stopped(fleet: Fleet, flow: Flow) -> None:
    vm_id, _, router_id = deployed(fleet, flow)
    host_id = prepare(fleet, flow, other=False)
    assert fleet.hypervisor.power(vm_id) == fleet.hypervisor.power(router_id) == "stopped"
    with fleet.database.reading() as session:
        assert session.get_one(Vm, vm_id).state == session.get_one(Appliance, router_id).state == "Stopped"
    assert state_of(fleet, host_id) == MAINTENANCE
    assert {(kind, level) for kind, level, _ in told(fleet)} == {("VM.STOP", "WARN"), ("HOST.EVICT", "WARN")}
    assert all("goes into maintenance" in text for *_, text in told(fleet))


def test_a_host_that_is_not_empty_in_the_end_is_told(fleet: Fleet, flow: Flow) -> None:
    deployed(fleet, flow)

    def fail(_: str) -> None:
        raise HypervisorError("libvirt does not answer")

    fleet.hypervisor.on_stop = fail
    with pytest.raises(ApiError, match=r"libvirt does not answer|still runs"):
        prepare(fleet, flow, other=False)
    with fleet.database.reading() as session:
        assert session.scalars(select(Host)).one().resource_state in (FAILED, PREPARING)


def test_maintenance_that_was_cancelled_is_over(fleet: Fleet, flow: Flow) -> None:
    host_id = prepare(fleet, flow)
    with fleet.database.transaction() as session:
        session.get_one(Host, host_id).resource_state = "Enabled"
    maintenance._finish(flow, host_id)
    assert state_of(fleet, host_id) == "Enabled"
