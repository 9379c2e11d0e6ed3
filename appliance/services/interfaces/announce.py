"""Gratuitous ARP (RFC 5227, section 3): tell the neighbours at once that an address is here now."""

from __future__ import annotations

import socket
import struct
from ipaddress import IPv4Address

_ETH_P_ARP = 0x0806
_BROADCAST = b"\xff" * 6


def announce(interface: str, address: IPv4Address) -> None:
    """Broadcast two ARP announcements of ``address``: a request and a reply, as hosts differ in which they believe.

    Raises OSError.
    """
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ARP)) as link:
        link.bind((interface, 0))
        mac: bytes = link.getsockname()[4]
        for operation, target in ((1, b"\0" * 6), (2, mac)):
            ethernet = _BROADCAST + mac + struct.pack("!H", _ETH_P_ARP)
            arp = struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, operation, mac, address.packed, target, address.packed)
            link.send(ethernet + arp)
