"""What an image says of itself while it comes: a wrong or unsafe one is refused with its first megabyte."""

from __future__ import annotations

import io
from typing import Any

from ssvm.errors import JobFailedError
from ssvm.services.storage.model.jobs import Format

#: names that oslo.utils has for what may be in a file of each format; a raw disk may have a partition table, and
#: a CD that also boots from a disk has one too (isohybrid)
_CONTENT: dict[Format, tuple[frozenset[str], ...]] = {
    "qcow2": (frozenset({"qcow2"}),),
    "raw": (frozenset({"raw"}), frozenset({"gpt"})),
    "vmdk": (frozenset({"vmdk"}),),
    "vhd": (frozenset({"vhd"}),),
    "vhdx": (frozenset({"vhdx"}),),
    "vdi": (frozenset({"vdi"}),),
    "iso": (frozenset({"iso"}), frozenset({"iso", "gpt"})),
}


#: bytes at the beginning that say whether an image stands for itself
HEAD = 512


class Inspection:
    """Shown an image from its first byte on. ``format`` is what it must be, ``limit`` the most virtual bytes."""

    def __init__(self, format: Format, limit: int) -> None:
        # imported late: 16 MB that only images need
        from oslo_utils.imageutils import format_inspector

        self._module = format_inspector
        self._format, self._limit = format, limit
        self._chunk = io.BytesIO()
        self._wrapper = format_inspector.InspectWrapper(self._chunk)
        self._head = b""
        self.decided = False
        #: what the image says, None where its format does not
        self.virtual_size: int | None = None

    def feed(self, data: memoryview) -> None:
        """The next bytes. Raises JobFailedError as soon as they cannot be what they should."""
        if self.decided:
            return
        if len(self._head) < HEAD:
            self._head += data[: HEAD - len(self._head)]
        self._chunk.seek(0)
        self._chunk.truncate()
        self._chunk.write(data)
        self._chunk.seek(0)
        self._wrapper.read(len(data))
        if self._wrapper.formats is not None:
            self._decide()

    def finish(self) -> None:
        """There are no more bytes. Raises JobFailedError."""
        if not self.decided:
            self._wrapper.close()
            self._decide()

    def _decide(self) -> None:
        self.decided = True
        matches: list[Any] = list(self._wrapper.formats or ())
        names = frozenset(str(match) for match in matches)
        if names not in _CONTENT[self._format]:
            found = " and ".join(sorted(names)) or "nothing that is known"
            raise JobFailedError("format", f"the file is said to be {self._format}, but it is {found}")
        for match in matches:
            try:
                match.safety_check()
            except self._module.SafetyCheckFailed as error:
                reasons = "; ".join(f"{name}: {failure}" for name, failure in error.failures.items())
                raise JobFailedError("format", f"the image is not safe to use: {reasons}") from error
            except Exception as error:  # a parser of hostile bytes: whatever it stumbles over is no image
                raise JobFailedError("format", f"the image cannot be read: {error}") from error
        if _differs(self._format, self._head):
            raise JobFailedError("format", "the image is only the difference to another one, or of an unknown type")
        if self._format not in ("raw", "iso"):
            self.virtual_size = int(matches[0].virtual_size)
            check_virtual(self.virtual_size, self._limit)


def _differs(format: Format, head: bytes) -> bool:
    """Whether an image has a parent, or may: neither parser minds, and what it lacks would read as zeros.

    VHD: disk type 3 is dynamic ("Hard Disk Footer Format"). VDI: image types 1 and 2 are dynamic and fixed, and the
    UUIDs of the image's parent and of its state are zero.
    """
    if format == "vhd":
        return head[60:64] != b"\0\0\0\3"
    if format == "vdi":
        return head[0x4C:0x50] not in (b"\1\0\0\0", b"\2\0\0\0") or any(head[0x1A8:0x1C8])
    return False


def check_virtual(size: int, limit: int) -> None:
    """Raises JobFailedError for a disk that is larger than may be."""
    if size > limit:
        raise JobFailedError("size", f"the disk has {size} bytes, more than the {limit} allowed")
