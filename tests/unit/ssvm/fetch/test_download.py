"""Fetching from servers that stall, lie, change their file, and break off at every byte."""

from __future__ import annotations

import hashlib
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ssvm.errors import JobCancelledError, JobFailedError
from ssvm.fetch.download import Wish
from ssvm.fetch.part import Part, Source
from tests.origin import Server
from tests.unit.ssvm.fetch.fetching import CONTENT, WAY, fetch, fetching, origin, replace, url

__all__ = ["origin"]

SHA512 = f"sha512:{hashlib.sha512(CONTENT).hexdigest()}"


def failure(caught: pytest.ExceptionInfo[JobFailedError]) -> tuple[str, str]:
    return caught.value.cause, caught.value.message


@pytest.mark.parametrize("query", ["", "chunked", "unvalidated", "changing"])
def test_whole_files(origin: Server, tmp_path: Path, query: str) -> None:
    assert fetch(tmp_path, url(origin, query), checksum=SHA512) == CONTENT


@pytest.mark.parametrize("algorithm", ["md5", "sha1", "sha224", "sha256", "sha384", "sha512"])
def test_checksums(origin: Server, tmp_path: Path, algorithm: str) -> None:
    wanted = f"{algorithm}:{hashlib.new(algorithm, CONTENT).hexdigest()}"
    with fetching(tmp_path, Wish(url(origin), 1 << 20, wanted)) as running:
        found = running.run()
    assert f"{algorithm}:{found[algorithm]}" == wanted
    assert {"sha256", "sha384", "sha512"} & found.keys()


def test_a_wrong_checksum(origin: Server, tmp_path: Path) -> None:
    with pytest.raises(JobFailedError) as caught:
        fetch(tmp_path, url(origin), checksum=f"md5:{'0' * 32}")
    assert failure(caught)[0] == "checksum"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(every=st.integers(len(CONTENT) // 12, len(CONTENT) + 1), first=st.integers(0, len(CONTENT)))
def test_connections_that_end_anywhere(origin: Server, every: int, first: int) -> None:
    """After each break the rest is asked for; what a process that was killed left is gone on with."""
    wish = Wish(url(origin, f"drop={every}"), 1 << 20, None)
    with tempfile.TemporaryDirectory() as name, fetching(Path(name), wish) as running:
        about = origin.RequestHandlerClass.root / "file"  # type: ignore[attr-defined]
        tag = f'"{about.stat().st_mtime_ns:x}-{len(CONTENT):x}"'
        running.part.write(CONTENT[:first])
        running.part.belongs_to(Source(wish.url, tag, len(CONTENT)))
        digests = running.run()
        assert running.part.path.read_bytes() == CONTENT
        assert digests["sha256"] == hashlib.sha256(CONTENT).hexdigest()


def test_only_what_is_missing_is_asked_for(origin: Server, tmp_path: Path) -> None:
    fetch(tmp_path, url(origin, "drop=5000"))
    seen = origin.RequestHandlerClass.seen  # type: ignore[attr-defined]
    assert [range for _, range in seen] == [None, "bytes=5000-", "bytes=10000-"]


@pytest.mark.parametrize(
    "query", ["drop=5000&changing", "drop=5000&whole", "drop=5000&unvalidated", "drop=5000&shifted"]
)
def test_what_cannot_be_gone_on_with_never_mixes(origin: Server, tmp_path: Path, query: str) -> None:
    with pytest.raises(JobFailedError) as caught:
        fetch(tmp_path, url(origin, query))
    assert failure(caught)[0] == "connection"


def test_a_checksum_takes_the_place_of_an_etag(origin: Server, tmp_path: Path) -> None:
    assert fetch(tmp_path, url(origin, "drop=5000&unvalidated"), checksum=SHA512) == CONTENT


@pytest.mark.parametrize(
    ("query", "cause", "text"),
    [
        ("stall=100&whole", "connection", "nothing came after"),
        ("longer=10", "connection", f"ended after {len(CONTENT)} of {len(CONTENT) + 10}"),
        ("chunked&drop=100&whole", "connection", "the connection broke"),
        ("status=500", "connection", "answers 500"),
        ("status=403", "http", "answers 403"),
        ("gzip", "http", "encodes the file"),
        ("to=file:///etc/passwd", "http", "no http or https URL"),
    ],
)
def test_servers_that_do_not_do_what_they_say(
    origin: Server, tmp_path: Path, query: str, cause: str, text: str
) -> None:
    with pytest.raises(JobFailedError) as caught:
        fetch(tmp_path, url(origin, query))
    assert failure(caught)[0] == cause
    assert text in failure(caught)[1]


def test_servers_in_trouble_are_asked_again(origin: Server, tmp_path: Path) -> None:
    assert fetch(tmp_path, url(origin, "status=503&times=2")) == CONTENT


def test_redirects(origin: Server, tmp_path: Path) -> None:
    assert fetch(tmp_path, url(origin, f"to=http://127.0.0.1:{origin.server_port}/file")) == CONTENT
    (origin.RequestHandlerClass.root / "loop").touch()  # type: ignore[attr-defined]
    with pytest.raises(JobFailedError) as caught:
        fetch(tmp_path, url(origin, "to=?to=", "loop"))
    assert failure(caught)[0] == "http"


@pytest.mark.parametrize(("query", "text"), [("", "the file has"), ("chunked", "more than the 5000 bytes")])
def test_limits(origin: Server, tmp_path: Path, query: str, text: str) -> None:
    with pytest.raises(JobFailedError) as caught:
        fetch(tmp_path, url(origin, query), limit=5000)
    assert failure(caught)[0] == "size"
    assert text in failure(caught)[1]
    assert (tmp_path / "parts/job.data").stat().st_size <= 5000 + 256 * 1024


def test_cancelling_ends_a_blocked_fetch(origin: Server, tmp_path: Path) -> None:
    way = replace(WAY, stall=60)
    with fetching(tmp_path, Wish(url(origin, "stall=100"), 1 << 20, None), way) as running:
        threading.Timer(0.2, running.cancel.cancel).start()
        with pytest.raises(JobCancelledError):
            running.run()


def test_a_part_has_one_owner(tmp_path: Path) -> None:
    Part(tmp_path, "job")
    with pytest.raises(JobFailedError, match="another appliance"):
        Part(tmp_path, "job")
