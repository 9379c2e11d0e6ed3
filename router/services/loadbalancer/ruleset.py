"""The packets of balanced connections: from clients to haproxy, from haproxy to members, and back.

Those of the public side, and haproxy's own to guests, are not tracked: that would cost more than all rules together,
twice for each connection, and nothing of them is translated. So each is judged by itself, before it would be tracked:

- from a public interface to a balanced port: by the tenant's ingress rules, as the first packet of any other connection
  is (router/services/firewall/render.py). A rule that goes closes its port to everything at once.
- from a guest to a source port of the router's own connections: all but the beginning of a connection. There is nothing
  that listens, so the kernel takes what belongs to a connection of the router and refuses the rest. Members that are
  taken out of a rule keep the connections that they have.

Connections of a rule that was taken away go on too: the kernel does not know them when their packets are tracked, so
packets in the middle of a connection of the router itself are let in where an ingress rule admits them. So are ICMP's
messages that something could not be delivered, e.g. because it is too big for a way (RFC 1191): they are about no
tracked connection either, and the kernel's TCP takes those that quote a connection it has.

Guests that use a balanced port are tracked as anywhere else. Their own connections to outside are not given one as
their source port; only where two guests happen to have the same port to the same place may the kernel choose it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address
from itertools import pairwise

from appliance.netfilter.base import ACCEPT, INPUT, INVALID, RAW_PREROUTING
from appliance.netfilter.ruleset import Ruleset, Set, roomy
from appliance.services.interfaces.model import GROUPS, Interface
from appliance.services.interfaces.plan import OWN_PORTS
from router.document import RouterState
from router.services.firewall.model import Firewall
from router.services.firewall.render import ADMITTED, LEAVING, open_to_all
from router.services.interfaces.render import one_of, subnets, way
from router.services.loadbalancer.model import LoadBalancer

_FIRST, _NOT_FIRST = (f"tcp flags & (syn | ack) {sign} syn" for sign in ("==", "!="))
_UNREACHABLE = "icmp type destination-unreachable"
_PUBLIC = GROUPS["public"]
_OWN_PORTS = "{}-{}".format(*OWN_PORTS)
#: the tail of connections of the router itself
_ANSWER = f"tcp dport {_OWN_PORTS} {_NOT_FIRST}"


def ruleset(balancer: LoadBalancer, state: RouterState) -> Ruleset:
    """Open the rules' ports: for what the tenant's firewall admits, and for the rule's own network without asking."""
    both = ADMITTED | LEAVING
    known = {rule.interface for rule in balancer.rules}
    ports = [(rule.address, rule.port) for rule in balancer.rules]
    # one look-up instead of two for ports that everyone may use
    open_ports = open_to_all(state.firewall or Firewall(), ports)
    ways = {
        f"{address} . {port}": f"goto loadbalancer_{'open' if (address, port) in open_ports else 'asked'}"
        for address, port in ports
    }
    every = state.interfaces.of_role("guest")
    guests = [(nic, way(nic, every)) for nic in every if nic.name in known and nic.addresses]
    others = list(_ports_of_others(ports, state))
    return Ruleset(
        chains={
            "loadbalancer_asked": "",
            "loadbalancer_open": "",
            "loadbalancer_rest": "",
            "loadbalancer_output": "type filter hook output priority raw; policy accept;",
        },
        rules={
            RAW_PREROUTING: (
                # no guest: the drops before 200 are not about it
                (105, f"iifgroup {_PUBLIC} ip daddr . tcp dport vmap @loadbalancer_ways"),
                *((310, f"i{by} {_told(nic)} {_ANSWER} notrack accept") for nic, by in guests),
            ),
            "loadbalancer_asked": (
                (200, "jump ingress"),
                (210, f"meta mark & {ADMITTED:#x} == 0 drop"),
                (220, "goto loadbalancer_open"),
            ),
            "loadbalancer_open": ((100, f"{_FIRST} ip saddr @guest_subnets drop"), (200, "notrack accept")),
            "loadbalancer_output": (
                (200, f"oifgroup {_PUBLIC} ip saddr . tcp sport @loadbalancer_ports notrack accept"),
                *((210, f"o{by} {_question(nic)} notrack accept") for nic, by in guests),
            ),
            "loadbalancer_rest": (
                (200, "jump ingress"),
                (210, f"meta mark & {ADMITTED:#x} != 0 {ACCEPT}"),
                (220, "drop"),
            ),
            **({"nat_outbound": tuple((205, rule) for rule in others)} if others else {}),
            INPUT: (
                (300, f"iifname . ip daddr . tcp dport @loadbalancer_own {ACCEPT}"),
                (
                    310,
                    "iifname @guest_interfaces ip daddr . tcp dport @loadbalancer_ports "
                    f"meta mark & {both:#x} == {both:#x} {ACCEPT}",
                ),
            ),
            INVALID: (
                (
                    200,
                    "iifname @public_interfaces ip daddr @public_addresses tcp flags & syn == 0 goto loadbalancer_rest",
                ),
                (210, f"iifname @public_interfaces ip daddr @public_addresses {_UNREACHABLE} {ACCEPT}"),
                *((210, f"i{by} {_told(nic)} {_UNREACHABLE} {ACCEPT}") for nic, by in guests),
            ),
        },
        sets={
            "loadbalancer_ways": Set(f"type ipv4_addr . inet_service : verdict; {roomy(len(ways))}", ways, is_map=True),
            "loadbalancer_ports": Set(f"type ipv4_addr . inet_service; {roomy(len(ways))}", dict.fromkeys(ways, "")),
            "loadbalancer_own": Set(
                "type ifname . ipv4_addr . inet_service;",
                {f'"{rule.interface}" . {rule.address} . {rule.port}': "" for rule in balancer.rules},
            ),
        },
    )


def _ports_of_others(balanced: Sequence[tuple[IPv4Address, int]], state: RouterState) -> Iterator[str]:
    """Keep source NAT from giving guests a balanced port: answers to it would be taken for a client's packets."""
    for source in state.nat.source if state.nat else ():
        taken = sorted(port for address, port in balanced if address == source.address)
        for nic in state.interfaces.of_role("guest"):
            if taken and nic.name == source.interface and nic.subnets:
                first, last = _widest_gap(taken)
                yield (
                    f"ip saddr {one_of(subnets(nic))} tcp sport {one_of(taken)} "
                    f"snat ip to {source.address}:{first}-{last}"
                )


def _widest_gap(taken: Sequence[int]) -> tuple[int, int]:
    """First and last of the most ports without privileges that follow each other and are not ``taken`` (in order)."""
    ends = [1023, *(port for port in taken if port >= 1024), 65536]
    before, after = max(pairwise(ends), key=lambda gap: gap[1] - gap[0])
    return before + 1, after - 1


def _told(nic: Interface) -> str:
    """From guests to the router itself."""
    return f"ip saddr {one_of(subnets(nic))} ip daddr {_own(nic)}"


def _question(nic: Interface) -> str:
    """Connections of the router itself to guests."""
    return f"ip saddr {_own(nic)} ip daddr {one_of(subnets(nic))} tcp sport {_OWN_PORTS}"


def _own(nic: Interface) -> str:
    return one_of(address.ip for address in nic.addresses)
