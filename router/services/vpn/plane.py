"""Where IPsec is done: one decision for the machine, that everything about IPsec on it follows.

With ``KERNEL`` the kernel encrypts (XFRM), in ESP or, where a NAT is on the way, in ESP in UDP. Tunnels go by an xfrm
interface: a packet belongs to them by its route, as by a tun device. Transport mode works.

With ``USERSPACE`` charon encrypts behind a tun device (strongSwan's kernel-libipsec), in UDP always and in tunnel mode
only. That needs nothing of the kernel but tun devices.

Either way the tunnels' interface is called ``INTERFACE``, so that rules about it are the same.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Literal

from appliance.errors import CommandError
from appliance.run import run

#: the interface of all tunnels
INTERFACE = "ipsec0"
#: joins security associations to the xfrm interface (ip-link(8), "if_id")
IF_ID = 217
#: bytes of a packet inside: room for ESP in UDP with the longest checksum; kernel-libipsec has the same fixed
MTU = 1400


@dataclass(frozen=True)
class Plane:
    """One of the ways. ``plugins`` of charon do ESP; ``kernel``: protocol 50 and transport mode work."""

    name: Literal["kernel", "userspace"]
    plugins: str
    kernel: bool


KERNEL = Plane("kernel", "kernel-netlink", kernel=True)
#: kernel-netlink does routes and addresses
USERSPACE = Plane("userspace", "kernel-libipsec kernel-netlink", kernel=False)

#: an id of its own: there can be one interface only with each, and an agent that starts again finds the tunnels'
_TRIAL, _TRIAL_ID = "ipsec-trial", IF_ID + 1
_ENDS = ("src", "127.0.0.1", "dst", "127.0.0.1", "proto", "esp", "spi", "0x100")
_KEYS = ("auth-trunc", "hmac(sha256)", f"0x{'00' * 32}", "128", "enc", "cbc(aes)", f"0x{'00' * 16}")


@cache
def detect() -> Plane:
    """Try what the kernel plane needs: an xfrm interface and a security association.

    The kernel loads its modules by that where it has them; their names or its version would not tell whether it may.
    """
    # an agent that was killed meanwhile left them, and "exists" would be taken for "cannot"
    for left in (["link", "delete", "dev", _TRIAL], ["xfrm", "state", "delete", *_ENDS]):
        with suppress(CommandError):
            run(["ip", *left])
    try:
        run(["ip", "link", "add", "name", _TRIAL, "type", "xfrm", "if_id", str(_TRIAL_ID)])
        try:
            run(["ip", "xfrm", "state", "add", *_ENDS, "mode", "tunnel", "if_id", str(_TRIAL_ID), *_KEYS])
            run(["ip", "xfrm", "state", "delete", *_ENDS])
        finally:
            run(["ip", "link", "delete", "dev", _TRIAL])
    except CommandError:
        return USERSPACE
    return KERNEL
