"""Leases and names of guests."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

from controlplane.convergence.compile.encoding import dump, extend
from controlplane.convergence.compile.served import Served
from controlplane.convergence.intent.rows import GuestNetwork, Subnet
from router.services.dhcp.model import Dhcp, DhcpHost, DhcpNetwork, DhcpRoute

#: where clients look for metadata that know no other address
METADATA = IPv4Network("169.254.169.254/32")


def section(served: Served) -> bytes | None:
    """The document's ``dhcp``; None when no network has the service."""
    # a shared network without an address range has nothing to serve yet
    ready = {network.id for network in served.networks if network.subnets}
    names = {id: name for id, name in served.offering("Dhcp", "Dns").items() if id in ready}
    if not names:
        return None
    dhcp = Dhcp(
        networks=tuple(
            _network(names[network.id], network, subnet)
            for network in served.networks
            if network.id in names
            for subnet in network.subnets
        ),
        resolvers=tuple(IPv4Address(address) for address in served.intent.resolvers),
    )
    rows = (
        (guest.nic_id, names[guest.network_id], guest.mac, guest.address, guest.name, guest.default)
        for guest in served.intent.guests
        if guest.network_id in names
    )
    return extend(dump(dhcp, "hosts"), hosts=served.memo.join("dhcp.hosts", rows, _host))


def _network(interface: str, network: GuestNetwork, subnet: Subnet) -> DhcpNetwork:
    router = IPv4Address(subnet.router)
    return DhcpNetwork(
        interface=interface,
        subnet=IPv4Network(subnet.cidr),
        gateway=IPv4Address(subnet.gateway),
        server=router if network.shared else None,
        domain=network.domain,
        search=(network.domain,),
        mtu=network.mtu,
        # the gateway of a shared network knows nothing of metadata
        routes=(DhcpRoute(destination=METADATA, gateway=router, default_only=True),)
        if network.shared and "UserData" in network.services
        else (),
    )


def _host(row: tuple[str, str, str, str, str, bool]) -> DhcpHost:
    id, interface, mac, address, name, default = row
    return DhcpHost(id=id, interface=interface, mac=mac, address=IPv4Address(address), name=name, default=default)
