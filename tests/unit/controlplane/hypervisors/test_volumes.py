"""Files of volumes: what qemu-img is asked, and what is left when it fails; it is run in tests/vm/libvirt."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from appliance.errors import CommandError
from controlplane.hypervisors import volumes as module
from controlplane.hypervisors.base import HypervisorError
from controlplane.hypervisors.volumes import Volumes


def header(size: int) -> bytes:
    return struct.pack(">4sIQIIQ", b"QFI\xfb", 3, 0, 0, 16, size)


class QemuImg:
    """Writes a header where the real one writes an image."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.error: str | None = None

    def __call__(self, argv: Sequence[str], **_: Any) -> None:
        self.calls.append(list(argv))
        words = argv[argv.index("qemu-img") + 1 :]
        if self.error is not None:
            raise CommandError(list(argv), 1, self.error)
        numbers = [int(word) for word in words if word.isdigit()]
        target = next(word for word in reversed(words) if word.startswith("/"))
        Path(target).write_bytes(header(numbers[0] if numbers else 7))

    @property
    def words(self) -> list[str]:
        return self.calls[-1][self.calls[-1].index("qemu-img") + 1 :]


@pytest.fixture
def qemu_img(monkeypatch: pytest.MonkeyPatch) -> QemuImg:
    made = QemuImg()
    monkeypatch.setattr(module, "run", made)
    return made


@pytest.fixture
def volumes(tmp_path: Path) -> Volumes:
    made = Volumes("me", lambda: (os.geteuid(), os.getegid()))
    made.prepare_pool(tmp_path)
    return made


def test_a_pool_is_one_control_planes(volumes: Volumes, tmp_path: Path) -> None:
    volumes.prepare_pool(tmp_path)
    assert (tmp_path / "volumes").stat().st_mode & 0o777 == 0o711
    with pytest.raises(HypervisorError, match="of another control plane"):
        Volumes("you", lambda: (0, 0)).prepare_pool(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(HypervisorError, match="cannot be a storage pool"):
        volumes.prepare_pool(tmp_path / "file")


def test_a_file_appears_when_it_is_whole_and_is_made_once(volumes: Volumes, tmp_path: Path, qemu_img: QemuImg) -> None:
    file = tmp_path / "volumes/a.qcow2"
    qemu_img.error = "No space left on device"
    with pytest.raises(HypervisorError, match="the storage pool is full"):
        volumes.create(file, 1 << 30)
    assert list(file.parent.iterdir()) == []
    qemu_img.error = None
    file.with_name("a.qcow2.new").write_text("half of one")
    volumes.create(file, 1 << 30)
    volumes.create(file, 1 << 30)
    assert volumes.size(file) == 1 << 30 and file.stat().st_mode & 0o777 == 0o600
    assert len(qemu_img.calls) == 2 and list(file.parent.iterdir()) == [file]


def test_what_reads_a_tenants_bytes_has_limits_and_is_told_the_format(
    volumes: Volumes, tmp_path: Path, qemu_img: QemuImg
) -> None:
    source, target = tmp_path / "volumes/a.qcow2", tmp_path / "snapshots/b.qcow2"
    volumes.create(source, 1 << 20)
    volumes.copy(source, target)
    command = qemu_img.calls[-1]
    assert "--as=1073741824" in command and "--cpu=21600" in command
    assert qemu_img.words[:6] == ["convert", "-q", "-f", "qcow2", "-O", "qcow2"]
    if os.geteuid() == 0:
        assert command[:2] == ["unshare", "--net"] and "--bounding-set=-all" in command
    before = len(qemu_img.calls)
    volumes.copy(source, target)
    assert len(qemu_img.calls) == before


def test_a_root_disk_is_as_large_as_its_template_at_least(volumes: Volumes, tmp_path: Path, qemu_img: QemuImg) -> None:
    template = tmp_path / "t.qcow2"
    template.write_bytes(header(5 << 30))
    template.chmod(0o600)
    assert volumes.overlay(tmp_path / "volumes/r.qcow2", template, 1 << 30) == 5 << 30
    # made without opening it
    assert "-u" in qemu_img.words and str(5 << 30) in qemu_img.words
    assert template.stat().st_mode & 0o004
    assert volumes.overlay(tmp_path / "volumes/s.qcow2", template, 9 << 30) == 9 << 30


def test_a_file_that_is_no_image_is_told(volumes: Volumes, tmp_path: Path) -> None:
    for content in (b"", b"QFI\xfb", b"\0" * 100):
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(HypervisorError, match="is no qcow2 image"):
            volumes.size(tmp_path / "x")
    with pytest.raises(HypervisorError, match="cannot be read"):
        volumes.size(tmp_path / "y")


def test_a_disk_in_use_is_told(volumes: Volumes, tmp_path: Path, qemu_img: QemuImg) -> None:
    source = tmp_path / "volumes/a.qcow2"
    volumes.create(source, 1 << 20)
    qemu_img.error = 'Failed to get "write" lock'
    with pytest.raises(HypervisorError, match="a virtual machine is using the volume"):
        volumes.resize(source, 2 << 20)


@pytest.mark.skipif(os.geteuid() != 0, reason="without root it has nobody else to be")
@pytest.mark.parametrize(("said", "groups"), [("allow", "--clear-groups"), ("deny", "--keep-groups")])
def test_where_there_are_no_other_groups_they_are_not_given_up(
    volumes: Volumes, tmp_path: Path, qemu_img: QemuImg, monkeypatch: pytest.MonkeyPatch, said: str, groups: str
) -> None:
    (tmp_path / "setgroups").write_text(f"{said}\n")
    monkeypatch.setattr(module, "_SETGROUPS", tmp_path / "setgroups")
    volumes.create(tmp_path / "volumes/a.qcow2", 1)
    assert groups in qemu_img.calls[-1]
