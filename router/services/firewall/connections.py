"""Established connections when a firewall rule goes.

Replies always pass, so a connection would outlive the rule that let it in. A tenant who closes a port to an attacker
expects it closed: connections that the old rules let through and the new ones would not are forgotten, and no
others. With mid-stream pick-up turned off (interfaces/plan.py) neither end can revive one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Network

from appliance.netfilter.conntrack import Conntrack, Entry, Tuple
from appliance.services.interfaces.model import Interface
from router.document import RouterState
from router.memo import missing
from router.services.firewall.model import EgressRule, Firewall, IngressRule

_NUMBERS = {"icmp": 1, "tcp": 6, "udp": 17}
Span = tuple[int, int]


def cut(before: RouterState, after: RouterState) -> None:
    """Forget the connections that ``before`` let through and ``after`` does not. Raises OSError."""
    old, new = before.firewall or Firewall(), after.firewall or Firewall()
    closed = missing(old.ingress, new.ingress)
    changed = [nic for nic in before.interfaces.of_role("guest") if _policy(old, nic.name) != _policy(new, nic.name)]
    if closed or changed:
        with Conntrack() as conntrack:
            doomed = [*_ingress(conntrack, closed, new, before), *_egress(conntrack, changed, old, new, before)]
            for entry in doomed:
                conntrack.delete(entry)


def _spans(state: RouterState) -> list[Span]:
    """First and last address of each guest subnet."""
    return [
        (int(subnet.network_address), int(subnet.broadcast_address))
        for nic in state.interfaces.of_role("guest")
        for subnet in nic.subnets
    ]


def _ingress(
    conntrack: Conntrack, closed: Sequence[IngressRule], new: Firewall, before: RouterState
) -> Iterator[Entry]:
    guests = _spans(before)
    for address in sorted({rule.address for rule in closed}):
        gone = [rule for rule in closed if rule.address == address]
        rules = [rule for rule in new.ingress if rule.address == address]
        for entry in conntrack.entries(destination=int(address)):
            first = entry.original
            # guests need no rule for their own network's public addresses
            own = any(low <= first.source <= high and low <= entry.reply.source <= high for low, high in guests)
            if not own and _any_ingress(gone, first) and not _any_ingress(rules, first):
                yield entry


def _egress(
    conntrack: Conntrack, changed: Sequence[Interface], old: Firewall, new: Firewall, before: RouterState
) -> Iterator[Entry]:
    if not changed:
        return
    own = {int(address) for address in before.interfaces.public_addresses()}
    guests = _spans(before)
    judges = [
        (int(subnet.network_address), int(subnet.broadcast_address), _policy(old, nic.name), _policy(new, nic.name))
        for nic in changed
        for subnet in nic.subnets
    ]
    for entry in conntrack.entries():
        first = entry.original
        if first.destination in own or any(low <= first.destination <= high for low, high in guests):
            continue
        for low, high, then, now in judges:
            if low <= first.source <= high and _leaves(then, first) and not _leaves(now, first):
                yield entry


Policy = tuple[bool, tuple[EgressRule, ...]]


def _policy(firewall: Firewall, interface: str) -> Policy:
    """Default and rules of one guest interface."""
    allow = any(default.allow for default in firewall.egress_defaults if default.interface == interface)
    return allow, tuple(rule for rule in firewall.egress if rule.interface == interface)


def _leaves(policy: Policy, first: Tuple) -> bool:
    allow, rules = policy
    hit = any(
        _service(rule, first) and _within(rule.sources, first.source) and _within(rule.destinations, first.destination)
        for rule in rules
    )
    return hit != allow


def _any_ingress(rules: Sequence[IngressRule], first: Tuple) -> bool:
    return any(_service(rule, first) and _within(rule.sources, first.source) for rule in rules)


def _service(rule: IngressRule | EgressRule, first: Tuple) -> bool:
    if rule.protocol == "all":
        return True
    if _NUMBERS[rule.protocol] != first.protocol:
        return False
    if rule.protocol == "icmp":
        return rule.icmp_type in (None, first.icmp_type) and rule.icmp_code in (None, first.icmp_code)
    return rule.ports is None or rule.ports.first <= first.destination_port <= rule.ports.last


def _within(networks: Iterable[IPv4Network], address: int) -> bool:
    """No network means everywhere."""
    spans = [(int(network.network_address), int(network.broadcast_address)) for network in networks]
    return not spans or any(low <= address <= high for low, high in spans)
