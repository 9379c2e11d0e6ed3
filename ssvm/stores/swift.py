"""A store that is a container of OpenStack Swift (v1 authentication)."""

from __future__ import annotations

import json
import logging
import uuid
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import requests
from swiftclient.client import Connection
from swiftclient.exceptions import ClientException

from ssvm.errors import JobFailedError
from ssvm.jobs.context import Cancel, Progress
from ssvm.services.storage.model.stores import SwiftStore
from ssvm.stores.base import CHUNK, Capacity, NoObjectError, StoreError

# it logs each request, with the first letters of tokens
logging.getLogger("swiftclient").setLevel(logging.WARNING)

#: bytes of a segment; Swift takes 5 GiB in one piece
SEGMENT = 1 << 30
#: where segments are, beside the objects: no object's path begins with a dot
SEGMENTS = ".segments"
_NO_OBJECT, _NO_ROOM = 404, (413, 507)


class _Reading:
    """A file on its way, for swiftclient: it goes back to where a piece began when it tries again."""

    def __init__(self, file: BinaryIO, progress: Progress, cancel: Cancel) -> None:
        self._file, self._progress, self._cancel = file, progress, cancel
        self.tell, self.seek = file.tell, file.seek

    def read(self, octets: int = -1) -> bytes:
        self._cancel.check()
        data = self._file.read(octets if octets >= 0 else CHUNK)
        self._progress.at(self._file.tell())
        return data


class Swift:
    """Objects are Swift's own; a large one comes into being with its manifest (static large object)."""

    def __init__(self, store: SwiftStore, staging: Path) -> None:
        self.staging = staging
        self._container = store.container
        self._account = {
            "authurl": store.endpoint,
            "user": store.user,
            "key": store.secret.get_secret_value(),
            "retries": 3,
            "timeout": 60,
        }

    def _connection(self) -> Any:
        # one each time: they are not for several threads, and a token is asked for once in hours
        return Connection(auth_version="1", **self._account)

    def put(self, source: Path, path: str, progress: Progress, cancel: Cancel) -> None:
        size = source.stat().st_size
        with source.open("rb") as file:
            reading = _Reading(file, progress, cancel)
            try:
                connection = self._connection()
                before = self._segments(connection, path)
                if size <= SEGMENT:
                    connection.put_object(
                        self._container, path, reading, content_length=size, chunk_size=CHUNK, headers={}
                    )
                else:
                    self._put_large(connection, path, reading, size)
                self._forget(connection, before)
            except (ClientException, requests.RequestException) as error:
                if getattr(error, "http_status", 0) in _NO_ROOM:
                    raise JobFailedError(
                        "store-full", "the container is full; make room in it, then try again"
                    ) from error
                raise _broken(error) from error
        source.unlink()

    def _put_large(self, connection: Any, path: str, reading: _Reading, size: int) -> None:
        prefix = f"{_segments_of(path)}{uuid.uuid4()}"
        manifest = []
        for number, offset in enumerate(range(0, size, SEGMENT)):
            length = min(SEGMENT, size - offset)
            name = f"{prefix}/{number:06}"
            etag = connection.put_object(self._container, name, reading, content_length=length, chunk_size=CHUNK)
            manifest.append({"path": f"{self._container}/{name}", "etag": etag, "size_bytes": length})
        connection.put_object(
            self._container, path, json.dumps(manifest).encode(), query_string="multipart-manifest=put"
        )

    def _segments(self, connection: Any, path: str) -> list[str]:
        _, found = connection.get_container(self._container, prefix=_segments_of(path), full_listing=True)
        return [entry["name"] for entry in found]

    def _forget(self, connection: Any, segments: list[str]) -> None:
        for name in segments:
            connection.delete_object(self._container, name)

    def size(self, path: str) -> int | None:
        try:
            return int(self._connection().head_object(self._container, path)["content-length"])
        except (ClientException, requests.RequestException) as error:
            if getattr(error, "http_status", 0) == _NO_OBJECT:
                return None
            raise _broken(error) from error

    def read(self, path: str, offset: int, length: int) -> Iterator[bytes]:
        if not length:
            return
        ranged = {"Range": f"bytes={offset}-{offset + length - 1}"}
        try:
            _, body = self._connection().get_object(self._container, path, resp_chunk_size=CHUNK, headers=ranged)
            yield from body
        except (ClientException, requests.RequestException) as error:
            if getattr(error, "http_status", 0) == _NO_OBJECT:
                raise NoObjectError(f"there is no {path}") from error
            raise _broken(error) from error

    def delete(self, path: str) -> None:
        try:
            connection = self._connection()
            segments = self._segments(connection, path)
            try:
                connection.delete_object(self._container, path)
            except ClientException as error:
                if error.http_status != _NO_OBJECT:
                    raise
            self._forget(connection, segments)
        except (ClientException, requests.RequestException) as error:
            raise _broken(error) from error

    def capacity(self) -> Capacity:
        try:
            head = self._connection().head_container(self._container)
        except (ClientException, requests.RequestException) as error:
            raise _broken(error) from error
        quota, used = head.get("x-container-meta-quota-bytes"), int(head.get("x-container-bytes-used", 0))
        return Capacity(int(quota), max(0, int(quota) - used)) if quota else Capacity()

    def sweep(self, before: datetime) -> int:
        removed = 0
        try:
            connection = self._connection()
            _, found = connection.get_container(self._container, prefix=f"{SEGMENTS}/", full_listing=True)
            uploads = defaultdict(list)
            for entry in found:
                uploads[entry["name"].rpartition("/")[0]].append(entry)
            for upload, segments in uploads.items():
                youngest = max(datetime.fromisoformat(entry["last_modified"]) for entry in segments)
                if youngest.replace(tzinfo=UTC) < before and not self._named(connection, upload):
                    self._forget(connection, [entry["name"] for entry in segments])
                    removed += 1
        except (ClientException, requests.RequestException) as error:
            raise _broken(error) from error
        return removed

    def _named(self, connection: Any, upload: str) -> bool:
        """Whether the object that an upload was for is made of its segments."""
        path = upload.split("/")[1].replace("+", "/")
        try:
            head, manifest = connection.get_object(self._container, path, query_string="multipart-manifest=get")
        except ClientException as error:
            if error.http_status == _NO_OBJECT:
                return False
            raise
        if head.get("x-static-large-object", "").lower() != "true":
            return False
        return any(entry["name"].startswith(f"/{self._container}/{upload}/") for entry in json.loads(manifest))


def _segments_of(path: str) -> str:
    # one name, so that no other object's segments begin with it; "+" is in no path
    return f"{SEGMENTS}/{path.replace('/', '+')}/"


def _broken(error: Exception) -> StoreError:
    return StoreError(f"the container cannot be used: {error}")
