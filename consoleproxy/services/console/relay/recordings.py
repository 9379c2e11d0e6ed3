"""Recordings of sessions: made while the screen is watched, kept until the control plane has fetched them, and brought
back by it to be played (playback.py).

The format is FBS 001.000, which players of VNC recordings know: "FBS 001.000\\n", then blocks of a length, that many
octets of the server's stream padded to four, and the milliseconds since the beginning at which the last of them came.
The stream begins as RFB 3.3 without security, so that it needs no client's answers.
"""

from __future__ import annotations

import contextlib
import logging
import os
import struct
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from consoleproxy.rfb.errors import RfbError
from consoleproxy.services.console.model import Session
from consoleproxy.services.console.relay.config import Config

log = logging.getLogger(__name__)

_MAGIC = b"FBS 001.000\n"
#: RFB 3.3 and security type 1, none
_PREFIX = b"RFB 003.003\n" + struct.pack("!I", 1)
#: octets that wait to be written, and seconds after which they are
_BLOCK, _FLUSH = 65536, 2.0
#: octets that the control plane gets at once
PIECE = 1 << 20


class Recorder:
    """Writes one recording. A full disk or the largest size ends it, and not the session."""

    def __init__(self, path: Path, most: int) -> None:
        self.path = path
        self._file: BinaryIO | None = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")
        self._began, self._left = time.monotonic(), most
        self._waiting: list[bytes] = []
        self._size = 0
        self._put(_MAGIC)
        self._put(_block(_PREFIX, 0))

    def watch(self, data: bytes) -> None:
        """The server sent ``data``."""
        self._waiting.append(_block(data, round(1000 * (time.monotonic() - self._began))))
        self._size += len(data)
        if self._size >= _BLOCK:
            self.flush()

    def flush(self) -> None:
        if self._waiting:
            self._put(b"".join(self._waiting))
            self._waiting.clear()
            self._size = 0
            if self._file is not None:
                self._file.flush()

    def _put(self, data: bytes) -> None:
        self._left -= len(data)
        if self._file is None:
            return
        try:
            if self._left < 0:
                raise OSError("the recording has reached its largest size")
            self._file.write(data)
        except OSError as error:
            log.warning("recording %s ends: %s", self.path.name, error)
            self.close()

    @property
    def closed(self) -> bool:
        return self._file is None

    def end(self) -> None:
        """The connection is over."""
        self.flush()
        self.close()

    def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()


def _block(data: bytes, milliseconds: int) -> bytes:
    return struct.pack("!I", len(data)) + data + bytes(-len(data) % 4) + struct.pack("!I", milliseconds)


def blocks(path: Path, *, skim: bool = False) -> Iterator[tuple[float, bytes]]:
    """(seconds since the beginning, octets of the server's stream) without RFB's first words. Raises OSError, RfbError.

    What a relay that was killed left half written is the end. ``skim``: the times alone, without reading the octets.
    """
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise RfbError(f"{path.name} is no recording")
        first = True
        while len(head := file.read(4)) == 4:
            (size,) = struct.unpack("!I", head)
            padded = size + -size % 4
            body = b"" if skim else file.read(padded)
            if skim:
                file.seek(padded, os.SEEK_CUR)
            stamp = file.read(4)
            if len(stamp) < 4:
                return
            if not first:
                yield struct.unpack("!I", stamp)[0] / 1000, body[:size]
            first = False


class Recordings:
    """Those made here, ``<session>.<when it began, UNIX time>.fbs``, and elsewhere those brought to be played."""

    def __init__(self, directory: Path) -> None:
        self._made, self._brought = directory / "recordings", directory / "playback"
        for folder in (self._made, self._brought):
            folder.mkdir(mode=0o700, exist_ok=True)
        self._running: set[Recorder] = set()
        self._next_look = 0.0

    def begin(self, session: Session, config: Config) -> Recorder:
        """Record a connection of ``session`` from its ServerInit on. Raises OSError."""
        began = int(time.time())
        while (path := self._made / f"{session.id}.{began}.fbs").exists():
            began += 1
        recorder = Recorder(path, config.console.recording_size << 20)
        self._running.add(recorder)
        return recorder

    def known(self) -> list[dict[str, Any]]:
        """Name, size in octets, and whether it is finished, of every recording made here."""
        running = {recorder.path for recorder in self._running if not recorder.closed}
        found = []
        for path in sorted(self._made.glob("*.fbs")):
            with contextlib.suppress(OSError):
                about = {"recording": path.stem, "size": path.stat().st_size, "finished": path not in running}
                found.append(about)
        return found

    def serve(self, request: dict[str, Any], data: bytes) -> bytes:
        """What the control plane does with recordings (service.py). Names are those of sessions, checked by the agent.

        ``read``: a piece of one from ``offset``, b"" when it is not there. ``bring``: put ``data`` into one to be
        played, from ``offset`` on. ``remove``: one was fetched. Raises OSError.
        """
        name, offset = f"{request['name']}.fbs", request.get("offset", 0)
        match request["do"]:
            case "read":
                if not (self._made / name).exists():
                    return b""
                with (self._made / name).open("rb") as file:
                    file.seek(offset)
                    return file.read(PIECE)
            case "bring":
                flags = os.O_WRONLY | os.O_CREAT | (0 if offset else os.O_TRUNC)
                with os.fdopen(os.open(self._brought / name, flags, 0o600), "wb") as file:
                    file.seek(offset)
                    file.write(data)
            case "remove":
                (self._made / name).unlink(missing_ok=True)
        return b""

    def brought(self, name: str) -> Path:
        """Where a recording is that was brought to be played."""
        return self._brought / f"{name}.fbs"

    def tick(self, config: Config, played: Collection[str]) -> None:
        """Write what waits, remove what nobody fetches or plays any more; called every second.

        ``played``: the recordings that sessions of the document show.
        """
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + _FLUSH
        self._running = {recorder for recorder in self._running if not recorder.closed}
        for recorder in self._running:
            recorder.flush()
        old = time.time() - config.console.recording_age
        for path in self._made.glob("*.fbs"):
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < old:
                    path.unlink()
        for path in self._brought.glob("*.fbs"):
            if path.stem not in played:
                path.unlink(missing_ok=True)
