"""Downloads from a web server of the internet into a directory."""

from __future__ import annotations

from tests.netns.ssvm.world import STORE, World


def test_an_image_is_fetched_checked_and_kept(world: World) -> None:
    path = world.image("plain.qcow2")
    wanted = world.sha256(world.origin, path)
    id = world.download("plain.qcow2", checksum=wanted, path="template/plain.qcow2")
    job = world.done(id)
    assert job.result is not None
    assert (job.result.checksum, job.result.object_checksum, job.percent) == (wanted, wanted, 100)
    assert (job.result.format, job.result.virtual_size) == ("qcow2", 64 << 20)
    assert world.sha256(world.ssvm, f"{STORE}/template/plain.qcow2") == wanted
    assert not [name for name in world.objects() if name.startswith(".parts/")]
