"""What the commands about service offerings and disk offerings share."""

from __future__ import annotations

from typing import Any, Protocol

from sqlalchemy import Select

from controlplane.api import listing
from controlplane.api.call import Call
from controlplane.store.models import DiskOffering, ServiceOffering

Offering = ServiceOffering | DiskOffering


class Named(Protocol):
    """Parameters with a name."""

    @property
    def name(self) -> str | None: ...


class Renamed(Named, Protocol):
    """Parameters with the new names of an offering."""

    @property
    def displaytext(self) -> str | None: ...


class Wanted(Named, Protocol):
    """Parameters that say which offerings are listed."""

    @property
    def id(self) -> str | None: ...

    @property
    def keyword(self) -> str | None: ...


def choose(call: Call, statement: Select[Any], kind: type[Offering], params: Wanted) -> Select[Any]:
    """The statement for offerings of a kind with what ``params`` ask for."""
    if params.id is not None:
        statement = statement.where(kind.id == call.lookup(kind, params.id).id)
    if params.name is not None:
        statement = statement.where(kind.name == params.name)
    return listing.search(statement, params.keyword, kind.name, kind.display_text)


def add(call: Call, row: Offering, said: str) -> None:
    """Have a new offering, with an event."""
    call.session.add(row)
    call.session.flush()
    call.event(f"{said} {row.name}", (type(row).__name__, row.id))


def rename(call: Call, row: Offering, params: Renamed, said: str) -> None:
    """Give an offering the names that ``params`` have, with an event."""
    row.name = params.name or row.name
    row.display_text = params.displaytext or row.display_text
    call.event(f"{said} {row.name}", (type(row).__name__, row.id))
