"""Stores that are directories: of the appliance's own disk, or mounted there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from appliance.files import sync_directory
from ssvm.errors import full
from ssvm.jobs.context import Cancel, Progress
from ssvm.services.storage.model.stores import NfsStore
from ssvm.stores.base import CHUNK, Capacity, NoObjectError, StoreError

#: no object's path begins with a dot
STAGING = ".parts"


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


class Export(Directory):
    """A directory of an NFS server, which the agent mounts at ``root``: without that nothing is there."""

    def __init__(self, store: NfsStore, root: Path) -> None:
        super().__init__(root)
        self._what = f"{store.server}:{store.export}"

    def put(self, source: Path, path: str, progress: Progress, cancel: Cancel) -> None:
        self._check()
        super().put(source, path, progress, cancel)

    def size(self, path: str) -> int | None:
        self._check()
        return super().size(path)

    def delete(self, path: str) -> None:
        self._check()
        super().delete(path)

    def capacity(self) -> Capacity:
        self._check()
        return super().capacity()

    def _check(self) -> None:
        try:
            there = self._root.is_mount()
        except OSError as error:
            raise _broken(error) from error
        if not there:
            raise StoreError(f"{self._what} is not mounted; check that the server answers and exports it")


def _missing(directory: Path) -> list[Path]:
    return [parent for parent in (directory, *directory.parents) if not parent.exists()]


def _broken(error: OSError) -> StoreError:
    return StoreError(f"the directory cannot be used: {error.strerror or error}")
