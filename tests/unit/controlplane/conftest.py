from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, event
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from controlplane.store.models import Base
from tests.control import Caller, FakeRuntime, Http, caller_for, fill, http_for, runtime_in
from tests.rows import Rows


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


@pytest.fixture
def session() -> Iterator[Session]:
    """An empty database in memory, with foreign keys enforced."""
    engine = create_engine("sqlite://", poolclass=StaticPool)

    @event.listens_for(engine, "connect")
    def prepare(connection, _record):  # type: ignore[no-untyped-def]
        connection.isolation_level = None
        connection.execute("PRAGMA foreign_keys=ON")

    @event.listens_for(engine, "begin")
    def begin(connection):  # type: ignore[no-untyped-def]
        connection.exec_driver_sql("BEGIN")

    Base.metadata.create_all(engine)
    with Session(engine, expire_on_commit=False) as made:
        yield made
    engine.dispose()


@pytest.fixture
def rows(session: Session) -> Rows:
    return Rows(session)
