"""``python -m tests.bench.with_obstore URL FILE``: fetches with obstore, hashes with SHA-512 on the way to the disk."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

from obstore.store import HTTPStore


def main() -> None:
    url, path = urlsplit(sys.argv[1]), Path(sys.argv[2])
    store = HTTPStore.from_url(f"{url.scheme}://{url.netloc}", client_options={"allow_http": True})
    digest = hashlib.sha512()
    with path.open("wb", buffering=0) as file:
        for chunk in store.get(url.path.lstrip("/")).stream(min_chunk_size=1 << 20):
            digest.update(chunk)
            file.write(chunk)
        os.fsync(file.fileno())
    print(digest.hexdigest())


if __name__ == "__main__":
    main()
