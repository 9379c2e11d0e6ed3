"""Frames as an attacker makes them, sent from one machine and heard by another through packet sockets (packet(7)).

Each frame carries its name, so that a listener says which ones it heard.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from tests.netns.lab import Machine
from tests.wait import wait_for

BROADCAST = "ff:ff:ff:ff:ff:ff"
#: where a packet takes up its name; what has no such place has it as padding, which bridges may cut from packets
SLOT = b"name of this frame".ljust(48, b".")

_SEND = """
import socket, sys
sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
sender.bind((sys.argv[1], 0))
for line in sys.stdin:
    sender.send(bytes.fromhex(line.strip()))
"""
_LISTEN = """
import socket, sys
listener = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
listener.bind((sys.argv[1], 3))
print("listening", flush=True)
while True:
    frame, address = listener.recvfrom(4096)
    if address[2] != socket.PACKET_OUTGOING and b"frame<" in frame:
        name = frame.partition(b"frame<")[2].partition(b">")[0]
        print(name.decode(), file=open("/run/heard", "a"), flush=True)
"""


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def ethernet(source: str, destination: str, kind: int, content: bytes) -> bytes:
    return _mac(destination) + _mac(source) + struct.pack("!H", kind) + content


def tagged(frame: bytes, vlan: int) -> bytes:
    """The frame with an 802.1Q tag."""
    return frame[:12] + struct.pack("!HH", 0x8100, vlan) + frame[12:]


def arp(operation: int, sender: tuple[str, str], target: tuple[str, str]) -> bytes:
    """``sender`` and ``target`` are (MAC, address); operation 1 asks, 2 answers (RFC 826)."""
    ends = b"".join(_mac(mac) + socket.inet_aton(address) for mac, address in (sender, target))
    return struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation) + ends


def udp(source: tuple[str, int], destination: tuple[str, int], payload: bytes = b"") -> bytes:
    """An IPv4 packet; without a UDP checksum, as IPv4 allows."""
    header = struct.pack("!HHHH", source[1], destination[1], 8 + len(payload) + len(SLOT), 0)
    return ipv4(17, source[0], destination[0], header + payload)


def ipv4(protocol: int, source: str, destination: str, content: bytes) -> bytes:
    content += SLOT
    fields = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(content), 1, 0, 64, protocol, 0)
    header = fields + socket.inet_aton(source) + socket.inet_aton(destination)
    total = sum(struct.unpack("!10H", header))
    checksum = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    return header[:10] + struct.pack("!H", checksum) + header[12:] + content


def ipv6(next_header: int, content: bytes) -> bytes:
    """From fe80::1 to all nodes."""
    content += SLOT
    source, everybody = (socket.inet_pton(socket.AF_INET6, address) for address in ("fe80::1", "ff02::1"))
    return struct.pack("!IHBB", 6 << 28, len(content), next_header, 255) + source + everybody + content


def dhcp_request(mac: str) -> bytes:
    """A BOOTREQUEST (RFC 2131) for a hardware address: DHCPDISCOVER."""
    fixed = struct.pack("!BBBBIHHIIII", 1, 1, 6, 0, 7, 0, 0, 0, 0, 0, 0)
    return (fixed + _mac(mac)).ljust(236, b"\0") + bytes.fromhex("63825363350101ff")


def send(machine: Machine, frames: Mapping[str, bytes], interface: str = "eth0") -> None:
    """Send named frames in their order."""
    lines = []
    for name, frame in frames.items():
        mark = f"frame<{name}>".encode().ljust(len(SLOT), b"\0")
        lines.append((frame.replace(SLOT, mark) if SLOT in frame else frame + mark).hex())
    machine.run(["/usr/bin/python3", "-c", _SEND, interface], stdin="\n".join(lines))


@contextmanager
def listening(machine: Machine, interface: str = "eth0") -> Iterator[None]:
    """Hear frames meanwhile, see ``heard``."""
    machine.write("/run/heard", "")
    machine.write("/run/listen.py", _LISTEN)
    process = machine.popen(["/usr/bin/python3", "/run/listen.py", interface])
    try:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "listening"
        yield
    finally:
        machine.kill("listen.py")
        process.communicate(timeout=10)


def heard(machine: Machine, last: str) -> list[str]:
    """Names of the frames heard so far, once the one called ``last`` is among them."""

    def complete() -> bool:
        names = machine.read("/run/heard").splitlines()
        assert last in names, names
        return True

    wait_for(complete, 10, f"frame {last!r}")
    return machine.read("/run/heard").splitlines()
