"""Steps of a transaction: each failure becomes a Problem that names the stage and the service."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from appliance.errors import GatehouseError
from appliance.schema.status import Problem, Stage

log = logging.getLogger(__name__)


class StepFailedError(Exception):
    """A step failed; what is wrong is in ``Steps.problems``."""


def describe(error: Exception) -> str:
    """One line for an operator; errors nobody foresaw are logged with their traceback."""
    if isinstance(error, GatehouseError):
        return str(error)
    if isinstance(error, OSError):
        hint = "; free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        return f"{error}{hint}"
    log.error("unexpected error", exc_info=error)
    return f"{type(error).__name__}: {error}"


class Steps:
    """The steps of one transaction. ``problems`` and ``seconds`` by stage add up as they go.

    With ``keep_going`` a failed step is noted and passed over, otherwise it raises StepFailedError.
    """

    def __init__(self, *, keep_going: bool = False) -> None:
        self.problems: list[Problem] = []
        self.seconds: dict[Stage, float] = {}
        self._keep_going = keep_going

    @contextmanager
    def step(self, stage: Stage, service: str = "") -> Iterator[None]:
        begin = time.monotonic()
        try:
            yield
        except Exception as error:
            self.problems.append(Problem(stage=stage, service=service, message=describe(error)))
            if not self._keep_going:
                raise StepFailedError from error
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.monotonic() - begin
