from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

import pytest

from tests.netns.controlplane.cloud import Cloud, connected


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    """A control plane of the test module's own, connected to an internet of its own."""
    with connected() as made:
        yield made


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
