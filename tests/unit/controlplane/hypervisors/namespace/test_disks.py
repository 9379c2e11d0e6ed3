"""How a storage daemon is run, and what a guest has of its disk; it is run in tests/netns/hypervisor."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from controlplane.hypervisors.base import GuestDisk
from controlplane.hypervisors.namespace import disks
from controlplane.hypervisors.namespace.mounts import Mount


def test_a_daemon_keeps_a_disk_at_its_size_and_opens_no_other_file() -> None:
    words = disks.arguments(1 << 30, 7, 9)
    image, disk = (json.loads(words[number + 1]) for number, word in enumerate(words) if word == "--blockdev")
    assert image["driver"] == "qcow2" and image["backing"] is None
    assert (disk["driver"], disk["size"], disk["file"]) == ("raw", 1 << 30, image["node-name"])
    export = dict(word.split("=", 1) for word in words[words.index("--export") + 1].split(","))
    assert (export["type"], export["node-name"], export["growable"]) == ("fuse", disk["node-name"], "off")
    # mounted already, for its descriptor
    assert export["mountpoint"] == "/dev/fd/7"
    assert words[words.index("--chardev") + 1].endswith(",fd=9")


def test_a_daemon_may_write_to_its_volume_alone() -> None:
    mounts = disks.layout(Path("/pool/volumes/v.qcow2"), Path("/folder/empty"), 7)
    writable = [mount.source for mount in mounts if mount.kind == "bind" and not mount.read_only]
    assert writable == ["/pool/volumes/v.qcow2"]
    assert not {mount.target for mount in mounts} & {"/proc", "/sys", "/etc", "/run"}


def test_a_guest_has_a_disk_under_the_names_that_udev_gives() -> None:
    assert disks.shown(GuestDisk(Path("/v"), 2, "serial"), 5) == (
        Mount("detached", "/dev/vdc", "5"),
        Mount("symlink", "/dev/disk/by-id/virtio-serial", "../../vdc"),
    )
    assert disks.shown(GuestDisk(Path("/v"), 1), 5) == (Mount("detached", "/dev/vdb", "5"),)


@pytest.mark.parametrize(
    ("table", "there"),
    [
        ("0 0 4294967295\n", True),
        ("0 1000 1\n", False),
        ("0 1000 1\n1 300000 65535\n", True),
        ("0 1000 1\n1 300000 1000\n", False),
    ],
)
def test_daemons_are_users_of_their_own_where_there_are_several(table: str, there: bool) -> None:
    assert disks._maps(table, disks.QEMU) is there
