"""A guest cannot pass for another one: the router takes a guest's address from that guest's MAC alone.

Every packet that bears a known address must bear its MAC, and a connection to the router begins from a known address
or not at all: what answers by source address (metadata, passwords) answers the guest itself. Replies from elsewhere
(the zone's resolvers, through the network's gateway) pass as replies.
"""

from __future__ import annotations

from appliance.netfilter.base import ADMISSION, RAW_PREROUTING
from appliance.netfilter.ruleset import Ruleset, Set
from router.memo import EntryMemo
from router.services.sourceguard.model import Source, SourceGuard

Elements = tuple[str, str]


def elements(source: Source) -> Elements:
    """The elements of one source: its address, and the pair."""
    return str(source.address), f"{source.address} . {source.mac}"


def render(guard: SourceGuard, memo: EntryMemo[Source, Elements]) -> Ruleset:
    """The contribution of the sourceguard section; ``memo`` is one of ``elements``."""
    known = memo.map(guard.sources)
    return Ruleset(
        chains={"sourceguard": ""},
        rules={
            RAW_PREROUTING: (
                (
                    120,
                    "iifname @sourceguard_interfaces ip saddr @sourceguard_addresses "
                    "ip saddr . ether saddr != @sourceguard_pairs drop",
                ),
            ),
            ADMISSION: ((120, "iifname @sourceguard_interfaces jump sourceguard"),),
            "sourceguard": (
                # a DHCP client has no address yet (RFC 2131, 4.1)
                (100, "ip saddr 0.0.0.0 udp sport 68 udp dport 67 return"),
                (110, "ip saddr . ether saddr != @sourceguard_pairs drop"),
            ),
        },
        sets={
            "sourceguard_interfaces": Set("type ifname;", {f'"{name}"': "" for name in guard.interfaces}),
            "sourceguard_addresses": Set("type ipv4_addr;", {address: "" for address, _ in known}),
            "sourceguard_pairs": Set("type ipv4_addr . ether_addr;", {pair: "" for _, pair in known}),
        },
    )
