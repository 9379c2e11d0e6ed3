"""From ports to the host's nftables table (bridge family, nft(8)). Pure.

Deny first: an interface named like an instance's port that the maps do not know sends and receives nothing, so a
port is filtered from the moment it exists. What costs grows with nothing: each packet is looked up by its port in hash
maps.

From a guest's port comes only

* ARP (RFC 826) with the port's MAC, in the frame and in the message, and one of its addresses; probes (RFC 5227) too;
* IPv4 from the port's MAC and one of its addresses;
* a DHCP client's requests for that MAC, also from 0.0.0.0. What a DHCP server sends is dropped, to any port.

Everything else is dropped: IPv6 with its router advertisements (guests have none), VLAN tags, other protocols.
To a guest's port goes ARP and IPv4. On ports with security groups packets of known connections pass (``tracking``), and
what begins one must pass the sender's egress and the receiver's ingress (``groups``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from appliance.netfilter.ruleset import Ruleset, Set
from controlplane.hypervisors.policy import Policy
from controlplane.hypervisors.portfilter import groups, tracking
from controlplane.hypervisors.portfilter.groups import Membership
from controlplane.hypervisors.portfilter.model import Port
from controlplane.hypervisors.portfilter.tracking import Tracking

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
    "beside_ip": "",
    "invalid": "",
    "ingress": "",
}

_ARP = "arp htype 1 arp ptype ip arp hlen 6 arp plen 4"

#: chain -> rules. Field chaddr of a DHCP message (RFC 2131) begins 28 bytes behind the UDP header.
_RULES = {
    "prerouting": ("iifname vmap @senders", f'iifname "{PREFIX}*" drop'),
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
    "beside_ip": ("oifname != @guests accept", "ether type arp accept", "drop"),
    "invalid": ("iifname @secured drop", "oifname @secured drop", "accept"),
    "ingress": ("oifname vmap @ingress", "accept"),
}


def _forward(tracking_way: Tracking) -> tuple[str, ...]:
    return (
        f'oifname "{PREFIX}*" oifname != @ports drop',
        "ether type != ip goto beside_ip",
        *tracking.GATES[tracking_way],
        "iifname vmap @egress",
        "goto ingress",
    )


def rulesets(
    ports: Mapping[str, Port],
    membership: Membership | None = None,
    policy: Policy | None = None,
    *,
    way: Tracking = "none",
    zones: Mapping[str, int] | None = None,
) -> list[Ruleset]:
    """The tables for ``ports`` (interface name -> port), the filter's own one last.

    ``membership``: secured port -> its groups. ``way``: how connections are tracked on bridges with secured ports,
    ``zones``: their conntrack zones.
    """
    guests = {name: port for name, port in ports.items() if not port.trusted}
    secured = {name: groups for name, groups in (membership or {}).items() if name in guests}
    grouped = groups.ruleset(secured, policy or Policy())
    bridges = sorted({port.bridge for port in guests.values()})
    zoned = tracking.zones_of(zones or {}, bridges, "meta ibrname") if way == "bridge" else Ruleset()
    rules = {**_RULES, "forward": _forward(way)}
    own = Ruleset(
        table=TABLE,
        chains={**_CHAINS, **zoned.chains, **grouped.chains},
        rules={
            **{chain: tuple(enumerate(some)) for chain, some in rules.items()},
            **zoned.rules,
            **grouped.rules,
        },
        sets={
            "senders": Set(
                "type ifname : verdict;",
                {f'"{name}"': "accept" if port.trusted else "goto from_guest" for name, port in ports.items()},
                is_map=True,
            ),
            "ports": _names(ports),
            "guests": _names(guests),
            "secured": _names(secured),
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
            **zoned.sets,
            **grouped.sets,
        },
    )
    return [tracking.states(zones or {}, bridges), own] if way == "marked" else [own]


def _names(ports: Iterable[str]) -> Set:
    return Set("type ifname;", {f'"{name}"': "" for name in ports})
