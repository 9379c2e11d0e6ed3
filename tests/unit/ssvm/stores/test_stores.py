"""Every store, asked the same."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto import mock_aws

from ssvm.jobs.context import Cancel, Progress
from ssvm.services.storage.model.stores import S3Store
from ssvm.stores import s3
from ssvm.stores.base import NoObjectError, Store, StoreError
from ssvm.stores.directory import Directory

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
