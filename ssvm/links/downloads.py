"""Objects handed out: by links with a token, and to other SSVMs by mutual TLS."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from ssvm.services.storage.model.links import Link
from ssvm.services.storage.model.report import LinkReport
from ssvm.stores.base import NoObjectError, Store, StoreError
from ssvm.stores.holdings import Holdings


class Downloads:
    """Serves the links of the newest document."""

    def __init__(self, holdings: Holdings) -> None:
        self._holdings = holdings
        self._links: dict[str, Link] = {}
        self._by_token: dict[str, Link] = {}
        self._requests: dict[str, int] = {}
        self._sent: dict[str, int] = {}
        #: link id -> requests that are being answered
        self._active: dict[str, set[asyncio.Task[Any]]] = {}

    def load(self, links: tuple[Link, ...]) -> None:
        """Have exactly these links; what is sent by others ends at once."""
        before = self._links
        self._links = {link.id: link for link in links}
        self._by_token = {link.token_hash: link for link in links if link.token_hash is not None}
        for id in before:
            if self._links.get(id) != before[id]:
                self._cut(id)
        for counts in (self._requests, self._sent):
            for id in counts.keys() - self._links.keys():
                del counts[id]

    def _cut(self, id: str) -> None:
        for task in self._active.get(id, set()):
            task.cancel()

    def report(self) -> list[LinkReport]:
        """Every link of the document."""
        return [LinkReport(id=id, requests=self._requests.get(id, 0), sent=self._sent.get(id, 0)) for id in self._links]

    async def by_token(self, request: web.Request) -> web.StreamResponse:
        """GET /extract/{token}/{name}."""
        digest = hashlib.sha256(request.match_info["token"].encode()).hexdigest()
        link = self._by_token.get(digest)
        if link is None or not hmac.compare_digest(link.name, request.match_info["name"]):
            raise web.HTTPNotFound(text="there is no such link, or it has expired\n")
        return await self._serve(request, link)

    async def by_peer(self, request: web.Request) -> web.StreamResponse:
        """GET /peer/{id}, by the SSVM that the link is for."""
        link = self._links.get(request.match_info["id"])
        certificate = request.get_extra_info("peercert") or {}
        names = {value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS"}
        if link is None or link.peer is None or f"{link.peer}.peer" not in names:
            raise web.HTTPNotFound(text="there is no such link for this appliance\n")
        return await self._serve(request, link)

    async def _serve(self, request: web.Request, link: Link) -> web.StreamResponse:
        if link.expires <= datetime.now(UTC):
            raise web.HTTPNotFound(text="there is no such link, or it has expired\n")
        store = self._holdings.stores.get(link.store)
        if store is None:
            raise web.HTTPServiceUnavailable(text="the store cannot be used\n")
        task = asyncio.current_task()
        assert task is not None
        self._active.setdefault(link.id, set()).add(task)
        self._requests[link.id] = self._requests.get(link.id, 0) + 1
        try:
            return await self._send(request, link, store)
        except StoreError as error:
            raise web.HTTPServiceUnavailable(text="the store cannot be used\n") from error
        except NoObjectError as error:
            raise web.HTTPNotFound(text="the object is gone\n") from error
        finally:
            self._active[link.id].discard(task)

    async def _send(self, request: web.Request, link: Link, store: Store) -> web.StreamResponse:
        size = await asyncio.to_thread(store.size, link.path)
        if size is None:
            raise NoObjectError(link.path)
        # an object never changes under its path while a link is about it
        tag = f'"{link.id}"'
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Disposition": f'attachment; filename="{link.name}"',
            "Accept-Ranges": "bytes",
            "ETag": tag,
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "private, no-store",
        }
        offset, length, status = 0, size, 200
        if (condition := request.headers.get("If-Range")) is None or condition == tag:
            wanted = _wanted(request, size)
            if wanted is not None:
                offset, length = wanted
                status = 206
                headers["Content-Range"] = f"bytes {offset}-{offset + length - 1}/{size}"
        response = web.StreamResponse(status=status, headers=headers)
        response.content_length = length
        await response.prepare(request)
        if request.method == "HEAD":
            return response
        chunks: Iterator[bytes] = store.read(link.path, offset, length)
        while (data := await asyncio.to_thread(next, chunks, b"")) and link.expires > datetime.now(UTC):
            await response.write(data)
            self._sent[link.id] = self._sent.get(link.id, 0) + len(data)
        await response.write_eof()
        return response


def _wanted(request: web.Request, size: int) -> tuple[int, int] | None:
    """Offset and length of a request's range (RFC 9110, section 14.2); None: the whole object."""
    try:
        asked = request.http_range
    except ValueError:
        return None  # several ranges, or another unit: what is not understood is passed over
    if asked.start is None and asked.stop is None:
        return None
    start, stop, _ = asked.indices(size)
    if start >= stop:
        raise web.HTTPRequestRangeNotSatisfiable(headers={"Content-Range": f"bytes */{size}"})
    return start, stop - start
