"""Ruleset of the firewall section: its text, and what its sets let through."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from appliance.netfilter.ruleset import Ruleset
from router.document import RouterState
from router.services.firewall.model import Firewall
from router.services.firewall.render import Memos, render
from tests.documents import small_state
from tests.unit.router.golden import assert_ruleset
from tests.unit.router.strategies import states

#: few values, so that rules overlap and packets hit them
NETWORKS = ["0.0.0.0/0", "10.0.0.0/8", "10.1.0.0/16", "10.1.1.0/24", "10.1.1.1/32", "192.0.2.0/24"]
SOURCES = [IPv4Address(text) for text in ("10.1.1.1", "10.1.1.2", "10.2.0.0", "192.0.2.255", "198.51.100.1")]
PORTS = [1, 79, 80, 81, 90, 65535]
ICMP = [None, 0, 8, 255]

networks = st.lists(st.sampled_from(NETWORKS), max_size=2, unique=True)
port_ranges = st.none() | st.tuples(st.sampled_from(PORTS), st.sampled_from(PORTS)).map(
    lambda ends: {"first": min(ends), "last": max(ends)}
)


@st.composite
def services(draw: st.DrawFn, protocols: list[str]) -> dict[str, Any]:
    protocol = draw(st.sampled_from(protocols))
    if protocol == "icmp":
        kind = draw(st.sampled_from(ICMP))
        return {
            "protocol": protocol,
            "icmp_type": kind,
            "icmp_code": None if kind is None else draw(st.sampled_from(ICMP)),
        }
    return {"protocol": protocol, "ports": draw(port_ranges) if protocol != "all" else None}


@st.composite
def firewalls(draw: st.DrawFn) -> Firewall:
    ingress = [
        {"address": "203.0.113.2", "sources": draw(networks), **draw(services(["tcp", "udp", "icmp"]))}
        for _ in range(draw(st.integers(0, 5)))
    ]
    egress = [
        {
            "interface": "eth0",
            "sources": draw(networks),
            "destinations": draw(networks),
            **draw(services(["tcp", "udp", "icmp", "all"])),
        }
        for _ in range(draw(st.integers(0, 5)))
    ]
    return Firewall.model_validate(
        {
            "ingress": [{"id": f"i{number}", **rule} for number, rule in enumerate(ingress)],
            "egress": [{"id": f"e{number}", **rule} for number, rule in enumerate(egress)],
            "egress_defaults": [{"interface": "eth0", "allow": False}],
        }
    )


@st.composite
def packets(draw: st.DrawFn) -> dict[str, str]:
    """Fields of a packet, as concatenations of the rules name them."""
    protocol = draw(st.sampled_from(["tcp", "udp", "icmp"]))
    packet = {
        "ip saddr": str(draw(st.sampled_from(SOURCES))),
        "ip daddr": str(draw(st.sampled_from([*SOURCES, IPv4Address("203.0.113.2")]))),
        "meta l4proto": protocol,
        "ip protocol": protocol,
    }
    if protocol == "icmp":
        return packet | {
            "icmp type": str(draw(st.sampled_from([0, 8]))),
            "icmp code": str(draw(st.sampled_from([0, 3]))),
        }
    return packet | {"th dport": str(draw(st.sampled_from(PORTS)))}


def hits(ruleset: Ruleset, chain: str, packet: dict[str, str]) -> bool:
    """Whether a rule of ``chain`` finds the packet in its set, as the kernel would."""
    for _, rule in ruleset.rules[chain]:
        match, _, rest = rule.partition(" @")
        fields = match.split(" . ")
        if all(field in packet for field in fields):
            elements = ruleset.sets[rest.split()[0]].elements
            if any(_covers(key.split(" . "), [packet[field] for field in fields]) for key in elements):
                return True
    return False


def _covers(key: list[str], values: list[str]) -> bool:
    for part, value in zip(key, values, strict=True):
        low, _, high = part.partition("-")
        if low.isalpha():
            if low != value:
                return False
        elif not _number(low) <= _number(value) <= _number(high or low):
            return False
    return True


def _number(text: str) -> int:
    return int(IPv4Address(text)) if "." in text else int(text)


def _within(sources: tuple[IPv4Network, ...], address: str) -> bool:
    return not sources or any(IPv4Address(address) in network for network in sources)


def _asks(rule: Any, packet: dict[str, str]) -> bool:
    if rule.protocol == "all":
        return True
    if rule.protocol != packet["meta l4proto"]:
        return False
    if rule.protocol == "icmp":
        wanted = (rule.icmp_type, rule.icmp_code)
        return all(
            want in (None, int(packet[f"icmp {part}"])) for want, part in zip(wanted, ("type", "code"), strict=True)
        )
    return rule.ports is None or rule.ports.first <= int(packet["th dport"]) <= rule.ports.last


INTERFACES = RouterState.model_validate(small_state()).interfaces


@given(firewalls(), packets())
def test_the_sets_admit_what_a_rule_admits(firewall: Firewall, packet: dict[str, str]) -> None:
    ruleset = render(firewall, INTERFACES, Memos())
    admitted = any(
        _asks(rule, packet) and _within(rule.sources, packet["ip saddr"]) and packet["ip daddr"] == str(rule.address)
        for rule in firewall.ingress
    )
    assert hits(ruleset, "ingress", packet) == admitted
    leaves = any(
        _asks(rule, packet)
        and _within(rule.sources, packet["ip saddr"])
        and _within(rule.destinations, packet["ip daddr"])
        for rule in firewall.egress
    )
    assert hits(ruleset, "egress_eth0", packet) == leaves


@given(firewalls(), firewalls(), st.randoms())
def test_neither_order_nor_history_matters(firewall: Firewall, other: Firewall, random: Any) -> None:
    memos = Memos()
    render(other, INTERFACES, memos)
    rules = list(firewall.ingress)
    random.shuffle(rules)
    shuffled = firewall.model_copy(update={"ingress": tuple(rules)})
    assert render(shuffled, INTERFACES, memos).sets == render(firewall, INTERFACES, Memos()).sets


@given(states())
def test_any_state_renders(raw: dict[str, Any]) -> None:
    state = RouterState.model_validate(raw)
    if state.firewall is not None:
        render(state.firewall, state.interfaces, Memos())


def test_golden() -> None:
    state = RouterState.model_validate(small_state())
    assert state.firewall is not None
    ruleset = render(state.firewall, state.interfaces, Memos())
    assert_ruleset(ruleset, Path(__file__).parent / "golden.nft")
