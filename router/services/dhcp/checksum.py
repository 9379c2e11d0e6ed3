"""Complete UDP checksums in DHCP replies, for old guests.

Virtual NICs leave checksums to hardware that does not exist, and DHCP clients that read raw packets (dhclient before
4.2, udhcpc before 1.13) take such replies for damaged. nftables has no statement that fills a checksum in; the
CHECKSUM target of x_tables does (iptables-extensions(8)).

It is in the one chain of the router's own packets, by nf_tables: the legacy table would have every packet through the
router pass its five chains.
"""

from __future__ import annotations

import logging

from appliance.run import run

log = logging.getLogger(__name__)

RESTORE = "iptables-nft-restore"


def rules(*, served: bool) -> str:
    """The whole mangle table, which nothing else in an appliance uses (iptables-restore(8)).

    It names no interface: what the router sends to the port of DHCP clients is a reply to one.
    """
    fill = ["-A OUTPUT -p udp --dport 68 -j CHECKSUM --checksum-fill"] if served else []
    # naming the chain empties it
    return "\n".join(("*mangle", ":OUTPUT ACCEPT", *fill, "COMMIT", ""))


def fill(*, served: bool) -> None:
    """Have DHCP replies sent with complete checksums while DHCP is ``served``.

    A kernel without the CHECKSUM target is no reason to serve no DHCP: that is logged.
    """
    done = run([RESTORE], stdin=rules(served=served), check=False)
    if done.returncode != 0:
        log.warning("DHCP replies keep their partial checksums: %s", done.stderr.strip())
