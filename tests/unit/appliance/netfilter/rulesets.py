"""Hypothesis strategy for rulesets that the kernel takes."""

from __future__ import annotations

from hypothesis import strategies as st

from appliance.netfilter.ruleset import Ruleset, Set

_ADDRESSES = [f"192.0.2.{number}" for number in range(1, 6)]
_HEADERS = (
    "type filter hook input priority 10; policy accept;",
    "type filter hook forward priority 10; policy accept;",
)


@st.composite
def rulesets(draw: st.DrawFn) -> Ruleset:
    """Up to three regular chains and two base chains; sets, counted sets, maps, verdict maps; rules that use them."""
    regular = draw(st.lists(st.sampled_from(["one", "two", "three"]), unique=True))
    chains = dict.fromkeys(regular, "")
    for name in draw(st.lists(st.sampled_from(["incoming", "passing"]), min_size=1, unique=True)):
        chains[name] = draw(st.sampled_from(_HEADERS))
    sets: dict[str, Set] = {}
    addresses = st.lists(st.sampled_from(_ADDRESSES), unique=True)
    if draw(st.booleans()):
        spec = draw(st.sampled_from(["type ipv4_addr;", "type ipv4_addr; flags interval;"]))
        sets["plain"] = Set(spec, dict.fromkeys(draw(addresses), ""))
    if draw(st.booleans()):
        spec = draw(st.sampled_from(["type ipv4_addr;", "type ipv4_addr; size 1000;"]))
        counted: bool = draw(st.booleans())
        sets["traffic"] = Set(spec, dict.fromkeys(draw(addresses), ""), counted=counted)
    if draw(st.booleans()):
        values = st.sampled_from(["1", "2", "3"])
        sets["marks"] = Set("type ipv4_addr : mark;", {key: draw(values) for key in draw(addresses)}, is_map=True)
    if draw(st.booleans()) and regular:
        jumps = st.sampled_from(regular).map(lambda name: f"jump {name}")
        sets["ways"] = Set("type ipv4_addr : verdict;", {key: draw(jumps) for key in draw(addresses)}, is_map=True)
    possible = ["ip saddr 192.0.2.1 accept", "tcp dport 22 accept", "udp dport 53 drop"]
    possible += [text for name, text in _USES.items() if name in sets]
    rules: dict[str, tuple[tuple[int, str], ...]] = {}
    for name, header in chains.items():
        some = draw(st.lists(st.sampled_from(possible), max_size=3))
        if not header:
            # regular chains do not jump, so that there is no loop
            some = [rule for rule in some if "@ways" not in rule]
        if some:
            rules[name] = tuple(enumerate(some))
    return Ruleset(chains=chains, rules=rules, sets=sets)


_USES = {
    "plain": "ip saddr @plain accept",
    "traffic": "ip saddr @traffic",
    "marks": "meta mark set ip saddr map @marks",
    "ways": "ip saddr vmap @ways",
}
