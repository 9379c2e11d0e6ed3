"""The rows of system VMs: appliances that serve a zone rather than a network (guide: chapter 16)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane import events
from controlplane.appliances import machines
from controlplane.convergence.intent.rows import public_segment
from controlplane.errors import CapacityError
from controlplane.network import allocation, storagenetwork
from controlplane.store.defaults import SYSTEM_ACCOUNT_ID
from controlplane.store.models import Account, Appliance, PublicIp, ServiceOffering, VlanIpRange, Zone


@dataclass(frozen=True)
class Kind:
    """What is special to the rows of one role. ``type`` is the API's systemvmtype and the offerings' system_vm_type."""

    type: str
    prefix: str
    #: first part of the types of its events
    events: str


#: role -> kind
KINDS: Mapping[str, Kind] = {
    "consoleproxy": Kind("consoleproxy", "v", "PROXY"),
    "ssvm": Kind("secondarystoragevm", "s", "SSVM"),
}


def create(session: Session, zone: Zone, role: str) -> Appliance:
    """A new system VM of a zone in state Starting; nothing is desired of it until ``desired.desire``.

    NICs: eth0 control, eth1 public with an address of the zone, an SSVM's eth2 on the storage network where there is
    one. Raises CapacityError when no address is free.
    """
    kind = KINDS[role]
    control = machines.control_address(session)
    offering = session.scalars(
        select(ServiceOffering)
        .where(ServiceOffering.is_system, ServiceOffering.system_vm_type == kind.type)
        .where(ServiceOffering.removed.is_(None))
        .order_by(ServiceOffering.is_default.desc(), ServiceOffering.created)
    ).first()
    appliance = Appliance(
        role=role,
        name=machines.new_name(session, kind.prefix),
        zone_id=zone.id,
        account_id=SYSTEM_ACCOUNT_ID,
        service_offering_id=offering.id if offering is not None else None,
        control_address=str(control),
        nics=[machines.nic("eth0", control, "control", machines.CONTROL_SEGMENT)],
    )
    session.add(appliance)
    session.flush()
    address = allocation.take_public_address(
        session, zone=zone, account=session.get_one(Account, SYSTEM_ACCOUNT_ID), appliance_id=appliance.id
    )
    span = session.get_one(VlanIpRange, address.vlan_ip_range_id)
    segment = public_segment(span.physical_network_id, span.vlan)
    appliance.nics = [*appliance.nics, machines.nic("eth1", control, "public", segment, span.id)]
    session.flush()
    if role == "ssvm":
        storagenetwork.take_address(session, appliance)
        storagenetwork.add_nic(session, appliance)
    events.record(
        session,
        f"{kind.events}.CREATE",
        f"creating system VM {appliance.name} of zone {zone.name}",
        account_id=SYSTEM_ACCOUNT_ID,
        resource=("SystemVm", appliance.id),
    )
    return appliance


def of_zone(session: Session, zone_id: str, role: str) -> list[Appliance]:
    """The zone's system VMs of a role, the oldest first."""
    statement = select(Appliance).where(
        Appliance.zone_id == zone_id, Appliance.role == role, Appliance.removed.is_(None)
    )
    return list(session.scalars(statement.order_by(Appliance.created, Appliance.id)))


def public_address(session: Session, appliance_id: str) -> PublicIp:
    """The public address of a system VM. Raises CapacityError when it has none."""
    address = session.scalars(select(PublicIp).where(PublicIp.appliance_id == appliance_id)).first()
    if address is None:
        raise CapacityError(f"system VM {appliance_id} has no public address; destroy it, another is built")
    return address
