"""Ruleset of the interfaces: which interfaces and addresses there are, no spoofed sources, paths of public traffic.

Sets for the rules of other services: ``guest_interfaces``, ``public_interfaces`` (ifname), ``public_addresses``
(ipv4_addr), ``guest_subnets`` (ipv4_addr, interval).

With several public interfaces a connection keeps to one of them: the one it came in by, or the one that has the
address its guest is translated to. The top byte of the connection mark says which (0: the default route).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, collapse_addresses

from appliance.netfilter.base import ADMISSION, RAW_PREROUTING
from appliance.netfilter.ruleset import Ruleset, Set
from appliance.services.interfaces.model import GROUPS, Interface, Interfaces
from appliance.services.interfaces.paths import PATH_MASK, PATH_SHIFT, paths
from appliance.services.interfaces.render import names
from appliance.services.interfaces.render import render as public_side
from router.services.nat.model import Nat

METADATA_ADDRESS = IPv4Interface("169.254.169.254/32")


def subnets(nic: Interface) -> list[IPv4Network]:
    """The interface's subnets without overlaps, as interval sets must have them."""
    return list(collapse_addresses(nic.subnets))


def one_of(items: Iterable[object]) -> str:
    """What a field is compared with: one value costs less than a look-up."""
    texts = [str(item) for item in items]
    return texts[0] if len(texts) == 1 else f"{{ {', '.join(texts)} }}"


def way(nic: Interface, of_role: Sequence[Interface]) -> str:
    """What a packet's interface is compared with, but for the direction: the group where that means just ``nic``."""
    return f"ifgroup {GROUPS[nic.role]}" if len(of_role) == 1 else f'ifname "{nic.name}"'


def render(interfaces: Interfaces, nat: Nat | None) -> Ruleset:
    """The contribution of the interfaces section."""
    guests, publics = interfaces.of_role("guest"), interfaces.of_role("public")
    chains = {f"source_{nic.name}": "" for nic in guests}
    rules: dict[str, tuple[tuple[int, str], ...]] = {
        # where the gateway is another machine, replies from outside arrive here too: new connections alone are judged
        RAW_PREROUTING: tuple(
            (110, f"i{way(nic, guests)} jump source_{nic.name}") for nic in guests if nic.gateway is None
        ),
        ADMISSION: (
            (100, "iifname @public_interfaces ip saddr @guest_subnets drop"),
            *((110, f'iifname "{nic.name}" jump source_{nic.name}') for nic in guests if nic.gateway is not None),
        ),
    }
    rules |= {f"source_{nic.name}": _source_guard(nic) for nic in guests}
    sets = {
        "guest_interfaces": Set("type ifname;", names(guests)),
        **public_side(interfaces).sets,
        "guest_subnets": Set(
            "type ipv4_addr; flags interval;", {str(subnet): "" for nic in guests for subnet in subnets(nic)}
        ),
    }
    further = {name: number << PATH_SHIFT for name, number in paths(interfaces).items() if number}
    if further:
        by_address = {address.ip: further.get(nic.name, 0) for nic in publics for address in nic.addresses}
        static = [(str(one.guest), one.address) for one in nat.static] if nat else []
        source = (
            [(subnet, one.address) for one in nat.source for subnet in _subnets_of(guests, one.interface)]
            if nat
            else []
        )
        chains["public_paths"] = "type filter hook prerouting priority mangle; policy accept;"
        rules["public_paths"] = (
            (200, "iifname @public_interfaces ct state new ct mark set iifname map @path_of_interface"),
            (210, "iifname @guest_interfaces ct state new ct mark set ip saddr map @path_of_subnet"),
            (220, "iifname @guest_interfaces ct state new ct mark set ip saddr map @path_of_guest"),
            (230, f"iifname @guest_interfaces meta mark set ct mark & {PATH_MASK:#x}"),
        )
        sets |= {
            "path_of_interface": Set(
                "type ifname : mark;",
                {f'"{nic.name}"': f"{further.get(nic.name, 0):#x}" for nic in publics},
                is_map=True,
            ),
            "path_of_guest": Set("type ipv4_addr : mark;", _marks(static, by_address), is_map=True),
            "path_of_subnet": Set("type ipv4_addr : mark; flags interval;", _marks(source, by_address), is_map=True),
        }
    return Ruleset(chains=chains, rules=rules, sets=sets)


def _source_guard(nic: Interface) -> tuple[tuple[int, str], ...]:
    own = one_of(subnets(nic))
    return (
        *(((100, f"ip saddr {own} return"),) if nic.subnets else ()),
        # a DHCP client has no address yet (RFC 2131, 4.1)
        (110, "ip saddr 0.0.0.0 udp sport 68 udp dport 67 return"),
        (120, "drop"),
    )


def _subnets_of(guests: Iterable[Interface], name: str) -> list[str]:
    return [str(subnet) for nic in guests if nic.name == name for subnet in subnets(nic)]


def _marks(translated: Iterable[tuple[str, IPv4Address]], by_address: dict[IPv4Address, int]) -> dict[str, str]:
    return {source: f"{by_address.get(address, 0):#x}" for source, address in translated}
