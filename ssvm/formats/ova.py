"""OVF packages (DSP0243): a tar file of a description and its disks, each of which is looked at like an image."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

from ssvm.errors import JobFailedError
from ssvm.formats.images import Images
from ssvm.formats.inspect import Inspection, check_virtual
from ssvm.jobs.context import Cancel

MOST_MEMBERS = 64
CHUNK = 1 << 20


def virtual_size(path: Path, scratch: Path, limit: int, images: Images, cancel: Cancel) -> int:
    """Bytes of all disks of the package in ``path``. ``scratch`` is a file that disks are copied to.

    Raises JobFailedError for what is no package, or holds what is not safe.
    """
    total = 0
    try:
        with tarfile.open(path, "r:") as package:
            members = package.getmembers() if _looks_small(package) else []
            _check_names(members)
            for member in members:
                if member.name.lower().endswith(".vmdk"):
                    total += _disk(package, member, scratch, limit=limit, images=images, cancel=cancel)
                    check_virtual(total, limit)
    except tarfile.TarError as error:
        raise JobFailedError("format", f"the file is said to be ova, but it is no tar file: {error}") from error
    if not total:
        raise JobFailedError("format", "the package has no VMDK disk")
    return total


def _looks_small(package: tarfile.TarFile) -> bool:
    """Whether there are no more members than may be, read one by one: a tar of millions is a bomb too."""
    for count, _ in enumerate(package):
        if count >= MOST_MEMBERS:
            raise JobFailedError("format", f"the package has more than {MOST_MEMBERS} files")
    return True


def _check_names(members: list[tarfile.TarInfo]) -> None:
    for member in members:
        if not member.isreg() or member.issparse() or "/" in member.name or member.name.startswith("."):
            raise JobFailedError("format", f"the package has a member that is no plain file: {member.name[:80]!r}")
    if not members or not members[0].name.lower().endswith(".ovf"):
        raise JobFailedError("format", "the file is said to be ova, but its first member is no .ovf description")
    if len({member.name for member in members}) != len(members):
        raise JobFailedError("format", "the package has two members of one name")


def _disk(
    package: tarfile.TarFile, member: tarfile.TarInfo, scratch: Path, *, limit: int, images: Images, cancel: Cancel
) -> int:
    inspection = Inspection("vmdk", limit)
    descriptor = os.open(scratch, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        content = package.extractfile(member)
        assert content is not None
        while data := content.read(CHUNK):
            cancel.check()
            inspection.feed(memoryview(data))
            os.write(descriptor, data)
        inspection.finish()
        return images.virtual_size(descriptor, "vmdk", limit, cancel, inspection.virtual_size)
    finally:
        os.close(descriptor)
        scratch.unlink()
