"""A store of an NFS server, mounted by the secondary-storage VM of the image."""

from __future__ import annotations

from typing import Any

import pytest

from ssvm.services.storage.model.report import StoreReport
from tests.netns.ssvm.ganesha import EXPORT, Ganesha
from tests.netns.ssvm.world import INNER, STORE, World
from tests.wait import wait_for

MEGA = 1 << 20
MOUNT = "/run/gatehouse/nfs/nfs"


@pytest.fixture(scope="module")
def server(world: World) -> Ganesha:
    server = Ganesha(world.inner)
    world.push(stores=[*world.state["storage"]["stores"], export()])
    return server


def export(id: str = "nfs", **more: Any) -> dict[str, Any]:
    return {"kind": "nfs", "id": id, "server": INNER, "export": EXPORT, **more}


def report(world: World, id: str = "nfs") -> StoreReport:
    [found] = [store for store in world.report().stores if store.id == id]
    return found


def forget(world: World) -> None:
    """What the SSVM reads next comes from the server."""
    world.ssvm.run(["sh", "-c", "echo 3 >/proc/sys/vm/drop_caches"])


def test_an_image_is_the_same_there_and_back(world: World, server: Ganesha) -> None:
    """Into the store, read back with cold caches, and made into other objects, here and there."""
    path = world.image("filled.qcow2")
    world.origin.run(["qemu-io", "-f", "qcow2", "-c", "write -P 0x5a 8M 3M", path])
    wanted = world.sha256(world.origin, path)
    result = world.done(world.download("filled.qcow2", store="nfs", path="tmpl/filled"), 120).result
    assert result is not None and result.object_checksum == wanted
    assert server.objects() == ["tmpl/filled"]
    assert world.sha256(world.inner, f"{EXPORT}/tmpl/filled") == wanted
    forget(world)
    assert world.sha256(world.ssvm, f"{MOUNT}/tmpl/filled") == wanted
    source = {"source_store": "nfs", "source_path": "tmpl/filled", "format": "qcow2"}
    forget(world)
    plain = world.done(world.add("convert", **source, store="primary"), 120).result
    assert plain is not None and plain.object_checksum == wanted
    for store, root in (("primary", STORE), ("nfs", MOUNT)):
        forget(world)
        world.done(world.add("convert", **source, store=store, path="made/packed", target_format="qcow2"), 120)
        compare = ["qemu-img", "compare", "-f", "qcow2", "-F", "qcow2", f"{root}/made/packed", f"{MOUNT}/tmpl/filled"]
        assert "identical" in world.ssvm.run(compare, timeout=120).stdout
    assert report(world).healthy and report(world).total


def test_a_server_that_does_not_give_back_what_it_got(world: World, server: Ganesha) -> None:
    """nfs-ganesha with NFS 4.2: neither jobs nor operators take it for a store that works."""
    before = world.state["storage"]["stores"]
    world.push(stores=[*before, export("modern", version="4.2")])
    try:
        wait_for(lambda: not report(world, "modern").healthy, 90, "the store to be reported")
        assert "cannot be used with NFS 4.2" in report(world, "modern").detail
        assert report(world).healthy
    finally:
        world.push(stores=before)


def test_a_job_goes_on_when_its_server_was_away(world: World, server: Ganesha) -> None:
    """Killed in the middle of a download: the status says so, nothing hangs, and the job is done when it is back."""
    path = world.noise("large", 24 * MEGA)
    world.push(bandwidth=MEGA)
    try:
        id = world.download(
            "large", format="raw", store="nfs", path="tmpl/large", checksum=world.sha256(world.origin, path)
        )
        wait_for(lambda: world.job(id).received > 2 * MEGA, 60, "the download to be under way")
        server.stop()
        wait_for(lambda: not report(world).healthy, 60, "the store to be reported")
        assert world.ssvm.status().generation == world.ssvm.generation
        world.push(bandwidth=None)
        server.start()
        world.done(id, 240)
    finally:
        world.push(bandwidth=None)
    assert world.sha256(world.inner, f"{EXPORT}/tmpl/large") == world.sha256(world.origin, path)
    wait_for(lambda: report(world).healthy, 60, "the store to be well again")


def test_a_dead_server_holds_nothing_else_up(world: World, server: Ganesha) -> None:
    """Other stores' jobs are done, documents are taken, and the store itself can be let go."""
    server.stop()
    wait_for(lambda: not report(world).healthy, 60, "the store to be reported")
    world.image("plain.qcow2")
    world.done(world.download("plain.qcow2"), 120)
    failing = world.download("plain.qcow2", store="nfs", path="tmpl/late")
    wait_for(lambda: world.job(failing).state in ("retrying", "failed"), 240, "the job to be told of it")
    assert world.job(failing).detail or world.job(failing).failure
    world.remove(failing)
    kept = [job for job in world.state["storage"]["jobs"] if "nfs" not in (job["store"], job.get("source_store"))]
    world.push(jobs=kept, stores=[store for store in world.state["storage"]["stores"] if store["id"] != "nfs"])
    world.ssvm.wait_healthy(30)
    assert EXPORT not in world.ssvm.read("/proc/mounts")
