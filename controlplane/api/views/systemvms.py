"""System VMs as the API shows them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from ipaddress import IPv4Interface

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.api.command import Response, shown
from controlplane.api.views.placement import placement_of
from controlplane.console import sessions
from controlplane.convergence.intent.rows import CONTROL_PREFIX
from controlplane.store.models import Appliance, PublicIp, ServiceOffering, VlanIpRange, Zone
from controlplane.systemvms import KINDS


class SystemVmResponse(Response):
    """A system VM."""

    id: str = shown("the id of the system VM", ...)
    name: str = shown("the name of the system VM", ...)
    systemvmtype: str = shown("what it is for: consoleproxy or secondarystoragevm", ...)
    state: str = shown("the state of the system VM", ...)
    agentstate: str = shown("whether its agent answers: Up, Down or Connecting", ...)
    created: datetime = shown("when it was created", ...)
    zoneid: str = shown("id of the zone", ...)
    zonename: str = shown("name of the zone", ...)
    podid: str | None = shown("id of its pod")
    podname: str | None = shown("name of its pod")
    hostid: str | None = shown("id of the host it runs on")
    hostname: str | None = shown("name of the host it runs on")
    hypervisor: str | None = shown("kind of hypervisor it runs on")
    dns1: str = shown("the zone's first resolver", ...)
    dns2: str | None = shown("the zone's second resolver")
    networkdomain: str | None = shown("domain of its name")
    gateway: str | None = shown("its next hop on the public network")
    linklocalip: str | None = shown("address on the control network")
    linklocalnetmask: str | None = shown("netmask of the control network")
    linklocalmacaddress: str | None = shown("MAC on the control network")
    # its management traffic goes over the control network
    privateip: str | None = shown("address for management")
    privatenetmask: str | None = shown("netmask of that network")
    privatemacaddress: str | None = shown("MAC on that network")
    publicip: str | None = shown("its public address")
    publicnetmask: str | None = shown("netmask of the public network")
    publicmacaddress: str | None = shown("MAC on the public network")
    publicvlan: list[str] = shown("VLANs of the public network", [])
    activeviewersessions: int = shown("consoles that it shows, for a console proxy", 0)
    serviceofferingid: str | None = shown("id of its offering")
    serviceofferingname: str | None = shown("name of its offering")
    version: str | None = shown("version it runs")
    isdynamicallyscalable: bool = shown("whether it can be scaled while it runs", False)
    healthchecksfailed: bool = shown("a probe of one of its services fails", False)
    error: str | None = shown("why it does not match what is asked of it, if it does not")


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
    zone = session.get_one(Zone, row.zone_id)
    offering = session.get(ServiceOffering, row.service_offering_id) if row.service_offering_id else None
    macs = {nic["role"]: nic["mac"] for nic in reversed(row.nics)}
    answer = SystemVmResponse(
        id=row.id,
        name=row.name,
        systemvmtype=KINDS[row.role].type,
        state=row.state,
        agentstate=_agent_state(row),
        created=row.created,
        zoneid=zone.id,
        zonename=zone.name,
        dns1=zone.dns1,
        dns2=zone.dns2,
        linklocalmacaddress=macs.get("control"),
        privatemacaddress=macs.get("control"),
        publicmacaddress=macs.get("public"),
        activeviewersessions=viewers,
        serviceofferingid=offering.id if offering else None,
        serviceofferingname=offering.name if offering else None,
        version=row.version,
        healthchecksfailed=row.healthy is False,
        error=row.last_error,
        **placement_of(session, row),
    )
    if row.removed is None:
        control = IPv4Interface(f"{row.control_address}/{CONTROL_PREFIX}")
        answer.linklocalip = answer.privateip = str(control.ip)
        answer.linklocalnetmask = answer.privatenetmask = str(control.netmask)
    if public is not None:
        address, span = public
        answer.publicip, answer.publicnetmask, answer.gateway = address.address, span.netmask, span.gateway
        answer.publicvlan = [span.vlan]
    return answer


def _agent_state(row: Appliance) -> str:
    if row.state == "Starting":
        return "Connecting"
    return "Up" if row.state == "Running" and "agent" not in row.health else "Down"
