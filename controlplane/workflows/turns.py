"""Work of which only so much is done at a time in one place; the rest waits its turn."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from controlplane.core import Stopping
from controlplane.errors import ApiError

#: seconds between two looks whether the limit has changed, or the control plane stops
_LOOK = 1.0


class Turns:
    """Counts what is being done, by place. Safe to use from any thread."""

    def __init__(self) -> None:
        self._running: Counter[str] = Counter()
        self._changed = threading.Condition()

    @contextmanager
    def turn(
        self, place: str, most: Callable[[], int], patience: float, stopping: Callable[[], bool]
    ) -> Iterator[None]:
        """Wait until fewer than ``most()`` are at it (0: any number), for ``patience`` seconds at most; then be one.

        Raises ApiError when that takes too long, Stopping when the control plane is stopped meanwhile.
        """
        deadline = time.monotonic() + patience
        with self._changed:
            while 0 < most() <= self._running[place]:
                if stopping():
                    raise Stopping
                if time.monotonic() > deadline:
                    raise ApiError(f"it waited {patience / 60:.0f} minutes for its turn; try again")
                self._changed.wait(min(_LOOK, max(0.0, deadline - time.monotonic())))
            self._running[place] += 1
        try:
            yield
        finally:
            with self._changed:
                self._running[place] -= 1
                self._changed.notify_all()
