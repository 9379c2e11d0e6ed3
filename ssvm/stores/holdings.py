"""The stores of the newest document: opened once, looked at now and then, cleared of what nobody needs."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from ssvm.services.storage.model.report import StoreReport
from ssvm.services.storage.model.stores import Store as Wanted
from ssvm.stores.base import Store, StoreError
from ssvm.stores.open import open_store

log = logging.getLogger(__name__)

#: seconds between two looks at a store, for its answer, and between two searches for parts that no job has
LOOK, ANSWER, SWEEP = 15.0, 10.0, 600.0
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
        #: by id; of one that cannot be opened what there is to say of it
        self._kept: dict[str, Keeper | StoreReport] = {}

    def load(self, wanted: Iterable[Wanted]) -> None:
        """Have exactly these stores; one that cannot be opened is reported, and its jobs fail."""
        kept: dict[str, Keeper | StoreReport] = {}
        for store in wanted:
            before = self._kept.get(store.id)
            if isinstance(before, Keeper) and before.wanted == store:
                before.look_soon()
                kept[store.id] = before
                continue
            try:
                kept[store.id] = Keeper(store, open_store(store, self._parts, self._nfs))
            except Exception as error:
                log.error("store %s: %s", store.id, error)
                kept[store.id] = StoreReport(id=store.id, healthy=False, detail=f"it cannot be opened: {error}")
        self._kept = kept
        self.stores = {id: one.store for id, one in kept.items() if isinstance(one, Keeper)}

    def tick(self, jobs: Collection[str]) -> None:
        """Look at the stores when it is time to. ``jobs``: those that may have parts."""
        for one in self._kept.values():
            if isinstance(one, Keeper):
                one.tick(jobs)

    def report(self) -> list[StoreReport]:
        """Every store of the document; one that nobody looked at yet is taken to be well."""
        return [one.report() if isinstance(one, Keeper) else one for one in self._kept.values()]


class Keeper:
    """Keeps one store, in threads of its own: one that does not answer would hold up all others.

    Looks have another thread than sweeps, which may last, or wait for a server that went away since the last look.
    """

    def __init__(self, wanted: Wanted, store: Store) -> None:
        self.wanted, self.store = wanted, store
        self._id = wanted.id
        self._report = StoreReport(id=self._id, healthy=True)
        self._looking: threading.Thread | None = None
        self._sweeping: threading.Thread | None = None
        #: since when a look waits for its answer
        self._asked: float | None = None
        self._looked = self._swept = self._swept_store = -math.inf

    def look_soon(self) -> None:
        self._looked = -math.inf

    def tick(self, jobs: Collection[str]) -> None:
        """Begin what it is time for, and is not under way still."""
        now = time.monotonic()
        if now - self._looked >= LOOK and not _alive(self._looking):
            self._looked, self._asked = now, now
            self._looking = self._begin(self._look)
        if _alive(self._sweeping):
            return
        due: list[Callable[[], None]] = []
        if now - self._swept >= SWEEP:
            self._swept = now
            due.append(partial(_sweep, self.store.staging, frozenset(jobs)))
        if now - self._swept_store >= SWEEP_STORES:
            self._swept_store = now
            due.append(partial(_sweep_store, self._id, self.store))
        if due:
            self._sweeping = self._begin(*due)

    def report(self) -> StoreReport:
        asked = self._asked
        if asked is not None and time.monotonic() - asked > ANSWER:
            return StoreReport(id=self._id, healthy=False, detail="it does not answer; check that its server is up")
        return self._report

    def _begin(self, *due: Callable[[], None]) -> threading.Thread:
        def work() -> None:
            for each in due:
                try:
                    each()
                except Exception:
                    log.exception("store %s", self._id)

        thread = threading.Thread(target=work, name=f"store {self._id}", daemon=True)
        thread.start()
        return thread

    def _look(self) -> None:
        try:
            capacity = self.store.capacity()
            self._report = StoreReport(id=self._id, healthy=True, total=capacity.total, free=capacity.free)
        except StoreError as error:
            self._report = StoreReport(id=self._id, healthy=False, detail=str(error))
        except Exception:
            detail = "it cannot be used; the appliance's log says why"
            self._report = StoreReport(id=self._id, healthy=False, detail=detail)
            raise
        finally:
            self._asked = None  # at last: until then the report is the one before


def _alive(thread: threading.Thread | None) -> bool:
    return thread is not None and thread.is_alive()


def _sweep_store(id: str, store: Store) -> None:
    try:
        if removed := store.sweep(datetime.now(UTC) - ORPHANED):
            log.info("store %s: parts of %d objects that were cut off are removed", id, removed)
    except StoreError as error:
        log.warning("store %s: parts that were cut off stay for now: %s", id, error)


def _sweep(staging: Path, jobs: Collection[str]) -> None:
    with suppress(OSError):
        for path in staging.iterdir():
            old = path.stat().st_mtime < time.time() - ORPHANED.total_seconds()
            if old and path.name.rpartition(".")[0] not in jobs:
                path.unlink()
