"""The storage network: ranges of addresses by which SSVMs reach image stores (guide: chapter 2.8, "Storage")."""

from __future__ import annotations

from ipaddress import IPv4Address

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from controlplane.appliances import machines
from controlplane.convergence.intent.rows import storage_segment
from controlplane.errors import CapacityError, InUseError, RuleConflictError
from controlplane.network import addressing, ranges
from controlplane.store.models import (
    Appliance,
    PhysicalNetwork,
    StorageAddress,
    StorageIpRange,
    VlanIpRange,
    Zone,
)

#: role of the NIC in documents: inside, like that of the control network
ROLE = "management"


def physical_network(session: Session, zone: Zone) -> PhysicalNetwork:
    """The one that carries the zone's storage traffic: the first with a label for it, else the first of all.

    Raises CapacityError when the zone has none.
    """
    statement = select(PhysicalNetwork).where(PhysicalNetwork.zone_id == zone.id).order_by(PhysicalNetwork.created)
    there = list(session.scalars(statement))
    for row in there:
        if "Storage" in (row.labels or {}):
            return row
    if not there:
        raise CapacityError(f"zone {zone.name} has no physical network; make one with createPhysicalNetwork")
    return there[0]


def check(session: Session, row: StorageIpRange) -> None:
    """Raise ParameterError, RuleConflictError or InUseError unless a new or changed range fits what is there."""
    net = ranges.parse_subnet(row.gateway, row.netmask)
    addressing.address_range(net, row.start_ip, row.end_ip)
    first, last = IPv4Address(row.start_ip), IPv4Address(row.end_ip)
    if first <= IPv4Address(row.gateway) <= last:
        raise RuleConflictError(f"the range {first}-{last} contains the gateway {row.gateway}")
    others = select(StorageIpRange).where(StorageIpRange.zone_id == row.zone_id, StorageIpRange.id != row.id)
    ranges.check_beside(row, session.scalars(others), ranges.LAYOUT)
    for public in session.scalars(select(VlanIpRange).where(VlanIpRange.zone_id == row.zone_id)):
        if ranges.parse_subnet(public.gateway, public.netmask).overlaps(net):
            raise RuleConflictError(f"the subnet {net} overlaps that of {public.start_ip}-{public.end_ip} of the zone")
    if machines.CONTROL_NETWORK.overlaps(net):
        raise RuleConflictError(f"the subnet {net} overlaps {machines.CONTROL_NETWORK}, which system VMs use already")
    for held in session.scalars(select(StorageAddress).where(StorageAddress.storage_ip_range_id == row.id)):
        if not first <= IPv4Address(held.address) <= last:
            appliance = session.get_one(Appliance, held.appliance_id)
            raise InUseError(f"{held.address} is in use by {appliance.name}; the range must include it")


def of_appliance(session: Session, appliance_id: str) -> tuple[StorageAddress, StorageIpRange] | None:
    """An SSVM's address and its range, if it has one."""
    statement = select(StorageAddress).where(StorageAddress.appliance_id == appliance_id)
    held = session.scalars(statement).one_or_none()
    return (held, session.get_one(StorageIpRange, held.storage_ip_range_id)) if held is not None else None


def take_address(session: Session, appliance: Appliance) -> None:
    """Give an SSVM the lowest free address of its zone's ranges, unless it has one.

    Without any range it goes without, and reaches image stores by the control network. Raises CapacityError when there
    are ranges and none has a free address.
    """
    if of_appliance(session, appliance.id) is not None:
        return
    statement = select(StorageIpRange).where(StorageIpRange.zone_id == appliance.zone_id)
    there = list(session.scalars(statement.order_by(StorageIpRange.created, StorageIpRange.id).with_for_update()))
    for row in there:
        held = select(StorageAddress.address).where(StorageAddress.storage_ip_range_id == row.id)
        taken = {int(IPv4Address(address)) for address in session.scalars(held)}
        free = addressing.free_addresses(int(IPv4Address(row.start_ip)), int(IPv4Address(row.end_ip)), taken)
        for address in free:
            session.add(StorageAddress(storage_ip_range_id=row.id, address=address, appliance_id=appliance.id))
            session.flush()
            return
    if there:
        raise CapacityError(
            f"the storage network has no free address for {appliance.name}; add a range (createStorageNetworkIpRange)"
        )


def add_nic(session: Session, appliance: Appliance) -> None:
    """Give an SSVM a NIC on the segment that it has an address of, unless it has one."""
    found = of_appliance(session, appliance.id)
    if found is None:
        return
    name = storage_segment(found[1].physical_network_id, found[1].vlan)
    if name not in {nic["segment"] for nic in appliance.nics}:
        control = IPv4Address(appliance.control_address)
        made = machines.nic(f"eth{len(appliance.nics)}", control, ROLE, name, found[1].id)
        appliance.nics = [*appliance.nics, made]
        session.flush()


def release(session: Session, appliance_id: str) -> None:
    """An SSVM is gone."""
    session.execute(delete(StorageAddress).where(StorageAddress.appliance_id == appliance_id))


def delete_range(session: Session, row: StorageIpRange) -> None:
    """Take a range away; SSVMs with an address of it have none until ``take_address``."""
    session.execute(delete(StorageAddress).where(StorageAddress.storage_ip_range_id == row.id))
    session.delete(row)
    session.flush()
