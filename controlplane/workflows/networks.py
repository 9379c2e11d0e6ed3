"""Networks: a router is built when the first guest needs it, and taken away when nobody does (guide: chapter 15)."""

from __future__ import annotations

import time

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from controlplane import events, jobs, routers
from controlplane.appliances import machines
from controlplane.convergence.desired import desire
from controlplane.convergence.reconciler import WaitError
from controlplane.core import Core
from controlplane.errors import ApiError, ParameterError
from controlplane.network import addresses, services
from controlplane.network import networks as rows
from controlplane.store.models import Appliance, AsyncJob, Network
from controlplane.workflows import appliances
from controlplane.workflows.flow import Flow


def implement_network(flow: Flow, network_id: str) -> None:
    """Workflow: see to it that the network has a router in service."""
    flow.step("implement", implement, network_id)


def restart_network(flow: Flow, network_id: str, cleanup: bool = False) -> None:
    """Workflow: apply everything again; with ``cleanup`` on a new router."""
    if cleanup:
        flow.step("remove the router", _discard_router, network_id, True)
    try:
        flow.step("implement", implement, network_id)
    except ApiError:
        flow.step("let go", _end_waiting, network_id)
        raise
    flow.step("note", _restarted, network_id)


def delete_network(flow: Flow, network_id: str) -> None:
    """Workflow: take down a network that was marked with ``network.networks.begin_delete``, and free what it had."""
    flow.step("remove the router", _discard_router, network_id)
    flow.step("free", _free, network_id)


def implement(flow: Flow, network_id: str, ids: list[str] | None = None) -> None:
    """Step: the network has a running router that has taken in all rows committed so far.

    ``ids`` are of entries that the caller brought in: when the router refuses one of them, it is the caller's error.
    """
    deadline, brought = time.monotonic() + appliances.PATIENCE, frozenset(ids or ())
    if not _needs_router(flow, network_id):
        return
    while True:
        router_id, generation = _ensure_router(flow, network_id, deadline, brought)
        try:
            flow.reconciler.wait(
                router_id,
                generation,
                timeout=max(0.0, deadline - time.monotonic()),
                ids=brought,
                progress=flow.progress,
            )
        except WaitError:
            with flow.core.database.reading() as session:
                router = session.get(Appliance, router_id)
                if router is None or router.removed is None or time.monotonic() > deadline:
                    raise
            # someone replaced the router meanwhile
            continue
        return


def _needs_router(flow: Flow, network_id: str) -> bool:
    """A network without services of a router is in service at once."""
    with flow.core.database.transaction() as session:
        network = _living(session, network_id)
        if services.needs_router(network):
            return True
        network.state, network.restart_required = "Implemented", False
        rows.mark_idle(session, [network_id])
    return False


def _ensure_router(flow: Flow, network_id: str, deadline: float, ids: frozenset[str]) -> tuple[str, int]:
    """A router in service for the network, and the generation that has all rows committed so far."""
    core = flow.core
    with core.database.transaction() as session:
        network = _living(session, network_id)
        router = routers.of_network(session, network_id)
        if router is not None and router.state == "Running" and network.state == "Implemented":
            return router.id, desire(session, router.id)
    with flow.locks.of(network_id):
        with core.database.transaction() as session:
            network = _living(session, network_id)
            router = routers.of_network(session, network_id)
            created = router is None
            if router is None:
                addresses.ensure_source_nat(session, network)
                router = routers.create(session, network)
                _inherit_jobs(session, router)
                events.record(
                    session,
                    "ROUTER.CREATE",
                    f"creating router {router.name} of network {network.name}",
                    account_id=network.account_id,
                    resource=("DomainRouter", router.id),
                )
            if network.state != "Implemented":
                network.state = "Implementing"
            if router.state != "Running":
                router.state = "Starting"
            router.desired_state = "Running"
            generation = desire(session, router.id)
            router_id, machine = router.id, machines.placed(session, core.configuration, router)
        try:
            appliances.boot(flow, machine, generation=generation, deadline=deadline, ids=ids)
        except Exception:
            _take_back(flow, network_id, router_id, created)
            raise
        with core.database.transaction() as session:
            network = session.get_one(Network, network_id)
            network.restart_required = False
            # it may have been marked for deletion meanwhile, which waits for the lock
            if network.state == "Implementing":
                network.state = "Implemented"
            rows.mark_idle(session, [network_id])
    return router_id, generation


def _take_back(flow: Flow, network_id: str, router_id: str, created: bool) -> None:
    """A router that never came into service goes away again; an older one is left to the reconciler's tries."""
    with flow.core.database.transaction() as session:
        router = session.get_one(Appliance, router_id)
        network = session.get_one(Network, network_id)
        new = created or network.state == "Implementing"
        if not new:
            router.state = "Error"
    if new:
        appliances.remove(flow, router_id)
        with flow.core.database.transaction() as session:
            network = session.get_one(Network, network_id)
            if network.state == "Implementing":
                network.state = "Allocated"


def _living(session: Session, network_id: str) -> Network:
    network = session.get(Network, network_id)
    if network is None or network.removed is not None or network.state == "Destroy":
        raise ParameterError(f"network {network.name if network else network_id} is being deleted")
    return network


def _inherit_jobs(session: Session, router: Appliance) -> None:
    """Jobs that waited for the router's predecessor wait for its first generation: it is built from their rows."""
    before = select(Appliance.id).where(Appliance.network_id == router.network_id, Appliance.removed.is_not(None))
    session.execute(
        update(AsyncJob)
        .where(AsyncJob.appliance_id.in_(before), AsyncJob.status == jobs.PENDING)
        .values(appliance_id=router.id, generation=1),
        execution_options={"synchronize_session": False},
    )


def _end_waiting(flow: Flow, network_id: str) -> None:
    """There is no successor: end the jobs that were to wait for it, as in a network that has no router."""
    with flow.core.database.transaction() as session:
        gone = select(Appliance).where(Appliance.network_id == network_id, Appliance.removed.is_not(None))
        for router in session.scalars(gone):
            for job in jobs.reached(session, router.id, router.desired_generation):
                jobs.succeed(session, job)


def _discard_router(flow: Flow, network_id: str, replaced: bool = False) -> None:
    with flow.locks.of(network_id):
        with flow.core.database.reading() as session:
            router = routers.of_network(session, network_id)
        if router is not None:
            appliances.remove(flow, router.id, replaced=replaced)


def _restarted(flow: Flow, network_id: str) -> None:
    with flow.core.database.transaction() as session:
        session.get_one(Network, network_id).restart_required = False


def _free(flow: Flow, network_id: str) -> None:
    flow.core.hypervisor.remove_segment(routers.guest_segment(network_id))
    with flow.core.database.transaction() as session:
        rows.finish_delete(session, network_id)


def shutdown(flow: Flow, network_id: str) -> bool:
    """Take a network without active guests out of service; its rows stay. False when a guest came back meanwhile."""
    with flow.locks.of(network_id):
        with flow.core.database.transaction() as session:
            network = session.get(Network, network_id)
            if network is None or network.removed is not None or network.state not in ("Implemented", "Shutdown"):
                return False
            if rows.active_guests(session, network_id):
                rows.mark_idle(session, [network_id])
                return False
            network.state = "Shutdown"
            router = routers.of_network(session, network_id)
        if router is not None:
            appliances.remove(flow, router.id)
        flow.core.hypervisor.remove_segment(routers.guest_segment(network_id))
        with flow.core.database.transaction() as session:
            network = session.get_one(Network, network_id)
            network.idle_since = None
            if network.state == "Shutdown":
                network.state = "Allocated"
            events.record(
                session,
                "NETWORK.GC",
                f"network {network.name} has no running guests; its router was removed",
                account_id=network.account_id,
                resource=("Network", network_id),
            )
    return True


def network_of_router(core: Core, router_id: str) -> str:
    """The network that a router serves. Raises ApiError when the router is gone."""
    with core.database.reading() as session:
        router = session.get(Appliance, router_id)
        if router is None or router.removed is not None or router.network_id is None:
            raise ApiError(f"router {router.name if router else router_id} is gone; restart its network to get another")
        return router.network_id
