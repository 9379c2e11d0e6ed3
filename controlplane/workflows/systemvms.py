"""System VMs: made for a zone, and what operators do to them (guide: chapter 16)."""

from __future__ import annotations

import time

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.appliances import machines
from controlplane.convergence.desired import desire
from controlplane.convergence.roles import desire_setting, role_of
from controlplane.errors import ApiError
from controlplane.store.models import Appliance, Zone
from controlplane.systemvms import rows
from controlplane.workflows import appliances
from controlplane.workflows.flow import Flow


def start_system_vm(flow: Flow, appliance_id: str) -> None:
    """Workflow: run a stopped system VM."""
    flow.step("start", _start, appliance_id)


def stop_system_vm(flow: Flow, appliance_id: str, forced: bool = False) -> None:
    """Workflow: stop a system VM until somebody starts it."""
    flow.step("stop", _stop, appliance_id, forced)


def reboot_system_vm(flow: Flow, appliance_id: str, forced: bool = False) -> None:
    """Workflow: stop a system VM and start it."""
    flow.step("stop", _stop, appliance_id, forced, True)
    flow.step("start", _start, appliance_id)


def destroy_system_vm(flow: Flow, appliance_id: str) -> None:
    """Workflow: remove a system VM; another one takes its place."""
    zone_id, role = flow.step("look", _place, appliance_id)
    flow.step("destroy", remove, appliance_id)
    flow.step("replace", _replace, zone_id, role)


def create(session: Session, flow: Flow, zone_id: str, role: str) -> Appliance:
    """The row of a new system VM, Starting: the keeper of its role boots it."""
    appliance = rows.create(session, session.get_one(Zone, zone_id), role)
    role_of(appliance).prepare(session, appliance, flow.core)
    desire(session, appliance.id)
    # documents of the others name it too
    if (setting := role_of(appliance).settings) is not None:
        desire_setting(session, setting, zone_id)
    return appliance


def boot(flow: Flow, appliance_id: str) -> None:
    """Start a system VM that is Starting and wait until it serves. On failure it is in state Error."""
    with flow.locks.of(appliance_id):
        with flow.core.database.transaction() as session:
            appliance = session.get(Appliance, appliance_id)
            if appliance is None or appliance.removed is not None or appliance.state != "Starting":
                return
            machine = machines.placed(session, flow.core.configuration, appliance)
            generation = appliance.desired_generation
        try:
            appliances.boot(flow, machine, generation=generation, deadline=time.monotonic() + appliances.PATIENCE)
        except Exception:
            with flow.core.database.transaction() as session:
                session.get_one(Appliance, appliance_id).state = "Error"
            raise


def restart(flow: Flow, appliance_id: str) -> None:
    """Stop a system VM by force, whatever it is at, and start it again; what it serves comes back with it."""
    _stop(flow, appliance_id, True, True)
    _start(flow, appliance_id)


def remove(flow: Flow, appliance_id: str) -> None:
    """Remove a system VM with what it had."""
    with flow.locks.of(appliance_id):
        appliances.remove(flow, appliance_id)


def _start(flow: Flow, appliance_id: str) -> None:
    with flow.locks.of(appliance_id):
        _there(flow, appliance_id)
        appliances.start(flow, appliance_id)


def _stop(flow: Flow, appliance_id: str, forced: bool, back_soon: bool = False) -> None:
    with flow.locks.of(appliance_id):
        _there(flow, appliance_id)
        appliances.stop(flow, appliance_id, forced, back_soon=back_soon)
        if not back_soon:
            with flow.core.database.transaction() as session:
                appliance = session.get_one(Appliance, appliance_id)
                role_of(appliance).gone(session, appliance)


def _there(flow: Flow, appliance_id: str) -> Appliance:
    with flow.core.database.reading() as session:
        appliance = session.get(Appliance, appliance_id)
        if appliance is None or appliance.removed is not None:
            raise ApiError("the system VM is gone; it was destroyed meanwhile")
        return appliance


def _place(flow: Flow, appliance_id: str) -> list[str]:
    with flow.core.database.reading() as session:
        appliance = session.get_one(Appliance, appliance_id)
        return [appliance.zone_id, appliance.role]


def _replace(flow: Flow, zone_id: str, role: str) -> None:
    with flow.core.database.transaction() as session:
        # the step may run twice
        if not any(one.state == "Starting" for one in rows.of_zone(session, zone_id, role)):
            create(session, flow, zone_id, role)


def show_certificates(flow: Flow) -> None:
    """Workflow: every running system VM shows the certificate that fits it now; open connections go on."""
    flow.step("push", _push_all)


def _push_all(flow: Flow) -> None:
    with flow.core.database.transaction() as session:
        there = select(Appliance).where(Appliance.role.in_(rows.KINDS), Appliance.removed.is_(None))
        running = [(row.id, desire(session, row.id)) for row in session.scalars(there) if row.state == "Running"]
    deadline = time.monotonic() + appliances.PATIENCE
    for appliance_id, generation in running:
        flow.reconciler.wait(appliance_id, generation, timeout=max(0.0, deadline - time.monotonic()))
