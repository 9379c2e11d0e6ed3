"""What is done to the machine of an appliance, of whatever role: boot, stop, remove (guide: chapter 16)."""

from __future__ import annotations

import logging
import time

from sqlalchemy import delete

from controlplane import jobs
from controlplane.appliances import machines
from controlplane.convergence.collect import collect_last
from controlplane.convergence.desired import desire
from controlplane.convergence.roles import role_of
from controlplane.network import storagenetwork
from controlplane.store.models import Appliance, PublicIp, now
from controlplane.workflows.flow import Flow

log = logging.getLogger(__name__)

#: seconds for an appliance to boot and take its first document, an emulated machine included
PATIENCE = 300.0


def boot(
    flow: Flow,
    machine: machines.Machine,
    *,
    generation: int,
    deadline: float,
    ids: frozenset[str] = frozenset(),
) -> None:
    """Start an appliance's machine and wait until it has ``generation``; it is Running then.

    ``deadline`` is a monotonic time. Raises HypervisorError, WaitError.
    """
    begun = time.monotonic()
    machines.start(flow.core.hypervisor, flow.core.authority, machine)
    started = time.monotonic()
    flow.reconciler.wait(machine.id, generation, timeout=max(0.0, deadline - started), ids=ids, progress=flow.progress)
    ready = time.monotonic()
    log.info(
        "%s %s: started in %.2f s, in service %.2f s later",
        machine.role,
        machine.name,
        started - begun,
        ready - started,
    )
    with flow.core.database.transaction() as session:
        appliance = session.get_one(Appliance, machine.id)
        if appliance.removed is None:
            appliance.state = "Running"


def start(flow: Flow, appliance_id: str) -> None:
    """Run a stopped appliance. The caller sees to it that nobody else starts or stops it meanwhile."""
    with flow.core.database.transaction() as session:
        appliance = session.get_one(Appliance, appliance_id)
        appliance.state = "Starting" if appliance.state != "Running" else appliance.state
        appliance.desired_state = "Running"
        generation = desire(session, appliance_id)
        machine = machines.placed(session, flow.core.configuration, appliance)
    try:
        boot(flow, machine, generation=generation, deadline=time.monotonic() + PATIENCE)
    except Exception:
        _failed(flow, appliance_id)
        raise


def stop(flow: Flow, appliance_id: str, forced: bool, *, back_soon: bool = False) -> None:
    """Stop an appliance. Jobs that wait for it end well, unless it is ``back_soon``. As ``start`` for turns."""
    with flow.core.database.transaction() as session:
        appliance = session.get_one(Appliance, appliance_id)
        appliance.state, appliance.desired_state = "Stopping", "Stopped"
    try:
        collect_last(flow.core, appliance_id)
        flow.core.hypervisor.stop(appliance_id, force=forced)
    except Exception:
        _failed(flow, appliance_id)
        raise
    with flow.core.database.transaction() as session:
        appliance = session.get_one(Appliance, appliance_id)
        appliance.state, appliance.healthy = "Stopped", None
        # who waits for it would wait until somebody starts it; jobs from now on end at once (``desired``)
        for job in [] if back_soon else jobs.reached(session, appliance_id, appliance.desired_generation):
            jobs.succeed(session, job)


def remove(flow: Flow, appliance_id: str, *, replaced: bool = False) -> None:
    """Destroy an appliance's machine and end its row.

    Jobs that waited for it wait for its successor when it is ``replaced``. Otherwise they end well, as where there
    never was an appliance: their rows take effect when there is one.
    """
    with flow.core.database.transaction() as session:
        appliance = session.get(Appliance, appliance_id)
        if appliance is None or appliance.removed is not None:
            return
        appliance.state, appliance.desired_state = "Stopping", "Stopped"
    try:
        collect_last(flow.core, appliance_id)
        flow.core.hypervisor.destroy(appliance_id)
    except Exception:
        # from here it can be started or destroyed again
        _failed(flow, appliance_id)
        raise
    with flow.core.database.transaction() as session:
        appliance = session.get_one(Appliance, appliance_id)
        appliance.state, appliance.removed, appliance.healthy = "Destroyed", now(), None
        # the address can be given to another appliance; the column is unique
        appliance.control_address = f"gone-{appliance.id[:10]}"
        session.execute(delete(PublicIp).where(PublicIp.appliance_id == appliance_id))
        storagenetwork.release(session, appliance_id)
        role_of(appliance).gone(session, appliance)
        for job in [] if replaced else jobs.reached(session, appliance_id, appliance.desired_generation):
            jobs.succeed(session, job)
    flow.reconciler.wake(appliance_id)


def _failed(flow: Flow, appliance_id: str) -> None:
    with flow.core.database.transaction() as session:
        session.get_one(Appliance, appliance_id).state = "Error"
