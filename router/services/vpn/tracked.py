"""Established connections when the VPN changes.

The kernel treats a connection as its first packet was treated. Three kinds must not go on so: those to a network that
is behind a tunnel from now on, whose source was translated for the internet; those of a network that no longer is,
which would leave untranslated; and those by which IKE came to an end of ours that is open no more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network

from appliance.netfilter.conntrack import Conntrack, Entry
from router.services.vpn.model import Vpn

_UDP, _ESP = 17, 50
#: IKE, IKE and ESP in UDP, L2TP
_PORTS = frozenset({500, 4500, 1701})


def cut(before: Vpn | None, after: Vpn | None) -> None:
    """Forget the connections that a change concerns, when the rules are ``after``'s. Raises OSError."""
    then, now = before or Vpn(), after or Vpn()
    moved = then.routed ^ now.routed
    closed = _closed(now) - _closed(then)
    if not moved and not closed:
        return
    with Conntrack() as conntrack:
        for entry in [*_through(conntrack, moved), *_to(conntrack, closed)]:
            conntrack.delete(entry)


def _closed(vpn: Vpn) -> set[IPv4Address]:
    """Ends that not everybody may call."""
    return set(vpn.ends) - set(vpn.open_ends)


def _through(conntrack: Conntrack, moved: Iterable[IPv4Network]) -> Iterator[Entry]:
    spans = [(int(network.network_address), int(network.broadcast_address)) for network in moved]
    for entry in conntrack.entries() if spans else ():
        ends = entry.original.source, entry.original.destination
        if any(low <= end <= high for end in ends for low, high in spans):
            yield entry


def _to(conntrack: Conntrack, addresses: Iterable[IPv4Address]) -> Iterator[Entry]:
    """IKE's, ESP's and L2TP's, whoever began: an answer to charon's goodbye would let its peer in too."""
    for address in sorted(addresses):
        for entry in conntrack.entries(destination=int(address)):
            if _is_vpn(entry.original.protocol, entry.original.destination_port):
                yield entry
        for entry in conntrack.entries(reply_destination=int(address)):
            if _is_vpn(entry.original.protocol, entry.reply.destination_port):
                yield entry


def _is_vpn(protocol: int, port: int) -> bool:
    return protocol == _ESP or (protocol == _UDP and port in _PORTS)
