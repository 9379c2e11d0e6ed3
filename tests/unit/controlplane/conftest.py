from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.control import Caller, FakeRuntime, Http, caller_for, fill, http_for, runtime_in


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with the defaults, to copy."""
    directory = tmp_path_factory.mktemp("filled")
    fill(directory)
    return directory


@pytest.fixture
def runtime(filled: Path, tmp_path: Path) -> Iterator[FakeRuntime]:
    made = runtime_in(tmp_path / "data", filled)
    yield made
    made.database.close()


@pytest.fixture
def http(runtime: FakeRuntime) -> Http:
    return http_for(runtime)


@pytest.fixture
def admin(runtime: FakeRuntime, http: Http) -> Caller:
    """The root administrator's calls."""
    return caller_for(runtime, http)
