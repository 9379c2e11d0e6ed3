"""Keeps every appliance at its desired generation: when to look at which one, and who waits for what.

Level-triggered: what is left to do is ``observed < desired`` in the tables, so nothing is lost in a crash, and many
changes become one push. One thread at a time works on an appliance; many appliances are worked on at once.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from sqlalchemy import select

from appliance.errors import GatehouseError
from controlplane.convergence import observe
from controlplane.convergence.converge import Outcome, Refusal, Remote, converge, open_remote, poll
from controlplane.core import Core, Stopping
from controlplane.store.models import Appliance

log = logging.getLogger(__name__)


class WaitError(GatehouseError):
    """The appliance did not reach the generation."""


class RefusedError(WaitError):
    """The appliance refused what the waiter asked for."""


@dataclass(frozen=True)
class Pace:
    """How often and how long, in seconds."""

    #: between two looks at a healthy appliance
    poll: float = 3.0
    #: first and longest pause after a failure; each is double the one before, give or take a quarter
    first: float = 0.2
    longest: float = 30.0
    #: pause while an appliance boots
    booting: float = 0.1
    #: silence after which people are told
    silence: float = 10.0
    #: between two searches of the tables for work that nobody announced
    sweep: float = 15.0


@dataclass
class _Entry:
    """One appliance. Fields but ``remote`` are guarded by the reconciler's lock; ``remote`` belongs to who is busy."""

    remote: Remote
    busy: bool = False
    #: a pass was asked for
    dirty: bool = False
    #: monotonic times of the next try after a failure and of the next look
    retry_at: float | None = None
    poll_at: float = 0.0
    failures: int = 0
    silent_since: float | None = None
    silence_told: bool = False
    observed: int = 0
    refusal: Refusal | None = None
    reason: str = ""


@dataclass
class Reconciler:
    """Runs passes and polls on threads of its own between ``start`` and ``stop``."""

    core: Core
    pace: Pace = field(default_factory=Pace)
    pushers: int = 32
    pollers: int = 4

    def __post_init__(self) -> None:
        self._changed = threading.Condition()
        self._entries: dict[str, _Entry] = {}
        self._stopping = threading.Event()
        self._pushes = ThreadPoolExecutor(self.pushers, thread_name_prefix="push")
        self._polls = ThreadPoolExecutor(self.pollers, thread_name_prefix="poll")
        self._clock = threading.Thread(target=self._tick_forever, name="reconciler", daemon=True)

    def start(self) -> None:
        """Take up every appliance there is, and go on with what is left to do."""
        self._sweep(everything=True)
        self._clock.start()

    def stop(self) -> None:
        """End after the passes under way; appliances go on working."""
        self._stopping.set()
        with self._changed:
            self._changed.notify_all()
        if self._clock.is_alive():
            self._clock.join()
        self._polls.shutdown(wait=True, cancel_futures=True)
        self._pushes.shutdown(wait=True, cancel_futures=True)
        for entry in self._entries.values():
            entry.remote.client.close()

    @property
    def stopping(self) -> bool:
        """Whether ``stop`` was called."""
        return self._stopping.is_set()

    def wake(self, appliance_id: str) -> None:
        """Look at this appliance's desired generation now. From any thread, after the commit."""
        with self._changed:
            entry = self._entry(appliance_id)
            if entry is None or self._stopping.is_set():
                return
            entry.dirty = True
            self._engage(entry, self._pushes)

    def wait(
        self,
        appliance_id: str,
        generation: int,
        *,
        timeout: float,
        ids: frozenset[str] = frozenset(),
        progress: Callable[[str], None] = lambda reason: None,
    ) -> None:
        """Wait until the appliance has observed ``generation`` with its probes passing.

        ``ids`` are of the entries that the waiter brought in: a refusal that names one of them, or that names nobody
        and is final, raises RefusedError. WaitError when ``timeout`` seconds pass or the appliance is removed.
        ``progress`` is told why it is not there yet.
        """
        self.wake(appliance_id)
        deadline = time.monotonic() + timeout
        told = ""
        while True:
            with self._changed:
                entry = self._entries.get(appliance_id)
                if entry is None:
                    raise WaitError("the appliance was removed meanwhile; try again")
                if entry.observed >= generation:
                    return
                refusal, reason = entry.refusal, entry.reason
                if refusal is not None and refusal.generation >= generation and (refusal.final or refusal.ids & ids):
                    raise RefusedError(f"the appliance refused it: {refusal.text}")
                left = deadline - time.monotonic()
                if left <= 0:
                    raise WaitError(reason or f"the appliance did not reach generation {generation} in {timeout:.0f} s")
                if self._stopping.is_set():
                    raise Stopping
                if reason == told:
                    self._changed.wait(min(left, 1.0))
                    continue
            told = reason
            progress(reason)

    def silence(self, appliance_id: str) -> float:
        """Seconds for which the appliance has not answered; 0 when it does, or has never been asked."""
        with self._changed:
            entry = self._entries.get(appliance_id)
            since = entry.silent_since if entry is not None else None
            return time.monotonic() - since if since is not None else 0.0

    # --- threads -------------------------------------------------------------------------------------------------

    def _entry(self, appliance_id: str) -> _Entry | None:
        """The entry of an appliance, made at its first mention; None when there is no such appliance."""
        entry = self._entries.get(appliance_id)
        if entry is None:
            with self.core.database.reading() as session:
                appliance = session.get(Appliance, appliance_id)
                if appliance is None or appliance.removed is not None:
                    return None
                entry = _Entry(open_remote(self.core, appliance), observed=appliance.observed_generation)
            self._entries[appliance_id] = entry
        return entry

    def _engage(self, entry: _Entry, pool: ThreadPoolExecutor) -> None:
        if not entry.busy:
            entry.busy = True
            pool.submit(self._work, entry)

    def _work(self, entry: _Entry) -> None:
        """Passes and polls over one appliance until nothing is due."""
        while True:
            with self._changed:
                moment = time.monotonic()
                again = entry.dirty or (entry.retry_at is not None and entry.retry_at <= moment)
                look = not again and entry.poll_at <= moment
                if self._stopping.is_set() or not (again or look):
                    entry.busy = False
                    # the clock may have to look sooner now
                    self._changed.notify_all()
                    return
                entry.dirty, entry.retry_at = False, None
            try:
                outcome = converge(self.core, entry.remote) if again else poll(self.core, entry.remote)
            except Exception as error:
                log.exception("appliance %s: unexpected error", entry.remote.id)
                outcome = Outcome("retry", entry.observed, f"unexpected error: {error}")
            if self._settle(entry, outcome):
                return

    def _settle(self, entry: _Entry, outcome: Outcome) -> bool:
        """Take in an outcome, and tell who waits; whether the appliance is gone."""
        moment = time.monotonic()
        with self._changed:
            entry.observed = outcome.observed
            entry.refusal = outcome.refusal or entry.refusal
            entry.poll_at = moment + self.pace.poll
            if outcome.kind == "gone":
                self._entries.pop(entry.remote.id, None)
                entry.remote.client.close()
            elif outcome.kind == "again":
                entry.dirty = True
            elif outcome.kind == "retry":
                pause = self._pause(entry, outcome.booting)
                entry.failures += 1
                entry.silent_since = entry.silent_since or moment
                entry.retry_at = entry.poll_at = moment + pause
                entry.reason = f"{outcome.reason}; next try in {pause:.1f} s"
            if outcome.kind not in ("retry", "gone"):
                entry.failures, entry.silent_since, entry.reason = 0, None, ""
                entry.silence_told = False
            self._changed.notify_all()
        if outcome.kind == "retry" and not outcome.booting:
            self._tell(entry, outcome)
        return outcome.kind == "gone"

    def _pause(self, entry: _Entry, booting: bool) -> float:
        if booting:
            return self.pace.booting
        pause = min(self.pace.first * 2.0 ** min(entry.failures, 30), self.pace.longest)
        # appliances that failed together must not come back together
        return pause * random.uniform(0.75, 1.25)  # noqa: S311  # no secret depends on it

    def _tell(self, entry: _Entry, outcome: Outcome) -> None:
        """Say in jobs and, after a while, in the appliance's health, that it does not get on."""
        silent = entry.silent_since is not None and time.monotonic() - entry.silent_since > self.pace.silence
        with self.core.database.transaction() as session:
            appliance = session.get(Appliance, entry.remote.id)
            if appliance is None or appliance.removed is not None:
                return
            observe.tell_progress(session, appliance, entry.reason)
            if silent and not entry.silence_told and outcome.refusal is None:
                observe.take_silence(session, appliance, outcome.reason)
                entry.silence_told = True

    def _tick_forever(self) -> None:
        swept = time.monotonic()
        while not self._stopping.is_set():
            with self._changed:
                moment = time.monotonic()
                nearest = moment + 1.0
                for entry in self._entries.values():
                    if entry.busy:
                        continue
                    if entry.retry_at is not None and entry.retry_at <= moment:
                        self._engage(entry, self._pushes)
                    elif entry.poll_at <= moment:
                        self._engage(entry, self._polls)
                    else:
                        nearest = min(nearest, entry.poll_at, entry.retry_at or nearest)
                self._changed.wait(max(0.02, nearest - time.monotonic()))
            if time.monotonic() - swept > self.pace.sweep:
                swept = time.monotonic()
                try:
                    self._sweep()
                except Exception:
                    log.exception("looking for work in the tables failed; next try in %.0f s", self.pace.sweep)

    def _sweep(self, *, everything: bool = False) -> None:
        """Wake appliances that are behind; with ``everything`` take up the others too, to look after them."""
        statement = select(Appliance.id).where(Appliance.removed.is_(None))
        if not everything:
            statement = statement.where(Appliance.observed_generation < Appliance.desired_generation)
        with self.core.database.reading() as session:
            found = list(session.scalars(statement))
        for appliance_id in found:
            self.wake(appliance_id)
