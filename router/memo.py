"""Remember what each entry of a long list came to, so that a new document costs what changed in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Generic, TypeVar

K = TypeVar("K")
E = TypeVar("E")
R = TypeVar("R")


class EntryMemo(Generic[E, R]):
    """Applies a pure function to each entry of a list; an entry that is the same object as last time costs a look-up.

    Parsing keeps unchanged entries the same objects (appliance.schema.types.Memo). Only the newest list is
    remembered, so memory does not grow.
    """

    def __init__(self, compute: Callable[[E], R]) -> None:
        self._compute = compute
        #: by identity; holding the entry keeps its identity from being given to another object
        self._known: dict[int, tuple[E, R]] = {}

    def map(self, entries: Sequence[E]) -> list[R]:
        """``[compute(entry) for entry in entries]``."""
        known, compute = self._known, self._compute
        pairs = [known.get(id(entry)) or (entry, compute(entry)) for entry in entries]
        self._known = {id(pair[0]): pair for pair in pairs}
        return [pair[1] for pair in pairs]


class KeyedMemo(Generic[K, E, R]):
    """An EntryMemo whose function also depends on a ``key`` that seldom changes; with a new one it starts afresh."""

    def __init__(self, compute: Callable[[K, E], R]) -> None:
        self._compute = compute
        self._memo: tuple[K, EntryMemo[E, R]] | None = None

    def map(self, key: K, entries: Sequence[E]) -> list[R]:
        """``[compute(key, entry) for entry in entries]``."""
        if self._memo is None or self._memo[0] != key:
            self._memo = (key, EntryMemo(partial(self._compute, key)))
        return self._memo[1].map(entries)


def missing(before: Sequence[E], after: Sequence[E]) -> list[E]:
    """The entries of ``before`` that are not, as the same object, in ``after``: removed, or changed."""
    kept = set(map(id, after))
    return [entry for entry in before if id(entry) not in kept]
