"""Address translation as maps: the first packet of a connection costs the same with 10 rules and with 10,000.

Order of the look-ups: port forwards, forwarded ranges, static NAT; on the way out static NAT before source NAT.
A guest that uses a public address of its own network (hairpin) appears to the target as the router's address
there, so that the reply comes back through the router; to another network it appears as its public address.
A hairpin's TCP ports keep out of those that the router's own connections to guests have, which are told from them by
their ports alone (router/services/loadbalancer/ruleset.py).
"""

from __future__ import annotations

from itertools import chain

from appliance.netfilter.ruleset import Ruleset, Set
from appliance.services.interfaces.model import Interfaces
from appliance.services.interfaces.plan import OWN_PORTS
from router.memo import EntryMemo
from router.services.interfaces.render import subnets
from router.services.nat.model import Nat, PortForward

Elements = tuple[tuple[str, str], ...]
#: what a forward adds to ``nat_forwards`` and to ``nat_ranges``
ForwardElements = tuple[Elements, Elements]


def forward_elements(forward: PortForward) -> ForwardElements:
    """The map elements of one forward.

    A range that keeps its port numbers is one element; nftables cannot shift a range, so a shifted one is an
    element a port.
    """
    head = f"{forward.address} . {forward.protocol} . "
    guest, ports, guest_ports = str(forward.guest), forward.ports, forward.guest_ports
    if ports.first == ports.last:
        return ((f"{head}{ports.first}", f"{guest} . {guest_ports.first}"),), ()
    if ports == guest_ports:
        return (), ((f"{ports.first}-{ports.last} . {forward.address} . {forward.protocol}", guest),)
    shift = guest_ports.first - ports.first
    return tuple((f"{head}{port}", f"{guest} . {port + shift}") for port in range(ports.first, ports.last + 1)), ()


def render(nat: Nat, interfaces: Interfaces, memo: EntryMemo[PortForward, ForwardElements]) -> Ruleset:
    """The contribution of the nat section; ``memo`` is one of ``forward_elements``."""
    elements = memo.map(nat.forwards)
    forwards = dict(chain.from_iterable(single for single, _ in elements))
    ranges = dict(chain.from_iterable(ranged for _, ranged in elements))
    guests = interfaces.of_role("guest")
    sources = {one.interface: str(one.address) for one in nat.source}
    return Ruleset(
        chains={
            "nat_prerouting": "type nat hook prerouting priority dstnat; policy accept;",
            "nat_postrouting": "type nat hook postrouting priority srcnat; policy accept;",
            "nat_outbound": "",
        },
        rules={
            "nat_prerouting": (
                (200, "dnat ip to ip daddr . meta l4proto . th dport map @nat_forwards"),
                (210, "dnat ip to th dport . ip daddr . ip protocol map @nat_ranges"),
                (220, "dnat ip to ip daddr map @nat_static"),
            ),
            "nat_postrouting": (
                (200, "oifname @public_interfaces jump nat_outbound"),
                *(
                    (210, f'oifname "{nic.name}" ct status dnat ip saddr {address.network} {way}')
                    for nic in guests
                    for address in nic.addresses
                    for way in (
                        f"meta l4proto tcp snat ip to {address.ip}:1024-{OWN_PORTS[0] - 1}",
                        f"snat ip to {address.ip}",
                    )
                ),
                (220, "oifname @guest_interfaces ct status dnat jump nat_outbound"),
            ),
            "nat_outbound": (
                (200, "snat ip to ip saddr map @nat_static_sources"),
                (210, "snat ip to ip saddr map @nat_sources"),
            ),
        },
        sets={
            "nat_forwards": Set(
                "type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service;", forwards, is_map=True
            ),
            # ports first: most elements differ in them, see firewall/render.py
            "nat_ranges": Set(
                "type inet_service . ipv4_addr . inet_proto : ipv4_addr; flags interval;", ranges, is_map=True
            ),
            "nat_static": _addresses({str(one.address): str(one.guest) for one in nat.static}),
            "nat_static_sources": _addresses({str(one.guest): str(one.address) for one in nat.static}),
            "nat_sources": Set(
                "type ipv4_addr : ipv4_addr; flags interval;",
                {str(net): sources[nic.name] for nic in guests if nic.name in sources for net in subnets(nic)},
                is_map=True,
            ),
        },
    )


def _addresses(elements: dict[str, str]) -> Set:
    return Set("type ipv4_addr : ipv4_addr;", elements, is_map=True)
