"""Giving out addresses and MACs. A unique constraint guards each, so none is ever given twice.

The rows that an allocation depends on are locked first, which serialises allocations of one network or range on
databases with row locks (SQLite has one writer anyhow); a conflict that happens all the same costs one more try.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from ipaddress import IPv4Address

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from controlplane.errors import CapacityError, InUseError, ParameterError
from controlplane.network import addressing, guestranges
from controlplane.store.models import Account, Network, Nic, PublicIp, VlanIpRange, Zone

_MAC_TRIES = 100


def new_mac(session: Session) -> str:
    """A MAC that no NIC has. Locally administered (IEEE 802: second bit of the first octet set), 02:..."""
    for _ in range(_MAC_TRIES):
        number = secrets.randbits(40)
        mac = ":".join(["02", *(f"{number >> shift & 255:02x}" for shift in (32, 24, 16, 8, 0))])
        if session.execute(select(Nic.id).where(Nic.mac == mac)).first() is None:
            return mac
    raise CapacityError("no free MAC address was found")


def guest_address_free(session: Session, network: Network, address: IPv4Address) -> None:
    """Raises ParameterError when no guest of the network may have the address, InUseError when one has it."""
    if guestranges.is_shared(network):
        if not any(first <= int(address) <= last for first, last in guestranges.spans(session, network)):
            raise ParameterError(f"ipaddress: {address} is in no address range of network {network.name}")
    else:
        first, last = addressing.host_bounds(network.cidr, None, None)
        if not first <= int(address) <= last:
            raise ParameterError(
                f"ipaddress: {address} is not a host address of network {network.name} ({network.cidr})"
            )
        if str(address) == network.gateway:
            raise ParameterError(f"ipaddress: {address} is the gateway of network {network.name}")
    if int(address) in guestranges.taken(session, network):
        raise InUseError(f"ipaddress: {address} is in use in network {network.name}")


def add_nic(
    session: Session,
    *,
    vm_id: str,
    network: Network,
    device_id: int,
    is_default: bool,
    address: IPv4Address | None = None,
    mac: str | None = None,
) -> Nic:
    """A NIC with an address of the network: ``address``, or the lowest free one.

    Raises ParameterError or InUseError for an address that cannot be had, CapacityError when none is free.
    """
    session.refresh(network, with_for_update=True)
    if address is not None:
        guest_address_free(session, network, address)
    if mac is not None and session.execute(select(Nic.id).where(Nic.mac == mac)).first():
        raise InUseError(f"macaddress: {mac} is in use")
    wanted: Iterator[str] = iter([str(address)]) if address is not None else free_guest_addresses(session, network)
    for candidate in wanted:
        nic = Nic(
            vm_id=vm_id,
            network_id=network.id,
            device_id=device_id,
            mac=mac or new_mac(session),
            address=candidate,
            is_default=is_default,
        )
        if _inserted(session, nic):
            return nic
    if address is not None:
        raise InUseError(f"ipaddress: {address} is in use in network {network.name}")
    raise CapacityError(
        f"network {network.name} ({network.cidr or 'no range'}) has no free address; destroy and expunge a guest"
    )


def free_guest_addresses(session: Session, network: Network) -> Iterator[str]:
    """Addresses that a guest of the network can get, lowest first within each range."""
    taken = guestranges.taken(session, network)
    for first, last in guestranges.spans(session, network):
        yield from addressing.free_addresses(first, last, taken)


def ranges_for(session: Session, zone_id: str, account_id: str | None) -> list[VlanIpRange]:
    """The public ranges of a zone that an account may take addresses from, those dedicated to it first.

    ``account_id`` None: every range that is not dedicated.
    """
    statement = (
        select(VlanIpRange)
        .where(VlanIpRange.zone_id == zone_id, VlanIpRange.network_id.is_(None))
        .order_by(VlanIpRange.created, VlanIpRange.id)
    )
    ranges = session.execute(statement).scalars().all()
    own = [row for row in ranges if account_id is not None and row.account_id == account_id]
    return own + [row for row in ranges if row.account_id is None]


def take_public_address(
    session: Session,
    *,
    zone: Zone,
    account: Account,
    network: Network | None = None,
    appliance_id: str | None = None,
    wanted: IPv4Address | None = None,
    is_source_nat: bool = False,
) -> PublicIp:
    """A public address for a network or a system VM: ``wanted``, or the first free one of the zone.

    Raises ParameterError when ``wanted`` is in no range the account may use, InUseError when it is taken,
    CapacityError when none is free.
    """
    ranges = ranges_for(session, zone.id, account.id)
    session.execute(select(VlanIpRange.id).where(VlanIpRange.zone_id == zone.id).with_for_update())
    for row in ranges:
        first, last = addressing.range_bounds(row.start_ip, row.end_ip)
        if wanted is not None and not first <= int(wanted) <= last:
            continue
        taken = taken_public_addresses(session, row)
        numbers = (first, last) if wanted is None else (int(wanted), int(wanted))
        for candidate in addressing.free_addresses(*numbers, taken):
            address = PublicIp(
                address=candidate,
                vlan_ip_range_id=row.id,
                zone_id=zone.id,
                account_id=account.id,
                network_id=network.id if network is not None else None,
                appliance_id=appliance_id,
                is_source_nat=is_source_nat,
                is_system=appliance_id is not None,
            )
            if _inserted(session, address):
                return address
        if wanted is not None:
            raise InUseError(f"ipaddress: {wanted} is in use")
    if wanted is not None:
        raise ParameterError(f"ipaddress: {wanted} is in no public range of zone {zone.name} that the account may use")
    raise CapacityError(f"zone {zone.name} has no free public address; an administrator can add a range")


def taken_public_addresses(session: Session, row: VlanIpRange) -> set[int]:
    """The allocated addresses of a range, as integers; its gateway counts as taken."""
    taken = {
        int(IPv4Address(address))
        for address in session.execute(select(PublicIp.address).where(PublicIp.vlan_ip_range_id == row.id)).scalars()
    }
    return taken | {int(IPv4Address(row.gateway))}


def _inserted(session: Session, row: Nic | PublicIp) -> bool:
    """Insert a row; False when a unique constraint says that somebody was faster."""
    try:
        with session.begin_nested():
            session.add(row)
            session.flush()
    except IntegrityError:
        return False
    return True
