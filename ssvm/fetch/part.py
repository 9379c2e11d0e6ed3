"""The part of a file that has come so far: its bytes, and what is needed to ask for the rest.

``<id>.data`` only grows; ``<id>.json`` says which file of the source it is a part of; whoever is at work on it has
``<id>.lock`` locked. A process that is killed at any point leaves a part that the next one goes on with.
"""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from ssvm.errors import JobFailedError

_OPEN = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


@dataclass(frozen=True)
class Source:
    """What the server said of its file. ``validator``: strong ETag, or Last-Modified; "" without either (RFC 9110)."""

    url: str = ""
    validator: str = ""
    total: int | None = None


class Part:
    """The part of job ``id`` in ``directory``; one process has it at a time. Raises JobFailedError for a second."""

    def __init__(self, directory: Path, id: str) -> None:
        self.path = directory / f"{id}.data"
        self._about = directory / f"{id}.json"
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        # a file of its own: on NFS and 9P, flock(2) locks a file's bytes, which qemu-img could not lock then
        self._lock = os.open(directory / f"{id}.lock", _OPEN, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # readable for the user that images are looked at by, who cannot enter the directory
            self.descriptor = os.open(self.path, _OPEN, 0o644)
        except BlockingIOError as error:
            os.close(self._lock)
            raise JobFailedError("internal", "another appliance is at work on this") from error
        except OSError:
            os.close(self._lock)
            raise
        self.source = self._read()

    def _read(self) -> Source:
        try:
            return Source(**json.loads(self._about.read_bytes()))
        except (OSError, ValueError, TypeError):
            return Source()

    @property
    def size(self) -> int:
        return os.fstat(self.descriptor).st_size

    def restart(self) -> None:
        """Begin anew, with nothing."""
        os.ftruncate(self.descriptor, 0)
        os.lseek(self.descriptor, 0, os.SEEK_SET)

    def belongs_to(self, source: Source) -> None:
        """What is there, and what comes now, is of ``source``."""
        if source != self.source:
            temporary = self._about.with_suffix(".new")
            temporary.write_text(json.dumps(asdict(source)))
            temporary.replace(self._about)
            self.source = source

    def write(self, data: bytes) -> None:
        """More of it."""
        left = memoryview(data)
        while left:
            left = left[os.write(self.descriptor, left) :]

    def sync(self) -> None:
        """Have it on the disk."""
        os.fsync(self.descriptor)

    def close(self) -> None:
        """Raises OSError, of writes that failed; the part is nobody's all the same."""
        try:
            os.close(self.descriptor)
        finally:
            os.close(self._lock)


def remove(directory: Path, id: str) -> None:
    """Remove the part of a job that nobody is at work on, and what was made from it. Raises OSError."""
    with suppress(FileNotFoundError):
        # glob() would take a directory that cannot be read for an empty one
        for path in [path for path in directory.iterdir() if path.name.startswith(f"{id}.")]:
            path.unlink(missing_ok=True)
