"""What the kernel must hold for an interfaces section: addresses, routes, policy rules, sysctls. Pure.

Each public interface after the first gets a routing table of its own: packets from its addresses, and packets of
connections that came in by it (which a role's rules mark), leave by it. Tables hold a default route only; everything
more specific is looked up in the main table first.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from types import MappingProxyType

from appliance.services.interfaces.model import Interface, Interfaces
from appliance.services.interfaces.paths import PATH_SHIFT, paths

MAIN_TABLE = 254
#: routing table of public path N is this plus N
PATH_TABLE = 100
#: policy rules of ours have priorities from here on; rtnetlink's protocol number says that a route or rule is ours
RULE_PRIORITY = 1000
PROTOCOL = 217
#: source ports of the appliance's own connections, first and last; what it translates for others keeps out of them
OWN_PORTS = (32768, 60999)

#: RFC 3927: addresses that mean something else on each link, so that nobody is told of them
LOCAL = IPv4Network("169.254.0.0/16")
_EVERYWHERE = IPv4Network("0.0.0.0/0")


@dataclass(frozen=True, order=True)
class RouteEntry:
    """A route. ``source`` is the preferred source address of the router's own packets."""

    table: int
    destination: IPv4Network
    gateway: IPv4Address
    #: interface; "" lets the kernel find it by the gateway
    interface: str = ""
    source: IPv4Address | None = None


@dataclass(frozen=True, order=True)
class RuleEntry:
    """A policy rule: packets from ``source`` or with ``mark`` look ``table`` up."""

    priority: int
    table: int
    source: IPv4Address | None = None
    mark: int = 0
    #: pass over the table's default route
    specific_only: bool = False


@dataclass(frozen=True)
class Plan:
    """Everything below the firewall. ``links`` are the NICs that are ours to set up: all but control."""

    links: tuple[Interface, ...]
    #: by interface name, in order: the first of a subnet is its primary address
    addresses: dict[str, tuple[IPv4Interface, ...]]
    routes: frozenset[RouteEntry]
    rules: frozenset[RuleEntry]
    #: path below /proc/sys -> value
    sysctls: dict[str, str]


def plan(
    interfaces: Interfaces, further: Mapping[str, IPv4Interface] = MappingProxyType({}), *, forward: bool = False
) -> Plan:
    """``further``: interface name -> an address that it holds too. ``forward``: packets pass through the appliance.

    The standby router of a redundant pair has its links up, and no address, route or rule.
    """
    links = tuple(nic for nic in interfaces.interfaces if nic.role != "control")
    standby = interfaces.redundancy is not None and interfaces.redundancy.state == "standby"
    if standby:
        return Plan(links, {nic.name: () for nic in links}, frozenset(), frozenset(), _sysctls(links, forward))
    return Plan(
        links,
        {nic.name: nic.addresses + ((further[nic.name],) if nic.name in further else ()) for nic in links},
        _routes(interfaces),
        _rules(interfaces),
        _sysctls(links, forward),
    )


def _routes(interfaces: Interfaces) -> frozenset[RouteEntry]:
    routes = {RouteEntry(MAIN_TABLE, route.destination, route.gateway) for route in interfaces.routes}
    numbers = paths(interfaces)
    for nic in interfaces.of_role("public"):
        if nic.gateway is not None:
            number = numbers[nic.name]
            table = PATH_TABLE + number if number else MAIN_TABLE
            routes.add(RouteEntry(table, _EVERYWHERE, nic.gateway, nic.name, nic.addresses[0].ip))
    if not numbers:
        outward = next((nic for nic in interfaces.of_role("guest") if nic.gateway is not None), None)
        if outward is not None and outward.gateway is not None:
            routes.add(RouteEntry(MAIN_TABLE, _EVERYWHERE, outward.gateway, outward.name, outward.addresses[0].ip))
    return frozenset(routes)


def _rules(interfaces: Interfaces) -> frozenset[RuleEntry]:
    further = {name: number for name, number in paths(interfaces).items() if number}
    if not further:
        return frozenset()
    rules = {RuleEntry(RULE_PRIORITY, MAIN_TABLE, specific_only=True)}
    for nic in interfaces.of_role("public"):
        if number := further.get(nic.name):
            table = PATH_TABLE + number
            rules.add(RuleEntry(RULE_PRIORITY + 1, table, mark=number << PATH_SHIFT))
            rules |= {RuleEntry(RULE_PRIORITY + 2, table, source=address.ip) for address in nic.addresses}
    return frozenset(rules)


#: on every interface, also those to come
_EVERY = {
    # no redirects: guests and upstream routers cannot change our routes, and hairpin traffic is no mistake
    "accept_redirects": "0",
    "secure_redirects": "0",
    "send_redirects": "0",
    "accept_source_route": "0",
    # with several interfaces: answer ARP only for addresses of the one asked on, ask with an address of it
    "arp_ignore": "1",
    "arp_announce": "2",
}


def _sysctls(links: Collection[Interface], forward: bool) -> dict[str, str]:
    """ip-sysctl and nf_conntrack-sysctl of the kernel's documentation."""
    values = {"net/ipv4/ip_forward": str(int(forward))}
    values["net/ipv4/ip_local_port_range"] = "{}\t{}".format(*OWN_PORTS)
    for where in ("all", "default", *(nic.name for nic in links)):
        values |= {f"net/ipv4/conf/{where}/{key}": value for key, value in _EVERY.items()}
    # a primary address that goes must not take the others of its subnet with it
    values["net/ipv4/conf/all/promote_secondaries"] = "1"
    # the larger of this and the interface's holds
    values["net/ipv4/conf/all/rp_filter"] = "0"
    for nic in links:
        # Rules judge sources where packets are forwarded. Loose elsewhere: with policy routing, replies may leave by an
        # interface that the main table does not say.
        values[f"net/ipv4/conf/{nic.name}/rp_filter"] = "0" if forward else "2"
        values[f"net/ipv6/conf/{nic.name}/disable_ipv6"] = "1"
    # A TCP connection that was cut off (its rule was removed) must not be picked up again in the middle. Liberal about
    # sequence numbers, so that a reordered packet does not make a connection of tenants invalid.
    values["net/netfilter/nf_conntrack_tcp_loose"] = "0"
    values["net/netfilter/nf_conntrack_tcp_be_liberal"] = "1"
    return values


#: of the machine, not of a network namespace: set where this appliance has the machine to itself
MACHINE_SYSCTLS = {
    "net/netfilter/nf_conntrack_max": "262144",
    "net/ipv4/neigh/default/gc_thresh1": "4096",
    "net/ipv4/neigh/default/gc_thresh2": "8192",
    "net/ipv4/neigh/default/gc_thresh3": "16384",
    # a thousand guests that ask for a lease at once: the DHCP server's socket would hold 250 of their packets
    "net/core/rmem_default": "2097152",
}
