"""Complete UDP checksums in DHCP replies, for old guests.

Virtual NICs leave checksums to hardware that does not exist, and DHCP clients that read raw packets (dhclient before
4.2, udhcpc before 1.13) take such replies for damaged. nftables has no statement that fills a checksum in; the
CHECKSUM target of x_tables does (iptables-extensions(8)).

iptables makes a chain with just that, in a table that must have the name ``mangle``. What jumps there is ours: its own
chains count packets, and those of the legacy table are passed by everything that goes through the router.
"""

from __future__ import annotations

import logging

from appliance.errors import CommandError
from appliance.netfilter import libnftables
from appliance.run import run

log = logging.getLogger(__name__)

_RESTORE = ("iptables-nft-restore", "--noflush")
_CHAIN = "*mangle\n:dhcp -\n-A dhcp -j CHECKSUM --checksum-fill\nCOMMIT\n"
_REMOVAL = "add table ip mangle\ndelete table ip mangle\n"
# What the router sends to the port of DHCP clients is a reply to one, whatever interface it leaves by.
_HOOK = (
    "add chain ip mangle output { type filter hook output priority mangle; policy accept; }\n"
    "add rule ip mangle output udp dport 68 jump dhcp\n"
)


def fill(*, served: bool) -> bool:
    """Have DHCP replies sent with complete checksums while DHCP is ``served``; whether they are now.

    A kernel without the CHECKSUM target is no reason to serve no DHCP: that is logged.
    """
    try:
        libnftables.run(_REMOVAL)
        if served:
            run(_RESTORE, stdin=_CHAIN)
            libnftables.run(_HOOK)
    except (CommandError, libnftables.NftError) as error:
        log.warning("DHCP replies keep their partial checksums: %s", error)
        return False
    return served


def filled() -> bool:
    """Whether DHCP replies are sent with complete checksums."""
    try:
        return "jump dhcp" in libnftables.run("list chain ip mangle output\n")
    except libnftables.NftError:
        return False
