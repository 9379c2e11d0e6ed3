"""The clock of a recording that is shown: stopped, moved, at other speeds, and for a browser that is slow."""

from __future__ import annotations

import asyncio
import struct
from pathlib import Path

import pytest

from consoleproxy.services.console.relay import playback
from consoleproxy.services.console.relay.playback import LONGEST_PAUSE, Clock, length, shown


class Time:
    """Seconds that pass when somebody waits for them."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    made = Time()
    monkeypatch.setattr(playback, "time", made)
    return made


def recording(path: Path, *times: float) -> Path:
    def block(data: bytes, when: float) -> bytes:
        return struct.pack("!I", len(data)) + data + bytes(-len(data) % 4) + struct.pack("!I", round(1000 * when))

    path.write_bytes(b"FBS 001.000\n" + block(b"RFB 003.003\n\0\0\0\1", 0) + b"".join(block(b"x", at) for at in times))
    return path


def test_long_pauses_are_short(tmp_path: Path) -> None:
    path = recording(tmp_path / "r.fbs", 1, 2, 3600, 3601)
    assert [at for at, _ in shown(path)] == [0, 1, 1 + LONGEST_PAUSE, 2 + LONGEST_PAUSE]
    assert length(path) == 2 + 2 * LONGEST_PAUSE


def test_it_goes_stops_and_goes_faster(time: Time) -> None:
    clock = Clock()
    clock.begin(100)
    clock._due = 50.0
    time.now += 10
    assert clock.position == 10
    clock.set(paused=True)
    time.now += 10
    assert clock.position == 10
    clock.set(speed=4, paused=False)
    time.now += 5
    assert clock.tell() == {"position": 30, "length": 100, "speed": 4, "paused": False}
    clock.set(speed=1000)
    assert clock.speed == 16
    time.now += 1000
    assert clock.position == 50, "the next block has not been shown"


def test_moves(time: Time) -> None:
    clock = Clock()
    clock.begin(100)
    clock._due = 50.0
    assert clock.move(40) is False
    assert clock.position == 40
    assert clock.move(20) is True
    assert clock.position == 20
    assert clock.move(1000) is False
    assert clock.position == 100
    assert clock.move(-5) is True
    assert clock.position == 0


def test_a_connection_that_comes_back_is_where_it_was(time: Time) -> None:
    clock = Clock()
    clock.begin(100)
    clock.move(40)
    time.now += 60
    clock.begin(100)
    assert clock.position == 40


def test_waiting() -> None:
    async def body() -> None:
        clock = Clock()
        clock.begin(100)
        clock.set(paused=True)
        waiting = asyncio.ensure_future(clock.until(30))
        await asyncio.sleep(0)
        assert not waiting.done()
        # what is before a moment comes at once, and what is after it does not
        clock.move(40)
        await asyncio.wait_for(waiting, 5)
        await asyncio.wait_for(clock.until(39), 5)
        waiting = asyncio.ensure_future(clock.until(40.01))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        clock.set(paused=False)
        await asyncio.wait_for(waiting, 5)

    asyncio.run(body())


def test_it_stands_still_at_its_end_until_it_is_let_go() -> None:
    async def body() -> None:
        clock = Clock()
        clock.begin(100)
        clock.set(paused=True)
        clock.move(1000)
        ending = asyncio.ensure_future(clock.until(100))
        await asyncio.sleep(0)
        assert not ending.done()
        clock.set(paused=False)
        await asyncio.wait_for(ending, 10)

    asyncio.run(body())
