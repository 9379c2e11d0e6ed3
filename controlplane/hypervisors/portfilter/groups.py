"""From a policy to chains and sets of the host's table: what security groups let pass. Pure.

==================  ================================================================================================
``ingress``         map: secured port -> the chain of its combination of groups; ``egress`` the same
``in_c...``         a combination: one jump for each group, then drop; ports with the same groups share it
``in_...``          a group: one lookup for each kind of its rules (blocks, then each peer group)
``members_...``     set: the addresses of a peer group; a guest that joins or leaves is one element
==================  ================================================================================================

Rules are elements of interval sets (address . protocol . port), so a packet costs the same with one rule and with
thousands. Only groups that a port of this host is in, and their peers' members, are there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network

from appliance.netfilter.boxes import Box, disjoint
from appliance.netfilter.ruleset import Ruleset, Set
from controlplane.hypervisors.policy import ICMP, Group, Policy, Rule

#: without a policy's word a port is in no group and may send only what everybody may
Membership = Mapping[str, tuple[str, ...] | None]

_ANY_PROTOCOL, _ANY_NUMBER = (0, 255), (0, 255)
_KINDS = {
    "protocols": ("ip protocol", "inet_proto"),
    "ports": ("ip protocol . th dport", "inet_proto . inet_service"),
    "icmp": ("icmp type . icmp code", "icmp_type . icmp_code"),
}
#: direction -> (prefix of names, the peer's address, what to do with what is let through)
_DIRECTIONS = {"ingress": ("in", "ip saddr", "accept"), "egress": ("eg", "ip daddr", "goto ingress")}

#: what guests may send and receive whatever their groups say: DHCP, DNS, metadata
_ALWAYS = {
    "ingress": ("udp sport 67 udp dport 68 accept",),
    "egress": (
        "meta l4proto . th dport { udp . 67, udp . 53, tcp . 53 } goto ingress",
        "ip daddr 169.254.169.254 tcp dport 80 goto ingress",
    ),
}


def ruleset(ports: Membership, policy: Policy) -> Ruleset:
    """Chains, rules and sets for the secured ``ports`` (name -> ids of its groups)."""
    chains: dict[str, str] = {}
    rules: dict[str, tuple[tuple[int, str], ...]] = {}
    sets: dict[str, Set] = {}
    used = {id for groups in ports.values() for id in groups or () if id in policy.groups}
    peers: set[str] = set()
    for direction, (prefix, _, _) in _DIRECTIONS.items():
        targets: dict[str, str] = {}
        for port, groups in ports.items():
            target = _combination(direction, groups, policy)
            if target is not None:
                targets[f'"{port}"'] = f"goto {target[0]}"
                chains[target[0]] = ""
                rules[target[0]] = tuple(enumerate(target[1]))
        sets[direction] = Set("type ifname : verdict;", targets, is_map=True)
        for id in sorted(used):
            name = f"{prefix}_{_name(id)}"
            own = _of(policy.groups[id], direction)
            peers |= {rule.peer for rule in own if rule.peer is not None}
            chains[name] = ""
            texts = _group(direction, name, own, sets)
            rules[name] = tuple(enumerate(texts))
    for id in sorted(peers):
        members = policy.members.get(id, frozenset())
        sets[f"members_{_name(id)}"] = Set("type ipv4_addr;", dict.fromkeys(sorted(members), ""))
    return Ruleset(chains=chains, rules=rules, sets=sets)


def _name(id: str) -> str:
    return id.replace("-", "")


def _of(group: Group, direction: str) -> frozenset[Rule]:
    return group.ingress if direction == "ingress" else group.egress


def _combination(direction: str, groups: Sequence[str] | None, policy: Policy) -> tuple[str, list[str]] | None:
    """Name and rules of the chain for ports in exactly these groups; None when they may send everything."""
    prefix = _DIRECTIONS[direction][0]
    known = sorted(id for id in groups or () if id in policy.groups)
    if direction == "egress":
        known = [id for id in known if policy.groups[id].egress]
        if groups is not None and not known:
            return None
    name = f"{prefix}_c{hashlib.sha256(' '.join(known).encode()).hexdigest()[:16]}"
    return name, [*_ALWAYS[direction], *(f"jump {prefix}_{_name(id)}" for id in known), "drop"]


def _group(direction: str, name: str, rules: Iterable[Rule], sets: dict[str, Set]) -> list[str]:
    """The rules of a group's chain; adds its sets."""
    _, address, then = _DIRECTIONS[direction]
    texts = []
    by_peer: dict[str | None, list[Rule]] = {}
    for rule in rules:
        by_peer.setdefault(rule.peer, []).append(rule)
    for peer in sorted(by_peer, key=lambda peer: peer or ""):
        for kind, (expression, types) in _KINDS.items():
            boxes = [box for rule in by_peer[peer] if (box := _box(rule, kind)) is not None]
            if not boxes:
                continue
            if peer is None:
                own = f"{name}_{kind}"
                texts.append(f"{address} . {expression} @{own} {then}")
                sets[own] = Set(f"type ipv4_addr . {types}; flags interval;", _elements(boxes, addresses=True))
            else:
                own = f"{name}_{_name(peer)}_{kind}"
                texts.append(f"{address} @members_{_name(peer)} {expression} @{own} {then}")
                sets[own] = Set(f"type {types}; flags interval;", _elements(boxes, addresses=False))
    return texts


def _box(rule: Rule, kind: str) -> Box | None:
    """The rule as intervals, when it is of that kind."""
    sides: Box = ()
    if rule.cidr is not None:
        network = IPv4Network(rule.cidr)
        sides = ((int(network.network_address), int(network.broadcast_address)),)
    protocol = _ANY_PROTOCOL if rule.protocol is None else (rule.protocol, rule.protocol)
    if rule.ports is not None:
        return (*sides, protocol, rule.ports) if kind == "ports" else None
    if rule.protocol == ICMP and rule.icmp_type is not None:
        code = _ANY_NUMBER if rule.icmp_code is None else (rule.icmp_code, rule.icmp_code)
        return (*sides, (rule.icmp_type, rule.icmp_type), code) if kind == "icmp" else None
    return (*sides, protocol) if kind == "protocols" else None


def _elements(boxes: Sequence[Box], *, addresses: bool) -> dict[str, str]:
    elements = {}
    for box in disjoint(boxes):
        parts = [_range(*interval) for interval in box]
        if addresses:
            low, high = box[0]
            parts[0] = _range(str(IPv4Address(low)), str(IPv4Address(high)))
        elements[" . ".join(parts)] = ""
    return elements


def _range(low: int | str, high: int | str) -> str:
    return f"{low}" if low == high else f"{low}-{high}"
