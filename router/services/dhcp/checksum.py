"""Complete UDP checksums in DHCP replies, for old guests: ``python -m router.services.dhcp.checksum [INTERFACE...]``.

Virtual NICs leave checksums to hardware that does not exist, and DHCP clients that read raw packets (dhclient before
4.2, udhcpc before 1.13) take such replies for damaged. nftables has no statement that fills a checksum in; the
CHECKSUM target of the legacy x_tables does (iptables-extensions(8)), here through python-iptables.

A process of its own, run to its end, because the library takes some 20 MB that the agent would keep.
Exit status: 0 done, 69 (EX_UNAVAILABLE) where the kernel has no legacy x_tables or no CHECKSUM target.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

UNAVAILABLE = 69
TABLE, CHAIN, CLIENT_PORT = "mangle", "POSTROUTING", "68"


def fill(interfaces: Iterable[str]) -> None:
    """Have exactly ``interfaces`` send DHCP replies with complete checksums. Raises iptc.IPTCError."""
    import iptc

    wanted = set(interfaces)
    table = iptc.Table(TABLE)
    # all changes in one commit: a second one of the same table fails with EAGAIN
    table.autocommit = False
    chain = iptc.Chain(table, CHAIN)
    for rule in chain.rules:
        if rule.target.name == "CHECKSUM":
            if rule.out_interface in wanted:
                wanted.discard(rule.out_interface)
            else:
                chain.delete_rule(rule)
    for interface in sorted(wanted):
        rule = iptc.Rule()
        rule.out_interface, rule.protocol = interface, "udp"
        rule.create_match("udp").dport = CLIENT_PORT
        rule.create_target("CHECKSUM").checksum_fill = ""
        chain.append_rule(rule)
    table.commit()


def main(interfaces: list[str]) -> int:
    import iptc

    try:
        fill(interfaces)
    except (iptc.IPTCError, iptc.XTablesError) as error:
        print(f"checksum: {error}", file=sys.stderr)
        return UNAVAILABLE
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
