"""Maintenance of hosts: what runs on one leaves it (guide: chapter 11)."""

from __future__ import annotations

import logging

from sqlalchemy import select
from sqlalchemy.orm import Session

from appliance.errors import GatehouseError
from controlplane import events
from controlplane.compute import hosts
from controlplane.compute.hosts import FAILED, MAINTENANCE, PREPARING, Amount
from controlplane.errors import ApiError, CapacityError
from controlplane.hypervisors.base import HypervisorError
from controlplane.network import segments
from controlplane.store.defaults import SYSTEM_ACCOUNT_ID
from controlplane.store.models import Appliance, Host, Vm
from controlplane.workflows import routers, systemvms, vms
from controlplane.workflows.flow import Flow

log = logging.getLogger(__name__)


def prepare_host(flow: Flow, host_id: str) -> None:
    """Workflow: empty a host that takes nothing new any more.

    Guests are moved while they run, or start anew on another host when they cannot be moved; routers and system VMs
    start anew there. What no other host has room for is stopped. Events say what happened to whom.
    """
    for vm_id in flow.step("guests", _guests, host_id):
        flow.step("guest", _clear_guest, vm_id, host_id)
    for appliance_id in flow.step("appliances", _appliances, host_id):
        flow.step("appliance", _clear_appliance, appliance_id, host_id)
    flow.step("finish", _finish, host_id)


def _guests(flow: Flow, host_id: str) -> list[str]:
    with flow.core.database.reading() as session:
        return list(session.scalars(select(Vm.id).where(Vm.host_id == host_id, Vm.state.in_(hosts.OCCUPYING))))


def _appliances(flow: Flow, host_id: str) -> list[str]:
    there = Appliance.host_id == host_id, Appliance.state.in_(hosts.OCCUPYING), Appliance.removed.is_(None)
    with flow.core.database.reading() as session:
        return list(session.scalars(select(Appliance.id).where(*there)))


def _clear_guest(flow: Flow, vm_id: str, host_id: str) -> None:
    # in turns with what starts and stops it
    with flow.locks.of(vm_id):
        try:
            target = _place_elsewhere(flow, vm_id, host_id)
        except CapacityError as error:
            vms.halt(flow, vm_id, False)
            vms.tell(flow, vm_id, "VM.STOP", "WARN", f"was stopped: its host goes into maintenance, and {error.text}")
            return
        if target is None:
            return
        try:
            flow.core.hypervisor.migrate(vm_id, target)
        except HypervisorError as error:
            log.warning("virtual machine %s is restarted on %s: %s", vm_id, target, error)
            _restart_guest(flow, vm_id, error)
        else:
            vms.tell(flow, vm_id, "VM.MIGRATE", "INFO", "was moved to another host while it ran")


def _place_elsewhere(flow: Flow, vm_id: str, host_id: str) -> str | None:
    """The url of the host that a guest goes to; None when it has left already. Raises CapacityError."""
    with flow.core.database.transaction() as session:
        vm = session.get(Vm, vm_id)
        if vm is None or vm.removed is not None or vm.state not in hosts.OCCUPYING or vm.host_id != host_id:
            return None
        wanted = [segments.of_guests(session, nic.network) for nic in vm.nics]
        target = hosts.place(session, flow.core.configuration, vm).url
    for segment in wanted:
        flow.core.hypervisor.ensure_segment(segment)
    return target


def _restart_guest(flow: Flow, vm_id: str, reason: HypervisorError) -> None:
    try:
        flow.core.hypervisor.stop(vm_id)
        vms.power_on(flow, vm_id)
    except GatehouseError as error:
        vms.halt(flow, vm_id, True)
        vms.tell(flow, vm_id, "VM.STOP", "WARN", f"was stopped: its host goes into maintenance, and {error}")
    else:
        vms.tell(flow, vm_id, "VM.REBOOT", "WARN", f"was restarted on another host and not moved: {reason}")


def _clear_appliance(flow: Flow, appliance_id: str, host_id: str) -> None:
    with flow.core.database.reading() as session:
        appliance = session.get_one(Appliance, appliance_id)
        if appliance.removed is not None or appliance.host_id != host_id or appliance.state not in hosts.OCCUPYING:
            return
        role, name, account_id = appliance.role, appliance.name, appliance.account_id or SYSTEM_ACCOUNT_ID
    try:
        (routers if role == "router" else systemvms).restart(flow, appliance_id)
    except GatehouseError as error:
        log.warning("%s does not start on another host: %s", name, error)
        with flow.core.database.transaction() as session:
            text = f"{name} was stopped: its host goes into maintenance, and {error}"
            events.record(session, "HOST.EVICT", text, account_id=account_id, level="WARN")


def _finish(flow: Flow, host_id: str) -> None:
    with flow.core.database.transaction() as session:
        host = session.get(Host, host_id)
        if host is None or host.resource_state != PREPARING:
            # cancelled or removed meanwhile
            return
        empty = _is_empty(session, host_id)
        host.resource_state = MAINTENANCE if empty else FAILED
        name = host.name
    if not empty:
        raise ApiError(f"something still runs on host {name}; see listEvents, stop it, and prepare the host again")


def _is_empty(session: Session, host_id: str) -> bool:
    return hosts.promised(session, [host_id])[host_id] == Amount(0, 0)
