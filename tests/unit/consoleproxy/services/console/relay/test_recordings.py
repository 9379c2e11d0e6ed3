"""Recordings on disk: what was seen is what is played, whatever happened to the file meanwhile."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consoleproxy.rfb.errors import RfbError
from consoleproxy.services.console.model import Console, Session
from consoleproxy.services.console.relay.config import Config
from consoleproxy.services.console.relay.recordings import Recorder, Recordings, blocks


def recorded(path: Path, parts: list[bytes], most: int = 1 << 30) -> bytes:
    recorder = Recorder(path, most)
    for part in parts:
        recorder.watch(part)
    recorder.end()
    return path.read_bytes()


PARTS = st.lists(st.binary(min_size=1, max_size=70_000), max_size=5)


@given(PARTS)
def test_what_was_seen_is_played(tmp_path_factory: pytest.TempPathFactory, parts: list[bytes]) -> None:
    path = tmp_path_factory.mktemp("r") / "session.1.fbs"
    recorded(path, parts)
    played = list(blocks(path))
    assert [data for _, data in played] == parts
    times = [when for when, _ in played]
    assert times == sorted(times)
    assert path.stat().st_mode & 0o777 == 0o600


@given(parts=PARTS, cut=st.integers(0, 1 << 20))
def test_half_a_recording_is_played_as_far_as_it_goes(
    tmp_path_factory: pytest.TempPathFactory, parts: list[bytes], cut: int
) -> None:
    path = tmp_path_factory.mktemp("r") / "session.1.fbs"
    whole = recorded(path, parts)
    path.write_bytes(whole[: cut % (len(whole) + 1)])
    try:
        played = [data for _, data in blocks(path)]
    except RfbError:
        return  # not even its first words are there
    assert played == parts[: len(played)]


def test_a_full_disk_or_the_largest_size_ends_the_recording_and_nothing_else(tmp_path: Path) -> None:
    parts = [bytes(60_000)] * 5
    recorded(tmp_path / "r.1.fbs", parts, most=150_000)
    assert (tmp_path / "r.1.fbs").stat().st_size <= 150_000
    assert 0 < len(list(blocks(tmp_path / "r.1.fbs"))) < 5


@given(PARTS)
def test_times_without_octets(tmp_path_factory: pytest.TempPathFactory, parts: list[bytes]) -> None:
    path = tmp_path_factory.mktemp("r") / "session.1.fbs"
    recorded(path, parts)
    assert [when for when, _ in blocks(path, skim=True)] == [when for when, _ in blocks(path)]


def config(age: int = 100) -> Config:
    return cast(Config, SimpleNamespace(console=Console(recording_age=age, recording_size=1)))


SESSION = cast(Session, SimpleNamespace(id="s-1"))


def test_what_the_control_plane_gets_and_brings(tmp_path: Path) -> None:
    recordings = Recordings(tmp_path)
    recorder = recordings.begin(SESSION, config())
    recorder.watch(b"picture")
    [known] = recordings.known()
    name = known["recording"]
    assert (name.rpartition(".")[0], known["finished"]) == ("s-1", False)
    recorder.end()
    [known] = recordings.known()
    assert known["finished"] is True
    whole = (tmp_path / "recordings" / f"{name}.fbs").read_bytes()
    assert known["size"] == len(whole)
    assert recordings.serve({"do": "read", "name": name, "offset": 4}, b"") == whole[4:]
    assert recordings.serve({"do": "read", "name": name, "offset": len(whole)}, b"") == b""
    assert recordings.serve({"do": "read", "name": "s-2.1"}, b"") == b""
    recordings.serve({"do": "remove", "name": name}, b"")
    assert recordings.known() == []
    for offset in (0, 10):
        piece = whole[offset : 10 if not offset else None]
        recordings.serve({"do": "bring", "name": name, "offset": offset}, piece)
    assert [data for _, data in blocks(recordings.brought(name))] == [b"picture"]


def test_a_session_that_comes_back_has_another_recording(tmp_path: Path) -> None:
    recordings = Recordings(tmp_path)
    for _ in range(3):
        recordings.begin(SESSION, config()).end()
    assert len({one["recording"] for one in recordings.known()}) == 3


def test_what_nobody_fetches_or_plays_goes(tmp_path: Path) -> None:
    recordings = Recordings(tmp_path)
    recordings.begin(SESSION, config()).end()
    for name in ("s-2.1", "s-3.1"):
        recordings.serve({"do": "bring", "name": name}, b"x")
    recordings.tick(config(), {"s-2.1"})
    assert (recordings.brought("s-2.1").exists(), recordings.brought("s-3.1").exists()) == (True, False)
    assert len(recordings.known()) == 1
    for path in (tmp_path / "recordings").iterdir():
        os.utime(path, (0, 0))
    later = Recordings(tmp_path)
    later.tick(config(), {"s-2.1"})
    assert later.known() == []


def test_what_is_no_recording(tmp_path: Path) -> None:
    (tmp_path / "x.fbs").write_bytes(b"something else")
    with pytest.raises(RfbError, match="is no recording"):
        list(blocks(tmp_path / "x.fbs"))
