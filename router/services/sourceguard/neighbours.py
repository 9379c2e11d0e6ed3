"""The router knows its guests' MACs instead of asking for them: nobody can answer in another's name (rtnetlink(7)).

Without it whoever is on the segment could have the router's replies to a guest, its password among them, by ARP alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from ipaddress import IPv4Address
from typing import Any

from appliance.errors import ApplyError
from appliance.services.interfaces.model import Interfaces
from router.services.sourceguard.model import SourceGuard

#: NUD_PERMANENT of <linux/neighbour.h>
_PERMANENT = 0x80
_IPV4 = 2

#: (interface, address) -> MAC
Neighbours = dict[tuple[str, str], str]


def wanted(guard: SourceGuard | None, interfaces: Interfaces) -> Neighbours:
    """What the kernel must know; a source outside the guarded interfaces' subnets is nobody's neighbour."""
    if guard is None:
        return {}
    spans = [
        (int(subnet.network_address), int(subnet.broadcast_address), nic.name)
        for nic in interfaces.of_role("guest")
        if nic.name in guard.interfaces
        for subnet in nic.subnets
    ]
    found: Neighbours = {}
    for source in guard.sources:
        number = int(source.address)
        name = next((name for low, high, name in spans if low <= number <= high), None)
        if name is not None:
            found[name, str(source.address)] = source.mac
    return found


def apply(before: Neighbours | None, after: Neighbours) -> None:
    """Bring the kernel from ``before`` to ``after``; None looks at what it has. Raises ApplyError."""
    if before == after:
        return
    from appliance.rtnetlink import IPRoute, NetlinkError

    with IPRoute() as netlink:
        indexes = {link.get("IFLA_IFNAME"): link["index"] for link in netlink.get_links()}
        have = _actual(netlink, indexes, after) if before is None else before
        try:
            for change in _changes(netlink, indexes, have, after):
                change()
        except NetlinkError as error:
            raise ApplyError(f"a guest's MAC cannot be made known: {error}") from error


def missing(neighbours: Neighbours) -> list[str]:
    """What the kernel does not know as it should."""
    if not neighbours:
        return []
    from appliance.rtnetlink import IPRoute

    with IPRoute() as netlink:
        indexes = {link.get("IFLA_IFNAME"): link["index"] for link in netlink.get_links()}
        have = _actual(netlink, indexes, neighbours)
    return [
        f"{address} is not at {mac}" for (name, address), mac in neighbours.items() if have.get((name, address)) != mac
    ]


def _changes(
    netlink: Any, indexes: Mapping[str, int], have: Neighbours, after: Neighbours
) -> Iterator[Callable[[], object]]:
    for name, address in have:
        if (name, address) not in after and name in indexes:
            yield partial(_forget, netlink, indexes[name], address)
    for (name, address), mac in after.items():
        if have.get((name, address)) != mac:
            entry = {"ifindex": indexes[name], "dst": str(IPv4Address(address)), "lladdr": mac, "state": _PERMANENT}
            yield partial(netlink.neigh, "replace", **entry)


def _forget(netlink: Any, index: int, address: str) -> None:
    from appliance.rtnetlink import NetlinkError

    try:
        netlink.neigh("del", ifindex=index, dst=address)
    except NetlinkError as error:
        # with its link down the kernel has forgotten it already
        if error.code != 2:
            raise


def _actual(netlink: Any, indexes: Mapping[str, int], about: Neighbours) -> Neighbours:
    """The permanent entries of the interfaces that ``about`` names."""
    names = {indexes[name]: name for name, _ in about if name in indexes}
    return {
        (names[entry["ifindex"]], entry.get("NDA_DST")): entry.get("NDA_LLADDR")
        for entry in netlink.get_neighbours(family=_IPV4)
        if entry["ifindex"] in names and entry["state"] & _PERMANENT
    }
