"""Maintenance of storage pools: who has a volume there is stopped, and started again afterwards (guide: 13.2.5)."""

from __future__ import annotations

import logging

from sqlalchemy import select

from controlplane.compute import hosts
from controlplane.errors import ApiError
from controlplane.store.models import StoragePool, Vm, Volume
from controlplane.workflows import vms
from controlplane.workflows.flow import Flow

log = logging.getLogger(__name__)


def prepare_pool(flow: Flow, pool_id: str) -> None:
    """Workflow: stop the VMs with volumes in a pool that takes nothing new any more. A failure makes it Up again."""
    try:
        for vm_id in flow.step("look", _running, pool_id):
            flow.step("stop", _stop, pool_id, vm_id)
    except ApiError:
        flow.step("give up", _set_state, pool_id, "Up")
        raise
    flow.step("finish", _set_state, pool_id, "Maintenance")


def resume_pool(flow: Flow, pool_id: str) -> None:
    """Workflow: use a pool again, and start the VMs that its maintenance stopped. Those that do not start are told."""
    flow.step("up", _set_state, pool_id, "Up")
    for vm_id in flow.step("look", _stopped, pool_id):
        flow.step("start", _start, vm_id)
    flow.step("forget", _forget, pool_id)


def _running(flow: Flow, pool_id: str) -> list[str]:
    with flow.core.database.reading() as session:
        there = select(Volume.vm_id).where(Volume.pool_id == pool_id, Volume.removed.is_(None))
        return list(session.scalars(select(Vm.id).where(Vm.id.in_(there), Vm.state.in_(hosts.OCCUPYING))))


def _stop(flow: Flow, pool_id: str, vm_id: str) -> None:
    with flow.core.database.transaction() as session:
        pool = session.get_one(StoragePool, pool_id)
        # noted first: one that is stopped and then forgotten would stay so
        pool.stopped = [*(id for id in pool.stopped if id != vm_id), vm_id]
    vms.halt(flow, vm_id, False)
    vms.tell(flow, vm_id, "VM.STOP", "WARN", f"was stopped: storage pool {pool.name} goes into maintenance")


def _set_state(flow: Flow, pool_id: str, state: str) -> None:
    with flow.core.database.transaction() as session:
        session.get_one(StoragePool, pool_id).state = state


def _stopped(flow: Flow, pool_id: str) -> list[str]:
    with flow.core.database.reading() as session:
        return list(session.get_one(StoragePool, pool_id).stopped)


def _start(flow: Flow, vm_id: str) -> None:
    with flow.core.database.transaction() as session:
        vm = session.get(Vm, vm_id)
        if vm is None or vm.state != "Stopped":
            return
        vm.state = "Starting"
    try:
        vms.bring_up(flow, vm_id)
    except Exception as error:
        log.warning("virtual machine %s does not start after maintenance: %s", vm_id, error)
        vms.halt(flow, vm_id, True)
        vms.tell(flow, vm_id, "VM.START", "WARN", f"does not start after the maintenance of its storage pool: {error}")


def _forget(flow: Flow, pool_id: str) -> None:
    with flow.core.database.transaction() as session:
        session.get_one(StoragePool, pool_id).stopped = []
