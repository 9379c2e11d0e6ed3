"""Stores that are directories: of the appliance's own disk, or mounted there."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from appliance.files import sync_directory
from ssvm.errors import full
from ssvm.jobs.context import Cancel, Progress
from ssvm.services.storage.model.stores import NfsStore
from ssvm.stores.base import CHUNK, Capacity, NoObjectError, StoreError

#: no object's path begins with a dot
STAGING = ".parts"
#: bytes of each piece of what is written to see whether it comes back
PROBE = 65_536


class Directory:
    """Objects are files below the directory. They come into being by rename(2), with everything on the disk."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.staging = self._root / STAGING

    def put(self, source: Path, path: str, progress: Progress, cancel: Cancel) -> None:
        target = self._root / path
        try:
            made = _missing(target.parent)
            target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            source.chmod(0o644)
            source.replace(target)
            for directory in {target.parent, *(new.parent for new in made), source.parent}:
                sync_directory(directory)
        except OSError as error:
            raise full(error) or _broken(error) from error

    def size(self, path: str) -> int | None:
        try:
            return (self._root / path).stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _broken(error) from error

    def read(self, path: str, offset: int, length: int) -> Iterator[bytes]:
        try:
            with (self._root / path).open("rb", buffering=0) as file:
                file.seek(offset)
                while length and (data := file.read(min(CHUNK, length))):
                    length -= len(data)
                    yield data
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NoObjectError(f"there is no {path}") from error
        except OSError as error:
            raise _broken(error) from error

    def delete(self, path: str) -> None:
        target = self._root / path
        try:
            target.unlink(missing_ok=True)
            for directory in target.relative_to(self._root).parents[:-1]:
                (self._root / directory).rmdir()  # as long as they are empty
        except (NotADirectoryError, FileNotFoundError):
            return
        except OSError as error:
            if target.exists():
                raise _broken(error) from error
        with suppress(OSError):
            sync_directory(target.parent)

    def capacity(self) -> Capacity:
        try:
            self.staging.mkdir(mode=0o700, exist_ok=True)
            found = os.statvfs(self._root)
        except OSError as error:
            raise _broken(error) from error
        return Capacity(found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize)

    def sweep(self, before: datetime) -> int:
        return 0  # it has parts in ``staging`` alone


class Export(Directory):
    """A directory of an NFS server, which the agent mounts at ``root``: without that nothing is there."""

    def __init__(self, store: NfsStore, root: Path) -> None:
        super().__init__(root)
        self._what = f"{store.server}:{store.export}"
        self._version = store.version
        self._proven = False

    def put(self, source: Path, path: str, progress: Progress, cancel: Cancel) -> None:
        self._check()
        super().put(source, path, progress, cancel)

    def size(self, path: str) -> int | None:
        self._check()
        return super().size(path)

    def read(self, path: str, offset: int, length: int) -> Iterator[bytes]:
        self._check()
        self._prove()
        yield from super().read(path, offset, length)

    def delete(self, path: str) -> None:
        self._check()
        super().delete(path)

    def capacity(self) -> Capacity:
        self._check()
        found = super().capacity()
        self._prove()
        return found

    def _prove(self) -> None:
        """See once that the server gives back what it is given, data and holes: not every one does.

        nfs-ganesha 4 answers READ_PLUS of NFS 4.2 wrongly, and images would become zeros unnoticed.
        """
        if self._proven:
            return
        wanted = os.urandom(PROBE) + bytes(PROBE) + os.urandom(PROBE)
        path = self.staging / f"{uuid.uuid4()}.probe"
        try:
            try:
                found = _written_and_read(path, wanted)
            finally:
                path.unlink(missing_ok=True)
        except OSError as error:
            if full(error):
                return  # which is another matter
            raise self._unfaithful(error.strerror or str(error)) from error
        if found != wanted:
            raise self._unfaithful("it gives back something else than what was written")
        self._proven = True

    def _unfaithful(self, why: str) -> StoreError:
        return StoreError(f"{self._what} cannot be used with NFS {self._version}: {why}; try another version")

    def _check(self) -> None:
        try:
            there = self._root.is_mount()
        except OSError as error:
            raise _broken(error) from error
        if not there:
            raise StoreError(f"{self._what} is not mounted; check that the server answers and exports it")


def _written_and_read(path: Path, content: bytes) -> bytes:
    """Make a file of ``content``, its zeros as holes; what the server, not the page cache, has of it then."""
    with path.open("xb+", buffering=0) as file:
        for offset in range(0, len(content), PROBE):
            if any(content[offset : offset + PROBE]):
                os.pwrite(file.fileno(), content[offset : offset + PROBE], offset)
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return file.read(len(content))


def _missing(directory: Path) -> list[Path]:
    return [parent for parent in (directory, *directory.parents) if not parent.exists()]


def _broken(error: OSError) -> StoreError:
    return StoreError(f"the directory cannot be used: {error.strerror or error}")
