"""Segments of guests, of public addresses and of the control network, and the wires that hosts share them over.

A physical network's label for a type of traffic names the interface of every host that carries it (guide: chapter 15,
traffic labels). Without a label the segment is of one host: enough for a zone with one.
"""

from __future__ import annotations

import re
from typing import Any, Literal

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.convergence.intent.rows import public_segment, storage_segment
from controlplane.errors import CapacityError, ParameterError
from controlplane.hypervisors.base import Segment, Wire
from controlplane.store.models import Network, PhysicalNetwork, StorageIpRange
from controlplane.store.models import VlanIpRange as PublicRange

CONTROL = "control"
#: VNI of the control network; guests' begin above it
CONTROL_VNI = 1
#: what a VXLAN leaves of an interface with the usual MTU
_CONTROL_MTU = 1450
_RANGE = re.compile(r"(\d+)(?:-(\d+))?")


def of_guests(session: Session, network: Network) -> Segment:
    """A guest network's segment. A network that has no number on the wire yet is given one. Raises CapacityError."""
    name, mtu = f"guest-{network.id}", network.mtu or 1500
    physical = session.get_one(PhysicalNetwork, network.physical_network_id)
    label = (physical.labels or {}).get("Guest")
    if label is None:
        return Segment(name, mtu)
    if network.offering.guest_ip_type == "Shared":
        wire = Wire(label, "untagged") if network.vni is None else Wire(label, "vlan", network.vni)
        return Segment(name, mtu, wire)
    if network.vni is None:
        network.vni = _free_number(session, physical)
        session.flush()
    return Segment(name, mtu, Wire(label, isolation(physical), network.vni))


def of_public(session: Session, physical_network_id: str, vlan: str) -> Segment:
    """The segment of the public ranges with this vlan (``vlan://untagged`` or ``vlan://<id>``)."""
    return _of_range(session, physical_network_id, vlan, public_segment(physical_network_id, vlan), "Public")


def of_storage(session: Session, physical_network_id: str, vlan: str) -> Segment:
    """The segment of the storage network's ranges with this vlan."""
    return _of_range(session, physical_network_id, vlan, storage_segment(physical_network_id, vlan), "Storage")


def _of_range(session: Session, physical_network_id: str, vlan: str, name: str, traffic: str) -> Segment:
    label = (session.get_one(PhysicalNetwork, physical_network_id).labels or {}).get(traffic)
    if label is None:
        return Segment(name)
    tag = vlan.removeprefix("vlan://")
    return Segment(name, wire=Wire(label, "vlan", int(tag)) if tag.isdigit() else Wire(label, "untagged"))


def of_control(session: Session, zone_id: str) -> Segment:
    """The control network, over the first physical network of the zone that has a label for management."""
    statement = select(PhysicalNetwork).where(PhysicalNetwork.zone_id == zone_id).order_by(PhysicalNetwork.created)
    for physical in session.scalars(statement):
        label = (physical.labels or {}).get("Management")
        if label is not None:
            return Segment(CONTROL, _CONTROL_MTU, Wire(label, "vxlan", CONTROL_VNI))
    return Segment(CONTROL)


def of_nic(session: Session, zone_id: str, nic: dict[str, Any]) -> Segment:
    """The segment of an entry of ``Appliance.nics``."""
    if nic["role"] == "control":
        return of_control(session, zone_id)
    if nic["role"] == "guest":
        return of_guests(session, session.get_one(Network, nic["network"]))
    storage = session.get(StorageIpRange, nic["network"]) if nic["role"] == "management" else None
    if storage is not None:
        return of_storage(session, storage.physical_network_id, storage.vlan)
    for physical_id, vlan in session.execute(
        select(PublicRange.physical_network_id, PublicRange.vlan).where(PublicRange.id == nic["network"])
    ):
        return of_public(session, physical_id, vlan)
    return Segment(nic["segment"])


def isolation(physical: PhysicalNetwork) -> Literal["vlan", "vxlan"]:
    """What keeps the isolated networks of a physical network apart."""
    methods = [method.upper() for method in physical.isolation_methods or []]
    return "vxlan" if "VXLAN" in methods[:1] else "vlan"


def numbers(physical: PhysicalNetwork) -> list[range]:
    """The numbers that isolated networks of a physical network get. Raises ParameterError naming what is no range."""
    most = 16_777_215 if isolation(physical) == "vxlan" else 4094
    found = []
    for part in (physical.vlan or "").split(","):
        if not part.strip():
            continue
        bounds = _RANGE.fullmatch(part.strip())
        first, last = (int(bounds[1]), int(bounds[2] or bounds[1])) if bounds else (0, 0)
        if not 1 <= first <= last <= most:
            raise ParameterError(
                f"vlan: {part.strip()!r} is no range from 1 to {most}, such as 100-199 or 100-149,200-249"
            )
        found.append(range(first, last + 1))
    return found


def _free_number(session: Session, physical: PhysicalNetwork) -> int:
    there = Network.physical_network_id == physical.id, Network.removed.is_(None), Network.vni.is_not(None)
    taken = set(session.scalars(select(Network.vni).where(*there)))
    for part in numbers(physical):
        for number in part:
            if number > CONTROL_VNI and number not in taken:
                return number
    raise CapacityError(
        f"physical network {physical.name} has no {isolation(physical).upper()} number left; give it a wider range "
        "(updatePhysicalNetwork, vlan)"
    )
