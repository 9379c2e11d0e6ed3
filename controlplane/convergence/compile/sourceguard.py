"""Which MAC may send from which address on shared networks."""

from __future__ import annotations

from ipaddress import IPv4Address

from controlplane.convergence.compile.encoding import dump, extend
from controlplane.convergence.compile.served import Served
from router.services.sourceguard.model import Source, SourceGuard


def section(served: Served) -> bytes | None:
    """The document's ``sourceguard``; None when the router serves no shared network."""
    intent = served.intent
    names = {network.id: served.names[network.id] for network in served.networks if network.shared}
    if not names:
        return None
    rows = [
        *((guest.nic_id, guest.mac, guest.address) for guest in intent.guests if guest.network_id in names),
        *((one.id, one.mac, one.address) for one in intent.secondary if one.network_id in names),
    ]
    guard = SourceGuard(interfaces=tuple(names.values()))
    return extend(dump(guard, "sources"), sources=served.memo.join("sourceguard.sources", rows, _source))


def _source(row: tuple[str, str, str]) -> Source:
    id, mac, address = row
    return Source(id=id, mac=mac, address=IPv4Address(address))
