"""What each kind of job does. Each function runs in the job's thread and may be killed at any point and begun again."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

from ssvm.errors import JobFailedError
from ssvm.fetch.checksums import algorithm, strong, verify
from ssvm.fetch.download import Fetch, Wish
from ssvm.fetch.part import Part
from ssvm.jobs.intake import Made, checked, digested, looking, put, scratch, take_in
from ssvm.jobs.tools import Tools
from ssvm.services.storage.model.jobs import Convert, Copy, Delete, Download, Job, Upload
from ssvm.services.storage.model.report import Result
from ssvm.stores.base import Store


def run(job: Job, tools: Tools) -> Result | None:
    """Do a job; the object that it made, if any.

    Raises JobFailedError, JobCancelledError, StoreError and OSError.
    """
    store = tools.store(job.store)
    if isinstance(job, Delete):
        store.delete(job.path)
        return None
    # rather now than after gigabytes came; a store that does not work is tried again
    store.capacity()
    with ExitStack() as stack:
        part = Part(store.staging, job.id)
        stack.callback(part.close)
        if isinstance(job, Download):
            return _download(job, part, store, tools)
        if isinstance(job, Upload):
            return _upload(job, part, store, tools)
        if isinstance(job, Copy):
            return _copy(job, part, store, tools)
        return _convert(job, part, store, tools)


def _download(job: Download, part: Part, store: Store, tools: Tools) -> Result:
    wish = Wish(job.url, job.size_limit, job.checksum, partial(looking, job))
    return take_in(job, part, store, _fetch(wish, part, tools), tools)


def _fetch(wish: Wish, part: Part, tools: Tools) -> dict[str, str]:
    return Fetch(wish, part, tools.way, tools.pace, tools.progress, tools.cancel, tools.retries).run()


def _upload(job: Upload, part: Part, store: Store, tools: Tools) -> Result:
    """The file is there already (links/uploads.py)."""
    tools.progress.begin("checking", 0, part.size)
    names = frozenset({algorithm(job.checksum), strong(job.checksum)})
    digests = digested(part.descriptor, names, tools, looking(job))
    verify(job.checksum, digests)
    return take_in(job, part, store, digests, tools)


def _copy(job: Copy, part: Part, store: Store, tools: Tools) -> Result:
    if tools.peer_way is None:
        raise JobFailedError("internal", "this SSVM has no certificate for others")
    wish = Wish(job.url, job.size, job.checksum)
    _fetch(wish, part, replace(tools, way=tools.peer_way(job.peer)))
    tools.progress.begin("checking", 0, part.size)
    virtual = checked(job.format, job.virtual_limit, part.path, part.descriptor, tools)
    return put(Made(part.path, part.descriptor, job.format, virtual, job.checksum), job, store, tools)


def _convert(job: Convert, part: Part, store: Store, tools: Tools) -> Result:
    source = tools.store(job.source_store)
    size = source.size(job.source_path)
    if size is None:
        raise JobFailedError("store", f"there is no {job.source_path}")
    part.restart()
    tools.progress.begin("receiving", 0, size)
    os.lseek(part.descriptor, 0, os.SEEK_SET)
    done = 0
    for data in source.read(job.source_path, 0, size):
        tools.cancel.check()
        # what is zero stays a hole
        if data.count(0) != len(data):
            os.pwrite(part.descriptor, data, done)
        done += len(data)
        tools.progress.at(done)
    os.ftruncate(part.descriptor, done)
    tools.progress.begin("checking", 0, done)
    virtual = checked(job.format, job.virtual_limit, part.path, part.descriptor, tools)
    if job.target_format is None:
        return put(Made(part.path, part.descriptor, job.format, virtual), job, store, tools)
    with ExitStack() as stack:
        made = part.path.with_suffix(".converted")
        descriptor = scratch(made, stack)
        tools.progress.begin("converting", 0, done)
        tools.images.convert(part.descriptor, job.format, descriptor, job.target_format, tools.cancel)
        return put(Made(made, descriptor, job.target_format, virtual), job, store, tools)
