"""Leases and names of guests."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

from controlplane.convergence.compile.encoding import dump, extend
from controlplane.convergence.compile.served import Served
from router.services.dhcp.model import Dhcp, DhcpHost, DhcpNetwork


def section(served: Served) -> bytes | None:
    """The document's ``dhcp``; None when no network has the service."""
    names = served.offering("Dhcp", "Dns")
    if not names:
        return None
    dhcp = Dhcp(
        networks=tuple(
            DhcpNetwork(
                interface=names[network.id],
                subnet=IPv4Network(network.cidr),
                gateway=IPv4Address(network.gateway),
                domain=network.domain,
                mtu=network.mtu,
            )
            for network in served.networks
            if network.id in names
        ),
        resolvers=tuple(IPv4Address(address) for address in served.intent.resolvers),
    )
    rows = (
        (guest.nic_id, names[guest.network_id], guest.mac, guest.address, guest.name, guest.default)
        for guest in served.intent.guests
        if guest.network_id in names
    )
    return extend(dump(dhcp, "hosts"), hosts=served.memo.join("dhcp.hosts", rows, _host))


def _host(row: tuple[str, str, str, str, str, bool]) -> DhcpHost:
    id, interface, mac, address, name, default = row
    return DhcpHost(id=id, interface=interface, mac=mac, address=IPv4Address(address), name=name, default=default)
