"""What operators do to routers: start, stop, reboot, destroy (guide: chapter 16.4); waiting for several at once."""

from __future__ import annotations

from controlplane.convergence.reconciler import WaitError
from controlplane.store.models import Appliance
from controlplane.workflows import appliances, networks
from controlplane.workflows.flow import Flow

#: seconds until a job that waits for routers gives up; they go on trying
PATIENCE = 120.0


def start_router(flow: Flow, router_id: str) -> None:
    """Workflow: run a stopped router."""
    flow.step("start", _start, router_id)


def stop_router(flow: Flow, router_id: str, forced: bool = False) -> None:
    """Workflow: stop a router, and with it its network's services, until it is started again."""
    flow.step("stop", _stop, router_id, forced)


def reboot_router(flow: Flow, router_id: str, forced: bool = False) -> None:
    """Workflow: stop a router and start it; it comes back with all its rules."""
    flow.step("stop", _stop, router_id, forced, True)
    flow.step("start", _start, router_id)


def destroy_router(flow: Flow, router_id: str) -> None:
    """Workflow: remove a router. The next guest, or a restart of the network, builds another."""
    flow.step("destroy", _destroy, router_id)


def reach_routers(flow: Flow, routers: list[tuple[str, int]]) -> None:
    """Workflow: wait until routers have observed their generations. One that is removed meanwhile has nothing left."""
    for router_id, generation in routers:
        flow.step(f"reach {router_id}", _reach, router_id, generation)


def _reach(flow: Flow, router_id: str, generation: int) -> None:
    try:
        flow.reconciler.wait(router_id, generation, timeout=PATIENCE, progress=flow.progress)
    except WaitError:
        with flow.core.database.reading() as session:
            router = session.get(Appliance, router_id)
            if router is None or router.removed is not None:
                return
        raise


def restart(flow: Flow, router_id: str) -> None:
    """Stop a router and start it, on another host if its own takes nothing new."""
    _stop(flow, router_id, False, True)
    _start(flow, router_id)


def _start(flow: Flow, router_id: str) -> None:
    with flow.locks.of(networks.network_of_router(flow.core, router_id)):
        appliances.start(flow, router_id)


def _stop(flow: Flow, router_id: str, forced: bool, back_soon: bool = False) -> None:
    with flow.locks.of(networks.network_of_router(flow.core, router_id)):
        appliances.stop(flow, router_id, forced, back_soon=back_soon)


def _destroy(flow: Flow, router_id: str) -> None:
    with flow.core.database.reading() as session:
        router = session.get(Appliance, router_id)
        network_id = router.network_id if router is not None and router.removed is None else None
    if network_id is not None:
        with flow.locks.of(network_id):
            appliances.remove(flow, router_id)
