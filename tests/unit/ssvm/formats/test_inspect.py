"""What an image's first bytes say."""

from __future__ import annotations

import os
import struct

import pytest

from ssvm.errors import JobFailedError
from ssvm.formats.inspect import Inspection
from ssvm.services.storage.model.jobs import Format

LIMIT = 1 << 40


def iso(first: bytes = b"") -> bytes:
    """An ISO 9660 volume of 1,000 blocks (ECMA-119, section 8.4), with other bytes in its system area."""
    volume = bytearray(2048)
    volume[:7] = b"\1CD001\1"
    struct.pack_into("<I", volume, 80, 1000)
    struct.pack_into("<H", volume, 128, 2048)
    return first.ljust(32768, b"\0") + bytes(volume) + bytes(1 << 20)


def qcow2(size: int = 1 << 30, backing: int = 0) -> bytes:
    """A header of qcow2 version 2 (docs/interop/qcow2.txt)."""
    header = struct.pack(">4sIQIIQ", b"QFI\xfb", 2, backing, 8 if backing else 0, 16, size)
    return header.ljust(1 << 20, b"\0")


def mbr() -> bytes:
    """A boot sector with one partition."""
    sector = bytearray(512)
    sector[446:462] = struct.pack("<8BII", 0x80, 0, 2, 0, 0x83, 0, 0, 0, 2048, 100_000)
    sector[510:] = b"\x55\xaa"
    return bytes(sector)


def inspect(content: bytes, format: Format, limit: int = LIMIT, chunk: int = 65536) -> Inspection:
    inspection = Inspection(format, limit)
    for offset in range(0, len(content), chunk):
        inspection.feed(memoryview(content)[offset : offset + chunk])
    inspection.finish()
    return inspection


@pytest.mark.parametrize(
    ("content", "format"),
    [
        (iso(), "iso"),
        (iso(mbr()), "iso"),
        (qcow2(), "qcow2"),
        (os.urandom(1 << 20), "raw"),
        (mbr().ljust(1 << 20, b"\0"), "raw"),
        (b"", "raw"),
    ],
)
@pytest.mark.parametrize("chunk", [1000, 1 << 18])
def test_what_it_is_said_to_be(content: bytes, format: Format, chunk: int) -> None:
    inspection = inspect(content, format, chunk=chunk)
    assert inspection.virtual_size == (1 << 30 if format == "qcow2" else None)


@pytest.mark.parametrize(
    ("content", "format"),
    [
        *((iso(), format) for format in ("raw", "qcow2")),
        *((qcow2(), format) for format in ("raw", "iso", "vmdk", "vhd", "vhdx", "vdi")),
        *((qcow2()[:100] + iso()[100:], format) for format in ("raw", "iso", "qcow2")),
        (qcow2(backing=512), "qcow2"),
        (b"QFI\xfb", "qcow2"),
        (b"", "qcow2"),
    ],
)
def test_what_it_is_not(content: bytes, format: Format) -> None:
    with pytest.raises(JobFailedError) as caught:
        inspect(content, format)
    assert caught.value.cause == "format"


def test_a_disk_that_is_too_large_is_refused_with_its_first_bytes() -> None:
    inspection = Inspection("qcow2", 1 << 29)
    with pytest.raises(JobFailedError) as caught:
        inspection.feed(memoryview(qcow2()))
    assert caught.value.cause == "size"


def vhd(type: int) -> bytes:
    """A footer as it begins a dynamic disk (Virtual Hard Disk Image Format Specification)."""
    footer = bytearray(512)
    footer[:8] = b"conectix"
    struct.pack_into(">QQ", footer, 40, 1 << 30, 1 << 30)
    struct.pack_into(">I", footer, 60, type)
    return bytes(footer).ljust(1 << 20, b"\0")


def vdi(type: int, parent: bytes = b"") -> bytes:
    """A header of VirtualBox's format, version 1.1."""
    header = bytearray(512)
    header[:64] = b"<<< Oracle VM VirtualBox Disk Image >>>\n".ljust(64, b"\0")
    struct.pack_into("<IIII", header, 64, 0xBEDA107F, 0x00010001, 400, type)
    struct.pack_into("<Q", header, 368, 1 << 30)
    header[0x1A8 : 0x1A8 + len(parent)] = parent
    return bytes(header).ljust(1 << 20, b"\0")


def test_images_that_stand_for_themselves() -> None:
    assert inspect(vhd(3), "vhd").virtual_size == 1 << 30
    assert inspect(vdi(1), "vdi").virtual_size == inspect(vdi(2), "vdi", chunk=100).virtual_size == 1 << 30


@pytest.mark.parametrize(("content", "format"), [(vhd(4), "vhd"), (vdi(4), "vdi"), (vdi(1, b"parent"), "vdi")])
def test_images_that_are_differences(content: bytes, format: Format) -> None:
    with pytest.raises(JobFailedError, match="difference"):
        inspect(content, format)
