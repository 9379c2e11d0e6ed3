"""The directory of an image build, and what builds that were killed leave behind."""

from __future__ import annotations

from pathlib import Path

from tools.image.build import scratch


def test_a_killed_build_is_cleared_away_by_the_next(tmp_path: Path) -> None:
    left = tmp_path / ".work-killed"
    (left / "root").mkdir(parents=True)
    (left / "root" / "file").write_text("half of it")
    with scratch(tmp_path) as work:
        assert list(tmp_path.iterdir()) == [work]
    assert not list(tmp_path.iterdir())


def test_a_build_that_runs_is_left_alone(tmp_path: Path) -> None:
    with scratch(tmp_path) as running:
        (running / "file").write_text("in use")
        with scratch(tmp_path):
            pass
        assert (running / "file").read_text() == "in use"
