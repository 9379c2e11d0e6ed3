from __future__ import annotations

import shutil
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.netns.controlplane.cloud import Cloud


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    """A control plane of the test module's own, connected to an internet of its own."""
    directory = Path(tempfile.mkdtemp(prefix="gatehouse-cloud-"))
    made = Cloud(directory)
    try:
        made.start()
        made.connect_internet()
        yield made
    finally:
        made.remove()
        shutil.rmtree(directory)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the control plane's log beside a failure."""
    report = yield
    used = getattr(item, "funcargs", {}).get("cloud")
    if report.failed and isinstance(used, Cloud):
        report.sections.append(("log of the control plane", used.text_log()[-20000:]))
    return report
