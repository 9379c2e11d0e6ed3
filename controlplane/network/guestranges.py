"""The addresses of guest networks: ranges of shared ones, and the router's own address in each of their subnets."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.errors import CapacityError, InUseError
from controlplane.network import addressing, ranges
from controlplane.store.models import Network, Nic, NicSecondaryIp, RouterAddress, VlanIpRange

SHARED = "Shared"


@dataclass(frozen=True)
class Placement:
    """The gateway and mask that an address of a network goes with."""

    gateway: str
    netmask: str


def is_shared(network: Network) -> bool:
    return network.offering.guest_ip_type == SHARED


def placement(network: Network, address: str) -> Placement:
    """What a guest at ``address`` is told: of the range that holds it, or of the network."""
    number = int(IPv4Address(address))
    for row in network.ranges if is_shared(network) else ():
        if number in span(row):
            return Placement(row.gateway, row.netmask)
    return Placement(network.gateway, str(IPv4Network(network.cidr).netmask))


def span(row: VlanIpRange) -> range:
    """The addresses of a range as integers."""
    first, last = addressing.range_bounds(row.start_ip, row.end_ip)
    return range(first, last + 1)


def subnet(row: VlanIpRange) -> IPv4Network:
    return ranges.parse_subnet(row.gateway, row.netmask)


def taken(session: Session, network: Network) -> set[int]:
    """The addresses of a network that somebody has, as integers: NICs, the router, gateways."""
    rows = [network.gateway] if network.gateway else []
    for model in (Nic, NicSecondaryIp, RouterAddress):
        rows += session.scalars(select(model.address).where(model.network_id == network.id))
    rows += [row.gateway for row in _ranges(session, network)]
    return {int(IPv4Address(address)) for address in rows}


def _ranges(session: Session, network: Network) -> list[VlanIpRange]:
    statement = select(VlanIpRange).where(VlanIpRange.network_id == network.id)
    return list(session.scalars(statement.order_by(VlanIpRange.created, VlanIpRange.id)))


def spans(session: Session, network: Network) -> list[tuple[int, int]]:
    """First and last address of each stretch that guests get addresses from, as integers."""
    if is_shared(network):
        return [addressing.range_bounds(row.start_ip, row.end_ip) for row in _ranges(session, network)]
    return [addressing.host_bounds(network.cidr, network.start_ip, network.end_ip)]


def add_range(session: Session, network: Network, row: VlanIpRange) -> None:
    """Give a network one more range, with an address of it for the router where the subnet is new.

    Raises ParameterError and RuleConflictError for what does not fit, CapacityError when the router gets no address.
    """
    session.refresh(network, with_for_update=True)
    ranges.check_new(session, row)
    session.add(row)
    session.flush()
    describe(session, network)
    settle_router(session, network)


def remove_range(session: Session, network: Network, row: VlanIpRange) -> None:
    """Delete a range. InUseError while a guest has an address of it, or when it is the network's last one."""
    session.refresh(network, with_for_update=True)
    here = span(row)
    for model in (Nic, NicSecondaryIp):
        for address in session.scalars(select(model.address).where(model.network_id == network.id)):
            if int(IPv4Address(address)) in here:
                raise InUseError(f"the range has addresses in use ({address}); expunge their guests first")
    if len(_ranges(session, network)) == 1 and network.removed is None:
        raise InUseError(
            f"the range is the only one of network {network.name}; add another first, or delete the network"
        )
    for own in session.scalars(select(RouterAddress).where(RouterAddress.vlan_ip_range_id == row.id)).all():
        session.delete(own)
    session.flush()
    session.delete(row)
    session.flush()
    describe(session, network)
    settle_router(session, network)


def describe(session: Session, network: Network) -> None:
    """What the network shows as its own is its oldest range."""
    session.expire(network, ["ranges"])
    oldest = next(iter(_ranges(session, network)), None)
    if oldest is not None:
        network.cidr, network.gateway = str(subnet(oldest)), oldest.gateway
        network.start_ip, network.end_ip = oldest.start_ip, oldest.end_ip
        session.flush()


def settle_router(session: Session, network: Network) -> None:
    """See to it that the router has one address in each subnet. It keeps what it has, for guests know it by it."""
    own = session.scalars(select(RouterAddress).where(RouterAddress.network_id == network.id)).all()
    there = {row.id: row for row in _ranges(session, network)}
    have = {subnet(there[row.vlan_ip_range_id]) for row in own}
    for row in there.values():
        if subnet(row) in have:
            continue
        used = taken(session, network)
        same = [other for other in there.values() if subnet(other) == subnet(row)]
        free = ((other, number) for other in same for number in span(other) if number not in used)
        found = next(free, None)
        if found is None:
            raise CapacityError(f"{subnet(row)} has no free address for the router of network {network.name}")
        session.add(
            RouterAddress(network_id=network.id, vlan_ip_range_id=found[0].id, address=str(IPv4Address(found[1])))
        )
        session.flush()
        have.add(subnet(row))


def router_address(session: Session, network: Network) -> str | None:
    """The router's own address, on a shared network that in its oldest subnet; None while it has none."""
    if not is_shared(network):
        return network.gateway
    statement = (
        select(RouterAddress.address)
        .join(VlanIpRange, VlanIpRange.id == RouterAddress.vlan_ip_range_id)
        .where(RouterAddress.network_id == network.id)
        .order_by(VlanIpRange.created, VlanIpRange.id)
    )
    return session.scalars(statement).first()
