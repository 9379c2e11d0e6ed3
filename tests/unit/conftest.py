"""Unit tests start no process: what needs one belongs in tests/netns."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# how long generating takes tells of the machine that tests run on, not of them
settings.register_profile("gatehouse", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("gatehouse")

#: audit events (Python library reference, "Audit events table") of every way to start a process
PROCESS_EVENTS = frozenset(
    ("subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.exec", "os.system")
)

#: an audit hook cannot be removed, so it looks here
_switch = {"forbidden": False}


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    if _switch["forbidden"] and event in PROCESS_EVENTS:
        raise AssertionError(f"a unit test started a process ({event}: {arguments[:1]}); move it to tests/netns")


sys.addaudithook(_audit)


@pytest.fixture(autouse=True)
def no_process() -> Iterator[None]:
    _switch["forbidden"] = True
    yield
    _switch["forbidden"] = False
