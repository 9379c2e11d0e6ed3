"""Static NAT: one public address, one guest, both directions (guide: chapter 15.13)."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from controlplane.errors import ParameterError, RuleConflictError
from controlplane.network import addresses, services
from controlplane.store.models import LoadBalancer, Nic, PortForwardingRule, PublicIp


def enable(session: Session, address: PublicIp, nic: Nic, secondary: str | None = None) -> bool:
    """Make ``address`` the public one of ``nic``, or of a secondary address of it; False when it is that already.

    Raises ParameterError for a source-NAT address and when the NIC is on another network; RuleConflictError when the
    address has port forwarding rules or another guest, or the guest another static NAT address on this network.
    """
    network = addresses.need_network(address)
    services.need(network, "StaticNat")
    session.refresh(address, with_for_update=True)
    if nic.network_id != network.id:
        raise ParameterError(f"virtualmachineid: the VM is not on network {network.name} of the IP address")
    if address.is_source_nat:
        raise ParameterError(f"IP address {address.address} is used for source NAT; static NAT needs another address")
    if (address.static_nat_nic_id, address.static_nat_address) == (nic.id, secondary):
        return False
    if address.static_nat_nic_id is not None:
        raise RuleConflictError(f"IP address {address.address} is in use by static NAT to another VM; disable it first")
    session.refresh(nic, with_for_update=True)
    same = (PublicIp.static_nat_nic_id == nic.id) & PublicIp.static_nat_address.is_not_distinct_from(secondary)
    other = session.execute(select(PublicIp.address).where(same)).scalar()
    if other is not None:
        raise RuleConflictError(f"the VM has the static NAT address {other} on this network; disable it first")
    forward = (
        select(PortForwardingRule.id)
        .where(PortForwardingRule.public_ip_id == address.id, PortForwardingRule.state != "Revoke")
        .limit(1)
    )
    if session.execute(forward).first() is not None:
        raise RuleConflictError(
            f"IP address {address.address} has port forwarding rules; delete them first or use another address"
        )
    balanced = select(LoadBalancer.id).where(LoadBalancer.public_ip_id == address.id, LoadBalancer.state != "Revoke")
    if session.execute(balanced.limit(1)).first() is not None:
        raise RuleConflictError(
            f"IP address {address.address} has load balancer rules; delete them first or use another address"
        )
    address.static_nat_nic_id, address.static_nat_address = nic.id, secondary
    session.flush()
    return True


def disable(session: Session, address: PublicIp) -> None:
    """End static NAT; the address's firewall rules go with it. ParameterError when it has none."""
    if address.static_nat_nic_id is None:
        raise ParameterError(f"IP address {address.address} has no static NAT")
    address.static_nat_nic_id = address.static_nat_address = None
    addresses.revoke_rules(session, address)
    session.flush()
