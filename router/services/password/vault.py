"""Passwords on disk between the control plane and the guest; forgotten for good once the guest has confirmed.

Below the vault's folder (folders 0700, files 0600):

- ``pending/<address>_<id>``  a password, written by the agent, read when the guest asks
- ``fetched/id-<id>``         empty: the guest has confirmed this one, and no document brings it back

The agent and the password server work on the vault at the same time without locks. A confirmation makes its
``fetched`` file first; whoever writes a pending one looks for that file afterwards. An id stands for one password.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import NamedTuple

from appliance.files import sync_directory

#: confirmed ids that no document names any more are kept this long, and this many of them at most: an older
#: document may come back by a roll-back
KEEP_SECONDS = 30 * 86400
KEEP_NUMBER = 10_000


class Secret(NamedTuple):
    """A password for the guest at ``address``, and the id of the reset it belongs to."""

    id: str
    address: str
    password: str

    def __repr__(self) -> str:
        return f"Secret(id={self.id!r}, address={self.address!r})"


class Vault:
    """The vault in ``directory``; ``create`` makes it. Every method may raise OSError."""

    def __init__(self, directory: Path) -> None:
        self._directory, self._pending, self._fetched = directory, directory / "pending", directory / "fetched"

    def create(self) -> None:
        for folder in (self._directory, self._pending, self._fetched):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)

    # ---- for the password server

    def read(self, address: str) -> Secret | None:
        """The password that waits for the guest at ``address``; the newest while one replaces another."""
        found = []
        for path in self._pending.glob(f"{address}_*"):
            secret_id = path.name.partition("_")[2]
            try:
                if not self.is_fetched(secret_id):
                    found.append((path.stat().st_mtime_ns, Secret(secret_id, address, path.read_text("utf-8"))))
            except FileNotFoundError:
                continue  # replaced or confirmed just now
        return max(found)[1] if found else None

    def confirm(self, address: str, secret_id: str) -> None:
        """The guest at ``address`` has saved its password: never serve that one again, not after a power cut either."""
        mark = self._mark(secret_id)
        os.close(os.open(mark, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        sync_directory(self._fetched)
        self._waiting(address, secret_id).unlink(missing_ok=True)

    # ---- for the agent

    def put(self, wanted: Iterable[Secret]) -> None:
        """Have exactly the ``wanted`` pending, but none that was fetched."""
        keep = set()
        for secret in wanted:
            path = self._waiting(secret.address, secret.id)
            if not self.is_fetched(secret.id) and not _holds(path, secret.password):
                _write(path, secret.password)
            if not self.is_fetched(secret.id):
                keep.add(path.name)
        for path in self._pending.iterdir():
            if path.name not in keep:
                path.unlink(missing_ok=True)

    def is_fetched(self, secret_id: str) -> bool:
        return self._mark(secret_id).exists()

    def prune(self, needed: Collection[str]) -> None:
        """Let go of old marks of fetched passwords, but of none in ``needed``."""
        names = {self._mark(secret_id).name for secret_id in needed}
        marks = sorted((path.stat().st_mtime, path) for path in self._fetched.iterdir() if path.name not in names)
        oldest = time.time() - KEEP_SECONDS
        for number, (made, path) in enumerate(reversed(marks)):
            if made < oldest or number >= KEEP_NUMBER:
                path.unlink(missing_ok=True)

    def _waiting(self, address: str, secret_id: str) -> Path:
        return self._pending / f"{address}_{secret_id}"

    def _mark(self, secret_id: str) -> Path:
        return self._fetched / f"id-{secret_id}"


def _holds(path: Path, text: str) -> bool:
    try:
        return path.read_bytes() == text.encode()
    except FileNotFoundError:
        return False


def _write(path: Path, text: str) -> None:
    """Make a file as a whole, also when the power is cut: an empty one would be an empty password."""
    temporary = path.with_name(f".{path.name}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(temporary, flags, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
