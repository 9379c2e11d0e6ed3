"""Objects in Swift, by its own API and by S3's, and an NFS server: as operators have them."""

from __future__ import annotations

import random
import time

import pytest

from ssvm.services.storage.model.report import StoreReport
from tests.netns.lab import REPOSITORY
from tests.netns.ssvm.ganesha import EXPORT, Ganesha
from tests.netns.ssvm.swift import CONTAINER, Swift
from tests.netns.ssvm.world import INNER, World
from tests.wait import wait_for

MEGA = 1 << 20
KINDS = ["swift", "s3"]


@pytest.fixture(scope="module")
def swift(world: World) -> Swift:
    cluster = Swift(world.inner, INNER)
    stores = world.state["storage"]["stores"]
    world.push(stores=[*stores, *cluster.stores()], storage_networks=["10.9.0.0/24"])
    return cluster


def report(world: World, id: str) -> StoreReport:
    [found] = [store for store in world.report().stores if store.id == id]
    return found


def name(kind: str, path: str) -> str:
    """The object's name in the container."""
    return f"zone/1/{path}" if kind == "s3" else path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [3 * MEGA, 150 * MEGA])
def test_objects_of_all_sizes(world: World, swift: Swift, kind: str, size: int) -> None:
    """Put in one piece and in several, read by others, made into other objects, deleted with all that is theirs."""
    path = world.noise(f"{kind}-{size}", size)
    wanted = world.sha256(world.origin, path)
    id = world.download(f"{kind}-{size}", format="raw", store=kind, path=f"template/{kind}-{size}")
    result = world.done(id, 120).result
    assert result is not None and result.object_checksum == wanted
    swift.fetch(name(kind, f"template/{kind}-{size}"), "/var/tmp/fetched")
    assert world.sha256(world.inner, "/var/tmp/fetched") == wanted
    source = {"source_store": kind, "source_path": f"template/{kind}-{size}", "format": "raw"}
    copied = world.done(world.add("convert", **source, store="primary"), 120).result
    assert copied is not None and copied.object_checksum == wanted
    parts = [job for job in world.state["storage"]["jobs"] if job["id"] != id]
    world.push(jobs=[*parts, {"kind": "delete", "id": f"gone-{id}", "store": kind, "path": f"template/{kind}-{size}"}])
    world.done(f"gone-{id}")
    assert [found for found in swift.names() if str(size) in found] == []
    assert [found for found in swift.names(f"{CONTAINER}+segments") if str(size) in found] == []
    world.push(jobs=[])


def test_the_worker_uses_little_memory(world: World, swift: Swift) -> None:
    """At its peak, with the libraries of both stores, and whatever the size of what passed through it."""
    [pid] = world.ssvm.pids("services.storage.worker")
    lines = dict(line.split(":", 1) for line in world.ssvm.read(f"/proc/{pid}/status").splitlines())
    assert int(lines["VmHWM"].split()[0]) / 1024 <= 120


def test_an_image_goes_from_store_to_store(world: World, swift: Swift) -> None:
    world.image("travels.qcow2")
    first = world.done(world.download("travels.qcow2", store="swift", path="a/travels")).result
    source = {"source_store": "swift", "source_path": "a/travels", "format": "qcow2"}
    second = world.done(world.add("convert", **source, store="s3", path="a/travels", target_format="raw"), 120).result
    assert first is not None and second is not None
    assert (second.format, second.physical_size) == ("raw", 64 * MEGA)
    assert {"a/travels", "zone/1/a/travels"} <= set(swift.names())


@pytest.mark.parametrize("kind", KINDS)
def test_a_container_that_is_full(world: World, swift: Swift, kind: str) -> None:
    world.noise("much", 8 * MEGA)
    before = swift.names()
    swift.quota(1)
    try:
        message = world.failed(world.download("much", format="raw", store=kind, path="much"), "store-full", 120)
        assert message.endswith("is full; make room in it, then try again")
        if kind == "swift":
            wait_for(lambda: report(world, kind).total == 1, 60, "the quota to be told")
    finally:
        swift.quota(None)
    assert swift.names() == before
    assert [found for found in swift.names(f"{CONTAINER}+segments") if "much" in found] == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_worker_killed_while_it_puts_an_object(world: World, swift: Swift, kind: str) -> None:
    """Readers see the whole object or none, and in the end it is there."""
    path = world.noise("killed", 70 * MEGA)
    wanted, length = world.sha256(world.origin, path), 70 * MEGA
    chance = random.Random(kind)
    object_ = name(kind, f"killed-{kind}")
    id = world.download("killed", format="raw", store=kind, path=f"killed-{kind}", checksum=wanted)
    wait_for(lambda: world.job(id).phase == "storing", 60, "the object to be put")
    for _ in range(3):
        time.sleep(chance.uniform(0.05, 0.6))  # the point of it: a kill at any time
        world.ssvm.run(["pkill", "-KILL", "-f", "services.storage.worker"], check=False)
        status, head = swift.ask("HEAD", f"{CONTAINER}/{object_}", "-I")
        assert status == 404 or f"Content-Length: {length}" in head, head
        wait_for(lambda: world.report_or_none(id), 30, "the worker to be back")
    wait_for(lambda: getattr(world.report_or_none(id), "state", "") in ("done", "failed"), 180, "the end")
    world.done(id)
    swift.fetch(object_, "/var/tmp/fetched")
    assert world.sha256(world.inner, "/var/tmp/fetched") == wanted
    # of what was cut off nothing takes room
    pieces = {found.rpartition("/")[0] for found in swift.names(f"{CONTAINER}+segments") if object_ in found}
    assert len(pieces) == (kind == "s3"), pieces


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_keys_are_told_and_not_shown(world: World, swift: Swift, kind: str) -> None:
    stores = world.state["storage"]["stores"]
    wrong = [{**store, "secret": "WRONGSECRET", "id": "wrong"} for store in swift.stores() if store["kind"] == kind]
    world.push(stores=[*stores, *wrong])
    wait_for(lambda: not report(world, "wrong").healthy, 60, "the store to be reported")
    assert "cannot be used" in report(world, "wrong").detail
    logs = world.ssvm.text_logs()
    assert "WRONGSECRET" not in logs and "WRONGSECRET" not in report(world, "wrong").detail
    world.push(stores=stores)


def test_a_cluster_that_is_not_there(world: World, swift: Swift) -> None:
    """A proxy that is killed: the store is reported, the job waits for it, and is done when it is back."""
    world.image("patient.qcow2")
    swift.stop_proxy()
    try:
        id = world.download("patient.qcow2", store="swift", path="patient")
        wait_for(lambda: world.job(id).state == "retrying", 60, "the job to try again")
        assert "cannot be used" in world.job(id).detail
    finally:
        swift.start_proxy()
    world.done(id, 120)
    assert "patient" in swift.names()


_SEGMENTS = """
import os, sys
from pathlib import Path
from ssvm.jobs.context import Cancel, Progress
from ssvm.services.storage.model.stores import SwiftStore
from ssvm.stores import swift
swift.SEGMENT = 5 << 20
wanted = SwiftStore(id="swift", endpoint=sys.argv[1], container=sys.argv[2], user=sys.argv[3], secret=sys.argv[4])
store = swift.Swift(wanted, Path("/var/tmp"))
def put(size):
    content = os.urandom(size)
    Path("/var/tmp/part").write_bytes(content)
    store.put(Path("/var/tmp/part"), "large/one", Progress(), Cancel())
    assert store.size("large/one") == size
    assert b"".join(store.read("large/one", 0, size)) == content
    assert b"".join(store.read("large/one", size - 1_000_000, 1_000_000)) == content[-1_000_000:]
    return len(store._segments(store._connection(), "large/one"))
print(put(12 << 20), put(6 << 20), put(1 << 20))
store.delete("large/one")
print(store.size("large/one"))
"""

_CUT_OFF = """
import os, sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from swiftclient.exceptions import ClientException
from ssvm.jobs.context import Cancel, Progress
from ssvm.services.storage.model.stores import SwiftStore
from ssvm.stores import swift
swift.SEGMENT = 1 << 20
wanted = SwiftStore(id="swift", endpoint=sys.argv[1], container=sys.argv[2], user=sys.argv[3], secret=sys.argv[4])
store = swift.Swift(wanted, Path("/var/tmp"))
def put(path):
    Path("/var/tmp/part").write_bytes(os.urandom(3 << 20))
    store.put(Path("/var/tmp/part"), path, Progress(), Cancel())
put("kept/one")
before = store._segments(store._connection(), "kept/one")
swift.Connection.put_object_really = swift.Connection.put_object
def no_manifest(self, container, name, *words, **named):
    if named.get("query_string"):
        raise ClientException("cut off")
    return self.put_object_really(container, name, *words, **named)
swift.Connection.put_object = no_manifest
for path in ("kept/one", "never/one"):
    try:
        put(path)
    except Exception:
        continue
    raise SystemExit("it was not cut off")
swift.Connection.put_object = swift.Connection.put_object_really
print(store.sweep(datetime.now(UTC) - timedelta(days=1)), store.sweep(datetime.now(UTC) + timedelta(minutes=1)))
assert store._segments(store._connection(), "kept/one") == before
assert len(b"".join(store.read("kept/one", 0, 3 << 20))) == 3 << 20
print(len(store._segments(store._connection(), "never/one")))
store.delete("kept/one")
"""


def test_objects_larger_than_swift_takes_in_one_piece(world: World, swift: Swift) -> None:
    """With pieces of 5 MiB in place of a gibibyte. An object that takes another's place takes its pieces away too."""
    store = swift.stores()[0]
    given = [store["endpoint"], store["container"], store["user"], store["secret"]]
    argv = ["/usr/bin/env", "-C", str(REPOSITORY), *world.python, "-c", _SEGMENTS, *given]
    assert world.inner.run(argv, timeout=120).stdout.split() == ["3", "2", "0", "None"]
    assert [found for found in swift.names() if "large" in found] == []


def test_pieces_that_no_object_is_made_of_go_after_a_day(world: World, swift: Swift) -> None:
    """Uploads that were cut off between their pieces and the manifest, with an object before them and without."""
    store = swift.stores()[0]
    given = [store["endpoint"], store["container"], store["user"], store["secret"]]
    argv = ["/usr/bin/env", "-C", str(REPOSITORY), *world.python, "-c", _CUT_OFF, *given]
    assert world.inner.run(argv, timeout=120).stdout.split() == ["0", "2", "0"]


def test_nfs_is_served_to_others(world: World) -> None:
    """The server of tests/vm, by a client in userspace: what is mounted there is what is tested there."""
    server = Ganesha(world.inner)
    url = f"nfs://{INNER}{EXPORT}"
    world.inner.write(f"{EXPORT}/object", "content")
    assert world.inner.run(["nfs-cat", f"{url}/object?version=4"]).stdout == "content"
    assert server.objects() == ["object"]
    server.stop()
    wanted = {"kind": "nfs", "id": "nfs", "server": INNER, "export": EXPORT}
    stores = world.state["storage"]["stores"]
    world.push(stores=[*stores, wanted])
    wait_for(lambda: not report(world, "nfs").healthy, 60, "the store to be reported")
    assert f"{INNER}:{EXPORT} is not mounted" in report(world, "nfs").detail
    world.push(stores=stores)
