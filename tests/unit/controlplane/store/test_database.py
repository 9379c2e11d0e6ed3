"""Transactions and migrations on a real SQLite file."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError

from controlplane.store.database import Database
from controlplane.store.models import Base, Domain, Pod


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database.in_directory(tmp_path)
    made.migrate()
    yield made
    made.close()


def test_migrations_make_what_the_models_say(database: Database) -> None:
    with database.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        difference = compare_metadata(context, Base.metadata)
    assert difference == [], 'the models changed: make migration MESSAGE="what"'


def test_migrating_again_changes_nothing(database: Database) -> None:
    with database.transaction() as session:
        session.add(Domain(name="a", path="a"))
    database.migrate()
    with database.reading() as session:
        assert session.scalars(select(Domain.name)).all() == ["a"]


def test_an_error_rolls_back(database: Database) -> None:
    with pytest.raises(RuntimeError), database.transaction() as session:
        session.add(Domain(name="a", path="a"))
        session.flush()
        raise RuntimeError
    with database.reading() as session:
        assert session.scalars(select(Domain)).all() == []


def test_reading_does_not_keep_changes(database: Database) -> None:
    with database.reading() as session:
        session.add(Domain(name="a", path="a"))
        session.flush()
    with database.reading() as session:
        assert session.scalars(select(Domain)).all() == []


def test_foreign_keys_hold(database: Database) -> None:
    with pytest.raises(IntegrityError), database.transaction() as session:
        session.add(Pod(zone_id="none", name="p", gateway="", netmask="", start_ip="", end_ip=""))


def test_a_name_is_free_again_after_removal(database: Database) -> None:
    with database.transaction() as session:
        session.add(Domain(name="a", path="a", removed=text("CURRENT_TIMESTAMP")))
        session.add(Domain(name="a", path="a"))
    with pytest.raises(IntegrityError), database.transaction() as session:
        session.add(Domain(name="a", path="a"))


def test_what_was_read_in_a_transaction_stays_true(database: Database) -> None:
    """20 threads each add one row numbered by the count that they read: no number comes twice."""

    def add() -> None:
        with database.transaction() as session:
            number = len(session.scalars(select(Domain.id)).all())
            session.add(Domain(name=str(number), path=str(number)))

    threads = [threading.Thread(target=add) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.reading() as session:
        assert sorted(map(int, session.scalars(select(Domain.name)))) == list(range(20))


def test_a_snapshot_does_not_wait_for_a_writer(database: Database) -> None:
    with database.transaction() as writer:
        writer.add(Domain(name="a", path="a"))
        writer.flush()
        with database.reading() as reader:
            assert reader.scalars(select(Domain)).all() == []
