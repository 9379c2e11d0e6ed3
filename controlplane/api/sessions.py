"""Login sessions: a cookie and a session key, both needed for every call; only their hashes are kept."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta

from sqlalchemy import delete
from sqlalchemy.orm import Session as Transaction

from controlplane.api.passwords import token_hash
from controlplane.configuration import Configuration
from controlplane.errors import ApiError
from controlplane.store.database import Database
from controlplane.store.models import Session, User, now

COOKIE = "JSESSIONID"
KEY_COOKIE = "sessionkey"
#: How far the expiry may lag behind the last call, so that not every call writes.
_RENEW_AFTER = timedelta(seconds=60)


def begin(transaction: Transaction, user: User, timeout: int) -> tuple[str, str]:
    """Make a session that lasts ``timeout`` seconds after its last call; returns (cookie, session key)."""
    cookie, key = secrets.token_urlsafe(32), secrets.token_urlsafe(24)
    transaction.execute(delete(Session).where(Session.expires < now()))
    expires = now() + timedelta(seconds=timeout)
    transaction.add(Session(cookie_hash=token_hash(cookie), key_hash=token_hash(key), user_id=user.id, expires=expires))
    return cookie, key


def find(transaction: Transaction, cookie: str, key: str) -> Session | None:
    """The live session of this cookie and session key."""
    session = transaction.get(Session, token_hash(cookie))
    if session is None or session.expires < now():
        return None
    # both are hashes of random tokens: comparing them leaks nothing that helps
    return session if secrets.compare_digest(session.key_hash, token_hash(key)) else None


def end(transaction: Transaction, cookie: str) -> None:
    """Forget a session."""
    transaction.execute(delete(Session).where(Session.cookie_hash == token_hash(cookie)))


def end_all(transaction: Transaction, user_id: str) -> None:
    """Forget every session of a user: the password changed or the user was disabled."""
    transaction.execute(delete(Session).where(Session.user_id == user_id))


def renew(database: Database, configuration: Configuration, cookie: str, expires: datetime) -> None:
    """Move the expiry after a call, at most once a minute."""
    with database.reading() as transaction:
        timeout = timedelta(seconds=configuration.get_int(transaction, "session.timeout"))
    if now() + timeout - expires < min(_RENEW_AFTER, timeout / 4):
        return
    with database.transaction() as transaction:
        session = transaction.get(Session, token_hash(cookie))
        if session is not None:
            session.expires = now() + timeout


class Limiter:
    """Counts per key in fixed windows, in memory; used against guessed passwords and too many calls."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._counts: dict[str, tuple[float, int]] = {}

    def count(self, key: str, window: float) -> tuple[int, float]:
        """How often the key was counted in the running window, and the seconds until that ends."""
        with self._lock:
            until, number = self._counts.get(key, (0.0, 0))
            left = until - self._clock()
            return (number, left) if left > 0 else (0, window)

    def add(self, key: str, window: float) -> tuple[int, float]:
        """Count once more; the same answer with this one included."""
        with self._lock:
            current = self._clock()
            until, number = self._counts.get(key, (0.0, 0))
            if until <= current:
                until, number = current + window, 0
                if len(self._counts) > 10_000:
                    self._counts = {name: entry for name, entry in self._counts.items() if entry[0] > current}
            self._counts[key] = (until, number + 1)
            return number + 1, until - current

    def forget(self, key: str) -> None:
        with self._lock:
            self._counts.pop(key, None)


BAD_LOGINS = 5
BAD_LOGIN_WINDOW = 60.0
#: Per client address; higher, because many people can share one.
BAD_LOGINS_OF_ADDRESS = 50


def check_login_rate(limiter: Limiter, username: str, address: str) -> None:
    """Raise ApiError 429 after too many bad logins of one name or from one address."""
    for key, most in ((f"user {username.lower()}", BAD_LOGINS), (f"address {address}", BAD_LOGINS_OF_ADDRESS)):
        number, left = limiter.count(key, BAD_LOGIN_WINDOW)
        if number >= most:
            raise ApiError(f"too many bad logins; try again in {int(left) + 1} seconds", code=429, cs_code=9999)


def bad_login(limiter: Limiter, username: str, address: str) -> None:
    """Count a bad login."""
    limiter.add(f"user {username.lower()}", BAD_LOGIN_WINDOW)
    limiter.add(f"address {address}", BAD_LOGIN_WINDOW)
