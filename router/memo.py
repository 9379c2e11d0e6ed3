"""Remember what each entry of a long list rendered to, so that a new document costs what changed in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar


class Entry(Protocol):
    """A frozen model with an identity, e.g. a port forward."""

    @property
    def id(self) -> str: ...


E = TypeVar("E", bound=Entry)
R = TypeVar("R")


class EntryMemo(Generic[E, R]):
    """Applies a pure function to each entry of a list; an entry that is the same object as last time costs a look-up.

    Parsing keeps unchanged entries the same objects (appliance.schema.types.Memo). Only the newest list is
    remembered, so memory does not grow.
    """

    def __init__(self, compute: Callable[[E], R]) -> None:
        self._compute = compute
        self._known: dict[str, tuple[E, R]] = {}

    def map(self, entries: Sequence[E]) -> list[R]:
        """``[compute(entry) for entry in entries]``."""
        known, compute = self._known, self._compute
        fresh: dict[str, tuple[E, R]] = {}
        results: list[R] = []
        for entry in entries:
            identity = entry.id
            pair = known.get(identity)
            if pair is None or pair[0] is not entry:
                pair = (entry, compute(entry))
            fresh[identity] = pair
            results.append(pair[1])
        self._known = fresh
        return results
