"""The numbered record of what drifted and was put right."""

from __future__ import annotations

import logging
import threading
import time

from appliance.engine.store import DamagedError, Store
from appliance.schema.status import Repair

log = logging.getLogger(__name__)

#: how many are kept for readers to catch up on
KEPT = 100


class Repairs:
    """Repairs of one appliance, kept over restarts; numbers count up. Any thread may add and read."""

    def __init__(self, store: Store) -> None:
        self._store, self._lock = store, threading.Lock()
        try:
            self.newest: tuple[Repair, ...] = store.repairs()
        except DamagedError as error:
            log.error("%s; repairs count from 1 again", error)
            self.newest = ()

    @property
    def count(self) -> int:
        """Repairs over the life of the appliance."""
        return self.newest[-1].number if self.newest else 0

    def add(self, service: str, reason: str, error: str = "") -> None:
        with self._lock:
            repair = Repair(number=self.count + 1, time=time.time(), service=service, reason=reason, error=error)
            self.newest = (*self.newest, repair)[-KEPT:]
            log.warning("repair %d: %s: %s%s", repair.number, service, reason, f": {error}" if error else "")
            try:
                self._store.save_repairs(self.newest)
            except OSError as failure:
                log.error("repairs are not saved: %s", failure)
