"""Python's cyclic garbage collector, kept out of the way of what must be quick."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """No collection while this runs: one walks every rule there is, which takes longer than applying a document.

    What two threads do at once in here ends with the collector on again.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
