"""Recordings of sessions: made while the screen is watched, played back to a browser as a VNC server would.

The format is FBS 001.000, which players of VNC recordings know: "FBS 001.000\\n", then blocks of a length, that many
octets of the server's stream padded to four, and the milliseconds since the beginning at which the last of them came.
The stream begins as RFB 3.3 without security, so that it needs no client's answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from consoleproxy.rfb.errors import RfbError
from consoleproxy.services.console.model import Session
from consoleproxy.services.console.relay.config import Config
from consoleproxy.services.console.relay.link import HIGH_WATER, PLAYED, Link

log = logging.getLogger(__name__)

_MAGIC = b"FBS 001.000\n"
#: RFB 3.3 and security type 1, none
_PREFIX = b"RFB 003.003\n" + struct.pack("!I", 1)
#: octets that wait to be written, and seconds after which they are
_BLOCK, _FLUSH = 65536, 2.0
#: seconds that nothing happened are played as this many
LONGEST_PAUSE = 2.0


class Recorder:
    """Writes one recording. A full disk or the largest size ends it, and not the session."""

    def __init__(self, path: Path, most: int) -> None:
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
            log.warning("recording %s ends: %s", self._file.name, error)
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


def blocks(path: Path) -> Iterator[tuple[float, bytes]]:
    """(seconds since the beginning, octets of the server's stream) without RFB's first words. Raises OSError, RfbError.

    What a relay that was killed left half written is the end.
    """
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise RfbError(f"{path.name} is no recording")
        first = True
        while len(head := file.read(4)) == 4:
            (size,) = struct.unpack("!I", head)
            padded = size + -size % 4
            body = file.read(padded + 4)
            if len(body) < padded + 4:
                return
            if not first:
                yield struct.unpack("!I", body[padded:])[0] / 1000, body[:size]
            first = False


class Player:
    """Stands where a VNC server does: takes no notice of the browser, and stops while it cannot take more."""

    def __init__(self) -> None:
        self.transport = self
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.dropped = False

    def write(self, data: bytes) -> None: ...

    def data_received(self, data: bytes) -> None: ...

    def pause(self) -> None:
        self.flowing.clear()

    def resume(self) -> None:
        self.flowing.set()

    def drop(self) -> None:
        self.dropped = True
        self.flowing.set()


class Recordings:
    """The recordings in ``directory``: ``<session>.<number of its connection>.fbs``."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(mode=0o700, exist_ok=True)
        self._running: set[Recorder] = set()
        self._next_look = 0.0

    def begin(self, session: Session, config: Config) -> Recorder:
        """Record a connection of ``session`` from its ServerInit on. Raises OSError."""
        number = 1 + sum(path.name.rpartition(".")[0].rpartition(".")[0] == session.id for path in self._paths())
        path = self._directory / f"{session.id}.{number}.fbs"
        recorder = Recorder(path, config.console.recording_size << 20)
        self._running.add(recorder)
        return recorder

    async def play(self, link: Link, name: str) -> None:
        """Show a recording with its own timing, long pauses shortened. Raises OSError, RfbError and TimeoutError."""
        path = self._directory / f"{name}.fbs"
        parts = blocks(path)
        began, first = next(parts, (0.0, b""))
        link.greet()
        assert link.greeted is not None
        async with asyncio.timeout(15):
            await link.greeted
        player = Player()
        link.attach(player, b"", b"")
        before = began
        link.deliver(first)
        for when, data in parts:
            await asyncio.sleep(min(when - before, LONGEST_PAUSE))
            before = when
            for at in range(0, len(data), HIGH_WATER):
                await player.flowing.wait()
                if player.dropped:
                    return
                link.deliver(data[at : at + HIGH_WATER])
            # somebody watches
            link.last_input = time.monotonic()
        # the last picture is seen for a moment too
        await asyncio.sleep(LONGEST_PAUSE)
        link.close(PLAYED, "the recording is over")

    def known(self) -> list[dict[str, object]]:
        """Name, session, size in octets and when it was last written to (UNIX time) of every recording."""
        found: list[dict[str, object]] = []
        for path in self._paths():
            with contextlib.suppress(OSError):
                about = path.stat()
                name = path.name.removesuffix(".fbs")
                found.append(
                    {
                        "recording": name,
                        "session": name.rpartition(".")[0],
                        "size": about.st_size,
                        "written": about.st_mtime,
                    }
                )
        return found

    def tick(self, config: Config) -> None:
        """Write what waits, and remove what is too old; called every second."""
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + _FLUSH
        self._running = {recorder for recorder in self._running if not recorder.closed}
        for recorder in self._running:
            recorder.flush()
        old = time.time() - config.console.recording_age
        for path in self._paths():
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < old:
                    path.unlink()

    def _paths(self) -> list[Path]:
        return sorted(self._directory.glob("*.fbs"))
