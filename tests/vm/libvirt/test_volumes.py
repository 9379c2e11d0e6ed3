"""Disks of virtual machines through libvirt, with the small guest: what it sees, and what is in their files."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import pytest

from appliance.run import run
from controlplane.hypervisors.base import GuestDisk, GuestSpec, HypervisorError
from tests.vm.libvirt.site import Site
from tests.wait import wait_for

MIB = 1 << 20
ID = "g-disks"


@pytest.fixture(scope="module")
def files(site: Site) -> Path:
    site.hypervisor.volumes.prepare_pool(site.hypervisor.pool)
    return site.hypervisor.pool / "volumes"


@pytest.fixture(scope="module")
def spec(site: Site, files: Path) -> GuestSpec:
    """A guest with a root disk larger than its template, and one of data."""
    root, data = files / "root.qcow2", files / "data.qcow2"
    template = site.hypervisor.volumes.size(site.hypervisor.storage.template("builtin"))
    assert site.hypervisor.make_root(root, "builtin", 64 * MIB) == max(template, 64 * MIB)
    site.hypervisor.volumes.create(data, 64 * MIB)
    disks = (GuestDisk(root, 0), GuestDisk(data, 1, "0123456789abcdef0123"))
    return GuestSpec(ID, "vm1", (), "builtin", memory_mb=192, disks=disks)


@pytest.fixture(scope="module")
def guest(site: Site, spec: GuestSpec) -> Site:
    site.hypervisor.start_guest(spec)
    site.guest(ID, "true")
    return site


def content(file: Path, megabytes: int = 64) -> bytes:
    """The disk in a qcow2 file that nothing writes to."""
    raw = file.with_suffix(".raw")
    run(["qemu-img", "convert", "-f", "qcow2", "-O", "raw", str(file), str(raw)])
    try:
        return raw.read_bytes()[: megabytes * MIB]
    finally:
        raw.unlink()


def sectors(guest: Site, name: str) -> int:
    return int(guest.guest(ID, f"cat /sys/block/{name}/size").stdout)


def test_a_guest_has_its_disks_by_number_and_serial(guest: Site) -> None:
    assert sectors(guest, "vda") * 512 >= 64 * MIB
    assert sectors(guest, "vdb") * 512 == 64 * MIB
    assert guest.guest(ID, "cat /sys/block/vdb/serial").stdout == "0123456789abcdef0123"


def test_a_disk_is_plugged_grows_and_is_unplugged_while_it_runs(guest: Site, files: Path) -> None:
    hypervisor, file = guest.hypervisor, files / "second.qcow2"
    hypervisor.volumes.create(file, 16 * MIB)
    disk = GuestDisk(file, 4, "second")
    hypervisor.attach_disk(ID, disk)
    hypervisor.attach_disk(ID, disk)
    # Linux numbers disks as they come; their serials tell which is which
    names = "grep -lx second /sys/block/vd*/serial | cut -d / -f 4"
    name = wait_for(lambda: guest.guest(ID, names).stdout, 60, "the new disk").strip()
    assert guest.guest(ID, f"echo hello | dd of=/dev/{name} conv=fsync").returncode == 0
    # nothing else may change it meanwhile
    with pytest.raises(HypervisorError, match="is using the volume"):
        hypervisor.volumes.resize(file, 32 * MIB)
    assert hypervisor.resize_disk(ID, file, 32 * MIB)
    wait_for(lambda: sectors(guest, name) * 512 == 32 * MIB, 10, "the disk to have grown")
    hypervisor.detach_disk(ID, file)
    assert name not in guest.guest(ID, "ls /sys/block").stdout
    assert hypervisor.volumes.size(file) == 32 * MIB
    assert content(file).startswith(b"hello\n")


def test_a_copy_is_the_disk_as_it_was_when_it_was_asked_for(guest: Site, files: Path) -> None:
    write = "dd if=/dev/urandom of=/dev/vdb bs=1M count=8 conv=fsync 2>/dev/null; sha256sum </dev/vdb"
    before = guest.guest(ID, write).stdout.split()[0]
    target, ended = files.parent / "snapshots/s1.qcow2", threading.Event()

    def go_on_writing() -> None:
        while not ended.is_set():
            guest.guest(ID, "dd if=/dev/urandom of=/dev/vdb bs=1M count=4 seek=4 conv=fsync,notrunc 2>/dev/null")

    # written to from when the copy has begun: what is read here is its beginning, not its end
    begun = guest.hypervisor.copy_disk
    writer = threading.Thread(target=go_on_writing)
    assert begun(ID, files / "data.qcow2", target, quiesce=False)
    writer.start()
    again = files.parent / "snapshots/s2.qcow2"
    try:
        assert begun(ID, files / "data.qcow2", again, quiesce=False)
    finally:
        ended.set()
        writer.join()
    assert hashlib.sha256(content(target)).hexdigest() == before
    # a copy beside writes is a whole image: what nobody wrote to is as it was
    assert content(again)[: 4 * MIB] == content(target)[: 4 * MIB]
    assert run(["qemu-img", "check", str(again)]).returncode == 0
    assert not list(target.parent.glob("*.new"))


def test_a_copy_that_was_cut_off_is_made_anew(guest: Site, files: Path) -> None:
    target = files.parent / "snapshots/s3.qcow2"
    target.with_name("s3.qcow2.new").write_bytes(b"half of something")
    assert guest.hypervisor.copy_disk(ID, files / "data.qcow2", target, quiesce=False)
    assert guest.hypervisor.volumes.size(target) == 64 * MIB


def test_a_stopped_guest_goes_back_to_a_copy(guest: Site, files: Path, spec: GuestSpec) -> None:
    hypervisor, data, copy = guest.hypervisor, files / "data.qcow2", files.parent / "snapshots/s1.qcow2"
    with pytest.raises(HypervisorError, match="is using the volume"):
        hypervisor.volumes.copy(data, files / "never.qcow2")
    hypervisor.stop(ID, force=True)
    assert not hypervisor.copy_disk(ID, data, files / "never.qcow2", quiesce=False)
    old = hashlib.sha256(content(copy)).hexdigest()
    assert hashlib.sha256(content(data)).hexdigest() != old
    hypervisor.volumes.copy(copy, files / "data.revert")
    hypervisor.volumes.replace(data, files / "data.revert")
    hypervisor.start_guest(spec)
    assert guest.guest(ID, "sha256sum </dev/vdb").stdout.split()[0] == old


def test_a_root_disk_in_another_pool_refers_to_nothing(guest: Site, files: Path, spec: GuestSpec) -> None:
    hypervisor, other = guest.hypervisor, guest.directory / "second-pool"
    hypervisor.stop(ID, force=True)
    hypervisor.volumes.prepare_pool(other)
    moved = other / "volumes/root.qcow2"
    hypervisor.volumes.copy(files / "root.qcow2", moved)
    assert "backing" not in run(["qemu-img", "info", str(moved)]).stdout
    (files / "root.qcow2").unlink()
    hypervisor.start_guest(GuestSpec(ID, "vm1", (), "builtin", memory_mb=192, disks=(GuestDisk(moved, 0),)))
    assert guest.guest(ID, "hostname").returncode == 0
