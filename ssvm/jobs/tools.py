"""What every kind of job works with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ssvm.errors import JobFailedError
from ssvm.fetch.connection import Way
from ssvm.fetch.pace import Pace
from ssvm.formats.images import Images
from ssvm.jobs.context import Cancel, Progress
from ssvm.services.storage.model.report import Result
from ssvm.stores.base import Store


@dataclass(frozen=True)
class Tools:
    """``peer_way``: how other SSVMs are reached, given the appliance id that one must have; None without a
    certificate. ``putting`` notes down, on the disk, what object is about to be put.
    """

    stores: Mapping[str, Store]
    way: Way
    peer_way: Callable[[str], Way] | None
    pace: Pace
    images: Images
    retries: int
    progress: Progress
    cancel: Cancel
    putting: Callable[[Result], None]

    def store(self, id: str) -> Store:
        try:
            return self.stores[id]
        except KeyError:
            raise JobFailedError("store", f"the store {id} cannot be opened") from None
