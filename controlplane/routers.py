"""The rows of virtual routers."""

from __future__ import annotations

from ipaddress import IPv4Address

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.appliances import machines
from controlplane.convergence.intent.load import RELEASING
from controlplane.convergence.intent.rows import public_segment
from controlplane.hypervisors.base import Nic
from controlplane.store.models import Appliance, Network, PublicIp, VlanIpRange


def guest_segment(network_id: str) -> str:
    """The layer-2 segment of a guest network."""
    return f"guest-{network_id}"


def of_network(session: Session, network_id: str) -> Appliance | None:
    """The router that serves a network, if there is one."""
    statement = (
        select(Appliance)
        .where(Appliance.network_id == network_id, Appliance.role == "router", Appliance.removed.is_(None))
        .order_by(Appliance.created.desc())
    )
    return session.scalars(statement).first()


def create(session: Session, network: Network) -> Appliance:
    """A new router for ``network`` in state Starting; nothing is desired of it until ``desired.desire``.

    NICs: eth0 guest, eth1 control, eth2 the public segment of the source-NAT address, eth3... further public segments.
    Raises CapacityError when no control address is free.
    """
    control = machines.control_address(session)
    router = Appliance(
        role="router",
        name=machines.new_name(session, "r"),
        zone_id=network.zone_id,
        account_id=network.account_id,
        network_id=network.id,
        service_offering_id=network.offering.service_offering_id,
        control_address=str(control),
        nics=[
            machines.nic("eth0", control, "guest", guest_segment(network.id), network.id),
            machines.nic("eth1", control, "control", machines.CONTROL_SEGMENT),
        ],
    )
    session.add(router)
    session.flush()
    add_public_nics(session, router)
    return router


def add_public_nics(session: Session, router: Appliance) -> list[Nic]:
    """Give the router a NIC on each public segment that its network has an address of; returns the new ones."""
    statement = (
        select(VlanIpRange.physical_network_id, VlanIpRange.vlan, VlanIpRange.id)
        .join(PublicIp, PublicIp.vlan_ip_range_id == VlanIpRange.id)
        .where(PublicIp.network_id == router.network_id, PublicIp.state != RELEASING)
        .order_by(PublicIp.is_source_nat.desc(), PublicIp.created)
    )
    nics = list(router.nics)
    known = {nic["segment"] for nic in nics}
    added = []
    for physical_network_id, vlan, range_id in session.execute(statement):
        segment = public_segment(physical_network_id, vlan)
        if segment not in known:
            known.add(segment)
            control = IPv4Address(router.control_address)
            nics.append(machines.nic(f"eth{len(nics)}", control, "public", segment, range_id))
            added.append(Nic(mac=nics[-1]["mac"], segment=segment))
    if added:
        router.nics = nics
        session.flush()
    return added
