"""What is wrong with a state disk."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from appliance.agent.statedisk import LEAST_FREE, trouble


def test_a_disk_with_room_is_well(tmp_path: Path) -> None:
    assert trouble(tmp_path, tmp_path) == ""


def test_a_full_disk_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nearly = SimpleNamespace(f_bavail=LEAST_FREE // 1024 - 1, f_frsize=1024)
    monkeypatch.setattr(os, "statvfs", lambda _: nearly)
    assert "full: 2047 KiB are free" in trouble(tmp_path, tmp_path)
    assert "remove" in trouble(tmp_path, tmp_path)


def test_what_was_found_at_boot_goes_first(tmp_path: Path) -> None:
    (tmp_path / "degraded").write_text("no file system\n")
    assert trouble(tmp_path, tmp_path / "missing") == "no file system"


def test_a_disk_that_is_gone_is_told(tmp_path: Path) -> None:
    assert "cannot be read" in trouble(tmp_path, tmp_path / "missing")


def test_the_image_has_the_same_limit() -> None:
    init = Path(__file__).parents[4] / "image-build/initrd/init"
    assert f"LEAST_FREE={LEAST_FREE}\n" in init.read_text()
