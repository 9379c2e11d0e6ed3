"""A control plane whose workflows run without DBOS, on fake agents and a fake hypervisor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from controlplane.workflows import appliances
from controlplane.workflows.flow import Flow, Locks
from tests.unit.controlplane.fleet import Fleet


class Killed(BaseException):
    """The process ends here."""


class Recorder:
    """Steps as DBOS keeps them: what has ended is not run again. ``kill_in`` names a step that never ends."""

    def __init__(self) -> None:
        self.ended: list[tuple[str, Any]] = []
        self.kill_in: str | None = None
        self._next = 0

    def again(self) -> None:
        """The workflow is called from its beginning."""
        self._next = 0

    def run_step(self, name: str, function: Callable[[], Any]) -> Any:
        index, self._next = self._next, self._next + 1
        if index < len(self.ended):
            recorded, result = self.ended[index]
            assert recorded == name, "a workflow must take the same steps each time"
            return result
        result = function()
        if name == self.kill_in:
            raise Killed
        self.ended.append((name, result))
        return result


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path, monkeypatch)
    monkeypatch.setattr(appliances, "PATIENCE", 10.0)
    fleet.reconciler.start()
    yield fleet
    fleet.close()


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def flow(fleet: Fleet, recorder: Recorder) -> Flow:
    return Flow(fleet.core, fleet.reconciler, Locks(), None, recorder.run_step)
