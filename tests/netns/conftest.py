"""Fixtures for tests with real daemons and clients in network namespaces."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from controlplane.hypervisors.base import HypervisorError
from controlplane.hypervisors.namespace.driver import NamespaceHypervisor
from tests.netns.lab import Lab
from tests.vm.shared import SharedLab

_PREFIX = "gatehouse-lab-"


@pytest.fixture(scope="session", autouse=True)
def _remove_labs_of_killed_runs() -> None:
    """A test run that was killed leaves its namespaces; a lab that somebody has open refuses to be removed."""
    for lock in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*/hypervisor/lock"):
        hypervisor = NamespaceHypervisor(lock.parent)
        with suppress(HypervisorError, OSError):
            # tests run in several processes: one may just have made the file, and not locked it yet
            if time.time() - lock.stat().st_mtime < 10:
                continue
            hypervisor.open()
            hypervisor.purge()
            shutil.rmtree(lock.parents[1])


@pytest.fixture(scope="module")
def lab(_remove_labs_of_killed_runs: None, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A lab of the test module's own. Names and addresses it hands out are used once.

    With ``--hypervisor vm`` its routers are a virtual machine that all modules share (tests/vm/shared.py).
    """
    if request.config.getoption("hypervisor") == "vm":
        shared: SharedLab = request.getfixturevalue("shared_lab")
        yield shared
        shared.clear()
        return
    directory = Path(tempfile.mkdtemp(prefix=_PREFIX))
    built = Lab(directory)
    try:
        yield built
    finally:
        built.close()
        shutil.rmtree(directory)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what agents and daemons printed beside a failure."""
    report = yield
    arguments = getattr(item, "funcargs", {})
    used = arguments.get("lab")
    if report.failed and isinstance(used, Lab):
        report.sections.extend((f"log of {name}", text) for name, text in used.logs().items())
    return report
