"""Answers byte for byte."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from controlplane.api.command import Response, shown
from controlplane.api.encode import date_text, plain, to_json, to_xml


class Inner(Response):
    key: str = shown("key", ...)


class Outer(Response):
    id: str = shown("id", ...)
    camel_case: bool = shown("alias", True, name="camelCase")
    number: int = shown("number", 7)
    absent: str | None = shown("absent")
    tags: list[Inner] = shown("tags", [])
    created: datetime = shown("created", datetime(2026, 11, 22, 5, 10, 51, 999, tzinfo=UTC))


def test_a_response_in_json() -> None:
    body = plain({"outer": Outer(id="a", tags=[Inner(key="<&>")])})
    assert to_json("getouterresponse", body) == (
        b'{"getouterresponse":{"outer":{"id":"a","camelCase":true,"number":7,"tags":[{"key":"<&>"}],'
        b'"created":"2026-11-22T05:10:51+0000"}}}'
    )


def test_a_response_in_xml() -> None:
    body = plain({"count": 1, "outer": [Outer(id="a", tags=[Inner(key="<&>"), Inner(key="é")])]})
    assert to_xml("listoutersresponse", body, "4.20.0.0").decode() == (
        '<?xml version="1.0" encoding="UTF-8"?><listoutersresponse cloud-stack-version="4.20.0.0"><count>1</count>'
        "<outer><id>a</id><camelCase>true</camelCase><number>7</number><tags><key>&lt;&amp;&gt;</key></tags>"
        "<tags><key>é</key></tags><created>2026-11-22T05:10:51+0000</created></outer></listoutersresponse>"
    )


def test_tags_are_a_list_even_when_empty() -> None:
    assert plain(Outer(id="a"))["tags"] == []


def test_dates_are_utc() -> None:
    tokyo = timezone(timedelta(hours=9))
    assert date_text(datetime(2026, 11, 22, 5, 10, tzinfo=tokyo)) == "2026-11-21T20:10:00+0000"


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), _VALUES, max_size=4))
def test_anything_is_well_formed(body: dict[str, object]) -> None:
    assert list(json.loads(to_json("r", plain(body)))) == ["r"]
    assert ElementTree.fromstring(to_xml("r", plain(body), "1")).tag == "r"
