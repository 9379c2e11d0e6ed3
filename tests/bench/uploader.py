"""``python -m tests.bench.uploader ours|boto3 ENDPOINT FILE``: puts a file into a bucket of tests/netns/ssvm/swift.py.

Prints a line of JSON: seconds and the peak of resident memory in MB.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import boto3

from ssvm.jobs.context import Cancel, Progress
from ssvm.services.storage.model.stores import S3Store
from ssvm.stores.s3 import S3
from tests.bench.fetcher import peak
from tests.netns.ssvm.swift import CONTAINER, KEY, USER


def main() -> None:
    way, endpoint, source = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    name = f"bench-{way}"
    if way == "ours":
        wanted = {"id": "bench", "endpoint": endpoint, "bucket": CONTAINER, "access_key": USER, "secret": KEY}
        store = S3(S3Store.model_validate(wanted), source.parent)
        own = source.with_suffix(".job")
        os.link(source, own)  # a store takes the file away
        begin = time.monotonic()
        store.put(own, name, Progress(), Cancel())
    else:
        client = boto3.client("s3", endpoint_url=endpoint, aws_access_key_id=USER, aws_secret_access_key=KEY)
        begin = time.monotonic()
        client.upload_file(str(source), CONTAINER, name)
    print(json.dumps({"seconds": time.monotonic() - begin, "memory": peak()}))


if __name__ == "__main__":
    main()
