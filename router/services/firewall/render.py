"""The router's firewall: what may come in, what may go out, and that nothing else may.

A connection is judged by its first packet, as it arrived and before destination NAT, in the chain ``admission``: the
tenant's ingress rules are about public addresses, whether a port forward, static NAT or a service of the router is
behind them. What a rule admits gets a bit in the packet mark: ADMITTED by an ingress rule, LEAVING by the
egress policy of its network. The chain ``forward`` then asks for the bits that the way taken needs:

- public to guest: destination NAT and ADMITTED (without it, ``admission`` has dropped the packet already);
- guest to public: LEAVING;
- guest to its own network through a public address (hairpin): destination NAT;
- guest to another network: never directly; through a public address of it as any stranger: both bits.

Single ports open to everyone are one hash look-up, the rest are interval sets, so that the number of rules does not
matter. An interval set is searched field by field, which costs the number of elements that match so far: the field
that tells most elements apart stands first. Other services may accept their own public ports in the chain
``ingress_services``.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network

from appliance.netfilter.base import ACCEPT, ADMISSION, FORWARD, INPUT
from appliance.netfilter.boxes import Box, Interval, disjoint
from appliance.netfilter.ruleset import Ruleset, Set
from appliance.services.interfaces.model import Interfaces
from router.memo import EntryMemo
from router.services.firewall.model import EgressRule, Firewall, IngressRule

ADMITTED = 0x00400000
LEAVING = 0x00800000

_ANY_ADDRESS = (0, 2**32 - 1)
_ANY_PORT = (0, 65535)
_ANY_ICMP = (0, 255)


@dataclass(frozen=True)
class IngressParts:
    """One ingress rule: an element of ``ingress_ports``, or boxes of (ports, sources) or (types, codes, sources)."""

    group: tuple[str, str]
    element: str = ""
    boxes: tuple[Box, ...] = ()


def ingress_parts(rule: IngressRule) -> IngressParts:
    """What one rule comes to."""
    address = str(rule.address)
    if rule.protocol != "icmp" and rule.ports and rule.ports.first == rule.ports.last and _everyone(rule.sources):
        return IngressParts((address, rule.protocol), element=f"{address} . {rule.protocol} . {rule.ports.first}")
    return IngressParts(
        (address, rule.protocol), boxes=tuple((*_service(rule), source) for source in _addresses(rule.sources))
    )


@dataclass(frozen=True)
class EgressParts:
    """One egress rule: boxes of ports or of ICMP types and codes (neither: all protocols), destinations, sources."""

    group: tuple[str, str]
    boxes: tuple[Box, ...] = field(default=())


def egress_parts(rule: EgressRule) -> EgressParts:
    """What one rule comes to."""
    service = () if rule.protocol == "all" else _service(rule)
    return EgressParts(
        (rule.interface, rule.protocol),
        tuple(
            (*service, destination, source)
            for destination in _addresses(rule.destinations)
            for source in _addresses(rule.sources)
        ),
    )


@dataclass
class Memos:
    """What the rules of the newest document came to."""

    ingress: EntryMemo[IngressRule, IngressParts] = field(default_factory=lambda: EntryMemo(ingress_parts))
    egress: EntryMemo[EgressRule, EgressParts] = field(default_factory=lambda: EntryMemo(egress_parts))


def open_to_all(firewall: Firewall, services: Collection[tuple[IPv4Address, int]]) -> set[tuple[IPv4Address, int]]:
    """Those of ``services`` (public address, TCP port) that everyone may use."""
    ports: dict[IPv4Address, set[int]] = {}
    for address, port in services:
        ports.setdefault(address, set()).add(port)
    found = set()
    for rule in firewall.ingress:
        if rule.protocol == "tcp" and rule.address in ports and _everyone(rule.sources):
            (first, last), some = _service(rule)[0], ports[rule.address]
            reached = some & {first} if first == last else {port for port in some if first <= port <= last}
            found |= {(rule.address, port) for port in reached}
    return found


def render(firewall: Firewall, interfaces: Interfaces, memos: Memos) -> Ruleset:
    """The contribution of the firewall section."""
    egress = _egress(firewall, memos)
    own = [(nic.name, address.ip) for nic in interfaces.of_role("guest") for address in nic.addresses]
    return Ruleset(
        chains={"ingress": "", "ingress_services": "", **egress.chains},
        rules={
            ADMISSION: (
                (200, "iifname @public_interfaces jump ingress"),
                (210, "iifname @public_interfaces jump ingress_services"),
                (220, f"iifname @public_interfaces meta mark & {ADMITTED:#x} == 0 drop"),
                (230, "ip daddr @public_addresses iifname @guest_interfaces jump ingress"),
                (240, "iifname vmap @egress_policies"),
            ),
            "ingress": tuple(
                (200, f"{match} meta mark set meta mark | {ADMITTED:#x} return")
                for match in (
                    "ip daddr . meta l4proto . th dport @ingress_ports",
                    "th dport . ip saddr . ip daddr . ip protocol @ingress_ranges",
                    "ip daddr . ip saddr . icmp type . icmp code @ingress_icmp",
                )
            ),
            INPUT: (
                *(
                    (200, f'iifname "{name}" ip daddr {address} icmp type echo-request {ACCEPT}')
                    for name, address in own
                ),
                (210, f"ip daddr @public_addresses icmp type echo-request meta mark & {ADMITTED:#x} != 0 {ACCEPT}"),
            ),
            FORWARD: (
                (
                    200,
                    "iifname @public_interfaces oifname @guest_interfaces ct status dnat "
                    f"meta mark & {ADMITTED:#x} != 0 accept",
                ),
                (
                    210,
                    f"iifname @guest_interfaces oifname @public_interfaces meta mark & {LEAVING:#x} != 0 accept",
                ),
                *(
                    (220, f'iifname "{name}" oifname "{name}" ct status dnat accept')
                    for name in dict.fromkeys(name for name, _ in own)
                ),
                (
                    230,
                    "iifname @guest_interfaces oifname @guest_interfaces ct status dnat "
                    f"meta mark & {ADMITTED | LEAVING:#x} == {ADMITTED | LEAVING:#x} accept",
                ),
            ),
            **egress.rules,
        },
        sets={**_ingress_sets(memos.ingress.map(firewall.ingress)), **egress.sets},
    )


def _ingress_sets(parts: Sequence[IngressParts]) -> dict[str, Set]:
    ports = {part.element: "" for part in parts if part.element}
    groups: dict[tuple[str, str], list[Box]] = {}
    for part in parts:
        if part.boxes:
            groups.setdefault(part.group, []).extend(part.boxes)
    ranges: dict[str, str] = {}
    icmp: dict[str, str] = {}
    for (address, protocol), boxes in groups.items():
        if protocol == "icmp":
            for types, codes, sources in disjoint(boxes):
                icmp[f"{address} . {_address_range(sources)} . {_range(types)} . {_range(codes)}"] = ""
        else:
            for service, sources in disjoint(boxes):
                ranges[f"{_range(service)} . {_address_range(sources)} . {address} . {protocol}"] = ""
    return {
        "ingress_ports": Set("type ipv4_addr . inet_proto . inet_service;", ports),
        "ingress_ranges": Set("type inet_service . ipv4_addr . ipv4_addr . inet_proto; flags interval;", ranges),
        "ingress_icmp": Set("type ipv4_addr . ipv4_addr . icmp_type . icmp_code; flags interval;", icmp),
    }


def _egress(firewall: Firewall, memos: Memos) -> Ruleset:
    """Chain ``egress_<interface>`` and three sets for each guest interface that has a default."""
    groups: dict[tuple[str, str], list[Box]] = {}
    for part in memos.egress.map(firewall.egress):
        groups.setdefault(part.group, []).extend(part.boxes)
    chains: dict[str, str] = {}
    rules: dict[str, tuple[tuple[int, str], ...]] = {}
    sets: dict[str, Set] = {}
    leave = f"meta mark set meta mark | {LEAVING:#x}"
    for default in firewall.egress_defaults:
        name = f"egress_{default.interface}"
        everything, ports, icmp = (f"{name}_{kind}" for kind in ("all", "ports", "icmp"))
        hit = "return" if default.allow else f"{leave} return"
        chains[name] = ""
        rules[name] = (
            (200, f"ip daddr . ip saddr @{everything} {hit}"),
            (200, f"th dport . ip daddr . ip saddr . ip protocol @{ports} {hit}"),
            (200, f"ip daddr . ip saddr . icmp type . icmp code @{icmp} {hit}"),
            *(((210, leave),) if default.allow else ()),
        )

        def boxes(protocol: str, interface: str = default.interface) -> list[Box]:
            return disjoint(groups.get((interface, protocol), ()))

        sets[everything] = Set(
            "type ipv4_addr . ipv4_addr; flags interval;",
            {f"{_address_range(target)} . {_address_range(source)}": "" for target, source in boxes("all")},
        )
        sets[ports] = Set(
            "type inet_service . ipv4_addr . ipv4_addr . inet_proto; flags interval;",
            {
                f"{_range(service)} . {_address_range(target)} . {_address_range(source)} . {protocol}": ""
                for protocol in ("tcp", "udp")
                for service, target, source in boxes(protocol)
            },
        )
        sets[icmp] = Set(
            "type ipv4_addr . ipv4_addr . icmp_type . icmp_code; flags interval;",
            {
                f"{_address_range(target)} . {_address_range(source)} . {_range(types)} . {_range(codes)}": ""
                for types, codes, target, source in boxes("icmp")
            },
        )
    sets["egress_policies"] = Set(
        "type ifname : verdict;",
        {f'"{default.interface}"': f"jump egress_{default.interface}" for default in firewall.egress_defaults},
        is_map=True,
    )
    return Ruleset(chains=chains, rules=rules, sets=sets)


def _everyone(networks: tuple[IPv4Network, ...]) -> bool:
    return not networks or any(network.prefixlen == 0 for network in networks)


def _addresses(networks: tuple[IPv4Network, ...]) -> tuple[Interval, ...]:
    if _everyone(networks):
        return (_ANY_ADDRESS,)
    return tuple((int(network.network_address), int(network.broadcast_address)) for network in networks)


def _service(rule: IngressRule | EgressRule) -> tuple[Interval, ...]:
    """Ports of a tcp or udp rule; types and codes of an icmp rule."""
    if rule.protocol == "icmp":
        return (_one_or_any(rule.icmp_type), _one_or_any(rule.icmp_code))
    return ((rule.ports.first, rule.ports.last) if rule.ports else _ANY_PORT,)


def _one_or_any(number: int | None) -> Interval:
    return _ANY_ICMP if number is None else (number, number)


@lru_cache(maxsize=4096)
def _range(interval: Interval) -> str:
    low, high = interval
    return str(low) if low == high else f"{low}-{high}"


@lru_cache(maxsize=4096)
def _address_range(interval: Interval) -> str:
    low, high = interval
    return str(IPv4Address(low)) if low == high else f"{IPv4Address(low)}-{IPv4Address(high)}"
