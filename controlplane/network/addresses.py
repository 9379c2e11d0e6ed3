"""Public addresses of networks: taking, releasing, and the source-NAT address (guide: chapters 15.11, 15.12)."""

from __future__ import annotations

from ipaddress import IPv4Address

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from controlplane.errors import ParameterError
from controlplane.network import allocation, guestranges, services, tags
from controlplane.store.models import FirewallRule, LoadBalancer, Network, PortForwardingRule, PublicIp


def source_nat_address(session: Session, network_id: str) -> PublicIp | None:
    """The address that the guests of a network leave by, if it has been taken."""
    statement = select(PublicIp).where(PublicIp.network_id == network_id, PublicIp.is_source_nat)
    return session.execute(statement).scalar_one_or_none()


def ensure_source_nat(session: Session, network: Network) -> PublicIp | None:
    """The network's source-NAT address, taken now if it has none; None when its offering has no source NAT.

    For the workflow that implements a network. No quota applies: the network cannot work without it. Raises
    CapacityError when the zone has no free public address.
    """
    if not services.offers(network, "SourceNat"):
        return None
    session.refresh(network, with_for_update=True)
    address = source_nat_address(session, network.id)
    if address is None:
        address = allocation.take_public_address(
            session, zone=network.zone, account=network.account, network=network, is_source_nat=True
        )
    return address


def associate(session: Session, network: Network, wanted: IPv4Address | None) -> PublicIp:
    """Take a public address for a network; the first one of a network with source NAT becomes its source-NAT address.

    Raises what ``allocation.take_public_address`` raises, and ParameterError for a network that is going away.
    """
    session.refresh(network, with_for_update=True)
    if network.removed is not None or network.state == "Destroy":
        raise ParameterError(f"network {network.name} is being deleted")
    if guestranges.is_shared(network):
        raise ParameterError(f"network {network.name} is shared: its guests are addressed directly")
    first = services.offers(network, "SourceNat") and source_nat_address(session, network.id) is None
    return allocation.take_public_address(
        session, zone=network.zone, account=network.account, network=network, wanted=wanted, is_source_nat=first
    )


def need_network(address: PublicIp) -> Network:
    """The network of an address that rules may be added to; ParameterError when it cannot have any."""
    if address.network is None:
        raise ParameterError(f"IP address {address.address} is not associated with a network")
    if address.state != "Allocated":
        raise ParameterError(f"IP address {address.address} is {address.state.lower()}")
    if address.network.state == "Destroy":
        raise ParameterError(f"network {address.network.name} of IP address {address.address} is being deleted")
    return address.network


def release(session: Session, address: PublicIp) -> None:
    """Begin to give an address back: its rules and static NAT go with it; ``finish_release`` ends it.

    Raises ParameterError for a source-NAT address, which a network keeps as long as it lives, and for a system VM's.
    """
    if address.appliance_id is not None:
        raise ParameterError(f"IP address {address.address} is a system VM's; destroy that to free it")
    if address.is_source_nat:
        raise ParameterError(
            f"IP address {address.address} is used for source NAT and cannot be released; delete the network instead"
        )
    revoke_rules(session, address)
    address.static_nat_nic_id = address.static_nat_address = None
    address.state = "Releasing"
    session.flush()


def revoke_rules(session: Session, address: PublicIp) -> None:
    """Take all of an address's rules out of the desired state; ``remove_revoked`` deletes the rows afterwards."""
    for model in (PortForwardingRule, LoadBalancer, FirewallRule):
        session.execute(update(model).where(model.public_ip_id == address.id).values(state="Revoke"))


def remove_revoked(session: Session, address_id: str) -> None:
    """Delete an address's rules that were revoked and that the router no longer has."""
    for model in (FirewallRule, PortForwardingRule, LoadBalancer):
        revoked = (model.public_ip_id == address_id) & (model.state == "Revoke")
        tags.forget(session, model.__name__, select(model.id).where(revoked))
        session.execute(delete(model).where(revoked))


def finish_release(session: Session, address_id: str) -> None:
    """Free an address that is being released. Doing so twice, or to one that is not, does nothing."""
    address = session.get(PublicIp, address_id)
    if address is None or address.state != "Releasing":
        return
    remove_revoked(session, address_id)
    session.delete(address)
    session.flush()
