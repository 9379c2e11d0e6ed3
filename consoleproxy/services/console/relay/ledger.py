"""What must outlive the relay: which sessions were used, and the records that the control plane has not taken in.

One SQLite file. A session is used by the insertion of its row, which happens once whoever asks, and is on the disk
before anybody is let in.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: records that are kept when nobody takes them in, the newest
MOST_RECORDS = 10_000
#: seconds for which a session that left the document is remembered: an older document may come back by a roll-back
KEEP = 86_400.0

_SCHEMA = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
CREATE TABLE IF NOT EXISTS sessions (
    id TEXT PRIMARY KEY, used REAL NOT NULL, secret BLOB NOT NULL, client TEXT NOT NULL, left REAL, ended TEXT
);
CREATE TABLE IF NOT EXISTS records (number INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT NOT NULL);
"""


@dataclass(frozen=True)
class Used:
    """A session that was used: when (UNIX time), the hash of the secret it may come back with, and from where.

    ``left``: when its last connection closed, None while there is one. ``ended``: why it is over for good.
    """

    id: str
    used: float
    secret: bytes
    client: str
    left: float | None = None
    ended: str | None = None


class Ledger:
    """The ledger in ``path``. Every method may raise sqlite3.Error."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._database.executescript(_SCHEMA)
        path.chmod(0o600)

    def close(self) -> None:
        self._database.close()

    def use(self, session: Used) -> bool:
        """Use a session up, for good and on the disk; False when it was used before."""
        cursor = self._database.execute(
            "INSERT OR IGNORE INTO sessions (id, used, secret, client) VALUES (?, ?, ?, ?)",
            (session.id, session.used, session.secret, session.client),
        )
        return cursor.rowcount == 1

    def come_back(self, session_id: str, client: str) -> None:
        """A session has a connection again."""
        self._database.execute("UPDATE sessions SET left = NULL, client = ? WHERE id = ?", (client, session_id))

    def leave(self, session_id: str, when: float) -> None:
        """A session's connection closed."""
        self._database.execute("UPDATE sessions SET left = ? WHERE id = ?", (when, session_id))

    def end(self, session_id: str, reason: str, when: float) -> None:
        """A session is over, one that was never used too."""
        self._database.execute(
            "INSERT INTO sessions (id, used, secret, client, left, ended) VALUES (?, ?, x'', '', ?, ?)"
            " ON CONFLICT (id) DO UPDATE SET left = ?, ended = ?",
            (session_id, when, when, reason, when, reason),
        )

    def used(self) -> dict[str, Used]:
        """Every session that is remembered, by id."""
        rows = self._database.execute("SELECT id, used, secret, client, left, ended FROM sessions")
        return {row[0]: Used(*row) for row in rows}

    def write(self, body: dict[str, Any]) -> None:
        """Add a record; it gets the next number, and no number is ever used again."""
        self._database.execute("INSERT INTO records (body) VALUES (?)", (json.dumps(body),))

    def records(self, after: int = 0) -> list[dict[str, Any]]:
        """Records with a number above ``after``, oldest first."""
        rows = self._database.execute("SELECT number, body FROM records WHERE number > ? ORDER BY number", (after,))
        return [{"number": number, **json.loads(body)} for number, body in rows]

    def forget(self, acknowledged: int, sessions: Collection[str]) -> None:
        """Let go of records up to number ``acknowledged``, and of sessions that no document has named for KEEP."""
        self._database.execute(
            "DELETE FROM records WHERE number <= max(?, (SELECT coalesce(max(number), 0) FROM records) - ?)",
            (acknowledged, MOST_RECORDS),
        )
        old = time.time() - KEEP
        gone = self._database.execute("SELECT id FROM sessions WHERE left < ?", (old,)).fetchall()
        self._database.executemany("DELETE FROM sessions WHERE id = ?", [row for row in gone if row[0] not in sessions])
