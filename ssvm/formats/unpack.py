"""Compressed files: told by their first bytes, unpacked with a limit that is counted while they grow."""

from __future__ import annotations

import bz2
import lzma
import os
import zlib
from collections.abc import Callable, Iterator
from typing import Protocol

from appliance.errors import GatehouseError
from ssvm.errors import JobFailedError
from ssvm.jobs.context import Cancel, Progress

CHUNK = 256 * 1024
#: of what one step may make of one chunk: a bomb is stopped by its count and never held in memory
STEP = 1 << 20
#: bytes of dictionary that xz and zstd files may ask for
WINDOW = 64 << 20


class _Unpacker(Protocol):
    def __call__(self, read: Callable[[], bytes]) -> Iterator[bytes]: ...


class _Stepwise(Protocol):
    """bz2's and lzma's decompressors."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int = ..., /) -> bytes: ...


def _streams(make: Callable[[], _Stepwise], read: Callable[[], bytes]) -> Iterator[bytes]:
    """Streams one after the other, as the tools write them for several inputs."""
    data = read()
    while data:
        decoder = make()
        while not decoder.eof:
            if decoder.needs_input and not data:
                data = read()
                if not data:
                    raise JobFailedError("format", "the compressed file ends before its time")
            out = decoder.decompress(data, STEP)
            data = b""
            if out:
                yield out
        data = (decoder.unused_data or read()).lstrip(b"\0")  # padding between streams


class _Gzip:
    """zlib's decompressor in the manner of the others."""

    def __init__(self) -> None:
        self._decoder = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)

    @property
    def eof(self) -> bool:
        return self._decoder.eof

    @property
    def unused_data(self) -> bytes:
        return self._decoder.unused_data

    @property
    def needs_input(self) -> bool:
        return not self._decoder.unconsumed_tail

    def decompress(self, data: bytes, max_length: int = STEP, /) -> bytes:
        return self._decoder.decompress(self._decoder.unconsumed_tail + data, max_length)


def _zstd(read: Callable[[], bytes]) -> Iterator[bytes]:
    import zstandard

    class _Reader:
        def read(self, size: int = -1) -> bytes:
            return read()

    decoder = zstandard.ZstdDecompressor(max_window_size=WINDOW)
    with decoder.stream_reader(_Reader(), read_across_frames=True) as stream:  # type: ignore[arg-type]
        while data := stream.read(STEP):
            yield data


#: first bytes -> unpacker
_MAGIC: tuple[tuple[bytes, _Unpacker], ...] = (
    (b"\x1f\x8b\x08", lambda read: _streams(_Gzip, read)),
    (b"BZh", lambda read: _streams(bz2.BZ2Decompressor, read)),
    (
        b"\xfd7zXZ\0",
        lambda read: _streams(lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=WINDOW + (32 << 20)), read),
    ),
    (b"\x28\xb5\x2f\xfd", _zstd),
)


def packed(first: bytes) -> bool:
    """Whether a file with these first bytes is compressed."""
    return any(first.startswith(magic) for magic, _ in _MAGIC)


def unpacker(descriptor: int) -> _Unpacker | None:
    """What unpacks the file, None when it is not compressed."""
    first = os.pread(descriptor, 8, 0)
    return next((found for magic, found in _MAGIC if first.startswith(magic)), None)


def unpack(unpacking: _Unpacker, source: int, target: int, *, limit: int, progress: Progress, cancel: Cancel) -> int:
    """Unpack file ``source`` into ``target``, zeros as holes; the size. Raises JobFailedError and OSError."""
    done = 0
    offset = 0

    def read() -> bytes:
        nonlocal offset
        cancel.check()
        data = os.pread(source, CHUNK, offset)
        offset += len(data)
        progress.at(offset)
        return data

    os.ftruncate(target, 0)
    try:
        for data in unpacking(read):
            cancel.check()
            if done + len(data) > limit:
                raise JobFailedError("size", f"the file unpacks to more than the {limit} bytes allowed")
            if data.count(0) != len(data):
                os.pwrite(target, data, done)
            done += len(data)
    except (OSError, GatehouseError):
        raise
    except Exception as error:  # each library has an error of its own; zlib.error, LZMAError, ZstdError, EOFError
        raise JobFailedError("format", f"the compressed file cannot be unpacked: {error}") from error
    os.ftruncate(target, done)
    return done
