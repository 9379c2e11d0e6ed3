"""Problems: raised with their place, told with the id of the entry, without secret values."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError, model_validator

from appliance.schema.problems import MOST, Problem, explain, refuse, repeated
from appliance.schema.types import Frozen, Integer


class Entry(Frozen):
    id: str
    number: Integer = 0
    password: SecretStr | None = None


class Section(Frozen):
    entries: tuple[Entry, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Section:
        refuse(self._problems())
        return self

    def _problems(self) -> list[Problem]:
        return [
            (("entries", index, "number"), f"{entry.number} is odd {{number}}")
            for index, entry in enumerate(self.entries)
            if entry.number % 2
        ]


class Whole(Frozen):
    state: Section


def problems(raw: dict[str, Any]) -> list[tuple[str, str]]:
    with pytest.raises(ValidationError) as caught:
        Whole.model_validate(raw)
    return explain(caught.value, raw)


def test_no_problem_no_error() -> None:
    refuse([])
    assert Whole.model_validate({"state": {"entries": [{"id": "a", "number": 2}]}}).state.entries[0].number == 2


def test_every_problem_is_told_with_place_and_entry() -> None:
    entries = [{"id": "a", "number": 1}, {"id": "b", "number": 2}, {"id": "c", "number": 3}]
    assert problems({"state": {"entries": entries}}) == [
        ("entries.0.number", "a: 1 is odd {number}"),
        ("entries.2.number", "c: 3 is odd {number}"),
    ]


def test_fields_of_the_envelope_and_of_the_state() -> None:
    assert problems({"state": {}, "kind": 1}) == [("kind", "Extra inputs are not permitted")]
    assert problems({"state": {"kind": 1}}) == [("kind", "Extra inputs are not permitted")]
    assert problems({})[0][0] == "state"


def test_a_long_list_of_errors_is_cut() -> None:
    told = problems({"state": {"entries": [{"id": str(n), "number": "x"} for n in range(100)]}})
    assert len(told) == MOST + 1
    assert told[-1] == ("", "and 80 more problems")


def test_secret_values_are_not_told() -> None:
    raw = {"state": {"entries": [{"id": "a", "password": "hunter2", "nunber": "hunter2"}]}}
    with pytest.raises(ValidationError) as caught:
        Whole.model_validate(raw)
    assert "hunter2" not in str(caught.value)
    assert "hunter2" not in repr(explain(caught.value, raw))


@pytest.mark.parametrize("identity", [5, None, "a\x1b[31m", ["a"]])
def test_an_id_that_is_no_id_is_not_shown(identity: object) -> None:
    told = problems({"state": {"entries": [{"id": identity, "number": "x"}]}})
    assert ("entries.0.number", "Input should be a valid integer") in told


def test_a_long_id_is_cut() -> None:
    told = problems({"state": {"entries": [{"id": "a" * 10000, "number": "x"}]}})
    assert len(told[0][1]) < 200


@given(st.lists(st.integers(0, 5)))
def test_repeated_gives_each_later_occurrence(values: list[int]) -> None:
    expected = [(index, value) for index, value in enumerate(values) if value in values[:index]]
    assert list(repeated(values)) == expected


def test_problems_are_counted_lazily() -> None:
    """A list of a million wrong entries costs the first 20."""
    produced = 0

    def endless() -> Any:
        nonlocal produced
        while True:
            produced += 1
            yield ("x",), "wrong"

    with pytest.raises(ValidationError):
        refuse(endless())
    assert produced <= MOST + 1
