"""dnsmasq's leases: read from its file, given back in the name of guests that are gone."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

_SERVER_PORT = 67
_BOOTREQUEST, _ETHERNET, _RELEASE = 1, 1, 7
_MAGIC = b"\x63\x82\x53\x63"
#: <sys/inotify.h>
_IN_MODIFY = 0x2


@dataclass(frozen=True)
class Lease:
    mac: str
    address: IPv4Address


def read(path: Path) -> tuple[Lease, ...]:
    """Leases in a dnsmasq lease file (``expiry mac address name client-id`` lines); none when there is no file."""
    try:
        lines = path.read_text("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return ()
    found = []
    for line in lines:
        fields = line.split()
        # a line being written, or one of DHCPv6, is not ours
        if len(fields) == 5 and fields[1].count(":") == 5:
            found.append(Lease(fields[1], IPv4Address(fields[2])))
    return tuple(found)


def read_whole(path: Path, meet: Callable[[], bool]) -> tuple[Lease, ...] | None:
    """Leases in a file that dnsmasq may be writing: it empties the file and fills it again for each lease.

    ``meet`` has dnsmasq answer something, which it does not do while it writes. Nothing written from before that
    until after the reading means that what was read is whole; None when it may not be, or ``meet`` says no.
    """
    try:
        with _watched(path) as written:
            found = read(path) if meet() else None
            return None if written() else found
    except FileNotFoundError:
        return ()


@contextmanager
def _watched(path: Path) -> Iterator[Callable[[], bool]]:
    """Whether the file was written to since: inotify(7), as time stamps are too coarse. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    events = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if events < 0:
        raise OSError(ctypes.get_errno(), "inotify_init1")
    try:
        if libc.inotify_add_watch(events, os.fsencode(path), _IN_MODIFY) < 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), str(path))

        def written() -> bool:
            try:
                return bool(os.read(events, 4096))
            except BlockingIOError:
                return False

        yield written
    finally:
        os.close(events)


def release_packet(lease: Lease, server: IPv4Address) -> bytes:
    """A DHCPRELEASE (RFC 2131 sections 2 and 4.4.6, table 5) as the guest itself would send it.

    Without a client identifier (option 61), for which dnsmasq falls back to the hardware address.
    """
    mac = bytes.fromhex(lease.mac.replace(":", ""))
    header = struct.pack("!4B4s2H", _BOOTREQUEST, _ETHERNET, len(mac), 0, os.urandom(4), 0, 0)
    header += lease.address.packed + bytes(12) + mac.ljust(16, b"\0") + bytes(64 + 128)
    options = bytes([53, 1, _RELEASE, 54, 4]) + server.packed + b"\xff"
    # BOOTP's minimum of 300 octets
    return (header + _MAGIC + options).ljust(300, b"\0")


def release(lease: Lease, interface: str, server: IPv4Address) -> None:
    """Have the DHCP server at ``server``, an address of our own on ``interface``, forget ``lease`` at once.

    Raises OSError when the interface or the address is not there.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sending:
        sending.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        sending.sendto(release_packet(lease, server), (str(server), _SERVER_PORT))
