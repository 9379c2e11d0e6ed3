"""Recordings of consoles, as files in the data directory that only its owner reads.

``<session>.<when it began, UNIX time>.fbs``, written under another name until they are whole. Another place for them,
such as secondary storage, has the same methods.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

#: octets that are held in memory of one
PIECE = 1 << 20
_NAME = re.compile(r"(?P<session>[A-Za-z0-9:-]{1,64})\.(?P<began>\d{1,16})")


@dataclass(frozen=True)
class Recording:
    """One connection of a session; ``began`` is a UNIX time, ``size`` octets."""

    session: str
    began: int
    size: int

    @property
    def name(self) -> str:
        return f"{self.session}.{self.began}"


class RecordingStore:
    """The recordings in ``directory``. Methods may raise OSError."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def all(self) -> list[Recording]:
        """Every one, the oldest first."""
        return self._found("*.fbs")

    def of_session(self, session_id: str) -> list[Recording]:
        """A session's connections, the first one first."""
        return self._found(f"{session_id}.*.fbs")

    def size(self, name: str) -> int | None:
        """Octets; None without such a recording."""
        path = self._path(name)
        return path.stat().st_size if path.exists() else None

    def take(self, name: str, size: int, read: Callable[[int], bytes]) -> bool:
        """Write one of ``size`` octets, of pieces that ``read`` has at an offset; whether they were all there."""
        self._directory.mkdir(mode=0o700, exist_ok=True)
        fresh = self._directory / f"{name}.part"
        with fresh.open("wb") as file:
            fresh.chmod(0o600)
            while file.tell() < size and (piece := read(file.tell())):
                file.write(piece)
            whole = file.tell() >= size
        if whole:
            fresh.rename(self._path(name))
        else:
            fresh.unlink()
        return whole

    def pieces(self, name: str) -> Iterator[tuple[int, bytes]]:
        """Its octets in pieces, each with its offset."""
        with self._path(name).open("rb") as file:
            while True:
                offset = file.tell()
                piece = file.read(PIECE)
                if not piece:
                    return
                yield offset, piece

    def delete(self, name: str) -> None:
        """Let go of one; none of that name is fine too."""
        self._path(name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise OSError(f"{name!r} is no recording's name")
        return self._directory / f"{name}.fbs"

    def _found(self, pattern: str) -> list[Recording]:
        found = []
        for path in self._directory.glob(pattern):
            if match := _NAME.fullmatch(path.stem):
                found.append(Recording(match["session"], int(match["began"]), path.stat().st_size))
        return sorted(found, key=lambda one: (one.began, one.session))
