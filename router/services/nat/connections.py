"""Established connections when address translation changes.

The kernel translates a connection the way its first packet was. So when a port forward, a static NAT or a source NAT
goes or is pointed elsewhere, exactly the connections that were translated by it are forgotten: their next packet is
judged as a new connection's. Others, and translations that were only added, disturb no connection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import IPv4Address

from appliance.netfilter.conntrack import Conntrack, Entry
from router.document import RouterState
from router.memo import missing
from router.services.nat.model import Nat, PortForward, SourceNat, StaticNat

_NUMBERS = {"tcp": 6, "udp": 17}

#: says whether a connection is one that the old translation made and the new one would not
Judge = Callable[[Entry], bool]


def cut(before: RouterState, after: RouterState) -> None:
    """Forget the connections of translations that ``after`` does not have any more. Raises OSError."""
    inward = {int(address): judge for address, judge in _inward(before.nat or Nat(), after.nat or Nat())}
    outward = {int(address): judge for address, judge in _outward(before, after)}
    if not inward and not outward:
        return
    with Conntrack() as conntrack:
        doomed = [
            entry
            for address, judge in inward.items()
            for entry in conntrack.entries(destination=address)
            if judge(entry)
        ]
        doomed += [
            entry
            for address, judge in outward.items()
            for entry in conntrack.entries(reply_destination=address)
            if judge(entry)
        ]
        for entry in doomed:
            conntrack.delete(entry)


def _inward(before: Nat, after: Nat) -> Iterator[tuple[IPv4Address, Judge]]:
    """For each public address whose destination NAT lost something."""
    static_now = {one.address: one.guest for one in after.static}
    lost = {forward.address for forward in missing(before.forwards, after.forwards)}
    lost |= {one.address for one in before.static if static_now.get(one.address) != one.guest}
    for address in sorted(lost):
        forwards = [forward for forward in after.forwards if forward.address == address]
        static = static_now.get(address)

        def judge(entry: Entry, forwards: list[PortForward] = forwards, static: IPv4Address | None = static) -> bool:
            now = (entry.reply.source, entry.reply.source_port)
            if now == (entry.original.destination, entry.original.destination_port):
                return False  # never translated: the router's own
            return now != _target(entry, forwards, static)

        yield address, judge


def _target(entry: Entry, forwards: list[PortForward], static: IPv4Address | None) -> tuple[int, int] | None:
    """Where the first packet of ``entry`` would go now."""
    port = entry.original.destination_port
    for forward in forwards:
        if _NUMBERS[forward.protocol] == entry.original.protocol and forward.ports.first <= port <= forward.ports.last:
            return int(forward.guest), port - forward.ports.first + forward.guest_ports.first
    return None if static is None else (int(static), port)


def _outward(before: RouterState, after: RouterState) -> Iterator[tuple[IPv4Address, Judge]]:
    """For each public address that lost a guest or a network whose connections left by it."""
    old, new = before.nat or Nat(), after.nat or Nat()
    kept: set[SourceNat | StaticNat] = {*new.source, *new.static}
    subnets = {nic.name: nic.subnets for nic in after.interfaces.of_role("guest")}
    before_nat: list[SourceNat | StaticNat] = [*old.source, *old.static]
    for address in sorted({one.address for one in before_nat if one not in kept}):
        guests = {int(one.guest) for one in new.static if one.address == address}
        networks = [
            (int(subnet.network_address), int(subnet.broadcast_address))
            for one in new.source
            if one.address == address
            for subnet in subnets.get(one.interface, ())
        ]

        def judge(entry: Entry, guests: set[int] = guests, networks: list[tuple[int, int]] = networks) -> bool:
            source = entry.original.source
            if source == entry.reply.destination:
                return False  # never translated: the router's own
            return source not in guests and not any(low <= source <= high for low, high in networks)

        yield address, judge
