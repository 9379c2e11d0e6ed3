"""The agent's background work: the engine's thread with its queue of one, and the thread that probes."""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Callable
from functools import partial

from appliance.engine.engine import Engine
from appliance.engine.parse import Parsed
from appliance.engine.steps import describe
from appliance.errors import GatehouseError
from appliance.schema.status import ServiceHealth

log = logging.getLogger(__name__)

#: longest wait for the first probes after the start or the first document, in seconds
FIRST_PROBE = 3.0
#: pause after a probe that found something unhealthy, doubled each time up to the usual one, in seconds
SOON = 0.1


class StaleError(GatehouseError):
    """A document is older than one that is known here, or differs from the one with its generation."""


class Worker:
    """Runs the engine: documents as they come, the newest only, and the look for drift in between."""

    def __init__(self, engine: Engine, prober: Prober, interval: float) -> None:
        self._engine, self._prober, self._interval = engine, prober, interval
        self._changed = threading.Condition()
        self._pending: Parsed | None = None
        self._applying: Parsed | None = None
        self._restored = False

    def start(self) -> None:
        threading.Thread(target=self._run, name="engine", daemon=True).start()

    @property
    def applying(self) -> int | None:
        """Generation that is being applied, or waits to be."""
        document = self._pending or self._applying
        return document.generation if document else None

    def submit(self, document: Parsed) -> None:
        """Have ``document`` applied soon; one that waits is dropped for it. Raises StaleError."""
        with self._changed:
            while not self._restored:  # until then nobody knows which generation the machine has
                self._changed.wait()
            for known in (self._pending, self._applying, self._engine.applied):
                if known is None or document.generation > known.generation:
                    continue
                if document.generation < known.generation:
                    raise StaleError(
                        f"generation {document.generation} is older than {known.generation}, which is known here"
                    )
                if document.digest != known.digest:
                    raise StaleError(f"another document with generation {document.generation} is known here")
            self._pending = document
            self._changed.notify_all()

    def wait(self, generation: int, timeout: float) -> bool:
        """Wait until ``generation`` or a newer one has ended, at most ``timeout`` seconds; whether it has."""
        with self._changed:
            return self._changed.wait_for(lambda: self._has_ended(generation), timeout)

    def _has_ended(self, generation: int) -> bool:
        if any(document and document.generation <= generation for document in (self._pending, self._applying)):
            return False
        attempt = self._engine.attempt
        return attempt is not None and attempt.generation >= generation

    def _run(self) -> None:
        self._guarded(self._engine.restore)
        gc.collect()
        gc.freeze()  # what is here now stays: later collections need not walk it
        with self._changed:
            self._restored = True
            self._changed.notify_all()
        self._prober.wake()
        look = time.monotonic() + self._interval
        document: Parsed | None
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._pending, max(0.0, look - time.monotonic()))
                # the last one is freed here, when nobody waits for its outcome any more
                document = self._applying = self._pending
                self._pending = None
            if document is not None:
                self._guarded(partial(self._engine.apply, document))
                with self._changed:
                    self._applying = None
                    self._changed.notify_all()
                self._prober.wake()
            if time.monotonic() >= look:
                self._guarded(self._engine.watch)
                look = time.monotonic() + self._interval

    @staticmethod
    def _guarded(work: Callable[[], object]) -> None:
        try:
            work()
        except Exception:
            # the engine reports what it foresees; for the rest the agent stays reachable
            log.exception("engine")


class Prober:
    """Probes every service now and then; ``results`` are the newest."""

    def __init__(self, engine: Engine, interval: float) -> None:
        self._engine, self._interval = engine, interval
        self._wake = threading.Event()
        self._probed = threading.Event()
        self._results: dict[str, ServiceHealth] = {}

    def start(self) -> None:
        threading.Thread(target=self._run, name="prober", daemon=True).start()

    def wake(self) -> None:
        """Probe now rather than later."""
        self._wake.set()

    @property
    def results(self) -> dict[str, ServiceHealth]:
        """The newest probe of each service; waits a moment for the first."""
        if self._engine.applied.state is not None:
            self._probed.wait(FIRST_PROBE)
        return self._results

    def _run(self) -> None:
        pause, next_pause = self._interval, SOON
        while True:
            self._wake.wait(pause)
            self._wake.clear()
            try:
                self.probe()
            except Exception:
                log.exception("probing")
            # what starts is healthy a moment later, and whoever waits for it wants to know
            healthy = all(result.healthy for result in self._results.values())
            pause, next_pause = (self._interval, SOON) if healthy else (min(next_pause, self._interval), 2 * next_pause)

    def probe(self) -> None:
        """Probe every service once. Results that a change of the machine came in between of are dropped."""
        before, applied = self._engine.changes, self._engine.applied
        results = {}
        for service in self._engine.services if applied.state is not None else ():
            detail = ""
            try:
                service.probe(applied.state, self._engine.host)
            except Exception as error:
                detail = describe(error)
            results[service.name] = ServiceHealth(healthy=not detail, detail=detail, checked=time.time())
        if self._engine.changes == before:
            self._results = results
            if results:
                self._probed.set()
        else:
            self._wake.set()
