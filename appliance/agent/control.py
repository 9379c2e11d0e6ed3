"""The control interface, before there is any document: found by its MAC, named, addressed, up (netdevice(7))."""

from __future__ import annotations

import fcntl
import socket
import struct
import time
from ipaddress import IPv4Interface

from appliance.errors import ApplyError
from appliance.schema.envelope import ControlInterface

# linux/sockios.h, linux/if.h
_GET_FLAGS, _SET_FLAGS, _GET_ADDRESS, _SET_ADDRESS = 0x8913, 0x8914, 0x8915, 0x8916
_GET_MASK, _SET_MASK, _SET_NAME, _GET_HARDWARE = 0x891B, 0x891C, 0x8923, 0x8927
_UP = 0x1


def set_up(control: ControlInterface, patience: float = 10.0) -> None:
    """Make the interface ready and loopback too; what is right already is left alone.

    ``patience`` is how many seconds the NIC may take to appear. Raises ApplyError and OSError.
    """
    wanted = IPv4Interface(control.address)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        _up(handle, "lo")
        deadline = time.monotonic() + patience
        while (name := _find(handle, control.mac.lower())) is None:
            if time.monotonic() > deadline:
                raise ApplyError(f"no interface has the MAC {control.mac}; check the NICs of this appliance")
            time.sleep(0.05)
        if name != control.name:
            _rename(handle, name, control.name)
        if _address(handle, control.name, _GET_ADDRESS) != wanted.ip.packed:
            _call(handle, _SET_ADDRESS, control.name, _sockaddr(wanted.ip.packed))
        if _address(handle, control.name, _GET_MASK) != wanted.netmask.packed:
            _call(handle, _SET_MASK, control.name, _sockaddr(wanted.netmask.packed))
        _up(handle, control.name)


def _call(handle: socket.socket, request: int, name: str, argument: bytes = b"") -> bytes:
    """ioctl(2) with a struct ifreq: 16 bytes of name, 24 of argument; returns the argument."""
    return fcntl.ioctl(handle, request, struct.pack("16s24s", name.encode(), argument))[16:]


def _find(handle: socket.socket, mac: str) -> str | None:
    for _, name in socket.if_nameindex():
        if _call(handle, _GET_HARDWARE, name)[2:8].hex(":") == mac:
            return name
    return None


def _rename(handle: socket.socket, old: str, new: str) -> None:
    if new in (name for _, name in socket.if_nameindex()):
        # another NIC has that name by chance of discovery; the interfaces service names it in its turn
        index = socket.if_nametoindex(new)
        _rename(handle, new, f"was{index}")
    _flags(handle, old, 0, _UP)
    _call(handle, _SET_NAME, old, new.encode())


def _up(handle: socket.socket, name: str) -> None:
    _flags(handle, name, _UP, 0)


def _flags(handle: socket.socket, name: str, put: int, take: int) -> None:
    now = struct.unpack_from("=H", _call(handle, _GET_FLAGS, name))[0]
    wanted = (now | put) & ~take
    if wanted != now:
        _call(handle, _SET_FLAGS, name, struct.pack("=H", wanted))


def _sockaddr(address: bytes) -> bytes:
    return struct.pack("=HH4s8x", socket.AF_INET, 0, address)


def _address(handle: socket.socket, name: str, request: int) -> bytes | None:
    try:
        return _call(handle, request, name)[4:8]
    except OSError:  # EADDRNOTAVAIL: it has none
        return None
