"""Counters as elements of sets: one look-up a packet and direction, however many addresses there are.

Counted is what the firewall let pass, in bytes of the IP packets. A public address counts what crosses a public
interface, the router's own traffic included: inward by the address the connection has on the outside, which the
connection knows, since by then the packet itself is translated; outward after source NAT. A guest counts what the
router forwards from and to it, an address inside a VPN likewise.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address

from appliance.netfilter.ruleset import Ruleset, Set
from appliance.services.interfaces.model import Interfaces
from router.services.accounting.model import Accounting
from router.services.dhcp.model import Dhcp


def render(accounting: Accounting, interfaces: Interfaces, dhcp: Dhcp | None) -> Ruleset:
    """The contribution of the accounting section."""
    forward: list[tuple[int, str]] = []
    chains: dict[str, str] = {}
    rules: dict[str, tuple[tuple[int, str], ...]] = {}
    sets: dict[str, Set] = {}
    if accounting.public:
        inward = (
            (200, "iifname @public_interfaces ct direction original ct original ip daddr @account_public_in"),
            (200, "iifname @public_interfaces ct direction reply ct reply ip daddr @account_public_in"),
        )
        forward += inward
        chains["account_input"] = "type filter hook input priority filter + 10; policy accept;"
        chains["account_postrouting"] = "type filter hook postrouting priority srcnat + 10; policy accept;"
        rules["account_input"] = inward
        rules["account_postrouting"] = ((200, "oifname @public_interfaces ip saddr @account_public_out"),)
        for name in ("account_public_in", "account_public_out"):
            sets[name] = _counted(interfaces.public_addresses())
    if accounting.guests:
        forward.append((210, "iifname @guest_interfaces ip saddr @account_guest_out"))
        forward.append((210, "oifname @guest_interfaces ip daddr @account_guest_in"))
        for name in ("account_guest_in", "account_guest_out"):
            sets[name] = _counted(host.address for host in dhcp.hosts) if dhcp else _counted(())
    if accounting.vpn:
        # whatever interface a tunnel's packets seem to come by once they are decrypted
        forward.append((220, "ip saddr @account_vpn_out"))
        forward.append((220, "ip daddr @account_vpn_in"))
        for name in ("account_vpn_in", "account_vpn_out"):
            sets[name] = _counted(subject.address for subject in accounting.vpn)
    if forward:
        chains["account_forward"] = "type filter hook forward priority filter + 10; policy accept;"
        rules["account_forward"] = tuple(forward)
    return Ruleset(chains=chains, rules=rules, sets=sets)


def _counted(addresses: Iterable[IPv4Address]) -> Set:
    return Set("type ipv4_addr;", {str(address): "" for address in addresses}, counted=True)
