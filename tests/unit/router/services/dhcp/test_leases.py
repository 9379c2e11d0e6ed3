from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path

from router.services.dhcp.leases import Lease, read, read_whole, release_packet

TEXT = """\
1795417841 02:00:0a:01:01:0a 10.1.1.10 vm1 01:02:00:0a:01:01:0a
1795417841 02:00:0a:01:01:0b 10.1.1.11 * *
duid 00:01:00:01
1795417841 02:00:0a:01
"""
LEASES = (
    Lease("02:00:0a:01:01:0a", IPv4Address("10.1.1.10")),
    Lease("02:00:0a:01:01:0b", IPv4Address("10.1.1.11")),
)


def test_read(tmp_path: Path) -> None:
    file = tmp_path / "leases"
    file.write_text(TEXT)
    assert read(file) == LEASES
    assert read(tmp_path / "none") == ()


def test_file_that_is_written_meanwhile_is_not_believed(tmp_path: Path) -> None:
    file = tmp_path / "leases"
    file.write_text(TEXT)

    def writing() -> bool:
        file.write_text(TEXT[:10])
        return True

    assert read_whole(file, lambda: True) == LEASES
    assert read_whole(file, lambda: False) is None
    assert read_whole(file, writing) is None
    assert read_whole(tmp_path / "none", lambda: True) == ()


def test_release_packet() -> None:
    packet = release_packet(LEASES[0], IPv4Address("10.1.1.1"))
    assert len(packet) == 300
    assert packet[:4] == bytes([1, 1, 6, 0])
    assert packet[12:16] == bytes([10, 1, 1, 10])  # ciaddr
    assert packet[28:34] == bytes.fromhex("02000a01010a")  # chaddr
    assert packet[236:250] == b"\x63\x82\x53\x63" + bytes([53, 1, 7, 54, 4, 10, 1, 1, 1, 255])
