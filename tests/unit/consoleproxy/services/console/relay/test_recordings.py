"""Recordings on disk: what was seen is what is played, whatever happened to the file meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consoleproxy.rfb.errors import RfbError
from consoleproxy.services.console.relay.recordings import Recorder, blocks


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


def test_what_is_no_recording(tmp_path: Path) -> None:
    (tmp_path / "x.fbs").write_bytes(b"something else")
    with pytest.raises(RfbError, match="is no recording"):
        list(blocks(tmp_path / "x.fbs"))
