"""VPN: what fits together, and for site-to-site connections their rows (guide: chapter 15.17.4).

A VPN gateway belongs to a VPC in the guide; here an isolated network may have one too.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from controlplane.errors import CapacityError, InUseError, ParameterError, RuleConflictError
from controlplane.network import addresses, addressing, services
from controlplane.network.ports import Ports
from controlplane.store.models import (
    Appliance,
    Network,
    PortForwardingRule,
    PublicIp,
    RemoteAccessVpn,
    VpnConnection,
    VpnCustomerGateway,
    VpnGateway,
)

#: UDP ports of IKE, and of IKE and ESP where a NAT is on the way (RFC 7296, RFC 3948)
PORTS = (500, 4500)
#: and of L2TP inside of it (RFC 3193)
REMOTE_ACCESS_PORTS = (500, 1701, 4500)
#: state of what is not part of the desired state any more
REMOVED = "Removed"

#: RFC 1918
_PRIVATE = tuple(IPv4Network(cidr) for cidr in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))


def parse_cidrs(gateway: str, values: Iterable[str]) -> list[str]:
    """Networks behind a customer gateway: RFC 1918, none overlapping another. ParameterError otherwise."""
    found: list[IPv4Network] = []
    for value in values:
        network = addressing.parse_cidr("cidrlist", value)
        if not any(network.subnet_of(space) for space in _PRIVATE):
            raise ParameterError(f"cidrlist: {network} is not private (RFC 1918: 10/8, 172.16/12, 192.168/16)")
        overlapped = next((other for other in found if other.overlaps(network)), None)
        if overlapped is not None:
            raise ParameterError(f"cidrlist: {network} overlaps {overlapped}")
        if addressing.parse_address("gateway", gateway) in network:
            raise ParameterError(
                f"cidrlist: the gateway {gateway} is in {network}, and would be reached through itself"
            )
        found.append(network)
    if not found:
        raise ParameterError("cidrlist: at least one network must be behind the gateway")
    return [str(network) for network in found]


def create_gateway(session: Session, network: Network) -> VpnGateway:
    """Give a network its VPN gateway on the source-NAT address, which is taken now if need be."""
    services.need(network, "Vpn")
    if network.removed is not None or network.state == "Destroy":
        raise ParameterError(f"network {network.name} is being deleted")
    session.refresh(network, with_for_update=True)
    if session.scalar(select(VpnGateway.id).where(VpnGateway.network_id == network.id)) is not None:
        raise RuleConflictError(f"network {network.name} has a VPN gateway already")
    address = addresses.ensure_source_nat(session, network)
    if address is None:
        raise CapacityError(f"network {network.name} has no public address")
    need_free_ports(session, address, PORTS)
    gateway = VpnGateway(account_id=network.account_id, network_id=network.id, public_ip_id=address.id)
    session.add(gateway)
    session.flush()
    return gateway


def need_free_ports(session: Session, address: PublicIp, ports: Iterable[int]) -> None:
    """RuleConflictError when a port forwarding rule has one of these UDP ports of an address.

    Nothing else can: load balancer rules are of TCP, and there is no static NAT of a source-NAT address.
    """
    for port in ports:
        forward = session.scalar(
            select(PortForwardingRule.id).where(
                PortForwardingRule.public_ip_id == address.id,
                PortForwardingRule.protocol == "udp",
                PortForwardingRule.public_port <= port,
                PortForwardingRule.public_end_port >= port,
                PortForwardingRule.state != "Revoke",
            )
        )
        if forward is not None:
            raise RuleConflictError(
                f"UDP port {port} of {address.address} is in use by port forwarding rule {forward}; delete that first"
            )


def check_ports(session: Session, address: PublicIp, protocol: str, ports: Ports) -> None:
    """RuleConflictError when a VPN needs one of the ports of an address."""
    if protocol != "udp":
        return
    holders: tuple[tuple[type[VpnGateway] | type[RemoteAccessVpn], tuple[int, ...], str], ...] = (
        (VpnGateway, PORTS, "VPN gateway"),
        (RemoteAccessVpn, REMOTE_ACCESS_PORTS, "remote access VPN"),
    )
    for model, needed, name in holders:
        taken = [port for port in needed if ports.first <= port <= ports.last]
        holder = session.scalar(select(model.id).where(model.public_ip_id == address.id)) if taken else None
        if holder is not None:
            raise RuleConflictError(f"UDP port {taken[0]} of {address.address} is in use by {name} {holder}")


def connect(
    session: Session, gateway: VpnGateway, customer: VpnCustomerGateway, *, passive: bool = False
) -> VpnConnection:
    """A connection in state Pending. RuleConflictError for networks that overlap and a far end that has one."""
    if gateway.account_id != customer.account_id:
        raise ParameterError("s2scustomergatewayid: it belongs to another account than the VPN gateway")
    held = connection_of(session, customer)
    if held is not None:
        raise RuleConflictError(
            f"VPN customer gateway {customer.name} is connected by VPN connection {held.id} already"
        )
    check_fit(session, gateway, customer.gateway, customer.cidrs)
    connection = VpnConnection(
        account_id=gateway.account_id, gateway_id=gateway.id, customer_gateway_id=customer.id, passive=passive
    )
    session.add(connection)
    session.flush()
    return connection


def check_fit(session: Session, gateway: VpnGateway, peer: str, cidrs: list[str], but: str = "") -> None:
    """RuleConflictError when a far end does not fit beside the network and its other connections (``but`` one)."""
    wanted = [IPv4Network(cidr) for cidr in cidrs]
    own = IPv4Network(gateway.network.cidr) if gateway.network is not None else None
    for network in wanted:
        if own is not None and network.overlaps(own):
            raise RuleConflictError(
                f"cidrlist: {network} overlaps {own} of the network; the two could not be told apart"
            )
    door = session.scalar(select(RemoteAccessVpn).where(RemoteAccessVpn.network_id == gateway.network_id))
    for network in wanted:
        if door is not None and overlaps(network, door.first, door.last):
            raise RuleConflictError(
                f"cidrlist: {network} overlaps {door.first}-{door.last} of remote access VPN {door.id}"
            )
    others = select(VpnConnection).where(VpnConnection.gateway_id == gateway.id, VpnConnection.id != but)
    for other in session.scalars(others):
        far = other.customer_gateway
        if far.gateway == peer:
            raise RuleConflictError(f"gateway: VPN connection {other.id} goes to {peer} already")
        for network in wanted:
            clash = next((cidr for cidr in far.cidrs if IPv4Network(cidr).overlaps(network)), None)
            if clash is not None:
                raise RuleConflictError(f"cidrlist: {network} overlaps {clash} of VPN connection {other.id}")


def overlaps(network: IPv4Network, first: str, last: str) -> bool:
    """Whether a network has one of the addresses from ``first`` to ``last``."""
    return network.network_address <= IPv4Address(last) and IPv4Address(first) <= network.broadcast_address


def connection_of(session: Session, customer: VpnCustomerGateway) -> VpnConnection | None:
    """The connection of a customer gateway, if it has one."""
    return session.scalars(select(VpnConnection).where(VpnConnection.customer_gateway_id == customer.id)).one_or_none()


def need_unused(session: Session, gateway: VpnGateway) -> None:
    """InUseError while a VPN gateway has a connection."""
    held = session.scalar(select(VpnConnection.id).where(VpnConnection.gateway_id == gateway.id).limit(1))
    if held is not None:
        raise InUseError(f"VPN gateway {gateway.id} is in use by VPN connection {held}; delete that first")


def begin(session: Session, connection: VpnConnection) -> None:
    """A connection starts over: what its router said of it until now counts no more."""
    connection.state, connection.detail = "Pending", ""
    router = update(Appliance).where(Appliance.network_id == connection.gateway.network_id)
    session.execute(router.values(tunnels=None))
    session.flush()


def remove(session: Session, connection_id: str) -> None:
    """Delete a connection that was removed. Doing so twice does nothing."""
    connection = session.get(VpnConnection, connection_id)
    if connection is not None and connection.state == REMOVED:
        session.delete(connection)
        session.flush()


def forget_network(session: Session, network_id: str) -> None:
    """Delete what a network that is gone had of VPNs; the customer gateways and the VPN users stay."""
    gateways = select(VpnGateway.id).where(VpnGateway.network_id == network_id)
    session.execute(delete(VpnConnection).where(VpnConnection.gateway_id.in_(gateways)))
    session.execute(delete(VpnGateway).where(VpnGateway.network_id == network_id))
    session.execute(delete(RemoteAccessVpn).where(RemoteAccessVpn.network_id == network_id))
