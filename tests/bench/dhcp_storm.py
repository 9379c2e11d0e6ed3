"""Storm of DHCP clients: many machines that all ask for a lease at once, played over one raw socket.

A program of its own, run inside the guests' namespace: ``dhcp_storm.py INTERFACE COUNT [FIRST_MAC [DEADLINE]]``.
Clients have the MACs FIRST_MAC, FIRST_MAC + 1, ...; each goes through DISCOVER, OFFER, REQUEST, ACK and sends again
what is not answered (RFC 2131 section 4.1, with shorter pauses). Prints JSON::

    {"clients", "served", "seconds": until the last ACK, "rate": leases a second, "sent": packets,
     "twice": addresses given to two clients, "refused": NAKs, "addresses": {mac: address}}
"""

from __future__ import annotations

import json
import random
import select
import socket
import struct
import sys
import time
from dataclasses import dataclass
from typing import Any

FIRST_MAC = 0x02_01_00_00_00_00
#: seconds before a packet is sent again, doubled each time and a quarter more or less. Real clients wait for 4 seconds
#: and longer; so long pauses would measure themselves, for most packets of a storm find the server's socket full.
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 0.4
_ETH_P_IP = 0x0800
_SO_RCVBUFFORCE = 33  # <asm-generic/socket.h>
_MAGIC = b"\x63\x82\x53\x63"
_DISCOVER, _OFFER, _REQUEST, _ACK, _NAK = 1, 2, 3, 5, 6


@dataclass
class _Client:
    number: int
    mac: bytes
    #: what it sends until that is answered
    packet: bytes
    pause: float
    due: float
    address: str = ""


def _checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def _frame(mac: bytes, transaction: int, options: bytes) -> bytes:
    """A broadcast Ethernet frame of a client without an address that asks for a broadcast answer."""
    bootp = struct.pack("!4BIHH16s16s192s", 1, 1, 6, 0, transaction, 0, 0x8000, b"", mac, b"")
    payload = (bootp + _MAGIC + options + b"\xff").ljust(300, b"\0")
    # a UDP checksum of 0 means that there is none (RFC 768)
    udp = struct.pack("!4H", 68, 67, 8 + len(payload), 0) + payload
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, bytes(4), b"\xff" * 4)
    head = head[:10] + struct.pack("!H", _checksum(head)) + head[12:]
    return b"\xff" * 6 + mac + struct.pack("!H", _ETH_P_IP) + head + udp


def _answer(frame: bytes) -> tuple[int, int, bytes, bytes] | None:
    """(transaction, message type, offered address, server) of a server's packet to a client."""
    if len(frame) < 14 + 20 + 8 + 240 or frame[23] != 17:
        return None
    udp = frame[14 + (frame[14] & 15) * 4 :]
    if udp[2:4] != b"\0\x44" or udp[8] != 2:
        return None
    bootp = udp[8:]
    kind, server, at = 0, b"", 240
    while at + 1 < len(bootp) and bootp[at] != 255:
        if bootp[at] == 0:
            at += 1
            continue
        value = bootp[at + 2 : at + 2 + bootp[at + 1]]
        if bootp[at] == 53:
            kind = value[0]
        elif bootp[at] == 54:
            server = value
        at += 2 + bootp[at + 1]
    return int.from_bytes(bootp[4:8], "big"), kind, bootp[16:20], server


def storm(interface: str, count: int, first_mac: int = FIRST_MAC, deadline: float = 60.0) -> dict[str, Any]:
    """Play ``count`` clients on ``interface`` until all have a lease or ``deadline`` seconds have passed."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_IP))
    sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 32 << 20)
    sock.bind((interface, 0))
    sock.setblocking(False)
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    base = random.getrandbits(31)
    begin = time.monotonic()
    waiting: dict[int, _Client] = {}
    clients = []
    for number in range(count):
        mac = (first_mac + number).to_bytes(6, "big")
        packet = _frame(mac, base + number, bytes([53, 1, _DISCOVER]))
        clients.append(_Client(number, mac, packet, FIRST_PAUSE, begin))
        waiting[base + number] = clients[-1]
    sent = refused = 0
    last = begin
    while waiting and (now := time.monotonic()) < begin + deadline:
        for client in [client for client in waiting.values() if client.due <= now]:
            try:
                sock.send(client.packet)
            except (BlockingIOError, OSError):
                break  # the interface's queue is full: read, then go on
            sent += 1
            client.due = now + client.pause * random.uniform(0.75, 1.25)
            client.pause = min(LONGEST_PAUSE, 2 * client.pause)
        poll.poll(10)
        while True:
            try:
                frame = sock.recv(2048)
            except BlockingIOError:
                break
            answer = _answer(frame)
            if answer is None or (client := waiting.get(answer[0])) is None:  # type: ignore[assignment]
                continue
            transaction, kind, address, server = answer
            if kind == _OFFER and not client.address:
                client.address = socket.inet_ntoa(address)
                options = bytes([53, 1, _REQUEST, 50, 4]) + address + bytes([54, 4]) + server
                client.packet = _frame(client.mac, transaction, options)
                client.pause, client.due = FIRST_PAUSE, 0.0
            elif kind == _ACK:
                client.address = socket.inet_ntoa(address)
                del waiting[transaction]
                last = time.monotonic()
            elif kind == _NAK:
                refused += 1
                del waiting[transaction]
    served = {client.mac.hex(":"): client.address for client in clients if base + client.number not in waiting}
    seconds = last - begin
    return {
        "clients": count,
        "served": len(served) - refused,
        "seconds": seconds,
        "rate": (len(served) - refused) / seconds if seconds else 0.0,
        "sent": sent,
        "twice": len(served) - len(set(served.values())),
        "refused": refused,
        "addresses": served,
    }


def main() -> None:
    interface, count, *rest = sys.argv[1:]
    first_mac = int(rest[0].replace(":", ""), 16) if rest else FIRST_MAC
    print(json.dumps(storm(interface, int(count), first_mac, float(rest[1]) if len(rest) > 1 else 60.0)))


if __name__ == "__main__":
    main()
