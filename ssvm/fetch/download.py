"""Fetching one file by HTTP: again and again until all of it is there, each time from where the last time ended."""

from __future__ import annotations

import http.client
import os
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from ssvm.errors import ConnectionLostError, JobFailedError, full
from ssvm.fetch.checksums import algorithm, strong, verify
from ssvm.fetch.connection import PASSING, Answer, Way, get
from ssvm.fetch.pace import Pace
from ssvm.fetch.part import Part, Source
from ssvm.fetch.sink import Look, Sink
from ssvm.jobs.context import Cancel, Progress

#: seconds before the first new try, doubled each time up to the longest
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)")


class _RestartError(Exception):
    """The source's file is another one by now, or its parts cannot be had: everything from the beginning."""


@dataclass(frozen=True)
class Wish:
    """What to fetch. ``checksum`` is ``algorithm:hexadecimal`` or None.

    ``look`` makes what is shown every byte in order, for each connection anew (what came before is shown again); it
    may raise JobFailedError.
    """

    url: str
    size_limit: int
    checksum: str | None
    look: Callable[[], Look | None] = lambda: None


@dataclass
class Fetch:
    """One job's fetching."""

    wish: Wish
    part: Part
    way: Way
    pace: Pace
    progress: Progress
    cancel: Cancel
    retries: int = 5

    def run(self) -> dict[str, str]:
        """Fetch all; digests by algorithm, a strong one among them. Raises JobFailedError and JobCancelledError."""
        failures, furthest = 0, 0
        if self.part.source.url != self.wish.url:
            self.part.restart()
        while True:
            try:
                digests = self._attempt()
                verify(self.wish.checksum, digests)
                return digests
            except _RestartError as error:
                self.part.restart()
                reason = str(error)
            except ConnectionLostError as error:
                reason = str(error)
            except OSError as error:
                raise full(error) or error from error
            # a server that brings something each time may take as many tries as it needs
            failures, furthest = (failures + 1, furthest) if self.part.size <= furthest else (1, self.part.size)
            self.progress.lost += 1
            self.progress.detail = reason
            if failures > self.retries:
                raise JobFailedError("connection", f"{reason}; gave up after {failures} tries that brought nothing new")
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (failures - 1))
            self.progress.retrying = True
            self.cancel.wait(pause * (0.5 + secrets.randbelow(500) / 1000))
            self.progress.retrying = False

    def _attempt(self) -> dict[str, str]:
        """Everything that is missing, by one connection. Raises ConnectionLostError and _RestartError."""
        have, source = self.part.size, self.part.source
        headers: dict[str, str] = {}
        if have and (source.validator or self.wish.checksum):
            if source.total is not None and have > source.total:
                raise _RestartError("more was kept than there is")
            if have == source.total:
                return self._reread(have)
            headers["Range"] = f"bytes={have}-"
            if source.validator:
                headers["If-Range"] = source.validator
        elif have:
            self.part.restart()
            have = 0
        answer = get(
            self.wish.url,
            self.way,
            headers,
            downgrade=self.wish.checksum is not None,
            opened=self.cancel.ends,
        )
        try:
            offset, total = self._checked(answer, have)
            return self._body(answer, offset, total)
        finally:
            self.cancel.ends(None)
            answer.close()
            self.cancel.check()

    def _checked(self, answer: Answer, have: int) -> tuple[int, int | None]:
        """Where the body begins in the file and how long the whole file is, as far as the server says."""
        status = answer.response.status
        if status in PASSING:
            raise ConnectionLostError(f"the server answers {status} {answer.response.reason}")
        if status == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and have:
            raise _RestartError("the server's file is shorter than what came of it before")
        if status not in (http.client.OK, http.client.PARTIAL_CONTENT):
            raise JobFailedError("http", f"the server answers {status} {answer.response.reason}; check the URL")
        if (coding := answer.header("Content-Encoding")) not in ("", "identity"):
            raise JobFailedError("http", f"the server encodes the file as {coding!r}, which nobody asked for")
        length = answer.response.length  # None for chunked and for "until the connection ends"
        offset, total = 0, length
        validator = _validator(answer)
        if status == http.client.PARTIAL_CONTENT:
            offset, total = _range(answer, have, length)
            known = self.part.source
            if (known.total is not None and total not in (None, known.total)) or (
                known.validator and validator != known.validator
            ):
                raise _RestartError("the server's file changed")
            validator = validator or known.validator
            total = total if total is not None else known.total
        elif have:
            # all of it, from the beginning: another file by now, or a server without ranges
            self.part.restart()
        if total is not None and total > self.wish.size_limit:
            raise JobFailedError("size", f"the file has {total} bytes, more than the {self.wish.size_limit} allowed")
        self.part.belongs_to(Source(self.wish.url, validator, total))
        return offset, total

    def _names(self) -> frozenset[str]:
        return frozenset({algorithm(self.wish.checksum), strong(self.wish.checksum)})

    def _body(self, answer: Answer, offset: int, total: int | None) -> dict[str, str]:
        received, limit, progress = offset, self.wish.size_limit, self.progress
        progress.begin("receiving", received, total)
        with Sink(self._names(), self.wish.look()) as sink:
            self._feed(sink, offset)
            os.lseek(self.part.descriptor, offset, os.SEEK_SET)
            response = answer.response

            def read_into(buffer: memoryview) -> int:
                try:
                    return _read_some(response, buffer)
                except (OSError, http.client.HTTPException) as error:
                    text = "nothing came" if isinstance(error, TimeoutError) else "the connection broke"
                    raise ConnectionLostError(f"{text} after {received} bytes") from error

            while size := sink.pump(read_into, self.part.descriptor):
                self.cancel.check()
                received += size
                if received > limit:
                    raise JobFailedError("size", f"the file has more than the {limit} bytes allowed")
                progress.at(received)
                if (pause := self.pace.take(size)) > 0:
                    self.cancel.wait(pause)
        if total is not None and received != total:
            raise ConnectionLostError(f"the connection ended after {received} of {total} bytes")
        os.fsync(self.part.descriptor)
        return sink.digests()

    def _reread(self, size: int) -> dict[str, str]:
        """The digests of a part that is whole already."""
        self.progress.begin("checking", size, size)
        with Sink(self._names(), self.wish.look()) as sink:
            self._feed(sink, size)
        return sink.digests()

    def _feed(self, sink: Sink, size: int) -> None:
        """Show the sink the first ``size`` bytes of the part, which came earlier."""
        os.lseek(self.part.descriptor, 0, os.SEEK_SET)
        left = size

        def read_into(buffer: memoryview) -> int:
            return os.readv(self.part.descriptor, [buffer[:left]])

        while left and (done := sink.pump(read_into)):
            left -= done
            self.cancel.check()


def _read_some(response: http.client.HTTPResponse, buffer: memoryview) -> int:
    """What is there of a body, at least a byte; 0 at its end. ``readinto`` waits until the buffer is full, and what
    came before a connection breaks is then lost.
    """
    if response.chunked:
        data = response.read1(len(buffer))
        buffer[: len(data)] = data
        return len(data)
    if response.length is None:
        return response.fp.readinto1(buffer)
    size = response.fp.readinto1(buffer[: response.length]) if response.length else 0
    response.length -= size
    return size


def _range(answer: Answer, have: int, length: int | None) -> tuple[int, int | None]:
    """Offset and total of a 206, which must be what was asked for (RFC 9110, section 14.4)."""
    found = _CONTENT_RANGE.fullmatch(answer.header("Content-Range"))
    if found is None:
        raise _RestartError("the server answers 206 without a usable Content-Range")
    first, last = int(found[1]), int(found[2])
    total = None if found[3] == "*" else int(found[3])
    if first != have or last < first or (total is not None and last != total - 1):
        raise _RestartError(f"the server answers with another range than was asked for: {found[0]}")
    if length is not None and length != last - first + 1:
        raise _RestartError("the server's Content-Length and Content-Range do not agree")
    return first, total


def _validator(answer: Answer) -> str:
    """A strong ETag, else Last-Modified: what If-Range takes (RFC 9110, section 13.1.5)."""
    tag = answer.header("ETag")
    return tag if tag.startswith('"') else answer.header("Last-Modified")
