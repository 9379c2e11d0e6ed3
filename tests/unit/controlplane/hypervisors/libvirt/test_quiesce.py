"""Copies of a guest whose file systems are frozen: it is thawed and the copy stays, whatever its agent does."""

# ruff: noqa: N802 - the names are libvirt's

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import libvirt
import pytest

from controlplane.hypervisors.base import HypervisorError
from controlplane.hypervisors.libvirt import host as module
from controlplane.hypervisors.libvirt import quiesce
from controlplane.hypervisors.libvirt.host import Host
from controlplane.hypervisors.libvirt.remote.keys import Keys
from controlplane.hypervisors.libvirt.storage import Storage

XML = "<domain><devices><disk><source file='/d.qcow2'/><target dev='vda'/></disk></devices></domain>"
BACKUP = {"operation": libvirt.VIR_DOMAIN_JOB_OPERATION_BACKUP}


class Domain:
    """A domain that is being copied for ``looks`` looks; each call fails as often as ``fails`` says."""

    def __init__(self, looks: int = 3, **fails: int) -> None:
        self.looks, self.fails = looks, fails
        self.frozen = False
        self.calls: list[str] = []
        self.success = True

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if self.fails.get(name, 0) > 0:
            self.fails[name] -= 1
            raise libvirt.libvirtError(f"{name} failed")

    def name(self) -> str:
        return "g-1"

    def isActive(self) -> bool:
        return True

    def XMLDesc(self, flags: int = 0) -> str:
        return XML

    def fsFreeze(self) -> int:
        if self.frozen:
            raise libvirt.libvirtError("frozen already")
        self._call("fsFreeze")
        self.frozen = True
        return 1

    def fsThaw(self) -> int:
        self._call("fsThaw")
        was, self.frozen = self.frozen, False
        return int(was)

    def backupBegin(self, xml: str, checkpoint: object, flags: int) -> None:
        self._call("backupBegin")
        assert self.frozen
        self.calls.append("copied")

    def jobStats(self, flags: int = 0) -> dict[str, object]:
        if flags:
            return {"success": self.success}
        if "copied" in self.calls and self.looks:
            self.looks -= 1
            return dict(BACKUP)
        return {}

    def abortJob(self) -> None:
        self.calls.append("abortJob")


Copy = Callable[[Domain], None]


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Copy:
    monkeypatch.setattr(module, "_LOOK", 0)
    monkeypatch.setattr(quiesce, "_AGAIN", 0.0)

    def copied(domain: Domain) -> None:
        class Connection:
            def isAlive(self) -> bool:
                return True

            def lookupByName(self, name: str) -> Domain:
                return domain

        monkeypatch.setattr(libvirt, "open", lambda uri: Connection())
        host = Host("qemu:///system", tmp_path, Storage(tmp_path), "169.254.0.1", owner="me", keys=Keys(tmp_path))
        host.copy_disk("g-1", Path("/d.qcow2"), tmp_path / "copy", quiesce=True)

    return copied


def test_a_guest_writes_again_when_its_copy_has_begun(copy: Copy) -> None:
    domain = Domain()
    copy(domain)
    assert domain.calls == ["fsFreeze", "backupBegin", "copied", "fsThaw"]


def test_a_guest_that_is_not_thawed_at_once_is_thawed_later_and_keeps_its_copy(copy: Copy) -> None:
    domain = Domain(fsThaw=2)
    copy(domain)
    assert not domain.frozen and "abortJob" not in domain.calls


def test_the_last_try_is_after_a_copy_that_ended_quickly(copy: Copy, caplog: pytest.LogCaptureFixture) -> None:
    domain = Domain(looks=0, fsThaw=0)
    copy(domain)
    assert not domain.frozen
    stuck = Domain(fsThaw=99)
    copy(stuck)
    assert stuck.frozen and "abortJob" not in stuck.calls
    assert "reboot it" in caplog.text


def test_a_copy_that_does_not_begin_leaves_no_guest_frozen(copy: Copy) -> None:
    domain = Domain(backupBegin=1, fsThaw=0)
    with pytest.raises(HypervisorError, match="backupBegin failed"):
        copy(domain)
    assert not domain.frozen
    failed = Domain()
    failed.success = False
    with pytest.raises(HypervisorError, match="it was cut off"):
        copy(failed)
    assert not failed.frozen


def test_what_an_earlier_control_plane_left_frozen_is_thawed_first(copy: Copy) -> None:
    domain = Domain()
    domain.frozen = True
    copy(domain)
    assert not domain.frozen and domain.calls[0] == "fsThaw"


def test_a_guest_without_an_agent_is_told(copy: Copy) -> None:
    domain = Domain(fsFreeze=9, fsThaw=9)
    with pytest.raises(HypervisorError, match=r"cannot be quiesced: .*qemu-guest-agent"):
        copy(domain)
    assert "backupBegin" not in domain.calls
