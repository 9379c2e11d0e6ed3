"""What a job's thread shares with the rest: how far it is, and whether it is still wanted."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from ssvm.errors import JobCancelledError
from ssvm.services.storage.model.report import Phase

#: seconds over which the rate is taken
WINDOW = 5.0


class Progress:
    """Bytes of a job as they come. One thread writes, others read."""

    def __init__(self) -> None:
        self.received = 0
        self.total: int | None = None
        self.phase: Phase = ""
        self.lost = 0
        self.detail = ""
        #: a connection was lost, and the next try is not due yet
        self.retrying = False
        self._samples: deque[tuple[float, int]] = deque(maxlen=64)

    def begin(self, phase: Phase, received: int = 0, total: int | None = None) -> None:
        """A phase that has bytes of its own begins."""
        self._samples.clear()
        self.phase, self.received, self.total = phase, received, total

    def at(self, received: int) -> None:
        self.received = received
        now = time.monotonic()
        if not self._samples or now - self._samples[-1][0] > WINDOW / 32:
            self._samples.append((now, received))

    @property
    def rate(self) -> int:
        """Bytes a second of the last few seconds."""
        now, samples = time.monotonic(), list(self._samples)
        recent = [sample for sample in samples if now - sample[0] <= WINDOW]
        if not recent or now - recent[0][0] < 0.1:
            return 0
        return max(0, int((self.received - recent[0][1]) / (now - recent[0][0])))

    @property
    def percent(self) -> int:
        return min(100, self.received * 100 // self.total) if self.total else 0

    @property
    def seconds_left(self) -> int | None:
        rate = self.rate
        return max(0, self.total - self.received) // rate if self.total is not None and rate else None


class Cancel:
    """Whether a job is over before its end. What blocks its thread registers how to end it."""

    def __init__(self) -> None:
        self._wanted = threading.Event()
        self._lock = threading.Lock()
        self._end: Callable[[], None] | None = None

    def cancel(self) -> None:
        with self._lock:
            self._wanted.set()
            if self._end is not None:
                with suppress(OSError):
                    self._end()

    def ends(self, end: Callable[[], None] | None) -> None:
        """``end`` makes what the thread is blocked in return; it is called at once if that is wanted already."""
        with self._lock:
            self._end = end
            if end is not None and self._wanted.is_set():
                end()

    @property
    def wanted(self) -> bool:
        return self._wanted.is_set()

    def check(self) -> None:
        """Raises JobCancelledError."""
        if self._wanted.is_set():
            raise JobCancelledError

    def wait(self, seconds: float) -> None:
        """Raises JobCancelledError when it is wanted within that time."""
        if self._wanted.wait(seconds):
            raise JobCancelledError
