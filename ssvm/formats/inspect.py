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


class Inspection:
    """Shown an image from its first byte on. ``format`` is what it must be, ``limit`` the most virtual bytes."""

    def __init__(self, format: Format, limit: int) -> None:
        # imported late: 16 MB that only images need
        from oslo_utils.imageutils import format_inspector

        self._module = format_inspector
        self._format, self._limit = format, limit
        self._chunk = io.BytesIO()
        self._wrapper = format_inspector.InspectWrapper(self._chunk)
        self.decided = False
        #: what the image says, None where its format does not
        self.virtual_size: int | None = None

    def feed(self, data: memoryview) -> None:
        """The next bytes. Raises JobFailedError as soon as they cannot be what they should."""
        if self.decided:
            return
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
        if self._format not in ("raw", "iso"):
            self.virtual_size = int(matches[0].virtual_size)
            check_virtual(self.virtual_size, self._limit)


def check_virtual(size: int, limit: int) -> None:
    """Raises JobFailedError for a disk that is larger than may be."""
    if size > limit:
        raise JobFailedError("size", f"the disk has {size} bytes, more than the {limit} allowed")
