"""Memo: unchanged entries of long lists are the same objects again, everything else is validated."""

from __future__ import annotations

import copy
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from appliance.schema.types import Flag, Frozen, Integer, Memo, memoised


class Entry(Frozen):
    id: str
    number: Integer = 0
    flag: Flag = False


class Section(Frozen):
    entries: Annotated[tuple[Entry, ...], memoised("section.entries")] = ()


def raw(*numbers: int) -> dict[str, Any]:
    return {"entries": [{"id": f"e{number}", "number": number, "flag": False} for number in numbers]}


def test_unchanged_entries_are_reused_and_new_ones_validated() -> None:
    memo = Memo()
    first = Section.model_validate(raw(1, 2, 3), context=memo)
    second = Section.model_validate(raw(3, 1, 4), context=memo)
    assert second.entries == (Entry(id="e3", number=3), Entry(id="e1", number=1), Entry(id="e4", number=4))
    assert second.entries[0] is first.entries[2]
    assert second.entries[1] is first.entries[0]


def test_a_changed_entry_is_a_new_object() -> None:
    memo = Memo()
    first = Section.model_validate(raw(1, 2), context=memo)
    changed = raw(1, 2)
    changed["entries"][1]["number"] = 7
    second = Section.model_validate(changed, context=memo)
    assert [entry.number for entry in second.entries] == [1, 7]
    assert second.entries[0] is first.entries[0]


@pytest.mark.parametrize(("key", "value"), [("number", True), ("number", 1.0), ("flag", 0), ("flag", 0.0)])
def test_values_that_only_compare_equal_are_not_taken_for_the_same(key: str, value: object) -> None:
    memo = Memo()
    Section.model_validate(raw(1), context=memo)
    alike = raw(1)
    alike["entries"][0][key] = value
    assert alike == raw(1)  # which is why the memo must not compare like this
    with pytest.raises(ValidationError):
        Section.model_validate(alike, context=memo)


def test_the_document_that_was_parsed_may_be_changed_afterwards() -> None:
    memo = Memo()
    document = raw(1)
    Section.model_validate(document, context=memo)
    document["entries"][0]["number"] = "bad"
    with pytest.raises(ValidationError):
        Section.model_validate(document, context=memo)


def test_an_error_is_reported_at_its_place_in_the_whole_list() -> None:
    memo = Memo()
    Section.model_validate(raw(1, 2, 3), context=memo)
    bad = raw(1, 2, 3, 4)
    bad["entries"][3]["number"] = "x"
    with pytest.raises(ValidationError) as caught:
        Section.model_validate(bad, context=memo)
    assert [error["loc"] for error in caught.value.errors()] == [("entries", 3, "number")]


def test_a_refused_list_leaves_the_memo_as_it_was() -> None:
    memo = Memo()
    first = Section.model_validate(raw(1, 2), context=memo)
    with pytest.raises(ValidationError):
        Section.model_validate({"entries": [{"id": 1}]}, context=memo)
    assert Section.model_validate(raw(1, 2), context=memo).entries[0] is first.entries[0]


def test_entries_that_are_gone_are_forgotten() -> None:
    memo = Memo()
    Section.model_validate(raw(*range(100)), context=memo)
    Section.model_validate(raw(1), context=memo)
    assert len(memo.entries["section.entries"]) == 1


def test_the_same_entry_twice_stays_twice() -> None:
    memo = Memo()
    for _ in range(2):
        assert [entry.number for entry in Section.model_validate(raw(1, 1), context=memo).entries] == [1, 1]


def deep(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("value", [None, "text", {"id": "e"}, [None], [[]], ["e1"], [{"id": object()}], [deep(5000)]])
def test_malformed_lists_are_ordinary_errors(value: object) -> None:
    memo = Memo()
    Section.model_validate(raw(1), context=memo)
    with pytest.raises(ValidationError):
        Section.model_validate({"entries": value}, context=memo)


def test_models_in_place_of_plain_data() -> None:
    entry = Entry(id="e1")
    assert Section.model_validate({"entries": [entry]}, context=Memo()).entries == (entry,)


@given(
    st.lists(
        st.lists(
            st.fixed_dictionaries(
                {"id": st.sampled_from(["a", "b", 1]), "number": st.sampled_from([0, 1, True, 1.0, "1"])}
            ),
            max_size=6,
        ),
        max_size=5,
    )
)
def test_a_memo_never_changes_the_outcome(history: list[list[dict[str, Any]]]) -> None:
    """Any sequence of documents, valid or not: with a memo the same result as without."""
    memo = Memo()
    for entries in history:
        document = {"entries": entries}
        outcomes = []
        for context in (memo, None):
            try:
                section = Section.model_validate(copy.deepcopy(document), context=context)
                outcomes.append(section.model_dump_json())
            except ValidationError as error:
                outcomes.append(str([(detail["loc"], detail["type"]) for detail in error.errors()]))
        assert outcomes[0] == outcomes[1]
