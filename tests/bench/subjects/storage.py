"""Downloads with SHA-512 to the disk, beside what people use for that, and beside the disk alone."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from appliance.run import run
from tests.bench.figures import Figure, Target, interleaved
from tests.netns.lab import REPOSITORY, Lab
from tests.netns.ssvm.swift import PORT as SWIFT_PORT
from tests.netns.ssvm.swift import Swift
from tests.wait import wait_for

ORDER = 10

PORT = 18_080
_NGINX = """daemon off; master_process off; pid {root}/nginx.pid; error_log {root}/error.log;
events {{ worker_connections 64; }}
http {{ access_log off; sendfile on; server {{ listen 127.0.0.1:{port}; root {root}/files; }} }}
"""


def measure(quick: bool) -> Iterator[Figure]:
    size, rounds = (128 << 20, 2) if quick else (1 << 30, 5)
    with _origin(size) as (root, checksum):
        url, out = f"http://127.0.0.1:{PORT}/file", root / "out"
        curl = f"curl -s {url} | tee {out}/file | sha512sum && sync {out}/file"
        plain = f"dd if=/dev/zero of={out}/file bs=1M count={size >> 20} conv=fsync status=none"
        aria = f"aria2c -q --file-allocation=none --checksum=sha-512={checksum[7:]} -d {out} -o file {url}"
        ways: dict[str, Callable[[], dict[str, float]]] = {
            "ours": partial(_ours, url, out, 1, checksum),
            "curl | tee | sha512sum": partial(_shell, curl, out),
            "dd": partial(_shell, plain, out),
            "aria2c": partial(_shell, f"{aria} && sync {out}/file", out),
            "obstore": partial(_shell, f"{sys.executable} -m tests.bench.with_obstore {url} {out}/file", out),
        }
        runs = interleaved(rounds, **ways)
        rates = {name: [size / one["seconds"] / 1e6 for one in some] for name, some in runs.items()}
        others = [rates[name] for name in rates if name not in ("ours", "dd")]
        best = [max(column) for column in zip(*others, strict=True)]
        for least, other, baseline in ((0.9, "the best of others", best), (0.6, "dd to the same disk", rates["dd"])):
            target = Target("at least", least, of="ratio")
            yield Figure("storage: download, SHA-512, disk", "MB/s", rates["ours"], target, other, baseline)
        memory = [one["memory"] for one in runs["ours"]]
        yield Figure("storage: memory of a download", "MB", memory, Target("at most", 120))
        ten = [_ours(url, out, 10, checksum) for _ in range(1 if quick else 2)]
        total = [10 * size / one["seconds"] / 1e6 for one in ten]
        yield Figure("storage: ten downloads at once", "MB/s", total)
        yield Figure("storage: memory of ten downloads", "MB", [one["memory"] for one in ten], Target("at most", 120))
    yield from _uploads(quick)


def _uploads(quick: bool) -> Iterator[Figure]:
    """Puts into a bucket of a real Swift, by our store and by boto3's own transfer as it comes."""
    size, rounds = (96 << 20, 2) if quick else (320 << 20, 4)
    directory = Path(tempfile.mkdtemp(prefix="gatehouse-bench-"))
    lab = Lab(directory)
    try:
        address = "10.9.0.1"
        machine = lab.host("swift", lab.segment("storage"), [f"{address}/24"])
        Swift(machine, address, room="4g")  # what is written over may stay for a while
        machine.run(["sh", "-c", f"head -c {size} /dev/urandom >/var/tmp/file"])

        def put(way: str) -> dict[str, float]:
            python = ["/usr/bin/env", "-C", str(REPOSITORY), sys.executable]
            argv = [*python, "-m", "tests.bench.uploader", way, f"http://{address}:{SWIFT_PORT}", "/var/tmp/file"]
            result: dict[str, float] = json.loads(machine.run(argv, timeout=600).stdout)
            return result

        runs = interleaved(rounds, ours=partial(put, "ours"), boto3=partial(put, "boto3"))
        ours, theirs = ([size / one["seconds"] / 1e6 for one in runs[way]] for way in ("ours", "boto3"))
        yield Figure("storage: upload by S3", "MB/s", ours, None, "boto3's transfer", theirs)
        memory = [one["memory"] for one in runs["ours"]]
        yield Figure("storage: memory of an upload by S3", "MB", memory, Target("at most", 120))
    finally:
        lab.close()
        shutil.rmtree(directory)


@contextmanager
def _origin(size: int) -> Iterator[tuple[Path, str]]:
    """nginx with a file of ``size`` bytes; its directory, and the file's checksum."""
    with tempfile.TemporaryDirectory(prefix="gatehouse-bench-", dir="/var/tmp") as name:
        root = Path(name)
        (root / "files").mkdir()
        (root / "nginx.conf").write_text(_NGINX.format(root=root, port=PORT))
        sum_, block = hashlib.sha512(), os.urandom(1 << 20)
        with (root / "files/file").open("wb") as file:
            for _ in range(size >> 20):
                file.write(block)
                sum_.update(block)
        root.chmod(0o755)
        server = subprocess.Popen(["nginx", "-c", str(root / "nginx.conf"), "-p", name, "-e", f"{name}/error.log"])
        try:
            wait_for(lambda: run(["curl", "-sfI", f"http://127.0.0.1:{PORT}/file"]), 10, "nginx")
            yield root, f"sha512:{sum_.hexdigest()}"
        finally:
            server.terminate()
            server.wait(10)


def _empty(directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    os.sync()


def _ours(url: str, out: Path, count: int, checksum: str) -> dict[str, float]:
    _empty(out)
    argv = [sys.executable, "-m", "tests.bench.fetcher", url, str(out), str(count), checksum]
    result: dict[str, float] = json.loads(run(argv, timeout=600).stdout)
    return result


def _shell(command: str, out: Path) -> dict[str, float]:
    _empty(out)
    begin = time.monotonic()
    run(["bash", "-o", "pipefail", "-c", command], timeout=600)
    return {"seconds": time.monotonic() - begin}
