"""From ports to the host's nftables table (bridge family, nft(8)). Pure.

Deny first: an interface named like an instance's port that the maps do not know sends and receives nothing, so a
port is filtered from the moment it exists. What costs grows with nothing: each packet is looked up by its port in hash
maps.

From a guest's port comes only

* ARP (RFC 826) with the port's MAC, in the frame and in the message, and one of its addresses; probes (RFC 5227) too;
* IPv4 from the port's MAC and one of its addresses;
* a DHCP client's requests for that MAC, also from 0.0.0.0. What a DHCP server sends is dropped, to any port.

Everything else is dropped: IPv6 with its router advertisements (guests have none), VLAN tags, other protocols.
To a guest's port goes ARP and IPv4.
"""

from __future__ import annotations

from collections.abc import Mapping

from appliance.netfilter.ruleset import Ruleset, Set
from controlplane.hypervisors.portfilter.model import Port

TABLE = "bridge gatehouse"
#: ports of instances, and nothing else on a host, have names that begin so
PREFIX = "gh"

_CHAINS = {
    # -300: before connection tracking (-200). In prerouting, because the bridge learns a frame's source right after it
    "prerouting": "type filter hook prerouting priority -300; policy accept;",
    "forward": "type filter hook forward priority -200; policy accept;",
    "from_guest": "",
    "arp_from_guest": "",
    "arp_reply_from_guest": "",
    "ip_from_guest": "",
    "to_guest": "",
}

_ARP = "arp htype 1 arp ptype ip arp hlen 6 arp plen 4"

#: chain -> rules. Field chaddr of a DHCP message (RFC 2131) begins 28 bytes behind the UDP header.
_RULES = {
    "prerouting": ("iifname vmap @senders", f'iifname "{PREFIX}*" drop'),
    "forward": ("oifname vmap @receivers", f'oifname "{PREFIX}*" drop'),
    "from_guest": ("ether type vmap { arp : goto arp_from_guest, ip : goto ip_from_guest }", "drop"),
    "arp_from_guest": (
        f"{_ARP} iifname . ether saddr . arp saddr ip @addresses iifname . arp saddr ether . arp saddr ip @addresses "
        "arp operation vmap { request : accept, reply : goto arp_reply_from_guest }",
        "drop",
    ),
    "arp_reply_from_guest": ("arp saddr ip 0.0.0.0 drop", "accept"),
    "ip_from_guest": (
        "iifname . ether saddr . ip saddr != @addresses drop",
        # clients listen on port 68 whatever port a server sends from
        "udp sport 67 drop",
        "udp dport 68 drop",
        "udp dport 67 iifname . @th,288,48 @clients accept",
        "udp dport 67 drop",
        # an address of every port, see addresses
        "ip saddr 0.0.0.0 drop",
        "accept",
    ),
    "to_guest": ("ether type { arp, ip } accept", "drop"),
}


def ruleset(ports: Mapping[str, Port]) -> Ruleset:
    """The whole table for ``ports`` (interface name -> port)."""
    guests = {name: port for name, port in ports.items() if not port.trusted}
    return Ruleset(
        table=TABLE,
        chains=_CHAINS,
        rules={chain: tuple(enumerate(rules)) for chain, rules in _RULES.items()},
        sets={
            "senders": _verdicts(ports, "from_guest"),
            "receivers": _verdicts(ports, "to_guest"),
            # 0.0.0.0 is what a guest without a lease sends from
            "addresses": Set(
                "type ifname . ether_addr . ipv4_addr;",
                {
                    f'"{name}" . {port.mac} . {address}': ""
                    for name, port in guests.items()
                    for address in ("0.0.0.0", *port.addresses)  # noqa: S104  # not to be bound
                },
            ),
            "clients": Set(
                "typeof iifname . @th,288,48;",
                {f'"{name}" . 0x{port.mac.replace(":", "")}': "" for name, port in guests.items()},
            ),
        },
    )


def _verdicts(ports: Mapping[str, Port], chain: str) -> Set:
    verdicts = {f'"{name}"': "accept" if port.trusted else f"goto {chain}" for name, port in ports.items()}
    return Set("type ifname : verdict;", verdicts, is_map=True)
