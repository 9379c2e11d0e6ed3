"""A fetch from a web server of this process."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from ssvm.fetch import addresses, download
from ssvm.fetch.addresses import Reach
from ssvm.fetch.connection import Way
from ssvm.fetch.download import Fetch, Wish
from ssvm.fetch.pace import Pace
from ssvm.fetch.part import Part
from ssvm.jobs.context import Cancel, Progress
from tests.origin import Server, serve

CONTENT = bytes(range(256)) * 40 + b"the end"
WAY = Way(
    reach=Reach(internal_sites=(IPv4Network("0.0.0.0/0"),)),
    resolve=lambda host: [IPv4Address("127.0.0.1")],
    context=ssl.create_default_context(),
    stall=1.0,
)


@pytest.fixture
def origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Serves ``file`` with CONTENT on loopback, which may be reached for once; new tries come at once."""
    monkeypatch.setattr(addresses, "NEVER", ())
    monkeypatch.setattr(download, "FIRST_PAUSE", 0.0)
    root = tmp_path / "origin"
    root.mkdir()
    (root / "file").write_bytes(CONTENT)
    server = serve(root)
    yield server
    server.shutdown()
    server.server_close()


def url(origin: Server, query: str = "", name: str = "file") -> str:
    return f"http://127.0.0.1:{origin.server_port}/{name}{f'?{query}' if query else ''}"


@contextmanager
def fetching(directory: Path, wish: Wish, way: Way = WAY, retries: int = 2) -> Iterator[Fetch]:
    part = Part(directory / "parts", "job")
    try:
        yield Fetch(wish, part, way, Pace(), Progress(), Cancel(), retries)
    finally:
        part.close()


def fetch(directory: Path, url: str, *, checksum: str | None = None, limit: int = 1 << 20, **more: int) -> bytes:
    """Fetch ``url``; what came."""
    with fetching(directory, Wish(url, limit, checksum), retries=more.get("retries", 2)) as running:
        running.run()
        return running.part.path.read_bytes()


__all__ = ["CONTENT", "WAY", "fetch", "fetching", "origin", "replace", "url"]
