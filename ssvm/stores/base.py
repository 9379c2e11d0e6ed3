"""The interface of every store. An object is put as a whole: whoever reads sees all of it, the one before, or none."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from appliance.errors import GatehouseError
from ssvm.jobs.context import Cancel, Progress

#: bytes that are read and sent at once
CHUNK = 256 * 1024


class StoreError(GatehouseError):
    """The store does not do what it should; it may later."""


class NoObjectError(GatehouseError):
    """There is no such object."""


@dataclass(frozen=True)
class Capacity:
    """Bytes; None where the store does not tell."""

    total: int | None = None
    free: int | None = None


class Store(Protocol):
    """Every method may raise StoreError."""

    #: where jobs make what they put: on the disk of the store where it has one. Only the worker may enter it.
    staging: Path

    def put(self, source: Path, path: str, progress: Progress, cancel: Cancel) -> None:
        """Make the file ``source``, which is in ``staging`` and safe on the disk, the object ``path``.

        The file may be gone afterwards. Raises JobFailedError when there is no room.
        """

    def size(self, path: str) -> int | None:
        """Bytes of an object, None when there is none."""

    def read(self, path: str, offset: int, length: int) -> Iterator[bytes]:
        """``length`` bytes of an object from ``offset``. Raises NoObjectError, at the first one asked for."""

    def delete(self, path: str) -> None:
        """Remove an object; fine when there is none."""

    def capacity(self) -> Capacity:
        """Use the store: what room it has."""

    def sweep(self, before: datetime) -> int:
        """Remove the parts of objects that were cut off, in the store itself, and got nothing since ``before``; how
        many. Parts in ``staging`` are not its business."""
