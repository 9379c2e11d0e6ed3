"""What a router counts, and whose it is."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, summarize_address_range

from controlplane.convergence.compile.encoding import dump
from controlplane.convergence.compile.served import Served
from router.services.accounting.model import Accounting, Subject, VpnSubject


def section(served: Served) -> bytes:
    """The document's ``accounting``: public addresses go by the ids of their rows, guests by those of their NICs.

    VPNs go by the ids of theirs: what is behind a site-to-site connection, the clients' addresses of remote access.
    """
    addresses = sorted(served.addresses.values(), key=lambda public: public.id)
    return dump(
        Accounting(
            addresses=tuple(Subject(id=public.id, address=IPv4Address(public.address)) for public in addresses),
            vpn=tuple(VpnSubject(id=id, networks=networks) for id, networks in _vpns(served)),
        )
    )


def _vpns(served: Served) -> Iterator[tuple[str, tuple[IPv4Network, ...]]]:
    for tunnel in served.intent.tunnels:
        if tunnel.public_ip_id in served.addresses and tunnel.network_id in served.ids:
            yield tunnel.id, tuple(map(IPv4Network, tunnel.cidrs))
    for door in served.intent.doors:
        if door.public_ip_id in served.addresses and door.network_id in served.ids:
            first, last = IPv4Address(door.first), IPv4Address(door.last)
            yield door.id, tuple(summarize_address_range(first, last))
