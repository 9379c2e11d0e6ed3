"""Requests to typed parameters; what is malformed says where and how."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.api.command import Command, Entry, Params, Success, param
from controlplane.api.parameters import MAX_PARAMETERS, parse, read_form
from controlplane.errors import ApiError


class Pair(Entry):
    key: str = param("key")
    value: int | None = param("value", default=None)


class Everything(Params):
    name: str = param("name", length=10)
    zoneid: str | None = param("zone", default=None, entity="Zone")
    flag: bool = param("flag", default=False)
    number: int | None = param("number", default=None, minimum=0, maximum=99)
    names: list[str] = param("names", default=())
    pairs: list[Pair] = param("pairs", default=())
    details: dict[str, str] | None = param("details", default=None)
    since: datetime | None = param("since", default=None)
    kind: str | None = param("kind", default=None, choices=("Red", "Blue"))


COMMAND = Command(
    name="doThings",
    description="",
    handler=lambda call, params: Success(),
    params=Everything,
    response=Success,
    object_name=None,
    response_key="dothingsresponse",
    roles=frozenset(),
    is_async=False,
    creates=False,
    event=None,
    post_only=False,
    anonymous=False,
    reads=False,
)


def _parse(query: str) -> Any:
    return parse(COMMAND, read_form(query.encode()))


def test_every_type() -> None:
    params = _parse(
        "NAME=a+b%20c&flag=TRUE&number=42&names=a,%20b,,c&since=2026-11-22T05:10:51%2B0000&kind=blue&unknown=1"
        "&pairs[1].KEY=second&Pairs%5B0%5D.key=first&pairs[0].value=7&details[0].cpuNumber=4&details[1].key=k&details[1].value=v"
    )
    assert params == Everything.model_construct(
        None,
        name="a b c",
        flag=True,
        number=42,
        names=["a", "b", "c"],
        since=datetime(2026, 11, 22, 5, 10, 51, tzinfo=UTC),
        kind="Blue",
        pairs=[Pair(key="first", value=7), Pair(key="second")],
        details={"cpuNumber": "4", "k": "v"},
    )


def test_defaults() -> None:
    params = _parse("name=x&zoneid=&number=")
    assert (params.zoneid, params.number, params.flag, params.details) == (None, None, False, None)


@pytest.mark.parametrize(
    ("query", "code", "text"),
    [
        ("", 431, "Unable to execute API command dothings due to missing parameter name"),
        ("name=", 431, "missing parameter name"),
        ("name=12345678901", 431, "parameter name: it is longer than 10"),
        ("name=a%00b", 431, "parameter name: it has a control character"),
        ("name=a%7f", 431, "control character"),
        ("name=a&flag=maybe", 431, "parameter flag: it must be true or false"),
        ("name=a&number=-1", 431, "parameter number: it must be from 0 to 99"),
        ("name=a&number=1e3", 431, "must be a whole number"),
        ("name=a&number=" + "9" * 5000, 431, "must be a whole number"),
        ("name=a&number=%D9%A1", 431, "must be a whole number"),
        ("name=a&since=yesterday", 431, "must be a date"),
        ("name=a&since=0001-01-01T00:00:00%2B2300", 431, "must be a date"),
        ("name=a&kind=green", 431, "must be one of Red, Blue"),
        ("name=a&pairs=x", 430, "pairs is a map"),
        ("name=a&pairs[0]=x", 430, "pairs is a map"),
        ("name=a&pairs[x].key=1", 430, "cannot read pairs[x].key"),
        ("name=a&pairs[0.key=1", 430, "cannot read pairs[0.key"),
        ("name=a&pairs[0].value=1", 430, "every entry needs key"),
        ("name=a&pairs[0].key=a&pairs[0].colour=b", 430, "has fields key, value, not colour"),
        ("name=a&pairs[0].key=a&pairs[0].value=b", 431, "value: it must be a whole number"),
        ("name=a&details[0].x%00=1", 430, "unprintable"),
        ("name=a&projectid=7", 431, "projects are not supported"),
        ("name=a&name=b", 400, "more than once"),
        ("name=a&NAME=b", 400, "more than once"),
        ("name=%zz", 400, "not followed by two hexadecimal digits"),
        ("name=%e", 400, "not followed by two hexadecimal digits"),
        ("name=%ff", 400, "not UTF-8"),
        ("%ff=a", 400, "not UTF-8"),
        ("x" * 256 + "=a", 400, "longer than 255"),
        ("&".join(f"p{number}=" for number in range(MAX_PARAMETERS + 1)), 400, "more than 5000"),
        ("name=a&" + "&".join(f"pairs[{number}].key=a" for number in range(1001)), 430, "more than 1000 entries"),
    ],
)
def test_malformed(query: str, code: int, text: str) -> None:
    with pytest.raises(ApiError) as caught:
        _parse(query)
    assert caught.value.code == code
    assert text in caught.value.text


def test_the_same_value_twice_counts_once() -> None:
    assert _parse("name=a&name=a").name == "a"


def test_all_projects_is_what_clients_say_for_none() -> None:
    assert _parse("name=a&projectid=-1").name == "a"


@given(st.binary(max_size=200))
def test_any_bytes_give_parameters_or_a_clear_error(query: bytes) -> None:
    try:
        parse(COMMAND, read_form(query, b"name=a"))
    except ApiError as error:
        assert error.code in (400, 430, 431)
        assert error.text
