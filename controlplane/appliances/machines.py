"""The machine of an appliance: its NICs and control address in the tables, and what the hypervisor is asked to run."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from appliance.schema.envelope import ControlInterface, Identity, Role
from controlplane.compute import hosts
from controlplane.configuration import Configuration
from controlplane.convergence.intent.rows import CONTROL_PREFIX
from controlplane.convergence.push import Agent
from controlplane.errors import CapacityError
from controlplane.hypervisors.base import ApplianceSpec, Hypervisor, Nic, Segment
from controlplane.imagestores import shares
from controlplane.network import segments
from controlplane.pki import Authority
from controlplane.store.models import Appliance, ServiceOffering

CONTROL_SEGMENT = "control"
CONTROL_NETWORK = IPv4Network("169.254.0.0/16")
#: the control plane's own address is the first; its /24 is left to it
_FIRST_CONTROL = int(CONTROL_NETWORK.network_address) + 257
#: 169.254.169.254 is for metadata and must never be an appliance
_RESERVED = frozenset({int(IPv4Address("169.254.169.254"))})
AGENT_PORT = 9443

DEFAULT_CPUS, DEFAULT_MEMORY_MB = 1, 256


def control_address(session: Session) -> IPv4Address:
    """The lowest free address of the control network. Raises CapacityError when none is."""
    # rows of appliances that are gone have given their address back, see ``workflows.appliances.remove``
    taken = {int(IPv4Address(text)) for text in session.scalars(select(Appliance.control_address)) if text[0].isdigit()}
    for number in range(_FIRST_CONTROL, int(CONTROL_NETWORK.broadcast_address)):
        if number not in taken and number not in _RESERVED:
            return IPv4Address(number)
    raise CapacityError(f"no control address is free in {CONTROL_NETWORK}; destroy appliances that are not needed")


def new_name(session: Session, prefix: str) -> str:
    """A name that no appliance has had, e.g. ``r-7-VM``."""
    # rows are never deleted, so the count only grows
    number = session.execute(select(func.count()).select_from(Appliance)).scalar_one() + 1
    return f"{prefix}-{number}-VM"


def nic(name: str, control: IPv4Address, role: str, segment: str, network: str = "") -> dict[str, Any]:
    """One entry of ``Appliance.nics``; ``name`` is ``eth<index>``, ``control`` the appliance's control address."""
    # Locally administered, and unique because the control address is: 0e:<index>:<control address>. Guests have 02:...
    mac = ":".join(f"{octet:02x}" for octet in (0x0E, int(name.removeprefix("eth")), *control.packed))
    return {"name": name, "mac": mac, "role": role, "segment": segment, "network": network}


def agent_of(appliance: Appliance) -> Agent:
    """Where the appliance's agent listens."""
    return Agent(appliance.id, appliance.control_address, AGENT_PORT)


@dataclass(frozen=True)
class Machine:
    """What an appliance needs to run, read in one transaction and used outside of it."""

    id: str
    role: Role
    name: str
    control_address: str
    nics: tuple[dict[str, Any], ...]
    segments: tuple[Segment, ...]
    cpus: int
    memory_mb: int
    #: url of the host it goes to
    host: str
    shares: tuple[shares.Wanted, ...] = ()


def machine(session: Session, appliance: Appliance) -> Machine:
    """Read what ``start`` needs."""
    offering = session.get(ServiceOffering, appliance.service_offering_id) if appliance.service_offering_id else None
    role: Any = appliance.role
    return Machine(
        id=appliance.id,
        role=role,
        name=appliance.name,
        control_address=appliance.control_address,
        nics=tuple(appliance.nics),
        segments=tuple(segments.of_nic(session, appliance.zone_id, nic) for nic in appliance.nics),
        cpus=offering.cpu_number if offering else DEFAULT_CPUS,
        memory_mb=offering.memory if offering else DEFAULT_MEMORY_MB,
        host=hosts.url_of(session, appliance.host_id),
        shares=shares.of_machine(session, appliance),
    )


def placed(session: Session, configuration: Configuration, appliance: Appliance) -> Machine:
    """The same once it has a host, in a transaction that writes. Raises CapacityError."""
    hosts.place(session, configuration, appliance)
    return machine(session, appliance)


def start(hypervisor: Hypervisor, authority: Authority, machine: Machine) -> None:
    """Run an appliance with a new certificate; nothing happens when it runs already. Raises HypervisorError."""
    for segment in machine.segments:
        hypervisor.ensure_segment(segment)
    hypervisor.start_appliance(
        ApplianceSpec(
            id=machine.id,
            hostname=machine.name,
            nics=tuple(Nic(mac=nic["mac"], segment=nic["segment"]) for nic in machine.nics),
            identity=_identity(authority, machine),
            cpus=machine.cpus,
            memory_mb=machine.memory_mb,
            host=machine.host,
            shares=shares.make(hypervisor, machine.shares),
        )
    )


def _identity(authority: Authority, machine: Machine) -> dict[str, bytes]:
    control = next(nic for nic in machine.nics if nic["role"] == "control")
    identity = Identity(
        id=machine.id,
        role=machine.role,
        control=ControlInterface(
            mac=control["mac"], name=control["name"], address=f"{machine.control_address}/{CONTROL_PREFIX}"
        ),
        port=AGENT_PORT,
    )
    credentials = authority.issue(machine.id, machine.role)
    return {
        "identity.json": identity.model_dump_json().encode(),
        "ca.pem": authority.certificate,
        "cert.pem": credentials.certificate,
        "key.pem": credentials.key,
    }
