"""Complete UDP checksums in DHCP replies, for old guests.

Virtual NICs leave checksums to hardware that does not exist, and DHCP clients that read raw packets (dhclient before
4.2, udhcpc before 1.13) take such replies for damaged. nftables has no statement that fills a checksum in; the
CHECKSUM target of the legacy x_tables does (iptables-extensions(8)).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from appliance.run import run

log = logging.getLogger(__name__)

RESTORE = "iptables-legacy-restore"


def rules(interfaces: Iterable[str]) -> str:
    """The whole legacy mangle table, which nothing else in an appliance uses (iptables-restore(8))."""
    names = sorted(set(interfaces))
    fill = [f"-A POSTROUTING -o {name} -p udp --dport 68 -j CHECKSUM --checksum-fill" for name in names]
    return "\n".join(("*mangle", *fill, "COMMIT", ""))


def fill(interfaces: Iterable[str]) -> None:
    """Have exactly ``interfaces`` send DHCP replies with complete checksums.

    A kernel without legacy x_tables or the CHECKSUM target is no reason to serve no DHCP: that is logged.
    """
    done = run([RESTORE], stdin=rules(interfaces), check=False)
    if done.returncode != 0:
        log.warning("DHCP replies keep their partial checksums: %s", done.stderr.strip())
