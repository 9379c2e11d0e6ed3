"""The database: engine, transactions, migrations. SQLite (WAL) by default, PostgreSQL by URL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command as alembic
from alembic.config import Config
from sqlalchemy import Connection, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.orm import Session

from controlplane.usage.recorder import RecordingSession

BUSY_TIMEOUT_S = 30
_WRITES = "gatehouse_writes"


class Database:
    """Opens transactions on one database. Thread-safe; sessions are not shared between threads."""

    def __init__(self, url: str | URL) -> None:
        parsed = make_url(url)
        self._sqlite = parsed.get_backend_name() == "sqlite"
        arguments: dict[str, Any] = {"pool_pre_ping": not self._sqlite}
        if self._sqlite:
            arguments["connect_args"] = {"timeout": BUSY_TIMEOUT_S, "check_same_thread": False}
        # a request waits for a connection rather than failing: as many as the worker threads and the reconciler use
        self.engine = create_engine(parsed, pool_size=64, max_overflow=64, **arguments)
        if self._sqlite:
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
        self._writing = self.engine.execution_options(**{_WRITES: True})

    @classmethod
    def in_directory(cls, data_dir: Path) -> Database:
        """The embedded default: ``gatehouse.db`` in the data directory, for its owner's eyes only."""
        path = data_dir / "gatehouse.db"
        # SQLite gives its journals the mode that the database has
        path.touch(mode=0o600)
        return cls(URL.create("sqlite", database=str(path)))

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """A session that commits at the end, or rolls back when the block raises.

        On SQLite it takes the write lock at once (BEGIN IMMEDIATE), so that what was read stays true until the commit.
        """
        with RecordingSession(self._writing, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session on a consistent snapshot; changes are rolled back."""
        with Session(self.engine, expire_on_commit=False) as session:
            yield session

    def migrate(self) -> None:
        """Bring the tables to the newest version. Safe to call on every start."""
        with self._writing.begin() as connection:
            alembic.upgrade(alembic_config(connection), "head")

    def close(self) -> None:
        self.engine.dispose()


def alembic_config(connection: Connection) -> Config:
    """Alembic's configuration for the migrations of this package, over an open connection."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("file_template", "%%(rev)s_%%(slug)s")
    config.attributes["connection"] = connection
    return config


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions begin where _begin_sqlite says
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    # WAL with NORMAL survives a crash of the process; FULL also survives losing power, and rules are commitments
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_S * 1000}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
