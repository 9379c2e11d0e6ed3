"""A stack of steps that take back what a transaction did."""

from __future__ import annotations

from collections.abc import Callable


class Undo:
    """Push how to take a step back right before (or after) doing it; ``run`` goes backwards through all of them."""

    def __init__(self) -> None:
        self._steps: list[tuple[str, Callable[[], object]]] = []

    def push(self, what: str, step: Callable[[], object]) -> None:
        """``step`` takes back ``what``. It may run although ``what`` was only half done, so it must bear that."""
        self._steps.append((what, step))

    def run(self) -> list[tuple[str, Exception]]:
        """Take everything back, newest first. A step that fails does not keep the others from running.

        Returns the failures as ``(what, error)``; empty when all is as before.
        """
        failures: list[tuple[str, Exception]] = []
        while self._steps:
            what, step = self._steps.pop()
            try:
                step()
            except Exception as error:
                failures.append((what, error))
        return failures
