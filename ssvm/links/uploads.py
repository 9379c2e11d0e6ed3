"""Files that somebody sends: into the part of the upload's job, whole or not at all."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

from aiohttp import BodyPartReader, web

from ssvm.errors import JobFailedError, full
from ssvm.fetch.part import Part, Source
from ssvm.jobs.runner import Runner, Task
from ssvm.services.storage.model.jobs import Upload
from ssvm.services.storage.model.report import Failure
from ssvm.stores.base import CHUNK, Store

log = logging.getLogger(__name__)

#: what a part says of itself that came whole by an upload
_UPLOADED = "upload:"


def arrived(job: Upload, store: Store) -> bool:
    """Whether an upload's file came whole, to a process before this one."""
    try:
        part = Part(store.staging, job.id)
    except (OSError, JobFailedError):
        return False
    try:
        return part.source.url == _UPLOADED and part.source.total == part.size
    finally:
        part.close()


class _Incoming(Protocol):
    async def read(self, size: int) -> bytes: ...


class _FormFile:
    """The file of a form, in the manner of a stream."""

    def __init__(self, field: BodyPartReader) -> None:
        self._field = field

    async def read(self, size: int) -> bytes:
        return bytes(await self._field.read_chunk(size))


class Uploads:
    """Takes uploads for jobs that wait for them; one request at a time each."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._busy: set[str] = set()

    async def receive(self, request: web.Request) -> web.Response:
        """POST /upload/{id}."""
        id, given = request.match_info["id"], request.headers.get("X-signature", "")
        task = self._runner.upload(id)
        job = task.job if task is not None else None
        known = isinstance(job, Upload) and hmac.compare_digest(
            hashlib.sha256(given.encode()).hexdigest(), job.token_hash
        )
        if task is None or not isinstance(job, Upload) or not known or job.expires <= datetime.now(UTC):
            raise web.HTTPForbidden(text="this upload link is not valid, was used, or has expired\n")
        if id in self._busy:
            raise web.HTTPConflict(text="this file is being uploaded already\n")
        if (length := request.content_length) is not None and length > job.size_limit + CHUNK:
            raise web.HTTPRequestEntityTooLarge(job.size_limit, length)
        self._busy.add(id)
        try:
            await self._store(request, task, job)
        finally:
            self._busy.discard(id)
            if task.thread is None and not task.ready:
                task.progress.phase = ""
        self._runner.arrived(task)
        return web.Response(text="received\n")

    async def _store(self, request: web.Request, task: Task, job: Upload) -> None:
        assert task.store is not None
        incoming, total = await _file(request)
        try:
            part = await asyncio.to_thread(Part, task.store.staging, job.id)
        except JobFailedError as error:
            raise web.HTTPConflict(text=f"{error}\n") from error
        except OSError as error:
            raise web.HTTPServiceUnavailable(text="the store cannot be used; try again later\n") from error
        # in threads all of it: a store that hangs must not hold up what else there is
        try:
            await asyncio.to_thread(part.restart)
            done = 0
            task.progress.begin("receiving", 0, total)
            task.cancel.ends(_aborting(request))
            while data := await incoming.read(CHUNK):
                done += len(data)
                if done > job.size_limit:
                    raise web.HTTPRequestEntityTooLarge(job.size_limit, done)
                await asyncio.to_thread(part.write, data)
                task.progress.at(done)
            await asyncio.to_thread(part.sync)
            await asyncio.to_thread(part.belongs_to, Source(_UPLOADED, total=done))
        except OSError as error:
            if isinstance(error, ConnectionError):
                raise
            failure = full(error)
            raise web.HTTPInsufficientStorage(text=f"{failure or 'the store cannot be used'}\n") from error
        finally:
            task.cancel.ends(None)
            await asyncio.to_thread(part.close)

    def tick(self) -> None:
        """Uploads that nobody began in time end."""
        for task in self._runner.waiting():
            job = task.job
            if isinstance(job, Upload) and job.expires <= datetime.now(UTC) and job.id not in self._busy:
                self._runner.fail(task, Failure(cause="expired", message="nobody uploaded the file in time"))


async def _file(request: web.Request) -> tuple[_Incoming, int | None]:
    """The file of a request, and its size where it says so: of a form, or the body itself."""
    if not request.content_type.startswith("multipart/"):
        return request.content, request.content_length
    form = await request.multipart()
    while (field := await form.next()) is not None:
        if isinstance(field, BodyPartReader) and field.filename is not None:
            # the parts around it are small
            return _FormFile(field), request.content_length
    raise web.HTTPBadRequest(text="the form has no file\n")


def _aborting(request: web.Request) -> Callable[[], None]:
    """What ends a request, from any thread."""
    loop, transport = asyncio.get_running_loop(), request.transport

    def abort() -> None:
        if transport is not None:
            loop.call_soon_threadsafe(transport.abort)

    return abort
