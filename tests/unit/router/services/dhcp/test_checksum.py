from __future__ import annotations

from router.services.dhcp.checksum import rules


def test_one_rule_for_each_interface_in_a_table_of_its_own() -> None:
    assert rules(["eth3", "eth0"]) == (
        "*mangle\n"
        "-A POSTROUTING -o eth0 -p udp --dport 68 -j CHECKSUM --checksum-fill\n"
        "-A POSTROUTING -o eth3 -p udp --dport 68 -j CHECKSUM --checksum-fill\n"
        "COMMIT\n"
    )


def test_no_interface_empties_the_table() -> None:
    assert rules([]) == "*mangle\nCOMMIT\n"
