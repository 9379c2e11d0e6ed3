"""A store that is a bucket behind the S3 API."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import boto3
from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.client import Config
from botocore.exceptions import BotoCoreError, ClientError

from ssvm.errors import JobFailedError
from ssvm.jobs.context import Cancel, Progress
from ssvm.services.storage.model.stores import S3Store
from ssvm.stores.base import CHUNK, Capacity, NoObjectError, StoreError

#: bytes of a part: 10,000 of them, the most there may be, are 625 GiB
PART = 64 << 20
#: what servers say that have no room: Ceph, MinIO, Swift
_FULL = ("QuotaExceeded", "InsufficientStorage", "XMinioStorageFull", "exceeds quota")
_GONE = ("404", "NoSuchKey", "NotFound")


class S3:
    """Objects are S3's own: they come into being when an upload is completed."""

    def __init__(self, store: S3Store, staging: Path) -> None:
        self.staging = staging
        self._bucket = store.bucket
        self._prefix = f"{store.prefix}/" if store.prefix else ""
        self._client = boto3.client(
            "s3",
            endpoint_url=store.endpoint,
            region_name=store.region,
            aws_access_key_id=store.access_key,
            aws_secret_access_key=store.secret.get_secret_value(),
            config=Config(
                # servers beside Amazon's know buckets in the path, and not all know its newer checksums
                s3={"addressing_style": "path"},
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                connect_timeout=10,
                read_timeout=60,
                retries={"max_attempts": 5, "mode": "standard"},
            ),
        )

    def _key(self, path: str) -> str:
        return f"{self._prefix}{path}"

    def put(self, source: Path, path: str, progress: Progress, cancel: Cancel) -> None:
        sent = 0

        def passed(octets: int) -> None:
            nonlocal sent
            sent += octets
            progress.at(sent)
            cancel.check()

        transfer = TransferConfig(multipart_threshold=PART, multipart_chunksize=PART, max_concurrency=2)
        try:
            self._forget(path)
            self._client.upload_file(str(source), self._bucket, self._key(path), Config=transfer, Callback=passed)
        except (BotoCoreError, ClientError, Boto3Error) as error:
            if any(words in str(error) for words in _FULL):
                raise JobFailedError("store-full", "the bucket is full; make room in it, then try again") from error
            raise _broken(error) from error
        source.unlink()

    def _forget(self, path: str) -> None:
        """Remove the pieces of uploads of the object that were cut off: they take room, and nothing names them."""
        key = self._key(path)
        found = self._client.list_multipart_uploads(Bucket=self._bucket, Prefix=key).get("Uploads", ())
        for upload in found:
            if upload["Key"] == key:
                self._client.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload["UploadId"])

    def size(self, path: str) -> int | None:
        try:
            return int(self._client.head_object(Bucket=self._bucket, Key=self._key(path))["ContentLength"])
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in _GONE:
                return None
            raise _broken(error) from error
        except BotoCoreError as error:
            raise _broken(error) from error

    def read(self, path: str, offset: int, length: int) -> Iterator[bytes]:
        if not length:
            return
        try:
            ranged = f"bytes={offset}-{offset + length - 1}"
            body = self._client.get_object(Bucket=self._bucket, Key=self._key(path), Range=ranged)["Body"]
            yield from body.iter_chunks(CHUNK)
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in _GONE:
                raise NoObjectError(f"there is no {path}") from error
            raise _broken(error) from error
        except BotoCoreError as error:
            raise _broken(error) from error

    def delete(self, path: str) -> None:
        try:
            self._forget(path)
            self._client.delete_object(Bucket=self._bucket, Key=self._key(path))
        except (BotoCoreError, ClientError) as error:
            raise _broken(error) from error

    def capacity(self) -> Capacity:
        try:
            self._client.head_bucket(Bucket=self._bucket)
        except (BotoCoreError, ClientError) as error:
            raise _broken(error) from error
        return Capacity()

    def sweep(self, before: datetime) -> int:
        removed = 0
        try:
            for page in self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self._bucket, Prefix=self._prefix
            ):
                for upload in page.get("Uploads", ()):
                    named = {"Bucket": self._bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}
                    if upload["Initiated"] < before and not self._grew(named, before):
                        self._client.abort_multipart_upload(**named)
                        removed += 1
        except (BotoCoreError, ClientError) as error:
            raise _broken(error) from error
        return removed

    def _grew(self, upload: dict[str, str], before: datetime) -> bool:
        """Whether an upload got a part since ``before``: a large one may take days."""
        pages = self._client.get_paginator("list_parts").paginate(**upload)
        return any(part["LastModified"] >= before for page in pages for part in page.get("Parts", ()))


def _broken(error: Exception) -> StoreError:
    return StoreError(f"the bucket cannot be used: {error}")
