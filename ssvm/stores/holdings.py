"""The stores of the newest document: opened once, looked at now and then, cleared of what nobody needs."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ssvm.services.storage.model.report import StoreReport
from ssvm.services.storage.model.stores import Store as Wanted
from ssvm.stores.base import Store, StoreError
from ssvm.stores.open import open_store

log = logging.getLogger(__name__)

#: seconds between two looks at a store, and between two searches for parts that no job has
LOOK, SWEEP = 30.0, 600.0
#: seconds between two searches in the stores themselves
SWEEP_STORES = 3600.0
#: after which a part that no job here has is nobody's: another SSVM may be about to go on with it
ORPHANED = timedelta(days=1)


class Holdings:
    """``parts``: where parts of jobs are whose stores are elsewhere; ``nfs``: where exports are mounted."""

    def __init__(self, parts: Path, nfs: Path) -> None:
        self._parts, self._nfs = parts, nfs
        parts.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.stores: dict[str, Store] = {}
        self._wanted: dict[str, Wanted] = {}
        self._reports: dict[str, StoreReport] = {}
        self._lock = threading.Lock()
        self._looked = self._swept = self._swept_stores = 0.0

    def load(self, wanted: Iterable[Wanted]) -> None:
        """Have exactly these stores; one that cannot be opened is reported, and its jobs fail."""
        with self._lock:
            stores: dict[str, Store] = {}
            before = self._wanted
            self._wanted = {store.id: store for store in wanted}
            for id, store in self._wanted.items():
                if before.get(id) == store and id in self.stores:
                    stores[id] = self.stores[id]
                    continue
                try:
                    stores[id] = open_store(store, self._parts, self._nfs)
                except Exception as error:
                    log.error("store %s: %s", id, error)
                    self._reports[id] = StoreReport(id=id, healthy=False, detail=f"it cannot be opened: {error}")
            self.stores = stores
            self._looked = 0.0

    def tick(self, jobs: Collection[str]) -> None:
        """Look at the stores when it is time to. ``jobs``: those that may have parts."""
        now = time.monotonic()
        if now - self._looked >= LOOK or not self._looked:
            self._looked = now
            for id, store in list(self.stores.items()):
                self._reports[id] = _look(id, store)
        if now - self._swept >= SWEEP:
            self._swept = now
            for staging in {store.staging for store in self.stores.values()}:
                with suppress(OSError):
                    _sweep(staging, jobs)
        if now - self._swept_stores >= SWEEP_STORES or not self._swept_stores:
            self._swept_stores = now
            for id, store in list(self.stores.items()):
                _sweep_store(id, store)

    def report(self) -> list[StoreReport]:
        """Every store of the document; one that nobody looked at yet is taken to be well."""
        return [self._reports.get(id) or StoreReport(id=id, healthy=True) for id in self._wanted]


def _look(id: str, store: Store) -> StoreReport:
    try:
        capacity = store.capacity()
    except StoreError as error:
        return StoreReport(id=id, healthy=False, detail=str(error))
    return StoreReport(id=id, healthy=True, total=capacity.total, free=capacity.free)


def _sweep_store(id: str, store: Store) -> None:
    try:
        if removed := store.sweep(datetime.now(UTC) - ORPHANED):
            log.info("store %s: parts of %d objects that were cut off are removed", id, removed)
    except StoreError as error:
        log.warning("store %s: parts that were cut off stay for now: %s", id, error)


def _sweep(staging: Path, jobs: Collection[str]) -> None:
    for path in staging.iterdir():
        if path.name.rpartition(".")[0] not in jobs and path.stat().st_mtime < time.time() - ORPHANED.total_seconds():
            path.unlink()
