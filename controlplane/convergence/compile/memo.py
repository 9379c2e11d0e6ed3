"""Entries of the document compiled last, so that only what is new is built."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ValidationError

from appliance.errors import GatehouseError
from controlplane.convergence.compile.encoding import reasons


class CompileError(GatehouseError):
    """A row cannot stand in a document. ``id`` is the row's."""

    def __init__(self, id: str, reason: str) -> None:
        self.id = id
        super().__init__(f"{id}: {reason}")


@dataclass
class Memo:
    """The entries of one appliance's document compiled last: list name -> row -> JSON."""

    lists: dict[str, dict[tuple[Any, ...], bytes]] = field(default_factory=dict)

    def join(self, name: str, rows: Iterable[tuple[Any, ...]], build: Callable[[Any], BaseModel]) -> bytes:
        """The JSON array of ``rows``; those of last time are not built again. The row's first field is its id."""
        known, entries = self.lists.get(name, {}), {}
        for row in rows:
            entry = known.get(row)
            if entry is None:
                try:
                    entry = build(row).model_dump_json(exclude_none=True).encode()
                except ValidationError as error:
                    raise CompileError(row[0], reasons(error)) from error
            entries[row] = entry
        self.lists[name] = entries
        # sorted, so that the order the rows were stored in does not show
        return b"[" + b",".join(sorted(entries.values())) + b"]"
