"""Parser: what is as it was in the document before is the same object again, everything else is validated."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.engine.parse import Parsed, Parser
from appliance.errors import DocumentError
from appliance.schema.envelope import Document
from appliance.schema.types import Address, Flag, Frozen, Integer


class Entry(Frozen):
    id: str
    number: Integer = 0
    flag: Flag = False


class Section(Frozen):
    entries: tuple[Entry, ...] = ()
    more: tuple[Entry, ...] = ()
    addresses: tuple[Address, ...] = ()


class State(Frozen):
    name: str
    one: Section | None = None
    two: Section | None = None


def new_parser() -> Parser:
    return Parser("router", Document[State])


def body(**state: Any) -> bytes:
    return json.dumps(
        {"kind": "router", "version": 1, "id": "r-1", "generation": 1, "state": {"name": "r", **state}}
    ).encode()


def entries(*numbers: int) -> list[dict[str, Any]]:
    return [{"id": f"e{number}", "number": number, "flag": False} for number in numbers]


def section(*numbers: int) -> dict[str, Any]:
    return {"entries": entries(*numbers)}


def outcome(parser: Parser, document: bytes) -> Parsed | list[tuple[str, str]]:
    try:
        return parser.parse(document)
    except DocumentError as error:
        return error.problems


def test_unchanged_entries_are_reused_and_new_ones_validated() -> None:
    parser = new_parser()
    first = parser.parse(body(one=section(1, 2, 3))).state.one
    second = parser.parse(body(one=section(3, 1, 4))).state.one
    assert second.entries == (Entry(id="e3", number=3), Entry(id="e1", number=1), Entry(id="e4", number=4))
    assert second.entries[0] is first.entries[2]
    assert second.entries[1] is first.entries[0]


def test_a_section_that_did_not_change_is_the_same_object() -> None:
    parser = new_parser()
    first = parser.parse(body(one=section(1), two=section(2))).state
    second = parser.parse(body(one=section(1), two=section(3))).state
    assert second.one is first.one
    assert second.two.entries == (Entry(id="e3", number=3),)
    # and its entries are still known when it changes later
    assert parser.parse(body(one=section(1, 5))).state.one.entries[0] is first.one.entries[0]


def test_entries_of_one_list_are_not_known_in_another() -> None:
    parser = new_parser()
    first = parser.parse(body(one={"entries": entries(1)})).state.one
    second = parser.parse(body(one={"more": entries(1)}, two=section(1))).state
    assert second.one.more == second.two.entries == first.entries
    assert second.one.more[0] is not first.entries[0]


@pytest.mark.parametrize(("key", "value"), [("number", True), ("number", 1.0), ("flag", 0), ("flag", 0.0)])
def test_values_that_only_compare_equal_are_not_taken_for_the_same(key: str, value: object) -> None:
    parser = new_parser()
    parser.parse(body(one=section(1)))
    alike = section(1)
    alike["entries"][0][key] = value
    with pytest.raises(DocumentError):
        parser.parse(body(one=alike))


def test_an_error_is_told_at_its_place_in_the_whole_list_and_nothing_is_forgotten() -> None:
    parser = new_parser()
    first = parser.parse(body(one=section(1, 2, 3))).state.one
    bad = section(1, 2, 3, 4)
    bad["entries"][3]["number"] = "x"
    with pytest.raises(DocumentError) as caught:
        parser.parse(body(one=bad))
    assert [field for field, _ in caught.value.problems] == ["one.entries.3.number"]
    assert parser.parse(body(one=section(1, 7))).state.one.entries[0] is first.entries[0]


def test_a_document_of_another_role_is_refused_also_when_the_rest_is_known() -> None:
    parser = new_parser()
    parser.parse(body(one=section(1)))
    with pytest.raises(DocumentError, match="this appliance is a router"):
        parser.parse(body(one=section(1)).replace(b'"router"', b'"ssvm"'))


@pytest.mark.parametrize(
    "document",
    [b"", b"{", b"[]", b"null", b'{"kind": "router"}', b'{"kind": "router", "state": []}', body()[:-1], body() + b"x"],
)
def test_what_is_no_document_is_an_ordinary_error(document: bytes) -> None:
    parser = new_parser()
    parser.parse(body())
    with pytest.raises(DocumentError):
        parser.parse(document)


@pytest.mark.parametrize("text", ['[{"id": "e1"} {"id": "e2"}]', '[{"id": "e1"},]', '[{"id": "\xff"}', "[{]}"])
def test_malformed_lists_are_ordinary_errors(text: str) -> None:
    parser = new_parser()
    parser.parse(body(one=section(1)))
    with pytest.raises(DocumentError):
        parser.parse(body(one=["here"]).replace(b'["here"]', b'{"entries": ' + text.encode("latin-1") + b"}"))


numbers = st.sampled_from([0, 1, True, 1.0, "1", None])
lists = st.lists(st.fixed_dictionaries({"id": st.sampled_from(["a", "b", 1]), "number": numbers}), max_size=5)
sections = st.one_of(
    st.none(),
    st.fixed_dictionaries(
        {}, optional={"entries": lists, "more": lists, "addresses": st.lists(st.sampled_from(["10.0.0.1", "x", 1]))}
    ),
)


@given(st.lists(st.fixed_dictionaries({}, optional={"one": sections, "two": sections}), max_size=6))
def test_what_is_known_never_changes_the_outcome(history: list[dict[str, Any]]) -> None:
    """Any sequence of documents, valid or not: the same result as of a parser that knows nothing."""
    parser = new_parser()
    for state in history:
        got, expected = outcome(parser, body(**state)), outcome(new_parser(), body(**state))
        if isinstance(got, Parsed) and isinstance(expected, Parsed):
            assert got.state == expected.state
            assert got.state.model_dump_json() == expected.state.model_dump_json()
        else:
            assert got == expected
