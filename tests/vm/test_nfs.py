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
