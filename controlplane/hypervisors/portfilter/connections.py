"""Connections that the policy does not let in any more: they end, rather than living on as established.

What is left of one is not the beginning of a connection (``tracking``), so neither end can revive it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network

from appliance.netfilter.conntrack import Conntrack, Tuple
from controlplane.hypervisors.policy import ICMP, TCP, UDP, Group, Policy, Rule
from controlplane.hypervisors.portfilter.groups import Membership
from controlplane.hypervisors.portfilter.model import Port

_METADATA = int(IPv4Address("169.254.169.254"))


def narrowed(before: Policy, after: Policy) -> bool:
    """Whether ``after`` may refuse something that ``before`` lets through."""
    if any(after.ports.get(port) != groups for port, groups in before.ports.items()):
        return True
    for id, old in before.groups.items():
        new = after.groups.get(id, Group())
        if old.ingress - new.ingress or old.egress - new.egress or (new.egress and not old.egress):
            return True
    return any(members - after.members.get(id, frozenset()) for id, members in before.members.items())


def cut(
    ports: Mapping[str, Port],
    membership: Membership,
    policy: Policy,
    zones: Mapping[str, int],
    gone: Iterable[Port] = (),
) -> int:
    """Forget connections of secured ports that would not be let in now, and all of the ports that are ``gone``.

    In the calling thread's network namespace. Returns how many. Raises OSError.
    """
    places: dict[tuple[int, int], tuple[str, ...] | None] = {}
    for name, groups in membership.items():
        port = ports[name]
        places.update({(zones[port.bridge], int(IPv4Address(address))): groups for address in port.addresses})
    left = {
        (zones[port.bridge], int(IPv4Address(address)))
        for port in gone
        if port.bridge in zones
        for address in port.addresses
    }
    members = {id: {int(IPv4Address(address)) for address in some} for id, some in policy.members.items()}
    number = 0
    with Conntrack() as conntrack:
        doomed = []
        for entry in conntrack.entries():
            first = entry.original
            ends = ((entry.zone, first.source), (entry.zone, first.destination))
            if left.intersection(ends) or not _admitted(first, ends, places, policy, members):
                doomed.append(entry)
        for entry in doomed:
            conntrack.delete(entry)
            number += 1
    return number


def _admitted(
    first: Tuple,
    ends: tuple[tuple[int, int], tuple[int, int]],
    places: Mapping[tuple[int, int], tuple[str, ...] | None],
    policy: Policy,
    members: Mapping[str, set[int]],
) -> bool:
    source, destination = ends
    return (source not in places or _sends(first, places[source], policy, members)) and (
        destination not in places or _receives(first, places[destination], policy, members)
    )


def _sends(first: Tuple, groups: tuple[str, ...] | None, policy: Policy, members: Mapping[str, set[int]]) -> bool:
    """As the rules of ``groups`` in direction egress."""
    if (first.protocol, first.destination_port) in ((UDP, 67), (UDP, 53), (TCP, 53)):
        return True
    if (first.destination, first.protocol, first.destination_port) == (_METADATA, TCP, 80):
        return True
    rules = [rule for id in groups or () for rule in policy.groups.get(id, Group()).egress]
    return (groups is not None and not rules) or _any(rules, first, first.destination, members)


def _receives(first: Tuple, groups: tuple[str, ...] | None, policy: Policy, members: Mapping[str, set[int]]) -> bool:
    if (first.protocol, first.source_port, first.destination_port) == (UDP, 67, 68):
        return True
    rules = [rule for id in groups or () for rule in policy.groups.get(id, Group()).ingress]
    return _any(rules, first, first.source, members)


def _any(rules: Iterable[Rule], first: Tuple, other: int, members: Mapping[str, set[int]]) -> bool:
    return any(_service(rule, first) and _within(rule, other, members) for rule in rules)


def _service(rule: Rule, first: Tuple) -> bool:
    if rule.protocol is None:
        return True
    if rule.protocol != first.protocol:
        return False
    if rule.protocol == ICMP:
        return rule.icmp_type in (None, first.icmp_type) and rule.icmp_code in (None, first.icmp_code)
    return rule.ports is None or rule.ports[0] <= first.destination_port <= rule.ports[1]


def _within(rule: Rule, address: int, members: Mapping[str, set[int]]) -> bool:
    if rule.peer is not None:
        return address in members.get(rule.peer, ())
    network = IPv4Network(rule.cidr or "0.0.0.0/0")
    return int(network.network_address) <= address <= int(network.broadcast_address)
