"""The rules that the kernel gets say the same as the judge of connections that exist already."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from appliance.netfilter.conntrack import Tuple
from appliance.netfilter.ruleset import Ruleset
from controlplane.hypervisors.policy import ICMP, TCP, UDP, Group, Policy, Rule, decode, encode
from controlplane.hypervisors.portfilter import connections
from controlplane.hypervisors.portfilter.groups import ruleset

OWN = "10.0.0.9"

ports = st.tuples(st.integers(1, 6), st.integers(1, 6)).map(lambda pair: (min(pair), max(pair)))
numbers = st.none() | st.integers(0, 3)
services: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.builds(dict),
    st.builds(dict, protocol=st.sampled_from([TCP, UDP, 47])),
    st.builds(dict, protocol=st.sampled_from([TCP, UDP]), ports=ports),
    st.builds(dict, protocol=st.just(ICMP), icmp_type=st.integers(0, 3), icmp_code=numbers),
    st.builds(dict, protocol=st.just(ICMP)),
)
sides: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.builds(dict, cidr=st.sampled_from(["0.0.0.0/0", "10.0.0.0/30", "10.0.0.1/32", "10.0.0.2/31"])),
    st.builds(dict, peer=st.sampled_from(["p", "q"])),
)
rules = st.builds(lambda service, side: Rule(**service, **side), services, sides)
policies = st.builds(
    lambda ingress, members: Policy(
        groups={name: Group(frozenset(some)) for name, some in ingress.items()}, members=members
    ),
    st.fixed_dictionaries({"g": st.lists(rules, max_size=6), "h": st.lists(rules, max_size=3)}),
    st.fixed_dictionaries(
        {name: st.frozensets(st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.5"])) for name in ("p", "q")}
    ),
)
packets = st.builds(
    lambda protocol, source, one, two: Tuple(
        protocol,
        int(IPv4Address(source)),
        int(IPv4Address(OWN)),
        5000 if protocol in (TCP, UDP) else 0,
        one if protocol in (TCP, UDP) else 0,
        one if protocol == ICMP else 0,
        two if protocol == ICMP else 0,
    ),
    st.sampled_from([TCP, UDP, ICMP, 47]),
    st.sampled_from([f"10.0.0.{number}" for number in range(7)]),
    st.integers(0, 7),
    st.integers(0, 3),
)


def in_set(elements: list[str], values: list[int]) -> bool:
    """As the kernel looks up a concatenation of ranges."""

    def number(text: str) -> int:
        return int(IPv4Address(text)) if "." in text else int(text)

    def within(part: str, value: int) -> bool:
        low, _, high = part.partition("-")
        return number(low) <= value <= number(high or low)

    return any(
        all(within(part, value) for part, value in zip(element.split(" . "), values, strict=True))
        for element in elements
    )


def passes(made: Ruleset, chain: str, first: Tuple) -> bool:
    """Walk the chain of a combination as the kernel does, for what this module's packets can match."""
    for _, rule in made.rules[chain]:
        if rule.startswith("jump "):
            if passes(made, rule.removeprefix("jump "), first):
                return True
        elif rule.endswith("accept") and "@" in rule:
            names = [word[1:] for word in rule.split() if word.startswith("@")]
            if "icmp type" in rule:
                fits, own = first.protocol == ICMP, [first.icmp_type, first.icmp_code]
            elif "th dport" in rule:
                fits, own = first.protocol in (TCP, UDP), [first.protocol, first.destination_port]
            else:
                fits, own = True, [first.protocol]
            if len(names) == 2:
                fits = fits and in_set(list(made.sets[names[0]].elements), [first.source])
            else:
                own = [first.source, *own]
            if fits and in_set(list(made.sets[names[-1]].elements), own):
                return True
    return False


@given(policies, packets)
def test_a_packet_passes_when_a_rule_of_one_of_the_groups_lets_it(policy: Policy, first: Tuple) -> None:
    made = ruleset({"gh1": ("g", "h")}, policy)
    [target] = made.sets["ingress"].elements.values()
    members = {id: {int(IPv4Address(address)) for address in some} for id, some in policy.members.items()}
    expected = connections._receives(first, ("g", "h"), policy, members)
    assert passes(made, target.removeprefix("goto "), first) == expected


@given(policies)
def test_elements_of_a_set_do_not_overlap(policy: Policy) -> None:
    for some in ruleset({"gh1": ("g",)}, policy).sets.values():
        if "interval" in some.spec:
            boxes = [element.split(" . ") for element in some.elements]
            for index, box in enumerate(boxes):
                for other in boxes[index + 1 :]:
                    assert any(_apart(mine, theirs) for mine, theirs in zip(box, other, strict=True))


def _apart(one: str, two: str) -> bool:
    spans = []
    for text in (one, two):
        ends = text.split("-")
        values = [int(IPv4Address(end)) if "." in end else int(end) for end in ends]
        spans.append((values[0], values[-1]))
    return spans[0][1] < spans[1][0] or spans[1][1] < spans[0][0]


def test_a_new_member_is_one_element_and_ports_share_chains() -> None:
    db = Group(frozenset({Rule(TCP, (3306, 3306), peer="web"), Rule(peer="web")}))
    few = Policy({"db": db}, {"web": frozenset({"10.0.0.1"})})
    more = Policy({"db": db}, {"web": frozenset({"10.0.0.1", "10.0.0.2"})})
    ports = {f"gh{number}": ("db",) for number in range(50)}
    before, after = ruleset(ports, few), ruleset(ports, more)
    assert before.rules == after.rules
    changed = {name for name in after.sets if after.sets[name] != before.sets[name]}
    assert changed == {"members_web"}
    assert len(set(after.sets["ingress"].elements.values())) == 1
    assert len(after.chains) == 3


def test_egress_is_free_without_rules_and_nothing_without_a_policy() -> None:
    policy = Policy({"g": Group(), "h": Group(egress=frozenset({Rule(TCP, (80, 80), cidr="0.0.0.0/0")}))})
    made = ruleset({"free": ("g",), "bound": ("g", "h"), "unknown": None}, policy)
    assert set(made.sets["egress"].elements) == {'"bound"', '"unknown"'}
    assert set(made.sets["ingress"].elements) == {'"free"', '"bound"', '"unknown"'}
    for chain, some in made.rules.items():
        if chain.startswith(("in_c", "eg_c")):
            assert some[-1][1] == "drop"


def test_what_widens_cuts_nothing_and_what_narrows_does() -> None:
    rule, other = Rule(TCP, (80, 80), cidr="0.0.0.0/0"), Rule(UDP, (53, 53), peer="p")
    base = Policy({"g": Group(frozenset({rule}))}, {"p": frozenset({"10.0.0.1"})}, {("vm", "mac"): ("g",)})
    wider = Policy(
        {"g": Group(frozenset({rule, other})), "h": Group()},
        {"p": frozenset({"10.0.0.1", "10.0.0.2"})},
        {**base.ports, ("vm2", "mac2"): ("h",)},
    )
    assert not connections.narrowed(base, wider)
    assert connections.narrowed(wider, base)
    for narrower in (
        Policy({"g": Group()}, base.members, base.ports),
        Policy(base.groups, {}, base.ports),
        Policy(base.groups, base.members, {("vm", "mac"): ("h",)}),
        Policy({"g": Group(frozenset({rule}), frozenset({rule}))}, base.members, base.ports),
    ):
        assert connections.narrowed(base, narrower)


@given(policies)
def test_a_policy_survives_its_file(policy: Policy) -> None:
    assert decode(encode(policy)) == policy
