"""Helper of the model tests: spoil a valid document in one place and see what the operator is told."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from appliance.schema.problems import explain
from router.document import RouterDocument
from tests.documents import document, small_state


def problems(path: str, value: Any) -> list[tuple[str, str]]:
    """``(field, message)`` for the small document with ``value`` at the dotted ``path``.

    A path that ends in ``+`` appends to a list.
    """
    state = small_state()
    *way, last = path.split(".")
    target: Any = state
    for step in way:
        target = target[int(step)] if isinstance(target, list) else target[step]
    if last == "+":
        target.append(value)
    elif isinstance(target, list):
        target[int(last)] = value
    else:
        target[last] = value
    raw = document(state)
    with pytest.raises(ValidationError) as caught:
        RouterDocument.model_validate(raw)
    return explain(caught.value, raw)


def assert_refused(path: str, value: Any, field: str, message: str) -> None:
    """Exactly one problem, at ``field``, whose text contains ``message``."""
    told = problems(path, value)
    assert [name for name, _ in told] == [field], told
    assert message in told[0][1]
