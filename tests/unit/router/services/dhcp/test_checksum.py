from __future__ import annotations

from router.services.dhcp.checksum import rules


def test_one_rule_in_a_chain_of_the_routers_own_packets() -> None:
    assert rules(served=True) == (
        "*mangle\n:OUTPUT ACCEPT\n-A OUTPUT -p udp --dport 68 -j CHECKSUM --checksum-fill\nCOMMIT\n"
    )


def test_without_dhcp_the_chain_is_emptied() -> None:
    assert rules(served=False) == "*mangle\n:OUTPUT ACCEPT\nCOMMIT\n"
