"""Waiting for a condition with a deadline, in place of sleeping for a time that is hoped to be long enough."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")

#: how many times longer than asked for everything may take, e.g. where processors are emulated
patience = 1.0


def wait_for(
    condition: Callable[[], Result], timeout: float = 5.0, what: str = "", *, interval: float = 0.02
) -> Result:
    """Call ``condition`` until it returns something true, and return that.

    An exception counts as "not yet". Raises AssertionError after ``timeout`` seconds (times ``patience``), naming
    ``what`` was waited for and what the condition returned or raised last.
    """
    timeout *= patience
    deadline = time.monotonic() + timeout
    while True:
        late = time.monotonic() >= deadline
        try:
            result = condition()
            last = f"last result: {result!r}"
            cause = None
            if result:
                return result
        except Exception as error:
            last = f"last error: {type(error).__name__}: {error}"
            cause = error
        if late:
            name = what or getattr(condition, "__name__", "the condition")
            raise AssertionError(f"waited {timeout:g} s for {name}; {last}") from cause
        time.sleep(interval)
