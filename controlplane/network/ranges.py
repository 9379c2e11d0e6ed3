"""Public address ranges: what an operator may add, and when one may go."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.errors import InUseError, ParameterError, RuleConflictError
from controlplane.network.addressing import address_range, parse_address
from controlplane.store.models import IpRange, PublicIp, VlanIpRange

UNTAGGED = "vlan://untagged"
#: what ranges of one subnet have in common
LAYOUT = ("vlan", "gateway", "netmask")


def parse_vlan(text: str | None) -> str:
    """``untagged``, ``100``, ``vlan://100`` or nothing, as it is stored: ``vlan://<tag>``. ParameterError otherwise."""
    tag = (text or "untagged").removeprefix("vlan://").lower()
    if tag == "untagged":
        return UNTAGGED
    if not (tag.isascii() and tag.isdigit() and len(tag) <= 4 and 1 <= int(tag) <= 4094):
        raise ParameterError(f"vlan: {text!r} is neither untagged nor a VLAN id from 1 to 4094")
    return f"vlan://{int(tag)}"


def parse_subnet(gateway: str, netmask: str) -> IPv4Network:
    """The subnet of a gateway and a mask. ParameterError when the mask is none or the gateway no host of it."""
    address, mask = parse_address("gateway", gateway), int(parse_address("netmask", netmask))
    prefix = bin(mask).count("1")
    if mask != int(IPv4Network((0, prefix)).netmask) or not 1 <= prefix <= 30:
        raise ParameterError(f"netmask: {netmask!r} is not the mask of a /1 to /30")
    subnet = IPv4Network((int(address), prefix), strict=False)
    if address in (subnet.network_address, subnet.broadcast_address):
        raise ParameterError(f"gateway: {gateway} is the network or broadcast address of {subnet}")
    return subnet


def check_new(session: Session, row: VlanIpRange) -> None:
    """Raise ParameterError or RuleConflictError unless the range fits its subnet and the zone's other ranges."""
    subnet = parse_subnet(row.gateway, row.netmask)
    address_range(subnet, row.start_ip, row.end_ip)
    first, last = IPv4Address(row.start_ip), IPv4Address(row.end_ip)
    if first <= IPv4Address(row.gateway) <= last:
        raise ParameterError(f"the range {first}-{last} contains the gateway {row.gateway}")
    others = select(VlanIpRange).where(VlanIpRange.zone_id == row.zone_id)
    check_beside(row, session.scalars(others), (*LAYOUT, "physical_network_id"))


def check_beside(row: IpRange, others: Iterable[IpRange], alike: Sequence[str]) -> None:
    """Raise RuleConflictError when a range overlaps one of ``others``, or is in its subnet and has another layout.

    ``alike`` are the columns that must be the same then.
    """
    subnet = parse_subnet(row.gateway, row.netmask)
    first, last = IPv4Address(row.start_ip), IPv4Address(row.end_ip)
    for other in others:
        if first <= IPv4Address(other.end_ip) and IPv4Address(other.start_ip) <= last:
            raise RuleConflictError(
                f"the range {first}-{last} overlaps {other.start_ip}-{other.end_ip}, which the zone has already"
            )
        if not parse_subnet(other.gateway, other.netmask).overlaps(subnet):
            continue
        if any(getattr(row, name) != getattr(other, name) for name in alike):
            raise RuleConflictError(
                f"the subnet {subnet} is on {other.vlan} with gateway {other.gateway} and netmask {other.netmask} "
                "already; a range of it must say the same"
            )


def remove(session: Session, row: VlanIpRange) -> None:
    """Delete a range. InUseError while an address of it is given to somebody."""
    used = session.scalar(select(PublicIp.address).where(PublicIp.vlan_ip_range_id == row.id).limit(1))
    if used is not None:
        raise InUseError(f"the range has addresses in use ({used}); release them first")
    session.delete(row)
    session.flush()
