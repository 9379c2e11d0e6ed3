"""A recording shown to a browser as a VNC server would, by a clock that the person stops, moves and speeds up."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from consoleproxy.services.console.relay.link import HIGH_WATER, PLAYED, REWIND, Link
from consoleproxy.services.console.relay.recordings import blocks

#: seconds that nothing happened are shown as this many
LONGEST_PAUSE = 2.0
SLOWEST, FASTEST = 0.25, 16.0
#: seconds for the browser's part of the handshake
BROWSER_PATIENCE = 15.0


def shown(path: Path, *, skim: bool = False) -> Iterator[tuple[float, bytes]]:
    """The blocks of a recording with the seconds at which they are shown. Raises OSError and RfbError."""
    at = 0.0
    before: float | None = None
    for when, data in blocks(path, skim=skim):
        at += min(max(0.0, when - before), LONGEST_PAUSE) if before is not None else 0.0
        before = when
        yield at, data


def length(path: Path) -> float:
    """Seconds that a recording is shown for; its last picture is seen for a moment too."""
    last = 0.0
    for at, _ in shown(path, skim=True):
        last = at
    return last + LONGEST_PAUSE


class Clock:
    """Where in a recording a session is, in seconds of showing; it outlives the session's connections."""

    def __init__(self) -> None:
        self.length = 0.0
        self.speed, self.paused = 1.0, False
        self._position, self._since = 0.0, time.monotonic()
        #: what comes until there is shown at once, and when the next block is due
        self._skipped = self._due = 0.0
        self._changed = asyncio.Event()

    @property
    def position(self) -> float:
        # a browser that is slower than the clock is where its last block was
        return min(self._now(), max(self._due, self._skipped))

    def _now(self) -> float:
        return self._position + (0.0 if self.paused else self.speed * (time.monotonic() - self._since))

    def tell(self) -> dict[str, float | bool]:
        """For the page."""
        return {
            "position": round(self.position, 2),
            "length": round(self.length, 2),
            "speed": self.speed,
            "paused": self.paused,
        }

    def set(self, *, speed: float | None = None, paused: bool | None = None) -> None:
        """Go on at another speed, or stop, or go on."""
        self._position, self._since = self.position, time.monotonic()
        if speed is not None:
            self.speed = min(FASTEST, max(SLOWEST, speed))
        if paused is not None:
            self.paused = paused
        self._changed.set()

    def move(self, to: float) -> bool:
        """Go to a moment; whether that is back, so that the showing must begin again."""
        back = to < self.position
        self._position, self._since = min(max(0.0, to), self.length), time.monotonic()
        self._skipped = self._position
        self._changed.set()
        return back

    def begin(self, length: float) -> None:
        """A showing begins: what was seen before comes at once."""
        self.length, self._due = length, 0.0
        self.move(self._position)

    async def until(self, at: float) -> None:
        """Return when the moment ``at`` is due; the end is not, however it was come to, while the clock stands."""
        self._due = at
        while at > self._skipped or (self.paused and at >= self.length):
            self._changed.clear()
            left = (at - self._now()) / self.speed
            if left <= 0 and not self.paused:
                self._position, self._since = at, time.monotonic()
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), None if self.paused else left)


class Player:
    """Stands where a VNC server does: takes no notice of the browser, and stops while it cannot take more."""

    def __init__(self) -> None:
        self.transport = self
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.dropped = asyncio.Event()

    def write(self, data: bytes) -> None: ...

    def data_received(self, data: bytes) -> None: ...

    def pause(self) -> None:
        self.flowing.clear()

    def resume(self) -> None:
        self.flowing.set()

    def drop(self) -> None:
        self.dropped.set()
        self.flowing.set()


async def play(link: Link, path: Path, clock: Clock) -> None:
    """Show the recording from where its clock is. Raises OSError, RfbError and TimeoutError."""
    parts = shown(path)
    clock.begin(await asyncio.to_thread(length, path))
    _, first = next(parts, (0.0, b""))
    link.greet()
    assert link.greeted is not None
    async with asyncio.timeout(BROWSER_PATIENCE):
        await link.greeted
    player = Player()
    link.attach(player, b"", b"")
    link.deliver(first)
    showing = asyncio.ensure_future(_show(link, player, parts, clock))
    dropped = asyncio.ensure_future(player.dropped.wait())
    try:
        await asyncio.wait((showing, dropped), return_when=asyncio.FIRST_COMPLETED)
    finally:
        dropped.cancel()
        showing.cancel()
    if not player.dropped.is_set():
        await showing
        clock.move(0.0)
        link.close(PLAYED, "the recording is over")


async def _show(link: Link, player: Player, parts: Iterator[tuple[float, bytes]], clock: Clock) -> None:
    for at, data in parts:
        await clock.until(at)
        for start in range(0, len(data), HIGH_WATER):
            await player.flowing.wait()
            if player.dropped.is_set():
                return
            link.deliver(data[start : start + HIGH_WATER])
        # somebody watches
        link.last_input = time.monotonic()
    await clock.until(clock.length)


def rewind(link: Link) -> None:
    """Have the page come back for an earlier moment: what a browser has decoded cannot be taken back."""
    link.close(REWIND, "shown from an earlier moment")
