"""What clients of remote access may reach, and what tells L2TP clients behind one NAT apart.

A client sends to its guest networks, asks the resolver and pings it; nothing else, and nothing on its own account
comes to it.

Of L2TP the outermost layer is IPsec: a packet to UDP port 1701 counts only when it came by a security association, and
none leaves without one. Clients behind one NAT may all use the same port, so that after decryption their packets look
the same. charon gives each a packet mark; here it chooses the zone of connection tracking in which the client's
direction is. Answers have no zone, so the kernel gives each client a port of its own as xl2tpd sees it (nf_nat), and
by that an answer finds the connection, its mark, and with it the security association. strongSwan's connmark plugin
does not get that far, and needs iptables.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network, collapse_addresses, summarize_address_range

from appliance.netfilter.base import ACCEPT, FORWARD, INPUT
from appliance.netfilter.ruleset import Ruleset, Set
from router.services.vpn.plane import INTERFACE
from router.services.vpn.remote.model import RemoteAccess

#: bytes of a packet inside L2TP: room for PPP, L2TP, UDP and ESP in UDP
L2TP_MTU = 1410


def client_networks(access: RemoteAccess) -> list[IPv4Network]:
    """The clients' range as networks."""
    return list(summarize_address_range(access.clients.first, access.clients.last))


def ruleset(remote: Sequence[RemoteAccess], *, l2tp: Sequence[RemoteAccess]) -> Ruleset:
    """Rules for all clients; ``l2tp``: where L2TP is served."""
    inner = f'iifname {{ "{INTERFACE}", "ppp*" }} ip saddr @vpn_clients'
    rules: dict[str, tuple[tuple[int, str], ...]] = {
        INPUT: (
            (300, f"{inner} ip daddr @vpn_resolvers meta l4proto {{ tcp, udp }} th dport 53 {ACCEPT}"),
            (300, f"{inner} ip daddr @vpn_resolvers icmp type echo-request {ACCEPT}"),
        ),
        FORWARD: ((300, f"{inner} oifname @guest_interfaces ip daddr @vpn_client_targets accept"),),
        # what is meant for a client that has gone must not leave in the clear
        "vpn_forward": ((150, "oifname @public_interfaces ip daddr @vpn_clients drop"),),
    }
    chains: dict[str, str] = {}
    if l2tp:
        secured = "meta secpath exists udp dport 1701 ip daddr @vpn_l2tp"
        clamp = f"tcp flags syn / syn,rst tcp option maxseg size set {L2TP_MTU - 40}"
        rules[INPUT] += (
            (300, f"{secured} {ACCEPT}"),
            # DHCPINFORM, by which Windows and macOS ask for routes
            (300, f'iifname "ppp*" ip saddr @vpn_clients udp dport 67 {ACCEPT}'),
        )
        rules["ingress_services"] = ((300, f"{secured} accept"),)
        # before connection tracking; a zone is a number of 16 bits, and 0 is the one of all else
        rules["raw_prerouting"] = (
            # IPsec holds a client of IKEv2 to its address, PPP does not
            (150, 'iifname "ppp*" fib saddr . iif oif missing drop'),
            (200, f"{secured} ct original zone set jhash meta mark mod 65535 offset 1"),
        )
        rules["vpn_forward"] += ((200, f'oifname "ppp*" {clamp}'), (200, f'iifname "ppp*" {clamp}'))
        chains = {
            "vpn_l2tp_input": "type filter hook input priority mangle; policy accept;",
            "vpn_l2tp_nat": "type nat hook input priority 100; policy accept;",
            "vpn_l2tp_output": "type route hook output priority mangle; policy accept;",
            "vpn_l2tp_end": "type filter hook postrouting priority 300; policy accept;",
        }
        answer = "udp sport 1701 ip saddr @vpn_l2tp"
        rules["vpn_l2tp_input"] = ((300, f"{secured} ct mark set meta mark"),)
        rules["vpn_l2tp_output"] = ((300, f"{answer} meta mark set ct mark"),)
        rules["vpn_l2tp_end"] = ((300, f"{answer} rt ipsec missing drop"),)
    return Ruleset(
        chains=chains,
        rules=rules,
        sets={
            "vpn_clients": _networks([network for one in remote for network in client_networks(one)]),
            "vpn_client_targets": _networks([network for one in remote for network in one.networks]),
            "vpn_resolvers": Set("type ipv4_addr;", {str(one.dns): "" for one in remote}),
            **({"vpn_l2tp": Set("type ipv4_addr;", {str(one.address): "" for one in l2tp})} if l2tp else {}),
        },
    )


def _networks(networks: Sequence[IPv4Network]) -> Set:
    return Set("type ipv4_addr; flags interval;", {str(one): "" for one in collapse_addresses(networks)})
