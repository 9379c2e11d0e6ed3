"""Counters as elements of sets: one look-up a packet and address, however many addresses there are.

Counted is what the firewall let pass, in bytes of the IP packets. A public address counts what crosses a public
interface, the router's own traffic included; a guest what it exchanges with the router or through it; a network
behind a VPN what the router forwards from and to it.

Packets are counted where they leave, or where the router lets them in. Those that leave are translated by then, so the
address that one came for from outside and the guest that one came from are those of its connection; those that end in
the router bear them still. There is one chain for what leaves and none for what ends here, because each base chain that
a packet passes costs as much as some look-ups; for the same reason interfaces are told by the group of their role.

Sets that count have no intervals (``appliance.netfilter.ruleset.Set``), so networks have one for each length of prefix.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network

from appliance.netfilter.base import ACCEPTED
from appliance.netfilter.ruleset import Ruleset, Set, roomy
from appliance.services.interfaces.model import GROUPS, Interfaces
from router.services.accounting.model import Accounting
from router.services.accounting.totals import vpn_set
from router.services.dhcp.model import Dhcp


def render(accounting: Accounting, interfaces: Interfaces, dhcp: Dhcp | None) -> Ruleset:
    """The contribution of the accounting section."""
    chains: dict[str, str] = {}
    rules: dict[str, tuple[tuple[int, str], ...]] = {}
    sets: dict[str, Set] = {}
    leaving: list[tuple[int, str]] = []
    came: list[tuple[int, str]] = []
    ended: list[tuple[int, str]] = []
    for counted, role, out, direction, back, addresses in (
        (accounting.public, "public", "saddr", "out", "daddr", interfaces.public_addresses()),
        (accounting.guests, "guest", "daddr", "in", "saddr", [host.address for host in dhcp.hosts] if dhcp else []),
    ):
        nics = interfaces.of_role(role)
        if not counted or not nics:
            continue
        other = "in" if direction == "out" else "out"
        leaving.append((200, f"oifgroup {GROUPS[role]} ip {out} @account_{role}_{direction}"))
        chain = f"account_from_{role}"
        chains[chain] = ""
        rules[chain] = tuple(
            (200 + number, f"ct direction {way} ct {way} ip {back} @account_{role}_{other}")
            for number, way in enumerate(("original", "reply"))
        )
        # false for what the router itself sends, which came by no interface
        came.append((300, f"iifgroup {GROUPS[role]} goto {chain}"))
        ended.append((200, f"iifgroup {GROUPS[role]} ip {back} @account_{role}_{other} accept"))
        for name in ("in", "out"):
            sets[f"account_{role}_{name}"] = _counted(addresses)
    if came:
        chains["account_postrouting"] = "type filter hook postrouting priority srcnat + 10; policy accept;"
        rules["account_postrouting"] = (*leaving, *came)
        rules[ACCEPTED] = tuple(ended)
    if accounting.vpn:
        # before source NAT, and whatever interface a tunnel's packets seem to come by once they are decrypted
        chains["account_forward"] = "type filter hook forward priority filter + 10; policy accept;"
        networks = [network for subject in accounting.vpn for network in subject.networks]
        counting = []
        for length in sorted({network.prefixlen for network in networks}):
            mask = IPv4Network((0, length)).netmask
            for direction, field in (("in", "saddr"), ("out", "daddr")):
                name = vpn_set(length, direction)
                counting.append((200, f"ip {field} & {mask} @{name}"))
                sets[name] = _counted(network.network_address for network in networks if network.prefixlen == length)
        rules["account_forward"] = tuple(counting)
    return Ruleset(chains=chains, rules=rules, sets=sets)


def _counted(addresses: Iterable[IPv4Address]) -> Set:
    elements = {str(address): "" for address in addresses}
    return Set(f"type ipv4_addr; {roomy(len(elements))}", elements, counted=True)
