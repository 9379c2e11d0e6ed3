"""What routers and other system VMs have in common, as the API shows them."""

from __future__ import annotations

from datetime import datetime
from ipaddress import IPv4Interface
from typing import Any

from sqlalchemy.orm import Session

from controlplane.api.command import Response, shown
from controlplane.api.views.placement import placement_of
from controlplane.convergence.intent.rows import CONTROL_PREFIX
from controlplane.store.models import Appliance, PublicIp, ServiceOffering, VlanIpRange, Zone


class ApplianceResponse(Response):
    """A router or another system VM."""

    id: str = shown("the id of the system VM", ...)
    name: str = shown("the name of the system VM", ...)
    state: str = shown("the state of the system VM", ...)
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
    gateway: str | None = shown("its next hop on the public network")
    linklocalip: str | None = shown("address on the control network")
    linklocalnetmask: str | None = shown("netmask of the control network")
    linklocalmacaddress: str | None = shown("MAC on the control network")
    publicip: str | None = shown("its public address")
    publicnetmask: str | None = shown("netmask of the public network")
    publicmacaddress: str | None = shown("MAC on the public network")
    serviceofferingid: str | None = shown("id of its offering")
    serviceofferingname: str | None = shown("name of its offering")
    version: str | None = shown("version it runs")
    healthchecksfailed: bool = shown("a probe of one of its services fails", False)
    error: str | None = shown("why it does not match what is asked of it, if it does not")


def common_of(session: Session, row: Appliance, public: tuple[PublicIp, VlanIpRange] | None) -> dict[str, Any]:
    """The fields of ApplianceResponse; ``public`` is its public address with the range that it is of."""
    zone = session.get_one(Zone, row.zone_id)
    offering = session.get(ServiceOffering, row.service_offering_id) if row.service_offering_id else None
    macs = macs_of(row)
    fields: dict[str, Any] = {
        "id": row.id,
        "name": row.name,
        "state": row.state,
        "created": row.created,
        "zoneid": zone.id,
        "zonename": zone.name,
        "dns1": zone.dns1,
        "dns2": zone.dns2,
        "linklocalmacaddress": macs.get("control"),
        "publicmacaddress": macs.get("public"),
        "serviceofferingid": offering.id if offering else None,
        "serviceofferingname": offering.name if offering else None,
        "version": row.version,
        "healthchecksfailed": row.healthy is False,
        "error": row.last_error,
        **placement_of(session, row),
    }
    if row.removed is None:
        control = IPv4Interface(f"{row.control_address}/{CONTROL_PREFIX}")
        fields |= {"linklocalip": str(control.ip), "linklocalnetmask": str(control.netmask)}
    if public is not None:
        address, span = public
        fields |= {"publicip": address.address, "publicnetmask": span.netmask, "gateway": span.gateway}
    return fields


def macs_of(row: Appliance) -> dict[str, str]:
    """Role -> MAC of the first NIC that has it."""
    return {nic["role"]: nic["mac"] for nic in reversed(row.nics)}
