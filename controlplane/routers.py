"""The rows of virtual routers, and what the hypervisor is asked to run for them."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from appliance.schema.envelope import ControlInterface, Identity
from controlplane.convergence.intent.load import RELEASING
from controlplane.convergence.intent.rows import CONTROL_PREFIX, public_segment
from controlplane.convergence.push import Agent
from controlplane.errors import CapacityError
from controlplane.hypervisors.base import ApplianceSpec, Hypervisor, Nic, Segment
from controlplane.pki import Authority
from controlplane.store.models import Appliance, Network, PublicIp, ServiceOffering, VlanIpRange

CONTROL_SEGMENT = "control"
CONTROL_NETWORK = IPv4Network("169.254.0.0/16")
#: the control plane's own address is the first; its /24 is left to it
_FIRST_CONTROL = int(CONTROL_NETWORK.network_address) + 257
#: 169.254.169.254 is for metadata and must never be an appliance
_RESERVED = frozenset({int(IPv4Address("169.254.169.254"))})
AGENT_PORT = 9443

DEFAULT_CPUS, DEFAULT_MEMORY_MB = 1, 256


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
    control = _control_address(session)
    router = Appliance(
        role="router",
        name=f"r-{_number(session)}-VM",
        zone_id=network.zone_id,
        account_id=network.account_id,
        network_id=network.id,
        service_offering_id=network.offering.service_offering_id,
        control_address=str(control),
        nics=[
            _nic("eth0", control, "guest", guest_segment(network.id), network.id),
            _nic("eth1", control, "control", CONTROL_SEGMENT),
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
            nics.append(_nic(f"eth{len(nics)}", control, "public", segment, range_id))
            added.append(Nic(mac=nics[-1]["mac"], segment=segment))
    if added:
        router.nics = nics
        session.flush()
    return added


def _nic(name: str, control: IPv4Address, role: str, segment: str, network: str = "") -> dict[str, Any]:
    # Locally administered, and unique because the control address is: 0e:<index>:<control address>. Guests have 02:...
    mac = ":".join(f"{octet:02x}" for octet in (0x0E, int(name.removeprefix("eth")), *control.packed))
    return {"name": name, "mac": mac, "role": role, "segment": segment, "network": network}


def _control_address(session: Session) -> IPv4Address:
    # rows of routers that are gone have given their address back, see ``remove``
    taken = {int(IPv4Address(text)) for text in session.scalars(select(Appliance.control_address)) if text[0].isdigit()}
    for number in range(_FIRST_CONTROL, int(CONTROL_NETWORK.broadcast_address)):
        if number not in taken and number not in _RESERVED:
            return IPv4Address(number)
    raise CapacityError(f"no control address is free in {CONTROL_NETWORK}; destroy appliances that are not needed")


def _number(session: Session) -> int:
    # rows are never deleted, so the count only grows
    return session.execute(select(func.count()).select_from(Appliance)).scalar_one() + 1


def agent_of(router: Appliance) -> Agent:
    """Where the router's agent listens."""
    return Agent(router.id, router.control_address, AGENT_PORT)


@dataclass(frozen=True)
class Machine:
    """What a router needs to run, read in one transaction and used outside of it."""

    id: str
    name: str
    control_address: str
    nics: tuple[dict[str, Any], ...]
    mtu: int | None
    cpus: int
    memory_mb: int


def machine(session: Session, router: Appliance) -> Machine:
    """Read what ``start`` needs."""
    offering = session.get(ServiceOffering, router.service_offering_id) if router.service_offering_id else None
    network = session.get(Network, router.network_id) if router.network_id else None
    return Machine(
        id=router.id,
        name=router.name,
        control_address=router.control_address,
        nics=tuple(router.nics),
        mtu=network.mtu if network else None,
        cpus=offering.cpu_number if offering else DEFAULT_CPUS,
        memory_mb=offering.memory if offering else DEFAULT_MEMORY_MB,
    )


def start(hypervisor: Hypervisor, authority: Authority, machine: Machine) -> None:
    """Run a router with a new certificate; nothing happens when it runs already. Raises HypervisorError."""
    for nic in machine.nics:
        hypervisor.ensure_segment(segment_of(nic, machine.mtu))
    hypervisor.start_appliance(
        ApplianceSpec(
            id=machine.id,
            hostname=machine.name,
            nics=tuple(Nic(mac=nic["mac"], segment=nic["segment"]) for nic in machine.nics),
            identity=_identity(authority, machine),
            cpus=machine.cpus,
            memory_mb=machine.memory_mb,
        )
    )


def segment_of(nic: dict[str, Any], mtu: int | None) -> Segment:
    return Segment(nic["segment"], mtu) if nic["role"] == "guest" and mtu else Segment(nic["segment"])


def _identity(authority: Authority, machine: Machine) -> dict[str, bytes]:
    control = next(nic for nic in machine.nics if nic["role"] == "control")
    identity = Identity(
        id=machine.id,
        role="router",
        control=ControlInterface(
            mac=control["mac"], name=control["name"], address=f"{machine.control_address}/{CONTROL_PREFIX}"
        ),
        port=AGENT_PORT,
    )
    credentials = authority.issue(machine.id, "router")
    return {
        "identity.json": identity.model_dump_json().encode(),
        "ca.pem": authority.certificate,
        "cert.pem": credentials.certificate,
        "key.pem": credentials.key,
    }
