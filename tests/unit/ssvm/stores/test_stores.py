"""Every store, asked the same."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import pytest
from moto import mock_aws

from ssvm.jobs.context import Cancel, Progress
from ssvm.services.storage.model.stores import DirectoryStore, NfsStore, S3Store
from ssvm.stores import directory, holdings, s3
from ssvm.stores.base import Capacity, NoObjectError, Store, StoreError
from ssvm.stores.directory import Directory, Export
from ssvm.stores.holdings import ORPHANED, Holdings
from tests.wait import wait_for

CONTENT = os.urandom(6 << 20)


@pytest.fixture(params=["directory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    if request.param == "directory":
        made = Directory(tmp_path / "store")
        made.staging.mkdir(parents=True)
        yield made
        return
    monkeypatch.setattr(s3, "PART", 5 << 20)
    with mock_aws():
        boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="images")
        wanted = {"endpoint": "https://s3.amazonaws.com", "bucket": "images", "access_key": "k", "secret": "s"}
        yield s3.S3(S3Store.model_validate({"id": "a", "prefix": "zone/1", **wanted}), tmp_path)


def put(store: Store, content: bytes, path: str = "template/a") -> Path:
    source = store.staging / "job.data"
    source.write_bytes(content)
    store.put(source, path, Progress(), Cancel())
    return source


def read(store: Store, offset: int, length: int, path: str = "template/a") -> bytes:
    return b"".join(store.read(path, offset, length))


def test_objects(store: Store) -> None:
    source = put(store, CONTENT)
    assert not source.exists()
    assert store.size("template/a") == len(CONTENT)
    assert read(store, 0, len(CONTENT)) == CONTENT
    assert read(store, 1000, 70_000) == CONTENT[1000:71_000]
    assert read(store, 0, 0) == b""
    put(store, b"another")
    assert read(store, 0, 7) == b"another"
    store.delete("template/a")
    store.delete("template/a")
    assert store.size("template/a") is None
    with pytest.raises(NoObjectError):
        read(store, 0, 1)
    store.capacity()


def test_a_directory_keeps_nothing_of_what_went(tmp_path: Path) -> None:
    store = Directory(tmp_path)
    store.staging.mkdir()
    put(store, b"x", "a/b/c")
    put(store, b"x", "a/d")
    store.delete("a/b/c")
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == [".parts", "a", "a/d"]
    store.delete("a/d/e")


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        Directory(tmp_path / "none").capacity()


def test_a_bucket_that_is_not_there(tmp_path: Path) -> None:
    wanted = {"endpoint": "https://s3.amazonaws.com", "bucket": "none", "access_key": "k", "secret": "SECRET"}
    with mock_aws():
        store = s3.S3(S3Store.model_validate({"id": "a", **wanted}), tmp_path)
        for use in (store.capacity, lambda: put(store, b"x")):
            with pytest.raises(StoreError) as caught:
                use()
            assert "SECRET" not in str(caught.value)


def test_uploads_that_were_cut_off_go_after_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a worker sees it that begins a day later: others' uploads in the bucket, and ones that go on, stay."""
    wanted = {"endpoint": "https://s3.amazonaws.com", "bucket": "images", "access_key": "k", "secret": "s"}
    store = S3Store.model_validate({"id": "a", "prefix": "zone/1", **wanted})
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="images")

        def begun(key: str) -> str:
            id: str = client.create_multipart_upload(Bucket="images", Key=key)["UploadId"]
            client.upload_part(Bucket="images", Key=key, UploadId=id, PartNumber=1, Body=b"x")
            return id

        def there() -> list[str]:
            found = client.list_multipart_uploads(Bucket="images").get("Uploads", ())
            return sorted(upload["Key"] for upload in found)

        for key in ("zone/1/cut", "zone/1/goes-on", "other/cut"):
            begun(key)
        opened = s3.S3(store, tmp_path)
        assert opened.sweep(datetime.now(UTC) - ORPHANED) == 0
        young = opened._grew
        monkeypatch.setattr(
            s3.S3, "_grew", lambda self, upload, before: "goes-on" in upload["Key"] or young(upload, before)
        )
        holdings = Holdings(tmp_path / "parts", tmp_path / "nfs")
        holdings.load([store])
        monkeypatch.setattr("ssvm.stores.holdings.ORPHANED", timedelta(0))
        holdings.tick([])
        wait_for(lambda: there() == ["other/cut", "zone/1/goes-on"])


@pytest.mark.parametrize("fault", ["zeros", "error", ""])
def test_an_nfs_server_that_does_not_give_back_what_it_got(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """As nfs-ganesha does with NFS 4.2: nothing is read from such a store, and the store says why."""
    monkeypatch.setattr(Path, "is_mount", lambda self: self == tmp_path)
    store = Export(NfsStore.model_validate({"id": "a", "server": "10.0.0.1", "export": "/x"}), tmp_path)
    real = directory._written_and_read

    def broken(path: Path, content: bytes) -> bytes:
        if fault == "error":
            raise OSError(errno.EIO, "Input/output error")
        return bytes(len(content)) if fault == "zeros" else real(path, content)

    monkeypatch.setattr(directory, "_written_and_read", broken)
    if not fault:
        store.capacity()
        put(store, CONTENT)
        assert read(store, 0, len(CONTENT)) == CONTENT
    else:
        for use in (store.capacity, lambda: read(store, 0, 1)):
            with pytest.raises(StoreError, match=r"cannot be used with NFS 4\.1: .*; try another version"):
                use()
    assert [path.name for path in store.staging.iterdir()] == []


def test_a_store_that_does_not_answer_is_told_of_and_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dead, answer = Directory(tmp_path / "dead"), threading.Event()
    for name in ("dead", "well"):
        (tmp_path / name).mkdir()
    wanted = [DirectoryStore.model_validate({"id": name, "path": f"/{name}"}) for name in ("dead", "well")]
    monkeypatch.setattr(
        holdings, "open_store", lambda store, *_: dead if store.id == "dead" else Directory(tmp_path / store.id)
    )
    monkeypatch.setattr(dead, "capacity", lambda: answer.wait(10) and Capacity(1, 1))
    monkeypatch.setattr(holdings, "ANSWER", 0.05)
    held = Holdings(tmp_path / "parts", tmp_path / "nfs")
    held.load(wanted)
    held.tick([])
    wait_for(lambda: [store.healthy for store in held.report()] == [False, True])
    assert held.report()[0].detail == "it does not answer; check that its server is up"
    wait_for(lambda: held.report()[1].total)
    answer.set()
    wait_for(lambda: [store.healthy for store in held.report()] == [True, True])
    assert held.report()[0].total == 1


@pytest.mark.parametrize("later", ["silent", "broken"])
def test_a_store_is_looked_at_while_it_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, later: str) -> None:
    """As a server that dies after it was looked at; and errors that nobody thought of are told of too."""
    (tmp_path / "store").mkdir()
    store, answer, swept = Directory(tmp_path / "store"), threading.Event(), threading.Event()

    def sweep(_: datetime) -> int:
        swept.set()
        return int(answer.wait(20))

    def capacity() -> Capacity:
        if later == "broken":
            raise ValueError("not of its own errors")
        answer.wait(20)
        return Capacity(1, 1)

    monkeypatch.setattr(holdings, "open_store", lambda *_: store)
    monkeypatch.setattr(store, "sweep", sweep)
    held = Holdings(tmp_path / "parts", tmp_path / "nfs")
    held.load([DirectoryStore.model_validate({"id": "a", "path": "/a"})])
    try:
        held.tick([])
        wait_for(lambda: held.report()[0].total and swept.is_set())
        monkeypatch.setattr(holdings, "ANSWER", 0.05)
        monkeypatch.setattr(holdings, "LOOK", 0.0)
        monkeypatch.setattr(store, "capacity", capacity)
        held.tick([])
        wait_for(lambda: not held.report()[0].healthy, 5)
        assert held.report()[0].detail
    finally:
        answer.set()


def test_an_export_that_is_not_mounted(tmp_path: Path) -> None:
    store = Export(NfsStore.model_validate({"id": "a", "server": "10.0.0.1", "export": "/x"}), tmp_path)
    for use in (store.capacity, lambda: read(store, 0, 1), lambda: store.size("a")):
        with pytest.raises(StoreError, match="is not mounted"):
            use()
