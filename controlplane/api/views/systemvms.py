"""System VMs as the API shows them."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.api.command import shown
from controlplane.api.views.appliances import ApplianceResponse, common_of
from controlplane.console import sessions
from controlplane.store.models import Appliance, PublicIp, VlanIpRange
from controlplane.systemvms.rows import KINDS


class SystemVmResponse(ApplianceResponse):
    """A system VM of a zone."""

    systemvmtype: str = shown("what it is for: consoleproxy or secondarystoragevm", ...)
    agentstate: str = shown("whether its agent answers: Up, Down or Connecting", ...)
    networkdomain: str | None = shown("domain of its name")
    # its management traffic goes over the control network
    privateip: str | None = shown("address for management")
    privatenetmask: str | None = shown("netmask of that network")
    privatemacaddress: str | None = shown("MAC on that network")
    publicvlan: list[str] = shown("VLANs of the public network", [])
    activeviewersessions: int = shown("consoles that it shows, for a console proxy", 0)
    isdynamicallyscalable: bool = shown("whether it can be scaled while it runs", False)


def show_system_vms(session: Session, rows: Sequence[Appliance]) -> list[SystemVmResponse]:
    """System VMs with their addresses and load."""
    ids = [row.id for row in rows]
    statement = (
        select(PublicIp, VlanIpRange)
        .join(VlanIpRange, VlanIpRange.id == PublicIp.vlan_ip_range_id)
        .where(PublicIp.appliance_id.in_(ids))
    )
    public = {address.appliance_id: (address, span) for address, span in session.execute(statement)}
    load = sessions.load(session, ids)
    return [_show(session, row, public.get(row.id), load[row.id]) for row in rows]


def _show(
    session: Session, row: Appliance, public: tuple[PublicIp, VlanIpRange] | None, viewers: int
) -> SystemVmResponse:
    fields = common_of(session, row, public)
    return SystemVmResponse(
        **fields,
        systemvmtype=KINDS[row.role].type,
        agentstate=_agent_state(row),
        privateip=fields.get("linklocalip"),
        privatenetmask=fields.get("linklocalnetmask"),
        privatemacaddress=fields["linklocalmacaddress"],
        publicvlan=[public[1].vlan] if public is not None else [],
        activeviewersessions=viewers,
    )


def _agent_state(row: Appliance) -> str:
    if row.state == "Starting":
        return "Connecting"
    return "Up" if row.state == "Running" and "agent" not in row.health else "Down"
