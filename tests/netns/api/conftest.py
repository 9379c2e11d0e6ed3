from __future__ import annotations

from tests.netns.controlplane.conftest import cloud, pytest_runtest_makereport

__all__ = ["cloud", "pytest_runtest_makereport"]
