"""From a file that came to an object: unpack, check, convert, put (downloads and uploads alike)."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from ssvm.fetch.checksums import algorithm, strong
from ssvm.fetch.part import Part, remove
from ssvm.fetch.sink import Look, Sink
from ssvm.formats import ova
from ssvm.formats.inspect import Inspection
from ssvm.formats.unpack import packed, unpack, unpacker
from ssvm.jobs.tools import Tools
from ssvm.services.storage.model.jobs import Download, Format, Job, Upload
from ssvm.services.storage.model.report import Result
from ssvm.stores.base import Store


def looking(job: Download | Upload) -> Look | None:
    """What looks at a file from its first byte on: an image's inspection, unless the file holds the image packed."""
    if job.format == "ova":
        return None
    inspection: Inspection | None = None
    begun = False

    def feed(data: memoryview) -> None:
        nonlocal inspection, begun
        if not begun:
            begun = True
            if not packed(bytes(data[:8])):
                inspection = Inspection(job.format, job.virtual_limit)
        if inspection is not None:
            inspection.feed(data)

    return feed


@dataclass(frozen=True)
class Made:
    """A file in a store's staging directory that is to be an object. ``checksum`` "": nobody knows one yet."""

    path: Path
    descriptor: int
    format: Format
    virtual_size: int
    checksum: str = ""


def take_in(job: Download | Upload, part: Part, store: Store, digests: dict[str, str], tools: Tools) -> Result:
    """Make the object of a file that came whole. Raises JobFailedError, StoreError and OSError."""
    named, proof = algorithm(job.checksum), strong(job.checksum)
    came = f"{named}:{digests[named]}"
    with ExitStack() as stack:
        path, descriptor, checksum = part.path, part.descriptor, f"{proof}:{digests[proof]}"
        if job.format != "ova" and (unpacking := unpacker(descriptor)) is not None:
            path, checksum = part.path.with_suffix(".unpacked"), ""
            source, descriptor = descriptor, scratch(path, stack)
            tools.progress.begin("unpacking", 0, part.size)
            unpack(
                unpacking,
                source,
                descriptor,
                limit=job.virtual_limit,
                progress=tools.progress,
                cancel=tools.cancel,
            )
        size = os.fstat(descriptor).st_size
        tools.progress.begin("checking", 0, size)
        virtual = checked(job.format, job.virtual_limit, path, descriptor, tools)
        if job.convert is not None:
            path, checksum = part.path.with_suffix(".converted"), ""
            source, descriptor = descriptor, scratch(path, stack)
            tools.progress.begin("converting", 0, size)
            tools.images.convert(source, job.format, descriptor, job.convert, tools.cancel)
        made = Made(path, descriptor, job.convert or job.format, virtual, checksum)
        return put(made, job, store, tools, came=came)


def put(made: Made, job: Job, store: Store, tools: Tools, *, came: str = "") -> Result:
    """Make a file the object of a job. ``came``: checksum of what it was made of, when that is something else."""
    size = os.fstat(made.descriptor).st_size
    checksum = made.checksum
    if not checksum:
        tools.progress.begin("checking", 0, size)
        checksum = f"sha256:{digested(made.descriptor, frozenset({'sha256'}), tools)['sha256']}"
    os.fsync(made.descriptor)
    result = Result(
        checksum=came or checksum,
        object_checksum=checksum,
        physical_size=size,
        format=made.format,
        virtual_size=made.virtual_size,
    )
    tools.cancel.check()
    tools.putting(result)
    tools.progress.begin("storing", 0, size)
    store.put(made.path, job.path, tools.progress, tools.cancel)
    remove(store.staging, job.id)
    return result


def scratch(path: Path, stack: ExitStack) -> int:
    """A new empty file that the sandbox may write too, though it cannot enter the directory."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
    stack.callback(os.close, descriptor)
    os.fchmod(descriptor, 0o666)
    return descriptor


def digested(descriptor: int, names: frozenset[str], tools: Tools, look: Look | None = None) -> dict[str, str]:
    """Digests of a whole file by algorithm."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    done = 0
    with Sink(names, look) as sink:
        while size := sink.pump(lambda buffer: os.readv(descriptor, [buffer])):
            done += size
            tools.progress.at(done)
            tools.cancel.check()
    return sink.digests()


def checked(format: Format, limit: int, path: Path, descriptor: int, tools: Tools) -> int:
    """The virtual size of the file, when it is what it should be, as two parsers see it. Raises JobFailedError."""
    if format == "ova":
        return ova.virtual_size(path, path.with_suffix(".disk"), limit, tools.images, tools.cancel)
    inspection = Inspection(format, limit)
    os.lseek(descriptor, 0, os.SEEK_SET)
    with Sink(frozenset(), inspection.feed) as sink:
        while sink.pump(lambda buffer: os.readv(descriptor, [buffer])) and not inspection.decided:
            tools.cancel.check()
    inspection.finish()
    return tools.images.virtual_size(descriptor, format, limit, tools.cancel, said=inspection.virtual_size)
