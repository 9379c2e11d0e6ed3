"""Sees to it that the NICs of running VMs have the rates that offerings and settings say (guide: chapter 8.3)."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select, update

from controlplane.core import Core
from controlplane.hypervisors.base import HypervisorError
from controlplane.network import rates
from controlplane.store.models import Network, NetworkOffering, Nic, ServiceOffering, Vm


@dataclass(frozen=True)
class _Change:
    vm_id: str
    nic_id: str
    mac: str
    rate: int


def follow(core: Core) -> list[str]:
    """Change the rates that differ from what the hypervisor was told last; what could not be changed, in words."""
    problems = []
    for change in _due(core):
        try:
            core.hypervisor.set_rate(change.vm_id, change.mac, change.rate)
        except HypervisorError as error:
            # it was stopped or unplugged meanwhile, or is tried again the next time
            problems.append(f"NIC {change.mac} of {change.vm_id}: {error}")
            continue
        with core.database.transaction() as session:
            session.execute(update(Nic).where(Nic.id == change.nic_id).values(rate_mbit=change.rate))
    return problems


def _due(core: Core) -> list[_Change]:
    with core.database.reading() as session:
        # columns, not rows: all NICs there are pass by here every few seconds
        statement = (
            select(
                Nic.id,
                Nic.vm_id,
                Nic.mac,
                Nic.is_default,
                Nic.rate_mbit,
                ServiceOffering.network_rate.label("vm_rate"),
                NetworkOffering.network_rate.label("network_rate"),
                Network.zone_id,
            )
            .join(Vm, Vm.id == Nic.vm_id)
            .join(ServiceOffering, ServiceOffering.id == Vm.service_offering_id)
            .join(Network, Network.id == Nic.network_id)
            .join(NetworkOffering, NetworkOffering.id == Network.network_offering_id)
            .where(Vm.state == "Running", Nic.rate_mbit.is_not(None))
        )
        found = session.execute(statement).all()
        unset = rates.Unset(session, core.configuration)
        wanted = (
            (row, rates.choose(row.is_default, row.vm_rate, row.network_rate, row.zone_id, unset)) for row in found
        )
        return [_Change(row.vm_id, row.id, row.mac, rate) for row, rate in wanted if rate != row.rate_mbit]
