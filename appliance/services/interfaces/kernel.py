"""Bring links, addresses, routes and policy rules to a plan, and tell what differs, over rtnetlink(7) (pyroute2).

Only what differs is touched: an address that stays is never removed, so connections over it live on. The control
interface and everything on it is the agent's and is left alone.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any

from appliance.errors import ApplyError
from appliance.services.interfaces.model import GROUPS, Interface
from appliance.services.interfaces.paths import PATH_MASK
from appliance.services.interfaces.plan import MAIN_TABLE, PROTOCOL, Plan, RouteEntry, RuleEntry

_IFF_UP = 1


@dataclass(frozen=True)
class Link:
    """A NIC as it is."""

    index: int
    name: str
    mac: str
    up: bool
    mtu: int
    group: int


@dataclass(frozen=True)
class Difference:
    """What is not as planned, and the call that puts it right."""

    what: str
    repair: Callable[[], object]
    #: the address that the repair adds, with its interface
    adds: tuple[str, IPv4Address] | None = None


def apply(plan: Plan, gone: Collection[Interface] = ()) -> list[tuple[str, IPv4Address]]:
    """Make the kernel hold ``plan``; ``gone`` are NICs of the plan before, emptied if they still exist.

    Returns the addresses that were added, with their interface. Raises ApplyError.
    """
    from appliance.rtnetlink import IPRoute, NetlinkError

    added = []
    with IPRoute() as netlink:
        # links before addresses before routes: each stage looks at what the one before left
        for stage in (_link_differences, _address_differences, _route_differences, _rule_differences):
            for difference in stage(netlink, plan, gone):
                try:
                    difference.repair()
                except NetlinkError as error:
                    raise ApplyError(f"{difference.what}, and setting it failed: {error}") from error
                if difference.adds is not None:
                    added.append(difference.adds)
    return added


def differences(plan: Plan) -> list[str]:
    """What the kernel does not hold as planned; [] when all is well."""
    from appliance.rtnetlink import IPRoute

    with IPRoute() as netlink:
        try:
            found = list(_link_differences(netlink, plan, ()))
        except ApplyError as error:
            return [str(error)]
        if not found:
            for stage in (_address_differences, _route_differences, _rule_differences):
                found += stage(netlink, plan, ())
    return [difference.what for difference in found]


# ---- links


def _links(netlink: Any) -> dict[str, Link]:
    """By MAC address."""
    found = {}
    for message in netlink.get_links():
        mac = message.get("IFLA_ADDRESS")
        if mac:
            found[mac] = Link(
                message["index"],
                message.get("IFLA_IFNAME"),
                mac,
                bool(message["flags"] & _IFF_UP),
                message.get("IFLA_MTU"),
                message.get("IFLA_GROUP"),
            )
    return found


def _link_differences(netlink: Any, plan: Plan, gone: Collection[Interface]) -> Iterator[Difference]:
    links = _links(netlink)
    wanted = {nic.mac: nic for nic in plan.links}
    missing = [nic for nic in plan.links if nic.mac not in links]
    if missing:
        raise ApplyError(f"no NIC has the MAC address {missing[0].mac} of {missing[0].name}; plug it in and try again")
    for nic in gone:
        if nic.mac in links and nic.mac not in wanted:
            yield from _retire(netlink, links[nic.mac])
    wrong_name = [(links[nic.mac], nic.name) for nic in plan.links if links[nic.mac].name != nic.name]
    taken = {name for _, name in wrong_name} & {link.name for link in links.values()}
    for link in links.values():
        # out of the way first, so that names can change places
        if link.name in taken:
            yield Difference(f"{link.name} is the wrong NIC", partial(_rename, netlink, link, f"was{link.index}"))
    for link, name in wrong_name:
        yield Difference(f"NIC {link.mac} is called {link.name}, not {name}", partial(_rename, netlink, link, name))
    renamed = {link.mac for link, _ in wrong_name} | {link.mac for link in links.values() if link.name in taken}
    for nic in plan.links:
        link, group = links[nic.mac], GROUPS[nic.role]
        # before it is up, so that no packet comes by an interface without its role
        if link.group != group:
            set_group = partial(netlink.link, "set", index=link.index, group=group)
            yield Difference(f"group of {nic.name} is {link.group}, not {group}", set_group)
        if nic.mtu is not None and link.mtu != nic.mtu:
            set_mtu = partial(netlink.link, "set", index=link.index, mtu=nic.mtu)
            yield Difference(f"MTU of {nic.name} is {link.mtu}, not {nic.mtu}", set_mtu)
        if not link.up or nic.mac in renamed:
            yield Difference(f"{nic.name} is down", partial(netlink.link, "set", index=link.index, state="up"))


def _rename(netlink: Any, link: Link, name: str) -> None:
    # before Linux 6.2 only a link that is down can be renamed
    netlink.link("set", index=link.index, state="down")
    netlink.link("set", index=link.index, ifname=name)


def _retire(netlink: Any, link: Link) -> Iterator[Difference]:
    if link.up:
        yield Difference(f"{link.name} is up", partial(netlink.link, "set", index=link.index, state="down"))
    if link.group:
        yield Difference(f"{link.name} has a group", partial(netlink.link, "set", index=link.index, group=0))
    for address in _addresses(netlink).get(link.index, ()):
        yield Difference(f"{link.name} has {address}", partial(_remove_address, netlink, link.index, address))


# ---- addresses


def _addresses(netlink: Any) -> dict[int, list[IPv4Interface]]:
    """By interface index, in the kernel's order."""
    found: dict[int, list[IPv4Interface]] = {}
    for message in netlink.get_addr(family=socket.AF_INET):
        address = IPv4Interface((message.get("IFA_LOCAL"), message["prefixlen"]))
        found.setdefault(message["index"], []).append(address)
    return found


def _address_differences(netlink: Any, plan: Plan, gone: Collection[Interface]) -> Iterator[Difference]:
    links, actual = _links(netlink), _addresses(netlink)
    for nic in plan.links:
        index = links[nic.mac].index
        wanted, have = plan.addresses[nic.name], actual.get(index, [])
        for address in have:
            if address not in wanted:
                remove = partial(_remove_address, netlink, index, address)
                yield Difference(f"{nic.name} has {address}, which is not in the document", remove)
        for address in wanted:
            if address not in have:
                add = partial(
                    netlink.addr, "add", index=index, address=str(address.ip), prefixlen=address.network.prefixlen
                )
                yield Difference(f"{nic.name} lacks {address}", add, (nic.name, address.ip))


def _remove_address(netlink: Any, index: int, address: IPv4Interface) -> None:
    netlink.addr("del", index=index, address=str(address.ip), prefixlen=address.network.prefixlen)


# ---- routes and policy rules


def _routes(netlink: Any, names: Mapping[int, str]) -> dict[RouteEntry, Any]:
    """The routes that carry our protocol number."""
    found = {}
    for message in netlink.get_routes(family=socket.AF_INET):
        if message["proto"] == PROTOCOL:
            source = message.get("RTA_PREFSRC")
            destination = IPv4Network((message.get("RTA_DST") or 0, message["dst_len"]))
            entry = RouteEntry(
                message.get("RTA_TABLE") or message["table"],
                destination,
                IPv4Address(message.get("RTA_GATEWAY") or 0),
                names.get(message.get("RTA_OIF"), "") if destination.prefixlen == 0 else "",
                IPv4Address(source) if source and destination.prefixlen == 0 else None,
            )
            found[entry] = message
    return found


def _route_differences(netlink: Any, plan: Plan, gone: Collection[Interface]) -> Iterator[Difference]:
    links = _links(netlink)
    indexes = {nic.name: links[nic.mac].index for nic in plan.links}
    actual = _routes(netlink, {index: name for name, index in indexes.items()})
    for entry in sorted(actual.keys() - plan.routes, key=str):
        remove = partial(
            netlink.route,
            "del",
            table=entry.table,
            dst=str(entry.destination),
            gateway=str(entry.gateway),
            proto=PROTOCOL,
        )
        yield Difference(f"route to {entry.destination} by {entry.gateway} is not in the document", remove)
    for entry in sorted(plan.routes - actual.keys(), key=str):
        fields: dict[str, object] = {"table": entry.table, "dst": str(entry.destination), "gateway": str(entry.gateway)}
        if entry.interface:
            fields["oif"] = indexes[entry.interface]
        if entry.source is not None:
            fields["prefsrc"] = str(entry.source)
        replace = partial(netlink.route, "replace", proto=PROTOCOL, **fields)
        where = "" if entry.table == MAIN_TABLE else f" in table {entry.table}"
        yield Difference(f"no route to {entry.destination} by {entry.gateway}{where}", replace)


def _rules(netlink: Any) -> dict[RuleEntry, Any]:
    """The policy rules that carry our protocol number."""
    found = {}
    for message in netlink.get_rules(family=socket.AF_INET):
        if message.get("FRA_PROTOCOL") == PROTOCOL:
            source = message.get("FRA_SRC")
            suppress = message.get("FRA_SUPPRESS_PREFIXLEN")
            entry = RuleEntry(
                message.get("FRA_PRIORITY") or 0,
                message.get("FRA_TABLE") or message["table"],
                IPv4Address(source) if source else None,
                message.get("FRA_FWMARK") or 0,
                specific_only=suppress == 0,
            )
            found[entry] = message
    return found


def _rule_fields(entry: RuleEntry) -> dict[str, object]:
    fields: dict[str, object] = {"priority": entry.priority, "table": entry.table, "FRA_PROTOCOL": PROTOCOL}
    if entry.source is not None:
        fields |= {"src": str(entry.source), "src_len": 32}
    if entry.mark:
        fields |= {"fwmark": entry.mark, "fwmask": PATH_MASK}
    if entry.specific_only:
        fields["FRA_SUPPRESS_PREFIXLEN"] = 0
    return fields


def _rule_differences(netlink: Any, plan: Plan, gone: Collection[Interface]) -> Iterator[Difference]:
    actual = _rules(netlink)
    for entry in sorted(actual.keys() - plan.rules, key=str):
        remove = partial(netlink.rule, "del", **_rule_fields(entry))
        yield Difference(f"policy rule {entry.priority} for table {entry.table} is not in the document", remove)
    for entry in sorted(plan.rules - actual.keys(), key=str):
        what = entry.source or (f"mark {entry.mark:#x}" if entry.mark else "all but default routes")
        yield Difference(
            f"no policy rule for {what} to table {entry.table}", partial(netlink.rule, "add", **_rule_fields(entry))
        )
