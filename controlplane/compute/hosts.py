"""Hosts: what they have and what of it is promised, and which one a new instance goes to (guide: chapters 11, 17)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from appliance.errors import GatehouseError
from controlplane.configuration import Configuration
from controlplane.errors import CapacityError
from controlplane.hypervisors.base import HostFacts
from controlplane.store.models import Appliance, Cluster, Host, Pod, ServiceOffering, Vm, Zone

#: of ``Host.resource_state``: on its way into maintenance, there, and not emptied
PREPARING, MAINTENANCE, FAILED = "PrepareForMaintenance", "Maintenance", "ErrorInMaintenance"
#: states in which an instance has its memory and processors
OCCUPYING = ("Starting", "Running", "Stopping")
#: of an appliance without an offering: the size of machines.DEFAULT_MEMORY_MB
_PLAIN = (500, 256)

CPU_FACTOR, MEMORY_FACTOR = "cpu.overprovisioning.factor", "mem.overprovisioning.factor"


@dataclass(frozen=True)
class Amount:
    """Processor time in MHz (processors times their speed) and memory in bytes."""

    mhz: int
    memory: int

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.mhz + other.mhz, self.memory + other.memory)


def size_of(offering: ServiceOffering | None) -> Amount:
    """What an instance of this offering is promised."""
    if offering is None:
        return Amount(_PLAIN[0], _PLAIN[1] << 20)
    return Amount(offering.cpu_number * offering.cpu_speed, offering.memory << 20)


def total(session: Session, configuration: Configuration, host: Host) -> Amount:
    """What may be promised of a host: what it has times the zone's overprovisioning factors."""
    zone = host.cluster.pod.zone_id
    cpu = float(configuration.get(session, CPU_FACTOR, zone=zone))
    memory = float(configuration.get(session, MEMORY_FACTOR, zone=zone))
    return Amount(int(host.cpus * host.cpu_mhz * cpu), int(host.memory_bytes * memory))


def promised(session: Session, host_ids: Sequence[str]) -> dict[str, Amount]:
    """What guests and appliances on these hosts have been promised."""
    amounts = {host_id: Amount(0, 0) for host_id in host_ids}
    guests = (
        select(Vm.host_id, ServiceOffering)
        .join(ServiceOffering, ServiceOffering.id == Vm.service_offering_id)
        .where(Vm.host_id.in_(host_ids), Vm.state.in_(OCCUPYING), Vm.removed.is_(None))
    )
    appliances = (
        select(Appliance.host_id, ServiceOffering)
        .outerjoin(ServiceOffering, ServiceOffering.id == Appliance.service_offering_id)
        .where(Appliance.host_id.in_(host_ids), Appliance.state.in_(OCCUPYING), Appliance.removed.is_(None))
    )
    for statement in (guests, appliances):
        for host_id, offering in session.execute(statement):
            amounts[str(host_id)] += size_of(offering)
    return amounts


@dataclass(frozen=True)
class Offer:
    """A host for an instance: what is free there, without what the instance itself has, and why it cannot go there."""

    host: Host
    free: Amount
    #: "" when it can
    reason: str


def offers(session: Session, configuration: Configuration, instance: Vm | Appliance) -> list[Offer]:
    """Every host of the instance's zone, the oldest first."""
    statement = (
        select(Host)
        .join(Cluster, Cluster.id == Host.cluster_id)
        .join(Pod, Pod.id == Cluster.pod_id)
        .where(Pod.zone_id == instance.zone_id)
        .order_by(Host.created)
    )
    hosts = list(session.scalars(statement))
    needed = _needed(session, instance)
    taken = promised(session, [host.id for host in hosts])
    found = []
    for host in hosts:
        there = total(session, configuration, host)
        free = Amount(there.mhz - taken[host.id].mhz, there.memory - taken[host.id].memory)
        if instance.host_id == host.id and instance.state in OCCUPYING:
            free += needed
        found.append(Offer(host, free, _closed(host) or _full(host, free, needed)))
    return found


def place(session: Session, configuration: Configuration, instance: Vm | Appliance) -> Host:
    """Give ``instance`` a host in its zone: the one that it was on when that has room, else the emptiest.

    In the transaction that makes it Starting, so that no capacity is promised twice. Hosts that are down or in
    maintenance get nothing. Raises CapacityError.
    """
    there = offers(session, configuration, instance)
    fitting = [offer for offer in there if not offer.reason]
    if not fitting:
        raise CapacityError(_problem(session, instance, any(not _closed(offer.host) for offer in there)))
    own = next((offer for offer in fitting if offer.host.id == instance.host_id), None)
    chosen = (own or max(fitting, key=lambda offer: offer.free.memory)).host
    instance.host_id = chosen.id
    session.flush()
    return chosen


def destination(session: Session, configuration: Configuration, vm: Vm, host_id: str | None = None) -> Host:
    """The host that a running guest can move to: that one, or without one the emptiest. Raises CapacityError."""
    there = [offer for offer in offers(session, configuration, vm) if offer.host.id != vm.host_id]
    if host_id is not None:
        offer = next((offer for offer in there if offer.host.id == host_id), None)
        if offer is None:
            raise CapacityError(f"the host is not in the zone of {vm.name}; findHostsForMigration has those that are")
        if offer.reason:
            raise CapacityError(f"{vm.name} cannot move to host {offer.host.name}, {offer.reason}")
        return offer.host
    fitting = [offer for offer in there if not offer.reason]
    if not fitting:
        reasons = "; ".join(f"host {offer.host.name} {offer.reason.removeprefix('which ')}" for offer in there)
        raise CapacityError(
            f"{vm.name} can move to no other host: {reasons or 'there is none in its zone, see addHost'}"
        )
    return max(fitting, key=lambda offer: offer.free.memory).host


def _needed(session: Session, instance: Vm | Appliance) -> Amount:
    return size_of(session.get(ServiceOffering, instance.service_offering_id) if instance.service_offering_id else None)


def _closed(host: Host) -> str:
    """Why a host takes nothing new, "" when it does."""
    if host.state != "Up":
        return f"which is {host.state.lower()}"
    if host.resource_state != "Enabled":
        return f"which is in state {host.resource_state}"
    if host.cluster.allocation_state != "Enabled" or host.cluster.pod.allocation_state != "Enabled":
        return "whose cluster or pod is disabled"
    return ""


def _full(host: Host, free: Amount, needed: Amount) -> str:
    if not host.reserves or (free.mhz >= needed.mhz and free.memory >= needed.memory):
        return ""
    left = f"{max(free.mhz, 0)} MHz and {max(free.memory, 0) >> 20} MB"
    return f"which has {left} left of the {needed.mhz} MHz and {needed.memory >> 20} MB that it needs"


def _problem(session: Session, instance: Vm | Appliance, any_open: bool) -> str:
    zone = session.get_one(Zone, instance.zone_id).name
    if not any_open:
        return f"zone {zone} has no host that is up and enabled; cancel a maintenance or add a host"
    needed = _needed(session, instance)
    return (
        f"no host of zone {zone} has {needed.mhz} MHz and {needed.memory >> 20} MB left for {instance.name}; stop "
        f"instances, add a host, or raise {CPU_FACTOR} or {MEMORY_FACTOR}"
    )


def url_of(session: Session, host_id: str | None) -> str:
    """The host as the hypervisor knows it, "" for its first."""
    host = session.get(Host, host_id) if host_id else None
    return host.url if host is not None else ""


def note_hosts(session: Session, facts: Sequence[HostFacts]) -> None:
    """Take in what the hypervisor's hosts have now. Raises GatehouseError when it is another kind of hypervisor."""
    kinds = set(session.scalars(select(Cluster.hypervisor)))
    if kinds and facts[0].hypervisor not in kinds:
        raise GatehouseError(
            f"this data directory was made for {', '.join(sorted(kinds))}, not for {facts[0].hypervisor}; use the "
            "hypervisor that it was made for, or another --data directory"
        )
    rows = {host.url: host for host in session.scalars(select(Host))}
    if facts[0].url not in rows:
        # the first host is the one whose name or address the operator has changed
        known = [host for host in rows.values() if host.url not in {item.url for item in facts}]
        if len(known) == 1:
            known[0].url, rows[facts[0].url] = facts[0].url, known[0]
    for item in facts:
        host = rows.get(item.url)
        if host is None:
            continue
        state = "Up" if item.up else "Down"
        if host.state != state:
            host.state = state
        if item.up:
            take_facts(host, item)


def take_facts(host: Host, facts: HostFacts) -> None:
    """Write what has changed of a host."""
    for name in ("cpus", "cpu_mhz", "memory_bytes", "reserves", "cpu_used", "memory_used"):
        if getattr(host, name) != getattr(facts, name):
            setattr(host, name, getattr(facts, name))
