"""Volumes in guests: files that a storage daemon serves, and what is in them when it has ended."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from appliance.run import run
from controlplane.hypervisors import syscalls
from controlplane.hypervisors.base import GuestDisk, GuestSpec, HypervisorError
from controlplane.hypervisors.namespace.disks import daemon_user
from controlplane.hypervisors.namespace.driver import NamespaceHypervisor
from controlplane.hypervisors.namespace.processes import recorded
from tests.netns.hypervisor.machine import look, namespaces_of
from tests.wait import wait_for

MIB = 1 << 20
ID = "g-1"
SERIAL = "0123456789abcdef0123"


@pytest.fixture
def files(hypervisor: NamespaceHypervisor) -> Path:
    hypervisor.volumes.prepare_pool(hypervisor.pool)
    return hypervisor.pool / "volumes"


@pytest.fixture
def disk(hypervisor: NamespaceHypervisor, files: Path) -> GuestDisk:
    """A volume of 64 MiB that nobody has."""
    path = files / "data.qcow2"
    hypervisor.volumes.create(path, 64 * MIB)
    return GuestDisk(path, 1, SERIAL)


@pytest.fixture
def guest(hypervisor: NamespaceHypervisor) -> Iterator[NamespaceHypervisor]:
    hypervisor.start_guest(spec())
    yield hypervisor


def spec(*disks: GuestDisk) -> GuestSpec:
    return GuestSpec(ID, "vm1", (), "bare", disks=(GuestDisk(Path("/nowhere"), 0), *disks))


def shell(hypervisor: NamespaceHypervisor, script: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
    return run(hypervisor.command(ID, ["sh", "-ec", script]), check=check)


def out(hypervisor: NamespaceHypervisor, script: str) -> str:
    return shell(hypervisor, script).stdout.strip()


def content(file: Path) -> bytes:
    """The disk in a qcow2 file that nothing writes to."""
    raw = file.with_suffix(".raw")
    run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(file), str(raw)])
    try:
        return raw.read_bytes()
    finally:
        raw.unlink()


def daemon(hypervisor: NamespaceHypervisor, name: str = "vdb") -> int:
    process = recorded(hypervisor.directory / "instances" / ID / "disks" / name)
    assert process is not None and process.alive()
    return process.pid


def test_a_file_system_goes_from_one_guest_to_another(guest: NamespaceHypervisor, disk: GuestDisk) -> None:
    guest.attach_disk(ID, disk)
    guest.attach_disk(ID, disk)
    assert out(guest, f"readlink -f /dev/disk/by-id/virtio-{SERIAL}") == "/dev/vdb"
    script = (
        "mkfs.ext4 -q /dev/vdb; echo hello >/tmp/file; debugfs -w -R 'write /tmp/file f' /dev/vdb; e2fsck -fn /dev/vdb"
    )
    shell(guest, script)
    # what writes to a block device from its beginning does so here
    assert out(guest, "echo boot | dd of=/dev/vdb 2>&1 >/dev/null; head -c 4 /dev/vdb; stat -c %s /dev/vdb") != ""
    assert out(guest, "head -c 4 /dev/vdb") == "boot"
    assert out(guest, "stat -c %s /dev/vdb") == str(64 * MIB)
    guest.detach_disk(ID, disk.path)
    guest.detach_disk(ID, disk.path)
    assert shell(guest, "ls /dev/vdb", check=False).returncode != 0
    assert namespaces_of(guest.directory) and not (guest.directory / "instances" / ID / "disks/vdb").exists()
    guest.destroy(ID)
    # another one has it from its start
    guest.start_guest(spec(disk))
    assert out(guest, "debugfs -R 'cat f' /dev/vdb 2>/dev/null") == "hello"


def test_a_disk_keeps_its_size_until_it_is_resized(guest: NamespaceHypervisor, disk: GuestDisk) -> None:
    guest.attach_disk(ID, disk)
    for attempt in ("truncate -s 1G /dev/vdb", "truncate -s 0 /dev/vdb", "fallocate -l 65M /dev/vdb"):
        assert shell(guest, attempt, check=False).returncode != 0
    beyond = shell(guest, "dd if=/dev/zero of=/dev/vdb bs=1M seek=63 count=2 conv=notrunc", check=False)
    assert beyond.returncode != 0 and "1+0 records out" in beyond.stderr
    with pytest.raises(HypervisorError, match="is using the volume"):
        guest.volumes.resize(disk.path, 128 * MIB)
    for _ in range(2):
        assert guest.resize_disk(ID, disk.path, 128 * MIB)
    wait_for(lambda: out(guest, "stat -c %s /dev/vdb") == str(128 * MIB), 3, "the guest to see its new size")
    assert shell(guest, "truncate -s 1G /dev/vdb", check=False).returncode != 0
    shell(guest, "echo end | dd of=/dev/vdb bs=1 seek=134217724 conv=notrunc")
    guest.stop(ID, force=True)
    assert not guest.resize_disk(ID, disk.path, 256 * MIB)
    assert guest.volumes.size(disk.path) == 128 * MIB
    assert content(disk.path).endswith(b"end\n")


def test_a_guest_that_resizes_its_disk_in_the_same_moment_gains_nothing(
    guest: NamespaceHypervisor, disk: GuestDisk
) -> None:
    guest.attach_disk(ID, disk)
    script = "while :; do truncate -s 1G /dev/vdb; truncate -s 1M /dev/vdb; done 2>/dev/null"
    racing = subprocess.Popen(guest.command(ID, ["sh", "-c", script]))
    try:
        for size in range(65, 75):
            try:
                guest.resize_disk(ID, disk.path, size * MIB)
            except HypervisorError:
                # it was in the way each time, and lost its disk for that
                guest.attach_disk(ID, disk)
                continue
            assert guest.volumes.size(disk.path) == size * MIB
    finally:
        racing.kill()
        racing.wait()


def test_a_copy_is_the_disk_as_it_was_when_it_was_asked_for(guest: NamespaceHypervisor, disk: GuestDisk) -> None:
    guest.attach_disk(ID, disk)
    write = "dd if=/dev/urandom of=/dev/vdb bs=1M count=32 2>/dev/null; sha256sum /dev/vdb"
    before = out(guest, write).split()[0]
    snapshots, ended = guest.pool / "snapshots", threading.Event()
    first, second = snapshots / "s1.qcow2", snapshots / "s2.qcow2"
    second.with_name("s2.qcow2.new").write_bytes(b"half of something")
    assert guest.copy_disk(ID, disk.path, first, quiesce=False)
    assert hashlib.sha256(content(first)).hexdigest() == before

    def go_on_writing() -> None:
        while not ended.is_set():
            shell(
                guest,
                "for i in 31 30 29 28; do dd if=/dev/zero of=/dev/vdb bs=1M count=1 seek=$i conv=notrunc; done 2>&1",
            )

    writer = threading.Thread(target=go_on_writing)
    writer.start()
    try:
        assert guest.copy_disk(ID, disk.path, second, quiesce=False)
    finally:
        ended.set()
        writer.join()
    # a copy beside writes is a whole image: what nobody wrote to is as it was
    assert content(second)[: 28 * MIB] == content(first)[: 28 * MIB]
    run(["qemu-img", "check", str(second)])
    assert sorted(path.name for path in snapshots.iterdir()) == ["s1.qcow2", "s2.qcow2"]
    # the daemon has let go of it
    assert not has_open(daemon(guest), second)
    with pytest.raises(HypervisorError, match="cannot be quiesced"):
        guest.copy_disk(ID, disk.path, snapshots / "s3.qcow2", quiesce=True)


def has_open(pid: int, path: Path) -> bool:
    """Whether a process has a file open."""
    inode = path.stat().st_ino
    return any(entry.stat().st_ino == inode for entry in Path(f"/proc/{pid}/fd").iterdir())


def test_a_daemon_has_its_volume_and_nothing_else(guest: NamespaceHypervisor, disk: GuestDisk) -> None:
    guest.attach_disk(ID, disk)
    pid = daemon(guest)
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    assert status["Uid"].split() == [str(daemon_user()[0])] * 4 and daemon_user()[0] != 0
    assert status["Groups"].split() == []
    assert {status[name].strip() for name in ("CapInh", "CapPrm", "CapEff", "CapBnd")} == {"0" * 16}
    assert status["NoNewPrivs"].strip() == "1"
    limits = Path(f"/proc/{pid}/limits").read_text()
    assert "Max address space         1073741824" in limits
    enter = ["nsenter", f"--target={pid}", "--net", "ip", "-json", "address"]
    assert [link["ifname"] for link in json.loads(run(enter).stdout)] == ["lo"]
    root = Path(f"/proc/{pid}/root")
    assert {path.name for path in root.iterdir()} - {"lib32", "libx32", "lib64"} == {
        "usr",
        "bin",
        "sbin",
        "lib",
        "dev",
        "volume",
    }
    for kind in ("net", "pid", "mnt", "ipc", "uts"):
        assert Path(f"/proc/{pid}/ns/{kind}").readlink() != Path(f"/proc/self/ns/{kind}").readlink()
    # the guest cannot reach it, and has nothing of it open
    assert "qemu" not in out(guest, "ps ax; cat /proc/mounts; ls -l /proc/1/fd")
    assert disk.path.stat().st_mode & 0o777 == 0o600


def test_a_daemon_that_is_killed_harms_nobody_else(guest: NamespaceHypervisor, disk: GuestDisk) -> None:
    second = GuestDisk(disk.path.with_name("second.qcow2"), 2, "second")
    guest.volumes.create(second.path, 16 * MIB)
    for one in (disk, second):
        guest.attach_disk(ID, one)
    shell(guest, "echo kept | dd of=/dev/vdb conv=fsync")
    os.kill(daemon(guest), signal.SIGKILL)
    failed = shell(guest, "cat /dev/vdb", check=False)
    assert failed.returncode != 0 and "not connected" in failed.stderr
    shell(guest, "echo fine | dd of=/dev/vdc")
    with pytest.raises(HypervisorError, match="detach the volume and attach it again"):
        guest.copy_disk(ID, disk.path, guest.pool / "snapshots/never.qcow2", quiesce=False)
    guest.attach_disk(ID, disk)
    assert out(guest, "head -c 4 /dev/vdb") == "kept"


def test_a_guest_that_meddles_with_its_disk_is_on_its_own(guest: NamespaceHypervisor, disk: GuestDisk) -> None:
    guest.attach_disk(ID, disk)
    shell(guest, "touch /tmp/kept; mount --bind /dev/vdb /tmp/kept")
    shell(guest, "umount /dev/vdb; rm /dev/vdb; mkdir /dev/vdb; echo x >/dev/vdb/y")
    guest.detach_disk(ID, disk.path)
    assert shell(guest, "cat /tmp/kept", check=False).returncode != 0
    # nobody has it any more
    guest.volumes.resize(disk.path, 128 * MIB)
    with pytest.raises(HypervisorError, match="/dev/vdb"):
        guest.attach_disk(ID, disk)
    shell(guest, "rm -r /dev/vdb; ln -s /etc /dev/vdb")
    guest.attach_disk(ID, disk)
    assert out(guest, "stat -c %s /dev/vdb") == str(128 * MIB)


def test_a_successor_adopts_disks_and_ends_what_is_nobodys(
    directory: Path, guest: NamespaceHypervisor, disk: GuestDisk
) -> None:
    second = GuestDisk(disk.path.with_name("second.qcow2"), 2, "second")
    guest.volumes.create(second.path, 16 * MIB)
    for one in (disk, second):
        guest.attach_disk(ID, one)
    kept, cut_off = daemon(guest), daemon(guest, "vdc")
    # as if it had been killed before the guest had it
    shell(guest, "umount /dev/vdc")
    shell(guest, "setsid -f sh -c 'while :; do date >/dev/vdb; done' </dev/null >/dev/null 2>&1")
    guest.close()
    with closing(NamespaceHypervisor(directory)) as successor:
        successor.open()
        assert daemon(successor) == kept and daemon(successor, "vdc") != cut_off
        assert out(successor, "stat -c %s /dev/vdc") == str(16 * MIB)
        assert successor.copy_disk(ID, disk.path, successor.pool / "snapshots/s.qcow2", quiesce=False)
    # and when the guest is gone
    process = recorded(directory / "instances" / ID)
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    wait_for(lambda: not process.alive(), 5, "the guest to end")
    with closing(NamespaceHypervisor(directory)) as successor:
        successor.open()
        assert namespaces_of(directory) == []
        assert list((directory / "instances" / ID / "disks").iterdir()) == []
        successor.start_guest(spec(disk, second))
        assert out(successor, "ls /dev/disk/by-id | sort").split() == [f"virtio-{SERIAL}", "virtio-second"]
        successor.purge()
    assert namespaces_of(directory) == []
    assert content(disk.path)[:3] in (b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun")


def test_a_copy_of_a_control_plane_that_ended_is_not_in_the_way(guest: NamespaceHypervisor, disk: GuestDisk) -> None:
    guest.attach_disk(ID, disk)
    shell(guest, "dd if=/dev/urandom of=/dev/vdb bs=1M count=48 2>/dev/null")
    target, stopped = guest.pool / "snapshots/s.qcow2", threading.Event()

    class Ended(BaseException):
        pass

    def ends(folder: Path) -> None:
        stopped.set()
        raise Ended

    disks = guest._disks
    end_copy = disks._end_copy
    disks._wait_for_copy, disks._end_copy = ends, lambda folder, process: None  # type: ignore[method-assign]
    with pytest.raises(Ended):
        guest.copy_disk(ID, disk.path, target, quiesce=False)
    del disks._wait_for_copy, disks._end_copy
    assert disks._end_copy == end_copy and stopped.is_set()
    before = out(guest, "sha256sum /dev/vdb").split()[0]
    assert guest.copy_disk(ID, disk.path, target, quiesce=False)
    assert hashlib.sha256(content(target)).hexdigest() == before


def test_what_cannot_be_opened_is_told_and_nothing_is_left(
    directory: Path, guest: NamespaceHypervisor, disk: GuestDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = look(directory)
    broken = GuestDisk(disk.path.with_name("broken.qcow2"), 1)
    whole = disk.path.read_bytes()
    broken.path.write_bytes(whole[:8] + b"\xff" * 16 + whole[24:])
    with pytest.raises(HypervisorError, match=r"volume broken cannot be opened: .*qemu-storage-daemon"):
        guest.attach_disk(ID, broken)
    with pytest.raises(HypervisorError, match="cannot be read"):
        guest.attach_disk(ID, GuestDisk(disk.path.with_name("missing.qcow2"), 1))
    # one that refers to another file is without it
    run(["qemu-img", "create", "-q", "-f", "qcow2", "-u", "-b", "/etc/shadow", "-F", "raw", str(broken.path), "1M"])
    guest.attach_disk(ID, broken)
    assert out(guest, "tr -d '\\0' </dev/vdb | wc -c") == "0"
    guest.detach_disk(ID, broken.path)

    def refuse(kind: str, options: object) -> int:
        raise OSError(19, "No such device")

    monkeypatch.setattr(syscalls, "detached", refuse)
    with pytest.raises(HypervisorError, match="modprobe"):
        guest.attach_disk(ID, disk)
    assert len(namespaces_of(directory)) == 1 and look(directory) == before
    assert list((directory / "instances" / ID / "disks").iterdir()) == []
