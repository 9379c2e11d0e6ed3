"""Transactions and migrations on a real SQLite file."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.command import upgrade
from alembic.migration import MigrationContext
from sqlalchemy import select, text
from sqlalchemy.exc import IntegrityError

from controlplane.network import supported
from controlplane.store.database import Database, alembic_config
from controlplane.store.models import Base, Domain, NetworkOffering, Pod


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


def _insert(database: sqlite3.Connection, table: str, **values: object) -> None:
    """A row that has ``values``, and something in every other column that must have it."""
    for _, name, kind, needed, _, _ in database.execute(f"PRAGMA table_info({table})").fetchall():
        if needed and name not in values:
            values[name] = 0 if kind in ("INTEGER", "BOOLEAN") else "{}" if kind == "JSON" else "2030-01-01 00:00:00"
    columns = ", ".join(values)
    database.execute(
        f"INSERT INTO {table} ({columns}) VALUES ({', '.join('?' * len(values))})",
        list(values.values()),
    )


def test_offerings_whose_networks_have_a_vpn_gateway_offer_vpn(tmp_path: Path) -> None:
    """What was made before there was a service of that name."""
    made = Database.in_directory(tmp_path)
    with made.engine.begin() as connection:
        upgrade(alembic_config(connection), "0008")
    # not through the engine, which would ask for what the rows refer to
    with sqlite3.connect(tmp_path / "gatehouse.db") as raw:
        for name in ("used", "unused"):
            _insert(raw, "network_offering", id=name, name=name, services='{"Dhcp": {}}')
            _insert(raw, "network", id=name, network_offering_id=name)
        _insert(raw, "vpn_gateway", id="gateway", network_id="used", public_ip_id="address")
    raw.close()
    made.migrate()
    with made.reading() as session:
        found = {row.id: row.services for row in session.scalars(select(NetworkOffering))}
    made.close()
    assert found == {"unused": {"Dhcp": {}}, "used": {"Dhcp": {}} | supported.entries(["Vpn"])}


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
