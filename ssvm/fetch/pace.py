"""A bandwidth limit that many threads share."""

from __future__ import annotations

import threading
import time

#: seconds of the rate that may go at once after a pause
BURST = 0.25


class Pace:
    """``rate`` bytes a second for all who ``take`` together; None: no limit. It may be changed at any time."""

    def __init__(self, rate: int | None = None) -> None:
        self.rate = rate
        self._lock = threading.Lock()
        self._due = 0.0

    def take(self, octets: int) -> float:
        """Seconds to wait after ``octets`` bytes came."""
        rate = self.rate
        if rate is None:
            return 0.0
        with self._lock:
            now = time.monotonic()
            self._due = max(self._due, now - BURST) + octets / rate
            return max(0.0, self._due - now)
