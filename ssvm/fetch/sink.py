"""Bytes on their way to the disk: written by the thread that receives, hashed and looked at by a second.

hashlib and the kernel's calls let go of the interpreter's lock, so both threads work at the same time, and the slower
one sets the speed. A few buffers go round between them, so memory is the same whatever the size of the file.
"""

from __future__ import annotations

import hashlib
import os
import queue
import threading
from collections.abc import Callable
from types import TracebackType

BUFFER = 256 * 1024
BUFFERS = 6

#: reads into a buffer as much as there is: how much, 0 at the end
ReadInto = Callable[[memoryview], int]
Look = Callable[[memoryview], None]


def digests(names: frozenset[str]) -> dict[str, hashlib._Hash]:
    """New hashes by name. MD5 and SHA-1 are no proof of anything, but some publish nothing else."""
    return {name: hashlib.new(name, usedforsecurity=False) for name in sorted(names)}


class Sink:
    """Hashes what passes; use as a context manager, and ask ``digests`` after it.

    ``look`` is called with each buffer in order, from the second thread; what it raises is raised by ``pump`` or on
    the way out.
    """

    def __init__(self, names: frozenset[str], look: Look | None = None) -> None:
        self._hashes = digests(names)
        self._look = look
        self._free: queue.SimpleQueue[memoryview] = queue.SimpleQueue()
        self._full: queue.SimpleQueue[tuple[memoryview, int] | None] = queue.SimpleQueue()
        for _ in range(BUFFERS):
            self._free.put(memoryview(bytearray(BUFFER)))
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="hash", daemon=True)

    def __enter__(self) -> Sink:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._full.put(None)
        self._thread.join()
        if self._error is not None and error is None:
            raise self._error

    def _run(self) -> None:
        while (item := self._full.get()) is not None:
            buffer, size = item
            try:
                if self._error is None:
                    view = buffer[:size]
                    for each in self._hashes.values():
                        each.update(view)
                    if self._look is not None:
                        self._look(view)
            except BaseException as error:
                self._error = error
            self._free.put(buffer)

    def pump(self, read_into: ReadInto, descriptor: int | None = None) -> int:
        """Pass one buffer on, written to ``descriptor`` if there is one; its size, 0 at the end."""
        buffer = self._free.get()
        if self._error is not None:
            raise self._error
        size = read_into(buffer)
        left = buffer[:size]
        while left and descriptor is not None:
            left = left[os.write(descriptor, left) :]
        if size:
            self._full.put((buffer, size))
        return size

    def digests(self) -> dict[str, str]:
        """Algorithm -> hexadecimal digest of everything that passed."""
        return {name: each.hexdigest() for name, each in self._hashes.items()}
