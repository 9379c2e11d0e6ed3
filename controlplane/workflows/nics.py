"""What follows a change of a NIC's addresses: the router's rules, and the port on the host."""

from __future__ import annotations

from sqlalchemy.orm import Session

from controlplane.convergence.desired import desire_network
from controlplane.errors import ApiError
from controlplane.network import secondary
from controlplane.securitygroups import desired
from controlplane.store.models import Nic, NicSecondaryIp
from controlplane.workflows import appliances
from controlplane.workflows.flow import Flow


def follow_nic(flow: Flow, nic_id: str, added: str | None = None) -> None:
    """Workflow: the router and a running VM's port learn the NIC's addresses; a failure takes ``added`` back."""
    try:
        flow.step("router", _router, nic_id, added)
        flow.step("port", _port, nic_id)
    except ApiError:
        if added is not None:
            flow.step("take back", _take_back, nic_id, added)
        raise


def _router(flow: Flow, nic_id: str, added: str | None) -> None:
    with flow.core.database.transaction() as session:
        target = desire_network(session, _nic(session, nic_id).network_id)
    if target is not None:
        flow.reconciler.wake(target[0])
        brought = frozenset(filter(None, (nic_id, added)))
        flow.reconciler.wait(*target, timeout=appliances.PATIENCE, ids=brought, progress=flow.progress)


def _port(flow: Flow, nic_id: str) -> None:
    with flow.core.database.reading() as session:
        nic = _nic(session, nic_id)
        vm_id, mac, addresses = nic.vm_id, nic.mac, secondary.all_of(nic)
    if flow.core.hypervisor.power(vm_id) != "absent":
        flow.core.hypervisor.set_addresses(vm_id, mac, addresses)
    # security groups know their members by their addresses
    with flow.core.database.transaction() as session:
        desired.desire(session)
    flow.core.policy_changed.set()


def _take_back(flow: Flow, nic_id: str, added: str) -> None:
    with flow.core.database.transaction() as session:
        row = session.get(NicSecondaryIp, added)
        if row is None:
            return
        session.delete(row)
        session.flush()
        target = desire_network(session, row.network_id)
    if target is not None:
        flow.reconciler.wake(target[0])
    _port(flow, nic_id)


def _nic(session: Session, nic_id: str) -> Nic:
    nic = session.get(Nic, nic_id)
    if nic is None:
        raise ApiError("the NIC is gone; it was removed meanwhile")
    return nic
