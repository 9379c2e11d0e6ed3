"""The disk: a master boot record, a small FAT partition that SYSLINUX boots the kernel from, and the root partition."""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
from pathlib import Path

from appliance.run import run

SECTOR = 512
#: partitions begin at whole MiB
ALIGN = 1 << 20
_MBR_CODE = (Path("/usr/lib/syslinux/mbr/mbr.bin"), Path("/usr/lib/SYSLINUX/mbr.bin"))
_TIMEOUT = 1800.0
#: qemu-img's name of a format -> the file's suffix
FORMATS = {"qcow2": "qcow2", "raw": "raw", "vmdk": "vmdk", "vpc": "vhd", "vdi": "vdi"}


def signature(seed: str) -> bytes:
    """Four bytes that tell this image's disk from others."""
    return hashlib.sha256(f"disk {seed}".encode()).digest()[:4]


def squash(root: Path, target: Path, epoch: int, *options: str) -> None:
    """The tree as a squashfs image, the same bytes for the same tree."""
    target.unlink(missing_ok=True)
    argv = ["mksquashfs", str(root), str(target), "-noappend", "-quiet", "-no-progress", "-no-exports", "-xattrs"]
    # files of packages have times of their own, those made here the time of the build: one time for all
    run([*argv, "-mkfs-time", str(epoch), "-all-time", str(epoch), *options], timeout=_TIMEOUT)


def boot_partition(target: Path, files: dict[str, bytes], serial: bytes, epoch: int) -> None:
    """A FAT file system with ``files`` (name -> content) and SYSLINUX installed."""
    folder = target.with_suffix(".files")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    size = sum(map(len, files.values())) + (2 << 20)
    target.write_bytes(b"")
    os.truncate(target, size + -size % ALIGN)
    run(["mkfs.fat", "-F", "16", "-i", serial.hex(), "-n", "GATEHOUSE", "--invariant", str(target)])
    for name, content in files.items():
        path = folder / name
        path.write_bytes(content)
        os.utime(path, (epoch, epoch))
    environment = ["env", f"SOURCE_DATE_EPOCH={epoch}", "TZ=UTC", "MTOOLS_SKIP_CHECK=1"]
    run([*environment, "mcopy", "-m", "-i", str(target), *(str(folder / name) for name in files), "::/"])
    run([*environment, "syslinux", "--install", str(target)])
    shutil.rmtree(folder)


def assemble(target: Path, boot: Path, root: Path, identifier: bytes) -> None:
    """Write the raw disk."""
    code = next(path for path in _MBR_CODE if path.exists()).read_bytes()
    record, at = bytearray(SECTOR), ALIGN
    record[: len(code)] = code
    record[440:444] = identifier
    with target.open("wb") as disk:
        # type 0x0e: FAT16 by LBA, active; type 0x83: Linux
        for number, (part, active, kind) in enumerate(((boot, 0x80, 0x0E), (root, 0, 0x83))):
            size = part.stat().st_size
            sectors = -(-size // SECTOR)
            # 0xfeffff: beyond what cylinders, heads and sectors can say
            far = b"\xfe\xff\xff"
            entry = struct.pack("<B3sB3sII", active, far, kind, far, at // SECTOR, sectors)
            record[446 + 16 * number : 462 + 16 * number] = entry
            disk.seek(at)
            with part.open("rb") as content:
                shutil.copyfileobj(content, disk, ALIGN)
            at += size + -size % ALIGN
        record[510:512] = b"\x55\xaa"
        disk.truncate(at)
        disk.seek(0)
        disk.write(record)


def convert(raw: Path, target: Path, form: str) -> None:
    """``form`` as in FORMATS."""
    options = ["-o", "compat=1.1,lazy_refcounts=off"] if form == "qcow2" else []
    run(["qemu-img", "convert", "-f", "raw", "-O", form, *options, str(raw), str(target)], timeout=_TIMEOUT)
