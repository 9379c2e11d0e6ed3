from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import create_engine, event
from sqlalchemy.orm import Session
from sqlalchemy.pool import StaticPool

from controlplane.store.models import Base
from tests.rows import Rows


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
