"""What is wrong with a document, and exactly where: raised by the models, told to the operator."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

#: path below the model that is checked, e.g. ``("forwards", 3, "address")``
Place = tuple[str | int, ...]
Problem = tuple[Place, str]

#: enough to see what went wrong; a whole list that is wrong needs no line for each entry
MOST = 20

Value = TypeVar("Value", bound=Hashable)


def refuse(problems: Iterable[Problem]) -> None:
    """Raise pydantic's ValidationError when there are problems (the first 20); for use in ``after`` validators.

    pydantic puts the path of the model in front of each place, so a section names places as it knows them.
    """
    found = [
        InitErrorDetails(
            type=PydanticCustomError("inconsistent", "{message}", {"message": text}), loc=place, input=None
        )
        for place, text in islice(problems, MOST)
    ]
    if found:
        raise ValidationError.from_exception_data("document", found)


def repeated(values: Sequence[Value]) -> Iterator[tuple[int, Value]]:
    """Index and value of each entry that equals an earlier one."""
    if len(set(values)) == len(values):
        return
    seen: set[Value] = set()
    for index, value in enumerate(values):
        if value in seen:
            yield index, value
        seen.add(value)


def explain(error: ValidationError, raw: object) -> list[tuple[str, str]]:
    """``(field, message)`` of each error of a document; ``raw`` is the plain data that was validated.

    ``field`` is a dotted path from the role's state, e.g. ``nat.forwards.3.ports.last``, or an envelope's field. The
    message begins with the id of the list entry it is about, if that has one: an index means little to a person.
    The refused values are left out, for they may be secret. After 20 errors the rest is only counted.
    """
    told = []
    for detail in error.errors(include_input=False, include_url=False)[:MOST]:
        place = detail["loc"]
        path = place[1:] if len(place) > 1 and place[0] == "state" else place
        # pydantic puts "Value error, " before what our own validators say
        text = str(detail["ctx"]["error"]) if detail["type"] == "value_error" else detail["msg"]
        entry = _entry_id(raw, place)
        told.append(
            (".".join(map(str, path)), f"{entry}: {text}" if entry and not text.startswith(f"{entry} ") else text)
        )
    if (more := error.error_count() - MOST) > 0:
        told.append(("", f"and {more} more problems"))
    return told


def _entry_id(raw: object, place: Place) -> str:
    """The id of the innermost list entry on the way to ``place``, "" without one."""
    found = ""
    for step in place:
        try:
            raw = raw[step]  # type: ignore[index]
        except (TypeError, LookupError):
            break
        if isinstance(step, int) and isinstance(raw, dict) and isinstance(raw.get("id"), str):
            # an id that is itself refused may be anything
            found = raw["id"][:64] if raw["id"].isprintable() else ""
    return found
