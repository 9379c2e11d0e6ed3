"""Secondary addresses of NICs: taken from the NIC's network, configured by the guest itself (guide: chapter 15)."""

from __future__ import annotations

from ipaddress import IPv4Address

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from controlplane.errors import CapacityError, InUseError, LimitError
from controlplane.network import allocation
from controlplane.store.models import LoadBalancerMember, Nic, NicSecondaryIp, PortForwardingRule, PublicIp

#: the setting that limits them
MOST = "vm.network.nic.max.secondary.ipaddresses"


def all_of(nic: Nic) -> tuple[str, ...]:
    """The addresses that a NIC may send from: its primary one, then secondary ones."""
    return (nic.address, *(row.address for row in nic.secondary))


def add(session: Session, nic: Nic, wanted: IPv4Address | None, most: int) -> NicSecondaryIp:
    """One more address for a NIC: ``wanted``, or the lowest free one.

    Raises LimitError above ``most``, ParameterError or InUseError for an address that cannot be had, CapacityError
    when none is free.
    """
    session.refresh(nic.network, with_for_update=True)
    used = session.scalar(select(func.count()).where(NicSecondaryIp.nic_id == nic.id)) or 0
    if used >= most:
        raise LimitError(f"Maximum number of secondary addresses of a NIC ({MOST}) is {most}, {used} are in use")
    if wanted is not None:
        allocation.guest_address_free(session, nic.network, wanted)
    address = str(wanted) if wanted is not None else next(allocation.free_guest_addresses(session, nic.network), None)
    if address is None:
        raise CapacityError(f"network {nic.network.name} has no free address")
    row = NicSecondaryIp(nic_id=nic.id, network_id=nic.network_id, address=address)
    session.add(row)
    session.flush()
    session.expire(nic, ["secondary"])
    return row


def remove(session: Session, row: NicSecondaryIp) -> None:
    """Free a secondary address. InUseError while a rule points to it."""
    statements = {
        "static NAT": select(PublicIp.id).where(
            PublicIp.static_nat_nic_id == row.nic_id, PublicIp.static_nat_address == row.address
        ),
        "a port forwarding rule": select(PortForwardingRule.id).where(
            PortForwardingRule.nic_id == row.nic_id, PortForwardingRule.guest_address == row.address
        ),
        "a load balancer rule": select(LoadBalancerMember.id).where(
            LoadBalancerMember.nic_id == row.nic_id, LoadBalancerMember.address == row.address
        ),
    }
    for what, statement in statements.items():
        if session.scalar(statement.limit(1)) is not None:
            raise InUseError(f"{what} points to the address {row.address}; remove that first")
    session.delete(row)
    session.flush()


def move(session: Session, nic: Nic, wanted: IPv4Address | None) -> None:
    """Give a NIC another primary address: ``wanted``, or the lowest free one. Rules that point to the NIC follow."""
    session.refresh(nic.network, with_for_update=True)
    if wanted is not None:
        if str(wanted) == nic.address:
            return
        allocation.guest_address_free(session, nic.network, wanted)
    address = str(wanted) if wanted is not None else next(allocation.free_guest_addresses(session, nic.network), None)
    if address is None:
        raise CapacityError(f"network {nic.network.name} has no free address")
    nic.address = address
    session.flush()
