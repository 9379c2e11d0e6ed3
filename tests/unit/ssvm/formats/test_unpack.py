"""Compressed files, whole, broken, and larger than they should be."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ssvm.errors import JobCancelledError, JobFailedError
from ssvm.formats.unpack import unpack, unpacker
from ssvm.jobs.context import Cancel, Progress

CONTENT = os.urandom(100_000) + bytes(3_000_000) + b"the end"
PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": zstandard.compress,
}


def unpacked(directory: Path, packed: bytes, limit: int = 1 << 30, cancel: Cancel | None = None) -> bytes:
    with (directory / "packed").open("w+b") as source, (directory / "made").open("w+b") as target:
        source.write(packed)
        source.flush()
        unpacking = unpacker(source.fileno())
        assert unpacking is not None
        size = unpack(
            unpacking, source.fileno(), target.fileno(), limit=limit, progress=Progress(), cancel=cancel or Cancel()
        )
        made = target.read()
        assert len(made) == size
        return made


@pytest.mark.parametrize("name", PACK)
def test_whole_files(tmp_path: Path, name: str) -> None:
    assert unpacked(tmp_path, PACK[name](CONTENT)) == CONTENT
    # tools that work in parallel write one stream after the other
    assert unpacked(tmp_path, PACK[name](CONTENT) + PACK[name](b"more")) == CONTENT + b"more"
    # zeros are holes
    assert (tmp_path / "made").stat().st_blocks * 512 < 2_200_000


@pytest.mark.parametrize("name", PACK)
def test_bombs_stop_early(tmp_path: Path, name: str) -> None:
    with pytest.raises(JobFailedError) as caught:
        unpacked(tmp_path, PACK[name](bytes(8 << 20)), limit=1_000_000)
    assert caught.value.cause == "size"
    assert (tmp_path / "made").stat().st_size <= 1_000_000


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(["gzip", "bzip2", "xz"]), end=st.integers(10, 1000))
def test_broken_files(tmp_path: Path, name: str, end: int) -> None:
    with pytest.raises(JobFailedError) as caught:
        unpacked(tmp_path, PACK[name](CONTENT[:20_000])[:-end])
    assert caught.value.cause == "format"


def test_cancelling(tmp_path: Path) -> None:
    cancel = Cancel()
    cancel.cancel()
    with pytest.raises(JobCancelledError):
        unpacked(tmp_path, gzip.compress(CONTENT), cancel=cancel)


def test_what_is_not_compressed(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"QFI\xfb")
    with (tmp_path / "plain").open("rb") as source:
        assert unpacker(source.fileno()) is None
