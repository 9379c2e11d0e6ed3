"""A secondary-storage VM of the image: its own disk, and the sandboxes of its units."""

from __future__ import annotations

import json

from tests.netns.ssvm.world import FILES, STORE, World
from tests.vm.test_security import OK_BELOW

MEGA = 1 << 20


def test_a_download_is_on_the_state_disk_after_a_reboot(world: World) -> None:
    id = world.download("plain.qcow2", convert="qcow2")
    job = world.done(id)
    assert job.result is not None
    assert job.result.virtual_size == 64 * MEGA
    wanted = world.sha256(world.ssvm, f"{STORE}/objects/{id}")
    assert job.result.object_checksum == wanted
    # with zstd, by the image's own qemu-img, which wrote into a file that its user cannot open
    assert "compression type: zstd" in world.ssvm.run(["qemu-img", "info", f"{STORE}/objects/{id}"]).stdout
    mounted = world.ssvm.run(["findmnt", "--noheadings", "--output", "FSTYPE", "--target", STORE]).stdout
    assert mounted.strip() == "ext4", "the state disk's"
    world.ssvm.stop()
    world.ssvm.agent.close()
    world.ssvm.start()
    world.ssvm.wait_healthy(30)
    assert world.job(id).state == "done"
    assert world.sha256(world.ssvm, f"{STORE}/objects/{id}") == wanted


def test_units_are_in_the_ok_range(world: World) -> None:
    argv = ["systemd-analyze", "security", "--json=short", "--no-pager"]
    shown = json.loads(world.ssvm.run(argv, timeout=120).stdout)
    ours = {unit["unit"]: float(unit["exposure"]) for unit in shown if unit["unit"].startswith("gatehouse-")}
    assert {"gatehouse-agent.service", "gatehouse-storage.service", "gatehouse-images.service"} <= ours.keys()
    assert {name: value for name, value in ours.items() if value >= OK_BELOW} == {}


def test_hostile_images_are_refused_by_the_image_too(world: World) -> None:
    make = ["qemu-img", "create", "-q", "-f", "qcow2", "-u", "-F", "raw", "-b", "/etc/shadow"]
    world.origin.run([*make, f"{FILES}/backed.qcow2", "1M"])
    world.failed(world.download("backed.qcow2"), "format")
    world.origin.run(["qemu-img", "create", "-q", "-f", "vmdk", f"{FILES}/fine.vmdk", "1M"])
    world.done(world.download("fine.vmdk", format="vmdk", convert="qcow2"))
